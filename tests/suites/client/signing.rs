//! Signing in: every way, and what happens when it ends in mid-run.

use lakehold_proto::config::{DatabricksConfig, LimitsConfig, SecretRef};
use lakehold_proto::fault::Class;
use lakehold_sim::{Cloud, IdentitySpec, Sim, SimConfig};
use lakehold_worker::source::databricks::{Credentials, SecretSource, Settings, probe};
use serde_json::json;

use super::{Scene, calls, client, meter, pools, secret, settings};

fn machine(key: &str) -> Credentials {
    Credentials::Machine { client_id: secret("sim"), client_secret: secret(key) }
}

/// Somebody whose tokens live for a second.
fn brief(scene: &Scene) -> Settings {
    let short = IdentitySpec {
        secret: Some("brief".into()),
        lifetime_s: 1,
        ..IdentitySpec::admin("brief", lakehold_sim::CLIENT)
    };
    scene.sim.identity(&short);
    let credentials = Credentials::Machine { client_id: secret("brief"), client_secret: secret("brief") };
    Settings { credentials, ..settings(&scene.sim.url(0)) }
}

fn tokens_issued(sim: &Sim) -> u64 {
    sim.calls().count(|call| call.path.ends_with("/token") && call.status == 200)
}

#[tokio::test]
async fn a_token_lets_in() {
    let scene = Scene::new().await;
    let probe = probe(&scene.client, &scene.meter).await.unwrap();
    assert_eq!((probe.identity.name.as_str(), probe.identity.admin), (lakehold_sim::OPERATOR, Some(true)));
}

#[tokio::test]
async fn a_service_principal_signs_in_once_for_many_calls() {
    let scene = Scene::new().await;
    let mut settings = settings(&scene.sim.url(0));
    settings.credentials = machine("sim");
    let client = client(settings);
    let who = probe(&client, &scene.meter).await.unwrap().identity;
    assert_eq!(who.name, lakehold_sim::CLIENT);
    let pools = pools();
    let many = (0..20).map(|_| client.json(&pools, &scene.meter));
    for answer in futures::future::join_all(many).await {
        answer.unwrap();
    }
    assert_eq!(tokens_issued(&scene.sim), 1);
}

#[tokio::test]
async fn an_azure_principal_finds_its_tenant() {
    let sim = Sim::start(SimConfig { cloud: Cloud::Azure, ..SimConfig::default() }).await.unwrap();
    for (resource_id, tokens) in [(None, 1), (Some("/subscriptions/x/workspaces/y".to_owned()), 2)] {
        sim.reset_calls();
        let mut settings = settings(&sim.url(0));
        settings.credentials = Credentials::Azure {
            tenant: None,
            client_id: secret("sim"),
            client_secret: secret("sim"),
            resource_id,
            login_host: Some(sim.url(0).parse().unwrap()),
        };
        client(settings).json(&pools(), &meter()).await.unwrap();
        assert_eq!(tokens_issued(&sim), tokens);
        assert_eq!(sim.calls().count(|call| call.path == "/aad/auth"), 1);
    }
}

#[tokio::test]
async fn a_token_that_expires_in_mid_run_is_renewed_once_for_all() {
    let scene = Scene::new().await;
    let mut settings = settings(&scene.sim.url(0));
    settings.credentials = machine("sim");
    let client = client(settings);
    client.json(&pools(), &scene.meter).await.unwrap();
    // The workspace's clock leaps ahead, so the client is not warned.
    scene.sim.clock().advance(2 * 3_600_000);
    let pools = pools();
    let many = (0..10).map(|_| client.json(&pools, &scene.meter));
    for answer in futures::future::join_all(many).await {
        answer.unwrap();
    }
    assert_eq!(tokens_issued(&scene.sim), 2);
}

#[tokio::test]
async fn tokens_that_live_shortly_are_renewed_before_they_end() {
    let scene = Scene::new().await;
    let client = client(brief(&scene));
    let meter = meter();
    while tokens_issued(&scene.sim) < 3 {
        client.json(&pools(), &meter).await.unwrap();
    }
    assert_eq!(calls(&meter).retried, 0, "no call was refused");
}

#[tokio::test]
async fn calls_that_waited_for_their_turn_bring_a_token_that_is_good_then() {
    let scene = Scene::new().await;
    let (client, pools) = (client(Settings { share: 0.02, ..brief(&scene) }), pools());
    let many = (0..12).map(|_| client.json(&pools, &scene.meter));
    for answer in futures::future::join_all(many).await {
        answer.unwrap();
    }
    let calls = calls(&scene.meter);
    assert!(tokens_issued(&scene.sim) > 1, "the last call waited for longer than a token lives: {calls:?}");
    assert_eq!(calls.retried, 0, "no call was refused");
}

#[tokio::test]
async fn a_second_refused_token_is_renewed_as_well() {
    let scene = Scene::new().await;
    let mut settings = settings(&scene.sim.url(0));
    settings.credentials = machine("sim");
    scene.fault(
        json!({"path": super::answers::POOLS, "times": 2, "effect": {"type": "error", "status": 401}}),
    );
    client(settings).json(&pools(), &scene.meter).await.unwrap();
    assert_eq!(tokens_issued(&scene.sim), 3);
}

#[tokio::test]
async fn a_right_revoked_in_mid_run_is_told_at_once() {
    let scene = Scene::new().await;
    scene.sim.identity(&IdentitySpec::admin("passing", "passing@example.com"));
    let mut settings = settings(&scene.sim.url(0));
    settings.credentials = Credentials::Token(secret("passing"));
    let client = client(settings);
    client.json(&pools(), &scene.meter).await.unwrap();
    let expired =
        IdentitySpec { expires_at_ms: Some(0), ..IdentitySpec::admin("passing", "passing@example.com") };
    scene.sim.identity(&expired);
    let fault = client.json(&pools(), &scene.meter).await.unwrap_err();
    assert_eq!((fault.class, fault.code, fault.exit_code()), (Class::Denied, "http.unauthenticated", 7));
    assert!(fault.hint.is_some());
    assert_eq!(calls(&scene.meter).made, 2, "a fixed token is not tried twice");
}

#[tokio::test]
async fn a_wrong_secret_is_denied_and_not_repeated() {
    let scene = Scene::new().await;
    let mut settings = settings(&scene.sim.url(0));
    settings.credentials = machine("hunter2-hunter2");
    let fault = client(settings).json(&pools(), &scene.meter).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Denied, "http.unauthenticated"));
    assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
    assert_eq!(calls(&scene.meter).made, 0);
}

#[tokio::test]
async fn a_token_file_that_was_replaced_is_read_again() {
    let scene = Scene::new().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first").unwrap();
    scene.sim.identity(&IdentitySpec::admin("first", "rotating@example.com"));
    let mut settings = settings(&scene.sim.url(0));
    settings.credentials = Credentials::Token(SecretSource::Reference(SecretRef::File(file.clone())));
    let client = client(settings);
    client.json(&pools(), &scene.meter).await.unwrap();
    std::fs::write(&file, "second").unwrap();
    scene.sim.identity(&IdentitySpec::admin("second", "rotating@example.com"));
    let expired =
        IdentitySpec { expires_at_ms: Some(0), ..IdentitySpec::admin("first", "rotating@example.com") };
    scene.sim.identity(&expired);
    client.json(&pools(), &scene.meter).await.unwrap();
    assert_eq!(calls(&scene.meter).retried, 1);
}

#[tokio::test]
async fn a_profile_signs_in() {
    let scene = Scene::new().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cfg");
    let url = scene.sim.url(0);
    let text = format!(
        "[DEFAULT]\nhost = {url}\ntoken = wrong\n[m2m]\nhost = {url}/\nclient_id = sim\nclient_secret = sim\n"
    );
    std::fs::write(&file, text).unwrap();
    let by = |name: &str| {
        let (profile, config_file) = (Some(name.to_owned()), Some(file.clone()));
        let config = DatabricksConfig { profile, config_file, ..DatabricksConfig::default() };
        client(Settings::from_config(&config, &LimitsConfig::default()).unwrap())
    };
    assert_eq!(probe(&by("m2m"), &scene.meter).await.unwrap().identity.name, lakehold_sim::CLIENT);
    let fault = probe(&by("DEFAULT"), &scene.meter).await.unwrap_err();
    assert_eq!((fault.class, fault.exit_code()), (Class::Denied, 7));
}
