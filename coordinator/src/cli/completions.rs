//! `lakehold completions`.

use clap::{Args, CommandFactory as _};
use lakehold_proto::fault::Result;

use super::{Cli, exit};
use crate::output::print_bytes;

const EXAMPLES: &str = "\
Examples:
  lakehold completions bash > ~/.local/share/bash-completion/completions/lakehold
  lakehold completions zsh > ~/.zfunc/_lakehold";

/// What may be typed behind `completions`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lakehold", &mut script);
    print_bytes(&script)?;
    Ok(exit::COMPLETE)
}
