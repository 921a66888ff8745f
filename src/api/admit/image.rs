//! From the client's image name to what Lambda is told. PURE.

use super::super::error::ApiError;
use super::super::reference::Reference;
use super::bad;
use crate::config::Config;

/// Digits of an AWS account.
const ACCOUNT_DIGITS: usize = 12;

/// The image as Lambda is told. Lambda pulls from private ECR of its own region only; the sandbox knows short names.
pub(super) fn uri(reference: &Reference, config: &Config) -> Result<String, ApiError> {
    if config.sandbox {
        return Ok(reference.familiar());
    }
    let region = &config.region;
    let full = match (&config.image_registry, reference.is_short()) {
        (Some(registry), true) => format!("{}/{}", registry.trim_end_matches('/'), reference.familiar()),
        _ => reference.canonical(),
    };
    let registry = full.split('/').next().unwrap_or_default();
    if is_private_ecr(registry, region) {
        return Ok(full);
    }
    let hint = match (&config.image_registry, reference.is_short()) {
        (None, true) => ", or set image_registry so that short names are completed",
        _ => "",
    };
    Err(bad(format!(
        "the image {} is not in private Amazon ECR of {region}, and Lambda pulls from nowhere else: push it there and \
         name it ACCOUNT.dkr.ecr.{region}.amazonaws.com/{}:{}{hint}",
        reference.familiar(),
        reference.path().trim_start_matches("library/"),
        reference.tag_or_digest(),
    )))
}

/// `ACCOUNT.dkr.ecr.REGION.amazonaws.com`, in China with `.cn`.
fn is_private_ecr(registry: &str, region: &str) -> bool {
    let Some((account, rest)) = registry.split_once('.') else { return false };
    let Some(suffix) = rest.strip_prefix("dkr.ecr.").and_then(|rest| rest.strip_prefix(region)) else { return false };
    account.len() == ACCOUNT_DIGITS
        && account.bytes().all(|digit| digit.is_ascii_digit())
        && matches!(suffix, ".amazonaws.com" | ".amazonaws.com.cn")
}
