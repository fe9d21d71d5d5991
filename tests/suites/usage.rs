//! What a person or a configuration gets wrong, with the real binary: each ends with its exit code, and says what, where,
//! why, and what to do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lakehold_proto::address::Address;
use lakehold_proto::clock::{Clock, SharedClock, SystemClock, Tick};
use lakehold_sim::{Effect, Fault, IdentitySpec, Mutation, Shape, Sim, SimConfig, When};
use lakehold_tests::program::{Program, Ran};
use lakehold_tests::site::{Site, committed, prod, request};
use lakehold_tests::synthetic::{OneSource, Synthetic};
use serde_json::Value;

async fn workspace() -> Sim {
    Sim::start(SimConfig::default()).await.unwrap()
}

pub(super) fn fault(path: &str, nth: u64, times: u64, effect: Effect) -> Fault {
    let path = Some(path.into());
    Fault { method: None, path, query: None, workspace: None, nth, times, when: When::Before, effect }
}

pub(super) fn error(status: u16, shape: Shape) -> Effect {
    let (error_code, message) = (String::new(), "not here".into());
    Effect::Error { status, error_code, message, shape, retry_after: None, reason: None }
}

/// A host on which nobody listens.
fn nobody() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

#[tokio::test]
async fn an_unknown_key_is_told_with_its_line_and_what_was_meant() {
    let program = Program::new(&[("prod", "https://example.test")], "t");
    program.configure("version: 1\nstore: store\nenviroments:\n  prod: {}\n");
    let ran = program.run("backup").await;
    ran.refused(
        2,
        &["config.unknown-key", "lakehold.yaml:3:", "`enviroments`", "did you mean `environments`?"],
    );
    program.configure(
        "version: 1\nstore: store\nenvironments:\n  prod:\n    databricks: {hots: https://x.test, token: env:T}\n",
    );
    let ran = program.run("backup").await;
    ran.refused(2, &["config.unknown-key", "lakehold.yaml:5:", "`hots`", "did you mean `host`?"]);
    assert!(!program.path("store").exists(), "nothing is made before the configuration is understood");
}

#[tokio::test]
async fn what_is_typed_wrongly_is_told_with_what_there_is() {
    let sim = workspace().await;
    let program = Program::of(&sim);
    program.run("backup --kidn job").await.refused(2, &["--kidn", "--kind"]);
    program
        .run("backup --env prd")
        .await
        .refused(2, &["environment.unknown", "prd is not configured", "prod"]);
    program
        .run("backup --kind jbo")
        .await
        .refused(2, &["selection.kind", "there is no kind jbo", "cluster_policy"]);
    program.run("backup --exclude-kind jobs").await.refused(2, &["there is no kind jobs", "job"]);
    program.run("verify prod@yesterday").await.refused(2, &["prod@yesterday"]);
    program.run("snapshots --store nowhere").await.refused(10, &["store.absent", "nowhere", "lakehold init"]);
    program.configure("version: 1\nstore: store\nenvironments: {}\n");
    program
        .run("backup")
        .await
        .refused(2, &["environment.none", "no environment is configured", "lakehold.yaml"]);
    assert_eq!(program.manifests().len(), 0);
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_told_from_one_that_is_no_workspace() {
    let program = Program::new(&[("prod", &nobody())], "t");
    program.run("backup").await.refused(1, &["http.unreachable", "refused", "check the host"]);
    let sim = workspace().await;
    for (effect, code, words) in [
        (
            error(404, Shape::Html),
            2,
            ["config.no-workspace", "check that the host is a Databricks workspace"],
        ),
        (error(404, Shape::Empty), 2, ["config.no-workspace", "account console"]),
        (Effect::NotJson, 2, ["config.no-workspace", "account console"]),
        (error(200, Shape::Login), 7, ["http.login-page", "check the host"]),
    ] {
        sim.clear_faults();
        sim.add_fault(fault("/api/2.0/preview/scim/v2/Me", 1, 0, effect)).unwrap();
        let program = Program::of(&sim);
        let ran = program.run("backup").await;
        ran.refused(code, &words);
        assert_eq!((program.runs(), program.manifests().len()), (0, 0), "{ran:#?}");
    }
}

#[tokio::test]
async fn a_token_that_is_wrong_or_expired_is_denied() {
    let sim = workspace().await;
    sim.identity(&IdentitySpec { expires_at_ms: Some(1), ..IdentitySpec::admin("expired", "a@example.com") });
    for token in ["wrong", "expired"] {
        let program = Program::new(&[("prod", &sim.url(0))], token);
        let ran = program.run("backup").await;
        ran.refused(7, &["http.unauthenticated", "401", "wrong, expired or revoked", "make new ones"]);
        assert!(program.manifests().is_empty());
    }
}

#[tokio::test]
async fn one_environment_that_fails_never_stops_the_other() {
    let sim = workspace().await;
    let program = Program::new(&[("bad", &nobody()), ("prod", &sim.url(0))], sim.token());
    let ran = program.run("backup --all").await;
    ran.refused(3, &["http.unreachable"]);
    for (name, state) in [("bad", "failed"), ("prod", "complete")] {
        let line = ran.out.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.contains(state)), "{name} is not in the table: {ran:#?}");
    }
    let ran = program.run("backup --all -o json").await;
    let both = &ran.json()["environments"];
    assert_eq!((ran.code, &both["prod"]["state"]), (Some(3), &Value::from("complete")));
    assert_eq!(both["bad"]["fault"]["code"], "http.unreachable");
    let program = Program::new(&[("bad", &nobody()), ("worse", &nobody())], "t");
    assert_eq!(program.run("backup --all").await.code, Some(1), "none is usable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_of_one_environment_is_told_who_holds_it() {
    let sim = workspace().await;
    let program = Program::of(&sim);
    sim.add_fault(fault("/api/2.*/jobs/list", 1, 1, Effect::Delay { ms: 600_000 })).unwrap();
    let mut first = program.start("backup -o json");
    first.until("it to begin", || program.runs() == 1).await;
    let second = program.run("backup").await;
    second.refused(11, &["lock.held", &format!("process {}", first.id())]);
    first.until("it to go on meanwhile", || program.outcomes().len() > 1).await;
    sim.clear_faults();
    let ended = first.end().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!((program.runs(), program.manifests().len()), (1, 1));
    program.backup("", 0).await;
}

/// Every file below `root`, with its bytes.
pub(super) fn files(root: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    files
}

#[tokio::test]
async fn a_store_written_by_a_newer_version_is_left_alone() {
    let sim = workspace().await;
    let program = Program::of(&sim);
    program.backup("", 0).await;
    let identity = program.path("store/lakehold.json");
    let mut newer: Value = serde_json::from_slice(&std::fs::read(&identity).unwrap()).unwrap();
    newer["version"] = 999.into();
    std::fs::write(&identity, newer.to_string()).unwrap();
    let before = files(&program.path("store"));
    let calls = sim.calls().total;
    for typed in ["backup", "backup --resume", "init", "snapshots", "ls prod", "verify --all", "runs"] {
        program.run(typed).await.refused(1, &["store.newer-format", "version 999", "upgrade"]);
    }
    assert_eq!(files(&program.path("store")), before, "nothing was written");
    assert_eq!(sim.calls().total, calls, "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_nowhere_but_where_it_was_put() {
    const CANARY: &str = "canary-3f1e9b27c4d85a60-token";
    let sim = workspace().await;
    sim.identity(&IdentitySpec::admin(CANARY, "canary@example.com"));
    let program = Program::new(&[("prod", &sim.url(0))], CANARY);
    // A server that repeats it in its refusals.
    let refusal = Effect::Error {
        status: 403,
        error_code: "PERMISSION_DENIED".into(),
        message: format!("token {CANARY} may not"),
        shape: Shape::Standard,
        retry_after: None,
        reason: None,
    };
    sim.add_fault(fault("/api/2.1/clusters/list", 1, 1, refusal)).unwrap();
    let said = |ran: &Ran, what: &str| assert!(ran.err.contains(what), "{ran:#?}");
    let ran = program.run("-vv backup").await;
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    said(&ran, "run opened");
    for typed in ["--log trace backup -o json", "doctor", "config show", "runs", "status", "-vv verify --all"]
    {
        let ran = program.run(typed).await;
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    }
    program.token(&format!("{CANARY}-revoked"));
    program.run("--log trace backup").await.refused(7, &["http.unauthenticated"]);
    for (path, bytes) in files(program.dir.path()) {
        let there = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert_eq!(there, path == program.path("token"), "{}", path.display());
    }
}

/// A clock that is set back and forth; its ticks are the machine's.
#[derive(Debug)]
struct Moved {
    machine: SharedClock,
    by_hours: AtomicI64,
}

#[async_trait]
impl Clock for Moved {
    fn now(&self) -> Timestamp {
        self.machine.now() + SignedDuration::from_hours(self.by_hours.load(Ordering::Relaxed))
    }

    fn tick(&self) -> Tick {
        self.machine.tick()
    }

    async fn sleep(&self, duration: Duration) {
        self.machine.sleep(duration).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_keeps_the_order_of_snapshots() {
    let source = Synthetic::new(2, 2, 5);
    let site = Site::new(Arc::new(OneSource(Arc::clone(&source))));
    let clock = Arc::new(Moved { machine: SystemClock::shared(), by_hours: AtomicI64::new(0) });
    let latest: Address = "prod@latest".parse().unwrap();
    let mut before: Option<lakehold_proto::manifest::Manifest> = None;
    // Back by a day, by a month more, and forth again.
    for (turn, hours) in [0, -24, -750, -749, 3].into_iter().enumerate() {
        clock.by_hours.store(hours, Ordering::Relaxed);
        source.changed.lock().unwrap().insert("/root/file0".into(), Some("x".repeat(turn + 1)));
        let made = site.backup_with(site.engine_at(Arc::clone(&clock) as SharedClock), request()).await;
        let made = committed(made.unwrap());
        if let Some(before) = before {
            assert!(made.time > before.time, "{} is not behind {}", made.time, before.time);
            assert_eq!(made.base.as_ref().unwrap().snapshot, before.snapshot, "compared with the one before");
            assert_ne!(made.content_root, before.content_root);
        }
        let found = lakehold::snapshot::find::find(&*site.store, &latest).await.unwrap().manifest;
        assert_eq!(found.snapshot, made.snapshot, "the last one made is the latest");
        before = Some(made);
    }
    let listed = lakehold::snapshot::list(&*site.store, &prod()).await.unwrap();
    assert_eq!(listed.len(), 5);
    assert!(listed.is_sorted_by(|a, b| a.time < b.time));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_is_told_by_diff_and_is_no_difference() {
    let sim = workspace().await;
    let program = Program::of(&sim);
    let address = |ended: &Value| format!("prod@{}", ended["snapshot"].as_str().unwrap());
    let first = address(&program.backup("", 0).await);
    let idle = address(&program.backup("", 0).await);
    let ran = program.run(&format!("diff {first} {idle} --exit-code")).await;
    assert!(ran.code == Some(0) && ran.out.ends_with("\nno item differs\n"), "{ran:#?}");
    for path in ["/api/2.*/jobs/get", "/api/2.*/policies/clusters/list"] {
        sim.add_fault(fault(path, 1, 0, error(403, Shape::Standard))).unwrap();
    }
    let blind = address(&program.backup("", 3).await);
    for (from, to, side, policies) in [
        (&idle, &blind, "second", "captured -> forbidden"),
        (&blind, &idle, "first", "forbidden -> captured"),
        (&blind, &address(&program.backup("", 3).await), "both snapshots", "forbidden -> forbidden"),
    ] {
        let ran = program.run(&format!("diff {from} {to} --exit-code")).await;
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        for words in ["? job/", "object: unknown, a gap in ", side, policies, "no item is known to differ: "]
        {
            assert!(ran.out.contains(words), "it does not say {words:?}: {ran:#?}");
        }
        let told = program.run(&format!("diff {from} {to} -o json")).await.json();
        assert_eq!((&told["differs"], &told["unknown"]), (&false.into(), &true.into()), "{told:#}");
        let changes = told["changes"].as_array().unwrap();
        assert!(
            !changes.is_empty() && changes.iter().all(|c| c["kind"] == "job" && c["change"] == "gap"),
            "{told:#}"
        );
    }
    sim.clear_faults();
    let mutation = Mutation { kind: "job".into(), create: 0, edit: 1, delete: 1, seed: 1 };
    sim.mutate(0, &mutation).unwrap();
    let changed = address(&program.backup("", 0).await);
    let ran = program.run(&format!("diff {first} {changed} --exit-code")).await;
    assert_eq!(ran.code, Some(8), "{ran:#?}");
    assert!(ran.out.ends_with("\n1 changed, 1 removed\n"), "{ran:#?}");
}
