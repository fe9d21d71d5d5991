//! What changed is told by its name, once, and nothing else is.

use std::collections::BTreeSet;
use std::io::Write as _;

use lakehold::diff::{Diff, What, diff};
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::Selection;
use lakehold_tests::program::until;
use lakehold_tests::site::{Site, committed, request};
use serde_json::{Value, json};

use super::program::program;
use super::{awkward, items, object, site};

/// What somebody does, and where it is told. Numbers of things go with it.
const CHANGES: &[(&str, &[&str])] = &[
    ("create table extra (a int); grant select on extra to reader", &[r#"tables["public.extra"]"#]),
    ("drop table no_columns", &[r#"tables["public.no_columns"]"#]),
    (
        "alter table empty_table add c text not null default 'x'",
        &[r#"tables["public.empty_table"].columns.c"#],
    ),
    ("alter table empty_table drop c", &[r#"tables["public.empty_table"].columns.c"#]),
    ("alter table empty_table alter a type bigint", &[r#"tables["public.empty_table"].columns.a.type"#]),
    ("alter table empty_table alter b set not null", &[r#"tables["public.empty_table"].columns.b.not_null"#]),
    ("alter table empty_table alter b set default 7", &[r#"tables["public.empty_table"].columns.b.default"#]),
    (
        "alter table empty_table add constraint few check (a < 5)",
        &[r#"tables["public.empty_table"].constraints.few"#],
    ),
    (
        "create trigger same before update on empty_table execute function suppress_redundant_updates_trigger()",
        &[r#"tables["public.empty_table"].triggers.same"#],
    ),
    ("alter table empty_table disable trigger same", &[r#"tables["public.empty_table"].triggers.same"#]),
    ("alter policy own on guarded to reader", &[r#"tables["public.guarded"].policies.own.roles[0]"#]),
    ("alter table guarded disable row level security", &[r#"tables["public.guarded"].row_security"#]),
    ("alter table empty_table set (fillfactor = 50)", &[r#"tables["public.empty_table"].options"#]),
    ("alter table volatile_table set logged", &[r#"tables["public.volatile_table"].unlogged"#]),
    ("alter table empty_table owner to reader", &[r#"tables["public.empty_table"].owner"#]),
    ("grant insert on husband to reader", &[r#"tables["public.husband"].acl"#]),
    (
        "alter table events detach partition events_2025",
        &[
            r#"tables["public.events_2025"].columns.id.inherited"#,
            r#"tables["public.events_2025"].columns.at.inherited"#,
            r#"tables["public.events_2025"].columns.what.inherited"#,
            r#"tables["public.events_2025"].partition_bound"#,
            r#"tables["public.events_2025"].inherits"#,
        ],
    ),
    (
        "create or replace view doubled as select net * 3 as net from totals",
        &[r#"views["public.doubled"].definition"#],
    ),
    ("create index on totals (net)", &[r#"materialized_views["public.totals"].indexes.totals_net_idx"#]),
    ("alter sequence loose_sequence increment 9", &[r#"sequences["public.loose_sequence"].increment"#]),
    (
        "create or replace function audit() returns event_trigger language plpgsql as $$ begin end $$",
        &[r#"functions["public.audit()"].definition"#],
    ),
    ("create function twice(n int) returns int return n * 2", &[r#"functions["public.twice(n integer)"]"#]),
    ("alter type mood add value 'ecstatic'", &[r#"types["public.mood"].labels"#]),
    (
        "alter domain positive add constraint small check (value < 1000)",
        &[r#"types["public.positive"].domain.constraints.small"#],
    ),
    ("alter event trigger audit_ddl disable", &["event_triggers.audit_ddl.enabled"]),
    ("create publication sent for table priced", &["publications.sent"]),
    ("create schema more", &["schemas.more"]),
    ("comment on table priced is 'what it costs'", &[r#"comments["table public.priced"]"#]),
    (
        "alter default privileges in schema public grant select on tables to reader",
        &["default_privileges.tables of postgres in public"],
    ),
];

/// What somebody does, and where it is told besides the schema.
const BESIDES: &[(&str, &[&str])] = &[
    ("select nextval('loose_sequence')", &[r#"sequences["public.loose_sequence"].last_value"#]),
    (
        "insert into django_migrations (app, name) values ('shop', '0003_oops')",
        &[
            r#"migrations["public.django_migrations"].rows"#,
            r#"migrations["public.django_migrations"].sha256"#,
            r#"sequences["public.django_migrations_id_seq"].last_value"#,
        ],
    ),
    ("create extension citext", &[r#"extensions["public.citext"]"#]),
    ("alter database shop set work_mem = '5MB'", &["settings"]),
    ("alter role current_user in database shop set work_mem = '6MB'", &["role_settings"]),
    ("alter database shop connection limit 50", &["properties.datconnlimit"]),
    ("alter schema more owner to writer", &["roles", "schema.schemas.more.owner"]),
    (
        "alter table wife add constraint old check (id > 0) not valid",
        &["not_validated", r#"schema.tables["public.wife"].constraints.old"#],
    ),
];

/// The documents of databases alone.
async fn databases(site: &Site) -> Manifest {
    let mut request = request();
    request.selection = Selection { kinds: vec![Kind::of("database")], ..Selection::default() };
    committed(site.backup_with(site.engine(), request).await.unwrap())
}

async fn between(site: &Site, then: &Manifest, now: &Manifest) -> Diff {
    diff(&site.store, then, now, &[]).await.unwrap()
}

/// Paths of what differs, without the numbers of things.
fn paths(found: &Diff) -> BTreeSet<String> {
    let fields = found.changes.iter().flat_map(|change| &change.fields);
    let path = |field: &lakehold::diff::FieldChange| match field.part {
        Role::Object => field.path.clone(),
        part => part.word().to_owned(),
    };
    fields.map(path).filter(|path| path != "constraints" && !path.starts_with("relations.")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sort_of_change_is_told_once_by_name() {
    let server = awkward().await;
    server.sql("postgres", "create role reader; create role writer");
    let site = site(&server.url("postgres"), json!({"databases": ["shop"]}));
    let mut then = databases(&site).await;
    for ((sql, told), below) in CHANGES.iter().map(|c| (c, "schema.")).chain(BESIDES.iter().map(|c| (c, "")))
    {
        server.sql("shop", sql);
        let now = databases(&site).await;
        let found = between(&site, &then, &now).await;
        let expected: BTreeSet<_> = told.iter().map(|path| format!("{below}{path}")).collect();
        let mut seen = paths(&found);
        if !expected.contains("roles") {
            // Who may use something of it now is told besides.
            seen.remove("roles");
        }
        assert_eq!(seen, expected, "{sql}: {found:#?}");
        assert_eq!(found.changes.len(), 1, "{sql}");
        then = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_told_by_their_number() {
    let server = awkward().await;
    let site = site(&server.url("postgres"), json!({"databases": ["shop"]}));
    let then = site.backup().await;
    server.sql("shop", "insert into priced (net) values (7); insert into wife (husband) values (1)");
    let found = between(&site, &then, &site.backup().await).await;
    let told: Vec<_> =
        found.changes.iter().map(|change| (change.kind.as_str(), change.name.as_str())).collect();
    assert_eq!(told, [("database", "shop"), ("table", "shop.public.priced"), ("table", "shop.public.wife")]);
    for (table, from) in [(1, 200), (2, 50)] {
        let fields = &found.changes[table].fields;
        let [rows, data] = fields.as_slice() else { panic!("{fields:?}") };
        assert_eq!((rows.path.as_str(), data.part), ("rows.count", Role::Data));
        assert_eq!(
            (rows.from.clone(), rows.to.clone()),
            (Some(Value::from(from)), Some(Value::from(from + 1)))
        );
    }
    assert_eq!(
        paths(&Diff { changes: vec![found.changes[0].clone()], ..found }).len(),
        1,
        "the sequence alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_changes_differs_in_no_backup() {
    let server = awkward().await;
    let site = site(&server.url("postgres"), json!({}));
    let first = site.backup().await;
    for n in 0..10 {
        let again = site.backup().await;
        assert_eq!(again.content_root, first.content_root, "backup {n}");
        let found = between(&site, &first, &again).await;
        assert!(!found.differs && !found.unknown, "backup {n}: {found:#?}");
    }
    let found = items(&site, &first).await;
    let database = object(&found, "database", "shop");
    assert_eq!((&database["roles"], &database["hidden"]), (&json!(["postgres"]), &json!([])));
    assert_eq!(
        database["relations"]["v"], 1,
        "those of extensions are not counted: {}",
        database["relations"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_cannot_be_read_is_unknown_and_no_change() {
    let server = awkward().await;
    let site = site(&server.url("postgres"), json!({"databases": ["shop"]}));
    let then = databases(&site).await;
    // PostgreSQL locks a view to write out its definition: whoever changes it is waited for.
    let mut psql = server.psql("shop").spawn().unwrap();
    let mut changing = psql.stdin.take().unwrap();
    writeln!(changing, "begin; alter view doubled set (security_barrier = true);").unwrap();
    let waits =
        |mode: &str| format!("select count(*) from pg_locks where relation = 'doubled'::regclass and {mode}");
    until("the view is held", || server.sql("shop", &waits("mode = 'AccessExclusiveLock'")) == "1").await;
    let (now, ()) = tokio::join!(databases(&site), async {
        until("the archive waits for it", || server.sql("shop", &waits("not granted")) == "1").await;
        writeln!(changing, "rollback;").unwrap();
        drop(changing);
    });
    assert!(psql.wait().unwrap().success());
    let found = between(&site, &then, &now).await;
    let [change] = found.changes.as_slice() else { panic!("{found:#?}") };
    assert_eq!((change.change, change.fields.len(), found.differs), (What::Gap, 0, false), "{change:#?}");
    let why = change.gaps[0].to.as_ref().unwrap();
    assert!(
        why.message.contains(r#"["public.quadrupled"].definition"#) && why.message.ends_with("and 1 more"),
        "{why:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_reads_what_changed_since_the_last_backup() {
    let server = awkward().await;
    let program = program(&server, ", databases: [shop]").await;
    let ran = program.start("backup").end().await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let ran = program.start("diff shop live:shop --exit-code").end().await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    server.sql(
        "shop",
        "alter table priced add note text; insert into priced (net) values (7); \
         create or replace view doubled as select net * 2 + 1 as net from totals",
    );
    let ran = program.start("diff shop live:shop --exit-code").end().await;
    assert_eq!(ran.code, Some(8), "{ran:#?}");
    for line in [
        "  ~ database/shop\n      schema.tables[\"public.priced\"].columns.note: none -> {\"type\":\"text\"}\n",
        "      schema.views[\"public.doubled\"].definition: ",
        "  ~ table/shop.public.priced\n      columns[\"note\"]: none -> {\"name\":\"note\",\"type\":\"text\"}\n      rows.count: 200 -> 201\n",
    ] {
        assert!(ran.out.contains(line), "{line}: {}", ran.out);
    }
    assert!(ran.out.contains("+ (1)::numeric") && !ran.out.contains("content:"), "{}", ran.out);
}
