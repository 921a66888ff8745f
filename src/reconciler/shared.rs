//! What the tasks of this room share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ROW_PAGE;
use super::census::Census;
use super::names::Identity;
use super::permits::Permits;
use super::plan::Observed;
use super::queue::Priority;
use super::record;
use super::scan::RunKey;
use super::slots::Slots;
use super::surely_over::may_go_on_until;
use super::tally::Tally;
use crate::aws::{AwsError, AwsErrorKind, Cloud};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::health::{Check, Health};
use crate::state::model::{Container, ContainerId, Status, life};
use crate::state::{Facts, Reader, StateError};

/// Containers that are to be looked at, from the tasks to the loop: at most so many wait to be taken over.
pub(super) const KICKS: usize = 4096;

/// After this time a role that was seen not to write logs is given the benefit of the doubt once more: somebody may have
/// mended it. One run that may end unknown an hour is bearable, a start that is refused for ever is not.
pub(super) const ROLE_RETEST: Duration = Duration::from_secs(3_600);

/// A wish to look at a container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kick {
    pub(super) id: ContainerId,
    pub(super) due: Timestamp,
    pub(super) priority: Priority,
}

/// Everything that the tasks need. Cheap to clone.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) facts: Facts,
    pub(super) reader: Reader,
    pub(super) cloud: Cloud,
    pub(super) clock: Clock,
    pub(super) health: Health,
    pub(super) config: Arc<Config>,
    pub(super) identity: Arc<Identity>,
    pub(super) adopted_at: Option<Timestamp>,
    pub(super) horizon: Option<Timestamp>,
    pub(super) slots: Arc<Slots>,
    pub(super) permits: Arc<Permits>,
    pub(super) knowledge: Arc<Mutex<Knowledge>>,
    pub(super) kicks: mpsc::Sender<Kick>,
    /// Wakes the log informer: there is something to look for.
    pub(super) watch_logs: Arc<Notify>,
    /// Invocations under way.
    pub(super) runs: TaskTracker,
    /// Commits of what was observed, with what follows from each.
    pub(super) commits: TaskTracker,
    /// Nothing is invoked, whatever is wanted.
    pub(super) withholds_runs: bool,
    /// What was done since the start.
    pub(super) tally: Arc<Tally>,
    /// Cancelled when the controller is dropped.
    pub(super) life: CancellationToken,
}

/// What was learned that belongs to no single container. A copy of rows of the store.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    /// How far each log group was read, late lines included.
    pub(super) read_through: BTreeMap<String, Timestamp>,
    /// How far runs were read that are read on their own, behind a flood of other lines.
    pub(super) runs_read: BTreeMap<RunKey, Timestamp>,
    /// Roles whose functions do not write logs, and when that was last found out.
    pub(super) roles_without_logs: BTreeMap<String, Timestamp>,
    /// Runs whose invocation has not come back yet, and by when each has surely ended.
    under_way: BTreeMap<RunKey, Timestamp>,
    /// Sweeps since the start that have chosen orphans to look at.
    pub(super) sweeps: u64,
}

impl Knowledge {
    /// Whether the call that invokes the run has not come back yet.
    pub(super) fn is_under_way(&self, run: &RunKey) -> bool {
        self.under_way.contains_key(run)
    }

    /// By when the runs of a container have surely ended whose invocations have not come back yet; `None`: all have.
    pub(super) fn open_until(&self, id: &ContainerId) -> Option<Timestamp> {
        self.under_way.range((*id, 0)..=(*id, u64::MAX)).map(|(_, deadline)| *deadline).max()
    }

    /// Forgets how far runs were read that are not watched any more.
    pub(super) fn keep_runs_read(&mut self, watched: &[Container]) {
        if self.runs_read.is_empty() {
            return;
        }
        let current = |container: &Container| container.status.run.as_ref().map(|run| (container.id, run.no));
        let watched: BTreeSet<RunKey> = watched.iter().filter_map(current).collect();
        self.runs_read.retain(|run, _| watched.contains(run));
    }

    /// Whether functions of the role are known not to write logs, and not for so long that it is to be tried again.
    fn is_without_logs(&self, role_arn: &str, now: Timestamp) -> bool {
        self.roles_without_logs.get(role_arn).is_some_and(|since| *since <= now && now < since.after(ROLE_RETEST))
    }
}

/// An invocation that has not come back yet, for as long as this lives.
pub(super) struct UnderWay {
    knowledge: Arc<Mutex<Knowledge>>,
    run: RunKey,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.knowledge.lock().unwrap_or_else(PoisonError::into_inner).under_way.remove(&self.run);
    }
}

impl Shared {
    /// A task that ends with the controller at the latest.
    pub(super) fn while_alive<F: Future<Output = ()>>(&self, task: F) -> impl Future<Output = ()> + use<F> {
        let life = self.life.clone();
        async move {
            // Cut off or done: there is nobody to tell.
            let _ = life.run_until_cancelled(task).await;
        }
    }

    /// Counts every container, once: from then on those are counted that are worked on. Runs without an end hold their slots,
    /// and so do those that may go on although they count as ended.
    pub(super) async fn count_all(&self) -> Result<Census, StateError> {
        let mut census = Census::default();
        let mut place = Some(i64::MIN);
        while let Some(after) = place {
            let page = self.facts.containers(after, ROW_PAGE).await?;
            place = page.next;
            for row in &page.rows {
                match row {
                    Ok(row) => {
                        census.count(row.id, Some(record::counted(row)));
                        self.find_slot(row);
                    }
                    Err(dead) => dead.id.into_iter().for_each(|id| census.count(id, Some(record::counted_dead()))),
                }
            }
        }
        Ok(census)
    }

    fn find_slot(&self, row: &Container) {
        let kept_until = may_go_on_until(self.clock.now(), &row.spec, &row.status);
        if life::unsettled_run(&row.status).is_some() {
            self.slots.found(row.id, row.revision, None);
        } else if kept_until.is_some() {
            self.slots.found(row.id, row.revision, kept_until);
        }
    }

    /// What a plan for this container must know.
    pub(super) fn observed(&self, container: &Container) -> Observed {
        let settings = &container.spec.config.function;
        let run = container.status.run.as_ref().map(|run| (container.id, run.no));
        let knowledge = self.knowledge();
        let group_read = knowledge.read_through.get(&settings.log_group).copied().unwrap_or_default();
        let run_read = run.and_then(|run| knowledge.runs_read.get(&run)).copied().unwrap_or_default();
        Observed {
            function_name: self.identity.function_name(&container.id, container.status.incarnation),
            read_through: group_read.max(run_read),
            slot_free: self.slots.is_free_for(&container.id),
            adopted_at: self.adopted_at,
            role_without_logs: knowledge.is_without_logs(&settings.role_arn, self.clock.now()),
            withholds_runs: self.withholds_runs,
            under_way: knowledge.open_until(&container.id).is_some(),
        }
    }

    /// Notes that the current run's invocation is about to be sent.
    pub(super) fn under_way(&self, container: &Container) -> UnderWay {
        let run = container.status.run.as_ref();
        let deadline =
            run.and_then(|run| run.issued.as_ref()).map_or_else(|| self.clock.now(), |issued| issued.deadline);
        let run = (container.id, run.map_or(0, |run| run.no));
        self.knowledge().under_way.insert(run, deadline);
        UnderWay { knowledge: Arc::clone(&self.knowledge), run }
    }

    pub(super) fn knowledge(&self) -> std::sync::MutexGuard<'_, Knowledge> {
        self.knowledge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a look at a container. Waits while the loop is behind; a loop that has ended needs no kicks.
    pub(super) async fn kick(&self, id: ContainerId, due: Timestamp, priority: Priority) {
        let _ = self.kicks.send(Kick { id, due, priority }).await;
    }

    /// Counts what changed with a commit.
    pub(super) fn observe_change(&self, id: &ContainerId, before: &Status, after: &Status) {
        record::observe_change(id, before, after);
        self.tally.change(before, after);
    }

    /// AWS answered, and knows us.
    pub(super) fn note_success(&self) {
        self.health.pass(Check::Aws);
    }

    /// AWS could not be reached, or does not know us; any other failure is an answer.
    pub(super) fn note_failure(&self, error: &AwsError) {
        match error.kind {
            AwsErrorKind::Unreachable | AwsErrorKind::Credentials | AwsErrorKind::NoAnswer => {
                self.health.fail(Check::Aws, error.to_string());
            }
            _ => self.note_success(),
        }
    }
}
