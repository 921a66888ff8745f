//! What was seen of the containers over the whole of a plan, also of those that are gone.

use std::collections::{BTreeMap, BTreeSet};

use sockerless_lambda::clock::Timestamp;
use sockerless_lambda::state::model::{Cause, Container, ContainerId, Run, RunPhase};
use sockerless_lambda::state::{Reader, StateError};

/// How a run ended, as the daemon says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) code: u8,
    pub(crate) cause: Cause,
    pub(crate) message: String,
    /// When its intent was committed, by the daemon's clock, and its token; `None`: never.
    pub(crate) issued: Option<(Timestamp, String)>,
}

impl Ending {
    /// `None`: it has not ended.
    pub(crate) fn of(run: &Run) -> Option<Self> {
        let RunPhase::Exited(exit) = &run.phase else { return None };
        let issued = run.issued.as_ref().map(|issued| (issued.at, issued.token.clone()));
        Some(Self { code: exit.code, cause: exit.cause, message: exit.message.clone(), issued })
    }
}

/// The history.
#[derive(Debug, Default)]
pub(crate) struct History {
    seen: Option<(u32, u32)>,
    ids: BTreeMap<ContainerId, String>,
    /// What is said of containers that are gone: exit code and error.
    pub(crate) epitaphs: BTreeMap<String, (u8, Option<String>)>,
    /// The runs that were issued and had no end when the daemon was killed.
    pub(crate) open_at_the_cut: Option<BTreeSet<(String, u64)>>,
}

impl History {
    /// Whether there is something that was not looked at.
    pub(crate) fn is_news(&mut self, life: u32, commits: u32) -> bool {
        self.seen.replace((life, commits)) != Some((life, commits))
    }

    /// A daemon has begun, on these rows.
    pub(crate) fn begins(&mut self, struck_ms: Option<i64>, rows: &[Container]) {
        if struck_ms.is_some() && self.open_at_the_cut.is_none() {
            let open = |row: &Container| {
                let run = row.status.run.as_ref()?;
                let is_open = !matches!(run.phase, RunPhase::Exited(_) | RunPhase::Refused);
                is_open.then(|| (row.name.clone(), run.no))
            };
            self.open_at_the_cut = Some(rows.iter().filter_map(open).collect());
        }
    }

    /// Takes in what the database has now.
    pub(crate) async fn look(&mut self, rows: &[Container], reader: &Reader, now: Timestamp) -> Result<(), StateError> {
        for row in rows {
            self.ids.insert(row.id, row.name.clone());
        }
        for (id, name) in self.ids.clone() {
            let is_gone = rows.iter().all(|row| row.id != id || row.is_removed());
            if is_gone
                && !self.epitaphs.contains_key(&name)
                && let Some(tombstone) = reader.tombstone(&id.to_string(), now).await?
            {
                self.epitaphs.insert(name, (tombstone.exit_code, tombstone.error));
            }
        }
        Ok(())
    }
}
