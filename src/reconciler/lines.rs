//! What a line of the log proves. PURE.
//!
//! Lambda writes START, END and REPORT around every invocation; the bootstrap writes its markers around the program.
//! A program can print a line of the same shape, so a line counts only with the request id or the token of a run that we
//! issued, and only in the shape that AWS gives it ([`crate::state::model::lambda_log`]).

use sockerless_bootstrap::protocol::{MARKER, Marker};

use crate::clock::Timestamp;
use crate::state::model::Report;
use crate::state::model::lambda_log::{PlatformLine, is_request_id};

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

/// The pattern that finds all these lines and few others, for FilterLogEvents: one regular expression whose alternatives are
/// anchored to the beginning of a line, so that a program's text about a request (as the errors of AWS's SDKs have it) is
/// not sent to us. A space is not among the characters that CloudWatch Logs documents for its expressions; `\s` is.
///
/// Source: CloudWatch Logs user guide, "Supported regular expressions (regex) syntax".
#[must_use]
pub(crate) fn pattern() -> String {
    const LINES: [&str; 4] = [
        r"^START\sRequestId:\s",
        r"^REPORT\sRequestId:\s",
        r"^RequestId:\s[0-9a-f-]+\sError:\s",
        r"^[0-9]+-[0-9]+-[0-9]+T\S+\s[0-9a-f-]+\sTask\stimed\sout\safter\s",
    ];
    format!("%{}|^{MARKER}%", LINES.join("|"))
}

/// Reads a line. `None`: it says nothing about a run.
#[must_use]
pub(crate) fn parse(message: &str) -> Option<Says> {
    if message.starts_with(MARKER) {
        return Marker::parse(message).filter(is_credible).map(Says::Marker);
    }
    let (request_id, line) = PlatformLine::parse(message)?;
    let request_id = request_id.to_owned();
    match line {
        PlatformLine::Start => Some(Says::Start { request_id }),
        PlatformLine::TimedOut => Some(Says::TimedOut { request_id }),
        PlatformLine::Failed { error_type, message } => Some(Says::Failed { request_id, error_type, message }),
        PlatformLine::Report(report) => Some(Says::Report { request_id, report }),
        PlatformLine::End => None,
    }
}

/// An image may have a bootstrap of its own making: a marker is stored only with a real request id.
fn is_credible(marker: &Marker) -> bool {
    match marker {
        Marker::Start { request_id, .. } | Marker::Duplicate { request_id, .. } => is_request_id(request_id),
        Marker::Exit { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::model::ReportStatus;

    const ID: &str = "6bc28136-0e5d-4365-b021-0ce6b2e64ab0";

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
            duration_us: 10_510,
            billed_us: 11_000,
            init_us: Some(84_000),
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
        assert!(matches!(read(&format!("@sockerless:start t {ID}")), Some(Says::Marker(Marker::Start { .. }))));
        assert!(matches!(read("@sockerless:exit t 3 exited\n"), Some(Says::Marker(Marker::Exit { exit_code: 3, .. }))));
        for line in ["[stdout] @sockerless:exit t 0 exited", "@sockerless:start t r", "@sockerless:duplicate t r"] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn a_programs_own_lines_say_nothing() {
        for line in [
            "",
            "hello",
            "START RequestId: me",
            "END RequestId: 6bc28136-0e5d-4365-b021-0ce6b2e64ab0",
            "REPORT RequestId: 12\tDuration: 1 ms",
            "Task timed out after 3.00 seconds",
            "the Task timed out after 3.00 seconds",
            "RequestId: x Error: Runtime exited with error: exit status 0",
            "RequestId: 6bc28136-0e5d-4365-b021-0ce6b2e64ab0 is mine",
            "see REPORT RequestId: 6bc28136-0e5d-4365-b021-0ce6b2e64ab0",
        ] {
            assert_eq!(read(line), None, "{line:?}");
        }
    }
}
