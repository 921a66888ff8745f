//! Removing containers whose rows cannot be read.
//!
//! # Expected flow
//! The row is replaced by the least that can be read: its id, the number of its function, a removal. The ordinary plan then
//! looks for the function, checks that it is ours, deletes it and drops the row.
//!
//! # Guarantees
//! - Nothing is invoked: the new row is removed in the same commit.
//! - The function counts as possibly there until AWS has said twice, a minute apart, that it is not.
//! - A function that is to be kept is not deleted, as far as its policy can still be made out.
//!
//! # Caveats
//! - A row without an id is dropped at once. Its function has no row then, and the sweep deletes it as an orphan.

use serde_json::Value;
use sqlx::sqlite::SqliteRow;

use super::model::life::NOT_THE_PROGRAM;
use super::model::{Container, ContainerConfig, ContainerId, DeletionPolicy, Known, Spec, Status};
use super::quarantine::{Table, Unreadable, bytes};
use super::records::{EventKind, Removed, Tombstone};
use super::rows::{self, containers, count, get, maybe_time, nanos, number, to_json};
use super::writer::{Command, Tx};
use super::{Result, StateError};
use crate::clock::Timestamp;

/// A generation or revision beyond this is damage: no container gets there by counting.
const MAX_COUNT: i64 = 1 << 53;

/// The error of a removed container, as `wait` reports it.
const WHY: &str = "outcome unknown: the container's record could not be read";

/// Replaces what cannot be read of a container that is being removed.
pub(super) struct Replace {
    pub(super) id: ContainerId,
    pub(super) now: Timestamp,
}

impl Command for Replace {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        match tx.container(&self.id).await {
            Err(StateError::Unreadable(row)) if row.removed => tx.replace(&row, self.now).await,
            other => other.map(drop),
        }
    }
}

/// Drops the row of a container whose id cannot be read.
pub(super) struct RemoveUnidentified {
    pub(super) seq: i64,
    pub(super) now: Timestamp,
}

impl Command for RemoveUnidentified {
    type Output = Removed;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Removed> {
        let query = sqlx::query(containers!("WHERE seq = ?1 AND removed IS NOT 1"));
        let Some(found) = query.bind(self.seq).fetch_optional(&mut *tx.conn).await? else {
            return Ok(Removed::NotFound);
        };
        let Err(row) = tx.quarantine.read(Table::Container, &found, rows::container) else {
            return Ok(Removed::NotFound);
        };
        if row.id.is_some() {
            return Ok(Removed::NotFound);
        }
        if deletion_policy(&text(&found, "config")) == DeletionPolicy::Retain {
            return Ok(Removed::Unidentified);
        }
        sqlx::query("DELETE FROM container WHERE seq = ?1").bind(self.seq).execute(&mut *tx.conn).await?;
        tx.changes.unreadable_gone(row.table, row.key.clone());
        tx.destroyed(&row, self.now).await?;
        Ok(Removed::Recorded)
    }
}

impl Tx<'_> {
    /// Puts the least that can be read, and a removal, in the place of a container with an id.
    pub(super) async fn replace(&mut self, row: &Unreadable, at: Timestamp) -> Result<()> {
        let Some(id) = row.id else { return Err(row.clone().into()) };
        let found = sqlx::query(containers!("WHERE seq = ?1")).bind(row.seq).fetch_one(&mut *self.conn).await?;
        let container = least(row, &found, at);
        self.overwrite(&container).await?;
        if !row.removed {
            let error = Some(WHY.to_owned());
            let name = container.name.clone();
            self.insert_tombstone(Tombstone { id, name, exit_code: NOT_THE_PROGRAM, error, at }).await?;
            self.destroyed(row, at).await?;
        }
        tracing::warn!(
            container = %id,
            reason = row.reason,
            incarnation = container.status.incarnation,
            "a container that cannot be read is being removed"
        );
        self.changes.unreadable_gone(row.table, row.key.clone());
        self.changes.wish(id);
        Ok(())
    }

    /// Writes every column of a container's row.
    async fn overwrite(&mut self, container: &Container) -> Result<()> {
        let Container { seq, name, created_at, spec, status, revision, due_at, .. } = container;
        sqlx::query(
            "UPDATE container SET name = ?2, created_at = ?3, generation = ?4, starts = ?5, started_at = NULL, \
             cancelled = 0, cancelled_at = NULL, remove_at = ?6, config = ?7, revision = ?8, status = ?9, \
             observed_generation = ?10, due_at = ?11, watched = 0, removed = 1, running = 0, \
             image_reference = '' WHERE seq = ?1",
        )
        .bind(seq)
        .bind(name)
        .bind(created_at.as_nanos())
        .bind(number("generation", spec.generation)?)
        .bind(number("starts", spec.starts)?)
        .bind(nanos(spec.remove))
        .bind(to_json("config", &spec.config)?)
        .bind(revision)
        .bind(to_json("status", status)?)
        .bind(number("observed_generation", status.observed_generation)?)
        .bind(nanos(*due_at))
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// Records the last event of a container that cannot be read.
    async fn destroyed(&mut self, row: &Unreadable, at: Timestamp) -> Result<()> {
        let attributes = [("name".to_owned(), row.handle()), ("error".to_owned(), WHY.to_owned())].into();
        self.insert_event(at, EventKind::Container, "destroy", &row.shown_id(), &attributes).await
    }
}

/// A removed container with what can be read of this one.
fn least(row: &Unreadable, found: &SqliteRow, at: Timestamp) -> Container {
    let (config, status) = (text(found, "config"), text(found, "status"));
    let counted = |column| get::<i64>(found, column).ok().filter(|count| (0..MAX_COUNT).contains(count));
    let generation = count(found, "generation").ok().filter(|_| counted("generation").is_some()).unwrap_or(0);
    let remove = maybe_time(found, "remove_at").ok().flatten().unwrap_or(at);
    let placeholder = row.placeholder();
    Container {
        created_at: row.created_at.unwrap_or(at),
        spec: Spec {
            generation: generation + 1,
            remove: Some(remove),
            ..Spec::new(ContainerConfig::unknown(deletion_policy(&config)))
        },
        status: Status {
            incarnation: incarnation(&status),
            function: Known::Maybe,
            // A create may be under way: until it must have ended, "not found" proves nothing.
            create_sent_at: Some(at),
            ..Status::default()
        },
        due_at: Some(at),
        revision: counted("revision").unwrap_or(0) + 1,
        ..placeholder
    }
}

fn text(row: &SqliteRow, column: &str) -> String {
    String::from_utf8_lossy(bytes(row, column)).into_owned()
}

/// What becomes of the function, going by a config that cannot be read. PURE, as the rest.
fn deletion_policy(config: &str) -> DeletionPolicy {
    let read = serde_json::from_str::<Value>(config).ok();
    let read = read.as_ref().and_then(|config| config.pointer("/function/deletion_policy")).and_then(Value::as_str);
    match read {
        Some(policy) if policy != "retain" => DeletionPolicy::Delete,
        None if !config.contains("\"deletion_policy\":\"retain\"") => DeletionPolicy::Delete,
        Some(_) | None => DeletionPolicy::Retain,
    }
}

/// How many functions the container has had before, going by a status that cannot be read.
fn incarnation(status: &str) -> u32 {
    let read = serde_json::from_str::<Value>(status).ok();
    let read = read.as_ref().and_then(|status| status.get("incarnation")).and_then(Value::as_u64);
    let scan = || {
        // A quote inside a string is escaped, so nothing else looks like this field.
        let (_, rest) = status.split_once("\"incarnation\":")?;
        rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    };
    read.or_else(scan).and_then(|incarnation| u32::try_from(incarnation).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_status_still_names_its_function() {
        for (status, expected) in [
            (r#"{"incarnation":3,"run":7}"#, 3),
            (r#"{"observed_generation":1,"incarnation":3,"fun"#, 3),
            (r#"{"message":"\"incarnation\":9","incarnation":3,"#, 3),
            (r#"{"incarnation":-1}"#, 0),
            (r#"{"incarnation":4294967296}"#, 0),
            ("", 0),
        ] {
            assert_eq!(incarnation(status), expected, "{status}");
        }
    }

    #[test]
    fn a_function_that_is_to_be_kept_is_kept_as_far_as_can_be_made_out() {
        for (config, expected) in [
            (r#"{"function":{"deletion_policy":"retain"},"tty":7}"#, DeletionPolicy::Retain),
            (r#"{"tty":7,"function":{"deletion_policy":"retain","un"#, DeletionPolicy::Retain),
            (
                r#"{"labels":{"deletion_policy":"retain"},"function":{"deletion_policy":"delete"}}"#,
                DeletionPolicy::Delete,
            ),
            ("", DeletionPolicy::Delete),
        ] {
            assert_eq!(deletion_policy(config), expected, "{config}");
        }
    }
}
