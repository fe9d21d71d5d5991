//! What a bucket refuses, by identity and by name: every fault says what, where and what to do, and holds no credential.

use std::sync::Arc;
use std::time::Duration;

use lakehold_proto::fault::{Class, Fault};
use lakehold_proto::secret::Secret;
use lakehold_proto::store::s3::{S3Config, S3Keys, S3Store};
use lakehold_proto::store::{Put, Store, conformance};
use lakehold_tests::component::free_port;
use lakehold_tests::component::http_proxy::{Act, HttpProxy};
use lakehold_tests::component::seaweed::{ADMIN, BUCKET, READER, WRITER};

use super::{LARGE, bucket, connect, key, noise, open_uploads, weed};

/// What everybody who reads a fault may see.
fn shown(fault: &Fault) -> String {
    format!("{fault} {fault:?} {}", serde_json::to_string(&fault.record()).unwrap())
}

fn assert_told(fault: &Fault, class: Class, code: &str, words: &[&str]) {
    let shown = shown(fault);
    assert_eq!((fault.class, fault.code), (class, code), "{shown}");
    assert!(fault.hint.is_some(), "{shown}");
    for word in words {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    for (_, secret) in [ADMIN, READER, WRITER] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn by_identity() {
    let weed = weed().await;
    let admin = weed.admin();
    let deny = serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*",
        "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"],
        "Resource": [format!("arn:aws:s3:::{BUCKET}/*")],
    }]});
    admin.put_bucket_policy().bucket(BUCKET).policy(deny.to_string()).send().await.unwrap();
    let store = connect(&weed.endpoint, WRITER).await;
    conformance::all(Arc::new(store.clone())).await;
    store.put_new(&key("kept"), "kept".into()).await.unwrap();
    let delete = admin.delete_object().bucket(BUCKET).key("some/store/kept").send().await;
    assert!(delete.is_err(), "the policy is in force");

    // The loser of a race of large objects has parts to give up, and may not: that is no fault.
    let racers = (0..2).map(|n| {
        let store = store.clone();
        async move { store.put_new(&key("large"), noise(n, LARGE)).await.unwrap() }
    });
    let puts = futures::future::join_all(racers).await;
    // SeaweedFS completes both now and then: it looks whether the object is there, and writes it afterwards.
    assert!(puts.contains(&Put::Created), "{puts:?}");
    let left_over = open_uploads(&admin).await;

    let reader = connect(&weed.endpoint, READER).await;
    assert_eq!(reader.get(&key("kept")).await.unwrap().unwrap(), "kept");
    for body in [noise(0, 10), noise(0, LARGE)] {
        let fault = reader.put_new(&key("packs/ab/new"), body).await.unwrap_err();
        let words = [
            "s3:PutObject",
            "s3://lakehold/some/store/packs/ab/new",
            "arn:aws:s3:::lakehold/some/store/*",
            "403",
        ];
        assert_told(&fault, Class::Denied, "store.denied", &words);
        assert_eq!(fault.exit_code(), 7);
    }
    assert!(reader.get(&key("packs/ab/new")).await.unwrap().is_none());
    assert_eq!(open_uploads(&admin).await, left_over, "an upload that was denied was not begun");

    let wrong = S3Store::connect(bucket(&weed.endpoint, (WRITER.0, ADMIN.1))).await.unwrap_err();
    assert_told(
        &wrong,
        Class::Denied,
        "store.wrong-credentials",
        &["SignatureDoesNotMatch", "lakehold.json"],
    );
    let unknown = S3Store::connect(bucket(&weed.endpoint, ("nobody", WRITER.1))).await.unwrap_err();
    assert_told(&unknown, Class::Denied, "store.wrong-credentials", &["InvalidAccessKeyId"]);
    let absent = S3Config { bucket: "no-such-bucket".into(), ..bucket(&weed.endpoint, WRITER) };
    let absent = S3Store::connect(absent).await.unwrap_err();
    assert_told(&absent, Class::Config, "store.no-bucket", &["NoSuchBucket", "no-such-bucket"]);
}

#[tokio::test]
async fn by_name() {
    let rows = [
        (403, "AccessDenied", "", Class::Denied, "store.denied"),
        (403, "ExpiredToken", "", Class::Denied, "store.expired-token"),
        (400, "ExpiredToken", "", Class::Denied, "store.expired-token"),
        (403, "RequestTimeTooSkewed", "", Class::Denied, "store.clock-skew"),
        (404, "NoSuchBucket", "", Class::Config, "store.no-bucket"),
        (
            301,
            "PermanentRedirect",
            "x-amz-bucket-region: eu-south-9\r\n",
            Class::Config,
            "store.wrong-region",
        ),
        (
            400,
            "AuthorizationHeaderMalformed",
            "x-amz-bucket-region: eu-south-9\r\n",
            Class::Config,
            "store.wrong-region",
        ),
        (307, "TemporaryRedirect", "", Class::Unavailable, "store.redirected"),
        (503, "SlowDown", "Retry-After: 17\r\n", Class::Unavailable, "store.slow-down"),
        (429, "TooManyRequests", "Retry-After: 17\r\n", Class::Unavailable, "store.slow-down"),
        (507, "InsufficientStorage", "", Class::Unavailable, "store.full"),
        (403, "QuotaExceeded", "", Class::Unavailable, "store.full"),
        (500, "InternalError", "", Class::Unavailable, "store.server-error"),
        (400, "KMS.DisabledException", "", Class::Config, "store.kms-key"),
        (403, "InvalidObjectState", "", Class::Unsupported, "store.archived"),
        (409, "ConditionalRequestConflict", "", Class::Unavailable, "store.conflict"),
        (400, "BadDigest", "", Class::Unavailable, "store.torn-upload"),
        (413, "EntityTooLarge", "", Class::Unsupported, "store.too-large"),
    ];
    for (status, code, headers, class, wanted) in rows {
        let quiet = HttpProxy::start("http://127.0.0.1:9", move |request, _| match request.method.as_str() {
            "GET" if request.target.contains("lakehold.json") => Act::Answer(404, "NoSuchKey", ""),
            _ => Act::Answer(status, code, headers),
        });
        let quiet = quiet.await;
        let store =
            S3Store::connect(S3Config { attempts: 1.try_into().ok(), ..bucket(&quiet.endpoint, WRITER) });
        let store = store.await.unwrap();
        let fault = store.put_new(&key("packs/x"), "x".into()).await.unwrap_err();
        assert_told(&fault, class, wanted, &["packs/x", code, &status.to_string(), &quiet.endpoint]);
        assert_eq!(fault.http.as_ref().unwrap().status, status);
        if wanted == "store.slow-down" {
            assert_eq!(fault.after, Some(Duration::from_secs(17)));
        }
        if wanted == "store.wrong-region" {
            assert!(fault.detail.contains("eu-south-9"), "{fault}");
        }
    }

    let told = HttpProxy::start("http://127.0.0.1:9", |_, _| Act::Page(404)).await;
    let fault = S3Store::connect(bucket(&told.endpoint, WRITER)).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Unavailable, "store.answer"), "no absence: {fault}");

    let port = free_port();
    let fault = S3Store::connect(bucket(&format!("http://127.0.0.1:{port}"), WRITER)).await.unwrap_err();
    assert_told(&fault, Class::Unavailable, "store.unreachable", &["refused", &port.to_string()]);
    let stalled = HttpProxy::start("http://127.0.0.1:9", |_, _| Act::Stall).await;
    let patience = Some(Duration::from_millis(300));
    let config =
        S3Config { timeout: patience, attempts: 2.try_into().ok(), ..bucket(&stalled.endpoint, WRITER) };
    let fault = S3Store::connect(config).await.unwrap_err();
    assert_told(&fault, Class::Unavailable, "store.timeout", &[&stalled.endpoint]);

    // A session token goes with each request, and a server may say it back.
    let token = format!("session-{}", "x".repeat(400));
    let keys =
        S3Keys { id: "temporary".into(), secret: Secret::new(WRITER.1), session: Some(Secret::new(&token)) };
    let expired =
        HttpProxy::start("http://127.0.0.1:9", |_, _| Act::Echo(403, "ExpiredToken", "x-amz-security-token"));
    let expired = expired.await;
    let config = S3Config { keys: Some(keys), ..bucket(&expired.endpoint, WRITER) };
    let fault = S3Store::connect(config).await.unwrap_err();
    assert_told(&fault, Class::Denied, "store.expired-token", &[]);
    assert!(!shown(&fault).contains("session-x"), "{fault}");
}
