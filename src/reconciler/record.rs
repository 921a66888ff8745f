//! From new facts to what is written with them: events, the due time, the numbers. PURE but for the metrics.

use super::learn;
use crate::clock::Timestamp;
use crate::state::model::life::{self, Life};
use crate::state::model::{Cause, Container, Exit, InvocationKind, Known, Run, RunPhase, Status};
use crate::state::{ContainerEvent, FactWrite};
use crate::telemetry;

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

/// Counts what changed.
pub(super) fn observe_change(before: &Status, after: &Status) {
    if let Some((run, exit)) = new_exit(before, after) {
        let invocation = match run.issued.as_ref().map(|issued| issued.kind) {
            Some(InvocationKind::RequestResponse) => "RequestResponse",
            Some(InvocationKind::Event) => "Event",
            None => "none",
        };
        metrics::counter!(telemetry::RUNS_TOTAL, "invocation" => invocation, "outcome" => outcome(exit)).increment(1);
        if exit.cause == Cause::Unknown {
            metrics::counter!(telemetry::UNKNOWN_OUTCOMES).increment(1);
        }
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

fn has_drift(status: &Status) -> bool {
    matches!(&status.function, Known::Is(function) if !function.drift.is_empty())
}

/// The run that has an end now and had none before.
fn new_exit<'a>(before: &Status, after: &'a Status) -> Option<(&'a Run, &'a Exit)> {
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

/// A container's state as the metrics count it, in Docker's words.
pub(super) fn state_name(container: &Container) -> &'static str {
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
