//! From a request to its answer: version, route, handler, log line, metrics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use hyper::body::{Body as _, Incoming};
use percent_encoding::percent_decode_str;
use tracing::{Instrument as _, Span};

use super::call::{Answer, Call, Dialect, Room, drain};
use super::error::ApiError;
use super::limits;
use super::origin::{self, Entrance};
use super::query::Query;
use super::reply::{Body, Reply};
use super::routes::{Action, BodyUse, Route, Routes, Spelling};
use crate::clock::Stopwatch;
use crate::config::DockerApi;
use crate::{telemetry, traces};

/// What the log and the metrics call a request that no route knows.
const NO_ROUTE: &str = "none";

/// Answers a request, and says so in the log and the metrics.
pub(super) async fn answer(room: Arc<Room>, routes: &Routes, entrance: Entrance, request: Request<Incoming>) -> Reply {
    let stopwatch = Stopwatch::start();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let client_request_id = client_request_id(request.headers());
    let (route, answered) = dispatch(room, routes, entrance, request).await;
    let mut reply = answered.unwrap_or_else(|error| {
        if error.status().is_server_error() && !matches!(error, ApiError::Unsupported(_) | ApiError::NotASwarmManager) {
            tracing::error!(%method, path, %error, "a request failed");
        }
        error.reply()
    });
    add_headers(reply.headers_mut());
    if method == Method::HEAD {
        leave_out_the_body(&mut reply);
    }
    let template = route.map_or(NO_ROUTE, |route| route.template);
    let status = reply.status().as_u16();
    let elapsed = stopwatch.elapsed();
    metrics::counter!(telemetry::HTTP_REQUESTS, "method" => verb(&method), "route" => template, "status" => status.to_string())
        .increment(1);
    metrics::histogram!(telemetry::HTTP_SECONDS, "route" => template).record(elapsed.as_secs_f64());
    let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    if route.is_some_and(|route| route.quiet) {
        tracing::debug!(%method, path, route = template, status, duration_ms, client_request_id, "request");
    } else {
        tracing::info!(%method, path, route = template, status, duration_ms, client_request_id, "request");
    }
    reply
}

async fn dispatch(
    room: Arc<Room>,
    routes: &Routes,
    entrance: Entrance,
    mut request: Request<Incoming>,
) -> (Option<&'static Route>, Result<Reply, ApiError>) {
    if let Err(error) = check_head(&room, entrance, &request) {
        drain(request.into_body()).await;
        return (None, Err(error));
    }
    let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let found = Target::parse(parts.uri.path()).and_then(|target| {
        let found = routes.find(&parts.method, target.spelling, target.path);
        found.map(|(route, params)| (target, route, params)).ok_or(ApiError::NoSuchPage)
    });
    let (target, route, params) = match found {
        Ok(found) => found,
        Err(error) => {
            drain(body).await;
            return (None, Err(error));
        }
    };
    let strict = room.api.config.docker_api == DockerApi::Strict;
    let dialect = match target.spelling {
        Spelling::Internal => Dialect::Internal,
        Spelling::Docker if strict => Dialect::Internal,
        Spelling::Docker => Dialect::Docker,
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut call = Call {
        room,
        dialect,
        api_minor: target.api_minor.unwrap_or(limits::NEWEST_API_MINOR),
        params: params.into_iter().map(|(name, value)| (name, decoded(&value))).collect(),
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        body: Some(body),
        received: Bytes::new(),
        large_body: None,
        upgrade,
    };
    let answer = async {
        match route.action {
            Action::Handle(handler) => {
                match route.body {
                    BodyUse::Json => call.receive(&parts.headers).await?,
                    BodyUse::Dropped => call.discard(&parts.headers).await?,
                    BodyUse::Raw => {}
                }
                caught(handler(call)).await
            }
            Action::Refuse(refusal) => {
                call.drain().await;
                Err(if call.is_internal() { refusal.internally() } else { refusal }.error())
            }
        }
    };
    let answered = if route.quiet {
        answer.await
    } else {
        let span = traces::request_span(verb(&parts.method), route.template, &parts.headers);
        traced(span, answer).await
    };
    (Some(route), answered)
}

/// What is refused before the path is looked at.
fn check_head(room: &Room, entrance: Entrance, request: &Request<Incoming>) -> Result<(), ApiError> {
    if head_bytes(request) > limits::MAX_HEADER_BYTES {
        return Err(ApiError::HeadTooLarge(limits::MAX_HEADER_BYTES));
    }
    origin::check(request, entrance, &room.api.config.allowed_hosts)
}

/// The span ends with the answer's header, as the daemon's metrics do.
async fn traced(span: Span, answer: impl Future<Output = Result<Reply, ApiError>>) -> Result<Reply, ApiError> {
    let answered = answer.instrument(span.clone()).await;
    let status = answered.as_ref().map_or_else(ApiError::status, |reply| reply.status());
    traces::request_answered(&span, status.as_u16());
    answered
}

/// A panic becomes an answer: it must not take the connection with it, on which other requests may wait.
async fn caught(mut answer: Answer) -> Result<Reply, ApiError> {
    std::future::poll_fn(|cx| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
        polled.unwrap_or(Poll::Ready(Err(ApiError::Internal("a handler panicked; the daemon's log tells where"))))
    })
    .await
}

/// The headers of every answer, as Docker's.
fn add_headers(headers: &mut HeaderMap) {
    headers.insert("api-version", HeaderValue::from_static("1.51"));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(
        header::SERVER,
        HeaderValue::from_static(concat!("Sockerless/", env!("CARGO_PKG_VERSION"), " (lambda)")),
    );
}

/// The bytes of a request's line and headers. The connection's own limit holds only while the head is incomplete: one that
/// comes in large pieces passes it.
fn head_bytes<B>(request: &Request<B>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let line = request.method().as_str().len() + target + "  HTTP/1.1\r\n".len();
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    headers.fold(line + "\r\n".len(), usize::saturating_add)
}

/// What a HEAD request is answered: the length that the body would have, unless the handler has said another.
fn leave_out_the_body(reply: &mut Reply) {
    let body = std::mem::replace(reply.body_mut(), Body::Whole(None));
    if let (Some(length), false) = (body.size_hint().exact(), reply.headers().contains_key(header::CONTENT_LENGTH)) {
        reply.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// A client's own name for its request: only what is safe in a log line.
fn client_request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("x-request-id").or_else(|| headers.get("x-client-request-id"))?.to_str().ok()?;
    Some(text.chars().take(limits::MAX_CLIENT_REQUEST_ID).collect())
}

/// The method for the metrics: a client must not invent labels.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// A path without its spelling and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target<'a> {
    spelling: Spelling,
    api_minor: Option<u16>,
    path: &'a str,
}

impl<'a> Target<'a> {
    fn parse(path: &'a str) -> Result<Self, ApiError> {
        if let Some(rest) = path.strip_prefix("/internal/v1").filter(|rest| rest.starts_with('/')) {
            return Ok(Self { spelling: Spelling::Internal, api_minor: None, path: rest });
        }
        let Some((version, rest)) = split_version(path) else {
            return Ok(Self { spelling: Spelling::Docker, api_minor: None, path });
        };
        let (newest, oldest) = (limits::NEWEST_API_MINOR, limits::OLDEST_API_MINOR);
        match version {
            (1, minor) if (oldest..=newest).contains(&minor) => {
                Ok(Self { spelling: Spelling::Docker, api_minor: Some(minor), path: rest })
            }
            (major, minor) if (major, minor) > (1, newest) => Err(ApiError::BadRequest(format!(
                "client version {major}.{minor} is too new. Maximum supported API version is 1.{newest}"
            ))),
            (major, minor) => Err(ApiError::BadRequest(format!(
                "client version {major}.{minor} is too old. Minimum supported API version is 1.{oldest}, please \
                 upgrade your client to a newer version"
            ))),
        }
    }
}

/// `/v1.51/rest` → `(1, 51)` and `/rest`.
fn split_version(path: &str) -> Option<((u16, u16), &str)> {
    let versioned = path.strip_prefix("/v")?;
    let (version, _) = versioned.split_once('/')?;
    let (major, minor) = version.split_once('.')?;
    let rest = versioned.get(version.len()..)?;
    Some(((major.parse().ok()?, minor.parse().ok()?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (path, spelling, api_minor, rest) in [
            ("/info", Spelling::Docker, None, "/info"),
            ("/v1.24/info", Spelling::Docker, Some(24), "/info"),
            ("/v1.51/containers/x/json", Spelling::Docker, Some(51), "/containers/x/json"),
            ("/internal/v1/info", Spelling::Internal, None, "/info"),
            ("/internal/v10/info", Spelling::Docker, None, "/internal/v10/info"),
            ("/version", Spelling::Docker, None, "/version"),
            ("/volumes", Spelling::Docker, None, "/volumes"),
        ] {
            assert_eq!(Target::parse(path).unwrap(), Target { spelling, api_minor, path: rest }, "{path}");
        }
    }

    #[test]
    fn versions_outside_are_refused_in_dockers_words() {
        assert_eq!(
            Target::parse("/v9.99/info").unwrap_err().to_string(),
            "client version 9.99 is too new. Maximum supported API version is 1.51"
        );
        assert_eq!(
            Target::parse("/v1.12/info").unwrap_err().to_string(),
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a \
             newer version"
        );
        assert!(Target::parse("/v1.52/info").is_err() && Target::parse("/v0.99/info").is_err());
    }

    #[tokio::test]
    async fn a_panic_becomes_an_answer() {
        let answered = caught(Box::pin(async { panic!("oops") })).await;
        assert_eq!(answered.unwrap_err().status(), 500);
    }
}
