//! Alerts of both generations: `sql/alerts`, which watch a saved query, and alerts v2, which carry
//! their query and schedule themselves (section 3.5).
//!
//! <https://docs.databricks.com/api/workspace/alerts>
//! <https://docs.databricks.com/api/workspace/alertsv2>

use serde_json::{Map, Value, json};

use super::permissions;
use super::queries::{QUERY, find, known_warehouse, list_active, masked, settle_name, trash_one, wrapped};
use crate::clock::rfc3339;
use crate::errors::ApiError;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;

/// Alerts on saved queries.
pub(crate) const ALERT: &str = "alert";

/// Alerts with a query of their own.
pub(crate) const ALERT_V2: &str = "alert_v2";

pub(crate) fn routes(r: &mut Routes) {
    // Section 3.5: the list lacks parent_path.
    r.get("/api/2.0/sql/alerts", "sql.alerts", |req| {
        ok(list_active(req, ALERT, &["parent_path"])?.body("results"))
    });
    r.post("/api/2.0/sql/alerts", "sql.alerts", create);
    r.get("/api/2.0/sql/alerts/{id}", "sql.alerts", |req| {
        ok(find(&req.ws.store(), ALERT, req.param("id"), "Alert")?)
    });
    r.patch("/api/2.0/sql/alerts/{id}", "sql.alerts", update);
    r.delete("/api/2.0/sql/alerts/{id}", "sql.alerts", |req| trash_one(req, ALERT, "Alert"));
    r.get("/api/2.0/alerts", "alerts-v2", |req| ok(list_active(req, ALERT_V2, &[])?.body("alerts")));
    r.post("/api/2.0/alerts", "alerts-v2", create_v2);
    r.get("/api/2.0/alerts/{id}", "alerts-v2", |req| {
        ok(find(&req.ws.store(), ALERT_V2, req.param("id"), "Alert")?)
    });
    r.patch("/api/2.0/alerts/{id}", "alerts-v2", update_v2);
    r.delete("/api/2.0/alerts/{id}", "alerts-v2", trash_v2);
}

fn create(req: &Req) -> Reply {
    let mut alert = wrapped(req, "alert")?;
    let mut store = req.ws.store();
    let query = alert.get("query_id").and_then(Value::as_str).unwrap_or_default();
    find(&store, QUERY, query, "Query")?;
    alert.entry("display_name").or_insert_with(|| json!("New Alert"));
    alert.entry("parent_path").or_insert_with(|| json!(format!("/Workspace/Users/{}", req.caller.name)));
    settle_name(req, &store, ALERT, &mut alert)?;
    let id = req.ws.fresh().uuid();
    finish(&mut alert, &id, &req.caller.name, req.now());
    alert.entry("state").or_insert_with(|| json!("UNKNOWN"));
    let alert = Value::Object(alert);
    store.put(ALERT, &id, &alert);
    ok(alert)
}

/// Adds what the server assigns to an alert of either generation.
pub(crate) fn finish(alert: &mut Map<String, Value>, id: &str, by: &str, now: i64) {
    for (field, value) in [
        ("id", json!(id)),
        ("owner_user_name", json!(by)),
        ("lifecycle_state", json!("ACTIVE")),
        ("create_time", json!(rfc3339(now))),
        ("update_time", json!(rfc3339(now))),
    ] {
        alert.insert(field.to_owned(), value);
    }
}

fn update(req: &Req) -> Reply {
    let id = req.param("id").to_owned();
    let given = wrapped(req, "alert")?;
    let mask = req.need("update_mask")?;
    let mut store = req.ws.store();
    find(&store, ALERT, &id, "Alert")?;
    if let Some(query) = given.get("query_id").and_then(Value::as_str) {
        find(&store, QUERY, query, "Query")?;
    }
    let now = req.now();
    let changed = store.edit(ALERT, &id, |alert| {
        masked(alert, &given, &mask);
        alert["update_time"] = json!(rfc3339(now));
    });
    ok(changed.unwrap_or_default())
}

fn create_v2(req: &Req) -> Reply {
    let mut alert = req.json()?;
    for field in ["display_name", "query_text", "warehouse_id", "evaluation", "schedule"] {
        if alert.get(field).is_none() {
            return Err(ApiError::invalid(format!("Missing required field: {field}")));
        }
    }
    let mut store = req.ws.store();
    known_warehouse(&store, &alert)?;
    alert.entry("parent_path").or_insert_with(|| json!(format!("/Workspace/Users/{}", req.caller.name)));
    settle_name(req, &store, ALERT_V2, &mut alert)?;
    let id = req.ws.fresh_number().to_string();
    finish(&mut alert, &id, &req.caller.name, req.now());
    finish_v2(&mut alert, &req.caller.name);
    let alert = Value::Object(alert);
    store.put(ALERT_V2, &id, &alert);
    ok(alert)
}

/// Adds whose rights an alert runs with.
pub(crate) fn finish_v2(alert: &mut Map<String, Value>, by: &str) {
    let run_as = alert.get("run_as").cloned().unwrap_or_else(|| json!({"user_name": by}));
    let name = run_as["user_name"].as_str().or_else(|| run_as["service_principal_name"].as_str());
    let name = name.unwrap_or(by).to_owned();
    alert.insert("effective_run_as".to_owned(), run_as);
    alert.insert("run_as_user_name".to_owned(), json!(name));
}

fn update_v2(req: &Req) -> Reply {
    let id = req.param("id").to_owned();
    let given = req.json()?;
    let mask = req.query("update_mask").unwrap_or("*").to_owned();
    let mut store = req.ws.store();
    known_warehouse(&store, &given)?;
    let mut alert = find(&store, ALERT_V2, &id, "Alert")?;
    masked(&mut alert, &given, &mask);
    alert["id"] = json!(id);
    alert["update_time"] = json!(rfc3339(req.now()));
    store.put(ALERT_V2, &id, &alert);
    ok(alert)
}

fn trash_v2(req: &Req) -> Reply {
    let id = req.param("id");
    let mut store = req.ws.store();
    find(&store, ALERT_V2, id, "Alert")?;
    if req.flag("purge") {
        store.remove(ALERT_V2, id);
        permissions::forget(&mut store, "alertsv2", id);
    } else {
        store.edit(ALERT_V2, id, |alert| alert["lifecycle_state"] = json!("DELETED"));
    }
    done()
}
