//! `lakehold doctor`: tries what a backup would need.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::config::{Config, DatabricksConfig, SecretRef, Settings, Surroundings};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Nonce};
use lakehold_proto::locks::redis::CarefulLocks;
use lakehold_proto::locks::{Locks as _, MemoryLocks, SharedLocks};
use lakehold_proto::open::{self, Fleet};
use lakehold_proto::plan::Probe;
use lakehold_proto::queue::QueueName;
use lakehold_proto::store::identity::{self, Identity};
use lakehold_proto::store::{DirectoryStore, Store};
use lakehold_worker::configured::ConfiguredSources;
use lakehold_worker::serve::Sources as _;
use serde::Serialize;

use super::{Global, exit};
use crate::output::{Format, document, escaped, hinted, print};

/// Exit codes, the worst first: damage, what is configured wrongly, what is denied. The others are alike.
const WORST: [u8; 3] = [exit::INTEGRITY, 2, 7];
/// How long the lock that is tried lasts, should nobody give it back.
const TRIED: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  lakehold doctor
  lakehold -c prod.yaml doctor -o json";

/// Takes nothing of its own.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {}

#[derive(Serialize)]
struct Finding {
    what: String,
    well: bool,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    exit_code: u8,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    well: bool,
    findings: Vec<Finding>,
}

impl Finding {
    fn of(what: impl Into<String>, found: Result<String>) -> Self {
        let what = what.into();
        match found {
            Ok(detail) => Self { what, well: true, detail, hint: None, exit_code: exit::COMPLETE },
            Err(fault) => {
                let exit_code = fault.exit_code();
                Self { what, well: false, detail: fault.to_string(), hint: fault.hint, exit_code }
            }
        }
    }
}

pub(super) async fn run(_args: &DoctorArgs, global: &Global) -> Result<u8> {
    let around = Surroundings::of_process()?;
    let mut findings = Vec::new();
    let settings = Settings::unchecked(&global.asked(), &around);
    findings.push(Finding::of("configuration", settings.as_ref().map_err(Clone::clone).map(found_in)));
    if let Ok(settings) = &settings {
        let faults = settings.faults(&around);
        let sound = faults.is_empty();
        findings.extend(faults.into_iter().map(|fault| Finding::of("configuration", Err(fault))));
        for (name, environment) in &settings.config.environments {
            if let Some(databricks) = &environment.databricks {
                findings.push(Finding::of(format!("secrets of {name}"), secrets(databricks)));
            }
            if let Some(postgres) = &environment.postgres {
                let found = resolved(&postgres.secrets());
                findings.push(Finding::of(format!("secrets of {name}"), found));
            }
        }
        if sound {
            findings.extend(tried(settings).await);
        }
    }
    let worst = worst(&findings);
    let well = worst == exit::COMPLETE;
    match global.output {
        Format::Table | Format::Name => print(&text(&findings))?,
        format => document(format, &Document { schema: "lakehold.doctor/v1", well, findings })?,
    }
    Ok(worst)
}

/// The exit code of the worst finding.
fn worst(findings: &[Finding]) -> u8 {
    let codes = findings.iter().filter(|finding| !finding.well).map(|finding| finding.exit_code);
    let rank = |code: &u8| WORST.iter().position(|worse| worse == code).unwrap_or(WORST.len());
    codes.min_by_key(rank).unwrap_or(exit::COMPLETE)
}

/// Tries what the settings name: the store, the fleet, the environments. One that fails keeps no other from being tried,
/// but that a fleet cannot be looked at without the store's id, which is part of what is asked for there.
async fn tried(settings: &Settings) -> Vec<Finding> {
    let (config, clock) = (&settings.config, SystemClock::shared());
    let mut findings = Vec::new();
    let mut id = None;
    match open::store(settings).await {
        Err(fault) => findings.push(Finding::of("store", Err(fault))),
        Ok((store, directory)) => {
            let identity = identity::open(&*store).await;
            id = identity.as_ref().ok().map(|identity| identity.store.clone());
            let found = able(&*store, directory.is_some(), identity).await;
            findings.push(Finding::of("store", found));
            findings.extend(directory.iter().map(|directory| Finding::of("store lock", lock(directory))));
        }
    }
    let mut locks: SharedLocks = Arc::new(MemoryLocks::new(Arc::clone(&clock)));
    let mut connected = None;
    match &id {
        _ if config.queue.is_none() => {}
        None => findings
            .push(Finding::of("broker and Redis", Ok("not tried: there is no store to work on".into()))),
        Some(id) => match open::fleet(config, id, "lakehold doctor", &clock).await {
            Err(fault) => findings.push(Finding::of("broker and Redis", Err(fault))),
            Ok(fleet) => connected = fleet,
        },
    }
    if let Some(fleet) = &connected {
        findings.extend(queues(fleet, config).await);
        findings.push(Finding::of("Redis", redis(&fleet.locks).await));
        if fleet.locks.alone().is_none() {
            locks = fleet.locks.clone();
        }
    }
    findings.extend(environments(config, locks, clock).await);
    if let Some(fleet) = connected {
        fleet.queue.close().await;
    }
    findings
}

/// Asks each environment who we are, as a backup would: within the budget of the fleet, where there is one.
async fn environments(config: &Config, locks: SharedLocks, clock: SharedClock) -> Vec<Finding> {
    let sources = &ConfiguredSources::new(config, locks, clock);
    let asked = config.environments.keys().map(|name| async move {
        let probe = async { sources.source(name).await?.probe().await };
        Finding::of(format!("environment {name}"), probe.await.map(|probe| known_as(&probe)))
    });
    futures::future::join_all(asked).await
}

fn known_as(probe: &Probe) -> String {
    let admin = match probe.identity.admin {
        Some(true) => "an admin",
        Some(false) => "not an admin",
        None => "admin or not is unknown",
    };
    let facts = probe.facts.iter().map(|(name, value)| format!(", {name} {value}")).collect::<String>();
    let warnings = probe.warnings.iter().map(|warning| format!("; warning: {warning}")).collect::<String>();
    format!("asked as {} ({admin}){facts}{warnings}", probe.identity.name)
}

fn found_in(settings: &Settings) -> String {
    let file = settings.file.as_ref().map_or("no file".into(), |file| file.display().to_string());
    format!("{file}, {} environment(s)", settings.config.environments.len())
}

/// Resolves every reference, and shows nothing of what it finds.
fn secrets(databricks: &DatabricksConfig) -> Result<String> {
    let references: Vec<SecretRef> = [
        &databricks.token,
        &databricks.client_id,
        &databricks.client_secret,
        &databricks.azure_tenant_id,
        &databricks.azure_client_id,
        &databricks.azure_client_secret,
    ]
    .into_iter()
    .flatten()
    .cloned()
    .collect();
    resolved(&references)
}

fn resolved(references: &[SecretRef]) -> Result<String> {
    references.iter().try_for_each(|reference| reference.resolve().map(drop))?;
    let names: Vec<_> = references.iter().map(ToString::to_string).collect();
    Ok(if names.is_empty() { "none are configured".into() } else { format!("found {}", names.join(", ")) })
}

/// Probes a store that is there. A directory that is none yet is made one by the first backup, so there it is only said.
async fn able(store: &dyn Store, directory: bool, opened: Result<Identity>) -> Result<String> {
    let location = store.location();
    let identity = match opened {
        Err(fault) if fault.code == "store.absent" && directory => {
            return Ok(format!("{location} is not there yet: the first backup or `lakehold init` makes it"));
        }
        Err(fault) if fault.code == "store.absent" => {
            return Err(fault.hint("run `lakehold init`: a backup makes a store in a directory only"));
        }
        opened => opened?,
    };
    let probed = identity::probe(store).await?;
    let (warnings, notes) = (probed.warnings(), probed.notes());
    if warnings.is_empty() {
        let found =
            format!("{location}, format {}: creates are atomic, listings are current", identity.version);
        return Ok([vec![found], notes].concat().join("; "));
    }
    let detail = [warnings, notes].concat().join("; ");
    Err(Fault::new(Class::Unsupported, "store.lacking", format!("probe {location}"), detail).hint(
        "the README tells what works on such a store and what does not; else use a server that can do it",
    ))
}

/// Sees that the queue of each configured pool is as workers want it.
async fn queues(fleet: &Fleet, config: &Config) -> Vec<Finding> {
    let pools: BTreeSet<_> = config.environments.values().map(|environment| &environment.pool).collect();
    let declared = pools.into_iter().map(|pool| async move {
        let found = fleet.queue.declare(&QueueName::tasks(pool)).await;
        Finding::of(format!("queue of pool {pool}"), found.map(|()| "is as workers declare it".into()))
    });
    futures::future::join_all(declared).await
}

/// Takes a lock twice, the second time as somebody else, which must be refused. A backup would go on alone without Redis;
/// who asks a doctor wants to know, so that Redis itself is asked.
async fn redis(locks: &CarefulLocks) -> Result<String> {
    if let Some(fault) = locks.alone() {
        return Err(fault);
    }
    let (ours, theirs) = (Nonce::random(), Nonce::random());
    let name = format!("doctor/{ours}");
    let first = locks.shared().acquire(&name, ours, TRIED).await?;
    let second = locks.shared().acquire(&name, theirs, TRIED).await?;
    locks.shared().release(&name, ours).await?;
    if !first || second {
        let detail = "it gave a new lock to nobody or to two; is it more than one server?";
        return Err(Fault::new(Class::Unsupported, "locks.no-lock", "lock something in Redis", detail)
            .hint("name one server, or the Sentinels of one"));
    }
    let fleet = locks.workers().await?;
    Ok(format!("a second holder is refused; {} workers with {} slots", fleet.workers, fleet.slots))
}

/// Takes a lock twice: the second must be refused.
fn lock(directory: &DirectoryStore) -> Result<String> {
    if !directory.root().exists() {
        return Ok("not tried: there is no store yet".into());
    }
    let name: EnvName = "lakehold-doctor".parse()?;
    let held = directory.lock_environment(&name, "lakehold doctor")?;
    let second = directory.lock_environment(&name, "lakehold doctor");
    drop(held);
    match second {
        Err(fault) if fault.code == "lock.held" => Ok("a second holder is refused".into()),
        Err(fault) => Err(fault),
        Ok(_) => {
            let detail = "this file system lets two hold one lock";
            Err(Fault::new(Class::Unsupported, "store.no-lock", "lock an environment", detail)
                .hint("put the store on a local file system, or never run two backups at once"))
        }
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = if finding.well { "ok  " } else { "FAIL" };
        text.push_str(&format!("{mark}  {}: {}\n", finding.what, escaped(&finding.detail)));
        text.push_str(&hinted("      ", finding.hint.as_deref()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_whichever_comes_first() {
        let of = |class| Finding::of("x", Err(Fault::new(class, "x.x", "try", "no")));
        let well = || Finding::of("x", Ok("well".into()));
        assert_eq!(worst(&[well()]), 0);
        assert_eq!(worst(&[well(), of(Class::Unavailable)]), 1);
        assert_eq!(worst(&[of(Class::Unavailable), of(Class::Denied)]), 7);
        assert_eq!(worst(&[of(Class::Denied), of(Class::Config), of(Class::Unavailable)]), 2);
        assert_eq!(worst(&[of(Class::Config), well(), of(Class::Integrity)]), 5);
    }
}
