//! Which request a wish came from, for the traces: in memory, lost with the process, and nothing is decided by it.
//!
//! It is learned before the commit that makes the wish visible, so whoever reads a generation finds its request. Since a
//! wish that is not visible yet must not be taken for the one that is, the one before is remembered too.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::model::ContainerId;

/// A wish and its request.
#[derive(Debug)]
pub(super) struct Caused<T> {
    pub(super) id: ContainerId,
    pub(super) generation: u64,
    pub(super) cause: T,
}

/// The last two requests of each container that has a row: no more than there may be rows, and none while nothing is
/// traced.
#[derive(Debug)]
pub(super) struct Causes<T>(Mutex<HashMap<ContainerId, Known<T>>>);

#[derive(Debug)]
struct Known<T> {
    generation: u64,
    cause: T,
    before: Option<T>,
}

impl<T> Default for Causes<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Causes<T> {
    /// Takes over what a commit is about to make visible. If that fails, the same generation comes again, or none.
    pub(super) fn learn(&self, caused: Vec<Caused<T>>) {
        if caused.is_empty() {
            return;
        }
        let mut known = self.lock();
        for Caused { id, generation, cause } in caused {
            let before = match known.remove(&id) {
                Some(last) if last.generation < generation => Some(last.cause),
                Some(last) => last.before,
                None => None,
            };
            known.insert(id, Known { generation, cause, before });
        }
    }

    /// The request of the wish of this generation.
    pub(super) fn of(&self, id: &ContainerId, generation: u64) -> Option<T> {
        let known = self.lock();
        let last = known.get(id)?;
        if last.generation <= generation { Some(last.cause.clone()) } else { last.before.clone() }
    }

    /// The container's row is gone.
    pub(super) fn forget(&self, id: &ContainerId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Known<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ContainerId = ContainerId::from_bytes([7; 32]);

    fn learn(causes: &Causes<&'static str>, generation: u64, cause: &'static str) {
        causes.learn(vec![Caused { id: ID, generation, cause }]);
    }

    #[test]
    fn each_generation_has_its_own_request() {
        let causes = Causes::default();
        assert_eq!(causes.of(&ID, 1), None);
        learn(&causes, 1, "create");
        assert_eq!(causes.of(&ID, 1), Some("create"));
        learn(&causes, 2, "start");
        assert_eq!((causes.of(&ID, 1), causes.of(&ID, 2)), (Some("create"), Some("start")));
        assert_eq!(causes.of(&ID, 3), Some("start"), "the last wish that was traced");
    }

    #[test]
    fn a_commit_that_failed_leaves_nothing_wrong() {
        let causes = Causes::default();
        learn(&causes, 1, "create");
        learn(&causes, 2, "a start that was not committed");
        learn(&causes, 2, "start");
        assert_eq!((causes.of(&ID, 1), causes.of(&ID, 2)), (Some("create"), Some("start")));
    }

    #[test]
    fn what_is_forgotten_takes_no_room() {
        let causes = Causes::default();
        (1..=1_000).for_each(|generation| learn(&causes, generation, "again"));
        assert_eq!(causes.lock().len(), 1);
        causes.forget(&ID);
        assert!(causes.lock().is_empty());
    }
}
