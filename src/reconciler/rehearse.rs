//! A dry run: what a pass would do next, found out by reads alone.
//!
//! The same decisions on the same evidence as a real pass: the informer's lines and the sweep's findings are folded into
//! copies of the facts, and the plan is asked. An action that only looks is carried out; one that changes something is
//! told, and ends the rehearsal for that container, since what follows depends on AWS's answer.
//!
//! # Guarantees
//! - Nothing is changed, neither in AWS nor in the store: the store may belong to a live daemon.

use std::collections::{BTreeMap, BTreeSet};

use super::claim;
use super::execute::fresh_token;
use super::learn::watched;
use super::observe;
use super::plan::{Action, Decision, Left, Moment, plan};
use super::scan::{Group, Tick};
use super::shared::Shared;
use super::summary::{SETTLE, Step, Summary};
use super::sweep::{self, Fate, MAX_DELETIONS, View, is_ripe};
use super::worker::MAX_STEPS;
use crate::aws::{AwsError, Lane, LogGroupNeeds};
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
    Sweep(#[from] sweep::SweepError),
    #[error(transparent)]
    Claim(#[from] claim::ClaimError),
    #[error("{0}")]
    ClaimLost(String),
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// Finds out what there is to do, and tells it in the summary's plan.
pub(super) async fn rehearse(shared: &Shared, epoch: u64, summary: &mut Summary) -> Result<(), RehearsalError> {
    let Config { log_group, claims_log_group, log_retention_days, .. } = &*shared.config;
    let claims = shared.cloud.log_group_needs(claims_log_group, None).await?;
    claim::check_account(&shared.config, claims.arn.as_deref())?;
    let output = shared.cloud.log_group_needs(log_group, *log_retention_days).await?;
    let mut rehearsal = Rehearsal { shared, rows: BTreeMap::new(), steps: Vec::new() };
    rehearsal.log_group(log_group, &output);
    rehearsal.log_group(claims_log_group, &claims);
    if claims.create && output.create {
        // Without the groups nobody has claimed anything, and nothing has run.
        rehearsal.rows = shared.facts.all().await?.into_iter().flatten().map(|row| (row.id, row)).collect();
    } else {
        let Some(view) = shared.survey(epoch).await? else {
            return Err(RehearsalError::ClaimLost(claim::lost("another daemon has claimed it")));
        };
        rehearsal.take_in(&view, summary).await?;
        rehearsal.read_logs().await?;
    }
    rehearsal.plan_all().await?;
    summary.running = shared.slots.held();
    summary.left = rehearsal.steps.len();
    for step in &rehearsal.steps {
        summary.count_step(step);
    }
    summary.plan = rehearsal.steps;
    Ok(())
}

struct Rehearsal<'a> {
    shared: &'a Shared,
    /// The containers as a real pass would know them by now.
    rows: BTreeMap<ContainerId, Container>,
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

    /// What the sweep would note, and the orphans that it would delete.
    async fn take_in(&mut self, view: &View, summary: &mut Summary) -> Result<(), RehearsalError> {
        self.rows = view.rows.iter().map(|row| (row.id, row.clone())).collect();
        for (id, drift) in &view.findings.changed {
            self.fold(id, |row| sweep::with_drift(row, drift));
        }
        for id in &view.findings.missing {
            self.fold(id, sweep::with_doubt);
        }
        let known = self.shared.facts.sightings().await?;
        let now = self.shared.clock.now();
        let mut deletions = 0;
        for sighting in sightings_after(known, &view.findings.orphans, view.started) {
            if !is_ripe(&sighting, now, self.shared.config.gc_grace) {
                summary.orphans_waiting += 1;
                continue;
            }
            let Some(ids) = view.ids() else {
                summary.orphans_kept += 1;
                continue;
            };
            let fate = self.shared.judge_orphan(&sighting.function_name, &ids).await?;
            match fate {
                Fate::Gone => {}
                Fate::Keep(_) => summary.orphans_kept += 1,
                Fate::Delete => {
                    deletions += 1;
                    let more = if deletions > MAX_DELETIONS { ", by a later pass" } else { "" };
                    let because = format!(
                        "it belongs to this instance and has no container, seen {} times since {}{more}",
                        sighting.times, sighting.first_seen
                    );
                    self.steps.push(Step::new("DeleteFunction", &sighting.function_name, because));
                }
            }
        }
        Ok(())
    }

    /// What the informer would learn.
    async fn read_logs(&mut self) -> Result<(), RehearsalError> {
        let watched: Vec<Container> = self.rows.values().filter(|row| watched(&row.status)).cloned().collect();
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
                self.fold(&id, |row| news.fold(now, row));
            }
            let progress = tick.turn(turned);
            let mut knowledge = self.shared.knowledge();
            knowledge.read_through.extend(progress.group.map(|through| (name.to_owned(), through)));
            knowledge.runs_read.extend(progress.runs);
        }
        Ok(())
    }

    /// Changes a copy of the facts. A run that has an end by that is told.
    fn fold(&mut self, id: &ContainerId, fold: impl FnOnce(&Container) -> Status) {
        let Some(row) = self.rows.get_mut(id) else { return };
        let before = std::mem::take(&mut row.status);
        row.status = before.clone();
        row.status = fold(row);
        if unsettled_run(&before).is_none() || unsettled_run(&row.status).is_some() {
            return;
        }
        self.shared.slots.free(id);
        if let Some(RunPhase::Exited(exit)) = row.status.run.as_ref().map(|run| &run.phase) {
            let why = if exit.message.is_empty() { "the log shows its end" } else { exit.message.as_str() };
            let because = format!("{why}: exit code {}", exit.code);
            self.steps.push(Step::of(row, SETTLE, because));
        }
    }

    async fn plan_all(&mut self) -> Result<(), RehearsalError> {
        let ids: Vec<ContainerId> = self.rows.keys().copied().collect();
        for id in ids {
            self.plan_one(&id).await?;
        }
        Ok(())
    }

    async fn plan_one(&mut self, id: &ContainerId) -> Result<(), RehearsalError> {
        let mut looked = false;
        for _ in 0..MAX_STEPS {
            let now = self.shared.clock.now();
            let Some(row) = self.rows.get(id) else { return Ok(()) };
            let token = fresh_token().ok_or(RehearsalError::NoRandomness)?;
            let decision = plan(&Moment { now, token }, row, &self.shared.observed(row));
            let look = match &decision.action {
                Action::Wait { until: Some(until) } if *until <= now => {
                    self.fold(id, |_| decision.status);
                    continue;
                }
                Action::GetFunction { name } => name.clone(),
                // Whoever is about to change a function looks at it first.
                action => match action.changes() {
                    Some(name) if !looked => name.to_owned(),
                    _ => return self.tell(id, decision),
                },
            };
            looked = true;
            if !self.look(id, decision, look, now).await {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Looks at a function. Returns whether it could be looked at; if not, that is what is to be done.
    async fn look(&mut self, id: &ContainerId, decision: Decision, name: String, now: Timestamp) -> bool {
        self.fold(id, |_| decision.status);
        let Some(row) = self.rows.get(id) else { return false };
        let news = self.shared.execute(row, Action::GetFunction { name }).await;
        let failed = news.error().map(|error| Step::of(row, "GetFunction", error.to_string()));
        self.fold(id, |row| news.fold(now, &row.spec, row.status.clone()));
        let could = failed.is_none();
        self.steps.extend(failed);
        could
    }

    /// Tells what is to be done, if anything is.
    fn tell(&mut self, id: &ContainerId, decision: Decision) -> Result<(), RehearsalError> {
        if decision.left == Left::Nothing {
            return Ok(());
        }
        if let Action::Invoke { .. } = decision.action {
            self.shared.slots.take(*id);
        }
        let Some(row) = self.rows.get_mut(id) else { return Ok(()) };
        let step = |row: &Container| Step::planned(row, &decision.action, decision.because);
        let again = step(row).again;
        row.status = decision.status.clone();
        self.steps.push(Step { again, ..step(row) });
        Ok(())
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
        _ => Sighting { function_name: name.clone(), first_seen: now, last_seen: now, times: 1 },
    };
    orphans.iter().map(after).collect()
}
