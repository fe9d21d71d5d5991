//! A database: made beside what is there, completed when its rows are loaded, checked, and put into its place.

use bytes::Bytes;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::{Kind, RunId};
use lakehold_proto::killpoint::killpoint;
use lakehold_proto::restore::{Made, Step};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::hooks;
use super::super::kinds::DATABASE;
use super::super::names::{BEFORE, NEW, beside, first, identifier, literal};
use super::super::session::Session;
use super::known::called;
use super::{Bringing, Done, check, feed, part, rows};
use crate::source::steps::not_made;

/// How the comment of a database begins that stands beside for a while, and takes nobody's place.
const BESIDE: &str = "lakehold: for a drill or a rehearsal";
/// A database that every server has, and nobody works in.
const AROUND: &str = "template1";
/// How often a database is tried to be renamed whose clients come back faster than they are sent away.
const TRIES: u32 = 5;
/// What watches over changes of the schema must not watch over its restore, so it comes last.
const LAST: &str = " EVENT TRIGGER ";
/// Settings that are lists of names, each quoted as it needs to be already.
const LISTS: [&str; 5] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
];

/// One row.
#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
}

/// Makes it beside what is there: its properties, and all of its schema that rows need.
///
/// # Errors
/// `Conflict` (`pg.exists`) when somebody else made one of its name meanwhile; `Unsupported` (`pg.no-extension`) when the server
/// lacks one that it needs; those of [`feed`].
pub(super) async fn begin(work: &Bringing, step: &Step) -> Done {
    let kind = Kind::of(DATABASE);
    let place = Place::of(work, step);
    let mut session = around(work).await?;
    let made = match work.became.made(&kind, &step.key).await? {
        Some(made) => made,
        None => {
            let beside = work.restoring.crossing.beside;
            if beside {
                forget(&mut session, place.run).await?;
            }
            if !beside && step.target.is_none() && exists(&mut session, &place.name).await? {
                return Err(taken(&place.name));
            }
            make(work, step, &place, &mut session).await?
        }
    };
    let kept = step.target.as_ref().filter(|_| !work.restoring.crossing.beside).map(|_| place.kept());
    Ok((Some(made.key), Some(json!({"id": made.alias, "beside": place.beside(), "kept": kept}))))
}

/// A session from which any database can be renamed, also the one where lists are asked for: nobody renames the one they are in.
async fn around(work: &Bringing) -> Result<Session> {
    match Session::to_change(&work.programs, Some(AROUND)).await {
        Err(fault) if fault.code == "pg.unreachable" => Session::to_change(&work.programs, None).await,
        session => session,
    }
}

async fn make(work: &Bringing, step: &Step, place: &Place, session: &mut Session) -> Result<Made> {
    let document = work.document(step).await?;
    let extensions = check::missing_extensions(session, &document).await?;
    if !extensions.is_empty() {
        let detail = format!("the server has no extension {}", extensions.join(", "));
        return Err(Fault::new(Class::Unsupported, "pg.no-extension", "make a database", detail)
            .hint("install its package on the server, and restore again"));
    }
    let beside = place.beside();
    // What an attempt left that did not come so far.
    session.run(&format!("drop database if exists {} with (force)", identifier(&beside))).await?;
    session.run(&creation(&beside, &document["properties"])).await?;
    let mark = if work.restoring.crossing.beside { BESIDE } else { "lakehold: being restored" };
    let mark = format!("{mark} ({})", place.run);
    session.run(&format!("comment on database {} is {}", identifier(&beside), literal(&mark))).await?;
    let id: Id = session
        .row(&format!("select oid::text as id from pg_database where datname = {}", literal(&beside)))
        .await?;
    let content = part(step, Role::Content)?;
    {
        let _permit = work.permit().await?;
        let mut arguments = vec!["--section=pre-data"];
        arguments.extend(work.owners());
        arguments.extend(without_tablespaces(session).await?);
        feed::feed(
            &work.programs,
            &beside,
            &feed::label(&step.key),
            &arguments,
            &work.reader,
            &[],
            &[content],
        )
        .await?;
    }
    rows::expect(&work.programs, &beside).await?;
    let made = Made {
        kind: Kind::of(DATABASE),
        from: step.key.clone(),
        key: super::super::names::join(&[&place.name]),
        alias: Some(id.id),
    };
    killpoint("worker.after-create");
    work.became.note(&made).await?;
    Ok(made)
}

/// Drops what others left that stands beside for a while: whoever needs one is connected to it.
async fn forget(session: &mut Session, run: RunId) -> Result<()> {
    let left = format!(
        "select datname as name from pg_database where shobj_description(oid, 'pg_database') ~ {} \
         and shobj_description(oid, 'pg_database') !~ {}",
        literal(&format!("^{BESIDE}")),
        literal(&run.to_string())
    );
    for Named { name } in session.rows::<Named>(&left).await? {
        if let Err(fault) = session.run(&format!("drop database {}", identifier(&name))).await {
            tracing::info!(%fault, database = name, "a database that stands beside is in use still");
        }
    }
    Ok(())
}

/// Completes a database whose rows are loaded, checks it, and puts it into its place.
///
/// # Errors
/// `Conflict` (`pg.incomplete`, `pg.check-failed`) when it is not what the snapshot says: then it keeps the name it was made under, and
/// what has its name stays where it is.
pub(super) async fn finish(work: &Bringing, step: &Step) -> Done {
    let kind = Kind::of(DATABASE);
    let place = Place::of(work, step);
    let Some(made) = work.became.made(&kind, &step.key).await? else {
        return Err(not_made(&kind, &step.key));
    };
    let id = made.alias.clone().unwrap_or_default();
    let mut session = around(work).await?;
    let Some(name) = name_of(&mut session, &id).await? else {
        let detail = format!("the database that was made for it (id {id}) is no more");
        return Err(Fault::new(Class::Absent, "pg.no-database", "complete a database", detail)
            .hint("somebody dropped it while it was restored: restore again"));
    };
    if name == place.name {
        return Ok((Some(made.key), Some(json!({"id": id, "checked": "by the attempt before"}))));
    }
    let document = work.document(step).await?;
    let schema = feed::whole(&work.reader, part(step, Role::Content)?).await?;
    complete(work, step, &name, &schema, &document).await?;
    let checked = check::check(&work.programs, &name, &document).await?;
    if work.restoring.crossing.beside {
        let tried = tried(work, &first(&step.name), &name, &checked).await?;
        return Ok((Some(made.key), Some(tried)));
    }
    equip(work, &mut session, &name, &document).await?;
    killpoint("worker.before-swap");
    place.take(&mut session, &name).await?;
    let kept = exists(&mut session, &place.kept()).await?.then(|| place.kept());
    Ok((Some(made.key), Some(json!({"id": id, "checked": checked, "kept": kept}))))
}

/// What else a database is put to that stays beside: it is read whole, and the environment's own checks are asked.
async fn tried(work: &Bringing, of: &str, name: &str, checked: &check::Checked) -> Result<Value> {
    let read_whole = check::read_all(&work.programs, name, work.most).await?;
    let asked = match work.hooks.get(&work.restoring.from.environment) {
        Some(hooks) => hooks::verify(&work.programs, &hooks.verify, of, name).await?,
        None => Vec::new(),
    };
    Ok(json!({"beside": name, "checked": checked, "read_whole": read_whole, "asked": asked}))
}

/// Indexes, keys, triggers; then statistics; then what is computed from rows.
async fn complete(work: &Bringing, step: &Step, name: &str, schema: &Bytes, document: &Value) -> Result<()> {
    // Without the record of what was loaded, an attempt before came this far, and may have made some of it.
    let again = !rows::are_all_there(&work.programs, name, step.parts_of_it).await?;
    let archive = feed::Lying::new(schema)?;
    let list = archive.list(&work.programs).await?;
    let (last, first): (Vec<&str>, Vec<&str>) =
        list.iter().map(String::as_str).partition(|line| line.contains(LAST));
    let mut arguments = vec!["--section=post-data"];
    arguments.extend(work.owners());
    if again {
        arguments.extend(["--clean", "--if-exists"]);
    }
    let jobs = format!("--jobs={}", work.most);
    let label = feed::label(&step.key);
    let mut session = Session::to_change(&work.programs, Some(name)).await?;
    feed::end_others(&mut session, &label).await?;
    let _permit = work.permit().await?;
    let at_once: Vec<_> = arguments.iter().copied().chain([jobs.as_str()]).collect();
    archive.restore(&work.programs, name, &label, &at_once, &first).await?;
    killpoint("worker.after-indexes");
    // What is computed from rows wants statistics of them.
    session.run("analyze").await?;
    refresh(&mut session, document).await?;
    session.close().await?;
    archive.restore(&work.programs, name, &label, &arguments, &last).await
}

/// Fills the materialised views that were filled, each after those it reads.
async fn refresh(session: &mut Session, document: &Value) -> Result<()> {
    let empty: Vec<_> =
        document["not_populated"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut open: Vec<Named> = session
        .rows("select oid::regclass::text as name from pg_class where relkind = 'm' and not relispopulated order by oid")
        .await?;
    open.retain(|view| !empty.contains(&view.name.as_str()));
    while !open.is_empty() {
        let (mut waiting, mut refused) = (Vec::new(), None);
        let before = open.len();
        for view in open {
            match session.run(&format!("refresh materialized view {}", view.name)).await {
                Ok(()) => {}
                Err(fault) if fault.code == "pg.not-ready" => {
                    refused = Some(fault);
                    waiting.push(view);
                }
                Err(fault) => {
                    return Err(fault.while_doing(format!("fill the materialised view {}", view.name)));
                }
            }
        }
        if waiting.len() == before {
            return refused.map_or(Ok(()), Err);
        }
        open = waiting;
    }
    Ok(())
}

/// What belongs to the database itself: whose it is, its settings, who may use it.
async fn equip(work: &Bringing, session: &mut Session, name: &str, document: &Value) -> Result<()> {
    let (properties, database) = (&document["properties"], identifier(name));
    let text = |field: &str| properties[field].as_str();
    for statement in settings(&document["settings"], &format!("alter database {database}")) {
        session.run(&statement).await?;
    }
    if let Some(limit) = properties["datconnlimit"].as_i64().filter(|limit| *limit > 0) {
        session.run(&format!("alter database {database} connection limit {limit}")).await?;
    }
    if properties["datistemplate"] == true {
        session.run(&format!("alter database {database} is_template true")).await?;
    }
    if !work.restoring.crossing.no_owner {
        for own in document["role_settings"].as_array().into_iter().flatten() {
            let role = identifier(own["role"].as_str().unwrap_or_default());
            for statement in settings(&own["settings"], &format!("alter role {role} in database {database}"))
            {
                session.run(&statement).await?;
            }
        }
        if let Some(owner) = text("owner") {
            session.run(&format!("alter database {database} owner to {}", identifier(owner))).await?;
        }
        if let Some(granted) = text("datacl").or(properties["datacl"].as_array().map(|_| "")) {
            grant(session, &database, properties, granted).await?;
        }
    }
    let comment = text("comment").map_or_else(|| "null".to_owned(), literal);
    session.run(&format!("comment on database {database} is {comment}")).await
}

/// What sets `settings`, each as `name=value`, again.
pub(super) fn settings(settings: &Value, whose: &str) -> impl Iterator<Item = String> {
    let settings = settings.as_array().into_iter().flatten().filter_map(Value::as_str);
    settings.filter_map(move |setting| {
        let (name, value) = setting.split_once('=')?;
        let value = if LISTS.contains(&name) { value.to_owned() } else { literal(value) };
        Some(format!("{whose} set {} to {value}", identifier(name)))
    })
}

/// Who may use the database, from the list that the catalogue keeps of it.
async fn grant(session: &mut Session, database: &str, properties: &Value, granted: &str) -> Result<()> {
    let list = match properties["datacl"].as_array() {
        Some(items) => items.iter().filter_map(Value::as_str).map(literal).collect::<Vec<_>>().join(", "),
        None => {
            let items = granted.trim_matches(['{', '}']);
            items.split(',').filter(|item| !item.is_empty()).map(literal).collect::<Vec<_>>().join(", ")
        }
    };
    let query = format!(
        "select case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as name, \
         privilege_type as privilege, is_grantable from aclexplode(array[{list}]::aclitem[])"
    );
    session.run(&format!("revoke all on database {database} from public")).await?;
    for Granted { name, privilege, is_grantable } in session.rows::<Granted>(&query).await? {
        let more = if is_grantable { " with grant option" } else { "" };
        session.run(&format!("grant {privilege} on database {database} to {name}{more}")).await?;
    }
    Ok(())
}

/// Takes a database away that a restore made; what it had replaced has its name again.
///
/// # Errors
/// `Conflict` (`pg.other-database`) when the database of this name is another.
pub(super) async fn take_away(work: &Bringing, step: &Step) -> Done {
    let mut session = around(work).await?;
    let name = first(&step.key);
    let document = work.document(step).await?;
    let told = &document["told"];
    if let Some(id) = told["id"].as_str() {
        let made = name_of(&mut session, id).await?;
        let kept = match told["kept"].as_str() {
            Some(kept) if exists(&mut session, kept).await? => Some(kept),
            _ => None,
        };
        let is_anothers = made.as_ref() != Some(&name) && exists(&mut session, &name).await?;
        // One of which nothing is left may have been taken away, and what it replaced given its name, by an attempt before.
        if is_anothers && (kept.is_some() || made.is_none() && told["kept"].is_null()) {
            let detail = format!("the database {name:?} is not the one that the restore made");
            return Err(Fault::new(Class::Conflict, "pg.other-database", "take a database away", detail));
        }
        let aside = beside(&name, NEW, work.reader.run);
        if let Some(kept) = kept {
            swap(&mut session, &name, &aside, kept).await?;
        }
        // Only what the restore made.
        if let Some(is) = name_of(&mut session, id).await? {
            drop_database(&mut session, &is).await?;
        }
    } else {
        drop_database(&mut session, &name).await?;
    }
    Ok((Some(step.key.clone()), None))
}

async fn drop_database(session: &mut Session, name: &str) -> Result<()> {
    session.run(&format!("drop database if exists {} with (force)", identifier(name))).await
}

/// Where a database comes to be.
#[derive(Clone, Debug)]
struct Place {
    /// What it is called in the end.
    name: String,
    run: RunId,
}

impl Place {
    fn of(work: &Bringing, step: &Step) -> Self {
        Self { name: first(&called(DATABASE, &step.name, &work.restoring.crossing)), run: work.reader.run }
    }

    /// Its name until then.
    fn beside(&self) -> String {
        beside(&self.name, NEW, self.run)
    }

    /// The name of the one whose place it takes.
    fn kept(&self) -> String {
        beside(&self.name, BEFORE, self.run)
    }

    /// Puts the database that is called `is` into its place.
    async fn take(&self, session: &mut Session, is: &str) -> Result<()> {
        let kept = self.kept();
        if exists(session, &self.name).await? && exists(session, &kept).await? {
            // It was moved aside already, and somebody made another since.
            return Err(taken(&self.name));
        }
        swap(session, &self.name, &kept, is).await
    }
}

/// Gives `name` to the database that is called `is`. Who has it is called `aside` from then on, and loses its clients.
async fn swap(session: &mut Session, name: &str, aside: &str, is: &str) -> Result<()> {
    for _ in 1..TRIES {
        match swap_once(session, name, aside, is).await {
            Err(fault) if fault.code == "pg.in-use" => {}
            done => return done,
        }
    }
    swap_once(session, name, aside, is).await
}

/// Renames both in one transaction: whoever is killed, one of them has the name. New clients wait for the end of it, since a
/// rename locks its database.
async fn swap_once(session: &mut Session, name: &str, aside: &str, is: &str) -> Result<()> {
    session.run("rollback; begin").await?;
    let names = format!("{}, {}", literal(name), literal(is));
    let end =
        format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname in ({names})");
    session.run(&end).await?;
    if exists(session, name).await? {
        rename(session, name, aside).await?;
        killpoint("worker.half-swapped");
    }
    rename(session, is, name).await?;
    session.run("commit").await
}

async fn rename(session: &mut Session, from: &str, to: &str) -> Result<()> {
    session.run(&format!("alter database {} rename to {}", identifier(from), identifier(to))).await
}

async fn exists(session: &mut Session, name: &str) -> Result<bool> {
    let query = format!("select datname as name from pg_database where datname = {}", literal(name));
    Ok(!session.rows::<Named>(&query).await?.is_empty())
}

/// What the database with this id is called now.
pub(super) async fn name_of(session: &mut Session, id: &str) -> Result<Option<String>> {
    let query = format!("select datname as name from pg_database where oid::text = {}", literal(id));
    Ok(session.rows::<Named>(&query).await?.pop().map(|named| named.name))
}

fn taken(name: &str) -> Fault {
    let detail =
        format!("the server has a database {name:?} now, which it had not when the restore was planned");
    Fault::new(Class::Conflict, "pg.exists", "put a database into its place", detail)
        .hint("plan again: the plan will say that it is replaced; or restore under another name (--as)")
}

/// Where the server has no tablespaces of its own, everything lies in the one there is.
async fn without_tablespaces(session: &mut Session) -> Result<Option<&'static str>> {
    let own: Vec<Named> =
        session.rows("select spcname as name from pg_tablespace where spcname !~ '^pg_' limit 1").await?;
    Ok(own.is_empty().then_some("--no-tablespaces"))
}

/// The command that makes an empty database with these properties.
fn creation(name: &str, properties: &Value) -> String {
    let mut sql = format!("create database {} template template0", identifier(name));
    let mut add = |option: &str, field: &str| {
        if let Some(value) = properties[field].as_str() {
            sql += &format!(" {option} {}", literal(value));
        }
    };
    add("encoding", "encoding");
    add("lc_collate", "datcollate");
    add("lc_ctype", "datctype");
    match properties["datlocprovider"].as_str() {
        Some("i") => {
            add("locale_provider icu icu_locale", "daticulocale");
            add("locale_provider icu icu_locale", "datlocale");
            add("icu_rules", "daticurules");
        }
        Some("b") => add("locale_provider builtin builtin_locale", "datlocale"),
        _ => {}
    }
    sql
}

/// See [`name_of`].
#[derive(Clone, Debug, Deserialize)]
struct Id {
    id: String,
}

/// One right.
#[derive(Clone, Debug, Deserialize)]
struct Granted {
    name: String,
    privilege: String,
    is_grantable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_made_as_it_was() {
        let old =
            json!({"encoding": "UTF8", "datcollate": "C", "datctype": "de_DE.UTF-8", "datlocprovider": "c"});
        assert_eq!(
            creation("a\"b", &old),
            "create database \"a\"\"b\" template template0 encoding 'UTF8' lc_collate 'C' lc_ctype 'de_DE.UTF-8'"
        );
        let icu = json!({"encoding": "UTF8", "datcollate": "C", "datctype": "C", "datlocprovider": "i", "daticulocale": "und"});
        assert!(creation("x", &icu).ends_with(" locale_provider icu icu_locale 'und'"));
        let builtin = json!({"datlocprovider": "b", "datlocale": "C.UTF-8"});
        assert!(creation("x", &builtin).ends_with(" locale_provider builtin builtin_locale 'C.UTF-8'"));
    }
}
