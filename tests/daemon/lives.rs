//! One life after another: runs go on while the daemon is dead, and are neither lost nor repeated.

use crate::docker::{create, inspect, logs, remove, start, wait};
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
