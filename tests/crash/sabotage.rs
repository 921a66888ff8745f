//! Does the harness notice what must never happen? What a wrong daemon would do is done behind its back.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sockerless_lambda::state::model::InvocationKind;
use sockerless_sandbox::model::Request;
use sockerless_sandbox::model::lambda_api::FunctionName;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::acts::{Users, new_function};
use super::life::{self, DATABASE};
use super::play::{Outcome, Piece, perform};
use super::points::{Cut, Disturbance, Plan, Point};
use super::report::unused_database;
use super::scenario::{ByHand, Scenario};
use super::scenarios;
use super::stage::{Broken, Stage};
use sockerless_sandbox::model::Operation;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// While the daemon is down, its database forgets that a run was issued.
    ForgetTheIntent,
    /// While the daemon is down, its database gets another exit code.
    ForgeTheExit,
    /// Somebody else's function is deleted.
    DeleteForeign,
    /// A function is made that nobody wanted.
    LeaveSomething,
    /// There is something to do after all is done.
    NeverRest,
}

impl Sabotage {
    /// Does what is done to a database that no daemon has.
    pub(crate) async fn tamper(self, files: &Path) {
        let change = match self {
            Self::ForgetTheIntent => {
                "UPDATE container SET status = json_set(status, '$.run.phase', 'refused') \
                 WHERE json_extract(status, '$.run.phase.exited') IS NULL"
            }
            Self::ForgeTheExit => "UPDATE container SET status = json_set(status, '$.run.phase.exited.code', 99)",
            Self::DeleteForeign | Self::LeaveSomething | Self::NeverRest => return,
        };
        let options = SqliteConnectOptions::new().filename(files.join(DATABASE));
        let mut connection = options.connect().await.unwrap();
        sqlx::query(change).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Does what is done in AWS.
    pub(crate) async fn meddle(
        self,
        stage: &mut Stage,
        users: &mut Users,
        foreign: &BTreeMap<String, Value>,
    ) -> Result<(), Broken> {
        let request = match self {
            Self::ForgetTheIntent | Self::ForgeTheExit => return Ok(()),
            Self::NeverRest => return stage.meddle(users, ByHand::Change("job")).await,
            Self::DeleteForeign => {
                Request::DeleteFunction(FunctionName::parse(foreign.keys().next().ok_or("nothing is foreign")?, None))
            }
            Self::LeaveSomething => new_function("left-behind", &[]),
        };
        stage.by_hand(&request).map(drop).map_err(|error| error.to_string())
    }
}

/// What the harness says to a run whose daemon dies while its program runs, with and without sabotage.
fn told_of(sabotage: Option<Sabotage>) -> Result<Outcome, Broken> {
    let files = unused_database();
    let invocation = InvocationKind::RequestResponse;
    let scenarios = scenarios::all(invocation);
    let scenario: &Scenario = scenarios.iter().find(|scenario| scenario.name == "run-to-failure").unwrap();
    let undisturbed = Piece { scenario, invocation, plan: None, told: None, sabotage: None };
    let Outcome::Played(told, _) = perform(undisturbed, life::copy_of(files.path())).unwrap() else {
        panic!("without a plan there is no point to reach")
    };
    let plan = Plan {
        scenario: scenario.name,
        invocation,
        point: Point::Call(Operation::Invoke, 1),
        what: "kill-processed",
        disturbance: Disturbance::Kill(Cut::Processed),
    };
    let piece = Piece { plan: Some(&plan), told: Some(&told), sabotage, ..undisturbed };
    perform(piece, life::copy_of(files.path()))
}

fn noticed(sabotage: Sabotage) -> String {
    let why = told_of(Some(sabotage)).expect_err("nobody notices");
    why.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn nothing_is_noticed_where_nothing_is_wrong() {
    let Outcome::Played(played, _) = told_of(None).unwrap() else { panic!("the point is an Invoke") };
    assert_eq!((played.unknown_that_ran, played.unknown_that_never_ran, played.refused), (0, 0, 0));
}

#[test]
fn a_second_invoke_is_noticed() {
    let why = noticed(Sabotage::ForgetTheIntent);
    assert!(why.contains("1 runs are wanted, Lambda has taken 2 invocations"), "{why}");
}

#[test]
fn a_wrong_exit_code_is_noticed() {
    let why = noticed(Sabotage::ForgeTheExit);
    assert!(why.contains("99"), "{why}");
}

#[test]
fn a_foreign_function_that_is_gone_is_noticed() {
    let why = noticed(Sabotage::DeleteForeign);
    assert!(why.contains("which is not ours, is changed or gone"), "{why}");
}

#[test]
fn a_function_that_is_left_behind_is_noticed() {
    let why = noticed(Sabotage::LeaveSomething);
    assert!(why.contains("the function left-behind"), "{why}");
}

#[test]
fn a_change_after_the_end_is_noticed() {
    let why = noticed(Sabotage::NeverRest);
    assert!(why.contains("after it has converged: UpdateFunctionConfiguration"), "{why}");
}
