//! `doctor`: the real binary against an account that is well, and one thing after another that is not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::docker::{create, start, wait};
use crate::support::{Account, Aws, Home, ROLE, free_address, keys, remember_keys, until};

/// What doctor found, and its exit code.
struct Found {
    code: i32,
    report: Value,
}

impl Found {
    fn of(output: &Output) -> Self {
        let words = String::from_utf8_lossy(&output.stderr);
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"));
        Self { code: output.status.code().unwrap(), report }
    }

    /// The verdict of a check, what was seen, and what to do.
    fn check(&self, name: &str) -> (&str, &str, &str) {
        let all = self.report["findings"].as_array().unwrap();
        let one = all.iter().find(|one| one["check"] == name).unwrap_or_else(|| panic!("no {name}: {}", self.report));
        let text = |key: &str| one.get(key).map_or("", |text| text.as_str().unwrap());
        (text("verdict"), text("seen"), text("todo"))
    }

    /// Only these checks are wrong.
    fn assert_wrong(&self, expected: &[&str]) {
        let all = self.report["findings"].as_array().unwrap().iter();
        let wrong: Vec<&str> =
            all.filter(|one| one["verdict"] == "wrong").map(|one| one["check"].as_str().unwrap()).collect();
        assert_eq!(wrong, expected);
        assert_eq!(self.code, i32::from(!expected.is_empty()));
        assert_eq!(self.report["well"], expected.is_empty());
    }
}

fn doctor(home: &Home, endpoint: &str, args: &[&str]) -> Found {
    let mut command = home.account_command(endpoint, "sandbox");
    command.args(["doctor", "--output", "json", "--listen"]).arg(format!("unix://{}", home.socket().display()));
    Found::of(&command.args(args).output().unwrap())
}

fn with_directory() -> Home {
    let home = Home::new();
    std::fs::create_dir_all(home.directory()).unwrap();
    home
}

#[test]
fn an_account_that_is_well_and_nothing_is_changed() {
    let home = with_directory();
    let aws = Aws::start(&home);
    let found = doctor(&home, &aws.endpoint, &[]);
    found.assert_wrong(&[]);
    for check in ["region", "credentials", "clock", "role", "image registry", "database", "lambda:InvokeFunction"] {
        assert_eq!(found.check(check).0, "ok", "{check}");
    }
    let (verdict, _, todo) = found.check("lambda:CreateFunction");
    assert_eq!(
        (verdict, todo),
        ("not tried", "the daemon's policy must allow lambda:CreateFunction on the functions skls-*")
    );
    for group in ["log group /sockerless/lambda", "log group /sockerless/lambda-claims"] {
        assert!(found.check(group).1.contains("will be made"));
    }
    assert_eq!(std::fs::read_dir(home.directory()).unwrap().count(), 0);
    let asked: Vec<String> = aws.calls().into_keys().collect();
    let reads = [
        "DescribeLogGroups",
        "DescribeLogStreams",
        "FilterLogEvents",
        "GetFunction",
        "Invoke",
        "ListFunctions",
        "UpdateFunctionCode",
    ];
    assert_eq!(asked, reads);
    assert_eq!(aws.functions(), Vec::<String>::new());

    let text =
        home.account_command(&aws.endpoint, "sandbox").args(["doctor", "--listen", "tcp://127.0.0.1:0"]).output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    assert!(text.starts_with("ok         database: "), "{text}");
    assert!(text.trim_end().ends_with(" ok, 0 wrong, 16 not tried"), "{text}");
}

#[tokio::test]
async fn rights_that_are_missing() {
    let home = with_directory();
    let aws = Aws::start(&home);
    let denied = |operation: &str| json!({ "operation": operation, "kind": { "type": "access_denied" } });
    aws.set_faults(&json!({ "rules": [denied("Invoke"), denied("FilterLogEvents")] }));
    let found = doctor(&home, &aws.endpoint, &[]);
    found.assert_wrong(&["logs:FilterLogEvents"]);
    let (verdict, seen, _) = found.check("lambda:InvokeFunction");
    assert_eq!(verdict, "not tried", "a policy limited by tags says no to a name that is not there: {seen}");

    aws.create_function("skls-0a1b2c3d4e-0", r#""sockerless.managed-by":"sockerless-backend-lambda""#).await;
    let found = doctor(&home, &aws.endpoint, &[]);
    found.assert_wrong(&["lambda:InvokeFunction", "logs:FilterLogEvents"]);
    let (_, seen, todo) = found.check("lambda:InvokeFunction");
    assert!(seen.contains("not authorized"), "{seen}");
    assert_eq!(todo, "the daemon's policy must allow lambda:InvokeFunction on the functions skls-*");

    // A call too many is asked again; one that stays too many is told.
    let throttled = |operation: &str, to: u32| json!({"operation": operation, "to": to, "kind": {"type": "throttle"}});
    aws.set_faults(&json!({ "rules": [throttled("DescribeLogGroups", 3), throttled("GetFunction", 1_000)] }));
    let found = doctor(&home, &aws.endpoint, &[]);
    assert_eq!((found.check("credentials").0, found.check("logs:DescribeLogGroups").0), ("ok", "ok"));
    found.assert_wrong(&["lambda:GetFunction"]);
    assert!(found.check("lambda:GetFunction").1.starts_with("AWS cannot say: "));
}

#[test]
fn credentials_that_are_missing_or_not_known() {
    let home = with_directory();
    let aws = Aws::start(&home);
    let mut command = home.account_command(&aws.endpoint, "stranger");
    let found =
        Found::of(&command.args(["doctor", "--output", "json", "--listen", "tcp://127.0.0.1:0"]).output().unwrap());
    found.assert_wrong(&["credentials"]);
    assert_eq!(found.check("region").0, "ok", "a refusal is an answer");
    assert_eq!(found.check("clock").0, "ok", "and tells the time");
    assert_eq!(found.check("lambda:GetFunction").0, "not tried");

    let mut command = home.account_command(&aws.endpoint, "sandbox");
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("AWS_EC2_METADATA_DISABLED", "true").args([
        "doctor",
        "--output",
        "json",
        "--listen",
        "tcp://127.0.0.1:0",
    ]);
    let found = Found::of(&command.output().unwrap());
    found.assert_wrong(&["credentials"]);
    assert!(found.check("credentials").2.starts_with("give credentials"));
}

#[test]
fn an_endpoint_that_is_not_there_or_is_not_aws() {
    let home = with_directory();
    let nobody = format!("http://{}", free_address());
    let found = doctor(&home, &nobody, &[]);
    found.assert_wrong(&["region"]);
    assert!(found.check("region").2.contains("endpoint_url"));
    assert_eq!(found.check("credentials").0, "not tried");

    let page = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let found = doctor(&home, &format!("http://{}", between(move |_| page.to_owned())), &[]);
    found.assert_wrong(&["region"]);
    assert!(found.check("region").2.starts_with("something else than AWS answers"));
}

#[test]
fn a_clock_that_is_off() {
    let home = with_directory();
    let aws = Aws::start(&home);
    let address: SocketAddr = aws.endpoint.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let proxy = between(move |request| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head: Vec<&str> =
            head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("date:")).collect();
        format!("{}\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nconnection: close\r\n\r\n{body}", head.join("\r\n"))
    });
    let endpoint = format!("http://{proxy}");
    remember_keys(&endpoint, keys(&aws.endpoint).unwrap());
    let found = doctor(&home, &endpoint, &[]);
    found.assert_wrong(&["clock"]);
    let (_, seen, todo) = found.check("clock");
    assert!(seen.ends_with("s ahead of AWS's") && todo.contains("NTP"), "{seen}");
}

/// A server that answers each request on a connection of its own.
fn between(answer: impl Fn(&str) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let reply = answer(&request(&mut stream));
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    address
}

fn request(stream: &mut TcpStream) -> String {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece).unwrap();
        text.extend_from_slice(&piece[..read]);
        let so_far = String::from_utf8_lossy(&text);
        if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length:").map(|length| length.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return so_far.into_owned();
            }
        }
        assert!(read > 0, "the request broke off: {so_far}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_used() {
    let home = with_directory();
    let aws = Aws::start(&home);
    let seen = |what: &str| {
        let found = doctor(&home, &aws.endpoint, &[]);
        found.assert_wrong(&["database"]);
        let (_, seen, todo) = found.check("database");
        assert!(seen.contains(what) && !todo.is_empty(), "{seen}");
    };
    std::fs::create_dir(home.database()).unwrap();
    seen("it is a directory");
    std::fs::remove_dir(home.database()).unwrap();
    std::fs::write(home.database(), "a letter to a friend, which is not a database, but long enough").unwrap();
    seen("not a database");
    std::fs::remove_file(home.database()).unwrap();

    let url = format!("sqlite://{}?mode=rwc", home.database().display());
    let mut newer = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE _sqlx_migrations (version BIGINT); INSERT INTO _sqlx_migrations VALUES (9999)")
        .execute(&mut newer)
        .await
        .unwrap();
    newer.close().await.unwrap();
    seen("has schema version 9999");
    assert_eq!(std::fs::read_dir(home.directory()).unwrap().count(), 1, "nothing was put beside it");

    std::fs::remove_file(home.database()).unwrap();
    std::fs::remove_dir(home.directory()).unwrap();
    std::fs::write(home.directory(), "").unwrap();
    let found = doctor(&home, &aws.endpoint, &["--listen", "tcp://127.0.0.1:0"]);
    found.assert_wrong(&["database", &format!("address unix://{}", home.socket().display())]);
    assert!(found.check("database").1.contains("is no directory"));
}

#[tokio::test]
async fn a_daemon_that_runs_is_no_fault_and_a_stranger_is() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let daemon = Account::serving(&home, &aws, &[]).await;
    let own = home.directory().join("api.sock");
    let mut command = home.account_command(&aws.endpoint, "sandbox");
    command.args(["doctor", "--output", "json", "--listen"]).arg(format!("unix://{}", own.display()));
    let found = Found::of(&command.args(["--metrics-listen", &daemon.metrics]).output().unwrap());
    found.assert_wrong(&[]);
    assert!(found.check("database").1.ends_with("in use by the running daemon"));
    assert!(found.check("log group /sockerless/lambda").1.contains("exists"));
    assert!(found.check("log group /sockerless/lambda-claims").1.contains("no role of functions may"));
    assert_eq!(found.check("settings of the database").0, "ok");

    // Another configuration on the same database.
    let found = doctor(&home, &aws.endpoint, &[]);
    found.assert_wrong(&["database"]);
    assert!(found.check("database").1.contains("in use by another daemon"));
    daemon.stop();
    doctor(&home, &aws.endpoint, &[]).assert_wrong(&[]);
}

#[test]
fn addresses_certificates_roles_and_registries() {
    let home = with_directory();
    let aws = Aws::start(&home);
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", somebody.local_addr().unwrap());
    std::fs::write(home.socket(), "precious").unwrap();
    let file = |name: &str, text: &str| {
        let path = home.directory().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let CertifiedKey { cert, .. } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (file("cert.pem", &cert.pem()), file("key.pem", &other.signing_key.serialize_pem()));
    let args = ["--listen", &taken, "--tlscert", &cert, "--tlskey", &key];
    let found = doctor(&home, &aws.endpoint, &args);
    let socket = format!("address unix://{}", home.socket().display());
    found.assert_wrong(&[&socket, &format!("address {taken}"), "TLS"]);
    assert!(found.check(&socket).1.contains("not a socket"));

    let found = doctor(&home, &aws.endpoint, &["--listen", "tcp://127.0.0.1:0", "--region", "cn-north-1"]);
    found.assert_wrong(&[&socket, "role", "image registry"]);
    assert_eq!(std::fs::read_to_string(home.socket()).unwrap(), "precious");
}

#[test]
fn what_cannot_be_asked_is_a_mistake_of_the_command_line() {
    let home = with_directory();
    let code = |args: &[&str]| home.command(args).output().unwrap().status.code();
    assert_eq!(code(&["doctor", "--sandbox"]), Some(64));
    assert_eq!(code(&["doctor"]), Some(64), "region and role are missing");
    assert_eq!(code(&["doctor", "--output", "poem"]), Some(64));
}

/// Without rights on IAM: by what functions have written, and by what a daemon has seen.
#[tokio::test]
async fn role_whose_functions_write_no_logs_is_found_anew() {
    let home = Home::new();
    let aws = Aws::start(&home);
    Account::serving(&home, &aws, &[]).await.stop();
    let role = || {
        let found = doctor(&home, &aws.endpoint, &[]);
        let (verdict, seen, _) = found.check("role: output");
        (verdict.to_owned(), seen.to_owned())
    };
    assert_eq!(role().0, "not tried", "nothing has run");
    let url = format!("sqlite://{}", home.database().display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let record = sqlx::query("INSERT INTO role_without_logs VALUES (?1)").bind(ROLE);
    record.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let (verdict, seen) = role();
    assert!(verdict == "wrong" && seen.contains("write no logs"), "{verdict}: {seen}");

    let account = Account::serving(&home, &aws, &[]).await;
    create(&account.docker(), "job", "echo hello", &[]).await;
    start(&account.docker(), "job").await;
    assert_eq!(wait(&account.docker(), "job").await, 0);
    until("its lines are in the log", async || (role().0 == "ok").then_some(())).await;
    account.stop();
    let found = doctor(&home, &aws.endpoint, &[]);
    let (verdict, seen, todo) = found.check("role: claims");
    assert!(verdict == "not tried" && seen.contains("without rights on IAM"), "{seen}");
    assert!(todo.contains("AWSLambdaBasicExecutionRole"), "{todo}");
}
