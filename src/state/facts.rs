//! Facts: what the reconciler may write, and the reads that only it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::sqlite::SqlitePool;

use super::admit;
use super::binding::{self, Bind, Binding, Mend};
use super::changes::{Hub, WishFeed};
use super::images::SetImageDigest;
use super::instance::{self, Adopt, GiveEpochBack, NextEpoch};
use super::model::life::{is_running, unsettled_run};
use super::model::{Container, ContainerId};
use super::observed::{self, RecordLooks, RecordSweep, SetLogProgress, SetRoleLogs};
use super::quarantine::Table;
use super::records::{FactWrite, Instance, InvokePermit, Issue, OrphanLook, Sighting, Written};
use super::rows::{self, Page, containers, nanos, number, to_json};
use super::salvage::Replace;
use super::writer::{Command, Commands, Tx};
use super::{Result, StateError};
use crate::clock::Timestamp;
use crate::traces::Cause;

/// Answered by the index `container_due` alone.
macro_rules! due_sql {
    () => {
        "SELECT id, due_at FROM container WHERE due_at IS NOT NULL ORDER BY due_at"
    };
}

/// Answered by the index `container_wished` alone.
macro_rules! wished_sql {
    () => {
        "SELECT id FROM container WHERE generation > observed_generation ORDER BY id"
    };
}

/// What the informer needs of a container: without what only its program is given, which can be megabytes. Found by the
/// index `container_watched`.
macro_rules! watched_sql {
    () => {
        "SELECT seq, id, name, created_at, generation, starts, started_at, cancelled, cancelled_at, remove_at, \
         CASE WHEN json_valid(config) THEN json_set(config, '$.env', json('[]'), '$.cmd', NULL, '$.entrypoint', NULL, \
         '$.labels', json('{}'), '$.docker_config', NULL, '$.docker_host_config', NULL, '$.function.payload', NULL) \
         ELSE config END AS config, revision, status, due_at, observed_generation, watched, removed \
         FROM container WHERE watched = 1 ORDER BY seq"
    };
}

/// Writes facts: for the reconciler only.
#[derive(Clone, Debug)]
pub struct Facts {
    commands: Commands,
    pub(super) pool: SqlitePool,
    hub: Arc<Hub>,
}

impl Facts {
    pub(super) fn new(commands: Commands, pool: SqlitePool, hub: Arc<Hub>) -> Self {
        Self { commands, pool, hub }
    }

    /// Replaces a container's facts if they are still at `write.revision`.
    ///
    /// Facts that remove the container by themselves for the first time are also stale when a wish came that they do
    /// not know: a start that was acknowledged is never swallowed. They leave a tombstone and the event `destroy`.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn write(&self, write: FactWrite) -> Result<Written> {
        self.commands.run(Write(write)).await
    }

    /// As `write`, and only if the wish is still of `generation`, nothing is to be removed, and no other run is
    /// unsettled.
    ///
    /// # Errors
    /// When the store fails, or `write` has no issued run; nothing is recorded then.
    pub async fn issue(&self, write: FactWrite, generation: u64) -> Result<Issue> {
        self.commands.run(IssueRun { write, generation }).await
    }

    /// Drops the row of a container that is removed and clean in AWS.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn forget(&self, id: &ContainerId) -> Result<()> {
        self.commands.run(Forget(*id)).await?;
        self.hub.causes.forget(id);
        Ok(())
    }

    /// Replaces what cannot be read of a container that is being removed by the least that can, so that its function can
    /// be found and deleted.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn replace_unreadable(&self, id: &ContainerId, now: Timestamp) -> Result<()> {
        self.commands.run(Replace { id: *id, now }).await
    }

    /// The request that the wish of this generation came from, for the traces. `None`: it was not traced, or another
    /// process has recorded it.
    pub(crate) fn cause(&self, id: &ContainerId, generation: u64) -> Option<Cause> {
        self.hub.causes.of(id, generation)
    }

    /// A page of all containers, also those being removed and those that cannot be read, oldest first: those after
    /// `after` (by [`Container::seq`]). At most `limit`, fewer when they are large.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn containers(&self, after: i64, limit: u32) -> Result<Page<Container>> {
        let query = sqlx::query(containers!("WHERE seq > ?1 ORDER BY seq LIMIT ?2"));
        let found = query.bind(after).bind(limit).fetch(&self.pool);
        rows::page(found, (&self.hub.quarantine, Table::Container), rows::container, rows::LONG_COLUMNS).await
    }

    /// When each container is due, earliest first, from the index alone; those without a time are left out. One whose time
    /// cannot be read is due.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn due(&self) -> Result<Vec<(ContainerId, Timestamp)>> {
        let rows = sqlx::query(due_sql!()).fetch_all(&self.pool).await?;
        let due = |row| Some((rows::id(row).ok()?, rows::time(row, "due_at").unwrap_or_default()));
        Ok(rows.iter().filter_map(due).collect())
    }

    /// The containers with a wish that was not planned for yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn wished(&self) -> Result<Vec<ContainerId>> {
        let rows = sqlx::query(wished_sql!()).fetch_all(&self.pool).await?;
        Ok(rows.iter().filter_map(|row| rows::id(row).ok()).collect())
    }

    /// The containers whose run is still to be looked for in the log, without command, environment, labels, payload and
    /// what only `inspect` shows.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn watched(&self) -> Result<Vec<Container>> {
        let rows = sqlx::query(watched_sql!()).fetch_all(&self.pool).await?;
        Ok(self.hub.quarantine.readable(Table::Container, &rows, rows::container))
    }

    /// Whether no read and no write is under way in this store, anybody's: for tests, which let time pass only then.
    #[must_use]
    pub fn are_idle(&self) -> bool {
        let connections = usize::try_from(self.pool.size()).unwrap_or(usize::MAX);
        self.commands.are_idle() && self.pool.num_idle() == connections
    }

    /// Tells whose wishes change.
    #[must_use]
    pub fn wish_feed(&self) -> WishFeed {
        self.hub.wish_feed()
    }

    /// How far each log group was read.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn log_progress(&self) -> Result<BTreeMap<String, Timestamp>> {
        observed::log_progress(&self.pool, &self.hub.quarantine).await
    }

    /// The log group was read to here.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn set_log_progress(&self, group: &str, read_through: Timestamp) -> Result<()> {
        self.commands.run(SetLogProgress { group: group.to_owned(), read_through }).await
    }

    /// Functions seen without a container.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sightings(&self) -> Result<Vec<Sighting>> {
        observed::sightings(&self.pool, &self.hub.quarantine).await
    }

    /// A complete sweep saw exactly these functions without a container; all others are no orphans any more.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn record_sweep(&self, orphans: &BTreeSet<String>, now: Timestamp) -> Result<()> {
        self.commands.run(RecordSweep { orphans: orphans.clone(), now }).await
    }

    /// Looks at functions without a container, and where the next sweep begins if not where the last one did.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn record_looks(&self, looks: Vec<(String, OrphanLook)>, orphans_after: Option<String>) -> Result<()> {
        self.commands.run(RecordLooks { looks, orphans_after }).await
    }

    /// Roles whose functions do not write logs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn roles_without_logs(&self) -> Result<BTreeSet<String>> {
        observed::roles_without_logs(&self.pool, &self.hub.quarantine).await
    }

    /// Whether functions of this role write logs.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn set_role_logs(&self, role_arn: &str, logs: bool) -> Result<()> {
        self.commands.run(SetRoleLogs { role_arn: role_arn.to_owned(), logs }).await
    }

    /// Who this database is.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn instance(&self) -> Result<Instance> {
        instance::read(&self.pool, &self.hub.quarantine).await
    }

    /// Where in AWS the functions and claims of this database are; `None`: not bound yet.
    ///
    /// # Errors
    /// When a part of it cannot be read, or the store fails.
    pub async fn binding(&self) -> Result<Option<Binding>> {
        binding::read(&self.pool).await
    }

    /// What the database is bound to; what cannot be read of that, or all if it is not bound yet, is as in `other`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn readable_binding(&self, other: &Binding) -> Result<Binding> {
        binding::as_far_as_readable(&self.pool, other.clone()).await
    }

    /// Writes parts of this binding in the place of those that cannot be read. Returns what the database is bound to.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn mend_binding(&self, binding: Binding) -> Result<Binding> {
        self.commands.run(Mend(binding)).await
    }

    /// Binds the database if it is not bound yet. Returns what it is bound to, which is never changed.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn bind(&self, binding: Binding) -> Result<Binding> {
        self.commands.run(Bind(binding)).await
    }

    /// The epoch that was begun last belongs to another daemon: it does not count.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn give_epoch_back(&self) -> Result<()> {
        self.commands.run(GiveEpochBack).await
    }

    /// Begins the next epoch.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn next_epoch(&self) -> Result<Instance> {
        self.commands.run(NextEpoch).await
    }

    /// Takes a restored or copied database into use: the epoch is raised above `above`, time and horizon are kept.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn adopt(&self, above: u64, now: Timestamp) -> Result<Instance> {
        self.commands.run(Adopt { above, now }).await
    }

    /// What an image's tag meant to Lambda.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn set_image_digest(&self, reference: &str, digest: &str) -> Result<()> {
        self.commands.run(SetImageDigest { reference: reference.to_owned(), digest: digest.to_owned() }).await
    }
}

struct Write(FactWrite);

impl Command for Write {
    type Output = Written;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Written> {
        let Self(write) = self;
        let Some(container) = tx.container(&write.id).await? else { return Ok(Written::Gone) };
        if !admit::facts(&container, &write) {
            return Ok(Written::Stale);
        }
        tx.save_facts(container, write).await.map(Written::At)
    }
}

struct IssueRun {
    write: FactWrite,
    generation: u64,
}

impl Command for IssueRun {
    type Output = Issue;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Issue> {
        let Self { write, generation } = self;
        let Some(run_no) = unsettled_run(&write.status).filter(|run| run.issued.is_some()).map(|run| run.no) else {
            return Err(StateError::Misuse("an intent to invoke without an issued run"));
        };
        let Some(container) = tx.container(&write.id).await? else { return Ok(Issue::Gone) };
        if !admit::issue(&container, &write, generation) {
            return Ok(Issue::Stale);
        }
        let id = container.id;
        let revision = tx.save_facts(container, write).await?;
        Ok(Issue::Granted(InvokePermit { id, run_no }, revision))
    }
}

struct Forget(ContainerId);

impl Command for Forget {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        let deleted = sqlx::query("DELETE FROM container WHERE id = ?1 AND removed = 1")
            .bind(self.0.as_bytes().as_slice())
            .execute(&mut *tx.conn)
            .await?
            .rows_affected();
        if deleted > 0 {
            tx.changes.touch(self.0);
        }
        Ok(())
    }
}

fn at_its_end(counter: &str) -> StateError {
    StateError::Unstorable(format!("{counter} cannot be counted any further"))
}

impl Tx<'_> {
    /// Writes the facts with all that follows from them; gives the new revision.
    async fn save_facts(&mut self, mut container: Container, write: FactWrite) -> Result<i64> {
        let was_removed = container.is_removed();
        container.status = write.status;
        container.status.bound();
        container.revision = container.revision.checked_add(1).ok_or_else(|| at_its_end("revision"))?;
        sqlx::query(
            "UPDATE container SET revision = ?2, status = ?3, observed_generation = ?4, due_at = ?5, watched = ?6, \
             removed = max(removed, ?7), running = ?8 WHERE seq = ?1",
        )
        .bind(container.seq)
        .bind(container.revision)
        .bind(to_json("status", &container.status)?)
        .bind(number("observed_generation", container.status.observed_generation)?)
        .bind(nanos(write.due_at))
        .bind(write.watched)
        .bind(container.is_removed())
        .bind(is_running(&container.spec, &container.status))
        .execute(&mut *self.conn)
        .await?;
        for event in write.events.into_iter().filter(|_| !was_removed) {
            self.container_event(&container, event).await?;
        }
        if let (false, Some(at)) = (was_removed, container.status.auto_removed) {
            self.bury(&container, at).await?;
        }
        self.changes.touch(container.id);
        Ok(container.revision)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::state::{Store, StoreOptions};

    const ROWS: i64 = 20_000;

    async fn plan(pool: &SqlitePool, explain: &'static str) -> String {
        let rows = sqlx::query(explain).fetch_all(pool).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("; ")
    }

    #[tokio::test]
    async fn the_queue_is_rebuilt_from_indexes_alone() {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions { path: directory.path().join("state.db"), read_only: false };
        let store = Store::open(&options).await.unwrap();
        let writable = sqlx::sqlite::SqliteConnectOptions::new().filename(&options.path);
        let writing = SqlitePool::connect_with(writable).await.unwrap();
        sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
             INSERT INTO container (id, name, created_at, generation, starts, cancelled, config, revision, status, \
             observed_generation, due_at) SELECT unhex(printf('%064x', i)), 'c' || i, i, 1, 0, 0, '{}', 0, '{}', \
             i % 2, CASE WHEN i % 4 = 0 THEN ?1 - i END FROM n",
        )
        .bind(ROWS)
        .execute(&writing)
        .await
        .unwrap();
        writing.close().await;

        let facts = store.facts();
        let due = facts.due().await.unwrap();
        assert_eq!(due.len(), usize::try_from(ROWS / 4).unwrap());
        assert!(due.is_sorted_by_key(|(_, at)| *at));
        assert_eq!(facts.wished().await.unwrap().len(), usize::try_from(ROWS / 2).unwrap());

        for (explain, index) in [
            (concat!("EXPLAIN QUERY PLAN ", due_sql!()), "COVERING INDEX container_due"),
            (concat!("EXPLAIN QUERY PLAN ", wished_sql!()), "COVERING INDEX container_wished"),
            (concat!("EXPLAIN QUERY PLAN ", watched_sql!()), "INDEX container_watched"),
        ] {
            let plan = plan(&facts.pool, explain).await;
            assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{plan}");
        }
        store.close().await.unwrap();
    }
}
