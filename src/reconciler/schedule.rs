//! When to try again. PURE: the random part comes in as an argument.

use std::time::Duration;

/// A schedule: the delay doubles with every failure in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The most that is waited after the first failure.
    pub(crate) first: Duration,
    /// The most that is ever waited.
    pub(crate) most: Duration,
}

/// For actions that a user waits for.
pub(crate) const ACTIONS: Schedule = Schedule { first: Duration::from_millis(500), most: Duration::from_secs(120) };
/// For runs that the restart policy repeats: as Docker does, from 100 ms to a minute.
pub(crate) const RESTARTS: Schedule = Schedule { first: Duration::from_millis(100), most: Duration::from_secs(60) };
/// For runs that are repeated because nobody could tell how they ended: what hid the end may last.
pub(crate) const RERUNS: Schedule = Schedule { first: Duration::from_secs(10), most: Duration::from_secs(300) };

/// The longest that a failure of any kind puts anything off: by the schedules, and by a `Retry-After`.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl Schedule {
    /// Full jitter: anything from nothing to the ceiling. `jitter` is in 0..1.
    #[must_use]
    pub(crate) fn delay(self, failures: u32, jitter: f64) -> Duration {
        self.ceiling(failures).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconciler::absorb::MAX_RETRY_AFTER;
    use crate::reconciler::function_failure::FAILED_FUNCTIONS;

    #[test]
    fn the_ceiling_doubles_up_to_the_most() {
        let ceilings: Vec<u64> = (0..=10).map(|n| u64::try_from(ACTIONS.ceiling(n).as_millis()).unwrap()).collect();
        assert_eq!(ceilings, [500, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 120_000, 120_000]);
        assert_eq!(ACTIONS.ceiling(u32::MAX), ACTIONS.most);
    }

    #[test]
    fn nothing_is_put_off_for_longer_than_the_longest_pause() {
        let schedules = [ACTIONS, RESTARTS, RERUNS, FAILED_FUNCTIONS].map(|schedule| schedule.most);
        assert_eq!(schedules.into_iter().chain([MAX_RETRY_AFTER]).max(), Some(LONGEST_PAUSE));
    }

    #[test]
    fn jitter_is_full_and_decides_everything() {
        assert_eq!(ACTIONS.delay(3, 0.0), Duration::ZERO);
        assert_eq!(ACTIONS.delay(3, 0.5), Duration::from_secs(1));
        assert_eq!(ACTIONS.delay(3, 0.5), ACTIONS.delay(3, 0.5));
        assert!(ACTIONS.delay(3, 0.999) < ACTIONS.ceiling(3));
        assert_eq!(ACTIONS.delay(3, 7.0), ACTIONS.ceiling(3));
    }
}
