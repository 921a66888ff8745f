//! Scenarios that are only played undisturbed.

use sockerless_lambda::state::model::InvocationKind;

use super::life;
use super::play::{Outcome, Piece, perform};
use super::programs::Plot;
use super::report::unused_database;
use super::scenario::{Act, ByHand, Job, Scenario, Until};

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
