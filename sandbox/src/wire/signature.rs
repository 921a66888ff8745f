//! Authenticates requests: AWS's Signature Version 4. Pure.
//!
//! Source: IAM User Guide, "Create a signed AWS API request". Not checked: the age of a signature, as the sandbox's clock
//! may be a virtual one; it is on this machine only, where nobody can listen.

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::Incoming;
use crate::model::{ApiError, Service};
use crate::sandbox::Credentials;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The digits of an SHA-256.
const SIGNATURE_DIGITS: usize = 64;
/// Date, region, service and a constant.
const SCOPE_PARTS: usize = 4;
/// What is escaped in a query of the canonical request.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same in its path.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Refuses a request that is not signed with these credentials, in AWS's words. The secret as a bearer token stands for a
/// signature, for calls that are made by hand.
pub(crate) fn verify(incoming: &Incoming<'_>, credentials: &Credentials) -> Result<(), ApiError> {
    let Some(signature) = verify_head(incoming, credentials)? else { return Ok(()) };
    match signature.is_right(incoming, &credentials.secret_access_key) {
        Some(()) => Ok(()),
        None => refuse(
            incoming,
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.",
        ),
    }
}

/// The same as far as it can be seen before the body is read: the signature itself includes the body.
/// `None`: the request carries the secret, so that there is nothing more to verify.
pub(crate) fn verify_head<'a>(
    incoming: &'a Incoming<'_>,
    credentials: &Credentials,
) -> Result<Option<Signature<'a>>, ApiError> {
    if has_token(incoming, credentials) {
        return Ok(None);
    }
    let refuse = |code: &str, message: &str| refuse(incoming, code, message);
    if incoming.header("authorization").is_none() {
        return refuse("MissingAuthenticationTokenException", "Missing Authentication Token");
    }
    let Some(signature) = Signature::of(incoming) else {
        let message = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.";
        return refuse("IncompleteSignatureException", message);
    };
    if signature.access_key_id != credentials.access_key_id {
        return refuse("UnrecognizedClientException", "The security token included in the request is invalid.");
    }
    Ok(Some(signature))
}

fn refuse<T>(incoming: &Incoming<'_>, code: &str, message: &str) -> Result<T, ApiError> {
    let status = if incoming.service() == Service::Lambda { 403 } else { 400 };
    Err(ApiError::new(status, code, message))
}

/// Whether a request carries the secret itself.
pub(crate) fn has_token(incoming: &Incoming<'_>, credentials: &Credentials) -> bool {
    let token = incoming.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    token.is_some_and(|token| {
        // Digests are compared, so that the time of the comparison reveals nothing.
        Sha256::digest(token.as_bytes()) == Sha256::digest(credentials.secret_access_key.as_bytes())
    })
}

/// What stands in the header `Authorization`.
pub(crate) struct Signature<'a> {
    access_key_id: &'a str,
    /// Date, region, service and a constant.
    scope: &'a str,
    signed_headers: &'a str,
    signature: Vec<u8>,
}

impl<'a> Signature<'a> {
    fn of(incoming: &'a Incoming<'_>) -> Option<Self> {
        let parameters = incoming.header("authorization")?.strip_prefix(ALGORITHM)?;
        let parameter = |name: &str| {
            parameters.split(',').find_map(|parameter| parameter.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let (access_key_id, scope) = parameter("Credential")?.split_once('/')?;
        let (digits, signed_headers) = (parameter("Signature")?, parameter("SignedHeaders")?);
        // What is computed for a caller that is still unknown has a limit: a key for each part of the scope, and each
        // header once.
        let is_sorted = signed_headers.split(';').is_sorted_by(|one, next| one < next);
        if digits.len() != SIGNATURE_DIGITS || scope.split('/').count() != SCOPE_PARTS || !is_sorted {
            return None;
        }
        let pairs = (0..digits.len()).step_by(2);
        let signature = pairs.map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect::<Option<_>>()?;
        Some(Self { access_key_id, scope, signed_headers, signature })
    }

    /// `None`: it is another's, or of another request.
    fn is_right(&self, incoming: &Incoming<'_>, secret: &str) -> Option<()> {
        let date = incoming.header("x-amz-date")?;
        let request = hex(&Sha256::digest(self.canonical_request(incoming)?));
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in self.scope.split('/') {
            key = mac(&key, part)?.finalize().into_bytes().to_vec();
        }
        let signed_today = self.scope.split('/').next().is_some_and(|day| !day.is_empty() && date.starts_with(day));
        let text = format!("{ALGORITHM}\n{date}\n{}\n{request}", self.scope);
        mac(&key, &text)?.verify_slice(&self.signature).ok().filter(|()| signed_today)
    }

    fn canonical_request(&self, incoming: &Incoming<'_>) -> Option<String> {
        // The path is escaped once more than it was sent.
        let path = utf8_percent_encode(incoming.path, RESERVED_IN_PATH);
        let escape =
            |text: &str| utf8_percent_encode(&percent_decode_str(text).decode_utf8_lossy(), RESERVED).to_string();
        let pairs = incoming.query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut query: Vec<String> = pairs.map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        query.sort_unstable();
        let mut headers = String::new();
        for name in self.signed_headers.split(';') {
            let values: Option<Vec<String>> = incoming.headers.get_all(name).iter().map(canonical_value).collect();
            headers.push_str(&format!("{name}:{}\n", values.filter(|values| !values.is_empty())?.join(",")));
        }
        // Without the host, it could be a request for another service.
        self.signed_headers.split(';').any(|name| name == "host").then_some(())?;
        let (method, query, signed) = (incoming.method, query.join("&"), self.signed_headers);
        let body = hex(&Sha256::digest(&incoming.body));
        Some(format!("{method}\n{path}\n{query}\n{headers}\n{signed}\n{body}"))
    }
}

/// Without white space around it, and with single blanks in it.
fn canonical_value(value: &http::HeaderValue) -> Option<String> {
    let words: Vec<&str> = value.to_str().ok()?.split(' ').filter(|word| !word.is_empty()).collect();
    Some(words.join(" "))
}

fn mac(key: &[u8], text: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(text.as_bytes());
    Some(mac)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method};

    use super::*;

    /// From the test suite that AWS has published for its signatures: `get-vanilla-query-order-key-case`.
    #[test]
    fn signature_that_takes_more_than_its_share_of_work_is_incomplete() {
        let digits = "0".repeat(SIGNATURE_DIGITS);
        let of = |scope: &str, signed: &str, digits: &str| {
            let text = format!("{ALGORITHM} Credential=key/{scope}, SignedHeaders={signed}, Signature={digits}");
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_str(&text).unwrap());
            let body = bytes::Bytes::new();
            let incoming = Incoming { method: &Method::GET, path: "/", query: "", headers: &headers, body };
            Signature::of(&incoming).is_some()
        };
        assert!(of("day/region/lambda/aws4_request", "a;host", &digits));
        assert!(!of("day/region/lambda/aws4_request", "a;a;host", &digits), "a header that stands there twice");
        assert!(!of("day/region/lambda/aws4_request", "host;a", &digits));
        assert!(!of("day/region/lambda/aws4_request/more", "a;host", &digits));
        assert!(!of("day/region/lambda/aws4_request", "a;host", &digits[2..]));
    }

    #[test]
    fn signature_of_aws_own_example_is_right() {
        let credentials = Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        };
        let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                             SignedHeaders=host;x-amz-date, \
                             Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
        let headers =
            [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z"), ("authorization", authorization)];
        let headers: HeaderMap = headers
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .into_iter()
            .collect();
        let check = |query: &str, headers: &HeaderMap, credentials: &Credentials| {
            let body = bytes::Bytes::new();
            let incoming = Incoming { method: &Method::GET, path: "/", query, headers, body };
            verify(&incoming, credentials).map_err(|error| error.code)
        };
        assert_eq!(check("Param2=value2&Param1=value1", &headers, &credentials), Ok(()));
        let wrong = Err("InvalidSignatureException".into());
        assert_eq!(check("Param2=value2&Param1=value2", &headers, &credentials), wrong);
        let other = Credentials { secret_access_key: "other".to_owned(), ..credentials.clone() };
        assert_eq!(check("Param2=value2&Param1=value1", &headers, &other), wrong);
        let other = Credentials { access_key_id: "other".to_owned(), ..credentials.clone() };
        let unknown = Err("UnrecognizedClientException".into());
        assert_eq!(check("Param2=value2&Param1=value1", &headers, &other), unknown);
        let missing = Err("MissingAuthenticationTokenException".into());
        assert_eq!(check("", &HeaderMap::new(), &credentials), missing);
        for text in
            ["", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=äx", "Bearer x"]
        {
            let mut headers = headers.clone();
            headers.insert("authorization", HeaderValue::from_bytes(text.as_bytes()).unwrap());
            assert!(check("", &headers, &credentials).is_err(), "{text}");
        }
    }
}
