//! What a worker must hold before it calls AWS: the tokens of the quotas, and one of a bounded number of places.
//!
//! # Guarantees
//! - A worker never waits for either. It gets a permit at once, or gives its container back to the loop, which puts it in
//!   line ([`super::quota_line`]) and hands it out again together with the permit.
//! - The permit is there before the intent is committed, so an intent is not older than its call for want of a quota.
//! - However slowly AWS answers, the workers beyond [`MAX_CALLS`] are left for what needs no call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::quota_line::{Line, Waiting};
use crate::aws::{Cloud, Need};

/// Workers that call AWS at once: a second's worth of creates (15) and looks while a call takes a second or two.
pub(super) const MAX_CALLS: usize = 32;

/// What a worker may call.
pub(super) struct Permit {
    /// Its calls do not wait.
    pub(super) cloud: Cloud,
    need: Need,
    _place: OwnedSemaphorePermit,
}

impl Permit {
    /// Whether it is enough for this. What is too much is given back.
    pub(super) fn covers(&self, need: Need) -> bool {
        self.need == need || self.need == Need::LookAndChange
    }
}

/// Why there is no permit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Until a call has come back.
    NoPlace,
    /// Until then at least no token comes free.
    NoToken(Duration),
}

/// The places, and how many wait for a permit. Shared by the loop and its workers.
#[derive(Debug)]
pub(super) struct Permits {
    places: Arc<Semaphore>,
    in_line: [AtomicUsize; Line::ALL.len()],
}

impl Default for Permits {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_CALLS)), in_line: Default::default() }
    }
}

impl Permits {
    /// A permit, for the one whose turn it is. `waited`: for how long it has stood in line.
    pub(super) fn take(&self, cloud: &Cloud, waiting: Waiting, waited: Duration) -> Result<Permit, Refused> {
        let Waiting { need, rank } = waiting;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refused::NoPlace)?;
        let cloud = cloud.reserve(need, rank.lane(), waited).map_err(Refused::NoToken)?;
        Ok(Permit { cloud, need, _place: place })
    }

    /// A permit without standing in line, if nobody else does.
    pub(super) fn take_first(&self, cloud: &Cloud, waiting: Waiting) -> Option<Permit> {
        let in_line = self.in_line.get(index(Line::of(waiting.need)))?.load(Ordering::Relaxed);
        if in_line > 0 {
            return None;
        }
        self.take(cloud, waiting, Duration::ZERO).ok()
    }

    /// Records how many stand in this line now.
    pub(super) fn note_line(&self, line: Line, len: usize) {
        if let Some(in_line) = self.in_line.get(index(line)) {
            in_line.store(len, Ordering::Relaxed);
        }
    }
}

fn index(line: Line) -> usize {
    match line {
        Line::Change => 0,
        Line::Look => 1,
    }
}
