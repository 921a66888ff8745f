//! `docker ps`.

use std::collections::HashMap;

use serde_json::Value;

use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::query::Filters;
use crate::api::reply::{self, Reply};
use crate::api::{images, wire};
use crate::state::Image;
use crate::state::model::Container;
use crate::state::model::life::{Life, life};

/// The filters of the list. Those about things that a function never has match what they match in Docker there.
const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: &[&str] = &["created", "restarting", "running", "removing", "paused", "exited", "dead"];

/// Containers, newest first.
pub(in crate::api) async fn list(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    let filters = call.query.filters(FILTERS)?;
    let limit = call.query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let all = call.query.flag("all") || limit.is_some();
    let containers = api.reader.containers().await?;
    let images = api.reader.images().await?;
    let ends = [call.query.get("before"), call.query.get("since")];
    let wanted = Wanted::new(&filters, &containers, &images, all, ends)?;
    let ids: HashMap<&str, &str> = images.iter().map(|image| (image.reference.as_str(), image.id.as_str())).collect();
    let now = api.clock.now();
    let item = |container: &Container| {
        let reference = images::canonical(&container.spec.config.image).unwrap_or_default();
        let image_id = ids.get(reference.as_str()).copied().unwrap_or(super::NO_IMAGE_ID);
        wire::list_item(container, image_id, now)
    };
    let shown = containers.iter().filter(|container| wanted.has(container)).take(limit.unwrap_or(usize::MAX));
    let items: Vec<Value> = shown.map(item).collect();
    Ok(reply::ok(&Value::Array(items)))
}

/// What a list is restricted to. Pure.
struct Wanted<'a> {
    filters: &'a Filters,
    all: bool,
    exited: Vec<u8>,
    ancestors: Vec<String>,
    before: Option<i64>,
    since: Option<i64>,
}

impl<'a> Wanted<'a> {
    /// `ends`: the old query parameters `before` and `since`.
    fn new(
        filters: &'a Filters,
        containers: &[Container],
        images: &[Image],
        all: bool,
        ends: [Option<&str>; 2],
    ) -> Result<Self, ApiError> {
        let invalid = |name: &str, value: &str| ApiError::BadRequest(format!("invalid filter '{name}={value}'"));
        if let Some(state) = filters.values("status").find(|state| !STATES.contains(state)) {
            return Err(invalid("status", state));
        }
        let code = |text: &str| text.parse().map_err(|_| invalid("exited", text));
        let [before, since] = ends;
        let place = |name: &str, old: Option<&str>| {
            filters.values(name).chain(old).last().map(|text| seq_of(containers, text)).transpose()
        };
        Ok(Self {
            all: all || filters.has("status"),
            exited: filters.values("exited").map(code).collect::<Result<_, _>>()?,
            ancestors: filters.values("ancestor").flat_map(|text| ancestors(images, text)).collect(),
            before: place("before", before)?,
            since: place("since", since)?,
            filters,
        })
    }

    fn has(&self, container: &Container) -> bool {
        let config = &container.spec.config;
        let life = life(&container.spec, &container.status);
        let is_up = matches!(life, Life::Running { .. } | Life::Restarting(_));
        let exit_code = match &life {
            Life::Exited(exit) => Some(exit.code),
            _ => None,
        };
        let (id, name) = (container.id.to_string(), container.name.as_str());
        let filters = self.filters;
        let never = ["volume", "publish", "expose"].iter().any(|name| filters.has(name));
        (self.all || is_up)
            && !never
            && filters.any("status", |state| state == wire::status_word(&life))
            && filters.any("health", |health| health == "none")
            && filters.any("is-task", |is_task| is_task == "false")
            && filters.any("network", |network| network == wire::network_of(config))
            && filters.any_regex("id", &[id.as_str()])
            && filters.any_regex("name", &[name, &format!("/{name}")])
            && filters.labels(&config.labels)
            && (self.exited.is_empty() || exit_code.is_some_and(|code| self.exited.contains(&code)))
            && (!filters.has("ancestor") || self.comes_from(&config.image))
            && self.before.is_none_or(|seq| container.seq < seq)
            && self.since.is_none_or(|seq| container.seq > seq)
    }

    fn comes_from(&self, image: &str) -> bool {
        images::canonical(image).is_ok_and(|reference| self.ancestors.contains(&reference))
    }
}

/// The place in the order of the container that a client names.
fn seq_of(containers: &[Container], text: &str) -> Result<i64, ApiError> {
    let bare = text.strip_prefix('/').unwrap_or(text);
    let by_name = containers.iter().find(|container| container.name == bare);
    let by_id = || containers.iter().find(|container| container.id.to_string().starts_with(text));
    let found = by_name.or_else(by_id).map(|container| container.seq);
    found.ok_or_else(|| ApiError::NoSuchContainer(text.to_owned()))
}

/// The references of the image that a client names by reference or id.
fn ancestors(images: &[Image], text: &str) -> Vec<String> {
    let by_reference = images::canonical(text).ok();
    let known = by_reference.as_ref().and_then(|name| images.iter().find(|image| image.reference == *name));
    let same_image = match known {
        Some(known) => images.iter().filter(|image| image.id == known.id).collect(),
        None => images::by_id(images, text),
    };
    same_image.into_iter().map(|image| image.reference.clone()).chain(by_reference).collect()
}

#[cfg(test)]
mod tests;
