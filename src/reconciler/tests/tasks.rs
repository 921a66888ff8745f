//! The real tasks over a real store: in which order they look, commit and act.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::stand_in::{Answers, aws, shared, store};
use super::*;
use crate::aws::{CallHook, CallPoint, HookedCall};
use crate::reconciler::record::fact_write;
use crate::state::{Issue, NewContainer, Store};

const NOTHING: Answers = &[];

fn id() -> ContainerId {
    ContainerId::from_bytes([0xaa; 32])
}

async fn create(store: &Store) -> Container {
    let new = NewContainer { id: id(), name: "job".into(), at: t(0), config: config() };
    store.wishes().create(new).await.unwrap().unwrap()
}

/// Does something right before each call of this name.
fn before<F: Future<Output = ()> + Send + 'static>(
    operation: &'static str,
    act: impl Fn() -> F + Send + Sync + 'static,
) -> CallHook {
    Arc::new(move |call: HookedCall| match call.point {
        CallPoint::Before if call.operation == operation => Box::pin(act()),
        CallPoint::Before | CallPoint::After => Box::pin(std::future::ready(())),
    })
}

#[tokio::test]
async fn an_intent_is_on_the_disk_before_its_call() {
    let (_directory, store) = store().await;
    create(&store).await;
    let seen = Arc::new(Mutex::new(None));
    let (reader, seeing) = (store.reader(), Arc::clone(&seen));
    let hook = before("create function", move || {
        let (reader, seeing) = (reader.clone(), Arc::clone(&seeing));
        async move {
            *seeing.lock().unwrap() = reader.container(&id()).await.unwrap().map(|row| row.status);
        }
    });
    let (cloud, _) = aws(NOTHING, Some(hook)).await;
    let shared = shared(&store, cloud).await;
    shared.reconcile(id(), &CancellationToken::new()).await.unwrap();
    let status = seen.lock().unwrap().take().expect("it was called");
    assert_eq!(status.function, Known::Maybe);
    assert!(status.create_sent_at.is_some());
}

/// As a function that is made, with its row, while AWS is listed: a list that is older than the rows makes it no orphan.
#[tokio::test]
async fn a_sweep_lists_aws_before_it_reads_the_rows() {
    const LISTED: Answers = &[
        ("DescribeLogStreams", "200 OK", r#"{"logStreams":[]}"#),
        (
            "GET /2015-03-31/functions",
            "200 OK",
            r#"{"Functions":[{"FunctionName":"skls-0123456789-aaaaaaaaaaaaaaaaaaaaaaaa"}]}"#,
        ),
    ];
    let (_directory, store) = store().await;
    let wishes = store.wishes();
    let hook = before("list functions", move || {
        let wishes = wishes.clone();
        async move {
            let new = NewContainer { id: id(), name: "job".into(), at: t(0), config: config() };
            wishes.create(new).await.unwrap().unwrap();
        }
    });
    let (cloud, _) = aws(LISTED, Some(hook)).await;
    let view = shared(&store, cloud).await.survey(6).await.unwrap().expect("the claim is ours");
    assert_eq!(view.rows.len(), 1);
    assert!(view.findings.orphans.is_empty(), "{:?}", view.findings);
}

#[tokio::test]
async fn runs_that_are_found_at_the_start_hold_their_slots() {
    let (_directory, store) = store().await;
    create(&store).await;
    store.wishes().start(&id(), t(1)).await.unwrap();
    let stored = store.reader().container(&id()).await.unwrap().unwrap();
    let status = Story::running(InvocationKind::Event, Protocol::Bootstrap).container.status;
    let issued = store.facts().issue(fact_write(&stored, &status, None, t(2)), stored.spec.generation).await;
    assert!(matches!(issued, Ok(Issue::Granted(..))), "{issued:?}");
    let shared = shared(&store, aws(NOTHING, None).await.0).await;
    assert_eq!(shared.slots.held(), 1);
    assert!(!shared.slots.is_free_for(&ContainerId::from_bytes([0xbb; 32])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_are_folded_again_when_somebody_else_wrote_first() {
    let (_directory, store) = store().await;
    create(&store).await;
    let shared = shared(&store, aws(NOTHING, None).await.0).await;
    let (facts, rival) = (store.facts(), AtomicBool::new(true));
    let fold = |container: &Container| {
        if rival.swap(false, Ordering::SeqCst) {
            let meanwhile = Status { function: Known::Maybe, ..container.status.clone() };
            let write = facts.write(fact_write(container, &meanwhile, None, t(1)));
            tokio::task::block_in_place(|| Handle::current().block_on(write)).unwrap();
        }
        Status { restarts: 7, ..container.status.clone() }
    };
    assert!(shared.fold_in(&id(), fold).await.unwrap(), "something was new");
    let status = store.reader().container(&id()).await.unwrap().unwrap().status;
    assert_eq!((status.restarts, status.function), (7, Known::Maybe), "neither has lost");
}
