//! Facts about AWS that belong to no single container: how far logs are read, orphans seen, roles without logs.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::Result;
use super::records::Sighting;
use super::rows::time;
use super::writer::{Command, Tx};
use crate::clock::Timestamp;

pub(super) async fn log_progress(pool: &SqlitePool) -> Result<BTreeMap<String, Timestamp>> {
    let rows = sqlx::query("SELECT log_group, read_through FROM log_progress").fetch_all(pool).await?;
    rows.iter().map(|row| Ok((row.try_get("log_group")?, time(row, "read_through")?))).collect()
}

pub(super) async fn sightings(pool: &SqlitePool) -> Result<Vec<Sighting>> {
    let rows = sqlx::query("SELECT function_name, first_seen, last_seen, times FROM sighting ORDER BY function_name")
        .fetch_all(pool)
        .await?;
    rows.iter().map(sighting).collect()
}

pub(super) async fn roles_without_logs(pool: &SqlitePool) -> Result<BTreeSet<String>> {
    let roles = sqlx::query_scalar("SELECT role_arn FROM role_without_logs").fetch_all(pool).await?;
    Ok(roles.into_iter().collect())
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
    times = iif(max(first_seen, last_seen) > excluded.last_seen, 1, times + 1)";

/// A complete sweep saw exactly these functions without a container.
pub(super) struct RecordSweep {
    pub(super) orphans: BTreeSet<String>,
    pub(super) now: Timestamp,
}

impl Command for RecordSweep {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        let known: Vec<String> =
            sqlx::query_scalar("SELECT function_name FROM sighting").fetch_all(&mut *tx.conn).await?;
        for gone in known.iter().filter(|name| !self.orphans.contains(*name)) {
            sqlx::query("DELETE FROM sighting WHERE function_name = ?1").bind(gone).execute(&mut *tx.conn).await?;
        }
        for orphan in &self.orphans {
            sqlx::query(SEEN_AGAIN).bind(orphan).bind(self.now.as_nanos()).execute(&mut *tx.conn).await?;
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

fn sighting(row: &SqliteRow) -> Result<Sighting> {
    Ok(Sighting {
        function_name: row.try_get("function_name")?,
        first_seen: time(row, "first_seen")?,
        last_seen: time(row, "last_seen")?,
        times: row.try_get("times")?,
    })
}
