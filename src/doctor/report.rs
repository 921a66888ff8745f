//! Findings, and how they are told. PURE.

use std::fmt::{self, Display};

use serde::Serialize;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// As it should be.
    #[serde(rename = "ok")]
    Ok,
    /// It would not work.
    #[serde(rename = "wrong")]
    Wrong,
    /// It cannot be tried without changing something, or what must come first is wrong.
    #[serde(rename = "not tried")]
    NotTried,
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Wrong => "WRONG",
            Self::NotTried => "not tried",
        })
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, such as `database` or `lambda:InvokeFunction`.
    pub check: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen, in a sentence.
    pub seen: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}  {}: {}", self.verdict, self.check, self.seen)?;
        self.todo.as_ref().map_or(Ok(()), |todo| write!(f, "; {todo}"))
    }
}

/// All findings, in the order of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn ok(&mut self, check: impl Into<String>, seen: impl Into<String>) {
        self.push(check, Verdict::Ok, seen, None);
    }

    pub(super) fn wrong(&mut self, check: impl Into<String>, seen: impl Into<String>, todo: impl Into<String>) {
        self.push(check, Verdict::Wrong, seen, Some(todo.into()));
    }

    pub(super) fn not_tried(&mut self, check: impl Into<String>, seen: impl Into<String>, todo: impl Into<String>) {
        self.push(check, Verdict::NotTried, seen, Some(todo.into()));
    }

    fn push(&mut self, check: impl Into<String>, verdict: Verdict, seen: impl Into<String>, todo: Option<String>) {
        self.findings.push(Finding { check: check.into(), verdict, seen: seen.into(), todo });
    }

    /// The findings.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether nothing is wrong. What was not tried is not known to be wrong.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Wrong)
    }

    /// One JSON object.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "well": self.is_well(), "findings": self.findings })
    }
}

/// One line a check.
impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let count = |verdict| self.findings.iter().filter(|finding| finding.verdict == verdict).count();
        let [ok, wrong, not_tried] = [Verdict::Ok, Verdict::Wrong, Verdict::NotTried].map(count);
        write!(f, "{ok} ok, {wrong} wrong, {not_tried} not tried")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_check_with_what_to_do() {
        let mut report = Report::default();
        report.ok("clock", "0 s off");
        report.not_tried("iam:PassRole", "it would make a function", "look at the policy");
        assert!(report.is_well());
        report.wrong("database", "it is a directory", "name a file");
        assert!(!report.is_well());
        let text = report.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ok         clock: 0 s off");
        assert_eq!(lines[1], "not tried  iam:PassRole: it would make a function; look at the policy");
        assert_eq!(lines[2], "WRONG      database: it is a directory; name a file");
        assert_eq!(lines[3], "1 ok, 1 wrong, 1 not tried");
        let json = report.json();
        assert_eq!(json["well"], false);
        assert_eq!(json["findings"][2]["verdict"], "wrong");
        assert!(json["findings"][0].get("todo").is_none());
    }
}
