//! The file before it is a database: its directory, its mode, its lock, and whether it is ours and of our version.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, SqlSafeStr};

use super::{Result, StateError};

/// Only the daemon's user may read what containers were given. SQLite gives `-wal` and `-shm` the mode of the file.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// What SQLite says when it cannot put its log beside the file, which it had opened.
const CANNOT_OPEN: &str = "unable to open database file";

/// The migrations: number and description as in the name of the file. Listed here and not by sqlx's macro, which compiles a
/// second SQLite to read them.
const MIGRATION_FILES: [(i64, &str, &str); 6] = [
    (1, "init", include_str!("migrations/0001_init.sql")),
    (2, "continuity", include_str!("migrations/0002_continuity.sql")),
    (4, "binding", include_str!("migrations/0004_binding.sql")),
    (5, "counts", include_str!("migrations/0005_counts.sql")),
    (6, "names", include_str!("migrations/0006_names.sql")),
    (7, "looks", include_str!("migrations/0007_looks.sql")),
];

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let migration = |(number, description, sql): (i64, &'static str, &'static str)| {
        Migration::new(number, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATION_FILES.map(migration).into())
});

/// Makes the directory and the file if they are missing, and makes the file private.
pub(super) fn prepare(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(unusable(path, "it is a directory; name a file"));
    }
    let directory = directory_of(path);
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(|error| unusable(path, format!("its directory {} cannot be made: {error}", directory.display())))?;
    let file = open_private(path).map_err(|error| {
        unusable(path, format!("it cannot be opened for writing: {error}; check the rights of {}", directory.display()))
    })?;
    make_private(&file).map_err(|error| unusable(path, format!("its mode cannot be set to 0600: {error}")))
}

/// The lock that says: one daemon a file. It is held until this is dropped, or the process has ended.
#[derive(Debug)]
pub(super) struct FileLock(File);

impl Drop for FileLock {
    /// Closing is not enough: a child process has a copy of the descriptor until it executes its program.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Takes the lock, or fails at once.
pub(super) fn lock(path: &Path) -> Result<FileLock> {
    let lock_path = beside(path, ".lock");
    let failed =
        |error: io::Error| unusable(path, format!("its lock {} cannot be taken: {error}", lock_path.display()));
    let file = open_private(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(FileLock(file)),
        Err(TryLockError::WouldBlock) => Err(StateError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Reads, and only reads, whose database it is. `true`: its schema is current.
pub(super) async fn check(path: &Path) -> Result<bool> {
    if !fs::exists(path).map_err(|error| unusable(path, error))? {
        return Err(unusable(path, "it does not exist"));
    }
    let found = async {
        let mut connection = connect_to_look(path).await?;
        let found = schema_version(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(found)
    };
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    match found.await.map_err(|error| cannot_open(path, error.into()))? {
        Schema::Foreign => Err(unusable(path, "it is the database of another program")),
        Schema::Version(found) if found > known => Err(StateError::Newer { path: path.to_owned(), found, known }),
        Schema::Version(found) => Ok(found == known),
    }
}

/// A connection that reads, and only reads.
pub(super) async fn connect_to_look(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    // Without a write-ahead log all is in the file, and SQLite need not put its own files beside it to read it.
    let settled = !beside(path, "-wal").exists();
    let options =
        SqliteConnectOptions::new().filename(path).read_only(true).immutable(settled).disable_statement_logging();
    options.connect().await
}

/// What stands where the database is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseSeen {
    /// Nothing; a start can make it.
    Absent,
    /// A database of this version.
    Current,
    /// A database of an older version; a start will bring it up to date.
    Older,
}

/// Whether a start could use the file, without changing anything. The lock is tried for a moment, so a daemon that
/// starts at the same time may find it taken.
///
/// # Errors
/// As opening the store: `Unusable`, `Locked`, `Newer`.
pub async fn inspect(path: &Path) -> Result<DatabaseSeen> {
    if path.is_dir() {
        return Err(unusable(path, "it is a directory; name a file"));
    }
    let directory = path.ancestors().skip(1).find(|directory| directory.exists()).unwrap_or_else(|| Path::new("."));
    if !directory.is_dir() {
        return Err(unusable(path, format!("{} is no directory", directory.display())));
    }
    let writable = |what: &Path| {
        nix::unistd::access(what, nix::unistd::AccessFlags::W_OK)
            .map_err(|error| unusable(path, format!("{} cannot be written: {}", what.display(), error.desc())))
    };
    writable(directory)?;
    if !fs::exists(path).map_err(|error| unusable(path, error))? {
        return Ok(DatabaseSeen::Absent);
    }
    writable(path)?;
    match File::open(beside(path, ".lock")).map(|file| file.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => return Err(StateError::Locked { path: path.to_owned() }),
        Ok(Err(TryLockError::Error(error))) => return Err(unusable(path, error)),
        Ok(Ok(())) | Err(_) => {}
    }
    Ok(if check(path).await? { DatabaseSeen::Current } else { DatabaseSeen::Older })
}

/// Brings the schema up to date.
pub(super) async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<()> {
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| unusable(path, error))
}

pub(super) fn unusable(path: &Path, reason: impl ToString) -> StateError {
    StateError::Unusable { path: path.to_owned(), reason: reason.to_string() }
}

/// A failure of SQLite while the file is opened.
pub(super) fn cannot_open(path: &Path, error: StateError) -> StateError {
    match error {
        StateError::Database(error) => match words(&error) {
            reason if reason == CANNOT_OPEN => unusable(
                path,
                format!("{reason}; the directory {} must be writable, too", directory_of(path).display()),
            ),
            reason => unusable(path, reason),
        },
        other => other,
    }
}

pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// SQLite's own words where there are some.
pub(super) fn words(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

enum Schema {
    /// Tables, but not ours.
    Foreign,
    /// Ours; 0: nothing in it yet.
    Version(i64),
}

async fn schema_version(connection: &mut SqliteConnection) -> Result<Schema, sqlx::Error> {
    let (tables, ours): (i64, bool) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE name = '_sqlx_migrations') > 0 FROM sqlite_schema WHERE type = 'table'",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !ours {
        return Ok(if tables == 0 { Schema::Version(0) } else { Schema::Foreign });
    }
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map(Schema::Version)
}

pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)
}

fn make_private(file: &File) -> io::Result<()> {
    if file.metadata()?.permissions().mode() & 0o777 == FILE_MODE {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(FILE_MODE))
}

/// The file of the same name and more.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Runs a statement beside the daemon, as a tool or a defect would.
#[cfg(test)]
pub(crate) async fn execute(path: &Path, statement: &'static str) {
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_free_once_it_is_dropped_though_a_child_has_a_copy_of_its_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        let held = lock(&path).unwrap();
        let copy = held.0.try_clone().unwrap();
        assert!(matches!(lock(&path), Err(StateError::Locked { .. })));
        drop(held);
        lock(&path).unwrap();
        drop(copy);
    }

    #[test]
    fn every_file_of_the_migrations_is_listed() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/state/migrations");
        let mut files: Vec<_> =
            fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let listed = MIGRATION_FILES.map(|(number, description, _)| format!("{number:04}_{description}.sql"));
        assert_eq!(files, listed);
    }
}
