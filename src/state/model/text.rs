//! Texts of others, made fit to be stored and shown. PURE.

/// Stands for what was cut off.
const ELLIPSIS: char = '…';

/// The text in at most `max_bytes` bytes. A longer one is cut between two characters and ends in `…`, as far as that fits.
#[must_use]
pub fn bounded(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    match max_bytes.checked_sub(ELLIPSIS.len_utf8()) {
        Some(room) => {
            let mut cut = text[..text.floor_char_boundary(room)].to_owned();
            cut.push(ELLIPSIS);
            cut
        }
        None => text[..text.floor_char_boundary(max_bytes)].to_owned(),
    }
}

/// As [`bounded`], on one line and without control characters: each becomes a space.
#[must_use]
pub fn bounded_line(text: &str, max_bytes: usize) -> String {
    let text = bounded(text.trim(), max_bytes);
    if text.contains(char::is_control) {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_text_stays_and_a_long_one_is_cut_between_characters() {
        assert_eq!(bounded("short", 5), "short");
        assert_eq!(bounded("shorter", 6), "sho…");
        assert_eq!(bounded("äöü", 5), "ä…");
        assert_eq!(bounded("äöü", 2), "ä");
        assert_eq!(bounded("äöü", 0), "");
        assert_eq!(bounded_line(" a\u{1b}[1mb\r\nc\n", 64), "a [1mb  c");
    }

    proptest! {
        #[test]
        fn any_text_is_bounded(text in any::<String>(), max in 0..64_usize) {
            prop_assert!(bounded(&text, max).len() <= max);
            let line = bounded_line(&text, max);
            prop_assert!(line.len() <= max && !line.contains(char::is_control));
        }
    }
}
