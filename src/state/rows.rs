//! Rows and the model: how each column is written and read.
//!
//! What is written is checked to be readable: JSON is parsed back from the very text that is bound, numbers must fit.

use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, Type, ValueRef as _};

use super::model::{Container, ContainerId, Spec};
use super::quarantine::{Quarantine, Row, Table, bytes};
use super::writer::Tx;
use super::{Result, StateError};
use crate::clock::Timestamp;

/// Bytes of text at which a page of rows ends, however few they are.
const PAGE_BYTES: usize = 1 << 20;
/// Levels of nesting that a JSON text in the database may have. Reading ends at 128; a request's body may have 32, and the
/// model puts a few around it.
const MAX_JSON_DEPTH: usize = 36;
/// Two floating-point numbers that differ by this share of themselves are the same after reading JSON.
const FLOAT_TOLERANCE: f64 = 4.0 * f64::EPSILON;

/// A query for whole containers, with what follows `FROM container`, and with one more column where one is given.
macro_rules! containers {
    ($rest:literal) => {
        concat!(
            "SELECT seq, id, name, created_at, generation, starts, started_at, cancelled, cancelled_at, remove_at, \
             config, revision, status, due_at, observed_generation, watched, removed FROM container ",
            $rest
        )
    };
    ($column:literal, $rest:literal) => {
        concat!(
            "SELECT seq, id, name, created_at, generation, starts, started_at, cancelled, cancelled_at, remove_at, \
             config, revision, status, due_at, observed_generation, watched, removed, ",
            $column,
            " FROM container ",
            $rest
        )
    };
}
pub(super) use containers;

/// The integer at a path of a JSON column, in SQL; NULL: the column holds no JSON, or there is something else. A number that
/// does not fit in 64 bits is a REAL for SQLite, and `true` is the integer 1.
macro_rules! json_integer {
    ($column:literal, $path:literal) => {
        concat!(
            "CASE WHEN json_valid(",
            $column,
            ") THEN CASE WHEN json_type(",
            $column,
            ", '",
            $path,
            "') = 'integer' AND typeof(json_extract(",
            $column,
            ", '",
            $path,
            "')) = 'integer' THEN json_extract(",
            $column,
            ", '",
            $path,
            "') END END"
        )
    };
}
pub(super) use json_integer;

/// The container of a row of [`containers`].
pub(super) fn container(row: &SqliteRow) -> Result<Container> {
    // Statements select by these columns, so they must make sense, though the container does not have them.
    count(row, "observed_generation")?;
    flag(row, "watched")?;
    flag(row, "removed")?;
    Ok(Container {
        seq: get(row, "seq")?,
        id: id(row)?,
        name: get(row, "name")?,
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
        revision: revision(row)?,
    })
}

fn revision(row: &SqliteRow) -> Result<i64> {
    count(row, "revision")?;
    get(row, "revision")
}

/// A column that is not NULL. sqlx reads NULL as 0 or nothing where it does not expect it.
pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    if row.try_get_raw(column)?.is_null() {
        return Err(StateError::Corrupt(format!("{column} is NULL")));
    }
    Ok(row.try_get(column)?)
}

/// The column `id` of a container or a tombstone.
pub(super) fn id(row: &SqliteRow) -> Result<ContainerId> {
    let bytes: &[u8] = get(row, "id")?;
    let bytes = bytes.try_into().map_err(|_| StateError::Corrupt("an id that is not 32 bytes long".to_owned()))?;
    Ok(ContainerId::from_bytes(bytes))
}

pub(super) fn count(row: &SqliteRow, column: &'static str) -> Result<u64> {
    let value: i64 = get(row, column)?;
    u64::try_from(value).map_err(|_| StateError::Corrupt(format!("{column} is {value}")))
}

/// A column that is 0 or 1.
pub(super) fn flag(row: &SqliteRow, column: &'static str) -> Result<bool> {
    match get::<i64>(row, column)? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(StateError::Corrupt(format!("{column} is {value}"))),
    }
}

pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp> {
    Ok(Timestamp::from_nanos(get(row, column)?))
}

pub(super) fn maybe_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_nanos))
}

pub(super) fn from_json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T> {
    let text: &str = get(row, column)?;
    serde_json::from_str(text).map_err(|error| StateError::Corrupt(format!("{column}: {}", place(&error))))
}

/// What is wrong with a JSON text, and where. The parser's own words may quote what stands there.
fn place(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        Category::Data => "not of the expected type",
        Category::Eof => "cut off",
        Category::Syntax | Category::Io => "not JSON that can be read",
    };
    format!("{kind} at byte {}", error.column())
}

/// The JSON text to be bound to a column. It is checked that reading it gives the same value again.
///
/// # Errors
/// [`StateError::Unstorable`] when it does not.
pub(super) fn to_json<T: Serialize + DeserializeOwned + PartialEq>(column: &'static str, value: &T) -> Result<String> {
    let unstorable = |why: String| StateError::Unstorable(format!("{column}: {why}"));
    let text = serde_json::to_string(value).map_err(|error| unstorable(place(&error)))?;
    if depth(&text) > MAX_JSON_DEPTH {
        return Err(unstorable(format!("it is nested more than {MAX_JSON_DEPTH} levels deep")));
    }
    let read: T = serde_json::from_str(&text).map_err(|error| unstorable(place(&error)))?;
    if read == *value || differ_by_rounding_only(&read, value) {
        return Ok(text);
    }
    Err(unstorable("it reads as something else than what was written".to_owned()))
}

/// How deep the arrays and objects of a JSON text are nested.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A number with a fraction may be read as its neighbour.
fn differ_by_rounding_only<T: Serialize>(one: &T, other: &T) -> bool {
    let (Ok(one), Ok(other)) = (serde_json::to_value(one), serde_json::to_value(other)) else { return false };
    // What is the same in JSON, and is not the same, has lost something else.
    one != other && is_close(&one, &other)
}

fn is_close(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_close(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| is_close(value, other)))
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else { return false };
            (one - other).abs() <= FLOAT_TOLERANCE * one.abs().max(other.abs())
        }
        _ => one == other,
    }
}

/// A page of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The rows in their order, those that cannot be read included.
    pub rows: Vec<Row<T>>,
    /// The sequence number after which the next page begins; `None`: there are no more rows.
    pub next: Option<i64>,
}

impl<T> Page<T> {
    /// The rows that can be read.
    pub fn readable(self) -> impl Iterator<Item = T> {
        self.rows.into_iter().filter_map(std::result::Result::ok)
    }
}

/// The first of these rows: until the text in `columns` has come to [`PAGE_BYTES`], at least one.
pub(super) async fn page<T>(
    mut found: BoxStream<'_, sqlx::Result<SqliteRow>>,
    (quarantine, table): (&Quarantine, Table),
    read: impl Fn(&SqliteRow) -> Result<T>,
    columns: &[&str],
) -> Result<Page<T>> {
    let (mut page, mut length) = (Page { rows: Vec::new(), next: None }, 0_usize);
    while let Some(row) = found.try_next().await? {
        page.next = Some(get(&row, "seq")?);
        page.rows.push(quarantine.read(table, &row, &read));
        length = columns.iter().fold(length, |sum, column| sum.saturating_add(bytes(&row, column).len()));
        if length >= PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

/// The columns of [`containers`] that can be long.
pub(super) const LONG_COLUMNS: &[&str] = &["config", "status"];

/// A counter as SQLite has it, whose integers are signed.
///
/// # Errors
/// [`StateError::Unstorable`] when it does not fit.
pub(super) fn number(column: &'static str, count: u64) -> Result<i64> {
    i64::try_from(count).map_err(|_| StateError::Unstorable(format!("{column} is {count}, more than {}", i64::MAX)))
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
    /// The number of a container whose id cannot be read.
    pub(super) seq: Option<i64>,
}

impl<'t> Meaning<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let range = || {
            let digits = (1..64).contains(&text.len()).then_some(text)?;
            Some((format!("{digits:0<64}").parse().ok()?, format!("{digits:f<64}").parse().ok()?))
        };
        let seq = text.strip_prefix('~').and_then(|seq| seq.parse().ok());
        Self { id: text.parse().ok(), name: text.strip_prefix('/').unwrap_or(text), range: range(), seq }
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
        Ok(row.map(|row| self.quarantine.read(Table::Container, &row, container)).transpose()?)
    }

    /// The container, if clients can see it.
    pub(super) async fn visible(&mut self, id: &ContainerId) -> Result<Option<Container>> {
        match self.container(id).await {
            Err(StateError::Unreadable(row)) if row.removed => Ok(None),
            found => Ok(found?.filter(|container| !container.is_removed())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::model::{
        Cause, ContainerConfig, Exit, InvocationKind, Issued, Known, RestartPolicy, Run, RunPhase, Status, samples,
    };
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
        assert_eq!(Meaning::of(&whole), Meaning { id: whole.parse().ok(), name: &whole, range: None, seq: None });
        assert_eq!(Meaning::of("/web"), Meaning { id: None, name: "web", range: None, seq: None });
        for text in ["", "ABC", "xyz", "é", "/a", &"5".repeat(65)] {
            assert_eq!(Meaning::of(text).range, None, "{text}");
        }
    }

    /// Any JSON, not deeper than a request may be.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(24, 64, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn status() -> impl Strategy<Value = Status> {
        let run = (any::<[u64; 2]>(), any::<[String; 4]>(), any::<[i64; 3]>(), any::<(u8, u32, bool)>());
        let run =
            run.prop_map(|([no, start], [token, stream, message, result], [at, since, end], (code, again, exited))| {
                let (at, since, end) =
                    (Timestamp::from_nanos(at), Timestamp::from_nanos(since), Timestamp::from_nanos(end));
                let kind = InvocationKind::Event;
                let issued = Issued { token, kind, function_name: stream.clone(), at, deadline: end };
                let phase = match exited {
                    true => RunPhase::Exited(Exit {
                        code,
                        cause: Cause::Exited,
                        message,
                        started_at: Some(since),
                        finished_at: end,
                    }),
                    false => RunPhase::Running { since },
                };
                Run {
                    second_runs: again,
                    result: Some(result),
                    log_stream: Some(stream),
                    ..Run::new(no, start, Some(issued), phase)
                }
            });
        let rest = (any::<[u32; 3]>(), 0..=i64::MAX as u64, any::<Vec<String>>(), proptest::option::of(run));
        rest.prop_map(|([incarnation, restarts, reruns], observed_generation, log_streams, run)| Status {
            incarnation,
            restarts,
            reruns,
            observed_generation,
            log_streams,
            run,
            function: Known::Maybe,
            ..Status::default()
        })
    }

    proptest! {
        #[test]
        fn status_of_any_content_is_written_as_it_is_read(status in status()) {
            let text = to_json("status", &status).unwrap();
            prop_assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
        }

        #[test]
        fn config_of_any_content_is_written_as_it_is_read(
            docker in json(),
            texts in any::<[String; 4]>(),
            labels in any::<std::collections::BTreeMap<String, String>>(),
            max in any::<u32>(),
        ) {
            let [image, variable, working_dir, payload] = texts;
            let mut config = ContainerConfig { image, labels, docker_config: docker, ..samples::config() };
            config.env = vec![variable];
            config.working_dir = Some(working_dir);
            config.function.payload = Some(payload);
            config.restart = RestartPolicy::OnFailure { max };
            let text = to_json("config", &config).unwrap();
            let read: ContainerConfig = serde_json::from_str(&text).unwrap();
            prop_assert!(read == config || differ_by_rounding_only(&read, &config));
        }
    }

    #[test]
    fn what_reads_as_something_else_is_not_written() {
        #[derive(Serialize, serde::Deserialize, PartialEq)]
        struct Lossy {
            #[serde(skip_serializing, default)]
            value: u8,
        }
        #[derive(Serialize, serde::Deserialize, PartialEq)]
        struct Measured(f64);
        for error in [
            to_json("x", &Lossy { value: 7 }).unwrap_err(),
            to_json("x", &Measured(f64::NAN)).unwrap_err(),
            to_json("x", &Measured(f64::INFINITY)).unwrap_err(),
            number("x", u64::MAX).unwrap_err(),
        ] {
            assert!(matches!(&error, StateError::Unstorable(why) if why.starts_with('x')), "{error}");
        }
        assert_eq!(to_json("x", &Measured(0.1 + 0.2)).unwrap(), "0.30000000000000004");
        assert_eq!(depth(r#"{"a":"[[\\\"[[","b":[{}]}"#), 3);
    }

    #[test]
    fn reason_does_not_quote_what_is_stored() {
        let error = serde_json::from_str::<Vec<u32>>(r#"["secret"]"#).unwrap_err();
        assert!(error.to_string().contains("secret"), "the parser's words do");
        assert_eq!(place(&error), "not of the expected type at byte 9");
    }
}
