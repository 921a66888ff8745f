//! CloudWatch Logs.

use aws_sdk_cloudwatchlogs::error::ProvideErrorMetadata as _;
use aws_sdk_cloudwatchlogs::types::{InputLogEvent, OrderBy};
use sockerless_sandbox::faults::{FaultKind, FaultRule, Faults};
use sockerless_sandbox::model::Operation;
use sockerless_sandbox::settings::{Settings, Span};

use crate::{Aws, GROUP};

fn event(timestamp: i64, message: &str) -> InputLogEvent {
    InputLogEvent::builder().timestamp(timestamp).message(message).build().unwrap()
}

/// A group with streams `a` and `b`, and a time that is near now.
async fn filled(settings: Settings) -> (Aws, i64) {
    let aws = Aws::start(settings).await;
    aws.logs.create_log_group().log_group_name(GROUP).send().await.unwrap();
    let now = sockerless_sandbox::clock::Clock::real().now_ms();
    for (stream, word) in [("a", "START"), ("b", "REPORT")] {
        aws.logs.create_log_stream().log_group_name(GROUP).log_stream_name(stream).send().await.unwrap();
        let events = (0..5).map(|n| event(now - 10 + n, &format!("{word} RequestId: {n}"))).collect();
        let put = aws.logs.put_log_events().log_group_name(GROUP).log_stream_name(stream);
        put.set_log_events(Some(events)).send().await.unwrap();
    }
    (aws, now)
}

#[tokio::test]
async fn groups_and_streams() {
    let aws = Aws::start(Settings::instant()).await;
    let missing = aws.logs.describe_log_streams().log_group_name(GROUP).send().await.unwrap_err().into_service_error();
    assert!(missing.is_resource_not_found_exception());
    assert_eq!(missing.message(), Some("The specified log group does not exist."));
    aws.logs.create_log_group().log_group_name(GROUP).send().await.unwrap();
    let twice = aws.logs.create_log_group().log_group_name(GROUP).send().await.unwrap_err().into_service_error();
    assert!(twice.is_resource_already_exists_exception());
    let retention = |days| aws.logs.put_retention_policy().log_group_name(GROUP).retention_in_days(days).send();
    retention(30).await.unwrap();
    assert!(retention(31).await.unwrap_err().into_service_error().is_invalid_parameter_exception());
    let groups = aws.logs.describe_log_groups().log_group_name_prefix("/sock").send().await.unwrap();
    assert_eq!(groups.log_groups()[0].retention_in_days(), Some(30));

    let create = |name: String| aws.logs.create_log_stream().log_group_name(GROUP).log_stream_name(name).send();
    for n in 0..60 {
        create(format!("instance/{n:02}")).await.unwrap();
    }
    create("other".to_owned()).await.unwrap();
    let again = create("instance/00".to_owned()).await.unwrap_err().into_service_error();
    assert!(again.is_resource_already_exists_exception());
    assert!(create("a:b".to_owned()).await.unwrap_err().into_service_error().is_invalid_parameter_exception());
    let list = || aws.logs.describe_log_streams().log_group_name(GROUP).log_stream_name_prefix("instance/");
    let first = list().send().await.unwrap();
    assert_eq!(first.log_streams().len(), 50);
    let second = list().set_next_token(first.next_token).send().await.unwrap();
    assert_eq!((second.log_streams().len(), second.next_token()), (10, None));
    let last = list().descending(true).limit(1).send().await.unwrap();
    assert_eq!(last.log_streams()[0].log_stream_name(), Some("instance/59"));
    assert!(list().order_by(OrderBy::LastEventTime).send().await.is_err());
    let middle = list().descending(true).limit(2).set_next_token(last.next_token.clone()).send().await.unwrap();
    let names: Vec<_> = middle.log_streams().iter().filter_map(|stream| stream.log_stream_name()).collect();
    assert_eq!(names, ["instance/58", "instance/57"]);
    aws.logs.delete_log_stream().log_group_name(GROUP).log_stream_name("other").send().await.unwrap();
    let gone = aws.logs.get_log_events().log_group_name(GROUP).log_stream_name("other").send().await.unwrap_err();
    assert!(gone.into_service_error().is_resource_not_found_exception());
    aws.sandbox.stop().await;
}

/// Each parameter of DescribeLogStreams has its own refusal, and names are ordered byte by byte.
#[tokio::test]
async fn log_streams_queries_that_aws_refuses() {
    let aws = Aws::start(Settings::instant()).await;
    aws.logs.create_log_group().log_group_name(GROUP).send().await.unwrap();
    for name in ["i/9", "i/10", "i/z", "i/-1", "i/\u{0663}"] {
        aws.logs.create_log_stream().log_group_name(GROUP).log_stream_name(name).send().await.unwrap();
    }
    let list = || aws.logs.describe_log_streams().log_group_name(GROUP);
    let page = list().log_stream_name_prefix("i/").descending(true).send().await.unwrap();
    let names: Vec<_> = page.log_streams().iter().filter_map(|stream| stream.log_stream_name()).collect();
    assert_eq!(names, ["i/\u{0663}", "i/z", "i/9", "i/10", "i/-1"]);
    let forwards = list().log_stream_name_prefix("i/").limit(1).send().await.unwrap().next_token;
    let table = [
        (list().limit(51), "less than or equal to 50"),
        (list().limit(0), "greater than or equal to 1"),
        (list().log_stream_name_prefix(""), "length greater than or equal to 1"),
        (list().log_stream_name_prefix("i".repeat(513)), "less than or equal to 512"),
        (list().log_stream_name_prefix("i:"), "[^:*]*"),
        (list().order_by(OrderBy::from("Name")), "[LogStreamName, LastEventTime]"),
        (list().order_by(OrderBy::LastEventTime).log_stream_name_prefix("i/"), "Cannot order by LastEventTime"),
        (list().next_token(""), "nextToken"),
        (list().next_token("i/9"), "nextToken is invalid"),
        (list().log_stream_name_prefix("i/").descending(true).set_next_token(forwards), "nextToken is invalid"),
        (list().log_group_identifier(GROUP), "mutually exclusive"),
    ];
    for (query, words) in table {
        let refused = query.send().await.unwrap_err().into_service_error();
        assert!(refused.is_invalid_parameter_exception(), "{words}");
        assert!(refused.message().unwrap().contains(words), "{words}: {:?}", refused.message());
    }
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn one_stream_is_read_forwards_and_backwards() {
    let (aws, now) = filled(Settings::instant()).await;
    let get = || aws.logs.get_log_events().log_group_name(GROUP).log_stream_name("a");
    let first = get().start_from_head(true).limit(3).send().await.unwrap();
    let texts: Vec<_> = first.events().iter().filter_map(|e| e.message()).collect();
    assert_eq!(texts, ["START RequestId: 0", "START RequestId: 1", "START RequestId: 2"]);
    let next = |token: Option<String>| get().start_from_head(true).set_next_token(token).send();
    let second = next(first.next_forward_token).await.unwrap();
    assert_eq!(second.events().len(), 2);
    let end = next(second.next_forward_token.clone()).await.unwrap();
    assert_eq!((end.events().len(), end.next_forward_token), (0, second.next_forward_token));
    let latest = get().limit(2).send().await.unwrap();
    assert_eq!(latest.events()[1].message(), Some("START RequestId: 4"));
    let before = get().set_next_token(latest.next_backward_token).send().await.unwrap();
    assert_eq!(before.events().len(), 3);
    let some = get().start_time(now - 9).end_time(now - 7).start_from_head(true).send().await.unwrap();
    assert_eq!(some.events().len(), 2);
    assert!(
        get().next_token("nonsense").send().await.unwrap_err().into_service_error().is_invalid_parameter_exception()
    );
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn a_group_is_searched() {
    let (aws, now) = filled(Settings::instant()).await;
    let filter = || aws.logs.filter_log_events().log_group_name(GROUP);
    let count = |call: aws_sdk_cloudwatchlogs::operation::filter_log_events::builders::FilterLogEventsFluentBuilder| async {
        call.send().await.unwrap().events().len()
    };
    assert_eq!(count(filter()).await, 10);
    assert_eq!(count(filter().filter_pattern(r#""START RequestId""#)).await, 5);
    assert_eq!(count(filter().filter_pattern(r#"?"START RequestId: 1" ?"REPORT RequestId: 2" ?"none""#)).await, 2);
    assert_eq!(count(filter().start_time(now - 10).end_time(now - 9)).await, 4);
    assert_eq!(count(filter().log_stream_names("a")).await, 5);
    assert_eq!(count(filter().log_stream_name_prefix("b")).await, 5);
    let newest = filter().start_from_head(false).limit(1).send().await.unwrap();
    assert_eq!(newest.events()[0].timestamp(), Some(now - 6));
    let both = filter().log_stream_names("a").log_stream_name_prefix("b").send().await.unwrap_err();
    assert!(both.into_service_error().is_invalid_parameter_exception());
    assert!(
        filter().filter_pattern("a:b").send().await.unwrap_err().into_service_error().is_invalid_parameter_exception()
    );
    for head in [true, false] {
        let (mut ids, mut token) = (Vec::new(), None);
        loop {
            let call = filter().limit(3).start_from_head(head).set_next_token(token);
            let page = call.send().await.unwrap();
            ids.extend(page.events().iter().filter_map(|e| e.event_id.clone()));
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 10);
    }
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn pages_can_be_empty_and_go_on() {
    let mut settings = Settings::instant();
    settings.quotas.filter_scan_events = 2;
    settings.faults.rules.push(FaultRule::nth(Operation::FilterLogEvents, 1, FaultKind::EmptyPage));
    let (aws, _) = filled(settings).await;
    let (mut pages, mut found, mut token) = (0, 0, None);
    loop {
        let call = aws.logs.filter_log_events().log_group_name(GROUP).filter_pattern(r#""REPORT RequestId: 4""#);
        let page = call.set_next_token(token).send().await.unwrap();
        (pages, found, token) = (pages + 1, found + page.events().len(), page.next_token);
        if token.is_none() {
            break;
        }
    }
    assert_eq!((pages, found), (6, 1));
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn delivery_takes_time() {
    let mut settings = Settings::instant();
    settings.timing.log_delivery = Span::exactly(600_000);
    let (aws, now) = filled(settings).await;
    assert!(crate::messages(&aws).await.is_empty());
    let old = event(now - 15 * 86_400_000, "too old");
    let put =
        aws.logs.put_log_events().log_group_name(GROUP).log_stream_name("a").log_events(old).send().await.unwrap();
    assert_eq!(put.rejected_log_events_info.unwrap().too_old_log_event_end_index, Some(1));
    aws.sandbox.set_faults(Faults::default());
    aws.sandbox.stop().await;
}
