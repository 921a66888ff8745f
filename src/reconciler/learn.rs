//! Folding what was seen into the facts. PURE: an observation is never an error.
//!
//! # Guarantees
//! - Learning the same thing twice changes nothing: log lines come late, again, and in any order.
//! - Evidence belongs to a run by its token or by its bound request id, never by time alone.
//! - The first end that is learned stands.
//! - A REPORT that leaves the end open ([`verdict::leaves_open`]) is kept, and settles nothing: a line that says more may
//!   come before or after it, on the same page or a later one. The plan settles the run by it when the log was read far
//!   enough for such a line ([`settled_by`]).
//!
//! # Assumptions
//! - The caller hands in lines of streams of this container's functions only.

use std::time::Duration;

use sockerless_bootstrap::protocol::Marker;

use super::earlier;
use super::function_failure::learn_failed;
use super::lines::{Line, Says};
use super::verdict::{self, End};
use crate::clock::Timestamp;
use crate::state::model::bounds::{MAX_LOG_STREAMS, MAX_RESULT_BYTES, MAX_STARTS_SEEN};
use crate::state::model::lambda_log::PlatformLine;
use crate::state::model::text::bounded;
use crate::state::model::{
    Cause, Failure, FailureKind, Function, FunctionFailures, FunctionState, InvocationKind, Known, LogTail, Protocol,
    Report, Retry, Run, RunPhase, Spec, Status,
};

/// How far our clock and AWS's may be apart.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
/// After a create was sent, "not found" proves nothing for so long.
pub(crate) const CREATE_SETTLE: Duration = Duration::from_secs(60);

/// Something that was seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Evidence {
    /// AWS described the function, and its tags say that it is ours (or we have just made it).
    Function(Function),
    /// AWS says that there is no such function.
    NoFunction,
    /// A function of that name exists, and its tags do not say that it is ours.
    ForeignFunction {
        /// Its name.
        name: String,
    },
    /// A RequestResponse invocation was answered.
    Answer(RunAnswer),
    /// A line of the log.
    Line(Line),
}

/// The answer to a RequestResponse invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunAnswer {
    /// The run.
    pub(crate) run_no: u64,
    /// Lambda's id of the invocation.
    pub(crate) request_id: Option<String>,
    /// `X-Amz-Function-Error` was set.
    pub(crate) function_error: bool,
    /// What the function answered.
    pub(crate) payload: Vec<u8>,
    /// The last 4 KB of the log.
    pub(crate) log_tail: Option<String>,
}

/// The facts after the evidence.
#[must_use]
pub(crate) fn learn(now: Timestamp, spec: &Spec, mut status: Status, evidence: &Evidence) -> Status {
    match evidence {
        Evidence::Function(function) => learn_function(now, &mut status, function),
        Evidence::NoFunction => learn_absence(now, &mut status),
        Evidence::ForeignFunction { name } => learn_foreign(now, &mut status, name),
        Evidence::Answer(answer) => learn_answer(now, spec, &mut status, answer),
        Evidence::Line(line) => learn_line(now, spec, &mut status, line),
    }
    status
}

fn learn_function(now: Timestamp, status: &mut Status, seen: &Function) {
    let mut function = seen.clone();
    if let Known::Is(before) = &status.function {
        function.event_config |= before.event_config && before.name == function.name;
        function.resolved_image = function.resolved_image.or_else(|| before.resolved_image.clone());
    }
    status.missing_since = None;
    status.function_seen = true;
    match &function.state {
        FunctionState::Failed { code, reason } => learn_failed(now, status, code, reason),
        FunctionState::Active => status.function_failures = FunctionFailures::default(),
        FunctionState::Pending | FunctionState::Inactive | FunctionState::Other(_) => {}
    }
    status.function = Known::Is(function);
}

/// One "not found" may be stale; two are knowledge, once a create can no longer be under way. A create whose function was
/// never seen has had no effect then: it counts as not sent.
fn learn_absence(now: Timestamp, status: &mut Status) {
    let settled = status.create_sent_at.is_none_or(|sent| now >= sent.after(CREATE_SETTLE));
    let seen_before = status.missing_since.is_some_and(|first| first < now);
    status.function = if status.create_sent_at.is_none() || (settled && seen_before) {
        status.missing_since = None;
        if !status.function_seen {
            status.create_sent_at = None;
        }
        Known::Absent
    } else {
        status.missing_since.get_or_insert(now);
        Known::Maybe
    };
}

/// Somebody else's function has our name: it is left alone, and another name is tried.
fn learn_foreign(now: Timestamp, status: &mut Status, name: &str) {
    status.function = Known::Absent;
    status.create_sent_at = None;
    status.missing_since = None;
    status.incarnation = status.incarnation.saturating_add(1);
    status.retry.failure = Some(Failure {
        kind: FailureKind::Conflict,
        action: "CreateFunction".to_owned(),
        message: format!("lambda: a function named {name} exists that is not ours by its tags"),
        request_id: None,
        at: now,
        terminal_for: None,
    });
}

fn learn_answer(now: Timestamp, spec: &Spec, status: &mut Status, answer: &RunAnswer) {
    let protocol = spec.config.function.protocol;
    let Some(run) = status.run.as_mut().filter(|run| run.no == answer.run_no) else { return };
    let Some(issued) = &run.issued else { return };
    let end = verdict::of_answer(protocol, &issued.token, answer.function_error, &answer.payload);
    let (issued_at, token) = (issued.at, issued.token.clone());
    run.request_id = run.request_id.take().or_else(|| answer.request_id.clone());
    run.tail = answer.log_tail.as_ref().map(|text| log_tail(text, run.request_id.as_deref()));
    run.result = Some(result(&answer.payload, &token));
    if let Some(end) = end {
        settle(run, end, Some(issued_at), now);
    }
    status.retry = Retry::default();
}

fn log_tail(text: &str, request_id: Option<&str>) -> LogTail {
    let lines = || text.lines().filter_map(PlatformLine::parse).filter(|(id, _)| Some(*id) == request_id);
    let starts = lines().any(|(_, line)| line == PlatformLine::Start);
    let reports = lines().any(|(_, line)| matches!(line, PlatformLine::Report(_)));
    LogTail { text: text.to_owned(), complete: starts && reports }
}

/// The answer as clients may see it: without the token, by which a line is known to be the bootstrap's own.
fn result(payload: &[u8], token: &str) -> String {
    bounded(&String::from_utf8_lossy(payload).replace(token, "(token)"), MAX_RESULT_BYTES)
}

/// Gives a run its end, if it has none. `fallback_start` stands in for a start that nobody saw.
pub(crate) fn settle(run: &mut Run, end: End, fallback_start: Option<Timestamp>, finished_at: Timestamp) {
    let started_at = match run.phase {
        RunPhase::Exited(_) => return,
        RunPhase::Running { since } => Some(since),
        RunPhase::Refused | RunPhase::Issued | RunPhase::Accepted { .. } => fallback_start,
    };
    run.phase = RunPhase::Exited(end.at(started_at, finished_at));
}

fn learn_line(now: Timestamp, spec: &Spec, status: &mut Status, line: &Line) {
    let protocol = spec.config.function.protocol;
    let past = &status.past_request_ids;
    let Some(run) = status.run.as_mut() else { return };
    if !belongs(run, past, protocol, line) {
        if let Some(request_id) = earlier_run_of(past, line) {
            earlier::note_line_of(request_id, status);
            remember_stream(status, &line.stream);
        }
        return;
    }
    if run.log_stream.is_none() {
        run.log_stream = Some(line.stream.clone());
    }
    match &line.says {
        Says::Start { request_id } => {
            run.request_id.get_or_insert_with(|| request_id.clone());
            if protocol == Protocol::Native {
                see_start(run, line);
            }
        }
        Says::Marker(marker) => learn_marker(run, line, marker),
        Says::TimedOut { .. } => learn_failure(run, line, End::deadline()),
        Says::Failed { error_type, message, .. } => {
            learn_failure(run, line, verdict::of_error(error_type, message));
        }
        Says::Report { report, .. } => learn_report(now, run, protocol, line, report),
    }
    remember_stream(status, &line.stream);
    status.logs_missing = false;
}

fn remember_stream(status: &mut Status, stream: &str) {
    if !status.log_streams.iter().any(|known| known == stream) {
        status.log_streams.push(stream.to_owned());
        let surplus = status.log_streams.len().saturating_sub(MAX_LOG_STREAMS);
        status.log_streams.drain(..surplus);
    }
}

/// The request id of an earlier run, if the line carries one. The log delivers lines seconds late, and the next run may have
/// been issued by then: the line still shows where the earlier run's output is.
fn earlier_run_of<'a>(past_request_ids: &[String], line: &'a Line) -> Option<&'a str> {
    match &line.says {
        // What a marker proves, its token proves: the request id in it may be anyone's.
        Says::Marker(_) => None,
        Says::Start { request_id }
        | Says::TimedOut { request_id }
        | Says::Failed { request_id, .. }
        | Says::Report { request_id, .. } => {
            Some(request_id.as_str()).filter(|_| past_request_ids.contains(request_id))
        }
    }
}

/// Whether a line is about this run: by token, or by request id.
fn belongs(run: &Run, past_request_ids: &[String], protocol: Protocol, line: &Line) -> bool {
    let Some(issued) = &run.issued else { return false };
    match &line.says {
        Says::Marker(Marker::Start { token, .. } | Marker::Exit { token, .. } | Marker::Duplicate { token, .. }) => {
            *token == issued.token
        }
        Says::Start { request_id } if run.request_id.is_none() => {
            protocol == Protocol::Native
                && !past_request_ids.contains(request_id)
                && line.at >= issued.at.before(CLOCK_SKEW)
        }
        Says::Start { request_id }
        | Says::TimedOut { request_id }
        | Says::Failed { request_id, .. }
        | Says::Report { request_id, .. } => run.request_id.as_ref() == Some(request_id),
    }
}

fn learn_marker(run: &mut Run, line: &Line, marker: &Marker) {
    match marker {
        Marker::Start { request_id, .. } => {
            run.request_id.get_or_insert_with(|| request_id.clone());
            see_start(run, line);
        }
        Marker::Exit { exit_code, reason, .. } => {
            if let Some(end) = verdict::of_bootstrap(*exit_code, *reason, None) {
                settle(run, end, None, line.at);
            }
        }
        Marker::Duplicate { .. } => {}
    }
}

/// The program was seen to start. A second place is a second run: Lambda may deliver an event twice.
fn see_start(run: &mut Run, line: &Line) {
    let place = format!("{}@{}", line.stream, line.at.as_millis());
    if !run.starts_seen.contains(&place) && run.starts_seen.len() < MAX_STARTS_SEEN {
        run.starts_seen.push(place);
        run.second_runs = u32::try_from(run.starts_seen.len().saturating_sub(1)).unwrap_or(u32::MAX);
    }
    match &mut run.phase {
        RunPhase::Issued | RunPhase::Accepted { .. } => run.phase = RunPhase::Running { since: line.at },
        RunPhase::Exited(exit) if run.starts_seen.len() == 1 => exit.started_at = Some(line.at),
        RunPhase::Exited(_) | RunPhase::Running { .. } | RunPhase::Refused => {}
    }
}

/// A line that tells of a failure. Beside a REPORT of another stream it is about a second delivery of the same event:
/// what ended first is the run.
fn learn_failure(run: &mut Run, line: &Line, end: End) {
    if run.report.as_ref().is_none_or(|report| report.stream == line.stream) {
        settle(run, end, None, line.at);
    }
}

/// The first REPORT is the run's: it is kept, and settles the run at once if nothing can say more.
///
/// Of one stream the earliest counts, in whatever order they are read: Lambda may deliver an event again to the environment
/// that has run it. The bootstrap refuses that, which is a success of the same request id.
fn learn_report(now: Timestamp, run: &mut Run, protocol: Protocol, line: &Line, report: &Report) {
    let later = |kept: &Report| kept.stream == line.stream && kept.at > line.at;
    let seen = || Report { seen_at: now, at: line.at, stream: line.stream.clone(), ..report.clone() };
    let report = run.report.take().filter(|kept| !later(kept)).unwrap_or_else(seen);
    if !verdict::leaves_open(&report.status)
        && let Some(end) = verdict::of_report(protocol, &report.status)
    {
        settle(run, end, None, report.at);
    }
    run.report = Some(report);
    run.log_closed = true;
    mark_out_of_memory(run);
}

/// A program that was killed while the function's memory was used up was killed for that.
fn mark_out_of_memory(run: &mut Run) {
    let full =
        run.report.as_ref().is_some_and(|report| report.memory_mb > 0 && report.max_memory_mb >= report.memory_mb);
    if let RunPhase::Exited(exit) = &mut run.phase
        && full
        && exit.cause == Cause::Exited
        && exit.code == 137
    {
        exit.cause = Cause::OutOfMemory;
        exit.message = "the function ran out of memory".to_owned();
    }
}

/// How far the log must have been read, late lines included, before a run without an end is settled by what it does not
/// show. A REPORT may be read long after it was written, and other lines later still.
#[must_use]
pub(crate) fn settled_by(run: &Run) -> Option<Timestamp> {
    let issued = run.issued.as_ref()?;
    Some(run.report.as_ref().map_or(issued.deadline, |report| report.seen_at))
}

/// Whether lines of the run, or of the last invocation before it, are still to be looked for in the log.
#[must_use]
pub(crate) fn watched(status: &Status) -> bool {
    status.run.as_ref().is_some_and(|run| match run.phase {
        RunPhase::Refused => false,
        RunPhase::Issued | RunPhase::Accepted { .. } | RunPhase::Running { .. } => true,
        RunPhase::Exited(_) if run.issued.is_none() => status.last_issued.is_some(),
        RunPhase::Exited(_) => !run.log_closed,
    })
}

/// Whether an answer came on a connection of ours: then a missing log is the role's fault.
#[must_use]
pub(crate) fn was_answered(run: &Run) -> bool {
    run.result.is_some() && run.issued.as_ref().is_some_and(|issued| issued.kind == InvocationKind::RequestResponse)
}
