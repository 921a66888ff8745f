//! How many containers are in which state, and which wish has waited longest, for the metrics: counted as they are worked
//! on, never by reading all of them.

use std::collections::{BTreeSet, HashMap};

use crate::clock::Timestamp;
use crate::state::model::ContainerId;
use crate::telemetry;

/// The states that are told, so that a state that nobody is in any more is told as zero.
pub(crate) const STATES: [&str; 6] = ["created", "running", "restarting", "exited", "removing", DEAD];
/// The state of a container that cannot be read.
pub(crate) const DEAD: &str = "dead";

/// What is counted of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// One of [`STATES`].
    pub(crate) state: &'static str,
    /// Since when something is wished of it that is not so.
    pub(crate) unconverged_since: Option<Timestamp>,
}

/// The last known state of every container.
#[derive(Debug, Default)]
pub(crate) struct Census {
    containers: HashMap<ContainerId, Counted>,
    counts: HashMap<&'static str, u32>,
    unconverged: BTreeSet<(Timestamp, ContainerId)>,
}

impl Census {
    /// A container is like this now; `None`: it is gone.
    pub(crate) fn count(&mut self, id: ContainerId, counted: Option<Counted>) {
        let before = match counted {
            Some(counted) => self.containers.insert(id, counted),
            None => self.containers.remove(&id),
        };
        if before == counted {
            return;
        }
        if let Some(Counted { state, unconverged_since }) = before {
            let count = self.counts.entry(state).or_default();
            *count = count.saturating_sub(1);
            unconverged_since.map(|since| self.unconverged.remove(&(since, id)));
        }
        if let Some(Counted { state, unconverged_since }) = counted {
            *self.counts.entry(state).or_default() += 1;
            self.unconverged.extend(unconverged_since.map(|since| (since, id)));
        }
        for state in STATES {
            metrics::gauge!(telemetry::CONTAINERS, "state" => state).set(f64::from(self.of(state)));
        }
    }

    /// Since when the wish that has waited longest waits.
    pub(crate) fn oldest_wish(&self) -> Option<Timestamp> {
        self.unconverged.first().map(|(since, _)| *since)
    }

    /// How many are in this state.
    pub(crate) fn of(&self, state: &str) -> u32 {
        self.counts.get(state).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_counted_once() {
        let (one, two) = (ContainerId::from_bytes([1; 32]), ContainerId::from_bytes([2; 32]));
        let like =
            |state, since: Option<i64>| Some(Counted { state, unconverged_since: since.map(Timestamp::from_secs) });
        let mut census = Census::default();
        census.count(one, like("created", Some(7)));
        census.count(two, like("created", Some(5)));
        census.count(two, like("created", Some(5)));
        assert_eq!((census.of("created"), census.oldest_wish()), (2, Some(Timestamp::from_secs(5))));
        census.count(one, like("running", None));
        census.count(two, None);
        census.count(two, None);
        assert_eq!((census.of("created"), census.of("running"), census.oldest_wish()), (0, 1, None));
    }
}
