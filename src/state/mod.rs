//! # State: the durable truth
//!
//! Owns the SQLite file and every word of SQL. Knows no other room: it neither judges a wish (that is the API's
//! admission) nor decides what to do about it (that is the reconciler's plan).
//!
//! Two handle types divide the writing: [`Wishes`] for the API, [`Facts`] for the reconciler. Both read through
//! [`Reader`]. Every write goes through one writer task, which commits waiting writes together (group commit): when a
//! write has returned, it survives `kill -9` and a power cut, and whoever watches has been woken.

pub mod model;

pub(crate) mod admit;
mod binding;
mod causes;
mod changes;
mod events;
mod facts;
mod file;
mod images;
mod instance;
mod mark;
mod observed;
mod projections;
mod pulse;
mod quarantine;
mod reader;
mod records;
mod rows;
mod salvage;
mod store;
mod tombstones;
mod wishes;
mod writer;

pub use binding::{Binding, bound_to};
pub use changes::{Watch, WishFeed};
pub use facts::Facts;
#[cfg(test)]
pub(crate) use file::execute;
pub use file::{DatabaseSeen, inspect};
pub(crate) use instance::MAX_EPOCH;
pub use observed::recorded_roles_without_logs;
pub use projections::{
    Counts, FunctionOwner, FunctionPresence, FunctionSpec, ImageGroup, ImagePage, ImagePlace, Listed, Presences,
};
pub use pulse::Pulse;
pub use quarantine::{Row, Table, Unreadable};
pub use reader::Reader;
pub use records::{
    CameTo, Cancelled, CommitHook, CommitPoint, ContainerEvent, CreateRefused, Event, EventKind, FactWrite, Image,
    ImageRemoval, Instance, InvokePermit, Issue, NewContainer, OrphanLook, Removed, Renamed, ResolveError, Sighting,
    Started, StateError, StoreOptions, Tombstone, Wished, Written,
};
pub use rows::Page;
pub use store::Store;
pub use wishes::Wishes;

/// Containers that the store holds at most, those being removed included.
pub const MAX_CONTAINERS: i64 = 100_000;
/// Image references that the store holds at most.
pub const MAX_IMAGES: i64 = 10_000;
/// Removals that one commit takes at most: others wait for it, some tens of milliseconds.
pub const MAX_BATCH: usize = 100;

type Result<T, E = StateError> = std::result::Result<T, E>;
