//! Clients that wait, that are slow, and that vanish: what they held is free again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use sockerless_lambda::clock::Clock;
use tokio::time::timeout;

use crate::support::{Api, Connection, PATIENCE, plain, until_tasks};

/// Clients of each kind.
const CLIENTS: usize = 40;
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

/// Tasks that are alive in this runtime.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Connections whose answers have begun and do not end: each kind of stream, over both kinds of socket. The connection of an
/// attachment is taken over from HTTP.
async fn streams(api: &Api, name: &str, taken_over_tcp: bool) -> Vec<Connection> {
    let mut all = Vec::new();
    for number in 0..CLIENTS {
        for (method, path, headers) in [
            ("POST", format!("/containers/{name}/wait"), ""),
            ("POST", format!("/internal/v1/containers/{name}/wait?condition=removed"), ""),
            ("GET", "/events?since=1".to_owned(), ""),
            ("GET", format!("/containers/{name}/logs?follow=1&stdout=1"), ""),
            ("POST", format!("/containers/{name}/attach?stream=1&stdout=1"), UPGRADE),
            ("POST", format!("/containers/{name}/attach?stream=1&stdout=1"), ""),
        ] {
            let over_tcp = number % 2 == 0 && (taken_over_tcp || headers.is_empty());
            let mut connection = match over_tcp {
                true => api.send(method, &path, headers, "").await,
                false => api.send_locally(method, &path, headers, "").await,
            };
            let head = connection.head().await;
            assert!(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
            all.push(connection);
        }
    }
    all
}

#[tokio::test]
async fn clients_that_vanish_leave_no_task_behind() {
    let api = Api::new().await;
    api.running("one", &plain()).await;
    api.get("/_ping").await;
    let before = tasks();
    let mut clients = streams(&api, "one", false).await;
    assert!(tasks() > before + clients.len(), "each has a task at least");
    // Some have half-closed before, as Docker's clients do when they send nothing more.
    for client in clients.iter_mut().step_by(7) {
        client.half_close().await;
    }
    assert_eq!(api.get("/_ping").await.text(), "OK");
    drop(clients);
    until_tasks(before, PATIENCE).await;
}

/// Over TCP the end of a client's input and its end look alike: the kernel's probes tell them apart.
#[tokio::test]
#[ignore = "takes two minutes, all of them waiting: just attack, which is part of just ci"]
async fn a_tcp_client_that_vanishes_from_a_silent_attachment_is_found_out() {
    let api = Api::new().await;
    api.running("one", &plain()).await;
    api.get("/_ping").await;
    let before = tasks();
    drop(streams(&api, "one", true).await);
    until_tasks(before, Duration::from_secs(240)).await;
}

/// A client that has half-closed still listens.
#[tokio::test]
async fn the_end_of_the_input_is_not_the_end_of_an_attachment() {
    let api = Api::new().await;
    let id = api.running("one", &plain()).await;
    for over_tcp in [true, false] {
        let path = "/containers/one/attach?stream=1&stdout=1";
        let mut client = match over_tcp {
            true => api.send("POST", path, UPGRADE, "").await,
            false => api.send_locally("POST", path, UPGRADE, "").await,
        };
        client.head().await;
        client.half_close().await;
        // Longer than it takes to look whether it has gone.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(client.is_silent().await);
        if !over_tcp {
            api.exit(&id, 0).await;
            assert!(client.rest().await.ends_with(b"\r\n\r\n"), "the container's end ends it");
        }
    }
}

#[tokio::test]
async fn slow_clients_hinder_nobody() {
    let api = Api::new().await;
    api.create("one", &plain()).await;
    let before = tasks();
    let mut slow = Vec::new();
    for _ in 0..CLIENTS {
        // A head without end, a body without end, and a large one that needs a place.
        let headers = "Content-Type: application/json\r\nX-Slow: ";
        slow.push(api.send_raw(format!("POST /containers/create HTTP/1.1\r\nHost: x\r\n{headers}").as_bytes()).await);
        let head = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n{";
        slow.push(api.send_raw(head.as_bytes()).await);
        slow.push(api.send_raw(format!("{head}{}", " ".repeat(100_000)).as_bytes()).await);
        let head = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{";
        slow.push(api.send_raw(head.as_bytes()).await);
        // Requests of which nobody reads the answers.
        slow.push(api.send_raw("GET /containers/json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200).as_bytes()).await);
    }
    let served = timeout(Duration::from_secs(20), async {
        for number in 0..20 {
            api.create(&format!("two{number}"), &plain()).await;
            assert_eq!(api.get("/containers/json?all=1&limit=1").await.status, 200);
            assert_eq!(api.ask("GET", "/internal/v1/info", "").await.status, 200);
        }
    });
    assert!(served.await.is_ok(), "others wait for the slow ones");
    drop(slow);
    until_tasks(before, PATIENCE).await;
}

/// However much of the log is left to be looked through.
#[tokio::test]
async fn nothing_more_is_read_for_a_client_that_has_gone() {
    const ALL: usize = 10_000;
    let api = Api::new().await;
    api.running("one", &plain()).await;
    api.get("/_ping").await;
    let before = tasks();
    api.logs.endless.store(true, Ordering::Relaxed);
    for number in 0..20_000 {
        api.logs.put(Clock::real().now().as_millis(), &format!("line {number}"));
    }
    let mut client = api.send("GET", "/containers/one/logs?stdout=1", "", "").await;
    client.until("line 19999").await;
    drop(client);
    until_tasks(before, PATIENCE).await;
    let read = api.logs.pages.load(Ordering::Relaxed);
    assert!(read < ALL, "{read} pages were read");
}

#[tokio::test]
async fn a_body_that_stops_is_given_up() {
    let api = Api::new().await;
    let head =
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{";
    let mut stopped = api.send_raw(head.as_bytes()).await;
    let broken = api.send_raw(head.as_bytes()).await;
    drop(broken);
    let answer = timeout(Duration::from_secs(60), stopped.head()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

/// A large body that nothing is wrong with.
fn large_body() -> String {
    format!("{}{}", " ".repeat(1_000_000), plain())
}

/// Connections whose large bodies stop after `bytes` bytes.
async fn stopped(api: &Api, connections: usize, bytes: usize) -> Vec<Connection> {
    let body = large_body();
    let head = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let begun = format!("{head}Content-Length: {}\r\n\r\n{}", body.len(), &body[..bytes]);
    let mut stopped = Vec::new();
    for _ in 0..connections {
        stopped.push(api.send_raw(begun.as_bytes()).await);
    }
    stopped
}

/// Other large requests are answered, and those that have stopped may go on: they were in nobody's way.
#[tokio::test]
async fn large_bodies_that_stop_hinder_no_other_request() {
    let api = Api::new().await;
    let mut stopped = stopped(&api, 100, 100_000).await;
    for number in 0..10 {
        let created = api.ask("POST", &format!("/containers/create?name=c{number}"), &large_body()).await;
        assert_eq!(created.status, 201, "{}", created.text());
    }
    for connection in &mut stopped[..10] {
        connection.write(&large_body()[100_000..]).await;
        assert_eq!(connection.answer().await.status, 201);
    }
}

/// Requests whose bodies nobody needs hold no place while they wait for AWS.
#[tokio::test]
async fn large_bodies_of_requests_that_wait_for_aws_hinder_no_other_request() {
    const WAITING: usize = 20;
    let api = Api::new().await;
    let id = api.running("one", &plain()).await;
    api.logs.silent.store(true, Ordering::Relaxed);
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        let body = " ".repeat(70_000);
        waiting.push(api.send("GET", &format!("/containers/{id}/logs?stdout=1"), "", &body).await);
    }
    let all_wait = async {
        while api.logs.pages.load(Ordering::Relaxed) < WAITING {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all_wait).await.unwrap();
    let created = api.ask("POST", "/containers/create?name=two", &large_body()).await;
    assert_eq!(created.status, 201, "{}", created.text());
}

/// They hold all the memory there is for bodies: as many as are in the way are given up, before their time-out.
#[tokio::test]
async fn large_bodies_that_stop_give_way_to_others() {
    let api = Api::new().await;
    let mut stopped = stopped(&api, 37, 900_000).await;
    let created = api.ask("POST", "/containers/create?name=one", &large_body()).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let answers = stopped.iter_mut().map(|connection| Box::pin(connection.answer()));
    let (first, ..) = futures_util::future::select_all(answers).await;
    assert_eq!(first.status, 408);
    assert!(first.text().contains("given up for others"), "{}", first.text());
}

/// Lists come page by page, and nobody holds all of a long one at once.
#[tokio::test]
async fn a_long_list_is_whole() {
    let api = Api::new().await;
    let mut body = plain();
    body["Labels"] = json!({ "long": "x".repeat(4_000) });
    // More than one page of rows, and more than one page of bytes.
    for number in 0..520 {
        api.create(&format!("c{number}"), &body).await;
    }
    let list = api.get("/containers/json?all=1").await.json();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|item| item["Names"][0].as_str().unwrap()).collect();
    let expected: Vec<String> = (0..520).rev().map(|number| format!("/c{number}")).collect();
    assert_eq!(names, expected);
    let some = api.get("/containers/json?limit=300").await.json();
    assert_eq!((some.as_array().unwrap().len(), &some[299]["Names"][0]), (300, &json!("/c220")));
    assert_eq!(api.get("/info").await.json()["Containers"], 520);
    let pruned = api.post("/containers/prune").await.json();
    assert_eq!(pruned["ContainersDeleted"].as_array().unwrap().len(), 520);
    let events = "/events?since=1&until=99999999999&filters=%7B%22event%22%3A%5B%22destroy%22%5D%7D";
    let mut events = api.send("GET", events, "", "").await;
    let text = events.until(&format!("\"name\":\"c{}\"", 0)).await;
    assert!(text.contains("destroy"));
}
