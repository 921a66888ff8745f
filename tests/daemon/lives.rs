//! One life after another: runs go on while the daemon is dead, and are neither lost nor repeated.

use bollard::query_parameters::{InspectContainerOptions, StartContainerOptions, StopContainerOptions};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::docker::{code, create, create_that_fails, inspect, logs, remove, start, wait, wait_for_removal};
use crate::support::{Home, lines, until};

/// The functions that the sandbox holds.
fn functions(home: &Home) -> usize {
    home.sandbox()["functions"].as_array().unwrap().len()
}

/// The invocations that the sandbox has ever taken.
fn invocations(home: &Home) -> usize {
    home.sandbox()["invocations"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_container_lives_from_create_to_remove() {
    let home = Home::new();
    let daemon = home.serve();
    let docker = daemon.docker();
    create(&docker, "job", "echo out; echo err >&2; exit 7", &[]).await;
    start(&docker, "job").await;
    assert_eq!(wait(&docker, "job").await, 7);
    assert_eq!(logs(&docker, "job").await, "out\nerr\n");
    let state = inspect(&docker, "job").await.state.unwrap();
    assert_eq!((state.exit_code, state.running), (Some(7), Some(false)));
    assert_eq!((functions(&home), invocations(&home)), (1, 1));
    remove(&docker, "job").await;
    until("the sandbox holds no function", async || (functions(&home) == 0).then_some(())).await;
    assert_eq!(daemon.stop(), 0);
}

/// `kill -9` while the program runs: the next daemon tells its exit code, and it ran once.
async fn survives_a_kill(kind: &str) {
    let home = Home::new();
    let (ran, gate) = (home.shared("ran"), home.shared("gate"));
    let script = format!(
        "echo ran >> {}; until [ -e {} ]; do sleep 0.05; done; echo done; exit 7",
        ran.display(),
        gate.display()
    );
    let daemon = home.serve();
    let docker = daemon.docker();
    create(&docker, "job", &script, &[("sockerless.lambda.invocation-type", kind)]).await;
    start(&docker, "job").await;
    until("the program runs", async || (lines(&ran) == 1).then_some(())).await;
    daemon.kill();

    let daemon = home.serve();
    let docker = daemon.docker();
    assert_eq!(inspect(&docker, "job").await.state.unwrap().running, Some(true), "it is still running");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(wait(&docker, "job").await, 7);
    assert!(logs(&docker, "job").await.contains("done"));
    assert_eq!((lines(&ran), invocations(&home)), (1, 1), "it ran once");
    remove(&docker, "job").await;
    until("the sandbox holds no function", async || (functions(&home) == 0).then_some(())).await;
}

#[tokio::test]
async fn a_request_response_run_survives_kill_9() {
    survives_a_kill("RequestResponse").await;
}

#[tokio::test]
async fn an_event_run_survives_kill_9() {
    survives_a_kill("Event").await;
}

/// The program ends while no daemon is there.
#[tokio::test]
async fn an_end_that_nobody_saw_is_read_from_the_log() {
    let home = Home::new();
    let (ran, ended) = (home.shared("ran"), home.shared("ended"));
    let script = format!("echo ran >> {}; sleep 1; echo x >> {}; exit 9", ran.display(), ended.display());
    let daemon = home.serve();
    let docker = daemon.docker();
    create(&docker, "job", &script, &[]).await;
    start(&docker, "job").await;
    until("the program runs", async || (lines(&ran) == 1).then_some(())).await;
    daemon.kill();
    until("the program has ended", async || (lines(&ended) == 1).then_some(())).await;
    let daemon = home.serve();
    assert_eq!(wait(&daemon.docker(), "job").await, 9);
    assert_eq!(lines(&ran), 1);
}

/// A wish that was acknowledged is carried out by the next daemon.
#[tokio::test]
async fn a_removal_is_finished_by_the_next_daemon() {
    let home = Home::new();
    let daemon = home.serve();
    let docker = daemon.docker();
    create(&docker, "job", "true", &[]).await;
    start(&docker, "job").await;
    wait(&docker, "job").await;
    remove(&docker, "job").await;
    daemon.kill();
    let _daemon = home.serve();
    until("the sandbox holds no function", async || (functions(&home) == 0).then_some(())).await;
}

/// A container can be started again and again, also after a restart of the daemon.
#[tokio::test]
async fn each_start_is_one_run() {
    let home = Home::new();
    let ran = home.shared("ran");
    let daemon = home.serve();
    let docker = daemon.docker();
    create(&docker, "job", &format!("echo ran >> {}; exit $(cat {} | wc -l)", ran.display(), ran.display()), &[]).await;
    for expected in 1..=2 {
        start(&docker, "job").await;
        assert_eq!(wait(&docker, "job").await, expected);
    }
    daemon.kill();
    let daemon = home.serve();
    let docker = daemon.docker();
    assert_eq!(wait(&docker, "job").await, 2);
    start(&docker, "job").await;
    assert_eq!(wait(&docker, "job").await, 3);
    assert_eq!(lines(&ran), 3);
}

/// Who waits for a slot and is stopped gives its place in the line to the next.
#[tokio::test]
async fn a_slot_is_passed_on_over_a_start_that_was_stopped() {
    let home = Home::new();
    let gate = home.shared("gate");
    let daemon = home.serve_with(&["--sandbox", "--max-running", "1"]);
    let docker = daemon.docker();
    let script = format!("until [ -e {} ]; do sleep 0.05; done; exit 4", gate.display());
    create(&docker, "first", &script, &[]).await;
    create(&docker, "second", "exit 5", &[]).await;
    create(&docker, "third", "exit 6", &[]).await;
    start(&docker, "first").await;
    until("the first runs", async || (invocations(&home) == 1).then_some(())).await;
    start(&docker, "second").await;
    start(&docker, "third").await;
    docker.stop_container("second", None::<StopContainerOptions>).await.unwrap();
    assert_eq!(wait(&docker, "second").await, 137, "it was cancelled in time");
    assert_eq!(invocations(&home), 1, "there is one slot");
    std::fs::write(&gate, "").unwrap();
    assert_eq!((wait(&docker, "first").await, wait(&docker, "third").await), (4, 6));
    assert_eq!(invocations(&home), 2);
}

/// `docker run --rm` of what Lambda refuses, whether the start comes before or after the refusal.
#[tokio::test]
async fn a_container_that_cannot_run_and_removes_itself_is_gone() {
    let home = Home::new();
    let daemon = home.serve();
    let docker = daemon.docker();
    for late in [false, true] {
        // The start comes first only if the refusal takes its time.
        let delay = json!({"operation": "CreateFunction", "kind": {"type": "delay", "ms": 2_000}});
        home.set_faults(&if late { json!({}) } else { json!({ "rules": [delay] }) });
        let id = create_that_fails(&docker).await;
        let mut removed = wait_for_removal(&docker, &id);
        if late {
            until("the refusal is known", async || {
                let shown = inspect(&docker, &id).await.state?.error?;
                (!shown.is_empty()).then_some(())
            })
            .await;
        }
        let started = docker.start_container(&id, None::<StartContainerOptions>).await;
        assert_eq!(started.is_err(), late, "{started:?}");
        assert_eq!(removed.next().await.map(code), Some(125), "late: {late}");
        assert!(docker.inspect_container(&id, None::<InspectContainerOptions>).await.is_err(), "it is gone");
    }
    until("nothing is left", async || (functions(&home) == 0).then_some(())).await;
}
