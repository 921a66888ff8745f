//! `--reconcile-once`: every exit status and every number of the summary, with the real binary.

use std::process::{Output, Stdio};

use bollard::query_parameters::RemoveContainerOptions;
use serde_json::{Value, json};

use crate::docker::{create, inspect, remove, start, wait};
use crate::support::{Account, Aws, Home, free_address, lines, terminate, until};

/// A pass as a machine reads it: its exit status and its summary.
pub(crate) fn pass(home: &Home, aws: &Aws, args: &[&str]) -> (i32, Value) {
    let args = [&["--output", "json"], args].concat();
    let output = pass_output(home, &aws.endpoint, &args);
    (output.status.code().unwrap(), summary(&output))
}

pub(crate) fn pass_output(home: &Home, endpoint: &str, args: &[&str]) -> Output {
    home.account_command(endpoint, "sandbox").arg("--reconcile-once").args(args).output().unwrap()
}

pub(crate) fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text:?}, {}", String::from_utf8_lossy(&output.stderr)))
}

/// The numbers that are not zero, but for those that every pass has.
fn numbers(summary: &Value) -> Value {
    let numbers = summary.as_object().unwrap().iter().filter(|(key, value)| {
        value.as_u64().is_some_and(|number| number > 0) && !["aws_calls", "seconds"].contains(&key.as_str())
    });
    Value::Object(numbers.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// A database whose wishes nobody has carried out: its daemon never reached AWS.
pub(crate) async fn wishes(home: &Home, wish: impl AsyncFnOnce(&bollard::Docker)) {
    let nowhere = format!("http://{}", free_address());
    let account = Account::start(home, &nowhere, "sandbox", &["--drain-timeout", "0s"]);
    account.until_problem("aws").await;
    wish(&account.docker()).await;
    account.stop();
}

/// The database of a container that was created, and that no daemon has done anything for.
async fn with_a_job() -> (Home, Aws) {
    let home = Home::new();
    let aws = Aws::start(&home);
    wishes(&home, async |docker| {
        create(docker, "job", "true", &[]).await;
    })
    .await;
    (home, aws)
}

/// A daemon that has seen its container run and is then killed; the run goes on until the gate is there.
pub(crate) async fn killed_while_running(home: &Home, aws: &Aws, kind: &str) -> std::path::PathBuf {
    let (ran, gate) = (home.shared("ran"), home.shared("gate"));
    let script = format!("echo >> {}; until [ -e {} ]; do sleep 0.05; done; exit 7", ran.display(), gate.display());
    let account = Account::serving(home, aws, &[]).await;
    create(&account.docker(), "job", &script, &[("sockerless.lambda.invocation-type", kind)]).await;
    start(&account.docker(), "job").await;
    until("the program runs", async || (lines(&ran) == 1).then_some(())).await;
    account.kill();
    gate
}

#[tokio::test]
async fn with_nothing_to_do_it_has_converged() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let (status, summary) = pass(&home, &aws, &[]);
    assert_eq!((status, &summary["outcome"]), (0, &json!("converged")));
    assert_eq!(numbers(&summary), json!({}));
    assert_eq!(summary["aws_calls"], aws.calls().values().sum::<u64>(), "every call is counted");
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);
    for list in ["plan", "left_work", "errors"] {
        assert_eq!(summary[list], json!([]), "{list} is always there");
    }
}

#[tokio::test]
async fn a_wanted_run_is_invoked_only_when_told_to_start() {
    let home = Home::new();
    let aws = Aws::start(&home);
    wishes(&home, async |docker| {
        create(docker, "idle", "true", &[]).await;
        create(docker, "job", "exit 5", &[]).await;
        start(docker, "job").await;
    })
    .await;
    let (status, summary) = pass(&home, &aws, &[]);
    assert_eq!((status, &summary["outcome"]), (2, &json!("work_left")));
    assert_eq!(numbers(&summary), json!({"created": 2, "left": 1}));
    assert_eq!(summary["left_work"][0]["name"], "job");
    assert!(summary["left_work"][0]["because"].as_str().unwrap().contains("--start"), "{summary}");
    assert!(!aws.calls().contains_key("Invoke"));

    let (status, summary) = pass(&home, &aws, &["--start"]);
    assert_eq!((status, numbers(&summary)), (0, json!({"invoked": 1, "settled": 1})));
    let (status, summary) = pass(&home, &aws, &["--start"]);
    assert_eq!((status, numbers(&summary)), (0, json!({})), "once is enough");
    assert_eq!(aws.calls()["Invoke"], 1);
    let account = Account::serving(&home, &aws, &[]).await;
    assert_eq!(wait(&account.docker(), "job").await, 5);
    account.stop();
}

/// What a pass has left for want of `--start` is not lost on the next daemon.
#[tokio::test]
async fn a_daemon_invokes_what_a_pass_has_left() {
    let home = Home::new();
    let aws = Aws::start(&home);
    wishes(&home, async |docker| {
        create(docker, "job", "exit 5", &[]).await;
        start(docker, "job").await;
    })
    .await;
    assert_eq!(pass(&home, &aws, &[]).0, 2);
    let account = Account::serving(&home, &aws, &[]).await;
    assert_eq!(wait(&account.docker(), "job").await, 5);
    account.stop();
}

#[tokio::test]
async fn runs_that_wait_for_a_slot_are_invoked_one_after_another() {
    let home = Home::new();
    let aws = Aws::start(&home);
    wishes(&home, async |docker| {
        for name in ["one", "two", "three"] {
            create(docker, name, "sleep 0.1", &[]).await;
            start(docker, name).await;
        }
    })
    .await;
    let (status, summary) = pass(&home, &aws, &["--start", "--max-running", "1"]);
    assert_eq!((status, numbers(&summary)), (0, json!({"created": 3, "invoked": 3, "settled": 3})));
}

async fn settles_after_a_death(kind: &str) {
    let home = Home::new();
    let aws = Aws::start(&home);
    let gate = killed_while_running(&home, &aws, kind).await;
    let (status, summary) = pass(&home, &aws, &[]);
    assert_eq!((status, numbers(&summary)), (0, json!({"running": 1})), "a run that goes on is no work");
    std::fs::write(&gate, "").unwrap();
    until("its end is in the log", async || (pass(&home, &aws, &["--dry-run"]).0 == 2).then_some(())).await;
    let (status, summary) = pass(&home, &aws, &[]);
    assert_eq!((status, numbers(&summary)), (0, json!({"settled": 1})));
    let account = Account::serving(&home, &aws, &[]).await;
    assert_eq!(wait(&account.docker(), "job").await, 7);
    account.stop();
    assert_eq!(aws.calls()["Invoke"], 1);
}

#[tokio::test]
async fn a_request_response_run_is_settled_after_a_death() {
    settles_after_a_death("RequestResponse").await;
}

#[tokio::test]
async fn an_event_run_is_settled_after_a_death() {
    settles_after_a_death("Event").await;
}

#[tokio::test]
async fn removed_containers_are_cleaned_up() {
    let home = Home::new();
    let aws = Aws::start(&home);
    wishes(&home, async |docker| {
        create(docker, "job", "true", &[]).await;
        create(docker, "kept", "true", &[("sockerless.lambda.deletion-policy", "retain")]).await;
    })
    .await;
    assert_eq!(numbers(&pass(&home, &aws, &[]).1), json!({"created": 2}));
    wishes(&home, async |docker| {
        remove(docker, "job").await;
        remove(docker, "kept").await;
    })
    .await;
    let (status, summary) = pass(&home, &aws, &[]);
    assert_eq!((status, numbers(&summary)), (0, json!({"deleted": 1, "released": 1})));
    assert_eq!(aws.functions().len(), 1, "the one that is kept");
    assert_eq!(numbers(&pass(&home, &aws, &["--gc-grace", "0s"]).1), json!({"orphans_waiting": 1}));
    let (status, summary) = pass(&home, &aws, &["--gc-grace", "0s"]);
    assert_eq!((status, numbers(&summary)), (0, json!({"orphans_kept": 1})), "it is not ours any more");
}

#[tokio::test]
async fn drift_is_mended() {
    let (home, aws) = with_a_job().await;
    pass(&home, &aws, &[]);
    let path = format!("/2015-03-31/functions/{}", aws.functions()[0]);
    aws.change_function(&aws.functions()[0], "{\"MemorySize\":128}").await;
    let (status, summary) = pass(&home, &aws, &[]);
    assert_eq!((status, numbers(&summary)), (0, json!({"updated": 1})));
    assert!(aws.call("GET", &path, "").1.contains("\"MemorySize\":1024"));
}

/// Sightings are rows: they add up over passes, and only old ones count.
#[tokio::test]
async fn orphans_are_deleted_by_a_later_pass() {
    let (home, aws) = with_a_job().await;
    pass(&home, &aws, &[]);
    let ours = aws.functions().remove(0);
    let instance = ours.split('-').nth(1).unwrap().to_owned();
    let digits = "ab".repeat(32);
    let orphan = format!("skls-{instance}-{}", &digits[..24]);
    let tags =
        format!(r#""sockerless.instance":"{instance}","sockerless.container":"{digits}","sockerless.created":"1""#);
    aws.create_function(&orphan, &tags).await;
    let foreign = format!("skls-9999999999-{}", &digits[..24]);
    aws.create_function(&foreign, r#""sockerless.instance":"9999999999""#).await;

    for _ in 0..2 {
        let (status, summary) = pass(&home, &aws, &["--gc-grace", "1h"]);
        assert_eq!((status, numbers(&summary)), (0, json!({"orphans_waiting": 1})), "the grace is not over");
    }
    let (status, summary) = pass(&home, &aws, &["--gc-grace", "0s", "--dry-run"]);
    assert_eq!((status, numbers(&summary)), (2, json!({"deleted": 1, "left": 1})));
    assert!(aws.functions().contains(&orphan));
    let (status, summary) = pass(&home, &aws, &["--gc-grace", "0s"]);
    assert_eq!((status, numbers(&summary)), (0, json!({"deleted": 1})));
    let mut left = aws.functions();
    left.sort();
    let mut expected = [foreign, ours];
    expected.sort();
    assert_eq!(left, expected);
}

/// One sweep deletes only so many, and those that are kept do not count.
#[tokio::test]
async fn orphans_that_are_kept_do_not_stand_in_the_way() {
    let (home, aws) = with_a_job().await;
    pass(&home, &aws, &[]);
    let instance = aws.functions()[0].split('-').nth(1).unwrap().to_owned();
    for n in 0..51 {
        aws.create_function(&format!("skls-{instance}-{n:024x}"), "").await;
    }
    let digits = "ff".repeat(32);
    let tags =
        format!(r#""sockerless.instance":"{instance}","sockerless.container":"{digits}","sockerless.created":"1""#);
    aws.create_function(&format!("skls-{instance}-{}", &digits[..24]), &tags).await;
    assert_eq!(numbers(&pass(&home, &aws, &["--gc-grace", "0s"]).1), json!({"orphans_waiting": 52}));
    let (status, summary) = pass(&home, &aws, &["--gc-grace", "0s"]);
    assert_eq!((status, numbers(&summary)), (0, json!({"deleted": 1, "orphans_kept": 51})));
}

/// An orphan that cannot be deleted keeps nobody from the others.
#[tokio::test]
async fn orphans_that_cannot_be_deleted_do_not_stand_in_the_way() {
    let (home, aws) = with_a_job().await;
    pass(&home, &aws, &[]);
    let instance = aws.functions()[0].split('-').nth(1).unwrap().to_owned();
    let orphans = ["0a", "0b", "0c"].map(|digits| {
        let id = digits.repeat(32);
        let tags =
            format!(r#""sockerless.instance":"{instance}","sockerless.container":"{id}","sockerless.created":"1""#);
        (format!("skls-{instance}-{}", &id[..24]), tags)
    });
    for (name, tags) in &orphans {
        aws.create_function(name, tags).await;
    }
    pass(&home, &aws, &["--gc-grace", "0s"]);
    let denied = json!({"operation": "DeleteFunction", "resource": orphans[0].0, "kind": {"type": "access_denied"}});
    aws.set_faults(&json!({ "rules": [denied] }));
    let (status, summary) = pass(&home, &aws, &["--gc-grace", "0s"]);
    assert_eq!((status, &summary["deleted"]), (1, &json!(2)), "{summary}");
    assert_eq!(aws.functions().len(), 2, "the job's, and the one that cannot be deleted");
    aws.set_faults(&json!({}));
    let (status, summary) = pass(&home, &aws, &["--gc-grace", "0s"]);
    assert_eq!((status, numbers(&summary)), (0, json!({"deleted": 1})));
}

#[tokio::test]
async fn a_refused_call_is_tried_again() {
    let (home, aws) = with_a_job().await;
    aws.set_faults(&json!({"rules": [{"operation": "CreateFunction", "nth": 1, "kind": {"type": "throttle"}}]}));
    let (status, summary) = pass(&home, &aws, &[]);
    assert_eq!((status, numbers(&summary)), (0, json!({"created": 1, "retried": 1})));
}

#[tokio::test]
async fn a_refused_claim_is_made_again() {
    let (home, aws) = with_a_job().await;
    aws.set_faults(&json!({"rules": [{"operation": "CreateLogStream", "nth": 1, "kind": {"type": "throttle"}}]}));
    let (status, summary) = pass(&home, &aws, &[]);
    assert_eq!((status, numbers(&summary)), (0, json!({"created": 1})), "{summary}");
}

#[tokio::test]
async fn a_claim_that_never_succeeds_is_an_error_at_the_deadline() {
    let (home, aws) = with_a_job().await;
    aws.set_faults(&json!({"rules": [{"operation": "CreateLogStream", "kind": {"type": "throttle"}}]}));
    let (status, summary) = pass(&home, &aws, &["--deadline", "1s"]);
    assert_eq!((status, numbers(&summary)), (1, json!({})), "{summary}");
    assert_eq!(summary["errors"], json!(["the deadline came before the database was claimed"]));
}

#[tokio::test]
async fn at_the_deadline_the_rest_is_left() {
    let (home, aws) = with_a_job().await;
    aws.set_faults(&json!({"rules": [{"operation": "CreateFunction", "kind": {"type": "throttle"}}]}));
    let (status, summary) = pass(&home, &aws, &["--deadline", "2s"]);
    assert_eq!((status, &summary["left"], &summary["created"]), (2, &json!(1), &json!(0)), "{summary}");
    assert_eq!(summary["left_work"][0]["name"], "job");
    assert!(summary["seconds"].as_f64().unwrap() >= 2.0);

    let text = pass_output(&home, &aws.endpoint, &["--deadline", "1s"]);
    let words = String::from_utf8_lossy(&text.stdout);
    assert_eq!(text.status.code(), Some(2), "{words}");
    assert!(words.starts_with("left (container job, "), "{words}");
    assert!(words.lines().last().unwrap().starts_with("created 0, updated 0, invoked 0, "), "{words}");
}

#[tokio::test]
async fn a_run_that_outlasts_the_deadline_goes_on() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let gate = home.shared("gate");
    let script = format!("until [ -e {} ]; do sleep 0.05; done; exit 7", gate.display());
    wishes(&home, async |docker| {
        create(docker, "job", &script, &[]).await;
        start(docker, "job").await;
    })
    .await;
    let (status, summary) = pass(&home, &aws, &["--start", "--deadline", "8s", "--drain-timeout", "0s"]);
    assert_eq!((status, numbers(&summary)), (0, json!({"created": 1, "invoked": 1, "running": 1})));
    std::fs::write(&gate, "").unwrap();
    let settling = until("a pass settles it", async || {
        let summary = pass(&home, &aws, &[]).1;
        assert!(summary["running"] == 1 || summary["settled"] == 1, "{summary}");
        (summary["settled"] == 1).then_some(summary)
    })
    .await;
    assert_eq!(numbers(&settling), json!({"settled": 1}), "{settling}");
    assert_eq!(aws.calls()["Invoke"], 1);
}

#[tokio::test]
async fn it_does_not_run_beside_a_live_daemon() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &["--gc-interval", "1h"]).await;
    create(&account.docker(), "job", "exit 5", &[]).await;
    let active = async || inspect(&account.docker(), "job").await.id.filter(|_| aws.functions().len() == 1);
    until("the function is there", active).await;
    let output = pass_output(&home, &aws.endpoint, &[]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("in use by another daemon") && words.contains("--dry-run"), "{words}");
    until("a dry run finds all done", async || (pass(&home, &aws, &["--dry-run"]).0 == 0).then_some(())).await;
    account.until_ready().await;
    start(&account.docker(), "job").await;
    assert_eq!(wait(&account.docker(), "job").await, 5, "the daemon has not noticed");
    account.stop();
}

#[tokio::test]
async fn a_copy_of_the_database_makes_no_pass_until_it_is_adopted() {
    let (home, copy) = (Home::new(), Home::new());
    let aws = Aws::start(&home);
    assert_eq!(pass(&home, &aws, &[]).0, 0);
    std::fs::create_dir_all(copy.directory()).unwrap();
    std::fs::copy(home.database(), copy.database()).unwrap();
    assert_eq!(pass(&home, &aws, &[]).0, 0, "the database goes on");
    for args in [&["--dry-run"][..], &[]] {
        let (status, summary) = pass(&copy, &aws, args);
        assert_eq!((status, &summary["outcome"]), (1, &json!("error")));
        assert!(summary["errors"][0].as_str().unwrap().contains("--adopt"), "{summary}");
    }
    assert_eq!(pass(&copy, &aws, &["--adopt"]).0, 0);
    assert_eq!(pass(&home, &aws, &[]).0, 1, "now the other one is the copy");
}

#[tokio::test]
async fn errors_end_with_1() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let nowhere = format!("http://{}", free_address());
    let output = pass_output(&home, &nowhere, &["--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(summary(&output)["errors"][0].as_str().unwrap().starts_with("logs: "), "{output:?}");

    let wrong = home.account_command(&aws.endpoint, "wrong").arg("--reconcile-once").output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("security token"), "{wrong:?}");

    aws.set_faults(&json!({"rules": [{"operation": "ListFunctions", "kind": {"type": "access_denied"}}]}));
    let (status, summary) = pass(&home, &aws, &[]);
    assert_eq!((status, &summary["outcome"]), (1, &json!("error")));
    assert!(summary["errors"][0].as_str().unwrap().contains("list functions"), "{summary}");
}

#[tokio::test]
async fn a_signal_ends_it_in_order() {
    let (home, aws) = with_a_job().await;
    aws.set_faults(&json!({"rules": [{"operation": "CreateFunction", "kind": {"type": "throttle"}}]}));
    let mut command = home.account_command(&aws.endpoint, "sandbox");
    command.args(["--reconcile-once", "--output", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    until("it is at work", async || aws.calls().contains_key("CreateFunction").then_some(())).await;
    terminate(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(summary(&output)["errors"], json!(["interrupted"]));
    assert_eq!(summary(&output)["left"], 1);
}

#[tokio::test]
async fn mistakes_of_the_command_line_end_with_64() {
    let home = Home::new();
    for args in [
        &["--dry-run"][..],
        &["--start"],
        &["--deadline", "10m"],
        &["--output", "json"],
        &["--reconcile-once", "--deadline", "soon"],
        &["--reconcile-once", "--deadline", "0s"],
        &["--reconcile-once", "--output", "yaml"],
        &["--reconcile-once", "--dry-run", "--adopt"],
        &["--reconcile-once", "--timeout", "0"],
        &["--reconcile-once", "run", "host"],
    ] {
        let output = home.account_command("http://127.0.0.1:1", "sandbox").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    assert!(!home.database().exists(), "nothing was begun");
}

/// A forced removal of what runs is finished by a pass; the run itself goes on.
#[tokio::test]
async fn a_forced_removal_is_finished() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let gate = killed_while_running(&home, &aws, "RequestResponse").await;
    wishes(&home, async |docker| {
        let force = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
        docker.remove_container("job", Some(force)).await.unwrap();
    })
    .await;
    let (status, summary) = pass(&home, &aws, &[]);
    assert_eq!((status, numbers(&summary)), (0, json!({"deleted": 1})));
    assert!(aws.functions().is_empty());
    std::fs::write(gate, "").unwrap();
}
