//! Pipelines (reference section 3.4).
//!
//! <https://docs.databricks.com/api/workspace/pipelines>

use serde_json::{Map, Value, json};

use crate::api::permissions;
use crate::errors::ApiError;
use crate::paging::{self, Listing};
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::state::Store;

/// Name of the documents in the store.
pub(crate) const PIPELINE: &str = "pipeline";

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/pipelines", "pipelines", list);
    r.post("/api/2.0/pipelines", "pipelines", create);
    r.get("/api/2.0/pipelines/{id}", "pipelines", get);
    r.put("/api/2.0/pipelines/{id}", "pipelines", replace);
    r.delete("/api/2.0/pipelines/{id}", "pipelines", delete);
    r.post("/api/2.0/pipelines/{id}/stop", "pipelines", stop);
    r.get("/api/2.0/pipelines/{id}/updates", "pipelines", |_| done());
    r.get("/api/2.0/pipelines/{id}/events", "pipelines", |_| done());
}

fn absent(id: &str) -> ApiError {
    ApiError::absent(format!("The specified pipeline {id} was not found."))
}

/// Lists show a status, not the specification.
fn list(req: &Req) -> Reply {
    let wanted = match req.query("filter").filter(|f| !f.is_empty()) {
        None => None,
        Some(filter) => {
            let pattern = filter.strip_prefix("name LIKE '").and_then(|f| f.strip_suffix('\''));
            Some(
                pattern
                    .ok_or_else(|| ApiError::invalid(format!("Unsupported filter: {filter}")))?
                    .trim_matches('%')
                    .to_owned(),
            )
        }
    };
    let listing = Listing {
        kind: PIPELINE,
        parent: None,
        size: &["max_results"],
        default: 25,
        max: 100,
        token: "page_token",
    };
    let store = req.ws.store();
    let mut page = paging::page(req, &store, &listing, |p| {
        wanted.as_ref().is_none_or(|w| p["name"].as_str().is_some_and(|n| n.contains(w)))
    })?;
    for item in &mut page.items {
        let mut status = Map::new();
        for field in [
            "pipeline_id",
            "state",
            "cluster_id",
            "name",
            "latest_updates",
            "creator_user_name",
            "run_as_user_name",
            "health",
        ] {
            if let Some(value) = item.get(field) {
                status.insert(field.to_owned(), value.clone());
            }
        }
        *item = Value::Object(status);
    }
    ok(page.body("statuses"))
}

fn get(req: &Req) -> Reply {
    let pipeline = req.ws.store().get(PIPELINE, req.param("id"));
    ok(pipeline.ok_or_else(|| absent(req.param("id")))?)
}

fn create(req: &Req) -> Reply {
    let mut spec = req.json()?;
    let free = take(&mut spec, "allow_duplicate_names") == Some(json!(true));
    let dry = take(&mut spec, "dry_run") == Some(json!(true));
    let mut store = req.ws.store();
    named(&store, &spec, free, None)?;
    if dry {
        return ok(json!({"effective_settings": spec}));
    }
    let id = req.ws.fresh().uuid();
    let pipeline = build(spec, &id, &req.caller.name, req.now());
    store.put(PIPELINE, &id, &pipeline);
    ok(json!({"pipeline_id": id}))
}

fn replace(req: &Req) -> Reply {
    let id = req.param("id");
    let mut spec = req.json()?;
    let free = take(&mut spec, "allow_duplicate_names") == Some(json!(true));
    for field in ["pipeline_id", "expected_last_modified"] {
        take(&mut spec, field);
    }
    let mut store = req.ws.store();
    let old = store.get(PIPELINE, id).ok_or_else(|| absent(id))?;
    // Section 3.4: a pipeline cannot move between catalogs' and old-style targets.
    if spec.contains_key("catalog") != old["spec"].get("catalog").is_some() {
        return Err(ApiError::invalid("Changing the catalog type of a pipeline is not supported."));
    }
    named(&store, &spec, free, Some(id))?;
    let new = build(spec, id, old["creator_user_name"].as_str().unwrap_or_default(), req.now());
    store.put(PIPELINE, id, &new);
    done()
}

fn delete(req: &Req) -> Reply {
    let id = req.param("id");
    let mut store = req.ws.store();
    store.remove(PIPELINE, id).ok_or_else(|| absent(id))?;
    permissions::forget(&mut store, "pipelines", id);
    done()
}

fn stop(req: &Req) -> Reply {
    let id = req.param("id");
    let changed = req.ws.store().edit(PIPELINE, id, |p| p["state"] = json!("IDLE"));
    changed.map_or_else(|| Err(absent(id)), |_| done())
}

fn take(spec: &mut Map<String, Value>, field: &str) -> Option<Value> {
    spec.shift_remove(field)
}

fn named(store: &Store, spec: &Map<String, Value>, free: bool, but: Option<&str>) -> Result<(), ApiError> {
    let name = spec.get("name").and_then(Value::as_str).filter(|n| !n.is_empty());
    let Some(name) = name else { return Err(ApiError::invalid("Missing required field: name")) };
    let taken = |p: &Value| p["name"] == name && but.is_none_or(|id| p["pipeline_id"] != id);
    if !free && store.find(PIPELINE, taken).is_some() {
        return Err(ApiError::new(
            409,
            "RESOURCE_CONFLICT",
            format!("The pipeline name '{name}' is already used by another pipeline."),
        ));
    }
    Ok(())
}

/// A pipeline document. `continuous` starts at once (section 3.4).
pub(crate) fn build(mut spec: Map<String, Value>, id: &str, creator: &str, now_ms: i64) -> Value {
    let run_as = spec.shift_remove("run_as");
    let parameters = spec.shift_remove("parameters");
    spec.insert("id".to_owned(), json!(id));
    if !spec.contains_key("catalog") {
        spec.entry("storage").or_insert_with(|| json!(format!("dbfs:/pipelines/{id}")));
    }
    for field in ["continuous", "development", "photon"] {
        spec.entry(field).or_insert(json!(false));
    }
    spec.entry("channel").or_insert(json!("CURRENT"));
    spec.entry("edition").or_insert(json!("ADVANCED"));
    let state = if spec.get("continuous") == Some(&json!(true)) { "RUNNING" } else { "IDLE" };
    let runner = run_as
        .as_ref()
        .and_then(|r| r["user_name"].as_str().or(r["service_principal_name"].as_str()))
        .unwrap_or(creator)
        .to_owned();
    let mut pipeline = json!({
        "pipeline_id": id, "name": spec.get("name"), "state": state, "health": "HEALTHY", "creator_user_name": creator,
        "run_as_user_name": runner, "last_modified": now_ms, "spec": spec,
    });
    for (field, value) in [("run_as", run_as), ("parameters", parameters)] {
        if let Some(value) = value {
            pipeline[field] = value;
        }
    }
    pipeline
}
