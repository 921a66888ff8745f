//! Random stories of user acts, crashes and faults, told to the real plan and its neighbours against the sandbox's model
//! of AWS, under virtual time.
//!
//! # Promises
//! 1. At most one invocation is taken for each run and token, and no more for a start than its policies allow.
//! 2. Nothing is invoked that was not wanted when it was issued.
//! 3. Some time after the last fault all is settled, and looking again changes nothing.
//! 4. A removed container leaves neither row nor function, or that without our tag if it is to be kept.
//! 5. Functions of others are never changed, deleted or invoked.
//! 6. A recorded exit is what really happened, or honestly unknown.
//! 7. A container comes to rest at every instant.
//! 8. A recorded wish is not lost.
//!
//! A story is a function of its seed alone. `SOCKERLESS_STORIES` says how many are told.

mod calendar;
mod calls;
mod daemon;
mod ledger;
mod programs;
mod rng;
mod scene;
mod watch;
mod world;

use std::collections::BTreeSet;
use std::thread;

use calendar::Happening;
use daemon::Daemon;
use ledger::short;

use crate::clock::Stopwatch;
use crate::reconciler::names::{Identity, Owner, TAG_INSTANCE};
use crate::reconciler::queue::Priority;
use crate::state::admit;
use crate::state::model::{Container, ContainerConfig, ContainerId, Spec, Status};
use crate::state::{Cancelled, Removed, Started};

/// Stories that are told when nobody says how many.
const STORIES: u64 = 400;
/// Seeds that show a mistake if it is made again: a REPORT's time that is taken for one of our clock; the end that is not
/// told of the second of two deliveries (a mistake of the check); a late answer that is taken for the next run's; the REPORT
/// of a refused delivery that is read first. A change of what is drawn needs others.
const REGRESSIONS: [u64; 5] = [2_071, 4_386, 11_611, 232_920, 576_040];
/// After so long without faults all is quiet.
const QUIET_AFTER_MS: i64 = 2 * 3_600_000;
/// Looks at every container in the end.
const PASSES: u32 = 10;
/// More happenings than this in one story go on for ever.
const MOST_HAPPENINGS: u32 = 200_000;

/// What a user does.
#[derive(Clone, Debug)]
enum Act {
    Create(ContainerId, Box<ContainerConfig>),
    Start(ContainerId),
    Cancel(ContainerId),
    Remove(ContainerId),
    /// Somebody changes the function behind our back.
    Meddle(ContainerId),
}

/// A story that goes on.
struct Story {
    daemon: Daemon,
    quiet_mutations: u64,
    /// Functions of others as they were made.
    foreign: Vec<sockerless_sandbox::model::FunctionState>,
    over: bool,
}

impl Story {
    fn tell(seed: u64, sabotage: bool) -> Result<BTreeSet<String>, String> {
        let mut story = scene::set(seed, sabotage);
        let mut happenings = 0;
        while !story.over && story.daemon.ledger.broken.is_empty() {
            happenings += 1;
            story.daemon.ledger.promise(7, happenings < MOST_HAPPENINGS, || "the story does not end".to_owned());
            story.step();
        }
        let ledger = &story.daemon.ledger;
        if ledger.broken.is_empty() {
            return Ok(ledger.covered.clone());
        }
        let last = story.daemon.store.rows.values().map(|row| format!("\n{row:?}")).collect::<String>();
        Err(format!("story {seed}\n{}{last}", ledger.timeline.join("\n")))
    }

    fn step(&mut self) {
        let daemon = &mut self.daemon;
        let next = [daemon.calendar.next(), daemon.next_due_ms()].into_iter().flatten().min();
        let world = (!daemon.waiting.is_empty()).then(|| daemon.aws.world.next_wakeup()).flatten();
        let until = next.into_iter().chain(world).min().unwrap_or(daemon.now_ms());
        daemon.aws.world.run_until(until.max(daemon.now_ms()));
        daemon.collect();
        let now_ms = daemon.now_ms();
        if let Some(what) = daemon.calendar.take(now_ms) {
            self.happen(what);
        }
        self.daemon.work();
    }

    fn happen(&mut self, what: Happening) {
        let daemon = &mut self.daemon;
        match what {
            Happening::Act => daemon.act_early(),
            Happening::Crash if daemon.process.is_some() => {
                daemon.ledger.cover("crash anywhere");
                daemon.crash("anywhere");
            }
            Happening::Boot => daemon.boot(),
            Happening::FaultsEnd if daemon.process.is_none() => daemon.later(10_000, Happening::FaultsEnd),
            Happening::FaultsEnd => self.end_faults(),
            Happening::Pass(number) => self.pass(number),
            Happening::Send(boot, flight) if daemon.is_alive(boot) => daemon.send(boot, flight),
            Happening::Back(boot, flight, answer) if daemon.is_alive(boot) => daemon.back(flight, answer),
            Happening::Logs(boot) if daemon.is_alive(boot) => daemon.read_logs(boot, true),
            Happening::Sweep(boot) if daemon.is_alive(boot) => daemon.list(boot),
            Happening::Judge(boot, listed, started) if daemon.is_alive(boot) => daemon.judge(&listed, started),
            Happening::Resync(boot) if daemon.is_alive(boot) => daemon.resync(boot),
            // It belongs to a daemon that has crashed.
            Happening::Crash
            | Happening::Send(..)
            | Happening::Back(..)
            | Happening::Logs(_)
            | Happening::Sweep(_)
            | Happening::Judge(..)
            | Happening::Resync(_) => {}
        }
    }

    fn end_faults(&mut self) {
        let daemon = &mut self.daemon;
        while !daemon.acts.is_empty() {
            daemon.act_early();
        }
        daemon.note("the faults end");
        daemon.crashes.clear();
        let now_ms = daemon.now_ms();
        daemon.aws.world.model.set_faults(now_ms, sockerless_sandbox::faults::Faults::default());
        daemon.later(QUIET_AFTER_MS, Happening::Pass(0));
    }

    fn pass(&mut self, number: u32) {
        let daemon = &mut self.daemon;
        let mutations = daemon.ledger.mutations;
        if number == 0 {
            self.quiet_mutations = mutations;
            daemon.ledger.settled(&daemon.store.rows);
        }
        let quiet = self.quiet_mutations;
        daemon.ledger.promise(3, mutations == quiet, || format!("pass {number} changes something"));
        if number == PASSES {
            self.over = true;
            return self.look_back();
        }
        for id in self.daemon.store.rows.keys().copied().collect::<Vec<_>>() {
            self.daemon.kick(id, Priority::User);
        }
        self.daemon.later(61_000, Happening::Pass(number + 1));
    }

    /// What AWS has in the end.
    fn look_back(&mut self) {
        let daemon = &mut self.daemon;
        let functions = daemon.aws.world.model.snapshot().functions;
        for foreign in &self.foreign {
            let same = functions.iter().any(|f| f.name == foreign.name && f.tags == foreign.tags);
            daemon.ledger.promise(5, same, || format!("{} is changed or gone", foreign.name));
        }
        let foreign = daemon.ledger.foreign.clone();
        for function in functions.iter().filter(|f| !foreign.contains(&f.name)) {
            let Owner::Ours { id_prefix } = daemon.identity.owner(&function.name) else { continue };
            let kept = daemon.store.rows.keys().any(|id| id.to_string().starts_with(&id_prefix));
            let retained = daemon.ledger.retained.contains(&id_prefix) && !function.tags.contains_key(TAG_INSTANCE);
            if retained {
                daemon.ledger.cover("a retained function");
            }
            daemon.ledger.promise(4, kept || retained, || format!("{} is left", function.name));
        }
        let strangers = daemon.aws.programs.borrow().strangers.clone();
        daemon.ledger.promise(5, strangers.is_empty(), || format!("{strangers:?} were invoked"));
    }
}

impl Daemon {
    /// The user does the next thing, if the daemon is there to hear it; else later.
    fn act_early(&mut self) {
        if self.process.is_none() {
            return self.later(5_000, Happening::Act);
        }
        let Some(act) = self.acts.pop_front() else { return };
        let now = self.now();
        let told = match act {
            Act::Create(id, config) => {
                let (seq, name) = (i64::from(id.as_bytes()[0]), short(id));
                let (spec, status) = (Spec::new(*config), Status::default());
                let row = Container { seq, id, name, created_at: now, spec, status, due_at: None, revision: 0 };
                self.store.rows.insert(id, row);
                self.ledger.wishes.entry(id).or_default();
                self.kick(id, Priority::User);
                format!("create {}", short(id))
            }
            Act::Start(id) => {
                let started = self.visible(id).map(|row| admit::start(row, now));
                if started == Some(Started::Recorded) {
                    self.ledger.wishes.entry(id).or_default().starts += 1;
                }
                self.kick(id, Priority::User);
                format!("start {}: {started:?}", self.describe(id))
            }
            Act::Cancel(id) => {
                let cancelled = self.visible(id).map(|row| admit::cancel(row, now));
                if matches!(cancelled, Some(Cancelled::Recorded | Cancelled::Issued)) {
                    let wish = self.ledger.wishes.entry(id).or_default();
                    wish.cancelled = wish.starts;
                }
                self.kick(id, Priority::User);
                format!("cancel {}: {cancelled:?}", self.describe(id))
            }
            Act::Remove(id) => {
                let removed = self.visible(id).map(|row| admit::remove(row, true, now));
                if removed == Some(Removed::Recorded) {
                    self.ledger.wishes.entry(id).or_default().removed = true;
                }
                self.kick(id, Priority::User);
                format!("remove {}: {removed:?}", self.describe(id))
            }
            Act::Meddle(id) => self.meddle(id),
        };
        self.note(told);
    }

    /// A row that clients can still see.
    fn visible(&mut self, id: ContainerId) -> Option<&mut Container> {
        self.store.rows.get_mut(&id).filter(|row| !row.is_removed())
    }

    fn meddle(&mut self, id: ContainerId) -> String {
        let Some(row) = self.store.rows.get(&id) else { return "nothing to meddle with".to_owned() };
        let name = self.identity.function_name(&id, row.status.incarnation);
        if self.ledger.foreign.contains(&name) {
            return "a foreign function is left alone".to_owned();
        }
        let mut shape = crate::reconciler::names::shape(&row.spec.config);
        shape.ephemeral_storage_mb += 1;
        let (_, taken) = self.aws.call(&world::update_configuration(&name, &shape), &mut self.rng);
        format!("somebody changes {name}: {taken:?}")
    }
}

fn identity() -> Identity {
    Identity { prefix: "skls".into(), instance: "0123456789".into() }
}

/// Stories that are told side by side: each is alone in its world.
fn tellers() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn count() -> u64 {
    scene::asked().and_then(|text| text.parse().ok()).unwrap_or(STORIES)
}

#[test]
fn every_story_ends_as_it_should() {
    let (total, tellers) = (count(), tellers());
    let watch = Stopwatch::start();
    let covered: BTreeSet<String> = thread::scope(|scope| {
        let tell = |teller| {
            let seeds = REGRESSIONS.into_iter().chain(1..=total).skip(teller).step_by(tellers);
            seeds.flat_map(|seed| Story::tell(seed, false).unwrap_or_else(|story| panic!("{story}"))).collect()
        };
        let all: Vec<_> =
            (0..tellers).map(|teller| scope.spawn(move || -> BTreeSet<String> { tell(teller) })).collect();
        all.into_iter().flat_map(|teller| teller.join().expect("a promise is broken")).collect()
    });
    let wanted = [
        "crash Call",
        "crash Answer",
        "crash Record",
        "crash anywhere",
        "outcome done",
        "outcome accepted",
        "outcome refused",
        "outcome unknown",
        "outcome terminal",
        "cause Exited",
        "cause FunctionError",
        "cause Deadline",
        "cause OutOfMemory",
        "cause Cancelled",
        "cause NeverRan",
        "cause Unknown",
        "native Exited in the older style",
        "native FunctionError in the older style",
        "native Deadline in the older style",
        "native OutOfMemory in the older style",
        "a lost race",
        "a wait for a slot",
        "an answer that came",
        "a foreign function of our name",
        "a role without logs",
        "drift",
        "a rerun",
        "a retained function",
    ];
    println!("stories: {total}, failed: 0, seconds: {:.0}", watch.elapsed().as_secs_f64());
    let missing: Vec<_> = wanted.iter().filter(|what| !covered.contains(**what)).collect();
    assert!(missing.is_empty() || total < STORIES, "no story has come across {missing:?}: {covered:?}");
}

#[test]
fn a_plan_that_issues_again_is_caught() {
    let mut caught = (1..=STORIES).filter_map(|seed| Story::tell(seed, true).err());
    assert!(caught.any(|story| story.contains("promise 1")), "a second invocation of a run was not noticed");
}
