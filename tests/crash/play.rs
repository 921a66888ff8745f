//! One plan from its beginning to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sockerless_lambda::state::model::{Cause, InvocationKind, RunPhase};
use tempfile::TempDir;

use super::acts::{Users, new_function};
use super::history::{Ending, RunOf};
use super::life::{CLAIMS_GROUP, LOG_GROUP, SWEEP};
use super::points::{Numbers, Plan, Point};
use super::rest::Rest;
use super::sabotage::Sabotage;
use super::scenario::{Act, ByHand, Scenario, Site, Until};
use super::stage::{Broken, Stage, log_group, log_stream};
use super::verdict::{Foreign, Judge, Played};

/// A log group of somebody else, and a stream in it.
const THEIR_GROUP: &str = "/aws/lambda/theirs";
const THEIR_STREAM: &str = "2027/01/15/theirs[$LATEST]0123456789abcdef0123456789abcdef";
/// So many sweeps must change nothing in the end.
const PASSES: i64 = 10;
/// A plan takes no longer, in real time. It takes milliseconds; this ends one that never comes to rest.
const REAL_LIMIT: Duration = Duration::from_secs(120);

/// What is played.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) invocation: InvocationKind,
    pub(crate) plan: Option<&'a Plan>,
    /// The undisturbed run.
    pub(crate) told: Option<&'a Played>,
    /// What is done behind everybody's back.
    pub(crate) sabotage: Option<Sabotage>,
}

/// What came of a piece.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// All went as it must.
    Played(Box<Played>, Numbers),
    /// The run never came to the plan's point: how many writes share a commit is a matter of chance.
    NotReached,
}

/// Plays it on this thread, with a runtime of its own.
pub(crate) fn perform(piece: Piece<'_>, files: TempDir) -> Result<Outcome, Broken> {
    let rest = Arc::new(Rest::default());
    let looks = Arc::clone(&rest);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(move || looks.look()).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut stage = Stage::set(piece, Arc::clone(&rest), files).await;
        let played = tokio::time::timeout(REAL_LIMIT, play(&mut stage, piece)).await;
        let played = played.unwrap_or_else(|_| Err("it never comes to rest".to_owned()));
        let played = played.map_err(|why| format!("{why}\n{}", stage.tell()));
        stage.strike().await;
        played
    })
}

async fn play(stage: &mut Stage, piece: Piece<'_>) -> Result<Outcome, Broken> {
    let Piece { scenario, invocation, plan, told, sabotage } = piece;
    let mut users = Users::default();
    let nothing_yet = stage.around.ledger.counts();
    stage.start_later(Site::Main, 0, None, false);
    stage.settle().await?;
    let mut foreign = foreign(stage)?;
    let begun = if scenario.from_the_first_start { nothing_yet } else { stage.around.ledger.counts() };
    for act in &scenario.acts {
        stage.act(&mut users, act, invocation).await?;
        if matches!(act, Act::ByHand(ByHand::TakeName(_) | ByHand::ImitateUs)) {
            foreign.functions = stage.functions();
        }
    }
    stage.until(&users, Until::Settled).await?;
    if let Some(told) = told {
        start_again(stage, &mut users, told).await?;
    }
    let numbers = stage.around.ledger.numbers_since(&begun);
    if plan.is_some_and(|plan| plan.point != Point::Everywhere) && stage.around.ledger.struck_ms().is_none() {
        return Ok(Outcome::NotReached);
    }
    stage.around.ledger.calm();
    stage.act(&mut users, &Act::Down(1_000), invocation).await?;
    stage.until(&users, Until::Settled).await?;
    if let Some(sabotage) = sabotage {
        sabotage.meddle(stage, &mut users, &foreign).await?;
    }
    ten_quiet_passes(stage).await?;
    let judge = Judge { stage, users: &users, scenario, plan, foreign: &foreign };
    judge.safety()?;
    let played = Played {
        end: stage.end_state(&users).await?,
        endings: stage.endings.so_far(),
        unknown_that_ran: 0,
        unknown_that_never_ran: 0,
        refused: 0,
    };
    let played = match told {
        Some(told) => judge.compare(told, played)?,
        None => played,
    };
    Ok(Outcome::Played(Box::new(played), numbers))
}

/// The log groups, and what others have: functions of another daemon and of nobody that we know, another daemon's claims in
/// the claims group, forged claims of ours, and a group of somebody else.
fn foreign(stage: &Stage) -> Result<Foreign, Broken> {
    for group in [LOG_GROUP, CLAIMS_GROUP] {
        // The daemon's first start may have made it.
        let _ = stage.by_hand(&log_group(group));
    }
    stage.by_hand(&log_group(THEIR_GROUP)).map_err(|error| error.to_string())?;
    let mut streams = BTreeMap::new();
    for (group, name) in foreign_streams(&stage.instance) {
        stage.by_hand(&log_stream(group, &name)).map_err(|error| error.to_string())?;
        let described = stage.streams(group).remove(&name).ok_or("a stream that was just made is not there")?;
        streams.insert((group.to_owned(), name), described);
    }
    let digits = "ab".repeat(12);
    let other = format!("skls-9999999999-{digits}");
    let of_other = [("sockerless.instance", "9999999999"), ("sockerless.container", "abababababab")];
    for (name, tags) in [(other.as_str(), &of_other[..]), ("theirs", &[])] {
        stage.by_hand(&new_function(name, tags)).map_err(|error| error.to_string())?;
    }
    Ok(Foreign { functions: stage.functions(), streams })
}

/// In the claims group: another instance's claims with a low and a high epoch, one of an instance whose name begins as ours
/// does, and one of ours with an epoch that no daemon reaches. Where functions write, and in somebody else's group: claims
/// of ours as a function could forge them.
fn foreign_streams(instance: &str) -> Vec<(&'static str, String)> {
    let claim = |instance: &str, epoch: u64| format!("{instance}/{epoch:020}");
    let ours = instance.to_owned() + "0";
    let claims = [claim("9999999999", 1), claim("9999999999", 900), claim(&ours, 1), claim(instance, u64::MAX)];
    let forged = [claim(instance, 9_999), THEIR_STREAM.to_owned()];
    let claims = claims.into_iter().map(|name| (CLAIMS_GROUP, name));
    let forged = forged.into_iter().flat_map(|name| [LOG_GROUP, THEIR_GROUP].map(|group| (group, name.clone())));
    claims.chain(forged).collect()
}

/// A user whose container was refused for want of a right starts it again, when the right is there.
async fn start_again(stage: &mut Stage, users: &mut Users, told: &Played) -> Result<(), Broken> {
    let names: Vec<&'static str> = users.starts.keys().copied().collect();
    for name in names {
        let id = users.id(name);
        let Some(row) = stage.rows.iter().find(|row| row.id == id && !row.is_removed()) else { continue };
        let Some(run) = &row.status.run else { continue };
        let never_ran = matches!(&run.phase, RunPhase::Exited(exit) if exit.cause == Cause::NeverRan);
        let ran = |(of, ending): (&RunOf, &Ending)| {
            of.name == name && of.line == stage.endings.line() && ending.cause != Cause::NeverRan
        };
        let should_have = told.endings.iter().any(ran);
        if never_ran && should_have {
            stage.start_once_more(users, name).await?;
        }
    }
    stage.until(users, Until::Settled).await
}

/// Nothing is changed in AWS any more, however often the daemon looks.
async fn ten_quiet_passes(stage: &mut Stage) -> Result<(), Broken> {
    stage.settle().await?;
    let before = stage.around.ledger.seen();
    let sweep_ms = i64::try_from(SWEEP.as_millis()).map_err(|error| error.to_string())?;
    stage.let_pass(PASSES * sweep_ms).await?;
    let calls = stage.around.ledger.journal_from(before);
    let lists =
        calls.iter().filter(|call| call.operation == sockerless_sandbox::model::Operation::ListFunctions).count();
    if i64::try_from(lists).unwrap_or_default() < PASSES {
        return Err(format!("only {lists} passes"));
    }
    match calls.iter().find(|call| call.operation.mutates()) {
        None => Ok(()),
        Some(call) => Err(format!("after it has converged: {} of {:?}", call.operation.name(), call.resource)),
    }
}
