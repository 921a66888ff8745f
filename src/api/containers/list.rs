//! `docker ps`.

use std::sync::Arc;

use http::StatusCode;

use super::feed::{Feed, Item, Unsent};
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::query::{Filters, Patterns};
use crate::api::reply::{self, Reply, Writer};
use crate::api::{images, wire};
use crate::clock::Timestamp;
use crate::state::model::Container;
use crate::state::model::life::{Life, life};
use crate::state::{Image, Listed, Row, StateError, Unreadable};

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
    let images = if filters.has("ancestor") { api.reader.images().await? } else { Vec::new() };
    let ends = Ends { before: place(&call, &filters, "before").await?, since: place(&call, &filters, "since").await? };
    let wanted = Wanted::new(filters, &images, all, ends)?;
    let running = !wanted.all;
    let mut listing = Listing { wanted, now: api.clock.now(), left: limit.unwrap_or(usize::MAX) };
    let feed = Feed::begin(Arc::clone(&call.room), running, move |row| listing.item(row)).await?;
    let (writer, body) = reply::streamed();
    tokio::spawn(async move {
        match send(feed, &writer).await {
            Ok(()) => writer.finish().await,
            Err(Unsent::Gone) => {}
            Err(error) => tracing::error!(%error, "a list of containers was cut off"),
        }
    });
    Ok(reply::with_body(StatusCode::OK, "application/json", body))
}

async fn send(feed: Feed<impl FnMut(&Row<Listed>) -> Item + Send>, writer: &Writer) -> Result<(), Unsent> {
    writer.send("[").await?;
    feed.send(writer).await?;
    Ok(writer.send("]\n").await?)
}

/// What is shown in a list, and how.
struct Listing {
    wanted: Wanted,
    now: Timestamp,
    /// So many more are shown at most.
    left: usize,
}

impl Listing {
    fn item(&mut self, row: &Row<Listed>) -> Item {
        if self.left == 0 {
            return Item::End;
        }
        let shown = match row {
            Ok(listed) => self.wanted.has(&listed.container).then(|| {
                let image_id = listed.image_id.as_deref().unwrap_or(super::NO_IMAGE_ID);
                wire::list_item(&listed.container, image_id, self.now)
            }),
            Err(dead) => self.wanted.has_dead(dead).then(|| wire::dead_item(dead, self.now)),
        };
        self.left -= usize::from(shown.is_some());
        shown.map_or(Item::Skipped, Item::Shown)
    }
}

/// The place in the order of containers of the one that a filter, or the old query parameter of that name, means.
async fn place(call: &Call, filters: &Filters, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = filters.values(name).chain(call.query.get(name)).last() else { return Ok(None) };
    let reader = &call.api().reader;
    let found = async {
        let id = reader.resolve(text).await.map_err(|error| ApiError::resolving(text, error))?;
        Ok(reader.container(&id).await?.map(|container| container.seq))
    };
    match found.await {
        Err(ApiError::State(StateError::Unreadable(dead))) => Ok(Some(dead.seq)),
        found => found,
    }
}

/// The places between which containers are shown.
#[derive(Clone, Copy, Default)]
struct Ends {
    before: Option<i64>,
    since: Option<i64>,
}

/// What a list is restricted to. Pure.
struct Wanted {
    filters: Filters,
    names: Patterns,
    ids: Patterns,
    all: bool,
    exited: Vec<u8>,
    ancestors: Vec<String>,
    ends: Ends,
}

impl Wanted {
    fn new(filters: Filters, images: &[Image], all: bool, ends: Ends) -> Result<Self, ApiError> {
        let invalid = |name: &str, value: &str| ApiError::BadRequest(format!("invalid filter '{name}={value}'"));
        if let Some(state) = filters.values("status").find(|state| !STATES.contains(state)) {
            return Err(invalid("status", state));
        }
        let code = |text: &str| text.parse().map_err(|_| invalid("exited", text));
        Ok(Self {
            all: all || filters.has("status"),
            exited: filters.values("exited").map(code).collect::<Result<_, _>>()?,
            ancestors: filters.values("ancestor").flat_map(|text| ancestors(images, text)).collect(),
            ends,
            names: filters.patterns("name"),
            ids: filters.patterns("id"),
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
        let filters = &self.filters;
        let never = ["volume", "publish", "expose"].iter().any(|name| filters.has(name));
        (self.all || is_up)
            && !never
            && filters.any("status", |state| state == wire::status_word(&life))
            && filters.any("health", |health| health == "none")
            && filters.any("is-task", |is_task| is_task == "false")
            && filters.any("network", |network| network == wire::network_of(config))
            && self.ids.any(&[id.as_str()])
            && self.names.any(&[name, &format!("/{name}")])
            && filters.labels(&config.labels)
            && (self.exited.is_empty() || exit_code.is_some_and(|code| self.exited.contains(&code)))
            && (!filters.has("ancestor") || self.comes_from(&config.image))
            && self.ends.before.is_none_or(|seq| container.seq < seq)
            && self.ends.since.is_none_or(|seq| container.seq > seq)
    }

    /// Of a container that cannot be read, nothing is known but its name, its id and its place.
    fn has_dead(&self, dead: &Unreadable) -> bool {
        let (id, name, filters) = (dead.shown_id(), dead.name.as_deref().unwrap_or_default(), &self.filters);
        let unknown = ["volume", "publish", "expose", "network", "label", "label!", "ancestor", "exited"];
        self.all
            && !unknown.iter().any(|name| filters.has(name))
            && filters.any("status", |state| state == wire::DEAD)
            && filters.any("health", |health| health == "none")
            && filters.any("is-task", |is_task| is_task == "false")
            && self.ids.any(&[id.as_str()])
            && self.names.any(&[name, &format!("/{name}")])
            && self.ends.before.is_none_or(|seq| dead.seq < seq)
            && self.ends.since.is_none_or(|seq| dead.seq > seq)
    }

    fn comes_from(&self, image: &str) -> bool {
        images::canonical(image).is_ok_and(|reference| self.ancestors.contains(&reference))
    }
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
