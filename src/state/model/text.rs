//! Texts from outside, made fit to be stored and shown. PURE.

/// Stands where something was cut off.
const CUT: char = '…';

/// The text without control characters but line feeds and tabs, in at most `max_bytes`: a longer one is cut between two
/// characters, and `…` marks the cut.
#[must_use]
pub fn bounded(text: &str, max_bytes: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(max_bytes));
    // Where the mark still fits.
    let mut cut_at = 0;
    for char in text.chars().map(printable) {
        if kept.len() + char.len_utf8() > max_bytes {
            kept.truncate(cut_at);
            if CUT.len_utf8() <= max_bytes {
                kept.push(CUT);
            }
            return kept;
        }
        kept.push(char);
        if kept.len() + CUT.len_utf8() <= max_bytes {
            cut_at = kept.len();
        }
    }
    kept
}

/// As [`bounded`], on one line.
#[must_use]
pub fn bounded_line(text: &str, max_bytes: usize) -> String {
    bounded(&text.trim().replace(['\n', '\t'], " "), max_bytes).trim_end().to_owned()
}

/// As [`bounded`], in place; nothing is copied if the text fits as it is.
pub fn bound(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes || text.chars().any(|char| printable(char) != char) {
        *text = bounded(text, max_bytes);
    }
}

/// A control character would act on a terminal or split a log line; in JSON it takes six bytes.
fn printable(char: char) -> char {
    match char {
        '\n' | '\t' => char,
        char if char.is_control() => ' ',
        char => char,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_cut_between_characters_and_marked() {
        for (text, max_bytes, expected) in [
            ("", 0, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "…"),
            ("abcdef", 5, "ab…"),
            ("aéééé", 6, "aé…"),
            ("abc", 2, ""),
            ("a\u{0}b\u{1b}[31m\r\n\t", 64, "a b [31m \n\t"),
        ] {
            assert_eq!(bounded(text, max_bytes), expected, "{text:?} in {max_bytes}");
        }
    }

    #[test]
    fn a_line_has_no_line_feeds() {
        assert_eq!(bounded_line(" a\u{1b}[1mb\r\nc\n", 64), "a [1mb  c");
    }

    proptest! {
        #[test]
        fn any_line_is_one(text in any::<String>(), max_bytes in 0..64_usize) {
            let line = bounded_line(&text, max_bytes);
            prop_assert!(line.len() <= max_bytes && !line.contains(char::is_control));
        }

        #[test]
        fn a_bounded_text_fits_and_stays(text in "\\PC{0,40}|.{0,40}", max_bytes in 0_usize..60) {
            let once = bounded(&text, max_bytes);
            prop_assert!(once.len() <= max_bytes);
            prop_assert_eq!(&bounded(&once, max_bytes), &once);
            let mut in_place = text;
            bound(&mut in_place, max_bytes);
            prop_assert_eq!(&in_place, &once);
            prop_assert!(once.chars().all(|char| !char.is_control() || matches!(char, '\n' | '\t')));
        }
    }
}
