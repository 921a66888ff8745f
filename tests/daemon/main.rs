//! The real binary on its sandbox: what a user relies on when a daemon dies, is copied, or finds AWS gone.

#![cfg(feature = "sandbox")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking, and wait on this machine's clock"
)]

mod counts;
mod docker;
mod lives;
mod support;
mod sweep;
mod whose;
