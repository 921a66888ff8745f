//! What IAM asks for a call: AWS's documents as a function.
//!
//! - Service Authorization Reference, "Actions, resources, and condition keys for AWS Lambda", "… for Amazon CloudWatch
//!   Logs", "… for Amazon Elastic Container Registry", "… for Amazon EC2": which action, on which kind of resource, with
//!   which condition keys. Invoke is the action InvokeFunction; ListFunctions takes no resource.
//! - Lambda Developer Guide, "Using tags on Lambda functions": whoever tags on creation needs TagResource, and GetFunction
//!   tells tags only to who has ListTags. "Secure your functions by tag": the keys of both.
//! - Lambda Developer Guide, "Create a Lambda function using a container image", and re:Post, "Lambda does not have permission to
//!   access the ECR image": the caller's rights on the image, and those by which Lambda adds itself to a repository's policy.
//! - Lambda Developer Guide, "Giving Lambda functions access to resources in an Amazon VPC": the caller's and the role's rights.
//! - IAM User Guide, "Grant a user permissions to pass a role to an AWS service": PassRole and iam:PassedToService.
//! - CloudWatch Logs API Reference, "LogGroup": the ARN in policies is the one that ends in `:*`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::policy::Need;

const LAMBDA_ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:";
const LOGS_ARN: &str = "arn:aws:logs:us-east-1:000000000000:log-group:";
const ECR_ARN: &str = "arn:aws:ecr:us-east-1:000000000000:repository/";
const LAMBDA: &str = "lambda.amazonaws.com";

/// A call as the sandbox has recorded it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Call {
    pub(crate) by_role: Option<String>,
    pub(crate) operation: String,
    resource: Option<String>,
    stream: Option<String>,
    request_tags: BTreeMap<String, String>,
    tag_keys: Vec<String>,
    resource_tags: Option<BTreeMap<String, String>>,
    role: Option<String>,
    image: Option<String>,
    in_vpc: bool,
}

impl Call {
    /// All that the caller must be allowed.
    pub(crate) fn needs(&self) -> Vec<Need> {
        match self.operation.as_str() {
            "ListFunctions" => vec![Need::new("lambda:ListFunctions", "*")],
            "DescribeLogGroups" => vec![Need::new("logs:DescribeLogGroups", &format!("{LOGS_ARN}:log-stream:"))],
            "DescribeLogStreams" | "FilterLogEvents" | "CreateLogGroup" | "PutRetentionPolicy" | "CreateLogStream" => {
                vec![self.logs("")]
            }
            "DeleteLogStream" | "PutLogEvents" => vec![self.logs(self.stream.as_deref().unwrap())],
            "CreateFunction" => {
                let mut needs = vec![self.lambda("CreateFunction"), self.lambda("TagResource")];
                needs.extend(self.of_the_shape());
                needs
            }
            "UpdateFunctionCode" | "UpdateFunctionConfiguration" => {
                let mut needs = vec![self.lambda(&self.operation)];
                needs.extend(self.of_the_shape());
                needs
            }
            "GetFunction" => vec![self.lambda("GetFunction"), self.lambda("ListTags")],
            "Invoke" => vec![self.lambda("InvokeFunction")],
            "DeleteFunction" | "PutFunctionEventInvokeConfig" | "UntagResource" => vec![self.lambda(&self.operation)],
            other => panic!("nobody has told what {other} needs"),
        }
    }

    /// What the execution role must be allowed so that Lambda can do what this call asks for.
    pub(crate) fn needs_of_the_role(&self) -> Vec<Need> {
        let interfaces = [
            "CreateNetworkInterface",
            "DescribeNetworkInterfaces",
            "DescribeSubnets",
            "DeleteNetworkInterface",
            "AssignPrivateIpAddresses",
            "UnassignPrivateIpAddresses",
        ];
        let interfaces = interfaces.iter().filter(|_| self.in_vpc);
        interfaces.map(|action| Need::new(&format!("ec2:{action}"), "*")).collect()
    }

    /// What the caller must be allowed beside when the image's repository does not let Lambda in yet.
    pub(crate) fn needs_of_a_closed_repository(&self) -> Vec<Need> {
        let repository = self.repository().into_iter();
        repository
            .flat_map(|arn| {
                ["GetRepositoryPolicy", "SetRepositoryPolicy"].map(|a| Need::new(&format!("ecr:{a}"), &arn))
            })
            .collect()
    }

    /// What Lambda must be allowed by the repository.
    pub(crate) fn needs_of_lambda(&self) -> Vec<Need> {
        let function = format!("{LAMBDA_ARN}{}", self.resource.as_deref().unwrap_or_default());
        let repository = self.repository().into_iter();
        repository
            .flat_map(|arn| ["BatchGetImage", "GetDownloadUrlForLayer"].map(|a| Need::new(&format!("ecr:{a}"), &arn)))
            .map(|need| need.with("aws:SourceArn", &[&function]))
            .collect()
    }

    fn of_the_shape(&self) -> Vec<Need> {
        let role = self.role.iter().map(|role| Need::new("iam:PassRole", role).with("iam:PassedToService", &[LAMBDA]));
        let image = self.repository().into_iter().flat_map(|arn| {
            ["BatchGetImage", "GetDownloadUrlForLayer"].map(|action| Need::new(&format!("ecr:{action}"), &arn))
        });
        let networks = ["DescribeSecurityGroups", "DescribeSubnets", "DescribeVpcs"];
        let networks = networks.iter().filter(|_| self.in_vpc).map(|action| Need::new(&format!("ec2:{action}"), "*"));
        role.chain(image).chain(networks).collect()
    }

    /// The ARN of the image's repository.
    fn repository(&self) -> Option<String> {
        let (_, path) = self.image.as_deref()?.split_once('/')?;
        Some(format!("{ECR_ARN}{}", path.split([':', '@']).next()?))
    }

    fn lambda(&self, action: &str) -> Need {
        let function = self.resource.as_deref().unwrap();
        let mut need = Need::new(&format!("lambda:{action}"), &format!("{LAMBDA_ARN}{function}"));
        for (key, value) in self.resource_tags.iter().flatten() {
            need = need.with(&format!("aws:ResourceTag/{key}"), &[value]);
        }
        for (key, value) in &self.request_tags {
            need = need.with(&format!("aws:RequestTag/{key}"), &[value]);
        }
        if self.tag_keys.is_empty() {
            return need;
        }
        let keys: Vec<&str> = self.tag_keys.iter().map(String::as_str).collect();
        need.with("aws:TagKeys", &keys)
    }

    fn logs(&self, stream: &str) -> Need {
        let group = self.resource.as_deref().unwrap();
        Need::new(&format!("logs:{}", self.operation), &format!("{LOGS_ARN}{group}:log-stream:{stream}"))
    }
}
