//! A Lambda runtime of its own, as an image of the native protocol has one: it knows nothing of the bootstrap.
//!
//! Runs a script for each invocation. A script that ends with 0 is a handler that returned; after any other the
//! process ends with the script's exit code.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, ExitCode};

/// The first argument of the process that is such a runtime.
pub(crate) const COMMAND: &str = "native-runtime";
const PREFIX: &str = "/2018-06-01/runtime/invocation";
const REQUEST_ID: &str = "lambda-runtime-aws-request-id: ";

/// Serves invocations until one fails.
pub(crate) fn serve(script: &str) -> ExitCode {
    let address = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    loop {
        let answer = exchange(&address, "GET", &format!("{PREFIX}/next"), "");
        let head = answer.to_ascii_lowercase();
        let request_id = head.split(REQUEST_ID).nth(1).and_then(|rest| rest.lines().next()).unwrap().to_owned();
        let code = Command::new("sh").args(["-c", script]).status().unwrap().code().unwrap_or(1);
        if code != 0 {
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
        exchange(&address, "POST", &format!("{PREFIX}/{request_id}/response"), "{}");
    }
}

fn exchange(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
