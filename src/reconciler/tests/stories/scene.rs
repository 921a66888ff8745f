//! From a seed to the scene of a story: who is there, what the user does, and what goes wrong when.

use std::collections::{BTreeMap, VecDeque};

use sockerless_sandbox::faults::{FaultKind, FaultRule, Faults};
use sockerless_sandbox::model::logs_api::CreateLogGroup;
use sockerless_sandbox::model::{Model, Operation, Request};
use sockerless_sandbox::settings::{Image, LogStyle, Settings, StateReason};

use super::calendar::Happening;
use super::daemon::{Daemon, Parts, Point};
use super::ledger::{Ledger, short};
use super::programs::{Plot, Programs, Repertoire};
use super::rng::Rng;
use super::world::{self, Aws};
use super::{Act, Story, identity};
use crate::clock::Timestamp;
use crate::reconciler::names::{self, Identity};
use crate::reconciler::tests::{config, settings};
use crate::state::model::{
    Container, ContainerConfig, ContainerId, DeletionPolicy, InvocationKind, Protocol, RestartPolicy, Spec, Status,
    UnknownOutcome,
};

/// When stories begin.
const START_MS: i64 = 1_790_000_000_000;
/// An image that no function can be made of.
const BROKEN_IMAGE: &str = "broken:latest";

/// Sets the scene.
pub(super) fn set(seed: u64, sabotage: bool) -> Story {
    let mut rng = Rng::stream(seed, 1);
    let mut policies = Rng::stream(seed, 3);
    let count = 1 + u8::try_from(rng.below(3)).unwrap();
    let mut programs = Programs::default();
    let mut acts = VecDeque::new();
    let mut configs = Vec::new();
    for number in 1..=count {
        let id = ContainerId::from_bytes([number; 32]);
        let mut config = container(&mut rng);
        choose_policies(&mut config, &mut policies);
        programs.of.insert(id.to_string()[..24].to_owned(), repertoire(&config, &mut rng));
        acts.push_back(Act::Create(id, Box::new(config.clone())));
        configs.push((id, config));
    }
    let model_settings = model(&mut rng);
    let style = model_settings.log_style;
    let mut aws =
        Aws::new(Model::new(model_settings), u32::try_from(rng.between(50, 2_000)).unwrap(), programs, START_MS);
    let mut ledger = Ledger::default();
    let foreign = foreign(&mut aws, &mut ledger, &configs, &mut rng);
    let faults = faults(&mut rng);
    ledger.log_style = style;
    ledger.logs_unreliable = !faults.roles_without_logs.is_empty() || faults.log_delay_ms > 90_000;
    ledger.retained = (configs.iter())
        .filter(|(_, config)| config.function.deletion_policy == DeletionPolicy::Retain)
        .map(|(id, _)| id.to_string()[..24].to_owned())
        .collect();
    tell_the_cast(&mut ledger, &configs, &faults);
    aws.world.model.set_faults(START_MS, faults);
    let offset_ms = if rng.one_in(2) { 0 } else { rng.between(-240_000, 240_000) };
    let max_running = 1 + u32::try_from(rng.below(3)).unwrap();
    let tick_ms = *rng.pick(&[1_000, 3_000]);
    let crashes = crashes(&mut rng);
    let parts = Parts {
        aws,
        ledger,
        acts,
        rng: Rng::stream(seed, 2),
        identity: identity(),
        offset_ms,
        max_running,
        tick_ms,
        crashes,
        sabotage,
    };
    let mut daemon = Daemon::new(parts);
    daemon.later(0, Happening::Boot);
    write_acts(&mut daemon, count, &mut rng);
    Story { daemon, quiet_mutations: 0, foreign, over: false }
}

fn tell_the_cast(ledger: &mut Ledger, configs: &[(ContainerId, ContainerConfig)], faults: &Faults) {
    for (id, config) in configs {
        let function = &config.function;
        let policies = (config.restart, function.unknown_outcome, function.deletion_policy, config.auto_remove);
        let kind = (function.protocol, function.invocation, policies);
        ledger.note(0, format!("{} is {kind:?} of {}", short(*id), config.image_uri));
    }
    ledger.note(0, format!("{faults:?}"));
}

fn write_acts(daemon: &mut Daemon, count: u8, rng: &mut Rng) {
    let id = |rng: &mut Rng| ContainerId::from_bytes([1 + u8::try_from(rng.below(usize::from(count))).unwrap(); 32]);
    for _ in 0..rng.between(2, 9) {
        let who = id(rng);
        daemon.acts.push_back(match rng.below(10) {
            0 => Act::Remove(who),
            1 | 2 => Act::Cancel(who),
            3 => Act::Meddle(who),
            _ => Act::Start(who),
        });
    }
    let longest = *rng.pick(&[2_000, 30_000, 30_000, 200_000]);
    let mut at = 0;
    for index in 0..daemon.acts.len() {
        at += if index < usize::from(count) { 100 } else { rng.between(0, longest) };
        daemon.later(at, Happening::Act);
    }
    let end = at + rng.between(1_000, 300_000);
    if rng.one_in(2) {
        let crash = rng.between(0, end);
        daemon.later(crash, Happening::Crash);
    }
    daemon.later(end, Happening::FaultsEnd);
}

fn container(rng: &mut Rng) -> ContainerConfig {
    let protocol = if rng.one_in(3) { Protocol::Native } else { Protocol::Bootstrap };
    let invocation = if rng.one_in(2) { InvocationKind::Event } else { InvocationKind::RequestResponse };
    let restart = if rng.one_in(3) {
        RestartPolicy::OnFailure { max: 1 + u32::try_from(rng.below(3)).unwrap() }
    } else {
        RestartPolicy::No
    };
    let mut config = config();
    config.auto_remove = restart == RestartPolicy::No && rng.one_in(4);
    config.restart = restart;
    if rng.one_in(15) {
        config.image_uri = BROKEN_IMAGE.to_owned();
    }
    config.function.protocol = protocol;
    config.function.invocation = invocation;
    config.function.timeout_s = u32::try_from(rng.between(3, 60)).unwrap();
    config.function.event_age_s = u32::try_from(rng.between(60, 300)).unwrap();
    config
}

fn choose_policies(config: &mut ContainerConfig, rng: &mut Rng) {
    let retains = rng.one_in(5);
    config.function.deletion_policy = if retains { DeletionPolicy::Retain } else { DeletionPolicy::Delete };
    config.function.unknown_outcome = if rng.one_in(4) { UnknownOutcome::Rerun } else { UnknownOutcome::Fail };
}

fn repertoire(config: &ContainerConfig, rng: &mut Rng) -> Repertoire {
    let function = &config.function;
    let plots = (0..rng.between(1, 3)).map(|_| {
        let code = u8::try_from(rng.between(1, 120)).unwrap();
        let plot = match rng.below(14) {
            0..=3 => Plot::Code(0),
            4 | 5 => Plot::Code(code),
            6 => Plot::Signal(9),
            7 => Plot::KilledFull,
            8 => Plot::OutOfMemory,
            9 => Plot::Slow,
            10 => Plot::Hangs,
            11 => Plot::Crash(code),
            12 => Plot::Error,
            _ => Plot::NotStarted,
        };
        // What takes longer than it may is a plot of its own.
        let longest = (i64::from(function.timeout_s) * 1_000 - 1_500).min(30_000);
        (plot, u32::try_from(rng.between(10, longest)).unwrap())
    });
    Repertoire { timeout_s: function.timeout_s, memory_mb: function.memory_mb, plots: plots.collect(), played: 0 }
}

fn model(rng: &mut Rng) -> Settings {
    let mut settings = Settings::realistic();
    settings.seed = rng.next();
    let fails = StateReason { code: "ImageAccessDenied".to_owned(), message: "the image cannot be read".to_owned() };
    settings.images.insert(BROKEN_IMAGE.to_owned(), Image { fails: Some(fails), ..Image::default() });
    settings.log_style = if rng.one_in(2) { LogStyle::Status } else { LogStyle::Lines };
    settings
}

/// Makes the log group and the functions of others: one of another instance, and perhaps one that has our name.
fn foreign(
    aws: &mut Aws,
    ledger: &mut Ledger,
    configs: &[(ContainerId, ContainerConfig)],
    rng: &mut Rng,
) -> Vec<sockerless_sandbox::model::FunctionState> {
    let group = CreateLogGroup { log_group_name: settings().log_group, tags: BTreeMap::new() };
    aws.call(&Request::CreateLogGroup(group), rng);
    let (id, config) = rng.pick(configs).clone();
    let other = Identity { instance: "9999999999".into(), ..identity() };
    let row = |config| Container {
        seq: 1,
        id,
        name: "other".into(),
        created_at: Timestamp::from_millis(START_MS - 86_400_000),
        spec: Spec::new(config),
        status: Status::default(),
        due_at: None,
        revision: 0,
    };
    let mut all = vec![other.new_function(&row(config.clone()))];
    if rng.one_in(4) {
        let mut ours = identity().new_function(&row(config));
        match rng.below(3) {
            0 => drop(ours.tags.remove(names::TAG_INSTANCE)),
            1 => drop(ours.tags.insert(names::TAG_CONTAINER.to_owned(), "ab".repeat(32))),
            _ => ours.tags.clear(),
        }
        all.push(ours);
    }
    for new in &mut all {
        new.shape.image_uri = Some("host:latest".to_owned());
        assert!(aws.call(&world::create(new), rng).1.is_some(), "{} is made", new.name);
        ledger.foreign.insert(new.name.clone());
    }
    aws.world.model.snapshot().functions
}

fn crashes(rng: &mut Rng) -> Vec<(Point, u32)> {
    let count = *rng.pick(&[0, 1, 1, 2, 3]);
    let points = [Point::Call, Point::Answer, Point::Record];
    (0..count).map(|_| (*rng.pick(&points), 1 + u32::try_from(rng.below(8)).unwrap())).collect()
}

fn faults(rng: &mut Rng) -> Faults {
    let mut faults = Faults { reorder_logs: rng.one_in(2), ..Faults::default() };
    for _ in 0..*rng.pick(&[0, 1, 2, 3, 5]) {
        faults.rules.push(rule(rng));
    }
    if rng.one_in(3) {
        faults.log_delay_ms = rng.between(0, 90_000);
    } else if rng.one_in(10) {
        faults.log_delay_ms = rng.between(100_000, 600_000);
    }
    if rng.one_in(4) {
        faults.duplicate_events = 0.3;
    }
    if rng.one_in(8) {
        faults.roles_without_logs.push("*".to_owned());
    }
    faults
}

fn rule(rng: &mut Rng) -> FaultRule {
    let operations = [
        Operation::Invoke,
        Operation::Invoke,
        Operation::Invoke,
        Operation::CreateFunction,
        Operation::GetFunction,
        Operation::DeleteFunction,
        Operation::ListFunctions,
        Operation::PutFunctionEventInvokeConfig,
        Operation::UpdateFunctionConfiguration,
        Operation::FilterLogEvents,
    ];
    let mut operation = (!rng.one_in(6)).then(|| *rng.pick(&operations));
    let status = *rng.pick(&[500, 502]);
    let kind = match rng.below(13) {
        0 => FaultKind::Throttle { retry_after_s: rng.one_in(2).then_some(2) },
        1 => FaultKind::ServiceError { status },
        2 => FaultKind::ServiceErrorAfter { status },
        3 => FaultKind::AccessDenied,
        4 => {
            operation = Some(Operation::CreateFunction);
            FaultKind::RoleNotAssumable
        }
        5 => FaultKind::ResetBefore,
        6 => FaultKind::ResetAfter,
        7 | 8 => FaultKind::LoseAnswer,
        9 => FaultKind::Delay { ms: rng.next() % 40_000 },
        10 => FaultKind::MalformedBody,
        11 => {
            operation =
                Some(*rng.pick(&[Operation::GetFunction, Operation::ListFunctions, Operation::FilterLogEvents]));
            FaultKind::Stale { ms: rng.between(100, 20_000) }
        }
        _ => {
            operation = Some(Operation::FilterLogEvents);
            FaultKind::EmptyPage
        }
    };
    let mut rule = FaultRule { operation, ..FaultRule::every(Operation::Invoke, kind) };
    match rng.below(3) {
        0 => rule.nth = Some(1 + rng.next() % 3),
        1 => rule.probability = Some(0.1 + rng.part() * 0.6),
        _ => {
            rule.probability = Some(0.9);
            rule.for_ms = Some(rng.between(1_000, 180_000));
        }
    }
    rule
}

/// How many stories the environment asks for.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
pub(super) fn asked() -> Option<String> {
    std::env::var("SOCKERLESS_STORIES").ok()
}
