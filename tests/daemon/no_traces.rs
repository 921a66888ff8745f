//! A build without traces that is asked for them says so.

use crate::support::Home;

#[test]
fn a_build_without_traces_says_that_there_are_none() {
    let home = Home::new();
    let told = |endpoint: &str| {
        let mut command = home.command(&["--sandbox", "--reconcile-once", "--dry-run"]);
        let output = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).output().unwrap();
        String::from_utf8_lossy(&output.stderr).contains("was built without the cargo feature `otlp`")
    };
    assert!(told("http://127.0.0.1:4318"));
    assert!(!told(""));
}
