//! `--reconcile-once --dry-run`: what it tells, and that it changes nothing.

use std::collections::BTreeMap;

use serde_json::Value;
use sockerless_sandbox::model::Operation;

use crate::docker::{create, remove, start};
use crate::once::{killed_while_running, pass, pass_output, wishes};
use crate::support::{Aws, Home, until};

/// The calls that may have changed something.
fn mutating(aws: &Aws) -> BTreeMap<String, u64> {
    let mut calls = aws.calls();
    calls.retain(|name, _| Operation::parse(name).unwrap().mutates());
    calls
}

/// The actions of a plan, with the names of their containers.
fn actions(summary: &Value) -> Vec<(String, String)> {
    let text = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    let plan = summary["plan"].as_array().unwrap();
    let mut actions: Vec<_> = plan.iter().map(|step| (text(step, "action"), text(step, "name"))).collect();
    actions.sort();
    actions
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(action, name)| ((*action).to_owned(), (*name).to_owned())).collect()
}

/// All that a pass can have to do, at once: the plan names it, the same plan comes again, and nothing was changed.
#[tokio::test]
async fn the_plan_names_everything_and_changes_nothing() {
    let home = Home::new();
    let aws = Aws::start(&home);
    wishes(&home, async |docker| {
        create(docker, "drifts", "true", &[]).await;
        create(docker, "goes", "true", &[]).await;
        create(docker, "is-kept", "true", &[("sockerless.lambda.deletion-policy", "retain")]).await;
    })
    .await;
    assert_eq!(pass(&home, &aws, &[]).1["created"], 3);
    let gate = killed_while_running(&home, &aws, "RequestResponse").await;
    std::fs::write(&gate, "").unwrap();
    for function in aws.functions() {
        aws.change_function(&function, "{\"Timeout\":5}").await;
    }
    wishes(&home, async |docker| {
        remove(docker, "goes").await;
        remove(docker, "is-kept").await;
        create(docker, "comes", "true", &[]).await;
        create(docker, "never-was", "true", &[]).await;
        remove(docker, "never-was").await;
    })
    .await;
    until("the log has the end of the run", async || {
        actions(&pass(&home, &aws, &["--dry-run"]).1).iter().any(|(action, _)| action == "Settle").then_some(())
    })
    .await;

    let before = mutating(&aws);
    let (status, plan) = pass(&home, &aws, &["--dry-run"]);
    let expected = [
        ("CreateFunction", "comes"),
        ("DeleteFunction", "goes"),
        ("Forget", "never-was"),
        ("Settle", "job"),
        ("UntagResource", "is-kept"),
        ("UpdateFunction", "drifts"),
        ("UpdateFunction", "job"),
    ];
    assert_eq!((status, actions(&plan)), (2, pairs(&expected)));
    assert_eq!(plan["left"], 7);
    assert_eq!(actions(&pass(&home, &aws, &["--dry-run"]).1), actions(&plan), "the store is as it was");
    assert_eq!(mutating(&aws), before, "AWS is as it was");

    let (status, done) = pass(&home, &aws, &[]);
    assert_eq!(status, 0);
    for number in ["created", "updated", "invoked", "settled", "deleted", "released", "retried"] {
        assert_eq!(done[number], plan[number], "{number}: the pass does what the plan says");
    }
    let (status, plan) = pass(&home, &aws, &["--dry-run"]);
    assert_eq!((status, actions(&plan)), (0, Vec::new()));
}

#[tokio::test]
async fn each_action_is_a_line_with_its_reason() {
    let home = Home::new();
    let aws = Aws::start(&home);
    wishes(&home, async |docker| {
        create(docker, "job", "true", &[]).await;
    })
    .await;
    let output = pass_output(&home, &aws.endpoint, &["--dry-run", "--log-retention-days", "7"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(lines[0], "CreateLogGroup /sockerless/lambda: the log group is missing");
    assert_eq!(lines[1], "PutRetentionPolicy /sockerless/lambda: its log events are to be kept for 7 days");
    assert_eq!(lines[2], "CreateLogGroup /sockerless/lambda-claims: the log group is missing");
    assert!(lines[3].starts_with("CreateFunction skls-") && lines[3].contains(" (container job, "), "{text}");
    assert!(lines[3].ends_with(": the container has no function"), "{text}");
    assert!(lines[4].starts_with("dry run, nothing was changed"), "{text}");
    assert!(lines[4].contains("created 1, ") && lines[4].contains(" left 4; "), "{text}");
    assert_eq!(lines.len(), 5);
    assert_eq!(mutating(&aws), BTreeMap::new());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn an_invocation_is_planned_only_with_start() {
    let home = Home::new();
    let aws = Aws::start(&home);
    wishes(&home, async |docker| {
        for name in ["one", "two"] {
            create(docker, name, "true", &[]).await;
            start(docker, name).await;
        }
    })
    .await;
    assert_eq!(pass(&home, &aws, &[]).0, 2);
    let (status, plan) = pass(&home, &aws, &["--dry-run"]);
    assert_eq!((status, actions(&plan)), (2, pairs(&[("Wait", "one"), ("Wait", "two")])));
    let (status, plan) = pass(&home, &aws, &["--dry-run", "--start"]);
    assert_eq!((status, actions(&plan)), (2, pairs(&[("Invoke", "one"), ("Invoke", "two")])));
    let (_, plan) = pass(&home, &aws, &["--dry-run", "--start", "--max-running", "1"]);
    let planned: Vec<String> = actions(&plan).into_iter().map(|(action, _)| action).collect();
    assert_eq!(planned, ["Invoke", "Wait"], "{plan}");
    assert!(!aws.calls().contains_key("Invoke"));
}

#[tokio::test]
async fn without_a_database_there_is_no_plan() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let output = pass_output(&home, &aws.endpoint, &["--dry-run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not exist"), "{output:?}");
    assert!(!home.database().exists());
    assert_eq!(aws.calls(), BTreeMap::new());
}

/// More functions than one pass looks at are called like ours and must be kept, as those of containers that were removed with
/// `retain`. Each has its turn, whichever process looks at it, and then they are no work any more.
#[tokio::test]
async fn orphans_that_are_kept_are_no_work_and_the_plan_is_what_the_pass_does_about_them() {
    const KEPT: u64 = 120;
    let home = Home::new();
    let aws = Aws::start(&home);
    wishes(&home, async |docker| {
        create(docker, "job", "true", &[]).await;
    })
    .await;
    assert_eq!(pass(&home, &aws, &[]).0, 0);
    let instance = aws.functions()[0].split('-').nth(1).unwrap().to_owned();
    for n in 0..KEPT {
        aws.create_function(&format!("skls-{instance}-{n:024x}"), "").await;
    }
    let digits = "f".repeat(64);
    let tags = format!(
        "\"sockerless.instance\":\"{instance}\",\"sockerless.container\":\"{digits}\",\"sockerless.created\":\"1\""
    );
    aws.create_function(&format!("skls-{instance}-{}", &digits[..24]), &tags).await;

    let (mut outcomes, mut deleted) = (Vec::new(), 0);
    for turn in 1..=3 {
        // The functions above were made by the quota that listing them needs, and a dry run lists them once.
        let (planned, plan) = until("nothing is throttled any more", async || {
            let (planned, plan) = pass(&home, &aws, &["--gc-grace", "0s", "--dry-run"]);
            let is_throttled = plan["errors"].to_string().contains("Rate exceeded");
            assert_eq!(planned == 1, is_throttled, "{plan}");
            (!is_throttled).then_some((planned, plan))
        })
        .await;
        let (status, done) = pass(&home, &aws, &["--gc-grace", "0s"]);
        for number in ["deleted", "orphans_kept", "orphans_waiting"] {
            assert_eq!(plan[number], done[number], "{number} of turn {turn}");
        }
        assert_eq!(plan["left_work"], done["left_work"], "turn {turn}");
        let finds = plan["plan"].as_array().unwrap().len() + plan["left_work"].as_array().unwrap().len();
        assert_eq!(planned, if finds > 0 { 2 } else { 0 }, "{plan}");
        deleted += done["deleted"].as_u64().unwrap();
        outcomes.push((status, done["orphans_waiting"].as_u64().unwrap()));
    }
    assert_eq!(outcomes, [(0, KEPT + 1), (2, 0), (0, 0)], "noted, 100 looked at, then all the others");
    assert_eq!(deleted, 1);
    let (status, done) = pass(&home, &aws, &["--gc-grace", "0s"]);
    assert_eq!((status, &done["orphans_kept"]), (0, &KEPT.into()));
}
