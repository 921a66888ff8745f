//! What hostile containers may expect themselves: a program that is run as it was ordered, and of whose container nobody takes
//! anything away, ends with its own status, and its log is what it has printed.

use sockerless_lambda::state::model::{ContainerId, life};

use super::honest::{Output, by_stream, shown};
use super::programs::{Ends, Run};
use super::requests::Kind;
use super::story::{Act, Story};
use super::verdict;
use super::world::{Broken, World};

/// How long after everything else it may take until such a container has ended, in virtual milliseconds.
const LATE_MS: i64 = 60_000;
/// Virtual time between two looks, in milliseconds.
const PASSES_MS: i64 = 500;

/// A hostile container whose end is known before.
#[derive(Debug)]
pub(crate) struct Own {
    name: String,
    id: ContainerId,
    exit_code: i64,
}

impl Own {
    /// Begins a hostile container. `None`: how it ends is for nobody to say, or it was refused.
    pub(crate) async fn begin(world: &mut World, run: &Run, story: &Story) -> Result<Option<Self>, Broken> {
        world.programs.register(run);
        let is_started = verdict::begin_hostile(world, run).await?;
        let Some(exit_code) = exit_code(run, story).filter(|_| is_started) else { return Ok(None) };
        let found = world.daemon().reader.resolve(&run.name).await;
        let id = found.map_err(|error| format!("{} is started and not found: {error}", run.name))?;
        Ok(Some(Self { name: run.name.clone(), id, exit_code }))
    }

    /// It ends as it was ordered to.
    pub(crate) async fn judge(&self, world: &mut World) -> Result<(), Broken> {
        let Self { name, exit_code, .. } = self;
        let until_ms = world.at_ms() + LATE_MS;
        while !self.is_over(world).await? {
            if world.at_ms() >= until_ms {
                return Err(format!("{name} has not ended"));
            }
            world.let_pass(PASSES_MS).await;
        }
        let seen = world.expect("GET", &format!("/containers/{name}/json"), "", 200).await?;
        if seen["State"]["ExitCode"].as_i64() != Some(*exit_code) {
            return Err(format!("{name} ends as {}, not with {exit_code}", seen["State"]));
        }
        let logs = world.ask("GET", &format!("/containers/{name}/logs?stdout=1&stderr=1"), "").await?;
        let (found, printed) = (by_stream(&logs.body())?, world.programs.printed(name));
        match printed.as_slice() {
            [output] if *output == found => Ok(()),
            [output] => Err(format!("{name} has printed {}, shown are {}", shown(output), shown(&found))),
            runs => Err(format!("{name} has run {} times", runs.len())),
        }
    }

    async fn is_over(&self, world: &World) -> Result<bool, Broken> {
        let row = world.daemon().reader.container(&self.id).await.map_err(|error| format!("{}: {error}", self.name))?;
        let row = row.ok_or_else(|| format!("{} is gone", self.name))?;
        let has_ended = matches!(life::life(&row.spec, &row.status), life::Life::Exited(_));
        Ok(has_ended && row.status.run.is_some_and(|run| run.log_closed))
    }
}

/// The exit code of a program behind the bootstrap that is left alone and runs once.
fn exit_code(run: &Run, story: &Story) -> Option<i64> {
    let is_touched = |act: &Act| match act {
        Act::Request(attack) => matches!(attack.kind, Kind::OwnContainer | Kind::Route),
        Act::Run(_) | Act::Account(_) => false,
    };
    if run.native || run.tty || run.restarts > 0 || run.auto_remove || story.acts.iter().any(|(_, act)| is_touched(act))
    {
        return None;
    }
    match run.ends {
        Ends::Exit(code) => Some(i64::from(code)),
        Ends::Signal(signal) => Some(i64::from((128 + signal) & 0xff)),
        _ => None,
    }
}

/// What a program has printed, as it is put together from its pieces.
pub(crate) fn print(output: &mut Output, stderr: bool, bytes: &[u8]) {
    if !bytes.is_empty() {
        output.entry(if stderr { 2 } else { 1 }).or_default().extend_from_slice(bytes);
    }
}
