//! A container's state in Docker's words. PURE.

use serde_json::{Value, json};

use super::time::{human, or_unset};
use crate::clock::Timestamp;
use crate::state::model::life::{Life, NOT_THE_PROGRAM, current_run, life};
use crate::state::model::{Cause, Container, Exit};

/// The state of a container that cannot be read.
pub(in crate::api) const DEAD: &str = "dead";

/// `created`, `running`, `restarting` or `exited`; of one that cannot be read: [`DEAD`].
pub(in crate::api) fn status_word(life: &Life) -> &'static str {
    match life {
        Life::Created => "created",
        Life::Running { .. } => "running",
        Life::Restarting(_) => "restarting",
        Life::Exited(_) => "exited",
    }
}

/// The last end, if the last thing that happened is one.
fn exit(life: &Life) -> Option<&Exit> {
    match life {
        Life::Exited(exit) | Life::Restarting(exit) => Some(exit),
        Life::Created | Life::Running { .. } => None,
    }
}

/// What `wait` says of an end that is not the program's. Only with code 125: the docker CLI turns any error into it.
pub(in crate::api) fn exit_error(exit: &Exit) -> Option<&str> {
    (exit.code == NOT_THE_PROGRAM && exit.cause != Cause::Exited && !exit.message.is_empty())
        .then_some(exit.message.as_str())
}

/// `State` of inspect.
pub(super) fn state(container: &Container) -> Value {
    let life = life(&container.spec, &container.status);
    let exit = exit(&life);
    let started_at = match &life {
        Life::Created => None,
        Life::Running { since } => Some(*since),
        Life::Restarting(exit) | Life::Exited(exit) => exit.started_at.or_else(|| issued_or_wished(container)),
    };
    json!({
        "Status": status_word(&life),
        "Running": matches!(life, Life::Running { .. } | Life::Restarting(_)),
        "Paused": false,
        "Restarting": matches!(life, Life::Restarting(_)),
        "OOMKilled": exit.is_some_and(|exit| exit.cause == Cause::OutOfMemory),
        "Dead": false,
        "Pid": i32::from(matches!(life, Life::Running { .. })),
        "ExitCode": exit.map_or(0, |exit| exit.code),
        "Error": match (&life, exit) {
            (Life::Created, _) => refusal(container).unwrap_or_default(),
            (_, exit) => exit.filter(|exit| exit.cause != Cause::Exited).map_or("", |exit| exit.message.as_str()),
        },
        "StartedAt": or_unset(started_at),
        "FinishedAt": or_unset(exit.map(|exit| exit.finished_at)),
    })
}

/// Why a container that was never started cannot be.
fn refusal(container: &Container) -> Option<&str> {
    container.status.retry.failure.as_ref().filter(|failure| failure.terminal_for.is_some()).map(|f| f.message.as_str())
}

fn issued_or_wished(container: &Container) -> Option<Timestamp> {
    let run = current_run(&container.spec, &container.status);
    run.and_then(|run| run.issued.as_ref()).map(|issued| issued.at).or(container.spec.started_at)
}

/// `Status` of the list: `Up 3 seconds`, `Exited (3) 2 minutes ago`.
pub(super) fn status_text(life: &Life, now: Timestamp) -> String {
    match life {
        Life::Created => "Created".to_owned(),
        Life::Running { since } => format!("Up {}", human(now.since(*since))),
        Life::Restarting(exit) => format!("Restarting ({}) {} ago", exit.code, human(now.since(exit.finished_at))),
        Life::Exited(exit) => format!("Exited ({}) {} ago", exit.code, human(now.since(exit.finished_at))),
    }
}
