//! The sweep: what is in AWS that should not be, and what is not as it should be.
//!
//! # Guarantees
//! - AWS is listed before the store is read, page by page: a function that was made meanwhile has its row by then.
//! - It holds one page of the list and one of rows at a time, and of all containers ids only.
//! - An orphan is deleted only after two sweeps at least a grace time apart have seen it, its tags say that it is ours,
//!   and its container has no row. Sightings are rows, with the last look at each: they add up over restarts.
//! - Functions of other instances are counted, never touched.
//! - The function of a container whose row cannot be read is no orphan; and while a row has no readable id, no function is.
//!
//! A list can be old, so what it shows of a known function is only a reason to look at that function.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ROW_PAGE;
use super::claim::Claims;
use super::compare::{Comparison, Findings};
use super::names::{self, Identity, Owner};
use super::orphans::{Looks, is_due};
use super::queue::Priority;
use super::shared::Shared;
use crate::aws::{AwsError, AwsErrorKind, Cloud, FunctionDescription, Lane};
use crate::clock::Timestamp;
use crate::state::model::{Container, ContainerId, Known, Status};
use crate::state::{CameTo, Sighting, StateError};
use crate::telemetry;

/// Orphans that one sweep deletes, at most.
pub(super) const MAX_DELETIONS: usize = 50;
/// Orphans that one sweep looks at, at most: each costs a call, and anyone can make functions with names like ours. With a
/// sweep every five minutes, 10,000 of them have their turn within a day.
pub(super) const MAX_LOOKS: usize = 100;
/// Sweeps that must have seen an orphan.
const MIN_SIGHTINGS: u32 = 2;

/// What a sweep came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// It went through.
    Done(Orphans),
    /// Another daemon has claimed this database: nothing may be changed any more.
    ClaimLost,
}

/// What became of the functions without a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Orphans {
    /// They were not seen often or long enough yet.
    pub(super) waiting: usize,
    /// They are kept: not surely ours.
    pub(super) kept: usize,
    /// They are looked at or deleted by a later sweep: each looks at [`MAX_LOOKS`] at most, and deletes [`MAX_DELETIONS`].
    pub(super) left: usize,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Shared {
    /// Sweeps again and again until `stop`, or until the claim is lost, which cancels `lost`.
    pub(super) async fn sweep_loop(self, epoch: u64, stop: CancellationToken, lost: CancellationToken) {
        loop {
            match self.sweep(epoch).await {
                Ok(Swept::Done(_)) => {}
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
        let Some(view) = self.survey(epoch).await? else { return Ok(Swept::ClaimLost) };
        if view.claim_is_missing && !self.claim_again(epoch).await? {
            return Ok(Swept::ClaimLost);
        }
        metrics::gauge!(telemetry::FOREIGN_FUNCTIONS).set(count(view.findings.foreign));
        let Findings { orphans, more_orphans, .. } = &view.findings;
        metrics::gauge!(telemetry::ORPHANS).set(count(orphans.len().saturating_add(*more_orphans)));
        self.correct(&view.findings).await?;
        self.facts.record_sweep(orphans, view.started).await?;
        if view.findings.unidentified {
            tracing::warn!("a container has no readable id, so no function without a container is deleted");
            let kept = orphans.len().saturating_add(*more_orphans);
            return Ok(Swept::Done(Orphans { kept, ..Orphans::default() }));
        }
        let settled = self.delete_orphans(epoch, &view.findings).await?;
        Ok(Swept::Done(Orphans { waiting: settled.waiting.saturating_add(*more_orphans), ..settled }))
    }

    /// Looks at everything and changes nothing. `None`: another daemon has claimed this database.
    pub(super) async fn survey(&self, epoch: u64) -> Result<Option<View>, SweepError> {
        let cloud = self.cloud.lane(Lane::Housekeeping);
        let highest = self.claims(&cloud).look(epoch).await?.highest();
        if highest > epoch {
            return Ok(None);
        }
        let started = self.clock.now();
        let findings = self.compare(started).await?;
        Ok(Some(View { started, findings, claim_is_missing: highest < epoch }))
    }

    /// Compares AWS's list with the rows: each page with the rows of its functions, then all rows with what was listed.
    async fn compare(&self, started: Timestamp) -> Result<Findings, SweepError> {
        let cloud = self.cloud.lane(Lane::Housekeeping);
        let mut comparison = Comparison::begin(started, self.reader.orphans_after().await?);
        let mut marker = None;
        loop {
            let page = cloud.list_functions(marker).await?;
            let beginnings = Comparison::beginnings(&self.identity, &page.functions);
            let owners = self.facts.function_owners(&beginnings).await?;
            comparison.take_list_page(&self.identity, &page.functions, &owners);
            marker = page.next_marker;
            if marker.is_none() {
                break;
            }
        }
        self.note_success();
        let mut place = Some(i64::MIN);
        while let Some(after) = place {
            let page = self.facts.function_presence(after, ROW_PAGE).await?;
            comparison.take_rows(&page.rows);
            place = page.next;
        }
        Ok(comparison.end())
    }

    /// Puts our claim back, which somebody has deleted. Without it an older copy of the database would think that it owns
    /// the functions. Returns false if another daemon has gone on meanwhile.
    async fn claim_again(&self, epoch: u64) -> Result<bool, SweepError> {
        let cloud = self.cloud.lane(Lane::Housekeeping);
        let claims = self.claims(&cloud);
        if claims.renew(epoch).await? {
            let log_group = &self.config.claims_log_group;
            tracing::warn!(log_group, epoch, "the claim of this database was missing, and was made again");
        }
        Ok(claims.look(epoch).await?.highest() <= epoch)
    }

    fn claims<'a>(&'a self, cloud: &'a Cloud) -> Claims<'a> {
        Claims { cloud, config: &self.config, health: &self.health, instance: &self.identity.instance }
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

    /// Looks at ripe orphans in turn, and deletes those that are ours. When all that were noted stay whatever is done, the next
    /// sweep notes others. What was looked at is stored, whatever came of the rest.
    pub(super) async fn delete_orphans(&self, epoch: u64, findings: &Findings) -> Result<Orphans, SweepError> {
        let sightings = self.facts.sightings().await?;
        let mut choice = self.choose_orphans(&sightings, epoch);
        let settled = self.settle_orphans(&choice.chosen, &mut choice.looks).await;
        let (orphans, stay) = choice.count();
        let place = if settled.is_ok() { findings.next_place(stay) } else { None };
        let new = choice.looks.into_new();
        if !new.is_empty() || place.is_some() {
            self.facts.record_looks(new, place).await?;
        }
        match settled? {
            Some(failure) => Err(failure.into()),
            None => Ok(orphans),
        }
    }

    /// The orphans that a sweep of this epoch looks at. Each sweep begins at another place.
    pub(super) fn choose_orphans<'a>(&self, sightings: &'a [Sighting], epoch: u64) -> Choice<'a> {
        let (now, grace) = (self.clock.now(), self.config.gc_grace);
        let ripe = sightings.iter().filter(|sighting| is_ripe(sighting, now, grace));
        let ripe: Vec<&str> = ripe.map(|sighting| sighting.function_name.as_str()).collect();
        let turn = {
            let mut knowledge = self.knowledge();
            knowledge.sweeps = knowledge.sweeps.wrapping_add(1);
            epoch.wrapping_add(knowledge.sweeps)
        };
        let looks = Looks::of(sightings);
        let chosen = choose(&ripe, &looks, now, turn);
        Choice { waiting: sightings.len() - ripe.len(), ripe, looks, chosen }
    }

    /// Looks at these and deletes those that are ours. Returns the first failure that concerns one function only.
    async fn settle_orphans(&self, chosen: &[&str], looks: &mut Looks) -> Result<Option<AwsError>, SweepError> {
        let (mut deletions, mut failure) = (0, None);
        for name in chosen {
            if deletions >= MAX_DELETIONS {
                break;
            }
            match self.settle_orphan(name, looks).await {
                Ok(Fate::Gone | Fate::Keep(_)) => {}
                Ok(Fate::Delete) => deletions += 1,
                Err(SweepError::Aws(error)) if concerns_one(&error) => {
                    if looks.note(name, self.clock.now(), failed(&error)) {
                        tracing::warn!(function = name, %error, "a function without a container cannot be deleted");
                    }
                    failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(failure)
    }

    /// Looks at a function that was seen as an orphan often and long enough, and deletes it or notes that it is kept.
    async fn settle_orphan(&self, name: &str, looks: &mut Looks) -> Result<Fate, SweepError> {
        let fate = self.judge_orphan(name).await?;
        match fate {
            Fate::Gone => {}
            Fate::Keep(reason) => {
                metrics::counter!(telemetry::ORPHANS_SKIPPED, "reason" => reason).increment(1);
            }
            Fate::Delete => self.delete_orphan(name).await?,
        }
        // Logged when the reason is new, not at every look: a retained function stays for good.
        let is_news = looks.note(name, self.clock.now(), fate.comes_to());
        if let (Fate::Keep(reason), true) = (fate, is_news) {
            tracing::warn!(function = name, reason, "a function without a container is not deleted");
        }
        Ok(fate)
    }

    /// Looks at a function, and changes nothing.
    pub(super) async fn judge_orphan(&self, name: &str) -> Result<Fate, SweepError> {
        match self.cloud.lane(Lane::Housekeeping).get_function(name).await {
            Ok(function) => {
                let has_row = match tagged_container(&function) {
                    Some(id) => self.facts.has_row(&id).await?,
                    None => false,
                };
                Ok(match reason_to_keep(&self.identity, self.horizon, &function, has_row) {
                    Some(reason) => Fate::Keep(reason),
                    None => Fate::Delete,
                })
            }
            Err(error) if error.kind == AwsErrorKind::NotFound => Ok(Fate::Gone),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete_orphan(&self, name: &str) -> Result<(), AwsError> {
        match self.cloud.lane(Lane::Housekeeping).delete_function(name).await {
            Err(error) if error.kind != AwsErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => {
                tracing::info!(function = name, "an orphaned function was deleted");
                metrics::counter!(telemetry::ORPHANS_DELETED).increment(1);
                self.tally.orphan_deleted();
                Ok(())
            }
        }
    }
}

/// AWS and the store, looked at in this order.
#[derive(Debug)]
pub(super) struct View {
    /// When AWS began to be listed.
    pub(super) started: Timestamp,
    /// What the two tell together.
    pub(super) findings: Findings,
    /// Our claim is not in AWS, or the list is an old one.
    claim_is_missing: bool,
}

/// What becomes of a function without a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is not there any more.
    Gone,
    /// It stays, for this reason.
    Keep(&'static str),
    /// It is ours, and nobody needs it.
    Delete,
}

/// The orphans of one sweep.
pub(super) struct Choice<'a> {
    /// They were seen often and long enough.
    ripe: Vec<&'a str>,
    /// The number of all others.
    waiting: usize,
    /// Those of `ripe` that are looked at now.
    pub(super) chosen: Vec<&'a str>,
    /// What is known of them, to which the looks of this sweep are added.
    pub(super) looks: Looks,
}

impl Choice<'_> {
    /// How many came to what, and how many stay whatever is done.
    pub(super) fn count(&self) -> (Orphans, usize) {
        let count = self.looks.count(&self.ripe);
        let left = self.ripe.len() - count.looked_at;
        (Orphans { waiting: self.waiting, kept: count.kept, left }, count.stay)
    }
}

impl Fate {
    /// What is remembered of it. A function that is to be deleted has been deleted by then.
    pub(super) fn comes_to(self) -> CameTo {
        match self {
            Self::Gone | Self::Delete => CameTo::Gone,
            Self::Keep(reason) => CameTo::Kept(reason.to_owned()),
        }
    }
}

/// What is remembered of a function that could not be looked at or deleted.
pub(super) fn failed(error: &AwsError) -> CameTo {
    CameTo::Failed(format!("{:?}", error.kind))
}

/// The orphans to look at in this sweep, at most [`MAX_LOOKS`]: one half are those that were not looked at yet, beginning at a
/// place that moves with each turn; the other half those whose look is longest ago. What one half does not need is the other's.
/// They take turns, so that neither half uses up the deletions. PURE, as all below.
pub(super) fn choose<'a>(ripe: &[&'a str], looks: &Looks, now: Timestamp, turn: u64) -> Vec<&'a str> {
    let (old, mut new): (Vec<&str>, Vec<&str>) = ripe.iter().partition(|name| looks.get(name).is_some());
    let place = place_in(new.len(), turn);
    new.rotate_left(place);
    let looked_at = |name: &str| looks.get(name).map(|look| look.at.min(now));
    let mut due: Vec<&str> =
        old.into_iter().filter(|name| looks.get(name).is_none_or(|look| is_due(look, now))).collect();
    due.sort_by_key(|name| looked_at(name));
    new.truncate(MAX_LOOKS - due.len().min(MAX_LOOKS / 2));
    due.truncate(MAX_LOOKS - new.len());
    let turns = (0..MAX_LOOKS).flat_map(|turn| [due.get(turn), new.get(turn)]);
    turns.flatten().copied().collect()
}

/// A place in a list of this length. Multiples of the golden ratio come near every place, however the list grows meanwhile.
fn place_in(len: usize, turn: u64) -> usize {
    /// The golden ratio's fraction, of 2^64.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let fraction = u128::from(turn.wrapping_mul(GOLDEN));
    let place = u128::try_from(len).map_or(0, |len| (fraction * len) >> 64);
    usize::try_from(place).unwrap_or_default()
}

/// Whether the failure is that one function's, so that the others are still to be looked at.
pub(super) fn concerns_one(error: &AwsError) -> bool {
    !matches!(
        error.kind,
        AwsErrorKind::Throttled
            | AwsErrorKind::Credentials
            | AwsErrorKind::Unreachable
            | AwsErrorKind::NoAnswer
            | AwsErrorKind::EnvironmentNotReady
    )
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
pub(super) fn tagged_container(function: &FunctionDescription) -> Option<ContainerId> {
    function.tags.as_ref()?.get(names::TAG_CONTAINER)?.parse().ok()
}

/// Why a function that looked like an orphan is not deleted after all. `has_row`: the container that its tags name has a
/// row.
pub(super) fn reason_to_keep(
    identity: &Identity,
    horizon: Option<Timestamp>,
    function: &FunctionDescription,
    has_row: bool,
) -> Option<&'static str> {
    let Some(tags) = &function.tags else { return Some("its tags are not known") };
    let Some(id) = tagged_container(function) else {
        return Some("it has no tag with its container");
    };
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
