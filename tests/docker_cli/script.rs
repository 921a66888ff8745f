//! The cases, read from text.
//!
//! ```text
//! # Containers                          a group of the table
//! ## docker wait, docker container wait commands that the section is about; each must be run in it
//! works                                 or `differs: …`, or `refused: …` with the sentence that must be seen on stderr
//!
//! $ docker wait job                     a step, run by `sh` in the section's own folder; `> ` goes on with it
//! 7                                     its standard output, see `pattern.rs`
//! ! a line                              its standard error
//! ? 3                                   its exit status, if it is not 0
//! ```
//!
//! Every section has a daemon and a sandbox of its own. `$HOLD` is a program that ends when the file `$GO` appears;
//! `prelude.sh` has functions that wait for states.

use std::path::Path;

/// What a user can expect of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Works,
    /// Works, with this difference.
    Differs(String),
    /// Does not; this is said.
    Refused(String),
}

/// One row of the table, and the proof of it.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) group: String,
    pub(crate) commands: Vec<String>,
    pub(crate) verdict: Verdict,
    pub(crate) steps: Vec<Step>,
}

/// A command line and what must come of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    /// File and line.
    pub(crate) place: String,
    pub(crate) command: String,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
    pub(crate) status: i32,
}

/// The sections of all files in `cases/`, in the order of the files' names.
pub(crate) fn read_all() -> Vec<Section> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker_cli/cases");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut sections = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        sections.extend(read(&name, &std::fs::read_to_string(&file).unwrap()));
    }
    for section in &sections {
        section.check();
    }
    sections
}

fn read(file: &str, text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut group = String::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", number + 1);
        if let Some(title) = line.strip_prefix("# ") {
            group = title.to_owned();
        } else if let Some(commands) = line.strip_prefix("## ") {
            let commands = commands.split(", ").map(str::to_owned).collect();
            let verdict = Verdict::Refused(String::new());
            sections.push(Section { group: group.clone(), commands, verdict, steps: Vec::new() });
        } else if let Some(section) = sections.last_mut() {
            section.take(place, line);
        }
    }
    sections.iter_mut().for_each(Section::finish);
    sections
}

impl Section {
    fn take(&mut self, place: String, line: &str) {
        if let Some(command) = line.strip_prefix("$ ") {
            self.steps.push(Step { place, command: command.to_owned(), ..Step::default() });
            return;
        }
        match (self.steps.last_mut(), &mut self.verdict) {
            (Some(step), _) => step.take(line),
            (None, Verdict::Refused(words)) => {
                words.push_str(if words.is_empty() { "" } else { " " });
                words.push_str(line.trim());
            }
            (None, _) => {}
        }
    }

    /// The verdict's words, collected so far as they are, become the verdict.
    fn finish(&mut self) {
        let Verdict::Refused(words) = &self.verdict else { return };
        let words = words.trim();
        self.verdict = match words.split_once(": ") {
            None if words == "works" => Verdict::Works,
            Some(("differs", how)) => Verdict::Differs(how.to_owned()),
            Some(("refused", sentence)) => Verdict::Refused(sentence.to_owned()),
            _ => panic!("{:?}: no verdict: {words:?}", self.commands),
        };
        self.steps.iter_mut().for_each(Step::finish);
    }

    /// A section proves what its heading says.
    fn check(&self) {
        for command in &self.commands {
            let is_run = self.steps.iter().any(|step| step.runs(command));
            assert!(is_run, "no step of the section runs `{command}`");
        }
        if let Verdict::Refused(sentence) = &self.verdict {
            let is_said = self.steps.iter().any(|step| step.stderr.iter().any(|line| line.contains(sentence)));
            assert!(is_said, "{:?}: no step expects: {sentence}", self.commands);
        }
    }
}

impl Step {
    fn take(&mut self, line: &str) {
        if let Some(more) = line.strip_prefix("> ") {
            self.command.push('\n');
            self.command.push_str(more);
        } else if let Some(error) = line.strip_prefix("! ") {
            self.stderr.push(error.to_owned());
        } else if line == "!" {
            self.stderr.push(String::new());
        } else if let Some(status) = line.strip_prefix("? ") {
            self.status = status.parse().unwrap();
        } else {
            self.stdout.push(line.to_owned());
        }
    }

    fn finish(&mut self) {
        while self.stdout.last().is_some_and(|line| line.trim().is_empty()) {
            self.stdout.pop();
        }
    }

    /// Whether the words of a command are in this step, its flags anywhere after them.
    fn runs(&self, command: &str) -> bool {
        let (words, flags): (Vec<&str>, Vec<&str>) = command.split(' ').partition(|word| !word.starts_with('-'));
        let Some((_, rest)) = self.command.split_once(&words.join(" ")) else { return false };
        (rest.is_empty() || rest.starts_with([' ', '\n', ')', ';'])) && flags.iter().all(|flag| rest.contains(flag))
    }
}
