//! What the log informer asks next, and how far a group is read by what it was answered. PURE.
//!
//! A *scan* is a question whose pages are read one after the other; a *tick* is the scans that are read in a row. The scan of
//! the whole group answers for all runs at once, and is the only one while it reaches its last page within a tick. A group
//! that is being flooded has a *backlog*: then the scan goes on where it stopped, in each tick by [`WIDE_PAGES_BEHIND`]
//! pages, and *focused* scans read the streams of the runs themselves, so that no run waits for the lines of another.
//!
//! # Guarantees
//! - A scan that reached the limit of its tick goes on with its next page in the next tick, and ends at a time that was fixed
//!   when it began: it is finite, however much is written meanwhile. A token that AWS no longer takes costs the pages since
//!   the last time that was reached, not the scan.
//! - `read_through` moves only over what was really read, late lines included. Pages come in the order of their times.
//! - In a backlog the focused scans are read in turn, the one that waited longest first, each by [`FOCUSED_PAGES`] pages. A run
//!   that needs more than that shares its question with ever fewer others, until it is asked for alone.
//! - AWS refuses a question in which one stream does not exist. Its streams are asked for in halves then, until that one is
//!   alone: nothing counts as read that was refused.
//! - A run that is overdue is read by the names that its streams can have, and by its secrets: lines of others, in whatever
//!   stream, do not delay its end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::learn::{CLOCK_SKEW, settled_by};
use super::lines;
use super::plan::{DELIVERY_SLACK, credible};
use crate::aws::LogQuery;
use crate::clock::Timestamp;
use crate::state::model::{Container, ContainerId, Protocol, Run, RunPhase};

/// Time between two scans that read back over late lines.
const DEEP_EVERY: Duration = Duration::from_secs(30);
/// How far a quick scan reads back.
const QUICK_WINDOW: Duration = Duration::from_secs(20);
/// Pages of the group's scan in its first tick, 10,000 events or 1 MB each: four seconds at the informer's share of the quota.
/// Thousands of runs that end in one minute fit.
const WIDE_PAGES: u32 = 12;
/// The same in each tick after that. Few, so that the focused scans come in turn within a second or two.
const WIDE_PAGES_BEHIND: u32 = 3;
/// Pages of all focused scans of a tick: four seconds at the informer's share of the quota.
const FOCUSED_CALLS: u32 = 12;
/// Pages of one focused scan in a tick: its last page, for a run that prints no more than 3 MB of what is asked for.
const FOCUSED_PAGES: u32 = 3;
/// Streams of one question, by how often the run's scans have reached their limit. AWS takes 100 names.
const STREAMS_BY_NOISE: [usize; 2] = [100, 10];
/// Days whose streams a run may have written to: an event that waited for six hours, a run of half an hour, clocks that
/// differ, and an environment that began the day before.
const MAX_STREAM_DAYS: usize = 4;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A run: the container's id and the run's number.
pub(super) type RunKey = (ContainerId, u64);

/// What is remembered of a log group.
#[derive(Debug, Default)]
pub(super) struct Group {
    last_pass: Option<Timestamp>,
    last_deep: Option<Timestamp>,
    /// The group's scan, while it has not reached its last page.
    wide: Option<(Pass, Scan)>,
    /// What is remembered of runs since the backlog began; empty without one.
    focus: HashMap<RunKey, Focus>,
    /// Streams of runs that were not found: each is asked for alone, so that it does not spoil the question for others.
    absent: HashSet<String>,
}

impl Group {
    /// A pass that began at `now` has ended; `complete`: it came to the last page. Returns how far the group is read
    /// now, if that has moved.
    pub(super) fn passed(&mut self, pass: Pass, now: Timestamp, complete: bool) -> Option<Timestamp> {
        self.last_pass = Some(now);
        if !(pass.deep && complete) {
            return None;
        }
        self.last_deep = Some(now);
        Some(now.before(DELIVERY_SLACK))
    }

    /// When the run that has waited longest was last read; `None`: not yet.
    pub(super) fn all_read_at(&self, containers: &[Container]) -> Option<Timestamp> {
        if self.focus.is_empty() {
            return self.last_pass;
        }
        let visited = |key: RunKey| self.focus.get(&key).and_then(|focus| focus.visited).max(self.last_pass);
        containers.iter().filter_map(run_key).map(visited).min().flatten()
    }

    /// Whether the scan of the whole group is behind.
    pub(super) fn has_backlog(&self) -> bool {
        self.wide.is_some()
    }
}

/// What is remembered of one run in a backlog.
#[derive(Debug, Default)]
struct Focus {
    /// When it was last asked for.
    visited: Option<Timestamp>,
    /// How often its scans have reached their limit, at most the length of [`STREAMS_BY_NOISE`]: then it is alone.
    noise: usize,
    /// The beginning of the last scan that reached its last page.
    read: Option<Timestamp>,
    /// The same, of those that read back over late lines.
    deep: Option<Timestamp>,
    /// Its own scan, while it has not reached its last page.
    pending: Option<Scan>,
    /// How far all streams of the run were read.
    read_through: Timestamp,
    /// The same, by a question without the run's request id. Its answer may have shown the id, and lines that only the id
    /// proves were not asked for: so it counts from the next tick on, if the id is unknown by then.
    read_unnamed_through: Option<Timestamp>,
}

/// Questions that are read page by page, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    runs: Vec<RunKey>,
    queries: VecDeque<LogQuery>,
    begun: Timestamp,
    deep: bool,
    /// All streams are read that the run can have.
    whole: bool,
    /// The question names everything that identifies the run's lines except its request id, which is unknown.
    unnamed: bool,
    /// The latest line of the pages so far.
    reached: Timestamp,
    pages: u32,
}

impl Scan {
    fn new(runs: Vec<RunKey>, queries: Vec<LogQuery>, begun: Timestamp, deep: bool) -> Self {
        Self {
            runs,
            queries: queries.into(),
            begun,
            deep,
            whole: false,
            unnamed: false,
            reached: Timestamp::default(),
            pages: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.queries.is_empty()
    }

    fn turn(&mut self, page: Turned) {
        self.pages = self.pages.saturating_add(1);
        self.reached = self.reached.max(page.reached.unwrap_or_default());
        let Some(query) = self.queries.front_mut() else { return };
        query.next_token = page.next_token;
        if query.next_token.is_none() {
            self.queries.pop_front();
            self.reached = Timestamp::default();
        }
    }

    /// One of the streams of the question was not found: asks for each half of them, from where the pages have come to.
    /// `false`: it is that of one stream.
    fn split(&mut self) -> bool {
        let Some([first, second]) = self.queries.front().and_then(LogQuery::halve) else { return false };
        let reached = Some(self.reached.as_millis());
        let from = |half: LogQuery| LogQuery { start_ms: half.start_ms.max(reached), ..half };
        self.queries.pop_front();
        self.queries.push_front(from(second));
        self.queries.push_front(from(first));
        self.pages = self.pages.saturating_add(1);
        self.reached = Timestamp::default();
        true
    }

    /// AWS does not take the page's token any more. Returns whether there was one.
    fn forget_token(&mut self) -> bool {
        let reached = self.reached.as_millis();
        let Some(query) = self.queries.front_mut() else { return false };
        query.start_ms = query.start_ms.max(Some(reached));
        query.next_token.take().is_some()
    }
}

/// A page that was read.
#[derive(Debug, Default)]
pub(super) struct Turned {
    /// Its latest line.
    pub(super) reached: Option<Timestamp>,
    /// Where the next page begins; `None`: it was the last one.
    pub(super) next_token: Option<String>,
}

/// What a pass over the whole group reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) from: Timestamp,
    pub(super) deep: bool,
}

impl Pass {
    pub(super) fn choose(now: Timestamp, containers: &[Container], group: &Group, read_through: Timestamp) -> Self {
        // A pass in the future was made before the clock was put back.
        let last_deep = group.last_deep.filter(|last| *last <= now);
        let runs = || containers.iter().filter_map(|container| container.status.run.as_ref());
        let invoked = containers.iter().filter_map(|container| container.status.last_invocation());
        let oldest = invoked.map(|(_, at)| at).min().unwrap_or(now);
        let overdue = runs().filter_map(settled_by).any(|settled_by| {
            let due = settled_by.after(DELIVERY_SLACK);
            due <= now && last_deep.is_none_or(|last| last < due)
        });
        let deep = overdue || last_deep.is_none_or(|last| now >= last.after(DEEP_EVERY));
        let from = if deep {
            let unread = oldest.min(now).max(credible(read_through, now));
            let again = containers.iter().filter_map(read_again_from);
            again.fold(unread, Timestamp::min).before(CLOCK_SKEW)
        } else {
            group.last_pass.unwrap_or(oldest).min(now).before(QUICK_WINDOW)
        };
        Self { from, deep }
    }
}

/// Where a line may still turn up, far behind what was read since, that shows the end of a run.
fn read_again_from(container: &Container) -> Option<Timestamp> {
    let run = container.status.run.as_ref()?;
    beside_report(run).into_iter().chain(unbound(container, run)).min()
}

/// Beside a REPORT that leaves the end open: after hours of downtime that is far behind.
fn beside_report(run: &Run) -> Option<Timestamp> {
    let (report, issued) = (run.report.as_ref()?, run.issued.as_ref()?);
    (!matches!(run.phase, RunPhase::Exited(_))).then(|| report.at.max(issued.at))
}

/// The START of a native run counts only when no answer is to be expected any more. It may have been read before.
fn unbound(container: &Container, run: &Run) -> Option<Timestamp> {
    let is_native = container.spec.config.function.protocol == Protocol::Native;
    let is_open = is_native && run.request_id.is_none() && !matches!(run.phase, RunPhase::Exited(_));
    run.issued.as_ref().filter(|_| is_open).map(|issued| issued.at)
}

fn run_key(container: &Container) -> Option<RunKey> {
    container.status.run.as_ref().map(|run| (container.id, run.no))
}

/// The question for the lines of all runs, from a time on.
fn question(group: &str, from: Timestamp, begun: Timestamp) -> LogQuery {
    LogQuery {
        group: group.to_owned(),
        start_ms: Some(from.as_millis().max(0)),
        end_ms: Some(begun.after(CLOCK_SKEW).as_millis().max(0)),
        pattern: Some(lines::pattern()),
        ..LogQuery::default()
    }
}

/// The scans of one tick. A tick that stops in the middle, for a failure of AWS, has lost nothing: the next tick goes on.
pub(super) struct Tick<'a> {
    group: &'a mut Group,
    containers: &'a [Container],
    now: Timestamp,
    read_through: Timestamp,
    wide_pages_left: u32,
    calls_left: u32,
    /// The focused scans of this tick that are still to be read; `None`: not chosen yet.
    focused: Option<VecDeque<Scan>>,
    /// How far runs are read by focused scans of this tick.
    runs_read: Vec<(RunKey, Timestamp)>,
    /// How far runs were read by earlier ticks without their request ids, which are unknown still.
    still_unnamed: Vec<(RunKey, Timestamp)>,
}

/// How far is read now, as far as that has moved.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) group: Option<Timestamp>,
    pub(super) runs: Vec<(RunKey, Timestamp)>,
}

impl<'a> Tick<'a> {
    pub(super) fn begin(
        now: Timestamp,
        name: &str,
        containers: &'a [Container],
        group: &'a mut Group,
        read_through: Timestamp,
    ) -> Self {
        // A scan that begins in the future was begun before the clock was put back.
        group.wide = group.wide.take().filter(|(_, scan)| scan.begun <= now);
        let wide_pages_left = if group.wide.is_some() { WIDE_PAGES_BEHIND } else { WIDE_PAGES };
        if group.wide.is_none() {
            let pass = Pass::choose(now, containers, group, read_through);
            group.wide = Some((pass, Scan::new(Vec::new(), vec![question(name, pass.from, now)], now, pass.deep)));
        }
        if !group.focus.is_empty() {
            let watched: HashSet<RunKey> = containers.iter().filter_map(run_key).collect();
            group.focus.retain(|key, _| watched.contains(key));
        }
        if !group.absent.is_empty() {
            let streams = containers.iter().filter_map(|container| container.status.run.as_ref()?.log_stream.as_ref());
            let known: HashSet<&String> = streams.collect();
            group.absent.retain(|stream| known.contains(stream));
        }
        let still_unnamed = containers.iter().filter_map(|container| still_unnamed(container, &group.focus)).collect();
        Self {
            group,
            containers,
            now,
            read_through,
            wide_pages_left,
            calls_left: FOCUSED_CALLS,
            focused: None,
            runs_read: Vec::new(),
            still_unnamed,
        }
    }

    /// The next question; `None`: the tick is over.
    pub(super) fn question(&mut self) -> Option<LogQuery> {
        if self.is_wide() {
            return self.group.wide.as_ref().and_then(|(_, scan)| scan.queries.front().cloned());
        }
        self.group.wide.as_ref()?;
        if self.calls_left == 0 {
            return None;
        }
        if self.focused.is_none() {
            self.focused = Some(self.choose());
        }
        self.focused.as_ref()?.front()?.queries.front().cloned()
    }

    fn is_wide(&self) -> bool {
        self.wide_pages_left > 0 && self.group.wide.as_ref().is_some_and(|(_, scan)| !scan.is_over())
    }

    /// Takes in the answer to the last question. What it says of runs must be stored before.
    pub(super) fn turn(&mut self, page: Turned) -> Progress {
        for (key, through) in std::mem::take(&mut self.still_unnamed) {
            let focus = self.group.focus.entry(key).or_default();
            (focus.read_through, focus.read_unnamed_through) = (through, None);
            self.runs_read.push((key, through));
        }
        let mut group = None;
        if self.is_wide() {
            self.wide_pages_left -= 1;
            group = self.turn_wide(page);
        } else {
            self.calls_left = self.calls_left.saturating_sub(1);
            self.turn_focused(page);
        }
        Progress { group, runs: std::mem::take(&mut self.runs_read) }
    }

    /// AWS refuses the question. Returns whether it is worth asking the next one: without the token, that has expired.
    pub(super) fn refused(&mut self) -> bool {
        if self.is_wide() {
            self.wide_pages_left -= 1;
            return self.group.wide.as_mut().is_some_and(|(_, scan)| scan.forget_token());
        }
        self.calls_left = self.calls_left.saturating_sub(1);
        let Some(scan) = self.focused.as_mut().and_then(VecDeque::front_mut) else { return false };
        scan.forget_token()
    }

    /// AWS has not found one of the streams that the last question names, and has read none of them. Returns whether half of them
    /// is asked for next. `false`: it was one stream alone, which has no lines, and its page is an empty last one.
    pub(super) fn split(&mut self) -> bool {
        let Some(scan) = self.focused.as_mut().and_then(VecDeque::front_mut).filter(|_| self.wide_pages_left == 0)
        else {
            return false;
        };
        if scan.split() {
            self.calls_left = self.calls_left.saturating_sub(1);
            self.pass_on();
            return true;
        }
        self.group.absent.extend(scan.queries.front().into_iter().flat_map(|query| query.streams.iter().cloned()));
        false
    }

    fn turn_wide(&mut self, page: Turned) -> Option<Timestamp> {
        let (pass, scan) = self.group.wide.as_mut()?;
        scan.turn(page);
        let (pass, begun, reached) = (*pass, scan.begun, scan.reached);
        if scan.is_over() {
            self.group.wide = None;
            self.group.focus.clear();
            return self.group.passed(pass, begun, true);
        }
        // A line of the same millisecond may be on the next page.
        let through = reached.before(Duration::from_millis(1)).min(begun.before(DELIVERY_SLACK));
        if !pass.deep || through <= self.read_through {
            return None;
        }
        self.read_through = through;
        Some(through)
    }

    fn turn_focused(&mut self, page: Turned) {
        let Some(scan) = self.focused.as_mut().and_then(VecDeque::front_mut) else { return };
        scan.turn(page);
        self.pass_on();
    }

    /// Ends the turn of the first focused scan if it is over, or has had its pages.
    fn pass_on(&mut self) {
        let Some(scans) = &mut self.focused else { return };
        let Some(scan) = scans.front_mut() else { return };
        if !scan.is_over() && scan.pages < FOCUSED_PAGES {
            return;
        }
        let Some(mut scan) = scans.pop_front() else { return };
        scan.pages = 0;
        for key in &scan.runs {
            let focus = self.group.focus.entry(*key).or_default();
            focus.visited = Some(self.now);
            if !scan.is_over() {
                focus.noise = (focus.noise + 1).min(STREAMS_BY_NOISE.len());
                continue;
            }
            focus.read = Some(scan.begun);
            focus.noise = focus.noise.saturating_sub(1);
            if scan.deep {
                focus.deep = Some(scan.begun);
                let through = scan.begun.before(DELIVERY_SLACK);
                match (scan.whole, scan.unnamed) {
                    (true, true) => focus.read_unnamed_through = Some(through),
                    (true, false) => {
                        focus.read_through = through;
                        self.runs_read.push((*key, through));
                    }
                    (false, _) => {}
                }
            }
        }
        if let ([key], false) = (scan.runs.as_slice(), scan.is_over()) {
            self.group.focus.entry(*key).or_default().pending = Some(scan.clone());
        }
    }

    /// The focused scans, the one that has waited longest first.
    fn choose(&mut self) -> VecDeque<Scan> {
        let mut scans = Vec::new();
        let mut shared: Vec<Vec<(&Container, &Run)>> = vec![Vec::new(); STREAMS_BY_NOISE.len()];
        for container in self.containers {
            // Of an invocation before the current run only the scan of the whole group looks for lines.
            let run = container.status.run.as_ref().filter(|run| run.issued.is_some());
            let Some((run, key)) = run.zip(run_key(container)) else { continue };
            let focus = self.group.focus.entry(key).or_default();
            if let Some(pending) = focus.pending.take() {
                scans.push((focus.visited, pending));
            } else if is_overdue(run, focus, self.now) {
                scans.push((focus.visited, whole(container, run, key, self.now)));
            } else if let Some(list) = shared.get_mut(focus.noise).filter(|_| is_found(run, &self.group.absent)) {
                list.push((container, run));
            } else {
                scans.push((focus.visited, alone(container, run, key, focus, self.now)));
            }
        }
        for (list, size) in shared.iter().zip(STREAMS_BY_NOISE) {
            for some in list.chunks(size) {
                scans.push(self.together(some));
            }
        }
        scans.sort_by_key(|(visited, _)| *visited);
        scans.into_iter().map(|(_, scan)| scan).collect()
    }

    /// One question for the streams of several runs, and when the first of them was last read.
    fn together(&self, some: &[(&Container, &Run)]) -> (Option<Timestamp>, Scan) {
        let keys: Vec<RunKey> = some.iter().map(|(container, run)| (container.id, run.no)).collect();
        let focus = || keys.iter().filter_map(|key| self.group.focus.get(key));
        let deep = focus().any(|focus| is_due(focus.deep, self.now));
        let begins = some.iter().zip(focus()).map(|((_, run), focus)| begin_of(run, focus, deep, self.now));
        let from = begins.min().unwrap_or(self.now);
        let mut streams: Vec<String> = some.iter().filter_map(|(_, run)| run.log_stream.clone()).collect();
        streams.sort_unstable();
        streams.dedup();
        let group = some.first().map_or("", |(container, _)| &container.spec.config.function.log_group);
        let query = LogQuery { streams, ..question(group, from, self.now) };
        let visited = focus().map(|focus| focus.visited).min().flatten();
        (visited, Scan::new(keys, vec![query], self.now, deep))
    }
}

impl Drop for Tick<'_> {
    /// What was begun and not finished, as for a failure of AWS, goes on in the next tick.
    fn drop(&mut self) {
        for mut scan in self.focused.take().into_iter().flatten() {
            let is_begun = scan.pages > 0 || scan.begun < self.now;
            if let ([key], true) = (scan.runs.as_slice(), is_begun) {
                let focus = self.group.focus.entry(*key).or_default();
                scan.pages = 0;
                focus.pending = Some(scan);
            }
        }
    }
}

/// How far the container's run was read without its request id, which is unknown still.
fn still_unnamed(container: &Container, focus: &HashMap<RunKey, Focus>) -> Option<(RunKey, Timestamp)> {
    let run = container.status.run.as_ref().filter(|run| run.request_id.is_none())?;
    let key = (container.id, run.no);
    Some((key, focus.get(&key)?.read_unnamed_through?))
}

/// Whether the run's stream is known, and was found when it was last asked for.
fn is_found(run: &Run, absent: &HashSet<String>) -> bool {
    run.log_stream.as_ref().is_some_and(|stream| !absent.contains(stream))
}

fn is_due(last_deep: Option<Timestamp>, now: Timestamp) -> bool {
    last_deep.is_none_or(|last| now >= last.after(DEEP_EVERY) || last > now)
}

/// Whether the run is to be settled by what its log does not show, and all of its log is still to be read for that.
fn is_overdue(run: &Run, focus: &Focus, now: Timestamp) -> bool {
    settled_by(run).is_some_and(|settled| settled.after(DELIVERY_SLACK) <= now && focus.read_through < settled)
}

/// Where a focused scan begins.
fn begin_of(run: &Run, focus: &Focus, deep: bool, now: Timestamp) -> Timestamp {
    let issued = run.issued.as_ref().map_or(now, |issued| issued.at).min(now);
    match focus.read.filter(|read| *read <= now) {
        Some(read) if deep => read.before(DELIVERY_SLACK).max(issued).before(CLOCK_SKEW),
        Some(read) => read.before(QUICK_WINDOW),
        None => issued.before(CLOCK_SKEW),
    }
}

/// A run's own scan: its stream, or those that it can have while none was seen.
fn alone(container: &Container, run: &Run, key: RunKey, focus: &Focus, now: Timestamp) -> Scan {
    let deep = is_due(focus.deep, now);
    let from = begin_of(run, focus, deep, now);
    let queries = match &run.log_stream {
        Some(stream) => vec![LogQuery { streams: vec![stream.clone()], ..own_question(container, run, from, now) }],
        None => every_stream(container, run, from, now),
    };
    Scan::new(vec![key], queries, now, deep)
}

/// A scan of everything that the run can have written, from its beginning.
fn whole(container: &Container, run: &Run, key: RunKey, now: Timestamp) -> Scan {
    let from = run.issued.as_ref().map_or(now, |issued| issued.at).min(now).before(CLOCK_SKEW);
    let queries = every_stream(container, run, from, now);
    // A native run without a request id is asked for by the shapes of all lines.
    let unnamed = run.request_id.is_none() && container.spec.config.function.protocol == Protocol::Bootstrap;
    Scan { whole: true, unnamed, ..Scan::new(vec![key], queries, now, true) }
}

/// The question for one run's lines. Nobody else knows what is asked for, so that nobody else's lines match: the token, and
/// the request id. A native run without a request id is asked for by the shapes of all lines.
fn own_question(container: &Container, run: &Run, from: Timestamp, now: Timestamp) -> LogQuery {
    let settings = &container.spec.config.function;
    let query = question(&settings.log_group, from, now);
    let token = run.issued.as_ref().map(|issued| &issued.token).filter(|_| settings.protocol == Protocol::Bootstrap);
    let secrets: Vec<String> =
        token.into_iter().chain(&run.request_id).map(|secret| format!("?\"{secret}\"")).collect();
    if secrets.is_empty() { query } else { LogQuery { pattern: Some(secrets.join(" ")), ..query } }
}

/// The questions for every stream that the run can have: those in which earlier runs were seen, and those of its function
/// by day, `YYYY/MM/DD/<function>[`.
fn every_stream(container: &Container, run: &Run, from: Timestamp, now: Timestamp) -> Vec<LogQuery> {
    let base = own_question(container, run, from, now);
    let Some(issued) = &run.issued else { return Vec::new() };
    let days = days(issued.at.before(DAY), now.min(issued.deadline).max(issued.at).after(CLOCK_SKEW));
    let prefixes: Vec<String> = days.into_iter().map(|day| format!("{day}/{}[", issued.function_name)).collect();
    let is_elsewhere = |stream: &&String| !prefixes.iter().any(|prefix| stream.starts_with(prefix));
    let known: Vec<String> = container.status.log_streams.iter().filter(is_elsewhere).cloned().collect();
    let of_known =
        known.chunks(STREAMS_BY_NOISE[0]).map(|streams| LogQuery { streams: streams.to_vec(), ..base.clone() });
    let of_days = prefixes.iter().map(|prefix| LogQuery { stream_prefix: Some(prefix.clone()), ..base.clone() });
    of_days.chain(of_known).collect()
}

/// The days between two times, as streams have them: `YYYY/MM/DD`.
fn days(first: Timestamp, last: Timestamp) -> Vec<String> {
    let day = |time: Timestamp| time.to_string().get(..10).map(|day| day.replace('-', "/"));
    let (mut days, mut time) = (Vec::new(), first);
    while days.len() < MAX_STREAM_DAYS {
        days.extend(day(time));
        if day(time) >= day(last) {
            break;
        }
        time = time.after(DAY);
    }
    days
}
