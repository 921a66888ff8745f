//! A thousand containers that wait for the control plane's quota: who needs none of it does not wait, and who needs it
//! goes in order. With the real loop, workers, store and quotas; the clock stands still unless a test moves it.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::stand_in::{Answers, INSTANCE, aws_with, shared, store};
use super::*;
use crate::aws::{CallHook, CallPoint, CloudSeams, Need};
use crate::clock::Clock;
use crate::reconciler::Loop;
use crate::reconciler::permits::MAX_CALLS;
use crate::reconciler::quota_line::{Rank, Waiting};
use crate::reconciler::record::fact_write;
use crate::state::{NewContainer, Reader, Store};

/// Created, and only that.
const CREATED: u16 = 1_000;
/// Control-plane calls a second.
const QUOTA: usize = 15;
/// How long a test waits for something that needs no time by its clock.
const PATIENCE: Duration = Duration::from_secs(60);

const ANSWERS: Answers = &[
    ("POST /2015-03-31/functions HTTP", "201 Created", r#"{"FunctionName":"f","FunctionArn":"arn","State":"Pending"}"#),
    ("POST /2015-03-31/functions/skls", "200 OK", "null"),
];

fn id(number: u16) -> ContainerId {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    ContainerId::from_bytes(bytes)
}

/// A store with containers, and a loop that works on them.
struct Busy {
    clock: Clock,
    store: Store,
    /// Operation and function of each call, in order.
    calls: Arc<Mutex<Vec<(&'static str, String)>>>,
    control: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.control.abort();
    }
}

async fn is_true(condition: impl AsyncFn() -> bool) {
    let until = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, until).await.expect("it does not come");
}

impl Busy {
    /// `hangs`: creates are never answered. Container 0 has an active function.
    async fn begin(created: u16, hangs: bool) -> Self {
        let clock = Clock::fixed(t(0));
        let (directory, store) = store().await;
        let calls: Arc<Mutex<Vec<_>>> = Arc::default();
        let noted = Arc::clone(&calls);
        let hook: CallHook = Arc::new(move |call| {
            let hangs = hangs && call.operation == "create function";
            if call.point == CallPoint::Before {
                noted.lock().unwrap().push((call.operation, call.subject));
            }
            Box::pin(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
            })
        });
        let seams = CloudSeams { clock: clock.clone(), hook: Some(hook) };
        let (cloud, _) = aws_with(ANSWERS, INSTANCE, seams).await;
        let wishes = store.wishes();
        join_all((0..=created).map(|number| {
            let new = NewContainer { id: id(number), name: format!("c{number}"), at: t(0), config: config() };
            wishes.create(new)
        }))
        .await;
        let ready = store.reader().container(&id(0)).await.unwrap().unwrap();
        let active = Status {
            observed_generation: ready.spec.generation,
            function: Known::Is(function(FunctionState::Active)),
            ..Status::default()
        };
        store.facts().write(fact_write(&ready, &active, None, t(0))).await.unwrap();
        let mut shared = shared(&store, cloud).await;
        shared.clock = clock.clone();
        let control = tokio::spawn(async move { Loop::new(shared, mpsc::channel(1).1).run().await });
        Self { clock, store, calls, control, _directory: directory }
    }

    fn reader(&self) -> Reader {
        self.store.reader()
    }

    fn called(&self, operation: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(called, _)| *called == operation).count()
    }

    /// Lets a second pass, and waits for as many creates as that brings.
    async fn next_second(&self) -> usize {
        let before = self.called("create function");
        self.clock.set(self.clock.now().after(Duration::from_secs(1)));
        is_true(async || self.called("create function") >= before + QUOTA).await;
        before
    }

    /// Whether all that is wanted of the container was planned; one that is gone needs no more.
    async fn is_planned(&self, number: u16) -> bool {
        let row = self.reader().container(&id(number)).await.unwrap();
        row.is_none_or(|row| row.status.observed_generation == row.spec.generation)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ready_container_behind_a_thousand_creates_starts_without_waiting() {
    let busy = Busy::begin(CREATED, false).await;
    is_true(async || busy.called("create function") == QUOTA).await;
    busy.store.wishes().start(&id(0), t(0)).await.unwrap();
    is_true(async || busy.called("invoke") == 1).await;
    assert_eq!((busy.clock.now(), busy.called("create function")), (t(0), QUOTA), "no time has passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_no_call_is_done_behind_a_thousand_creates() {
    let busy = Busy::begin(CREATED, false).await;
    is_true(async || busy.called("create function") == QUOTA).await;
    let waiting = async |number| !busy.is_planned(number).await;
    let mut left = Vec::new();
    for number in 1..=CREATED {
        if waiting(number).await {
            left.push(number);
        }
    }
    let [cancelled, removed, ..] = left[left.len() - 2..] else { panic!("all were made") };
    busy.store.wishes().start(&id(cancelled), t(0)).await.unwrap();
    busy.store.wishes().cancel(&id(cancelled), t(0)).await.unwrap();
    busy.store.wishes().remove(&id(removed), false, t(0)).await.unwrap();
    is_true(async || busy.reader().container(&id(removed)).await.unwrap().is_none()).await;
    is_true(async || busy.is_planned(cancelled).await).await;
    assert_eq!((busy.clock.now(), busy.called("create function")), (t(0), QUOTA), "no time has passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_started_container_goes_before_those_that_are_only_created() {
    let busy = Busy::begin(CREATED, false).await;
    is_true(async || busy.called("create function") == QUOTA).await;
    let mut started = None;
    for number in 1..=CREATED {
        if !busy.is_planned(number).await {
            started = Some(number);
        }
    }
    let started = started.expect("not all were made");
    busy.store.wishes().start(&id(started), t(0)).await.unwrap();
    // By the next tokens the loop has seen the start: this one was committed after it.
    let later = NewContainer { id: id(CREATED + 1), name: "later".into(), at: t(0), config: config() };
    busy.store.wishes().create(later).await.unwrap().unwrap();
    busy.store.wishes().remove(&id(CREATED + 1), false, t(0)).await.unwrap();
    is_true(async || busy.reader().container(&id(CREATED + 1)).await.unwrap().is_none()).await;
    let before = busy.next_second().await;
    let name = Identity { prefix: "skls".into(), instance: INSTANCE.into() }.function_name(&id(started), 0);
    let calls = busy.calls.lock().unwrap().clone();
    let made: Vec<_> = calls.iter().filter(|(operation, _)| *operation == "create function").skip(before).collect();
    assert!(made[..QUOTA].iter().any(|(_, subject)| *subject == name), "{name} is not among the next");
}

/// However many calls hang.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_hang_hold_up_nobody_who_needs_none() {
    let busy = Busy::begin(100, true).await;
    is_true(async || busy.called("create function") == QUOTA).await;
    busy.next_second().await;
    busy.clock.set(busy.clock.now().after(Duration::from_secs(1)));
    is_true(async || busy.called("create function") == MAX_CALLS).await;
    let now = busy.clock.now();
    busy.store.wishes().start(&id(0), now).await.unwrap();
    is_true(async || busy.called("invoke") == 1).await;
    busy.store.wishes().remove(&id(100), false, now).await.unwrap();
    is_true(async || busy.is_planned(100).await).await;
    assert_eq!((busy.clock.now(), busy.called("create function")), (now, MAX_CALLS));
}

#[tokio::test]
async fn a_pass_is_not_done_while_a_container_waits_for_a_quota() {
    let (_directory, store) = store().await;
    let (cloud, _) = aws_with(&[], INSTANCE, CloudSeams::default()).await;
    let (_kicks, kicked) = mpsc::channel(1);
    let mut control = Loop::new(shared(&store, cloud).await, kicked);
    assert!(control.is_done());
    let waiting = Waiting { need: Need::Change, rank: Rank::Created };
    control.lines.enter(id(1), waiting, None, t(0));
    assert!(!control.is_done());
}
