//! The account of one plan: calls and commits are numbered, the disturbance comes at its number, and every call that AWS
//! has seen is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sockerless_lambda::state::CommitPoint;
use sockerless_sandbox::model::Operation;
use sockerless_sandbox::witness;
use tokio::sync::Notify;

use super::points::{Cut, Disturbance, LIVES, Numbers, Plan, Point};

/// The access key id of a daemon's life begins like this; its number follows.
const LIFE_KEY: &str = "LIFE";

/// The access key id of a life.
pub(crate) fn key_of(life: u32) -> String {
    format!("{LIFE_KEY}{life}")
}

/// The life that has this access key id.
pub(crate) fn life_of(key: &str) -> Option<u32> {
    key.strip_prefix(LIFE_KEY)?.parse().ok()
}

/// A call that AWS has processed or refused.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at_ms: i64,
    pub(crate) life: u32,
    pub(crate) operation: Operation,
    pub(crate) resource: Option<String>,
    /// AWS's id of it.
    pub(crate) request_id: String,
}

#[derive(Debug, Default)]
struct Account {
    target: Option<(Point, Disturbance)>,
    sent: BTreeMap<Operation, u32>,
    arrived: BTreeMap<Operation, u32>,
    answered: BTreeSet<(Operation, u32)>,
    commits: u32,
    /// The number of each life's commit that is under way.
    committing: BTreeMap<u32, u32>,
    /// How far each life has come.
    steps: BTreeMap<u32, u32>,
    struck_ms: Option<i64>,
    dead: BTreeSet<u32>,
    /// How many the disturbance has killed.
    killed: u32,
    fallen: Vec<u32>,
    journal: Vec<Entry>,
}

impl Account {
    fn steps_of_the_first(&self) -> u32 {
        self.steps.first_key_value().map_or(0, |(_, steps)| *steps)
    }

    /// A life comes to a point; `true`: it dies there.
    fn comes_to(&mut self, life: u32, point: Point, cut: Cut, now_ms: i64) -> bool {
        let step = self.steps.entry(life).or_insert(0);
        *step += 1;
        let dies = match self.target {
            Some((Point::Step(nth), Disturbance::KillEach)) => *step == nth && self.killed < LIVES,
            Some((target, Disturbance::Kill(at))) => self.struck_ms.is_none() && (target, at) == (point, cut),
            _ => false,
        };
        if dies && self.dead.insert(life) {
            self.killed += 1;
            self.struck_ms = Some(now_ms);
            self.fallen.push(life);
        }
        dies
    }
}

/// The last number of each.
#[derive(Debug)]
pub(crate) struct Counts {
    calls: BTreeMap<Operation, u32>,
    commits: u32,
    steps: u32,
}

/// The account.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    account: Mutex<Account>,
    crash: Notify,
}

impl Ledger {
    pub(crate) fn new(plan: Option<&Plan>) -> Self {
        let target = plan.map(|plan| (plan.point, plan.disturbance.clone()));
        Self { account: Mutex::new(Account { target, ..Account::default() }), crash: Notify::new() }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a life has ended: then it does nothing any more that anybody could see.
    pub(crate) fn is_dead(&self, life: u32) -> bool {
        self.account().dead.contains(&life)
    }

    /// No more daemons die.
    pub(crate) fn calm(&self) {
        let mut account = self.account();
        if matches!(account.target, Some((_, Disturbance::KillEach))) {
            account.target = None;
        }
    }

    /// A life ends here.
    pub(crate) fn kill(&self, life: u32) {
        self.account().dead.insert(life);
    }

    /// A daemon is about to send a call; gives its number.
    pub(crate) fn sends(&self, life: u32, operation: Operation, now_ms: i64) -> u32 {
        let mut account = self.account();
        let nth = account.sent.entry(operation).or_insert(0);
        *nth += 1;
        let point = Point::Call(operation, *nth);
        let nth = *nth;
        if account.comes_to(life, point, Cut::Unsent, now_ms) {
            self.crash.notify_one();
        }
        if matches!(&account.target, Some((target, Disturbance::Fault(_))) if *target == point) {
            account.struck_ms = Some(now_ms);
        }
        nth
    }

    /// AWS has processed or refused a call.
    pub(crate) fn processed(&self, life: u32, call: &witness::Call, now_ms: i64) {
        let mut account = self.account();
        let operation = call.operation;
        let nth = account.arrived.entry(operation).or_insert(0);
        *nth += 1;
        let point = Point::Call(operation, *nth);
        let (resource, request_id) = (call.resource.clone(), call.request_id.clone());
        account.journal.push(Entry { at_ms: now_ms, life, operation, resource, request_id });
        if account.comes_to(life, point, Cut::Processed, now_ms) {
            self.crash.notify_one();
        }
    }

    /// A daemon has got what came of its nth call of an operation.
    pub(crate) fn answered(&self, life: u32, operation: Operation, nth: u32, now_ms: i64) {
        let mut account = self.account();
        account.answered.insert((operation, nth));
        if account.comes_to(life, Point::Call(operation, nth), Cut::Answered, now_ms) {
            self.crash.notify_one();
        }
    }

    /// A daemon is about to commit, or has committed.
    pub(crate) fn commits(&self, life: u32, point: CommitPoint, now_ms: i64) {
        let mut account = self.account();
        let cut = match point {
            CommitPoint::Before => {
                account.commits += 1;
                let nth = account.commits;
                account.committing.insert(life, nth);
                Cut::BeforeCommit
            }
            CommitPoint::After => Cut::AfterCommit,
        };
        let point = Point::Commit(account.committing.get(&life).copied().unwrap_or_default());
        if account.comes_to(life, point, cut, now_ms) {
            self.crash.notify_one();
        }
    }

    /// Waits for a life to end by the disturbance, and tells which.
    pub(crate) async fn crashed(&self) -> u32 {
        loop {
            if let Some(life) = self.account().fallen.pop() {
                return life;
            }
            self.crash.notified().await;
        }
    }

    /// When the disturbance came last, by AWS's clock.
    pub(crate) fn struck_ms(&self) -> Option<i64> {
        self.account().struck_ms
    }

    /// How many calls AWS has seen.
    pub(crate) fn seen(&self) -> usize {
        self.account().journal.len()
    }

    /// The calls that AWS has seen, from one on.
    pub(crate) fn journal_from(&self, index: usize) -> Vec<Entry> {
        self.account().journal.get(index..).unwrap_or_default().to_vec()
    }

    /// How many commits there were.
    pub(crate) fn commits_so_far(&self) -> u32 {
        self.account().commits
    }

    /// The last number of each.
    pub(crate) fn counts(&self) -> Counts {
        let account = self.account();
        Counts { calls: account.sent.clone(), commits: account.commits, steps: account.steps_of_the_first() }
    }

    /// What was numbered since an earlier count.
    pub(crate) fn numbers_since(&self, before: &Counts) -> Numbers {
        let account = self.account();
        let first = |operation: &Operation| before.calls.get(operation).map_or(1, |last| last + 1);
        let calls = account.sent.iter().map(|(operation, last)| (*operation, (first(operation), *last)));
        Numbers {
            calls: calls.filter(|(_, (first, last))| first <= last).collect(),
            answered: account.answered.clone(),
            commits: (before.commits + 1, account.commits),
            steps: (before.steps, account.steps_of_the_first()),
        }
    }
}
