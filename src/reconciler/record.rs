//! From new facts to what is written with them: events, the due time, the numbers. PURE but for the metrics.

use std::time::Duration;

use super::census::{Counted, DEAD};
use super::learn;
use crate::clock::Timestamp;
use crate::state::model::life::{self, Life};
use crate::state::model::{
    Cause, Container, ContainerId, Exit, FunctionState, InvocationKind, Known, Report, Run, RunPhase, Status,
};
use crate::state::{ContainerEvent, FactWrite};
use crate::telemetry;

/// Lambda counts memory in units of 1,024 × 1,024 bytes.
const BYTES_PER_MB: f64 = 1_048_576.0;

/// The write that replaces a container's facts.
pub(super) fn fact_write(stored: &Container, status: &Status, due_at: Option<Timestamp>, now: Timestamp) -> FactWrite {
    FactWrite {
        id: stored.id,
        revision: stored.revision,
        status: status.clone(),
        due_at,
        watched: learn::watched(status),
        events: events_between(&stored.status, status, now),
    }
}

/// The events that follow from a change of facts.
pub(super) fn events_between(before: &Status, after: &Status, now: Timestamp) -> Vec<ContainerEvent> {
    if is_repeated(before, after) {
        return vec![ContainerEvent { at: now, action: "start", attributes: Vec::new() }];
    }
    let Some((_, exit)) = new_exit(before, after) else { return Vec::new() };
    let lasted = exit.started_at.map_or(0, |started| exit.finished_at.since(started).as_secs());
    let mut events = Vec::new();
    if exit.cause == Cause::OutOfMemory {
        events.push(ContainerEvent { at: now, action: "oom", attributes: Vec::new() });
    }
    let mut attributes = vec![("execDuration", lasted.to_string()), ("exitCode", exit.code.to_string())];
    if !exit.message.is_empty() {
        attributes.push(("error", exit.message.clone()));
    }
    events.push(ContainerEvent { at: now, action: "die", attributes });
    events
}

/// Whether a start that had an end is run once more. (A start's first run was told of when it was wished.)
fn is_repeated(before: &Status, after: &Status) -> bool {
    let (Some(old), Some(new)) = (&before.run, &after.run) else { return false };
    matches!(old.phase, RunPhase::Exited(_)) && new.start == old.start && new.no > old.no
}

/// Counts what changed, and says once that an outcome is unknown.
pub(super) fn observe_change(id: &ContainerId, before: &Status, after: &Status) {
    if let Some((run, exit)) = new_exit(before, after) {
        let invocation = match run.issued.as_ref().map(|issued| issued.kind) {
            Some(InvocationKind::RequestResponse) => "RequestResponse",
            Some(InvocationKind::Event) => "Event",
            None => "none",
        };
        metrics::counter!(telemetry::RUNS_TOTAL, "invocation" => invocation, "outcome" => outcome(exit)).increment(1);
        if let Some(started_at) = exit.started_at {
            metrics::histogram!(telemetry::RUN_SECONDS).record(exit.finished_at.since(started_at));
        }
        if exit.cause == Cause::Unknown {
            metrics::counter!(telemetry::UNKNOWN_OUTCOMES).increment(1);
            tracing::warn!(
                container = %id,
                run = run.no,
                invocation,
                aws_request_id = run.request_id.as_deref().unwrap_or_default(),
                reruns = after.reruns,
                reason = exit.message,
                "nobody can tell how a run ended"
            );
        }
    }
    if let Some(report) = new_report(before, after) {
        observe_report(report);
    }
    if let Some(took) = became_active(before, after) {
        metrics::histogram!(telemetry::CREATE_TO_ACTIVE).record(took);
    }
    match (has_drift(before), has_drift(after)) {
        (false, true) => metrics::counter!(telemetry::DRIFT_FOUND, "kind" => "changed").increment(1),
        (true, false) if matches!(after.function, Known::Is(_)) => {
            metrics::counter!(telemetry::DRIFT_MENDED, "kind" => "changed").increment(1);
        }
        _ => {}
    }
    if matches!(before.function, Known::Is(_)) && after.missing_since.is_some() {
        metrics::counter!(telemetry::DRIFT_FOUND, "kind" => "missing").increment(1);
    }
    let second_runs = |status: &Status| status.run.as_ref().map_or((0, 0), |run| (run.no, run.second_runs));
    let ((run_before, before), (run_after, after)) = (second_runs(before), second_runs(after));
    if run_before == run_after && after > before {
        metrics::counter!(telemetry::SECOND_RUNS).increment(u64::from(after - before));
    }
}

fn observe_report(report: &Report) {
    let billed = Duration::from_micros(report.billed_us).as_secs_f64();
    metrics::histogram!(telemetry::BILLED_SECONDS).record(billed);
    metrics::histogram!(telemetry::BILLED_MEMORY_SECONDS).record(billed * f64::from(report.memory_mb) * BYTES_PER_MB);
    metrics::histogram!(telemetry::MEMORY_USED).record(f64::from(report.max_memory_mb) * BYTES_PER_MB);
    if let Some(init_us) = report.init_us {
        metrics::histogram!(telemetry::INIT_SECONDS).record(Duration::from_micros(init_us).as_secs_f64());
    }
}

/// The REPORT line that is known now and was not before.
fn new_report<'a>(before: &Status, after: &'a Status) -> Option<&'a Report> {
    let run = after.run.as_ref()?;
    let had_it = before.run.as_ref().is_some_and(|old| old.no == run.no && old.report.is_some());
    run.report.as_ref().filter(|_| !had_it)
}

/// How long Lambda took to make a function, if it is ready now and was not before.
fn became_active(before: &Status, after: &Status) -> Option<Duration> {
    let is_made = matches!(&before.function, Known::Is(function) if function.state == FunctionState::Pending);
    let Known::Is(function) = &after.function else { return None };
    let sent = after.create_sent_at.filter(|_| is_made && function.state == FunctionState::Active)?;
    Some(function.seen_at.since(sent))
}

fn has_drift(status: &Status) -> bool {
    matches!(&status.function, Known::Is(function) if !function.drift.is_empty())
}

/// The run that has an end now and had none before.
pub(super) fn new_exit<'a>(before: &Status, after: &'a Status) -> Option<(&'a Run, &'a Exit)> {
    let run = after.run.as_ref()?;
    let RunPhase::Exited(exit) = &run.phase else { return None };
    let had_it = before.run.as_ref().is_some_and(|old| old.no == run.no && matches!(old.phase, RunPhase::Exited(_)));
    (!had_it).then_some((run, exit))
}

fn outcome(exit: &Exit) -> &'static str {
    match exit.cause {
        Cause::Exited if exit.code == 0 => "success",
        Cause::Exited => "failure",
        Cause::FunctionError => "function_error",
        Cause::Deadline => "timeout",
        Cause::OutOfMemory => "out_of_memory",
        Cause::Cancelled => "cancelled",
        Cause::NeverRan => "never_ran",
        Cause::Unknown => "unknown",
    }
}

/// What the metrics count of a container that cannot be read.
pub(super) fn counted_dead() -> Counted {
    Counted { state: DEAD, unconverged_since: None }
}

/// What the metrics count of a container.
pub(super) fn counted(container: &Container) -> Counted {
    Counted { state: state_name(container), unconverged_since: unconverged_since(container) }
}

/// Since when something is wished that is not so, and that can still become so: a run that is under way is as wished, and
/// a failure that is final needs another wish.
fn unconverged_since(container: &Container) -> Option<Timestamp> {
    let Container { spec, status, .. } = container;
    if let Some(removed) = spec.remove.or(status.auto_removed) {
        return Some(removed);
    }
    let is_final = status.retry.failure.as_ref().is_some_and(|f| f.terminal_for == Some(spec.generation));
    match life::life(spec, status) {
        _ if is_final => None,
        Life::Running { .. } if life::unsettled_run(status).is_none() => spec.started_at,
        Life::Created => {
            let is_ready = matches!(&status.function, Known::Is(function) if function.state == FunctionState::Active);
            (!is_ready).then_some(container.created_at)
        }
        Life::Running { .. } | Life::Restarting(_) | Life::Exited(_) => None,
    }
}

/// A container's state in Docker's words.
fn state_name(container: &Container) -> &'static str {
    if container.is_removed() {
        return "removing";
    }
    match life::life(&container.spec, &container.status) {
        Life::Created => "created",
        Life::Running { .. } => "running",
        Life::Restarting(_) => "restarting",
        Life::Exited(_) => "exited",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconciler::tests::{Story, t};
    use crate::state::model::{Failure, FailureKind, Protocol};

    #[test]
    fn a_wish_ages_until_it_is_so_or_cannot_be() {
        let mut story = Story::created();
        let created = story.container.created_at;
        assert_eq!(unconverged_since(&story.container), Some(created), "it has no function yet");
        let failure = Failure {
            kind: FailureKind::AccessDenied,
            action: "CreateFunction".into(),
            message: "no".into(),
            request_id: None,
            at: t(1),
            terminal_for: Some(story.container.spec.generation),
        };
        story.container.status.retry.failure = Some(failure);
        assert_eq!(unconverged_since(&story.container), None, "nothing but another wish can help");

        let mut story = Story::ready();
        assert_eq!(unconverged_since(&story.container), None);
        story.start();
        assert_eq!(unconverged_since(&story.container), story.container.spec.started_at, "its run is not issued yet");
        let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
        assert_eq!(unconverged_since(&story.container), None, "it runs, as wished");
        story.container.spec.remove = Some(t(9));
        assert_eq!(unconverged_since(&story.container), Some(t(9)));
    }

    #[test]
    fn an_end_is_told_once() {
        let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
        let before = story.container.status.clone();
        story.exit_answer(3);
        let ended = story.container.status.clone();
        let told = events_between(&before, &ended, t(1));
        assert_eq!(told.iter().map(|event| event.action).collect::<Vec<_>>(), ["die"]);
        let later = Status { logs_missing: true, ..ended.clone() };
        assert_eq!(events_between(&ended, &later, t(2)), []);
    }

    #[test]
    fn every_outcome_is_counted_from_zero() {
        let causes = [
            Cause::Exited,
            Cause::FunctionError,
            Cause::Deadline,
            Cause::OutOfMemory,
            Cause::Cancelled,
            Cause::NeverRan,
            Cause::Unknown,
        ];
        let exit = |code, cause| Exit { code, cause, message: String::new(), started_at: None, finished_at: t(1) };
        let mut seen: Vec<&str> = causes.map(|cause| outcome(&exit(3, cause))).to_vec();
        seen.insert(0, outcome(&exit(0, Cause::Exited)));
        assert_eq!(seen, telemetry::OUTCOMES);
    }
}
