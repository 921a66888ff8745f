//! Long series against the real binary, with the sandbox as a process of its own.
//!
//! | arguments | what |
//! |---|---|
//! | `kill9 KILLS [SEED]` | so many times `kill -9`, then the account of every run (`just kill9 500`) |
//! | `soak MINUTES [SEED]` | mixed load with faults and kills; what the process takes must level off (`just soak 60`) |
//! | none, as in `cargo test` | both in short |
//!
//! It is its own test harness, so that the verdict is the last line.

#![cfg(feature = "sandbox")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a series fails by panicking, waits on this machine's clock, and reports on stdout"
)]

mod client;
mod kill9;
mod ledger;
mod life;
mod machine;
mod native;
mod rng;
mod settle;
mod story;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../daemon/support.rs"]
mod support;
mod workload;

use std::process::ExitCode;

use kill9::Series;
use settle::Patience;

/// Kills of the series that is part of every test run.
const SHORT_KILLS: u64 = 50;
const NAMES: [&str; 1] = ["kill9"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, script] = arguments.as_slice()
        && command == native::COMMAND
    {
        return native::serve(script);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        NAMES.iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    // What starts with a dash is meant for the usual harness.
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let passed = runtime.block_on(run(&words));
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(words: &[&str]) -> bool {
    let number = |index: usize| words.get(index).map(|word| word.parse::<u64>().expect("a number"));
    let seed = number(2).unwrap_or_else(rng::fresh_seed);
    match words.first() {
        Some(&"kill9") if words.len() > 1 => {
            let kills = number(1).unwrap();
            kill9::run(Series { kills, seed, patience: Patience::Real }).await
        }
        // Without numbers, a word is the usual harness's filter.
        filter => {
            let wanted = |name: &str| filter.is_none_or(|filter| name.contains(*filter));
            let short = Series { kills: SHORT_KILLS, seed, patience: Patience::Aged };
            !wanted("kill9") || kill9::run(short).await
        }
    }
}
