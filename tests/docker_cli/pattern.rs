//! Expected output with holes.
//!
//! `<id>` a container's id, `<short>` its first 12 digits, `<sha>` an image's id, `<name>` a name as the daemon makes
//! them, `<time>` a time, `<n>` a number, `<any>` anything on the line, `<cr>` a carriage return. A line `...` stands for any lines. Spaces at the
//! end of a line do not count, and two or more between words are as good as two: they only line up columns.

use regex::Regex;

const HOLES: [(&str, &str); 8] = [
    ("<id>", "[0-9a-f]{64}"),
    ("<short>", "[0-9a-f]{12}"),
    ("<sha>", "sha256:[0-9a-f]{64}"),
    ("<name>", "[a-z]+_[a-z]+[0-9]?"),
    ("<time>", r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9:]+)"),
    ("<n>", r"[0-9]+(?:\.[0-9]+)?"),
    ("<any>", "[^\n]+"),
    ("<cr>", "\r"),
];

/// Whether an output is as expected.
pub(crate) fn fits(expected: &[String], actual: &str) -> bool {
    let actual: String = lines(actual).iter().map(|line| format!("{line}\n")).collect();
    let pattern: String = expected.iter().map(|line| line_pattern(&tidy(line))).collect();
    Regex::new(&format!("^{pattern}$")).unwrap().is_match(&actual)
}

/// The lines of an output, without empty ones at its end.
pub(crate) fn lines(output: &str) -> Vec<String> {
    let mut lines: Vec<String> = output.split('\n').map(tidy).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn tidy(line: &str) -> String {
    let mut tidy = String::new();
    let mut spaces = 0;
    for character in line.trim_end_matches(' ').chars() {
        spaces = if character == ' ' { spaces + 1 } else { 0 };
        if spaces <= 2 {
            tidy.push(character);
        }
    }
    tidy
}

fn line_pattern(line: &str) -> String {
    if line == "..." {
        return "(?:[^\n]*\n)*".to_owned();
    }
    let literal = HOLES.iter().fold(regex::escape(line), |text, (hole, pattern)| text.replace(hole, pattern));
    format!("{literal}\n")
}
