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
    /// Bytes of all their attributes.
    bytes: usize,
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
        if self.events.contains_key(&id) {
            return Ok(self.hold_behind(id, event));
        }
        let is_full = self.events.len() >= limits::MAX_HELD_ENDS
            || self.bytes.saturating_add(bytes_of(&event)) > limits::MAX_HELD_BYTES;
        if is_full || !must_wait(room, &id, &event).await? {
            return Ok(vec![event]);
        }
        self.hold_behind(id, event);
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
            Some(Ok(id)) => self.release(&id),
            Some(Err(_)) => self.rest(),
            None => std::future::pending().await,
        }
    }

    /// Keeps the event behind others of its container; gives them all when they are too many.
    fn hold_behind(&mut self, id: ContainerId, event: Event) -> Vec<Event> {
        self.bytes = self.bytes.saturating_add(bytes_of(&event));
        let events = self.events.entry(id).or_default();
        events.push(event);
        let is_enough = events.len() >= limits::MAX_HELD_EVENTS || self.bytes > limits::MAX_HELD_BYTES;
        if is_enough { self.release(&id) } else { Vec::new() }
    }

    fn release(&mut self, id: &ContainerId) -> Vec<Event> {
        let released = self.events.remove(id).unwrap_or_default();
        let bytes = released.iter().map(bytes_of).fold(0, usize::saturating_add);
        self.bytes = self.bytes.saturating_sub(bytes);
        released
    }

    /// Everything, at the end of the stream.
    pub(super) fn rest(&mut self) -> Vec<Event> {
        self.bytes = 0;
        let mut rest: Vec<Event> = self.events.drain().flat_map(|(_, events)| events).collect();
        rest.sort_unstable_by_key(|event| event.seq);
        rest
    }
}

fn bytes_of(event: &Event) -> usize {
    event.attributes.iter().map(|(key, value)| key.len().saturating_add(value.len())).fold(0, usize::saturating_add)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn what_is_held_of_all_containers_is_bounded_in_bytes() {
        let mut held = Held::default();
        let event = |seq: i64| Event {
            seq,
            at: Timestamp::from_secs(1),
            kind: EventKind::Container,
            action: "die".to_owned(),
            actor_id: String::new(),
            attributes: [("label".to_owned(), "x".repeat(64 * 1_024))].into(),
        };
        let mut sent = 0;
        for number in 0..1_000 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&i64::to_be_bytes(number % 200));
            sent += held.hold_behind(ContainerId::from_bytes(id), event(number)).len();
            assert!(held.bytes <= limits::MAX_HELD_BYTES);
        }
        let rest = held.rest();
        assert_eq!((sent + rest.len(), held.bytes), (1_000, 0), "none is lost");
    }
}
