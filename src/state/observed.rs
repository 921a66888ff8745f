//! Facts about AWS that belong to no single container: how far logs are read, orphans seen, roles without logs.
//!
//! What is found out anew by itself is dropped when it cannot be read: a log is read again then, and a role is given the benefit
//! of the doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::quarantine::{Quarantine, Table};
use super::records::{OrphanLook, Sighting};
use super::rows::{get, time, to_json};
use super::writer::{Command, Tx};
use super::{Result, file};
use crate::clock::Timestamp;

pub(super) async fn log_progress(pool: &SqlitePool, quarantine: &Quarantine) -> Result<BTreeMap<String, Timestamp>> {
    let rows = sqlx::query("SELECT log_group, read_through FROM log_progress").fetch_all(pool).await?;
    Ok(quarantine.readable(Table::LogProgress, &rows, progress).into_iter().collect())
}

pub(super) async fn sightings(pool: &SqlitePool, quarantine: &Quarantine) -> Result<Vec<Sighting>> {
    let rows =
        sqlx::query("SELECT function_name, first_seen, last_seen, times, look FROM sighting ORDER BY function_name")
            .fetch_all(pool)
            .await?;
    Ok(quarantine.readable(Table::Sighting, &rows, sighting))
}

/// The name after which a sweep notes functions without a container. One that cannot be read is the beginning.
pub(super) async fn orphans_after(pool: &SqlitePool) -> Result<String> {
    let row = sqlx::query("SELECT orphans_after FROM instance").fetch_optional(pool).await?;
    Ok(row.and_then(|row| get(&row, "orphans_after").ok()).unwrap_or_default())
}

pub(super) async fn roles_without_logs(pool: &SqlitePool, quarantine: &Quarantine) -> Result<BTreeSet<String>> {
    let rows = sqlx::query("SELECT role_arn FROM role_without_logs").fetch_all(pool).await?;
    Ok(quarantine.readable(Table::RoleWithoutLogs, &rows, role).into_iter().collect())
}

/// The roles whose functions do not write logs, by the database in this file, without opening a store: a daemon may be using
/// it.
///
/// # Errors
/// As opening the store to read.
pub async fn recorded_roles_without_logs(path: &Path) -> Result<BTreeSet<String>> {
    if !file::check(path).await? {
        return Ok(BTreeSet::new());
    }
    let mut connection = file::connect_to_look(path).await?;
    let rows = sqlx::query("SELECT role_arn FROM role_without_logs").fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok(rows.iter().filter_map(|row| role(row).ok()).collect())
}

/// The log group was read to here.
pub(super) struct SetLogProgress {
    pub(super) group: String,
    pub(super) read_through: Timestamp,
}

impl Command for SetLogProgress {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        sqlx::query(
            "INSERT INTO log_progress (log_group, read_through) VALUES (?1, ?2) \
             ON CONFLICT (log_group) DO UPDATE SET read_through = excluded.read_through",
        )
        .bind(self.group)
        .bind(self.read_through.as_nanos())
        .execute(&mut *tx.conn)
        .await?;
        Ok(())
    }
}

/// A sighting of the future was made before the clock was set back: how long ago is unknown, so it counts as none.
const SEEN_AGAIN: &str = "INSERT INTO sighting (function_name, first_seen, last_seen, times) VALUES (?1, ?2, ?2, 1) \
    ON CONFLICT (function_name) DO UPDATE SET last_seen = excluded.last_seen, \
    first_seen = iif(max(first_seen, last_seen) > excluded.last_seen, excluded.first_seen, first_seen), \
    times = iif(max(first_seen, last_seen) > excluded.last_seen, 1, min(times + 1, ?3))";
/// A sighting that cannot be read counts from now on anew: its function is deleted later, never earlier.
const FORGET_UNREADABLE: &str = "DELETE FROM sighting WHERE function_name = ?1 AND NOT (typeof(first_seen) = 'integer' \
    AND typeof(last_seen) = 'integer' AND typeof(times) = 'integer' AND times BETWEEN 0 AND ?2)";

/// A complete sweep saw exactly these functions without a container.
pub(super) struct RecordSweep {
    pub(super) orphans: BTreeSet<String>,
    pub(super) now: Timestamp,
}

impl Command for RecordSweep {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        sqlx::query("DELETE FROM sighting WHERE function_name NOT IN (SELECT value FROM json_each(?1))")
            .bind(to_json("orphans", &self.orphans)?)
            .execute(&mut *tx.conn)
            .await?;
        for orphan in &self.orphans {
            sqlx::query(FORGET_UNREADABLE).bind(orphan).bind(u32::MAX).execute(&mut *tx.conn).await?;
            let seen = sqlx::query(SEEN_AGAIN).bind(orphan).bind(self.now.as_nanos()).bind(u32::MAX);
            seen.execute(&mut *tx.conn).await?;
        }
        Ok(())
    }
}

/// These functions without a container were looked at.
pub(super) struct RecordLooks {
    pub(super) looks: Vec<(String, OrphanLook)>,
    /// Where the next sweep begins; `None`: where this one did.
    pub(super) orphans_after: Option<String>,
}

impl Command for RecordLooks {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        for (name, look) in &self.looks {
            let noted = sqlx::query("UPDATE sighting SET look = ?2 WHERE function_name = ?1").bind(name);
            noted.bind(to_json("look", look)?).execute(&mut *tx.conn).await?;
        }
        if let Some(place) = self.orphans_after {
            sqlx::query("UPDATE instance SET orphans_after = ?1").bind(place).execute(&mut *tx.conn).await?;
        }
        Ok(())
    }
}

/// Whether functions of this role write logs.
pub(super) struct SetRoleLogs {
    pub(super) role_arn: String,
    pub(super) logs: bool,
}

impl Command for SetRoleLogs {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        let statement = if self.logs {
            "DELETE FROM role_without_logs WHERE role_arn = ?1"
        } else {
            "INSERT INTO role_without_logs (role_arn) VALUES (?1) ON CONFLICT DO NOTHING"
        };
        sqlx::query(statement).bind(self.role_arn).execute(&mut *tx.conn).await?;
        Ok(())
    }
}

/// Drops the rows that cannot be read of what is found out anew by itself.
pub(super) struct DropUnreadable;

/// With the bytes and the type of the key, which may be anything.
const PROGRESS: &str =
    "SELECT log_group, read_through, CAST(log_group AS BLOB) AS key, typeof(log_group) AS type FROM log_progress";
const ROLES: &str = "SELECT role_arn, CAST(role_arn AS BLOB) AS key, typeof(role_arn) AS type FROM role_without_logs";

impl Command for DropUnreadable {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        let of_progress = "DELETE FROM log_progress WHERE CAST(log_group AS BLOB) IS ?1 AND typeof(log_group) = ?2";
        let rows = sqlx::query(PROGRESS).fetch_all(&mut *tx.conn).await?;
        tx.drop_unreadable(Table::LogProgress, &rows, |row| progress(row).map(drop), of_progress).await?;
        let of_role = "DELETE FROM role_without_logs WHERE CAST(role_arn AS BLOB) IS ?1 AND typeof(role_arn) = ?2";
        let rows = sqlx::query(ROLES).fetch_all(&mut *tx.conn).await?;
        tx.drop_unreadable(Table::RoleWithoutLogs, &rows, |row| role(row).map(drop), of_role).await
    }
}

impl Tx<'_> {
    async fn drop_unreadable(
        &mut self,
        table: Table,
        rows: &[SqliteRow],
        read: impl Fn(&SqliteRow) -> Result<()>,
        delete: &'static str,
    ) -> Result<()> {
        for row in rows {
            let Err(unreadable) = self.quarantine.read(table, row, &read) else { continue };
            let key: Option<&[u8]> = row.try_get("key")?;
            sqlx::query(delete).bind(key).bind(row.try_get::<&str, _>("type")?).execute(&mut *self.conn).await?;
            tracing::warn!(table = table.name(), row = unreadable.key, "a row that cannot be read is dropped");
            self.changes.unreadable_gone(table, unreadable.key);
        }
        Ok(())
    }
}

fn progress(row: &SqliteRow) -> Result<(String, Timestamp)> {
    Ok((get(row, "log_group")?, time(row, "read_through")?))
}

fn role(row: &SqliteRow) -> Result<String> {
    get(row, "role_arn")
}

fn sighting(row: &SqliteRow) -> Result<Sighting> {
    Ok(Sighting {
        function_name: get(row, "function_name")?,
        first_seen: time(row, "first_seen")?,
        last_seen: time(row, "last_seen")?,
        times: get(row, "times")?,
        // One that cannot be read counts as none: the function is looked at again.
        look: get(row, "look").ok().and_then(|look: String| serde_json::from_str(&look).ok()),
    })
}
