//! Connections: reads requests, asks the driver, sends answers or breaks connections as the faults want it.
//!
//! A caller that can send a request can run programs, so neither another user of the machine nor a web page in a local browser
//! may be able to. Every request is authenticated, but for a sandbox inside a test; and browsers give an `Origin` with
//! what a page posts, and no client of AWS does.

mod admin;
mod attend;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming as Body;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::driver::{Called, Driver};
use crate::model::{ApiError, Operation, Outcome, Transport};
use crate::sandbox::Credentials;
use crate::shelf::Shelf;
use crate::wire::{self, Incoming, Outgoing, signature};
use crate::witness::{Account, Stage, Witness};

/// The largest body that is read, in bytes. It is more than Lambda takes, so that Lambda's own limits can speak.
const MAX_BODY_BYTES: usize = 8 * 1_024 * 1_024;
/// Connections at a time, of which each running RequestResponse invocation holds one; more wait in the listener's
/// queue.
const MAX_CONNECTIONS: usize = 4_096;
/// How long open requests may take when the sandbox stops.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// How long the listener rests when it cannot accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) driver: Arc<Driver>,
    pub(crate) shelf: Shelf,
    /// Told to whoever asks who this is.
    pub(crate) identity: String,
    /// Credentials that callers must have; `None`: none are demanded.
    pub(crate) credentials: Option<Credentials>,
    /// Set when the sandbox should end.
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) clock: Clock,
    pub(crate) witness: Option<Witness>,
    /// Calls that reached the model.
    pub(crate) calls: AtomicU64,
    /// When the last request came, or the last attendant left.
    pub(crate) last_request_ms: AtomicI64,
    pub(crate) attendants: AtomicUsize,
    /// Requests that never reached the model.
    pub(crate) unread: AtomicU64,
}

impl Shared {
    pub(crate) fn touch(&self) {
        self.last_request_ms.store(self.clock.now_ms(), Ordering::Relaxed);
    }

    /// An id for a request that the model never sees.
    fn spare_request_id(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.unread.fetch_add(1, Ordering::Relaxed))
    }
}

type Answer = http::Response<BoxBody<Bytes, Infallible>>;

/// The connection has to be broken instead of answering.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken on purpose")]
struct Broken;

/// Accepts connections until the sandbox stops.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let mut connections = JoinSet::new();
    while !*stop.borrow() {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
            continue;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(connection(stream, Arc::clone(&shared))); }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = stop.changed() => {}
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What is still open after the grace is cut when the set is dropped.
    let _ = tokio::time::timeout(STOP_GRACE, ended).await;
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let reset = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&reset);
    let service = service_fn(move |request| {
        let (shared, reset) = (Arc::clone(&shared), Arc::clone(&flag));
        let answer: Pin<Box<dyn Future<Output = Result<Answer, Broken>> + Send>> =
            Box::pin(async move { answer(&shared, request, &reset).await });
        answer
    });
    // Small answers must not wait for an acknowledgement; a connection without the option is only slower.
    let _ = stream.set_nodelay(true);
    let mut connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let result = tokio::select! {
        result = &mut connection => result,
        () = asked(&mut stop) => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
    if reset.load(Ordering::Relaxed) {
        // With this option, closing sends RST instead of FIN.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

async fn asked(stop: &mut watch::Receiver<bool>) {
    // Whoever could ask is gone: that is the end too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn answer(shared: &Arc<Shared>, request: http::Request<Body>, reset: &AtomicBool) -> Result<Answer, Broken> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let (body, too_large) = match body {
        Ok(body) => (body.to_bytes(), false),
        Err(error) if error.is::<LengthLimitError>() => (Bytes::new(), true),
        Err(_) => return Err(Broken),
    };
    if parts.headers.contains_key(http::header::ORIGIN) {
        return Ok(admin::refusal(StatusCode::FORBIDDEN, "web pages have no business here"));
    }
    let query = parts.uri.query().unwrap_or_default();
    let incoming = Incoming { method: &parts.method, path: parts.uri.path(), query, headers: &parts.headers, body };
    if let Some(operation) = parts.uri.path().strip_prefix(admin::PREFIX) {
        if shared.credentials.as_ref().is_some_and(|wanted| !signature::has_token(&incoming, wanted)) {
            return Ok(admin::refusal(StatusCode::FORBIDDEN, "the sandbox's secret is missing or wrong"));
        }
        return Ok(admin::answer(shared, &parts.method, operation, &incoming.body).await);
    }
    let refuse = |error: &ApiError| Ok(plain(Outgoing::refusal(incoming.service(), &shared.spare_request_id(), error)));
    // Of a body that was not read, there is nothing to verify.
    if too_large {
        return refuse(&wire::too_large(MAX_BODY_BYTES));
    }
    if let Some(Err(error)) = shared.credentials.as_ref().map(|wanted| signature::verify(&incoming, wanted)) {
        return refuse(&error);
    }
    shared.touch();
    match incoming.parse() {
        Ok(request) => {
            if matches!(request.operation(), Operation::CreateFunction | Operation::UpdateFunctionCode) {
                shared.shelf.refresh(&shared.driver).await;
            }
            let called = shared.driver.call(&request);
            let account = Account::open(shared, &incoming, &request, &called.reply.request_id);
            process(shared, called, &account, reset).await
        }
        Err(error) => refuse(&error),
    }
}

/// Waits for the answer if need be, and lets happen to it what the model says.
async fn process(shared: &Shared, called: Called, account: &Account<'_>, reset: &AtomicBool) -> Result<Answer, Broken> {
    let Called { reply, answer } = called;
    account.tell(Stage::Processed);
    if reply.transport == Transport::Reset {
        reset.store(true, Ordering::Relaxed);
        return Err(Broken);
    }
    let result = match (reply.outcome, answer) {
        (Outcome::Answer(result), _) => result,
        (Outcome::Later(_), Some(answer)) => {
            account.tell(Stage::Waits);
            answer.await.map_err(|_| Broken)?
        }
        (Outcome::Later(_), None) | (Outcome::Unprocessed, _) => return Err(Broken),
    };
    let mut outgoing = Outgoing::answer(account.call.operation, &reply.request_id, result);
    match reply.transport {
        Transport::Whole => {}
        Transport::Late(ms) => {
            account.tell(Stage::Waits);
            let ms = i64::try_from(ms).unwrap_or(i64::MAX);
            shared.clock.sleep_until(shared.clock.now_ms().saturating_add(ms)).await;
        }
        Transport::Malformed => outgoing.body = Bytes::from_static(b"{\"malformed\": "),
        Transport::Lost | Transport::Reset => return Err(Broken),
    }
    Ok(plain(outgoing))
}

fn plain(outgoing: Outgoing) -> Answer {
    let mut answer = http::Response::new(Full::new(outgoing.body).boxed());
    *answer.status_mut() = outgoing.status;
    *answer.headers_mut() = outgoing.headers;
    answer
}
