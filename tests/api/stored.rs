//! What a client sends and AWS says is stored within limits, and can be read again.

use serde_json::{Value, json};
use sockerless_lambda::clock::Clock;

use crate::support::{Answer, Api, filters, plain};

/// A body of `create` with this JSON in a setting that is only recorded.
fn with_healthcheck(json: &str) -> String {
    format!("{{\"Image\":\"host\",\"Cmd\":[\"true\"],\"Healthcheck\":{{\"X\":{json}}}}}")
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// Everything that reads several rows works.
async fn all_is_readable(api: &Api) {
    let events = format!("/events?since=1&until={}", Clock::real().now());
    for path in ["/containers/json?all=1", "/info", "/system/df", "/images/json", &events] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
}

async fn created(api: &Api, body: &str) -> Answer {
    api.ask("POST", "/containers/create", body).await
}

#[tokio::test]
async fn body_nested_beyond_32_levels_is_refused() {
    let api = Api::new().await;
    let (deepest, refusal) = (30, (400, "invalid JSON: nested deeper than 32 levels".to_owned()));
    assert_eq!(created(&api, &with_healthcheck(&nested(deepest))).await.status, 201);
    for levels in [deepest + 1, 60, 124, 125, 126, 127, 128, 1_000, 1_000_000] {
        assert_eq!(created(&api, &with_healthcheck(&nested(levels))).await.error(), refusal, "{levels}");
    }
    let maps =
        format!("{{\"Image\":\"a\",\"HostConfig\":{{\"LogConfig\":{}1{}}}}}", "{\"a\":".repeat(40), "}".repeat(40));
    let unknown = format!("{{\"Image\":\"a\",\"Unknown\":{}}}", nested(200));
    for body in [maps, unknown, "[".repeat(4_000_000)] {
        for path in ["/containers/create", "/internal/v1/containers", "/auth", "/internal/v1/images/pull"] {
            assert_eq!(api.ask("POST", path, &body).await.error(), refusal, "{path}");
        }
    }
    all_is_readable(&api).await;
}

#[tokio::test]
async fn filters_nested_beyond_32_levels_are_refused() {
    let api = Api::new().await;
    let mut deep = json!("x");
    (0..40).for_each(|_| deep = json!([deep]));
    let query = filters(&json!({ "name": deep }));
    for path in ["/containers/json", "/images/json", "/events", "/networks", "/volumes"] {
        let answer = api.get(&format!("{path}?{query}")).await;
        let refusal = (400, "invalid filter: nested deeper than 32 levels".to_owned());
        assert_eq!(answer.error(), refusal, "{path}");
    }
}

#[tokio::test]
async fn body_with_too_many_values_is_refused() {
    let api = Api::new().await;
    let many = format!("[{}1]", "1,".repeat(1_000_000));
    let refusal = (400, "invalid JSON: more than 100000 values".to_owned());
    assert_eq!(created(&api, &with_healthcheck(&many)).await.error(), refusal);
}

#[tokio::test]
async fn recorded_settings_are_bounded() {
    let api = Api::new().await;
    let (status, message) = created(&api, &with_healthcheck(&format!("\"{}\"", "x".repeat(70_000)))).await.error();
    assert!(status == 400 && message.contains("more than the 65536 that are kept"), "{message}");
}

/// Values that a parser or a row could lose: each is refused with the field's name, or reads back as it was sent.
#[tokio::test]
async fn odd_values_are_refused_or_read_back() {
    let api = Api::new().await;
    let refused = [
        (with_healthcheck("1e999"), "number out of range"),
        (with_healthcheck("-1e999"), "number out of range"),
        (with_healthcheck("1.5"), "Healthcheck: numbers must be whole"),
        (with_healthcheck("1.7976931348623157e308"), "Healthcheck: numbers must be whole"),
        (with_healthcheck("18446744073709551616"), "Healthcheck: numbers must be whole"),
        (with_healthcheck("\"\\ud800\""), "invalid JSON"),
        (with_healthcheck("\"\\u0000\""), "Healthcheck: a zero byte"),
        (r#"{"Image":"a","User":"\u0000"}"#.to_owned(), "User: a zero byte"),
        (r#"{"Image":"a","Labels":{"a\u0000":"b"}}"#.to_owned(), "Labels: a zero byte"),
        (r#"{"Image":"a","Labels":{"a":"b\u0000"}}"#.to_owned(), "Labels: a zero byte"),
        (r#"{"Image":"a","Env":["A=\u0000"]}"#.to_owned(), "Env: a zero byte"),
        (r#"{"Image":"a","Cmd":["\u0000"]}"#.to_owned(), "Cmd and Entrypoint: a zero byte"),
        (r#"{"Image":"a","WorkingDir":"/\u0000"}"#.to_owned(), "WorkingDir: a zero byte"),
        (r#"{"Image":"a\u0000"}"#.to_owned(), ""),
        (r#"{"Image":"a","Cmd":["b"]}{}"#.to_owned(), "trailing characters"),
    ];
    for (body, said) in refused {
        let (status, message) = created(&api, &body).await.error();
        assert!(status == 400 && message.contains(said), "{body}: {message}");
    }
    let broken = api
        .send_bytes("POST", "/containers/create", "Connection: close\r\n", b"{\"Image\":\"\xff\"}")
        .await
        .all()
        .await;
    assert_eq!(broken.status, 400);
    let name = api.ask("POST", "/containers/create?name=a%00b", &plain().to_string()).await;
    assert_eq!(name.status, 400);

    let numbers = with_healthcheck("[9223372036854775807,-9223372036854775808,18446744073709551615]");
    let id = created(&api, &numbers).await.json()["Id"].as_str().unwrap().to_owned();
    let health = &api.get(&format!("/containers/{id}/json")).await.json()["Config"]["Healthcheck"]["X"];
    assert_eq!(*health, json!([i64::MAX, i64::MIN, u64::MAX]));
    let twice = r#"{"Image":"first","Image":"second","Labels":{"a":"1","a":"2"}}"#;
    let id = created(&api, twice).await.json()["Id"].as_str().unwrap().to_owned();
    let config = &api.get(&format!("/containers/{id}/json")).await.json()["Config"];
    assert_eq!((&config["Image"], &config["Labels"]), (&json!("second"), &json!({ "a": "2" })), "the last one counts");
    all_is_readable(&api).await;
}

/// A function's error of 5 MB, and all the other texts of a run.
#[tokio::test]
async fn inspect_of_an_end_with_5_mb_of_text_is_bounded() {
    let api = Api::new().await;
    let id = api.running("one", &plain()).await;
    let huge = "\u{1b}\"é".repeat(1_300_000);
    api.end_with(&id, &huge).await;
    let status = api.container(&id).await.status;
    assert!(serde_json::to_string(&status).unwrap().len() < 64 << 10);
    let answer = api.get(&format!("/containers/{id}/json")).await;
    assert!(answer.status == 200 && answer.body.len() < 64 << 10, "{} bytes", answer.body.len());
    let error: &Value = &answer.json()["State"]["Error"];
    assert!(error.as_str().unwrap().ends_with('…') && !error.as_str().unwrap().contains('\u{1b}'));
    let events = api.get(&format!("/events?since=1&until={}", Clock::real().now())).await;
    assert!(events.body.len() < 64 << 10, "{} bytes", events.body.len());
    assert_eq!(api.ask("DELETE", "/containers/one", "").await.status, 204);
    let waited = api.post(&format!("/containers/{id}/wait")).await;
    assert!(waited.status == 200 && waited.body.len() < 8 << 10);
}
