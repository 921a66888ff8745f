//! The log informer: one question to CloudWatch a tick, whatever the number of runs, and more only behind a flood of lines
//! ([`super::scan`] says which).
//!
//! # Guarantees
//! - `read_through` of a group, and of a run, moves only over what was read, late lines included: a run is called
//!   unknown by it, never by the clock alone.
//! - What was read is in the facts before `read_through` moves.
//! - A line that could not be attributed to a run yet is read again by a later pass: nothing is remembered as done, because
//!   learning twice changes nothing.
//! - `/readyz` fails while passes have failed for [`UNREAD_LIMIT`], and is degraded while a run under way was not looked at for
//!   that long because there is too much to read: what a program prints never makes the daemon not ready.
//!
//! # Caveats
//! - Lines may be [`super::plan::DELIVERY_SLACK`] late and clocks [`super::learn::CLOCK_SKEW`] apart, so every deep pass reads
//!   that far back again; between two deep passes, quick ones read the last seconds only.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::learn::{Evidence, learn};
use super::lines::{self, Line, Says};
use super::plan::DELIVERY_SLACK;
use super::queue::Priority;
use super::scan::{Group, Progress, RunKey, Tick, Turned};
use super::schedule::Schedule;
use super::shared::Shared;
use crate::aws::{AwsError, AwsErrorKind, Cloud, Lane, LogEvent, LogQuery};
use crate::clock::Timestamp;
use crate::health::Check;
use crate::state::StateError;
use crate::state::model::lambda_log::function_of_stream;
use crate::state::model::{Container, ContainerId, Protocol, Status};
use crate::telemetry;

/// Time between two questions while runs are under way.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// When CloudWatch fails.
pub(super) const PAUSE: Schedule = Schedule { first: Duration::from_secs(1), most: Duration::from_secs(30) };
/// How long passes may fail, and runs under way wait for a look: twice the longest pause after failures, so that one failure
/// more or less changes nothing.
pub(super) const UNREAD_LIMIT: Duration = Duration::from_secs(60);

/// What the informer remembers, by log group.
pub(super) type Groups = HashMap<String, Group>;

/// What a pass over all groups has found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watched {
    /// Containers with a run whose lines are looked for.
    count: usize,
    /// When the run that has waited longest was last looked at.
    read_at: Option<Timestamp>,
    /// Some group was not read to its last page.
    pub(super) backlog: bool,
}

/// How well the logs of runs under way are read. PURE.
#[derive(Debug, Default)]
pub(super) struct Attention {
    /// When a pass last went through; the time of the first one if none has.
    went_through: Option<Timestamp>,
    /// When the run that has waited longest was last looked at; the time of the first pass if it was not yet.
    read_at: Option<Timestamp>,
}

impl Attention {
    /// A pass went through, after which the run that has waited longest was looked at then. Returns how long that is ago if
    /// it is too long.
    pub(super) fn went_through(&mut self, now: Timestamp, read_at: Option<Timestamp>) -> Option<Duration> {
        self.went_through = Some(now);
        self.read_at = read_at.max(self.read_at);
        too_long(now, *self.read_at.get_or_insert(now))
    }

    /// A pass has failed. Returns how long ago one went through if it is too long.
    pub(super) fn failed(&mut self, now: Timestamp) -> Option<Duration> {
        too_long(now, *self.went_through.get_or_insert(now))
    }
}

fn too_long(now: Timestamp, since: Timestamp) -> Option<Duration> {
    Some(now.since(since)).filter(|unread| *unread > UNREAD_LIMIT)
}

#[derive(Debug, thiserror::Error)]
pub(super) enum InformerError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Shared {
    /// Follows the logs until `stop`. `groups`: what is remembered of passes before.
    pub(super) async fn follow_logs(self, mut groups: Groups, stop: CancellationToken) {
        let mut failures = 0;
        let mut attention = Attention::default();
        loop {
            let result = self.read_logs(&mut groups).await;
            let now = self.clock.now();
            let pause = match result {
                Ok(watched) if watched.count == 0 => {
                    (failures, attention) = (0, Attention::default());
                    self.note_attention(None);
                    metrics::gauge!(telemetry::INFORMER_LAG).set(0.0);
                    // Both are cancel-safe.
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.watch_logs.notified() => continue,
                    }
                }
                Ok(watched) => {
                    failures = 0;
                    self.note_attention(attention.went_through(now, watched.read_at));
                    TICK
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "the logs could not be read");
                    self.note_failing(attention.failed(now), &error);
                    PAUSE.ceiling(failures)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    /// The logs can be read. `unread`: the longest time that a run was not looked at, caused by programs that print too much.
    fn note_attention(&self, unread: Option<Duration>) {
        self.health.pass(Check::Logs);
        let Some(unread) = unread else { return self.health.recover(Check::Logs) };
        let behind = "there are more lines than can be read";
        self.health.degrade(
            Check::Logs,
            format!("the log of a run under way was last read {} s ago: {behind}", unread.as_secs()),
        );
    }

    /// The logs cannot be read. `unread`: since when, as a duration.
    fn note_failing(&self, unread: Option<Duration>, error: &InformerError) {
        if let InformerError::Aws(error) = error {
            self.note_failure(error);
        }
        let Some(unread) = unread else { return self.health.pass(Check::Logs) };
        let reason = format!("the log of runs under way was last read {} s ago: {error}", unread.as_secs());
        self.health.fail(Check::Logs, reason);
    }

    /// One tick over every group with runs under way.
    pub(super) async fn read_logs(&self, groups: &mut Groups) -> Result<Watched, InformerError> {
        let containers = self.facts.watched().await?;
        let count = containers.len();
        self.knowledge().keep_runs_read(&containers);
        let by_group = by_group(containers);
        groups.retain(|name, _| by_group.contains_key(name));
        let mut read_at = Vec::new();
        for (name, containers) in &by_group {
            let group = groups.entry(name.clone()).or_default();
            self.read_group(name, containers, group).await?;
            read_at.push(group.all_read_at(containers));
        }
        let backlog = groups.values().any(Group::has_backlog);
        Ok(Watched { count, read_at: read_at.into_iter().min().flatten(), backlog })
    }

    async fn read_group(&self, name: &str, containers: &[Container], group: &mut Group) -> Result<(), InformerError> {
        let now = self.clock.now();
        let read_through = self.knowledge().read_through.get(name).copied().unwrap_or_default();
        let owners = owners(containers, |run| self.knowledge().is_under_way(run));
        let cloud = self.cloud.lane(Lane::Evidence);
        let mut tick = Tick::begin(now, name, containers, group, read_through);
        while let Some(query) = tick.question() {
            let Some((events, turned)) = ask(&cloud, &mut tick, query).await? else { continue };
            self.learn_page(&owners, events).await?;
            let progress = tick.turn(turned);
            self.note_progress(name, progress).await?;
            self.note_success();
        }
        let through = self.knowledge().read_through.get(name).copied().unwrap_or_default();
        metrics::gauge!(telemetry::INFORMER_LAG).set(now.since(through).saturating_sub(DELIVERY_SLACK).as_secs_f64());
        Ok(())
    }

    async fn note_progress(&self, name: &str, progress: Progress) -> Result<(), StateError> {
        if let Some(through) = progress.group {
            self.facts.set_log_progress(name, through).await?;
            self.knowledge().read_through.insert(name.to_owned(), through);
        }
        for (run, through) in progress.runs {
            self.knowledge().runs_read.insert(run, through);
        }
        Ok(())
    }

    /// Folds a page's lines into the facts of the containers that they belong to.
    async fn learn_page(&self, owners: &HashMap<String, Owner>, events: Vec<LogEvent>) -> Result<(), StateError> {
        for (id, news) in page_news(owners, events) {
            let now = self.clock.now();
            if self.fold_in(&id, |container| news.fold(now, container)).await? {
                self.kick(id, now, Priority::Retry).await;
                self.role_has_logs(&news.role_arn).await?;
            }
        }
        Ok(())
    }

    /// A line of a run with this role was seen: the role can write logs, whatever was thought before.
    async fn role_has_logs(&self, role_arn: &str) -> Result<(), StateError> {
        if self.knowledge().roles_without_logs.contains_key(role_arn) {
            self.set_role_logs(role_arn, true).await?;
        }
        Ok(())
    }
}

/// Asks for a page: its events, and how the tick goes on. `None`: the tick asks differently, because the page's token has
/// expired, or a stream of several is missing.
pub(super) async fn ask(
    cloud: &Cloud,
    tick: &mut Tick<'_>,
    query: LogQuery,
) -> Result<Option<(Vec<LogEvent>, Turned)>, AwsError> {
    let names_streams = !query.streams.is_empty();
    match cloud.filter_log_events(query).await {
        Err(error) if error.kind == AwsErrorKind::NotFound && names_streams => {
            tracing::debug!(%error, "one of the streams of runs is missing");
            Ok(if tick.split() { None } else { Some((Vec::new(), Turned::default())) })
        }
        Err(error) if error.kind == AwsErrorKind::InvalidParameter && tick.refused() => {
            tracing::info!(%error, "the log is read again from where it was read to");
            Ok(None)
        }
        page => {
            let page = page?;
            let reached = latest(&page.events);
            Ok(Some((page.events, Turned { reached, next_token: page.next_token })))
        }
    }
}

/// The time of the latest event.
pub(super) fn latest(events: &[LogEvent]) -> Option<Timestamp> {
    events.iter().map(|event| Timestamp::from_millis(event.timestamp_ms)).max()
}

/// Containers by their log group.
pub(super) fn by_group(containers: Vec<Container>) -> BTreeMap<String, Vec<Container>> {
    let mut by_group: BTreeMap<String, Vec<Container>> = BTreeMap::new();
    for container in containers {
        by_group.entry(container.spec.config.function.log_group.clone()).or_default().push(container);
    }
    by_group
}

/// What a page says about one container.
#[derive(Debug)]
pub(super) struct PageNews {
    evidence: Vec<Evidence>,
    /// The role of its function.
    role_arn: String,
}

impl PageNews {
    /// The facts with the news.
    pub(super) fn fold(&self, now: Timestamp, container: &Container) -> Status {
        self.evidence.iter().fold(container.status.clone(), |status, e| learn(now, &container.spec, status, e))
    }
}

/// What is new on a page, by container, in the order of the lines' times.
pub(super) fn page_news(owners: &HashMap<String, Owner>, mut events: Vec<LogEvent>) -> BTreeMap<ContainerId, PageNews> {
    events.sort_by_key(|event| (event.timestamp_ms, event.ingestion_ms));
    let mut news: BTreeMap<ContainerId, PageNews> = BTreeMap::new();
    for event in events {
        let Some(owner) = function_of_stream(&event.stream).and_then(|name| owners.get(name)) else { continue };
        if let Some(says) = lines::parse(&event.message).filter(|says| owner.may_learn(says)) {
            let at = Timestamp::from_millis(event.timestamp_ms);
            let fresh = || PageNews { evidence: Vec::new(), role_arn: owner.role_arn.clone() };
            let entry = news.entry(owner.id).or_insert_with(fresh);
            entry.evidence.push(Evidence::Line(Line { stream: event.stream, at, says }));
        }
    }
    news
}

/// Whose function it is.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    id: ContainerId,
    role_arn: String,
    /// Its run is named by its answer, which is still to come, and by nothing else.
    awaits_its_name: bool,
}

impl Owner {
    /// A START binds its request id to a native run. Anyone who knows the function's name can write one, so while the call
    /// that invokes the run is open, the request id comes from its answer alone.
    fn may_learn(&self, says: &Says) -> bool {
        !(self.awaits_its_name && matches!(says, Says::Start { .. }))
    }
}

/// Whose lines those of each function are. `is_under_way`: the call that invokes the run has not come back yet.
pub(super) fn owners(containers: &[Container], is_under_way: impl Fn(&RunKey) -> bool) -> HashMap<String, Owner> {
    containers
        .iter()
        .filter_map(|container| {
            let run = container.status.run.as_ref()?;
            let settings = &container.spec.config.function;
            let is_unnamed = settings.protocol == Protocol::Native && run.request_id.is_none();
            let owner = Owner {
                id: container.id,
                role_arn: settings.role_arn.clone(),
                awaits_its_name: is_unnamed && is_under_way(&(container.id, run.no)),
            };
            Some((container.status.last_invocation()?.0.to_owned(), owner))
        })
        .collect()
}
