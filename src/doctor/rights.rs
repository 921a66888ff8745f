//! Every right that the daemon needs, and how it can be tried. PURE.

use crate::config::Config;

/// How a right is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// By a call that only reads, or that AWS only pretends to carry out.
    Call,
    /// Not at all: it would change something. Why, in words.
    WouldChange(&'static str),
}

/// What a right is given on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// Everything: AWS knows no resource for it.
    Everything,
    /// The functions with our prefix.
    Functions,
    /// The log group of the functions.
    LogGroup,
    /// The log group of the claims.
    ClaimsGroup,
    /// Both log groups.
    LogGroups,
    /// The execution role.
    Role,
    /// The repositories of the images.
    Repositories,
    /// The networks, which AWS knows no resource for; only for functions in a VPC.
    Networks,
}

/// A right.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// As policies name it.
    pub action: &'static str,
    /// How it is tried.
    pub trial: Trial,
    pub(super) on: On,
    /// Our policies give it only on functions with our tags.
    pub(super) by_tags: bool,
}

const fn tried(action: &'static str, on: On) -> Right {
    Right { action, trial: Trial::Call, on, by_tags: false }
}

const fn tried_by_tags(action: &'static str) -> Right {
    Right { action, trial: Trial::Call, on: On::Functions, by_tags: true }
}

const fn untried(action: &'static str, on: On, why: &'static str) -> Right {
    Right { action, trial: Trial::WouldChange(why), on, by_tags: false }
}

const ONLY_A_FUNCTION: &str = "only a function that is made shows it";

/// All of them. What is tried comes first.
pub const RIGHTS: &[Right] = &[
    tried("lambda:ListFunctions", On::Everything),
    tried("lambda:GetFunction", On::Functions),
    tried_by_tags("lambda:InvokeFunction"),
    tried_by_tags("lambda:UpdateFunctionCode"),
    tried("logs:DescribeLogGroups", On::Everything),
    tried("logs:DescribeLogStreams", On::ClaimsGroup),
    tried("logs:FilterLogEvents", On::LogGroup),
    untried("lambda:CreateFunction", On::Functions, "it would make a function"),
    untried("lambda:UpdateFunctionConfiguration", On::Functions, "it would change a function"),
    untried("lambda:DeleteFunction", On::Functions, "it would delete a function"),
    untried("lambda:PutFunctionEventInvokeConfig", On::Functions, "it would change a function"),
    untried("lambda:TagResource", On::Functions, "it would change a function's tags"),
    untried("lambda:UntagResource", On::Functions, "it would change a function's tags"),
    untried("logs:CreateLogGroup", On::LogGroups, "it would make a log group"),
    untried("logs:PutRetentionPolicy", On::LogGroup, "it would change the log group"),
    untried("logs:CreateLogStream", On::ClaimsGroup, "it would make a log stream"),
    untried("logs:DeleteLogStream", On::ClaimsGroup, "it would delete a log stream"),
    untried("lambda:ListTags", On::Functions, "only a function's tags show it"),
    untried("iam:PassRole", On::Role, ONLY_A_FUNCTION),
    untried("ecr:BatchGetImage", On::Repositories, ONLY_A_FUNCTION),
    untried("ecr:GetDownloadUrlForLayer", On::Repositories, ONLY_A_FUNCTION),
    untried("ec2:DescribeSecurityGroups", On::Networks, ONLY_A_FUNCTION),
    untried("ec2:DescribeSubnets", On::Networks, ONLY_A_FUNCTION),
    untried("ec2:DescribeVpcs", On::Networks, ONLY_A_FUNCTION),
];

impl Right {
    /// Whether this configuration uses it.
    pub(super) fn is_needed(&self, config: &Config) -> bool {
        self.on != On::Networks || !config.subnet_ids.is_empty()
    }

    /// What is to be done if it is missing.
    pub(super) fn todo(&self, config: &Config) -> String {
        let on = match self.on {
            On::Everything | On::Networks => "*".to_owned(),
            On::Functions => format!("the functions {}-*", config.function_prefix),
            On::LogGroup => format!("the log group {}", config.log_group),
            On::ClaimsGroup => format!("the log group {}", config.claims_log_group),
            On::LogGroups => format!("the log groups {} and {}", config.log_group, config.claims_log_group),
            On::Role => config.role_arn.clone(),
            On::Repositories => "the repositories of the images".to_owned(),
        };
        format!("the daemon's policy must allow {} on {on}", self.action)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_right_stands_there_once() {
        let names: BTreeSet<&str> = RIGHTS.iter().map(|right| right.action).collect();
        assert_eq!(names.len(), RIGHTS.len());
        assert!(names.iter().all(|name| name.split_once(':').is_some()));
    }
}
