//! `docker ps`.

use std::collections::HashMap;

use http::StatusCode;
use serde_json::Value;

use crate::api::call::{Call, Room};
use crate::api::error::ApiError;
use crate::api::query::{Filters, Patterns};
use crate::api::reply::{self, Reply, Writer};
use crate::api::{images, limits, wire};
use crate::clock::Timestamp;
use crate::state::model::Container;
use crate::state::model::life::{Life, life};
use crate::state::{Image, Page, Row, StateError, Unreadable};

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
    let images = api.reader.images().await?;
    let ends = Ends { before: place(&call, &filters, "before").await?, since: place(&call, &filters, "since").await? };
    let wanted = Wanted::new(filters, &images, all, ends)?;
    let image_ids = images.into_iter().map(|image| (image.reference, image.id)).collect();
    let (writer, body) = reply::streamed();
    let listing = Listing { wanted, image_ids, now: api.clock.now(), left: limit.unwrap_or(usize::MAX) };
    // What the store refuses is still an answer with a status now; later it could only break off.
    let first = api.reader.containers(None, limits::CONTAINER_PAGE).await?;
    let room = call.room.clone();
    tokio::spawn(async move {
        if let Err(error) = listing.send(&room, first, writer).await {
            tracing::error!(%error, "a list of containers was cut off");
        }
    });
    Ok(reply::with_body(StatusCode::OK, "application/json", body))
}

/// A list on its way to a client: as much of it is held as fits into one piece, however long it is.
struct Listing {
    wanted: Wanted,
    /// By reference.
    image_ids: HashMap<String, String>,
    now: Timestamp,
    /// So many more are shown at most.
    left: usize,
}

impl Listing {
    async fn send(self, room: &Room, first: Page<Container>, writer: Writer) -> Result<(), StateError> {
        let (mut page, mut text, mut comma, mut left) = (first, "[".to_owned(), "", self.left);
        while let Some(last) = page.next.filter(|_| left > 0) {
            for item in page.rows.iter().filter_map(|row| self.shown(row)).take(left) {
                left -= 1;
                text.push_str(comma);
                text.push_str(&item.to_string());
                comma = ",";
                if text.len() >= limits::STREAM_PIECE_BYTES && writer.send(std::mem::take(&mut text)).await.is_err() {
                    return Ok(());
                }
            }
            page = room.api.reader.containers(Some(last), limits::CONTAINER_PAGE).await?;
        }
        text.push_str("]\n");
        if writer.send(text).await.is_ok() {
            writer.finish().await;
        }
        Ok(())
    }

    /// What is shown of a container; `None`: it is not asked for.
    fn shown(&self, row: &Row<Container>) -> Option<Value> {
        match row {
            Ok(container) => self.wanted.has(container).then(|| self.item(container)),
            Err(dead) => self.wanted.has_dead(dead).then(|| wire::dead_item(dead, self.now)),
        }
    }

    fn item(&self, container: &Container) -> Value {
        let reference = images::canonical(&container.spec.config.image).unwrap_or_default();
        let image_id = self.image_ids.get(&reference).map_or(super::NO_IMAGE_ID, String::as_str);
        wire::list_item(container, image_id, self.now)
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
