//! Every failure of a call, mapped once.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::call::Call;
use super::classify;
use super::transport::SendFailure;
use super::types::{AwsError, AwsErrorKind};

/// A message is cut after this many bytes: it is stored and shown.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// A code or a request id is cut after this many bytes: AWS's longest have some 60.
const NAME_BYTES_MAX: usize = 128;

/// Stands for what was left out of a message.
const LEFT_OUT: &str = "…";

/// How many errors below each other are read at most.
const CHAIN_MAX: usize = 16;

/// What the failure of a call means.
pub(super) fn from_sdk<E>(call: &Call<'_>, error: &SdkError<E, HttpResponse>) -> AwsError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let answer = error.raw_response();
    let (kind, code, message) = match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let (code, message) = (service.err().code(), service.err().message().filter(|text| !text.is_empty()));
            let text = message.or(code).map_or_else(|| format!("HTTP status {status}"), str::to_owned);
            (kind_of_answer(status, code, &text), code.map(str::to_owned), text)
        }
        SdkError::ResponseError(_) => (AwsErrorKind::Malformed, None, root(error)),
        SdkError::ConstructionFailure(_) => without_answer(error, AwsErrorKind::InvalidParameter),
        SdkError::DispatchFailure(_) => without_answer(error, AwsErrorKind::Unreachable),
        // The attempt as a whole took too long; nobody knows how far it came.
        _ => (AwsErrorKind::NoAnswer, None, root(error)),
    };
    AwsError {
        service: call.service,
        operation: call.operation,
        kind,
        code: code.map(|code| bounded(&code, NAME_BYTES_MAX)),
        message: bounded(&without_values(&message), MESSAGE_BYTES_MAX),
        request_id: answer.and_then(|answer| header(answer, "x-amzn-requestid")).map(|id| bounded(&id, NAME_BYTES_MAX)),
        retry_after: answer.and_then(|answer| header(answer, "retry-after")).and_then(|text| seconds(&text)),
    }
}

/// By the code first, since AWS gives some of them with surprising statuses; by the status otherwise.
pub(crate) fn kind_of_answer(status: u16, code: Option<&str>, message: &str) -> AwsErrorKind {
    if let Some(kind) = code.and_then(|code| classify::kind_of_code(code, message)) {
        return kind;
    }
    match (status, code) {
        (429, _) => AwsErrorKind::Throttled,
        (413, _) => AwsErrorKind::TooLarge,
        (408 | 500..=599, _) => AwsErrorKind::ServiceError,
        (403, Some(_)) => AwsErrorKind::AccessDenied,
        (409, Some(_)) => AwsErrorKind::Conflict,
        (400..=499, Some(_)) => AwsErrorKind::Refused,
        // Without a code it is not AWS that answered: a proxy, or an address that leads elsewhere.
        _ => AwsErrorKind::Malformed,
    }
}

/// The witness saw every request that left the SDK: without its word, none did. What else stops a call before it is
/// sent, if not the credentials, the caller says.
fn without_answer(error: &(dyn Error + 'static), otherwise: AwsErrorKind) -> (AwsErrorKind, Option<String>, String) {
    for source in sources(error) {
        if let Some(failure) = source.downcast_ref::<SendFailure>() {
            let kind = if failure.handed_over { AwsErrorKind::NoAnswer } else { AwsErrorKind::Unreachable };
            return (kind, None, chain(source));
        }
        if source.is::<CredentialsError>() {
            return (AwsErrorKind::Credentials, None, chain(source));
        }
    }
    let root = root(error);
    // The cache of identities has its own time-out, whose type is private.
    let kind = if root.contains("identity") { AwsErrorKind::Credentials } else { otherwise };
    (kind, None, root)
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source()).take(CHAIN_MAX)
}

/// The innermost error only: the SDK prints whole requests, with their bodies, into some of the outer ones.
fn root(error: &(dyn Error + 'static)) -> String {
    sources(error).last().map(ToString::to_string).unwrap_or_default()
}

/// What went wrong, from here to the innermost error, each thing said once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for part in sources(error).map(ToString::to_string) {
        if !text.contains(&part) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&part);
        }
    }
    text
}

/// AWS's message without the parts of our request that AWS repeats in it: they may be secrets, of an environment, a command
/// or a payload.
///
/// | what AWS repeats | its words |
/// |---|---|
/// | the environment, over 4 KB | `… exceeded the 4KB limit. String measured: {"NAME":"value"}` |
/// | any parameter that breaks a constraint | `Value 'value' at 'field' failed to satisfy constraint: …` |
/// | a payload that is no JSON | `Unrecognized token 'value': … at [Source: (byte[])"value"; line: 1, column: 2]` |
fn without_values(message: &str) -> String {
    let mut text = message.to_owned();
    for beginning in ["String measured:", "[Source:"] {
        if let Some(found) = text.find(beginning) {
            text.truncate(found + beginning.len());
            text.push(' ');
            text.push_str(LEFT_OUT);
        }
    }
    // A value may hold the words that follow it: everything up to the last of them is taken for the value.
    for (beginning, end) in [("Value '", "' at '"), ("Unrecognized token '", "': ")] {
        let Some(from) = text.find(beginning).map(|found| found + beginning.len()) else { continue };
        let to = text.rfind(end).filter(|to| *to >= from).unwrap_or(text.len());
        text.replace_range(from..to, LEFT_OUT);
    }
    text
}

/// In one line, and not too long.
fn bounded(text: &str, bytes: usize) -> String {
    let printable = |char: char| if char.is_control() { ' ' } else { char };
    let clean: String = text.chars().map(printable).collect();
    let mut line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > bytes {
        line.truncate(line.floor_char_boundary(bytes - LEFT_OUT.len()));
        line.push_str(LEFT_OUT);
    }
    line
}

fn header(answer: &HttpResponse, name: &str) -> Option<String> {
    answer.headers().get(name).map(str::to_owned)
}

/// `Retry-After` in seconds; its other form, a date, is not used by AWS.
fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::error::{BoxError, ConnectorError};
    use aws_sdk_lambda::operation::invoke::InvokeError;

    use super::*;
    use crate::aws::call::LAMBDA;
    use crate::aws::gates::Quota;

    const CALL: Call<'static> = Call { service: LAMBDA, operation: "invoke", subject: "f", quota: Quota::Invoke };

    fn mapped(error: SdkError<InvokeError, HttpResponse>) -> (AwsErrorKind, String) {
        let error = from_sdk(&CALL, &error);
        (error.kind, error.to_string())
    }

    #[test]
    fn failures_before_the_connection() {
        let none = || BoxError::from(CredentialsError::not_loaded("no providers in chain"));
        let rows: [(SdkError<InvokeError, HttpResponse>, AwsErrorKind, &str); 5] = [
            (
                SdkError::dispatch_failure(ConnectorError::other(none(), None)),
                AwsErrorKind::Credentials,
                "lambda: invoke: the credential provider was not enabled: no providers in chain",
            ),
            (SdkError::construction_failure(none()), AwsErrorKind::Credentials, ""),
            (
                SdkError::dispatch_failure(ConnectorError::other("identity resolver timed out after 10s".into(), None)),
                AwsErrorKind::Credentials,
                "",
            ),
            (
                SdkError::dispatch_failure(ConnectorError::other("no such endpoint".into(), None)),
                AwsErrorKind::Unreachable,
                "",
            ),
            (
                SdkError::construction_failure("`function_name` was missing"),
                AwsErrorKind::InvalidParameter,
                "lambda: invoke: `function_name` was missing",
            ),
        ];
        for (error, kind, text) in rows {
            let (got, message) = mapped(error);
            assert_eq!(got, kind, "{message}");
            assert!(text.is_empty() || message == text, "{message}");
        }
    }

    #[test]
    fn an_attempt_that_took_too_long_may_have_been_sent() {
        assert_eq!(mapped(SdkError::timeout_error("45s")).0, AwsErrorKind::NoAnswer);
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let cut = bounded(&format!("{}ééé", "x".repeat(60)), 64);
        assert_eq!(cut, format!("{}…", "x".repeat(60)));
        let cut = bounded(&"é".repeat(40), 64);
        assert_eq!(cut, format!("{}…", "é".repeat(30)));
        assert_eq!(bounded("one\n  two\u{1b}[1m", 64), "one two [1m");
    }

    #[test]
    fn values_that_aws_repeats_are_left_out() {
        let over = "Lambda was unable to configure your environment variables because the environment variables you have \
                    provided exceeded the 4KB limit. String measured:";
        let constraint = "failed to satisfy constraint: Member must have length less than or equal to 512";
        for (message, expected) in [
            (format!("{over} {{\"KEY\":\"s3cret\"}}"), format!("{over} …")),
            (
                format!("1 validation error detected: Value '{{KEY=s3cret}}' at 'environment.variables' {constraint}"),
                format!("1 validation error detected: Value '…' at 'environment.variables' {constraint}"),
            ),
            (
                format!("2 validation errors detected: Value 's3cret' at 'a' {constraint}; Value 's3cret' at 'b' {constraint}"),
                format!("2 validation errors detected: Value '…' at 'b' {constraint}"),
            ),
            (format!("Value 'x' at 'y's3cret' at 'tags' {constraint}"), format!("Value '…' at 'tags' {constraint}")),
            ("Value 's3cret".to_owned(), "Value '…".to_owned()),
            (
                "Could not parse payload into json: Unrecognized token 's3cret': was expecting (JSON String) at [Source: \
                 (byte[])\"s3cret\"; line: 1, column: 7]"
                    .to_owned(),
                "Could not parse payload into json: Unrecognized token '…': was expecting (JSON String) at [Source: …"
                    .to_owned(),
            ),
            ("Function not found: f".to_owned(), "Function not found: f".to_owned()),
        ] {
            assert_eq!(without_values(&message), expected);
        }
    }

    #[test]
    fn retry_after() {
        let rows = [
            ("3", Some(Duration::from_secs(3))),
            (" 0.5 ", Some(Duration::from_millis(500))),
            ("-1", None),
            ("soon", None),
            ("inf", None),
        ];
        for (text, expected) in rows {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
