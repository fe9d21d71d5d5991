//! `lakehold demo`: what may be typed.

use std::path::PathBuf;

use clap::Args;
use lakehold_proto::fault::{Class, Fault, Result};

use super::Global;

const EXAMPLES: &str = "\
Examples:
  lakehold demo
  lakehold demo --dir /tmp/demo && lakehold -c /tmp/demo/lakehold.yaml snapshots";

/// What may be typed behind `demo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Where to leave configuration and store
    #[arg(long, value_name = "DIR", default_value = "lakehold-demo")]
    pub dir: PathBuf,
}

pub(super) async fn run(args: DemoArgs, _global: &Global) -> Result<u8> {
    let detail = format!("this build has no simulated workspace to fill {} from", args.dir.display());
    Err(Fault::new(Class::Unsupported, "demo.absent", "run the demo", detail))
}
