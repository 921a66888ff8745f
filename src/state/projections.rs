//! Narrow reads: counts, and what lists and passes over all containers need of each row.
//!
//! # Guarantees
//! - Each read returns a page, or what is bounded otherwise, so a pass over all objects needs memory for one page of them.
//! - What a sweep reads has no column whose size a client decides.
//! - A row whose JSON cannot be read is still reported as being there.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row};

use super::facts::Facts;
use super::model::{Container, ContainerId, FunctionSettings};
use super::quarantine::{Table, shown_id};
use super::reader::Reader;
use super::records::Image;
use super::rows::{self, Page, containers, json_integer, maybe_time};
use super::{Result, StateError, images};
use crate::clock::Timestamp;

/// How many objects clients can see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Containers.
    pub containers: usize,
    /// Those of them that count as running.
    pub running: usize,
    /// Image references.
    pub images: usize,
}

/// A container of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The container.
    pub container: Container,
    /// The id of the image that it was created with; `None`: its reference was forgotten.
    pub image_id: Option<String>,
}

/// Where an image stands among all: when its newest reference was first named, and that reference's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePlace {
    created_at: Timestamp,
    seq: i64,
}

/// An image with all its references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageGroup {
    /// Where it stands.
    pub place: ImagePlace,
    /// Those that can be read, the newest first.
    pub references: Vec<Image>,
    /// Visible containers that were created with one of them.
    pub users: usize,
}

/// A page of the images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePage {
    /// The images, the newest first.
    pub groups: Vec<ImageGroup>,
    /// After which the next page begins; `None`: there are no more.
    pub next: Option<ImagePlace>,
}

/// The settings of a container's function, without what only its invocations need.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct FunctionSpec {
    /// The image's URI as CreateFunction gets it.
    pub image_uri: String,
    /// As [`super::model::ContainerConfig::entrypoint`]; with the bootstrap: `None`.
    pub entrypoint: Option<Vec<String>>,
    /// As [`super::model::ContainerConfig::cmd`]; with the bootstrap: `None`.
    pub cmd: Option<Vec<String>>,
    /// As [`super::model::ContainerConfig::env`]; with the bootstrap: `None`.
    pub env: Option<Vec<String>>,
    /// As [`super::model::ContainerConfig::working_dir`].
    pub working_dir: Option<String>,
    /// The function's own settings; the payload is left out.
    pub function: FunctionSettings,
}

/// Never prints the environment.
impl std::fmt::Debug for FunctionSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionSpec").field("image_uri", &self.image_uri).finish_non_exhaustive()
    }
}

/// A container as far as its function's settings go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionOwner {
    /// Its place: [`Container::seq`].
    pub seq: i64,
    /// Its id.
    pub id: ContainerId,
    /// The number in its function's name, and the settings; `None`: the row cannot be read.
    pub function: Option<(u32, FunctionSpec)>,
}

/// A container as far as the existence of its function goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionPresence {
    /// Its place: [`Container::seq`].
    pub seq: i64,
    /// Its id; `None`: it cannot be read.
    pub id: Option<ContainerId>,
    /// Its status says that the function is there.
    pub is_present: bool,
    /// When the last CreateFunction was sent.
    pub create_sent_at: Option<Timestamp>,
}

/// A page of [`FunctionPresence`]s, in the order of [`Container::seq`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presences {
    /// The rows.
    pub rows: Vec<FunctionPresence>,
    /// The sequence number after which the next page begins; `None`: there are no more rows.
    pub next: Option<i64>,
}

/// One row a container whose id begins like one of the given texts. Only what a function of a native image has is bounded
/// when the container is admitted; with the bootstrap the same fields are left out.
const OWNERS: &str = concat!(
    "SELECT c.seq, c.id, ",
    json_integer!("c.status", "$.incarnation"),
    " AS incarnation, \
    CASE WHEN json_valid(c.config) THEN json_object( \
        'image_uri', c.config -> '$.image_uri', 'working_dir', c.config -> '$.working_dir', \
        'function', json_remove(c.config -> '$.function', '$.payload'), \
        'entrypoint', json(CASE c.config ->> '$.function.protocol' WHEN 'native' THEN c.config -> '$.entrypoint' END), \
        'cmd', json(CASE c.config ->> '$.function.protocol' WHEN 'native' THEN c.config -> '$.cmd' END), \
        'env', json(CASE c.config ->> '$.function.protocol' WHEN 'native' THEN c.config -> '$.env' END)) END AS function \
    FROM json_each(?1) AS wanted CROSS JOIN container AS c \
    ON c.id BETWEEN unhex(wanted.value ->> '$[0]') AND unhex(wanted.value ->> '$[1]')"
);

const PRESENCE: &str = concat!(
    "SELECT seq, id, \
    CASE WHEN json_valid(status) THEN json_type(status, '$.function.is') IS NOT NULL ELSE 0 END AS is_present, ",
    json_integer!("status", "$.create_sent_at"),
    " AS create_sent_at FROM container WHERE seq > ?1 ORDER BY seq LIMIT ?2"
);

const LISTED: &str = containers!(
    "(SELECT id FROM image WHERE reference = image_reference) AS image_id",
    "WHERE removed IS NOT 1 AND seq < ?1 ORDER BY seq DESC LIMIT ?2"
);

const LISTED_RUNNING: &str = containers!(
    "(SELECT id FROM image WHERE reference = image_reference) AS image_id",
    "WHERE running = 1 AND removed = 0 AND seq < ?1 ORDER BY seq DESC LIMIT ?2"
);

/// An image is where its newest reference is.
const IMAGE_GROUPS: &str = "SELECT head.created_at AS head_at, head.seq AS head_seq, \
    i.seq, i.reference, i.id, i.created_at, i.digest, \
    (SELECT count(*) FROM container AS c WHERE c.image_reference = i.reference AND c.removed IS NOT 1) AS users \
    FROM (SELECT id, created_at, seq FROM image AS h WHERE (created_at, seq) < (?1, ?2) AND typeof(created_at) = 'integer' \
        AND NOT EXISTS (SELECT 1 FROM image AS newer WHERE newer.id = h.id AND typeof(newer.created_at) = 'integer' \
            AND (newer.created_at, newer.seq) > (h.created_at, h.seq)) \
        ORDER BY created_at DESC, seq DESC LIMIT ?3) AS head \
    CROSS JOIN image AS i ON i.id = head.id \
    ORDER BY head.created_at DESC, head.seq DESC, i.created_at DESC, i.seq DESC";

/// One of which it is not known whether it is running counts as running.
const IMAGE_USER: &str = "SELECT id, seq FROM container WHERE image_reference = ?1 AND removed IS NOT 1 \
    AND (?2 = 0 OR running IS NOT 0) ORDER BY seq DESC LIMIT 1";

/// The number of all containers, for the writer. What of the counts cannot be read is counted from an index.
pub(super) const CONTAINERS: &str = "SELECT coalesce((SELECT containers FROM object_count \
    WHERE typeof(containers) = 'integer' AND containers >= 0), (SELECT count(*) FROM container))";

/// The number of all image references, as [`CONTAINERS`].
pub(super) const IMAGES: &str = "SELECT coalesce((SELECT images FROM object_count WHERE typeof(images) = 'integer' AND images >= 0), \
    (SELECT count(*) FROM image))";

const COUNTS: &str = "SELECT coalesce((SELECT visible FROM object_count WHERE typeof(visible) = 'integer' AND visible >= 0), \
    (SELECT count(*) FROM container WHERE removed IS NOT 1)) AS visible, \
    coalesce((SELECT running FROM object_count WHERE typeof(running) = 'integer' AND running >= 0), \
    (SELECT count(*) FROM container WHERE removed IS NOT 1 AND running IS 1)) AS running, \
    coalesce((SELECT images FROM object_count WHERE typeof(images) = 'integer' AND images >= 0), \
    (SELECT count(*) FROM image)) AS images";

/// Counted from an index, which is narrow.
const COUNTED: &str = "SELECT 1, count(*), count(*) FILTER (WHERE removed IS NOT 1), \
    count(*) FILTER (WHERE removed IS NOT 1 AND running IS 1), (SELECT count(*) FROM image) FROM container";

/// Counts once more, so that a row that was changed outside the daemon does not leave a wrong count behind for good.
pub(super) async fn recount(connection: &mut SqliteConnection) -> Result<()> {
    let is_right = sqlx::query(AssertSqlSafe(format!("SELECT * FROM object_count INTERSECT {COUNTED}")));
    if is_right.fetch_optional(&mut *connection).await?.is_none() {
        sqlx::query(AssertSqlSafe(format!("REPLACE INTO object_count {COUNTED}"))).execute(connection).await?;
    }
    Ok(())
}

impl Reader {
    /// How many objects there are. Reads one row.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn counts(&self) -> Result<Counts> {
        let row = sqlx::query(COUNTS).fetch_one(&self.pool).await?;
        let of = |column| rows::count(&row, column).map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        Ok(Counts { containers: of("visible")?, running: of("running")?, images: of("images")? })
    }

    /// A page of a list: as [`Reader::containers`]; `running`: only those that count as running.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn listed(&self, below: Option<i64>, limit: u32, running: bool) -> Result<Page<Listed>> {
        let query = sqlx::query(if running { LISTED_RUNNING } else { LISTED });
        let found = query.bind(below.unwrap_or(i64::MAX)).bind(limit).fetch(&self.pool);
        rows::page(found, (&self.hub.quarantine, Table::Container), listed, rows::LONG_COLUMNS).await
    }

    /// A page of the images, the newest first: those older than `below`, or the newest; at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn image_groups(&self, below: Option<ImagePlace>, limit: u32) -> Result<ImagePage> {
        let ImagePlace { created_at, seq } =
            below.unwrap_or(ImagePlace { created_at: Timestamp::from_nanos(i64::MAX), seq: i64::MAX });
        let query = sqlx::query(IMAGE_GROUPS).bind(created_at.as_nanos()).bind(seq).bind(limit);
        let (mut groups, mut next): (Vec<ImageGroup>, _) = (Vec::new(), None);
        for row in &query.fetch_all(&self.pool).await? {
            let place = ImagePlace { created_at: rows::time(row, "head_at")?, seq: rows::get(row, "head_seq")? };
            next = Some(place);
            let Ok(image) = self.hub.quarantine.read(Table::Image, row, images::image) else { continue };
            if groups.last().is_none_or(|group| group.place != place) {
                groups.push(ImageGroup { place, references: Vec::new(), users: 0 });
            }
            if let Some(group) = groups.last_mut() {
                group.references.push(image);
                let users = usize::try_from(rows::count(row, "users")?).unwrap_or(usize::MAX);
                group.users = group.users.saturating_add(users);
            }
        }
        Ok(ImagePage { groups, next })
    }

    /// The id, as clients see it, of the newest visible container that was created with this image reference, be it one that
    /// cannot be read; `running`: only one that counts as running.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn image_user(&self, reference: &str, running: bool) -> Result<Option<String>> {
        let row = sqlx::query(IMAGE_USER).bind(reference).bind(running).fetch_optional(&self.pool).await?;
        let shown = |row: &SqliteRow| Ok(shown_id(rows::id(row).ok(), rows::get(row, "seq")?));
        row.as_ref().map(shown).transpose()
    }
}

impl Facts {
    /// Whether the container has a row, also if it is being removed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_row(&self, id: &ContainerId) -> Result<bool> {
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM container WHERE id = ?1)");
        Ok(query.bind(id.as_bytes().as_slice()).fetch_one(&self.pool).await?)
    }

    /// The containers whose ids begin with these hexadecimal digits, in no order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn function_owners(&self, beginnings: &[String]) -> Result<Vec<FunctionOwner>> {
        let ranges: Vec<[String; 2]> =
            beginnings.iter().map(|digits| [format!("{digits:0<64}"), format!("{digits:f<64}")]).collect();
        let rows = sqlx::query(OWNERS).bind(rows::to_json("ranges", &ranges)?).fetch_all(&self.pool).await?;
        Ok(rows.iter().filter_map(|row| owner(row).ok()).collect())
    }

    /// A page of all containers, also those being removed, oldest first: those after `after` (by [`Container::seq`]; 0:
    /// from the first), at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn function_presence(&self, after: i64, limit: u32) -> Result<Presences> {
        let found = sqlx::query(PRESENCE).bind(after).bind(limit).fetch_all(&self.pool).await?;
        let rows = found.iter().map(presence).collect::<Result<Vec<_>>>()?;
        let next = rows.last().map(|last| last.seq);
        Ok(Presences { rows, next })
    }
}

fn listed(row: &SqliteRow) -> Result<Listed> {
    Ok(Listed { container: rows::container(row)?, image_id: row.try_get("image_id").unwrap_or_default() })
}

fn owner(row: &SqliteRow) -> Result<FunctionOwner> {
    let incarnation = row.try_get::<Option<u32>, _>("incarnation").ok().flatten();
    Ok(FunctionOwner {
        seq: rows::get(row, "seq")?,
        id: rows::id(row)?,
        function: incarnation.zip(readable(row, "function")?),
    })
}

fn presence(row: &SqliteRow) -> Result<FunctionPresence> {
    Ok(FunctionPresence {
        seq: rows::get(row, "seq")?,
        id: rows::id(row).ok(),
        is_present: rows::get(row, "is_present")?,
        create_sent_at: maybe_time(row, "create_sent_at")?,
    })
}

/// JSON; `None`: there is none, or not what it should be.
fn readable<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<Option<T>, StateError> {
    let text: Option<&str> = row.try_get(column)?;
    Ok(text.and_then(|text| serde_json::from_str(text).ok()))
}
