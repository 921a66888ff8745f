//! The daemon as Docker's clients and the frontend see it. PURE.

use serde_json::{Value, json};

use crate::api::limits;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::state::Counts;
use crate::state::model::Architecture;

/// Our own version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What the daemon calls itself.
const NAME: &str = "sockerless-backend-lambda";
/// The processors of the largest function.
const LARGEST_CPUS: u32 = 6;
/// The memory of the largest function, bytes.
const LARGEST_MEMORY: u64 = 10_240 * 1_024 * 1_024;

/// Docker's name of a processor.
fn architecture(config: &Config) -> &'static str {
    match config.architecture {
        Architecture::X86_64 => "x86_64",
        Architecture::Arm64 => "aarch64",
    }
}

/// Go's name of a processor.
pub(in crate::api) fn go_arch(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "amd64",
        Architecture::Arm64 => "arm64",
    }
}

/// The newest and the oldest API version.
fn api_versions() -> (String, String) {
    (format!("1.{}", limits::NEWEST_API_MINOR), format!("1.{}", limits::OLDEST_API_MINOR))
}

/// The answer to `version`.
pub(in crate::api) fn version(config: &Config) -> Value {
    let (newest, oldest) = api_versions();
    let arch = go_arch(config.architecture);
    json!({
        "Platform": { "Name": "Sockerless (AWS Lambda)" },
        "Components": [{
            "Name": "Engine",
            "Version": VERSION,
            "Details": {
                "ApiVersion": newest,
                "MinAPIVersion": oldest,
                "Arch": arch,
                "BuildTime": "",
                "Experimental": "false",
                "GitCommit": "",
                "GoVersion": "",
                "KernelVersion": "",
                "Os": "linux",
            },
        }],
        "Version": VERSION,
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": "",
        "Experimental": false,
        "BuildTime": "",
    })
}

/// The internal API's `info`.
pub(in crate::api) fn internal_info(config: &Config, instance: &str, counts: Counts) -> Value {
    json!({
        "ID": instance,
        "Name": NAME,
        "ServerVersion": VERSION,
        "Containers": counts.containers,
        "ContainersRunning": counts.running,
        "ContainersPaused": 0,
        "ContainersStopped": counts.containers.saturating_sub(counts.running),
        "Images": counts.images,
        "Driver": "lambda",
        "OperatingSystem": "AWS Lambda",
        "OSType": "linux",
        "Architecture": architecture(config),
        "NCPU": LARGEST_CPUS,
        "MemTotal": LARGEST_MEMORY,
        "KernelVersion": "",
    })
}

/// Docker's `info`.
pub(in crate::api) fn info(
    config: &Config,
    instance: &str,
    counts: Counts,
    warnings: &[String],
    now: Timestamp,
) -> Value {
    let place = match &config.endpoint_url {
        Some(endpoint) if config.sandbox => format!("sandbox at {endpoint}"),
        _ if config.sandbox => "sandbox".to_owned(),
        Some(endpoint) => endpoint.clone(),
        None => "AWS".to_owned(),
    };
    let mut info = json!({
        "DriverStatus": [
            ["Region", config.region],
            ["Log Group", config.log_group],
            ["Runs At Once", config.max_running.to_string()],
            ["Endpoint", place],
        ],
        "Plugins": { "Volume": [], "Network": ["bridge", "host", "null"], "Authorization": [], "Log": ["awslogs"] },
        "MemoryLimit": true,
        "SwapLimit": false,
        "CpuCfsPeriod": false,
        "CpuCfsQuota": false,
        "CPUShares": false,
        "CPUSet": false,
        "PidsLimit": false,
        "IPv4Forwarding": false,
        "Debug": false,
        "NFd": 0,
        "OomKillDisable": false,
        "NGoroutines": 0,
        "SystemTime": now.to_string(),
        "LoggingDriver": "awslogs",
        "CgroupDriver": "none",
        "CgroupVersion": "2",
        "NEventsListener": 0,
        "OSVersion": "",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": registry_config(),
        "GenericResources": [],
        "DockerRootDir": config.database.parent().map(|path| path.display().to_string()).unwrap_or_default(),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "ExperimentalBuild": false,
        "Runtimes": { "lambda": { "path": "" } },
        "DefaultRuntime": "lambda",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": [],
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "SecurityOptions": [],
        "CDISpecDirs": [],
        "Warnings": warnings,
    });
    if let (Some(all), Value::Object(common)) = (info.as_object_mut(), internal_info(config, instance, counts)) {
        all.extend(common);
    }
    info
}

/// Where a short image name leads, as older clients look it up.
fn registry_config() -> Value {
    json!({
        "InsecureRegistryCIDRs": [],
        "IndexConfigs": { "docker.io": { "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true } },
        "Mirrors": [],
    })
}

/// What a frontend may ask of this backend. The flags stand twice: two readings of their place exist.
pub(in crate::api) fn capabilities() -> Value {
    let flags = json!({
        "exec": false,
        "attach": false,
        "logs": true,
        "logs_follow": false,
        "volumes": false,
        "networks": false,
        "health_checks": false,
        "image_pull": true,
        "image_load": false,
        "max_timeout_seconds": limits::TIMEOUT_S.end(),
        "agent_required": false,
    });
    let mut answer = json!({ "backend": "lambda", "version": VERSION, "capabilities": flags });
    if let (Some(all), Value::Object(flags)) = (answer.as_object_mut(), flags) {
        all.extend(flags);
    }
    answer
}

/// One of the three networks that every client expects.
pub(in crate::api) fn network(name: &str, driver: &str, id: &str) -> Value {
    json!({
        "Name": name,
        "Id": id,
        "Created": Timestamp::default().to_string(),
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": {}, "Config": [] },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": {},
        "Options": {},
        "Labels": {},
    })
}
