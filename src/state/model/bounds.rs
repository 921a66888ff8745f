//! How large a status and the attributes of an event may be. PURE.
//!
//! Their texts come from AWS, from functions and from log lines, and are stored, listed and shown. The layers where a text
//! comes in cut what can be long; the store cuts every text of a status once more before it is written, so that no way in
//! can be forgotten. A text is cut, never refused: an observation is never an error.

use super::text::{bound, bounded};
use super::{Failure, Function, FunctionState, Known, LogTail, Report, ReportStatus, Run, RunPhase, Status};

/// Bytes of a sentence: an exit's message, a failure's, a reason.
pub const MAX_MESSAGE_BYTES: usize = 2 * 1_024;
/// Bytes of a name, an id or a code: AWS's longest names have 140, request ids 36.
pub const MAX_NAME_BYTES: usize = 160;
/// Bytes of an ARN, an image's URI or the name of a log stream, with a time behind it: AWS's longest log stream has 512.
pub const MAX_LONG_NAME_BYTES: usize = 544;
/// Log streams that are remembered of one container; the oldest are forgotten first.
pub const MAX_LOG_STREAMS: usize = 200;
/// Starts that are remembered of one run; the oldest are forgotten first.
pub const MAX_STARTS_SEEN: usize = 8;
/// Request ids of earlier runs, and drifted settings; the oldest are forgotten first.
pub const MAX_NAMES: usize = 64;
/// Bytes of a function's answer that are kept.
pub const MAX_RESULT_BYTES: usize = 64 * 1_024;
/// Bytes of the end of a log that came with an answer: Lambda sends 4 KiB, and what is no text in it may grow threefold.
pub const MAX_TAIL_BYTES: usize = 16 * 1_024;
/// Bytes of one attribute of an event; longer labels, which are data rather than names, are left out.
pub const MAX_ATTRIBUTE_BYTES: usize = 4 * 1_024;
/// Bytes of a status as JSON: what the limits above add up to, with every byte escaped that can be. Real
/// ones have some KiB.
pub const MAX_STATUS_BYTES: usize = 512 * 1_024;

impl Status {
    /// Cuts every text and every list to its limit.
    pub fn bound(&mut self) {
        if let Known::Is(function) = &mut self.function {
            bound_function(function);
        }
        if let Some(run) = &mut self.run {
            bound_run(run);
        }
        if let Some(last) = &mut self.last_issued {
            bound(&mut last.function_name, MAX_NAME_BYTES);
        }
        bound_names(&mut self.past_request_ids, MAX_NAMES, MAX_NAME_BYTES);
        bound_names(&mut self.log_streams, MAX_LOG_STREAMS, MAX_LONG_NAME_BYTES);
        if let Some(failure) = &mut self.retry.failure {
            bound_failure(failure);
        }
    }
}

/// The attributes of an event within their limit.
#[must_use]
pub fn attribute(value: &str) -> String {
    bounded(value, MAX_ATTRIBUTE_BYTES)
}

fn bound_function(function: &mut Function) {
    bound(&mut function.name, MAX_NAME_BYTES);
    bound(&mut function.arn, MAX_LONG_NAME_BYTES);
    bound_option(&mut function.resolved_image, MAX_LONG_NAME_BYTES);
    bound_names(&mut function.drift, MAX_NAMES, MAX_NAME_BYTES);
    match &mut function.state {
        FunctionState::Failed { code, reason } => {
            bound(code, MAX_NAME_BYTES);
            bound(reason, MAX_MESSAGE_BYTES);
        }
        FunctionState::Other(name) => bound(name, MAX_NAME_BYTES),
        FunctionState::Pending | FunctionState::Active | FunctionState::Inactive => {}
    }
}

fn bound_run(run: &mut Run) {
    if let Some(issued) = &mut run.issued {
        bound(&mut issued.token, MAX_NAME_BYTES);
        bound(&mut issued.function_name, MAX_NAME_BYTES);
    }
    bound_option(&mut run.request_id, MAX_NAME_BYTES);
    bound_option(&mut run.log_stream, MAX_LONG_NAME_BYTES);
    bound_names(&mut run.starts_seen, MAX_STARTS_SEEN, MAX_LONG_NAME_BYTES);
    bound_option(&mut run.result, MAX_RESULT_BYTES);
    if let RunPhase::Exited(exit) = &mut run.phase {
        bound(&mut exit.message, MAX_MESSAGE_BYTES);
    }
    if let Some(tail) = &mut run.tail {
        bound_tail(tail);
    }
    if let Some(report) = &mut run.report {
        bound_report(report);
    }
}

/// It is a program's output, and is shown as it is: only its size counts, and its end says most.
fn bound_tail(tail: &mut LogTail) {
    let surplus = tail.text.len().saturating_sub(MAX_TAIL_BYTES);
    if surplus > 0 {
        let start = tail.text.ceil_char_boundary(surplus);
        tail.text.drain(..start);
        tail.complete = false;
    }
}

fn bound_report(report: &mut Report) {
    bound(&mut report.stream, MAX_LONG_NAME_BYTES);
    if let ReportStatus::Error { error_type } = &mut report.status {
        bound(error_type, MAX_NAME_BYTES);
    }
}

fn bound_failure(failure: &mut Failure) {
    bound(&mut failure.action, MAX_NAME_BYTES);
    bound(&mut failure.message, MAX_MESSAGE_BYTES);
    bound_option(&mut failure.request_id, MAX_NAME_BYTES);
}

fn bound_option(text: &mut Option<String>, max_bytes: usize) {
    if let Some(text) = text {
        bound(text, max_bytes);
    }
}

fn bound_names(names: &mut Vec<String>, max_names: usize, max_bytes: usize) {
    let surplus = names.len().saturating_sub(max_names);
    names.drain(..surplus);
    names.iter_mut().for_each(|name| bound(name, max_bytes));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::samples::{at, exit, failure, run};
    use super::super::{Cause, FailureKind, FunctionFailures, LastIssued, Retry};
    use super::*;

    /// A status that has every text that a status can have. All fields are named, so that a new one is noticed here.
    fn full(state: FunctionState) -> Status {
        let function = Function {
            name: "n".to_owned(),
            arn: "a".to_owned(),
            state,
            updating: false,
            drift: vec!["d".to_owned()],
            event_config: false,
            resolved_image: Some("i".to_owned()),
            seen_at: at(1),
        };
        let report = Report {
            stream: "s".to_owned(),
            status: ReportStatus::Error { error_type: "e".to_owned() },
            ..Report::default()
        };
        let run = Run {
            request_id: Some("r".to_owned()),
            log_stream: Some("s".to_owned()),
            starts_seen: vec!["s@1".to_owned()],
            tail: Some(LogTail { text: "t".to_owned(), complete: true }),
            result: Some("r".to_owned()),
            report: Some(report),
            ..run(1, RunPhase::Exited(exit(1, Cause::FunctionError)))
        };
        let failure = Failure { request_id: Some("r".to_owned()), ..failure(FailureKind::Conflict, None) };
        Status {
            observed_generation: 1,
            incarnation: 0,
            function: Known::Is(function),
            create_sent_at: None,
            function_seen: true,
            missing_since: None,
            function_failures: FunctionFailures { count: 1, counted_for: Some(at(1)) },
            retire: false,
            run: Some(run),
            busy_until: Some(at(1)),
            busy_since: Some(at(1)),
            last_issued: Some(LastIssued { function_name: "f".to_owned(), at: at(1), looked_for_until: at(1) }),
            restarts: 0,
            reruns: 0,
            past_request_ids: vec!["r".to_owned()],
            log_streams: vec!["s".to_owned()],
            retry: Retry { failure: Some(failure), ..Retry::default() },
            auto_removed: None,
            logs_missing: false,
        }
    }

    /// Every text becomes `text`, and every list `copies` of its beginning; words of an enum stay, since others cannot be read.
    fn fill(value: &mut Value, text: &str, copies: usize) {
        const WORDS: [&str; 4] = ["RequestResponse", "function_error", "conflict", "absent"];
        match value {
            Value::String(kept) if WORDS.contains(&kept.as_str()) => {}
            Value::String(old) => text.clone_into(old),
            Value::Array(list) => {
                *list = vec![Value::String(text[..text.floor_char_boundary(2_000)].to_owned()); copies];
            }
            Value::Object(map) => map.values_mut().for_each(|value| fill(value, text, copies)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn filled(state: FunctionState, text: &str, copies: usize) -> Status {
        let mut value = serde_json::to_value(full(state)).unwrap();
        fill(&mut value, text, copies);
        serde_json::from_value(value).unwrap()
    }

    fn size(status: &Status) -> usize {
        serde_json::to_string(status).unwrap().len()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_status_is_stored_within_its_limit(
            piece in "\\PC{1,8}|[\\x00-\\x1f\"\\\\]{1,8}", times in 0_usize..40_000, copies in 0_usize..300,
        ) {
            let text = piece.repeat(times);
            let states = [
                FunctionState::Failed { code: "c".to_owned(), reason: "r".to_owned() },
                FunctionState::Other("o".to_owned()),
            ];
            for state in states {
                let mut status = filled(state, &text, copies);
                status.bound();
                prop_assert!(size(&status) <= MAX_STATUS_BYTES, "{} bytes", size(&status));
                let bounded = status.clone();
                status.bound();
                prop_assert_eq!(&status, &bounded, "bounding twice changes nothing");
                let read: Status = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
                prop_assert_eq!(&read, &status);
            }
        }
    }

    #[test]
    fn the_largest_status_is_within_its_limit() {
        for char in ["\"", "\\", "\n", "\u{0}", "é", "𝄞"] {
            let mut status = filled(FunctionState::Other("o".to_owned()), &char.repeat(200_000), MAX_LOG_STREAMS * 2);
            assert!(size(&status) > MAX_STATUS_BYTES);
            status.bound();
            assert!(size(&status) <= MAX_STATUS_BYTES, "{char:?}: {}", size(&status));
        }
    }

    #[test]
    fn what_is_small_stays_as_it_is() {
        let status = full(FunctionState::Active);
        let mut bounded = status.clone();
        bounded.bound();
        assert_eq!(bounded, status);
    }

    #[test]
    fn of_a_long_tail_the_end_is_kept() {
        let mut tail = LogTail { text: format!("{}\u{1b}[1mend", "é".repeat(MAX_TAIL_BYTES)), complete: true };
        bound_tail(&mut tail);
        assert!(tail.text.len() <= MAX_TAIL_BYTES && tail.text.ends_with("é\u{1b}[1mend") && !tail.complete);
    }
}
