//! AWS Lambda and CloudWatch Logs on this machine, for trying and testing.
//!
//! It owns the behaviour of AWS as far as the daemon meets it, and speaks AWS's own wire protocols on a loopback
//! address, so that the real SDK can be pointed at it. It knows nothing of the daemon.
//!
//! ```text
//!  SDK ──HTTP──► http ──► wire ──► model ──effects──► driver ──► runner ──► real processes
//!                                    ▲                               │
//!                                    └───────── what was seen ───────┘
//! ```
//!
//! - [`model`] is pure: it has no clock, no input or output and no randomness but its seed's. A story of calls at
//!   given times always goes the same way, so it can be told a hundred thousand times, with [`script`] in the place
//!   of real processes.
//! - `wire` translates between HTTP messages and the model's requests; it is pure too.
//! - `http` and `driver` are the connections, the timers and the processes around it.
//!
//! Not here: versions and aliases, zip packages, layers, streaming responses, destinations, metric filters.

pub mod clock;
pub mod faults;
pub mod images;
pub mod model;
pub mod runner;
pub mod script;
pub mod settings;

mod driver;
mod http;
mod places;
mod sandbox;
mod shelf;
mod wire;
pub mod witness;

pub use sandbox::{Credentials, ImageOptions, Limits, Options, Programs, Sandbox, StartError};
