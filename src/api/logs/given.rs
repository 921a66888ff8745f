//! The lines of each invocation that a session has given, to find the place in a run's tail where CloudWatch's lines stop. PURE.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use sockerless_bootstrap::protocol::Stream;

use super::super::limits;
use super::lines::{Decoder, Line};
use super::names::Names;

/// The lines that were given, by invocation: their number and a hash, whatever their length.
#[derive(Debug, Default)]
pub(super) struct Given {
    by_id: Names<Lines>,
    /// Of lines whose invocation is unknown.
    nameless: Lines,
}

/// Lines in their order.
#[derive(Clone, Debug, Default)]
struct Lines {
    count: usize,
    bytes: usize,
    hasher: DefaultHasher,
}

impl Lines {
    fn push(&mut self, line: &Line) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(line.text.len());
        (line.stream == Stream::Stderr, &line.text).hash(&mut self.hasher);
    }
}

impl Given {
    /// The run of this number is under way.
    pub(super) fn begin_run(&mut self, run: u64, decoder: &Decoder) {
        self.by_id.begin_run(run, |id| decoder.knows(id));
    }

    /// Notes a line that is given, or left out as history.
    pub(super) fn push(&mut self, line: &Line, decoder: &Decoder) {
        let lines = match &line.request_id {
            Some(id) => self.by_id.note(id, |id| decoder.knows(id)),
            None => Some(&mut self.nameless),
        };
        if let Some(lines) = lines {
            lines.push(line);
        }
    }

    /// How many of these lines, from the first one on, were given of the invocation. `None`: other lines were given, or it
    /// cannot be known.
    pub(super) fn prefix_of(&self, request_id: Option<&str>, lines: &[Line]) -> Option<usize> {
        let nothing = Lines::default();
        let given = match request_id {
            None => &self.nameless,
            Some(id) => match self.by_id.get(id) {
                Some(given) => given,
                None if self.by_id.has_refused() => return None,
                None => &nothing,
            },
        };
        if given.bytes > limits::MAX_TAIL_TEXT_BYTES {
            return None;
        }
        let mut again = Lines::default();
        lines.get(..given.count)?.iter().for_each(|line| again.push(line));
        (again.hasher.finish() == given.hasher.finish()).then_some(given.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::model::{Protocol, Status};

    fn line(id: Option<&str>, text: &str) -> Line {
        Line { stream: Stream::Stdout, at_ms: 1, text: text.into(), request_id: id.map(str::to_owned) }
    }

    #[test]
    fn lines_that_were_given_are_the_first_ones_of_the_tail_or_not() {
        let (mut given, decoder) = (Given::default(), Decoder::new(Protocol::Bootstrap));
        let tail = ["a", "b", "c"].map(|text| line(None, text));
        assert_eq!(given.prefix_of(Some("r"), &tail), Some(0));
        given.push(&line(Some("r"), "a"), &decoder);
        given.push(&line(Some("r"), "b"), &decoder);
        given.push(&line(None, "x"), &decoder);
        assert_eq!(given.prefix_of(Some("r"), &tail), Some(2));
        assert_eq!(given.prefix_of(Some("r"), &tail[..1]), None, "more were given");
        assert_eq!(given.prefix_of(None, &tail), None, "others were given");
        given.push(&line(Some("r"), &"c".repeat(limits::MAX_TAIL_TEXT_BYTES)), &decoder);
        assert_eq!(given.prefix_of(Some("r"), &tail), None);
    }

    /// The run's own lines are never forgotten, whether its id is known before the forged ones or after them; and what was
    /// not noted is never taken for what was not given.
    #[test]
    fn many_forged_invocations_are_bounded_and_no_line_is_given_twice_for_them() {
        let mut decoder = Decoder::new(Protocol::Bootstrap);
        let mut given = Given::default();
        let tail = [line(None, "a")];
        given.push(&line(Some("honest"), "a"), &decoder);
        for forged in 0..10_000 {
            given.push(&line(Some(&format!("forged-{forged}")), &"x".repeat(8_000)), &decoder);
        }
        assert!(given.by_id.len() <= 64, "{}", given.by_id.len());
        assert_eq!(given.prefix_of(Some("honest"), &tail), Some(1));
        assert_eq!(given.prefix_of(Some("forged-9999"), &tail), None, "it was refused");
        decoder.learn(&Status { past_request_ids: vec!["late".to_owned()], ..Status::default() }, false);
        given.push(&line(Some("late"), "a"), &decoder);
        assert_eq!(given.prefix_of(Some("late"), &tail), Some(1), "a known id always has room");
    }
}
