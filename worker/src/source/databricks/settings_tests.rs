//! Which host and which credentials come of what was typed, set and written down.

use std::path::Path;

use super::*;

const FILE: &str = "[DEFAULT]\nhost = https://default.cloud.databricks.com\ntoken = from-default\n\
    [prod]\nhost = https://prod.cloud.databricks.com/?o=42\nclient_id = id\nclient_secret = from-prod\n\
    [both]\nhost = https://both.cloud.databricks.com\ntoken = t\nazure_client_id = a\nazure_client_secret = s\n\
    [chosen]\nhost = https://both.cloud.databricks.com\ntoken = t\nclient_id = a\nclient_secret = s\nauth_type = pat\n\
    [cli]\nhost = https://cli.cloud.databricks.com\nauth_type = databricks-cli\n";

fn from(variables: &[(&str, &str)], named: Option<&str>) -> Result<Option<Settings>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cfg");
    std::fs::write(&file, FILE).unwrap();
    from_file(&file, variables, named)
}

fn from_file(file: &Path, variables: &[(&str, &str)], named: Option<&str>) -> Result<Option<Settings>> {
    let read = |name: &str| {
        if name == "DATABRICKS_CONFIG_FILE" {
            return Some(file.display().to_string());
        }
        variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    };
    Settings::from_variables(read, named, &LimitsConfig::default())
}

fn who(settings: &Settings) -> String {
    match &settings.credentials {
        Credentials::Token(token) => format!("token {}", token.resolve().unwrap().reveal()),
        Credentials::Machine { client_secret, .. } => {
            format!("machine {}", client_secret.resolve().unwrap().reveal())
        }
        Credentials::Azure { client_secret, .. } => {
            format!("azure {}", client_secret.resolve().unwrap().reveal())
        }
    }
}

#[test]
fn variables_go_before_the_profile_and_the_profile_before_the_default() {
    const HOST: (&str, &str) = ("DATABRICKS_HOST", "https://env.cloud.databricks.com");
    const TOKEN: (&str, &str) = ("DATABRICKS_TOKEN", "from-env");
    const PROFILE: (&str, &str) = ("DATABRICKS_CONFIG_PROFILE", "prod");
    for (variables, named, host, asks) in [
        (&[][..], None, "default", "token from-default"),
        (&[], Some("prod"), "prod", "machine from-prod"),
        (&[PROFILE], None, "prod", "machine from-prod"),
        (&[PROFILE], Some("DEFAULT"), "default", "token from-default"),
        (&[HOST, TOKEN], None, "env", "token from-env"),
        (&[HOST], Some("prod"), "env", "machine from-prod"),
        (&[], Some("chosen"), "both", "token t"),
    ] {
        let settings = from(variables, named).unwrap().unwrap();
        assert_eq!(
            settings.host.as_str(),
            format!("https://{host}.cloud.databricks.com/"),
            "{variables:?} {named:?}"
        );
        assert_eq!(who(&settings), asks, "{variables:?} {named:?}");
    }
    assert_eq!(from(&[], Some("prod")).unwrap().unwrap().workspace_id.as_deref(), Some("42"));
}

#[test]
fn the_file_is_not_looked_at_when_variables_name_a_host() {
    let refused = from(&[("DATABRICKS_HOST", "https://env.cloud.databricks.com")], None).unwrap_err();
    assert_eq!(refused.code, "config.no-credentials");
}

#[test]
fn nothing_anywhere_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("cfg");
    std::fs::write(&empty, "").unwrap();
    assert!(from_file(&empty, &[], None).unwrap().is_none());
}

#[test]
fn two_ways_to_sign_in_are_an_error_that_names_both() {
    let refused = from(&[], Some("both")).unwrap_err();
    assert_eq!((refused.exit_code(), refused.code), (2, "config.two-credentials"));
    assert!(refused.detail.contains("pat and azure-client-secret"), "{refused}");
    let refused = from(&[("DATABRICKS_TOKEN", "x")], Some("prod")).unwrap_err();
    assert!(refused.detail.contains("pat and oauth-m2m"), "{refused}");
}

#[test]
fn ways_that_are_not_built_and_halves_are_named() {
    let refused = from(&[], Some("cli")).unwrap_err();
    assert!(refused.detail.contains("databricks-cli") && refused.hint.unwrap().contains("oauth-m2m"));
    let half = [("DATABRICKS_HOST", "https://env.cloud.databricks.com"), ("DATABRICKS_CLIENT_ID", "id")];
    assert!(from(&half, None).unwrap_err().detail.contains("client_secret"));
    let basic = [("DATABRICKS_HOST", "https://env.cloud.databricks.com"), ("DATABRICKS_USERNAME", "me")];
    assert!(from(&basic, None).unwrap_err().detail.contains("basic"));
}

#[test]
fn a_configuration_is_read_strictly_and_keeps_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    let config = DatabricksConfig {
        host: Some("x.cloud.databricks.com/?o=7".into()),
        token: Some(SecretRef::File(token.clone())),
        ..DatabricksConfig::default()
    };
    let limits = LimitsConfig::default();
    assert_eq!(Settings::from_config(&config, &limits).unwrap_err().code, "config.secret-absent");
    std::fs::write(&token, "dapi-one\n").unwrap();
    let settings = Settings::from_config(&config, &limits).unwrap();
    assert_eq!((who(&settings).as_str(), settings.workspace_id.as_deref()), ("token dapi-one", Some("7")));
    std::fs::write(&token, "dapi-two\n").unwrap();
    assert_eq!(who(&settings), "token dapi-two", "a rotated secret is picked up");
    assert!(!format!("{settings:?}").contains("dapi"));

    let other = DatabricksConfig { workspace_id: Some("8".into()), ..config.clone() };
    assert_eq!(Settings::from_config(&other, &limits).unwrap_err().code, "config.wrong-workspace");
    let none = DatabricksConfig { token: None, ..config.clone() };
    assert_eq!(Settings::from_config(&none, &limits).unwrap_err().code, "config.no-credentials");
    let greedy = LimitsConfig { share: 1.5, ..limits };
    assert_eq!(Settings::from_config(&config, &greedy).unwrap_err().code, "config.share");
    let raised = LimitsConfig { share: 0.5, factor: 4.0, ..limits };
    assert!((Settings::from_config(&config, &raised).unwrap().share - 2.0).abs() < f64::EPSILON);
    let lowered = LimitsConfig { factor: 0.5, ..limits };
    assert_eq!(Settings::from_config(&config, &lowered).unwrap_err().code, "config.factor");
}

#[test]
fn a_configuration_may_name_a_profile() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cfg");
    std::fs::write(&file, FILE).unwrap();
    let config = DatabricksConfig {
        profile: Some("prod".into()),
        config_file: Some(file),
        ..DatabricksConfig::default()
    };
    let settings = Settings::from_config(&config, &LimitsConfig::default()).unwrap();
    assert_eq!(who(&settings), "machine from-prod");
}
