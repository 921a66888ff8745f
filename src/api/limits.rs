//! Every limit of the room, with its unit.

use std::time::Duration;

/// Connections at once on one listener, so that no listener can starve another; more wait in the kernel's queue.
pub(super) const MAX_CONNECTIONS: usize = 8_192;
/// Connections at once on one listener, however few files may be open.
pub(super) const MIN_CONNECTIONS: usize = 16;
/// Connections at once on the listener of the metrics.
pub(super) const MAX_METRICS_CONNECTIONS: usize = 64;
/// Open files that are kept for everything but connections: the store, AWS, the sandbox.
pub(super) const RESERVED_FILES: usize = 256;
/// After so long without a sign of life, the other side of a TCP connection is asked whether it is still there.
pub(super) const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between two such questions.
pub(super) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Such questions without an answer after which the connection is broken off.
pub(super) const KEEP_ALIVE_PROBES: u32 = 3;
/// From the moment a connection is made until its handshake is done and its first byte is there. Until then a connection
/// holds none of the places of those that are served.
pub(super) const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of a listener's connections that may be arriving: one in this many.
pub(super) const ARRIVING_SHARE: usize = 4;
/// Connections that are arriving at once on the listener of the metrics.
pub(super) const MAX_METRICS_ARRIVALS: usize = 64;
/// How long a client of the API may take nothing of what is written to it while more than half of the places are taken: a
/// reader that has paused its terminal goes on within minutes, and those that never read cannot take all places.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(600);
/// The same on the listener of the metrics, whose clients read at once.
pub(super) const METRICS_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval at which a client past its write time-out is checked again: whether others need its place by now.
pub(super) const STALLED_WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// As [`HEADER_READ_TIMEOUT`], on the listener of the metrics, whose clients ask at once.
pub(super) const METRICS_HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that the system holds for a TCP client that does not read. It takes more when a third is free, so a reader of some
/// 300 bytes a second is never taken for one that does not read.
pub(super) const SEND_BUFFER_BYTES: usize = 256 * 1_024;
/// How often the TLS files are read again.
pub(super) const TLS_RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of a TLS file: bundles of all public authorities have some 200 KB.
pub(super) const MAX_PEM_BYTES: u64 = 1_024 * 1_024;
/// How often a client that sends nothing more is looked at: whether it still listens.
pub(super) const HANG_UP_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a request's line and headers together.
pub(super) const MAX_HEADER_BYTES: usize = 64 * 1_024;
/// Header lines of a request.
pub(super) const MAX_HEADERS: usize = 128;
/// Bytes of a request's body.
pub const MAX_BODY_BYTES: usize = 4 * 1_024 * 1_024;
/// Levels of a JSON value from a client, the outermost map included: no request of Docker's has more than a handful, and what
/// is stored is read back by a parser that stops at 128.
pub const MAX_JSON_DEPTH: usize = 32;
/// Levels of the JSON in the label `sockerless.lambda.payload`, which is stored as text.
pub(super) const MAX_PAYLOAD_DEPTH: usize = 100;
/// Values in a JSON value from a client, maps and lists included: each takes some 100 bytes while it is looked at.
pub(super) const MAX_JSON_VALUES: usize = 100_000;
/// Bytes of a client's header in an error message.
pub(super) const MAX_SHOWN_HEADER_BYTES: usize = 256;
/// From the moment a connection could take a request until the request's header is complete: it ends connections that
/// are idle as well as those that are slow on purpose.
pub(super) const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a body that needs no place among the large ones.
pub(super) const SMALL_BODY_BYTES: usize = 64 * 1_024;
/// Larger bodies at once that are complete: each takes a multiple of its bytes while its JSON is looked at.
pub(super) const MAX_LARGE_BODIES: usize = 8;
/// Bytes of larger bodies that are arriving: eight of the largest ones.
pub(super) const MAX_ARRIVING_BYTES: usize = 8 * MAX_BODY_BYTES;
/// Bytes of a larger body that count as progress: one that brings so much within [`BODY_STALL`] is not stalled.
pub(super) const BODY_PROGRESS_BYTES: usize = 64 * 1_024;
/// A larger body without progress for this time is given up when others need its memory.
pub(super) const BODY_STALL: Duration = Duration::from_secs(1);
/// How long a request's body may take to arrive.
pub(super) const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a body that nobody wants, or the rest of one that is too large, that are read and dropped: the context of most
/// builds, and a body some times over its limit. None of it is held.
pub(super) const MAX_DRAINED_BYTES: usize = 4 * MAX_BODY_BYTES;
/// How long such a body is read: over TCP, a client that is still sending when the connection closes gets a reset instead of its
/// answer.
pub(super) const BODY_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long `accept` rests after it failed (no file descriptors, for instance).
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Streams that read the store at the same time: fewer than the store has readers.
pub(super) const STREAM_READERS: usize = 2;
/// Pieces of a streamed answer that wait for a slow client.
pub(super) const STREAM_QUEUE: usize = 4;
/// Bytes at which a piece of a streamed answer is sent.
pub(super) const STREAM_PIECE_BYTES: usize = 32 * 1_024;
/// Characters of a client's own request id that go into the log.
pub(super) const MAX_CLIENT_REQUEST_ID: usize = 128;

/// The oldest Docker API that is spoken: `1.24`.
pub(super) const OLDEST_API_MINOR: u16 = 24;
/// The newest Docker API that is spoken, and the one of paths without a version: `1.51`.
pub(super) const NEWEST_API_MINOR: u16 = 51;
/// Before this version, framed output is announced as a raw stream.
pub(super) const MULTIPLEXED_SINCE_MINOR: u16 = 42;

/// MB of a function: Lambda's least and most.
pub(super) const MEMORY_MB: std::ops::RangeInclusive<u32> = 128..=10_240;
/// Seconds of a function: Lambda's least and most.
pub(super) const TIMEOUT_S: std::ops::RangeInclusive<u32> = 1..=900;
/// MB of /tmp: Lambda's least and most.
pub(super) const EPHEMERAL_STORAGE_MB: std::ops::RangeInclusive<u32> = 512..=10_240;
/// Subnets of a function.
pub(super) const MAX_SUBNETS: usize = 16;
/// Security groups of a function.
pub(super) const MAX_SECURITY_GROUPS: usize = 5;
/// Bytes of a function's environment as compact JSON.
pub(super) const MAX_FUNCTION_ENV_BYTES: usize = 4_096;
/// Words of a function's entrypoint, and of its command.
pub(super) const MAX_IMAGE_CONFIG_WORDS: usize = 1_500;
/// Bytes of a function's entrypoint, command and working directory together.
pub(super) const MAX_IMAGE_CONFIG_BYTES: usize = 16 * 1_024;
/// Characters of a function's working directory.
pub(super) const MAX_WORKING_DIR: usize = 1_000;
/// Bytes of the payload of an asynchronous invocation: Lambda's 1 MB without a margin.
pub(super) const MAX_EVENT_PAYLOAD_BYTES: usize = 1_000_000 - 16_000;
/// Bytes of the payload of a synchronous invocation: Lambda's 6 MB without a margin.
pub(super) const MAX_SYNC_PAYLOAD_BYTES: usize = 6_000_000 - 16_000;
/// Bytes of a container's labels together, without the payload of its invocations: they come with every list and event.
pub const MAX_LABEL_BYTES: usize = 64 * 1_024;
/// Bytes of the settings that are recorded for `inspect` only, as JSON: they come with every inspect.
pub(super) const MAX_RECORDED_BYTES: usize = 64 * 1_024;
/// Characters of a container's name.
pub const MAX_NAME: usize = 255;
/// Bytes of an image reference.
pub const MAX_REFERENCE_BYTES: usize = 512;
/// Values of the filters of one request together.
pub(super) const MAX_FILTER_VALUES: usize = 100;
/// Bytes of a compiled pattern of a filter.
pub(super) const MAX_REGEX_BYTES: usize = 256 * 1_024;
/// How often a random name is drawn before the container's id becomes its name.
pub(super) const NAME_DRAWS: u32 = 6;

/// Streams that one question to CloudWatch Logs may name.
pub(super) const MAX_STREAMS_PER_QUERY: usize = 100;
/// Days whose streams are looked through while a run's stream is unknown: a run of 15 minutes, an event of 6 hours that
/// waited for it, and an hour before touch two; the rest is for clocks that differ.
pub(super) const MAX_STREAM_DAYS: usize = 3;
/// How far before the invocation the day of a stream may lie: an environment may be older than its run.
pub(super) const STREAM_DAY_MARGIN: Duration = Duration::from_secs(3_600);
/// Log events that are held to be sorted before they are sent.
pub(super) const MAX_SORTED_EVENTS: usize = 20_000;
/// Bytes of log events that are held to be sorted before they are sent: a few pages of long lines.
pub(super) const MAX_SORTED_BYTES: usize = 4 * 1_024 * 1_024;
/// Bytes of lines that `tail` holds: of longer ones fewer are shown than were asked for.
pub(super) const MAX_TAIL_BYTES: usize = 16 * 1_024 * 1_024;
/// Lines that `tail` can ask for; more means all.
pub(super) const MAX_TAIL_LINES: usize = 100_000;
/// Log events that a reader remembers within one pass, so that none is given twice: 6 MB.
pub(super) const MAX_SEEN_EVENTS: usize = 200_000;
/// Log events with a time in the future that a reader remembers: a quarter of all, so that they leave room for the others.
pub(super) const MAX_FUTURE_EVENTS: usize = MAX_SEEN_EVENTS / 4;
/// Pages of the log that one search for a run's unknown stream reads at once: three days, and a flood of forged streams
/// that delays a reader by seconds.
pub(super) const MAX_SEARCH_PAGES: usize = 10;
/// The longest pause between two searches for the streams of earlier invocations that find nothing: as long as a line may take
/// from a program to CloudWatch Logs in the usual case.
pub(super) const MAX_SEARCH_PAUSE: Duration = Duration::from_secs(30);
/// Earlier invocations that one search looks for: a pattern of CloudWatch Logs has at most 1,024 characters, and each takes 40.
pub(super) const MAX_SEARCHED_IDS: usize = 16;
/// Streams that one session has proven to be the container's, of which the reconciler may not know yet: the latest ones.
pub(super) const MAX_PROVEN_STREAMS: usize = 16;
/// Log events that a reader asks for again, for lines that came late among them, and remembers until then.
pub(super) const MAX_REREAD_EVENTS: usize = 20_000;
/// Pages of one reading of the log.
pub(super) const MAX_LOG_PAGES: usize = 10_000;
/// How far clocks may differ: the log is read from so much before the container's creation until so much after now.
pub(super) const CLOCK_SLACK: Duration = Duration::from_secs(300);
/// How far back a follower reads again, for lines that came late.
pub(super) const FOLLOW_OVERLAP: Duration = Duration::from_secs(60);
/// How often a follower asks while there is news.
pub(super) const FOLLOW_INTERVAL: Duration = Duration::from_millis(1_000);
/// How seldom a follower asks when there is none.
pub(super) const FOLLOW_INTERVAL_MAX: Duration = Duration::from_secs(8);
/// How often the rest of an ended run's log is asked for.
pub(super) const REST_INTERVAL: Duration = Duration::from_millis(500);
/// How long after the end of a run the rest of its log is waited for.
pub(super) const REST_OF_LOG: Duration = Duration::from_secs(10);
/// Failed readings in a row after which a follower gives up.
pub(super) const MAX_FOLLOW_FAILURES: u32 = 8;
/// Bytes of text in the tail of a run's log: twice what Lambda gives. Of a run with more lines the tail is of no use.
pub(super) const MAX_TAIL_TEXT_BYTES: usize = 8 * 1_024;
/// How long `wait` and `events` hold an end for open streams of the container.
pub(super) const STREAMS_BEFORE_WAIT: Duration = Duration::from_secs(15);
/// How long a client may take to read a piece of output while the daemon is being stopped: one that reads does so at once.
pub(super) const SEND_WHILE_STOPPING: Duration = Duration::from_secs(1);
/// How often a stream of samples gives one.
pub(super) const STATS_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a function's answer that inspect shows.
pub(super) const MAX_RESULT_BYTES: usize = 64 * 1_024;
/// Containers of whose end a client of `events` is not told yet, because its output is still being given; more are told.
pub(super) const MAX_HELD_ENDS: usize = 1_000;
/// Bytes of the attributes of events that are held for one client; beyond it, the oldest are sent.
pub(super) const MAX_HELD_BYTES: usize = 4 * 1_024 * 1_024;
/// Events of one container that wait behind its end.
pub(super) const MAX_HELD_EVENTS: usize = 64;
/// Containers that are read from the store at once: some 100 KiB of a list, which is what a client that does not read holds.
pub(super) const CONTAINER_PAGE: u32 = 100;
/// Images that are read from the store at once.
pub(super) const IMAGE_PAGE: u32 = 100;
/// Events that are read from the store at once.
pub(super) const EVENT_PAGE: u32 = 500;
