//! What is captured, and that it is the whole of it.

use lakehold_proto::format::Role;
use lakehold_proto::manifest::SnapshotState;
use lakehold_tests::component::postgres::Postgres;
use serde_json::json;

use super::{awkward, digests, items, names, object, restore, site};

#[tokio::test(flavor = "multi_thread")]
async fn an_awkward_database_is_kept_whole_and_each_part_of_it_comes_back_by_itself() {
    let server = awkward().await;
    // Enough for a task of its own, so that several workers share one snapshot.
    server.sql(
        "shop",
        "create table noise as select i, gen_random_bytes(1000) as bytes from generate_series(1, 20000) i",
    );
    let before = digests(&server, "shop");
    let site = site(&server.url("postgres"), json!({"exclude_table_data": ["*.django_session"]}));
    let manifest = site.backup().await;
    assert_eq!(manifest.state, SnapshotState::Complete, "{:?}", manifest.kinds);
    assert_eq!(manifest.probe.warnings, [""; 0]);
    site.read_all(&manifest).await;
    let items = items(&site, &manifest).await;

    // Every table but the one that was left out, and nothing else, with as many rows as it has.
    let counted = server.sql(
        "shop",
        "select count(*) from pg_class where relkind = 'r' and relnamespace::regnamespace::text !~ '^(pg_|information_schema)'",
    );
    assert_eq!(names(&items, "table").len() + 1, counted.parse::<usize>().unwrap());
    for (table, rows) in [("events_2025", "events_2025"), ("noise", "noise"), ("no_columns", "no_columns")] {
        let rows = server.sql("shop", &format!("select count(*) from only {rows}")).parse::<u64>().unwrap();
        let document = object(&items, "table", &format!("shop.public.{table}"));
        assert_eq!(document["rows"], json!({"count": rows, "exact": true}), "{table}");
    }
    let database = object(&items, "database", "shop");
    assert_eq!(database["migrations"][0]["rows"], 2);
    assert_eq!(database["without_rows"], json!({"*.django_session": ["public.django_session"]}));
    assert!(database["captured"]["at"]["lsn"].as_str().unwrap().contains('/'));
    assert!(names(&items, "role").contains(&"postgres"));
    let script = object(&items, "globals", "globals")["sql"].to_string();
    assert!(script.contains("CREATE ROLE postgres") && !script.contains("SCRAM"), "{script}");

    // Head and blocks are archives of pg_dump: the schema, then each table by itself.
    server.sql("postgres", "create database again template template0");
    let (_, schema) = &items[&("database".to_owned(), "shop".to_owned())];
    restore(&server, "again", schema, &["--section=pre-data"]);
    for ((kind, _), (_, parts)) in &items {
        if kind == "table" || kind == "loose_data" {
            restore(&server, "again", parts, &[]);
        }
    }
    restore(&server, "again", schema, &["--section=post-data"]);
    assert_eq!(digests(&server, "again"), before);
    let names = before.keys().cloned().collect::<String>();
    assert!(
        before.len() > 20 && names.contains("large object") && names.contains("loose_sequence"),
        "{before:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_and_several_make_the_same_snapshot() {
    let server = awkward().await;
    server.sql(
        "shop",
        "create table noise as select i, gen_random_bytes(1000) from generate_series(1, 20000) i",
    );
    let several = site(&server.url("postgres"), json!({})).backup().await;
    let one = site(&server.url("postgres"), json!({"jobs": 1})).backup().await;
    assert_eq!(several.content_root, one.content_root);
    assert!(several.run.tasks > one.run.tasks, "{} and {}", several.run.tasks, one.run.tasks);
    assert!(one.probe.warnings.iter().any(|warning| warning.contains("`jobs` is 1")), "{:?}", one.probe);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_change_is_not_stored_again() {
    let server = awkward().await;
    server.sql(
        "shop",
        "create table wide as select i, md5(i::text) || md5((-i)::text) as a, md5((i * 7)::text) as b from generate_series(1, 300000) i",
    );
    let site = site(&server.url("postgres"), json!({}));
    let first = site.backup().await;
    let second = site.backup().await;
    assert_eq!(first.content_root, second.content_root);
    let totals = second.totals();
    assert_eq!((totals.new, totals.changed, totals.gone), (0, 0, 0));
    assert!(second.run.figures.bytes_stored < 10_000, "{:?}", second.run.figures);

    // Numbers within a dump move with every table that comes; nothing else may look changed for it.
    server.sql("shop", "create table a_new_one (a int)");
    let third = site.backup().await;
    let tables = |manifest: &lakehold_proto::manifest::Manifest| {
        let report = manifest.kinds.iter().find(|report| report.kind.as_str() == "table").unwrap();
        (report.counts.new, report.counts.changed, report.counts.gone)
    };
    assert_eq!(tables(&third), (1, 0, 0));

    // Rows that change go to the end of the table; those behind them stay where they are.
    server.sql("shop", "update wide set b = 'changed' where i between 100000 and 103000");
    let fourth = site.backup().await;
    assert_eq!(tables(&fourth), (0, 1, 0));
    let (stored, whole) = (fourth.run.figures.bytes_stored, first.run.figures.bytes_stored);
    println!("1 % of the rows changed, side by side: {stored} bytes stored, {whole} at first");
    assert!(stored * 4 < whole, "{stored} of {whole}");
    let found = items(&site, &fourth).await;
    assert_eq!(object(&found, "table", "shop.public.wide")["rows"]["count"], 300_000);
    assert!(found[&("table".to_owned(), "shop.public.wide".to_owned())].1[&Role::Data].len() > 20_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_encoding_is_kept() {
    let server = Postgres::start(&[]).await;
    for (encoding, letter) in [("LATIN1", "ä"), ("SQL_ASCII", "\\xff")] {
        let name = encoding.to_lowercase();
        server.sql(
            "postgres",
            &format!("create database {name} template template0 encoding '{encoding}' locale 'C'"),
        );
        let rows = if encoding == "LATIN1" { format!("'{letter}'") } else { format!("E'{letter}'") };
        server.sql(&name, &format!("create table letters as select {rows}::text as letter"));
        server.sql(&name, "create table \"a b\" (id int generated always as identity)");
    }
    let site = site(&server.url("postgres"), json!({"databases": ["latin1", "sql_ascii"]}));
    let manifest = site.backup().await;
    assert_eq!(manifest.state, SnapshotState::Complete, "{:?}", manifest.kinds);
    let items = items(&site, &manifest).await;
    let rows = |database: &str| {
        let (_, parts) = &items[&("table".to_owned(), format!("{database}.public.letters"))];
        parts[&Role::Data][5..].to_vec()
    };
    assert!(rows("latin1").starts_with("ä\n".as_bytes()));
    assert!(rows("sql_ascii").starts_with(b"\xff\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_kinds_narrow_what_is_kept() {
    let server = awkward().await;
    let site = site(&server.url("postgres"), json!({"databases": ["shop"]}));
    let mut request = lakehold_tests::site::request();
    request.selection.paths = vec!["shop.public.event*".into()];
    let ended = site.backup_with(site.engine(), request).await.unwrap();
    let manifest = lakehold_tests::site::committed(ended);
    assert!(manifest.is_scoped());
    let found = items(&site, &manifest).await;
    let tables = names(&found, "table");
    assert_eq!(
        tables,
        ["shop.public.events_2025", "shop.public.events_2026_a", "shop.public.events_2026_rest"]
    );
    assert!(names(&found, "loose_data").is_empty());
}
