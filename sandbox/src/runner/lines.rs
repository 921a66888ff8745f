//! Cuts output into lines. Pure.

/// The longest line, in bytes, as in CloudWatch Logs; a longer one becomes several.
pub(super) const LINE_LIMIT: usize = 256 * 1024;

/// The beginning of a line whose end was not read yet.
#[derive(Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// The lines that `bytes` completes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            self.0.extend_from_slice(piece);
            while self.0.len() > LINE_LIMIT {
                lines.push(text(self.0.drain(..LINE_LIMIT).collect()));
            }
            if pieces.peek().is_some() {
                lines.push(text(std::mem::take(&mut self.0)));
            }
        }
        lines
    }

    /// What is left without a newline.
    pub(super) fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.0);
        (!rest.is_empty()).then(|| text(rest))
    }
}

fn text(line: Vec<u8>) -> String {
    String::from_utf8(line).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_not_too_long() {
        let mut lines = Lines::default();
        assert!(lines.push(b"a").is_empty());
        assert_eq!(lines.push(b"b\n\nc"), ["ab", ""]);
        assert_eq!(lines.finish().as_deref(), Some("c"));
        assert_eq!(lines.finish(), None);
        assert_eq!(lines.push(b"\xff\n"), ["\u{fffd}"]);
        let long = vec![b'x'; LINE_LIMIT + 1];
        assert_eq!(lines.push(&long).iter().map(String::len).collect::<Vec<_>>(), [LINE_LIMIT]);
        assert_eq!(lines.push(b"\n"), ["x"]);
    }
}
