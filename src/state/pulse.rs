//! How the writer is doing: for those who watch that the daemon makes progress.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::sqlite::SqlitePool;

use super::changes::Hub;
use super::images::DropUnnamed;
use super::observed::DropUnreadable;
use super::quarantine::Table;
use super::writer::{Command, Commands, Tx};
use super::{Facts, Reader, Result, StateError, instance, tombstones};
use crate::clock::Stopwatch;

/// Rows that an audit reads at once.
const AUDIT_PAGE: u32 = 500;

/// What the writer says of itself. Cloning gives the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Work(Arc<Mutex<Option<Stopwatch>>>);

impl Work {
    /// A batch is taken up.
    pub(super) fn begin(&self) {
        *self.lock() = Some(Stopwatch::start());
    }

    /// It is committed, or has failed.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Stopwatch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Feels the writer's pulse.
#[derive(Clone, Debug)]
pub struct Pulse {
    work: Work,
    commands: Commands,
    pool: SqlitePool,
    hub: Arc<Hub>,
}

impl Pulse {
    pub(super) fn new(work: Work, commands: Commands, pool: SqlitePool, hub: Arc<Hub>) -> Self {
        Self { work, commands, pool, hub }
    }

    /// Reads every row of every table, so that rows that cannot be read are found although nobody asks for them, and those
    /// that are gone are forgotten. Holds no more than a page at a time.
    ///
    /// Of the rows that cannot be read, those are dropped that are found out anew by themselves, and image references without a
    /// readable name, which nobody could ask for.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn audit(&self) -> Result<()> {
        let Self { pool, hub, .. } = self;
        let quarantine = &hub.quarantine;
        let facts = Facts::new(self.commands.clone(), pool.clone(), Arc::clone(hub));
        let reader = Reader::new(pool.clone(), Arc::clone(hub), None);
        quarantine.begin_audit();
        for table in Table::ALL {
            match table {
                Table::Container => {
                    let mut after = Some(i64::MIN);
                    while let Some(place) = after {
                        after = facts.containers(place, AUDIT_PAGE).await?.next;
                    }
                }
                Table::Event => {
                    let mut after = Some(i64::MIN);
                    while let Some(place) = after {
                        after = reader.events(place, AUDIT_PAGE).await?.next;
                    }
                }
                Table::Tombstone => tombstones::audit(pool, quarantine).await?,
                Table::Image => {
                    reader.images().await?;
                    self.mend(table, DropUnnamed).await?;
                }
                Table::LogProgress => {
                    facts.log_progress().await?;
                    self.mend(table, DropUnreadable).await?;
                }
                Table::Sighting => drop(facts.sightings().await?),
                Table::RoleWithoutLogs => {
                    facts.roles_without_logs().await?;
                    self.mend(table, DropUnreadable).await?;
                }
                Table::Instance => instance::audit(pool, quarantine).await?,
            }
            quarantine.audited(table);
        }
        Ok(())
    }

    /// Drops rows of a table, if some of it cannot be read and the store may be written.
    async fn mend(&self, table: Table, command: impl Command<Output = ()>) -> Result<()> {
        if !self.hub.quarantine.has(table) {
            return Ok(());
        }
        match self.commands.run(command).await {
            Err(StateError::ReadOnly) => Ok(()),
            mended => mended,
        }
    }

    /// How long the commit that is going on has taken; zero: none is going on.
    #[must_use]
    pub fn busy_for(&self) -> Duration {
        self.work.lock().as_ref().map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// Writes durably what is there already. Waits for its turn as every write does.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn probe(&self) -> Result<()> {
        self.commands.run(Probe).await
    }
}

struct Probe;

impl Command for Probe {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        sqlx::query("UPDATE instance SET epoch = epoch").execute(&mut *tx.conn).await?;
        Ok(())
    }
}
