//! The rules of the rooms, read off the source: who may name whom.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below a directory of this repository.
fn sources(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(below)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "no sources below {below}");
    found
}

/// The files below `below` with a line that names one of `words`. Comments count: a room does not even talk of the others.
fn naming<'a>(below: &str, words: &'a [&str]) -> Vec<(PathBuf, &'a str)> {
    sources(below)
        .into_iter()
        .flat_map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let named: Vec<&str> = words.iter().copied().filter(|word| text.contains(word)).collect();
            named.into_iter().map(move |word| (path.clone(), word))
        })
        .collect()
}

fn outside<'a>(found: Vec<(PathBuf, &'a str)>, room: &str) -> Vec<(PathBuf, &'a str)> {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join(room);
    found.into_iter().filter(|(path, _)| !path.starts_with(&room)).collect()
}

#[test]
fn the_four_rooms_and_their_three_arrows() {
    assert_eq!(naming("src/api", &["crate::reconciler"]), []);
    assert_eq!(naming("src/state", &["crate::api", "crate::reconciler", "crate::aws"]), []);
    assert_eq!(naming("src/aws", &["crate::api", "crate::reconciler", "crate::state"]), []);
    assert_eq!(naming("src/reconciler", &["crate::api"]), []);
    // Every room may name the traces, as the metrics; they know no room but the ids of the model.
    assert_eq!(naming("src/traces", &["crate::api", "crate::reconciler", "crate::aws", "sqlx"]), []);
}

/// Reading logs is the only thing of AWS that the API knows.
#[test]
fn the_api_knows_only_the_reading_of_logs() {
    for path in sources("src/api") {
        let text = fs::read_to_string(&path).unwrap();
        let names = text.split("crate::aws").skip(1).flat_map(|rest| {
            let rest = rest.trim_start_matches("::");
            let end = rest.find(';').unwrap_or(rest.len());
            let list = rest[..end].split(['{', '}', ',', ' ', '\n', '(', ')', '<', '>', ':']);
            list.filter(|word| word.starts_with(char::is_uppercase)).map(str::to_owned).collect::<Vec<_>>()
        });
        for name in names {
            let allowed = ["ReadLogs", "ReadLogsFuture", "LogQuery", "LogPage", "LogEvent", "AwsError", "AwsErrorKind"];
            assert!(allowed.contains(&name.as_str()), "{}: {name}", path.display());
        }
    }
}

#[test]
fn each_library_stays_in_its_room() {
    assert_eq!(outside(naming("src", &["sqlx::"]), "src/state"), []);
    assert_eq!(outside(naming("src", &["aws_sdk_", "aws_config::"]), "src/aws"), []);
    let http = outside(naming("src", &["hyper::", "hyper_util::"]), "src/api");
    let to_the_collector = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/traces/transport.rs");
    assert_eq!(http, [(to_the_collector, "hyper::")]);
    assert_eq!(outside(naming("src", &["opentelemetry::", "opentelemetry_"]), "src/traces"), []);
    assert_eq!(outside(naming("src", &["backoff::", "use backoff"]), "src/reconciler/backoff.rs"), []);
}

#[test]
fn only_the_api_writes_wishes_and_only_the_reconciler_writes_facts() {
    assert_eq!(naming("src/api", &["Facts"]), []);
    assert_eq!(naming("src/reconciler", &["Wishes"]), []);
}

/// PURE files: everything comes in as an argument.
#[test]
fn pure_files_have_no_clock_no_tasks_and_no_outside_world() {
    let words = [
        "async ",
        ".await",
        "tokio::",
        "Clock",
        "sqlx",
        "getrandom",
        "std::env",
        "std::fs",
        "TcpStream",
        "TcpListener",
        "SystemTime::",
    ];
    let pure: Vec<PathBuf> = sources("src")
        .into_iter()
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            text.lines()
                .take_while(|line| line.starts_with("//!"))
                .any(|line| line.contains(". PURE") && !line.contains("PURE but"))
        })
        .collect();
    assert!(pure.len() >= 10, "{pure:?}");
    for path in pure {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in words {
            assert!(!code.contains(word), "{} is PURE and names {word}", path.display());
        }
    }
}

/// A file that has grown over the limit has become two things.
#[test]
fn no_file_is_longer_than_600_lines() {
    for room in ["src", "bootstrap/src", "sandbox/src"] {
        for path in sources(room) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 600, "{} has {lines} lines", path.display());
        }
    }
}
