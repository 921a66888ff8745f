//! The table in docs/clients.md.

use std::fmt::Write as _;
use std::path::Path;

use super::Outcome;
use super::script::{Section, Verdict};

const BEGIN: &str = "<!-- docker cli table -->";
const END: &str = "<!-- /docker cli table -->";

/// The table, a part for each group.
pub(crate) fn render(sections: &[Section]) -> String {
    let mut text = String::new();
    let mut group = "";
    for section in sections {
        if section.group != group {
            group = &section.group;
            write!(text, "\n### {group}\n\n| command | |\n|---|---|\n").unwrap();
        }
        let commands: Vec<String> = section.commands.iter().map(|command| format!("`{command}`")).collect();
        let verdict = match &section.verdict {
            Verdict::Works => "works".to_owned(),
            Verdict::Differs(how) => format!("works, differs: {how}"),
            Verdict::Refused(sentence) => format!("refused: “{sentence}”"),
        };
        writeln!(text, "| {} | {} |", commands.join(", "), verdict.replace('|', "\\|")).unwrap();
    }
    text
}

/// Fails when the document shows another table; writes it with UPDATE_TABLE set.
pub(crate) fn check(expected: &str) -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md");
    let page = std::fs::read_to_string(&path)?;
    let parts = page.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?)));
    let Some((head, (shown, foot))) = parts else { return Err("docs/clients.md has no place for the table".into()) };
    if shown.trim() == expected.trim() {
        return Ok(());
    }
    if std::env::var_os("UPDATE_TABLE").is_some() {
        return Ok(std::fs::write(&path, format!("{head}{BEGIN}\n{}\n\n{END}{foot}", expected.trim()))?);
    }
    Err("the table in docs/clients.md is not the one of the cases; UPDATE_TABLE=1 writes it".into())
}
