//! What happens later by itself.

use std::collections::BTreeMap;

/// What to do when the time has come. A timer whose reason is gone does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Try to run a queued Event.
    Dispatch {
        /// Which invocation.
        invocation: u64,
    },
    /// End an environment that has been unused all the time.
    Retire {
        /// Which environment.
        environment: u64,
        /// How many invocations it had served when the timer was set.
        served: u64,
    },
    /// Give up on an environment that never asked for its first invocation.
    InitLimit {
        /// Which environment.
        environment: u64,
    },
}

/// Timers in the order of their times, and of their setting.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<(i64, u64), Timer>,
    count: u64,
}

impl Timers {
    pub(super) fn set(&mut self, at_ms: i64, timer: Timer) {
        self.count += 1;
        self.due.insert((at_ms, self.count), timer);
    }

    pub(super) fn next(&self) -> Option<i64> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn pop_due(&mut self, now_ms: i64) -> Option<(i64, Timer)> {
        let ((at, _), _) = self.due.first_key_value()?;
        if *at > now_ms {
            return None;
        }
        self.due.pop_first().map(|((at, _), timer)| (at, timer))
    }
}
