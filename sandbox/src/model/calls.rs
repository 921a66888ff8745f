//! The latest calls, one by one, with all that decides whether a policy allows them: for tests of rights.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::lambda_api::{FunctionName, VpcConfig};
use super::{Model, Operation, Request};

/// Calls that are remembered, at most; the oldest are forgotten first.
const MAX_RECORDS: usize = 10_000;

/// One call. Refused ones count, too: they need the right all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallRecord {
    /// The execution role in whose name Lambda itself made the call; absent: a client did.
    pub by_role: Option<String>,
    /// AWS's name of the operation.
    pub operation: &'static str,
    /// The function or log group that it names.
    pub resource: Option<String>,
    /// The log stream that it names.
    pub stream: Option<String>,
    /// The tags that it gives.
    pub request_tags: BTreeMap<String, String>,
    /// The keys of tags that it gives or takes away.
    pub tag_keys: Vec<String>,
    /// The tags that the function had when the call came; absent: there was none.
    pub resource_tags: Option<BTreeMap<String, String>>,
    /// The execution role that it gives to a function.
    pub role: Option<String>,
    /// The image that it gives to a function.
    pub image: Option<String>,
    /// It puts a function into a private network.
    pub in_vpc: bool,
}

/// The record.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls(VecDeque<CallRecord>);

impl Calls {
    fn push(&mut self, record: CallRecord) {
        if self.0.len() >= MAX_RECORDS {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }
}

impl Model {
    /// The latest calls, oldest first.
    #[must_use]
    pub fn call_records(&self) -> Vec<CallRecord> {
        self.records.0.iter().cloned().collect()
    }

    pub(super) fn record_call(&mut self, request: &Request) {
        let resource = request.resource().map(|name| FunctionName::parse(name, None).name);
        let mut record = CallRecord {
            operation: request.operation().name(),
            resource_tags: resource
                .as_ref()
                .and_then(|name| self.functions.live.get(name))
                .map(|function| function.tags.clone()),
            resource,
            ..CallRecord::default()
        };
        record.add_details(request);
        self.records.push(record);
    }

    /// Lambda is about to write to a stream in the name of a function's role. It makes what is missing.
    pub(super) fn record_delivery(&mut self, role: &str, group: &str, stream: &str) {
        let known = self.logs.groups.get(group);
        if known.is_some_and(|group| group.streams.contains_key(stream)) {
            return;
        }
        let missing_group = known.is_none().then_some(Operation::CreateLogGroup);
        for operation in missing_group.into_iter().chain([Operation::CreateLogStream, Operation::PutLogEvents]) {
            self.records.push(CallRecord {
                by_role: Some(role.to_owned()),
                operation: operation.name(),
                resource: Some(group.to_owned()),
                stream: (operation != Operation::CreateLogGroup).then(|| stream.to_owned()),
                ..CallRecord::default()
            });
        }
    }
}

impl CallRecord {
    fn add_details(&mut self, request: &Request) {
        let in_vpc = |vpc: &Option<VpcConfig>| vpc.as_ref().is_some_and(|vpc| !vpc.subnet_ids.is_empty());
        match request {
            Request::CreateFunction(shape) => {
                self.request_tags = shape.tags.clone();
                self.role = Some(shape.role.clone());
                self.image = shape.code.image_uri.clone();
                self.in_vpc = in_vpc(&shape.vpc_config);
            }
            Request::UpdateFunctionConfiguration(shape) => {
                self.role = shape.role.clone();
                self.in_vpc = in_vpc(&shape.vpc_config);
            }
            Request::UpdateFunctionCode(shape) => self.image = shape.image_uri.clone(),
            Request::TagResource(shape) => self.request_tags = shape.tags.clone(),
            Request::UntagResource(shape) => self.tag_keys = shape.tag_keys.clone(),
            Request::CreateLogGroup(shape) => self.request_tags = shape.tags.clone(),
            Request::CreateLogStream(shape) | Request::DeleteLogStream(shape) => {
                self.stream = Some(shape.log_stream_name.clone());
            }
            _ => {}
        }
        self.tag_keys.extend(self.request_tags.keys().cloned());
    }
}
