//! Execution environments: one invocation at a time, many one after another, one log stream each.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Model;
use super::api::{Effect, End, EnvironmentEvent, EnvironmentSpec, Handover};
use super::failure::Ended;
use super::functions::{Config, arn};
use super::lines::{self, Report};
use super::timers::Timer;
use crate::settings::LogStyle;

/// What LogType Tail gives, in bytes.
const TAIL_BYTES: usize = 4_096;

/// All environments of the account.
#[derive(Clone, Debug, Default)]
pub(super) struct Environments {
    pub(super) all: BTreeMap<u64, Environment>,
    /// Unused ones by function id, the latest used last.
    idle: BTreeMap<u64, Vec<u64>>,
    busy: usize,
    count: u64,
}

/// An environment, from its start to its end.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub(super) function: String,
    pub(super) stream: Arc<str>,
    function_id: u64,
    config: Arc<Config>,
    group: Arc<str>,
    ready: bool,
    /// The invocation that it has.
    pub(super) current: Option<u64>,
    /// Told in the REPORT of its first invocation.
    init_ms: Option<f64>,
    tail: String,
    served: u64,
}

impl Environment {
    fn remember(&mut self, line: &str) {
        self.tail.push_str(line);
        if self.tail.len() > 4 * TAIL_BYTES {
            self.tail = last_bytes(&self.tail).to_owned();
        }
    }
}

/// At most the last 4 KB, cut between characters.
fn last_bytes(text: &str) -> &str {
    let mut from = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or_default()
}

impl Model {
    /// Takes what was seen of an environment. What is told of an environment that is no more is ignored.
    pub fn report(&mut self, now_ms: i64, event: EnvironmentEvent) {
        self.pass_time(now_ms);
        match event {
            EnvironmentEvent::Ready { environment, init_ms } => self.ready(environment, init_ms),
            EnvironmentEvent::Line { environment, at_ms, text } => {
                self.write_line(environment, at_ms, &format!("{text}\n"));
            }
            EnvironmentEvent::Ended { environment, end, duration_ms, max_memory_mb } => {
                self.finish(environment, end, duration_ms, max_memory_mb);
            }
            EnvironmentEvent::Gone { environment } => {
                if self.environments.all.get(&environment).is_some_and(|known| known.current.is_some()) {
                    self.finish(environment, End::Exited { code: 0 }, 0.0, 0);
                }
                self.forget(environment);
            }
        }
    }

    /// Gives an invocation to an environment, a new one if need be; false when the concurrency is used up.
    pub(super) fn assign(&mut self, invocation: u64) -> bool {
        if self.environments.busy >= self.settings.quotas.concurrency {
            return false;
        }
        let Some(queued) = self.invocations.live.get(&invocation) else { return false };
        let Some(function) = self.functions.live.get(&queued.function) else { return false };
        let (function_id, config) = (function.id, Arc::clone(function.running_config(self.now)));
        let warm = self.warm(function_id, &config);
        let environment = warm.unwrap_or_else(|| self.start(function_id, config, invocation));
        self.environments.busy += 1;
        if let Some(known) = self.environments.all.get_mut(&environment) {
            known.current = Some(invocation);
        }
        if let Some(queued) = self.invocations.live.get_mut(&invocation) {
            queued.environment = Some(environment);
        }
        if warm.is_some() {
            self.hand_over(environment);
        }
        true
    }

    /// An unused environment with this very configuration; ends those with another one.
    fn warm(&mut self, function_id: u64, config: &Arc<Config>) -> Option<u64> {
        loop {
            let candidate = self.environments.idle.get_mut(&function_id)?.pop()?;
            let same = self.environments.all.get(&candidate).is_some_and(|known| Arc::ptr_eq(&known.config, config));
            if same {
                return Some(candidate);
            }
            self.kill(candidate);
        }
    }

    fn start(&mut self, function_id: u64, config: Arc<Config>, invocation: u64) -> u64 {
        self.environments.count += 1;
        let environment = self.environments.count;
        let function = self.invocations.live.get(&invocation).map(|i| i.function.clone()).unwrap_or_default();
        let name = self.rng.hex32();
        let stream = lines::stream_name(self.now, &function, &name);
        let group = config.log_group(&function);
        let spec = self.spec(environment, name, &function, &config, (&group, &stream));
        self.effects.push(Effect::Start(Arc::new(spec)));
        let limit = self.settings.timing.init_limit.saturating_add(i64::from(config.timeout_s) * 1_000);
        self.timers.set(self.now.saturating_add(limit), Timer::InitLimit { environment });
        let known = Environment {
            function,
            stream: stream.into(),
            function_id,
            config,
            group: group.into(),
            ready: false,
            current: None,
            init_ms: None,
            tail: String::new(),
            served: 0,
        };
        self.environments.all.insert(environment, known);
        environment
    }

    fn spec(
        &self,
        environment: u64,
        name: String,
        function: &str,
        config: &Config,
        logs: (&str, &str),
    ) -> EnvironmentSpec {
        let own = [
            ("AWS_REGION", self.settings.region.clone()),
            ("AWS_DEFAULT_REGION", self.settings.region.clone()),
            ("AWS_LAMBDA_FUNCTION_NAME", function.to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", config.memory_mb.to_string()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", logs.0.to_owned()),
            ("AWS_LAMBDA_LOG_STREAM_NAME", logs.1.to_owned()),
            ("TZ", ":UTC".to_owned()),
        ];
        let mut env: BTreeMap<_, _> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        env.extend(config.environment.iter().flat_map(|environment| environment.variables.clone()));
        let spec = EnvironmentSpec {
            environment,
            name,
            function: function.to_owned(),
            image: None,
            front: false,
            entrypoint: Vec::new(),
            command: Vec::new(),
            working_dir: None,
            env,
            memory_mb: config.memory_mb,
            tmp_mb: u32::try_from(config.ephemeral_storage.size).unwrap_or(u32::MAX),
        };
        self.spec_of_image(config, spec)
    }

    fn ready(&mut self, environment: u64, init_ms: f64) {
        let Some(known) = self.environments.all.get_mut(&environment).filter(|known| !known.ready) else { return };
        known.ready = true;
        known.init_ms = Some(init_ms);
        self.hand_over(environment);
    }

    /// Starts the environment's invocation: from here on its time runs.
    fn hand_over(&mut self, environment: u64) {
        let Some(known) = self.environments.all.get(&environment) else { return };
        let Some(invocation) = known.current.and_then(|id| self.invocations.live.get_mut(&id)) else { return };
        invocation.started_at = Some(self.now);
        let handover = Handover {
            environment,
            request_id: invocation.request_id.clone(),
            function: known.function.clone(),
            function_arn: arn(&self.settings, &known.function),
            payload: invocation.payload.clone(),
            deadline_ms: self.now.saturating_add(i64::from(known.config.timeout_s) * 1_000),
            client_context: invocation.client_context.clone(),
            trace_id: invocation.trace_id.clone(),
        };
        let start = lines::start(known.config.json_logs(), &handover.request_id, self.now);
        self.write_line(environment, self.now, &start);
        self.effects.push(Effect::Invoke(handover));
    }

    fn write_line(&mut self, environment: u64, at_ms: i64, line: &str) {
        let visible_at = self.delivery_time();
        let Some(known) = self.environments.all.get_mut(&environment) else { return };
        known.remember(line);
        let mute = |role: &String| role == "*" || *role == known.config.role;
        let faults = self.faults.faults();
        if faults.roles_without_logs.iter().any(mute) {
            return;
        }
        let shuffle = faults.reorder_logs.then(|| self.rng.next());
        let (config, group, stream) = (Arc::clone(&known.config), known.group.clone(), Arc::clone(&known.stream));
        self.record_delivery(&config.role, &group, &stream);
        self.logs.deliver(&group, &stream, (at_ms, self.now, visible_at), line, shuffle);
    }

    /// Ends what the environment was doing.
    fn finish(&mut self, environment: u64, end: End, duration_ms: f64, max_memory_mb: u32) {
        let Some(known) = self.environments.all.get_mut(&environment) else { return };
        let (config, init_ms) = (Arc::clone(&known.config), known.init_ms.take());
        let Some(id) = known.current.take() else {
            // It ended while it had nothing to do.
            return self.kill(environment);
        };
        known.served += 1;
        self.environments.busy = self.environments.busy.saturating_sub(1);
        let Some(invocation) = self.invocations.live.get(&id) else { return self.kill(environment) };
        let request_id = invocation.request_id.clone();
        if invocation.started_at.is_none() {
            let start = lines::start(config.json_logs(), &request_id, self.now);
            self.write_line(environment, self.now, &start);
        }
        let ended = Ended::new(&request_id, config.timeout_s, end);
        let report = Report {
            request_id: &request_id,
            at_ms: self.now,
            duration_ms,
            memory_mb: config.memory_mb,
            max_memory_mb,
            init_ms,
            ended: &ended,
        };
        let closing = match (config.json_logs(), self.settings.log_style) {
            (true, _) => report.json(),
            (false, LogStyle::Status) => report.text(),
            (false, LogStyle::Lines) => report.older_text(),
        };
        for line in &closing {
            self.write_line(environment, self.now, line);
        }
        let tail = self.environments.all.get_mut(&environment).map(|known| std::mem::take(&mut known.tail));
        self.keep_or_kill(environment, ended.survives);
        self.conclude(id, &ended, last_bytes(&tail.unwrap_or_default()));
    }

    /// Keeps an environment for the next invocation, unless it is broken or its function is not the same any more.
    fn keep_or_kill(&mut self, environment: u64, survives: bool) {
        let Some(known) = self.environments.all.get(&environment) else { return };
        let function = self.functions.live.get(&known.function);
        let current = function.is_some_and(|function| {
            function.id == known.function_id && Arc::ptr_eq(function.running_config(self.now), &known.config)
        });
        if !(survives && current) {
            return self.kill(environment);
        }
        let served = known.served;
        self.environments.idle.entry(known.function_id).or_default().push(environment);
        let at = self.now.saturating_add(self.settings.timing.environment_idle);
        self.timers.set(at, Timer::Retire { environment, served });
    }

    /// Ends a removed function's unused environments; those in use end when they are done.
    pub(super) fn retire_environments_of(&mut self, function_id: u64) {
        for environment in self.environments.idle.remove(&function_id).unwrap_or_default() {
            self.kill(environment);
        }
    }

    pub(super) fn retire(&mut self, environment: u64, served: u64) {
        let unused = |known: &Environment| known.current.is_none() && known.served == served;
        if self.environments.all.get(&environment).is_some_and(unused) {
            self.kill(environment);
        }
    }

    pub(super) fn init_limit(&mut self, environment: u64) {
        if self.environments.all.get(&environment).is_some_and(|known| !known.ready) {
            self.finish(environment, End::TimedOut, 0.0, 0);
        }
    }

    fn kill(&mut self, environment: u64) {
        if self.forget(environment) {
            self.effects.push(Effect::Kill { environment });
        }
    }

    fn forget(&mut self, environment: u64) -> bool {
        let Some(known) = self.environments.all.remove(&environment) else { return false };
        if let Some(idle) = self.environments.idle.get_mut(&known.function_id) {
            idle.retain(|other| *other != environment);
            if idle.is_empty() {
                self.environments.idle.remove(&known.function_id);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_cut_between_characters() {
        let text = "ä".repeat(TAIL_BYTES);
        assert_eq!(last_bytes(&text).len(), TAIL_BYTES);
        assert_eq!(last_bytes(&format!("{text}x")).len(), TAIL_BYTES - 1);
        assert_eq!(last_bytes("short"), "short");
    }
}
