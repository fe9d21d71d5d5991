//! Queries and their visualizations (section 3.5).
//!
//! <https://docs.databricks.com/api/workspace/queries>

use serde_json::{Map, Value, json};

use crate::api::warehouses::WAREHOUSE;
use crate::clock::rfc3339;
use crate::errors::ApiError;
use crate::paging::{self, Listing, Page};
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::state::Store;

/// Name of the documents in the store.
pub(crate) const QUERY: &str = "query";

/// Visualizations; their parent is the query.
pub(crate) const VISUALIZATION: &str = "visualization";

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/sql/queries", "sql.queries", list);
    r.post("/api/2.0/sql/queries", "sql.queries", create);
    r.get("/api/2.0/sql/queries/{id}", "sql.queries", get);
    r.patch("/api/2.0/sql/queries/{id}", "sql.queries", update);
    r.delete("/api/2.0/sql/queries/{id}", "sql.queries", trash);
    r.get("/api/2.0/sql/queries/{id}/visualizations", "sql.queries", visualizations);
    r.post("/api/2.0/sql/visualizations", "sql.queries", create_visualization);
    r.patch("/api/2.0/sql/visualizations/{id}", "sql.queries", update_visualization);
    r.delete("/api/2.0/sql/visualizations/{id}", "sql.queries", delete_visualization);
    r.post("/api/2.0/preview/sql/permissions/{kind}/{id}/transfer", "sql.queries", transfer);
}

/// One page of what is not in the trash, without what only GET tells.
pub(super) fn list_active(req: &Req, kind: &'static str, hidden: &[&str]) -> Result<Page, ApiError> {
    let mut page = paging::page(
        req,
        &req.ws.store(),
        &Listing { kind, parent: None, size: &["page_size"], default: 20, max: 100, token: "page_token" },
        // Section 3.5: what is trashed is listed by a filter only.
        |item| item["lifecycle_state"] == "ACTIVE",
    )?;
    for item in page.items.iter_mut().filter_map(Value::as_object_mut) {
        for field in hidden {
            item.remove(*field);
        }
    }
    Ok(page)
}

/// Section 3.5: the list lacks parent_path.
fn list(req: &Req) -> Reply {
    ok(list_active(req, QUERY, &["parent_path"])?.body("results"))
}

fn get(req: &Req) -> Reply {
    ok(find(&req.ws.store(), QUERY, req.param("id"), "Query")?)
}

pub(super) fn find(store: &Store, kind: &str, id: &str, noun: &str) -> Result<Value, ApiError> {
    store.get(kind, id).ok_or_else(|| ApiError::absent(format!("{noun} with id {id} does not exist.")))
}

/// The wrapped object of a body, such as `{"query": {…}, "update_mask": "…"}`.
pub(super) fn wrapped(req: &Req, name: &str) -> Result<Map<String, Value>, ApiError> {
    match req.json()?.remove(name) {
        Some(Value::Object(map)) => Ok(map),
        _ => Err(ApiError::invalid(format!("Missing required field: {name}"))),
    }
}

/// Refuses a warehouse that is not there.
pub(super) fn known_warehouse(store: &Store, item: &Map<String, Value>) -> Result<(), ApiError> {
    match item.get("warehouse_id").and_then(Value::as_str) {
        Some(id) if !store.contains(WAREHOUSE, id) => {
            Err(ApiError::absent(format!("SQL warehouse {id} does not exist.")))
        }
        _ => Ok(()),
    }
}

/// A name nobody else has in the folder, if the caller asks for one to be found.
pub(super) fn settle_name(
    req: &Req,
    store: &Store,
    kind: &str,
    item: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let name = item.get("display_name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let folder = item.get("parent_path").cloned().unwrap_or_default();
    let taken = |n: &str| {
        store
            .find(kind, |q| {
                q["lifecycle_state"] == "ACTIVE" && q["display_name"] == n && q["parent_path"] == folder
            })
            .is_some()
    };
    if !taken(&name) {
        return Ok(());
    }
    if req.json()?.get("auto_resolve_display_name") != Some(&json!(true)) {
        return Err(ApiError::exists(format!("Node named '{name}' already exists")));
    }
    if let Some(free) = (1..10_000).map(|i| format!("{name} ({i})")).find(|n| !taken(n)) {
        item.insert("display_name".to_owned(), json!(free));
    }
    Ok(())
}

fn create(req: &Req) -> Reply {
    let mut query = wrapped(req, "query")?;
    let mut store = req.ws.store();
    known_warehouse(&store, &query)?;
    query.entry("display_name").or_insert_with(|| json!("New Query"));
    query.entry("parent_path").or_insert_with(|| json!(format!("/Workspace/Users/{}", req.caller.name)));
    settle_name(req, &store, QUERY, &mut query)?;
    let id = req.ws.fresh().uuid();
    finish(&mut query, &id, &req.caller.name, req.now());
    let query = Value::Object(query);
    store.put(QUERY, &id, &query);
    ok(query)
}

/// Adds what the server assigns.
pub(crate) fn finish(query: &mut Map<String, Value>, id: &str, by: &str, now: i64) {
    for (field, value) in [
        ("id", json!(id)),
        ("owner_user_name", json!(by)),
        ("last_modifier_user_name", json!(by)),
        ("lifecycle_state", json!("ACTIVE")),
        ("create_time", json!(rfc3339(now))),
        ("update_time", json!(rfc3339(now))),
    ] {
        query.insert(field.to_owned(), value);
    }
    query.entry("run_as_mode").or_insert_with(|| json!("OWNER"));
    query.entry("query_text").or_insert_with(|| json!(""));
}

/// Copies what the mask names; a field named and not given is cleared.
pub(super) fn masked(item: &mut Value, given: &Map<String, Value>, mask: &str) {
    let all = mask == "*" || mask.is_empty();
    let fields: Vec<&str> = if all {
        given.keys().map(String::as_str).collect()
    } else {
        mask.split(',').map(str::trim).collect()
    };
    for field in fields {
        // A dotted path changes a part of an object.
        let top = field.split('.').next().unwrap_or(field);
        match (given.get(top), item.as_object_mut()) {
            (Some(value), Some(item)) => drop(item.insert(top.to_owned(), value.clone())),
            (None, Some(item)) => drop(item.shift_remove(top)),
            (_, None) => {}
        }
    }
}

fn update(req: &Req) -> Reply {
    let id = req.param("id").to_owned();
    let given = wrapped(req, "query")?;
    let mask = req.need("update_mask")?;
    let mut store = req.ws.store();
    known_warehouse(&store, &given)?;
    find(&store, QUERY, &id, "Query")?;
    let now = req.now();
    let changed = store.edit(QUERY, &id, |query| {
        masked(query, &given, &mask);
        query["update_time"] = json!(rfc3339(now));
        query["last_modifier_user_name"] = json!(req.caller.name);
    });
    ok(changed.unwrap_or_default())
}

fn trash(req: &Req) -> Reply {
    trash_one(req, QUERY, "Query")
}

/// DELETE moves to the trash.
pub(super) fn trash_one(req: &Req, kind: &str, noun: &str) -> Reply {
    let id = req.param("id");
    let mut store = req.ws.store();
    find(&store, kind, id, noun)?;
    store.edit(kind, id, |item| item["lifecycle_state"] = json!("TRASHED"));
    done()
}

fn visualizations(req: &Req) -> Reply {
    let store = req.ws.store();
    let id = req.param("id");
    find(&store, QUERY, id, "Query")?;
    let listing = Listing {
        kind: VISUALIZATION,
        parent: Some(id),
        size: &["page_size"],
        default: 20,
        max: 100,
        token: "page_token",
    };
    ok(paging::page(req, &store, &listing, |_| true)?.body("results"))
}

fn create_visualization(req: &Req) -> Reply {
    let mut item = wrapped(req, "visualization")?;
    let mut store = req.ws.store();
    let query = item.get("query_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    find(&store, QUERY, &query, "Query")?;
    let id = req.ws.fresh().uuid();
    item.insert("id".to_owned(), json!(id));
    item.insert("create_time".to_owned(), json!(rfc3339(req.now())));
    item.insert("update_time".to_owned(), json!(rfc3339(req.now())));
    let item = Value::Object(item);
    store.put_under(VISUALIZATION, &id, &query, &item);
    ok(item)
}

fn update_visualization(req: &Req) -> Reply {
    let id = req.param("id").to_owned();
    let given = wrapped(req, "visualization")?;
    let mask = req.need("update_mask")?;
    let mut store = req.ws.store();
    find(&store, VISUALIZATION, &id, "Visualization")?;
    let changed = store.edit(VISUALIZATION, &id, |item| masked(item, &given, &mask));
    ok(changed.unwrap_or_default())
}

fn delete_visualization(req: &Req) -> Reply {
    let id = req.param("id");
    let mut store = req.ws.store();
    find(&store, VISUALIZATION, id, "Visualization")?;
    store.remove(VISUALIZATION, id);
    done()
}

/// Section 3.5: an admin hands a query or an alert to somebody else.
fn transfer(req: &Req) -> Reply {
    req.admin()?;
    let kind = match req.param("kind") {
        "query" => QUERY,
        "alert" => super::alerts::ALERT,
        other => return Err(ApiError::invalid(format!("{other} has no owner to transfer."))),
    };
    let owner = req.need("new_owner")?;
    let mut store = req.ws.store();
    let changed = store.edit(kind, req.param("id"), |item| item["owner_user_name"] = json!(owner));
    changed.ok_or_else(|| ApiError::absent("No such object."))?;
    ok(json!({"message": "Success"}))
}
