//! Watches that the daemon makes progress: the reconcile loop goes round, the writer commits.
//!
//! A part that makes none for [`STALL_LIMIT`] is stalled: `/readyz` tells it, a metric shows it, and the service manager
//! is not told any more that all is well, so that it starts the daemon anew. Every commit is safe under that, as it is
//! under a `kill -9`. A store that cannot be written is a problem, but no stall: a new start would not help.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::health::{Check, Health, STALL_LIMIT};
use crate::service_manager::ServiceManager;
use crate::state::Pulse;
use crate::telemetry;

/// The parts are looked at so often.
const TICK: Duration = Duration::from_secs(1);
/// The store is tried so often: a full disk is found before a client meets it.
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// All rows are read so often, beginning at the start: damage that nobody meets is found within this time. It reads the
/// whole database, which takes seconds at its largest.
const AUDIT_EVERY: Duration = Duration::from_secs(3_600);

/// Parts that can stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Reconciler,
    Writer,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Reconciler => "reconciler",
            Self::Writer => "writer",
        }
    }
}

/// Looks after the daemon's parts.
#[derive(Debug)]
pub struct Watchdog {
    health: Health,
    pulse: Pulse,
    clock: Clock,
    manager: ServiceManager,
    /// Nothing can be stalled for longer than this watch lasts.
    since: Timestamp,
    limit: Duration,
    stalled: Vec<Part>,
}

impl Watchdog {
    /// A watch that begins now.
    #[must_use]
    pub fn new(health: Health, pulse: Pulse, clock: Clock, manager: ServiceManager) -> Self {
        let since = clock.now();
        Self { health, pulse, clock, manager, since, limit: STALL_LIMIT, stalled: Vec::new() }
    }

    /// Watches until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probes = tokio::time::interval(PROBE_EVERY);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signs = self.manager.signs_of_life();
        let mut probing = JoinSet::new();
        let mut audits = tokio::time::interval(AUDIT_EVERY);
        audits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut auditing = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.look(),
                () = signs.due() => self.manager.alive(self.stalled.is_empty()),
                _ = probes.tick(), if probing.is_empty() => {
                    let pulse = self.pulse.clone();
                    probing.spawn(async move { pulse.probe().await });
                }
                // The writer itself reports what came of it.
                Some(_) = probing.join_next() => {}
                _ = audits.tick(), if auditing.is_empty() => {
                    let pulse = self.pulse.clone();
                    auditing.spawn(async move { pulse.audit().await });
                }
                Some(audited) = auditing.join_next() => {
                    if let Ok(Err(error)) = audited {
                        tracing::warn!(%error, "the rows of the database were not all checked");
                    }
                }
            }
        }
    }

    /// One look at all parts.
    fn look(&mut self) {
        if self.manager.is_stopping() {
            self.stalled.clear();
            return;
        }
        let now = self.clock.now();
        self.health.follow_clock(now);
        self.since = self.since.min(now);
        let silent = now.since(self.health.last_beat().max(self.since));
        let busy = self.pulse.busy_for();
        self.note(Part::Reconciler, silent > self.limit, silent);
        self.note(Part::Writer, busy > self.limit, busy);
        if self.stalled.contains(&Part::Writer) {
            self.health.fail(Check::Store, format!("one commit has been going on for {} s", busy.as_secs()));
        }
        self.manager.status(&self.health.problems_at(now), &self.health.degraded());
    }

    /// Tells once that a part has stalled, and once that it goes on.
    fn note(&mut self, part: Part, stalled: bool, idle: Duration) {
        metrics::gauge!(telemetry::STALLED, "part" => part.name()).set(f64::from(u8::from(stalled)));
        let known = self.stalled.contains(&part);
        if stalled && !known {
            tracing::error!(part = part.name(), seconds = idle.as_secs(), "no progress is made");
            self.stalled.push(part);
        } else if known && !stalled {
            tracing::warn!(part = part.name(), "progress is made again");
            self.stalled.retain(|other| *other != part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::state::{CommitHook, CommitPoint, Store, StoreOptions};

    struct Fixture {
        watchdog: Watchdog,
        health: Health,
        clock: Clock,
        _store: Store,
        _directory: tempfile::TempDir,
    }

    async fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions { path: directory.path().join("state.db"), read_only: false };
        let store = Store::open(&options).await.unwrap();
        let (health, clock) = (Health::default(), Clock::fixed(Timestamp::from_secs(1_000)));
        let watchdog = Watchdog::new(health.clone(), store.pulse(), clock.clone(), ServiceManager::default());
        Fixture { watchdog, health, clock, _store: store, _directory: directory }
    }

    #[tokio::test]
    async fn a_loop_that_is_silent_too_long_has_stalled() {
        let Fixture { mut watchdog, health, clock, _store, _directory } = fixture().await;
        clock.set(Timestamp::from_secs(1_060));
        watchdog.look();
        assert_eq!(watchdog.stalled, [], "the loop may take its time to begin");
        clock.set(Timestamp::from_secs(1_061));
        watchdog.look();
        assert_eq!(watchdog.stalled, [Part::Reconciler]);
        health.beat(clock.now());
        watchdog.look();
        assert_eq!(watchdog.stalled, []);
        clock.set(Timestamp::from_secs(1_122));
        watchdog.look();
        assert_eq!(watchdog.stalled, [Part::Reconciler]);
    }

    #[tokio::test]
    async fn a_stall_is_seen_after_the_clock_was_set_back_by_a_day() {
        let Fixture { mut watchdog, health, clock, _store, _directory } = fixture().await;
        clock.set(Timestamp::from_secs(86_400));
        health.beat(clock.now());
        for (now, stalled) in [(500, false), (560, false), (561, true)] {
            clock.set(Timestamp::from_secs(now));
            watchdog.look();
            assert_eq!(watchdog.stalled.contains(&Part::Reconciler), stalled, "at {now}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_commit_that_does_not_end_is_a_stall_and_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions { path: directory.path().join("state.db"), read_only: false };
        let gate = Arc::new(Semaphore::new(0));
        let shut = Arc::clone(&gate);
        let hook: CommitHook = Arc::new(move |point| {
            let gate = Arc::clone(&shut);
            Box::pin(async move {
                if point == CommitPoint::Before {
                    gate.acquire().await.unwrap().forget();
                }
            })
        });
        let store = Store::open_with(&options, Some(hook)).await.unwrap();
        let (health, clock, pulse) = (Health::default(), Clock::fixed(Timestamp::from_secs(1_000)), store.pulse());
        store.report_to(&health);
        health.beat(clock.now());
        let mut watchdog = Watchdog::new(health.clone(), pulse.clone(), clock, ServiceManager::default());
        watchdog.limit = Duration::ZERO;
        watchdog.look();
        assert_eq!(watchdog.stalled, [], "a writer without work is no stall");
        let probe = tokio::spawn(async move { pulse.probe().await });
        while watchdog.stalled.is_empty() {
            tokio::task::yield_now().await;
            watchdog.look();
        }
        assert_eq!(watchdog.stalled, [Part::Writer]);
        assert_eq!(health.problems()[&Check::Store], "one commit has been going on for 0 s");
        gate.add_permits(1);
        probe.await.unwrap().unwrap();
        watchdog.look();
        assert_eq!((watchdog.stalled.len(), health.problems().len()), (0, 0));
    }
}
