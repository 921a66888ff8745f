//! How a schedule grows: as that of the `backoff` crate, which is named in this file only. The crate is not maintained any
//! more (RUSTSEC-2025-0012); it is here because the project's users asked for it. PURE.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;

use super::schedule::Schedule;

/// After this many failures the delay does not grow any more: doubling from a millisecond passes any `most` by then.
const MOST_DOUBLINGS: u32 = 32;

impl Schedule {
    /// The most that is waited after so many failures in a row.
    #[must_use]
    pub(crate) fn ceiling(self, failures: u32) -> Duration {
        let mut schedule = ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first)
            .with_max_interval(self.most)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        let mut ceiling = self.first;
        for _ in 0..failures.clamp(1, MOST_DOUBLINGS) {
            ceiling = schedule.next_backoff().unwrap_or(self.most);
        }
        // The crate adds up to a nanosecond of chance of its own.
        Duration::from_micros(u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX))
    }
}
