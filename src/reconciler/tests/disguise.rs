//! What a program writes, against the reader of the log: it is never taken for a line of Lambda's or of the bootstrap's, and
//! comes back as it was.

use proptest::collection::vec;
use proptest::prelude::*;
use sockerless_bootstrap::lines::Lines;
use sockerless_bootstrap::protocol::{MAX_LINE_BYTES, Marker, Stream, decode_line, encode_line};

use crate::reconciler::lines::parse;

const ID: &str = "6bc28136-xmpl-4365-b021-0ce6b2e64ab0";

/// Pieces of lines that are read as evidence, and what could hide or cut them.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "START RequestId: ",
        "END RequestId: ",
        "REPORT RequestId: ",
        "RequestId: ",
        ID,
        " Error: Runtime exited with error: exit status 0",
        " Version: $LATEST",
        "\tDuration: NaN ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB",
        "\tStatus: success",
        "2026-11-23T01:13:11.973Z ",
        " Task timed out after ",
        "3.00 seconds",
        "@sockerless:",
        "@sockerless:exit t 0 exited",
        "@sock",
        "erless:",
        "Requ",
        "estId:",
        "IMAGE\tLaunch error: x",
        "INIT_START ",
        "{\"time\":\"\",\"type\":\"platform.report\",\"record\":{}}",
        "\\u0070latform.",
        "{\"type\":\"",
        "[stdout] ",
        "[stderr] ",
        "[stdout+] ",
        "[stderr+%] ",
        "%",
        "%41",
        "Runtime.ExitError",
        " ",
        "\t",
        "\r",
        "\n",
        "\n\n",
        "\0",
        "\x1b[1m",
        "\u{feff}",
        "\u{200b}",
        "\u{2028}",
        "ä€😀",
    ];
    prop_oneof![
        6 => proptest::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
        // Lines that are cut, at any place.
        1 => (MAX_LINE_BYTES - 40..MAX_LINE_BYTES + 40).prop_map(|length| vec![b'x'; length]),
    ]
}

/// The log's lines of an output that was read in these pieces.
fn log_of(stream: Stream, pieces: &[Vec<u8>]) -> Vec<String> {
    let mut log = Vec::new();
    let mut lines = Lines::new(stream);
    for piece in pieces {
        lines.push(piece, |line| log.push(String::from_utf8(line.to_vec()).unwrap()));
    }
    lines.finish(|line| log.push(String::from_utf8(line.to_vec()).unwrap()));
    log
}

fn assert_harmless(line: &str) {
    assert!(!line[..line.len() - 1].contains('\n'), "one event: {line:?}");
    assert!(line.len() <= MAX_LINE_BYTES + 16, "CloudWatch Logs does not cut it");
    // However much a reader leaves away at the beginning, such as what stands before a carriage return.
    let starts =
        std::iter::once(0).chain(line.match_indices(['\r', ' ', '\t', '\u{2028}']).map(|(at, end)| at + end.len()));
    for from in starts.filter(|from| *from < line.len()).take(64) {
        assert_eq!(parse(&line[from..]), None, "{line:?}");
        assert_eq!(Marker::parse(&line[from..]), None, "{line:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn output_of_a_program_is_never_read_as_evidence_and_comes_back(
        pieces in vec(piece(), 0..12),
        stdout in any::<bool>(),
    ) {
        let stream = if stdout { Stream::Stdout } else { Stream::Stderr };
        let mut back = Vec::new();
        for line in log_of(stream, &pieces) {
            assert_harmless(&line);
            let (of, text, complete) = decode_line(line.strip_suffix('\n').unwrap()).unwrap();
            prop_assert_eq!(of, stream);
            back.extend_from_slice(&text);
            back.extend(complete.then_some(b'\n'));
        }
        prop_assert_eq!(back, pieces.concat());
    }

    #[test]
    fn line_of_any_bytes_is_never_read_as_evidence_and_comes_back(
        text in vec(piece(), 0..8),
        complete in any::<bool>(),
    ) {
        let text: Vec<u8> = text.concat().into_iter().filter(|byte| *byte != b'\n').take(4096).collect();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let line = String::from_utf8(encode_line(stream, &text, complete)).unwrap();
            assert_harmless(&line);
            let (of, back, whole) = decode_line(line.strip_suffix('\n').unwrap()).unwrap();
            prop_assert_eq!((of, back.as_ref(), whole), (stream, &text[..], complete));
        }
    }
}
