//! Lines that a hostile program prints: shaped like the platform's, like the bootstrap's, or like nothing.

use super::rng::Rng;

/// The bytes of a line that is long.
const LONG_BYTES: usize = 20_000;
/// Bytes that no event and no page holds.
const HUGE_BYTES: usize = 2 * 1_024 * 1_024;
/// One line in so many of the kind that may be huge is.
const HUGE_ONE_IN: usize = 40;

/// The kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Start,
    End,
    Report,
    Failed,
    TimedOut,
    Init,
    Json,
    Marker,
    Prefix,
    Control,
    NotUtf8,
    Empty,
    Unfinished,
    Long,
}

/// All of them.
pub(crate) const KINDS: [Kind; 15] = [
    Kind::Plain,
    Kind::Start,
    Kind::End,
    Kind::Report,
    Kind::Failed,
    Kind::TimedOut,
    Kind::Init,
    Kind::Json,
    Kind::Marker,
    Kind::Prefix,
    Kind::Control,
    Kind::NotUtf8,
    Kind::Empty,
    Kind::Unfinished,
    Kind::Long,
];

/// Numbers as nobody should take them, and some as the platform writes them.
pub(crate) const NUMBERS: &[&str] = &[
    "1",
    "10.51",
    "0",
    "-1",
    "-0.0",
    "NaN",
    "nan",
    "inf",
    "-inf",
    "+infinity",
    "1e999",
    "-1e999",
    "1e-999",
    "1e3",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "0x10",
    "1_000",
    "1,5",
    "+5",
    "00012",
    ".5",
    "5.",
    "",
    " ",
    "\u{0661}",
    "99999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999",
    "0.000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001",
];
const UNITS: &[&str] = &["ms", "MB", "s", "", "ms ms", "KB", "\u{b5}s"];

/// What a program knows when it prints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids {
    /// Of its own invocation. `None`: it was not given to the program.
    pub(crate) own: Option<String>,
    /// Of other containers' invocations.
    pub(crate) others: Vec<String>,
}

impl Ids {
    fn draw(&self, rng: &mut Rng) -> String {
        let random = {
            let hex = rng.hex32();
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
        };
        match (rng.below(8), &self.own) {
            (0..=4, Some(own)) => own.clone(),
            (5, _) if !self.others.is_empty() => rng.pick(&self.others).clone(),
            (6, _) => (*rng.pick(&["", "x", "6bc28136-xmpl-4365-b021-0ce6b2e64ab0", "----"])).to_owned(),
            _ => random,
        }
    }
}

/// A line and when it is printed.
#[derive(Clone, Debug)]
pub(crate) struct Print {
    pub(crate) after_ms: i64,
    pub(crate) stderr: bool,
    pub(crate) text: Text,
}

/// A line.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    /// Follows from the kind and the seed.
    Drawn(Kind, u64),
    /// As it is, but for `{ID}`, which stands for the program's own request id.
    Given(&'static str),
}

impl Print {
    pub(crate) fn drawn(rng: &mut Rng, within_ms: i64) -> Self {
        let after_ms = rng.between(0, within_ms);
        Self { after_ms, stderr: rng.one_in(4), text: Text::Drawn(*rng.pick(&KINDS), rng.next()) }
    }

    /// The bytes, with their newline if there is one.
    pub(crate) fn bytes(&self, ids: &Ids) -> Vec<u8> {
        match &self.text {
            Text::Given(text) => {
                let own = ids.own.as_deref().unwrap_or("00000000-0000-0000-0000-000000000000");
                format!("{}\n", text.replace("{ID}", own)).into_bytes()
            }
            Text::Drawn(kind, seed) => line(*kind, *seed, ids),
        }
    }
}

/// The line of a kind and a seed.
pub(crate) fn line(kind: Kind, seed: u64, ids: &Ids) -> Vec<u8> {
    let mut rng = Rng::stream(seed, 2);
    let mut line = match kind {
        Kind::Control => (0..rng.below(60)).map(|_| u8::try_from(rng.below(32)).unwrap()).collect(),
        Kind::NotUtf8 => (0..rng.below(200)).map(|_| u8::try_from(rng.below(256)).unwrap()).collect(),
        Kind::Long => long(&mut rng, ids),
        Kind::Empty => Vec::new(),
        kind => {
            let text = text(kind, &mut rng, ids);
            framed(&mut rng, text).into_bytes()
        }
    };
    if kind != Kind::Unfinished {
        line.push(b'\n');
    }
    line
}

fn text(kind: Kind, rng: &mut Rng, ids: &Ids) -> String {
    let id = ids.draw(rng);
    match kind {
        Kind::Start => format!("START RequestId: {id} Version: {}", rng.pick(&["$LATEST", "1", "", "\u{0}"])),
        Kind::End => format!("END RequestId: {id}"),
        Kind::Report => report(rng, &id),
        Kind::Failed => {
            let words = [
                "Runtime exited with error: exit status 0",
                "Runtime exited with error: exit status 3",
                "Runtime exited with error: exit status 99999999999999999999",
                "Runtime exited with error: signal: killed",
                "Task timed out after NaN seconds",
                "",
                "Error: Error: ",
            ];
            let second = ["", "\nRuntime.ExitError", "\r\nRuntime.OutOfMemory"];
            format!("RequestId: {id} Error: {}{}", rng.pick(&words), rng.pick(&second))
        }
        Kind::TimedOut => {
            let time = ["2027-01-15T08:00:00.000Z", "T", "", "9999-99-99T99:99:99Z"];
            format!("{} {id} Task timed out after {} seconds", rng.pick(&time), rng.pick(NUMBERS))
        }
        Kind::Init => {
            let word = rng.pick(&["INIT_START Runtime Version: x", "INIT_REPORT Init Duration:", "INIT_REPORT"]);
            format!("{word} {} ms\tPhase: init\tStatus: timeout", rng.pick(NUMBERS))
        }
        Kind::Json => json(rng, &id),
        Kind::Marker => marker(rng, &id),
        Kind::Prefix => {
            let prefixes = ["[stderr] ", "[stdout+] ", "[stderr+%] ", "[stdout%] ", "[stdout", "[stderr%] %0", "["];
            format!("{}{}", rng.pick(&prefixes), rng.pick(&["%00%FF", "text", "@sockerless:exit t 0 exited", ""]))
        }
        Kind::Unfinished => (*rng.pick(&["$ ", "", "START RequestId: "])).to_owned(),
        _ => format!("hostile {}", rng.hex32()),
    }
}

/// A REPORT with members that are missing, twice there, in any order and of any value.
fn report(rng: &mut Rng, id: &str) -> String {
    let names = ["Duration", "Billed Duration", "Memory Size", "Max Memory Used", "Init Duration", "Restore Duration"];
    let mut members: Vec<String> = Vec::new();
    for name in names {
        let times = if rng.one_in(8) { rng.below(3) } else { 1 };
        for _ in 0..times {
            let number = if rng.one_in(2) { *rng.pick(NUMBERS) } else { "1" };
            let fits = if name.contains("Memory") { "MB" } else { "ms" };
            let unit = if rng.one_in(6) { *rng.pick(UNITS) } else { fits };
            members.push(format!("{name}: {number} {unit}"));
        }
    }
    if rng.one_in(2) {
        let words = ["success", "timeout", "error", "error\tError Type: Runtime.ExitError", "", "x\tError Type: "];
        members.push(format!("Status: {}", rng.pick(&words)));
    }
    if rng.one_in(3) {
        let (from, to) = (rng.below(members.len()), rng.below(members.len()));
        members.swap(from, to);
    }
    format!("REPORT RequestId: {id}\t{}\t", members.join("\t"))
}

fn json(rng: &mut Rng, id: &str) -> String {
    let kinds =
        ["platform.start", "platform.report", "platform.runtimeDone", "platform.initReport", "platform.x", "function"];
    let (kind, number) = (rng.pick(&kinds), rng.pick(NUMBERS));
    let metrics = format!("{{\"durationMs\":{number},\"maxMemoryUsedMB\":{number}}}");
    let record = format!("{{\"requestId\":\"{id}\",\"status\":\"success\",\"metrics\":{metrics}}}");
    format!("{{\"time\":\"2027-01-15T08:00:00.000Z\",\"type\":\"{kind}\",\"record\":{record}}}")
}

/// A line like the bootstrap's, of a token that the program does not know.
fn marker(rng: &mut Rng, id: &str) -> String {
    let token = rng.hex32();
    let kind = *rng.pick(&["start", "exit", "duplicate", "exit ", "", "x"]);
    let rest = *rng.pick(&["0 exited", "255 signalled 9", "256 exited", "1 not_started", "1 deadline", "x"]);
    match kind {
        "start" | "duplicate" => format!("@sockerless:{kind} {token} {id}"),
        kind => format!("@sockerless:{kind} {token} {rest}"),
    }
}

fn long(rng: &mut Rng, ids: &Ids) -> Vec<u8> {
    let bytes = if rng.one_in(HUGE_ONE_IN) { HUGE_BYTES } else { LONG_BYTES };
    let begins = text(*rng.pick(&[Kind::Plain, Kind::Report, Kind::Marker, Kind::Failed]), rng, ids);
    let fill = *rng.pick(&["x", "\u{20ac}", "\t", "%", "\u{1}"]);
    let mut line = begins.into_bytes();
    while line.len() < bytes {
        line.extend_from_slice(fill.repeat(1_000).as_bytes());
    }
    line
}

/// The line, sometimes with something in front or behind that a reader may overlook.
fn framed(rng: &mut Rng, line: String) -> String {
    match rng.below(12) {
        0 => format!(" {line}"),
        1 => format!("{line}\r"),
        2 => format!("\u{feff}{line}"),
        3 => format!("\r{line}"),
        4 => format!("\u{0}{line}"),
        _ => line,
    }
}
