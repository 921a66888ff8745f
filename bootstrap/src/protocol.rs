//! What the daemon and the bootstrap say to each other. Pure: no input, no output, no clock.
//!
//! Three texts travel between them:
//!
//! - the **envelope**, the JSON payload of an invocation: what to run and the token of the run;
//! - the **answer**, the JSON that the bootstrap returns to Lambda: how the program ended;
//! - the **log lines**: two marker lines around a run, which carry the same news for a daemon that lost the
//!   answer, and the program's own lines, encoded so that stdout and stderr can be told apart again.
//!
//! # Log lines
//!
//! CloudWatch Logs does not tell stdout from stderr, and every event is one line. So:
//!
//! | the line in the log | means |
//! |---|---|
//! | `@sockerless:start TOKEN REQUEST_ID` | the program of run TOKEN is about to start |
//! | `@sockerless:exit TOKEN CODE REASON [SIGNAL]` | the program of run TOKEN has ended |
//! | `@sockerless:duplicate TOKEN REQUEST_ID` | Lambda delivered run TOKEN again; nothing was run |
//! | `[stderr] TEXT` | a line of stderr |
//! | `[stderr+] TEXT` | a piece of stderr that did not end in a newline |
//! | `[stdout+] TEXT` | a piece of stdout that did not end in a newline |
//! | `[stdout] TEXT` | a line of stdout that would otherwise read as one of these |
//! | `[stdout%] TEXT`, `[stdout+%]`, `[stderr%]`, `[stderr+%]` | the same with bytes escaped: `%XX` is a byte |
//! | anything else | a line of stdout, as it is |
//!
//! Escaped are bytes that are no text, and in a line that [looks like one of the platform's](looks_like_platform) the
//! bytes that make it look so: `[stdout%] START RequestId%3A …`. So no line of a program is taken for Lambda's, for a
//! marker or for another line's encoding, and every line comes back as it was written. Neither the token nor the request
//! id is given to the program, so it could not name its run in such a line either.

mod platform;

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode, percent_encode_byte};
use serde::{Deserialize, Serialize};

pub use platform::looks_like_platform;

/// The beginning of every line that the bootstrap itself prints; also the phrase to look for in the logs.
pub const MARKER: &str = "@sockerless:";
/// The version of the envelope and of the answer.
pub const VERSION: u32 = 1;
/// The longest piece of a program's line that becomes one log event, in bytes. CloudWatch Logs cuts events at 256 KiB.
pub const MAX_LINE_BYTES: usize = 128 * 1024;
/// The same for a line in which bytes are escaped: each may take three in the log.
pub const MAX_ESCAPED_BYTES: usize = MAX_LINE_BYTES / 3;
/// The exit code of a program that was ended because the invocation's time was up.
pub const DEADLINE_EXIT_CODE: u8 = 137;

/// What can stand in front of a program's line, and what it means: stream, complete, escaped.
const PREFIXES: [(&str, Stream, bool, bool); 8] = [
    ("[stdout] ", Stream::Stdout, true, false),
    ("[stdout+] ", Stream::Stdout, false, false),
    ("[stderr] ", Stream::Stderr, true, false),
    ("[stderr+] ", Stream::Stderr, false, false),
    ("[stdout%] ", Stream::Stdout, true, true),
    ("[stdout+%] ", Stream::Stdout, false, true),
    ("[stderr%] ", Stream::Stderr, true, true),
    ("[stderr+%] ", Stream::Stderr, false, true),
];
/// The bytes of text that are escaped in an escaped line; what is no text is, too.
const ESCAPED: &AsciiSet = &CONTROLS.remove(b'\t').add(b'%');

/// The payload of an invocation of a function whose image has the bootstrap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// What to run. The member's name tells an envelope from any other payload.
    pub sockerless: Order,
}

/// What to run, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Names the run; a second order with a token that was seen is refused.
    pub token: String,
    /// Program and arguments; empty: the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// The command is given to the image's own entrypoint, as Docker's `Cmd` is; false: it is all there is.
    #[serde(default)]
    pub after_entrypoint: bool,
    /// `NAME=value`, added to the function's own environment.
    #[serde(default)]
    pub env: Vec<String>,
    /// Where the program starts; absent: where the bootstrap was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Stdout and stderr are one stream, in the order in which they are written, as on a terminal. There is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// Given to the program on stdin and in a file; absent: stdin is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// Never prints the environment or the payload.
impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("token", &self.token).finish_non_exhaustive()
    }
}

/// What the bootstrap answers to an invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// How the run ended. The member's name tells an answer from any other result.
    pub sockerless: Verdict,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The order's token.
    pub token: String,
    /// The exit status as a shell gives it: 126 cannot be executed, 127 not found, 128+N ended by signal N.
    pub exit_code: u8,
    /// Why it ended.
    pub reason: Reason,
    /// The number of the signal that ended the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// A sentence for people, when the program could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The program returned.
    Exited,
    /// A signal ended the program, and the bootstrap did not send it.
    Signalled,
    /// The bootstrap ended the program because the invocation's time was up.
    Deadline,
    /// The program could not be started.
    NotStarted,
    /// The token was seen before: nothing was run, and this settles nothing.
    Duplicate,
}

impl Reason {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Exited, "exited"),
        (Self::Signalled, "signalled"),
        (Self::Deadline, "deadline"),
        (Self::NotStarted, "not_started"),
        (Self::Duplicate, "duplicate"),
    ];

    /// The word in the exit marker.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(reason, _)| *reason == self).map_or("", |(_, word)| word)
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, w)| *w == word).map(|(reason, _)| *reason)
    }
}

/// A line that the bootstrap prints around a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The program is about to start.
    Start {
        /// The order's token.
        token: String,
        /// Lambda's id of the invocation.
        request_id: String,
    },
    /// The program has ended.
    Exit {
        /// The order's token.
        token: String,
        /// As in [`Verdict::exit_code`].
        exit_code: u8,
        /// Why it ended.
        reason: Reason,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// The same order came again and was refused.
    Duplicate {
        /// The order's token.
        token: String,
        /// Lambda's id of the second invocation.
        request_id: String,
    },
}

impl Marker {
    /// Reads a log line, with or without its newline. `None`: the line is no marker.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.trim_end_matches(['\n', '\r']).strip_prefix(MARKER)?.split(' ');
        let kind = words.next()?;
        let token = words.next().filter(|t| !t.is_empty())?.to_owned();
        let third = words.next()?;
        let marker = match kind {
            "start" => Self::Start { token, request_id: third.to_owned() },
            "duplicate" => Self::Duplicate { token, request_id: third.to_owned() },
            "exit" => {
                let reason = Reason::parse(words.next()?)?;
                let signal = words.next().map(str::parse).transpose().ok()?;
                Self::Exit { token, exit_code: third.parse().ok()?, reason, signal }
            }
            _ => return None,
        };
        words.next().is_none().then_some(marker)
    }
}

/// The line without its newline.
impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { token, request_id } => write!(f, "{MARKER}start {token} {request_id}"),
            Self::Duplicate { token, request_id } => write!(f, "{MARKER}duplicate {token} {request_id}"),
            Self::Exit { token, exit_code, reason, signal } => {
                write!(f, "{MARKER}exit {token} {exit_code} {}", reason.as_str())?;
                signal.map_or(Ok(()), |signal| write!(f, " {signal}"))
            }
        }
    }
}

/// Which of the program's outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// Whether some of these bytes must be escaped: the log takes text only, and no phrase of the platform's.
#[must_use]
pub fn needs_escape(text: &[u8]) -> bool {
    text.contains(&0) || std::str::from_utf8(text).is_err() || !platform::phrases(text).is_empty()
}

/// A program's line as it stands in the log, newline included. `text` has none; `complete`: it ended in one.
#[must_use]
pub fn encode_line(stream: Stream, text: &[u8], complete: bool) -> Vec<u8> {
    let escaped = needs_escape(text);
    let is_plain = stream == Stream::Stdout && complete && !escaped && !platform::is_reserved(text);
    let prefix = PREFIXES.iter().find(|p| (p.1, p.2, p.3) == (stream, complete, escaped)).filter(|_| !is_plain);
    let mut line = prefix.map_or_else(Vec::new, |prefix| prefix.0.as_bytes().to_vec());
    if escaped {
        escape(text, &mut line);
    } else {
        line.extend_from_slice(text);
    }
    line.push(b'\n');
    line
}

/// Text stays readable: only what is no text, [`ESCAPED`], and a byte of each of the platform's phrases is escaped.
fn escape(text: &[u8], line: &mut Vec<u8>) {
    let mut from = 0;
    for place in platform::phrases(text) {
        escape_bytes(text.get(from..place).unwrap_or_default(), line);
        let byte = text.get(place).copied().unwrap_or_default();
        line.extend_from_slice(percent_encode_byte(byte).as_bytes());
        from = place + 1;
    }
    escape_bytes(text.get(from..).unwrap_or_default(), line);
}

fn escape_bytes(bytes: &[u8], line: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for byte in chunk.valid().as_bytes() {
            if byte.is_ascii() {
                line.extend(percent_encode(&[*byte], ESCAPED).flat_map(str::bytes));
            } else {
                line.push(*byte);
            }
        }
        line.extend(chunk.invalid().iter().flat_map(|byte| percent_encode_byte(*byte).bytes()));
    }
}

/// A line of the log as the program wrote it: stream, bytes without newline, and whether a newline follows.
/// `None`: the line is the bootstrap's own.
#[must_use]
pub fn decode_line(line: &str) -> Option<(Stream, Cow<'_, [u8]>, bool)> {
    if line.starts_with(MARKER) {
        return None;
    }
    let decoded = PREFIXES.iter().find_map(|(prefix, stream, complete, escaped)| {
        let text = line.strip_prefix(prefix)?;
        let bytes = if *escaped { Cow::from(percent_decode_str(text)) } else { Cow::Borrowed(text.as_bytes()) };
        Some((*stream, bytes, *complete))
    });
    Some(decoded.unwrap_or((Stream::Stdout, Cow::Borrowed(line.as_bytes()), true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_survive_the_log() {
        let token = "0123456789abcdef0123456789abcdef".to_owned();
        let request_id = "6bc28136-0e5d-4365-b021-0ce6b2e64ab0".to_owned();
        for marker in [
            Marker::Start { token: token.clone(), request_id: request_id.clone() },
            Marker::Duplicate { token: token.clone(), request_id },
            Marker::Exit { token: token.clone(), exit_code: 3, reason: Reason::Exited, signal: None },
            Marker::Exit { token, exit_code: 143, reason: Reason::Signalled, signal: Some(15) },
        ] {
            assert_eq!(Marker::parse(&format!("{marker}\n")), Some(marker));
        }
    }

    #[test]
    fn lines_that_are_no_markers() {
        for line in [
            "",
            "hello",
            "@sockerless:",
            "@sockerless:start",
            "@sockerless:start t",
            "@sockerless:start  r",
            "@sockerless:start t r extra",
            "@sockerless:exit t 256 exited",
            "@sockerless:exit t x exited",
            "@sockerless:exit t 1 tired",
            "@sockerless:exit t 1 signalled nine",
            " @sockerless:start t r",
        ] {
            assert_eq!(Marker::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn every_program_line_comes_back_as_it_was() {
        let words = [
            "",
            "plain",
            "ä\x1b[1m\r",
            "50%",
            "[stderr] x",
            "[stdout] x",
            "[stdout+] x",
            "[stderr+%] x",
            "[stdout%] x",
            "@sockerless:exit t 0 exited",
        ];
        let all_bytes: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
        let bytes = [&b"a\0b"[..], b"\xff%41", b"[stderr] \xc3", b"@sockerless:exit t 0 exited\xff", &all_bytes];
        for text in words.iter().map(|word| word.as_bytes()).chain(bytes) {
            for (stream, complete) in
                [(Stream::Stdout, true), (Stream::Stdout, false), (Stream::Stderr, true), (Stream::Stderr, false)]
            {
                let line = String::from_utf8(encode_line(stream, text, complete)).unwrap();
                let line = line.strip_suffix('\n').unwrap();
                assert!(!line.contains(['\n', '\0']), "{line:?}");
                assert_eq!(decode_line(line), Some((stream, Cow::Borrowed(text), complete)), "{line:?}");
                assert_eq!(Marker::parse(line), None);
            }
        }
        assert_eq!(decode_line("@sockerless:start t r"), None);
    }

    #[test]
    fn lines_stay_readable() {
        for (stream, text, complete, line) in [
            (Stream::Stdout, &b"hello\tworld"[..], true, "hello\tworld\n"),
            (Stream::Stdout, b"$ ", false, "[stdout+] $ \n"),
            (Stream::Stderr, b"caf\xc3\xa9", true, "[stderr] caf\u{e9}\n"),
            (Stream::Stderr, b"caf\xe9 100%", true, "[stderr%] caf%E9 100%25\n"),
            (Stream::Stdout, "ä RequestId: 1 (5%)".as_bytes(), true, "[stdout%] ä RequestId%3A 1 (5%25)\n"),
            (Stream::Stdout, b"[stderr] x", true, "[stdout] [stderr] x\n"),
            (Stream::Stdout, b"Runtime.Error", true, "[stdout] Runtime.Error\n"),
        ] {
            assert_eq!(encode_line(stream, text, complete), line.as_bytes());
        }
    }

    #[test]
    fn an_order_does_not_print_its_secrets() {
        let order = Order {
            version: VERSION,
            token: "t".into(),
            command: vec!["sh".into()],
            after_entrypoint: false,
            env: vec!["PASSWORD=hunter2".into()],
            working_dir: None,
            tty: false,
            payload: Some("hunter3".into()),
        };
        assert!(!format!("{order:?}").contains("hunter"));
    }
}
