//! Whole databases come back: beside what is there, in its place, on another server, and whoever is killed meanwhile.

use std::time::Duration;

use lakehold_proto::killpoint::{OF_DATABASE, OF_RESTORE};
use lakehold_tests::component::line::{Line, Mood};
use lakehold_tests::component::postgres::{PASSWORD, Postgres};
use lakehold_tests::program::{Program, Ran, until};

use super::{awkward, digests};

/// Two environments: `shop` with the database, and `dr`, which may be the same server.
pub(super) fn program(shop: &Postgres, dr: &Postgres) -> Program {
    program_at(&shop.url("postgres"), &dr.url("postgres"))
}

fn program_at(shop: &str, dr: &str) -> Program {
    let program = Program::new(&[], "none");
    reach(&program, &[("shop", &format!("url: '{shop}'")), ("dr", &format!("url: '{dr}'"))]);
    program
}

/// Configures servers, each by how it is reached.
pub(super) fn reach(program: &Program, servers: &[(&str, &str)]) {
    std::fs::write(program.path("password"), PASSWORD).unwrap();
    let password = program.path("password").display().to_string();
    let mut config = String::from("version: 1\nstore: store\nenvironments:\n");
    for (name, how) in servers {
        config += &format!("  {name}:\n    postgres: {{{how}, password: 'file:{password}'}}\n");
    }
    program.configure(&config);
}

pub(super) async fn does(program: &Program, typed: &str) -> Ran {
    let ran = program.start(typed).end().await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    ran
}

/// What the server says of a database's schema.
fn schema(server: &Postgres, database: &str) -> String {
    let said = server.program("pg_dump", database).arg("-s").output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let text = String::from_utf8(said.stdout).unwrap();
    text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
}

pub(super) fn databases(server: &Postgres) -> Vec<String> {
    let names = server.sql("postgres", "select datname from pg_database where not datistemplate order by 1");
    names.lines().map(str::to_owned).collect()
}

/// Databases that a restore began to make and that did not get their names.
pub(super) fn unfinished(server: &Postgres) -> Vec<String> {
    databases(server).into_iter().filter(|name| name.contains("_new_")).collect()
}

/// Whether `pg_amcheck` can read all of a server's tables: <https://www.postgresql.org/docs/14/release-14.html>.
pub(super) fn can_read_whole(server: &Postgres) -> bool {
    server.major() >= 14
}

/// A server with everything that is awkward, rights and properties of its own included.
pub(super) async fn equipped() -> Postgres {
    let server = awkward().await;
    server.sql(
        "postgres",
        "create role app login connection limit 7; create role readers; grant readers to app; \
         alter role app set work_mem = '3MB'; alter role app set search_path = '$user', \"odd schema.with dots\", public; \
         alter role readers in database shop set work_mem = '4MB'; \
         alter role app in database shop set search_path = public, \"odd schema.with dots\"; \
         alter database shop set work_mem = '5MB'; alter database shop set search_path = public, \"odd schema.with dots\"; \
         alter database shop connection limit 40; alter database shop owner to app; \
         revoke all on database shop from public; grant connect on database shop to readers with grant option; \
         comment on database shop is 'it''s the shop'",
    );
    server.sql("shop", "grant select (net) on priced to readers; alter table husband owner to app; revoke execute on function audit() from public");
    server
}

/// What is said of a database by the catalogue of all of them.
fn about(server: &Postgres, database: &str) -> String {
    server.sql(
        "postgres",
        &format!(
            "select pg_get_userbyid(datdba), encoding, datcollate, datctype, datconnlimit, datallowconn, datacl::text, \
             shobj_description(d.oid, 'pg_database'), (select array_agg(concat(rolname, ' ', s) order by rolname, s) \
             from pg_db_role_setting left join pg_roles r on r.oid = setrole, unnest(setconfig) s where setdatabase = d.oid) \
             from pg_database d where datname = '{database}'"
        ),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_comes_back_beside_itself_in_its_place_and_elsewhere() {
    let (server, other) = tokio::join!(equipped(), Postgres::start(&[]));
    let program = program(&server, &other);
    let (rows, definitions, properties) =
        (digests(&server, "shop"), schema(&server, "shop"), about(&server, "shop"));
    does(&program, "backup --env shop").await;

    // Beside it. The plan changes nothing.
    let typed = "restore shop --to shop --item database/shop --as shop_copy";
    let plan = does(&program, &format!("{typed} -o json")).await.json();
    assert_eq!(plan["summary"]["replace"], 0, "{plan:#}");
    assert_eq!(databases(&server), ["postgres", "shop"]);
    does(&program, &format!("{typed} --apply --yes")).await;
    assert_eq!(databases(&server), ["postgres", "shop", "shop_copy"]);
    assert_eq!(
        (digests(&server, "shop_copy"), schema(&server, "shop_copy")),
        (rows.clone(), definitions.clone())
    );
    assert_eq!(about(&server, "shop_copy"), properties);
    assert_eq!(
        server.sql("shop_copy", "select net from quadrupled"),
        server.sql("shop", "select net from quadrupled")
    );

    // In its place: somebody is connected, and what was there is kept.
    server.sql("shop", "drop table priced cascade; update husband set age = 1");
    let mut connected = server.psql("shop").spawn().unwrap();
    let plan = does(&program, "restore shop --to shop --item database/shop -o json").await.json();
    assert_eq!(plan["summary"]["replace"], 1, "{plan:#}");
    does(&program, "restore shop --to shop --item database/shop --apply --yes").await;
    assert_eq!((digests(&server, "shop"), schema(&server, "shop")), (rows.clone(), definitions.clone()));
    assert_eq!(about(&server, "shop"), properties);
    let kept = databases(&server).into_iter().find(|name| name.starts_with("shop_before_")).unwrap();
    assert_eq!(server.sql(&kept, "select count(*) from pg_class where relname = 'priced'"), "0");
    connected.kill().unwrap();
    connected.wait().unwrap();

    // And back again.
    does(&program, "restore undo shop --apply --yes").await;
    assert_eq!(databases(&server), ["postgres", "shop", "shop_copy"]);
    assert_eq!(server.sql("shop", "select count(*) from pg_class where relname = 'priced'"), "0");
    assert_eq!(server.sql("shop", "select distinct age from husband"), "1");

    // On a server that has nothing of it: without its roles it is blocked, with them it comes.
    let blocked = program.start("restore shop --to dr --item database/shop").end().await;
    assert_eq!(blocked.code, Some(4), "{blocked:#?}");
    assert!(blocked.out.contains("app, readers") && blocked.out.contains("--no-owner"), "{blocked:#?}");
    does(&program, "restore shop --to dr --apply --yes").await;
    assert_eq!((digests(&other, "shop"), schema(&other, "shop")), (rows, definitions));
    assert_eq!(about(&other, "shop"), properties);
    let roles = "select rolname, rolcanlogin, rolconnlimit, rolconfig from pg_roles where rolname in ('app', 'readers') order by 1";
    assert_eq!(other.sql("postgres", roles), server.sql("postgres", roles));
    assert_eq!(other.sql("postgres", "select pg_has_role('app', 'readers', 'member')"), "t");
    let again = does(&program, "restore shop --to dr --kind role -o json").await.json();
    assert_eq!(
        (&again["summary"]["create"], &again["summary"]["replace"]),
        (&0.into(), &0.into()),
        "{again:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_owners_it_belongs_to_who_restores_it() {
    let (server, other) = tokio::join!(equipped(), Postgres::start(&[]));
    let program = program(&server, &other);
    does(&program, "backup --env shop").await;
    let typed = "restore shop --to dr --item database/shop --no-owner --apply --yes";
    let refused = program.start(typed).end().await;
    assert_eq!(refused.code, Some(4), "{refused:#?}");
    does(&program, &format!("{typed} --allow-degraded")).await;
    assert_eq!(digests(&other, "shop"), digests(&server, "shop"));
    assert_eq!(
        other.sql("shop", "select distinct tableowner from pg_tables where schemaname = 'public'"),
        "postgres"
    );
}

/// Kills the restore at a step, goes on with it, and compares.
async fn dies_at(server: &Postgres, program: &Program, point: &str) {
    let typed = "restore shop --to shop --item database/shop --apply --yes";
    program.variable("LAKEHOLD_KILL", point);
    let killed = program.start(typed).end().await;
    assert_eq!(killed.code, None, "{point}: {killed:#?}");
    assert_eq!(server.sql("shop", "select distinct age from husband"), "99", "{point}");
    program.without("LAKEHOLD_KILL");
    does(program, &format!("{typed} --resume")).await;
    assert_eq!(unfinished(server), [""; 0], "{point}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_at_any_step_is_followed_by_one_that_goes_on() {
    let server = equipped().await;
    let program = program(&server, &server);
    let (rows, definitions, properties) =
        (digests(&server, "shop"), schema(&server, "shop"), about(&server, "shop"));
    does(&program, "backup --env shop").await;
    for point in OF_RESTORE.iter().chain(&OF_DATABASE) {
        server.sql("shop", "update husband set age = 99");
        dies_at(&server, &program, point).await;
        assert_eq!(
            (digests(&server, "shop"), schema(&server, "shop")),
            (rows.clone(), definitions.clone()),
            "{point}"
        );
        assert_eq!(about(&server, "shop"), properties, "{point}");
    }
    server.sql("shop", "update husband set age = 99");
    dies_at(&server, &program, "worker.after-load:9").await;
    assert_eq!(digests(&server, "shop"), rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replaced_has_its_name_back_from_nobody_but_what_replaced_it() {
    let server = equipped().await;
    let program = program(&server, &server);
    let rows = digests(&server, "shop");
    does(&program, "backup --env shop").await;
    server.sql("shop", "update husband set age = 99");
    let replaced = digests(&server, "shop");
    does(&program, "restore shop --to shop --item database/shop --apply --yes").await;
    program.variable("LAKEHOLD_KILL", "worker.half-swapped");
    let typed = "restore undo shop --apply --yes";
    let killed = program.start(typed).end().await;
    assert_eq!(killed.code, None, "{killed:#?}");
    assert_eq!(digests(&server, "shop"), rows);
    program.without("LAKEHOLD_KILL");
    server.sql("postgres", "alter database shop rename to mine");
    server.sql("postgres", "create database shop");
    let refused = program.start(&format!("{typed} --resume")).end().await;
    assert_eq!(refused.code, Some(3), "{refused:#?}");
    assert!(refused.out.contains("pg.other-database"), "{refused:#?}");
    assert_eq!(databases(&server).len(), 4, "{:?}", databases(&server));
    server.sql("postgres", "drop database shop");
    server.sql("postgres", "alter database mine rename to shop");
    does(&program, typed).await;
    assert_eq!(digests(&server, "shop"), replaced);
    assert_eq!(databases(&server), ["postgres", "shop"]);
}

/// How far a restore is when its server is killed, as that server tells; after them, it has just ended.
const MOMENTS: [&str; 3] = [
    "select count(*) from pg_database where datname like 'shop_new_%'",
    "select count(*) from pg_stat_activity where datname like 'shop_new_%' and query ~ '^COPY.*noise'",
    "select count(*) from pg_database where datname like 'shop_before_%'",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_amid_a_restore_keeps_one_whole_database() {
    let mut server = equipped().await;
    // A server that was killed empties unlogged tables, whoever filled them.
    server.sql(
        "shop",
        "create table noise as select i, gen_random_bytes(1000) from generate_series(1, 10000) i; \
         alter table volatile_table set logged",
    );
    // A server whose commits do not wait loses the last ones, and this one as many as it can be told to.
    server.sql("postgres", "alter system set wal_writer_delay = '10s'");
    server.sql("postgres", "select pg_reload_conf()");
    assert_eq!(server.sql("postgres", "show synchronous_commit"), "off");
    let line = Line::start(&format!("127.0.0.1:{}", server.port)).await;
    let url = format!("postgresql://postgres@{}/postgres", line.address);
    let program = program_at(&url, &url);
    let (rows, definitions, properties) =
        (digests(&server, "shop"), schema(&server, "shop"), about(&server, "shop"));
    does(&program, "backup --env shop").await;
    let typed = "restore shop --to shop --item database/shop --apply --yes";
    for moment in MOMENTS.iter().map(Some).chain([None]) {
        server.sql("shop", "update husband set age = 99");
        let changed = digests(&server, "shop");
        for name in databases(&server).iter().filter(|name| name.starts_with("shop_before_")) {
            server.sql("postgres", &format!("drop database {name}"));
        }
        line.is(Mood::Slow(Duration::from_millis(2)));
        let mut restoring = program.start(typed);
        let ended = if let Some(moment) = moment {
            restoring.until(moment, || server.sql("postgres", moment) != "0").await;
            server.server.kill();
            line.is(Mood::Good);
            server.restart().await;
            restoring.end().await
        } else {
            let ended = restoring.end().await;
            server.server.kill();
            line.is(Mood::Good);
            server.restart().await;
            ended
        };
        let is = digests(&server, "shop");
        assert!(is == rows || ended.code != Some(0) && is == changed, "{moment:?}: {ended:#?}");
        if ended.code != Some(0) {
            does(&program, typed).await;
        }
        assert_eq!(
            (digests(&server, "shop"), schema(&server, "shop")),
            (rows.clone(), definitions.clone()),
            "{moment:?}: {ended:#?}"
        );
        assert_eq!(about(&server, "shop"), properties, "{moment:?}");
        assert_eq!(unfinished(&server), [""; 0], "{moment:?}: {ended:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_whole_takes_nobodys_place() {
    let server = awkward().await;
    let program = program(&server, &server);
    server.sql("shop", "create table pairs (a int); insert into pairs values (1), (1), (2)");
    does(&program, "backup --env shop").await;
    let rows = digests(&server, "shop");
    let typed = "restore shop --to shop --item database/shop --apply --yes";
    let (hurt, whole) = hurt(&program);
    let failed = program.start(typed).end().await;
    assert_ne!(failed.code, Some(0), "{failed:#?}");
    assert_eq!(digests(&server, "shop"), rows);
    assert!(!databases(&server).iter().any(|name| name.contains("_before_")), "{:?}", databases(&server));
    std::fs::write(hurt, whole).unwrap();

    // The database is gone between plan and apply; then somebody makes one of its name.
    let plan = program.path("plan.json").display().to_string();
    does(&program, &format!("restore shop --to shop --item database/shop --as fresh --out {plan}")).await;
    server.sql("postgres", "create database fresh");
    let refused = program.start(&format!("restore apply {plan} --yes")).end().await;
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.err.contains("restore.moved"), "{refused:#?}");
    assert_eq!(server.sql("fresh", "select count(*) from pg_class where relname = 'pairs'"), "0");
}

/// Makes one byte of a pack of rows another: which pack, and what it was.
pub(super) fn hurt(program: &Program) -> (std::path::PathBuf, Vec<u8>) {
    let packs = walk(&program.path("store/packs"));
    let largest = packs.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let whole = std::fs::read(&largest).unwrap();
    let mut hurt = whole.clone();
    let middle = hurt.len() / 2;
    hurt[middle] ^= 1;
    std::fs::write(&largest, hurt).unwrap();
    (largest, whole)
}

/// The processes that have all of these words in their arguments.
pub(super) fn running(words: &[&str]) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let of = processes.filter_map(|process| {
        let arguments = std::fs::read(process.path().join("cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        words.iter().all(|word| arguments.contains(word)).then_some(process)
    });
    of.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_proves_a_database_and_leaves_nothing() {
    let server = equipped().await;
    let program = program(&server, &server);
    does(&program, "backup --env shop").await;
    let report = does(&program, "drill shop --yes -o json").await.json();
    assert_eq!(
        (&report["failed"], &report["differing"], &report["cleaned"]),
        (&0.into(), &0.into(), &true.into()),
        "{report:#}"
    );
    let evidence = report["evidence"].as_array().unwrap();
    let evidence = evidence.iter().find(|told| told["item"] == "database/shop").unwrap();
    assert_eq!(evidence["read_whole"], can_read_whole(&server), "{report:#}");
    assert_eq!(databases(&server), ["postgres", "shop"]);

    // The environment's own checks are asked, and fail it.
    let hooked = |hooks: &str| {
        let url = server.url("postgres");
        let password = program.path("password").display().to_string();
        program.configure(&format!(
            "version: 1\nstore: store\nenvironments:\n  shop:\n    postgres: {{url: '{url}', password: 'file:{password}', hooks: {{verify: {hooks}}}}}\n"
        ));
    };
    hooked(
        "{sql: {shop: ['select count(*) = 50 from public.husband']}, command: [sh, -c, 'test -n $DATABASE_URL -a -n $LAKEHOLD_DATABASE']}",
    );
    let report = does(&program, "drill shop --yes -o json").await.json();
    let asked = report["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .map(|told| told["asked"].as_array().map_or(0, Vec::len));
    assert_eq!(asked.sum::<usize>(), 3, "a query of one database, and a program for both: {report:#}");
    for (hooks, told) in [
        ("{sql: {shop: ['select count(*) = 51 from public.husband']}}", "it says false"),
        ("{sql: {shop: ['select true from public.husband']}}", "it gives 50 rows"),
        ("{command: [sh, -c, 'echo it is wrong; exit 3']}", "it is wrong"),
    ] {
        hooked(hooks);
        let failed = program.start("drill shop --yes").end().await;
        assert_eq!(failed.code, Some(1), "{failed:#?}");
        assert!(failed.out.contains("NOT PROVED") && failed.out.contains(told), "{failed:#?}");
        assert_eq!(databases(&server), ["postgres", "shop"], "{hooks}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_rehearsed_on_a_copy() {
    let server = equipped().await;
    let program = program(&server, &server);
    let (rows, definitions) = (digests(&server, "shop"), schema(&server, "shop"));
    does(&program, "backup --env shop").await;
    let rehearse = async |sql: &str| {
        let script = "psql -X -q -v ON_ERROR_STOP=1 \"$DATABASE_URL\" -c \"$0\"";
        let words =
            ["sandbox", "shop", "--database", "shop", "--yes", "-o", "json", "--", "sh", "-c", script, sql];
        program.start_words(&words).end().await
    };
    let ran = rehearse(
        "alter table public.husband add column nick text default 'x'; delete from public.guarded; \
         create index late on public.priced (at); alter table public.priced add check (net >= 0) not valid; \
         do $$ begin raise warning 'careful'; end $$",
    )
    .await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let report = ran.json();
    let told = report["changes"].to_string();
    for expected in ["nick", "late", "public.guarded"] {
        assert!(told.contains(expected), "{expected}: {report:#}");
    }
    assert_eq!((&report["exit_code"], &report["warnings"]), (&0.into(), &1.into()), "{report:#}");
    assert!(report["invalid"].to_string().contains("priced"), "{report:#}");
    assert_eq!(report["left_behind"], serde_json::Value::Null);

    // What fails says so with its own code; nothing changes anything.
    let failed = rehearse("drop table public.nowhere").await;
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    assert_eq!(
        (failed.json()["exit_code"].as_i64(), failed.json()["changes"].as_array().map(Vec::len)),
        (Some(1), Some(0))
    );
    let absent = program.start("sandbox shop --database shop --yes -- no-such-program").end().await;
    assert_eq!(absent.code, Some(2), "{absent:#?}");
    let which = program.start("sandbox shop --yes -- true").end().await;
    assert_eq!(which.code, Some(2), "{which:#?}");
    assert!(which.err.contains("--database"), "{which:#?}");
    assert_eq!(databases(&server), ["postgres", "shop"]);
    assert_eq!((digests(&server, "shop"), schema(&server, "shop")), (rows, definitions));

    // Who is killed while the command runs leaves a copy; the next one drops it.
    let ready = program.path("ready").display().to_string();
    let mut killed = program.start_words(&[
        "sandbox",
        "shop",
        "--database",
        "shop",
        "--yes",
        "--",
        "sh",
        "-c",
        &format!("touch {ready}; sleep 1000; true"),
    ]);
    killed.until("the command runs", || std::path::Path::new(&ready).exists()).await;
    killed.kill();
    assert_eq!(databases(&server).len(), 3);
    until("the command is killed with it", || running(&[&ready]).is_empty()).await;
    let ran = rehearse("select 1").await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(databases(&server), ["postgres", "shop"]);
}
