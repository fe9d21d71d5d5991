//! The configuration that a command without a configuration file has: what the Databricks tools would use here.

use std::path::PathBuf;

use lakehold_proto::config::{DatabricksConfig, LimitsConfig, SecretRef};
use lakehold_proto::fault::Result;

use super::profile::profile;
use super::settings::Settings;

/// The workspace that the `DATABRICKS_*` variables and the profile file name, as a configuration: the same that
/// [`Settings::from_environment`] finds, as references instead of secrets, so that it can stand in a configuration like any
/// other. `named` is `--profile`.
///
/// `Ok(None)` when nothing names a workspace.
///
/// # Errors
/// Those of [`Settings::from_environment`]: what it answers can be used.
pub fn ambient(named: Option<&str>) -> Result<Option<DatabricksConfig>> {
    by_variables(|name| std::env::var(name).ok(), named)
}

fn by_variables(
    variable: impl Fn(&str) -> Option<String>,
    named: Option<&str>,
) -> Result<Option<DatabricksConfig>> {
    if Settings::from_variables(&variable, named, &LimitsConfig::default())?.is_none() {
        return Ok(None);
    }
    let set =
        |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let only = set("DATABRICKS_AUTH_TYPE");
    let secret = |way: &str, name: &str| {
        let wanted = only.as_deref().is_none_or(|only| only == way);
        (wanted && set(name).is_some()).then(|| SecretRef::Env(name.to_owned()))
    };
    let mut config = DatabricksConfig {
        host: set("DATABRICKS_HOST"),
        token: secret("pat", "DATABRICKS_TOKEN"),
        client_id: secret("oauth-m2m", "DATABRICKS_CLIENT_ID"),
        client_secret: secret("oauth-m2m", "DATABRICKS_CLIENT_SECRET"),
        azure_tenant_id: secret("azure-client-secret", "ARM_TENANT_ID"),
        azure_client_id: secret("azure-client-secret", "ARM_CLIENT_ID"),
        azure_client_secret: secret("azure-client-secret", "ARM_CLIENT_SECRET"),
        azure_workspace_resource_id: set("DATABRICKS_AZURE_RESOURCE_ID"),
        workspace_id: set("DATABRICKS_WORKSPACE_ID"),
        config_file: set("DATABRICKS_CONFIG_FILE").map(PathBuf::from),
        ..DatabricksConfig::default()
    };
    let named = named.map(str::to_owned).or_else(|| set("DATABRICKS_CONFIG_PROFILE"));
    let keyed = config.token.is_some() || config.client_id.is_some() || config.azure_client_id.is_some();
    if named.is_some() || (config.host.is_none() && !keyed) {
        config.profile = profile(config.config_file.as_deref(), named.as_deref())?.map(|(name, _)| name);
    }
    Ok(Some(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[DEFAULT]\nhost = https://d.cloud.databricks.com\ntoken = t\n\
        [prod]\nhost = https://p.cloud.databricks.com\nclient_id = i\nclient_secret = s\n";

    fn found(variables: &[(&str, &str)], named: Option<&str>) -> DatabricksConfig {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cfg");
        std::fs::write(&file, FILE).unwrap();
        let read = |name: &str| match name {
            "DATABRICKS_CONFIG_FILE" => Some(file.display().to_string()),
            _ => variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
        };
        let config = by_variables(read, named).unwrap().unwrap();
        if config.profile.is_some() {
            // What it answers can be used, without any variable.
            Settings::from_config(&config, &LimitsConfig::default()).unwrap();
        }
        config
    }

    #[test]
    fn variables_become_references() {
        let host = ("DATABRICKS_HOST", "https://e.cloud.databricks.com");
        let config = found(&[host, ("DATABRICKS_TOKEN", "hunter2")], None);
        assert_eq!(config.host.as_deref(), Some("https://e.cloud.databricks.com"));
        assert_eq!(config.token, Some(SecretRef::Env("DATABRICKS_TOKEN".into())));
        assert_eq!(config.profile, None);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn profiles_are_named() {
        assert_eq!(found(&[], None).profile.as_deref(), Some("DEFAULT"));
        assert_eq!(found(&[], Some("prod")).profile.as_deref(), Some("prod"));
        assert_eq!(found(&[("DATABRICKS_CONFIG_PROFILE", "prod")], None).profile.as_deref(), Some("prod"));
    }

    #[test]
    fn nothing_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cfg");
        std::fs::write(&file, "").unwrap();
        let read = |name: &str| (name == "DATABRICKS_CONFIG_FILE").then(|| file.display().to_string());
        assert!(by_variables(read, None).unwrap().is_none());
    }
}
