//! Whose database is this?
//!
//! A database is a file: it can be copied, and restored from a backup. Two daemons that believe in the same rows would
//! invoke the same runs twice and delete each other's functions. So each start takes the next epoch and claims it in
//! AWS by creating the log stream `INSTANCE/EPOCH`, which only one can do. Who finds its epoch taken, or a higher one,
//! serves reads and changes nothing until it is started with `--adopt`.
//!
//! The epoch cannot show what was lost since it was taken. The store counts its own commits for that; a doubt of it
//! weighs as much as a lost epoch, and so does a row of the instance that cannot be read, its binding included.
//!
//! # Assumptions
//! - Only daemons write to the claims group: no function's role may. A principal that can write there can take the database away, by
//!   a claim that looks like any other.
//!
//! # Guarantees
//! - A stream whose name no daemon writes, or whose epoch none can have reached, is an alarm and nothing else: it neither
//!   takes the database away nor is it adopted, and no number of them keeps the claims from being read.

use crate::aws::{AwsError, AwsErrorKind, Cloud, StreamNames};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::health::{Check, Health};
use crate::state::{Facts, Instance, MAX_EPOCH, StateError};
use crate::telemetry;

/// Digits of the epoch in a claim's name, with zeros in front: enough for any u64, so that names are in the order of
/// their epochs.
const EPOCH_DIGITS: usize = 20;
/// How far above ours an epoch may be. Each start of a daemon takes one: at one start a second this is thirty years.
const MAX_EPOCH_JUMP: u64 = 1_000_000_000;
/// Pages that are read for the highest claim where the first page has none, 50 names each.
const MAX_PAGES: usize = 10;
/// Characters of a foreign stream's name in messages.
const MAX_SHOWN: usize = 80;

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
    /// The database belongs to another prefix, region, account or claims group.
    #[error("{0}")]
    Bound(String),
    /// The credentials are another account's than the role and the database.
    #[error(
        "the credentials are of the account {credentials}, role_arn is of the account {role}: give credentials of the \
         role's account"
    )]
    Account {
        /// The account in which AWS looks for us.
        credentials: String,
        /// The account of the role.
        role: String,
    },
}

/// Where the claim is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant<'a> {
    /// The store.
    pub(crate) facts: &'a Facts,
    /// AWS.
    pub(crate) cloud: &'a Cloud,
    /// Where forged claims are reported.
    pub(crate) health: &'a Health,
    /// The log groups, and whether a database is taken into use even if the claim was lost.
    pub(crate) config: &'a Config,
}

impl Claimant<'_> {
    /// Takes the next epoch and claims it. After an error the epoch is given up, because its stream may exist.
    ///
    /// Nothing is changed in AWS before it is known that the claim was not lost before, and a claim that is lost leaves the
    /// database's epoch below the winner's: however often the daemon is started again, it stays lost until `--adopt`. The
    /// database is bound to prefix, region, account and claims group before its first claim; adoption changes only what cannot
    /// be read of that.
    pub(crate) async fn claim(&self, now: Timestamp) -> Result<Claim, ClaimError> {
        let binding = self.config.binding();
        if let Some(conflict) = self.facts.readable_binding(&binding).await?.conflict(&binding) {
            return Err(ClaimError::Bound(conflict));
        }
        let known = self.facts.instance().await?;
        let claims = Claims { cloud: self.cloud, config: self.config, health: self.health, instance: &known.id };
        let highest = claims.look(known.epoch).await?.highest();
        let reason = reason_against(&known, highest);
        match &reason {
            Some(why) if !self.config.adopt => return Ok(Claim::Lost { why: why.clone() }),
            Some(why) => tracing::warn!(why, "the database is adopted"),
            None => {}
        }
        self.make_groups().await?;
        let bound = match reason {
            Some(_) => self.facts.mend_binding(binding.clone()).await?,
            None => self.facts.bind(binding.clone()).await?,
        };
        if let Some(conflict) = bound.conflict(&binding) {
            return Err(ClaimError::Bound(conflict));
        }
        let instance = match reason {
            Some(_) => self.facts.adopt(highest, now).await?,
            None => self.facts.next_epoch().await?,
        };
        if !claims.create(instance.epoch).await? {
            self.facts.give_epoch_back().await?;
            return Ok(Claim::Lost { why: claimed(instance.epoch) });
        }
        // The list before may have been an old one, and the streams of epochs between are deleted: whoever makes one of
        // those again sees now that others have gone on.
        let seen = claims.look(instance.epoch).await?;
        let highest = seen.highest();
        if highest > instance.epoch {
            return Ok(Claim::Lost { why: claimed(highest) });
        }
        claims.forget_older(&seen, instance.epoch).await;
        Ok(Claim::Held(instance))
    }

    /// Makes both log groups exist. The claims group's ARN shows in whose account that was: claims in another one would
    /// hide those of this database, and its functions with them.
    async fn make_groups(&self) -> Result<(), ClaimError> {
        let Config { log_group, claims_log_group, log_retention_days, .. } = self.config;
        let arn = match self.cloud.ensure_log_group(claims_log_group, None).await? {
            Some(arn) => Some(arn),
            None => self.cloud.log_group_arn(claims_log_group).await?,
        };
        check_account(self.config, arn.as_deref())?;
        self.cloud.ensure_log_group(log_group, *log_retention_days).await?;
        Ok(())
    }
}

/// Refuses credentials of another account than the role's, by the ARN of a log group that they show. In the embedded
/// sandbox every role is of its account.
pub(super) fn check_account(config: &Config, arn: Option<&str>) -> Result<(), ClaimError> {
    match (arn.and_then(account_of), account_of(&config.role_arn)) {
        (Some(credentials), Some(role)) if credentials != role && !config.sandbox => {
            Err(ClaimError::Account { credentials: credentials.to_owned(), role: role.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The claims of one instance in AWS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims<'a> {
    /// AWS.
    pub(crate) cloud: &'a Cloud,
    /// Names the claims group.
    pub(crate) config: &'a Config,
    /// Where forged claims are reported.
    pub(crate) health: &'a Health,
    /// The instance's id.
    pub(crate) instance: &'a str,
}

impl Claims<'_> {
    /// Reads the claims that a daemon can have made whose epoch was `own` when it last looked. Streams that are no claims
    /// are logged, counted and shown by the check `claims`.
    ///
    /// Streams are read from the last name to the first, so the first claim is the highest. Where a whole page of other
    /// streams comes before it, the names with the leading digits of all possible epochs are read instead: what is forged
    /// has other digits, or none.
    pub(crate) async fn look(&self, own: u64) -> Result<Seen, AwsError> {
        let first = self.names(&format!("{}/", self.instance), 1, own).await?;
        let mut seen = Seen::of(&first.names, self.instance, own);
        if seen.epochs.is_empty() && !first.complete {
            let near = self.names(&near(self.instance, own), MAX_PAGES, own).await?;
            seen.epochs = Seen::of(&near.names, self.instance, own).epochs;
            seen.hidden = seen.epochs.is_empty() && !near.complete;
        }
        self.report(&seen, own);
        Ok(seen)
    }

    /// Creates the claim of an epoch. Returns false if it exists already.
    pub(crate) async fn create(&self, epoch: u64) -> Result<bool, AwsError> {
        self.cloud.create_log_stream(&self.config.claims_log_group, &stream(self.instance, epoch)).await
    }

    /// Creates the claim of an epoch again where it is missing, the group included. Returns whether it was.
    pub(super) async fn renew(&self, epoch: u64) -> Result<bool, AwsError> {
        self.cloud.ensure_log_group(&self.config.claims_log_group, None).await?;
        self.create(epoch).await
    }

    /// Names of streams, the last first, up to the first claim. A group that does not exist has none.
    async fn names(&self, prefix: &str, pages: usize, own: u64) -> Result<StreamNames, AwsError> {
        let has_claim = |names: &[String]| !Seen::of(names, self.instance, own).epochs.is_empty();
        let group = &self.config.claims_log_group;
        match self.cloud.log_streams_descending(group, prefix, pages, has_claim).await {
            Err(error) if error.kind == AwsErrorKind::NotFound => {
                Ok(StreamNames { complete: true, ..StreamNames::default() })
            }
            answer => answer,
        }
    }

    fn report(&self, seen: &Seen, own: u64) {
        metrics::gauge!(telemetry::FORGED_CLAIMS).set(f64::from(u32::try_from(seen.forged).unwrap_or(u32::MAX)));
        match seen.alarm(&self.config.claims_log_group, own) {
            None => self.health.pass(Check::Claims),
            Some(alarm) => {
                tracing::error!(alarm, forged = seen.forged, "claims are forged");
                self.health.fail(Check::Claims, alarm);
            }
        }
    }

    /// The claims before ours mean nothing any more. Leaving one behind is harmless.
    async fn forget_older(&self, seen: &Seen, own: u64) {
        for epoch in seen.epochs.iter().filter(|epoch| **epoch < own) {
            let stream = stream(self.instance, *epoch);
            if let Err(error) = self.cloud.delete_log_stream(&self.config.claims_log_group, &stream).await {
                tracing::debug!(%error, stream, "an older claim could not be deleted");
            }
        }
    }
}

/// What was read of an instance's claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The epochs that daemons can have claimed.
    epochs: Vec<u64>,
    /// How many streams are no claims.
    forged: usize,
    /// The name of the first of them.
    example: Option<String>,
    /// There are so many of them among the possible epochs that a claim may not have been found.
    hidden: bool,
}

impl Seen {
    /// What names of streams say to a daemon whose epoch is `own`.
    fn of(names: &[String], instance: &str, own: u64) -> Self {
        let mut seen = Self::default();
        for name in names {
            match epoch_of(name, instance).filter(|epoch| is_possible(*epoch, own)) {
                Some(epoch) => seen.epochs.push(epoch),
                None => {
                    seen.forged = seen.forged.saturating_add(1);
                    seen.example.get_or_insert_with(|| name.clone());
                }
            }
        }
        seen
    }

    /// The highest epoch that was claimed; 0: none.
    pub(crate) fn highest(&self) -> u64 {
        self.epochs.iter().copied().max().unwrap_or(0)
    }

    /// What is wrong in the claims group, and what to do.
    fn alarm(&self, group: &str, own: u64) -> Option<String> {
        let name: String = self.example.as_deref()?.chars().take(MAX_SHOWN).collect();
        let hidden = if self.hidden { "; they may hide the claim of another daemon" } else { "" };
        Some(format!(
            "the log group {group} has streams that no daemon makes, such as {name:?} (this database's epoch is {own})\
             {hidden}: find out who may create streams there, take that right away, and delete them"
        ))
    }
}

/// Why this database must not go on as if it were the one that has made its functions. PURE.
fn reason_against(instance: &Instance, highest: u64) -> Option<String> {
    if highest > instance.epoch { Some(claimed(highest)) } else { instance.doubt.clone() }
}

fn claimed(epoch: u64) -> String {
    format!("epoch {epoch} was claimed by another daemon")
}

/// What is reported when the claim is lost.
pub(crate) fn lost(why: &str) -> String {
    format!(
        "this database is a copy or a restored backup ({why}): nothing in AWS is changed until the daemon is started with \
         --adopt"
    )
}

/// Whether a daemon on a copy of this database can have reached an epoch. The last one is none: nothing could follow it.
fn is_possible(epoch: u64, own: u64) -> bool {
    epoch < MAX_EPOCH && epoch <= own.saturating_add(MAX_EPOCH_JUMP)
}

fn stream(instance: &str, epoch: u64) -> String {
    format!("{instance}/{epoch:0EPOCH_DIGITS$}")
}

/// What the names of all claims from `own` up to the highest possible one begin with.
fn near(instance: &str, own: u64) -> String {
    let (low, high) = (stream(instance, own), stream(instance, own.saturating_add(MAX_EPOCH_JUMP)));
    low.chars().zip(high.chars()).take_while(|(low, high)| low == high).map(|(digit, _)| digit).collect()
}

/// The epoch of a claim; `None`: a daemon never writes this name.
fn epoch_of(stream: &str, instance: &str) -> Option<u64> {
    let digits = stream.strip_prefix(instance)?.strip_prefix('/')?;
    let is_number = digits.len() == EPOCH_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|epoch| is_number && *epoch > 0)
}

/// The account of an ARN.
fn account_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(4).filter(|account| !account.is_empty())
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
    fn claim_name_round_trips_in_the_order_of_epochs() {
        let epochs = [1, 7, 9, 10, 4_096, u64::from(u32::MAX), MAX_EPOCH - 1, MAX_EPOCH, u64::MAX];
        let names: Vec<String> = epochs.iter().map(|epoch| stream("0a1b", *epoch)).collect();
        assert_eq!(names[1], "0a1b/00000000000000000007");
        assert!(names.is_sorted());
        for (epoch, name) in epochs.iter().zip(&names) {
            assert_eq!(epoch_of(name, "0a1b"), Some(*epoch));
        }
    }

    #[test]
    fn garbage_names_are_not_claims() {
        let garbage = [
            "abc",
            "-1",
            "+7",
            "7",
            "007",
            "",
            "0000000000000000000x",
            "00000000000000000000",
            "+0000000000000000007",
            "-0000000000000000007",
            "000000000000000000007",
            "18446744073709551616",
            "99999999999999999999",
            "0000000000000000 007",
            "00000000000000000007\n",
            "00000000000000000007/1",
            // 20 digits of another script, and 20 bytes that end in one.
            "\u{0660}\u{0660}\u{0660}\u{0660}\u{0660}\u{0660}\u{0660}\u{0660}\u{0660}\u{0667}",
            "000000000000000000\u{0667}",
        ];
        for name in garbage {
            assert_eq!(epoch_of(&format!("0a1b/{name}"), "0a1b"), None, "{name:?}");
        }
        for name in ["0a1b00000000000000000007", "0a1bc/00000000000000000007", "2026/11/23/f[$LATEST]0", "0a1b", ""] {
            assert_eq!(epoch_of(name, "0a1b"), None, "{name:?}");
        }
    }

    #[test]
    fn epoch_is_possible_up_to_the_jump_and_never_the_last() {
        for (epoch, own, expected) in [
            (1, 0, true),
            (7, 7, true),
            (7, 9, true),
            (7 + MAX_EPOCH_JUMP, 7, true),
            (8 + MAX_EPOCH_JUMP, 7, false),
            (MAX_EPOCH - 1, MAX_EPOCH - 2, true),
            (MAX_EPOCH, MAX_EPOCH - 1, false),
            (MAX_EPOCH + 1, MAX_EPOCH, false),
            (u64::MAX, 7, false),
            (u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(is_possible(epoch, own), expected, "{epoch} above {own}");
        }
    }

    /// Every possible epoch from ours on is below the prefix that is searched when others hide it.
    #[test]
    fn near_is_the_beginning_of_every_possible_claim() {
        for own in [0, 1, 999_999_999, 9_999_999_999, 12_345_678_901, MAX_EPOCH - 1, MAX_EPOCH, u64::MAX] {
            let near = near("0a1b", own);
            assert!(near.starts_with("0a1b/"), "{near}");
            for epoch in [own, own.saturating_add(1), own.saturating_add(MAX_EPOCH_JUMP)] {
                assert!(stream("0a1b", epoch).starts_with(&near), "{epoch} of {own}: {near}");
            }
        }
        assert_eq!(near("0a1b", 7), "0a1b/0000000000");
    }

    #[test]
    fn alarm_shows_a_bounded_name_on_one_line() {
        let names = [format!("0a1b/{}\n", "x".repeat(500)), stream("0a1b", u64::MAX)];
        let seen = Seen::of(&names, "0a1b", 7);
        assert_eq!((seen.highest(), seen.forged), (0, 2));
        let alarm = seen.alarm("/claims", 7).unwrap();
        assert!(alarm.len() < 400 && !alarm.contains('\n'), "{alarm}");
        assert_eq!(Seen::of(&[stream("0a1b", 7)], "0a1b", 7).alarm("/claims", 7), None);
    }
}
