//! Orphans: what is counted as one, and when it may go.

use std::collections::BTreeSet;

use super::stand_in::{Answers, INSTANCE, aws, shared_at, store};
use super::*;
use crate::aws::FunctionDescription;
use crate::clock::Clock;
use crate::reconciler::compare::{Comparison, Findings, MAX_ORPHANS};
use crate::reconciler::names::{Identity, TAG_CONTAINER, TAG_CREATED, TAG_INSTANCE};
use crate::reconciler::orphans::Looks;
use crate::reconciler::sweep::{MAX_LOOKS, choose, is_ripe, reason_to_keep};
use crate::state::{CameTo, FunctionOwner, FunctionPresence, Sighting};

fn identity() -> Identity {
    Identity { prefix: "skls".into(), instance: "0123456789".into() }
}

#[test]
fn an_orphan_is_ripe_after_two_sightings_and_the_grace_time() {
    let grace = Duration::from_secs(900);
    for (times, age, ripe) in [(2, 900, true), (9, 901, true), (1, 900, false), (1, 100_000, false), (2, 899, false)] {
        let (first_seen, last_seen) = (t(0), t(age));
        let sighting = Sighting { function_name: NAME.into(), first_seen, last_seen, times, look: None };
        assert_eq!(is_ripe(&sighting, t(age), grace), ripe, "{times} sightings in {age} s");
    }
}

#[test]
fn an_orphan_is_kept_unless_everything_says_that_it_is_ours() {
    let container = Story::created().container;
    let ours = described(&identity(), &container);
    let why =
        |horizon, function: &FunctionDescription, has_row| reason_to_keep(&identity(), horizon, function, has_row);
    let tagged = |key: &str, value: &str| {
        let mut tags = ours.tags.clone().unwrap();
        tags.insert(key.to_owned(), value.to_owned());
        FunctionDescription { tags: Some(tags), ..ours.clone() }
    };
    assert_eq!(why(None, &ours, false), None);
    let without = |tags| FunctionDescription { tags, ..ours.clone() };
    let other = ContainerId::from_bytes([0xbb; 32]).to_string();
    for (function, reason) in [
        (without(None), "its tags are not known"),
        (without(Some(BTreeMap::new())), "it has no tag with its container"),
        (tagged(TAG_CONTAINER, "web"), "it has no tag with its container"),
        (tagged(TAG_INSTANCE, "9999999999"), "its tags do not say that it is ours"),
        (tagged(TAG_CONTAINER, &other), "its name and its tags do not agree"),
    ] {
        assert_eq!(why(None, &function, false), Some(reason));
    }
    assert_eq!(why(None, &ours, true), Some("its container still exists"));

    let newer = Some("it is newer than the restored database");
    assert_eq!(why(Some(t(0)), &ours, false), None, "made before the horizon");
    assert_eq!(why(Some(t(-1)), &ours, false), newer);
    assert_eq!(why(Some(t(0)), &tagged(TAG_CREATED, "today"), false), newer, "nobody knows when it was made");
}

#[test]
fn only_our_own_functions_without_a_row_are_orphans() {
    let (container, now) = (Story::ready().container, t(100));
    let ours = described(&identity(), &container);
    let others = Identity { instance: "9999999999".into(), ..identity() };
    let named = |name: String| FunctionDescription { name, tags: None, ..ours.clone() };
    let listed = [
        ours.clone(),
        named(identity().function_name(&container.id, 1)),
        named(others.function_name(&container.id, 0)),
        named("skls-nightly-report".into()),
    ];
    let found = judge(&identity(), &listed, std::slice::from_ref(&container), now);
    assert_eq!(found.orphans, BTreeSet::from([listed[1].name.clone()]));
    assert_eq!((found.changed, found.missing), Default::default());
    assert_eq!(judge(&identity(), &[], &[], now), Findings::default());
}

#[test]
fn a_function_made_since_the_list_is_not_missing() {
    let container = Story::ready().container;
    let missing = |started| judge(&identity(), &[], std::slice::from_ref(&container), started).missing;
    assert_eq!(container.status.create_sent_at, Some(t(0)));
    assert_eq!(missing(t(0)), BTreeSet::new(), "the list is older than the function");
    assert_eq!(missing(t(1)), BTreeSet::from([container.id]));
    assert_eq!(missing(t(-86_400)), BTreeSet::from([container.id]), "the clock was set back since it was made");
}

#[test]
fn orphans_beyond_the_limit_are_counted_and_the_first_by_name_are_kept() {
    let ours = described(&identity(), &Story::created().container);
    let named = |n: usize| {
        let id =
            ContainerId::from_bytes(std::array::from_fn(|place| if place < 8 { n.to_be_bytes()[place] } else { 0 }));
        FunctionDescription { name: identity().function_name(&id, 0), ..ours.clone() }
    };
    let mut comparison = Comparison::begin(t(0), String::new());
    for page in (0..MAX_ORPHANS + 7).rev().map(named).collect::<Vec<_>>().chunks(50) {
        comparison.take_list_page(&identity(), page, &[]);
    }
    let found = comparison.end();
    assert_eq!((found.orphans.len(), found.more_orphans), (MAX_ORPHANS, 7));
    assert_eq!(found.orphans.first(), Some(&named(0).name));
    assert_eq!(found.orphans.last(), Some(&named(MAX_ORPHANS - 1).name));
    assert_eq!(found.next_place(MAX_ORPHANS - 1), None, "one of them may still go");
    let place = found.next_place(MAX_ORPHANS).unwrap();

    let mut comparison = Comparison::begin(t(0), place);
    comparison.take_list_page(&identity(), &(MAX_ORPHANS - 2..MAX_ORPHANS + 7).map(named).collect::<Vec<_>>(), &[]);
    let found = comparison.end();
    assert_eq!((found.orphans.len(), found.more_orphans), (7, 2), "those that are kept hide no others");
    assert_eq!(found.next_place(7), Some(named(MAX_ORPHANS + 6).name));
    let mut comparison = Comparison::begin(t(0), named(MAX_ORPHANS + 6).name);
    comparison.take_list_page(&identity(), &[named(1), named(2)], &[]);
    assert_eq!(comparison.end().next_place(0), Some(String::new()), "after the last come the first again");
}

#[test]
fn function_of_a_container_that_cannot_be_read_is_no_orphan() {
    let container = Story::ready().container;
    let listed = [described(&identity(), &container)];
    let unreadable = FunctionOwner { seq: 1, id: container.id, function: None };
    let mut comparison = Comparison::begin(t(100), String::new());
    comparison.take_list_page(&identity(), &listed, std::slice::from_ref(&unreadable));
    comparison.take_rows(&[FunctionPresence {
        seq: 1,
        id: Some(container.id),
        is_present: true,
        create_sent_at: None,
    }]);
    assert_eq!(comparison.end(), Findings::default());
    let other = FunctionOwner { id: ContainerId::from_bytes([0xbb; 32]), ..unreadable };
    let mut comparison = Comparison::begin(t(100), String::new());
    comparison.take_list_page(&identity(), &listed, &[other]);
    comparison.take_rows(&[FunctionPresence { seq: 2, id: None, is_present: true, create_sent_at: None }]);
    let found = comparison.end();
    assert_eq!((found.orphans.len(), found.unidentified), (1, true), "it may belong to the row without an id");
}

#[test]
fn a_function_that_is_listed_twice_is_no_orphan() {
    let container = Story::ready().container;
    let twice = [described(&identity(), &container), described(&identity(), &container)];
    assert_eq!(judge(&identity(), &twice, std::slice::from_ref(&container), t(100)), Findings::default());
}

/// Anyone can make functions that are called like ours. Each costs a call when it is looked at, and each has its turn.
#[test]
fn a_sweep_looks_at_a_bounded_number_of_orphans_and_at_each_in_its_turn() {
    let names: Vec<String> = (0..2_000).map(|n| format!("skls-0123456789-{n:024}-0")).collect();
    let ripe: Vec<&str> = names.iter().map(String::as_str).collect();
    for turn in [0, 1, 77, u64::MAX] {
        let mut looks = Looks::default();
        for sweep in 0..40_u16 {
            let now = t(300 * i64::from(sweep));
            let chosen = choose(&ripe, &looks, now, turn.wrapping_add(sweep.into()));
            assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), MAX_LOOKS, "and each once");
            for name in chosen {
                let came_to = if sweep % 2 == 0 { CameTo::Kept("why".into()) } else { CameTo::Failed("how".into()) };
                looks.note(name, now, came_to);
            }
        }
        assert_eq!(looks.count(&ripe).looked_at, names.len(), "half of the looks are for those without one");
        let again = choose(&ripe, &looks, t(90_000), turn);
        assert_eq!(again.len(), MAX_LOOKS, "the other half has no use");
        let looked_at = |name: &&str| looks.get(name).unwrap().at;
        assert_eq!(looked_at(&again[0]), ripe.iter().map(looked_at).min().unwrap());
        let with_new = choose(&[&ripe[..], &["new"]].concat(), &looks, t(90_000), turn);
        assert!(with_new.contains(&"new") && with_new.len() == MAX_LOOKS);
    }
    let firsts = [1, 2, 3].map(|turn| choose(&ripe, &Looks::default(), t(0), turn)[0]);
    assert_eq!(BTreeSet::from(firsts).len(), 3, "neither sweeps nor restarts begin with the same ones");
    let mut kept = Looks::default();
    kept.note("a", t(0), CameTo::Kept("why".into()));
    for (now, due) in [(t(3_599), false), (t(3_600), true), (t(-1), true)] {
        assert_eq!(choose(&["a"], &kept, now, 0).len(), usize::from(due));
    }
}

/// As somebody who makes functions that are called like ours without end.
#[test]
fn new_orphans_keep_nobody_from_a_turn() {
    let mut made: Vec<String> = vec!["zzz".to_owned()];
    let mut looks = Looks::default();
    looks.note("due", t(0), CameTo::Gone);
    let mut turns = Vec::new();
    for sweep in 0..60_u16 {
        made.extend((0..MAX_LOOKS).map(|n| format!("forged-{sweep:05}-{n:03}")));
        let mut ripe: Vec<&str> = made.iter().map(String::as_str).chain(["due"]).collect();
        ripe.sort_unstable();
        let now = t(300 * i64::from(sweep));
        let chosen: Vec<String> = choose(&ripe, &looks, now, sweep.into()).into_iter().map(str::to_owned).collect();
        assert!(chosen.iter().any(|name| name == "due"), "it waits for one half of the looks only");
        turns.extend(chosen.iter().any(|name| name == "zzz").then_some(sweep));
        for name in &chosen {
            looks.note(name, now, CameTo::Kept("why".into()));
        }
        looks.note("due", t(-1), CameTo::Gone);
    }
    assert!(!turns.is_empty(), "the last one by name has its turn, too");
}

/// With more orphans than a sweep notes: one that always fails, or that is gone and still listed, does not hide those after it.
#[tokio::test]
async fn the_place_moves_on_from_orphans_that_stay_whatever_is_done() {
    const DENIED: Answers =
        &[("GET /2015-03-31/functions/", "403 Forbidden", r#"{"__type":"AccessDeniedException","message":"no"}"#)];
    const GONE: Answers =
        &[("GET /2015-03-31/functions/", "404 Not Found", r#"{"__type":"ResourceNotFoundException","message":"no"}"#)];
    for (answers, looks) in [(DENIED, 1), (GONE, 2)] {
        let (_directory, store) = store().await;
        let shared = shared_at(&store, aws(answers, INSTANCE, None).await.0, Clock::fixed(t(100_000))).await;
        let orphans = BTreeSet::from([NAME.to_owned()]);
        let findings = Findings { orphans, more_orphans: 1, ..Findings::default() };
        for at in [t(0), t(100_000)] {
            store.facts().record_sweep(&findings.orphans, at).await.unwrap();
        }
        for look in 1..=looks {
            assert_eq!(store.reader().orphans_after().await.unwrap(), "", "before look {look} of {looks}");
            let swept = shared.delete_orphans(6, &findings).await;
            assert_eq!(swept.is_err(), looks == 1, "{swept:?}");
        }
        assert_eq!(store.reader().orphans_after().await.unwrap(), NAME, "after {looks}");
    }
}

/// As passes of cron, each of them a process of its own.
#[tokio::test]
async fn looks_and_the_place_outlive_the_process() {
    const KEPT: Answers = &[("GET /2015-03-31/functions/", "200 OK", r#"{"Configuration":{"FunctionName":"skls"}}"#)];
    let (_directory, store) = store().await;
    let names: Vec<String> = (0..150).map(|n| format!("skls-0123456789-{n:024}")).collect();
    let orphans: BTreeSet<String> = names.iter().cloned().collect();
    let findings = Findings { orphans: orphans.clone(), more_orphans: 1, ..Findings::default() };
    let (cloud, asked) = aws(KEPT, INSTANCE, None).await;
    for at in [t(0), t(100_000)] {
        store.facts().record_sweep(&orphans, at).await.unwrap();
    }
    for (left, kept, place) in [(50, 100, ""), (0, 150, names[149].as_str())] {
        let shared = shared_at(&store, cloud.clone(), Clock::fixed(t(100_000))).await;
        let swept = shared.delete_orphans(6, &findings).await.unwrap();
        assert_eq!((swept.left, swept.kept), (left, kept));
        assert_eq!(store.reader().orphans_after().await.unwrap(), place);
    }
    assert_eq!(asked.lock().unwrap().len(), 150, "each is looked at once");
    store.facts().record_sweep(&orphans, t(100_001)).await.unwrap();
    let shared = shared_at(&store, cloud.clone(), Clock::fixed(t(103_600))).await;
    assert_eq!(shared.delete_orphans(7, &findings).await.unwrap().left, 0, "they are due again, and were looked at");
    assert_eq!(asked.lock().unwrap().len(), 250);
}
