//! What the daemon counts, seen from outside.

use crate::docker::{create, remove, start, wait};
use crate::support::{Account, Aws, Home, until};

/// The containers that the metrics count, by state.
fn containers(account: &Account) -> String {
    let text = account.metrics();
    let counts = text.lines().filter_map(|line| line.strip_prefix("sockerless_containers{state=\""));
    let mut counts: Vec<String> = counts.filter(|count| !count.ends_with(" 0")).map(str::to_owned).collect();
    counts.sort();
    counts.join(", ")
}

#[tokio::test]
async fn a_container_is_counted_as_long_as_it_is_there() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &[]).await;
    let docker = account.docker();
    create(&docker, "job", "exit 5", &[]).await;
    until("one is created", async || (containers(&account) == "created\"} 1").then_some(())).await;
    start(&docker, "job").await;
    wait(&docker, "job").await;
    until("one has exited", async || (containers(&account) == "exited\"} 1").then_some(())).await;
    remove(&docker, "job").await;
    until("none is left", async || containers(&account).is_empty().then_some(())).await;
    account.stop();
}
