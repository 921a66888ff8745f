//! What a line of the log proves. PURE.
//!
//! Lambda writes START, END and REPORT around every invocation; the bootstrap writes its markers around the program.
//! A program can print a line of the same shape, so a line counts only with the request id or the token of a run that we
//! issued, and only in the shape that AWS gives it.
//!
//! Source of the shapes: AWS Lambda developer guide, "Sending Lambda function logs to CloudWatch Logs", and recorded
//! answers of the real service.

use sockerless_bootstrap::protocol::{MARKER, Marker};

use crate::clock::Timestamp;
use crate::state::model::{Report, ReportStatus};

/// A line of the log that says something about a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// The log stream it stands in.
    pub(crate) stream: String,
    /// When it was written, by AWS's clock.
    pub(crate) at: Timestamp,
    /// What it says.
    pub(crate) says: Says,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Says {
    /// `START RequestId: …`: Lambda handed the invocation to the environment.
    Start {
        /// The invocation.
        request_id: String,
    },
    /// A line of the bootstrap.
    Marker(Marker),
    /// `… Task timed out after …`: the older style, beside a REPORT without a status.
    TimedOut {
        /// The invocation.
        request_id: String,
    },
    /// `RequestId: … Error: …`: the older style too. It says how the function failed, which no REPORT does.
    Failed {
        /// The invocation.
        request_id: String,
        /// Lambda's word for the kind of failure, if it stands in the same event.
        error_type: String,
        /// Lambda's sentence, such as `Runtime exited with error: exit status 3`.
        message: String,
    },
    /// `REPORT RequestId: …`: the invocation is over.
    Report {
        /// The invocation.
        request_id: String,
        /// What it tells. When it was read, and where it stands, is for the reader to add.
        report: Report,
    },
}

/// The pattern that finds all these lines and few others: FilterLogEvents, text patterns joined by OR.
#[must_use]
pub(crate) fn pattern() -> String {
    format!(r#"?"RequestId: " ?"Task timed out" ?"{MARKER}""#)
}

/// Reads a line. `None`: it says nothing about a run.
#[must_use]
pub(crate) fn parse(message: &str) -> Option<Says> {
    let line = message.trim_end_matches(['\n', '\r']);
    if line.starts_with(MARKER) {
        return Marker::parse(line).map(Says::Marker);
    }
    if let Some(rest) = line.strip_prefix("START RequestId: ") {
        return Some(Says::Start { request_id: first_word(rest)? });
    }
    if let Some(rest) = line.strip_prefix("REPORT RequestId: ") {
        return parse_report(rest);
    }
    if let Some(rest) = line.strip_prefix("RequestId: ") {
        return parse_failed(rest);
    }
    parse_timed_out(line)
}

/// `RequestId: ID Error: Runtime exited with error: exit status 3`; the error type may stand in a second line.
fn parse_failed(rest: &str) -> Option<Says> {
    let (request_id, error) = rest.split_once(" Error: ")?;
    let (message, error_type) = error.split_once('\n').unwrap_or((error, ""));
    Some(Says::Failed {
        request_id: request_id_of(request_id)?,
        error_type: error_type.trim().to_owned(),
        message: message.trim().to_owned(),
    })
}

/// `<time> ID Task timed out after 3.00 seconds`.
fn parse_timed_out(line: &str) -> Option<Says> {
    let (before, after) = line.split_once(" Task timed out after ")?;
    after.strip_suffix(" seconds")?.parse::<f64>().ok()?;
    let mut words = before.split(' ');
    let (time, request_id) = (words.next()?, words.next()?);
    (words.next().is_none() && time.contains('T'))
        .then(|| request_id_of(request_id))?
        .map(|request_id| Says::TimedOut { request_id })
}

fn parse_report(rest: &str) -> Option<Says> {
    let mut fields = rest.split('\t').map(str::trim);
    let request_id = request_id_of(fields.next()?)?;
    let mut report = Report::default();
    let (mut status, mut error_type) = (None, String::new());
    for field in fields {
        let Some((name, value)) = field.split_once(": ") else { continue };
        let number = value.split(' ').next().unwrap_or_default();
        match name {
            "Duration" => report.duration_ms = number.parse().ok()?,
            "Billed Duration" => report.billed_ms = number.parse().ok()?,
            "Init Duration" => report.init_ms = number.parse().ok(),
            "Memory Size" => report.memory_mb = number.parse().ok()?,
            "Max Memory Used" => report.max_memory_mb = number.parse().ok()?,
            "Status" => status = Some(value.to_owned()),
            "Error Type" => value.clone_into(&mut error_type),
            _ => {}
        }
    }
    report.status = match status.as_deref() {
        None => ReportStatus::Untold,
        Some("success") => ReportStatus::Success,
        Some("timeout") => ReportStatus::Timeout,
        Some(_) => ReportStatus::Error { error_type },
    };
    Some(Says::Report { request_id, report })
}

fn first_word(text: &str) -> Option<String> {
    request_id_of(text.split([' ', '\t']).next()?)
}

/// A request id is a UUID; anything else in its place makes the line a program's own.
fn request_id_of(text: &str) -> Option<String> {
    let shape: Vec<usize> = text.split('-').map(str::len).collect();
    let is_uuid = shape == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_alphanumeric());
    is_uuid.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6bc28136-xmpl-4365-b021-0ce6b2e64ab0";

    fn read(line: &str) -> Option<Says> {
        parse(line)
    }

    #[test]
    fn lambdas_own_lines() {
        assert_eq!(
            read(&format!("START RequestId: {ID} Version: $LATEST\n")),
            Some(Says::Start { request_id: ID.into() })
        );
        let report = format!(
            "REPORT RequestId: {ID}\tDuration: 10.51 ms\tBilled Duration: 11 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB\tInit Duration: 84.00 ms\t\n"
        );
        let numbers = Report {
            duration_ms: 10.51,
            billed_ms: 11.0,
            init_ms: Some(84.0),
            memory_mb: 128,
            max_memory_mb: 40,
            ..Report::default()
        };
        let error = |error_type: &str| ReportStatus::Error { error_type: error_type.into() };
        let table = [
            ("", ReportStatus::Untold),
            ("Status: success", ReportStatus::Success),
            ("Status: timeout", ReportStatus::Timeout),
            ("Status: error\tError Type: Runtime.ExitError", error("Runtime.ExitError")),
            ("Status: error", error("")),
        ];
        for (words, status) in table {
            let says = Says::Report { request_id: ID.into(), report: Report { status, ..numbers.clone() } };
            assert_eq!(read(&format!("{}{words}\n", report.trim_end_matches('\n'))), Some(says));
        }
    }

    #[test]
    fn the_older_styles() {
        assert_eq!(
            read(&format!("2026-11-23T01:13:11.973Z {ID} Task timed out after 3.00 seconds\n\n")),
            Some(Says::TimedOut { request_id: ID.into() })
        );
        let failed = |error_type: &str, message: &str| {
            Some(Says::Failed { request_id: ID.into(), error_type: error_type.into(), message: message.into() })
        };
        for message in [
            "Runtime exited with error: exit status 3",
            "Runtime exited without providing a reason",
            "fork/exec /entry: no such file or directory",
        ] {
            assert_eq!(read(&format!("RequestId: {ID} Error: {message}\n")), failed("", message));
            let two_lines = format!("RequestId: {ID} Error: {message}\nRuntime.ExitError\n");
            assert_eq!(read(&two_lines), failed("Runtime.ExitError", message));
        }
    }

    #[test]
    fn the_bootstraps_lines() {
        assert!(matches!(read("@sockerless:start t r"), Some(Says::Marker(Marker::Start { .. }))));
        assert!(matches!(read("@sockerless:exit t 3 exited\n"), Some(Says::Marker(Marker::Exit { exit_code: 3, .. }))));
        assert_eq!(read("[stdout] @sockerless:exit t 0 exited"), None);
    }

    #[test]
    fn a_programs_own_lines_say_nothing() {
        for line in [
            "",
            "hello",
            "START RequestId: me",
            "END RequestId: 6bc28136-xmpl-4365-b021-0ce6b2e64ab0",
            "REPORT RequestId: 12\tDuration: 1 ms",
            "Task timed out after 3.00 seconds",
            "the Task timed out after 3.00 seconds",
            "RequestId: x Error: Runtime exited with error: exit status 0",
            "RequestId: 6bc28136-xmpl-4365-b021-0ce6b2e64ab0 is mine",
            "see REPORT RequestId: 6bc28136-xmpl-4365-b021-0ce6b2e64ab0",
        ] {
            assert_eq!(read(line), None, "{line:?}");
        }
    }
}
