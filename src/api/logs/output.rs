//! What a client asked for of the output, and the way there.

use std::collections::VecDeque;

use sockerless_bootstrap::protocol::Stream;

use super::super::limits;
use super::super::reply::{Gone, Writer};
use super::super::stream::push_output;
use super::lines::Line;
use crate::clock::Timestamp;

/// What a client wants to see.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::api) struct Wanted {
    /// Standard output.
    pub(in crate::api) stdout: bool,
    /// Standard error.
    pub(in crate::api) stderr: bool,
    /// Nothing before.
    pub(in crate::api) since: Option<Timestamp>,
    /// Nothing after.
    pub(in crate::api) until: Option<Timestamp>,
    /// Of what is there already only so many lines; `None`: all.
    pub(in crate::api) tail: Option<usize>,
    /// Each line with its time.
    pub(in crate::api) timestamps: bool,
    /// Each line with the (here always empty) attributes of its log.
    pub(in crate::api) details: bool,
    /// Without frames: there is a terminal.
    pub(in crate::api) bare: bool,
}

impl Wanted {
    fn has(&self, line: &Line) -> bool {
        let at = Timestamp::from_millis(line.at_ms);
        let is_stream = match line.stream {
            Stream::Stdout => self.stdout || self.bare,
            Stream::Stderr => self.stderr || self.bare,
        };
        is_stream && self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at <= until)
    }

    fn render(&self, line: &Line, into: &mut Vec<u8>) {
        let mut text = Vec::with_capacity(line.text.len() + 32);
        if self.timestamps {
            text.extend_from_slice(Timestamp::from_millis(line.at_ms).to_string().as_bytes());
            text.push(b' ');
        }
        if self.details {
            text.push(b' ');
        }
        match line.text.strip_suffix(b"\n") {
            // A client's terminal is in raw mode then: it expects what a terminal's line discipline makes of a newline.
            Some(words) if self.bare => {
                text.extend_from_slice(words.strip_suffix(b"\r").unwrap_or(words));
                text.extend_from_slice(b"\r\n");
            }
            _ => text.extend_from_slice(&line.text),
        }
        push_output(into, line.stream, self.bare, &text);
    }
}

/// The way of lines to a client.
#[derive(Debug)]
pub(super) struct Output {
    wanted: Wanted,
    writer: Writer,
    buffer: Vec<u8>,
    /// The last lines, while it is not known yet which the last ones are.
    held: Option<Held>,
}

/// The last lines so far.
#[derive(Debug, Default)]
struct Held {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl Held {
    fn push(&mut self, line: Line, most: usize) {
        self.bytes = self.bytes.saturating_add(line.text.len());
        self.lines.push_back(line);
        while self.lines.len() > most || self.bytes > limits::MAX_TAIL_BYTES {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(oldest.text.len());
        }
    }
}

impl Output {
    pub(super) fn new(wanted: Wanted, writer: Writer) -> Self {
        Self { wanted, writer, buffer: Vec::new(), held: wanted.tail.map(|_| Held::default()) }
    }

    /// What the client asked for.
    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Takes a line; it is sent with the next [`Output::flush`] at the latest.
    pub(super) async fn push(&mut self, line: Line) -> Result<(), Gone> {
        if !self.wanted.has(&line) {
            return Ok(());
        }
        match (&mut self.held, self.wanted.tail) {
            (Some(held), Some(tail)) => {
                held.push(line, tail);
                Ok(())
            }
            _ => {
                self.wanted.render(&line, &mut self.buffer);
                if self.buffer.len() >= limits::STREAM_PIECE_BYTES { self.flush().await } else { Ok(()) }
            }
        }
    }

    /// Sends what was taken, but for what is held.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.writer.send(std::mem::take(&mut self.buffer)).await
    }

    /// The last lines are known now: sends them, and everything after them at once.
    pub(super) async fn release(&mut self) -> Result<(), Gone> {
        for line in self.held.take().into_iter().flat_map(|held| held.lines) {
            self.wanted.render(&line, &mut self.buffer);
            if self.buffer.len() >= limits::STREAM_PIECE_BYTES {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    /// Returns when the client has gone.
    pub(super) async fn gone(&self) {
        self.writer.gone().await;
    }

    /// The regular end. Returns when everything is on its way to the client: `wait` must not overtake it.
    pub(super) async fn finish(mut self) -> Result<(), Gone> {
        self.release().await?;
        self.writer.deliver().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::api::reply::{self, Body};

    fn line(stream: Stream, at_ms: i64, text: &str) -> Line {
        Line { stream, at_ms, text: text.into(), request_id: None }
    }

    async fn shown(wanted: Wanted, lines: &[Line]) -> Vec<u8> {
        let (writer, body): (Writer, Body) = reply::streamed();
        let mut output = Output::new(wanted, writer);
        let giving = async {
            for line in lines {
                output.push(line.clone()).await.unwrap();
            }
            output.finish().await.unwrap();
        };
        let ((), shown) = tokio::join!(giving, body.collect());
        shown.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn only_what_is_wanted_as_it_is_wanted() {
        let both = Wanted { stdout: true, stderr: true, bare: true, ..Wanted::default() };
        let lines = [
            line(Stream::Stdout, 1_000, "a\n"),
            line(Stream::Stderr, 2_000, "b\n"),
            line(Stream::Stdout, 3_000, "c\n"),
        ];
        assert_eq!(shown(both, &lines).await, b"a\r\nb\r\nc\r\n");
        assert_eq!(shown(Wanted { tail: Some(2), ..both }, &lines).await, b"b\r\nc\r\n");
        assert_eq!(shown(Wanted { tail: Some(0), ..both }, &lines).await, b"");
        assert_eq!(shown(Wanted { since: Some(Timestamp::from_secs(2)), ..both }, &lines).await, b"b\r\nc\r\n");
        assert_eq!(shown(Wanted { until: Some(Timestamp::from_secs(2)), ..both }, &lines).await, b"a\r\nb\r\n");
        let long = vec![line(Stream::Stdout, 1_000, &"x".repeat(1 << 20)); 40];
        let most = shown(Wanted { tail: Some(30), ..both }, &long).await.len();
        assert_eq!(most, limits::MAX_TAIL_BYTES, "what is held is limited in bytes, too");
        let framed = Wanted { stderr: true, timestamps: true, details: true, ..Wanted::default() };
        assert_eq!(shown(framed, &lines).await, b"\x02\0\0\0\0\0\0\x221970-01-01T00:00:02.000000000Z  b\n");
    }
}
