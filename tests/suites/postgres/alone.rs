//! One table comes back without its database: in its place, with all that hangs on it, and beside.

use std::collections::BTreeSet;

use lakehold_proto::killpoint::OF_DATABASE;
use lakehold_tests::component::postgres::Postgres;
use lakehold_tests::program::Program;

use super::restore::{does, program};
use super::{awkward, digests};

const NONE: [&str; 0] = [];

/// What hangs on tables, and what they bring along.
const MORE: &str = "
    create role app; create role readers;
    grant usage, create on schema public to app;
    alter table husband owner to app;
    grant select on husband to readers; grant update (age) on husband to readers; grant usage on husband_id_seq to readers;
    alter default privileges grant all on tables to public;
    create view husbands with (security_barrier = true) as select h.id, w.id as wife from husband h join wife w on w.husband = h.id;
    create view elders as select * from husbands where id > 40;
    grant select on husbands to readers;
    create index \"by \"\"age\"\" on x\" on husband (age desc) where age > 3;
    create unique index on husband ((id + 1)) include (wife);
    alter table husband add constraint old_enough check (age > 0) not valid;
    alter table husband cluster on husband_pkey;
    alter table husband replica identity full;
    alter table husband alter age set statistics 77;
    create statistics husband_stats on wife, age from husband;
    comment on table husband is 'it''s a husband'; comment on column husband.age is 'in years';
    comment on index husband_pkey is 'the key'; comment on constraint old_enough on husband is 'since ever';
    create function touched() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger touch before update on husband for each row execute function touched();
    create rule quiet as on delete to husband where old.id < 0 do instead nothing;
    alter table husband enable row level security; create policy mine on husband using (true);
    create policy husbands_only on wife using (husband in (select id from husband where id > 0));
    drop policy husbands_only on wife;
    create index on events (what);
    alter table events add primary key (id, at, what);
";

async fn equipped() -> Postgres {
    let server = awkward().await;
    server.sql("shop", "delete from events where what is null");
    server.sql("shop", MORE);
    server
}

/// What the server says of the schema, without tables that were kept: its lines, sorted, since what differs is to be seen.
fn schema(server: &Postgres) -> BTreeSet<String> {
    let said = server.program("pg_dump", "shop").args(["-s", "-N", "*_before_*"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let text = String::from_utf8(said.stdout).unwrap();
    text.lines().filter(|line| !line.contains("restrict ")).map(str::to_owned).collect()
}

/// What only one of two schemas has.
fn differences(server: &Postgres, definitions: &BTreeSet<String>) -> Vec<String> {
    schema(server).symmetric_difference(definitions).cloned().collect()
}

/// The digests of all tables but those that were kept.
fn rows(server: &Postgres) -> Vec<(String, String)> {
    let all = digests(server, "shop").into_iter();
    all.filter(|(name, _)| !name.contains("_before_")).collect()
}

/// The schemas of ours that there are.
fn ours(server: &Postgres) -> Vec<String> {
    let sql = "select nspname from pg_namespace where nspname ~ '_(new|before)_' order by 1";
    server.sql("shop", sql).lines().map(str::to_owned).collect()
}

async fn brings(program: &Program, table: &str) {
    does(program, &format!("restore shop --to shop --item table/shop.{table} --apply --yes")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_takes_its_place_with_all_that_hangs_on_it() {
    let server = equipped().await;
    let program = program(&server, &server);
    let (before, definitions) = (rows(&server), schema(&server));
    let stood = server.sql("shop", "select last_value from husband_id_seq");
    does(&program, "backup --env shop").await;

    // The plan changes nothing, and says what is done.
    server.sql("shop", "update husband set age = 99; select setval('husband_id_seq', 1000)");
    let typed = "restore shop --to shop --item table/shop.public.husband";
    let plan = does(&program, &format!("{typed} -o json")).await.json();
    assert_eq!(plan["summary"]["replace"], 1, "{plan:#}");
    assert_eq!(
        (ours(&server), server.sql("shop", "select distinct age from husband")),
        (vec![], "99".into())
    );

    // Its rows and all that hangs on it are what they were; what was there is kept.
    let id = server.sql("shop", "select 'husband'::regclass::oid");
    brings(&program, "public.husband").await;
    assert_eq!(differences(&server, &definitions), NONE);
    assert_eq!(rows(&server), before);
    assert_ne!(server.sql("shop", "select 'husband'::regclass::oid"), id);
    assert_eq!(server.sql("shop", "select last_value from husband_id_seq"), stood);
    assert_eq!(server.sql("shop", "select count(*), max(id) from elders"), "10|50");
    let [kept] = &ours(&server)[..] else { panic!("{:?}", ours(&server)) };
    assert!(kept.starts_with("public_before_"), "{kept}");
    assert_eq!(server.sql("shop", &format!("select distinct age from {kept}.husband")), "99");

    // And back again.
    does(&program, "restore undo shop --apply --yes").await;
    assert_eq!(server.sql("shop", "select 'husband'::regclass::oid"), id);
    assert_eq!(server.sql("shop", "select distinct age from husband"), "99");
    assert_eq!((differences(&server, &definitions), ours(&server)), (vec![], vec![]));

    // A partition, of two levels too; what has neither keys nor columns, and what has a name.
    server.sql(
        "shop",
        "delete from events; delete from guarded; delete from priced where net < 3; truncate volatile_table",
    );
    server.sql("shop", "update husband set age = age - 98 where id = 7; delete from \"odd schema.with dots\".\"semi;colon'--\"");
    for table in
        ["public.events_*", "public.guarded", "public.volatile_table", "public.no_columns", "public.husband"]
    {
        brings(&program, table).await;
    }
    brings(&program, "*semi*").await;
    assert_eq!(differences(&server, &definitions), NONE);

    // One that is gone, with what hung on it.
    server.sql("shop", "drop table django_migrations; drop table husband cascade; drop table events_2026_a");
    for table in ["django_migrations", "husband", "events_2026_a"] {
        brings(&program, &format!("public.{table}")).await;
    }
    let lost = |name: &str| before.iter().find(|(of, _)| of.contains(name)).unwrap();
    for name in ["django_migrations", "husband", "events_2026_a"] {
        assert!(rows(&server).contains(lost(name)), "{name}");
    }
    assert_eq!(
        server.sql("shop", "select count(*) from pg_constraint where conrelid = 'husband'::regclass"),
        "3"
    );
    assert_eq!(
        server.sql("shop", "select count(*) from pg_inherits where inhrelid = 'events_2026_a'::regclass"),
        "1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stands_beside_and_what_cannot_be_bound_is_refused() {
    let server = equipped().await;
    let program = program(&server, &server);
    server.sql(
        "shop",
        "create publication p for table django_session; create table heir () inherits (toasted); \
         create function counted() returns bigint begin atomic select count(*) from empty_table; end; \
         create table kept_whole (was guarded); create table borrower (id int default nextval('django_migrations_id_seq'))",
    );
    let (before, definitions) = (rows(&server), schema(&server));
    does(&program, "backup --env shop").await;

    let beside = "restore shop --to shop --item table/shop.public.husband --as husband_then --apply --yes";
    does(&program, beside).await;
    let digest = |name: &str| rows(&server).into_iter().find(|(of, _)| of.ends_with(name)).unwrap().1;
    assert_eq!(digest("husband_then"), digest("husband"));
    assert_eq!(server.sql("shop", "select relacl is null or relacl::text !~ '=[a-z]' or relacl::text ~ '^{app=[^,]*}$' from pg_class where relname = 'husband_then'"), "t");
    does(&program, "restore undo shop --apply --yes").await;
    assert_eq!((differences(&server, &definitions), ours(&server)), (vec![], vec![]));
    assert_eq!(rows(&server), before);

    // What a materialised view reads, what is published, and what has heirs stays where it is.
    for (table, told) in [
        ("priced", "materialized view public.totals"),
        ("django_session", "publication"),
        ("toasted", "heir"),
        ("empty_table", "function public.counted()"),
        ("guarded", "kept_whole"),
        ("django_migrations", "borrower"),
    ] {
        let typed = format!("restore shop --to shop --item table/shop.public.{table} --apply --yes");
        let refused = program.start(&typed).end().await;
        assert_eq!(refused.code, Some(3), "{refused:#?}");
        assert!(refused.out.contains(told) && refused.out.contains("--as NAME"), "{table}: {refused:#?}");
        assert_eq!(differences(&server, &definitions), NONE, "{table}");
        assert_eq!(rows(&server), before, "{table}");
    }
    // Rows of others would point to nothing.
    server
        .sql("shop", "insert into husband (id, age) values (77, 7); insert into wife (husband) values (77)");
    let refused =
        program.start("restore shop --to shop --item table/shop.public.husband --apply --yes").end().await;
    assert_eq!(refused.code, Some(3), "{refused:#?}");
    assert!(refused.out.contains("wife_husband_fkey"), "{refused:#?}");
    assert_eq!(server.sql("shop", "select count(*) from husband"), "51");
    // A copy may lie in a schema that there is not yet.
    let archived = "restore shop --to shop --item table/shop.public.wife --as archive.wife --apply --yes";
    does(&program, archived).await;
    assert_eq!(server.sql("shop", "select count(*), count(distinct id) from archive.wife"), "50|50");
    // What an undo would bring back is no more: the only table that there is stays.
    brings(&program, "public.volatile_table").await;
    let kept = ours(&server).pop().unwrap();
    server.sql("shop", &format!("drop table {kept}.volatile_table"));
    let undone = program.start("restore undo shop --apply --yes").end().await;
    assert_eq!(undone.code, Some(3), "{undone:#?}");
    assert!(undone.out.contains("was dropped meanwhile"), "{undone:#?}");
    assert_eq!(server.sql("shop", "select count(*) from volatile_table"), "100");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_with_a_table_is_followed_by_one_that_goes_on() {
    let server = equipped().await;
    let program = program(&server, &server);
    let (before, definitions) = (rows(&server), schema(&server));
    does(&program, "backup --env shop").await;
    let typed = "restore shop --to shop --item table/shop.public.husband --apply --yes";
    for point in
        OF_DATABASE.iter().filter(|point| **point != "worker.half-swapped").chain(&["worker.after-made"])
    {
        server.sql("shop", "update husband set age = 99");
        program.variable("LAKEHOLD_KILL", point);
        let killed = program.start(typed).end().await;
        assert_eq!(killed.code, None, "{point}: {killed:#?}");
        program.without("LAKEHOLD_KILL");
        does(&program, &format!("{typed} --resume")).await;
        assert_eq!(differences(&server, &definitions), NONE, "{point}");
        assert_eq!(rows(&server), before, "{point}");
        assert!(
            ours(&server).iter().all(|schema| schema.contains("_before_")),
            "{point}: {:?}",
            ours(&server)
        );
    }
}
