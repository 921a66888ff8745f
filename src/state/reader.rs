//! Reads for everybody. Each is one statement, so one consistent snapshot.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use tokio::sync::watch;

use super::changes::{Hub, Watch};
use super::model::{Container, ContainerId};
use super::quarantine::{Row, Table};
use super::records::{Event, Image, Instance, ResolveError, Tombstone};
use super::rows::{self, Meaning, Page, containers};
use super::{Result, StateError, events, images, instance, observed, tombstones};
use crate::clock::Timestamp;

/// Reads. "Visible" containers are those whose removal is neither wished nor recorded.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) pool: SqlitePool,
    pub(super) hub: Arc<Hub>,
    /// Why the database may have lost commits, found out when it was opened for reading only: it cannot be written down.
    doubt: Option<String>,
}

/// Every way in which a text can mean a visible container, best first; two beginnings are enough to be ambiguous.
/// Those that cannot be read are named in the same ways, and by their numbers if they have no id. Of two with one name, which
/// only damage can make, the one whose removal can be read is meant.
const RESOLVE: &str = "SELECT 0 AS rank, id, seq, removed IS NOT 0 AS is_damaged FROM container \
    WHERE id = ?1 AND removed IS NOT 1 \
    UNION ALL SELECT 1, id, seq, removed IS NOT 0 FROM container WHERE name = ?2 AND removed IS NOT 1 \
    UNION ALL SELECT 2, id, seq, 0 FROM \
    (SELECT id, seq FROM container WHERE id BETWEEN ?3 AND ?4 AND length(id) = 32 \
    AND removed IS NOT 1 LIMIT 2) \
    UNION ALL SELECT 3, id, seq, 0 FROM container WHERE seq = ?5 AND removed IS NOT 1 \
    AND (typeof(id) <> 'blob' OR length(id) <> 32) \
    ORDER BY rank, is_damaged";

impl Reader {
    pub(super) fn new(pool: SqlitePool, hub: Arc<Hub>, doubt: Option<String>) -> Self {
        Self { pool, hub, doubt }
    }

    /// The container, also if it is being removed.
    ///
    /// # Errors
    /// [`StateError::Unreadable`] when its row cannot be read; otherwise when the store fails.
    pub async fn container(&self, id: &ContainerId) -> Result<Option<Container>> {
        let row =
            sqlx::query(containers!("WHERE id = ?1")).bind(id.as_bytes().as_slice()).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| self.read(&row)).transpose()?)
    }

    fn read(&self, row: &SqliteRow) -> Row<Container> {
        self.hub.quarantine.read(Table::Container, row, rows::container)
    }

    /// The visible container that a client means: exact id, then name (with or without slash), then unique id prefix.
    ///
    /// # Errors
    /// When there is none, or more than one, or its id cannot be read, or the store fails.
    pub async fn resolve(&self, text: &str) -> Result<ContainerId, ResolveError> {
        let meaning = Meaning::of(text);
        let [id, first, last] = meaning.bytes();
        let query = sqlx::query(RESOLVE).bind(id).bind(meaning.name).bind(first).bind(last).bind(meaning.seq);
        let rows = query.fetch_all(&self.pool).await.map_err(StateError::from)?;
        let rank = |row: &SqliteRow| row.try_get::<i64, _>("rank").map_err(StateError::from);
        match rows.as_slice() {
            [] => Err(ResolveError::NotFound),
            [first, _, ..] if rank(first)? == 2 => Err(ResolveError::Ambiguous),
            [first, ..] => match rows::id(first) {
                Ok(id) => Ok(id),
                Err(_) => Err(self.without_id(first.try_get("seq").map_err(StateError::from)?).await?.into()),
            },
        }
    }

    /// What is wrong with a container whose id cannot be read.
    async fn without_id(&self, seq: i64) -> Result<StateError, ResolveError> {
        let row = sqlx::query(containers!("WHERE seq = ?1")).bind(seq).fetch_optional(&self.pool).await;
        match row.map_err(StateError::from)?.map(|row| self.read(&row)) {
            Some(Err(unreadable)) => Ok(unreadable.into()),
            Some(Ok(_)) | None => Err(ResolveError::NotFound),
        }
    }

    /// A page of the visible containers, newest first: those older than `below` (by [`Container::seq`]), or the newest.
    /// At most `limit`, fewer when they are large. Those that cannot be read are in it, too.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn containers(&self, below: Option<i64>, limit: u32) -> Result<Page<Container>> {
        let query = sqlx::query(containers!("WHERE removed IS NOT 1 AND seq < ?1 ORDER BY seq DESC LIMIT ?2"));
        let found = query.bind(below.unwrap_or(i64::MAX)).bind(limit).fetch(&self.pool);
        rows::page(found, (&self.hub.quarantine, Table::Container), rows::container, rows::LONG_COLUMNS).await
    }

    /// What is remembered of a container that was removed in the last 60 s, by exact id, name or unique id prefix.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tombstone(&self, text: &str, now: Timestamp) -> Result<Option<Tombstone>> {
        tombstones::find(&self.pool, &self.hub.quarantine, text, now).await
    }

    /// All image references that can be read, newest first; at most [`super::MAX_IMAGES`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn images(&self) -> Result<Vec<Image>> {
        images::all(&self.pool, &self.hub.quarantine).await
    }

    /// One image reference. One that cannot be read counts as not recorded: recording it again mends it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>> {
        images::one(&self.pool, &self.hub.quarantine, reference).await
    }

    /// Whether there is an image reference of this name that cannot be read.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_unreadable_image(&self, reference: &str) -> Result<bool> {
        images::is_unreadable(&self.pool, &self.hub.quarantine, reference).await
    }

    /// A page of the events with a sequence number above `after`, oldest first. At most `limit`, fewer when they are large.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn events(&self, after: i64, limit: u32) -> Result<Page<Event>> {
        events::read(&self.pool, &self.hub.quarantine, after, limit).await
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
    /// [`StateError::Unreadable`] when its id cannot be read or is missing; otherwise when the store fails.
    pub async fn instance(&self) -> Result<Instance> {
        let instance = instance::read(&self.pool, &self.hub.quarantine).await?;
        Ok(Instance { doubt: instance.doubt.or_else(|| self.doubt.clone()), ..instance })
    }

    /// The name after which a sweep notes functions without a container; empty: from the first one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn orphans_after(&self) -> Result<String> {
        observed::orphans_after(&self.pool).await
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
