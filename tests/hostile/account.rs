//! What a function may do with its execution role, and what others have in the same account.

use std::collections::BTreeMap;

use sockerless_sandbox::model::lambda_api::{Code, CreateFunction, EphemeralStorage, LoggingConfig};
use sockerless_sandbox::model::logs_api::{
    CreateLogGroup, DescribeLogStreams, InputLogEvent, LogStreamName, PutLogEvents,
};
use sockerless_sandbox::model::{Request, Response};

use super::daemon::{CLAIMS_GROUP, LOG_GROUP, PREFIX, ROLE};
use super::output::{self, Ids};
use super::rng::Rng;
use super::world::World;

/// Lines of a flood: more than [`super::world::FLOOD_SCAN`] for each of the 500 pages that one pass reads.
pub(crate) const FLOOD_LINES: usize = 12_000;
/// Events that one call may put.
const MOST_EVENTS: usize = 10_000;
/// The longest event, in bytes, as AWS takes it.
const MAX_EVENT_BYTES: usize = 256 * 1_024 - 26;
/// More streams than one page, and than 20 pages, of a list hold.
const MANY_STREAMS: usize = 1_100;
/// One act in so many of the kind that makes many streams makes all of them.
const MANY_ONE_IN: usize = 10;
/// Epochs of claims: near, absurd, and no numbers.
const EPOCHS: &[&str] = &[
    "2",
    "9999",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "007",
    "1e9",
    "",
    "x",
    " 1",
    "00000000000000000003",
    "00000000004294967296",
];
/// Epochs that no daemon has reached, as claims have them.
const ABSURD_EPOCHS: &[&str] =
    &["00000001000000100000", "09223372036854775807", "18446744073709551615", "9", "-1", "99999999999999999999", "x"];
/// One in this many acts of that kind is done in the claims group. It takes more rights than a function has, and the
/// daemon must raise an alarm: worlds without one show that it raises none otherwise.
const FORGED_ONE_IN: usize = 8;

/// The kinds of acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Somebody makes a function with our prefix, and perhaps some of our tags.
    Function,
    /// Somebody makes a log group that is called almost as ours.
    Group,
    /// A function makes a log stream that is called as a claim.
    Claim,
    /// The same with an epoch that no daemon can have reached; rarely where the claims are.
    AbsurdClaim,
    /// A function makes a log stream that is called as one of another container's function.
    Stream,
    /// A function writes lines into such a stream.
    Events,
    /// A function makes a thousand streams.
    Streams,
    /// A function writes more lines than one pass over the log reads. Played in worlds of its own.
    Flood,
}

/// All of them, but the flood.
pub(crate) const KINDS: [Kind; 7] =
    [Kind::Function, Kind::Group, Kind::Claim, Kind::AbsurdClaim, Kind::Stream, Kind::Events, Kind::Streams];

/// An act that follows from its kind and seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deed {
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
}

impl Deed {
    /// Does it. AWS may refuse. `targets`: the names of other containers' functions.
    pub(crate) fn carry_out(self, world: &World, targets: &[String]) {
        let mut rng = Rng::stream(self.seed, 9);
        let rng = &mut rng;
        let instance = world.instance.clone();
        match self.kind {
            Kind::Function => drop(world.operate(&function(rng, &instance, targets))),
            Kind::Group => {
                let names = ["/sockerless/lambda2", "/sockerless", "/aws/lambda/x", "/sockerless/lambda/x"];
                let log_group_name = (*rng.pick(&names)).to_owned();
                let _ =
                    world.operate(&Request::CreateLogGroup(CreateLogGroup { log_group_name, tags: BTreeMap::new() }));
            }
            Kind::Claim => drop(make_stream(world, &format!("{instance}/{}", rng.pick(EPOCHS)))),
            Kind::AbsurdClaim => {
                let group = if rng.one_in(FORGED_ONE_IN) { CLAIMS_GROUP } else { LOG_GROUP };
                let is_made = make_stream_in(world, group, &format!("{instance}/{}", rng.pick(ABSURD_EPOCHS))).is_ok();
                world.claims_are_forged.set(world.claims_are_forged.get() || is_made && group == CLAIMS_GROUP);
            }
            Kind::Stream => drop(make_stream(world, &stream(rng, &instance, targets))),
            Kind::Events => {
                let stream = stream(rng, &instance, targets);
                let _ = make_stream(world, &stream);
                put(world, &stream, events(rng, world.now_ms()));
            }
            Kind::Streams => {
                let count = if rng.one_in(MANY_ONE_IN) { MANY_STREAMS } else { 20 };
                for no in 1..=count {
                    let _ = make_stream(world, &format!("{instance}/x{no}"));
                }
            }
            Kind::Flood => flood(rng, world, targets),
        }
    }
}

fn make_stream(world: &World, name: &str) -> Result<(), String> {
    make_stream_in(world, LOG_GROUP, name)
}

fn make_stream_in(world: &World, group: &str, name: &str) -> Result<(), String> {
    let (log_group_name, log_stream_name) = (group.to_owned(), name.to_owned());
    world.operate(&Request::CreateLogStream(LogStreamName { log_group_name, log_stream_name })).map(drop)
}

fn put(world: &World, stream: &str, log_events: Vec<InputLogEvent>) {
    let (log_group_name, log_stream_name) = (LOG_GROUP.to_owned(), stream.to_owned());
    // AWS refuses some of them.
    let _ = world.operate(&Request::PutLogEvents(PutLogEvents { log_group_name, log_stream_name, log_events }));
}

/// A function with our prefix. One with all of our tags would be ours.
fn function(rng: &mut Rng, instance: &str, targets: &[String]) -> Request {
    let digits = &rng.hex32()[..24];
    let name = match rng.below(6) {
        0 if !targets.is_empty() => format!("{}-2", rng.pick(targets)),
        1 => format!("{PREFIX}-{instance}"),
        2 => format!("{PREFIX}-{instance}-{}", "z".repeat(24)),
        3 => format!("{PREFIX}-9999999999-{digits}"),
        4 => format!("{PREFIX}{instance}-{digits}"),
        _ => format!("{PREFIX}-{instance}-{digits}"),
    };
    let tags = [
        ("sockerless.instance", [instance, "9999999999", "", "x"]),
        ("sockerless.container", ["nobody", "", "abababababab", "\u{e9}"]),
        ("sockerless.created", ["1", "NaN", "-1", "99999999999999999999"]),
        ("sockerless.managed-by", ["sockerless", "", "x", "y"]),
    ];
    let tags = tags.iter().filter(|_| rng.one_in(2)).collect::<Vec<_>>();
    let tags = tags.into_iter().map(|(key, values)| ((*key).to_owned(), (*rng.pick(values)).to_owned())).collect();
    Request::CreateFunction(Box::new(CreateFunction {
        function_name: name,
        role: ROLE.to_owned(),
        code: Code { image_uri: Some("host:latest".to_owned()) },
        package_type: Some("Image".to_owned()),
        timeout: Some(10),
        memory_size: Some(128),
        architectures: Some(vec!["x86_64".to_owned()]),
        ephemeral_storage: Some(EphemeralStorage { size: 512 }),
        logging_config: Some(LoggingConfig { log_group: Some(LOG_GROUP.to_owned()), ..LoggingConfig::default() }),
        tags,
        ..CreateFunction::default()
    }))
}

/// The name of a stream of another container's function, or of almost one.
fn stream(rng: &mut Rng, instance: &str, targets: &[String]) -> String {
    let environment = rng.hex32();
    let nobody = format!("{PREFIX}-{instance}-{}", &environment[..24]);
    let function = if targets.is_empty() || rng.one_in(4) { &nobody } else { rng.pick(targets) };
    match rng.below(6) {
        0 => format!("2027/01/15/{function}[$LATEST]"),
        1 => format!("2027/01/15/{function}[1]{environment}"),
        2 => format!("9999/99/99/{function}[$LATEST]{environment}"),
        3 => format!("{instance}/{function}"),
        _ => format!("2027/01/15/{function}[$LATEST]{environment}"),
    }
}

/// Lines of any time that AWS takes, and of some that it does not. Who writes them knows nobody's request id.
fn events(rng: &mut Rng, now_ms: i64) -> Vec<InputLogEvent> {
    let offsets = [0, 0, -1, -60_000, -300_000, -86_400_000, -15 * 86_400_000, 60_000, 7_000_000, 8_000_000, -now_ms];
    let mut events: Vec<InputLogEvent> = (0..1 + rng.below(6))
        .map(|_| {
            let bytes = output::line(*rng.pick(&output::KINDS), rng.next(), &Ids::default());
            let mut message = String::from_utf8_lossy(&bytes).into_owned();
            message.truncate(message.floor_char_boundary(MAX_EVENT_BYTES));
            InputLogEvent { timestamp: now_ms + rng.pick(&offsets), message }
        })
        .collect();
    events.sort_by_key(|event| event.timestamp);
    events
}

/// More lines than one pass reads, all at about this time: such as the daemon asks for, or almost; and in a stream of its own,
/// in one that is called as one of another container's function, or in the one that the container writes to.
fn flood(rng: &mut Rng, world: &World, targets: &[String]) {
    let environment = rng.hex32();
    // The last one was started a moment ago.
    let target = targets.last().map_or("hostile", String::as_str);
    let stream = match rng.below(3) {
        0 => format!("2027/01/15/hostile[$LATEST]{environment}"),
        1 => format!("2027/01/15/{target}[$LATEST]{environment}"),
        _ => stream_of(world, target).unwrap_or_else(|| format!("2027/01/15/{target}[$LATEST]{environment}")),
    };
    let _ = make_stream(world, &stream);
    let line = flood_line(rng);
    let at = |no: usize| world.now_ms() + i64::try_from(no / 20).unwrap_or_default();
    let events: Vec<InputLogEvent> = (0..FLOOD_LINES)
        .map(|no| InputLogEvent { timestamp: at(no), message: line.replace("{NO}", &no.to_string()) })
        .collect();
    for events in events.chunks(MOST_EVENTS) {
        put(world, &stream, events.to_vec());
    }
}

/// A line of a flood. Whose request id or token it has is for nobody else to know.
fn flood_line(rng: &mut Rng) -> String {
    let hex = rng.hex32();
    let id = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    let lines = [
        "RequestId: xxx {NO}".to_owned(),
        "an error occurred (RequestId: abc) {NO}".to_owned(),
        "the Task timed out after a while {NO}".to_owned(),
        format!("START RequestId: {id} Version: $LATEST"),
        format!(
            "REPORT RequestId: {id}\tDuration: {{NO}} ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 1 MB\t"
        ),
        format!("RequestId: {id} Error: Runtime exited with error: exit status {{NO}}"),
        format!("@sockerless:start {hex} {id}"),
        format!("@sockerless:exit {hex} 0 exited"),
    ];
    rng.pick(&lines).clone()
}

/// The stream that a function writes to.
fn stream_of(world: &World, function: &str) -> Option<String> {
    let list = DescribeLogStreams { log_group_name: Some(LOG_GROUP.to_owned()), ..DescribeLogStreams::default() };
    let Ok(Response::LogStreams(list)) = world.operate(&Request::DescribeLogStreams(list)) else { return None };
    let mut names = list.log_streams.into_iter().map(|stream| stream.log_stream_name);
    names.rfind(|name| name.contains(function))
}
