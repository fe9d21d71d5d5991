//! Jobs, 2.1 and 2.2 (reference section 3.4).
//!
//! <https://docs.databricks.com/api/workspace/jobs>

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::api::clusters::CLUSTER;
use crate::api::{permissions, scim};
use crate::errors::ApiError;
use crate::paging::{self, Listing};
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::state::Store;

/// Name of the documents in the store.
pub(crate) const JOB: &str = "job";

/// Elements of one array in one answer (section 3.4).
const PAGE: usize = 100;

/// The arrays that `get` pages.
const ARRAYS: [&str; 4] = ["tasks", "job_clusters", "environments", "parameters"];

pub(crate) fn routes(r: &mut Routes) {
    for v in ["2.1", "2.2"] {
        let path = |name: &str| format!("/api/{v}/jobs/{name}");
        r.get(&path("list"), "jobs", list);
        r.get(&path("get"), "jobs", get);
        r.post(&path("create"), "jobs.create", create);
        r.post(&path("update"), "jobs", update);
        r.post(&path("reset"), "jobs", reset);
        r.post(&path("delete"), "jobs", delete);
        // Runs are not simulated: no job ever ran.
        r.get(&path("runs/list"), "jobs", |_| ok(json!({"has_more": false})));
    }
}

/// Section 2.2: 400 instead of 404.
fn absent(id: &str) -> ApiError {
    ApiError::invalid(format!("Job {id} does not exist."))
}

fn list(req: &Req) -> Reply {
    let limit = req.query("limit").unwrap_or("20");
    // Section 2.5; SDK: between 1 and 100.
    if limit.parse::<usize>().is_ok_and(|l| l > PAGE) {
        return Err(ApiError::invalid(format!(
            "Invalid value {limit} for parameter limit: must be between 1 and 100."
        )));
    }
    let expand = req.flag("expand_tasks");
    let name = req.query("name").map(str::to_lowercase);
    let listing =
        Listing { kind: JOB, parent: None, size: &["limit"], default: 20, max: PAGE, token: "page_token" };
    let skip: usize = req.query("offset").and_then(|o| o.parse().ok()).unwrap_or(0);
    let skipped = std::cell::Cell::new(0);
    let store = req.ws.store();
    let mut page = paging::page(req, &store, &listing, |job| {
        let named = name
            .as_ref()
            .is_none_or(|n| job["settings"]["name"].as_str().is_some_and(|j| j.to_lowercase() == *n));
        if named && skipped.get() < skip {
            skipped.set(skipped.get() + 1);
            return false;
        }
        named
    })?;
    for job in &mut page.items {
        let Some(map) = job.as_object_mut() else { continue };
        map.shift_remove("run_as_user_name");
        let Some(settings) = map.get_mut("settings").and_then(Value::as_object_mut) else { continue };
        if !expand {
            ARRAYS.iter().for_each(|a| drop(settings.shift_remove(*a)));
            continue;
        }
        let mut more = false;
        for array in ARRAYS {
            if let Some(all) = settings.get_mut(array).and_then(Value::as_array_mut) {
                more |= all.len() > PAGE;
                all.truncate(PAGE);
            }
        }
        if more {
            map.insert("has_more".to_owned(), json!(true));
        }
    }
    let more = page.next.is_some();
    let mut body = page.body("jobs");
    body["has_more"] = json!(more);
    ok(body)
}

/// Arrays come 100 elements at a time; later pages give `[]` for those that are finished (section 3.4).
fn get(req: &Req) -> Reply {
    let id = req.need("job_id")?;
    let mut job = req.ws.store().get(JOB, &id).ok_or_else(|| absent(&id))?;
    let label = format!("job {id}");
    let from = match req.query("page_token").filter(|t| !t.is_empty()) {
        Some(token) => usize::try_from(paging::decode(&label, token)?).unwrap_or(0),
        None => 0,
    };
    let mut more = false;
    if let Some(settings) = job["settings"].as_object_mut() {
        for array in ARRAYS {
            if let Some(all) = settings.get_mut(array).and_then(Value::as_array_mut) {
                more |= all.len() > from + PAGE;
                *all = all.iter().skip(from).take(PAGE).cloned().collect();
            }
        }
        // Section 3.4: the order of depends_on is the server's own.
        for task in settings.get_mut("tasks").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(depends) = task.get_mut("depends_on").and_then(Value::as_array_mut) {
                depends.reverse();
            }
        }
    }
    // 2.1 has no pages: it shows the first hundred tasks.
    if more && req.path.starts_with("/api/2.2/") {
        job["has_more"] = json!(true);
        job["next_page_token"] = json!(paging::encode(&label, (from + PAGE) as u64));
    }
    ok(job)
}

fn create(req: &Req) -> Reply {
    let mut settings = req.json()?;
    let acl =
        settings.shift_remove("access_control_list").and_then(|a| a.as_array().cloned()).unwrap_or_default();
    let mut store = req.ws.store();
    check(req, &store, &settings)?;
    let number = req.ws.fresh_number();
    let id = number.to_string();
    store.put(JOB, &id, &build(settings, number, &req.caller.name, req.now()));
    if !acl.is_empty()
        && let Err(error) = permissions::create_with(&mut store, "jobs", &id, &acl)
    {
        store.remove(JOB, &id);
        return Err(error);
    }
    ok(json!({"job_id": number}))
}

/// A job document: settings with the server's defaults.
pub(crate) fn build(mut settings: Map<String, Value>, id: u64, creator: &str, now_ms: i64) -> Value {
    settings.entry("name").or_insert(json!("Untitled"));
    settings.entry("max_concurrent_runs").or_insert(json!(1));
    settings.entry("timeout_seconds").or_insert(json!(0));
    settings.entry("email_notifications").or_insert_with(|| json!({}));
    settings.entry("webhook_notifications").or_insert_with(|| json!({}));
    settings.insert("format".to_owned(), json!("MULTI_TASK"));
    let run_as = settings
        .get("run_as")
        .and_then(|r| r["user_name"].as_str().or(r["service_principal_name"].as_str()))
        .unwrap_or(creator)
        .to_owned();
    json!({
        "job_id": id, "creator_user_name": creator, "run_as_user_name": run_as, "run_as_owner": run_as == creator,
        "created_time": now_ms, "settings": settings,
    })
}

/// What is wrong with settings.
fn check(req: &Req, store: &Store, settings: &Map<String, Value>) -> Result<(), ApiError> {
    let tasks = settings.get("tasks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // Section 3.4: 2.1 rejects more than 100 tasks; section 2.5: at most 1000.
    let most = if req.path.starts_with("/api/2.1/") { 100 } else { 1000 };
    if tasks.len() > most {
        return Err(ApiError::invalid(format!(
            "The number of tasks ({}) exceeds the maximum of {most}.",
            tasks.len()
        )));
    }
    if let Some(git) = settings.get("git_source")
        && git["git_provider"].as_str().is_none_or(str::is_empty)
    {
        return Err(ApiError::invalid("git_source.git_provider is required."));
    }
    if let Some(run_as) = settings.get("run_as") {
        let name = run_as["user_name"].as_str().or(run_as["service_principal_name"].as_str());
        if let Some(name) = name.filter(|n| scim::principal(store, n).is_none()) {
            return Err(ApiError::invalid(format!("The run_as identity {name} does not exist.")));
        }
    }
    let mut keys: HashSet<&str> = HashSet::new();
    for task in tasks {
        let key = task["task_key"]
            .as_str()
            .filter(|k| !k.is_empty())
            .ok_or_else(|| ApiError::invalid("Missing required field: task_key"))?;
        if !keys.insert(key) {
            return Err(ApiError::invalid(format!("Duplicate task key {key}.")));
        }
    }
    for task in tasks {
        for on in task["depends_on"].as_array().into_iter().flatten() {
            if !on["task_key"].as_str().is_some_and(|k| keys.contains(k)) {
                return Err(ApiError::invalid(format!(
                    "Task {} depends on the unknown task {}.",
                    task["task_key"], on["task_key"]
                )));
            }
        }
        let inner = &task["for_each_task"]["task"];
        for t in [task, inner] {
            if let Some(cluster) = t["existing_cluster_id"].as_str().filter(|c| !store.contains(CLUSTER, c)) {
                return Err(ApiError::invalid(format!("Cluster {cluster} does not exist")));
            }
            if let Some(job) =
                t["run_job_task"]["job_id"].as_u64().filter(|j| !store.contains(JOB, &j.to_string()))
            {
                return Err(ApiError::invalid(format!("Job {job} does not exist.")));
            }
        }
    }
    Ok(())
}

/// `new_settings` and `fields_to_remove`; tasks and job clusters are merged by their keys.
fn update(req: &Req) -> Reply {
    let id = req.need("job_id")?;
    let body = req.json()?;
    let mut store = req.ws.store();
    let old = store.get(JOB, &id).ok_or_else(|| absent(&id))?;
    let mut settings = old["settings"].as_object().cloned().unwrap_or_default();
    for field in
        body.get("fields_to_remove").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        match field.split_once('/') {
            None => drop(settings.shift_remove(field)),
            Some((array, key)) => {
                if let Some(all) = settings.get_mut(array).and_then(Value::as_array_mut) {
                    all.retain(|e| key_of(e) != Some(key));
                }
            }
        }
    }
    for (field, value) in body.get("new_settings").and_then(Value::as_object).into_iter().flatten() {
        match (value, settings.get_mut(field).and_then(Value::as_array_mut)) {
            (Value::Array(new), Some(all)) if ARRAYS.contains(&field.as_str()) => {
                for element in new {
                    match all.iter_mut().find(|e| key_of(e) == key_of(element)) {
                        Some(same) => *same = element.clone(),
                        None => all.push(element.clone()),
                    }
                }
            }
            _ => drop(settings.insert(field.clone(), value.clone())),
        }
    }
    settle(req, &mut store, &id, &old, settings)
}

fn key_of(element: &Value) -> Option<&str> {
    ["task_key", "job_cluster_key", "environment_key", "name"].iter().find_map(|k| element[*k].as_str())
}

fn reset(req: &Req) -> Reply {
    let id = req.need("job_id")?;
    let mut store = req.ws.store();
    // Section 2.2: permission is checked before existence, so a missing job is 403 here.
    let Some(old) = store.get(JOB, &id) else {
        return Err(ApiError::denied(format!(
            "User {} does not have Manage permission on job {id}.",
            req.caller.name
        )));
    };
    let mut settings =
        req.json()?.get("new_settings").and_then(Value::as_object).cloned().unwrap_or_default();
    // Section 3.4: without run_as the old one stays.
    if let (None, Some(run_as)) = (settings.get("run_as"), old["settings"].get("run_as")) {
        settings.insert("run_as".to_owned(), run_as.clone());
    }
    settle(req, &mut store, &id, &old, settings)
}

fn settle(req: &Req, store: &mut Store, id: &str, old: &Value, settings: Map<String, Value>) -> Reply {
    check(req, store, &settings)?;
    let creator = old["creator_user_name"].as_str().unwrap_or_default();
    let new = build(
        settings,
        old["job_id"].as_u64().unwrap_or(0),
        creator,
        old["created_time"].as_i64().unwrap_or(0),
    );
    store.put(JOB, id, &new);
    done()
}

fn delete(req: &Req) -> Reply {
    let id = req.need("job_id")?;
    let mut store = req.ws.store();
    store.remove(JOB, &id).ok_or_else(|| absent(&id))?;
    permissions::forget(&mut store, "jobs", &id);
    done()
}
