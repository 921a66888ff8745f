//! The daemon's eyes in a story: the log informer and the sweep, as the real ones go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::calendar::Happening;
use super::daemon::{Daemon, is_watched};
use super::ledger::short;
use super::world::{self, Arrival};
use crate::aws::{AwsError, AwsErrorKind, FunctionDescription, LogPage};
use crate::clock::Timestamp;
use crate::reconciler::names::Owner;
use crate::reconciler::observe::{self, PAUSE};
use crate::reconciler::queue::Priority;
use crate::reconciler::scan::{Group, RunKey, Tick, Turned};
use crate::reconciler::sweep;
use crate::reconciler::tests::{judge, settings};
use crate::state::Sighting;
use crate::state::model::{Container, ContainerId};
use sockerless_sandbox::model::{Request, Response};

/// Time between two sweeps.
const SWEEP_MS: i64 = 300_000;
/// How long an orphan must have been seen.
const GRACE: Duration = Duration::from_secs(900);

/// What the informer remembers.
#[derive(Debug, Default)]
pub(super) struct Informer {
    group: Group,
    /// How far runs were read on their own.
    pub(super) runs_read: BTreeMap<RunKey, Timestamp>,
    failures: u32,
    /// When the next pass is due, by AWS's clock; `None`: nothing is watched.
    pub(super) due_ms: Option<i64>,
}

impl Daemon {
    /// One pass over the log. `ticks`: it is the informer's own, and the next one follows.
    pub(super) fn read_logs(&mut self, boot: u64, ticks: bool) {
        let now_ms = self.now_ms();
        let Some(process) = &mut self.process else { return };
        if ticks && process.informer.due_ms.is_some_and(|due| due > now_ms) {
            return;
        }
        let watched: Vec<Container> = self.store.rows.values().filter(|row| is_watched(row)).cloned().collect();
        if watched.is_empty() {
            process.informer = Informer::default();
            return;
        }
        let mut group = std::mem::take(&mut process.informer.group);
        let result = self.read_group(&watched, &mut group);
        let Some(process) = &mut self.process else { return };
        process.informer.group = group;
        let pause = if result.is_ok() {
            process.informer.failures = 0;
            self.tick_ms
        } else {
            process.informer.failures += 1;
            i64::try_from(PAUSE.ceiling(process.informer.failures).as_millis()).unwrap()
        };
        if ticks {
            process.informer.due_ms = Some(now_ms + pause);
            self.later(pause, Happening::Logs(boot));
        }
    }

    fn read_group(&mut self, watched: &[Container], group: &mut Group) -> Result<(), AwsError> {
        let (now, read_through) = (self.now(), self.store.read_through);
        let under_way = self.process.as_ref().map(|process| process.under_way.clone()).unwrap_or_default();
        let owners = observe::owners(watched, |run| under_way.contains(run));
        let mut tick = Tick::begin(now, &settings().log_group, watched, group, read_through);
        while let Some(query) = tick.question() {
            let page = match self.ask(&world::filter(&query)) {
                Err(error) if error.kind == AwsErrorKind::InvalidParameter && tick.refused() => continue,
                Err(error) if error.kind == AwsErrorKind::NotFound && tick.split() => continue,
                Err(error) if error.kind == AwsErrorKind::NotFound => LogPage::default(),
                answer => world::log_page(answer?),
            };
            let reached = observe::latest(&page.events);
            for (id, news) in observe::page_news(&owners, page.events) {
                if self.fold_in(id, |now, row| news.fold(now, row)) {
                    self.kick(id, Priority::Retry);
                    let row = watched.iter().find(|row| row.id == id);
                    row.iter().for_each(|row| {
                        self.store.roles_without_logs.remove(&row.spec.config.function.role_arn);
                    });
                }
            }
            let progress = tick.turn(Turned { reached, next_token: page.next_token });
            self.store.read_through = progress.group.unwrap_or(self.store.read_through);
            if let Some(process) = &mut self.process {
                process.informer.runs_read.extend(progress.runs);
            }
        }
        Ok(())
    }

    /// A call whose answer is waited for on the spot.
    fn ask(&mut self, request: &Request) -> Result<Response, AwsError> {
        match self.aws.call(request, &mut self.rng).0 {
            Arrival::After(_, answer) => answer.map(|(response, _)| response),
            Arrival::AtTheEnd(..) => panic!("only invocations are answered at their end"),
        }
    }

    /// Lists what there is; the rows are read after it.
    pub(super) fn list(&mut self, boot: u64) {
        self.later(SWEEP_MS, Happening::Sweep(boot));
        let started = self.now();
        let (mut all, mut marker) = (Vec::new(), None);
        loop {
            let Ok(response) = self.ask(&world::list(marker)) else { return };
            let (page, next) = world::listed(response);
            all.extend(page.into_iter().filter(|f| self.identity.owner(&f.name) != Owner::Stranger));
            marker = next;
            if marker.is_none() {
                break;
            }
        }
        let reading = self.rng.between(1, 3_000);
        self.later(reading, Happening::Judge(boot, all, started));
    }

    /// Notes what is not as wanted, and deletes ripe orphans.
    pub(super) fn judge(&mut self, listed: &[FunctionDescription], started: Timestamp) {
        let rows: Vec<Container> = self.store.rows.values().cloned().collect();
        let findings = judge(&self.identity, listed, &rows, started);
        for (id, drift) in &findings.changed {
            self.ledger.cover("drift");
            self.fold_in(*id, |_, row| sweep::with_drift(row, drift));
            self.kick(*id, Priority::Housekeeping);
        }
        for id in &findings.missing {
            self.fold_in(*id, |_, row| sweep::with_doubt(row));
            self.kick(*id, Priority::Housekeeping);
        }
        self.record_sweep(&findings.orphans, started);
        let ids: BTreeSet<ContainerId> = rows.iter().map(|row| row.id).collect();
        let now = self.now();
        let ripe = |sighting: &&Sighting| sweep::is_ripe(sighting, now, GRACE);
        let names: Vec<String> =
            self.store.sightings.values().filter(ripe).map(|sighting| sighting.function_name.clone()).collect();
        for name in names {
            self.delete_orphan(&name, &ids);
        }
    }

    fn record_sweep(&mut self, orphans: &BTreeSet<String>, now: Timestamp) {
        let sightings = &mut self.store.sightings;
        sightings.retain(|name, _| orphans.contains(name));
        for name in orphans {
            let new =
                || Sighting { function_name: name.clone(), first_seen: now, last_seen: now, times: 0, look: None };
            let sighting = sightings.entry(name.clone()).or_insert_with(new);
            sighting.last_seen = now;
            sighting.times += 1;
        }
    }

    fn delete_orphan(&mut self, name: &str, ids: &BTreeSet<ContainerId>) {
        let Ok(response) = self.ask(&world::get(name)) else { return };
        let function = world::described(response);
        let has_row = sweep::tagged_container(&function).is_some_and(|id| ids.contains(&id));
        if sweep::reason_to_keep(&self.identity, None, &function, has_row).is_some() {
            self.ledger.cover("an orphan that is kept");
            return;
        }
        let hurts = self.ledger.foreign.contains(name);
        self.ledger.promise(5, !hurts, || format!("the sweep deletes the foreign function {name}"));
        self.ledger.mutations += 1;
        self.ledger.cover("an orphan that is deleted");
        self.note(format!("the sweep deletes {name}"));
        // A failure is met again by the next sweep.
        let _ = self.ask(&world::delete(name));
    }

    /// What the user sees of a container, for the account.
    pub(super) fn describe(&self, id: ContainerId) -> String {
        self.store.rows.get(&id).map_or_else(
            || format!("{} is gone", short(id)),
            |row| format!("{}: {:?}", short(id), row.status.run.as_ref().map(|run| &run.phase)),
        )
    }
}
