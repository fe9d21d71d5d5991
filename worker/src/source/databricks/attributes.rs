//! From what was typed to who asks: attributes from the configuration and a profile, laid over each other, and the one
//! way to sign in that they describe.

use std::collections::BTreeMap;

use lakehold_proto::config::{DatabricksConfig, SecretRef};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::secret::Secret;

use super::host::{self, Host};
use super::profile::Profile;
use super::settings::{Credentials, SecretSource};

/// One attribute: its name in profiles, and the way to sign in that it belongs to.
struct Attribute {
    name: &'static str,
    family: Option<&'static str>,
}

const fn row(name: &'static str, family: Option<&'static str>) -> Attribute {
    Attribute { name, family }
}

/// What the vendor's own tools know and we need; the families that we cannot do are here so that they are refused by name
/// and not overlooked. A tenant alone is no way to sign in: machines have `ARM_TENANT_ID` set for other reasons.
const ATTRIBUTES: [Attribute; 15] = [
    row("host", None),
    row("workspace_id", None),
    row("auth_type", None),
    row("token", Some("pat")),
    row("client_id", Some("oauth-m2m")),
    row("client_secret", Some("oauth-m2m")),
    row("azure_client_id", Some("azure-client-secret")),
    row("azure_client_secret", Some("azure-client-secret")),
    row("azure_tenant_id", None),
    row("azure_workspace_resource_id", None),
    row("azure_login_host", None),
    row("username", Some("basic")),
    row("password", Some("basic")),
    row("google_service_account", Some("google")),
    row("google_credentials", Some("google")),
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
        plain("auth_type", &config.auth_type);
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
                    .hint("leave all but one out, or name it with auth_type"));
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
