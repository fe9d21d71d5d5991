//! Servers without conditional writes: found out, and handled.

use std::sync::Arc;

use jiff::Timestamp;
use lakehold_proto::store::identity;
use lakehold_proto::store::s3::{S3Config, S3Store};
use lakehold_proto::store::{Put, Store, conformance};
use lakehold_tests::component::http_proxy::{Act, HttpProxy};

use super::{ANYBODY, LARGE, bucket, connect, key, ministack, noise};

#[tokio::test]
async fn a_server_that_ignores_or_refuses_them_is_found_out() {
    let server = ministack().await;
    let ignores = HttpProxy::start(&server.endpoint, |_, _| Act::Strip("if-none-match")).await;
    let refuses = HttpProxy::start(&server.endpoint, |request, _| match request.header("if-none-match") {
        Some(_) => Act::Answer(501, "NotImplemented", ""),
        None => Act::Pass,
    })
    .await;
    for (prefix, proxy) in [("ignores", ignores), ("refuses", refuses)] {
        let config = S3Config { prefix: prefix.into(), ..bucket(&proxy.endpoint, ANYBODY) };
        let store = S3Store::connect(config.clone()).await.unwrap();
        assert!(store.properties().conditional_create, "until it is known better");
        let (made, new) = identity::create(&store, Timestamp::UNIX_EPOCH).await.unwrap();
        assert!(new && !made.probe.conditional_create, "{prefix}");
        assert!(made.probe.read_after_write && made.probe.list_after_write, "{prefix}");
        assert_eq!(made.probe.warnings().len(), 1, "{prefix}");

        // Whoever opens it from now on knows, and one writer at a time overwrites nothing.
        let store = S3Store::connect(config).await.unwrap();
        assert!(!store.properties().conditional_create, "{prefix}");
        for length in [5, LARGE] {
            let pack = key(&format!("packs/{length}"));
            assert_eq!(store.put_new(&pack, noise(1, length)).await.unwrap(), Put::Created, "{prefix}");
            assert_eq!(store.put_new(&pack, noise(2, length)).await.unwrap(), Put::Existed, "{prefix}");
            assert_eq!(store.get(&pack).await.unwrap().unwrap(), noise(1, length), "{prefix}");
        }
        conformance::all(Arc::new(store)).await;
    }
    // The same server without the proxy is told to be sound.
    let sound = connect(&server.endpoint, ANYBODY).await;
    assert!(identity::probe(&sound).await.unwrap().conditional_create);
}
