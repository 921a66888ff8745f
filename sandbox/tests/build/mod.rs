//! Programs of other crates and examples, built like the test that needs them: Cargo does not tell where they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Builds a program of the workspace (`--bin NAME`, `--example NAME`) and returns where it is.
pub(crate) fn build(program: [&str; 2]) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        // As `cargo test --workspace`: of one package, or without an example, dependencies have other features and are
        // built once more.
        .args(["build", "--workspace", "--example", "environment"])
        .args(program)
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let path = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).unwrap();
        message["executable"].as_str().filter(|_| message["target"]["name"] == program[1]).map(PathBuf::from)
    });
    path.unwrap()
}
