//! What goes in and out of the store beside containers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::file::words;
use super::model::{ContainerConfig, ContainerId, Failure, Status};
use super::quarantine::Unreadable;
use crate::clock::Timestamp;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The SQLite file; made if missing, its directory too.
    pub path: PathBuf,
    /// Change nothing and take no lock: for plans beside a live daemon. The schema must be current already.
    pub read_only: bool,
}

/// A container to be created.
#[derive(Clone, Debug)]
pub struct NewContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its name without the slash.
    pub name: String,
    /// When.
    pub at: Timestamp,
    /// What is wanted.
    pub config: ContainerConfig,
}

/// Why a container was not created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateRefused {
    /// Another container has the name.
    NameInUse {
        /// That container.
        by: ContainerId,
    },
    /// There are [`super::MAX_CONTAINERS`].
    Full,
}

/// What a start did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// The wish is recorded.
    Recorded,
    /// It is running already; nothing changed.
    AlreadyRunning,
    /// The last attempt failed for a parameter that only a new container can change; nothing changed.
    Refused(Failure),
    /// No such container.
    NotFound,
}

/// What a stop or kill did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// The start had not been issued: it is not wanted any more.
    Recorded,
    /// The run was issued: Lambda cannot stop it. It is not followed by another one, and not issued again if Lambda
    /// turns out to have refused it.
    Issued,
    /// It is not running; nothing changed.
    NotRunning,
    /// No such container.
    NotFound,
}

/// What a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The wish is recorded.
    Recorded,
    /// It is running, and force was not given; nothing changed.
    Running,
    /// Its id cannot be read, and its function is to be kept: without the id it cannot be released. Nothing changed.
    Unidentified,
    /// No such container.
    NotFound,
}

/// What a rename did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// Done.
    Recorded,
    /// Another container has the name.
    NameInUse {
        /// That container.
        by: ContainerId,
    },
    /// No such container.
    NotFound,
}

/// Why a name, id or prefix means no container.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Nothing matches.
    #[error("no container matches")]
    NotFound,
    /// Several ids begin like this.
    #[error("several containers match")]
    Ambiguous,
    /// The store failed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What is remembered of a removed container for a minute, for clients that wait after the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The container.
    pub id: ContainerId,
    /// Its last name.
    pub name: String,
    /// The exit code of its last run; 0 if it never ran.
    pub exit_code: u8,
    /// The error of its last run, as `wait` says it.
    pub error: Option<String>,
    /// When it was removed.
    pub at: Timestamp,
}

/// Who this database is in AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// 10 hexadecimal digits, drawn when the database was made.
    pub id: String,
    /// Counts the starts of a daemon on it.
    pub epoch: u64,
    /// When it was last adopted after its claim was lost.
    pub adopted_at: Option<Timestamp>,
    /// The time of the newest thing that the database knew when it was adopted for the first time.
    pub horizon: Option<Timestamp>,
    /// Why the database may have lost commits: it counts as a restored backup until it is adopted.
    pub doubt: Option<String>,
}

/// An image reference that a client has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The normalised reference with its tag, such as `docker.io/library/alpine:latest`.
    pub reference: String,
    /// The image's id as Docker shows it; the same for all its tags.
    pub id: String,
    /// When it was first named.
    pub created_at: Timestamp,
    /// The digest that Lambda resolved, when it is known.
    pub digest: Option<String>,
}

/// An image reference that is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRemoval {
    /// The normalised reference.
    pub reference: String,
    /// Its image has no other reference: the image is deleted with it.
    pub is_last: bool,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A container.
    Container,
    /// An image.
    Image,
}

/// An event, as Docker's clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts up.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// What it is about.
    pub kind: EventKind,
    /// `create`, `start`, `die`, …
    pub action: String,
    /// The container's id or the image's reference.
    pub actor_id: String,
    /// Docker's attributes: image, name, the labels, and the action's own.
    pub attributes: BTreeMap<String, String>,
}

/// An event of a container that goes with a write of facts. The store adds image, name and labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    /// When.
    pub at: Timestamp,
    /// `die`, `destroy`, …
    pub action: &'static str,
    /// The action's own attributes, such as `exitCode`.
    pub attributes: Vec<(&'static str, String)>,
}

/// A write of facts, made from a revision that must still be the latest.
#[derive(Clone, Debug)]
pub struct FactWrite {
    /// The container.
    pub id: ContainerId,
    /// The revision that `status` was made from.
    pub revision: i64,
    /// The new facts.
    pub status: Status,
    /// When the container is to be looked at again; `None`: only when something happens.
    pub due_at: Option<Timestamp>,
    /// Lines of its run are still to be looked for in the log.
    pub watched: bool,
    /// Events that follow from the facts.
    pub events: Vec<ContainerEvent>,
}

/// What became of a write of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Committed; the new revision.
    At(i64),
    /// Another write came first: read again, think again.
    Stale,
    /// The container is gone.
    Gone,
}

/// What became of the intent to invoke.
#[derive(Debug)]
pub enum Issue {
    /// Committed: this is the only permit there will ever be for this run.
    Granted(InvokePermit, i64),
    /// A wish changed meanwhile, or another write of facts came first: read again, think again.
    Stale,
    /// The container is gone.
    Gone,
}

/// Leave to invoke one run once. Made by the commit of its intent only, and used up by the call.
#[derive(Debug)]
pub struct InvokePermit {
    pub(super) id: ContainerId,
    pub(super) run_no: u64,
}

impl InvokePermit {
    /// The container.
    #[must_use]
    pub fn container(&self) -> ContainerId {
        self.id
    }

    /// The run's number.
    #[must_use]
    pub fn run_no(&self) -> u64 {
        self.run_no
    }
}

/// A function that was seen in AWS without a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The function.
    pub function_name: String,
    /// When it was first seen so.
    pub first_seen: Timestamp,
    /// When it was last seen so.
    pub last_seen: Timestamp,
    /// By how many sweeps.
    pub times: u32,
    /// The last look at it.
    pub look: Option<OrphanLook>,
}

/// The last look at a function without a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanLook {
    /// When.
    pub at: Timestamp,
    /// What it came to.
    pub came_to: CameTo,
}

/// What a look at a function without a container came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CameTo {
    /// It is not there, or was deleted; the next sweep does not list it, or lists it from an old list.
    Gone,
    /// The same, and it had come to that before: it is listed all the same, or made again each time.
    GoneAgain,
    /// It is kept, for this reason.
    Kept(String),
    /// It could not be looked at or deleted, for this kind of reason.
    Failed(String),
}

/// Whose wishes have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wished {
    /// These.
    Some(Vec<ContainerId>),
    /// More than were counted: ask [`super::Facts::wished`].
    Many,
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory or file cannot be used.
    #[error("cannot use the database {path}: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The system's words, and what to do.
        reason: String,
    },
    /// Another daemon has it.
    #[error("the database {path} is in use by another daemon")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer daemon.
    #[error("the database {path} has schema version {found}; this daemon knows versions up to {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Our newest.
        known: i64,
    },
    /// Something in the database cannot be understood.
    #[error("the database holds something that cannot be read: {0}")]
    Corrupt(String),
    /// A row cannot be read; the others can.
    #[error("{0}")]
    Unreadable(Box<Unreadable>),
    /// What was to be written could not be read again; nothing is recorded.
    #[error("this cannot be stored: {0}")]
    Unstorable(String),
    /// SQLite failed.
    #[error("the database failed: {}", words(.0))]
    Database(#[source] sqlx::Error),
    /// The commit failed that the write was part of.
    #[error("the database cannot be written: {}", words(.0))]
    NotCommitted(#[source] Arc<sqlx::Error>),
    /// The store was opened for reading only.
    #[error("the database is open for reading only")]
    ReadOnly,
    /// The caller asked for something that makes no sense: a mistake in the daemon.
    #[error("a wrong request of the database: {0}")]
    Misuse(&'static str),
    /// The store is closed.
    #[error("the database is closed")]
    Closed,
}

impl StateError {
    /// Whether it is the fault of one row or of one value, and the store goes on with all others.
    #[must_use]
    pub fn concerns_one_row(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::Unstorable(_))
    }
}

impl From<Unreadable> for StateError {
    fn from(row: Unreadable) -> Self {
        Self::Unreadable(Box::new(row))
    }
}

impl From<sqlx::Error> for StateError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolClosed => Self::Closed,
            other => Self::Database(other),
        }
    }
}

/// When a [`CommitHook`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPoint {
    /// Everything is written; nothing is durable, nobody knows.
    Before,
    /// It is durable; nobody knows.
    After,
}

/// Called by the writer around each commit, which waits for it: a test can end the daemon there.
pub type CommitHook = Arc<dyn Fn(CommitPoint) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use super::InvokePermit;

    struct Probe<T>(PhantomData<T>);

    /// Found first, for what can be copied.
    impl<T: Clone> Probe<T> {
        fn can_be_copied(&self) -> bool {
            true
        }
    }

    trait Otherwise {
        fn can_be_copied(&self) -> bool {
            false
        }
    }

    impl<T> Otherwise for Probe<T> {}

    #[test]
    fn a_permit_cannot_be_copied() {
        assert!(Probe::<u8>(PhantomData).can_be_copied(), "the probe works");
        assert!(!Probe::<InvokePermit>(PhantomData).can_be_copied());
    }
}
