//! How AWS behaves: pure, with a virtual clock.
//!
//! Whoever owns a [`Model`] calls [`Model::call`] for each call of a client, [`Model::report`] for each thing seen of
//! an environment, and after each of them, and at [`Model::next_wakeup`], [`Model::advance`], whose effects it
//! carries out. Times are milliseconds since the Unix epoch and should not go back; one that does counts as the
//! latest one seen. Nothing else influences the model, so the same settings, calls and times give the same story.
//!
//! No call costs more than what it asks for plus a logarithm of what is stored, but for a search over log events,
//! which costs as much as the events of the time asked for.

mod api;
mod calls;
mod environments;
mod failure;
mod functions;
mod images;
mod interfere;
mod invoke;
pub mod lambda_api;
mod lines;
mod log_read;
mod logs;
pub mod logs_api;
mod pattern;
mod quotas;
pub(crate) mod rng;
mod snapshot;
mod timers;
mod update;
mod validate;

pub use api::{
    ApiError, Effect, End, EnvironmentEvent, EnvironmentSpec, Handover, Operation, Outcome, Reply, Request, Response,
    Service, Ticket, Transport,
};
pub use calls::CallRecord;
pub use snapshot::{FunctionState, InvocationState, InvocationStatus, Snapshot};

use std::collections::BTreeMap;

use crate::faults::Faults;
use crate::settings::Settings;
use interfere::{Active, Interference, Verdict};

/// AWS, as far as one account and region go.
#[derive(Clone, Debug)]
pub struct Model {
    settings: Settings,
    now: i64,
    rng: rng::Rng,
    faults: Active,
    buckets: quotas::Buckets,
    calls: BTreeMap<Operation, u64>,
    records: calls::Calls,
    functions: functions::Functions,
    environments: environments::Environments,
    invocations: invoke::Invocations,
    logs: logs::Logs,
    timers: timers::Timers,
    effects: Vec<Effect>,
}

impl Model {
    /// An empty account.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            now: 0,
            rng: rng::Rng::new(settings.seed),
            faults: Active::new(settings.faults.clone(), 0),
            buckets: quotas::Buckets::new(&settings.quotas),
            calls: BTreeMap::new(),
            records: calls::Calls::default(),
            functions: functions::Functions::default(),
            environments: environments::Environments::default(),
            invocations: invoke::Invocations::default(),
            logs: logs::Logs::default(),
            timers: timers::Timers::default(),
            effects: Vec::new(),
            settings,
        }
    }

    /// What the model was made with. The faults may have been replaced since.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Replaces the faults; their counts start anew.
    pub fn set_faults(&mut self, now_ms: i64, faults: Faults) {
        self.pass_time(now_ms);
        self.faults = Active::new(faults, self.now);
    }

    /// Takes a call at a time. Whatever was due before then happens first.
    pub fn call(&mut self, now_ms: i64, request: &Request) -> Reply {
        self.pass_time(now_ms);
        let operation = request.operation();
        *self.calls.entry(operation).or_insert(0) += 1;
        self.record_call(request);
        let request_id = self.rng.uuid();
        let (outcome, transport) = match self.faults.judge(self.now, operation, request.resource(), &mut self.rng) {
            Verdict::Refuse(error) => (Outcome::Answer(Err(error)), Transport::Whole),
            Verdict::Drop => (Outcome::Unprocessed, Transport::Reset),
            Verdict::Process(interference) => self.process(request, &request_id, &interference),
        };
        Reply { request_id, outcome, transport }
    }

    /// Takes a call of somebody behind the caller's back: no fault meets it, no quota, and it is not counted.
    ///
    /// # Errors
    /// AWS's; an invocation has no answer here and is a `NotImplemented`.
    pub fn operate(&mut self, now_ms: i64, request: &Request) -> Result<Response, ApiError> {
        self.pass_time(now_ms);
        let request_id = self.rng.uuid();
        match self.carry_out(request, &request_id, &interfere::NONE) {
            Outcome::Answer(result) => result,
            Outcome::Later(_) | Outcome::Unprocessed => {
                Err(ApiError::new(501, "NotImplemented", "Invocations are answered over a connection only."))
            }
        }
    }

    fn process(&mut self, request: &Request, id: &str, interference: &Interference) -> (Outcome, Transport) {
        if self.settings.quotas.enforced
            && let Err(refused) = self.buckets.take(request.operation(), self.now)
        {
            return (Outcome::Answer(Err(refused)), Transport::Whole);
        }
        if interference.twice {
            drop(self.carry_out(request, id, interference));
        }
        let outcome = self.carry_out(request, id, interference);
        // The caller is told of a failure, and what was begun goes on.
        let outcome = match (&interference.error_after, outcome) {
            (Some(error), Outcome::Answer(Ok(_)) | Outcome::Later(_)) => Outcome::Answer(Err(error.clone())),
            (_, outcome) => outcome,
        };
        (outcome, interference.transport)
    }

    fn carry_out(&mut self, request: &Request, id: &str, interference: &Interference) -> Outcome {
        let seen = self.now.saturating_sub(interference.stale_ms);
        Outcome::Answer(match request {
            Request::Invoke(shape) => return self.invoke(id, shape, interference.duplicate),
            Request::CreateFunction(shape) => self.create_function(shape),
            Request::GetFunction(name) => self.get_function(seen, name),
            Request::GetFunctionConfiguration(name) => self.get_function_configuration(seen, name),
            Request::UpdateFunctionCode(shape) => self.update_function_code(shape, interference.update_fails.clone()),
            Request::UpdateFunctionConfiguration(shape) => {
                self.update_function_configuration(shape, interference.update_fails.clone())
            }
            Request::DeleteFunction(name) => self.delete_function(name),
            Request::ListFunctions(shape) => self.list_functions(seen, shape),
            Request::PutFunctionEventInvokeConfig(shape) => self.put_event_invoke_config(shape),
            Request::GetFunctionEventInvokeConfig(name) => self.get_event_invoke_config(name),
            Request::DeleteFunctionEventInvokeConfig(name) => self.delete_event_invoke_config(name),
            Request::TagResource(shape) => self.tag_resource(shape),
            Request::UntagResource(shape) => self.untag_resource(shape),
            Request::ListTags(name) => self.list_tags(seen, name),
            Request::CreateLogGroup(shape) => self.logs.create_group(self.now, shape),
            Request::DeleteLogGroup(shape) => self.logs.delete_group(shape),
            Request::DescribeLogGroups(shape) => self.logs.describe_groups(&self.settings, seen, shape),
            Request::PutRetentionPolicy(shape) => self.logs.put_retention(shape),
            Request::CreateLogStream(shape) => self.logs.create_stream(self.now, shape),
            Request::DeleteLogStream(shape) => self.logs.delete_stream(shape),
            Request::DescribeLogStreams(shape) => self.logs.describe_streams(&self.settings, seen, shape),
            Request::PutLogEvents(shape) => {
                let visible_at = self.delivery_time();
                self.logs.put_events(self.now, visible_at, shape)
            }
            Request::GetLogEvents(shape) => self.logs.get_events(seen, shape, interference.page),
            Request::FilterLogEvents(shape) => {
                let scan = self.settings.quotas.filter_scan_events;
                self.logs.filter_events(seen, scan, shape, interference.page)
            }
        })
    }

    /// Lets time pass and gives what the world has to do, in this order.
    pub fn advance(&mut self, now_ms: i64) -> Vec<Effect> {
        self.pass_time(now_ms);
        std::mem::take(&mut self.effects)
    }

    /// When [`Model::advance`] should be called at the latest; `None`: only a call or a report changes anything.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<i64> {
        if self.effects.is_empty() { self.timers.next() } else { Some(self.now) }
    }

    /// Whether no invocation is queued or running.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.invocations.live.is_empty()
    }

    fn pass_time(&mut self, now_ms: i64) {
        while let Some((at, timer)) = self.timers.pop_due(now_ms) {
            self.now = self.now.max(at);
            self.fire(timer);
        }
        self.now = self.now.max(now_ms);
    }

    /// When something that is written to the logs now can be read.
    fn delivery_time(&mut self) -> i64 {
        let delay = self.sample(self.settings.timing.log_delivery);
        self.now.saturating_add(delay).saturating_add(self.faults.log_delay_ms(self.now))
    }

    fn sample(&mut self, span: crate::settings::Span) -> i64 {
        self.rng.between(span.min, span.max)
    }
}
