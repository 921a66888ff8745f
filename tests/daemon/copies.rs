//! Copies of a database that is in use, and claims that somebody has deleted.

use serde_json::json;

use crate::docker::{create, start, wait};
use crate::support::{Account, Aws, Home, authorization, exchange, lines, until};

const GROUP: &str = "/sockerless/lambda";

/// A call of CloudWatch Logs by hand.
fn logs(aws: &Aws, operation: &str, body: &serde_json::Value) -> String {
    let authorization = authorization(&aws.endpoint);
    let headers = format!(
        "{authorization}X-Amz-Target: Logs_20140328.{operation}\r\nContent-Type: application/x-amz-json-1.1\r\n"
    );
    let (status, answer) = exchange(&aws.endpoint, "POST", "/", &headers, &body.to_string()).unwrap();
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

/// Whether the claim of an epoch is in AWS.
fn is_claimed(aws: &Aws, epoch: u64) -> bool {
    let streams = logs(aws, "DescribeLogStreams", &json!({ "logGroupName": GROUP }));
    streams.contains(&format!("/{epoch}\""))
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
    assert!(is_claimed(&aws, 3));

    logs(&aws, "DeleteLogGroup", &json!({ "logGroupName": GROUP }));
    until("the claim is made again", async || (aws.calls()["CreateLogStream"] == 4).then_some(())).await;
    assert!(is_claimed(&aws, 3));
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
