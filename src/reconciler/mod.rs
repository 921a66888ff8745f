//! # Reconciler: convergence
//!
//! Brings AWS to what is wanted, and writes down what it saw: the only writer of facts. It never writes a wish and
//! never answers a client.
//!
//! | file | what it is |
//! |---|---|
//! | `plan`, `learn`, `absorb` | PURE: (now, wish, facts) → one step; facts + what was seen → facts |
//! | `queue`, `schedule`, `backoff`, `names`, `lines`, `verdict`, `surely_over`, `function_failure`, `earlier`, `clock_steps` | PURE: the parts that these need |
//! | `quota_line`, `permits` | containers that wait for a quota (PURE), and what they get there |
//! | `worker`, `execute`, `invocations` | read, plan, commit, act, fold; runs in flight |
//! | `observe`, `scan` | the log informer: the evidence for runs whose answer was lost |
//! | `sweep`, `compare`, `orphans`, `claim` | drift and orphans; whose database is this? |
//! | `once`, `rehearse` | one pass to convergence, and what it would do |
//! | this file, `dispatch` | the loop, and what it hands out to workers |

mod absorb;
mod backoff;
mod census;
mod claim;
mod clock_steps;
mod compare;
mod dispatch;
mod earlier;
mod execute;
mod function_failure;
mod invocations;
mod learn;
mod lines;
mod names;
mod observe;
mod once;
mod orphans;
mod permits;
mod plan;
mod queue;
mod quota_line;
mod record;
mod rehearse;
mod scan;
mod schedule;
mod shared;
mod slots;
mod summary;
mod surely_over;
mod sweep;
mod tally;
#[cfg(test)]
mod tests;
mod verdict;
mod worker;

pub(crate) use self::lines::pattern as log_pattern;
pub(crate) use self::names::TAG_MANAGED_BY;
pub use self::once::PassOrder;
pub use self::summary::{LeftOver, Outcome, Step, Summary};

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::census::Census;
use self::claim::{Claim, ClaimError, Claimant};
use self::clock_steps::clamp_due;
use self::names::Identity;
pub use self::names::{BOOTSTRAP, TAG_PROTOCOL};
use self::observe::Groups;
use self::permits::{MAX_CALLS, Permits};
use self::queue::{Priority, Queue};
use self::quota_line::{Place, QuotaLines};
use self::schedule::{LONGEST_PAUSE, Schedule};
use self::shared::{KICKS, Kick, Shared};
use self::slots::Slots;
use self::worker::{LeftWork, Turn};
use crate::aws::Cloud;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::health::{Check, Health};
use crate::state::model::ContainerId;
use crate::state::{Facts, Instance, Reader, StateError, WishFeed, Wished};
use crate::telemetry;

/// Containers that are worked on at once: those that call AWS ([`MAX_CALLS`]), and as many that only read, plan and
/// commit. Runs in flight do not count: they have tasks of their own.
const MAX_WORKERS: usize = 2 * MAX_CALLS;
/// Containers that are read from the store at once, where all are looked at.
const ROW_PAGE: u32 = 500;
/// The loop says so often that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The loop counts as alive for so long while all workers are out and none comes back. Their calls have time-outs.
const WORKER_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// When AWS cannot be reached at the start.
const CLAIM_PAUSE: Schedule = Schedule { first: Duration::from_secs(1), most: Duration::from_secs(30) };
/// After a worker ended in a panic.
const PANIC_PAUSE: Duration = Duration::from_secs(60);
/// After the status of one container could not be written for what it holds: another try meets the same content, unless
/// AWS says something else by then.
const ROW_PAUSE: Schedule = Schedule { first: Duration::from_secs(1), most: Duration::from_secs(300) };
/// After a failure of the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What the reconciler needs.
#[derive(Clone, Debug)]
pub struct ReconcilerParts {
    /// Writes facts.
    pub facts: Facts,
    /// Reads.
    pub reader: Reader,
    /// AWS.
    pub cloud: Cloud,
    /// Time.
    pub clock: Clock,
    /// Where problems are told.
    pub health: Health,
    /// The settings.
    pub config: Arc<Config>,
}

/// The controller.
#[derive(Debug)]
pub struct Reconciler {
    parts: ReconcilerParts,
}

impl Reconciler {
    /// A controller that has not begun.
    #[must_use]
    pub fn new(parts: ReconcilerParts) -> Self {
        Self { parts }
    }

    /// Claims the database, then converges until `stop`; then lets what is under way record its outcome, for at most
    /// `drain`. While AWS is not reachable, or the claim is lost, nothing is changed and the problem is told.
    ///
    /// Dropping the future is like a `kill -9`: all of its tasks end with it, except commits that have begun. Those go on
    /// to their end, as a commit on its way to the disk does.
    pub async fn run(self, stop: CancellationToken, drain: Duration) {
        let Some(instance) = self.claim(&stop).await else { return };
        let Some((shared, census, kicked)) = self.begin(&instance, &stop).await else { return };
        let _life = shared.life.clone().drop_guard();
        let lost = CancellationToken::new();
        let background = TaskTracker::new();
        let sweeps = shared.clone().sweep_loop(instance.epoch, stop.child_token(), lost.clone());
        background.spawn(shared.while_alive(shared.clone().follow_logs(Groups::new(), stop.child_token())));
        background.spawn(shared.while_alive(sweeps));
        let mut control = Loop { census, ..Loop::new(shared, kicked) };
        tokio::select! {
            () = control.run() => {}
            () = stop.cancelled() => {}
            () = lost.cancelled() => self.lost("another daemon has claimed it since"),
        }
        control.drain(drain).await;
        if lost.is_cancelled() {
            self.idle(&stop).await;
        }
    }

    /// Reads what all tasks share and counts all containers, as long as it takes. `None`: stopped before, or the store is
    /// closed.
    async fn begin(
        &self,
        instance: &Instance,
        stop: &CancellationToken,
    ) -> Option<(Shared, Census, mpsc::Receiver<Kick>)> {
        loop {
            let (kicks, kicked) = mpsc::channel(KICKS);
            match self.shared(instance, kicks).await {
                Ok((shared, census)) => {
                    self.parts.health.pass(Check::Reconciler);
                    return Some((shared, census, kicked));
                }
                Err(StateError::Closed) => return None,
                Err(error) => {
                    tracing::error!(%error, "the store cannot be read");
                    self.parts.health.fail(Check::Reconciler, error.to_string());
                }
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = self.beat_for(STORE_PAUSE) => {}
            }
        }
    }

    /// Claims the database, as long as it takes. `None`: stopped before.
    async fn claim(&self, stop: &CancellationToken) -> Option<Instance> {
        let parts = &self.parts;
        let mut failures = 0;
        loop {
            let result = tokio::select! {
                () = stop.cancelled() => return None,
                result = self.try_claim() => result,
            };
            match result {
                Ok(Claim::Held(instance)) => {
                    parts.health.pass(Check::Aws);
                    parts.health.pass(Check::Ownership);
                    parts.health.pass(Check::Reconciler);
                    tracing::info!(instance = instance.id, epoch = instance.epoch, "this database owns its functions");
                    return Some(instance);
                }
                Ok(Claim::Lost { why }) => {
                    parts.health.pass(Check::Aws);
                    self.lost(&why);
                    self.idle(stop).await;
                    return None;
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "the database cannot be claimed: nothing converges until it is");
                    let check = match &error {
                        ClaimError::Aws(_) | ClaimError::Account { .. } => Check::Aws,
                        ClaimError::State(StateError::Unreadable(_) | StateError::Corrupt(_)) => Check::Ownership,
                        ClaimError::State(_) => Check::Reconciler,
                        ClaimError::Bound(_) => Check::Ownership,
                    };
                    parts.health.fail(check, error.to_string());
                }
            }
            parts.health.beat(parts.clock.now());
            tokio::select! {
                () = stop.cancelled() => return None,
                () = self.beat_for(CLAIM_PAUSE.ceiling(failures)) => {}
            }
        }
    }

    async fn try_claim(&self) -> Result<Claim, ClaimError> {
        let ReconcilerParts { facts, cloud, clock, config, health, .. } = &self.parts;
        Claimant { facts, cloud, health, config }.claim(clock.now()).await
    }

    fn lost(&self, why: &str) {
        let reason = claim::lost(why);
        tracing::error!(reason, "the claim is lost");
        self.parts.health.fail(Check::Ownership, reason);
    }

    /// Nothing to do until the end, but to be alive.
    async fn idle(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.beat_for(HEARTBEAT) => {}
            }
        }
    }

    async fn beat_for(&self, pause: Duration) {
        let until = self.parts.clock.now().after(pause);
        loop {
            let now = self.parts.clock.now();
            self.parts.health.beat(now);
            if now >= clamp_due(now, until, pause) {
                return;
            }
            self.parts.clock.sleep_until(until.min(now.after(HEARTBEAT))).await;
        }
    }

    /// What all tasks share, with the slots of all runs that are or may be under way, and the count of all containers.
    async fn shared(&self, instance: &Instance, kicks: mpsc::Sender<Kick>) -> Result<(Shared, Census), StateError> {
        let parts = &self.parts;
        let shared = Shared {
            facts: parts.facts.clone(),
            reader: parts.reader.clone(),
            cloud: parts.cloud.clone(),
            clock: parts.clock.clone(),
            health: parts.health.clone(),
            config: Arc::clone(&parts.config),
            identity: Arc::new(Identity {
                prefix: parts.config.function_prefix.clone(),
                instance: instance.id.clone(),
            }),
            adopted_at: instance.adopted_at,
            horizon: instance.horizon,
            slots: Arc::new(Slots::new(parts.config.max_running)),
            permits: Arc::new(Permits::default()),
            knowledge: Arc::default(),
            kicks,
            watch_logs: Arc::default(),
            runs: TaskTracker::new(),
            commits: TaskTracker::new(),
            withholds_runs: false,
            tally: Arc::default(),
            life: CancellationToken::new(),
        };
        {
            let (read_through, roles_without_logs) =
                (parts.facts.log_progress().await?, parts.facts.roles_without_logs().await?);
            let mut knowledge = shared.knowledge();
            knowledge.read_through = read_through;
            // Found out by a daemon before: the role may have been mended before this start, so it is tried again.
            let found_out = Timestamp::default();
            knowledge.roles_without_logs = roles_without_logs.into_iter().map(|role| (role, found_out)).collect();
        }
        let census = shared.count_all().await?;
        Ok((shared, census))
    }
}

/// A worker's last word.
type WorkerDone = (ContainerId, Result<Turn, StateError>);

/// What a worker works on.
struct Work {
    id: ContainerId,
    /// Should the worker stall.
    since: Timestamp,
    /// Where the container stood in line before.
    place: Option<Place>,
}

/// The loop: the queue, and the tasks that work on what it gives out.
struct Loop {
    shared: Shared,
    queue: Queue<ContainerId>,
    /// Containers that wait for a quota.
    lines: QuotaLines<ContainerId>,
    feed: WishFeed,
    kicked: mpsc::Receiver<Kick>,
    workers: JoinSet<WorkerDone>,
    /// What each worker works on.
    keys: HashMap<task::Id, Work>,
    halt: CancellationToken,
    census: Census,
    /// What is left to do for containers, as their last turns told.
    left: HashMap<ContainerId, LeftWork>,
    /// How often in a row a container's status could not be written for what it holds.
    unstorable: HashMap<ContainerId, u32>,
    /// When everything is taken up again from the store.
    resync_at: Timestamp,
    /// When a worker last came back, or was free.
    progress_at: Timestamp,
    /// When the loop last looked at the clock.
    seen_at: Timestamp,
    /// Somebody wants the loop to look around.
    poke: Arc<Notify>,
}

impl Loop {
    fn new(shared: Shared, kicked: mpsc::Receiver<Kick>) -> Self {
        Self {
            feed: shared.facts.wish_feed(),
            resync_at: shared.clock.now(),
            progress_at: shared.clock.now(),
            seen_at: shared.clock.now(),
            shared,
            queue: Queue::default(),
            lines: QuotaLines::default(),
            kicked,
            workers: JoinSet::new(),
            keys: HashMap::new(),
            halt: CancellationToken::new(),
            census: Census::default(),
            left: HashMap::new(),
            unstorable: HashMap::new(),
            poke: Arc::default(),
        }
    }

    /// Never returns but for a closed store.
    async fn run(&mut self) {
        while self.round().await.is_continue() {}
    }

    /// Gives out what is due, then takes in what happens next. Breaks when the store is closed. Not to be dropped half
    /// done: what it has taken in would be lost.
    async fn round(&mut self) -> ControlFlow<()> {
        let now = self.now();
        self.follow_clock(now);
        if self.workers.len() < MAX_WORKERS {
            self.progress_at = now;
        }
        if now.since(self.progress_at) < WORKER_PATIENCE {
            self.shared.health.beat(now);
        }
        if now >= self.resync_at {
            self.resync_at = now.after(self.shared.config.resync_interval);
            match self.resync().await {
                Ok(()) => self.shared.health.pass(Check::Reconciler),
                Err(error) if self.store_failed(&error) => return ControlFlow::Break(()),
                Err(_) => self.resync_at = now.after(STORE_PAUSE),
            }
        }
        for next in self.shared.slots.expire(now) {
            self.push(next, now, Priority::User);
        }
        let token_at = self.serve_lines(now);
        self.give_out(now);
        let resync_at = self.resync_at;
        let wake = self.queue.next_due().unwrap_or(resync_at).min(resync_at).min(now.after(HEARTBEAT));
        let wake = token_at.map_or(wake, |token_at| wake.min(token_at));
        let wake = if self.workers.len() < MAX_WORKERS { wake } else { now.after(HEARTBEAT) };
        tokio::select! {
            Some(done) = self.workers.join_next_with_id() => self.take_back(done),
            Some(kick) = self.kicked.recv() => self.push(kick.id, kick.due, kick.priority),
            wished = self.feed.next() => match self.wished(wished).await {
                Ok(()) => {}
                Err(error) if self.store_failed(&error) => return ControlFlow::Break(()),
                // What was missed is in the rows.
                Err(_) => self.resync_at = self.now().after(STORE_PAUSE),
            },
            () = self.poke.notified() => {}
            () = self.shared.clock.sleep_until(wake) => {}
        }
        ControlFlow::Continue(())
    }

    /// Takes what the loop remembers along when the clock was set back: otherwise it would wait for the whole difference.
    fn follow_clock(&mut self, now: Timestamp) {
        let step = self.seen_at.since(now);
        self.seen_at = now;
        if step.is_zero() {
            return;
        }
        tracing::debug!(seconds = step.as_secs_f64(), "the clock was set back");
        self.queue.bring_forward(step);
        self.shared.slots.bring_forward(step);
        self.resync_at = self.resync_at.before(step);
        self.progress_at = self.progress_at.before(step);
        for work in self.keys.values_mut() {
            work.since = work.since.before(step);
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn push(&mut self, id: ContainerId, due: Timestamp, priority: Priority) {
        metrics::counter!(telemetry::QUEUE_ADDS, "name" => "container").increment(1);
        self.queue.push(id, due, priority);
    }

    /// Takes up what is due from the index, and wishes that nobody has planned for: at the start, and now and then in case
    /// something was missed.
    async fn resync(&mut self) -> Result<(), StateError> {
        let now = self.now();
        for (id, due) in self.shared.facts.due().await? {
            // Only runs under way are due later than that by a right clock; a look at them costs one row.
            self.queue.push(id, clamp_due(now, due, LONGEST_PAUSE), Priority::Poll);
        }
        for id in self.shared.facts.wished().await? {
            self.queue.push(id, now, Priority::User);
        }
        Ok(())
    }

    async fn wished(&mut self, wished: Result<Wished, StateError>) -> Result<(), StateError> {
        let now = self.now();
        let ids = match wished? {
            Wished::Some(ids) => ids,
            Wished::Many => self.shared.facts.wished().await?,
        };
        ids.into_iter().for_each(|id| self.push(id, now, Priority::User));
        Ok(())
    }

    /// Says that the store failed. Returns whether it is closed for good.
    fn store_failed(&self, error: &StateError) -> bool {
        if matches!(error, StateError::Closed) {
            return true;
        }
        tracing::error!(%error, "the store failed");
        metrics::counter!(telemetry::STORE_ERRORS).increment(1);
        self.shared.health.fail(Check::Reconciler, error.to_string());
        false
    }

    /// Takes no more keys, lets acts and runs under way record their outcome, for at most `most`. What does not end in time
    /// is settled by the log, after the next start.
    async fn drain(&mut self, most: Duration) {
        self.halt.cancel();
        self.shared.runs.close();
        let runs = self.shared.runs.len();
        if runs > 0 {
            tracing::info!(runs, "waiting for runs under way");
        }
        self.kicked.close();
        let all = async {
            while self.workers.join_next().await.is_some() {}
            self.shared.runs.wait().await;
        };
        if tokio::time::timeout(most, all).await.is_err() {
            tracing::warn!(
                runs = self.shared.runs.len(),
                "runs go on without us; the next start reads their end from the log"
            );
        }
    }
}
