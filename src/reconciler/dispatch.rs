//! What the loop hands out to workers, and what it takes back from them.
//!
//! # Guarantees
//! - A container is worked on by one worker at a time, and stands in one line at most.
//! - A container whose turn has come at a quota gets its permit with the work. All others are looked at without one, and
//!   come back to stand in line if they need one that is not free.

use tokio::task::{self, JoinError};

use super::permits::{Permit, Refused};
use super::queue::Priority;
use super::quota_line::{Line, Place};
use super::shared::Shared;
use super::worker::{LeftWork, Next};
use super::{Loop, MAX_WORKERS, PANIC_PAUSE, ROW_PAUSE, STORE_PAUSE, Work, WorkerDone};
use crate::aws::Lane;
use crate::clock::Timestamp;
use crate::health::Check;
use crate::state::StateError;
use crate::state::model::ContainerId;
use crate::telemetry;

impl Loop {
    /// Hands out those whose turn has come at a quota. Returns when the next token may come free that somebody waits for.
    pub(super) fn serve_lines(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut token_at: Option<Timestamp> = None;
        for line in Line::ALL {
            while self.workers.len() < MAX_WORKERS
                && let Some((id, waiting, since)) = self.lines.first(line)
            {
                match self.shared.permits.take(&self.shared.cloud, waiting, now.since(since)) {
                    Ok(permit) => {
                        let place = self.lines.serve(line);
                        self.queue.begin(id, now);
                        self.work_on(id, Lane::User, place, Some(permit), now);
                    }
                    Err(Refused::NoPlace) => break,
                    Err(Refused::NoToken(wait)) => {
                        let at = now.after(wait);
                        token_at = Some(token_at.map_or(at, |earlier| earlier.min(at)));
                        break;
                    }
                }
            }
        }
        self.note_lines();
        token_at
    }

    fn note_lines(&self) {
        for line in Line::ALL {
            self.shared.permits.note_line(line, self.lines.len(line));
        }
    }

    /// Hands out what is due, as far as there are workers.
    pub(super) fn give_out(&mut self, now: Timestamp) {
        while self.workers.len() < MAX_WORKERS {
            let Some((id, due, priority)) = self.queue.pop(now) else { break };
            metrics::histogram!(telemetry::QUEUE_SECONDS, "name" => "container").record(now.since(due));
            let lane = match priority {
                Priority::User => Lane::User,
                Priority::Retry | Priority::Poll => Lane::Retry,
                Priority::Housekeeping => Lane::Housekeeping,
            };
            // Something may have happened: it is looked at now, and keeps its place.
            let place = self.lines.leave(id);
            self.work_on(id, lane, place, None, now);
        }
        self.measure(now);
    }

    fn work_on(&mut self, id: ContainerId, lane: Lane, place: Option<Place>, permit: Option<Permit>, now: Timestamp) {
        let shared = Shared { cloud: self.shared.cloud.lane(lane), ..self.shared.clone() };
        let halt = self.halt.clone();
        let worker = self.workers.spawn(async move {
            let started = shared.clock.now();
            let turn = shared.reconcile(id, permit, &halt).await;
            metrics::histogram!(telemetry::RECONCILE_SECONDS, "controller" => "container")
                .record(shared.clock.now().since(started));
            (id, turn)
        });
        self.keys.insert(worker.id(), Work { id, since: now, place });
    }

    fn measure(&self, now: Timestamp) {
        let ages = || self.keys.values().map(|work| now.since(work.since).as_secs_f64());
        let wish_age = self.census.oldest_wish().map_or(0.0, |since| now.since(since).as_secs_f64());
        metrics::gauge!(telemetry::RUNS_IN_FLIGHT).set(count(self.shared.slots.running()));
        metrics::gauge!(telemetry::SLOTS_KEPT).set(count(self.shared.slots.kept()));
        metrics::gauge!(telemetry::OLDEST_WISH).set(wish_age);
        let in_line = Line::ALL.iter().map(|line| self.lines.len(*line)).sum::<usize>();
        metrics::gauge!(telemetry::QUEUE_DEPTH, "name" => "container").set(count(self.queue.ready() + in_line));
        metrics::gauge!(telemetry::QUEUE_UNFINISHED, "name" => "container").set(ages().sum::<f64>());
        metrics::gauge!(telemetry::QUEUE_LONGEST, "name" => "container").set(ages().fold(0.0, f64::max));
        metrics::gauge!(telemetry::ACTIVE_WORKERS, "controller" => "container").set(count(self.queue.working()));
    }

    pub(super) fn take_back(&mut self, done: Result<(task::Id, WorkerDone), JoinError>) {
        let (place, (id, turn)) = match done {
            Ok((task, done)) => (self.keys.remove(&task).and_then(|work| work.place), done),
            Err(error) => {
                // A bug. Every act has its intent committed, so looking again is safe.
                let Some(Work { id, .. }) = self.keys.remove(&error.id()) else { return };
                tracing::error!(container = %id, %error, "a worker ended in a panic");
                self.left.insert(id, LeftWork::later("a worker ended in a panic"));
                self.queue.done(id);
                self.queue.push(id, self.now().after(PANIC_PAUSE), Priority::Housekeeping);
                return;
            }
        };
        self.queue.done(id);
        if let Some(next) = self.shared.slots.next() {
            self.queue.push(next, self.now(), Priority::User);
        }
        let result = match turn {
            Ok(turn) => {
                self.shared.health.pass(Check::Reconciler);
                self.unstorable.remove(&id);
                self.census.count(id, turn.counted);
                match turn.left {
                    Some(left) => self.left.insert(id, left),
                    None => self.left.remove(&id),
                };
                match turn.next {
                    Next::Idle => {}
                    Next::At(at, priority) => self.queue.push(id, at, priority),
                    Next::InLine(waiting) => {
                        self.lines.enter(id, waiting, place, self.now());
                        self.note_lines();
                    }
                }
                match (turn.failed, turn.next) {
                    (true, _) => "error",
                    (false, Next::Idle) => "success",
                    (false, Next::At(..) | Next::InLine(_)) => "requeue_after",
                }
            }
            Err(error) if error.concerns_one_row() => {
                self.retry_row(id, &error);
                "error"
            }
            Err(error) => {
                self.store_failed(&error);
                self.left.insert(id, LeftWork::later("the store failed"));
                self.queue.push(id, self.now().after(STORE_PAUSE), Priority::Retry);
                "error"
            }
        };
        if result == "error" {
            metrics::counter!(telemetry::RECONCILE_ERRORS, "controller" => "container").increment(1);
        }
        metrics::counter!(telemetry::RECONCILE_TOTAL, "controller" => "container", "result" => result).increment(1);
    }
}

impl Loop {
    /// Tries a container again whose row cannot be read or written, later each time: the others go on.
    fn retry_row(&mut self, id: ContainerId, error: &StateError) {
        let failures = self.unstorable.entry(id).or_default();
        *failures = failures.saturating_add(1);
        let pause = ROW_PAUSE.ceiling(*failures);
        tracing::error!(container = %id, %error, failures, "a container cannot be reconciled; the others are");
        self.left.insert(id, LeftWork::later("its record cannot be read or written"));
        self.queue.push(id, self.now().after(pause), Priority::Housekeeping);
    }
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::from(u32::MAX), f64::from)
}
