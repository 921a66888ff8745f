//! The table of keys.

use std::time::Duration;

use figment::value::Value;

use super::rules::{
    Choice, File, Filter, Form, List, ListenOn, OneOfOrNone, Optional, Rule, Shape, Share, Socket, Span, Switch, Url,
    Whole,
};
use super::{DockerApi, LogFormat};
use crate::state::model::{Architecture, InvocationKind, Protocol, UnknownOutcome};

/// Begins the name of every environment variable of ours.
pub(super) const ENVIRONMENT_PREFIX: &str = "SOCKERLESS_LAMBDA_";

/// A key with its rule.
pub(super) struct Key<R> {
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
    pub(super) rule: R,
}

/// A key of the configuration, whatever its type.
pub trait Setting: Sync {
    /// Its name in YAML.
    fn name(&self) -> &'static str;
    /// Its default, written as in an environment variable; empty: none.
    fn default_text(&self) -> &'static str;
    /// What it means.
    fn meaning(&self) -> &'static str;
    /// What is allowed.
    fn allowed(&self) -> String;
    /// How text becomes its value.
    fn shape(&self) -> Shape;
    /// What is wrong with this value.
    fn check(&self, value: &Value) -> Result<(), String>;

    /// Its flag, without the dashes.
    fn flag(&self) -> String {
        self.name().replace('_', "-")
    }

    /// Its environment variable.
    fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.name().to_uppercase())
    }
}

impl<R: Rule> Setting for Key<R> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn default_text(&self) -> &'static str {
        self.default
    }
    fn meaning(&self) -> &'static str {
        self.meaning
    }
    fn allowed(&self) -> String {
        self.rule.allowed()
    }
    fn shape(&self) -> Shape {
        self.rule.shape()
    }
    fn check(&self, value: &Value) -> Result<(), String> {
        self.rule.read(value).map(|_| ())
    }
}

macro_rules! keys {
    ($($constant:ident: $rule:ty, $name:literal, $default:literal, $meaning:literal, $value:expr;)*) => {
        $(pub(super) static $constant: Key<$rule> =
            Key { name: $name, default: $default, meaning: $meaning, rule: $value };)*
        /// Every key, in the order in which it is documented.
        pub static KEYS: &[&dyn Setting] = &[$(&$constant),*];
    };
}

/// The values that PutRetentionPolicy takes.
const RETENTION_DAYS: &[u32] =
    &[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];
const MAX_LISTENERS: usize = 16;
const MINUTE: u64 = 60;
const DAY: u64 = 86_400;

const fn span(min_secs: u64, max_secs: u64) -> Span {
    Span { min: Duration::from_secs(min_secs), max: Duration::from_secs(max_secs) }
}

keys! {
    REGION: Form, "region", "", "AWS region. Also read from AWS_REGION, then AWS_DEFAULT_REGION.",
        Form { pattern: "[a-z]{2,8}(-[a-z]{2,16}){1,3}-[0-9]{1,2}", words: "a region such as eu-west-1" };
    ROLE_ARN: Form, "role_arn", "", "Execution role of the functions.",
        Form {
            pattern: "arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,576}",
            words: "the ARN of an IAM role, arn:aws:iam::ACCOUNT:role/NAME",
        };
    LOG_GROUP: Form, "log_group", "/sockerless/lambda", "CloudWatch log group of all functions.",
        Form { pattern: "[A-Za-z0-9_./#-]{1,512}", words: "1 to 512 of letters, digits and _ . / # -" };
    CLAIMS_LOG_GROUP: Form, "claims_log_group", "/sockerless/lambda-claims",
        "CloudWatch log group with the daemons' claims on their databases; functions' roles must not be allowed to write to it.",
        Form { pattern: "[A-Za-z0-9_./#-]{1,512}", words: "1 to 512 of letters, digits and _ . / # -; not log_group, not below /aws/lambda/" };
    LOG_RETENTION_DAYS: OneOfOrNone, "log_retention_days", "", "Days that CloudWatch keeps log events; empty: for ever.",
        OneOfOrNone(RETENTION_DAYS);
    MEMORY_SIZE: Whole, "memory_size", "1024", "Memory of a function, in MB.",
        Whole { min: 128, max: 10_240, unit: "MB" };
    TIMEOUT: Whole, "timeout", "900", "How long one run may take, in seconds.",
        Whole { min: 1, max: 900, unit: "seconds" };
    SUBNET_IDS: List, "subnet_ids", "", "VPC subnets of the functions; together with security_group_ids.",
        List { max: 16, of: Form { pattern: "subnet-[0-9a-z]{1,32}", words: "subnet-…" } };
    SECURITY_GROUP_IDS: List, "security_group_ids", "", "VPC security groups of the functions; together with subnet_ids.",
        List { max: 5, of: Form { pattern: "sg-[0-9a-zA-Z]{1,32}", words: "sg-…" } };
    ARCHITECTURE: Choice<Architecture>, "architecture", "x86_64", "Processor architecture of the functions.",
        Choice(&[("x86_64", Architecture::X86_64), ("arm64", Architecture::Arm64)]);
    EPHEMERAL_STORAGE: Whole, "ephemeral_storage", "512", "Size of /tmp, in MB.",
        Whole { min: 512, max: 10_240, unit: "MB" };
    INVOCATION_TYPE: Choice<InvocationKind>, "invocation_type", "RequestResponse",
        "Whether a run's end comes as the answer of its invocation, or Lambda queues the run and the logs tell.",
        Choice(&[("RequestResponse", InvocationKind::RequestResponse), ("Event", InvocationKind::Event)]);
    EVENT_AGE: Whole, "event_age", "300", "How long Lambda may keep a queued run before it begins, in seconds.",
        Whole { min: 60, max: 21_600, unit: "seconds" };
    PROTOCOL: Choice<Protocol>, "protocol", "bootstrap",
        "Who speaks Lambda's Runtime API inside images: the bootstrap of this project, or the image itself.",
        Choice(&[("native", Protocol::Native), ("bootstrap", Protocol::Bootstrap)]);
    UNKNOWN_OUTCOME: Choice<UnknownOutcome>, "unknown_outcome", "fail",
        "What follows when nobody can tell how a run ended: exit code 125 (at most once), or one more run (at least once).",
        Choice(&[("fail", UnknownOutcome::Fail), ("rerun", UnknownOutcome::Rerun)]);
    IMAGE_REGISTRY: Optional<Form>, "image_registry", "", "Completes image names without a registry.",
        Optional(Form {
            pattern: "[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[a-z0-9._/-]{1,200})?",
            words: "a registry such as 123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        });
    MAX_RUNNING: Whole, "max_running", "500", "Runs at once, at most.", Whole { min: 1, max: 10_000, unit: "" };
    API_SHARE: Share, "api_share", "0.8", "Our part of the account's 15 control-plane requests a second.", Share;
    FUNCTION_PREFIX: Form, "function_prefix", "skls", "Beginning of the name of every function.",
        Form { pattern: "[A-Za-z0-9_-]{1,16}", words: "1 to 16 of letters, digits, - and _" };
    ENDPOINT_URL: Optional<Url>, "endpoint_url", "", "Where AWS's API is, if not at its public address.", Optional(Url);
    DOCKER_API: Choice<DockerApi>, "docker_api", "compatible",
        "Whether Docker's paths answer as Docker's clients need, or exactly as the internal API.",
        Choice(&[("compatible", DockerApi::Compatible), ("strict", DockerApi::Strict)]);
    LISTEN: ListenOn, "listen", "unix:///var/run/sockerless-backend.sock", "Where the API listens; may be given several times.",
        ListenOn { max: MAX_LISTENERS };
    TLSCERT: Optional<File>, "tlscert", "", "Certificate chain (PEM) of the TCP listeners, which then speak TLS; together with tlskey.",
        Optional(File);
    TLSKEY: Optional<File>, "tlskey", "", "Private key (PEM) of tlscert.", Optional(File);
    TLSVERIFY: Switch, "tlsverify", "false", "TCP clients must show a certificate that tlscacert has signed.", Switch;
    TLSCACERT: Optional<File>, "tlscacert", "", "The authorities (PEM) of clients' certificates; together with tlsverify.",
        Optional(File);
    INSECURE_TCP: Switch, "insecure_tcp", "false",
        "Listen on TCP beyond loopback although clients are not verified: whoever reaches it can run anything.", Switch;
    ALLOWED_HOSTS: List, "allowed_hosts", "",
        "Names, beside IP addresses and localhost, under which the TCP listeners on loopback, and those without TLS on 0.0.0.0 or [::], are reached: other names are refused.",
        List {
            max: 16,
            of: Form {
                pattern: "(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]{0,251}[A-Za-z0-9])",
                words: "a host name without a port",
            },
        };
    DATABASE: File, "database", "/var/lib/sockerless/lambda.db", "The SQLite file, made if it is missing.", File;
    METRICS_LISTEN: Optional<Socket>, "metrics_listen", "", "Where GET /metrics listens.", Optional(Socket);
    LOG_LEVEL: Filter, "log_level", "info", "What is logged.", Filter;
    LOG_FORMAT: Choice<LogFormat>, "log_format", "text", "How log lines are written to stderr.",
        Choice(&[("json", LogFormat::Json), ("text", LogFormat::Text)]);
    RESYNC_INTERVAL: Span, "resync_interval", "10m", "How often every container is looked at again.",
        span(1, DAY);
    GC_INTERVAL: Span, "gc_interval", "5m", "How often AWS is swept for changed, vanished and orphaned functions.",
        span(1, DAY);
    GC_GRACE: Span, "gc_grace", "15m", "How long an orphan must have been seen before it is deleted.",
        span(0, 7 * DAY);
    DRAIN_TIMEOUT: Span, "drain_timeout", "30s", "How long a shutdown waits for requests and calls in flight.",
        span(0, 15 * MINUTE);
}
