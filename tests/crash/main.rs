//! Every crash point, every fault, both kinds of invocation: each scenario is played once undisturbed, which numbers all
//! calls of AWS and all commits, and then once for each point and each thing that can happen there.
//!
//! A plan's name says what it is: `SCENARIO/INVOCATION/POINT/DISTURBANCE`. `SOCKERLESS_CRASH_PLANS=TEXT` plays those whose
//! name has the text in it. Where only a part is played, it is another one every day; `SOCKERLESS_CRASH_OFFSET` plays a
//! certain one.

#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "plans that fail are told at once")]

mod acts;
#[path = "../store/all_rows.rs"]
mod all_rows;
mod alone;
mod choice;
mod end;
mod history;
#[path = "../store/in_place.rs"]
mod in_place;
mod invokes;
mod ledger;
mod life;
mod play;
mod points;
mod programs;
mod report;
mod rest;
mod sabotage;
mod scenario;
mod scenarios;
mod stage;
mod unknown;
mod verdict;

/// Log lines may be so late, in milliseconds, and a run's outcome is still known.
const DELIVERY_MS: u64 = 120_000;

#[test]
fn every_plan_ends_as_it_should() {
    let choice = choice::Choice::of_environment();
    println!("{choice:?}");
    let report = report::play(&choice);
    println!("{report}");
    assert!(report.failed.is_empty(), "{} plans failed", report.failed.len());
    assert_eq!(report.shortcomings(&choice), [""; 0]);
}
