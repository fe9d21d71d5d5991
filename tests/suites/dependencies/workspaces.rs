//! The workspace: it throttles everything for a while, and tokens end in the midst of a run.

use lakehold_sim::{Effect, IdentitySpec};
use lakehold_tests::fleet::{Servers, root, sign_in_with_oauth};

use super::{BACKUP, Scene, expected, seconds};

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_throttle_everything_and_tokens_end() {
    let servers = &Servers::start().await;
    tokio::join!(a_storm(servers), tokens_expire(servers), a_token_is_revoked(servers));
}

async fn a_storm(servers: &Servers) {
    let mut scene = Scene::new(servers, "storm").await;
    let run = scene.run().await;
    scene.sim.clear_faults();
    let error = Effect::Error {
        status: 429,
        error_code: "REQUEST_LIMIT_EXCEEDED".into(),
        message: "as told".into(),
        shape: Default::default(),
        retry_after: Some(1),
        reason: None,
    };
    scene.fault(None, 1, 0, error);
    seconds(5.0).await;
    scene.ends(run).await;
}

/// OAuth tokens live an hour; others are asked for.
async fn tokens_expire(servers: &Servers) {
    let mut scene = Scene::new(servers, "tokens").await;
    sign_in_with_oauth(&scene.program, "prod");
    let mut run = scene.run().await;
    for _ in 0..3 {
        let (signed_in, exported) = (scene.sign_ins(), scene.exports());
        scene.sim.clock().advance(2 * 3_600_000);
        let goes_on = || scene.sign_ins() > signed_in && scene.exports() >= exported + 5;
        run.until("another token, and bodies that it let us have", goes_on).await;
    }
    scene.ends(run).await;
}

/// A personal token that is revoked cannot be had again: the run ends, and says so. With another the next is complete.
async fn a_token_is_revoked(servers: &Servers) {
    let mut scene = Scene::new(servers, "revoked").await;
    let run = scene.run().await;
    let operator = |expires_at_ms| {
        let known = IdentitySpec::admin(scene.sim.token(), "operator@example.com");
        scene.sim.identity(&IdentitySpec { expires_at_ms, ..known });
    };
    operator(Some(0));
    scene.sim.clear_faults();
    let ended = run.end().await;
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    let said = &ended.json()["environments"]["prod"];
    assert_eq!(said["state"], "partial", "{said:#}");
    let faults: Vec<_> =
        said["kinds"].as_array().unwrap().iter().filter(|kind| !kind["fault"].is_null()).collect();
    assert!(!faults.is_empty(), "{said:#}");
    for kind in faults {
        assert_eq!(kind["fault"]["class"], "denied", "{kind:#}");
    }
    operator(None);
    let ended = scene.program.run(BACKUP).await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(root(&ended.json()["environments"]["prod"]), expected().await);
}
