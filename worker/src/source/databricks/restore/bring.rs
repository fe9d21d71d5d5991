//! Carries out the steps of one task.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Role};
use lakehold_proto::killpoint::killpoint;
use lakehold_proto::restore::{Act, Made, Meant, Restoring, Step};
use lakehold_proto::task::Assignment;
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::families::{STATEMENTS, WORKSPACE_LIST};
use super::super::kinds::{Content, Find, List, Row, Write, path, row};
use super::super::request::Request;
use super::super::work::{Item as Listed, canonical_path, fill};
use super::known::{Databricks, carrier};
use super::portable;
use super::writes::Item;
use super::{access, sql};
use crate::capture::{Capture, Meter, Reader};
use crate::source::blueprint::{Blueprint as _, Point, Renamed, Seen};
use crate::source::steps::{self, Became, Ended, not_made};

/// Steps of one task that are carried out at once: what is in flight is bounded by the largest notebooks and files.
const AT_ONCE: usize = 4;
/// A call that makes something and whose end nobody heard is made again so often.
const TRIES: u32 = 3;
/// The pause before a statement that runs is looked at again.
const LOOK: Duration = Duration::from_secs(2);
/// A statement is waited for this long: a warehouse that stands still takes minutes to start.
const STATEMENT: Duration = Duration::from_secs(600);

/// Carries out the steps of one task.
///
/// # Errors
/// The store's; `Bug` when the plan is not one of a restore. What one step fails at is its item's gap.
pub(in super::super) async fn bring(
    client: &Client,
    assignment: &Assignment,
    capture: &mut Capture,
) -> Result<()> {
    let kind = assignment.task.kind.clone();
    let row = row(kind.as_str()).ok_or_else(|| {
        let detail = format!("there is no kind {kind}");
        Fault::new(Class::Unsupported, "task.unknown-kind", "carry out a task", detail)
            .hint("the run was planned by another version: let all workers run the same one")
    })?;
    let restoring = steps::restoring(capture)?;
    let work = Arc::new(Bringing {
        client: client.clone(),
        meter: capture.meter(),
        reader: capture.reader(),
        row,
        restoring,
        became: Became::of(capture.reader()),
        maybe_before: !steps::is_first(capture, assignment).await?,
    });
    let at_once = if row.restore.in_order.is_some() { 1 } else { AT_ONCE };
    for frame in 0.. {
        let Some(lines) = capture.input(frame).await? else { break };
        let steps: Vec<Step> = lines.iter().map(|line| steps::read(line)).collect::<Result<_>>()?;
        let mut done = futures::stream::iter(twins(steps))
            .map(|twins| {
                let work = Arc::clone(&work);
                async move { work.carry_out_all(twins).await }
            })
            .buffer_unordered(at_once);
        while let Some(ended) = done.next().await {
            for (step, ended) in ended? {
                capture.add(&kind, steps::recorded(&step, ended, None)).await?;
            }
        }
    }
    Ok(())
}

/// Steps of one name together: which of several alike was made must not be asked by two at once.
fn twins(steps: Vec<Step>) -> Vec<Vec<Step>> {
    let mut groups: Vec<Vec<Step>> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for step in steps {
        match at.get(&step.name) {
            Some(&group) => groups[group].push(step),
            None => {
                at.insert(step.name.clone(), groups.len());
                groups.push(vec![step]);
            }
        }
    }
    groups
}

/// A task under way.
struct Bringing {
    client: Client,
    meter: Arc<Meter>,
    reader: Reader,
    row: &'static Row,
    restoring: Box<Restoring>,
    became: Became,
    /// Whether another attempt may have done some of it.
    maybe_before: bool,
}

impl Bringing {
    /// One after the other: each knows what the others became.
    async fn carry_out_all(&self, twins: Vec<Step>) -> Result<Vec<(Step, Ended)>> {
        let mut ended = Vec::with_capacity(twins.len());
        for mut step in twins.clone() {
            if step.act == Act::Create {
                for twin in twins.iter().filter(|twin| twin.key != step.key) {
                    step.others
                        .extend(self.became.made(&self.row.kind(), &twin.key).await?.map(|made| made.key));
                }
            }
            let one = self.carry_out(&step).await?;
            ended.push((step, one));
        }
        Ok(ended)
    }

    /// The outer error is the store's, the inner one the item's.
    async fn carry_out(&self, step: &Step) -> Result<Ended> {
        match self.item(step).await? {
            Ok((item, wanted)) => self.act(step, item, wanted).await,
            Err(fault) => Ok(Err(fault)),
        }
    }

    async fn act(&self, step: &Step, mut item: Item, wanted: Option<Value>) -> Result<Ended> {
        let ended = match step.act {
            Act::Create => return self.create(step, item).await,
            Act::Replace | Act::Activate => self.change(&item).await,
            Act::Complete => self.complete(&item).await,
            Act::Access => self.access(&mut item, wanted.unwrap_or_default()).await,
            Act::Delete => self.write(&item, &self.row.restore.delete).await.map(drop),
        };
        // Taking away what is not there is done.
        let ended = match ended {
            Err(fault) if step.act == Act::Delete && fault.class == Class::Absent => Ok(()),
            ended => ended,
        };
        Ok(ended.map(|()| item.key))
    }

    /// The item as it is to be, and its permissions.
    async fn item(&self, step: &Step) -> Result<std::result::Result<(Item, Option<Value>), Fault>> {
        let kind = self.row.kind();
        let mut parts: HashMap<Role, (Bytes, Option<String>)> = HashMap::new();
        for part in &step.parts {
            match steps::body(&self.reader, part).await {
                Ok(bytes) => _ = parts.insert(part.role, (bytes, part.format.clone())),
                Err(fault) if fault.class == Class::Integrity => return Ok(Err(fault)),
                Err(fault) => return Err(fault),
            }
        }
        let parsed = |role: Role| {
            let Some((body, _)) = parts.get(&role) else { return Ok(None) };
            serde_json::from_slice::<Value>(body).map(Some).map_err(|e| {
                let detail = format!("its {} is no JSON: {e}", role.word());
                Fault::new(Class::Integrity, "item.no-document", "read what is to be brought back", detail)
            })
        };
        let document = |role: Role| match self.row.content {
            Content::Answer { .. } => parsed(role),
            _ => Ok(None),
        };
        let documents = (parsed(Role::Object), document(Role::Content), parsed(Role::Permissions));
        let (source, document, access) = match documents {
            (Ok(object), Ok(content), Ok(access)) => (object.unwrap_or_default(), content, access),
            (Err(fault), ..) | (_, Err(fault), _) | (.., Err(fault)) => return Ok(Err(fault)),
        };
        let mut meant = HashMap::new();
        for pointer in &step.pointers {
            let renamed = match &pointer.meant {
                Meant::Text(text) => Renamed::Text(text.clone()),
                Meant::Nothing => Renamed::Missing,
                Meant::Later { .. } if step.act == Act::Create => Renamed::Later,
                Meant::Made { key, .. } | Meant::Later { key } => {
                    let alias = matches!(pointer.meant, Meant::Made { alias: true, .. });
                    match self.became.made(&pointer.kind, key).await? {
                        Some(made) if alias => made.alias.map_or(Renamed::Missing, Renamed::Text),
                        Some(made) => Renamed::Text(made.key),
                        None => return Ok(Err(not_made(&pointer.kind, key))),
                    }
                }
            };
            meant.insert((pointer.kind.clone(), pointer.text.clone()), renamed);
        }
        let mut rename = |point: &Point| {
            let found = point.to.iter().find_map(|(kind, _)| meant.get(&(kind.clone(), point.text.clone())));
            found.cloned().unwrap_or(Renamed::Same)
        };
        let crossing = &self.restoring.crossing;
        let across = |role, value: Value, rename: &mut dyn FnMut(&Point) -> Renamed| {
            Databricks.portable(&kind, role, value, crossing, rename)
        };
        let like = self.row.key.first().and_then(|field| path::find(&source, field).into_iter().next());
        let owner = self.row.restore.owner.and_then(|(field, _)| path::text(&source, field));
        let mut object = across(Role::Object, source, &mut rename);
        for (field, value) in &step.set {
            path::rewrite(&mut object, field, &mut |held| *held = value.clone());
        }
        if let (Some((field, _)), Some(owner)) = (self.row.restore.owner, owner) {
            object[field] = match rename(&portable::principal(&owner)) {
                Renamed::Text(new) => json!(new),
                Renamed::Same => json!(owner),
                Renamed::Later | Renamed::Missing => Value::Null,
            };
        }
        let document = document.map(|content| across(Role::Content, content, &mut rename));
        let wanted = access.map(|access| across(Role::Permissions, access, &mut rename));
        let key = match &step.target {
            Some(key) => Some(key.clone()),
            None if step.act == Act::Create => carried_key(self.row, &step.key, &mut rename),
            None => self.became.made(&kind, &step.key).await?.map(|made| made.key),
        };
        if key.is_none() && step.act != Act::Create {
            return Ok(Err(not_made(&kind, &step.key)));
        }
        let content = parts.remove(&Role::Content);
        let item = Item { row: self.row, object, document, content, key, like: like.unwrap_or_default() };
        Ok(Ok((item, wanted)))
    }

    async fn create(&self, step: &Step, mut item: Item) -> Result<Ended> {
        let kind = self.row.kind();
        if let Some(made) = self.became.made(&kind, &step.key).await? {
            // An earlier attempt made it, and may not have come to the end.
            item.key = Some(made.key);
            return Ok(self.finish(&item).await.map(|()| item.key));
        }
        match self.make(step, &mut item).await {
            Ok(alias) => {
                let Some(key) = item.key.clone() else { return Ok(Err(no_key(self.row))) };
                self.became.note(&Made { kind, from: step.key.clone(), key, alias }).await?;
                Ok(self.finish(&item).await.map(|()| item.key))
            }
            Err(fault) => Ok(Err(fault)),
        }
    }

    /// Makes the item, once: what may have been made while nobody heard the answer is looked for first.
    async fn make(&self, step: &Step, item: &mut Item) -> Result<Option<String>> {
        if self.maybe_before && self.find(step, item).await? {
            return self.changed(item).await;
        }
        let (create, plainly) = self.creation(item);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.write(item, &create).await {
                Ok(answer) => {
                    killpoint("worker.after-create");
                    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                    // Listings and calls do not always call it the same.
                    let fields = self.row.key.iter().copied().chain(["id"]);
                    let told = fields.filter_map(|field| path::text(&answer, field)).next();
                    if item.key.is_none() && !plainly {
                        item.key = told.filter(|key| !key.is_empty());
                    }
                    if item.key.is_none() {
                        item.key = match self.row.restore.find {
                            Find::Named => {
                                self.row.key.first().and_then(|field| path::text(&item.object, field))
                            }
                            // Its id is asked for only where somebody needs it: most of the tree inherits everything.
                            Find::Status => path::text(&item.object, "path"),
                            Find::Listed | Find::Read(_) | Find::Carried => None,
                        };
                    }
                    if item.key.is_none() && !self.find(step, item).await? {
                        return Err(no_key(self.row));
                    }
                    return Ok(self.alias(&answer, item));
                }
                Err(fault) => {
                    // It may be there: made by this call, or by one before.
                    let unclear = fault.class == Class::Unavailable;
                    let exists = fault.code == "http.exists"
                        || fault.code == "http.conflict"
                        || fault.code == "sql.exists";
                    if (unclear || exists) && self.find(step, item).await? {
                        return self.changed(item).await;
                    }
                    if !unclear || tries >= TRIES {
                        return Err(fault);
                    }
                    self.client.clock().sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// The call that makes it, and whether it comes back as something plainer.
    fn creation(&self, item: &Item) -> (Write, bool) {
        match self.row.restore.plainly {
            Some((field, _, write)) if path::text(&item.object, field).is_none_or(|text| text.is_empty()) => {
                (write, true)
            }
            _ => (self.row.restore.create, false),
        }
    }

    async fn changed(&self, item: &Item) -> Result<Option<String>> {
        self.update(item).await?;
        Ok(self.alias(&Value::Null, item))
    }

    fn alias(&self, answer: &Value, item: &Item) -> Option<String> {
        let of = |object| self.told("", object, |seen| Databricks.alias(seen));
        of(answer).or_else(|| of(&item.object))
    }

    /// What the table says of an item of which a listing or an answer tells.
    fn told<T>(&self, name: &str, object: &Value, what: impl FnOnce(&Seen<'_>) -> T) -> T {
        let (kind, entry) = (self.row.kind(), Entry::new("", name));
        what(&Seen { kind: &kind, entry: &entry, object: Some(object), content: None, access: None })
    }

    async fn change(&self, item: &Item) -> Result<()> {
        self.update(item).await?;
        self.rest(item).await
    }

    async fn update(&self, item: &Item) -> Result<()> {
        match self.row.restore.update {
            Write::Alter { .. } if !sql::is_view(&item.object) => {
                let Find::Read(one) = self.row.restore.find else { return Ok(()) };
                let is = self.read_one(&one, item).await?;
                for statement in sql::alterations(&is, &item.object)? {
                    self.run(&statement).await?;
                }
                Ok(())
            }
            Write::Nothing { .. } => Ok(()),
            update => self.write(item, &update).await.map(drop),
        }
    }

    /// What comes after an item was made.
    async fn finish(&self, item: &Item) -> Result<()> {
        let (create, plainly) = self.creation(item);
        if plainly {
            return Ok(());
        }
        if let Write::Sql { .. } = create {
            for statement in sql::afterwards(&item.object) {
                self.run(&statement).await?;
            }
        }
        let rest = self.rest(item).await;
        // Whatever else failed: what costs money is not left running.
        if let Some(stop) = &self.row.restore.stop {
            self.write(item, stop).await?;
        }
        rest
    }

    async fn rest(&self, item: &Item) -> Result<()> {
        for write in self.row.restore.then {
            self.write(item, write).await?;
        }
        Ok(())
    }

    async fn complete(&self, item: &Item) -> Result<()> {
        if let Write::Sql { .. } = self.row.restore.create {
            for statement in sql::constraints_later(&item.object) {
                self.run(&statement).await?;
            }
            return Ok(());
        }
        self.change(item).await
    }

    async fn access(&self, item: &mut Item, wanted: Value) -> Result<()> {
        if !wanted.is_null() {
            // Of what this run made in the tree, its record has the path alone.
            let is_path = item.key.as_deref().is_some_and(|key| key.starts_with('/'));
            if is_path && let Find::Status = self.row.restore.find {
                item.key = self.status(item).await?;
            }
            access::set(&self.client, &self.meter, item, &wanted).await?;
        }
        if let Some((field, write)) = &self.row.restore.owner
            && item.object.get(*field).is_some_and(Value::is_string)
        {
            self.write(item, write).await?;
        }
        Ok(())
    }

    /// Sends what a row says. What the item has nothing for is not sent.
    async fn write(&self, item: &Item, write: &Write) -> Result<Bytes> {
        match write {
            Write::Nothing { .. } => Ok(Bytes::from_static(b"{}")),
            Write::Sql { statement } | Write::Alter { statement } => {
                self.run(&sql::render(statement, &item.object)?).await?;
                Ok(Bytes::from_static(b"{}"))
            }
            Write::Rest { method, path, body } => match item.request(method, path, body)? {
                // Only making something twice makes two of it.
                Some(request) if item.key.is_some() => {
                    self.client.json(&request.repeatable(), &self.meter).await
                }
                Some(request) => self.client.json(&request, &self.meter).await,
                None => Ok(Bytes::from_static(b"{}")),
            },
        }
    }

    /// Runs one statement to its end. <https://docs.databricks.com/api/workspace/statementexecution>
    async fn run(&self, statement: &sql::Statement) -> Result<()> {
        const DOING: &str = "run a SQL statement";
        let Some(warehouse) = &self.restoring.warehouse else {
            let detail = "the target names no warehouse that could run it";
            return Err(Fault::new(Class::Config, "restore.no-warehouse", DOING, detail)
                .hint("set restore_warehouse: in the target's databricks: block"));
        };
        let mut body = json!({"warehouse_id": warehouse, "statement": statement.text, "wait_timeout": "30s"});
        for (field, value) in [("catalog", &statement.catalog), ("schema", &statement.schema)] {
            if let Some(value) = value {
                body[field] = json!(value);
            }
        }
        let send = Request::post(&STATEMENTS, "/api/2.0/sql/statements").json(&body)?;
        let mut answer: Value = parse(&self.client.json(&send, &self.meter).await?)?;
        let began = self.client.clock().tick();
        loop {
            let state = path::text(&answer, "status.state").unwrap_or_default();
            match state.as_str() {
                "SUCCEEDED" => return Ok(()),
                "PENDING" | "RUNNING" if self.client.clock().tick().since(began) < STATEMENT => {
                    self.client.clock().sleep(LOOK).await;
                    let id = path::text(&answer, "statement_id").unwrap_or_default();
                    let look = Request::get(
                        &STATEMENTS,
                        format!("/api/2.0/sql/statements/{}", super::super::segment(&id)),
                    );
                    answer = parse(&self.client.json(&look, &self.meter).await?)?;
                }
                "PENDING" | "RUNNING" => {
                    let detail = format!("it did not end within {} minutes", STATEMENT.as_secs() / 60);
                    return Err(Fault::new(Class::Unavailable, "sql.timeout", DOING, detail));
                }
                _ => {
                    let said = path::text(&answer, "status.error.message").unwrap_or(state);
                    let exists = said.contains("ALREADY_EXISTS") || said.contains("already exists");
                    let (class, code) = if exists {
                        (Class::Conflict, "sql.exists")
                    } else {
                        (Class::Unsupported, "sql.failed")
                    };
                    return Err(Fault::new(class, code, DOING, said.chars().take(500).collect::<String>()));
                }
            }
        }
    }

    /// Looks for an item of the natural key in the target that was not there when the restore was planned.
    async fn find(&self, step: &Step, item: &mut Item) -> Result<bool> {
        if matches!(self.row.restore.find, Find::Carried) {
            return Ok(item.key.is_some());
        }
        let found = match self.row.restore.find {
            Find::Status => self.status(item).await?,
            Find::Read(one) => match self.read_one(&one, item).await {
                Ok(found) => self.row.key.iter().find_map(|field| path::text(&found, field)),
                Err(fault) if fault.class == Class::Absent => None,
                Err(fault) => return Err(fault),
            },
            Find::Listed | Find::Named | Find::Carried => self.listed(step, item).await?,
        };
        let found = found.filter(|key| !step.others.contains(key));
        item.key.clone_from(&found);
        Ok(found.is_some())
    }

    async fn status(&self, item: &Item) -> Result<Option<String>> {
        let path = path::text(&item.object, "path").unwrap_or_default();
        let request = Request::get(&WORKSPACE_LIST, "/api/2.0/workspace/get-status").query("path", path);
        match self.client.json(&request, &self.meter).await {
            Ok(found) => Ok(path::text(&parse(&found)?, "object_id")),
            Err(fault) if fault.class == Class::Absent => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn read_one(&self, one: &super::super::kinds::One, item: &Item) -> Result<Value> {
        let lookup = |slot: &str| {
            path::text(&item.object, slot).or_else(|| {
                let part = |field| path::text(&item.object, field);
                let within: Vec<_> =
                    [part("catalog_name"), part("schema_name"), part("name")].into_iter().flatten().collect();
                (slot == "full_name").then(|| within.join("."))
            })
        };
        let request = Request::get(one.family, fill(one.path, true, lookup)?);
        parse(&self.client.json(&request, &self.meter).await?)
    }

    /// Among all items of the kind. Of several that fit, none was there before, so any may be the one that was made.
    async fn listed(&self, step: &Step, item: &Item) -> Result<Option<String>> {
        let List::Calls(calls) = self.row.list else { return Ok(None) };
        let identity = |object: &Value, name: &str| self.told(name, object, |seen| Databricks.identity(seen));
        let wanted_name = self.row.title.iter().find_map(|field| path::text(&item.object, field));
        let wanted = identity(&item.object, wanted_name.as_deref().unwrap_or(&step.name));
        for call in calls {
            let mut request = Request::get(call.family, call.path);
            for (name, value) in call.query {
                request = request.query(name, *value);
            }
            let mut pages = self.client.pages(request, &call.paging, call.items, &self.meter);
            while let Some(page) = pages.try_next().await? {
                for raw in page {
                    let listed = Listed::read(self.row, Bytes::copy_from_slice(raw.get().as_bytes()));
                    if step.others.contains(&listed.key) || !self.may_be(&listed, wanted_name.as_deref()) {
                        continue;
                    }
                    let object = match self.row.get {
                        Some(get) => {
                            let one = super::super::kinds::One {
                                family: get.family,
                                path: get.path,
                                query: get.query,
                            };
                            parse(&self.client.json(&listed.call(&one)?, &self.meter).await?)?
                        }
                        None => listed.value.clone(),
                    };
                    if identity(&object, &listed.name) == wanted {
                        return Ok(Some(listed.key));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether it is worth a call of its own: listings show titles, if not always the rest.
    fn may_be(&self, listed: &Listed, wanted: Option<&str>) -> bool {
        let title = self.row.title.iter().find_map(|field| path::text(&listed.value, field));
        match (title, wanted) {
            (Some(title), Some(wanted)) => {
                canonical_path(wanted) == canonical_path(&title) || wanted.contains(&title)
            }
            _ => true,
        }
    }
}

/// What is carried has the key of what carries it, in the target.
fn carried_key(row: &Row, key: &str, rename: &mut dyn FnMut(&Point) -> Renamed) -> Option<String> {
    let List::Carried = row.list else { return None };
    let (under, carrier) = carrier(key)?;
    match rename(&carrier) {
        Renamed::Text(id) => Some(format!("{under}/{id}")),
        Renamed::Same => Some(key.to_owned()),
        Renamed::Later | Renamed::Missing => None,
    }
}

fn parse(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body)
        .map_err(|e| Fault::new(Class::Unavailable, "http.unexpected", "read an answer", e))
}

fn no_key(row: &Row) -> Fault {
    let detail = format!("the answer names no {}, and the item is not found", row.key.join(" or "));
    Fault::new(Class::Unavailable, "restore.no-key", "make an item", detail)
}
