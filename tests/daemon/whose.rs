//! Whose database, socket and AWS account is this?

use std::net::TcpListener;

use serde_json::json;

use crate::docker::{create, start, wait};
use crate::support::{Account, Aws, Home, ROLE, free_address, keys, remember_keys, until};

fn functions(aws: &Aws) -> usize {
    aws.state()["functions"].as_array().unwrap().len()
}

/// With region, role and credentials the same binary needs no sandbox: the SDK is pointed at another endpoint, that is all.
#[tokio::test]
async fn an_account_needs_only_region_and_role() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &[]).await;
    let docker = account.docker();
    create(&docker, "job", "exit 5", &[]).await;
    start(&docker, "job").await;
    assert_eq!(wait(&docker, "job").await, 5);
    account.stop();
}

/// A database with a container and its function, and a copy of it that was made while no daemon had it.
async fn copied() -> (Home, Home, Aws) {
    let (home, copy) = (Home::new(), Home::new());
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &[]).await;
    create(&account.docker(), "job", "exit 5", &[]).await;
    until("the function is there", async || (functions(&aws) == 1).then_some(())).await;
    account.stop();
    std::fs::create_dir_all(copy.directory()).unwrap();
    std::fs::copy(home.database(), copy.database()).unwrap();
    (home, copy, aws)
}

#[tokio::test]
async fn a_copied_database_changes_nothing_until_it_is_adopted() {
    let (home, copy, aws) = copied().await;
    let account = Account::serving(&home, &aws, &[]).await;

    let other = Account::start(&copy, &aws.endpoint, "sandbox", &[]);
    let reason = other.until_problem("ownership").await;
    assert!(reason.contains("--adopt"), "{reason}");
    let docker = other.docker();
    assert!(docker.inspect_container("job", None).await.is_ok(), "reads are served");
    start(&docker, "job").await;
    docker
        .remove_container(
            "job",
            Some(bollard::query_parameters::RemoveContainerOptions { force: true, ..Default::default() }),
        )
        .await
        .unwrap();
    assert_eq!(functions(&aws), 1, "the copy changes nothing");
    other.stop();

    account.stop();
    let adopted = Account::serving(&copy, &aws, &["--adopt"]).await;
    until("the adopted database cleans up", async || (functions(&aws) == 0).then_some(())).await;
    let invoked = &aws.state()["invocations"];
    assert!(invoked.as_array().unwrap().is_empty(), "nothing of before the adoption is run: {invoked}");
    adopted.stop();
}

#[tokio::test]
async fn a_database_that_was_adopted_elsewhere_is_given_up() {
    let (home, copy, aws) = copied().await;
    let account = Account::serving(&home, &aws, &["--gc-interval", "1s"]).await;

    let adopted = Account::serving(&copy, &aws, &["--adopt"]).await;
    let reason = account.until_problem("ownership").await;
    assert!(reason.contains("has claimed it since"), "{reason}");
    start(&account.docker(), "job").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(aws.calls().get("Invoke"), None, "who has lost it invokes nothing");
    account.stop();
    adopted.stop();
}

/// The binary with a database and settings that may not be those that it is bound to.
fn with_settings(home: &Home, aws: &Aws, settings: &[&str]) -> std::process::Command {
    let mut command = home.command(settings);
    command.args(["--endpoint-url", &aws.endpoint, "--database"]).arg(home.database());
    let (id, secret) = keys(&aws.endpoint).unwrap();
    command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
    command
}

/// Under another prefix, region or account a daemon would think that its functions are gone, make them again, and leave them
/// behind when their containers are removed.
#[tokio::test]
async fn changed_function_prefix_is_refused_with_a_sentence() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &[]).await;
    create(&account.docker(), "job", "exit 5", &[]).await;
    until("the function is there", async || (functions(&aws) == 1).then_some(())).await;
    account.stop();

    let other_role = "arn:aws:iam::111111111111:role/job";
    for (settings, sentence) in [
        (["us-east-1", ROLE, "job", "/sockerless/lambda-claims"], r#"function_prefix was "skls" and is now "job""#),
        (["eu-west-1", ROLE, "skls", "/sockerless/lambda-claims"], r#"region was "us-east-1" and is now "eu-west-1""#),
        (
            ["us-east-1", other_role, "skls", "/sockerless/lambda-claims"],
            r#"the account was "000000000000" and is now "111111111111""#,
        ),
        (["us-east-1", ROLE, "skls", "/c"], r#"claims_log_group was "/sockerless/lambda-claims" and is now "/c""#),
    ] {
        let [region, role, prefix, claims] = settings;
        let settings =
            ["--region", region, "--role-arn", role, "--function-prefix", prefix, "--claims-log-group", claims];
        let orders = [&[][..], &["--adopt"], &["--reconcile-once"], &["--reconcile-once", "--dry-run"]];
        for order in orders {
            let output = with_settings(&home, &aws, &[&settings[..], order].concat()).output().unwrap();
            let words = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{order:?}: {words}");
            let words = words.replace("\\\"", "\"");
            assert!(words.contains(sentence), "{order:?}: {words}");
            assert!(words.contains("Set the old value again, or name another `database`"), "{words}");
        }
        let doctor = [&["doctor", "--listen", "tcp://127.0.0.1:0"], &settings[..]].concat();
        let output = with_settings(&home, &aws, &doctor).output().unwrap();
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(report.contains("WRONG      settings of the database: ") && report.contains(sentence), "{report}");
        assert_eq!(output.status.code(), Some(1));
    }
    let output = home.command(&["--sandbox"]).arg("--database").arg(home.database()).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "the embedded sandbox is no account of AWS");
    assert_eq!(functions(&aws), 1);

    let account = Account::serving(&home, &aws, &[]).await;
    let force = bollard::query_parameters::RemoveContainerOptions { force: true, ..Default::default() };
    account.docker().remove_container("job", Some(force)).await.unwrap();
    until("nothing is left behind", async || (functions(&aws) == 0).then_some(())).await;
    account.stop();
}

/// The credentials decide in whose account AWS looks, whatever the role says.
#[tokio::test]
async fn credentials_of_another_account_change_nothing() {
    let home = Home::new();
    let aws = Aws::start(&home);
    std::fs::create_dir_all(home.directory()).unwrap();
    let role = "arn:aws:iam::111111111111:role/job";
    let settings = ["--region", "us-east-1", "--role-arn", role];
    for order in [&["--reconcile-once"][..], &["--reconcile-once", "--dry-run"]] {
        let output = with_settings(&home, &aws, &[&settings[..], order].concat()).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        let sentence = "the credentials are of the account 000000000000, role_arn is of the account 111111111111";
        assert!(words.contains(sentence), "{words}");
        assert_eq!(aws.calls().get("CreateLogStream"), None, "nothing is claimed");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_at_the_start_is_waited_for() {
    let home = Home::new();
    let (aws, address) = (Aws::start(&home), free_address());
    let down = format!("http://{address}");
    remember_keys(&down, keys(&aws.endpoint).unwrap());
    let account = Account::start(&home, &down, "sandbox", &[]);
    let reason = account.until_problem("aws").await;
    assert!(reason.contains("logs"), "{reason}");
    let docker = account.docker();
    create(&docker, "job", "exit 5", &[]).await;
    start(&docker, "job").await;

    let relay = Relay::start(&address, &aws.endpoint);
    assert_eq!(wait(&docker, "job").await, 5);
    account.until_ready().await;
    account.stop();
    drop(relay);
}

#[tokio::test]
async fn wrong_credentials_are_told_and_nothing_is_lost() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::start(&home, &aws.endpoint, "wrong", &[]);
    let reason = account.until_problem("aws").await;
    assert!(reason.contains("security token"), "{reason}");
    create(&account.docker(), "job", "exit 5", &[]).await;
    account.stop();
    let account = Account::serving(&home, &aws, &[]).await;
    start(&account.docker(), "job").await;
    assert_eq!(wait(&account.docker(), "job").await, 5);
    account.stop();
}

/// Without lambda:ListTags GetFunction tells no tags. What was just made is not taken for somebody else's and made again.
#[tokio::test]
async fn without_the_right_to_read_tags_nothing_is_made_twice() {
    for hidden in ["silently", "with_an_error"] {
        let home = Home::new();
        let aws = Aws::start(&home);
        aws.set_faults(&json!({ "hidden_tags": hidden }));
        let account = Account::serving(&home, &aws, &[]).await;
        create(&account.docker(), "job", "exit 5", &[]).await;
        until("it was looked at a few times", async || {
            aws.calls().get("GetFunction").is_some_and(|looks| *looks >= 3).then_some(())
        })
        .await;
        assert_eq!((aws.functions().len(), aws.calls()["CreateFunction"]), (1, 1), "{hidden}");
        aws.set_faults(&json!({}));
        start(&account.docker(), "job").await;
        assert_eq!(wait(&account.docker(), "job").await, 5, "{hidden}");
        assert_eq!(aws.calls()["CreateFunction"], 1, "{hidden}");
        account.stop();
    }
}

/// A right that is limited to functions with our tags is denied for one that is gone: so a denial leads to a look first.
#[tokio::test]
async fn a_denied_invocation_looks_before_it_gives_up() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &[]).await;
    for (denials, code) in [(1, 5), (2, 125)] {
        let rule = json!({"operation": "Invoke", "to": denials, "kind": {"type": "access_denied"}});
        aws.set_faults(&json!({ "rules": [rule] }));
        let name = format!("job-{denials}");
        create(&account.docker(), &name, "exit 5", &[]).await;
        start(&account.docker(), &name).await;
        assert_eq!(wait(&account.docker(), &name).await, code, "{denials} denials");
    }
    account.stop();
}

#[tokio::test]
async fn a_second_daemon_on_the_same_database_is_refused() {
    let home = Home::new();
    let _daemon = home.serve();
    let listen = format!("unix://{}", home.shared("other.sock").display());
    let output = home.command(&["--sandbox", "--listen", &listen]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("in use by another daemon"), "{words}");
}

#[tokio::test]
async fn a_socket_of_a_live_daemon_is_refused_and_a_dead_ones_is_taken_over() {
    let (home, other) = (Home::new(), Home::new());
    let daemon = home.serve();
    let listen = format!("unix://{}", home.socket().display());
    let output = other.command(&["--sandbox", "--listen", &listen]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("docker.sock"), "{words}");
    daemon.kill();
    assert!(home.socket().exists(), "a killed daemon leaves its socket");
    let taken_over = other.serve_with(&["--sandbox", "--listen", &listen]);
    assert!(taken_over.docker().ping().await.is_ok());
}

/// Hands connections on, so that a daemon's endpoint can appear later than the daemon.
struct Relay {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Relay {
    fn start(address: &str, endpoint: &str) -> Self {
        use std::net::{Shutdown, TcpStream};
        use std::sync::atomic::Ordering;
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let listener = TcpListener::bind(address).unwrap();
        let target = endpoint.strip_prefix("http://").unwrap().to_owned();
        let stopped = std::sync::Arc::clone(&stop);
        std::thread::spawn(move || {
            for inward in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(outward) = TcpStream::connect(&target) else { return };
                for (mut from, mut to) in
                    [(inward.try_clone().unwrap(), outward.try_clone().unwrap()), (outward, inward)]
                {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Self { stop }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}
