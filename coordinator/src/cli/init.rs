//! `lakehold init`.

use clap::Args;
use lakehold_proto::fault::Result;
use serde_json::json;

use super::{Context, exit};
use crate::output::{Format, document, print, say};
use lakehold_proto::store::identity;

const EXAMPLES: &str = "\
Examples:
  lakehold init
  lakehold init --store /var/lib/lakehold";

/// Takes nothing of its own.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {}

pub(super) async fn run(_args: &InitArgs, context: &Context) -> Result<u8> {
    let (identity, made) = identity::create(&*context.store, context.clock.now()).await?;
    let location = context.store.location();
    match context.output {
        Format::Table => {
            let what = if made { "made" } else { "there already" };
            print(&format!("{location}: store {} {what}, format {}\n", identity.store, identity.version))?;
        }
        Format::Name => print(&format!("{}\n", identity.store))?,
        format => document(
            format,
            &json!({"location": location, "made": made, "identity": identity, "schema": "lakehold.init/v1"}),
        )?,
    }
    identity.probe.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
    identity.probe.notes().iter().for_each(|note| say(note));
    Ok(exit::COMPLETE)
}
