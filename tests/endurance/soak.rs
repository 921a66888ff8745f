//! A long run: two daemons in one account under mixed load, while AWS has its bad moments.
//!
//! One daemon is killed again and again. The other lives through the whole series and is measured: a process that is
//! killed would never show that it grows. Both are held to the account of their runs at the end.

use std::time::{Duration, Instant};

use http::Method;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::ledger::{Sum, add_up};
use crate::machine::{Machine, set_faults};
use crate::probe::{Course, QUANTITIES, Sample};
use crate::rng::Rng;
use crate::settle::{Party, Patience, left, settle};
use crate::support::{Aws, Home};
use crate::weather;
use crate::workload::{Pace, Workload};

const STEADY_PACE: Pace = Pace { users: 6, think_ms: (200, 2_000) };
const MORTAL_PACE: Pace = Pace { users: 4, think_ms: (200, 2_000) };
/// So many samples a series, at equal distances.
const SAMPLES: u32 = 360;
/// Rows of the table.
const TABLE_ROWS: usize = 18;
/// From a start of the mortal daemon to its kill, at most.
const LONGEST_LIFE: Duration = Duration::from_secs(30);
/// In a shorter series nothing can be said of growth.
const JUDGED_FROM: Duration = Duration::from_secs(120);

/// What a series is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    pub(crate) patience: Patience,
}

/// Runs the series; whether all is as promised.
pub(crate) async fn run(series: Series) -> bool {
    println!("soak: {} s, seed {}", series.length.as_secs(), series.seed);
    let home = Home::new();
    let aws = Aws::start(&home);
    let (steady, mut mortal) =
        (party(&aws, series.seed, STEADY_PACE).await, party(&aws, !series.seed, MORTAL_PACE).await);
    let stop = CancellationToken::new();
    let passers_by = tokio::spawn(pass_by(steady.machine.client.clone(), Rng::of(series.seed, 1), stop.clone()));
    let (samples, kills) = tokio::join!(
        measure(&steady, &aws, series),
        kill_now_and_then(&mut mortal.machine, Rng::of(series.seed, 2), series.length),
    );
    stop.cancel();
    passers_by.await.unwrap();
    table(&samples);
    set_faults(&aws, &serde_json::json!({}));
    println!("settling");
    // A claim that could not be deleted in bad weather is left to the next start.
    mortal.machine.kill();
    mortal.machine.spawn();
    mortal.machine.until_served().await;
    let mut parties = [steady, mortal];
    parties.iter().for_each(|party| party.workload.stop());
    let settled = settle(&mut parties, &aws, series.patience).await;
    let records: Vec<_> = parties.iter().flat_map(|party| party.workload.records()).collect();
    let mut sum = add_up(&records, &aws.state());
    sum.violations.extend(sum.unknown_that_ran());
    sum.violations.extend(settled.err());
    for party in &parties {
        sum.violations.extend(party.workload.broken());
        sum.violations.extend(party.machine.alarms());
        sum.violations.extend(party.machine.gauges_left());
    }
    let left = left(&parties, &aws).await;
    report(series, &samples, &sum, kills, left)
}

async fn party(aws: &Aws, seed: u64, pace: Pace) -> Party {
    let mut machine = Machine::new(aws);
    machine.spawn();
    machine.until_served().await;
    let workload = Workload::start(&machine, seed, pace);
    Party { machine, workload }
}

/// Looks at the steady daemon at equal distances, and changes the weather.
async fn measure(steady: &Party, aws: &Aws, series: Series) -> Vec<Sample> {
    let begin = Instant::now();
    let mut rng = Rng::of(series.seed, 3);
    let (mut samples, mut change_at) = (Vec::new(), Duration::ZERO);
    for number in 1..=SAMPLES {
        tokio::time::sleep_until((begin + series.length * number / SAMPLES).into()).await;
        let machine = &steady.machine;
        let ended = steady.workload.ended();
        let clients = machine.client.open_connections();
        samples.push(Sample::take(begin.elapsed(), machine.pid(), &machine.database(), clients, ended));
        if begin.elapsed() >= change_at {
            set_faults(aws, &weather::draw(&mut rng));
            change_at = begin.elapsed() + rng.millis(5_000, 30_000);
        }
    }
    samples
}

/// Kills the daemon and starts it again. Gives the number of kills.
async fn kill_now_and_then(mortal: &mut Machine, mut rng: Rng, length: Duration) -> u64 {
    let begin = Instant::now();
    let longest = LONGEST_LIFE.min(length / 4);
    let mut kills = 0;
    loop {
        let lifetime = rng.millis(100, u64::try_from(longest.as_millis()).unwrap());
        if begin.elapsed() + lifetime >= length {
            tokio::time::sleep(length.saturating_sub(begin.elapsed())).await;
            return kills;
        }
        tokio::time::sleep(lifetime).await;
        mortal.kill();
        kills += 1;
        mortal.spawn();
    }
}

/// Clients that look, wait or listen for a while and go away without a word.
async fn pass_by(client: Client, mut rng: Rng, stop: CancellationToken) {
    const PATHS: &[(&str, &str)] = &[
        ("GET", "/containers/json?all=1"),
        ("GET", "/events"),
        ("GET", "/info"),
        ("GET", "/system/df"),
        ("GET", "/containers/nobody/json"),
        ("GET", "/containers/json?filters=%7B"),
        ("POST", "/containers/create"),
        ("GET", "/images/json"),
    ];
    while !stop.is_cancelled() {
        let (method, path) = rng.pick(PATHS);
        let name = format!("c{}", rng.below(2_000));
        let of_a_container =
            rng.pick(&["/wait?condition=removed", "/logs?stdout=1&follow=1", "/json", "/attach?stream=1"]);
        let (method, path) = match rng.below(2) {
            0 => (method, path.to_owned()),
            _ if of_a_container.starts_with("/logs") || of_a_container == "/json" => {
                ("GET", format!("/containers/{name}{of_a_container}"))
            }
            _ => ("POST", format!("/containers/{name}{of_a_container}")),
        };
        let asked = client.ask(Method::from_bytes(method.as_bytes()).unwrap(), &path, None);
        // Whatever comes of it: it must not stay with the daemon.
        let _ = tokio::time::timeout(rng.millis(1, 2_000), asked).await;
    }
}

fn table(samples: &[Sample]) {
    println!("   minute   memory KiB  descriptors  connections      WAL KiB   containers");
    for sample in samples.iter().skip(1).step_by((samples.len() / TABLE_ROWS).max(1)) {
        let [memory, descriptors, connections, wal] = sample.values;
        let minute = sample.at.as_secs_f64() / 60.0;
        println!("{minute:>9.1} {memory:>12} {descriptors:>12} {connections:>12} {wal:>12} {:>12}", sample.ended);
    }
}

fn report(series: Series, samples: &[Sample], sum: &Sum, kills: u64, left: usize) -> bool {
    println!("{sum}");
    println!("the three thirds of the time (memory and WAL: median; the others: lowest tenth), and the most:");
    let courses: Vec<Course> = (0..QUANTITIES.len()).map(|index| Course::of(samples, index)).collect();
    courses.iter().for_each(|course| println!("{course}"));
    for violation in &sum.violations {
        println!("FAILED {violation}");
    }
    let judged = series.length >= JUDGED_FROM;
    let level = |course: &Course| match (judged, course.levels_off()) {
        (false, _) => format!("{}: too short to tell", course.quantity),
        (true, true) => format!("{}: levels off", course.quantity),
        (true, false) => format!("{}: GROWS", course.quantity),
    };
    let levels: Vec<String> = courses.iter().map(level).collect();
    let passed =
        sum.violations.is_empty() && left == 0 && sum.wrong == 0 && (!judged || courses.iter().all(Course::levels_off));
    println!(
        "soak: {} s, kills: {kills}, wanted runs: {}, invocations: {}, unknown: {}, unknown that never ran: {}, wrong \
         exit codes: {}, objects left: {left}, {}: {}",
        series.length.as_secs(),
        sum.wanted,
        sum.invocations,
        sum.unknown,
        sum.unknown_never_ran,
        sum.wrong,
        levels.join(", "),
        if passed { "passed" } else { "FAILED" }
    );
    passed
}
