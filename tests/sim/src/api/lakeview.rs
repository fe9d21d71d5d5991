//! Lakeview (AI/BI) dashboards, published forms, schedules and subscriptions (section 3.5).
//!
//! <https://docs.databricks.com/api/workspace/lakeview>

use serde_json::{Map, Value, json};

use super::queries::known_warehouse;
use crate::clock::rfc3339;
use crate::errors::ApiError;
use crate::paging::{self, Listing};
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::state::Store;

/// Drafts.
pub(crate) const DASHBOARD: &str = "dashboard";

/// Published forms, by the id of the draft.
pub(crate) const PUBLISHED: &str = "dashboard_published";

/// Schedules; their parent is the dashboard.
pub(crate) const SCHEDULE: &str = "dashboard_schedule";

/// Subscriptions; their parent is the schedule.
pub(crate) const SUBSCRIPTION: &str = "dashboard_subscription";

const BASE: &str = "/api/2.0/lakeview/dashboards";

pub(crate) fn routes(r: &mut Routes) {
    let mut add = |method, path: &str, handler| {
        r.add(method, &format!("{BASE}{path}"), "lakeview", crate::router::Guard::Api, handler);
    };
    add("GET", "", list);
    add("POST", "", create);
    add("GET", "/{id}", get);
    add("PATCH", "/{id}", update);
    add("DELETE", "/{id}", trash);
    add("POST", "/{id}/revert", revert);
    add("GET", "/{id}/published", published);
    add("POST", "/{id}/published", publish);
    add("DELETE", "/{id}/published", unpublish);
    add("GET", "/{id}/schedules", schedules);
    add("POST", "/{id}/schedules", create_schedule);
    add("GET", "/{id}/schedules/{schedule}", get_schedule);
    add("PUT", "/{id}/schedules/{schedule}", update_schedule);
    add("DELETE", "/{id}/schedules/{schedule}", delete_schedule);
    add("GET", "/{id}/schedules/{schedule}/subscriptions", subscriptions);
    add("POST", "/{id}/schedules/{schedule}/subscriptions", create_subscription);
    add("GET", "/{id}/schedules/{schedule}/subscriptions/{subscription}", get_subscription);
    add("DELETE", "/{id}/schedules/{schedule}/subscriptions/{subscription}", delete_subscription);
}

fn list(req: &Req) -> Reply {
    let trashed = req.flag("show_trashed");
    let listing = Listing {
        kind: DASHBOARD,
        parent: None,
        size: &["page_size"],
        default: 20,
        max: 1000,
        token: "page_token",
    };
    let mut page =
        paging::page(req, &req.ws.store(), &listing, |d| trashed || d["lifecycle_state"] == "ACTIVE")?;
    for item in page.items.iter_mut().filter_map(Value::as_object_mut) {
        // Section 3.5: the list is BASIC: no serialized_dashboard, etag, path, parent_path.
        for field in ["serialized_dashboard", "etag", "path", "parent_path"] {
            item.shift_remove(field);
        }
    }
    ok(page.body("dashboards"))
}

fn find(store: &Store, id: &str) -> Result<Value, ApiError> {
    store
        .get(DASHBOARD, id)
        .ok_or_else(|| ApiError::absent(format!("Unable to find dashboard [dashboardId={id}]")))
}

fn get(req: &Req) -> Reply {
    ok(find(&req.ws.store(), req.param("id"))?)
}

fn create(req: &Req) -> Reply {
    let mut dashboard = req.json()?;
    let mut store = req.ws.store();
    known_warehouse(&store, &dashboard)?;
    dashboard.entry("display_name").or_insert_with(|| json!("New Dashboard"));
    dashboard.entry("parent_path").or_insert_with(|| json!(format!("/Users/{}", req.caller.name)));
    dashboard.entry("serialized_dashboard").or_insert_with(|| json!("{\"pages\":[]}"));
    let mut rng = req.ws.fresh();
    let id = rng.hex(32);
    finish(&mut dashboard, &id, req.now())?;
    let dashboard = Value::Object(dashboard);
    unique_path(&store, &dashboard, &id)?;
    store.put(DASHBOARD, &id, &dashboard);
    ok(dashboard)
}

/// Section 4.2: the same name in the same folder is refused.
fn unique_path(store: &Store, dashboard: &Value, id: &str) -> Result<(), ApiError> {
    let same = |d: &Value| {
        d["path"] == dashboard["path"] && d["dashboard_id"] != id && d["lifecycle_state"] == "ACTIVE"
    };
    if store.find(DASHBOARD, same).is_some() {
        return Err(ApiError::exists(format!(
            "Node named '{}.lvdash.json' already exists",
            dashboard["display_name"].as_str().unwrap_or_default()
        )));
    }
    Ok(())
}

/// Adds what the server assigns, and rewrites what it rewrites.
pub(crate) fn finish(dashboard: &mut Map<String, Value>, id: &str, now: i64) -> Result<(), ApiError> {
    let text =
        |m: &Map<String, Value>, f: &str| m.get(f).and_then(Value::as_str).unwrap_or_default().to_owned();
    // Section 3.5: the server strips /Workspace from parent_path.
    let parent = text(dashboard, "parent_path");
    let parent = parent.strip_prefix("/Workspace").unwrap_or(&parent).trim_end_matches('/').to_owned();
    let path = format!("{parent}/{}.lvdash.json", text(dashboard, "display_name"));
    let serialized = canonical(&text(dashboard, "serialized_dashboard"))?;
    for (field, value) in [
        ("dashboard_id", json!(id)),
        ("parent_path", json!(parent)),
        ("path", json!(path)),
        ("serialized_dashboard", json!(serialized)),
        ("lifecycle_state", json!("ACTIVE")),
        ("etag", json!(format!("{:x}", now ^ 0x5eed))),
        ("update_time", json!(rfc3339(now))),
    ] {
        dashboard.insert(field.to_owned(), value);
    }
    dashboard.entry("create_time").or_insert_with(|| json!(rfc3339(now)));
    Ok(())
}

/// Section 3.5: the server adds `pageType` and a trailing newline.
fn canonical(text: &str) -> Result<String, ApiError> {
    let mut value: Value = serde_json::from_str(text)
        .map_err(|e| ApiError::invalid(format!("Failed to parse serialized dashboard: {e}")))?;
    for page in value["pages"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        page.entry("pageType").or_insert_with(|| json!("PAGE_TYPE_CANVAS"));
    }
    Ok(format!("{value}\n"))
}

fn update(req: &Req) -> Reply {
    let id = req.param("id").to_owned();
    let given = req.json()?;
    let mut store = req.ws.store();
    known_warehouse(&store, &given)?;
    let old = find(&store, &id)?;
    if let Some(etag) = given.get("etag").and_then(Value::as_str)
        && old["etag"] != etag
    {
        return Err(ApiError::new(
            409,
            "RESOURCE_CONFLICT",
            "The dashboard has been modified: etag does not match.",
        ));
    }
    let Value::Object(mut new) = old else { return done() };
    let before = new.get("etag").cloned().unwrap_or_default();
    for field in ["display_name", "warehouse_id", "serialized_dashboard", "parent_path"] {
        if let Some(value) = given.get(field) {
            new.insert(field.to_owned(), value.clone());
        }
    }
    finish(&mut new, &id, req.now())?;
    if new.get("etag") == Some(&before) {
        new.insert("etag".to_owned(), json!(req.ws.fresh().hex(12)));
    }
    let new = Value::Object(new);
    unique_path(&store, &new, &id)?;
    store.put(DASHBOARD, &id, &new);
    ok(new)
}

fn trash(req: &Req) -> Reply {
    let id = req.param("id");
    let mut store = req.ws.store();
    find(&store, id)?;
    store.edit(DASHBOARD, id, |d| d["lifecycle_state"] = json!("TRASHED"));
    done()
}

/// The draft becomes what is published.
fn revert(req: &Req) -> Reply {
    let id = req.param("id");
    let mut store = req.ws.store();
    let published = store.get(PUBLISHED, id).ok_or_else(|| never_published(id))?;
    store.edit(DASHBOARD, id, |d| {
        for field in ["serialized_dashboard", "display_name", "warehouse_id"] {
            d[field] = published["_draft"][field].clone();
        }
    });
    ok(find(&store, id)?)
}

fn never_published(id: &str) -> ApiError {
    ApiError::absent(format!("Unable to find published dashboard [dashboardId={id}]"))
}

/// Section 3.5: 404 if never published.
fn published(req: &Req) -> Reply {
    let store = req.ws.store();
    let id = req.param("id");
    find(&store, id)?;
    let mut found = store.get(PUBLISHED, id).ok_or_else(|| never_published(id))?;
    if let Some(found) = found.as_object_mut() {
        found.shift_remove("_draft");
    }
    ok(found)
}

fn publish(req: &Req) -> Reply {
    let id = req.param("id");
    let given = req.json()?;
    let mut store = req.ws.store();
    known_warehouse(&store, &given)?;
    let draft = find(&store, id)?;
    let embed = given.get("embed_credentials").and_then(Value::as_bool).unwrap_or(true);
    let warehouse = given.get("warehouse_id").unwrap_or(&draft["warehouse_id"]).clone();
    let mut form = published_form(&draft, embed, &warehouse, req.now());
    store.put(PUBLISHED, id, &form);
    if let Some(form) = form.as_object_mut() {
        form.shift_remove("_draft");
    }
    ok(form)
}

/// What publishing a draft makes.
pub(crate) fn published_form(draft: &Value, embed: bool, warehouse: &Value, now: i64) -> Value {
    json!({
        "display_name": draft["display_name"], "warehouse_id": warehouse, "embed_credentials": embed,
        "revision_create_time": rfc3339(now),
        "_draft": {
            "serialized_dashboard": draft["serialized_dashboard"], "display_name": draft["display_name"],
            "warehouse_id": draft["warehouse_id"],
        },
    })
}

fn unpublish(req: &Req) -> Reply {
    let id = req.param("id");
    req.ws.store().remove(PUBLISHED, id).ok_or_else(|| never_published(id))?;
    done()
}

fn children(req: &Req, kind: &'static str, parent: &str, name: &str) -> Reply {
    let listing = Listing {
        kind,
        parent: Some(parent),
        size: &["page_size"],
        default: 20,
        max: 100,
        token: "page_token",
    };
    ok(paging::page(req, &req.ws.store(), &listing, |_| true)?.body(name))
}

fn schedules(req: &Req) -> Reply {
    find(&req.ws.store(), req.param("id"))?;
    children(req, SCHEDULE, req.param("id"), "schedules")
}

fn find_schedule(req: &Req, store: &Store) -> Result<Value, ApiError> {
    let (dashboard, id) = (req.param("id"), req.param("schedule"));
    find(store, dashboard)?;
    let found = store.get(SCHEDULE, id).filter(|s| s["dashboard_id"] == dashboard);
    found.ok_or_else(|| ApiError::absent(format!("Unable to find schedule [scheduleId={id}]")))
}

fn get_schedule(req: &Req) -> Reply {
    ok(find_schedule(req, &req.ws.store())?)
}

fn create_schedule(req: &Req) -> Reply {
    let mut schedule = req.json()?;
    let mut store = req.ws.store();
    let dashboard = req.param("id");
    find(&store, dashboard)?;
    known_warehouse(&store, &schedule)?;
    if schedule.get("cron_schedule").is_none() {
        return Err(ApiError::invalid("Missing required field: cron_schedule"));
    }
    let mut rng = req.ws.fresh();
    let id = rng.hex(32);
    finish_child(&mut schedule, &rng.hex(12), req.now());
    schedule.insert("schedule_id".to_owned(), json!(id));
    schedule.insert("dashboard_id".to_owned(), json!(dashboard));
    schedule.entry("pause_status").or_insert_with(|| json!("UNPAUSED"));
    let schedule = Value::Object(schedule);
    store.put_under(SCHEDULE, &id, dashboard, &schedule);
    ok(schedule)
}

/// Adds what the server assigns to a schedule or subscription.
pub(crate) fn finish_child(item: &mut Map<String, Value>, etag: &str, now: i64) {
    item.insert("etag".to_owned(), json!(etag));
    item.insert("update_time".to_owned(), json!(rfc3339(now)));
    item.entry("create_time").or_insert_with(|| json!(rfc3339(now)));
}

fn same_etag(given: Option<&str>, item: &Value) -> Result<(), ApiError> {
    match given {
        Some(etag) if item["etag"] != etag => {
            Err(ApiError::new(409, "RESOURCE_CONFLICT", "The etag does not match the current one."))
        }
        _ => Ok(()),
    }
}

fn update_schedule(req: &Req) -> Reply {
    let mut given = req.json()?;
    let mut store = req.ws.store();
    let old = find_schedule(req, &store)?;
    same_etag(given.get("etag").and_then(Value::as_str), &old)?;
    for field in ["schedule_id", "dashboard_id", "create_time"] {
        given.insert(field.to_owned(), old[field].clone());
    }
    given.entry("pause_status").or_insert_with(|| json!("UNPAUSED"));
    finish_child(&mut given, &req.ws.fresh().hex(12), req.now());
    let new = Value::Object(given);
    store.put_under(SCHEDULE, req.param("schedule"), req.param("id"), &new);
    ok(new)
}

fn delete_schedule(req: &Req) -> Reply {
    let mut store = req.ws.store();
    let old = find_schedule(req, &store)?;
    same_etag(req.query("etag"), &old)?;
    let id = req.param("schedule");
    let below: Vec<String> = store.scan(SUBSCRIPTION, Some(id), 0).map(|d| d.id).collect();
    for subscription in below {
        store.remove(SUBSCRIPTION, &subscription);
    }
    store.remove(SCHEDULE, id);
    done()
}

fn subscriptions(req: &Req) -> Reply {
    find_schedule(req, &req.ws.store())?;
    children(req, SUBSCRIPTION, req.param("schedule"), "subscriptions")
}

fn find_subscription(req: &Req, store: &Store) -> Result<Value, ApiError> {
    find_schedule(req, store)?;
    let id = req.param("subscription");
    let found = store.get(SUBSCRIPTION, id).filter(|s| s["schedule_id"] == req.param("schedule"));
    found.ok_or_else(|| ApiError::absent(format!("Unable to find subscription [subscriptionId={id}]")))
}

fn get_subscription(req: &Req) -> Reply {
    ok(find_subscription(req, &req.ws.store())?)
}

fn create_subscription(req: &Req) -> Reply {
    let mut subscription = req.json()?;
    let mut store = req.ws.store();
    find_schedule(req, &store)?;
    let subscriber = subscription.get("subscriber").and_then(Value::as_object);
    if subscriber.is_none_or(|s| s.len() != 1) {
        return Err(ApiError::invalid("A subscriber must be a user or a destination."));
    }
    let mut rng = req.ws.fresh();
    let id = rng.hex(32);
    finish_child(&mut subscription, &rng.hex(12), req.now());
    subscription.insert("subscription_id".to_owned(), json!(id));
    subscription.insert("schedule_id".to_owned(), json!(req.param("schedule")));
    subscription.insert("dashboard_id".to_owned(), json!(req.param("id")));
    subscription.insert("created_by_user_id".to_owned(), json!(1));
    let subscription = Value::Object(subscription);
    store.put_under(SUBSCRIPTION, &id, req.param("schedule"), &subscription);
    ok(subscription)
}

fn delete_subscription(req: &Req) -> Reply {
    let mut store = req.ws.store();
    let old = find_subscription(req, &store)?;
    same_etag(req.query("etag"), &old)?;
    store.remove(SUBSCRIPTION, req.param("subscription"));
    done()
}
