//! Rows that cannot be read.
//!
//! # Guarantees
//! - A row that cannot be read affects only itself: a read of several rows returns the others.
//! - Each such row is logged once, counted by table in a metric, and degrades `/readyz` until it can be read again or is
//!   gone.
//! - A reason never quotes what the row holds.
//!
//! # Caveats
//! - The registry is in memory and holds what reads have met. [`super::Pulse::audit`] reads every table, so that rows that
//!   nobody asks for are found, and rows that were deleted are dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::model::{Container, ContainerConfig, ContainerId, DeletionPolicy, Spec, Status};
use super::rows::{flag, get, id, time};
use super::{Result, StateError};
use crate::clock::Timestamp;
use crate::health::{Check, Health};
use crate::telemetry::UNREADABLE_ROWS;

/// Unreadable rows that are remembered per table; more are not counted. Bounds the memory when a whole table is damaged.
const MAX_ROWS: usize = 1_000;
/// Bytes of a reason that are kept.
const MAX_REASON_BYTES: usize = 300;
/// Bytes of a text key that are shown.
const MAX_KEY_BYTES: usize = 300;

/// The tables of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Containers.
    Container,
    /// Containers that were removed a moment ago.
    Tombstone,
    /// Image references.
    Image,
    /// Events.
    Event,
    /// How far log groups are read.
    LogProgress,
    /// Functions without a container.
    Sighting,
    /// Roles without logs.
    RoleWithoutLogs,
    /// The identity of this database.
    Instance,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 8] = [
        Self::Container,
        Self::Tombstone,
        Self::Image,
        Self::Event,
        Self::LogProgress,
        Self::Sighting,
        Self::RoleWithoutLogs,
        Self::Instance,
    ];

    /// Its name in the schema.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Tombstone => "tombstone",
            Self::Image => "image",
            Self::Event => "event",
            Self::LogProgress => "log_progress",
            Self::Sighting => "sighting",
            Self::RoleWithoutLogs => "role_without_logs",
            Self::Instance => "instance",
        }
    }

    /// The column of its primary key.
    fn key(self) -> &'static str {
        match self {
            Self::Container | Self::Tombstone | Self::Image | Self::Event => "seq",
            Self::LogProgress => "log_group",
            Self::Sighting => "function_name",
            Self::RoleWithoutLogs => "role_arn",
            Self::Instance => "only_row",
        }
    }
}

/// What a read of several rows gives for each of them.
pub type Row<T> = std::result::Result<T, Unreadable>;

/// A row that cannot be read, and what can be read of it. All but the first three fields are a container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The table.
    pub table: Table,
    /// The primary key.
    pub key: String,
    /// Why it cannot be read: the column and the kind of damage, without any content.
    pub reason: String,
    /// [`Container::seq`].
    pub seq: i64,
    /// The container's id.
    pub id: Option<ContainerId>,
    /// Its name.
    pub name: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// It is being removed already: clients do not see it.
    pub removed: bool,
}

impl Unreadable {
    fn of(table: Table, row: &SqliteRow, error: &StateError) -> Self {
        let reason = match error {
            StateError::Corrupt(reason) => reason.clone(),
            StateError::Database(error) => error.to_string(),
            other => other.to_string(),
        };
        let mut unreadable = Self {
            table,
            key: key(table, row),
            reason: cut(&reason, MAX_REASON_BYTES),
            seq: 0,
            id: None,
            name: None,
            created_at: None,
            removed: false,
        };
        if table == Table::Container {
            unreadable.seq = get(row, "seq").unwrap_or_default();
            unreadable.id = id(row).ok();
            unreadable.name = get(row, "name").ok();
            unreadable.created_at = time(row, "created_at").ok();
            unreadable.removed = flag(row, "removed").unwrap_or_default();
        }
        unreadable
    }

    /// What a client can call the container: its name, its id, or `~` and its number if neither can be read.
    #[must_use]
    pub fn handle(&self) -> String {
        let id = || self.id.map(|id| id.to_string());
        self.name.clone().or_else(id).unwrap_or_else(|| self.shown_id())
    }

    /// The id that clients see: the container's, or `~` and its number, which no name can be.
    #[must_use]
    pub fn shown_id(&self) -> String {
        shown_id(self.id, self.seq)
    }

    /// A container with what can be read of this one, and nothing else.
    #[must_use]
    pub fn placeholder(&self) -> Container {
        let config = ContainerConfig::unknown(DeletionPolicy::Delete);
        Container {
            seq: self.seq,
            id: self.id.unwrap_or(ContainerId::from_bytes([0; 32])),
            name: self.name.clone().unwrap_or_else(|| self.shown_id()),
            created_at: self.created_at.unwrap_or_default(),
            spec: Spec::new(config),
            status: Status::default(),
            due_at: None,
            revision: 0,
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, key, reason, .. } = self;
        match table {
            Table::Container => {
                let handle = self.handle();
                write!(
                    f,
                    "container {handle} is dead: its record cannot be read ({reason}); \"docker rm -f {handle}\" removes it"
                )
            }
            _ => write!(f, "row {key} of the table {} cannot be read: {reason}", table.name()),
        }
    }
}

/// The id of a container that clients see.
pub(super) fn shown_id(id: Option<ContainerId>, seq: i64) -> String {
    id.map_or_else(|| format!("~{seq}"), |id| id.to_string())
}

/// The primary key as text.
fn key(table: Table, row: &SqliteRow) -> String {
    match get::<i64>(row, table.key()) {
        Ok(key) => key.to_string(),
        Err(_) => cut(&String::from_utf8_lossy(bytes(row, table.key())), MAX_KEY_BYTES),
    }
}

/// What a column holds, whatever its type; empty for NULL. To be asked last: SQLite turns a number into text for good.
pub(super) fn bytes<'r>(row: &'r SqliteRow, column: &str) -> &'r [u8] {
    row.try_get_unchecked::<Option<&[u8]>, _>(column).ok().flatten().unwrap_or_default()
}

fn cut(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}

/// The rows that cannot be read, as far as they were met.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    rows: Mutex<Rows>,
    /// Whether there are any, so that the reads of a sound database never wait for the lock.
    any: AtomicBool,
    health: OnceLock<Health>,
}

#[derive(Debug, Default)]
struct Rows {
    /// The audit during or after which each row was last met.
    met: BTreeMap<(Table, String), u64>,
    audit: u64,
}

impl Quarantine {
    /// Reads one row, and takes note of whether it can be read.
    pub(super) fn read<T>(&self, table: Table, row: &SqliteRow, read: impl FnOnce(&SqliteRow) -> Result<T>) -> Row<T> {
        match read(row) {
            Ok(value) => {
                if self.any.load(Ordering::Relaxed) {
                    self.drop_row(table, &key(table, row));
                }
                Ok(value)
            }
            Err(error) => {
                let unreadable = Unreadable::of(table, row, &error);
                self.note(&unreadable);
                Err(unreadable)
            }
        }
    }

    /// The rows of several that can be read.
    pub(super) fn readable<T>(
        &self,
        table: Table,
        rows: &[SqliteRow],
        read: impl Fn(&SqliteRow) -> Result<T>,
    ) -> Vec<T> {
        rows.iter().filter_map(|row| self.read(table, row, &read).ok()).collect()
    }

    /// Whether rows of this table are known that cannot be read.
    pub(super) fn has(&self, table: Table) -> bool {
        self.any.load(Ordering::Relaxed) && count(&self.lock(), table) > 0
    }

    /// The row is gone, or was replaced by one that can be read.
    pub(super) fn drop_row(&self, table: Table, key: &str) {
        let mut rows = self.lock();
        if rows.met.remove(&(table, key.to_owned())).is_some() {
            self.publish(&rows);
        }
    }

    /// From now on the tables are read one after another, each to its end.
    pub(super) fn begin_audit(&self) {
        self.lock().audit += 1;
    }

    /// All rows of the table were read since the audit began: those that were not met again are gone.
    pub(super) fn audited(&self, table: Table) {
        let mut rows = self.lock();
        let (audit, before) = (rows.audit, rows.met.len());
        rows.met.retain(|(of, _), met| *of != table || *met == audit);
        if rows.met.len() != before {
            self.publish(&rows);
        }
    }

    /// Where a degradation is reported from now on. Whichever was given first stays.
    pub(super) fn report_to(&self, health: &Health) {
        let _ = self.health.set(health.clone());
        let rows = self.lock();
        self.publish(&rows);
    }

    fn note(&self, unreadable: &Unreadable) {
        let mut rows = self.lock();
        let (audit, table) = (rows.audit, unreadable.table);
        if let Some(met) = rows.met.get_mut(&(table, unreadable.key.clone())) {
            *met = audit;
            return;
        }
        if count(&rows, table) >= MAX_ROWS {
            return;
        }
        tracing::error!(
            table = table.name(),
            row = unreadable.key,
            reason = unreadable.reason,
            "a row of the database cannot be read; it is left out"
        );
        rows.met.insert((table, unreadable.key.clone()), audit);
        self.publish(&rows);
    }

    fn publish(&self, rows: &Rows) {
        self.any.store(!rows.met.is_empty(), Ordering::Relaxed);
        let counts = Table::ALL.map(|table| (table, count(rows, table)));
        for (table, count) in counts {
            metrics::gauge!(UNREADABLE_ROWS, "table" => table.name()).set(u32::try_from(count).map_or(0.0, f64::from));
        }
        let Some(health) = self.health.get() else { return };
        match rows.met.len() {
            0 => health.recover(Check::Rows),
            all => {
                let tables = counts.iter().filter(|(_, count)| *count > 0);
                let tables: Vec<String> = tables.map(|(table, count)| format!("{}: {count}", table.name())).collect();
                let reason = format!("{all} rows of the database cannot be read ({})", tables.join(", "));
                health.degrade(Check::Rows, reason);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(rows: &Rows, table: Table) -> usize {
    rows.met.keys().filter(|(of, _)| *of == table).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable(table: Table, key: &str) -> Unreadable {
        Unreadable {
            table,
            key: key.to_owned(),
            reason: "x".to_owned(),
            seq: 7,
            id: None,
            name: None,
            created_at: None,
            removed: false,
        }
    }

    #[test]
    fn unreadable_rows_degrade_until_they_are_gone() {
        let (quarantine, health) = (Quarantine::default(), Health::default());
        quarantine.note(&unreadable(Table::Event, "1"));
        quarantine.report_to(&health);
        quarantine.note(&unreadable(Table::Image, "2"));
        quarantine.note(&unreadable(Table::Image, "2"));
        let degraded = health.degraded();
        assert_eq!(degraded[&Check::Rows], "2 rows of the database cannot be read (image: 1, event: 1)");
        assert!(health.problems().is_empty(), "the daemon serves");

        quarantine.begin_audit();
        quarantine.note(&unreadable(Table::Event, "1"));
        Table::ALL.into_iter().for_each(|table| quarantine.audited(table));
        assert_eq!(health.degraded()[&Check::Rows], "1 rows of the database cannot be read (event: 1)");
        quarantine.drop_row(Table::Event, "1");
        assert!(health.degraded().is_empty());
    }

    #[test]
    fn unreadable_rows_are_remembered_within_a_bound() {
        let quarantine = Quarantine::default();
        for key in 0..=MAX_ROWS {
            quarantine.note(&unreadable(Table::Event, &key.to_string()));
        }
        assert_eq!(quarantine.lock().met.len(), MAX_ROWS);
        assert_eq!(cut("aé", 2), "a");
    }

    #[test]
    fn an_unreadable_container_has_a_handle_that_removes_it() {
        let mut row = unreadable(Table::Container, "7");
        assert!(row.to_string().ends_with("\"docker rm -f ~7\" removes it"), "{row}");
        row.id = Some(ContainerId::from_bytes([0xab; 32]));
        assert_eq!(row.handle(), "ab".repeat(32));
        row.name = Some("web".to_owned());
        assert_eq!(
            row.to_string(),
            "container web is dead: its record cannot be read (x); \"docker rm -f web\" removes it"
        );
    }
}
