//! The only place of the sandbox that reads the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; 0 when the machine's clock is set before it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock that the rest of the crate gets its time from")]
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
