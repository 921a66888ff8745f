//! Invocations, their answers and their log lines.

use aws_sdk_lambda::error::ProvideErrorMetadata as _;
use aws_sdk_lambda::operation::RequestId as _;
use aws_sdk_lambda::operation::invoke::InvokeOutput;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{InvocationType, LogFormat, LogType, LoggingConfig};
use base64::Engine as _;
use serde_json::json;
use sockerless_sandbox::model::InvocationStatus;
use sockerless_sandbox::script::Program;
use sockerless_sandbox::settings::{LogStyle, Settings};
use sockerless_sandbox::{Options, Programs};

use crate::{Aws, GROUP, always, eventually, messages};

async fn invoke(aws: &Aws, payload: serde_json::Value) -> InvokeOutput {
    let call = aws.lambda.invoke().function_name("f").log_type(LogType::Tail);
    call.payload(Blob::new(payload.to_string())).send().await.unwrap()
}

fn payload(output: &InvokeOutput) -> serde_json::Value {
    serde_json::from_slice(output.payload().unwrap().as_ref()).unwrap()
}

fn tail(output: &InvokeOutput) -> String {
    let bytes = base64::engine::general_purpose::STANDARD.decode(output.log_result().unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn the_answer_and_the_lines_carry_one_id() {
    let aws = Aws::start(Settings::instant()).await;
    aws.create("f").send().await.unwrap();
    let context = base64::engine::general_purpose::STANDARD.encode("{\"custom\":\n{}}");
    let order = json!({ "lines": ["hello", "world"], "ms": 3 });
    let call = aws.lambda.invoke().function_name("f").client_context(&context).log_type(LogType::Tail);
    let output = call.payload(Blob::new(order.to_string())).send().await.unwrap();
    assert_eq!((output.status_code, output.executed_version()), (200, Some("$LATEST")));
    assert_eq!(payload(&output), json!({ "echo": order, "context": r#"{"custom":{}}"# }));
    assert!(output.function_error().is_none());
    let id = output.request_id().unwrap();
    let first = tail(&output);
    let lines: Vec<_> = first.lines().collect();
    assert_eq!(lines[..3], [&format!("START RequestId: {id} Version: $LATEST"), "hello", "world"]);
    assert_eq!(lines[3], format!("END RequestId: {id}"));
    assert_eq!(
        lines[4],
        format!(
            "REPORT RequestId: {id}\tDuration: 3.00 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB\tInit Duration: 0.00 ms\t"
        )
    );
    let stored = messages(&aws).await;
    assert_eq!(stored.concat(), first);
    // The environment is used again: one stream, no second Init Duration.
    let again = invoke(&aws, json!({})).await;
    assert!(!tail(&again).contains("Init Duration"));
    let streams = aws.logs.describe_log_streams().log_group_name(GROUP).send().await.unwrap();
    let name = streams.log_streams()[0].log_stream_name().unwrap();
    assert_eq!(streams.log_streams().len(), 1);
    assert!(name.contains("/f[$LATEST]") && name.len() == "2024/01/01/f[$LATEST]".len() + 32, "{name}");
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn failures_are_told_as_aws_does() {
    let aws = Aws::start(Settings::instant()).await;
    aws.create("f").timeout(1).send().await.unwrap();
    for (order, kind, message, report) in [
        (
            json!({ "end": "exit 3" }),
            "Runtime.ExitError",
            "Runtime exited with error: exit status 3",
            "Status: error\tError Type: Runtime.ExitError",
        ),
        (
            json!({ "end": "exit 0" }),
            "Runtime.ExitError",
            "Runtime exited without providing a reason",
            "Status: error\tError Type: Runtime.ExitError",
        ),
        (
            json!({ "end": "memory" }),
            "Runtime.OutOfMemory",
            "Runtime exited with error: signal: killed",
            "Status: error\tError Type: Runtime.OutOfMemory",
        ),
        (json!({ "ms": 5_000 }), "Sandbox.Timedout", "Task timed out after 1.00 seconds", "Status: timeout"),
    ] {
        let output = invoke(&aws, order).await;
        assert_eq!((output.status_code, output.function_error()), (200, Some("Unhandled")));
        let id = output.request_id().unwrap().to_owned();
        let error = payload(&output);
        assert_eq!(error["errorMessage"], format!("RequestId: {id} Error: {message}"));
        let expected = if kind == "Runtime.OutOfMemory" { "Runtime.ExitError" } else { kind };
        assert_eq!(error["errorType"], expected);
        assert!(tail(&output).trim_end().ends_with(report), "{}", tail(&output));
    }
    let posted = invoke(&aws, json!({ "end": "error" })).await;
    assert_eq!(posted.function_error(), Some("Unhandled"));
    assert_eq!(payload(&posted), json!({ "errorType": "Custom", "errorMessage": "no luck" }));
    assert!(tail(&posted).contains("Error Type: Function.NoLuck"));
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn the_older_style_and_the_json_format() {
    let mut settings = Settings::instant();
    settings.log_style = LogStyle::Lines;
    let aws = Aws::start(settings).await;
    aws.create("f").send().await.unwrap();
    let output = invoke(&aws, json!({ "end": "exit 3" })).await;
    let id = output.request_id().unwrap();
    let expected = format!("RequestId: {id} Error: Runtime exited with error: exit status 3\nRuntime.ExitError\n");
    assert!(tail(&output).ends_with(&expected) && !tail(&output).contains("Status:"));

    let logging = LoggingConfig::builder().log_format(LogFormat::Json).log_group("json").build();
    aws.create("j").logging_config(logging).send().await.unwrap();
    aws.lambda.invoke().function_name("j").send().await.unwrap();
    let call = aws.logs.filter_log_events().log_group_name("json");
    let found = call.filter_pattern(r#"{ $.type = "platform.report" }"#).send().await.unwrap();
    assert_eq!(found.events().len(), 1);
    let line: serde_json::Value = serde_json::from_str(found.events()[0].message().unwrap()).unwrap();
    assert_eq!(line["record"]["status"], "success");
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn events_are_queued_and_tried_again() {
    let aws = Aws::start(Settings::instant()).await;
    aws.create("f").send().await.unwrap();
    let event = || aws.lambda.invoke().function_name("f").invocation_type(InvocationType::Event);
    let queued = event().payload(Blob::new(r#"{"lines":["ran"]}"#)).send().await.unwrap();
    assert_eq!((queued.status_code, queued.payload().map_or(0, |payload| payload.as_ref().len())), (202, 0));
    let id = queued.request_id().unwrap().to_owned();
    eventually(|| async {
        messages(&aws).await.iter().any(|m| m.starts_with(&format!("REPORT RequestId: {id}"))).then_some(())
    })
    .await;
    let tries = |id: String| {
        let aws = &aws;
        move || {
            let ended =
                aws.sandbox.state().invocations.iter().filter(|i| i.request_id == id && i.end_ms.is_some()).count();
            async move { ended }
        }
    };
    let failing = event().payload(Blob::new(r#"{"end":"error"}"#)).send().await.unwrap();
    let count = tries(failing.request_id().unwrap().to_owned());
    eventually(|| async { (count().await == 3).then_some(()) }).await;
    aws.lambda.put_function_event_invoke_config().function_name("f").maximum_retry_attempts(0).send().await.unwrap();
    let once = event().payload(Blob::new(r#"{"end":"error"}"#)).send().await.unwrap();
    let count = tries(once.request_id().unwrap().to_owned());
    eventually(|| async { (aws.sandbox.state().invocations.iter().all(|i| i.end_ms.is_some())).then_some(()) }).await;
    assert_eq!(count().await, 1);
    let dry = aws.lambda.invoke().function_name("f").invocation_type(InvocationType::DryRun).send().await.unwrap();
    assert_eq!(dry.status_code, 204);
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn payloads_have_limits() {
    let aws = Aws::start(Settings::instant()).await;
    aws.create("f").send().await.unwrap();
    let blob = |bytes: usize| Blob::new(format!("\"{}\"", "x".repeat(bytes - 2)));
    let sync = |bytes| aws.lambda.invoke().function_name("f").payload(blob(bytes)).send();
    let event = |bytes| {
        aws.lambda.invoke().function_name("f").invocation_type(InvocationType::Event).payload(blob(bytes)).send()
    };
    event(1_024 * 1_024).await.unwrap();
    for (result, bytes) in [(sync(6 * 1_024 * 1_024 + 1).await, "6291457"), (event(1_024 * 1_024 + 1).await, "1048577")]
    {
        let error = result.unwrap_err();
        assert_eq!(error.raw_response().unwrap().status().as_u16(), 413);
        let error = error.into_service_error();
        assert_eq!(error.code(), Some("RequestEntityTooLargeException"));
        assert!(error.message().unwrap().contains(bytes));
    }
    assert!(sync(9 * 1_024 * 1_024).await.is_err());
    let context = aws.lambda.invoke().function_name("f").client_context("no base64").send().await.unwrap_err();
    assert!(context.into_service_error().is_invalid_request_content_exception());
    let error = aws.lambda.invoke().function_name("f").payload(Blob::new("no json")).send().await.unwrap_err();
    assert!(error.into_service_error().is_invalid_request_content_exception());
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn a_caller_that_leaves_and_a_delete_stop_nothing() {
    let aws = Aws::start(Settings::instant()).await;
    aws.create("f").send().await.unwrap();
    let call = aws.lambda.invoke().function_name("f").payload(Blob::new(r#"{"ms":1500,"lines":["x"]}"#)).send();
    let running = || async {
        aws.sandbox.state().invocations.iter().any(|i| i.status == InvocationStatus::Running).then_some(())
    };
    tokio::select! {
        _ = call => panic!("it was to be left"),
        () = eventually(running) => {}
    }
    aws.lambda.delete_function().function_name("f").send().await.unwrap();
    eventually(|| async { messages(&aws).await.iter().any(|m| m.starts_with("REPORT")).then_some(()) }).await;
    let state = aws.sandbox.state();
    assert_eq!((state.invocations[0].status, state.environments), (InvocationStatus::Succeeded, 0));
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn concurrency_is_limited() {
    let mut settings = Settings::instant();
    settings.quotas.concurrency = 1;
    let aws = Aws::with(Options::new(settings, always(Program::silent(u32::MAX)))).await;
    aws.create("f").timeout(900).send().await.unwrap();
    let first = aws.lambda.invoke().function_name("f").send();
    let second = async {
        eventually(|| async { (!aws.sandbox.state().invocations.is_empty()).then_some(()) }).await;
        aws.lambda.invoke().function_name("f").send().await
    };
    let refused = tokio::select! {
        first = first => panic!("{first:?}"),
        second = second => second.unwrap_err(),
    };
    assert!(refused.into_service_error().is_too_many_requests_exception());
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn programs_that_cannot_start_fail_the_invocation() {
    let aws = Aws::with(Options::new(
        Settings::instant(),
        Programs::Real(sockerless_sandbox::runner::RunnerConfig {
            bootstrap: vec!["/does/not/exist".into()],
            ..Default::default()
        }),
    ))
    .await;
    aws.create("f").timeout(1).send().await.unwrap();
    let output = invoke(&aws, json!({})).await;
    assert_eq!(output.function_error(), Some("Unhandled"));
    assert!(tail(&output).contains("Status: error"));
    aws.sandbox.stop().await;
}
