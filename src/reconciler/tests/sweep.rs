//! Orphans: what is counted as one, and when it may go.

use std::collections::BTreeSet;

use super::*;
use crate::aws::FunctionDescription;
use crate::reconciler::names::{Identity, TAG_CONTAINER, TAG_CREATED, TAG_INSTANCE};
use crate::reconciler::sweep::{Findings, belongs_to_one_of, is_ripe, judge, reason_to_keep};
use crate::state::Sighting;

fn identity() -> Identity {
    Identity { prefix: "skls".into(), instance: "0123456789".into() }
}

#[test]
fn an_orphan_is_ripe_after_two_sightings_and_the_grace_time() {
    let grace = Duration::from_secs(900);
    for (times, age, ripe) in [(2, 900, true), (9, 901, true), (1, 900, false), (1, 100_000, false), (2, 899, false)] {
        let (first_seen, last_seen) = (t(0), t(age));
        let sighting = Sighting { function_name: NAME.into(), first_seen, last_seen, times };
        assert_eq!(is_ripe(&sighting, t(age), grace), ripe, "{times} sightings in {age} s");
    }
}

#[test]
fn an_orphan_is_kept_unless_everything_says_that_it_is_ours() {
    let container = Story::created().container;
    let (ours, nobody, itself) = (described(&identity(), &container), BTreeSet::new(), BTreeSet::from([container.id]));
    let why = |horizon, function: &FunctionDescription, ids| reason_to_keep(&identity(), horizon, function, ids);
    let tagged = |key: &str, value: &str| {
        let mut tags = ours.tags.clone().unwrap();
        tags.insert(key.to_owned(), value.to_owned());
        FunctionDescription { tags: Some(tags), ..ours.clone() }
    };
    assert_eq!(why(None, &ours, &nobody), None);
    let without = |tags| FunctionDescription { tags, ..ours.clone() };
    let other = ContainerId::from_bytes([0xbb; 32]).to_string();
    for (function, reason) in [
        (without(None), "its tags are not known"),
        (without(Some(BTreeMap::new())), "it has no tag with its container"),
        (tagged(TAG_CONTAINER, "web"), "it has no tag with its container"),
        (tagged(TAG_INSTANCE, "9999999999"), "its tags do not say that it is ours"),
        (tagged(TAG_CONTAINER, &other), "its name and its tags do not agree"),
    ] {
        assert_eq!(why(None, &function, &nobody), Some(reason));
    }
    assert_eq!(why(None, &ours, &itself), Some("its container still exists"));

    let newer = Some("it is newer than the restored database");
    assert_eq!(why(Some(t(0)), &ours, &nobody), None, "made before the horizon");
    assert_eq!(why(Some(t(-1)), &ours, &nobody), newer);
    assert_eq!(why(Some(t(0)), &tagged(TAG_CREATED, "today"), &nobody), newer, "nobody knows when it was made");
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
fn function_of_a_container_that_cannot_be_read_is_no_orphan() {
    let [mine, other] = [0xaa, 0xbb].map(|byte| ContainerId::from_bytes([byte; 32]));
    let function = identity().function_name(&mine, 3);
    assert!(belongs_to_one_of(&identity(), &function, &[None, Some(mine)]));
    assert!(!belongs_to_one_of(&identity(), &function, &[None, Some(other)]));
}
