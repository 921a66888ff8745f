//! Programs that are told instead of run, for stories under virtual time.

use std::collections::{BTreeMap, HashMap};

use crate::model::{ApiError, Effect, End, EnvironmentEvent, Handover, Model, Reply, Request, Response, Ticket};

/// What a program does with one invocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// What it prints: how many milliseconds after its start, and the line.
    pub lines: Vec<(i64, String)>,
    /// How long it takes, in milliseconds; a function's timeout cuts it short.
    pub duration_ms: u32,
    /// How it ends.
    pub end: End,
    /// The most memory it uses, in MB.
    pub max_memory_mb: u32,
}

impl Program {
    /// Answers `null` after a time and prints nothing.
    #[must_use]
    pub fn silent(duration_ms: u32) -> Self {
        let end = End::Response(bytes::Bytes::from_static(b"null"));
        Self { lines: Vec::new(), duration_ms, end, max_memory_mb: 40 }
    }
}

/// Takes the model's effects and reports what scripted programs would have done.
#[derive(Clone, Debug)]
pub struct Runner<C> {
    choose: C,
    init_ms: u32,
    due: BTreeMap<(i64, u64), EnvironmentEvent>,
    /// What is due of each environment.
    of: HashMap<u64, Vec<(i64, u64)>>,
    count: u64,
}

impl<C: FnMut(&Handover) -> Program> Runner<C> {
    /// A runner whose environments take `init_ms` to start and run what `choose` gives for each invocation.
    pub fn new(init_ms: u32, choose: C) -> Self {
        Self { choose, init_ms, due: BTreeMap::new(), of: HashMap::new(), count: 0 }
    }

    /// Takes an effect; gives back an answer that is not the runner's business.
    pub fn take(&mut self, now_ms: i64, effect: Effect) -> Option<(Ticket, Result<Response, ApiError>)> {
        match effect {
            Effect::Start(spec) => {
                let init_ms = f64::from(self.init_ms);
                let environment = spec.environment;
                let at = now_ms.saturating_add(i64::from(self.init_ms));
                self.schedule(at, environment, EnvironmentEvent::Ready { environment, init_ms });
            }
            Effect::Invoke(handover) => self.run(now_ms, &handover),
            // Scripted programs need no files; whoever lets functions be made of images tells when they are ready.
            Effect::Prepare(_) => {}
            Effect::Kill { environment } => {
                for key in self.of.remove(&environment).unwrap_or_default() {
                    self.due.remove(&key);
                }
            }
            Effect::Answer { ticket, result } => return Some((ticket, result)),
        }
        None
    }

    fn run(&mut self, now_ms: i64, handover: &Handover) {
        let program = (self.choose)(handover);
        let environment = handover.environment;
        let allowed = u32::try_from(handover.deadline_ms.saturating_sub(now_ms)).unwrap_or(0);
        let (duration, end) =
            if program.duration_ms >= allowed { (allowed, End::TimedOut) } else { (program.duration_ms, program.end) };
        for (after, text) in program.lines {
            let after = after.max(0);
            if after <= i64::from(duration) {
                let at_ms = now_ms.saturating_add(after);
                self.schedule(at_ms, environment, EnvironmentEvent::Line { environment, at_ms, text });
            }
        }
        let ended = EnvironmentEvent::Ended {
            environment,
            end,
            duration_ms: f64::from(duration),
            max_memory_mb: program.max_memory_mb,
        };
        self.schedule(now_ms.saturating_add(i64::from(duration)), environment, ended);
    }

    fn schedule(&mut self, at_ms: i64, environment: u64, event: EnvironmentEvent) {
        self.count += 1;
        self.due.insert((at_ms, self.count), event);
        self.of.entry(environment).or_default().push((at_ms, self.count));
    }

    /// When the next report is due.
    #[must_use]
    pub fn next(&self) -> Option<i64> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next report, if it is due.
    pub fn report(&mut self, now_ms: i64) -> Option<(i64, EnvironmentEvent)> {
        let at = self.next().filter(|at| *at <= now_ms)?;
        let (key, event) = self.due.pop_first()?;
        let environment = match event {
            EnvironmentEvent::Ready { environment, .. }
            | EnvironmentEvent::Line { environment, .. }
            | EnvironmentEvent::Ended { environment, .. }
            | EnvironmentEvent::Gone { environment } => environment,
        };
        if let Some(keys) = self.of.get_mut(&environment) {
            keys.retain(|other| *other != key);
        }
        Some((at, event))
    }
}

/// A model and scripted programs, together under one virtual clock.
#[derive(Clone, Debug)]
pub struct World<C> {
    /// The model; calls belong through [`World::call`].
    pub model: Model,
    /// Answers of RequestResponse invocations that nobody took yet, and when they came.
    pub answers: BTreeMap<Ticket, (i64, Result<Response, ApiError>)>,
    runner: Runner<C>,
    now_ms: i64,
}

impl<C: FnMut(&Handover) -> Program> World<C> {
    /// A world at a time.
    pub fn new(model: Model, runner: Runner<C>, now_ms: i64) -> Self {
        Self { model, answers: BTreeMap::new(), runner, now_ms }
    }

    /// The time.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Calls AWS now.
    pub fn call(&mut self, request: &Request) -> Reply {
        let reply = self.model.call(self.now_ms, request);
        self.settle();
        reply
    }

    /// When something happens next without a call.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<i64> {
        self.model.next_wakeup().into_iter().chain(self.runner.next()).min()
    }

    /// Lets time pass up to a moment, with all that happens until then.
    pub fn run_until(&mut self, until_ms: i64) {
        while let Some(next) = self.next_wakeup().filter(|next| *next <= until_ms) {
            self.now_ms = self.now_ms.max(next);
            if let Some((at, event)) = self.runner.report(self.now_ms) {
                self.model.report(at, event);
            }
            self.settle();
        }
        self.now_ms = self.now_ms.max(until_ms);
        self.settle();
    }

    fn settle(&mut self) {
        for effect in self.model.advance(self.now_ms) {
            if let Some((ticket, result)) = self.runner.take(self.now_ms, effect) {
                self.answers.insert(ticket, (self.now_ms, result));
            }
        }
    }
}
