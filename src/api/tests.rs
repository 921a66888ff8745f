//! Containers for the tests of the room's pure files.

use std::collections::BTreeMap;

use serde_json::json;

use crate::clock::Timestamp;
use crate::state::model::{
    Architecture, Cause, Container, ContainerConfig, ContainerId, DeletionPolicy, Exit, FunctionSettings,
    InvocationKind, Issued, Protocol, RestartPolicy, Run, RunPhase, Spec, Status, UnknownOutcome,
};

/// A container that was just created.
pub(super) fn container(name: &str) -> Container {
    let config = ContainerConfig {
        image: "alpine".to_owned(),
        image_reference: "docker.io/library/alpine:latest".to_owned(),
        image_uri: "alpine:latest".to_owned(),
        entrypoint: None,
        cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), "echo hi; exit 2".to_owned()]),
        env: vec!["A=1".to_owned()],
        working_dir: None,
        labels: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        tty: false,
        auto_remove: false,
        restart: RestartPolicy::No,
        function: FunctionSettings {
            role_arn: "arn:aws:iam::123456789012:role/r".to_owned(),
            memory_mb: 512,
            timeout_s: 60,
            ephemeral_storage_mb: 512,
            architecture: Architecture::X86_64,
            protocol: Protocol::Bootstrap,
            invocation: InvocationKind::RequestResponse,
            event_age_s: 60,
            subnet_ids: Vec::new(),
            security_group_ids: Vec::new(),
            log_group: "/sockerless".to_owned(),
            payload: None,
            deletion_policy: DeletionPolicy::Delete,
            unknown_outcome: UnknownOutcome::Fail,
        },
        docker_config: json!({}),
        docker_host_config: json!({}),
    };
    Container {
        seq: 1,
        id: ContainerId::from_bytes([7; 32]),
        name: name.to_owned(),
        created_at: Timestamp::from_secs(1_000),
        spec: Spec::new(config),
        status: Status::default(),
        due_at: None,
        revision: 0,
    }
}

/// A run of start `no` whose invocation was sent.
pub(super) fn issued_run(no: u64) -> Run {
    let issued = Issued {
        token: format!("token-{no}"),
        kind: InvocationKind::RequestResponse,
        function_name: "fn".to_owned(),
        at: Timestamp::from_secs(1_010),
        deadline: Timestamp::from_secs(1_100),
    };
    Run::new(no, no, Some(issued), RunPhase::Issued)
}

/// The end of a program.
pub(super) fn exit(code: u8, cause: Cause) -> Exit {
    Exit {
        code,
        cause,
        message: if cause == Cause::Exited { String::new() } else { format!("{cause:?}") },
        started_at: Some(Timestamp::from_secs(1_020)),
        finished_at: Timestamp::from_secs(1_030),
    }
}

/// As `container`, after `starts` starts of which the last has ended like this.
pub(super) fn ended(name: &str, starts: u64, end: Exit) -> Container {
    let mut container = container(name);
    container.spec.starts = starts;
    container.spec.started_at = Some(Timestamp::from_secs(1_005));
    container.status.run = Some(Run { phase: RunPhase::Exited(end), ..issued_run(starts) });
    container
}
