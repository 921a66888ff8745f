//! Many worlds, two at a time, and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::coverage::Coverage;
use super::daemon::unused_database;
use super::honest::PLANS;
use super::play::{self, Alone, FLOOD_AT_MS, Setup, perform};
use super::rng::Rng;
use super::shrink::smallest;
use super::story::Story;
use super::world::Broken;
use super::{account, output, programs, requests, verdict};

/// Stories when nobody says how many: what a developer waits for.
const STORIES: usize = 300;
/// So many stories have acts of every kind, whatever the seed.
const ENOUGH_FOR_ALL_KINDS: usize = 300;
/// Stories of one world.
const IN_A_WORLD: usize = 50;
/// Stories of one world of a long series, of which honest containers and looks at the rows would take the most time.
const IN_A_WORLD_OF_MANY: usize = 200;
/// Stories from which a series counts as long.
const MANY_STORIES: usize = 100_000;
/// One world in so many has a flood; it takes as long as several others.
const FLOODS_ONE_IN: usize = 40;
/// Which of them.
const FLOODS_AT: usize = 3;
/// Stories beside a flood.
const BESIDE_A_FLOOD: usize = 9;
/// Worlds that are played at a time, for each processor: each waits now and then for its store's own threads.
const PER_PROCESSOR: usize = 2;
/// After so many worlds that fail, no more are played.
const MOST_FAILURES: usize = 5;
const DAY_S: u64 = 24 * 3_600;

/// What is played.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    stories: usize,
    seed: u64,
    /// Only this world of the series, as a failure has named it.
    world: Option<usize>,
}

impl Options {
    /// What the environment asks for.
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
    pub(crate) fn of_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
        let stories = number("SOCKERLESS_HOSTILE").map_or(STORIES, |stories| usize::try_from(stories).unwrap());
        let world = number("SOCKERLESS_HOSTILE_WORLD").map(|world| usize::try_from(world).unwrap());
        Self { stories, seed: number("SOCKERLESS_HOSTILE_SEED").unwrap_or_else(today), world }
    }
}

/// A number that changes once a day, so that a failure can be played again until the next one.
#[expect(clippy::disallowed_methods, reason = "which stories are played must differ from day to day")]
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY_S)
}

#[expect(clippy::disallowed_methods, reason = "how long the series takes is part of its report")]
fn now() -> Instant {
    Instant::now()
}

/// What came of the series.
#[derive(Debug, Default)]
pub(crate) struct Report {
    stories: usize,
    pub(crate) failed: usize,
    /// Kinds that were never played, if so many stories must have them all.
    pub(crate) unplayed: Vec<String>,
    counts: BTreeMap<String, u64>,
    latest: BTreeMap<String, i64>,
    took: Duration,
}

/// Ends with the line `hostile: N, failed: N`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, count) in &self.counts {
            *groups.entry(kind.split(' ').next().unwrap_or_default()).or_default() += count;
        }
        let (seconds, megabytes) = (self.took.as_secs_f64(), verdict::resident_kib() / 1_024);
        let rate = u32::try_from(self.stories).map_or(0.0, f64::from) / seconds.max(0.001);
        writeln!(f, "acts: {groups:?}")?;
        writeln!(f, "later than alone, at most, in virtual ms: {:?}", self.latest)?;
        writeln!(f, "seconds: {seconds:.1}, stories a second: {rate:.1}, most memory: {megabytes} MiB")?;
        for kind in &self.unplayed {
            writeln!(f, "never played: {kind}")?;
        }
        write!(f, "hostile: {}, failed: {}", self.stories, self.failed)
    }
}

/// A world of the series.
struct Chapter {
    number: usize,
    floods: bool,
    stories: Vec<Story>,
}

impl Chapter {
    fn of(options: &Options, number: usize) -> Self {
        let mut rng = Rng::stream(options.seed, u64::try_from(number).unwrap());
        let in_a_world = if options.stories < MANY_STORIES { IN_A_WORLD } else { IN_A_WORLD_OF_MANY };
        let floods = number % FLOODS_ONE_IN == FLOODS_AT;
        let count = if floods { BESIDE_A_FLOOD } else { in_a_world };
        let mut stories: Vec<Story> = (0..count).map(|_| Story::of(rng.next())).collect();
        if floods {
            stories.push(Story::of_a_flood(rng.next(), FLOOD_AT_MS));
        }
        Self { number, floods, stories }
    }

    /// Every other flood meets a daemon that is killed.
    fn kills(&self) -> bool {
        self.floods && self.number / FLOODS_ONE_IN % 2 == 1
    }
}

/// Plays the series.
pub(crate) fn play(options: &Options) -> Report {
    let (begun, coverage, files) = (now(), Coverage::default(), unused_database());
    let alone = play::undisturbed(files.path()).expect("honest containers run when they are alone");
    let (next, stories) = (AtomicUsize::new(options.world.unwrap_or_default()), AtomicUsize::new(0));
    let (failed, worlds_failed, speaks) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(()));
    let enough = if options.world.is_some() { 1 } else { options.stories };
    let work = || {
        while stories.load(Ordering::SeqCst) < enough && worlds_failed.load(Ordering::SeqCst) < MOST_FAILURES {
            let chapter = Chapter::of(options, next.fetch_add(1, Ordering::SeqCst));
            stories.fetch_add(chapter.stories.len(), Ordering::SeqCst);
            let setup = Setup {
                number: chapter.number,
                stories: &chapter.stories,
                floods: chapter.floods,
                kills: chapter.kills(),
                sabotage: None,
                files: files.path(),
            };
            if let Err(why) = perform(setup, &alone, &coverage) {
                worlds_failed.fetch_add(1, Ordering::SeqCst);
                let least = failure(setup, &alone, why, &speaks);
                failed.fetch_add(least, Ordering::SeqCst);
            }
        }
    };
    let threads = match options.world {
        Some(_) => 1,
        None => thread::available_parallelism().map_or(1, usize::from) * PER_PROCESSOR,
    };
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut failed = failed.into_inner();
    if let Err(why) = verdict::memory_is_bounded() {
        println!("FAILED {why}");
        failed += 1;
    }
    let (stories, counts) = (stories.into_inner(), coverage.counts());
    let unplayed = if stories >= ENOUGH_FOR_ALL_KINDS && failed == 0 { missing(&counts) } else { Vec::new() };
    Report { stories, failed, unplayed, counts, latest: coverage.latest(), took: begun.elapsed() }
}

/// Says which stories made a world fail. Returns how many.
fn failure(setup: Setup<'_>, alone: &Alone, why: Broken, speaks: &Mutex<()>) -> usize {
    let all = setup.stories.len();
    println!("world {} fails: {why}; looking for the stories", setup.number);
    let (least, why) = smallest(setup, alone, why);
    let _alone = speaks.lock();
    println!("FAILED world {}, {} of {all} stories: {why}", setup.number, least.len());
    for story in &least {
        let text = format!("{:?}", story.acts);
        println!("  {}: {}", story.name, text.chars().take(4_000).collect::<String>());
    }
    least.len()
}

/// The kinds that were never played.
fn missing(counts: &BTreeMap<String, u64>) -> Vec<String> {
    let outputs = output::KINDS.iter().flat_map(|kind| [format!("output {kind:?}"), format!("native output {kind:?}")]);
    let requests = requests::KINDS.iter().map(|kind| format!("request {kind:?}"));
    let account = account::KINDS.iter().chain([&account::Kind::Flood]).map(|kind| format!("account {kind:?}"));
    let ends = programs::ENDS.iter().map(|end| format!("end {end}"));
    let honest = PLANS.iter().map(|plan| format!("honest {}", plan.name()));
    let all = outputs.chain(requests).chain(account).chain(ends).chain(honest);
    all.filter(|kind| !counts.contains_key(kind)).collect()
}
