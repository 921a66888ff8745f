//! How far a log group counts as read, and in which order its lines are learned.

use super::*;
use crate::aws::LogEvent;
use crate::reconciler::learn::CLOCK_SKEW;
use crate::reconciler::observe::{Attention, UNREAD_LIMIT, owners, page_news};
use crate::reconciler::plan::{DELIVERY_SLACK, credible};
use crate::reconciler::scan::{Group, Pass};

#[test]
fn a_group_is_read_only_by_a_deep_pass_to_the_last_page() {
    let passed = |deep, complete| Group::default().passed(Pass { from: t(0), deep }, t(1_000), complete);
    assert_eq!(passed(true, true), Some(t(1_000).before(DELIVERY_SLACK)), "late lines may still come");
    for (deep, complete) in [(true, false), (false, true), (false, false)] {
        assert_eq!(passed(deep, complete), None, "deep: {deep}, to the last page: {complete}");
    }
}

/// What was read while the clock was fast is read again once the clock is right.
#[test]
fn nobody_has_read_further_than_until_now() {
    assert_eq!(credible(t(5_000), t(1_000)), t(1_000).before(DELIVERY_SLACK));
    assert_eq!(credible(t(100), t(1_000)), t(100));
    let story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    let mut group = Group::default();
    group.passed(Pass { from: t(0), deep: true }, t(5_000), true);
    for (group, read_through) in [(&group, t(4_880)), (&Group::default(), t(4_880))] {
        let pass = Pass::choose(t(60), std::slice::from_ref(&story.container), group, read_through);
        assert!(pass.from < t(0), "from before it was issued: {pass:?}");
    }
}

#[test]
fn a_deep_pass_reads_back_over_the_clocks_difference() {
    let story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    let containers = [story.container];
    let choose = |read_through| Pass::choose(t(1_000), &containers, &Group::default(), read_through);
    assert_eq!(choose(t(-5_000)), Pass { from: t(0).before(CLOCK_SKEW), deep: true }, "from before it was issued");
    assert_eq!(choose(t(400)), Pass { from: t(400).before(CLOCK_SKEW), deep: true });
}

/// An event that Lambda has delivered twice: what ended first is the run.
#[test]
fn a_page_is_learned_in_the_order_of_its_times() {
    let story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    let token = story.token();
    let event = |stream: &str, at: Timestamp, code| LogEvent {
        id: String::new(),
        stream: stream.to_owned(),
        timestamp_ms: at.as_millis(),
        ingestion_ms: at.as_millis(),
        message: format!("@sockerless:exit {token} {code} exited"),
    };
    let page = vec![event(&STREAM.replace("[$LATEST]0", "[$LATEST]9"), t(9), 8), event(STREAM, t(5), 4)];
    let news = page_news(&owners(std::slice::from_ref(&story.container), |_| false), page);
    let status = news[&story.container.id].fold(t(10), &story.container);
    let RunPhase::Exited(exit) = status.run.unwrap().phase else { panic!("it has ended") };
    assert_eq!((exit.code, exit.finished_at), (4, t(5)));
}

/// However long the logs are flooded, a failure counts from the last pass that went through.
#[test]
fn what_programs_print_is_no_failure_of_the_daemon() {
    let mut attention = Attention::default();
    let second = |n| t(0).after(Duration::from_secs(n));
    for n in 0..=600 {
        let behind = attention.went_through(second(n), None);
        assert_eq!(behind.map(|unread| unread.as_secs()), (n > 60).then_some(n), "a run waits since the first pass");
    }
    assert_eq!(attention.failed(second(601)), None, "the pass before went through");
    assert_eq!(attention.failed(second(660)), None);
    assert_eq!(attention.failed(second(661)), Some(UNREAD_LIMIT + Duration::from_secs(1)));
    assert_eq!(attention.went_through(second(662), Some(second(650))), None, "all runs were looked at");
    assert_eq!(attention.failed(second(663)), None);
}
