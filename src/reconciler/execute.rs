//! One match, no decisions: each action is one call of AWS.
//!
//! Nothing in AWS is changed or deleted unless its name and its tags say that it is this container's: whoever is about to
//! change a function looks at its tags first.

use std::time::Duration;

use super::absorb::{Outcome, absorb, outcome_of};
use super::learn::{Evidence, RunAnswer, learn};
use super::names::{self, Identity};
use super::plan::{ANSWER_SLACK, Action};
use super::shared::Shared;
use crate::aws::{AwsError, AwsErrorKind, FunctionDescription, InvokeReply, InvokeRequest};
use crate::clock::Timestamp;
use crate::state::InvokePermit;
use crate::state::model::bounds::{MAX_MESSAGE_BYTES, MAX_NAME_BYTES};
use crate::state::model::lambda_log::is_request_id;
use crate::state::model::text::bounded;
use crate::state::model::{Container, Function, FunctionState, InvocationKind, Known, Protocol, Spec, Status};

/// Queueing an event takes no longer.
const ACCEPT_WITHIN: Duration = Duration::from_secs(30);

/// What became of an action, to be folded into the facts.
#[derive(Clone, Debug)]
pub(super) struct News {
    action: Action,
    outcome: Outcome,
    evidence: Option<Evidence>,
    /// In 0..1, drawn once: folding again after a lost race gives the same.
    jitter: f64,
}

impl News {
    /// What became of `action`. `jitter` is in 0..1.
    pub(super) fn new(action: Action, outcome: Outcome, evidence: Option<Evidence>, jitter: f64) -> Self {
        Self { action, outcome, evidence, jitter }
    }

    /// The facts with the news.
    pub(super) fn fold(&self, now: Timestamp, spec: &Spec, status: Status) -> Status {
        let status = absorb(now, self.jitter, status, &self.action, &self.outcome);
        match &self.evidence {
            Some(evidence) => learn(now, spec, status, evidence),
            None => status,
        }
    }

    /// The error, if the action failed.
    pub(super) fn error(&self) -> Option<&AwsError> {
        match &self.outcome {
            Outcome::Done | Outcome::Accepted { .. } => None,
            Outcome::Refused(error) | Outcome::Unknown(error) | Outcome::Terminal(error) => Some(error),
        }
    }

    /// What the error means, in a word.
    pub(super) fn outcome_name(&self) -> &'static str {
        match self.outcome {
            Outcome::Done | Outcome::Accepted { .. } => "done",
            Outcome::Refused(_) => "refused",
            Outcome::Unknown(_) => "unknown",
            Outcome::Terminal(_) => "terminal",
        }
    }

    /// What became of the action.
    pub(super) fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The action that it is about.
    pub(super) fn action(&self) -> &Action {
        &self.action
    }
}

impl Shared {
    /// Carries out an action on a container's function. Waiting, forgetting and invoking are not carried out here.
    pub(super) async fn execute(&self, container: &Container, action: Action) -> News {
        match self.act(container, &action).await {
            Ok((action, evidence)) => self.news(action, Outcome::Done, evidence),
            Err(error) => {
                let outcome = outcome_of(&action, error);
                self.news(action, outcome, None)
            }
        }
    }

    fn news(&self, action: Action, outcome: Outcome, evidence: Option<Evidence>) -> News {
        News::new(action, outcome, evidence, jitter())
    }

    async fn act(&self, container: &Container, action: &Action) -> Result<(Action, Option<Evidence>), AwsError> {
        if let Some(name) = action.changes() {
            let seen = self.look(container, name).await?;
            if !may_change(action, &seen) {
                return Ok((Action::GetFunction { name: name.to_owned() }, Some(seen)));
            }
        }
        let evidence = match action {
            Action::GetFunction { name } => Some(self.look(container, name).await?),
            Action::CreateFunction { .. } => {
                let description = self.cloud.create_function(&self.identity.new_function(container)).await?;
                Some(Evidence::Function(function(&description, container, self.clock.now())))
            }
            Action::PutEventInvokeConfig { name } => {
                let age = container.spec.config.function.event_age_s;
                self.cloud.put_event_invoke_config(name, age).await?;
                None
            }
            Action::UpdateFunction { name, code } => Some(self.update(container, name, *code).await?),
            Action::DeleteFunction { name } => {
                self.cloud.delete_function(name).await?;
                None
            }
            Action::ReleaseFunction { arn, .. } => {
                self.cloud.untag(arn, &[names::TAG_INSTANCE]).await?;
                None
            }
            Action::Invoke { .. } | Action::Wait { .. } | Action::AwaitSlot | Action::Forget => None,
        };
        Ok((action.clone(), evidence))
    }

    async fn update(&self, container: &Container, name: &str, code: bool) -> Result<Evidence, AwsError> {
        let wanted = names::shape(&container.spec.config);
        let description = if code {
            let image = wanted.image_uri.as_deref().unwrap_or_default();
            self.cloud.update_function_code(name, image, &wanted.architecture).await?
        } else {
            self.cloud.update_function_configuration(name, &wanted).await?
        };
        Ok(updated(&description, container, code, self.clock.now()))
    }

    async fn look(&self, container: &Container, name: &str) -> Result<Evidence, AwsError> {
        match self.cloud.get_function(name).await {
            Ok(description) => sight(&self.identity, &description, container, self.clock.now()),
            Err(error) if error.kind == AwsErrorKind::NotFound => Ok(Evidence::NoFunction),
            Err(error) => Err(error),
        }
    }

    /// Invokes a run, once: the permit of its committed intent is used up. A RequestResponse answer may take as long as
    /// the function.
    pub(super) async fn invoke(&self, container: &Container, permit: InvokePermit) -> News {
        let action = Action::Invoke { run_no: permit.run_no() };
        let Some(request) = invoke_request(container) else {
            // The commit that gave the permit has put the run there.
            return self.news(action, Outcome::Done, None);
        };
        let reply = self.cloud.invoke(&request).await;
        match reply {
            Ok(reply) if request.asynchronous => {
                self.news(action, Outcome::Accepted { request_id: credible_id(reply.request_id) }, None)
            }
            Ok(reply) => {
                let Action::Invoke { run_no } = action else { return self.news(action, Outcome::Done, None) };
                self.news(action, Outcome::Done, Some(Evidence::Answer(run_answer(run_no, reply))))
            }
            Err(error) => {
                let outcome = outcome_of(&action, error);
                self.news(action, outcome, None)
            }
        }
    }
}

/// What a function that was looked at proves: whether it is this container's, by its tags, and what it is like.
///
/// Who may not read tags is told none: nothing follows from that, and a function that was ours before is not taken for
/// somebody else's.
pub(super) fn sight(
    identity: &Identity,
    description: &FunctionDescription,
    container: &Container,
    now: Timestamp,
) -> Result<Evidence, AwsError> {
    let was_ours = matches!(&container.status.function, Known::Is(known) if known.name == description.name);
    match &description.tags {
        Some(tags) if identity.owns(tags, &container.id) => {
            Ok(Evidence::Function(function(description, container, now)))
        }
        Some(tags) if !(tags.is_empty() && was_ours) => {
            Ok(Evidence::ForeignFunction { name: description.name.clone() })
        }
        _ => Err(no_tags(&description.name)),
    }
}

fn no_tags(name: &str) -> AwsError {
    AwsError {
        service: "lambda",
        operation: "get function",
        kind: AwsErrorKind::AccessDenied,
        code: None,
        message: format!("{name} shows no tags: the right lambda:ListTags is missing, or they were taken off"),
        request_id: None,
        retry_after: None,
    }
}

/// Whether an action that changes a function may go on after the look at it.
pub(super) fn may_change(action: &Action, seen: &Evidence) -> bool {
    match (seen, action) {
        // A list that showed drift may have been old.
        (Evidence::Function(function), Action::UpdateFunction { .. }) => !function.drift.is_empty(),
        (Evidence::Function(_), _) => true,
        _ => false,
    }
}

/// What an update of the image (`code`) or of the other settings has left.
pub(super) fn updated(
    description: &FunctionDescription,
    container: &Container,
    code: bool,
    now: Timestamp,
) -> Evidence {
    let mut function = function(description, container, now);
    // What AWS will not change stays as it is until the next sweep sees it: no endless mending.
    function.drift.retain(|field| (field == names::CODE_FIELD) != code);
    Evidence::Function(function)
}

/// A function as the facts have it.
pub(super) fn function(description: &FunctionDescription, container: &Container, now: Timestamp) -> Function {
    let mut drift = names::drift(&names::shape(&container.spec.config), &description.shape);
    if description.shape.image_uri.is_none() {
        drift.retain(|field| field != names::CODE_FIELD);
    }
    Function {
        name: description.name.clone(),
        arn: description.arn.clone(),
        state: function_state(description),
        updating: description.updating,
        drift,
        event_config: false,
        resolved_image: description.resolved_image_uri.clone(),
        seen_at: now,
    }
}

/// The request id of an answer, if it is one: lines of the log are attributed by it.
fn credible_id(request_id: Option<String>) -> Option<String> {
    request_id.filter(|id| is_request_id(id))
}

/// What the reply to a RequestResponse invocation proves.
pub(super) fn run_answer(run_no: u64, reply: InvokeReply) -> RunAnswer {
    RunAnswer {
        run_no,
        request_id: credible_id(reply.request_id),
        function_error: reply.function_error.is_some(),
        payload: reply.payload,
        log_tail: reply.log_tail,
    }
}

/// The invocation of the run that was issued.
pub(super) fn invoke_request(container: &Container) -> Option<InvokeRequest> {
    let issued = container.status.run.as_ref()?.issued.as_ref()?;
    let settings = &container.spec.config.function;
    let asynchronous = issued.kind == InvocationKind::Event;
    Some(InvokeRequest {
        function_name: issued.function_name.clone(),
        asynchronous,
        payload: names::payload(&container.spec.config, &issued.token),
        client_context: (settings.protocol == Protocol::Native && !asynchronous)
            .then(|| names::client_context(&issued.token)),
        answer_within: if asynchronous {
            ACCEPT_WITHIN
        } else {
            Duration::from_secs(u64::from(settings.timeout_s)) + ANSWER_SLACK
        },
    })
}

/// A function whose last update failed counts as failed, although AWS calls it active: an invocation would run the image
/// or the settings of before the update.
fn function_state(description: &FunctionDescription) -> FunctionState {
    let failed = |code: Option<&str>, reason: Option<&str>| FunctionState::Failed {
        code: bounded(code.unwrap_or_default(), MAX_NAME_BYTES),
        reason: bounded(reason.unwrap_or_default(), MAX_MESSAGE_BYTES),
    };
    match (description.state.as_str(), &description.failed_update) {
        ("Active" | "Inactive", Some(update)) => failed(update.code.as_deref(), update.reason.as_deref()),
        ("Pending", _) => FunctionState::Pending,
        ("Active", None) => FunctionState::Active,
        ("Inactive", None) => FunctionState::Inactive,
        ("Failed", _) => failed(description.state_reason_code.as_deref(), description.state_reason.as_deref()),
        (other, _) => FunctionState::Other(bounded(other, MAX_NAME_BYTES)),
    }
}

/// A number in 0..1.
fn jitter() -> f64 {
    // Without randomness there is no jitter: the ceiling is waited.
    getrandom::u32().map_or(1.0, |random| f64::from(random) / (f64::from(u32::MAX) + 1.0))
}

/// A fresh token for a run: 128 random bits. `None`: the system has no randomness to give, so nothing can be issued.
pub(super) fn fresh_token() -> Option<String> {
    let (high, low) = (getrandom::u64().ok()?, getrandom::u64().ok()?);
    Some(format!("{high:016x}{low:016x}"))
}
