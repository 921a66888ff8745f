//! What AWS's error codes mean: one table. PURE.
//!
//! The codes are those of the exceptions in the service models of the operations that we call, of the API references'
//! "Common errors", and of the throttling codes that AWS's own SDKs retry. Lambda uses `InvalidParameterValueException`
//! for conditions that pass, too, so its message decides there. The first row that fits counts; what fits none is judged
//! by its HTTP status.

use super::types::AwsErrorKind::{
    self, AccessDenied, Conflict, Credentials, DependencyNotReady, EnvironmentNotReady, ImageNotFound,
    InvalidParameter, NotFound, Refused, RoleNotReady, ServiceError, Throttled, TooLarge,
};

/// A row: an error code without its `Exception`, what the message has in lower case (parts in this order, `*` between
/// them; empty: any message), the meaning.
struct Row(Code, &'static str, AwsErrorKind);

enum Code {
    Is(&'static str),
    BeginsWith(&'static str),
}
use Code::{BeginsWith, Is};

impl Row {
    fn fits(&self, code: &str, message: &str) -> bool {
        let Self(wanted, parts, _) = self;
        let fits = match wanted {
            Is(name) => *name == code,
            BeginsWith(beginning) => code.starts_with(beginning),
        };
        fits && has_parts(message, parts)
    }
}

fn has_parts(message: &str, parts: &str) -> bool {
    let after = |rest: &str, part: &str| rest.find(part).map(|at| at + part.len());
    let mut rest = message;
    parts.split('*').all(|part| after(rest, part).and_then(|end| rest.get(end..)).map(|tail| rest = tail).is_some())
}

static TABLE: &[Row] = &[
    Row(Is("ResourceNotFound"), "", NotFound),
    Row(Is("ResourceConflict"), "", Conflict),
    Row(Is("ResourceNotReady"), "", Conflict),
    Row(Is("ResourceAlreadyExists"), "", Conflict),
    Row(Is("OperationAborted"), "", Conflict),
    // "Wait for the function's State to become Active and try the request again": a look at the function decides.
    Row(Is("CodeArtifactUserPending"), "", Conflict),
    Row(Is("CodeArtifactUserDeleted"), "", Conflict),
    Row(Is("CodeArtifactUserFailed"), "", Conflict),
    Row(Is("SnapStartNotReady"), "", Conflict),
    Row(Is("TooManyRequests"), "", Throttled),
    Row(Is("Throttling"), "", Throttled),
    Row(Is("Throttled"), "", Throttled),
    Row(Is("RequestLimitExceeded"), "", Throttled),
    Row(Is("RequestThrottled"), "", Throttled),
    Row(Is("BandwidthLimitExceeded"), "", Throttled),
    Row(Is("PriorRequestNotComplete"), "", Throttled),
    Row(Is("SlowDown"), "", Throttled),
    // CloudWatch Logs uses it for too many groups as well as, in some operations, for too many calls.
    Row(Is("LimitExceeded"), "rate", Throttled),
    Row(Is("AccessDenied"), "", AccessDenied),
    Row(Is("NotAuthorized"), "", AccessDenied),
    Row(Is("UnauthorizedOperation"), "", AccessDenied),
    Row(Is("UnrecognizedClient"), "", Credentials),
    Row(Is("InvalidSignature"), "", Credentials),
    Row(Is("SignatureDoesNotMatch"), "", Credentials),
    Row(Is("ExpiredToken"), "", Credentials),
    Row(Is("RequestExpired"), "", Credentials),
    Row(Is("RequestTimeTooSkewed"), "", Credentials),
    Row(Is("MissingAuthenticationToken"), "", Credentials),
    Row(Is("IncompleteSignature"), "", Credentials),
    Row(Is("InvalidClientTokenId"), "", Credentials),
    Row(Is("InvalidAccessKeyId"), "", Credentials),
    Row(Is("AuthFailure"), "", Credentials),
    // Conditions that pass, or that somebody may be mending: a new role, a new policy, EC2's rate limit, a new key.
    Row(Is("InvalidParameterValue"), "cannot be assumed by lambda", RoleNotReady),
    Row(Is("InvalidParameterValue"), "does not have permissions to call", DependencyNotReady),
    Row(Is("InvalidParameterValue"), "throttled by ec2", DependencyNotReady),
    Row(Is("InvalidParameterValue"), "kms key is invalid for creategrant", DependencyNotReady),
    // The repository's policy, not the request: it can be mended while the container stays as it is.
    Row(Is("InvalidParameterValue"), "permission to access the ecr image", AccessDenied),
    Row(Is("InvalidParameterValue"), "source image*does not exist", ImageNotFound),
    Row(Is("InvalidParameterValue"), "", InvalidParameter),
    Row(Is("InvalidParameter"), "", InvalidParameter),
    Row(Is("InvalidRequestContent"), "", InvalidParameter),
    Row(Is("Validation"), "", InvalidParameter),
    Row(Is("ValidationError"), "", InvalidParameter),
    Row(Is("RequestTooLarge"), "", TooLarge),
    Row(Is("RequestEntityTooLarge"), "", TooLarge),
    Row(Is("SerializedRequestEntityTooLarge"), "", TooLarge),
    // Invoke, when no environment can be made: nothing ran. Ids in a container's configuration that are wrong stay wrong.
    Row(Is("InvalidSubnetID"), "", InvalidParameter),
    Row(Is("InvalidSecurityGroupID"), "", InvalidParameter),
    Row(Is("InvalidRuntime"), "", InvalidParameter),
    Row(Is("InvalidZipFile"), "", InvalidParameter),
    // The state of a key does not change by itself; it can be changed by its owner, and then a new start helps.
    Row(Is("KMSDisabled"), "", Refused),
    Row(Is("KMSNotFound"), "", Refused),
    Row(Is("KMSInvalidState"), "", Refused),
    // Rights take a while to become visible, as a role does.
    Row(Is("KMSAccessDenied"), "", DependencyNotReady),
    Row(Is("EC2AccessDenied"), "", DependencyNotReady),
    // Shortages and failures of others, which pass.
    Row(BeginsWith("EC2"), "", EnvironmentNotReady),
    Row(BeginsWith("ENI"), "", EnvironmentNotReady),
    Row(BeginsWith("EFSMount"), "", EnvironmentNotReady),
    Row(BeginsWith("S3FilesMount"), "", EnvironmentNotReady),
    Row(Is("SubnetIPAddressLimitReached"), "", EnvironmentNotReady),
    Row(Is("ServiceQuotaExceeded"), "", EnvironmentNotReady),
    // Reading or writing the file system: that can also happen to a function that runs.
    Row(Is("EFSIO"), "", ServiceError),
];

/// What a code with its message means; `None`: the status decides.
pub(super) fn kind_of_code(code: &str, message: &str) -> Option<AwsErrorKind> {
    row_of(code, message).map(|Row(.., kind)| *kind)
}

fn row_of(code: &str, message: &str) -> Option<&'static Row> {
    let code = code.strip_suffix("Exception").unwrap_or(code);
    let message = message.to_ascii_lowercase();
    TABLE.iter().find(|row| row.fits(code, &message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS's own words, where the message decides.
    const WORDS: &[(&str, &str, AwsErrorKind)] = &[
        (
            "InvalidParameterValueException",
            "The role defined for the function cannot be assumed by Lambda.",
            RoleNotReady,
        ),
        (
            "InvalidParameterValueException",
            "The provided execution role does not have permissions to call CreateNetworkInterface on EC2",
            DependencyNotReady,
        ),
        (
            "InvalidParameterValueException",
            "Your request has been throttled by EC2, please make sure you have enough API rate limit. EC2 Error Code: \
             RequestLimitExceeded.",
            DependencyNotReady,
        ),
        (
            "InvalidParameterValueException",
            "Lambda was unable to configure access to your environment variables because the KMS key is invalid for \
             CreateGrant. Please check your KMS key settings. KMS Exception: InvalidArnException",
            DependencyNotReady,
        ),
        (
            "InvalidParameterValueException",
            "Lambda does not have permission to access the ECR image. Check the ECR permissions.",
            AccessDenied,
        ),
        (
            "InvalidParameterValueException",
            "Source image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1 does not exist. Provide a valid source image.",
            ImageNotFound,
        ),
        ("InvalidParameterValueException", "The image manifest is not supported", InvalidParameter),
        ("LimitExceededException", "Rate exceeded", Throttled),
    ];

    /// The other exceptions of the operations that we call, and the common errors.
    const CODES: &[(&str, Option<AwsErrorKind>)] = &[
        ("ResourceNotFoundException", Some(NotFound)),
        ("ResourceConflictException", Some(Conflict)),
        ("ResourceNotReadyException", Some(Conflict)),
        ("ResourceAlreadyExistsException", Some(Conflict)),
        ("OperationAbortedException", Some(Conflict)),
        ("CodeArtifactUserPendingException", Some(Conflict)),
        ("CodeArtifactUserDeletedException", Some(Conflict)),
        ("CodeArtifactUserFailedException", Some(Conflict)),
        ("SnapStartNotReadyException", Some(Conflict)),
        ("TooManyRequestsException", Some(Throttled)),
        ("ThrottlingException", Some(Throttled)),
        ("ThrottledException", Some(Throttled)),
        ("RequestLimitExceeded", Some(Throttled)),
        ("RequestThrottled", Some(Throttled)),
        ("RequestThrottledException", Some(Throttled)),
        ("BandwidthLimitExceeded", Some(Throttled)),
        ("PriorRequestNotComplete", Some(Throttled)),
        ("SlowDown", Some(Throttled)),
        ("LimitExceededException", None),
        ("AccessDeniedException", Some(AccessDenied)),
        ("NotAuthorized", Some(AccessDenied)),
        ("UnauthorizedOperation", Some(AccessDenied)),
        ("UnrecognizedClientException", Some(Credentials)),
        ("InvalidSignatureException", Some(Credentials)),
        ("SignatureDoesNotMatch", Some(Credentials)),
        ("ExpiredTokenException", Some(Credentials)),
        ("RequestExpired", Some(Credentials)),
        ("RequestTimeTooSkewed", Some(Credentials)),
        ("MissingAuthenticationToken", Some(Credentials)),
        ("IncompleteSignature", Some(Credentials)),
        ("InvalidClientTokenId", Some(Credentials)),
        ("InvalidAccessKeyId", Some(Credentials)),
        ("AuthFailure", Some(Credentials)),
        ("InvalidParameterException", Some(InvalidParameter)),
        ("InvalidRequestContentException", Some(InvalidParameter)),
        ("ValidationException", Some(InvalidParameter)),
        ("ValidationError", Some(InvalidParameter)),
        ("RequestTooLargeException", Some(TooLarge)),
        ("RequestEntityTooLargeException", Some(TooLarge)),
        ("SerializedRequestEntityTooLargeException", Some(TooLarge)),
        ("InvalidSubnetIDException", Some(InvalidParameter)),
        ("InvalidSecurityGroupIDException", Some(InvalidParameter)),
        ("InvalidRuntimeException", Some(InvalidParameter)),
        ("InvalidZipFileException", Some(InvalidParameter)),
        ("KMSDisabledException", Some(Refused)),
        ("KMSNotFoundException", Some(Refused)),
        ("KMSInvalidStateException", Some(Refused)),
        ("KMSAccessDeniedException", Some(DependencyNotReady)),
        ("EC2AccessDeniedException", Some(DependencyNotReady)),
        ("EC2ThrottledException", Some(EnvironmentNotReady)),
        ("EC2UnexpectedException", Some(EnvironmentNotReady)),
        ("ENILimitReachedException", Some(EnvironmentNotReady)),
        ("ENINotReadyException", Some(EnvironmentNotReady)),
        ("EFSMountConnectivityException", Some(EnvironmentNotReady)),
        ("EFSMountFailureException", Some(EnvironmentNotReady)),
        ("EFSMountTimeoutException", Some(EnvironmentNotReady)),
        ("S3FilesMountConnectivityException", Some(EnvironmentNotReady)),
        ("S3FilesMountFailureException", Some(EnvironmentNotReady)),
        ("S3FilesMountTimeoutException", Some(EnvironmentNotReady)),
        ("SubnetIPAddressLimitReachedException", Some(EnvironmentNotReady)),
        ("ServiceQuotaExceededException", Some(EnvironmentNotReady)),
        ("EFSIOException", Some(ServiceError)),
        // By their status: nothing of ours depends on them.
        ("CodeSigningConfigNotFoundException", None),
        ("CodeStorageExceededException", None),
        ("CodeVerificationFailedException", None),
        ("DurableExecutionAlreadyStartedException", None),
        ("FunctionVersionsPerCapacityProviderLimitExceededException", None),
        ("InvalidCodeSignatureException", None),
        ("ModeNotSupportedException", None),
        ("NoPublishedVersionException", None),
        ("PreconditionFailedException", None),
        ("RecursiveInvocationException", None),
        ("ServiceException", None),
        ("ServiceUnavailableException", None),
        ("SnapStartException", None),
        ("SnapStartRegenerationFailureException", None),
        ("SnapStartTimeoutException", None),
        ("UnsupportedMediaTypeException", None),
    ];

    #[test]
    fn each_message_and_code_has_its_kind() {
        for (code, message, kind) in WORDS {
            assert_eq!(kind_of_code(code, message), Some(*kind), "{code}: {message}");
        }
        for (code, kind) in CODES {
            assert_eq!(kind_of_code(code, ""), *kind, "{code}");
        }
    }

    #[test]
    fn each_row_of_the_table_has_a_test() {
        let tried = WORDS.iter().map(|(code, message, _)| (*code, *message)).chain(CODES.iter().map(|(c, _)| (*c, "")));
        let hit: Vec<*const Row> =
            tried.filter_map(|(code, text)| row_of(code, text)).map(std::ptr::from_ref).collect();
        let missed = TABLE.iter().filter(|row| !hit.contains(&std::ptr::from_ref(*row)));
        let missed: Vec<_> = missed.map(|Row(Is(code) | BeginsWith(code), message, _)| (code, message)).collect();
        assert!(missed.is_empty(), "no test for {missed:?}");
    }
}
