//! The platform's own log lines, in the shapes of both log formats.

use serde_json::json;

use super::failure::{Ended, Status};

/// An instant in UTC with milliseconds, such as `2024-01-02T03:04:05.678Z`; `zone` is what stands at its end.
pub(super) fn iso_time(ms: i64, zone: &str) -> String {
    format!("{}{zone}", in_utc(ms, "%Y-%m-%dT%H:%M:%S%.3f"))
}

/// A stream's name: the date is the environment's start in UTC.
pub(super) fn stream_name(started_at: i64, function: &str, environment: &str) -> String {
    format!("{}/{function}[$LATEST]{environment}", in_utc(started_at, "%Y/%m/%d"))
}

fn in_utc(ms: i64, format: &str) -> String {
    let instant = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    instant.to_zoned(jiff::tz::TimeZone::UTC).strftime(format).to_string()
}

/// What a REPORT line tells.
pub(super) struct Report<'a> {
    pub(super) request_id: &'a str,
    pub(super) at_ms: i64,
    pub(super) duration_ms: f64,
    pub(super) memory_mb: u32,
    pub(super) max_memory_mb: u32,
    /// Only for the first invocation of an environment.
    pub(super) init_ms: Option<f64>,
    pub(super) ended: &'a Ended,
}

pub(super) fn start(json: bool, request_id: &str, at_ms: i64) -> String {
    if json {
        let record = json!({ "requestId": request_id, "version": "$LATEST" });
        return platform("platform.start", at_ms, &record);
    }
    format!("START RequestId: {request_id} Version: $LATEST\n")
}

fn platform(kind: &str, at_ms: i64, record: &serde_json::Value) -> String {
    let time = iso_time(at_ms, "Z");
    format!("{{\"time\":\"{time}\",\"type\":\"{kind}\",\"record\":{record}}}\n")
}

impl Report<'_> {
    /// The lines at the end of an invocation in the JSON format.
    pub(super) fn json(&self) -> Vec<String> {
        let mut done = json!({
            "requestId": self.request_id,
            "status": self.ended.status.word(),
            "metrics": { "durationMs": round(self.duration_ms), "producedBytes": self.ended.payload.len() },
        });
        let mut report = json!({
            "requestId": self.request_id,
            "status": self.ended.status.word(),
            "metrics": {
                "durationMs": round(self.duration_ms),
                "billedDurationMs": self.duration_ms.ceil(),
                "memorySizeMB": self.memory_mb,
                "maxMemoryUsedMB": self.max_memory_mb,
            },
        });
        if let Some(error_type) = &self.ended.error_type {
            done["errorType"] = json!(error_type);
            report["errorType"] = json!(error_type);
        }
        if let Some(init) = self.init_ms {
            report["metrics"]["initDurationMs"] = json!(round(init));
        }
        vec![platform("platform.runtimeDone", self.at_ms, &done), platform("platform.report", self.at_ms, &report)]
    }

    /// The lines at the end of an invocation in the Text format, with the failure in the REPORT line.
    pub(super) fn text(&self) -> Vec<String> {
        let status = match (self.ended.status, &self.ended.error_type) {
            (Status::Success, _) => String::new(),
            (Status::Timeout, _) => "Status: timeout".to_owned(),
            (Status::Failure | Status::Error, None) => "Status: error".to_owned(),
            (Status::Failure | Status::Error, Some(kind)) => format!("Status: error\tError Type: {kind}"),
        };
        vec![self.end_line(), self.report_line(&status)]
    }

    /// The lines at the end of an invocation in the Text format, with the failure in lines of its own.
    pub(super) fn older_text(&self) -> Vec<String> {
        let mut lines = vec![self.end_line(), self.report_line("")];
        match (self.ended.status, &self.ended.message, &self.ended.error_type) {
            (Status::Timeout, Some(message), _) => {
                lines.push(format!("{} {} {message}\n", iso_time(self.at_ms, "Z"), self.request_id));
            }
            (Status::Error, Some(message), Some(kind)) => {
                lines.push(format!("RequestId: {} Error: {message}\n", self.request_id));
                lines.push(format!("{kind}\n"));
            }
            _ => {}
        }
        lines
    }

    fn end_line(&self) -> String {
        format!("END RequestId: {}\n", self.request_id)
    }

    fn report_line(&self, status: &str) -> String {
        let init = self.init_ms.map(|init| format!("Init Duration: {init:.2} ms\t")).unwrap_or_default();
        format!(
            "REPORT RequestId: {}\tDuration: {:.2} ms\tBilled Duration: {:.0} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t{init}{status}\n",
            self.request_id,
            self.duration_ms,
            self.duration_ms.ceil(),
            self.memory_mb,
            self.max_memory_mb,
        )
    }
}

/// To the thousandth, as the platform's JSON lines have it.
fn round(ms: f64) -> f64 {
    (ms * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::End;

    fn report<'a>(ended: &'a Ended, init_ms: Option<f64>) -> Report<'a> {
        Report {
            request_id: "ID",
            at_ms: 1_704_164_645_678,
            duration_ms: 10.506,
            memory_mb: 128,
            max_memory_mb: 40,
            init_ms,
            ended,
        }
    }

    #[test]
    fn names_and_times() {
        assert_eq!(iso_time(1_704_164_645_678, "Z"), "2024-01-02T03:04:05.678Z");
        assert_eq!(iso_time(1_704_164_645_000, "+0000"), "2024-01-02T03:04:05.000+0000");
        assert_eq!(stream_name(1_704_164_645_678, "f", "0f"), "2024/01/02/f[$LATEST]0f");
    }

    #[test]
    fn a_success() {
        let ended = Ended::new("ID", 3, End::Response(bytes::Bytes::new()));
        assert_eq!(start(false, "ID", 0), "START RequestId: ID Version: $LATEST\n");
        assert_eq!(
            report(&ended, Some(84.0)).text(),
            [
                "END RequestId: ID\n",
                "REPORT RequestId: ID\tDuration: 10.51 ms\tBilled Duration: 11 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB\tInit Duration: 84.00 ms\t\n"
            ]
        );
        assert_eq!(report(&ended, None).older_text().len(), 2);
        let json: serde_json::Value = serde_json::from_str(&report(&ended, None).json()[1]).unwrap();
        assert_eq!(json["type"], "platform.report");
        assert_eq!(json["record"]["status"], "success");
    }

    #[test]
    fn failures() {
        let timeout = Ended::new("ID", 3, End::TimedOut);
        assert!(report(&timeout, None).text()[1].ends_with("Max Memory Used: 40 MB\tStatus: timeout\n"));
        assert_eq!(
            report(&timeout, None).older_text()[2],
            "2024-01-02T03:04:05.678Z ID Task timed out after 3.00 seconds\n"
        );
        let exit = Ended::new("ID", 3, End::Exited { code: 3 });
        assert!(report(&exit, None).text()[1].ends_with("\tStatus: error\tError Type: Runtime.ExitError\n"));
        assert_eq!(
            report(&exit, None).older_text()[2..],
            ["RequestId: ID Error: Runtime exited with error: exit status 3\n", "Runtime.ExitError\n"]
        );
    }
}
