//! Invocations: how they are taken, queued, started, retried and dropped.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::Deserialize;

use super::Model;
use super::api::{ApiError, Effect, Outcome, Response, Ticket};
use super::failure::{Ended, Status};
use super::functions::state_conflict;
use super::lambda_api::{InvocationType, Invoke, Invoked};
use super::snapshot::{InvocationState, InvocationStatus};
use super::timers::Timer;

/// The largest payload of a RequestResponse invocation, in bytes.
pub(crate) const MAX_SYNC_PAYLOAD: usize = 6 * 1_024 * 1_024;
/// The largest payload of an Event, in bytes.
const MAX_EVENT_PAYLOAD: usize = 1_024 * 1_024;
/// The longest client context, in bytes of base64.
const MAX_CONTEXT: usize = 3_583;
/// Ended tries that are remembered, at most; the oldest go first.
const MAX_REMEMBERED: usize = 20_000;
/// Invocations that are queued or running, at most.
const MAX_LIVE: usize = 100_000;
/// How often a failed Event is tried again when nothing else is set.
const DEFAULT_RETRIES: i64 = 2;
/// How long an Event is kept when nothing else is set, in seconds.
const DEFAULT_MAX_AGE_S: i64 = 21_600;

/// All invocations.
#[derive(Clone, Debug, Default)]
pub(super) struct Invocations {
    /// Queued and running ones.
    pub(super) live: BTreeMap<u64, Invocation>,
    /// One entry for each try that ended, and for each Event that was dropped.
    pub(super) ended: VecDeque<InvocationState>,
    count: u64,
}

/// An invocation until it is answered or given up.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    pub(super) request_id: String,
    pub(super) function: String,
    pub(super) function_id: u64,
    pub(super) kind: InvocationType,
    pub(super) payload: Bytes,
    /// As the runtime gets it: decoded.
    pub(super) client_context: Option<String>,
    pub(super) tail: bool,
    pub(super) accepted_at: i64,
    pub(super) started_at: Option<i64>,
    /// The environment that has it.
    pub(super) environment: Option<u64>,
    pub(super) failures: u32,
    pub(super) token: Option<String>,
    pub(super) trace_id: String,
}

impl Invocation {
    pub(super) fn state(&self, status: InvocationStatus) -> InvocationState {
        InvocationState {
            request_id: self.request_id.clone(),
            function: self.function.clone(),
            kind: self.kind,
            status,
            attempt: self.failures + 1,
            accepted_at_ms: self.accepted_at,
            start_ms: self.started_at,
            end_ms: None,
            exit: None,
            error_type: None,
            token: self.token.clone(),
        }
    }
}

impl Invocations {
    pub(super) fn remember(&mut self, state: InvocationState) {
        if self.ended.len() >= MAX_REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(state);
    }

    fn add(&mut self, invocation: Invocation) -> u64 {
        self.count += 1;
        self.live.insert(self.count, invocation);
        self.count
    }
}

impl Model {
    pub(super) fn invoke(&mut self, request_id: &str, invoke: &Invoke, duplicate: bool) -> Outcome {
        let invocation = match self.admit(request_id, invoke) {
            Ok(invocation) => invocation,
            Err(error) => return Outcome::Answer(Err(error)),
        };
        if self.invocations.live.len() >= MAX_LIVE {
            return too_many("FunctionInvocationRateLimitExceeded");
        }
        match invoke.kind {
            InvocationType::DryRun => Outcome::Answer(Ok(Response::DryRun)),
            InvocationType::Event => {
                for _ in 0..=u8::from(duplicate) {
                    let id = self.invocations.add(invocation.clone());
                    let delay = self.sample(self.settings.timing.event_delay);
                    self.timers.set(self.now.saturating_add(delay), Timer::Dispatch { invocation: id });
                }
                Outcome::Answer(Ok(Response::Queued))
            }
            InvocationType::RequestResponse => {
                let id = self.invocations.add(invocation);
                if self.assign(id) {
                    return Outcome::Later(Ticket(id));
                }
                self.invocations.live.remove(&id);
                too_many("ConcurrentInvocationLimitExceeded")
            }
        }
    }

    /// The invocation, if the function can be invoked now.
    fn admit(&mut self, request_id: &str, invoke: &Invoke) -> Result<Invocation, ApiError> {
        let function = self.function_at(&invoke.function, self.now)?;
        let id = function.id;
        let (state, _) = function.state(self.now, self.settings.timing.inactive_after);
        let limit = if invoke.kind == InvocationType::Event { MAX_EVENT_PAYLOAD } else { MAX_SYNC_PAYLOAD };
        if invoke.payload.len() > limit {
            return Err(ApiError::new(
                413,
                "RequestEntityTooLargeException",
                format!(
                    "{} byte payload is too large for the {:?} invocation type (limit {limit} bytes)",
                    invoke.payload.len(),
                    invoke.kind
                ),
            ));
        }
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(&invoke.payload);
        if let (false, Err(error)) = (invoke.payload.is_empty(), json) {
            let message = format!("Could not parse request body into json: {error}");
            return Err(ApiError::new(400, "InvalidRequestContentException", message));
        }
        let client_context = invoke.client_context.as_deref().map(decode_context).transpose()?;
        if state == "Inactive" {
            let ready_at = self.now.saturating_add(self.sample(self.settings.timing.pending));
            let function = self.function_mut(&invoke.function)?;
            function.restoring = true;
            function.ready_at = ready_at;
            function.last_used = ready_at;
        }
        if state != "Active" {
            return Err(state_conflict(state));
        }
        let now = self.now;
        self.function_mut(&invoke.function)?.last_used = now;
        Ok(Invocation { client_context, ..self.invocation(request_id, invoke, id) })
    }

    fn invocation(&mut self, request_id: &str, invoke: &Invoke, function_id: u64) -> Invocation {
        let root = self.rng.hex32();
        Invocation {
            request_id: request_id.to_owned(),
            function: invoke.function.name.clone(),
            function_id,
            kind: invoke.kind,
            payload: invoke.payload.clone(),
            client_context: None,
            tail: invoke.tail,
            accepted_at: self.now,
            started_at: None,
            environment: None,
            failures: 0,
            token: envelope_token(&invoke.payload),
            trace_id: format!("Root=1-{:08x}-{};Parent={};Sampled=0", self.now / 1_000, &root[..24], &root[16..]),
        }
    }

    pub(super) fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Dispatch { invocation } => self.dispatch(invocation),
            Timer::Retire { environment, served } => self.retire(environment, served),
            Timer::InitLimit { environment } => self.init_limit(environment),
        }
    }

    /// Tries to run a queued Event.
    fn dispatch(&mut self, id: u64) {
        let Some(invocation) = self.invocations.live.get(&id).filter(|invocation| invocation.environment.is_none())
        else {
            return;
        };
        let function = self.functions.live.get(&invocation.function);
        let Some(function) = function.filter(|function| function.id == invocation.function_id) else {
            return self.drop_event(id);
        };
        let max_age = function.events.and_then(|events| events.max_age_s).unwrap_or(DEFAULT_MAX_AGE_S);
        if self.now.saturating_sub(invocation.accepted_at) > max_age.saturating_mul(1_000) {
            return self.drop_event(id);
        }
        if !self.assign(id) {
            let wait = self.sample(self.settings.timing.event_throttle_retry).max(1);
            self.timers.set(self.now.saturating_add(wait), Timer::Dispatch { invocation: id });
        }
    }

    fn drop_event(&mut self, id: u64) {
        if let Some(invocation) = self.invocations.live.remove(&id) {
            let end_ms = Some(self.now);
            self.invocations.remember(InvocationState { end_ms, ..invocation.state(InvocationStatus::Dropped) });
        }
    }

    /// Answers, retries or gives up, after an environment is done with an invocation.
    pub(super) fn conclude(&mut self, id: u64, ended: &Ended, log_tail: &str) {
        let Some(invocation) = self.invocations.live.get(&id) else { return };
        let failed = ended.status != Status::Success;
        let status = if failed { InvocationStatus::Failed } else { InvocationStatus::Succeeded };
        let timeout = (ended.status == Status::Timeout).then(|| "Sandbox.Timedout".to_owned());
        let state = InvocationState {
            end_ms: Some(self.now),
            exit: answered_exit(&ended.payload),
            error_type: ended.error_type.clone().or(timeout),
            ..invocation.state(status)
        };
        if invocation.kind == InvocationType::RequestResponse {
            let log_tail = invocation.tail.then(|| log_tail.to_owned());
            let result = Ok(Response::Invoked(Invoked { payload: ended.payload.clone(), failed, log_tail }));
            self.effects.push(Effect::Answer { ticket: Ticket(id), result });
        }
        let retried = invocation.kind == InvocationType::Event && failed && self.retry(id);
        self.invocations.remember(state);
        if !retried {
            self.invocations.live.remove(&id);
        }
    }

    /// Queues a failed Event again, if it has a try left.
    fn retry(&mut self, id: u64) -> bool {
        let waits = self.settings.timing.event_error_retry;
        let Some(invocation) = self.invocations.live.get_mut(&id) else { return false };
        let events = self.functions.live.get(&invocation.function).and_then(|function| function.events);
        let retries = events.and_then(|events| events.retries).unwrap_or(DEFAULT_RETRIES);
        if i64::from(invocation.failures) >= retries {
            return false;
        }
        let wait = if invocation.failures == 0 { waits[0] } else { waits[1] };
        invocation.failures += 1;
        invocation.environment = None;
        invocation.started_at = None;
        self.timers.set(self.now.saturating_add(wait), Timer::Dispatch { invocation: id });
        true
    }
}

fn too_many(reason: &'static str) -> Outcome {
    let error = ApiError::new(429, "TooManyRequestsException", "Rate Exceeded.");
    Outcome::Answer(Err(ApiError { reason: Some(reason), ..error }))
}

/// The client context as the runtime gets it: JSON on one line.
fn decode_context(base64: &str) -> Result<String, ApiError> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).ok().filter(|_| base64.len() <= MAX_CONTEXT);
    let json = bytes.and_then(|bytes| serde_json::from_slice::<serde_json::Map<_, _>>(&bytes).ok());
    json.and_then(|json| serde_json::to_string(&json).ok()).ok_or_else(|| {
        let message = "Client context must be a valid Base64-encoded JSON object.";
        ApiError::new(400, "InvalidRequestContentException", message)
    })
}

/// The token in an invocation's payload, if it is an order to the bootstrap.
fn envelope_token(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        sockerless: Order,
    }
    #[derive(Deserialize)]
    struct Order {
        token: String,
    }
    serde_json::from_slice::<Envelope>(payload).ok().map(|envelope| envelope.sockerless.token)
}

/// The exit code in an invocation's answer, if it is the bootstrap's.
fn answered_exit(payload: &[u8]) -> Option<i32> {
    #[derive(Deserialize)]
    struct Answer {
        sockerless: Verdict,
    }
    #[derive(Deserialize)]
    struct Verdict {
        exit_code: i32,
    }
    serde_json::from_slice::<Answer>(payload).ok().map(|answer| answer.sockerless.exit_code)
}
