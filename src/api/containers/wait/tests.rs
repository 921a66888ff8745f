use super::*;
use crate::api::tests::{container, ended, exit, issued_run};
use crate::clock::Timestamp;
use crate::state::model::{Cause, RestartPolicy, UnknownOutcome};

fn verdict(condition: Condition, before: &Container, now: &Container) -> Option<u8> {
    let baseline = last_end(before).map(|end| end.place);
    still_there(condition, baseline, now).map(|verdict| verdict.code)
}

fn running(starts: u64) -> Container {
    let mut container = container("a");
    container.spec.starts = starts;
    container.status.run = Some(issued_run(starts));
    container
}

#[test]
fn not_running_is_a_state() {
    let not_running = |now: &Container| verdict(Condition::NotRunning, now, now);
    assert_eq!(not_running(&container("a")), Some(0));
    assert_eq!(not_running(&running(1)), None);
    assert_eq!(not_running(&ended("a", 1, exit(3, Cause::Exited))), Some(3));
    let mut again = ended("a", 1, exit(3, Cause::Exited));
    again.spec.config.restart = RestartPolicy::OnFailure { max: 0 };
    assert_eq!(not_running(&again), None);
}

#[test]
fn next_exit_is_a_change() {
    let next = |before: &Container, now: &Container| verdict(Condition::NextExit, before, now);
    let first = ended("a", 1, exit(1, Cause::Exited));
    let second = ended("a", 2, exit(2, Cause::Exited));
    assert_eq!(next(&container("a"), &container("a")), None);
    assert_eq!(next(&container("a"), &running(1)), None);
    assert_eq!(next(&container("a"), &first), Some(1));
    assert_eq!(next(&first, &first), None);
    assert_eq!(next(&first, &running(2)), None);
    assert_eq!(next(&first, &second), Some(2));
    // A start that was not taken up yet does not make an old end a new one.
    let mut wished = first.clone();
    wished.spec.starts = 2;
    assert_eq!(next(&first, &wished), None);
    // A cancelled start is an end too.
    wished.spec.cancelled = 2;
    wished.spec.cancelled_at = Some(Timestamp::from_secs(1));
    assert_eq!(next(&first, &wished), Some(137));
}

#[test]
fn an_end_whose_run_is_repeated_does_not_count() {
    let mut again = ended("a", 1, exit(3, Cause::Exited));
    again.spec.config.restart = RestartPolicy::OnFailure { max: 1 };
    assert_eq!(verdict(Condition::NextExit, &container("a"), &again), None);
    again.status.restarts = 1;
    assert_eq!(verdict(Condition::NextExit, &container("a"), &again), Some(3));
    let mut unknown = ended("a", 1, exit(125, Cause::Unknown));
    unknown.spec.config.function.unknown_outcome = UnknownOutcome::Rerun;
    assert_eq!(verdict(Condition::NextExit, &container("a"), &unknown), None);
}

#[test]
fn only_code_125_carries_an_error() {
    let json = |code, cause| Verdict::of(&exit(code, cause)).json().to_string();
    assert_eq!(json(0, Cause::Exited), r#"{"StatusCode":0}"#);
    assert_eq!(json(125, Cause::Exited), r#"{"StatusCode":125}"#);
    assert_eq!(json(137, Cause::Deadline), r#"{"StatusCode":137}"#);
    assert_eq!(json(125, Cause::NeverRan), r#"{"Error":{"Message":"NeverRan"},"StatusCode":125}"#);
}
