//! What was seen of the containers over the whole of a plan, also of those that are gone.

use std::collections::{BTreeMap, BTreeSet};

use sockerless_lambda::clock::Timestamp;
use sockerless_lambda::state::model::{Cause, Container, ContainerId, Run, RunPhase};
use sockerless_lambda::state::{Reader, StateError};

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunOf {
    /// Its container's.
    pub(crate) name: String,
    pub(crate) no: u64,
    /// How often the database had been restored: what happens to a run then is told apart from what happened before.
    pub(crate) line: u32,
}

/// How a run ended, as the daemon says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) code: u8,
    pub(crate) cause: Cause,
    pub(crate) message: String,
    /// `None`: it never was.
    pub(crate) issued: Option<Intent>,
}

/// That a run was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    /// When that was committed, by the daemon's clock.
    pub(crate) at: Timestamp,
    pub(crate) token: String,
}

impl Ending {
    /// `None`: it has not ended.
    pub(crate) fn of(run: &Run) -> Option<Self> {
        let RunPhase::Exited(exit) = &run.phase else { return None };
        let issued = run.issued.as_ref().map(|issued| Intent { at: issued.at, token: issued.token.clone() });
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
    /// The runs that were issued and had no end when a daemon was killed by the plan.
    pub(crate) open_at_a_cut: BTreeSet<(String, u64)>,
}

impl History {
    /// Whether there is something that was not looked at.
    pub(crate) fn is_news(&mut self, life: u32, commits: u32) -> bool {
        self.seen.replace((life, commits)) != Some((life, commits))
    }

    /// A daemon has begun in the place of one that the plan has killed, on these rows.
    pub(crate) fn goes_on(&mut self, rows: &[Container]) {
        let open = |row: &Container| {
            let run = row.status.run.as_ref()?;
            let is_open = !matches!(run.phase, RunPhase::Exited(_) | RunPhase::Refused);
            is_open.then(|| (row.name.clone(), run.no))
        };
        self.open_at_a_cut.extend(rows.iter().filter_map(open));
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
