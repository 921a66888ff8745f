//! The container's output on our own stdout and stderr.

use std::io::{self, Write};

use super::frames::{Demultiplexer, OutOfStep, Stream};

/// Passes output on. After a change of daemon the output is read from its beginning again: what was passed on before is
/// skipped.
#[derive(Debug, Default)]
pub(super) struct Output {
    frames: Demultiplexer,
    stdout: Passed,
    stderr: Passed,
}

#[derive(Debug, Default)]
struct Passed {
    bytes: usize,
    to_skip: usize,
}

impl Passed {
    /// What of these bytes is new.
    fn fresh<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let skipped = self.to_skip.min(bytes.len());
        self.to_skip -= skipped;
        self.bytes += bytes.len() - skipped;
        &bytes[skipped..]
    }

    fn start_over(&mut self) {
        self.to_skip = self.bytes;
    }
}

impl Output {
    /// Output comes from its beginning from now on.
    pub(super) fn start_over(&mut self) {
        self.frames = Demultiplexer::default();
        self.stdout.start_over();
        self.stderr.start_over();
    }

    /// Whether anything was passed on.
    pub(super) fn is_empty(&self) -> bool {
        self.stdout.bytes == 0 && self.stderr.bytes == 0
    }

    /// Passes multiplexed bytes on. A reader of ours that is gone is not the container's failure.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<(), OutOfStep> {
        self.frames.push(bytes);
        while let Some((stream, text)) = self.frames.next()? {
            match stream {
                Stream::Stdout => write(&mut io::stdout().lock(), self.stdout.fresh(&text)),
                Stream::Stderr => write(&mut io::stderr().lock(), self.stderr.fresh(&text)),
            }
        }
        Ok(())
    }
}

fn write(to: &mut impl Write, bytes: &[u8]) {
    let _ = to.write_all(bytes).and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_passed_on_is_skipped_the_second_time() {
        let mut passed = Passed::default();
        assert_eq!(passed.fresh(b"hello "), b"hello ");
        passed.start_over();
        assert_eq!(passed.fresh(b"hel"), b"");
        passed.start_over();
        assert_eq!(passed.fresh(b"hello world"), b"world");
        assert_eq!(passed.fresh(b"!"), b"!");
        assert_eq!(passed.bytes, 12);
    }
}
