//! # State: the durable truth
//!
//! Owns the SQLite file and every word of SQL. Knows no other room: it neither judges a wish (that is the API's
//! admission) nor decides what to do about it (that is the reconciler's plan).
//!
//! Two handle types divide the writing: [`Wishes`] for the API, [`Facts`] for the reconciler. Both read through
//! [`Reader`]. Every write goes through one writer task, which commits waiting writes together (group commit): when a
//! write has returned, it survives `kill -9` and a power cut.

pub mod model;

mod handles;
mod records;

pub use handles::{Facts, Reader, Store, Watch, WishFeed, Wishes};
pub use records::{
    Cancelled, ContainerEvent, CreateRefused, Event, EventKind, FactWrite, Image, Instance, InvokePermit, Issue,
    NewContainer, Removed, Renamed, ResolveError, Sighting, Started, StateError, StoreOptions, Tombstone, Wished,
    Written,
};
