//! Tables for the pure files, and what they need.

mod absorb;
mod busy;
mod claim;
mod clock;
mod disguise;
mod ended;
mod failed_functions;
mod learn;
mod observe;
mod plan;
mod reports;
mod scan;
mod slots;
mod stand_in;
#[cfg(feature = "sandbox")]
mod stories;
mod sweep;
mod tasks;

use std::collections::BTreeMap;
use std::time::Duration;

use super::absorb::{Outcome, absorb};
use super::compare::{Comparison, Findings};
use super::learn::{Evidence, RunAnswer, learn};
use super::lines::{self, Line};
use super::names::Identity;
use super::plan::{Action, Decision, Moment, Observed, plan};
use crate::aws::{AwsError, AwsErrorKind, FunctionDescription};
use crate::clock::Timestamp;
use crate::state::model::{
    Architecture, Container, ContainerConfig, ContainerId, DeletionPolicy, Function, FunctionFailures,
    FunctionSettings, FunctionState, InvocationKind, Known, Protocol, RestartPolicy, RunPhase, Spec, Status,
    UnknownOutcome,
};
use crate::state::{FunctionOwner, FunctionPresence};

/// What a sweep would find in one page of the list and these rows.
pub(super) fn judge(
    identity: &Identity,
    listed: &[FunctionDescription],
    rows: &[Container],
    started: Timestamp,
) -> Findings {
    let owner = |row: &Container| {
        let spec = serde_json::from_value(serde_json::to_value(&row.spec.config).unwrap()).unwrap();
        FunctionOwner { seq: row.seq, id: row.id, function: Some((row.status.incarnation, spec)) }
    };
    let presence = |row: &Container| FunctionPresence {
        seq: row.seq,
        id: Some(row.id),
        is_present: matches!(row.status.function, Known::Is(_)),
        create_sent_at: row.status.create_sent_at,
    };
    let mut comparison = Comparison::begin(started, String::new());
    comparison.take_list_page(identity, listed, &rows.iter().map(owner).collect::<Vec<_>>());
    comparison.take_rows(&rows.iter().map(presence).collect::<Vec<_>>());
    comparison.end()
}

pub(super) const NAME: &str = "skls-0123456789-aaaaaaaaaaaaaaaaaaaaaaaa";
pub(super) const STREAM: &str =
    "2026/11/23/skls-0123456789-aaaaaaaaaaaaaaaaaaaaaaaa[$LATEST]0123456789abcdef0123456789abcdef";
pub(super) const REQUEST: &str = "6bc28136-0000-4365-b021-0ce6b2e64ab0";
pub(super) const OTHER_REQUEST: &str = "6bc28136-1111-4365-b021-0ce6b2e64ab0";

pub(super) fn t(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + secs)
}

/// A container's function as AWS describes it.
pub(super) fn described(identity: &Identity, container: &Container) -> FunctionDescription {
    let made = identity.new_function(container);
    FunctionDescription {
        name: made.name,
        arn: String::new(),
        state: "Active".into(),
        state_reason_code: None,
        state_reason: None,
        updating: false,
        failed_update: None,
        last_modified: String::new(),
        resolved_image_uri: None,
        shape: made.shape,
        tags: Some(made.tags),
    }
}

pub(super) fn settings() -> FunctionSettings {
    FunctionSettings {
        role_arn: "arn:aws:iam::000000000000:role/r".into(),
        memory_mb: 1024,
        timeout_s: 100,
        ephemeral_storage_mb: 512,
        architecture: Architecture::X86_64,
        protocol: Protocol::Bootstrap,
        invocation: InvocationKind::RequestResponse,
        event_age_s: 300,
        subnet_ids: Vec::new(),
        security_group_ids: Vec::new(),
        log_group: "/sockerless/lambda".into(),
        payload: None,
        deletion_policy: DeletionPolicy::Delete,
        unknown_outcome: UnknownOutcome::Fail,
    }
}

pub(super) fn config() -> ContainerConfig {
    ContainerConfig {
        image: "host".into(),
        image_reference: "docker.io/library/host:latest".into(),
        image_uri: "host:latest".into(),
        entrypoint: None,
        cmd: Some(vec!["true".into()]),
        env: Vec::new(),
        working_dir: None,
        labels: BTreeMap::new(),
        tty: false,
        auto_remove: false,
        restart: RestartPolicy::No,
        function: settings(),
        docker_config: serde_json::Value::Null,
        docker_host_config: serde_json::Value::Null,
    }
}

/// A container and the world around it, moved on by hand.
pub(super) struct Story {
    pub(super) container: Container,
    pub(super) observed: Observed,
    pub(super) now: Timestamp,
    tokens: u32,
}

impl Story {
    pub(super) fn created() -> Self {
        let id = ContainerId::from_bytes([0xaa; 32]);
        let (spec, status) = (Spec::new(config()), Status::default());
        let container =
            Container { seq: 1, id, name: "job".into(), created_at: t(0), spec, status, due_at: None, revision: 0 };
        let observed = Observed { function_name: NAME.into(), slot_free: true, ..Observed::default() };
        Self { container, observed, now: t(0), tokens: 0 }
    }

    /// Created, with its function active.
    pub(super) fn ready() -> Self {
        let mut story = Self::created();
        story.decide();
        story.absorb(&Action::CreateFunction { name: NAME.into() }, &Outcome::Done);
        story.learn(&Evidence::Function(function(FunctionState::Active)));
        story
    }

    /// Started and invoked.
    pub(super) fn running(kind: InvocationKind, protocol: Protocol) -> Self {
        let mut story = Self::created();
        story.container.spec.config.function.invocation = kind;
        story.container.spec.config.function.protocol = protocol;
        let ready = Self::ready().container.status;
        story.container.status = ready;
        story.start();
        if kind == InvocationKind::Event {
            let put = Action::PutEventInvokeConfig { name: NAME.into() };
            assert_eq!(story.decide().action, put);
            story.absorb(&put, &Outcome::Done);
        }
        assert_eq!(story.decide().action, Action::Invoke { run_no: 1 });
        story
    }

    pub(super) fn start(&mut self) {
        let spec = &mut self.container.spec;
        spec.generation += 1;
        spec.starts += 1;
        spec.started_at = Some(self.now);
    }

    pub(super) fn cancel(&mut self) {
        let spec = &mut self.container.spec;
        spec.generation += 1;
        spec.cancelled = spec.starts;
        spec.cancelled_at = Some(self.now);
    }

    pub(super) fn remove(&mut self) {
        self.container.spec.generation += 1;
        self.container.spec.remove = Some(self.now);
    }

    pub(super) fn pass(&mut self, secs: u64) {
        self.now = self.now.after(Duration::from_secs(secs));
    }

    /// Plans, commits the facts, and goes on planning while the plan only records facts.
    pub(super) fn decide(&mut self) -> Decision {
        for _ in 0..8 {
            self.tokens += 1;
            let moment = Moment { now: self.now, token: format!("token{}", self.tokens) };
            let decision = plan(&moment, &self.container, &self.observed);
            let changed = decision.status != self.container.status;
            self.container.status = decision.status.clone();
            match decision.action {
                Action::Wait { until: Some(until) } if until <= self.now && changed => {}
                _ => return decision,
            }
        }
        panic!("the plan does not come to rest");
    }

    pub(super) fn absorb(&mut self, action: &Action, outcome: &Outcome) {
        self.container.status = absorb(self.now, 0.5, self.container.status.clone(), action, outcome);
    }

    pub(super) fn learn(&mut self, evidence: &Evidence) {
        self.container.status = learn(self.now, &self.container.spec, self.container.status.clone(), evidence);
    }

    pub(super) fn line(&mut self, message: &str) {
        self.line_at(STREAM, self.now, message);
    }

    pub(super) fn line_at(&mut self, stream: &str, at: Timestamp, message: &str) {
        let says = lines::parse(message).unwrap_or_else(|| panic!("no evidence: {message:?}"));
        self.learn(&Evidence::Line(Line { stream: stream.into(), at, says }));
    }

    pub(super) fn token(&self) -> String {
        self.container.status.run.as_ref().unwrap().issued.as_ref().unwrap().token.clone()
    }

    pub(super) fn answer(&mut self, function_error: bool, payload: &str) {
        let run_no = self.container.status.run.as_ref().unwrap().no;
        let answer = RunAnswer {
            run_no,
            request_id: Some(REQUEST.into()),
            function_error,
            payload: payload.as_bytes().to_vec(),
            log_tail: None,
        };
        self.absorb(&Action::Invoke { run_no }, &Outcome::Done);
        self.learn(&Evidence::Answer(answer));
    }

    pub(super) fn exit_answer(&mut self, code: u8) {
        let token = self.token();
        self.answer(
            false,
            &format!(r#"{{"sockerless":{{"version":1,"token":"{token}","exit_code":{code},"reason":"exited"}}}}"#),
        );
    }

    pub(super) fn phase(&self) -> &RunPhase {
        &self.container.status.run.as_ref().unwrap().phase
    }

    pub(super) fn exit_code(&self) -> Option<u8> {
        match self.phase() {
            RunPhase::Exited(exit) => Some(exit.code),
            _ => None,
        }
    }
}

pub(super) fn function(state: FunctionState) -> Function {
    Function {
        name: NAME.into(),
        arn: format!("arn:aws:lambda:us-east-1:000000000000:function:{NAME}"),
        state,
        updating: false,
        drift: Vec::new(),
        event_config: false,
        resolved_image: None,
        seen_at: t(0),
    }
}

pub(super) fn error(kind: AwsErrorKind) -> AwsError {
    AwsError {
        service: "lambda",
        operation: "test",
        kind,
        code: None,
        message: "words".into(),
        request_id: Some(REQUEST.into()),
        retry_after: None,
    }
}

pub(super) fn report_line(status: &str) -> String {
    format!(
        "REPORT RequestId: {REQUEST}\tDuration: 10.00 ms\tBilled Duration: 10 ms\tMemory Size: 1024 MB\tMax Memory Used: 40 MB\t{status}\n"
    )
}

pub(super) fn is<T: Clone>(known: &Known<T>) -> bool {
    matches!(known, Known::Is(_))
}
