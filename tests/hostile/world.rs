//! AWS, a daemon and the time, on one thread. Time is virtual, and passes only when nothing happens without it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use sockerless_lambda::clock::{Clock, Timestamp};
use sockerless_sandbox::clock::Clock as AwsClock;
use sockerless_sandbox::model::logs_api::CreateLogGroup;
use sockerless_sandbox::model::{Request, Response};
use sockerless_sandbox::settings::{Quotas, Settings, Span, Timing};
use sockerless_sandbox::witness::{Stage, Witness};
use sockerless_sandbox::{Options, Programs as Kind, Sandbox};
use tempfile::TempDir;

use super::client::{Answer, Raw, exchange};
use super::daemon::{Around, Daemon, LOG_GROUP, REGION, life_of};
use super::programs::Programs;
use super::rest::Rest;

/// When every world begins, in milliseconds.
const BEGIN_MS: i64 = 1_800_000_000_000;
/// How many events one question about the log looks at in a world with a flood: AWS may give pages of any size, and
/// [`super::account::FLOOD_LINES`] of them are more than one pass reads.
pub(crate) const FLOOD_SCAN: usize = 20;
/// Nothing is on its way on a socket if nothing has come after so many turns of this thread: both ends are on it, and each
/// turn asks the kernel what has come.
const QUIET_TURNS: u32 = 32;

/// What went wrong, in words.
pub(crate) type Broken = String;

/// The account of what is under way.
#[derive(Clone, Default)]
pub(crate) struct Idle {
    pub(crate) rest: Arc<Rest>,
    /// How many pieces of answers have come.
    pub(crate) pieces: Arc<AtomicU64>,
}

impl Idle {
    /// Returns when nothing happens any more unless time passes, with requests open: then nothing may be on its way on a
    /// socket either. Cancel-safe.
    async fn quiet(&self) {
        loop {
            self.rest.reached().await;
            let before = self.pieces.load(Ordering::Relaxed);
            for _ in 0..QUIET_TURNS {
                tokio::task::yield_now().await;
            }
            if self.pieces.load(Ordering::Relaxed) == before {
                return self.rest.reached().await;
            }
        }
    }
}

/// A world.
pub(crate) struct World {
    pub(crate) around: Around,
    idle: Idle,
    pub(crate) sandbox: Sandbox,
    pub(crate) programs: Arc<Programs>,
    daemon: Option<Daemon>,
    now_ms: i64,
    lives: u32,
    pub(crate) instance: String,
    /// Somebody has made a stream among the claims that no daemon makes.
    pub(crate) claims_are_forged: Cell<bool>,
}

impl World {
    /// A world with a daemon on an unused database.
    pub(crate) async fn begin(
        idle: Idle,
        files: TempDir,
        programs: Arc<Programs>,
        floods: bool,
    ) -> Result<Self, Broken> {
        let aws_clock = AwsClock::fixed(BEGIN_MS);
        let options = Options {
            clock: aws_clock.clone(),
            witness: Some(witness(&idle.rest)),
            ..Options::new(settings(floods), played_by(&programs))
        };
        let sandbox = Sandbox::start(options).await.map_err(|error| error.to_string())?;
        let clock = Clock::fixed(Timestamp::from_millis(BEGIN_MS));
        let around = Around { rest: Arc::clone(&idle.rest), clock, aws_clock, endpoint: sandbox.endpoint() };
        let (now_ms, lives, instance) = (BEGIN_MS, 0, String::new());
        let claims_are_forged = Cell::default();
        let mut world =
            Self { around, idle, sandbox, programs, daemon: None, now_ms, lives, instance, claims_are_forged };
        // The daemon's first start may make it, too.
        let group = CreateLogGroup { log_group_name: LOG_GROUP.to_owned(), tags: BTreeMap::new() };
        world.operate(&Request::CreateLogGroup(group)).map_err(|error| format!("no log group: {error}"))?;
        world.start(files).await?;
        Ok(world)
    }

    async fn start(&mut self, files: TempDir) -> Result<(), Broken> {
        self.lives += 1;
        let daemon = Daemon::begin(&self.around, self.lives, files).await?;
        self.instance = daemon.reader.instance().await.map_err(|error| error.to_string())?.id;
        self.daemon = Some(daemon);
        self.settle().await;
        Ok(())
    }

    /// An answer of which nothing has come yet.
    pub(crate) fn answer(&self) -> Answer {
        Answer::new(&self.idle.pieces)
    }

    /// The daemon that runs.
    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a daemon runs")
    }

    /// Milliseconds since the world began.
    pub(crate) fn at_ms(&self) -> i64 {
        self.now_ms - BEGIN_MS
    }

    /// AWS's time.
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// The daemon's time.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_ms)
    }

    /// Something is done in AWS by others.
    pub(crate) fn operate(&self, request: &Request) -> Result<Response, String> {
        self.sandbox.operate(request).map_err(|error| error.to_string())
    }

    /// Lets everything happen that can happen now.
    pub(crate) async fn settle(&self) {
        self.idle.rest.reached().await;
    }

    /// Moves to the next time at which something happens, at most to `until_ms` of [`World::at_ms`].
    pub(crate) fn pass_time(&mut self, until_ms: i64) {
        let until_ms = BEGIN_MS.saturating_add(until_ms);
        let millis_up = |at: Timestamp| at.as_nanos().saturating_add(999_999).div_euclid(1_000_000);
        let daemon = self.around.clock.next_alarm().map(millis_up);
        let next = daemon.into_iter().chain(self.around.aws_clock.next_alarm_ms()).min();
        self.now_ms = next.map_or(until_ms, |next| next.min(until_ms)).max(self.now_ms);
        self.around.aws_clock.set(self.now_ms);
        self.around.clock.set(self.now());
    }

    /// Lets time pass.
    pub(crate) async fn let_pass(&mut self, ms: i64) {
        let until_ms = self.at_ms() + ms;
        loop {
            self.settle().await;
            if self.at_ms() >= until_ms {
                return;
            }
            self.pass_time(until_ms);
        }
    }

    /// A request of a well-behaved client, who waits for the answer as long as it takes.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer, Broken> {
        let (raw, answer) = (Raw::plain(method, path, body), Answer::new(&self.idle.pieces));
        let idle = self.idle.clone();
        let daemon = self.daemon.take().ok_or("no daemon runs")?;
        let asked = {
            let exchange = exchange(&daemon.doors, &raw, answer.clone());
            tokio::pin!(exchange);
            loop {
                // Both arms are cancel-safe: the exchange is only borrowed, and what is quiet is asked for again.
                tokio::select! {
                    biased;
                    asked = &mut exchange => break asked,
                    () = idle.quiet() => self.pass_time(i64::MAX / 2),
                }
            }
        };
        self.daemon = Some(daemon);
        asked.map_err(|error| format!("{method} {path}: {error}"))?;
        Ok(answer)
    }

    /// As [`World::ask`], and the answer must have this status; returns its JSON.
    pub(crate) async fn expect(&mut self, method: &str, path: &str, body: &str, status: u16) -> Result<Value, Broken> {
        let answer = self.ask(method, path, body).await?;
        if answer.status() != Some(status) {
            return Err(format!("{method} {path} is answered {:?} {}", answer.status(), answer.text()));
        }
        Ok(serde_json::from_slice(&answer.body()).unwrap_or_default())
    }

    /// A request of anybody, who hangs up as soon as only time would bring more.
    pub(crate) async fn send(&self, raw: &Raw) -> Answer {
        let answer = Answer::new(&self.idle.pieces);
        // Both arms are cancel-safe: a client that hangs up is what is played.
        tokio::select! {
            biased;
            // A connection that is not taken has no answer.
            _ = exchange(&self.daemon().doors, raw, answer.clone()) => {}
            () = self.idle.quiet() => {}
        }
        answer
    }

    /// Ends the daemon as `kill -9` does; `meanwhile` may do something to its files; and starts it again.
    pub(crate) async fn restart(&mut self, meanwhile: impl AsyncFnOnce(&TempDir)) -> Result<(), Broken> {
        let daemon = self.daemon.take().ok_or("no daemon runs")?;
        let files = daemon.kill(&self.around).await;
        meanwhile(&files).await;
        self.pass_time(self.at_ms() + 1_000);
        self.start(files).await
    }

    /// Ends everything.
    pub(crate) async fn end(mut self) {
        if let Some(daemon) = self.daemon.take() {
            drop(daemon.kill(&self.around).await);
        }
        self.sandbox.stop().await;
    }
}

fn played_by(programs: &Arc<Programs>) -> Kind {
    let programs = Arc::clone(programs);
    Kind::Scripted { init_ms: 150, choose: Arc::new(move |handover| programs.play(handover)) }
}

fn settings(floods: bool) -> Settings {
    let settings = Settings::instant();
    let timing = Timing {
        pending: Span::exactly(300),
        update: Span::exactly(200),
        log_delivery: Span::exactly(700),
        event_delay: Span::exactly(50),
        environment_idle: 60_000,
        ..settings.timing
    };
    let scan = if floods { FLOOD_SCAN } else { settings.quotas.filter_scan_events };
    let quotas = Quotas { filter_scan_events: scan, ..settings.quotas };
    Settings { region: REGION.to_owned(), timing, quotas, ..settings }
}

/// Reports the calls that wait in AWS for time to pass.
fn witness(rest: &Arc<Rest>) -> Witness {
    let rest = Arc::clone(rest);
    Witness::new(move |call, stage| {
        let Some(life) = life_of(&call.caller) else { return };
        match stage {
            Stage::Processed => {}
            Stage::Waits => rest.waits(life, call.operation, call.resource.clone(), call.number),
            Stage::Over => rest.is_over(call.number),
        }
    })
}
