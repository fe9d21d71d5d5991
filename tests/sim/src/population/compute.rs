//! Compute: pools, policies, clusters with their libraries, init scripts, instance profiles.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::names;
use super::{Kind, Maker};
use crate::api::cluster_policies::{FAMILIES, POLICY};
use crate::api::clusters::{self, CLUSTER};
use crate::api::global_init_scripts::SCRIPT;
use crate::api::instance_pools::{self, POOL};
use crate::api::instance_profiles::PROFILE;
use crate::api::libraries::LIBRARIES;
use crate::api::permissions;
use crate::api::scim::{GROUP, USER};
use crate::identity::OPERATOR;
use crate::rng::Rng;
use crate::sim::Cloud;
use crate::state::Workspace;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: POOL,
        share: 20,
        least: 1,
        hostile: 0,
        create: pool,
        edit: edit_pool,
        delete: |m, id| m.ws.store().remove(POOL, id).is_some(),
        ids: |ws| ws.store().ids(POOL),
    },
    Kind {
        name: POLICY,
        share: 30,
        least: 2,
        hostile: names::HOSTILE,
        create: policy,
        edit: edit_policy,
        delete: |m, id| m.ws.store().remove(POLICY, id).is_some(),
        ids: own_policies,
    },
    Kind {
        name: PROFILE,
        share: 4,
        least: 1,
        hostile: 0,
        create: profile,
        edit: edit_profile,
        delete: |m, id| m.ws.store().remove(PROFILE, id).is_some(),
        ids: |ws| ws.store().ids(PROFILE),
    },
    Kind {
        name: CLUSTER,
        share: 40,
        least: 4,
        hostile: names::HOSTILE,
        create: cluster,
        edit: edit_cluster,
        delete: delete_cluster,
        ids: own_clusters,
    },
    Kind {
        name: SCRIPT,
        share: 4,
        least: 1,
        hostile: 0,
        create: script,
        edit: edit_script,
        delete: |m, id| m.ws.store().remove(SCRIPT, id).is_some(),
        ids: |ws| ws.store().ids(SCRIPT),
    },
];

/// The policies of the built-in families exist in every workspace (section 3.2).
pub(super) fn base(m: &Maker<'_>) {
    for (n, (family, name, definition)) in (0u64..).zip(FAMILIES) {
        let id = m.rng("default_policy", n).hex(16).to_uppercase();
        let policy = json!({
            "policy_id": id, "name": name, "policy_family_id": family, "definition": definition,
            "created_at_timestamp": m.now_ms, "is_default": true,
        });
        m.ws.store().put(POLICY, &id, &policy);
    }
}

/// A node type of the cloud.
pub(crate) fn node_type(cloud: Cloud, n: u64) -> &'static str {
    let of = |types: [&'static str; 3]| types[usize::try_from(n % 3).unwrap_or(0)];
    match cloud {
        Cloud::Aws => of(["i3.xlarge", "m5d.large", "r5d.2xlarge"]),
        Cloud::Azure => of(["Standard_DS3_v2", "Standard_D4ds_v5", "Standard_E8s_v3"]),
        Cloud::Gcp => of(["n2-highmem-4", "n2-standard-4", "e2-standard-8"]),
    }
}

fn pool(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(POOL, n);
    let id = instance_pools::pool_id(&mut rng);
    let mut pool: Map<String, Value> = [
        (
            "instance_pool_name",
            json!(format!("{}-{}-pool-{n}", rng.pick(names::TEAMS), rng.pick(names::STAGES))),
        ),
        ("node_type_id", json!(node_type(m.cloud, rng.next()))),
        ("min_idle_instances", json!(rng.below(3))),
        ("max_capacity", json!(10 + rng.below(90))),
        ("idle_instance_autotermination_minutes", json!(15 * (1 + rng.below(4)))),
        ("enable_elastic_disk", json!(true)),
        ("preloaded_spark_versions", json!(["16.4.x-scala2.12"])),
        ("custom_tags", json!({"team": rng.pick(names::TEAMS)})),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect();
    if m.hostile && n == 0 {
        pool.insert(
            "custom_tags".to_owned(),
            json!({"evil": names::hostile(2), "json": "{\"a\":\"{\\\"b\\\":1}\"}"}),
        );
    }
    instance_pools::finish(&mut pool, &id, OPERATOR);
    m.ws.store().put(POOL, &id, &Value::Object(pool));
    share(m, "instance-pools", &id, "CAN_ATTACH_TO", &mut rng);
    id
}

fn edit_pool(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let capacity = 1000 + rng.below(1_000_000);
    m.ws.store().edit(POOL, id, |pool| pool["max_capacity"] = json!(capacity)).is_some()
}

fn policy(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(POLICY, n);
    let id = rng.hex(16).to_uppercase();
    let mut store = m.ws.store();
    let mut definition = json!({
        "autotermination_minutes": {"type": "range", "minValue": 10, "maxValue": 60 * (1 + rng.below(5)), "defaultValue": 30},
        "spark_conf.spark.databricks.cluster.profile": {"type": "forbidden", "hidden": true},
        "custom_tags.team": {"type": "fixed", "value": rng.pick(names::TEAMS)},
    });
    // A policy may name a pool, inside JSON inside a string.
    if rng.chance(40)
        && let Some(pool) = store.nth_id(POOL, rng.next())
    {
        definition["instance_pool_id"] = json!({"type": "fixed", "value": pool, "hidden": true});
    }
    let name = if m.hostile && n < 12 {
        format!("{} {n}", names::hostile(n))
    } else {
        format!("{}-policy-{n}", names::slug(&mut rng))
    };
    let policy = json!({
        "policy_id": id, "name": name, "definition": definition.to_string(), "description": "",
        "creator_user_name": OPERATOR, "created_at_timestamp": m.now_ms, "is_default": false,
        "max_clusters_per_user": 1 + rng.below(5),
    });
    store.put(POLICY, &id, &policy);
    drop(store);
    share(m, "cluster-policies", &id, "CAN_USE", &mut rng);
    id
}

fn edit_policy(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let max = 100 + rng.below(1_000_000);
    m.ws.store().edit(POLICY, id, |policy| policy["max_clusters_per_user"] = json!(max)).is_some()
}

/// Default policies cannot be deleted.
fn own_policies(ws: &Workspace) -> Vec<String> {
    ws.store().scan(POLICY, None, 0).filter(|d| d.value["is_default"] != true).map(|d| d.id).collect()
}

/// Some things are shared with a group of the workspace's own.
pub(super) fn share(m: &Maker<'_>, url: &str, id: &str, level: &str, rng: &mut Rng) {
    if !rng.chance(40) {
        return;
    }
    let group = {
        let store = m.ws.store();
        // The first two are `admins` and `users`.
        let own = (store.len(GROUP) as u64).saturating_sub(2);
        let id = if own == 0 { None } else { store.nth_id(GROUP, 2 + rng.below(own)) };
        id.and_then(|id| store.get(GROUP, &id)).and_then(|g| g["displayName"].as_str().map(str::to_owned))
    };
    if let Some(name) = group {
        permissions::grant(m.ws, url, id, "group_name", &name, level);
    }
}

/// Somebody of the workspace.
pub(super) fn somebody(m: &Maker<'_>, rng: &mut Rng) -> String {
    let store = m.ws.store();
    let user = store.nth_id(USER, rng.next()).and_then(|id| store.get(USER, &id));
    user.and_then(|u| u["userName"].as_str().map(str::to_owned)).unwrap_or_else(|| OPERATOR.to_owned())
}

fn profile(m: &Maker<'_>, n: u64) -> String {
    // Section 3.2: AWS only.
    if m.cloud != Cloud::Aws {
        return String::new();
    }
    let mut rng = m.rng(PROFILE, n);
    let role = format!("{}-{n}", rng.pick(names::TEAMS));
    let arn = format!("arn:aws:iam::123456789012:instance-profile/{role}");
    let body = json!({"instance_profile_arn": arn, "iam_role_arn": format!("arn:aws:iam::123456789012:role/{role}"), "is_meta_instance_profile": false});
    m.ws.store().put(PROFILE, &arn, &body);
    arn
}

fn edit_profile(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let role = format!("arn:aws:iam::123456789012:role/{}", rng.hex(8));
    m.ws.store().edit(PROFILE, id, |p| p["iam_role_arn"] = json!(role)).is_some()
}

/// The fields of a new cluster, as people write them.
pub(super) fn cluster_spec(m: &Maker<'_>, rng: &mut Rng) -> Map<String, Value> {
    let store = m.ws.store();
    let mut spec = Map::new();
    let mut set = |field: &str, value: Value| drop(spec.insert(field.to_owned(), value));
    set("spark_version", json!(rng.pick(&["16.4.x-scala2.12", "15.4.x-scala2.12", "17.1.x-scala2.13"])));
    match store.nth_id(POOL, rng.next()).filter(|_| rng.chance(25)) {
        Some(pool) => set("instance_pool_id", json!(pool)),
        None => set("node_type_id", json!(node_type(m.cloud, rng.next()))),
    }
    if rng.chance(50) {
        set("autoscale", json!({"min_workers": 1, "max_workers": 2 + rng.below(20)}));
    } else {
        set("num_workers", json!(rng.below(12)));
    }
    if rng.chance(30) {
        let own = store.ids(POLICY);
        set("policy_id", json!(own[usize::try_from(rng.below(own.len() as u64)).unwrap_or(0)]));
    }
    if let Some(scope) = store.nth_id("secret_scope", rng.next()).filter(|_| rng.chance(20)) {
        set("spark_env_vars", json!({"API_KEY": format!("{{{{secrets/{scope}/key-0}}}}")}));
    }
    set("spark_conf", json!({"spark.sql.shuffle.partitions": (100 + rng.below(900)).to_string()}));
    set("custom_tags", json!({"team": rng.pick(names::TEAMS)}));
    if m.cloud == Cloud::Aws
        && let Some(arn) = store.nth_id(PROFILE, rng.next()).filter(|_| rng.chance(20))
    {
        set(
            "aws_attributes",
            json!({"instance_profile_arn": arn, "availability": "SPOT_WITH_FALLBACK", "zone_id": "auto"}),
        );
    }
    spec
}

fn cluster(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(CLUSTER, n);
    let id = clusters::cluster_id(&mut rng);
    let mut spec = cluster_spec(m, &mut rng);
    // Section 3.2: lists mix in the clusters that jobs made.
    let (source, name) = match n % 4 {
        3 => ("JOB", format!("job-{}-run-{}-main", rng.below(1 << 40), rng.below(1 << 40))),
        1 => ("API", format!("{}-{n}", names::slug(&mut rng))),
        _ if m.hostile && n < 12 => ("UI", names::hostile(n)),
        _ => ("UI", format!("{}-{n}", names::slug(&mut rng))),
    };
    spec.insert("cluster_name".to_owned(), json!(name));
    if source != "JOB" {
        spec.insert("autotermination_minutes".to_owned(), json!(30 + rng.below(90)));
        if rng.chance(20) {
            let path = format!("/Shared/init-{}.sh", rng.below(10));
            spec.insert("init_scripts".to_owned(), json!([{"workspace": {"destination": path}}]));
        }
    }
    let creator = somebody(m, &mut rng);
    let state = if rng.chance(15) { "RUNNING" } else { "TERMINATED" };
    let mut cluster = clusters::build(&spec, &id, &creator, source, state, m.now_ms);
    {
        let mut store = m.ws.store();
        // Section 3.2: at most 100 can be pinned.
        if source != "JOB" && n < 90 && rng.chance(40) {
            cluster["pinned_by_user_name"] = json!(OPERATOR);
        }
        store.put(CLUSTER, &id, &cluster);
        if source != "JOB" && rng.chance(35) {
            let libraries = json!([{"pypi": {"package": format!("{}=={}.{}", rng.pick(&["pandas", "requests", "polars", "pyyaml"]), rng.below(4), rng.below(20))}},
                {"maven": {"coordinates": format!("com.example:{}:1.{}", rng.pick(names::TEAMS), rng.below(30))}}]);
            store.put(LIBRARIES, &id, &libraries);
        }
    }
    if source != "JOB" {
        share(m, "clusters", &id, "CAN_RESTART", &mut rng);
    }
    id
}

fn edit_cluster(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let minutes = 200 + rng.below(100_000);
    let change = |c: &mut Value| {
        c["autotermination_minutes"] = json!(minutes);
        c["spec"]["autotermination_minutes"] = json!(minutes);
    };
    m.ws.store().edit(CLUSTER, id, change).is_some()
}

fn delete_cluster(m: &Maker<'_>, id: &str) -> bool {
    let mut store = m.ws.store();
    store.remove(LIBRARIES, id);
    permissions::forget(&mut store, "clusters", id);
    store.remove(CLUSTER, id).is_some()
}

/// Those that people made.
fn own_clusters(ws: &Workspace) -> Vec<String> {
    ws.store().scan(CLUSTER, None, 0).filter(|d| d.value["cluster_source"] != "JOB").map(|d| d.id).collect()
}

fn script(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(SCRIPT, n);
    let id = rng.hex(16).to_uppercase();
    let text = format!(
        "#!/bin/bash\n# {} {n}\npip install --quiet {}=={}.0\n",
        rng.pick(names::TEAMS),
        rng.pick(&["pandas", "requests"]),
        rng.below(9)
    );
    let mut store = m.ws.store();
    let position = store.len(SCRIPT);
    let item = json!({
        "script_id": id, "name": format!("{}-init-{n}", rng.pick(names::TEAMS)), "script": STANDARD.encode(text), "position": position,
        "enabled": rng.chance(70), "created_by": OPERATOR, "created_at": m.now_ms, "updated_by": OPERATOR, "updated_at": m.now_ms,
    });
    store.put(SCRIPT, &id, &item);
    id
}

fn edit_script(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let text = STANDARD.encode(format!("#!/bin/bash\necho {}\n", rng.hex(12)));
    let now = m.now_ms;
    let change = |s: &mut Value| {
        s["script"] = json!(text);
        s["updated_at"] = json!(now);
    };
    m.ws.store().edit(SCRIPT, id, change).is_some()
}
