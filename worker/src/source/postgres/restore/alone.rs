//! One table, without its database: made, loaded and equipped with its keys in a schema of its own; then, in one transaction, it
//! takes the place of the table of its name, which is kept in a schema beside.
//!
//! What `pg_dump` wrote down makes a table of one name and no other. So the old one is out of the way for as long as a definition
//! takes, within a transaction: nobody sees it go. What hangs on the old one (views, foreign keys of others, the table that it
//! is a partition of) is bound to the new one where that can be done in the same transaction; where it cannot, nothing is.

use std::collections::HashSet;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::{Kind, RunId};
use lakehold_proto::killpoint::killpoint;
use lakehold_proto::restore::{Made, Meant, Step};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::archive::{Archive, Entry, qualified};
use super::super::kinds::{DATABASE, TABLE};
use super::super::names::{BEFORE, NEW, beside, first, identifier, join, literal, split};
use super::super::session::Session;
use super::known::called;
use super::{Bringing, Done, feed, part};

/// How the comment of a schema of ours begins, and what it says of one with tables whose place others took.
const OURS: &str = "lakehold: ";
const KEPT: &str = "tables whose place others took";
/// What a person can do instead, said where an item's gap is told.
const INSTEAD: &str = "nothing was changed: bring it back beside (--as NAME), or with its database";
/// Held by whoever moves tables about in a database.
const ALONE: &str = "select pg_advisory_xact_lock(hashtextextended('lakehold tables', 0))";
/// Who is in the way of a move is waited for this long: everybody else waits behind us.
const PATIENCE: &str = "begin; set local lock_timeout = '30s'";

/// Where a table is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Spot {
    schema: String,
    name: String,
}

/// One row.
#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
}

/// Something that hangs on a table, and the SQL that lets it go and binds it again.
#[derive(Clone, Debug, Deserialize)]
struct Bound {
    let_go: Option<String>,
    bind: String,
}

/// What of a schema's archive makes one table, in the order in which it is needed.
#[derive(Debug, Default)]
struct Definitions {
    /// What rows need.
    table: Vec<Definition>,
    /// Keys and indexes, for a table whose name is still to be said.
    keys: Vec<(String, String)>,
    /// All else, which is bound to the place.
    last: Vec<String>,
    /// What makes it a partition of what it was one of.
    attach: Option<String>,
    owner: String,
}

#[derive(Debug)]
struct Definition {
    sql: String,
    tablespace: String,
    method: String,
}

/// A table on its way back.
struct Coming<'a> {
    work: &'a Bringing,
    step: &'a Step,
    document: &'a Value,
    database: &'a str,
    /// What its definition calls it.
    was: Spot,
    /// Where it is made.
    there: Spot,
    /// Where it belongs.
    place: Spot,
    /// Where what has its place goes.
    kept: Spot,
}

/// Brings a table back by itself.
///
/// # Errors
/// `Conflict` (`pg.exists`, `pg.hangs-on-it`, `pg.refused`) when it cannot take its place: then nothing was changed;
/// `Integrity` (`pg.row-count`) when it has not the rows that the snapshot says; those of [`feed`].
pub(super) async fn bring(work: &Bringing, step: &Step) -> Done {
    let document = work.document(step).await?;
    let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    let was = Spot { schema: text("schema"), name: text("name") };
    let key = called(TABLE, &step.name, &work.restoring.crossing);
    let [_, schema, name] = &split(&key)[..] else {
        let detail = format!("{key:?} is no DATABASE.SCHEMA.TABLE");
        return Err(Fault::new(Class::Bug, "pg.name", "bring a table back", detail));
    };
    let (run, database) = (work.reader.run, database_of(step));
    let coming = Coming {
        work,
        step,
        document: &document,
        database: &database,
        there: Spot { schema: beside(&was.schema, NEW, run), name: was.name.clone() },
        was,
        place: Spot { schema: schema.clone(), name: name.clone() },
        kept: Spot { schema: beside(schema, BEFORE, run), name: name.clone() },
    };
    let _permit = work.permit().await?;
    let mut session = Session::to_change(&work.programs, Some(&database)).await?;
    let item = literal(&format!("{TABLE}/{key}"));
    // Of two who were sent with it, one waits, and finds it done.
    session.run(&format!("select pg_advisory_lock(hashtextextended({item}, 0))")).await?;
    let done = coming.come(&mut session, &key).await;
    if done.as_ref().is_err_and(|fault| !fault.class.may_retry()) {
        // Nobody goes on with it.
        session.run("rollback").await?;
        session.run(&format!("drop table if exists {}", coming.there.sql())).await?;
        drop_empty(&mut session, &coming.there.schema).await?;
    }
    let told = done?;
    session.close().await?;
    Ok((Some(key), Some(told)))
}

impl Coming<'_> {
    async fn come(&self, session: &mut Session, key: &str) -> Result<Value> {
        let Self { work, step, document, place, .. } = self;
        let definitions = self.definitions().await?;
        let kind = Kind::of(TABLE);
        let made = match work.became.made(&kind, &step.key).await? {
            Some(made) => made,
            None => {
                self.still_free(session).await?;
                self.make(session, &definitions).await?;
                self.load(session).await?;
                for (begin, end) in &definitions.keys {
                    execute(session, &format!("{begin}{}{end}", self.there.sql())).await?;
                }
                session.run(&format!("analyze {}", self.there.sql())).await?;
                killpoint("worker.after-indexes");
                let alias = id_of(session, &self.there).await?;
                let made = Made { kind, from: step.key.clone(), key: key.to_owned(), alias };
                work.became.note(&made).await?;
                made
            }
        };
        let id = made.alias.unwrap_or_default();
        match spot_of(session, &id).await? {
            Some(is) if is == *place => {}
            Some(is) => {
                self.still_free(session).await?;
                let mut last = Vec::new();
                if *place == self.was {
                    last.extend(definitions.last);
                    last.extend(self.sequences().await?);
                    if id_of(session, place).await?.is_none() {
                        last.extend(definitions.attach);
                    }
                }
                killpoint("worker.before-swap");
                let swap = Swap { is: &is, place, kept: &self.kept, run: work.reader.run };
                swap.carry_out(session, &last).await?;
            }
            None => {
                let detail = format!("the table that was made for it (id {id}) is no more");
                return Err(Fault::new(Class::Absent, "pg.no-table", "put a table into its place", detail)
                    .hint("somebody dropped it while it was restored: restore again"));
            }
        }
        let kept = id_of(session, &self.kept).await?.map(|_| self.kept.name_in(self.database));
        Ok(json!({"id": id, "rows": document["rows"]["count"], "kept": kept}))
    }

    /// Makes the table, empty and without keys, in the schema that is its own until it is whole.
    async fn make(&self, session: &mut Session, definitions: &Definitions) -> Result<()> {
        let Self { work, was, there, .. } = self;
        let tablespaces: Vec<Named> = session.rows("select spcname as name from pg_tablespace").await?;
        let run = work.reader.run;
        session.run(PATIENCE).await?;
        session.run(ALONE).await?;
        let [schema, own] = [&was.schema, &there.schema].map(|schema| identifier(schema));
        open_schema(session, &there.schema, "tables that are being restored", run).await?;
        // What an attempt left that did not come to its end.
        session.run(&format!("drop table if exists {}", there.sql())).await?;
        session.run(&format!("create schema if not exists {schema}")).await?;
        let old = Spot { schema: beside(&was.schema, BEFORE, run), name: was.name.clone() };
        let is_there = id_of(session, was).await?.is_some();
        if is_there {
            open_schema(session, &old.schema, KEPT, run).await?;
            execute(session, &format!("alter table {} set schema {}", was.sql(), identifier(&old.schema)))
                .await?;
        }
        for Definition { sql, tablespace, method } in &definitions.table {
            let known = tablespaces.iter().any(|there| there.name == *tablespace);
            let tablespace = if known { tablespace } else { "" };
            session.run(&format!("set local default_tablespace = {}", literal(tablespace))).await?;
            if !method.is_empty() {
                session
                    .run(&format!("set local default_table_access_method = {}", identifier(method)))
                    .await?;
            }
            execute(session, sql).await?;
        }
        // Whatever a database grants on each new table, nobody is meant by it here.
        for revoke in session.rows::<Named>(&grants(was)).await? {
            session.run(&revoke.name).await?;
        }
        if !work.restoring.crossing.no_owner && !definitions.owner.is_empty() {
            let owner = identifier(&definitions.owner);
            execute(session, &format!("alter table {} owner to {owner}", was.sql())).await?;
        }
        execute(session, &format!("alter table {} set schema {own}", was.sql())).await?;
        if is_there {
            execute(session, &format!("alter table {} set schema {schema}", old.sql())).await?;
            drop_empty(session, &old.schema).await?;
        }
        session.run("commit").await
    }

    /// Loads its rows, all of them or none, and counts them.
    async fn load(&self, session: &mut Session) -> Result<()> {
        let Self { work, step, database, there, document, .. } = self;
        let head = feed::whole(&work.reader, part(step, Role::Content)?).await?;
        let head = Archive::open(&head[..]).await?.head_for(&there.sql()).await?;
        let label = feed::label(&format!("{TABLE}/{}", step.key));
        feed::end_others(session, &label).await?;
        let rows: Vec<_> = step.parts.iter().filter(|part| part.role == Role::Data).collect();
        let arguments = ["--single-transaction", "--no-owner"];
        feed::feed(&work.programs, database, &label, &arguments, &work.reader, &head, &rows).await?;
        killpoint("worker.after-load");
        #[derive(Deserialize)]
        struct Count {
            rows: u64,
        }
        let found: Count = session.row(&format!("select count(*) as rows from {}", there.sql())).await?;
        match document["rows"]["count"].as_u64() {
            Some(expected) if expected != found.rows => {
                let detail = format!("it has {} rows, and the snapshot has {expected}", found.rows);
                Err(Fault::new(Class::Integrity, "pg.row-count", "load a table", detail))
            }
            _ => Ok(()),
        }
    }

    /// What sets the table's own sequences to where they stood.
    async fn sequences(&self) -> Result<Vec<String>> {
        let Self { work, step, document, .. } = self;
        let head = feed::whole(&work.reader, part(step, Role::Content)?).await?;
        let archive = Archive::open(&head[..]).await?;
        let own = own_sequences(document);
        let is_own =
            |entry: &&Entry| entry.is_sequence() && own.contains(&(entry.schema.clone(), entry.tag.clone()));
        Ok(archive.entries.iter().filter(is_own).map(|entry| entry.definition().into_owned()).collect())
    }

    /// Finds what makes the table in the archive of its database's schema.
    async fn definitions(&self) -> Result<Definitions> {
        let Self { work, step, was, document, .. } = self;
        let schema = step.whole.first().ok_or_else(|| {
            let detail = "the plan does not say where its definition lies";
            Fault::new(Class::Bug, "pg.no-definition", "bring a table back", detail)
        })?;
        let schema = feed::whole(&work.reader, schema).await?;
        let archive = Archive::open(&schema[..]).await?;
        choose(&archive.entries, was, &own_sequences(document), work.restoring.crossing.no_owner).ok_or_else(
            || {
                let detail = format!("the schema of its database does not tell how {} is made", was.sql());
                Fault::new(Class::Absent, "pg.no-definition", "bring a table back", detail).hint(
                "who took the backup could not read its definition: see what the plan says of the database",
            )
            },
        )
    }

    /// Whether nobody has the place of a table of which the plan says that nobody has it.
    async fn still_free(&self, session: &mut Session) -> Result<()> {
        let Self { step, place, .. } = self;
        if step.target.is_some() || id_of(session, place).await?.is_none() {
            return Ok(());
        }
        let detail =
            format!("there is a table {} now, which was not there when the restore was planned", place.sql());
        Err(Fault::new(Class::Conflict, "pg.exists", "put a table into its place", detail)
            .hint("plan again: the plan will say that it is replaced; or restore under another name (--as)"))
    }
}

/// Takes a table away that a restore made by itself; what it had replaced has its place again.
///
/// # Errors
/// `Conflict` (`pg.other-table`) when the table of this name is another; as [`bring`].
pub(super) async fn take_away(work: &Bringing, step: &Step) -> Done {
    let document = work.document(step).await?;
    let told = &document["told"];
    let (Some(id), [database, schema, name]) = (told["id"].as_str(), &split(&step.key)[..]) else {
        let detail = "its record does not tell what was made";
        return Err(Fault::new(Class::Unsupported, "pg.no-record", "take a table away", detail));
    };
    let place = Spot { schema: schema.clone(), name: name.clone() };
    let mut session = Session::to_change(&work.programs, Some(database)).await?;
    let kept = told["kept"].as_str().map(split);
    let kept = kept.and_then(|kept| <[String; 3]>::try_from(kept).ok());
    let kept = kept.map(|[_, schema, name]| Spot { schema, name });
    let aside = Spot { schema: beside(&place.schema, NEW, work.reader.run), name: place.name.clone() };
    let is_kept = match &kept {
        Some(kept) => id_of(&mut session, kept).await?.is_some(),
        None => false,
    };
    let is_free = id_of(&mut session, &place).await?.is_none();
    match (spot_of(&mut session, id).await?, kept) {
        // An attempt before put it aside.
        (Some(is), _) if is == aside => {}
        (Some(is), None) if is == place => {
            execute(&mut session, &format!("drop table {}", place.sql())).await?;
        }
        (is, Some(kept)) if is_kept && (is_free || is.as_ref() == Some(&place)) => {
            let swap = Swap { is: &kept, place: &place, kept: &aside, run: work.reader.run };
            swap.carry_out(&mut session, &[]).await?;
        }
        // An attempt before did all of it.
        (None, _) if !is_kept => {}
        _ => {
            let detail = format!(
                "{} is not the table that the restore made, or what that replaced was dropped meanwhile",
                place.sql()
            );
            return Err(Fault::new(Class::Conflict, "pg.other-table", "take a table away", detail));
        }
    }
    session.run(&format!("drop table if exists {}", aside.sql())).await?;
    drop_empty(&mut session, &aside.schema).await?;
    session.close().await?;
    Ok((Some(step.key.clone()), None))
}

/// What the database of a table is called in the target.
fn database_of(step: &Step) -> String {
    let pointed = step.pointers.iter().find_map(|pointer| match &pointer.meant {
        Meant::Text(text) if pointer.kind.as_str() == DATABASE => Some(first(text)),
        _ => None,
    });
    pointed.unwrap_or_else(|| first(&step.key))
}

/// The commands that take from everybody but the owner what they may do with a table and its sequences.
fn grants(table: &Spot) -> String {
    format!(
        "select distinct format('revoke all on %s from %s', c.oid::regclass, \
           case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end) as name \
         from pg_class c, aclexplode(c.relacl) a where a.grantee <> c.relowner and (c.oid = {0}::regclass or c.oid in \
           (select d.objid from pg_depend d where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass \
            and d.refobjid = {0}::regclass and d.deptype in ('a', 'i')))",
        literal(&table.sql())
    )
}

fn own_sequences(document: &Value) -> HashSet<(String, String)> {
    serde_json::from_value(document["sequences"].clone()).unwrap_or_default()
}

/// What of a schema makes one table. Entries come in an order in which each can be made.
fn choose(
    entries: &[Entry],
    was: &Spot,
    sequences: &HashSet<(String, String)>,
    no_owner: bool,
) -> Option<Definitions> {
    let is_it = |entry: &&Entry| entry.what == "TABLE" && entry.schema == was.schema && entry.tag == was.name;
    let table = entries.iter().find(is_it)?;
    let mut chosen = Definitions { owner: table.owner().into_owned(), ..Definitions::default() };
    let mut ids = HashSet::from([table.id]);
    // A trigger, a rule or a policy of another table may need this one, too; its tag begins with its own.
    let of_it = |entry: &Entry| {
        let tag = entry.tag.strip_prefix(&was.name);
        entry.needs.contains(&table.id) && tag.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    for entry in entries {
        let sql = || entry.definition().into_owned();
        let is_own = || sequences.contains(&(entry.schema.clone(), entry.tag.clone()));
        match entry.what.as_str() {
            "TABLE" if entry.id == table.id => chosen.add(entry),
            "SEQUENCE" | "SEQUENCE OWNED BY" if is_own() => chosen.add(entry),
            "DEFAULT" if of_it(entry) => chosen.add(entry),
            "INDEX" if entry.needs.contains(&table.id) => chosen.add_key(sql()),
            "CONSTRAINT" if of_it(entry) => chosen.add_key(sql()),
            "TABLE ATTACH" if entry.tag == was.name && entry.needs.contains(&table.id) => {
                chosen.attach = Some(sql());
            }
            "STATISTICS" if entry.needs.contains(&table.id) => chosen.last.push(sql()),
            "FK CONSTRAINT" | "CHECK CONSTRAINT" | "TRIGGER" | "RULE" | "POLICY" | "ROW SECURITY"
                if of_it(entry) =>
            {
                chosen.last.push(sql());
            }
            "COMMENT" if entry.needs.iter().any(|needed| ids.contains(needed)) => chosen.last.push(sql()),
            "ACL" | "SECURITY LABEL"
                if entry.needs.iter().any(|needed| ids.contains(needed)) && !no_owner =>
            {
                chosen.last.push(sql());
            }
            _ => continue,
        }
        ids.insert(entry.id);
    }
    Some(chosen)
}

impl Definitions {
    fn add(&mut self, entry: &Entry) {
        let [sql, tablespace, method] =
            [entry.definition(), entry.tablespace(), entry.method()].map(std::borrow::Cow::into_owned);
        self.table.push(Definition { sql, tablespace, method });
    }

    /// A key can be made before the table has its place when it is one command, whose subject is where it is expected.
    fn add_key(&mut self, sql: String) {
        match about(&sql).filter(|_| !sql.trim_end().trim_end_matches(';').contains(";\n")) {
            Some(subject) => self.keys.push((sql[..subject.start].to_owned(), sql[subject.end..].to_owned())),
            None => self.last.push(sql),
        }
    }
}

/// Where in a command that makes an index or a constraint the table is named.
fn about(sql: &str) -> Option<std::ops::Range<usize>> {
    let after = |from: usize, word: &str| sql[from..].starts_with(word).then_some(from + word.len());
    let start = match after(0, "ALTER TABLE ") {
        Some(at) => after(at, "ONLY ").unwrap_or(at),
        None => {
            let at = after(0, "CREATE INDEX ").or_else(|| after(0, "CREATE UNIQUE INDEX "))?;
            let at = after(at + qualified(&sql[at..])?, " ON ")?;
            after(at, "ONLY ").unwrap_or(at)
        }
    };
    Some(start..start + qualified(&sql[start..])?)
}

/// A table on its way to its place, and the place of the one that is there.
struct Swap<'a> {
    is: &'a Spot,
    place: &'a Spot,
    kept: &'a Spot,
    run: RunId,
}

impl Swap<'_> {
    /// Carries it out, in one transaction; `last` is what the place asks for besides.
    async fn carry_out(&self, session: &mut Session, last: &[String]) -> Result<()> {
        session.run(PATIENCE).await?;
        session.run(ALONE).await?;
        let Self { is, place, kept, run } = self;
        let schema = identifier(&place.schema);
        session.run(&format!("create schema if not exists {schema}")).await?;
        let old = id_of(session, place).await?;
        let mut bound = Vec::new();
        if let Some(old) = &old {
            execute(session, &format!("lock table {} in access exclusive mode", place.sql())).await?;
            let hanging: Vec<Named> = session.rows(&hanging_on(old)).await?;
            if !hanging.is_empty() {
                let hanging: Vec<_> = hanging.into_iter().map(|found| found.name).collect();
                let detail = format!("bound to the table that is there: {}; {INSTEAD}", hanging.join(", "));
                return Err(Fault::new(
                    Class::Conflict,
                    "pg.hangs-on-it",
                    "put a table into its place",
                    detail,
                ));
            }
            bound = session.rows::<Bound>(&bound_to(old)).await?;
            for let_go in bound.iter().filter_map(|bound| bound.let_go.as_ref()) {
                execute(session, let_go).await?;
            }
            open_schema(session, &kept.schema, KEPT, *run).await?;
            move_to(session, place, &kept.schema).await?;
        }
        self.make_way(session).await?;
        let mut is = (*is).clone();
        if is.name != place.name {
            execute(session, &format!("alter table {} rename to {}", is.sql(), identifier(&place.name)))
                .await?;
            is.name.clone_from(&place.name);
        }
        move_to(session, &is, &place.schema).await?;
        for sql in last.iter().chain(bound.iter().map(|bound| &bound.bind)) {
            execute(session, sql).await?;
        }
        drop_empty(session, &is.schema).await?;
        session.run("commit").await
    }

    /// Indexes and sequences of a table that comes under another name would meet those of the one it was.
    async fn make_way(&self, session: &mut Session) -> Result<()> {
        let Self { is, place, run, .. } = self;
        let met = format!(
            "select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = {} and c.relname <> {} and c.relkind in ('i', 'S') and exists (select from pg_class d \
             join pg_namespace m on m.oid = d.relnamespace where m.nspname = {} and d.relname = c.relname) \
             and exists (select from pg_depend p where p.objid = c.oid and p.refobjid = {}::regclass)",
            literal(&is.schema),
            literal(&is.name),
            literal(&place.schema),
            literal(&is.sql())
        );
        for Named { name } in session.rows::<Named>(&met).await? {
            let (index, name) =
                (Spot { schema: is.schema.clone(), name: name.clone() }, beside(&name, NEW, *run));
            // What is said of an index is said of a sequence, too.
            execute(session, &format!("alter table {} rename to {}", index.sql(), identifier(&name))).await?;
        }
        Ok(())
    }
}

/// Moves a table, and its statistics, which do not follow it.
async fn move_to(session: &mut Session, table: &Spot, schema: &str) -> Result<()> {
    let schema = identifier(schema);
    let statistics = format!(
        "select format('%I.%I', n.nspname, s.stxname) as name from pg_statistic_ext s \
         join pg_namespace n on n.oid = s.stxnamespace where s.stxrelid = {}::regclass",
        literal(&table.sql())
    );
    for Named { name } in session.rows::<Named>(&statistics).await? {
        execute(session, &format!("alter statistics {name} set schema {schema}")).await?;
    }
    execute(session, &format!("alter table {} set schema {schema}", table.sql())).await
}

/// What hangs on a table and can be bound to another: the table it is a partition of, foreign keys, views.
/// The text of a definition is read before anything moves.
fn bound_to(table: &str) -> String {
    format!(
        "select format('alter table %s detach partition %s', i.inhparent::regclass, c.oid::regclass) as let_go, \
           format('alter table %s attach partition %s %s', i.inhparent::regclass, c.oid::regclass, \
             pg_get_expr(c.relpartbound, c.oid)) as bind \
         from pg_class c join pg_inherits i on i.inhrelid = c.oid where c.oid = {table} and c.relispartition \
         union all \
         select format('alter table %s drop constraint %I', k.conrelid::regclass, k.conname), \
           format('alter table %s add constraint %I %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid)) \
         from pg_constraint k where k.confrelid = {table} and k.conrelid <> {table} and k.contype = 'f' and k.conparentid = 0 \
         union all \
         select null, format('create or replace view %s%s as %s', v.oid::regclass, \
           (select ' with (' || string_agg(o, ', ') || ')' from unnest(v.reloptions) o), pg_get_viewdef(v.oid)) \
         from pg_class v where v.relkind = 'v' and v.oid in (select r.ev_class from pg_rewrite r join pg_depend d \
           on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid \
           where d.refclassid = 'pg_class'::regclass and d.refobjid = {table} and r.rulename = '_RETURN')"
    )
}

/// What hangs on a table besides: materialised views, functions, columns of its type, publications, heirs.
fn hanging_on(table: &str) -> String {
    format!(
        "with sequences as (select objid from pg_depend where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass \
           and refobjid = {table} and deptype in ('a', 'i')) \
         select distinct pg_describe_object(d.classid, d.objid, d.objsubid) as name from pg_depend d \
         where (d.refclassid = 'pg_class'::regclass and d.refobjid = {table} and d.deptype = 'n' \
             or d.refclassid = 'pg_class'::regclass and d.refobjid in (select objid from sequences) and d.deptype = 'n' \
             or d.refclassid = 'pg_class'::regclass and d.refobjid = {table} and d.classid = 'pg_publication_rel'::regclass \
             or d.refclassid = 'pg_type'::regclass and d.deptype = 'n' and d.refobjid in \
               (select unnest(array[t.oid, t.typarray]) from pg_type t where t.typrelid = {table})) \
           and not exists (select from pg_rewrite r join pg_class c on c.oid = r.ev_class where d.classid = 'pg_rewrite'::regclass \
             and r.oid = d.objid and (c.oid = {table} or c.relkind = 'v' and r.rulename = '_RETURN')) \
           and not exists (select from pg_constraint k where d.classid = 'pg_constraint'::regclass and k.oid = d.objid \
             and (k.contype = 'f' or k.conrelid = {table})) \
           and not exists (select from pg_attrdef a where d.classid = 'pg_attrdef'::regclass and a.oid = d.objid \
             and a.adrelid = {table}) \
           and not exists (select from pg_policy p where d.classid = 'pg_policy'::regclass and p.oid = d.objid \
             and p.polrelid = {table}) \
           and not exists (select from pg_trigger t where d.classid = 'pg_trigger'::regclass and t.oid = d.objid \
             and t.tgrelid = {table}) \
           and not (d.classid = 'pg_class'::regclass and d.objid = {table}) \
         union select format('its heir %s', inhrelid::regclass) from pg_inherits where inhparent = {table} \
         union select format('the table %s that it inherits from', i.inhparent::regclass) from pg_inherits i \
           join pg_class c on c.oid = i.inhrelid where i.inhrelid = {table} and not c.relispartition"
    )
}

/// Runs commands that somebody else wrote down, as one; what the server says of the first that fails is told.
async fn execute(session: &mut Session, sql: &str) -> Result<()> {
    let block = literal(&format!("begin execute {}; end", literal(sql)));
    session.run(&format!("do language plpgsql {block}")).await.map_err(|fault| match fault.code {
        "pg.error" => {
            let detail = format!("{}; {INSTEAD}", fault.detail);
            Fault { class: Class::Conflict, code: "pg.refused", detail, ..fault }
        }
        _ => fault,
    })
}

/// Makes a schema of ours, where it is not there yet.
async fn open_schema(session: &mut Session, schema: &str, of: &str, run: RunId) -> Result<()> {
    let (schema, mark) = (identifier(schema), literal(&format!("{OURS}{of} ({run})")));
    session.run(&format!("create schema if not exists {schema}")).await?;
    session.run(&format!("comment on schema {schema} is {mark}")).await
}

/// Drops a schema of ours that nothing is left in.
async fn drop_empty(session: &mut Session, schema: &str) -> Result<()> {
    let empty = format!(
        "select nspname as name from pg_namespace n where nspname = {} and obj_description(oid, 'pg_namespace') ~ '^{OURS}' \
         and not exists (select from pg_class where relnamespace = n.oid) \
         and not exists (select from pg_statistic_ext where stxnamespace = n.oid)",
        literal(schema)
    );
    match session.rows::<Named>(&empty).await?.is_empty() {
        true => Ok(()),
        false => session.run(&format!("drop schema {}", identifier(schema))).await,
    }
}

/// The server's id of what has this name, in digits.
async fn id_of(session: &mut Session, spot: &Spot) -> Result<Option<String>> {
    let query = format!(
        "select c.oid::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = {} and c.relname = {}",
        literal(&spot.schema),
        literal(&spot.name)
    );
    Ok(session.rows::<Named>(&query).await?.pop().map(|found| found.name))
}

/// Where the table with this id is now.
async fn spot_of(session: &mut Session, id: &str) -> Result<Option<Spot>> {
    let query = format!(
        "select n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.oid::text = {}",
        literal(id)
    );
    Ok(session.rows::<Spot>(&query).await?.pop())
}

impl Spot {
    fn sql(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    fn name_in(&self, database: &str) -> String {
        join(&[database, &self.schema, &self.name])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_that_a_key_is_of_is_found_where_it_is_named() {
        for (sql, table) in [
            ("CREATE INDEX i ON public.t USING btree (a);\n", "public.t"),
            (
                "CREATE UNIQUE INDEX \"i \"\" ON x\" ON ONLY \"s.t\".\"a \"\"b\" USING gin (c);",
                "\"s.t\".\"a \"\"b\"",
            ),
            ("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (id);\n", "public.t"),
            ("ALTER TABLE s.\"T\"\n    ADD CONSTRAINT k UNIQUE (id);\n", "s.\"T\""),
        ] {
            assert_eq!(about(sql).map(|at| &sql[at]), Some(table), "{sql}");
        }
        assert_eq!(about("CREATE TRIGGER t ON public.t"), None);
    }

    #[test]
    fn a_key_of_several_commands_waits_for_its_place() {
        let mut definitions = Definitions::default();
        definitions.add_key("ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k UNIQUE (id);\n".into());
        definitions.add_key(
            "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT p UNIQUE (b);\n\nALTER TABLE s.t CLUSTER ON p;\n"
                .into(),
        );
        assert_eq!(
            definitions.keys,
            [("ALTER TABLE ONLY ".into(), "\n    ADD CONSTRAINT k UNIQUE (id);\n".into())]
        );
        assert_eq!(definitions.last.len(), 1);
    }
}
