//! Two daemons and one database: the claim that comes second, the one that is lost later, and those that are forged.

use super::stand_in::{Answers, Asked, INSTANCE, aws, shared, store};
use super::*;
use crate::aws::Cloud;
use crate::config::Config;
use crate::health::{Check, Health};
use crate::reconciler::claim::{Claim, ClaimError, Claimant};
use crate::reconciler::sweep::Swept;
use crate::state::{Binding, MAX_EPOCH, Store};

/// Both log groups, in the account of the role.
const GROUPS: (&str, &str, &str) = (
    "DescribeLogGroups",
    "200 OK",
    r#"{"logGroups":[{"logGroupName":"/sockerless/lambda"},{"logGroupName":"/sockerless/lambda-claims",
        "arn":"arn:aws:logs:eu-west-1:000000000000:log-group:/sockerless/lambda-claims:*"}]}"#,
);
const NO_STREAMS: (&str, &str, &str) = ("DescribeLogStreams", "200 OK", r#"{"logStreams":[]}"#);
const CREATED: (&str, &str, &str) = ("CreateLogStream", "200 OK", "{}");
const NO_FUNCTIONS: (&str, &str, &str) = ("GET /2015-03-31/functions", "200 OK", r#"{"Functions":[]}"#);

fn config() -> Config {
    Config::new("eu-west-1", &settings().role_arn).unwrap()
}

/// A store that has claimed `epoch` times, AWS, and what it was asked.
async fn daemon(answers: Answers, epoch: u64) -> (tempfile::TempDir, Store, Cloud, Asked) {
    let (directory, store) = store().await;
    for _ in 0..epoch {
        store.facts().next_epoch().await.unwrap();
    }
    let instance = store.facts().instance().await.unwrap().id;
    let (cloud, asked) = aws(answers, &instance, None).await;
    (directory, store, cloud, asked)
}

async fn claim(store: &Store, cloud: &Cloud, config: &Config, health: &Health) -> Result<Claim, ClaimError> {
    Claimant { facts: &store.facts(), cloud, health, config }.claim(t(0)).await
}

/// CloudWatch Logs as who comes second sees it: no claim when it looks, and then the stream exists.
const TAKEN: Answers = &[
    NO_STREAMS,
    GROUPS,
    ("CreateLogStream", "400 Bad Request", r#"{"__type":"ResourceAlreadyExistsException","message":"it exists"}"#),
];

#[tokio::test]
async fn who_comes_second_has_lost_and_keeps_its_epoch_below() {
    let (_directory, store, cloud, asked) = daemon(TAKEN, 0).await;
    let claim = claim(&store, &cloud, &config(), &Health::default()).await.unwrap();
    assert!(matches!(&claim, Claim::Lost { why } if why.contains("epoch 1")), "{claim:?}");
    let epoch = store.facts().instance().await.unwrap().epoch;
    assert_eq!(epoch, 0, "the winner's epoch stays above, also for the next start");
    assert_eq!(asked.lock().unwrap().last().unwrap(), "CreateLogStream", "nothing is asked or changed after that");
}

/// The first list was an old one.
const OLD_LIST: Answers = &[
    NO_STREAMS,
    (
        "DescribeLogStreams",
        "200 OK",
        r#"{"logStreams":[{"logStreamName":"INSTANCE/00000000000000000009"},{"logStreamName":"INSTANCE/00000000000000000001"}]}"#,
    ),
    GROUPS,
    CREATED,
];

#[tokio::test]
async fn a_claim_below_one_that_an_old_list_did_not_show_is_lost() {
    let (_directory, store, cloud, _) = daemon(OLD_LIST, 0).await;
    let claim = claim(&store, &cloud, &config(), &Health::default()).await.unwrap();
    assert!(matches!(&claim, Claim::Lost { why } if why.contains("epoch 9")), "{claim:?}");
}

/// Epoch 7 is claimed.
const CLAIMED: Answers = &[
    ("DescribeLogStreams", "200 OK", r#"{"logStreams":[{"logStreamName":"INSTANCE/00000000000000000007"}]}"#),
    NO_FUNCTIONS,
];

#[tokio::test]
async fn each_sweep_looks_first_whose_database_it_is() {
    let ((_directory, store), (cloud, asked)) = (store().await, aws(CLAIMED, INSTANCE, None).await);
    let shared = shared(&store, cloud).await;
    assert_eq!(shared.sweep(6).await.unwrap(), Swept::ClaimLost);
    assert_eq!(*asked.lock().unwrap(), ["DescribeLogStreams"]);
    assert!(matches!(shared.sweep(7).await.unwrap(), Swept::Done(_)), "the claim is ours");
    assert!(!shared.health.problems().contains_key(&Check::Claims));
}

/// Above epoch 7 there are the last u64, the last i64 and garbage.
const ABSURD: Answers = &[
    (
        "DescribeLogStreams",
        "200 OK",
        r#"{"logStreams":[{"logStreamName":"INSTANCE/abc"},{"logStreamName":"INSTANCE/99999999999999999999"},
            {"logStreamName":"INSTANCE/18446744073709551615"},{"logStreamName":"INSTANCE/09223372036854775807"},
            {"logStreamName":"INSTANCE/00000000000000000007"}]}"#,
    ),
    GROUPS,
    CREATED,
    NO_FUNCTIONS,
];

#[tokio::test]
async fn epoch_of_u64_max_is_an_alarm_and_not_an_order() {
    let (_directory, store, cloud, _) = daemon(ABSURD, 7).await;
    let health = Health::default();
    let held = claim(&store, &cloud, &config(), &health).await.unwrap();
    assert!(matches!(&held, Claim::Held(instance) if instance.epoch == 8), "{held:?}");
    let reason = &health.problems()[&Check::Claims];
    assert!(reason.contains("/sockerless/lambda-claims") && reason.contains("take that right away"), "{reason}");
    assert!(!health.problems().contains_key(&Check::Ownership));

    let (cloud, _) = aws(ABSURD, INSTANCE, None).await;
    let shared = shared(&store, cloud).await;
    assert!(matches!(shared.sweep(8).await.unwrap(), Swept::Done(_)), "it does not take the claim away");
    assert!(shared.health.problems().contains_key(&Check::Claims));
}

/// Nor does an adoption take it for the highest epoch: the next start could claim none above it.
#[tokio::test]
async fn adoption_follows_the_highest_possible_epoch_and_no_absurd_one() {
    let (_directory, store, cloud, _) = daemon(ABSURD, 3).await;
    let health = Health::default();
    let lost = claim(&store, &cloud, &config(), &health).await.unwrap();
    assert!(matches!(&lost, Claim::Lost { why } if why.contains("epoch 7 ")), "{lost:?}");
    let adopting = Config { adopt: true, ..config() };
    let held = claim(&store, &cloud, &adopting, &health).await.unwrap();
    assert!(matches!(&held, Claim::Held(instance) if instance.epoch == 8), "{held:?}");
    assert!(held_epoch_can_grow(&store).await);
}

async fn held_epoch_can_grow(store: &Store) -> bool {
    let (before, after) = (store.facts().instance().await.unwrap().epoch, store.facts().next_epoch().await.unwrap());
    before < MAX_EPOCH && after.epoch == before + 1
}

/// However often one asks, there is one more page of streams that are no claims.
const FLOOD: Answers = &[
    (
        "DescribeLogStreams",
        "200 OK",
        r#"{"nextToken":"more","logStreams":[{"logStreamName":"INSTANCE/00000000000000000007x"},
            {"logStreamName":"INSTANCE/-1"},{"logStreamName":"INSTANCE/17446744073709551615"}]}"#,
    ),
    GROUPS,
    CREATED,
    NO_FUNCTIONS,
];

#[tokio::test]
async fn flood_of_claim_streams_does_not_block_claim_or_sweep() {
    let (_directory, store, cloud, asked) = daemon(FLOOD, 0).await;
    let health = Health::default();
    let held = claim(&store, &cloud, &config(), &health).await.unwrap();
    assert!(matches!(&held, Claim::Held(instance) if instance.epoch == 1), "{held:?}");
    assert!(health.problems()[&Check::Claims].contains("may hide the claim"), "{:?}", health.problems());
    let pages = asked.lock().unwrap().iter().filter(|call| *call == "DescribeLogStreams").count();
    assert_eq!(pages, 22, "two looks at one page of all names and 10 of those near ours");

    let (cloud, _) = aws(FLOOD, INSTANCE, None).await;
    let shared = shared(&store, cloud).await;
    assert!(matches!(shared.sweep(1).await.unwrap(), Swept::Done(_)));
}

const OTHER_ACCOUNT: Answers = &[
    NO_STREAMS,
    (
        "DescribeLogGroups",
        "200 OK",
        r#"{"logGroups":[{"logGroupName":"/sockerless/lambda-claims",
            "arn":"arn:aws:logs:eu-west-1:999999999999:log-group:/sockerless/lambda-claims:*"}]}"#,
    ),
    CREATED,
];

/// In another account no claim and no function of this database can be seen.
#[tokio::test]
async fn credentials_of_another_account_make_no_claim() {
    let (_directory, store, cloud, asked) = daemon(OTHER_ACCOUNT, 7).await;
    let refused = claim(&store, &cloud, &config(), &Health::default()).await.unwrap_err().to_string();
    assert!(refused.contains("the account 999999999999") && refused.contains("the account 000000000000"), "{refused}");
    assert_eq!(*asked.lock().unwrap(), ["DescribeLogStreams", "DescribeLogGroups"], "nothing is changed");
    assert_eq!(store.facts().instance().await.unwrap().epoch, 7);
    assert_eq!(store.facts().binding().await.unwrap(), None);
}

#[tokio::test]
async fn first_claim_binds_the_database_and_adoption_does_not_move_it() {
    let (_directory, store, cloud, asked) = daemon(&[NO_STREAMS, GROUPS, CREATED], 0).await;
    let health = Health::default();
    claim(&store, &cloud, &config(), &health).await.unwrap();
    let bound = Binding {
        function_prefix: "skls".to_owned(),
        region: "eu-west-1".to_owned(),
        account: "000000000000".to_owned(),
        claims_log_group: "/sockerless/lambda-claims".to_owned(),
    };
    assert_eq!(store.facts().binding().await.unwrap(), Some(bound));
    let before = asked.lock().unwrap().len();
    for moved in [
        Config { function_prefix: "job".to_owned(), ..config() },
        Config { region: "us-east-1".to_owned(), adopt: true, ..config() },
        Config { role_arn: "arn:aws:iam::999999999999:role/job".to_owned(), adopt: true, ..config() },
        Config { claims_log_group: "/elsewhere".to_owned(), adopt: true, ..config() },
        Config { sandbox: true, ..config() },
    ] {
        let refused = claim(&store, &cloud, &moved, &health).await.unwrap_err();
        assert!(matches!(&refused, ClaimError::Bound(why) if why.contains("was \"")), "{refused}");
    }
    assert_eq!(asked.lock().unwrap().len(), before, "AWS is not even asked");
    assert_eq!(store.facts().instance().await.unwrap().epoch, 1);
}
