//! An event as Docker's clients see it. PURE.

use serde_json::{Value, json};

use crate::api::reference::Reference;
use crate::state::{Event, EventKind};

/// One event, with the fields of before API 1.52 as well.
pub(in crate::api) fn event(event: &Event) -> Value {
    let (kind, id) = match event.kind {
        EventKind::Container => ("container", event.actor_id.clone()),
        EventKind::Image => ("image", familiar(&event.actor_id)),
    };
    let mut value = json!({
        "status": event.action,
        "id": id,
        "Type": kind,
        "Action": event.action,
        "Actor": { "ID": id, "Attributes": event.attributes },
        "scope": "local",
        "time": event.at.as_secs(),
        "timeNano": event.at.as_nanos(),
    });
    if let (EventKind::Container, Some(image)) = (event.kind, event.attributes.get("image")) {
        value["from"] = json!(image);
    }
    if event.kind == EventKind::Image && !event.attributes.contains_key("name") {
        value["Actor"]["Attributes"]["name"] = json!(id);
    }
    value
}

fn familiar(reference: &str) -> String {
    Reference::parse(reference).map_or_else(|_| reference.to_owned(), |reference| reference.familiar())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn a_container_event_is_as_the_real_one() {
        let recorded = r#"{"Action":"die","Actor":{"Attributes":{"execDuration":"0","exitCode":"2","image":"alpine","k":"v","name":"s1"},"ID":"6b23"},"Type":"container","from":"alpine","id":"6b23","scope":"local","status":"die","time":1795396392,"timeNano":1795396392505085000}"#;
        let attributes = [("execDuration", "0"), ("exitCode", "2"), ("image", "alpine"), ("k", "v"), ("name", "s1")];
        let ours = event(&Event {
            seq: 1,
            at: Timestamp::from_nanos(1_795_396_392_505_085_000),
            kind: EventKind::Container,
            action: "die".to_owned(),
            actor_id: "6b23".to_owned(),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        });
        assert_eq!(ours, serde_json::from_str::<Value>(recorded).unwrap());
    }

    #[test]
    fn an_image_event_has_the_short_name() {
        let ours = event(&Event {
            seq: 1,
            at: Timestamp::from_secs(1),
            kind: EventKind::Image,
            action: "pull".to_owned(),
            actor_id: "docker.io/library/alpine:latest".to_owned(),
            attributes: BTreeMap::new(),
        });
        assert_eq!(ours["id"], "alpine:latest");
        assert_eq!(ours["Actor"], json!({ "ID": "alpine:latest", "Attributes": { "name": "alpine:latest" } }));
        assert!(ours.get("from").is_none());
    }
}
