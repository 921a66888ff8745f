//! The task of one environment. It alone reads the output and hears the Runtime API, so that what it tells is in
//! the order in which things happened.

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use super::clock;
use super::events::{End, Invocation, RunnerEvent};
use super::lines::Lines;
use super::memory::Memory;
use super::output::Output;
use super::process::Process;
use super::runtime_api::{Call, Refusal, RuntimeResult};

/// How much output is read at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// How many chunks are read at most to catch up with what was written before an event: more than a pipe holds.
const CATCH_UP: usize = 32;
/// How many invocations can wait for the runtime.
const QUEUE_LIMIT: usize = 16;
/// How often the memory is looked at.
const MEMORY_PERIOD: Duration = Duration::from_millis(50);

/// Asks the task to hand over an invocation.
pub(super) struct Handover {
    pub(super) invocation: Invocation,
    /// False: too many are waiting.
    pub(super) reply: oneshot::Sender<bool>,
}

/// What the task starts with.
pub(super) struct Environment {
    pub(super) id: u64,
    pub(super) process: Arc<Process>,
    pub(super) memory: Memory,
    pub(super) output: Output,
    pub(super) events: mpsc::Sender<RunnerEvent>,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) handovers: mpsc::Receiver<Handover>,
    pub(super) started: Instant,
}

impl Environment {
    /// Until the process has ended and everything was told.
    pub(super) async fn run(self) {
        let mut task = Task {
            environment: self,
            lines: Lines::default(),
            queue: VecDeque::new(),
            waiting: None,
            current: None,
            deadline: None,
            init: Init::Running,
            cause: None,
            output_open: true,
        };
        let status = task.serve().await;
        task.finish(status).await;
    }
}

struct Task {
    environment: Environment,
    lines: Lines,
    /// Invocations that the runtime has not taken yet.
    queue: VecDeque<Invocation>,
    /// The runtime has asked for one.
    waiting: Option<oneshot::Sender<Result<Invocation, Refusal>>>,
    /// The id of the invocation that is running, and when it began.
    current: Option<(String, Instant)>,
    /// Of the invocation that is running, or else of the first in the queue.
    deadline: Option<Pin<Box<Sleep>>>,
    init: Init,
    /// Why everything was killed.
    cause: Option<End>,
    output_open: bool,
}

enum Init {
    Running,
    Done,
    Failed { error_type: String, body: Bytes },
}

impl Task {
    async fn serve(&mut self) -> Option<ExitStatus> {
        let process = Arc::clone(&self.environment.process);
        let ended = process.ended();
        tokio::pin!(ended);
        let mut period = tokio::time::interval(MEMORY_PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                status = &mut ended => return status,
                () = until(&mut self.deadline) => self.kill(End::TimedOut),
                _ = period.tick() => self.look_at_memory(),
                Some(handover) = self.environment.handovers.recv() => self.take(handover),
                Some(call) = self.environment.calls.recv() => self.hear(call).await,
                _ = self.environment.output.readable(), if self.output_open => {
                    let mut chunk = vec![0; CHUNK];
                    let result = self.environment.output.try_read(&mut chunk);
                    self.take_output(result, &chunk).await;
                }
            }
        }
    }

    /// The first cause counts: what comes later is its consequence.
    fn kill(&mut self, cause: End) {
        self.deadline = None;
        self.cause.get_or_insert(cause);
        self.environment.process.kill();
    }

    fn look_at_memory(&mut self) {
        if self.environment.memory.look(self.environment.process.pid()) && self.cause.is_none() {
            self.kill(End::OutOfMemory);
        }
    }

    fn take(&mut self, handover: Handover) {
        let room = self.queue.len() < QUEUE_LIMIT;
        // An invoker that has gone does not take its invocation back.
        let _ = handover.reply.send(room);
        if room {
            self.queue.push_back(handover.invocation);
            self.hand_over();
        }
    }

    async fn hear(&mut self, call: Call) {
        match call {
            // A program inside that also asks must not get what the runtime waits for.
            Call::Next { reply } if self.current.is_some() || self.is_waited_for() => {
                drop(reply.send(Err(Refusal::InvalidState)));
            }
            Call::Next { reply } => {
                self.catch_up().await;
                if matches!(self.init, Init::Running) {
                    self.init = Init::Done;
                    let init_ms = clock::ms_since(self.environment.started);
                    self.tell(RunnerEvent::Ready { environment: self.environment.id, init_ms }).await;
                }
                self.waiting = Some(reply);
                self.hand_over();
            }
            Call::End { request_id, result, reply } => {
                let right = self.current.as_ref().is_some_and(|(current, _)| *current == request_id);
                if right {
                    self.end_current(result).await;
                }
                let _ = reply.send(if right { Ok(()) } else { Err(Refusal::InvalidRequestId) });
            }
            Call::InitError { error_type, body, reply } => {
                let right = matches!(self.init, Init::Running);
                if right {
                    self.init = Init::Failed { error_type, body };
                }
                let _ = reply.send(if right { Ok(()) } else { Err(Refusal::InvalidState) });
            }
        }
    }

    /// Whether a call for the next invocation is open whose caller has not hung up.
    fn is_waited_for(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.is_closed())
    }

    /// Gives the first waiting invocation to the runtime, if that has asked for one.
    fn hand_over(&mut self) {
        if self.cause.is_some() {
            return;
        }
        while self.current.is_none()
            && let Some(waiting) = self.waiting.take_if(|_| !self.queue.is_empty())
            && let Some(invocation) = self.queue.pop_front()
        {
            let (request_id, deadline_ms) = (invocation.request_id.clone(), invocation.deadline_ms);
            match waiting.send(Ok(invocation)) {
                Ok(()) => {
                    self.current = Some((request_id, clock::now()));
                    self.deadline = sleep_until(deadline_ms);
                }
                // The runtime has hung up. It may ask again.
                Err(Ok(invocation)) => self.queue.push_front(invocation),
                Err(Err(_)) => {}
            }
        }
        if self.current.is_none() {
            self.deadline = self.queue.front().and_then(|first| sleep_until(first.deadline_ms));
        }
    }

    async fn end_current(&mut self, result: RuntimeResult) {
        self.catch_up().await;
        self.look_at_memory();
        // Then its end is told when the process is gone.
        if self.cause.is_some() {
            return;
        }
        let Some((request_id, began)) = self.current.take() else { return };
        let end = match result {
            RuntimeResult::Response(body) => End::Response(body),
            RuntimeResult::Error { error_type, body } => End::Error { error_type, body },
            RuntimeResult::TooLong => too_long(),
        };
        self.deadline = None;
        self.tell_end(request_id, end, clock::ms_since(began)).await;
        self.hand_over();
    }

    async fn finish(&mut self, status: Option<ExitStatus>) {
        // Whoever waits there is dead, too.
        self.waiting = None;
        self.catch_up().await;
        if let Some(rest) = self.lines.finish() {
            self.tell_line(rest).await;
        }
        let over = self.environment.memory.look(self.environment.process.pid());
        let was_killed = self.cause.is_some();
        let cause = self.cause.take().or(over.then_some(End::OutOfMemory));
        let end = match (&self.init, cause) {
            (_, Some(cause)) => cause,
            (Init::Failed { error_type, body }, None) => {
                End::InitError { error_type: error_type.clone(), body: body.clone() }
            }
            (_, None) => end_of(status),
        };
        if let Some((request_id, began)) = self.current.take() {
            // An invocation is current only after the initialisation.
            self.tell_end(request_id, end.clone(), clock::ms_since(began)).await;
        }
        self.environment.handovers.close();
        while let Some(handover) = self.environment.handovers.recv().await {
            self.take(handover);
        }
        let queued = std::mem::take(&mut self.queue);
        if queued.is_empty() && !was_killed && !matches!(self.init, Init::Done) {
            // Nothing was handed over yet, and whoever wants to invoke should know why that never comes to pass.
            self.tell_end(String::new(), end.clone(), 0.0).await;
        }
        for invocation in queued {
            self.tell_end(invocation.request_id, end.clone(), 0.0).await;
        }
        self.tell(RunnerEvent::Gone { environment: self.environment.id }).await;
    }

    /// Reads everything that was written until now. What the poller knows of the pipe may be older.
    async fn catch_up(&mut self) {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..CATCH_UP {
            if !self.output_open {
                return;
            }
            let result = self.environment.output.read_now(&mut chunk);
            if !self.take_output(result, &chunk).await {
                return;
            }
        }
    }

    /// False: there is no more at the moment.
    async fn take_output(&mut self, result: io::Result<usize>, chunk: &[u8]) -> bool {
        let length = match result {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => 0,
        };
        self.output_open = length > 0;
        for line in self.lines.push(chunk.get(..length).unwrap_or_default()) {
            self.tell_line(line).await;
        }
        self.output_open
    }

    async fn tell_line(&self, text: String) {
        self.tell(RunnerEvent::Line { environment: self.environment.id, at_ms: clock::unix_ms(), text }).await;
    }

    async fn tell_end(&self, request_id: String, end: End, duration_ms: f64) {
        let max_memory_mb = self.environment.memory.peak_mb();
        let environment = self.environment.id;
        self.tell(RunnerEvent::Ended { environment, request_id, end, duration_ms, max_memory_mb }).await;
    }

    async fn tell(&self, event: RunnerEvent) {
        // Without a listener, the runner is being taken down.
        let _ = self.environment.events.send(event).await;
    }
}

fn end_of(status: Option<ExitStatus>) -> End {
    match status.and_then(|status| status.signal()) {
        Some(signal) => End::Signalled { signal },
        None => End::Exited { code: status.and_then(|status| status.code()).unwrap_or(0) },
    }
}

fn too_long() -> End {
    let error_type = "Function.ResponseSizeTooLarge".to_owned();
    let message = "Response payload size exceeded maximum allowed payload size (6291556 bytes).";
    let body = serde_json::json!({ "errorType": error_type, "errorMessage": message }).to_string();
    End::Error { error_type, body: body.into() }
}

async fn until(deadline: &mut Option<Pin<Box<Sleep>>>) {
    match deadline {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

fn sleep_until(deadline_ms: i64) -> Option<Pin<Box<Sleep>>> {
    let left = u64::try_from(deadline_ms.saturating_sub(clock::unix_ms())).unwrap_or(0);
    Some(Box::pin(tokio::time::sleep(Duration::from_millis(left))))
}
