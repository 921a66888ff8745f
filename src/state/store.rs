//! The store's life: open, hand out handles, close.

use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::changes::Hub;
use super::file::FileLock;
use super::mark::{self, Mark};
use super::pulse::{Pulse, Work};
use super::records::{CommitHook, StoreOptions};
use super::writer::{Commands, Reporting, Writer};
use super::{Facts, Reader, Result, StateError, Wishes, events, file, instance, projections};
use crate::health::Health;

/// So many reads go on at once; more wait.
const READERS: u32 = 4;
/// So long a read waits for its turn.
const READ_WAIT: Duration = Duration::from_secs(120);
/// So many rows are read before they are asked for.
const ROWS_AHEAD: usize = 16;
/// So long SQLite waits for another process that has the file.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// So long closing waits for reads that are under way.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// To so many bytes the write-ahead log is cut when it was longer.
const WAL_KEPT_BYTES: u32 = 64 << 20;

/// An open store.
///
/// Dropping it is like the end of the process: the lock is free, what was answered is durable, and what was not is an
/// error for its caller.
#[derive(Debug)]
pub struct Store {
    readers: SqlitePool,
    commands: Commands,
    work: Work,
    hub: Arc<Hub>,
    /// `None`: read-only, or closed.
    writing: Option<Writing>,
    /// Of a read-only store: why the database may have lost commits.
    doubt: Option<String>,
}

#[derive(Debug)]
struct Writing {
    task: JoinHandle<Option<(SqliteConnection, Mark)>>,
    stop: oneshot::Sender<()>,
    reporting: Reporting,
    lock: FileLock,
}

impl Store {
    /// Opens, locks and migrates the file.
    ///
    /// # Errors
    /// `Unusable`, `Locked` and `Newer` say what is wrong with the file; nothing in it was changed then.
    pub async fn open(options: &StoreOptions) -> Result<Self> {
        Self::open_with(options, None).await
    }

    /// As [`Store::open`]; the hook is called around each commit.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(options: &StoreOptions, hook: Option<CommitHook>) -> Result<Self> {
        if options.read_only { Self::open_to_read(options).await } else { Self::open_to_write(options, hook).await }
    }

    async fn open_to_read(options: &StoreOptions) -> Result<Self> {
        if !file::check(&options.path).await? {
            return Err(file::unusable(&options.path, "its schema is older than this daemon; start the daemon once"));
        }
        let readers = readers(connect_options(options));
        let hub = Arc::new(Hub::new(events::last(&readers).await?));
        let doubt = mark::look(&options.path, &readers).await?;
        Ok(Self { readers, commands: Commands::refused(), work: Work::default(), hub, writing: None, doubt })
    }

    async fn open_to_write(options: &StoreOptions, hook: Option<CommitHook>) -> Result<Self> {
        file::prepare(&options.path)?;
        let lock = file::lock(&options.path)?;
        file::check(&options.path).await?;

        let connect = durable(options);
        let opened = connect.connect().await;
        let mut connection = opened.map_err(|error| file::cannot_open(&options.path, error.into()))?;
        file::migrate(&options.path, &mut connection).await?;
        let taken_up = async {
            instance::ensure(&mut connection).await?;
            projections::recount(&mut connection).await?;
            Mark::take_up(&options.path, &mut connection).await
        };
        let mark = taken_up.await.map_err(|error| file::cannot_open(&options.path, error))?;

        let readers = readers(connect_options(options));
        let hub = Arc::new(Hub::new(events::last(&readers).await?));
        let work = Work::default();
        let (writer, commands, reporting) =
            Writer::new(connect, connection, mark, Arc::clone(&hub), hook, work.clone());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(writer.run(stopped));
        let writing = Some(Writing { task, stop, reporting, lock });
        Ok(Self { readers, commands, work, hub, writing, doubt: None })
    }

    /// Reports from now on whether the store accepts writes, and how many rows cannot be read.
    pub fn report_to(&self, health: &Health) {
        self.hub.quarantine.report_to(health);
        if let Some(writing) = &self.writing {
            // Whoever was told first stays.
            let _ = writing.reporting.set(health.clone());
        }
    }

    /// For everybody.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.readers.clone(), Arc::clone(&self.hub), self.doubt.clone())
    }

    /// For the API.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        Wishes::new(self.commands.clone())
    }

    /// For the reconciler.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts::new(self.commands.clone(), self.readers.clone(), Arc::clone(&self.hub))
    }

    /// For the watchdog.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse::new(self.work.clone(), self.commands.clone(), self.readers.clone(), Arc::clone(&self.hub))
    }

    /// Commits what waits, closes the file, gives the lock back. From then on every handle answers
    /// [`StateError::Closed`].
    ///
    /// # Errors
    /// When SQLite cannot tidy up; what was answered is durable all the same.
    pub async fn close(mut self) -> Result<()> {
        let Some(Writing { task, stop, lock, .. }) = self.writing.take() else {
            self.stop_reading().await;
            return Ok(());
        };
        stop.send(()).ok();
        let written = task.await.map_err(|_| StateError::Closed)?;
        self.stop_reading().await;
        if let Some((mut connection, mut mark)) = written {
            mark.set(instance::close(&mut connection).await?);
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
            connection.close().await?;
        }
        drop(lock);
        Ok(())
    }

    async fn stop_reading(&self) {
        self.hub.close();
        // A caller that keeps a half-done read must not keep the daemon from ending.
        drop(timeout(CLOSE_WAIT, self.readers.close()).await);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(writing) = &self.writing {
            writing.task.abort();
        }
        self.hub.close();
        drop(self.readers.close());
    }
}

fn connect_options(options: &StoreOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&options.path)
        .busy_timeout(BUSY_WAIT)
        .row_buffer_size(ROWS_AHEAD)
        .pragma("journal_size_limit", WAL_KEPT_BYTES.to_string())
        .disable_statement_logging()
}

/// A commit on such a connection survives a power cut.
fn durable(options: &StoreOptions) -> SqliteConnectOptions {
    connect_options(options)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
}

/// Connections that cannot write. They live as long as the store: opening one costs more than a read.
fn readers(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(READ_WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(options.read_only(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commits_are_synced_and_readers_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions { path: directory.path().join("state.db"), read_only: false };
        let store = Store::open(&options).await.unwrap();
        let mut writing = durable(&options).connect().await.unwrap();
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut writing).await.unwrap();
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut writing).await.unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2), "2 is FULL");
        assert!(sqlx::query("DELETE FROM event").execute(&store.readers).await.is_err());
    }
}
