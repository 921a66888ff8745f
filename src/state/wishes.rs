//! Wishes: what the API may write.

use super::admit;
use super::images::{DeleteImage, PutImage};
use super::model::{Container, ContainerId, Spec, Status};
use super::quarantine::Table;
use super::records::{Cancelled, ContainerEvent, CreateRefused, Image, NewContainer, Removed, Renamed, Started};
use super::rows::{self, containers, id, nanos, number, to_json};
use super::salvage::RemoveUnidentified;
use super::writer::{Command, Commands, Tx};
use super::{MAX_CONTAINERS, Result, StateError};
use crate::clock::Timestamp;

/// Writes wishes: for the API only. Each call is one durable commit, with its event.
#[derive(Clone, Debug)]
pub struct Wishes {
    commands: Commands,
}

impl Wishes {
    pub(super) fn new(commands: Commands) -> Self {
        Self { commands }
    }

    /// Records a container.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn create(&self, new: NewContainer) -> Result<Result<Container, CreateRefused>> {
        self.commands.run(Create(new)).await
    }

    /// Wants one more run.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn start(&self, id: &ContainerId, now: Timestamp) -> Result<Started> {
        self.commands.run(Start { id: *id, now }).await
    }

    /// Wants the current start no more.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn cancel(&self, id: &ContainerId, now: Timestamp) -> Result<Cancelled> {
        self.commands.run(Cancel { id: *id, now }).await
    }

    /// Wants the container and all that belongs to it gone; the row becomes invisible and a tombstone is kept. With `force`
    /// also one that cannot be read.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn remove(&self, id: &ContainerId, force: bool, now: Timestamp) -> Result<Removed> {
        self.commands.run(Remove { id: *id, force, now }).await
    }

    /// Drops the row of a container whose id cannot be read; the function is then one without a container.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn remove_unidentified(&self, seq: i64, now: Timestamp) -> Result<Removed> {
        self.commands.run(RemoveUnidentified { seq, now }).await
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn rename(&self, id: &ContainerId, name: &str, now: Timestamp) -> Result<Renamed> {
        self.commands.run(Rename { id: *id, name: name.to_owned(), now }).await
    }

    /// Records an image reference (pull, tag: `action` is the event's); keeps what is known of it. `false`: there are
    /// [`super::MAX_IMAGES`] others, and nothing is recorded.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn put_image(&self, image: Image, action: &'static str, now: Timestamp) -> Result<bool> {
        self.commands.run(PutImage { image, action, now }).await
    }

    /// Forgets an image reference (`untag`, `delete` events); `false`: there was none.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn delete_image(&self, reference: &str, actions: &[&'static str], now: Timestamp) -> Result<bool> {
        self.commands.run(DeleteImage { reference: reference.to_owned(), actions: actions.to_vec(), now }).await
    }
}

struct Create(NewContainer);

impl Command for Create {
    type Output = Result<Container, CreateRefused>;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Self::Output> {
        let Self(NewContainer { id, name, at, config }) = self;
        if let Some(by) = tx.owner_of(&name).await? {
            return Ok(Err(CreateRefused::NameInUse { by }));
        }
        if tx.holds_all_containers().await? {
            return Ok(Err(CreateRefused::Full));
        }
        let (spec, status) = (Spec::new(config), Status::default());
        let mut container = Container { seq: 0, id, name, created_at: at, spec, status, due_at: None, revision: 0 };
        tx.insert(&mut container).await?;
        tx.plain_event(&container, "create", at).await?;
        tx.wished(&container);
        Ok(Ok(container))
    }
}

struct Start {
    id: ContainerId,
    now: Timestamp,
}

impl Command for Start {
    type Output = Started;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Started> {
        let Some(mut container) = tx.visible(&self.id).await? else { return Ok(Started::NotFound) };
        let now = tx.after_adoption(self.now).await?;
        let started = admit::start(&mut container, now);
        if started == Started::Recorded {
            tx.save_wish(&container).await?;
            tx.plain_event(&container, "start", self.now).await?;
        }
        if matches!(started, Started::Refused(_)) && container.spec.config.auto_remove {
            // It will never run, so it removes itself now: whoever waits for that must not wait for ever.
            admit::remove(&mut container, false, self.now);
            tx.save_wish(&container).await?;
            tx.bury(&container, self.now).await?;
        }
        Ok(started)
    }
}

struct Cancel {
    id: ContainerId,
    now: Timestamp,
}

impl Command for Cancel {
    type Output = Cancelled;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Cancelled> {
        let Some(mut container) = tx.visible(&self.id).await? else { return Ok(Cancelled::NotFound) };
        let before = container.spec.generation;
        let cancelled = admit::cancel(&mut container, self.now);
        if container.spec.generation != before {
            tx.save_wish(&container).await?;
        }
        Ok(cancelled)
    }
}

struct Remove {
    id: ContainerId,
    force: bool,
    now: Timestamp,
}

impl Command for Remove {
    type Output = Removed;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Removed> {
        let found = match tx.visible(&self.id).await {
            Err(StateError::Unreadable(row)) if self.force => {
                tx.replace(&row, self.now).await?;
                return Ok(Removed::Recorded);
            }
            found => found?,
        };
        let Some(mut container) = found else { return Ok(Removed::NotFound) };
        let removed = admit::remove(&mut container, self.force, self.now);
        if removed == Removed::Recorded {
            tx.save_wish(&container).await?;
            tx.bury(&container, self.now).await?;
        }
        Ok(removed)
    }
}

struct Rename {
    id: ContainerId,
    name: String,
    now: Timestamp,
}

impl Command for Rename {
    type Output = Renamed;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Renamed> {
        let Some(mut container) = tx.visible(&self.id).await? else { return Ok(Renamed::NotFound) };
        if let Some(by) = tx.owner_of(&self.name).await? {
            return Ok(Renamed::NameInUse { by });
        }
        sqlx::query("UPDATE container SET name = ?2 WHERE seq = ?1")
            .bind(container.seq)
            .bind(&self.name)
            .execute(&mut *tx.conn)
            .await?;
        let old_name = format!("/{}", container.name);
        container.name = self.name;
        let attributes = vec![("oldName", old_name)];
        tx.container_event(&container, ContainerEvent { at: self.now, action: "rename", attributes }).await?;
        tx.changes.touch(self.id);
        Ok(Renamed::Recorded)
    }
}

/// Whether there can be more than `?1` containers is told by the first and the last number alone; they are counted only
/// then.
const FULL: &str = "SELECT (SELECT max(seq) FROM container) - (SELECT min(seq) FROM container) + 1 >= ?1 \
    AND (SELECT count(*) FROM container) >= ?1";

impl Tx<'_> {
    /// Whether the store holds as many containers as it may.
    async fn holds_all_containers(&mut self) -> Result<bool> {
        let full: Option<bool> = sqlx::query_scalar(FULL).bind(MAX_CONTAINERS).fetch_one(&mut *self.conn).await?;
        Ok(full == Some(true))
    }

    /// The visible container of this name.
    async fn owner_of(&mut self, name: &str) -> Result<Option<ContainerId>> {
        let row = sqlx::query(containers!("WHERE name = ?1 AND removed = 0"))
            .bind(name)
            .fetch_optional(&mut *self.conn)
            .await?;
        let Some(row) = row else { return Ok(None) };
        match id(&row) {
            Ok(id) => Ok(Some(id)),
            Err(_) => Ok(self.quarantine.read(Table::Container, &row, rows::container).map(|owner| Some(owner.id))?),
        }
    }

    /// Adds a new container, and tells it its `seq`.
    async fn insert(&mut self, container: &mut Container) -> Result<()> {
        let Container { id, name, created_at, spec, status, revision, .. } = &*container;
        container.seq = sqlx::query_scalar(
            "INSERT INTO container (id, name, created_at, generation, starts, cancelled, config, revision, status, \
             observed_generation) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) RETURNING seq",
        )
        .bind(id.as_bytes().as_slice())
        .bind(name)
        .bind(created_at.as_nanos())
        .bind(number("generation", spec.generation)?)
        .bind(number("starts", spec.starts)?)
        .bind(number("cancelled", spec.cancelled)?)
        .bind(to_json("config", &spec.config)?)
        .bind(revision)
        .bind(to_json("status", status)?)
        .bind(number("observed_generation", status.observed_generation)?)
        .fetch_one(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// The reconciler must look, and may know who asked for it.
    fn wished(&mut self, container: &Container) {
        self.changes.wish(container.id);
        if let Some(cause) = &self.cause {
            self.changes.caused(container.id, container.spec.generation, cause.clone());
        }
    }

    /// Writes a changed wish; the facts and their revision stay as they are.
    async fn save_wish(&mut self, container: &Container) -> Result<()> {
        let spec = &container.spec;
        sqlx::query(
            "UPDATE container SET generation = ?2, starts = ?3, started_at = ?4, cancelled = ?5, cancelled_at = ?6, \
             remove_at = ?7, removed = max(removed, ?8) WHERE seq = ?1",
        )
        .bind(container.seq)
        .bind(number("generation", spec.generation)?)
        .bind(number("starts", spec.starts)?)
        .bind(nanos(spec.started_at))
        .bind(number("cancelled", spec.cancelled)?)
        .bind(nanos(spec.cancelled_at))
        .bind(nanos(spec.remove))
        .bind(container.is_removed())
        .execute(&mut *self.conn)
        .await?;
        self.wished(container);
        Ok(())
    }
}
