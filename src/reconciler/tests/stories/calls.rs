//! The calls of a story's daemon: how they go out, how their answers come back, and where it may crash between.

use std::time::Duration;

use super::calendar::Happening;
use super::daemon::{Daemon, Flight, Point, Waiting};
use super::ledger::short;
use super::world::{self, Arrival};
use crate::aws::{AwsError, AwsErrorKind};
use crate::reconciler::absorb::{Outcome, outcome_of};
use crate::reconciler::execute::{self, News};
use crate::reconciler::learn::Evidence;
use crate::reconciler::names;
use crate::reconciler::plan::Action;
use crate::reconciler::queue::Priority;
use crate::state::model::ContainerId;
use sockerless_sandbox::model::{Request, Response, Transport};

/// A control-plane call is given up after this time.
const CALL_MS: i64 = 30_000;

impl Daemon {
    /// The call waits for its turn within the quota, and goes.
    pub(super) fn depart(&mut self, flight: Box<Flight>) {
        let gate = if self.rng.one_in(8) { self.rng.between(100, 5_000) } else { self.rng.between(0, 5) };
        let boot = self.boots;
        self.later(gate, Happening::Send(boot, flight));
    }

    /// The call goes out.
    pub(super) fn send(&mut self, boot: u64, flight: Box<Flight>) {
        let Some(request) = self.request(&flight) else { return };
        if self.crashes_at(Point::Call) {
            return;
        }
        let is_look = matches!(request, Request::GetFunction(_));
        if !is_look {
            self.ledger.mutations += 1;
            let hurts = !matches!(request, Request::CreateFunction(_))
                && request.resource().is_some_and(|name| self.ledger.foreign.contains(name));
            self.ledger.promise(5, !hurts, || format!("{:?} on a foreign function", request.operation()));
        }
        let (arrival, taken) = self.aws.call(&request, &mut self.rng);
        self.note(format!("{} {:?} taken: {taken:?}", short(flight.container.id), request.operation()));
        if let (Action::Invoke { .. }, Some(request_id)) = (&flight.action, taken.as_ref()) {
            self.ledger.taken(&flight.container, request_id);
        }
        if self.crashes_at(Point::Answer) {
            return;
        }
        match arrival {
            Arrival::After(late, answer) if late >= CALL_MS => {
                let late = world::failure(request.operation(), AwsErrorKind::NoAnswer, "no answer in time");
                drop(answer);
                self.later(CALL_MS, Happening::Back(boot, flight, Err(late)));
            }
            Arrival::After(late, answer) => {
                let latency = self.rng.between(1, 80);
                self.later(late + latency, Happening::Back(boot, flight, answer));
            }
            Arrival::AtTheEnd(ticket, transport, request_id) => {
                let sent_ms = self.now_ms();
                self.waiting.insert(ticket, Waiting { flight: *flight, transport, request_id, sent_ms });
            }
        }
    }

    /// Invocations have ended: their answers are on the way.
    pub(super) fn collect(&mut self) {
        let boot = self.boots;
        for (ticket, (at, result)) in self.aws.ended() {
            let Some(waiting) = self.waiting.remove(&ticket) else { continue };
            let Waiting { flight, transport, request_id, sent_ms } = waiting;
            let operation = sockerless_sandbox::model::Operation::Invoke;
            let late = if let Transport::Late(ms) = transport { i64::try_from(ms).unwrap() } else { 0 };
            let lost = || Err(world::failure(operation, AwsErrorKind::NoAnswer, "the connection is closed"));
            let patience = execute::invoke_request(&flight.container).map_or(Duration::ZERO, |r| r.answer_within);
            let in_time = at + late - sent_ms < i64::try_from(patience.as_millis()).unwrap();
            let answer = match transport {
                Transport::Lost | Transport::Reset => lost(),
                _ if !in_time => lost(),
                transport => world::understood(operation, result, &request_id, transport),
            };
            if answer.is_ok() && transport != Transport::Malformed {
                self.ledger.cover("an answer that came");
            }
            let latency = self.rng.between(1, 80);
            self.calendar.add(at + late + latency, Happening::Back(boot, Box::new(flight), answer));
        }
    }

    fn request(&self, flight: &Flight) -> Option<Request> {
        let Flight { container, action, looked } = flight;
        if let (Some(name), false) = (action.changes(), looked) {
            return Some(world::get(name));
        }
        Some(match action {
            Action::GetFunction { name } => world::get(name),
            Action::CreateFunction { .. } => world::create(&self.identity.new_function(container)),
            Action::PutEventInvokeConfig { name } => {
                world::put_event_config(name, container.spec.config.function.event_age_s)
            }
            Action::UpdateFunction { name, code: true } => {
                world::update_code(name, &names::shape(&container.spec.config))
            }
            Action::UpdateFunction { name, code: false } => {
                world::update_configuration(name, &names::shape(&container.spec.config))
            }
            Action::DeleteFunction { name } => world::delete(name),
            Action::ReleaseFunction { arn, .. } => world::untag(arn, &[names::TAG_INSTANCE]),
            Action::Invoke { .. } => world::invoke(&execute::invoke_request(container)?),
            Action::Wait { .. } | Action::AwaitSlot | Action::Forget => return None,
        })
    }

    /// An answer is there.
    pub(super) fn back(&mut self, mut flight: Box<Flight>, answer: world::Answer) {
        if self.crashes_at(Point::Record) {
            return;
        }
        let id = flight.container.id;
        if let Action::Invoke { run_no } = flight.action {
            let news = self.invoked(id, run_no, &flight, answer);
            self.fold_in(id, |now, row| news.fold(now, &row.spec, row.status.clone()));
            if let Some(process) = &mut self.process {
                process.under_way.remove(&(id, run_no));
            }
            return self.kick(id, Priority::User);
        }
        let looks = flight.action.changes().is_some() && !flight.looked;
        let seen = looks || matches!(flight.action, Action::GetFunction { .. });
        let result = if seen { self.seen(&flight, answer) } else { self.changed(&flight, answer) };
        let (action, outcome, evidence) = match result {
            Ok(Some(evidence)) if looks && execute::may_change(&flight.action, &evidence) => {
                flight.looked = true;
                return self.depart(flight);
            }
            Ok(evidence) if looks => {
                let name = flight.action.changes().unwrap_or_default().to_owned();
                (Action::GetFunction { name }, Outcome::Done, evidence)
            }
            Ok(evidence) => (flight.action.clone(), Outcome::Done, evidence),
            Err(error) => {
                let outcome = outcome_of(&flight.action, error);
                (flight.action.clone(), outcome, None)
            }
        };
        self.ledger.outcome(&outcome);
        if matches!(evidence, Some(Evidence::ForeignFunction { .. })) {
            self.ledger.cover("a foreign function of our name");
        }
        let news = News::new(action, outcome, evidence, self.rng.part());
        self.turn(id, Some(news));
    }

    fn invoked(&mut self, id: ContainerId, run_no: u64, flight: &Flight, answer: world::Answer) -> News {
        let (outcome, evidence) = match answer {
            Ok((Response::Queued, request_id)) => (Outcome::Accepted { request_id: Some(request_id) }, None),
            Ok((response, request_id)) => {
                let reply = world::reply(response, request_id);
                self.ledger.answered(id, run_no, !reply.payload.starts_with(b"{\"malformed"));
                (Outcome::Done, Some(Evidence::Answer(execute::run_answer(run_no, reply))))
            }
            Err(error) => (outcome_of(&flight.action, error), None),
        };
        self.ledger.outcome(&outcome);
        News::new(flight.action.clone(), outcome, evidence, self.rng.part())
    }

    fn seen(&self, flight: &Flight, answer: world::Answer) -> Result<Option<Evidence>, AwsError> {
        match answer {
            Ok((response, _)) => {
                let description = world::described(response);
                execute::sight(&self.identity, &description, &flight.container, self.now()).map(Some)
            }
            Err(error) if error.kind == AwsErrorKind::NotFound => Ok(Some(Evidence::NoFunction)),
            Err(error) => Err(error),
        }
    }

    fn changed(&self, flight: &Flight, answer: world::Answer) -> Result<Option<Evidence>, AwsError> {
        let (response, _) = answer?;
        let (container, now) = (&flight.container, self.now());
        Ok(match &flight.action {
            Action::CreateFunction { .. } => {
                Some(Evidence::Function(execute::function(&world::described(response), container, now)))
            }
            Action::UpdateFunction { code, .. } => {
                Some(execute::updated(&world::described(response), container, *code, now))
            }
            _ => None,
        })
    }
}
