//! What follows from a wish and the facts: Docker's state of a container. PURE.
//!
//! No phase is stored. `docker ps`, `wait`, the admission of a start and the reconciler's plan all ask these functions,
//! so they can never disagree.

use super::{Cause, Exit, RestartPolicy, Run, RunPhase, Spec, Status, UnknownOutcome};
use crate::clock::Timestamp;

/// The exit code of a start that was cancelled before it was issued, and of a run ended by its deadline.
pub const KILLED: u8 = 137;
/// The exit code when the outcome is not the program's: never run, or nobody knows.
pub const NOT_THE_PROGRAM: u8 = 125;

/// A container's life as a client sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Life {
    /// Never started.
    Created,
    /// Started, and its run has no end yet; it may still be waiting for its function.
    Running {
        /// When the program started; the wish's time while it waits.
        since: Timestamp,
    },
    /// Between a failed run and the next one.
    Restarting(Exit),
    /// The last start has ended.
    Exited(Exit),
}

/// Why a start whose run has ended is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The restart policy.
    Restart,
    /// `unknown_outcome: rerun`.
    Rerun,
}

/// The container's life. Whether it is being removed is another question: [`super::Container::is_removed`].
#[must_use]
pub fn life(spec: &Spec, status: &Status) -> Life {
    if spec.starts == 0 {
        return Life::Created;
    }
    match current_run(spec, status).map(|run| (run, &run.phase)) {
        Some((_, RunPhase::Exited(exit))) => match again(spec, status) {
            Some(_) => Life::Restarting(exit.clone()),
            None => Life::Exited(exit.clone()),
        },
        Some((_, RunPhase::Running { since })) => Life::Running { since: *since },
        Some((run, RunPhase::Issued | RunPhase::Accepted { .. })) => {
            Life::Running { since: run.issued.as_ref().map_or_else(|| wished_at(spec), |issued| issued.at) }
        }
        Some((_, RunPhase::Refused)) | None if spec.cancelled >= spec.starts => Life::Exited(cancelled(spec)),
        Some((_, RunPhase::Refused)) | None => Life::Running { since: wished_at(spec) },
    }
}

/// Whether the container counts as running: a start is wished that has no end yet.
#[must_use]
pub fn is_running(spec: &Spec, status: &Status) -> bool {
    matches!(life(spec, status), Life::Running { .. } | Life::Restarting(_))
}

/// The run of the latest start, if the reconciler has taken it up.
#[must_use]
pub fn current_run<'a>(spec: &Spec, status: &'a Status) -> Option<&'a Run> {
    status.run.as_ref().filter(|run| run.start == spec.starts)
}

/// The run that was issued and has no end yet, whichever start wanted it.
#[must_use]
pub fn unsettled_run(status: &Status) -> Option<&Run> {
    status
        .run
        .as_ref()
        .filter(|run| matches!(run.phase, RunPhase::Issued | RunPhase::Accepted { .. } | RunPhase::Running { .. }))
}

/// Whether a start is wanted that no invocation has been issued for: it can still be cancelled.
#[must_use]
pub fn is_waiting_to_be_issued(spec: &Spec, status: &Status) -> bool {
    is_running(spec, status) && unsettled_run(status).is_none()
}

/// Whether the ended run of the current start is to be followed by another one.
#[must_use]
pub fn again(spec: &Spec, status: &Status) -> Option<Again> {
    let RunPhase::Exited(exit) = &current_run(spec, status)?.phase else { return None };
    if spec.remove.is_some() || spec.cancelled >= spec.starts {
        return None;
    }
    match exit.cause {
        Cause::Unknown => (spec.config.function.unknown_outcome == UnknownOutcome::Rerun).then_some(Again::Rerun),
        Cause::Cancelled | Cause::NeverRan => None,
        Cause::Exited | Cause::FunctionError | Cause::Deadline | Cause::OutOfMemory => match spec.config.restart {
            RestartPolicy::OnFailure { max } if exit.code != 0 && (max == 0 || status.restarts < max) => {
                Some(Again::Restart)
            }
            RestartPolicy::OnFailure { .. } | RestartPolicy::No => None,
        },
    }
}

/// The end of a start that was cancelled before it was issued.
#[must_use]
pub fn cancelled(spec: &Spec) -> Exit {
    Exit {
        code: KILLED,
        cause: Cause::Cancelled,
        message: "stopped before it was invoked".to_owned(),
        started_at: None,
        finished_at: spec.cancelled_at.unwrap_or_else(|| wished_at(spec)),
    }
}

fn wished_at(spec: &Spec) -> Timestamp {
    spec.started_at.unwrap_or_default()
}
