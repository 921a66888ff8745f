use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use sockerless_lambda::aws::Lane;
use sockerless_lambda::telemetry::{AWS_QUOTA_WAIT, AWS_REQUESTS, AWS_SECONDS, AWS_THROTTLES};

use crate::server::{Server, answer, error};

#[test]
fn calls_are_counted_and_measured() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(three_calls()));

    let page = recorder.handle().render();
    let expected = [
        format!(r#"{AWS_REQUESTS}{{service="lambda",operation="list functions",code="OK"}} 1"#),
        format!(r#"{AWS_REQUESTS}{{service="lambda",operation="list functions",code="TooManyRequestsException"}} 1"#),
        format!(r#"{AWS_REQUESTS}{{service="lambda",operation="list functions",code="Malformed"}} 1"#),
        format!(r#"{AWS_THROTTLES}{{service="lambda",operation="list functions"}} 1"#),
        format!(r#"{AWS_SECONDS}_count{{service="lambda",operation="list functions"}} 3"#),
        format!(r#"{AWS_QUOTA_WAIT}_count{{bucket="control_plane"}} 3"#),
    ];
    for line in expected {
        assert!(page.lines().any(|got| got == line), "{line}\n{page}");
    }
}

async fn three_calls() {
    let throttled = error(429, "TooManyRequestsException", "Rate Exceeded.").with("retry-after", "0");
    let server = Server::start([answer(200, json!({})), throttled, answer(200, "]")]).await;
    let cloud = server.cloud().await;
    cloud.list_functions(None).await.unwrap();
    cloud.lane(Lane::Retry).list_functions(None).await.unwrap_err();
    cloud.lane(Lane::Housekeeping).list_functions(None).await.unwrap_err();
}
