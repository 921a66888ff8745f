//! The points at which a run of a scenario can be disturbed, and how: what a plan is, and what it is called.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sockerless_lambda::state::model::InvocationKind;
use sockerless_sandbox::faults::{FaultKind, Faults};
use sockerless_sandbox::model::Operation;

/// Of an operation that is called more often than [`FIRST`] and [`LAST`] together, such as reading the log again and
/// again while nothing new is there, the first and the last calls stand for all.
const FIRST: u32 = 6;
const LAST: u32 = 2;
/// So many daemons die one after the other, where each of them dies.
pub(crate) const LIVES: u32 = 8;
/// At so many steps, evenly spread over what the first daemon does.
const STEPS: u32 = 24;

/// A place in the undisturbed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// The nth call of an operation.
    Call(Operation, u32),
    /// The nth commit.
    Commit(u32),
    /// The nth step of each life: it sends a call, AWS carries it out, its answer comes, a commit begins, a commit is done.
    Step(u32),
    /// From the beginning to the end.
    Everywhere,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(operation, nth) => write!(f, "{}#{nth}", operation.name()),
            Self::Commit(nth) => write!(f, "commit#{nth}"),
            Self::Step(nth) => write!(f, "step#{nth}"),
            Self::Everywhere => f.write_str("everywhere"),
        }
    }
}

/// Where exactly the daemon dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The call is not sent.
    Unsent,
    /// AWS has processed the call, and the answer is not seen.
    Processed,
    /// The answer is seen, and nothing of it is recorded.
    Answered,
    /// Everything is written, nothing is durable.
    BeforeCommit,
    /// It is durable, and nobody knows.
    AfterCommit,
}

/// What happens at a point.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Disturbance {
    /// The daemon dies, and is started again.
    Kill(Cut),
    /// The daemon dies, and so do those that are started in its place, [`LIVES`] in all.
    KillEach,
    /// AWS does this to the call.
    Fault(FaultKind),
    /// AWS is like this all the time.
    Weather(Box<Faults>),
}

/// A way to disturb, by the name that it has in the names of plans.
pub(crate) type Named = (&'static str, Disturbance);

/// One run of one scenario with one disturbance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The scenario's name.
    pub(crate) scenario: &'static str,
    /// How its containers are invoked.
    pub(crate) invocation: InvocationKind,
    /// Where.
    pub(crate) point: Point,
    /// The disturbance's name.
    pub(crate) what: &'static str,
    /// The disturbance.
    pub(crate) disturbance: Disturbance,
}

impl Plan {
    /// Whether a daemon dies.
    pub(crate) fn kills(&self) -> bool {
        matches!(self.disturbance, Disturbance::Kill(_) | Disturbance::KillEach)
    }
}

/// `SCENARIO/INVOCATION/POINT/DISTURBANCE`: stable, and different for each plan.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, invocation, point, what, .. } = self;
        write!(f, "{scenario}/{}/{point}/{what}", invocation_name(*invocation))
    }
}

/// An invocation kind in the names of plans.
pub(crate) fn invocation_name(invocation: InvocationKind) -> &'static str {
    match invocation {
        InvocationKind::RequestResponse => "request-response",
        InvocationKind::Event => "event",
    }
}

/// What an undisturbed run has numbered: the first and the last number of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// By operation.
    pub(crate) calls: BTreeMap<Operation, (u32, u32)>,
    /// Calls of which a daemon has seen the end: one that is stopped before has no such point.
    pub(crate) answered: BTreeSet<(Operation, u32)>,
    /// Commits.
    pub(crate) commits: (u32, u32),
    /// The first life's steps.
    pub(crate) steps: (u32, u32),
}

impl Numbers {
    /// What two runs have in common.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let calls = self.calls.iter().filter_map(|(operation, (first, last))| {
            let (_, other_last) = other.calls.get(operation)?;
            Some((*operation, (*first, *last.min(other_last))))
        });
        let answered = self.answered.intersection(&other.answered).copied().collect();
        let both = |own: (u32, u32), other: (u32, u32)| (own.0, own.1.min(other.1));
        let (commits, steps) = (both(self.commits, other.commits), both(self.steps, other.steps));
        Self { calls: calls.collect(), answered, commits, steps }
    }

    /// Every plan for a scenario.
    pub(crate) fn plans(&self, scenario: &'static str, invocation: InvocationKind) -> Vec<Plan> {
        let commits = (self.commits.0..=self.commits.1).map(|nth| (Point::Commit(nth), commit_cuts()));
        let calls = self.calls.iter().flat_map(|(operation, (first, last))| {
            let chosen = (*first..=*last).filter(move |nth| *nth < first + FIRST || *nth + LAST > *last);
            chosen.map(|nth| {
                let mut all = disturbances_of(*operation, invocation);
                if !self.answered.contains(&(*operation, nth)) {
                    all.retain(|(_, disturbance)| *disturbance != Disturbance::Kill(Cut::Answered));
                }
                (Point::Call(*operation, nth), all)
            })
        });
        let (first, last) = self.steps;
        let steps: BTreeSet<u32> = (1..=STEPS).map(|part| first + (last - first) * part / STEPS).collect();
        let steps = steps.into_iter().map(|nth| (Point::Step(nth), vec![("kill-each", Disturbance::KillEach)]));
        let everywhere = std::iter::once((Point::Everywhere, weather()));
        let plan = |point, (what, disturbance)| Plan { scenario, invocation, point, what, disturbance };
        commits
            .chain(calls)
            .chain(steps)
            .chain(everywhere)
            .flat_map(|(point, named)| named.into_iter().map(move |named| plan(point, named)))
            .collect()
    }
}

fn commit_cuts() -> Vec<Named> {
    vec![("kill-before", Disturbance::Kill(Cut::BeforeCommit)), ("kill-after", Disturbance::Kill(Cut::AfterCommit))]
}

/// All that can happen to a call of an operation.
fn disturbances_of(operation: Operation, invocation: InvocationKind) -> Vec<Named> {
    let mut all = vec![
        ("kill-unsent", Disturbance::Kill(Cut::Unsent)),
        ("kill-processed", Disturbance::Kill(Cut::Processed)),
        ("kill-answered", Disturbance::Kill(Cut::Answered)),
    ];
    let mut faults = vec![
        ("answer-lost", FaultKind::LoseAnswer),
        ("answer-late", FaultKind::Delay { ms: 10_000 }),
        // Longer than any call is waited for.
        ("answer-too-late", FaultKind::Delay { ms: 1_200_000 }),
        ("throttled", FaultKind::Throttle { retry_after_s: None }),
        ("throttled-retry-after", FaultKind::Throttle { retry_after_s: Some(7) }),
        ("status-500", FaultKind::ServiceError { status: 500 }),
        ("status-500-processed", FaultKind::ServiceErrorAfter { status: 500 }),
        ("status-502", FaultKind::ServiceError { status: 502 }),
        ("status-403", FaultKind::AccessDenied),
        ("reset-unprocessed", FaultKind::ResetBefore),
        ("reset-processed", FaultKind::ResetAfter),
        ("malformed", FaultKind::MalformedBody),
    ];
    faults.extend(match (operation, invocation) {
        (Operation::Invoke, InvocationKind::Event) => Some(("delivered-twice", FaultKind::DuplicateDelivery)),
        // A second one would be ours: nothing else repeats an invocation.
        (Operation::Invoke, InvocationKind::RequestResponse) => None,
        // To a daemon whose claim is made twice, the first one is another daemon's: it changes nothing until it is told
        // to adopt.
        (Operation::CreateLogStream, _) => None,
        _ => operation.mutates().then_some(("processed-twice", FaultKind::Twice)),
    });
    if operation.mutates() {
        faults.push(("status-502-processed", FaultKind::ServiceErrorAfter { status: 502 }));
    } else {
        faults.push(("stale", FaultKind::Stale { ms: 5_000 }));
    }
    if operation == Operation::FilterLogEvents {
        faults.extend([
            ("events-postponed", FaultKind::EmptyPage),
            ("events-missing", FaultKind::MissingEvents),
            ("events-doubled", FaultKind::DoubledEvents),
            ("events-reversed", FaultKind::ReversedEvents),
        ]);
    }
    all.extend(faults.into_iter().map(|(name, kind)| (name, Disturbance::Fault(kind))));
    all
}

/// How long an outage lasts.
const OUTAGE_MS: i64 = 60_000;

fn weather() -> Vec<Named> {
    use sockerless_sandbox::faults::FaultRule;
    let every = |kind| FaultRule { operation: None, ..FaultRule::every(Operation::Invoke, kind) };
    let of = |operation, kind| FaultRule::every(operation, kind);
    let rules = |rules: Vec<FaultRule>| Faults { rules, ..Faults::default() };
    let outage = |kind| rules(vec![FaultRule { for_ms: Some(OUTAGE_MS), ..every(kind) }]);
    let stale = |operation, ms| rules(vec![of(operation, FaultKind::Stale { ms })]);
    let named = |name, faults: Faults| (name, Disturbance::Weather(Box::new(faults)));
    vec![
        named("logs-late", Faults { log_delay_ms: 90_000, ..Faults::default() }),
        named("logs-much-too-late", Faults { log_delay_ms: 900_000, ..Faults::default() }),
        named("logs-reordered", Faults { reorder_logs: true, ..Faults::default() }),
        named("events-delivered-twice", Faults { duplicate_events: 1.0, ..Faults::default() }),
        named("stale-functions", stale(Operation::GetFunction, 400)),
        named("stale-lists", stale(Operation::ListFunctions, 15_000)),
        named("stale-logs", stale(Operation::FilterLogEvents, 5_000)),
        named("throttled", outage(FaultKind::Throttle { retry_after_s: Some(2) })),
        named("unreachable", outage(FaultKind::ResetBefore)),
        named("broken", outage(FaultKind::ServiceError { status: 500 })),
    ]
}
