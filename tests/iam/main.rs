//! The policies in `deploy/iam`: every feature is used against the sandbox, which records each call, and what IAM would
//! ask for that call is put to the policies. Nothing may be missing, and nothing superfluous.

#![cfg(feature = "sandbox")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking, and wait on this machine's clock"
)]

#[path = "../daemon/docker.rs"]
#[expect(dead_code, reason = "shared with the tests of the daemon")]
mod docker;
mod needs;
mod policy;
mod refusals;
mod scenarios;
#[path = "../daemon/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the daemon")]
mod support;
