//! What was really wished, issued, taken and recorded in a story, and the promises that are held against it.

use std::collections::{BTreeMap, BTreeSet};

use sockerless_sandbox::settings::LogStyle;

use super::programs::{Plot, Programs, Ran};
use crate::reconciler::absorb::Outcome;
use crate::state::model::life::{self, Life};
use crate::state::model::{
    Cause, Container, ContainerId, Exit, Protocol, Report, RestartPolicy, Run, RunPhase, Status, UnknownOutcome,
};

/// What the user has been told is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) starts: u64,
    pub(super) cancelled: u64,
    pub(super) removed: bool,
}

/// An invocation that Lambda has taken.
#[derive(Clone, Debug)]
struct Taken {
    start: u64,
    token: String,
    request_id: String,
}

/// The record of a story.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// A readable account, for a story that fails.
    pub(super) timeline: Vec<String>,
    /// Promises that were not kept.
    pub(super) broken: Vec<String>,
    /// What the story came across.
    pub(super) covered: BTreeSet<String>,
    pub(super) wishes: BTreeMap<ContainerId, Wish>,
    /// How failed invocations look in the log.
    pub(super) log_style: LogStyle,
    /// Log lines may be missing or later than the daemon waits for.
    pub(super) logs_unreliable: bool,
    /// Functions that are somebody else's.
    pub(super) foreign: BTreeSet<String>,
    /// The digits in the names of functions that are kept when their container is removed.
    pub(super) retained: BTreeSet<String>,
    /// Calls that change something.
    pub(super) mutations: u64,
    issued: BTreeSet<String>,
    taken: BTreeMap<(ContainerId, u64), Vec<Taken>>,
    answered: BTreeSet<(ContainerId, u64)>,
    cut: BTreeSet<(ContainerId, u64)>,
    /// How many runs of each start were called unknown.
    unknown: BTreeMap<(ContainerId, u64), usize>,
}

impl Ledger {
    pub(super) fn note(&mut self, now_ms: i64, text: impl AsRef<str>) {
        self.timeline.push(format!("{:>12.3}s {}", f64::from(i32::try_from(now_ms).unwrap()) / 1000.0, text.as_ref()));
    }

    pub(super) fn cover(&mut self, what: &str) {
        if !self.covered.contains(what) {
            self.covered.insert(what.to_owned());
        }
    }

    pub(super) fn promise(&mut self, number: u8, kept: bool, text: impl FnOnce() -> String) {
        if !kept {
            let text = format!("promise {number}: {}", text());
            self.timeline.push(format!("BROKEN {text}"));
            self.broken.push(text);
        }
    }

    /// The intent to invoke is committed.
    pub(super) fn issue(&mut self, id: ContainerId, run: &Run) {
        let wish = self.wishes.get(&id).cloned().unwrap_or_default();
        let wanted = wish.starts == run.start && wish.cancelled < wish.starts && !wish.removed;
        self.promise(2, wanted, || format!("run {} of {id} is issued for {wish:?}", run.no));
        let token = run.issued.as_ref().map(|issued| issued.token.clone()).unwrap_or_default();
        let fresh = self.issued.insert(token);
        self.promise(1, fresh, || format!("run {} of {id} has a token that was used before", run.no));
    }

    /// Lambda has taken an invocation.
    pub(super) fn taken(&mut self, container: &Container, request_id: &str) {
        let (id, Some(run)) = (container.id, &container.status.run) else { return };
        let token = run.issued.as_ref().map(|issued| issued.token.clone()).unwrap_or_default();
        let known = self.issued.contains(&token);
        self.promise(2, known, || format!("run {} of {id} is invoked and was not issued", run.no));
        let again = self.taken.values().flatten().any(|taken| taken.token == token);
        self.promise(1, !again, || format!("token {token} is invoked twice"));
        let all = self.taken.entry((id, run.no)).or_default();
        all.push(Taken { start: run.start, token, request_id: request_id.to_owned() });
        let times = all.len();
        self.promise(1, times == 1, || format!("run {} of {id} is taken {times} times", run.no));
        let runs = self.taken.iter().filter(|((of, _), _)| *of == id).flat_map(|(_, taken)| taken);
        let runs = runs.filter(|taken| taken.start == run.start).count();
        let again = match container.spec.config.restart {
            RestartPolicy::No => 0,
            RestartPolicy::OnFailure { max } => usize::try_from(max).unwrap(),
        };
        let reruns = match container.spec.config.function.unknown_outcome {
            UnknownOutcome::Fail => 0,
            UnknownOutcome::Rerun => self.unknown.get(&(id, run.start)).copied().unwrap_or_default(),
        };
        if reruns > 0 {
            self.cover("a rerun");
        }
        let most = usize::try_from(life::MAX_RERUNS).unwrap();
        self.promise(1, reruns <= most, || format!("start {} of {id} is run again {reruns} times", run.start));
        let allowed = 1 + again + reruns;
        self.promise(1, runs <= allowed, || format!("start {} of {id} has {runs} runs", run.start));
    }

    /// The answer of a run has reached the daemon, whole or cut.
    pub(super) fn answered(&mut self, id: ContainerId, run_no: u64, whole: bool) {
        let answers = if whole { &mut self.answered } else { &mut self.cut };
        answers.insert((id, run_no));
    }

    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        self.cover(match outcome {
            Outcome::Done => "outcome done",
            Outcome::Accepted { .. } => "outcome accepted",
            Outcome::Refused(_) => "outcome refused",
            Outcome::Unknown(_) => "outcome unknown",
            Outcome::Terminal(_) => "outcome terminal",
        });
    }

    /// Facts are committed in the place of others.
    pub(super) fn committed(&mut self, now_ms: i64, before: &Container, after: &Status, programs: &Programs) {
        let end = |status: &Status| match &status.run {
            Some(Run { no, phase: RunPhase::Exited(exit), .. }) => Some((*no, exit.clone())),
            _ => None,
        };
        let (Some((no, exit)), old) = (end(after), end(&before.status)) else { return };
        if let Some((_, old)) = old.filter(|(old_no, _)| *old_no == no) {
            let same = old.code == exit.code;
            return self.promise(6, same, || format!("the exit code of run {no} changes from {old:?} to {exit:?}"));
        }
        self.cover(&format!("cause {:?}", exit.cause));
        if exit.cause == Cause::Unknown {
            let start = after.run.as_ref().map_or(0, |run| run.start);
            *self.unknown.entry((before.id, start)).or_default() += 1;
        }
        if before.spec.config.function.protocol == Protocol::Native && self.log_style == LogStyle::Lines {
            self.cover(&format!("native {:?} in the older style", exit.cause));
        }
        self.note(now_ms, format!("run {no} of {} ends: {} {:?}", short(before.id), exit.code, exit.cause));
        let report = after.run.as_ref().and_then(|run| run.report.as_ref());
        let truth = self.is_true(before, (no, report), &exit, programs);
        self.promise(6, truth.is_ok(), || format!("run {no} of {}: {exit:?}: {}", before.id, truth.unwrap_err()));
    }

    fn is_true(
        &self,
        container: &Container,
        (no, report): (u64, Option<&Report>),
        exit: &Exit,
        programs: &Programs,
    ) -> Result<(), String> {
        let taken = self.taken.get(&(container.id, no)).and_then(|taken| taken.first());
        let ran: Vec<_> =
            programs.ran.iter().filter(|ran| taken.is_some_and(|t| t.request_id == ran.request_id)).collect();
        let protocol = container.spec.config.function.protocol;
        match exit.cause {
            Cause::Cancelled if exit.code != 137 || taken.is_some() => Err("it was not cancelled".to_owned()),
            Cause::NeverRan if exit.code != 125 || taken.is_some() => Err("it was invoked".to_owned()),
            Cause::Unknown if exit.code != 125 => Err("an unknown outcome has code 125".to_owned()),
            Cause::Unknown if self.answered.contains(&(container.id, no)) => Err("it was answered".to_owned()),
            Cause::Unknown if !ran.is_empty() && !self.logs_unreliable => {
                let untold = report.is_some_and(|report| self.is_untold(report, &ran));
                if untold { Ok(()) } else { Err(format!("the log has the end of {ran:?}")) }
            }
            // Nobody can read the answer of a native function's failure.
            Cause::FunctionError if protocol == Protocol::Native && self.cut.contains(&(container.id, no)) => Ok(()),
            Cause::Cancelled | Cause::NeverRan | Cause::Unknown => Ok(()),
            cause => {
                let mut truths = ran.iter().flat_map(|ran| ran.plot.truths(protocol, self.log_style));
                let is_true = truths.any(|truth| truth == (exit.code, cause));
                if is_true { Ok(()) } else { Err(format!("what really ran: {ran:?}")) }
            }
        }
    }

    /// Whether the run's REPORT is that of an error which the runtime has posted: the older style does not tell of it.
    fn is_untold(&self, report: &Report, ran: &[&Ran]) -> bool {
        let is_its = |ran: &&Ran| ran.plot == Plot::Error && u64::from(ran.duration_ms) * 1_000 == report.duration_us;
        self.log_style == LogStyle::Lines && ran.iter().any(is_its)
    }

    /// A container removes itself: every start that was wished must have had its end.
    pub(super) fn removes_itself(&mut self, container: &Container, after: &Status) {
        let starts = self.wishes.get(&container.id).map_or(0, |wish| wish.starts);
        let ended = matches!(life::life(&container.spec, after), Life::Exited(_)) && container.spec.starts == starts;
        self.promise(8, ended, || format!("{} removes itself before its start has ended", container.id));
    }

    /// A row is dropped.
    pub(super) fn forgotten(&mut self, container: &Container) {
        self.promise(8, container.is_removed(), || format!("{} is dropped and not removed", container.id));
    }

    /// What must hold of every row when all is quiet.
    pub(super) fn settled(&mut self, rows: &BTreeMap<ContainerId, Container>) {
        for (id, wish) in self.wishes.clone() {
            let Some(row) = rows.get(&id) else { continue };
            self.promise(4, !row.is_removed(), || format!("{id} is removed and still has its row"));
            let spec = &row.spec;
            let kept = (spec.starts, spec.cancelled, spec.remove.is_some()) == (wish.starts, wish.cancelled, false);
            self.promise(8, kept, || format!("the wish {wish:?} of {id} is {spec:?} in the store"));
            let running = life::is_running(&row.spec, &row.status) || life::unsettled_run(&row.status).is_some();
            self.promise(3, !running, || format!("{id} is still running: {:?}", row.status));
        }
    }
}

/// The part of an id that tells a story's containers apart.
pub(super) fn short(id: ContainerId) -> String {
    format!("c{}", id.as_bytes()[0])
}
