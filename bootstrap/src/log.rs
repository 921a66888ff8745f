//! File descriptor 1, which Lambda turns into log events.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::protocol::Marker;

/// Writes lines, each with one call of `write`, and without a buffer: what was written is out.
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    /// Writes a line of the bootstrap's own.
    pub(crate) fn mark(&self, marker: &Marker) {
        self.write(format!("{marker}\n").as_bytes());
    }

    /// Writes a line, newline included. A log that cannot be written stops no run: the answer still tells its end.
    pub(crate) fn write(&self, line: &[u8]) {
        let mut rest = line;
        while !rest.is_empty() {
            match (&self.0).write(rest) {
                Ok(0) => return,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody who shares the pipe has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
                }
                Err(_) => return,
            }
        }
    }
}
