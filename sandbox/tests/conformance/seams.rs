//! What tests may hold on to: a clock that is set by hand, a witness of every call, a hand behind everybody's back.

use std::sync::{Arc, Mutex};

use sockerless_sandbox::Options;
use sockerless_sandbox::clock::Clock;
use sockerless_sandbox::faults::{FaultKind, FaultRule};
use sockerless_sandbox::model::lambda_api::FunctionName;
use sockerless_sandbox::model::{Operation, Request, Response};
use sockerless_sandbox::script::Program;
use sockerless_sandbox::settings::Settings;
use sockerless_sandbox::witness::{Stage, Witness};

use crate::{Aws, GROUP, always, eventually, messages};

const MONDAY_MS: i64 = 1_800_000_000_000;

/// What a witness was told.
type Told = Arc<Mutex<Vec<(Operation, Option<String>, Stage)>>>;

fn told() -> (Told, Witness) {
    let told = Told::default();
    let account = Arc::clone(&told);
    let witness = Witness::new(move |call, stage| {
        assert_eq!(call.caller, "AKIATEST");
        account.lock().unwrap().push((call.operation, call.resource.clone(), stage));
    });
    (told, witness)
}

#[tokio::test]
async fn a_program_takes_its_time_by_a_clock_that_is_set_and_its_caller_is_seen_to_wait() {
    let (told, witness) = told();
    let clock = Clock::fixed(MONDAY_MS);
    let options = Options {
        clock: clock.clone(),
        witness: Some(witness),
        ..Options::new(Settings::instant(), always(Program::silent(3_600_000)))
    };
    let aws = Aws::with(options).await;
    aws.create("f").timeout(900).send().await.unwrap();
    let invocation = tokio::spawn(aws.lambda.invoke().function_name("f").send());
    eventually(|| async {
        told.lock().unwrap().last().is_some_and(|(.., stage)| *stage == Stage::Waits).then_some(())
    })
    .await;
    assert!(!invocation.is_finished());
    let deadline = eventually(|| async { clock.next_alarm_ms().filter(|at| *at == MONDAY_MS + 900_000) }).await;
    clock.set(deadline);
    assert!(invocation.await.unwrap().unwrap().function_error().is_some());
    let function = Some("f".to_owned());
    let create = [Stage::Processed, Stage::Over].map(|stage| (Operation::CreateFunction, function.clone(), stage));
    let invoke =
        [Stage::Processed, Stage::Waits, Stage::Over].map(|stage| (Operation::Invoke, function.clone(), stage));
    assert_eq!(*told.lock().unwrap(), [&create[..], &invoke].concat());
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn logs_can_be_late_for_a_time() {
    let clock = Clock::fixed(MONDAY_MS);
    let mut settings = Settings::instant();
    settings.faults.log_delay_ms = 600_000;
    settings.faults.log_delay_for_ms = Some(1_000);
    settings.timing.environment_idle = 100;
    let options = Options { clock: clock.clone(), ..Options::new(settings, always(Program::silent(0))) };
    let aws = Aws::with(options).await;
    aws.create("f").send().await.unwrap();
    let starts = || async { messages(&aws).await.into_iter().filter(|m| m.starts_with("START")).count() };
    for (after_ms, seen) in [(0, 0), (1_000, 1), (600_000, 3)] {
        clock.set(MONDAY_MS + after_ms);
        aws.lambda.invoke().function_name("f").send().await.unwrap();
        assert_eq!(starts().await, seen, "{after_ms}");
    }
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn what_is_done_behind_everybodys_back_meets_no_fault_and_is_not_counted() {
    let mut settings = Settings::instant();
    settings.faults.rules = vec![FaultRule::every(Operation::DeleteFunction, FaultKind::AccessDenied)];
    let aws = Aws::start(settings).await;
    aws.create("f").send().await.unwrap();
    let delete = Request::DeleteFunction(FunctionName::parse("f", None));
    assert_eq!(aws.sandbox.operate(&delete), Ok(Response::Empty));
    assert_eq!(aws.sandbox.operate(&delete).unwrap_err().code, "ResourceNotFoundException");
    assert_eq!(aws.sandbox.state().calls.get(&Operation::DeleteFunction), None);
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn a_call_can_be_carried_out_twice() {
    let mut settings = Settings::instant();
    settings.faults.rules = vec![FaultRule::every(Operation::CreateFunction, FaultKind::Twice)];
    let aws = Aws::start(settings).await;
    let refused = aws.create("f").send().await.unwrap_err().into_service_error();
    assert!(refused.is_resource_conflict_exception(), "the second one meets the first one's function");
    assert_eq!(aws.sandbox.state().functions.len(), 1);
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn pages_of_events_can_be_spoilt() {
    let kinds = [FaultKind::MissingEvents, FaultKind::DoubledEvents, FaultKind::ReversedEvents];
    let rules = kinds.into_iter().zip(1..).map(|(kind, n)| FaultRule::nth(Operation::FilterLogEvents, n, kind));
    let mut settings = Settings::instant();
    settings.faults.rules = rules.collect();
    let program = Program { lines: vec![(0, "first".to_owned()), (0, "second".to_owned())], ..Program::silent(0) };
    let aws = Aws::with(Options::new(settings, always(program))).await;
    aws.create("f").send().await.unwrap();
    aws.lambda.invoke().function_name("f").send().await.unwrap();
    let page = || async {
        let spoken = messages(&aws).await.into_iter().filter(|m| !m.contains("RequestId"));
        spoken.map(|m| m.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(page().await, Vec::<String>::new());
    assert_eq!(page().await, ["first", "first", "second", "second"]);
    assert_eq!(page().await, ["second", "first"]);
    assert_eq!(page().await, ["first", "second"]);
    assert!(aws.sandbox.state().log_streams.contains_key(GROUP));
    aws.sandbox.stop().await;
}
