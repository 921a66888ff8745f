//! What a scenario is made of: what users, operators and AWS do, in which order.

use sockerless_lambda::state::model::InvocationKind;
use sockerless_sandbox::faults::Faults;

use super::programs::Plot;

/// A container and its programs.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) name: &'static str,
    /// How long each run takes, in milliseconds, and how it ends.
    pub(crate) runs: Vec<(u32, Plot)>,
    pub(crate) timeout_s: u32,
    pub(crate) image: &'static str,
    pub(crate) auto_remove: bool,
    /// How often a start that has failed is run again.
    pub(crate) restarts: u32,
    /// A start whose outcome is unknown is run again.
    pub(crate) rerun: bool,
    /// Its function is kept when it is removed.
    pub(crate) retained: bool,
    /// Behind a Lambda runtime of its own, without the bootstrap.
    pub(crate) native: bool,
    /// `None`: the plan's.
    pub(crate) invocation: Option<InvocationKind>,
}

impl Job {
    pub(crate) fn new(name: &'static str, ms: u32, plot: Plot) -> Self {
        Self {
            name,
            runs: vec![(ms, plot)],
            timeout_s: 10,
            image: "host:latest",
            auto_remove: false,
            restarts: 0,
            rerun: false,
            retained: false,
            native: false,
            invocation: None,
        }
    }

    /// So many runs one start has, at most.
    pub(crate) fn most_runs(&self) -> u64 {
        1 + u64::from(self.restarts)
    }
}

/// A daemon's place: its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Site {
    /// The daemon that users talk to.
    Main,
    /// A copy of its database, elsewhere.
    Copy,
}

/// What somebody does with a function of ours behind the daemon's back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ByHand {
    /// Gives the container's function other settings.
    Change(&'static str),
    /// Deletes the container's function.
    Delete(&'static str),
    /// Makes a function with all our marks that belongs to no container.
    MakeOrphan,
    /// Makes a function whose name begins as ours do, without our tags.
    ImitateUs,
    /// Takes the name of the container's function for one that is not ours.
    TakeName(&'static str),
}

/// Something that is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// The container has exited, or is gone.
    Exited(&'static str),
    /// The container's function exists, or was refused for good, or the container has exited.
    Made(&'static str),
    /// An invocation of the container's function is running, or the container has exited.
    Running(&'static str),
    /// What the container needs was refused, and is not tried again.
    Failed(&'static str),
    /// Nothing is left of the container in the database.
    Gone(&'static str),
    /// The container's function is as wanted again.
    Mended(&'static str),
    /// The orphan is gone.
    OrphanGone,
    /// It is known that the container's role writes no logs, or the container never ran.
    LogsMissing(&'static str),
    /// Nothing is left to do.
    Settled,
    /// The daemon has listed the functions, so it has claimed its database.
    Claimed(Site),
    /// The daemon knows that its database belongs to another one.
    Lost(Site),
}

/// One thing after the other.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A user's wishes.
    Create(Job),
    Start(&'static str),
    Stop(&'static str),
    Remove {
        name: &'static str,
        force: bool,
    },
    Prune,
    /// Waits, for hours if need be.
    Await(Until),
    /// Lets so many milliseconds pass.
    Pass(i64),
    ByHand(ByHand),
    /// The machine stands still for so many milliseconds.
    Down(i64),
    /// An operator keeps a copy of the database as it is now.
    BackUp,
    /// An operator puts the kept copy in the place of the database.
    Restore,
    /// An operator starts the daemon once more, with `--adopt`.
    Adopt,
    /// An operator starts a daemon on the kept copy.
    StartCopy,
}

/// A story without disturbance.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) acts: Vec<Act>,
    /// What AWS is like.
    pub(crate) faults: Faults,
    /// The daemon's clock is so far before AWS's, in milliseconds.
    pub(crate) skew_ms: i64,
    /// How long a function is pending, in milliseconds.
    pub(crate) pending_ms: i64,
    /// Nobody can read in the log in time how a run has ended.
    pub(crate) logs_withheld: bool,
    /// The first start of the daemon is disturbed too: it is the same everywhere, so one scenario is enough.
    pub(crate) from_the_first_start: bool,
}

impl Scenario {
    pub(crate) fn new(name: &'static str, acts: Vec<Act>) -> Self {
        let faults = Faults::default();
        Self { name, acts, faults, skew_ms: 0, pending_ms: 600, logs_withheld: false, from_the_first_start: false }
    }
}
