//! Thousands of clients at once against the real binary: they are served, and what they held is free when they have gone.

#![cfg(feature = "sandbox")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, and each round is reported"
)]

mod support;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use support::{Client, Daemon, PATIENCE, Usage, until};

/// Waits, and event streams: so many of each, if that many files may be open.
const CROWD: usize = 2_000;
/// Attachments and followers of the log, of each: they share the quota of five questions a second to the log, so this many
/// come and go in seconds.
const FEW: usize = 2;
/// As many take minutes (`just attack`).
const MANY: usize = 50;
/// The memory after the second is compared with that after the last: until then the allocator still takes what it keeps.
const ROUNDS: usize = 4;
/// One stream may cost so much of the daemon's memory, with all its buffers.
const MAX_STREAM_BYTES: u64 = 64 * 1_024;
/// By so much the memory after the last round may differ from that after the second: the allocator keeps what was used and
/// uses it again. A leak of a tenth of what a stream takes would be more.
const TOLERANCE_BYTES: u64 = 40 << 20;
/// Files that come and go with what the daemon itself does.
const SPARE_FILES: usize = 16;
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

fn crowd() -> usize {
    sockerless_lambda::open_files::raise_limit();
    CROWD.min(sockerless_lambda::open_files::limit().saturating_sub(1_000) / 3)
}

/// So many clients of one kind, connected at the same moment; each has the head of its answer.
async fn arrive(daemon: &Daemon, count: usize, method: &str, path: &str, headers: &str) -> Vec<Client> {
    let one = async || {
        let mut client = daemon.send(method, path, headers).await;
        let head = client.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
        client
    };
    join_all((0..count).map(|_| one())).await
}

/// All kinds of clients that stay.
async fn everybody(daemon: &Daemon, count: usize, followers: usize) -> Vec<Client> {
    let mut all = arrive(daemon, count, "POST", "/v1.51/containers/job/wait", "").await;
    all.extend(arrive(daemon, count, "GET", "/v1.51/events?since=1", "").await);
    all.extend(arrive(daemon, followers, "GET", "/v1.51/containers/job/logs?follow=1&stdout=1", "").await);
    all.extend(arrive(daemon, followers, "POST", "/v1.51/containers/job/attach?stream=1&stdout=1", UPGRADE).await);
    all
}

async fn others_are_served(daemon: &Daemon) {
    let begin = Instant::now();
    assert_eq!(daemon.ask("GET", "/_ping").await, (200, "OK".to_owned()));
    assert_eq!(daemon.ask("GET", "/containers/job/json").await.0, 200);
    assert_eq!(daemon.ask("GET", "/containers/json").await.0, 200);
    assert!(begin.elapsed() < PATIENCE / 4, "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_wait_and_listen_and_leave_nothing_behind() {
    crowds_leave_nothing_behind(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a hundred followers of one quota take minutes"]
async fn thousands_wait_and_a_hundred_follow_and_leave_nothing_behind() {
    crowds_leave_nothing_behind(MANY).await;
}

async fn crowds_leave_nothing_behind(followers: usize) {
    let count = crowd();
    let daemon = Daemon::start();
    let gate = daemon.file("gate");
    daemon.run("job", &format!("until [ -e {} ]; do sleep 0.1; done; exit 7", gate.display())).await;
    let alone = daemon.usage().files;
    // Once, so that everything that is made only once is there.
    drop(everybody(&daemon, FEW, FEW).await);
    let gone = |now: &Usage| now.files <= alone + SPARE_FILES;
    let idle = until("the first have gone", async || Some(daemon.usage()).filter(gone)).await;
    let mut left = Vec::new();
    for round in 1..=ROUNDS {
        let clients = everybody(&daemon, count, followers).await;
        let crowded = daemon.usage();
        assert!(crowded.files >= clients.len(), "{crowded:?}");
        others_are_served(&daemon).await;
        let each = crowded.bytes.saturating_sub(idle.bytes) / u64::try_from(clients.len()).unwrap();
        assert!(each <= MAX_STREAM_BYTES, "{each} bytes for each of {} streams", clients.len());
        let streams = clients.len();
        drop(clients);
        let after = until("all have gone", async || Some(daemon.usage()).filter(gone)).await;
        println!(
            "round {round}: {streams} streams, {each} bytes each; idle {idle:?}, crowded {crowded:?}, after {after:?}"
        );
        left.push(after.bytes);
    }
    let (second, last) = (left[1], left[ROUNDS - 1]);
    assert!(last <= second + TOLERANCE_BYTES, "memory grows from round to round: {left:?}");

    // The end of the run reaches everybody.
    let mut waits = arrive(&daemon, count, "POST", "/v1.51/containers/job/wait", "").await;
    let filters = "filters=%7B%22event%22%3A%5B%22die%22%5D%7D";
    let mut events = arrive(&daemon, count, "GET", &format!("/v1.51/events?{filters}"), "").await;
    std::fs::write(gate, "").unwrap();
    join_all(waits.iter_mut().map(|client| client.until("{\"StatusCode\":7}"))).await;
    let died = join_all(events.iter_mut().map(|client| client.until("\"exitCode\":\"7\""))).await;
    assert_eq!(died.len(), count);
    assert_eq!(daemon.ask("DELETE", "/containers/job").await.0, 204);
    assert_eq!(daemon.stop(), 0);
}

/// More connections than there are places: the rest waits in the kernel's queue and is served when there is room. Those on
/// one listener do not hinder those on another.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_listener_hinders_no_other_and_recovers() {
    let daemon = Daemon::start_with_files(700);
    // 700 less the reserved ones, shared by two listeners and the connections that are taken over.
    let places = 148;
    let mut idle = Vec::new();
    for _ in 0..places {
        idle.push(daemon.connect().await);
    }
    let mut waiting = daemon.send("GET", "/_ping", "Connection: close\r\n").await;
    assert!(waiting.is_silent(Duration::from_millis(500)).await, "there is no place for it");
    assert_eq!(daemon.ask_over_tcp("GET", "/_ping").await, (200, "OK".to_owned()));
    drop(idle);
    waiting.until("OK").await;
    assert_eq!(daemon.stop(), 0);
}
