//! Calls that change a function after its creation.

use std::sync::Arc;

use super::Model;
use super::api::{ApiError, Response};
use super::functions::{Config, EventConfig, arn};
use super::lambda_api::{
    Code, EventInvokeConfig, FunctionName, PutFunctionEventInvokeConfig, TagResource, UntagResource,
    UpdateFunctionCode, UpdateFunctionConfiguration,
};
use super::validate;
use crate::settings::StateReason;

impl Model {
    /// `failure`: why it will not be carried out.
    pub(super) fn update_function_code(
        &mut self,
        shape: &UpdateFunctionCode,
        failure: Option<StateReason>,
    ) -> Result<Response, ApiError> {
        let name = FunctionName::parse(&shape.function_name, None);
        let mut config = self.config_to_update(&name, shape.revision_id.as_deref())?;
        if let Some(architectures) = &shape.architectures {
            validate::architectures(architectures)?;
            config.architectures.clone_from(architectures);
        }
        let code = Code { image_uri: shape.image_uri.clone() };
        let (image, fails) = self.look_up_image(&code, &config.architectures)?;
        // What a new function would be told by its state, an existing one is spared.
        if let Some(reason) = fails.filter(|_| image.own.is_some()) {
            return Err(ApiError::invalid_parameter(reason.message));
        }
        config.image = image;
        if !shape.dry_run {
            self.update(&name, config, failure)?;
        }
        self.get_function_configuration(self.now, &name)
    }

    /// `failure`: why it will not be carried out.
    pub(super) fn update_function_configuration(
        &mut self,
        shape: &UpdateFunctionConfiguration,
        failure: Option<StateReason>,
    ) -> Result<Response, ApiError> {
        let name = FunctionName::parse(&shape.function_name, None);
        let mut config = self.config_to_update(&name, shape.revision_id.as_deref())?;
        validate::no_zip_members(shape.runtime.as_deref(), shape.handler.as_deref(), shape.layers.as_deref())?;
        if let Some(memory) = shape.memory_size {
            config.memory_mb = validate::memory(memory, self.settings.quotas.memory_mb)?;
        }
        if let Some(timeout) = shape.timeout {
            config.timeout_s = validate::timeout(timeout)?;
        }
        replace(&mut config.role, shape.role.as_ref());
        replace(&mut config.description, shape.description.as_ref());
        replace(&mut config.ephemeral_storage, shape.ephemeral_storage.as_ref());
        replace(&mut config.logging, shape.logging_config.as_ref());
        config.environment = shape.environment.clone().or(config.environment);
        config.image_config = shape.image_config.clone().or(config.image_config);
        config.vpc = shape.vpc_config.clone().or(config.vpc);
        config.check()?;
        self.update(&name, config, failure)?;
        self.get_function_configuration(self.now, &name)
    }

    /// A copy of the configuration, if the function may be updated now.
    fn config_to_update(&self, name: &FunctionName, revision_id: Option<&str>) -> Result<Config, ApiError> {
        let function = self.function_at(name, self.now)?;
        self.settled(function)?;
        if revision_id.is_some_and(|wanted| wanted != function.config.revision_id) {
            return Err(ApiError::new(
                412,
                "PreconditionFailedException",
                "The RevisionId provided does not match the latest RevisionId. Call the GetFunction or the GetAlias API to retrieve the latest RevisionId",
            ));
        }
        Ok(Config::clone(&function.config))
    }

    fn update(
        &mut self,
        name: &FunctionName,
        mut config: Config,
        failure: Option<StateReason>,
    ) -> Result<(), ApiError> {
        config.revision_id = self.rng.uuid();
        config.modified_at = self.now;
        let now = self.now;
        let planned = now.saturating_add(self.sample(self.settings.timing.update));
        let is_new_image = self.function_at(name, now)?.config.image.digest != config.image.digest;
        let (until, waits_until) = if is_new_image { self.prepare(&config.image, planned) } else { (planned, None) };
        let function = self.function_mut(name)?;
        let previous = Arc::clone(function.running_config(now));
        function.config = Arc::new(config);
        function.previous = Some((now, previous));
        function.update_fails = failure;
        function.update_until = until;
        function.waits_until = waits_until;
        Ok(())
    }

    pub(super) fn put_event_invoke_config(
        &mut self,
        shape: &PutFunctionEventInvokeConfig,
    ) -> Result<Response, ApiError> {
        if shape.maximum_retry_attempts.is_some_and(|retries| !(0..=2).contains(&retries)) {
            let value = shape.maximum_retry_attempts.unwrap_or_default().to_string();
            return Err(ApiError::constraint(&value, "maximumRetryAttempts", "Member must have value between 0 and 2"));
        }
        if shape.maximum_event_age_in_seconds.is_some_and(|age| !(60..=21_600).contains(&age)) {
            let value = shape.maximum_event_age_in_seconds.unwrap_or_default().to_string();
            let constraint = "Member must have value between 60 and 21600";
            return Err(ApiError::constraint(&value, "maximumEventAgeInSeconds", constraint));
        }
        let modified_at = self.now;
        let function = self.function_mut(&shape.function)?;
        function.events = Some(EventConfig {
            retries: shape.maximum_retry_attempts,
            max_age_s: shape.maximum_event_age_in_seconds,
            modified_at,
        });
        self.get_event_invoke_config(&shape.function)
    }

    pub(super) fn get_event_invoke_config(&self, name: &FunctionName) -> Result<Response, ApiError> {
        let function = self.function_at(name, self.now)?;
        let config = function.events.ok_or_else(|| self.no_event_config(name))?;
        Ok(Response::EventInvokeConfig(EventInvokeConfig {
            last_modified: seconds(config.modified_at),
            function_arn: format!("{}:$LATEST", arn(&self.settings, &name.name)),
            maximum_retry_attempts: config.retries,
            maximum_event_age_in_seconds: config.max_age_s,
        }))
    }

    pub(super) fn delete_event_invoke_config(&mut self, name: &FunctionName) -> Result<Response, ApiError> {
        let missing = self.no_event_config(name);
        self.function_mut(name)?.events.take().map(|_| Response::Empty).ok_or(missing)
    }

    fn no_event_config(&self, name: &FunctionName) -> ApiError {
        let arn = arn(&self.settings, &name.name);
        let message = format!("The function {arn}:$LATEST doesn't have an EventInvokeConfig");
        ApiError::new(404, "ResourceNotFoundException", message)
    }

    pub(super) fn tag_resource(&mut self, shape: &TagResource) -> Result<Response, ApiError> {
        let function = self.function_at(&shape.function, self.now)?;
        self.settled(function)?;
        let mut tags = function.tags.clone();
        tags.extend(shape.tags.clone());
        validate::tags(&tags)?;
        self.function_mut(&shape.function)?.tags = tags;
        Ok(Response::Empty)
    }

    pub(super) fn untag_resource(&mut self, shape: &UntagResource) -> Result<Response, ApiError> {
        self.settled(self.function_at(&shape.function, self.now)?)?;
        let function = self.function_mut(&shape.function)?;
        function.tags.retain(|key, _| !shape.tag_keys.contains(key));
        Ok(Response::Empty)
    }
}

fn replace<T: Clone>(old: &mut T, new: Option<&T>) {
    if let Some(new) = new {
        old.clone_from(new);
    }
}

/// Seconds since the epoch, as the wire has them.
fn seconds(ms: i64) -> f64 {
    let whole = u32::try_from(ms / 1_000).unwrap_or(u32::MAX);
    let rest = u32::try_from(ms % 1_000).unwrap_or(0);
    f64::from(whole) + f64::from(rest) / 1_000.0
}
