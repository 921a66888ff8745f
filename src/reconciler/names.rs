//! What a container's function is called, tagged and made of. PURE.

use std::collections::BTreeMap;

use sockerless_bootstrap::protocol::{Envelope, Order, VERSION};

use crate::aws::{FunctionShape, NewFunction};
use crate::state::FunctionSpec;
use crate::state::model::{Architecture, Container, ContainerConfig, ContainerId, FunctionSettings, Protocol};

/// The tag that makes a function ours: its value is the instance's id.
pub(crate) const TAG_INSTANCE: &str = "sockerless.instance";
/// The tag with the container's id.
pub(crate) const TAG_CONTAINER: &str = "sockerless.container";
/// The tag with the Unix time, in seconds, at which the container was created.
pub(crate) const TAG_CREATED: &str = "sockerless.created";
/// The tag that tells people who made the function.
pub(crate) const TAG_MANAGED_BY: &str = "sockerless.managed-by";

/// The tag with who speaks the Runtime API in the image: [`BOOTSTRAP`] or `native`. Who builds or runs the image has to
/// know it.
pub const TAG_PROTOCOL: &str = "sockerless.protocol";
/// The image needs the bootstrap in front.
pub const BOOTSTRAP: &str = "bootstrap";
/// The image has a runtime of its own.
const NATIVE: &str = "native";

/// Hexadecimal digits of the container's id in a function's name: 96 bits. The whole id would leave no room for a prefix
/// in Lambda's 64 characters.
const ID_DIGITS: usize = 24;

/// Who we are in AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Beginning of every function name.
    pub(crate) prefix: String,
    /// The instance's id.
    pub(crate) instance: String,
}

/// Whose function a name says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Not made by a daemon with our prefix.
    Stranger,
    /// Made by another instance.
    OtherInstance,
    /// Made by us, for the container whose id begins like this.
    Ours {
        /// [`ID_DIGITS`] digits.
        id_prefix: String,
    },
}

impl Identity {
    /// The name of a container's function. `incarnation` counts the functions that it had before.
    #[must_use]
    pub(crate) fn function_name(&self, id: &ContainerId, incarnation: u32) -> String {
        let mut digits = id.to_string();
        digits.truncate(ID_DIGITS);
        let base = format!("{}-{}-{digits}", self.prefix, self.instance);
        if incarnation == 0 { base } else { format!("{base}-{incarnation}") }
    }

    /// Whose function this is, going by its name alone.
    #[must_use]
    pub(crate) fn owner(&self, function_name: &str) -> Owner {
        let Some(rest) = function_name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('-')) else {
            return Owner::Stranger;
        };
        let mut parts = rest.split('-');
        let (instance, digits, incarnation) = (parts.next(), parts.next(), parts.next());
        let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match (instance, digits) {
            (Some(instance), Some(digits))
                if digits.len() == ID_DIGITS
                    && is_hex(digits)
                    && is_hex(instance)
                    && incarnation.is_none_or(is_incarnation)
                    && parts.next().is_none() =>
            {
                if instance == self.instance {
                    Owner::Ours { id_prefix: digits.to_owned() }
                } else {
                    Owner::OtherInstance
                }
            }
            _ => Owner::Stranger,
        }
    }

    /// Whether a function's tags say that it belongs to this instance and this container.
    #[must_use]
    pub(crate) fn owns(&self, tags: &BTreeMap<String, String>, id: &ContainerId) -> bool {
        tags.get(TAG_INSTANCE) == Some(&self.instance) && tags.get(TAG_CONTAINER) == Some(&id.to_string())
    }

    /// What CreateFunction is told for a container.
    #[must_use]
    pub(crate) fn new_function(&self, container: &Container) -> NewFunction {
        let protocol = match container.spec.config.function.protocol {
            Protocol::Bootstrap => BOOTSTRAP,
            Protocol::Native => NATIVE,
        };
        let tags = [
            (TAG_INSTANCE, self.instance.clone()),
            (TAG_CONTAINER, container.id.to_string()),
            (TAG_CREATED, container.created_at.as_secs().to_string()),
            (TAG_MANAGED_BY, env!("CARGO_PKG_NAME").to_owned()),
            (TAG_PROTOCOL, protocol.to_owned()),
        ];
        NewFunction {
            name: self.function_name(&container.id, container.status.incarnation),
            description: format!("Sockerless container {}", container.id),
            shape: shape(&container.spec.config),
            tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }
}

/// Whether [`Identity::function_name`] writes this number: without a sign, without zeros in front, and never 0.
fn is_incarnation(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|number| number > 0 && number.to_string() == text)
}

/// The function's settings that a container asks for. With the bootstrap, command and environment travel in each
/// invocation's envelope, where they are free of Lambda's limits; without, they are the function's own.
#[must_use]
pub(crate) fn shape(config: &ContainerConfig) -> FunctionShape {
    let shape = plain_shape(&config.image_uri, &config.function);
    match config.function.protocol {
        Protocol::Bootstrap => shape,
        Protocol::Native => FunctionShape {
            entrypoint: config.entrypoint.clone().unwrap_or_default(),
            command: config.cmd.clone().unwrap_or_default(),
            working_dir: config.working_dir.clone(),
            environment: environment(&config.env),
            ..shape
        },
    }
}

/// As [`shape`], of what a sweep reads of a container.
#[must_use]
pub(crate) fn shape_of(spec: &FunctionSpec) -> FunctionShape {
    let shape = plain_shape(&spec.image_uri, &spec.function);
    match spec.function.protocol {
        Protocol::Bootstrap => shape,
        Protocol::Native => FunctionShape {
            entrypoint: spec.entrypoint.clone().unwrap_or_default(),
            command: spec.cmd.clone().unwrap_or_default(),
            working_dir: spec.working_dir.clone(),
            environment: environment(spec.env.as_deref().unwrap_or_default()),
            ..shape
        },
    }
}

/// A function whose command and environment are not its own.
fn plain_shape(image_uri: &str, settings: &FunctionSettings) -> FunctionShape {
    let sorted = |ids: &[String]| {
        let mut ids = ids.to_vec();
        ids.sort();
        ids
    };
    FunctionShape {
        image_uri: Some(image_uri.to_owned()),
        role_arn: settings.role_arn.clone(),
        memory_mb: settings.memory_mb,
        timeout_s: settings.timeout_s,
        ephemeral_storage_mb: settings.ephemeral_storage_mb,
        architecture: match settings.architecture {
            Architecture::X86_64 => "x86_64".to_owned(),
            Architecture::Arm64 => "arm64".to_owned(),
        },
        entrypoint: Vec::new(),
        command: Vec::new(),
        working_dir: None,
        environment: BTreeMap::new(),
        subnet_ids: sorted(&settings.subnet_ids),
        security_group_ids: sorted(&settings.security_group_ids),
        log_group: settings.log_group.clone(),
    }
}

fn environment(env: &[String]) -> BTreeMap<String, String> {
    env.iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The settings in which a function differs from what is wanted, by AWS's field names. An image that AWS does not tell
/// is not compared.
#[must_use]
pub(crate) fn drift(wanted: &FunctionShape, seen: &FunctionShape) -> Vec<String> {
    let image_differs = seen.image_uri.is_some() && seen.image_uri != wanted.image_uri;
    let image_config_differs = (&wanted.entrypoint, &wanted.command, &wanted.working_dir)
        != (&seen.entrypoint, &seen.command, &seen.working_dir);
    let vpc_differs = (&wanted.subnet_ids, &wanted.security_group_ids) != (&seen.subnet_ids, &seen.security_group_ids);
    [
        (image_differs || wanted.architecture != seen.architecture, CODE_FIELD),
        (wanted.role_arn != seen.role_arn, "Role"),
        (wanted.memory_mb != seen.memory_mb, "MemorySize"),
        (wanted.timeout_s != seen.timeout_s, "Timeout"),
        (wanted.ephemeral_storage_mb != seen.ephemeral_storage_mb, "EphemeralStorage"),
        (image_config_differs, "ImageConfig"),
        (wanted.environment != seen.environment, "Environment"),
        (vpc_differs, "VpcConfig"),
        (wanted.log_group != seen.log_group, "LoggingConfig"),
    ]
    .into_iter()
    .filter(|(differs, _)| *differs)
    .map(|(_, field)| field.to_owned())
    .collect()
}

/// The field of [`drift`] that UpdateFunctionCode mends; all others are UpdateFunctionConfiguration's.
pub(crate) const CODE_FIELD: &str = "Code";

/// What the invocation of a run is given.
#[must_use]
pub(crate) fn payload(config: &ContainerConfig, token: &str) -> Vec<u8> {
    let given = config.function.payload.clone();
    match config.function.protocol {
        Protocol::Native => given.unwrap_or_else(|| "{}".to_owned()).into_bytes(),
        Protocol::Bootstrap => {
            let entrypoint = config.entrypoint.iter().flatten();
            let envelope = Envelope {
                sockerless: Order {
                    version: VERSION,
                    token: token.to_owned(),
                    command: entrypoint.chain(config.cmd.iter().flatten()).cloned().collect(),
                    after_entrypoint: config.entrypoint.is_none(),
                    env: config.env.clone(),
                    working_dir: config.working_dir.clone(),
                    tty: config.tty,
                    payload: given,
                },
            };
            // Strings and lists of strings only: this cannot fail.
            serde_json::to_vec(&envelope).unwrap_or_default()
        }
    }
}

/// The client context of a run: the token, for native images that want to know it.
#[must_use]
pub(crate) fn client_context(token: &str) -> String {
    serde_json::json!({ "custom": { "sockerless-token": token } }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconciler::tests::{Story, config};
    use crate::state::model::Protocol;

    fn identity() -> Identity {
        Identity { prefix: "skls".into(), instance: "0123456789".into() }
    }

    #[test]
    fn a_name_says_whose_function_it_is_and_fits() {
        let id = ContainerId::from_bytes([0xab; 32]);
        let name = identity().function_name(&id, 0);
        assert_eq!(name, "skls-0123456789-abababababababababababab");
        assert_eq!(identity().owner(&name), Owner::Ours { id_prefix: "ab".repeat(12) });
        let widest = Identity { prefix: "p".repeat(16), ..identity() }.function_name(&id, u32::MAX);
        assert!(widest.len() <= 64, "{}", widest.len());
        assert!(matches!(identity().owner(&identity().function_name(&id, 7)), Owner::Ours { .. }));
    }

    #[test]
    fn other_names_are_not_ours() {
        let digits = "ab".repeat(12);
        let table = [
            (format!("skls-9999999999-{digits}"), Owner::OtherInstance),
            (format!("skls-9999999999-{digits}-3"), Owner::OtherInstance),
            (format!("other-0123456789-{digits}"), Owner::Stranger),
            (format!("sklsx-0123456789-{digits}"), Owner::Stranger),
            (format!("skls-0123456789-{digits}-x"), Owner::Stranger),
            (format!("skls-0123456789-{digits}-1-2"), Owner::Stranger),
            (format!("skls-0123456789-{digits}-007"), Owner::Stranger),
            (format!("skls-0123456789-{digits}-+7"), Owner::Stranger),
            (format!("skls-0123456789-{digits}-0"), Owner::Stranger),
            (format!("skls-0123456789-{digits}-4294967296"), Owner::Stranger),
            (format!("skls-0123456789-{}", &digits[1..]), Owner::Stranger),
            ("skls-0123456789".to_owned(), Owner::Stranger),
            ("skls-nightly-report".to_owned(), Owner::Stranger),
            (String::new(), Owner::Stranger),
        ];
        for (name, owner) in table {
            assert_eq!(identity().owner(&name), owner, "{name}");
        }
    }

    #[test]
    fn only_both_tags_make_a_function_ours() {
        let container = Story::created().container;
        let tags = identity().new_function(&container).tags;
        assert!(identity().owns(&tags, &container.id));
        for missing in [TAG_INSTANCE, TAG_CONTAINER] {
            let mut fewer = tags.clone();
            fewer.remove(missing);
            assert!(!identity().owns(&fewer, &container.id));
        }
        assert!(!identity().owns(&tags, &ContainerId::from_bytes([1; 32])));
        let other = Identity { instance: "9999999999".into(), ..identity() };
        assert!(!other.owns(&tags, &container.id));
    }

    #[test]
    fn tags_keep_to_awss_characters() {
        for (key, value) in identity().new_function(&Story::created().container).tags {
            assert!(key.len() <= 128 && value.len() <= 256);
            let allowed = |c: char| c.is_ascii_alphanumeric() || " _.:/=+-@".contains(c);
            assert!(key.chars().all(allowed) && value.chars().all(allowed), "{key}={value}");
        }
    }

    #[test]
    fn the_bootstraps_order_travels_in_the_envelope_and_not_in_the_function() {
        let mut config = config();
        config.entrypoint = Some(vec!["sh".into()]);
        config.cmd = Some(vec!["-c".into(), "exit 3".into()]);
        config.env = vec!["A=b=c".into()];
        config.working_dir = Some("/tmp".into());
        config.tty = true;
        config.function.payload = Some("{\"x\":1}".into());
        let shape = shape(&config);
        assert!(shape.entrypoint.is_empty() && shape.command.is_empty() && shape.environment.is_empty());
        let envelope: Envelope = serde_json::from_slice(&payload(&config, "token")).unwrap();
        let order = envelope.sockerless;
        assert_eq!((order.token.as_str(), order.command.join(" ").as_str()), ("token", "sh -c exit 3"));
        assert!(!order.after_entrypoint, "the container's own entrypoint replaces the image's");
        assert_eq!((order.env, order.working_dir), (vec!["A=b=c".to_owned()], Some("/tmp".to_owned())));
        assert_eq!(order.payload.as_deref(), Some("{\"x\":1}"));
        assert!(order.tty);
        config.entrypoint = None;
        let envelope: Envelope = serde_json::from_slice(&payload(&config, "token")).unwrap();
        assert!(envelope.sockerless.after_entrypoint && envelope.sockerless.command == ["-c", "exit 3"]);
    }

    #[test]
    fn a_native_images_settings_are_the_functions_own() {
        let mut config = config();
        config.function.protocol = Protocol::Native;
        config.entrypoint = Some(vec!["/entry".into()]);
        config.env = vec!["A=b=c".into(), "NOVALUE".into()];
        let shape = shape(&config);
        assert_eq!((shape.entrypoint, shape.command), (vec!["/entry".to_owned()], vec!["true".to_owned()]));
        assert_eq!(shape.environment, BTreeMap::from([("A".to_owned(), "b=c".to_owned())]));
        assert_eq!(payload(&config, "token"), b"{}");
        config.function.payload = Some("[1]".into());
        assert_eq!(payload(&config, "token"), b"[1]");
    }

    #[test]
    fn drift_names_the_fields_that_differ() {
        let wanted = shape(&config());
        assert!(drift(&wanted, &wanted).is_empty());
        let listed = FunctionShape { image_uri: None, ..wanted.clone() };
        assert!(drift(&wanted, &listed).is_empty(), "what AWS does not tell is not compared");
        let seen = FunctionShape {
            image_uri: Some("other".into()),
            memory_mb: 128,
            timeout_s: 3,
            log_group: "/elsewhere".into(),
            ..wanted.clone()
        };
        assert_eq!(drift(&wanted, &seen), [CODE_FIELD, "MemorySize", "Timeout", "LoggingConfig"]);
    }
}
