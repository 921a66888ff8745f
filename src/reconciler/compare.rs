//! What AWS's list of functions and the rows say together, a page at a time. PURE.
//!
//! # Guarantees
//! - Of what it was given it keeps places and ids of rows, the names of at most [`MAX_ORPHANS`] orphans, and what differs:
//!   memory for names, whatever the functions and containers are made of.
//! - A function is compared with rows that were read after its page of the list, so one that was made meanwhile has its row.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::names::{self, Identity, Owner};
use crate::aws::FunctionDescription;
use crate::clock::Timestamp;
use crate::state::model::ContainerId;
use crate::state::{FunctionOwner, FunctionPresence};

/// Orphans that one sweep notes: the first ones by name after a place, so that later sweeps see the same ones until they
/// are deleted, or must all be kept ([`Findings::next_place`]). A sweep deletes a fraction of them, and each costs a row
/// and some 100 bytes of memory.
pub(super) const MAX_ORPHANS: usize = 10_000;

/// A sweep is over in this time, whatever it has to list.
const LONGEST_SWEEP: Duration = Duration::from_secs(3_600);

/// What is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Functions that are ours by name and have no row.
    pub(super) orphans: BTreeSet<String>,
    /// How many more there are: beyond [`MAX_ORPHANS`], or not after the place.
    pub(super) more_orphans: usize,
    /// Functions that differ from what is wanted, by AWS's field names.
    pub(super) changed: BTreeMap<ContainerId, Vec<String>>,
    /// Containers whose function should be there and is not in the list.
    pub(super) missing: BTreeSet<ContainerId>,
    /// How many functions belong to other instances.
    pub(super) foreign: usize,
    /// A row has an id that cannot be read, so any orphan may be its function.
    pub(super) unidentified: bool,
}

impl Findings {
    /// The name after which the next sweep notes orphans, when it must not stay where it is: that many of those that were
    /// noted `stay` whatever is done. Without it they would hide all others for ever.
    pub(super) fn next_place(&self, stay: usize) -> Option<String> {
        (self.more_orphans > 0 && stay >= self.orphans.len()).then(|| self.orphans.last().cloned().unwrap_or_default())
    }
}

/// A comparison on its way through the list, then through the rows.
#[derive(Debug)]
pub(super) struct Comparison {
    /// When AWS began to be listed.
    started: Timestamp,
    /// Orphans are noted whose names come after this one.
    orphans_after: String,
    /// The places of the rows whose function was listed.
    listed: HashSet<i64>,
    findings: Findings,
}

impl Comparison {
    pub(super) fn begin(started: Timestamp, orphans_after: String) -> Self {
        Self { started, orphans_after, listed: HashSet::new(), findings: Findings::default() }
    }

    /// The beginnings of ids that [`Comparison::take_list_page`] needs the rows of.
    pub(super) fn beginnings(identity: &Identity, page: &[FunctionDescription]) -> Vec<String> {
        let beginning = |function: &FunctionDescription| match identity.owner(&function.name) {
            Owner::Ours { id_prefix } => Some(id_prefix),
            Owner::OtherInstance | Owner::Stranger => None,
        };
        page.iter().filter_map(beginning).collect()
    }

    /// A page of the list, with the rows that its functions may belong to.
    pub(super) fn take_list_page(
        &mut self,
        identity: &Identity,
        page: &[FunctionDescription],
        owners: &[FunctionOwner],
    ) {
        let named = |owner: &FunctionOwner| {
            owner.function.as_ref().map(|(incarnation, _)| identity.function_name(&owner.id, *incarnation))
        };
        let by_name: BTreeMap<String, &FunctionOwner> =
            owners.iter().filter_map(|owner| Some((named(owner)?, owner))).collect();
        for function in page {
            match (identity.owner(&function.name), by_name.get(&function.name)) {
                (Owner::Ours { .. }, Some(owner)) => self.compare(owner, function),
                (Owner::Ours { id_prefix }, None) => {
                    let unreadable = |owner: &&FunctionOwner| {
                        owner.function.is_none() && owner.id.to_string().starts_with(&id_prefix)
                    };
                    match owners.iter().find(unreadable) {
                        // Nobody knows what it should be called: it is no orphan.
                        Some(owner) => drop(self.listed.insert(owner.seq)),
                        None => self.note_orphan(&function.name),
                    }
                }
                (Owner::OtherInstance, _) => self.findings.foreign += 1,
                (Owner::Stranger, _) => {}
            }
        }
    }

    /// A page of the rows, all of them read after the last page of the list.
    pub(super) fn take_rows(&mut self, rows: &[FunctionPresence]) {
        let started = self.started;
        for row in rows {
            let Some(id) = row.id else {
                self.findings.unidentified = true;
                continue;
            };
            let is_older = row.create_sent_at.is_none_or(|sent| sent < started || is_of_the_future(started, sent));
            if is_older && row.is_present && !self.listed.contains(&row.seq) {
                self.findings.missing.insert(id);
            }
        }
    }

    pub(super) fn end(self) -> Findings {
        self.findings
    }

    fn compare(&mut self, owner: &FunctionOwner, function: &FunctionDescription) {
        self.listed.insert(owner.seq);
        let Some((_, spec)) = &owner.function else { return };
        let drift = names::drift(&names::shape_of(spec), &function.shape);
        if !drift.is_empty() {
            self.findings.changed.insert(owner.id, drift);
        }
    }

    fn note_orphan(&mut self, name: &str) {
        let Findings { orphans, more_orphans, .. } = &mut self.findings;
        if name <= self.orphans_after.as_str() {
            *more_orphans += 1;
        } else if orphans.insert(name.to_owned()) && orphans.len() > MAX_ORPHANS {
            orphans.pop_last();
            *more_orphans += 1;
        }
    }
}

/// Whether a time cannot have been noted since the sweep began: it was before the clock was set back.
fn is_of_the_future(started: Timestamp, noted: Timestamp) -> bool {
    noted > started.after(LONGEST_SWEEP)
}
