//! What a process takes, read from /proc, and whether it levels off.

use std::fmt;
use std::path::Path;
use std::time::Duration;

const KIB_PER_MIB: u64 = 1_024;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Resident memory, in KiB.
    Memory,
    /// Open file descriptors, but for connections of clients that are still there.
    Descriptors,
    /// Those of them that are sockets.
    Connections,
    /// The write-ahead log, in KiB.
    Wal,
}

/// All of them, in the order of [`Sample::values`].
pub(crate) const QUANTITIES: [Quantity; 4] =
    [Quantity::Memory, Quantity::Descriptors, Quantity::Connections, Quantity::Wal];

impl Quantity {
    /// What stands for a third of the time. Bursts come and go, and a leak lifts what is left between them; memory goes
    /// back late or never.
    fn of_a_third(self, values: &[u64]) -> u64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let place = match self {
            Self::Memory | Self::Wal => sorted.len() / 2,
            Self::Descriptors | Self::Connections => sorted.len() / 10,
        };
        sorted.get(place).copied().unwrap_or(0)
    }

    /// By how much the last third may be above the middle one: a part in a hundred, and an amount.
    fn slack(self) -> (u64, u64) {
        match self {
            Self::Memory => (5, 4 * KIB_PER_MIB),
            Self::Descriptors | Self::Connections => (10, 10),
            Self::Wal => (10, KIB_PER_MIB),
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Memory | Self::Wal => " KiB",
            Self::Descriptors | Self::Connections => "",
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::Connections => "connections",
            Self::Wal => "WAL",
        })
    }
}

/// One look at a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// In the order of [`QUANTITIES`].
    pub(crate) values: [u64; 4],
    /// Stories ended by then.
    pub(crate) ended: usize,
}

impl Sample {
    /// Looks at a process and its database. `clients`: connections that clients hold open.
    pub(crate) fn take(at: Duration, pid: u32, database: &Path, clients: u64, ended: usize) -> Self {
        let counts = descriptors(pid);
        let [descriptors, connections] = [counts.0, counts.1].map(|count| count.saturating_sub(clients));
        Self { at, values: [memory_kib(pid), descriptors, connections, wal_kib(database)], ended }
    }
}

fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(pid: u32) -> (u64, u64) {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    // One that was closed meanwhile has no target any more.
    let targets: Vec<_> = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect();
    let sockets = targets.iter().filter(|target| target.to_string_lossy().starts_with("socket:")).count();
    (targets.len() as u64, sockets as u64)
}

fn wal_kib(database: &Path) -> u64 {
    let mut wal = database.as_os_str().to_owned();
    wal.push("-wal");
    std::fs::metadata(wal).map_or(0, |metadata| metadata.len() / KIB_PER_MIB)
}

/// A quantity over the time of a series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) quantity: Quantity,
    /// What stands for each third.
    thirds: [u64; 3],
    most: u64,
    /// The least growth in a minute that would be noticed.
    noticed: u64,
}

impl Course {
    /// Of samples that were taken at equal distances.
    pub(crate) fn of(samples: &[Sample], index: usize) -> Self {
        let values: Vec<u64> = samples.iter().map(|sample| sample.values[index]).collect();
        let third = values.len() / 3;
        let quantity = QUANTITIES[index];
        let thirds = [&values[..third], &values[third..2 * third], &values[2 * third..]];
        let thirds = thirds.map(|values| quantity.of_a_third(values));
        let minutes = (samples.last().unwrap().at.as_secs() / 180).max(1);
        let (percent, amount) = quantity.slack();
        let noticed = (thirds[1] * percent / 100 + amount) / minutes;
        Self { quantity, thirds, most: values.iter().copied().max().unwrap_or(0), noticed }
    }

    /// Whether the last third is not above the middle one, but for the slack.
    pub(crate) fn levels_off(&self) -> bool {
        let (percent, amount) = self.quantity.slack();
        self.thirds[2] <= self.thirds[1] + self.thirds[1] * percent / 100 + amount
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, middle, last] = self.thirds;
        let (quantity, unit, (percent, amount)) = (self.quantity, self.quantity.unit(), self.quantity.slack());
        let verdict = if self.levels_off() { "levels off" } else { "GROWS" };
        write!(
            f,
            "{quantity:<12} {first:>9} {middle:>9} {last:>9} {:>9}{unit}  {verdict} (allowed: {percent} % and \
             {amount}{unit} above the middle; growth below {}{unit} a minute would not be seen)",
            self.most, self.noticed
        )
    }
}
