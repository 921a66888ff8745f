//! What became of an action: done, refused, unknown or final, and what each means.

use super::*;
use crate::aws::FunctionDescription;
use crate::reconciler::absorb::{DEPENDENCY_PATIENCE, IMAGE_PATIENCE, ROLE_PATIENCE, outcome_of};
use crate::reconciler::execute;
use crate::reconciler::names::Identity;
use crate::state::model::{FailureKind, Retry};

fn actions() -> Vec<Action> {
    let name = NAME.to_owned();
    vec![
        Action::GetFunction { name: name.clone() },
        Action::CreateFunction { name: name.clone() },
        Action::PutEventInvokeConfig { name: name.clone() },
        Action::UpdateFunction { name: name.clone(), code: false },
        Action::Invoke { run_no: 1 },
        Action::DeleteFunction { name: name.clone() },
        Action::ReleaseFunction { name, arn: "arn".into() },
    ]
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done | Outcome::Accepted { .. } => "done",
        Outcome::Refused(_) => "refused",
        Outcome::Unknown(_) => "unknown",
        Outcome::Terminal(_) => "terminal",
    }
}

#[test]
fn a_late_answer_is_not_taken_for_the_next_runs() {
    let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    story.container.status.run.as_mut().unwrap().no = 2;
    let before = story.container.status.clone();
    let invoke = Action::Invoke { run_no: 1 };
    for outcome in [
        Outcome::Accepted { request_id: Some(REQUEST.into()) },
        Outcome::Refused(error(AwsErrorKind::Throttled)),
        Outcome::Terminal(error(AwsErrorKind::AccessDenied)),
        Outcome::Unknown(error(AwsErrorKind::NoAnswer)),
    ] {
        story.absorb(&invoke, &outcome);
        assert_eq!(story.container.status, before, "{outcome:?}");
    }
}

#[test]
fn what_an_error_means() {
    use AwsErrorKind::{
        AccessDenied, Conflict, Credentials, DependencyNotReady, EnvironmentNotReady, ImageNotFound, InvalidParameter,
        Malformed, NoAnswer, NotFound, Refused, RoleNotReady, ServiceError, Throttled, TooLarge, Unreachable,
    };
    let making = [Action::CreateFunction { name: NAME.into() }, Action::Invoke { run_no: 1 }];
    let cleaning = [Action::DeleteFunction { name: NAME.into() }, Action::GetFunction { name: NAME.into() }];
    for kind in [ServiceError, NoAnswer, Malformed] {
        for action in actions() {
            assert_eq!(word(&outcome_of(&action, error(kind))), "unknown", "{kind:?} {action:?}");
        }
    }
    for kind in [
        NotFound,
        Conflict,
        Throttled,
        Credentials,
        RoleNotReady,
        DependencyNotReady,
        ImageNotFound,
        EnvironmentNotReady,
        Unreachable,
    ] {
        for action in actions() {
            assert_eq!(word(&outcome_of(&action, error(kind))), "refused", "{kind:?} {action:?}");
        }
    }
    for kind in [AccessDenied, InvalidParameter, TooLarge, Refused] {
        for action in &making {
            assert_eq!(word(&outcome_of(action, error(kind))), "terminal", "{kind:?} {action:?}");
        }
        for action in &cleaning {
            assert_eq!(word(&outcome_of(action, error(kind))), "refused", "cleaning up never gives up: {kind:?}");
        }
    }
}

#[test]
fn failures_in_a_row_are_counted_and_success_ends_the_row() {
    let mut story = Story::created();
    let create = Action::CreateFunction { name: NAME.into() };
    story.absorb(&create, &Outcome::Refused(error(AwsErrorKind::Throttled)));
    story.pass(1);
    story.absorb(&create, &Outcome::Unknown(error(AwsErrorKind::NoAnswer)));
    let retry = &story.container.status.retry;
    assert_eq!((retry.failures, retry.attempts, retry.since), (2, 1, Some(t(1))), "another kind is another row");
    assert_eq!(retry.failure.as_ref().unwrap().kind, FailureKind::NoAnswer);
    assert_eq!(retry.failure.as_ref().unwrap().request_id.as_deref(), Some(REQUEST));
    story.absorb(&create, &Outcome::Unknown(error(AwsErrorKind::NoAnswer)));
    let retry = &story.container.status.retry;
    assert_eq!((retry.failures, retry.attempts, retry.since), (3, 2, Some(t(1))));
    story.absorb(&create, &Outcome::Done);
    assert_eq!(story.container.status.retry, Retry::default());
}

/// What a failure came after, whether its row goes on.
#[test]
fn retry_state_is_reset_when_the_kind_or_the_action_changes() {
    use AwsErrorKind::{Conflict, RoleNotReady, ServiceError, Throttled};
    let create = Action::CreateFunction { name: NAME.into() };
    let update = Action::UpdateFunction { name: NAME.into(), code: false };
    for (first, then, same) in [
        ((&create, Throttled), (&create, Throttled), true),
        ((&create, Throttled), (&create, RoleNotReady), false),
        ((&create, Conflict), (&create, ServiceError), false),
        ((&create, Throttled), (&update, Throttled), false),
    ] {
        let mut story = Story::created();
        for (action, kind) in [first, then] {
            story.absorb(action, &outcome_of(action, error(kind)));
            story.pass(600);
        }
        let retry = &story.container.status.retry;
        let expected = if same { (2, Some(t(0))) } else { (1, Some(t(600))) };
        assert_eq!((retry.attempts, retry.since), expected, "{first:?} {then:?}");
        assert_eq!(retry.failures, 2, "the pause grows all the same");
    }
}

#[test]
fn pauses_grow_while_kinds_of_failure_alternate() {
    let mut story = Story::created();
    let create = Action::CreateFunction { name: NAME.into() };
    for kind in [AwsErrorKind::Throttled, AwsErrorKind::RoleNotReady].into_iter().cycle().take(12) {
        story.absorb(&create, &Outcome::Refused(error(kind)));
    }
    assert_eq!(story.container.status.retry.not_before, Some(t(60)), "half of the longest pause, by the jitter");
}

#[test]
fn a_look_does_not_end_a_row_of_other_failures() {
    let mut story = Story::created();
    story.absorb(&Action::CreateFunction { name: NAME.into() }, &Outcome::Unknown(error(AwsErrorKind::ServiceError)));
    let look = Action::GetFunction { name: NAME.into() };
    story.absorb(&look, &Outcome::Done);
    assert_eq!(story.container.status.retry.attempts, 1);
    story.absorb(&look, &Outcome::Refused(error(AwsErrorKind::Throttled)));
    story.absorb(&look, &Outcome::Done);
    assert_eq!(story.container.status.retry, Retry::default());
}

#[test]
fn retry_after_is_honoured() {
    let mut story = Story::created();
    let mut refused = error(AwsErrorKind::Throttled);
    refused.retry_after = Some(Duration::from_secs(30));
    story.absorb(&Action::CreateFunction { name: NAME.into() }, &Outcome::Refused(refused));
    assert_eq!(story.container.status.retry.not_before, Some(t(30)));
}

fn is_final(story: &Story) -> bool {
    story.container.status.retry.failure.as_ref().unwrap().terminal_for.is_some()
}

/// The conditions that pass, each for its own bounded time, counted from when it was met and not from what failed before.
#[test]
fn a_condition_that_passes_is_waited_for_but_not_for_ever() {
    let create = Action::CreateFunction { name: NAME.into() };
    for (kind, patience, stored) in [
        (AwsErrorKind::RoleNotReady, ROLE_PATIENCE, FailureKind::RoleNotReady),
        (AwsErrorKind::DependencyNotReady, DEPENDENCY_PATIENCE, FailureKind::DependencyNotReady),
        (AwsErrorKind::ImageNotFound, IMAGE_PATIENCE, FailureKind::ImageNotFound),
    ] {
        let mut story = Story::created();
        story.absorb(&create, &Outcome::Refused(error(AwsErrorKind::Throttled)));
        story.pass(10_000);
        for (passes, expected) in [(0, false), (patience.as_secs() - 1, false), (1, true)] {
            story.pass(passes);
            story.absorb(&create, &outcome_of(&create, error(kind)));
            assert_eq!(is_final(&story), expected, "{kind:?} after {passes} s more");
        }
        assert_eq!(story.container.status.retry.failure.as_ref().unwrap().kind, stored);
    }
}

/// What comes between two sightings of a condition of bounded patience, whether the wait goes on.
#[test]
fn a_bounded_wait_outlives_failures_that_say_nothing_about_it() {
    use AwsErrorKind::{Conflict, DependencyNotReady, NoAnswer, NotFound, ServiceError, Throttled, Unreachable};
    let create = Action::CreateFunction { name: NAME.into() };
    for (between, goes_on) in [
        (Throttled, true),
        (Unreachable, true),
        (ServiceError, true),
        (NoAnswer, true),
        (Conflict, false),
        (NotFound, false),
        (DependencyNotReady, false),
    ] {
        let mut story = Story::created();
        for kind in [AwsErrorKind::RoleNotReady, between, AwsErrorKind::RoleNotReady] {
            story.absorb(&create, &outcome_of(&create, error(kind)));
            story.pass(ROLE_PATIENCE.as_secs());
        }
        assert_eq!(is_final(&story), goes_on, "{between:?}");
    }
}

#[test]
fn a_new_start_waits_for_the_condition_anew() {
    let mut story = Story::created();
    story.start();
    let missing = Outcome::Refused(error(AwsErrorKind::ImageNotFound));
    let create = story.decide().action;
    story.absorb(&create, &missing);
    story.pass(IMAGE_PATIENCE.as_secs());
    assert_eq!(story.decide().action, create);
    story.absorb(&create, &missing);
    story.decide();
    assert_eq!(story.exit_code(), Some(125));
    story.pass(3_600);
    story.start();
    assert_eq!(story.decide().action, create, "the image may have been pushed");
    story.absorb(&create, &missing);
    assert!(!is_final(&story), "its visibility may take a moment");
}

#[test]
fn a_missing_image_is_named_in_dockers_words() {
    let mut story = Story::created();
    let mut missing = error(AwsErrorKind::ImageNotFound);
    missing.message = "Source image app:1 does not exist. Provide a valid source image.".into();
    story.absorb(&Action::CreateFunction { name: NAME.into() }, &Outcome::Refused(missing));
    let message = &story.container.status.retry.failure.as_ref().unwrap().message;
    assert_eq!(
        message,
        "No such image: app:1: lambda: test: Source image app:1 does not exist. Provide a valid source image."
    );
}

#[test]
fn what_is_known_of_the_function_after_each_outcome() {
    let after = |action: &Action, outcome: &Outcome| {
        let mut story = Story::ready();
        story.absorb(action, outcome);
        story.container.status.function
    };
    let name = || NAME.to_owned();
    let unknown = Outcome::Unknown(error(AwsErrorKind::NoAnswer));
    let refused = |kind| Outcome::Refused(error(kind));
    let delete = Action::DeleteFunction { name: name() };
    assert_eq!(after(&delete, &Outcome::Done), Known::Absent);
    assert_eq!(after(&delete, &unknown), Known::Maybe);
    assert_eq!(after(&delete, &refused(AwsErrorKind::NotFound)), Known::Maybe);
    assert!(is(&after(&delete, &refused(AwsErrorKind::Throttled))));
    let create = Action::CreateFunction { name: name() };
    assert_eq!(after(&create, &refused(AwsErrorKind::Throttled)), Known::Absent);
    assert_eq!(after(&create, &refused(AwsErrorKind::Conflict)), Known::Maybe);
    assert_eq!(after(&create, &unknown), Known::Maybe);
    let update = Action::UpdateFunction { name: name(), code: true };
    assert_eq!(after(&update, &unknown), Known::Maybe);
    assert!(is(&after(&Action::PutEventInvokeConfig { name: name() }, &unknown)));
}

#[test]
fn an_unknown_invocation_counts_no_failure_and_changes_nothing() {
    let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Bootstrap);
    let before = story.container.status.clone();
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Unknown(error(AwsErrorKind::NoAnswer)));
    assert_eq!(story.container.status, before);
}

#[test]
fn an_accepted_event_brings_its_request_id() {
    let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Accepted { request_id: Some(REQUEST.into()) });
    assert_eq!(story.phase(), &RunPhase::Accepted { at: t(0) });
    assert_eq!(story.container.status.run.as_ref().unwrap().request_id.as_deref(), Some(REQUEST));
}

#[test]
fn an_end_that_the_log_told_first_is_not_overwritten_by_the_answer() {
    let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    let token = story.token();
    story.line(&format!("@sockerless:exit {token} 5 exited"));
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Accepted { request_id: Some(REQUEST.into()) });
    assert_eq!(story.exit_code(), Some(5));
}

/// The answer of an event that ran may be a refusal all the same: an earlier attempt below Lambda's front was taken.
#[test]
fn what_the_log_told_first_is_not_undone_by_a_refusal() {
    let refused = Outcome::Refused(error(AwsErrorKind::Throttled));
    let mut story = Story::running(InvocationKind::Event, Protocol::Bootstrap);
    let token = story.token();
    story.line(&format!("@sockerless:start {token} {REQUEST}"));
    story.absorb(&Action::Invoke { run_no: 1 }, &refused);
    assert_eq!(story.phase(), &RunPhase::Running { since: t(0) });
    story.line(&format!("@sockerless:exit {token} 5 exited"));
    story.absorb(&Action::Invoke { run_no: 1 }, &refused);
    assert_eq!(story.exit_code(), Some(5));
}

#[test]
fn only_what_was_just_seen_to_be_ours_is_changed() {
    let name = || NAME.to_owned();
    let delete = Action::DeleteFunction { name: name() };
    let release = Action::ReleaseFunction { name: name(), arn: "arn".into() };
    let update = Action::UpdateFunction { name: name(), code: false };
    let ours = Evidence::Function(function(FunctionState::Active));
    for action in [&delete, &release, &update] {
        assert_eq!(action.changes(), Some(NAME), "it is looked at before: {action:?}");
        for seen in [Evidence::NoFunction, Evidence::ForeignFunction { name: name() }] {
            assert!(!execute::may_change(action, &seen), "{action:?} {seen:?}");
        }
        assert_eq!(execute::may_change(action, &ours), *action != update, "nothing differs any more: {action:?}");
    }
    let mut changed = function(FunctionState::Active);
    changed.drift = vec!["MemorySize".into()];
    assert!(execute::may_change(&update, &Evidence::Function(changed)));
}

/// A right that is limited by tags is denied for a function that is gone, too.
#[test]
fn a_denied_action_looks_at_its_function_before_it_gives_up() {
    for gone in [true, false] {
        let mut story = Story::ready();
        story.start();
        assert_eq!(story.decide().action, Action::Invoke { run_no: 1 });
        let denied = Outcome::Terminal(error(AwsErrorKind::AccessDenied));
        story.absorb(&Action::Invoke { run_no: 1 }, &denied);
        assert_eq!(story.container.status.function, Known::Maybe);
        story.pass(60);
        let look = Action::GetFunction { name: NAME.into() };
        assert_eq!(story.decide().action, look);
        story.absorb(&look, &Outcome::Done);
        if gone {
            story.learn(&Evidence::NoFunction);
            story.pass(1);
            assert_eq!(story.decide().action, look);
            story.learn(&Evidence::NoFunction);
            assert!(matches!(story.decide().action, Action::CreateFunction { .. }), "it is made again");
        } else {
            story.learn(&Evidence::Function(function(FunctionState::Active)));
            assert_eq!(story.decide().action, Action::Invoke { run_no: 1 });
            story.absorb(&Action::Invoke { run_no: 1 }, &denied);
            story.decide();
            assert_eq!(story.exit_code(), Some(125), "twice is final");
        }
    }
}

/// Without the right to read tags, a function of ours is not taken for somebody else's, which would be left behind while
/// another one is made, again and again.
#[test]
fn a_function_that_shows_no_tags_proves_nothing() {
    let identity = Identity { prefix: "skls".into(), instance: "0123456789".into() };
    let mut story = Story::ready();
    let description = described(&identity, &story.container);
    let described_with = |tags| FunctionDescription { tags, ..description.clone() };
    let sight = |story: &Story, tags| execute::sight(&identity, &described_with(tags), &story.container, t(0));
    assert!(matches!(sight(&story, description.tags.clone()), Ok(Evidence::Function(_))));
    for tags in [None, Some(BTreeMap::new())] {
        let error = sight(&story, tags).unwrap_err();
        assert_eq!(error.kind, AwsErrorKind::AccessDenied);
        assert!(error.message.contains("lambda:ListTags"), "{error}");
    }
    let others = BTreeMap::from([("owner".to_owned(), "me".to_owned())]);
    assert!(matches!(sight(&story, Some(others)), Ok(Evidence::ForeignFunction { .. })));
    story.container.status.function = Known::Maybe;
    assert!(sight(&story, None).is_err());
    assert!(matches!(sight(&story, Some(BTreeMap::new())), Ok(Evidence::ForeignFunction { .. })));
}
