//! One request, as a handler sees it.

use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::upgrade::OnUpgrade;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::ApiContext;
use super::bodies::{Arrival, GivenUp, LargeBodies};
use super::error::ApiError;
use super::open_streams::OpenStreams;
use super::patient::WritePatience;
use super::query::Query;
use super::reply::Reply;
use super::{json, limits};
use crate::state::model::text::bounded;

/// The type of every body that is read.
const JSON: &str = "application/json";

/// What a handler returns.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Reply, ApiError>> + Send>>;

/// What all requests share.
pub(super) struct Room {
    /// What the daemon gave us.
    pub(super) api: ApiContext,
    /// The daemon is being stopped: answers that wait must end.
    pub(super) stop: CancellationToken,
    /// Who listens to which container's output.
    pub(super) streams: OpenStreams,
    /// Large bodies: what is held of them, and of the JSON in them, at once.
    pub(super) large_bodies: LargeBodies,
    /// Places for connections that are taken over.
    pub(super) taken_over: Arc<Semaphore>,
    /// How long a write on such a connection waits.
    pub(super) taken_over_patience: WritePatience,
    /// Turns of those that wait for news to read the store.
    turns: Semaphore,
}

impl Room {
    /// A room in which nothing goes on yet. So many connections can be taken over at once.
    pub(super) fn new(api: ApiContext, stop: CancellationToken, taken_over: usize) -> Self {
        let large_bodies = LargeBodies::default();
        let places = Arc::new(Semaphore::new(taken_over));
        let taken_over_patience = WritePatience::new(limits::WRITE_TIMEOUT, places.clone(), taken_over);
        let turns = Semaphore::new(limits::STREAM_READERS);
        let streams = OpenStreams::default();
        Self { api, stop, streams, large_bodies, taken_over: places, taken_over_patience, turns }
    }

    /// The turn to read the store for one that waits for news, to be given back at once. One commit can wake thousands:
    /// they read one after another, however long that takes, and leave readers to requests.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }
}

/// Whose promises an answer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The internal API's, to the letter; also the Docker spelling's with `docker_api: strict`.
    Internal,
    /// Docker's, as its clients need them.
    Docker,
}

/// One request.
pub(super) struct Call {
    /// What all requests share.
    pub(super) room: Arc<Room>,
    /// Whose promises the answer keeps.
    pub(super) dialect: Dialect,
    /// The minor number of the Docker API version.
    pub(super) api_minor: u16,
    /// The parts of the path that the route names, decoded.
    pub(super) params: Vec<(String, String)>,
    /// What stands after the question mark.
    pub(super) query: Query,
    /// The body, until it is read.
    pub(super) body: Option<Incoming>,
    /// The body that was read before the handler was asked: JSON by its type.
    pub(super) received: Bytes,
    /// The place of a large body, until its handler has answered: the values in it take a multiple of its bytes.
    pub(super) large_body: Option<OwnedSemaphorePermit>,
    /// The connection behind the request, until it is taken over.
    pub(super) upgrade: Option<OnUpgrade>,
}

impl Call {
    /// What the daemon gave us.
    pub(super) fn api(&self) -> &ApiContext {
        &self.room.api
    }

    /// A part of the path.
    pub(super) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether the answer must be exactly the internal API's.
    pub(super) fn is_internal(&self) -> bool {
        self.dialect == Dialect::Internal
    }

    /// The body that was sent, if its announced length and type are right.
    async fn checked_body(&mut self, headers: &HeaderMap) -> Result<Option<Incoming>, ApiError> {
        let announced = self.body.as_ref().map_or(0, |body| body.size_hint().lower());
        if announced > 0
            && let Err(error) = check_is_json(headers)
        {
            self.drain().await;
            return Err(error);
        }
        if announced > limits::MAX_BODY_BYTES as u64 {
            self.drain().await;
            return Err(ApiError::BodyTooLarge(limits::MAX_BODY_BYTES));
        }
        Ok(self.body.take())
    }

    /// Reads the body. One that is not empty must be of the type `application/json`, also where no body is needed: a page of
    /// another site cannot send that type unasked.
    pub(super) async fn receive(&mut self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(mut body) = self.checked_body(headers).await? else { return Ok(()) };
        let mut large = None;
        let read = in_time(read_body(&mut body, &self.room.large_bodies, &mut large)).await;
        drain_the_rest(body, &read).await;
        self.large_body = large;
        self.received = read?;
        if self.received.is_empty() { Ok(()) } else { check_is_json(headers) }
    }

    /// As [`Call::receive`], for a handler that needs no body: nothing of it is held, and no place.
    pub(super) async fn discard(&mut self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(mut body) = self.checked_body(headers).await? else { return Ok(()) };
        let skipped = in_time(skip_body(&mut body)).await;
        drain_the_rest(body, &skipped).await;
        if skipped? == 0 { Ok(()) } else { check_is_json(headers) }
    }

    /// The received body as JSON; `None`: it is empty.
    pub(super) fn json(&mut self) -> Result<Option<Value>, ApiError> {
        let bytes = std::mem::take(&mut self.received);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        json::parse(&bytes).map(Some).map_err(|error| ApiError::BadRequest(format!("invalid JSON: {error}")))
    }

    /// Reads and drops a body that is not needed, as [`drain`] does.
    pub(super) async fn drain(&mut self) {
        if let Some(body) = self.body.take() {
            drain(body).await;
        }
    }
}

/// Drains what is left of a body that has turned out to be too large.
async fn drain_the_rest<T>(body: Incoming, read: &Result<T, ApiError>) {
    if matches!(read, Err(ApiError::BodyTooLarge(_))) {
        drain(body).await;
    }
}

/// Reads and drops a body as far as it is small and quick: a client that is still sending when the connection closes would
/// not see the answer. What has come is dropped at once: anybody may send this much, on any number of connections.
pub(super) async fn drain(body: impl Body<Error: Into<Box<dyn Error + Send + Sync>>>) {
    if !body.is_end_stream() {
        let mut rest = pin!(Limited::new(body, limits::MAX_DRAINED_BYTES));
        let all = async {
            while let Some(Ok(frame)) = rest.frame().await {
                drop(frame);
            }
        };
        let _ = tokio::time::timeout(limits::BODY_DRAIN_TIMEOUT, all).await;
    }
}

/// Whether the headers say that the body is JSON. The refusals are moby's words.
fn check_is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (values.next(), values.next());
    let given = first.map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    let shown = bounded(&given, limits::MAX_SHOWN_HEADER_BYTES);
    if first.is_none() || second.is_some() {
        let reason = if second.is_some() { "given twice" } else { "no media type" };
        return Err(ApiError::BadRequest(format!("malformed Content-Type header ({shown}): mime: {reason}")));
    }
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case(JSON) {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!("unsupported Content-Type header ({shown}): must be '{JSON}'")))
}

/// Within the time that a body may take.
async fn in_time<T>(reading: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let read = tokio::time::timeout(limits::BODY_READ_TIMEOUT, reading).await;
    read.unwrap_or(Err(ApiError::BodyTooSlow(limits::BODY_READ_TIMEOUT.as_secs())))
}

fn broken_off(error: impl std::fmt::Display) -> ApiError {
    ApiError::BadRequest(format!("the request's body broke off: {error}"))
}

/// Reads and drops a body of limited size; returns its length.
async fn skip_body<B>(mut body: B) -> Result<usize, ApiError>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken_off)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > limits::MAX_BODY_BYTES {
            return Err(ApiError::BodyTooLarge(limits::MAX_BODY_BYTES));
        }
    }
    Ok(length)
}

/// Reads a body of limited size. A small one is read at once; a large one shares memory with `others`, and needs a place once
/// it is complete.
async fn read_body<B>(
    mut body: B,
    others: &LargeBodies,
    place: &mut Option<OwnedSemaphorePermit>,
) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let mut read = BytesMut::new();
    let mut arriving: Option<Arrival> = None;
    while let Some(frame) = next_frame(&mut body, arriving.as_ref()).await? {
        let Ok(data) = frame.map_err(broken_off)?.into_data() else { continue };
        if read.len() + data.len() > limits::MAX_BODY_BYTES {
            return Err(ApiError::BodyTooLarge(limits::MAX_BODY_BYTES));
        }
        let length = read.len() + data.len();
        if length > limits::SMALL_BODY_BYTES {
            let arrival = arriving.get_or_insert_with(|| others.arrive());
            arrival.hold(length).await.map_err(|GivenUp| ApiError::BodyStalled)?;
        }
        read.extend_from_slice(&data);
    }
    if let Some(arrival) = arriving {
        *place = arrival.complete().await;
    }
    Ok(read.freeze())
}

/// The next part of a body, unless it is given up before.
async fn next_frame<B>(
    body: &mut B,
    arriving: Option<&Arrival>,
) -> Result<Option<Result<Frame<Bytes>, B::Error>>, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let Some(arriving) = arriving else { return Ok(body.frame().await) };
    // Both are cancel-safe.
    tokio::select! {
        frame = body.frame() => Ok(frame),
        () = arriving.given_up() => Err(ApiError::BodyStalled),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;
    use http_body_util::{Full, StreamBody};

    fn body(bytes: usize) -> Full<Bytes> {
        Full::new(Bytes::from(vec![b' '; bytes]))
    }

    #[test]
    fn a_body_is_json_by_its_type() {
        let judged = |types: &[&str]| {
            let mut headers = HeaderMap::new();
            for text in types {
                headers.append(header::CONTENT_TYPE, text.parse().unwrap());
            }
            check_is_json(&headers).map_err(|error| error.to_string())
        };
        for text in ["application/json", "application/json; charset=utf-8", "Application/JSON ;x"] {
            assert_eq!(judged(&[text]), Ok(()), "{text}");
        }
        let unsupported = |text| Err(format!("unsupported Content-Type header ({text}): must be 'application/json'"));
        for text in ["text/plain", "text/json", "application/jsonp", "text/plain; application/json", ""] {
            assert_eq!(judged(&[text]), unsupported(text), "{text}");
        }
        let malformed = "malformed Content-Type header (): mime: no media type".to_owned();
        assert_eq!(judged(&[]), Err(malformed));
        assert!(judged(&["application/json", "text/plain"]).is_err());
    }

    #[tokio::test]
    async fn only_so_many_large_bodies_are_looked_at_at_once() {
        let (all, mut places, mut place) = (LargeBodies::default(), Vec::new(), None);
        let large = limits::SMALL_BODY_BYTES + 1;
        for _ in 0..limits::MAX_LARGE_BODIES {
            let mut place = None;
            assert_eq!(read_body(body(large), &all, &mut place).await.unwrap().len(), large);
            places.push(place.unwrap());
        }
        assert_eq!(read_body(body(large - 1), &all, &mut place).await.unwrap().len(), large - 1);
        assert!(place.is_none(), "a small one needs none");
        let waiting = tokio::time::timeout(Duration::from_millis(50), read_body(body(large), &all, &mut place));
        assert!(waiting.await.is_err(), "all places are taken");
        places.pop();
        assert!(read_body(body(large), &all, &mut place).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_limited_all_the_same() {
        let (all, mut place) = (LargeBodies::default(), None);
        let pieces = std::iter::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; 100_000]))));
        let endless = StreamBody::new(futures_util::stream::iter(pieces));
        let read = read_body(Box::pin(endless), &all, &mut place).await;
        assert!(matches!(read, Err(ApiError::BodyTooLarge(_))), "{read:?}");
    }

    /// Anybody may send a body that is not needed, on any number of connections.
    #[tokio::test]
    async fn pieces_of_a_body_that_is_not_needed_are_dropped_as_they_come() {
        #[derive(Debug)]
        struct Piece {
            _held: Arc<()>,
        }
        impl AsRef<[u8]> for Piece {
            fn as_ref(&self) -> &[u8] {
                &[b' '; 100_000]
            }
        }
        let (held, mut most) = (Arc::new(()), 0);
        let mut come = 0;
        let pieces = std::iter::repeat_with(|| {
            most = most.max(Arc::strong_count(&held) - 1);
            come += 1;
            Ok::<_, Infallible>(Frame::data(Bytes::from_owner(Piece { _held: Arc::clone(&held) })))
        });
        drain(StreamBody::new(futures_util::stream::iter(pieces))).await;
        assert_eq!((come, most), (limits::MAX_DRAINED_BYTES / 100_000 + 1, 0));
    }
}
