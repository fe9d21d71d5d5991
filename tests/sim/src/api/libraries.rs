//! Libraries of clusters (reference section 3.2).
//!
//! <https://docs.databricks.com/api/workspace/libraries>

use serde_json::{Value, json};

use crate::api::clusters::CLUSTER;
use crate::errors::ApiError;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;

/// The list of libraries by cluster id.
pub(crate) const LIBRARIES: &str = "cluster libraries";

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/libraries/all-cluster-statuses", "libraries", all);
    r.get("/api/2.0/libraries/cluster-status", "libraries", one);
    r.post("/api/2.0/libraries/install", "libraries", |req| change(req, true));
    r.post("/api/2.0/libraries/uninstall", "libraries", |req| change(req, false));
}

fn statuses(libraries: &Value, running: bool) -> Vec<Value> {
    let status = if running { "INSTALLED" } else { "PENDING" };
    let each = |l: &Value| json!({"library": l, "status": status, "is_library_for_all_clusters": false});
    libraries.as_array().into_iter().flatten().map(each).collect()
}

/// Only clusters that run report (section 3.2); the others are asked one by one.
fn all(req: &Req) -> Reply {
    let store = req.ws.store();
    let found: Vec<Value> = store
        .scan(LIBRARIES, None, 0)
        .filter(|d| store.get(CLUSTER, &d.id).is_some_and(|c| c["state"] == "RUNNING"))
        .map(|d| json!({"cluster_id": d.id, "library_statuses": statuses(&d.value, true)}))
        .collect();
    if found.is_empty() { done() } else { ok(json!({"statuses": found})) }
}

fn one(req: &Req) -> Reply {
    let id = req.need("cluster_id")?;
    let store = req.ws.store();
    let cluster =
        store.get(CLUSTER, &id).ok_or_else(|| ApiError::invalid(format!("Cluster {id} does not exist")))?;
    let found = statuses(&store.get(LIBRARIES, &id).unwrap_or_default(), cluster["state"] == "RUNNING");
    let mut body = json!({"cluster_id": id});
    if !found.is_empty() {
        body["library_statuses"] = json!(found);
    }
    ok(body)
}

/// An install on a terminated cluster is remembered (section 3.2).
fn change(req: &Req, install: bool) -> Reply {
    let id = req.need("cluster_id")?;
    let given = req.json()?.get("libraries").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut store = req.ws.store();
    if !store.contains(CLUSTER, &id) {
        return Err(ApiError::invalid(format!("Cluster {id} does not exist")));
    }
    let mut libraries = store.get(LIBRARIES, &id).and_then(|l| l.as_array().cloned()).unwrap_or_default();
    libraries.retain(|l| !given.contains(l));
    if install {
        libraries.extend(given);
    }
    store.put(LIBRARIES, &id, &Value::Array(libraries));
    done()
}
