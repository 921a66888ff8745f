//! What a function's `StateReasonCode`, or its `LastUpdateStatusReasonCode`, means when the function or its last update has
//! failed: whether making it again can help, and who must
//! do something first. PURE.
//!
//! The codes are an open set: AWS adds to them. A code that is not in the table is tried again for a bounded number of
//! functions, then reported.

use std::time::Duration;

use super::schedule::Schedule;
use crate::clock::Timestamp;
use crate::state::model::{Failure, FailureKind, Retry, Status};

/// Pauses between functions of one container that failed. Making one takes two control-plane calls of a quota that the whole
/// account shares, and Lambda some seconds to a minute: so the pause begins longer than that of a single call.
pub(crate) const FAILED_FUNCTIONS: Schedule =
    Schedule { first: Duration::from_secs(5), most: Duration::from_secs(300) };
/// Functions that are made for one start while something has to be mended first, or while the reason is unknown to us:
/// with the pauses above at least five minutes, as long as rights take to be mended and to become visible.
pub(crate) const BOUNDED_ATTEMPTS: u32 = 7;

/// What can make a function of the same container active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Time: a shortage, or a fault of AWS's own. Made again with growing pauses, for as long as a run is wanted.
    Time,
    /// Time, or somebody who is mending it. Made again [`BOUNDED_ATTEMPTS`] times at most, then reported.
    TimeOrMending,
    /// Somebody must do something outside the container. Reported at once; the next start makes it again.
    Mending,
    /// Another container: what is wrong is frozen in this one's settings. Reported at once; starts are refused.
    NewContainer,
}

/// The table. Reasons beside the codes.
#[must_use]
pub(crate) fn remedy(code: &str) -> Remedy {
    match code {
        // Shortages: network interfaces, addresses, EC2's rate limit and capacity, quotas. They pass when others let go.
        "EniLimitExceeded"
        | "SubnetOutOfIPAddresses"
        | "EC2RequestLimitExceeded"
        | "InsufficientCapacity"
        | "VcpuLimitExceeded"
        | "CapacityProviderScalingLimitExceeded"
        | "ServiceQuotaExceededException"
        // Faults of AWS's own.
        | "InternalError"
        | "DependencyError" => Remedy::Time,
        // Rights take a minute to become visible, and may be on their way; file systems may be restarting.
        "InsufficientRolePermissions"
        | "KMSKeyAccessDenied"
        | "EFSIOError"
        | "EFSMountConnectivityError"
        | "EFSMountFailure"
        | "EFSMountTimeout" => Remedy::TimeOrMending,
        // The image: its tag can be pushed again, its repository's policy be changed.
        "ImageDeleted" | "ImageAccessDenied" | "InvalidImage"
        // Keys can be enabled or restored, a VPC's encryption control be changed.
        | "DisabledKMSKey"
        | "InvalidStateKMSKey"
        | "KMSKeyNotFound"
        | "DisallowedByVpcEncryptionControl" => Remedy::Mending,
        // What the image's program does while it is initialised: the tag can be pushed again.
        code if code == "FunctionError" || code.starts_with("FunctionError.") => Remedy::Mending,
        // Ids and settings that this container has for good: AWS never gives the id of a deleted subnet or group again.
        "InvalidSubnet" | "InvalidSecurityGroup" | "InvalidRuntime" | "InvalidZipFileException" => Remedy::NewContainer,
        _ => Remedy::TimeOrMending,
    }
}

/// Folds a function that failed into the facts. The same function is counted once, however often it is seen.
pub(super) fn learn_failed(now: Timestamp, status: &mut Status, code: &str, reason: &str) {
    let made_at = Some(status.create_sent_at.unwrap_or_default());
    let failures = &mut status.function_failures;
    if failures.counted_for == made_at {
        return;
    }
    failures.counted_for = made_at;
    failures.count = failures.count.saturating_add(1);
    let remedy = remedy(code);
    let is_final = match remedy {
        Remedy::Time => false,
        Remedy::TimeOrMending => failures.count >= BOUNDED_ATTEMPTS,
        Remedy::Mending | Remedy::NewContainer => true,
    };
    let kind = match remedy {
        Remedy::NewContainer => FailureKind::InvalidParameter,
        Remedy::Time | Remedy::TimeOrMending | Remedy::Mending => FailureKind::FunctionFailed,
    };
    status.retry = Retry {
        attempts: failures.count,
        since: Some(now),
        not_before: (!is_final).then(|| now.after(FAILED_FUNCTIONS.ceiling(failures.count))),
        failure: Some(Failure {
            kind,
            action: "CreateFunction".to_owned(),
            message: format!("lambda: the function failed: {reason} ({code})"),
            request_id: None,
            at: now,
            terminal_for: is_final.then_some(status.observed_generation),
        }),
        ..Retry::default()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_remedy() {
        use Remedy::{Mending, NewContainer, Time, TimeOrMending};
        for (code, expected) in [
            ("EniLimitExceeded", Time),
            ("SubnetOutOfIPAddresses", Time),
            ("EC2RequestLimitExceeded", Time),
            ("InsufficientCapacity", Time),
            ("VcpuLimitExceeded", Time),
            ("CapacityProviderScalingLimitExceeded", Time),
            ("ServiceQuotaExceededException", Time),
            ("InternalError", Time),
            ("DependencyError", Time),
            ("InsufficientRolePermissions", TimeOrMending),
            ("KMSKeyAccessDenied", TimeOrMending),
            ("EFSIOError", TimeOrMending),
            ("EFSMountConnectivityError", TimeOrMending),
            ("EFSMountFailure", TimeOrMending),
            ("EFSMountTimeout", TimeOrMending),
            ("ImageDeleted", Mending),
            ("ImageAccessDenied", Mending),
            ("InvalidImage", Mending),
            ("DisabledKMSKey", Mending),
            ("InvalidStateKMSKey", Mending),
            ("KMSKeyNotFound", Mending),
            ("DisallowedByVpcEncryptionControl", Mending),
            ("FunctionError", Mending),
            ("FunctionError.InvalidEntryPoint", Mending),
            ("FunctionError.SomethingNew", Mending),
            ("InvalidSubnet", NewContainer),
            ("InvalidSecurityGroup", NewContainer),
            ("InvalidRuntime", NewContainer),
            ("InvalidZipFileException", NewContainer),
            ("InvalidConfiguration", TimeOrMending),
            ("FunctionErrors", TimeOrMending),
            ("SomethingNew", TimeOrMending),
            ("", TimeOrMending),
        ] {
            assert_eq!(remedy(code), expected, "{code:?}");
        }
    }

    #[test]
    fn the_bounded_attempts_take_at_least_five_minutes() {
        let pauses: Duration = (1..BOUNDED_ATTEMPTS).map(|count| FAILED_FUNCTIONS.ceiling(count)).sum();
        assert!(pauses >= Duration::from_secs(300), "{pauses:?}");
    }
}
