//! An event as Docker's clients see it. PURE.

use serde_json::{Value, json};

use crate::api::reference::Reference;
use crate::state::{Event, EventKind};

/// One event, with the fields of before API 1.52 as well.
pub(in crate::api) fn event(event: &Event) -> Value {
    let (kind, id) = match event.kind {
        EventKind::Container => ("container", event.actor_id.clone()),
        EventKind::Image => ("image", image_actor(&event.actor_id)),
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
    match (event.kind, event.attributes.get("image"), event.attributes.get("name")) {
        (EventKind::Container, Some(image), _) => value["from"] = json!(image),
        (EventKind::Image, _, Some(name)) => value["Actor"]["Attributes"]["name"] = json!(short_name(name, event)),
        _ => {}
    }
    value
}

/// An image's id, or a reference as people write it.
fn image_actor(actor: &str) -> String {
    if actor.starts_with("sha256:") {
        return actor.to_owned();
    }
    Reference::parse(actor).map_or_else(|_| actor.to_owned(), |reference| reference.familiar())
}

/// As in Docker, the name of what was pulled is without its tag.
fn short_name(name: &str, event: &Event) -> String {
    let short = |reference: Reference| match event.action.as_str() {
        "pull" => reference.familiar_name(),
        _ => reference.familiar(),
    };
    Reference::parse(name).map_or_else(|_| name.to_owned(), short)
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
    fn an_image_event_has_short_names() {
        let alpine = "docker.io/library/alpine:latest";
        let shown = |action: &str, actor: &str| {
            event(&Event {
                seq: 1,
                at: Timestamp::from_secs(1),
                kind: EventKind::Image,
                action: action.to_owned(),
                actor_id: actor.to_owned(),
                attributes: BTreeMap::from([("name".to_owned(), alpine.to_owned())]),
            })
        };
        let pull = shown("pull", alpine);
        assert_eq!(pull["id"], "alpine:latest");
        assert_eq!(pull["Actor"], json!({ "ID": "alpine:latest", "Attributes": { "name": "alpine" } }));
        assert!(pull.get("from").is_none());
        let tag = shown("tag", "sha256:ab");
        assert_eq!(tag["Actor"], json!({ "ID": "sha256:ab", "Attributes": { "name": "alpine:latest" } }));
    }
}
