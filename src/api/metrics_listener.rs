//! `/metrics`, the health checks and the status page on a listener of their own, which can be reached where the API must not be.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::listeners::{BindError, Patience, Places, bind_tcp, serve_connections};
use super::origin::{self, Entrance};
use super::reply::{self, Reply};
use super::{health, limits, ui};
use crate::clock::Clock;
use crate::config::Config;
use crate::health::Health;
use crate::state::Reader;

/// Prometheus' text format.
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long a scrape may take to end when the daemon stops.
const DRAIN: Duration = Duration::from_secs(1);

/// Renders the metrics.
type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// All that is told on the metrics' listener.
#[derive(Clone)]
pub struct MetricsSources {
    /// Renders the metrics.
    pub render: Render,
    /// Reads wishes and facts.
    pub reader: Reader,
    /// What the daemon says of itself.
    pub health: Health,
    /// Tells the time.
    pub clock: Clock,
    /// The settings.
    pub config: Arc<Config>,
}

/// The metrics' listener, bound but not yet served.
#[derive(Debug)]
pub struct MetricsListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsListener {
    /// Binds the address.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let (listener, address) = bind_tcp(address).await?;
        Ok(Self { listener, address })
    }

    /// Where it really listens: with the port that was chosen for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `GET /metrics`, `/healthz`, `/readyz`, `/ui` and `/ui/state` until `stop`.
    pub async fn serve(self, sources: MetricsSources, stop: CancellationToken) {
        let (sources, entrance) = (Arc::new(sources), Entrance::tcp(self.address, false));
        let answer = move |request: Request<Incoming>| {
            let sources = Arc::clone(&sources);
            async move { Ok::<Reply, Infallible>(answer(&request, entrance, &sources).await) }
        };
        let places = Places::new(limits::MAX_METRICS_ARRIVALS, limits::MAX_METRICS_CONNECTIONS, Patience::METRICS);
        serve_connections(&self.listener, answer, &places, &stop, DRAIN).await;
    }
}

async fn answer(request: &Request<Incoming>, entrance: Entrance, sources: &MetricsSources) -> Reply {
    if let Err(error) = origin::check(request, entrance, &sources.config.allowed_hosts) {
        return error.reply();
    }
    if request.method() != Method::GET {
        return ApiError::NoSuchPage.reply();
    }
    let MetricsSources { render, reader, health, clock, .. } = sources;
    match request.uri().path() {
        "/metrics" => reply::text(StatusCode::OK, METRICS_TEXT, render()),
        "/healthz" => health::alive_reply(),
        "/readyz" => health::ready_reply(health, clock.now()),
        "/ui" => ui::page(),
        "/ui/state" => ui::state(reader, &render(), health, clock.now()).await,
        _ => ApiError::NoSuchPage.reply(),
    }
}
