//! What was wanted, against what was done: the daemon's word is not taken for anything.
//!
//! Invocations are those that the sandbox has taken, runs those that left a line in their file.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::life::{Record, Told};
use crate::story::{Program, Story};

/// The sandbox remembers so many invocations that have ended, and forgets the oldest.
const REMEMBERED: usize = 20_000;
/// Digits of a container's id in its function's name.
const ID_DIGITS: usize = 24;

/// What all containers came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) containers: usize,
    /// Starts that were recorded, but for the withdrawn.
    pub(crate) wanted: usize,
    /// Starts that were stopped or removed before they were invoked.
    pub(crate) withdrawn: usize,
    pub(crate) invocations: usize,
    /// Programs that ran.
    pub(crate) ran: usize,
    pub(crate) unknown: usize,
    pub(crate) unknown_never_ran: usize,
    pub(crate) right: usize,
    /// Failures of native functions that were told as 1, because nothing tells their codes.
    pub(crate) only_failed: usize,
    /// Ends that nobody asked for: the container was removed before.
    pub(crate) not_asked: usize,
    pub(crate) wrong: usize,
    /// Wanted runs by protocol and kind of invocation.
    pub(crate) ways: BTreeMap<&'static str, usize>,
    /// What must not be, in words.
    pub(crate) violations: Vec<String>,
}

/// Adds it all up. `sandbox` is what the sandbox says of itself, at the end.
pub(crate) fn add_up(records: &[Record], sandbox: &Value) -> Sum {
    let mut sum = Sum { containers: records.len(), ..Sum::default() };
    let mut invoked = invocations(sandbox);
    if sandbox["invocations"].as_array().unwrap().len() >= REMEMBERED {
        sum.violations.push("the series was too long: the sandbox has forgotten invocations".to_owned());
    }
    sum.invocations = invoked.values().sum();
    for record in records {
        let key = record.id.get(..ID_DIGITS).unwrap_or_default();
        add(&mut sum, record, invoked.remove(key).unwrap_or(0));
    }
    for (key, count) in invoked {
        sum.violations.push(format!("{count} invocations for a container that nobody made: {key}"));
    }
    if sum.invocations + sum.unknown_never_ran != sum.wanted {
        sum.violations.push("the invocations are not those that were wanted".to_owned());
    }
    sum
}

/// How many invocations the sandbox has taken, by the digits of the container's id.
fn invocations(sandbox: &Value) -> BTreeMap<String, usize> {
    let mut seen: BTreeMap<String, std::collections::BTreeSet<&str>> = BTreeMap::new();
    for invocation in sandbox["invocations"].as_array().unwrap() {
        // PREFIX-INSTANCE-DIGITS, perhaps with the number of the incarnation.
        let name = invocation["function"].as_str().unwrap();
        let digits = name.split('-').nth(2).unwrap_or_default().to_owned();
        seen.entry(digits).or_default().insert(invocation["request_id"].as_str().unwrap());
    }
    seen.into_iter().map(|(digits, ids)| (digits, ids.len())).collect()
}

fn add(sum: &mut Sum, record: &Record, invoked: usize) {
    let plan = &record.plan;
    let ran = std::fs::read_to_string(&record.ran).map_or(0, |text| text.lines().count());
    let unknown = record.runs.iter().filter(|told| **told == Told::Unknown).count();
    let withdrawn = usize::from(was_withdrawn(record, invoked));
    let wanted = record.runs.len() - withdrawn;
    sum.wanted += wanted;
    sum.withdrawn += withdrawn;
    sum.ran += ran;
    sum.unknown += unknown;
    sum.unknown_never_ran += unknown.min(wanted.saturating_sub(invoked));
    *sum.ways.entry(plan.way()).or_default() += wanted;
    sum.violations.extend(record.violations.iter().cloned());
    if invoked > wanted || invoked + unknown < wanted {
        sum.violations
            .push(format!("{}: {wanted} runs wanted, {unknown} unknown, {invoked} invocations", describe(record)));
    }
    // Who is removed by force may be gone before the program begins, and so may a time that is short by design.
    let may_be_cut_off = is_removed_by_its_user(plan.story) || plan.program == Program::TooLong;
    if ran > invoked || (ran < invoked && !may_be_cut_off) {
        sum.violations.push(format!("{}: {invoked} invocations, and the program ran {ran} times", describe(record)));
    }
    for told in &record.runs {
        match told {
            Told::Unknown => {}
            Told::Nothing if is_removed_by_its_user(plan.story) => sum.not_asked += 1,
            Told::Nothing => sum.violations.push(format!("{}: nobody was told how it ended", describe(record))),
            Told::Code(137) if withdrawn > 0 => {}
            Told::Code(code) if *code == plan.code() => sum.right += 1,
            Told::Code(code) if plan.may_be_told_as(*code) => sum.only_failed += 1,
            Told::Code(code) => {
                sum.wrong += 1;
                let expected = plan.code();
                sum.violations.push(format!("{}: exit code {code} instead of {expected}", describe(record)));
            }
        }
    }
}

/// Whether the container goes before anybody asks how it has ended.
fn is_removed_by_its_user(story: Story) -> bool {
    matches!(story, Story::RemovedAtOnce | Story::RemovedWhileRunning)
}

/// Whether the one start of this container was taken back before it was invoked.
fn was_withdrawn(record: &Record, invoked: usize) -> bool {
    let taken_back = match record.plan.story {
        Story::StoppedAtOnce => record.runs == [Told::Code(137)] && record.plan.program != Program::TooLong,
        Story::RemovedAtOnce => record.runs == [Told::Nothing],
        // Who is removed while it runs was seen to run.
        _ => false,
    };
    taken_back && invoked == 0
}

fn describe(record: &Record) -> String {
    let plan = &record.plan;
    let short = record.id.get(..12).unwrap_or_default();
    format!("{} {short} ({:?}, {:?}, {}, told {:?})", plan.name, plan.story, plan.program, plan.way(), record.runs)
}

impl Sum {
    /// What is wrong if runs are called unknown that took place: the logs are late and out of order at most, and they lose
    /// nothing, so the end of such a run can be read.
    pub(crate) fn unknown_that_ran(&self) -> Option<String> {
        let ran = self.unknown.saturating_sub(self.unknown_never_ran);
        (ran > 0).then(|| format!("{ran} runs are called unknown that took place"))
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "containers          {:>7}", self.containers)?;
        writeln!(f, "runs wanted         {:>7}", self.wanted)?;
        for (way, count) in &self.ways {
            writeln!(f, "  {way:<26} {count:>7}")?;
        }
        writeln!(f, "starts withdrawn before the invocation {:>7}", self.withdrawn)?;
        writeln!(f, "invocations seen by the sandbox {:>7}", self.invocations)?;
        writeln!(f, "programs that ran   {:>7}", self.ran)?;
        writeln!(f, "exit codes right    {:>7}", self.right)?;
        writeln!(f, "native failures told as 1 {:>7}", self.only_failed)?;
        writeln!(f, "exit codes wrong    {:>7}", self.wrong)?;
        writeln!(f, "ends not asked for (removed before) {:>7}", self.not_asked)?;
        write!(f, "unknown             {:>7}, of which never ran {}", self.unknown, self.unknown_never_ran)
    }
}
