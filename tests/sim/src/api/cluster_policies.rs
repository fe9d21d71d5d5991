//! Cluster policies and policy families (reference section 3.2).
//!
//! <https://docs.databricks.com/api/workspace/clusterpolicies>

use serde_json::{Map, Value, json};

use crate::errors::ApiError;
use crate::paging;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;

/// Name of the documents in the store.
pub(crate) const POLICY: &str = "cluster_policy";

/// The built-in families: id, name, definition.
pub(crate) const FAMILIES: [(&str, &str, &str); 4] = [
    (
        "personal-vm",
        "Personal Compute",
        r#"{"cluster_type":{"type":"fixed","value":"all-purpose"},"num_workers":{"type":"fixed","value":0,"hidden":true}}"#,
    ),
    (
        "job-cluster",
        "Job Compute",
        r#"{"cluster_type":{"type":"fixed","value":"job"},"spark_version":{"type":"unlimited","defaultValue":"auto:latest-lts"}}"#,
    ),
    (
        "power-user",
        "Power User Compute",
        r#"{"cluster_type":{"type":"fixed","value":"all-purpose"},"autotermination_minutes":{"type":"unlimited","defaultValue":4320}}"#,
    ),
    (
        "shared-compute",
        "Shared Compute",
        r#"{"data_security_mode":{"type":"fixed","value":"USER_ISOLATION","hidden":true},"cluster_type":{"type":"fixed","value":"all-purpose"}}"#,
    ),
];

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/policies/clusters/list", "policies", list);
    r.get("/api/2.0/policies/clusters/get", "policies", get);
    r.post("/api/2.0/policies/clusters/create", "policies", create);
    r.post("/api/2.0/policies/clusters/edit", "policies", edit);
    r.post("/api/2.0/policies/clusters/delete", "policies", delete);
    r.get("/api/2.0/policy-families", "policies", families);
    r.get("/api/2.0/policy-families/{id}", "policies", family);
}

fn list(req: &Req) -> Reply {
    let mut policies = paging::visible(req, &req.ws.store(), POLICY);
    let by_name = |p: &Value| p["name"].as_str().unwrap_or_default().to_lowercase();
    match (req.query("sort_column"), req.query("sort_order")) {
        (Some("POLICY_NAME"), order) => {
            policies.sort_by_key(by_name);
            if order == Some("DESC") {
                policies.reverse();
            }
        }
        (_, Some("ASC")) => {}
        // Newest first unless told otherwise.
        _ => policies.reverse(),
    }
    let total = policies.len();
    ok(json!({"policies": policies, "total_count": total}))
}

fn get(req: &Req) -> Reply {
    let id = req.need("policy_id")?;
    let policy = req.ws.store().get(POLICY, &id);
    ok(policy.ok_or_else(|| absent(&id))?)
}

fn create(req: &Req) -> Reply {
    let name = req.need("name")?;
    let mut policy = req.json()?;
    settle_definition(&mut policy)?;
    let mut store = req.ws.store();
    taken(&store.all(POLICY), &name, None)?;
    let id = req.ws.fresh().hex(16).to_uppercase();
    policy.insert("policy_id".to_owned(), json!(id));
    policy.insert("creator_user_name".to_owned(), json!(req.caller.name));
    policy.insert("created_at_timestamp".to_owned(), json!(req.now()));
    policy.insert("is_default".to_owned(), json!(false));
    store.put(POLICY, &id, &Value::Object(policy));
    ok(json!({"policy_id": id}))
}

fn edit(req: &Req) -> Reply {
    let id = req.need("policy_id")?;
    let mut policy = req.json()?;
    let mut store = req.ws.store();
    let old = store.get(POLICY, &id).ok_or_else(|| absent(&id))?;
    if old["is_default"] == true && policy.get("name").is_some_and(|n| *n != old["name"]) {
        return Err(ApiError::denied("The name of a default policy cannot be changed."));
    }
    if let Some(name) = policy.get("name").and_then(Value::as_str) {
        taken(&store.all(POLICY), name, Some(&id))?;
    }
    if policy.get("policy_family_id").is_none()
        && policy.get("definition").is_none()
        && !old["policy_family_id"].is_null()
    {
        policy.insert("policy_family_id".to_owned(), old["policy_family_id"].clone());
    }
    settle_definition(&mut policy)?;
    for field in ["creator_user_name", "created_at_timestamp", "is_default"] {
        policy.insert(field.to_owned(), old[field].clone());
    }
    policy.entry("name").or_insert_with(|| old["name"].clone());
    store.put(POLICY, &id, &Value::Object(policy));
    done()
}

fn delete(req: &Req) -> Reply {
    let id = req.need("policy_id")?;
    let mut store = req.ws.store();
    let policy = store.get(POLICY, &id).ok_or_else(|| absent(&id))?;
    if policy["is_default"] == true {
        return Err(ApiError::denied("Default policies cannot be deleted."));
    }
    store.remove(POLICY, &id);
    done()
}

/// Section 3.2: either a definition or a family, not both; a family's definition is made by the server.
fn settle_definition(policy: &mut Map<String, Value>) -> Result<(), ApiError> {
    let text = |p: &Map<String, Value>, f: &str| p.get(f).and_then(Value::as_str).map(str::to_owned);
    let parse = |field: &str, text: &str| -> Result<Map<String, Value>, ApiError> {
        serde_json::from_str(text).map_err(|e| ApiError::invalid(format!("Invalid JSON in {field}: {e}")))
    };
    match (text(policy, "definition"), text(policy, "policy_family_id")) {
        (Some(_), Some(_)) => Err(ApiError::invalid("Cannot set both definition and policy_family_id.")),
        (Some(definition), None) => parse("definition", &definition).map(|_| ()),
        (None, Some(family)) => {
            let Some((_, _, base)) = FAMILIES.iter().find(|f| f.0 == family) else {
                return Err(ApiError::invalid(format!("Policy family {family} does not exist.")));
            };
            let mut merged = parse("definition", base)?;
            if let Some(overrides) = text(policy, "policy_family_definition_overrides") {
                merged.extend(parse("policy_family_definition_overrides", &overrides)?);
            }
            policy.insert("definition".to_owned(), json!(Value::Object(merged).to_string()));
            Ok(())
        }
        (None, None) => Err(ApiError::invalid("Either definition or policy_family_id is required.")),
    }
}

fn taken(policies: &[Value], name: &str, but: Option<&str>) -> Result<(), ApiError> {
    if policies.iter().any(|p| p["name"] == name && but.is_none_or(|id| p["policy_id"] != id)) {
        return Err(ApiError::invalid(format!("Policy name {name} is already in use.")));
    }
    Ok(())
}

fn absent(id: &str) -> ApiError {
    ApiError::absent(format!("Can't find a cluster policy with id: {id}."))
}

fn family_body(f: &(&str, &str, &str)) -> Value {
    json!({"policy_family_id": f.0, "name": f.1, "description": format!("{} clusters", f.1), "definition": f.2})
}

fn families(_: &Req) -> Reply {
    ok(json!({"policy_families": FAMILIES.iter().map(family_body).collect::<Vec<_>>()}))
}

fn family(req: &Req) -> Reply {
    let found = FAMILIES.iter().find(|f| f.0 == req.param("id"));
    ok(family_body(
        found
            .ok_or_else(|| ApiError::absent(format!("Policy family {} does not exist.", req.param("id"))))?,
    ))
}
