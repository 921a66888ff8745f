//! What there is in the end: as a client sees it, and in AWS.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sockerless_lambda::state::model::{Container, life};
use sockerless_lambda::state::{Event, EventKind};
use sockerless_sandbox::model::lambda_api::FunctionName;
use sockerless_sandbox::model::logs_api::DescribeLogStreams;
use sockerless_sandbox::model::{Request, Response};

use super::acts::{Users, failed_for_good};
use super::life::CLAIMS_GROUP;
use super::scenario::Site;
use super::stage::{Broken, Stage};

/// A container as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) state: String,
    pub(crate) exit: Option<(u8, bool, String)>,
    /// What failed and is not tried again.
    pub(crate) failure: Option<String>,
}

/// What there is in the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    /// By name, also those that are gone.
    pub(crate) containers: BTreeMap<String, View>,
    /// What happened to each container.
    pub(crate) events: BTreeMap<String, Vec<String>>,
    /// All functions of the account, with their settings.
    pub(crate) functions: BTreeMap<String, Value>,
    /// The daemon's claims.
    pub(crate) claims: usize,
    /// The invocations that Lambda has taken, by container.
    pub(crate) taken: BTreeMap<String, usize>,
}

impl Stage {
    /// Looks at everything.
    pub(crate) async fn end_state(&self, users: &Users) -> Result<End, Broken> {
        let life = self.life(Site::Main).ok_or("no daemon runs")?;
        let page = life.reader.events(0, 10_000).await.map_err(|error| error.to_string())?;
        let events: Vec<_> = page.readable().collect();
        let mut containers: BTreeMap<String, View> =
            self.rows.iter().map(|row| (row.name.clone(), view(row))).collect();
        for (name, (code, error)) in &self.history.epitaphs {
            let exit = Some((*code, false, error.clone().unwrap_or_default()));
            let gone = || View { state: "gone".to_owned(), exit, failure: None };
            containers.entry(name.clone()).or_insert_with(gone);
        }
        Ok(End {
            containers,
            events: told(&events),
            functions: self.functions(),
            claims: self.claims(),
            taken: users
                .starts
                .keys()
                .map(|name| ((*name).to_owned(), self.taken(&users.id(name).to_string()).len()))
                .collect(),
        })
    }

    /// The ids of the invocations of a container's functions that Lambda has taken.
    pub(crate) fn taken(&self, id: &str) -> BTreeSet<String> {
        let prefix = self.function_name(id);
        let invocations = self.sandbox.state().invocations;
        let own = invocations.into_iter().filter(|invocation| invocation.function.starts_with(&prefix));
        own.map(|invocation| invocation.request_id).collect()
    }

    /// Every function's name and settings, without what differs from one making to the next.
    pub(crate) fn functions(&self) -> BTreeMap<String, Value> {
        let names = self.sandbox.state().functions.into_iter().map(|function| function.name);
        names.filter_map(|name| Some((name.clone(), self.function_settings(&name)?))).collect()
    }

    fn function_settings(&self, name: &str) -> Option<Value> {
        let Response::Function(function) = self.function(name)? else { return None };
        let mut settings = serde_json::to_value(*function).ok()?;
        let configuration = settings.get_mut("Configuration")?.as_object_mut()?;
        for moment in ["LastModified", "RevisionId", "State", "StateReason", "StateReasonCode", "LastUpdateStatus"] {
            configuration.remove(moment);
        }
        if let Some(tags) = settings.get_mut("Tags").and_then(Value::as_object_mut) {
            tags.remove("sockerless.created");
        }
        let events = Request::GetFunctionEventInvokeConfig(FunctionName::parse(name, None));
        if let Ok(Response::EventInvokeConfig(events)) = self.by_hand(&events) {
            settings["Events"] = json!([events.maximum_retry_attempts, events.maximum_event_age_in_seconds]);
        }
        Some(settings)
    }

    fn claims(&self) -> usize {
        let own = format!("{}/", self.instance);
        self.streams(CLAIMS_GROUP).keys().filter(|name| name.starts_with(&own)).count()
    }

    /// All streams of a log group by their names.
    pub(crate) fn streams(&self, group: &str) -> BTreeMap<String, Value> {
        let mut ask = DescribeLogStreams { log_group_name: Some(group.to_owned()), ..DescribeLogStreams::default() };
        let mut streams = BTreeMap::new();
        while let Ok(Response::LogStreams(page)) = self.by_hand(&Request::DescribeLogStreams(ask.clone())) {
            let described = |stream| serde_json::to_value(stream).unwrap_or_default();
            streams.extend(page.log_streams.into_iter().map(|s| (s.log_stream_name.clone(), described(s))));
            ask.next_token = page.next_token;
            if ask.next_token.is_none() {
                break;
            }
        }
        streams
    }
}

fn view(row: &Container) -> View {
    let (state, exit) = match life::life(&row.spec, &row.status) {
        life::Life::Created => ("created", None),
        life::Life::Running { .. } => ("running", None),
        life::Life::Restarting(exit) => ("restarting", Some(exit)),
        life::Life::Exited(exit) => ("exited", Some(exit)),
    };
    let oom = |cause| cause == sockerless_lambda::state::model::Cause::OutOfMemory;
    let exit = exit.map(|exit| (exit.code, oom(exit.cause), without_ids(&exit.message)));
    let failure =
        row.status.retry.failure.as_ref().filter(|_| failed_for_good(row)).map(|failure| failure.action.clone());
    View { state: state.to_owned(), exit, failure }
}

/// The text without request ids, which are never the same.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
    let words = text.split(' ').map(|word| if is_id(word) { "ID" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The events of each container: what happened, and with which exit code.
fn told(events: &[Event]) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == EventKind::Container) {
        let name = event.attributes.get("name").cloned().unwrap_or_default();
        let code = event.attributes.get("exitCode").map(|code| format!(":{code}")).unwrap_or_default();
        told.entry(name).or_default().push(format!("{}{code}", event.action));
    }
    told
}
