//! Gives the model a clock, processes and callers that wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::Clock;
use crate::faults::Faults;
use crate::images::OwnImage;
use crate::images::store::Store;
use crate::model::{
    ApiError, CallRecord, Effect, End, EnvironmentEvent, EnvironmentSpec, Handover, Model, Outcome, Reply, Request,
    Response, Snapshot, Ticket,
};
use crate::runner::{
    self, EnvironmentConfig, ImageRoot, Invocation, Isolation, Root, Runner, RunnerConfig, RunnerError, RunnerEvent,
};
use crate::sandbox::Programs;
use crate::script::{self, Program};
use crate::settings::Settings;

/// Reports of the runner that wait for the model, at most; then the runner waits.
const MAX_WAITING_REPORTS: usize = 1_024;

type Script = script::Runner<Box<dyn FnMut(&Handover) -> Program + Send>>;

/// The model with those who wait for its answers, and scripted programs, if there are any.
struct Core {
    model: Model,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Response, ApiError>>>,
    script: Option<Script>,
}

impl Core {
    /// Lets everything happen that is due. Gives what real processes have to do, and when to come back.
    fn step(&mut self, now: i64) -> (Vec<Effect>, Option<i64>) {
        while let Some((_, event)) = self.script.as_mut().and_then(|script| script.report(now)) {
            self.model.report(now, event);
        }
        let mut effects = Vec::new();
        for effect in self.model.advance(now) {
            match (effect, &mut self.script) {
                (Effect::Answer { ticket, result }, _) => self.answer(ticket, result),
                // A script gives nothing but answers back, and those are taken out above.
                (effect, Some(script)) => drop(script.take(now, effect)),
                (effect, None) => effects.push(effect),
            }
        }
        let script = self.script.as_ref().and_then(script::Runner::next);
        (effects, self.model.next_wakeup().into_iter().chain(script).min())
    }

    fn answer(&mut self, ticket: Ticket, result: Result<Response, ApiError>) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            // A caller that went away does not stop its invocation, so there may be nobody to tell.
            let _ = waiting.send(result);
        }
    }
}

/// The one owner of the model and of the runner.
pub(crate) struct Driver {
    core: Mutex<Core>,
    wake: Notify,
    runner: Runner,
    store: Option<Arc<Store>>,
    clock: Clock,
}

/// What became of a call.
pub(crate) struct Called {
    pub(crate) reply: Reply,
    /// For [`Outcome::Later`].
    pub(crate) answer: Option<oneshot::Receiver<Result<Response, ApiError>>>,
}

impl Driver {
    /// A driver and the reports that [`Driver::listen`] has to be given.
    pub(crate) fn new(
        settings: Settings,
        programs: Programs,
        store: Option<Arc<Store>>,
        clock: Clock,
    ) -> (Self, mpsc::Receiver<RunnerEvent>) {
        let (sender, reports) = mpsc::channel(MAX_WAITING_REPORTS);
        let (config, script) = match programs {
            Programs::Real(config) => (config, None),
            Programs::Scripted { init_ms, choose } => {
                let choose: Box<dyn FnMut(&Handover) -> Program + Send> = Box::new(move |handover| choose(handover));
                (RunnerConfig::default(), Some(script::Runner::new(init_ms, choose)))
            }
        };
        let core = Core { model: Model::new(settings), waiting: HashMap::new(), script };
        let runner = Runner::new(config, sender);
        (Self { core: Mutex::new(core), wake: Notify::new(), runner, store, clock }, reports)
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // The model keeps no half-made changes across a panic that matter more than going on.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn call(&self, request: &Request) -> Called {
        let mut core = self.core();
        let reply = core.model.call(self.clock.now_ms(), request);
        let answer = if let Outcome::Later(ticket) = reply.outcome {
            let (sender, receiver) = oneshot::channel();
            core.waiting.insert(ticket, sender);
            Some(receiver)
        } else {
            None
        };
        drop(core);
        self.wake.notify_one();
        Called { reply, answer }
    }

    /// A call that no fault meets and nobody counts.
    pub(crate) fn operate(&self, request: &Request) -> Result<Response, ApiError> {
        let result = self.core().model.operate(self.clock.now_ms(), request);
        self.wake.notify_one();
        result
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.core().model.snapshot()
    }

    pub(crate) fn call_records(&self) -> Vec<CallRecord> {
        self.core().model.call_records()
    }

    pub(crate) fn idle(&self) -> bool {
        self.core().model.idle()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.core().model.set_faults(self.clock.now_ms(), faults);
        self.wake.notify_one();
    }

    pub(crate) fn set_images(&self, images: BTreeMap<String, Vec<Arc<OwnImage>>>) {
        self.core().model.set_images(images);
    }

    pub(crate) fn isolation(&self) -> Option<Isolation> {
        self.runner.isolation()
    }

    fn report(&self, event: EnvironmentEvent) {
        self.core().model.report(self.clock.now_ms(), event);
        self.wake.notify_one();
    }

    /// Tells the model what the runner saw, until the runner is gone.
    pub(crate) async fn listen(self: Arc<Self>, mut reports: mpsc::Receiver<RunnerEvent>) {
        while let Some(event) = reports.recv().await {
            self.report(seen(event));
        }
    }

    /// Carries out the model's effects and wakes it in time; never ends.
    pub(crate) async fn drive(self: Arc<Self>) {
        loop {
            let (effects, wakeup) = self.core().step(self.clock.now_ms());
            if effects.is_empty() {
                self.pause(wakeup).await;
            }
            for effect in effects {
                self.carry_out(effect).await;
            }
        }
    }

    async fn pause(&self, wakeup: Option<i64>) {
        let Some(wakeup) = wakeup else { return self.wake.notified().await };
        // Being woken and being late are the same: the model looks what is due.
        tokio::select! {
            () = self.wake.notified() => {}
            () = self.clock.sleep_until(wakeup) => {}
        }
    }

    async fn carry_out(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::Prepare(image) => {
                let driver = Arc::clone(self);
                tokio::spawn(async move { driver.prepare(image).await });
            }
            Effect::Start(spec) => {
                let environment = spec.environment;
                let started = match self.environment_config(&spec) {
                    Ok(config) => self.runner.start(config).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = started {
                    tracing::warn!(function = %spec.function, %error, "an environment could not be started");
                    let error_type = match error {
                        RunnerError::WorkingDir { .. } => "Runtime.InvalidWorkingDir",
                        _ => "Runtime.InvalidEntrypoint",
                    };
                    self.report(not_started(environment, error_type, &error));
                }
            }
            Effect::Invoke(handover) => {
                let environment = handover.environment;
                if let Err(error) = self.runner.invoke(environment, invocation(handover)).await {
                    tracing::warn!(environment, %error, "an invocation could not be handed over");
                    self.report(not_started(environment, "Runtime.ExitError", &error));
                }
            }
            Effect::Kill { environment } => {
                // Nothing waits for it, and it can take as long as the kernel likes.
                let driver = Arc::clone(self);
                tokio::spawn(async move { driver.runner.kill(environment).await });
            }
            Effect::Answer { ticket, result } => self.core().answer(ticket, result),
        }
    }

    /// Unpacks an image if that was not done yet, and tells the model.
    async fn prepare(&self, image: Arc<OwnImage>) {
        let (digest, store) = (image.digest.clone(), self.store.clone());
        let unpacked = tokio::task::spawn_blocking(move || match store {
            Some(store) => store.unpacked(&image).map(drop).map_err(|error| error.to_string()),
            None => Err("this sandbox has no place for images".to_owned()),
        });
        let failure = unpacked.await.unwrap_or_else(|error| Err(error.to_string())).err();
        if let Some(reason) = &failure {
            tracing::warn!(digest, reason, "an image cannot be unpacked");
        }
        self.core().model.prepared(self.clock.now_ms(), &digest, failure.as_deref());
        self.wake.notify_one();
    }

    fn environment_config(&self, spec: &EnvironmentSpec) -> Result<EnvironmentConfig, RunnerError> {
        let root = match &spec.image {
            None => Root::Machine,
            Some(image) => {
                let unpacked = self.store.as_ref().and_then(|store| store.get(image));
                let unpacked = unpacked.ok_or_else(|| std::io::Error::other("the image's files are gone"))?;
                let front = spec.front && !unpacked.record.has_front;
                Root::Image(ImageRoot { files: unpacked.root, machine_files: unpacked.record.machine_files, front })
            }
        };
        Ok(EnvironmentConfig {
            environment: spec.environment,
            name: spec.name.clone(),
            root,
            entrypoint: spec.entrypoint.clone(),
            command: spec.command.clone(),
            working_dir: spec.working_dir.clone(),
            env: spec.env.clone(),
            memory_mb: spec.memory_mb,
            tmp_mb: spec.tmp_mb,
        })
    }

    /// Ends all processes.
    pub(crate) async fn shutdown(&self) {
        self.runner.shutdown().await;
    }
}

fn invocation(handover: Handover) -> Invocation {
    Invocation {
        request_id: handover.request_id,
        payload: handover.payload,
        deadline_ms: handover.deadline_ms,
        function_arn: handover.function_arn,
        client_context: handover.client_context,
        trace_id: handover.trace_id,
    }
}

fn not_started(environment: u64, error_type: &str, error: &RunnerError) -> EnvironmentEvent {
    let end = End::NotStarted { error_type: error_type.to_owned(), message: error.to_string() };
    EnvironmentEvent::Ended { environment, end, duration_ms: 0.0, max_memory_mb: 0 }
}

fn seen(event: RunnerEvent) -> EnvironmentEvent {
    match event {
        RunnerEvent::Line { environment, at_ms, text } => EnvironmentEvent::Line { environment, at_ms, text },
        RunnerEvent::Ready { environment, init_ms } => EnvironmentEvent::Ready { environment, init_ms },
        RunnerEvent::Gone { environment } => EnvironmentEvent::Gone { environment },
        RunnerEvent::Ended { environment, end, duration_ms, max_memory_mb, .. } => {
            EnvironmentEvent::Ended { environment, end: ended(end), duration_ms, max_memory_mb }
        }
    }
}

fn ended(end: runner::End) -> End {
    match end {
        runner::End::Response(body) => End::Response(body),
        runner::End::Error { error_type, body } => End::Error { error_type, body },
        runner::End::Exited { code } => End::Exited { code },
        runner::End::Signalled { signal } => End::Signalled { signal },
        runner::End::TimedOut => End::TimedOut,
        runner::End::OutOfMemory => End::OutOfMemory,
        runner::End::InitError { error_type, body } => End::InitError { error_type, body },
    }
}
