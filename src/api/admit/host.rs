//! Docker's `HostConfig` and networks: what Lambda cannot do is refused, what does no harm is a warning. PURE.

use serde_json::{Map, Value};

use super::super::error::ApiError;
use super::super::shape::is_set;
use super::{bad, flag, text};
use crate::state::model::RestartPolicy;

/// Modes and networks that mean "what the daemon has".
const USUAL_NETWORKS: [&str; 4] = ["", "default", "bridge", "none"];
/// Where a function may write anyway.
const WRITABLE: &str = "/tmp";

/// Refuses what a function cannot have.
pub(super) fn refuse_what_cannot_be(
    given: &Map<String, Value>,
    host: &Map<String, Value>,
    networking: &Map<String, Value>,
) -> Result<(), ApiError> {
    refuse_binds(host)?;
    refuse_mounts(host)?;
    for (place, fields) in [("", given), ("HostConfig.", host)] {
        for (field, reason) in REFUSED {
            if fields.get(*field).is_some_and(is_set) {
                return Err(ApiError::Unsupported(format!(
                    "{place}{field}: this backend (lambda) does not support {reason}"
                )));
            }
        }
    }
    refuse_networks(host, networking)
}

/// Fields that may not be set.
const REFUSED: &[(&str, &str)] = &[
    ("Volumes", "volumes: put the files into the image, or fetch them when the program starts"),
    ("VolumesFrom", "volumes: put the files into the image, or fetch them when the program starts"),
    ("Links", "links between containers: nothing can connect to a function"),
    ("Privileged", "privileged containers: a function has no rights on its host"),
    ("Devices", "devices"),
    ("DeviceRequests", "devices such as GPUs"),
];

/// `source:target[:options]`. A path is answered in Docker's words, on which clients rely.
fn refuse_binds(host: &Map<String, Value>) -> Result<(), ApiError> {
    let first = host.get("Binds").and_then(Value::as_array).and_then(|binds| binds.first()).and_then(Value::as_str);
    let Some(bind) = first else { return Ok(()) };
    let source = bind.split(':').next().unwrap_or_default();
    if source.starts_with(['/', '.', '~']) {
        return Err(no_bind_source(source));
    }
    Err(ApiError::Unsupported(format!(
        "HostConfig.Binds: this backend (lambda) does not support volumes: {bind:?} cannot be mounted"
    )))
}

fn no_bind_source(source: &str) -> ApiError {
    bad(format!("invalid mount config for type \"bind\": bind source path does not exist: {source}"))
}

fn refuse_mounts(host: &Map<String, Value>) -> Result<(), ApiError> {
    for mount in host.get("Mounts").and_then(Value::as_array).into_iter().flatten() {
        let word = |name: &str| mount.get(name).and_then(Value::as_str).unwrap_or_default();
        match word("Type") {
            "bind" => return Err(no_bind_source(word("Source"))),
            "tmpfs" if word("Target") == WRITABLE => {}
            kind => {
                return Err(ApiError::Unsupported(format!(
                    "HostConfig.Mounts: this backend (lambda) does not support mounts of type {kind:?} at {:?}: only \
                     {WRITABLE} can be written to",
                    word("Target")
                )));
            }
        }
    }
    let tmpfs = host.get("Tmpfs").and_then(Value::as_object);
    match tmpfs.and_then(|tmpfs| tmpfs.keys().find(|target| target.as_str() != WRITABLE)) {
        Some(target) => Err(ApiError::Unsupported(format!(
            "HostConfig.Tmpfs: this backend (lambda) does not support tmpfs at {target:?}: only {WRITABLE} can be written to"
        ))),
        None => Ok(()),
    }
}

fn refuse_networks(host: &Map<String, Value>, networking: &Map<String, Value>) -> Result<(), ApiError> {
    let refused = |field: &str, network: &str| {
        Err(ApiError::Unsupported(format!(
            "{field}: this backend (lambda) does not support networks: {network:?} is none of default, bridge and none"
        )))
    };
    let mode = text(host, "NetworkMode").unwrap_or_default();
    if !USUAL_NETWORKS.contains(&mode) {
        return refused("HostConfig.NetworkMode", mode);
    }
    let endpoints = match networking.get("EndpointsConfig") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(endpoints)) => endpoints,
        Some(_) => return Err(bad("invalid JSON: NetworkingConfig.EndpointsConfig: a map is needed")),
    };
    match endpoints.keys().find(|network| !USUAL_NETWORKS.contains(&network.as_str())) {
        Some(network) => refused("NetworkingConfig.EndpointsConfig", network),
        None => Ok(()),
    }
}

/// Settings that are ignored, and why that does no harm.
const IGNORED: &[(&[&str], &str)] = &[
    (&["PortBindings", "PublishAllPorts"], "Published ports are ignored: nothing can connect to a function."),
    (
        &[
            "CpuShares",
            "NanoCpus",
            "CpuPeriod",
            "CpuQuota",
            "CpuRealtimePeriod",
            "CpuRealtimeRuntime",
            "CpusetCpus",
            "CpusetMems",
            "CpuCount",
            "CpuPercent",
        ],
        "CPU settings are ignored: Lambda gives processors in proportion to the memory, one for each 1,769 MB.",
    ),
    (
        &["MemoryReservation", "MemorySwap", "MemorySwappiness", "KernelMemory", "OomKillDisable", "ShmSize"],
        "Memory settings other than the limit are ignored: a function has no swap.",
    ),
    (
        &[
            "BlkioWeight",
            "BlkioWeightDevice",
            "BlkioDeviceReadBps",
            "BlkioDeviceReadIOps",
            "BlkioDeviceWriteBps",
            "BlkioDeviceWriteIOps",
            "StorageOpt",
            "IOMaximumBandwidth",
            "IOMaximumIOps",
        ],
        "Disk settings are ignored; the size of /tmp is the label sockerless.lambda.ephemeral-storage.",
    ),
    (
        &["CapAdd", "CapDrop", "SecurityOpt", "GroupAdd", "UsernsMode", "DeviceCgroupRules"],
        "Rights inside the container are ignored: Lambda runs it without any, alone in its own virtual machine.",
    ),
    (
        &["PidMode", "IpcMode", "UTSMode", "CgroupParent", "Cgroup", "PidsLimit", "Ulimits", "Sysctls", "OomScoreAdj"],
        "Namespaces, control groups and kernel limits are ignored: Lambda sets them.",
    ),
    (&["Dns", "DnsOptions", "DnsSearch", "ExtraHosts"], "Name resolution is Lambda's: DNS settings are ignored."),
    (&["Runtime", "VolumeDriver"], "The runtime and the volume driver are ignored."),
    (&["User"], "The user is ignored: Lambda chooses it."),
    (&["Hostname", "Domainname"], "The host name is ignored: Lambda chooses it."),
    (&["MacAddress"], "The MAC address is ignored: Lambda chooses it."),
    (&["OpenStdin", "AttachStdin"], "Nothing can be typed into a function: the program's input is empty."),
];

/// Says what is ignored.
pub(super) fn warn_of_what_is_ignored(
    given: &Map<String, Value>,
    host: &Map<String, Value>,
    warnings: &mut Vec<String>,
) {
    for (fields, warning) in IGNORED {
        if fields.iter().any(|field| [given, host].iter().any(|map| map.get(*field).is_some_and(is_set))) {
            warnings.push((*warning).to_owned());
        }
    }
    let check = given.get("Healthcheck").and_then(|check| check.get("Test")).and_then(Value::as_array);
    let is_check =
        |test: &Vec<Value>| test.first().and_then(Value::as_str).is_some_and(|kind| !matches!(kind, "" | "NONE"));
    if check.is_some_and(is_check) {
        warnings.push("The health check is ignored: nothing can be run beside the program.".to_owned());
    }
    let driver = host.get("LogConfig").and_then(|log| log.get("Type")).and_then(Value::as_str).unwrap_or_default();
    if !matches!(driver, "" | "json-file" | "local" | "awslogs" | "default") {
        warnings.push(format!("The log driver {driver} is ignored: the output goes to CloudWatch Logs."));
    }
}

/// Docker's restart policy, as far as a run that ends can have one.
pub(super) fn restart_policy(host: &Map<String, Value>, warnings: &mut Vec<String>) -> Result<RestartPolicy, ApiError> {
    let policy = host.get("RestartPolicy");
    let name = policy.and_then(|policy| policy.get("Name")).and_then(Value::as_str).unwrap_or_default();
    let max = policy.and_then(|policy| policy.get("MaximumRetryCount")).and_then(Value::as_i64).unwrap_or(0);
    let restart = match name {
        "" | "no" => return Ok(RestartPolicy::No),
        "on-failure" => {
            let max = u32::try_from(max)
                .map_err(|_| bad("invalid restart policy: maximum retry count cannot be negative"))?;
            RestartPolicy::OnFailure { max }
        }
        "always" | "unless-stopped" => {
            if max != 0 {
                return Err(bad("invalid restart policy: maximum retry count can only be used with 'on-failure'"));
            }
            warnings.push(format!(
                "The restart policy {name} is ignored: a function runs to its end; on-failure is possible."
            ));
            RestartPolicy::No
        }
        unknown => {
            return Err(bad(format!(
                "invalid restart policy: unknown policy '{unknown}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            )));
        }
    };
    if flag(host, "AutoRemove") {
        return Err(bad("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(restart)
}
