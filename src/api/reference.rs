//! Names of images. PURE.
//!
//! `alpine` is short for `docker.io/library/alpine:latest`; the store keeps the long form, people see the short one.

use super::limits;

const DEFAULT_DOMAIN: &str = "docker.io";
const OLD_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// The name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Reads a short or long name. The error is Docker's words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let invalid = || "invalid reference format".to_owned();
        if text.is_empty() || text.len() > limits::MAX_REFERENCE_BYTES {
            return Err(invalid());
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) if is_digest(digest) => (name, Some(digest.to_owned())),
            Some(_) => return Err(invalid()),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (name, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        let (domain, path) = split_domain(name);
        if !is_domain(&domain) || !path.split('/').all(is_path_part) {
            return Err(match path.to_ascii_lowercase() == path {
                true => invalid(),
                false => format!("invalid reference format: repository name ({path}) must be lowercase"),
            });
        }
        Ok(Self { domain, path, tag, digest })
    }

    /// With `:latest` if there is neither tag nor digest.
    pub(super) fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// With another tag, or a digest.
    pub(super) fn tagged(mut self, tag: &str) -> Result<Self, String> {
        match tag {
            digest if is_digest(digest) => self.digest = Some(digest.to_owned()),
            tag if is_tag(tag) => self.tag = Some(tag.to_owned()),
            _ => return Err("invalid tag format".to_owned()),
        }
        Ok(self)
    }

    /// Whether the name leaves the registry to the daemon.
    pub(super) fn is_short(&self) -> bool {
        self.domain == DEFAULT_DOMAIN
    }

    /// The tag, or the digest where there is none.
    pub(super) fn tag_or_digest(&self) -> &str {
        self.tag.as_deref().or(self.digest.as_deref()).unwrap_or(DEFAULT_TAG)
    }

    /// The long name, with tag and digest.
    pub(super) fn canonical(&self) -> String {
        format!("{}/{}", self.domain, self.path_and_tag())
    }

    /// The name as people write it, with tag and digest.
    pub(super) fn familiar(&self) -> String {
        let suffix = self.suffix();
        format!("{}{suffix}", self.familiar_name())
    }

    /// The name as people write it, without tag and digest.
    pub(super) fn familiar_name(&self) -> String {
        match self.is_short() {
            true => self.path.strip_prefix(OFFICIAL).unwrap_or(&self.path).to_owned(),
            false => format!("{}/{}", self.domain, self.path),
        }
    }

    /// The long path without the registry: `library/alpine`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn path_and_tag(&self) -> String {
        format!("{}{}", self.path, self.suffix())
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        tag.chain(self.digest.iter().map(|digest| format!("@{digest}"))).collect()
    }
}

/// Whether the text can be the beginning of an image's id, with or without `sha256:`; gives its hexadecimal digits.
pub(super) fn id_prefix(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    (is_hex && (1..=64).contains(&digits.len())).then_some(digits)
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase() => {
            (if first == OLD_DEFAULT_DOMAIN { DEFAULT_DOMAIN } else { first }, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let official = domain == DEFAULT_DOMAIN && !path.contains('/');
    (domain.to_owned(), if official { format!("{OFFICIAL}{path}") } else { path.to_owned() })
}

fn is_domain(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_path_part(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators_fit = part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'));
    separators_fit && part.bytes().next().is_some_and(is_word) && part.bytes().last().is_some_and(is_word)
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && id_prefix(hex).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_shortened() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, canonical, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.18", "docker.io/library/alpine:3.18", "alpine:3.18"),
            ("docker.io/library/alpine:latest", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("grafana/loki", "docker.io/grafana/loki:latest", "grafana/loki:latest"),
            ("registry:5000/a/b:1", "registry:5000/a/b:1", "registry:5000/a/b:1"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("ghcr.io/a/b__c-d.e", "ghcr.io/a/b__c-d.e:latest", "ghcr.io/a/b__c-d.e:latest"),
            (&format!("alpine@{digest}"), &format!("docker.io/library/alpine@{digest}"), &format!("alpine@{digest}")),
        ] {
            let reference = Reference::parse(text).unwrap().with_default_tag();
            assert_eq!(reference.canonical(), canonical, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
        }
    }

    #[test]
    fn bad_names() {
        for text in ["", ":", "a:", "a b", "-a", "a-", "a//b", "a@sha256:1", "a:b:c", "a/", "/a", "a___b", "é"] {
            assert_eq!(Reference::parse(text).unwrap_err(), "invalid reference format", "{text:?}");
        }
        assert_eq!(
            Reference::parse("Alpine").unwrap_err(),
            "invalid reference format: repository name (library/Alpine) must be lowercase"
        );
    }

    #[test]
    fn ids() {
        assert_eq!(id_prefix("sha256:0af"), Some("0af"));
        assert_eq!(id_prefix("0af"), Some("0af"));
        assert_eq!(id_prefix("alpine"), None);
        assert_eq!(id_prefix(""), None);
    }
}
