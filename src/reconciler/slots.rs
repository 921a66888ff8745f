//! How many runs may be under way at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::state::model::ContainerId;

/// The slots. A container with a run that has no end holds one; those that wait for one are served in order. A slot that is
/// kept is held until its time is up, even if its container is gone.
#[derive(Debug)]
pub(crate) struct Slots {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    holders: HashSet<ContainerId>,
    kept: Kept,
    waiting: Line,
}

/// Slots that are held until a time.
#[derive(Debug, Default)]
struct Kept {
    by_time: BTreeSet<(Timestamp, ContainerId)>,
    times: HashMap<ContainerId, Timestamp>,
}

impl Kept {
    fn put(&mut self, id: ContainerId, until: Timestamp) {
        self.remove(&id);
        self.times.insert(id, until);
        self.by_time.insert((until, id));
    }

    fn remove(&mut self, id: &ContainerId) {
        if let Some(until) = self.times.remove(id) {
            self.by_time.remove(&(until, *id));
        }
    }

    fn pop_expired(&mut self, now: Timestamp) -> Option<ContainerId> {
        let (_, id) = *self.by_time.first().filter(|(until, _)| *until <= now)?;
        self.remove(&id);
        Some(id)
    }
}

/// The line, oldest first. An entry is found and removed without a look at the others.
#[derive(Debug, Default)]
struct Line {
    by_number: BTreeMap<u64, ContainerId>,
    numbers: HashMap<ContainerId, u64>,
    last_number: u64,
}

impl Line {
    /// Joins at the end, unless it stands in the line already.
    fn join(&mut self, id: ContainerId) {
        if !self.numbers.contains_key(&id) {
            self.last_number += 1;
            self.numbers.insert(id, self.last_number);
            self.by_number.insert(self.last_number, id);
        }
    }

    fn leave(&mut self, id: &ContainerId) {
        if let Some(number) = self.numbers.remove(id) {
            self.by_number.remove(&number);
        }
    }

    fn pop_first(&mut self) -> Option<ContainerId> {
        let (_, id) = self.by_number.pop_first()?;
        self.numbers.remove(&id);
        Some(id)
    }
}

impl Slots {
    pub(crate) fn new(most: u32) -> Self {
        Self { most: usize::try_from(most).unwrap_or(usize::MAX), inner: Mutex::default() }
    }

    /// Whether a run of this container may be issued now.
    pub(crate) fn is_free_for(&self, id: &ContainerId) -> bool {
        let inner = self.lock();
        inner.holders.contains(id) || inner.holders.len() < self.most
    }

    /// Takes a slot if one is free.
    pub(crate) fn take(&self, id: ContainerId) -> bool {
        let mut inner = self.lock();
        let free = inner.holders.contains(&id) || inner.holders.len() < self.most;
        if free {
            inner.kept.remove(&id);
            inner.waiting.leave(&id);
            inner.holders.insert(id);
        }
        free
    }

    /// Counts a run that was found under way, even above the limit.
    pub(crate) fn found(&self, id: ContainerId) {
        self.lock().holders.insert(id);
    }

    /// Keeps a slot until a time, even above the limit.
    pub(crate) fn keep(&self, id: ContainerId, until: Timestamp) {
        let mut inner = self.lock();
        inner.holders.insert(id);
        inner.kept.put(id, until);
    }

    /// The slot can be given back as any other.
    pub(crate) fn unkeep(&self, id: &ContainerId) {
        self.lock().kept.remove(id);
    }

    /// Gives back the slots that were kept until now. Returns the containers that may go on.
    pub(crate) fn expire(&self, now: Timestamp) -> Vec<ContainerId> {
        let mut inner = self.lock();
        let mut next = Vec::new();
        while let Some(id) = inner.kept.pop_expired(now) {
            inner.holders.remove(&id);
            if inner.holders.len() + next.len() < self.most {
                next.extend(inner.waiting.pop_first());
            }
        }
        next
    }

    /// The clock was set back by this much.
    pub(crate) fn bring_forward(&self, step: Duration) {
        let kept = &mut self.lock().kept;
        let moved: Vec<_> = kept.times.iter().map(|(id, until)| (*id, until.before(step))).collect();
        moved.into_iter().for_each(|(id, until)| kept.put(id, until));
    }

    /// Waits in the line; returns a container that may go on now, if a slot has become free meanwhile.
    pub(crate) fn wait(&self, id: ContainerId) -> Option<ContainerId> {
        let mut inner = self.lock();
        inner.waiting.join(id);
        if inner.holders.len() < self.most { inner.waiting.pop_first() } else { None }
    }

    /// Gives a slot back that is not kept, or a place in the line. Returns the next container that may go on.
    pub(crate) fn free(&self, id: &ContainerId) -> Option<ContainerId> {
        let mut inner = self.lock();
        inner.waiting.leave(id);
        if inner.kept.times.contains_key(id) {
            return None;
        }
        if inner.holders.remove(id) && inner.holders.len() < self.most { inner.waiting.pop_first() } else { None }
    }

    /// The next container in the line that may go on, if a slot is free. One that was told so and did not take the slot
    /// has left the line: whoever sees its turn end asks again.
    pub(crate) fn next(&self) -> Option<ContainerId> {
        let mut inner = self.lock();
        if inner.holders.len() < self.most { inner.waiting.pop_first() } else { None }
    }

    /// How many runs are under way that have no end yet.
    pub(crate) fn running(&self) -> usize {
        let inner = self.lock();
        inner.holders.len() - inner.kept.times.len()
    }

    /// How many slots are kept although their run has ended.
    pub(crate) fn kept(&self) -> usize {
        self.lock().kept.times.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ContainerId {
        ContainerId::from_bytes([n; 32])
    }

    #[test]
    fn the_line_is_served_in_order() {
        let slots = Slots::new(1);
        assert!(slots.take(id(1)) && slots.take(id(1)));
        assert!(!slots.take(id(2)));
        assert_eq!(slots.wait(id(2)), None);
        assert_eq!(slots.wait(id(3)), None);
        assert_eq!(slots.wait(id(2)), None);
        assert_eq!(slots.free(&id(1)), Some(id(2)));
        assert!(slots.take(id(2)));
        assert_eq!(slots.free(&id(3)), None);
        assert_eq!(slots.free(&id(2)), None);
        assert_eq!(slots.running(), 0);
    }

    #[test]
    fn a_slot_that_came_free_meanwhile_is_not_missed() {
        let slots = Slots::new(1);
        assert_eq!(slots.wait(id(1)), Some(id(1)));
    }

    #[test]
    fn one_that_does_not_take_its_slot_does_not_stop_the_line() {
        let slots = Slots::new(1);
        assert!(slots.take(id(1)));
        slots.wait(id(2));
        slots.wait(id(3));
        assert_eq!(slots.free(&id(1)), Some(id(2)));
        assert_eq!(slots.next(), Some(id(3)));
        assert!(slots.take(id(3)));
        assert_eq!(slots.next(), None);
    }

    #[test]
    fn a_place_in_a_long_line_is_left_without_a_look_at_the_others() {
        let slots = Slots::new(1);
        let of = |n: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            ContainerId::from_bytes(bytes)
        };
        assert!(slots.take(id(255)));
        // A look at all others for each would be 20 billion comparisons, which takes minutes.
        for n in (0..100_000).chain(0..100_000) {
            assert_eq!(slots.wait(of(n)), None);
        }
        for n in (1..100_000).rev() {
            assert_eq!(slots.free(&of(n)), None);
        }
        assert_eq!(slots.free(&id(255)), Some(of(0)), "it is the only one left");
        assert_eq!(slots.next(), None);
    }

    #[test]
    fn a_slot_that_is_kept_is_free_when_its_time_is_up() {
        let (slots, at) = (Slots::new(1), Timestamp::from_secs);
        assert!(slots.take(id(1)));
        slots.keep(id(1), at(100));
        assert_eq!(slots.wait(id(2)), None);
        assert_eq!((slots.free(&id(1)), slots.running(), slots.kept()), (None, 0, 1), "its container is gone");
        assert_eq!(slots.expire(at(99)), []);
        slots.bring_forward(Duration::from_secs(50));
        assert_eq!(slots.expire(at(49)), []);
        assert_eq!(slots.expire(at(50)), [id(2)]);
        assert!(slots.take(id(2)));
        slots.keep(id(2), at(100));
        assert!(slots.take(id(2)), "its next run has it");
        assert_eq!(slots.expire(at(100)), []);
        slots.keep(id(2), at(200));
        slots.unkeep(&id(2));
        slots.free(&id(2));
        assert_eq!(slots.running(), 0);
    }

    #[test]
    fn runs_found_at_the_start_count_above_the_limit() {
        let slots = Slots::new(1);
        slots.found(id(1));
        slots.found(id(2));
        assert_eq!(slots.free(&id(1)), None);
        assert!(!slots.take(id(3)) && slots.take(id(2)));
    }
}
