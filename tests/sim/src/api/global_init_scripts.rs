//! Global init scripts (reference section 3.2).
//!
//! <https://docs.databricks.com/api/workspace/globalinitscripts>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::errors::ApiError;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::state::Store;

/// Name of the documents in the store.
pub(crate) const SCRIPT: &str = "global_init_script";

/// Largest script (section 3.2).
const MAX_SCRIPT: usize = 64 << 10;

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/global-init-scripts", "global-init-scripts", list);
    r.post("/api/2.0/global-init-scripts", "global-init-scripts", create);
    r.get("/api/2.0/global-init-scripts/{id}", "global-init-scripts", get);
    r.patch("/api/2.0/global-init-scripts/{id}", "global-init-scripts", edit);
    r.delete("/api/2.0/global-init-scripts/{id}", "global-init-scripts", delete);
}

fn absent(id: &str) -> ApiError {
    ApiError::absent(format!("The global init script with ID {id} does not exist."))
}

/// By position, without bodies.
fn list(req: &Req) -> Reply {
    req.admin()?;
    let mut scripts = req.ws.store().all(SCRIPT);
    scripts.sort_by_key(|s| s["position"].as_i64());
    for script in &mut scripts {
        if let Some(map) = script.as_object_mut() {
            map.shift_remove("script");
        }
    }
    if scripts.is_empty() { done() } else { ok(json!({"scripts": scripts})) }
}

fn get(req: &Req) -> Reply {
    req.admin()?;
    let script = req.ws.store().get(SCRIPT, req.param("id"));
    ok(script.ok_or_else(|| absent(req.param("id")))?)
}

fn create(req: &Req) -> Reply {
    req.admin()?;
    let (name, script) = (req.need("name")?, req.need("script")?);
    check(&script)?;
    let body = req.json()?;
    let mut store = req.ws.store();
    let id = req.ws.fresh().hex(16).to_uppercase();
    let position = place(&mut store, &id, body.get("position").and_then(Value::as_u64));
    let item = json!({
        "script_id": id, "name": name, "script": script, "position": position, "enabled": body.get("enabled").cloned().unwrap_or(json!(false)),
        "created_by": req.caller.name, "created_at": req.now(), "updated_by": req.caller.name, "updated_at": req.now(),
    });
    store.put(SCRIPT, &id, &item);
    ok(json!({"script_id": id}))
}

fn edit(req: &Req) -> Reply {
    req.admin()?;
    let id = req.param("id");
    let body: Map<String, Value> = req.json()?;
    if let Some(script) = body.get("script").and_then(Value::as_str) {
        check(script)?;
    }
    let mut store = req.ws.store();
    if !store.contains(SCRIPT, id) {
        return Err(absent(id));
    }
    let position = body.get("position").and_then(Value::as_u64).map(|p| place(&mut store, id, Some(p)));
    store.edit(SCRIPT, id, |item| {
        for field in ["name", "script", "enabled"] {
            if let Some(value) = body.get(field) {
                item[field] = value.clone();
            }
        }
        if let Some(position) = position {
            item["position"] = json!(position);
        }
        item["updated_at"] = json!(req.now());
        item["updated_by"] = json!(req.caller.name);
    });
    done()
}

fn delete(req: &Req) -> Reply {
    req.admin()?;
    let removed = req.ws.store().remove(SCRIPT, req.param("id"));
    removed.map_or_else(|| Err(absent(req.param("id"))), |_| done())
}

/// Makes room at a position: a conflicting one shifts the others (section 3.2).
fn place(store: &mut Store, id: &str, wanted: Option<u64>) -> u64 {
    let mut others: Vec<(u64, String)> = store
        .scan(SCRIPT, None, 0)
        .filter(|d| d.id != id)
        .map(|d| (d.value["position"].as_u64().unwrap_or(0), d.id))
        .collect();
    others.sort();
    let position = wanted.unwrap_or(u64::MAX).min(others.len() as u64);
    for (n, (_, other)) in (0..).zip(&others) {
        let shifted = if n >= position { n + 1 } else { n };
        store.edit(SCRIPT, other, |s| s["position"] = json!(shifted));
    }
    position
}

fn check(script: &str) -> Result<(), ApiError> {
    let bytes =
        STANDARD.decode(script).map_err(|_| ApiError::invalid("The script must be base64 encoded."))?;
    if bytes.len() > MAX_SCRIPT {
        return Err(ApiError::invalid("The script must not be larger than 64KB."));
    }
    Ok(())
}
