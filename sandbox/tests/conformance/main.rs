//! The real SDK against the sandbox, point by point.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod admin;
mod connections;
mod faults;
mod functions;
mod invoke;
mod keys;
mod logs;
mod seams;

use std::sync::Arc;

use aws_sdk_cloudwatchlogs as logs_sdk;
use aws_sdk_lambda as lambda_sdk;
use bytes::Bytes;
use lambda_sdk::config::retry::RetryConfig;
use lambda_sdk::config::timeout::TimeoutConfig;
use lambda_sdk::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use lambda_sdk::operation::create_function::builders::CreateFunctionFluentBuilder;
use lambda_sdk::types::{FunctionCode, PackageType};
use sockerless_sandbox::model::{End, Handover};
use sockerless_sandbox::script::Program;
use sockerless_sandbox::settings::Settings;
use sockerless_sandbox::{Options, Programs, Sandbox};

/// An execution role.
const ROLE: &str = "arn:aws:iam::000000000000:role/functions";
/// The log group of the tests' functions.
const GROUP: &str = "/sockerless/test";

/// Longer than any test takes.
const FOREVER_MS: i64 = 3_600_000;

/// A sandbox with clients.
struct Aws {
    sandbox: Sandbox,
    lambda: lambda_sdk::Client,
    logs: logs_sdk::Client,
}

impl Aws {
    async fn start(settings: Settings) -> Self {
        Self::with(Options::new(settings, Programs::scripted(by_payload))).await
    }

    async fn with(options: Options) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        let (lambda, logs) = clients(&sandbox.endpoint(), "AKIATEST");
        Self { sandbox, lambda, logs }
    }

    fn create(&self, name: &str) -> CreateFunctionFluentBuilder {
        self.lambda
            .create_function()
            .function_name(name)
            .role(ROLE)
            .package_type(PackageType::Image)
            .code(FunctionCode::builder().image_uri("host").build())
            .logging_config(lambda_sdk::types::LoggingConfig::builder().log_group(GROUP).build())
    }
}

fn clients(endpoint: &str, key: &str) -> (lambda_sdk::Client, logs_sdk::Client) {
    clients_with(endpoint, key, "secret")
}

fn clients_with(endpoint: &str, key: &str, secret: &str) -> (lambda_sdk::Client, logs_sdk::Client) {
    let credentials = Credentials::new(key, secret, None, None, "test");
    let lambda = lambda_sdk::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials.clone())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .endpoint_url(endpoint)
        .build();
    let logs = logs_sdk::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .build();
    (lambda_sdk::Client::from_conf(lambda), logs_sdk::Client::from_conf(logs))
}

/// The program does what the payload says: `{"lines":[…],"ms":N,"end":"…"}`.
fn by_payload(handover: &Handover) -> Program {
    let order: serde_json::Value = serde_json::from_slice(&handover.payload).unwrap_or_default();
    let lines = order["lines"].as_array().into_iter().flatten();
    let answer = serde_json::json!({ "echo": order, "context": handover.client_context }).to_string();
    let posted = || Bytes::from_static(br#"{"errorType":"Custom","errorMessage":"no luck"}"#);
    let end = match order["end"].as_str() {
        Some("exit 3") => End::Exited { code: 3 },
        Some("exit 0") => End::Exited { code: 0 },
        Some("memory") => End::OutOfMemory,
        Some("error") => End::Error { error_type: "Function.NoLuck".to_owned(), body: posted() },
        Some("init") => End::InitError { error_type: "Runtime.BadInit".to_owned(), body: posted() },
        _ => End::Response(answer.into()),
    };
    Program {
        lines: lines.map(|line| (0, line.as_str().unwrap_or_default().to_owned())).collect(),
        duration_ms: order["ms"].as_u64().and_then(|ms| u32::try_from(ms).ok()).unwrap_or(0),
        end,
        max_memory_mb: 40,
    }
}

/// Looks again until something is so; fails after ten seconds.
async fn eventually<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    for _ in 0..2_000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it did not happen within ten seconds");
}

/// All messages of the tests' group, in order.
async fn messages(aws: &Aws) -> Vec<String> {
    let page = aws.logs.filter_log_events().log_group_name(GROUP).send().await;
    let events = page.map(|page| page.events.unwrap_or_default()).unwrap_or_default();
    events.into_iter().filter_map(|event| event.message).collect()
}

fn always(program: Program) -> Programs {
    let program = Arc::new(program);
    Programs::scripted(move |_| Program::clone(&program))
}
