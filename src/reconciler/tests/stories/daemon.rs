//! The daemon of a story: its store, which survives a crash, and the worker, step by step as the real one goes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Act;
use super::calendar::{Calendar, Happening};
use super::ledger::{Ledger, short};
use super::rng::Rng;
use super::watch::Informer;
use super::world::Aws;
use crate::clock::Timestamp;
use crate::reconciler::execute::News;
use crate::reconciler::learn::{self};
use crate::reconciler::names::Identity;
use crate::reconciler::plan::{Action, Decision, Left, Moment, Observed, plan};
use crate::reconciler::queue::{Priority, Queue};
use crate::reconciler::record::fact_write;
use crate::reconciler::slots::Slots;
use crate::reconciler::worker::due_at;
use crate::state::model::{Container, ContainerId, RunPhase, Status, life};
use crate::state::{FactWrite, Sighting, admit};
use sockerless_sandbox::model::{Ticket, Transport};

/// Steps of one turn, at most; the real worker gives others a turn after as many.
const MAX_STEPS: u32 = 24;

/// Before what a daemon may crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// The decision is committed and its call is not sent.
    Call,
    /// AWS has taken the call, and its answer is not seen.
    Answer,
    /// The answer is seen and not recorded.
    Record,
}

/// What survives a crash.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) rows: BTreeMap<ContainerId, Container>,
    pub(super) read_through: Timestamp,
    pub(super) sightings: BTreeMap<String, Sighting>,
    pub(super) roles_without_logs: BTreeSet<String>,
}

/// A call under way for an action.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) container: Container,
    pub(super) action: Action,
    /// The function was seen to be ours: now it is changed.
    pub(super) looked: bool,
}

/// The answer to an invocation is still to come.
pub(super) struct Waiting {
    pub(super) flight: Flight,
    pub(super) transport: Transport,
    pub(super) request_id: String,
    pub(super) sent_ms: i64,
}

/// What does not survive a crash.
pub(super) struct Process {
    pub(super) queue: Queue<ContainerId>,
    pub(super) slots: Slots,
    pub(super) informer: Informer,
    /// Runs whose invocation has not come back yet.
    pub(super) under_way: BTreeSet<(ContainerId, u64)>,
    booted_at: Timestamp,
}

/// The daemon and all around it.
pub(super) struct Daemon {
    pub(super) store: Store,
    pub(super) process: Option<Process>,
    pub(super) waiting: BTreeMap<Ticket, Waiting>,
    pub(super) aws: Aws,
    pub(super) ledger: Ledger,
    pub(super) calendar: Calendar,
    pub(super) rng: Rng,
    /// What the user is still going to do.
    pub(super) acts: VecDeque<Act>,
    pub(super) identity: Identity,
    /// Our clock is so far before AWS's, in milliseconds.
    pub(super) offset_ms: i64,
    pub(super) start_ms: i64,
    pub(super) max_running: u32,
    pub(super) tick_ms: i64,
    /// Crashes still to come: at which point, after passing it so many times.
    pub(super) crashes: Vec<(Point, u32)>,
    /// Plan wrongly: issue an issued run again after a crash.
    pub(super) sabotage: bool,
    pub(super) boots: u64,
}

/// The pieces that a daemon is put together from.
pub(super) struct Parts {
    pub(super) aws: Aws,
    pub(super) ledger: Ledger,
    pub(super) acts: VecDeque<Act>,
    pub(super) rng: Rng,
    pub(super) identity: Identity,
    pub(super) offset_ms: i64,
    pub(super) max_running: u32,
    pub(super) tick_ms: i64,
    pub(super) crashes: Vec<(Point, u32)>,
    pub(super) sabotage: bool,
}

enum Step {
    End(Option<(Timestamp, Priority)>),
    Again,
    Act(Box<Flight>),
    Run(Box<Flight>, Option<Timestamp>),
}

impl Daemon {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { aws, ledger, acts, rng, identity, offset_ms, max_running, tick_ms, crashes, sabotage } = parts;
        Self {
            store: Store::default(),
            process: None,
            waiting: BTreeMap::new(),
            calendar: Calendar::default(),
            start_ms: aws.world.now_ms(),
            boots: 0,
            aws,
            ledger,
            acts,
            rng,
            identity,
            offset_ms,
            max_running,
            tick_ms,
            crashes,
            sabotage,
        }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.aws.world.now_ms()
    }

    /// The time by our clock.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_ms() + self.offset_ms)
    }

    pub(super) fn note(&mut self, text: impl AsRef<str>) {
        self.ledger.note(self.now_ms() - self.start_ms, text);
    }

    pub(super) fn later(&mut self, ms: i64, what: Happening) {
        self.calendar.add(self.now_ms() + ms, what);
    }

    pub(super) fn boot(&mut self) {
        self.boots += 1;
        self.note(format!("boot {}", self.boots));
        let slots = Slots::new(self.max_running);
        let unsettled = |row: &&Container| life::unsettled_run(&row.status).is_some();
        self.store.rows.values().filter(unsettled).for_each(|row| slots.found(row.id, row.revision, None));
        let informer = Informer::default();
        let under_way = BTreeSet::new();
        self.process = Some(Process { queue: Queue::default(), slots, informer, under_way, booted_at: self.now() });
        for what in [Happening::Resync(self.boots), Happening::Logs(self.boots), Happening::Sweep(self.boots)] {
            self.later(0, what);
        }
    }

    pub(super) fn crash(&mut self, why: &str) {
        self.note(format!("CRASH {why}"));
        self.process = None;
        self.waiting.clear();
        let down = match self.rng.below(4) {
            0 => self.rng.between(3_600_000, 4 * 3_600_000),
            1 => self.rng.between(60_000, 900_000),
            _ => self.rng.between(500, 10_000),
        };
        self.later(down, Happening::Boot);
    }

    /// Whether what was planned by this process still concerns it.
    pub(super) fn is_alive(&self, boot: u64) -> bool {
        self.process.is_some() && self.boots == boot
    }

    pub(super) fn crashes_at(&mut self, point: Point) -> bool {
        let Some(index) = self.crashes.iter().position(|(at, _)| *at == point) else { return false };
        self.crashes[index].1 -= 1;
        if self.crashes[index].1 > 0 {
            return false;
        }
        self.crashes.remove(index);
        self.ledger.cover(&format!("crash {point:?}"));
        self.crash(&format!("{point:?}"));
        true
    }

    pub(super) fn push(&mut self, id: ContainerId, due: Timestamp, priority: Priority) {
        if let Some(process) = &mut self.process {
            process.queue.push(id, due, priority);
        }
    }

    pub(super) fn kick(&mut self, id: ContainerId, priority: Priority) {
        self.push(id, self.now(), priority);
    }

    /// Takes up what is due and every wish that was not planned for.
    pub(super) fn resync(&mut self, boot: u64) {
        let now = self.now();
        let rows: Vec<_> = self.store.rows.values().map(|row| (row.id, row.due_at, is_wished(row))).collect();
        for (id, due, wished) in rows {
            if let Some(due) = due {
                self.push(id, due, Priority::Poll);
            }
            if wished {
                self.push(id, now, Priority::User);
            }
        }
        self.later(600_000, Happening::Resync(boot));
    }

    /// Works on all that is due now.
    pub(super) fn work(&mut self) {
        loop {
            let now = self.now();
            let Some(process) = &mut self.process else { return };
            let Some((id, ..)) = process.queue.pop(now) else { return };
            self.turn(id, None);
        }
    }

    /// When the queue wants to be looked at, by AWS's clock.
    pub(super) fn next_due_ms(&mut self) -> Option<i64> {
        let due = self.process.as_mut()?.queue.next_due()?;
        // Rounded up to whole milliseconds.
        Some((due.as_nanos() + 999_999).div_euclid(1_000_000) - self.offset_ms)
    }

    /// Takes one container as many steps as can be taken now.
    pub(super) fn turn(&mut self, id: ContainerId, mut news: Option<News>) {
        for _ in 0..MAX_STEPS {
            let Some(stored) = self.store.rows.get(&id).cloned() else {
                self.give_slot_back(id);
                return self.done(id, None);
            };
            let now = self.now();
            let mut container = stored.clone();
            if let Some(news) = &news {
                container.status = news.fold(now, &container.spec, container.status);
            }
            let moment = Moment { now, token: self.rng.hex32() };
            let decision = self.plan(&moment, &container);
            self.rival();
            let Some(step) = self.commit(&stored, &container, decision) else {
                self.ledger.cover("a lost race");
                continue;
            };
            news = None;
            match step {
                Step::End(next) => return self.done(id, next),
                Step::Again => {}
                Step::Act(flight) => return self.depart(flight),
                Step::Run(flight, overdue) => {
                    if let (Some(process), Action::Invoke { run_no }) = (&mut self.process, &flight.action) {
                        process.under_way.insert((id, *run_no));
                    }
                    self.depart(flight);
                    let boot = self.boots;
                    self.later(0, Happening::Logs(boot));
                    return self.done(id, overdue.map(|at| (at, Priority::Poll)));
                }
            }
        }
        self.ledger.promise(7, false, || format!("{id} takes {MAX_STEPS} steps without time passing"));
        self.done(id, None);
    }

    fn plan(&self, moment: &Moment, container: &Container) -> Decision {
        let settings = &container.spec.config.function;
        let Some(process) = &self.process else { panic!("nobody plans in a daemon that is down") };
        let issued_before = |at: Timestamp| at < process.booted_at;
        if let Some(run) = container.status.run.as_ref().filter(|run| run.phase == RunPhase::Issued)
            && self.sabotage
            && run.issued.as_ref().is_some_and(|issued| issued_before(issued.at))
        {
            let mut status = container.status.clone();
            status.run = Some(crate::state::model::Run { phase: RunPhase::Refused, ..run.clone() });
            let action = Action::Wait { until: Some(moment.now) };
            return Decision { because: "sabotage", status, action, left: Left::Work };
        }
        let run = container.status.run.as_ref().map(|run| (container.id, run.no));
        let run_read = run.and_then(|run| process.informer.runs_read.get(&run)).copied().unwrap_or_default();
        let observed = Observed {
            function_name: self.identity.function_name(&container.id, container.status.incarnation),
            read_through: self.store.read_through.max(run_read),
            slot_free: process.slots.is_free_for(&container.id),
            adopted_at: None,
            role_without_logs: self.store.roles_without_logs.contains(&settings.role_arn),
            withholds_runs: false,
            under_way: process.under_way.iter().any(|(id, _)| *id == container.id),
        };
        plan(moment, container, &observed)
    }

    /// Somebody else may write between a look at the store and the commit.
    fn rival(&mut self) {
        if self.rng.one_in(12) {
            self.act_early();
        } else if self.rng.one_in(12) {
            let boot = self.boots;
            self.read_logs(boot, false);
        }
    }

    /// Makes a decision's facts durable. `None`: another write came first.
    fn commit(&mut self, stored: &Container, container: &Container, decision: Decision) -> Option<Step> {
        let now = self.now();
        let due = due_at(&decision, now);
        let write = fact_write(stored, &decision.status, due, now);
        if let Action::Invoke { .. } = decision.action {
            return self.commit_issue(container, decision, write);
        }
        let is_due = stored.due_at.is_some_and(|due| due <= now);
        let keeps_due = if decision.action.is_wait() { due == stored.due_at } else { is_due };
        if decision.status != stored.status || !keeps_due {
            if !self.store.rows.contains_key(&stored.id) {
                return Some(Step::End(None));
            }
            if !self.write(write) {
                return None;
            }
            self.after_commit(stored, &decision.status);
        }
        let container = Container { status: decision.status, ..container.clone() };
        Some(match decision.action {
            Action::Wait { until: Some(until) } if until <= now => Step::Again,
            Action::Wait { until } => Step::End(until.map(|at| (at, Priority::Poll))),
            Action::AwaitSlot => {
                self.ledger.cover("a wait for a slot");
                let next = self.process.as_ref().and_then(|process| process.slots.wait(container.id));
                next.into_iter().for_each(|next| self.kick(next, Priority::User));
                Step::End(None)
            }
            Action::Forget => {
                let row = self.store.rows.remove(&container.id);
                row.iter().for_each(|row| self.ledger.forgotten(row));
                self.note(format!("{} is forgotten", short(container.id)));
                let next = self.process.as_ref().and_then(|process| process.slots.leave(&container.id, None));
                next.into_iter().for_each(|next| self.kick(next, Priority::User));
                Step::End(None)
            }
            action => Step::Act(Box::new(Flight { container, action, looked: false })),
        })
    }

    fn commit_issue(&mut self, container: &Container, decision: Decision, write: FactWrite) -> Option<Step> {
        let id = container.id;
        if !self.process.as_ref().is_some_and(|process| process.slots.take(id, container.revision + 1)) {
            return None;
        }
        let overdue = write.due_at;
        let stored = self.store.rows.get(&id)?;
        if !admit::issue(stored, &write, container.spec.generation) {
            self.give_slot_back(id);
            return None;
        }
        self.save(write);
        decision.status.run.iter().for_each(|run| self.ledger.issue(id, run));
        let container = Container { status: decision.status, ..container.clone() };
        Some(Step::Run(Box::new(Flight { container, action: decision.action, looked: false }), overdue))
    }

    /// Writes facts if they were made from the latest ones.
    fn write(&mut self, write: FactWrite) -> bool {
        let taken = self.store.rows.get(&write.id).is_some_and(|row| admit::facts(row, &write));
        if taken {
            self.save(write);
        }
        taken
    }

    fn save(&mut self, write: FactWrite) {
        let now_ms = self.now_ms() - self.start_ms;
        let Some(row) = self.store.rows.get_mut(&write.id) else { return };
        self.ledger.committed(now_ms, row, &write.status, &self.aws.programs.borrow());
        if row.status.auto_removed.is_none() && write.status.auto_removed.is_some() {
            self.ledger.removes_itself(row, &write.status);
        }
        row.status = write.status;
        row.due_at = write.due_at;
        row.revision += 1;
    }

    fn after_commit(&mut self, stored: &Container, status: &Status) {
        if life::unsettled_run(&stored.status).is_some() && life::unsettled_run(status).is_none() {
            self.give_slot_back(stored.id);
        }
        if status.logs_missing && !stored.status.logs_missing {
            self.ledger.cover("a role without logs");
            self.store.roles_without_logs.insert(stored.spec.config.function.role_arn.clone());
        }
    }

    /// Folds something into a container's facts as they are now.
    /// Returns whether that has changed them.
    pub(super) fn fold_in(&mut self, id: ContainerId, fold: impl Fn(Timestamp, &Container) -> Status) -> bool {
        let now = self.now();
        let Some(stored) = self.store.rows.get(&id).cloned() else { return false };
        let status = fold(now, &stored);
        // Nobody else writes between the look and the commit, unless the facts are refused for a wish.
        let changed = status != stored.status && self.write(fact_write(&stored, &status, Some(now), now));
        if changed && life::unsettled_run(&stored.status).is_some() && life::unsettled_run(&status).is_none() {
            self.give_slot_back(id);
        }
        changed
    }

    fn give_slot_back(&mut self, id: ContainerId) {
        let next = self.process.as_ref().and_then(|process| process.slots.settle(&id, i64::MAX, None));
        next.into_iter().for_each(|next| self.kick(next, Priority::User));
    }

    fn done(&mut self, id: ContainerId, next: Option<(Timestamp, Priority)>) {
        let Some(process) = &mut self.process else { return };
        process.queue.done(id);
        if let Some((at, priority)) = next {
            process.queue.push(id, at, priority);
        }
        if let Some(next) = process.slots.next() {
            self.kick(next, Priority::User);
        }
    }
}

/// Whether a wish was not planned for yet.
fn is_wished(row: &Container) -> bool {
    row.spec.generation > row.status.observed_generation
}

/// Whether lines of a container's run are looked for.
pub(super) fn is_watched(row: &Container) -> bool {
    learn::watched(&row.status)
}
