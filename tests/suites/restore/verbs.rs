//! The verbs around a restore, by the real command: drill, activate, undo, history, live comparison, saved plans; and a
//! restore whose processes are killed.

use lakehold_sim::{Effect, Fault, Mutation, Population, Sim, SimConfig, When};
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;
use lakehold_tests::program::{Program, Ran};
use serde_json::Value;

struct Scene {
    prod: Sim,
    dr: Sim,
    program: Program,
}

impl Scene {
    /// `prod` is backed up; `dr` is empty. `more` is put into the configuration of `dr`.
    async fn new(more: &str) -> Self {
        let counts =
            [("user", 3), ("group", 2), ("job", 8), ("notebook", 8), ("query", 3), ("instance_pool", 2)];
        let counts = counts.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect();
        let config = SimConfig { population: Population::Counts(counts), ..SimConfig::default() };
        let prod = Sim::start(config).await.unwrap();
        let empty = SimConfig { population: Population::Empty, seed: 7_700, ..SimConfig::default() };
        let dr = Sim::start(empty).await.unwrap();
        let program = Program::new(&[("prod", &prod.url(0)), ("dr", &dr.url(0))], prod.token());
        program.configure_more(&format!("    limits: {{factor: 50}}\n{more}"));
        let scene = Self { prod, dr, program };
        assert_eq!(scene.run("backup --env prod").await.code, Some(0));
        scene
    }

    async fn run(&self, typed: &str) -> Ran {
        self.program.run(typed).await
    }

    async fn json(&self, typed: &str, code: i32) -> Value {
        let ran = self.run(&format!("{typed} -o json")).await;
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        ran.json()
    }

    fn change_prod(&self) {
        let mutation = Mutation { kind: "job".into(), create: 1, edit: 1, delete: 1, seed: 3 };
        self.prod.mutate(0, &mutation).unwrap();
    }
}

#[tokio::test]
async fn a_plan_changes_nothing_and_is_carried_out_as_it_was_read() {
    let scene = Scene::new("").await;
    let plan = scene.json("restore prod --to dr --out plan.json", 0).await;
    assert_eq!(plan["schema"], "lakehold.restore-plan/v1");
    assert!(plan["summary"]["create"].as_u64().unwrap() > 20, "{}", plan["summary"]);
    assert_eq!(scene.run("restore prod --to dr --exit-code -q").await.code, Some(8));
    // Nobody is there to be asked.
    scene.run("restore apply plan.json").await.refused(2, &["restore.unconfirmed", "--yes"]);
    let done = scene.json("restore apply plan.json --yes", 0).await;
    assert_eq!((done["failed"].as_u64(), done["state"].as_str()), (Some(0), Some("complete")));
    scene.run("restore apply plan.json --yes").await.refused(1, &["restore.moved", "plan again"]);
    assert_eq!(scene.run("restore prod --to dr --exit-code -q").await.code, Some(0));
    let text = std::fs::read_to_string(scene.program.path("plan.json")).unwrap();
    std::fs::write(scene.program.path("plan.json"), text.replace("\"create\"", "\"replace\"")).unwrap();
    scene.run("restore apply plan.json --yes").await.refused(2, &["restore.plan"]);
    let verified = scene.run("verify --all").await;
    assert_eq!(verified.code, Some(0), "{verified:#?}");
    assert!(!verified.out.contains("not Lakehold's"), "{verified:#?}");
}

#[tokio::test]
async fn an_environment_is_changed_only_with_the_word_it_wants() {
    let scene = Scene::new("    protection: typed-name\n").await;
    let apply = "restore prod --to dr --item job/#1 --kind job --apply";
    scene.run(&format!("{apply} --yes")).await.refused(2, &["restore.nothing", "job/#1"]);
    let apply = "restore prod --to dr --kind instance_pool --apply";
    scene.run(&format!("{apply} --yes")).await.refused(2, &["restore.unconfirmed", "--confirm dr"]);
    scene.run(&format!("{apply} --confirm prod")).await.refused(2, &["restore.unconfirmed"]);
    let done = scene.run(&format!("{apply} --confirm dr")).await;
    assert_eq!(done.code, Some(0), "{done:#?}");
    scene.run("restore prod --to nowhere").await.refused(2, &["environment.unknown", "known: dr, prod"]);
}

#[tokio::test]
async fn what_a_passive_restore_held_is_let_go_and_taken_back() {
    let scene = Scene::new("    protection: none\n").await;
    assert_eq!(scene.run("restore prod --to dr --apply").await.code, Some(0));
    let passive = scene.json("diff prod live:dr", 0).await;
    let changed = passive["changes"].as_array().unwrap();
    assert!(!changed.is_empty() && changed.iter().all(|change| change["change"] == "changed"), "{changed:?}");
    let plan = scene.json("activate dr", 0).await;
    assert_eq!(plan["summary"]["replace"].as_u64(), Some(changed.len() as u64));
    assert_eq!(scene.run("activate dr --apply").await.code, Some(0));
    let active = scene.json("diff prod live:dr --exit-code", 0).await;
    assert_eq!(active["differs"], false, "{active:#}");
    // The latest that stands is the activation, and below it the restore.
    assert_eq!(scene.run("restore undo dr --apply").await.code, Some(0));
    let held = scene.json("diff prod live:dr", 0).await;
    assert_eq!(held["changes"].as_array().unwrap().len(), changed.len());
    assert_eq!(scene.run("restore undo dr --apply").await.code, Some(0));
    let gone = scene.json("diff prod live:dr", 0).await;
    assert!(
        gone["changes"].as_array().unwrap().iter().all(|change| change["change"] == "removed"),
        "{gone:#}"
    );
}

#[tokio::test]
async fn a_drill_proves_a_snapshot_and_leaves_nothing_behind() {
    let scene = Scene::new("    protection: none\n").await;
    assert_eq!(scene.run("backup --env dr").await.code, Some(0));
    let drill = scene.json("drill prod --to dr", 0).await;
    assert_eq!(
        (&drill["differing"], &drill["failed"], &drill["cleaned"]),
        (&0.into(), &0.into(), &true.into())
    );
    assert!(drill["planned"]["create"].as_u64().unwrap() > 20);
    let after = scene.json("diff dr live:dr --exit-code", 0).await;
    assert_eq!(after["differs"], false, "{after:#}");
    let status = scene.json("status --env prod", 0).await;
    assert_eq!(status["environments"][0]["proved"]["proof"], true, "{status:#}");
    // A workspace is no sandbox of its own.
    scene.run("drill prod --to prod --yes").await.refused(2, &["drill.same"]);
    // What does not come back is no proof, and the sandbox is cleaned up all the same.
    let effect = Effect::Error {
        status: 400,
        error_code: "QUOTA_EXCEEDED".into(),
        message: "the quota of jobs is used up".into(),
        shape: lakehold_sim::Shape::default(),
        retry_after: None,
        reason: None,
    };
    let path = Some("/api/2.2/jobs/create".into());
    let fault = Fault {
        method: None,
        path,
        query: None,
        workspace: None,
        nth: 3,
        times: 0,
        when: When::Before,
        effect,
    };
    scene.dr.add_fault(fault).unwrap();
    let failed = scene.json("drill prod --to dr", 1).await;
    assert!(
        failed["differing"].as_u64().unwrap() >= 5 && failed["failed"].as_u64().unwrap() >= 5,
        "{failed:#}"
    );
    assert_eq!(failed["cleaned"], true, "{failed:#}");
    scene.dr.clear_faults();
    let after = scene.json("diff dr live:dr --exit-code", 0).await;
    assert_eq!(after["differs"], false, "{after:#}");
}

#[tokio::test]
async fn every_version_of_an_item_is_told() {
    let scene = Scene::new("").await;
    scene.change_prod();
    let now = scene.json("diff prod live:prod", 0).await;
    let changed = |word: &str| {
        let all = now["changes"].as_array().unwrap().iter();
        all.filter(|change| change["change"] == word).cloned().collect::<Vec<_>>()
    };
    assert_eq!((changed("added").len(), changed("changed").len(), changed("removed").len()), (1, 1, 1));
    assert_eq!(scene.run("backup --env prod").await.code, Some(0));
    let history = async |change: &Value, code| {
        let key = change["key"].as_str().unwrap();
        scene.json(&format!("history prod job/#{key}"), code).await
    };
    let words = |history: &Value| {
        let versions = history["versions"].as_array().unwrap().iter();
        versions.map(|version| version["change"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let edited = history(&changed("changed")[0], 0).await;
    assert_eq!(words(&edited), ["added", "changed"]);
    assert_eq!(edited["versions"][1]["fields"][0]["path"], "settings.timeout_seconds");
    assert_eq!(words(&history(&changed("removed")[0], 0).await), ["added", "removed"]);
    assert_eq!(words(&history(&changed("added")[0], 0).await), ["added"]);
    scene.run("history prod job/none-such").await.refused(1, &["item.absent"]);
}

#[tokio::test]
async fn ten_looks_at_an_idle_workspace_show_no_difference() {
    let scene = Scene::new("").await;
    for _ in 0..10 {
        let idle = scene.json("diff prod live:prod --exit-code", 0).await;
        assert_eq!((&idle["differs"], &idle["unknown"]), (&false.into(), &false.into()), "{idle:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_on_a_fleet_ends_whatever_is_killed() {
    let (rabbit, redis) = tokio::join!(Rabbit::start(), Redis::start(&[]));
    let scene = Scene::new("    protection: none\n").await;
    let queue = scene.program.path("queue");
    std::fs::write(&queue, rabbit.url()).unwrap();
    scene.program.configure_more(&format!("queue: \"file:{}\"\nredis: {}\n", queue.display(), redis.url()));
    let slots = ["--slots", "4"];
    let (mut first, mut second) = (scene.program.worker(&slots), scene.program.worker(&slots));
    first.says("serving").await;
    second.says("serving").await;
    // The workspace stands still in the midst of it: whoever waits is killed.
    let fault = Fault {
        method: Some("POST".into()),
        path: Some("/api/2.2/jobs/create".into()),
        query: None,
        workspace: None,
        nth: 3,
        times: 1,
        when: When::After,
        effect: Effect::Delay { ms: 600_000 },
    };
    scene.dr.add_fault(fault).unwrap();
    let mut restoring = scene.program.start("restore prod --to dr --active --apply -o json");
    restoring.until("it stands still", || scene.dr.faults_fired() > 0).await;
    restoring.kill();
    first.kill();
    second.kill();
    redis.cli(&["flushall"]);
    scene.dr.clear_faults();
    let mut third = scene.program.worker(&slots);
    third.says("serving").await;
    let done = scene.json("restore prod --to dr --active --apply --resume", 0).await;
    assert_eq!((done["failed"].as_u64(), done["state"].as_str()), (Some(0), Some("complete")), "{done:#}");
    let same = scene.json("diff prod live:dr --exit-code", 0).await;
    assert_eq!(same["differs"], false, "nothing is missing, and nothing is there twice: {same:#}");
    third.terminate();
    assert_eq!(third.end().await.code, Some(0));
}

/// Where a restore is killed: the step, and which pass of it. The look at the target passes most of them before.
const DEATHS: [(&str, u32); 14] = [
    ("worker.after-create", 1),
    ("worker.after-create", 9),
    ("worker.after-create", 20),
    ("worker.after-made", 1),
    ("worker.after-made", 14),
    ("worker.mid-export", 60),
    ("worker.before-outcome", 32),
    ("worker.after-outcome", 36),
    ("worker.before-acknowledge", 34),
    ("coordinator.before-plan", 2),
    ("coordinator.after-plan", 2),
    ("coordinator.before-manifest", 2),
    ("coordinator.after-manifest", 2),
    ("coordinator.before-report", 2),
];

#[tokio::test]
async fn whoever_dies_at_whichever_step_nothing_is_made_twice() {
    for (point, pass) in DEATHS {
        let scene = Scene::new("    protection: none\n").await;
        scene.program.variable("LAKEHOLD_KILL", &format!("{point}:{pass}"));
        let died = scene.run("restore prod --to dr --active --apply").await;
        assert_eq!(died.code, None, "it did not pass {point} so often: {died:#?}");
        scene.program.without("LAKEHOLD_KILL");
        let resumed = scene.run("restore prod --to dr --active --apply --resume").await;
        // Who died before the plan was written, or behind the record, left nothing to go on with.
        if resumed.code != Some(0) {
            resumed.refused(1, &["run.nothing-to-resume"]);
            let again = scene.run("restore prod --to dr --active --apply").await;
            assert_eq!(again.code, Some(0), "{point}: {again:#?}");
        }
        let same = scene.json("diff prod live:dr --exit-code", 0).await;
        assert_eq!(same["differs"], false, "{point}: {same:#}");
    }
}

#[tokio::test]
async fn the_same_workspace_under_another_name_is_the_same_workspace() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let program = Program::new(&[("prod", &sim.url(0)), ("twin", &sim.url(0))], sim.token());
    assert_eq!(program.run("backup --env prod").await.code, Some(0));
    let plan = program.run("restore prod --to twin --exit-code -o json").await;
    assert_eq!(plan.code, Some(0), "{plan:#?}");
    let summary = plan.json()["summary"].clone();
    assert!(
        summary["unchanged"].as_u64().unwrap() > 20 && summary["shared"].as_u64().unwrap() > 5,
        "{summary}"
    );
    let mutation = Mutation { kind: "job".into(), create: 0, edit: 1, delete: 1, seed: 3 };
    sim.mutate(0, &mutation).unwrap();
    // By its key one is changed back; the other is made again.
    let done = program.run("restore prod --to twin --apply --yes -o json").await;
    assert_eq!(done.code, Some(0), "{done:#?}");
    let planned = &done.json()["planned"];
    assert_eq!(
        (&planned["replace"], &planned["create"], &planned["adopt"]),
        (&1.into(), &1.into(), &0.into())
    );
}
