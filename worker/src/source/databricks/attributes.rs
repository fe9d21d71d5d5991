//! From what was typed to who asks: attributes from the configuration, the environment and a profile, laid over each
//! other, and the one way to sign in that they describe.

use std::collections::BTreeMap;

use lakehold_proto::config::{DatabricksConfig, SecretRef};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::secret::Secret;

use super::host::{self, Host};
use super::profile::Profile;
use super::settings::{Credentials, SecretSource};

/// One attribute: its name in profiles, its environment variable, and the way to sign in that it belongs to.
struct Attribute {
    name: &'static str,
    variable: &'static str,
    family: Option<&'static str>,
}

const fn row(name: &'static str, variable: &'static str, family: Option<&'static str>) -> Attribute {
    Attribute { name, variable, family }
}

/// What the vendor's own tools know and we need; the families that we cannot do are here so that they are refused by name
/// and not overlooked. A tenant alone is no way to sign in: machines have `ARM_TENANT_ID` set for other reasons.
const ATTRIBUTES: [Attribute; 15] = [
    row("host", "DATABRICKS_HOST", None),
    row("workspace_id", "DATABRICKS_WORKSPACE_ID", None),
    row("auth_type", "DATABRICKS_AUTH_TYPE", None),
    row("token", "DATABRICKS_TOKEN", Some("pat")),
    row("client_id", "DATABRICKS_CLIENT_ID", Some("oauth-m2m")),
    row("client_secret", "DATABRICKS_CLIENT_SECRET", Some("oauth-m2m")),
    row("azure_client_id", "ARM_CLIENT_ID", Some("azure-client-secret")),
    row("azure_client_secret", "ARM_CLIENT_SECRET", Some("azure-client-secret")),
    row("azure_tenant_id", "ARM_TENANT_ID", None),
    row("azure_workspace_resource_id", "DATABRICKS_AZURE_RESOURCE_ID", None),
    row("azure_login_host", "", None),
    row("username", "DATABRICKS_USERNAME", Some("basic")),
    row("password", "DATABRICKS_PASSWORD", Some("basic")),
    row("google_service_account", "DATABRICKS_GOOGLE_SERVICE_ACCOUNT", Some("google")),
    row("google_credentials", "GOOGLE_CREDENTIALS", Some("google")),
];

/// The ways to sign in that are built.
const BUILT: [&str; 3] = ["pat", "oauth-m2m", "azure-client-secret"];

/// Attributes by the name they have in profiles.
#[derive(Debug, Default)]
pub(super) struct Attributes(BTreeMap<&'static str, SecretSource>);

impl Attributes {
    /// What the configuration says of one workspace.
    pub(super) fn of_config(config: &DatabricksConfig) -> Self {
        let mut found = BTreeMap::new();
        let mut plain = |name, value: &Option<String>| {
            found.extend(value.as_ref().map(|value| (name, SecretSource::Value(Secret::new(value)))));
        };
        plain("host", &config.host);
        plain("workspace_id", &config.workspace_id);
        plain("azure_workspace_resource_id", &config.azure_workspace_resource_id);
        plain("azure_login_host", &config.azure_login_host);
        let mut secret = |name, value: &Option<SecretRef>| {
            found.extend(value.clone().map(|reference| (name, SecretSource::Reference(reference))));
        };
        secret("token", &config.token);
        secret("client_id", &config.client_id);
        secret("client_secret", &config.client_secret);
        secret("azure_tenant_id", &config.azure_tenant_id);
        secret("azure_client_id", &config.azure_client_id);
        secret("azure_client_secret", &config.azure_client_secret);
        Self(found)
    }

    /// What the environment variables say; `variable` reads one. Empty ones count as not set.
    pub(super) fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = ATTRIBUTES.iter().filter(|row| !row.variable.is_empty()).filter_map(|row| {
            let secret = Secret::new(variable(row.variable)?);
            (!secret.is_empty()).then_some((row.name, SecretSource::Value(secret)))
        });
        Self(set.collect())
    }

    /// What a profile says. Keys that we have no use for are other tools' matter.
    pub(super) fn of_profile(profile: &Profile) -> Self {
        let known = ATTRIBUTES.iter().filter_map(|row| {
            let value = profile.get(row.name)?;
            Some((row.name, SecretSource::Value(value.clone())))
        });
        Self(known.collect())
    }

    /// These attributes, and `others` for those that are missing here.
    pub(super) fn over(mut self, others: Self) -> Self {
        for (name, value) in others.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }

    /// Whether a host or any way to sign in is among them.
    pub(super) fn names_anything(&self) -> bool {
        self.0.contains_key("host") || !self.families().is_empty()
    }

    /// The workspace's address.
    ///
    /// # Errors
    /// `Config` when there is none, or it is none.
    pub(super) fn host(&self) -> Result<Host> {
        match self.plain("host")? {
            Some(typed) => host::host(&typed),
            None => Err(fault("config.no-host", "no host is given")
                .hint("set host in the configuration or profile, or DATABRICKS_HOST")),
        }
    }

    /// The workspace id.
    pub(super) fn workspace_id(&self) -> Result<Option<String>> {
        self.plain("workspace_id")
    }

    /// Who asks. Reads every secret once, so that one that is missing is told now.
    ///
    /// # Errors
    /// `Config` when there is no way to sign in, more than one, a part of one, or one that is not built.
    pub(super) fn credentials(&self) -> Result<Credentials> {
        let credentials = match self.way()?.as_str() {
            "pat" => Credentials::Token(self.need("token")?),
            "oauth-m2m" => Credentials::Machine {
                client_id: self.need("client_id")?,
                client_secret: self.need("client_secret")?,
            },
            _ => Credentials::Azure {
                tenant: self.0.get("azure_tenant_id").cloned(),
                client_id: self.need("azure_client_id")?,
                client_secret: self.need("azure_client_secret")?,
                resource_id: self.plain("azure_workspace_resource_id")?,
                login_host: match self.plain("azure_login_host")? {
                    Some(typed) => Some(host::host(&typed)?.url),
                    None => None,
                },
            },
        };
        if let Credentials::Azure { tenant: Some(tenant), .. } = &credentials {
            tenant.resolve()?;
        }
        Ok(credentials)
    }

    /// The one way to sign in.
    fn way(&self) -> Result<String> {
        let families = self.families();
        let way = match (self.plain("auth_type")?, families.as_slice()) {
            (Some(named), _) => named,
            (None, [one]) => (*one).to_owned(),
            (None, []) => {
                return Err(fault("config.no-credentials", "no credentials are given")
                    .hint("give token, or client_id and client_secret, or the azure_client_* pair"));
            }
            (None, several) => {
                let detail = format!("more than one way to sign in is given: {}", several.join(" and "));
                return Err(fault("config.two-credentials", &detail)
                    .hint("leave all but one out, or name it with auth_type in the profile"));
            }
        };
        if BUILT.contains(&way.as_str()) {
            return Ok(way);
        }
        let detail = format!("{way:?} is a way to sign in that lakehold does not have");
        Err(fault("config.auth-type", &detail).hint(format!("use one of: {}", BUILT.join(", "))))
    }

    fn families(&self) -> Vec<&'static str> {
        let mut families: Vec<_> = ATTRIBUTES
            .iter()
            .filter(|row| self.0.contains_key(row.name))
            .filter_map(|row| row.family)
            .collect();
        families.dedup();
        families
    }

    fn need(&self, name: &'static str) -> Result<SecretSource> {
        let source =
            self.0.get(name).ok_or_else(|| fault("config.no-credentials", &format!("{name} is missing")))?;
        source.resolve()?;
        Ok(source.clone())
    }

    fn plain(&self, name: &str) -> Result<Option<String>> {
        self.0.get(name).map(|source| Ok(source.resolve()?.reveal().to_owned())).transpose()
    }
}

fn fault(code: &'static str, detail: &str) -> Fault {
    Fault::new(Class::Config, code, "read how to reach the workspace", detail)
}
