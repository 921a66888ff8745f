//! Between HTTP messages and the model's words. Pure.

mod lambda;
mod logs;
pub(crate) mod signature;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::model::{ApiError, Operation, Request, Response, Service};

/// A request of a client, read to its end.
pub(crate) struct Incoming<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Bytes,
}

impl Incoming<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first value of a query parameter, decoded.
    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).into_iter().next()
    }

    /// All values of a query parameter, decoded.
    fn parameters(&self, name: &str) -> Vec<String> {
        let pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(key, _)| decode(key) == name).map(|(_, value)| decode(value)).collect()
    }

    /// Which service is meant: only the JSON protocol names its operation in a header.
    pub(crate) fn service(&self) -> Service {
        if self.headers.contains_key(logs::TARGET) { Service::Logs } else { Service::Lambda }
    }

    /// Finds out what is asked for.
    pub(crate) fn parse(&self) -> Result<Request, ApiError> {
        match self.service() {
            Service::Lambda => lambda::parse(self),
            Service::Logs => logs::parse(self),
        }
    }

    /// The access key id that the request is signed with.
    pub(crate) fn access_key(&self) -> Option<&str> {
        let (_, credential) = self.header("authorization")?.split_once("Credential=")?;
        credential.split_once('/').map(|(key, _)| key)
    }
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What the service answers to a body that is larger than any that it takes.
pub(crate) fn too_large(limit: usize) -> ApiError {
    let message = format!("Request must be smaller than {limit} bytes for the InvokeFunction operation");
    ApiError::new(413, "RequestEntityTooLargeException", message)
}

/// Reads a shape. Serde would take an array for it too; AWS does not.
fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let unreadable = |why: &dyn std::fmt::Display| {
        ApiError::new(400, "SerializationException", format!("The request body cannot be read: {why}"))
    };
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(unreadable(&"it is no object"));
    }
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

fn unknown_operation(status: u16) -> ApiError {
    ApiError::new(status, "UnknownOperationException", "The sandbox does not know this operation.")
}

/// An answer to be sent.
pub(crate) struct Outgoing {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Outgoing {
    fn json(status: StatusCode, body: impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(&body).unwrap_or_default().into();
        Self { status, headers: HeaderMap::new(), body }
    }

    fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    fn set(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
    }

    /// The answer to an operation.
    pub(crate) fn answer(operation: Operation, request_id: &str, result: Result<Response, ApiError>) -> Self {
        let service = operation.service();
        let response = match result {
            Ok(response) => response,
            Err(error) => return Self::refusal(service, request_id, &error),
        };
        let mut outgoing = match service {
            Service::Lambda => lambda::render(operation, response),
            Service::Logs => logs::render(response),
        };
        outgoing.finish(service, request_id);
        outgoing
    }

    /// An error in the service's own wording.
    pub(crate) fn refusal(service: Service, request_id: &str, error: &ApiError) -> Self {
        let mut outgoing = match service {
            Service::Lambda => lambda::refusal(error),
            Service::Logs => logs::refusal(error),
        };
        if let Some(seconds) = error.retry_after_s {
            outgoing.set("retry-after", &seconds.to_string());
        }
        outgoing.finish(service, request_id);
        outgoing
    }

    fn finish(&mut self, service: Service, request_id: &str) {
        self.set("x-amzn-requestid", request_id);
        if !self.headers.contains_key(http::header::CONTENT_TYPE) {
            let json = if service == Service::Lambda { "application/json" } else { logs::CONTENT_TYPE };
            self.set("content-type", json);
        }
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
