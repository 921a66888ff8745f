//! Which container is looked at next. PURE: no clock, no tasks.
//!
//! The same key merges: the earliest time and the most urgent priority win. A key that is being worked on is not given
//! out again; what was asked for meanwhile stands when the work is done.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use crate::clock::Timestamp;

/// Who goes first among those that are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Priority {
    /// Somebody waits for it.
    User,
    /// It failed, or something was observed.
    Retry,
    /// To see how far AWS is.
    Poll,
    /// Nobody would miss it.
    Housekeeping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    due: Timestamp,
    priority: Priority,
}

/// The queue. Each key that waits and is not being worked on stands in one of two orders: what is due by urgency, what is
/// not by time.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    entries: HashMap<K, Entry>,
    working: HashSet<K>,
    later: BTreeSet<(Timestamp, K)>,
    ready: BTreeSet<(Priority, Timestamp, K)>,
}

impl<K: Copy + Eq + Hash + Ord> Default for Queue<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), working: HashSet::new(), later: BTreeSet::new(), ready: BTreeSet::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord> Queue<K> {
    /// Asks for a look at `key` at `due`.
    pub(crate) fn push(&mut self, key: K, due: Timestamp, priority: Priority) {
        let old = self.entries.get(&key).copied();
        let entry = old.map_or(Entry { due, priority }, |old| Entry {
            due: old.due.min(due),
            priority: old.priority.min(priority),
        });
        if old == Some(entry) {
            return;
        }
        self.entries.insert(key, entry);
        if let Some(old) = old {
            self.later.remove(&(old.due, key));
            self.ready.remove(&(old.priority, old.due, key));
        }
        if !self.working.contains(&key) {
            self.later.insert((entry.due, key));
        }
    }

    /// The next key to work on: due, not being worked on, the most urgent first. It counts as being worked on until
    /// [`Queue::done`]. Also tells since when it was due.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<(K, Timestamp, Priority)> {
        self.ripen(now);
        let (priority, due, key) = self.ready.pop_first()?;
        self.entries.remove(&key);
        self.working.insert(key);
        Some((key, due, priority))
    }

    /// The key is worked on from now on, though the queue has not given it out. What was asked for until now is done by
    /// that.
    pub(crate) fn begin(&mut self, key: K, now: Timestamp) {
        self.working.insert(key);
        let Some(entry) = self.entries.get(&key).copied() else { return };
        self.later.remove(&(entry.due, key));
        self.ready.remove(&(entry.priority, entry.due, key));
        if entry.due <= now {
            self.entries.remove(&key);
        }
    }

    fn ripen(&mut self, now: Timestamp) {
        while let Some((due, key)) = self.later.pop_first() {
            if due > now {
                self.later.insert((due, key));
                break;
            }
            if let Some(entry) = self.entries.get(&key) {
                self.ready.insert((entry.priority, due, key));
            }
        }
    }

    /// The work on `key` is done: it may be given out again.
    pub(crate) fn done(&mut self, key: K) {
        if self.working.remove(&key)
            && let Some(entry) = self.entries.get(&key)
        {
            self.later.insert((entry.due, key));
        }
    }

    /// Everything becomes due this much earlier: the clock was set back by it.
    pub(crate) fn bring_forward(&mut self, step: Duration) {
        self.entries.values_mut().for_each(|entry| entry.due = entry.due.before(step));
        self.later = std::mem::take(&mut self.later).into_iter().map(|(due, key)| (due.before(step), key)).collect();
        let ready = std::mem::take(&mut self.ready);
        self.ready = ready.into_iter().map(|(priority, due, key)| (priority, due.before(step), key)).collect();
    }

    /// When the next key that is not being worked on is due; in the past: one is due now.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let ready = self.ready.first().map(|(_, due, _)| *due);
        ready.or_else(|| self.later.first().map(|(due, _)| *due))
    }

    /// How many keys are due and wait to be worked on.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The keys that are due and not being worked on, in no order.
    pub(crate) fn due(&self, now: Timestamp) -> impl Iterator<Item = K> + '_ {
        let waits = move |(key, entry): &(&K, &Entry)| entry.due <= now && !self.working.contains(*key);
        self.entries.iter().filter(waits).map(|(key, _)| *key)
    }

    /// How many keys wait, those that are not due yet included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many keys are being worked on.
    pub(crate) fn working(&self) -> usize {
        self.working.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(n: i64) -> Timestamp {
        Timestamp::from_secs(n)
    }

    #[test]
    fn the_most_urgent_of_the_due_goes_first() {
        let mut queue = Queue::default();
        queue.push(1, at(1), Priority::Housekeeping);
        queue.push(2, at(3), Priority::User);
        queue.push(3, at(2), Priority::Retry);
        queue.push(4, at(9), Priority::User);
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop(at(5)).map(|(key, ..)| key)).collect();
        assert_eq!(order, [2, 3, 1]);
        queue.push(5, at(5), Priority::Poll);
        queue.push(6, at(5), Priority::User);
        assert_eq!(queue.pop(at(5)).map(|(key, ..)| key), Some(6));
        assert_eq!(queue.ready(), 1, "what is not due yet is not counted");
        assert_eq!(queue.next_due(), Some(at(5)));
    }

    #[test]
    fn the_same_key_merges_and_the_earliest_wins() {
        let mut queue = Queue::default();
        queue.push(1, at(9), Priority::Poll);
        queue.push(1, at(5), Priority::Housekeeping);
        queue.push(1, at(7), Priority::User);
        assert_eq!((queue.len(), queue.ready()), (1, 0));
        assert_eq!(queue.pop(at(4)), None);
        assert_eq!(queue.pop(at(5)), Some((1, at(5), Priority::User)));
        assert_eq!(queue.pop(at(99)), None);
    }

    #[test]
    fn a_key_is_never_worked_on_twice_at_once() {
        let mut queue = Queue::default();
        queue.push(1, at(0), Priority::User);
        assert!(queue.pop(at(1)).is_some());
        queue.push(1, at(0), Priority::User);
        assert_eq!(queue.next_due(), None);
        assert_eq!(queue.pop(at(1)), None);
        queue.done(1);
        assert_eq!(queue.pop(at(1)), Some((1, at(0), Priority::User)));
        queue.done(1);
        assert_eq!(queue.pop(at(1)), None);
        assert_eq!((queue.len(), queue.working()), (0, 0));
    }

    #[test]
    fn a_key_that_is_begun_elsewhere_is_not_given_out() {
        let mut queue = Queue::default();
        queue.push(1, at(1), Priority::User);
        queue.push(2, at(9), Priority::Poll);
        queue.begin(1, at(5));
        queue.begin(2, at(5));
        assert_eq!((queue.pop(at(20)), queue.working()), (None, 2));
        queue.done(1);
        queue.done(2);
        assert_eq!(queue.pop(at(20)), Some((2, at(9), Priority::Poll)), "what was asked for later still stands");
        assert_eq!(queue.pop(at(20)), None);
    }

    #[test]
    fn a_clock_that_is_set_back_by_a_day_puts_nothing_off() {
        const DAY: i64 = 86_400;
        let mut queue = Queue::default();
        queue.push(1, at(DAY + 10), Priority::Poll);
        queue.push(2, at(DAY + 5), Priority::User);
        queue.push(3, at(DAY), Priority::User);
        assert_eq!(queue.pop(at(DAY + 6)).map(|(key, ..)| key), Some(3));
        queue.push(3, at(DAY + 20), Priority::Poll);
        queue.bring_forward(Duration::from_secs(86_400));
        assert_eq!(queue.pop(at(6)), Some((2, at(5), Priority::User)));
        queue.done(3);
        assert_eq!(queue.next_due(), Some(at(10)));
        assert_eq!(queue.pop(at(10)).map(|(key, ..)| key), Some(1));
        assert_eq!(queue.pop(at(20)).map(|(key, ..)| key), Some(3));
    }

    proptest! {
        /// Whatever is pushed, popped and finished: nothing is lost, nothing is given out early or twice.
        #[test]
        fn nothing_is_lost(steps in proptest::collection::vec((0u8..6, 0i64..20, 0u8..4), 1..200)) {
            let mut queue = Queue::default();
            let mut wanted: HashMap<u8, i64> = HashMap::new();
            let mut working: HashSet<u8> = HashSet::new();
            let priorities = [Priority::User, Priority::Retry, Priority::Poll, Priority::Housekeeping];
            let mut clock = 0;
            for (key, time, kind) in steps {
                match kind {
                    0 | 1 => {
                        queue.push(key, at(time), priorities[usize::from(key) % 4]);
                        let due = wanted.entry(key).or_insert(time);
                        *due = time.min(*due);
                    }
                    2 => {
                        clock = time.max(clock);
                        if let Some((key, due, _)) = queue.pop(at(clock)) {
                            prop_assert!(working.insert(key));
                            prop_assert_eq!(wanted.remove(&key).map(at), Some(due));
                            prop_assert!(due <= at(clock));
                        } else {
                            prop_assert!(wanted.iter().all(|(key, due)| *due > clock || working.contains(key)));
                        }
                    }
                    _ => { working.remove(&key); queue.done(key); }
                }
                let next = wanted.iter().filter(|(key, _)| !working.contains(key)).map(|(_, due)| at(*due)).min();
                prop_assert_eq!(queue.next_due().is_some(), next.is_some());
            }
        }
    }
}
