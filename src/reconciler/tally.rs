//! What was done since the start, in numbers: the summary of a pass.

use std::sync::atomic::{AtomicU64, Ordering};

use super::absorb::Outcome;
use super::execute::News;
use super::plan::Action;
use super::record::new_exit;
use crate::state::model::Status;

/// The counters. Each only goes up, but for `invoked`, which goes back when an invocation turns out to be refused.
#[derive(Debug, Default)]
pub(super) struct Tally {
    created: AtomicU64,
    updated: AtomicU64,
    invoked: AtomicU64,
    settled: AtomicU64,
    deleted: AtomicU64,
    released: AtomicU64,
    retried: AtomicU64,
}

/// The counters at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Functions that were made.
    pub(super) created: u64,
    /// Functions that were put back as wanted.
    pub(super) updated: u64,
    /// Runs that were invoked; refused ones do not count.
    pub(super) invoked: u64,
    /// Runs of which the end was learned.
    pub(super) settled: u64,
    /// Functions that were deleted.
    pub(super) deleted: u64,
    /// Functions that were left to their users.
    pub(super) released: u64,
    /// Actions that were tried once more after a failure.
    pub(super) retried: u64,
}

impl Tally {
    /// An invocation is under way.
    pub(super) fn invoked(&self) {
        add(&self.invoked);
    }

    /// An action was carried out on a container with these facts, or failed.
    pub(super) fn action(&self, before: &Status, news: &News) {
        let failed_before = before.retry.failure.as_ref().is_some_and(|failure| failure.action == news.action().name());
        if failed_before && before.retry.attempts > 0 {
            add(&self.retried);
        }
        match (news.action(), news.outcome()) {
            (Action::CreateFunction { .. }, Outcome::Done) => add(&self.created),
            (Action::UpdateFunction { .. }, Outcome::Done) => add(&self.updated),
            (Action::DeleteFunction { .. }, Outcome::Done) => add(&self.deleted),
            (Action::ReleaseFunction { .. }, Outcome::Done) => add(&self.released),
            (Action::Invoke { .. }, Outcome::Refused(_) | Outcome::Terminal(_)) => {
                self.invoked.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// The facts of a container have changed.
    pub(super) fn change(&self, before: &Status, after: &Status) {
        if new_exit(before, after).is_some_and(|(run, _)| run.issued.is_some()) {
            add(&self.settled);
        }
    }

    /// A function without a container was deleted.
    pub(super) fn orphan_deleted(&self) {
        add(&self.deleted);
    }

    /// All counters.
    pub(super) fn done(&self) -> Done {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Done {
            created: read(&self.created),
            updated: read(&self.updated),
            invoked: read(&self.invoked),
            settled: read(&self.settled),
            deleted: read(&self.deleted),
            released: read(&self.released),
            retried: read(&self.retried),
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
