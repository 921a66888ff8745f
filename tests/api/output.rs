//! The program's output: `logs` and `attach`.

use std::sync::atomic::Ordering;

use serde_json::json;
use sockerless_lambda::clock::Clock;

use crate::support::{Api, REQUEST_ID, STREAM, plain};

const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
const RAW: &str = "application/vnd.docker.raw-stream";

pub(crate) fn frame(stream: u8, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
}

/// What a run prints, one line a second, as the log has it; gives the time of the first line of the program.
pub(crate) fn print_a_run(api: &Api) -> i64 {
    let begin = Clock::real().now().as_millis() / 1_000 * 1_000;
    for (second, message) in [
        (0, format!("START RequestId: {REQUEST_ID} Version: $LATEST\n")),
        (0, format!("@sockerless:start token {REQUEST_ID}")),
        (0, "first".to_owned()),
        (1, "[stderr] second".to_owned()),
        (2, "third".to_owned()),
        (3, "@sockerless:exit token 0 exited".to_owned()),
        (3, format!("END RequestId: {REQUEST_ID}\n")),
        (
            3,
            format!(
                "REPORT RequestId: {REQUEST_ID}\tDuration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB\t\n"
            ),
        ),
    ] {
        api.logs.put(begin + second * 1_000, &message);
    }
    begin
}

#[tokio::test]
async fn frames_with_every_parameter() {
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    let begin = print_a_run(&api);
    let second = begin / 1_000 + 1;
    let (first, middle, last) = (frame(1, "first\n"), frame(2, "second\n"), frame(1, "third\n"));
    let all = [first.clone(), middle.clone(), last.clone()].concat();
    for (query, expected) in [
        ("stdout=1&stderr=1".to_owned(), all.clone()),
        ("stdout=1".to_owned(), [first.clone(), last.clone()].concat()),
        ("stderr=True&stdout=0".to_owned(), middle.clone()),
        ("stdout=1&stderr=1&tail=2".to_owned(), [middle.clone(), last.clone()].concat()),
        ("stdout=1&stderr=1&tail=0".to_owned(), Vec::new()),
        ("stdout=1&stderr=1&tail=all".to_owned(), all.clone()),
        ("stdout=1&stderr=1&tail=-1".to_owned(), all.clone()),
        ("stdout=1&stderr=1&tail=x".to_owned(), all.clone()),
        (format!("stdout=1&stderr=1&since={second}"), [middle.clone(), last.clone()].concat()),
        (format!("stdout=1&stderr=1&since={second}.500000000"), last.clone()),
        (format!("stdout=1&stderr=1&until={second}"), [first.clone(), middle.clone()].concat()),
        ("stdout=1&stderr=1&follow=1".to_owned(), all.clone()),
    ] {
        for prefix in ["", "/internal/v1"] {
            let answer = api.get(&format!("{prefix}/containers/{id}/logs?{query}")).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, Some(MULTIPLEXED)), "{query}");
            assert_eq!(answer.body, expected, "{prefix} {query}: {}", answer.text());
        }
    }
    let timed = api.get(&format!("/containers/{id}/logs?stdout=1&timestamps=1&tail=1")).await.text();
    let text = timed.get(8..).unwrap();
    assert!(text.get(19..31) == Some(".000000000Z ") && text.ends_with(" third\n"), "{timed:?}");
    let old = api.get(&format!("/v1.41/containers/{id}/logs?stdout=1&stderr=1")).await;
    assert_eq!((old.header("content-type"), &old.body), (Some(RAW), &all), "framed all the same");
}

#[tokio::test]
async fn a_terminal_has_no_frames_and_who_never_ran_no_output() {
    let api = Api::new().await;
    api.create("never", &plain()).await;
    for path in ["/containers/never/logs?stdout=1&follow=1", "/internal/v1/containers/never/logs?stdout=1"] {
        let answer = api.get(path).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b""[..]), "{path}");
    }
    api.ended("tty", &json!({ "Image": "alpine", "Tty": true }), 0).await;
    print_a_run(&api);
    let answer = api.get("/containers/tty/logs?stdout=1&stderr=1").await;
    assert_eq!((answer.header("content-type"), answer.text().as_str()), (Some(RAW), "first\r\nsecond\r\nthird\r\n"));
}

#[tokio::test]
async fn follow_stays_until_the_run_has_ended_and_wait_comes_after() {
    let api = Api::new().await;
    let id = api.running("one", &plain()).await;
    let path = format!("/containers/{id}/logs?stdout=1&stderr=1&follow=1");
    let mut follow = api.send("GET", &path, "Connection: close\r\n", "").await;
    assert!(follow.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(follow.is_silent().await);
    // The internal API never follows.
    assert_eq!(api.get(&format!("/internal/v1{path}")).await.body, b"");
    api.exit_before_its_log(&id, 0).await;
    let path = format!("/containers/{id}/wait");
    let mut wait = api.send("POST", &path, "Connection: close\r\n", "").await;
    wait.head().await;
    assert!(follow.is_silent().await && wait.is_silent().await, "the log is not complete");
    print_a_run(&api);
    let body = follow.all().await.body;
    assert_eq!(body, [frame(1, "first\n"), frame(2, "second\n"), frame(1, "third\n")].concat());
    assert_eq!(wait.all().await.text(), "{\"StatusCode\":0}\n");
}

/// Compose drops the rest of the output when it hears of the end.
#[tokio::test]
async fn an_end_is_told_after_the_output() {
    let api = Api::new().await;
    let id = api.running("one", &plain()).await;
    let path = format!("/containers/{id}/attach?stream=1&stdout=1");
    let mut attach = api.send("POST", &path, "Connection: Upgrade\r\nUpgrade: tcp\r\n", "").await;
    attach.head().await;
    let mut events = api.send("GET", "/events", "Connection: close\r\n", "").await;
    events.head().await;
    api.exit_before_its_log(&id, 0).await;
    assert_eq!(api.post(&format!("/containers/{id}/rename?name=other")).await.status, 204);
    let other = api.create("two", &plain()).await;
    let told = events.until(&other).await;
    assert!(!told.contains("\"die\"") && !told.contains("\"rename\""), "only what is about others: {told}");
    print_a_run(&api);
    let output = attach.rest().await;
    assert!(output.ends_with(&frame(1, "third\n")));
    let told = events.until("\"rename\"").await;
    assert!(told.find("\"die\"") < told.find("\"rename\""), "in their order: {told}");
}

/// Two runs so close that the second has ended before the log shows the first.
#[tokio::test]
async fn the_lines_of_an_earlier_run_are_waited_for() {
    const EARLIER: &str = "99999999-2222-3333-4444-555555555555";
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    api.ran_before(&id, EARLIER).await;
    let begin = print_a_run(&api);
    let mut logs = api.send("GET", "/containers/one/logs?stdout=1", "Connection: close\r\n", "").await;
    logs.until("third").await;
    assert!(logs.is_silent().await);
    api.logs.put(begin - 2_000, &format!("START RequestId: {EARLIER} Version: $LATEST\n"));
    api.logs.put(begin - 2_000, "earlier");
    let numbers = "Duration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB";
    api.logs.put(begin - 1_000, &format!("REPORT RequestId: {EARLIER}\t{numbers}\t\n"));
    assert_eq!(logs.all().await.body, [frame(1, "first\n"), frame(1, "third\n"), frame(1, "earlier\n")].concat());
}

/// As above, and the earlier run wrote to a stream of its own, of which the reconciler has seen nothing.
#[tokio::test]
async fn earlier_run_in_an_unknown_stream_is_found_by_its_request_id() {
    const EARLIER: &str = "99999999-2222-3333-4444-555555555555";
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    api.ran_before(&id, EARLIER).await;
    let begin = print_a_run(&api);
    let day = Clock::real().now().to_string()[..10].replace('-', "/");
    let stream = |environment: &str| format!("{day}/function[$LATEST]{environment}");
    let numbers = "Duration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB";
    let (own, forged) = (stream(&"f".repeat(32)), stream(&"0".repeat(32)));
    api.logs.put_in(&forged, begin - 2_000, &format!("@sockerless:start forged {EARLIER}"));
    api.logs.put_in(&forged, begin - 2_000, "forged");
    for message in [
        &format!("START RequestId: {EARLIER} Version: $LATEST\n"),
        "earlier",
        &format!("REPORT RequestId: {EARLIER}\t{numbers}\t\n"),
    ] {
        api.logs.put_in(&own, begin - 2_000, message);
    }
    let output = [frame(1, "first\n"), frame(1, "third\n"), frame(1, "earlier\n")].concat();
    for path in ["logs?stdout=1", "logs?stdout=1&follow=1"] {
        assert_eq!(api.get(&format!("/containers/one/{path}")).await.body, output, "{path}");
    }
}

/// The log shows the lines of a run seconds late. By then the next start was cancelled.
#[tokio::test]
async fn output_of_a_run_is_found_though_the_start_after_it_ended_without_one() {
    const EARLIER: &str = "99999999-2222-3333-4444-555555555555";
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    api.cancelled_after(&id, EARLIER).await;
    let now = Clock::real().now();
    let own = format!("{}/function[$LATEST]{}", now.to_string()[..10].replace('-', "/"), "f".repeat(32));
    let numbers = "Duration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB";
    for message in [
        &format!("START RequestId: {EARLIER} Version: $LATEST\n"),
        "earlier",
        &format!("REPORT RequestId: {EARLIER}\t{numbers}\t\n"),
    ] {
        api.logs.put_in(&own, now.as_millis(), message);
    }
    assert_eq!(api.get("/containers/one/logs?stdout=1").await.body, frame(1, "earlier\n"));
}

/// An earlier run's lines in a known stream, and the latest run's in one that must be looked for.
async fn in_two_streams() -> Api {
    const EARLIER: &str = "99999999-2222-3333-4444-555555555555";
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    api.ran_before_elsewhere(&id, EARLIER).await;
    let now = Clock::real().now();
    let day = now.to_string()[..10].replace('-', "/");
    let own = format!("{day}/function[$LATEST]{}", "f".repeat(32));
    let numbers = "Duration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB";
    for (stream, request_id, text) in [(STREAM, EARLIER, "earlier"), (&*own, REQUEST_ID, "latest")] {
        for message in [
            &format!("START RequestId: {request_id} Version: $LATEST\n"),
            text,
            &format!("REPORT RequestId: {request_id}\t{numbers}\t\n"),
        ] {
            api.logs.put_in(stream, now.as_millis(), message);
        }
    }
    api
}

#[tokio::test]
async fn throttled_search_is_made_again_and_the_output_is_whole() {
    let api = in_two_streams().await;
    for path in ["logs?stdout=1", "logs?stdout=1&follow=1"] {
        // The first one is the beginning's, the second one the reading's after it.
        api.logs.throttled_searches.store(2, Ordering::Relaxed);
        let body = api.get(&format!("/containers/one/{path}")).await.body;
        assert_eq!(body, [frame(1, "earlier\n"), frame(1, "latest\n")].concat(), "{path}");
    }
}

/// And what is missing is seen to be missing: the answer has no regular end.
#[tokio::test]
async fn known_streams_are_served_while_no_stream_can_be_looked_for() {
    let api = in_two_streams().await;
    api.logs.no_search.store(true, Ordering::Relaxed);
    let mut logs = api.send("GET", "/containers/one/logs?stdout=1", "Connection: close\r\n", "").await;
    let answer = logs.until("earlier").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let rest = String::from_utf8_lossy(&logs.rest().await).into_owned();
    assert!(!rest.ends_with("0\r\n\r\n"), "{rest:?}");
}

/// The same for an earlier run, whose lines nobody waits for any more.
#[tokio::test]
async fn latest_run_is_served_while_the_stream_of_an_earlier_one_cannot_be_looked_for() {
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    api.ran_before(&id, "99999999-2222-3333-4444-555555555555").await;
    api.end_long_ago(&id).await;
    print_a_run(&api);
    api.logs.no_search.store(true, Ordering::Relaxed);
    let mut logs = api.send("GET", "/containers/one/logs?stdout=1", "Connection: close\r\n", "").await;
    let answer = logs.until("third").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let rest = String::from_utf8_lossy(&logs.rest().await).into_owned();
    assert!(!rest.ends_with("0\r\n\r\n"), "{rest:?}");
}

#[tokio::test]
async fn a_daemon_that_stops_tells_what_has_ended_to_its_end_and_leaves_what_runs() {
    let api = Api::new().await;
    let ended = api.running("ended", &plain()).await;
    let running = api.running("running", &plain()).await;
    let mut streams = Vec::new();
    for id in [&ended, &running] {
        let path = format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1");
        let mut attach = api.send("POST", &path, "", "").await;
        attach.head().await;
        attach.forget();
        streams.push(attach);
    }
    api.exit_before_its_log(&ended, 0).await;
    assert!(streams[0].is_silent().await && streams[1].is_silent().await);
    print_a_run(&api);
    api.stop();
    let told = streams[0].rest().await;
    for text in ["first\n", "second\n", "third\n"] {
        assert!(told.windows(text.len()).any(|window| window == text.as_bytes()), "{}", String::from_utf8_lossy(&told));
    }
    let rest = streams[1].rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "broken off, without the end of a whole answer");
}

#[tokio::test]
async fn bytes_that_are_no_text_come_as_they_were_written() {
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    let now = Clock::real().now().as_millis();
    for line in ["[stdout%] caf%E9 100%25", "[stderr+%] %00%FF", "[stdout+] 100%41"] {
        api.logs.put(now, line);
    }
    let answer = api.get(&format!("/containers/{id}/logs?stdout=1&stderr=1")).await;
    let expected =
        [&b"\x01\0\0\0\0\0\0\x0acaf\xe9 100%\n"[..], b"\x02\0\0\0\0\0\0\x02\0\xff", &frame(1, "100%41")].concat();
    assert_eq!(answer.body, expected);
}

/// The bytes that take the connection over, then the output.
#[tokio::test]
async fn attach_takes_the_connection_over() {
    let api = Api::new().await;
    let ended = api.ended("over", &plain(), 0).await;
    print_a_run(&api);
    let output = [frame(1, "first\n"), frame(2, "second\n"), frame(1, "third\n")].concat();
    for (version, kind) in [("", MULTIPLEXED), ("/v1.41", RAW)] {
        let path = format!("{version}/containers/{ended}/attach?logs=1&stdout=1&stderr=1");
        let mut attach = api.send("POST", &path, "Connection: Upgrade\r\nUpgrade: tcp\r\n", "").await;
        let bytes = attach.rest().await;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&bytes[..end]);
        assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
        for header in ["Connection: Upgrade", "Upgrade: tcp", &format!("Content-Type: {kind}")] {
            assert!(head.lines().any(|line| line == header), "{header} in {head}");
        }
        assert_eq!(&bytes[end + 4..], output);
    }
    let mut plain = api.send("POST", &format!("/containers/{ended}/attach?logs=1&stdout=1&stderr=1"), "", "").await;
    let answer = plain.all().await;
    assert_eq!((answer.status, answer.header("content-type"), &answer.body), (200, Some(RAW), &output));
    assert_eq!(api.post("/containers/over/resize?h=1&w=1").await.status, 200);
}

#[tokio::test]
async fn attach_before_the_start_sees_the_run_and_drops_input() {
    let api = Api::new().await;
    let id = api.create("one", &plain()).await;
    let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
    let mut attach = api.send_locally("POST", &path, "Connection: Upgrade\r\nUpgrade: tcp\r\n", "").await;
    assert!(attach.head().await.starts_with("HTTP/1.1 101 UPGRADED"));
    attach.write("typed for nobody").await;
    assert_eq!(api.get(&format!("/containers/{id}/json")).await.json()["State"]["Status"], "created");
    assert_eq!(api.post(&format!("/containers/{id}/start")).await.status, 204);
    api.issue(&id).await;
    attach.forget();
    assert!(attach.is_silent().await);
    api.exit_before_its_log(&id, 0).await;
    print_a_run(&api);
    assert_eq!(attach.rest().await, [frame(1, "first\n"), frame(2, "second\n"), frame(1, "third\n")].concat());
}
