//! What comes back: every refusal, every broken body, and what is tried again.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use lakehold_proto::fault::Class;
use lakehold_worker::source::databricks::Request;
use lakehold_worker::source::databricks::families::{INSTANCE_POOLS, WORKSPACE_EXPORT};
use serde_json::json;

use super::scripted::{Scripted, answer, cut_off, json as json_answer};
use super::{Scene, calls, client, meter, pools, settings};

pub(super) const POOLS: &str = "/api/2.0/instance-pools/*";

fn create_pool() -> Request {
    Request::post(&INSTANCE_POOLS, "/api/2.0/instance-pools/create")
        .json(&json!({"instance_pool_name": "made-by-a-test", "node_type_id": "m5d.large"}))
        .unwrap()
}

fn made(body: &[u8]) -> usize {
    String::from_utf8_lossy(body).matches("made-by-a-test").count()
}

#[tokio::test]
async fn every_shape_of_refusal_is_understood() {
    let cases = [
        ("standard", 403, "PERMISSION_DENIED", Class::Denied, "http.denied"),
        ("standard", 400, "FEATURE_DISABLED", Class::Unsupported, "http.not-enabled"),
        ("standard", 404, "ENDPOINT_NOT_FOUND", Class::Unsupported, "http.unsupported"),
        ("standard", 400, "INVALID_PARAMETER_VALUE", Class::Bug, "http.refused"),
        ("api12", 404, "", Class::Absent, "http.absent"),
        ("scim", 409, "uniqueness", Class::Conflict, "http.conflict"),
        ("text", 400, "RESOURCE_DOES_NOT_EXIST", Class::Absent, "http.absent"),
        ("html", 403, "", Class::Denied, "http.denied"),
        ("empty", 501, "", Class::Unsupported, "http.unsupported"),
        ("login", 200, "", Class::Denied, "http.login-page"),
    ];
    let scene = Scene::new().await;
    for (shape, status, code, class, name) in cases {
        scene.fault(json!({"path": POOLS, "effect": {"type": "error", "status": status, "error_code": code,
            "message": "told by a test", "shape": shape}}));
        let fault = scene.client.json(&pools(), &scene.meter).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (class, name), "{shape} {status} {code}: {fault}");
        if !matches!(shape, "empty" | "login") {
            assert!(fault.detail.contains("told by a test"), "{shape}: {fault}");
            assert_eq!(fault.http.unwrap().status, status, "{shape}");
        }
    }
    assert_eq!(calls(&scene.meter).retried, 0, "none of these passes by itself");
}

#[tokio::test]
async fn pauses_asked_for_are_kept_and_counted() {
    let scene = Scene::new().await;
    scene.fault(json!({"path": POOLS, "times": 2, "effect": {"type": "error", "status": 429,
        "error_code": "REQUEST_LIMIT_EXCEEDED", "retry_after": 3}}));
    let clock = super::fast();
    let began = clock.tick();
    scene.client.json(&pools(), &scene.meter).await.unwrap();
    let took = clock.tick().since(began);
    assert!(took >= Duration::from_secs(6), "two pauses of three seconds took {took:?}");
    let counted = calls(&scene.meter);
    assert_eq!((counted.made, counted.throttled, counted.retried), (3, 2, 2));
}

#[tokio::test]
async fn a_pause_beyond_our_patience_is_handed_on() {
    let scene = Scene::new().await;
    scene.fault(
        json!({"path": POOLS, "times": 0, "effect": {"type": "error", "status": 429, "retry_after": 86400}}),
    );
    let fault = scene.client.json(&pools(), &scene.meter).await.unwrap_err();
    assert_eq!(
        (fault.class, fault.code, fault.after),
        (Class::Throttled, "http.throttled", Some(Duration::from_secs(300)))
    );
    assert_eq!(calls(&scene.meter).made, 1);
}

#[tokio::test]
async fn reads_survive_whatever_passes() {
    for effect in [
        json!({"type": "error", "status": 500, "error_code": "INTERNAL_ERROR"}),
        json!({"type": "error", "status": 502, "shape": "html"}),
        json!({"type": "error", "status": 503, "error_code": "TEMPORARILY_UNAVAILABLE"}),
        json!({"type": "error", "status": 400, "error_code": "INVALID_STATE", "message": "ClusterNotReadyException"}),
        json!({"type": "truncate", "keep": 20}),
        json!({"type": "truncate", "keep": 20, "honest_length": true}),
        json!({"type": "not_json"}),
        json!({"type": "reset"}),
    ] {
        let scene = Scene::new().await;
        scene.fault(json!({"path": POOLS, "times": 2, "effect": effect}));
        scene.client.json(&pools(), &scene.meter).await.unwrap_or_else(|fault| panic!("{effect}: {fault}"));
        assert_eq!(calls(&scene.meter).retried, 2, "{effect}");
    }
}

#[tokio::test]
async fn what_stays_broken_is_given_up_soon_and_said() {
    for (effect, code) in [
        (json!({"type": "not_json"}), "http.not-json"),
        (json!({"type": "truncate", "keep": 20}), "http.truncated"),
        (json!({"type": "error", "status": 500, "error_code": "INTERNAL_ERROR"}), "http.server-error"),
    ] {
        let scene = Scene::new().await;
        scene.fault(json!({"path": POOLS, "times": 0, "effect": effect}));
        let fault = scene.client.json(&pools(), &scene.meter).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Unavailable, code));
        assert!(calls(&scene.meter).made <= 6, "{code}");
    }
}

#[tokio::test]
async fn a_change_is_never_sent_twice_when_it_may_have_happened() {
    for effect in [
        json!({"type": "reset"}),
        json!({"type": "error", "status": 500}),
        json!({"type": "truncate", "keep": 3}),
    ] {
        let scene = Scene::new().await;
        scene.fault(json!({"path": "*/create", "when": "after", "effect": effect}));
        let fault = scene.client.json(&create_pool(), &scene.meter).await.unwrap_err();
        assert_eq!(fault.class, Class::Unavailable, "{effect}: {fault}");
        let listed = scene.client.json(&pools(), &scene.meter).await.unwrap();
        assert_eq!(made(&listed), 1, "{effect}");
    }
}

#[tokio::test]
async fn a_change_is_sent_again_when_it_cannot_have_happened() {
    let scene = Scene::new().await;
    scene.fault(json!({"path": "*/create", "times": 2, "effect": {"type": "error", "status": 429}}));
    scene.client.json(&create_pool(), &scene.meter).await.unwrap();
    assert_eq!(made(&scene.client.json(&pools(), &scene.meter).await.unwrap()), 1);
}

#[tokio::test]
async fn large_answers_pass_and_endless_ones_do_not() {
    let scene = Scene::new().await;
    scene.fault(json!({"path": POOLS, "effect": {"type": "huge", "bytes": 100_000_000}}));
    assert_eq!(scene.client.json(&pools(), &scene.meter).await.unwrap().len(), 100_000_000);
    scene.fault(json!({"path": POOLS, "times": 0, "effect": {"type": "huge", "bytes": 3_000_000_000_u64}}));
    let fault = scene.client.json(&pools(), &scene.meter).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Unsupported, "http.too-large"));
}

#[tokio::test]
async fn slow_answers_pass_and_silent_ones_time_out() {
    let scene = Scene::new().await;
    let mut settings = settings(&scene.sim.url(0));
    settings.patience.idle = Duration::from_millis(400);
    let client = client(settings);
    scene.fault(json!({"path": POOLS, "effect": {"type": "slow", "chunk": 300, "every_ms": 20}}));
    client.json(&pools(), &scene.meter).await.unwrap();
    scene.fault(json!({"path": POOLS, "times": 0, "effect": {"type": "delay", "ms": 60_000}}));
    let fault = client.json(&pools(), &scene.meter).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Unavailable, "http.timeout"));
}

#[tokio::test]
async fn redirects_are_never_followed() {
    for (location, class, code) in [
        ("/login.html?error=private-link-validation-error", Class::Denied, "http.login-page"),
        ("http://127.0.0.1:1/api", Class::Config, "http.redirect"),
    ] {
        let server =
            Scripted::start(vec![answer("302 Found", &format!("Location: {location}\r\n"), "")]).await;
        let fault = client(settings(&server.url)).json(&pools(), &meter()).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (class, code));
        assert_eq!(server.lines().len(), 1);
    }
}

#[tokio::test]
async fn a_server_that_repeats_our_token_does_not_spread_it() {
    let mut settings = settings("http://127.0.0.1:1");
    let body = r#"{"error_code":"PERMISSION_DENIED","message":"token very-secret-token is bad"}"#;
    let server = Scripted::start(vec![answer("403 Forbidden", "", body)]).await;
    settings.host = server.url.parse().unwrap();
    settings.credentials =
        lakehold_worker::source::databricks::Credentials::Token(super::secret("very-secret-token"));
    let fault = client(settings).json(&pools(), &meter()).await.unwrap_err();
    assert!(server.asked()[0].contains("very-secret-token"), "it was sent");
    assert!(!format!("{fault:?}").contains("very-secret-token"), "{fault:?}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_late_says_so_and_early_is_asked_again() {
    let export = Request::get(&WORKSPACE_EXPORT, "/api/2.0/workspace/export");
    let whole = "x".repeat(100_000);
    let server = Scripted::start(vec![
        cut_off(100_000, "short"),
        answer("200 OK", "", &whole),
        cut_off(2_000_000, &"y".repeat(600_000)),
    ])
    .await;
    let (client, meter) = (client(settings(&server.url)), meter());
    let stream = client.stream(&export, &meter).await.unwrap();
    let read: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(read.concat().len(), 100_000, "the first try broke off early and was repeated");

    let mut stream = client.stream(&export, &meter).await.unwrap();
    let mut read = 0;
    let fault = loop {
        match stream.next().await {
            Some(Ok(piece)) => read += piece.len(),
            Some(Err(fault)) => break fault,
            None => panic!("the stream ended as if it were whole after {read} bytes"),
        }
    };
    assert_eq!((fault.class, fault.code), (Class::Unavailable, "http.truncated"));
    assert!(read >= 256 << 10 && stream.next().await.is_none());
}

#[tokio::test]
async fn a_call_nobody_polls_goes_on_and_one_nobody_wants_stops() {
    let scene = Scene::new().await;
    let mut settings = settings(&scene.sim.url(0));
    settings.concurrency = 1;
    let client = client(settings);
    scene.fault(json!({"path": POOLS, "effect": {"type": "delay", "ms": 100}}));
    let request = pools();
    let mut first = Box::pin(client.json(&request, &scene.meter));
    assert!(first.as_mut().now_or_never().is_none());
    client.json(&request, &scene.meter).await.unwrap();
    first.await.unwrap();

    scene.fault(json!({"path": POOLS, "effect": {"type": "delay", "ms": 60_000}}));
    let mut stuck = Box::pin(client.json(&request, &scene.meter));
    while calls(&scene.meter).made < 3 {
        assert!(stuck.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(stuck);
    client.json(&request, &scene.meter).await.unwrap();
}

#[tokio::test]
async fn an_empty_answer_to_a_change_is_fine_and_to_a_read_is_not() {
    let server = Scripted::start(vec![answer("200 OK", "", "")]).await;
    let client = client(settings(&server.url));
    assert_eq!(client.json(&create_pool(), &meter()).await.unwrap(), "{}");
    let mut settings = settings(&server.url);
    settings.patience.retries = Duration::ZERO;
    let fault = super::client(settings).json(&pools(), &meter()).await.unwrap_err();
    assert_eq!(fault.code, "http.not-json");
    let server = Scripted::start(vec![json_answer("[1]")]).await;
    assert_eq!(super::client(super::settings(&server.url)).json(&pools(), &meter()).await.unwrap(), "[1]");
}
