//! Does the harness notice what must never happen? What a wrong daemon would do is done behind its back.

use std::path::Path;

use sockerless_lambda::state::model::InvocationKind;
use sockerless_sandbox::faults::FaultKind;
use sockerless_sandbox::model::lambda_api::FunctionName;
use sockerless_sandbox::model::logs_api::LogStreamName;
use sockerless_sandbox::model::{Operation, Request};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::acts::{Users, new_function};
use super::life::{self, CLAIMS_GROUP, DATABASE, LOG_GROUP};
use super::play::{Outcome, Piece, perform};
use super::points::{Cut, Disturbance, Plan, Point};
use super::programs::Plot;
use super::report::unused_database;
use super::scenario::{Act, ByHand, Job, Scenario, Until};
use super::scenarios;
use super::stage::{Broken, Stage};
use super::verdict::Foreign;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// While the daemon is down, its database forgets that a run was issued.
    ForgetTheIntent,
    /// While the daemon is down, its database gets another exit code.
    ForgeTheExit,
    /// While the daemon is down, its database takes the end for unknown.
    ForgetTheEnd,
    /// Somebody else's function is deleted.
    DeleteForeign,
    /// Another daemon's claim in the claims group is deleted.
    DeleteForeignClaim,
    /// A stream in somebody else's log group is deleted and made again.
    RemakeForeignStream,
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
            Self::ForgetTheEnd => {
                "UPDATE container SET status = json_set(status, '$.run.phase.exited.code', 125, \
                 '$.run.phase.exited.cause', 'unknown')"
            }
            _ => return,
        };
        let options = SqliteConnectOptions::new().filename(files.join(DATABASE));
        let mut connection = options.connect().await.unwrap();
        sqlx::query(change).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Does what is done in AWS.
    pub(crate) async fn meddle(self, stage: &mut Stage, users: &mut Users, foreign: &Foreign) -> Result<(), Broken> {
        let ours = |(group, stream): &&(String, String)| group == CLAIMS_GROUP && stream.ends_with("900");
        let theirs = |(group, _): &&(String, String)| group != CLAIMS_GROUP && group != LOG_GROUP;
        let requests = match self {
            Self::ForgetTheIntent | Self::ForgeTheExit | Self::ForgetTheEnd => vec![],
            Self::NeverRest => return stage.meddle(users, ByHand::Change("job")).await,
            Self::DeleteForeign => {
                let name = foreign.functions.keys().next().ok_or("nothing is foreign")?;
                vec![Request::DeleteFunction(FunctionName::parse(name, None))]
            }
            Self::DeleteForeignClaim => {
                vec![Request::DeleteLogStream(named(foreign.streams.keys().find(ours).ok_or("no foreign claim")?))]
            }
            Self::RemakeForeignStream => {
                let (group, stream) = foreign.streams.keys().find(theirs).ok_or("no foreign stream")?;
                let stream = (group.clone(), stream.clone());
                vec![Request::DeleteLogStream(named(&stream)), Request::CreateLogStream(named(&stream))]
            }
            Self::LeaveSomething => vec![new_function("left-behind", &[])],
        };
        requests.iter().try_for_each(|request| stage.by_hand(request).map(drop).map_err(|error| error.to_string()))
    }
}

fn named((group, stream): &(String, String)) -> LogStreamName {
    LogStreamName { log_group_name: group.clone(), log_stream_name: stream.clone() }
}

/// What the harness says to a scenario that is disturbed in one place, with and without sabotage.
fn told_of(
    scenario: &Scenario,
    point: Point,
    disturbance: Disturbance,
    sabotage: Option<Sabotage>,
) -> Result<Outcome, Broken> {
    let files = unused_database();
    let invocation = InvocationKind::RequestResponse;
    let undisturbed = Piece { scenario, invocation, plan: None, told: None, sabotage: None };
    let Outcome::Played(told, _) = perform(undisturbed, life::copy_of(files.path())).unwrap() else {
        panic!("without a plan there is no point to reach")
    };
    let plan = Plan { scenario: scenario.name, invocation, point, what: "sabotage", disturbance };
    let piece = Piece { plan: Some(&plan), told: Some(&told), sabotage, ..undisturbed };
    perform(piece, life::copy_of(files.path()))
}

/// A run whose daemon dies while its program runs.
fn told_of_a_kill(sabotage: Option<Sabotage>) -> Result<Outcome, Broken> {
    let scenarios = scenarios::all(InvocationKind::RequestResponse);
    let scenario: &Scenario = scenarios.iter().find(|scenario| scenario.name == "run-to-failure").unwrap();
    told_of(scenario, Point::Call(Operation::Invoke, 1), Disturbance::Kill(Cut::Processed), sabotage)
}

/// A run whose Invoke is answered with this failure; while it runs, the machine stands still for a moment.
fn told_of_a_failure(kind: FaultKind, sabotage: Option<Sabotage>) -> Result<Outcome, Broken> {
    let job = Job::new("job", 1_000, Plot::Exit(7));
    let acts =
        vec![Act::Create(job), Act::Start("job"), Act::Pass(1_500), Act::Down(1_000), Act::Await(Until::Settled)];
    let scenario = Scenario::new("failure", acts);
    told_of(&scenario, Point::Call(Operation::Invoke, 1), Disturbance::Fault(kind), sabotage)
}

fn noticed(told: Result<Outcome, Broken>) -> String {
    let why = told.expect_err("nobody notices");
    why.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn nothing_is_noticed_where_nothing_is_wrong() {
    let Outcome::Played(played, _) = told_of_a_kill(None).unwrap() else { panic!("the point is an Invoke") };
    assert_eq!((played.unknown_that_ran, played.unknown_that_never_ran, played.refused), (0, 0, 0));
}

#[test]
fn a_second_invoke_is_noticed() {
    let why = noticed(told_of_a_kill(Some(Sabotage::ForgetTheIntent)));
    assert!(why.contains("1 runs are wanted, Lambda has taken 2 invocations"), "{why}");
}

#[test]
fn a_wrong_exit_code_is_noticed() {
    let why = noticed(told_of_a_kill(Some(Sabotage::ForgeTheExit)));
    assert!(why.contains("99"), "{why}");
}

#[test]
fn a_foreign_function_that_is_gone_is_noticed() {
    let why = noticed(told_of_a_kill(Some(Sabotage::DeleteForeign)));
    assert!(why.contains("which is not ours, is changed or gone"), "{why}");
}

#[test]
fn a_function_that_is_left_behind_is_noticed() {
    let why = noticed(told_of_a_kill(Some(Sabotage::LeaveSomething)));
    assert!(why.contains("the function left-behind"), "{why}");
}

#[test]
fn a_change_after_the_end_is_noticed() {
    let why = noticed(told_of_a_kill(Some(Sabotage::NeverRest)));
    assert!(why.contains("after it has converged: UpdateFunctionConfiguration"), "{why}");
}

#[test]
fn a_foreign_log_stream_that_is_gone_or_new_is_noticed() {
    for (sabotage, which) in [
        (Sabotage::DeleteForeignClaim, "9999999999/00000000000000000900 in"),
        (Sabotage::RemakeForeignStream, "in /aws/lambda/theirs"),
    ] {
        let why = noticed(told_of_a_kill(Some(sabotage)));
        assert!(why.contains(which) && why.contains("which is not ours, is changed or gone"), "{why}");
    }
}

/// Lambda has taken none of the first, so it has taken one only, and the exit code is right: the Invokes tell.
#[test]
fn an_invoke_that_is_repeated_after_a_failure_without_an_answer_is_noticed() {
    for kind in
        [FaultKind::ServiceError { status: 502 }, FaultKind::ServiceError { status: 500 }, FaultKind::ResetBefore]
    {
        let Outcome::Played(played, _) = told_of_a_failure(kind.clone(), None).unwrap() else { panic!("{kind:?}") };
        assert_eq!((played.unknown_that_ran, played.unknown_that_never_ran), (0, 1), "{kind:?}");
        let why = noticed(told_of_a_failure(kind, Some(Sabotage::ForgetTheIntent)));
        assert!(why.contains("1 runs are wanted, 2 Invokes were sent that were not surely refused"), "{why}");
    }
    // After these it has run.
    for kind in [FaultKind::ServiceErrorAfter { status: 502 }, FaultKind::LoseAnswer] {
        let why = noticed(told_of_a_failure(kind, Some(Sabotage::ForgetTheIntent)));
        assert!(why.contains("1 runs are wanted, Lambda has taken 2 invocations"), "{why}");
    }
}

/// Something else fails meanwhile, which explains nothing.
#[test]
fn an_unknown_outcome_without_a_reason_of_its_own_is_noticed() {
    let job = Job::new("job", 1_000, Plot::Exit(0));
    let acts = vec![
        Act::Create(job),
        Act::Start("job"),
        Act::Await(Until::Exited("job")),
        Act::Down(1_000),
        Act::Await(Until::Settled),
    ];
    let scenario = Scenario::new("forgotten", acts);
    let told = |sabotage| {
        let fails = Disturbance::Fault(FaultKind::ServiceError { status: 500 });
        told_of(&scenario, Point::Call(Operation::FilterLogEvents, 1), fails, sabotage)
    };
    assert!(matches!(told(None), Ok(Outcome::Played(..))));
    let why = noticed(told(Some(Sabotage::ForgetTheEnd)));
    assert!(why.contains("is called unknown, and the log has its end"), "{why}");
}
