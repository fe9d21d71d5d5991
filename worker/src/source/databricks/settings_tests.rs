//! Which host and which credentials come of what was typed, set and written down.

use super::*;

const FILE: &str = "[DEFAULT]\nhost = https://default.cloud.databricks.com\ntoken = from-default\n\
    [prod]\nhost = https://prod.cloud.databricks.com/?o=42\nclient_id = id\nclient_secret = from-prod\n\
    [both]\nhost = https://both.cloud.databricks.com\ntoken = t\nazure_client_id = a\nazure_client_secret = s\n\
    [chosen]\nhost = https://both.cloud.databricks.com\ntoken = t\nclient_id = a\nclient_secret = s\nauth_type = pat\n\
    [cli]\nhost = https://cli.cloud.databricks.com\nauth_type = databricks-cli\n\
    [half]\nhost = https://half.cloud.databricks.com\nclient_id = id\n\
    [basic]\nhost = https://basic.cloud.databricks.com\nusername = me\n\
    [nobody]\nhost = https://nobody.cloud.databricks.com\n[nowhere]\ntoken = t\n";

/// What a profile of the file comes to.
fn from(name: &str) -> Result<Settings> {
    with(DatabricksConfig { profile: Some(name.into()), ..DatabricksConfig::default() })
}

/// What a configuration that may name a profile of the file comes to.
fn with(config: DatabricksConfig) -> Result<Settings> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cfg");
    std::fs::write(&file, FILE).unwrap();
    Settings::from_config(&DatabricksConfig { config_file: Some(file), ..config }, &LimitsConfig::default())
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
fn a_profile_says_where_and_who_and_the_configuration_goes_before_it() {
    for (name, host, asks) in [
        ("DEFAULT", "default", "token from-default"),
        ("prod", "prod", "machine from-prod"),
        ("chosen", "both", "token t"),
    ] {
        let settings = from(name).unwrap();
        assert_eq!(settings.host.as_str(), format!("https://{host}.cloud.databricks.com/"), "{name}");
        assert_eq!(who(&settings), asks, "{name}");
    }
    assert_eq!(from("prod").unwrap().workspace_id.as_deref(), Some("42"));
    assert_eq!(from("prd").unwrap_err().code, "config.profile-absent");
    let moved = with(DatabricksConfig {
        profile: Some("prod".into()),
        host: Some("https://other.cloud.databricks.com".into()),
        ..DatabricksConfig::default()
    });
    let moved = moved.unwrap();
    assert_eq!(
        (moved.host.as_str(), who(&moved).as_str()),
        ("https://other.cloud.databricks.com/", "machine from-prod")
    );
}

#[test]
fn two_ways_to_sign_in_are_an_error_that_names_both_or_a_choice() {
    let both = |auth_type: Option<&str>| DatabricksConfig {
        profile: Some("both".into()),
        auth_type: auth_type.map(str::to_owned),
        ..DatabricksConfig::default()
    };
    let refused = with(both(None)).unwrap_err();
    assert_eq!((refused.exit_code(), refused.code), (2, "config.two-credentials"));
    assert!(refused.detail.contains("pat and azure-client-secret"), "{refused}");
    assert!(refused.hint.unwrap().contains("auth_type"));
    assert_eq!(who(&with(both(Some("pat"))).unwrap()), "token t");
    assert_eq!(who(&with(both(Some("azure-client-secret"))).unwrap()), "azure s");
    assert!(with(both(Some("oauth-m2m"))).unwrap_err().detail.contains("client_id"));
}

#[test]
fn ways_that_are_not_built_and_halves_are_named() {
    let refused = from("cli").unwrap_err();
    assert!(refused.detail.contains("databricks-cli") && refused.hint.unwrap().contains("oauth-m2m"));
    assert!(from("half").unwrap_err().detail.contains("client_secret"));
    assert!(from("basic").unwrap_err().detail.contains("basic"));
    assert_eq!(from("nobody").unwrap_err().code, "config.no-credentials");
    assert_eq!(from("nowhere").unwrap_err().code, "config.no-host");
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
