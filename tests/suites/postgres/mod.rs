//! PostgreSQL servers as environments, against the real thing.

mod alone;
mod backup;
mod diff;
mod disk;
mod fleet;
mod private;
mod program;
mod reach;
mod restore;
mod trouble;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use lakehold::snapshot;
use lakehold_proto::clock::SystemClock;
use lakehold_proto::config::Config;
use lakehold_proto::format::{Entry, Role, read_located};
use lakehold_proto::ids::Kind;
use lakehold_proto::locks::MemoryLocks;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::Key;
use lakehold_tests::component::postgres::{PASSWORD, Postgres};
use lakehold_tests::site::Site;
use lakehold_worker::configured::ConfiguredSources;
use serde_json::{Value, json};

/// A database with everything that is awkward.
const AWKWARD: &str = include_str!("awkward.sql");

/// All items of a snapshot, with their parts.
type Items = BTreeMap<(String, String), (Entry, BTreeMap<Role, Vec<u8>>)>;

/// A site whose `prod` is the server as `user` sees it, with these settings besides.
fn site(url: &str, more: Value) -> Site {
    Site::on(|dir| {
        let password = dir.join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let mut postgres = json!({"url": url, "password": format!("file:{}", password.display())});
        postgres.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let environment = serde_json::from_value(json!({"postgres": postgres})).unwrap();
        let environments = BTreeMap::from([("prod".parse().unwrap(), environment)]);
        let config = Config { version: 1, environments, ..Config::default() };
        let clock = SystemClock::shared();
        Arc::new(ConfiguredSources::new(&config, Arc::new(MemoryLocks::new(clock.clone())), clock))
    })
}

async fn awkward() -> Postgres {
    let server = Postgres::start(&[]).await;
    server.sql("postgres", "create database shop");
    server.sql("shop", AWKWARD);
    server
}

async fn items(site: &Site, manifest: &Manifest) -> Items {
    let mut items = Items::new();
    for page in &manifest.pages {
        for named in snapshot::page(&*site.store, page).await.unwrap().indexes {
            let index = snapshot::index(&*site.store, &named).await.unwrap();
            for entry in &index.entries {
                let mut parts = BTreeMap::new();
                for part in &entry.parts {
                    let mut bytes = Vec::new();
                    for frame in &part.frames {
                        let located = index.locate(frame).unwrap();
                        let read = read_located(&*site.store, &Key::pack(located.object), &located).await;
                        bytes.extend_from_slice(&read.unwrap());
                    }
                    parts.insert(part.role, bytes);
                }
                items.insert((named.kind.to_string(), entry.name.clone()), (entry.clone(), parts));
            }
        }
    }
    items
}

/// The document of an item.
fn object(items: &Items, kind: &str, name: &str) -> Value {
    let (_, parts) = &items.get(&(kind.into(), name.into())).unwrap_or_else(|| panic!("no {kind} {name}"));
    serde_json::from_slice(&parts[&Role::Object]).unwrap()
}

/// Rows of every table, sequence and large object, by name, each as a digest.
fn digests(server: &Postgres, database: &str) -> BTreeMap<String, String> {
    let tables = "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = relnamespace \
        where relkind in ('r', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and relispopulated \
        and relname not in ('django_session', 'quadrupled', 'totals')";
    let digest = format!(
        "select format('select %L || chr(31) || count(*) || '' '' || coalesce(md5(string_agg(t::text, ''|'' \
         order by t::text collate \"C\")), '''') || chr(30) from only %s t;', q, q) from ({tables}) as tables (q) \\gexec"
    );
    let mut all = server.sql(database, &digest);
    all += &server.sql(
        database,
        "select schemaname || '.' || sequencename || chr(31) || coalesce(last_value::text, 'none') || chr(30) from pg_sequences \
         union all select 'large object ' || oid || chr(31) || md5(lo_get(oid)) || chr(30) from pg_largeobject_metadata order by 1",
    );
    let lines = all.split('\u{1e}').filter_map(|line| line.trim_matches('\n').split_once('\u{1f}'));
    lines.map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect()
}

/// The names of a kind's items.
fn names<'a>(items: &'a Items, kind: &'a str) -> Vec<&'a str> {
    items.keys().filter(|(of, _)| of == kind).map(|(_, name)| name.as_str()).collect()
}

/// Where a kind stands.
fn gaps(manifest: &Manifest, kind: &str) -> u64 {
    let report = manifest.by_kind()[&Kind::of(Box::leak(kind.to_owned().into_boxed_str()))];
    report.counts.gaps + report.counts.unlisted
}

/// Brings an archive back into a database: head and blocks, as they are kept.
fn restore(server: &Postgres, database: &str, parts: &BTreeMap<Role, Vec<u8>>, more: &[&str]) {
    let mut command = server.program("pg_restore", database);
    let mut child = command.args(["--exit-on-error"]).args(more).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let archive =
        [parts[&Role::Content].as_slice(), parts.get(&Role::Data).map_or(&[][..], Vec::as_slice)].concat();
    let writer = std::thread::spawn(move || input.write_all(&archive));
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    writer.join().unwrap().unwrap();
}
