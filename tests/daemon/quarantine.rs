//! A daemon beside rows that cannot be read.

use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions, StartContainerOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::docker::{create, inspect, start, wait};
use crate::support::{Account, Aws, Home, until};

const OFTEN: [&str; 4] = ["--gc-interval", "1s", "--gc-grace", "1s"];

async fn damage(home: &Home, sql: &[&str]) {
    let mut connection = SqliteConnectOptions::new().filename(home.database()).connect().await.unwrap();
    for sql in ["PRAGMA ignore_check_constraints = ON"].iter().chain(sql) {
        sqlx::query(AssertSqlSafe((*sql).to_owned())).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

async fn removed_by_force(account: &Account, name: &str) {
    let force = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
    account.docker().remove_container(name, Some(force)).await.unwrap();
}

/// Waits for some more sweeps.
async fn sweeps(aws: &Aws) {
    let so_far = aws.calls()["ListFunctions"];
    until("it sweeps", async || (aws.calls()["ListFunctions"] > so_far + 3).then_some(())).await;
}

/// One container's run was issued when its row was damaged: it is not invoked again, and nothing else is different.
#[tokio::test]
async fn daemon_beside_unreadable_rows_serves_all_others_and_removes_them_with_their_functions() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &[]).await;
    let docker = account.docker();
    create(&docker, "web", "sleep 3", &[]).await;
    create(&docker, "job", "exit 5", &[]).await;
    start(&docker, "web").await;
    until("it is invoked", async || aws.calls().contains_key("Invoke").then_some(())).await;
    until("both have functions", async || (aws.functions().len() == 2).then_some(())).await;
    account.kill();
    damage(
        &home,
        &[
            "UPDATE container SET status = replace(status, '\"restarts\":0', '\"restarts\":-1'), due_at = 1 \
             WHERE name = 'web'",
            "UPDATE event SET attributes = 'x' WHERE seq = 1",
            "INSERT INTO tombstone (id, name, exit_code, at) VALUES (zeroblob(32), 'x', 256, 1)",
        ],
    )
    .await;

    let account = Account::serving(&home, &aws, &OFTEN).await;
    let metric = "sockerless_unreadable_rows{table=\"container\"} 1";
    until("the rows are found", async || {
        let metrics = account.metrics();
        let all = [metric, "unreadable_rows{table=\"event\"} 1", "unreadable_rows{table=\"tombstone\"} 1"];
        all.iter().all(|line| metrics.contains(line)).then_some(())
    })
    .await;
    let (status, ready) = account.ready().unwrap();
    assert_eq!((status, &ready["status"]), (200, &"degraded".into()), "{ready}");
    until("it is counted", async || {
        account.metrics().contains("sockerless_containers{state=\"dead\"} 1").then_some(())
    })
    .await;
    let docker = account.docker();
    let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
    let listed = docker.list_containers(Some(all)).await.unwrap();
    assert_eq!(listed[1].status.as_deref(), Some("Dead"), "{listed:?}");
    assert_eq!(inspect(&docker, "web").await.state.unwrap().dead, Some(true));
    let refused = docker.start_container("web", None::<StartContainerOptions>).await.unwrap_err();
    assert!(refused.to_string().contains("its record cannot be read"), "{refused}");
    start(&docker, "job").await;
    assert_eq!(wait(&docker, "job").await, 5);
    sweeps(&aws).await;
    assert_eq!((aws.calls()["Invoke"], aws.functions().len()), (2, 2), "each was invoked once");

    removed_by_force(&account, "web").await;
    until("its function is deleted", async || (aws.functions().len() == 1).then_some(())).await;
    until("its row is gone", async || {
        account.metrics().contains("sockerless_containers{state=\"dead\"} 0").then_some(())
    })
    .await;
    assert!(account.metrics().contains("sockerless_unreadable_rows{table=\"container\"} 0"));
    account.stop();
}

#[tokio::test]
async fn row_without_a_readable_id_protects_every_function_until_it_is_removed() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &OFTEN).await;
    create(&account.docker(), "web", "true", &[]).await;
    until("it has a function", async || (aws.functions().len() == 1).then_some(())).await;
    account.stop();
    damage(&home, &["UPDATE container SET id = x'01'"]).await;

    let account = Account::serving(&home, &aws, &OFTEN).await;
    sweeps(&aws).await;
    assert_eq!(aws.functions().len(), 1, "any function may be its own");
    removed_by_force(&account, "web").await;
    until("its function is deleted", async || aws.functions().is_empty().then_some(())).await;
    account.stop();
}

/// A database with one container, whose function is in AWS; no daemon has it open.
async fn with_a_function() -> (Home, Aws) {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &[]).await;
    create(&account.docker(), "web", "true", &[]).await;
    until("it has a function", async || (aws.functions().len() == 1).then_some(())).await;
    account.stop();
    (home, aws)
}

#[tokio::test]
async fn database_without_a_readable_id_serves_and_changes_nothing_in_aws() {
    let (home, aws) = with_a_function().await;
    damage(&home, &["UPDATE instance SET id = 'x'"]).await;

    let calls = aws.calls();
    let account = Account::start(&home, &aws.endpoint, "sandbox", &["--adopt"]);
    let reason = account.until_problem("ownership").await;
    assert!(reason.contains("row 1 of the table instance cannot be read: id"), "{reason}");
    let docker = account.docker();
    create(&docker, "more", "true", &[]).await;
    let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
    assert_eq!(docker.list_containers(Some(all)).await.unwrap().len(), 2);
    assert_eq!(docker.info().await.unwrap().containers, Some(2));
    assert_eq!(aws.calls(), calls, "nothing was asked of AWS");
    account.stop();
}

/// It serves as with a doubt: where its functions are is not known any more.
#[tokio::test]
async fn database_without_a_readable_binding_serves_and_changes_nothing_until_it_is_adopted() {
    let (home, aws) = with_a_function().await;
    let changes = || {
        let calls = aws.calls();
        calls.into_iter().filter(|(name, _)| !name.starts_with("Describe")).collect::<Vec<_>>()
    };
    for (n, damage) in
        ["region = NULL", "function_prefix = CAST(x'ff' AS TEXT)", "claims_log_group = ''"].iter().enumerate()
    {
        damage_binding(&home, damage).await;
        let before = changes();
        let account = Account::start(&home, &aws.endpoint, "sandbox", &[]);
        let reason = account.until_problem("ownership").await;
        assert!(reason.contains("its binding cannot be read") && reason.contains("--adopt"), "{damage}: {reason}");
        let docker = account.docker();
        create(&docker, &format!("more{n}"), "true", &[]).await;
        start(&docker, &format!("more{n}")).await;
        let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        assert_eq!(docker.list_containers(Some(all)).await.unwrap().len(), n + 2, "{damage}");
        assert_eq!(changes(), before, "{damage}");
        account.stop();

        let account = Account::serving(&home, &aws, &["--adopt"]).await;
        create(&account.docker(), "again", "exit 5", &[]).await;
        start(&account.docker(), "again").await;
        assert_eq!(wait(&account.docker(), "again").await, 5, "{damage}");
        removed_by_force(&account, "again").await;
        account.stop();
        Account::serving(&home, &aws, &[]).await.stop();
    }
}

async fn damage_binding(home: &Home, damage: &str) {
    self::damage(home, &[&format!("UPDATE instance SET {damage}")]).await;
}
