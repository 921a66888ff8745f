//! Takes Docker's multiplexed output apart. PURE.
//!
//! A frame is `[stream, 0, 0, 0, length as 4 bytes, big-endian]` and so many bytes.

use bytes::{Buf as _, Bytes, BytesMut};

const HEADER_BYTES: usize = 8;
/// A longer frame is none of ours: the stream is out of step.
const MAX_FRAME_BYTES: usize = 16 << 20;

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// What came is no multiplexed output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the output cannot be taken apart: {0}")]
pub(super) struct OutOfStep(&'static str);

/// Collects bytes until frames are whole.
#[derive(Debug, Default)]
pub(super) struct Demultiplexer {
    waiting: BytesMut,
}

impl Demultiplexer {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub(super) fn next(&mut self) -> Result<Option<(Stream, Bytes)>, OutOfStep> {
        let Some(header) = self.waiting.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [stream, _, _, _, a, b, c, d] = *header;
        let stream = match stream {
            0 | 1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return Err(OutOfStep("there is no such stream")),
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(OutOfStep("a frame is too long"));
        }
        if self.waiting.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.waiting.advance(HEADER_BYTES);
        Ok(Some((stream, self.waiting.split_to(length).freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend(text.bytes());
        frame
    }

    #[test]
    fn frames_come_out_whole_however_they_were_cut() {
        let bytes = [frame(1, "out"), frame(2, ""), frame(2, "err\n"), frame(1, "more")].concat();
        for size in 1..bytes.len() {
            let mut demultiplexer = Demultiplexer::default();
            let mut frames = Vec::new();
            for part in bytes.chunks(size) {
                demultiplexer.push(part);
                while let Some((stream, text)) = demultiplexer.next().unwrap() {
                    frames.push((stream, String::from_utf8(text.to_vec()).unwrap()));
                }
            }
            let expected =
                [(Stream::Stdout, "out"), (Stream::Stderr, ""), (Stream::Stderr, "err\n"), (Stream::Stdout, "more")];
            assert_eq!(frames, expected.map(|(stream, text)| (stream, text.to_owned())), "in parts of {size}");
        }
    }

    #[test]
    fn nonsense_is_told() {
        let mut demultiplexer = Demultiplexer::default();
        demultiplexer.push(b"hello, world");
        assert!(demultiplexer.next().is_err());
        let mut demultiplexer = Demultiplexer::default();
        demultiplexer.push(&[1, 0, 0, 0, 255, 255, 255, 255]);
        assert!(demultiplexer.next().is_err());
    }
}
