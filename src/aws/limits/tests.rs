use proptest::prelude::*;

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Enters and asks at once.
fn try_go(bucket: &mut Bucket, lane: Lane, now: Moment) -> Turn {
    let ticket = bucket.enter(lane, now);
    let turn = bucket.ask(ticket, now);
    bucket.leave(ticket);
    turn
}

#[test]
fn rates_become_tokens_and_periods() {
    let rows = [
        // (calls a second, tokens, housekeeping's tokens, period)
        (15.0, 15, 5, ms(1_000)),
        (100.0, 100, 33, ms(1_000)),
        (7.5, 7, 2, Duration::from_secs_f64(7.0 / 7.5)),
        (5.0, 5, 1, ms(1_000)),
        (1.5, 4, 1, Duration::from_secs_f64(4.0 / 1.5)),
        (0.0, 4, 1, ms(400_000)),
        (f64::NAN, 4, 1, ms(400_000)),
    ];
    for (rate, tokens, housekeeping, period) in rows {
        let bucket = Bucket::per_second(rate);
        assert_eq!(
            (bucket.tokens, bucket.housekeeping_tokens, bucket.period),
            (tokens, housekeeping, period),
            "{rate}"
        );
    }
}

#[test]
fn a_token_comes_back_a_period_after_it_was_taken() {
    let mut bucket = Bucket::per_second(4.0);
    for at in [0, 100, 200, 300] {
        assert_eq!(try_go(&mut bucket, Lane::User, ms(at)), Turn::Go);
    }
    assert_eq!(try_go(&mut bucket, Lane::User, ms(400)), Turn::Wait(ms(600)));
    assert_eq!(try_go(&mut bucket, Lane::User, ms(999)), Turn::Wait(ms(1)));
    assert_eq!(try_go(&mut bucket, Lane::User, ms(1_000)), Turn::Go);
    assert_eq!(try_go(&mut bucket, Lane::User, ms(1_000)), Turn::Wait(ms(100)));
}

#[test]
fn those_behind_are_told_when_their_token_comes() {
    let mut bucket = Bucket::per_second(4.0);
    for at in [0, 100, 200, 300] {
        assert_eq!(try_go(&mut bucket, Lane::User, ms(at)), Turn::Go);
    }
    let line: Vec<Ticket> = (0..6).map(|_| bucket.enter(Lane::User, ms(300))).collect();
    let turns: Vec<Turn> = line.iter().map(|ticket| bucket.ask(*ticket, ms(300))).collect();
    // The fifth and sixth would go in the next round, but ask again after a period, since somebody may leave.
    let waits = [700, 800, 900, 1_000, 1_000, 1_000];
    assert_eq!(turns, waits.map(|wait| Turn::Wait(ms(wait))));
}

#[test]
fn who_comes_late_to_a_free_token_does_not_hold_up_the_others() {
    let mut bucket = Bucket::per_second(4.0);
    let slow = bucket.enter(Lane::User, ms(0));
    assert_eq!(try_go(&mut bucket, Lane::User, ms(0)), Turn::Go);
    assert_eq!(try_go(&mut bucket, Lane::User, ms(0)), Turn::Go);
    assert_eq!(try_go(&mut bucket, Lane::User, ms(0)), Turn::Go);
    // One token is left, and it is the slow one's.
    assert_eq!(try_go(&mut bucket, Lane::User, ms(0)), Turn::Wait(ms(1_000)));
    assert_eq!(bucket.ask(slow, ms(0)), Turn::Go);
}

#[test]
fn users_go_ahead_of_retries_and_retries_ahead_of_housekeeping() {
    let mut bucket = Bucket::per_second(4.0);
    let housekeeping = bucket.enter(Lane::Housekeeping, ms(0));
    let retries = [bucket.enter(Lane::Retry, ms(0)), bucket.enter(Lane::Retry, ms(0))];
    let users = [bucket.enter(Lane::User, ms(1)), bucket.enter(Lane::User, ms(1)), bucket.enter(Lane::User, ms(1))];
    let mut go = |ticket| bucket.ask(ticket, ms(1)) == Turn::Go;
    assert!(!go(housekeeping));
    assert!(!go(retries[1]));
    assert!(go(retries[0]), "three users are ahead of it, and four tokens are there");
    assert!(users.into_iter().all(go));
}

#[test]
fn a_retry_is_not_starved() {
    let mut bucket = Bucket::per_second(4.0);
    let retry = bucket.enter(Lane::Retry, ms(0));
    for _ in 0..4 {
        bucket.enter(Lane::User, ms(4_999));
    }
    assert!(matches!(bucket.ask(retry, ms(4_999)), Turn::Wait(_)), "still patient");
    let late = bucket.enter(Lane::User, ms(5_001));
    assert_eq!(bucket.ahead_in_other_lines(Lane::Retry, 0, ms(5_001)), 4);
    assert_eq!(bucket.ahead_in_other_lines(Lane::User, 4, ms(5_001)), 1, "the late user stands behind the retry");
    assert!(matches!(bucket.ask(late, ms(5_001)), Turn::Wait(_)));
}

#[test]
fn housekeeping_is_not_starved() {
    let mut bucket = Bucket::per_second(4.0);
    let sweep = bucket.enter(Lane::Housekeeping, ms(0));
    let patience = u64::try_from(HOUSEKEEPING_PATIENCE.as_millis()).unwrap();
    // Users take every token that is free.
    let mut went = None;
    for now in (0..patience + 2_000).step_by(100) {
        while try_go(&mut bucket, Lane::User, ms(now)) == Turn::Go {}
        if went.is_none() && bucket.ask(sweep, ms(now)) == Turn::Go {
            went = Some(now);
        }
    }
    assert!(went.is_some_and(|went| (patience..=patience + 1_000).contains(&went)), "{went:?}");
}

#[test]
fn a_reserved_token_is_gone_until_it_is_given_back_or_a_period_after_its_call() {
    let mut bucket = Bucket::per_second(4.0);
    for _ in 0..4 {
        assert_eq!(bucket.reserve(Lane::User, ms(0)), Ok(()));
    }
    assert_eq!(bucket.reserve(Lane::User, ms(5_000)), Err(ms(1_000)), "its call may still be sent");
    bucket.send_reserved(Lane::User, ms(5_000));
    assert_eq!(bucket.reserve(Lane::User, ms(5_900)), Err(ms(100)));
    assert_eq!(bucket.reserve(Lane::User, ms(6_000)), Ok(()));
    bucket.give_back(Lane::User);
    assert_eq!(bucket.reserve(Lane::User, ms(6_000)), Ok(()));
    assert_eq!(bucket.waiting(), 0);
}

#[test]
fn a_reservation_stands_behind_those_in_line() {
    let mut bucket = Bucket::per_second(4.0);
    let line: Vec<Ticket> = (0..3).map(|_| bucket.enter(Lane::User, ms(0))).collect();
    assert_eq!(bucket.reserve(Lane::User, ms(0)), Ok(()));
    assert!(bucket.reserve(Lane::User, ms(0)).is_err());
    assert!(line.into_iter().all(|ticket| bucket.ask(ticket, ms(0)) == Turn::Go));
}

#[test]
fn housekeeping_leaves_room() {
    let mut bucket = Bucket::per_second(15.0);
    for _ in 0..5 {
        assert_eq!(try_go(&mut bucket, Lane::Housekeeping, ms(0)), Turn::Go);
    }
    assert_eq!(try_go(&mut bucket, Lane::Housekeeping, ms(0)), Turn::Wait(ms(1_000)));
    for _ in 0..10 {
        assert_eq!(try_go(&mut bucket, Lane::User, ms(0)), Turn::Go);
    }
    assert_eq!(try_go(&mut bucket, Lane::Housekeeping, ms(1_000)), Turn::Go, "alone again, it goes on");
}

#[test]
fn a_pause_is_what_aws_said_within_bounds() {
    let rows = [
        (None, PAUSE),
        (Some(ms(0)), ms(0)),
        (Some(ms(2_500)), ms(2_500)),
        (Some(Duration::from_secs(86_400)), PAUSE_MAX),
    ];
    for (retry_after, expected) in rows {
        let mut bucket = Bucket::per_second(15.0);
        bucket.pause(retry_after, ms(10));
        let turn = if expected.is_zero() { Turn::Go } else { Turn::Wait(expected) };
        assert_eq!(try_go(&mut bucket, Lane::User, ms(10)), turn, "{retry_after:?}");
        assert_eq!(try_go(&mut bucket, Lane::User, ms(10) + expected), Turn::Go, "{retry_after:?}");
    }
}

#[test]
fn a_shorter_pause_does_not_end_a_longer_one() {
    let mut bucket = Bucket::per_second(15.0);
    bucket.pause(Some(ms(5_000)), ms(0));
    bucket.pause(Some(ms(1_000)), ms(0));
    assert_eq!(try_go(&mut bucket, Lane::User, ms(0)), Turn::Wait(ms(5_000)));
}

#[test]
fn who_leaves_makes_room() {
    let mut bucket = Bucket::per_second(4.0);
    let gone: Vec<Ticket> = (0..4).map(|_| bucket.enter(Lane::User, ms(0))).collect();
    let behind = bucket.enter(Lane::User, ms(0));
    assert!(matches!(bucket.ask(behind, ms(0)), Turn::Wait(_)));
    bucket.leave(gone[2]);
    bucket.leave(gone[2]);
    assert_eq!(bucket.ask(behind, ms(0)), Turn::Go);
}

/// Callers that ask again as soon as they have gone, and the informer among them: how long each of its calls waits, and how
/// often the others go, in so many seconds.
fn beside_followers(followers: usize, calls: u32, seconds: u64) -> (Vec<Duration>, usize) {
    let mut bucket = Bucket::per_second(5.0);
    let mut waiting: Vec<Ticket> = (0..followers).map(|_| bucket.enter(Lane::User, ms(0))).collect();
    let (mut waits, mut went, mut informer, mut left) = (Vec::new(), 0, None, calls);
    for now in (0..seconds * 1_000).step_by(10).map(ms) {
        for ticket in &mut waiting {
            if bucket.ask(*ticket, now) == Turn::Go {
                went += 1;
                *ticket = bucket.enter(Lane::User, now);
            }
        }
        if informer.is_none() && left > 0 {
            left -= 1;
            informer = Some((now, bucket.enter(Lane::Evidence, now)));
        }
        if let Some((since, ticket)) = informer
            && bucket.ask(ticket, now) == Turn::Go
        {
            waits.push(now - since);
            informer = None;
        }
    }
    (waits, went)
}

#[test]
fn the_informer_beside_a_hundred_followers_has_its_share() {
    let (waits, went) = beside_followers(100, u32::MAX, 60);
    let longest = waits.iter().max().unwrap();
    assert!(*longest <= ms(1_000), "a call for evidence waited for {longest:?}");
    assert!(waits.len() >= 3 * 58, "{} calls for evidence in a minute", waits.len());
    assert!(went >= 2 * 59, "{went} calls of followers in a minute: they have the rest");
    assert!(beside_followers(100, 0, 60).1 >= 5 * 59, "and all of it while the informer rests");
}

#[derive(Clone, Debug)]
enum Step {
    Enter(Lane),
    Leave(prop::sample::Index),
    Ask(prop::sample::Index),
    AskAll,
    Pause(Option<u64>),
    Pass(u64),
}

fn lane() -> impl Strategy<Value = Lane> {
    prop_oneof![Just(Lane::User), Just(Lane::Retry), Just(Lane::Housekeeping), Just(Lane::Evidence)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => lane().prop_map(Step::Enter),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        4 => any::<prop::sample::Index>().prop_map(Step::Ask),
        2 => Just(Step::AskAll),
        1 => prop::option::of(0..3_000_u64).prop_map(Step::Pause),
        4 => (0..1_500_u64).prop_map(Step::Pass),
    ]
}

/// A bucket, who waits for it, and who went when.
struct Story {
    bucket: Bucket,
    waiting: Vec<Ticket>,
    went: Vec<(Moment, Ticket)>,
    /// When each came, by its number.
    entered: Vec<Moment>,
    now: Moment,
}

impl Story {
    fn ask(&mut self, index: usize) {
        let ticket = self.waiting[index];
        match self.bucket.ask(ticket, self.now) {
            Turn::Go => {
                assert!(self.now >= self.bucket.paused_until, "went during a pause");
                self.waiting.remove(index);
                self.went.push((self.now, ticket));
            }
            Turn::Wait(wait) => assert!(!wait.is_zero(), "told to ask again at once"),
        }
    }

    /// Everybody asks, the last to come first: the order of asking must not matter. If housekeeping goes that has not
    /// waited for long, no user and no retry is left standing.
    fn ask_all(&mut self) {
        let before = self.went.len();
        for index in (0..self.waiting.len()).rev() {
            self.ask(index);
        }
        let is_patient = |ticket: &Ticket| self.now < self.entered(*ticket) + HOUSEKEEPING_PATIENCE;
        let swept =
            self.went[before..].iter().any(|(_, ticket)| ticket.lane == Lane::Housekeeping && is_patient(ticket));
        let stands = self.waiting.iter().any(|ticket| matches!(ticket.lane, Lane::User | Lane::Retry));
        assert!(!(swept && stands), "housekeeping went, and somebody stands");
    }

    fn entered(&self, ticket: Ticket) -> Moment {
        self.entered[usize::try_from(ticket.number).unwrap()]
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Enter(lane) => {
                self.waiting.push(self.bucket.enter(*lane, self.now));
                self.entered.push(self.now);
            }
            Step::Leave(index) if !self.waiting.is_empty() => {
                let ticket = self.waiting.remove(index.index(self.waiting.len()));
                self.bucket.leave(ticket);
            }
            Step::Ask(index) if !self.waiting.is_empty() => {
                self.ask(index.index(self.waiting.len()));
            }
            Step::AskAll => self.ask_all(),
            Step::Pause(ms_said) => self.bucket.pause(ms_said.map(ms), self.now),
            Step::Pass(passed) => self.now += ms(*passed),
            Step::Leave(_) | Step::Ask(_) => {}
        }
    }

    fn never_above_the_quota(&self) {
        for (first, (from, _)) in self.went.iter().enumerate() {
            let within: Vec<_> =
                self.went[first..].iter().take_while(|(at, _)| *at < *from + self.bucket.period).collect();
            let swept = within.iter().filter(|(_, ticket)| ticket.lane == Lane::Housekeeping).count();
            assert!(within.len() <= self.bucket.tokens, "{} in a period", within.len());
            assert!(swept <= self.bucket.housekeeping_tokens, "{swept} of housekeeping in a period");
            let read = within.iter().filter(|(_, ticket)| ticket.lane == Lane::Evidence).count();
            assert!(read <= self.bucket.evidence_tokens, "{read} for evidence in a period");
        }
    }
}

proptest! {
    #[test]
    fn any_story_keeps_the_quota_and_ends(rate in 0.5..30.0_f64, steps in prop::collection::vec(step(), 1..200)) {
        let bucket = Bucket::per_second(rate);
        let mut story = Story { bucket, waiting: Vec::new(), went: Vec::new(), entered: Vec::new(), now: Moment::ZERO };
        for step in &steps {
            story.take(step);
        }
        // Without newcomers everybody goes in the end, one round of tokens at least every period.
        story.now += PAUSE_MAX;
        for _ in 0..=steps.len() {
            story.ask_all();
            story.now += story.bucket.period;
        }
        prop_assert!(story.waiting.is_empty(), "{} never went", story.waiting.len());
        story.never_above_the_quota();
    }

    #[test]
    fn within_a_lane_the_first_to_come_goes_first(lane in lane(), count in 1..40_usize, rate in 0.5..30.0_f64) {
        let mut bucket = Bucket::per_second(rate);
        let mut line: VecDeque<Ticket> = (0..count).map(|_| bucket.enter(lane, ms(0))).collect();
        let mut now = ms(0);
        while let Some(first) = line.front().copied() {
            let others: Vec<Turn> = line.iter().skip(1).map(|ticket| bucket.turn_at(*ticket, now)).collect();
            match bucket.ask(first, now) {
                Turn::Go => drop(line.pop_front()),
                Turn::Wait(wait) => {
                    prop_assert!(!others.contains(&Turn::Go), "somebody went ahead of the first");
                    now += wait;
                }
            }
        }
    }

    /// However many sweeps and retries stand in line: a user who finds tokens that nobody may take from it goes at once.
    #[test]
    fn a_user_never_waits_for_housekeeping(rate in 4.0..30.0_f64, sweeps in 0..100_usize, users in 1..4_usize) {
        let mut bucket = Bucket::per_second(rate);
        for _ in 0..sweeps {
            let ticket = bucket.enter(Lane::Housekeeping, ms(0));
            bucket.ask(ticket, ms(0));
        }
        let free = bucket.tokens - bucket.housekeeping_tokens;
        for _ in 0..users.min(free) {
            prop_assert_eq!(try_go(&mut bucket, Lane::User, ms(0)), Turn::Go);
        }
    }
}

impl Bucket {
    /// Like [`Bucket::ask`], without taking.
    fn turn_at(&self, ticket: Ticket, now: Moment) -> Turn {
        let place = self.place(ticket).unwrap();
        let turn = self.turn_of(ticket.lane, place, now);
        if turn <= now { Turn::Go } else { Turn::Wait(turn - now) }
    }

    /// How many stand in line.
    pub(in crate::aws) fn waiting(&self) -> usize {
        self.users.len() + self.retries.len() + self.housekeeping.len() + self.evidence.len()
    }
}
