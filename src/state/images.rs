//! Image references that clients have named.

use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::model::bounds::MAX_LONG_NAME_BYTES;
use super::model::text::bounded;
use super::quarantine::{Quarantine, Table};
use super::records::Image;
use super::rows::{get, time};
use super::writer::{Command, Tx};
use super::{MAX_IMAGES, Result};
use crate::clock::Timestamp;

pub(super) async fn all(pool: &SqlitePool, quarantine: &Quarantine) -> Result<Vec<Image>> {
    let rows =
        sqlx::query("SELECT seq, reference, id, created_at, digest FROM image ORDER BY created_at DESC, seq DESC")
            .fetch_all(pool)
            .await?;
    Ok(quarantine.readable(Table::Image, &rows, image))
}

pub(super) async fn one(pool: &SqlitePool, quarantine: &Quarantine, reference: &str) -> Result<Option<Image>> {
    let row = sqlx::query("SELECT seq, reference, id, created_at, digest FROM image WHERE reference = ?1")
        .bind(reference)
        .fetch_optional(pool)
        .await?;
    Ok(row.and_then(|row| quarantine.read(Table::Image, &row, image).ok()))
}

/// Records an image reference.
pub(super) struct PutImage {
    pub(super) image: Image,
    pub(super) action: &'static str,
    pub(super) now: Timestamp,
}

/// What is known of a reference stays while it means the same image, as far as it can be read.
const PUT: &str = "INSERT INTO image (reference, id, created_at, digest) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT (reference) DO UPDATE SET id = excluded.id, \
    created_at = CASE WHEN image.id = excluded.id AND typeof(image.created_at) = 'integer' \
    THEN image.created_at ELSE excluded.created_at END, \
    digest = coalesce(excluded.digest, CASE WHEN image.id = excluded.id AND image.digest = CAST(image.digest AS TEXT) \
    THEN image.digest END)";

/// Whether there can be more than `?1` references is told by the first and the last number alone; they are counted only
/// then.
const FULL: &str = "SELECT (SELECT max(seq) FROM image) - (SELECT min(seq) FROM image) + 1 >= ?1 \
    AND (SELECT count(*) FROM image) >= ?1 AND NOT EXISTS (SELECT 1 FROM image WHERE reference = ?2)";

impl Command for PutImage {
    type Output = bool;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<bool> {
        let full: Option<bool> =
            sqlx::query_scalar(FULL).bind(MAX_IMAGES).bind(&self.image.reference).fetch_one(&mut *tx.conn).await?;
        if full == Some(true) {
            return Ok(false);
        }
        sqlx::query(PUT)
            .bind(&self.image.reference)
            .bind(&self.image.id)
            .bind(self.image.created_at.as_nanos())
            .bind(self.image.digest)
            .execute(&mut *tx.conn)
            .await?;
        tx.image_event(&self.image.reference, &self.image.id, self.action, self.now).await?;
        Ok(true)
    }
}

/// Forgets an image reference.
pub(super) struct DeleteImage {
    pub(super) reference: String,
    pub(super) actions: Vec<&'static str>,
    pub(super) now: Timestamp,
}

impl Command for DeleteImage {
    type Output = bool;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<bool> {
        let deleted = sqlx::query("DELETE FROM image WHERE reference = ?1 RETURNING id")
            .bind(&self.reference)
            .fetch_optional(&mut *tx.conn)
            .await?;
        let Some(deleted) = deleted else { return Ok(false) };
        // One that cannot be read can be forgotten all the same.
        let id: String = get(&deleted, "id").unwrap_or_default();
        for action in self.actions {
            tx.image_event(&self.reference, &id, action, self.now).await?;
        }
        Ok(true)
    }
}

/// What an image's tag meant to Lambda; nothing when the reference was forgotten meanwhile.
pub(super) struct SetImageDigest {
    pub(super) reference: String,
    pub(super) digest: String,
}

impl Command for SetImageDigest {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        sqlx::query("UPDATE image SET digest = ?2 WHERE reference = ?1")
            .bind(self.reference)
            .bind(bounded(&self.digest, MAX_LONG_NAME_BYTES))
            .execute(&mut *tx.conn)
            .await?;
        Ok(())
    }
}

fn image(row: &SqliteRow) -> Result<Image> {
    Ok(Image {
        reference: get(row, "reference")?,
        id: get(row, "id")?,
        created_at: time(row, "created_at")?,
        digest: row.try_get("digest")?,
    })
}
