//! `lakehold-sim`: simulated workspaces on this machine, for any client.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use lakehold_sim::{Cloud, Fault, IdentitySpec, Limits, Population, Sim, SimConfig};
use serde::de::DeserializeOwned;

/// Simulated Databricks workspaces on loopback ports.
#[derive(Debug, Parser)]
#[command(name = "lakehold-sim", version)]
struct Args {
    /// Address of the first workspace; the others take the ports after it (port 0: any free ones)
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Number of workspaces
    #[arg(long, default_value_t = 1)]
    workspaces: usize,
    /// The same seed makes the same workspaces
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Items in each workspace
    #[arg(long, default_value_t = 500, conflicts_with = "population")]
    items: usize,
    /// JSON with counts by kind: {"counts": {"job": 10, "notebook": 100}}; or {"each": [...]}, one for each workspace
    #[arg(long, value_name = "FILE")]
    population: Option<PathBuf>,
    /// Hostile names and bodies too
    #[arg(long)]
    hostile: bool,
    /// Only what a new workspace has
    #[arg(long, conflicts_with_all = ["population", "items"])]
    empty: bool,
    /// The cloud to pretend to be
    #[arg(long, value_enum, default_value = "aws")]
    cloud: CloudArg,
    /// Added to every call, such as 20ms or 1s
    #[arg(long, value_parser = duration, default_value = "0ms")]
    latency: Duration,
    /// `real`, `none`, or a JSON file of limits
    #[arg(long, value_name = "real|none|FILE", default_value = "none")]
    limits: String,
    /// JSON list of faults in force from the start
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// JSON list of further tokens and OAuth clients
    #[arg(long, value_name = "FILE")]
    identities: Option<PathBuf>,
    /// Attach all workspaces to one metastore
    #[arg(long)]
    share_metastore: bool,
    /// Put all workspaces into one account
    #[arg(long)]
    share_account: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CloudArg {
    Aws,
    Azure,
    Gcp,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            report(&message);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the binary's own terminal")]
fn report(message: &str) {
    eprintln!("lakehold-sim: {message}");
}

#[expect(clippy::print_stdout, reason = "the binary's own terminal")]
fn tell(sim: &Sim) {
    for url in sim.urls() {
        println!("{url}");
    }
    println!("token: {}", sim.token());
    println!("oauth: client_id sim, client_secret sim");
}

fn run(args: Args) -> Result<(), String> {
    let config = config(args)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| format!("start the runtime: {e}"))?;
    runtime.block_on(async {
        let sim = Sim::start(config).await.map_err(|e| with_causes(&e))?;
        tell(&sim);
        tokio::signal::ctrl_c().await.map_err(|e| format!("wait for Ctrl-C: {e}"))
    })
}

fn config(args: Args) -> Result<SimConfig, String> {
    let population = match (args.empty, &args.population) {
        (true, _) => Population::Empty,
        (false, Some(file)) => json(file)?,
        (false, None) => Population::Items(args.items),
    };
    let limits = match args.limits.as_str() {
        "real" => Limits::real(),
        "none" => Limits::none(),
        file => json(Path::new(file))?,
    };
    let faults: Vec<Fault> = args.faults.as_deref().map(json).transpose()?.unwrap_or_default();
    let identities: Vec<IdentitySpec> = args.identities.as_deref().map(json).transpose()?.unwrap_or_default();
    let cloud = match args.cloud {
        CloudArg::Aws => Cloud::Aws,
        CloudArg::Azure => Cloud::Azure,
        CloudArg::Gcp => Cloud::Gcp,
    };
    Ok(SimConfig {
        listen: args.listen,
        workspaces: args.workspaces,
        seed: args.seed,
        population,
        hostile: args.hostile,
        cloud,
        latency: args.latency,
        limits,
        faults,
        share_metastore: args.share_metastore,
        share_account: args.share_account,
        identities,
    })
}

fn json<T: DeserializeOwned>(file: &Path) -> Result<T, String> {
    let text = std::fs::read(file).map_err(|e| format!("read {}: {e}", file.display()))?;
    serde_json::from_slice(&text).map_err(|e| format!("read {}: {e}", file.display()))
}

/// `20ms`, `1.5s`, or a number of milliseconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(n) => (n, 0.001),
        None => text.strip_suffix('s').map_or((text, 0.001), |n| (n, 1.0)),
    };
    let value: f64 =
        number.trim().parse().map_err(|_| format!("`{text}` is not a duration such as 20ms or 1s"))?;
    Duration::try_from_secs_f64(value * scale).map_err(|e| e.to_string())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(&format!(": {e}"));
        cause = e.source();
    }
    text
}
