//! Readers of output that have paused.

use crate::support::{Api, plain};

/// Lines of the log, each of [`LINE_BYTES`].
const LINES: usize = 100;
const LINE_BYTES: usize = 64 * 1_024;
/// What this number of clients hold together is more than all sessions may hold.
const PAUSED: usize = 30;

#[tokio::test]
async fn paused_readers_of_large_logs_give_way_to_one_that_reads() {
    let api = Api::new().await;
    let id = api.ended("large", &plain(), 0).await;
    let line = "x".repeat(LINE_BYTES - 1);
    let begun = api.container(&id).await.created_at.as_millis();
    for _ in 0..LINES {
        api.logs.put(begun + 1, &line);
    }
    api.close_log(&id, None).await;
    let path = "/containers/large/logs?stdout=1&stderr=1";
    let mut paused = Vec::new();
    for _ in 0..PAUSED {
        paused.push(api.send("GET", path, "Connection: close\r\n", "").await);
    }
    let answer = api.get(path).await;
    assert_eq!((answer.status, answer.body.len()), (200, LINES * (LINE_BYTES + 8)));
    let mut cut_off = 0;
    for mut connection in paused {
        cut_off += usize::from(!connection.rest().await.ends_with(b"0\r\n\r\n"));
    }
    assert!((1..PAUSED).contains(&cut_off), "no more than are in the way: {cut_off}");
}
