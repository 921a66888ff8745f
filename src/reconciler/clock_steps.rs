//! Wall-clock times that lie in the future because the clock was set back. PURE.
//!
//! Times are stored, and outlive the process and the clock's mistakes: a clock that was a day fast has left times of
//! tomorrow. Nothing may wait for them. A time that was "now" once is at most now; a time that something is waited for is
//! at most as far away as the longest pause that is ever set.

use std::time::Duration;

use super::plan::LOG_PATIENCE;
use crate::clock::Timestamp;
use crate::state::model::{Known, Run, Status};

/// A run has ended this long after it was issued: six hours in Lambda's queue, a quarter of an hour at work, and the slack.
const LONGEST_RUN: Duration = Duration::from_secs(6 * 3_600 + 900 + 600);

/// `due`, or `now` if it lies further in the future than anything of its kind is ever put off.
#[must_use]
pub(crate) fn clamp_due(now: Timestamp, due: Timestamp, longest: Duration) -> Timestamp {
    if due > now.after(longest) { now } else { due }
}

/// Moves the times of a container's facts that cannot be true to now. `longest_pause`: the longest that a failure puts
/// anything off. The ends of runs stay: they are shown to users, and come from AWS's clock.
pub(super) fn correct(now: Timestamp, longest_pause: Duration, status: &mut Status) {
    let retry = &mut status.retry;
    retry.not_before = retry.not_before.map(|due| clamp_due(now, due, longest_pause));
    not_after(now, &mut retry.since);
    if let Some(bounded) = &mut retry.bounded {
        bounded.since = bounded.since.min(now);
    }
    // A function is counted by the time of its create: both move together.
    not_after(now, &mut status.create_sent_at);
    not_after(now, &mut status.function_failures.counted_for);
    not_after(now, &mut status.missing_since);
    correct_busy(now, status);
    if let Some(last) = &mut status.last_issued {
        last.at = last.at.min(now);
        last.looked_for_until = last.looked_for_until.min(now.after(LOG_PATIENCE));
    }
    if let Known::Is(function) = &mut status.function {
        function.seen_at = function.seen_at.min(now);
    }
    if let Some(run) = &mut status.run {
        correct_run(now, run);
    }
}

/// What is waited for was noted before now, and takes no longer than it would have then.
fn correct_busy(now: Timestamp, status: &mut Status) {
    let Some(until) = status.busy_until else { return };
    status.busy_until = match status.busy_since {
        Some(since) if since > now => Some(now.after(until.since(since))),
        Some(_) => Some(until),
        // As versions before this field have written it.
        None => Some(clamp_due(now, until, LONGEST_RUN)),
    };
    not_after(now, &mut status.busy_since);
}

/// A run was issued before now, whatever was read then: so it has surely ended by the same span after now.
fn correct_run(now: Timestamp, run: &mut Run) {
    if let Some(issued) = run.issued.as_mut().filter(|issued| issued.at > now) {
        issued.deadline = now.after(issued.deadline.since(issued.at));
        issued.at = now;
    }
    if let Some(report) = &mut run.report {
        report.seen_at = report.seen_at.min(now);
    }
}

fn not_after(now: Timestamp, time: &mut Option<Timestamp>) {
    *time = time.map(|time| time.min(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_due_time_beyond_the_longest_pause_is_due_now() {
        let at = Timestamp::from_secs;
        let longest = Duration::from_secs(60);
        for (due, expected) in [(40, 40), (100, 100), (160, 160), (161, 100), (86_500, 100)] {
            assert_eq!(clamp_due(at(100), at(due), longest), at(expected), "{due}");
        }
    }
}
