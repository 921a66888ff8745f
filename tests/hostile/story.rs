//! What one hostile tenant does. A story follows from its seed.

use super::account::{self, Deed};
use super::output::Print;
use super::programs::{Ends, Run};
use super::requests::{self, Attack};
use super::rng::Rng;

/// The acts of a story, at most.
const MOST_ACTS: usize = 8;
/// The part of the stories that may have as many. Most have few: so more stories fit into an hour.
const LONG_PART: f64 = 0.25;
/// When the last act of a story begins at the latest, in virtual milliseconds.
pub(crate) const LAST_ACT_MS: i64 = 20_000;
/// One container in so many is run again when it fails.
const RESTARTED_ONE_IN: usize = 8;
/// Lines of one program, at most, but for those of the kind that comes in masses.
const MOST_LINES: usize = 8;

/// One act.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A container is created and started.
    Run(Run),
    /// A request is sent.
    Request(Attack),
    /// Something is done in the account, by a function with its role or by somebody else.
    Account(Deed),
}

/// A story.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    /// Its seed, or a name that was given to it.
    pub(crate) name: String,
    /// The acts, with their times in virtual milliseconds.
    pub(crate) acts: Vec<(i64, Act)>,
}

impl Story {
    /// The story of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::stream(seed, 1);
        let name = format!("h{seed:016x}");
        let many = rng.part() < LONG_PART;
        let count = 1 + rng.below(if many { MOST_ACTS } else { 2 });
        let mut runs = 0;
        let act = |rng: &mut Rng, runs: &mut usize| match rng.below(10) {
            0..=2 if *runs == 0 => {
                *runs += 1;
                Act::Run(run(rng, &name))
            }
            3..=4 => Act::Account(Deed { kind: *rng.pick(&account::KINDS), seed: rng.next() }),
            _ => Act::Request(Attack { kind: *rng.pick(&requests::KINDS), seed: rng.next(), of: name.clone() }),
        };
        let acts = (0..count).map(|_| (rng.between(0, LAST_ACT_MS), act(&mut rng, &mut runs)));
        let mut acts: Vec<(i64, Act)> = acts.collect();
        acts.sort_by_key(|(at, _)| *at);
        Self { name, acts }
    }

    /// The story of a tenant who floods the log group at this time.
    pub(crate) fn of_a_flood(seed: u64, at_ms: i64) -> Self {
        let act = Act::Account(Deed { kind: account::Kind::Flood, seed });
        Self { name: format!("flood-{seed:016x}"), acts: vec![(at_ms, act)] }
    }

    /// A story that was written down.
    pub(crate) fn given(name: &str, acts: Vec<(i64, Act)>) -> Self {
        Self { name: name.to_owned(), acts }
    }
}

fn run(rng: &mut Rng, name: &str) -> Run {
    let native = rng.one_in(2);
    let lines = rng.below(MOST_LINES + 1);
    let lasts_ms = *rng.pick(&[0_u32, 20, 700, 3_000]);
    let mut prints: Vec<Print> = (0..lines).map(|_| Print::drawn(rng, i64::from(lasts_ms))).collect();
    prints.sort_by_key(|print| print.after_ms);
    Run {
        name: name.to_owned(),
        native,
        event: rng.one_in(2),
        tty: rng.one_in(8),
        restarts: if rng.one_in(RESTARTED_ONE_IN) { 1 } else { 0 },
        auto_remove: rng.one_in(8),
        decorated: rng.one_in(2).then(|| rng.next()),
        prints,
        lasts_ms,
        ends: Ends::drawn(rng, native),
    }
}
