//! All plans, side by side, and what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sockerless_lambda::state::model::InvocationKind;
use sockerless_lambda::state::{Store, StoreOptions};
use tempfile::TempDir;

use super::choice::{Choice, must_be_met, unmet_at_most};
use super::life;
use super::play::{self, Outcome};
use super::points::{Numbers, Plan, invocation_name};
use super::scenario::Scenario;
use super::scenarios;
use super::verdict::Played;

/// So many plans a processor are played at a time: each waits now and then for its store's own threads.
const PER_PROCESSOR: usize = 3;
/// How often the undisturbed run is played.
const REHEARSALS: usize = 3;
/// How often a plan is tried that does not come to its point: not every run has the same commits, and what happens at the
/// same instant happens in any order.
const TRIES: usize = 6;
/// So many failures are told with everything that happened.
const TOLD: usize = 5;

/// What came of the plans.
#[derive(Debug, Default)]
pub(crate) struct Report {
    plans: BTreeSet<String>,
    /// By name: why.
    pub(crate) failed: BTreeMap<String, String>,
    kills: usize,
    same: usize,
    unknown_that_ran: usize,
    unknown_that_never_ran: usize,
    refused: usize,
    /// Plans whose point was not met: they do not count.
    unmet: Vec<String>,
    /// All plans of the scenarios that were numbered.
    numbered: usize,
    took: Duration,
}

/// Ends with the line `plans: N, failed: N`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (told, (name, why)) in self.failed.iter().enumerate() {
            let why = if told < TOLD { why.as_str() } else { why.lines().next().unwrap_or_default() };
            writeln!(f, "FAILED {name}: {why}")?;
        }
        for name in &self.unmet {
            writeln!(f, "not met: {name}")?;
        }
        let plans = self.plans.len();
        let (kills, faults, unmet) = (self.kills, plans - self.kills, self.unmet.len());
        writeln!(
            f,
            "kills: {kills}, faults: {faults}, points not met: {unmet}, of {} plans, seconds: {}",
            self.numbered,
            self.took.as_secs()
        )?;
        writeln!(
            f,
            "as undisturbed: {}, unknown that ran: {}, unknown that never ran: {}, refused for want of a right: {}",
            self.same, self.unknown_that_ran, self.unknown_that_never_ran, self.refused
        )?;
        write!(f, "plans: {plans}, failed: {}", self.failed.len())
    }
}

/// A scenario with one kind of invocation.
type Piece = (Scenario, InvocationKind);

/// How the names of its plans begin.
fn beginning((scenario, invocation): &Piece) -> String {
    format!("{}/{}/", scenario.name, invocation_name(*invocation))
}

/// Plays the plans that are chosen.
pub(crate) fn play(choice: &Choice) -> Report {
    let begun = now();
    let files = unused_database();
    let kinds = [InvocationKind::RequestResponse, InvocationKind::Event];
    let pieces =
        kinds.into_iter().flat_map(|kind| scenarios::all(kind).into_iter().map(move |scenario| (scenario, kind)));
    let pieces = choice.scenarios(pieces.filter(|piece| choice.may_take(&beginning(piece))).collect());
    let told = side_by_side(&pieces, |piece| undisturbed(piece, &files));
    let mut report = Report::default();
    let mut plans = Vec::new();
    for ((scenario, invocation), told) in pieces.iter().zip(&told) {
        match told {
            Ok((played, numbers)) => {
                let all = numbers.plans(scenario.name, *invocation);
                plans.extend(all.into_iter().map(|plan| (plan, scenario, played)));
            }
            Err(why) => {
                let name = beginning(&(scenario.clone(), *invocation));
                report.failed.insert(name + "undisturbed", why.clone());
            }
        }
    }
    report.numbered = plans.len();
    let chosen = choice.of(plans, |(plan, ..)| plan);
    let outcomes = side_by_side(&chosen, |(plan, scenario, told)| {
        let outcome = disturbed(plan, scenario, told, &files);
        if let Err(why) = &outcome {
            println!("failed {plan}: {}", why.lines().next().unwrap_or_default());
        }
        outcome
    });
    for ((plan, ..), outcome) in chosen.iter().zip(outcomes) {
        report.count(plan, outcome);
    }
    report.took = begun.elapsed();
    report
}

/// The undisturbed run, several times: each must end the same way. As many commits are numbered as every run has.
fn undisturbed((scenario, invocation): &Piece, files: &TempDir) -> Result<(Played, Numbers), String> {
    let mut told: Option<(Played, Numbers)> = None;
    for _ in 0..REHEARSALS {
        let before = told.as_ref().map(|(played, _)| played);
        let piece = play::Piece { scenario, invocation: *invocation, plan: None, told: before, sabotage: None };
        let Outcome::Played(played, numbers) = play::perform(piece, life::copy_of(files.path()))? else {
            return Err("without a plan there is no point to reach".to_owned());
        };
        told = Some(match told {
            None => (*played, numbers),
            Some((first, so_far)) => (first, so_far.common(&numbers)),
        });
    }
    told.ok_or_else(|| "it was never played".to_owned())
}

/// The run with the plan's disturbance, as often as it takes to come to its point.
fn disturbed(plan: &Plan, scenario: &Scenario, told: &Played, files: &TempDir) -> Result<Outcome, String> {
    for _ in 0..TRIES {
        let (invocation, plan, told) = (plan.invocation, Some(plan), Some(told));
        let piece = play::Piece { scenario, invocation, plan, told, sabotage: None };
        let outcome = play::perform(piece, life::copy_of(files.path()))?;
        if matches!(outcome, Outcome::Played(..)) {
            return Ok(outcome);
        }
    }
    Ok(Outcome::NotReached)
}

impl Report {
    /// What is wrong with the plans as a whole.
    pub(crate) fn shortcomings(&self, choice: &Choice) -> Vec<String> {
        let (played, unmet) = (self.plans.len(), self.unmet.len());
        let most = unmet_at_most(played + unmet);
        let too_many = (unmet > most).then(|| format!("{unmet} points were not met, and not {most} at most"));
        choice.wants_more_than(played, self.numbered).into_iter().chain(too_many).collect()
    }

    fn count(&mut self, plan: &Plan, outcome: Result<Outcome, String>) {
        if matches!(outcome, Ok(Outcome::NotReached)) {
            if must_be_met(plan) {
                self.failed.insert(plan.to_string(), format!("{TRIES} runs did not come to its point"));
            }
            self.unmet.push(plan.to_string());
            return;
        }
        assert!(self.plans.insert(plan.to_string()), "two plans are called {plan}");
        self.kills += usize::from(plan.kills());
        match outcome {
            Ok(Outcome::NotReached) => {}
            Ok(Outcome::Played(played, _)) => {
                let unknown = played.unknown_that_ran + played.unknown_that_never_ran;
                self.same += usize::from(unknown + played.refused == 0);
                self.unknown_that_ran += played.unknown_that_ran;
                self.unknown_that_never_ran += played.unknown_that_never_ran;
                self.refused += played.refused;
            }
            Err(why) => {
                self.failed.insert(plan.to_string(), why);
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long the plans take is told, and nothing depends on it")]
fn now() -> Instant {
    Instant::now()
}

/// Works on all, several at a time; the results come in the same order.
pub(crate) fn side_by_side<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(all.len())));
    let workers = thread::available_parallelism().map_or(1, usize::from) * PER_PROCESSOR;
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = all.get(index) else { return };
                    let result = work(item);
                    done.lock().unwrap().push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A database that no daemon has used yet: how one is made is tried elsewhere.
pub(crate) fn unused_database() -> TempDir {
    let files = life::directory();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = StoreOptions { path: files.path().join(life::DATABASE), read_only: false };
        Store::open(&options).await.unwrap().close().await.unwrap();
    });
    files
}
