//! The configuration as a user writes it: files, environment and flags.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sockerless_lambda::config::{
    Config, ConfigError, DockerApi, Environment, Flags, KEYS, Listen, Loaded, LogFormat, Place, Problem, Sources, Tls,
    effective_yaml, load, markdown_table,
};
use sockerless_lambda::state::model::{Architecture, InvocationKind, Protocol, UnknownOutcome};

const ROLE: &str = "arn:aws:iam::123456789012:role/service/sockerless";

/// A configuration to be made; region and role are given by the environment.
struct Case {
    sources: Sources,
    directory: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self::bare().var("SOCKERLESS_LAMBDA_REGION", "eu-west-1").var("SOCKERLESS_LAMBDA_ROLE_ARN", ROLE)
    }

    fn bare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            file: None,
            system_file: directory.path().join("none.yaml"),
            environment: Environment::default(),
            flags: Flags::new(),
            place: Place::System,
            sandbox_images: Vec::new(),
            adopt: false,
        };
        Self { sources, directory }.var("XDG_STATE_HOME", "/state")
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        let mut variables: BTreeMap<String, String> = ["XDG_STATE_HOME", "HOME", "AWS_REGION", "AWS_DEFAULT_REGION"]
            .into_iter()
            .map(str::to_owned)
            .chain(KEYS.iter().map(|key| key.variable()))
            .chain(["SOCKERLESS_LAMBDA_NOPE".to_owned(), "SOCKERLESS_LAMBDA_CONFIG".to_owned()])
            .filter_map(|name| Some((name.clone(), self.sources.environment.get(&name)?.to_owned())))
            .collect();
        variables.insert(name.to_owned(), value.to_owned());
        self.sources.environment = variables.into_iter().collect();
        self
    }

    fn flag(mut self, key: &'static str, values: &[&str]) -> Self {
        self.sources.flags.insert(key, values.iter().map(|value| (*value).to_owned()).collect());
        self
    }

    fn yaml(mut self, text: &str) -> Self {
        let path = self.path();
        std::fs::write(&path, text).unwrap();
        self.sources.file = Some(path);
        self
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("lambda.yaml")
    }

    fn place(mut self, place: Place) -> Self {
        self.sources.place = place;
        self
    }

    fn loaded(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|error| panic!("{error}"))
    }

    fn config(&self) -> Config {
        self.loaded().config
    }

    fn problems(&self) -> Vec<Problem> {
        match load(&self.sources) {
            Err(ConfigError::Problems(problems)) => problems,
            other => panic!("no problems: {other:?}"),
        }
    }

    fn source_of(&self, key: &str) -> String {
        self.loaded().effective.into_iter().find(|effective| effective.key == key).unwrap().source
    }
}

fn defaults() -> Config {
    Config {
        region: "eu-west-1".to_owned(),
        role_arn: ROLE.to_owned(),
        log_group: "/sockerless/lambda".to_owned(),
        claims_log_group: "/sockerless/lambda-claims".to_owned(),
        log_retention_days: None,
        memory_size: 1024,
        timeout: 900,
        subnet_ids: vec![],
        security_group_ids: vec![],
        architecture: Architecture::X86_64,
        ephemeral_storage: 512,
        invocation_type: InvocationKind::RequestResponse,
        event_age: 300,
        protocol: Protocol::Bootstrap,
        unknown_outcome: UnknownOutcome::Fail,
        image_registry: None,
        max_running: 500,
        api_share: 0.8,
        function_prefix: "skls".to_owned(),
        endpoint_url: None,
        docker_api: DockerApi::Compatible,
        listen: vec![Listen::Unix("/var/run/sockerless-backend.sock".into())],
        tls: None,
        allowed_hosts: vec![],
        database: "/var/lib/sockerless/lambda.db".into(),
        metrics_listen: None,
        log_level: "info".to_owned(),
        log_format: LogFormat::Text,
        resync_interval: Duration::from_secs(600),
        gc_interval: Duration::from_secs(300),
        gc_grace: Duration::from_secs(900),
        drain_timeout: Duration::from_secs(30),
        sandbox: false,
        sandbox_images: Vec::new(),
        adopt: false,
    }
}

#[test]
fn region_and_role_are_enough() {
    assert_eq!(Case::new().config(), defaults());
}

#[test]
fn the_example_file_has_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/config.example.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let case = Case::bare().yaml(&text);
    let role = "arn:aws:iam::123456789012:role/sockerless-execution";
    assert_eq!(case.config(), Config { role_arn: role.to_owned(), ..defaults() });
    for key in KEYS {
        assert!(text.contains(&format!("\n  {}:", key.name())), "{} is missing in the example", key.name());
    }
}

#[test]
fn every_key_can_be_set_in_yaml() {
    let config = Case::bare()
        .yaml(&format!(
            "lambda:\n  region: us-gov-west-1\n  role_arn: {ROLE}\n  log_group: /x\n  claims_log_group: /y\n  log_retention_days: 14\n  \
             memory_size: 2048\n  timeout: 60\n  subnet_ids: [subnet-1a, subnet-2b]\n  security_group_ids:\n    - sg-1\n  \
             architecture: arm64\n  ephemeral_storage: 10240\n  invocation_type: Event\n  event_age: 21600\n  \
             protocol: native\n  unknown_outcome: rerun\n  image_registry: 123456789012.dkr.ecr.eu-west-1.amazonaws.com\n  \
             max_running: 1\n  api_share: 1\n  function_prefix: '123'\n  endpoint_url: http://127.0.0.1:4566\n  \
             docker_api: strict\n  listen: ['tcp://localhost:2375', 'unix:///run/x.sock']\n  \
             tlscert: /c.pem\n  tlskey: /k.pem\n  tlsverify: true\n  tlscacert: /ca.pem\n  insecure_tcp: false\n  allowed_hosts: [docker.internal, build-1]\n  database: /tmp/x.db\n  \
             metrics_listen: '[::1]:9464'\n  log_level: warn,sockerless_lambda=debug\n  log_format: json\n  \
             resync_interval: 90s\n  gc_interval: 45\n  gc_grace: 1h\n  drain_timeout: 2m\n"
        ))
        .config();
    let expected = Config {
        region: "us-gov-west-1".to_owned(),
        role_arn: ROLE.to_owned(),
        log_group: "/x".to_owned(),
        claims_log_group: "/y".to_owned(),
        log_retention_days: Some(14),
        memory_size: 2048,
        timeout: 60,
        subnet_ids: vec!["subnet-1a".to_owned(), "subnet-2b".to_owned()],
        security_group_ids: vec!["sg-1".to_owned()],
        architecture: Architecture::Arm64,
        ephemeral_storage: 10_240,
        invocation_type: InvocationKind::Event,
        event_age: 21_600,
        protocol: Protocol::Native,
        unknown_outcome: UnknownOutcome::Rerun,
        image_registry: Some("123456789012.dkr.ecr.eu-west-1.amazonaws.com".to_owned()),
        max_running: 1,
        api_share: 1.0,
        function_prefix: "123".to_owned(),
        endpoint_url: Some("http://127.0.0.1:4566".to_owned()),
        docker_api: DockerApi::Strict,
        listen: vec![Listen::Tcp("127.0.0.1:2375".parse().unwrap()), Listen::Unix("/run/x.sock".into())],
        tls: Some(Tls {
            certificate: "/c.pem".into(),
            key: "/k.pem".into(),
            client_authorities: Some("/ca.pem".into()),
        }),
        allowed_hosts: vec!["docker.internal".to_owned(), "build-1".to_owned()],
        database: "/tmp/x.db".into(),
        metrics_listen: Some("[::1]:9464".parse().unwrap()),
        log_level: "warn,sockerless_lambda=debug".to_owned(),
        log_format: LogFormat::Json,
        resync_interval: Duration::from_secs(90),
        gc_interval: Duration::from_secs(45),
        gc_grace: Duration::from_secs(3600),
        drain_timeout: Duration::from_secs(120),
        sandbox: false,
        sandbox_images: Vec::new(),
        adopt: false,
    };
    assert_eq!(config, expected);
}

#[test]
fn each_source_counts_for_more_than_the_one_before() {
    let case = Case::new();
    assert_eq!((case.config().timeout, case.source_of("timeout").as_str()), (900, "the default"));
    let case = case.yaml("lambda:\n  timeout: 1\n");
    assert_eq!((case.config().timeout, case.source_of("timeout")), (1, format!("the file {}", case.path().display())));
    let case = case.var("SOCKERLESS_LAMBDA_TIMEOUT", "2");
    let variable = "the environment variable SOCKERLESS_LAMBDA_TIMEOUT";
    assert_eq!((case.config().timeout, case.source_of("timeout").as_str()), (2, variable));
    let case = case.flag("timeout", &["3"]);
    assert_eq!((case.config().timeout, case.source_of("timeout").as_str()), (3, "the flag --timeout"));
}

#[test]
fn the_region_is_also_found_in_the_variables_of_aws() {
    let case = Case::bare().var("SOCKERLESS_LAMBDA_ROLE_ARN", ROLE).var("AWS_DEFAULT_REGION", "eu-north-1");
    assert_eq!(case.config().region, "eu-north-1");
    let case = case.var("AWS_REGION", "eu-south-1");
    assert_eq!(case.config().region, "eu-south-1");
    assert_eq!(case.source_of("region"), "the environment variable AWS_REGION");
    let case = case.var("SOCKERLESS_LAMBDA_REGION", "eu-central-1");
    assert_eq!(case.config().region, "eu-central-1");
    assert_eq!(case.var("AWS_REGION", "").config().region, "eu-central-1");
}

#[test]
fn lists_have_commas_and_flags_can_be_repeated() {
    let case = Case::new()
        .var("SOCKERLESS_LAMBDA_SUBNET_IDS", "subnet-1, subnet-2,")
        .var("SOCKERLESS_LAMBDA_SECURITY_GROUP_IDS", "sg-1")
        .flag("listen", &["tcp://127.0.0.1:0", "unix:///a,tcp://[::1]:1"]);
    let config = case.config();
    assert_eq!(config.subnet_ids, ["subnet-1", "subnet-2"]);
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["tcp://127.0.0.1:0", "unix:///a", "tcp://[::1]:1"]);
}

#[test]
fn an_empty_variable_empties_what_may_be_empty() {
    let case = Case::new().yaml("lambda:\n  metrics_listen: 127.0.0.1:1\n").var("SOCKERLESS_LAMBDA_METRICS_LISTEN", "");
    assert_eq!(case.config().metrics_listen, None);
    let problems = Case::new().var("SOCKERLESS_LAMBDA_LOG_GROUP", "").problems();
    assert_eq!(problems[0].wrong, "it must not be empty");
}

#[test]
fn a_file_may_be_empty() {
    for text in ["", "lambda:\n", "lambda: {}\n", "# nothing\n"] {
        assert_eq!(Case::new().yaml(text).config(), defaults(), "{text:?}");
    }
}

/// Whichever of the two names was changed.
#[test]
fn claims_log_group_is_never_the_log_group_of_functions() {
    let case = Case::new().yaml("lambda:\n  log_group: /sockerless/lambda-claims\n");
    let problems = case.problems();
    assert_eq!(problems[0].key, "claims_log_group");
    assert!(problems[0].wrong.contains("functions write to /sockerless/lambda-claims"), "{}", problems[0].wrong);
    let moved = Case::new().yaml("lambda:\n  log_group: /sockerless/lambda-claims\n  claims_log_group: /c\n");
    assert_eq!(moved.config().claims_log_group, "/c");
}

#[test]
fn text_that_looks_like_a_number_stays_text_outside_yaml() {
    assert_eq!(Case::new().var("SOCKERLESS_LAMBDA_FUNCTION_PREFIX", "007").config().function_prefix, "007");
    assert_eq!(Case::new().flag("function_prefix", &["true"]).config().function_prefix, "true");
}

#[test]
fn a_value_that_is_not_allowed_is_told_with_key_source_and_range() {
    let table: &[(&'static str, &[&str])] = &[
        ("region", &["Europe", "eu-west", "eu_west_1", ""]),
        ("role_arn", &["role", "arn:aws:iam::12:role/x", "arn:aws:iam::123456789012:user/x", ""]),
        ("log_group", &["", "a b", "ü"]),
        ("claims_log_group", &["", "a b", "ü", "/sockerless/lambda", "/aws/lambda/x"]),
        ("log_retention_days", &["2", "-1", "x", "1.5"]),
        ("memory_size", &["127", "10241", "1.5", "1GB", "-1", "99999999999999999999", ""]),
        ("timeout", &["0", "901", "15m"]),
        ("subnet_ids", &["vpc-1", "subnet-", "subnet-A"]),
        ("security_group_ids", &["sg-1,sg-2,sg-3,sg-4,sg-5,sg-6", "group"]),
        ("architecture", &["amd64", "X86_64", ""]),
        ("ephemeral_storage", &["511", "10241"]),
        ("invocation_type", &["event", "DryRun"]),
        ("event_age", &["59", "21601"]),
        ("protocol", &["raw"]),
        ("unknown_outcome", &["retry"]),
        ("image_registry", &["https://x", "a b"]),
        ("max_running", &["0", "10001"]),
        ("api_share", &["0", "1.01", "-0.5", "NaN", "inf", "half"]),
        ("function_prefix", &["", "a.b", "abcdefghijklmnopq"]),
        ("endpoint_url", &["ftp://x", "127.0.0.1:1", "http://", "http://x/?y=1"]),
        ("docker_api", &["loose"]),
        (
            "listen",
            &[
                "",
                "unix://relative",
                "tcp://:2375",
                "tcp://example.com:1",
                "/run/x.sock",
                "tcp://1.2.3.4",
                "unix:///a,unix:///a",
            ],
        ),
        ("tlscert", &["/"]),
        ("tlskey", &["/tmp/"]),
        ("tlsverify", &["yes", "1", ""]),
        ("tlscacert", &["/"]),
        ("insecure_tcp", &["on"]),
        ("allowed_hosts", &["*", "a:2375", "http://a", "a b", "-a", "[::1]", "a."]),
        ("database", &["", "/", "/tmp/"]),
        ("metrics_listen", &["9464", "x:1"]),
        ("log_level", &["inof", "", "info,verbose", "sockerless_lambda=loud"]),
        ("log_format", &["yaml"]),
        ("resync_interval", &["0", "25h", "10 minutes", "m", "-5s"]),
        ("gc_interval", &["0s", "1w"]),
        ("gc_grace", &["8d", ""]),
        ("drain_timeout", &["16m", "1.5m"]),
    ];
    assert_eq!(
        table.iter().map(|row| row.0).collect::<Vec<_>>(),
        KEYS.iter().map(|key| key.name()).collect::<Vec<_>>()
    );
    for (key, values) in table {
        let setting = KEYS.iter().find(|setting| setting.name() == *key).unwrap();
        for value in *values {
            let problems = Case::new().flag(key, &[value]).problems();
            let problem = problems.iter().find(|problem| problem.key == *key);
            let problem = problem.unwrap_or_else(|| panic!("{key} = {value:?}: {problems:?}"));
            assert_eq!(problem.source, Some(format!("the flag --{}", setting.flag())), "{value:?}");
            assert!(problem.to_string().contains(&format!("; allowed: {}", problem.allowed)), "{problem}");
            assert!(problem.allowed == setting.allowed() && !problem.wrong.is_empty(), "{key} = {value:?}: {problem}");
        }
    }
}

#[test]
fn an_error_reads_like_a_sentence() {
    let case = Case::new().var("SOCKERLESS_LAMBDA_MEMORY_SIZE", "64").yaml("lambda:\n  timeout: 901\n");
    let error = load(&case.sources).unwrap_err().to_string();
    let expected = format!(
        "the configuration cannot be used:\n  \
         memory_size: 64 is out of range (from the environment variable SOCKERLESS_LAMBDA_MEMORY_SIZE); allowed: 128 to 10240 MB\n  \
         timeout: 901 is out of range (from the file {}); allowed: 1 to 900 seconds",
        case.path().display()
    );
    assert_eq!(error, expected);
}

#[test]
fn wrong_types_in_yaml_are_told() {
    let table = [
        ("memory_size: '1024'", "\"1024\" is not a whole number"),
        ("memory_size: [1]", "a list is not a whole number"),
        ("subnet_ids: subnet-1", "\"subnet-1\" is not a list"),
        ("log_group: 5", "5 is not text (put it in quotes)"),
        ("log_group: true", "true is not text (put it in quotes)"),
        ("gc_grace: {a: 1}", "a map is not a length of time"),
        ("listen: unix:///x", "\"unix:///x\" is not a list"),
    ];
    for (line, wrong) in table {
        let case = Case::new().yaml(&format!("lambda:\n  {line}\n"));
        let problems = case.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].wrong, wrong);
        assert_eq!(problems[0].source, Some(format!("the file {}", case.path().display())));
    }
}

#[test]
fn unknown_keys_stop_the_start() {
    let case = Case::new().yaml("lambda:\n  timeuot: 5\nlamda:\n  timeout: 5\n").var("SOCKERLESS_LAMBDA_NOPE", "1");
    let problems = case.problems();
    let named: Vec<(&str, &str)> =
        problems.iter().map(|problem| (problem.key.as_str(), problem.source.as_deref().unwrap())).collect();
    let file = format!("the file {}", case.path().display());
    let expected = [("lambda.timeuot", &*file), ("lamda", &*file), ("SOCKERLESS_LAMBDA_NOPE", "the environment")];
    assert_eq!(named, expected);
}

#[test]
fn what_is_required_is_asked_for_all_at_once() {
    let problems = Case::bare().problems();
    let named: Vec<(&str, &str)> =
        problems.iter().map(|problem| (problem.key.as_str(), problem.wrong.as_str())).collect();
    assert_eq!(named, [("region", "it is required"), ("role_arn", "it is required")]);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let mut case = Case::new().yaml("lambda:\n  timeout: [1\n");
    assert!(matches!(load(&case.sources), Err(ConfigError::File { .. })), "broken YAML");
    case = case.yaml("lambda: 5\n");
    assert!(matches!(load(&case.sources), Err(ConfigError::File { .. })), "no map");
    case = case.yaml("lambda:\n  timeout: 1\n  timeout: 2\n");
    assert!(matches!(load(&case.sources), Err(ConfigError::File { .. })), "a key twice");
    case.sources.file = Some("/does/not/exist.yaml".into());
    let error = load(&case.sources).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the configuration file /does/not/exist.yaml: "), "{error}");
}

#[test]
fn the_system_file_is_read_if_it_exists_and_the_variable_names_another() {
    let mut case = Case::new();
    case.sources.system_file = case.directory.path().join("system.yaml");
    std::fs::write(&case.sources.system_file, "lambda:\n  timeout: 7\n").unwrap();
    assert_eq!(case.config().timeout, 7);
    let other = case.directory.path().join("other.yaml");
    std::fs::write(&other, "lambda:\n  timeout: 8\n").unwrap();
    let mut case = case.var("SOCKERLESS_LAMBDA_CONFIG", other.to_str().unwrap());
    assert_eq!(case.config().timeout, 8);
    case.sources.place = Place::Sandbox;
    assert_eq!(case.config().timeout, 8, "named by the user");
    assert_eq!(case.var("SOCKERLESS_LAMBDA_CONFIG", "").config().timeout, 900, "the system's file is not for trials");
}

#[test]
fn subnets_and_security_groups_go_together() {
    let problems = Case::new().flag("subnet_ids", &["subnet-1"]).problems();
    assert_eq!(problems[0].key, "security_group_ids");
    assert_eq!(problems[0].wrong, "it is empty, and subnet_ids is given by the flag --subnet-ids");
    assert_eq!(problems[0].allowed, "both or none");
    Case::new().flag("subnet_ids", &["subnet-1"]).flag("security_group_ids", &["sg-1"]).config();
}

#[test]
fn a_socket_path_must_fit() {
    let fits = format!("unix:///{}", "a".repeat(106));
    Case::new().flag("listen", &[&fits]).config();
    let problems = Case::new().flag("listen", &[&format!("{fits}a")]).problems();
    assert!(problems[0].wrong.ends_with("holds a path of 108 bytes"), "{}", problems[0].wrong);
    let long = format!("/{}", "s".repeat(100));
    let problems = Case::bare().var("XDG_STATE_HOME", &long).place(Place::Sandbox).problems();
    assert_eq!(problems[0].source.as_deref(), Some("the default of this user"));
}

#[test]
fn the_sandbox_needs_nothing() {
    let config = Case::bare().place(Place::Sandbox).config();
    let expected = Config {
        region: "us-east-1".to_owned(),
        role_arn: "arn:aws:iam::000000000000:role/sandbox".to_owned(),
        database: "/state/sockerless-lambda/lambda.db".into(),
        listen: vec![Listen::Unix("/state/sockerless-lambda/docker.sock".into())],
        tls: None,
        sandbox: true,
        ..defaults()
    };
    assert_eq!(config, expected);
    let case = Case::bare().place(Place::Sandbox).flag("endpoint_url", &["http://user:secret@x"]);
    assert_eq!(case.problems()[0].wrong, "--sandbox brings an endpoint of its own");
}

#[test]
fn a_user_has_a_place_of_its_own_apart_from_the_sandbox() {
    let config = Case::new().place(Place::User).config();
    assert_eq!(config.database, Path::new("/state/sockerless-lambda/aws/lambda.db"));
    assert_eq!(config.listen, [Listen::Unix("/state/sockerless-lambda/aws/docker.sock".into())]);
    let config = Case::bare().var("XDG_STATE_HOME", "relative").var("HOME", "/home/me").place(Place::Sandbox).config();
    assert_eq!(config.database, Path::new("/home/me/.local/state/sockerless-lambda/lambda.db"));
    let case = Case::bare().var("XDG_STATE_HOME", "").var("HOME", "").place(Place::Sandbox);
    assert!(matches!(load(&case.sources), Err(ConfigError::NoStateDirectory)));
}

#[test]
fn the_effective_configuration_is_yaml_that_gives_the_same_again() {
    let case = Case::new()
        .flag("listen", &["tcp://127.0.0.1:1", "unix:///a b"])
        .flag("function_prefix", &["123"])
        .flag("log_retention_days", &["3"])
        .flag("api_share", &["0.25"]);
    let Loaded { config, effective } = case.loaded();
    let text = effective_yaml(&effective);
    assert!(text.contains("  timeout: 900 # the default\n"), "{text}");
    assert!(text.contains("  function_prefix: \"123\" # the flag --function-prefix\n"), "{text}");
    assert!(text.contains("  log_retention_days: 3 # the flag --log-retention-days\n"), "{text}");
    assert!(text.contains("  image_registry: # the default\n"), "{text}");
    assert_eq!(Case::bare().yaml(&text).config(), config);
}

#[test]
fn passwords_are_never_printed() {
    let case = Case::new().flag("endpoint_url", &["https://user:se/cr@et@vpce.example.com:443/x"]);
    for text in [effective_yaml(
        &Case::new().flag("endpoint_url", &["https://user:secret@vpce.example.com"]).loaded().effective,
    )]
    .into_iter()
    .chain(load(&case.sources).err().map(|error| error.to_string()))
    .chain([Case::new().flag("endpoint_url", &["ftp://user:secret@x"]).problems()[0].to_string()])
    {
        assert!(!text.contains("secret") && !text.contains("se/cr@et"), "{text}");
    }
}

#[test]
fn tls_is_complete_or_not_there_and_open_doors_are_asked_for() {
    let case =
        |flags: &[(&'static str, &str)]| flags.iter().fold(Case::new(), |case, (key, value)| case.flag(key, &[value]));
    let (cert, key, ca) = (("tlscert", "/c.pem"), ("tlskey", "/k.pem"), ("tlscacert", "/ca.pem"));
    let (verify, open) = (("tlsverify", "true"), ("listen", "tcp://0.0.0.0:2376"));
    for (flags, wrong) in [
        (vec![cert], "tlskey"),
        (vec![key], "tlscert"),
        (vec![cert, key, verify], "tlscacert"),
        (vec![cert, key, ca], "tlsverify"),
        (vec![verify, ca], "tlscert"),
        (vec![open], "insecure_tcp"),
        (vec![open, cert, key], "insecure_tcp"),
    ] {
        let told = case(&flags).problems().iter().map(ToString::to_string).collect::<String>();
        assert!(told.contains(wrong), "{flags:?}: {told}");
    }
    let tls = case(&[open, cert, key, ca, verify]).config().tls.unwrap();
    assert_eq!(tls.client_authorities.as_deref(), Some(Path::new("/ca.pem")));
    assert_eq!(case(&[open, ("insecure_tcp", "true")]).config().tls, None);
    assert_eq!(case(&[("listen", "tcp://127.0.0.1:2375")]).config().tls, None, "loopback is this machine");
}

#[test]
fn the_readme_holds_the_table_of_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let table = readme
        .split_once("<!-- config table -->")
        .and_then(|(_, rest)| rest.split_once("<!-- /config table -->"))
        .map(|(table, _)| table.trim());
    let expected = markdown_table();
    assert_eq!(table, Some(expected.trim()), "put the output of --print-config-table between the markers");
}
