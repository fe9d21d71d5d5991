//! Warehouses, queries, alerts and dashboards.

use serde_json::{Map, Value, json};

use super::compute::share;
use super::{Kind, Maker, names};
use crate::api::alerts::{self, ALERT, ALERT_V2};
use crate::api::lakeview::{self, DASHBOARD, PUBLISHED, SCHEDULE, SUBSCRIPTION};
use crate::api::queries::{self, QUERY, VISUALIZATION};
use crate::api::uc::TABLE;
use crate::api::warehouses::{self, WAREHOUSE};
use crate::clock::rfc3339;
use crate::identity::OPERATOR;
use crate::rng::Rng;
use crate::state::Workspace;

/// The warehouse every workspace has.
const STARTER: &str = "Serverless Starter Warehouse";

pub(super) const WAREHOUSES: &[Kind] = &[Kind {
    name: WAREHOUSE,
    share: 10,
    least: 2,
    hostile: names::HOSTILE,
    create: warehouse,
    edit: |m, id, rng| {
        let minutes = 10 + rng.below(10_000);
        m.ws.store().edit(WAREHOUSE, id, |w| w["auto_stop_mins"] = json!(minutes)).is_some()
    },
    delete: |m, id| m.ws.store().remove(WAREHOUSE, id).is_some(),
    ids: |ws| {
        ws.store().scan(WAREHOUSE, None, 0).filter(|d| d.value["name"] != STARTER).map(|d| d.id).collect()
    },
}];

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: QUERY,
        share: 150,
        least: 3,
        hostile: names::HOSTILE,
        create: query,
        edit: edit_text,
        delete: delete_query,
        ids: active_queries,
    },
    Kind {
        name: ALERT,
        share: 15,
        least: 1,
        hostile: names::HOSTILE,
        create: alert,
        edit: |m, id, rng| edit(m, ALERT, id, "custom_body", json!(rng.hex(12))),
        delete: |m, id| m.ws.store().remove(ALERT, id).is_some(),
        ids: |ws| ws.store().ids(ALERT),
    },
    Kind {
        name: ALERT_V2,
        share: 15,
        least: 1,
        hostile: names::HOSTILE,
        create: alert_v2,
        edit: |m, id, rng| edit(m, ALERT_V2, id, "custom_summary", json!(rng.hex(12))),
        delete: |m, id| m.ws.store().remove(ALERT_V2, id).is_some(),
        ids: |ws| ws.store().ids(ALERT_V2),
    },
    Kind {
        name: DASHBOARD,
        share: 40,
        least: 2,
        hostile: names::HOSTILE,
        create: dashboard,
        edit: edit_dashboard,
        delete: delete_dashboard,
        ids: |ws| ws.store().ids(DASHBOARD),
    },
];

/// What a new workspace has.
pub(super) fn base(m: &Maker<'_>) {
    let mut item = Map::new();
    for (field, value) in [
        ("name", json!(STARTER)),
        ("cluster_size", json!("Small")),
        ("auto_stop_mins", json!(10)),
        ("warehouse_type", json!("PRO")),
        ("enable_serverless_compute", json!(true)),
    ] {
        item.insert(field.to_owned(), value);
    }
    let id = m.rng("starter_warehouse", 0).hex(16);
    store_warehouse(m, item, &id);
}

fn store_warehouse(m: &Maker<'_>, mut item: Map<String, Value>, id: &str) {
    warehouses::finish(&mut item, id, OPERATOR, m.ws);
    item.insert("state".to_owned(), json!("STOPPED"));
    m.ws.store().put(WAREHOUSE, id, &Value::Object(item));
}

fn warehouse(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(WAREHOUSE, n);
    let id = rng.hex(16);
    let name = if m.hostile && n < 12 {
        format!("{} {n}", names::hostile(n))
    } else {
        format!("{} {} {n}", rng.pick(names::TEAMS), rng.pick(&["BI", "ETL", "ad hoc"]))
    };
    let kind = if n.is_multiple_of(2) { "PRO" } else { "CLASSIC" };
    let item = json!({
        "name": name, "warehouse_type": kind, "cluster_size": rng.pick(&["2X-Small", "Small", "Medium", "Large"]),
        "max_num_clusters": 1 + rng.below(4), "auto_stop_mins": 10 * (1 + rng.below(6)),
        "tags": {"custom_tags": [{"key": "team", "value": rng.pick(names::TEAMS)}]},
    });
    store_warehouse(m, item.as_object().cloned().unwrap_or_default(), &id);
    share(m, "sql/warehouses", &id, "CAN_USE", &mut rng);
    id
}

/// A name for a thing in a folder.
fn title(m: &Maker<'_>, n: u64, rng: &mut Rng) -> String {
    if m.hostile && n < 12 {
        return format!("{} {n}", names::hostile_segment(n));
    }
    format!("{} of {} {n}", rng.pick(&["Trend", "Sum", "Share", "Count", "Funnel"]), rng.pick(names::THINGS))
}

/// Somebody's home, or the shared folder.
fn folder(m: &Maker<'_>, rng: &mut Rng) -> (String, String) {
    let store = m.ws.store();
    let user = store.nth_id("user", rng.next()).and_then(|id| store.get("user", &id));
    let user =
        user.and_then(|u| u["userName"].as_str().map(str::to_owned)).unwrap_or_else(|| OPERATOR.to_owned());
    (format!("/Users/{user}"), user)
}

fn warehouse_id(m: &Maker<'_>, rng: &mut Rng) -> String {
    m.ws.store().nth_id(WAREHOUSE, rng.next()).unwrap_or_default()
}

fn table_name(m: &Maker<'_>, rng: &mut Rng) -> String {
    let found = m.ws.metastore.store().nth_id(TABLE.kind, rng.next());
    let name = found.unwrap_or_else(|| "main.default.orders".to_owned());
    name.split('.').map(|p| format!("`{}`", p.replace('`', "``"))).collect::<Vec<_>>().join(".")
}

fn query(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(QUERY, n);
    let id = rng.uuid();
    let (home, owner) = folder(m, &mut rng);
    let mut item = json!({
        "display_name": title(m, n, &mut rng), "parent_path": format!("/Workspace{home}"), "warehouse_id": warehouse_id(m, &mut rng),
        "query_text": format!("SELECT region, count(*)\nFROM {}\nGROUP BY region", table_name(m, &mut rng)),
        "catalog": "main", "schema": "default", "tags": [rng.pick(names::TEAMS)], "apply_auto_limit": true,
        "description": "",
    });
    // A parameter may take its values from another query.
    if rng.chance(10)
        && let Some(other) = m.ws.store().nth_id(QUERY, rng.next())
    {
        item["parameters"] = json!([{"name": "region", "title": "Region", "query_backed_value": {"query_id": other, "values": ["EU"]}}]);
    }
    let mut item = item.as_object().cloned().unwrap_or_default();
    queries::finish(&mut item, &id, &owner, m.now_ms);
    let mut store = m.ws.store();
    store.put(QUERY, &id, &Value::Object(item));
    for i in 0..rng.below(3) {
        let visualization = json!({
            "id": rng.uuid(), "query_id": id, "display_name": format!("Chart {i}"), "type": "CHART",
            "serialized_options": json!({"globalSeriesType": "column", "version": 2}).to_string(),
            "create_time": rfc3339(m.now_ms), "update_time": rfc3339(m.now_ms),
        });
        let vid = visualization["id"].as_str().unwrap_or_default().to_owned();
        store.put_under(VISUALIZATION, &vid, &id, &visualization);
    }
    drop(store);
    share(m, "sql/queries", &id, "CAN_RUN", &mut rng);
    id
}

fn active_queries(ws: &Workspace) -> Vec<String> {
    ws.store().scan(QUERY, None, 0).filter(|d| d.value["lifecycle_state"] == "ACTIVE").map(|d| d.id).collect()
}

fn edit_text(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    edit(m, QUERY, id, "query_text", json!(format!("SELECT {}", rng.below(1_000_000))))
}

/// Changes one field, and the time of the last change with it.
fn edit(m: &Maker<'_>, kind: &str, id: &str, field: &str, value: Value) -> bool {
    let now = m.now_ms;
    let changed = m.ws.store().edit(kind, id, |item| {
        item[field] = value;
        item["update_time"] = json!(rfc3339(now));
    });
    changed.is_some()
}

fn delete_query(m: &Maker<'_>, id: &str) -> bool {
    m.ws.store().edit(QUERY, id, |q| q["lifecycle_state"] = json!("TRASHED")).is_some()
}

fn alert(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(ALERT, n);
    let id = rng.uuid();
    let (home, owner) = folder(m, &mut rng);
    let item = json!({
        "display_name": title(m, n, &mut rng), "parent_path": format!("/Workspace{home}"),
        "query_id": m.ws.store().nth_id(QUERY, rng.next()), "seconds_to_retrigger": 60 * rng.below(60), "state": "UNKNOWN",
        "condition": {"op": "GREATER_THAN", "operand": {"column": {"name": "count"}},
            "threshold": {"value": {"double_value": rng.below(1000)}}, "empty_result_state": "OK"},
    });
    let mut item = item.as_object().cloned().unwrap_or_default();
    alerts::finish(&mut item, &id, &owner, m.now_ms);
    m.ws.store().put(ALERT, &id, &Value::Object(item));
    share(m, "sql/alerts", &id, "CAN_RUN", &mut rng);
    id
}

fn alert_v2(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(ALERT_V2, n);
    let id = (100_000_000_000_000 + rng.below(900_000_000_000_000)).to_string();
    let (home, owner) = folder(m, &mut rng);
    let item = json!({
        "display_name": title(m, n, &mut rng), "parent_path": format!("/Workspace{home}"), "warehouse_id": warehouse_id(m, &mut rng),
        "query_text": format!("SELECT count(*) AS n FROM {}", table_name(m, &mut rng)),
        "evaluation": {"source": {"name": "n"}, "comparison_operator": "LESS_THAN", "empty_result_state": "ERROR",
            "threshold": {"value": {"double_value": rng.below(1000)}}, "state": "UNKNOWN",
            "notification": {"subscriptions": [{"user_email": owner}]}},
        "schedule": {"quartz_cron_schedule": format!("0 {} * * * ?", rng.below(60)), "timezone_id": "UTC", "pause_status": "UNPAUSED"},
    });
    let mut item = item.as_object().cloned().unwrap_or_default();
    alerts::finish(&mut item, &id, &owner, m.now_ms);
    alerts::finish_v2(&mut item, &owner);
    m.ws.store().put(ALERT_V2, &id, &Value::Object(item));
    share(m, "alertsv2", &id, "CAN_READ", &mut rng);
    id
}

fn dashboard(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(DASHBOARD, n);
    let id = rng.hex(32);
    let (home, _) = folder(m, &mut rng);
    let warehouse = warehouse_id(m, &mut rng);
    let layout: Vec<Value> = (0..1 + rng.below(8))
        .map(|i| json!({"widget": {"name": rng.hex(8), "textbox_spec": format!("Widget {i}")}, "position": {"x": 0, "y": i, "width": 3, "height": 1}}))
        .collect();
    let serialized = json!({
        "datasets": [{"name": rng.hex(8), "displayName": "Source", "queryLines": ["SELECT *\n", format!("FROM {}", table_name(m, &mut rng))]}],
        "pages": [{"name": rng.hex(8), "displayName": "Overview", "layout": layout}],
    });
    let item = json!({
        "display_name": title(m, n, &mut rng), "parent_path": home, "warehouse_id": warehouse,
        "serialized_dashboard": serialized.to_string(),
    });
    let mut item = item.as_object().cloned().unwrap_or_default();
    // A generated document always parses.
    if lakeview::finish(&mut item, &id, m.now_ms).is_err() {
        return String::new();
    }
    let draft = Value::Object(item);
    let mut store = m.ws.store();
    if rng.chance(60) {
        store.put(
            PUBLISHED,
            &id,
            &lakeview::published_form(&draft, rng.chance(50), &json!(warehouse), m.now_ms),
        );
    }
    store.put(DASHBOARD, &id, &draft);
    if rng.chance(30) {
        let sid = rng.hex(32);
        let schedule = json!({
            "schedule_id": sid, "dashboard_id": id, "display_name": "Weekdays", "pause_status": "UNPAUSED", "warehouse_id": warehouse,
            "cron_schedule": {"quartz_cron_expression": "0 0 7 ? * MON-FRI", "timezone_id": "Europe/Berlin"},
        });
        let mut schedule = schedule.as_object().cloned().unwrap_or_default();
        lakeview::finish_child(&mut schedule, &rng.hex(12), m.now_ms);
        store.put_under(SCHEDULE, &sid, &id, &Value::Object(schedule));
        if let Some(user) = store.nth_id("user", rng.next()).and_then(|u| u.parse::<u64>().ok()) {
            let xid = rng.hex(32);
            let subscription = json!({
                "subscription_id": xid, "schedule_id": sid, "dashboard_id": id, "created_by_user_id": user,
                "subscriber": {"user_subscriber": {"user_id": user}},
            });
            let mut subscription = subscription.as_object().cloned().unwrap_or_default();
            lakeview::finish_child(&mut subscription, &rng.hex(12), m.now_ms);
            store.put_under(SUBSCRIPTION, &xid, &sid, &Value::Object(subscription));
        }
    }
    drop(store);
    share(m, "dashboards", &id, "CAN_READ", &mut rng);
    id
}

fn edit_dashboard(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let page = rng.hex(8);
    let now = m.now_ms;
    let etag = rng.hex(12);
    let changed = m.ws.store().edit(DASHBOARD, id, |d| {
        let mut inner: Value =
            d["serialized_dashboard"].as_str().and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
        inner["pages"][0]["displayName"] = json!(page);
        d["serialized_dashboard"] = json!(format!("{inner}\n"));
        d["update_time"] = json!(rfc3339(now));
        d["etag"] = json!(etag);
    });
    changed.is_some()
}

fn delete_dashboard(m: &Maker<'_>, id: &str) -> bool {
    let mut store = m.ws.store();
    let schedules: Vec<String> = store.scan(SCHEDULE, Some(id), 0).map(|d| d.id).collect();
    for schedule in schedules {
        let below: Vec<String> = store.scan(SUBSCRIPTION, Some(&schedule), 0).map(|d| d.id).collect();
        for subscription in below {
            store.remove(SUBSCRIPTION, &subscription);
        }
        store.remove(SCHEDULE, &schedule);
    }
    store.remove(PUBLISHED, id);
    store.remove(DASHBOARD, id).is_some()
}
