//! Items in the words of another workspace.

use lakehold_proto::format::{Role, canonical_json};
use lakehold_proto::ids::Kind;
use lakehold_proto::restore::Crossing;
use serde_json::{Map, Value, json};

use super::super::kinds::{Access, Class, Holds, Passive, Reference, Row, is_metastores, path};
use super::super::work::canonical_path;
use crate::source::blueprint::{By, Point, Renamed, Renamer};

/// What each cloud calls the settings of its machines.
const CLOUDS: [(&str, &str); 3] =
    [("aws", "aws_attributes"), ("azure", "azure_attributes"), ("gcp", "gcp_attributes")];

/// The kinds whose items are people, groups and programs.
pub(super) const PRINCIPALS: [&str; 3] = ["user", "group", "service_principal"];

/// A part of an item of `row`, as it is to be in the target.
pub(super) fn portable(
    row: &Row,
    role: Role,
    mut part: Value,
    crossing: &Crossing,
    rename: Renamer<'_>,
) -> Value {
    if role == Role::Permissions {
        return access(row, &part, crossing, rename);
    }
    for (field, told_by, values) in row.restore.assigned_where {
        if path::text(&part, told_by).is_some_and(|told| values.contains(&told.as_str())) {
            path::remove(&mut part, field);
        }
    }
    managed_by_the_metastore(&mut part);
    if matches!(row.access, Access::Secrets { .. }) && role == Role::Content {
        // Keys without values: which are missing is for a person to mend.
        return Value::Null;
    }
    for rule in row.rules {
        match rule.class {
            Class::Volatile | Class::Assigned => path::remove(&mut part, rule.path),
            Class::Held(to) if crossing.passive => path::rewrite(&mut part, rule.path, &mut |value| {
                *value = passive(to);
            }),
            Class::Held(_) | Class::Reference => {}
        }
    }
    if PRINCIPALS.contains(&row.name) {
        own_names(row, &mut part, crossing);
    }
    for reference in references(row) {
        follow(&mut part, &reference, rename);
    }
    renamed_words(&mut part, crossing, None);
    for (given, refused) in row.restore.instead {
        if path::text(&part, given).is_some_and(|text| !text.is_empty()) {
            refused.iter().for_each(|field| path::remove(&mut part, field));
        }
    }
    in_pools(&mut part);
    if crossing.changes_cloud() {
        other_clouds(&mut part, crossing);
    }
    row.sets.iter().for_each(|set| path::sort(&mut part, set));
    part
}

/// To be compared: documents inside strings are parsed, and what a passive restore holds is no difference.
pub(super) fn comparable(row: &Row, role: Role, mut part: Value, crossing: &Crossing) -> Value {
    if role != Role::Object {
        return part;
    }
    for field in documents(row) {
        path::rewrite(&mut part, field, &mut |value| {
            if let Some(document) = value.as_str().and_then(|text| serde_json::from_str(text).ok()) {
                *value = document;
            }
        });
    }
    if crossing.passive {
        let held = row.rules.iter().filter(|rule| matches!(rule.class, Class::Held(_)));
        held.for_each(|rule| path::remove(&mut part, rule.path));
    }
    // An absent field and an empty one mean the same to these servers.
    without_empty(&mut part);
    part
}

fn without_empty(value: &mut Value) {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(without_empty);
            members.retain(|_, member| !empty(member));
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty),
        _ => {}
    }
}

impl Place {
    /// What a text in this place leans on without naming it by itself: it is never rewritten.
    pub(super) fn leans_on(&self, text: &str) -> Option<Point> {
        let of = |reference: &Reference| match reference.holds {
            Holds::Secret => {
                let scope = text.split("{{secrets/").nth(1)?.split('/').next()?;
                Some((By::Identity, scope.to_owned()))
            }
            Holds::Volume => {
                let names: Vec<_> = text.strip_prefix("/Volumes/")?.splitn(4, '/').take(3).collect();
                Some((By::Identity, names.join(".")))
            }
            Holds::Place => Some((By::Place, text.to_owned())),
            Holds::Key | Holds::Name | Holds::Path | Holds::ApplicationId | Holds::Within => None,
        };
        let (kind, (by, text)) =
            self.to.iter().find_map(|reference| Some((reference.kind, of(reference)?)))?;
        Some(Point { to: vec![(Kind::of(kind), by)], text, firm: self.firm, principal: false })
    }
}

/// The fields that hold a JSON document as text: those that a reference reaches into.
fn documents(row: &Row) -> impl Iterator<Item = &'static str> {
    let mut found: Vec<_> =
        row.references.iter().filter_map(|reference| Some(reference.path.split_once(".(json)")?.0)).collect();
    found.dedup();
    found.into_iter()
}

pub(super) fn passive(to: Passive) -> Value {
    match to {
        Passive::Paused => json!("PAUSED"),
        Passive::Zero => json!(0),
        Passive::Off => json!(false),
    }
}

/// The references of a row, with those to one place together.
pub(super) fn references(row: &Row) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for reference in row.references {
        match places.iter_mut().find(|place| place.path == reference.path) {
            Some(place) => place.to.push(*reference),
            None => places.push(Place {
                path: reference.path,
                to: vec![*reference],
                // Nothing in a catalog is without what it lies in and leans on.
                firm: is_metastores(row),
            }),
        }
    }
    places
}

/// A place of an item that refers to others.
pub(super) struct Place {
    pub(super) path: &'static str,
    to: Vec<Reference>,
    firm: bool,
}

impl Place {
    /// What a text in this place refers to; `None` when it is only a part of other text.
    pub(super) fn point(&self, text: &str) -> Option<Point> {
        let by = |holds| match holds {
            Holds::Key => Some(By::Key),
            Holds::ApplicationId => Some(By::Alias),
            Holds::Name | Holds::Path => Some(By::Identity),
            Holds::Within | Holds::Secret | Holds::Volume | Holds::Place => None,
        };
        let to: Vec<_> = self
            .to
            .iter()
            .filter_map(|reference| Some((Kind::of(reference.kind), by(reference.holds)?)))
            .collect();
        let path = self.to.iter().any(|reference| reference.holds == Holds::Path);
        let principal = self.to.iter().any(|reference| PRINCIPALS.contains(&reference.kind));
        let firm = self.firm || to.iter().all(|(_, by)| *by != By::Identity);
        let text = if path { canonical_path(text) } else { text };
        if principal && EVERYBODY.contains(&text) {
            return None;
        }
        (!to.is_empty() && !text.is_empty()).then(|| Point { to, text: text.to_owned(), firm, principal })
    }
}

fn follow(part: &mut Value, place: &Place, rename: Renamer<'_>) {
    let (mut later, mut missing) = (false, false);
    path::rewrite(part, place.path, &mut |value| {
        let Some(text) = text_of(value) else { return };
        let Some(point) = place.point(&text) else { return };
        match rename(&point) {
            Renamed::Same => {}
            Renamed::Later => later = true,
            Renamed::Missing => {
                missing = true;
                *value = Value::Null;
            }
            // The API writes such paths with and without this, and takes both.
            Renamed::Text(new) if canonical_path(&text) == new => {}
            Renamed::Text(new) => *value = like(value, new),
        }
    });
    if later {
        path::remove(part, detachable(place.path));
    }
    if missing {
        path::prune(part, place.path);
    }
}

pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `text` in the type of `old`: some ids are numbers.
pub(super) fn like(old: &Value, text: String) -> Value {
    match old {
        Value::Number(_) => text.parse::<serde_json::Number>().map_or(Value::String(text), Value::Number),
        _ => Value::String(text),
    }
}

/// The largest thing around a field that is left out with it until later: the outermost list, since one element of a list
/// may need another; else the field itself.
fn detachable(path: &'static str) -> &'static str {
    let list = path.find("[]").map_or(path, |at| &path[..at]);
    list.split_once(".(json)").map_or(list, |(document, _)| document)
}

/// Puts machines, storage and homes into the target's words, wherever they stand.
fn renamed_words(value: &mut Value, crossing: &Crossing, member: Option<&str>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                // In a policy the member's name stands around its value.
                let inside = if name.contains("node_type") { Some(name.as_str()) } else { member };
                renamed_words(value, crossing, inside);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| renamed_words(item, crossing, member)),
        Value::String(text) => {
            if let Some(new) = word(text, crossing, member.is_some()) {
                *text = new;
            }
        }
        _ => {}
    }
}

fn word(text: &str, crossing: &Crossing, machine: bool) -> Option<String> {
    let mapping = &crossing.mapping;
    if machine && let Some(mapped) = mapping.node_types.get(text) {
        return Some(mapped.clone());
    }
    if let Some(mapped) = mapping.instance_profiles.get(text) {
        return Some(mapped.clone());
    }
    if text.contains("://") {
        return mapping.location(text);
    }
    if text.starts_with('{') {
        // A document inside the string: a policy, a dashboard.
        let mut document: Value = serde_json::from_str(text).ok()?;
        let before = document.clone();
        renamed_words(&mut document, crossing, None);
        return (document != before).then(|| document.to_string());
    }
    home(text, crossing)
}

/// A path in somebody's home, where that somebody is called otherwise in the target.
pub(super) fn home(text: &str, crossing: &Crossing) -> Option<String> {
    for root in ["/Users/", "/Repos/", "/Workspace/Users/", "/Workspace/Repos/"] {
        let Some(rest) = text.strip_prefix(root) else { continue };
        let (who, below) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let mapped = crossing.mapping.principal(who);
        return (mapped != who).then(|| format!("{root}{mapped}{below}"));
    }
    None
}

/// A root that lies in the metastore's own storage was chosen by the server.
fn managed_by_the_metastore(part: &mut Value) {
    let Some(metastore) = path::text(part, "metastore_id").filter(|id| !id.is_empty()) else { return };
    if path::text(part, "storage_root").is_some_and(|root| root.contains(&metastore)) {
        path::remove(part, "storage_root");
    }
}

/// What a principal itself is called in the target.
fn own_names(row: &Row, part: &mut Value, crossing: &Crossing) {
    for field in row.restore.adopt_by.iter().copied().chain(["emails[].value"]) {
        path::rewrite(part, field, &mut |name| {
            if let Value::String(name) = name {
                *name = crossing.mapping.principal(name);
            }
        });
    }
}

/// What a pool decides is not said again by clusters in jobs and pipelines.
fn in_pools(value: &mut Value) {
    const DECIDED: [&str; 3] = ["node_type_id", "driver_node_type_id", "enable_elastic_disk"];
    match value {
        Value::Object(members) => {
            let pooled =
                members.get("instance_pool_id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
            // A policy's definition has the same names for its rules; those are objects.
            if pooled {
                members.retain(|name, _| !DECIDED.contains(&name.as_str()));
            }
            members.values_mut().for_each(in_pools);
        }
        Value::Array(items) => items.iter_mut().for_each(in_pools),
        _ => {}
    }
}

/// Leaves out what only another cloud has.
fn other_clouds(value: &mut Value, crossing: &Crossing) {
    let to = crossing.to_cloud.as_deref();
    match value {
        Value::Object(members) => {
            members.retain(|name, _| {
                CLOUDS.iter().all(|(cloud, attributes)| attributes != name || Some(*cloud) == to)
            });
            members.values_mut().for_each(|value| other_clouds(value, crossing));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| other_clouds(item, crossing)),
        _ => {}
    }
}

/// Who may do what, as it is written: one level for each principal who was granted something on the item itself.
fn access(row: &Row, part: &Value, crossing: &Crossing, rename: Renamer<'_>) -> Value {
    match row.access {
        Access::None { .. } => Value::Null,
        Access::Object { object, .. } => {
            let entries = part.get("access_control_list").and_then(Value::as_array);
            let root = object == "directories" && part.get("object_id") == Some(&json!("/directories/0"));
            let entries = entries.into_iter().flatten();
            let owned = entries.clone().filter_map(own_level).any(|level| level == OWNER);
            let mut kept: Vec<_> = entries.filter_map(|entry| direct(entry, root, rename)).collect();
            if owned && !kept.iter().any(|entry| entry["permission_level"] == OWNER) {
                owned_by_the_restorer(&mut kept, crossing);
            }
            json!({"access_control_list": sorted(kept.into_iter())})
        }
        Access::Grants { .. } => {
            let entries = part.get("privilege_assignments").and_then(Value::as_array);
            let kept = entries.into_iter().flatten().filter_map(|entry| {
                let principal = principal_name(entry.get("principal")?.as_str()?, rename)?;
                let mut privileges = entry.get("privileges")?.as_array()?.clone();
                privileges.sort_by_cached_key(canonical_json);
                Some(json!({"principal": principal, "privileges": privileges}))
            });
            let mut granted = Map::from_iter([("privilege_assignments".to_owned(), sorted(kept))]);
            if let Some(bindings) = part.get("bindings").and_then(Value::as_array) {
                granted.insert(
                    "bindings".to_owned(),
                    sorted(bindings.iter().filter_map(|binding| bound(binding, rename))),
                );
            }
            Value::Object(granted)
        }
        Access::Secrets { .. } => {
            let entries = part.get("items").and_then(Value::as_array);
            let kept = entries.into_iter().flatten().filter_map(|entry| {
                let principal = principal_name(entry.get("principal")?.as_str()?, rename)?;
                Some(json!({"principal": principal, "permission": entry.get("permission")?}))
            });
            json!({"items": sorted(kept)})
        }
    }
}

fn sorted(entries: impl Iterator<Item = Value>) -> Value {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_cached_key(canonical_json);
    Value::Array(entries)
}

/// The fields by which an access list names somebody, and the kind of each.
pub(super) const NAMED: [(&str, &str, By); 3] = [
    ("user_name", "user", By::Identity),
    ("group_name", "group", By::Identity),
    ("service_principal_name", "service_principal", By::Alias),
];

/// From the least to the most, so that of several levels the last counts.
const LEVELS: [&str; 16] = [
    "CAN_VIEW",
    "CAN_READ",
    "CAN_USE",
    "CAN_MONITOR",
    "CAN_ATTACH_TO",
    "CAN_RUN",
    "CAN_QUERY",
    "CAN_MANAGE_RUN",
    "CAN_RESTART",
    "CAN_EDIT",
    "CAN_MANAGE_STAGING_VERSIONS",
    "CAN_MANAGE_PRODUCTION_VERSIONS",
    "CAN_BIND",
    "CAN_CREATE",
    "CAN_MANAGE",
    "IS_OWNER",
];

/// What only one may have, and somebody must.
const OWNER: &str = "IS_OWNER";

/// The highest that an entry grants on the item itself.
fn own_level(entry: &Value) -> Option<&str> {
    let own = |permission: &&Value| permission.get("inherited") != Some(&Value::Bool(true));
    let levels = entry.get("all_permissions")?.as_array()?.iter().filter(own);
    let level = levels.filter_map(|permission| permission.get("permission_level")?.as_str());
    level.max_by_key(|level| LEVELS.iter().position(|known| known == level))
}

/// The owner is nobody whom the target has: then whoever brings the item back keeps it.
fn owned_by_the_restorer(entries: &mut Vec<Value>, crossing: &Crossing) {
    let Some(restorer) = &crossing.restorer else { return };
    let field = if restorer.contains('@') { "user_name" } else { "service_principal_name" };
    entries.retain(|entry| entry[field] != restorer.as_str());
    entries.push(json!({field: restorer, "permission_level": OWNER}));
}

/// What an entry grants on the item itself. The administrators' own right cannot be changed but at the root.
fn direct(entry: &Value, root: bool, rename: Renamer<'_>) -> Option<Value> {
    let level = own_level(entry)?;
    for (field, ..) in NAMED {
        let Some(name) = entry.get(field).and_then(Value::as_str).filter(|name| !name.is_empty()) else {
            continue;
        };
        if field == "group_name" && name == "admins" && !root {
            return None;
        }
        let point = principal_in(field, name)?;
        let name = match rename(&point) {
            Renamed::Text(new) => new,
            Renamed::Same => name.to_owned(),
            Renamed::Later | Renamed::Missing => return None,
        };
        return Some(json!({field: name, "permission_level": level}));
    }
    None
}

/// What a field of an access list points to.
pub(super) fn principal_in(field: &str, name: &str) -> Option<Point> {
    let (_, kind, by) = NAMED.iter().find(|(named, ..)| *named == field)?;
    Some(Point { to: vec![(Kind::of(kind), *by)], text: name.to_owned(), firm: true, principal: true })
}

/// A principal that is named without its kind: a user's name, a group's name, or a program's application id.
pub(super) fn principal(name: &str) -> Point {
    let to = NAMED.iter().map(|(_, kind, by)| (Kind::of(kind), *by)).collect();
    Point { to, text: name.to_owned(), firm: true, principal: true }
}

/// Groups that every account has.
pub(super) const EVERYBODY: [&str; 2] = ["account users", "System user"];

fn principal_name(name: &str, rename: Renamer<'_>) -> Option<String> {
    if EVERYBODY.contains(&name) {
        return Some(name.to_owned());
    }
    match rename(&principal(name)) {
        Renamed::Text(new) => Some(new),
        Renamed::Same => Some(name.to_owned()),
        Renamed::Later | Renamed::Missing => None,
    }
}

/// The kind under which a workspace itself is referred to: no kind of the table.
const WORKSPACE: &str = "workspace";

/// A reference to a workspace.
pub(super) fn workspace(id: String) -> Point {
    Point { to: vec![(Kind::of(WORKSPACE), By::Key)], text: id, firm: true, principal: false }
}

fn bound(binding: &Value, rename: Renamer<'_>) -> Option<Value> {
    let id = text_of(binding.get("workspace_id")?)?;
    let id = match rename(&workspace(id)) {
        Renamed::Text(new) => like(binding.get("workspace_id")?, new),
        Renamed::Same => binding.get("workspace_id")?.clone(),
        Renamed::Later | Renamed::Missing => return None,
    };
    Some(json!({"workspace_id": id, "binding_type": binding.get("binding_type")?}))
}

#[cfg(test)]
mod tests {
    use super::super::super::kinds::row;
    use super::*;

    fn as_is(_: &Point) -> Renamed {
        Renamed::Same
    }

    #[test]
    fn what_the_server_sets_is_left_out_and_references_are_renamed() {
        let job = json!({"job_id": 7, "settings": {"name": "n", "tasks": [
            {"task_key": "a", "existing_cluster_id": "c1"}, {"task_key": "b", "run_job_task": {"job_id": 12}}]}});
        let mut rename = |point: &Point| match point.text.as_str() {
            "c1" => Renamed::Text("c9".into()),
            "12" => Renamed::Text("34".into()),
            _ => Renamed::Same,
        };
        let made = portable(row("job").unwrap(), Role::Object, job, &Crossing::default(), &mut rename);
        assert_eq!(
            made,
            json!({"settings": {"name": "n", "tasks": [
            {"task_key": "a", "existing_cluster_id": "c9"}, {"task_key": "b", "run_job_task": {"job_id": 34}}]}})
        );
    }

    #[test]
    fn what_would_go_in_a_circle_is_left_out_with_its_list() {
        let job =
            json!({"settings": {"name": "n", "tasks": [{"task_key": "b", "run_job_task": {"job_id": 12}}]}});
        let made =
            portable(row("job").unwrap(), Role::Object, job, &Crossing::default(), &mut |_| Renamed::Later);
        assert_eq!(made, json!({"settings": {"name": "n"}}));
    }

    #[test]
    fn what_the_target_does_not_have_is_left_out_alone() {
        let group = json!({"displayName": "g", "members": [{"value": "1", "display": "a"}, {"value": "2"}]});
        let mut rename = |point: &Point| if point.text == "1" { Renamed::Missing } else { Renamed::Same };
        let made = portable(row("group").unwrap(), Role::Object, group, &Crossing::default(), &mut rename);
        assert_eq!(made, json!({"displayName": "g", "members": [{"value": "2"}]}));
        let job = json!({"settings": {"name": "n", "run_as": {"user_name": "a"}}});
        let made =
            portable(row("job").unwrap(), Role::Object, job, &Crossing::default(), &mut |_| Renamed::Missing);
        assert_eq!(made, json!({"settings": {"name": "n"}}));
    }

    #[test]
    fn references_inside_documents_are_renamed_and_compared_without_their_layout() {
        let policy = |text: &str| json!({"policy_id": "p", "name": "n", "definition": text});
        let mut rename = |point: &Point| {
            if point.text == "pool-1" { Renamed::Text("pool-9".into()) } else { Renamed::Same }
        };
        let row = row("cluster_policy").unwrap();
        let crossing = Crossing::default();
        let a = policy(r#"{"instance_pool_id": {"type": "fixed", "value": "pool-1"}}"#);
        let a = portable(row, Role::Object, a, &crossing, &mut rename);
        let b = portable(
            row,
            Role::Object,
            policy("{ \"instance_pool_id\":\n{\"value\":\"pool-9\",\"type\":\"fixed\"}}"),
            &crossing,
            &mut as_is,
        );
        assert_ne!(a, b);
        assert_eq!(
            canonical_json(&comparable(row, Role::Object, a, &crossing)),
            canonical_json(&comparable(row, Role::Object, b, &crossing))
        );
    }

    #[test]
    fn homes_machines_and_storage_are_called_what_the_mapping_says() {
        let map = |a: &str, b: &str| [(a.to_owned(), b.to_owned())].into();
        let mut crossing = Crossing {
            from_cloud: Some("aws".into()),
            to_cloud: Some("azure".into()),
            ..Crossing::default()
        };
        crossing.mapping.principals = map("a@x.com", "b@y.com");
        crossing.mapping.node_types = map("i3.xlarge", "Standard_DS3_v2");
        crossing.mapping.storage = map("s3://lake", "abfss://lake@z");
        let cluster = json!({"cluster_name": "i3.xlarge", "node_type_id": "i3.xlarge",
            "aws_attributes": {"zone_id": "auto"}, "cluster_log_conf": {"s3": {"destination": "s3://lake/logs"}},
            "init_scripts": [{"workspace": {"destination": "/Workspace/Users/a@x.com/init.sh"}}]});
        let made = portable(row("cluster").unwrap(), Role::Object, cluster, &crossing, &mut as_is);
        assert_eq!(
            made,
            json!({"cluster_name": "i3.xlarge", "node_type_id": "Standard_DS3_v2",
            "cluster_log_conf": {"s3": {"destination": "abfss://lake@z/logs"}},
            "init_scripts": [{"workspace": {"destination": "/Workspace/Users/b@y.com/init.sh"}}]})
        );
    }

    #[test]
    fn access_is_what_was_granted_on_the_item_itself_at_its_highest() {
        let entry = |name: &str, levels: &[(&str, bool)]| {
            let all: Vec<_> = levels
                .iter()
                .map(|(level, inherited)| json!({"permission_level": level, "inherited": inherited}))
                .collect();
            json!({"user_name": name, "display_name": name, "all_permissions": all})
        };
        let acl = json!({"object_id": "/jobs/1", "access_control_list": [
            entry("b", &[("CAN_VIEW", false), ("CAN_MANAGE_RUN", false)]), entry("a", &[("IS_OWNER", false)]),
            entry("c", &[("CAN_MANAGE", true)]),
            {"group_name": "admins", "all_permissions": [{"permission_level": "CAN_MANAGE", "inherited": false}]}]});
        let made = portable(row("job").unwrap(), Role::Permissions, acl, &Crossing::default(), &mut as_is);
        assert_eq!(
            made,
            json!({"access_control_list": [
            {"permission_level": "CAN_MANAGE_RUN", "user_name": "b"}, {"permission_level": "IS_OWNER", "user_name": "a"}]})
        );
    }

    #[test]
    fn a_passive_restore_holds_what_would_start_by_itself() {
        let job = json!({"settings": {"schedule": {"pause_status": "UNPAUSED", "timezone_id": "UTC"}}});
        let crossing = Crossing { passive: true, ..Crossing::default() };
        let row = row("job").unwrap();
        let made = portable(row, Role::Object, job.clone(), &crossing, &mut as_is);
        assert_eq!(made["settings"]["schedule"]["pause_status"], "PAUSED");
        let active = portable(row, Role::Object, job, &Crossing::default(), &mut as_is);
        assert_eq!(
            comparable(row, Role::Object, made, &crossing),
            comparable(row, Role::Object, active, &crossing)
        );
    }
}
