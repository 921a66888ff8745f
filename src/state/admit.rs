//! What a wish does to a container, and which facts are taken: the admission of every write. PURE.
//!
//! Judged inside the writer's transaction, where nothing can change between the look and the write.

use super::model::Container;
use super::model::life::{self, Life};
use super::records::{Cancelled, FactWrite, Removed, Started};
use crate::clock::Timestamp;

/// Wants one more run.
pub(crate) fn start(container: &mut Container, now: Timestamp) -> Started {
    let Container { spec, status, .. } = container;
    if life::is_running(spec, status) {
        return Started::AlreadyRunning;
    }
    if let Some(failure) = status.retry.failure.as_ref().filter(|failure| failure.refuses_start(now)) {
        return Started::Refused(failure.clone());
    }
    spec.generation += 1;
    spec.starts += 1;
    spec.started_at = Some(now);
    Started::Recorded
}

/// Wants the current start no more. An issued run goes on; the wish is kept for what might follow it.
pub(crate) fn cancel(container: &mut Container, now: Timestamp) -> Cancelled {
    let Container { spec, status, .. } = container;
    if !life::is_running(spec, status) {
        return Cancelled::NotRunning;
    }
    let waiting = life::is_waiting_to_be_issued(spec, status);
    if spec.cancelled < spec.starts {
        spec.generation += 1;
        spec.cancelled = spec.starts;
        spec.cancelled_at = Some(now);
    }
    if waiting { Cancelled::Recorded } else { Cancelled::Issued }
}

/// Wants it gone.
pub(crate) fn remove(container: &mut Container, force: bool, now: Timestamp) -> Removed {
    let Container { spec, status, .. } = container;
    match life::life(spec, status) {
        Life::Running { .. } | Life::Restarting(_) if !force => Removed::Running,
        Life::Created | Life::Exited(_) | Life::Running { .. } | Life::Restarting(_) => {
            spec.generation += 1;
            spec.remove = Some(now);
            Removed::Recorded
        }
    }
}

/// Whether facts are taken: they were made from the latest ones, and if they remove the container by themselves for the
/// first time, they know of every wish.
pub(crate) fn facts(container: &Container, write: &FactWrite) -> bool {
    let removes = write.status.auto_removed.is_some() && !container.is_removed();
    let knows_the_wish = write.status.observed_generation >= container.spec.generation;
    container.revision == write.revision && (!removes || knows_the_wish)
}

/// Whether the intent to invoke is taken: it was made from the latest facts and for the latest wish, and no other run
/// is unsettled.
pub(crate) fn issue(container: &Container, write: &FactWrite, generation: u64) -> bool {
    container.revision == write.revision
        && container.spec.generation == generation
        && !container.is_removed()
        && life::unsettled_run(&container.status).is_none()
}

#[cfg(test)]
mod tests {
    use super::super::model::samples::{at, config, config_with, exit, failure, run};
    use super::super::model::{
        Cause, ContainerId, FailureKind, IMAGE_ABSENCE_HOLDS, RestartPolicy, Retry, RunPhase, Spec, Status,
        UnknownOutcome,
    };
    use super::*;

    fn container(spec: Spec, status: Status) -> Container {
        let id = ContainerId::from_bytes([7; 32]);
        Container { seq: 1, id, name: "web".to_owned(), created_at: at(1), spec, status, due_at: None, revision: 4 }
    }

    fn started(phase: Option<RunPhase>) -> Container {
        let spec = Spec { generation: 2, starts: 1, started_at: Some(at(10)), ..Spec::new(config()) };
        container(spec, Status { run: phase.map(|phase| run(1, phase)), ..Status::default() })
    }

    fn ended(code: u8) -> Option<RunPhase> {
        Some(RunPhase::Exited(exit(code, Cause::Exited)))
    }

    fn between_restarts() -> Container {
        let mut container = started(ended(1));
        container.spec.config = config_with(RestartPolicy::OnFailure { max: 0 }, UnknownOutcome::Fail);
        container
    }

    #[test]
    fn a_start_is_for_containers_that_do_not_run() {
        for (mut container, expected) in [
            (container(Spec::new(config()), Status::default()), Started::Recorded),
            (started(ended(0)), Started::Recorded),
            (started(None), Started::AlreadyRunning),
            (started(Some(RunPhase::Issued)), Started::AlreadyRunning),
            (between_restarts(), Started::AlreadyRunning),
        ] {
            let before = container.spec.clone();
            assert_eq!(start(&mut container, at(50)), expected);
            let mut wanted = before;
            if expected == Started::Recorded {
                wanted = Spec {
                    generation: wanted.generation + 1,
                    starts: wanted.starts + 1,
                    started_at: Some(at(50)),
                    ..wanted
                };
            }
            assert_eq!(container.spec, wanted);
        }
    }

    #[test]
    fn a_start_is_refused_only_when_another_container_is_needed() {
        for (kind, terminal_for, refused) in [
            (FailureKind::InvalidParameter, Some(1), true),
            (FailureKind::TooLarge, Some(1), true),
            (FailureKind::InvalidParameter, None, false),
            (FailureKind::AccessDenied, Some(1), false),
            (FailureKind::Refused, Some(1), false),
            (FailureKind::FunctionFailed, Some(1), false),
        ] {
            let failure = failure(kind, terminal_for);
            let retry = Retry { failure: Some(failure.clone()), ..Retry::default() };
            let mut container = container(Spec::new(config()), Status { retry, ..Status::default() });
            let expected = if refused { Started::Refused(failure) } else { Started::Recorded };
            assert_eq!(start(&mut container, at(50)), expected, "{kind:?} {terminal_for:?}");
        }
    }

    /// The failure is of second 5.
    #[test]
    fn a_missing_image_refuses_starts_only_for_a_while() {
        let hold = i64::try_from(IMAGE_ABSENCE_HOLDS.as_secs()).unwrap();
        for (terminal_for, now, refused) in [
            (Some(1), 5, true),
            (Some(1), 4 + hold, true),
            (Some(1), 5 + hold, false),
            (Some(1), 4, false),
            (None, 6, false),
        ] {
            let failure = failure(FailureKind::ImageNotFound, terminal_for);
            let retry = Retry { failure: Some(failure), ..Retry::default() };
            let mut container = container(Spec::new(config()), Status { retry, ..Status::default() });
            let is_refused = matches!(start(&mut container, at(now)), Started::Refused(_));
            assert_eq!(is_refused, refused, "{terminal_for:?} at {now}");
        }
    }

    #[test]
    fn a_cancellation_is_a_level() {
        for (mut container, expected, changes) in [
            (container(Spec::new(config()), Status::default()), Cancelled::NotRunning, false),
            (started(ended(0)), Cancelled::NotRunning, false),
            (started(None), Cancelled::Recorded, true),
            (started(Some(RunPhase::Refused)), Cancelled::Recorded, true),
            (between_restarts(), Cancelled::Recorded, true),
            (started(Some(RunPhase::Issued)), Cancelled::Issued, true),
            (started(Some(RunPhase::Running { since: at(30) })), Cancelled::Issued, true),
        ] {
            let before = container.spec.generation;
            assert_eq!(cancel(&mut container, at(50)), expected);
            assert_eq!(container.spec.generation, before + u64::from(changes));
            assert_eq!(container.spec.cancelled_at, changes.then(|| at(50)));
            let again = cancel(&mut container, at(60));
            assert_eq!(again == Cancelled::Issued, expected == Cancelled::Issued, "once more is the same");
            assert_eq!(container.spec.generation, before + u64::from(changes), "and changes nothing");
        }
    }

    #[test]
    fn a_removal_of_what_runs_needs_force() {
        for (container, force, expected) in [
            (container(Spec::new(config()), Status::default()), false, Removed::Recorded),
            (started(ended(0)), false, Removed::Recorded),
            (started(None), false, Removed::Running),
            (between_restarts(), false, Removed::Running),
            (started(Some(RunPhase::Issued)), false, Removed::Running),
            (started(Some(RunPhase::Issued)), true, Removed::Recorded),
        ] {
            let mut after = container.clone();
            assert_eq!(remove(&mut after, force, at(50)), expected);
            let recorded = expected == Removed::Recorded;
            assert_eq!(after.spec.remove, recorded.then(|| at(50)));
            assert_eq!(after.spec.generation, container.spec.generation + u64::from(recorded));
        }
    }
}
