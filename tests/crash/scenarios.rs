//! The scenarios.

use sockerless_lambda::state::model::InvocationKind;
use sockerless_sandbox::faults::{FaultKind, FaultRule, Faults};
use sockerless_sandbox::model::Operation;

use super::programs::Plot;
use super::scenario::{Act, ByHand, Job, Scenario, Site, Until};

/// How long an ordinary program runs.
const SHORT_MS: u32 = 1_200;
/// Long enough to be met while it runs, whatever happens.
const LONG_MS: u32 = 20_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// The time-out of the function whose evidence is late.
const TIMEOUT_MS: i64 = 30_000;
/// Functions of this image never become active.
pub(crate) const BROKEN_IMAGE: &str = "broken:latest";
/// As far as two clocks may be apart, nearly.
const SKEW_MS: i64 = 4 * MINUTE_MS;

fn job(plot: Plot) -> Job {
    Job::new("job", SHORT_MS, plot)
}

fn long() -> Job {
    Job { timeout_s: 100, ..Job::new("job", LONG_MS, Plot::Exit(0)) }
}

fn run(job: Job) -> Vec<Act> {
    let name = job.name;
    vec![Act::Create(job), Act::Start(name), Act::Await(Until::Exited(name))]
}

fn then(mut acts: Vec<Act>, more: impl IntoIterator<Item = Act>) -> Vec<Act> {
    acts.extend(more);
    acts
}

fn again() -> [Act; 2] {
    [Act::Start("job"), Act::Await(Until::Exited("job"))]
}

/// Every scenario, for one kind of invocation.
pub(crate) fn all(invocation: InvocationKind) -> Vec<Scenario> {
    let mut all = plain();
    all.extend(removals());
    all.extend(broken());
    all.extend(late(invocation));
    all.extend(owned());
    all.extend(drift());
    all.push(many());
    all
}

fn plain() -> Vec<Scenario> {
    let succeed = || run(job(Plot::Exit(0)));
    vec![
        Scenario { from_the_first_start: true, ..Scenario::new("create-only", vec![Act::Create(job(Plot::Exit(0)))]) },
        Scenario::new("run-to-success", succeed()),
        Scenario::new("run-to-failure", run(job(Plot::Exit(7)))),
        Scenario::new("run-to-timeout", run(Job { timeout_s: 2, ..job(Plot::Hangs) })),
        Scenario::new("run-to-deadline", run(job(Plot::Slow))),
        Scenario::new("run-out-of-memory", run(job(Plot::OutOfMemory))),
        Scenario::new(
            "run-twice",
            then(
                run(Job { runs: vec![(SHORT_MS, Plot::Exit(4)), (SHORT_MS, Plot::Exit(5))], ..job(Plot::Exit(0)) }),
                again(),
            ),
        ),
        Scenario::new("run-again-on-failure", run(Job { restarts: 2, ..job(Plot::Exit(3)) })),
        Scenario::new("run-again-on-unknown", run(Job { rerun: true, ..job(Plot::Exit(2)) })),
        Scenario::new("native-success", run(Job { native: true, ..job(Plot::Exit(0)) })),
        Scenario::new("native-failure", run(Job { native: true, ..job(Plot::Broken) })),
        Scenario { skew_ms: SKEW_MS, ..Scenario::new("clock-ahead", succeed()) },
        Scenario { skew_ms: -SKEW_MS, ..Scenario::new("clock-behind", succeed()) },
    ]
}

fn removals() -> Vec<Scenario> {
    let gone = || Act::Await(Until::Gone("job"));
    let remove = |force| Act::Remove { name: "job", force };
    let start = |job| vec![Act::Create(job), Act::Start("job")];
    vec![
        Scenario::new(
            "remove-while-pending",
            then(start(job(Plot::Exit(0))), [Act::Await(Until::Made("job")), remove(true), gone()]),
        ),
        Scenario {
            // Longer than any disturbance keeps a user from it.
            pending_ms: 10_000,
            ..Scenario::new(
                "stop-while-pending",
                then(
                    start(job(Plot::Exit(0))),
                    [Act::Await(Until::Made("job")), Act::Stop("job"), Act::Await(Until::Exited("job"))],
                ),
            )
        },
        Scenario::new(
            "remove-while-running",
            then(
                start(long()),
                [
                    Act::Await(Until::Running("job")),
                    remove(false),
                    Act::Await(Until::Exited("job")),
                    remove(false),
                    gone(),
                ],
            ),
        ),
        Scenario::new(
            "remove-by-force",
            // The answer comes when nobody knows the container any more.
            then(start(long()), [Act::Await(Until::Running("job")), remove(true), gone(), Act::Pass(2 * MINUTE_MS)]),
        ),
        Scenario::new(
            "remove-and-retain",
            then(
                run(Job { retained: true, ..job(Plot::Exit(0)) }),
                [Act::Await(Until::Settled), remove(false), gone()],
            ),
        ),
        Scenario::new("auto-remove", run(Job { auto_remove: true, ..job(Plot::Exit(3)) })),
        Scenario::new(
            "prune",
            vec![
                Act::Create(Job::new("first", SHORT_MS, Plot::Exit(0))),
                Act::Create(Job::new("second", SHORT_MS, Plot::Exit(1))),
                Act::Create(Job { timeout_s: 100, ..Job::new("third", LONG_MS, Plot::Exit(2)) }),
                Act::Start("first"),
                Act::Await(Until::Exited("first")),
                Act::Start("third"),
                Act::Await(Until::Running("third")),
                Act::Prune,
                Act::Await(Until::Gone("first")),
                Act::Await(Until::Gone("second")),
                Act::Await(Until::Exited("third")),
            ],
        ),
    ]
}

fn broken() -> Vec<Scenario> {
    let rules = |rules: Vec<FaultRule>| Faults { rules, ..Faults::default() };
    let not_yet =
        FaultRule { for_ms: Some(4_000), ..FaultRule::every(Operation::CreateFunction, FaultKind::RoleNotAssumable) };
    let no_answer = FaultRule::nth(Operation::CreateFunction, 1, FaultKind::LoseAnswer);
    let gone =
        [Act::Await(Until::Made("job")), Act::Remove { name: "job", force: false }, Act::Await(Until::Gone("job"))];
    vec![
        Scenario::new(
            "create-refused",
            vec![
                Act::Create(Job { image: "nothing:latest", ..job(Plot::Exit(0)) }),
                Act::Await(Until::Failed("job")),
                Act::Start("job"),
            ],
        ),
        Scenario::new(
            "function-fails",
            vec![
                Act::Create(Job { image: BROKEN_IMAGE, ..job(Plot::Exit(0)) }),
                Act::Await(Until::Failed("job")),
                Act::Start("job"),
            ],
        ),
        Scenario {
            faults: rules(vec![no_answer]),
            ..Scenario::new("create-unanswered-then-removed", then(vec![Act::Create(job(Plot::Exit(0)))], gone))
        },
        Scenario { faults: rules(vec![not_yet]), ..Scenario::new("role-not-visible", run(job(Plot::Exit(0)))) },
        Scenario {
            faults: Faults { roles_without_logs: vec!["*".to_owned()], ..Faults::default() },
            logs_withheld: true,
            ..Scenario::new(
                "role-without-logs",
                then(
                    run(Job {
                        invocation: Some(InvocationKind::RequestResponse),
                        ..Job::new("probe", SHORT_MS, Plot::Exit(0))
                    }),
                    then(
                        vec![Act::Down(5 * MINUTE_MS), Act::Await(Until::LogsMissing("probe"))],
                        run(job(Plot::Exit(6))),
                    ),
                ),
            )
        },
    ]
}

fn late(invocation: InvocationKind) -> Vec<Scenario> {
    // No answer comes, and no line of the log before the run is called unknown; the lines appear while the second run,
    // which is told in time, is under way.
    let lost = FaultRule::nth(Operation::Invoke, 1, FaultKind::LoseAnswer);
    let deadline_ms = match invocation {
        InvocationKind::RequestResponse => 3 * MINUTE_MS + TIMEOUT_MS,
        InvocationKind::Event => 4 * MINUTE_MS + TIMEOUT_MS,
    };
    let evidence = Faults {
        rules: vec![lost],
        log_delay_ms: deadline_ms + i64::from(LONG_MS) / 2,
        log_delay_for_ms: Some(MINUTE_MS),
        ..Faults::default()
    };
    let twice =
        Job { runs: vec![(SHORT_MS, Plot::Exit(4)), (LONG_MS, Plot::Exit(5))], timeout_s: 30, ..job(Plot::Exit(0)) };
    let start = [Act::Create(twice), Act::Start("job"), Act::Await(Until::Running("job")), Act::Down(3 * MINUTE_MS)];
    vec![
        Scenario {
            faults: evidence,
            ..Scenario::new("late-evidence", then(then(start.to_vec(), [Act::Await(Until::Exited("job"))]), again()))
        },
        Scenario::new(
            "three-hours-down",
            vec![
                Act::Create(long()),
                Act::Start("job"),
                Act::Await(Until::Running("job")),
                Act::Down(3 * HOUR_MS),
                Act::Await(Until::Exited("job")),
            ],
        ),
    ]
}

/// Until one run is under way and the next one is wished: its function is still being made.
fn one_runs_and_one_waits() -> Vec<Act> {
    vec![
        Act::Create(Job { timeout_s: 100, ..Job::new("going", LONG_MS, Plot::Exit(3)) }),
        Act::Start("going"),
        Act::Await(Until::Running("going")),
        Act::Create(Job::new("wished", SHORT_MS, Plot::Exit(4))),
        Act::Start("wished"),
    ]
}

fn owned() -> Vec<Scenario> {
    let first = || then(run(Job::new("first", SHORT_MS, Plot::Exit(1))), [Act::Await(Until::Settled)]);
    let second = || run(Job::new("second", SHORT_MS, Plot::Exit(2)));
    let backed_up = || vec![Act::BackUp, Act::Down(1_000), Act::Await(Until::Claimed(Site::Main))];
    let both_end = || vec![Act::Await(Until::Exited("going")), Act::Await(Until::Exited("wished"))];
    // Longer than a daemon is down after a crash: with any disturbance, the wish is in the copy and no intent.
    let slowly = |name, acts: [Vec<Act>; 7]| Scenario { pending_ms: 5_000, ..Scenario::new(name, acts.concat()) };
    vec![
        slowly(
            "restored-backup",
            [
                first(),
                one_runs_and_one_waits(),
                backed_up(),
                both_end(),
                then(second(), [Act::Await(Until::Settled)]),
                vec![Act::Restore, Act::Await(Until::Lost(Site::Main)), Act::Pass(2 * MINUTE_MS)],
                // However often it is started.
                vec![
                    Act::Down(1_000),
                    Act::Await(Until::Lost(Site::Main)),
                    Act::Pass(MINUTE_MS),
                    Act::Adopt,
                    Act::Await(Until::Claimed(Site::Main)),
                ],
            ],
        ),
        slowly(
            "copy-elsewhere",
            [
                first(),
                one_runs_and_one_waits(),
                backed_up(),
                vec![Act::StartCopy, Act::Await(Until::Lost(Site::Copy))],
                both_end(),
                second(),
                vec![Act::Pass(2 * MINUTE_MS)],
            ],
        ),
        Scenario::new("name-taken", then(vec![Act::ByHand(ByHand::TakeName("job"))], run(job(Plot::Exit(0))))),
        Scenario::new(
            "orphan",
            vec![Act::ByHand(ByHand::ImitateUs), Act::ByHand(ByHand::MakeOrphan), Act::Await(Until::OrphanGone)],
        ),
    ]
}

fn drift() -> Vec<Scenario> {
    let settled = || then(run(job(Plot::Exit(0))), [Act::Await(Until::Settled)]);
    let changed = [Act::ByHand(ByHand::Change("job")), Act::Await(Until::Mended("job"))];
    vec![
        Scenario::new("function-changed", then(then(settled(), changed), again())),
        Scenario::new("function-deleted", then(then(settled(), [Act::ByHand(ByHand::Delete("job"))]), again())),
    ]
}

fn many() -> Scenario {
    let jobs = [
        Job::new("first", SHORT_MS, Plot::Exit(0)),
        Job::new("second", 2 * SHORT_MS, Plot::Exit(3)),
        Job::new("third", SHORT_MS, Plot::OutOfMemory),
    ];
    let names = jobs.each_ref().map(|job| job.name);
    let create = jobs.into_iter().map(Act::Create);
    let start = names.map(Act::Start);
    let wait = names.map(|name| Act::Await(Until::Exited(name)));
    Scenario::new("three-at-once", create.chain(start).chain(wait).collect())
}
