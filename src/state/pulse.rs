//! How the writer is doing: for those who watch that the daemon makes progress.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Result;
use super::writer::{Command, Commands, Tx};
use crate::clock::Stopwatch;

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
}

impl Pulse {
    pub(super) fn new(work: Work, commands: Commands) -> Self {
        Self { work, commands }
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
