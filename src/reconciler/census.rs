//! How many containers are in which state, for the metrics: counted as they are worked on, never by reading all of them.

use std::collections::HashMap;

use crate::state::model::ContainerId;
use crate::telemetry;

/// The states that are told, so that a state that nobody is in any more is told as zero.
pub(crate) const STATES: [&str; 5] = ["created", "running", "restarting", "exited", "removing"];

/// The last known state of every container.
#[derive(Debug, Default)]
pub(crate) struct Census {
    states: HashMap<ContainerId, &'static str>,
    counts: HashMap<&'static str, u32>,
}

impl Census {
    /// A container is in this state now; `None`: it is gone.
    pub(crate) fn count(&mut self, id: ContainerId, state: Option<&'static str>) {
        let before = match state {
            Some(state) => self.states.insert(id, state),
            None => self.states.remove(&id),
        };
        if before == state {
            return;
        }
        if let Some(before) = before {
            let count = self.counts.entry(before).or_default();
            *count = count.saturating_sub(1);
        }
        if let Some(state) = state {
            *self.counts.entry(state).or_default() += 1;
        }
        for state in STATES {
            metrics::gauge!(telemetry::CONTAINERS, "state" => state).set(f64::from(self.of(state)));
        }
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
        let mut census = Census::default();
        census.count(one, Some("created"));
        census.count(two, Some("created"));
        census.count(two, Some("created"));
        assert_eq!(census.of("created"), 2);
        census.count(one, Some("running"));
        census.count(two, None);
        census.count(two, None);
        assert_eq!((census.of("created"), census.of("running")), (0, 1));
    }
}
