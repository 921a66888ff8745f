//! Values for tests.

use serde_json::json;

use super::{
    Cause, ContainerConfig, Exit, Failure, FailureKind, InvocationKind, Issued, RestartPolicy, Run, RunPhase,
    UnknownOutcome,
};
use crate::clock::Timestamp;

pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub(crate) fn config() -> ContainerConfig {
    serde_json::from_value(json!({
        "image": "alpine", "image_reference": "docker.io/library/alpine:latest",
        "image_uri": "123.dkr.ecr.eu-west-1.amazonaws.com/alpine:latest",
        "entrypoint": null, "cmd": ["true"], "env": [], "working_dir": null, "labels": {"team": "blue"},
        "tty": false, "auto_remove": false, "restart": "no",
        "function": {
            "role_arn": "arn:aws:iam::123:role/run", "memory_mb": 128, "timeout_s": 60, "ephemeral_storage_mb": 512,
            "architecture": "x86_64", "protocol": "bootstrap", "invocation": "RequestResponse", "event_age_s": 60,
            "subnet_ids": [], "security_group_ids": [], "log_group": "/sockerless", "payload": null,
            "deletion_policy": "delete", "unknown_outcome": "fail"
        },
        "docker_config": {}, "docker_host_config": {}
    }))
    .unwrap()
}

pub(crate) fn config_with(restart: RestartPolicy, unknown_outcome: UnknownOutcome) -> ContainerConfig {
    let mut config = config();
    config.restart = restart;
    config.function.unknown_outcome = unknown_outcome;
    config
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

pub(crate) fn exit(code: u8, cause: Cause) -> Exit {
    Exit { code, cause, message: "as it was".to_owned(), started_at: Some(at(30)), finished_at: at(40) }
}

pub(crate) fn failure(kind: FailureKind, terminal_for: Option<u64>) -> Failure {
    Failure {
        kind,
        action: "CreateFunction".to_owned(),
        message: "no".to_owned(),
        request_id: None,
        at: at(5),
        terminal_for,
    }
}
