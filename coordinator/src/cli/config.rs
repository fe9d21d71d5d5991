//! `lakehold config`: checks and shows the configuration.

use clap::{Args, Subcommand};
use lakehold_proto::config::{Settings, Surroundings, load};
use lakehold_proto::fault::Result;
use serde_json::json;

use super::{Global, exit, report};
use crate::output::{Align, Format, Table, document, print, say};

const EXAMPLES: &str = "\
Examples:
  lakehold config validate
  lakehold -c prod.yaml config show -o json";

/// What may be typed behind `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration and tell everything that is wrong with it
    Validate(Nothing),
    /// Print every value in force and where it came from; secrets only as references
    Show(Nothing),
}

/// Takes nothing of its own.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Nothing {}

pub(super) fn run(command: &ConfigCommand, global: &Global) -> Result<u8> {
    let around = Surroundings::of_process()?;
    match command {
        ConfigCommand::Validate(_) => {
            let settings = Settings::unchecked(&global.asked(), &around)?;
            let faults = settings.faults(&around);
            faults.iter().for_each(|fault| report(fault, global.output));
            if let Some(worst) = faults.first() {
                return Ok(worst.exit_code());
            }
            if !global.quiet {
                let file = settings.file.map_or("no file".into(), |file| file.display().to_string());
                say(&format!("{file}: sound, {} environment(s)", settings.config.environments.len()));
            }
            Ok(exit::COMPLETE)
        }
        ConfigCommand::Show(_) => show(&load(&global.asked(), &around)?, global.output),
    }
}

fn show(settings: &Settings, format: Format) -> Result<u8> {
    let values = settings.effective();
    match format {
        Format::Json | Format::Yaml => {
            let rows = values
                .iter()
                .map(|one| json!({"key": one.key, "value": one.value, "origin": one.origin.to_string()}));
            let rows: Vec<_> = rows.collect();
            document(format, &json!({"schema": "lakehold.config/v1", "values": rows}))?;
        }
        Format::Name => values.iter().try_for_each(|one| print(&format!("{}\n", one.key)))?,
        Format::Table => {
            let mut table =
                Table::new(&[("KEY", Align::Left), ("VALUE", Align::Left), ("FROM", Align::Left)]);
            for one in values {
                let value = one.value.as_str().map_or_else(|| one.value.to_string(), str::to_owned);
                table.row([one.key, value, one.origin.to_string()]);
            }
            print(&table.render())?;
        }
    }
    Ok(exit::COMPLETE)
}
