//! Whose database is this?
//!
//! A database is a file: it can be copied, and restored from a backup. Two daemons that believe in the same rows would
//! invoke the same wishes twice and delete each other's functions. So each start takes the next epoch and claims it in
//! AWS by creating the log stream `INSTANCE/EPOCH`, which only one can do. Who finds its epoch taken, or a higher one,
//! serves reads and changes nothing until it is told to adopt.
//!
//! The epoch cannot tell what was lost since it was taken. The store counts its own commits for that; a doubt of it
//! weighs as much as a lost epoch.

use crate::aws::{AwsError, AwsErrorKind, Cloud};
use crate::clock::Timestamp;
use crate::state::{Facts, Instance, StateError};

/// The result of a claim.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The epoch is ours.
    Held(Instance),
    /// This is a copy or a restored backup.
    Lost {
        /// How that is known.
        why: String,
    },
}

/// Why no claim could be made now. It is tried again, with the next epoch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// AWS failed.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The store failed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Where the claim is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant<'a> {
    /// The store.
    pub(crate) facts: &'a Facts,
    /// AWS.
    pub(crate) cloud: &'a Cloud,
    /// The log group with the claims; made if it is missing.
    pub(crate) log_group: &'a str,
    /// How long the group's events are kept.
    pub(crate) log_retention_days: Option<u32>,
    /// Takes the database into use even if the claim was lost.
    pub(crate) adopt: bool,
}

impl Claimant<'_> {
    /// Takes the next epoch and claims it. After an error the epoch is given up, because its stream may exist.
    ///
    /// Nothing is changed in AWS before it is known that the claim was not lost before, and a claim that is lost leaves the
    /// database's epoch below the winner's: however often the daemon is started again, it stays lost until it is told to
    /// adopt.
    pub(crate) async fn claim(&self, now: Timestamp) -> Result<Claim, ClaimError> {
        let known = self.facts.instance().await?;
        let highest = highest(self.cloud, self.log_group, &known.id).await?;
        let reason = reason_against(&known, highest);
        match &reason {
            Some(why) if !self.adopt => return Ok(Claim::Lost { why: why.clone() }),
            Some(why) => tracing::warn!(why, "the database is adopted"),
            None => {}
        }
        self.cloud.ensure_log_group(self.log_group, self.log_retention_days).await?;
        let instance = match reason {
            Some(_) => self.facts.adopt(highest, now).await?,
            None => self.facts.next_epoch().await?,
        };
        let stream = stream(&instance.id, instance.epoch);
        if !self.cloud.create_log_stream(self.log_group, &stream).await? {
            self.facts.give_epoch_back().await?;
            return Ok(Claim::Lost { why: claimed(instance.epoch) });
        }
        // The list before may have been an old one, and the streams of epochs between are deleted: whoever makes one of
        // those again sees now that others have gone on.
        let streams = self.cloud.log_streams(self.log_group, &prefix(&instance.id)).await?;
        let highest = highest_in(&streams, &instance.id);
        if highest > instance.epoch {
            return Ok(Claim::Lost { why: claimed(highest) });
        }
        self.forget_older(&instance, &streams).await;
        Ok(Claim::Held(instance))
    }

    /// The claims before ours mean nothing any more. Leaving one behind is harmless.
    async fn forget_older(&self, instance: &Instance, streams: &[String]) {
        for stream in streams {
            if epoch_of(stream, &instance.id).is_some_and(|epoch| epoch < instance.epoch)
                && let Err(error) = self.cloud.delete_log_stream(self.log_group, stream).await
            {
                tracing::debug!(%error, stream, "an older claim could not be deleted");
            }
        }
    }
}

/// Why this database must not go on as if it were the one that has made its functions. PURE.
fn reason_against(instance: &Instance, highest: u64) -> Option<String> {
    if highest > instance.epoch { Some(claimed(highest)) } else { instance.doubt.clone() }
}

fn claimed(epoch: u64) -> String {
    format!("epoch {epoch} was claimed by another daemon")
}

/// The highest epoch that was claimed for an instance; 0: none, as without the group there are no claims.
pub(crate) async fn highest(cloud: &Cloud, log_group: &str, instance: &str) -> Result<u64, AwsError> {
    match cloud.log_streams(log_group, &prefix(instance)).await {
        Ok(streams) => Ok(highest_in(&streams, instance)),
        Err(error) if error.kind == AwsErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Makes the claim of an epoch again where it is missing. Returns whether it was.
pub(super) async fn renew(
    cloud: &Cloud,
    log_group: &str,
    retention_days: Option<u32>,
    instance: &str,
    epoch: u64,
) -> Result<bool, AwsError> {
    cloud.ensure_log_group(log_group, retention_days).await?;
    cloud.create_log_stream(log_group, &stream(instance, epoch)).await
}

fn highest_in(streams: &[String], instance: &str) -> u64 {
    streams.iter().filter_map(|stream| epoch_of(stream, instance)).max().unwrap_or(0)
}

/// What is told when the claim is lost.
pub(crate) fn lost(why: &str) -> String {
    format!(
        "this database is a copy or a restored backup ({why}): nothing in AWS is changed until the daemon is started with \
         --adopt"
    )
}

fn prefix(instance: &str) -> String {
    format!("{instance}/")
}

fn stream(instance: &str, epoch: u64) -> String {
    format!("{instance}/{epoch}")
}

fn epoch_of(stream: &str, instance: &str) -> Option<u64> {
    stream.strip_prefix(instance)?.strip_prefix('/')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_or_a_doubt_stands_against_it() {
        let instance = |doubt: Option<&str>| Instance {
            id: "0a1b".to_owned(),
            epoch: 7,
            adopted_at: None,
            horizon: None,
            doubt: doubt.map(str::to_owned),
        };
        assert_eq!(reason_against(&instance(None), 7), None);
        let lost = Some("the last ones are lost");
        assert_eq!(reason_against(&instance(lost), 7).as_deref(), lost);
        for highest in [8, 9] {
            let reason = reason_against(&instance(lost), highest).unwrap();
            assert!(reason.contains(&format!("epoch {highest}")), "{reason}");
        }
    }

    #[test]
    fn a_claim_is_a_stream() {
        assert_eq!(stream("0a1b", 7), "0a1b/7");
        assert_eq!(epoch_of("0a1b/7", "0a1b"), Some(7));
        for other in ["0a1b/x", "0a1b7", "2026/11/23/f[$LATEST]0", "0a1bc/7", "0a1b/-1"] {
            assert_eq!(epoch_of(other, "0a1b"), None, "{other}");
        }
    }
}
