//! The API over real sockets: raw bytes where they matter, and a real Docker client where its opinion does.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking, and are told how much to do by the environment"
)]

mod bad_input;
mod cross_site;
mod crowd;
mod described;
mod docker;
mod forged;
mod fuzz;
mod garbage;
mod images;
mod lists;
mod lives;
mod log_ends;
mod logs;
mod openapi;
mod output;
mod quarantine;
mod refusals;
mod shapes;
mod stored;
mod support;
mod system;
