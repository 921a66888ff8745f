//! `docker events`: what was recorded, then what is being recorded.

mod held;

use std::sync::Arc;

use held::Held;
use http::StatusCode;

use super::call::{Call, Room};
use super::error::ApiError;
use super::query::Filters;
use super::reference::Reference;
use super::reply::{self, Gone, Reply, Writer};
use super::stream::json_line;
use super::{limits, wire};
use crate::clock::Timestamp;
use crate::state::{Event, EventKind, StateError};

/// The filters of events. Those about things that are never here match nothing.
const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Streams events.
pub(super) async fn stream(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    let now = api.clock.now();
    let wanted = Wanted {
        filters: call.query.filters(FILTERS)?,
        since: call.query.moment("since", now)?,
        until: call.query.moment("until", now)?,
    };
    // Without `since` only what is still to come: the place is taken before the answer begins, so nothing falls between.
    let after = if wanted.since.is_some() { 0 } else { api.reader.last_event().await? };
    let (writer, body) = reply::streamed();
    let room = call.room.clone();
    tokio::spawn(async move {
        match stream_events(&room, &wanted, after, &writer).await {
            Ok(true) => writer.finish().await,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "a stream of events was cut off"),
        }
    });
    Ok(reply::with_body(StatusCode::OK, "application/json", body))
}

/// `false`: the client has gone.
async fn stream_events(room: &Arc<Room>, wanted: &Wanted, mut after: i64, writer: &Writer) -> Result<bool, StateError> {
    let reader = &room.api.reader;
    let mut news = reader.watch_events();
    let mut held = Held::default();
    let now = room.api.clock.now();
    let end = async {
        match wanted.until {
            Some(until) => tokio::time::sleep(until.since(now)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        news.mark_unchanged();
        loop {
            let turn = room.turn().await;
            let events = reader.events(after, limits::EVENT_PAGE).await?;
            drop(turn);
            let Some(last) = events.next else { break };
            after = last;
            let mut now = Vec::new();
            for event in events.readable().filter(|event| wanted.has(event)) {
                now.extend(held.pass(room, event).await?);
            }
            if tell(writer, &now).await.is_err() {
                return Ok(false);
            }
        }
        let released = tokio::select! {
            changed = news.changed() => if changed.is_ok() { Vec::new() } else { break },
            released = held.released() => released,
            () = &mut end => break,
            () = writer.gone() => return Ok(false),
            () = room.stop.cancelled() => break,
        };
        if tell(writer, &released).await.is_err() {
            return Ok(false);
        }
    }
    Ok(tell(writer, &held.rest()).await.is_ok())
}

/// Sends events in pieces, so that a slow client holds no more of them than it must.
async fn tell(writer: &Writer, events: &[Event]) -> Result<(), Gone> {
    let mut lines = String::new();
    for event in events {
        lines.push_str(&json_line(&wire::event(event)));
        if lines.len() >= limits::STREAM_PIECE_BYTES {
            writer.send(std::mem::take(&mut lines)).await?;
        }
    }
    if lines.is_empty() { Ok(()) } else { writer.send(lines).await }
}

/// What a stream is restricted to. Pure.
struct Wanted {
    filters: Filters,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Wanted {
    fn has(&self, event: &Event) -> bool {
        let is_container = event.kind == EventKind::Container;
        let kind = if is_container { "container" } else { "image" };
        let attribute = |name: &str| event.attributes.get(name).map(String::as_str).unwrap_or_default();
        let image = if is_container { attribute("image") } else { attribute("name") };
        let filters = &self.filters;
        self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at <= until)
            && filters.any("type", |wanted| wanted == kind)
            && filters.any("scope", |wanted| wanted == "local")
            && filters.any("event", |wanted| event.action == wanted || event.action.starts_with(&format!("{wanted}:")))
            && filters.any("container", |wanted| {
                is_container
                    && !wanted.is_empty()
                    && (event.actor_id.starts_with(wanted) || attribute("name") == wanted)
            })
            && filters.any("image", |wanted| is_image(wanted, image) || (!is_container && wanted == event.actor_id))
            && filters.labels(&event.attributes)
            && !["config", "daemon", "network", "node", "plugin", "secret", "service", "volume"]
                .iter()
                .any(|name| filters.has(name))
    }
}

/// Whether a filter means this image: with its tag, or without any.
fn is_image(wanted: &str, image: &str) -> bool {
    let (Ok(wanted), Ok(image)) = (Reference::parse(wanted), Reference::parse(image)) else { return wanted == image };
    let is_same = wanted.clone().with_default_tag().canonical() == image.clone().with_default_tag().canonical();
    is_same || (wanted.familiar() == wanted.familiar_name() && wanted.familiar_name() == image.familiar_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::query::Query;

    fn wanted(filters: &str) -> Wanted {
        let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("filters", filters).finish();
        Wanted { filters: Query::parse(&query).filters(FILTERS).unwrap(), since: None, until: None }
    }

    #[test]
    fn filters() {
        let event = Event {
            seq: 1,
            at: Timestamp::from_secs(10),
            kind: EventKind::Container,
            action: "die".to_owned(),
            actor_id: "abc123".to_owned(),
            attributes: [("image", "alpine"), ("name", "web"), ("k", "v")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        for (filters, passes) in [
            ("{}", true),
            (r#"{"type":["container"]}"#, true),
            (r#"{"type":["image"]}"#, false),
            (r#"{"type":["image","container"]}"#, true),
            (r#"{"event":["die"]}"#, true),
            (r#"{"event":["start"]}"#, false),
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["abc"]}"#, true),
            (r#"{"container":["we"]}"#, false),
            (r#"{"image":["alpine"]}"#, true),
            (r#"{"image":["alpine:latest"]}"#, true),
            (r#"{"image":["alpine:3"]}"#, false),
            (r#"{"label":["k=v"]}"#, true),
            (r#"{"label":["k=w"]}"#, false),
            (r#"{"network":["bridge"]}"#, false),
        ] {
            assert_eq!(wanted(filters).has(&event), passes, "{filters}");
        }
        let late = Wanted { since: Some(Timestamp::from_secs(11)), ..wanted("{}") };
        let early = Wanted { until: Some(Timestamp::from_secs(9)), ..wanted("{}") };
        assert!(!late.has(&event) && !early.has(&event));
    }
}
