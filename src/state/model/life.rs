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
/// With `unknown_outcome: rerun`, so often at most one start is run again because nobody could tell how its run ended:
/// whatever hides the ends hides the next one too, and each run may have done its work.
pub const MAX_RERUNS: u32 = 3;

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
        Cause::Unknown => {
            let wanted = spec.config.function.unknown_outcome == UnknownOutcome::Rerun;
            (wanted && status.reruns < MAX_RERUNS).then_some(Again::Rerun)
        }
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

#[cfg(test)]
mod tests {
    use super::super::samples::{at, config, config_with, exit, run};
    use super::*;

    fn started(restart: RestartPolicy, unknown: UnknownOutcome) -> Spec {
        let config = config_with(restart, unknown);
        Spec { generation: 3, starts: 2, started_at: Some(at(10)), ..Spec::new(config) }
    }

    fn plain() -> Spec {
        started(RestartPolicy::No, UnknownOutcome::Fail)
    }

    fn with_run(run: Run) -> Status {
        Status { run: Some(run), ..Status::default() }
    }

    #[test]
    fn a_container_that_was_never_started_is_created() {
        assert_eq!(life(&Spec::new(config()), &Status::default()), Life::Created);
    }

    #[test]
    fn a_start_counts_as_running_until_its_run_has_an_end() {
        let ended = RunPhase::Exited(exit(3, Cause::Exited));
        for (status, expected) in [
            (Status::default(), Life::Running { since: at(10) }),
            (with_run(run(1, ended.clone())), Life::Running { since: at(10) }),
            (with_run(run(2, RunPhase::Refused)), Life::Running { since: at(10) }),
            (with_run(run(2, RunPhase::Issued)), Life::Running { since: at(20) }),
            (with_run(run(2, RunPhase::Accepted { at: at(21) })), Life::Running { since: at(20) }),
            (with_run(run(2, RunPhase::Running { since: at(30) })), Life::Running { since: at(30) }),
            (with_run(run(2, ended)), Life::Exited(exit(3, Cause::Exited))),
        ] {
            assert_eq!(life(&plain(), &status), expected, "{:?}", status.run);
        }
    }

    #[test]
    fn a_cancellation_ends_only_what_was_not_issued() {
        let spec = Spec { cancelled: 2, cancelled_at: Some(at(15)), ..plain() };
        let cancelled = Life::Exited(Exit {
            code: KILLED,
            cause: Cause::Cancelled,
            message: "stopped before it was invoked".to_owned(),
            started_at: None,
            finished_at: at(15),
        });
        for (status, running) in [
            (Status::default(), false),
            (with_run(run(2, RunPhase::Refused)), false),
            (with_run(run(2, RunPhase::Issued)), true),
            (with_run(run(2, RunPhase::Running { since: at(30) })), true),
        ] {
            assert_eq!(is_running(&spec, &status), running, "{:?}", status.run);
            assert!(running || life(&spec, &status) == cancelled, "{:?}", status.run);
        }
        let earlier = Spec { cancelled: 1, ..plain() };
        assert!(is_running(&earlier, &Status::default()), "an earlier start was cancelled, not this one");
    }

    #[test]
    fn only_what_was_not_issued_waits() {
        for (status, waiting, unsettled) in [
            (Status::default(), true, false),
            (with_run(run(2, RunPhase::Refused)), true, false),
            (with_run(run(2, RunPhase::Issued)), false, true),
            (with_run(run(2, RunPhase::Accepted { at: at(21) })), false, true),
            (with_run(run(2, RunPhase::Running { since: at(30) })), false, true),
            (with_run(run(2, RunPhase::Exited(exit(0, Cause::Exited)))), false, false),
        ] {
            assert_eq!(is_waiting_to_be_issued(&plain(), &status), waiting, "{:?}", status.run);
            assert_eq!(unsettled_run(&status).is_some(), unsettled, "{:?}", status.run);
        }
    }

    #[test]
    fn the_restart_policy_repeats_failures_only_and_not_for_ever() {
        let on_failure = |max| started(RestartPolicy::OnFailure { max }, UnknownOutcome::Fail);
        for (spec, code, cause, restarts, expected) in [
            (on_failure(0), 1, Cause::Exited, 99, Some(Again::Restart)),
            (on_failure(2), 1, Cause::Exited, 1, Some(Again::Restart)),
            (on_failure(2), 1, Cause::Exited, 2, None),
            (on_failure(0), 0, Cause::Exited, 0, None),
            (on_failure(0), 1, Cause::FunctionError, 0, Some(Again::Restart)),
            (on_failure(0), 137, Cause::Deadline, 0, Some(Again::Restart)),
            (on_failure(0), 137, Cause::OutOfMemory, 0, Some(Again::Restart)),
            (on_failure(0), 137, Cause::Cancelled, 0, None),
            (on_failure(0), 125, Cause::NeverRan, 0, None),
            (on_failure(0), 125, Cause::Unknown, 0, None),
            (plain(), 1, Cause::Exited, 0, None),
            (Spec { cancelled: 2, ..on_failure(0) }, 1, Cause::Exited, 0, None),
            (Spec { remove: Some(at(50)), ..on_failure(0) }, 1, Cause::Exited, 0, None),
            (started(RestartPolicy::No, UnknownOutcome::Rerun), 125, Cause::Unknown, 0, Some(Again::Rerun)),
        ] {
            let run = run(2, RunPhase::Exited(exit(code, cause)));
            let status = Status { restarts, ..with_run(run) };
            assert_eq!(again(&spec, &status), expected, "{cause:?} {code} {restarts}");
            let between = matches!(life(&spec, &status), Life::Restarting(_));
            assert_eq!(between, expected.is_some(), "{cause:?} {code} {restarts}");
            assert_eq!(is_waiting_to_be_issued(&spec, &status), expected.is_some(), "{cause:?} {code} {restarts}");
        }
    }

    #[test]
    fn an_unknown_outcome_is_run_again_only_so_often() {
        let spec = started(RestartPolicy::OnFailure { max: 0 }, UnknownOutcome::Rerun);
        let run = run(2, RunPhase::Exited(exit(125, Cause::Unknown)));
        for (reruns, expected) in [(0, true), (MAX_RERUNS - 1, true), (MAX_RERUNS, false)] {
            let status = Status { reruns, ..with_run(run.clone()) };
            assert_eq!(again(&spec, &status), expected.then_some(Again::Rerun), "{reruns}");
            assert_eq!(is_running(&spec, &status), expected, "{reruns}");
        }
    }

    #[test]
    fn a_run_of_an_earlier_start_is_not_followed() {
        let spec = started(RestartPolicy::OnFailure { max: 0 }, UnknownOutcome::Fail);
        let status = with_run(run(1, RunPhase::Exited(exit(1, Cause::Exited))));
        assert_eq!(again(&spec, &status), None);
        assert_eq!(current_run(&spec, &status), None);
    }
}
