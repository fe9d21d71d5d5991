//! Without a configuration file: one environment from what the Databricks tools already know.

use super::{Config, DatabricksConfig, EnvironmentConfig, SecretRef, Surroundings};
use crate::fault::Result;
use crate::ids::EnvName;

/// The configuration that is implied by `--profile`, or by `DATABRICKS_HOST` and the credentials beside it; `None` when
/// neither is there. The environment is named after the profile, or after the first label of the host. Secrets are
/// references to their variables. `DATABRICKS_AUTH_TYPE` chooses among several ways to sign in, as it does in the vendor's
/// own tools; without it the simplest is taken.
pub fn implied(profile: Option<&str>, around: &Surroundings) -> Option<Config> {
    let text = |name: &str| around.variable(name).map(str::to_owned);
    let profile = profile.map(str::to_owned).or_else(|| {
        let host = around.variable("DATABRICKS_HOST");
        host.map_or_else(|| text("DATABRICKS_CONFIG_PROFILE"), |_| None)
    });
    let auth_type = text("DATABRICKS_AUTH_TYPE");
    let (name, databricks) = match profile {
        Some(profile) => {
            let name = env_name_from(&profile).ok()?;
            (name, DatabricksConfig { profile: Some(profile), auth_type, ..DatabricksConfig::default() })
        }
        None => {
            let host = text("DATABRICKS_HOST")?;
            let name = env_name_from(first_label(&host)).ok()?;
            let given = DatabricksConfig { host: Some(host), auth_type, ..DatabricksConfig::default() };
            (name, with_credentials(given, around))
        }
    };
    let environment = EnvironmentConfig { databricks: Some(databricks), ..EnvironmentConfig::bare() };
    Some(Config { version: 1, environments: [(name, environment)].into(), ..Config::default() })
}

/// One way to sign in: the one that was chosen, else the simplest that is there.
fn with_credentials(mut given: DatabricksConfig, around: &Surroundings) -> DatabricksConfig {
    let variable = |name: &str| around.variable(name).map(|_| SecretRef::Env(name.to_owned()));
    let text = |name: &str| around.variable(name).map(str::to_owned);
    let chosen = |way: &str, open: bool| given.auth_type.as_deref().map_or(open, |named| named == way);
    let token = variable("DATABRICKS_TOKEN").filter(|_| chosen("pat", true));
    let client_id = variable("DATABRICKS_CLIENT_ID").filter(|_| chosen("oauth-m2m", token.is_none()));
    let azure = chosen("azure-client-secret", token.is_none() && client_id.is_none());
    given.workspace_id = text("DATABRICKS_WORKSPACE_ID");
    if client_id.is_some() {
        given.client_secret = variable("DATABRICKS_CLIENT_SECRET");
    }
    if azure {
        given.azure_tenant_id = variable("ARM_TENANT_ID");
        given.azure_client_id = variable("ARM_CLIENT_ID");
        given.azure_client_secret = variable("ARM_CLIENT_SECRET");
        given.azure_workspace_resource_id = text("DATABRICKS_AZURE_RESOURCE_ID");
    }
    DatabricksConfig { token, client_id, ..given }
}

fn first_label(host: &str) -> &str {
    let host = host.split_once("://").map_or(host, |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or(host);
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(h, _)| h);
    // The first label of an address such as 127.0.0.1 would say nothing.
    if name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        host
    } else {
        name.split('.').next().unwrap_or(name)
    }
}

/// The environment name nearest to some text: lower case, everything else than letters and digits a dash; `workspace`
/// when nothing is left.
///
/// # Errors
/// None in truth: what comes out fits.
pub fn env_name_from(text: &str) -> Result<EnvName> {
    let mut fitted = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => fitted.push(c),
            _ if fitted.is_empty() || fitted.ends_with('-') => {}
            _ => fitted.push('-'),
        }
    }
    fitted.truncate(63);
    let fitted = fitted.trim_end_matches('-');
    if fitted.is_empty() { "workspace" } else { fitted }.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(variables: &[(&str, &str)]) -> Surroundings {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Surroundings { variables, folder: "/".into() }
    }

    fn named(variables: &[(&str, &str)], profile: Option<&str>) -> (String, DatabricksConfig) {
        let config = implied(profile, &around(variables)).unwrap();
        let (name, environment) = config.environments.into_iter().next().unwrap();
        (name.to_string(), environment.databricks.unwrap())
    }

    #[test]
    fn a_host_names_its_environment() {
        for (host, name) in [
            ("https://adb-123.4.azuredatabricks.net", "adb-123"),
            ("https://DBC-a1b2.cloud.databricks.com/?o=1", "dbc-a1b2"),
            ("dbc-x.cloud.databricks.com", "dbc-x"),
            ("http://127.0.0.1:8080", "127-0-0-1-8080"),
            ("http://localhost:8080", "localhost"),
            ("https://___", "workspace"),
        ] {
            let (found, given) = named(&[("DATABRICKS_HOST", host), ("DATABRICKS_TOKEN", "t")], None);
            assert_eq!(found, name);
            assert_eq!(given.token, Some(SecretRef::Env("DATABRICKS_TOKEN".into())));
        }
    }

    #[test]
    fn one_way_to_sign_in_is_chosen() {
        let all = [
            ("DATABRICKS_HOST", "https://x"),
            ("DATABRICKS_TOKEN", "hunter2"),
            ("DATABRICKS_CLIENT_ID", "c"),
            ("DATABRICKS_CLIENT_SECRET", "s"),
            ("ARM_TENANT_ID", "t"),
            ("ARM_CLIENT_ID", "a"),
            ("ARM_CLIENT_SECRET", "b"),
            ("DATABRICKS_WORKSPACE_ID", "42"),
        ];
        let ways = |given: &DatabricksConfig| {
            [&given.token, &given.client_secret, &given.azure_client_secret].map(Option::is_some)
        };
        for (without, expected) in
            [(0, [true, false, false]), (1, [false, true, false]), (3, [false, false, true])]
        {
            let there: Vec<_> = [&all[..1], &all[1 + without..]].concat();
            assert_eq!(ways(&named(&there, None).1), expected, "without the first {without}");
        }
        for (way, expected) in [
            ("pat", [true, false, false]),
            ("oauth-m2m", [false, true, false]),
            ("azure-client-secret", [false, false, true]),
            ("databricks-cli", [false; 3]),
        ] {
            let given = named(&[&all[..], &[("DATABRICKS_AUTH_TYPE", way)]].concat(), None).1;
            assert_eq!((ways(&given), given.auth_type.as_deref()), (expected, Some(way)));
            assert_eq!(given.workspace_id.as_deref(), Some("42"));
            assert!(!format!("{given:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_profile_goes_before_the_host() {
        let (name, given) = named(&[("DATABRICKS_HOST", "https://x")], Some("Prod EU"));
        assert_eq!((name.as_str(), given.profile.as_deref(), given.host), ("prod-eu", Some("Prod EU"), None));
        assert!(implied(None, &around(&[])).is_none());
    }

    #[test]
    fn any_text_gives_a_name() {
        for text in ["", "-", "ÄÖ", &"x".repeat(200), &"a-".repeat(100), "a\nb"] {
            assert!(env_name_from(text).is_ok(), "{text}");
        }
    }
}
