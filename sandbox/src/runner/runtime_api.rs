//! The Runtime API of one environment: HTTP on a loopback address, in front of the environment's own task.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

use super::events::Invocation;
use super::peers::{self, Callers};
use crate::places::{Place, Places};

/// The longest answer, in bytes, as on Lambda: 6 MB and room for what wraps it.
const RESPONSE_LIMIT: usize = 6 * 1024 * 1024 + 100 * 1024;
/// How many connections are served at once. A runtime needs one.
const CONNECTION_LIMIT: usize = 64;
/// How many more may be there whose callers have proved nothing yet; the oldest one makes room for the next.
const UNPROVEN_LIMIT: usize = 64;
/// How long a caller may take to send a path with the secret: far more than a bootstrap on a busy machine needs.
const PROOF_LIMIT: Duration = Duration::from_secs(10);
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

/// Serves until it is aborted, which closes all connections.
pub(super) async fn serve(listener: TcpListener, callers: Callers, calls: mpsc::Sender<Call>) {
    let (callers, places) = (Arc::new(callers), Places::new(UNPROVEN_LIMIT, CONNECTION_LIMIT));
    let mut connections = JoinSet::new();
    loop {
        let (stream, place) = places.accept(&listener).await;
        connections.spawn(attend(stream, place, Arc::clone(&callers), calls.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection.
async fn attend(stream: TcpStream, place: Place, callers: Arc<Callers>, calls: mpsc::Sender<Call>) {
    let (Ok(client), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let proof = Arc::new(Notify::new());
    match &*callers {
        Callers::Anyone => proof.notify_one(),
        Callers::Inside(root) if peers::is_inside(*root, client, own).await => proof.notify_one(),
        Callers::Inside(_) => {
            tracing::warn!(%client, "a process outside the environment called its Runtime API and was refused");
            return;
        }
        Callers::Knowing(_) => {}
    }
    let proved = Arc::clone(&proof);
    let service = service_fn(move |request| admit(request, Arc::clone(&callers), Arc::clone(&proved), calls.clone()));
    tokio::select! {
        // A connection that breaks is the runtime's end, which is seen elsewhere.
        _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
        () = place.keep(&proof, PROOF_LIMIT) => {
            tracing::warn!(%client, "a caller of a Runtime API proved nothing and was cut off");
        }
    }
}

/// Answers a request if its path has the secret that the callers must know.
async fn admit(
    request: Request<Incoming>,
    callers: Arc<Callers>,
    proof: Arc<Notify>,
    calls: mpsc::Sender<Call>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = match &*callers {
        Callers::Knowing(secret) => secret.strip(request.uri().path()),
        Callers::Anyone | Callers::Inside(_) => Some(request.uri().path()),
    };
    let Some(path) = path.map(str::to_owned) else {
        let mut response = error(StatusCode::FORBIDDEN, "Forbidden", "This is another environment's Runtime API.");
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return Ok(response);
    };
    proof.notify_one();
    Ok(answer(request, &path, calls).await)
}

async fn answer(request: Request<Incoming>, path: &str, calls: mpsc::Sender<Call>) -> Response<Full<Bytes>> {
    let parts: Vec<&str> = path.strip_prefix(PREFIX).unwrap_or_default().split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(&calls).await,
        (&Method::POST, ["invocation", request_id, "response"]) => {
            let result = match body_of(request).await {
                Ok(body) => RuntimeResult::Response(body),
                Err(NoBody::TooLong) => RuntimeResult::TooLong,
                Err(NoBody::BrokeOff) => return broke_off(),
            };
            end(&calls, request_id, result).await
        }
        (&Method::POST, ["invocation", request_id, "error"]) => {
            let error_type = error_type_of(&request);
            let body = match body_of(request).await {
                Err(NoBody::BrokeOff) => return broke_off(),
                body => body.unwrap_or_default(),
            };
            end(&calls, request_id, RuntimeResult::Error { error_type, body }).await
        }
        (&Method::POST, ["init", "error"]) => {
            let error_type = error_type_of(&request);
            let body = match body_of(request).await {
                Err(NoBody::BrokeOff) => return broke_off(),
                body => body.unwrap_or_default(),
            };
            accepted(ask(&calls, |reply| Call::InitError { error_type, body, reply }).await)
        }
        _ => error(StatusCode::NOT_FOUND, "NotFound", "There is no such call."),
    }
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

/// Why there is no body.
enum NoBody {
    TooLong,
    BrokeOff,
}

async fn body_of(request: Request<Incoming>) -> Result<Bytes, NoBody> {
    match Limited::new(request.into_body(), RESPONSE_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(NoBody::TooLong),
        Err(_) => Err(NoBody::BrokeOff),
    }
}

/// Half a message ends nothing. Its sender has most likely hung up.
fn broke_off() -> Response<Full<Bytes>> {
    error(StatusCode::BAD_REQUEST, "BadRequest", "The body has broken off.")
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::runner::peers::Secret;

    /// Sends a call that is unknown, and gives the status.
    async fn call(address: &str, prefix: &str) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {prefix}{PREFIX}x HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        (stream, String::from_utf8(status.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn callers_that_prove_nothing_take_no_place_of_the_runtimes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (own, secret) = (listener.local_addr().unwrap(), Secret::random().unwrap());
        let (address, path) = (own.to_string(), secret.address(own));
        let prefix = path.strip_prefix(&address).unwrap();
        let (calls, _receiver) = mpsc::channel(1);
        let server = tokio::spawn(serve(listener, Callers::Knowing(secret), calls));
        let mut open = Vec::new();
        for _ in 1..UNPROVEN_LIMIT {
            open.push(TcpStream::connect(own).await.unwrap());
        }
        // All come through the one place that is left, and stay open.
        for _ in 0..3 {
            let (stream, status) = call(&address, prefix).await;
            assert_eq!(status, "HTTP/1.1 404");
            open.push(stream);
        }
        let (mut refused, status) = call(&address, "").await;
        assert_eq!(status, "HTTP/1.1 403");
        let mut rest = Vec::new();
        refused.read_to_end(&mut rest).await.unwrap();
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.contains("another environment's"), "{rest}");
        server.abort();
    }
}
