//! The real binary: what a person types, and what nobody may read.

use std::collections::BTreeSet;
use std::path::Path;

use lakehold_tests::component::postgres::{PASSWORD, Postgres};
use lakehold_tests::program::{Program, binary};

use super::awkward;

/// No other password of these tests has it in it.
const SENTINEL: &str = "S3NTINEL:wi\\th signs";

pub(super) async fn program(server: &Postgres, more: &str) -> Program {
    server.sql("postgres", &format!("create role keeper superuser login password '{SENTINEL}'"));
    let program = Program::new(&[], "none");
    std::fs::write(program.path("password"), SENTINEL).unwrap();
    let (url, password) = (server.url("keeper"), program.path("password"));
    program.configure(&format!(
        "version: 1\nstore: store\nenvironments:\n  shop:\n    postgres: {{url: '{url}', password: 'file:{}'{more}}}\n",
        password.display()
    ));
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works_with_it() {
    let server = awkward().await;
    let program = program(&server, ", exclude_table_data: ['*.django_session']").await;
    let ran = program.start("doctor").end().await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let ran = program.start("backup").end().await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    server.sql("shop", "insert into priced (net) values (7); select nextval('loose_sequence')");
    let ran = program.start("backup -o json").end().await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let ran = program.start("verify --all").end().await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let ran = program.start("snapshots -o json").end().await;
    assert_eq!(ran.json()["snapshots"].as_array().unwrap().len(), 2, "{ran:#?}");
    let ran = program.start("ls shop --kind table").end().await;
    assert!(ran.out.contains("shop.public.events_2026_a") && !ran.out.contains("django_session"), "{ran:#?}");
    let ran = program.start("show shop:table/shop.public.priced -o json").end().await;
    assert_eq!(ran.json()["object"]["rows"]["count"], 201, "{ran:#?}");
    let before = program.start("snapshots -o json").end().await.json()["snapshots"][0]["snapshot"].clone();
    let before = before.as_str().unwrap().to_owned();
    let ran = program.start(&format!("diff shop@{before} shop@latest -o json")).end().await;
    let changes = ran.json()["changes"].clone();
    let changed: BTreeSet<_> = changes
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(changed, BTreeSet::from(["shop".to_owned(), "shop.public.priced".to_owned()]), "{changes:#}");
    let ran = program.start("diff shop@latest live:shop").end().await;
    assert!(ran.out.contains("no item differs"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_nowhere() {
    let server = awkward().await;
    server.sql(
        "shop",
        "create table noise as select i, gen_random_bytes(1000) from generate_series(1, 20000) i",
    );
    let program = program(&server, "").await;
    let mut running = program.start("backup");
    let mut seen = BTreeSet::new();
    while running.lives() {
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(arguments) = std::fs::read(process.path().join("cmdline")) else { continue };
            let own = std::fs::read(process.path().join("environ")).unwrap_or_default();
            let is_ours = contains(&own, b"PGAPPNAME=lakehold") || contains(&arguments, b"lakehold.yaml");
            if !is_ours {
                continue;
            }
            for text in [&arguments, &own] {
                assert!(!contains(text, b"S3NTINEL"), "{:?}", String::from_utf8_lossy(&arguments));
            }
            let program = arguments.split(|&byte| byte == 0).next().unwrap_or_default();
            seen.insert(String::from_utf8_lossy(program).rsplit('/').next().unwrap_or_default().to_owned());
        }
        tokio::task::yield_now().await;
    }
    let ran = running.end().await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let expected =
        [binary().file_name().unwrap().to_str().unwrap().to_owned(), "psql".into(), "pg_dump".into()];
    assert!(expected.iter().all(|name| seen.contains(name)), "{seen:?}");
    // A password that the server refuses is in no error either.
    std::fs::write(program.path("password"), format!("{SENTINEL}-wrong")).unwrap();
    let ran = program.start("backup").end().await;
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.out.contains("pg.unreachable"), "{ran:#?}");
    std::fs::remove_file(program.path("password")).unwrap();
    nowhere(program.dir.path());
    assert_ne!(PASSWORD, SENTINEL);
}

fn nowhere(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            nowhere(&path);
        } else {
            assert!(!contains(&std::fs::read(&path).unwrap(), b"S3NTINEL"), "{}", path.display());
        }
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
