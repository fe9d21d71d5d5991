//! The binary `lakehold-worker`: serves the queue that the configuration names.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lakehold_proto::config::{Asked, Surroundings, load};
use lakehold_proto::fault::{Class, Fault, Result};

const EXAMPLES: &str = "\
Examples:
  lakehold-worker -c /etc/lakehold/lakehold.yaml
  lakehold-worker --pool emea --slots 8";

/// Takes tasks from the configured queue and carries them out, until it is told to end.
#[derive(Debug, Parser)]
#[command(name = "lakehold-worker", version, after_help = EXAMPLES)]
struct Cli {
    /// The configuration file [default: $LAKEHOLD_CONFIG, ./lakehold.yaml, the XDG directory, /etc/lakehold]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The pool whose environments it serves
    #[arg(long, default_value = "default", value_name = "POOL")]
    pool: String,
    /// Tasks it works on at once
    #[arg(long, default_value_t = 8, value_name = "N")]
    slots: usize,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match serve(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            report(&fault);
            ExitCode::from(fault.exit_code())
        }
    }
}

/// Finds the queue to serve. The only one there is so far lives inside the process of `lakehold backup`, with workers of
/// its own: a worker process cannot reach it, and must not look as if it did.
fn serve(cli: &Cli) -> Result<()> {
    let asked = Asked { config: cli.config.clone(), ..Asked::default() };
    let settings = load(&asked, &Surroundings::of_process()?)?;
    let context = format!("serve pool {} with {} slots", cli.pool, cli.slots);
    let from =
        settings.file.map_or("there is no configuration file".into(), |file| file.display().to_string());
    let detail = format!(
        "no queue is configured ({from}), so every run is embedded: `lakehold backup` has its own workers"
    );
    Err(Fault::new(Class::Config, "worker.no-queue", context, detail)
        .hint("run `lakehold backup`; a queue that workers share comes with a later version"))
}

#[allow(clippy::print_stderr, reason = "the binary reports to the terminal")]
fn report(fault: &Fault) {
    eprintln!("error[{}]: {fault}", fault.code);
    if let Some(hint) = &fault.hint {
        eprintln!("  hint: {hint}");
    }
}
