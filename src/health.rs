//! What the daemon says of itself: written by the rooms that know, read by `/readyz` and `/info`.
//!
//! Neither a wish nor a fact, so it is not in the store: it is gone with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// A part of the daemon that makes no progress for so long has stalled.
pub const STALL_LIMIT: Duration = Duration::from_secs(60);

/// The things that can be wrong. Each is set and cleared by one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The store can be written, and its writer makes progress.
    Store,
    /// AWS answers and knows us.
    Aws,
    /// The reconcile loop makes progress.
    Reconciler,
    /// This database is the one that owns its functions (DESIGN: whose database is this?).
    Ownership,
    /// Only daemons write claims: no stream in the claims group looks like a forged one.
    Claims,
    /// Every row of the store can be read.
    Rows,
    /// The log is read of all runs whose end only it can tell.
    Logs,
}

impl Check {
    /// Its name in `/readyz`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Aws => "aws",
            Self::Reconciler => "reconciler",
            Self::Ownership => "ownership",
            Self::Claims => "claims",
            Self::Rows => "rows",
            Self::Logs => "logs",
        }
    }
}

/// What is wrong now. Cloning gives the same board.
#[derive(Clone, Debug, Default)]
pub struct Health {
    board: Arc<Mutex<Board>>,
}

#[derive(Debug, Default)]
struct Board {
    problems: BTreeMap<Check, String>,
    degraded: BTreeMap<Check, String>,
    heartbeat: Timestamp,
}

impl Health {
    /// The check fails, for this reason (a sentence for people).
    pub fn fail(&self, check: Check, reason: impl Into<String>) {
        self.lock().problems.insert(check, reason.into());
    }

    /// The check passes.
    pub fn pass(&self, check: Check) {
        self.lock().problems.remove(&check);
    }

    /// Something is wrong that the daemon goes on serving without, for this reason (a sentence for people).
    pub fn degrade(&self, check: Check, reason: impl Into<String>) {
        self.lock().degraded.insert(check, reason.into());
    }

    /// The check is not degraded any more.
    pub fn recover(&self, check: Check) {
        self.lock().degraded.remove(&check);
    }

    /// The degraded checks with their reasons. A check may fail besides.
    #[must_use]
    pub fn degraded(&self) -> BTreeMap<Check, String> {
        self.lock().degraded.clone()
    }

    /// The reconcile loop is alive at `now`.
    pub fn beat(&self, now: Timestamp) {
        self.lock().heartbeat = now;
    }

    /// When the reconcile loop was last alive.
    #[must_use]
    pub fn last_beat(&self) -> Timestamp {
        self.lock().heartbeat
    }

    /// The clock stands at `now`: a sign of life of the future was given before it was set back, and would hide a stall.
    pub fn follow_clock(&self, now: Timestamp) {
        let mut board = self.lock();
        board.heartbeat = board.heartbeat.min(now);
    }

    /// The failing checks with their reasons.
    #[must_use]
    pub fn problems(&self) -> BTreeMap<Check, String> {
        self.lock().problems.clone()
    }

    /// The same, with what the reconcile loop cannot report itself: that it gives no sign of life.
    #[must_use]
    pub fn problems_at(&self, now: Timestamp) -> BTreeMap<Check, String> {
        let mut problems = self.problems();
        let last_beat = self.last_beat();
        let silent = now.since(last_beat);
        if silent > STALL_LIMIT {
            let reason = match last_beat == Timestamp::default() {
                true => "the reconcile loop has not begun".to_owned(),
                false => format!("the reconcile loop has given no sign of life for {} s", silent.as_secs()),
            };
            problems.entry(Check::Reconciler).or_insert(reason);
        }
        problems
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_loop_is_a_problem() {
        let health = Health::default();
        let now = Timestamp::from_secs(1_000);
        assert_eq!(health.problems_at(now)[&Check::Reconciler], "the reconcile loop has not begun");
        health.beat(now);
        assert!(health.problems_at(now.after(STALL_LIMIT)).is_empty());
        let later = Timestamp::from_secs(1_061);
        let silent = "the reconcile loop has given no sign of life for 61 s";
        assert_eq!(health.problems_at(later)[&Check::Reconciler], silent);
        assert!(health.problems().is_empty(), "it is not written down");
    }
}
