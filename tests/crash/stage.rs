//! Where a plan is played: AWS, the daemons and the time, on one thread.
//!
//! Time is virtual for everyone, and passes only when nothing happens any more without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sockerless_lambda::clock::{Clock, Timestamp};
use sockerless_lambda::state::model::Container;
use sockerless_lambda::state::{Facts, Wishes};
use sockerless_sandbox::clock::Clock as AwsClock;
use sockerless_sandbox::faults::{FaultRule, Faults};
use sockerless_sandbox::model::lambda_api::FunctionName;
use sockerless_sandbox::model::logs_api::{CreateLogGroup, LogStreamName};
use sockerless_sandbox::model::{ApiError, Request, Response};
use sockerless_sandbox::settings::{Image, Settings, Span, StateReason, Timing};
use sockerless_sandbox::witness::{Stage as CallStage, Witness};
use sockerless_sandbox::{Options, Programs as Kind, Sandbox};
use tempfile::TempDir;

use super::all_rows::all_rows;
use super::history::History;
use super::ledger::{Ledger, life_of};
use super::life::{Around, Endings, Life, REGION};
use super::play::Piece;
use super::points::{Disturbance, LIVES, Plan, Point};
use super::programs::Programs;
use super::rest::Rest;
use super::sabotage::Sabotage;
use super::scenario::{Scenario, Site};
use super::scenarios::BROKEN_IMAGE;

/// When every plan begins, by AWS's clock.
const BEGIN_MS: i64 = 1_800_000_000_000;
/// A daemon that has died is started again after this time.
const DOWN_MS: i64 = 2_000;
/// And after this time, if its successors die too: together they are not down longer.
const DOWN_AGAIN_MS: i64 = DOWN_MS / LIVES as i64;

/// What does not go as it must, in words.
pub(crate) type Broken = String;

/// A daemon's place.
struct Place {
    /// The database while no daemon has it.
    files: Option<TempDir>,
    life: Option<Life>,
    begins_at_ms: Option<i64>,
    adopt: bool,
    /// The last one was killed by the plan.
    fell: bool,
}

/// The stage.
pub(crate) struct Stage {
    pub(crate) around: Around,
    pub(crate) sandbox: Sandbox,
    pub(crate) programs: Arc<Programs>,
    pub(crate) now_ms: i64,
    pub(crate) skew_ms: i64,
    down_ms: i64,
    places: BTreeMap<Site, Place>,
    lives: u32,
    /// Whose each life is.
    sites: BTreeMap<u32, Site>,
    /// The main database is a restored one that nobody has adopted.
    restored: bool,
    /// Lives on a database that was not theirs.
    disowned: BTreeSet<u32>,
    /// When each life ended, by AWS's clock.
    pub(crate) stopped_ms: BTreeMap<u32, i64>,
    sabotage: Option<Sabotage>,
    pub(crate) backup: Option<TempDir>,
    pub(crate) instance: String,
    /// The main database's containers as they were at the last rest.
    pub(crate) rows: Vec<Container>,
    pub(crate) history: History,
    /// Of the main database's runs.
    pub(crate) endings: Endings,
    notes: Vec<String>,
}

impl Stage {
    /// AWS, and the main daemon's database, which was never used.
    pub(crate) async fn set(piece: Piece<'_>, rest: Arc<Rest>, files: TempDir) -> Self {
        let Piece { scenario, plan, sabotage, .. } = piece;
        let ledger = Arc::new(Ledger::new(plan));
        let aws_clock = AwsClock::fixed(BEGIN_MS);
        let programs = Arc::<Programs>::default();
        let options = Options {
            clock: aws_clock.clone(),
            witness: Some(witness(&ledger, &rest, &aws_clock)),
            ..Options::new(settings(scenario, plan), played_by(&programs))
        };
        let sandbox = Sandbox::start(options).await.expect("a port");
        let clock = Clock::fixed(Timestamp::from_millis(BEGIN_MS + scenario.skew_ms));
        let around = Around { ledger, rest, clock, aws_clock, endpoint: sandbox.endpoint() };
        let place = Place { files: Some(files), life: None, begins_at_ms: None, adopt: false, fell: false };
        let dies_again = plan.is_some_and(|plan| plan.disturbance == Disturbance::KillEach);
        Self {
            around,
            sandbox,
            programs,
            now_ms: BEGIN_MS,
            skew_ms: scenario.skew_ms,
            down_ms: if dies_again { DOWN_AGAIN_MS } else { DOWN_MS },
            places: BTreeMap::from([(Site::Main, place)]),
            lives: 0,
            sites: BTreeMap::new(),
            restored: false,
            disowned: BTreeSet::new(),
            stopped_ms: BTreeMap::new(),
            sabotage,
            backup: None,
            instance: String::new(),
            rows: Vec::new(),
            history: History::default(),
            endings: Endings::default(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn note(&mut self, text: impl AsRef<str>) {
        let at = (self.now_ms - BEGIN_MS) / 10;
        self.notes.push(format!("{:6}.{:02} {}", at / 100, at % 100, text.as_ref()));
    }

    /// All that happened, for whoever has to find out why.
    pub(crate) fn tell(&self) -> String {
        let calls = self.around.ledger.journal_from(0);
        let calls = calls.iter().map(|call| {
            let at = (call.at_ms - BEGIN_MS) / 10;
            let resource = call.resource.as_deref().unwrap_or_default();
            format!("{:6}.{:02}   life {} {} {resource}", at / 100, at % 100, call.life, call.operation.name())
        });
        let mut lines: Vec<String> = self.notes.iter().cloned().chain(calls).collect();
        lines.sort_by_key(|line| {
            line.split(' ').find(|word| !word.is_empty()).map(|t| t.replace('.', "").parse::<i64>().ok())
        });
        let rows: String = self.rows.iter().map(|row| format!("\n{} {:?}", row.name, row.status)).collect();
        format!("{}{rows}\n{}", lines.join("\n"), self.around.rest.describe())
    }

    /// Our time by the daemons' clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_ms + self.skew_ms)
    }

    /// Somebody does something in AWS by hand.
    pub(crate) fn by_hand(&self, request: &Request) -> Result<Response, ApiError> {
        self.sandbox.operate(request)
    }

    pub(crate) fn life(&self, site: Site) -> Option<&Life> {
        self.places.get(&site)?.life.as_ref()
    }

    /// A daemon is to be started; `files`: on this database.
    pub(crate) fn start_later(&mut self, site: Site, after_ms: i64, files: Option<TempDir>, adopt: bool) {
        let begins_at_ms = Some(self.now_ms + after_ms);
        let place = Place { files: None, life: None, begins_at_ms, adopt, fell: false };
        let place = self.places.entry(site).or_insert(place);
        place.begins_at_ms = begins_at_ms;
        place.adopt = adopt;
        if files.is_some() {
            place.files = files;
        }
    }

    /// Ends a daemon wherever it is; its database stays.
    pub(crate) async fn end(&mut self, site: Site) {
        let Some(place) = self.places.get_mut(&site) else { return };
        if let Some(life) = place.life.take() {
            let number = life.number;
            self.stopped_ms.insert(number, self.now_ms);
            let files = life.end(&self.around).await;
            if let Some(sabotage) = self.sabotage {
                sabotage.tamper(files.path()).await;
            }
            place.files = Some(files);
            self.note(format!("life {number} of {site:?} ends"));
        }
    }

    /// The main database is a restored one now, or was adopted.
    pub(crate) fn is_restored(&mut self, restored: bool) {
        self.restored = restored;
    }

    /// Whether a life was on a database that was not its own: then it may change nothing.
    pub(crate) fn is_disowned(&self, life: u32) -> bool {
        self.disowned.contains(&life)
    }

    /// A database that no daemon has.
    pub(crate) fn files(&self, site: Site) -> Option<&TempDir> {
        self.places.get(&site)?.files.as_ref()
    }

    async fn begin_due(&mut self) -> Result<(), Broken> {
        let due = |place: &Place| place.life.is_none() && place.begins_at_ms.is_some_and(|at| at <= self.now_ms);
        let sites: Vec<Site> = self.places.iter().filter(|(_, place)| due(place)).map(|(site, _)| *site).collect();
        for site in sites {
            self.lives += 1;
            let number = self.lives;
            self.sites.insert(number, site);
            if site == Site::Copy || self.restored {
                self.disowned.insert(number);
            }
            let place = self.places.get_mut(&site).expect("it was there");
            place.begins_at_ms = None;
            let (files, adopt) = (place.files.take().ok_or("no database")?, place.adopt);
            let goes_on = std::mem::take(&mut place.fell);
            let endings = if site == Site::Main { self.endings.clone() } else { Endings::default() };
            let life = Life::begin(&self.around, number, files, adopt, &endings).await;
            let life = life.map_err(|error| format!("the daemon does not start: {error}"))?;
            if site == Site::Main {
                // It has changed nothing yet.
                let rows = sound_rows(&life.facts).await?;
                if goes_on {
                    self.history.goes_on(&rows);
                }
                self.instance = life.reader.instance().await.map_err(|error| error.to_string())?.id;
            }
            self.places.get_mut(&site).expect("it was there").life = Some(life);
            self.note(format!("life {number} of {site:?} begins"));
        }
        Ok(())
    }

    async fn bury(&mut self, life: u32) {
        let Some(site) = self.sites.get(&life).copied() else { return };
        self.note("CRASH");
        self.end(site).await;
        let Some(place) = self.places.get_mut(&site) else { return };
        place.fell = true;
        let adopt = place.adopt;
        self.start_later(site, self.down_ms, None, adopt);
    }

    /// Lets everything happen that can happen now.
    pub(crate) async fn settle(&mut self) -> Result<(), Broken> {
        loop {
            self.begin_due().await?;
            let (ledger, rest) = (Arc::clone(&self.around.ledger), Arc::clone(&self.around.rest));
            tokio::select! {
                biased;
                life = ledger.crashed() => self.bury(life).await,
                () = rest.reached() => return self.look().await,
            }
        }
    }

    /// Reads what is in the database, if that may have changed.
    async fn look(&mut self) -> Result<(), Broken> {
        let now = self.now();
        let Some(life) = self.places.get(&Site::Main).and_then(|place| place.life.as_ref()) else { return Ok(()) };
        let commits = self.around.ledger.commits_so_far();
        if !self.history.is_news(life.number, commits) {
            return Ok(());
        }
        self.rows = sound_rows(&life.facts).await?;
        self.history.look(&self.rows, &life.reader, now).await.map_err(|error| error.to_string())
    }

    /// Moves to the next time at which something happens, at most to `until_ms`.
    pub(crate) fn pass_time(&mut self, until_ms: i64) {
        let nanos_up = |at: Timestamp| at.as_nanos().saturating_add(999_999).div_euclid(1_000_000);
        let daemons = self.around.clock.next_alarm().map(|at| nanos_up(at) - self.skew_ms);
        let begins = self.places.values().filter_map(|place| place.begins_at_ms);
        let next = daemons.into_iter().chain(self.around.aws_clock.next_alarm_ms()).chain(begins).min();
        self.now_ms = next.map_or(until_ms, |next| next.min(until_ms)).max(self.now_ms);
        self.around.aws_clock.set(self.now_ms);
        self.around.clock.set(self.now());
    }

    /// Lets a user wish something, as soon as there is a daemon, and again if it dies over it.
    pub(crate) async fn wish<T, E>(
        &mut self,
        mut wish: impl AsyncFnMut(&Wishes, Timestamp) -> Result<T, E>,
    ) -> Result<T, Broken> {
        loop {
            self.settle().await?;
            let now = self.now();
            let Some(life) = self.life(Site::Main) else {
                self.pass_time(i64::MAX);
                continue;
            };
            let (ledger, wishes) = (Arc::clone(&self.around.ledger), life.wishes.clone());
            tokio::select! {
                biased;
                life = ledger.crashed() => self.bury(life).await,
                wished = wish(&wishes, now) => match wished {
                    Ok(done) => return Ok(done),
                    Err(_) => return Err("a wish is not recorded by a daemon that is well".to_owned()),
                },
            }
        }
    }

    /// The name that a container's function has at first.
    pub(crate) fn function_name(&self, id: &str) -> String {
        format!("{}-{}-{}", super::life::PREFIX, self.instance, &id[..24])
    }

    /// What AWS says of a function.
    pub(crate) fn function(&self, name: &str) -> Option<Response> {
        self.by_hand(&Request::GetFunction(FunctionName::parse(name, None))).ok()
    }

    /// Ends everything.
    pub(crate) async fn strike(mut self) {
        for site in [Site::Main, Site::Copy] {
            self.end(site).await;
        }
        self.sandbox.stop().await;
    }
}

fn played_by(programs: &Arc<Programs>) -> Kind {
    let programs = Arc::clone(programs);
    Kind::Scripted { init_ms: 150, choose: Arc::new(move |handover| programs.play(handover)) }
}

fn settings(scenario: &Scenario, plan: Option<&Plan>) -> Settings {
    let settings = Settings::instant();
    let timing = Timing {
        pending: Span::exactly(scenario.pending_ms),
        update: Span::exactly(400),
        log_delivery: Span::exactly(700),
        event_delay: Span::exactly(50),
        environment_idle: 60_000,
        ..settings.timing
    };
    let fails = StateReason { code: "ImageAccessDenied".to_owned(), message: "the image cannot be read".to_owned() };
    let mut images = settings.images.clone();
    images.insert(BROKEN_IMAGE.to_owned(), Image { fails: Some(fails), ..Image::default() });
    let region = REGION.to_owned();
    Settings { region, timing, images, faults: faults(&scenario.faults, plan), ..settings }
}

/// The scenario's faults and the plan's.
pub(crate) fn faults(scenario: &Faults, plan: Option<&Plan>) -> Faults {
    let mut faults = scenario.clone();
    match plan.map(|plan| (plan.point, &plan.disturbance)) {
        Some((Point::Call(operation, nth), Disturbance::Fault(kind))) => {
            // The first rule that holds decides, and the plan's must come.
            faults.rules.insert(0, FaultRule::nth(operation, u64::from(nth), kind.clone()));
        }
        Some((_, Disturbance::Weather(weather))) => {
            faults.rules.extend(weather.rules.iter().cloned());
            faults.reorder_logs |= weather.reorder_logs;
            faults.duplicate_events = faults.duplicate_events.max(weather.duplicate_events);
            if weather.log_delay_ms > faults.log_delay_ms {
                faults.log_delay_ms = weather.log_delay_ms;
                faults.log_delay_for_ms = None;
            }
        }
        _ => {}
    }
    faults
}

fn witness(ledger: &Arc<Ledger>, rest: &Arc<Rest>, clock: &AwsClock) -> Witness {
    let (ledger, rest, clock) = (Arc::clone(ledger), Arc::clone(rest), clock.clone());
    Witness::new(move |call, stage| {
        let Some(life) = life_of(&call.caller) else { return };
        match stage {
            CallStage::Processed => ledger.processed(life, call, clock.now_ms()),
            CallStage::Waits => rest.waits(life, call.operation, call.resource.clone(), call.number),
            CallStage::Over => rest.is_over(call.number),
        }
    })
}

/// The log group, made by hand.
pub(crate) fn log_group(name: &str) -> Request {
    Request::CreateLogGroup(CreateLogGroup { log_group_name: name.to_owned(), tags: BTreeMap::new() })
}

/// A log stream, made by hand.
pub(crate) fn log_stream(group: &str, name: &str) -> Request {
    Request::CreateLogStream(LogStreamName { log_group_name: group.to_owned(), log_stream_name: name.to_owned() })
}

/// Every row. One that cannot be read is a fault.
async fn sound_rows(facts: &Facts) -> Result<Vec<Container>, Broken> {
    let rows = all_rows(facts).await.map_err(|error| error.to_string())?;
    let rows: Result<Vec<_>, _> = rows.into_iter().collect();
    rows.map_err(|unreadable| unreadable.to_string())
}
