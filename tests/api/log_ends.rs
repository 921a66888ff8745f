//! The end of an answer with output: regular only when nothing is missing.

use std::sync::atomic::Ordering;

use sockerless_lambda::clock::Clock;

use crate::output::{frame, print_a_run};
use crate::support::{Api, Connection, REQUEST_ID, STREAM, plain};

/// Whether the answer has a regular end.
async fn ends_regularly(logs: &mut Connection) -> bool {
    logs.rest().await.ends_with(b"0\r\n\r\n")
}

fn tail(lines: &[&str]) -> String {
    let begin = format!("START RequestId: {REQUEST_ID} Version: $LATEST\n@sockerless:start token {REQUEST_ID}\n");
    let end = format!("@sockerless:exit token 0 exited\nEND RequestId: {REQUEST_ID}\n");
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    begin + &lines + &end
}

#[tokio::test]
async fn whole_tail_is_served_when_the_log_of_a_closed_run_cannot_be_read() {
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    api.close_log(&id, Some(&tail(&["first", "[stderr] second"]))).await;
    api.logs.no_reading.store(true, Ordering::Relaxed);
    for path in ["logs?stdout=1&stderr=1", "logs?stdout=1&stderr=1&follow=1", "attach?logs=1&stdout=1&stderr=1"] {
        let method = if path.starts_with("attach") { "POST" } else { "GET" };
        let answer = api.ask(method, &format!("/containers/one/{path}"), "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.body, [frame(1, "first\n"), frame(2, "second\n")].concat(), "{path}");
    }
}

/// The lines of a tail have no times, and an earlier run has none in it.
#[tokio::test]
async fn tail_that_cannot_stand_for_the_log_leaves_the_failure_its_status() {
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    api.close_log(&id, Some(&tail(&["first"]))).await;
    api.logs.no_reading.store(true, Ordering::Relaxed);
    assert_eq!(api.get("/containers/one/logs?stdout=1&since=1").await.status, 502);
    api.ran_before(&id, "99999999-2222-3333-4444-555555555555").await;
    assert_eq!(api.get("/containers/one/logs?stdout=1").await.status, 502);
}

/// Nothing more is looked for in the log, and what is there was not read yet.
#[tokio::test]
async fn last_lines_are_read_after_a_reading_that_fails_behind_the_end() {
    let api = Api::new().await;
    let id = api.running("one", &plain()).await;
    let path = format!("/containers/{id}/logs?stdout=1&follow=1");
    let mut follow = api.send("GET", &path, "Connection: close\r\n", "").await;
    follow.head().await;
    api.logs.no_reading.store(true, Ordering::Relaxed);
    api.exit(&id, 0).await;
    api.close_log(&id, None).await;
    // The first of them may have begun before the end was known.
    api.logs.until_failed(2).await;
    print_a_run(&api);
    api.logs.no_reading.store(false, Ordering::Relaxed);
    assert_eq!(follow.all().await.body, [frame(1, "first\n"), frame(1, "third\n")].concat());
}

#[tokio::test]
async fn answer_breaks_off_when_the_rest_cannot_be_read_and_the_tail_does_not_fit() {
    let api = Api::new().await;
    let id = api.running("one", &plain()).await;
    let now = Clock::real().now().as_millis();
    api.logs.put(now, &format!("START RequestId: {REQUEST_ID} Version: $LATEST\n"));
    api.logs.put(now, "of the log alone");
    let path = format!("/containers/{id}/logs?stdout=1&follow=1");
    let mut follow = api.send("GET", &path, "Connection: close\r\n", "").await;
    follow.until("of the log alone").await;
    api.logs.no_reading.store(true, Ordering::Relaxed);
    api.exit(&id, 0).await;
    api.close_log(&id, Some(&tail(&["something else"]))).await;
    api.end_long_ago(&id).await;
    assert!(!ends_regularly(&mut follow).await);
}

#[tokio::test]
async fn deleted_streams_of_earlier_runs_hide_no_line_of_the_others() {
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    let old: Vec<String> = (0..150).map(|n| format!("2026/11/22/function[1]{n}")).collect();
    api.wrote_to(&id, &old).await;
    let now = print_a_run(&api);
    api.logs.put_in(&old[149], now - 1_000, "old");
    api.logs.deleted.lock().unwrap().extend([&old[0], &old[73], &old[148]].map(Clone::clone));
    for path in ["logs?stdout=1", "logs?stdout=1&follow=1"] {
        let body = api.get(&format!("/containers/one/{path}")).await.body;
        let mut lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
        lines.sort_unstable();
        assert_eq!(lines.len(), 4, "{path}: {}", String::from_utf8_lossy(&body));
        for line in ["old\n", "first\n", "third\n"] {
            let frame = frame(1, line);
            assert!(body.windows(frame.len()).any(|window| window == frame), "{path}: {line}");
        }
    }
}

/// The tail that came with the answer has the lines of a run whose stream was deleted.
#[tokio::test]
async fn whole_tail_stands_for_a_deleted_stream() {
    let api = Api::new().await;
    let id = api.ended("one", &plain(), 0).await;
    api.close_log(&id, Some(&tail(&["first"]))).await;
    api.logs.deleted.lock().unwrap().insert(STREAM.to_owned());
    let answer = api.get("/containers/one/logs?stdout=1").await;
    assert_eq!((answer.status, answer.body), (200, frame(1, "first\n")));
    api.close_log(&id, None).await;
    api.end_long_ago(&id).await;
    let answer = api.get("/containers/one/logs?stdout=1").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, ""), "what was deleted is not waited for");
}
