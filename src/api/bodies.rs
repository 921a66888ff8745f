//! What is held of large bodies: while they arrive, and while their JSON is looked at.
//!
//! # Guarantees
//! - Large bodies that are arriving hold [`limits::MAX_ARRIVING_BYTES`] together, and one body more. There is no place that a
//!   client could hold by announcing a body and not sending it: only bytes that have come count.
//! - When they are full, those that have made no progress for [`limits::BODY_STALL`] are given up ([`Shares`]).
//! - As many complete bodies as [`limits::MAX_LARGE_BODIES`] are looked at together. A complete body waits for no client.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits;
use super::shares::{Bounds, GivenUp, Share, Shares};

/// All large bodies. Cloning gives the same ones.
#[derive(Clone, Debug)]
pub(super) struct LargeBodies {
    complete: Arc<Semaphore>,
    arriving: Shares,
}

/// A body that is arriving, until this is dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    complete: Arc<Semaphore>,
    share: Share,
}

impl Default for LargeBodies {
    fn default() -> Self {
        let bounds = Bounds {
            all: limits::MAX_ARRIVING_BYTES,
            stall: limits::BODY_STALL,
            progress: limits::BODY_PROGRESS_BYTES,
        };
        Self { complete: Arc::new(Semaphore::new(limits::MAX_LARGE_BODIES)), arriving: Shares::new(bounds) }
    }
}

impl LargeBodies {
    /// A body turns out to be large.
    pub(super) fn arrive(&self) -> Arrival {
        Arrival { complete: Arc::clone(&self.complete), share: self.arriving.begin(true) }
    }
}

impl Arrival {
    /// Returns when the body is given up.
    pub(super) async fn given_up(&self) {
        self.share.given_up().await;
    }

    /// Waits until the body may hold so much.
    pub(super) async fn hold(&self, bytes: usize) -> Result<(), GivenUp> {
        self.share.hold(bytes).await
    }

    /// The body is complete: waits for a place among those that are looked at, which is held by what this returns.
    pub(super) async fn complete(self) -> Option<OwnedSemaphorePermit> {
        self.share.set_owes(false);
        // It is never closed.
        self.complete.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn largest_body_arrives_beside_stalled_ones() {
        let bodies = LargeBodies::default();
        let stalled: Vec<Arrival> = (0..100).map(|_| bodies.arrive()).collect();
        for body in &stalled {
            body.hold(limits::MAX_ARRIVING_BYTES / 100).await.unwrap();
        }
        let honest = bodies.arrive();
        honest.hold(limits::MAX_BODY_BYTES).await.unwrap();
        assert!(bodies.arriving.held() <= limits::MAX_ARRIVING_BYTES);
        assert!(honest.complete().await.is_some());
        drop(stalled);
        assert_eq!(bodies.arriving.held(), 0);
    }
}
