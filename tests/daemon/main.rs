//! The real binary on its sandbox: what a user relies on when a daemon dies, is copied, or finds AWS gone.

#![cfg(feature = "sandbox")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, wait on this machine's clock, and say what they skip"
)]

#[cfg(feature = "otlp")]
mod collector;
mod copies;
mod counts;
mod docker;
mod doctor;
mod health;
mod lives;
mod monitoring;
#[cfg(not(feature = "otlp"))]
mod no_traces;
mod once;
mod once_plan;
mod quarantine;
mod support;
mod sweep;
mod tls;
#[cfg(feature = "otlp")]
mod traces;
mod ui;
mod whose;
