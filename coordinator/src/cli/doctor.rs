//! `lakehold doctor`: tries what a backup would need.

use std::sync::Arc;

use clap::Args;
use lakehold_proto::config::{DatabricksConfig, SecretRef, Settings, Surroundings};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::EnvName;
use lakehold_proto::locks::MemoryLocks;
use lakehold_proto::plan::Probe;
use lakehold_proto::store::DirectoryStore;
use lakehold_worker::configured::ConfiguredSources;
use lakehold_worker::serve::Sources as _;
use serde::Serialize;

use super::{Context, Global, exit};
use crate::output::{Format, document, escaped, hinted, print};
use lakehold_proto::open;
use lakehold_proto::store::identity;

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
        findings.extend(
            settings.faults(&around).into_iter().map(|fault| Finding::of("configuration", Err(fault))),
        );
        for (name, environment) in &settings.config.environments {
            if let Some(databricks) = &environment.databricks {
                findings.push(Finding::of(format!("secrets of {name}"), secrets(databricks)));
            }
            if let Some(postgres) = &environment.postgres {
                let found = resolved(&postgres.secrets());
                findings.push(Finding::of(format!("secrets of {name}"), found));
            }
        }
    }
    if let Ok(context) = Context::load(global).await {
        findings.extend(environments(&context).await);
        findings.push(Finding::of("store", store(&context).await));
        if context.settings.config.queue.is_some() {
            findings.push(Finding::of("broker and Redis", fleet(&context).await));
        }
        findings
            .extend(context.directory.as_ref().map(|directory| Finding::of("store lock", lock(directory))));
    }
    let worst = findings.iter().map(|finding| finding.exit_code).find(|code| *code != exit::COMPLETE);
    let well = worst.is_none();
    match global.output {
        Format::Table | Format::Name => print(&text(&findings))?,
        format => document(format, &Document { schema: "lakehold.doctor/v1", well, findings })?,
    }
    Ok(worst.unwrap_or(exit::COMPLETE))
}

/// Asks each environment who we are, as a backup would.
async fn environments(context: &Context) -> Vec<Finding> {
    let config = &context.settings.config;
    let locks = Arc::new(MemoryLocks::new(Arc::clone(&context.clock)));
    let sources = ConfiguredSources::new(config, locks, Arc::clone(&context.clock));
    let sources = &sources;
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

/// Opens the store and probes it. One that is absent is made by the first backup, so here it is only said.
async fn store(context: &Context) -> Result<String> {
    let location = context.store.location();
    let identity = match identity::open(&*context.store).await {
        Err(fault) if fault.code == "store.absent" => {
            return Ok(format!("{location} is not there yet: the first backup or `lakehold init` makes it"));
        }
        opened => opened?,
    };
    let warnings = identity::probe(&*context.store).await?.warnings();
    if warnings.is_empty() {
        return Ok(format!(
            "{location}, format {}: creates are atomic, listings are current",
            identity.version
        ));
    }
    Err(Fault::new(Class::Unsupported, "store.lacking", format!("probe {location}"), warnings.join("; ")))
}

/// Connects to what a fleet shares. The store's id is part of what is asked for there.
async fn fleet(context: &Context) -> Result<String> {
    let store = match identity::open(&*context.store).await {
        Err(fault) if fault.code == "store.absent" => return Ok("not tried: there is no store yet".into()),
        opened => opened?.store,
    };
    let fleet = open::fleet(&context.settings.config, &store, "lakehold doctor", &context.clock).await?;
    let Some(fleet) = fleet else { return Ok("embedded".into()) };
    // A backup would go on alone without Redis; who asks a doctor wants to know.
    let alone = fleet.locks.alone();
    let workers = fleet.locks.workers().await;
    fleet.queue.close().await;
    match (alone, workers) {
        (Some(fault), _) | (None, Err(fault)) => Err(fault),
        (None, Ok(fleet)) => Ok(format!("both answer; {} workers with {} slots", fleet.workers, fleet.slots)),
    }
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
