//! Answers that are none, names that mean harm, disks that are full and bytes that rot, with the real binary: nothing is
//! lost without being told, and nothing outside the store is touched.

use std::collections::BTreeMap;

use lakehold_sim::{Effect, IdentitySpec, Population, Shape, Sim, SimConfig};
use lakehold_tests::program::{Program, Ran};
use lakehold_tests::small::Small;
use serde_json::Value;

use super::usage::{error, fault, files};

async fn workspace(items: usize) -> Sim {
    Sim::start(SimConfig { population: Population::Items(items), ..SimConfig::default() }).await.unwrap()
}

/// The kinds of a backup, by name.
fn kinds(ended: &Value) -> BTreeMap<String, Value> {
    let kinds = ended["kinds"].as_array().unwrap_or_else(|| panic!("nothing was committed: {ended:#}"));
    kinds.iter().map(|kind| (kind["kind"].as_str().unwrap().to_owned(), kind.clone())).collect()
}

/// Every kind but those `hurt` is as in the undisturbed backup.
#[track_caller]
fn nothing_else_is_lost(whole: &Value, ended: &Value, hurt: &[&str]) {
    let (whole, ended) = (kinds(whole), kinds(ended));
    assert_eq!(whole.len(), ended.len());
    for (name, kind) in whole.iter().filter(|(name, _)| !hurt.contains(&name.as_str())) {
        let now = &ended[name];
        for field in ["standing", "items", "gaps", "unlisted"] {
            assert_eq!(now[field], kind[field], "{field} of {name}: {now:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_answers_that_pass_leave_no_trace() {
    let sim = workspace(60).await;
    let whole = Program::of(&sim).backup("", 0).await;
    let broken = [
        ("/api/2.1/clusters/list", Effect::NotJson),
        ("/api/2.*/jobs/list", Effect::Truncate { keep: 20, honest_length: false }),
        ("/api/2.*/policies/clusters/list", Effect::Truncate { keep: 20, honest_length: true }),
        ("/api/2.*/instance-pools/list", Effect::Reset),
        ("/api/2.*/workspace/list", Effect::Truncate { keep: 9, honest_length: true }),
        ("/api/2.*/workspace/export", Effect::Truncate { keep: 5, honest_length: false }),
        ("/api/2.*/global-init-scripts", error(503, Shape::Html)),
        ("/api/2.*/permissions/jobs/*", error(500, Shape::Empty)),
        ("/api/2.*/preview/scim/v2/Groups", error(504, Shape::Text)),
        ("/api/2.*/secrets/scopes/list", Effect::Huge { bytes: 100_000_000 }),
    ];
    for (path, effect) in &broken {
        sim.add_fault(fault(path, 1, 1, effect.clone())).unwrap();
    }
    sim.reset_calls();
    let program = Program::of(&sim);
    let ended = program.backup("", 0).await;
    assert_eq!(ended["content_root"], whole["content_root"]);
    let retried: u64 =
        ended["figures"]["calls"].as_object().unwrap().values().map(|c| c["retried"].as_u64().unwrap()).sum();
    // The one that is a whole answer, and yet no list, costs its task another attempt instead.
    assert!(retried >= broken.len() as u64 - 1, "{retried} calls were sent again: {ended:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_answers_that_stay_are_gaps_and_hurt_nothing_else() {
    let sim = workspace(60).await;
    let whole = Program::of(&sim).backup("", 0).await;
    let lasting = [
        ("/api/2.*/policies/clusters/list", error(200, Shape::Login)),
        ("/api/2.*/instance-pools/list", Effect::Huge { bytes: 100_000_000 }),
        ("/api/2.*/global-init-scripts/*", error(400, Shape::Standard)),
    ];
    for (path, effect) in lasting {
        sim.add_fault(fault(path, 1, 0, effect)).unwrap();
    }
    let program = Program::of(&sim);
    let ended = program.backup("", 3).await;
    assert_eq!(ended["state"], "partial");
    let now = kinds(&ended);
    for (kind, code) in [("cluster_policy", "http.login-page"), ("instance_pool", "http.not-a-list")] {
        assert_eq!(now[kind]["standing"], "failed", "{:#}", now[kind]);
        assert_eq!(now[kind]["fault"]["code"], code, "{:#}", now[kind]);
    }
    let scripts = &now["global_init_script"];
    assert!(scripts["items"].as_u64() > Some(0), "the list was read: {scripts:#}");
    assert_eq!(scripts["gaps"], scripts["items"], "and no body: {scripts:#}");
    nothing_else_is_lost(&whole, &ended, &["cluster_policy", "instance_pool", "global_init_script"]);
    let table = program.run("ls prod --gaps -o json").await.json();
    let gaps = table["items"].as_array().unwrap();
    assert_eq!(gaps.len() as u64, scripts["gaps"].as_u64().unwrap());
    assert!(gaps.iter().all(|item| item["gaps"][0]["fault"]["http"]["status"] == 400), "{gaps:#?}");
    // Back again: nothing was taken for deleted.
    sim.clear_faults();
    let healed = program.backup("", 0).await;
    assert_eq!(healed["content_root"], whole["content_root"]);
    assert_eq!(healed["totals"]["gone"], 0);
}

/// A server that refuses once, and asks for a pause: time for the test to change what comes after it.
fn pause_at(sim: &Sim, path: &str) {
    let busy = Effect::Error {
        status: 503,
        error_code: "TEMPORARILY_UNAVAILABLE".into(),
        message: "wait".into(),
        shape: Shape::Standard,
        retry_after: Some(4),
        reason: None,
    };
    sim.add_fault(fault(path, 1, 1, busy)).unwrap();
}

fn asked(sim: &Sim, path: &str) -> u64 {
    sim.calls().count(|call| call.path.ends_with(path))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_revoked_in_mid_run_is_named() {
    let sim = workspace(60).await;
    let me = IdentitySpec::admin("me", "me@example.com");
    sim.identity(&me);
    let program = Program::new(&[("prod", &sim.url(0))], "me");
    let whole = Program::new(&[("prod", &sim.url(0))], "me").backup("", 0).await;
    pause_at(&sim, "/api/2.*/jobs/list");
    sim.reset_calls();
    let mut run = program.start("backup -o json");
    run.until("jobs to be listed", || asked(&sim, "/jobs/list") > 0).await;
    sim.identity(&IdentitySpec { denied: vec!["jobs".into()], ..me.clone() });
    let ran = run.end().await;
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    let ended = &ran.json()["environments"]["prod"];
    let job = &kinds(ended)["job"];
    assert_eq!(job["standing"], "forbidden", "{job:#}");
    assert!(job["permission"].as_str().is_some_and(|named| !named.is_empty()), "{job:#}");
    assert_eq!(job["fault"]["http"]["code"], "PERMISSION_DENIED", "{job:#}");
    nothing_else_is_lost(&whole, ended, &["job"]);
    let listed = program.run("ls prod").await;
    assert!(listed.err.contains("job is not in this snapshot: forbidden"), "{listed:#?}");
    sim.identity(&me);
    let healed = program.backup("", 0).await;
    assert_eq!(healed["content_root"], whole["content_root"]);
    assert_eq!(healed["totals"]["gone"], 0, "what could not be seen was not taken for deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_who_is_no_admin_is_shown_is_told_to_be_less() {
    let sim = workspace(60).await;
    let clerk = IdentitySpec {
        admin: false,
        visible_percent: 50,
        ..IdentitySpec::admin("clerk", "clerk@example.com")
    };
    sim.identity(&clerk);
    let whole = Program::of(&sim).backup("", 0).await;
    let program = Program::new(&[("prod", &sim.url(0))], "clerk");
    let ran = program.run("backup").await;
    assert!(matches!(ran.code, Some(0 | 3)), "{ran:#?}");
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("warning: clerk@example.com is not a workspace admin"), "{ran:#?}");
    let manifests = program.manifests();
    let manifest: Value = serde_json::from_slice(&std::fs::read(&manifests[0]).unwrap()).unwrap();
    assert_eq!(manifest["probe"]["identity"]["name"], "clerk@example.com");
    assert_eq!(manifest["probe"]["identity"]["admin"], false);
    let items = |kinds: &Value| {
        kinds.as_array().unwrap().iter().map(|kind| kind["items"].as_u64().unwrap()).sum::<u64>()
    };
    assert!(items(&manifest["kinds"]) < items(&whole["kinds"]), "lists do leave out what it may not see");
    let listed = program.run("snapshots").await;
    assert!(
        listed.out.contains("not as admin") && listed.err.contains("is not a workspace admin"),
        "{listed:#?}"
    );
    let listed = program.run("snapshots -o json").await.json();
    assert_eq!(listed["snapshots"][0]["asked_as"]["admin"], false, "{listed:#}");
    assert!(!listed["snapshots"][0]["warnings"].as_array().unwrap().is_empty());
    let doctor = program.run("doctor").await;
    assert!(doctor.out.contains("asked as clerk@example.com (not an admin)"), "{doctor:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_mid_run_is_a_failure_and_no_missing_right() {
    let sim = workspace(60).await;
    let me = IdentitySpec::admin("me", "me@example.com");
    sim.identity(&me);
    let program = Program::new(&[("prod", &sim.url(0))], "me");
    let whole = Program::new(&[("prod", &sim.url(0))], "me").backup("", 0).await;
    pause_at(&sim, "/api/2.*/jobs/list");
    let mut run = program.start("backup -o json");
    run.until("some to have settled", || program.outcomes().len() >= 3).await;
    sim.identity(&IdentitySpec { expires_at_ms: Some(1), ..me.clone() });
    let ran = run.end().await;
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    let ended = &ran.json()["environments"]["prod"];
    let (before, now) = (kinds(&whole), kinds(ended));
    let job = &now["job"];
    assert_eq!(job["standing"], "failed", "{job:#}");
    assert_eq!(job["fault"]["code"], "http.unauthenticated", "{job:#}");
    assert_eq!(job["permission"], Value::Null, "no right is missing: {job:#}");
    for (name, kind) in &now {
        let told = kind["unlisted"].as_u64() > Some(0);
        assert!(told || kind["items"] == before[name]["items"], "{name} is silently short: {kind:#}");
    }
    sim.identity(&me);
    let healed = program.backup("", 0).await;
    assert_eq!(
        (&healed["content_root"], &healed["totals"]["gone"]),
        (&whole["content_root"], &Value::from(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_and_bodies_are_kept_and_harm_nobody() {
    let hostile = SimConfig { hostile: true, population: Population::Items(200), ..SimConfig::default() };
    let sim = Sim::start(hostile).await.unwrap();
    let program = Program::of(&sim);
    let around = || {
        let entries = std::fs::read_dir(program.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.filter_map(|name| name.into_string().ok()).collect();
        names.retain(|name| !name.starts_with("out-") && !name.starts_with("err-"));
        names.sort();
        names
    };
    let ended = program.backup("", 3).await;
    assert_eq!(around(), ["lakehold.yaml", "store", "token"], "nothing is written beside the store");
    for path in files(&program.path("store")).keys() {
        let key = path.strip_prefix(program.path("store")).unwrap().to_str().unwrap();
        assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.=-".contains(&b)), "{key:?}");
        assert!(!key.contains(".."), "{key:?}");
    }

    let gaps = program.run("ls prod --gaps -o json").await.json();
    let gaps: Vec<_> = gaps["items"].as_array().unwrap().iter().map(gap).collect();
    assert_eq!(gaps, EXPECTED, "of {:#}", ended["totals"]);
    assert_eq!(ended["totals"]["unlisted"], 0, "every slice was listed: {ended:#}");

    let listed = program.run("ls prod -o json").await.json();
    let items = listed["items"].as_array().unwrap();
    let names = |kind: &str| -> Vec<&str> {
        let of = items.iter().filter(|item| item["kind"] == kind);
        of.map(|item| item["name"].as_str().unwrap()).collect()
    };
    let notebooks = names("notebook");
    for piece in [
        "nul\0byte",
        "\u{202e}gnp.exe",
        "🔥",
        "caf\u{e9}",
        "cafe\u{301}",
        "CAF\u{c9}",
        "/....d/...",
        "%2F %00",
    ] {
        assert!(notebooks.iter().any(|name| name.contains(piece)), "{piece:?} is not listed");
    }
    assert!(notebooks.iter().any(|name| name.split('/').any(|segment| segment.len() > 4000)));
    assert!(names("job").contains(&"../../../etc/passwd"));

    every_item_can_be_addressed(&program, items).await;
    let verified = program.run("verify prod").await;
    assert_eq!(verified.code, Some(0), "{verified:#?}");
    let again = program.backup("", 3).await;
    assert_eq!(again["content_root"], ended["content_root"]);
    assert_eq!(again["figures"]["packs"], 0, "{again:#}");
    assert_eq!([&again["totals"]["new"], &again["totals"]["changed"], &again["totals"]["gone"]], [0, 0, 0]);
}

/// What `ls -o name` writes is an address; a bare name is one unless it fits several, which are then told.
async fn every_item_can_be_addressed(program: &Program, items: &[Value]) {
    let mut named: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for item in items {
        let [kind, name, key] = ["kind", "name", "key"].map(|field| item[field].as_str().unwrap());
        named.entry((kind, name)).or_default().push(key);
    }
    let jobs: Vec<_> = named.iter().filter(|((kind, _), keys)| *kind == "job" && keys.len() > 1).collect();
    assert_eq!(jobs.len(), 12, "each hostile name of a job stands twice: {jobs:?}");
    let addresses = program.run("ls prod -o name").await.out;
    let addresses: Vec<&str> = addresses.lines().collect();
    assert_eq!(addresses.len(), items.len(), "one line each");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.@".contains(c);
    for (item, address) in items.iter().zip(addresses) {
        let [kind, name, key] = ["kind", "name", "key"].map(|field| item[field].as_str().unwrap());
        let twins = &named[&(kind, name)];
        if name.chars().all(plain) && name.len() < 1000 && !name.contains("..") && twins.len() == 1 {
            continue;
        }
        let is_this = |ran: Ran| {
            assert_eq!(ran.code, Some(0), "{ran:#?}");
            let shown = ran.json();
            let of = ["kind", "name", "key"].map(|field| shown[field].as_str().unwrap().to_owned());
            assert_eq!(of, [kind, name, key], "{address}");
            assert!(shown["object"].is_object(), "{shown:#}");
        };
        is_this(program.start_words(&["show", address, "-o", "json"]).end().await);
        let quoted = |which: &str| Value::from(format!("prod:{kind}/{which}")).to_string();
        is_this(program.start_words(&["show", &quoted(&format!("{name}#{key}")), "-o", "json"]).end().await);
        let bare = program.start_words(&["show", &quoted(name), "-o", "json"]).end().await;
        if twins.len() == 1 {
            is_this(bare);
            continue;
        }
        let keys: Vec<_> = twins.iter().map(|key| format!("#{key}")).collect();
        let words: Vec<_> = ["item.ambiguous"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        bare.refused(2, &words);
        // For people: nothing that a name holds reaches the terminal.
        let shown = program.start_words(&["show", address]).end().await;
        let harms = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(shown.code == Some(0) && !shown.out.contains(harms), "{shown:#?}");
    }
}

/// The gaps of a hostile population, sorted as `ls` lists them.
const EXPECTED: &[(&str, &str, &str)] = &[("notebook", "/Shared/hostile/source-of-11-MB", "http.too-large")];

fn gap(item: &Value) -> (&str, &str, &str) {
    (
        item["kind"].as_str().unwrap(),
        item["name"].as_str().unwrap(),
        item["gaps"][0]["fault"]["code"].as_str().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_run_and_loses_nothing() {
    let sim = workspace(200).await;
    let whole = Program::of(&sim).backup("", 0).await;
    for kilobytes in [200, 400] {
        let program = Program::of(&sim);
        let Some(disk) = Small::at(program.path("store"), kilobytes) else {
            eprintln!("no file system can be mounted here: a full store is only tried in the suite `engine`");
            return;
        };
        let ran = program.run("backup").await;
        ran.refused(1, &["store.full", "No space left", "make room", "nothing is lost", "--resume"]);
        assert!(program.manifests().is_empty());
        disk.grow(64 * 1024);
        let ended = program.backup(if program.runs() == 1 { "--resume" } else { "" }, 0).await;
        assert_eq!(ended["content_root"], whole["content_root"]);
        let verified = program.run("verify --all").await;
        assert_eq!(verified.code, Some(0), "{verified:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_the_items_it_hurts_are_named() {
    let sim = workspace(60).await;
    let program = Program::of(&sim);
    let whole = program.backup("", 0).await;
    let sound = program.run("verify --all -o json").await;
    assert_eq!((sound.code, sound.json()["sound"].clone()), (Some(0), Value::from(true)));
    let all = files(&program.path("store"));
    let largest = |folder: &str| {
        let inside = all.iter().filter(|(path, _)| path.starts_with(program.path("store").join(folder)));
        let (path, bytes) = inside.max_by_key(|(_, bytes)| bytes.len()).unwrap();
        (path.clone(), bytes.clone())
    };
    type Harm = fn(&mut Vec<u8>);
    let harms: [(&str, Harm); 4] = [
        ("packs", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
        ("packs", |bytes| bytes.truncate(10)),
        ("packs", Vec::clear),
        ("indexes", |bytes| {
            let last = bytes.len() - 1;
            bytes[last] ^= 0x80;
        }),
    ];
    for (folder, harm) in harms {
        let (path, before) = largest(folder);
        let mut bytes = before.clone();
        harm(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let ran = program.run("verify --all -o json").await;
        assert_eq!(ran.code, Some(5), "{ran:#?}");
        let found = ran.json();
        assert_eq!(
            (&found["sound"], &found["snapshots"][0]["sound"]),
            (&Value::from(false), &Value::from(false))
        );
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(found["damage"][0]["object"].as_str().unwrap().contains(name), "{found:#}");
        if folder == "packs" {
            assert!(found["items_hurt"].as_u64() > Some(0), "{found:#}");
            let hurt = &found["items"][0];
            let said = program.run("verify prod").await;
            said.refused(5, &[hurt["name"].as_str().unwrap(), "hurt", "DAMAGED"]);
            let address =
                format!("prod:{}/#{}", hurt["kind"].as_str().unwrap(), hurt["key"].as_str().unwrap());
            let content = hurt["parts"][0] == "content";
            let words: &[&str] =
                if content { &["show", &address, "--content"] } else { &["show", &address, "--raw"] };
            let shown = program.start_words(words).end().await;
            assert!(shown.code == Some(5) || hurt["parts"][0] == "permissions", "{shown:#?}");
        }
        std::fs::write(&path, &before).unwrap();
    }
    // A pack that is gone, and a backup that fetches everything again heals it.
    let (path, _) = largest("packs");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(program.run("verify --all").await.code, Some(5));
    let healed = program.backup("--full", 0).await;
    assert_eq!(healed["content_root"], whole["content_root"]);
    assert_eq!(program.run("verify prod@latest").await.code, Some(0));
}
