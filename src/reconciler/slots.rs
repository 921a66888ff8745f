//! How many runs may be under way at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::state::model::ContainerId;

/// The slots. A container with a run that has no end holds one until it is removed; those that wait for one are served in
/// order. A slot that is kept, because the run may go on although it counts as ended, is held until its time is up, even if its
/// container is gone.
///
/// Commits are followed by their news in any order. What a commit says of a slot counts unless the slot was taken or settled by
/// a later revision of the container: late news of a run neither end nor keep the slot of the next one.
#[derive(Debug)]
pub(crate) struct Slots {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    holders: Holders,
    waiting: Line,
}

/// Who holds a slot.
#[derive(Debug, Default)]
struct Holders {
    by_id: HashMap<ContainerId, Holder>,
    /// Those whose slot is kept.
    by_time: BTreeSet<(Timestamp, ContainerId)>,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    /// The revision of the container that says so.
    revision: i64,
    /// Its run has ended: the slot is kept until then.
    kept_until: Option<Timestamp>,
}

impl Holders {
    fn put(&mut self, id: ContainerId, holder: Holder) {
        self.remove(&id);
        self.by_id.insert(id, holder);
        self.by_time.extend(holder.kept_until.map(|until| (until, id)));
    }

    /// Returns whether it held one.
    fn remove(&mut self, id: &ContainerId) -> bool {
        let holder = self.by_id.remove(id);
        if let Some(until) = holder.and_then(|holder| holder.kept_until) {
            self.by_time.remove(&(until, *id));
        }
        holder.is_some()
    }

    fn pop_expired(&mut self, now: Timestamp) -> bool {
        match self.by_time.first() {
            Some((until, id)) if *until <= now => {
                let id = *id;
                self.remove(&id)
            }
            _ => false,
        }
    }
}

impl Inner {
    fn has_room(&self, most: usize) -> bool {
        self.holders.by_id.len() < most
    }

    /// Gives a slot back. Returns the next container that may go on.
    fn release(&mut self, id: &ContainerId, most: usize) -> Option<ContainerId> {
        if self.holders.remove(id) && self.has_room(most) { self.waiting.pop_first() } else { None }
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
        inner.holders.by_id.contains_key(id) || inner.has_room(self.most)
    }

    /// Takes a slot if one is free, for a run that is issued with this revision of its container.
    pub(crate) fn take(&self, id: ContainerId, revision: i64) -> bool {
        let mut inner = self.lock();
        let free = inner.holders.by_id.contains_key(&id) || inner.has_room(self.most);
        if free {
            inner.waiting.leave(&id);
            inner.holders.put(id, Holder { revision, kept_until: None });
        }
        free
    }

    /// Counts a run that was found in this revision of its container, even above the limit: it is under way, or its slot is kept.
    pub(crate) fn found(&self, id: ContainerId, revision: i64, kept_until: Option<Timestamp>) {
        self.lock().holders.put(id, Holder { revision, kept_until });
    }

    /// The container's run has ended by this revision: its slot is kept until a time, or given back. Returns the next container
    /// that may go on.
    pub(crate) fn settle(&self, id: &ContainerId, revision: i64, kept_until: Option<Timestamp>) -> Option<ContainerId> {
        let mut inner = self.lock();
        if inner.holders.by_id.get(id).is_none_or(|holder| holder.revision > revision) {
            return None;
        }
        if kept_until.is_some() {
            inner.holders.put(*id, Holder { revision, kept_until });
            return None;
        }
        inner.release(id, self.most)
    }

    /// The container is gone: it leaves the line, and gives a slot back that is not kept and not to be kept. Returns the next
    /// container that may go on.
    pub(crate) fn leave(&self, id: &ContainerId, kept_until: Option<Timestamp>) -> Option<ContainerId> {
        let mut inner = self.lock();
        inner.waiting.leave(id);
        let holder = *inner.holders.by_id.get(id)?;
        if kept_until.is_some() {
            inner.holders.put(*id, Holder { revision: i64::MAX, kept_until });
            return None;
        }
        if holder.kept_until.is_some() { None } else { inner.release(id, self.most) }
    }

    /// Gives back the slots that were kept until now. Returns the containers that may go on.
    pub(crate) fn expire(&self, now: Timestamp) -> Vec<ContainerId> {
        let mut inner = self.lock();
        let mut next = Vec::new();
        while inner.holders.pop_expired(now) {
            if inner.holders.by_id.len() + next.len() < self.most {
                next.extend(inner.waiting.pop_first());
            }
        }
        next
    }

    /// The clock was set back by this much.
    pub(crate) fn bring_forward(&self, step: Duration) {
        let holders = &mut self.lock().holders;
        for (until, id) in std::mem::take(&mut holders.by_time) {
            let until = until.before(step);
            holders.by_time.insert((until, id));
            if let Some(holder) = holders.by_id.get_mut(&id) {
                holder.kept_until = Some(until);
            }
        }
    }

    /// Waits in the line; returns a container that may go on now, if a slot has become free meanwhile.
    pub(crate) fn wait(&self, id: ContainerId) -> Option<ContainerId> {
        let mut inner = self.lock();
        inner.waiting.join(id);
        if inner.has_room(self.most) { inner.waiting.pop_first() } else { None }
    }

    /// The next container in the line that may go on, if a slot is free. One that was told so and did not take the slot
    /// has left the line: whoever sees its turn end asks again.
    pub(crate) fn next(&self) -> Option<ContainerId> {
        let mut inner = self.lock();
        if inner.has_room(self.most) { inner.waiting.pop_first() } else { None }
    }

    /// How many runs are under way that have no end yet.
    pub(crate) fn running(&self) -> usize {
        let inner = self.lock();
        inner.holders.by_id.len() - inner.holders.by_time.len()
    }

    /// How many slots are kept although their run has ended.
    pub(crate) fn kept(&self) -> usize {
        self.lock().holders.by_time.len()
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
        assert!(slots.take(id(1), 1) && slots.take(id(1), 1));
        assert!(!slots.take(id(2), 1));
        assert_eq!(slots.wait(id(2)), None);
        assert_eq!(slots.wait(id(3)), None);
        assert_eq!(slots.wait(id(2)), None);
        assert_eq!(slots.settle(&id(1), 2, None), Some(id(2)));
        assert!(slots.take(id(2), 1));
        assert_eq!(slots.leave(&id(3), None), None);
        assert_eq!(slots.settle(&id(2), 2, None), None);
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
        assert!(slots.take(id(1), 1));
        slots.wait(id(2));
        slots.wait(id(3));
        assert_eq!(slots.settle(&id(1), 2, None), Some(id(2)));
        assert_eq!(slots.next(), Some(id(3)));
        assert!(slots.take(id(3), 1));
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
        assert!(slots.take(id(255), 1));
        // A look at all others for each would be 20 billion comparisons, which takes minutes.
        for n in (0..100_000).chain(0..100_000) {
            assert_eq!(slots.wait(of(n)), None);
        }
        for n in (1..100_000).rev() {
            assert_eq!(slots.leave(&of(n), None), None);
        }
        assert_eq!(slots.leave(&id(255), None), Some(of(0)), "it is the only one left");
        assert_eq!(slots.next(), None);
    }

    #[test]
    fn a_slot_that_is_kept_is_free_when_its_time_is_up() {
        let (slots, at) = (Slots::new(1), Timestamp::from_secs);
        assert!(slots.take(id(1), 1));
        assert_eq!(slots.settle(&id(1), 2, Some(at(100))), None);
        assert_eq!(slots.wait(id(2)), None);
        assert_eq!((slots.leave(&id(1), None), slots.running(), slots.kept()), (None, 0, 1), "its container is gone");
        assert_eq!(slots.expire(at(99)), []);
        slots.bring_forward(Duration::from_secs(50));
        assert_eq!(slots.expire(at(49)), []);
        assert_eq!(slots.expire(at(50)), [id(2)]);
        assert!(slots.take(id(2), 1));
        slots.settle(&id(2), 2, Some(at(100)));
        assert!(slots.take(id(2), 3), "its next run has it");
        assert_eq!((slots.expire(at(100)), slots.running(), slots.kept()), (vec![], 1, 0));
        slots.settle(&id(2), 4, Some(at(200)));
        slots.settle(&id(2), 5, None);
        assert_eq!((slots.running(), slots.kept()), (0, 0), "its end is proven");
    }

    #[test]
    fn late_news_change_nothing() {
        let (slots, at) = (Slots::new(1), Timestamp::from_secs);
        let counted = || (slots.running(), slots.kept());
        assert!(slots.take(id(1), 1) && slots.take(id(1), 3), "its second run");
        for news in [None, Some(at(100))] {
            assert_eq!((slots.settle(&id(1), 2, news), counted()), (None, (1, 0)), "of the first run");
        }
        slots.settle(&id(1), 5, Some(at(50)));
        slots.settle(&id(1), 4, Some(at(100)));
        assert_eq!((slots.wait(id(2)), slots.expire(at(50))), (None, vec![id(2)]), "the later news count");
        slots.settle(&id(1), 5, Some(at(100)));
        assert_eq!(counted(), (0, 0), "nobody keeps what was given back");
        assert!(slots.take(id(2), 1));
        assert_eq!(slots.wait(id(1)), None);
        slots.settle(&id(1), 5, None);
        assert_eq!(slots.settle(&id(2), 2, None), Some(id(1)), "it has not lost its place in the line");
        assert!(slots.take(id(1), 6));
        assert_eq!((slots.leave(&id(1), Some(at(100))), counted()), (None, (0, 1)), "it is removed before its news");
        slots.settle(&id(1), 7, Some(at(100)));
        assert_eq!((slots.expire(at(100)), counted()), (vec![], (0, 0)));
    }

    #[test]
    fn runs_found_at_the_start_count_above_the_limit() {
        let slots = Slots::new(1);
        slots.found(id(1), 1, None);
        slots.found(id(2), 1, None);
        assert_eq!(slots.settle(&id(1), 2, None), None);
        assert!(!slots.take(id(3), 1) && slots.take(id(2), 2));
    }
}
