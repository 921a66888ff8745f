//! What was seen, and what follows: in any order, again and again.

use super::*;
use crate::state::model::{Cause, Exit};

fn exit(story: &Story) -> Exit {
    match story.phase() {
        RunPhase::Exited(exit) => exit.clone(),
        other => panic!("not exited: {other:?}"),
    }
}

#[test]
fn the_answer_brings_exit_code_and_request_id() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.pass(3);
    story.exit_answer(3);
    let run = story.container.status.run.clone().unwrap();
    assert_eq!(run.request_id.as_deref(), Some(REQUEST));
    assert_eq!((exit(&story).code, exit(&story).finished_at), (3, t(3)));
}

#[test]
fn the_log_settles_a_run_whose_answer_was_lost() {
    for kind in [InvocationKind::RequestResponse, InvocationKind::Event] {
        let mut story = Story::running(kind, Protocol::Bootstrap);
        let token = story.token();
        story.pass(1);
        story.line(&format!("@sockerless:start {token} {REQUEST}"));
        assert_eq!(story.phase(), &RunPhase::Running { since: t(1) });
        story.pass(2);
        story.line(&format!("@sockerless:exit {token} 7 exited"));
        let exit = exit(&story);
        assert_eq!((exit.code, exit.started_at, exit.finished_at), (7, Some(t(1)), t(3)));
    }
}

#[test]
fn lines_of_another_run_say_nothing() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let before = story.container.status.clone();
    story.line(&format!("@sockerless:start somebody {REQUEST}"));
    story.line("@sockerless:exit somebody 7 exited");
    story.line(&format!("START RequestId: {REQUEST} Version: $LATEST"));
    let report = report_line("Status: timeout");
    story.line(&report);
    assert_eq!(story.container.status, before);
}

#[test]
fn learning_twice_and_in_any_order_gives_the_same() {
    let settled = |order: &[usize]| {
        let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
        story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Accepted { request_id: Some(REQUEST.into()) });
        let token = story.token();
        let lines = [
            (t(1), format!("START RequestId: {REQUEST} Version: $LATEST")),
            (t(2), format!("@sockerless:start {token} {REQUEST}")),
            (t(3), format!("@sockerless:exit {token} 7 exited")),
            (t(4), report_line("")),
        ];
        for index in order {
            let (at, line) = &lines[*index];
            story.line_at(STREAM, *at, line);
        }
        story.container.status
    };
    let expected = settled(&[0, 1, 2, 3]);
    for order in [[3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
        assert_eq!(settled(&order), expected, "{order:?}");
    }
    assert_eq!(settled(&[0, 1, 1, 2, 0, 2, 3, 3, 1]), expected);
}

#[test]
fn the_first_end_stands() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.exit_answer(3);
    let token = story.token();
    story.line(&format!("@sockerless:exit {token} 9 exited"));
    assert_eq!(exit(&story).code, 3);
}

#[test]
fn failed_reports_settle_by_their_kind() {
    let table = [
        ("Status: timeout", 137, Cause::Deadline),
        ("Status: error\tError Type: Function.Broken", 1, Cause::FunctionError),
        ("Status: error\tError Type: Runtime.OutOfMemory", 137, Cause::OutOfMemory),
    ];
    for (status, code, cause) in table {
        let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
        story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Accepted { request_id: Some(REQUEST.into()) });
        let report = report_line(status);
        story.line(&report);
        assert_eq!((exit(&story).code, exit(&story).cause), (code, cause), "{status}");
    }
}

#[test]
fn the_runtimes_exit_status_is_kept_over_the_report() {
    let mut story = Story::running(InvocationKind::Event, Protocol::Native);
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Accepted { request_id: Some(REQUEST.into()) });
    story.line(&format!("RequestId: {REQUEST} Error: Runtime exited with error: exit status 3"));
    let report = report_line("Status: error\tError Type: Runtime.ExitError");
    story.line(&report);
    assert_eq!(exit(&story).code, 3);
}

#[test]
fn a_native_run_binds_the_first_start_that_is_no_other_runs() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Native);
    story.container.status.past_request_ids = vec![OTHER_REQUEST.into()];
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Unknown(error(AwsErrorKind::NoAnswer)));
    story.pass(1);
    story.line(&format!("START RequestId: {OTHER_REQUEST} Version: $LATEST"));
    assert_eq!(story.phase(), &RunPhase::Issued);
    story.line(&format!("START RequestId: {REQUEST} Version: $LATEST"));
    assert_eq!(story.phase(), &RunPhase::Running { since: t(1) });
    let report = report_line("Status: success");
    story.line(&report);
    assert_eq!((exit(&story).code, exit(&story).cause), (0, Cause::Exited));
}

/// The log is seconds late, and the next run can be issued within a tenth of one.
#[test]
fn late_line_of_an_earlier_run_adds_its_stream_and_leaves_the_run_alone() {
    for protocol in [Protocol::Native, Protocol::Bootstrap] {
        let mut story = Story::running(InvocationKind::RequestResponse, protocol);
        story.container.status.past_request_ids = vec![OTHER_REQUEST.into()];
        let before = story.container.status.clone();
        story.line_at("earlier-stream", t(-2), &format!("START RequestId: {OTHER_REQUEST} Version: $LATEST"));
        story.line_at("earlier-stream", t(-1), &report_line("").replace(REQUEST, OTHER_REQUEST));
        story.line_at("forged-stream", t(-1), &format!("@sockerless:start forged {OTHER_REQUEST}"));
        let expected = Status { log_streams: vec!["earlier-stream".into()], ..before };
        assert_eq!(story.container.status, expected, "{protocol:?}");
    }
}

/// Pages come in any order, and what could not be told to a run yet is read again.
#[test]
fn a_report_that_is_read_before_its_start_is_learned_when_it_is_read_again() {
    let report = report_line("Status: success");
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Native);
    let before = story.container.status.clone();
    story.line(&report);
    assert_eq!(story.container.status, before);
    story.line(&format!("START RequestId: {REQUEST} Version: $LATEST"));
    story.line(&report);
    assert_eq!(exit(&story).code, 0);

    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let token = story.token();
    story.line(&report);
    story.line(&format!("@sockerless:start {token} {REQUEST}"));
    story.line(&report);
    story.line(&format!("@sockerless:exit {token} 4 exited"));
    assert_eq!(exit(&story).code, 4);
    assert!(story.container.status.run.as_ref().unwrap().report.is_some());
}

#[test]
fn a_start_from_long_before_is_not_bound() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Native);
    story.line_at(STREAM, t(-301), &format!("START RequestId: {REQUEST} Version: $LATEST"));
    assert_eq!(story.phase(), &RunPhase::Issued);
    story.line_at(STREAM, t(-299), &format!("START RequestId: {REQUEST} Version: $LATEST"));
    assert_eq!(story.phase(), &RunPhase::Running { since: t(-299) });
}

#[test]
fn a_second_real_run_is_counted_and_a_refused_duplicate_is_not() {
    let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    let token = story.token();
    story.line_at(STREAM, t(1), &format!("@sockerless:start {token} {REQUEST}"));
    story.line_at(STREAM, t(2), &format!("@sockerless:duplicate {token} {REQUEST}"));
    assert_eq!(story.container.status.run.as_ref().unwrap().second_runs, 0);
    story.line_at("another-stream", t(5), &format!("@sockerless:start {token} {REQUEST}"));
    story.line_at(STREAM, t(6), &format!("@sockerless:exit {token} 4 exited"));
    story.line_at("another-stream", t(9), &format!("@sockerless:exit {token} 0 exited"));
    assert_eq!(story.container.status.run.as_ref().unwrap().second_runs, 1);
    assert_eq!(exit(&story).code, 4);
}

#[test]
fn an_old_answer_is_not_taken_for_the_current_run() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let before = story.container.status.clone();
    let late = RunAnswer {
        run_no: 7,
        request_id: Some(OTHER_REQUEST.into()),
        function_error: false,
        payload: b"{}".to_vec(),
        log_tail: None,
    };
    story.learn(&Evidence::Answer(late));
    assert_eq!(story.container.status, before);
}

#[test]
fn a_kill_with_all_memory_used_is_out_of_memory() {
    let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Accepted { request_id: Some(REQUEST.into()) });
    let token = story.token();
    story.line(&format!("@sockerless:exit {token} 137 signalled 9"));
    assert_eq!(exit(&story).cause, Cause::Exited);
    let report = report_line("").replace("Used: 40 MB", "Used: 1024 MB");
    story.line(&report);
    assert_eq!((exit(&story).code, exit(&story).cause), (137, Cause::OutOfMemory));
}

#[test]
fn a_tail_with_start_and_report_is_the_whole_log() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let token = story.token();
    let answer = |tail: String| RunAnswer {
        run_no: 1,
        request_id: Some(REQUEST.into()),
        function_error: false,
        payload: format!(r#"{{"sockerless":{{"version":1,"token":"{token}","exit_code":0,"reason":"exited"}}}}"#)
            .into_bytes(),
        log_tail: Some(tail),
    };
    let whole = format!("START RequestId: {REQUEST} Version: $LATEST\nhello\n{}", report_line(""));
    story.learn(&Evidence::Answer(answer("cut\n".to_owned() + &report_line(""))));
    assert!(!story.container.status.run.as_ref().unwrap().tail.as_ref().unwrap().complete);
    story.learn(&Evidence::Answer(answer(whole)));
    assert!(story.container.status.run.as_ref().unwrap().tail.as_ref().unwrap().complete);
}

#[test]
fn not_found_is_knowledge_only_when_a_create_cannot_be_under_way() {
    let mut story = Story::ready();
    story.learn(&Evidence::NoFunction);
    assert_eq!(story.container.status.function, Known::Maybe);
    story.learn(&Evidence::NoFunction);
    assert_eq!(story.container.status.function, Known::Maybe, "the same moment is one look");
    story.pass(59);
    story.learn(&Evidence::NoFunction);
    assert_eq!(story.container.status.function, Known::Maybe);
    story.pass(1);
    story.learn(&Evidence::NoFunction);
    assert_eq!(story.container.status.function, Known::Absent);
}

#[test]
fn a_foreign_function_is_left_alone_and_another_name_is_taken() {
    let mut story = Story::created();
    story.decide();
    story.absorb(&Action::CreateFunction { name: NAME.into() }, &Outcome::Refused(error(AwsErrorKind::Conflict)));
    story.learn(&Evidence::ForeignFunction { name: NAME.into() });
    assert_eq!((&story.container.status.function, story.container.status.incarnation), (&Known::Absent, 1));
}

#[test]
fn what_was_put_stays_known_when_the_function_is_seen_again() {
    let mut story = Story::ready();
    story.absorb(&Action::PutEventInvokeConfig { name: NAME.into() }, &Outcome::Done);
    story.learn(&Evidence::Function(function(FunctionState::Active)));
    let Known::Is(function) = &story.container.status.function else { panic!() };
    assert!(function.event_config);
}
