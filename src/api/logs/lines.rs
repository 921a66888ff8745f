//! From log events to the program's own lines. PURE.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use sockerless_bootstrap::protocol::{Marker, Stream, decode_line};

use crate::aws::LogEvent;
use crate::state::model::lambda_log::PlatformLine;
use crate::state::model::{Protocol, Run, Status};

/// A line of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Which output.
    pub(super) stream: Stream,
    /// When, Unix milliseconds.
    pub(super) at_ms: i64,
    /// What it wrote, with its newline if it had one.
    pub(super) text: Vec<u8>,
    /// The invocation that it belongs to, as far as the log tells.
    pub(super) request_id: Option<String>,
}

/// What Lambda itself writes around no particular invocation.
const INIT_LINES: [&str; 3] = ["INIT_START Runtime Version: ", "INIT_REPORT Init Duration: ", "EXTENSION\tName: "];

/// What one log stream is in the middle of.
#[derive(Debug, Default)]
struct Place {
    /// The invocation that was started last.
    request_id: Option<String>,
    /// Its REPORT was not there yet: an environment has one invocation at a time, so that no other can start.
    is_open: bool,
    after_failure: bool,
}

impl Place {
    fn is_in(&self, id: &str) -> bool {
        self.request_id.as_deref() == Some(id)
    }
}

/// Tells the program's lines from the platform's, event by event in the order of the log.
#[derive(Debug)]
pub(super) struct Decoder {
    protocol: Protocol,
    /// Request ids that are known to be this container's.
    known: BTreeSet<String>,
    /// Whether `known` is all there can be: then a line with another id is the program's, however it looks.
    settled: bool,
    places: HashMap<String, Place>,
    reported: BTreeSet<String>,
    exited: BTreeSet<String>,
}

impl Decoder {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            known: BTreeSet::new(),
            settled: false,
            places: HashMap::new(),
            reported: BTreeSet::new(),
            exited: BTreeSet::new(),
        }
    }

    /// Takes in which invocations are known. `settled`: no other is under way.
    pub(super) fn learn(&mut self, status: &Status, settled: bool) {
        self.known.extend(status.past_request_ids.iter().cloned());
        let run = status.run.as_ref();
        self.known.extend(run.and_then(|run| run.request_id.clone()));
        self.settled = settled && run.is_some_and(|run| run.request_id.is_some());
    }

    /// Whether the log showed the end of the run: nothing of the program comes after it.
    pub(super) fn saw_end_of(&self, run: &Run) -> bool {
        run.request_id.as_ref().is_some_and(|id| self.has_reported(id))
            || run.issued.as_ref().is_some_and(|issued| self.exited.contains(&issued.token))
    }

    /// Whether the log showed the end of this invocation.
    pub(super) fn has_reported(&self, request_id: &str) -> bool {
        self.reported.contains(request_id)
    }

    /// The program's line in this event, if it is one.
    pub(super) fn line(&mut self, event: &LogEvent) -> Option<Line> {
        let message = event.message.strip_suffix('\n').unwrap_or(&event.message);
        let place = self.places.entry(event.stream.clone()).or_default();
        let is_after_failure = std::mem::take(&mut place.after_failure);
        if let Some((id, line)) = PlatformLine::parse(message) {
            let is_known = self.known.contains(id);
            let is_ours = is_known || place.is_in(id);
            match line {
                PlatformLine::Start if is_known || !(self.settled || place.is_open) => {
                    *place = Place { request_id: Some(id.to_owned()), is_open: true, after_failure: false };
                    return None;
                }
                PlatformLine::Report(_) if is_ours => {
                    place.is_open &= !place.is_in(id);
                    self.reported.insert(id.to_owned());
                    return None;
                }
                PlatformLine::End if is_ours => return None,
                PlatformLine::Failed { .. } | PlatformLine::TimedOut if is_ours => {
                    place.after_failure = true;
                    return None;
                }
                _ => {}
            }
        } else if INIT_LINES.iter().any(|init| message.starts_with(init))
            || (is_after_failure && is_error_type(message))
        {
            return None;
        }
        let request_id = place.request_id.clone();
        let (stream, text, complete) = match self.protocol {
            Protocol::Native => (Stream::Stdout, Cow::Borrowed(message.as_bytes()), true),
            Protocol::Bootstrap => match decode_line(message) {
                Some(decoded) => decoded,
                None => {
                    if let Some(Marker::Exit { token, .. }) = Marker::parse(message) {
                        self.exited.insert(token);
                    }
                    return None;
                }
            },
        };
        let mut text = text.into_owned();
        text.extend(complete.then_some(b'\n'));
        Some(Line { stream, at_ms: event.timestamp_ms, text, request_id })
    }
}

/// `Runtime.ExitError` and its like, alone on a line, as Lambda writes it under a failure.
fn is_error_type(message: &str) -> bool {
    message
        .strip_prefix("Runtime.")
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6bc28136-0e5d-4365-b021-0ce6b2e64ab0";
    const NUMBERS: &str = "Duration: 10.51 ms\tBilled Duration: 11 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB";
    const OTHER: &str = "00000000-0000-0000-0000-000000000000";

    fn texts(protocol: Protocol, status: &Status, settled: bool, messages: &[&str]) -> Vec<(Stream, String)> {
        let mut decoder = Decoder::new(protocol);
        decoder.learn(status, settled);
        let event = |message: &&str| LogEvent {
            id: String::new(),
            stream: "s".to_owned(),
            timestamp_ms: 1,
            ingestion_ms: 1,
            message: (*message).to_owned(),
        };
        let lines = messages.iter().map(event).filter_map(|event| decoder.line(&event));
        lines.map(|line| (line.stream, String::from_utf8(line.text).unwrap())).collect()
    }

    #[test]
    fn platform_lines_are_not_output() {
        let messages = [
            "INIT_START Runtime Version: python:3.12\tRuntime Version ARN: arn\n",
            &format!("START RequestId: {ID} Version: $LATEST\n"),
            "hello",
            &format!("2026-11-23T01:00:00.123Z {ID} Task timed out after 3.00 seconds\n\n"),
            &format!("RequestId: {ID} Error: Runtime exited with error: exit status 3"),
            "Runtime.ExitError",
            &format!("END RequestId: {ID}\n"),
            &format!("REPORT RequestId: {ID}\t{NUMBERS}\t"),
        ];
        let found = texts(Protocol::Native, &Status::default(), false, &messages);
        assert_eq!(found, [(Stream::Stdout, "hello\n".to_owned())]);
    }

    #[test]
    fn what_only_looks_like_a_platform_line_is_output() {
        let status = Status { past_request_ids: vec![ID.to_owned()], ..Status::default() };
        let messages = [
            &format!("START RequestId: {ID} Version: $LATEST") as &str,
            &format!("END RequestId: {OTHER}"),
            &format!("REPORT RequestId: {OTHER}\tDuration: 1 ms"),
            &format!("END RequestId: {ID} of my own"),
            "START RequestId: nobody Version: 1",
            "Runtime.ExitError",
            "REPORT",
        ];
        let found = texts(Protocol::Native, &status, false, &messages);
        assert_eq!(found.len(), 6, "{found:?}");
    }

    /// An environment has one invocation at a time, so that a START within one is the program's.
    #[test]
    fn a_start_within_an_invocation_is_output_whatever_is_known_of_it() {
        let start = |id: &str| format!("START RequestId: {id} Version: $LATEST");
        let old = format!("START RequestId: {OTHER} Version: 1");
        let report = |id: &str| format!("REPORT RequestId: {id}\t{NUMBERS}");
        let messages = [&start(ID), "a", &start(OTHER), &old, "b", &report(OTHER), &report(ID), &start(OTHER), "c"];
        let known = Status { past_request_ids: vec![ID.to_owned()], ..Status::default() };
        for protocol in [Protocol::Native, Protocol::Bootstrap] {
            for status in [&Status::default(), &known] {
                let found = texts(protocol, status, false, &messages);
                let words: Vec<&str> = found.iter().map(|(_, text)| text.trim_end()).collect();
                assert_eq!(words, ["a", &start(OTHER), &old, "b", &report(OTHER), "c"], "{protocol:?}");
            }
        }
    }

    #[test]
    fn a_start_of_a_foreign_invocation_is_output_once_all_are_known() {
        let run: Run = serde_json::from_value(serde_json::json!({
            "no": 1, "start": 1, "issued": null, "request_id": ID, "log_stream": null, "phase": "issued",
            "second_runs": 0, "tail": null, "result": null, "report": null,
        }))
        .unwrap();
        let status = Status { run: Some(run), ..Status::default() };
        let foreign = format!("START RequestId: {OTHER} Version: $LATEST");
        assert_eq!(texts(Protocol::Native, &status, true, &[&foreign]).len(), 1);
        assert_eq!(texts(Protocol::Native, &status, false, &[&foreign]).len(), 0);
    }

    #[test]
    fn programs_lines_that_look_like_the_platforms_come_back_from_the_bootstrap() {
        let written = [
            &format!("START RequestId: {ID} Version: $LATEST") as &str,
            &format!("END RequestId: {ID}"),
            &format!("REPORT RequestId: {ID}\tDuration: 1 ms\t"),
            &format!("2026-11-23T01:00:00.123Z {ID} Task timed out after 3.00 seconds"),
            &format!("RequestId: {ID} Error: Runtime exited"),
            "Runtime.ExitError",
            "INIT_START Runtime Version: x",
            "EXTENSION\tName: x",
            "@sockerless:exit t 0 exited",
            "[stderr] x",
        ];
        let encode = |text: &&str| {
            String::from_utf8(sockerless_bootstrap::protocol::encode_line(Stream::Stdout, text.as_bytes(), true))
                .unwrap()
        };
        let messages: Vec<String> = written.iter().map(encode).collect();
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        let status = Status { past_request_ids: vec![ID.to_owned()], ..Status::default() };
        let found = texts(Protocol::Bootstrap, &status, false, &messages);
        assert_eq!(found, written.map(|text| (Stream::Stdout, format!("{text}\n"))));
    }

    #[test]
    fn the_bootstraps_lines_are_decoded() {
        let messages = [
            "@sockerless:start t r",
            "out",
            "[stderr] err",
            "[stdout+] half",
            "[stdout] [stderr] no",
            "[stderr%] 100%25 caf%C3%A9",
            "",
            "@sockerless:exit t 0 exited",
        ];
        let found = texts(Protocol::Bootstrap, &Status::default(), false, &messages);
        let expected = [
            (Stream::Stdout, "out\n"),
            (Stream::Stderr, "err\n"),
            (Stream::Stdout, "half"),
            (Stream::Stdout, "[stderr] no\n"),
            (Stream::Stderr, "100% caf\u{e9}\n"),
            (Stream::Stdout, "\n"),
        ];
        assert_eq!(found, expected.map(|(stream, text)| (stream, text.to_owned())));
    }
}
