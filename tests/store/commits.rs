//! Group commit: what shares one, what fails alone, what fails together, and when watchers wake.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use sockerless_lambda::health::{Check, Health};
use sockerless_lambda::state::{CommitHook, CommitPoint, Renamed, Started, StateError, Store};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::{Semaphore, watch};

use crate::support::{Fixture, at, id, new, options, path};

/// Counts commits, and can hold the writer right before one.
struct Gate {
    commits: AtomicUsize,
    shut: watch::Sender<bool>,
    reached: Semaphore,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { commits: AtomicUsize::new(0), shut: watch::Sender::new(false), reached: Semaphore::new(0) })
    }

    fn hook(self: &Arc<Self>) -> CommitHook {
        let gate = Arc::clone(self);
        Arc::new(move |point| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                if point == CommitPoint::After {
                    gate.commits.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                gate.reached.add_permits(1);
                gate.shut.subscribe().wait_for(|shut| !*shut).await.unwrap();
            })
        })
    }

    fn shut(&self) {
        self.shut.send_replace(true);
        self.reached.forget_permits(usize::MAX >> 3);
    }

    fn open(&self) {
        self.shut.send_replace(false);
    }

    /// The writer stands before a commit.
    async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }
}

async fn fixture(gate: &Arc<Gate>) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open_with(&options(&directory), Some(gate.hook())).await.unwrap();
    Fixture::over(directory, store)
}

/// Lets the future begin; it must not be done at once.
async fn begin<F: Future>(mut future: Pin<&mut F>) {
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_shares_a_commit_and_a_failure_stays_alone() {
    let gate = Gate::new();
    let fixture = fixture(&gate).await;
    gate.shut();
    let mut first = Box::pin(fixture.wishes.create(new(0, "first")));
    begin(first.as_mut()).await;
    gate.reached().await;

    // Number 20 comes twice, under another name: its id is refused by the table itself.
    let numbers = (1..=40_u8).chain([20]).enumerate();
    let mut others = Box::pin(join_all(numbers.map(|(i, n)| fixture.wishes.create(new(n, &format!("c{i}"))))));
    begin(others.as_mut()).await;
    gate.open();
    first.await.unwrap().unwrap();
    let mut answers = others.await;
    assert!(matches!(answers.pop(), Some(Err(StateError::Database(_)))));
    assert!(answers.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert_eq!(gate.commits(), 2);
    assert_eq!(fixture.reader.containers(None, 100).await.unwrap().rows.len(), 41);
    assert_eq!(fixture.reader.last_event().await.unwrap(), 41, "what failed left no event");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_wake_after_the_commit_and_never_before() {
    let gate = Gate::new();
    let fixture = fixture(&gate).await;
    fixture.create(1, "web").await;
    let (mut watch, mut feed, mut events) =
        (fixture.reader.watch(id(1)), fixture.facts.wish_feed(), fixture.reader.watch_events());
    events.mark_unchanged();

    gate.shut();
    let one = id(1);
    let mut start = Box::pin(fixture.wishes.start(&one, at(10)));
    begin(start.as_mut()).await;
    gate.reached().await;
    begin(Box::pin(watch.changed()).as_mut()).await;
    begin(Box::pin(feed.next()).as_mut()).await;
    assert!(!events.has_changed().unwrap());
    assert_eq!(fixture.reader.container(&id(1)).await.unwrap().unwrap().spec.starts, 0);

    gate.open();
    watch.changed().await.unwrap();
    assert_eq!(fixture.reader.container(&id(1)).await.unwrap().unwrap().spec.starts, 1);
    assert_eq!(start.await.unwrap(), Started::Recorded);
    feed.next().await.unwrap();
    events.changed().await.unwrap();
    assert_eq!(*events.borrow(), 2);

    fixture.wishes.rename(&id(1), "shop", at(11)).await.unwrap();
    fixture.wishes.remove(&id(1), true, at(12)).await.unwrap();
    watch.changed().await.unwrap();
    fixture.facts.forget(&id(1)).await.unwrap();
    watch.changed().await.unwrap();
    fixture.create(2, "db").await;
    begin(Box::pin(watch.changed()).as_mut()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_fails_for_everybody_in_it_and_the_next_is_well() {
    let gate = Gate::new();
    let fixture = fixture(&gate).await;
    fixture.create(1, "a").await;
    fixture.create(2, "b").await;
    // Takes the whole transaction back, as SQLite does by itself when the disk is full.
    let mut other = SqliteConnectOptions::new().filename(path(&fixture.directory)).connect().await.unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON event WHEN NEW.action = 'rename' \
                  BEGIN SELECT RAISE(ROLLBACK, 'the disk is full'); END";
    sqlx::query(broken).execute(&mut other).await.unwrap();

    gate.shut();
    let mut first = Box::pin(fixture.wishes.create(new(3, "c")));
    begin(first.as_mut()).await;
    gate.reached().await;
    let (one, two, three) = (id(1), id(2), id(3));
    let mut start = Box::pin(fixture.wishes.start(&one, at(10)));
    begin(start.as_mut()).await;
    let mut rename = Box::pin(fixture.wishes.rename(&two, "z", at(10)));
    begin(rename.as_mut()).await;
    let mut late = Box::pin(fixture.wishes.start(&three, at(10)));
    begin(late.as_mut()).await;
    gate.open();
    first.await.unwrap().unwrap();
    assert!(matches!(start.await, Err(StateError::NotCommitted(_))));
    assert!(matches!(rename.await, Err(StateError::Database(_))));
    assert!(matches!(late.await, Err(StateError::NotCommitted(_))));
    assert_eq!(fixture.reader.container(&id(1)).await.unwrap().unwrap().spec.starts, 0);

    sqlx::query("DROP TRIGGER broken").execute(&mut other).await.unwrap();
    assert_eq!(fixture.wishes.start(&id(1), at(11)).await.unwrap(), Started::Recorded);
    assert_eq!(fixture.wishes.rename(&id(2), "z", at(11)).await.unwrap(), Renamed::Recorded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_commits_what_waits() {
    let gate = Gate::new();
    let Fixture { directory, store, wishes, .. } = fixture(&gate).await;
    gate.shut();
    let mut waiting = Box::pin(join_all((1..=9).map(|n| wishes.create(new(n, &n.to_string())))));
    begin(waiting.as_mut()).await;
    gate.reached().await;
    let mut closing = Box::pin(store.close());
    begin(closing.as_mut()).await;
    gate.open();
    closing.await.unwrap();
    assert!(waiting.await.into_iter().all(|answer| answer.unwrap().is_ok()));
    let store = Store::open(&options(&directory)).await.unwrap();
    assert_eq!(store.reader().containers(None, 100).await.unwrap().rows.len(), 9);
}

/// A refusal writes nothing, so it costs no commit of its own.
#[tokio::test]
async fn only_what_writes_is_a_commit() {
    let fixture = Fixture::new().await;
    let commits = async || -> i64 {
        let mut connection = SqliteConnectOptions::new().filename(path(&fixture.directory)).connect().await.unwrap();
        sqlx::query_scalar("SELECT commits FROM instance").fetch_one(&mut connection).await.unwrap()
    };
    fixture.create(1, "web").await;
    let before = commits().await;
    assert!(fixture.wishes.create(new(2, "web")).await.unwrap().is_err(), "the name is taken");
    assert_eq!(commits().await, before);
    fixture.create(3, "db").await;
    fixture.wishes.start(&id(3), at(9)).await.unwrap();
    assert_eq!(commits().await, before + 2);
}

/// Whether it can write is known without a request that needs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_write_says_so_until_it_can() {
    let fixture = Fixture::new().await;
    fixture.create(1, "a").await;
    let health = Health::default();
    fixture.store.report_to(&health);
    let mut other = SqliteConnectOptions::new().filename(path(&fixture.directory)).connect().await.unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON event BEGIN SELECT RAISE(ROLLBACK, 'the disk is full'); END";
    sqlx::query(broken).execute(&mut other).await.unwrap();
    let refused = fixture.wishes.create(new(2, "b")).await.unwrap_err();
    assert!(refused.to_string().contains("the disk is full"), "{refused}");
    assert!(health.problems().contains_key(&Check::Store));
    // Nobody writes: the store itself finds out.
    tokio::time::timeout(Duration::from_secs(60), async {
        while !health.problems().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}
