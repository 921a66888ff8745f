//! Wishes: what the API may write.

use super::admit;
use super::images::{DeleteImages, PutImage};
use super::model::life::is_running;
use super::model::{Container, ContainerId, Spec, Status};
use super::quarantine::Table;
use super::records::{
    Cancelled, ContainerEvent, CreateRefused, Image, ImageRemoval, NewContainer, Removed, Renamed, Started,
};
use super::rows::{self, containers, id, nanos, number, to_json};
use super::salvage::RemoveUnidentified;
use super::writer::{Command, Commands, Tx};
use super::{MAX_BATCH, MAX_CONTAINERS, Result, StateError, projections};
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

    /// As [`Wishes::remove`] without force, for at most [`super::MAX_BATCH`] containers in one commit; returns those whose
    /// removal is recorded. Those that cannot be read are left out.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn remove_idle(&self, ids: Vec<ContainerId>, now: Timestamp) -> Result<Vec<ContainerId>> {
        self.commands.run(RemoveIdle { ids: bounded(ids)?, now }).await
    }

    /// Records an image reference (pull, tag: `action` is the event's); keeps what is known of it. Beyond
    /// [`super::MAX_IMAGES`] the oldest one that no container uses is forgotten for it; `false`: all are used, and nothing
    /// is recorded.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn put_image(&self, image: Image, action: &'static str, now: Timestamp) -> Result<bool> {
        self.commands.run(PutImage { image, action, now }).await
    }

    /// Forgets image references with their events, at most [`super::MAX_BATCH`] in one commit; returns those that there
    /// were.
    ///
    /// # Errors
    /// When the store fails; nothing is recorded then.
    pub async fn delete_images(&self, removals: Vec<ImageRemoval>, now: Timestamp) -> Result<Vec<ImageRemoval>> {
        self.commands.run(DeleteImages { removals: bounded(removals)?, now }).await
    }
}

/// A batch that one commit may take.
fn bounded<T>(batch: Vec<T>) -> Result<Vec<T>> {
    match batch.len() {
        0..=MAX_BATCH => Ok(batch),
        _ => Err(StateError::Misuse("more changes than one commit takes")),
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
        tx.remove(&self.id, self.force, self.now).await
    }
}

struct RemoveIdle {
    ids: Vec<ContainerId>,
    now: Timestamp,
}

impl Command for RemoveIdle {
    type Output = Vec<ContainerId>;

    async fn apply(self, tx: &mut Tx<'_>) -> Result<Vec<ContainerId>> {
        let mut removed = Vec::with_capacity(self.ids.len());
        for id in self.ids {
            match tx.remove(&id, false, self.now).await {
                Ok(Removed::Recorded) => removed.push(id),
                Err(StateError::Unreadable(_)) | Ok(_) => {}
                Err(error) => return Err(error),
            }
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

impl Tx<'_> {
    /// Whether the store holds as many containers as it may.
    async fn holds_all_containers(&mut self) -> Result<bool> {
        let count: i64 = sqlx::query_scalar(projections::CONTAINERS).fetch_one(&mut *self.conn).await?;
        Ok(count >= MAX_CONTAINERS)
    }

    /// Records that a visible container is to be gone; with `force` also one that cannot be read.
    async fn remove(&mut self, id: &ContainerId, force: bool, now: Timestamp) -> Result<Removed> {
        let found = match self.visible(id).await {
            Err(StateError::Unreadable(row)) if force => {
                self.replace(&row, now).await?;
                return Ok(Removed::Recorded);
            }
            found => found?,
        };
        let Some(mut container) = found else { return Ok(Removed::NotFound) };
        let removed = admit::remove(&mut container, force, now);
        if removed == Removed::Recorded {
            self.save_wish(&container).await?;
            self.bury(&container, now).await?;
        }
        Ok(removed)
    }

    /// The visible container of this name. One that may have been removed, which cannot be read any more, has it still.
    async fn owner_of(&mut self, name: &str) -> Result<Option<ContainerId>> {
        let row = sqlx::query(containers!("WHERE name = ?1 AND removed IS NOT 1 LIMIT 1"))
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
             observed_generation, image_reference, running) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) RETURNING seq",
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
        .bind(&spec.config.image_reference)
        .bind(is_running(spec, status))
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
             remove_at = ?7, removed = max(removed, ?8), running = ?9 WHERE seq = ?1",
        )
        .bind(container.seq)
        .bind(number("generation", spec.generation)?)
        .bind(number("starts", spec.starts)?)
        .bind(nanos(spec.started_at))
        .bind(number("cancelled", spec.cancelled)?)
        .bind(nanos(spec.cancelled_at))
        .bind(nanos(spec.remove))
        .bind(container.is_removed())
        .bind(is_running(spec, &container.status))
        .execute(&mut *self.conn)
        .await?;
        self.wished(container);
        Ok(())
    }
}
