//! The real binary on its sandbox: what a user relies on when a daemon dies, is copied, or finds AWS gone.

#![cfg(feature = "sandbox")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, wait on this machine's clock, and say what they skip"
)]

mod counts;
mod docker;
mod doctor;
mod health;
mod lives;
mod monitoring;
mod once;
mod once_plan;
mod support;
mod sweep;
mod tls;
mod ui;
mod whose;
