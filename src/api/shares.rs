//! Memory that is held for clients of one kind, limited in sum.
//!
//! # Guarantees
//! - All shares hold [`Bounds::all`] bytes together, and one share more: the oldest never waits for memory, so that shares that
//!   wait for each other come to an end.
//! - While memory is short, shares whose client has made no progress for [`Bounds::stall`] are given up, the stalest first, and
//!   no more of them than are in the way. A share that waits for memory, or for anything but its client, is not stalled.
//! - Those that wait for memory get it in the order in which they began to wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Stopwatch;

/// How much may be held, and by whom not for long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes of all shares.
    pub(super) all: usize,
    /// How long a client may make no progress while others wait for memory.
    pub(super) stall: Duration,
    /// Bytes that a share must grow by to count as its client's progress.
    pub(super) progress: usize,
}

/// All shares of a kind. Cloning gives the same ones.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    bounds: Bounds,
    all: Arc<Mutex<All>>,
    freed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct All {
    next: u64,
    next_ticket: u64,
    held: usize,
    /// In the order in which they began.
    parts: BTreeMap<u64, Part>,
}

#[derive(Debug)]
struct Part {
    held: usize,
    /// The client has to send or to take something.
    owes: bool,
    /// What was held when the client last made progress, and since when.
    progress: (usize, Stopwatch),
    /// Its place among those that wait for memory.
    ticket: Option<u64>,
    given_up: CancellationToken,
}

impl Part {
    fn is_stalled(&self, bounds: Bounds) -> bool {
        self.owes && self.ticket.is_none() && self.progress.1.elapsed() >= bounds.stall
    }
}

/// A share was given up for others.
#[derive(Debug)]
pub(super) struct GivenUp;

/// What is held for one client, until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    number: u64,
    given_up: CancellationToken,
}

impl Shares {
    /// Nothing is held yet.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, all: Arc::default(), freed: Arc::default() }
    }

    /// A share of nothing yet. `owes`: its client has to send or to take something.
    pub(super) fn begin(&self, owes: bool) -> Share {
        let given_up = CancellationToken::new();
        let mut all = self.lock();
        let number = all.next;
        all.next += 1;
        let progress = (0, Stopwatch::start());
        all.parts.insert(number, Part { held: 0, owes, progress, ticket: None, given_up: given_up.clone() });
        Share { shares: self.clone(), number, given_up }
    }

    /// Bytes of all shares.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lock().held
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    /// Whether the share may hold as much; if not, it waits.
    fn hold(&mut self, number: u64, bytes: usize, bounds: Bounds) -> Result<bool, GivenUp> {
        loop {
            let is_oldest = self.parts.first_key_value().is_some_and(|(oldest, _)| *oldest == number);
            let first_ticket = self.parts.values().filter_map(|part| part.ticket).min();
            let Some(part) = self.parts.get_mut(&number) else { return Err(GivenUp) };
            let is_first = first_ticket.is_none() || part.ticket == first_ticket;
            let others = self.held.saturating_sub(part.held);
            let fits = is_first && others.saturating_add(bytes) <= bounds.all;
            if is_oldest || bytes <= part.held || fits {
                part.held = bytes;
                if part.ticket.take().is_some() || bytes.saturating_sub(part.progress.0) >= bounds.progress {
                    part.progress = (bytes, Stopwatch::start());
                }
                self.held = others.saturating_add(bytes);
                return Ok(true);
            }
            if part.ticket.is_none() {
                part.ticket = Some(self.next_ticket);
                self.next_ticket += 1;
            }
            let stalled = self.parts.iter().filter(|(_, part)| part.is_stalled(bounds));
            let Some(stalest) = stalled.max_by_key(|(_, part)| part.progress.1.elapsed()).map(|(number, _)| *number)
            else {
                return Ok(false);
            };
            self.give_up(stalest);
        }
    }

    fn give_up(&mut self, number: u64) {
        if let Some(part) = self.parts.remove(&number) {
            part.given_up.cancel();
            self.held = self.held.saturating_sub(part.held);
        }
    }
}

impl Share {
    /// Returns when the share is given up.
    pub(super) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }

    /// Waits until the share may hold as much: these bytes in all, not more of them.
    pub(super) async fn hold(&self, bytes: usize) -> Result<(), GivenUp> {
        loop {
            let freed = self.shares.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let (is_held, others_wait) = {
                let mut all = self.shares.lock();
                let is_held = all.hold(self.number, bytes, self.shares.bounds)?;
                (is_held, all.parts.values().any(|part| part.ticket.is_some()))
            };
            if is_held {
                // There may be less held than before, or another is the first of those that wait.
                if others_wait {
                    self.shares.freed.notify_waiters();
                }
                return Ok(());
            }
            // Cancel-safe, all of them. The pause is for shares that stall meanwhile.
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(self.shares.bounds.stall / 4) => {}
                () = self.given_up() => return Err(GivenUp),
            }
        }
    }

    /// From now on the client has to send or to take something, or no longer.
    pub(super) fn set_owes(&self, owes: bool) {
        if let Some(part) = self.shares.lock().parts.get_mut(&self.number) {
            part.owes = owes;
            part.progress = (part.held, Stopwatch::start());
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.lock().give_up(self.number);
        self.shares.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { all: 1_000, stall: Duration::from_millis(50), progress: 100 };

    #[tokio::test]
    async fn stalled_shares_give_way_and_their_memory_is_free_again() {
        let shares = Shares::new(BOUNDS);
        let stalled: Vec<Share> = (0..100).map(|_| shares.begin(true)).collect();
        for share in &stalled {
            share.hold(10).await.unwrap();
        }
        let honest = shares.begin(true);
        honest.hold(300).await.unwrap();
        assert!(shares.held() <= BOUNDS.all);
        let given_up = stalled.iter().filter(|share| share.given_up.is_cancelled()).count();
        assert!((1..100).contains(&given_up), "no more than are in the way: {given_up}");
        assert!(stalled.iter().find(|share| share.given_up.is_cancelled()).unwrap().hold(10).await.is_err());
        drop((stalled, honest));
        assert_eq!(shares.held(), 0);
    }

    /// All have something, and none can get the rest: one after the other comes to its end.
    #[tokio::test]
    async fn shares_that_wait_for_each_other_come_to_an_end() {
        let shares = Shares::new(BOUNDS);
        let mut begun = Vec::new();
        for _ in 0..20 {
            let share = shares.begin(false);
            share.hold(50).await.unwrap();
            begun.push(share);
        }
        let all = begun.into_iter().map(|share| async move { share.hold(900).await.unwrap() });
        futures_util::future::join_all(all).await;
        assert_eq!(shares.held(), 0);
    }

    /// A share that waits for something else than its client keeps what it has, and less is held at any time.
    #[tokio::test]
    async fn shares_that_owe_nothing_are_not_given_up_and_free_what_they_give_back() {
        let shares = Shares::new(BOUNDS);
        let (first, second) = (shares.begin(false), shares.begin(false));
        first.hold(600).await.unwrap();
        second.hold(400).await.unwrap();
        let third = shares.begin(false);
        let waits = third.hold(500);
        tokio::pin!(waits);
        tokio::select! {
            _ = &mut waits => panic!("there is no memory"),
            () = tokio::time::sleep(BOUNDS.stall * 4) => {}
        }
        first.hold(500).await.unwrap();
        second.hold(0).await.unwrap();
        waits.await.unwrap();
        assert_eq!(shares.held(), 1_000);
        third.set_owes(true);
        let fourth = shares.begin(false);
        fourth.hold(100).await.unwrap();
        assert!(third.given_up.is_cancelled() && !first.given_up.is_cancelled());
    }
}
