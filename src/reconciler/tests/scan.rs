//! A group that is flooded: what is asked, and when the ends of others are seen.

use super::*;
use crate::aws::{LogEvent, LogQuery};
use crate::reconciler::lines::pattern;
use crate::reconciler::observe::{latest, owners, page_news};
use crate::reconciler::plan::DELIVERY_SLACK;
use crate::reconciler::scan::{Group, RunKey, Tick, Turned};

/// A page, in bytes.
const PAGE: usize = 1_048_576;
/// Calls of one tick, at most: some eight seconds at the informer's share of the quota.
const CALLS_A_TICK: u32 = 24;
const FLOOD_STREAM: &str =
    "2026/11/23/skls-0123456789-bbbbbbbbbbbbbbbbbbbbbbbb[$LATEST]0123456789abcdef0123456789abcdef";

/// Lines of a flood: 600 MB.
const LINES: u32 = 6_000;

/// A log group as CloudWatch has it: events in the order of their times, some of which are long.
#[derive(Default)]
struct Log {
    events: Vec<(LogEvent, usize)>,
    calls: u32,
    tokens_expire: bool,
    /// Streams that do not exist any more.
    deleted: std::collections::BTreeSet<String>,
}

impl Log {
    fn write(&mut self, stream: &str, at: Timestamp, message: &str, bytes: usize) {
        let id = self.events.len().to_string();
        let event = LogEvent {
            id,
            stream: stream.to_owned(),
            timestamp_ms: at.as_millis(),
            ingestion_ms: at.as_millis(),
            message: message.to_owned(),
        };
        self.events.push((event, bytes));
        self.events.sort_by_key(|(event, _)| event.timestamp_ms);
    }

    /// Lines of 100 KB, from a second on.
    fn flood(&mut self, stream: &str, from: i64, lines: u32) {
        let line = format!("{}{}", noise(), "x".repeat(64));
        for n in 0..lines {
            let at = t(from).after(Duration::from_millis(u64::from(n)));
            self.events.push((
                LogEvent {
                    id: format!("flood {stream} {n}"),
                    stream: stream.to_owned(),
                    timestamp_ms: at.as_millis(),
                    ingestion_ms: at.as_millis(),
                    message: line.clone(),
                },
                100_000,
            ));
        }
        self.events.sort_by_key(|(event, _)| event.timestamp_ms);
    }

    /// Whether the question names a stream that does not exist.
    fn is_missing_one(&self, query: &LogQuery) -> bool {
        query.streams.iter().any(|stream| self.deleted.contains(stream))
    }

    /// A page; `None`: the token is not taken.
    fn page(&mut self, query: &LogQuery) -> Option<(Vec<LogEvent>, Option<String>)> {
        self.calls += 1;
        if self.tokens_expire && query.next_token.is_some() {
            return None;
        }
        let first = query.next_token.as_ref().map_or(0, |token| token.parse().unwrap());
        let (mut page, mut bytes) = (Vec::new(), 0);
        for (index, (event, size)) in self.events.iter().enumerate().skip(first) {
            if !is_asked_for(query, event) {
                continue;
            }
            if bytes >= PAGE {
                return Some((page, Some(index.to_string())));
            }
            bytes += size;
            page.push(event.clone());
        }
        Some((page, None))
    }
}

fn is_asked_for(query: &LogQuery, event: &LogEvent) -> bool {
    let at = event.timestamp_ms;
    let in_time = query.start_ms.is_none_or(|start| start <= at) && query.end_ms.is_none_or(|end| at <= end);
    let in_stream = query.streams.is_empty() || query.streams.contains(&event.stream);
    let has_prefix = query.stream_prefix.as_ref().is_none_or(|prefix| event.stream.starts_with(prefix.as_str()));
    if !(in_time && in_stream && has_prefix) {
        return false;
    }
    let asked = query.pattern.as_deref().unwrap();
    let says = |secret: &str| event.message.contains(secret.trim_start_matches('?').trim_matches('"'));
    if asked == pattern() { lines::parse(&event.message).is_some() } else { asked.split(' ').any(says) }
}

/// The informer over some runs.
struct Reader {
    log: Log,
    stories: Vec<Story>,
    group: Group,
    read_through: Timestamp,
    ticks: u32,
}

impl Reader {
    fn new(stories: Vec<Story>) -> Self {
        Self { log: Log::default(), stories, group: Group::default(), read_through: Timestamp::default(), ticks: 0 }
    }

    fn tick(&mut self, now: Timestamp) {
        self.ticks += 1;
        let containers: Vec<Container> = self.stories.iter().map(|story| story.container.clone()).collect();
        let owners = owners(&containers, |_| false);
        let before = self.log.calls;
        let mut tick = Tick::begin(now, "/sockerless/lambda", &containers, &mut self.group, self.read_through);
        while let Some(query) = tick.question() {
            assert!(self.log.calls - before < CALLS_A_TICK, "a tick is bounded");
            if self.log.is_missing_one(&query) {
                self.log.calls += 1;
                if !tick.split() {
                    let progress = tick.turn(Turned::default());
                    note_runs(&mut self.stories, progress.runs);
                }
                continue;
            }
            let Some((events, next_token)) = self.log.page(&query) else {
                assert!(tick.refused(), "an answer without a token is a failure");
                continue;
            };
            let reached = latest(&events);
            for (id, news) in page_news(&owners, events) {
                let story = self.stories.iter_mut().find(|story| story.container.id == id).unwrap();
                story.container.status = news.fold(now, &story.container);
            }
            let progress = tick.turn(Turned { reached, next_token });
            if let Some(through) = progress.group {
                assert!(through > self.read_through, "what is read stays read");
                self.read_through = through;
            }
            note_runs(&mut self.stories, progress.runs);
        }
    }

    fn exit_code(&self, index: usize) -> Option<u8> {
        self.stories[index].exit_code()
    }
}

fn note_runs(stories: &mut [Story], runs: Vec<(RunKey, Timestamp)>) {
    for ((id, _), through) in runs {
        let story = stories.iter_mut().find(|story| story.container.id == id).unwrap();
        story.observed.read_through = story.observed.read_through.max(through);
    }
}

/// An Event that Lambda has taken, of a container of its own.
fn event(number: u8, protocol: Protocol) -> Story {
    let mut story = Story::running(InvocationKind::Event, protocol);
    story.container.id = ContainerId::from_bytes([number; 32]);
    let run = story.container.status.run.as_mut().unwrap();
    run.issued.as_mut().unwrap().function_name = name(number);
    run.issued.as_mut().unwrap().token = format!("{number:032x}");
    story.absorb(&Action::Invoke { run_no: 1 }, &Outcome::Accepted { request_id: Some(request(number)) });
    story
}

fn name(number: u8) -> String {
    format!("skls-0123456789-{}", format!("{number:02x}").repeat(12))
}

fn request(number: u8) -> String {
    format!("6bc28136-0000-4365-b021-0000000000{number:02x}")
}

fn stream(number: u8) -> String {
    format!("1970/01/12/{}[$LATEST]0123456789abcdef0123456789abcdef", name(number))
}

fn exit_of(number: u8, code: u8) -> String {
    format!("@sockerless:exit {number:032x} {code} exited")
}

/// A line in the shape of Lambda's, of an invocation that does not exist.
fn noise() -> String {
    format!("RequestId: {OTHER_REQUEST} Error: ")
}

#[test]
fn the_end_of_a_run_behind_a_flood_of_another_is_seen_within_three_ticks() {
    for stream_is_known in [true, false] {
        let mut reader = Reader::new(vec![event(0xbb, Protocol::Native), event(0x11, Protocol::Bootstrap)]);
        reader.log.flood(FLOOD_STREAM, 1, LINES);
        if stream_is_known {
            let run = reader.stories[1].container.status.run.as_mut().unwrap();
            run.log_stream = Some(stream(0x11));
        }
        reader.log.write(&stream(0x11), t(8), &exit_of(0x11, 3), 100);
        reader.tick(t(10));
        reader.tick(t(14));
        reader.tick(t(18));
        assert_eq!(reader.exit_code(1), Some(3), "stream known: {stream_is_known}");
        assert!(reader.log.calls <= 3 * CALLS_A_TICK, "{} calls", reader.log.calls);
    }
}

#[test]
fn a_hundred_runs_behind_a_flood_end_in_time_whoever_shares_their_question() {
    let mut stories: Vec<Story> = (1..=100).map(|number| event(number, Protocol::Bootstrap)).collect();
    for (story, number) in stories.iter_mut().zip(1..) {
        story.container.status.run.as_mut().unwrap().log_stream = Some(stream(number));
    }
    stories[99] = event(100, Protocol::Native);
    stories[99].container.status.run.as_mut().unwrap().log_stream = Some(stream(100));
    let mut reader = Reader::new(stories);
    reader.log.flood(&stream(100), 1, LINES);
    for number in 1..=99 {
        reader.log.write(&stream(number), t(8), &exit_of(number, number), 100);
    }
    for tick in 0..8 {
        reader.tick(t(10 + 4 * tick));
    }
    let open: Vec<usize> = (0..99).filter(|index| reader.exit_code(*index).is_none()).collect();
    assert!(open.is_empty(), "{open:?} have no end");
}

/// Behind a flood runs are asked for by the names of their streams.
#[test]
fn deleted_streams_of_some_runs_hide_no_end_of_the_others() {
    let mut stories: Vec<Story> = (1..=100).map(|number| event(number, Protocol::Bootstrap)).collect();
    for (story, number) in stories.iter_mut().zip(1..) {
        story.container.status.run.as_mut().unwrap().log_stream = Some(stream(number));
    }
    let mut reader = Reader::new(stories);
    reader.log.flood(FLOOD_STREAM, 1, LINES);
    let deleted = [17, 18, 93];
    reader.log.deleted = deleted.into_iter().map(stream).collect();
    for number in (1..=100).filter(|number| !deleted.contains(number)) {
        reader.log.write(&stream(number), t(8), &exit_of(number, number), 100);
    }
    for tick in 0..12 {
        reader.tick(t(10 + 4 * tick));
    }
    let open: Vec<usize> = (0..100).filter(|index| reader.exit_code(*index).is_none()).collect();
    assert_eq!(open, [16, 17, 92]);
    assert!(reader.group.has_backlog(), "the group is behind");
}

/// A run has its end in a stream that an earlier run wrote to, of another name than the function's own have.
#[test]
fn overdue_run_is_read_though_an_old_stream_of_its_container_is_deleted() {
    let mut reader = Reader::new(vec![event(0x11, Protocol::Bootstrap)]);
    reader.log.flood(FLOOD_STREAM, 1, LINES);
    let old = |day: u8| stream(0x11).replace("1970/01/12", &format!("1970/01/{day:02}"));
    reader.stories[0].container.status.log_streams = (1..=4).map(old).collect();
    reader.log.deleted.insert(old(2));
    reader.log.write(&old(4), t(8), &exit_of(0x11, 3), 100);
    let deadline = reader.stories[0].container.status.run.as_ref().unwrap().issued.as_ref().unwrap().deadline;
    for tick in 0..6 {
        reader.tick(deadline.after(DELIVERY_SLACK).after(Duration::from_secs(4 * tick)));
    }
    assert_eq!(reader.exit_code(0), Some(3));
}

/// The answer that names the invocation was lost. The run's token finds the line that names it; the REPORT has the name only.
#[test]
fn run_is_not_read_before_it_was_asked_for_by_the_request_id_that_its_log_shows() {
    for is_named in [true, false] {
        let mut reader = Reader::new(vec![event(0x11, Protocol::Bootstrap)]);
        reader.log.flood(FLOOD_STREAM, 1, LINES);
        let run = reader.stories[0].container.status.run.as_mut().unwrap();
        (run.request_id, run.phase) = (None, RunPhase::Issued);
        let deadline = run.issued.as_ref().unwrap().deadline;
        let report = report_line("Status: timeout").replace(REQUEST, &request(0x11));
        let start = format!("@sockerless:start {:032x} {}", 0x11, request(0x11));
        let lines = if is_named { vec![start, report] } else { Vec::new() };
        lines.iter().for_each(|line| reader.log.write(&stream(0x11), t(8), line, 100));
        let mut is_read = false;
        for tick in 0..6 {
            reader.tick(deadline.after(DELIVERY_SLACK).after(Duration::from_secs(4 * tick)));
            is_read = reader.stories[0].observed.read_through >= deadline;
            assert!(!(is_read && is_named) || reader.exit_code(0).is_some(), "tick {tick}");
        }
        assert!(reader.group.has_backlog());
        assert_eq!((reader.exit_code(0), is_read), (is_named.then_some(137), true));
    }
}

#[test]
fn a_scan_that_reached_its_limit_goes_on_where_it_stopped() {
    let mut reader = Reader::new(vec![event(0xbb, Protocol::Native)]);
    reader.log.flood(FLOOD_STREAM, 1, LINES);
    let mut ticks = 0;
    while ticks == 0 || reader.group.has_backlog() {
        ticks += 1;
        reader.tick(t(200 + ticks));
        assert!(ticks <= 200, "it does not end");
    }
    assert!(reader.read_through >= t(200).before(DELIVERY_SLACK));
    // The 545 pages of the group, each once, and two of the run itself a tick.
    assert!(reader.log.calls <= 1_000, "{} calls", reader.log.calls);
}

#[test]
fn a_token_that_is_not_taken_costs_no_more_than_its_page() {
    let mut reader = Reader::new(vec![event(0xbb, Protocol::Native)]);
    reader.log.flood(FLOOD_STREAM, 1, 600);
    reader.log.tokens_expire = true;
    let mut ticks = 0;
    while ticks == 0 || reader.group.has_backlog() {
        ticks += 1;
        reader.tick(t(200 + ticks));
        assert!(ticks <= 120, "it does not end");
    }
    assert!(reader.read_through >= t(200).before(DELIVERY_SLACK));
}

/// AWS fails in the middle of a run's own scan: it goes on there.
#[test]
fn a_scan_that_a_failure_has_cut_goes_on_where_it_stopped() {
    let mut reader = Reader::new(vec![event(0xbb, Protocol::Native)]);
    reader.log.flood(FLOOD_STREAM, 1, LINES);
    let own = format!("REPORT RequestId: {}", request(0xbb));
    let line = report_line("Status: success").replace(&format!("REPORT RequestId: {REQUEST}"), &own);
    (0..20).for_each(|second| reader.log.write(&stream(0xbb), t(second), &line, PAGE));
    let containers = [reader.stories[0].container.clone()];
    let mut starts = Vec::new();
    for second in 0..40 {
        let now = t(100 + second);
        let mut tick = Tick::begin(now, "/sockerless/lambda", &containers, &mut reader.group, Timestamp::default());
        let mut own_pages = 0;
        while let Some(query) = tick.question() {
            if !query.pattern.as_deref().unwrap().starts_with('%') {
                starts.push(query.next_token.clone());
                own_pages += 1;
            }
            if own_pages > 1 {
                break;
            }
            let (events, next_token) = reader.log.page(&query).unwrap();
            tick.turn(Turned { reached: latest(&events), next_token });
        }
    }
    let places: std::collections::BTreeSet<_> = starts.iter().flatten().collect();
    assert!(places.len() >= 15, "it comes on: {starts:?}");
}

/// Anyone who knows a function's name can write streams that look like its own. Lines in them match no question for the run's
/// secrets, so that even an overdue run whose stream nobody has seen is settled.
#[test]
fn a_flood_in_streams_with_a_runs_own_name_delays_neither_its_end_nor_its_deadline() {
    for ends in [true, false] {
        let mut reader = Reader::new(vec![event(0x11, Protocol::Bootstrap)]);
        let forged = stream(0x11).replace("[$LATEST]0", "[$LATEST]9");
        reader.log.flood(&forged, 1, LINES);
        if ends {
            reader.log.write(&stream(0x11), t(8), &exit_of(0x11, 3), 100);
        }
        let deadline = reader.stories[0].container.status.run.as_ref().unwrap().issued.as_ref().unwrap().deadline;
        let overdue = deadline.after(DELIVERY_SLACK);
        for tick in 0..3 {
            reader.tick(overdue.after(Duration::from_secs(4 * tick)));
        }
        if ends {
            assert_eq!(reader.exit_code(0), Some(3));
        } else {
            assert!(reader.group.has_backlog() && reader.read_through < deadline, "the group is behind");
            assert!(reader.stories[0].observed.read_through >= deadline, "and the run is read");
        }
    }
}

#[test]
fn lines_in_a_forged_stream_settle_no_run_of_another() {
    for protocol in [Protocol::Bootstrap, Protocol::Native] {
        let mut reader = Reader::new(vec![event(0x11, protocol)]);
        let before = reader.stories[0].container.status.clone();
        for line in [
            format!("START RequestId: {OTHER_REQUEST} Version: $LATEST"),
            report_line("Status: success").replace(REQUEST, OTHER_REQUEST),
            format!("{}Runtime exited with error: exit status 3", noise()),
            format!("2026-11-23T01:13:11.973Z {OTHER_REQUEST} Task timed out after 3.00 seconds"),
            format!("@sockerless:start {:032x} {OTHER_REQUEST}", 0x22),
            format!("@sockerless:exit {:032x} 0 exited", 0x22),
        ] {
            reader.log.write(&stream(0x11), t(3), &line, 100);
        }
        reader.tick(t(10));
        assert_eq!(reader.stories[0].container.status, before, "{protocol:?}");
    }
}

/// The one binding that knows no secret: the first START in a stream of the function, for a native run whose answer was lost.
#[test]
fn a_forged_start_binds_no_native_run_while_its_call_is_open() {
    for (stream, call_is_open, binds) in [
        (STREAM.to_owned(), true, false),
        (STREAM.to_owned(), false, true),
        (STREAM.replace("0123456789abcdef0123456789abcdef", "forged"), false, false),
        (STREAM.replace("2026/11/23", "x"), false, false),
    ] {
        let mut story = Story::running(InvocationKind::RequestResponse, Protocol::Native);
        let event = LogEvent {
            id: String::new(),
            stream: stream.clone(),
            timestamp_ms: t(1).as_millis(),
            ingestion_ms: 0,
            message: format!("START RequestId: {OTHER_REQUEST} Version: $LATEST"),
        };
        let owners = owners(std::slice::from_ref(&story.container), |_| call_is_open);
        for news in page_news(&owners, vec![event]).into_values() {
            story.container.status = news.fold(t(2), &story.container);
        }
        let bound = story.container.status.run.as_ref().unwrap().request_id.is_some();
        assert_eq!(bound, binds, "{stream}, open: {call_is_open}");
    }
}

/// The START of a native run is read and not believed while its call is open; when the call has failed it is long past.
#[test]
fn the_start_of_a_native_run_is_read_again_when_its_answer_was_lost() {
    let story = Story::running(InvocationKind::RequestResponse, Protocol::Native);
    let mut reader = Reader::new(vec![story]);
    reader.log.write(STREAM, t(1), &format!("START RequestId: {REQUEST} Version: $LATEST"), 100);
    reader.log.write(STREAM, t(2_000), &report_line("Status: success"), 100);
    reader.read_through = t(1_880);
    reader.tick(t(2_005));
    assert_eq!(reader.exit_code(0), Some(0));
}
