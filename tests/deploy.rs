//! deploy/: what no tool checks, and where two files must say the same.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sockerless_lambda::config::KEYS;
use sockerless_lambda::doctor::RIGHTS;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

/// The template as one stack would have it, in the place that the policies of deploy/iam name.
fn template() -> Value {
    let filled = text("deploy/cloudformation/sockerless-backend-lambda.yaml")
        .replace("${AWS::Partition}", "aws")
        .replace("${AWS::Region}", "eu-west-1")
        .replace("${AWS::AccountId}", "123456789012")
        .replace("${FunctionPrefix}", "skls")
        .replace("${LogGroupName}", "/sockerless/lambda")
        .replace("${ClaimsLogGroupName}", "/sockerless/lambda-claims")
        .replace("${ExecutionRoleName}", "sockerless-execution");
    plain(serde_saphyr::from_str(&filled).unwrap())
}

/// Without `Fn::Sub`, which has done its work, and with lists of one as the one.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(mut map) if map.len() == 1 && map.contains_key("Fn::Sub") => map.remove("Fn::Sub").unwrap(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        Value::Array(list) if list.len() == 1 && list[0].is_string() => list.into_iter().next().unwrap(),
        Value::Array(list) => list.into_iter().map(plain).collect(),
        other => other,
    }
}

/// `daemon-base` → `DaemonBase`
fn resource_name(file: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    file.split('-').map(capital).collect()
}

fn actions(policy: &Value) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().unwrap().iter().filter(|one| one["Effect"] == "Allow");
    statements
        .flat_map(|statement| match &statement["Action"] {
            Value::Array(list) => list.iter().map(|action| action.as_str().unwrap().to_owned()).collect(),
            one => vec![one.as_str().unwrap().to_owned()],
        })
        .collect()
}

fn daemon_policies(template: &Value) -> BTreeMap<String, Value> {
    let resources = template["Resources"].as_object().unwrap().iter();
    let policies = resources.filter(|(_, resource)| resource["Type"] == "AWS::IAM::ManagedPolicy");
    policies.map(|(name, resource)| (name.clone(), resource["Properties"]["PolicyDocument"].clone())).collect()
}

#[test]
fn the_template_gives_what_the_policies_say() {
    let template = template();
    let Ok(files) = std::fs::read_dir(file("deploy/iam")) else {
        println!("SKIPPED: there is no deploy/iam to compare with");
        return;
    };
    let mut expected = BTreeMap::new();
    for path in files.map(|entry| entry.unwrap().path()) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("daemon-") && path.extension().is_some_and(|extension| extension == "json") {
            expected.insert(resource_name(&name), read_policy(&path));
        }
    }
    assert_eq!(daemon_policies(&template), expected);
    let role = &template["Resources"]["ExecutionRole"]["Properties"];
    let policy = |name: &str| read_policy(&file(&format!("deploy/iam/{name}.json")));
    assert_eq!(role["AssumeRolePolicyDocument"], policy("execution-role-trust"));
    assert_eq!(role["Policies"][0]["PolicyDocument"], policy("execution-role"));
    assert_eq!(role["Policies"][1]["Fn::If"][1]["PolicyDocument"], policy("execution-role-vpc"));
}

fn read_policy(path: &Path) -> Value {
    plain(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

/// The template makes both groups, and its names are the daemon's own defaults.
#[test]
fn claims_group_of_the_template_is_the_daemons_default() {
    let template = template();
    let default = |key: &str| KEYS.iter().find(|setting| setting.name() == key).unwrap().default_text();
    for (parameter, key) in [("LogGroupName", "log_group"), ("ClaimsLogGroupName", "claims_log_group")] {
        assert_eq!(template["Parameters"][parameter]["Default"], default(key));
    }
    for (group, parameter) in [("LogGroup", "LogGroupName"), ("ClaimsLogGroup", "ClaimsLogGroupName")] {
        let group = &template["Resources"][group];
        assert_eq!(group["Type"], "AWS::Logs::LogGroup");
        assert_eq!(group["Properties"]["LogGroupName"]["Ref"], parameter);
        assert_eq!(group["DeletionPolicy"], "Retain");
    }
    assert!(template["Resources"]["ClaimsLogGroup"]["Properties"].get("RetentionInDays").is_none());
    let role = template["Resources"]["ExecutionRole"].to_string();
    assert!(role.contains("/sockerless/lambda:*") && !role.contains("claims"), "{role}");
}

/// `doctor` looks at every right that the daemon is given. What Lambda does to repositories on its behalf is a choice.
#[test]
fn doctor_knows_every_right() {
    let given: BTreeSet<String> = daemon_policies(&template()).values().flat_map(actions).collect();
    let chosen = ["ecr:GetRepositoryPolicy", "ecr:SetRepositoryPolicy"].map(str::to_owned);
    let known: BTreeSet<String> = RIGHTS.iter().map(|right| right.action.to_owned()).chain(chosen).collect();
    assert_eq!(known, given);
}

/// One daemon, one database, probes where they are answered, nothing that is not needed.
#[test]
fn the_manifest_keeps_the_promises_of_the_daemon() {
    let text = text("deploy/kubernetes/sockerless-backend-lambda.yaml");
    let all: Vec<Value> = text.split("\n---\n").map(|one| serde_saphyr::from_str(one).unwrap()).collect();
    let of = |kind: &str| all.iter().find(|one| one["kind"] == kind).unwrap();
    let spec = &of("StatefulSet")["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["volumeClaimTemplates"][0]["spec"]["accessModes"][0], "ReadWriteOncePod");
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["automountServiceAccountToken"], false);
    let container = &pod["containers"][0];
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], "metrics");
    }
    let context = &container["securityContext"];
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"]["drop"][0], "ALL");
    let role = &of("ServiceAccount")["metadata"]["annotations"]["eks.amazonaws.com/role-arn"];
    assert!(role.as_str().unwrap().starts_with("arn:aws:iam::"));

    // The configuration in it is one that the daemon takes.
    let configuration: Value =
        serde_saphyr::from_str(of("ConfigMap")["data"]["lambda.yaml"].as_str().unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lambda.yaml");
    std::fs::write(&path, of("ConfigMap")["data"]["lambda.yaml"].as_str().unwrap()).unwrap();
    let mut binary = std::process::Command::new(env!("CARGO_BIN_EXE_sockerless-backend-lambda"));
    let output = binary.env_clear().arg("--config").arg(&path).arg("--print-config").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metrics = configuration["lambda"]["metrics_listen"].as_str().unwrap();
    let port = container["ports"].as_array().unwrap().iter().find(|port| port["name"] == "metrics").unwrap();
    assert!(metrics.ends_with(&format!(":{}", port["containerPort"])), "{metrics}");
}

/// The image has only what the Dockerfile's script makes, and is alive when the daemon says so.
#[test]
fn the_image_is_made_by_the_script_that_is_checked() {
    let dockerfile = text("deploy/container/Dockerfile");
    assert!(dockerfile.contains("RUN deploy/container/build.sh "));
    assert!(dockerfile.contains("\"/usr/bin/sockerless-backend-lambda\", \"healthcheck\""));
    let stages = dockerfile.lines().filter(|line| line.starts_with("FROM ")).count();
    assert_eq!(stages, 2);
    assert!(dockerfile.contains("\nUSER 65532:65532\n"));
    // An ENV would count for more than a file that is mounted, and nothing listens on a port unless it is asked to.
    assert!(!dockerfile.lines().any(|line| line.starts_with("ENV ") || line.starts_with("EXPOSE ")));
}

/// The unit restarts what can be helped by it, and says what the daemon's exit codes say.
#[test]
fn the_unit_fits_the_daemon() {
    let unit = text("deploy/systemd/sockerless-backend-lambda.service");
    for line in ["Type=notify", "Restart=on-failure", "RestartPreventExitStatus=64", "User=sockerless"] {
        assert!(unit.lines().any(|one| one == line), "{line}");
    }
    assert!(unit.lines().any(|line| line.starts_with("WatchdogSec=")));
}

/// The pass has the daemon's user, rights and credentials, whoever starts it.
#[test]
fn the_pass_is_started_as_the_daemon_is() {
    let daemon = text("deploy/systemd/sockerless-backend-lambda.service");
    let pass = text("deploy/systemd/sockerless-reconcile.service");
    let credentials = "EnvironmentFile=-/etc/sockerless/environment";
    let hardening = daemon.lines().skip_while(|line| *line != "CapabilityBoundingSet=");
    let hardening = hardening.take_while(|line| !line.is_empty());
    assert!(hardening.clone().count() > 20);
    for line in hardening.chain([credentials, "User=sockerless", "Group=sockerless", "StateDirectory=sockerless"]) {
        assert!(daemon.lines().any(|one| one == line), "{line}");
        assert!(pass.lines().any(|one| one == line), "{line}");
    }
}

/// What cron's line does with the credentials, and with each exit code. The README has the same line.
#[test]
fn the_line_for_cron_reads_the_credentials() {
    let cron = text("deploy/cron/sockerless-reconcile");
    let line = cron.lines().find(|line| line.starts_with("*/15 ")).unwrap();
    assert!(text("README.md").lines().any(|one| one == line));
    assert!(!line.contains('%'), "cron makes line ends of them");
    let command = line.strip_prefix("*/15 * * * * sockerless ").unwrap();

    let directory = tempfile::tempdir().unwrap();
    let environment = directory.path().join("environment");
    let program = directory.path().join("program");
    let script = "#!/bin/sh\necho \"$AWS_SECRET_ACCESS_KEY, $*\"\nexit ${CODE:-1}\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let command = command
        .replace("/etc/sockerless/environment", environment.to_str().unwrap())
        .replace("/usr/bin/sockerless-backend-lambda", program.to_str().unwrap());
    let mail = || {
        let mut shell = std::process::Command::new("/bin/sh");
        let output = shell.env_clear().env("PATH", "/usr/bin:/bin").arg("-c").arg(&command).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(mail(), ", --reconcile-once --deadline 10m\n", "a machine with a role of its own has no such file");
    std::fs::write(&environment, "# Keys.\nAWS_SECRET_ACCESS_KEY='a/b+c $d'\n").unwrap();
    assert_eq!(mail(), "a/b+c $d, --reconcile-once --deadline 10m\n");
    for code in [0, 2] {
        std::fs::write(&environment, format!("CODE={code}\n")).unwrap();
        assert_eq!(mail(), "");
    }
}
