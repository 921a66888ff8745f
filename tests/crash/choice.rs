//! Which of the plans are played.

use std::time::{SystemTime, UNIX_EPOCH};

use sockerless_sandbox::model::Operation;

use super::points::{Plan, Point};

/// Plans of an ordinary test run: about a minute of two processors without optimisation.
pub(crate) const ORDINARY: usize = 600;
/// An ordinary run plays one in this many scenarios, others every day: to number the steps of all of them would take longer
/// than the plans themselves.
const ROTATION: usize = 6;
/// There are so many plans at least: fewer mean that the undisturbed runs were not numbered to their ends.
pub(crate) const ALL_AT_LEAST: usize = 22_000;
const DAY_S: u64 = 24 * 3_600;

/// Which plans are played.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    /// Every one.
    All,
    /// A part of all scenarios' plans.
    Some {
        /// How many at least: all kills around an Invoke, the rest evenly spread over all others.
        many: usize,
        /// Where the first of the others lies: with every offset others are played.
        offset: usize,
    },
    /// [`ORDINARY`] plans of one scenario in [`ROTATION`].
    Rotating {
        /// Which scenarios and plans: each scenario is played at `ROTATION` offsets in a row, each time with other plans.
        offset: usize,
    },
    /// Those with this text in their name.
    Named(String),
}

impl Choice {
    /// What the environment asks for.
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
    pub(crate) fn of_environment() -> Self {
        let offset = std::env::var("SOCKERLESS_CRASH_OFFSET").ok();
        let offset = offset.map_or_else(today, |text| text.parse().expect("SOCKERLESS_CRASH_OFFSET is a number"));
        match std::env::var("SOCKERLESS_CRASH_PLANS").as_deref() {
            Ok("all") => Self::All,
            Ok(text) => text.parse().map_or_else(|_| Self::Named(text.to_owned()), |many| Self::Some { many, offset }),
            // Without optimisation each takes several times as long.
            Err(_) if cfg!(debug_assertions) => Self::Rotating { offset },
            Err(_) => Self::All,
        }
    }

    /// Whether any plan can be chosen whose name begins so.
    pub(crate) fn may_take(&self, beginning: &str) -> bool {
        match self {
            Self::All | Self::Some { .. } | Self::Rotating { .. } => true,
            Self::Named(text) => !text.contains('/') || text.starts_with(beginning) || beginning.contains(text),
        }
    }

    /// The scenarios that are played, of all that may be taken.
    pub(crate) fn scenarios<T>(&self, all: Vec<T>) -> Vec<T> {
        match self {
            Self::Rotating { offset } => {
                let is_due = |index: usize| (index + offset).is_multiple_of(ROTATION);
                all.into_iter().enumerate().filter(|(index, _)| is_due(*index)).map(|(_, item)| item).collect()
            }
            Self::All | Self::Some { .. } | Self::Named(_) => all,
        }
    }

    /// Those of `all` that are chosen.
    pub(crate) fn of<T>(&self, all: Vec<T>, plan: impl Fn(&T) -> &Plan) -> Vec<T> {
        match self {
            Self::All => all,
            Self::Some { many, offset } => spread(all, plan, *many, *offset),
            // A scenario comes again after ROTATION offsets, and the next plans are due then.
            Self::Rotating { offset } => spread(all, plan, ORDINARY, offset / ROTATION),
            Self::Named(text) => all.into_iter().filter(|item| plan(item).to_string().contains(text)).collect(),
        }
    }

    /// What is wrong with so many plans played, of so many that there are.
    pub(crate) fn wants_more_than(&self, played: usize, all: usize) -> Option<String> {
        let least = match self {
            Self::All if all < ALL_AT_LEAST => {
                return Some(format!("there are {all} plans only, and not {ALL_AT_LEAST}"));
            }
            Self::All => all - unmet_at_most(all),
            Self::Some { many, .. } => *many,
            Self::Rotating { .. } => ORDINARY,
            Self::Named(text) if played == 0 => {
                return Some(format!("no plan that was played has {text:?} in its name"));
            }
            Self::Named(_) => 1,
        };
        (played < least).then(|| format!("{played} plans were played, and not {least}"))
    }
}

/// All kills around an Invoke, and of the others as many as make `many` together, at equal distances.
fn spread<T>(all: Vec<T>, plan: impl Fn(&T) -> &Plan, many: usize, offset: usize) -> Vec<T> {
    let (mut chosen, others): (Vec<T>, Vec<T>) = all.into_iter().partition(|item| is_always_played(plan(item)));
    // And as many more as may not come to their points.
    let wanted = (many + unmet_at_most(many)).saturating_sub(chosen.len());
    let available = others.len().max(1);
    let before = |index: usize| (index + offset) * wanted / available;
    let is_taken = |index: &usize| before(*index) != before(index + 1);
    chosen.extend(others.into_iter().enumerate().filter(|(index, _)| is_taken(index)).map(|(_, item)| item));
    chosen
}

/// Of so many plans, so many may not come to their point: in which order tasks go on at the same instant is left to chance,
/// and a call that comes first in one run may not come at all in another.
pub(crate) fn unmet_at_most(chosen: usize) -> usize {
    1 + chosen / 4_000
}

/// Whether a plan must come to its point, whatever chance does: nothing matters more than what becomes of an Invoke.
pub(crate) fn must_be_met(plan: &Plan) -> bool {
    matches!(plan.point, Point::Call(Operation::Invoke, _))
}

/// A kill around an Invoke: what everything else is there for.
fn is_always_played(plan: &Plan) -> bool {
    must_be_met(plan) && plan.kills()
}

/// A number that changes by itself, once a day, so that a failure can be played again until the next one.
#[expect(clippy::disallowed_methods, reason = "which plans are played must differ from day to day")]
fn today() -> usize {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    usize::try_from(now.as_secs() / DAY_S).unwrap_or(0)
}
