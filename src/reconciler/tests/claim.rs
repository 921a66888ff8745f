//! Two daemons and one database: the claim that comes second, and the one that is lost later.

use super::stand_in::{Answers, INSTANCE, aws, shared, store};
use super::*;
use crate::reconciler::claim::{Claim, Claimant};
use crate::reconciler::sweep::Swept;

/// CloudWatch Logs as who comes second sees it: no claim when it looks, and then the stream exists.
const TAKEN: Answers = &[
    ("DescribeLogStreams", "200 OK", r#"{"logStreams":[]}"#),
    ("DescribeLogGroups", "200 OK", r#"{"logGroups":[{"logGroupName":"/claims"}]}"#),
    ("CreateLogStream", "400 Bad Request", r#"{"__type":"ResourceAlreadyExistsException","message":"it exists"}"#),
];

#[tokio::test]
async fn who_comes_second_has_lost_and_keeps_its_epoch_below() {
    let ((_directory, store), (cloud, asked)) = (store().await, aws(TAKEN, "", None).await);
    let facts = store.facts();
    let claimant =
        Claimant { facts: &facts, cloud: &cloud, log_group: "/claims", log_retention_days: None, adopt: false };
    let claim = claimant.claim(t(0)).await.unwrap();
    assert!(matches!(&claim, Claim::Lost { why } if why.contains("epoch 1")), "{claim:?}");
    assert_eq!(facts.instance().await.unwrap().epoch, 0, "the winner's epoch stays above, also for the next start");
    assert_eq!(asked.lock().unwrap().last().unwrap(), "CreateLogStream", "nothing is asked or changed after that");
}

/// The first list was an old one.
const OLD_LIST: Answers = &[
    ("DescribeLogStreams", "200 OK", r#"{"logStreams":[]}"#),
    (
        "DescribeLogStreams",
        "200 OK",
        r#"{"logStreams":[{"logStreamName":"INSTANCE/1"},{"logStreamName":"INSTANCE/9"}]}"#,
    ),
    ("DescribeLogGroups", "200 OK", r#"{"logGroups":[{"logGroupName":"/claims"}]}"#),
    ("CreateLogStream", "200 OK", "{}"),
];

#[tokio::test]
async fn a_claim_below_one_that_an_old_list_did_not_show_is_lost() {
    let (_directory, store) = store().await;
    let facts = store.facts();
    let instance = facts.instance().await.unwrap().id;
    let (cloud, _) = aws(OLD_LIST, &instance, None).await;
    let claimant =
        Claimant { facts: &facts, cloud: &cloud, log_group: "/claims", log_retention_days: None, adopt: false };
    let claim = claimant.claim(t(0)).await.unwrap();
    assert!(matches!(&claim, Claim::Lost { why } if why.contains("epoch 9")), "{claim:?}");
}

/// Epoch 7 is claimed.
const CLAIMED: Answers = &[
    ("DescribeLogStreams", "200 OK", r#"{"logStreams":[{"logStreamName":"INSTANCE/7"}]}"#),
    ("GET /2015-03-31/functions", "200 OK", r#"{"Functions":[]}"#),
];

#[tokio::test]
async fn each_sweep_looks_first_whose_database_it_is() {
    let ((_directory, store), (cloud, asked)) = (store().await, aws(CLAIMED, INSTANCE, None).await);
    let shared = shared(&store, cloud).await;
    assert_eq!(shared.sweep(6).await.unwrap(), Swept::ClaimLost);
    assert_eq!(*asked.lock().unwrap(), ["DescribeLogStreams"]);
    assert!(matches!(shared.sweep(7).await.unwrap(), Swept::Done(_)), "the claim is ours");
}
