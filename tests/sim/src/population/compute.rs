//! Instance pools and cluster policies: the example of a small population.

use serde_json::{Map, Value, json};

use super::names;
use super::{Kind, Maker};
use crate::api::cluster_policies::{FAMILIES, POLICY};
use crate::api::instance_pools::{self, POOL};
use crate::identity::OPERATOR;
use crate::rng::Rng;
use crate::sim::Cloud;
use crate::state::Workspace;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: POOL,
        share: 20,
        least: 1,
        create: pool,
        edit: edit_pool,
        delete: |m, id| m.ws.store().remove(POOL, id).is_some(),
        ids: |ws| ws.store().ids(POOL),
    },
    Kind {
        name: POLICY,
        share: 30,
        least: 2,
        create: policy,
        edit: edit_policy,
        delete: |m, id| m.ws.store().remove(POLICY, id).is_some(),
        ids: own_policies,
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
pub(super) fn node_type(cloud: Cloud, n: u64) -> &'static str {
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
