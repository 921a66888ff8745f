//! The real docker CLI against the daemon on its sandbox: every command, its output and its exit status.
//!
//! What is run, what must come of it, and the verdict that the documentation shows are one list: the files in `cases/`
//! (`script.rs` tells how they are read). The table in docs/clients.md is made of them:
//! `UPDATE_TABLE=1 cargo test --test docker_cli table` writes it. `DOCKER_CLI=/path/to/docker` tries another CLI.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits on this machine's clock"
)]

mod daemon;
mod help;
mod pattern;
mod play;
mod script;
mod table;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// Cases at once: most of their time is spent waiting for programs in the sandbox.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let sections = script::read_all();
    let cli = find_cli();
    if cli.is_none() {
        // Not by a macro that the test harness could swallow.
        let reason =
            "docker_cli: SKIPPED, for there is no docker CLI on this machine (put one into PATH or DOCKER_CLI)";
        writeln!(std::io::stderr(), "{reason}").unwrap();
    }
    let without = cli.is_none();
    let mut trials = vec![Trial::test("the table in docs/clients.md is the one of the cases", {
        let expected = table::render(&sections);
        move || table::check(&expected)
    })];
    let documented: Vec<String> = sections.iter().flat_map(|section| section.commands.clone()).collect();
    let program = cli.clone().unwrap_or_default();
    trials.push(
        Trial::test("every command of this CLI is in the table", move || help::check(&program, &documented))
            .with_ignored_flag(without),
    );
    for section in sections {
        let program = cli.clone().unwrap_or_default();
        let name = format!("{}: {}", section.group, section.commands.join(", "));
        trials.push(Trial::test(name, move || play::section(&program, &section)).with_ignored_flag(without));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The CLI under test.
fn find_cli() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let wanted = std::env::var_os("DOCKER_CLI").map(PathBuf::from);
    let found =
        wanted.or_else(|| std::env::split_paths(&path).map(|folder| folder.join("docker")).find(|file| file.is_file()));
    found.filter(|file| runs(file))
}

fn runs(file: &Path) -> bool {
    Command::new(file).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// What a trial gives back.
type Outcome = Result<(), Failed>;
