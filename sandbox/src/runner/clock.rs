//! The runner's only reader of time: real processes run on real time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[expect(clippy::disallowed_methods, reason = "the clock of the runner")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the clock of the runner")]
pub(super) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|age| age.as_millis().try_into().ok()).unwrap_or(0)
}

/// Milliseconds that have passed.
pub(super) fn ms_since(start: Instant) -> f64 {
    now().saturating_duration_since(start).as_secs_f64() * 1000.0
}
