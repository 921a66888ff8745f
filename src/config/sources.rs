//! Where values come from: the layers that are laid over each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Num, Value};
use figment::{Metadata, Profile, Provider};

use super::ConfigError;
use super::keys::{ENVIRONMENT_PREFIX, KEYS, Setting};
use super::rules::Shape;

/// The variable that names the configuration file.
pub(super) const FILE_VARIABLE: &str = "SOCKERLESS_LAMBDA_CONFIG";

/// The environment variables, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process. What is not UTF-8 is kept as far as it can be read.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect()
    }

    /// A variable; an empty one counts.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Our variables that mean nothing.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|name| {
            name.starts_with(ENVIRONMENT_PREFIX)
                && *name != FILE_VARIABLE
                && !KEYS.iter().any(|key| key.variable() == *name)
        })
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// The values that were given as flags, by key.
pub type Flags = BTreeMap<&'static str, Vec<String>>;

/// One value from one place.
pub(super) struct Layer {
    place: String,
    key: &'static str,
    value: Value,
}

impl Layer {
    pub(super) fn new(place: impl Into<String>, key: &dyn Setting, texts: &[String]) -> Self {
        Self { place: place.into(), key: key.name(), value: value(key.shape(), texts) }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        dict.insert(self.key.to_owned(), self.value.clone());
        Ok(Profile::Default.collect(dict))
    }
}

fn value(shape: Shape, texts: &[String]) -> Value {
    match (shape, texts) {
        (Shape::List, texts) => {
            let items = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|item| !item.is_empty());
            Value::from(items.map(str::to_owned).collect::<Vec<_>>())
        }
        (Shape::Number, [text]) if !text.trim().is_empty() => match number(text) {
            Some(number) => Value::from(number),
            None => Value::from(text.clone()),
        },
        (_, texts) => Value::from(texts.last().cloned().unwrap_or_default()),
    }
}

fn number(text: &str) -> Option<Num> {
    let text = text.trim();
    match text.parse::<i64>() {
        Ok(whole) => Some(Num::I64(whole)),
        Err(_) => text.parse::<f64>().ok().map(Num::F64),
    }
}

/// The directory of this user's state: `$XDG_STATE_HOME`, or `~/.local/state`, then `sockerless-lambda`.
///
/// # Errors
///
/// If neither variable holds an absolute path (the XDG specification says to ignore relative ones).
pub fn state_directory(environment: &Environment) -> Result<PathBuf, ConfigError> {
    let absolute = |name| environment.get(name).map(Path::new).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .map(Path::to_path_buf)
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("sockerless-lambda"))
        .ok_or(ConfigError::NoStateDirectory)
}
