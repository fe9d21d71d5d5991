//! What a client needs to know of one workspace: where it is, who asks, and how patient to be. The *high* types: worked out
//! once from what was configured, and checked.

use std::time::Duration;

use lakehold_proto::config::{DatabricksConfig, LimitsConfig, NotebookFormat, SecretRef};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::secret::Secret;
use reqwest::Url;

use super::attributes::Attributes;
use super::profile::profile;

/// One workspace and who asks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scheme, host and port; `https`, or plain `http` for loopback.
    pub host: Url,
    /// Who asks.
    pub credentials: Credentials,
    /// The workspace's numeric id, where configured: sent along for unified hosts, and checked by the probe.
    pub workspace_id: Option<String>,
    /// How much of each documented API limit we may use: the share that people leave us, times the factor by which the
    /// vendor raised the limits.
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
    /// For the probe, all its calls together. Default 10 s.
    pub probe: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(300),
            retries: Duration::from_secs(300),
            probe: Duration::from_secs(10),
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
    /// Works out what `config` means; what it does not say is taken from the profile that it names. Reads every secret
    /// once, so that one that is missing is told now. The ambient `DATABRICKS_*` variables are not looked at (but for the
    /// place of the profile file), or one of them would leak to every host.
    ///
    /// # Errors
    /// `Config` when the host, the profile or the credentials are missing, contradict each other, or cannot be had.
    pub fn from_config(config: &DatabricksConfig, limits: &LimitsConfig) -> Result<Self> {
        let mut attributes = Attributes::of_config(config);
        if let Some(name) = &config.profile {
            let found = profile(config.config_file.as_deref(), name)?;
            attributes = attributes.over(Attributes::of_profile(&found));
        }
        Self::build(&attributes, limits, config.notebooks.format)
    }

    fn build(attributes: &Attributes, limits: &LimitsConfig, notebooks: NotebookFormat) -> Result<Self> {
        let host = attributes.host()?;
        let workspace_id = match (attributes.workspace_id()?, host.workspace_id) {
            (Some(set), Some(found)) if set != found => {
                let detail = format!("workspace_id says {set}, and the host says ?o={found}");
                return Err(Fault::new(
                    Class::Config,
                    "config.wrong-workspace",
                    "read which workspace is meant",
                    detail,
                ));
            }
            (set, found) => set.or(found),
        };
        if let Some(id) = workspace_id.as_ref().filter(|id| !id.bytes().all(|b| b.is_ascii_digit())) {
            let detail = format!("{id:?} is no workspace id: those are numbers");
            return Err(Fault::new(
                Class::Config,
                "config.workspace-id",
                "read which workspace is meant",
                detail,
            ));
        }
        if !(limits.share > 0.0 && limits.share <= 1.0) {
            let detail = format!("{} is not above 0 and up to 1", limits.share);
            return Err(Fault::new(Class::Config, "config.share", "read limits.share", detail));
        }
        if !(limits.factor >= 1.0 && limits.factor.is_finite()) {
            let detail = format!("{} is not from 1 upwards", limits.factor);
            return Err(Fault::new(Class::Config, "config.factor", "read limits.factor", detail));
        }
        Ok(Self {
            host: host.url,
            credentials: attributes.credentials()?,
            workspace_id,
            share: limits.share * limits.factor,
            concurrency: limits.concurrency.max(1),
            notebooks,
            patience: Patience::default(),
        })
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
