//! What goes wrong in AWS and on the way to it, drawn anew every now and then; and calm in between.

use serde_json::{Value, json};

use crate::rng::Rng;

/// Kinds of trouble that any call can have.
const ANYWHERE: &[&str] = &[
    "throttle",
    "service_error",
    "service_error_after",
    "reset_before",
    "reset_after",
    "lose_answer",
    "delay",
    "malformed_body",
];

/// The sandbox's faults until the next change.
pub(crate) fn draw(rng: &mut Rng) -> Value {
    if rng.percent(40) {
        return json!({});
    }
    let rules: Vec<Value> = (0..=rng.below(3)).map(|_| rule(rng)).collect();
    json!({
        "rules": rules,
        "reorder_logs": rng.percent(50),
        "log_delay_ms": rng.pick(&[0, 0, 500, 3_000]),
    })
}

fn rule(rng: &mut Rng) -> Value {
    let probability = rng.pick(&[0.02, 0.1, 0.3]);
    match rng.below(10) {
        0 => json!({ "operation": "GetFunction", "probability": probability,
            "kind": { "type": "stale", "ms": rng.pick(&[300, 1_500]) } }),
        1 => json!({ "operation": "FilterLogEvents", "probability": probability, "kind": { "type": "empty_page" } }),
        2 => json!({ "operation": "CreateFunction", "probability": probability,
            "kind": { "type": "role_not_assumable" } }),
        3 => json!({ "operation": "Invoke", "probability": 0.05, "kind": kind(rng) }),
        _ => json!({ "probability": probability, "kind": kind(rng) }),
    }
}

fn kind(rng: &mut Rng) -> Value {
    let name = rng.pick(ANYWHERE);
    match name {
        "throttle" => json!({ "type": name, "retry_after_s": rng.pick(&[None, Some(1)]) }),
        "service_error" | "service_error_after" => json!({ "type": name, "status": rng.pick(&[500, 502]) }),
        "delay" => json!({ "type": name, "ms": rng.pick(&[50, 300, 1_500]) }),
        _ => json!({ "type": name }),
    }
}
