//! How many runs may be under way at once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::state::model::ContainerId;

/// The slots. A container with a run that has no end holds one; those that wait for one are served in order.
#[derive(Debug)]
pub(crate) struct Slots {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    holders: HashSet<ContainerId>,
    waiting: VecDeque<ContainerId>,
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
            inner.waiting.retain(|waiting| *waiting != id);
            inner.holders.insert(id);
        }
        free
    }

    /// Counts a run that was found under way, even above the limit.
    pub(crate) fn found(&self, id: ContainerId) {
        self.lock().holders.insert(id);
    }

    /// Waits in the line; returns a container that may go on now, if a slot has become free meanwhile.
    pub(crate) fn wait(&self, id: ContainerId) -> Option<ContainerId> {
        let mut inner = self.lock();
        if !inner.waiting.contains(&id) {
            inner.waiting.push_back(id);
        }
        if inner.holders.len() < self.most { inner.waiting.pop_front() } else { None }
    }

    /// Gives a slot back, or a place in the line. Returns the next container that may go on.
    pub(crate) fn free(&self, id: &ContainerId) -> Option<ContainerId> {
        let mut inner = self.lock();
        inner.waiting.retain(|waiting| waiting != id);
        if inner.holders.remove(id) && inner.holders.len() < self.most { inner.waiting.pop_front() } else { None }
    }

    /// The next container in the line that may go on, if a slot is free. One that was told so and did not take the slot
    /// has left the line: whoever sees its turn end asks again.
    pub(crate) fn next(&self) -> Option<ContainerId> {
        let mut inner = self.lock();
        if inner.holders.len() < self.most { inner.waiting.pop_front() } else { None }
    }

    /// How many runs are under way.
    pub(crate) fn held(&self) -> usize {
        self.lock().holders.len()
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
        assert_eq!(slots.held(), 0);
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
    fn runs_found_at_the_start_count_above_the_limit() {
        let slots = Slots::new(1);
        slots.found(id(1));
        slots.found(id(2));
        assert_eq!(slots.free(&id(1)), None);
        assert!(!slots.take(id(3)) && slots.take(id(2)));
    }
}
