//! A clock that is set back by a day: nothing waits for the day to pass again.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::stand_in::{Answers, INSTANCE, aws, shared, store};
use super::*;
use crate::clock::Clock;
use crate::reconciler::Loop;
use crate::reconciler::absorb::ROLE_PATIENCE;
use crate::reconciler::learn::CREATE_SETTLE;
use crate::reconciler::plan::{AUTO_REMOVE_PATIENCE, DELIVERY_SLACK};
use crate::reconciler::record::fact_write;
use crate::reconciler::schedule::LONGEST_PAUSE;
use crate::state::NewContainer;
use crate::state::model::Report;

const DAY: u64 = 86_400;

impl Story {
    fn set_back_by_a_day(&mut self) {
        self.now = self.now.before(Duration::from_secs(DAY));
    }
}

#[test]
fn a_retry_is_not_put_off_by_a_clock_set_back() {
    let mut story = Story::created();
    let create = story.decide().action;
    for _ in 0..20 {
        story.absorb(&create, &Outcome::Refused(error(AwsErrorKind::Throttled)));
    }
    let mut put_off = story.container.status.clone();
    assert!(matches!(story.decide().action, Action::Wait { until: Some(_) }), "it is paused");
    story.set_back_by_a_day();
    assert_eq!(story.decide().action, create);
    put_off.retry.not_before = Some(story.now.after(LONGEST_PAUSE));
    story.container.status = put_off;
    assert!(matches!(story.decide().action, Action::Wait { .. }), "a pause that can be right is kept");
}

#[test]
fn a_deletion_is_not_put_off_by_a_clock_set_back() {
    let mut story = Story::ready();
    story.remove();
    let delete = story.decide().action;
    for _ in 0..20 {
        story.absorb(&delete, &Outcome::Refused(error(AwsErrorKind::Throttled)));
    }
    assert!(matches!(story.decide().action, Action::Wait { .. }));
    story.set_back_by_a_day();
    assert_eq!(story.decide().action, delete);
}

#[test]
fn a_bounded_wait_ends_in_its_time_after_a_clock_set_back() {
    let mut story = Story::created();
    story.start();
    let create = story.decide().action;
    let refused = Outcome::Refused(error(AwsErrorKind::RoleNotReady));
    story.absorb(&create, &refused);
    story.set_back_by_a_day();
    for ended in [false, true] {
        assert_eq!(story.decide().action, create);
        story.absorb(&create, &refused);
        story.decide();
        assert_eq!(story.container.status.run.is_some(), ended);
        story.pass(ROLE_PATIENCE.as_secs());
    }
}

#[test]
fn a_create_without_an_answer_settles_in_its_time_after_a_clock_set_back() {
    let mut story = Story::created();
    let create = story.decide().action;
    story.absorb(&create, &Outcome::Unknown(error(AwsErrorKind::NoAnswer)));
    story.pass(60);
    story.set_back_by_a_day();
    let look = Action::GetFunction { name: NAME.into() };
    assert_eq!(story.decide().action, look);
    story.absorb(&look, &Outcome::Done);
    story.learn(&Evidence::NoFunction);
    let Action::Wait { until: Some(until) } = story.decide().action else { panic!("one not-found proves nothing") };
    assert!(until <= story.now.after(CREATE_SETTLE), "{until}");
    story.now = until;
    assert_eq!(story.decide().action, look);
    story.learn(&Evidence::NoFunction);
    assert_eq!(story.decide().action, create);
}

#[test]
fn a_pending_function_is_looked_at_after_a_clock_set_back() {
    let mut story = Story::created();
    let create = story.decide().action;
    story.absorb(&create, &Outcome::Done);
    let pending = Function { seen_at: story.now, ..function(FunctionState::Pending) };
    story.learn(&Evidence::Function(pending));
    story.set_back_by_a_day();
    story.decide();
    story.pass(1);
    assert_eq!(story.decide().action, Action::GetFunction { name: NAME.into() });
}

#[test]
fn a_run_without_an_end_is_given_up_in_its_time_after_a_clock_set_back() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let issued = |story: &Story| story.container.status.run.as_ref().unwrap().issued.clone().unwrap();
    let most = issued(&story).deadline.since(issued(&story).at);
    story.set_back_by_a_day();
    story.decide();
    assert_eq!((issued(&story).at, issued(&story).deadline), (story.now, story.now.after(most)));
    story.now = story.now.after(most + DELIVERY_SLACK);
    story.observed.read_through = story.now;
    story.decide();
    assert_eq!(story.exit_code(), Some(125), "the log was read to the deadline");
}

#[test]
fn a_report_of_the_future_settles_its_run_after_a_clock_set_back() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.container.status.run.as_mut().unwrap().report = Some(Report { seen_at: story.now, ..Report::default() });
    story.set_back_by_a_day();
    story.decide();
    story.now = story.now.after(DELIVERY_SLACK);
    story.observed.read_through = story.now;
    story.decide();
    assert!(story.exit_code().is_some());
}

#[test]
fn what_follows_an_end_is_not_put_off_by_a_clock_set_back() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.container.spec.config.restart = RestartPolicy::OnFailure { max: 0 };
    story.exit_answer(1);
    story.set_back_by_a_day();
    assert_eq!(story.decide().action, Action::Invoke { run_no: 2 }, "it is restarted");

    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.container.spec.config.auto_remove = true;
    story.exit_answer(1);
    let waits = Action::Wait { until: Some(story.now.after(AUTO_REMOVE_PATIENCE)) };
    assert_eq!(story.decide().action, waits, "for the rest of the log");
    story.set_back_by_a_day();
    story.decide();
    assert!(story.container.status.auto_removed.is_some(), "it removes itself");
}

fn id() -> ContainerId {
    ContainerId::from_bytes([0xaa; 32])
}

/// A container that is due in an hour by a clock that is a day fast.
async fn due_tomorrow(clock: &Clock) -> (tempfile::TempDir, crate::state::Store, super::super::Shared) {
    let (directory, store) = store().await;
    let new = NewContainer { id: id(), name: "job".into(), at: clock.now(), config: config() };
    let stored = store.wishes().create(new).await.unwrap().unwrap();
    let planned = Status { observed_generation: stored.spec.generation, ..Status::default() };
    let due = Some(clock.now().after(Duration::from_secs(60)));
    store.facts().write(fact_write(&stored, &planned, due, clock.now())).await.unwrap();
    let mut shared = shared(&store, aws(&[], INSTANCE, None).await.0).await;
    shared.clock = clock.clone();
    (directory, store, shared)
}

#[tokio::test]
async fn a_loop_takes_up_what_is_due_after_its_clock_was_set_back() {
    let clock = Clock::fixed(t(0));
    let (_directory, _store, shared) = due_tomorrow(&clock).await;
    let mut control = Loop::new(shared, mpsc::channel(1).1);
    control.resync().await.unwrap();
    control.follow_clock(clock.now());
    clock.set(t(0).before(Duration::from_secs(DAY)));
    control.follow_clock(clock.now());
    assert_eq!(control.queue.pop(clock.now().after(Duration::from_secs(60))).map(|(id, ..)| id), Some(id()));
    assert!(control.resync_at <= clock.now());
}

#[tokio::test]
async fn a_start_takes_up_what_is_due_tomorrow_by_a_clock_that_was_set_back_meanwhile() {
    let clock = Clock::fixed(t(0));
    let (_directory, _store, shared) = due_tomorrow(&clock).await;
    clock.set(t(0).before(Duration::from_secs(DAY)));
    let mut control = Loop::new(shared, mpsc::channel(1).1);
    control.resync().await.unwrap();
    assert_eq!(control.queue.pop(clock.now()).map(|(id, ..)| id), Some(id()));
}

/// A function that its user keeps: it is ours by name, and its tags do not say so any more.
const RETAINED: Answers = &[
    ("DescribeLogStreams", "200 OK", r#"{"logStreams":[{"logStreamName":"INSTANCE/00000000000000000006"}]}"#),
    (
        "GET /2015-03-31/functions?",
        "200 OK",
        r#"{"Functions":[{"FunctionName":"skls-0123456789-aaaaaaaaaaaaaaaaaaaaaaaa"}]}"#,
    ),
    (
        "GET /2015-03-31/functions/skls",
        "200 OK",
        r#"{"Configuration":{"FunctionName":"skls-0123456789-aaaaaaaaaaaaaaaaaaaaaaaa"},"Tags":{"a":"b"}}"#,
    ),
];

/// The log of one test, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn count(&self, words: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(words).count()
    }
}

#[tokio::test]
async fn a_retained_function_is_looked_at_hourly_and_logged_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let clock = Clock::fixed(t(0));
    let (_directory, store) = store().await;
    let (cloud, asked) = aws(RETAINED, INSTANCE, None).await;
    let mut shared = shared(&store, cloud).await;
    shared.clock = clock.clone();
    let looks =
        || asked.lock().unwrap().iter().filter(|asked| asked.starts_with("GET /2015-03-31/functions/skls")).count();
    let mut looked = Vec::new();
    // Two sightings a grace time apart, then one look an hour, whatever the sweeps; also after the clock was set back.
    for at in [0, 3_600, 3_700, 7_300, 11_000, -86_400, -82_700, -79_000] {
        clock.set(t(at));
        shared.sweep(6).await.unwrap();
        looked.push(looks());
    }
    assert_eq!(looked, [0, 1, 1, 2, 3, 3, 4, 5]);
    assert_eq!(log.count("a function without a container is not deleted"), 1);
}
