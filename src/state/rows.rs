//! Rows and the model: how each column is written and read.

use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::model::{Container, ContainerId, Spec};
use super::writer::Tx;
use super::{Result, StateError};
use crate::clock::Timestamp;

/// Bytes of text at which a page of rows ends, however few they are.
const PAGE_BYTES: usize = 1 << 20;

/// A query for whole containers, with what follows `FROM container`.
macro_rules! containers {
    ($rest:literal) => {
        concat!(
            "SELECT seq, id, name, created_at, generation, starts, started_at, cancelled, cancelled_at, remove_at, \
             config, revision, status, due_at FROM container ",
            $rest
        )
    };
}
pub(super) use containers;

/// The container of a row of [`containers`].
pub(super) fn container(row: &SqliteRow) -> Result<Container> {
    Ok(Container {
        seq: row.try_get("seq")?,
        id: id(row)?,
        name: row.try_get("name")?,
        created_at: time(row, "created_at")?,
        spec: Spec {
            generation: count(row, "generation")?,
            starts: count(row, "starts")?,
            started_at: maybe_time(row, "started_at")?,
            cancelled: count(row, "cancelled")?,
            cancelled_at: maybe_time(row, "cancelled_at")?,
            remove: maybe_time(row, "remove_at")?,
            config: from_json(row, "config")?,
        },
        status: from_json(row, "status")?,
        due_at: maybe_time(row, "due_at")?,
        revision: row.try_get("revision")?,
    })
}

/// The column `id` of a container or a tombstone.
pub(super) fn id(row: &SqliteRow) -> Result<ContainerId> {
    let bytes: &[u8] = row.try_get("id")?;
    let bytes = bytes.try_into().map_err(|_| StateError::Corrupt("an id that is not 32 bytes long".to_owned()))?;
    Ok(ContainerId::from_bytes(bytes))
}

pub(super) fn count(row: &SqliteRow, column: &'static str) -> Result<u64> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| StateError::Corrupt(format!("{column} is {value}")))
}

pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp> {
    Ok(Timestamp::from_nanos(row.try_get(column)?))
}

pub(super) fn maybe_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_nanos))
}

pub(super) fn from_json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|error| StateError::Corrupt(format!("{column}: {error}")))
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StateError::Corrupt(error.to_string()))
}

/// The first of these rows: until the text in `columns` has come to [`PAGE_BYTES`], at least one.
pub(super) async fn page<T>(
    mut rows: BoxStream<'_, sqlx::Result<SqliteRow>>,
    read: impl Fn(&SqliteRow) -> Result<T>,
    columns: &[&str],
) -> Result<Vec<T>> {
    let (mut page, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = rows.try_next().await? {
        page.push(read(&row)?);
        for column in columns {
            bytes = bytes.saturating_add(row.try_get::<&str, _>(*column)?.len());
        }
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

/// The columns of [`containers`] that can be long.
pub(super) const LONG_COLUMNS: &[&str] = &["config", "status"];

/// SQLite's integers are signed; no counter comes near the difference.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn nanos(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_nanos)
}

/// What a client's text can mean: a whole id, a name, the beginning of an id.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning<'t> {
    pub(super) id: Option<ContainerId>,
    pub(super) name: &'t str,
    /// The first and the last id that begin with the text.
    pub(super) range: Option<(ContainerId, ContainerId)>,
}

impl<'t> Meaning<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let range = || {
            let digits = (1..64).contains(&text.len()).then_some(text)?;
            Some((format!("{digits:0<64}").parse().ok()?, format!("{digits:f<64}").parse().ok()?))
        };
        Self { id: text.parse().ok(), name: text.strip_prefix('/').unwrap_or(text), range: range() }
    }

    /// Bytes for the statement: id, first, last.
    pub(super) fn bytes(&self) -> [Option<&[u8]>; 3] {
        let (first, last) = self.range.as_ref().map(|(first, last)| (first, last)).unzip();
        [self.id.as_ref(), first, last].map(|id| id.map(|id| id.as_bytes().as_slice()))
    }
}

impl Tx<'_> {
    /// The container, also if it is being removed.
    pub(super) async fn container(&mut self, id: &ContainerId) -> Result<Option<Container>> {
        let row = sqlx::query(containers!("WHERE id = ?1"))
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&mut *self.conn)
            .await?;
        row.as_ref().map(container).transpose()
    }

    /// The container, if clients can see it.
    pub(super) async fn visible(&mut self, id: &ContainerId) -> Result<Option<Container>> {
        Ok(self.container(id).await?.filter(|container| !container.is_removed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let (first, last) = Meaning::of("a1b").range.unwrap();
        assert_eq!(first.to_string(), format!("a1b{}", "0".repeat(61)));
        assert_eq!(last.to_string(), format!("a1b{}", "f".repeat(61)));
    }

    #[test]
    fn not_every_text_is_an_id() {
        let whole = "5".repeat(64);
        assert_eq!(Meaning::of(&whole), Meaning { id: whole.parse().ok(), name: &whole, range: None });
        assert_eq!(Meaning::of("/web"), Meaning { id: None, name: "web", range: None });
        for text in ["", "ABC", "xyz", "é", "/a", &"5".repeat(65)] {
            assert_eq!(Meaning::of(text).range, None, "{text}");
        }
    }
}
