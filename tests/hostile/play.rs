//! One world from its beginning to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::coverage::Coverage;
use super::daemon::copy_of;
use super::follow::Follower;
use super::honest::{EVENT, Honest, Outcome, PLANS, SLOW};
use super::limits::{LATE_AFTER_A_KILL_MS, LATE_IN_A_FLOOD_MS, LATE_MS, REAL_LIMIT_S};
use super::own::Own;
use super::programs::Programs;
use super::sabotage::Sabotage;
use super::story::{Act, LAST_ACT_MS, Story};
use super::verdict;
use super::world::{Broken, Idle, World};

/// When a flood comes, in virtual milliseconds, and how long before an honest container is started.
pub(crate) const FLOOD_AT_MS: i64 = 9_000;
const BEFORE_THE_FLOOD_MS: i64 = 1_000;
/// Without anybody else an honest container ends within this time, in virtual milliseconds.
const ALONE_MS: i64 = 600_000;
/// How long after the beginning of a flood the daemon is killed: it is behind by then.
const KILLED_AFTER_MS: i64 = 3_000;
/// Steps between two looks at the health checks.
const ASKED_ONE_IN: usize = 8;
/// One in this many worlds has a client that follows the logs, and which of them: its requests take real time.
const FOLLOWED_ONE_IN: usize = 4;
const FOLLOWED_AT: usize = 2;
/// One world in so many has an honest container whose end takes minutes to be known, and which of them.
const SLOW_ONE_IN: usize = 8;
const SLOW_AT: usize = 5;

/// What is played.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// Chooses the honest containers.
    pub(crate) number: usize,
    pub(crate) stories: &'a [Story],
    /// One of the stories floods the log group.
    pub(crate) floods: bool,
    /// The daemon is killed while it is behind.
    pub(crate) kills: bool,
    pub(crate) sabotage: Option<Sabotage>,
    /// A database that no daemon has used.
    pub(crate) files: &'a Path,
}

/// How each kind of honest container ends when nobody disturbs it, and in which time.
pub(crate) type Alone = [(Outcome, i64)];

/// Plays a world on this thread, with a runtime of its own.
pub(crate) fn perform(setup: Setup<'_>, alone: &Alone, coverage: &Coverage) -> Result<(), Broken> {
    on_a_runtime(async |idle| {
        let programs = Arc::new(Programs::new(coverage.clone()));
        let mut world = World::begin(idle, copy_of(setup.files), programs, setup.floods).await?;
        let played = play(&mut world, setup, alone).await;
        let at = world.at_ms();
        world.end().await;
        played.map_err(|why| format!("{why} (at {at} ms)"))
    })
}

/// Plays each kind of honest container without anybody else.
pub(crate) fn undisturbed(files: &Path) -> Result<Vec<(Outcome, i64)>, Broken> {
    in_a_world(files, async |world| {
        let mut alone = Vec::new();
        for plan in 0..PLANS.len() {
            let honest = [Honest::begin(world, plan).await?];
            let mut honest = Others(honest.into());
            honest.wait(world, |_| ALONE_MS).await?;
            alone.push((honest.0[0].outcome(world).await?, honest.0[0].took_ms(world)));
        }
        Ok(alone)
    })
}

/// Plays something in a world that nobody else is in.
pub(crate) fn in_a_world<T>(
    files: &Path,
    play: impl AsyncFnOnce(&mut World) -> Result<T, Broken>,
) -> Result<T, Broken> {
    on_a_runtime(async |idle| {
        let mut world = World::begin(idle, copy_of(files), Arc::default(), false).await?;
        let played = play(&mut world).await;
        world.end().await;
        played
    })
}

fn on_a_runtime<T>(play: impl AsyncFnOnce(Idle) -> Result<T, Broken>) -> Result<T, Broken> {
    let idle = Idle::default();
    let looks = Arc::clone(&idle.rest);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(move || looks.look()).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let limit = Duration::from_secs(REAL_LIMIT_S);
    runtime.block_on(async {
        let played = tokio::time::timeout(limit, play(idle.clone())).await;
        played.unwrap_or_else(|_| Err(format!("it never comes to rest: {}", idle.rest.describe())))
    })
}

async fn play(world: &mut World, setup: Setup<'_>, alone: &Alone) -> Result<(), Broken> {
    let late_ms = match (setup.floods, setup.kills) {
        (_, true) => LATE_AFTER_A_KILL_MS,
        (true, false) => LATE_IN_A_FLOOD_MS,
        (false, false) => LATE_MS,
    };
    let limit = |honest: &Honest| alone[honest.plan].1 + late_ms;
    let mut others = Others(Vec::new());
    let (mut own, mut followed) = (Vec::new(), Vec::new());
    for (index, (at_ms, step)) in agenda(setup).into_iter().enumerate() {
        others.until(world, at_ms).await?;
        if index % ASKED_ONE_IN == 0 {
            verdict::answers(world).await?;
        }
        match step {
            Step::Act(story, act) => own.extend(carry_out(world, (story, act), &others).await?),
            Step::Honest(plan) => {
                let honest = Honest::begin(world, plan).await?;
                if setup.number % FOLLOWED_ONE_IN == FOLLOWED_AT && !setup.kills {
                    followed.push((others.0.len(), Follower::begin(world, &honest.name)));
                }
                others.0.push(honest);
            }
            Step::Kill => {
                others.0.iter_mut().for_each(Honest::loses_its_answer);
                world.restart(async |_| {}).await?;
            }
        }
    }
    if let Some(sabotage) = setup.sabotage {
        sabotage.meddle(world, &others.0).await;
    }
    others.wait(world, limit).await?;
    others.judge(world, alone).await?;
    others.note(world, setup, alone);
    for (index, follower) in followed {
        let honest = &others.0[index];
        let expected = &alone[honest.plan].0;
        follower.judge(world, expected).await.map_err(|why| format!("{}: {why}", honest.name))?;
    }
    for own in &own {
        own.judge(world).await?;
    }
    verdict::healthy(world).await?;
    verdict::alarmed(world).await?;
    verdict::readable(world).await?;

    world
        .restart(async |files| {
            if let Some(sabotage) = setup.sabotage {
                sabotage.tamper(files.path()).await;
            }
        })
        .await?;
    verdict::readable(world).await?;
    others.judge(world, alone).await?;
    let mut after = Others(vec![Honest::begin(world, ordinary(setup.number + 3)).await?]);
    after.wait(world, limit).await?;
    after.judge(world, alone).await?;
    verdict::healthy(world).await
}

enum Step<'a> {
    Act(&'a Story, &'a Act),
    Honest(usize),
    Kill,
}

/// All that happens, in the order of its time. Honest containers are there before, between and after the hostile acts.
fn agenda(setup: Setup<'_>) -> Vec<(i64, Step<'_>)> {
    let plan = |index| ordinary(setup.number + index);
    let mut honest = vec![(0, plan(0)), (LAST_ACT_MS / 2, plan(1)), (LAST_ACT_MS + 1, plan(2))];
    if setup.floods || setup.number % SLOW_ONE_IN == SLOW_AT {
        honest.insert(0, (0, SLOW));
    }
    if setup.floods {
        honest.insert(0, (FLOOD_AT_MS - BEFORE_THE_FLOOD_MS, EVENT));
    }
    let honest = honest.into_iter().map(|(at, plan)| (at, Step::Honest(plan)));
    let acts =
        setup.stories.iter().flat_map(|story| story.acts.iter().map(move |(at, act)| (*at, Step::Act(story, act))));
    let kill = setup.kills.then_some((FLOOD_AT_MS + KILLED_AFTER_MS, Step::Kill));
    let mut agenda: Vec<_> = honest.chain(acts).chain(kill).collect();
    agenda.sort_by_key(|(at, _)| *at);
    agenda
}

/// All kinds of honest containers in turn, but for the slow one.
fn ordinary(index: usize) -> usize {
    let index = index % (PLANS.len() - 1);
    if index < SLOW { index } else { index + 1 }
}

/// Returns the container that was begun, if it is known how it must end.
async fn carry_out(world: &mut World, (story, act): (&Story, &Act), others: &Others) -> Result<Option<Own>, Broken> {
    let coverage = world.programs.coverage.clone();
    match act {
        Act::Run(run) => Own::begin(world, run, story).await,
        Act::Request(attack) => {
            coverage.count("request", &format!("{:?}", attack.kind));
            let raw = attack.raw();
            let answer = world.send(&raw).await;
            verdict::is_right(&answer, &raw, || format!("{attack:?}")).map(|()| None)
        }
        Act::Account(deed) => {
            coverage.count("account", &format!("{:?}", deed.kind));
            let targets: Vec<String> = others.0.iter().map(|honest| honest.function(world)).collect();
            deed.carry_out(world, &targets);
            Ok(None)
        }
    }
}

/// The honest containers of a world.
struct Others(Vec<Honest>);

impl Others {
    /// Lets time pass up to a moment, and looks who ends.
    async fn until(&mut self, world: &mut World, at_ms: i64) -> Result<(), Broken> {
        loop {
            world.settle().await;
            self.look(world).await?;
            if world.at_ms() >= at_ms {
                return Ok(());
            }
            world.pass_time(at_ms);
        }
    }

    async fn look(&mut self, world: &World) -> Result<(), Broken> {
        for honest in &mut self.0 {
            honest.look(world).await?;
        }
        Ok(())
    }

    /// Waits until all have ended; each must within its limit.
    async fn wait(&mut self, world: &mut World, limit_ms: impl Fn(&Honest) -> i64) -> Result<(), Broken> {
        loop {
            world.settle().await;
            self.look(world).await?;
            let late = self.0.iter().find(|honest| honest.took_ms(world) > limit_ms(honest));
            if let Some(late) = late {
                let (took, limit) = (late.took_ms(world), limit_ms(late));
                return Err(format!("{} ({}) takes {took} ms, limit {limit}", late.name, PLANS[late.plan].name()));
            }
            if self.0.iter().all(Honest::is_over) {
                return Ok(());
            }
            world.pass_time(world.at_ms() + ALONE_MS);
        }
    }

    /// How late each was.
    fn note(&self, world: &World, setup: Setup<'_>, alone: &Alone) {
        let group = match (setup.floods, setup.kills) {
            (false, _) => "",
            (true, false) => "flood, ",
            (true, true) => "flood and kill, ",
        };
        for honest in &self.0 {
            let kind = format!("{group}{}", PLANS[honest.plan].name());
            world.programs.coverage.is_late(&kind, honest.took_ms(world) - alone[honest.plan].1);
        }
    }

    /// All have ended as they do alone.
    async fn judge(&self, world: &mut World, alone: &Alone) -> Result<(), Broken> {
        for honest in &self.0 {
            let (outcome, (expected, _)) = (honest.outcome(world).await?, &alone[honest.plan]);
            if outcome != *expected {
                return Err(format!("{} ends as {outcome:?}, alone as {expected:?}", honest.name));
            }
        }
        Ok(())
    }
}
