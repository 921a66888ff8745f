//! `--reconcile-once`: one pass over the database and AWS, told in text or JSON, for cron and for people.
//!
//! The pass itself is the reconciler's; this is what is opened for it and what is told of it.

use std::fmt::{self, Display};
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::aws::Cloud;
use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::{self, StartError};
use crate::health::Health;
use crate::reconciler::{Outcome, PassOrder, Reconciler, ReconcilerParts, Step, Summary};
#[cfg(feature = "sandbox")]
use crate::sandbox_process::SandboxProcess;
use crate::state::StateError;
use crate::terminal;

/// Lines about what is left that are printed as text, at most; JSON has them all.
const MAX_LEFT_LINES: usize = 20;
/// Digits of a container's id in text, as Docker shows it.
const SHORT_ID: usize = 12;

/// How the result is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Why no pass was made.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// A live daemon has the database.
    #[error("{0}; it converges by itself, and --dry-run plans beside it")]
    Beside(StateError),
    /// Something that a daemon needs, too.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl OnceError {
    /// Whether the configuration has to be changed, rather than that something has failed.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Start(error) if error.is_usage())
    }
}

/// Makes one pass and prints what it did.
///
/// # Errors
/// If it could not even begin; nothing was changed then.
pub async fn reconcile_once(
    config: Config,
    order: PassOrder,
    output: Output,
    stop: CancellationToken,
) -> Result<Outcome, OnceError> {
    let store = daemon::open_store(&config, order.dry_run).await.map_err(|error| match error {
        StartError::Store(error @ StateError::Locked { .. }) => OnceError::Beside(error),
        error => OnceError::Start(error),
    })?;
    // A pass leaves the sandbox to itself, and it goes on until it is alone for long: a live daemon may be using it.
    #[cfg(feature = "sandbox")]
    let sandbox = match config.sandbox {
        true => Some(SandboxProcess::find_or_start(&config).await.map_err(StartError::from)?),
        false => None,
    };
    let settings = daemon::cloud_settings(
        &config,
        #[cfg(feature = "sandbox")]
        sandbox.as_ref(),
    );
    let parts = ReconcilerParts {
        facts: store.facts(),
        reader: store.reader(),
        cloud: Cloud::connect(&settings).await,
        clock: Clock::real(),
        health: Health::default(),
        config: Arc::new(config),
    };
    let summary = Reconciler::new(parts).once(order, stop).await;
    if let Err(error) = store.close().await {
        tracing::error!(%error, "the store could not be closed; nothing that was recorded is lost");
    }
    tell(&summary, output);
    Ok(summary.outcome())
}

fn tell(summary: &Summary, output: Output) {
    match output {
        Output::Text => {
            terminal::answer(Text(summary));
            summary.errors.iter().for_each(terminal::complain);
        }
        Output::Json => {
            let mut told = json!(summary);
            told["outcome"] = json!(summary.outcome());
            terminal::answer(told);
        }
    }
}

/// A summary for people, without the errors.
struct Text<'a>(&'a Summary);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.0;
        for step in &summary.plan {
            writeln!(f, "{}", StepText(step))?;
        }
        for left in summary.left_work.iter().take(MAX_LEFT_LINES) {
            writeln!(f, "left{}: {}", container(left.container.as_deref(), left.name.as_deref()), left.because)?;
        }
        let more = summary.left_work.len().saturating_sub(MAX_LEFT_LINES);
        if more > 0 {
            writeln!(f, "left: {more} more")?;
        }
        if summary.dry_run {
            f.write_str("dry run, nothing was changed; a pass would begin with: ")?;
        }
        let Summary { created, updated, invoked, settled, deleted, released, retried, left, .. } = summary;
        write!(f, "created {created}, updated {updated}, invoked {invoked}, settled {settled}, deleted {deleted}, ")?;
        write!(f, "released {released}, retried {retried}, left {left}; ")?;
        let Summary { running, orphans_waiting, orphans_kept, aws_calls, seconds, .. } = summary;
        write!(f, "running {running}, orphans waiting {orphans_waiting}, orphans kept {orphans_kept}; ")?;
        write!(f, "{aws_calls} AWS calls in {seconds:.1} s")
    }
}

struct StepText<'a>(&'a Step);

impl Display for StepText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.0;
        f.write_str(step.action)?;
        if let Some(on) = &step.on {
            write!(f, " {on}")?;
        }
        write!(f, "{}", container(step.container.as_deref(), step.name.as_deref()))?;
        write!(f, ": {}", step.because)
    }
}

fn container(id: Option<&str>, name: Option<&str>) -> String {
    match (id, name) {
        (Some(id), Some(name)) => format!(" (container {name}, {})", id.get(..SHORT_ID).unwrap_or(id)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconciler::LeftOver;

    fn step(action: &'static str, on: Option<&str>, container: Option<&str>) -> Step {
        Step {
            action,
            on: on.map(str::to_owned),
            container: container.map(str::to_owned),
            name: container.map(|_| "job".to_owned()),
            because: "so".to_owned(),
            again: false,
        }
    }

    #[test]
    fn a_plan_has_one_line_an_action() {
        let id = "0123456789abcdef".repeat(4);
        let summary = Summary {
            dry_run: true,
            deleted: 1,
            settled: 1,
            left: 3,
            aws_calls: 4,
            seconds: 0.26,
            plan: vec![
                step("DeleteFunction", Some("skls-0"), Some(&id)),
                step("Settle", None, Some(&id)),
                step("CreateLogGroup", Some("/g"), None),
            ],
            ..Summary::default()
        };
        let text = Text(&summary).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "DeleteFunction skls-0 (container job, 0123456789ab): so");
        assert_eq!(lines[1], "Settle (container job, 0123456789ab): so");
        assert_eq!(lines[2], "CreateLogGroup /g: so");
        assert!(
            lines[3].contains("created 0, updated 0, invoked 0, settled 1, deleted 1, released 0, retried 0, left 3")
        );
        assert!(lines[3].ends_with("4 AWS calls in 0.3 s"), "{text}");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn what_is_left_is_told_as_far_as_people_read() {
        let left = LeftOver { container: None, name: None, because: "late".to_owned() };
        let summary = Summary { left: 23, left_work: vec![left; 23], ..Summary::default() };
        let text = Text(&summary).to_string();
        assert!(text.starts_with("left: late\n"), "{text}");
        assert!(text.contains("left: 3 more\n"), "{text}");
        assert_eq!(text.lines().count(), 22);
    }
}
