//! Log streams and lines that another party has written into the log group.

use serde_json::json;
use sockerless_lambda::clock::Clock;

use crate::support::{Api, REQUEST_ID, plain};

const OTHER: &str = "99999999-2222-3333-4444-555555555555";
/// The end of the names of a stream that another party makes, and of the run's own. The forged one sorts first.
const FORGED: &str = "00000000000000000000000000000000";
const REAL: &str = "ffffffffffffffffffffffffffffffff";

fn now() -> i64 {
    Clock::real().now().as_millis()
}

/// The name of a stream as Lambda makes one today for the function of every run that is issued here.
fn stream(environment: &str) -> String {
    let day = Clock::real().now().to_string()[..10].replace('-', "/");
    format!("{day}/function[$LATEST]{environment}")
}

/// Everything that a party can write who knows the function's name, and neither the run's token nor its request id.
fn forge(api: &Api) {
    let begin = now() - 5_000;
    for message in [
        "forged without any frame".to_owned(),
        format!("START RequestId: {OTHER} Version: $LATEST\n"),
        format!("@sockerless:start forged-token {OTHER}"),
        "forged".to_owned(),
        "[stderr] forged".to_owned(),
        "@sockerless:exit forged-token 0 exited".to_owned(),
        format!("END RequestId: {OTHER}\n"),
    ] {
        api.logs.put_in(&stream(FORGED), begin, &message);
    }
}

/// The first lines of the run, seconds ago, and those of before it in the same environment.
fn print(api: &Api, token: &str) {
    let begin = now() - 10_000;
    for message in [
        format!("START RequestId: {REQUEST_ID} Version: $LATEST\n"),
        format!("@sockerless:start {token} {REQUEST_ID}"),
        "first".to_owned(),
        "second".to_owned(),
    ] {
        api.logs.put_in(&stream(REAL), begin, &message);
    }
}

async fn open(api: &Api, path: &str) -> crate::support::Connection {
    let method = if path.contains("/attach") { "POST" } else { "GET" };
    let mut stream = api.send(method, path, "Connection: close\r\n", "").await;
    stream.head().await;
    stream
}

#[tokio::test]
async fn forged_stream_is_never_shown_and_the_real_one_is_from_its_start() {
    let api = Api::new().await;
    let id = api.running_unseen("one", &plain()).await;
    forge(&api);
    let logs = format!("/containers/{id}/logs?stdout=1&stderr=1");
    assert_eq!(api.get(&logs).await.body, b"");
    let mut shown = [
        open(&api, &format!("{logs}&follow=1")).await,
        open(&api, &format!("/containers/{id}/attach?stream=1&logs=1&stdout=1&stderr=1")).await,
    ];
    let mut attached = open(&api, &format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1")).await;
    for stream in shown.iter_mut().chain([&mut attached]) {
        assert!(stream.is_silent().await);
    }
    print(&api, "token");
    for stream in &mut shown {
        let text = stream.until("second").await;
        assert!(text.contains("first") && !text.contains("forged"), "{text:?}");
    }
    api.logs.put_in(&stream(REAL), now() + 1, "third");
    let text = attached.until("third").await;
    assert!(!text.contains("first") && !text.contains("second"), "only what comes from now on: {text:?}");
    let text = api.get(&logs).await.text();
    assert!(text.contains("first") && !text.contains("forged"), "{text:?}");
    api.exit(&id, 0).await;
    for stream in shown.iter_mut().chain([&mut attached]) {
        let rest = String::from_utf8_lossy(&stream.rest().await).into_owned();
        assert!(!rest.contains("forged"), "{rest:?}");
    }
}

/// The daemon's clock may be minutes ahead of the log's.
#[tokio::test]
async fn attach_to_a_cold_run_shows_its_first_lines_by_any_clock() {
    let api = Api::new().await;
    let id = api.cold("one", &plain()).await;
    let mut attached = open(&api, &format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1")).await;
    assert!(attached.is_silent().await);
    print(&api, "token");
    let text = attached.until("second").await;
    assert!(text.contains("first"), "{text:?}");
}

/// The function of a native run does not get the token, so nothing but its request id is a proof.
#[tokio::test]
async fn native_run_is_shown_from_its_start_once_its_request_id_is_known() {
    let api = Api::new().await;
    let body = json!({ "Image": "alpine", "Labels": { "sockerless.lambda.protocol": "native" } });
    let id = api.running_unseen("one", &body).await;
    forge(&api);
    print(&api, "another");
    let mut follow = open(&api, &format!("/containers/{id}/logs?stdout=1&follow=1")).await;
    assert!(follow.is_silent().await);
    api.name_run(&id).await;
    let text = follow.until("second").await;
    assert!(text.contains("first") && !text.contains("forged"), "{text:?}");
}

/// A program can write to its own stream under its role, with any time.
#[tokio::test]
async fn line_dated_in_the_future_hides_no_line_of_a_follower() {
    let api = Api::new().await;
    let id = api.running_unseen("one", &plain()).await;
    print(&api, "token");
    for (ahead_ms, message) in [(240_000, "in minutes"), (7_200_000, "in two hours")] {
        api.logs.put_in(&stream(REAL), now() + ahead_ms, message);
    }
    let mut streams = [
        open(&api, &format!("/containers/{id}/logs?stdout=1&follow=1")).await,
        open(&api, &format!("/containers/{id}/attach?stream=1&logs=1&stdout=1")).await,
    ];
    for stream in &mut streams {
        stream.until("in minutes").await;
    }
    for word in ["honest", "and another"] {
        api.logs.put_in(&stream(REAL), now(), word);
        for stream in &mut streams {
            stream.until(word).await;
        }
    }
    for stream in &mut streams {
        let text = stream.until("honest").await;
        assert_eq!(text.matches("in minutes").count(), 1, "{text:?}");
        assert!(!text.contains("in two hours"), "its time has not come: {text:?}");
    }
}
