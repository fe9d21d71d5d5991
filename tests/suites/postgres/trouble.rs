//! What goes wrong, and that it is told.

use std::io::Write as _;
use std::time::Duration;

use lakehold_proto::fault::Class;
use lakehold_proto::format::Role;
use lakehold_proto::manifest::SnapshotState;
use lakehold_tests::component::line::{Line, Mood};
use lakehold_tests::component::pgbouncer::PgBouncer;
use lakehold_tests::component::postgres::{PASSWORD, Postgres};
use lakehold_tests::program::until;
use lakehold_tests::site::{committed, refused, request};
use serde_json::json;

use super::{awkward, gaps, items, names, object, site};

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_costs_its_table_alone() {
    let server = awkward().await;
    server.sql(
        "shop",
        &format!(
            "create role keeper login password '{PASSWORD}' in role pg_read_all_data; create role reader login password '{PASSWORD}'; \
             grant usage on schema public to reader; grant select on all tables in schema public to reader; \
             grant select on all sequences in schema public to reader; revoke select on priced from reader"
        ),
    );
    let keeper = site(&server.url("keeper"), json!({"databases": ["shop"]}));
    let manifest = keeper.backup().await;
    let found = items(&keeper, &manifest).await;
    let (guarded, parts) = &found[&("table".to_owned(), "shop.public.guarded".to_owned())];
    assert!(guarded.gaps[0].fault.message.contains("BYPASSRLS"), "{guarded:?}");
    assert!(!parts.contains_key(&Role::Data));
    assert_eq!((manifest.state, gaps(&manifest, "table")), (SnapshotState::Partial, 1));

    let reader = site(&server.url("reader"), json!({"databases": ["shop"]}));
    let manifest = reader.backup().await;
    let found = items(&reader, &manifest).await;
    let gap = |name: &str| found[&("table".to_owned(), name.to_owned())].0.gaps[0].fault.clone();
    assert_eq!(gap("shop.public.priced").class, Class::Denied);
    assert!(gap("shop.public.priced").message.contains("SELECT on table public.priced"));
    assert!(gap("shop.\"odd schema.with dots\".semi;colon'--").message.contains("USAGE on schema"));
    assert_eq!(object(&found, "table", "shop.public.events_2025")["rows"]["exact"], true);
    let (database, parts) = &found[&("database".to_owned(), "shop".to_owned())];
    assert!(database.degraded.iter().any(|reason| reason.contains("public.priced")), "{database:?}");
    assert!(parts.contains_key(&Role::Content), "all that may be seen of the schema is kept");
    assert!(manifest.probe.warnings.iter().any(|warning| warning.contains("pg_read_all_data")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_truncated_meanwhile_is_never_empty() {
    let server = awkward().await;
    // Whoever fills it anew holds it while the backup begins: a snapshot from before they let go has nothing in it.
    let mut psql = server.psql("shop").spawn().unwrap();
    let mut filling = psql.stdin.take().unwrap();
    writeln!(
        filling,
        "begin; truncate priced; insert into priced (net) select i from generate_series(1, 123) i;"
    )
    .unwrap();
    until("the table is held", || {
        server.sql("shop", "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and relation = 'priced'::regclass") == "1"
    })
    .await;
    let site = site(&server.url("postgres"), json!({"databases": ["shop"]}));
    let backup = site.backup();
    let let_go = async {
        until("the backup waits for it", || {
            server.sql(
                "shop",
                "select count(*) from pg_locks where not granted and relation = 'priced'::regclass",
            ) == "1"
        })
        .await;
        writeln!(filling, "commit;").unwrap();
        drop(filling);
    };
    let (manifest, ()) = tokio::join!(backup, let_go);
    assert!(psql.wait().unwrap().success());
    assert_eq!(manifest.state, SnapshotState::Complete);
    let found = items(&site, &manifest).await;
    assert_eq!(object(&found, "table", "shop.public.priced")["rows"]["count"], 123);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_us_while_we_wait_behind_them_is_let_through() {
    let (server, line) = slow().await;
    line.is(Mood::Slow(Duration::from_millis(2)));
    let url = format!("postgresql://postgres@{}/postgres", line.address);
    let site = site(&url, json!({"databases": ["shop"]}));
    let backup = site.backup();
    let trouble = async {
        until("the tables are held", || {
            let held = "select count(*) from pg_locks l join pg_stat_activity a using (pid) where granted \
                and a.application_name = 'lakehold' and relation = 'priced'::regclass";
            server.sql("shop", held) != "0"
        })
        .await;
        // Before the dump of this table asks for its lock.
        let mut psql = server.psql("shop").spawn().unwrap();
        writeln!(psql.stdin.take().unwrap(), "truncate priced").unwrap();
        until("they wait for us", || {
            server.sql(
                "shop",
                "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'",
            ) != "0"
        })
        .await;
        line.is(Mood::Good);
        psql
    };
    let (manifest, mut psql) = tokio::join!(backup, trouble);
    assert!(psql.wait().unwrap().success());
    assert_eq!(manifest.state, SnapshotState::Complete, "{:?}", manifest.kinds);
    let found = items(&site, &manifest).await;
    assert_eq!(object(&found, "table", "shop.public.priced")["rows"]["count"], 0, "they went first");
}

/// A table that takes a while over a slow line, and the line.
async fn slow() -> (Postgres, Line) {
    let server = awkward().await;
    server.sql(
        "shop",
        "create table noise as select i, gen_random_bytes(1000) from generate_series(1, 30000) i",
    );
    let line = Line::start(&format!("127.0.0.1:{}", server.port)).await;
    (server, line)
}

async fn until_it_flows(server: &Postgres, line: &Line) {
    let copying = "select count(*) from pg_stat_activity where application_name = 'lakehold' and query ~ '^COPY .*noise'";
    line.is(Mood::Slow(Duration::from_millis(2)));
    until("the rows of the table flow", || server.sql("postgres", copying) != "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_amid_a_dump_costs_the_attempt() {
    for jobs in [1, 4] {
        let (mut server, line) = slow().await;
        let url = format!("postgresql://postgres@{}/postgres", line.address);
        let site = site(&url, json!({"databases": ["shop"], "jobs": jobs}));
        let (planned, (_go_on, stop)) = (site.engine(), tokio::sync::watch::channel(false));
        let plan = planned.backup.plan(&request()).await.unwrap();
        let view = lakehold::engine::view::RunView::default();
        let backup = planned.backup.carry_out(plan, &view, stop);
        let trouble = async {
            until_it_flows(&server, &line).await;
            server.server.kill();
            line.is(Mood::Good);
            server.restart().await;
        };
        let (ended, ()) = tokio::join!(backup, trouble);
        planned.drain().await;
        let manifest = committed(ended.unwrap());
        assert_eq!(manifest.state, SnapshotState::Complete, "jobs {jobs}: {:?}", manifest.kinds);
        let found = items(&site, &manifest).await;
        assert_eq!(object(&found, "table", "shop.public.noise")["rows"]["count"], 30_000, "jobs {jobs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_come_back_leaves_gaps_and_no_half_table() {
    let (mut server, line) = slow().await;
    let url = format!("postgresql://postgres@{}/postgres", line.address);
    let site = site(&url, json!({"databases": ["shop"], "jobs": 1}));
    let (engine, (_go_on, stop)) = (site.engine(), tokio::sync::watch::channel(false));
    let plan = engine.backup.plan(&request()).await.unwrap();
    let view = lakehold::engine::view::RunView::default();
    let backup = engine.backup.carry_out(plan, &view, stop);
    let trouble = async {
        until_it_flows(&server, &line).await;
        server.server.kill();
        line.is(Mood::Broken);
    };
    let (ended, ()) = tokio::join!(backup, trouble);
    engine.drain().await;
    let manifest = committed(ended.unwrap());
    assert_eq!(manifest.state, SnapshotState::Partial);
    assert_eq!((gaps(&manifest, "table"), gaps(&manifest, "database")), (1, 1), "{:?}", manifest.kinds);
    assert!(names(&items(&site, &manifest).await, "table").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_a_gap() {
    let server = awkward().await;
    server.sql("postgres", "create database closed allow_connections false; create database second");
    let site = site(&server.url("postgres"), json!({"databases": ["shop", "gone", "closed"]}));
    let manifest = site.backup().await;
    assert_eq!(gaps(&manifest, "database"), 2, "{:?}", manifest.kinds);
    let found = items(&site, &manifest).await;
    assert_eq!(names(&found, "database"), ["shop"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_under_the_same_name_is_refused_until_it_is_meant() {
    let (first, second) = tokio::join!(Postgres::start(&[]), Postgres::start(&[]));
    let site_of_first = site(&first.url("postgres"), json!({}));
    site_of_first.backup().await;
    let cluster = second.sql("postgres", "select system_identifier from pg_control_system()");
    for (more, is_refused) in [
        (json!({}), true),
        (json!({"system_identifier": "1"}), true),
        (json!({"system_identifier": cluster}), false),
    ] {
        let other = site(&second.url("postgres"), more);
        // The second server in the store of the first.
        let mut other = other;
        other.store = site_of_first.store.clone();
        let engine = other.engine_without_lock();
        let ended = other.backup_with(engine, request()).await.unwrap();
        if is_refused {
            let fault = refused(ended);
            assert_eq!((fault.code, fault.class), ("pg.other-cluster", Class::Conflict));
            assert!(fault.hint.unwrap().contains(&cluster) || fault.detail.contains(&cluster));
        } else {
            assert_eq!(committed(ended).state, SnapshotState::Complete);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_newer_than_the_programs_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Postgres::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("pg_dump");
    std::fs::write(&old, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.22'\n").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let psql = lakehold_tests::component::postgres::programs().join("psql");
    std::os::unix::fs::symlink(psql, folder.path().join("psql")).unwrap();
    let site = site(&server.url("postgres"), json!({"programs": folder.path()}));
    let fault = refused(site.backup_with(site.engine(), request()).await.unwrap());
    assert_eq!((fault.code, fault.class), ("pg.newer-server", Class::Unsupported));
    assert!(fault.detail.contains("12.22"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pg_restore_cannot_read_is_no_backup() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Postgres::start(&[]).await;
    server.sql("postgres", "create table rows as select generate_series(1, 10) i");
    let folder = tempfile::tempdir().unwrap();
    for name in ["pg_dump", "pg_dumpall", "psql"] {
        let program = lakehold_tests::component::postgres::programs().join(name);
        std::os::unix::fs::symlink(program, folder.path().join(name)).unwrap();
    }
    let reader = folder.path().join("pg_restore");
    let site = site(&server.url("postgres"), json!({"programs": folder.path()}));
    // Of archives with rows it reads all, of one without it says what it would of one that is broken.
    let real = lakehold_tests::component::postgres::programs().join("pg_restore");
    for (script, database, table) in [
        ("cat > archive.$$; grep -q COPY archive.$$ && exit 0; echo 'could not read' >&2; exit 1", 1, 0),
        ("cat > archive.$$; grep -q COPY archive.$$ || exit 0; echo 'could not read' >&2; exit 1", 0, 1),
        (&format!("exec {} \"$@\"", real.display()), 0, 0),
    ] {
        let script = format!("#!/bin/sh\ncd {}\n{script}\n", folder.path().display());
        std::fs::write(&reader, script).unwrap();
        std::fs::set_permissions(&reader, std::fs::Permissions::from_mode(0o755)).unwrap();
        let manifest = site.backup().await;
        let gaps = (gaps(&manifest, "database"), gaps(&manifest, "table"));
        assert_eq!(gaps, (database, table), "{:?}", manifest.kinds);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_costs_the_other_workers_or_is_refused() {
    let server = awkward().await;
    let url = |pooler: &PgBouncer| format!("postgresql://postgres@127.0.0.1:{}/postgres", pooler.port);
    let pooler = PgBouncer::start(server.port, "session").await;
    let site_of_it = site(&url(&pooler), json!({"databases": ["shop"]}));
    let manifest = site_of_it.backup().await;
    assert_eq!(manifest.state, SnapshotState::Complete);
    assert!(manifest.probe.warnings.iter().any(|warning| warning.contains("pooler")), "{:?}", manifest.probe);
    let pooler = PgBouncer::start(server.port, "transaction").await;
    let site_of_it = site(&url(&pooler), json!({"databases": ["shop"]}));
    let fault = refused(site_of_it.backup_with(site_of_it.engine(), request()).await.unwrap());
    assert_eq!((fault.code, fault.class), ("pg.pooler", Class::Unsupported));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_dumped_by_one_worker_and_has_no_unlogged_rows() {
    let server = awkward().await;
    let standby = server.standby().await;
    let site = site(&standby.url("postgres"), json!({"databases": ["shop"]}));
    let manifest = site.backup().await;
    assert!(
        manifest.probe.warnings.iter().any(|warning| warning.contains("standby")),
        "{:?}",
        manifest.probe
    );
    assert_eq!(gaps(&manifest, "table"), 1, "{:?}", manifest.kinds);
    let found = items(&site, &manifest).await;
    let gap = &found[&("table".to_owned(), "shop.public.volatile_table".to_owned())].0.gaps[0];
    assert_eq!(gap.fault.code, "pg.unlogged");
    let (_, parts) = &found[&("database".to_owned(), "shop".to_owned())];
    assert!(parts.contains_key(&Role::Content));
    assert_eq!(object(&found, "table", "shop.public.priced")["rows"]["count"], 200);
}
