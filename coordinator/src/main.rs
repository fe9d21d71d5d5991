//! The binary `lakehold`: reads the command line, carries it out, and ends with its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use lakehold::cli::{self, Cli, Global};
use lakehold::output::{colours, say};
use lakehold_proto::fault::{Class, Fault, Result};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version come this way, too, and go to standard output.
        Err(said) => {
            let _ = said.print();
            return ExitCode::from(if said.use_stderr() { 2 } else { 0 });
        }
    };
    let output = cli.global.output;
    let ended = log(&cli.global).and_then(|()| carry_out(cli));
    ExitCode::from(ended.unwrap_or_else(|fault| {
        cli::report(&fault, output);
        fault.exit_code()
    }))
}

fn carry_out(cli: Cli) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().max_blocking_threads(4).enable_all().build();
    let runtime = runtime.map_err(|e| Fault::new(Class::Unavailable, "process.threads", "start", e))?;
    runtime.block_on(cli::run(cli))
}

fn log(global: &Global) -> Result<()> {
    // What the clients of broker and bucket log in detail holds messages, passwords and session tokens.
    let filter = EnvFilter::try_new(format!("{},lapin=off,aws_config=warn,aws_runtime=warn,aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,aws_sigv4=warn", global.filter())).map_err(|e| {
        Fault::new(Class::Config, "usage.log", "read --log or RUST_LOG", e)
            .hint("write a level such as `info`, or `lakehold=debug`")
    })?;
    let logging =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours());
    if let Err(e) = logging.try_init() {
        say(&format!("warning: no log: {e}"));
    }
    Ok(())
}
