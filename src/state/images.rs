//! Image references that clients have named.

use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::model::bounds::MAX_LONG_NAME_BYTES;
use super::model::text::bounded;
use super::quarantine::{Quarantine, Row, Table};
use super::records::{Image, ImageRemoval};
use super::rows::{flag, get, time};
use super::writer::{Command, Tx};
use super::{MAX_IMAGES, Result, projections};
use crate::clock::Timestamp;

pub(super) async fn all(pool: &SqlitePool, quarantine: &Quarantine) -> Result<Vec<Image>> {
    let rows =
        sqlx::query("SELECT seq, reference, id, created_at, digest FROM image ORDER BY created_at DESC, seq DESC")
            .fetch_all(pool)
            .await?;
    Ok(quarantine.readable(Table::Image, &rows, image))
}

/// Whether there is a reference that cannot be read.
pub(super) async fn is_unreadable(pool: &SqlitePool, quarantine: &Quarantine, reference: &str) -> Result<bool> {
    Ok(row(pool, quarantine, reference).await?.is_some_and(|row| row.is_err()))
}

pub(super) async fn one(pool: &SqlitePool, quarantine: &Quarantine, reference: &str) -> Result<Option<Image>> {
    Ok(row(pool, quarantine, reference).await?.and_then(Result::ok))
}

async fn row(pool: &SqlitePool, quarantine: &Quarantine, reference: &str) -> Result<Option<Row<Image>>> {
    let row = sqlx::query("SELECT seq, reference, id, created_at, digest FROM image WHERE reference = ?1")
        .bind(reference)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| quarantine.read(Table::Image, &row, image)))
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

/// The oldest reference that no visible container was created with. `?1`, which was just named, is never the one; neither is
/// the first reference of an image while it has others: they mean the image that it names.
const OLDEST_UNUSED: &str = "SELECT i.seq, EXISTS (SELECT 1 FROM image AS j WHERE j.id = i.id AND j.seq <> i.seq) AS is_shared \
    FROM image AS i WHERE i.reference <> ?1 \
    AND NOT EXISTS (SELECT 1 FROM container WHERE image_reference = i.reference AND removed IS NOT 1) \
    AND (i.seq > (SELECT min(seq) FROM image WHERE id = i.id) OR i.seq = (SELECT max(seq) FROM image WHERE id = i.id)) \
    ORDER BY i.created_at, i.seq LIMIT 1";

impl Command for PutImage {
    type Output = bool;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<bool> {
        let is_known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM image WHERE reference = ?1)")
            .bind(&self.image.reference)
            .fetch_one(&mut *tx.conn)
            .await?;
        sqlx::query(PUT)
            .bind(&self.image.reference)
            .bind(&self.image.id)
            .bind(self.image.created_at.as_nanos())
            .bind(self.image.digest)
            .execute(&mut *tx.conn)
            .await?;
        if !is_known && !tx.make_room_for(&self.image.reference, self.now).await? {
            return Ok(false);
        }
        tx.image_event(&self.image.reference, &self.image.id, self.action, self.now).await?;
        Ok(true)
    }
}

/// Drops the references that cannot be read themselves: no client can name them, and no container is found by them.
pub(super) struct DropUnnamed;

impl Command for DropUnnamed {
    type Output = ();

    async fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        let rows = sqlx::query("SELECT seq, reference FROM image").fetch_all(&mut *tx.conn).await?;
        for row in rows.iter().filter(|row| get::<String>(row, "reference").is_err()) {
            let seq: i64 = get(row, "seq")?;
            sqlx::query("DELETE FROM image WHERE seq = ?1").bind(seq).execute(&mut *tx.conn).await?;
            tracing::warn!(row = seq, "an image reference that cannot be read is dropped");
            tx.changes.unreadable_gone(Table::Image, seq.to_string());
        }
        Ok(())
    }
}

/// Forgets image references.
pub(super) struct DeleteImages {
    pub(super) removals: Vec<ImageRemoval>,
    pub(super) now: Timestamp,
}

impl Command for DeleteImages {
    type Output = Vec<ImageRemoval>;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Vec<ImageRemoval>> {
        let mut done = Vec::with_capacity(self.removals.len());
        for removal in self.removals {
            if tx.forget_image(&removal, self.now).await? {
                done.push(removal);
            }
        }
        Ok(done)
    }
}

impl Tx<'_> {
    /// Forgets a reference beside the new one if there are more than [`MAX_IMAGES`]. `false`: all others are used, and the
    /// new one is taken back.
    async fn make_room_for(&mut self, new: &str, now: Timestamp) -> Result<bool> {
        let count: i64 = sqlx::query_scalar(projections::IMAGES).fetch_one(&mut *self.conn).await?;
        if count <= MAX_IMAGES {
            return Ok(true);
        }
        let Some(oldest) = sqlx::query(OLDEST_UNUSED).bind(new).fetch_optional(&mut *self.conn).await? else {
            sqlx::query("DELETE FROM image WHERE reference = ?1").bind(new).execute(&mut *self.conn).await?;
            return Ok(false);
        };
        let deleted = sqlx::query("DELETE FROM image WHERE seq = ?1 RETURNING seq, reference, id")
            .bind(get::<i64>(&oldest, "seq")?)
            .fetch_one(&mut *self.conn)
            .await?;
        self.forgotten(&deleted, !flag(&oldest, "is_shared")?, now).await?;
        Ok(true)
    }

    /// Forgets a reference; `false`: there was none.
    async fn forget_image(&mut self, removal: &ImageRemoval, now: Timestamp) -> Result<bool> {
        let deleted = sqlx::query("DELETE FROM image WHERE reference = ?1 RETURNING seq, reference, id")
            .bind(&removal.reference)
            .fetch_optional(&mut *self.conn)
            .await?;
        let Some(deleted) = deleted else { return Ok(false) };
        self.forgotten(&deleted, removal.is_last, now).await?;
        Ok(true)
    }

    /// The events that Docker has for a reference that was deleted. One that cannot be read can be forgotten all the same.
    async fn forgotten(&mut self, deleted: &SqliteRow, is_last: bool, now: Timestamp) -> Result<()> {
        self.changes.unreadable_gone(Table::Image, get::<i64>(deleted, "seq")?.to_string());
        let reference: String = get(deleted, "reference").unwrap_or_default();
        let id: String = get(deleted, "id").unwrap_or_default();
        let actions: &[&'static str] = if is_last { &["untag", "delete"] } else { &["untag"] };
        for action in actions {
            self.image_event(&reference, &id, action, now).await?;
        }
        Ok(())
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

pub(super) fn image(row: &SqliteRow) -> Result<Image> {
    Ok(Image {
        reference: get(row, "reference")?,
        id: get(row, "id")?,
        created_at: time(row, "created_at")?,
        digest: row.try_get("digest")?,
    })
}
