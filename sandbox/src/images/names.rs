//! Names of images: many spellings, one short form. Pure.
//!
//! `busybox`, `docker.io/library/busybox:latest` and `ACCOUNT.dkr.ecr.REGION.amazonaws.com/busybox` all mean
//! `busybox:latest`: the sandbox plays ECR, so what a user keeps on this machine is found under the name it has in the
//! registry, too.

const DEFAULT_TAG: &str = "latest";
/// The longest name, in bytes.
const MAX_BYTES: usize = 512;
/// Digits of an AWS account.
const ACCOUNT_DIGITS: usize = 12;

/// A name in its short form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// Without tag and digest.
    pub(crate) repository: String,
    /// The tag; `latest` if the name has neither tag nor digest.
    pub(crate) tag: String,
    /// 64 hexadecimal digits, if the name has a digest; then the tag says nothing.
    pub(crate) digest: Option<String>,
}

impl Name {
    /// Reads any spelling. `None`: it is no name of an image.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > MAX_BYTES {
            return None;
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.strip_prefix("sha256:")?.to_owned())),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (name, DEFAULT_TAG),
        };
        let repository = short(name);
        let is_hex = |digest: &String| digest.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let is_good = is_repository(repository) && is_tag(tag) && digest.as_ref().is_none_or(is_hex);
        is_good.then(|| Self { repository: repository.to_owned(), tag: tag.to_owned(), digest })
    }

    /// `repository:tag`
    pub(crate) fn key(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Takes away what everybody means anyway.
fn short(name: &str) -> &str {
    let Some((host, path)) = name.split_once('/') else { return name };
    match host {
        "docker.io" | "index.docker.io" => path.strip_prefix("library/").unwrap_or(path),
        "library" => path,
        host if is_private_ecr(host) => path,
        _ => name,
    }
}

/// `ACCOUNT.dkr.ecr.REGION.amazonaws.com`, in China with `.cn`.
fn is_private_ecr(host: &str) -> bool {
    let Some((account, rest)) = host.split_once(".dkr.ecr.") else { return false };
    let is_account = account.len() == ACCOUNT_DIGITS && account.bytes().all(|digit| digit.is_ascii_digit());
    is_account && [".amazonaws.com", ".amazonaws.com.cn"].iter().any(|end| rest.ends_with(end))
}

fn is_repository(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':');
    name.split('/')
        .all(|part| part.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && part.bytes().all(is_word))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_spellings_one_name() {
        for (text, key) in [
            ("busybox", "busybox:latest"),
            ("busybox:1.36", "busybox:1.36"),
            ("docker.io/library/busybox:latest", "busybox:latest"),
            ("index.docker.io/library/busybox", "busybox:latest"),
            ("library/busybox", "busybox:latest"),
            ("docker.io/grafana/loki:2", "grafana/loki:2"),
            ("000000000000.dkr.ecr.us-east-1.amazonaws.com/team/busybox:1", "team/busybox:1"),
            ("000000000000.dkr.ecr.cn-north-1.amazonaws.com.cn/busybox", "busybox:latest"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("0.dkr.ecr.us-east-1.amazonaws.com/x", "0.dkr.ecr.us-east-1.amazonaws.com/x:latest"),
        ] {
            assert_eq!(Name::parse(text).map(|name| name.key()).as_deref(), Some(key), "{text}");
        }
        let digest = "0a".repeat(32);
        let name = Name::parse(&format!("busybox:1@sha256:{digest}")).unwrap();
        assert_eq!((name.repository.as_str(), name.digest), ("busybox", Some(digest)));
    }

    #[test]
    fn what_is_no_name() {
        for text in ["", "/", "a//b", "a b", "-a", "a:", "a@b", "a@sha256:XY", "../a", "a/../b", ":1", &"a".repeat(513)]
        {
            assert_eq!(Name::parse(text), None, "{text:?}");
        }
    }
}
