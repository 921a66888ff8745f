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
use hyper::body::{Body as _, Incoming as Body};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::driver::{Called, Driver};
use crate::model::{ApiError, Operation, Outcome, Transport};
use crate::places::{Place, Places};
use crate::sandbox::{Credentials, Limits};
use crate::shelf::Shelf;
use crate::wire::{self, Incoming, Outgoing, signature};
use crate::witness::{Account, Stage, Witness};

/// The largest body that is read, in bytes. It is more than Lambda takes, so that Lambda's own limits can speak.
const MAX_BODY_BYTES: usize = 8 * 1_024 * 1_024;
/// A body that is read for any caller, in bytes; a larger one of an unknown caller needs a place.
const SMALL_BODY_BYTES: u64 = 64 * 1_024;
/// How much of a request is buffered beside its body, in bytes: of all calls, UntagResource has the longest head.
const MAX_HEAD_BYTES: usize = 128 * 1_024;
/// How long open requests may take when the sandbox stops.
const STOP_GRACE: Duration = Duration::from_millis(500);

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
    pub(crate) limits: Limits,
    /// Places for large bodies of unknown callers.
    pub(crate) unproven_bodies: Semaphore,
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

/// Who is at the other end of a connection.
#[derive(Default)]
struct Caller {
    /// Was authenticated once; a sandbox that demands no credentials knows everybody who has sent a request.
    known: AtomicBool,
    proof: Notify,
}

impl Caller {
    fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    fn authenticated(&self) {
        self.known.store(true, Ordering::Relaxed);
        self.proof.notify_one();
    }
}

/// Accepts connections until the sandbox stops.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let places = Places::new(shared.limits.unproven_connections, shared.limits.connections);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Both are cancel-safe.
        tokio::select! {
            biased;
            () = asked(&mut stop) => break,
            (stream, place) = places.accept(&listener) => {
                connections.spawn(connection(stream, place, Arc::clone(&shared)));
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What is still open after the grace is cut when the set is dropped.
    let _ = tokio::time::timeout(STOP_GRACE, ended).await;
}

async fn connection(stream: TcpStream, place: Place, shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let patience = shared.limits.patience;
    let caller = Arc::new(Caller::default());
    let known = Arc::clone(&caller);
    let reset = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&reset);
    let service = service_fn(move |request| {
        let (shared, caller, reset) = (Arc::clone(&shared), Arc::clone(&caller), Arc::clone(&flag));
        let answer: Pin<Box<dyn Future<Output = Result<Answer, Broken>> + Send>> =
            Box::pin(async move { answer(&shared, request, &caller, &reset).await });
        answer
    });
    // Small answers must not wait for an acknowledgement; a connection without the option is only slower.
    let _ = stream.set_nodelay(true);
    let mut builder = hyper::server::conn::http1::Builder::new();
    let mut connection = builder.max_buf_size(MAX_HEAD_BYTES).serve_connection(TokioIo::new(stream), service);
    let result = tokio::select! {
        result = &mut connection => result,
        () = place.keep(&known.proof, patience) => {
            tracing::debug!("a caller was not authenticated and is cut off");
            return;
        }
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

/// Refuses what can be refused before the body is read.
fn refuse_head(shared: &Shared, head: &Incoming<'_>) -> Option<Answer> {
    if head.headers.contains_key(http::header::ORIGIN) {
        return Some(admin::refusal(StatusCode::FORBIDDEN, "web pages have no business here"));
    }
    let wanted = shared.credentials.as_ref()?;
    if head.path.starts_with(admin::PREFIX) {
        let refused = !signature::has_token(head, wanted);
        return refused.then(|| admin::refusal(StatusCode::FORBIDDEN, "the sandbox's secret is missing or wrong"));
    }
    signature::verify_head(head, wanted).err().map(|error| refusal(shared, head, &error))
}

/// In the words of the service that was asked.
fn refusal(shared: &Shared, incoming: &Incoming<'_>, error: &ApiError) -> Answer {
    plain(Outgoing::refusal(incoming.service(), &shared.spare_request_id(), error))
}

/// Reads a body in time. `None`: it is too large.
async fn read(shared: &Shared, body: Body, caller: &Caller) -> Result<Option<Bytes>, Broken> {
    let is_small = body.size_hint().upper().is_some_and(|length| length <= SMALL_BODY_BYTES);
    let reading = async {
        let _place = if is_small || caller.is_known() { None } else { Some(shared.unproven_bodies.acquire().await) };
        match Limited::new(body, MAX_BODY_BYTES).collect().await {
            Ok(body) => Ok(Some(body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Ok(None),
            Err(_) => Err(Broken),
        }
    };
    tokio::time::timeout(shared.limits.patience, reading).await.unwrap_or(Err(Broken))
}

async fn answer(
    shared: &Arc<Shared>,
    request: http::Request<Body>,
    caller: &Caller,
    reset: &AtomicBool,
) -> Result<Answer, Broken> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let mut incoming =
        Incoming { method: &parts.method, path: parts.uri.path(), query, headers: &parts.headers, body: Bytes::new() };
    if let Some(refusal) = refuse_head(shared, &incoming) {
        return Ok(refusal);
    }
    match read(shared, body, caller).await? {
        Some(body) => incoming.body = body,
        // Of a body that was not read, there is nothing to verify.
        None => return Ok(refusal(shared, &incoming, &wire::too_large(MAX_BODY_BYTES))),
    }
    if let Some(operation) = parts.uri.path().strip_prefix(admin::PREFIX) {
        caller.authenticated();
        return Ok(admin::answer(shared, &parts.method, operation, &incoming.body).await);
    }
    if let Some(Err(error)) = shared.credentials.as_ref().map(|wanted| signature::verify(&incoming, wanted)) {
        return Ok(refusal(shared, &incoming, &error));
    }
    caller.authenticated();
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
        Err(error) => Ok(refusal(shared, &incoming, &error)),
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
