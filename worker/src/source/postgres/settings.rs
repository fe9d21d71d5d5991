//! What a configured server means: checked, and with its secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lakehold_proto::config::{Databases, Hooks, PostgresConfig};
use lakehold_proto::fault::Result;
use lakehold_proto::ids::EnvName;

use super::connection::Connection;
use super::patterns::Pattern;

/// One server as it is worked with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) connection: Connection,
    pub(super) databases: Databases,
    pub(super) without_rows: Vec<Pattern>,
    pub(super) jobs: usize,
    pub(super) programs: Option<PathBuf>,
    pub(super) system_identifier: Option<String>,
    /// Of all environments: a snapshot of one may be tried on the server of another.
    pub(super) hooks: Arc<BTreeMap<EnvName, Hooks>>,
}

impl Settings {
    /// Reads what was configured, and resolves its secrets.
    ///
    /// # Errors
    /// `Config` when a secret cannot be had, or something makes no sense.
    pub fn from_config(given: &PostgresConfig, hooks: BTreeMap<EnvName, Hooks>) -> Result<Self> {
        Ok(Self {
            connection: Connection::from_config(given)?,
            databases: given.databases.clone(),
            without_rows: given
                .exclude_table_data
                .iter()
                .map(|pattern| Pattern::of_tables(pattern))
                .collect::<Result<_>>()?,
            jobs: given.jobs.max(1) as usize,
            programs: given.programs.clone(),
            system_identifier: given.system_identifier.clone(),
            hooks: Arc::new(hooks),
        })
    }
}
