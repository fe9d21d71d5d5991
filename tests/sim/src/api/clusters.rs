//! Clusters, 2.0 and 2.1 (reference section 3.2).
//!
//! <https://docs.databricks.com/api/workspace/clusters>

use serde_json::{Map, Value, json};

use crate::api::cluster_policies::POLICY;
use crate::api::instance_pools::POOL;
use crate::api::libraries::LIBRARIES;
use crate::api::permissions;
use crate::api::scim;
use crate::errors::ApiError;
use crate::paging::{self, Listing};
use crate::population::node_type;
use crate::reply::{Reply, Req, done, ok};
use crate::rng::Rng;
use crate::router::Routes;
use crate::state::Store;

/// Name of the documents in the store; `spec` is kept inside and shown by `get` only.
pub(crate) const CLUSTER: &str = "cluster";

/// The vendor's cap on pinned clusters (section 3.2).
const MAX_PINNED: usize = 100;

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/clusters/list", "clusters", list_all);
    r.get("/api/2.1/clusters/list", "clusters", list);
    for v in ["2.0", "2.1"] {
        let path = |name: &str| format!("/api/{v}/clusters/{name}");
        r.get(&path("get"), "clusters", get);
        r.post(&path("create"), "clusters", create);
        r.post(&path("edit"), "clusters", edit);
        r.post(&path("update"), "clusters", update);
        r.post(&path("delete"), "clusters", |req| state(req, "TERMINATED"));
        r.post(&path("start"), "clusters", |req| state(req, "RUNNING"));
        r.post(&path("restart"), "clusters", |req| state(req, "RUNNING"));
        r.post(&path("resize"), "clusters", resize);
        r.post(&path("permanent-delete"), "clusters", permanent_delete);
        r.post(&path("pin"), "clusters", |req| pin(req, true));
        r.post(&path("unpin"), "clusters", |req| pin(req, false));
        r.post(&path("change-owner"), "clusters", change_owner);
        r.post(&path("events"), "clusters", |_| ok(json!({"events": [], "total_count": 0})));
        r.get(&path("spark-versions"), "clusters", spark_versions);
        r.get(&path("list-node-types"), "clusters", node_types);
        r.get(&path("list-zones"), "clusters", |_| {
            ok(json!({"zones": ["us-west-2a", "us-west-2b"], "default_zone": "us-west-2a"}))
        });
    }
}

/// Section 2.2: 400 instead of 404.
fn absent(id: &str) -> ApiError {
    ApiError::invalid(format!("Cluster {id} does not exist"))
}

/// Lists leave out the specification; `get` adds it (section 3.2).
fn shown(mut cluster: Value) -> Value {
    if let Some(map) = cluster.as_object_mut() {
        map.shift_remove("spec");
    }
    cluster
}

/// 2.0 has no pages.
fn list_all(req: &Req) -> Reply {
    let clusters: Vec<Value> =
        paging::visible(req, &req.ws.store(), CLUSTER).into_iter().map(shown).collect();
    if clusters.is_empty() { done() } else { ok(json!({"clusters": clusters})) }
}

/// Without `filter_by` there are also the clusters that jobs made (section 3.2).
fn list(req: &Req) -> Reply {
    let any = |name: &str| -> Vec<String> { req.query_all(name).map(str::to_owned).collect() };
    let (sources, states) = (any("filter_by.cluster_sources"), any("filter_by.cluster_states"));
    let (pinned, policy) = (req.query("filter_by.is_pinned"), req.query("filter_by.policy_id"));
    let is = |wanted: &[String], value: &Value| wanted.is_empty() || wanted.iter().any(|w| value == w);
    let listing = Listing {
        kind: CLUSTER,
        parent: None,
        size: &["page_size"],
        default: 20,
        max: 100,
        token: "page_token",
    };
    let store = req.ws.store();
    let mut page = paging::page(req, &store, &listing, |c| {
        is(&sources, &c["cluster_source"])
            && is(&states, &c["state"])
            && pinned.is_none_or(|p| (p == "true") != c["pinned_by_user_name"].is_null())
            && policy.is_none_or(|p| c["policy_id"] == p)
    })?;
    page.items = page.items.into_iter().map(shown).collect();
    ok(page.body("clusters"))
}

fn get(req: &Req) -> Reply {
    let id = req.need("cluster_id")?;
    let cluster = req.ws.store().get(CLUSTER, &id);
    ok(cluster.ok_or_else(|| absent(&id))?)
}

/// Creating starts the cluster (section 3.2).
fn create(req: &Req) -> Reply {
    let spec = req.json()?;
    let mut store = req.ws.store();
    check(&store, &spec)?;
    let id = cluster_id(&mut req.ws.fresh());
    let name = spec
        .get("cluster_name")
        .and_then(Value::as_str)
        .filter(|n| !n.is_empty())
        .map_or_else(|| "".to_owned(), str::to_owned);
    let mut cluster = build(&spec, &id, &req.caller.name, "API", "RUNNING", req.now());
    cluster["cluster_name"] = json!(name);
    store.put(CLUSTER, &id, &cluster);
    ok(json!({"cluster_id": id}))
}

/// What is wrong with a specification.
pub(crate) fn check(store: &Store, spec: &Map<String, Value>) -> Result<(), ApiError> {
    let text = |f: &str| spec.get(f).and_then(Value::as_str).filter(|t| !t.is_empty());
    if text("spark_version").is_none() {
        return Err(ApiError::invalid("Missing required field: spark_version"));
    }
    match text("instance_pool_id") {
        Some(pool) if !store.contains(POOL, pool) => {
            return Err(ApiError::invalid(format!("Can't find an instance pool with id: {pool}")));
        }
        Some(_) if text("node_type_id").is_some() => {
            // Section 3.2: the pool decides the node type.
            return Err(ApiError::invalid(
                "The field 'node_type_id' cannot be supplied when an instance pool ID is provided.",
            ));
        }
        Some(_) => {}
        None if text("node_type_id").is_none()
            && spec.get("is_single_node").is_none()
            && spec.get("node_type_flexibility").is_none() =>
        {
            return Err(ApiError::invalid("Missing required field: node_type_id"));
        }
        None => {}
    }
    match text("policy_id") {
        Some(policy) if !store.contains(POLICY, policy) => {
            Err(ApiError::invalid(format!("Can't find a cluster policy with id: {policy}.")))
        }
        _ => Ok(()),
    }
}

/// A cluster document: the specification, and what the server adds to it.
pub(crate) fn build(
    spec: &Map<String, Value>,
    id: &str,
    creator: &str,
    source: &str,
    state: &str,
    now_ms: i64,
) -> Value {
    let mut spec = spec.clone();
    spec.shift_remove("cluster_id");
    let mut cluster = spec.clone();
    let name = spec.get("cluster_name").cloned().unwrap_or_else(|| json!(""));
    for (field, value) in [
        ("cluster_id", json!(id)),
        ("creator_user_name", json!(creator)),
        ("cluster_source", json!(source)),
        ("state", json!(state)),
        ("state_message", json!("")),
        ("start_time", json!(now_ms)),
        ("last_state_loss_time", json!(0)),
        (
            "default_tags",
            json!({"Vendor": "Databricks", "Creator": creator, "ClusterName": name, "ClusterId": id}),
        ),
        ("enable_local_disk_encryption", json!(false)),
        ("spark_context_id", json!(Rng::of(1, id, 0).below(1 << 50))),
    ] {
        cluster.insert(field.to_owned(), value);
    }
    cluster
        .entry("driver_node_type_id")
        .or_insert_with(|| spec.get("node_type_id").cloned().unwrap_or(Value::Null));
    cluster.entry("autotermination_minutes").or_insert(json!(0));
    cluster.entry("enable_elastic_disk").or_insert(json!(true));
    cluster.entry("disk_spec").or_insert_with(|| json!({}));
    if state == "RUNNING" {
        cluster.insert("cluster_cores".to_owned(), json!(8.0));
        cluster.insert("cluster_memory_mb".to_owned(), json!(32768));
        cluster.insert("jdbc_port".to_owned(), json!(10000));
    } else {
        cluster.insert("terminated_time".to_owned(), json!(now_ms));
        cluster.insert(
            "termination_reason".to_owned(),
            json!({"code": "INACTIVITY", "type": "SUCCESS", "parameters": {"inactivity_duration_min": "60"}}),
        );
    }
    cluster.retain(|_, v| !v.is_null());
    cluster.insert("spec".to_owned(), Value::Object(spec));
    Value::Object(cluster)
}

/// `0101-120000-abcdefgh`.
pub(crate) fn cluster_id(rng: &mut Rng) -> String {
    format!("{:04}-{:06}-{}", 101 + rng.below(1100), rng.below(235_959), rng.hex(8))
}

/// Replaces the specification; a running cluster restarts.
fn edit(req: &Req) -> Reply {
    let id = req.need("cluster_id")?;
    let spec = req.json()?;
    replace_spec(req, &id, &spec)
}

/// Changes the fields of `update_mask`, all given ones if it is `*`.
fn update(req: &Req) -> Reply {
    let id = req.need("cluster_id")?;
    let body = req.json()?;
    let changes = body.get("cluster").and_then(Value::as_object).cloned().unwrap_or_default();
    let old = req.ws.store().get(CLUSTER, &id).ok_or_else(|| absent(&id))?;
    let mut spec = old["spec"].as_object().cloned().unwrap_or_default();
    let mask = body.get("update_mask").and_then(Value::as_str).unwrap_or("*");
    for field in mask.split(',') {
        match (field, changes.get(field)) {
            ("*", _) => spec.extend(changes.clone()),
            (field, Some(value)) => drop(spec.insert(field.to_owned(), value.clone())),
            (field, None) => drop(spec.shift_remove(field)),
        }
    }
    replace_spec(req, &id, &spec)
}

fn replace_spec(req: &Req, id: &str, spec: &Map<String, Value>) -> Reply {
    let mut store = req.ws.store();
    let old = store.get(CLUSTER, id).ok_or_else(|| absent(id))?;
    if !matches!(old["cluster_source"].as_str(), Some("UI" | "API")) {
        return Err(ApiError::state(format!("Cluster {id} was not created by a user and cannot be edited")));
    }
    check(&store, spec)?;
    let text = |f: &str| old[f].as_str().unwrap_or_default().to_owned();
    let mut new =
        build(spec, id, &text("creator_user_name"), &text("cluster_source"), &text("state"), req.now());
    if let Some(by) = old.get("pinned_by_user_name") {
        new["pinned_by_user_name"] = by.clone();
    }
    store.put(CLUSTER, id, &new);
    done()
}

fn state(req: &Req, state: &str) -> Reply {
    let id = req.need("cluster_id")?;
    let now = req.now();
    let mut store = req.ws.store();
    let old = store.get(CLUSTER, &id).ok_or_else(|| absent(&id))?;
    if state == "RUNNING" && old["state"] == "RUNNING" && req.path.ends_with("/start") {
        return Err(ApiError::state(format!("Cluster {id} is in unexpected state Running.")));
    }
    let spec = old["spec"].as_object().cloned().unwrap_or_default();
    let text = |f: &str| old[f].as_str().unwrap_or_default().to_owned();
    let mut new = build(&spec, &id, &text("creator_user_name"), &text("cluster_source"), state, now);
    if let Some(by) = old.get("pinned_by_user_name") {
        new["pinned_by_user_name"] = by.clone();
    }
    if state == "TERMINATED" {
        new["termination_reason"] =
            json!({"code": "USER_REQUEST", "type": "SUCCESS", "parameters": {"username": req.caller.name}});
    }
    store.put(CLUSTER, &id, &new);
    done()
}

fn resize(req: &Req) -> Reply {
    let id = req.need("cluster_id")?;
    let body = req.json()?;
    let changed = req.ws.store().edit(CLUSTER, &id, |c| {
        for field in ["num_workers", "autoscale"] {
            if let Some(value) = body.get(field) {
                c[field] = value.clone();
                c["spec"][field] = value.clone();
            }
        }
    });
    changed.map_or_else(|| Err(absent(&id)), |_| done())
}

fn permanent_delete(req: &Req) -> Reply {
    let id = req.need("cluster_id")?;
    let mut store = req.ws.store();
    let old = store.get(CLUSTER, &id).ok_or_else(|| absent(&id))?;
    if !old["pinned_by_user_name"].is_null() {
        return Err(ApiError::invalid(format!("Cluster {id} is pinned; unpin it first")));
    }
    store.remove(CLUSTER, &id);
    store.remove(LIBRARIES, &id);
    permissions::forget(&mut store, "clusters", &id);
    done()
}

/// `pinned_by_user_name` is returned although no SDK type has it.
fn pin(req: &Req, pin: bool) -> Reply {
    req.admin()?;
    let id = req.need("cluster_id")?;
    let mut store = req.ws.store();
    if pin
        && store.scan(CLUSTER, None, 0).filter(|d| !d.value["pinned_by_user_name"].is_null()).count()
            >= MAX_PINNED
    {
        return Err(ApiError::new(
            400,
            "RESOURCE_LIMIT_EXCEEDED",
            format!("At most {MAX_PINNED} clusters can be pinned."),
        ));
    }
    let by = json!(req.caller.name);
    let changed = store.edit(CLUSTER, &id, |c| {
        if pin {
            c["pinned_by_user_name"] = by;
        } else if let Some(map) = c.as_object_mut() {
            map.shift_remove("pinned_by_user_name");
        }
    });
    changed.map_or_else(|| Err(absent(&id)), |_| done())
}

/// Admins only, and only while the cluster is terminated (section 3.2).
fn change_owner(req: &Req) -> Reply {
    req.admin()?;
    let (id, owner) = (req.need("cluster_id")?, req.need("owner_username")?);
    let mut store = req.ws.store();
    let old = store.get(CLUSTER, &id).ok_or_else(|| absent(&id))?;
    if old["state"] != "TERMINATED" {
        return Err(ApiError::state(format!("Cluster {id} must be terminated to change its owner")));
    }
    if scim::principal(&store, &owner).is_none() {
        return Err(ApiError::invalid(format!("User {owner} does not exist")));
    }
    store.edit(CLUSTER, &id, |c| c["creator_user_name"] = json!(owner));
    done()
}

fn spark_versions(_: &Req) -> Reply {
    let all = [
        ("16.4.x-scala2.12", "16.4 LTS"),
        ("15.4.x-scala2.12", "15.4 LTS"),
        ("17.1.x-scala2.13", "17.1"),
        ("16.4.x-cpu-ml-scala2.12", "16.4 LTS ML"),
    ];
    ok(
        json!({"versions": all.map(|(key, name)| json!({"key": key, "name": format!("{name} (includes Apache Spark 3.5.2)")}))}),
    )
}

fn node_types(req: &Req) -> Reply {
    let types: Vec<Value> = (0..3)
        .map(|n| {
            let id = node_type(req.ws.cloud, n);
            json!({"node_type_id": id, "instance_type_id": id, "memory_mb": 16384 << n, "num_cores": 4.0, "description": id,
                "category": "General Purpose", "is_deprecated": false, "is_io_cache_enabled": true, "num_gpus": 0, "photon_driver_capable": true,
                "photon_worker_capable": true, "support_cluster_tags": true, "support_ebs_volumes": true, "support_port_forwarding": true})
        })
        .collect();
    ok(json!({"node_types": types}))
}
