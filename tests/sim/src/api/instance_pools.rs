//! Instance pools (reference section 3.2): the example of a small domain.
//!
//! <https://docs.databricks.com/api/workspace/instancepools>

use serde_json::{Map, Value, json};

use crate::errors::ApiError;
use crate::paging;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;

/// Name of the documents in the store.
pub(crate) const POOL: &str = "instance_pool";

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/instance-pools/list", "instance-pools", list);
    r.get("/api/2.0/instance-pools/get", "instance-pools", get);
    r.post("/api/2.0/instance-pools/create", "instance-pools", create);
    r.post("/api/2.0/instance-pools/edit", "instance-pools", edit);
    r.post("/api/2.0/instance-pools/delete", "instance-pools", delete);
}

fn list(req: &Req) -> Reply {
    // Section 3.2: P0, deleted pools are absent.
    ok(json!({"instance_pools": paging::visible(req, &req.ws.store(), POOL)}))
}

fn get(req: &Req) -> Reply {
    let id = req.need("instance_pool_id")?;
    let pool = req.ws.store().get(POOL, &id);
    ok(pool.ok_or_else(|| absent(&id))?)
}

fn create(req: &Req) -> Reply {
    let name = req.need("instance_pool_name")?;
    let mut store = req.ws.store();
    // Section 3.2: the name is unique.
    if store.find(POOL, |p| p["instance_pool_name"] == *name).is_some() {
        return Err(ApiError::new(
            400,
            "INVALID_PARAMETER_VALUE",
            format!("Instance pool name {name} is already in use."),
        ));
    }
    let mut pool = req.json()?;
    if pool.get("node_type_id").is_none() && pool.get("node_type_flexibility").is_none() {
        return Err(ApiError::invalid("Missing required field: node_type_id"));
    }
    let id = pool_id(&mut req.ws.fresh());
    finish(&mut pool, &id, &req.caller.name);
    store.put(POOL, &id, &Value::Object(pool));
    ok(json!({"instance_pool_id": id}))
}

fn edit(req: &Req) -> Reply {
    let id = req.need("instance_pool_id")?;
    let body = req.json()?;
    let mut store = req.ws.store();
    let old = store.get(POOL, &id).ok_or_else(|| absent(&id))?;
    // Section 3.2: edit takes few fields and cannot change the node type.
    if body.get("node_type_id").is_some_and(|n| *n != old["node_type_id"]) {
        return Err(ApiError::invalid("Node type of an instance pool cannot be changed."));
    }
    store.edit(POOL, &id, |pool| {
        for field in [
            "instance_pool_name",
            "min_idle_instances",
            "max_capacity",
            "idle_instance_autotermination_minutes",
            "custom_tags",
        ] {
            if let Some(value) = body.get(field) {
                pool[field] = value.clone();
            }
        }
    });
    done()
}

fn delete(req: &Req) -> Reply {
    let id = req.need("instance_pool_id")?;
    let removed = req.ws.store().remove(POOL, &id);
    removed.map_or_else(|| Err(absent(&id)), |_| done())
}

fn absent(id: &str) -> ApiError {
    ApiError::absent(format!("Can't find an instance pool with id: {id}"))
}

/// `0101-120000-hat12-pool-abcdefgh`, the form the vendor's examples show.
pub(crate) fn pool_id(rng: &mut crate::rng::Rng) -> String {
    format!("{:04}-{:06}-{}-pool-{}", 101 + rng.below(1100), rng.below(235_959), rng.hex(5), rng.hex(8))
}

/// Adds what the server assigns.
pub(crate) fn finish(pool: &mut Map<String, Value>, id: &str, creator: &str) {
    pool.insert("instance_pool_id".to_owned(), json!(id));
    pool.insert("state".to_owned(), json!("ACTIVE"));
    pool.insert(
        "default_tags".to_owned(),
        json!({"Vendor": "Databricks", "DatabricksInstancePoolCreatorId": "1", "DatabricksInstancePoolId": id, "Creator": creator}),
    );
    pool.insert(
        "stats".to_owned(),
        json!({"used_count": 0, "idle_count": 0, "pending_used_count": 0, "pending_idle_count": 0}),
    );
    pool.insert("status".to_owned(), json!({}));
}
