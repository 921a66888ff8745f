//! Waiting for states.

use std::time::{Duration, Instant};

/// Waits for a state, so long at most, and fails with `what` if it does not come.
pub(crate) async fn until_within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < patience, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
