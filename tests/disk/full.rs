//! A full disk: what cannot be recorded is refused, nothing that was acknowledged is lost, the problem is told, and it
//! goes away by itself when there is room.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, ListContainersOptionsBuilder};
use sockerless_lambda::health::{Check, Health};
use sockerless_lambda::state::{StateError, Store, StoreOptions};

use crate::disk::SmallDisk;
use crate::docker::{create, inspect, start, wait};
use crate::fixtures::{at, id, new};
use crate::support::{Account, Aws, Home, lines, until};

/// A write needs some room, and the log may have some left: at most so many succeed on a full disk.
const LAST_ONES: u16 = 400;

fn options(directory: &Path) -> StoreOptions {
    StoreOptions { path: directory.join("state.db"), read_only: false }
}

#[tokio::test]
async fn the_store_refuses_loses_nothing_and_recovers_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let test = "the_store_refuses_loses_nothing_and_recovers_by_itself";
    let Some(disk) = SmallDisk::over(directory.path(), 2_048, test) else { return };
    let store = Store::open(&options(directory.path())).await.unwrap();
    let (health, wishes) = (Health::default(), store.wishes());
    store.report_to(&health);
    wishes.create(new(1, "first")).await.unwrap().unwrap();
    disk.fill();

    let mut acknowledged = BTreeSet::from([id(1)]);
    let refused = loop {
        let n = u8::try_from(acknowledged.len() + 1).unwrap();
        match wishes.create(new(n, &format!("c{n}"))).await {
            Ok(created) => acknowledged.insert(created.unwrap().id),
            Err(error) => break error,
        };
    };
    assert!(matches!(refused, StateError::NotCommitted(_)), "{refused:?}");
    assert_eq!(refused.to_string(), "the database cannot be written: database or disk is full");
    assert_eq!(health.problems()[&Check::Store], "the database cannot be written: database or disk is full");
    assert_eq!(store.reader().containers(None, 10_000).await.unwrap().rows.len(), acknowledged.len(), "it can be read");
    assert!(store.wishes().start(&id(1), at(9)).await.is_err());

    disk.make_room();
    until("the store says that it accepts writes", async || health.problems().is_empty().then_some(())).await;
    wishes.create(new(200, "last")).await.unwrap().unwrap();
    acknowledged.insert(id(200));
    store.close().await.unwrap();
    let store = Store::open(&options(directory.path())).await.unwrap();
    let there: BTreeSet<_> =
        store.reader().containers(None, 10_000).await.unwrap().readable().map(|row| row.id).collect();
    assert_eq!(there, acknowledged);
    assert_eq!(store.reader().instance().await.unwrap().doubt, None, "a full disk loses no commit");
    drop(store);
}

#[tokio::test]
async fn a_start_on_a_full_disk_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let test = "a_start_on_a_full_disk_is_refused_with_the_reason";
    let Some(disk) = SmallDisk::over(directory.path(), 512, test) else { return };
    disk.fill();
    let refused = Store::open(&options(directory.path())).await.unwrap_err().to_string();
    assert!(refused.contains("state.db") && refused.contains("full"), "{refused}");
    disk.make_room();
    Store::open(&options(directory.path())).await.unwrap().close().await.unwrap();
}

/// Creates containers until one is refused; gives the names that were acknowledged, and the refusal.
async fn create_until_refused(docker: &Docker, acknowledged: &mut BTreeSet<String>) -> (u16, String) {
    for n in 0..LAST_ONES {
        let name = format!("late{n}");
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let body = ContainerCreateBody { image: Some("host".to_owned()), ..Default::default() };
        match docker.create_container(Some(options), body).await {
            Ok(_) => acknowledged.insert(format!("/{name}")),
            Err(Error::DockerResponseServerError { status_code, message }) => return (status_code, message),
            Err(other) => panic!("{other}"),
        };
    }
    panic!("the disk is not full");
}

/// A daemon whose disk fills up while a program runs, and gets room again after the program has ended.
async fn survives_a_full_disk(kind: &str) {
    let home = Home::new();
    let Some(disk) = SmallDisk::over(&home.directory(), 4_096, &format!("a full disk, {kind}")) else { return };
    let (ran, gate, ended) = (home.shared("ran"), home.shared("gate"), home.shared("ended"));
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &[]).await;
    let docker = account.docker();
    let script = format!(
        "echo ran >> {}; until [ -e {} ]; do sleep 0.05; done; echo x >> {}; exit 7",
        ran.display(),
        gate.display(),
        ended.display()
    );
    create(&docker, "job", &script, &[("sockerless.lambda.invocation-type", kind)]).await;
    start(&docker, "job").await;
    until("the program runs", async || (lines(&ran) == 1).then_some(())).await;

    disk.fill();
    let mut acknowledged = BTreeSet::from(["/job".to_owned()]);
    let (status, message) = create_until_refused(&docker, &mut acknowledged).await;
    assert_eq!((status, message.as_str()), (500, "the database cannot be written: database or disk is full"));
    let reason = account.until_problem("store").await;
    assert!(reason.contains("database or disk is full"), "{reason}");
    assert_eq!(inspect(&docker, "job").await.state.unwrap().running, Some(true), "reads are served");
    std::fs::write(&gate, "").unwrap();
    until("the program has ended", async || (lines(&ended) == 1).then_some(())).await;

    disk.make_room();
    account.until_ready().await;
    assert_eq!(wait(&docker, "job").await, 7);
    assert_eq!((lines(&ran), aws.state()["invocations"].as_array().unwrap().len()), (1, 1), "it ran once");
    let options = ListContainersOptionsBuilder::default().all(true).build();
    let listed = docker.list_containers(Some(options)).await.unwrap();
    let names: BTreeSet<String> = listed.into_iter().flat_map(|one| one.names.unwrap()).collect();
    assert_eq!(names, acknowledged, "all that was acknowledged, and nothing that was refused");
    tokio::time::timeout(Duration::from_secs(60), create(&docker, "after", "true", &[])).await.unwrap();
    account.stop();
}

#[tokio::test]
async fn a_request_response_run_ends_right_on_a_full_disk() {
    survives_a_full_disk("RequestResponse").await;
}

#[tokio::test]
async fn an_event_run_ends_right_on_a_full_disk() {
    survives_a_full_disk("Event").await;
}
