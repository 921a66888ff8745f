//! Docker's framing of output, and lines of JSON. PURE.

use serde_json::Value;
use sockerless_bootstrap::protocol::Stream;

/// Both outputs in one body, each piece with a header that tells which (`stdcopy`).
pub(super) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Bytes as they are; also what frames were announced as before API 1.42.
pub(super) const RAW: &str = "application/vnd.docker.raw-stream";

/// Appends a piece of output: with its header, or bare when there is a terminal.
pub(super) fn push_output(into: &mut Vec<u8>, stream: Stream, bare: bool, text: &[u8]) {
    if !bare {
        let kind = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        // A log event is at most 1 MiB, so its length always fits.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
        into.extend_from_slice(&[kind, 0, 0, 0]);
        into.extend_from_slice(&length);
    }
    into.extend_from_slice(text);
}

/// A line of JSON.
pub(super) fn json_line(value: &Value) -> String {
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_stream_and_length() {
        let mut out = Vec::new();
        push_output(&mut out, Stream::Stdout, false, b"o\n");
        push_output(&mut out, Stream::Stderr, false, b"");
        push_output(&mut out, Stream::Stderr, true, b"raw");
        assert_eq!(out, b"\x01\0\0\0\0\0\0\x02o\n\x02\0\0\0\0\0\0\0raw");
    }
}
