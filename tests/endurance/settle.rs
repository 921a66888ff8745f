//! Waits until everything has come to its end: every story told, every row and every function gone.
//!
//! Some ends take minutes by design: a run whose invocation was never sent is called unknown only when the log was read
//! beyond the time at which it must have ended, and a function whose creation was not answered counts as absent after a
//! minute. A long series waits for them. A short one, which is part of every test run, makes all that is known ten
//! minutes older when nothing else is under way: for the daemon that is the same as having been away so long.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::{Machine, is_idle, objects};
use crate::support::Aws;
use crate::workload::Workload;

const LOOK: Duration = Duration::from_millis(250);
/// Nothing that is waited for takes longer in all.
const REAL_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Without any progress for so long, only what takes minutes is left.
const QUIET: Duration = Duration::from_secs(5);
const AWAY: Duration = Duration::from_secs(10 * 60);
/// How often a short series makes things older. Each time, everything that is left goes on by one step at least.
const MAX_TIMES: u32 = 6;

/// How the long waits are spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// By waiting.
    Real,
    /// By making what is known older.
    Aged,
}

/// Waits until nothing is left to do.
pub(crate) async fn settle(
    machine: &mut Machine,
    aws: &Aws,
    patience: Patience,
    workload: &Workload,
) -> Result<(), String> {
    let begin = Instant::now();
    let (mut seen, mut moved, mut times) = (Vec::new(), Instant::now(), 0);
    loop {
        let state = aws.state();
        let rows = machine.rows().await.len();
        if workload.is_done() && rows == 0 && objects(&state) == 0 {
            return Ok(());
        }
        let progress = vec![workload.ended(), rows, objects(&state), ended(&state)];
        if progress != seen {
            (seen, moved) = (progress, Instant::now());
        }
        if begin.elapsed() > REAL_LIMIT || times >= MAX_TIMES {
            return Err(format!("it does not come to an end: {}", unsettled(machine, &state).await));
        }
        if patience == Patience::Aged && moved.elapsed() > QUIET && is_idle(&state) {
            nothing_unread(machine, &state).await?;
            machine.kill();
            machine.age(AWAY).await;
            machine.spawn();
            machine.until_served().await;
            (times, moved) = (times + 1, Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is left over: functions and environments in AWS, and rows in the database.
pub(crate) async fn left(machine: &Machine, aws: &Aws) -> usize {
    objects(&aws.state()) + machine.rows().await.len()
}

/// A run that the sandbox has ended must not be waiting for its end.
async fn nothing_unread(machine: &Machine, state: &Value) -> Result<(), String> {
    let rows = machine.rows().await;
    let invocations = state["invocations"].as_array().unwrap();
    let ended = |token: &str| invocations.iter().any(|invocation| invocation["token"] == token);
    match rows.iter().find(|row| row.unsettled_token().is_some_and(ended)) {
        Some(row) => Err(format!("the run of {} has ended, and nobody has read it", row.id)),
        None => Ok(()),
    }
}

fn ended(state: &Value) -> usize {
    let invocations = state["invocations"].as_array().unwrap();
    invocations.iter().filter(|invocation| !invocation["end_ms"].is_null()).count()
}

async fn unsettled(machine: &Machine, state: &Value) -> String {
    let rows = machine.rows().await;
    format!("{} functions; rows {rows:#?}\n{}", state["functions"], machine.last_words())
}
