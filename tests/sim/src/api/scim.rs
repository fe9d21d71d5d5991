//! SCIM: users, groups, service principals, Me (reference section 3.1; paging P2 of 2.6).
//!
//! <https://docs.databricks.com/api/workspace/users>

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::api::scim_query::{self, Filter};
use crate::errors::ApiError;
use crate::population;
use crate::reply::{Answer, Reply, Req, ok};
use crate::router::Routes;
use crate::sim::Cloud;
use crate::state::{Store, Workspace, lock};

pub(crate) const USER: &str = "user";
pub(crate) const GROUP: &str = "group";
pub(crate) const PRINCIPAL: &str = "service_principal";

/// Lists leave out the members of larger groups; only a GET has them (section 3.1: such lists time out).
const MEMBERS_IN_LIST: usize = 1_000;

/// One of the three resources.
pub(crate) struct Resource {
    /// Last segment of the path.
    path: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) schema: &'static str,
    /// The attribute that must be unique, if any: a service principal's display name is not (section 3.1).
    unique: Option<&'static str>,
}

pub(crate) const RESOURCES: [Resource; 3] = [
    Resource {
        path: "Users",
        kind: USER,
        schema: "urn:ietf:params:scim:schemas:core:2.0:User",
        unique: Some("userName"),
    },
    Resource {
        path: "Groups",
        kind: GROUP,
        schema: "urn:ietf:params:scim:schemas:core:2.0:Group",
        unique: Some("displayName"),
    },
    Resource {
        path: "ServicePrincipals",
        kind: PRINCIPAL,
        schema: "urn:ietf:params:scim:schemas:core:2.0:ServicePrincipal",
        unique: None,
    },
];

pub(crate) fn routes(r: &mut Routes) {
    for base in ["/api/2.0/preview/scim/v2", "/api/2.0/scim/v2"] {
        r.get(&format!("{base}/Me"), "scim", me);
        for resource in &RESOURCES {
            let (all, one) =
                (format!("{base}/{}", resource.path), format!("{base}/{}/{{id}}", resource.path));
            r.get(&all, "scim", list);
            r.post(&all, "scim", create);
            r.get(&one, "scim", get);
            r.put(&one, "scim", replace);
            r.patch(&one, "scim", patch);
            r.delete(&one, "scim", delete);
        }
    }
}

fn resource(req: &Req) -> Result<&'static Resource, ApiError> {
    let found = RESOURCES.iter().find(|r| req.path.contains(&format!("/scim/v2/{}", r.path)));
    found.ok_or_else(|| ApiError::scim(404, "", "No such resource type"))
}

fn absent(resource: &Resource, id: &str) -> ApiError {
    let name = resource.path.trim_end_matches('s');
    ApiError::scim(404, "", format!("{name} with id {id} not found."))
}

/// `X-Databricks-Org-Id` on the answer is how the SDK learns the workspace id (section 1.1).
fn me(req: &Req) -> Reply {
    let store = req.ws.store();
    let found = principal(&store, &req.caller.name);
    let mut body = found.unwrap_or_else(
        || json!({"id": "1", "userName": req.caller.name, "displayName": req.caller.name, "active": true}),
    );
    let memberships = memberships(&req.ws, &store);
    dress(&store, &mut body, &memberships);
    // A service principal's Me calls its application id userName.
    if let Some(app) = body.get("applicationId").cloned() {
        body["userName"] = app;
    }
    Ok(Answer::json(&body).with_header("x-databricks-org-id", req.ws.id.to_string()))
}

fn list(req: &Req) -> Reply {
    let resource = resource(req)?;
    let filter = req.query("filter").map(Filter::parse).transpose()?;
    let number = |name: &str, default: usize| -> Result<usize, ApiError> {
        match req.query(name).filter(|v| !v.is_empty()) {
            None => Ok(default),
            Some(v) => {
                v.parse().map_err(|_| ApiError::scim(400, "invalidValue", format!("{name} must be a number")))
            }
        }
    };
    let start = number("startIndex", 1)?.max(1);
    let count = number("count", 100)?.min(10_000);
    let store = req.ws.store();
    let mut matching: Vec<Value> = Vec::new();
    let mut total = 0;
    for doc in store.scan(resource.kind, None, 0) {
        if !req.sees(resource.kind, &doc.id) || filter.as_ref().is_some_and(|f| !f.matches(&doc.value)) {
            continue;
        }
        total += 1;
        if total >= start && matching.len() < count {
            matching.push(doc.value);
        }
    }
    let memberships = memberships(&req.ws, &store);
    for item in &mut matching {
        dress(&store, item, &memberships);
        if item["members"].as_array().is_some_and(|m| m.len() > MEMBERS_IN_LIST) {
            remove(item, "members");
        }
        scim_query::project(item, req.query("attributes"), req.query("excludedAttributes"));
    }
    ok(json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": total, "startIndex": start, "itemsPerPage": matching.len(), "Resources": matching,
    }))
}

fn get(req: &Req) -> Reply {
    let resource = resource(req)?;
    let store = req.ws.store();
    let mut item =
        store.get(resource.kind, req.param("id")).ok_or_else(|| absent(resource, req.param("id")))?;
    dress(&store, &mut item, &memberships(&req.ws, &store));
    scim_query::project(&mut item, req.query("attributes"), req.query("excludedAttributes"));
    ok(item)
}

fn create(req: &Req) -> Reply {
    req.admin()?;
    let resource = resource(req)?;
    let mut item = body(req)?;
    let id = req.ws.fresh_number().to_string();
    prepare(req, resource, &mut item, &id)?;
    {
        let mut store = req.ws.store();
        unique(&store, resource, &item, None)?;
        members_exist(&store, &item)?;
        complete_members(&store, &mut item);
        put(&mut store, resource.kind, &id, &item);
    }
    if let Some(name) = item.get("userName").and_then(Value::as_str) {
        population::home(&req.ws, name, req.now());
    }
    let store = req.ws.store();
    let mut item = Value::Object(item);
    dress(&store, &mut item, &memberships(&req.ws, &store));
    Ok(Answer::json(&item).with_status(201))
}

fn replace(req: &Req) -> Reply {
    req.admin()?;
    let resource = resource(req)?;
    let id = req.param("id");
    let mut store = req.ws.store();
    let old = store.get(resource.kind, id).ok_or_else(|| absent(resource, id))?;
    let mut item = body(req)?;
    // Section 3.1: ids and names of the account are not changed here.
    for field in ["applicationId", "userName"] {
        if !old[field].is_null() {
            item.insert(field.to_owned(), old[field].clone());
        }
    }
    prepare(req, resource, &mut item, id)?;
    if let Some(meta) = old.get("meta") {
        item.insert("meta".to_owned(), meta.clone());
    }
    complete_members(&store, &mut item);
    let item = Value::Object(item);
    builtin(resource, &old, &item)?;
    unique(&store, resource, as_map(&item), Some(id))?;
    members_exist(&store, as_map(&item))?;
    drop_names(&mut store, resource.kind, &old);
    put(&mut store, resource.kind, id, as_map(&item));
    ok(item)
}

fn patch(req: &Req) -> Reply {
    req.admin()?;
    let resource = resource(req)?;
    let id = req.param("id");
    let mut store = req.ws.store();
    let old = store.get(resource.kind, id).ok_or_else(|| absent(resource, id))?;
    let mut item = old.clone();
    let body = body(req)?;
    let operations = body.get("Operations").and_then(Value::as_array).cloned().unwrap_or_default();
    for operation in &operations {
        scim_query::apply(&mut item, operation)?;
    }
    let mut map = as_map(&item).clone();
    settle(&mut map)?;
    members_exist(&store, &map)?;
    builtin(resource, &old, &Value::Object(map.clone()))?;
    unique(&store, resource, &map, Some(id))?;
    complete_members(&store, &mut map);
    drop_names(&mut store, resource.kind, &old);
    put(&mut store, resource.kind, id, &map);
    let mut item = Value::Object(map);
    dress(&store, &mut item, &memberships(&req.ws, &store));
    ok(item)
}

fn delete(req: &Req) -> Reply {
    req.admin()?;
    let resource = resource(req)?;
    let id = req.param("id").to_owned();
    let mut store = req.ws.store();
    let old = store.get(resource.kind, &id).ok_or_else(|| absent(resource, &id))?;
    if resource.kind == GROUP && is_builtin(&old) {
        return Err(ApiError::scim(403, "", format!("Group {} cannot be deleted.", old["displayName"])));
    }
    remove_principal(&mut store, resource.kind, &id);
    Ok(Answer::bytes("application/scim+json", bytes::Bytes::new()).with_status(204))
}

/// Removes a principal, its names and its memberships; false if there was none.
pub(crate) fn remove_principal(store: &mut Store, kind: &'static str, id: &str) -> bool {
    let Some(old) = store.remove(kind, id) else { return false };
    drop_names(store, kind, &old);
    for group in store.ids(GROUP) {
        let holds = |g: &Value| g["members"].as_array().is_some_and(|m| m.iter().any(|m| m["value"] == id));
        if store.get(GROUP, &group).as_ref().is_some_and(holds) {
            store.edit(GROUP, &group, |g| {
                if let Some(members) = g["members"].as_array_mut() {
                    members.retain(|m| m["value"] != id);
                }
            });
        }
    }
    true
}

fn body(req: &Req) -> Result<Map<String, Value>, ApiError> {
    req.json().map_err(|e| ApiError::scim(400, "invalidSyntax", e.message))
}

pub(crate) fn as_map(value: &Value) -> &Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&EMPTY)
}

fn remove(value: &mut Value, field: &str) {
    if let Some(map) = value.as_object_mut() {
        map.shift_remove(field);
    }
}

/// Fills in what the server assigns and refuses what it does not take.
fn prepare(req: &Req, resource: &Resource, item: &mut Map<String, Value>, id: &str) -> Result<(), ApiError> {
    item.insert("schemas".to_owned(), json!([resource.schema]));
    item.insert("id".to_owned(), json!(id));
    item.shift_remove("groups");
    item.shift_remove("meta");
    let text = |item: &Map<String, Value>, f: &str| {
        item.get(f).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
    };
    match resource.kind {
        USER => {
            let Some(name) = text(item, "userName") else {
                return Err(ApiError::scim(400, "invalidValue", "userName is required"));
            };
            item.entry("displayName").or_insert_with(|| json!(name));
            item.entry("emails").or_insert_with(|| json!([{"type": "work", "value": name, "primary": true}]));
            item.entry("active").or_insert(json!(true));
        }
        GROUP => {
            if text(item, "displayName").is_none() {
                return Err(ApiError::scim(400, "invalidValue", "displayName is required"));
            }
            // Section 3.1: a POST to the workspace always makes a local group.
            item.insert("meta".to_owned(), json!({"resourceType": "WorkspaceGroup"}));
        }
        _ => {
            // Section 3.1: only Azure-managed service principals bring their application id.
            let given =
                text(item, "applicationId").filter(|_| req.ws.cloud == Cloud::Azure || req.method == "PUT");
            let app = given.unwrap_or_else(|| req.ws.fresh().uuid());
            item.entry("displayName").or_insert_with(|| json!(app));
            item.insert("applicationId".to_owned(), json!(app));
            item.entry("active").or_insert(json!(true));
        }
    }
    settle(item)
}

/// Empty multi-valued attributes are absent; entitlements are known and compatible.
fn settle(item: &mut Map<String, Value>) -> Result<(), ApiError> {
    const KNOWN: [&str; 5] = [
        "workspace-access",
        "databricks-sql-access",
        "allow-cluster-create",
        "allow-instance-pool-create",
        "workspace-consume",
    ];
    for field in ["members", "entitlements", "roles"] {
        if item.get(field).is_some_and(|v| v.is_null() || v.as_array().is_some_and(Vec::is_empty)) {
            item.shift_remove(field);
        }
    }
    let values: Vec<&str> = item
        .get("entitlements")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|e| e["value"].as_str())
        .collect();
    if let Some(unknown) = values.iter().find(|v| !KNOWN.contains(v)) {
        return Err(ApiError::scim(400, "invalidValue", format!("Unknown entitlement {unknown}")));
    }
    // Section 3.1: workspace-consume excludes the other two kinds of access.
    if values.contains(&"workspace-consume")
        && values.iter().any(|v| matches!(*v, "workspace-access" | "databricks-sql-access"))
    {
        return Err(ApiError::scim(
            400,
            "invalidValue",
            "workspace-consume cannot be combined with workspace-access or databricks-sql-access",
        ));
    }
    Ok(())
}

fn unique(
    store: &Store,
    resource: &Resource,
    item: &Map<String, Value>,
    but: Option<&str>,
) -> Result<(), ApiError> {
    let Some(field) = resource.unique else { return Ok(()) };
    let Some(name) = item.get(field).and_then(Value::as_str) else { return Ok(()) };
    match id_by_name(store, resource.kind, name) {
        Some(id) if but != Some(id.as_str()) => Err(ApiError::scim(
            409,
            "uniqueness",
            format!("{} with {field} {name} already exists.", resource.path.trim_end_matches('s')),
        )),
        _ => Ok(()),
    }
}

fn members_exist(store: &Store, item: &Map<String, Value>) -> Result<(), ApiError> {
    for member in item.get("members").and_then(Value::as_array).into_iter().flatten() {
        let id = member["value"].as_str().unwrap_or_default();
        if ![USER, GROUP, PRINCIPAL].iter().any(|k| store.contains(k, id)) {
            return Err(ApiError::scim(404, "", format!("Member {id} does not exist.")));
        }
        if item.get("id").is_some_and(|own| own == id) {
            return Err(ApiError::scim(400, "invalidValue", "A group cannot be a member of itself."));
        }
    }
    Ok(())
}

/// Names and `$ref`s of members, which callers may leave out.
fn complete_members(store: &Store, item: &mut Map<String, Value>) {
    for member in item.get_mut("members").and_then(Value::as_array_mut).into_iter().flatten() {
        let id = member["value"].as_str().unwrap_or_default().to_owned();
        for resource in &RESOURCES {
            if let Some(found) = store.get(resource.kind, &id) {
                *member = json!({"value": id, "display": found["displayName"], "$ref": format!("{}/{id}", resource.path)});
            }
        }
    }
}

fn is_builtin(group: &Value) -> bool {
    matches!(group["displayName"].as_str(), Some("admins" | "users"))
}

/// The built-in groups keep their names, and `users` its members (section 3.1).
fn builtin(resource: &Resource, old: &Value, new: &Value) -> Result<(), ApiError> {
    if resource.kind == GROUP && is_builtin(old) && old["displayName"] != new["displayName"] {
        return Err(ApiError::scim(403, "", format!("Group {} cannot be renamed.", old["displayName"])));
    }
    Ok(())
}

/// Writes a principal and the index by its name.
pub(crate) fn put(store: &mut Store, kind: &'static str, id: &str, item: &Map<String, Value>) {
    store.put(kind, id, &Value::Object(item.clone()));
    if let Some((index, name)) = name_of(kind, item) {
        store.put(index, &name, &json!(id));
    }
}

fn drop_names(store: &mut Store, kind: &'static str, old: &Value) {
    if let Some((index, name)) = name_of(kind, as_map(old)) {
        store.remove(index, &name);
    }
}

fn name_of(kind: &str, item: &Map<String, Value>) -> Option<(&'static str, String)> {
    let (index, field) = match kind {
        USER => ("user by name", "userName"),
        GROUP => ("group by name", "displayName"),
        _ => ("service principal by application id", "applicationId"),
    };
    // Section 3.1: user names are compared without case.
    let name = item.get(field)?.as_str()?;
    Some((index, if kind == USER { name.to_lowercase() } else { name.to_owned() }))
}

/// The id of the principal that ACLs and grants name so: user name, group name, application id.
pub(crate) fn id_by_name(store: &Store, kind: &str, name: &str) -> Option<String> {
    let (index, name) = match kind {
        USER => ("user by name", name.to_lowercase()),
        GROUP => ("group by name", name.to_owned()),
        _ => ("service principal by application id", name.to_owned()),
    };
    store.get(index, &name)?.as_str().map(str::to_owned)
}

/// The user or service principal of a caller's name.
pub(crate) fn principal(store: &Store, name: &str) -> Option<Value> {
    [USER, PRINCIPAL].into_iter().find_map(|kind| store.get(kind, &id_by_name(store, kind, name)?))
}

/// Group memberships by member id: (group id, display name), except those of `users`.
pub(crate) type Memberships = HashMap<String, Vec<(String, String)>>;

/// Who is in which group; counted anew only when a group changed, since every user shows it.
fn memberships(ws: &Workspace, store: &Store) -> Arc<Memberships> {
    let mut cached = lock(&ws.memberships);
    let version = store.version(GROUP);
    if cached.0 != version {
        *cached = (version, Arc::new(count_memberships(store)));
    }
    Arc::clone(&cached.1)
}

fn count_memberships(store: &Store) -> Memberships {
    let mut all = Memberships::new();
    for group in store.scan(GROUP, None, 0) {
        let name = group.value["displayName"].as_str().unwrap_or_default();
        for member in group.value["members"].as_array().into_iter().flatten() {
            if let Some(id) = member["value"].as_str() {
                all.entry(id.to_owned()).or_default().push((group.id.clone(), name.to_owned()));
            }
        }
    }
    all
}

/// Adds what is not stored with an item: its groups, and the members of `users`, who are all.
fn dress(store: &Store, item: &mut Value, memberships: &Memberships) {
    let id = item["id"].as_str().unwrap_or_default().to_owned();
    let mut groups: Vec<Value> = memberships
        .get(&id)
        .into_iter()
        .flatten()
        .map(|(gid, name)| json!({"value": gid, "display": name, "type": "direct", "$ref": format!("Groups/{gid}")}))
        .collect();
    let is_group = item["schemas"][0].as_str().is_some_and(|s| s.ends_with(":Group"));
    if !is_group && let Some(users) = id_by_name(store, GROUP, "users") {
        groups.push(
            json!({"value": users, "display": "users", "type": "direct", "$ref": format!("Groups/{users}")}),
        );
    }
    if !groups.is_empty() {
        item["groups"] = Value::Array(groups);
    }
    if is_group && item["displayName"] == "users" {
        let mut members: Vec<Value> = Vec::new();
        for resource in RESOURCES.iter().filter(|r| r.kind != GROUP) {
            members.extend(store.scan(resource.kind, None, 0).map(
                |d| json!({"value": d.id, "display": d.value["displayName"], "$ref": format!("{}/{}", resource.path, d.id)}),
            ));
        }
        item["members"] = Value::Array(members);
    }
}
