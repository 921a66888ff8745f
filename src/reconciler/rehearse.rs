//! A dry run: what a pass would do next, found out by reads alone.
//!
//! A pass that begins on the same state looks at the same orphans and decides the same on the same evidence: the informer's
//! lines and the sweep's findings are folded into copies of the rows, one page after another, and the plan is asked. Only
//! containers whose runs are looked for in the log are held together, as many as runs may be under way. An action that only
//! looks is carried out; one that changes something is reported, and ends the rehearsal for that container, since what follows
//! depends on AWS's answer.
//!
//! # Caveats
//! - What only a live daemon remembers is not known: which invocations have no answer yet, and how many sweeps it has made.
//!
//! # Guarantees
//! - Nothing is changed, neither in AWS nor in the store: the store may belong to a live daemon.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::Findings;
use super::execute::fresh_token;
use super::observe;
use super::orphans::Looks;
use super::plan::{Action, Decision, Left, Moment, plan};
use super::scan::{Group, Tick};
use super::shared::Shared;
use super::summary::{SETTLE, Step, Summary};
use super::sweep::{self, Fate, MAX_DELETIONS, Orphans, SweepError, View};
use super::worker::MAX_STEPS;
use super::{ROW_PAGE, claim};
use crate::aws::{AwsError, AwsErrorKind, Lane, LogGroupNeeds};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::state::model::life::unsettled_run;
use crate::state::model::{Container, ContainerId, RunPhase, Status};
use crate::state::{Sighting, StateError};

/// Why a dry run did not go through.
#[derive(Debug, thiserror::Error)]
pub(super) enum RehearsalError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Sweep(#[from] SweepError),
    #[error(transparent)]
    Claim(#[from] claim::ClaimError),
    #[error("{0}")]
    ClaimLost(String),
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// How often one call may be throttled: its quota is the account's, and other programs in it take their share.
const MAX_THROTTLED: u32 = 4;

/// What is missing of a log group. Throttled calls are made again: the quota's gate holds the next one back by itself.
async fn needs_of(shared: &Shared, group: &str, retention_days: Option<u32>) -> Result<LogGroupNeeds, AwsError> {
    let mut throttled = 0;
    loop {
        match shared.cloud.log_group_needs(group, retention_days).await {
            Err(error) if error.kind == AwsErrorKind::Throttled && throttled < MAX_THROTTLED => throttled += 1,
            answered => return answered,
        }
    }
}

/// Finds out what there is to do, and tells it in the summary's plan.
pub(super) async fn rehearse(shared: &Shared, epoch: u64, summary: &mut Summary) -> Result<(), RehearsalError> {
    let Config { log_group, claims_log_group, log_retention_days, .. } = &*shared.config;
    let claims = needs_of(shared, claims_log_group, None).await?;
    claim::check_account(&shared.config, claims.arn.as_deref())?;
    let output = needs_of(shared, log_group, *log_retention_days).await?;
    let (found, watched) = (Findings::default(), BTreeMap::new());
    let mut rehearsal = Rehearsal { shared, found, watched, steps: Vec::new() };
    rehearsal.log_group(log_group, &output);
    rehearsal.log_group(claims_log_group, &claims);
    // Without the groups nobody has claimed anything, and nothing has run.
    if !(claims.create && output.create) {
        let Some(view) = shared.survey(epoch).await? else {
            return Err(RehearsalError::ClaimLost(claim::lost("another daemon has claimed it")));
        };
        rehearsal.take_in(view, epoch, summary).await?;
        rehearsal.read_logs().await?;
    }
    rehearsal.plan_all().await?;
    summary.running = shared.slots.running();
    summary.left += rehearsal.steps.len();
    for step in &rehearsal.steps {
        summary.count_step(step);
    }
    summary.plan = rehearsal.steps;
    Ok(())
}

struct Rehearsal<'a> {
    shared: &'a Shared,
    /// What the sweep has found.
    found: Findings,
    /// The containers whose runs are looked for in the log, as a real pass would know them by now.
    watched: BTreeMap<ContainerId, Container>,
    steps: Vec<Step>,
}

impl Rehearsal<'_> {
    fn log_group(&mut self, group: &str, needs: &LogGroupNeeds) {
        if needs.create {
            self.steps.push(Step::new("CreateLogGroup", group, "the log group is missing"));
        }
        if let Some(days) = needs.retention_days {
            let because = format!("its log events are to be kept for {days} days");
            self.steps.push(Step::new("PutRetentionPolicy", group, because));
        }
    }

    /// What the sweep of a pass would note, and what it would do about orphans: it looks at the same ones.
    async fn take_in(&mut self, view: View, epoch: u64, summary: &mut Summary) -> Result<(), RehearsalError> {
        self.found = view.findings;
        let more = self.found.more_orphans;
        if self.found.unidentified {
            summary.orphans_kept = self.found.orphans.len().saturating_add(more);
            return Ok(());
        }
        let known = self.shared.facts.sightings().await?;
        let sightings = sightings_after(known, &self.found.orphans, view.started);
        // A pass begins the next epoch.
        let mut choice = self.shared.choose_orphans(&sightings, epoch.saturating_add(1));
        let failure = self.judge_orphans(&choice.chosen, &sightings, &mut choice.looks).await?;
        summary.errors.extend(failure.map(|error| format!("the functions could not be swept: {error}")));
        let (orphans, _) = choice.count();
        let orphans = Orphans { waiting: orphans.waiting.saturating_add(more), ..orphans };
        orphans.add_to(summary);
        Ok(())
    }

    /// Looks at these orphans, and plans the deletion of those that are ours. Returns the first failure that concerns one
    /// function only.
    async fn judge_orphans(
        &mut self,
        chosen: &[&str],
        sightings: &[Sighting],
        looks: &mut Looks,
    ) -> Result<Option<AwsError>, RehearsalError> {
        let by_name: BTreeMap<&str, &Sighting> =
            sightings.iter().map(|sighting| (sighting.function_name.as_str(), sighting)).collect();
        let (mut deletions, mut failure) = (0, None);
        for name in chosen {
            if deletions >= MAX_DELETIONS {
                break;
            }
            let fate = match self.shared.judge_orphan(name).await {
                Err(SweepError::Aws(error)) if sweep::concerns_one(&error) => {
                    looks.note(name, self.shared.clock.now(), sweep::failed(&error));
                    failure.get_or_insert(error);
                    continue;
                }
                judged => judged?,
            };
            looks.note(name, self.shared.clock.now(), fate.comes_to());
            if let (Fate::Delete, Some(seen)) = (fate, by_name.get(name)) {
                deletions += 1;
                let because = format!(
                    "it belongs to this instance and has no container, seen {} times since {}",
                    seen.times, seen.first_seen
                );
                self.steps.push(Step::new("DeleteFunction", name, because));
            }
        }
        Ok(failure)
    }

    /// What the informer would learn.
    async fn read_logs(&mut self) -> Result<(), RehearsalError> {
        let mut watched = Vec::new();
        for row in self.shared.facts.watched().await? {
            match self.shared.reader.container(&row.id).await {
                Ok(row) => watched.extend(row.map(|row| self.swept(row))),
                Err(error) if error.concerns_one_row() => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.watched = watched.iter().map(|row| (row.id, row.clone())).collect();
        for (name, containers) in observe::by_group(watched) {
            let mut group = Group::default();
            // A scan is finite: the next tick goes on with it.
            loop {
                self.read_tick(&name, &containers, &mut group).await?;
                if !group.has_backlog() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn read_tick(&mut self, name: &str, of: &[Container], group: &mut Group) -> Result<(), RehearsalError> {
        let now = self.shared.clock.now();
        let read_through = self.shared.knowledge().read_through.get(name).copied().unwrap_or_default();
        let owners = observe::owners(of, |_| false);
        let cloud = self.shared.cloud.lane(Lane::Evidence);
        let mut tick = Tick::begin(now, name, of, group, read_through);
        while let Some(query) = tick.question() {
            let Some((events, turned)) = observe::ask(&cloud, &mut tick, query).await? else { continue };
            for (id, news) in observe::page_news(&owners, events) {
                let now = self.shared.clock.now();
                let Some(mut row) = self.watched.remove(&id) else { continue };
                self.fold(&mut row, |row| news.fold(now, row));
                self.watched.insert(id, row);
            }
            let progress = tick.turn(turned);
            let mut knowledge = self.shared.knowledge();
            knowledge.read_through.extend(progress.group.map(|through| (name.to_owned(), through)));
            knowledge.runs_read.extend(progress.runs);
        }
        Ok(())
    }

    /// A row with what the sweep has found about it.
    fn swept(&self, mut row: Container) -> Container {
        if let Some(drift) = self.found.changed.get(&row.id) {
            row.status = sweep::with_drift(&row, drift);
        }
        if self.found.missing.contains(&row.id) {
            row.status = sweep::with_doubt(&row);
        }
        row
    }

    /// Changes a copy of the status. A run that has an end by that is reported.
    fn fold(&mut self, row: &mut Container, fold: impl FnOnce(&Container) -> Status) {
        let after = fold(row);
        let before = std::mem::replace(&mut row.status, after);
        // The plan asks for slots itself: nobody is to be woken.
        let _ = self.shared.settled_slot(row, &row.status, row.revision);
        if unsettled_run(&before).is_none() || unsettled_run(&row.status).is_some() {
            return;
        }
        if let Some(RunPhase::Exited(exit)) = row.status.run.as_ref().map(|run| &run.phase) {
            let why = if exit.message.is_empty() { "the log shows its end" } else { exit.message.as_str() };
            let because = format!("{why}: exit code {}", exit.code);
            self.steps.push(Step::of(row, SETTLE, because));
        }
    }

    async fn plan_all(&mut self) -> Result<(), RehearsalError> {
        let mut place = Some(i64::MIN);
        while let Some(after) = place {
            let page = self.shared.facts.containers(after, ROW_PAGE).await?;
            place = page.next;
            for row in page.readable() {
                let row = self.watched.remove(&row.id).unwrap_or_else(|| self.swept(row));
                self.plan_one(row).await?;
            }
        }
        Ok(())
    }

    async fn plan_one(&mut self, mut row: Container) -> Result<(), RehearsalError> {
        let mut looked = false;
        for _ in 0..MAX_STEPS {
            let now = self.shared.clock.now();
            let token = fresh_token().ok_or(RehearsalError::NoRandomness)?;
            let decision = plan(&Moment { now, token }, &row, &self.shared.observed(&row));
            let look = match &decision.action {
                Action::Wait { until: Some(until) } if *until <= now => {
                    self.fold(&mut row, |_| decision.status);
                    continue;
                }
                Action::GetFunction { name } => name.clone(),
                // Whoever is about to change a function looks at it first.
                action => match action.changes() {
                    Some(name) if !looked => name.to_owned(),
                    _ => {
                        self.add_step(&row, &decision);
                        return Ok(());
                    }
                },
            };
            looked = true;
            if !self.look(&mut row, decision, look, now).await {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Looks at a function. Returns whether it could be looked at; if not, that is what is to be done.
    async fn look(&mut self, row: &mut Container, decision: Decision, name: String, now: Timestamp) -> bool {
        self.fold(row, |_| decision.status);
        let news = self.shared.execute(row, Action::GetFunction { name }).await;
        let failed = news.error().map(|error| Step::of(row, "GetFunction", error.to_string()));
        self.fold(row, |row| news.fold(now, &row.spec, row.status.clone()));
        let could = failed.is_none();
        self.steps.extend(failed);
        could
    }

    /// Adds what is to be done to the plan, if anything is.
    fn add_step(&mut self, row: &Container, decision: &Decision) {
        if decision.left == Left::Nothing {
            return;
        }
        if let Action::Invoke { .. } = decision.action {
            self.shared.slots.take(row.id, row.revision);
        }
        let again = Step::planned(row, &decision.action, decision.because).again;
        let planned = Container { status: decision.status.clone(), ..row.clone() };
        self.steps.push(Step { again, ..Step::planned(&planned, &decision.action, decision.because) });
    }
}

/// The sightings as they are after a sweep that saw these orphans.
fn sightings_after(known: Vec<Sighting>, orphans: &BTreeSet<String>, now: Timestamp) -> Vec<Sighting> {
    let known: BTreeMap<String, Sighting> =
        known.into_iter().map(|sighting| (sighting.function_name.clone(), sighting)).collect();
    let after = |name: &String| match known.get(name) {
        // As the store does: one of the future was made before the clock was set back.
        Some(seen) if seen.first_seen.max(seen.last_seen) <= now => {
            Sighting { last_seen: now, times: seen.times + 1, ..seen.clone() }
        }
        _ => Sighting { function_name: name.clone(), first_seen: now, last_seen: now, times: 1, look: None },
    };
    orphans.iter().map(after).collect()
}
