//! Functions: what they are, when they are ready, and the calls that make, show and remove them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Model;
use super::api::{ApiError, Response};
use super::lambda_api::{
    CreateFunction, Environment, EphemeralStorage, FunctionCodeLocation, FunctionConfiguration, FunctionName,
    GetFunctionResponse, ImageConfig, ImageConfigResponse, ListFunctions, ListFunctionsResponse, ListTagsResponse,
    LoggingConfig, SnapStart, TagsError, TracingConfig, VpcConfig,
};
use super::validate;
use crate::faults::HiddenTags;
use crate::images::OwnImage;
use crate::settings::{Settings, StateReason};

/// Functions on one page of ListFunctions, at most.
const MAX_PAGE: usize = 50;
/// Removed functions that stale reads can still see.
const MAX_GHOSTS: usize = 1_000;
/// Timeout when none is given, in seconds.
const DEFAULT_TIMEOUT_S: i64 = 3;
/// MemorySize when none is given, in MB.
const DEFAULT_MEMORY_MB: i64 = 128;

/// All functions, and those removed a while ago.
#[derive(Clone, Debug, Default)]
pub(super) struct Functions {
    pub(super) live: BTreeMap<String, Function>,
    ghosts: BTreeMap<String, Function>,
    count: u64,
}

/// A function, from its creation to its removal.
#[derive(Clone, Debug)]
pub(super) struct Function {
    /// Tells a function from an earlier one of the same name.
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) config: Arc<Config>,
    /// What the configuration was before it was last updated, and when that was.
    pub(super) previous: Option<(i64, Arc<Config>)>,
    /// Until then the last update is in progress.
    pub(super) update_until: i64,
    /// Why the last update was not carried out, once it is over.
    pub(super) update_fails: Option<StateReason>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) events: Option<EventConfig>,
    pub(super) last_used: i64,
    /// Until then it is Pending.
    pub(super) ready_at: i64,
    /// It was Inactive before it became Pending.
    pub(super) restoring: bool,
    /// When it would be ready, or updated, if the files of its image were there.
    pub(super) waits_until: Option<i64>,
    pub(super) fails: Option<StateReason>,
    created_at: i64,
    deleted_at: Option<i64>,
}

/// How a function's Events are retried.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventConfig {
    pub(super) retries: Option<i64>,
    pub(super) max_age_s: Option<i64>,
    pub(super) modified_at: i64,
}

/// What a function is made of. Shared with the environments that were started with it.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) role: String,
    pub(super) image: Source,
    pub(super) image_config: Option<ImageConfig>,
    pub(super) environment: Option<Environment>,
    pub(super) memory_mb: u32,
    pub(super) timeout_s: u32,
    pub(super) ephemeral_storage: EphemeralStorage,
    pub(super) architectures: Vec<String>,
    pub(super) vpc: Option<VpcConfig>,
    pub(super) logging: LoggingConfig,
    pub(super) description: String,
    pub(super) revision_id: String,
    pub(super) modified_at: i64,
}

/// An image as it was when it was looked up.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) uri: String,
    pub(super) digest: String,
    /// `None`: it is this machine's file system.
    pub(super) own: Option<Arc<OwnImage>>,
}

impl Config {
    pub(super) fn log_group(&self, function: &str) -> String {
        self.logging.log_group.clone().unwrap_or_else(|| format!("/aws/lambda/{function}"))
    }

    pub(super) fn json_logs(&self) -> bool {
        self.logging.log_format.as_deref() == Some("JSON")
    }
}

impl Function {
    /// `State`, reason and code at a time.
    pub(super) fn state(&self, now: i64, inactive_after: Option<i64>) -> (&'static str, Option<StateReason>) {
        let reason =
            |code: &str, message: &str| Some(StateReason { code: code.to_owned(), message: message.to_owned() });
        if now < self.ready_at && self.restoring {
            return ("Pending", reason("Restoring", "The function is being restored."));
        }
        if now < self.ready_at {
            return ("Pending", reason("Creating", "The function is being created."));
        }
        if let Some(fails) = &self.fails {
            return ("Failed", Some(fails.clone()));
        }
        if inactive_after.is_some_and(|limit| now.saturating_sub(self.last_used) >= limit) {
            return ("Inactive", reason("Idle", "The function is idle."));
        }
        ("Active", None)
    }

    /// The configuration that an invocation at a time runs with: the old one while an update is in progress, and for good
    /// if it fails.
    pub(super) fn running_config(&self, now: i64) -> &Arc<Config> {
        match &self.previous {
            Some((_, previous)) if now < self.update_until || self.update_fails.is_some() => previous,
            _ => &self.config,
        }
    }

    fn exists(&self, at: i64) -> bool {
        self.created_at <= at && self.deleted_at.is_none_or(|deleted| at < deleted)
    }

    /// The configuration as a reader at a time sees it.
    fn described(&self, settings: &Settings, at: i64) -> FunctionConfiguration {
        let config = match &self.previous {
            Some((changed_at, previous)) if at < *changed_at => previous,
            _ => &self.config,
        };
        let (state, reason) = self.state(at, settings.timing.inactive_after);
        let is_updated = self.previous.as_ref().is_some_and(|(changed, _)| at >= *changed);
        let update_fails = self.update_fails.as_ref().filter(|_| is_updated && at >= self.update_until);
        let last_update_status = match state {
            "Pending" => "InProgress",
            "Failed" => "Failed",
            _ if is_updated && at < self.update_until => "InProgress",
            _ if update_fails.is_some() => "Failed",
            _ => "Successful",
        };
        FunctionConfiguration {
            function_name: self.name.clone(),
            function_arn: arn(settings, &self.name),
            role: config.role.clone(),
            code_size: 0,
            description: config.description.clone(),
            timeout: i64::from(config.timeout_s),
            memory_size: i64::from(config.memory_mb),
            last_modified: super::lines::iso_time(config.modified_at, "+0000"),
            code_sha256: config.image.digest.clone(),
            version: "$LATEST",
            vpc_config: config.vpc.clone(),
            environment: config.environment.clone(),
            tracing_config: TracingConfig { mode: "PassThrough" },
            revision_id: config.revision_id.clone(),
            package_type: "Image",
            image_config_response: config.image_config.clone().map(|image_config| ImageConfigResponse { image_config }),
            state: Some(state),
            state_reason: reason.as_ref().map(|reason| reason.message.clone()),
            state_reason_code: reason.map(|reason| reason.code),
            last_update_status: Some(last_update_status),
            last_update_status_reason: update_fails.map(|reason| reason.message.clone()),
            last_update_status_reason_code: update_fails.map(|reason| reason.code.clone()),
            architectures: config.architectures.clone(),
            ephemeral_storage: config.ephemeral_storage.clone(),
            snap_start: SnapStart { apply_on: "None", optimization_status: "Off" },
            logging_config: LoggingConfig {
                log_format: Some(if config.json_logs() { "JSON" } else { "Text" }.to_owned()),
                log_group: Some(config.log_group(&self.name)),
                ..config.logging.clone()
            },
        }
    }
}

/// A function's ARN without a qualifier.
pub(super) fn arn(settings: &Settings, name: &str) -> String {
    format!("arn:aws:lambda:{}:{}:function:{name}", settings.region, settings.account_id)
}

impl Functions {
    /// The function of this name as a reader at a time sees it.
    fn seen(&self, name: &str, at: i64) -> Option<&Function> {
        let live = self.live.get(name).filter(|function| function.exists(at));
        live.or_else(|| self.ghosts.get(name).filter(|function| function.exists(at)))
    }

    fn bury(&mut self, function: Function) {
        if self.ghosts.len() >= MAX_GHOSTS {
            self.ghosts.pop_first();
        }
        self.ghosts.insert(function.name.clone(), function);
    }
}

impl Model {
    fn not_found(&self, name: &FunctionName) -> ApiError {
        let qualifier = name.qualifier.as_ref().map(|q| format!(":{q}")).unwrap_or_default();
        let arn = arn(&self.settings, &name.name);
        ApiError::new(404, "ResourceNotFoundException", format!("Function not found: {arn}{qualifier}"))
    }

    /// The function as it is at a time. Versions and aliases do not exist here.
    pub(super) fn function_at(&self, name: &FunctionName, at: i64) -> Result<&Function, ApiError> {
        validate::name(&name.name)?;
        let latest = name.qualifier.as_deref().is_none_or(|qualifier| qualifier == "$LATEST");
        self.functions.seen(&name.name, at).filter(|_| latest).ok_or_else(|| self.not_found(name))
    }

    /// The function as it is, to be changed.
    pub(super) fn function_mut(&mut self, name: &FunctionName) -> Result<&mut Function, ApiError> {
        self.function_at(name, self.now)?;
        let missing = self.not_found(name);
        self.functions.live.get_mut(&name.name).ok_or(missing)
    }

    /// Refuses what cannot be done while a function is made or updated.
    pub(super) fn settled(&self, function: &Function) -> Result<(), ApiError> {
        let (state, _) = function.state(self.now, self.settings.timing.inactive_after);
        if state == "Pending" {
            return Err(state_conflict(state));
        }
        if self.now < function.update_until {
            let arn = arn(&self.settings, &function.name);
            return Err(ApiError::conflict(format!(
                "The operation cannot be performed at this time. An update is in progress for resource: {arn}"
            )));
        }
        Ok(())
    }

    pub(super) fn create_function(&mut self, shape: &CreateFunction) -> Result<Response, ApiError> {
        let name = FunctionName::parse(&shape.function_name, None).name;
        validate::name(&name)?;
        validate::tags(&shape.tags)?;
        if shape.package_type.as_deref() != Some("Image") {
            return Err(ApiError::invalid_parameter("Only functions with PackageType Image are supported here."));
        }
        validate::no_zip_members(shape.runtime.as_deref(), shape.handler.as_deref(), shape.layers.as_deref())?;
        let mut config = self.new_config(shape)?;
        if self.functions.live.contains_key(&name) {
            return Err(ApiError::conflict(format!("Function already exist: {name}")));
        }
        let (image, fails) = self.look_up_image(&shape.code, &config.architectures)?;
        let planned = self.now.saturating_add(self.sample(self.settings.timing.pending));
        let (ready_at, waits_until) = if fails.is_some() { (planned, None) } else { self.prepare(&image, planned) };
        config.image = image;
        self.functions.count += 1;
        let function = Function {
            id: self.functions.count,
            name: name.clone(),
            config: Arc::new(config),
            previous: None,
            update_until: 0,
            update_fails: None,
            tags: shape.tags.clone(),
            events: None,
            last_used: self.now,
            ready_at,
            restoring: false,
            waits_until,
            fails,
            created_at: self.now,
            deleted_at: None,
        };
        // AWS answers with Pending however fast the function is ready.
        let mut described = function.described(&self.settings, self.now.min(function.ready_at - 1));
        described.last_update_status = None;
        self.functions.live.insert(name, function);
        Ok(Response::Configuration(Box::new(described)))
    }

    /// Checks all but the image, which is looked up last, as in AWS.
    fn new_config(&mut self, shape: &CreateFunction) -> Result<Config, ApiError> {
        validate::role(&shape.role)?;
        let architectures = shape.architectures.clone().unwrap_or_else(|| vec!["x86_64".to_owned()]);
        validate::architectures(&architectures)?;
        let config = Config {
            role: shape.role.clone(),
            image: Source { uri: String::new(), digest: String::new(), own: None },
            image_config: shape.image_config.clone(),
            environment: shape.environment.clone(),
            memory_mb: validate::memory(
                shape.memory_size.unwrap_or(DEFAULT_MEMORY_MB),
                self.settings.quotas.memory_mb,
            )?,
            timeout_s: validate::timeout(shape.timeout.unwrap_or(DEFAULT_TIMEOUT_S))?,
            ephemeral_storage: shape.ephemeral_storage.clone().unwrap_or(EphemeralStorage { size: 512 }),
            architectures,
            vpc: shape.vpc_config.clone(),
            logging: shape.logging_config.clone().unwrap_or_default(),
            description: shape.description.clone().unwrap_or_default(),
            revision_id: self.rng.uuid(),
            modified_at: self.now,
        };
        config.check()?;
        Ok(config)
    }

    pub(super) fn get_function(&self, seen: i64, name: &FunctionName) -> Result<Response, ApiError> {
        let function = self.function_at(name, seen)?;
        let image = &function.config.image;
        let repository = image.uri.split('@').next().unwrap_or(&image.uri);
        let untagged = match repository.rsplit_once(':') {
            Some((before, tag)) if !tag.contains('/') => before,
            _ => repository,
        };
        let hidden = self.faults.faults().hidden_tags;
        Ok(Response::Function(Box::new(GetFunctionResponse {
            configuration: function.described(&self.settings, seen),
            code: FunctionCodeLocation {
                repository_type: "ECR",
                image_uri: image.uri.clone(),
                resolved_image_uri: format!("{untagged}@sha256:{}", image.digest),
            },
            tags: if hidden.is_some() { BTreeMap::new() } else { function.tags.clone() },
            tags_error: (hidden == Some(HiddenTags::WithAnError)).then(|| TagsError {
                error_code: "AccessDeniedException",
                message: "User is not authorized to perform: lambda:ListTags".to_owned(),
            }),
        })))
    }

    pub(super) fn get_function_configuration(&self, seen: i64, name: &FunctionName) -> Result<Response, ApiError> {
        let function = self.function_at(name, seen)?;
        Ok(Response::Configuration(Box::new(function.described(&self.settings, seen))))
    }

    pub(super) fn list_tags(&self, seen: i64, name: &FunctionName) -> Result<Response, ApiError> {
        let tags = self.function_at(name, seen)?.tags.clone();
        Ok(Response::Tags(ListTagsResponse { tags }))
    }

    pub(super) fn list_functions(&self, seen: i64, shape: &ListFunctions) -> Result<Response, ApiError> {
        let max_items = shape.max_items.unwrap_or(10_000);
        if !(1..=10_000).contains(&max_items) {
            let constraint = "Member must have value between 1 and 10000";
            return Err(ApiError::constraint(&max_items.to_string(), "maxItems", constraint));
        }
        let page = usize::try_from(max_items).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let after = shape.marker.as_deref().map(decode_marker).transpose()?.unwrap_or_default();
        let mut found: BTreeMap<&str, &Function> = BTreeMap::new();
        for table in [&self.functions.ghosts, &self.functions.live] {
            let from = (std::ops::Bound::Excluded(after.clone()), std::ops::Bound::Unbounded);
            let seen_here = table.range(from).filter(|(_, function)| function.exists(seen)).take(page + 1);
            found.extend(seen_here.map(|(name, function)| (name.as_str(), function)));
        }
        let next_marker =
            found.keys().nth(page.saturating_sub(1)).filter(|_| found.len() > page).map(|n| encode_marker(n));
        let functions = found.values().take(page).map(|function| listed(function.described(&self.settings, seen)));
        Ok(Response::Functions(ListFunctionsResponse { functions: functions.collect(), next_marker }))
    }

    pub(super) fn delete_function(&mut self, name: &FunctionName) -> Result<Response, ApiError> {
        self.function_at(name, self.now)?;
        if let Some(mut function) = self.functions.live.remove(&name.name) {
            function.deleted_at = Some(self.now);
            self.retire_environments_of(function.id);
            self.functions.bury(function);
        }
        Ok(Response::Empty)
    }
}

impl Config {
    /// Checks the members that CreateFunction and UpdateFunctionConfiguration share.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        validate::role(&self.role)?;
        validate::description(&self.description)?;
        validate::ephemeral_storage(&self.ephemeral_storage)?;
        self.environment.as_ref().map_or(Ok(()), validate::environment)?;
        self.image_config.as_ref().map_or(Ok(()), validate::image_config)?;
        self.vpc.as_ref().map_or(Ok(()), validate::vpc)?;
        validate::logging(&self.logging)
    }
}

pub(super) fn state_conflict(state: &str) -> ApiError {
    ApiError::conflict(format!(
        "The operation cannot be performed at this time. The function is currently in the following state: {state}"
    ))
}

/// ListFunctions tells less than GetFunction.
fn listed(mut configuration: FunctionConfiguration) -> FunctionConfiguration {
    configuration.state = None;
    configuration.state_reason = None;
    configuration.state_reason_code = None;
    configuration.last_update_status = None;
    configuration.last_update_status_reason = None;
    configuration.last_update_status_reason_code = None;
    configuration
}

fn encode_marker(name: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(name)
}

fn decode_marker(marker: &str) -> Result<String, ApiError> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(marker).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| ApiError::invalid_parameter("Invalid marker."))
}
