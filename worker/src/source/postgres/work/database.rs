//! One database, from one snapshot: hold it, keep what it is and its schema, and dump its rows, by ourselves or by handing
//! them out to others who work in the same snapshot. Until they have ended, it is held.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use lakehold_proto::config::Databases;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::task::{Bucket, Shard, TaskSpec};
use serde::Serialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::super::catalog::{
    DATABASES, Database, Digest, MIGRATION_TABLES, PROPERTIES, Properties, REFERENCES, Reference, SEQUENCES,
    Sequence, TABLES, Table, digest,
};
use super::super::dump::{Dump, unexpected};
use super::super::kinds::{DATABASE, LOOSE_DATA, TABLE};
use super::super::names::{first, identifier, join};
use super::super::probe::{FACT_ONE_WORKER, FACT_STANDBY};
use super::super::reading::Reading;
use super::super::session::Session;
use super::held::Held;
use super::listing::{WITHIN, refused};
use super::loose::{self, Loose};
use super::rows::{self, Within};
use super::{Work, document, schema};
use crate::capture::{Body, Capture, Draft};

/// Tables from this size on have a task of their own.
const BIG: u64 = 16 * 1024 * 1024;
/// Small tables that share a task.
const TOGETHER: usize = 100;
/// What may take longer than a task may: a stream that cannot be cut.
const LONG: u64 = 1024 * 1024 * 1024;
/// A schema is not waited for longer: all tables are locked meanwhile.
const SCHEMA: Duration = Duration::from_secs(10 * 60);
/// A database is not held longer: what it holds up on the server grows.
const AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// What is found in a database.
struct Found {
    /// Tables whose rows are dumped.
    tables: Vec<Table>,
    /// Tables of which nothing but what belongs to them is dumped: others have the rows, or nobody keeps them.
    others: Vec<Table>,
    /// Tables whose definition we cannot even look at.
    hidden: Vec<Table>,
    /// Tables whose rows are left out, by the pattern that says so.
    without_rows: BTreeMap<String, Vec<Table>>,
    sequences: Vec<Sequence>,
    properties: Properties,
    migrations: Vec<serde_json::Value>,
    references: Vec<Reference>,
    /// What the database lacks that a person must know of.
    lacks: Vec<String>,
}

/// What one task dumps.
struct Group {
    shard: Shard,
    tables: Vec<Table>,
}

/// Captures the database that `scope` names.
///
/// # Errors
/// Those of [`crate::source::Source::work`].
pub(super) async fn capture(work: &Work, capture: &mut Capture, scope: &str) -> Result<()> {
    let database = first(scope);
    let mut held = match Held::take(&work.programs, &database, work.is_last()).await {
        Ok(held) => held,
        Err(fault) => return not_held(work, capture, &database, fault).await,
    };
    let within = Within::of(database, &held.snapshot);
    let mut found = look(work, capture, &mut held, &within.database).await?;
    let loose = loose_of(work, &within.database, &found);
    let groups = groups(&within.database, std::mem::take(&mut found.tables));
    let facts = &capture.plan().probe.facts;
    let is_alone = facts.contains_key(FACT_ONE_WORKER) || groups.len() + usize::from(!loose.is_empty()) < 2;
    // Before the others, who may take all there are for long.
    let permit = if work.wants(DATABASE) { Some(work.permit().await?) } else { None };
    if !is_alone {
        hand_out(capture, &within, &groups, &loose).await?;
    }
    // The schema, while others dump rows already.
    if let Some(permit) = permit {
        add_database(work, capture, &mut held, &within, &found, permit).await?;
    }
    if is_alone {
        for group in &groups {
            rows::dump(work, capture, &within, &group.tables).await?;
        }
        loose::dump(work, capture, &within, &loose).await?;
    } else {
        tokio::select! {
            ended = capture.until_ended(AT_MOST) => ended?,
            lost = held.until_lost(work.is_last()) => return Err(lost),
        }
    }
    held.release().await
}

/// Why it could not be held. One that was dropped meanwhile is no more; one that was asked for by name is missed.
async fn not_held(work: &Work, capture: &mut Capture, database: &str, fault: Fault) -> Result<()> {
    let databases: Vec<Database> = Session::open(&work.programs, None).await?.rows(DATABASES).await?;
    let shard = Shard::under(join(&[database]));
    match databases.iter().find(|known| known.name == database) {
        Some(known) => match refused(known) {
            Some((fault, permission)) => work.not_listed(capture, WITHIN, shard, fault, permission),
            None => work.not_listed(capture, WITHIN, shard, fault, None),
        },
        None if work.settings.databases == Databases::All => {
            capture.leave_out(&Kind::of(DATABASE), "dropped while the backup ran");
            Ok(())
        }
        None => {
            let context = format!("find the database {database:?}");
            let detail = "it was dropped while the backup ran";
            let fault = Fault::new(Class::Absent, "pg.no-database", context, detail);
            work.not_listed(capture, WITHIN, shard, fault, None)
        }
    }
}

/// Asks what there is, in the snapshot.
async fn look(work: &Work, capture: &mut Capture, held: &mut Held, database: &str) -> Result<Found> {
    let session = &mut held.session;
    let (mut tables, mut others, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
    let mut without_rows = BTreeMap::<_, Vec<_>>::new();
    let mut migrations = Vec::new();
    let kind = Kind::of(TABLE);
    let without_data = capture.plan().selection.without_data;
    let is_standby = capture.plan().probe.facts.contains_key(FACT_STANDBY);
    let mut busy: HashMap<String, Fault> = std::mem::take(&mut held.busy).into_iter().collect();
    for table in session.rows::<Table>(TABLES).await? {
        let busy = busy.remove(&table.oid);
        let refused = denied(&table).or(busy).or_else(|| unreadable(&table, is_standby));
        if refused
            .as_ref()
            .is_some_and(|fault| fault.code != "pg.row-security" && fault.code != "pg.unlogged")
        {
            hidden.push(table.clone());
        }
        let name = [database, &table.schema, &table.name];
        let is_member = table.extension.is_some() && !table.is_configuration;
        if table.is_root || !work.takes(&name) {
            others.extend((refused.is_none() && table.extension.is_none()).then_some(table));
            continue;
        }
        if is_member {
            capture.leave_out(&kind, "belongs to an extension, which fills it");
            continue;
        }
        if refused.is_none() && MIGRATION_TABLES.contains(&table.name.as_str()) {
            let sql = format!("{}.{}", identifier(&table.schema), identifier(&table.name));
            let Digest { rows, sha256 } = session.row(&digest(&sql)).await?;
            migrations
                .push(json!({"schema": table.schema, "name": table.name, "rows": rows, "sha256": sha256}));
        }
        if without_data && work.wants(TABLE) {
            // Where no rows are read, nothing keeps us from any table.
            let about = document::body(&document::table(&table, None));
            capture.add(&kind, document::draft(database, &table).part(Role::Object, about)).await?;
        } else if let Some(pattern) =
            work.settings.without_rows.iter().find(|pattern| pattern.means_table(&name))
        {
            capture.leave_out(&kind, &format!("`exclude_table_data` {}", pattern.typed));
            others.extend(refused.is_none().then(|| table.clone()));
            without_rows.entry(pattern.typed.clone()).or_default().push(table);
        } else if !work.wants(TABLE) {
            others.extend(refused.is_none().then_some(table));
        } else if let Some(fault) = refused {
            capture.add(&kind, document::missing(database, &table, fault)).await?;
        } else {
            tables.push(table);
        }
    }
    let mut found = Found {
        tables,
        others,
        hidden,
        without_rows,
        sequences: session.rows(SEQUENCES).await?,
        properties: session.row(PROPERTIES).await?,
        migrations,
        references: session.rows(REFERENCES).await?,
        lacks: Vec::new(),
    };
    found.lacks = lacks(work, database, &found);
    Ok(found)
}

/// The right that is missing to read a table, if one is.
fn denied(table: &Table) -> Option<Fault> {
    let missing = if !table.may_enter {
        format!("USAGE on schema {} is missing", table.schema)
    } else if !table.may_select {
        format!("SELECT on table {}.{} is missing", table.schema, table.name)
    } else {
        return None;
    };
    Some(Fault::new(Class::Denied, "pg.denied", "read a table", missing))
}

/// Why not all rows of a table could be read by who may read it.
fn unreadable(table: &Table, is_standby: bool) -> Option<Fault> {
    if table.is_filtered {
        let detail = "its row security hides rows from us: BYPASSRLS is missing";
        return Some(Fault::new(Class::Denied, "pg.row-security", "read a table", detail));
    }
    (is_standby && table.persistence == "u").then(|| {
        let detail = "an unlogged table has no rows on a standby";
        Fault::new(Class::Unsupported, "pg.unlogged", "read a table", detail)
    })
}

/// The archive of the schema. What we may not look at is not in it.
async fn archive(
    work: &Work,
    within: &Within,
    hidden: &[Table],
    permit: OwnedSemaphorePermit,
) -> Result<Body> {
    let mut arguments = within.arguments().to_vec();
    arguments.push("-s".to_owned());
    for table in hidden {
        arguments.push(format!("-T{}.{}", identifier(&table.schema), identifier(&table.name)));
    }
    let dumped = async {
        let mut dump = Dump::begin(&work.programs, &within.database, &arguments, permit).await?;
        if dump.block().await?.is_some() {
            return Err(unexpected("a schema has no rows"));
        }
        let (head, lasting) = dump.head(None, |_| true);
        Reading::begin(&work.programs, &head).await?.end().await?;
        Ok(Body::compared(head, lasting))
    };
    // For the definition of a view it waits for the tables behind it, without a limit of its own.
    tokio::time::timeout(SCHEMA, dumped).await.unwrap_or_else(|_| {
        let detail = format!("it did not end within {} minutes", SCHEMA.as_secs() / 60);
        Err(Fault::new(Class::Unavailable, "pg.locked", "dump the schema", detail)
            .hint("look for who holds a table that a view reads: select * from pg_locks where not granted"))
    })
}

async fn add_database(
    work: &Work,
    capture: &mut Capture,
    held: &mut Held,
    within: &Within,
    found: &Found,
    permit: OwnedSemaphorePermit,
) -> Result<()> {
    let name = join(&[&within.database]);
    let names = |tables: &Vec<Table>| {
        tables.iter().map(|table| join(&[&table.schema, &table.name])).collect::<Vec<_>>()
    };
    let without_rows: BTreeMap<_, _> =
        found.without_rows.iter().map(|(pattern, tables)| (pattern, names(tables))).collect();
    let told = &found.properties;
    let mut document = json!({
        "properties": told.properties,
        "settings": told.settings,
        "role_settings": told.role_settings,
        "roles": told.roles,
        "extensions": told.extensions,
        "relations": told.relations,
        "constraints": told.constraints,
        "not_validated": told.not_validated,
        "invalid_indexes": told.invalid_indexes,
        "not_populated": told.not_populated,
        "sequences": found.sequences,
        "migrations": found.migrations,
        "without_rows": without_rows,
        "hidden": names(&found.hidden),
        document::CAPTURED: {
            "at": held.snapshot,
            "bytes": told.bytes,
            "pg_dump": work.programs.version,
        },
    });
    let mut draft = Draft::new(name.clone(), name);
    draft = match schema::ask(&mut held.session, &held.snapshot.encoding).await {
        Ok(schema) => draft.part(Role::Object, document::with_schema(&document, &schema)),
        Err(fault) if work.attempt == 1 || fault.code == "pg.connection-lost" => return Err(fault),
        Err(fault) => {
            let reason = format!("the catalogue does not tell the schema: {fault}");
            document["schema"] = json!({"unknown": reason});
            draft.part(Role::Object, document::body(&document)).degraded(reason)
        }
    };
    for reason in &found.lacks {
        draft = draft.degraded(reason);
    }
    let draft = match archive(work, within, &found.hidden, permit).await {
        Ok(archive) => draft.part_as(Role::Content, document::HEAD, archive),
        Err(fault) if work.attempt == 1 => return Err(fault),
        Err(fault) => {
            rows::still_holds(work, within, None).await?;
            draft.gap(Role::Content, fault)
        }
    };
    capture.add(&Kind::of(DATABASE), draft).await
}

/// See [`Found::lacks`].
fn lacks(work: &Work, database: &str, found: &Found) -> Vec<String> {
    let mut lacks = Vec::new();
    for table in &found.hidden {
        let name = join(&[&table.schema, &table.name]);
        lacks.push(format!("without the definition of {name}, which we could not read"));
    }
    let left: HashMap<_, _> =
        found.without_rows.values().flatten().map(|table| (&table.oid, table)).collect();
    let kept: HashMap<_, _> = found.tables.iter().map(|table| (&table.oid, table)).collect();
    for Reference { name, from, to } in &found.references {
        if let (Some(from), Some(to)) = (kept.get(from), left.get(to)) {
            let [from, to] = [from, to].map(|table| join(&[&table.schema, &table.name]));
            lacks.push(format!("rows of {from} may point to rows of {to}, which are left out ({name})"));
        }
    }
    let is_alone = matches!(&work.settings.databases, Databases::Named(names) if names.len() == 1);
    for pattern in &work.settings.without_rows {
        let is_ours = is_alone || (pattern.is_of_a_database() && pattern.may_mean(database));
        if is_ours && !found.without_rows.contains_key(&pattern.typed) {
            lacks.push(format!("`exclude_table_data` {} fits no table", pattern.typed));
        }
    }
    lacks
}

/// Large objects, and the sequences that no table brings along which is dumped. Those of a table that we may not read come
/// with it alone, and are missed with it.
fn loose_of(work: &Work, database: &str, found: &Found) -> Loose {
    if !work.wants(LOOSE_DATA) || !work.takes(&[database, "", ""]) {
        return Loose { sequences: Vec::new(), of_tables: Vec::new(), large_objects: 0 };
    }
    let owners = found.others.iter().filter(|table| !table.sequences.is_empty());
    let of_tables = owners.map(|table| (table.schema.clone(), table.name.clone())).collect();
    let free = found.sequences.iter().filter(|sequence| !sequence.is_owned);
    let sequences = free.map(|sequence| (sequence.schema.clone(), sequence.name.clone())).collect();
    Loose { sequences, of_tables, large_objects: found.properties.large_objects }
}

/// Big tables one by one, small ones by the hash of their name: what changes nowhere else changes no border. The largest come
/// last: what was asked for last is sent first, and nobody shall wait at the end for a large one that began late.
fn groups(database: &str, tables: Vec<Table>) -> Vec<Group> {
    let (big, small): (Vec<_>, Vec<_>) =
        tables.into_iter().partition(|table| table.bytes.unwrap_or_default() >= BIG);
    let name = |table: &Table| join(&[database, &table.schema, &table.name]);
    let of = small.len().div_ceil(TOGETHER).next_power_of_two() as u32;
    let mut buckets: BTreeMap<u32, Vec<Table>> = BTreeMap::new();
    for table in small {
        buckets.entry(Bucket::of_key(&name(&table), of).index).or_default().push(table);
    }
    let whole = Shard::under(join(&[database]));
    let big = big.into_iter().map(|table| Group { shard: Shard::under(name(&table)), tables: vec![table] });
    let small =
        buckets.into_iter().map(|(index, tables)| Group { shard: whole.cut(Bucket { index, of }), tables });
    let mut groups: Vec<_> = big.chain(small).collect();
    groups.sort_by_key(Group::bytes);
    groups
}

impl Group {
    fn bytes(&self) -> u64 {
        self.tables.iter().filter_map(|table| table.bytes).sum()
    }
}

/// Asks others to dump, in our snapshot.
async fn hand_out(capture: &mut Capture, within: &Within, groups: &[Group], loose: &Loose) -> Result<()> {
    let parts = groups.len() + usize::from(!loose.is_empty());
    let mut listing = capture.listing(parts as u32);
    let mut children = Vec::new();
    let stage = capture.assignment().task.stage;
    for (part, group) in groups.iter().enumerate() {
        listing.push(part as u32, &line(within)?).await?;
        for table in &group.tables {
            listing.push(part as u32, &line(table)?).await?;
        }
        children.push((Kind::of(TABLE), group.shard.clone(), group.bytes() >= LONG));
    }
    if !loose.is_empty() {
        let part = groups.len() as u32;
        listing.push(part, &line(within)?).await?;
        listing.push(part, &line(loose)?).await?;
        // How large they are is not known.
        children.push((
            Kind::of(LOOSE_DATA),
            Shard::under(join(&[&within.database])),
            loose.large_objects > 0,
        ));
    }
    let frames = listing.finish(parts as u32).await?;
    for ((kind, shard, long), input) in children.into_iter().zip(frames) {
        let yields = vec![kind.clone()].into();
        capture.child(TaskSpec { kind, shard, stage, yields, long, input });
    }
    capture.hand_out().await
}

fn line(of: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(of)
        .map_err(|e| Fault::new(Class::Bug, "pg.listing", "write down what is to be dumped", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, bytes: u64) -> Table {
        serde_json::from_value(json!({"oid": name, "schema": "public", "name": name, "is_root": false, "persistence": "p",
            "may_enter": true, "may_select": true, "is_filtered": false, "is_configuration": false, "bytes": bytes,
            "estimate": 0, "columns": [], "sequences": []}))
        .unwrap()
    }

    #[test]
    fn big_tables_stand_alone_and_borders_depend_on_names() {
        let small = |count: usize| (0..count).map(|n| table(&format!("t{n}"), 10));
        let shards = |tables: Vec<Table>| {
            groups("shop", tables).into_iter().map(|group| group.shard).collect::<Vec<_>>()
        };
        assert_eq!(shards(small(3).collect()), [Shard::under("shop").cut(Bucket { index: 0, of: 1 })]);
        let with_big = [table("larger", 2 * BIG)].into_iter().chain(small(3)).chain([table("big", BIG)]);
        let with_big = shards(with_big.collect());
        assert_eq!(with_big[1..], [Shard::under("shop.public.big"), Shard::under("shop.public.larger")]);
        let many = groups("shop", small(150).collect());
        assert_eq!(many.len(), 2);
        assert!(many.iter().all(|group| group.tables.iter().all(|table| {
            Some(Bucket::of_key(&format!("shop.public.{}", table.name), 2)) == group.shard.bucket
        })));
        assert!(groups("shop", Vec::new()).is_empty());
    }

    #[test]
    fn the_missing_right_is_named() {
        let missing = |change: fn(&mut Table)| {
            let mut table = table("x", 1);
            change(&mut table);
            denied(&table).or_else(|| unreadable(&table, true)).map(|fault| (fault.class, fault.detail))
        };
        assert_eq!(missing(|_| {}), None);
        let (class, detail) = missing(|table| table.may_select = false).unwrap();
        assert_eq!((class, detail.contains("SELECT on table public.x")), (Class::Denied, true));
        assert!(missing(|table| table.may_enter = false).unwrap().1.contains("USAGE on schema public"));
        assert!(missing(|table| table.is_filtered = true).unwrap().1.contains("BYPASSRLS"));
        assert_eq!(missing(|table| table.persistence = "u".into()).unwrap().0, Class::Unsupported);
    }
}
