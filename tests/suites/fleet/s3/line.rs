//! A bad line to a sound server: what breaks is repeated, what cannot be mended is told, and nothing is taken for whole
//! that is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::TryStreamExt as _;
use lakehold_proto::fault::Class;
use lakehold_proto::store::s3::S3Store;
use lakehold_proto::store::{Put, Store};
use lakehold_tests::component::http_proxy::{Act, HttpProxy, Request};

use super::{ANYBODY, LARGE, connect, key, ministack, noise, open_uploads, until};

fn is_get(request: &Request) -> bool {
    request.method == "GET" && request.target.contains("packs")
}

fn is_part(request: &Request) -> bool {
    request.method == "PUT" && request.target.contains("partNumber")
}

fn is_completion(request: &Request) -> bool {
    request.method == "POST" && request.target.contains("uploadId")
}

/// Which requests something is done to.
type Picks = fn(&Request) -> bool;

/// A store behind a proxy that does `act` to the first `times` of the requests that `to` picks.
async fn behind(
    upstream: &str,
    to: impl Fn(&Request) -> bool + Send + Sync + 'static,
    times: u32,
    act: Act,
) -> (S3Store, HttpProxy, Arc<AtomicU32>) {
    let hit = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&hit);
    let proxy = HttpProxy::start(upstream, move |request, _| {
        if to(request) && count.fetch_add(1, Ordering::SeqCst) < times { act.clone() } else { Act::Pass }
    })
    .await;
    (connect(&proxy.endpoint, ANYBODY).await, proxy, hit)
}

#[tokio::test]
async fn answers_that_break_are_asked_for_again() {
    let server = ministack().await;
    let sound = connect(&server.endpoint, ANYBODY).await;
    let (pack, body) = (key("packs/ab/one"), noise(7, 300_000));
    sound.put_new(&pack, body.clone()).await.unwrap();

    for act in [
        Act::Cut(1000),
        Act::Cut(0),
        Act::Shorten(1000),
        Act::Damage,
        Act::Refuse,
        Act::Answer(503, "SlowDown", ""),
    ] {
        let (store, _proxy, hit) = behind(&server.endpoint, is_get, 2, act.clone()).await;
        assert_eq!(store.get(&pack).await.unwrap().unwrap(), body, "{act:?}");
        assert!(hit.load(Ordering::SeqCst) > 2, "{act:?}");
        // A changed byte of a range is for whoever knows the hash of what lies there.
        if !matches!(act, Act::Damage) {
            let (store, _proxy, _) = behind(&server.endpoint, is_get, 2, act.clone()).await;
            assert_eq!(store.get_range(&pack, 99, 5000).await.unwrap().unwrap(), body[99..5099], "{act:?}");
        }
    }
    let forever = [
        (Act::Cut(1000), Class::Unavailable, "store.broken-body"),
        (Act::Shorten(1000), Class::Integrity, "store.checksum-mismatch"),
        (Act::Damage, Class::Integrity, "store.checksum-mismatch"),
        (Act::Refuse, Class::Unavailable, "store.unreachable"),
        (Act::Answer(503, "SlowDown", ""), Class::Unavailable, "store.slow-down"),
        (Act::Page(404), Class::Unavailable, "store.answer"),
        (Act::Page(502), Class::Unavailable, "store.server-error"),
        (Act::Answer(403, "AccessDenied", ""), Class::Denied, "store.denied"),
    ];
    for (act, class, code) in forever {
        let (store, _proxy, _) = behind(&server.endpoint, is_get, u32::MAX, act.clone()).await;
        let fault = store.get(&pack).await.unwrap_err();
        assert_eq!((fault.class, fault.code), (class, code), "{act:?}: {fault}");
    }
    let (store, _proxy, _) = behind(&server.endpoint, is_get, u32::MAX, Act::Strip("range")).await;
    let fault = store.get_range(&pack, 0, 5).await.unwrap_err();
    assert_eq!(fault.code, "store.no-ranges");

    // A listing is whole or a fault, however its pages break.
    let is_list = |request: &Request| request.target.contains("list-type");
    for act in [Act::Cut(100), Act::Shorten(100), Act::Shorten(0), Act::Page(200)] {
        let (store, _proxy, _) = behind(&server.endpoint, is_list, 1, act.clone()).await;
        let listed: Vec<_> = store.list("packs/").map_ok(|l| l.key).try_collect().await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&pack), "{act:?}");
        let (store, _proxy, _) = behind(&server.endpoint, is_list, u32::MAX, act.clone()).await;
        let fault = store.list("packs/").try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(fault.class, Class::Unavailable, "{act:?}: {fault}");
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_found() {
    let server = ministack().await;
    let sound = connect(&server.endpoint, ANYBODY).await;
    let is_put = |request: &Request| request.method == "PUT";
    for (n, act) in [
        (0, Act::LoseAnswer),
        (1, Act::Refuse),
        (2, Act::Answer(503, "SlowDown", "")),
        (3, Act::Answer(500, "InternalError", "")),
        (4, Act::Answer(409, "ConditionalRequestConflict", "")),
        (5, Act::DamageRequest),
    ] {
        let (pack, body) = (key(&format!("packs/{n}")), noise(n, 100_000));
        let (store, _proxy, hit) = behind(&server.endpoint, is_put, 1, act.clone()).await;
        let wanted = if matches!(act, Act::LoseAnswer) { Put::Existed } else { Put::Created };
        assert_eq!(store.put_new(&pack, body.clone()).await.unwrap(), wanted, "{act:?}");
        assert!(hit.load(Ordering::SeqCst) >= 2, "{act:?}");
        assert_eq!(sound.get(&pack).await.unwrap().unwrap(), body, "{act:?}");
    }
    // Whoever never hears is told so, and finds out by trying again.
    let (store, _proxy, _) = behind(&server.endpoint, is_put, u32::MAX, Act::LoseAnswer).await;
    let fault = store.put_new(&key("packs/unheard"), "x".into()).await.unwrap_err();
    assert_eq!(fault.class, Class::Unavailable);
    assert_eq!(sound.put_new(&key("packs/unheard"), "x".into()).await.unwrap(), Put::Existed);
}

#[tokio::test]
async fn an_outage_uses_up_no_patience() {
    let server = ministack().await;
    let refused = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&refused);
    let proxy = HttpProxy::start(&server.endpoint, move |request, _| {
        let outage = request.target.contains("outage");
        let blip = request.method == "PUT" && request.target.contains("after");
        if outage || (blip && count.fetch_add(1, Ordering::SeqCst) == 0) { Act::Refuse } else { Act::Pass }
    })
    .await;
    let store = connect(&proxy.endpoint, ANYBODY).await;
    let lost = (0..60).map(|n| {
        let store = store.clone();
        async move { store.put_new(&key(&format!("outage/{n}")), "x".into()).await.unwrap_err().class }
    });
    let lost = futures::future::join_all(lost).await;
    assert!(lost.iter().all(|class| *class == Class::Unavailable), "{lost:?}");
    assert_eq!(store.put_new(&key("after"), "x".into()).await.unwrap(), Put::Created);
    assert_eq!(refused.load(Ordering::SeqCst), 2, "it was refused once, and repeated");
}

#[tokio::test]
async fn an_upload_of_parts_that_fails_leaves_nothing_to_see() {
    let server = ministack().await;
    let (sound, admin) = (connect(&server.endpoint, ANYBODY).await, server.admin());
    let is_begin = |request: &Request| request.method == "POST" && request.target.contains("uploads");

    // Mended on the way.
    let mended: [(&str, Picks, Act); 6] = [
        ("damaged-part", is_part, Act::DamageRequest),
        ("refused-part", is_part, Act::Refuse),
        ("forgotten-upload", is_part, Act::Answer(404, "NoSuchUpload", "")),
        ("conflict", is_completion, Act::Answer(409, "ConditionalRequestConflict", "")),
        ("unheard", is_completion, Act::LoseAnswer),
        ("unheard-begin", is_begin, Act::Answer(500, "InternalError", "")),
    ];
    for (name, to, act) in mended {
        let (pack, body) = (key(&format!("packs/{name}")), noise(3, LARGE));
        let (store, _proxy, _) = behind(&server.endpoint, to, 1, act).await;
        // Servers differ in what a completion is told that was carried out before.
        let put = store.put_new(&pack, body.clone()).await.unwrap();
        assert!(put == Put::Created || name == "unheard", "{name}: {put:?}");
        assert_eq!(sound.get(&pack).await.unwrap().unwrap(), body, "{name}");
        assert_eq!(open_uploads(&admin).await, 0, "{name}");
    }
    // Not mended.
    let second = |request: &Request| is_part(request) && request.target.contains("partNumber=2");
    let failed: [(&str, Picks, Act); 3] = [
        ("no-second-part", second, Act::Answer(500, "InternalError", "")),
        ("full", second, Act::Answer(507, "InsufficientStorage", "")),
        ("no-completion", is_completion, Act::Refuse),
    ];
    for (name, to, act) in failed {
        let pack = key(&format!("packs/{name}"));
        let (store, _proxy, _) = behind(&server.endpoint, to, u32::MAX, act).await;
        let fault = store.put_new(&pack, noise(3, LARGE)).await.unwrap_err();
        assert_eq!(fault.class, Class::Unavailable, "{name}: {fault}");
        assert!(sound.get(&pack).await.unwrap().is_none(), "{name}");
        assert_eq!(open_uploads(&admin).await, 0, "{name}: its parts were given up");
    }
    // Dropped midway: the second part hangs, the first is there.
    let pack = key("packs/dropped");
    let (store, _proxy, hung) = behind(&server.endpoint, second, u32::MAX, Act::Stall).await;
    let (writer, dropped) = (store.clone(), pack.clone());
    let put = tokio::spawn(async move { writer.put_new(&dropped, noise(3, LARGE)).await });
    until("the second part is under way", async || hung.load(Ordering::SeqCst) > 0).await;
    assert_eq!(open_uploads(&admin).await, 1);
    put.abort();
    until("the upload is aborted", async || open_uploads(&admin).await == 0).await;
    assert!(sound.get(&pack).await.unwrap().is_none());
    assert_eq!(sound.put_new(&pack, noise(3, LARGE)).await.unwrap(), Put::Created, "and it can be made");
}

#[tokio::test]
async fn only_creates_and_reads_are_asked_for() {
    let server = ministack().await;
    let bad = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&bad);
    // As a bucket policy with `s3:if-none-match` does: nothing but creates, reads, and parts, which are no objects.
    let proxy = HttpProxy::start(&server.endpoint, move |request, _| {
        let makes = (request.method == "PUT" && !is_part(request)) || is_completion(request);
        let overwrites = makes && request.header("if-none-match") != Some("*");
        let unsummed = request.method == "PUT" && request.header("x-amz-checksum-sha256").is_none();
        if overwrites || unsummed || request.method == "DELETE" {
            seen.fetch_add(1, Ordering::SeqCst);
            return Act::Answer(403, "AccessDenied", "");
        }
        Act::Pass
    })
    .await;
    let store = connect(&proxy.endpoint, ANYBODY).await;
    lakehold_proto::store::conformance::all(Arc::new(store.clone())).await;
    assert_eq!(store.put_new(&key("packs/large"), noise(4, LARGE)).await.unwrap(), Put::Created);
    assert_eq!(bad.load(Ordering::SeqCst), 0, "deletes, overwrites and bodies without a checksum");
}
