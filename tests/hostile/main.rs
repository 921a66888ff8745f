//! Hostile content beside honest containers.
//!
//! A *story* is what one hostile tenant does: it prints, answers, sends requests, and uses every right of the execution
//! role and of others in the account. A *world* plays some dozens of stories beside a few honest containers, against the
//! real API on its sockets, the real store, reconciler and SDK, the bootstrap's own encoding of output, and the sandbox,
//! under virtual time. Every story follows from its seed.
//!
//! `SOCKERLESS_HOSTILE` is the number of stories. The base seed changes every day; `SOCKERLESS_HOSTILE_SEED` plays a
//! certain one, and `SOCKERLESS_HOSTILE_WORLD` only that world of it. The last line that the series prints is `hostile: N, failed: N`.
//!
//! Promises:
//! - An honest container ends as it does alone: exit code, error, output and number of invocations, and on time.
//! - The reconciler keeps running, and a container that is created after the hostile acts runs too.
//! - After a `kill -9` every row is readable, and the next daemon goes on.
//! - Stored texts, rows, events and the process stay within the limits in `limits.rs`.
//! - No request is answered with a server error, but for what `refusals.rs` lists. What is foreign or too deep is refused.
//! - The health checks answer at any time, and claims that are forged are an alarm.

#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the series reports as it goes, and ends with its last line")]

mod account;
#[path = "../store/all_rows.rs"]
mod all_rows;
mod body;
mod client;
mod coverage;
mod daemon;
mod follow;
mod honest;
#[path = "../store/in_place.rs"]
mod in_place;
mod limits;
mod output;
mod own;
mod play;
mod programs;
mod refusals;
mod regressions;
mod requests;
#[path = "../crash/rest.rs"]
mod rest;
#[path = "../../src/reconciler/tests/stories/rng.rs"]
mod rng;
mod sabotage;
mod series;
mod shrink;
mod stored;
mod story;
mod tls;
mod verdict;
mod world;

#[test]
fn hostile_content_changes_nothing_for_others() {
    let options = series::Options::of_environment();
    println!("{options:?}");
    let report = series::play(&options);
    println!("{report}");
    assert_eq!(report.failed, 0);
    assert_eq!(report.unplayed, [""; 0], "kinds of acts that were never played");
}
