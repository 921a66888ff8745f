//! From the layers to one [`Config`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::providers::Format as _;
use figment::value::{Empty, Tag, Value};
use figment::{Figment, Provider as _};
use serde_saphyr::figment::Yaml;

use super::keys::{self, KEYS, Key, Setting};
use super::rules::Rule;
use super::sources::{FILE_VARIABLE, Layer};
use super::{Config, ConfigError, Environment, Flags, Listen, Problem, Tls, print, state_directory};

/// The configuration file that is read if no other is named.
pub const SYSTEM_FILE: &str = "/etc/sockerless/lambda.yaml";
/// Lambda's own log groups begin like this; AWS's managed policies for execution roles let functions write there.
const DEFAULT_FUNCTION_GROUPS: &str = "/aws/lambda/";
/// Our part of the configuration file.
const SECTION: &str = "lambda";

/// Whose daemon this is: the defaults depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The machine's: `/var/lib`, `/var/run`.
    System,
    /// This user's, for `run` on AWS: a part of the state directory.
    User,
    /// This user's, on the embedded sandbox: the state directory. The system's file is not read, so that a trial never
    /// opens the machine's database.
    Sandbox,
}

/// Everything that a configuration is made from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Read if it exists and no other file is named; normally [`SYSTEM_FILE`].
    pub system_file: PathBuf,
    /// The environment.
    pub environment: Environment,
    /// The flags.
    pub flags: Flags,
    /// Which defaults.
    pub place: Place,
    /// `--sandbox-images`, absolute.
    pub sandbox_images: Vec<PathBuf>,
    /// `--adopt`.
    pub adopt: bool,
}

/// A key's value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The key.
    pub key: &'static str,
    /// The value as YAML, without passwords.
    pub value: String,
    /// Where it came from.
    pub source: String,
}

/// A configuration, and where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every key, in the order of [`KEYS`].
    pub effective: Vec<Effective>,
}

/// Reads, lays over each other and validates.
///
/// # Errors
///
/// All that is wrong with the first source that cannot be read, or with the values of all sources.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let mut figment = defaults(sources)?;
    if let Some(path) = file(sources) {
        figment = figment.merge(section(&path, &mut problems)?);
    }
    figment = with_environment(figment, &sources.environment, &mut problems);
    for key in KEYS {
        if let Some(texts) = sources.flags.get(key.name()) {
            figment = figment.merge(Layer::new(format!("the flag --{}", key.flag()), *key, texts));
        }
    }
    let mut reading = Reading { figment: &figment, problems };
    let config = read(&mut reading, sources);
    match config {
        Some(config) if reading.problems.is_empty() => {
            let effective = KEYS.iter().map(|key| reading.effective(*key)).collect();
            Ok(Loaded { config, effective })
        }
        _ => Err(ConfigError::Problems(reading.problems)),
    }
}

fn defaults(sources: &Sources) -> Result<Figment, ConfigError> {
    let figment = KEYS.iter().filter(|key| !key.default_text().is_empty()).fold(Figment::new(), |figment, key| {
        figment.merge(Layer::new("the default", *key, &[key.default_text().to_owned()]))
    });
    if sources.place == Place::System {
        return Ok(figment);
    }
    let given = |key: &dyn Setting| {
        sources.flags.contains_key(key.name()) || sources.environment.get(&key.variable()).is_some()
    };
    if given(&keys::DATABASE) && given(&keys::LISTEN) && sources.place == Place::User {
        return Ok(figment);
    }
    let directory = state_directory(&sources.environment)?;
    let directory = if sources.place == Place::User { directory.join("aws") } else { directory };
    let of_user = |figment: Figment, key: &dyn Setting, value: String| {
        figment.merge(Layer::new("the default of this user", key, &[value]))
    };
    let figment = of_user(figment, &keys::DATABASE, directory.join("lambda.db").display().to_string());
    let figment = of_user(figment, &keys::LISTEN, format!("unix://{}", directory.join("docker.sock").display()));
    if sources.place == Place::User {
        return Ok(figment);
    }
    let in_sandbox = |figment: Figment, key: &dyn Setting, value: &str| {
        figment.merge(Layer::new("the default of --sandbox", key, &[value.to_owned()]))
    };
    let figment = in_sandbox(figment, &keys::REGION, "us-east-1");
    Ok(in_sandbox(figment, &keys::ROLE_ARN, "arn:aws:iam::000000000000:role/sandbox"))
}

fn file(sources: &Sources) -> Option<PathBuf> {
    let named = || sources.environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let of_system = || {
        let readable = sources.place != Place::Sandbox && sources.system_file.exists();
        readable.then(|| sources.system_file.clone())
    };
    sources.file.clone().or_else(named).or_else(of_system)
}

/// Our section of the file; notes every key that means nothing.
fn section(path: &Path, problems: &mut Vec<Problem>) -> Result<Figment, ConfigError> {
    let yaml = Yaml::file_exact(path);
    let unreadable = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let sections = yaml.data().map_err(|error| unreadable(error.to_string()))?.into_values().flatten();
    let source = format!("the file {}", path.display());
    for (name, section) in sections {
        match section {
            Value::Dict(_, keys) if name == SECTION => {
                let unknown = keys.keys().filter(|key| !KEYS.iter().any(|known| known.name() == key.as_str()));
                problems.extend(unknown.map(|key| unknown_key(&format!("{SECTION}.{key}"), &source)));
            }
            Value::Empty(..) if name == SECTION => {}
            _ if name == SECTION => return Err(unreadable(format!("`{SECTION}` is no map"))),
            _ => problems.push(unknown_key(&name, &source)),
        }
    }
    Ok(Figment::from(yaml).focus(SECTION))
}

fn with_environment(mut figment: Figment, environment: &Environment, problems: &mut Vec<Problem>) -> Figment {
    for variable in ["AWS_DEFAULT_REGION", "AWS_REGION"] {
        if let Some(region) = environment.get(variable).filter(|region| !region.is_empty()) {
            figment = figment.merge(Layer::new(in_environment(variable), &keys::REGION, &[region.to_owned()]));
        }
    }
    for key in KEYS {
        if let Some(text) = environment.get(&key.variable()) {
            figment = figment.merge(Layer::new(in_environment(&key.variable()), *key, &[text.to_owned()]));
        }
    }
    problems.extend(environment.unknown().map(|name| unknown_key(name, "the environment")));
    figment
}

fn in_environment(variable: &str) -> String {
    format!("the environment variable {variable}")
}

fn unknown_key(key: &str, source: &str) -> Problem {
    Problem {
        key: key.to_owned(),
        source: Some(source.to_owned()),
        wrong: "there is no such key".to_owned(),
        allowed: "the keys that --help tells".to_owned(),
    }
}

/// Reads key after key and notes what is wrong.
struct Reading<'a> {
    figment: &'a Figment,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn value(&self, key: &dyn Setting) -> Option<Value> {
        self.figment.find_value(key.name()).ok()
    }

    fn source(&self, key: &dyn Setting) -> Option<String> {
        let metadata = self.figment.get_metadata(self.value(key)?.tag())?;
        Some(match metadata.source.as_ref().and_then(|source| source.file_path()) {
            Some(path) => format!("the file {}", path.display()),
            None => metadata.name.to_string(),
        })
    }

    fn effective(&self, key: &dyn Setting) -> Effective {
        Effective {
            key: key.name(),
            value: self.value(key).map_or_else(String::new, |value| print::yaml(key.name(), &value)),
            source: self.source(key).unwrap_or_else(|| "the default".to_owned()),
        }
    }

    fn read<R: Rule>(&mut self, key: &Key<R>) -> Option<R::Out> {
        let value = self.value(key);
        match key.rule.read(value.as_ref().unwrap_or(&Value::Empty(Tag::Default, Empty::None))) {
            Ok(read) => Some(read),
            Err(wrong) => {
                let wrong = if value.is_none() { "it is required".to_owned() } else { wrong };
                self.wrong(key, wrong, key.allowed());
                None
            }
        }
    }

    fn wrong(&mut self, key: &dyn Setting, wrong: String, allowed: String) {
        let problem = Problem { key: key.name().to_owned(), source: self.source(key), wrong, allowed };
        self.problems.push(problem);
    }
}

/// Every key is read before the first one that is wrong gives up, so that all problems are told at once.
fn read(from: &mut Reading<'_>, sources: &Sources) -> Option<Config> {
    let region = from.read(&keys::REGION);
    let role_arn = from.read(&keys::ROLE_ARN);
    let [log_group, claims_log_group] = [&keys::LOG_GROUP, &keys::CLAIMS_LOG_GROUP].map(|key| from.read(key));
    let log_retention_days = from.read(&keys::LOG_RETENTION_DAYS);
    let memory_size = from.read(&keys::MEMORY_SIZE);
    let timeout = from.read(&keys::TIMEOUT);
    let [subnet_ids, security_group_ids] = [&keys::SUBNET_IDS, &keys::SECURITY_GROUP_IDS].map(|key| from.read(key));
    let architecture = from.read(&keys::ARCHITECTURE);
    let ephemeral_storage = from.read(&keys::EPHEMERAL_STORAGE);
    let invocation_type = from.read(&keys::INVOCATION_TYPE);
    let event_age = from.read(&keys::EVENT_AGE);
    let protocol = from.read(&keys::PROTOCOL);
    let unknown_outcome = from.read(&keys::UNKNOWN_OUTCOME);
    let image_registry = from.read(&keys::IMAGE_REGISTRY);
    let max_running = from.read(&keys::MAX_RUNNING);
    let api_share = from.read(&keys::API_SHARE);
    let function_prefix = from.read(&keys::FUNCTION_PREFIX);
    let endpoint_url = from.read(&keys::ENDPOINT_URL);
    let docker_api = from.read(&keys::DOCKER_API);
    let doors = doors(from);
    let database = from.read(&keys::DATABASE);
    let log_level = from.read(&keys::LOG_LEVEL);
    let log_format = from.read(&keys::LOG_FORMAT);
    let resync_interval = from.read(&keys::RESYNC_INTERVAL);
    let gc_interval = from.read(&keys::GC_INTERVAL);
    let gc_grace = from.read(&keys::GC_GRACE);
    let drain_timeout = from.read(&keys::DRAIN_TIMEOUT);
    let doors = doors?;
    let config = Config {
        region: region?,
        role_arn: role_arn?,
        log_group: log_group?,
        claims_log_group: claims_log_group?,
        log_retention_days: log_retention_days?,
        memory_size: memory_size?,
        timeout: timeout?,
        subnet_ids: subnet_ids?,
        security_group_ids: security_group_ids?,
        architecture: architecture?,
        ephemeral_storage: ephemeral_storage?,
        invocation_type: invocation_type?,
        event_age: event_age?,
        protocol: protocol?,
        unknown_outcome: unknown_outcome?,
        image_registry: image_registry?,
        max_running: max_running?,
        api_share: api_share?,
        function_prefix: function_prefix?,
        endpoint_url: endpoint_url?,
        docker_api: docker_api?,
        listen: doors.listen,
        tls: doors.tls,
        allowed_hosts: doors.allowed_hosts,
        database: database?,
        metrics_listen: doors.metrics_listen,
        log_level: log_level?,
        log_format: log_format?,
        resync_interval: resync_interval?,
        gc_interval: gc_interval?,
        gc_grace: gc_grace?,
        drain_timeout: drain_timeout?,
        sandbox: sources.place == Place::Sandbox,
        sandbox_images: sources.sandbox_images.clone(),
        adopt: sources.adopt,
    };
    check_together(from, &config);
    check_open_doors(from, &config, doors.insecure_tcp);
    Some(config)
}

/// Where requests come in, and which of them.
struct Doors {
    listen: Vec<Listen>,
    tls: Option<Tls>,
    insecure_tcp: bool,
    allowed_hosts: Vec<String>,
    metrics_listen: Option<SocketAddr>,
}

fn doors(from: &mut Reading<'_>) -> Option<Doors> {
    let listen = from.read(&keys::LISTEN);
    let tls = tls(from);
    let insecure_tcp = from.read(&keys::INSECURE_TCP);
    let allowed_hosts = from.read(&keys::ALLOWED_HOSTS);
    let metrics_listen = from.read(&keys::METRICS_LISTEN);
    Some(Doors {
        listen: listen?,
        tls: tls?,
        insecure_tcp: insecure_tcp?,
        allowed_hosts: allowed_hosts?,
        metrics_listen: metrics_listen?,
    })
}

/// The files of TLS, which only make sense together. The outer `None`: one of the keys is wrong.
fn tls(from: &mut Reading<'_>) -> Option<Option<Tls>> {
    let certificate = from.read(&keys::TLSCERT);
    let key = from.read(&keys::TLSKEY);
    let verify = from.read(&keys::TLSVERIFY);
    let authorities = from.read(&keys::TLSCACERT);
    let (certificate, key, verify, authorities) = (certificate?, key?, verify?, authorities?);
    let mut needs = |is_wrong: bool, at: &dyn Setting, wrong: &str, allowed: &str| {
        if is_wrong {
            from.wrong(at, wrong.to_owned(), allowed.to_owned());
        }
    };
    needs(certificate.is_none() && key.is_some(), &keys::TLSCERT, "tlskey is given without it", "both or none");
    needs(certificate.is_some() && key.is_none(), &keys::TLSKEY, "tlscert is given without it", "both or none");
    needs(verify && certificate.is_none(), &keys::TLSCERT, "tlsverify is given without it", "with tlsverify");
    needs(verify && authorities.is_none(), &keys::TLSCACERT, "tlsverify is given without it", "with tlsverify");
    needs(!verify && authorities.is_some(), &keys::TLSVERIFY, "tlscacert is given without it", "true with tlscacert");
    let tls = |(certificate, key)| Tls { certificate, key, client_authorities: authorities };
    Some(certificate.zip(key).map(tls))
}

/// The API can run anything under the functions' role, so beyond this machine its clients are verified.
fn check_open_doors(from: &mut Reading<'_>, config: &Config, insecure_tcp: bool) {
    let verified = config.tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
    let open = |listen: &&Listen| matches!(listen, Listen::Tcp(address) if !address.ip().is_loopback());
    if let Some(listen) = config.listen.iter().find(open)
        && !verified
        && !insecure_tcp
    {
        let wrong = format!("whoever reaches {listen} could run anything under the functions' role");
        let allowed = "beyond loopback only with tlsverify, tlscacert, tlscert and tlskey, or with insecure_tcp";
        from.wrong(&keys::LISTEN, wrong, allowed.to_owned());
    }
}

/// The rules that concern more than one key.
fn check_together(from: &mut Reading<'_>, config: &Config) {
    if config.subnet_ids.is_empty() != config.security_group_ids.is_empty() {
        let (empty, other): (&dyn Setting, &dyn Setting) = if config.subnet_ids.is_empty() {
            (&keys::SUBNET_IDS, &keys::SECURITY_GROUP_IDS)
        } else {
            (&keys::SECURITY_GROUP_IDS, &keys::SUBNET_IDS)
        };
        let source = from.source(other).unwrap_or_default();
        from.wrong(empty, format!("it is empty, and {} is given by {source}", other.name()), "both or none".to_owned());
    }
    let claims = &config.claims_log_group;
    if *claims == config.log_group || claims.starts_with(DEFAULT_FUNCTION_GROUPS) {
        let wrong = format!("functions write to {claims}: they could take the database away");
        from.wrong(&keys::CLAIMS_LOG_GROUP, wrong, keys::CLAIMS_LOG_GROUP.allowed());
    }
    if config.sandbox && config.endpoint_url.is_some() {
        let wrong = "--sandbox brings an endpoint of its own".to_owned();
        from.wrong(&keys::ENDPOINT_URL, wrong, "empty with --sandbox".to_owned());
    }
    for listen in &config.listen {
        let twice = config.listen.iter().filter(|other| *other == listen).count() > 1;
        let free_port = matches!(listen, Listen::Tcp(address) if address.port() == 0);
        if twice && !free_port {
            from.wrong(&keys::LISTEN, format!("{listen} stands there twice"), keys::LISTEN.allowed());
            return;
        }
    }
}
