//! What is remembered of removed containers, for clients that wait after the end.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::model::Container;
use super::model::life::{KILLED, Life, NOT_THE_PROGRAM, is_running, life};
use super::quarantine::{Quarantine, Table};
use super::records::{ContainerEvent, Tombstone};
use super::rows::{Meaning, get, id, time};
use super::writer::Tx;
use super::{Result, StateError};
use crate::clock::Timestamp;

/// So long a removed container is remembered.
pub(super) const REMEMBERED: Duration = Duration::from_secs(60);
/// So many removed containers are remembered at most.
const TOMBSTONES_KEPT: i64 = 10_000;

/// What will be remembered of a container that is removed now.
pub(super) fn of(container: &Container, at: Timestamp) -> Tombstone {
    let (exit_code, error) = match life(&container.spec, &container.status) {
        // Whoever started it has been told why it cannot start, and `docker run` waits beside its start: it would print
        // the failure twice.
        Life::Created if container.status.retry.failure.as_ref().is_some_and(|failure| failure.refuses_start(at)) => {
            (NOT_THE_PROGRAM, None)
        }
        Life::Created => (0, None),
        Life::Running { .. } | Life::Restarting(_) => (KILLED, None),
        Life::Exited(exit) => (exit.code, (exit.code == NOT_THE_PROGRAM).then_some(exit.message)),
    };
    Tombstone { id: container.id, name: container.name.clone(), exit_code, error, at }
}

/// The one tombstone that the text means; one that cannot be read counts as gone.
pub(super) async fn find(
    pool: &SqlitePool,
    quarantine: &Quarantine,
    text: &str,
    now: Timestamp,
) -> Result<Option<Tombstone>> {
    let meaning = Meaning::of(text);
    let [id, first, last] = meaning.bytes();
    let rows = sqlx::query(
        "SELECT seq, id, name, exit_code, error, at, \
         CASE WHEN id = ?1 THEN 0 WHEN name = ?2 THEN 1 ELSE 2 END AS rank FROM tombstone \
         WHERE (id = ?1 OR name = ?2 OR (id BETWEEN ?3 AND ?4 AND length(id) = 32)) AND at > ?5 ORDER BY rank, seq DESC LIMIT 2",
    )
    .bind(id)
    .bind(meaning.name)
    .bind(first)
    .bind(last)
    .bind(now.before(REMEMBERED).as_nanos())
    .fetch_all(pool)
    .await?;
    match rows.as_slice() {
        [first, _] if first.try_get::<i64, _>("rank")? == 2 => Ok(None),
        [first, ..] => Ok(quarantine.read(Table::Tombstone, first, tombstone).ok()),
        [] => Ok(None),
    }
}

/// The tombstones that cannot be read, for an audit.
pub(super) async fn audit(pool: &SqlitePool, quarantine: &Quarantine) -> Result<()> {
    let query = sqlx::query("SELECT seq, id, name, exit_code, error, at FROM tombstone");
    let mut rows = query.fetch(pool);
    while let Some(row) = rows.try_next().await? {
        // What it says is nobody's business.
        drop(quarantine.read(Table::Tombstone, &row, tombstone));
    }
    Ok(())
}

impl Tx<'_> {
    /// Records that a container is gone for every client: its tombstone and its last event.
    pub(super) async fn bury(&mut self, container: &Container, at: Timestamp) -> Result<()> {
        self.insert_tombstone(of(container, at)).await?;
        if is_running(&container.spec, &container.status) {
            // What Docker reports of a forced removal. The invocation runs on, and nothing more is reported of it.
            let killed = vec![("signal", "9".to_owned())];
            self.container_event(container, ContainerEvent { at, action: "kill", attributes: killed }).await?;
            let died = vec![("exitCode", KILLED.to_string())];
            self.container_event(container, ContainerEvent { at, action: "die", attributes: died }).await?;
        }
        self.plain_event(container, "destroy", at).await
    }

    /// Remembers a removed container, and forgets those that were removed long ago.
    pub(super) async fn insert_tombstone(&mut self, tombstone: Tombstone) -> Result<()> {
        let at = tombstone.at;
        let seq: i64 = sqlx::query_scalar(
            "INSERT INTO tombstone (id, name, exit_code, error, at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (id) DO UPDATE SET at = excluded.at RETURNING seq",
        )
        .bind(tombstone.id.as_bytes().as_slice())
        .bind(tombstone.name)
        .bind(tombstone.exit_code)
        .bind(tombstone.error)
        .bind(at.as_nanos())
        .fetch_one(&mut *self.conn)
        .await?;
        sqlx::query("DELETE FROM tombstone WHERE seq <= ?1 OR at <= ?2")
            .bind(seq.saturating_sub(TOMBSTONES_KEPT))
            .bind(at.before(REMEMBERED).as_nanos())
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }
}

fn tombstone(row: &SqliteRow) -> Result<Tombstone> {
    let exit_code: i64 = get(row, "exit_code")?;
    Ok(Tombstone {
        id: id(row)?,
        name: get(row, "name")?,
        exit_code: u8::try_from(exit_code).map_err(|_| StateError::Corrupt(format!("exit_code is {exit_code}")))?,
        error: row.try_get("error")?,
        at: time(row, "at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::model::samples::{at, config, exit, run};
    use super::super::model::{Cause, ContainerId, RunPhase, Spec, Status};
    use super::*;

    #[test]
    fn the_exit_code_is_what_wait_would_have_said() {
        for (starts, phase, code, error) in [
            (0, None, 0, None),
            (1, None, KILLED, None),
            (1, Some(RunPhase::Issued), KILLED, None),
            (1, Some(RunPhase::Exited(exit(3, Cause::Exited))), 3, None),
            (1, Some(RunPhase::Exited(exit(125, Cause::Unknown))), 125, Some("as it was")),
        ] {
            let container = Container {
                seq: 1,
                id: ContainerId::from_bytes([7; 32]),
                name: "web".to_owned(),
                created_at: at(1),
                spec: Spec { starts, ..Spec::new(config()) },
                status: Status { run: phase.map(|phase| run(1, phase)), ..Status::default() },
                due_at: None,
                revision: 0,
            };
            let tombstone = of(&container, at(9));
            assert_eq!((tombstone.exit_code, tombstone.error.as_deref()), (code, error), "{container:?}");
        }
    }
}
