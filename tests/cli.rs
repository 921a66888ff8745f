//! The command line, and the real binary as far as it needs no AWS.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::path::Path;
use std::process::{Command as Process, Output as Ended, Stdio};
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use sockerless_lambda::cli::{Cli, Command, RunArgs};
use sockerless_lambda::config::{Environment, KEYS, Place, markdown_table};
use sockerless_lambda::reconcile_once::Output;

fn parse(arguments: &[&str]) -> Cli {
    Cli::try_parse_from([&["sockerless-backend-lambda"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"))
}

fn run(arguments: &[&str]) -> RunArgs {
    match parse(arguments).command {
        Some(Command::Run(run)) => *run,
        other => panic!("not run: {other:?}"),
    }
}

/// The real binary, with an environment of its own.
fn binary(directory: &Path) -> Process {
    let mut process = Process::new(env!("CARGO_BIN_EXE_sockerless-backend-lambda"));
    process.env_clear().env("XDG_STATE_HOME", directory).stdin(Stdio::null());
    process
}

fn texts(output: &Ended) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn without_a_command_it_serves() {
    let cli = parse(&["--region", "eu-west-1", "--listen", "tcp://127.0.0.1:1", "--listen=unix:///x", "--adopt"]);
    assert!(cli.command.is_none() && cli.serve.adopt && !cli.sandbox());
    let sources = cli.sources(Environment::default());
    assert_eq!(sources.flags["listen"], ["tcp://127.0.0.1:1", "unix:///x"]);
    assert_eq!((sources.place, sources.adopt), (Place::System, true));
}

#[test]
fn settings_count_before_and_after_the_command() {
    for arguments in [
        ["--sandbox", "--timeout", "5", "run", "--config=/c.yaml", "host"].as_slice(),
        &["run", "--sandbox", "--timeout", "5", "--config", "/c.yaml", "host"],
    ] {
        let sources = parse(arguments).sources(Environment::default());
        assert_eq!(sources.flags["timeout"], ["5"], "{arguments:?}");
        assert_eq!(sources.place, Place::Sandbox);
        assert_eq!(sources.file.as_deref(), Some(Path::new("/c.yaml")));
    }
    assert_eq!(parse(&["run", "host"]).sources(Environment::default()).place, Place::User);
    assert_eq!(parse(&["sandbox"]).sources(Environment::default()).place, Place::Sandbox);
}

#[test]
fn directories_of_images_are_the_sandboxs() {
    let arguments = ["run", "--sandbox", "--sandbox-images", "/a", "--sandbox-images=b", "host"];
    let sources = parse(&arguments).sources(Environment::default());
    assert_eq!(sources.sandbox_images, [Path::new("/a").to_owned(), std::path::absolute("b").unwrap()]);
    assert_eq!(parse(&["sandbox", "--sandbox-images", "/a"]).contradiction(), None);
    assert!(parse(&["--sandbox-images", "/a"]).contradiction().is_some());
}

#[test]
fn all_behind_the_image_is_the_command() {
    let args = run(&["run", "host", "sh", "-c", "exit 3", "--sandbox", "--timeout", "5", "--help"]);
    assert_eq!(args.image, "host");
    assert_eq!(args.command, ["sh", "-c", "exit 3", "--sandbox", "--timeout", "5", "--help"]);
    assert!(run(&["run", "host"]).command.is_empty());
    assert_eq!(run(&["run", "host", "sh", "--", "-x"]).command, ["sh", "--", "-x"]);
    assert_eq!(run(&["run", "host", "--", "-x"]).command, ["-x"], "one may stand between image and command");
}

#[test]
fn run_takes_its_options() {
    let args = run(&[
        "run",
        "-e",
        "A=1",
        "--env",
        "B",
        "--env-file",
        "/f",
        "-m",
        "256",
        "-l",
        "a=b",
        "--payload",
        "-",
        "--result",
        "--keep",
        "--name",
        "x",
        "--entrypoint",
        "/bin/sh",
        "-w",
        "/tmp",
        "host",
    ]);
    assert_eq!(
        (args.env, args.memory, args.label),
        (vec!["A=1".to_owned(), "B".to_owned()], Some(256), vec!["a=b".to_owned()])
    );
    assert_eq!((args.payload.as_deref(), args.result, args.keep), (Some("-"), true, true));
    assert_eq!(
        (args.name.as_deref(), args.entrypoint.as_deref(), args.workdir.as_deref()),
        (Some("x"), Some("/bin/sh"), Some("/tmp"))
    );
    for wrong in [&["run"][..], &["run", "-m", "64", "host"], &["run", "--nope", "host"], &["nope"]] {
        let arguments = [&["sockerless-backend-lambda"], wrong].concat();
        assert!(Cli::try_parse_from(arguments).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_program_of_the_bootstrap_keeps_its_flags() {
    match parse(&["bootstrap", "sh", "-c", "x", "--region", "y"]).command {
        Some(Command::Bootstrap(bootstrap)) => assert_eq!(bootstrap.command, ["sh", "-c", "x", "--region", "y"]),
        other => panic!("not bootstrap: {other:?}"),
    }
}

#[test]
fn a_switch_stands_alone_or_has_its_value_after_an_equals_sign() {
    for (argument, value) in [("--tlsverify", "true"), ("--tlsverify=false", "false")] {
        let cli = parse(&[argument, "run", "host"]);
        assert!(matches!(cli.command, Some(Command::Run(_))), "the command is not swallowed");
        assert_eq!(cli.sources(Environment::default()).flags["tlsverify"], [value]);
    }
}

#[test]
fn help_tells_every_setting() {
    let directory = tempfile::tempdir().unwrap();
    let output = binary(directory.path()).arg("--help").output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    for key in KEYS {
        let named = [" ", "["].iter().find_map(|after| stdout.split_once(&format!("--{}{after}", key.flag())));
        let help = named.unwrap_or_else(|| panic!("--{}", key.flag())).1;
        let help = help.split("\n      --").next().unwrap();
        for part in [key.meaning(), &key.allowed(), &format!("variable {}", key.variable())] {
            assert!(help.contains(part), "--{}: {part:?} is missing in {help}", key.flag());
        }
        assert!(key.default_text().is_empty() || help.contains(&format!("default {}", key.default_text())), "{help}");
    }
}

#[test]
fn mistakes_end_with_64_and_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["--nope"], "--nope"),
        (&["--print-config"], "region: it is required"),
        (
            &["--sandbox", "--print-config", "--memory-size", "64"],
            "memory_size: 64 is out of range (from the flag --memory-size); allowed: 128 to 10240 MB",
        ),
        (&["--sandbox", "--log-level", "inof"], "log_level: \"inof\" is no level (from the flag --log-level)"),
        (&["run", "--sandbox", "--config", "/does/not/exist.yaml", "host"], "/does/not/exist.yaml"),
        (&["run", "--sandbox-images", "/x", "host"], "--sandbox-images means nothing without --sandbox"),
    ];
    for (arguments, reason) in cases {
        let output = binary(directory.path()).args(*arguments).output().unwrap();
        let (stdout, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {stderr}");
        assert!(stdout.is_empty() && stderr.contains(reason), "{arguments:?}: {stderr}");
    }
}

#[test]
fn the_configuration_is_printed_with_its_sources() {
    let directory = tempfile::tempdir().unwrap();
    let output = binary(directory.path())
        .args(["--sandbox", "--print-config"])
        .env("SOCKERLESS_LAMBDA_TIMEOUT", "7")
        .output()
        .unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.starts_with("lambda:\n  region: us-east-1 # the default of --sandbox\n"), "{stdout}");
    assert!(stdout.contains("  timeout: 7 # the environment variable SOCKERLESS_LAMBDA_TIMEOUT\n"), "{stdout}");
    assert!(stdout.contains(&format!("{}/sockerless-lambda/lambda.db", directory.path().display())), "{stdout}");
    assert_eq!(directory.path().read_dir().unwrap().count(), 0, "printing makes nothing");
}

#[test]
fn the_table_of_keys_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let output = binary(directory.path()).arg("--print-config-table").output().unwrap();
    assert_eq!(texts(&output).0, markdown_table());
}

#[test]
fn completions_and_the_manual_page_tell_every_flag() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [["completions", "bash"].as_slice(), &["completions", "zsh"], &["completions", "fish"], &["man"]] {
        let output = binary(directory.path()).args(arguments).output().unwrap();
        let text = texts(&output).0.replace("\\-", "-");
        assert!(output.status.success(), "{arguments:?}");
        for key in KEYS {
            let flag = key.name().replace('_', "-");
            assert!(text.contains(&flag), "{arguments:?} has no {flag}");
        }
    }
}

#[test]
fn a_health_check_without_a_daemon_fails() {
    let directory = tempfile::tempdir().unwrap();
    let output = binary(directory.path()).args(["healthcheck", "--sandbox"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("no daemon answers"), "{output:?}");
}

/// What cron and systemd are told to run, and what the README shows, is what the command line takes.
#[test]
fn the_lines_for_cron_and_systemd_are_command_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["deploy/systemd/sockerless-reconcile.service", "deploy/cron/sockerless-reconcile", "README.md"];
    for file in files {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let lines = text.lines().filter(|line| line.contains("sockerless-backend-lambda --reconcile-once"));
        let mut orders = Vec::new();
        for line in lines {
            let (_, rest) = line.split_once("sockerless-backend-lambda ").unwrap();
            let arguments: Vec<&str> =
                rest.split_whitespace().take_while(|word| !word.starts_with(['#', '2', ')'])).collect();
            orders.push(parse(&arguments).serve.once.order().unwrap());
        }
        assert!(!orders.is_empty(), "{file}");
        for order in orders {
            assert_eq!((order.start, order.deadline), (false, Duration::from_secs(600)), "{file}");
        }
    }
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let cron = std::fs::read_to_string(root.join("deploy/cron/sockerless-reconcile")).unwrap();
    assert!(readme.contains(cron.lines().last().unwrap()), "the README shows the line for cron");
}

#[test]
fn one_pass_takes_its_options() {
    assert!(parse(&[]).serve.once.order().is_none());
    let once = parse(&["--reconcile-once", "--start", "--deadline", "90s", "--output", "json"]).serve.once;
    let order = once.order().unwrap();
    assert_eq!((order.dry_run, order.start, order.deadline), (false, true, Duration::from_secs(90)));
    assert_eq!(once.output, Some(Output::Json));
    assert!(parse(&["--reconcile-once", "--dry-run"]).serve.once.order().unwrap().dry_run);
}
