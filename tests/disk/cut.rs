//! The real daemon on a database whose log was cut off: it must not run again what it has run.

use std::fs;
use std::path::Path;

use crate::all_rows::all_rows;
use crate::docker::{create, inspect, start, wait};
use crate::in_place::in_place;
use crate::support::{Account, Aws, Home, lines, until};

/// Where the log is cut, in parts of a whole.
const PARTS: u64 = 6;

fn beside(home: &Home, end: &str) -> std::path::PathBuf {
    let mut path = home.database().into_os_string();
    path.push(end);
    path.into()
}

/// The files of a killed daemon in another place, with so many bytes of the log.
fn restored(from: &Home, log_bytes: u64) -> Home {
    let home = Home::new();
    fs::create_dir_all(home.directory()).unwrap();
    for end in ["", ".mark"] {
        fs::copy(beside(from, end), beside(&home, end)).unwrap();
    }
    let log = fs::read(beside(from, "-wal")).unwrap();
    fs::write(beside(&home, "-wal"), log.get(..usize::try_from(log_bytes).unwrap()).unwrap()).unwrap();
    in_place(&home.database());
    home
}

fn invocations(aws: &Aws) -> usize {
    aws.state()["invocations"].as_array().unwrap().len()
}

/// A daemon's life: one container that has run, and was told as exited. Then the daemon is killed.
async fn lived(home: &Home, aws: &Aws, ran: &Path) {
    let account = Account::serving(home, aws, &[]).await;
    let docker = account.docker();
    create(&docker, "job", &format!("echo ran >> {}; exit 5", ran.display()), &[]).await;
    start(&docker, "job").await;
    assert_eq!(wait(&docker, "job").await, 5);
    drop(account);
}

#[tokio::test]
async fn what_was_run_is_not_run_again_from_a_cut_log() {
    let home = Home::new();
    let (aws, ran) = (Aws::start(&home), home.shared("ran"));
    lived(&home, &aws, &ran).await;
    let length = fs::metadata(beside(&home, "-wal")).unwrap().len();
    let mut by_the_mark = 0;
    for part in 0..PARTS {
        let copy = restored(&home, length * part / PARTS);
        let account = Account::start(&copy, &aws.endpoint, "sandbox", &[]);
        let reason = account.until_problem("ownership").await;
        assert!(reason.contains("--adopt"), "{part}: {reason}");
        by_the_mark += u64::from(reason.contains("the last ones are lost"));
        assert_eq!((invocations(&aws), lines(&ran)), (1, 1), "{part}: nothing is run");
        account.stop();
    }
    assert!(by_the_mark >= PARTS / 2, "the epoch alone would not have told");
    // The whole log is no backup: the daemon goes on where it was.
    let account = Account::serving(&home, &aws, &[]).await;
    let state = inspect(&account.docker(), "job").await.state.unwrap();
    assert_eq!((state.exit_code, invocations(&aws)), (Some(5), 1));
    account.stop();
}

/// The log is cut right after the start was acknowledged, so the database does not know that it was invoked.
#[tokio::test]
async fn an_adopted_database_does_not_run_the_starts_of_before() {
    let home = Home::new();
    let (aws, ran) = (Aws::start(&home), home.shared("ran"));
    let account = Account::serving(&home, &aws, &[]).await;
    let docker = account.docker();
    create(&docker, "job", &format!("echo ran >> {}; exit 5", ran.display()), &[]).await;
    until("the function is ready", async || {
        (aws.state()["functions"][0]["state"] == "Active" && settled(&home).await).then_some(())
    })
    .await;
    let before = fs::metadata(beside(&home, "-wal")).unwrap().len();
    start(&docker, "job").await;
    let recorded = first_commit_after(&home, before);
    assert_eq!(wait(&docker, "job").await, 5);
    drop(account);

    let copy = restored(&home, recorded);
    let account = Account::serving(&copy, &aws, &["--adopt"]).await;
    assert_eq!(wait(&account.docker(), "job").await, 125, "nobody can tell what became of it");
    assert_eq!((invocations(&aws), lines(&ran)), (1, 1), "it is not run again");
    account.stop();
}

/// Whether the daemon has nothing more to write of its one container.
async fn settled(home: &Home) -> bool {
    use sockerless_lambda::state::{Store, StoreOptions};
    let store = Store::open(&StoreOptions { path: home.database(), read_only: true }).await.unwrap();
    let rows = all_rows(&store.facts()).await.unwrap();
    store.close().await.unwrap();
    rows.iter().all(|row| row.as_ref().unwrap().due_at.is_none())
}

/// Where in the log the first commit ends that begins at `offset`: its last frame has the size of the database.
fn first_commit_after(home: &Home, offset: u64) -> u64 {
    const FRAME: usize = 24 + 4_096;
    let log = fs::read(beside(home, "-wal")).unwrap();
    let mut end = usize::try_from(offset).unwrap();
    loop {
        let frame = log.get(end..end + FRAME).unwrap();
        end += FRAME;
        if frame[4..8] != [0; 4] {
            return u64::try_from(end).unwrap();
        }
    }
}
