//! Asks for an invocation, runs it, answers it, and so on.

use std::convert::Infallible;

use crate::clock;
use crate::deadline::Schedule;
use crate::environment::Environment;
use crate::image::{Image, InvalidArguments};
use crate::log::Log;
use crate::order::{self, InvalidEnvelope, Request};
use crate::payload_file::PayloadFile;
use crate::processes::{Ended, Processes};
use crate::program::{NotStarted, Program};
use crate::protocol::{Answer, DEADLINE_EXIT_CODE, Marker, Order, Reason, Stream, VERSION, Verdict, encode_line};
use crate::runtime_api::{ApiError, Invocation, RuntimeApi};
use crate::seen::Seen;
use crate::supervise::supervise;

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
    let seen = Seen::open(&environment.temp_dir);
    let mut server = Server { api, environment, image, processes, log, seen };
    match server.serve() {
        Ok(never) => match never {},
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
}

impl Server {
    fn serve(&mut self) -> Result<Infallible, ApiError> {
        loop {
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
        match order::read(&invocation.payload)? {
            Request::Order(order) => Ok(self.follow(order, invocation)),
            Request::Foreign if self.image.is_empty() => Err(InvalidEnvelope::NoCommand),
            Request::Foreign => Ok(self.run(foreign_order(), &invocation.payload, invocation)),
        }
    }

    /// Runs an order between its two markers, unless it was seen before.
    fn follow(&mut self, mut order: Order, invocation: &Invocation) -> Verdict {
        let token = order.token.clone();
        let request_id = invocation.request_id.clone();
        if !self.seen.insert(&token) {
            self.log.mark(&Marker::Duplicate { token: token.clone(), request_id });
            return verdict(token, DUPLICATE_EXIT_CODE, Reason::Duplicate);
        }
        self.log.mark(&Marker::Start { token: token.clone(), request_id });
        let payload = order.payload.take().unwrap_or_default();
        let verdict = self.run(order, payload.as_bytes(), invocation);
        self.log.mark(&Marker::Exit {
            token,
            exit_code: verdict.exit_code,
            reason: verdict.reason,
            signal: verdict.signal,
        });
        verdict
    }

    fn run(&self, order: Order, payload: &[u8], invocation: &Invocation) -> Verdict {
        let schedule = invocation.deadline_ms.map(|deadline| Schedule::new(clock::unix_ms(), deadline));
        // Without a file, on a full disk for example, there is still stdin.
        let file = (!payload.is_empty())
            .then(|| PayloadFile::create(&self.environment.temp_dir, &invocation.request_id, payload).ok())
            .flatten();
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
                let outcome = supervise(child, payload.to_vec(), schedule, &self.processes, &self.log);
                judge(order.token, outcome.ended, outcome.deadline)
            }
            Err(NotStarted { exit_code, message }) => {
                // Where a shell would say it, so that whoever reads the log sees it, too.
                let sentence = format!("{OWN_WORDS}{message}");
                self.log.write(&encode_line(Stream::Stderr, sentence.as_bytes(), true));
                Verdict { message: Some(message), ..verdict(order.token, exit_code, Reason::NotStarted) }
            }
        }
    }
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
            (Ended::Exited(0), true, 137, Reason::Deadline, None),
            (Ended::Signalled(15), true, 137, Reason::Deadline, Some(15)),
        ] {
            let verdict = judge("t".into(), ended, deadline);
            assert_eq!((verdict.exit_code, verdict.reason, verdict.signal), (code, reason, signal));
        }
    }
}
