//! The real tasks over a real store: in which order they look, commit and act.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::stand_in::{Answers, INSTANCE, aws, shared, store};
use super::*;
use crate::aws::{CallHook, CallPoint, HookedCall};
use crate::clock::Clock;
use crate::health::Check;
use crate::reconciler::Loop;
use crate::reconciler::observe::Groups;
use crate::reconciler::plan::DELIVERY_SLACK;
use crate::reconciler::record::fact_write;
use crate::reconciler::shared::{ROLE_RETEST, Shared};
use crate::reconciler::worker::due_at;
use crate::state::model::{Cause, Exit};
use crate::state::{Issue, NewContainer, StateError, Store};

const NOTHING: Answers = &[];

fn id() -> ContainerId {
    ContainerId::from_bytes([0xaa; 32])
}

pub(super) async fn create(store: &Store) -> Container {
    let new = NewContainer { id: id(), name: "job".into(), at: t(0), config: config() };
    store.wishes().create(new).await.unwrap().unwrap()
}

/// Does something right before each call of this name.
pub(super) fn before<F: Future<Output = ()> + Send + 'static>(
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
    let (cloud, _) = aws(NOTHING, INSTANCE, Some(hook)).await;
    let shared = shared(&store, cloud).await;
    shared.reconcile(id(), None, &CancellationToken::new()).await.unwrap();
    let status = seen.lock().unwrap().take().expect("it was called");
    assert_eq!(status.function, Known::Maybe);
    assert!(status.create_sent_at.is_some());
}

/// Who dies before the answer leaves nothing but this time for the next start to come back to the run.
#[test]
fn an_issued_run_is_due_again_when_it_is_overdue() {
    let mut story = Story::ready();
    story.start();
    let decision = story.decide();
    assert_eq!(decision.action, Action::Invoke { run_no: 1 });
    let deadline = decision.status.run.as_ref().and_then(|run| run.issued.as_ref()).unwrap().deadline;
    assert_eq!(due_at(&decision, story.now), Some(deadline.after(DELIVERY_SLACK)));
}

#[tokio::test]
async fn a_start_takes_up_what_is_due_and_what_is_wished() {
    let (_directory, store) = store().await;
    create(&store).await;
    let shared = shared(&store, aws(NOTHING, INSTANCE, None).await.0).await;
    let taken_up = async || {
        let mut fresh = Loop::new(shared.clone(), mpsc::channel(1).1);
        fresh.resync().await.unwrap();
        fresh.queue.pop(shared.clock.now()).map(|(id, ..)| id)
    };
    assert_eq!(taken_up().await, Some(id()), "nobody has planned for the wish");
    let stored = store.reader().container(&id()).await.unwrap().unwrap();
    let planned = Status { observed_generation: stored.spec.generation, ..Status::default() };
    store.facts().write(fact_write(&stored, &planned, Some(t(1)), t(0))).await.unwrap();
    assert_eq!(taken_up().await, Some(id()), "it is due");
    let stored = store.reader().container(&id()).await.unwrap().unwrap();
    store.facts().write(fact_write(&stored, &planned, None, t(0))).await.unwrap();
    assert_eq!(taken_up().await, None, "nothing is to be done");
}

#[test]
fn the_log_is_asked_for_each_run_without_an_end() {
    let story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let watched = |status: &Status| fact_write(&story.container, status, None, t(1)).watched;
    assert!(watched(&story.container.status));
    assert!(!watched(&Status::default()));
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
    let (cloud, _) = aws(LISTED, INSTANCE, Some(hook)).await;
    let view = shared(&store, cloud).await.survey(6).await.unwrap().expect("the claim is ours");
    assert!(view.findings.orphans.is_empty(), "{:?}", view.findings);
}

#[tokio::test]
async fn runs_that_are_found_at_the_start_hold_their_slots() {
    let (_directory, store) = store().await;
    with_an_event(&store).await;
    let shared = shared(&store, aws(NOTHING, INSTANCE, None).await.0).await;
    assert_eq!(shared.slots.running(), 1);
    assert!(!shared.slots.is_free_for(&ContainerId::from_bytes([0xbb; 32])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_are_folded_again_when_somebody_else_wrote_first() {
    let (_directory, store) = store().await;
    create(&store).await;
    let shared = shared(&store, aws(NOTHING, INSTANCE, None).await.0).await;
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

/// As the informer of a pass at whose end it is cut off: the commit has happened, and the summary must know.
#[tokio::test]
async fn commit_whose_caller_is_cut_off_is_counted_and_frees_its_slot() {
    let (_directory, store) = store().await;
    with_an_event(&store).await;
    let shared = shared(&store, aws(NOTHING, INSTANCE, None).await.0).await;
    let counted = || (shared.slots.running(), shared.tally.done().settled);
    assert_eq!(counted(), (1, 0));
    let end = |container: &Container| {
        let mut status = container.status.clone();
        let (cause, message) = (Cause::Exited, String::new());
        status.run.as_mut().unwrap().phase =
            RunPhase::Exited(Exit { code: 7, cause, message, started_at: None, finished_at: t(3) });
        status
    };
    let informer = shared.clone();
    let folding = tokio::spawn(async move { informer.fold_in(&id(), end).await });
    while shared.commits.is_empty() {
        assert!(!folding.is_finished(), "it was not cut off in the middle");
        tokio::task::yield_now().await;
    }
    folding.abort();
    assert!(folding.await.unwrap_err().is_cancelled());
    shared.commits.close();
    shared.commits.wait().await;
    assert_eq!(counted(), (0, 1));
}

/// As content that the store refuses: it is tried again with growing pauses, and the daemon is well.
#[tokio::test]
async fn status_that_cannot_be_stored_is_retried_with_pauses_and_stops_nobody() {
    let (_directory, store) = store().await;
    create(&store).await;
    let shared = shared(&store, aws(NOTHING, INSTANCE, None).await.0).await;
    let unstorable = |container: &Container| Status { observed_generation: u64::MAX, ..container.status.clone() };
    assert!(!shared.fold_in(&id(), unstorable).await.unwrap(), "nothing is recorded, and the caller goes on");
    assert_eq!(store.reader().container(&id()).await.unwrap().unwrap().revision, 0);

    let mut control = Loop::new(shared.clone(), mpsc::channel(1).1);
    let mut pauses = Vec::new();
    for _ in 0..11 {
        let (task, before) = (tokio::spawn(async {}).id(), shared.clock.now());
        control.take_back(Ok((task, (id(), Err(StateError::Unstorable("status".to_owned()))))));
        let due = control.queue.next_due().unwrap();
        pauses.push(due.since(before).as_secs());
        assert_eq!(control.queue.pop(due).map(|(id, ..)| id), Some(id()));
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    assert!(shared.health.problems().is_empty());
}

/// The store with an Event that is under way, whose end only the log can tell.
async fn with_an_event(store: &Store) {
    create(store).await;
    start_as(store, &Story::running(InvocationKind::Event, Protocol::Bootstrap).container.status).await;
}

/// Starts the container, and commits the intent to invoke it with these facts.
pub(super) async fn start_as(store: &Store, status: &Status) {
    store.wishes().start(&id(), t(1)).await.unwrap();
    let stored = store.reader().container(&id()).await.unwrap().unwrap();
    let issued = store.facts().issue(fact_write(&stored, status, None, t(2)), stored.spec.generation).await;
    assert!(matches!(issued, Ok(Issue::Granted(..))), "{issued:?}");
}

/// Lets a fixed clock go to the next time that the task waits for.
async fn to_the_next_alarm(clock: &Clock) {
    loop {
        if let Some(at) = clock.next_alarm() {
            return clock.set(at);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_log_that_may_not_be_read_fails_its_check_after_a_minute_and_recovers_by_itself() {
    const DENIED: (&str, &str, &str) =
        ("FilterLogEvents", "400 Bad Request", r#"{"__type":"AccessDeniedException","message":"not authorized"}"#);
    const ANSWERS: Answers =
        &[DENIED, DENIED, DENIED, DENIED, DENIED, DENIED, DENIED, ("FilterLogEvents", "200 OK", r#"{"events":[]}"#)];
    let (_directory, store) = store().await;
    with_an_event(&store).await;
    let clock = Clock::fixed(t(10));
    let shared = Shared { clock: clock.clone(), ..shared(&store, aws(ANSWERS, INSTANCE, None).await.0).await };
    let health = shared.health.clone();
    let informer = tokio::spawn(shared.follow_logs(Groups::new(), CancellationToken::new()));
    let mut seen = Vec::new();
    while clock.now() < t(115) {
        let before = clock.now();
        to_the_next_alarm(&clock).await;
        seen.push((before.since(t(10)).as_secs(), health.problems().remove(&Check::Logs)));
    }
    informer.abort();
    // 1, 2, 4, 8, 16 and 30 seconds between the failures.
    let failing: Vec<_> = seen.iter().filter(|(_, problem)| problem.is_some()).collect();
    assert!(failing.iter().all(|(after, _)| (61..=91).contains(after)) && !failing.is_empty(), "{seen:?}");
    let reason = failing[0].1.as_ref().unwrap();
    assert!(reason.contains("was last read 61 s ago") && reason.contains("not authorized"), "{reason}");
    assert!(seen.last().unwrap().1.is_none(), "{seen:?}");
}

#[tokio::test]
async fn a_role_without_logs_is_tried_again_after_an_hour_and_by_a_restart() {
    let (_directory, store) = store().await;
    let container = create(&store).await;
    let role = container.spec.config.function.role_arn.clone();
    let clock = Clock::fixed(t(10));
    let restarted =
        async || Shared { clock: clock.clone(), ..shared(&store, aws(NOTHING, INSTANCE, None).await.0).await };
    let first = restarted().await;
    first.set_role_logs(&role, false).await.unwrap();
    assert!(first.observed(&container).role_without_logs);
    clock.set(t(10).after(ROLE_RETEST).before(Duration::from_secs(1)));
    assert!(first.observed(&container).role_without_logs);
    assert!(!restarted().await.observed(&container).role_without_logs, "somebody may have mended it meanwhile");
    clock.set(t(10).after(ROLE_RETEST));
    assert!(!first.observed(&container).role_without_logs);
    let mut event = container.clone();
    event.spec.config.function.invocation = InvocationKind::Event;
    first.note_retest(&event);
    assert!(first.observed(&container).role_without_logs, "one Event tries it, and the others wait");
    first.set_role_logs(&role, true).await.unwrap();
    assert!(!first.observed(&container).role_without_logs);
}
