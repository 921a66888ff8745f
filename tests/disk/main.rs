//! Disks that fail: full ones, read-only ones, and logs that were cut off.
//!
//! Full and read-only disks are mounted, which needs root.

#![cfg(feature = "sandbox")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking, and wait on this machine's clock"
)]

#[path = "../store/all_rows.rs"]
mod all_rows;
mod cut;
mod disk;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../daemon/docker.rs"]
mod docker;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../store/support.rs"]
mod fixtures;
mod full;
#[path = "../store/in_place.rs"]
mod in_place;
mod read_only;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../daemon/support.rs"]
mod support;
