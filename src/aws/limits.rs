//! Our share of AWS's quotas. PURE: a bucket is told what time it is, and tells who may go.
//!
//! A bucket has a number of tokens. A call takes one, and a token comes back one period after it was taken; so in no
//! window of one period more calls go than there are tokens.
//!
//! Calls stand in three lines. [`Lane::User`] goes ahead of [`Lane::Retry`], but a retry that has waited for
//! [`RETRY_PATIENCE`] goes ahead of users who came later, so that it is not starved. [`Lane::Housekeeping`] goes when
//! nobody else waits, or when it has waited for [`HOUSEKEEPING_PATIENCE`], and holds at most a part of the tokens at a
//! time, so that a user hardly ever waits for a sweep. Within a line the first to come is the first to go.
//!
//! A token can be reserved for a call that follows soon: it counts as taken from then on, and its period begins when the
//! call is sent.
//!
//! [`Lane::Evidence`] goes ahead of all of them, and holds at most a part of the tokens at a time. As it makes one call after the
//! other, being first in line is not enough for a share: while it is in use one token is kept free for it, and the whole
//! part as soon as one of its calls had to wait. The others have the rest, and everything while it rests.
//!
//! The lines have no limit of their own: whoever waits is a task that exists already, and their number is limited
//! where they are started.

use std::collections::VecDeque;
use std::time::Duration;

/// How long a retry lets users who come later go first.
const RETRY_PATIENCE: Duration = Duration::from_secs(5);

/// How long housekeeping lets everybody else who comes later go first. A sweep of a page a time goes on under any load,
/// and takes a token of this many seconds' worth.
const HOUSEKEEPING_PATIENCE: Duration = Duration::from_secs(10);

/// How long a bucket rests after AWS refused a call without saying for how long.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a bucket rests at most, whatever AWS says: the callers keep their own, longer waits.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Tokens of a bucket, at least: below it, housekeeping's part would be nothing or everything.
const TOKENS_MIN: u32 = 4;

/// Tokens of a bucket, at most.
const TOKENS_MAX: u32 = 1_000;

/// Calls a second, at least, however small our share is.
const RATE_MIN: f64 = 0.01;

/// Housekeeping holds at most one token of this many, at least one.
const TOKENS_PER_HOUSEKEEPING_TOKEN: usize = 3;

/// Evidence holds at most this part of the tokens: three of the five calls a second that FilterLogEvents allows. That reads
/// 3 MB a second of a flooded log, and leaves followers of logs two.
const EVIDENCE_TOKENS: (usize, usize) = (3, 5);

/// Tokens are kept for evidence this many periods after its last call: the informer rests a second between two ticks.
const KEPT_PERIODS: u32 = 2;

/// On whose behalf a call is made; decides who goes first when a quota is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Somebody asked for it and waits.
    User,
    /// It failed before.
    Retry,
    /// Sweeps and upkeep.
    Housekeeping,
    /// The log informer: the end of every run may depend on it.
    Evidence,
}

/// A time on the clock of the bucket's owner, since its start.
pub(super) type Moment = Duration;

/// A place in a bucket's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    lane: Lane,
    number: u64,
}

/// What a bucket answers to a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The token is taken, the ticket is used up.
    Go,
    /// Ask again after this time. It may become earlier, so it is never longer than a period after a pause.
    Wait(Duration),
}

#[derive(Debug)]
struct Taken {
    at: Moment,
    lane: Lane,
}

/// Ordered by urgency, then by number.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    urgency: Moment,
    number: u64,
}

/// A quota and who waits for it.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: usize,
    housekeeping_tokens: usize,
    evidence_tokens: usize,
    period: Duration,
    /// The oldest first.
    taken: VecDeque<Taken>,
    /// Tokens of calls that are not sent yet.
    reserved: usize,
    /// How many of those are housekeeping's.
    reserved_by_housekeeping: usize,
    paused_until: Moment,
    users: VecDeque<Waiting>,
    retries: VecDeque<Waiting>,
    housekeeping: VecDeque<Waiting>,
    evidence: VecDeque<Waiting>,
    /// Until then one token is kept free for evidence.
    kept_until: Moment,
    /// After the one and until the other evidence's whole part is. Not at the time at which that is found out: others may
    /// have gone then because a token was left for those ahead of them.
    part_kept: (Moment, Moment),
    next_number: u64,
}

impl Bucket {
    /// A bucket of this many calls a second. A rate below [`TOKENS_MIN`] gets that many tokens and a longer period.
    pub(super) fn per_second(rate: f64) -> Self {
        let rate = rate.max(RATE_MIN);
        let tokens = (TOKENS_MIN..=TOKENS_MAX).take_while(|n| f64::from(*n) <= rate).last().unwrap_or(TOKENS_MIN);
        let period = Duration::from_secs_f64(f64::from(tokens) / rate);
        let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
        Self {
            tokens,
            housekeeping_tokens: (tokens / TOKENS_PER_HOUSEKEEPING_TOKEN).max(1),
            evidence_tokens: (tokens * EVIDENCE_TOKENS.0 / EVIDENCE_TOKENS.1).max(1),
            period,
            taken: VecDeque::with_capacity(tokens),
            reserved: 0,
            reserved_by_housekeeping: 0,
            paused_until: Moment::ZERO,
            users: VecDeque::new(),
            retries: VecDeque::new(),
            housekeeping: VecDeque::new(),
            evidence: VecDeque::new(),
            kept_until: Moment::ZERO,
            part_kept: (Moment::ZERO, Moment::ZERO),
            next_number: 0,
        }
    }

    /// Stands in line. Every ticket must be asked for until it may go, or leave.
    pub(super) fn enter(&mut self, lane: Lane, now: Moment) -> Ticket {
        let number = self.next_number;
        self.next_number += 1;
        let patience = match lane {
            Lane::User | Lane::Evidence => Duration::ZERO,
            Lane::Retry => RETRY_PATIENCE,
            Lane::Housekeeping => HOUSEKEEPING_PATIENCE,
        };
        self.line_mut(lane).push_back(Waiting { urgency: now + patience, number });
        Ticket { lane, number }
    }

    /// Gives up the place; a ticket that has gone already is none any more.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Some(place) = self.place(ticket) {
            self.line_mut(ticket.lane).remove(place);
        }
    }

    /// Whether it is the ticket's turn. It is when a token is left after all that stand ahead have taken theirs: they
    /// need not have come to take it yet.
    pub(super) fn ask(&mut self, ticket: Ticket, now: Moment) -> Turn {
        let Some(place) = self.place(ticket) else { return Turn::Go };
        self.put_back(now);
        let turn = self.turn_of(ticket.lane, place, now);
        if turn <= now {
            let came = self.line_mut(ticket.lane).remove(place).map(|waiting| waiting.urgency);
            if ticket.lane == Lane::Evidence {
                self.kept_until = now + self.period * KEPT_PERIODS;
                if came.is_some_and(|came| came < now) {
                    let since = if now < self.part_kept.1 { self.part_kept.0 } else { now };
                    self.part_kept = (since, self.kept_until);
                }
            }
            self.taken.push_back(Taken { at: now, lane: ticket.lane });
            return Turn::Go;
        }
        let ask_again = now.max(self.paused_until) + self.period;
        Turn::Wait(turn.min(ask_again) - now)
    }

    /// Takes a token without waiting, for a call that is sent soon; behind all who stand in line. `Err`: none comes free
    /// before so long.
    pub(super) fn reserve(&mut self, lane: Lane, now: Moment) -> Result<(), Duration> {
        let ticket = self.enter(lane, now);
        match self.ask(ticket, now) {
            Turn::Go => {
                self.taken.pop_back();
                self.reserved += 1;
                self.reserved_by_housekeeping += usize::from(lane == Lane::Housekeeping);
                Ok(())
            }
            Turn::Wait(wait) => {
                self.leave(ticket);
                Err(wait)
            }
        }
    }

    /// The call of a reserved token is sent now.
    pub(super) fn send_reserved(&mut self, lane: Lane, now: Moment) {
        self.give_back(lane);
        self.taken.push_back(Taken { at: now, lane });
    }

    /// The call of a reserved token is not sent.
    pub(super) fn give_back(&mut self, lane: Lane) {
        self.reserved = self.reserved.saturating_sub(1);
        let own = usize::from(lane == Lane::Housekeeping);
        self.reserved_by_housekeeping = self.reserved_by_housekeeping.saturating_sub(own);
    }

    /// AWS refused a call as too many: nobody goes for the time it said.
    pub(super) fn pause(&mut self, retry_after: Option<Duration>, now: Moment) {
        let pause = retry_after.unwrap_or(PAUSE).min(PAUSE_MAX);
        self.paused_until = self.paused_until.max(now + pause);
    }

    fn put_back(&mut self, now: Moment) {
        while self.taken.front().is_some_and(|taken| taken.at + self.period <= now) {
            self.taken.pop_front();
        }
    }

    /// When the call at this place of its line may go, as far as can be told now.
    fn turn_of(&self, lane: Lane, place: usize, now: Moment) -> Moment {
        let in_line = place + self.ahead_in_other_lines(lane, place, now);
        let (own, most, own_ahead) = match lane {
            Lane::Evidence => (self.taken_by(Lane::Evidence, now), self.evidence_tokens, place),
            Lane::Housekeeping => (self.taken_by(Lane::Housekeeping, now), self.housekeeping_tokens, place),
            Lane::User | Lane::Retry => (Vec::new(), self.tokens, 0),
        };
        let reserved = || std::iter::repeat_n(now, self.reserved);
        let all = self.taken.iter().map(|taken| taken.at).chain(reserved()).collect();
        let turn =
            self.token_at(all, self.tokens, in_line + self.evidence_ahead(lane, now), now).max(self.paused_until);
        let turn = turn.max(self.token_at(own, most, own_ahead, now));
        if lane == Lane::Evidence {
            return turn;
        }
        let others = self.taken.iter().filter(|taken| taken.lane != Lane::Evidence).map(|taken| taken.at);
        let others = others.chain(reserved()).collect();
        turn.max(self.token_at(others, (self.tokens - self.kept(now)).max(1), in_line, now))
    }

    /// Tokens that only evidence may take.
    fn kept(&self, now: Moment) -> usize {
        if self.part_kept.0 < now && now < self.part_kept.1 {
            self.evidence_tokens
        } else {
            usize::from(now < self.kept_until || !self.evidence.is_empty())
        }
    }

    /// When the tokens were taken that a lane holds; a reserved one counts as taken now. Evidence reserves none.
    fn taken_by(&self, lane: Lane, now: Moment) -> Vec<Moment> {
        let reserved = if lane == Lane::Housekeeping { self.reserved_by_housekeeping } else { 0 };
        let taken = self.taken.iter().filter(|taken| taken.lane == lane).map(|taken| taken.at);
        taken.chain(std::iter::repeat_n(now, reserved)).collect()
    }

    /// Calls for evidence that may take a token now, before those of another lane.
    fn evidence_ahead(&self, lane: Lane, now: Moment) -> usize {
        let left = self.evidence_tokens.saturating_sub(self.taken_by(Lane::Evidence, now).len());
        if lane == Lane::Evidence { 0 } else { self.evidence.len().min(left) }
    }

    fn ahead_in_other_lines(&self, lane: Lane, place: usize, now: Moment) -> usize {
        let more_urgent = |line: &VecDeque<Waiting>, than: Option<&Waiting>| {
            than.map_or(0, |than| line.partition_point(|waiting| waiting < than))
        };
        match lane {
            Lane::User => {
                let this = self.users.get(place);
                more_urgent(&self.retries, this) + more_urgent(&self.housekeeping, this).min(self.impatient(now))
            }
            Lane::Retry => {
                let this = self.retries.get(place);
                more_urgent(&self.users, this) + more_urgent(&self.housekeeping, this).min(self.impatient(now))
            }
            Lane::Housekeeping => match self.housekeeping.get(place).filter(|this| this.urgency <= now) {
                Some(this) => more_urgent(&self.users, Some(this)) + more_urgent(&self.retries, Some(this)),
                None => self.users.len() + self.retries.len(),
            },
            Lane::Evidence => 0,
        }
    }

    /// How many of housekeeping have waited for long enough and may go by its part of the tokens. One that must wait for
    /// that holds nobody up.
    fn impatient(&self, now: Moment) -> usize {
        let own = self.taken_by(Lane::Housekeeping, now).len();
        let waited = self.housekeeping.partition_point(|waiting| waiting.urgency <= now);
        waited.min(self.housekeeping_tokens.saturating_sub(own))
    }

    /// When a token is there for one who has so many ahead, if each of them takes one at once.
    fn token_at(&self, taken: Vec<Moment>, tokens: usize, ahead: usize, now: Moment) -> Moment {
        let back: Vec<Moment> = taken.into_iter().map(|at| at + self.period).collect();
        let free = tokens.saturating_sub(back.len());
        // More may be taken than there are now: those above the number come back first.
        let surplus = back.len().saturating_sub(tokens);
        let (rounds, token) = (ahead / tokens, ahead % tokens);
        let first = token.checked_sub(free).and_then(|index| back.get(index + surplus)).copied().unwrap_or(now);
        first + self.period.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
    }

    fn place(&self, ticket: Ticket) -> Option<usize> {
        self.line(ticket.lane).binary_search_by_key(&ticket.number, |waiting| waiting.number).ok()
    }

    fn line(&self, lane: Lane) -> &VecDeque<Waiting> {
        match lane {
            Lane::User => &self.users,
            Lane::Retry => &self.retries,
            Lane::Housekeeping => &self.housekeeping,
            Lane::Evidence => &self.evidence,
        }
    }

    fn line_mut(&mut self, lane: Lane) -> &mut VecDeque<Waiting> {
        match lane {
            Lane::User => &mut self.users,
            Lane::Retry => &mut self.retries,
            Lane::Housekeeping => &mut self.housekeeping,
            Lane::Evidence => &mut self.evidence,
        }
    }
}

#[cfg(test)]
mod tests;
