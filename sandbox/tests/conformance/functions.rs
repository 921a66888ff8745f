//! The life of a function.

use std::collections::HashMap;

use aws_sdk_lambda::error::ProvideErrorMetadata as _;
use aws_sdk_lambda::operation::RequestId as _;
use aws_sdk_lambda::operation::create_function::CreateFunctionError;
use aws_sdk_lambda::operation::get_function::GetFunctionError;
use aws_sdk_lambda::types::{
    Environment, EphemeralStorage, FunctionCode, ImageConfig, LastUpdateStatus, PackageType, State, StateReasonCode,
};
use sockerless_sandbox::settings::{Image, Settings, Span, StateReason};

use crate::{Aws, FOREVER_MS, ROLE};

#[tokio::test]
async fn a_function_is_made_shown_and_removed() {
    let aws = Aws::start(Settings::instant()).await;
    let created = aws
        .create("f")
        .memory_size(256)
        .timeout(7)
        .description("what it is")
        .environment(Environment::builder().variables("KEY", "value").build())
        .ephemeral_storage(EphemeralStorage::builder().size(1024).build().unwrap())
        .image_config(ImageConfig::builder().command("sh").command("-c").working_directory("/tmp").build())
        .tags("owner", "me")
        .send()
        .await
        .unwrap();
    assert_eq!(created.state, Some(State::Pending));
    assert_eq!(created.state_reason_code, Some(StateReasonCode::Creating));
    assert_eq!(created.function_arn.as_deref(), Some("arn:aws:lambda:us-east-1:000000000000:function:f"));
    assert!(created.request_id().is_some());

    let got = aws.lambda.get_function().function_name("f").send().await.unwrap();
    let configuration = got.configuration.unwrap();
    assert_eq!(configuration.state, Some(State::Active));
    assert_eq!(configuration.last_update_status, Some(LastUpdateStatus::Successful));
    assert_eq!((configuration.memory_size, configuration.timeout), (Some(256), Some(7)));
    assert_eq!(configuration.ephemeral_storage.unwrap().size, 1024);
    assert_eq!(configuration.package_type, Some(PackageType::Image));
    assert_eq!(configuration.role.as_deref(), Some(ROLE));
    let image = configuration.image_config_response.unwrap().image_config.unwrap();
    assert_eq!(image.command.unwrap(), ["sh", "-c"]);
    assert_eq!(image.working_directory.as_deref(), Some("/tmp"));
    let code = got.code.unwrap();
    assert_eq!(code.repository_type.as_deref(), Some("ECR"));
    assert_eq!(code.image_uri.as_deref(), Some("host"));
    assert!(code.resolved_image_uri.unwrap().starts_with("host@sha256:"));
    assert_eq!(got.tags.unwrap(), HashMap::from([("owner".to_owned(), "me".to_owned())]));

    aws.lambda.delete_function().function_name("f").send().await.unwrap();
    let gone = aws.lambda.get_function().function_name("f").send().await.unwrap_err().into_service_error();
    assert!(matches!(gone, GetFunctionError::ResourceNotFoundException(_)));
    assert_eq!(gone.message(), Some("Function not found: arn:aws:lambda:us-east-1:000000000000:function:f"));
    assert!(aws.lambda.delete_function().function_name("f").send().await.is_err());
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn what_create_refuses() {
    let aws = Aws::start(Settings::instant()).await;
    aws.create("f").send().await.unwrap();
    let twice = aws.create("f").send().await.unwrap_err();
    assert_eq!(twice.raw_response().unwrap().status().as_u16(), 409);
    let twice = twice.into_service_error();
    assert!(matches!(twice, CreateFunctionError::ResourceConflictException(_)));
    assert_eq!(twice.message(), Some("Function already exist: f"));

    let unknown = FunctionCode::builder().image_uri("000000000000.dkr.ecr.us-east-1.amazonaws.com/no:1").build();
    let table = [
        (
            aws.create("g").code(unknown),
            "InvalidParameterValueException",
            "Source image 000000000000.dkr.ecr.us-east-1.amazonaws.com/no:1 does not exist. Provide a valid source image.",
        ),
        (aws.create("no dots.").memory_size(128), "ValidationException", "functionName"),
        (aws.create("g").memory_size(64), "ValidationException", "greater than or equal to 128"),
        (aws.create("g").timeout(901), "ValidationException", "less than or equal to 900"),
        (aws.create("g").role("me"), "ValidationException", "role"),
        (
            aws.create("g").environment(Environment::builder().variables("AWS_REGION", "x").build()),
            "InvalidParameterValueException",
            "Reserved keys used in this request: AWS_REGION",
        ),
        (aws.create("g").tags("a", "b,c"), "InvalidParameterValueException", "tag"),
        (aws.create("g").handler("main"), "InvalidParameterValueException", "Handler"),
    ];
    for (call, code, message) in table {
        let error = call.send().await.unwrap_err().into_service_error();
        assert_eq!(error.code(), Some(code), "{message}");
        assert!(error.message().unwrap().contains(message), "{error:?}");
    }
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn while_a_function_is_pending() {
    let mut settings = Settings::instant();
    settings.timing.pending = Span::exactly(FOREVER_MS);
    let aws = Aws::start(settings).await;
    aws.create("f").send().await.unwrap();
    let early = aws.lambda.invoke().function_name("f").send().await.unwrap_err();
    assert_eq!(early.raw_response().unwrap().status().as_u16(), 409);
    let early = early.into_service_error();
    assert!(early.is_resource_conflict_exception());
    assert_eq!(
        early.message(),
        Some(
            "The operation cannot be performed at this time. The function is currently in the following state: Pending"
        )
    );
    let tagging = aws.lambda.tag_resource().resource("arn:aws:lambda:us-east-1:000000000000:function:f");
    assert!(tagging.tags("a", "b").send().await.unwrap_err().into_service_error().is_resource_conflict_exception());
    let update = aws.lambda.update_function_configuration().function_name("f").timeout(9).send().await.unwrap_err();
    assert!(update.into_service_error().is_resource_conflict_exception());
    let got = aws.lambda.get_function_configuration().function_name("f").send().await.unwrap();
    assert_eq!((got.state, got.state_reason_code), (Some(State::Pending), Some(StateReasonCode::Creating)));
    aws.lambda.delete_function().function_name("f").send().await.unwrap();
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn a_function_can_fail() {
    let mut settings = Settings::instant();
    let fails = StateReason { code: "ImageDeleted".to_owned(), message: "The image was deleted.".to_owned() };
    settings.images.insert("gone:latest".to_owned(), Image { fails: Some(fails), ..Image::default() });
    settings.images.insert("secret:latest".to_owned(), Image { access_denied: true, ..Image::default() });
    let aws = Aws::start(settings).await;
    let image = |name: &str| FunctionCode::builder().image_uri(name).build();
    let created = aws.create("f").code(image("gone")).send().await.unwrap();
    assert_eq!(created.state, Some(State::Pending));
    let got = aws.lambda.get_function_configuration().function_name("f").send().await.unwrap();
    assert_eq!((got.state, got.state_reason_code), (Some(State::Failed), Some(StateReasonCode::ImageDeleted)));
    assert_eq!(got.state_reason.as_deref(), Some("The image was deleted."));
    let invoked = aws.lambda.invoke().function_name("f").send().await.unwrap_err();
    assert!(invoked.into_service_error().is_resource_conflict_exception());
    let denied = aws.create("g").code(image("secret")).send().await.unwrap_err().into_service_error();
    assert!(denied.message().unwrap().contains("does not have permission to access the ECR image"));
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn while_an_update_is_in_progress() {
    let mut settings = Settings::instant();
    settings.timing.update = Span::exactly(FOREVER_MS);
    let aws = Aws::start(settings).await;
    aws.create("f").send().await.unwrap();
    let update = || aws.lambda.update_function_configuration().function_name("f").memory_size(512);
    let stale = update().revision_id("another").send().await.unwrap_err().into_service_error();
    assert!(stale.is_precondition_failed_exception());
    let updated = update().send().await.unwrap();
    assert_eq!(updated.last_update_status, Some(LastUpdateStatus::InProgress));
    let code = aws.lambda.update_function_code().function_name("f").image_uri("host").send().await.unwrap_err();
    let code = code.into_service_error();
    assert!(code.is_resource_conflict_exception());
    assert!(code.message().unwrap().contains("An update is in progress for resource: arn:aws:lambda:"));
    aws.lambda.invoke().function_name("f").send().await.unwrap();
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn pages_of_functions() {
    let aws = Aws::start(Settings::instant()).await;
    for number in 0..60 {
        aws.create(&format!("f{number:02}")).send().await.unwrap();
    }
    let first = aws.lambda.list_functions().send().await.unwrap();
    assert_eq!(first.functions().len(), 50);
    let configuration = first.functions().first().unwrap();
    assert_eq!((configuration.function_name(), configuration.state()), (Some("f00"), None));
    let second = aws.lambda.list_functions().set_marker(first.next_marker).send().await.unwrap();
    assert_eq!((second.functions().len(), second.next_marker()), (10, None));

    let (mut names, mut marker) = (Vec::new(), None);
    loop {
        let page = aws.lambda.list_functions().max_items(7).set_marker(marker).send().await.unwrap();
        names.extend(page.functions().iter().filter_map(|f| f.function_name.clone()));
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(names, (0..60).map(|number| format!("f{number:02}")).collect::<Vec<_>>());
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn updates_and_tags_and_retries_of_events() {
    let mut settings = Settings::instant();
    settings.images.insert("other:2".to_owned(), Image::default());
    let aws = Aws::start(settings).await;
    aws.create("f").tags("a", "1").send().await.unwrap();
    let updated =
        aws.lambda.update_function_configuration().function_name("f").timeout(9).memory_size(512).send().await.unwrap();
    let code = aws.lambda.update_function_code().function_name("f").image_uri("other:2").send().await.unwrap();
    assert_ne!(code.revision_id, updated.revision_id);
    assert_eq!((code.timeout, code.memory_size), (Some(9), Some(512)));
    let arn = code.function_arn.unwrap();
    aws.lambda.tag_resource().resource(&arn).tags("b", "2").send().await.unwrap();
    aws.lambda.untag_resource().resource(&arn).tag_keys("a").send().await.unwrap();
    let tags = aws.lambda.list_tags().resource(&arn).send().await.unwrap();
    assert_eq!(tags.tags.unwrap(), HashMap::from([("b".to_owned(), "2".to_owned())]));

    let config = || aws.lambda.get_function_event_invoke_config().function_name("f").send();
    assert!(config().await.unwrap_err().into_service_error().is_resource_not_found_exception());
    let put = aws.lambda.put_function_event_invoke_config().function_name("f");
    put.clone().maximum_retry_attempts(0).maximum_event_age_in_seconds(60).send().await.unwrap();
    let got = config().await.unwrap();
    assert_eq!((got.maximum_retry_attempts, got.maximum_event_age_in_seconds), (Some(0), Some(60)));
    assert!(got.last_modified.is_some());
    assert!(put.maximum_event_age_in_seconds(59).send().await.is_err());
    aws.lambda.delete_function_event_invoke_config().function_name("f").send().await.unwrap();
    assert!(config().await.is_err());
    aws.sandbox.stop().await;
}
