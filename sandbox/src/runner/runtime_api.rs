//! The Runtime API of one environment: HTTP on a loopback address, in front of the environment's own task.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::events::Invocation;
use super::peers;

/// The longest answer, in bytes, as on Lambda: 6 MB and room for what wraps it.
const RESPONSE_LIMIT: usize = 6 * 1024 * 1024 + 100 * 1024;
/// How many connections are served at once. A runtime needs one.
const CONNECTION_LIMIT: usize = 64;
const PREFIX: &str = "/2018-06-01/runtime/";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
/// The error type of a runtime that names none.
const UNKNOWN_ERROR: &str = "Runtime.Unknown";

/// What the runtime asks the environment's task.
pub(super) enum Call {
    /// For an invocation, however long it takes.
    Next { reply: oneshot::Sender<Result<Invocation, Refusal>> },
    /// To take the end of an invocation.
    End { request_id: String, result: RuntimeResult, reply: oneshot::Sender<Result<(), Refusal>> },
    /// To take an error before the first invocation.
    InitError { error_type: String, body: Bytes, reply: oneshot::Sender<Result<(), Refusal>> },
}

/// How the runtime says that an invocation ended.
pub(super) enum RuntimeResult {
    Response(Bytes),
    Error {
        error_type: String,
        body: Bytes,
    },
    /// The answer was longer than [`RESPONSE_LIMIT`].
    TooLong,
}

/// Why a call is refused.
pub(super) enum Refusal {
    /// The id is not that of the invocation that is running.
    InvalidRequestId,
    /// The call does not fit in here.
    InvalidState,
}

/// Serves until it is aborted, which closes all connections. `inside`: only this process and those below it are served.
pub(super) async fn serve(listener: TcpListener, inside: Option<Pid>, calls: mpsc::Sender<Call>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTION_LIMIT {
            connections.join_next().await;
        }
        // A failed accept concerns one connection; its client sees it.
        let Ok((stream, client)) = listener.accept().await else { continue };
        let calls = calls.clone();
        connections.spawn(async move {
            if let (Some(inside), Ok(own)) = (inside, stream.local_addr())
                && !peers::is_inside(inside, client, own).await
            {
                tracing::warn!(%client, "a process outside the environment called its Runtime API and was refused");
                return;
            }
            let service = service_fn(move |request| answer(request, calls.clone()));
            // A connection that breaks is the runtime's end, which is seen elsewhere.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, calls: mpsc::Sender<Call>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    Ok(match (request.method(), parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(&calls).await,
        (&Method::POST, ["invocation", request_id, "response"]) => {
            let result = match body_of(request).await {
                Some(body) => RuntimeResult::Response(body),
                None => RuntimeResult::TooLong,
            };
            end(&calls, request_id, result).await
        }
        (&Method::POST, ["invocation", request_id, "error"]) => {
            let error_type = error_type_of(&request);
            let body = body_of(request).await.unwrap_or_default();
            end(&calls, request_id, RuntimeResult::Error { error_type, body }).await
        }
        (&Method::POST, ["init", "error"]) => {
            let error_type = error_type_of(&request);
            let body = body_of(request).await.unwrap_or_default();
            accepted(ask(&calls, |reply| Call::InitError { error_type, body, reply }).await)
        }
        _ => error(StatusCode::NOT_FOUND, "NotFound", "There is no such call."),
    })
}

async fn next(calls: &mpsc::Sender<Call>) -> Response<Full<Bytes>> {
    match ask(calls, |reply| Call::Next { reply }).await {
        Ok(invocation) => work(invocation),
        Err(refusal) => refused(&refusal),
    }
}

async fn end(calls: &mpsc::Sender<Call>, request_id: &str, result: RuntimeResult) -> Response<Full<Bytes>> {
    let too_long = matches!(result, RuntimeResult::TooLong);
    let request_id = request_id.to_owned();
    let taken = ask(calls, |reply| Call::End { request_id, result, reply }).await;
    if taken.is_ok() && too_long {
        let message = format!("The response is longer than {RESPONSE_LIMIT} bytes.");
        return error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message);
    }
    accepted(taken)
}

/// An environment that is ending refuses everything.
async fn ask<T>(
    calls: &mpsc::Sender<Call>,
    call: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Call,
) -> Result<T, Refusal> {
    let (reply, answer) = oneshot::channel();
    calls.send(call(reply)).await.map_err(|_| Refusal::InvalidState)?;
    answer.await.unwrap_or(Err(Refusal::InvalidState))
}

/// `None`: it is too long, or broke off.
async fn body_of(request: Request<Incoming>) -> Option<Bytes> {
    Limited::new(request.into_body(), RESPONSE_LIMIT).collect().await.ok().map(|body| body.to_bytes())
}

fn error_type_of(request: &Request<Incoming>) -> String {
    let named = request.headers().get(ERROR_TYPE).and_then(|value| value.to_str().ok());
    named.filter(|name| !name.is_empty()).unwrap_or(UNKNOWN_ERROR).to_owned()
}

fn work(invocation: Invocation) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(invocation.payload));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let named = [
        ("lambda-runtime-aws-request-id", Some(invocation.request_id)),
        ("lambda-runtime-deadline-ms", Some(invocation.deadline_ms.to_string())),
        ("lambda-runtime-invoked-function-arn", Some(invocation.function_arn)),
        ("lambda-runtime-trace-id", Some(invocation.trace_id)),
        ("lambda-runtime-client-context", invocation.client_context),
    ];
    for (name, value) in named {
        // What a header cannot carry, the caller could not have sent in one.
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    response
}

fn accepted(result: Result<(), Refusal>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => json(StatusCode::ACCEPTED, &serde_json::json!({ "status": "OK" })),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    match refusal {
        Refusal::InvalidRequestId => {
            error(StatusCode::BAD_REQUEST, "InvalidRequestID", "This invocation is not running.")
        }
        Refusal::InvalidState => {
            error(StatusCode::FORBIDDEN, "InvalidStateTransition", "The environment is not in a state for this.")
        }
    }
}

fn error(status: StatusCode, error_type: &str, message: &str) -> Response<Full<Bytes>> {
    json(status, &serde_json::json!({ "errorMessage": message, "errorType": error_type }))
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
