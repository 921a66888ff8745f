//! # API: Docker's words
//!
//! Owns everything that is said over HTTP, and every word of hyper. Handlers record wishes and read what was observed;
//! they may watch, but never act: nothing here calls AWS, but for reading logs through [`ReadLogs`].
//!
//! Two spellings of one API are served on every listener: `/internal/v1/…`, whose promises are kept to the letter, and
//! Docker's own `/…` and `/v1.NN/…`, which does what Docker's clients need. `routes` has the one table of both.
//!
//! Pure files, without clock, store or network: `admit`, `wire`, `query`, `stream`, `json`, `origin`, `logs::lines`.

mod accept;
mod admit;
mod attach;
mod bodies;
mod call;
pub mod client;
mod containers;
mod error;
mod events;
mod health;
mod image_feed;
mod images;
mod json;
mod limits;
mod listeners;
mod logs;
mod metrics_listener;
mod names;
mod networks;
mod open_streams;
mod openapi;
mod origin;
mod patient;
mod query;
mod reference;
mod reply;
mod routes;
mod service;
mod shape;
mod socket;
mod stream;
mod system;
mod tls;
mod ui;
mod unsupported;
mod wire;

use std::sync::Arc;

pub use limits::{MAX_BODY_BYTES, MAX_JSON_DEPTH, MAX_LABEL_BYTES, MAX_NAME, MAX_REFERENCE_BYTES};
pub use listeners::{BindError, Listeners, try_address};
pub use metrics_listener::{MetricsListener, MetricsSources};
pub use routes::{Endpoint, endpoints};
pub use tls::{TlsError, try_tls};

use crate::aws::ReadLogs;
use crate::clock::Clock;
use crate::config::Config;
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

#[cfg(test)]
mod tests;
