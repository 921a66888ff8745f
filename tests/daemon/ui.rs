//! The status page: what it tells, what it keeps to itself, and what a real browser makes of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptions;
use serde_json::{Value, json};

use crate::docker::{create, start, wait};
use crate::support::{Account, Aws, Home, http, until};

fn state(daemon: &Account) -> Value {
    let (status, body) = http(&daemon.metrics, "GET", "/ui/state", "").unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn container<'a>(state: &'a Value, name: &str) -> &'a Value {
    let all = state["containers"].as_array().unwrap();
    all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}: {state}"))
}

/// Chromium on a page, with its clock run ahead; `None`: it is not installed.
fn chromium(home: &Home, daemon: &Account, args: &[&str]) -> Option<Vec<u8>> {
    let profile = home.directory().join("chromium");
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]);
    command.args(["--virtual-time-budget=7000", "--window-size=1180,760"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.args(args).arg(format!("http://{}/ui", daemon.metrics)).env("HOME", home.directory());
    match command.stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Ok(output) => Some(output.stdout),
        Err(_) => {
            println!("SKIPPED: chromium is not installed; the page was not shown");
            None
        }
    }
}

/// One container of each kind, one of them refused by AWS.
async fn busy(home: &Home, aws: &Aws) -> Account {
    let daemon = Account::serving(home, aws, &[]).await;
    let docker = daemon.docker();
    let secret = ContainerCreateBody {
        image: Some("host".to_owned()),
        cmd: Some(["sh", "-c", "true # hidden-command"].map(str::to_owned).to_vec()),
        env: Some(vec!["PASSWORD=hidden-value".to_owned()]),
        labels: Some([("sockerless.lambda.payload".to_owned(), "\"hidden-payload\"".to_owned())].into()),
        ..ContainerCreateBody::default()
    };
    let named = CreateContainerOptions { name: Some("nightly-report".to_owned()), ..CreateContainerOptions::default() };
    docker.create_container(Some(named), secret).await.unwrap();
    start(&docker, "nightly-report").await;
    assert_eq!(wait(&docker, "nightly-report").await, 0);
    create(&docker, "import", "exit 3", &[]).await;
    start(&docker, "import").await;
    assert_eq!(wait(&docker, "import").await, 3);
    create(&docker, "thumbnails", "sleep 600", &[]).await;
    start(&docker, "thumbnails").await;
    until("it runs", async || (container(&state(&daemon), "thumbnails")["phase"] == "issued").then_some(())).await;
    aws.set_faults(&json!({ "rules": [{ "operation": "CreateFunction", "kind": { "type": "access_denied" } }] }));
    create(&docker, "refused", "true", &[]).await;
    until("AWS refuses", async || (!state(&daemon)["errors"].as_array().unwrap().is_empty()).then_some(())).await;
    daemon
}

#[tokio::test]
async fn the_page_tells_what_goes_on_and_keeps_secrets() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let daemon = busy(&home, &aws).await;

    let seen = state(&daemon);
    assert_eq!(container(&seen, "nightly-report")["exit_code"], 0);
    let import = container(&seen, "import");
    assert_eq!(
        (&import["state"], &import["exit_code"], &import["cause"]),
        (&json!("exited"), &json!(3), &json!("exited"))
    );
    assert_eq!(container(&seen, "thumbnails")["state"], "running");
    assert_eq!((&seen["ready"], &seen["runs"]["in_flight"]), (&json!(true), &json!(1.0)));
    assert_eq!(
        (&seen["runs"]["by_outcome"]["success"], &seen["runs"]["by_outcome"]["failure"]),
        (&json!(1.0), &json!(1.0))
    );
    assert_eq!(seen["errors"][0]["action"], "CreateFunction");
    assert!(seen["errors"][0]["message"].as_str().unwrap().contains("not authorized"), "{seen}");
    let control = seen["quota"].as_array().unwrap().iter().find(|one| one["bucket"] == "control_plane").unwrap();
    assert_eq!(control["per_second"], 12.0, "0.8 of 15");
    assert!(control["calls"].as_f64().unwrap() >= 4.0, "{control}");
    assert!(!seen.to_string().contains("hidden"), "{seen}");
    assert_eq!(http(&daemon.metrics, "POST", "/ui/state", "").unwrap().0, 404);

    // What a browser makes of it: shown, asked for again, and nothing of it run.
    let Some(page) = chromium(&home, &daemon, &["--dump-dom"]) else { return };
    let page = String::from_utf8(page).unwrap();
    for words in ["nightly-report", "exited (3)", "thumbnails", "CreateFunction", "not authorized", "control plane"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let polls = page.split("data-polls=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(polls.parse::<u32>().unwrap() >= 2, "it is asked for again while it is shown: {polls}");

    let picture = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("ui.png");
    let _ = std::fs::remove_file(&picture);
    chromium(&home, &daemon, &[&format!("--screenshot={}", picture.display())]).unwrap();
    let png = std::fs::read(&picture).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{} bytes", png.len());
    let kept = std::fs::metadata(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ui.png")).unwrap();
    assert!(kept.len() < 150_000, "the README's picture has {} bytes", kept.len());
}

/// A page that says that AWS is away, while it is.
#[tokio::test]
async fn what_is_wrong_stands_at_the_top() {
    let home = Home::new();
    let nobody = format!("http://{}", crate::support::free_address());
    let daemon = Account::start(&home, &nobody, "sandbox", &[]);
    daemon.until_problem("aws").await;
    let seen = state(&daemon);
    assert_eq!(seen["ready"], false);
    assert!(seen["problems"]["aws"].is_string(), "{seen}");
    let Some(page) = chromium(&home, &daemon, &["--dump-dom"]) else { return };
    assert!(String::from_utf8(page).unwrap().contains("<li>aws: "));
}
