//! `kill -9` of the real binary, again and again, under a workload; the sandbox, its programs and their logs live on.
//!
//! Where a kill falls is drawn from the seed: while the daemon starts, in the milliseconds after a wish was
//! acknowledged (when intents are committed and calls are sent), or at any time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::ledger::{Sum, add_up};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::settle::{Party, Patience, left, settle};
use crate::support::{Aws, Home};
use crate::workload::{Pace, Workload};

/// Containers at a time, one right after another.
const PACE: Pace = Pace { users: 16, think_ms: (0, 0) };
/// So long a kill waits for stories to end.
const ENDED_LIMIT: Duration = Duration::from_secs(15);
/// So many kills there are at least for each run that is cut between its intent and its invocation. Of 500, 31 were.
const KILLS_AN_UNKNOWN: u64 = 3;
/// So long an aimed kill waits for a wish to be acknowledged.
const AIM_LIMIT: Duration = Duration::from_secs(2);

/// What a series is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    pub(crate) kills: u64,
    pub(crate) seed: u64,
    pub(crate) patience: Patience,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aim {
    /// While the daemon starts.
    Boot,
    /// Right after a container was started: then its run is issued and invoked.
    Start,
    /// Right after any wish.
    Wish,
    /// At any time.
    Anytime,
    /// Only when some stories have ended: without such lives, a slow machine would never get anywhere.
    Ended,
}

const AIMS: &[(u64, Aim)] = &[(15, Aim::Boot), (30, Aim::Start), (15, Aim::Wish), (20, Aim::Anytime), (20, Aim::Ended)];

/// Runs the series; whether all is as promised.
pub(crate) async fn run(series: Series) -> bool {
    println!("kill9: {} kills, seed {}", series.kills, series.seed);
    let begin = Instant::now();
    let home = Home::new();
    let aws = Aws::start(&home);
    let machine = Machine::new(&aws);
    let workload = Workload::start(&machine, series.seed, PACE);
    let mut parties = [Party { machine, workload }];
    let [party] = &mut parties;
    let aims = kill_all(party, series).await;
    party.workload.stop();
    println!("killed: {aims:?} in {} s; settling", begin.elapsed().as_secs());
    let settled = settle(&mut parties, &aws, series.patience).await;
    let [Party { machine, workload }] = &parties;
    let mut sum = add_up(&workload.records(), &aws.state());
    if u64::try_from(sum.wanted * 2).unwrap() < series.kills {
        sum.violations.push("there were too few runs to show anything".to_owned());
    }
    sum.violations.extend(sum.unknown_that_ran().into_iter().chain(too_many_cut(&sum, series.kills)));
    sum.violations.extend(settled.err());
    sum.violations.extend(workload.broken());
    sum.violations.extend(machine.alarms());
    let left = left(&parties, &aws).await;
    report(series, &sum, left, begin.elapsed())
}

/// What was never invoked is called unknown only if a kill fell between the intent and the call. That is not often, or the
/// intents are too early.
fn too_many_cut(sum: &Sum, kills: u64) -> Option<String> {
    let (never, most) = (sum.unknown_never_ran, usize::try_from(kills / KILLS_AN_UNKNOWN).unwrap());
    (never > most).then(|| format!("{never} unknown runs were never invoked, and not {most} at most"))
}

fn report(series: Series, sum: &Sum, left: usize, took: Duration) -> bool {
    println!("{sum}");
    println!("took {} s", took.as_secs());
    for violation in &sum.violations {
        println!("FAILED {violation}");
    }
    println!(
        "kills: {}, wanted runs: {}, invocations: {}, unknown: {}, unknown that never ran: {}, wrong exit codes: {}, \
         objects left: {left}",
        series.kills, sum.wanted, sum.invocations, sum.unknown, sum.unknown_never_ran, sum.wrong
    );
    sum.violations.is_empty() && left == 0 && sum.wrong == 0
}

/// Starts and kills the daemon as often as wanted, and starts it once more.
async fn kill_all(party: &mut Party, series: Series) -> BTreeMap<Aim, u64> {
    let Party { machine, workload } = party;
    let mut rng = Rng::of(series.seed, u64::MAX);
    let mut aims = BTreeMap::new();
    for number in 1..=series.kills {
        let aim = rng.weighted(AIMS);
        machine.spawn();
        match aim {
            Aim::Boot => tokio::time::sleep(rng.millis(1, 300)).await,
            Aim::Start | Aim::Wish => {
                let (starts, wishes) = (machine.client.starts(), machine.client.wishes());
                let mut acknowledged = if aim == Aim::Start { starts } else { wishes };
                machine.until_served().await;
                for _ in 0..=rng.below(3) {
                    // If none comes in time, it is a kill at any time.
                    let _ = tokio::time::timeout(AIM_LIMIT, acknowledged.changed()).await;
                }
                tokio::time::sleep(Duration::from_micros(rng.below(12_000))).await;
            }
            Aim::Anytime => {
                machine.until_served().await;
                tokio::time::sleep(rng.millis(0, 1_500)).await;
            }
            Aim::Ended => {
                machine.until_served().await;
                let (begin, enough) = (Instant::now(), workload.ended() + usize::try_from(3 + rng.below(6)).unwrap());
                while workload.ended() < enough && begin.elapsed() < ENDED_LIMIT {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        machine.kill();
        assert_eq!(workload.broken(), [""; 0]);
        *aims.entry(aim).or_default() += 1;
        if number % 50 == 0 {
            println!("{number} kills, {} containers begun", workload.begun());
        }
    }
    machine.spawn();
    machine.until_served().await;
    aims
}
