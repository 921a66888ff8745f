//! The only program of the tests' images, static, so that an image needs nothing else. Does what its arguments say, one
//! after the other, and prints what it sees.

use std::io::{Read, Write};

/// What makes a program a front in these tests.
#[used]
static MARK: &str = "this program is a front";

fn main() {
    for word in std::env::args().skip(1) {
        let (verb, rest) = word.split_once('=').unwrap_or((&word, ""));
        match verb {
            "args" => println!("args {:?}", std::env::args().collect::<Vec<_>>()),
            "env" => println!("{rest}={:?}", std::env::var(rest).ok()),
            "cwd" => println!("cwd {}", std::env::current_dir().unwrap().display()),
            "read" => println!("{rest}: {:?}", std::fs::read_to_string(rest).map_err(|e| e.kind())),
            "status" => println!("{}", status(rest)),
            "list" => println!("{rest}: {}", list(rest).join(" ")),
            "numbers" => println!("{rest}: {}", list(rest).iter().filter(|name| name.parse::<u32>().is_ok()).count()),
            "write" => println!("write {rest}: {:?}", std::fs::write(rest, "x").map_err(|e| e.kind())),
            "fill" => println!("fill: {:?}", fill(rest.parse().unwrap())),
            "remove" => println!("remove {rest}: {:?}", std::fs::remove_file(rest).map_err(|e| e.kind())),
            "sleep" => std::thread::sleep(std::time::Duration::from_secs(rest.parse().unwrap())),
            "runtime" => runtime(rest),
            "mark" => println!("{MARK}"),
            "exit" => std::process::exit(rest.parse().unwrap()),
            other => println!("what is {other}?"),
        }
    }
}

fn status(name: &str) -> String {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap_or(name);
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn list(path: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes so many MB to /tmp.
fn fill(megabytes: usize) -> Result<(), std::io::ErrorKind> {
    let mut file = std::fs::File::create("/tmp/fill").map_err(|e| e.kind())?;
    let megabyte = vec![1; 1 << 20];
    let written = (0..megabytes).try_for_each(|_| file.write_all(&megabyte));
    std::fs::remove_file("/tmp/fill").unwrap();
    written.map_err(|e| e.kind())
}

/// A Lambda runtime of its own: answers with what it was given and this text.
fn runtime(text: &str) {
    let address = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    loop {
        let next = http(&address, "GET", "invocation/next", "");
        let (head, payload) = next.split_once("\r\n\r\n").unwrap();
        let id = head.lines().find_map(|line| line.strip_prefix("lambda-runtime-aws-request-id: ")).unwrap();
        println!("serving");
        let body = format!("{{\"given\":{payload},\"text\":{text:?}}}");
        http(&address, "POST", &format!("invocation/{id}/response"), &body);
    }
}

fn http(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
