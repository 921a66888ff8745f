//! A write-ahead log that was cut off anywhere: the database opens at a commit's edge, and says that it has lost
//! something, or it is refused.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sockerless_lambda::state::model::ContainerId;
use sockerless_lambda::state::{StateError, Store, StoreOptions};
use tempfile::TempDir;

use crate::all_rows::all_rows;
use crate::in_place::in_place;
use crate::support::{Fixture, at, ended, id, status, write};

/// Where the log is cut, in bytes. Its frames are 4,120 bytes long, so most cuts fall into the middle of one.
const STEP: usize = 4_096;

/// Everything that a client or the reconciler could have been told.
async fn whole(store: &Store) -> Value {
    let facts = store.facts();
    let containers: Vec<String> = all_rows(&facts).await.unwrap().iter().map(|row| format!("{row:?}")).collect();
    let events: Vec<String> =
        store.reader().events(0, 1_000).await.unwrap().readable().map(|event| format!("{event:?}")).collect();
    let instance = store.reader().instance().await.unwrap();
    json!({ "id": instance.id, "epoch": instance.epoch, "containers": containers, "events": events,
        "read": format!("{:?}", facts.log_progress().await.unwrap()) })
}

/// A daemon's life until it is killed: its files, which nobody writes to any more, and what there was after each
/// commit, the last one first. The store stays open: closing it would tidy up, as no kill does.
async fn lived() -> (Fixture, Vec<Value>) {
    let fixture = Fixture::new().await;
    let mut history = vec![whole(&fixture.store).await];
    fixture.facts.next_epoch().await.unwrap();
    history.push(whole(&fixture.store).await);
    for n in 1..=6 {
        let made = fixture.create(n, &format!("c{n}")).await;
        history.push(whole(&fixture.store).await);
        fixture.wishes.start(&made, at(20)).await.unwrap();
        history.push(whole(&fixture.store).await);
        told_as_ended(&fixture, made).await;
        history.push(whole(&fixture.store).await);
    }
    fixture.facts.set_log_progress("group", at(50)).await.unwrap();
    history.push(whole(&fixture.store).await);
    fixture.wishes.remove(&id(1), true, at(60)).await.unwrap();
    history.push(whole(&fixture.store).await);
    history.reverse();
    (fixture, history)
}

async fn told_as_ended(fixture: &Fixture, id: ContainerId) {
    let row = fixture.reader.container(&id).await.unwrap().unwrap();
    let facts = write(id, row.revision, status(row.spec.generation, Some(ended(1, 3))));
    fixture.facts.write(facts).await.unwrap();
}

/// The files as they were at the kill, but for the log's tail. `mark`: with the mark beside them.
fn cut(from: &Path, log_bytes: usize, mark: bool) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let beside = |end: &str| (from.join(format!("state.db{end}")), directory.path().join(format!("state.db{end}")));
    for end in if mark { &["", ".mark"][..] } else { &[""] } {
        let (from, to) = beside(end);
        fs::copy(from, to).unwrap();
    }
    let (from, to) = beside("-wal");
    fs::write(to, fs::read(from).unwrap().get(..log_bytes).unwrap()).unwrap();
    in_place(&directory.path().join("state.db"));
    directory
}

async fn open(directory: &TempDir) -> Result<Store, StateError> {
    Store::open(&StoreOptions { path: directory.path().join("state.db"), read_only: false }).await
}

#[tokio::test]
async fn a_log_cut_anywhere_opens_at_the_edge_of_a_commit_and_says_what_it_is() {
    let (fixture, history) = lived().await;
    let files = fixture.directory.path().join("deep/er");
    let length = usize::try_from(fs::metadata(files.join("state.db-wal")).unwrap().len()).unwrap();
    assert!(length > 40 * STEP, "{length} bytes are worth cutting");
    let (mut edges, mut refused) = (std::collections::BTreeSet::new(), 0);
    for bytes in (0..length).step_by(STEP).chain([length]) {
        let copy = cut(&files, bytes, true);
        let store = match open(&copy).await {
            Ok(store) => store,
            Err(error @ StateError::Unusable { .. }) => {
                assert!(error.to_string().contains("state.db"), "{error}");
                refused += 1;
                continue;
            }
            Err(other) => panic!("cut at {bytes}: {other:?}"),
        };
        let found = whole(&store).await;
        let edge = history.iter().position(|there| *there == found);
        let edge = edge.unwrap_or_else(|| panic!("cut at {bytes}: no commit ever left this behind: {found:#}"));
        let doubt = store.reader().instance().await.unwrap().doubt;
        assert_eq!(doubt.is_some(), edge > 0, "cut at {bytes}, {edge} commits before the end: {doubt:?}");
        edges.insert(edge);
    }
    assert_eq!(refused, 0, "SQLite opens every log");
    assert_eq!(edges.len(), history.len(), "every commit's edge was met");
}

/// A daemon that is told to adopt it takes it as it is; until then the doubt stays, whatever is written.
#[tokio::test]
async fn a_doubt_stays_until_the_database_is_adopted() {
    let (fixture, _) = lived().await;
    let files = fixture.directory.path().join("deep/er");
    let length = fs::metadata(files.join("state.db-wal")).unwrap().len();
    let copy = cut(&files, usize::try_from(length).unwrap() / 2, true);
    let store = open(&copy).await.unwrap();
    let doubt = store.facts().next_epoch().await.unwrap().doubt;
    assert!(doubt.as_deref().is_some_and(|doubt| doubt.contains("the last ones are lost")), "{doubt:?}");
    store.close().await.unwrap();
    let store = open(&copy).await.unwrap();
    assert_eq!(store.facts().next_epoch().await.unwrap().doubt, doubt);
    assert_eq!(store.facts().adopt(0, at(100)).await.unwrap().doubt, None);
    drop(store);
    assert_eq!(open(&copy).await.unwrap().reader().instance().await.unwrap().doubt, None);
}

/// What a backup from under a live daemon looks like when it is restored elsewhere.
#[tokio::test]
async fn a_database_that_was_not_closed_needs_its_mark() {
    let (fixture, _) = lived().await;
    let files = fixture.directory.path().join("deep/er");
    let length = usize::try_from(fs::metadata(files.join("state.db-wal")).unwrap().len()).unwrap();
    let (without, with) = (cut(&files, length, false), cut(&files, length, true));
    let restored = open(&without).await.unwrap();
    let doubt = restored.reader().instance().await.unwrap().doubt.unwrap();
    assert!(doubt.contains("state.db.mark") && doubt.contains("missing"), "{doubt}");

    let whole = open(&with).await.unwrap();
    assert_eq!(whole.reader().instance().await.unwrap().doubt, None, "this one is as it was");
}

/// A database that its daemon has closed may be moved without its mark; but not put in the place of a newer one.
#[tokio::test]
async fn a_closed_database_can_be_moved_and_an_older_one_is_noticed() {
    let fixture = Fixture::new().await;
    fixture.create(1, "old").await;
    fixture.store.close().await.unwrap();
    let files = fixture.directory.path().join("deep/er");
    let elsewhere = tempfile::tempdir().unwrap();
    fs::copy(files.join("state.db"), elsewhere.path().join("state.db")).unwrap();
    let store = open(&elsewhere).await.unwrap();
    assert_eq!(store.reader().instance().await.unwrap().doubt, None);
    store.wishes().create(crate::support::new(2, "new")).await.unwrap().unwrap();
    store.close().await.unwrap();

    fs::copy(files.join("state.db"), elsewhere.path().join("state.db")).unwrap();
    for read_only in [true, false] {
        let options = StoreOptions { path: elsewhere.path().join("state.db"), read_only };
        let doubt = Store::open(&options).await.unwrap().reader().instance().await.unwrap().doubt;
        assert!(doubt.is_some_and(|doubt| doubt.contains("the last ones are lost")), "the older one is back");
    }
}
