//! Programs of other crates and examples, built like the test that needs them: Cargo does not tell where they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Builds a program of the workspace (`--bin NAME`, `--example NAME`) and tells where it is.
pub(crate) fn build(package: &str, program: [&str; 2]) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", package])
        .args(program)
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let path = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).unwrap();
        message["executable"].as_str().map(PathBuf::from)
    });
    path.unwrap()
}
