//! What is on this machine: the database, the addresses, the files of TLS.

use super::Report;
use crate::api::client::is_alive;
use crate::api::{BindError, try_address, try_tls};
use crate::config::{Config, Listen};
use crate::state::{DatabaseSeen, StateError, bound_to, inspect};

pub(super) async fn examine(config: &Config, report: &mut Report) {
    // What a running daemon of this configuration holds, it holds rightly.
    let alive = is_alive(&config.listen).await;
    if alive {
        report.ok("daemon", "a daemon of this configuration is running");
    }
    let found = inspect(&config.database).await;
    let readable = matches!(found, Ok(DatabaseSeen::Current) | Err(StateError::Locked { .. }));
    database(config, found, alive, report);
    if readable {
        binding(config, report).await;
    }
    let metrics = config.metrics_listen.map(Listen::Tcp);
    for address in config.listen.iter().chain(&metrics) {
        let check = format!("address {address}");
        match try_address(address).await {
            Ok(()) => report.ok(check, "it is free"),
            Err(error) if alive && is_in_use(&error) => report.ok(check, "the running daemon has it"),
            Err(error) => report.wrong(check, error.to_string(), advice(&error)),
        }
    }
    if let Some(tls) = &config.tls {
        match try_tls(tls) {
            Ok(()) => report.ok("TLS", "certificate and key fit together"),
            Err(error) => report.wrong("TLS", error.to_string(), "give files in PEM that the daemon's user can read"),
        }
    }
}

fn database(config: &Config, found: Result<DatabaseSeen, StateError>, alive: bool, report: &mut Report) {
    let path = config.database.display();
    let todo = match &found {
        Ok(DatabaseSeen::Absent) => return report.ok("database", format!("{path} will be made by the first start")),
        Ok(DatabaseSeen::Current) => return report.ok("database", format!("{path} can be used")),
        Ok(DatabaseSeen::Older) => {
            return report.ok("database", format!("{path} is older and will be brought up to date by the next start"));
        }
        Err(StateError::Locked { .. }) if alive => {
            return report.ok("database", format!("{path} is in use by the running daemon"));
        }
        Err(StateError::Locked { .. }) => "stop that daemon, or give this one a `database` of its own",
        Err(StateError::Newer { .. }) => "install the newer daemon again, or restore a backup from before it",
        Err(_) => "name a file in `database` that the daemon's user can write, in a directory that it can write",
    };
    if let Err(error) = found {
        report.wrong("database", error.to_string(), todo);
    }
}

/// Whether the database belongs to these settings.
async fn binding(config: &Config, report: &mut Report) {
    let check = "settings of the database";
    match bound_to(&config.database).await.map(|bound| bound.map(|bound| bound.conflict(&config.binding()))) {
        Ok(None) => report.ok(check, "it is bound to prefix, region, account and claims group by the first start"),
        Ok(Some(None)) => report.ok(check, "prefix, region, account and claims group are those that it is bound to"),
        Ok(Some(Some(conflict))) => {
            report.wrong(check, conflict, "without the old value, its functions are out of reach");
        }
        Err(error @ StateError::Corrupt(_)) => {
            let todo = "start the daemon with --adopt if these are the settings that it was used with: they are written into it";
            report.wrong(check, error.to_string(), todo);
        }
        Err(error) => report.wrong(check, error.to_string(), "see database"),
    }
}

fn is_in_use(error: &BindError) -> bool {
    match error {
        BindError::InUse { .. } => true,
        BindError::Tcp { reason, .. } => reason.kind() == std::io::ErrorKind::AddrInUse,
        _ => false,
    }
}

fn advice(error: &BindError) -> &'static str {
    match error {
        BindError::NoDirectory { .. } => "make the directory, writable for the daemon's user",
        BindError::NotASocket { .. } => "move it away, or choose another path in `listen`",
        BindError::Unix { .. } => "let the daemon's user write the directory",
        error if is_in_use(error) => "stop who listens there, or choose another address",
        _ => "choose an address of this machine that the daemon's user may listen on",
    }
}
