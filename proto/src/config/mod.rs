//! The configuration: one strict YAML file. These are the *low* types, what was typed; what they mean is worked out once,
//! by whoever uses them. Unknown keys are errors. Secrets are only ever references.

mod check;
mod coordinator;
mod find;
mod implied;
mod location;
mod parse;
mod postgres;
mod schedule;
mod secret_ref;
mod server;
mod settings;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use check::check;
pub use coordinator::CoordinatorConfig;
pub use find::{Surroundings, find};
pub use implied::{env_name_from, implied};
pub use location::StoreLocation;
pub use parse::{parse, parse_strictly};
pub use postgres::{Databases, Hooks, PostgresConfig, Verify};
pub use schedule::{Missed, ScheduleConfig};
pub use secret_ref::SecretRef;
pub use server::ServerConfig;
pub use settings::{Asked, Effective, Origin, Settings, load};

use crate::ids::EnvName;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The version of the file's format: 1.
    pub version: u32,
    /// Where snapshots live: a path, `file:///path` or `s3://bucket/prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The message broker. Left out: embedded, everything in one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<ServerConfig>,
    /// Locks and the shared rate budget. Left out: embedded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<ServerConfig>,
    /// The coordinator as a service: how to reach it, and how it serves.
    #[serde(default, skip_serializing_if = "CoordinatorConfig::is_default")]
    pub coordinator: CoordinatorConfig,
    /// How to reach the bucket, where the store is one.
    #[serde(default, skip_serializing_if = "S3Settings::is_default")]
    pub s3: S3Settings,
    /// What to protect.
    #[serde(default)]
    pub environments: BTreeMap<EnvName, EnvironmentConfig>,
}

/// How to reach a bucket. Credentials come from where the AWS tools take them: environment, profile, web identity,
/// container, instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Settings {
    /// The server's URL, where it is not AWS; plain `http` for loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether the bucket's name goes into the path: most servers but AWS want that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub path_style: bool,
    /// The KMS key that the server is to encrypt every object with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    /// Allows plain `http` to another machine.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

impl S3Settings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One environment.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentConfig {
    /// A Databricks workspace. Exactly one source is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databricks: Option<DatabricksConfig>,
    /// A PostgreSQL server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresConfig>,
    /// Words to select environments by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What a change to it must be confirmed with.
    #[serde(default)]
    pub protection: Protection,
    /// How much of what it allows we may use.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// When `lakehold serve` backs it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleConfig>,
    /// How old its last good snapshot may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo: Option<HumanDuration>,
    /// How long bringing it back may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto: Option<HumanDuration>,
    /// The workers that take its tasks.
    #[serde(default = "default_pool")]
    pub pool: String,
}

impl EnvironmentConfig {
    /// One that names no source yet.
    fn bare() -> Self {
        Self {
            databricks: None,
            postgres: None,
            labels: BTreeMap::new(),
            protection: Protection::default(),
            limits: LimitsConfig::default(),
            schedule: None,
            rpo: None,
            rto: None,
            pool: default_pool(),
        }
    }

    /// A PostgreSQL server, and nothing else said of it.
    pub fn of_postgres(server: PostgresConfig) -> Self {
        Self { postgres: Some(server), ..Self::bare() }
    }
}

fn default_pool() -> String {
    "default".into()
}

/// What a change to an environment must be confirmed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// Nothing.
    None,
    /// A yes, typed or by `--yes`.
    #[default]
    Confirm,
    /// Its name, typed or by `--confirm NAME`.
    TypedName,
}

/// How much of what an environment allows we may use.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The part of each API limit we may use, above 0 up to 1: people keep the rest. Default 0.97.
    pub share: f64,
    /// How many times the documented limits the vendor allows, where it raised them for this workspace: 1 up to 1000, for
    /// all APIs alike. Default 1. Where it turns out to be too much, the adaptive budget still backs off.
    pub factor: f64,
    /// Calls to the environment that may be under way at once, over all workers. Default 16.
    pub concurrency: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { share: 0.97, factor: 1.0, concurrency: 16 }
    }
}

/// A Databricks workspace: where it is, and who asks. Names are those of the Databricks CLI's profiles.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabricksConfig {
    /// `https://…`; plain `http` for loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// A profile of the Databricks CLI's configuration file, instead of the credentials here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// That file, where it is not `$DATABRICKS_CONFIG_FILE` or `~/.databrickscfg`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_file: Option<PathBuf>,
    /// The way to sign in, where more than one is given: `pat`, `oauth-m2m` or `azure-client-secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_type: Option<String>,
    /// A personal access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// The application id of a service principal (OAuth machine-to-machine).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<SecretRef>,
    /// Its OAuth secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretRef>,
    /// The Entra tenant of an Azure service principal; found out from the host when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_tenant_id: Option<SecretRef>,
    /// The Entra application id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_client_id: Option<SecretRef>,
    /// Its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_client_secret: Option<SecretRef>,
    /// `/subscriptions/…/workspaces/…`, for a service principal that the workspace does not know yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_workspace_resource_id: Option<String>,
    /// Where Entra tokens are issued, for sovereign clouds. Default `https://login.microsoftonline.com`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_login_host: Option<String>,
    /// The workspace's numeric id: sent along for unified hosts, and checked against what the host says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
    /// The id of a SQL warehouse by which a restore makes tables, views and functions here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_warehouse: Option<String>,
    /// How notebooks are exported.
    #[serde(skip_serializing_if = "NotebooksConfig::is_default")]
    pub notebooks: NotebooksConfig,
}

/// How notebooks are exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotebooksConfig {
    /// In which form.
    pub format: NotebookFormat,
}

impl NotebooksConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The form of an exported notebook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotebookFormat {
    /// The source text: small, and diffs well; without outputs.
    #[default]
    Source,
    /// A Jupyter notebook with its outputs.
    Jupyter,
}

/// A length of time as people write it: `24h`, `60m`, `1d 12h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(pub std::time::Duration);

impl TryFrom<String> for HumanDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no length of time: write it like 24h, 90m or 1d 12h");
        let span: jiff::Span = text.parse().map_err(|_| wrong())?;
        // A day of an objective is 24 hours, whatever the clocks of the place do; months have no length.
        let parsed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        std::time::Duration::try_from(parsed).map(Self).map_err(|_| format!("{text:?} is negative"))
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> Self {
        match jiff::SignedDuration::try_from(duration.0) {
            Ok(signed) => format!("{signed:#}"),
            Err(_) => format!("{}s", duration.0.as_secs()),
        }
    }
}
