//! Reads for everybody. Each is one statement, so one consistent snapshot.

use std::sync::Arc;

use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use tokio::sync::watch;

use super::changes::{Hub, Watch};
use super::model::{Container, ContainerId};
use super::records::{Event, Image, Instance, ResolveError, Tombstone};
use super::rows::{self, Meaning, containers};
use super::{Result, events, images, instance, tombstones};
use crate::clock::Timestamp;

/// Reads. "Visible" containers are those whose removal is neither wished nor recorded.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: SqlitePool,
    hub: Arc<Hub>,
    /// Why the database may have lost commits, found out when it was opened for reading only: it cannot be written down.
    doubt: Option<String>,
}

/// Every way in which a text can mean a visible container, best first; two beginnings are enough to be ambiguous.
const RESOLVE: &str = "SELECT 0 AS rank, id FROM container WHERE id = ?1 AND removed = 0 \
    UNION ALL SELECT 1, id FROM container WHERE name = ?2 AND removed = 0 \
    UNION ALL SELECT 2, id FROM (SELECT id FROM container WHERE id BETWEEN ?3 AND ?4 AND removed = 0 LIMIT 2) \
    ORDER BY rank";

impl Reader {
    pub(super) fn new(pool: SqlitePool, hub: Arc<Hub>, doubt: Option<String>) -> Self {
        Self { pool, hub, doubt }
    }

    /// The container, also if it is being removed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn container(&self, id: &ContainerId) -> Result<Option<Container>> {
        let row =
            sqlx::query(containers!("WHERE id = ?1")).bind(id.as_bytes().as_slice()).fetch_optional(&self.pool).await?;
        row.as_ref().map(rows::container).transpose()
    }

    /// The visible container that a client means: exact id, then name (with or without slash), then unique id prefix.
    ///
    /// # Errors
    /// When there is none, or more than one, or the store fails.
    pub async fn resolve(&self, text: &str) -> Result<ContainerId, ResolveError> {
        let meaning = Meaning::of(text);
        let [id, first, last] = meaning.bytes();
        let rows = sqlx::query(RESOLVE).bind(id).bind(meaning.name).bind(first).bind(last).fetch_all(&self.pool).await;
        let rank = |row: &SqliteRow| row.try_get::<i64, _>("rank").map_err(super::StateError::from);
        match rows.map_err(super::StateError::from)?.as_slice() {
            [] => Err(ResolveError::NotFound),
            [first, _, ..] if rank(first)? == 2 => Err(ResolveError::Ambiguous),
            [first, ..] => Ok(rows::id(first)?),
        }
    }

    /// A page of the visible containers, newest first: those older than `below` (by [`Container::seq`]), or the newest.
    /// At most `limit`, fewer when they are large; empty: there are no more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn containers(&self, below: Option<i64>, limit: u32) -> Result<Vec<Container>> {
        let query = sqlx::query(containers!("WHERE removed = 0 AND seq < ?1 ORDER BY seq DESC LIMIT ?2"));
        let found = query.bind(below.unwrap_or(i64::MAX)).bind(limit).fetch(&self.pool);
        rows::page(found, rows::container, rows::LONG_COLUMNS).await
    }

    /// The newest visible containers, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn latest(&self, limit: u32) -> Result<Vec<Container>> {
        let query = sqlx::query(containers!("WHERE removed = 0 ORDER BY seq DESC LIMIT ?1"));
        let rows = query.bind(limit).fetch_all(&self.pool).await?;
        rows.iter().map(rows::container).collect()
    }

    /// What is remembered of a container that was removed in the last 60 s, by exact id, name or unique id prefix.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tombstone(&self, text: &str, now: Timestamp) -> Result<Option<Tombstone>> {
        tombstones::find(&self.pool, text, now).await
    }

    /// All image references, newest first; at most [`super::MAX_IMAGES`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn images(&self) -> Result<Vec<Image>> {
        images::all(&self.pool).await
    }

    /// One image reference.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>> {
        images::one(&self.pool, reference).await
    }

    /// A page of the events with a sequence number above `after`, oldest first. At most `limit`, fewer when they are large;
    /// empty: there are no more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn events(&self, after: i64, limit: u32) -> Result<Vec<Event>> {
        events::read(&self.pool, after, limit).await
    }

    /// The sequence number of the newest event; 0: none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_event(&self) -> Result<i64> {
        events::last(&self.pool).await
    }

    /// Who this database is.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn instance(&self) -> Result<Instance> {
        let instance = instance::read(&self.pool).await?;
        Ok(Instance { doubt: instance.doubt.or_else(|| self.doubt.clone()), ..instance })
    }

    /// Wakes after every commit that touched this container (also its removal). Costs nothing when dropped.
    #[must_use]
    pub fn watch(&self, id: ContainerId) -> Watch {
        self.hub.watch(id)
    }

    /// The sequence number of the newest event. Its sender is gone when the store is closed.
    #[must_use]
    pub fn watch_events(&self) -> watch::Receiver<i64> {
        self.hub.watch_events()
    }
}
