//! What a client needs to know of one workspace: where it is, who asks, and how patient to be. The *high* types: worked out
//! once from what was configured, and checked.

use std::time::Duration;

use lakehold_proto::config::{DatabricksConfig, LimitsConfig, NotebookFormat, SecretRef};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::secret::Secret;
use reqwest::Url;

/// One workspace and who asks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scheme, host and port; `https`, or plain `http` for loopback.
    pub host: Url,
    /// Who asks.
    pub credentials: Credentials,
    /// The workspace's numeric id, where configured: sent along for unified hosts, and checked by the probe.
    pub workspace_id: Option<String>,
    /// The part of each API limit we may use.
    pub share: f64,
    /// Calls that may be under way at once.
    pub concurrency: u32,
    /// How notebooks are exported.
    pub notebooks: NotebookFormat,
    /// How long to wait for what.
    pub patience: Patience,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection. Default 10 s.
    pub connect: Duration,
    /// For the next bytes of an answer. Default 60 s, as the vendor's SDK has it.
    pub idle: Duration,
    /// For one whole answer that is read into memory. Default 5 min.
    pub answer: Duration,
    /// From the first failure of a call until it is given up. Default 300 s, as the vendor's SDK has it.
    pub retries: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(300),
            retries: Duration::from_secs(300),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A personal access token.
    Token(SecretSource),
    /// A service principal of Databricks: OAuth machine-to-machine.
    Machine {
        /// Its application id.
        client_id: SecretSource,
        /// Its OAuth secret.
        client_secret: SecretSource,
    },
    /// A service principal of Azure.
    Azure {
        /// The Entra tenant; found out from the workspace when absent.
        tenant: Option<SecretSource>,
        /// The Entra application id.
        client_id: SecretSource,
        /// Its secret.
        client_secret: SecretSource,
        /// The ARM id of the workspace, for a principal that the workspace does not know yet.
        resource_id: Option<String>,
        /// Where tokens are issued, where it is not the public cloud's host.
        login_host: Option<Url>,
    },
}

/// Where a secret comes from. Read when it is needed, so that one that was rotated is picked up.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// A reference of the configuration.
    Reference(SecretRef),
    /// A value of a profile file.
    Value(Secret),
}

impl SecretSource {
    /// Reads it.
    ///
    /// # Errors
    /// `Config` when the variable or file is absent or empty.
    pub fn resolve(&self) -> Result<Secret> {
        match self {
            Self::Reference(reference) => reference.resolve(),
            Self::Value(secret) => Ok(secret.clone()),
        }
    }
}

impl Settings {
    /// Works out what `config` means. Reads every secret once, so that one that is missing is told now; the ambient
    /// `DATABRICKS_*` variables are not looked at, or one of them would leak to every host.
    ///
    /// # Errors
    /// `Config` when the host, the profile or the credentials are missing, contradict each other, or cannot be had.
    pub fn from_config(config: &DatabricksConfig, limits: &LimitsConfig) -> Result<Self> {
        let fault = |detail: &str| {
            Fault::new(Class::Config, "config.databricks", "read the settings of a workspace", detail)
        };
        let host = config.host.as_deref().ok_or_else(|| fault("no host is given"))?;
        let token = config.token.clone().ok_or_else(|| fault("no credentials are given"))?;
        Ok(Self {
            host: Url::parse(host).map_err(|e| fault(&e.to_string()))?,
            credentials: Credentials::Token(SecretSource::Reference(token)),
            workspace_id: config.workspace_id.clone(),
            share: limits.share,
            concurrency: limits.concurrency,
            notebooks: config.notebooks.format,
            patience: Patience::default(),
        })
    }
}
