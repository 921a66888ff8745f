//! The API over real sockets: raw bytes where they matter, and a real Docker client where its opinion does.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod bad_input;
mod described;
mod docker;
mod garbage;
mod images;
mod lives;
mod openapi;
mod output;
mod refusals;
mod shapes;
mod support;
mod system;
