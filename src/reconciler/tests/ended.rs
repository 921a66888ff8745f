//! After a run has ended: its log, the role that writes it, and the run after it.

use super::*;
use crate::reconciler::learn::watched;
use crate::reconciler::observe::owners;
use crate::reconciler::plan::{DELIVERY_SLACK, EVIDENCE_POLL, LOG_PATIENCE};
use crate::reconciler::surely_over::may_go_on_until;

#[test]
fn a_log_that_never_comes_after_an_answer_is_the_roles_fault() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.exit_answer(0);
    let ended = story.now;
    let readable = ended.after(LOG_PATIENCE + DELIVERY_SLACK);
    assert_eq!(story.decide().action, Action::Wait { until: Some(readable) });
    story.now = readable;
    story.observed.read_through = ended.after(LOG_PATIENCE);
    assert_eq!(story.decide().action, Action::Wait { until: None });
    assert!(story.container.status.logs_missing);
}

/// CloudWatch could not be asked for hours: what was not read is not missing.
#[test]
fn a_role_without_logs_is_judged_by_what_was_read_and_not_by_the_clock() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.exit_answer(0);
    story.observed.read_through = story.now.after(LOG_PATIENCE).before(Duration::from_millis(1));
    story.pass(6 * 3_600);
    assert!(matches!(story.decide().action, Action::Wait { until: Some(_) }), "it is looked at again");
    let run = story.container.status.run.as_ref().unwrap();
    assert!(!story.container.status.logs_missing && !run.log_closed);
}

/// A program that can write lines of its log as Lambda does ends its own run; it does not get a second one beside it.
#[test]
fn a_run_that_a_log_line_has_ended_is_not_followed_while_its_call_is_open() {
    for protocol in [Protocol::Native, Protocol::Bootstrap] {
        let mut story = Story::running(InvocationKind::RequestResponse, protocol);
        story.container.spec.config.restart = RestartPolicy::OnFailure { max: 0 };
        story.container.status.run.as_mut().unwrap().request_id = Some(REQUEST.into());
        story.observed.under_way = true;
        let forged = report_line("Status: error\tError Type: Function.Broken");
        story.line(&forged);
        assert_eq!(story.exit_code(), Some(1));
        story.pass(3_600);
        assert_eq!(story.decide().action, Action::Wait { until: Some(story.now.after(EVIDENCE_POLL)) });
        story.start();
        assert_eq!(story.decide().action, Action::Wait { until: Some(story.now.after(EVIDENCE_POLL)) });
        story.observed.under_way = false;
        assert_eq!(story.decide().action, Action::Invoke { run_no: 2 }, "{protocol:?}");
    }
}

/// A native run that a REPORT with its own request id has ended, which its program can have written.
fn self_ended(kind: InvocationKind, status: &str) -> Story {
    let mut story = Story::running(kind, Protocol::Native);
    story.container.spec.config.restart = RestartPolicy::OnFailure { max: 0 };
    story.container.status.run.as_mut().unwrap().request_id = Some(REQUEST.into());
    story.pass(5);
    story.line(&report_line(status));
    assert!(story.exit_code().is_some(), "clients see its end");
    story
}

/// Whatever the daemon remembers: without an answer, nothing but the time proves that the program is not running any more.
#[test]
fn a_native_run_that_its_own_log_has_ended_is_not_followed_before_its_time_is_up() {
    for kind in [InvocationKind::Event, InvocationKind::RequestResponse] {
        for (status, starts) in [("Status: error\tError Type: Function.Broken", false), ("Status: success", true)] {
            let mut story = self_ended(kind, status);
            let over = story.now.after(Duration::from_secs(110));
            if starts {
                story.start();
            }
            story.pass(60);
            assert_eq!(story.decide().action, Action::Wait { until: Some(over) }, "{kind:?} {status}");
            story.now = over;
            assert_eq!(story.decide().action, Action::Invoke { run_no: 2 }, "{kind:?} {status}");
        }
    }
}

#[test]
fn an_answer_proves_the_end_of_a_native_run() {
    let mut story = self_ended(InvocationKind::RequestResponse, "Status: error\tError Type: Function.Broken");
    story.answer(true, r#"{"errorType":"Function.Broken"}"#);
    story.pass(60);
    assert_eq!(story.decide().action, Action::Invoke { run_no: 2 });
}

#[test]
fn lines_without_a_report_keep_a_native_run_until_its_deadline() {
    let mut story = Story::running(InvocationKind::Event, Protocol::Native);
    let run = story.container.status.run.as_mut().unwrap();
    run.request_id = Some(REQUEST.into());
    let deadline = run.issued.as_ref().unwrap().deadline;
    story.line(&format!("2026-11-23T01:13:11.973Z {REQUEST} Task timed out after 1.00 seconds\n"));
    assert!(story.exit_code().is_some());
    story.start();
    assert_eq!(story.decide().action, Action::Wait { until: Some(deadline) });
    story.now = deadline;
    assert_eq!(story.decide().action, Action::Invoke { run_no: 2 });
}

/// The time for which the run before may go on is no longer than it was, whatever the clock says meanwhile.
#[test]
fn a_start_after_a_native_run_is_not_put_off_by_a_clock_set_back() {
    let mut story = self_ended(InvocationKind::Event, "Status: success");
    let most = Duration::from_secs(110);
    story.start();
    story.decide();
    story.cancel();
    story.decide();
    story.start();
    for hours in [2, 3] {
        let since = story.now;
        story.now = since.before(Duration::from_secs(hours * 3_600));
        let row = &story.container;
        assert_eq!(may_go_on_until(story.now, &row.spec, &row.status), Some(story.now.after(most)), "its slot");
        assert_eq!(story.decide().action, Action::Wait { until: Some(story.now.after(most)) });
    }
    story.now = story.now.after(most);
    assert!(matches!(story.decide().action, Action::Invoke { .. }));
}

/// A start between that is cancelled leaves a run of its own, and the one before it may still go on.
#[test]
fn a_cancelled_start_does_not_hide_a_native_run_that_may_go_on() {
    let mut story = self_ended(InvocationKind::Event, "Status: success");
    let over = story.now.after(Duration::from_secs(110));
    story.start();
    story.decide();
    story.cancel();
    story.decide();
    assert_eq!(story.exit_code(), Some(137));
    story.start();
    assert_eq!(story.decide().action, Action::Wait { until: Some(over) });
    story.now = over;
    assert!(matches!(story.decide().action, Action::Invoke { .. }));
}

/// A run whose lines have not come yet, and a start after it that ended without a run of its own.
fn ended_before_its_log() -> Story {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.container.status.run.as_mut().unwrap().request_id = Some(REQUEST.into());
    story.exit_answer(0);
    story.start();
    story.observed.slot_free = false;
    assert_eq!(story.decide().action, Action::AwaitSlot);
    story.cancel();
    story.decide();
    assert_eq!(story.exit_code(), Some(137));
    story
}

#[test]
fn log_of_the_last_invocation_is_looked_for_though_a_later_start_ended_without_one() {
    let mut story = ended_before_its_log();
    assert!(watched(&story.container.status));
    let owners = owners(std::slice::from_ref(&story.container), |_| false);
    assert!(owners.contains_key(NAME), "{owners:?}");
    story.line(&format!("START RequestId: {REQUEST} Version: $LATEST"));
    assert_eq!(story.container.status.log_streams, [STREAM]);
    assert!(!watched(&story.container.status), "its output can be found");
    assert_eq!(story.exit_code(), Some(137), "and nothing else has changed");
}

#[test]
fn log_of_the_last_invocation_is_given_up_when_it_was_read_for_long_enough() {
    let mut story = ended_before_its_log();
    let patience_ends = story.now.after(LOG_PATIENCE);
    assert_eq!(story.decide().action, Action::Wait { until: Some(patience_ends.after(DELIVERY_SLACK)) });
    story.now = patience_ends.after(DELIVERY_SLACK);
    assert!(matches!(story.decide().action, Action::Wait { until: Some(_) }), "it was not read yet");
    assert!(watched(&story.container.status));
    story.observed.read_through = patience_ends;
    assert_eq!(story.decide().action, Action::Wait { until: None });
    assert!(!watched(&story.container.status));

    let mut story = ended_before_its_log();
    story.observed.slot_free = true;
    story.start();
    assert!(matches!(story.decide().action, Action::Invoke { .. }));
    assert_eq!(story.container.status.last_issued, None, "the next run is looked for, and finds it");
}
