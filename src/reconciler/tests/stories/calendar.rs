//! What happens next.

use std::collections::BTreeMap;

use super::daemon::Flight;
use super::world::Answer;
use crate::aws::FunctionDescription;
use crate::clock::Timestamp;

/// Something that happens. The number is that of the boot which it belongs to: a crash makes it void.
#[derive(Debug)]
pub(super) enum Happening {
    /// The user does what is next on the list.
    Act,
    /// The daemon crashes wherever it is.
    Crash,
    Boot,
    /// From now on nothing goes wrong any more.
    FaultsEnd,
    /// All should be quiet by now: look at every container once more; so many times.
    Pass(u32),
    Send(u64, Box<Flight>),
    Back(u64, Box<Flight>, Answer),
    Logs(u64),
    Sweep(u64),
    /// The list of the sweep is complete.
    Judge(u64, Vec<FunctionDescription>, Timestamp),
    Resync(u64),
}

/// The calendar; what is at the same time happens in the order in which it was added.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    entries: BTreeMap<(i64, u64), Happening>,
    count: u64,
}

impl Calendar {
    pub(super) fn add(&mut self, at_ms: i64, what: Happening) {
        self.count += 1;
        self.entries.insert((at_ms, self.count), what);
    }

    pub(super) fn next(&self) -> Option<i64> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn take(&mut self, now_ms: i64) -> Option<Happening> {
        self.next().filter(|at| *at <= now_ms)?;
        self.entries.pop_first().map(|(_, what)| what)
    }
}
