//! The fields of Docker's `Config` and `HostConfig`: their kinds, and what `inspect` shows when they were not given.
//! PURE.

use serde_json::{Map, Value};

/// What a field may hold. `null` is the same as absence everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Int,
    /// A list of strings.
    Words,
    /// A string or a list of strings.
    WordOrWords,
    /// A list.
    List,
    /// A map.
    Map,
}

impl Kind {
    fn holds(self, value: &Value) -> bool {
        let are_texts = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
        match self {
            Self::Text => value.is_string(),
            Self::Flag => value.is_boolean(),
            Self::Int => value.is_i64() || value.is_u64(),
            Self::Words => are_texts(value),
            Self::WordOrWords => value.is_string() || are_texts(value),
            Self::List => value.is_array(),
            Self::Map => value.is_object(),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Flag => "true or false",
            Self::Int => "a whole number",
            Self::Words => "a list of strings",
            Self::WordOrWords => "a string or a list of strings",
            Self::List => "a list",
            Self::Map => "a map",
        }
    }
}

/// A field.
pub(super) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    /// What it may hold.
    pub(super) kind: Kind,
    /// What `inspect` shows without it, as JSON; `None`: nothing.
    pub(super) default: Option<&'static str>,
}

const fn shown(name: &'static str, kind: Kind, default: &'static str) -> Field {
    Field { name, kind, default: Some(default) }
}

const fn hidden(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, default: None }
}

/// Docker's `Config`.
pub(super) const CONFIG: &[Field] = &[
    shown("AttachStderr", Kind::Flag, "false"),
    shown("AttachStdin", Kind::Flag, "false"),
    shown("AttachStdout", Kind::Flag, "false"),
    shown("Cmd", Kind::WordOrWords, "null"),
    shown("Domainname", Kind::Text, "\"\""),
    shown("Entrypoint", Kind::WordOrWords, "null"),
    shown("Env", Kind::Words, "[]"),
    hidden("ExposedPorts", Kind::Map),
    hidden("Healthcheck", Kind::Map),
    shown("Hostname", Kind::Text, "\"\""),
    shown("Image", Kind::Text, "\"\""),
    shown("Labels", Kind::Map, "{}"),
    hidden("MacAddress", Kind::Text),
    shown("NetworkDisabled", Kind::Flag, "false"),
    hidden("OnBuild", Kind::Words),
    shown("OpenStdin", Kind::Flag, "false"),
    hidden("Shell", Kind::Words),
    shown("StdinOnce", Kind::Flag, "false"),
    hidden("StopSignal", Kind::Text),
    hidden("StopTimeout", Kind::Int),
    shown("Tty", Kind::Flag, "false"),
    shown("User", Kind::Text, "\"\""),
    shown("Volumes", Kind::Map, "null"),
    shown("WorkingDir", Kind::Text, "\"\""),
];

/// Docker's `HostConfig`.
pub(super) const HOST_CONFIG: &[Field] = &[
    hidden("Annotations", Kind::Map),
    shown("AutoRemove", Kind::Flag, "false"),
    shown("Binds", Kind::Words, "null"),
    shown("BlkioDeviceReadBps", Kind::List, "[]"),
    shown("BlkioDeviceReadIOps", Kind::List, "[]"),
    shown("BlkioDeviceWriteBps", Kind::List, "[]"),
    shown("BlkioDeviceWriteIOps", Kind::List, "[]"),
    shown("BlkioWeight", Kind::Int, "0"),
    shown("BlkioWeightDevice", Kind::List, "[]"),
    shown("CapAdd", Kind::WordOrWords, "null"),
    shown("CapDrop", Kind::WordOrWords, "null"),
    shown("Cgroup", Kind::Text, "\"\""),
    shown("CgroupParent", Kind::Text, "\"\""),
    shown("CgroupnsMode", Kind::Text, "\"private\""),
    shown("ConsoleSize", Kind::List, "[0,0]"),
    shown("ContainerIDFile", Kind::Text, "\"\""),
    shown("CpuCount", Kind::Int, "0"),
    shown("CpuPercent", Kind::Int, "0"),
    shown("CpuPeriod", Kind::Int, "0"),
    shown("CpuQuota", Kind::Int, "0"),
    shown("CpuRealtimePeriod", Kind::Int, "0"),
    shown("CpuRealtimeRuntime", Kind::Int, "0"),
    shown("CpuShares", Kind::Int, "0"),
    shown("CpusetCpus", Kind::Text, "\"\""),
    shown("CpusetMems", Kind::Text, "\"\""),
    shown("DeviceCgroupRules", Kind::Words, "null"),
    shown("DeviceRequests", Kind::List, "null"),
    shown("Devices", Kind::List, "[]"),
    shown("Dns", Kind::Words, "[]"),
    shown("DnsOptions", Kind::Words, "[]"),
    shown("DnsSearch", Kind::Words, "[]"),
    shown("ExtraHosts", Kind::Words, "null"),
    shown("GroupAdd", Kind::Words, "null"),
    shown("IOMaximumBandwidth", Kind::Int, "0"),
    shown("IOMaximumIOps", Kind::Int, "0"),
    hidden("Init", Kind::Flag),
    shown("IpcMode", Kind::Text, "\"private\""),
    shown("Isolation", Kind::Text, "\"\""),
    hidden("KernelMemory", Kind::Int),
    shown("Links", Kind::Words, "null"),
    shown("LogConfig", Kind::Map, r#"{"Config":{},"Type":"json-file"}"#),
    shown("MaskedPaths", Kind::Words, "[]"),
    shown("Memory", Kind::Int, "0"),
    shown("MemoryReservation", Kind::Int, "0"),
    shown("MemorySwap", Kind::Int, "0"),
    shown("MemorySwappiness", Kind::Int, "null"),
    hidden("Mounts", Kind::List),
    shown("NanoCpus", Kind::Int, "0"),
    shown("NetworkMode", Kind::Text, "\"bridge\""),
    shown("OomKillDisable", Kind::Flag, "false"),
    shown("OomScoreAdj", Kind::Int, "0"),
    shown("PidMode", Kind::Text, "\"\""),
    shown("PidsLimit", Kind::Int, "null"),
    shown("PortBindings", Kind::Map, "{}"),
    shown("Privileged", Kind::Flag, "false"),
    shown("PublishAllPorts", Kind::Flag, "false"),
    shown("ReadonlyPaths", Kind::Words, "[]"),
    shown("ReadonlyRootfs", Kind::Flag, "false"),
    shown("RestartPolicy", Kind::Map, r#"{"MaximumRetryCount":0,"Name":"no"}"#),
    shown("Runtime", Kind::Text, "\"lambda\""),
    shown("SecurityOpt", Kind::Words, "null"),
    shown("ShmSize", Kind::Int, "67108864"),
    hidden("StorageOpt", Kind::Map),
    hidden("Sysctls", Kind::Map),
    hidden("Tmpfs", Kind::Map),
    shown("UTSMode", Kind::Text, "\"\""),
    shown("Ulimits", Kind::List, "[]"),
    shown("UsernsMode", Kind::Text, "\"\""),
    shown("VolumeDriver", Kind::Text, "\"\""),
    shown("VolumesFrom", Kind::Words, "null"),
];

/// Whether every known field holds what it may. The error names the field. Unknown fields do not matter.
pub(super) fn check(fields: &[Field], given: &Map<String, Value>, inside: &str) -> Result<(), String> {
    for field in fields {
        let Some(value) = given.get(field.name).filter(|value| !value.is_null()) else { continue };
        if !field.kind.holds(value) {
            return Err(format!("{inside}{}: {} is needed", field.name, field.kind.as_str()));
        }
    }
    Ok(())
}

/// Only the known fields that hold something.
pub(super) fn known(fields: &[Field], given: &Map<String, Value>) -> Map<String, Value> {
    let kept = |field: &Field| {
        let value = given.get(field.name).filter(|value| !value.is_null())?;
        Some((field.name.to_owned(), value.clone()))
    };
    fields.iter().filter_map(kept).collect()
}

/// All fields as `inspect` shows them.
pub(super) fn complete(fields: &[Field], given: &Value) -> Map<String, Value> {
    let shown = |field: &Field| {
        let default = || field.default.map(|text| serde_json::from_str(text).unwrap_or(Value::Null));
        // An empty text is what clients send for "not set".
        let value = given.get(field.name).filter(|value| !value.is_null() && value.as_str() != Some(""));
        Some((field.name.to_owned(), value.cloned().or_else(default)?))
    };
    fields.iter().filter_map(shown).collect()
}

/// Whether a setting asks for something: not `null`, `false`, empty, zero or (unlimited) negative.
pub(super) fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64().is_some_and(|number| number > 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_default_is_json_of_its_kind() {
        for field in CONFIG.iter().chain(HOST_CONFIG) {
            let Some(text) = field.default else { continue };
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(value.is_null() || field.kind.holds(&value), "{}", field.name);
        }
    }

    #[test]
    fn wrong_kinds_are_named() {
        let check = |value: Value| check(HOST_CONFIG, value.as_object().unwrap(), "HostConfig.");
        assert_eq!(check(json!({"Memory": 1, "Unknown": {}, "Binds": null, "CapAdd": "x"})), Ok(()));
        assert_eq!(check(json!({"Memory": "1"})), Err("HostConfig.Memory: a whole number is needed".to_owned()));
        assert_eq!(check(json!({"Memory": 1.5})), Err("HostConfig.Memory: a whole number is needed".to_owned()));
        assert_eq!(check(json!({"Binds": [1]})), Err("HostConfig.Binds: a list of strings is needed".to_owned()));
    }

    #[test]
    fn what_counts_as_set() {
        for (value, set) in [
            (json!(null), false),
            (json!(false), false),
            (json!(0), false),
            (json!(-1), false),
            (json!(""), false),
            (json!([]), false),
            (json!({}), false),
            (json!(1), true),
            (json!(["a"]), true),
        ] {
            assert_eq!(is_set(&value), set, "{value}");
        }
    }
}
