use serde_json::json;
use sockerless_lambda::aws::{AwsErrorKind, LogPage, LogQuery, ReadLogs};

use crate::server::{Reply, Server, answer, error};

fn groups(groups: &[(&str, Option<u32>)]) -> Reply {
    let groups: Vec<_> =
        groups.iter().map(|(name, days)| json!({ "logGroupName": name, "retentionInDays": days })).collect();
    answer(200, json!({ "logGroups": groups }))
}

fn exists() -> Reply {
    error(400, "ResourceAlreadyExistsException", "The specified log group already exists")
}

#[tokio::test]
async fn a_log_group_is_made_once() {
    let done = || answer(200, "");
    let (describe, create, put) = ("DescribeLogGroups", "CreateLogGroup", "PutRetentionPolicy");
    let rows: Vec<(Vec<Reply>, Option<u32>, Vec<&str>)> = vec![
        (vec![groups(&[("/g", Some(14)), ("/g/other", None)])], Some(14), vec![describe]),
        (vec![groups(&[("/g", Some(14))])], None, vec![describe]),
        (vec![groups(&[("/g", None)]), done()], Some(14), vec![describe, put]),
        (vec![groups(&[("/g", Some(7))]), done()], Some(14), vec![describe, put]),
        (vec![groups(&[("/g/other", Some(14))]), done(), done()], Some(14), vec![describe, create, put]),
        (vec![groups(&[]), done()], None, vec![describe, create]),
        (vec![groups(&[]), exists(), done()], Some(14), vec![describe, create, put]),
    ];
    for (replies, days, asked) in rows {
        let server = Server::start(replies).await;
        server.cloud().await.ensure_log_group("/g", days).await.unwrap();
        assert_eq!(server.asked(), asked);
        assert_eq!(server.requests()[0].json(), json!({ "logGroupNamePrefix": "/g", "limit": 50 }));
    }
}

#[tokio::test]
async fn a_log_group_that_cannot_be_made() {
    let server = Server::start([groups(&[]), error(400, "OperationAbortedException", "Multiple requests")]).await;
    let error = server.cloud().await.ensure_log_group("/g", Some(14)).await.unwrap_err();
    assert_eq!(error.kind, AwsErrorKind::Conflict);
    assert_eq!(error.to_string(), "logs: create log group: Multiple requests");
}

#[tokio::test]
async fn a_stream_can_be_claimed_once() {
    let missing = error(400, "ResourceNotFoundException", "The specified log stream does not exist.");
    let server = Server::start([answer(200, ""), exists(), answer(200, ""), missing]).await;
    let cloud = server.cloud().await;
    assert!(cloud.create_log_stream("/g", "i/1").await.unwrap());
    assert!(!cloud.create_log_stream("/g", "i/1").await.unwrap());
    cloud.delete_log_stream("/g", "i/1").await.unwrap();
    cloud.delete_log_stream("/g", "i/1").await.unwrap();
    assert_eq!(server.asked(), ["CreateLogStream", "CreateLogStream", "DeleteLogStream", "DeleteLogStream"]);
    assert_eq!(server.requests()[0].json(), json!({ "logGroupName": "/g", "logStreamName": "i/1" }));
}

/// Read from the last name to the first, until there is enough, or no more, or as many pages as may be.
#[tokio::test]
async fn log_streams_descending_reads_as_few_pages_as_are_enough() {
    let page = |name: &str, token: Option<&str>| {
        answer(200, json!({ "logStreams": [{ "logStreamName": name }], "nextToken": token }))
    };
    let pages = || [page("i/3", Some("t")), page("i/2", Some("u")), page("i/1", None)];
    for (most, enough, names, complete) in [
        (9, "", &["i/3", "i/2", "i/1"][..], true),
        (9, "i/2", &["i/3", "i/2"], false),
        (1, "", &["i/3"], false),
        (3, "i/1", &["i/3", "i/2", "i/1"], true),
    ] {
        let server = Server::start(pages()).await;
        let is_enough = |names: &[String]| names.iter().any(|name| name == enough);
        let found = server.cloud().await.log_streams_descending("/g", "i/", most, is_enough).await.unwrap();
        assert_eq!(
            (found.names.as_slice(), found.complete),
            (&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()[..], complete)
        );
        assert_eq!(server.requests().len(), names.len());
        let expected = json!({
            "logGroupName": "/g", "logStreamNamePrefix": "i/", "orderBy": "LogStreamName", "descending": true, "limit": 50,
        });
        assert_eq!(server.requests()[0].json(), expected);
    }
}

#[tokio::test]
async fn log_events_are_asked_for_and_sorted() {
    let event = |id: &str, timestamp: i64, ingestion: i64| {
        json!({ "eventId": id, "logStreamName": "s", "timestamp": timestamp, "ingestionTime": ingestion,
                "message": format!("line {id}\n") })
    };
    let events = [event("d", 2, 9), event("b", 1, 8), event("c", 1, 8), event("a", 1, 7)];
    let server = Server::start([answer(200, json!({ "events": events, "nextToken": "t2" })), answer(200, "{}")]).await;
    let cloud = server.cloud().await;
    let query = LogQuery {
        group: "/g".to_owned(),
        stream_prefix: Some("2026/".to_owned()),
        start_ms: Some(1),
        end_ms: Some(2),
        pattern: Some(r#"?"START RequestId""#.to_owned()),
        limit: Some(10_000),
        next_token: Some("t1".to_owned()),
        ..LogQuery::default()
    };
    let page = cloud.read(query).await.unwrap();
    assert_eq!(page.events.iter().map(|event| event.id.as_str()).collect::<String>(), "abcd");
    assert_eq!(page.events[0].message, "line a\n");
    assert_eq!(page.next_token.as_deref(), Some("t2"));

    let streams = LogQuery { group: "/g".to_owned(), streams: vec!["s".to_owned()], ..LogQuery::default() };
    assert!(cloud.filter_log_events(streams).await.unwrap().events.is_empty());

    let [first, second] = <[_; 2]>::try_from(server.requests()).unwrap();
    let expected = json!({
        "logGroupName": "/g", "logStreamNamePrefix": "2026/", "startTime": 1, "endTime": 2,
        "filterPattern": r#"?"START RequestId""#, "limit": 10_000, "nextToken": "t1",
    });
    assert_eq!(first.json(), expected);
    assert_eq!(second.json(), json!({ "logGroupName": "/g", "logStreamNames": ["s"] }));
}

/// AWS refuses a question in which one stream does not exist: none of them was read.
#[tokio::test]
async fn missing_stream_is_no_empty_page_and_missing_group_is() {
    let missing =
        |what: &str| error(400, "ResourceNotFoundException", &format!("The specified log {what} does not exist."));
    let of = |streams: &[&str]| LogQuery {
        group: "/g".to_owned(),
        streams: streams.iter().map(|name| (*name).to_owned()).collect(),
        ..LogQuery::default()
    };
    let server = Server::start([missing("group"), missing("group"), missing("stream"), missing("thing")]).await;
    let cloud = server.cloud().await;
    assert_eq!(cloud.read(of(&[])).await.unwrap(), LogPage::default());
    assert_eq!(cloud.read(of(&["a", "b"])).await.unwrap(), LogPage::default());
    for streams in [&["a", "b"][..], &["a"]] {
        assert_eq!(cloud.read(of(streams)).await.unwrap_err().kind, AwsErrorKind::NotFound, "{streams:?}");
    }
}

#[tokio::test]
async fn reachable() {
    let server = Server::start([groups(&[])]).await;
    server.cloud().await.reachable().await.unwrap();
    assert_eq!(server.asked(), ["DescribeLogGroups"]);
}
