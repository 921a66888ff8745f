//! The Lambda Runtime API, from the side of a runtime.
//!
//! ureq without its default features is a blocking HTTP/1.1 client with keep-alive, and little else: that is all
//! this API needs, and framing and limits are better kept by a library than written again.

use serde::Serialize;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

/// The longest payload that is read, in bytes. Lambda itself allows 6 MB.
const PAYLOAD_LIMIT: u64 = 16 * 1024 * 1024;

/// Why the Runtime API cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    Transport(#[from] Box<ureq::Error>),
    #[error("{call} was answered with status {status}")]
    Status { call: &'static str, status: u16 },
    #[error("an invocation came without the header {REQUEST_ID}")]
    NoRequestId,
}

const REQUEST_ID: &str = "Lambda-Runtime-Aws-Request-Id";
const DEADLINE: &str = "Lambda-Runtime-Deadline-Ms";
const TRACE_ID: &str = "Lambda-Runtime-Trace-Id";
const ERROR_TYPE: &str = "Lambda-Runtime-Function-Error-Type";

/// One request to run something.
pub(crate) struct Invocation {
    pub(crate) request_id: String,
    /// Milliseconds since 1970; then Lambda kills everything.
    pub(crate) deadline_ms: Option<i64>,
    pub(crate) trace_id: Option<String>,
    pub(crate) payload: Vec<u8>,
}

/// An error as Lambda shows it to the caller.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    error_type: &'a str,
    error_message: &'a str,
    stack_trace: [&'a str; 0],
}

/// A client of the API at one address.
pub(crate) struct RuntimeApi {
    agent: Agent,
    base: String,
}

impl RuntimeApi {
    /// For `host:port`, or that and the first part of all paths there. There is no time limit, as `next` waits for work without one, and no proxy: the
    /// function's own variables may name one, but the API is on this machine.
    pub(crate) fn new(address: &str) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).proxy(None).build();
        Self { agent: config.into(), base: format!("http://{address}/2018-06-01/runtime") }
    }

    /// Waits for work.
    pub(crate) fn next(&self) -> Result<Invocation, ApiError> {
        let url = format!("{}/invocation/next", self.base);
        let mut response = expect_success("invocation/next", self.agent.get(url).call())?;
        let headers = response.headers();
        Ok(Invocation {
            request_id: text(headers, REQUEST_ID).ok_or(ApiError::NoRequestId)?,
            deadline_ms: text(headers, DEADLINE).and_then(|ms| ms.parse().ok()),
            trace_id: text(headers, TRACE_ID),
            payload: response.body_mut().with_config().limit(PAYLOAD_LIMIT).read_to_vec().map_err(Box::new)?,
        })
    }

    /// Answers an invocation.
    pub(crate) fn respond(&self, request_id: &str, body: &[u8]) -> Result<(), ApiError> {
        let url = format!("{}/invocation/{request_id}/response", self.base);
        let request = self.agent.post(url).content_type("application/json");
        finish(expect_success("invocation/response", request.send(body))?)
    }

    /// Answers an invocation with a function error.
    pub(crate) fn fail(&self, request_id: &str, error_type: &str, message: &str) -> Result<(), ApiError> {
        self.post_error(&format!("invocation/{request_id}/error"), "invocation/error", error_type, message)
    }

    /// Says that this environment can serve no invocation.
    pub(crate) fn fail_init(&self, error_type: &str, message: &str) -> Result<(), ApiError> {
        self.post_error("init/error", "init/error", error_type, message)
    }

    fn post_error(&self, path: &str, call: &'static str, error_type: &str, message: &str) -> Result<(), ApiError> {
        let body = ErrorBody { error_type, error_message: message, stack_trace: [] };
        // A structure of strings always has a JSON form.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let request = self.agent.post(format!("{}/{path}", self.base)).header(ERROR_TYPE, error_type);
        finish(expect_success(call, request.content_type("application/json").send(&body[..]))?)
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Reads the body of an answer that nobody needs, so that the connection can be used again.
fn finish(mut response: Response<Body>) -> Result<(), ApiError> {
    response.body_mut().with_config().limit(PAYLOAD_LIMIT).read_to_vec().map_err(Box::new)?;
    Ok(())
}

fn expect_success(call: &'static str, result: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, ApiError> {
    let response = result.map_err(Box::new)?;
    let status = response.status();
    if status.is_success() { Ok(response) } else { Err(ApiError::Status { call, status: status.as_u16() }) }
}
