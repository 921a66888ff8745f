//! Signatures only; the bodies follow.
#![expect(clippy::todo, unused_variables, reason = "signatures first")]

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use super::model::{Container, ContainerId};
use super::records::{
    Cancelled, CreateRefused, Event, FactWrite, Image, Instance, Issue, NewContainer, Removed, Renamed, ResolveError,
    Sighting, Started, StateError, StoreOptions, Tombstone, Wished, Written,
};
use crate::clock::Timestamp;

type Result<T, E = StateError> = std::result::Result<T, E>;

/// An open store.
#[derive(Debug)]
pub struct Store;

impl Store {
    /// Opens, locks and migrates the file.
    pub async fn open(options: &StoreOptions) -> Result<Self> {
        todo!()
    }
    /// For everybody.
    pub fn reader(&self) -> Reader {
        todo!()
    }
    /// For the API.
    pub fn wishes(&self) -> Wishes {
        todo!()
    }
    /// For the reconciler.
    pub fn facts(&self) -> Facts {
        todo!()
    }
    /// Commits what waits, closes the file, gives the lock back.
    pub async fn close(self) -> Result<()> {
        todo!()
    }
}

/// Reads. "Visible" containers are those whose removal is neither wished nor recorded.
#[derive(Clone, Debug)]
pub struct Reader;

impl Reader {
    /// The container, also if it is being removed.
    pub async fn container(&self, id: &ContainerId) -> Result<Option<Container>> {
        todo!()
    }
    /// The visible container that a client means: exact id, then name (with or without slash), then unique id prefix.
    pub async fn resolve(&self, text: &str) -> Result<ContainerId, ResolveError> {
        todo!()
    }
    /// All visible containers, newest first.
    pub async fn containers(&self) -> Result<Vec<Container>> {
        todo!()
    }
    /// What is remembered of a container that was removed in the last 60 s, by exact id, name or unique id prefix.
    pub async fn tombstone(&self, text: &str, now: Timestamp) -> Result<Option<Tombstone>> {
        todo!()
    }
    /// All image references, newest first.
    pub async fn images(&self) -> Result<Vec<Image>> {
        todo!()
    }
    /// One image reference.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>> {
        todo!()
    }
    /// Events with a sequence number above `after`, oldest first, at most `limit`.
    pub async fn events(&self, after: i64, limit: u32) -> Result<Vec<Event>> {
        todo!()
    }
    /// The sequence number of the newest event; 0: none.
    pub async fn last_event(&self) -> Result<i64> {
        todo!()
    }
    /// Who this database is.
    pub async fn instance(&self) -> Result<Instance> {
        todo!()
    }
    /// Wakes after every commit that touched this container (also its removal). Costs nothing when dropped.
    pub fn watch(&self, id: ContainerId) -> Watch {
        todo!()
    }
    /// The sequence number of the newest event.
    pub fn watch_events(&self) -> watch::Receiver<i64> {
        todo!()
    }
}

/// See [`Reader::watch`]. A level, not a queue: changes between two calls are one.
#[derive(Debug)]
pub struct Watch;

impl Watch {
    /// Returns when a commit touched the container since the last call (or since the watch was made).
    pub async fn changed(&mut self) -> Result<()> {
        todo!()
    }
}

/// Writes wishes: for the API only. Each call is one durable commit, with its event.
#[derive(Clone, Debug)]
pub struct Wishes;

impl Wishes {
    /// Records a container, and its image reference if it is new.
    pub async fn create(&self, new: NewContainer) -> Result<Result<Container, CreateRefused>> {
        todo!()
    }
    /// Wants one more run.
    pub async fn start(&self, id: &ContainerId, now: Timestamp) -> Result<Started> {
        todo!()
    }
    /// Wants the current start no more.
    pub async fn cancel(&self, id: &ContainerId, now: Timestamp) -> Result<Cancelled> {
        todo!()
    }
    /// Wants the container and all that belongs to it gone; the row becomes invisible and a tombstone is kept.
    pub async fn remove(&self, id: &ContainerId, force: bool, now: Timestamp) -> Result<Removed> {
        todo!()
    }
    /// Gives it another name.
    pub async fn rename(&self, id: &ContainerId, name: &str, now: Timestamp) -> Result<Renamed> {
        todo!()
    }
    /// Records an image reference (pull, tag: `action` is the event's); keeps what is known of it.
    pub async fn put_image(&self, image: Image, action: &'static str, now: Timestamp) -> Result<()> {
        todo!()
    }
    /// Forgets an image reference (`untag`, `delete` events); `false`: there was none.
    pub async fn delete_image(&self, reference: &str, actions: &[&'static str], now: Timestamp) -> Result<bool> {
        todo!()
    }
}

/// Writes facts: for the reconciler only.
#[derive(Clone, Debug)]
pub struct Facts;

impl Facts {
    /// Replaces a container's facts if they are still at `write.revision`.
    pub async fn write(&self, write: FactWrite) -> Result<Written> {
        todo!()
    }
    /// As `write`, and only if the wish is still of `generation` and nothing is to be removed.
    pub async fn issue(&self, write: FactWrite, generation: u64) -> Result<Issue> {
        todo!()
    }
    /// Drops the row of a container that is removed and clean in AWS.
    pub async fn forget(&self, id: &ContainerId) -> Result<()> {
        todo!()
    }
    /// Every container, also those being removed.
    pub async fn all(&self) -> Result<Vec<Container>> {
        todo!()
    }
    /// When each container is due, from the index alone; those without a time are left out.
    pub async fn due(&self) -> Result<Vec<(ContainerId, Timestamp)>> {
        todo!()
    }
    /// The containers with a wish that was not planned for yet.
    pub async fn wished(&self) -> Result<Vec<ContainerId>> {
        todo!()
    }
    /// The containers whose run is still to be looked for in the log.
    pub async fn watched(&self) -> Result<Vec<Container>> {
        todo!()
    }
    /// Tells whose wishes change.
    pub fn wish_feed(&self) -> WishFeed {
        todo!()
    }
    /// How far each log group was read.
    pub async fn log_progress(&self) -> Result<BTreeMap<String, Timestamp>> {
        todo!()
    }
    /// The log group was read to here.
    pub async fn set_log_progress(&self, group: &str, read_through: Timestamp) -> Result<()> {
        todo!()
    }
    /// Functions seen without a container.
    pub async fn sightings(&self) -> Result<Vec<Sighting>> {
        todo!()
    }
    /// A complete sweep saw exactly these functions without a container; all others are no orphans any more.
    pub async fn record_sweep(&self, orphans: &BTreeSet<String>, now: Timestamp) -> Result<()> {
        todo!()
    }
    /// Roles whose functions do not write logs.
    pub async fn roles_without_logs(&self) -> Result<BTreeSet<String>> {
        todo!()
    }
    /// Whether functions of this role write logs.
    pub async fn set_role_logs(&self, role_arn: &str, logs: bool) -> Result<()> {
        todo!()
    }
    /// Begins the next epoch.
    pub async fn next_epoch(&self) -> Result<Instance> {
        todo!()
    }
    /// Takes a restored or copied database into use: the epoch is raised above `above`, time and horizon are kept.
    pub async fn adopt(&self, above: u64, now: Timestamp) -> Result<Instance> {
        todo!()
    }
    /// What an image's tag meant to Lambda.
    pub async fn set_image_digest(&self, reference: &str, digest: &str) -> Result<()> {
        todo!()
    }
}

/// See [`Facts::wish_feed`]. Bounded: what does not fit becomes [`Wished::Many`].
#[derive(Debug)]
pub struct WishFeed;

impl WishFeed {
    /// Whose wishes changed since the last call; waits for the first.
    pub async fn next(&mut self) -> Result<Wished> {
        todo!()
    }
}
