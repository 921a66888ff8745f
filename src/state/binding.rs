//! Where in AWS a database's functions and claims are: bound once, at the first claim, and never changed.
//!
//! Under another prefix, region or account the functions of every container would look absent: they would be made again,
//! and removed containers would leave theirs behind. In another claims group no claim of another daemon would be seen.
//!
//! A binding of which a part cannot be read is a doubt about the instance, see [`super::instance`]: adoption replaces that
//! part. What can be read of it holds as ever.

use std::path::Path;

use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Connection as _, Row as _, ValueRef as _};

use super::rows::get;
use super::writer::{Command, Tx};
use super::{Result, StateError, file};

/// Where the functions and claims of an instance are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Beginning of every function's name.
    pub function_prefix: String,
    /// AWS region.
    pub region: String,
    /// The 12 digits of the AWS account, or `sandbox`.
    pub account: String,
    /// The log group with the claims.
    pub claims_log_group: String,
}

impl Binding {
    /// Why a database with this binding cannot be used with other settings: a sentence with each value that differs, as it
    /// was and as it is now, and what to do. `None`: it can.
    #[must_use]
    pub fn conflict(&self, configured: &Self) -> Option<String> {
        let fields = |binding: &Self| {
            [
                ("function_prefix", binding.function_prefix.clone()),
                ("region", binding.region.clone()),
                ("the account", binding.account.clone()),
                ("claims_log_group", binding.claims_log_group.clone()),
            ]
        };
        let pairs = fields(self).into_iter().zip(fields(configured)).filter(|(old, new)| old != new);
        let changes: Vec<String> =
            pairs.map(|((name, old), (_, new))| format!("{name} was {old:?} and is now {new:?}")).collect();
        if changes.is_empty() {
            return None;
        }
        Some(format!(
            "this database belongs to other settings: {}. Its functions would be out of reach and left behind in AWS. Set \
             the old value again, or name another `database`; --adopt does not move a database",
            changes.join(", ")
        ))
    }
}

/// The columns, NULL together until the instance is bound, in the order of the fields.
const COLUMNS: [&str; 4] = ["function_prefix", "region", "account", "claims_log_group"];

const READ: &str = "SELECT function_prefix, region, account, claims_log_group FROM instance";

pub(super) async fn as_far_as_readable(pool: &SqlitePool, other: Binding) -> Result<Binding> {
    let row = sqlx::query(READ).fetch_optional(pool).await?;
    Ok(row.map_or(other.clone(), |row| completed(&row, other)))
}

pub(super) async fn read(pool: &SqlitePool) -> Result<Option<Binding>> {
    bound(sqlx::query(READ).fetch_optional(pool).await?)
}

fn bound(row: Option<SqliteRow>) -> Result<Option<Binding>> {
    row.map_or(Ok(None), |row| binding(&row))
}

/// What the database in this file is bound to, without opening a store: a daemon may be using it.
///
/// # Errors
/// As opening the store to read.
pub async fn bound_to(path: &Path) -> Result<Option<Binding>> {
    if !file::check(path).await? {
        return Ok(None);
    }
    let mut connection = file::connect_to_look(path).await?;
    let row = sqlx::query(READ).fetch_optional(&mut connection).await?;
    connection.close().await?;
    bound(row)
}

/// Binds the instance if it is not bound yet. Returns what it is bound to.
pub(super) struct Bind(pub(super) Binding);

impl Command for Bind {
    type Output = Binding;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Binding> {
        let Self(wanted) = self;
        let connection: &mut SqliteConnection = &mut *tx.conn;
        sqlx::query(
            "UPDATE instance SET function_prefix = ?1, region = ?2, account = ?3, claims_log_group = ?4 \
             WHERE function_prefix IS NULL AND region IS NULL AND account IS NULL AND claims_log_group IS NULL",
        )
        .bind(wanted.function_prefix)
        .bind(wanted.region)
        .bind(wanted.account)
        .bind(wanted.claims_log_group)
        .execute(&mut *connection)
        .await?;
        let bound = bound(sqlx::query(READ).fetch_optional(connection).await?)?;
        bound.ok_or_else(missing)
    }
}

/// Replaces what cannot be read of the binding by parts of this one. Returns what the instance is bound to.
pub(super) struct Mend(pub(super) Binding);

impl Command for Mend {
    type Output = Binding;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Binding> {
        let row = sqlx::query(READ).fetch_optional(&mut *tx.conn).await?.ok_or_else(missing)?;
        let mended = completed(&row, self.0);
        sqlx::query("UPDATE instance SET function_prefix = ?1, region = ?2, account = ?3, claims_log_group = ?4")
            .bind(&mended.function_prefix)
            .bind(&mended.region)
            .bind(&mended.account)
            .bind(&mended.claims_log_group)
            .execute(&mut *tx.conn)
            .await?;
        Ok(mended)
    }
}

fn missing() -> StateError {
    StateError::Corrupt("the row of the instance is missing".to_owned())
}

/// What can be read of a row's binding, and the rest of another one.
fn completed(row: &SqliteRow, other: Binding) -> Binding {
    let part = |column, other| part(row, column).unwrap_or(other);
    let [function_prefix, region, account, claims_log_group] = COLUMNS;
    Binding {
        function_prefix: part(function_prefix, other.function_prefix),
        region: part(region, other.region),
        account: part(account, other.account),
        claims_log_group: part(claims_log_group, other.claims_log_group),
    }
}

/// A part of a binding, none of which is ever empty.
fn part(row: &SqliteRow, column: &'static str) -> Result<String> {
    let part: String = get(row, column)?;
    if part.is_empty() { Err(StateError::Corrupt(format!("{column} is empty"))) } else { Ok(part) }
}

/// What a row of the instance is bound to; `None`: nothing yet.
///
/// # Errors
/// When only a part can be read: it is bound, and nobody can tell to what.
pub(super) fn binding(row: &SqliteRow) -> Result<Option<Binding>> {
    if COLUMNS.iter().all(|column| row.try_get_raw(*column).is_ok_and(|value| value.is_null())) {
        return Ok(None);
    }
    let [function_prefix, region, account, claims_log_group] = COLUMNS;
    Ok(Some(Binding {
        function_prefix: part(row, function_prefix)?,
        region: part(row, region)?,
        account: part(row, account)?,
        claims_log_group: part(row, claims_log_group)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_conflict_names_every_old_and_new_value_and_what_to_do() {
        let bound = Binding {
            function_prefix: "skls".to_owned(),
            region: "eu-west-1".to_owned(),
            account: "123456789012".to_owned(),
            claims_log_group: "/claims".to_owned(),
        };
        assert_eq!(bound.conflict(&bound), None);
        let moved = Binding { region: "us-east-1".to_owned(), account: "sandbox".to_owned(), ..bound.clone() };
        let sentence = bound.conflict(&moved).unwrap();
        for part in [
            r#"region was "eu-west-1" and is now "us-east-1", the account was "123456789012" and is now "sandbox""#,
            "Set the old value again, or name another `database`",
        ] {
            assert!(sentence.contains(part), "{sentence}");
        }
        assert!(!sentence.contains("prefix"), "{sentence}");
    }
}
