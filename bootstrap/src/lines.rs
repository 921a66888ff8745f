//! Cuts a program's output into the lines of the log. Pure.
//!
//! A line of the log is a log event: at most [`MAX_LINE_BYTES`] and its prefix, so that nothing behind the bootstrap cuts
//! it again, and each one is encoded for itself, so that no piece of a long line reads as a line of the platform.

use crate::protocol::{MAX_ESCAPED_BYTES, MAX_LINE_BYTES, Stream, encode_line, needs_escape};

/// One output of a program on its way to the log.
///
/// A piece without a newline is kept until its newline, the end of the output or [`MAX_LINE_BYTES`] comes,
/// however long that takes: a prompt appears in the log together with what follows it.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    pending: Vec<u8>,
}

impl Lines {
    /// Of one output, of which nothing was read yet.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Takes what was read and gives each finished line of the log, newline included, to `write`.
    pub fn push(&mut self, bytes: &[u8], mut write: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.pending.extend_from_slice(line);
            self.cut(&mut write);
            self.give(self.pending.len(), true, &mut write);
            rest = after.get(1..).unwrap_or_default();
        }
        self.pending.extend_from_slice(rest);
        self.cut(&mut write);
    }

    /// The output has ended: gives what has no newline.
    pub fn finish(&mut self, mut write: impl FnMut(&[u8])) {
        if !self.pending.is_empty() {
            self.give(self.pending.len(), false, &mut write);
        }
    }

    /// Gives the beginning of a line that is too long. What remains is never empty.
    fn cut(&mut self, write: &mut impl FnMut(&[u8])) {
        while let Some(piece) = self.pending.get(..MAX_LINE_BYTES).filter(|_| self.pending.len() > MAX_LINE_BYTES) {
            self.give(before_split_character(piece), false, write);
        }
    }

    fn give(&mut self, length: usize, complete: bool, write: &mut impl FnMut(&[u8])) {
        let text: Vec<u8> = self.pending.drain(..length).collect();
        if text.len() <= MAX_ESCAPED_BYTES || !needs_escape(&text) {
            return write(&encode_line(self.stream, &text, complete));
        }
        let mut pieces = text.chunks(MAX_ESCAPED_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            write(&encode_line(self.stream, piece, complete && pieces.peek().is_none()));
        }
    }
}

/// Where to cut so that no UTF-8 character is torn apart.
fn before_split_character(piece: &[u8]) -> usize {
    for (back, byte) in piece.iter().rev().take(3).enumerate() {
        let seen = back + 1;
        let wanted = match byte {
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            _ => 1,
        };
        return if wanted > seen { piece.len() - seen } else { piece.len() };
    }
    piece.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(stream: Stream, chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut written = Vec::new();
        let mut lines = Lines::new(stream);
        for chunk in chunks {
            lines.push(chunk, |line| written.push(line.to_vec()));
        }
        lines.finish(|line| written.push(line.to_vec()));
        written
    }

    #[test]
    fn lines_are_whole_however_they_were_written() {
        assert_eq!(log_of(Stream::Stdout, &[b"a", b"b\nc", b"\n", b"\n"]), [&b"ab\n"[..], b"c\n", b"\n"]);
        assert_eq!(log_of(Stream::Stderr, &[b"a\nb"]), [&b"[stderr] a\n"[..], b"[stderr+] b\n"]);
        let bytes = log_of(Stream::Stdout, &[b"\0\xff\nlast\r"]);
        assert_eq!(bytes, [&b"[stdout%] %00%FF\n"[..], b"[stdout+] last\r\n"]);
        assert_eq!(log_of(Stream::Stdout, &[b"@sock", b"erless:x\n"]), [b"[stdout%] %40sockerless:x\n"]);
        assert!(log_of(Stream::Stdout, &[b""]).is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_comes_in_pieces() {
        let text = vec![b'x'; MAX_LINE_BYTES];
        let whole = log_of(Stream::Stdout, &[&text, b"\n"]);
        assert_eq!(whole.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE_BYTES + 1]);

        let pieces = log_of(Stream::Stdout, &[&text, b"y\n"]);
        assert!(pieces[0].starts_with(b"[stdout+] xxx"));
        assert_eq!(pieces[1], b"y\n");

        let rest = b"START RequestId: 1 Version: 1\n";
        assert_eq!(log_of(Stream::Stdout, &[&text, rest])[1], b"[stdout%] START RequestId%3A 1 Version: 1\n");

        let without_end = log_of(Stream::Stderr, &[&text, &text, b"y"]);
        assert_eq!(without_end.len(), 3);
        assert!(without_end.iter().all(|line| line.starts_with(b"[stderr+] ")));
    }

    #[test]
    fn bytes_that_are_no_text_are_cut_so_that_their_escapes_fit() {
        let text = vec![0xff; MAX_LINE_BYTES];
        let pieces = log_of(Stream::Stderr, &[&text, b"\n"]);
        assert_eq!(pieces.len(), 4);
        assert!(pieces[..3].iter().all(|line| line.starts_with(b"[stderr+%] %FF")));
        assert_eq!(pieces[3], b"[stderr%] %FF%FF\n");
        assert!(pieces.iter().all(|line| line.len() <= MAX_LINE_BYTES + 16));
    }

    #[test]
    fn a_character_is_not_torn_apart() {
        let mut text = vec![b'x'; MAX_LINE_BYTES - 2];
        text.extend_from_slice("€uro\n".as_bytes());
        let pieces = log_of(Stream::Stdout, &[&text]);
        assert!(pieces[0].ends_with(b"x\n"));
        assert_eq!(pieces[1], "€uro\n".as_bytes());
        for (piece, cut) in
            [(&b"ab"[..], 2), (b"a\xc3\xa4", 3), (b"a\xc3", 1), (b"a\xf0\x9f\x98", 1), (b"\x80\x80\x80", 3)]
        {
            assert_eq!(before_split_character(piece), cut, "{piece:?}");
        }
    }
}
