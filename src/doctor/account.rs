//! What AWS says: whether it answers, knows us, agrees about the time, and lets us do our work.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use super::rights::{RIGHTS, Right, Trial};
use super::{Report, role_logs};
use crate::aws::{AwsError, AwsErrorKind, Cloud, FirstAnswer, LogQuery};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::reconciler::{TAG_MANAGED_BY, log_pattern};

/// AWS refuses signatures that are five minutes off; a clock that is kept is never a minute off.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// No stream begins like this: instances have hexadecimal names, and Lambda's streams begin with a date.
const NO_STREAM: &str = "doctor/";
/// How often AWS is asked when it refuses a call as one too many: a daemon that works uses the same quotas.
const ATTEMPTS: u32 = 4;

pub(super) async fn examine(config: &Config, cloud: &Cloud, clock: &Clock, report: &mut Report) {
    let first = cloud.first_answer().await;
    let now = clock.now();
    let answers = endpoint(config, &first, report);
    time(&first, now, report);
    let known = answers && credentials(&first, report);
    if !answers {
        report.not_tried("credentials", "AWS does not answer", "see above");
    }
    let account = match known {
        true => {
            let of_output = log_group(&config.log_group, "it exists", cloud, report).await;
            let seen = "it exists; no role of functions may be allowed to write to it, which is not checked here";
            log_group(&config.claims_log_group, seen, cloud, report).await.or(of_output)
        }
        false => None,
    };
    role(config, account.as_deref(), report);
    match known {
        true => role_logs::examine(config, cloud, now, report).await,
        false => role_logs::not_asked(report),
    }
    registry(config, report);
    let subject = match known {
        true => Subject::find(config, cloud).await,
        false => Subject::nobody(config),
    };
    for right in RIGHTS.iter().filter(|right| right.is_needed(config)) {
        match right.trial {
            Trial::WouldChange(why) => report.not_tried(right.action, why, right.todo(config)),
            Trial::Call if !known => report.not_tried(right.action, "AWS does not know us", "see above"),
            Trial::Call => {
                let outcome = patiently(async || tried(right, config, &subject, cloud).await).await;
                verdict(right, outcome, config, &subject, report);
            }
        }
    }
}

/// The function that the trials name.
struct Subject {
    name: String,
    /// Its own image, or one that need not exist but has the form of one.
    image: String,
    /// It is there, and tagged as ours. A policy that is limited by tags refuses everything else.
    is_ours: bool,
}

impl Subject {
    /// No container's function: instances have hexadecimal names.
    fn nobody(config: &Config) -> Self {
        let account = config.role_arn.split(':').nth(4).unwrap_or_default();
        Self {
            name: format!("{}-doctor-0", config.function_prefix),
            image: format!("{account}.dkr.ecr.{}.amazonaws.com/doctor:latest", config.region),
            is_ours: false,
        }
    }

    /// One of ours among the first that AWS lists, or nobody.
    async fn find(config: &Config, cloud: &Cloud) -> Self {
        let listed = cloud.list_functions(None).await.unwrap_or_default();
        let prefix = format!("{}-", config.function_prefix);
        let Some(first) = listed.functions.into_iter().find(|function| function.name.starts_with(&prefix)) else {
            return Self::nobody(config);
        };
        match cloud.get_function(&first.name).await {
            Ok(found) if found.tags.as_ref().is_some_and(|tags| tags.contains_key(TAG_MANAGED_BY)) => Self {
                image: found.shape.image_uri.unwrap_or_else(|| Self::nobody(config).image),
                name: found.name,
                is_ours: true,
            },
            _ => Self::nobody(config),
        }
    }
}

/// Whether an answer of AWS came, be it a refusal.
fn endpoint(config: &Config, first: &FirstAnswer, report: &mut Report) -> bool {
    let at = config.endpoint_url.as_deref().map_or_else(String::new, |url| format!(" at {url}"));
    let check = "region";
    let Err(error) = &first.result else {
        report.ok(check, format!("AWS answers in {}{at}", config.region));
        return true;
    };
    let todo = match error.kind {
        // Without credentials nothing was asked.
        AwsErrorKind::Credentials if error.code.is_none() => {
            report.not_tried(check, "AWS cannot be asked without credentials", "see credentials");
            return true;
        }
        AwsErrorKind::Unreachable | AwsErrorKind::NoAnswer => {
            "check `region` and `endpoint_url`, name resolution, proxy, firewall and VPC endpoints"
        }
        AwsErrorKind::Malformed => "something else than AWS answers: check `endpoint_url` and the proxy",
        _ => {
            report.ok(check, format!("AWS answers in {}{at}", config.region));
            return true;
        }
    };
    report.wrong(check, format!("no answer of AWS in {}{at}: {error}", config.region), todo);
    false
}

/// Whether AWS knows who we are.
fn credentials(first: &FirstAnswer, report: &mut Report) -> bool {
    let todo = match &first.result {
        Err(error) if error.kind == AwsErrorKind::Credentials && error.code.is_none() => {
            "give credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the machine"
        }
        Err(error) if error.kind == AwsErrorKind::Credentials => {
            "renew the credentials, and set the clock if it is off"
        }
        _ => {
            report.ok("credentials", "AWS accepts them");
            return true;
        }
    };
    let seen = first.result.as_ref().err().map(ToString::to_string).unwrap_or_default();
    report.wrong("credentials", seen, todo);
    false
}

fn time(first: &FirstAnswer, now: Timestamp, report: &mut Report) {
    let date = first.date.as_deref().and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
    let Some(theirs) = date.map(|date| Timestamp::from_secs(date.as_second())) else {
        return report.not_tried("clock", "no answer tells AWS's time", "see region");
    };
    let (ahead, behind) = (now.since(theirs), theirs.since(now));
    let off = ahead.max(behind);
    if off <= CLOCK_TOLERANCE {
        return report.ok("clock", format!("it agrees with AWS's within {} s", CLOCK_TOLERANCE.as_secs()));
    }
    let side = if ahead > behind { "ahead of" } else { "behind" };
    let seen = format!("it is {} s {side} AWS's", off.as_secs());
    report.wrong("clock", seen, "set it by NTP: AWS refuses requests that are more than five minutes off");
}

/// Gives the account's number if the group's name tells it.
async fn log_group(name: &str, exists: &str, cloud: &Cloud, report: &mut Report) -> Option<String> {
    let check = format!("log group {name}");
    let arn = match patiently(async || cloud.log_group_arn(name).await).await {
        Ok(arn) => arn,
        Err(error) => {
            report.wrong(check, error.to_string(), "see logs:DescribeLogGroups");
            return None;
        }
    };
    match &arn {
        Some(_) => report.ok(check, exists),
        None => report.ok(check, "it will be made by the first start, which needs logs:CreateLogGroup"),
    }
    arn.as_deref().and_then(|arn| arn.split(':').nth(4)).map(str::to_owned)
}

/// The role, as far as it can be seen without IAM: its form, its partition, its account.
fn role(config: &Config, account: Option<&str>, report: &mut Report) {
    let mut parts = config.role_arn.split(':').skip(1);
    let (partition, its_account) = (parts.next().unwrap_or_default(), parts.nth(2).unwrap_or_default());
    let expected = match &config.region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    if partition != expected && matches!(partition, "aws" | "aws-cn" | "aws-us-gov") {
        let seen = format!("{} is of the partition {partition}, {} of {expected}", config.role_arn, config.region);
        return report.wrong("role", seen, "name a role of the same partition in `role_arn`");
    }
    match account {
        Some(account) if account != its_account => {
            let seen = format!("{} is of the account {its_account}, the credentials of {account}", config.role_arn);
            report.wrong("role", seen, "name a role of the credentials' account in `role_arn`: Lambda takes no other");
        }
        Some(_) => report.ok("role", "it is of the credentials' account; whether it may be passed: iam:PassRole"),
        None => report.ok("role", "its form is right; whether it may be passed: iam:PassRole"),
    }
}

/// Lambda takes images from ECR of its own region only.
fn registry(config: &Config, report: &mut Report) {
    let Some(registry) = &config.image_registry else { return };
    let region = registry.split_once(".dkr.ecr.").and_then(|(_, rest)| rest.split('.').next());
    match region {
        Some(region) if region == config.region => report.ok("image registry", format!("{registry} is of the region")),
        _ => {
            let seen = format!("{registry} is not a registry of ECR in {}", config.region);
            report.wrong("image registry", seen, "Lambda takes images from private ECR of its own region only");
        }
    }
}

/// Asks again after a throttled call, when the quota's gate opens again.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, AwsError>) -> Result<T, AwsError> {
    for _ in 1..ATTEMPTS {
        match ask().await {
            Err(error) if error.kind == AwsErrorKind::Throttled => {}
            answer => return answer,
        }
    }
    ask().await
}

async fn tried(right: &Right, config: &Config, subject: &Subject, cloud: &Cloud) -> Result<(), AwsError> {
    let name = subject.name.as_str();
    let group = config.log_group.as_str();
    match right.action {
        "lambda:ListFunctions" => cloud.list_functions(None).await.map(drop),
        "lambda:GetFunction" => cloud.get_function(name).await.map(drop),
        "lambda:InvokeFunction" => cloud.try_invoke(name).await,
        "lambda:UpdateFunctionCode" => cloud.try_update_code(name, &subject.image).await,
        "logs:DescribeLogStreams" => {
            let claims = config.claims_log_group.as_str();
            cloud.log_streams_descending(claims, NO_STREAM, 1, |_| true).await.map(drop)
        }
        "logs:FilterLogEvents" => {
            let query = LogQuery {
                group: group.to_owned(),
                stream_prefix: Some(NO_STREAM.to_owned()),
                pattern: Some(log_pattern()),
                limit: Some(1),
                ..LogQuery::default()
            };
            cloud.filter_log_events(query).await.map(drop)
        }
        _ => cloud.log_group_arn(group).await.map(drop),
    }
}

/// That the name is not there, or is busy, is what AWS says only to those who may ask.
fn verdict(right: &Right, outcome: Result<(), AwsError>, config: &Config, subject: &Subject, report: &mut Report) {
    let Err(error) = outcome else { return report.ok(right.action, "AWS allows it") };
    match error.kind {
        AwsErrorKind::InvalidParameter if right.action == "logs:FilterLogEvents" => {
            let todo = "the region does not take the pattern by which the ends of runs are found: report it";
            report.wrong(right.action, error.to_string(), todo);
        }
        AwsErrorKind::NotFound | AwsErrorKind::Conflict | AwsErrorKind::InvalidParameter => {
            report.ok(right.action, "AWS allows it");
        }
        AwsErrorKind::AccessDenied if right.by_tags && !subject.is_ours => {
            let seen = "AWS refuses it for a name that is not there, as a policy that is limited by tags does";
            report.not_tried(right.action, seen, format!("try again when there is a function; {}", right.todo(config)));
        }
        AwsErrorKind::AccessDenied => report.wrong(right.action, error.to_string(), right.todo(config)),
        _ => report.wrong(right.action, format!("AWS cannot say: {error}"), "try again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock_line(date: &str, now: i64) -> String {
        let mut report = Report::default();
        time(&FirstAnswer { date: Some(date.to_owned()), result: Ok(()) }, Timestamp::from_secs(now), &mut report);
        report.findings()[0].to_string()
    }

    #[test]
    fn the_clock_is_compared_with_the_answers_date() {
        let date = "Thu, 01 Jan 1970 00:10:00 GMT";
        assert_eq!(clock_line(date, 600), "ok         clock: it agrees with AWS's within 60 s");
        assert_eq!(clock_line(date, 660), "ok         clock: it agrees with AWS's within 60 s");
        assert!(clock_line(date, 661).starts_with("WRONG      clock: it is 61 s ahead of AWS's; set it by NTP"));
        assert!(clock_line(date, 500).starts_with("WRONG      clock: it is 100 s behind AWS's; "));
        assert!(clock_line("yesterday", 600).starts_with("not tried"));
    }
}
