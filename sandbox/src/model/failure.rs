//! What a caller and the log are told about an invocation's end.

use bytes::Bytes;
use serde_json::json;

use super::api::End;

/// The largest response, in bytes: 6 MB and some room that Lambda leaves for its own wrapping.
const MAX_RESPONSE_BYTES: usize = 6_291_556;

/// How an invocation ended, in the platform's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Success,
    /// The function told of an error itself.
    Failure,
    /// The runtime broke.
    Error,
    Timeout,
}

impl Status {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// An end, worded.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) status: Status,
    pub(super) error_type: Option<String>,
    /// The error without the request id in front.
    pub(super) message: Option<String>,
    pub(super) payload: Bytes,
    /// The environment can serve another invocation.
    pub(super) survives: bool,
}

impl Ended {
    pub(super) fn new(request_id: &str, timeout_s: u32, end: End) -> Self {
        let exit = |message| Self::platform(request_id, Status::Error, "Runtime.ExitError", message);
        match end {
            End::Response(payload) if payload.len() > MAX_RESPONSE_BYTES => {
                let message = format!(
                    "Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
                );
                let error_type = "Function.ResponseSizeTooLarge";
                Self::posted(error_type, error_body(error_type, &message), true)
            }
            End::Response(payload) => {
                Self { status: Status::Success, error_type: None, message: None, payload, survives: true }
            }
            End::Error { error_type, body } => Self::posted(&error_type, body, true),
            End::InitError { error_type, body } => Self::posted(&error_type, body, false),
            End::Exited { code: 0 } => exit("Runtime exited without providing a reason".to_owned()),
            End::Exited { code } => exit(format!("Runtime exited with error: exit status {code}")),
            End::Signalled { signal } => exit(format!("Runtime exited with error: signal: {}", signal_name(signal))),
            End::OutOfMemory => Self {
                error_type: Some("Runtime.OutOfMemory".to_owned()),
                ..exit("Runtime exited with error: signal: killed".to_owned())
            },
            End::TimedOut => {
                let message = format!("Task timed out after {timeout_s}.00 seconds");
                Self { error_type: None, ..Self::platform(request_id, Status::Timeout, "Sandbox.Timedout", message) }
            }
            End::NotStarted { error_type, message } => Self::platform(request_id, Status::Error, &error_type, message),
        }
    }

    fn platform(request_id: &str, status: Status, error_type: &str, message: String) -> Self {
        let text = format!("RequestId: {request_id} Error: {message}");
        let payload = error_body(error_type, &text);
        Self { status, error_type: Some(error_type.to_owned()), message: Some(message), payload, survives: false }
    }

    fn posted(error_type: &str, payload: Bytes, survives: bool) -> Self {
        let error_type = Some(kept_type(error_type));
        Self { status: Status::Failure, error_type, message: None, payload, survives }
    }
}

/// The members stand in the order in which AWS has them.
fn error_body(error_type: &str, message: &str) -> Bytes {
    format!(r#"{{"errorType":{},"errorMessage":{}}}"#, json!(error_type), json!(message)).into()
}

/// The platform keeps a posted error type only if it looks like one of its own.
fn kept_type(posted: &str) -> String {
    let well_formed = |rest: &str| {
        rest.starts_with(|c: char| c.is_ascii_uppercase()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let own = posted.strip_prefix("Runtime.").or_else(|| posted.strip_prefix("Function."));
    match own {
        Some(rest) if well_formed(rest) => posted.to_owned(),
        _ if posted.starts_with("Function.") => "Function.Unknown".to_owned(),
        _ => "Runtime.Unknown".to_owned(),
    }
}

/// What Lambda calls a signal.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_failures() {
        let table = [
            (
                End::TimedOut,
                r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ID Error: Task timed out after 1.00 seconds"}"#,
            ),
            (
                End::Exited { code: 127 },
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 127"}"#,
            ),
            (
                End::Exited { code: 0 },
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited without providing a reason"}"#,
            ),
            (
                End::OutOfMemory,
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: signal: killed"}"#,
            ),
            (
                End::Signalled { signal: 11 },
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: signal: segmentation fault"}"#,
            ),
            (End::Error { error_type: "X".to_owned(), body: Bytes::from_static(b"as it is") }, "as it is"),
        ];
        for (end, expected) in table {
            let ended = Ended::new("ID", 1, end);
            assert_eq!(ended.payload, expected);
        }
    }

    #[test]
    fn error_types() {
        for (posted, kept) in [
            ("Runtime.ExitError", "Runtime.ExitError"),
            ("Function.Bad", "Function.Bad"),
            ("Function.bad", "Function.Unknown"),
            ("ValueError", "Runtime.Unknown"),
            ("", "Runtime.Unknown"),
        ] {
            assert_eq!(kept_type(posted), kept);
        }
        let huge = Ended::new("ID", 1, End::Response(vec![b' '; MAX_RESPONSE_BYTES + 1].into()));
        assert_eq!((huge.status, huge.survives), (Status::Failure, true));
    }
}
