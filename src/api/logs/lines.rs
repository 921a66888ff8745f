//! From log events to the program's own lines. PURE.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use sockerless_bootstrap::protocol::{Marker, Stream, decode_line};

use super::names::Names;
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

/// What Lambda itself writes between invocations.
const INIT_LINES: [&str; 4] =
    ["INIT_START Runtime Version: ", "INIT_REPORT Init Duration: ", "EXTENSION\tName: ", "TELEMETRY\tName: "];

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

/// Where the latest run's program was seen to start in a stream, and where its invocation was seen to end: Unix milliseconds.
#[derive(Debug)]
struct Span {
    from_ms: i64,
    until_ms: Option<i64>,
}

impl Span {
    fn has(&self, at_ms: i64) -> bool {
        self.from_ms < at_ms && self.until_ms.is_none_or(|until| at_ms < until)
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
    /// The latest run, by stream: for a reader who begins in the middle.
    spans: HashMap<String, Span>,
    request_id: Option<String>,
    token: Option<String>,
    places: HashMap<String, Place>,
    reported: Names<()>,
    exited: Names<()>,
}

impl Decoder {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            known: BTreeSet::new(),
            settled: false,
            spans: HashMap::new(),
            request_id: None,
            token: None,
            places: HashMap::new(),
            reported: Names::default(),
            exited: Names::default(),
        }
    }

    /// Takes in which invocations are known. `settled`: no other is under way.
    pub(super) fn learn(&mut self, status: &Status, settled: bool) {
        let run = status.run.as_ref();
        self.request_id = run.and_then(|run| run.request_id.clone());
        self.token = run.and_then(|run| run.issued.as_ref()).map(|issued| issued.token.clone());
        self.known = status.past_request_ids.iter().chain(&self.request_id).cloned().collect();
        self.settled = settled && self.request_id.is_some();
        self.spans = run.map(spans).unwrap_or_default();
        let run = run.map_or(0, |run| run.no);
        self.reported.begin_run(run, |id| self.known.contains(id));
        self.exited.begin_run(run, |token| self.token.as_deref() == Some(token));
    }

    /// Whether no other invocation than the known ones is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Forgets how far every other stream was read.
    pub(super) fn keep_streams(&mut self, streams: &[String]) {
        self.places.retain(|stream, _| streams.contains(stream));
    }

    /// Whether the request id is known to be this container's.
    pub(super) fn knows(&self, request_id: &str) -> bool {
        self.known.contains(request_id)
    }

    /// Whether the log showed the end of the run: nothing of the program comes after it.
    pub(super) fn saw_end_of(&self, run: &Run) -> bool {
        run.request_id.as_ref().is_some_and(|id| self.has_reported(id))
            || run.issued.as_ref().is_some_and(|issued| self.exited.get(&issued.token).is_some())
    }

    /// Whether the log showed the end of this invocation.
    pub(super) fn has_reported(&self, request_id: &str) -> bool {
        self.reported.get(request_id).is_some()
    }

    /// Where a stream is when its first event is read: within the latest run if that was seen to start before.
    fn place(&self, event: &LogEvent) -> Place {
        let is_open = self.spans.get(&event.stream).is_some_and(|span| span.has(event.timestamp_ms));
        let request_id = self.request_id.clone().filter(|_| is_open);
        Place { request_id, is_open, after_failure: false }
    }

    /// The program's line in this event, if it is one.
    pub(super) fn line(&mut self, event: &LogEvent) -> Option<Line> {
        let message = event.message.strip_suffix('\n').unwrap_or(&event.message);
        if !self.places.contains_key(&event.stream) {
            self.places.insert(event.stream.clone(), self.place(event));
        }
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
                    self.reported.note(id, |id| self.known.contains(id));
                    return None;
                }
                PlatformLine::End if is_ours => return None,
                PlatformLine::Failed { .. } | PlatformLine::TimedOut if is_ours => {
                    place.after_failure = true;
                    return None;
                }
                _ => {}
            }
        } else if is_after_failure && is_error_type(message) {
            return None;
        } else if is_init_line(message) && (self.protocol == Protocol::Bootstrap || !place.is_open) {
            // The bootstrap encodes such a line of the program; a native program's is Lambda's outside an invocation only.
            return None;
        }
        let request_id = place.request_id.clone();
        let (stream, text, complete) = match self.protocol {
            Protocol::Native => (Stream::Stdout, Cow::Borrowed(message.as_bytes()), true),
            Protocol::Bootstrap => match decode_line(message) {
                Some(decoded) => decoded,
                None => {
                    if let Some(Marker::Exit { token, .. }) = Marker::parse(message) {
                        self.exited.note(&token, |token| self.token.as_deref() == Some(token));
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

/// Where the run was seen to start, by stream, and to end there.
fn spans(run: &Run) -> HashMap<String, Span> {
    let report = run.report.as_ref();
    let span = |place: &String| {
        let (stream, from) = place.rsplit_once('@')?;
        let end = report.filter(|report| report.stream == stream);
        let until_ms = end.map(|report| report.at.as_millis());
        Some((stream.to_owned(), Span { from_ms: from.parse().ok()?, until_ms }))
    };
    run.starts_seen.iter().filter_map(span).collect()
}

fn is_init_line(message: &str) -> bool {
    INIT_LINES.iter().any(|init| message.starts_with(init))
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
    use crate::api::tests::issued_run;
    use crate::clock::Timestamp;
    use crate::state::model::Report;

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

    /// Between START and REPORT, Lambda writes no line about the environment: a program does.
    #[test]
    fn init_lines_within_an_invocation_are_output() {
        let inits = INIT_LINES.map(|init| format!("{init}x"));
        let [a, b, c, d] = inits.each_ref().map(String::as_str);
        let (start, end) = (format!("START RequestId: {ID} Version: $LATEST"), format!("END RequestId: {ID}"));
        let report = format!("REPORT RequestId: {ID}\t{NUMBERS}");
        let messages = [a, b, c, d, &start, a, b, c, d, &end, &report, a, b, c, d];
        let known = Status { past_request_ids: vec![ID.to_owned()], ..Status::default() };
        for (status, settled) in [(&Status::default(), false), (&known, false), (&known, true)] {
            let found = texts(Protocol::Native, status, settled, &messages);
            assert_eq!(found, inits.each_ref().map(|init| (Stream::Stdout, format!("{init}\n"))));
        }
        assert_eq!(texts(Protocol::Bootstrap, &known, false, &messages), [], "the bootstrap encodes the program's");
    }

    /// As with `--since`: the START was not read, but the reconciler has seen it.
    #[test]
    fn init_lines_are_output_for_a_reader_who_begins_within_the_invocation() {
        let mut run = issued_run(1);
        let found = |run: &Run| {
            let status = Status { run: Some(run.clone()), ..Status::default() };
            texts(Protocol::Native, &status, false, &[INIT_LINES[2]]).len()
        };
        assert_eq!(found(&run), 0);
        run.starts_seen = vec!["s@1".to_owned(), "other@0".to_owned()];
        assert_eq!(found(&run), 0, "it was not before");
        run.starts_seen = vec!["s@0".to_owned()];
        assert_eq!(found(&run), 1);
        run.report = Some(Report { stream: "s".to_owned(), at: Timestamp::from_millis(1), ..Report::default() });
        assert_eq!(found(&run), 0, "the invocation was over");
    }

    #[test]
    fn ends_of_forged_invocations_are_bounded() {
        let status = Status { run: Some(issued_run(1)), ..Status::default() };
        let mut decoder = Decoder::new(Protocol::Bootstrap);
        decoder.learn(&status, false);
        let mut line = |message: String| {
            let (id, stream) = (String::new(), "s".to_owned());
            decoder.line(&LogEvent { id, stream, timestamp_ms: 1, ingestion_ms: 1, message })
        };
        for forged in 0..10_000 {
            let id = format!("00000000-0000-0000-0000-{forged:012}");
            line(format!("START RequestId: {id} Version: $LATEST"));
            line(format!("@sockerless:exit forged-{forged} 0 exited"));
            line(format!("@sockerless:exit {} 0 exited", "x".repeat(1_000 + forged)));
            line(format!("REPORT RequestId: {id}\t{NUMBERS}"));
        }
        line("@sockerless:exit token-1 0 exited".to_owned());
        assert!(decoder.saw_end_of(status.run.as_ref().unwrap()), "the run's own end is seen");
        assert!(decoder.reported.len() <= 64 && decoder.exited.len() <= 65);
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
