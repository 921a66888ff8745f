//! From what a function answered, or its log said, to an exit code. PURE.
//!
//! | what was seen | code | cause |
//! |---|---|---|
//! | the bootstrap's answer or exit line | the program's | exited, or deadline |
//! | a native handler returned | 0 | exited |
//! | `exit status N` | N | function error |
//! | `signal: killed`: Lambda's word for too little memory | 137 | out of memory |
//! | the invocation's time was up | 137 | deadline |
//! | any other function error | 1 | function error |
//!
//! A REPORT line is the weakest evidence: most do not tell the code, and one without a status may even hide a failure.
//! So what it leaves open is settled by a line that says more, and by the REPORT only if there is no such line.

use serde::Deserialize;
use serde::de::IgnoredAny;
use sockerless_bootstrap::protocol::{Answer, Reason, Verdict};

use crate::clock::Timestamp;
use crate::state::model::bounds::MAX_MESSAGE_BYTES;
use crate::state::model::life::{KILLED, NOT_THE_PROGRAM};
use crate::state::model::text::bounded_line;
use crate::state::model::{Cause, Exit, Protocol, ReportStatus};

/// What Lambda calls the failure of a runtime that has exited, with whatever status.
const EXIT_ERROR: &str = "Runtime.ExitError";

/// How a run ended, before it is known when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    code: u8,
    cause: Cause,
    message: String,
}

impl End {
    /// `message` may be a program's own words.
    pub(crate) fn new(code: u8, cause: Cause, message: impl AsRef<str>) -> Self {
        Self { code, cause, message: bounded_line(message.as_ref(), MAX_MESSAGE_BYTES) }
    }

    /// The time was up.
    pub(crate) fn deadline() -> Self {
        Self::new(KILLED, Cause::Deadline, "the function's time was up")
    }

    /// Nobody can tell. `reruns`: how often it was run again before for the same reason.
    pub(crate) fn unknown(why: &str, reruns: u32) -> Self {
        let often = match reruns {
            0 => String::new(),
            reruns => format!("; it was run {} times", reruns.saturating_add(1)),
        };
        Self::new(NOT_THE_PROGRAM, Cause::Unknown, format!("outcome unknown: {why}{often}"))
    }

    /// It will not be run.
    pub(crate) fn never_ran(why: impl AsRef<str>) -> Self {
        Self::new(NOT_THE_PROGRAM, Cause::NeverRan, why)
    }

    /// The exit, with its times.
    pub(crate) fn at(self, started_at: Option<Timestamp>, finished_at: Timestamp) -> Exit {
        Exit { code: self.code, cause: self.cause, message: self.message, started_at, finished_at }
    }
}

/// What the bootstrap said of a program's end. `None`: a refused duplicate, which settles nothing.
#[must_use]
pub(crate) fn of_bootstrap(exit_code: u8, reason: Reason, message: Option<&str>) -> Option<End> {
    match reason {
        Reason::Exited | Reason::Signalled => Some(End::new(exit_code, Cause::Exited, "")),
        Reason::Deadline => Some(End::deadline()),
        Reason::NotStarted => {
            Some(End::new(exit_code, Cause::Exited, message.unwrap_or("the program could not be started")))
        }
        Reason::Duplicate => None,
    }
}

/// What the answer to a RequestResponse invocation proves. `None`: nothing (a refused duplicate, or an answer that was cut
/// off on its way); the log will tell.
#[must_use]
pub(crate) fn of_answer(protocol: Protocol, token: &str, function_error: bool, payload: &[u8]) -> Option<End> {
    if (function_error || protocol == Protocol::Bootstrap) && is_cut_off(payload) {
        return None;
    }
    if function_error {
        return Some(of_function_error(payload));
    }
    match (protocol, serde_json::from_slice::<Answer>(payload)) {
        (Protocol::Native, _) => Some(End::new(0, Cause::Exited, "")),
        (Protocol::Bootstrap, Ok(Answer { sockerless: verdict })) if verdict.token == token => {
            let Verdict { exit_code, reason, message, .. } = verdict;
            of_bootstrap(exit_code, reason, message.as_deref())
        }
        (Protocol::Bootstrap, _) => Some(End::new(
            NOT_THE_PROGRAM,
            Cause::FunctionError,
            "the image answered without the Sockerless bootstrap: put the bootstrap in front of its program, or set \
             the label sockerless.lambda.protocol=native",
        )),
    }
}

/// Whether a JSON value begins and does not end.
fn is_cut_off(payload: &[u8]) -> bool {
    !payload.is_empty() && serde_json::from_slice::<IgnoredAny>(payload).is_err_and(|error| error.is_eof())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FunctionError {
    error_type: String,
    error_message: String,
}

fn of_function_error(payload: &[u8]) -> End {
    let error: FunctionError = serde_json::from_slice(payload).unwrap_or_default();
    of_error(&error.error_type, &error.error_message)
}

/// What Lambda's words for a failure mean.
#[must_use]
pub(crate) fn of_error(error_type: &str, message: &str) -> End {
    if error_type == "Sandbox.Timedout" || message.contains("Task timed out after ") {
        return End::deadline();
    }
    if error_type == "Runtime.OutOfMemory" || (message.contains("Runtime exited") && message.contains("signal: killed"))
    {
        return End::new(KILLED, Cause::OutOfMemory, "the function ran out of memory");
    }
    let code = exit_status(message).unwrap_or(1);
    let words = if message.is_empty() { error_type } else { message };
    End::new(code, Cause::FunctionError, words)
}

/// What a REPORT line says of the end. `None`: nothing, since the program's exit code stands in the bootstrap's own line.
#[must_use]
pub(crate) fn of_report(protocol: Protocol, status: &ReportStatus) -> Option<End> {
    match status {
        ReportStatus::Timeout => Some(End::deadline()),
        ReportStatus::Error { error_type } => Some(of_error(error_type, "")),
        ReportStatus::Success | ReportStatus::Untold => {
            (protocol == Protocol::Native).then(|| End::new(0, Cause::Exited, ""))
        }
    }
}

/// Whether a line beside the REPORT may tell another end: that of a failure which the REPORT hides, or an exit status.
#[must_use]
pub(crate) fn leaves_open(status: &ReportStatus) -> bool {
    match status {
        ReportStatus::Untold => true,
        ReportStatus::Error { error_type } => error_type.is_empty() || error_type == EXIT_ERROR,
        ReportStatus::Success | ReportStatus::Timeout => false,
    }
}

fn exit_status(message: &str) -> Option<u8> {
    let (_, rest) = message.split_once("Runtime exited with error: exit status ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    // An exit status of 0 without an answer is a failure all the same.
    digits.parse().ok().filter(|code| *code != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(error_type: &str, message: &str) -> Vec<u8> {
        serde_json::json!({ "errorType": error_type, "errorMessage": message }).to_string().into_bytes()
    }

    #[test]
    fn function_errors() {
        let id = "RequestId: 6bc28136-0e5d-4365-b021-0ce6b2e64ab0 Error: ";
        let table = [
            (error("Sandbox.Timedout", &format!("{id}Task timed out after 1.00 seconds")), 137, Cause::Deadline),
            (error("", "2026-11-23T01:13:11Z x Task timed out after 3.00 seconds"), 137, Cause::Deadline),
            (
                error("Runtime.ExitError", &format!("{id}Runtime exited with error: exit status 127")),
                127,
                Cause::FunctionError,
            ),
            (
                error("Runtime.ExitError", &format!("{id}Runtime exited with error: exit status 300")),
                1,
                Cause::FunctionError,
            ),
            (
                error("Runtime.ExitError", &format!("{id}Runtime exited without providing a reason")),
                1,
                Cause::FunctionError,
            ),
            (
                error("Runtime.ExitError", &format!("{id}Runtime exited with error: signal: killed")),
                137,
                Cause::OutOfMemory,
            ),
            (
                error("Runtime.ExitError", &format!("{id}Runtime exited with error: signal: segmentation fault")),
                1,
                Cause::FunctionError,
            ),
            (error("Exception", "the handler's own words"), 1, Cause::FunctionError),
            (error("ValueError", "signal: killed"), 1, Cause::FunctionError),
        ];
        for (payload, code, cause) in table {
            let end = of_answer(Protocol::Bootstrap, "t", true, &payload).unwrap();
            assert_eq!((end.code, end.cause), (code, cause), "{}", String::from_utf8_lossy(&payload));
        }
    }

    #[test]
    fn function_error_of_5_mb_ends_in_a_bounded_message() {
        for (error_type, message) in
            [("Exception", "words ".repeat(1_000_000)), (&"x".repeat(5_000_000), String::new())]
        {
            let end = of_answer(Protocol::Native, "t", true, &error(error_type, &message)).unwrap();
            assert!(end.message.len() <= MAX_MESSAGE_BYTES && end.message.ends_with('…'), "{}", end.message.len());
        }
        let exited = format!("{}Runtime exited with error: exit status 3", "x".repeat(5_000));
        assert_eq!(of_error("Runtime.ExitError", &exited).code, 3, "the whole text is read");
    }

    #[test]
    fn the_bootstraps_answer() {
        let answer = |token: &str, code: u8, reason: Reason| {
            let verdict =
                Verdict { version: 1, token: token.into(), exit_code: code, reason, signal: None, message: None };
            serde_json::to_vec(&Answer { sockerless: verdict }).unwrap()
        };
        let read = |payload: &[u8]| of_answer(Protocol::Bootstrap, "t", false, payload);
        assert_eq!(read(&answer("t", 3, Reason::Exited)), Some(End::new(3, Cause::Exited, "")));
        assert_eq!(read(&answer("t", 0, Reason::Deadline)), Some(End::deadline()));
        assert_eq!(read(&answer("t", 0, Reason::Duplicate)), None);
        assert_eq!(read(&answer("other", 0, Reason::Exited)).unwrap().code, NOT_THE_PROGRAM);
        assert_eq!(read(b"\"hello\"").unwrap().code, NOT_THE_PROGRAM);
    }

    #[test]
    fn an_answer_that_was_cut_off_proves_nothing_but_that_there_was_one() {
        let whole = br#"{"sockerless":{"version":1,"token":"t","exit_code":3,"reason":"exited"}}"#;
        assert!(of_answer(Protocol::Bootstrap, "t", false, whole).is_some());
        let failed = error("Runtime.ExitError", "Runtime exited with error: exit status 3");
        for bytes in 1..whole.len() {
            assert_eq!(of_answer(Protocol::Bootstrap, "t", false, &whole[..bytes]), None, "{bytes}");
        }
        for protocol in [Protocol::Bootstrap, Protocol::Native] {
            assert_eq!(of_answer(protocol, "t", true, &failed[..failed.len() - 1]), None);
        }
        // Without a function error a native handler has returned, whatever came of its words.
        assert_eq!(of_answer(Protocol::Native, "t", false, b"{\"x\":"), Some(End::new(0, Cause::Exited, "")));
        assert_eq!(of_answer(Protocol::Bootstrap, "t", false, b"").unwrap().code, NOT_THE_PROGRAM);
    }

    #[test]
    fn a_damaged_answer_proves_nothing_of_a_program_behind_the_bootstrap() {
        for function_error in [true, false] {
            assert_eq!(of_answer(Protocol::Bootstrap, "t", function_error, b"{\"sockerless\": "), None);
        }
        let native = of_answer(Protocol::Native, "t", true, b"no json").unwrap();
        assert_eq!((native.code, native.cause), (1, Cause::FunctionError));
    }

    #[test]
    fn what_a_report_says_and_what_it_leaves_open() {
        let error = |error_type: &str| ReportStatus::Error { error_type: error_type.to_owned() };
        let function_error = Some((1, Cause::FunctionError));
        let table = [
            (ReportStatus::Untold, Some((0, Cause::Exited)), None, true),
            (ReportStatus::Success, Some((0, Cause::Exited)), None, false),
            (ReportStatus::Timeout, Some((137, Cause::Deadline)), Some((137, Cause::Deadline)), false),
            (error("Runtime.ExitError"), function_error, function_error, true),
            (error(""), function_error, function_error, true),
            (error("Function.Broken"), function_error, function_error, false),
            (error("Runtime.InvalidEntrypoint"), function_error, function_error, false),
            (error("Runtime.OutOfMemory"), Some((137, Cause::OutOfMemory)), Some((137, Cause::OutOfMemory)), false),
        ];
        for (status, native, bootstrap, open) in table {
            let end = |protocol| of_report(protocol, &status).map(|end| (end.code, end.cause));
            let found = (end(Protocol::Native), end(Protocol::Bootstrap), leaves_open(&status));
            assert_eq!(found, (native, bootstrap, open), "{status:?}");
        }
    }

    #[test]
    fn an_error_of_any_size_leaves_one_bounded_line() {
        let words = format!("first\r\n\u{1b}[1m{}", "ä".repeat(5_000_000));
        let end = of_answer(Protocol::Native, "t", true, &error("Error", &words)).unwrap();
        assert!(end.message.len() <= MAX_MESSAGE_BYTES && !end.message.contains(char::is_control));
        assert!(end.message.starts_with("first") && end.message.ends_with('…'));
    }

    #[test]
    fn a_native_handler_that_returns_is_a_success() {
        assert_eq!(of_answer(Protocol::Native, "t", false, b"{\"x\":1}"), Some(End::new(0, Cause::Exited, "")));
    }
}
