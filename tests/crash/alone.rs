//! What is only played undisturbed.

use sockerless_lambda::state::model::{Cause, InvocationKind};

use super::history::RunOf;
use super::life;
use super::play::{Outcome, Piece, perform};
use super::programs::Plot;
use super::report::unused_database;
use super::scenario::{Act, ByHand, Job, Scenario, Until};
use super::scenarios;
use super::verdict::Played;

/// Somebody deletes a container's function and makes one of the same name, which is not ours. DeleteFunction has no condition,
/// so a look that is stale by then could not prevent its deletion: nothing is stale here.
#[test]
fn a_function_that_has_become_somebody_elses_is_left_alone() {
    let scenario = Scenario::new(
        "taken-over",
        vec![
            Act::Create(Job::new("job", 1_000, Plot::Exit(0))),
            Act::Await(Until::Settled),
            Act::ByHand(ByHand::Delete("job")),
            Act::ByHand(ByHand::TakeName("job")),
            Act::Remove { name: "job", force: false },
            Act::Await(Until::Gone("job")),
        ],
    );
    let files = unused_database();
    let invocation = InvocationKind::RequestResponse;
    let piece = Piece { scenario: &scenario, invocation, plan: None, told: None, sabotage: None };
    let outcome = perform(piece, life::copy_of(files.path()));
    assert!(matches!(outcome, Ok(Outcome::Played(..))), "{outcome:?}");
}

fn undisturbed(name: &str, invocation: InvocationKind) -> Played {
    let scenarios = scenarios::all(invocation);
    let scenario = scenarios.iter().find(|scenario| scenario.name == name).unwrap();
    let piece = Piece { scenario, invocation, plan: None, told: None, sabotage: None };
    let Ok(Outcome::Played(played, _)) = perform(piece, life::copy_of(unused_database().path())) else {
        panic!("{name} goes wrong undisturbed")
    };
    *played
}

/// How the runs of `job` have ended, and how often Lambda has taken it.
fn ends(played: &Played) -> (Vec<(Cause, u8)>, usize) {
    let ends = played.endings.values().map(|ending| (ending.cause, ending.code)).collect();
    (ends, played.end.taken["job"])
}

/// What a plan is compared with is worth nothing if it is something else.
#[test]
fn scenarios_are_what_their_names_say() {
    let once = |cause, code| (vec![(cause, code)], 1);
    let table = [
        ("run-to-success", once(Cause::Exited, 0)),
        ("run-to-failure", once(Cause::Exited, 7)),
        ("run-to-timeout", once(Cause::Deadline, 137)),
        ("run-to-deadline", once(Cause::Deadline, 137)),
        ("run-out-of-memory", once(Cause::OutOfMemory, 137)),
        ("run-twice", (vec![(Cause::Exited, 4), (Cause::Exited, 5)], 2)),
        ("run-again-on-failure", (vec![(Cause::Exited, 3); 3], 3)),
        ("run-again-on-unknown", once(Cause::Exited, 2)),
        ("native-success", once(Cause::Exited, 0)),
        ("native-failure", once(Cause::FunctionError, 1)),
        ("stop-while-pending", (vec![(Cause::Cancelled, 137)], 0)),
        ("remove-while-pending", (vec![], 0)),
        ("create-refused", (vec![], 0)),
        ("role-not-visible", once(Cause::Exited, 0)),
        ("three-hours-down", once(Cause::Exited, 0)),
    ];
    for invocation in [InvocationKind::RequestResponse, InvocationKind::Event] {
        for (name, wanted) in &table {
            assert_eq!(ends(&undisturbed(name, invocation)), *wanted, "{name}, {invocation:?}");
        }
        let kept = undisturbed("remove-and-retain", invocation).end.functions;
        let kept = kept.iter().find(|(name, _)| name.ends_with("-010101010101010101010101"));
        let (_, settings) = kept.expect("the function is kept");
        assert!(settings["Tags"].get("sockerless.instance").is_none(), "{settings}");
    }
}

/// The backup is taken in the middle of things: the restored database has a start to invoke, and a run to invoke again.
#[test]
fn what_was_restored_is_not_invoked_again() {
    for invocation in [InvocationKind::RequestResponse, InvocationKind::Event] {
        let played = undisturbed("restored-backup", invocation);
        let how = |name: &str, line| {
            let ending = played.endings.get(&RunOf { name: name.to_owned(), no: 1, line });
            ending.map(|ending| (ending.cause, ending.code))
        };
        assert_eq!(how("wished", 0), Some((Cause::Exited, 4)), "after the backup it was invoked");
        assert_eq!(how("wished", 1), Some((Cause::NeverRan, 125)), "and nothing in the backup says so");
        for line in [0, 1] {
            assert_eq!(how("going", line), Some((Cause::Exited, 3)), "it had no end in the backup");
        }
        let taken: Vec<usize> = ["going", "wished"].map(|name| played.end.taken[name]).to_vec();
        assert_eq!(taken, [1, 1]);
    }
}
