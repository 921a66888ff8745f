//! When a program is asked to end, and when it is ended. Pure.

use std::time::Duration;

/// Between the request to end (SIGTERM) and the invocation's deadline, at most.
const TERM_BEFORE: Duration = Duration::from_secs(5);
/// The same, as a part of the time that was there at the start.
const TERM_PART: u32 = 5;
/// Between the end (SIGKILL) and the invocation's deadline, at most: the time to pass on the last output and to answer.
const KILL_BEFORE: Duration = Duration::from_secs(1);
/// The same, as a part of the time that was there at the start.
const KILL_PART: u32 = 10;

/// Between the moment at which nothing is waited for any more and the invocation's deadline, at most: the time that the
/// answer itself takes.
const ANSWER_BEFORE: Duration = Duration::from_millis(300);
/// The same, as a part of the time that was there at the start.
const ANSWER_PART: u32 = 30;

/// How long after its start a program gets which signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// SIGTERM: a fifth of the time, at most 5 s, before the deadline.
    pub(crate) term_after: Duration,
    /// SIGKILL: a tenth of the time, at most 1 s, before the deadline.
    pub(crate) kill_after: Duration,
    /// The answer, whatever is still undone: a thirtieth of the time, at most 300 ms, before the deadline.
    pub(crate) answer_after: Duration,
}

impl Schedule {
    /// From the clock and the deadline that Lambda told, both in milliseconds since 1970. A deadline that has
    /// passed ends the program at once: Lambda will not take the answer anyway.
    pub(crate) fn new(now_ms: i64, deadline_ms: i64) -> Self {
        let left = Duration::from_millis(u64::try_from(deadline_ms.saturating_sub(now_ms)).unwrap_or(0));
        Self {
            term_after: left.saturating_sub(TERM_BEFORE.min(left / TERM_PART)),
            kill_after: left.saturating_sub(KILL_BEFORE.min(left / KILL_PART)),
            answer_after: left.saturating_sub(ANSWER_BEFORE.min(left / ANSWER_PART)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_before_the_deadline_grows_with_the_timeout_up_to_a_limit() {
        for (left, term, kill, answer) in [
            (900_000, 895_000, 899_000, 899_700),
            (25_000, 20_000, 24_000, 24_700),
            (9_000, 7_200, 8_100, 8_700),
            (3_000, 2_400, 2_700, 2_900),
            (1_500, 1_200, 1_350, 1_450),
            (0, 0, 0, 0),
            (-5, 0, 0, 0),
        ] {
            let schedule = Schedule::new(1_000, 1_000 + left);
            assert_eq!(schedule.term_after, Duration::from_millis(term), "{left}");
            assert_eq!(schedule.kill_after, Duration::from_millis(kill), "{left}");
            assert_eq!(schedule.answer_after, Duration::from_millis(answer), "{left}");
        }
        assert_eq!(Schedule::new(i64::MAX, i64::MIN).kill_after, Duration::ZERO);
    }
}
