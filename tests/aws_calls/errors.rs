use std::time::Duration;

use serde_json::json;
use sockerless_lambda::aws::AwsErrorKind::{self, *};
use sockerless_lambda::aws::LogQuery;

use crate::invoke::request;
use crate::server::{Reply, Server, answer, error};

#[tokio::test]
async fn what_lambda_answers() {
    let rows: &[(u16, &str, &str, AwsErrorKind)] = &[
        (404, "ResourceNotFoundException", "Function not found: f", NotFound),
        (409, "ResourceConflictException", "The function is currently in the following state: Pending", Conflict),
        (502, "ResourceNotReadyException", "The function is inactive", Conflict),
        (409, "SnapStartNotReadyException", "later", Conflict),
        (429, "TooManyRequestsException", "Rate Exceeded.", Throttled),
        (429, "SomethingNewException", "slow down", Throttled),
        (400, "ThrottlingException", "Rate exceeded", Throttled),
        (400, "Throttling", "Rate exceeded", Throttled),
        (403, "AccessDeniedException", "not authorized to perform: lambda:InvokeFunction", AccessDenied),
        (403, "SomethingNewException", "no", AccessDenied),
        (403, "UnrecognizedClientException", "The security token included in the request is invalid.", Credentials),
        (403, "InvalidSignatureException", "Signature expired", Credentials),
        (403, "SignatureDoesNotMatch", "", Credentials),
        (403, "ExpiredTokenException", "The security token included in the request is expired", Credentials),
        (400, "ExpiredToken", "", Credentials),
        (403, "MissingAuthenticationTokenException", "", Credentials),
        (403, "MissingAuthenticationToken", "", Credentials),
        (400, "IncompleteSignature", "", Credentials),
        (403, "InvalidClientTokenId", "", Credentials),
        (400, "InvalidParameterValueException", "Source image app:1 does not exist.", ImageNotFound),
        (
            400,
            "InvalidParameterValueException",
            "The role defined for the function cannot be assumed by Lambda.",
            RoleNotReady,
        ),
        (400, "InvalidParameterValueException", "Your request has been throttled by EC2", DependencyNotReady),
        (400, "ValidationException", "1 validation error detected", InvalidParameter),
        (400, "InvalidRequestContentException", "Could not parse request body into json", InvalidParameter),
        (413, "RequestTooLargeException", "", TooLarge),
        (413, "RequestEntityTooLargeException", "", TooLarge),
        (413, "SomethingNewException", "", TooLarge),
        (502, "EC2ThrottledException", "", EnvironmentNotReady),
        (502, "EC2UnexpectedException", "", EnvironmentNotReady),
        (502, "EC2AccessDeniedException", "", DependencyNotReady),
        (502, "ENILimitReachedException", "", EnvironmentNotReady),
        (502, "ENINotReadyException", "", EnvironmentNotReady),
        (502, "SubnetIPAddressLimitReachedException", "", EnvironmentNotReady),
        (502, "InvalidSubnetIDException", "", InvalidParameter),
        (502, "InvalidSecurityGroupIDException", "", InvalidParameter),
        (502, "InvalidRuntimeException", "", InvalidParameter),
        (403, "EFSMountFailureException", "", EnvironmentNotReady),
        (408, "EFSMountTimeoutException", "", EnvironmentNotReady),
        (502, "KMSDisabledException", "", Refused),
        (502, "KMSNotFoundException", "", Refused),
        (410, "EFSIOException", "may happen to a function that runs", ServiceError),
        (415, "UnsupportedMediaTypeException", "", Refused),
        (400, "RecursiveInvocationException", "", Refused),
        (400, "CodeStorageExceededException", "", Refused),
        (500, "ServiceException", "", ServiceError),
        (502, "SomethingNewException", "", ServiceError),
        (503, "ServiceUnavailable", "", ServiceError),
        (408, "RequestTimeoutException", "", ServiceError),
    ];
    for (status, code, message, kind) in rows {
        // Without the header the bucket would rest for a second after a 429.
        let server = Server::start([error(*status, code, message).with("retry-after", "0")]).await;
        let got = server.cloud().await.invoke(&request()).await.unwrap_err();
        assert_eq!(got.kind, *kind, "{status} {code}: {got}");
        assert_eq!(got.code.as_deref(), Some(*code));
        assert_eq!(got.message, *if message.is_empty() { code } else { message });
    }
}

#[tokio::test]
async fn what_logs_answer() {
    let rows: &[(u16, &str, &str, AwsErrorKind)] = &[
        (400, "ThrottlingException", "Rate exceeded", Throttled),
        (400, "LimitExceededException", "Rate exceeded", Throttled),
        (400, "LimitExceededException", "Resource limit exceeded.", Refused),
        (400, "OperationAbortedException", "Multiple requests to update the same resource", Conflict),
        (400, "InvalidParameterException", "", InvalidParameter),
        (400, "AccessDeniedException", "not authorized to perform: logs:DescribeLogGroups", AccessDenied),
        (400, "UnrecognizedClientException", "", Credentials),
        (503, "ServiceUnavailableException", "", ServiceError),
    ];
    for (status, code, message, kind) in rows {
        // The JSON protocol of CloudWatch Logs names the code in the body.
        let server = Server::start([answer(*status, json!({ "__type": code, "message": message }))]).await;
        let got = server.cloud().await.reachable().await.unwrap_err();
        assert_eq!((got.kind, got.code.as_deref()), (*kind, Some(*code)), "{got}");
        assert_eq!(got.service, "logs");
    }
}

#[tokio::test]
async fn what_is_not_aws_is_not_understood() {
    let rows = [
        (answer(404, "<html>Not Found</html>"), Malformed),
        (answer(403, "Forbidden by the proxy"), Malformed),
        (answer(400, ""), Malformed),
        (answer(302, ""), Malformed),
        (answer(429, "slow down"), Throttled),
        (answer(502, "<html>Bad Gateway</html>"), ServiceError),
        (answer(200, "<html>Welcome</html>"), Malformed),
        (Reply::Half, Malformed),
    ];
    for (reply, kind) in rows {
        let server = Server::start([reply.clone()]).await;
        let got = server.cloud().await.get_function("f").await.unwrap_err();
        assert_eq!(got.kind, kind, "{reply:?}: {got}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_error_tells_where_it_comes_from() {
    let reply = error(409, "ResourceConflictException", "Function already exist: x")
        .with("x-amzn-requestid", "r-9")
        .with("retry-after", "7");
    let server = Server::start([reply]).await;
    let got = server.cloud().await.get_function("x").await.unwrap_err();
    assert_eq!(got.to_string(), "lambda: get function: Function already exist: x");
    assert_eq!(got.request_id.as_deref(), Some("r-9"));
    assert_eq!(got.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_missing_group_is_an_empty_last_page() {
    let server =
        Server::start([error(400, "ResourceNotFoundException", "The specified log group does not exist.")]).await;
    let page = server.cloud().await.filter_log_events(LogQuery::default()).await.unwrap();
    assert!(page.events.is_empty());
    assert_eq!(page.next_token, None);
}
