//! The sweep: what is in AWS that should not be, and what is not as it should be.
//!
//! # Guarantees
//! - AWS is listed before the store is read: a function that was made meanwhile has its row by then.
//! - An orphan is deleted only after two sweeps at least a grace time apart have seen it, its tags say that it is ours,
//!   and its container has no row. Sightings are rows: they add up over restarts.
//! - Functions of other instances are counted, never touched.
//!
//! A list can be old, so what it shows of a known function is only a reason to look at that function.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ROW_PAGE;
use super::claim;
use super::names::{self, Identity, Owner};
use super::queue::Priority;
use super::shared::Shared;
use crate::aws::{AwsError, AwsErrorKind, FunctionDescription, Lane};
use crate::clock::Timestamp;
use crate::state::model::{Container, ContainerId, Known, Status};
use crate::state::{Sighting, StateError};
use crate::telemetry;

/// Orphans that one sweep deletes, at most.
const MAX_DELETIONS: usize = 50;
/// Pages of one list of functions, at most: 50 functions each.
const MAX_LIST_PAGES: usize = 10_000;
/// Sweeps that must have seen an orphan.
const MIN_SIGHTINGS: u32 = 2;

/// What a sweep came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// It went through.
    Done,
    /// Another daemon has claimed this database: nothing may be changed any more.
    ClaimLost,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the account has more functions than one sweep reads: nothing is judged by a part of the list")]
    TooManyFunctions,
}

/// What the list and the rows tell together. PURE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Functions that are ours by name and have no row.
    pub(super) orphans: BTreeSet<String>,
    /// Functions that differ from what is wanted, by AWS's field names.
    pub(super) changed: BTreeMap<ContainerId, Vec<String>>,
    /// Containers whose function should be there and is not in the list.
    pub(super) missing: BTreeSet<ContainerId>,
    /// How many functions belong to other instances.
    foreign: usize,
}

impl Shared {
    /// Sweeps again and again until `stop`, or until the claim is lost, which cancels `lost`.
    pub(super) async fn sweep_loop(self, epoch: u64, stop: CancellationToken, lost: CancellationToken) {
        loop {
            match self.sweep(epoch).await {
                Ok(Swept::Done) => {}
                Ok(Swept::ClaimLost) => return lost.cancel(),
                Err(error) => {
                    tracing::warn!(%error, "the sweep did not go through");
                    if let SweepError::Aws(error) = &error {
                        self.note_failure(error);
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(self.config.gc_interval) => {}
            }
        }
    }

    /// One sweep.
    pub(super) async fn sweep(&self, epoch: u64) -> Result<Swept, SweepError> {
        let cloud = self.cloud.lane(Lane::Housekeeping);
        let log_group = &self.config.log_group;
        if claim::highest(&cloud, log_group, &self.identity.instance).await? > epoch {
            return Ok(Swept::ClaimLost);
        }
        let started = self.clock.now();
        let listed = self.list_all().await?;
        self.note_success();
        let findings = self.judge_all(&listed, started).await?;
        metrics::gauge!(telemetry::FOREIGN_FUNCTIONS).set(count(findings.foreign));
        metrics::gauge!(telemetry::ORPHANS).set(count(findings.orphans.len()));
        self.correct(&findings).await?;
        self.facts.record_sweep(&findings.orphans, started).await?;
        self.delete_orphans().await?;
        Ok(Swept::Done)
    }

    async fn list_all(&self) -> Result<Vec<FunctionDescription>, SweepError> {
        let cloud = self.cloud.lane(Lane::Housekeeping);
        let (mut listed, mut marker) = (Vec::new(), None);
        for _ in 0..MAX_LIST_PAGES {
            let page = cloud.list_functions(marker).await?;
            listed.extend(page.functions.into_iter().filter(|f| self.identity.owner(&f.name) != Owner::Stranger));
            marker = page.next_marker;
            if marker.is_none() {
                return Ok(listed);
            }
        }
        // A part of the list proves nothing: what is not in it may be in the rest.
        Err(SweepError::TooManyFunctions)
    }

    /// Reads the store after the list, page by page.
    async fn judge_all(&self, listed: &[FunctionDescription], started: Timestamp) -> Result<Findings, StateError> {
        let mut judge = Judge::new(&self.identity, listed, started);
        let mut after = 0;
        loop {
            let page = self.facts.containers(after, ROW_PAGE).await?;
            let Some(last) = page.last() else { return Ok(judge.findings()) };
            after = last.seq;
            page.iter().for_each(|row| judge.row(row));
        }
    }

    /// Notes what is not as wanted and lets the plan mend it.
    async fn correct(&self, findings: &Findings) -> Result<(), StateError> {
        for (id, drift) in &findings.changed {
            self.fold_in(id, |container| with_drift(container, drift)).await?;
            self.kick(*id, self.clock.now(), Priority::Housekeeping).await;
        }
        for id in &findings.missing {
            self.fold_in(id, with_doubt).await?;
            metrics::counter!(telemetry::DRIFT_FOUND, "kind" => "missing").increment(1);
            self.kick(*id, self.clock.now(), Priority::Housekeeping).await;
        }
        Ok(())
    }

    async fn delete_orphans(&self) -> Result<(), SweepError> {
        let now = self.clock.now();
        let ripe = |sighting: &Sighting| is_ripe(sighting, now, self.config.gc_grace);
        let sightings = self.facts.sightings().await?;
        for sighting in sightings.iter().filter(|sighting| ripe(sighting)).take(MAX_DELETIONS) {
            self.delete_orphan(&sighting.function_name).await?;
        }
        Ok(())
    }

    async fn delete_orphan(&self, name: &str) -> Result<(), SweepError> {
        let cloud = self.cloud.lane(Lane::Housekeeping);
        let function = match cloud.get_function(name).await {
            Ok(function) => function,
            Err(error) if error.kind == AwsErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let has_row = match container_of(&function) {
            Some(id) => self.reader.container(&id).await?.is_some(),
            None => false,
        };
        if let Some(reason) = reason_to_keep(&self.identity, self.horizon, &function, has_row) {
            tracing::warn!(function = name, reason, "a function without a container is not deleted");
            return Ok(());
        }
        match cloud.delete_function(name).await {
            Err(error) if error.kind != AwsErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => {
                tracing::info!(function = name, "an orphaned function was deleted");
                metrics::counter!(telemetry::ORPHANS_DELETED).increment(1);
                Ok(())
            }
        }
    }
}

/// What the list and the rows, which are read after it, tell together. PURE, as all below.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    identity: &'a Identity,
    started: Timestamp,
    /// Functions that are ours by name and whose container was not met yet.
    ours: BTreeMap<&'a str, &'a FunctionDescription>,
    findings: Findings,
}

impl<'a> Judge<'a> {
    /// `started`: before the list was asked for.
    pub(super) fn new(identity: &'a Identity, listed: &'a [FunctionDescription], started: Timestamp) -> Self {
        let (mut ours, mut findings) = (BTreeMap::new(), Findings::default());
        for function in listed {
            match identity.owner(&function.name) {
                Owner::Ours { .. } => drop(ours.insert(function.name.as_str(), function)),
                Owner::OtherInstance => findings.foreign += 1,
                Owner::Stranger => {}
            }
        }
        Self { identity, started, ours, findings }
    }

    /// Takes in a container.
    pub(super) fn row(&mut self, row: &Container) {
        let name = self.identity.function_name(&row.id, row.status.incarnation);
        let Some(function) = self.ours.remove(name.as_str()) else {
            let is_older = row.status.create_sent_at.is_none_or(|sent| sent < self.started);
            if is_older && matches!(row.status.function, Known::Is(_)) {
                self.findings.missing.insert(row.id);
            }
            return;
        };
        let drift = names::drift(&names::shape(&row.spec.config), &function.shape);
        if !drift.is_empty() {
            self.findings.changed.insert(row.id, drift);
        }
    }

    /// All containers were met.
    pub(super) fn findings(mut self) -> Findings {
        self.findings.orphans = self.ours.into_keys().map(str::to_owned).collect();
        self.findings
    }
}

/// The facts of a container whose function was listed with other settings than wanted.
pub(super) fn with_drift(container: &Container, drift: &[String]) -> Status {
    let mut status = container.status.clone();
    if let Known::Is(function) = &mut status.function {
        function.drift = drift.to_vec();
    }
    status
}

/// The facts of a container whose function was not listed.
pub(super) fn with_doubt(container: &Container) -> Status {
    let mut status = container.status.clone();
    if matches!(status.function, Known::Is(_)) {
        status.function = Known::Maybe;
    }
    status
}

/// Whether an orphan was seen often and long enough to be deleted.
pub(super) fn is_ripe(sighting: &Sighting, now: Timestamp, grace: Duration) -> bool {
    sighting.times >= MIN_SIGHTINGS && now.since(sighting.first_seen) >= grace
}

/// The container that a function's tags name.
pub(super) fn container_of(function: &FunctionDescription) -> Option<ContainerId> {
    function.tags.as_ref()?.get(names::TAG_CONTAINER)?.parse().ok()
}

/// Why a function that looked like an orphan is not deleted after all. `has_row`: its container is in the store.
pub(super) fn reason_to_keep(
    identity: &Identity,
    horizon: Option<Timestamp>,
    function: &FunctionDescription,
    has_row: bool,
) -> Option<&'static str> {
    let Some(tags) = &function.tags else { return Some("its tags are not known") };
    let Some(id) = container_of(function) else { return Some("it has no tag with its container") };
    if !identity.owns(tags, &id) {
        return Some("its tags do not say that it is ours");
    }
    let named_after_it =
        matches!(identity.owner(&function.name), Owner::Ours { id_prefix } if id.to_string().starts_with(&id_prefix));
    if !named_after_it {
        return Some("its name and its tags do not agree");
    }
    if has_row {
        // The container has had this function before: whatever keeps its row will decide.
        return Some("its container still exists");
    }
    let created = tags.get(names::TAG_CREATED).and_then(|secs| secs.parse().ok()).map(Timestamp::from_secs);
    match (horizon, created) {
        (Some(horizon), Some(created)) if created <= horizon => None,
        (Some(_), _) => Some("it is newer than the restored database"),
        (None, _) => None,
    }
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::from(u32::MAX), f64::from)
}
