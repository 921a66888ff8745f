//! Functions that Lambda took and could not make active: when they are made again, and when the start ends.

use super::*;
use crate::aws::{FailedUpdate, FunctionDescription};
use crate::reconciler::execute;
use crate::reconciler::function_failure::{BOUNDED_ATTEMPTS, FAILED_FUNCTIONS};
use crate::reconciler::names::Identity;
use crate::state::model::FailureKind;

fn delete() -> Action {
    Action::DeleteFunction { name: NAME.into() }
}

fn create() -> Action {
    Action::CreateFunction { name: NAME.into() }
}

fn failed(code: &str) -> Evidence {
    let state = FunctionState::Failed { code: code.into(), reason: "words".into() };
    Evidence::Function(function(state))
}

/// The container's function as AWS describes it.
fn shown(story: &Story) -> FunctionDescription {
    let identity = Identity { prefix: "skls".into(), instance: "0123456789".into() };
    FunctionDescription { name: NAME.into(), ..described(&identity, &story.container) }
}

impl Story {
    /// The function is made, and fails.
    fn make_in_vain(&mut self, code: &str) {
        assert_eq!(self.decide().action, create());
        self.absorb(&create(), &Outcome::Done);
        self.learn(&Evidence::Function(function(FunctionState::Pending)));
        self.pass(1);
        self.learn(&failed(code));
    }

    fn refuses_start(&self) -> bool {
        self.container.status.retry.failure.as_ref().is_some_and(|failure| failure.refuses_start(self.now))
    }
}

#[test]
fn a_function_that_failed_for_a_shortage_is_made_again_with_growing_pauses() {
    let mut story = Story::created();
    story.start();
    for count in 1..=2 * BOUNDED_ATTEMPTS {
        story.make_in_vain("EniLimitExceeded");
        let due = story.now.after(FAILED_FUNCTIONS.ceiling(count));
        assert_eq!(story.decide().action, Action::Wait { until: Some(due) }, "failure {count}");
        let failure = story.container.status.retry.failure.clone().unwrap();
        assert_eq!((failure.kind, failure.terminal_for), (FailureKind::FunctionFailed, None));
        assert_eq!(failure.message, "lambda: the function failed: words (EniLimitExceeded)");
        story.now = due;
        assert_eq!(story.decide().action, delete());
        story.absorb(&delete(), &Outcome::Done);
    }
    story.decide();
    story.absorb(&create(), &Outcome::Done);
    story.learn(&Evidence::Function(function(FunctionState::Active)));
    assert_eq!(story.decide().action, Action::Invoke { run_no: 1 });
    assert_eq!(story.container.status.function_failures, FunctionFailures::default());
}

#[test]
fn a_reason_that_is_unknown_or_being_mended_is_borne_a_bounded_number_of_times() {
    for code in ["InsufficientRolePermissions", "SomethingNew"] {
        let mut story = Story::created();
        story.start();
        for count in 1..=BOUNDED_ATTEMPTS {
            story.make_in_vain(code);
            if count < BOUNDED_ATTEMPTS {
                story.pass(600);
                assert_eq!(story.decide().action, delete(), "{code} {count}");
                story.absorb(&delete(), &Outcome::Done);
            }
        }
        story.decide();
        assert_eq!(story.exit_code(), Some(125), "{code}");
        assert!(!story.refuses_start(), "{code}");
        story.start();
        assert_eq!(story.decide().action, delete(), "{code}: the next start makes it again");
        story.absorb(&delete(), &Outcome::Done);
        story.make_in_vain(code);
        assert!(matches!(story.decide().action, Action::Wait { until: Some(_) }), "{code}: and counts anew");
    }
}

#[test]
fn a_failed_function_is_reported_at_once_where_only_somebody_can_mend_it() {
    for (code, refused) in [("ImageDeleted", false), ("DisabledKMSKey", false), ("InvalidSubnet", true)] {
        let mut story = Story::created();
        story.start();
        story.make_in_vain(code);
        story.decide();
        assert_eq!(story.exit_code(), Some(125), "{code}");
        let RunPhase::Exited(exit) = story.phase() else { panic!("it has ended") };
        assert_eq!(exit.message, format!("lambda: the function failed: words ({code})"));
        assert_eq!(story.refuses_start(), refused, "{code}");
        story.pass(3_600);
        assert_eq!(story.decide().action, Action::Wait { until: None }, "{code}: nothing goes on by itself");
    }
}

/// The look before the deletion shows the old function once more.
#[test]
fn a_failed_function_that_is_seen_again_is_not_counted_again() {
    let mut story = Story::created();
    story.start();
    story.make_in_vain("ImageDeleted");
    story.decide();
    story.start();
    assert_eq!(story.decide().action, delete());
    story.absorb(&delete(), &Outcome::Unknown(error(AwsErrorKind::NoAnswer)));
    story.learn(&failed("ImageDeleted"));
    story.pass(600);
    assert_eq!(story.decide().action, delete(), "the new start has not failed");
    assert_eq!(story.exit_code(), Some(125), "that is the end of the start before");
}

#[test]
fn a_failed_function_of_a_container_that_is_not_started_is_left_until_a_start() {
    let mut story = Story::created();
    story.make_in_vain("SubnetOutOfIPAddresses");
    story.pass(3_600);
    assert_eq!(story.decide().action, Action::Wait { until: None });
    story.start();
    assert_eq!(story.decide().action, delete());
}

/// AWS calls such a function active, and runs it as it was before.
#[test]
fn function_whose_last_update_failed_is_never_invoked_but_made_again() {
    for (state, code) in [("Active", "SubnetOutOfIPAddresses"), ("Inactive", "EniLimitExceeded")] {
        let mut story = Story::created();
        story.start();
        story.decide();
        story.absorb(&create(), &Outcome::Done);
        let update = FailedUpdate { code: Some(code.into()), reason: Some("words".into()) };
        let description = FunctionDescription { state: state.into(), failed_update: Some(update), ..shown(&story) };
        let seen = execute::function(&description, &story.container, story.now);
        assert_eq!(seen.drift, Vec::<String>::new(), "the settings are shown as wanted");
        story.learn(&Evidence::Function(seen));
        let due = story.now.after(FAILED_FUNCTIONS.ceiling(1));
        assert_eq!(story.decide().action, Action::Wait { until: Some(due) }, "{state}");
        let failure = story.container.status.retry.failure.clone().unwrap();
        assert_eq!(failure.message, format!("lambda: the function failed: words ({code})"));
        story.now = due;
        assert_eq!(story.decide().action, delete());
        story.absorb(&delete(), &Outcome::Done);
        story.decide();
        story.absorb(&create(), &Outcome::Done);
        let whole = execute::function(&shown(&story), &story.container, story.now);
        story.learn(&Evidence::Function(whole));
        assert_eq!(story.decide().action, Action::Invoke { run_no: 1 });
    }
}

#[test]
fn function_whose_update_is_in_progress_is_never_invoked() {
    for state in ["Active", "Inactive"] {
        let mut story = Story::created();
        story.start();
        story.decide();
        story.absorb(&create(), &Outcome::Done);
        let description = FunctionDescription { state: state.into(), updating: true, ..shown(&story) };
        for _ in 0..3 {
            story.learn(&Evidence::Function(execute::function(&description, &story.container, story.now)));
            assert!(matches!(story.decide().action, Action::Wait { until: Some(_) }), "{state}");
            story.pass(600);
            assert_eq!(story.decide().action, Action::GetFunction { name: NAME.into() }, "{state}");
        }
    }
}
