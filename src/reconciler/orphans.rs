//! What is remembered of functions without a container that were looked at. PURE.

use std::collections::BTreeSet;
use std::time::Duration;

use super::shared::Knowledge;
use crate::aws::AwsErrorKind;
use crate::clock::Timestamp;

/// A function that is kept is looked at again after this time: somebody may have put its tags back.
const KEPT_LOOK: Duration = Duration::from_secs(3_600);

/// The last look at a function without a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OrphanLook {
    pub(super) at: Timestamp,
    pub(super) came_to: CameTo,
}

/// What the look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CameTo {
    /// It is not there, or was deleted; the next sweep does not list it, or lists it from an old list.
    Gone,
    /// The same, and it had come to that before: it is listed all the same, or made again each time.
    GoneAgain,
    /// It is kept, for this reason.
    Kept(&'static str),
    /// It could not be looked at or deleted.
    Failed(AwsErrorKind),
}

impl OrphanLook {
    /// Whether it is to be looked at again. A time of the future was noted before the clock was set back.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let is_kept = matches!(self.came_to, CameTo::Kept(_));
        !is_kept || self.at > now || now.since(self.at) >= KEPT_LOOK
    }
}

impl Knowledge {
    /// Notes a look. Returns whether it came to something else than the one before.
    pub(super) fn note_orphan(&mut self, name: &str, mut look: OrphanLook) -> bool {
        let was_gone =
            self.orphans.get(name).is_some_and(|look| matches!(look.came_to, CameTo::Gone | CameTo::GoneAgain));
        if was_gone && look.came_to == CameTo::Gone {
            look.came_to = CameTo::GoneAgain;
        }
        let before = self.orphans.insert(name.to_owned(), look);
        before.is_none_or(|before| before.came_to != look.came_to)
    }

    /// Forgets all others: they are no orphans any more.
    pub(super) fn forget_orphans_but(&mut self, names: &BTreeSet<&str>) {
        self.orphans.retain(|name, _| names.contains(name.as_str()));
    }

    /// Counts these by what became of them.
    pub(super) fn count_orphans(&self, names: &[&str]) -> OrphanCount {
        let mut count = OrphanCount::default();
        for look in names.iter().filter_map(|name| self.orphans.get(*name)) {
            count.looked_at += 1;
            match look.came_to {
                CameTo::Gone => {}
                CameTo::Kept(_) => {
                    count.kept += 1;
                    count.stay += 1;
                }
                CameTo::GoneAgain | CameTo::Failed(_) => count.stay += 1,
            }
        }
        count
    }
}

/// How many orphans came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OrphanCount {
    pub(super) looked_at: usize,
    pub(super) kept: usize,
    /// They are listed again whatever is done: they are kept, or the look or the deletion failed or had no effect.
    pub(super) stay: usize,
}
