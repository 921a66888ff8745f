//! What is promised of the file: whose it is, who may open it, and what is refused untouched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sockerless_lambda::state::{StateError, Store, StoreOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use crate::support::{Fixture, at, id, new, options, path};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn refused(result: Result<Store, StateError>) -> String {
    match result {
        Err(error @ StateError::Unusable { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap()
}

#[tokio::test]
async fn file_and_directory_are_private() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    let path = path(&fixture.directory);
    for file in ["state.db", "state.db-wal", "state.db-shm", "state.db.lock", "state.db.mark"] {
        assert_eq!(mode(&path.with_file_name(file)), 0o600, "{file}");
    }
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    fixture.store.close().await.unwrap();

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = Store::open(&options(&fixture.directory)).await.unwrap();
    assert_eq!(mode(&path), 0o600, "also when it was not");
    store.close().await.unwrap();
}

#[tokio::test]
async fn one_daemon_has_the_file() {
    let fixture = Fixture::new().await;
    let second = Store::open(&options(&fixture.directory)).await;
    assert!(matches!(second, Err(StateError::Locked { .. })), "{second:?}");
    let fixture = fixture.crash().await;
    fixture.store.close().await.unwrap();
    Store::open(&options(&fixture.directory)).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash() {
    let fixture = Fixture::new().await;
    for n in 1..=20 {
        fixture.create(n, &n.to_string()).await;
        fixture.wishes.start(&id(n), at(30)).await.unwrap();
    }
    let before = fixture.reader.containers(None, 100).await.unwrap();
    let fixture = fixture.crash().await;
    assert_eq!(fixture.reader.containers(None, 100).await.unwrap(), before);
    assert_eq!(*fixture.reader.watch_events().borrow(), 40);
}

#[tokio::test]
async fn closing_leaves_one_file() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.store.close().await.unwrap();
    let path = path(&fixture.directory);
    assert!(!path.with_file_name("state.db-wal").exists());
    let store = Store::open(&options(&fixture.directory)).await.unwrap();
    assert_eq!(store.reader().containers(None, 100).await.unwrap().rows.len(), 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_untouched() {
    let fixture = Fixture::new().await;
    fixture.store.close().await.unwrap();
    let path = path(&fixture.directory);
    let mut connection = raw(&path).await;
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (99, 'later', CURRENT_TIMESTAMP, 1, x'00', 0)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    for read_only in [false, true] {
        let result = Store::open(&StoreOptions { path: path.clone(), read_only }).await;
        assert!(matches!(result, Err(StateError::Newer { found: 99, known: 1..=98, .. })), "{result:?}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn what_is_not_ours_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let text = "no database ".repeat(1_000);
    fs::write(&path, &text).unwrap();
    let options = StoreOptions { path: path.clone(), read_only: false };
    assert!(refused(Store::open(&options).await).contains("file is not a database"));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    fs::remove_file(&path).unwrap();
    let mut connection = raw(&path).await;
    sqlx::query("CREATE TABLE songs (title TEXT)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    assert!(refused(Store::open(&options).await).contains("another program"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_path_that_cannot_be_used_is_named_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, reason) in [
        (directory.path().to_owned(), "it is a directory"),
        (file.join("state.db"), "its directory"),
        ("/proc/nothing/state.db".into(), "its directory"),
        ("/proc/state.db".into(), "cannot be opened for writing"),
    ] {
        let message = refused(Store::open(&StoreOptions { path: path.clone(), read_only: false }).await);
        assert!(message.contains(reason) && message.contains(path.to_str().unwrap()), "{message}");
    }
}

#[tokio::test]
async fn a_second_process_may_read_along() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    let beside = StoreOptions { read_only: true, ..options(&fixture.directory) };
    let reading = Store::open(&beside).await.unwrap();
    assert_eq!(reading.reader().containers(None, 100).await.unwrap().rows.len(), 1);
    fixture.create(2, "db").await;
    assert_eq!(reading.facts().containers(0, 100).await.unwrap().rows.len(), 2, "each read is fresh");
    assert!(matches!(reading.wishes().create(new(3, "x")).await, Err(StateError::ReadOnly)));
    assert!(matches!(reading.facts().next_epoch().await, Err(StateError::ReadOnly)));
    reading.close().await.unwrap();
    fixture.store.close().await.unwrap();
    let reading = Store::open(&beside).await.unwrap();
    assert_eq!(reading.reader().containers(None, 100).await.unwrap().rows.len(), 2, "also without a daemon");
}

#[tokio::test]
async fn reading_needs_a_current_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let options = StoreOptions { path: path.clone(), read_only: true };
    assert!(refused(Store::open(&options).await).contains("does not exist"));
    assert!(!path.exists());
    fs::write(&path, "").unwrap();
    assert!(refused(Store::open(&options).await).contains("schema is older"));
}
