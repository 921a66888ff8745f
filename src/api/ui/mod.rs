//! `/ui`: a status page for those without dashboards, and `/ui/state`, the JSON that it shows. Only reads.
//!
//! One file with its own style and script; nothing is fetched from elsewhere. Who can reach it sees names, images and
//! AWS's words, but no environment, command, payload, result or token.

mod state;

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

use super::error::ApiError;
use super::health;
use super::reply::{self, Reply};
use crate::clock::Timestamp;
use crate::health::Health;
use crate::state::Reader;

const PAGE: &str = include_str!("page.html");
/// Stands in the page where the nonce belongs.
const NONCE: &str = "NONCE";
const NONCE_BYTES: usize = 16;
/// Containers that are read, the newest ones; fewer when they are large.
const CONTAINERS: u32 = 100;

/// The page. Its script and style carry a nonce, so that nothing else runs, whatever a container is called.
pub(super) fn page() -> Reply {
    let mut bytes = [0; NONCE_BYTES];
    if getrandom::fill(&mut bytes).is_err() {
        return ApiError::NoSuchPage.reply();
    }
    let nonce: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut reply = reply::text(StatusCode::OK, "text/html; charset=utf-8", PAGE.replace(NONCE, &nonce));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        reply.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    private(reply)
}

/// What the page shows.
pub(super) async fn state(reader: &Reader, metrics: &str, health: &Health, now: Timestamp) -> Reply {
    let seen = match reader.containers(None, CONTAINERS).await {
        Ok(page) => state::state(&page.readable().collect::<Vec<_>>(), metrics, health::problems(health, now), now),
        Err(error) => return ApiError::from(error).reply(),
    };
    private(reply::ok(&seen))
}

fn private(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pages_own_script_runs_and_nothing_comes_from_elsewhere() {
        let reply = page();
        let policy = reply.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'nonce-"), "{policy}");
        assert_ne!(policy, page().headers()[CONTENT_SECURITY_POLICY].to_str().unwrap(), "a nonce is used once");
        assert_eq!(PAGE.matches(NONCE).count(), 2, "one style, one script");
        for outside in ["http:", "https:", "//cdn", "src=", "@import", "url(", "innerHTML", "onclick=", "style=\""] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
