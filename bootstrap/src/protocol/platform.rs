//! What a line of Lambda's own, or of the bootstrap, looks like. Pure.
//!
//! A daemon reads these lines strictly: one shape, and the id of an invocation that it issued. This grammar is broad on
//! purpose, because it decides what a *program's* line must not look like in the log: every phrase without which there
//! is no platform line, anywhere in the line. So nothing that reads the log later, in whatever pieces and however
//! leniently, can take a program's line for the platform's, and a search for the platform's lines by these phrases finds
//! no program.
//!
//! Sources: AWS Lambda developer guide, "Sending Lambda function logs to CloudWatch Logs", "Lambda runtime lifecycle" and
//! "Telemetry API event schema"; published logs.

use super::{MARKER, PREFIXES};

/// A phrase, and which of its bytes is escaped so that it is none any more.
const PHRASES: [(&[u8], usize); 12] = [
    // START, END, REPORT, and the failures `RequestId: … Error: …`.
    (b"RequestId:", 9),
    (b"Task timed out after", 4),
    (MARKER.as_bytes(), 0),
    (b"INIT_START", 4),
    (b"INIT_REPORT", 4),
    (b"RESTORE_START", 7),
    (b"RESTORE_REPORT", 7),
    (b"EXTENSION\t", 9),
    (b"TELEMETRY\t", 9),
    // `IMAGE\tLaunch error: …`: an entrypoint that cannot be executed.
    (b"IMAGE\t", 5),
    (b"XRAY TraceId:", 12),
    // The types of JSON records, such as `"type":"platform.report"`.
    (b"\"platform.", 9),
];
/// Where the spelling of an ASCII character as an escape of JSON begins: `\u0070latform` is `platform`, too.
const JSON_ESCAPE: &[u8] = b"\\u00";
/// The beginnings of an error type, which Lambda writes alone on the line after a failure.
const ERROR_TYPES: [&[u8]; 4] = [b"Runtime.", b"Function.", b"Extension.", b"Sandbox."];

/// Whether a line reads, or could be read, as one of the platform's or of the bootstrap's.
#[must_use]
pub fn looks_like_platform(line: &[u8]) -> bool {
    !phrases(line).is_empty() || is_reserved(line)
}

/// Where the phrases of the platform are: for each the place of the byte to escape, in rising order.
pub(super) fn phrases(line: &[u8]) -> Vec<usize> {
    let json = spells_a_record(line);
    let mut places = Vec::new();
    for (at, byte) in line.iter().enumerate() {
        let rest = line.get(at..).unwrap_or_default();
        let phrase = match byte {
            b'R' | b'T' | b'@' | b'I' | b'E' | b'X' | b'"' => PHRASES.iter().find(|(text, _)| rest.starts_with(text)),
            _ => None,
        };
        if let Some((_, place)) = phrase {
            places.push(at + place);
        } else if json && rest.starts_with(JSON_ESCAPE) {
            places.push(at);
        }
    }
    // A phrase may end where another begins; the places are those of different bytes, but not in order then.
    places.sort_unstable();
    places.dedup();
    places
}

/// Whether a line begins with what marks the bootstrap's own encoding, or is an error type alone. A reader may drop what
/// is not seen at its beginning or its end.
pub(super) fn is_reserved(line: &[u8]) -> bool {
    let line = trimmed(line);
    let names = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_alphanumeric);
    PREFIXES.iter().any(|prefix| line.starts_with(prefix.0.trim_end().as_bytes()))
        || ERROR_TYPES.iter().any(|kind| line.strip_prefix(*kind).is_some_and(names))
}

/// Without white space, control characters, zero-width characters and byte order marks around it.
fn trimmed(line: &[u8]) -> &[u8] {
    const UNSEEN: [&[u8]; 5] = [b"\xef\xbb\xbf", b"\xe2\x80\x8b", b"\xe2\x80\x8c", b"\xe2\x80\x8d", b"\xe2\x81\xa0"];
    let mut line = line;
    loop {
        let shorter = match line {
            [first, rest @ ..] if *first <= b' ' || *first == 0x7f => rest,
            [rest @ .., last] if *last <= b' ' || *last == 0x7f => rest,
            _ => match UNSEEN.iter().find_map(|unseen| line.strip_prefix(*unseen)) {
                Some(rest) => rest,
                None => return line,
            },
        };
        line = shorter;
    }
}

/// Whether a JSON object names a platform record with the help of JSON's escapes.
fn spells_a_record(line: &[u8]) -> bool {
    if !trimmed(line).starts_with(b"{") {
        return false;
    }
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    let mut spelled = false;
    while let Some((first, after)) = rest.split_first() {
        let escaped = rest.strip_prefix(JSON_ESCAPE).and_then(|digits| digits.split_at_checked(2));
        let byte = escaped
            .and_then(|(digits, after)| Some((u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?, after)));
        spelled |= byte.is_some();
        let (byte, after) = byte.unwrap_or((*first, after));
        plain.push(byte);
        rest = after;
    }
    spelled && plain.windows(RECORD.len()).any(|window| window == RECORD)
}

/// What the type of every platform record begins with.
const RECORD: &[u8] = b"platform.";

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6bc28136-xmpl-4365-b021-0ce6b2e64ab0";

    #[test]
    fn every_line_of_the_platform_is_known() {
        for line in [
            format!("START RequestId: {ID} Version: $LATEST"),
            format!("END RequestId: {ID}"),
            format!("REPORT RequestId: {ID}\tDuration: 10.51 ms\tBilled Duration: 11 ms\t"),
            format!("RequestId: {ID} Error: Runtime exited with error: exit status 3"),
            format!("2026-11-23T01:13:11.973Z {ID} Task timed out after 3.00 seconds"),
            format!("XRAY TraceId: 1-5f\tSegmentId: 1 {ID}"),
            "INIT_START Runtime Version: python:3.12\tRuntime Version ARN: arn".to_owned(),
            "INIT_REPORT Init Duration: 1 ms\tPhase: init\tStatus: timeout".to_owned(),
            "RESTORE_START Runtime Version: java:17".to_owned(),
            "RESTORE_REPORT Restore Duration: 1 ms".to_owned(),
            "EXTENSION\tName: x\tState: Ready".to_owned(),
            "TELEMETRY\tName: x\tState: Subscribed".to_owned(),
            "IMAGE\tLaunch error: exec format error".to_owned(),
            r#"{"time":"2026-01-01T00:00:00Z","type":"platform.report","record":{}}"#.to_owned(),
            r#" {"type" : "\u0070latform.start"}"#.to_owned(),
            r#"{"type":"platform\u002ereport"}"#.to_owned(),
            r#"{"ty\u0070e":"platform.end"}"#.to_owned(),
            "@sockerless:exit t 0 exited".to_owned(),
            "[stderr] x".to_owned(),
            "[stdout+] x".to_owned(),
            "\u{feff}\u{200b} [stdout%] x".to_owned(),
            "Runtime.ExitError".to_owned(),
            "\x1b[1mRequestId: x".to_owned(),
            "progress 1\rprogress 2\rEND RequestId: x".to_owned(),
            "\0START RequestId: x".to_owned(),
        ] {
            assert!(looks_like_platform(line.as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn usual_output_is_left_alone() {
        for line in [
            "",
            "hello",
            "START",
            "REPORT of the day",
            "{\"level\":\"info\",\"requestId\":\"1\",\"html\":\"\\u003cb\\u003e\"}",
            "{\"type\":\"platform\"}",
            "[stderr]",
            "Runtime.ExitError: x",
            "a Runtime.ExitError",
            "sockerless: x",
            "Task timed out",
        ] {
            // The name of a stream alone is escaped: a reader may drop the blank behind it.
            assert_eq!(looks_like_platform(line.as_bytes()), line == "[stderr]", "{line:?}");
        }
    }
}
