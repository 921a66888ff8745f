//! The end of a run without the bootstrap's line: what its REPORT says, and the lines beside it that say more.

use super::*;
use crate::aws::LogEvent;
use crate::reconciler::observe::{owners, page_news};
use crate::reconciler::plan::DELIVERY_SLACK;
use crate::reconciler::scan::{Group, Pass};
use crate::state::model::{Cause, Exit, ReportStatus};

const OTHER_STREAM: &str =
    "2026/11/23/skls-0123456789-aaaaaaaaaaaaaaaaaaaaaaaa[$LATEST]9999456789abcdef0123456789abcdef";
const TIMED_OUT: &str =
    "2026-11-23T01:13:11.973Z 6bc28136-0000-4365-b021-0ce6b2e64ab0 Task timed out after 3.00 seconds";
const EXIT_ERROR: &str = "Status: error\tError Type: Runtime.ExitError";

fn failed(message: &str) -> String {
    format!("RequestId: {REQUEST} Error: {message}")
}

fn exits_with(code: u8) -> String {
    failed(&format!("Runtime exited with error: exit status {code}"))
}

/// A native event that Lambda has taken, or a native invocation whose answer was lost after its START was seen.
fn native(kind: InvocationKind) -> Story {
    let mut story = Story::running(kind, Protocol::Native);
    let outcome = match kind {
        InvocationKind::Event => Outcome::Accepted { request_id: Some(REQUEST.into()) },
        InvocationKind::RequestResponse => Outcome::Unknown(error(AwsErrorKind::NoAnswer)),
    };
    story.absorb(&Action::Invoke { run_no: 1 }, &outcome);
    page(&mut story, STREAM, t(1), &[&format!("START RequestId: {REQUEST} Version: $LATEST")]);
    story.pass(5);
    story
}

/// The informer reads a page of lines of the same millisecond.
fn page(story: &mut Story, stream: &str, at: Timestamp, lines: &[&str]) {
    let event = |message: &&str| LogEvent {
        id: String::new(),
        stream: stream.to_owned(),
        timestamp_ms: at.as_millis(),
        ingestion_ms: at.as_millis(),
        message: format!("{message}\n"),
    };
    let owners = owners(std::slice::from_ref(&story.container), |_| false);
    for news in page_news(&owners, lines.iter().map(event).collect()).into_values() {
        story.container.status = news.fold(story.now, &story.container);
    }
}

/// The log counts as read as far as it can by now, and the run is planned for.
fn read_through_now(story: &mut Story) {
    story.observed.read_through = story.now;
    story.decide();
}

fn told(story: &Story) -> Option<(u8, Cause)> {
    exit(story).map(|exit| (exit.code, exit.cause))
}

fn exit(story: &Story) -> Option<&Exit> {
    match story.phase() {
        RunPhase::Exited(exit) => Some(exit),
        _ => None,
    }
}

/// What a REPORT and the line beside it come to.
fn table() -> Vec<(&'static str, String, (u8, Cause))> {
    vec![
        ("", exits_with(3), (3, Cause::FunctionError)),
        ("", format!("{}\nRuntime.ExitError", exits_with(7)), (7, Cause::FunctionError)),
        ("", failed("Runtime exited without providing a reason"), (1, Cause::FunctionError)),
        ("", failed("Runtime exited with error: signal: segmentation fault"), (1, Cause::FunctionError)),
        ("", failed("Runtime exited with error: signal: killed"), (137, Cause::OutOfMemory)),
        ("", failed("fork/exec /entry: no such file or directory"), (1, Cause::FunctionError)),
        ("", failed("Task timed out after 3.00 seconds"), (137, Cause::Deadline)),
        ("", TIMED_OUT.to_owned(), (137, Cause::Deadline)),
        (EXIT_ERROR, exits_with(3), (3, Cause::FunctionError)),
        (EXIT_ERROR, failed("Runtime exited with error: signal: killed"), (137, Cause::OutOfMemory)),
        ("Status: error", exits_with(3), (3, Cause::FunctionError)),
        ("Status: timeout", TIMED_OUT.to_owned(), (137, Cause::Deadline)),
        ("Status: error\tError Type: Runtime.OutOfMemory", exits_with(137), (137, Cause::OutOfMemory)),
    ]
}

#[test]
fn a_line_of_a_failure_wins_over_the_report_on_one_page() {
    for kind in [InvocationKind::Event, InvocationKind::RequestResponse] {
        for (status, line, expected) in table() {
            let mut story = native(kind);
            page(&mut story, STREAM, t(4), &[&report_line(status), &line]);
            assert_eq!(told(&story), Some(expected), "{status:?}, then {line:?}");
            assert_eq!(exit(&story).unwrap().finished_at, t(4));
        }
    }
}

#[test]
fn a_line_of_a_failure_wins_over_the_report_on_the_page_before() {
    for (status, line, expected) in table() {
        let mut story = native(InvocationKind::Event);
        page(&mut story, STREAM, t(4), &[&report_line(status)]);
        story.decide();
        story.pass(119);
        story.observed.read_through = t(4);
        story.decide();
        page(&mut story, STREAM, t(4), &[&line]);
        assert_eq!(told(&story), Some(expected), "{status:?}, then {line:?}");
    }
}

#[test]
fn a_line_of_a_failure_before_its_report_says_the_same() {
    for (status, line, expected) in table().into_iter().filter(|(status, ..)| !status.contains("OutOfMemory")) {
        for pages in [1, 2] {
            let (mut story, report) = (native(InvocationKind::Event), report_line(status));
            for lines in [&line, &report].chunks(2 / pages) {
                let lines: Vec<_> = lines.iter().map(|line| line.as_str()).collect();
                page(&mut story, STREAM, t(4), &lines);
                story.decide();
            }
            assert_eq!(told(&story), Some(expected), "{line:?}, then {status:?}");
        }
    }
}

/// Neither a success nor a failure without its exit status can be told before the line that may come was waited for.
#[test]
fn a_report_that_leaves_the_end_open_settles_when_the_log_was_read_beyond_it() {
    let table = [("", (0, Cause::Exited)), (EXIT_ERROR, (1, Cause::FunctionError))];
    for (status, expected) in table {
        let mut story = native(InvocationKind::Event);
        page(&mut story, STREAM, t(4), &[&report_line(status)]);
        assert_eq!(story.decide().action, Action::Wait { until: Some(story.now.after(DELIVERY_SLACK)) });
        let seen_at = story.now;
        story.pass(1_000);
        story.observed.read_through = seen_at.before(Duration::from_nanos(1));
        story.decide();
        assert_eq!(told(&story), None, "the clock alone settles nothing");
        story.observed.read_through = seen_at;
        story.decide();
        assert_eq!(told(&story), Some(expected), "{status:?}");
        let exit = exit(&story).unwrap();
        assert_eq!((exit.started_at, exit.finished_at), (Some(t(1)), t(4)), "when it really was");
        assert!(!story.container.status.retire, "the environment is at rest");
    }
}

#[test]
fn a_report_that_says_it_all_settles_at_once() {
    let table = [
        ("Status: success", (0, Cause::Exited)),
        ("Status: timeout", (137, Cause::Deadline)),
        ("Status: error\tError Type: Runtime.OutOfMemory", (137, Cause::OutOfMemory)),
        ("Status: error\tError Type: Function.Broken", (1, Cause::FunctionError)),
        ("Status: error\tError Type: Runtime.InvalidEntrypoint", (1, Cause::FunctionError)),
    ];
    for (status, expected) in table {
        let mut story = native(InvocationKind::Event);
        page(&mut story, STREAM, t(4), &[&report_line(status)]);
        assert_eq!(told(&story), Some(expected), "{status:?}");
    }
}

#[test]
fn an_answer_settles_at_once_whatever_the_report_leaves_open() {
    let mut story = native(InvocationKind::RequestResponse);
    page(&mut story, STREAM, t(4), &[&report_line("")]);
    assert_eq!(told(&story), None);
    story.answer(true, &format!(r#"{{"errorType":"Runtime.ExitError","errorMessage":"{}"}}"#, exits_with(9)));
    assert_eq!(told(&story), Some((9, Cause::FunctionError)));
    let mut story = native(InvocationKind::RequestResponse);
    story.answer(false, "{}");
    assert_eq!(told(&story), Some((0, Cause::Exited)));
}

#[test]
fn a_line_that_comes_after_all_patience_changes_nothing() {
    let mut story = native(InvocationKind::Event);
    page(&mut story, STREAM, t(4), &[&report_line("")]);
    story.pass(200);
    read_through_now(&mut story);
    let settled = story.container.status.clone();
    page(&mut story, STREAM, t(4), &[&exits_with(3)]);
    assert_eq!(story.container.status, settled);
}

#[test]
fn reading_a_report_again_changes_nothing() {
    for status in ["", EXIT_ERROR, "Status: success"] {
        let mut story = native(InvocationKind::Event);
        page(&mut story, STREAM, t(4), &[&report_line(status)]);
        let learned = story.container.status.clone();
        story.pass(30);
        page(&mut story, STREAM, t(4), &[&report_line(status)]);
        assert_eq!(story.container.status, learned, "{status:?}");
    }
}

/// An event that Lambda has delivered twice: what ended first is the run.
#[test]
fn the_failure_of_a_second_delivery_is_not_the_runs() {
    let mut story = native(InvocationKind::Event);
    page(&mut story, STREAM, t(4), &[&report_line("")]);
    page(&mut story, OTHER_STREAM, t(5), &[&report_line(EXIT_ERROR), &exits_with(3)]);
    assert_eq!(told(&story), None);
    story.pass(200);
    read_through_now(&mut story);
    assert_eq!(told(&story), Some((0, Cause::Exited)));
}

/// The environment that has run an event gets it again; CloudWatch shows the REPORTs in any order.
#[test]
fn a_refused_delivery_reports_nothing_of_the_run() {
    let (refused, failed) = ("Status: success", "Status: error\tError Type: Function.Broken");
    for order in [[(refused, t(5)), (failed, t(4))], [(failed, t(4)), (refused, t(5))]] {
        let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
        story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Accepted { request_id: Some(REQUEST.into()) });
        for (status, at) in order {
            page(&mut story, STREAM, at, &[&report_line(status)]);
        }
        assert_eq!(told(&story), Some((1, Cause::FunctionError)), "{order:?}");
    }
    // In another environment it is a second run, and what ended first stands.
    let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Accepted { request_id: Some(REQUEST.into()) });
    page(&mut story, STREAM, t(5), &[&report_line(refused)]);
    page(&mut story, OTHER_STREAM, t(4), &[&report_line(failed)]);
    assert_eq!(told(&story), None);
}

/// Whoever dies while a line is waited for has the REPORT in the facts.
#[test]
fn what_a_report_says_survives_in_the_facts() {
    let mut story = native(InvocationKind::Event);
    page(&mut story, STREAM, t(4), &[&report_line(EXIT_ERROR)]);
    let text = serde_json::to_string(&story.container.status).unwrap();
    let status: Status = serde_json::from_str(&text).unwrap();
    assert_eq!(status, story.container.status);
    let report = status.run.unwrap().report.unwrap();
    assert_eq!((report.at, report.seen_at, report.stream.as_str()), (t(4), story.now, STREAM));
    assert_eq!(report.status, ReportStatus::Error { error_type: "Runtime.ExitError".into() });
}

#[test]
fn a_run_behind_the_bootstrap_waits_for_the_bootstraps_line() {
    for (status, unless_told) in [("", (125, Cause::Unknown)), (EXIT_ERROR, (1, Cause::FunctionError))] {
        for line_comes in [true, false] {
            let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
            let accepted = Outcome::Accepted { request_id: Some(REQUEST.into()) };
            story.absorb(&Action::Invoke { run_no: 1 }, &accepted);
            page(&mut story, STREAM, t(4), &[&report_line(status)]);
            assert_eq!(told(&story), None);
            if line_comes {
                let line = format!("@sockerless:exit {} 7 exited", story.token());
                page(&mut story, STREAM, t(3), &[&line]);
            }
            story.pass(200);
            read_through_now(&mut story);
            assert_eq!(told(&story), Some(if line_comes { (7, Cause::Exited) } else { unless_told }), "{status:?}");
        }
    }
}

/// After downtime the REPORT is read hours after it was written: what stands beside it is read once more, too.
#[test]
fn the_log_is_read_again_from_a_report_that_leaves_the_end_open() {
    let mut story = native(InvocationKind::Event);
    story.pass(10_000);
    page(&mut story, STREAM, t(4), &[&report_line("")]);
    let seen_at = story.now;
    story.observed.read_through = seen_at.before(DELIVERY_SLACK);
    story.decide();
    assert_eq!(told(&story), None, "read beyond the deadline, but not beyond the reading of the REPORT");
    let mut group = Group::default();
    group.passed(Pass { from: t(0), deep: true }, seen_at.after(Duration::from_secs(119)), true);
    let choose = |now: Timestamp| Pass::choose(now, std::slice::from_ref(&story.container), &group, seen_at);
    assert!(!choose(seen_at.after(Duration::from_secs(119))).deep);
    let due = choose(seen_at.after(DELIVERY_SLACK));
    assert!(due.deep && due.from <= t(4), "as soon as it can settle the run: {due:?}");
    story.now = seen_at.after(DELIVERY_SLACK);
    read_through_now(&mut story);
    let due = Pass::choose(story.now, std::slice::from_ref(&story.container), &Group::default(), seen_at);
    assert!(due.from > t(4), "not for ever");
}
