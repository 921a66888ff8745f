//! The extra object `Sockerless` of inspect: what Docker has no field for. PURE.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::limits;
use crate::state::model::life::{Life, again, current_run, is_waiting_to_be_issued, life};
use crate::state::model::{Cause, Container, FunctionState, Known, Run, RunPhase, UnknownOutcome};

/// What is known of the container in AWS.
pub(super) fn sockerless(container: &Container) -> Value {
    let status = &container.status;
    let run = status.run.as_ref();
    let function = match &status.function {
        Known::Is(function) => Some(function),
        Known::Absent | Known::Maybe => None,
    };
    let function_name =
        function.map(|function| function.name.as_str()).or_else(|| Some(run?.issued.as_ref()?.function_name.as_str()));
    let settings = &container.spec.config.function;
    json!({
        "FunctionName": function_name,
        "FunctionArn": function.map(|function| function.arn.as_str()),
        "ImageUri": container.spec.config.image_uri,
        "ResolvedImageUri": function.and_then(|function| function.resolved_image.as_deref()),
        "MemoryMB": settings.memory_mb,
        "TimeoutSeconds": settings.timeout_s,
        "Architecture": settings.architecture,
        "Protocol": settings.protocol,
        "InvocationType": run.and_then(|run| run.issued.as_ref()).map_or(settings.invocation, |issued| issued.kind),
        "DeletionPolicy": settings.deletion_policy,
        "UnknownOutcome": settings.unknown_outcome,
        "Reruns": status.reruns,
        "RunNumber": run.map_or(0, |run| run.no),
        "RequestId": run.and_then(|run| run.request_id.as_deref()),
        "LogGroup": settings.log_group,
        "LogStream": run.and_then(|run| run.log_stream.as_deref()),
        "SecondRuns": run.map_or(0, |run| run.second_runs),
        "Result": run.and_then(|run| run.result.as_deref()).map(shortened),
        "Report": run.and_then(report),
        "Attempts": status.retry.attempts,
        "NextAttempt": status.retry.not_before.map(|time| time.to_string()),
        "LastError": last_error(container),
        "Generation": container.spec.generation,
        "ObservedGeneration": status.observed_generation,
        "Conditions": conditions(container),
    })
}

fn shortened(result: &str) -> &str {
    let end = result.floor_char_boundary(limits::MAX_RESULT_BYTES);
    result.get(..end).unwrap_or(result)
}

fn report(run: &Run) -> Option<Value> {
    run.report.as_ref().map(|report| {
        json!({
            "DurationMs": ms(report.duration_us),
            "BilledDurationMs": ms(report.billed_us),
            "InitDurationMs": report.init_us.map(ms),
            "MemorySizeMB": report.memory_mb,
            "MaxMemoryUsedMB": report.max_memory_mb,
        })
    })
}

/// Milliseconds with their decimals.
fn ms(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64() * 1_000.0
}

fn last_error(container: &Container) -> Option<Value> {
    container.status.retry.failure.as_ref().map(|failure| {
        json!({
            "Kind": failure.kind,
            "Action": failure.action,
            "Message": failure.message,
            "RequestId": failure.request_id,
            "At": failure.at.to_string(),
            "Terminal": failure.terminal_for.is_some(),
        })
    })
}

/// A statement about the container that is true or false, and why.
fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> Value {
    json!({
        "type": kind,
        "status": if holds { "True" } else { "False" },
        "reason": reason,
        "message": message,
    })
}

fn conditions(container: &Container) -> Vec<Value> {
    let status = &container.status;
    let mut list = vec![function_ready(container), invoked(container), run_started(container)];
    if let Known::Is(function) = &status.function
        && !function.drift.is_empty()
    {
        let message = format!("not as wanted: {}", function.drift.join(", "));
        list.push(condition("Drifted", true, "SettingsDiffer", &message));
    }
    if status.logs_missing {
        let message = "an answer came, but no line of the run appeared in the log: the role may not write logs";
        list.push(condition("LogsMissing", true, "NoLogLine", message));
    }
    list.extend(outcome_unknown(container));
    if let Some(failure) = &status.retry.failure {
        let reason = if failure.terminal_for.is_some() { "GivenUp" } else { "Failed" };
        let message = format!("{}: {}", failure.action, failure.message);
        list.push(condition("Retrying", failure.terminal_for.is_none(), reason, &message));
    }
    if status.run.as_ref().is_some_and(|run| run.second_runs > 0) {
        let message = "Lambda delivered the event more than once; the first run counts";
        list.push(condition("RanTwice", true, "DuplicateDelivery", message));
    }
    list
}

/// The last run of the current start ended in a way that nobody can tell.
fn outcome_unknown(container: &Container) -> Option<Value> {
    let (spec, status) = (&container.spec, &container.status);
    let RunPhase::Exited(exit) = &current_run(spec, status)?.phase else { return None };
    let reason = match (spec.config.function.unknown_outcome, again(spec, status)) {
        (UnknownOutcome::Fail, _) => "AtMostOnce",
        (UnknownOutcome::Rerun, Some(_)) => "RunAgain",
        (UnknownOutcome::Rerun, None) => "GivenUp",
    };
    (exit.cause == Cause::Unknown).then(|| condition("OutcomeUnknown", true, reason, &exit.message))
}

fn function_ready(container: &Container) -> Value {
    let (ready, reason, message) = match &container.status.function {
        Known::Absent => (false, "Absent", "the function is not made yet, or gone"),
        Known::Maybe => (false, "Unknown", "a call was not answered: the function is being looked for"),
        Known::Is(function) => match &function.state {
            FunctionState::Pending => (false, "Pending", "Lambda prepares the function"),
            FunctionState::Active if function.updating => (false, "Updating", "Lambda carries out an update"),
            FunctionState::Active => (true, "Active", ""),
            FunctionState::Inactive => (false, "Inactive", "Lambda put the function to sleep; a start wakes it"),
            FunctionState::Failed { code, reason } => (false, code.as_str(), reason.as_str()),
            FunctionState::Other(state) => (false, state.as_str(), ""),
        },
    };
    condition("FunctionReady", ready, reason, message)
}

fn invoked(container: &Container) -> Value {
    let (spec, status) = (&container.spec, &container.status);
    let run = current_run(spec, status);
    let (holds, reason, message) = match run.map(|run| &run.phase) {
        _ if spec.starts == 0 => (false, "NotStarted", "no start is wished"),
        _ if again(spec, status).is_some() => (false, "Again", "the run has ended and is repeated"),
        _ if is_waiting_to_be_issued(spec, status) => {
            (false, "Waiting", "the start waits for its function or its turn")
        }
        None => (false, "Cancelled", "the start was cancelled before it was issued"),
        Some(RunPhase::Refused) => (false, "Refused", "Lambda refused the invocation: nothing ran"),
        Some(RunPhase::Issued) => (true, "Issued", "the invocation was sent; Lambda has not answered yet"),
        Some(RunPhase::Accepted { .. }) => (true, "Accepted", "Lambda has the event in its queue"),
        Some(RunPhase::Running { .. }) => (true, "Running", ""),
        Some(RunPhase::Exited(exit)) => (run.is_some_and(|run| run.issued.is_some()), "Ended", exit.message.as_str()),
    };
    condition("Invoked", holds, reason, message)
}

fn run_started(container: &Container) -> Value {
    let run = current_run(&container.spec, &container.status);
    let seen = match run.map(|run| &run.phase) {
        Some(RunPhase::Running { .. }) => true,
        Some(RunPhase::Exited(exit)) => exit.started_at.is_some(),
        _ => false,
    };
    let ended = matches!(life(&container.spec, &container.status), Life::Exited(_));
    let reason = match (seen, ended) {
        (true, _) => "Seen",
        (false, true) => "NeverSeen",
        (false, false) => "NotYet",
    };
    condition("RunStarted", seen, reason, "")
}
