//! Copies of a database that is in use, and claims that somebody has deleted.

use serde_json::json;

use crate::docker::{create, start, wait};
use crate::support::{Account, Aws, Home, authorization, exchange, lines, until};

const GROUP: &str = "/sockerless/lambda";
const CLAIMS: &str = "/sockerless/lambda-claims";

/// A call of CloudWatch Logs beside the daemon, repeated while the quota refuses it. A log group that is missing has no streams.
async fn logs(aws: &Aws, operation: &str, body: &serde_json::Value) -> String {
    let authorization = authorization(&aws.endpoint);
    let headers = format!(
        "{authorization}X-Amz-Target: Logs_20140328.{operation}\r\nContent-Type: application/x-amz-json-1.1\r\n"
    );
    until(operation, async || {
        let (status, answer) = exchange(&aws.endpoint, "POST", "/", &headers, &body.to_string()).unwrap();
        let is_throttled = answer.contains("ThrottlingException");
        let is_missing = operation == "DescribeLogStreams" && answer.contains("ResourceNotFoundException");
        assert!(status == 200 || is_throttled || is_missing, "{operation}: {answer}");
        (!is_throttled).then_some(answer)
    })
    .await
}

/// Whether the claim of an epoch is in AWS.
async fn is_claimed(aws: &Aws, epoch: u64) -> bool {
    let streams = logs(aws, "DescribeLogStreams", &json!({ "logGroupName": CLAIMS })).await;
    streams.contains(&format!("/{epoch:020}\""))
}

/// Whether the claim of an epoch is in AWS, among any number of other streams.
async fn is_claimed_beside(aws: &Aws, id: &str, epoch: u64) -> bool {
    let prefix = format!("{id}/{epoch:020}");
    let query = json!({ "logGroupName": CLAIMS, "logStreamNamePrefix": prefix });
    logs(aws, "DescribeLogStreams", &query).await.contains(&prefix)
}

/// The id of the only instance that has claimed a database.
async fn instance(aws: &Aws) -> String {
    let streams = logs(aws, "DescribeLogStreams", &json!({ "logGroupName": CLAIMS })).await;
    let (_, name) = streams.split_once("\"logStreamName\":\"").unwrap();
    name.split('/').next().unwrap().to_owned()
}

async fn create_stream(aws: &Aws, group: &str, name: &str) {
    logs(aws, "CreateLogStream", &json!({ "logGroupName": group, "logStreamName": name })).await;
}

/// Two sweeps from now on.
async fn until_swept(aws: &Aws) {
    let lists = || aws.calls().get("ListFunctions").copied().unwrap_or(0);
    let before = lists();
    until("it has swept", async || (lists() >= before + 2).then_some(())).await;
}

fn copy(from: &Home, ends: &[&str]) -> Home {
    let home = Home::new();
    std::fs::create_dir_all(home.directory()).unwrap();
    for end in ends {
        let beside = |home: &Home| format!("{}{end}", home.database().display());
        std::fs::copy(beside(from), beside(&home)).unwrap();
    }
    home
}

/// Database, log and mark are copied from under a live daemon, which does not look at its claim for a while.
#[tokio::test]
async fn a_copy_of_a_live_database_runs_nothing_beside_it() {
    let home = Home::new();
    let (aws, ran, gate) = (Aws::start(&home), home.shared("ran"), home.shared("gate"));
    let account = Account::serving(&home, &aws, &["--max-running", "1", "--gc-interval", "1h"]).await;
    let docker = account.docker();
    create(&docker, "first", &format!("until [ -e {} ]; do sleep 0.05; done", gate.display()), &[]).await;
    create(&docker, "second", &format!("echo ran >> {}", ran.display()), &[]).await;
    start(&docker, "first").await;
    until("it is invoked", async || aws.calls().contains_key("Invoke").then_some(())).await;
    start(&docker, "second").await;

    let copy = copy(&home, &["", "-wal", ".mark"]);
    let other = Account::start(&copy, &aws.endpoint, "sandbox", &[]);
    let reason = other.until_problem("ownership").await;
    assert!(reason.contains("a copy of a database that its daemon has not closed"), "{reason}");
    std::fs::write(&gate, "").unwrap();
    assert_eq!((wait(&docker, "first").await, wait(&docker, "second").await), (0, 0));
    assert_eq!((lines(&ran), aws.calls()["Invoke"]), (1, 2));
    assert_eq!(account.ready().unwrap().0, 200, "the original goes on");
    other.stop();
    account.stop();
}

/// Without its claim in AWS, a daemon could not be told from an older copy of its database.
#[tokio::test]
async fn a_claim_that_was_deleted_is_made_again_and_an_older_copy_gives_way() {
    let home = Home::new();
    let aws = Aws::start(&home);
    Account::serving(&home, &aws, &[]).await.stop();
    let older = copy(&home, &[""]);
    Account::serving(&home, &aws, &[]).await.stop();
    let account = Account::serving(&home, &aws, &["--gc-interval", "1s"]).await;
    assert!(is_claimed(&aws, 3).await);

    logs(&aws, "DeleteLogGroup", &json!({ "logGroupName": CLAIMS })).await;
    until("the claim is made again", async || is_claimed(&aws, 3).await.then_some(())).await;
    let other = Account::start(&older, &aws.endpoint, "sandbox", &[]);
    let reason = other.until_problem("ownership").await;
    assert!(reason.contains("epoch 3"), "{reason}");
    assert_eq!(account.ready().unwrap().0, 200);
    create(&account.docker(), "job", "exit 5", &[]).await;
    start(&account.docker(), "job").await;
    assert_eq!(wait(&account.docker(), "job").await, 5);
    other.stop();
    account.stop();
}

/// A container knows the instance from its function's name, and its role may create streams in the group of its output.
#[tokio::test]
async fn claims_forged_by_a_function_are_not_seen() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &["--gc-interval", "1s"]).await;
    let id = instance(&aws).await;
    for epoch in ["9999", "00000000000000009999", "18446744073709551615"] {
        create_stream(&aws, GROUP, &format!("{id}/{epoch}")).await;
    }
    until_swept(&aws).await;
    assert_eq!(account.ready().unwrap().0, 200, "{:?}", account.ready());
    account.stop();
    let account = Account::serving(&home, &aws, &[]).await;
    create(&account.docker(), "job", "exit 5", &[]).await;
    start(&account.docker(), "job").await;
    assert_eq!(wait(&account.docker(), "job").await, 5);
    account.stop();
}

/// A principal with rights on the claims group has forged more claims than a page holds.
#[tokio::test]
async fn claims_that_no_daemon_can_have_made_are_an_alarm_and_work_goes_on() {
    let home = Home::new();
    let aws = Aws::start(&home);
    Account::serving(&home, &aws, &[]).await.stop();
    let older = copy(&home, &[""]);
    let account = Account::serving(&home, &aws, &["--gc-interval", "1s"]).await;
    let id = instance(&aws).await;
    let forged: Vec<String> = (0..60).map(|n| format!("{id}/{}", u64::MAX - n)).collect();
    for name in &forged {
        create_stream(&aws, CLAIMS, name).await;
    }

    let reason = account.until_problem("claims").await;
    assert!(reason.contains(&format!("{id}/18446744073709551615")) && !reason.contains("ownership"), "{reason}");
    let counted = async || account.metrics().contains("sockerless_forged_claims 50").then_some(());
    until("a whole page of them is counted", counted).await;
    until_swept(&aws).await;
    create(&account.docker(), "job", "exit 5", &[]).await;
    start(&account.docker(), "job").await;
    assert_eq!(wait(&account.docker(), "job").await, 5, "nothing is taken away");
    account.stop();

    let account = Account::start(&home, &aws.endpoint, "sandbox", &["--gc-interval", "1s"]);
    account.until_problem("claims").await;
    until("the next start claims the next epoch", async || is_claimed_beside(&aws, &id, 3).await.then_some(())).await;
    let other = Account::start(&older, &aws.endpoint, "sandbox", &[]);
    let reason = other.until_problem("ownership").await;
    assert!(reason.contains("epoch 3"), "an older copy finds the real claim: {reason}");
    other.stop();

    for name in forged {
        logs(&aws, "DeleteLogStream", &json!({ "logGroupName": CLAIMS, "logStreamName": name })).await;
    }
    account.until_ready().await;
    account.stop();
}
