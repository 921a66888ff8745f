//! Docker's words. Signatures only; the bodies follow.

pub mod client;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::aws::ReadLogs;
use crate::clock::Clock;
use crate::config::{Config, Listen};
use crate::health::Health;
use crate::state::{Reader, Wishes};

/// All that the room needs of the others.
#[derive(Clone)]
pub struct ApiContext {
    /// Reads wishes and facts.
    pub reader: Reader,
    /// Writes wishes.
    pub wishes: Wishes,
    /// Reads logs.
    pub logs: Arc<dyn ReadLogs>,
    /// Tells the time.
    pub clock: Clock,
    /// What the daemon says of itself.
    pub health: Health,
    /// The settings.
    pub config: Arc<Config>,
}

/// Why the API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refuses the address.
    #[error("cannot listen: {0}")]
    Refused(#[from] io::Error),
}

/// Everything the API listens at.
#[derive(Debug)]
pub struct Listeners(Vec<Listen>);

impl Listeners {
    /// Binds every address, or none.
    pub async fn bind(listen: &[Listen]) -> Result<Self, BindError> {
        Ok(Self(listen.to_vec()))
    }
    /// Where it really listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<Listen> {
        self.0.clone()
    }
    /// Serves until `stop`.
    pub async fn serve(self, _context: ApiContext, stop: CancellationToken, _drain: Duration) {
        stop.cancelled().await;
    }
}

/// Where `/metrics` is served.
#[derive(Debug)]
pub struct MetricsListener;

impl MetricsListener {
    /// Binds the address.
    pub async fn bind(_address: SocketAddr) -> Result<Self, BindError> {
        Ok(Self)
    }
}

/// Serves `/metrics` until `stop`.
pub async fn serve_metrics(
    _listener: MetricsListener,
    _render: Arc<dyn Fn() -> String + Send + Sync>,
    _context: ApiContext,
    stop: CancellationToken,
) {
    stop.cancelled().await;
}
