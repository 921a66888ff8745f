//! The pure model with scripted programs under virtual time.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use sockerless_sandbox::faults::{FaultKind, FaultRule, Faults};
use sockerless_sandbox::model::lambda_api::{
    Code, CreateFunction, FunctionName, InvocationType, Invoke, ListFunctions, LoggingConfig,
    PutFunctionEventInvokeConfig, UpdateFunctionConfiguration,
};
use sockerless_sandbox::model::logs_api::FilterLogEvents;
use sockerless_sandbox::model::{
    ApiError, End, Handover, InvocationStatus, Model, Operation, Outcome, Request, Response, Ticket, Transport,
};
use sockerless_sandbox::script::{Program, Runner, World};
use sockerless_sandbox::settings::{Settings, Span};

const BEGIN: i64 = 1_700_000_000_000;
const GROUP: &str = "/g";
/// Longer than everything that a story can leave behind: retries, throttled Events and unused environments.
const AFTERWARDS_MS: i64 = 12 * 3_600_000;

type Choose = fn(&Handover) -> Program;

fn world(settings: Settings, choose: Choose) -> World<Choose> {
    World::new(Model::new(settings), Runner::new(20, choose), BEGIN)
}

fn create(name: &str) -> Request {
    Request::CreateFunction(Box::new(CreateFunction {
        function_name: name.to_owned(),
        role: "arn:aws:iam::000000000000:role/r".to_owned(),
        code: Code { image_uri: Some("host".to_owned()) },
        package_type: Some("Image".to_owned()),
        timeout: Some(5),
        logging_config: Some(LoggingConfig { log_group: Some(GROUP.to_owned()), ..LoggingConfig::default() }),
        ..CreateFunction::default()
    }))
}

fn invoke(name: &str, kind: InvocationType, payload: &'static str) -> Request {
    let payload = Bytes::from_static(payload.as_bytes());
    Request::Invoke(Invoke { function: FunctionName::parse(name, None), kind, payload, ..Invoke::default() })
}

fn events(name: &str, retries: i64, max_age_s: i64) -> Request {
    Request::PutFunctionEventInvokeConfig(PutFunctionEventInvokeConfig {
        function: FunctionName::parse(name, None),
        maximum_retry_attempts: Some(retries),
        maximum_event_age_in_seconds: Some(max_age_s),
    })
}

/// The payload is the duration in milliseconds; an odd one fails.
fn by_payload(handover: &Handover) -> Program {
    let duration_ms = std::str::from_utf8(&handover.payload).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let program = Program { lines: vec![(0, "line".to_owned())], ..Program::silent(duration_ms) };
    if duration_ms % 2 == 1 { Program { end: End::Exited { code: 1 }, ..program } } else { program }
}

fn done(outcome: &Outcome) -> Result<Response, ApiError> {
    match outcome {
        Outcome::Answer(result) => result.clone(),
        other => panic!("no answer but {other:?}"),
    }
}

/// All messages that can be read now.
fn messages(world: &mut World<Choose>) -> Vec<String> {
    let mut next_token = None;
    let mut messages = Vec::new();
    loop {
        let request =
            FilterLogEvents { log_group_name: Some(GROUP.to_owned()), next_token, ..FilterLogEvents::default() };
        let Ok(Response::FilteredEvents(page)) = done(&world.call(&Request::FilterLogEvents(request)).outcome) else {
            return messages;
        };
        messages.extend(page.events.iter().map(|event| event.message.to_string()));
        next_token = page.next_token;
        if next_token.is_none() {
            return messages;
        }
    }
}

fn error_code(outcome: &Outcome) -> String {
    done(outcome).unwrap_err().code
}

#[test]
fn a_day_in_the_life() {
    let mut world = world(Settings::quick(), by_payload);
    world.call(&create("f"));
    assert_eq!(
        error_code(&world.call(&invoke("f", InvocationType::RequestResponse, "100")).outcome),
        "ResourceConflictException"
    );
    world.run_until(BEGIN + 300);
    let reply = world.call(&invoke("f", InvocationType::RequestResponse, "100"));
    let Outcome::Later(ticket) = reply.outcome else { panic!("{reply:?}") };
    world.run_until(BEGIN + 419);
    assert!(world.answers.is_empty());
    world.run_until(BEGIN + 420);
    let (at, answer) = world.answers.remove(&ticket).unwrap();
    assert_eq!(at, BEGIN + 420);
    assert!(matches!(answer, Ok(Response::Invoked(invoked)) if !invoked.failed && invoked.payload == "null"));
    assert!(messages(&mut world).is_empty());
    world.run_until(BEGIN + 1_000);
    let lines = messages(&mut world);
    assert_eq!(lines.len(), 4);
    assert!(lines[3].contains("\tDuration: 100.00 ms\t") && lines[3].contains("Init Duration: 20.00 ms"));
}

#[test]
fn a_timeout_is_the_functions() {
    let mut world = world(Settings::instant(), by_payload);
    world.call(&create("f"));
    let Outcome::Later(ticket) = world.call(&invoke("f", InvocationType::RequestResponse, "900000")).outcome else {
        panic!("refused")
    };
    world.run_until(BEGIN + 60_000);
    let (at, answer) = world.answers.remove(&ticket).unwrap();
    assert_eq!(at, BEGIN + 20 + 5_000);
    assert!(matches!(answer, Ok(Response::Invoked(invoked)) if invoked.failed));
    assert_eq!(world.model.snapshot().environments, 0);
}

#[test]
fn events_wait_for_concurrency_and_grow_old() {
    let mut settings = Settings::instant();
    settings.quotas.concurrency = 1;
    settings.timing.event_throttle_retry = Span::exactly(1_000);
    let mut world = world(settings, by_payload);
    world.call(&create("f"));
    world.call(&events("f", 0, 60));
    for _ in 0..20 {
        world.call(&invoke("f", InvocationType::Event, "4000"));
    }
    world.run_until(BEGIN + 200_000);
    let states = world.model.snapshot().invocations;
    let count = |status| states.iter().filter(|state| state.status == status).count();
    // One at a time, a second of polling between them, none after a minute.
    assert_eq!(count(InvocationStatus::Succeeded) + count(InvocationStatus::Dropped), 20);
    assert!((10..=16).contains(&count(InvocationStatus::Succeeded)), "{}", count(InvocationStatus::Succeeded));
    assert!(world.model.idle());
}

#[test]
fn events_of_a_removed_function_are_dropped() {
    let mut settings = Settings::instant();
    settings.timing.event_delay = Span::exactly(1_000);
    let mut world = world(settings, by_payload);
    world.call(&create("f"));
    world.call(&invoke("f", InvocationType::Event, "0"));
    world.call(&Request::DeleteFunction(FunctionName::parse("f", None)));
    world.call(&create("f"));
    world.run_until(BEGIN + 2_000);
    assert_eq!(world.model.snapshot().invocations[0].status, InvocationStatus::Dropped);
}

#[test]
fn an_update_ends_old_environments_only_when_it_is_done() {
    let mut settings = Settings::instant();
    settings.timing.update = Span::exactly(10_000);
    let mut world = world(settings, by_payload);
    world.call(&create("f"));
    let run = |world: &mut World<Choose>, until| {
        world.call(&invoke("f", InvocationType::RequestResponse, "0"));
        world.run_until(BEGIN + until);
        messages(world).iter().filter(|line| line.contains("Init Duration")).count()
    };
    assert_eq!(run(&mut world, 1_000), 1);
    world.call(&Request::UpdateFunctionConfiguration(Box::new(UpdateFunctionConfiguration {
        function_name: "f".to_owned(),
        memory_size: Some(512),
        ..UpdateFunctionConfiguration::default()
    })));
    assert_eq!(run(&mut world, 11_000), 1);
    assert_eq!(run(&mut world, 12_000), 2);
    assert_eq!(world.model.snapshot().environments, 1);
}

#[test]
fn an_inactive_function_comes_back_after_one_refusal() {
    let mut settings = Settings::instant();
    settings.timing.pending = Span::exactly(2_000);
    settings.timing.inactive_after = Some(1_000_000);
    let mut world = world(settings, by_payload);
    world.call(&create("f"));
    world.run_until(BEGIN + 1_000_000);
    assert_eq!(world.model.snapshot().functions[0].state, "Inactive");
    let call = invoke("f", InvocationType::RequestResponse, "0");
    assert_eq!(error_code(&world.call(&call).outcome), "ResourceConflictException");
    assert_eq!(world.model.snapshot().functions[0].state, "Pending");
    world.run_until(BEGIN + 1_002_000);
    assert!(matches!(world.call(&call).outcome, Outcome::Later(_)));
}

#[test]
fn a_fault_can_last_for_a_time() {
    let mut settings = Settings::instant();
    let rule = FaultRule::every(Operation::CreateFunction, FaultKind::RoleNotAssumable);
    settings.faults.rules.push(FaultRule { for_ms: Some(5_000), ..rule });
    let mut world = world(settings, by_payload);
    assert_eq!(error_code(&world.call(&create("f")).outcome), "InvalidParameterValueException");
    world.run_until(BEGIN + 5_000);
    done(&world.call(&create("f")).outcome).unwrap();
}

#[derive(Clone, Debug)]
enum Act {
    Wait(i64),
    Create(u8),
    Delete(u8),
    Sync(u8, u8),
    Event(u8, u8),
    NoRetries(u8),
    List,
}

const PAYLOADS: [&str; 5] = ["0", "10", "1501", "3000", "9000"];

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let function = 0..3_u8;
    let act = prop_oneof![
        3 => (0..5_000_i64).prop_map(Act::Wait),
        3 => function.clone().prop_map(Act::Create),
        1 => function.clone().prop_map(Act::Delete),
        4 => (function.clone(), 0..5_u8).prop_map(|(f, p)| Act::Sync(f, p)),
        4 => (function.clone(), 0..5_u8).prop_map(|(f, p)| Act::Event(f, p)),
        1 => function.prop_map(Act::NoRetries),
        1 => Just(Act::List),
    ];
    proptest::collection::vec(act, 1..40)
}

fn faults() -> impl Strategy<Value = Faults> {
    let kind = prop_oneof![
        Just(FaultKind::Throttle { retry_after_s: None }),
        Just(FaultKind::ResetBefore),
        Just(FaultKind::ResetAfter),
        Just(FaultKind::LoseAnswer),
        Just(FaultKind::ServiceErrorAfter { status: 500 }),
        Just(FaultKind::DuplicateDelivery),
        Just(FaultKind::Stale { ms: 2_000 }),
    ];
    let rule = kind.prop_map(|kind| FaultRule {
        operation: None,
        resource: None,
        nth: None,
        from: None,
        to: None,
        probability: Some(0.2),
        for_ms: Some(60_000),
        kind,
    });
    (proptest::collection::vec(rule, 0..3), any::<bool>()).prop_map(|(rules, reorder_logs)| Faults {
        rules,
        reorder_logs,
        ..Faults::default()
    })
}

fn request(act: &Act) -> Request {
    let name = |f: &u8| format!("f{f}");
    let payload = |p: &u8| PAYLOADS[usize::from(*p)];
    match act {
        Act::Create(f) => create(&name(f)),
        Act::Delete(f) => Request::DeleteFunction(FunctionName::parse(&name(f), None)),
        Act::Sync(f, p) => invoke(&name(f), InvocationType::RequestResponse, payload(p)),
        Act::Event(f, p) => invoke(&name(f), InvocationType::Event, payload(p)),
        Act::NoRetries(f) => events(&name(f), 0, 60),
        Act::Wait(_) | Act::List => Request::ListFunctions(ListFunctions::default()),
    }
}

/// What a story shows: replies, answers, the end state and all lines.
fn tell(acts: &[Act], faults: &Faults, seed: u64) -> (Vec<String>, World<Choose>) {
    let mut settings = Settings::quick();
    (settings.seed, settings.faults, settings.quotas.concurrency) = (seed, faults.clone(), 2);
    let mut world = world(settings, by_payload);
    let mut told = Vec::new();
    let mut tickets: Vec<Ticket> = Vec::new();
    for act in acts {
        if let Act::Wait(ms) = act {
            world.run_until(world.now_ms() + ms);
            continue;
        }
        let reply = world.call(&request(act));
        if let Outcome::Later(ticket) = reply.outcome {
            tickets.push(ticket);
        }
        assert!(reply.outcome != Outcome::Unprocessed || reply.transport == Transport::Reset);
        told.push(format!("{reply:?}"));
    }
    world.run_until(world.now_ms() + AFTERWARDS_MS);
    world.model.set_faults(world.now_ms(), Faults::default());
    assert!(tickets.iter().all(|ticket| world.answers.contains_key(ticket)));
    told.push(format!("{:?}", world.answers));
    told.push(format!("{:?}", world.model.snapshot()));
    told.extend(messages(&mut world));
    (told, world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_story_settles_and_can_be_told_again(acts in acts(), faults in faults(), seed in any::<u64>()) {
        let (told, world) = tell(&acts, &faults, seed);
        prop_assert_eq!(&told, &tell(&acts, &faults, seed).0);
        prop_assert!(world.model.idle());
        let snapshot = world.model.snapshot();
        prop_assert_eq!(snapshot.environments, 0);
        let mut tries: BTreeMap<String, usize> = BTreeMap::new();
        for state in snapshot.invocations.iter().filter(|state| state.status != InvocationStatus::Dropped) {
            *tries.entry(state.request_id.clone()).or_default() += 1;
        }
        for (id, count) in &tries {
            for line in [format!("START RequestId: {id} "), format!("END RequestId: {id}\n"), format!("REPORT RequestId: {id}\t")] {
                prop_assert_eq!(told.iter().filter(|told| told.starts_with(&line)).count(), *count, "{}", line);
            }
            prop_assert!(*count <= 6);
        }
        let reports = told.iter().filter(|told| told.starts_with("REPORT ")).count();
        prop_assert_eq!(reports, tries.values().sum::<usize>());
    }
}
