//! One sample of a container's use, from its last REPORT line. PURE.

use serde_json::{Value, json};

use super::time::UNSET;
use crate::clock::Timestamp;
use crate::state::model::Container;

const BYTES_PER_MB: u64 = 1_024 * 1_024;

/// Memory as the last run used it; all else is unknown, which Docker writes as zero.
pub(in crate::api) fn stats(container: &Container, now: Timestamp) -> Value {
    let report = container.status.run.as_ref().and_then(|run| run.report.as_ref());
    let bytes = |mb: u32| u64::from(mb) * BYTES_PER_MB;
    let cpu = json!({
        "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
        "system_cpu_usage": 0,
        "online_cpus": 1,
        "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
    });
    json!({
        "id": container.id.to_string(),
        "name": format!("/{}", container.name),
        "os_type": "linux",
        "read": now.to_string(),
        "preread": UNSET,
        "num_procs": 0,
        "pids_stats": {},
        "storage_stats": {},
        "networks": {},
        "blkio_stats": {
            "io_service_bytes_recursive": [],
            "io_serviced_recursive": [],
            "io_queue_recursive": [],
            "io_service_time_recursive": [],
            "io_wait_time_recursive": [],
            "io_merged_recursive": [],
            "io_time_recursive": [],
            "sectors_recursive": [],
        },
        "cpu_stats": cpu,
        "precpu_stats": cpu,
        "memory_stats": {
            "usage": report.map_or(0, |report| bytes(report.max_memory_mb)),
            "max_usage": report.map_or(0, |report| bytes(report.max_memory_mb)),
            "limit": bytes(container.spec.config.function.memory_mb),
            "stats": {},
        },
    })
}
