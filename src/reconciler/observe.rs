//! The log informer: one question to CloudWatch a tick, whatever the number of runs.
//!
//! # Guarantees
//! - `read_through` of a group moves only over what was read to the last page, late lines included: a run is called
//!   unknown by it, never by the clock alone.
//! - What was read is in the facts before `read_through` moves.
//! - A line that could not be told to a run yet is learned again by the next pass: nothing is remembered as done, because
//!   learning twice changes nothing.
//!
//! # Caveats
//! - Lines may be [`DELIVERY_SLACK`] late and clocks [`CLOCK_SKEW`] apart, so every deep pass reads that far back again;
//!   between two deep passes, quick ones read the last seconds only.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::learn::{CLOCK_SKEW, Evidence, learn, settled_by};
use super::lines::{self, Line};
use super::plan::{DELIVERY_SLACK, credible};
use super::queue::Priority;
use super::schedule::Schedule;
use super::shared::Shared;
use crate::aws::{AwsError, Cloud, LogEvent, LogQuery};
use crate::clock::Timestamp;
use crate::state::StateError;
use crate::state::model::{Container, ContainerId, Run, RunPhase, Status};
use crate::telemetry;

/// Time between two questions while runs are under way.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// Time between two passes that read back over late lines.
const DEEP_EVERY: Duration = Duration::from_secs(30);
/// How far a quick pass reads back.
const QUICK_WINDOW: Duration = Duration::from_secs(20);
/// Pages of one pass, at most: 10,000 events each. A pass that needs more does not count as read to the end.
pub(super) const MAX_PAGES: u32 = 500;
/// When CloudWatch fails.
pub(super) const PAUSE: Schedule = Schedule { first: Duration::from_secs(1), most: Duration::from_secs(30) };

/// What the informer remembers of a log group.
#[derive(Debug, Default)]
pub(super) struct Group {
    last_pass: Option<Timestamp>,
    last_deep: Option<Timestamp>,
}

impl Group {
    /// A pass that began at `now` has ended; `complete`: it came to the last page. Returns how far the group is read
    /// now, if that has moved.
    pub(super) fn passed(&mut self, pass: Pass, now: Timestamp, complete: bool) -> Option<Timestamp> {
        self.last_pass = Some(now);
        if !(pass.deep && complete) {
            return None;
        }
        self.last_deep = Some(now);
        Some(now.before(DELIVERY_SLACK))
    }
}

/// What the informer remembers, by log group.
pub(super) type Groups = HashMap<String, Group>;

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
        loop {
            let pause = match self.read_logs(&mut groups).await {
                Ok(watched) => {
                    failures = 0;
                    if watched == 0 {
                        metrics::gauge!(telemetry::INFORMER_LAG).set(0.0);
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = self.watch_logs.notified() => continue,
                        }
                    }
                    TICK
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "the logs could not be read");
                    if let InformerError::Aws(error) = &error {
                        self.note_failure(error);
                    }
                    PAUSE.ceiling(failures)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    /// One pass over every group with runs under way. Returns how many containers are watched.
    pub(super) async fn read_logs(&self, groups: &mut Groups) -> Result<usize, InformerError> {
        let watched = self.facts.watched().await?;
        let count = watched.len();
        let by_group = by_group(watched);
        groups.retain(|name, _| by_group.contains_key(name));
        for (name, containers) in by_group {
            self.read_group(&name, &containers, groups.entry(name.clone()).or_default()).await?;
        }
        Ok(count)
    }

    async fn read_group(&self, name: &str, containers: &[Container], group: &mut Group) -> Result<(), InformerError> {
        let now = self.clock.now();
        let read_through = self.knowledge().read_through.get(name).copied().unwrap_or_default();
        let pass = Pass::choose(now, containers, group, read_through);
        let complete = self.read_pass(name, containers, pass.from).await?;
        self.note_success();
        if let Some(through) = group.passed(pass, now, complete) {
            self.facts.set_log_progress(name, through).await?;
            self.knowledge().read_through.insert(name.to_owned(), through);
        }
        let through = self.knowledge().read_through.get(name).copied().unwrap_or_default();
        metrics::gauge!(telemetry::INFORMER_LAG).set(now.since(through).saturating_sub(DELIVERY_SLACK).as_secs_f64());
        Ok(())
    }

    /// Reads a group from a time on. Returns whether the last page was reached.
    async fn read_pass(&self, name: &str, containers: &[Container], from: Timestamp) -> Result<bool, InformerError> {
        let owners = owners(containers);
        let mut pages = Pages::new(question(name, from));
        while let Some(events) = pages.next(&self.cloud).await? {
            self.learn_page(&owners, events).await?;
        }
        Ok(pages.complete())
    }

    /// Folds a page's lines into the facts of the containers that they belong to.
    async fn learn_page(&self, owners: &HashMap<String, Owner>, events: Vec<LogEvent>) -> Result<(), StateError> {
        for (id, news) in page_news(owners, events) {
            let now = self.clock.now();
            if self.fold_in(&id, |container| news.fold(now, container)).await? {
                self.kick(id, now, Priority::Retry).await;
            }
            self.role_has_logs(&id, owners).await?;
        }
        Ok(())
    }

    /// A line of a container was seen: its role can write logs, whatever was thought before.
    async fn role_has_logs(&self, id: &ContainerId, owners: &HashMap<String, Owner>) -> Result<(), StateError> {
        let Some(owner) = owners.values().find(|owner| owner.id == *id) else { return Ok(()) };
        if self.knowledge().roles_without_logs.contains(&owner.role_arn) {
            self.set_role_logs(&owner.role_arn, true).await?;
        }
        Ok(())
    }
}

/// Containers by their log group.
pub(super) fn by_group(containers: Vec<Container>) -> BTreeMap<String, Vec<Container>> {
    let mut by_group: BTreeMap<String, Vec<Container>> = BTreeMap::new();
    for container in containers {
        by_group.entry(container.spec.config.function.log_group.clone()).or_default().push(container);
    }
    by_group
}

/// The pages of one pass over a group, at most [`MAX_PAGES`].
pub(super) struct Pages {
    /// `None`: the last page was read.
    query: Option<LogQuery>,
    read: u32,
}

impl Pages {
    pub(super) fn new(query: LogQuery) -> Self {
        Self { query: Some(query), read: 0 }
    }

    /// The next page; `None`: there is none, or one pass reads no more.
    pub(super) async fn next(&mut self, cloud: &Cloud) -> Result<Option<Vec<LogEvent>>, AwsError> {
        let Some(query) = &mut self.query else { return Ok(None) };
        if self.read >= MAX_PAGES {
            tracing::error!(log_group = query.group, pages = MAX_PAGES, "the log has more lines than one pass reads");
            return Ok(None);
        }
        let page = cloud.filter_log_events(query.clone()).await?;
        self.read += 1;
        match page.next_token {
            Some(token) => query.next_token = Some(token),
            None => self.query = None,
        }
        Ok(Some(page.events))
    }

    /// Whether the last page was read.
    pub(super) fn complete(&self) -> bool {
        self.query.is_none()
    }
}

/// The question for the lines of runs, from a time on.
pub(super) fn question(group: &str, from: Timestamp) -> LogQuery {
    LogQuery {
        group: group.to_owned(),
        start_ms: Some(from.as_millis().max(0)),
        pattern: Some(lines::pattern()),
        ..LogQuery::default()
    }
}

/// What a page says about one container.
#[derive(Debug, Default)]
pub(super) struct PageNews {
    evidence: Vec<Evidence>,
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
        let Some(owner) = function_of(&event.stream).and_then(|name| owners.get(name)) else { continue };
        if let Some(says) = lines::parse(&event.message) {
            let at = Timestamp::from_millis(event.timestamp_ms);
            let entry = news.entry(owner.id).or_default();
            entry.evidence.push(Evidence::Line(Line { stream: event.stream, at, says }));
        }
    }
    news
}

/// What a pass reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) from: Timestamp,
    pub(super) deep: bool,
}

impl Pass {
    pub(super) fn choose(now: Timestamp, containers: &[Container], group: &Group, read_through: Timestamp) -> Self {
        // A pass in the future was made before the clock was put back.
        let last_deep = group.last_deep.filter(|last| *last <= now);
        let runs = || containers.iter().filter_map(|container| container.status.run.as_ref());
        let issued = || runs().filter_map(|run| run.issued.as_ref());
        let oldest = issued().map(|issued| issued.at).min().unwrap_or(now);
        let overdue = runs().filter_map(settled_by).any(|settled_by| {
            let due = settled_by.after(DELIVERY_SLACK);
            due <= now && last_deep.is_none_or(|last| last < due)
        });
        let deep = overdue || last_deep.is_none_or(|last| now >= last.after(DEEP_EVERY));
        let from = if deep {
            let unread = oldest.min(now).max(credible(read_through, now));
            runs().filter_map(beside_report).fold(unread, Timestamp::min).before(CLOCK_SKEW)
        } else {
            group.last_pass.unwrap_or(oldest).min(now).before(QUICK_WINDOW)
        };
        Self { from, deep }
    }
}

/// Where a line may still turn up that tells the end of a run whose REPORT does not. After hours of downtime that is
/// far behind what was read since.
fn beside_report(run: &Run) -> Option<Timestamp> {
    let (report, issued) = (run.report.as_ref()?, run.issued.as_ref()?);
    (!matches!(run.phase, RunPhase::Exited(_))).then(|| report.at.max(issued.at))
}

/// Whose function it is.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    id: ContainerId,
    role_arn: String,
}

/// Whose lines those of each function are.
pub(super) fn owners(containers: &[Container]) -> HashMap<String, Owner> {
    containers
        .iter()
        .filter_map(|container| {
            let name = container.status.run.as_ref()?.issued.as_ref()?.function_name.clone();
            Some((name, Owner { id: container.id, role_arn: container.spec.config.function.role_arn.clone() }))
        })
        .collect()
}

/// The function in a stream's name: `YYYY/MM/DD/<function>[$LATEST]<32 hex>`.
fn function_of(stream: &str) -> Option<&str> {
    let (_, rest) = stream.split_once('/')?;
    let (_, rest) = rest.split_once('/')?;
    let (_, rest) = rest.split_once('/')?;
    rest.split_once('[').map(|(function, _)| function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streams_function() {
        assert_eq!(function_of("2026/11/23/skls-0a-1b[$LATEST]0123"), Some("skls-0a-1b"));
        assert_eq!(function_of("0a1b/7"), None);
        assert_eq!(function_of("2026/11/23/no-brackets"), None);
    }
}
