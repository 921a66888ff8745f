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
    /// The log group and its streams.
    LogGroup,
    /// The execution role.
    Role,
    /// The repositories of the images.
    Repositories,
}

/// A right.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// As policies name it.
    pub action: &'static str,
    /// How it is tried.
    pub trial: Trial,
    pub(super) on: On,
}

const fn tried(action: &'static str, on: On) -> Right {
    Right { action, trial: Trial::Call, on }
}

const fn untried(action: &'static str, on: On, why: &'static str) -> Right {
    Right { action, trial: Trial::WouldChange(why), on }
}

/// All of them. What is tried comes first.
pub const RIGHTS: &[Right] = &[
    tried("lambda:ListFunctions", On::Everything),
    tried("lambda:GetFunction", On::Functions),
    tried("lambda:InvokeFunction", On::Functions),
    tried("lambda:UpdateFunctionCode", On::Functions),
    tried("logs:DescribeLogGroups", On::Everything),
    tried("logs:DescribeLogStreams", On::LogGroup),
    tried("logs:FilterLogEvents", On::LogGroup),
    untried("lambda:CreateFunction", On::Functions, "it would make a function"),
    untried("lambda:UpdateFunctionConfiguration", On::Functions, "it would change a function"),
    untried("lambda:DeleteFunction", On::Functions, "it would delete a function"),
    untried("lambda:PutFunctionEventInvokeConfig", On::Functions, "it would change a function"),
    untried("lambda:TagResource", On::Functions, "it would change a function's tags"),
    untried("lambda:UntagResource", On::Functions, "it would change a function's tags"),
    untried("logs:CreateLogGroup", On::LogGroup, "it would make a log group"),
    untried("logs:PutRetentionPolicy", On::LogGroup, "it would change the log group"),
    untried("logs:CreateLogStream", On::LogGroup, "it would make a log stream"),
    untried("logs:DeleteLogStream", On::LogGroup, "it would delete a log stream"),
    untried("iam:PassRole", On::Role, "only a function that is made shows it"),
    untried("ecr:BatchGetImage", On::Repositories, "only a function that is made shows it"),
    untried("ecr:GetDownloadUrlForLayer", On::Repositories, "only a function that is made shows it"),
];

impl Right {
    /// What is to be done if it is missing.
    pub(super) fn todo(&self, config: &Config) -> String {
        let on = match self.on {
            On::Everything => "*".to_owned(),
            On::Functions => format!("the functions {}-*", config.function_prefix),
            On::LogGroup => format!("the log group {}", config.log_group),
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
