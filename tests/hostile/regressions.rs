//! Stories that have found something, each in a world of its own: what they show stays right.

use sockerless_lambda::state::model::InvocationKind;

use super::account::{self, Deed};
use super::client::{Raw, Via};
use super::coverage::Coverage;
use super::daemon::unused_database;
use super::output::{Print, Text};
use super::play::{self, FLOOD_AT_MS, Setup, perform};
use super::programs::{Ends, Run};
use super::requests::{self, Attack};
use super::story::{Act, Story};
use super::verdict;

/// Seeds of stories that have made a world fail, with the number of that world, and what was wrong.
const SEEDS: &[(usize, u64, &str)] = &[
    (1, 0x66f9_e866_2653_d69e, "the error of a function was kept whole"),
    (10, 0x9019_f98c_f320_3547, "a REPORT with numbers that are not finite was stored"),
    (11, 0x1a6f_9b1e_f5ba_20da, "an image without the bootstrap kept the log from being read"),
    (0, 0x9afc_d44d_14cf_8bfe, "a claim was lost to a log stream of a function"),
    (2, 0x5ac1_a943_01eb_806a, "claims were not found among a thousand streams"),
];

fn prints(native: bool, event: InvocationKind, lines: &[&'static str]) -> Act {
    Act::Run(run(native, event, lines))
}

fn run(native: bool, event: InvocationKind, lines: &[&'static str]) -> Run {
    let print = |line: &&'static str| Print { after_ms: 10, stderr: false, text: Text::Given(line) };
    Run {
        name: "hostile".to_owned(),
        native,
        event: event == InvocationKind::Event,
        tty: false,
        restarts: 0,
        auto_remove: false,
        decorated: None,
        prints: lines.iter().map(print).collect(),
        lasts_ms: 700,
        ends: if native { Ends::Answers(1) } else { Ends::Exit(0) },
    }
}

fn plays_well(name: &str, acts: Vec<(i64, Act)>) {
    let (files, stories) = (unused_database(), [Story::given(name, acts)]);
    let alone = play::undisturbed(files.path()).unwrap();
    let floods = name.contains("flood");
    for number in [0, 1] {
        let setup = Setup { number, stories: &stories, floods, kills: false, sabotage: None, files: files.path() };
        assert_eq!(perform(setup, &alone, &Coverage::default()), Ok(()), "{name}");
    }
}

#[test]
fn stories_that_have_found_something_disturb_nobody() {
    let files = unused_database();
    let alone = play::undisturbed(files.path()).unwrap();
    for (number, seed, found) in SEEDS {
        let stories = [Story::of(*seed)];
        let setup = Setup {
            number: *number,
            stories: &stories,
            floods: false,
            kills: false,
            sabotage: None,
            files: files.path(),
        };
        assert_eq!(perform(setup, &alone, &Coverage::default()), Ok(()), "{found}");
    }
}

const REPORTS: &[&str] = &[
    "REPORT RequestId: {ID}\tDuration: NaN ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB",
    "REPORT RequestId: {ID}\tDuration: 1e999 ms\tBilled Duration: inf ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB",
];

#[test]
fn a_report_line_of_a_native_program_with_numbers_that_are_not_finite_disturbs_nobody() {
    for event in [InvocationKind::RequestResponse, InvocationKind::Event] {
        plays_well("report", vec![(2_000, prints(true, event, REPORTS))]);
    }
}

#[test]
fn a_report_line_of_a_program_behind_the_bootstrap_disturbs_nobody() {
    for event in [InvocationKind::RequestResponse, InvocationKind::Event] {
        plays_well("report", vec![(2_000, prints(false, event, REPORTS))]);
    }
}

#[test]
fn a_body_of_any_depth_is_refused_or_readable() {
    // Seeds whose bodies are around the depth that a reader of JSON takes.
    let attack = |seed| Act::Request(Attack { kind: requests::Kind::Deep, seed, of: "hostile".to_owned() });
    plays_well("deep", (0..200_u64).map(|seed| (i64::try_from(seed).unwrap() * 50, attack(seed))).collect());
}

#[test]
fn a_log_stream_that_is_called_as_a_claim_takes_nothing_away() {
    let claim = |seed| Act::Account(Deed { kind: account::Kind::Claim, seed });
    plays_well("claims", (0..30).map(|seed| (3_000, claim(seed))).collect());
}

#[test]
fn a_flood_of_lines_hides_nobodys_end() {
    plays_well("flood", Story::of_a_flood(1, FLOOD_AT_MS).acts);
}

/// Seeds of floods: between them they have all lines and all streams.
const FLOODS: u64 = 12;

#[test]
fn a_flood_of_any_lines_in_any_stream_hides_nobodys_end_also_from_a_daemon_that_is_killed() {
    let files = unused_database();
    let alone = play::undisturbed(files.path()).unwrap();
    for seed in 0..FLOODS {
        let stories = [Story::of_a_flood(seed, FLOOD_AT_MS)];
        let number = usize::try_from(seed).unwrap();
        let setup = Setup {
            number,
            stories: &stories,
            floods: true,
            kills: seed % 2 == 1,
            sabotage: None,
            files: files.path(),
        };
        assert_eq!(perform(setup, &alone, &Coverage::default()), Ok(()), "flood {seed}");
    }
}

/// The longest time until a container has removed itself, in virtual milliseconds.
const REMOVED_MS: i64 = 120_000;
/// Containers that remove themselves, a second after each other.
const REMOVE_THEMSELVES: i64 = 8;

#[test]
fn containers_that_remove_themselves_are_counted_and_listed_at_one_moment() {
    let files = unused_database();
    let played = play::in_a_world(files.path(), async |world| {
        for no in 0..REMOVE_THEMSELVES {
            let run = Run {
                name: format!("gone-{no}"),
                auto_remove: true,
                lasts_ms: 700 + u32::try_from(no).unwrap() * 1_000,
                ..run(false, InvocationKind::Event, &["bye"])
            };
            world.programs.register(&run);
            verdict::begin_hostile(world, &run).await?;
        }
        loop {
            let listed = world.expect("GET", "/containers/json?all=1", "", 200).await?;
            if listed.as_array().is_some_and(Vec::is_empty) {
                return Ok(());
            }
            if world.at_ms() > REMOVED_MS {
                return Err(format!("they are still there: {listed}"));
            }
            // Whatever this time sets going is under way when the check begins.
            world.settle().await;
            world.pass_time(REMOVED_MS + 1);
            verdict::readable(world).await?;
        }
    });
    assert_eq!(played, Ok(()));
}

#[test]
fn each_listener_answers_a_client_who_waits_for_nothing() {
    let files = unused_database();
    let played = play::in_a_world(files.path(), async |world| {
        for via in [Via::Unix, Via::Tcp, Via::Tls, Via::Metrics] {
            let raw = Raw { via, ..Raw::plain("GET", "/healthz", "") };
            let answer = world.send(&raw).await;
            if answer.status() != Some(200) {
                return Err(format!("{via:?} is answered {:?}", answer.status()));
            }
        }
        Ok(())
    });
    assert_eq!(played, Ok(()));
}
