//! The pipe that an environment's processes write to.

use std::fs::File;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe::Receiver;

/// The reading end, in two handles: one that the poller knows, and one that asks the kernel itself.
pub(super) struct Output {
    polled: Receiver,
    direct: File,
}

impl Output {
    pub(super) fn new(reader: PipeReader) -> io::Result<Self> {
        let fd = OwnedFd::from(reader);
        let direct = File::from(fd.try_clone()?);
        // Makes both non-blocking: they are one open pipe.
        Ok(Self { polled: Receiver::from_owned_fd(fd)?, direct })
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) {
        // An error will be there for `try_read`, too.
        let _ = self.polled.readable().await;
    }

    /// Reads if the poller says that there is something.
    pub(super) fn try_read(&self, chunk: &mut [u8]) -> io::Result<usize> {
        self.polled.try_read(chunk)
    }

    /// Reads what is there at this moment, whatever the poller knows.
    pub(super) fn read_now(&self, chunk: &mut [u8]) -> io::Result<usize> {
        (&self.direct).read(chunk)
    }
}
