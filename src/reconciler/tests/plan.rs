//! One step at a time: which action follows from which wish and facts.

use super::*;
use crate::reconciler::plan::{AUTO_REMOVE_PATIENCE, DELIVERY_SLACK, EVIDENCE_POLL, Left, RUN_SLACK};
use crate::reconciler::record::events_between;
use crate::reconciler::schedule::RERUNS;
use crate::state::model::life::{self, Life, MAX_RERUNS};
use crate::state::model::{Cause, Exit, FailureKind};

fn name() -> String {
    NAME.to_owned()
}

fn exited(story: &Story) -> Exit {
    match life::life(&story.container.spec, &story.container.status) {
        Life::Exited(exit) => exit,
        other => panic!("not exited: {other:?}"),
    }
}

#[test]
fn a_new_container_gets_its_function_before_it_is_started() {
    let mut story = Story::created();
    let decision = story.decide();
    assert_eq!(decision.action, Action::CreateFunction { name: name() });
    assert_eq!(decision.status.function, Known::Maybe, "the intent is committed before the call");
    assert_eq!(decision.status.create_sent_at, Some(t(0)));
    assert_eq!(decision.status.observed_generation, 1);
}

#[test]
fn a_pending_function_is_looked_at_until_it_is_active() {
    let mut story = Story::created();
    story.start();
    story.decide();
    story.absorb(&Action::CreateFunction { name: name() }, &Outcome::Done);
    story.learn(&Evidence::Function(function(FunctionState::Pending)));
    assert!(matches!(story.decide().action, Action::Wait { until: Some(_) }));
    story.pass(1);
    assert_eq!(story.decide().action, Action::GetFunction { name: name() });
    story.learn(&Evidence::Function(function(FunctionState::Active)));
    assert_eq!(story.decide().action, Action::Invoke { run_no: 1 });
}

#[test]
fn nothing_is_invoked_without_a_wish() {
    let mut story = Story::ready();
    assert_eq!(story.decide().action, Action::Wait { until: None });
    story.pass(1_000_000);
    assert_eq!(story.decide().action, Action::Wait { until: None });
}

#[test]
fn an_issued_run_is_never_issued_again_on_a_guess() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let token = story.token();
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Unknown(error(AwsErrorKind::NoAnswer)));
    for _ in 0..20 {
        story.pass(3600);
        assert!(matches!(story.decide().action, Action::Wait { .. }));
        assert_eq!(story.token(), token);
    }
    assert_eq!(story.phase(), &RunPhase::Issued, "the clock alone settles nothing");
}

#[test]
fn an_outcome_is_unknown_only_when_the_log_was_read_beyond_the_deadline() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let deadline = story.now.after(Duration::from_secs(100) + RUN_SLACK);
    story.pass(10_000);
    story.observed.read_through = deadline.before(Duration::from_nanos(1));
    assert!(matches!(story.decide().action, Action::Wait { .. }));
    assert_eq!(story.exit_code(), None);
    story.observed.read_through = deadline;
    story.decide();
    let exit = exited(&story);
    assert_eq!((exit.code, exit.cause), (125, Cause::Unknown));
    assert!(exit.message.starts_with("outcome unknown: "), "{}", exit.message);
}

#[test]
fn an_events_deadline_includes_the_time_in_the_queue() {
    let sync = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let event = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    let deadline = |story: &Story| story.container.status.run.as_ref().unwrap().issued.as_ref().unwrap().deadline;
    assert_eq!(deadline(&event), deadline(&sync).after(Duration::from_secs(300)));
}

/// Time passes, the log is read beyond it, and shows no end.
fn no_end_is_seen(story: &mut Story) {
    story.pass(10_000);
    story.observed.read_through = story.now;
    assert!(matches!(story.decide().action, Action::Wait { .. }), "neither the end nor a new run comes at once");
}

#[test]
fn unknown_outcomes_are_run_again_only_if_that_was_chosen() {
    for (setting, again) in [(UnknownOutcome::Fail, false), (UnknownOutcome::Rerun, true)] {
        let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
        story.container.spec.config.function.unknown_outcome = setting;
        no_end_is_seen(&mut story);
        story.pass(60);
        let action = story.decide().action;
        assert_eq!(action == Action::Invoke { run_no: 2 }, again, "{action:?}");
    }
}

#[test]
fn an_unknown_outcome_is_run_again_with_growing_pauses_and_not_for_ever() {
    for kind in [InvocationKind::RequestResponse, InvocationKind::Event] {
        let mut story = Story::running(kind, Protocol::Bootstrap);
        story.container.spec.config.function.unknown_outcome = UnknownOutcome::Rerun;
        for rerun in 1..=MAX_RERUNS {
            no_end_is_seen(&mut story);
            let pause = RERUNS.ceiling(rerun);
            let Action::Wait { until: Some(until) } = story.decide().action else { panic!("no pause") };
            assert_eq!(until, story.now.after(pause));
            story.pass(pause.as_secs());
            assert_eq!(story.decide().action, Action::Invoke { run_no: u64::from(rerun) + 1 });
            assert_eq!((story.container.status.reruns, story.container.status.restarts), (rerun, 0));
        }
        no_end_is_seen(&mut story);
        story.pass(1_000_000);
        assert!(matches!(story.decide().action, Action::Wait { until: None }));
        let exit = exited(&story);
        assert_eq!((exit.code, exit.cause), (125, Cause::Unknown));
        assert!(exit.message.ends_with("; it was run 4 times"), "{}", exit.message);
        story.start();
        assert!(matches!(story.decide().action, Action::Invoke { .. }));
        assert_eq!(story.container.status.reruns, 0, "a new start counts anew");
    }
}

#[test]
fn what_cannot_be_run_again_still_has_an_unknown_outcome() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.container.spec.config.function.unknown_outcome = UnknownOutcome::Rerun;
    no_end_is_seen(&mut story);
    story.pass(60);
    story.decide();
    let refused = Outcome::Terminal(error(AwsErrorKind::TooLarge));
    story.absorb(&Action::Invoke { run_no: 2 }, &refused);
    story.decide();
    let refused = exited(&story);
    assert_eq!((refused.code, refused.cause), (125, Cause::NeverRan));

    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.container.spec.config.function.unknown_outcome = UnknownOutcome::Rerun;
    no_end_is_seen(&mut story);
    story.observed.adopted_at = Some(story.now);
    story.decide();
    for message in [refused.message, exited(&story).message] {
        assert!(message.starts_with("outcome unknown: ") && message.contains("could not be run again"), "{message}");
    }
}

#[test]
fn after_an_unknown_native_run_the_next_one_gets_a_new_function() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Native);
    story.pass(10_000);
    story.observed.read_through = story.now;
    story.decide();
    assert!(story.container.status.retire);
    story.start();
    assert_eq!(story.decide().action, Action::DeleteFunction { name: name() });
    story.absorb(&Action::DeleteFunction { name: name() }, &Outcome::Done);
    assert!(matches!(story.decide().action, Action::CreateFunction { .. }));
    assert_eq!((story.container.status.incarnation, story.container.status.retire), (1, false));
}

#[test]
fn a_stop_before_the_invocation_ends_the_start_with_137() {
    let mut story = Story::created();
    story.start();
    story.decide();
    story.pass(1);
    story.cancel();
    story.decide();
    let exit = exited(&story);
    assert_eq!((exit.code, exit.cause, exit.finished_at), (137, Cause::Cancelled, t(1)));
    story.absorb(&Action::CreateFunction { name: name() }, &Outcome::Done);
    story.learn(&Evidence::Function(function(FunctionState::Active)));
    assert!(matches!(story.decide().action, Action::Wait { .. }), "a cancelled start is not invoked");
    story.start();
    assert_eq!(story.decide().action, Action::Invoke { run_no: 2 });
}

#[test]
fn a_refused_run_is_issued_again_with_a_fresh_token_and_the_same_number() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let token = story.token();
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Refused(error(AwsErrorKind::Throttled)));
    assert_eq!(story.phase(), &RunPhase::Refused);
    assert!(matches!(story.decide().action, Action::Wait { until: Some(_) }), "it backs off");
    story.pass(1);
    assert_eq!(story.decide().action, Action::Invoke { run_no: 1 });
    assert_ne!(story.token(), token);
}

#[test]
fn an_invocation_refused_as_pending_or_missing_leads_to_a_look() {
    for kind in [AwsErrorKind::Conflict, AwsErrorKind::NotFound] {
        let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
        story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Refused(error(kind)));
        story.pass(1);
        assert_eq!(story.decide().action, Action::GetFunction { name: name() });
    }
}

#[test]
fn a_failure_that_is_final_ends_the_start_with_125_and_a_new_start_tries_again() {
    let mut story = Story::created();
    story.start();
    story.decide();
    let create = Action::CreateFunction { name: name() };
    story.absorb(&create, &Outcome::Terminal(error(AwsErrorKind::AccessDenied)));
    story.decide();
    let exit = exited(&story);
    assert_eq!((exit.code, exit.cause), (125, Cause::NeverRan));
    assert_eq!(exit.message, "lambda: test: words");
    story.pass(1_000);
    assert_eq!(story.decide().action, Action::Wait { until: None }, "final is final");
    story.start();
    assert_eq!(story.decide().action, create);
}

#[test]
fn a_final_failure_before_any_start_is_not_tried_again() {
    let mut story = Story::created();
    story.decide();
    story.absorb(&Action::CreateFunction { name: name() }, &Outcome::Terminal(error(AwsErrorKind::InvalidParameter)));
    for _ in 0..3 {
        story.pass(1_000);
        assert_eq!(story.decide().action, Action::Wait { until: None });
    }
    assert_eq!(story.container.status.retry.failure.as_ref().unwrap().kind, FailureKind::InvalidParameter);
}

#[test]
fn a_removed_container_is_cleaned_up_by_what_is_known() {
    let mut story = Story::ready();
    story.remove();
    assert_eq!(story.decide().action, Action::DeleteFunction { name: name() });
    story.absorb(&Action::DeleteFunction { name: name() }, &Outcome::Done);
    assert_eq!(story.decide().action, Action::Forget);

    let mut story = Story::created();
    story.remove();
    assert_eq!(story.decide().action, Action::Forget, "nothing was ever sent");
}

#[test]
fn a_create_without_an_answer_is_not_forgotten_before_two_not_founds() {
    let mut story = Story::created();
    story.decide();
    story.absorb(&Action::CreateFunction { name: name() }, &Outcome::Unknown(error(AwsErrorKind::NoAnswer)));
    story.remove();
    let look = Action::GetFunction { name: name() };
    assert_eq!(story.decide().action, look);
    story.absorb(&look, &Outcome::Done);
    story.learn(&Evidence::NoFunction);
    assert_eq!(story.decide().action, Action::Wait { until: Some(t(60)) });
    story.pass(60);
    assert_eq!(story.decide().action, look);
    story.learn(&Evidence::NoFunction);
    assert_eq!(story.decide().action, Action::Forget);
}

#[test]
fn a_create_that_surely_had_no_effect_is_sent_again() {
    let mut story = Story::created();
    let create = Action::CreateFunction { name: name() };
    assert_eq!(story.decide().action, create);
    story.absorb(&create, &Outcome::Unknown(error(AwsErrorKind::ServiceError)));
    story.pass(1);
    story.decide();
    story.learn(&Evidence::NoFunction);
    story.pass(60);
    story.decide();
    story.learn(&Evidence::NoFunction);
    assert_eq!(story.decide().action, create, "nothing was ever made, so it is not somebody's wish that it is gone");
}

#[test]
fn a_create_that_was_carried_out_after_all_is_cleaned_up() {
    let mut story = Story::created();
    story.decide();
    story.absorb(&Action::CreateFunction { name: name() }, &Outcome::Unknown(error(AwsErrorKind::NoAnswer)));
    story.remove();
    story.decide();
    story.learn(&Evidence::NoFunction);
    story.pass(60);
    story.decide();
    story.learn(&Evidence::Function(function(FunctionState::Active)));
    assert_eq!(story.decide().action, Action::DeleteFunction { name: name() });
}

#[test]
fn a_retained_function_only_loses_our_tag() {
    let mut story = Story::ready();
    story.container.spec.config.function.deletion_policy = DeletionPolicy::Retain;
    story.remove();
    let action = story.decide().action;
    assert!(matches!(action, Action::ReleaseFunction { .. }), "{action:?}");
    story.absorb(&action, &Outcome::Done);
    assert_eq!(story.decide().action, Action::Forget);
}

#[test]
fn an_auto_removed_container_waits_for_its_log_and_then_goes() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.container.spec.config.auto_remove = true;
    story.exit_answer(3);
    assert_eq!(story.decide().action, Action::Wait { until: Some(story.now.after(AUTO_REMOVE_PATIENCE)) });
    assert_eq!(story.container.status.auto_removed, None);
    let report = report_line("");
    story.line(&report);
    assert_eq!(story.decide().action, Action::DeleteFunction { name: name() });
    assert_eq!(story.container.status.auto_removed, Some(story.now));
}

#[test]
fn a_start_that_cannot_run_removes_itself_at_once() {
    let mut story = Story::created();
    story.container.spec.config.auto_remove = true;
    story.start();
    story.decide();
    story.absorb(&Action::CreateFunction { name: name() }, &Outcome::Terminal(error(AwsErrorKind::InvalidParameter)));
    assert_eq!(story.decide().action, Action::Forget);
    assert_eq!(story.exit_code(), Some(125));
}

#[test]
fn a_function_deleted_by_hand_is_made_again_only_when_a_run_is_wanted() {
    let mut story = Story::ready();
    story.pass(1_000);
    story.container.status.function = Known::Maybe;
    assert_eq!(story.decide().action, Action::GetFunction { name: name() });
    story.learn(&Evidence::NoFunction);
    story.pass(1);
    assert_eq!(story.decide().action, Action::GetFunction { name: name() });
    story.learn(&Evidence::NoFunction);
    assert_eq!(story.decide().action, Action::Wait { until: None });
    story.start();
    assert_eq!(story.decide().action, Action::CreateFunction { name: name() });
}

#[test]
fn a_missing_function_does_not_end_a_run() {
    let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    story.container.status.function = Known::Maybe;
    story.learn(&Evidence::NoFunction);
    story.pass(100);
    assert!(matches!(story.decide().action, Action::Wait { .. }));
    assert_eq!(story.exit_code(), None);
}

#[test]
fn drift_is_mended_and_never_during_a_run() {
    let mut story = Story::ready();
    let mut changed = function(FunctionState::Active);
    changed.drift = vec!["MemorySize".into()];
    story.learn(&Evidence::Function(changed.clone()));
    assert_eq!(story.decide().action, Action::UpdateFunction { name: name(), code: false });
    changed.drift.push("Code".into());
    story.learn(&Evidence::Function(changed.clone()));
    assert_eq!(story.decide().action, Action::UpdateFunction { name: name(), code: true });

    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.learn(&Evidence::Function(changed));
    assert!(matches!(story.decide().action, Action::Wait { .. }));
}

#[test]
fn a_failed_function_ends_the_start_and_is_made_again_by_the_next() {
    let mut story = Story::created();
    story.start();
    story.decide();
    story.absorb(&Action::CreateFunction { name: name() }, &Outcome::Done);
    let failed = FunctionState::Failed { code: "InvalidImage".into(), reason: "no such image".into() };
    story.learn(&Evidence::Function(function(failed)));
    story.decide();
    let exit = exited(&story);
    assert_eq!(exit.code, 125);
    assert!(exit.message.contains("no such image (InvalidImage)"), "{}", exit.message);
    story.start();
    assert_eq!(story.decide().action, Action::DeleteFunction { name: name() });
}

#[test]
fn no_more_runs_than_slots() {
    let mut story = Story::ready();
    story.observed.slot_free = false;
    story.start();
    assert_eq!(story.decide().action, Action::AwaitSlot);
    story.observed.slot_free = true;
    assert_eq!(story.decide().action, Action::Invoke { run_no: 1 });
}

#[test]
fn a_wish_from_before_an_adoption_is_not_run() {
    let mut story = Story::ready();
    story.start();
    story.observed.adopted_at = Some(story.now);
    story.decide();
    assert_eq!(exited(&story).code, 125);
    story.pass(1);
    story.start();
    assert_eq!(story.decide().action, Action::Invoke { run_no: 2 });
}

#[test]
fn an_event_is_refused_where_logs_are_known_to_be_missing() {
    let mut story = Story::ready();
    story.container.spec.config.function.invocation = InvocationKind::Event;
    story.observed.role_without_logs = true;
    story.start();
    story.decide();
    let exit = exited(&story);
    assert_eq!((exit.code, exit.cause), (125, Cause::NeverRan));
    assert!(exit.message.contains("logs:PutLogEvents"), "{}", exit.message);
}

#[test]
fn a_failed_run_is_repeated_as_often_as_the_policy_says() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.container.spec.config.restart = RestartPolicy::OnFailure { max: 2 };
    for run_no in 2..=3 {
        story.exit_answer(9);
        assert!(matches!(story.decide().action, Action::Wait { until: Some(_) }), "it backs off");
        story.pass(60);
        let before = story.container.status.clone();
        assert_eq!(story.decide().action, Action::Invoke { run_no });
        let events = events_between(&before, &story.container.status, t(60));
        assert_eq!(events.iter().map(|event| event.action).collect::<Vec<_>>(), ["start"]);
    }
    story.exit_answer(9);
    story.pass(60);
    assert!(matches!(story.decide().action, Action::Wait { .. }));
    assert_eq!((exited(&story).code, story.container.status.restarts), (9, 2));
    story.start();
    assert_eq!(story.decide().action, Action::Invoke { run_no: 4 });
    assert_eq!(story.container.status.restarts, 0, "a new start counts anew");
}

#[test]
fn success_is_not_repeated_and_a_stop_ends_repeating() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.container.spec.config.restart = RestartPolicy::OnFailure { max: 0 };
    story.exit_answer(0);
    story.pass(60);
    assert!(matches!(story.decide().action, Action::Wait { .. }));

    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    story.container.spec.config.restart = RestartPolicy::OnFailure { max: 0 };
    story.exit_answer(1);
    story.cancel();
    story.pass(60);
    assert!(matches!(story.decide().action, Action::Wait { .. }));
}

#[test]
fn a_report_without_the_bootstraps_line_waits_and_is_then_unknown() {
    let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Accepted { request_id: Some(REQUEST.into()) });
    // AWS's clock is behind ours: only the time of the reading counts.
    story.line_at(STREAM, story.now.before(Duration::from_secs(240)), &report_line(""));
    story.observed.read_through = story.now.before(Duration::from_secs(1));
    assert_eq!(story.decide().action, Action::Wait { until: Some(story.now.after(DELIVERY_SLACK)) });
    assert_eq!(story.exit_code(), None);
    story.line_at(STREAM, story.now.before(Duration::from_secs(240)), &report_line(""));
    story.observed.read_through = story.now;
    story.now = story.now.after(DELIVERY_SLACK);
    story.decide();
    assert_eq!(exited(&story).cause, Cause::Unknown);
}

/// The log was read while the clock was five minutes fast; then it was put right, and a run began.
#[test]
fn a_clock_that_is_put_back_makes_no_outcome_unknown() {
    let mut story = Story::ready();
    story.container.spec.config.function.timeout_s = 60;
    story.observed.read_through = story.now.after(Duration::from_secs(3_600)).before(DELIVERY_SLACK);
    story.start();
    assert!(matches!(story.decide().action, Action::Invoke { .. }));
    story.now = story.now.after(Duration::from_secs(1));
    story.decide();
    assert_eq!(story.exit_code(), None);
}

/// The answer is still to come, whatever the clock says; the call ends by itself.
#[test]
fn a_run_whose_call_has_not_come_back_is_not_called_unknown() {
    let mut story = Story::ready();
    story.start();
    assert!(matches!(story.decide().action, Action::Invoke { .. }));
    story.now = story.now.after(Duration::from_secs(3_600));
    story.observed.read_through = story.now.before(DELIVERY_SLACK);
    story.observed.under_way = true;
    assert_eq!(story.decide().action, Action::Wait { until: Some(story.now.after(EVIDENCE_POLL)) });
    story.observed.under_way = false;
    story.decide();
    assert_eq!(exited(&story).cause, Cause::Unknown);
}

#[test]
fn a_backoff_holds_until_somebody_wishes_something_new() {
    let mut story = Story::created();
    story.decide();
    let create = Action::CreateFunction { name: name() };
    for _ in 0..12 {
        story.absorb(&create, &Outcome::Refused(error(AwsErrorKind::Throttled)));
    }
    let Action::Wait { until: Some(until) } = story.decide().action else { panic!() };
    assert_eq!(until, story.now.after(Duration::from_secs(60)), "half of the ceiling, by this jitter");
    story.start();
    assert_eq!(story.decide().action, create);
}

#[test]
fn a_plan_is_a_function_of_its_arguments() {
    let mut story = Story::ready();
    story.start();
    let moment = Moment { now: story.now, token: "t".into() };
    assert_eq!(plan(&moment, &story.container, &story.observed), plan(&moment, &story.container, &story.observed));
}

/// What is left to do tells a pass whether it has converged.
#[test]
fn what_is_left_to_do() {
    let created = Story::created().decide();
    assert_eq!((created.action.name(), created.left), ("CreateFunction", Left::Work));

    let mut pending = Story::created();
    pending.decide();
    pending.absorb(&Action::CreateFunction { name: name() }, &Outcome::Done);
    pending.learn(&Evidence::Function(function(FunctionState::Pending)));
    assert_eq!(pending.decide().left, Left::Work, "a function that is being made");

    let mut ready = Story::ready();
    assert_eq!(ready.decide().left, Left::Nothing);
    ready.start();
    ready.observed.slot_free = false;
    assert_eq!(ready.decide().left, Left::Work, "a run that waits for a slot");
    ready.observed.withholds_runs = true;
    let withheld = ready.decide();
    assert_eq!((withheld.action, withheld.left), (Action::AwaitSlot, Left::Withheld));

    let mut running = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    assert_eq!(running.decide().left, Left::Nothing, "a run goes on by itself");
    running.remove();
    assert_eq!(running.decide().left, Left::Work, "but a removal does not wait for it");

    let mut failed = Story::ready();
    failed.remove();
    failed.absorb(&Action::DeleteFunction { name: name() }, &Outcome::Refused(error(AwsErrorKind::Throttled)));
    assert_eq!(failed.decide().left, Left::Work, "it backs off");
}

#[test]
fn withheld_runs_are_not_invoked_though_a_slot_is_free() {
    let mut story = Story::ready();
    story.observed.withholds_runs = true;
    story.start();
    assert_eq!(story.decide().action, Action::AwaitSlot);
    story.observed.withholds_runs = false;
    assert_eq!(story.decide().action, Action::Invoke { run_no: 1 });
}
