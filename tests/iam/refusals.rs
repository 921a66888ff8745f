//! What the documents, all of them together, do not allow.

use crate::policy::{Need, Policy, allow, names};
use crate::support::ROLE;

const FUNCTION: &str = "arn:aws:lambda:us-east-1:000000000000:function:skls-0123456789-0123456789abcdef01234567";
const OTHER: &str = "arn:aws:lambda:us-east-1:000000000000:function:payroll";
const GROUP: &str = "arn:aws:logs:us-east-1:000000000000:log-group:/sockerless/lambda:log-stream:";
const CLAIMS: &str = "arn:aws:logs:us-east-1:000000000000:log-group:/sockerless/lambda-claims:log-stream:";
const OURS: (&str, &str) = ("sockerless.managed-by", "sockerless-backend-lambda");

fn of(prefix: &str) -> Vec<Policy> {
    names().iter().filter(|name| name.starts_with(prefix)).map(|name| Policy::read(name)).collect()
}

fn tagged(need: Need) -> Need {
    need.with(&format!("aws:ResourceTag/{}", OURS.0), &[OURS.1])
}

/// A creation with these tags.
fn creation(resource: &str, tags: &[(&str, &str)]) -> Need {
    let keys: Vec<&str> = tags.iter().map(|(key, _)| *key).collect();
    let need = Need::new("lambda:CreateFunction", resource).with("aws:TagKeys", &keys);
    tags.iter().fold(need, |need, (key, value)| need.with(&format!("aws:RequestTag/{key}"), &[value]))
}

#[test]
fn the_daemon_touches_nobody_elses_functions() {
    let daemon = of("daemon-");
    let changing = [
        "InvokeFunction",
        "DeleteFunction",
        "UpdateFunctionCode",
        "UpdateFunctionConfiguration",
        "PutFunctionEventInvokeConfig",
    ];
    for action in changing {
        let action = format!("lambda:{action}");
        assert!(allow(&daemon, &tagged(Need::new(&action, FUNCTION))), "{action}");
        assert!(!allow(&daemon, &tagged(Need::new(&action, OTHER))), "{action} of another name");
        assert!(!allow(&daemon, &Need::new(&action, FUNCTION)), "{action} without our tag");
        let foreign = Need::new(&action, FUNCTION).with(&format!("aws:ResourceTag/{}", OURS.0), &["somebody"]);
        assert!(!allow(&daemon, &foreign), "{action} with another's tag");
    }
    assert!(!allow(&daemon, &Need::new("lambda:GetFunction", OTHER)));
    for action in ["AddPermission", "CreateFunctionUrlConfig", "PutFunctionConcurrency", "PublishVersion"] {
        assert!(!allow(&daemon, &tagged(Need::new(&format!("lambda:{action}"), FUNCTION))), "{action}");
    }
}

#[test]
fn the_daemon_makes_only_functions_that_say_whose_they_are() {
    let daemon = of("daemon-");
    let whole =
        [OURS, ("sockerless.instance", "0123456789"), ("sockerless.container", "ab"), ("sockerless.created", "1")];
    assert!(allow(&daemon, &creation(FUNCTION, &whole)));
    assert!(!allow(&daemon, &creation(OTHER, &whole)));
    for missing in 0..3 {
        let mut tags = whole.to_vec();
        tags.remove(missing);
        assert!(!allow(&daemon, &creation(FUNCTION, &tags)), "{tags:?}");
    }
    let more = [&whole[..], &[("team", "payroll")]].concat();
    assert!(!allow(&daemon, &creation(FUNCTION, &more)), "no tags by which others decide");
}

#[test]
fn the_daemon_takes_off_only_its_own_tag() {
    let daemon = of("daemon-");
    let untag = |keys: &[&str]| tagged(Need::new("lambda:UntagResource", FUNCTION)).with("aws:TagKeys", keys);
    assert!(allow(&daemon, &untag(&["sockerless.instance"])));
    assert!(!allow(&daemon, &untag(&["sockerless.instance", "team"])));
    assert!(!allow(&daemon, &tagged(Need::new("lambda:UntagResource", FUNCTION))));
}

#[test]
fn the_daemon_passes_one_role_to_one_service() {
    let daemon = of("daemon-");
    let pass = |role: &str, service: &str| Need::new("iam:PassRole", role).with("iam:PassedToService", &[service]);
    assert!(allow(&daemon, &pass(ROLE, "lambda.amazonaws.com")));
    assert!(!allow(&daemon, &pass("arn:aws:iam::000000000000:role/admin", "lambda.amazonaws.com")));
    assert!(!allow(&daemon, &pass(ROLE, "ec2.amazonaws.com")));
}

#[test]
fn the_daemon_drops_claims_and_keeps_output() {
    let daemon = of("daemon-");
    let delete = |stream: &str| Need::new("logs:DeleteLogStream", &format!("{GROUP}{stream}"));
    assert!(allow(&daemon, &Need::new("logs:DeleteLogStream", &format!("{CLAIMS}0123456789/00000000000000000007"))));
    for output in ["2026/11/23/skls-0123456789-0123456789abcdef01234567[$LATEST]00", "0123456789/7", "x"] {
        assert!(!allow(&daemon, &delete(output)), "{output}");
    }
    for action in ["CreateLogStream", "DescribeLogStreams", "PutLogEvents"] {
        assert!(!allow(&daemon, &Need::new(&format!("logs:{action}"), GROUP)), "{action} where functions write");
    }
    for action in ["FilterLogEvents", "PutLogEvents", "PutRetentionPolicy", "DeleteLogGroup"] {
        assert!(!allow(&daemon, &Need::new(&format!("logs:{action}"), CLAIMS)), "{action} where claims are");
    }
    let elsewhere = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/payroll:log-stream:";
    for action in ["FilterLogEvents", "CreateLogStream", "CreateLogGroup", "PutRetentionPolicy"] {
        assert!(!allow(&daemon, &Need::new(&format!("logs:{action}"), elsewhere)), "{action}");
    }
    for action in ["DeleteLogGroup", "PutLogEvents"] {
        assert!(!allow(&daemon, &Need::new(&format!("logs:{action}"), GROUP)), "{action}");
    }
}

#[test]
fn a_program_may_write_its_output_and_nothing_else() {
    let role = vec![Policy::read("execution-role")];
    assert!(allow(&role, &Need::new("logs:PutLogEvents", &format!("{GROUP}2026/11/23/f[$LATEST]0"))));
    for action in ["logs:FilterLogEvents", "logs:DeleteLogStream", "logs:DeleteLogGroup"] {
        assert!(!allow(&role, &Need::new(action, &format!("{GROUP}2026/11/23/f[$LATEST]0"))), "{action}");
    }
    assert!(!allow(&role, &Need::new("lambda:InvokeFunction", FUNCTION)));
}

/// A principal that writes to the claims group can take a database away from its daemon, and a container can run anything.
#[test]
fn execution_role_does_not_reach_the_claims() {
    let roles: Vec<Policy> = of("execution-role").into_iter().filter(|p| p.name != "execution-role-trust").collect();
    assert!(allow(&roles, &Need::new("logs:CreateLogStream", &format!("{GROUP}2026/11/23/f[$LATEST]0"))));
    let claims = ["", "0123456789/00000000000000009999", "2026/11/23/f[$LATEST]0"];
    for action in [
        "CreateLogGroup",
        "CreateLogStream",
        "DeleteLogGroup",
        "DeleteLogStream",
        "DescribeLogStreams",
        "FilterLogEvents",
        "PutLogEvents",
        "PutRetentionPolicy",
    ] {
        for claim in claims {
            let need = Need::new(&format!("logs:{action}"), &format!("{CLAIMS}{claim}"));
            assert!(!allow(&roles, &need), "{need:?}");
        }
    }
    for action in ["lambda:TagResource", "lambda:UntagResource", "lambda:CreateFunction"] {
        assert!(!allow(&roles, &Need::new(action, FUNCTION)), "{action}");
    }
}

#[test]
fn only_lambda_assumes_the_role() {
    let trust = Policy::read("execution-role-trust");
    assert_eq!(trust.principals(), ["lambda.amazonaws.com"]);
    assert_eq!(trust.grants(), [("LambdaRunsFunctionsWithThisRole".to_owned(), "sts:AssumeRole".to_owned())]);
}
