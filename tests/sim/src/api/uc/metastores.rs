//! The metastore itself, its assignment to workspaces, and its system schemas (section 3.8).
//!
//! <https://docs.databricks.com/api/workspace/metastores>

use serde_json::{Value, json};

use super::{BASE, managed_root, open};
use crate::errors::ApiError;
use crate::identity::OPERATOR;
use crate::population::EPOCH_MS;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::sim::Cloud;
use crate::state::Workspace;

/// The document of a workspace that is attached to its metastore.
pub(crate) const ASSIGNMENT: &str = "metastore_assignment";

/// What PATCH changed, kept apart from what is derived.
const SETTINGS: &str = "metastore_settings";

const SYSTEM_SCHEMAS: &str = "system_schema";

/// Schemas of the catalog `system` that can be enabled.
const KNOWN_SYSTEM_SCHEMAS: [&str; 5] = ["access", "billing", "compute", "lakeflow", "query"];

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog";
    r.get(&format!("{BASE}/metastore_summary"), family, summary);
    r.get(&format!("{BASE}/current-metastore-assignment"), family, current);
    r.get(&format!("{BASE}/metastores"), family, list);
    r.get(&format!("{BASE}/metastores/{{id}}"), family, get);
    r.patch(&format!("{BASE}/metastores/{{id}}"), family, patch);
    r.put(&format!("{BASE}/workspaces/{{workspace}}/metastore"), family, put_assignment);
    r.patch(&format!("{BASE}/workspaces/{{workspace}}/metastore"), family, put_assignment);
    r.delete(&format!("{BASE}/workspaces/{{workspace}}/metastore"), family, unassign);
    r.get(&format!("{BASE}/metastores/{{id}}/systemschemas"), family, system_schemas);
    r.put(&format!("{BASE}/metastores/{{id}}/systemschemas/{{schema}}"), family, enable_schema);
    r.delete(&format!("{BASE}/metastores/{{id}}/systemschemas/{{schema}}"), family, disable_schema);
}

/// Attaches a workspace to its metastore.
pub(crate) fn assign(ws: &Workspace) {
    let assignment = json!({
        "metastore_id": ws.metastore.id, "workspace_id": ws.id.to_string(), "default_catalog_name": "main",
    });
    ws.store().put(ASSIGNMENT, &ws.id.to_string(), &assignment);
}

fn region(cloud: Cloud) -> (&'static str, &'static str) {
    match cloud {
        Cloud::Aws => ("aws", "eu-central-1"),
        Cloud::Azure => ("azure", "westeurope"),
        Cloud::Gcp => ("gcp", "europe-west3"),
    }
}

fn body(req: &Req) -> Value {
    let ms = &req.ws.metastore;
    let (cloud, region) = region(req.ws.cloud);
    let mut body = json!({
        "metastore_id": ms.id, "name": ms.name, "cloud": cloud, "region": region,
        "global_metastore_id": format!("{cloud}:{region}:{}", ms.id),
        "storage_root": managed_root(&req.ws), "owner": OPERATOR, "privilege_model_version": "1.0",
        "delta_sharing_scope": "INTERNAL", "external_access_enabled": false,
        "created_at": EPOCH_MS, "created_by": OPERATOR, "updated_at": EPOCH_MS, "updated_by": OPERATOR,
    });
    if let Some(Value::Object(changed)) = ms.store().get(SETTINGS, &ms.id) {
        for (field, value) in changed {
            body[field] = value;
        }
    }
    body
}

fn summary(req: &Req) -> Reply {
    drop(open(req)?);
    ok(body(req))
}

fn current(req: &Req) -> Reply {
    drop(open(req)?);
    ok(req.ws.store().get(ASSIGNMENT, &req.ws.id.to_string()).unwrap_or_default())
}

fn list(req: &Req) -> Reply {
    drop(open(req)?);
    ok(json!({"metastores": [body(req)]}))
}

fn own(req: &Req) -> Result<(), ApiError> {
    drop(open(req)?);
    let id = req.param("id");
    if id == req.ws.metastore.id {
        return Ok(());
    }
    Err(ApiError::new(404, "METASTORE_DOES_NOT_EXIST", format!("Metastore '{id}' does not exist.")))
}

fn get(req: &Req) -> Reply {
    own(req)?;
    ok(body(req))
}

fn patch(req: &Req) -> Reply {
    own(req)?;
    let given = req.json()?;
    let ms = &req.ws.metastore;
    let mut changed = ms.store().get(SETTINGS, &ms.id).unwrap_or_else(|| json!({}));
    for field in [
        "owner",
        "delta_sharing_scope",
        "delta_sharing_recipient_token_lifetime_in_seconds",
        "delta_sharing_organization_name",
        "external_access_enabled",
        "privilege_model_version",
        "storage_root_credential_id",
    ] {
        if let Some(value) = given.get(field) {
            changed[field] = value.clone();
        }
    }
    if let Some(name) = given.get("new_name") {
        changed["name"] = name.clone();
    }
    changed["updated_at"] = json!(req.now());
    changed["updated_by"] = json!(req.caller.name);
    ms.store().put(SETTINGS, &ms.id, &changed);
    ok(body(req))
}

/// The workspace of the path, which must be this one.
fn this_workspace(req: &Req) -> Result<String, ApiError> {
    req.admin()?;
    let id = req.param("workspace").to_owned();
    if id == req.ws.id.to_string() {
        return Ok(id);
    }
    Err(ApiError::new(404, "WORKSPACE_DOES_NOT_EXIST", format!("Workspace {id} does not exist.")))
}

fn put_assignment(req: &Req) -> Reply {
    let id = this_workspace(req)?;
    let given = req.json()?;
    if given.get("metastore_id").is_some_and(|m| *m != req.ws.metastore.id) {
        return Err(ApiError::new(404, "METASTORE_DOES_NOT_EXIST", "Metastore does not exist."));
    }
    assign(&req.ws);
    if let Some(catalog) = given.get("default_catalog_name") {
        req.ws.store().edit(ASSIGNMENT, &id, |a| a["default_catalog_name"] = catalog.clone());
    }
    done()
}

fn unassign(req: &Req) -> Reply {
    let id = this_workspace(req)?;
    let removed = req.ws.store().remove(ASSIGNMENT, &id);
    if removed.is_some() { done() } else { Err(ApiError::absent("No metastore is assigned.")) }
}

fn system_schemas(req: &Req) -> Reply {
    own(req)?;
    let store = req.ws.metastore.store();
    let schemas: Vec<Value> = KNOWN_SYSTEM_SCHEMAS
        .iter()
        .map(|s| {
            let on = store.contains(SYSTEM_SCHEMAS, s);
            json!({"schema": s, "state": if on { "ENABLE_COMPLETED" } else { "AVAILABLE" }})
        })
        .collect();
    ok(json!({"schemas": schemas}))
}

fn known_schema(req: &Req) -> Result<String, ApiError> {
    own(req)?;
    let schema = req.param("schema").to_owned();
    if KNOWN_SYSTEM_SCHEMAS.contains(&schema.as_str()) {
        return Ok(schema);
    }
    Err(ApiError::absent(format!("System schema '{schema}' does not exist.")))
}

fn enable_schema(req: &Req) -> Reply {
    let schema = known_schema(req)?;
    req.ws.metastore.store().put(SYSTEM_SCHEMAS, &schema, &json!({}));
    done()
}

fn disable_schema(req: &Req) -> Reply {
    let schema = known_schema(req)?;
    req.ws.metastore.store().remove(SYSTEM_SCHEMAS, &schema);
    done()
}
