//! Images with files of their own: found, unpacked, and run in roots of their own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it is skipped"
)]

#[path = "../build/mod.rs"]
mod build;
mod catalog;
mod run;
mod support;
mod unpack;
