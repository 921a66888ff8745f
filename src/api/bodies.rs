//! What is held of large bodies: while they arrive, and while their JSON is looked at.
//!
//! # Guarantees
//! - Large bodies that are arriving hold [`limits::MAX_ARRIVING_BYTES`] together, and one body more. There is no place that a
//!   client could hold by announcing a body and not sending it: only bytes that have come count.
//! - When they are full, those that have made no progress for [`limits::BODY_STALL`] are given up, the stalest first. A body
//!   that waits for memory is not stalled.
//! - The oldest body never waits for memory, so that bodies that wait for each other come to an end.
//! - As many complete bodies as [`limits::MAX_LARGE_BODIES`] are looked at together. A complete body waits for no client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::limits;
use crate::clock::Stopwatch;

/// All large bodies. Cloning gives the same ones.
#[derive(Clone, Debug)]
pub(super) struct LargeBodies {
    complete: Arc<Semaphore>,
    arriving: Arc<Mutex<Arriving>>,
    freed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Arriving {
    next: u64,
    held: usize,
    /// In the order in which they began.
    bodies: BTreeMap<u64, Body>,
}

/// A large body that is arriving.
#[derive(Debug)]
struct Body {
    held: usize,
    /// What was held when it last made progress, and since when.
    progress: (usize, Stopwatch),
    waits: bool,
    given_up: CancellationToken,
}

impl Body {
    fn is_stalled(&self) -> bool {
        !self.waits && self.progress.1.elapsed() >= limits::BODY_STALL
    }
}

/// A body was given up for others.
#[derive(Debug)]
pub(super) struct GivenUp;

/// A body that is arriving, until this is dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    all: LargeBodies,
    number: u64,
    given_up: CancellationToken,
}

impl Default for LargeBodies {
    fn default() -> Self {
        Self {
            complete: Arc::new(Semaphore::new(limits::MAX_LARGE_BODIES)),
            arriving: Arc::default(),
            freed: Arc::default(),
        }
    }
}

impl LargeBodies {
    /// A body turns out to be large.
    pub(super) fn arrive(&self) -> Arrival {
        let given_up = CancellationToken::new();
        let mut arriving = self.lock();
        let number = arriving.next;
        arriving.next += 1;
        let progress = (0, Stopwatch::start());
        arriving.bodies.insert(number, Body { held: 0, progress, waits: false, given_up: given_up.clone() });
        Arrival { all: self.clone(), number, given_up }
    }

    fn lock(&self) -> MutexGuard<'_, Arriving> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arriving {
    /// Whether the body may hold so much; if not, it waits.
    fn hold(&mut self, number: u64, bytes: usize) -> Result<bool, GivenUp> {
        loop {
            let is_oldest = self.bodies.first_key_value().is_some_and(|(oldest, _)| *oldest == number);
            let Some(body) = self.bodies.get_mut(&number) else { return Err(GivenUp) };
            let others = self.held.saturating_sub(body.held);
            if is_oldest || others.saturating_add(bytes) <= limits::MAX_ARRIVING_BYTES {
                body.held = bytes;
                if body.waits || bytes.saturating_sub(body.progress.0) >= limits::BODY_PROGRESS_BYTES {
                    body.progress = (bytes, Stopwatch::start());
                }
                body.waits = false;
                self.held = others.saturating_add(bytes);
                return Ok(true);
            }
            body.waits = true;
            let stalled = self.bodies.iter().filter(|(_, body)| body.is_stalled());
            let Some(stalest) = stalled.max_by_key(|(_, body)| body.progress.1.elapsed()).map(|(number, _)| *number)
            else {
                return Ok(false);
            };
            self.give_up(stalest);
        }
    }

    fn give_up(&mut self, number: u64) {
        if let Some(body) = self.bodies.remove(&number) {
            body.given_up.cancel();
            self.held = self.held.saturating_sub(body.held);
        }
    }
}

impl Arrival {
    /// Returns when the body is given up.
    pub(super) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }

    /// Waits until the body may hold so much.
    pub(super) async fn hold(&self, bytes: usize) -> Result<(), GivenUp> {
        loop {
            let freed = self.all.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.all.lock().hold(self.number, bytes)? {
                return Ok(());
            }
            // Cancel-safe, all of them. The pause is for bodies that stall meanwhile.
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(limits::BODY_STALL / 4) => {}
                () = self.given_up() => return Err(GivenUp),
            }
        }
    }

    /// The body is complete: waits for a place among those that are looked at, which is held by what this returns.
    pub(super) async fn complete(self) -> Option<OwnedSemaphorePermit> {
        if let Some(body) = self.all.lock().bodies.get_mut(&self.number) {
            body.waits = true;
        }
        // It is never closed.
        self.all.complete.clone().acquire_owned().await.ok()
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.all.lock().give_up(self.number);
        self.all.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(bodies: &LargeBodies) -> usize {
        bodies.lock().held
    }

    #[tokio::test]
    async fn stalled_bodies_give_way_and_their_memory_is_free_again() {
        let bodies = LargeBodies::default();
        let stalled: Vec<Arrival> = (0..100).map(|_| bodies.arrive()).collect();
        let each = limits::MAX_ARRIVING_BYTES / 100;
        for body in &stalled {
            body.hold(each).await.unwrap();
        }
        let honest = bodies.arrive();
        honest.hold(limits::MAX_BODY_BYTES).await.unwrap();
        assert!(held(&bodies) <= limits::MAX_ARRIVING_BYTES);
        let given_up = stalled.iter().filter(|body| body.given_up.is_cancelled()).count();
        assert!((1..100).contains(&given_up), "no more than are in the way: {given_up}");
        assert!(stalled.iter().find(|body| body.given_up.is_cancelled()).unwrap().hold(each).await.is_err());
        let place = honest.complete().await;
        assert!(place.is_some());
        drop(stalled);
        assert_eq!(held(&bodies), 0);
    }

    /// All have something, and none can get the rest: one after the other comes to its end.
    #[tokio::test]
    async fn bodies_that_wait_for_each_other_come_to_an_end() {
        let bodies = LargeBodies::default();
        let part = limits::MAX_ARRIVING_BYTES / 20;
        let mut arriving = Vec::new();
        for _ in 0..20 {
            let body = bodies.arrive();
            body.hold(part).await.unwrap();
            arriving.push(body);
        }
        let all = arriving.into_iter().map(|body| async move {
            body.hold(limits::MAX_BODY_BYTES).await.unwrap();
            drop(body.complete().await);
        });
        futures_util::future::join_all(all).await;
        assert_eq!(held(&bodies), 0);
    }
}
