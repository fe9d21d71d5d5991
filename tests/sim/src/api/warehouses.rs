//! SQL warehouses, their workspace configuration and the data sources of legacy queries (section 3.5).
//!
//! <https://docs.databricks.com/api/workspace/warehouses>

use serde_json::{Map, Value, json};

use crate::api::permissions;
use crate::errors::ApiError;
use crate::paging::{self, Listing};
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::state::Workspace;

/// Name of the documents in the store.
pub(crate) const WAREHOUSE: &str = "warehouse";

/// The workspace-wide configuration, one document.
const CONFIG: &str = "warehouse_config";

/// When the state last changed: kept in the document, never shown.
const SINCE: &str = "_state_since_ms";

/// How long a warehouse is STARTING; real ones take minutes.
const START_MS: i64 = 300;

const SIZES: [&str; 9] =
    ["2X-Small", "X-Small", "Small", "Medium", "Large", "X-Large", "2X-Large", "3X-Large", "4X-Large"];

pub(crate) fn routes(r: &mut Routes) {
    // Section 3.5: /sql/endpoints is the legacy synonym.
    for base in ["/api/2.0/sql/warehouses", "/api/2.0/sql/endpoints"] {
        r.get(base, "sql.warehouses", list);
        r.post(base, "sql.warehouses", create);
        r.get(&format!("{base}/{{id}}"), "sql.warehouses", get);
        r.delete(&format!("{base}/{{id}}"), "sql.warehouses", delete);
        r.post(&format!("{base}/{{id}}/edit"), "sql.warehouses", edit);
        r.post(&format!("{base}/{{id}}/start"), "sql.warehouses", |req| turn(req, "STARTING"));
        r.post(&format!("{base}/{{id}}/stop"), "sql.warehouses", |req| turn(req, "STOPPED"));
    }
    r.get("/api/2.0/sql/config/warehouses", "sql.warehouses", config);
    r.put("/api/2.0/sql/config/warehouses", "sql.warehouses", set_config);
    r.get("/api/2.0/preview/sql/data_sources", "sql.warehouses", data_sources);
}

fn list(req: &Req) -> Reply {
    let page = paging::page(
        req,
        &req.ws.store(),
        &Listing {
            kind: WAREHOUSE,
            parent: None,
            size: &["page_size"],
            // Section 3.5: older servers do not page at all.
            default: 1000,
            max: 1000,
            token: "page_token",
        },
        |_| true,
    )?;
    let items = page.items.into_iter().map(|w| shown(w, req.now())).collect();
    ok(paging::Page { items, next: page.next }.body("warehouses"))
}

fn get(req: &Req) -> Reply {
    let id = req.param("id");
    let found = req.ws.store().get(WAREHOUSE, id);
    ok(shown(found.ok_or_else(|| absent(id))?, req.now()))
}

fn create(req: &Req) -> Reply {
    let mut warehouse = req.json()?;
    let name = warehouse.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(ApiError::invalid("Missing required field: name"));
    }
    check(&warehouse)?;
    let mut store = req.ws.store();
    if store.find(WAREHOUSE, |w| w["name"] == *name).is_some() {
        return Err(ApiError::invalid(format!("SQL warehouse with name `{name}` already exists")));
    }
    let id = req.ws.fresh().hex(16);
    finish(&mut warehouse, &id, &req.caller.name, &req.ws);
    // Section 3.5: create STARTS the warehouse.
    warehouse.insert("state".to_owned(), json!("STARTING"));
    warehouse.insert(SINCE.to_owned(), json!(req.now()));
    store.put(WAREHOUSE, &id, &Value::Object(warehouse));
    ok(json!({"id": id}))
}

fn edit(req: &Req) -> Reply {
    let id = req.param("id").to_owned();
    let given = req.json()?;
    check(&given)?;
    let mut store = req.ws.store();
    let old = store.get(WAREHOUSE, &id).ok_or_else(|| absent(&id))?;
    if let Some(name) = given.get("name").filter(|n| **n != old["name"])
        && store.find(WAREHOUSE, |w| w["name"] == *name).is_some()
    {
        return Err(ApiError::invalid(format!(
            "SQL warehouse with name `{}` already exists",
            name.as_str().unwrap_or_default()
        )));
    }
    store.edit(WAREHOUSE, &id, |warehouse| {
        for (field, value) in given {
            if field != "id" && field != "state" {
                warehouse[&field] = value;
            }
        }
    });
    done()
}

fn delete(req: &Req) -> Reply {
    let id = req.param("id");
    let mut store = req.ws.store();
    store.remove(WAREHOUSE, id).ok_or_else(|| absent(id))?;
    permissions::forget(&mut store, "sql/warehouses", id);
    done()
}

fn turn(req: &Req, state: &str) -> Reply {
    let (id, now) = (req.param("id"), req.now());
    turn_to(&req.ws, id, state, now).ok_or_else(|| absent(id))?;
    done()
}

/// Starts or stops; `None` if there is no such warehouse.
pub(crate) fn turn_to(ws: &Workspace, id: &str, state: &str, now: i64) -> Option<Value> {
    ws.store().edit(WAREHOUSE, id, |w| {
        if !(state == "STARTING" && w["state"] == "RUNNING") {
            w["state"] = json!(state);
            w[SINCE] = json!(now);
        }
    })
}

fn check(warehouse: &Map<String, Value>) -> Result<(), ApiError> {
    if let Some(size) = warehouse.get("cluster_size").and_then(Value::as_str)
        && !SIZES.contains(&size)
    {
        return Err(ApiError::invalid(format!("{size} is not a valid cluster size.")));
    }
    let number = |f: &str, default: i64| warehouse.get(f).and_then(Value::as_i64).unwrap_or(default);
    if number("min_num_clusters", 1) > number("max_num_clusters", number("min_num_clusters", 1)) {
        return Err(ApiError::invalid("min_num_clusters must not be larger than max_num_clusters."));
    }
    let stop = number("auto_stop_mins", 120);
    if stop != 0 && stop < 1 {
        return Err(ApiError::invalid("auto_stop_mins must be 0 or positive."));
    }
    let classic = warehouse.get("warehouse_type").and_then(Value::as_str) == Some("CLASSIC");
    if classic && warehouse.get("enable_serverless_compute") == Some(&json!(true)) {
        return Err(ApiError::invalid("Serverless compute is not supported for CLASSIC warehouses."));
    }
    Ok(())
}

/// Adds what the server assigns and what it fills in.
pub(crate) fn finish(warehouse: &mut Map<String, Value>, id: &str, creator: &str, ws: &Workspace) {
    for (field, value) in [
        ("cluster_size", json!("Small")),
        ("min_num_clusters", json!(1)),
        ("max_num_clusters", json!(1)),
        ("auto_stop_mins", json!(120)),
        ("enable_photon", json!(true)),
        ("enable_serverless_compute", json!(false)),
        ("spot_instance_policy", json!("COST_OPTIMIZED")),
        ("warehouse_type", json!("CLASSIC")),
        ("channel", json!({"name": "CHANNEL_NAME_CURRENT"})),
        ("tags", json!({})),
    ] {
        warehouse.entry(field).or_insert(value);
    }
    let host = format!("{}.cloud.databricks.com", ws.name);
    for (field, value) in [
        ("id", json!(id)),
        ("creator_name", json!(creator)),
        ("num_clusters", json!(0)),
        ("num_active_sessions", json!(0)),
        (
            "jdbc_url",
            json!(format!(
                "jdbc:spark://{host}:443/default;transportMode=http;ssl=1;AuthMech=3;httpPath=/sql/1.0/warehouses/{id};"
            )),
        ),
        (
            "odbc_params",
            json!({"hostname": host, "path": format!("/sql/1.0/warehouses/{id}"), "protocol": "https", "port": 443}),
        ),
        ("health", json!({"status": "HEALTHY"})),
    ] {
        warehouse.insert(field.to_owned(), value);
    }
}

fn shown(mut warehouse: Value, now: i64) -> Value {
    if let Some(w) = warehouse.as_object_mut() {
        let since = w.remove(SINCE).and_then(|s| s.as_i64()).unwrap_or(0);
        if w.get("state") == Some(&json!("STARTING")) && now - since >= START_MS {
            w.insert("state".to_owned(), json!("RUNNING"));
        }
        if w.get("state") == Some(&json!("RUNNING")) {
            w.insert("num_clusters".to_owned(), json!(1));
        }
    }
    warehouse
}

fn absent(id: &str) -> ApiError {
    ApiError::absent(format!("SQL warehouse {id} does not exist."))
}

fn config(req: &Req) -> Reply {
    let config = req.ws.store().get(CONFIG, "0");
    ok(config.unwrap_or_else(|| {
        json!({"security_policy": "DATA_ACCESS_CONTROL", "enabled_warehouse_types": [
            {"warehouse_type": "CLASSIC", "enabled": true}, {"warehouse_type": "PRO", "enabled": true}]})
    }))
}

fn set_config(req: &Req) -> Reply {
    req.admin()?;
    let config = Value::Object(req.json()?);
    let mut store = req.ws.store();
    store.put(CONFIG, "0", &config);
    // Section 3.5: PUT restarts all running warehouses.
    for id in store.ids(WAREHOUSE) {
        store.edit(WAREHOUSE, &id, |w| {
            if w["state"] == "RUNNING" {
                w["state"] = json!("STARTING");
            }
        });
    }
    done()
}

/// The id by which legacy queries name a warehouse.
pub(crate) fn data_source_id(warehouse: &str) -> String {
    crate::rng::Rng::of(0, warehouse, 0).uuid()
}

/// Section 3.5: a bare array.
fn data_sources(req: &Req) -> Reply {
    let sources: Vec<Value> = paging::visible(req, &req.ws.store(), WAREHOUSE)
        .iter()
        .map(|w| {
            let id = w["id"].as_str().unwrap_or_default();
            json!({
                "id": data_source_id(id), "name": w["name"], "warehouse_id": id, "type": "databricks_internal",
                "syntax": "sql", "paused": 0, "pause_reason": null, "supports_auto_limit": true, "view_only": false,
            })
        })
        .collect();
    ok(Value::Array(sources))
}
