//! The AWS room against a server with canned answers: the real SDK writes the requests and reads the answers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod functions;
mod invoke;
mod logs;
mod observed;
mod server;
