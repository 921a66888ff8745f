//! A store in a directory of its own, and values to put into it.

use std::path::PathBuf;

use serde_json::json;
use sockerless_lambda::clock::Timestamp;
use sockerless_lambda::state::model::{
    Cause, ContainerConfig, ContainerId, Exit, InvocationKind, Issued, Run, RunPhase, Status,
};
use sockerless_lambda::state::{Event, FactWrite, Facts, NewContainer, Reader, Store, StoreOptions, Wishes};
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    pub(crate) store: Store,
    pub(crate) reader: Reader,
    pub(crate) wishes: Wishes,
    pub(crate) facts: Facts,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&options(&directory)).await.unwrap();
        Self::over(directory, store)
    }

    pub(crate) fn over(directory: TempDir, store: Store) -> Self {
        let (reader, wishes, facts) = (store.reader(), store.wishes(), store.facts());
        Self { directory, store, reader, wishes, facts }
    }

    /// As after the end of the process, and a new start.
    pub(crate) async fn crash(self) -> Self {
        drop(self.store);
        let store = Store::open(&options(&self.directory)).await.unwrap();
        Self::over(self.directory, store)
    }

    pub(crate) async fn create(&self, n: u8, name: &str) -> ContainerId {
        self.wishes.create(new(n, name)).await.unwrap().unwrap().id
    }

    pub(crate) async fn actions(&self) -> Vec<String> {
        self.events().await.into_iter().map(|event| event.action).collect()
    }

    pub(crate) async fn events(&self) -> Vec<Event> {
        self.reader.events(0, 1_000).await.unwrap().readable().collect()
    }
}

pub(crate) fn path(directory: &TempDir) -> PathBuf {
    directory.path().join("deep/er/state.db")
}

pub(crate) fn options(directory: &TempDir) -> StoreOptions {
    StoreOptions { path: path(directory), read_only: false }
}

pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub(crate) fn id(n: u8) -> ContainerId {
    ContainerId::from_bytes([n; 32])
}

pub(crate) fn new(n: u8, name: &str) -> NewContainer {
    NewContainer { id: id(n), name: name.to_owned(), at: at(i64::from(n)), config: config() }
}

pub(crate) fn config() -> ContainerConfig {
    serde_json::from_value(json!({
        "image": "alpine", "image_reference": "docker.io/library/alpine:latest",
        "image_uri": "123.dkr.ecr.eu-west-1.amazonaws.com/alpine:latest",
        "entrypoint": null, "cmd": ["true"], "env": ["A=b"], "working_dir": null, "labels": {"team": "blue"},
        "tty": false, "auto_remove": false, "restart": "no",
        "function": {
            "role_arn": "arn:aws:iam::123:role/run", "memory_mb": 128, "timeout_s": 60, "ephemeral_storage_mb": 512,
            "architecture": "arm64", "protocol": "bootstrap", "invocation": "RequestResponse", "event_age_s": 60,
            "subnet_ids": ["subnet-1"], "security_group_ids": [], "log_group": "/sockerless", "payload": "{}",
            "deletion_policy": "delete", "unknown_outcome": "fail"
        },
        "docker_config": {"Image": "alpine"}, "docker_host_config": {"Memory": 0}
    }))
    .unwrap()
}

pub(crate) fn run(start: u64, phase: RunPhase) -> Run {
    let issued = Issued {
        token: format!("token-{start}"),
        kind: InvocationKind::RequestResponse,
        function_name: "function".to_owned(),
        at: at(20),
        deadline: at(100),
    };
    Run::new(start, start, Some(issued), phase)
}

pub(crate) fn ended(start: u64, code: u8) -> Run {
    let message = "as it was".to_owned();
    let exit = Exit { code, cause: Cause::Exited, message, started_at: Some(at(30)), finished_at: at(40) };
    run(start, RunPhase::Exited(exit))
}

/// Facts that know the wish of this generation.
pub(crate) fn status(observed_generation: u64, run: Option<Run>) -> Status {
    Status { observed_generation, run, ..Status::default() }
}

pub(crate) fn write(id: ContainerId, revision: i64, status: Status) -> FactWrite {
    FactWrite { id, revision, status, due_at: None, watched: false, events: Vec::new() }
}
