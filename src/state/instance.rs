//! Who this database is in AWS: drawn once, counted up by each start.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};

use super::records::Instance;
use super::rows::{count, maybe_time, number};
use super::writer::{Command, Tx};
use super::{Result, StateError};
use crate::clock::Timestamp;

/// Half as many random bytes as the id has digits.
const ID_BYTES: usize = 5;

/// Draws the id if the database has none yet.
pub(super) async fn ensure(connection: &mut SqliteConnection) -> Result<()> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| StateError::Corrupt(format!("no random numbers: {error}")))?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    sqlx::query("INSERT INTO instance (only_row, id) VALUES (1, ?1) ON CONFLICT DO NOTHING")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn read(pool: &SqlitePool) -> Result<Instance> {
    let row = sqlx::query("SELECT id, epoch, adopted_at, horizon FROM instance").fetch_one(pool).await?;
    instance(&row)
}

/// Begins the next epoch.
pub(super) struct NextEpoch;

impl Command for NextEpoch {
    type Output = Instance;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Instance> {
        let row = sqlx::query("UPDATE instance SET epoch = epoch + 1 RETURNING id, epoch, adopted_at, horizon")
            .fetch_one(&mut *tx.conn)
            .await?;
        instance(&row)
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

/// The first horizon stays: what the other line of this database made after it is unknown for ever. A database that
/// knew nothing has the horizon 0, before everything.
const ADOPT: &str = "UPDATE instance SET epoch = max(epoch, ?1) + 1, adopted_at = ?2, horizon = coalesce(horizon, \
    (SELECT max(at) FROM (SELECT max(at) AS at FROM event UNION ALL SELECT max(created_at) FROM container \
    UNION ALL SELECT max(started_at) FROM container UNION ALL SELECT max(read_through) FROM log_progress)), 0) \
    RETURNING id, epoch, adopted_at, horizon";

impl Command for Adopt {
    type Output = Instance;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Instance> {
        let row =
            sqlx::query(ADOPT).bind(number(self.above)).bind(self.now.as_nanos()).fetch_one(&mut *tx.conn).await?;
        instance(&row)
    }
}

fn instance(row: &SqliteRow) -> Result<Instance> {
    Ok(Instance {
        id: row.try_get("id")?,
        epoch: count(row, "epoch")?,
        adopted_at: maybe_time(row, "adopted_at")?,
        horizon: maybe_time(row, "horizon")?,
    })
}
