//! Ends that are not told yet.
//!
//! Compose drops what is left of a container's output as soon as it hears of its end. So, as in moby, the end is told
//! once the container's open streams have got the output; what happens to that container afterwards waits behind it.

use std::collections::HashMap;

use tokio::task::JoinSet;

use crate::api::call::Room;
use crate::api::limits;
use crate::state::model::ContainerId;
use crate::state::model::life::is_running;
use crate::state::{Event, EventKind, StateError};

/// What one client is not told yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    events: HashMap<ContainerId, Vec<Event>>,
    /// Ends when the streams of a container have closed, or after too long a time.
    closed: JoinSet<ContainerId>,
}

impl Held {
    /// Keeps the event if it must wait; gives what can be told now.
    pub(super) async fn pass(&mut self, room: &Room, event: Event) -> Result<Vec<Event>, StateError> {
        let id = match event.kind {
            EventKind::Container => event.actor_id.parse::<ContainerId>().ok(),
            EventKind::Image => None,
        };
        let Some(id) = id else { return Ok(vec![event]) };
        if let Some(behind) = self.events.get_mut(&id) {
            behind.push(event);
            let is_enough = behind.len() >= limits::MAX_HELD_EVENTS;
            return Ok(if is_enough { self.events.remove(&id).unwrap_or_default() } else { Vec::new() });
        }
        if self.events.len() >= limits::MAX_HELD_ENDS || !must_wait(room, &id, &event).await? {
            return Ok(vec![event]);
        }
        self.events.insert(id, vec![event]);
        let streams = room.streams.clone();
        self.closed.spawn(async move {
            // Too slow a stream must not hold the event for ever: then it is told anyway.
            let _ = tokio::time::timeout(limits::STREAMS_BEFORE_WAIT, streams.all_closed(&id)).await;
            id
        });
        Ok(Vec::new())
    }

    /// What can be told now that could not before; pending while there is nothing.
    pub(super) async fn released(&mut self) -> Vec<Event> {
        match self.closed.join_next().await {
            Some(Ok(id)) => self.events.remove(&id).unwrap_or_default(),
            Some(Err(_)) => self.rest(),
            None => std::future::pending().await,
        }
    }

    /// Everything, at the end of the stream.
    pub(super) fn rest(&mut self) -> Vec<Event> {
        let mut rest: Vec<Event> = self.events.drain().flat_map(|(_, events)| events).collect();
        rest.sort_unstable_by_key(|event| event.seq);
        rest
    }
}

/// Whether this is an end whose output somebody is still being given. A run that is repeated goes on in the same stream.
async fn must_wait(room: &Room, id: &ContainerId, event: &Event) -> Result<bool, StateError> {
    let age = room.api.clock.now().since(event.at);
    if event.action != "die" || age > limits::STREAMS_BEFORE_WAIT || !room.streams.is_open(id) {
        return Ok(false);
    }
    let container = match room.api.reader.container(id).await {
        Err(StateError::Unreadable(_)) => return Ok(false),
        found => found?,
    };
    Ok(container.is_none_or(|container| !is_running(&container.spec, &container.status)))
}
