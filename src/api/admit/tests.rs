use serde_json::json;

use super::*;
use crate::state::model::{Architecture, DeletionPolicy, RestartPolicy, UnknownOutcome};

fn config() -> Config {
    Config {
        memory_size: 1_024,
        timeout: 300,
        sandbox: true,
        ..Config::new("eu-west-1", "arn:aws:iam::123456789012:role/r").unwrap()
    }
}

fn admitted(body: Value) -> ContainerConfig {
    admit(&body, None, &config()).unwrap().config
}

/// Status and message of the refusal.
fn refused(body: Value) -> (u16, String) {
    let error = admit(&body, None, &config()).unwrap_err();
    (error.status().as_u16(), error.to_string())
}

fn warnings(body: Value) -> Vec<String> {
    admit(&body, None, &config()).unwrap().warnings
}

/// What docker CLI 28 sends for `docker run alpine sleep 1`.
fn cli_body() -> Value {
    // As text: the macro for JSON does not take so many members.
    let host_config = r#"{
            "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default",
            "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": true,
            "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [0, 0], "CapAdd": null, "CapDrop": null,
            "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null,
            "IpcMode": "", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false,
            "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
            "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
            "BlkioWeight": 0, "BlkioWeightDevice": [], "CpuPeriod": 0, "CpuQuota": 0, "CpusetCpus": "",
            "Devices": [], "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": 0,
            "MemorySwap": 0, "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0, "Ulimits": [],
            "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
            "MaskedPaths": null, "ReadonlyPaths": null
}"#;
    json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true,
        "AttachStderr": true, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null,
        "Cmd": ["sleep", "1"], "Image": "alpine", "Volumes": {}, "WorkingDir": "", "Entrypoint": null,
        "OnBuild": null, "Labels": {},
        "HostConfig": serde_json::from_str::<Value>(host_config).unwrap(),
        "NetworkingConfig": {"EndpointsConfig": {"default": {"IPAMConfig": null}}}
    })
}

#[test]
fn what_the_docker_cli_sends_is_taken_without_a_warning() {
    let admitted = admit(&cli_body(), None, &config()).unwrap();
    assert!(admitted.warnings.is_empty(), "{:?}", admitted.warnings);
    assert_eq!(admitted.config.image_reference, "docker.io/library/alpine:latest");
    let config = admitted.config;
    assert_eq!((config.image.as_str(), config.image_uri.as_str()), ("alpine", "alpine:latest"));
    assert_eq!(config.cmd, Some(vec!["sleep".to_owned(), "1".to_owned()]));
    assert_eq!((config.entrypoint, config.working_dir), (None, None));
    assert!(config.auto_remove);
    assert_eq!((config.function.memory_mb, config.function.timeout_s), (1_024, 300));
}

#[test]
fn commands_come_as_text_or_list() {
    let config = admitted(json!({"Image": "a", "Cmd": "echo hi", "Entrypoint": "/bin/sh"}));
    assert_eq!(config.cmd, Some(vec!["echo hi".to_owned()]));
    assert_eq!(config.entrypoint, Some(vec!["/bin/sh".to_owned()]));
    let config = admitted(json!({"Image": "a", "Cmd": ["x"], "Entrypoint": [""]}));
    assert_eq!((config.cmd, config.entrypoint), (Some(vec!["x".to_owned()]), Some(Vec::new())));
    for cmd in [json!([]), json!(null)] {
        let nothing = refused(json!({"Image": "a", "Cmd": cmd, "Entrypoint": [""]}));
        assert_eq!(nothing, (400, "no command specified".to_owned()));
    }
    let config = admitted(json!({"Image": "a", "Cmd": null, "Entrypoint": []}));
    assert_eq!((config.cmd, config.entrypoint), (None, None));
}

#[test]
fn an_empty_request_is_refused_in_dockers_words() {
    let empty = (400, "config cannot be empty in order to create a container".to_owned());
    for body in [json!({}), json!({"HostConfig": {"Memory": 1}}), json!({"Unknown": 1, "Image": null})] {
        assert_eq!(refused(body), empty);
    }
    assert_eq!(refused(json!([])).0, 400);
    assert_eq!(refused(json!({"Cmd": ["x"]})), (400, "Image: the name of an image is needed".to_owned()));
}

#[test]
fn wrong_types_are_named() {
    for (body, field) in [
        (json!({"Image": 1}), "Image"),
        (json!({"Image": "a", "Cmd": [1]}), "Cmd"),
        (json!({"Image": "a", "Env": "A=1"}), "Env"),
        (json!({"Image": "a", "Labels": []}), "Labels"),
        (json!({"Image": "a", "Labels": {"x": 1}}), "Labels.x"),
        (json!({"Image": "a", "HostConfig": []}), "HostConfig"),
        (json!({"Image": "a", "HostConfig": {"Memory": "1g"}}), "HostConfig.Memory"),
    ] {
        let (status, message) = refused(body);
        assert_eq!(status, 400);
        assert!(message.starts_with(&format!("invalid JSON: {field}: ")), "{message}");
    }
}

#[test]
fn memory_is_rounded_up_and_bounded() {
    let memory = |bytes: i64| admitted(json!({"Image": "a", "HostConfig": {"Memory": bytes}})).function.memory_mb;
    for (bytes, mb) in [(0, 1_024), (1, 128), (134_217_728, 128), (134_217_729, 129), (10_737_418_240, 10_240)] {
        assert_eq!(memory(bytes), mb, "{bytes}");
    }
    assert_eq!(
        refused(json!({"Image": "a", "HostConfig": {"Memory": 10_737_418_241_i64}})),
        (400, "HostConfig.Memory: 10241 MB are more than Lambda's limit of 10240 MB".to_owned())
    );
    assert_eq!(refused(json!({"Image": "a", "HostConfig": {"Memory": -1}})).0, 400);
}

#[test]
fn dockers_flags_come_before_labels_and_labels_before_the_configuration() {
    let labels = json!({
        "sockerless.lambda.memory": "256",
        "sockerless.lambda.timeout": "900",
        "sockerless.lambda.invocation-type": "Event",
        "sockerless.lambda.architecture": "arm64",
        "sockerless.lambda.role-arn": "arn:aws:iam::123456789012:role/other",
        "sockerless.lambda.protocol": "native",
        "sockerless.lambda.ephemeral-storage": "1024",
        "sockerless.lambda.subnet-ids": "subnet-1, subnet-2",
        "sockerless.lambda.security-group-ids": "sg-1",
        "sockerless.lambda.payload": "{\"a\":1}",
        "sockerless.lambda.deletion-policy": "retain",
        "sockerless.lambda.unknown-outcome": "rerun",
    });
    let body = json!({"Image": "a", "Labels": labels, "HostConfig": {"Memory": 536_870_912}});
    let function = admit(&body, Some("linux/amd64"), &config()).unwrap().config.function;
    assert_eq!(function.memory_mb, 512);
    assert_eq!(function.timeout_s, 900);
    assert_eq!(function.invocation, InvocationKind::Event);
    assert_eq!(function.architecture, Architecture::X86_64);
    assert_eq!(function.role_arn, "arn:aws:iam::123456789012:role/other");
    assert_eq!(function.protocol, Protocol::Native);
    assert_eq!(function.ephemeral_storage_mb, 1_024);
    assert_eq!(function.subnet_ids, ["subnet-1", "subnet-2"]);
    assert_eq!(function.security_group_ids, ["sg-1"]);
    assert_eq!(function.payload.as_deref(), Some("{\"a\":1}"));
    assert_eq!(function.deletion_policy, DeletionPolicy::Retain);
    assert_eq!(function.unknown_outcome, UnknownOutcome::Rerun);
    let function = admit(&body, None, &config()).unwrap().config.function;
    assert_eq!(function.architecture, Architecture::Arm64);
}

#[test]
fn labels_are_names_and_not_data_but_for_the_payload() {
    let with = |label: &str, bytes: usize| {
        let body = json!({ "Image": "a", "Labels": { label: format!("\"{}\"", "x".repeat(bytes)) } });
        admit(&body, None, &config()).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(with("note", 60_000), Ok(()));
    assert_eq!(with("note", 65_536), Err("Labels: 65542 bytes are more than the 65536 that are kept".to_owned()));
    assert_eq!(with("sockerless.lambda.payload", 500_000), Ok(()));
}

#[test]
fn bad_labels_are_refused_by_name() {
    for (label, value) in [
        ("memory", "127"),
        ("memory", "10241"),
        ("memory", "1g"),
        ("timeout", "0"),
        ("timeout", "901"),
        ("ephemeral-storage", "100"),
        ("invocation-type", "later"),
        ("architecture", "mips"),
        ("protocol", "http"),
        ("role-arn", "admin"),
        ("subnet-ids", "sg-1"),
        ("security-group-ids", "sg-1,sg-2,sg-3,sg-4,sg-5,sg-6"),
        ("payload", "{"),
        ("deletion-policy", "keep"),
        ("unknown-outcome", "retry"),
        ("memroy", "128"),
    ] {
        let key = format!("sockerless.lambda.{label}");
        let (status, message) = refused(json!({"Image": "a", "Labels": {&key: value}}));
        assert_eq!(status, 400);
        assert!(message.starts_with(&format!("label {key}: ")), "{message}");
    }
}

#[test]
fn platforms() {
    let architecture = |platform: &str| {
        admit(&json!({"Image": "a"}), Some(platform), &config()).map(|admitted| admitted.config.function.architecture)
    };
    for (platform, expected) in [
        ("linux/amd64", Architecture::X86_64),
        ("linux/arm64", Architecture::Arm64),
        ("linux/arm64/v8", Architecture::Arm64),
        ("arm64", Architecture::Arm64),
        ("linux/x86_64", Architecture::X86_64),
    ] {
        assert_eq!(architecture(platform).unwrap(), expected, "{platform}");
    }
    for platform in ["windows/amd64", "linux/arm/v7", "linux/386"] {
        assert_eq!(architecture(platform).unwrap_err().status(), 400, "{platform}");
    }
}

#[test]
fn images_outside_the_sandbox_must_be_in_private_ecr() {
    let uri = |image: &str, registry: Option<&str>, region: &str| {
        let config = Config {
            sandbox: false,
            region: region.to_owned(),
            image_registry: registry.map(str::to_owned),
            ..config()
        };
        admit(&json!({"Image": image}), None, &config).map(|admitted| admitted.config.image_uri)
    };
    let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    for (image, registry, expected) in [
        ("alpine", Some(ecr), format!("{ecr}/alpine:latest")),
        ("docker.io/library/alpine:3", Some(ecr), format!("{ecr}/alpine:3")),
        ("team/app:1", Some(ecr), format!("{ecr}/team/app:1")),
        (&format!("{ecr}/app:1"), None, format!("{ecr}/app:1")),
        ("alpine", Some(&format!("{ecr}/mirror/")), format!("{ecr}/mirror/alpine:latest")),
    ] {
        assert_eq!(uri(image, registry, "eu-west-1").unwrap(), expected);
    }
    let china = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/app:1";
    assert_eq!(uri(china, None, "cn-north-1").unwrap(), china);
    for (image, registry) in [
        ("alpine", None),
        ("ghcr.io/a/b", Some(ecr)),
        ("public.ecr.aws/lambda/python:3", None),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/app:1", None),
        ("12345.dkr.ecr.eu-west-1.amazonaws.com/app:1", None),
    ] {
        let error = uri(image, registry, "eu-west-1").unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.to_string().contains("private Amazon ECR of eu-west-1"), "{error}");
    }
    let hint = uri("alpine", None, "eu-west-1").unwrap_err().to_string();
    assert!(hint.contains("amazonaws.com/alpine:latest, or set image_registry"), "{hint}");
}

#[test]
fn what_lambda_cannot_do_is_refused() {
    let host = |host: Value| refused(json!({"Image": "a", "HostConfig": host}));
    let no_bind =
        |path: &str| (400, format!("invalid mount config for type \"bind\": bind source path does not exist: {path}"));
    assert_eq!(host(json!({"Binds": ["/nope/x:/x:ro"]})), no_bind("/nope/x"));
    assert_eq!(host(json!({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/x"}]})), no_bind("/tmp"));
    for refused in [
        host(json!({"Binds": ["vol:/x"]})),
        host(json!({"Mounts": [{"Type": "volume", "Source": "v", "Target": "/x"}]})),
        host(json!({"Tmpfs": {"/run": ""}})),
        host(json!({"VolumesFrom": ["c"]})),
        host(json!({"Privileged": true})),
        host(json!({"Devices": [{"PathOnHost": "/dev/x"}]})),
        host(json!({"DeviceRequests": [{"Count": -1}]})),
        host(json!({"Links": ["a:b"]})),
        host(json!({"NetworkMode": "host"})),
        host(json!({"NetworkMode": "container:abc"})),
        refused(json!({"Image": "a", "Volumes": {"/data": {}}})),
        refused(json!({"Image": "a", "NetworkingConfig": {"EndpointsConfig": {"mynet": {}}}})),
    ] {
        assert_eq!(refused.0, 501, "{}", refused.1);
        assert!(refused.1.contains("this backend (lambda) does not support"), "{}", refused.1);
    }
    for accepted in ["", "default", "bridge", "none"] {
        admitted(json!({"Image": "a", "HostConfig": {"NetworkMode": accepted, "Tmpfs": {"/tmp": ""}}}));
    }
}

#[test]
fn what_is_harmless_is_a_warning() {
    for (body, word) in [
        (json!({"HostConfig": {"PortBindings": {"80/tcp": []}}}), "ports"),
        (json!({"HostConfig": {"NanoCpus": 1}}), "CPU"),
        (json!({"HostConfig": {"CpuShares": 2}}), "CPU"),
        (json!({"HostConfig": {"RestartPolicy": {"Name": "always"}}}), "always"),
        (json!({"HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}}}), "unless-stopped"),
        (json!({"HostConfig": {"CapAdd": ["NET_ADMIN"]}}), "Rights"),
        (json!({"HostConfig": {"LogConfig": {"Type": "syslog"}}}), "syslog"),
        (json!({"User": "1000"}), "user"),
        (json!({"Hostname": "h"}), "host name"),
        (json!({"OpenStdin": true, "AttachStdin": true}), "input"),
        (json!({"Healthcheck": {"Test": ["CMD-SHELL", "true"]}}), "health check"),
    ] {
        let mut body = body;
        body["Image"] = json!("a");
        let warnings = warnings(body);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(word), "{warnings:?}");
    }
    for quiet in [
        json!({"Image": "a", "StopTimeout": 3, "StopSignal": "SIGINT"}),
        json!({"Image": "a", "Healthcheck": {"Test": ["NONE"]}}),
        json!({"Image": "a", "ExposedPorts": {"80/tcp": {}}}),
        json!({"Image": "a", "HostConfig": {"ReadonlyRootfs": true, "Init": true}}),
    ] {
        assert!(warnings(quiet.clone()).is_empty(), "{quiet}");
    }
}

#[test]
fn restart_policies() {
    let policy = |name: &str, max: i64| json!({"Image": "a", "HostConfig": {"RestartPolicy": {"Name": name, "MaximumRetryCount": max}}});
    assert_eq!(admitted(policy("on-failure", 3)).restart, RestartPolicy::OnFailure { max: 3 });
    assert_eq!(admitted(policy("", 0)).restart, RestartPolicy::No);
    assert_eq!(admitted(policy("always", 0)).restart, RestartPolicy::No);
    assert_eq!(refused(policy("on-failure", -1)).0, 400);
    assert_eq!(refused(policy("always", 2)).0, 400);
    assert!(refused(policy("sometimes", 0)).1.contains("unknown policy 'sometimes'"));
    let both = json!({"Image": "a", "HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "on-failure"}}});
    assert_eq!(refused(both), (400, "can't create 'AutoRemove' container with restart policy".to_owned()));
}

#[test]
fn the_environment_with_the_bootstrap() {
    let config = admitted(json!({"Image": "a", "Env": ["A=1", "B=", "C", "_x.y=z", "AWS_REGION=mars"]}));
    assert_eq!(config.env, ["A=1", "B=", "_x.y=z", "AWS_REGION=mars"]);
    assert_eq!(refused(json!({"Image": "a", "Env": ["=1"]})), (400, "invalid environment variable: =1".to_owned()));
    let large = format!("A={}", "x".repeat(200_000));
    admitted(json!({"Image": "a", "Env": [large]}));
    let too_large = format!("A={}", "x".repeat(990_000));
    let event = json!({"sockerless.lambda.invocation-type": "Event"});
    let (status, message) = refused(json!({"Image": "a", "Env": [too_large], "Labels": event}));
    assert_eq!(status, 400);
    assert!(message.contains("an invocation of type Event takes"), "{message}");
    assert_eq!(refused(json!({"Image": "a", "Cmd": ["a\0b"]})).0, 400);
}

#[test]
fn the_environment_of_a_native_image() {
    let native = |env: Value, cmd: Value| json!({"Image": "a", "Env": env, "Entrypoint": cmd, "Labels": {"sockerless.lambda.protocol": "native"}});
    admitted(native(json!(["AB=1", "AB=2"]), json!(null)));
    for (env, word) in [
        (json!(["AWS_REGION=x"]), "reserved"),
        (json!(["_HANDLER=x"]), "reserved"),
        (json!(["A=x"]), "no name"),
        (json!(["1A=x"]), "no name"),
        (json!(["A.B=x"]), "no name"),
        (json!([format!("AB={}", "x".repeat(4_090))]), "4096"),
    ] {
        let (status, message) = refused(native(env, json!(null)));
        assert_eq!(status, 400);
        assert!(message.starts_with("Env: ") && message.contains(word), "{message}");
    }
    assert!(refused(native(json!([]), json!(["python"]))).1.contains("absolute path"));
    assert!(refused(native(json!([]), json!(["/p", "x".repeat(20_000)]))).1.contains("16384"));
}

#[test]
fn the_working_directory_is_absolute() {
    assert_eq!(admitted(json!({"Image": "a", "WorkingDir": "/srv"})).working_dir.as_deref(), Some("/srv"));
    assert!(refused(json!({"Image": "a", "WorkingDir": "srv"})).1.contains("it needs to be an absolute path"));
}
