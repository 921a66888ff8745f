//! Watches one running program: passes its output on, feeds its stdin, ends it in time.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::clock;
use crate::deadline::Schedule;
use crate::lines::Lines;
use crate::log::Log;
use crate::processes::{Processes, Turn};
use crate::protocol::Stream;
use crate::wait::Ended;

/// How much is read or written at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// How long to wait for the rest of the output when every writer should be dead but the pipe is still open.
const DRAIN_WAIT: Duration = Duration::from_millis(200);
/// How much of the rest is read at most, in bytes: a pipe holds 64 KiB, or up to 1 MiB if its user asks for that. What is
/// more comes from a process that cannot be ended.
const DRAIN_LIMIT: usize = 16 * 1024 * 1024;

/// How long the end of everything that a run has started may take, unless the answer is due before.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// How long it may take if the answer is due: a killed process is gone within milliseconds on a machine that is not busy.
const KILL_LEAST: Duration = Duration::from_millis(500);

/// How a run ended.
pub(crate) struct Outcome {
    pub(crate) ended: Ended,
    /// The bootstrap asked the program to end, because the time was up.
    pub(crate) deadline: bool,
    /// False: something that the run has started cannot be ended.
    pub(crate) clean: bool,
}

/// Waits for the end of the program and of everything that it started. When it returns, all output is in the log, or waits
/// to be written to it.
pub(crate) fn supervise(
    mut child: Child,
    stdin: Vec<u8>,
    schedule: Option<Schedule>,
    answer_by: Option<Instant>,
    processes: &Processes,
    log: &mut Log,
) -> Outcome {
    let leader = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    let mut run = Running {
        processes,
        log,
        outputs: [
            child.stdout.take().and_then(|pipe| Output::new(pipe.into(), Stream::Stdout)),
            child.stderr.take().and_then(|pipe| Output::new(pipe.into(), Stream::Stderr)),
        ],
        input: child.stdin.take().and_then(|pipe| Input::new(pipe.into(), stdin)),
    };
    let mut alarm = Alarm::new(schedule);
    let ended = loop {
        // Before the alarm: an end that came before the deadline counts, also if both are seen at once.
        let turn = processes.reap_orphans(leader);
        if let Turn::Ended(ended) = turn {
            break Some(ended);
        }
        match alarm.due() {
            // Its end may not be seen even now: another process may trace it. That is ended below, too.
            Some(Signal::SIGKILL) => break None,
            Some(signal) => processes.signal(leader, signal),
            None => {}
        }
        run.wait(if turn == Turn::More { Duration::ZERO } else { alarm.left() });
        run.transfer();
    };
    let now = clock::now();
    let until = answer_by.map_or(now + KILL_LIMIT, |answer_by| answer_by.clamp(now + KILL_LEAST, now + KILL_LIMIT));
    let remains = processes.end_all(Some(leader), until);
    run.drain();
    let ended = ended.or(remains.leader).unwrap_or(Ended::Signalled(Signal::SIGKILL as i32));
    Outcome { ended, deadline: alarm.rang(), clean: remains.clean }
}

/// The signals that are still to be sent, and when.
struct Alarm {
    waiting: Vec<(Instant, Signal)>,
    rang: bool,
}

impl Alarm {
    /// The longest wait, in time to look at the clock again.
    const IDLE: Duration = Duration::from_secs(3600);

    fn new(schedule: Option<Schedule>) -> Self {
        let now = clock::now();
        let at = |after: Duration, signal| now.checked_add(after).map(|at| (at, signal));
        let waiting = schedule.map_or_else(Vec::new, |schedule| {
            // The earliest is taken from the end.
            [at(schedule.kill_after, Signal::SIGKILL), at(schedule.term_after, Signal::SIGTERM)]
                .into_iter()
                .flatten()
                .collect()
        });
        Self { waiting, rang: false }
    }

    fn left(&self) -> Duration {
        self.waiting.last().map_or(Self::IDLE, |(at, _)| at.saturating_duration_since(clock::now()).min(Self::IDLE))
    }

    fn due(&mut self) -> Option<Signal> {
        let (_, signal) = self.waiting.pop_if(|(at, _)| *at <= clock::now())?;
        self.rang = true;
        Some(signal)
    }

    fn rang(&self) -> bool {
        self.rang
    }
}

struct Running<'a> {
    processes: &'a Processes,
    log: &'a mut Log,
    outputs: [Option<Output>; 2],
    input: Option<Input>,
}

impl Running<'_> {
    /// Until something can be read or written, a process has ended, or the time is up. While the log is full, the
    /// program's output is left in its pipes, and the program waits.
    fn wait(&self, timeout: Duration) {
        // A millisecond more: a wait that ends just before its time would be followed by a busy one.
        let timeout = PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(self.processes.fd(), PollFlags::POLLIN)];
        fds.extend(self.log.waits_for().map(|log| PollFd::new(log, PollFlags::POLLOUT)));
        if !self.log.is_full() {
            let open = self.outputs.iter().flatten();
            fds.extend(open.map(|output| PollFd::new(output.pipe.as_fd(), PollFlags::POLLIN)));
        }
        fds.extend(self.input.iter().map(|input| PollFd::new(input.pipe.as_fd(), PollFlags::POLLOUT)));
        // EINTR is like any other early return: the caller looks at everything.
        let _ = poll(&mut fds, timeout);
    }

    /// One chunk of everything that is ready.
    fn transfer(&mut self) {
        for output in &mut self.outputs {
            if let Some(open) = output
                && !self.log.is_full()
                && open.read(self.log) == State::Ended
            {
                *output = None;
            }
        }
        self.log.write();
        if self.input.as_mut().is_some_and(|input| input.write() == State::Ended) {
            self.input = None;
        }
    }

    /// The rest of the output. Its writers are dead, so it is at most what the pipes hold.
    fn drain(&mut self) {
        self.input = None;
        for output in self.outputs.iter_mut().filter_map(Option::take) {
            output.drain(self.log);
        }
    }
}

#[derive(PartialEq, Eq)]
enum State {
    /// There is more, at once.
    Ready,
    /// There may be more, later.
    Waiting,
    /// There is no more.
    Ended,
}

/// A pipe from the program.
struct Output {
    pipe: File,
    lines: Lines,
}

impl Output {
    fn new(pipe: OwnedFd, stream: Stream) -> Option<Self> {
        Some(Self { pipe: non_blocking(pipe)?, lines: Lines::new(stream) })
    }

    fn read(&mut self, log: &mut Log) -> State {
        let mut chunk = [0; CHUNK];
        match (&self.pipe).read(&mut chunk) {
            Ok(0) => self.end(log),
            Ok(length) => {
                self.lines.push(chunk.get(..length).unwrap_or_default(), |line| log.push(line));
                State::Ready
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => State::Waiting,
                io::ErrorKind::Interrupted => State::Ready,
                _ => self.end(log),
            },
        }
    }

    fn end(&mut self, log: &mut Log) -> State {
        self.lines.finish(|line| log.push(line));
        State::Ended
    }

    fn drain(mut self, log: &mut Log) {
        let until = clock::now() + DRAIN_WAIT;
        let mut left = DRAIN_LIMIT / CHUNK;
        while left > 0 {
            match self.read(log) {
                State::Ready => left -= 1,
                State::Ended => return,
                State::Waiting => {
                    let timeout = PollTimeout::try_from(until.saturating_duration_since(clock::now()));
                    let timeout = timeout.unwrap_or(PollTimeout::ZERO);
                    if poll(&mut [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)], timeout) == Ok(0) {
                        break;
                    }
                }
            }
        }
        self.end(log);
    }
}

/// A pipe to the program.
struct Input {
    pipe: File,
    rest: Vec<u8>,
    written: usize,
}

impl Input {
    fn new(pipe: OwnedFd, text: Vec<u8>) -> Option<Self> {
        Some(Self { pipe: non_blocking(pipe)?, rest: text, written: 0 })
    }

    fn write(&mut self) -> State {
        let rest = self.rest.get(self.written..).unwrap_or_default();
        if rest.is_empty() {
            return State::Ended;
        }
        match (&self.pipe).write(rest) {
            Ok(length) => {
                self.written += length;
                if self.written == self.rest.len() { State::Ended } else { State::Ready }
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => State::Waiting,
                // The program does not want to read it.
                _ => State::Ended,
            },
        }
    }
}

fn non_blocking(pipe: OwnedFd) -> Option<File> {
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).ok()?;
    Some(File::from(pipe))
}
