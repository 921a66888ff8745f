//! The event table: what `docker events` replays. Bounded; the oldest go first.

use std::collections::BTreeMap;

use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::model::{Container, bounds};
use super::quarantine::{Quarantine, Table};
use super::records::{ContainerEvent, Event, EventKind};
use super::rows::{self, Page, from_json, get, time, to_json};
use super::writer::Tx;
use super::{Result, StateError};
use crate::clock::Timestamp;

/// So many events are kept.
pub(super) const EVENTS_KEPT: i64 = 10_000;
/// The table is trimmed once in so many events, and is longer by so many in between.
pub(super) const TRIM_EVERY: i64 = 500;

/// The sequence number of the newest event; 0: none.
pub(super) async fn last(pool: &SqlitePool) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM event").fetch_one(pool).await?)
}

/// Events above `after`, oldest first.
pub(super) async fn read(pool: &SqlitePool, quarantine: &Quarantine, after: i64, limit: u32) -> Result<Page<Event>> {
    let query = sqlx::query(
        "SELECT seq, at, kind, action, actor_id, attributes FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    );
    let found = query.bind(after).bind(limit).fetch(pool);
    rows::page(found, (quarantine, Table::Event), event, &["attributes"]).await
}

impl Tx<'_> {
    /// Records an event of a container, with the container's own attributes.
    pub(super) async fn container_event(&mut self, of: &Container, event: ContainerEvent) -> Result<()> {
        let labels = of.spec.config.labels.iter().filter(|(_, value)| value.len() <= bounds::MAX_ATTRIBUTE_BYTES);
        let mut attributes: BTreeMap<String, String> =
            labels.map(|(name, value)| (name.clone(), value.clone())).collect();
        attributes.insert("image".to_owned(), of.spec.config.image.clone());
        attributes.insert("name".to_owned(), of.name.clone());
        attributes
            .extend(event.attributes.into_iter().map(|(name, value)| (name.to_owned(), bounds::attribute(&value))));
        self.insert_event(event.at, EventKind::Container, event.action, &of.id.to_string(), &attributes).await
    }

    /// As [`Tx::container_event`], for an action that has no attributes of its own.
    pub(super) async fn plain_event(&mut self, of: &Container, action: &'static str, at: Timestamp) -> Result<()> {
        self.container_event(of, ContainerEvent { at, action, attributes: Vec::new() }).await
    }

    /// Records an event of an image reference.
    /// As Docker has it, a pull is about a reference, everything else about the image that the reference means.
    pub(super) async fn image_event(
        &mut self,
        reference: &str,
        image_id: &str,
        action: &'static str,
        at: Timestamp,
    ) -> Result<()> {
        let attributes = BTreeMap::from([("name".to_owned(), reference.to_owned())]);
        let actor = if action == "pull" { reference } else { image_id };
        self.insert_event(at, EventKind::Image, action, actor, &attributes).await
    }

    pub(super) async fn insert_event(
        &mut self,
        at: Timestamp,
        kind: EventKind,
        action: &'static str,
        actor_id: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<()> {
        let seq: i64 = sqlx::query_scalar(
            "INSERT INTO event (at, kind, action, actor_id, attributes) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING seq",
        )
        .bind(at.as_nanos())
        .bind(kind_word(kind))
        .bind(action)
        .bind(actor_id)
        .bind(to_json("attributes", attributes)?)
        .fetch_one(&mut *self.conn)
        .await?;
        self.changes.event(seq);
        if seq % TRIM_EVERY == 0 {
            let oldest = seq.saturating_sub(EVENTS_KEPT);
            sqlx::query("DELETE FROM event WHERE seq <= ?1").bind(oldest).execute(&mut *self.conn).await?;
        }
        Ok(())
    }
}

fn event(row: &SqliteRow) -> Result<Event> {
    Ok(Event {
        seq: get(row, "seq")?,
        at: time(row, "at")?,
        kind: kind(get(row, "kind")?)?,
        action: get(row, "action")?,
        actor_id: get(row, "actor_id")?,
        attributes: from_json(row, "attributes")?,
    })
}

fn kind_word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Container => "container",
        EventKind::Image => "image",
    }
}

fn kind(word: &str) -> Result<EventKind> {
    match word {
        "container" => Ok(EventKind::Container),
        "image" => Ok(EventKind::Image),
        _ => Err(StateError::Corrupt("kind: no event is of this kind".to_owned())),
    }
}
