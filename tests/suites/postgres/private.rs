//! A server of our own, for a drill or a sandbox: what it proves, and that nothing of it is left, whoever is killed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use lakehold_tests::component::postgres::Postgres;
use lakehold_tests::program::{Program, Running, until};
use serde_json::Value;
use tempfile::TempDir;

use super::restore::{can_read_whole, databases, does, equipped, hurt, program, running};

/// A server that is backed up, and a place for private ones.
struct Scene {
    server: Postgres,
    program: Program,
    place: TempDir,
}

impl Scene {
    async fn new() -> Self {
        Self::of(equipped().await).await
    }

    async fn of(server: Postgres) -> Self {
        let (program, place) = (program(&server, &server), TempDir::new().unwrap());
        // The server's user must come to what is in it.
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        program.variable("TMPDIR", place.path().to_str().unwrap());
        does(&program, "backup --env shop").await;
        Self { server, program, place }
    }

    /// Starts a shell's line in a private sandbox, and waits until it has made the file `$0`.
    async fn rehearse(&self, line: &str) -> Running {
        let ready = self.ready();
        let words = ["sandbox", "shop", "--database", "shop", "--private", "--", "sh", "-c", line, &ready];
        let mut running = self.program.start_words(&words);
        running.until("the command runs", || Path::new(&ready).exists()).await;
        running
    }

    fn ready(&self) -> String {
        self.program.path("ready").display().to_string()
    }

    /// The hooks of `shop` from now on.
    fn hook(&self, hooks: &str) {
        let path = self.program.path("lakehold.yaml");
        let config = std::fs::read_to_string(&path).unwrap();
        let config = config.replacen("'}", &format!("', hooks: {{verify: {hooks}}}}}"), 1);
        std::fs::write(path, config).unwrap();
    }

    /// Whether there is a process that came of a private server or a command, or a folder.
    fn is_anything_left(&self) -> bool {
        self.lives(&self.ready()) || self.lives(self.place.path().to_str().unwrap()) || self.folders() > 0
    }

    /// Whether a process has this in its arguments, or works in a private server's folder.
    fn lives(&self, word: &str) -> bool {
        let works_there = |process: std::fs::DirEntry| {
            let folder = std::fs::read_link(process.path().join("cwd"));
            folder.is_ok_and(|folder| folder.starts_with(self.place.path()))
        };
        !running(&[word]).is_empty() || std::fs::read_dir("/proc").unwrap().flatten().any(works_there)
    }

    fn makes_cluster(&self) -> bool {
        let mut folders = std::fs::read_dir(self.place.path()).unwrap().flatten();
        folders.any(|folder| folder.path().join("data").exists())
    }

    fn folders(&self) -> usize {
        std::fs::read_dir(self.place.path()).unwrap().count()
    }

    async fn nothing_is_left(&self) {
        until("nothing to be left", || !self.is_anything_left()).await;
        assert_eq!(databases(&self.server), ["postgres", "shop"]);
    }

    fn has_our_version(&self, report: &Value) -> bool {
        let ours = self.server.sql("postgres", "show server_version");
        let number = |version: &str| version.split(' ').next().unwrap().to_owned();
        number(report["private"]["version"].as_str().unwrap()) == number(&ours)
    }

    fn guard(&self) -> u32 {
        let guards = running(&["guard", "--leash", self.place.path().to_str().unwrap()]);
        assert_eq!(guards.len(), 1, "{guards:?}");
        guards[0]
    }
}

fn kill(process: u32) {
    let sent = Command::new("kill").args(["-s", "KILL", &process.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_on_a_server_of_its_own_proves_roles_too() {
    let server = equipped().await;
    let folder = server.server.dir.path().join("fast").display().to_string();
    server.sql("postgres", &format!("copy (select 1) to program 'mkdir {folder}'"));
    server.sql("postgres", &format!("create tablespace fast location '{folder}'"));
    server
        .sql("shop", "create table quick (a int primary key) tablespace fast; insert into quick values (1)");
    let scene = Scene::of(server).await;
    // What the environment says of servers is not for the hooks.
    for (name, value) in [("PGHOSTADDR", "192.0.2.1"), ("PGPORT", "1"), ("PGSERVICE", "none")] {
        scene.program.variable(name, value);
    }
    scene.hook(
        "{sql: {shop: ['select count(*) = 50 from public.husband']}, command: [sh, -c, \
         'test \"$(psql -XAtq \"$DATABASE_URL\" -c \"select 1\")$(psql -XAtq -c \"select 1\")\" = 11']}",
    );
    let report = does(&scene.program, "drill shop --private -o json").await.json();
    assert_eq!(
        (&report["failed"], &report["differing"], &report["planned"]["blocked"], &report["cleaned"]),
        (&0.into(), &0.into(), &0.into(), &true.into()),
        "{report:#}"
    );
    assert!(scene.has_our_version(&report), "{report:#}");
    assert_eq!(report["sandbox"], "private");
    let untried = report["private"]["untried"].as_array().unwrap();
    assert!(untried.len() == 1 && untried[0].as_str().unwrap().starts_with("1 tablespace"), "{report:#}");
    let evidence = report["evidence"].as_array().unwrap();
    let evidence = evidence.iter().find(|told| told["item"] == "database/shop").unwrap();
    let asked = evidence["asked"].as_array().unwrap().len();
    assert_eq!((&evidence["read_whole"], asked), (&can_read_whole(&scene.server).into(), 2));
    // app, readers, postgres; two databases with their tables.
    assert!(report["planned"]["create"].as_u64().unwrap() > 20, "{report:#}");
    scene.nothing_is_left().await;
    // The report is kept; what the run wrote down is not.
    let status = does(&scene.program, "status -o json").await;
    assert!(status.out.contains("\"proof\": true"), "{status:#?}");
    let listed = does(&scene.program, "snapshots -o json").await;
    assert!(!listed.out.contains("private"), "{listed:#?}");
    let told = does(&scene.program, "drill shop --private").await;
    let where_it_was = format!("in a private server of PostgreSQL {}", scene.server.major());
    for words in [&*where_it_was, "proved", "1 tablespace", "cleaned up"] {
        assert!(told.out.contains(words), "{words}: {told:#?}");
    }
    assert!(told.err.contains(scene.place.path().to_str().unwrap()), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_is_told_and_nothing_is_left_of_it() {
    let scene = Scene::new().await;
    let (pack, whole) = hurt(&scene.program);
    let failed = scene.program.run("drill shop --private").await;
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    assert!(failed.out.contains("NOT PROVED") && failed.out.contains("cleaned up"), "{failed:#?}");
    scene.nothing_is_left().await;
    std::fs::write(pack, whole).unwrap();
    scene.hook("{sql: {shop: ['select count(*) = 51 from public.husband']}}");
    let failed = scene.program.run("drill shop --private").await;
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    assert!(failed.out.contains("it says false"), "{failed:#?}");
    scene.nothing_is_left().await;

    let both = scene.program.run("drill shop --private --to dr").await;
    assert_eq!(both.code, Some(2), "{both:#?}");
    let long = scene.place.path().join("x".repeat(100));
    std::fs::create_dir(&long).unwrap();
    let typed = format!("drill shop --private --scratch-dir {}", long.display());
    let refused = scene.program.run(&typed).await;
    refused.refused(2, &["pg.socket", "--scratch-dir"]);
    assert_eq!(std::fs::read_dir(&long).unwrap().count(), 0);
    scene
        .program
        .run(&typed.replace(&"x".repeat(100), "nowhere"))
        .await
        .refused(2, &["pg.scratch-dir", "--scratch-dir"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_a_server_of_its_own_ends_with_its_own_code() {
    let scene = Scene::new().await;
    let ready = scene.ready();
    // It leaves somebody behind that went out of its way to be forgotten.
    let line = "psql -XAtq \"$DATABASE_URL\" -c 'alter table husband add nick text' && \
                (setsid sh -c 'touch $0; sleep 1000; true' \"$0\" >/dev/null 2>&1 &) && until test -e \"$0\"; do :; done; exit 7";
    let ran = scene
        .program
        .start_words(&[
            "sandbox",
            "shop",
            "--database",
            "shop",
            "--private",
            "-o",
            "json",
            "--",
            "sh",
            "-c",
            line,
            &ready,
        ])
        .end()
        .await;
    assert_eq!(ran.code, Some(7), "{ran:#?}");
    let report = ran.json();
    assert!(report["changes"].to_string().contains("nick"), "{report:#}");
    assert!(scene.has_our_version(&report), "{report:#}");
    assert_eq!((&report["exit_code"], &report["left_behind"]), (&7.into(), &Value::Null), "{report:#}");
    assert!(!scene.is_anything_left());
    let which = scene.program.run("sandbox shop --private -- true").await;
    which.refused(2, &["sandbox.which", "--database"]);
    let absent = scene.program.run("sandbox shop --database shop --private -- no-such-program").await;
    absent.refused(2, &["sandbox.command"]);
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_to_stop_leaves_nothing() {
    let scene = Scene::new().await;
    let running = scene.rehearse("trap 'exit 5' TERM; touch \"$0\"; sleep 1000 & wait").await;
    running.terminate();
    let ran = running.end().await;
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    assert!(!scene.is_anything_left());

    std::fs::remove_file(scene.ready()).unwrap();
    scene.hook(&format!("{{command: [sh, -c, 'touch $0; sleep 1000; true', {}]}}", scene.ready()));
    let mut drill = scene.program.start("drill shop --private");
    drill.until("the hook is asked", || Path::new(&scene.ready()).exists()).await;
    drill.interrupt();
    drill.says("stopping").await;
    drill.interrupt();
    let ran = drill.end().await;
    assert_eq!(ran.code, Some(130), "{ran:#?}");
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_leaves_nothing() {
    let scene = Scene::new().await;
    let forgotten = "(setsid sh -c 'touch $0; sleep 1000; true' \"$0\" &); wait; sleep 1000; true";
    scene.rehearse(forgotten).await.kill();
    scene.nothing_is_left().await;

    // While the server is made. (Before there is a guard, an empty folder is left to the next.)
    let drill = scene.program.start("drill shop --private");
    until("a cluster is being made", || scene.makes_cluster()).await;
    drill.kill();
    scene.nothing_is_left().await;

    // While the environment's own checks are asked.
    std::fs::remove_file(scene.ready()).unwrap();
    scene.hook(&format!("{{command: [sh, -c, 'touch $0; sleep 1000; true', {}]}}", scene.ready()));
    let mut drill = scene.program.start("drill shop --private");
    drill.until("the hook is asked", || Path::new(&scene.ready()).exists()).await;
    drill.kill();
    scene.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_guard_left_is_deleted_by_the_next() {
    let scene = Scene::new().await;
    let killed = scene.rehearse("touch \"$0\"; sleep 1000; true").await;
    kill(scene.guard());
    killed.kill();
    until("the server to end", || !scene.lives(scene.place.path().to_str().unwrap())).await;
    until("the command to end", || !scene.lives(&scene.ready())).await;
    assert_eq!(scene.folders(), 1);
    does(&scene.program, "drill shop --private").await;
    scene.nothing_is_left().await;
}
