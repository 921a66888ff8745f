//! How the acts of a scenario are carried out, and what they wait for.

use std::collections::BTreeMap;

use serde_json::json;
use sockerless_lambda::health::Check;
use sockerless_lambda::state::model::{
    Cause, Container, ContainerConfig, ContainerId, FunctionState, InvocationKind, Known, RunPhase, life,
};
use sockerless_lambda::state::{NewContainer, Removed, Started};
use sockerless_sandbox::model::lambda_api::{
    Code, CreateFunction, EphemeralStorage, FunctionName, LoggingConfig, UpdateFunctionConfiguration,
};
use sockerless_sandbox::model::{InvocationStatus, Operation, Request, Response};

use super::life::{LOG_GROUP, ROLE, copy_of};
use super::programs;
use super::scenario::{Act, ByHand, Job, Site, Until};
use super::stage::{Broken, Stage};

/// So long, in virtual milliseconds, a scenario waits for something that must come.
const PATIENCE_MS: i64 = 12 * 3_600_000;
/// The registry of all images.
const REGISTRY: &str = "000000000000.dkr.ecr.us-east-1.amazonaws.com";
/// The container that an orphan once belonged to.
const NOBODY: [u8; 32] = [0xee; 32];

/// What the users of a plan know and want.
#[derive(Debug, Default)]
pub(crate) struct Users {
    ids: BTreeMap<&'static str, ContainerId>,
    /// How many starts of each container were wished.
    pub(crate) starts: BTreeMap<&'static str, u64>,
    /// What was created.
    pub(crate) jobs: BTreeMap<&'static str, Job>,
}

impl Users {
    /// The id of a container, which is always the same.
    pub(crate) fn id(&self, name: &str) -> ContainerId {
        self.ids.get(name).copied().unwrap_or(ContainerId::from_bytes([0; 32]))
    }

    fn new_id(&mut self, name: &'static str) -> ContainerId {
        let next = u8::try_from(self.ids.len() + 1).expect("few containers");
        *self.ids.entry(name).or_insert(ContainerId::from_bytes([next; 32]))
    }
}

impl Stage {
    /// Carries out an act, and returns when it is done.
    pub(crate) async fn act(&mut self, users: &mut Users, act: &Act, invocation: InvocationKind) -> Result<(), Broken> {
        match act {
            Act::Create(job) => self.create(users, job, invocation).await,
            Act::Start(name) => {
                *users.starts.entry(name).or_default() += 1;
                self.start(users, name).await
            }
            Act::Stop(name) => self.stop(users.id(name)).await,
            Act::Remove { name, force } => self.remove(users.id(name), *force).await,
            Act::Prune => self.prune().await,
            Act::Await(until) => self.until(users, *until).await,
            Act::Pass(ms) => self.let_pass(*ms).await,
            Act::ByHand(hand) => self.meddle(users, *hand).await,
            Act::Down(ms) => {
                self.settle().await?;
                self.end(Site::Main).await;
                self.start_later(Site::Main, *ms, None, false);
                self.settle().await
            }
            Act::BackUp => {
                self.settle().await?;
                self.backup = self.life(Site::Main).map(super::life::Life::copy);
                if self.backup.is_none() {
                    self.backup = self.files(Site::Main).map(|files| copy_of(files.path()));
                }
                Ok(())
            }
            Act::Restore => {
                self.settle().await?;
                self.end(Site::Main).await;
                let files = self.backup.as_ref().map(|backup| copy_of(backup.path()));
                self.is_restored(true);
                self.endings.are_restored();
                self.start_later(Site::Main, 1_000, files, false);
                self.settle().await
            }
            Act::Adopt => {
                self.settle().await?;
                self.end(Site::Main).await;
                self.is_restored(false);
                self.start_later(Site::Main, 1_000, None, true);
                self.settle().await
            }
            Act::StartCopy => {
                let files = self.backup.as_ref().map(|backup| copy_of(backup.path()));
                self.start_later(Site::Copy, 0, files, false);
                self.settle().await
            }
        }
    }

    async fn create(&mut self, users: &mut Users, job: &Job, invocation: InvocationKind) -> Result<(), Broken> {
        let id = users.new_id(job.name);
        users.jobs.insert(job.name, job.clone());
        let config = config(job, job.invocation.unwrap_or(invocation));
        self.note(format!("create {}", job.name));
        // A name that is in use is its own: an earlier try was recorded and not answered.
        let name = job.name.to_owned();
        let new = |at| NewContainer { id, name: name.clone(), at, config: config.clone() };
        self.wish(async |wishes, now| wishes.create(new(now)).await).await?.map(drop).or(Ok(()))
    }

    /// Wants as many starts as the users wished.
    pub(crate) async fn start(&mut self, users: &Users, name: &'static str) -> Result<(), Broken> {
        let (id, wanted) = (users.id(name), users.starts.get(name).copied().unwrap_or_default());
        self.programs.wished(&id.to_string(), wanted);
        self.note(format!("start {name}"));
        loop {
            self.settle().await?;
            match self.rows.iter().find(|row| row.id == id) {
                // It was recorded, and nobody said so.
                Some(row) if row.spec.starts >= wanted => return Ok(()),
                _ => {}
            }
            match self.wish(async |wishes, now| wishes.start(&id, now).await).await? {
                Started::Recorded | Started::NotFound | Started::Refused(_) => return Ok(()),
                // By this very wish, whose answer was lost.
                Started::AlreadyRunning if self.rows.iter().any(|row| row.id == id && row.spec.starts >= wanted) => {
                    return Ok(());
                }
                Started::AlreadyRunning => self.until(users, Until::Exited(name)).await?,
            }
        }
    }

    /// A user starts a container once more than the scenario says.
    pub(crate) async fn start_once_more(&mut self, users: &mut Users, name: &'static str) -> Result<(), Broken> {
        *users.starts.entry(name).or_default() += 1;
        self.start(users, name).await
    }

    async fn stop(&mut self, id: ContainerId) -> Result<(), Broken> {
        let stopped = self.wish(async |wishes, now| wishes.cancel(&id, now).await).await?;
        self.note(format!("stop: {stopped:?}"));
        Ok(())
    }

    async fn remove(&mut self, id: ContainerId, force: bool) -> Result<(), Broken> {
        let removed = self.wish(async |wishes, now| wishes.remove(&id, force, now).await).await?;
        self.note(format!("remove: {removed:?}"));
        match removed {
            Removed::Running if force => Err("a removal by force is refused".to_owned()),
            Removed::Unidentified => Err("an id cannot be read".to_owned()),
            Removed::Recorded | Removed::NotFound | Removed::Running => Ok(()),
        }
    }

    /// Removes what does not run, as the API does.
    async fn prune(&mut self) -> Result<(), Broken> {
        self.settle().await?;
        for row in self.rows.clone() {
            if !row.is_removed() && !life::is_running(&row.spec, &row.status) {
                self.remove(row.id, false).await?;
            }
        }
        Ok(())
    }

    /// Waits for something; virtual hours, if need be.
    pub(crate) async fn until(&mut self, users: &Users, what: Until) -> Result<(), Broken> {
        let limit_ms = self.now_ms + PATIENCE_MS;
        loop {
            self.settle().await?;
            if self.holds(users, what) {
                self.note(format!("{what:?}"));
                return Ok(());
            }
            if self.now_ms >= limit_ms {
                return Err(format!("waited in vain for {what:?}"));
            }
            self.pass_time(limit_ms);
        }
    }

    /// Lets time pass.
    pub(crate) async fn let_pass(&mut self, ms: i64) -> Result<(), Broken> {
        let until_ms = self.now_ms + ms;
        loop {
            self.settle().await?;
            if self.now_ms >= until_ms {
                return Ok(());
            }
            self.pass_time(until_ms);
        }
    }

    fn holds(&self, users: &Users, what: Until) -> bool {
        let is_up = self.life(Site::Main).is_some();
        let row = |name| self.rows.iter().find(|row| row.id == users.id(name));
        let has_exited = |name| is_up && row(name).is_none_or(|row| row.is_removed() || is_exited(row));
        match what {
            Until::Exited(name) => has_exited(name),
            Until::Made(name) => has_exited(name) && row(name).is_some_and(|row| row.spec.starts > 0)
                || row(name).is_some_and(failed_for_good)
                || self.function(&self.function_name(&users.id(name).to_string())).is_some(),
            Until::Running(name) => self.is_running_in_aws(&users.id(name).to_string()) || has_exited(name),
            Until::Failed(name) => row(name).is_some_and(failed_for_good),
            Until::Gone(name) => is_up && row(name).is_none(),
            Until::Mended(name) => row(name).is_some_and(failed_for_good) || self.is_mended(&users.id(name).to_string()),
            Until::OrphanGone => {
                self.function(&self.function_name(&ContainerId::from_bytes(NOBODY).to_string())).is_none()
            }
            Until::LogsMissing(name) => row(name).is_none_or(|row| {
                let ran = row.status.run.as_ref().is_some_and(|run| {
                    matches!(&run.phase, RunPhase::Exited(exit) if !matches!(exit.cause, Cause::NeverRan | Cause::Unknown))
                });
                row.status.logs_missing || (is_exited(row) && !ran)
            }),
            Until::Settled => is_up && self.rows.iter().all(is_settled),
            Until::Claimed(site) => self.life(site).is_some_and(|life| {
                let calls = self.around.ledger.journal_from(0);
                calls.iter().any(|call| call.life == life.number && call.operation == Operation::ListFunctions)
            }),
            Until::Lost(site) => {
                self.life(site).is_some_and(|life| life.health.problems().contains_key(&Check::Ownership))
            }
        }
    }

    fn is_running_in_aws(&self, id: &str) -> bool {
        let of = |function: &str| function.starts_with(&self.function_name(id));
        let invocations = self.sandbox.state().invocations;
        invocations.iter().any(|run| run.status == InvocationStatus::Running && of(&run.function))
    }

    fn is_mended(&self, id: &str) -> bool {
        let Some(Response::Function(function)) = self.function(&self.function_name(id)) else { return false };
        function.configuration.memory_size == 128 && function.configuration.last_update_status == Some("Successful")
    }

    /// Somebody does something with a function of ours.
    pub(crate) async fn meddle(&mut self, users: &mut Users, hand: ByHand) -> Result<(), Broken> {
        self.settle().await?;
        self.note(format!("by hand: {hand:?}"));
        let request = match hand {
            ByHand::Change(name) => {
                let function_name = self.function_name(&users.id(name).to_string());
                let memory_size = Some(256);
                let timeout = Some(77);
                let change = UpdateFunctionConfiguration {
                    function_name,
                    memory_size,
                    timeout,
                    ..UpdateFunctionConfiguration::default()
                };
                Request::UpdateFunctionConfiguration(Box::new(change))
            }
            ByHand::Delete(name) => {
                Request::DeleteFunction(FunctionName::parse(&self.function_name(&users.id(name).to_string()), None))
            }
            ByHand::MakeOrphan => {
                let id = ContainerId::from_bytes(NOBODY).to_string();
                let tags = [
                    ("sockerless.instance", self.instance.as_str()),
                    ("sockerless.container", &id),
                    ("sockerless.created", "1"),
                ];
                new_function(&self.function_name(&id), &tags)
            }
            ByHand::ImitateUs => new_function(&self.function_name(&"ab".repeat(32)), &[("owner", "somebody else")]),
            ByHand::TakeName(name) => {
                let id = users.new_id(name).to_string();
                new_function(&self.function_name(&id), &[("owner", "somebody else")])
            }
        };
        match self.by_hand(&request) {
            Err(error) if !matches!(hand, ByHand::Delete(_) | ByHand::Change(_)) => Err(error.to_string()),
            // Without its function there is nothing to meddle with.
            _ => Ok(()),
        }
    }
}

fn is_exited(row: &Container) -> bool {
    matches!(life::life(&row.spec, &row.status), life::Life::Exited(_))
}

/// The last thing that was tried failed, and only a new wish can change that.
pub(crate) fn failed_for_good(row: &Container) -> bool {
    row.status.retry.failure.as_ref().is_some_and(|failure| failure.terminal_for == Some(row.spec.generation))
}

fn is_settled(row: &Container) -> bool {
    let status = &row.status;
    if row.is_removed() || life::is_running(&row.spec, status) || life::unsettled_run(status).is_some() {
        return false;
    }
    let log_is_open = status.run.as_ref().is_some_and(|run| run.issued.is_some() && !run.log_closed);
    if log_is_open && !matches!(status.run.as_ref().map(|run| &run.phase), Some(RunPhase::Refused)) {
        return false;
    }
    failed_for_good(row)
        || status.observed_generation == row.spec.generation
            && match &status.function {
                Known::Is(function) => {
                    function.state == FunctionState::Active && !function.updating && function.drift.is_empty()
                }
                Known::Absent => row.spec.starts > 0,
                Known::Maybe => false,
            }
}

/// A function as somebody makes it by hand.
pub(crate) fn new_function(name: &str, tags: &[(&str, &str)]) -> Request {
    Request::CreateFunction(Box::new(CreateFunction {
        function_name: name.to_owned(),
        role: ROLE.to_owned(),
        code: Code { image_uri: Some(format!("{REGISTRY}/host:latest")) },
        package_type: Some("Image".to_owned()),
        timeout: Some(10),
        memory_size: Some(128),
        architectures: Some(vec!["x86_64".to_owned()]),
        ephemeral_storage: Some(EphemeralStorage { size: 512 }),
        logging_config: Some(LoggingConfig { log_group: Some(LOG_GROUP.to_owned()), ..LoggingConfig::default() }),
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..CreateFunction::default()
    }))
}

fn config(job: &Job, invocation: InvocationKind) -> ContainerConfig {
    let invocation = serde_json::to_value(invocation).unwrap();
    let unknown_outcome = if job.rerun { "rerun" } else { "fail" };
    let deletion_policy = if job.retained { "retain" } else { "delete" };
    let restart = if job.restarts == 0 { json!("no") } else { json!({ "on_failure": { "max": job.restarts } }) };
    let (protocol, payload) =
        if job.native { ("native", Some(programs::order(&job.runs))) } else { ("bootstrap", None) };
    serde_json::from_value(json!({
        "image": job.image, "image_reference": format!("{REGISTRY}/{}", job.image),
        "image_uri": format!("{REGISTRY}/{}", job.image),
        "entrypoint": null, "cmd": programs::command(&job.runs), "env": [], "working_dir": null, "labels": {},
        "tty": false, "auto_remove": job.auto_remove, "restart": restart,
        "function": {
            "role_arn": ROLE, "memory_mb": 128, "timeout_s": job.timeout_s, "ephemeral_storage_mb": 512,
            "architecture": "x86_64", "protocol": protocol, "invocation": invocation, "event_age_s": 60,
            "subnet_ids": [], "security_group_ids": [], "log_group": LOG_GROUP, "payload": payload,
            "deletion_policy": deletion_policy, "unknown_outcome": unknown_outcome
        },
        "docker_config": {}, "docker_host_config": {}
    }))
    .unwrap()
}
