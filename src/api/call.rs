//! One request, as a handler sees it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::ApiContext;
use super::error::ApiError;
use super::limits;
use super::open_streams::OpenStreams;
use super::query::Query;
use super::reply::Reply;

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

    /// The whole body, within the limits.
    pub(super) async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        let Some(body) = self.body.take() else { return Ok(Bytes::new()) };
        if body.size_hint().lower() > limits::MAX_BODY_BYTES as u64 {
            return Err(ApiError::BodyTooLarge(limits::MAX_BODY_BYTES));
        }
        let whole = Limited::new(body, limits::MAX_BODY_BYTES).collect();
        match tokio::time::timeout(limits::BODY_READ_TIMEOUT, whole).await {
            Err(_) => Err(ApiError::BodyTooSlow(limits::BODY_READ_TIMEOUT.as_secs())),
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::BodyTooLarge(limits::MAX_BODY_BYTES)),
            Ok(Err(error)) => Err(ApiError::BadRequest(format!("the request's body broke off: {error}"))),
        }
    }

    /// The body as JSON; `None`: it is empty. Its `Content-Type` does not matter.
    pub(super) async fn json(&mut self) -> Result<Option<Value>, ApiError> {
        let bytes = self.bytes().await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| ApiError::BadRequest(format!("invalid JSON: {error}")))
    }

    /// Reads and drops a body that nobody wants, as far as it is small and quick: a client that is still sending when
    /// the connection closes would not see the answer.
    pub(super) async fn drain(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        let rest = Limited::new(body, limits::MAX_BODY_BYTES).collect();
        let _ = tokio::time::timeout(limits::BODY_DRAIN_TIMEOUT, rest).await;
    }
}
