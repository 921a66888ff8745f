//! What the execution role may write, as far as the logs and the database show it: IAM is not asked.

use std::time::Duration;

use super::Report;
use crate::aws::{AwsError, Cloud, LogQuery};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::state::recorded_roles_without_logs;

/// How far back output of functions is looked for: as far as two names of days reach for sure.
const LOOK_BACK: Duration = Duration::from_secs(24 * 3_600);
/// Pages that are read for one line: CloudWatch may give empty ones before it.
const MAX_PAGES: usize = 5;

/// Looks whether functions write logs, and whether some have written where only daemons may.
pub(super) async fn examine(config: &Config, cloud: &Cloud, now: Timestamp, report: &mut Report) {
    let recorded = recorded_roles_without_logs(&config.database).await.unwrap_or_default();
    let is_recorded = recorded.contains(&config.role_arn);
    output(config, last_line(config, cloud, now).await, is_recorded, report);
    let streams = cloud.log_streams_descending(&config.claims_log_group, &year(now), 1, |_| true).await;
    claims(config, streams.map(|streams| streams.names.into_iter().next()), report);
}

/// What is said when AWS is not asked.
pub(super) fn not_asked(report: &mut Report) {
    report.not_tried("role: output", "AWS does not know us", "see above");
    report.not_tried("role: claims", "AWS does not know us", "see above");
}

/// When a function with our prefix last wrote a line, of those that the first pages show. Streams are named
/// `YYYY/MM/DD/<function>[…`.
async fn last_line(config: &Config, cloud: &Cloud, now: Timestamp) -> Result<Option<Timestamp>, AwsError> {
    for day in [now, now.before(LOOK_BACK)].map(day) {
        let mut query = LogQuery {
            group: config.log_group.clone(),
            stream_prefix: Some(format!("{day}/{}-", config.function_prefix)),
            start_ms: Some(now.before(LOOK_BACK).as_millis().max(0)),
            ..LogQuery::default()
        };
        for _ in 0..MAX_PAGES {
            let page = cloud.filter_log_events(query.clone()).await?;
            if let Some(event) = page.events.last() {
                return Ok(Some(Timestamp::from_millis(event.timestamp_ms)));
            }
            if page.next_token.is_none() {
                break;
            }
            query.next_token = page.next_token;
        }
    }
    Ok(None)
}

fn day(time: Timestamp) -> String {
    time.to_string().chars().take(10).map(|digit| if digit == '-' { '/' } else { digit }).collect()
}

fn year(time: Timestamp) -> String {
    time.to_string().chars().take(4).chain(['/']).collect()
}

/// Whether the role may write the logs of its functions. `is_recorded`: a daemon has seen that it does not. PURE, as below.
fn output(config: &Config, last: Result<Option<Timestamp>, AwsError>, is_recorded: bool, report: &mut Report) {
    let (check, group, role) = ("role: output", &config.log_group, &config.role_arn);
    let todo = format!("{role} must allow logs:CreateLogStream and logs:PutLogEvents on the log group {group}");
    match (last, is_recorded) {
        (Err(error), _) => report.not_tried(check, error.to_string(), "see logs:FilterLogEvents"),
        (Ok(Some(at)), false) => report.ok(check, format!("functions write to {group}: a line is of {at}")),
        (Ok(Some(at)), true) => {
            let seen = format!(
                "functions write to {group}: a line is of {at}. A daemon has seen before that those of {role} do not; it \
                 tries them again after its next start"
            );
            report.ok(check, seen);
        }
        (Ok(None), true) => {
            let seen =
                format!("a daemon has seen that functions of {role} write no logs, and there are none of the last day");
            report.wrong(check, seen, todo);
        }
        (Ok(None), false) => {
            report.not_tried(
                check,
                format!("no function has written to {group} in the last day: only a run shows it"),
                todo,
            );
        }
    }
}

/// Whether functions may write to the claims group. `stream`: one of a function that is there.
fn claims(config: &Config, stream: Result<Option<String>, AwsError>, report: &mut Report) {
    let (check, group) = ("role: claims", &config.claims_log_group);
    let todo = format!(
        "{} and the roles of all other functions must not be allowed to write to {group}; AWSLambdaBasicExecutionRole and \
         other policies on all log groups allow it",
        config.role_arn
    );
    match stream {
        Ok(Some(stream)) => report.wrong(check, format!("{group} has the stream {stream:?}, as functions write"), todo),
        Ok(None) | Err(_) => {
            report.not_tried(check, "what the role's policies allow cannot be seen without rights on IAM", todo);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("eu-west-1", "arn:aws:iam::000000000000:role/job").unwrap()
    }

    fn line(examine: impl Fn(&mut Report)) -> String {
        let mut report = Report::default();
        examine(&mut report);
        report.findings()[0].to_string()
    }

    #[test]
    fn role_is_judged_by_what_functions_have_written_and_by_what_daemons_have_seen() {
        let output = |last, is_recorded| line(|report| output(&config(), Ok(last), is_recorded, report));
        let at = Some(Timestamp::from_secs(60));
        assert!(output(at, false).starts_with("ok         role: output: functions write to /sockerless/lambda: "));
        assert!(output(at, true).starts_with("ok ") && output(at, true).contains("has seen before"));
        assert!(output(None, true).starts_with("WRONG      role: output: a daemon has seen"), "{}", output(None, true));
        assert!(output(None, true).ends_with("logs:PutLogEvents on the log group /sockerless/lambda"));
        assert!(output(None, false).starts_with("not tried  role: output: no function has written"));
    }

    #[test]
    fn stream_of_a_function_among_the_claims_is_wrong() {
        let claims = |stream: Option<&str>| line(|report| claims(&config(), Ok(stream.map(str::to_owned)), report));
        assert!(
            claims(Some("2026/11/23/x[$LATEST]0"))
                .starts_with("WRONG      role: claims: /sockerless/lambda-claims has")
        );
        let unseen = claims(None);
        assert!(
            unseen.starts_with("not tried  role: claims") && unseen.contains("AWSLambdaBasicExecutionRole"),
            "{unseen}"
        );
    }

    #[test]
    fn streams_are_named_by_their_day() {
        let time = Timestamp::from_secs(1_795_396_391);
        assert_eq!((day(time).as_str(), year(time).as_str()), ("2026/11/23", "2026/"));
    }
}
