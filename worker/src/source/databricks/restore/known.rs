//! What restore knows of workspaces: the table, as the planner asks for it.

use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::plan::Probe;
use lakehold_proto::restore::{Act, Crossing};
use serde_json::Value;

use super::super::families::{FAMILIES, GRANTS, PERMISSIONS, SECRETS, STATEMENTS, Verb};
use super::super::kinds::{
    Access, Class, Content, FieldRule, Is, List, Row, Treat, Write, is_metastores, path, row,
};
use super::super::probe::{FACT_ACCOUNT_ID, FACT_METASTORE_ID, FACT_WORKSPACE_ID};
use super::super::work::canonical_path;
use super::portable::{self, EVERYBODY, NAMED, PRINCIPALS};
use crate::source::blueprint::{Blueprint, By, Concern, Point, Renamer, Seen};

/// The table, as the planner asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Databricks;

/// The parts of a natural key stand apart.
const APART: &str = "/";

impl Blueprint for Databricks {
    fn place(&self) -> &'static str {
        FACT_WORKSPACE_ID
    }

    fn layer(&self, kind: &Kind) -> Option<u8> {
        row(kind.as_str()).map(|row| row.restore.layer)
    }

    fn neighbours(&self, kind: &Kind) -> Vec<Kind> {
        let Some(row) = row(kind.as_str()) else { return Vec::new() };
        let mut names: Vec<&'static str> = row.references.iter().map(|reference| reference.kind).collect();
        names.extend(row.walks);
        names.extend(row.restore.made_by.map(|(_, kind)| kind));
        if let List::Tree = row.list {
            names.extend(row.listed_together().map(|row| row.name));
        }
        if !matches!(row.access, Access::None { .. })
            || row.restore.owner.is_some()
            || matches!(row.list, List::Carried)
        {
            names.extend(PRINCIPALS);
        }
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(Kind::of).collect()
    }

    fn shared(&self, seen: &Seen<'_>, from: &Probe, to: &Probe) -> Option<String> {
        let row = row(seen.kind.as_str())?;
        let same = |fact| from.facts.get(fact).filter(|value| to.facts.get(fact) == Some(value));
        if is_metastores(row) {
            return same(FACT_METASTORE_ID).map(|id| format!("source and target share the metastore {id}"));
        }
        if !PRINCIPALS.contains(&row.name) {
            return None;
        }
        // The workspace's own groups are in no account.
        let local =
            |object: &Value| path::text(object, "meta.resourceType").as_deref() == Some("WorkspaceGroup");
        if seen.object.is_some_and(local) || self.is_builtin(seen) {
            return None;
        }
        same(FACT_ACCOUNT_ID).map(|id| format!("source and target share the account {id}"))
    }

    fn is_named(&self, kind: &Kind) -> bool {
        row(kind.as_str()).is_none_or(|row| match (row.list, row.restore.adopt_by) {
            (List::Tree | List::Carried, _) => true,
            (_, [field]) => row.title.first() == Some(field) && *field != "displayName",
            _ => false,
        })
    }

    fn identity(&self, seen: &Seen<'_>) -> String {
        let name = seen.entry.name.as_str();
        let Some(row) = row(seen.kind.as_str()) else { return name.to_owned() };
        let of_field = |field: &str| {
            let text = seen.object.and_then(|object| path::text(object, field))?;
            Some(if field.ends_with("path") { canonical_path(&text).to_owned() } else { text })
        };
        let identity = if self.is_named(seen.kind) {
            name.to_owned()
        } else {
            let parts: Option<Vec<_>> = row.restore.adopt_by.iter().map(|field| of_field(field)).collect();
            parts.map_or_else(|| name.to_owned(), |parts| parts.join(APART))
        };
        if row.restore.caseless { identity.to_lowercase() } else { identity }
    }

    fn identity_across(&self, kind: &Kind, identity: &str, crossing: &Crossing) -> String {
        if PRINCIPALS.contains(&kind.as_str()) {
            return crossing.mapping.principal(identity);
        }
        if row(kind.as_str()).is_some_and(|row| matches!(row.list, List::Carried)) {
            return match identity.split_once('/') {
                Some((under, name)) => format!("{under}/{}", crossing.mapping.principal(name)),
                None => identity.to_owned(),
            };
        }
        portable::home(identity, crossing).unwrap_or_else(|| identity.to_owned())
    }

    fn has_alias(&self, kind: &Kind) -> bool {
        row(kind.as_str()).is_some_and(|row| row.restore.alias.is_some())
    }

    fn alias(&self, seen: &Seen<'_>) -> Option<String> {
        let field = row(seen.kind.as_str())?.restore.alias?;
        path::text(seen.object?, field)
    }

    fn left(&self, seen: &Seen<'_>) -> Option<String> {
        let (row, object) = (row(seen.kind.as_str())?, seen.object?);
        let says = |field: &str, value: &str| path::text(object, field).as_deref() == Some(value);
        row.restore
            .left
            .iter()
            .find(|(field, value, _)| says(field, value))
            .map(|(.., why)| (*why).to_owned())
    }

    fn maker(&self, seen: &Seen<'_>) -> Option<(Kind, String)> {
        let (field, kind) = row(seen.kind.as_str())?.restore.made_by?;
        Some((Kind::of(kind), path::text(seen.object?, field)?))
    }

    fn is_builtin(&self, seen: &Seen<'_>) -> bool {
        let (Some(row), Some(object)) = (row(seen.kind.as_str()), seen.object) else { return false };
        row.builtin.iter().filter(|builtin| builtin.treat == Treat::Adopt).any(|builtin| {
            let Is::OneOf(these) = builtin.is else { return false };
            path::text(object, builtin.path).is_some_and(|text| these.contains(&text.as_str()))
        })
    }

    fn points(&self, seen: &Seen<'_>) -> Vec<Point> {
        let Some(row) = row(seen.kind.as_str()) else { return Vec::new() };
        let mut found = Vec::new();
        for place in portable::references(row) {
            for part in [seen.object, seen.content].into_iter().flatten() {
                let texts = path::find(part, place.path).into_iter().filter_map(|value| match value {
                    Value::String(text) => Some(text),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                });
                found.extend(texts.flat_map(|text| [place.point(&text), place.leans_on(&text)]).flatten());
            }
        }
        found.extend(lies_in(row, seen));
        if let Some((owner, _)) = row.restore.owner
            && let Some(name) = seen.object.and_then(|object| path::text(object, owner))
            && !EVERYBODY.contains(&name.as_str())
        {
            found.push(portable::principal(&name));
        }
        found.extend(seen.access.into_iter().flat_map(|access| granted(row, access)));
        found
    }

    fn portable(
        &self,
        kind: &Kind,
        role: Role,
        part: Value,
        crossing: &Crossing,
        rename: Renamer<'_>,
    ) -> Value {
        match row(kind.as_str()) {
            Some(row) => portable::portable(row, role, part, crossing, rename),
            None => part,
        }
    }

    fn comparable(&self, kind: &Kind, role: Role, portable: Value, crossing: &Crossing) -> Value {
        match row(kind.as_str()) {
            Some(row) => portable::comparable(row, role, portable, crossing),
            None => portable,
        }
    }

    fn concerns(
        &self,
        seen: &Seen<'_>,
        target: Option<&Seen<'_>>,
        portable: &Value,
        crossing: &Crossing,
    ) -> Vec<Concern> {
        let made = target.is_none();
        let Some(row) = row(seen.kind.as_str()) else {
            return vec![Concern::Blocked(format!("this program does not know the kind {}", seen.kind))];
        };
        let restore = &row.restore;
        let mut concerns = Vec::new();
        if made {
            let to = crossing.to_cloud.as_deref();
            let elsewhere = restore.clouds.iter().find(|(field, cloud)| {
                to.is_some_and(|to| to != *cloud) && !path::find(portable, field).is_empty()
            });
            if let Some((field, cloud)) = elsewhere {
                concerns.push(Concern::Blocked(format!(
                    "its {field} is of {cloud}: make one of that name in the target by hand, and it is adopted"
                )));
            }
            concerns.extend(restore.stop.is_some().then_some(Concern::Starts));
        }
        if let Write::Nothing { why } = restore.create
            && made
        {
            concerns.push(Concern::Blocked(why.to_owned()));
        }
        if made && crossing.changes_cloud() {
            concerns.extend(unmapped(portable, crossing));
        }
        let asks = |field: &str| {
            field.is_empty() || seen.object.is_some_and(|object| !path::find(object, field).is_empty())
        };
        let by_hand = restore.by_hand.iter().filter(|(field, _)| made && asks(field));
        concerns.extend(by_hand.map(|(_, what)| Concern::ByHand((*what).to_owned())));
        if matches!(row.access, Access::Secrets { .. }) {
            let keys = |of: Option<&Value>| {
                of.map(|content| path::find(content, "secrets[].key")).unwrap_or_default()
            };
            let there = keys(target.and_then(|target| target.content));
            let missing = keys(seen.content).into_iter().filter(|key| !there.contains(key));
            concerns.extend(missing.filter_map(|key| {
                let key = key.as_str()?;
                Some(Concern::ByHand(format!("the value of the secret {key}: no API gives it back")))
            }));
        }
        let bytes = matches!(row.content, Content::Notebook | Content::File | Content::Encoded { .. });
        if bytes && seen.entry.part(Role::Content).is_none() {
            let why =
                seen.entry.degraded.first().map_or("the snapshot has none of its content", String::as_str);
            concerns.push(Concern::Blocked(why.to_owned()));
        }
        if made {
            concerns.extend(shortcomings(row, portable));
        }
        concerns
    }

    fn held(&self, kind: &Kind, object: &Value) -> Vec<(String, Value)> {
        let Some(row) = row(kind.as_str()) else { return Vec::new() };
        let of = |rule: &FieldRule| {
            let Class::Held(to) = rule.class else { return None };
            let value = path::find(object, rule.path).into_iter().next()?;
            (value != portable::passive(to)).then(|| (rule.path.to_owned(), value))
        };
        row.rules.iter().filter_map(of).collect()
    }

    fn plainly(&self, seen: &Seen<'_>) -> Option<Kind> {
        let (field, kind, _) = row(seen.kind.as_str())?.restore.plainly?;
        let lacks = path::text(seen.object?, field).is_none_or(|text| text.is_empty());
        lacks.then(|| Kind::of(kind))
    }

    fn is_granted_anyway(&self, kind: &Kind, access: &Value) -> bool {
        let Some(row) = row(kind.as_str()) else { return false };
        let empty = |list: &str| access.get(list).and_then(Value::as_array).is_none_or(Vec::is_empty);
        match row.access {
            Access::None { .. } => true,
            // Who makes something else is granted something on it; in the tree everything is inherited.
            Access::Object { .. } => matches!(row.list, List::Tree) && empty("access_control_list"),
            Access::Grants { .. } => empty("privilege_assignments") && empty("bindings"),
            Access::Secrets { .. } => false,
        }
    }

    fn owner(&self, kind: &Kind, object: &Value) -> Option<String> {
        let (field, _) = row(kind.as_str())?.restore.owner?;
        path::text(object, field).filter(|owner| !EVERYBODY.contains(&owner.as_str()))
    }

    fn has_document(&self, kind: &Kind) -> bool {
        row(kind.as_str()).is_some_and(|row| matches!(row.content, Content::Answer { .. }))
    }

    fn needs_warehouse(&self, kind: &Kind) -> bool {
        row(kind.as_str()).is_some_and(|row| matches!(row.restore.create, Write::Sql { .. }))
    }

    fn is_ordered(&self, kind: &Kind) -> bool {
        row(kind.as_str()).is_some_and(|row| row.restore.in_order.is_some())
    }

    fn order(&self, kind: &Kind, object: &Value) -> Option<i64> {
        path::text(object, row(kind.as_str())?.restore.in_order?)?.parse().ok()
    }

    fn calls(&self, kind: &Kind, act: Act) -> Vec<(&'static str, u64)> {
        let Some(row) = row(kind.as_str()) else { return Vec::new() };
        let family = super::writes::family(row).name;
        let of = |write: &Write| match write {
            Write::Rest { .. } => Some((family, 1)),
            Write::Sql { .. } | Write::Alter { .. } => Some((STATEMENTS.name, 1)),
            Write::Nothing { .. } => None,
        };
        let restore = &row.restore;
        let mut calls: Vec<_> = match act {
            Act::Create => {
                of(&restore.create).into_iter().chain(restore.then.iter().filter_map(of)).collect()
            }
            Act::Replace | Act::Complete | Act::Activate => {
                of(&restore.update).into_iter().chain(restore.then.iter().filter_map(of)).collect()
            }
            Act::Delete => of(&restore.delete).into_iter().collect(),
            Act::Access => {
                let access = match row.access {
                    Access::None { .. } => None,
                    Access::Object { .. } => Some((PERMISSIONS.name, 1)),
                    Access::Grants { .. } => Some((GRANTS.name, 2)),
                    Access::Secrets { .. } => Some((SECRETS.name, 2)),
                };
                access.into_iter().chain(restore.owner.and_then(|(_, write)| of(&write))).collect()
            }
        };
        if act == Act::Create {
            calls.extend(restore.stop.as_ref().and_then(of));
        }
        calls
    }

    fn rate(&self, family: &str) -> f64 {
        FAMILIES
            .iter()
            .find(|known| known.name == family)
            .map_or(1.0, |family| family.rate(Verb::Write).per_second)
    }
}

/// What an item lies in, and what carries it.
fn lies_in(row: &Row, seen: &Seen<'_>) -> Option<Point> {
    let point = |kind: &'static str, by, text: &str| Point {
        to: vec![(Kind::of(kind), by)],
        text: text.to_owned(),
        firm: false,
        principal: false,
    };
    if let List::Carried = row.list {
        return carrier(&seen.entry.key).map(|(_, carrier)| carrier);
    }
    let parent = seen.entry.parent.as_deref()?;
    match (row.list, row.walks) {
        (List::Tree, _) => {
            // Folders and git folders alike.
            let tree = self::row(super::super::kinds::TREE)?;
            let to = tree.listed_together().map(|row| (row.kind(), By::Identity)).collect();
            Some(Point { to, firm: true, ..point(row.name, By::Identity, parent) })
        }
        (_, Some(walked)) => Some(Point { firm: true, ..point(walked, By::Identity, parent) }),
        _ => None,
    }
}

/// What carries the item of this key: the folder of the API that it is under, and the reference to it.
pub(super) fn carrier(key: &str) -> Option<(&str, Point)> {
    let (under, id) = key.split_once('/')?;
    let carrier = Kind::of(row(under.trim_end_matches('s'))?.name);
    let point = Point { to: vec![(carrier, By::Key)], text: id.to_owned(), firm: true, principal: false };
    Some((under, point))
}

/// Everybody whom an access list names.
fn granted(row: &Row, access: &Value) -> Vec<Point> {
    let named = |path: &str| {
        path::find(access, path).into_iter().filter_map(|name| name.as_str().map(portable::principal))
    };
    let known = |point: &Point| !EVERYBODY.contains(&point.text.as_str());
    match row.access {
        Access::None { .. } => Vec::new(),
        Access::Grants { .. } => {
            let bound = path::find(access, "bindings[].workspace_id");
            let bound = bound.iter().filter_map(portable::text_of).map(portable::workspace);
            named("privilege_assignments[].principal").filter(known).chain(bound).collect()
        }
        Access::Secrets { .. } => named("items[].principal").filter(known).collect(),
        Access::Object { .. } => {
            let entries = access.get("access_control_list").and_then(Value::as_array);
            let own = |entry: &&Value| {
                let all = entry.get("all_permissions").and_then(Value::as_array);
                all.into_iter()
                    .flatten()
                    .any(|permission| permission.get("inherited") != Some(&Value::Bool(true)))
            };
            let principal = |entry: &Value| {
                NAMED
                    .iter()
                    .find_map(|(field, ..)| portable::principal_in(field, entry.get(field)?.as_str()?))
            };
            entries.into_iter().flatten().filter(own).filter_map(principal).collect()
        }
    }
}

/// Machines and storage of another cloud that nothing maps.
fn unmapped(portable: &Value, crossing: &Crossing) -> Vec<Concern> {
    let mut found = Vec::new();
    let mut add = |what: &str, value: &str, map: &str| {
        let said = format!("{what} {value} is of another cloud, and the mapping's {map} does not name it");
        let concern = Concern::Blocked(said);
        if !found.contains(&concern) {
            found.push(concern);
        }
    };
    each_text(portable, None, &mut |member, text| {
        if matches!(member, Some("node_type_id" | "driver_node_type_id"))
            && !crossing.mapping.node_types.values().any(|to| to == text)
        {
            add("the machine type", text, "node_types");
        }
        let foreign = match crossing.to_cloud.as_deref() {
            Some("aws") => &["abfss://", "gs://"][..],
            Some("azure") => &["s3://", "gs://"],
            Some("gcp") => &["s3://", "abfss://"],
            _ => &[],
        };
        let storage = matches!(member, Some("url" | "storage_root" | "storage_location"));
        if storage && foreign.iter().any(|scheme| text.starts_with(scheme)) {
            add("the location", text, "storage");
        }
    });
    found
}

fn each_text<'a>(value: &'a Value, member: Option<&'a str>, act: &mut impl FnMut(Option<&str>, &str)) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| each_text(value, Some(name), act)),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, member, act)),
        Value::String(text) => act(member, text),
        _ => {}
    }
}

/// What of an item the API cannot bring back as it was.
fn shortcomings(row: &Row, portable: &Value) -> Vec<Concern> {
    let lacks = |field: &str| path::text(portable, field).is_none_or(|text| text.is_empty());
    let lesser = row.restore.lesser.iter().find(|(field, _)| lacks(field));
    let mut found: Vec<_> = lesser.map(|(_, how)| Concern::Degraded((*how).to_owned())).into_iter().collect();
    if let Write::Sql { .. } = row.restore.create {
        found.extend(super::sql::shortcomings(portable));
    }
    found
}

#[cfg(test)]
mod tests {
    use lakehold_proto::format::Entry;
    use serde_json::json;

    use super::*;

    fn seen<'a>(kind: &'a Kind, entry: &'a Entry, object: &'a Value) -> Seen<'a> {
        Seen { kind, entry, object: Some(object), content: None, access: None }
    }

    #[test]
    fn natural_keys_tell_twins_in_different_folders_apart() {
        let (kind, entry) = (Kind::of("query"), Entry::new("q-1", "Row count"));
        let object = json!({"display_name": "Row count", "parent_path": "/Workspace/Users/a@x.com"});
        assert_eq!(Databricks.identity(&seen(&kind, &entry, &object)), "/Users/a@x.com/Row count");
        let mut crossing = Crossing::default();
        crossing.mapping.principals.insert("a@x.com".into(), "b@y.com".into());
        assert_eq!(
            Databricks.identity_across(&kind, "/Users/a@x.com/Row count", &crossing),
            "/Users/b@y.com/Row count"
        );
    }

    #[test]
    fn a_carried_item_points_to_what_carries_it() {
        let (kind, entry) =
            (Kind::of("entitlements"), Entry::new("service_principals/12", "service_principals/sp"));
        let points = Databricks.points(&seen(&kind, &entry, &json!({})));
        assert_eq!(points.len(), 1);
        assert_eq!((points[0].to[0].0.as_str(), points[0].text.as_str()), ("service_principal", "12"));
    }

    #[test]
    fn machines_of_another_cloud_must_be_mapped() {
        let mut crossing = Crossing {
            from_cloud: Some("aws".into()),
            to_cloud: Some("azure".into()),
            ..Crossing::default()
        };
        let (kind, entry) = (Kind::of("cluster"), Entry::new("c", "c"));
        let object = json!({"node_type_id": "i3.xlarge"});
        let blocked = |crossing: &Crossing, portable: &Value| {
            let concerns = Databricks.concerns(&seen(&kind, &entry, &object), None, portable, crossing);
            concerns.iter().any(|concern| matches!(concern, Concern::Blocked(_)))
        };
        assert!(blocked(&crossing, &object));
        crossing.mapping.node_types.insert("i3.xlarge".into(), "Standard_DS3_v2".into());
        assert!(!blocked(&crossing, &json!({"node_type_id": "Standard_DS3_v2"})));
    }
}
