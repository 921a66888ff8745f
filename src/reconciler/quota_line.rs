//! Where containers wait for a quota, without holding a worker. PURE: no clock, no tasks.
//!
//! There is a line for each quota that actions need. Within a line the ranks go in their order, and within a rank the first
//! to come is the first to go. A rank that was passed over by so many others ([`Rank::bears`]) goes next, so each rank has
//! a guaranteed share and nothing starves. A container stands in one place at most, and keeps it while it is looked at.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::plan::Action;
use crate::aws::{Lane, Need};
use crate::clock::Timestamp;
use crate::state::model::{Container, Known, life};

/// Who goes first where a quota is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Rank {
    /// A started container needs it for its run.
    Started,
    /// Something is to be gone from AWS.
    Removal,
    /// The function of a container that is only created.
    Created,
    /// Upkeep of a function that nobody needs now.
    Housekeeping,
}

impl Rank {
    const ALL: [Self; 4] = [Self::Started, Self::Removal, Self::Created, Self::Housekeeping];

    /// How many of other ranks go ahead of it at most, one after the other. So started containers have half of a quota at
    /// least, removals a quarter, functions of created containers an eighth, upkeep a sixteenth.
    fn bears(self) -> u32 {
        match self {
            Self::Started => 1,
            Self::Removal => 3,
            Self::Created => 7,
            Self::Housekeeping => 15,
        }
    }

    /// In whose lane its calls are made.
    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Started | Self::Removal | Self::Created => Lane::User,
            Self::Housekeeping => Lane::Housekeeping,
        }
    }

    /// The rank of what is to be done next for a container.
    pub(super) fn of(container: &Container, action: &Action) -> Self {
        let status = &container.status;
        if container.is_removed() {
            Self::Removal
        } else if life::is_running(&container.spec, status) {
            Self::Started
        } else if matches!(action, Action::UpdateFunction { .. })
            || (status.function == Known::Maybe && status.function_seen)
        {
            Self::Housekeeping
        } else {
            Self::Created
        }
    }
}

/// What an action will call, as far as it is carried out by a worker; `None`: nothing.
pub(super) fn need_of(action: &Action) -> Option<Need> {
    match action {
        Action::GetFunction { .. } => Some(Need::Look),
        Action::CreateFunction { .. } | Action::PutEventInvokeConfig { .. } => Some(Need::Change),
        Action::UpdateFunction { .. } | Action::DeleteFunction { .. } | Action::ReleaseFunction { .. } => {
            Some(Need::LookAndChange)
        }
        // An invocation waits in a task of its own.
        Action::Invoke { .. } | Action::Wait { .. } | Action::AwaitSlot | Action::Forget => None,
    }
}

/// The line for what is needed: that of the scarcest quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// For GetFunction.
    Look,
    /// For the other control-plane calls.
    Change,
}

impl Line {
    /// All lines. The one with fewer tokens first, since it may need tokens of the other.
    pub(super) const ALL: [Self; 2] = [Self::Change, Self::Look];

    /// Where one waits for this.
    pub(super) fn of(need: Need) -> Self {
        match need {
            Need::Look => Self::Look,
            Need::Change | Need::LookAndChange => Self::Change,
        }
    }
}

/// What a container waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) need: Need,
    pub(super) rank: Rank,
}

/// A place in a line, to be taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: Line,
    rank: Rank,
    number: u64,
    since: Timestamp,
}

#[derive(Debug)]
struct Entry<K> {
    key: K,
    need: Need,
    since: Timestamp,
}

#[derive(Debug)]
struct Queued<K> {
    ranks: [BTreeMap<u64, Entry<K>>; Rank::ALL.len()],
    /// How many of other ranks have gone since one of this rank went.
    passed_over: [u32; Rank::ALL.len()],
}

impl<K> Default for Queued<K> {
    fn default() -> Self {
        Self { ranks: Default::default(), passed_over: Default::default() }
    }
}

/// The lines, with at most one place a key.
#[derive(Debug)]
pub(super) struct QuotaLines<K> {
    look: Queued<K>,
    change: Queued<K>,
    places: HashMap<K, Place>,
    next_number: u64,
}

impl<K> Default for QuotaLines<K> {
    fn default() -> Self {
        Self { look: Queued::default(), change: Queued::default(), places: HashMap::new(), next_number: 0 }
    }
}

impl<K: Copy + Eq + Hash> QuotaLines<K> {
    /// Puts a key in line. `before`: the place that it has just left; it is taken again if the key still waits for the same.
    pub(super) fn enter(&mut self, key: K, waiting: Waiting, before: Option<Place>, now: Timestamp) {
        self.leave(key);
        let (line, rank) = (Line::of(waiting.need), waiting.rank);
        let place = before.filter(|place| place.line == line && place.rank == rank).unwrap_or_else(|| {
            self.next_number += 1;
            Place { line, rank, number: self.next_number, since: now }
        });
        let entry = Entry { key, need: waiting.need, since: place.since };
        if let Some(of_rank) = self.queued_mut(line).ranks.get_mut(index(rank)) {
            of_rank.insert(place.number, entry);
        }
        self.places.insert(key, place);
    }

    /// Takes a key out of its line, if it stands in one.
    pub(super) fn leave(&mut self, key: K) -> Option<Place> {
        let place = self.places.remove(&key)?;
        let of_rank = self.queued_mut(place.line).ranks.get_mut(index(place.rank))?;
        of_rank.remove(&place.number);
        Some(place)
    }

    /// Who goes next, what it waits for, and since when.
    pub(super) fn first(&self, line: Line) -> Option<(K, Waiting, Timestamp)> {
        let rank = self.queued(line).next_rank()?;
        let (_, entry) = self.queued(line).ranks.get(index(rank))?.first_key_value()?;
        Some((entry.key, Waiting { need: entry.need, rank }, entry.since))
    }

    /// The first has got what it waits for. Returns its place.
    pub(super) fn serve(&mut self, line: Line) -> Option<Place> {
        let (key, waiting, _) = self.first(line)?;
        let queued = self.queued_mut(line);
        for (rank, passed_over) in Rank::ALL.into_iter().zip(&mut queued.passed_over) {
            let is_empty = queued.ranks.get(index(rank)).is_none_or(BTreeMap::is_empty);
            *passed_over = if rank == waiting.rank || is_empty { 0 } else { passed_over.saturating_add(1) };
        }
        self.leave(key)
    }

    /// How many wait in a line.
    pub(super) fn len(&self, line: Line) -> usize {
        self.queued(line).ranks.iter().map(BTreeMap::len).sum()
    }

    /// Whether nobody waits anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn queued(&self, line: Line) -> &Queued<K> {
        match line {
            Line::Look => &self.look,
            Line::Change => &self.change,
        }
    }

    fn queued_mut(&mut self, line: Line) -> &mut Queued<K> {
        match line {
            Line::Look => &mut self.look,
            Line::Change => &mut self.change,
        }
    }
}

impl<K> Queued<K> {
    /// The rank that goes next: one that has borne enough, the least urgent first since it comes so seldom; otherwise the most
    /// urgent.
    fn next_rank(&self) -> Option<Rank> {
        let waits = |rank: &Rank| self.ranks.get(index(*rank)).is_some_and(|of_rank| !of_rank.is_empty());
        let is_due = |rank: &Rank| self.passed_over.get(index(*rank)).is_some_and(|count| *count >= rank.bears());
        let due = Rank::ALL.into_iter().rev().find(|rank| waits(rank) && is_due(rank));
        due.or_else(|| Rank::ALL.into_iter().find(waits))
    }
}

fn index(rank: Rank) -> usize {
    Rank::ALL.iter().position(|other| *other == rank).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(0);

    fn waiting(rank: Rank) -> Waiting {
        Waiting { need: Need::Change, rank }
    }

    fn served(lines: &mut QuotaLines<u32>) -> Option<u32> {
        let (key, ..) = lines.first(Line::Change)?;
        lines.serve(Line::Change);
        Some(key)
    }

    #[test]
    fn ranks_go_in_their_order_and_within_a_rank_who_came_first() {
        let mut lines = QuotaLines::default();
        for (key, rank) in
            [(1, Rank::Housekeeping), (2, Rank::Created), (3, Rank::Removal), (4, Rank::Started), (5, Rank::Started)]
        {
            lines.enter(key, waiting(rank), None, NOW);
        }
        let order: Vec<u32> = std::iter::from_fn(|| served(&mut lines)).collect();
        assert_eq!(order, [4, 5, 3, 2, 1]);
        assert!(lines.is_empty());
    }

    #[test]
    fn each_rank_has_its_share_of_a_busy_quota() {
        let mut lines = QuotaLines::default();
        let mut counts = [0_u32; 4];
        let mut key = 0;
        for _ in 0..1_600 {
            for rank in Rank::ALL {
                while lines.change.ranks[index(rank)].len() < 2 {
                    key += 1;
                    lines.enter(key, waiting(rank), None, NOW);
                }
            }
            let (_, waiting, _) = lines.first(Line::Change).unwrap();
            lines.serve(Line::Change);
            counts[index(waiting.rank)] += 1;
        }
        let least = [800, 400, 190, 95];
        let enough = counts.iter().zip(least).all(|(count, least)| *count >= least * 9 / 10);
        assert!(enough, "{counts:?}");
    }

    #[test]
    fn a_key_has_one_place_and_takes_it_again() {
        let mut lines = QuotaLines::default();
        for key in [1, 2] {
            lines.enter(key, waiting(Rank::Created), None, NOW);
        }
        let place = lines.leave(1);
        assert_eq!(lines.len(Line::Change), 1);
        lines.enter(1, waiting(Rank::Created), place, NOW);
        lines.enter(1, waiting(Rank::Created), place, NOW);
        assert_eq!(lines.len(Line::Change), 2);
        assert_eq!(lines.first(Line::Change).map(|(key, ..)| key), Some(1), "where it stood");
        let place = lines.leave(1);
        lines.enter(1, Waiting { need: Need::Look, rank: Rank::Created }, place, NOW);
        assert_eq!((lines.len(Line::Change), lines.len(Line::Look)), (1, 1), "another line, another place");
        assert_eq!(lines.leave(3), None);
    }
}
