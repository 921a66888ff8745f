//! The only reader of time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Never goes back; stands still while Lambda has frozen the environment.
#[expect(clippy::disallowed_methods, reason = "the clock of this crate")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970, as in `Lambda-Runtime-Deadline-Ms`.
#[expect(clippy::disallowed_methods, reason = "the clock of this crate")]
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|age| age.as_millis().try_into().ok()).unwrap_or(0)
}
