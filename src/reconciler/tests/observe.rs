//! How far a log group counts as read, and in which order its lines are learned.

use super::*;
use crate::aws::LogEvent;
use crate::reconciler::learn::CLOCK_SKEW;
use crate::reconciler::observe::{Group, Pass, owners, page_news};
use crate::reconciler::plan::DELIVERY_SLACK;

#[test]
fn a_group_is_read_only_by_a_deep_pass_to_the_last_page() {
    let passed =
        |deep, complete, before| Group::default().passed(Pass { from: t(0), deep }, t(1_000), complete, before);
    assert_eq!(passed(true, true, t(0)), Some(t(1_000).before(DELIVERY_SLACK)), "late lines may still come");
    assert_eq!(passed(true, true, t(5_000)), Some(t(5_000)), "it never moves back");
    for (deep, complete) in [(true, false), (false, true), (false, false)] {
        assert_eq!(passed(deep, complete, t(0)), None, "deep: {deep}, to the last page: {complete}");
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
    let news = page_news(&owners(std::slice::from_ref(&story.container)), page);
    let status = news[&story.container.id].fold(t(10), &story.container);
    let RunPhase::Exited(exit) = status.run.unwrap().phase else { panic!("it has ended") };
    assert_eq!((exit.code, exit.finished_at), (4, t(5)));
}
