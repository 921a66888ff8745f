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
mod probe;
mod rng;
mod settle;
mod soak;
mod story;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../daemon/support.rs"]
mod support;
mod weather;
mod workload;

use std::process::ExitCode;
use std::time::Duration;

use settle::Patience;

/// Kills of the series that is part of every test run.
const SHORT_KILLS: u64 = 50;
/// The long run in short: it shows that it works, and that the account is right under faults.
const SHORT_SOAK: Duration = Duration::from_secs(15);
const NAMES: [&str; 2] = ["kill9", "soak"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, script] = arguments.as_slice()
        && command == native::COMMAND
    {
        return native::serve(script);
    }
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if asked("--list") {
        let names = if asked("--ignored") { &[][..] } else { &NAMES };
        names.iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    // What starts with a dash is meant for the usual harness.
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let passed = runtime.block_on(run(&words));
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(words: &[&str]) -> bool {
    let numbers: Vec<u64> = words.iter().skip(1).filter_map(|word| word.parse().ok()).collect();
    let seed = numbers.get(1).copied().unwrap_or_else(rng::fresh_seed);
    match (words.first(), numbers.first()) {
        (Some(&"kill9"), Some(kills)) => {
            kill9::run(kill9::Series { kills: *kills, seed, patience: Patience::Real }).await
        }
        (Some(&"soak"), Some(minutes)) => {
            let length = Duration::from_secs(minutes * 60);
            soak::run(soak::Series { length, seed, patience: Patience::Real }).await
        }
        // Without a number, a word is the usual harness's filter.
        (filter, _) => {
            let wanted = |name: &str| filter.is_none_or(|filter| name.contains(*filter));
            let kills = kill9::Series { kills: SHORT_KILLS, seed, patience: Patience::Aged };
            let soak = soak::Series { length: SHORT_SOAK, seed, patience: Patience::Aged };
            // Both mostly wait, and have nothing in common.
            let (kills, soak) = tokio::join!(async { !wanted("kill9") || kill9::run(kills).await }, async {
                !wanted("soak") || soak::run(soak).await
            });
            kills && soak
        }
    }
}
