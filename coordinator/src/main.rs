//! The binary `lakehold`: reads the command line, carries it out, and ends with its exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use lakehold::cli::{self, Cli, Command};
use lakehold::output::colours;
use lakehold_proto::fault::Result;
use lakehold_proto::process;
use lakehold_proto::telemetry;

/// How long the last calls that block may take when the command has ended.
const LAST: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version come this way, too, and go to standard output.
        Err(said) => {
            let _ = said.print();
            return ExitCode::from(if said.use_stderr() { 2 } else { 0 });
        }
    };
    if let Command::Guard(guard) = &cli.command {
        return ExitCode::from(guard.stand());
    }
    let output = cli.global.output;
    let ended = telemetry::start("lakehold", &cli.global.filter(), colours()).and_then(|telemetry| {
        let ended = carry_out(cli);
        telemetry.end();
        ended
    });
    ExitCode::from(ended.unwrap_or_else(|fault| {
        cli::report(&fault, output);
        fault.exit_code()
    }))
}

fn carry_out(cli: Cli) -> Result<u8> {
    let runtime = process::runtime()?;
    let ended = runtime.block_on(cli::run(cli));
    // A name that is being looked up cannot be cancelled, and nobody waits for it any more.
    runtime.shutdown_timeout(LAST);
    ended
}
