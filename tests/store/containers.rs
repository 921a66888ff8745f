//! What wishes do, and what clients see.

use std::collections::BTreeMap;

use sockerless_lambda::state::model::{Failure, FailureKind, Retry, RunPhase, Status};
use sockerless_lambda::state::{
    Cancelled, ContainerEvent, CreateRefused, EventKind, FactWrite, Image, ImageRemoval, Removed, Renamed,
    ResolveError, Started, StateError, Written,
};

use crate::support::{Fixture, at, config, ended, id, new, run, status, write};

#[tokio::test]
async fn a_container_is_read_as_it_was_created() {
    let fixture = Fixture::new().await;
    let created = fixture.wishes.create(new(1, "web")).await.unwrap().unwrap();
    assert_eq!(fixture.reader.container(&id(1)).await.unwrap().as_ref(), Some(&created));
    assert_eq!((created.seq, created.revision, created.spec.generation), (1, 0, 1));
    assert_eq!((created.name.as_str(), created.created_at, &created.spec.config), ("web", at(1), &config()));
    assert_eq!(created.status, Status::default());
    assert_eq!(fixture.reader.container(&id(2)).await.unwrap(), None);

    fixture.create(2, "db").await;
    let names: Vec<_> = fixture.reader.containers(None, 100).await.unwrap().readable().map(|one| one.name).collect();
    assert_eq!(names, ["db", "web"], "newest first");
    assert_eq!(fixture.facts.wished().await.unwrap(), [id(1), id(2)]);
}

#[tokio::test]
async fn a_name_belongs_to_one_visible_container() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.create(2, "db").await;
    let refused = fixture.wishes.create(new(3, "web")).await.unwrap();
    assert_eq!(refused, Err(CreateRefused::NameInUse { by: id(1) }));
    let refused = fixture.wishes.rename(&id(2), "web", at(9)).await.unwrap();
    assert_eq!(refused, Renamed::NameInUse { by: id(1) });

    assert_eq!(fixture.wishes.remove(&id(1), false, at(9)).await.unwrap(), Removed::Recorded);
    assert_eq!(fixture.wishes.rename(&id(2), "web", at(9)).await.unwrap(), Renamed::Recorded);
    assert_eq!(fixture.wishes.rename(&id(9), "other", at(9)).await.unwrap(), Renamed::NotFound);
    assert_eq!(fixture.create(3, "db").await, id(3), "the old name is free");
}

#[tokio::test]
async fn a_text_means_an_id_then_a_name_then_a_beginning() {
    let fixture = Fixture::new().await;
    fixture.create(0x11, "web").await;
    fixture.create(0x12, "2222").await;
    fixture.create(0x22, "db").await;
    let whole = id(0x22).to_string();
    for (text, expected) in [
        (id(0x11).to_string().as_str(), 0x11),
        ("web", 0x11),
        ("/web", 0x11),
        ("11", 0x11),
        ("121", 0x12),
        ("2222", 0x12),
        ("2", 0x22),
        (&whole[..63], 0x22),
    ] {
        assert_eq!(fixture.reader.resolve(text).await.unwrap(), id(expected), "{text}");
    }
    for text in ["", "/", "/11", "3", "WEB", "we", "//web"] {
        assert!(matches!(fixture.reader.resolve(text).await, Err(ResolveError::NotFound)), "{text}");
    }
    assert!(matches!(fixture.reader.resolve("1").await, Err(ResolveError::Ambiguous)));

    fixture.wishes.remove(&id(0x12), false, at(9)).await.unwrap();
    assert_eq!(fixture.reader.resolve("1").await.unwrap(), id(0x11), "what is removed is not ambiguous");
    assert!(matches!(fixture.reader.resolve(&id(0x12).to_string()).await, Err(ResolveError::NotFound)));
}

#[tokio::test]
async fn start_and_cancel_change_the_wish_and_not_the_facts() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    assert_eq!(fixture.wishes.cancel(&id(1), at(5)).await.unwrap(), Cancelled::NotRunning);
    assert_eq!(fixture.wishes.start(&id(1), at(10)).await.unwrap(), Started::Recorded);
    assert_eq!(fixture.wishes.start(&id(1), at(11)).await.unwrap(), Started::AlreadyRunning);
    assert_eq!(fixture.wishes.cancel(&id(1), at(12)).await.unwrap(), Cancelled::Recorded);
    assert_eq!(fixture.wishes.cancel(&id(1), at(13)).await.unwrap(), Cancelled::NotRunning);
    let container = fixture.reader.container(&id(1)).await.unwrap().unwrap();
    assert_eq!((container.spec.generation, container.spec.starts, container.spec.cancelled), (3, 1, 1));
    assert_eq!((container.spec.started_at, container.spec.cancelled_at), (Some(at(10)), Some(at(12))));
    assert_eq!(container.revision, 0);
    assert_eq!(fixture.wishes.start(&id(1), at(14)).await.unwrap(), Started::Recorded, "and it can be started again");
    for missing in [id(9)] {
        assert_eq!(fixture.wishes.start(&missing, at(9)).await.unwrap(), Started::NotFound);
        assert_eq!(fixture.wishes.cancel(&missing, at(9)).await.unwrap(), Cancelled::NotFound);
        assert_eq!(fixture.wishes.remove(&missing, true, at(9)).await.unwrap(), Removed::NotFound);
    }
}

#[tokio::test]
async fn an_issued_run_cannot_be_cancelled() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.wishes.start(&id(1), at(10)).await.unwrap();
    fixture.facts.write(write(id(1), 0, status(2, Some(run(1, RunPhase::Issued))))).await.unwrap();
    assert_eq!(fixture.wishes.cancel(&id(1), at(30)).await.unwrap(), Cancelled::Issued);
    assert_eq!(fixture.wishes.start(&id(1), at(31)).await.unwrap(), Started::AlreadyRunning);
}

/// Only another container can help.
fn failure() -> Failure {
    Failure {
        kind: FailureKind::InvalidParameter,
        action: "CreateFunction".to_owned(),
        message: "no such role".to_owned(),
        request_id: None,
        at: at(4),
        terminal_for: Some(1),
    }
}

#[tokio::test]
async fn a_start_tells_why_only_another_container_can_help() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    let failure = failure();
    let retry = Retry { failure: Some(failure.clone()), ..Retry::default() };
    fixture.facts.write(write(id(1), 0, Status { retry, ..status(1, None) })).await.unwrap();
    assert_eq!(fixture.wishes.start(&id(1), at(9)).await.unwrap(), Started::Refused(failure));
    assert_eq!(fixture.reader.container(&id(1)).await.unwrap().unwrap().spec.starts, 0);
}

#[tokio::test]
async fn a_container_that_cannot_start_and_removes_itself_is_gone_with_the_refusal() {
    let fixture = Fixture::new().await;
    let mut container = new(1, "web");
    container.config.auto_remove = true;
    fixture.wishes.create(container).await.unwrap().unwrap();
    let failure = failure();
    let retry = Retry { failure: Some(failure.clone()), ..Retry::default() };
    fixture.facts.write(write(id(1), 0, Status { retry, ..status(1, None) })).await.unwrap();
    assert_eq!(fixture.wishes.start(&id(1), at(9)).await.unwrap(), Started::Refused(failure));
    assert!(matches!(fixture.reader.resolve("web").await, Err(ResolveError::NotFound)));
    assert!(fixture.reader.container(&id(1)).await.unwrap().unwrap().is_removed(), "its function is still to go");
    let tombstone = fixture.reader.tombstone("web", at(10)).await.unwrap().unwrap();
    assert_eq!((tombstone.exit_code, tombstone.error), (125, None), "the start has told why");
    assert_eq!(fixture.actions().await, ["create", "destroy"]);
}

#[tokio::test]
async fn a_forced_removal_tells_a_kill_and_the_end_of_the_run_nothing() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.wishes.start(&id(1), at(10)).await.unwrap();
    fixture.wishes.remove(&id(1), true, at(20)).await.unwrap();
    let die = ContainerEvent { at: at(41), action: "die", attributes: Vec::new() };
    let late = FactWrite { events: vec![die], ..write(id(1), 0, status(2, Some(ended(1, 3)))) };
    fixture.facts.write(late).await.unwrap();
    assert_eq!(fixture.actions().await, ["create", "start", "kill", "die", "destroy"]);
    let events = fixture.events().await;
    assert_eq!((&*events[2].attributes["signal"], &*events[3].attributes["exitCode"]), ("9", "137"));
}

#[tokio::test]
async fn a_removed_container_is_invisible_and_remembered_for_a_minute() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.wishes.start(&id(1), at(10)).await.unwrap();
    assert_eq!(fixture.wishes.remove(&id(1), false, at(20)).await.unwrap(), Removed::Running);
    assert_eq!(fixture.wishes.remove(&id(1), true, at(20)).await.unwrap(), Removed::Recorded);
    assert_eq!(fixture.wishes.remove(&id(1), true, at(21)).await.unwrap(), Removed::NotFound);
    assert_eq!(fixture.wishes.start(&id(1), at(21)).await.unwrap(), Started::NotFound);
    assert!(fixture.reader.containers(None, 100).await.unwrap().rows.is_empty());
    let row = fixture.reader.container(&id(1)).await.unwrap().unwrap();
    assert!(row.is_removed() && row.spec.remove == Some(at(20)));
    assert_eq!(fixture.facts.containers(0, 10).await.unwrap().rows, [Ok(row)]);

    let whole = id(1).to_string();
    for text in [whole.as_str(), "web", "/web", "010"] {
        let tombstone = fixture.reader.tombstone(text, at(79)).await.unwrap().expect(text);
        assert_eq!((tombstone.id, tombstone.exit_code, tombstone.error, tombstone.at), (id(1), 137, None, at(20)));
        assert_eq!(fixture.reader.tombstone(text, at(80)).await.unwrap(), None, "{text} after a minute");
    }
    assert_eq!(fixture.reader.tombstone("", at(79)).await.unwrap(), None);
}

#[tokio::test]
async fn of_two_removed_containers_a_name_means_the_later_and_a_beginning_none() {
    let fixture = Fixture::new().await;
    for n in [0x11, 0x12] {
        fixture.create(n, "web").await;
        fixture.wishes.remove(&id(n), false, at(20)).await.unwrap();
    }
    let named = fixture.reader.tombstone("web", at(21)).await.unwrap().unwrap();
    assert_eq!(named.id, id(0x12));
    assert_eq!(fixture.reader.tombstone("1", at(21)).await.unwrap(), None);
    assert_eq!(fixture.reader.tombstone("11", at(21)).await.unwrap().unwrap().id, id(0x11));
}

#[tokio::test]
async fn events_tell_the_story_with_dockers_attributes() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.wishes.start(&id(1), at(10)).await.unwrap();
    fixture.wishes.rename(&id(1), "shop", at(11)).await.unwrap();
    fixture.facts.write(write(id(1), 0, status(2, Some(ended(1, 3))))).await.unwrap();
    fixture.wishes.remove(&id(1), false, at(50)).await.unwrap();
    assert_eq!(fixture.actions().await, ["create", "start", "rename", "destroy"]);

    let rename = fixture.events().await.remove(2);
    assert_eq!((rename.kind, rename.at, rename.actor_id), (EventKind::Container, at(11), id(1).to_string()));
    let expected = [("image", "alpine"), ("name", "shop"), ("oldName", "/web"), ("team", "blue")];
    assert_eq!(rename.attributes, BTreeMap::from(expected.map(|(key, value)| (key.to_owned(), value.to_owned()))));
    assert_eq!(fixture.reader.last_event().await.unwrap(), 4);
    assert_eq!(fixture.reader.events(1, 2).await.unwrap().rows.len(), 2);
    let tombstone = fixture.reader.tombstone("shop", at(51)).await.unwrap().unwrap();
    assert_eq!((tombstone.exit_code, tombstone.error), (3, None), "only code 125 has an error for `wait`");
}

#[tokio::test]
async fn auto_removal_leaves_what_a_removal_leaves_once() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.wishes.start(&id(1), at(10)).await.unwrap();
    let gone = Status { auto_removed: Some(at(41)), ..status(2, Some(ended(1, 125))) };

    let unaware = Status { observed_generation: 1, ..gone.clone() };
    assert_eq!(
        fixture.facts.write(write(id(1), 0, unaware)).await.unwrap(),
        Written::Stale,
        "a start is not swallowed"
    );
    assert_eq!(fixture.facts.write(write(id(1), 0, gone.clone())).await.unwrap(), Written::At(1));
    assert_eq!(fixture.facts.write(write(id(1), 1, gone)).await.unwrap(), Written::At(2));
    assert_eq!(fixture.actions().await, ["create", "start", "destroy"]);
    let tombstone = fixture.reader.tombstone("web", at(42)).await.unwrap().unwrap();
    assert_eq!((tombstone.exit_code, tombstone.error.as_deref()), (125, Some("as it was")));
    assert!(matches!(fixture.reader.resolve("web").await, Err(ResolveError::NotFound)));
    fixture.create(2, "web").await;
}

#[tokio::test]
async fn images_are_references_and_what_is_known_of_them() {
    let fixture = Fixture::new().await;
    let image = |id: &str, secs| Image {
        reference: "docker.io/library/alpine:latest".to_owned(),
        id: id.to_owned(),
        created_at: at(secs),
        digest: None,
    };
    let reference = image("", 0).reference;
    fixture.wishes.put_image(image("sha256:1", 5), "pull", at(5)).await.unwrap();
    fixture.facts.set_image_digest(&reference, "sha256:d").await.unwrap();
    fixture.facts.set_image_digest("missing", "sha256:d").await.unwrap();
    fixture.wishes.put_image(image("sha256:1", 6), "pull", at(6)).await.unwrap();
    let kept = Image { digest: Some("sha256:d".to_owned()), ..image("sha256:1", 5) };
    assert_eq!(fixture.reader.image(&reference).await.unwrap(), Some(kept), "the same image");
    fixture.wishes.put_image(image("sha256:2", 7), "tag", at(7)).await.unwrap();
    assert_eq!(fixture.reader.images().await.unwrap(), [image("sha256:2", 7)], "another image");

    let removal = vec![ImageRemoval { reference: reference.clone(), is_last: true }];
    assert_eq!(fixture.wishes.delete_images(removal.clone(), at(8)).await.unwrap(), removal);
    assert_eq!(fixture.wishes.delete_images(removal, at(9)).await.unwrap(), []);
    assert_eq!(fixture.reader.image(&reference).await.unwrap(), None);
    assert_eq!(fixture.actions().await, ["pull", "pull", "tag", "untag", "delete"]);
    let event = fixture.events().await.remove(0);
    assert_eq!((event.kind, event.actor_id), (EventKind::Image, reference.clone()));
    assert_eq!(event.attributes, BTreeMap::from([("name".to_owned(), reference)]));
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let Fixture { directory: _directory, store, reader, wishes, facts } = Fixture::new().await;
    let (mut watch, mut feed) = (reader.watch(id(1)), facts.wish_feed());
    store.close().await.unwrap();
    assert!(matches!(wishes.create(new(1, "web")).await, Err(StateError::Closed)));
    assert!(matches!(facts.next_epoch().await, Err(StateError::Closed)));
    assert!(matches!(facts.due().await, Err(StateError::Closed)));
    assert!(matches!(reader.containers(None, 100).await, Err(StateError::Closed)));
    assert!(matches!(reader.resolve("web").await, Err(ResolveError::State(StateError::Closed))));
    assert!(matches!(watch.changed().await, Err(StateError::Closed)));
    assert!(matches!(feed.next().await, Err(StateError::Closed)));
}
