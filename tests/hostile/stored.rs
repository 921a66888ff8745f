//! What the database has, read without the daemon's code.

use std::collections::BTreeMap;
use std::path::Path;

use sockerless_lambda::state::Table;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::limits::column_bytes;
use super::world::Broken;

/// The table of counts that triggers keep.
const COUNTS: &str = "object_count";

/// What was found at one moment.
#[derive(Debug, PartialEq)]
pub(crate) struct Stored {
    /// The rows of each table.
    pub(crate) rows: BTreeMap<String, i64>,
    /// The containers that clients see.
    pub(crate) shown: i64,
    /// Different images: several references may be of one.
    pub(crate) images: i64,
    /// Every text and the kept counts are right.
    pub(crate) is_right: Result<(), Broken>,
}

impl Stored {
    /// Reads a database that a daemon may have open.
    pub(crate) async fn read(database: &Path) -> Result<Self, Broken> {
        let options = SqliteConnectOptions::new().filename(database).read_only(true);
        let mut connection = options.connect().await.map_err(|error| error.to_string())?;
        let stored = Self::read_at_once(&mut connection).await.map_err(|error| format!("the database: {error}"));
        connection.close().await.map_err(|error| error.to_string())?;
        stored
    }

    /// The rows of a table.
    pub(crate) fn rows_of(&self, table: Table) -> i64 {
        self.rows.get(table.name()).copied().unwrap_or_default()
    }

    /// In one transaction, which sees one state of all tables.
    async fn read_at_once(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let mut transaction = connection.begin().await?;
        let stored = Self::read_all(&mut transaction).await?;
        transaction.rollback().await?;
        Ok(stored)
    }

    async fn read_all(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let (mut rows, mut is_right) = (BTreeMap::new(), Ok(()));
        for (table, columns) in tables(connection).await? {
            let count = number(connection, &format!("SELECT count(*) FROM {table}")).await?;
            rows.insert(table.clone(), count);
            for column in columns {
                let longest = format!("SELECT coalesce(max(length(CAST({column} AS BLOB))), 0) FROM {table}");
                let (bytes, limit) = (number(connection, &longest).await?, column_bytes(&table, &column));
                if usize::try_from(bytes).is_ok_and(|bytes| bytes > limit) {
                    is_right = Err(format!("{table}.{column} has {bytes} bytes, limit {limit}"));
                }
            }
        }
        let shown = number(connection, "SELECT count(*) FROM container WHERE removed = 0").await?;
        let images = number(connection, "SELECT count(DISTINCT id) FROM image").await?;
        let kept = sqlx::query("SELECT containers, visible, images FROM object_count").fetch_one(connection).await?;
        let kept: [i64; 3] = [kept.try_get(0)?, kept.try_get(1)?, kept.try_get(2)?];
        let counted = [rows[Table::Container.name()], shown, rows[Table::Image.name()]];
        if kept != counted {
            is_right = Err(format!("the counts of containers, visible ones and images are {kept:?}, not {counted:?}"));
        }
        let known = Table::ALL.iter().map(|table| table.name()).chain([COUNTS]);
        if let Some(unknown) = rows.keys().find(|table| !known.clone().any(|name| name == table.as_str())) {
            is_right = Err(format!("the table {unknown} is not among those that are checked"));
        }
        Ok(Self { rows, shown, images, is_right })
    }
}

/// Every table of the daemon's, with its columns.
async fn tables(connection: &mut SqliteConnection) -> Result<BTreeMap<String, Vec<String>>, sqlx::Error> {
    let columns = "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns \
                   WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite%' AND tables.name NOT LIKE '\\_sqlx%' ESCAPE '\\'";
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in sqlx::query(columns).fetch_all(connection).await? {
        tables.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
    }
    Ok(tables)
}

async fn number(connection: &mut SqliteConnection, query: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(connection).await
}
