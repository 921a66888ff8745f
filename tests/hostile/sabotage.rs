//! Do the checks notice what must never happen? What a wrong daemon would do is done behind its back.

use std::path::Path;

use sockerless_sandbox::model::Request;
use sockerless_sandbox::model::Response;
use sockerless_sandbox::model::logs_api::{DescribeLogStreams, InputLogEvent, LogStreamName, PutLogEvents};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::coverage::Coverage;
use super::daemon::{CLAIMS_GROUP, DATABASE, LOG_GROUP, unused_database};
use super::honest::Honest;
use super::play::{self, Setup, perform};
use super::world::World;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// While the daemon is down, a number in a row becomes null.
    PoisonARow,
    /// While the daemon is down, an honest container gets another exit code.
    ForgeAnExit,
    /// While the daemon is down, a text grows beyond every limit.
    BloatARow,
    /// While the daemon is down, an event becomes unreadable.
    PoisonAnEvent,
    /// A count that is kept becomes another while the daemon runs: at its start it counts.
    Miscount,
    /// Claims are said to be forged, and none is: the alarm does not come.
    SilenceTheAlarm,
    /// Another daemon claims the database.
    ForgeAClaim,
    /// Another container's line appears in an honest container's log.
    LeakALine,
    /// The reconciler ends.
    EndTheLoop,
}

impl Sabotage {
    /// Does what is done to a database that no daemon has.
    pub(crate) async fn tamper(self, files: &Path) {
        let change = match self {
            Self::PoisonARow => "UPDATE container SET status = json_set(status, '$.run.phase.exited.code', NULL)",
            Self::ForgeAnExit => "UPDATE container SET status = json_set(status, '$.run.phase.exited.code', 99)",
            Self::BloatARow => {
                "UPDATE event SET attributes = json_set(attributes, '$.x', hex(zeroblob(400000))) WHERE seq = 1"
            }
            Self::PoisonAnEvent => "UPDATE event SET attributes = '{' WHERE seq = 1",
            Self::ForgeAClaim | Self::LeakALine | Self::EndTheLoop | Self::SilenceTheAlarm | Self::Miscount => return,
        };
        change_by_hand(&files.join(DATABASE), change).await;
    }

    /// Does what is done while the daemon runs.
    pub(crate) async fn meddle(self, world: &mut World, honest: &[Honest]) {
        match self {
            Self::ForgeAClaim => {
                let log_stream_name = format!("{}/{:020}", world.instance, 5);
                let claim = LogStreamName { log_group_name: CLAIMS_GROUP.to_owned(), log_stream_name };
                world.operate(&Request::CreateLogStream(claim)).unwrap();
            }
            Self::LeakALine => {
                // Its stream is there when it runs.
                world.let_pass(3_000).await;
                let function = honest.iter().map(|honest| honest.function(world));
                function.for_each(|function| leak(world, &function));
            }
            Self::EndTheLoop => {
                // A call that is cut off in the middle would count as under way for ever.
                world.settle().await;
                world.daemon().controller.abort();
            }
            Self::SilenceTheAlarm => world.claims_are_forged.set(true),
            Self::Miscount => {
                let change = "UPDATE object_count SET visible = visible + 1";
                change_by_hand(&world.daemon().database(), change).await;
            }
            Self::PoisonARow | Self::ForgeAnExit | Self::BloatARow | Self::PoisonAnEvent => {}
        }
    }
}

async fn change_by_hand(database: &Path, change: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(database).connect().await.unwrap();
    sqlx::query(change).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Writes into every stream of a function.
fn leak(world: &World, function: &str) {
    let list = DescribeLogStreams { log_group_name: Some(LOG_GROUP.to_owned()), ..DescribeLogStreams::default() };
    let Ok(Response::LogStreams(list)) = world.operate(&Request::DescribeLogStreams(list)) else { return };
    for stream in list.log_streams.into_iter().filter(|stream| stream.log_stream_name.contains(function)) {
        let event = InputLogEvent { timestamp: world.now_ms(), message: "somebody else's line".to_owned() };
        let (log_group_name, log_stream_name) = (LOG_GROUP.to_owned(), stream.log_stream_name);
        let put = PutLogEvents { log_group_name, log_stream_name, log_events: vec![event] };
        world.operate(&Request::PutLogEvents(put)).unwrap();
    }
}

fn noticed(sabotage: Sabotage) -> String {
    let files = unused_database();
    let alone = play::undisturbed(files.path()).unwrap();
    let setup =
        Setup { number: 0, stories: &[], floods: false, kills: false, sabotage: Some(sabotage), files: files.path() };
    perform(setup, &alone, &Coverage::default()).expect_err("nothing is noticed")
}

#[test]
fn an_undisturbed_world_is_right() {
    let files = unused_database();
    let alone = play::undisturbed(files.path()).unwrap();
    for number in 0..4 {
        let setup = Setup { number, stories: &[], floods: false, kills: false, sabotage: None, files: files.path() };
        assert_eq!(perform(setup, &alone, &Coverage::default()), Ok(()));
    }
}

#[test]
fn a_row_that_cannot_be_read_is_noticed() {
    let why = noticed(Sabotage::PoisonARow);
    assert!(why.contains("read") || why.contains("dead"), "{why}");
}

#[test]
fn an_exit_code_that_has_changed_is_noticed() {
    let why = noticed(Sabotage::ForgeAnExit);
    assert!(why.contains("exit_code: 99"), "{why}");
}

#[test]
fn a_text_beyond_its_limit_is_noticed() {
    let why = noticed(Sabotage::BloatARow);
    assert!(why.contains("event.attributes has"), "{why}");
}

#[test]
fn a_claim_that_is_lost_is_noticed() {
    let why = noticed(Sabotage::ForgeAClaim);
    assert!(why.contains("Ownership") || why.contains("takes"), "{why}");
}

#[test]
fn a_line_of_somebody_else_is_noticed() {
    let why = noticed(Sabotage::LeakALine);
    assert!(why.contains("somebody else"), "{why}");
}

#[test]
fn a_loop_that_has_ended_is_noticed() {
    let why = noticed(Sabotage::EndTheLoop);
    assert!(why.contains("takes") || why.contains("has ended"), "{why}");
}

#[test]
fn a_row_of_another_table_that_cannot_be_read_is_noticed() {
    let why = noticed(Sabotage::PoisonAnEvent);
    assert!(why.contains("rows cannot be read") && why.contains("event"), "{why}");
}

#[test]
fn a_count_that_is_wrong_is_noticed() {
    let why = noticed(Sabotage::Miscount);
    assert!(why.contains("the counts of containers"), "{why}");
}

#[test]
fn an_alarm_that_does_not_come_is_noticed() {
    let why = noticed(Sabotage::SilenceTheAlarm);
    assert!(why.contains("claims are forged"), "{why}");
}
