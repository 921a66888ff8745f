//! Drift and orphans: what somebody did to AWS behind the daemon's back.

use crate::docker::create;
use crate::support::{Account, Aws, Home, until};

const OFTEN: [&str; 4] = ["--gc-interval", "1s", "--gc-grace", "1s"];

#[tokio::test]
async fn only_our_own_orphans_are_deleted() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::start(&home, &aws.endpoint, "sandbox", &OFTEN);
    account.until_ready().await;
    create(&account.docker(), "job", "exit 5", &[]).await;
    let ours = until("the function is there", async || aws.functions().first().cloned()).await;
    let instance = ours.split('-').nth(1).unwrap().to_owned();
    let digits = "ab".repeat(32);
    let orphan = format!("skls-{instance}-{}", &digits[..24]);
    let created = "\"sockerless.created\":\"1\"";
    aws.create_function(
        &orphan,
        &format!("\"sockerless.instance\":\"{instance}\",\"sockerless.container\":\"{digits}\",{created}"),
    )
    .await;
    let untagged = format!("skls-{instance}-{}", "cd".repeat(12));
    let foreign = format!("skls-9999999999-{}", &digits[..24]);
    aws.create_function(&untagged, "").await;
    aws.create_function(&foreign, &format!("\"sockerless.instance\":\"9999999999\",{created}")).await;
    until("the orphan is deleted", async || (!aws.functions().contains(&orphan)).then_some(())).await;
    let mut left = aws.functions();
    left.sort();
    let mut expected = vec![ours, untagged, foreign];
    expected.sort();
    assert_eq!(left, expected);
    account.stop();
}

#[tokio::test]
async fn a_changed_function_is_put_back_and_a_deleted_one_is_noticed() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::start(&home, &aws.endpoint, "sandbox", &OFTEN);
    account.until_ready().await;
    create(&account.docker(), "job", "exit 5", &[]).await;
    let name = until("the function is there", async || aws.functions().first().cloned()).await;
    let path = format!("/2015-03-31/functions/{name}");
    let change = format!("{path}/configuration");
    until("it can be changed", async || (aws.call("PUT", &change, "{\"MemorySize\":128}").0 == 200).then_some(()))
        .await;
    // GetFunction has a quota of its own: asking for it takes nothing from the daemon.
    until("it is put back", async || aws.call("GET", &path, "").1.contains("\"MemorySize\":1024").then_some(())).await;
    assert!(account.metrics().contains("sockerless_drift_found_total{kind=\"changed\"}"));

    until("it is deleted by hand", async || (aws.call("DELETE", &path, "").0 == 204).then_some(())).await;
    let noticed = "sockerless_drift_found_total{kind=\"missing\"}";
    until("that is noticed", async || account.metrics().contains(noticed).then_some(())).await;
    account.stop();
}
