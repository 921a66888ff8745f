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

/// As the sandbox tells all that it has ever done, it is not asked all the time.
const LOOK: Duration = Duration::from_millis(500);
/// Nothing that is waited for takes longer in all.
const REAL_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Without any progress for so long, only what takes minutes is left.
const QUIET: Duration = Duration::from_secs(6);
/// A daemon has claimed its database so long after it serves.
const CLAIM_LIMIT: Duration = Duration::from_secs(20);
const AWAY: Duration = Duration::from_secs(10 * 60);
/// How often a short series makes things older. Each time, everything that is left goes on by one step at least.
const MAX_TIMES: u32 = 10;

/// How the long waits are spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// By waiting.
    Real,
    /// By making what is known older.
    Aged,
}

/// A daemon and its users.
pub(crate) struct Party {
    pub(crate) machine: Machine,
    pub(crate) workload: Workload,
}

/// Waits until nothing is left to do. The daemons must be running, and the workloads must have been stopped.
pub(crate) async fn settle(parties: &mut [Party], aws: &Aws, patience: Patience) -> Result<(), String> {
    let begin = Instant::now();
    let (mut seen, mut moved, mut times) = (Vec::new(), Instant::now(), 0);
    loop {
        let state = aws.state();
        let (mut progress, mut done) = (vec![objects(&state), ended(&state)], objects(&state) == 0);
        for Party { machine, workload } in parties.iter() {
            let rows = machine.rows().await.len();
            done &= rows == 0 && workload.is_done();
            progress.extend([rows, workload.ended()]);
        }
        if done {
            return Ok(());
        }
        if progress != seen {
            (seen, moved) = (progress, Instant::now());
        }
        if begin.elapsed() > REAL_LIMIT || times >= MAX_TIMES {
            return Err(format!("it does not come to an end: {}", unsettled(parties, &state).await));
        }
        if patience == Patience::Aged && moved.elapsed() > QUIET && is_idle(&state) {
            for party in parties.iter_mut() {
                make_older(&mut party.machine, &state).await?;
            }
            (times, moved) = (times + 1, Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is left over: functions and environments in AWS, claims of daemons that are dead, and rows in the databases.
pub(crate) async fn left(parties: &[Party], aws: &Aws) -> usize {
    let mut left = objects(&aws.state());
    for Party { machine, .. } in parties {
        left += machine.rows().await.len() + old_claims(machine).await;
    }
    left
}

/// The claims beside the one that a living daemon has. It may have begun to serve just now, and makes its claim, and away
/// with the others, then.
async fn old_claims(machine: &Machine) -> usize {
    let begin = Instant::now();
    loop {
        let claims = machine.claims().await;
        if claims.len() == 1 || begin.elapsed() > CLAIM_LIMIT {
            assert!(!claims.is_empty(), "a daemon that lives has no claim");
            return claims.len() - 1;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn make_older(machine: &mut Machine, state: &Value) -> Result<(), String> {
    nothing_unread(machine, state).await?;
    machine.kill();
    machine.age(AWAY).await;
    machine.spawn();
    machine.until_served().await;
    Ok(())
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

async fn unsettled(parties: &[Party], state: &Value) -> String {
    let mut words = format!("functions: {}", state["functions"]);
    for party in parties {
        words += &format!("\nrows: {:#?}\n{}", party.machine.rows().await, party.machine.last_words());
    }
    words
}
