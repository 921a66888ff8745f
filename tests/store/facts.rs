//! What the reconciler may write, and when it is too late.

use std::collections::{BTreeMap, BTreeSet};

use sockerless_lambda::state::model::bounds::{MAX_ATTRIBUTE_BYTES, MAX_MESSAGE_BYTES};
use sockerless_lambda::state::model::{BoundedWait, Cause, Failure, FailureKind, Retry, RunPhase, Status};
use sockerless_lambda::state::{
    Binding, CameTo, ContainerEvent, FactWrite, Issue, OrphanLook, Sighting, StateError, Wished, Written, bound_to,
};

use crate::support::{Fixture, at, ended, id, path, run, status, write};

#[tokio::test]
async fn facts_are_written_from_the_latest_revision_only() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    let facts = status(1, None);
    assert_eq!(fixture.facts.write(write(id(1), 0, facts.clone())).await.unwrap(), Written::At(1));
    assert_eq!(fixture.facts.write(write(id(1), 0, Status::default())).await.unwrap(), Written::Stale);
    assert_eq!(fixture.facts.write(write(id(9), 0, facts.clone())).await.unwrap(), Written::Gone);
    let container = fixture.reader.container(&id(1)).await.unwrap().unwrap();
    assert_eq!((container.revision, container.status), (1, facts));
}

#[tokio::test]
async fn exit_message_of_5_mb_is_stored_within_its_limit() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.wishes.start(&id(1), at(9)).await.unwrap();
    let huge = "\u{1b}[31m\"error\"\0".repeat(400_000);
    let mut run = ended(1, 125);
    if let RunPhase::Exited(exit) = &mut run.phase {
        exit.message.clone_from(&huge);
        exit.cause = Cause::FunctionError;
    }
    run.request_id = Some(huge.clone());
    run.log_stream = Some(huge.clone());
    let events = vec![ContainerEvent { at: at(40), action: "die", attributes: vec![("error", huge)] }];
    let write = FactWrite { events, ..write(id(1), 0, status(2, Some(run))) };
    assert_eq!(fixture.facts.write(write).await.unwrap(), Written::At(1));

    let fixture = fixture.crash().await;
    let container = fixture.reader.container(&id(1)).await.unwrap().unwrap();
    let run = container.status.run.as_ref().unwrap();
    let RunPhase::Exited(exit) = &run.phase else { panic!("{run:?}") };
    assert!(exit.message.len() <= MAX_MESSAGE_BYTES && exit.message.ends_with('…'), "{} bytes", exit.message.len());
    assert!(!exit.message.contains(char::is_control));
    assert!(serde_json::to_string(&container.status).unwrap().len() < 16 * 1_024);
    let event = fixture.events().await.pop().unwrap();
    assert!(event.action == "die" && event.attributes["error"].len() <= MAX_ATTRIBUTE_BYTES);
    fixture.wishes.remove(&id(1), false, at(50)).await.unwrap();
    let tombstone = fixture.reader.tombstone(&id(1).to_string(), at(51)).await.unwrap();
    let error = tombstone.unwrap().error.unwrap();
    assert!(!error.is_empty() && error.len() <= MAX_MESSAGE_BYTES, "{} bytes", error.len());
}

#[tokio::test]
async fn facts_say_when_to_look_again() {
    let fixture = Fixture::new().await;
    for n in [1, 2, 3] {
        fixture.create(n, &n.to_string()).await;
    }
    let due = |n, secs: Option<i64>| FactWrite { due_at: secs.map(at), ..write(id(n), 0, status(1, None)) };
    fixture.facts.write(due(1, Some(90))).await.unwrap();
    fixture.facts.write(FactWrite { watched: true, ..due(2, Some(80)) }).await.unwrap();
    fixture.facts.write(due(3, None)).await.unwrap();
    assert_eq!(fixture.facts.due().await.unwrap(), [(id(2), at(80)), (id(1), at(90))]);
    assert!(fixture.facts.wished().await.unwrap().is_empty());
    let watched: Vec<_> = fixture.facts.watched().await.unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(watched, [id(2)]);

    fixture.facts.write(FactWrite { revision: 1, ..due(2, None) }).await.unwrap();
    assert_eq!(fixture.facts.due().await.unwrap(), [(id(1), at(90))]);
    assert!(fixture.facts.watched().await.unwrap().is_empty());
    fixture.wishes.start(&id(3), at(9)).await.unwrap();
    assert_eq!(fixture.facts.wished().await.unwrap(), [id(3)]);
}

#[tokio::test]
async fn failures_and_the_next_try_survive_a_restart() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    let failure = Failure {
        kind: FailureKind::Throttled,
        action: "CreateFunction".to_owned(),
        message: "slow down".to_owned(),
        request_id: None,
        at: at(20),
        terminal_for: None,
    };
    let bounded = Some(BoundedWait { kind: failure.kind, since: at(10) });
    let (since, not_before) = (Some(at(10)), Some(at(90)));
    let retry = Retry { attempts: 7, since, not_before, failure: Some(failure), failures: 9, bounded };
    let facts = Status { retry, ..status(1, None) };
    let write = FactWrite { due_at: Some(at(90)), ..write(id(1), 0, facts.clone()) };
    fixture.facts.write(write).await.unwrap();
    let fixture = fixture.crash().await;
    let container = fixture.reader.container(&id(1)).await.unwrap().unwrap();
    assert_eq!(container.status, facts);
    assert_eq!(fixture.facts.due().await.unwrap(), [(id(1), at(90))]);
}

#[tokio::test]
async fn one_run_gets_one_permit() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.wishes.start(&id(1), at(10)).await.unwrap();
    let intent = |revision| write(id(1), revision, status(2, Some(run(1, RunPhase::Issued))));

    assert!(matches!(fixture.facts.issue(intent(0), 1).await.unwrap(), Issue::Stale), "another generation");
    assert!(matches!(fixture.facts.issue(intent(7), 2).await.unwrap(), Issue::Stale), "another revision");
    let Issue::Granted(permit, revision) = fixture.facts.issue(intent(0), 2).await.unwrap() else {
        panic!("no permit")
    };
    assert_eq!((permit.container(), permit.run_no(), revision), (id(1), 1, 1));
    assert!(matches!(fixture.facts.issue(intent(0), 2).await.unwrap(), Issue::Stale), "once more");
    assert!(matches!(fixture.facts.issue(intent(1), 2).await.unwrap(), Issue::Stale), "the run is unsettled");

    fixture.facts.write(write(id(1), 1, status(2, Some(run(1, RunPhase::Refused))))).await.unwrap();
    assert!(matches!(fixture.facts.issue(intent(2), 2).await.unwrap(), Issue::Granted(_, 3)), "surely refused");
}

#[tokio::test]
async fn nothing_is_issued_that_is_not_wanted() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.wishes.start(&id(1), at(10)).await.unwrap();
    let intent = || write(id(1), 0, status(3, Some(run(1, RunPhase::Issued))));
    fixture.wishes.remove(&id(1), true, at(11)).await.unwrap();
    assert!(matches!(fixture.facts.issue(intent(), 3).await.unwrap(), Issue::Stale), "removed");
    fixture.facts.forget(&id(1)).await.unwrap();
    assert!(matches!(fixture.facts.issue(intent(), 3).await.unwrap(), Issue::Gone));

    let empty = write(id(1), 0, status(3, None));
    assert!(matches!(fixture.facts.issue(empty, 3).await, Err(StateError::Misuse(_))));
}

#[tokio::test]
async fn only_a_removed_container_is_forgotten() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    fixture.facts.forget(&id(1)).await.unwrap();
    assert!(fixture.reader.container(&id(1)).await.unwrap().is_some());
    fixture.wishes.remove(&id(1), false, at(10)).await.unwrap();
    fixture.facts.forget(&id(1)).await.unwrap();
    assert!(fixture.reader.container(&id(1)).await.unwrap().is_none());
    assert!(fixture.reader.tombstone("web", at(11)).await.unwrap().is_some());
    assert_eq!(fixture.facts.write(write(id(1), 0, status(2, None))).await.unwrap(), Written::Gone);
    let next = fixture.create(2, "web").await;
    assert_eq!(fixture.reader.container(&next).await.unwrap().unwrap().seq, 2, "a place in the order is never reused");
}

#[tokio::test]
async fn events_of_facts_come_with_them_and_the_oldest_go() {
    let fixture = Fixture::new().await;
    fixture.create(1, "web").await;
    let die =
        |code: u32| ContainerEvent { at: at(40), action: "die", attributes: vec![("exitCode", code.to_string())] };
    let many = (0..10_600).map(die).collect();
    let facts = FactWrite { events: many, ..write(id(1), 0, status(1, Some(ended(1, 3)))) };
    fixture.facts.write(facts).await.unwrap();

    let events: Vec<_> = fixture.reader.events(0, 20_000).await.unwrap().readable().collect();
    assert_eq!(events.last().unwrap().attributes["exitCode"], "10599");
    assert_eq!(events.last().unwrap().attributes["team"], "blue");
    assert_eq!(events.last().unwrap().seq, fixture.reader.last_event().await.unwrap());
    assert!((10_000..10_500).contains(&events.len()), "{}", events.len());
    let stale = FactWrite { events: vec![die(1)], ..write(id(1), 0, status(1, None)) };
    fixture.facts.write(stale).await.unwrap();
    assert_eq!(fixture.reader.last_event().await.unwrap(), events.last().unwrap().seq);
}

#[tokio::test]
async fn a_start_after_the_adoption_is_later_than_it_by_a_clock_that_was_set_back_since() {
    let fixture = Fixture::new().await;
    fixture.create(1, "a").await;
    fixture.facts.adopt(3, at(86_400)).await.unwrap();
    fixture.wishes.start(&id(1), at(50)).await.unwrap();
    let container = fixture.reader.container(&id(1)).await.unwrap().unwrap();
    assert!(container.spec.started_at > Some(at(86_400)), "{:?}", container.spec.started_at);
}

#[tokio::test]
async fn a_sighting_of_the_future_counts_as_none() {
    const DAY: i64 = 86_400;
    let fixture = Fixture::new().await;
    let sweep = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    for (seen_at, now, first_seen, times) in
        [(&[10, 20][..], 30, 10, 3), (&[DAY + 10, DAY + 20], 30, 30, 1), (&[10, DAY + 20], 30, 30, 1)]
    {
        fixture.facts.record_sweep(&sweep(&[]), at(0)).await.unwrap();
        for seen_at in seen_at.iter().chain([&now]) {
            fixture.facts.record_sweep(&sweep(&["a"]), at(*seen_at)).await.unwrap();
        }
        let sighting = fixture.facts.sightings().await.unwrap().pop().unwrap();
        assert_eq!((sighting.first_seen, sighting.last_seen, sighting.times), (at(first_seen), at(now), times));
    }
}

#[tokio::test]
async fn sightings_add_up_over_sweeps_and_vanish() {
    let fixture = Fixture::new().await;
    let sweep = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    fixture.facts.record_sweep(&sweep(&["a", "b"]), at(10)).await.unwrap();
    fixture.facts.record_sweep(&sweep(&["b", "c"]), at(20)).await.unwrap();
    let fixture = fixture.crash().await;
    let seen = |name: &str, first, times| Sighting {
        function_name: name.to_owned(),
        first_seen: at(first),
        last_seen: at(20),
        times,
        look: None,
    };
    assert_eq!(fixture.facts.sightings().await.unwrap(), [seen("b", 10, 2), seen("c", 20, 1)]);
    fixture.facts.record_sweep(&sweep(&[]), at(30)).await.unwrap();
    assert!(fixture.facts.sightings().await.unwrap().is_empty());
}

#[tokio::test]
async fn looks_at_orphans_are_remembered_for_as_long_as_they_are_seen() {
    let fixture = Fixture::new().await;
    let (both, one) = (["a", "b"].map(str::to_owned).into(), ["b".to_owned()].into());
    let looks = [("a", CameTo::Kept("why".to_owned())), ("b", CameTo::Failed("AccessDenied".to_owned()))];
    let looks = looks.map(|(name, came_to)| (name.to_owned(), OrphanLook { at: at(11), came_to }));
    fixture.facts.record_sweep(&both, at(10)).await.unwrap();
    assert_eq!(fixture.reader.orphans_after().await.unwrap(), "");
    fixture.facts.record_looks(looks.to_vec(), Some("a".to_owned())).await.unwrap();
    fixture.facts.record_sweep(&both, at(20)).await.unwrap();
    fixture.facts.record_looks(vec![("c".to_owned(), looks[0].1.clone())], None).await.unwrap();
    let fixture = fixture.crash().await;
    let seen = fixture.facts.sightings().await.unwrap();
    let seen: Vec<_> = seen.into_iter().map(|seen| (seen.function_name, seen.look.unwrap())).collect();
    assert_eq!(seen, looks, "a look at what was not seen is not remembered");
    assert_eq!(fixture.reader.orphans_after().await.unwrap(), "a");
    for names in [&one, &both] {
        fixture.facts.record_sweep(names, at(30)).await.unwrap();
    }
    let seen = fixture.facts.sightings().await.unwrap();
    assert_eq!(seen.iter().map(|seen| seen.look.is_some()).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn progress_and_roles_are_remembered() {
    let fixture = Fixture::new().await;
    fixture.facts.set_log_progress("/a", at(10)).await.unwrap();
    fixture.facts.set_log_progress("/b", at(11)).await.unwrap();
    fixture.facts.set_log_progress("/a", at(12)).await.unwrap();
    let expected = BTreeMap::from([("/a".to_owned(), at(12)), ("/b".to_owned(), at(11))]);
    assert_eq!(fixture.facts.log_progress().await.unwrap(), expected);

    for role in ["one", "two", "two"] {
        fixture.facts.set_role_logs(role, false).await.unwrap();
    }
    fixture.facts.set_role_logs("one", true).await.unwrap();
    assert_eq!(fixture.facts.roles_without_logs().await.unwrap(), BTreeSet::from(["two".to_owned()]));
}

#[tokio::test]
async fn an_epoch_that_was_given_back_is_begun_again() {
    let fixture = Fixture::new().await;
    fixture.facts.give_epoch_back().await.unwrap();
    assert_eq!(fixture.facts.instance().await.unwrap().epoch, 0);
    assert_eq!(fixture.facts.next_epoch().await.unwrap().epoch, 1);
    assert_eq!(fixture.facts.next_epoch().await.unwrap().epoch, 2);
    fixture.facts.give_epoch_back().await.unwrap();
    let fixture = fixture.crash().await;
    assert_eq!(fixture.facts.instance().await.unwrap().epoch, 1);
    assert_eq!(fixture.facts.next_epoch().await.unwrap().epoch, 2);
}

#[tokio::test]
async fn epochs_count_up_and_the_first_horizon_stays() {
    let fixture = Fixture::new().await;
    let first = fixture.facts.next_epoch().await.unwrap();
    assert_eq!((first.epoch, first.adopted_at, first.horizon), (1, None, None));
    assert!(first.id.len() == 10 && first.id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{}", first.id);
    let fixture = fixture.crash().await;
    assert_eq!(fixture.reader.instance().await.unwrap(), first);
    assert_eq!(fixture.facts.next_epoch().await.unwrap().epoch, 2);

    fixture.create(6, "web").await;
    let stored = fixture.reader.container(&id(6)).await.unwrap().unwrap();
    let sent = Status { create_sent_at: Some(at(7)), ..stored.status };
    fixture.facts.write(write(id(6), stored.revision, sent)).await.unwrap();
    // Wishes are taken while the claim is lost, too.
    fixture.create(50, "later").await;
    fixture.wishes.start(&id(50), at(60)).await.unwrap();
    let adopted = fixture.facts.adopt(9, at(100)).await.unwrap();
    assert_eq!((adopted.id.as_str(), adopted.epoch), (first.id.as_str(), 10));
    assert_eq!((adopted.adopted_at, adopted.horizon), (Some(at(100)), Some(at(7))));
    // What is made since then says nothing of what the other line has made before.
    let stored = fixture.reader.container(&id(6)).await.unwrap().unwrap();
    let sent = Status { create_sent_at: Some(at(150)), ..stored.status };
    fixture.facts.write(write(id(6), stored.revision, sent)).await.unwrap();
    let adopted = fixture.facts.adopt(3, at(200)).await.unwrap();
    assert_eq!((adopted.epoch, adopted.adopted_at, adopted.horizon), (11, Some(at(200)), Some(at(7))));
    assert_eq!(fixture.reader.instance().await.unwrap(), adopted);
}

/// The machine that took the wish may have had a clock that was ahead: its starts are from before the adoption all the same.
#[tokio::test]
async fn a_start_of_before_the_adoption_is_never_later_than_it() {
    let fixture = Fixture::new().await;
    for (number, started) in [(6, 40), (7, 900)] {
        fixture.create(number, &format!("c{number}")).await;
        fixture.wishes.start(&id(number), at(started)).await.unwrap();
    }
    fixture.facts.adopt(3, at(100)).await.unwrap();
    let started = async |number| fixture.reader.container(&id(number)).await.unwrap().unwrap().spec.started_at;
    assert_eq!((started(6).await, started(7).await), (Some(at(40)), Some(at(100))));
}

#[tokio::test]
async fn a_database_that_knew_nothing_has_the_earliest_horizon() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.facts.adopt(0, at(100)).await.unwrap().horizon, Some(at(0)));
}

#[tokio::test]
async fn the_feed_tells_whose_wishes_changed() {
    let fixture = Fixture::new().await;
    let mut feed = fixture.facts.wish_feed();
    fixture.create(1, "web").await;
    fixture.create(2, "db").await;
    fixture.wishes.start(&id(2), at(9)).await.unwrap();
    assert_eq!(feed.next().await.unwrap(), Wished::Some(vec![id(1), id(2)]));
    fixture.facts.write(write(id(1), 0, status(1, None))).await.unwrap();
    fixture.wishes.start(&id(2), at(9)).await.unwrap();
    fixture.wishes.remove(&id(1), false, at(9)).await.unwrap();
    assert_eq!(feed.next().await.unwrap(), Wished::Some(vec![id(1)]), "neither facts nor wishes without effect");
}

/// Sums beyond the column's integers would become floating-point numbers, which no later start could read.
#[tokio::test]
async fn epoch_at_its_end_is_an_error_and_stays_an_integer() {
    let fixture = Fixture::new().await;
    for above in [u64::MAX, i64::MAX.unsigned_abs()] {
        let refused = fixture.facts.adopt(above, at(100)).await.unwrap_err().to_string();
        assert!(refused.contains("its epoch is at its end, 9223372036854775807"), "{refused}");
    }
    assert_eq!(fixture.facts.instance().await.unwrap().epoch, 0, "nothing is recorded");
    let last = i64::MAX.unsigned_abs();
    assert_eq!(fixture.facts.adopt(last - 1, at(100)).await.unwrap().epoch, last);
    assert!(fixture.facts.next_epoch().await.is_err());
    assert!(fixture.facts.adopt(0, at(100)).await.is_err());
    let fixture = fixture.crash().await;
    assert_eq!(fixture.facts.instance().await.unwrap().epoch, last);
    fixture.facts.give_epoch_back().await.unwrap();
    assert_eq!(fixture.facts.next_epoch().await.unwrap().epoch, last);
}

#[tokio::test]
async fn binding_is_set_once_and_survives_a_crash() {
    let binding = |prefix: &str| Binding {
        function_prefix: prefix.to_owned(),
        region: "eu-west-1".to_owned(),
        account: "123456789012".to_owned(),
        claims_log_group: "/claims".to_owned(),
    };
    let fixture = Fixture::new().await;
    // As a database of the version before is when its first start has brought it up to date.
    fixture.facts.next_epoch().await.unwrap();
    assert_eq!(fixture.facts.binding().await.unwrap(), None);
    assert_eq!(fixture.facts.bind(binding("skls")).await.unwrap(), binding("skls"));
    assert_eq!(fixture.facts.bind(binding("job")).await.unwrap(), binding("skls"), "it is not changed");
    fixture.facts.adopt(9, at(100)).await.unwrap();
    let fixture = fixture.crash().await;
    assert_eq!(fixture.facts.binding().await.unwrap(), Some(binding("skls")));
    assert_eq!(bound_to(&path(&fixture.directory)).await.unwrap(), Some(binding("skls")), "beside an open store");
}
