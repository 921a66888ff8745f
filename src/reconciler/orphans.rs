//! What is known of functions without a container that were looked at. PURE.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::state::{CameTo, OrphanLook, Sighting};

/// A function that is kept is looked at again after this time: somebody may have put its tags back.
const KEPT_LOOK: Duration = Duration::from_secs(3_600);

/// Whether a function is to be looked at again. A look of the future was noted before the clock was set back.
pub(super) fn is_due(look: &OrphanLook, now: Timestamp) -> bool {
    let is_kept = matches!(look.came_to, CameTo::Kept(_));
    !is_kept || look.at > now || now.since(look.at) >= KEPT_LOOK
}

/// The last looks at functions without a container: those that are stored, and those of this sweep.
#[derive(Debug, Default)]
pub(super) struct Looks {
    last: BTreeMap<String, OrphanLook>,
    new: BTreeSet<String>,
}

impl Looks {
    /// The looks that are stored.
    pub(super) fn of(sightings: &[Sighting]) -> Self {
        let look = |sighting: &Sighting| Some((sighting.function_name.clone(), sighting.look.clone()?));
        Self { last: sightings.iter().filter_map(look).collect(), new: BTreeSet::new() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&OrphanLook> {
        self.last.get(name)
    }

    /// Notes a look. Returns whether it came to something else than the one before.
    pub(super) fn note(&mut self, name: &str, at: Timestamp, mut came_to: CameTo) -> bool {
        let was_gone = self.get(name).is_some_and(|look| matches!(look.came_to, CameTo::Gone | CameTo::GoneAgain));
        if was_gone && came_to == CameTo::Gone {
            came_to = CameTo::GoneAgain;
        }
        let is_news = self.get(name).is_none_or(|before| before.came_to != came_to);
        self.last.insert(name.to_owned(), OrphanLook { at, came_to });
        self.new.insert(name.to_owned());
        is_news
    }

    /// Counts these by what became of them.
    pub(super) fn count(&self, names: &[&str]) -> OrphanCount {
        let mut count = OrphanCount::default();
        for (name, look) in names.iter().filter_map(|name| Some((*name, self.get(name)?))) {
            // One that failed or was gone in an earlier sweep is still to be deleted.
            count.looked_at += usize::from(matches!(look.came_to, CameTo::Kept(_)) || self.new.contains(name));
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

    /// The looks of this sweep, to be stored.
    pub(super) fn into_new(mut self) -> Vec<(String, OrphanLook)> {
        let look = |name: String| self.last.remove(&name).map(|look| (name, look));
        self.new.into_iter().filter_map(look).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_or_was_gone_in_an_earlier_sweep_is_left_until_this_one_looks_at_it() {
        let at = Timestamp::from_secs(1);
        let sighting = |(name, came_to): (&str, CameTo)| Sighting {
            function_name: name.to_owned(),
            first_seen: at,
            last_seen: at,
            times: 2,
            look: Some(OrphanLook { at, came_to }),
        };
        let kept = CameTo::Kept("its tags are not ours".to_owned());
        let came_to = [("failed", CameTo::Failed("AccessDenied".to_owned())), ("gone", CameTo::Gone), ("kept", kept)];
        let mut looks = Looks::of(&came_to.map(sighting));
        let names = ["failed", "gone", "kept", "new"];
        assert_eq!(looks.count(&names), OrphanCount { looked_at: 1, kept: 1, stay: 2 });
        for name in names {
            looks.note(name, at, CameTo::Gone);
        }
        assert_eq!(looks.count(&names), OrphanCount { looked_at: 4, kept: 0, stay: 1 });
    }
}
