//! Quotas, faults and credentials, as the SDK sees them.

use aws_sdk_lambda::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{InvocationType, LastUpdateStatus, State};
use sockerless_sandbox::faults::{FaultKind, FaultRule, Faults, HiddenTags};
use sockerless_sandbox::model::Operation;
use sockerless_sandbox::settings::{Quotas, Settings};

use crate::{Aws, GROUP, eventually, messages};

async fn with(rules: Vec<FaultRule>) -> Aws {
    let mut settings = Settings::instant();
    settings.faults.rules = rules;
    Aws::start(settings).await
}

/// As AWS: it is shown with the new settings, and runs with the old ones.
#[tokio::test]
async fn function_whose_update_fails_runs_as_before_the_update() {
    let mut settings = Settings::instant();
    let (code, message) = ("SubnetOutOfIPAddresses".to_owned(), "no address is left".to_owned());
    let kind = FaultKind::UpdateFails { code: code.clone(), message: message.clone() };
    settings.faults.rules = vec![FaultRule::nth(Operation::UpdateFunctionConfiguration, 1, kind)];
    let aws = Aws::start(settings).await;
    aws.create("f").memory_size(256).send().await.unwrap();
    let reported = || async {
        aws.lambda.invoke().function_name("f").send().await.unwrap();
        let lines = messages(&aws).await;
        lines.iter().rev().find_map(|line| Some(line.split_once("Memory Size: ")?.1.split(' ').next()?.to_owned()))
    };
    assert_eq!(reported().await.as_deref(), Some("256"));
    let update = || aws.lambda.update_function_configuration().function_name("f").memory_size(512).send();
    update().await.unwrap();
    let shown = aws.lambda.get_function_configuration().function_name("f").send().await.unwrap();
    assert_eq!(shown.state, Some(State::Active));
    assert_eq!(shown.last_update_status, Some(LastUpdateStatus::Failed));
    assert_eq!(shown.last_update_status_reason_code.map(|code| code.as_str().to_owned()), Some(code));
    assert_eq!((shown.last_update_status_reason, shown.memory_size), (Some(message), Some(512)));
    assert_eq!(reported().await.as_deref(), Some("256"), "it runs as it was");
    update().await.unwrap();
    let shown = aws.lambda.get_function_configuration().function_name("f").send().await.unwrap();
    assert_eq!(shown.last_update_status, Some(LastUpdateStatus::Successful));
    assert_eq!(shown.last_update_status_reason, None);
    assert_eq!(reported().await.as_deref(), Some("512"));
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn the_control_plane_has_one_quota() {
    // A rate so low that nothing comes back while the test runs.
    let settings =
        Settings { quotas: Quotas { control_plane: 0.001, ..Settings::quick().quotas }, ..Settings::instant() };
    let aws = Aws::start(settings).await;
    aws.create("f").send().await.unwrap();
    let refused = aws.lambda.list_functions().send().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().headers().get("retry-after"), Some("1"));
    let refused = refused.into_service_error();
    assert!(refused.is_too_many_requests_exception());
    assert_eq!(refused.code(), Some("TooManyRequestsException"));
    aws.lambda.get_function().function_name("f").send().await.unwrap();
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn errors_are_modelled() {
    let nth = |operation, nth, kind| FaultRule::nth(operation, nth, kind);
    let aws = with(vec![
        nth(Operation::CreateFunction, 1, FaultKind::RoleNotAssumable),
        nth(Operation::CreateFunction, 2, FaultKind::ServiceError { status: 502 }),
        nth(Operation::CreateFunction, 3, FaultKind::AccessDenied),
        nth(Operation::CreateFunction, 4, FaultKind::MalformedBody),
        nth(Operation::FilterLogEvents, 1, FaultKind::Throttle { retry_after_s: None }),
        nth(Operation::FilterLogEvents, 2, FaultKind::AccessDenied),
        nth(Operation::FilterLogEvents, 3, FaultKind::ServiceError { status: 500 }),
    ])
    .await;
    let create = || async { aws.create("f").send().await.unwrap_err() };
    let role = create().await.into_service_error();
    assert!(role.is_invalid_parameter_value_exception());
    assert_eq!(role.message(), Some("The role defined for the function cannot be assumed by Lambda."));
    let service = create().await;
    assert_eq!(service.raw_response().unwrap().status().as_u16(), 502);
    assert!(service.into_service_error().is_service_exception());
    let denied = create().await;
    assert_eq!(denied.raw_response().unwrap().status().as_u16(), 403);
    assert_eq!(denied.into_service_error().code(), Some("AccessDeniedException"));
    let malformed = create().await;
    assert_eq!(malformed.raw_response().unwrap().status().as_u16(), 201);
    assert_eq!(malformed.into_service_error().code(), None);
    assert_eq!(aws.sandbox.state().functions.len(), 1);
    for code in ["ThrottlingException", "AccessDeniedException", "ServiceUnavailableException"] {
        let error = aws.logs.filter_log_events().log_group_name(GROUP).send().await.unwrap_err();
        assert_eq!(error.into_service_error().code(), Some(code));
    }
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn connections_break_before_and_after() {
    let aws = with(vec![
        FaultRule::nth(Operation::CreateFunction, 1, FaultKind::ResetBefore),
        FaultRule::nth(Operation::CreateFunction, 2, FaultKind::ResetAfter),
        FaultRule::nth(Operation::DeleteFunction, 1, FaultKind::LoseAnswer),
        FaultRule::nth(Operation::Invoke, 1, FaultKind::LoseAnswer),
    ])
    .await;
    let broken = |error: &SdkError<_, _>| matches!(error, SdkError::DispatchFailure(_));
    assert!(broken(&aws.create("a").send().await.unwrap_err()));
    assert_eq!(aws.sandbox.state().functions.len(), 0);
    assert!(broken(&aws.create("b").send().await.unwrap_err()));
    assert_eq!(aws.sandbox.state().functions.len(), 1);
    let invoke = || aws.lambda.invoke().function_name("b").payload(Blob::new(r#"{"lines":["once"]}"#)).send();
    assert!(matches!(invoke().await.unwrap_err(), SdkError::DispatchFailure(_)));
    assert_eq!(messages(&aws).await.iter().filter(|m| *m == "once\n").count(), 1);
    invoke().await.unwrap();
    let delete = aws.lambda.delete_function().function_name("b").send().await.unwrap_err();
    assert!(matches!(delete, SdkError::DispatchFailure(_)));
    assert_eq!(aws.sandbox.state().functions.len(), 0);
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn reads_can_be_stale_and_logs_can_be_missing() {
    let stale = |operation| FaultRule { to: Some(1), ..FaultRule::every(operation, FaultKind::Stale { ms: 60_000 }) };
    let mut settings = Settings::instant();
    settings.faults = Faults {
        rules: vec![stale(Operation::GetFunction), stale(Operation::ListFunctions)],
        roles_without_logs: vec!["*".to_owned()],
        ..Faults::default()
    };
    let aws = Aws::start(settings).await;
    aws.create("f").send().await.unwrap();
    let get = || aws.lambda.get_function().function_name("f").send();
    assert!(get().await.unwrap_err().into_service_error().is_resource_not_found_exception());
    get().await.unwrap();
    assert!(aws.lambda.list_functions().send().await.unwrap().functions().is_empty());
    assert_eq!(aws.lambda.list_functions().send().await.unwrap().functions().len(), 1);
    let call = aws.lambda.invoke().function_name("f").log_type(aws_sdk_lambda::types::LogType::Tail);
    assert!(call.send().await.unwrap().log_result().is_some());
    let group = aws.logs.filter_log_events().log_group_name(GROUP).send().await.unwrap_err();
    assert!(group.into_service_error().is_resource_not_found_exception());
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn an_event_can_come_twice() {
    let aws = with(vec![FaultRule::nth(Operation::Invoke, 1, FaultKind::DuplicateDelivery)]).await;
    aws.create("f").send().await.unwrap();
    aws.lambda.invoke().function_name("f").invocation_type(InvocationType::Event).send().await.unwrap();
    let starts = eventually(|| async {
        let starts: Vec<_> = messages(&aws).await.into_iter().filter(|m| m.starts_with("START")).collect();
        (starts.len() == 2).then_some(starts)
    })
    .await;
    assert_eq!(starts[0], starts[1]);
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn faults_can_be_replaced() {
    let aws =
        with(vec![FaultRule::every(Operation::CreateFunction, FaultKind::Throttle { retry_after_s: Some(7) })]).await;
    let refused = aws.create("f").send().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().headers().get("retry-after"), Some("7"));
    aws.sandbox.set_faults(Faults::default());
    aws.create("f").send().await.unwrap();
    assert_eq!(aws.sandbox.state().calls[&Operation::CreateFunction], 2);
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn tags_can_be_kept_back() {
    let aws = with(Vec::new()).await;
    aws.create("f").tags("owner", "me").send().await.unwrap();
    for (hidden, told, error) in
        [(None, true, false), (Some(HiddenTags::Silently), false, false), (Some(HiddenTags::WithAnError), false, true)]
    {
        aws.sandbox.set_faults(Faults { hidden_tags: hidden, ..Faults::default() });
        let answer = aws.lambda.get_function().function_name("f").send().await.unwrap();
        assert_eq!((answer.tags.is_some(), answer.tags_error.is_some()), (told, error), "{hidden:?}");
    }
    aws.sandbox.stop().await;
}
