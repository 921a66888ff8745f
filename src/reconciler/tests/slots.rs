//! Slots of runs that may go on although they count as ended, over a real store.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::stand_in::{Answers, INSTANCE, aws, claimed, reconciler, shared_at, store};
use super::tasks::{self, before, start_as};
use super::*;
use crate::clock::Clock;
use crate::health::Check;
use crate::reconciler::record::fact_write;
use crate::reconciler::rehearse::rehearse;
use crate::reconciler::shared::Shared;
use crate::reconciler::summary::Summary;
use crate::state::execute;
use crate::state::model::{Cause, Exit, Run, life};
use crate::state::{Issue, NewContainer, Store};

const NOTHING: Answers = &[];
const ANSWERED: Answers = &[("POST /2015-03-31/functions/", "200 OK", "null")];

fn id() -> ContainerId {
    ContainerId::from_bytes([0xaa; 32])
}

fn other() -> ContainerId {
    ContainerId::from_bytes([0xbb; 32])
}

fn native_config() -> ContainerConfig {
    let mut native = config();
    native.function.protocol = Protocol::Native;
    native.function.invocation = InvocationKind::Event;
    native
}

async fn create(store: &Store, id: ContainerId, name: &str) {
    let new = NewContainer { id, name: name.into(), at: t(0), config: native_config() };
    store.wishes().create(new).await.unwrap().unwrap();
}

async fn row(store: &Store) -> Container {
    store.reader().container(&id()).await.unwrap().unwrap()
}

async fn at(store: &Store, now: Timestamp) -> Shared {
    shared_at(store, aws(NOTHING, INSTANCE, None).await.0, Clock::fixed(now)).await
}

/// The end that a native program can have written itself.
fn ends(row: &Container) -> Status {
    let says = lines::parse(&report_line("Status: success")).unwrap();
    learn(t(10), &row.spec, row.status.clone(), &Evidence::Line(Line { stream: STREAM.into(), at: t(10), says }))
}

/// A native Event that is under way.
async fn with_a_native_event(store: &Store) {
    create(store, id(), "job").await;
    let mut status = Story::running(InvocationKind::Event, Protocol::Native).container.status;
    status.run.as_mut().unwrap().request_id = Some(REQUEST.into());
    start_as(store, &status).await;
}

/// A native Event whose program has written the REPORT of its own run. Returns what the daemon shares that has read it.
async fn with_a_kept_slot(store: &Store) -> Shared {
    with_a_native_event(store).await;
    let shared = at(store, t(10)).await;
    assert!(shared.fold_in(&id(), ends).await.unwrap());
    assert!(life::unsettled_run(&row(store).await.status).is_none(), "clients see its end");
    shared
}

/// Its slot is kept until its time is up, over a restart and after its removal, too.
#[tokio::test]
async fn a_native_event_that_ends_its_own_run_keeps_its_slot() {
    let (_directory, store) = store().await;
    let first = with_a_kept_slot(&store).await;
    assert!(!first.slots.is_free_for(&other()));

    let restarted = at(&store, t(10)).await;
    let slots = &restarted.slots;
    assert!(!slots.is_free_for(&other()), "after a restart");
    restarted.leave_slots(&id(), None).await;
    assert!(!slots.is_free_for(&other()), "after its removal");
    assert_eq!(slots.wait(other()), None);
    assert_eq!(slots.expire(t(119)), []);
    assert_eq!(slots.expire(t(120)), [other()]);
}

/// A slot that is kept is no run under way, and a dry run knows of it as a pass does.
#[tokio::test]
async fn a_dry_run_plans_with_kept_slots_and_does_not_report_them_as_runs() {
    const NO_GROUPS: Answers = &[("DescribeLogGroups", "200 OK", r#"{"logGroups":[]}"#)];
    let (_directory, store) = store().await;
    with_a_kept_slot(&store).await;
    create(&store, other(), "other").await;
    let waiting = store.reader().container(&other()).await.unwrap().unwrap();
    let ready = Story::running(InvocationKind::Event, Protocol::Native).container.status;
    let ready = Status { run: None, ..ready };
    store.facts().write(fact_write(&waiting, &ready, None, t(2))).await.unwrap();
    store.wishes().start(&other(), t(3)).await.unwrap();

    let shared = shared_at(&store, aws(NO_GROUPS, INSTANCE, None).await.0, Clock::fixed(t(10))).await;
    let mut summary = Summary::default();
    rehearse(&shared, 6, &mut summary).await.unwrap();
    assert_eq!(summary.running, 0, "{summary:?}");
    let planned: Vec<_> = summary.plan.iter().filter(|step| step.name.as_deref() == Some("other")).collect();
    assert_eq!(planned.iter().map(|step| step.action).collect::<Vec<_>>(), ["Wait"], "{planned:?}");
}

/// As a store that fails for a moment: without the kept slots more programs would run than may.
#[tokio::test]
async fn a_start_tries_again_until_it_knows_all_kept_slots() {
    let (directory, store) = store().await;
    with_a_kept_slot(&store).await;
    let database = directory.path().join("state.db");
    execute(&database, "ALTER TABLE container RENAME TO hidden").await;

    let clock = Clock::fixed(t(10));
    let reconciler = reconciler(&store, aws(NOTHING, INSTANCE, None).await.0, clock.clone());
    let health = reconciler.parts.health.clone();
    let beginning = tokio::spawn(async move {
        reconciler.begin(&claimed(), &CancellationToken::new()).await.map(|(shared, ..)| shared)
    });
    while !health.problems().contains_key(&Check::Reconciler) {
        assert!(!beginning.is_finished(), "it has begun without");
        tokio::task::yield_now().await;
    }
    execute(&database, "ALTER TABLE hidden RENAME TO container").await;
    while !beginning.is_finished() {
        if let Some(alarm) = clock.next_alarm() {
            clock.set(alarm);
        }
        tokio::task::yield_now().await;
    }
    let shared = beginning.await.unwrap().expect("nobody has stopped it");
    assert!(!shared.slots.is_free_for(&other()));
}

/// Commits an end as a task that is held up before it settles the slot. Returns what it was made from, and the end.
async fn end_without_settling(store: &Store) -> (Container, Status) {
    let before = row(store).await;
    let after = ends(&before);
    store.facts().write(fact_write(&before, &after, None, t(10))).await.unwrap();
    (before, after)
}

#[tokio::test]
async fn late_news_of_a_run_take_no_slot_from_the_next_one() {
    let (_directory, store) = store().await;
    with_a_native_event(&store).await;
    let shared = at(&store, t(500)).await;
    let (before, after) = end_without_settling(&store).await;
    let ended = row(&store).await;
    let next = ended.status.run.clone().map(|run| Run { no: 2, phase: RunPhase::Issued, ..run });
    assert!(shared.slots.take(id(), ended.revision + 1), "it holds a slot already");
    start_as(&store, &Status { run: next, ..ended.status }).await;
    shared.settle_slot(&before, &after, before.revision + 1).await;
    assert_eq!(shared.slots.running(), 1, "the next run has it");
    assert!(!shared.slots.is_free_for(&other()));
}

#[tokio::test]
async fn late_news_of_an_end_keep_no_slot_that_an_answer_has_freed() {
    let (_directory, store) = store().await;
    with_a_native_event(&store).await;
    let shared = at(&store, t(10)).await;
    let (before, after) = end_without_settling(&store).await;
    let answered = |row: &Container| {
        let run = row.status.run.clone().map(|run| Run { result: Some("null".into()), ..run });
        Status { run, ..row.status.clone() }
    };
    assert!(shared.fold_in(&id(), answered).await.unwrap());
    assert!(shared.slots.is_free_for(&other()), "the answer proves the end");
    shared.settle_slot(&before, &after, before.revision + 1).await;
    assert!(shared.slots.is_free_for(&other()), "and older news do not change that");
}

/// An image that does the bootstrap's work itself can write the line of its end and go on: its slot is kept while the call that
/// invoked it is open, whatever the container has become meanwhile.
#[tokio::test]
async fn a_run_whose_call_is_open_keeps_its_slot_though_its_log_has_ended_it() {
    for removed in [false, true] {
        let (_directory, store) = store().await;
        let (called, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (calling, going_on) = (Arc::clone(&called), Arc::clone(&go_on));
        let hook = before("invoke", move || {
            let (calling, going_on) = (Arc::clone(&calling), Arc::clone(&going_on));
            async move {
                calling.notify_one();
                going_on.notified().await;
            }
        });
        let (cloud, _) = aws(ANSWERED, INSTANCE, Some(hook)).await;
        let shared = shared_at(&store, cloud, Clock::fixed(t(10))).await;
        tasks::create(&store).await;
        store.wishes().start(&id(), t(1)).await.unwrap();
        let stored = row(&store).await;
        let status = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap).container.status;
        let write = fact_write(&stored, &status, None, t(2));
        assert!(shared.slots.take(id(), write.revision + 1));
        let issue = store.facts().issue(write, stored.spec.generation).await.unwrap();
        let Issue::Granted(permit, _) = issue else { panic!("{issue:?}") };
        shared.launch(row(&store).await, permit);
        called.notified().await;

        let token = status.run.as_ref().unwrap().issued.as_ref().unwrap().token.clone();
        let says = lines::parse(&format!("@sockerless:exit {token} 0 exited")).unwrap();
        let exit = Evidence::Line(Line { stream: STREAM.into(), at: t(10), says });
        assert!(shared.fold_in(&id(), |row| learn(t(10), &row.spec, row.status.clone(), &exit)).await.unwrap());
        assert!(life::unsettled_run(&row(&store).await.status).is_none(), "clients see its end");
        assert!(!shared.slots.is_free_for(&other()));
        // A start that ends without a run of its own does not hide the open call.
        let ended = row(&store).await;
        let (message, finished_at) = ("it was cancelled".to_owned(), t(10));
        let never_ran = Exit { code: 137, cause: Cause::Cancelled, message, started_at: None, finished_at };
        let next = Run::new(2, 1, None, RunPhase::Exited(never_ran));
        let after = Status { run: Some(next), ..ended.status.clone() };
        assert!(shared.fold_in(&id(), |_| after.clone()).await.unwrap());
        assert!(!shared.slots.is_free_for(&other()));
        assert!(shared.observed(&row(&store).await).under_way);
        if removed {
            store.wishes().remove(&id(), true, t(11)).await.unwrap();
            store.facts().forget(&id()).await.unwrap();
            shared.leave_slots(&id(), None).await;
            assert!(!shared.slots.is_free_for(&other()));
        }
        assert_eq!(shared.slots.wait(other()), None);

        go_on.notify_one();
        shared.runs.close();
        shared.runs.wait().await;
        assert!(shared.slots.is_free_for(&other()), "the call has come back");
    }
}
