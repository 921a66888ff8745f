//! Asks for an invocation, runs it, answers it, and so on.

use std::time::{Duration, Instant};

use crate::clock;
use crate::deadline::Schedule;
use crate::environment::Environment;
use crate::image::{Image, InvalidArguments};
use crate::log::Log;
use crate::order::{self, InvalidEnvelope, Request};
use crate::payload_file::{self, PayloadFile};
use crate::processes::Processes;
use crate::program::{NotStarted, Program};
use crate::protocol::{Answer, DEADLINE_EXIT_CODE, Marker, Order, Reason, Stream, VERSION, Verdict, encode_line};
use crate::runtime_api::{ApiError, Invocation, RuntimeApi};
use crate::seen::Seen;
use crate::supervise::supervise;
use crate::wait::Ended;

/// The error type of a payload that cannot be followed.
const INVALID_ENVELOPE: &str = "Function.InvalidEnvelope";
/// The error type of an environment that cannot serve.
const INIT_ERROR: &str = "Runtime.InitError";
/// The error type of an image that starts the bootstrap with arguments that make no sense.
const INVALID_ENTRYPOINT: &str = "Runtime.InvalidEntrypoint";
/// What the bootstrap's own sentences in a program's stderr begin with.
const OWN_WORDS: &str = "sockerless: ";
/// The exit code in the answer to a duplicate, which stands for no program.
const DUPLICATE_EXIT_CODE: u8 = 125;
/// How long the log may take nothing before an answer no longer waits for it.
const LOG_STALL: Duration = Duration::from_secs(5);
/// How long the log may take before an answer that has no deadline, or one that is past.
const LOG_WAIT: Duration = Duration::from_secs(5);
/// The same if the answer is due.
const LOG_LEAST: Duration = Duration::from_millis(100);
/// How long what is left over may take to end before the bootstrap asks for work.
const LEFTOVER_WAIT: Duration = Duration::from_secs(2);
/// What a shell adds to the number of the signal that ended a program.
const SIGNAL_EXIT_CODE: i32 = 128;

/// Why the bootstrap cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Started by hand.
    #[error(
        "AWS_LAMBDA_RUNTIME_API is not set. This program runs inside an AWS Lambda function, in front of another \
         one: make it the image's entrypoint and your program the image's command."
    )]
    NotInLambda,
    /// The image's ENTRYPOINT cannot be understood.
    #[error("{0}.")]
    Arguments(InvalidArguments),
    /// The kernel refuses what it takes to watch processes.
    #[error("Processes cannot be watched here: {0}.")]
    Processes(std::io::Error),
    /// Lambda's side does not answer, or not as documented.
    #[error("The Lambda Runtime API cannot be used: {0}.")]
    RuntimeApi(#[from] ApiError),
    /// The next run would not be alone here.
    #[error("This environment cannot be used again: {0}.")]
    Unclean(Unclean),
}

/// Why an environment serves no other invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclean {
    #[error("processes of a run do not end")]
    Processes,
    #[error("nobody reads the log")]
    Log,
}

/// Serves until it fails.
pub(crate) fn serve(environment: Environment, image: Result<Image, InvalidArguments>) -> Failure {
    let Some(address) = &environment.runtime_api else { return Failure::NotInLambda };
    let api = RuntimeApi::new(address);
    let image = match image {
        Ok(image) => image,
        Err(error) => {
            // The process ends with this failure in any case.
            let _ = api.fail_init(INVALID_ENTRYPOINT, &format!("{error}."));
            return Failure::Arguments(error);
        }
    };
    let prepared = Processes::adopt().map_err(std::io::Error::from).and_then(|adopted| Ok((adopted, Log::open()?)));
    let (processes, log) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            // The process ends with this failure in any case.
            let _ = api.fail_init(INIT_ERROR, &format!("Processes cannot be watched here: {error}."));
            return Failure::Processes(error);
        }
    };
    payload_file::remove_all(&environment.temp_dir);
    let seen = Seen::open(&environment.temp_dir);
    let mut server = Server { api, environment, image, processes, log, seen, unclean: None };
    match server.serve() {
        Ok(unclean) => Failure::Unclean(unclean),
        Err(error) => error.into(),
    }
}

struct Server {
    api: RuntimeApi,
    environment: Environment,
    image: Image,
    processes: Processes,
    log: Log,
    seen: Seen,
    unclean: Option<Unclean>,
}

impl Server {
    /// Until the environment cannot be used again.
    fn serve(&mut self) -> Result<Unclean, ApiError> {
        loop {
            if !self.processes.end_all(None, clock::now() + LEFTOVER_WAIT).clean {
                self.unclean = Some(Unclean::Processes);
            }
            if let Some(unclean) = self.unclean {
                return Ok(unclean);
            }
            let invocation = self.api.next()?;
            match self.handle(&invocation) {
                Ok(verdict) => {
                    // A structure of strings and numbers always has a JSON form.
                    let body = serde_json::to_vec(&Answer { sockerless: verdict }).unwrap_or_default();
                    self.api.respond(&invocation.request_id, &body)?;
                }
                Err(error) => self.api.fail(&invocation.request_id, INVALID_ENVELOPE, &error.to_string())?,
            }
        }
    }

    fn handle(&mut self, invocation: &Invocation) -> Result<Verdict, InvalidEnvelope> {
        let schedule = invocation.deadline_ms.map(|deadline| Schedule::new(clock::unix_ms(), deadline));
        let answer_by = schedule.and_then(|schedule| clock::now().checked_add(schedule.answer_after));
        let time = Time { schedule, answer_by };
        let verdict = match order::read(&invocation.payload)? {
            Request::Order(order) => self.follow(order, invocation, time),
            Request::Foreign if self.image.is_empty() => return Err(InvalidEnvelope::NoCommand),
            Request::Foreign => self.run(foreign_order(), &invocation.payload, invocation, time),
        };
        self.flush(answer_by);
        Ok(verdict)
    }

    /// Waits until the log has all that was given to it, but not beyond the time of the answer.
    fn flush(&mut self, answer_by: Option<Instant>) {
        let now = clock::now();
        let until = answer_by.map_or(now + LOG_WAIT, |answer_by| answer_by.max(now + LOG_LEAST));
        if !self.log.flush(until, LOG_STALL) {
            self.unclean = Some(Unclean::Log);
        }
    }

    /// Runs an order between its two markers, unless it was seen before.
    fn follow(&mut self, mut order: Order, invocation: &Invocation, time: Time) -> Verdict {
        let token = order.token.clone();
        let request_id = invocation.request_id.clone();
        if !self.seen.insert(&token) {
            self.log.mark(&Marker::Duplicate { token: token.clone(), request_id });
            return verdict(token, DUPLICATE_EXIT_CODE, Reason::Duplicate);
        }
        self.log.mark(&Marker::Start { token: token.clone(), request_id });
        let payload = order.payload.take().unwrap_or_default();
        let verdict = self.run(order, payload.as_bytes(), invocation, time);
        self.log.mark(&Marker::Exit {
            token,
            exit_code: verdict.exit_code,
            reason: verdict.reason,
            signal: verdict.signal,
        });
        verdict
    }

    fn run(&mut self, order: Order, payload: &[u8], invocation: &Invocation, time: Time) -> Verdict {
        // Without a file, on a full disk for example, there is still stdin.
        let file =
            (!payload.is_empty()).then(|| PayloadFile::create(&self.environment.temp_dir, payload).ok()).flatten();
        let program = Program {
            command: self.image.command(&order),
            inherited: &self.environment.variables,
            env: &order.env,
            working_dir: order.working_dir.as_deref(),
            payload_file: file.as_ref().map(PayloadFile::path),
            trace_id: invocation.trace_id.as_deref(),
            stdin: !payload.is_empty(),
            one_stream: order.tty,
        };
        match program.prepare().and_then(|prepared| prepared.start(|command| self.processes.spawn(command))) {
            Ok(child) => {
                let Time { schedule, answer_by } = time;
                let stdin = payload.to_vec();
                let outcome = supervise(child, stdin, schedule, answer_by, &self.processes, &mut self.log);
                if !outcome.clean {
                    self.unclean = Some(Unclean::Processes);
                }
                judge(order.token, outcome.ended, outcome.deadline)
            }
            Err(NotStarted { exit_code, message }) => {
                // Where a shell would say it, so that whoever reads the log sees it, too.
                let sentence = format!("{OWN_WORDS}{message}");
                self.log.push(&encode_line(Stream::Stderr, sentence.as_bytes(), true));
                Verdict { message: Some(message), ..verdict(order.token, exit_code, Reason::NotStarted) }
            }
        }
    }
}

/// How long a run has.
#[derive(Clone, Copy)]
struct Time {
    /// `None`: Lambda gave no deadline.
    schedule: Option<Schedule>,
    /// When it is answered in any case.
    answer_by: Option<Instant>,
}

/// What somebody who invokes the function by hand gets: the image's own command.
fn foreign_order() -> Order {
    Order {
        version: VERSION,
        token: String::new(),
        command: Vec::new(),
        after_entrypoint: true,
        env: Vec::new(),
        working_dir: None,
        tty: false,
        payload: None,
    }
}

fn verdict(token: String, exit_code: u8, reason: Reason) -> Verdict {
    Verdict { version: VERSION, token, exit_code, reason, signal: None, message: None }
}

fn judge(token: String, ended: Ended, deadline: bool) -> Verdict {
    let (exit_code, reason, signal) = match ended {
        Ended::Exited(code) => (code, Reason::Exited, None),
        Ended::Signalled(signal) => {
            let exit_code = u8::try_from(SIGNAL_EXIT_CODE + signal).unwrap_or(u8::MAX);
            (exit_code, Reason::Signalled, Some(signal))
        }
    };
    let verdict = verdict(token, exit_code, reason);
    if deadline {
        return Verdict { exit_code: DEADLINE_EXIT_CODE, reason: Reason::Deadline, signal, ..verdict };
    }
    Verdict { signal, ..verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        for (ended, deadline, code, reason, signal) in [
            (Ended::Exited(0), false, 0, Reason::Exited, None),
            (Ended::Exited(255), false, 255, Reason::Exited, None),
            (Ended::Signalled(9), false, 137, Reason::Signalled, Some(9)),
            (Ended::Signalled(15), false, 143, Reason::Signalled, Some(15)),
            (Ended::Signalled(34), false, 162, Reason::Signalled, Some(34)),
            (Ended::Signalled(64), false, 192, Reason::Signalled, Some(64)),
            (Ended::Exited(0), true, 137, Reason::Deadline, None),
            (Ended::Signalled(15), true, 137, Reason::Deadline, Some(15)),
        ] {
            let verdict = judge("t".into(), ended, deadline);
            assert_eq!((verdict.exit_code, verdict.reason, verdict.signal), (code, reason, signal));
        }
    }
}
