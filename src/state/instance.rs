//! Who this database is in AWS: drawn once, counted up by each start.
//!
//! An epoch, an adoption, a horizon or a binding that cannot be read is a doubt, as lost commits are: the database serves reads and
//! changes nothing in AWS until it is adopted. Without an id there is nothing to adopt: no name of a function can be made.

use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};

use super::binding::binding;
use super::mark::Count;
use super::quarantine::{Quarantine, Table};
use super::records::Instance;
use super::rows::{count, flag, get, json_integer, maybe_time, number};
use super::writer::{Command, Tx};
use super::{Result, StateError};
use crate::clock::Timestamp;

/// Half as many random bytes as the id has digits.
const ID_BYTES: usize = 5;

/// The highest epoch: what an INTEGER column holds. No daemon gets there by counting its starts.
pub(crate) const MAX_EPOCH: u64 = i64::MAX.unsigned_abs();

/// Draws the id if the database is new. Then the file itself holds it, and not only its log. A database that has been used
/// and has lost its id gets no other: its functions would be strangers.
pub(super) async fn ensure(connection: &mut SqliteConnection) -> Result<()> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| StateError::Corrupt(format!("no random numbers: {error}")))?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let drawn = sqlx::query(ENSURE).bind(id).execute(&mut *connection).await?;
    if drawn.rows_affected() > 0 {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await?;
    }
    Ok(())
}

const ENSURE: &str = "INSERT INTO instance (only_row, id) SELECT 1, ?1 WHERE NOT EXISTS (SELECT 1 FROM instance) \
    AND NOT EXISTS (SELECT 1 FROM container) AND NOT EXISTS (SELECT 1 FROM event)";

/// What the database says of its commits. What cannot be read counts as none, not closed: that raises a doubt.
pub(super) async fn count_commits(connection: &mut SqliteConnection) -> Result<Count> {
    let row = sqlx::query("SELECT id, commits, closed FROM instance").fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(Count { id: String::new(), commits: 0, closed: false }) };
    Ok(Count {
        id: get(&row, "id").unwrap_or_default(),
        commits: count(&row, "commits").unwrap_or_default(),
        closed: flag(&row, "closed").unwrap_or_default(),
    })
}

/// The next number of a commit: from 1 again if the last one cannot be read, which the mark shows.
macro_rules! next_commit {
    () => {
        "CASE WHEN typeof(commits) = 'integer' AND commits BETWEEN 0 AND 9007199254740992 THEN commits + 1 ELSE 1 END"
    };
}

/// Takes the database into use, and keeps a doubt for good. Gives the number of this commit.
pub(super) async fn take_up(connection: &mut SqliteConnection, doubt: Option<&str>) -> Result<u64> {
    let row = sqlx::query(concat!(
        "UPDATE instance SET commits = ",
        next_commit!(),
        ", closed = 0, doubt = coalesce(doubt, ?1) RETURNING commits"
    ))
    .bind(doubt)
    .fetch_optional(connection)
    .await?;
    row.map_or(Ok(0), |row| count(&row, "commits"))
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
    let row = sqlx::query(concat!(
        "UPDATE instance SET commits = ",
        next_commit!(),
        " WHERE total_changes() > ?1 RETURNING commits, total_changes()"
    ))
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
    let row = sqlx::query(concat!("UPDATE instance SET commits = ", next_commit!(), ", closed = 1 RETURNING commits"))
        .fetch_optional(connection)
        .await?;
    row.map_or(Ok(0), |row| count(&row, "commits"))
}

/// What [`instance`] reads.
macro_rules! columns {
    () => {
        "id, epoch, adopted_at, horizon, doubt, function_prefix, region, account, claims_log_group"
    };
}

const ROW: &str = concat!("SELECT only_row, ", columns!(), " FROM instance");

pub(super) async fn read(pool: &SqlitePool, quarantine: &Quarantine) -> Result<Instance> {
    let row = sqlx::query(ROW);
    match row.fetch_optional(pool).await? {
        Some(row) => {
            let strictly = quarantine.read(Table::Instance, &row, strict);
            instance(&row).map_err(|error| strictly.err().map_or(error, StateError::from))
        }
        None => Err(missing()),
    }
}

/// Takes note of a row that cannot be read.
pub(super) async fn audit(pool: &SqlitePool, quarantine: &Quarantine) -> Result<()> {
    match read(pool, quarantine).await {
        Err(StateError::Database(error)) => Err(error.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn missing() -> StateError {
    StateError::Corrupt(
        "the row with the instance's id is missing; restore it, or the database, from a backup".to_owned(),
    )
}

impl Tx<'_> {
    /// The time of a start that is wanted now: later than the adoption, though the clock was set back since. Starts that are
    /// not later than it are from before it, and are not run.
    pub(super) async fn after_adoption(&mut self, now: Timestamp) -> Result<Timestamp> {
        let row = sqlx::query("SELECT adopted_at FROM instance").fetch_optional(&mut *self.conn).await?;
        // One that cannot be read is a doubt: nothing runs before the next adoption, and then this start is from before it.
        let adopted_at = row.and_then(|row| maybe_time(&row, "adopted_at").ok().flatten());
        Ok(adopted_at.map_or(now, |adopted_at| now.max(adopted_at.after(Duration::from_nanos(1)))))
    }
}

/// Begins the next epoch.
pub(super) struct NextEpoch;

impl Command for NextEpoch {
    type Output = Instance;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Instance> {
        let next = concat!("UPDATE instance SET epoch = epoch + 1 WHERE epoch < ?1 RETURNING ", columns!());
        let row = sqlx::query(next).bind(number("epoch", MAX_EPOCH)?).fetch_optional(&mut *tx.conn).await?;
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
/// the horizon 0, before everything, and so has one whose horizon cannot be read: then no function is ever an orphan. A time after the adoption was not known: it is
/// damage, or comes from a clock that was ahead.
const ADOPT: &str = concat!(
    "UPDATE instance SET \
    epoch = max(CASE WHEN typeof(epoch) = 'integer' THEN epoch ELSE 0 END, ?1) + 1, adopted_at = ?2, doubt = NULL, \
    horizon = CASE typeof(horizon) WHEN 'integer' THEN horizon WHEN 'null' THEN \
    coalesce((SELECT max(at) FROM (SELECT ",
    json_integer!("status", "$.create_sent_at"),
    " AS at FROM container UNION ALL SELECT read_through FROM log_progress WHERE typeof(read_through) = 'integer') \
    WHERE at <= ?2), 0) ELSE 0 END \
    WHERE max(CASE WHEN typeof(epoch) = 'integer' THEN epoch ELSE 0 END, ?1) < ?3 \
    RETURNING ",
    columns!()
);

/// A start of before the adoption is known by its time, and the clock of the machine that took it may be ahead of this
/// one's: then the time is put right.
const STARTED_BEFORE: &str = "UPDATE container SET started_at = ?1 WHERE started_at > ?1";

impl Command for Adopt {
    type Output = Instance;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Instance> {
        sqlx::query(STARTED_BEFORE).bind(self.now.as_nanos()).execute(&mut *tx.conn).await?;
        let adopt = sqlx::query(ADOPT)
            .bind(number("epoch", self.above.min(MAX_EPOCH))?)
            .bind(self.now.as_nanos())
            .bind(number("epoch", MAX_EPOCH)?);
        let row = adopt.fetch_optional(&mut *tx.conn).await?;
        instance(&row.ok_or_else(no_epoch_left)?)
    }
}

/// The row is missing, or its epoch is the highest there is.
fn no_epoch_left() -> StateError {
    StateError::Corrupt(format!("the row of the instance is missing, or its epoch is at its end, {MAX_EPOCH}"))
}

/// All that can be read; what cannot is a doubt.
fn instance(row: &SqliteRow) -> Result<Instance> {
    let unreadable = |what: &str| Some(format!("its {what} cannot be read"));
    let (epoch, adopted_at) = (count(row, "epoch"), maybe_time(row, "adopted_at"));
    let (horizon, doubt) = (maybe_time(row, "horizon"), row.try_get::<Option<String>, _>("doubt"));
    let damage = [
        epoch.is_err().then_some("epoch"),
        adopted_at.is_err().then_some("adoption"),
        horizon.is_err().then_some("horizon"),
        doubt.is_err().then_some("doubt"),
        binding(row).is_err().then_some("binding"),
    ];
    let damage = damage.into_iter().flatten().next().and_then(unreadable);
    Ok(Instance {
        id: id(row)?,
        epoch: epoch.unwrap_or_default(),
        adopted_at: adopted_at.unwrap_or_default(),
        horizon: horizon.unwrap_or(Some(Timestamp::default())),
        doubt: doubt.unwrap_or_default().or(damage),
    })
}

/// As `instance`, and everything must be readable.
fn strict(row: &SqliteRow) -> Result<()> {
    id(row)?;
    count(row, "epoch")?;
    maybe_time(row, "adopted_at")?;
    maybe_time(row, "horizon")?;
    row.try_get::<Option<String>, _>("doubt")?;
    binding(row)?;
    Ok(())
}

fn id(row: &SqliteRow) -> Result<String> {
    let id: String = get(row, "id")?;
    let is_id = id.len() == 2 * ID_BYTES && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if is_id { Ok(id) } else { Err(StateError::Corrupt("id: it is not 10 hexadecimal digits".to_owned())) }
}
