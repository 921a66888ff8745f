//! What goes to stdout and stderr as a command's answer, not as a log line.
//!
//! A reader that is gone (`| head`) is nobody's failure: what cannot be written is dropped.

use std::fmt::Display;
use std::io::Write as _;

/// A line on stdout, at once.
pub fn answer(line: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// A line on stderr.
pub fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "sockerless-backend-lambda: {line}");
}
