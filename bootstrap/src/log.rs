//! File descriptor 1, which Lambda turns into log events.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock;
use crate::protocol::Marker;

/// How much is written at once, in bytes: so much fits when a pipe is writable (PIPE_BUF), and the write does not block.
const CHUNK: usize = 4 * 1024;
/// How much may wait before no more of a program's output is read, in bytes: then the program has to wait.
const FULL: usize = 256 * 1024;

/// Lines on their way out, in order. Never blocks longer than the given time, since the reader of the log may have stalled.
pub(crate) struct Log {
    out: File,
    waiting: Vec<u8>,
    /// How much of `waiting` is written.
    written: usize,
    /// It cannot be written any more. That stops no run: the answer still reports its end.
    broken: bool,
}

impl Log {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self::of(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    fn of(out: File) -> Self {
        Self { out, waiting: Vec::new(), written: 0, broken: false }
    }

    /// Adds a line of the bootstrap's own.
    pub(crate) fn mark(&mut self, marker: &Marker) {
        self.push(format!("{marker}\n").as_bytes());
    }

    /// Adds a line, newline included.
    pub(crate) fn push(&mut self, line: &[u8]) {
        if !self.broken {
            self.waiting.extend_from_slice(line);
        }
    }

    /// What to poll for POLLOUT, if something waits.
    pub(crate) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        (!self.is_empty()).then(|| self.out.as_fd())
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// No more should be added for now.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() - self.written >= FULL
    }

    /// Writes what can be written without waiting.
    pub(crate) fn write(&mut self) {
        while !self.is_empty() && self.is_writable(Duration::ZERO) {
            self.write_chunk();
        }
    }

    /// Writes all that waits. False: `until` came, or nothing was taken for `stall`.
    pub(crate) fn flush(&mut self, until: Instant, stall: Duration) -> bool {
        while !self.is_empty() {
            let left = until.saturating_duration_since(clock::now());
            if !self.is_writable(left.min(stall)) {
                return false;
            }
            self.write_chunk();
        }
        true
    }

    /// False: it did not become writable in time.
    fn is_writable(&self, within: Duration) -> bool {
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
        // All signals are blocked, so that nothing interrupts it.
        poll(&mut [PollFd::new(self.out.as_fd(), PollFlags::POLLOUT)], timeout) != Ok(0)
    }

    fn write_chunk(&mut self) {
        let rest = self.waiting.get(self.written..).unwrap_or_default();
        match (&self.out).write(rest.get(..CHUNK).unwrap_or(rest)) {
            Ok(length) if length > 0 => self.written += length,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Ok(_) | Err(_) => {
                self.broken = true;
                self.written = self.waiting.len();
            }
        }
        if self.written == self.waiting.len() {
            self.waiting.clear();
            self.written = 0;
        } else if self.written >= FULL {
            self.waiting.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn log_that_nobody_reads_waits_no_longer_than_asked() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut log = Log::of(File::from(std::os::fd::OwnedFd::from(writer)));
        let text = vec![b'x'; 4 * FULL];
        log.push(&text);
        log.write();
        assert!(log.is_full() && log.waits_for().is_some());
        assert!(!log.flush(clock::now() + Duration::from_secs(60), Duration::from_millis(20)));
        assert!(!log.flush(clock::now(), Duration::from_secs(60)));
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all).unwrap()
        });
        assert!(log.flush(clock::now() + Duration::from_secs(60), Duration::from_secs(60)));
        assert!(log.is_empty() && !log.is_full());
        drop(log);
        assert_eq!(reading.join().unwrap(), text);
    }

    #[test]
    fn log_without_a_reader_is_empty() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut log = Log::of(File::from(std::os::fd::OwnedFd::from(writer)));
        log.push(b"x\n");
        assert!(log.flush(clock::now() + Duration::from_secs(60), Duration::from_secs(60)));
        log.push(b"y\n");
        assert!(log.is_empty());
    }
}
