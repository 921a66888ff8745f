use std::collections::BTreeMap;

use serde_json::json;
use sockerless_lambda::aws::{FunctionShape, NewFunction};

use crate::server::{Server, answer};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn bare() -> FunctionShape {
    FunctionShape {
        image_uri: Some("1.dkr.ecr.eu-west-1.amazonaws.com/app:1".to_owned()),
        role_arn: "arn:aws:iam::1:role/r".to_owned(),
        memory_mb: 512,
        timeout_s: 60,
        ephemeral_storage_mb: 1_024,
        architecture: "arm64".to_owned(),
        entrypoint: Vec::new(),
        command: Vec::new(),
        working_dir: None,
        environment: BTreeMap::new(),
        subnet_ids: Vec::new(),
        security_group_ids: Vec::new(),
        log_group: "/sockerless".to_owned(),
    }
}

fn full() -> FunctionShape {
    FunctionShape {
        entrypoint: list(&["/bin/sh", "-c"]),
        command: list(&["echo hello"]),
        working_dir: Some("/srv".to_owned()),
        environment: map(&[("AA", "1"), ("BB", "zwei")]),
        subnet_ids: list(&["subnet-1", "subnet-2"]),
        security_group_ids: list(&["sg-1"]),
        ..bare()
    }
}

/// As AWS describes the full shape.
fn configuration() -> serde_json::Value {
    json!({
        "FunctionName": "f",
        "FunctionArn": "arn:aws:lambda:eu-west-1:1:function:f",
        "Role": "arn:aws:iam::1:role/r",
        "CodeSize": 0,
        "Description": "a sentence",
        "Timeout": 60,
        "MemorySize": 512,
        "LastModified": "2026-11-23T01:13:12.190+0000",
        "VpcConfig": { "SubnetIds": ["subnet-2", "subnet-1"], "SecurityGroupIds": ["sg-1"], "VpcId": "vpc-1" },
        "Environment": { "Variables": { "BB": "zwei", "AA": "1" } },
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
        "LastUpdateStatus": "InProgress",
        "PackageType": "Image",
        "ImageConfigResponse": {
            "ImageConfig": { "EntryPoint": ["/bin/sh", "-c"], "Command": ["echo hello"], "WorkingDirectory": "/srv" }
        },
        "Architectures": ["arm64"],
        "EphemeralStorage": { "Size": 1024 },
        "LoggingConfig": { "LogFormat": "Text", "LogGroup": "/sockerless" },
    })
}

fn new(shape: FunctionShape) -> NewFunction {
    NewFunction {
        name: "f".to_owned(),
        description: "a sentence".to_owned(),
        shape,
        tags: map(&[("sockerless:instance", "i1")]),
    }
}

#[tokio::test]
async fn create_function_says_everything_and_reads_everything() {
    let server = Server::start([answer(201, configuration())]).await;
    let description = server.cloud().await.create_function(&new(full())).await.unwrap();

    assert_eq!(server.asked(), ["POST /2015-03-31/functions"]);
    let expected = json!({
        "FunctionName": "f",
        "Description": "a sentence",
        "PackageType": "Image",
        "Code": { "ImageUri": "1.dkr.ecr.eu-west-1.amazonaws.com/app:1" },
        "Role": "arn:aws:iam::1:role/r",
        "MemorySize": 512,
        "Timeout": 60,
        "EphemeralStorage": { "Size": 1024 },
        "Architectures": ["arm64"],
        "ImageConfig": { "EntryPoint": ["/bin/sh", "-c"], "Command": ["echo hello"], "WorkingDirectory": "/srv" },
        "Environment": { "Variables": { "AA": "1", "BB": "zwei" } },
        "VpcConfig": { "SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"] },
        "LoggingConfig": { "LogFormat": "Text", "LogGroup": "/sockerless" },
        "Tags": { "sockerless:instance": "i1" },
        "Publish": false,
    });
    assert_eq!(server.request().json(), expected);

    assert_eq!(description.shape, FunctionShape { image_uri: None, ..full() }, "VPC ids sorted");
    assert_eq!(description.arn, "arn:aws:lambda:eu-west-1:1:function:f");
    assert_eq!((description.state.as_str(), description.updating), ("Pending", true));
    assert_eq!(description.state_reason_code.as_deref(), Some("Creating"));
    assert_eq!(description.state_reason.as_deref(), Some("The function is being created."));
    assert_eq!(description.last_modified, "2026-11-23T01:13:12.190+0000");
    assert_eq!(description.tags, None);
}

#[tokio::test]
async fn update_that_failed_is_told_with_its_reason() {
    let mut failed = configuration();
    failed["State"] = json!("Active");
    failed["LastUpdateStatus"] = json!("Failed");
    failed["LastUpdateStatusReasonCode"] = json!("SubnetOutOfIPAddresses");
    failed["LastUpdateStatusReason"] = json!("no address is left");
    let server = Server::start([answer(200, failed)]).await;
    let description = server.cloud().await.update_function_configuration("f", &bare()).await.unwrap();
    let update = description.failed_update.unwrap();
    assert_eq!(update.code.as_deref(), Some("SubnetOutOfIPAddresses"));
    assert_eq!(update.reason.as_deref(), Some("no address is left"));
    assert!(!description.updating);
}

#[tokio::test]
async fn create_function_leaves_out_what_is_empty() {
    let server = Server::start([answer(201, json!({ "FunctionName": "f" }))]).await;
    server.cloud().await.create_function(&new(bare())).await.unwrap();
    let body = server.request().json();
    for absent in ["ImageConfig", "Environment", "VpcConfig", "Runtime", "Handler"] {
        assert_eq!(body.get(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn updating_resets_what_is_empty() {
    let server = Server::start([answer(200, configuration()), answer(200, configuration())]).await;
    let cloud = server.cloud().await;
    cloud.update_function_configuration("f", &bare()).await.unwrap();
    let description = cloud.update_function_configuration("f", &full()).await.unwrap();
    assert!(description.updating);

    assert_eq!(server.asked(), ["PUT /2015-03-31/functions/f/configuration"; 2]);
    let expected = json!({
        "Role": "arn:aws:iam::1:role/r",
        "MemorySize": 512,
        "Timeout": 60,
        "EphemeralStorage": { "Size": 1024 },
        "ImageConfig": {},
        "Environment": { "Variables": {} },
        "VpcConfig": { "SubnetIds": [], "SecurityGroupIds": [] },
        "LoggingConfig": { "LogFormat": "Text", "LogGroup": "/sockerless" },
    });
    let [reset, set] = <[_; 2]>::try_from(server.requests()).unwrap();
    assert_eq!(reset.json(), expected);
    assert_eq!(set.json()["ImageConfig"]["Command"], json!(["echo hello"]));
}

#[tokio::test]
async fn update_function_code_names_image_and_architecture() {
    let server = Server::start([answer(200, configuration())]).await;
    server.cloud().await.update_function_code("f", "app:2", "x86_64").await.unwrap();
    assert_eq!(server.asked(), ["PUT /2015-03-31/functions/f/code"]);
    assert_eq!(server.request().json(), json!({ "ImageUri": "app:2", "Architectures": ["x86_64"], "Publish": false }));
}

#[tokio::test]
async fn get_function_tells_image_and_tags() {
    let code = json!({ "ImageUri": "app:1", "ResolvedImageUri": "app@sha256:1" });
    let server = Server::start([
        answer(200, json!({ "Configuration": configuration(), "Code": code, "Tags": { "a": "b" } })),
        answer(200, json!({ "Configuration": configuration(), "Code": code })),
        answer(
            200,
            json!({ "Configuration": { "FunctionName": "f" },
                    "TagsError": { "ErrorCode": "AccessDenied", "Message": "no lambda:ListTags" } }),
        ),
        answer(200, json!({})).with("x-amzn-requestid", "r-4"),
    ])
    .await;
    let cloud = server.cloud().await;

    let description = cloud.get_function("f").await.unwrap();
    assert_eq!(description.shape.image_uri.as_deref(), Some("app:1"));
    assert_eq!(description.resolved_image_uri.as_deref(), Some("app@sha256:1"));
    assert_eq!(description.tags, Some(map(&[("a", "b")])));

    assert_eq!(cloud.get_function("f").await.unwrap().tags, Some(BTreeMap::new()), "none, and we know it");

    let description = cloud.get_function("f").await.unwrap();
    assert_eq!(description.tags, None, "we may not know them");
    assert_eq!(description.shape.log_group, "/aws/lambda/f");
    assert_eq!(description.shape.architecture, "x86_64");

    let error = cloud.get_function("f").await.unwrap_err();
    assert_eq!(error.to_string(), "lambda: get function: the answer has no configuration");
    assert_eq!(error.request_id.as_deref(), Some("r-4"));
    assert_eq!(server.asked(), ["GET /2015-03-31/functions/f"; 4]);
}

#[tokio::test]
async fn list_functions_page_by_page() {
    let server = Server::start([
        answer(200, json!({ "Functions": [configuration()], "NextMarker": "m 1" })),
        answer(200, json!({ "Functions": [], "NextMarker": null })),
    ])
    .await;
    let cloud = server.cloud().await;
    let page = cloud.list_functions(None).await.unwrap();
    assert_eq!((page.functions.len(), page.next_marker.as_deref()), (1, Some("m 1")));
    let page = cloud.list_functions(page.next_marker).await.unwrap();
    assert_eq!((page.functions.len(), page.next_marker), (0, None));
    let asked = ["GET /2015-03-31/functions?MaxItems=50", "GET /2015-03-31/functions?Marker=m%201&MaxItems=50"];
    assert_eq!(server.asked(), asked);
}

#[tokio::test]
async fn the_small_calls() {
    let server = Server::start([
        answer(200, json!({ "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60 })),
        answer(204, ""),
        answer(204, ""),
    ])
    .await;
    let cloud = server.cloud().await;
    cloud.put_event_invoke_config("f", 60).await.unwrap();
    cloud.untag("arn:aws:lambda:eu-west-1:1:function:f", &["a:b", "c"]).await.unwrap();
    cloud.delete_function("f").await.unwrap();
    let asked = [
        "PUT /2019-09-25/functions/f/event-invoke-config",
        "DELETE /2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-west-1%3A1%3Afunction%3Af?tagKeys=a%3Ab&tagKeys=c",
        "DELETE /2015-03-31/functions/f",
    ];
    assert_eq!(server.asked(), asked);
    let expected = json!({ "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60 });
    assert_eq!(server.requests()[0].json(), expected);
}
