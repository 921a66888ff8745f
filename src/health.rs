//! What the daemon says of itself: written by the rooms that know, read by `/readyz` and `/info`.
//!
//! Neither a wish nor a fact, so it is not in the store: it is gone with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;

/// The things that can be wrong. Each is set and cleared by one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The store accepts writes.
    Store,
    /// AWS answers and knows us.
    Aws,
    /// The reconcile loop makes progress.
    Reconciler,
    /// This database is the one that owns its functions (DESIGN: whose database is this?).
    Ownership,
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

    /// The reconcile loop is alive at `now`.
    pub fn beat(&self, now: Timestamp) {
        self.lock().heartbeat = now;
    }

    /// When the reconcile loop was last alive.
    #[must_use]
    pub fn last_beat(&self) -> Timestamp {
        self.lock().heartbeat
    }

    /// The failing checks with their reasons.
    #[must_use]
    pub fn problems(&self) -> BTreeMap<Check, String> {
        self.lock().problems.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
