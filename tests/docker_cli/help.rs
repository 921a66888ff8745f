//! Which commands a docker CLI has, by its own help.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::Outcome;

/// Fails when the CLI has a command that no case is about.
pub(crate) fn check(cli: &Path, documented: &[String]) -> Outcome {
    let bare = |command: &String| {
        let words: Vec<&str> = command.split(' ').filter(|word| !word.starts_with('-')).collect();
        words.join(" ")
    };
    let documented: BTreeSet<String> = documented.iter().map(bare).collect();
    let mut commands = BTreeSet::new();
    collect(cli, &["docker".to_owned()], &mut commands);
    assert!(commands.len() > 100, "the help was not understood: {commands:?}");
    let missing: Vec<_> = commands.difference(&documented).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("not in the table: {missing:?}").into()) }
}

fn collect(cli: &Path, words: &[String], commands: &mut BTreeSet<String>) {
    let below = subcommands(cli, words.get(1..).unwrap_or_default());
    if below.is_empty() {
        commands.insert(words.join(" "));
    }
    for command in below {
        let deeper: Vec<String> = words.iter().cloned().chain([command]).collect();
        collect(cli, &deeper, commands);
    }
}

/// The names under the headings that end with `Commands:`. Plug-ins, marked with a star, are programs of their own.
fn subcommands(cli: &Path, words: &[String]) -> Vec<String> {
    // Without a daemon the help leaves nothing out.
    let output =
        Command::new(cli).args(words).arg("--help").env("DOCKER_HOST", "unix:///nowhere").output().unwrap().stdout;
    let mut found = Vec::new();
    let mut is_list = false;
    for line in String::from_utf8_lossy(&output).lines() {
        if !line.starts_with(' ') {
            is_list = line.ends_with("Commands:") || (line.is_empty() && is_list);
        } else if let Some((name, _)) = line.trim().split_once("  ").filter(|_| is_list && !line.starts_with("   ")) {
            found.extend((!name.ends_with('*')).then(|| name.to_owned()));
        }
    }
    found
}
