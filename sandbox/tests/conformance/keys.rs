//! Authentication of callers.

use std::time::Duration;

use aws_sdk_cloudwatchlogs::error::ProvideErrorMetadata as _;
use sockerless_sandbox::settings::Settings;
use sockerless_sandbox::{Credentials, Options, Programs};

use crate::admin::send;
use crate::{Aws, by_payload, clients_with};

fn options() -> Options {
    let credentials = Credentials { access_key_id: "AKIAGOOD".to_owned(), secret_access_key: "good secret".to_owned() };
    Options { credentials: Some(credentials), ..Options::new(Settings::instant(), Programs::scripted(by_payload)) }
}

#[tokio::test]
async fn sandbox_call_with_another_key_is_refused() {
    let aws = Aws::with(options()).await;
    for (key, secret, code, message) in [
        (
            "AKIABAD",
            "good secret",
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        ("AKIAGOOD", "bad secret", "InvalidSignatureException", "The request signature we calculated does not match"),
    ] {
        let (lambda, logs) = clients_with(&aws.sandbox.endpoint(), key, secret);
        let refused = lambda.list_functions().send().await.unwrap_err();
        assert_eq!(refused.raw_response().unwrap().status().as_u16(), 403);
        let refused = refused.into_service_error();
        assert_eq!(refused.code(), Some(code));
        assert!(refused.message().unwrap().starts_with(message), "{refused:?}");
        let refused = logs.describe_log_groups().send().await.unwrap_err();
        assert_eq!(refused.raw_response().unwrap().status().as_u16(), 400);
        assert_eq!(refused.into_service_error().code(), Some(code));
    }
    assert_eq!(aws.sandbox.state().calls.len(), 0, "nothing has reached the model");
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn sandbox_call_with_its_key_is_taken_whatever_its_path_and_query_hold() {
    let mut aws = Aws::with(options()).await;
    (aws.lambda, aws.logs) = clients_with(&aws.sandbox.endpoint(), "AKIAGOOD", "good secret");
    aws.create("f").tags("a/key", "ä/+ =").send().await.unwrap();
    let arn =
        aws.lambda.get_function().function_name("f").send().await.unwrap().configuration.unwrap().function_arn.unwrap();
    // The ARN is escaped in the path, the keys in the query.
    aws.lambda.tag_resource().resource(&arn).tags("b+c d", "ä").send().await.unwrap();
    let untagged =
        aws.lambda.untag_resource().resource(&arn).tag_keys("b+c d").tag_keys("a/key").tag_keys("ä:=@x").send();
    untagged.await.unwrap();
    assert!(aws.lambda.get_function().function_name(&arn).send().await.unwrap().tags.unwrap_or_default().is_empty());
    let page = aws.lambda.list_functions().max_items(1).send().await.unwrap();
    assert_eq!(page.functions.unwrap().len(), 1);
    aws.lambda.invoke().function_name("f").payload(aws_sdk_lambda::primitives::Blob::new("{}")).send().await.unwrap();
    aws.logs.describe_log_groups().log_group_name_prefix("/sock").send().await.unwrap();
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn sandbox_path_without_the_secret_is_refused() {
    let aws = Aws::with(Options { alone_limit: Some(Duration::from_secs(3600)), ..options() }).await;
    let ask = |method: &str, path: &str, authorization: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}Content-Length: 2\r\n\r\n{{}}"
        )
    };
    let paths = [
        ("GET", "/_sandbox/identity"),
        ("GET", "/_sandbox/state"),
        ("GET", "/_sandbox/images"),
        ("POST", "/_sandbox/images"),
        ("GET", "/_sandbox/calls"),
        ("POST", "/_sandbox/faults"),
        ("POST", "/_sandbox/stop"),
        ("GET", "/_sandbox/attend"),
        ("GET", "/_sandbox/nothing"),
        ("GET", "/2015-03-31/functions"),
        ("POST", "/2015-03-31/functions"),
        ("POST", "/2015-03-31/functions/f/invocations"),
        ("GET", "/"),
        ("GET", "/anything"),
    ];
    for (method, path) in paths {
        for authorization in [
            "",
            "Authorization: Bearer wrong\r\n",
            "Authorization: Bearer \r\n",
            "Authorization: Bearer AKIAGOOD\r\n",
            "Authorization: AWS4-HMAC-SHA256 Credential=AKIAGOOD/20260101/us-east-1/lambda/aws4_request\r\n",
        ] {
            let answer = send(&aws, ask(method, path, authorization).as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{path} {authorization}: {answer}");
            assert!(!answer.contains("good secret"), "{answer}");
        }
    }
    let authorization = "Authorization: Bearer good secret\r\n";
    for (path, expected) in [("/_sandbox/state", "\"functions\":[]"), ("/2015-03-31/functions", "\"Functions\":[]")] {
        let answer = send(&aws, ask("GET", path, authorization).as_bytes()).await;
        assert!(answer.contains(expected), "{answer}");
    }
    aws.sandbox.stop().await;
}
