//! Who this database is in AWS: drawn once, counted up by each start.

use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};

use super::mark::Count;
use super::records::Instance;
use super::rows::{count, maybe_time, number};
use super::writer::{Command, Tx};
use super::{Result, StateError};
use crate::clock::Timestamp;

/// Half as many random bytes as the id has digits.
const ID_BYTES: usize = 5;

/// The highest epoch: what an INTEGER column holds. No daemon gets there by counting its starts.
pub(crate) const MAX_EPOCH: u64 = i64::MAX.unsigned_abs();

/// Draws the id if the database has none yet. Then the file itself holds it, and not only its log.
pub(super) async fn ensure(connection: &mut SqliteConnection) -> Result<()> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| StateError::Corrupt(format!("no random numbers: {error}")))?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let drawn = sqlx::query("INSERT INTO instance (only_row, id) VALUES (1, ?1) ON CONFLICT DO NOTHING")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    if drawn.rows_affected() > 0 {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await?;
    }
    Ok(())
}

/// What the database says of its commits.
pub(super) async fn count_commits(connection: &mut SqliteConnection) -> Result<Count> {
    let row = sqlx::query("SELECT id, commits, closed FROM instance").fetch_one(connection).await?;
    Ok(Count { id: row.try_get("id")?, commits: count(&row, "commits")?, closed: row.try_get("closed")? })
}

/// Takes the database into use, and keeps a doubt for good. Gives the number of this commit.
pub(super) async fn take_up(connection: &mut SqliteConnection, doubt: Option<&str>) -> Result<u64> {
    let row = sqlx::query(
        "UPDATE instance SET commits = commits + 1, closed = 0, doubt = coalesce(doubt, ?1) RETURNING commits",
    )
    .bind(doubt)
    .fetch_one(connection)
    .await?;
    count(&row, "commits")
}

/// What a connection had written when it last counted a commit; the default is before everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written(i64);

impl Default for Written {
    fn default() -> Self {
        Self(-1)
    }
}

/// Counts one more commit if the connection has written anything since. Gives its number.
pub(super) async fn count_commit(
    connection: &mut SqliteConnection,
    since: &mut Written,
) -> Result<Option<u64>, sqlx::Error> {
    let row = sqlx::query(
        "UPDATE instance SET commits = commits + 1 WHERE total_changes() > ?1 RETURNING commits, total_changes()",
    )
    .bind(since.0)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    // The total does not have this statement in it yet.
    let (number, total): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    *since = Written(total.saturating_add(1));
    Ok(u64::try_from(number).ok())
}

/// Nothing more will be written. Gives the number of this commit.
pub(super) async fn close(connection: &mut SqliteConnection) -> Result<u64> {
    let row = sqlx::query("UPDATE instance SET commits = commits + 1, closed = 1 RETURNING commits")
        .fetch_one(connection)
        .await?;
    count(&row, "commits")
}

pub(super) async fn read(pool: &SqlitePool) -> Result<Instance> {
    let row = sqlx::query("SELECT id, epoch, adopted_at, horizon, doubt FROM instance").fetch_one(pool).await?;
    instance(&row)
}

impl Tx<'_> {
    /// The time of a start that is wanted now: later than the adoption, though the clock was set back since. Starts that are
    /// not later than it are from before it, and are not run.
    pub(super) async fn after_adoption(&mut self, now: Timestamp) -> Result<Timestamp> {
        let row = sqlx::query("SELECT adopted_at FROM instance").fetch_one(&mut *self.conn).await?;
        let adopted_at = maybe_time(&row, "adopted_at")?;
        Ok(adopted_at.map_or(now, |adopted_at| now.max(adopted_at.after(Duration::from_nanos(1)))))
    }
}

/// Begins the next epoch.
pub(super) struct NextEpoch;

impl Command for NextEpoch {
    type Output = Instance;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Instance> {
        let next =
            "UPDATE instance SET epoch = epoch + 1 WHERE epoch < ?1 RETURNING id, epoch, adopted_at, horizon, doubt";
        let row = sqlx::query(next).bind(number(MAX_EPOCH)).fetch_optional(&mut *tx.conn).await?;
        instance(&row.ok_or_else(no_epoch_left)?)
    }
}

/// The epoch that was begun last belongs to another daemon.
pub(super) struct GiveEpochBack;

impl Command for GiveEpochBack {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        sqlx::query("UPDATE instance SET epoch = epoch - 1 WHERE epoch > 0").execute(&mut *tx.conn).await?;
        Ok(())
    }
}

/// Takes a restored or copied database into use.
pub(super) struct Adopt {
    pub(super) above: u64,
    pub(super) now: Timestamp,
}

/// The horizon is the last time of which it is known that this database had the claim then: a function was about to be
/// made, or the log was read. What users wish says nothing of it, as wishes are taken without the claim, too. The first
/// horizon stays: what the other line of this database made after it is unknown for ever. A database that knew nothing has
/// the horizon 0, before everything.
const ADOPT: &str = "UPDATE instance SET epoch = max(epoch, ?1) + 1, adopted_at = ?2, doubt = NULL, horizon = coalesce(horizon, \
    (SELECT max(at) FROM (SELECT max(json_extract(status, '$.create_sent_at')) AS at FROM container \
    UNION ALL SELECT max(read_through) FROM log_progress)), 0) \
    WHERE max(epoch, ?1) < ?3 RETURNING id, epoch, adopted_at, horizon, doubt";

/// A start of before the adoption is known by its time, and the clock of the machine that took it may be ahead of this
/// one's: then the time is put right.
const STARTED_BEFORE: &str = "UPDATE container SET started_at = ?1 WHERE started_at > ?1";

impl Command for Adopt {
    type Output = Instance;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Instance> {
        sqlx::query(STARTED_BEFORE).bind(self.now.as_nanos()).execute(&mut *tx.conn).await?;
        let adopt = sqlx::query(ADOPT).bind(number(self.above)).bind(self.now.as_nanos()).bind(number(MAX_EPOCH));
        let row = adopt.fetch_optional(&mut *tx.conn).await?;
        instance(&row.ok_or_else(no_epoch_left)?)
    }
}

fn no_epoch_left() -> StateError {
    StateError::Corrupt(format!("the epoch is at its end, {MAX_EPOCH}"))
}

fn instance(row: &SqliteRow) -> Result<Instance> {
    Ok(Instance {
        id: row.try_get("id")?,
        epoch: count(row, "epoch")?,
        adopted_at: maybe_time(row, "adopted_at")?,
        horizon: maybe_time(row, "horizon")?,
        doubt: row.try_get("doubt")?,
    })
}
