//! The probe: who, which workspace, which metastore, and how it fails.

use lakehold_proto::fault::Class;
use lakehold_sim::IdentitySpec;
use lakehold_worker::source::databricks::{
    Credentials, FACT_CLOUD, FACT_METASTORE_ID, FACT_METASTORE_NAME, FACT_METASTORE_UNKNOWN,
    FACT_WORKSPACE_ID, probe,
};
use tokio::net::TcpListener;

use super::scripted::{Scripted, answer, json};
use super::{Scene, calls, client, meter, secret, settings};

const ME: &str = r#"{"id":"7","userName":"me@example.com","groups":[{"display":"admins"}]}"#;

fn me() -> String {
    answer("200 OK", "X-Databricks-Org-Id: 42\r\nContent-Type: application/json\r\n", ME)
}

fn refusal(status: &str, code: &str) -> String {
    answer(status, "", &format!(r#"{{"error_code":"{code}","message":"told by a test"}}"#))
}

#[tokio::test]
async fn it_tells_who_we_are_and_where() {
    let summary = r#"{"metastore_id":"m-1","name":"main-store","owner":"me@example.com"}"#;
    let server = Scripted::start(vec![me(), json(r#"{"cloud":"AWS"}"#), json(summary)]).await;
    let found = probe(&client(settings(&server.url)), &meter()).await.unwrap();
    assert_eq!((found.identity.id.as_str(), found.identity.admin), ("7", Some(true)));
    for (fact, value) in [
        (FACT_WORKSPACE_ID, "42"),
        (FACT_CLOUD, "aws"),
        (FACT_METASTORE_ID, "m-1"),
        (FACT_METASTORE_NAME, "main-store"),
    ] {
        assert_eq!(found.facts[fact], value);
    }
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
}

#[tokio::test]
async fn it_works_against_a_simulated_workspace() {
    let scene = Scene::new().await;
    let found = probe(&scene.client, &scene.meter).await.unwrap();
    assert_eq!(found.facts[FACT_CLOUD], "aws");
    assert!(found.facts[FACT_WORKSPACE_ID].parse::<u64>().is_ok());
    assert!(calls(&scene.meter).made <= 4);
}

#[tokio::test]
async fn one_that_is_no_admin_is_warned_of() {
    let scene = Scene::new().await;
    scene
        .sim
        .identity(&IdentitySpec { admin: false, ..IdentitySpec::admin("someone", "someone@example.com") });
    let mut settings = settings(&scene.sim.url(0));
    settings.credentials = Credentials::Token(secret("someone"));
    let found = probe(&client(settings), &scene.meter).await.unwrap();
    assert_eq!(found.identity.admin, Some(false));
    assert!(
        found.warnings.iter().any(|warning| warning.contains("not a workspace admin")),
        "{:?}",
        found.warnings
    );
}

#[tokio::test]
async fn no_metastore_is_no_fact_and_a_hidden_one_is_said() {
    let known = json(r#"{"cloud":"AWS"}"#);
    let none = vec![me(), known.clone(), refusal("404 Not Found", "METASTORE_DOES_NOT_EXIST")];
    let server = Scripted::start(none).await;
    let found = probe(&client(settings(&server.url)), &meter()).await.unwrap();
    assert!(
        !found.facts.contains_key(FACT_METASTORE_ID) && !found.facts.contains_key(FACT_METASTORE_UNKNOWN)
    );

    let denied = refusal("403 Forbidden", "PERMISSION_DENIED");
    let server =
        Scripted::start(vec![me(), known.clone(), denied.clone(), json(r#"{"metastore_id":"m-2"}"#)]).await;
    let found = probe(&client(settings(&server.url)), &meter()).await.unwrap();
    assert_eq!(found.facts[FACT_METASTORE_ID], "m-2");
    assert!(found.warnings.iter().any(|warning| warning.contains("Unity Catalog")), "{:?}", found.warnings);

    let server = Scripted::start(vec![me(), known, denied]).await;
    let found = probe(&client(settings(&server.url)), &meter()).await.unwrap();
    assert!(found.facts.contains_key(FACT_METASTORE_UNKNOWN) && !found.facts.contains_key(FACT_METASTORE_ID));
}

#[tokio::test]
async fn another_workspace_than_configured_is_refused_by_both_names() {
    let server = Scripted::start(vec![me()]).await;
    let mut settings = settings(&server.url);
    settings.workspace_id = Some("41".into());
    let fault = probe(&client(settings), &meter()).await.unwrap_err();
    assert_eq!((fault.code, fault.exit_code()), ("config.wrong-workspace", 2));
    assert!(fault.detail.contains("41") && fault.detail.contains("42"), "{fault}");
    assert!(server.asked()[0].to_ascii_lowercase().contains("x-databricks-workspace-id: 41"));
}

#[tokio::test]
async fn what_is_no_workspace_is_told_at_once() {
    for body in [
        answer("404 Not Found", "Content-Type: text/html\r\n", "<title>nginx</title>"),
        json(r#"{"hello":1}"#),
    ] {
        let server = Scripted::start(vec![body]).await;
        let fault = probe(&client(settings(&server.url)), &meter()).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Config, "config.no-workspace"));
    }
}

#[tokio::test]
async fn a_server_that_lacks_a_call_can_still_be_read() {
    let body = r#"{"error_code":"ENDPOINT_NOT_FOUND","message":"no such API"}"#;
    let absent = answer("404 Not Found", "Content-Type: application/json\r\n", body);
    let server = Scripted::start(vec![absent; 4]).await;
    let found = probe(&client(settings(&server.url)), &meter()).await.unwrap();
    assert_eq!((found.identity.admin, found.facts.contains_key(FACT_METASTORE_UNKNOWN)), (None, true));
    assert!(
        found.warnings.iter().any(|warning| warning.contains("who asks is not known")),
        "{:?}",
        found.warnings
    );
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_given_up_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for url in [&silent, &refusing] {
        let clock = super::fast();
        let began = clock.tick();
        let client = super::client_by(settings(url), std::sync::Arc::clone(&clock));
        let fault = probe(&client, &meter()).await.unwrap_err();
        let took = clock.tick().since(began).as_secs();
        assert_eq!((fault.class, fault.code), (Class::Unavailable, "http.unreachable"), "{url}");
        assert!(fault.hint.is_some() && took <= 12, "{url} took {took} s");
    }
}
