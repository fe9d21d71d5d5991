//! Which workspaces may see an isolated securable (section 3.8, `workspace_bindings`).
//!
//! <https://docs.databricks.com/api/workspace/workspacebindings>

use serde_json::{Value, json};

use super::{BASE, CATALOG, CREDENTIAL, LOCATION, Row, Uc, open};
use crate::errors::ApiError;
use crate::reply::{Reply, Req, ok};
use crate::router::Routes;
use crate::state::Store;

/// Lists of bindings by [`key`].
pub(crate) const BINDINGS: &str = "uc_bindings";

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog";
    r.get(&format!("{BASE}/bindings/{{type}}/{{name}}"), family, get);
    r.patch(&format!("{BASE}/bindings/{{type}}/{{name}}"), family, patch);
    r.get(&format!("{BASE}/workspace-bindings/catalogs/{{name}}"), family, get_old);
    r.patch(&format!("{BASE}/workspace-bindings/catalogs/{{name}}"), family, patch_old);
}

pub(crate) fn key(securable: &str, name: &str) -> String {
    format!("{securable}/{name}")
}

fn row(name: &str) -> Result<&'static Row, ApiError> {
    [&CATALOG, &CREDENTIAL, &LOCATION].into_iter().find(|r| r.securable == name).ok_or_else(|| {
        ApiError::invalid(format!("Securable type '{name}' does not support workspace bindings."))
    })
}

fn list(uc: &Uc<'_>, row: &Row, name: &str) -> Result<Vec<Value>, ApiError> {
    let name = name.to_lowercase();
    // Read whether or not the securable is bound here: this is how a caller finds out.
    let item = uc.store.get(row.kind, &name).ok_or_else(|| super::absent(row, &name))?;
    let bindings = uc.store.get(BINDINGS, &key(row.securable, &name));
    let isolated = item["isolation_mode"].as_str().is_some_and(|m| m.ends_with("ISOLATED"));
    // Section 3.8: consulted only if the isolation mode is ISOLATED.
    Ok(bindings.filter(|_| isolated).and_then(|b| b.as_array().cloned()).unwrap_or_default())
}

fn get(req: &Req) -> Reply {
    let uc = open(req)?;
    ok(json!({"bindings": list(&uc, row(req.param("type"))?, req.param("name"))?}))
}

fn get_old(req: &Req) -> Reply {
    let uc = open(req)?;
    let ids: Vec<Value> =
        list(&uc, &CATALOG, req.param("name"))?.iter().map(|b| b["workspace_id"].clone()).collect();
    ok(json!({"workspaces": ids}))
}

fn patch(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let row = row(req.param("type"))?;
    let body = req.json()?;
    let given = |field: &str| body.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let bindings = change(&mut uc, row, req.param("name"), &given("add"), &given("remove"))?;
    ok(json!({"bindings": bindings}))
}

fn patch_old(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let body = req.json()?;
    let given = |field: &str| -> Vec<Value> {
        let ids = body.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        ids.into_iter().map(|id| json!({"workspace_id": id})).collect()
    };
    let bindings = change(
        &mut uc,
        &CATALOG,
        req.param("name"),
        &given("assign_workspaces"),
        &given("unassign_workspaces"),
    )?;
    let ids: Vec<Value> = bindings.iter().map(|b| b["workspace_id"].clone()).collect();
    ok(json!({"workspaces": ids}))
}

fn change(
    uc: &mut Uc<'_>,
    row: &Row,
    name: &str,
    add: &[Value],
    remove: &[Value],
) -> Result<Vec<Value>, ApiError> {
    let mut bindings = list(uc, row, name)?;
    for gone in remove {
        bindings.retain(|b| b["workspace_id"] != gone["workspace_id"]);
    }
    for new in add {
        bindings.retain(|b| b["workspace_id"] != new["workspace_id"]);
        let mode = new.get("binding_type").cloned().unwrap_or_else(|| json!("BINDING_TYPE_READ_WRITE"));
        bindings.push(json!({"workspace_id": new["workspace_id"], "binding_type": mode}));
    }
    uc.store.put(BINDINGS, &key(row.securable, &name.to_lowercase()), &json!(bindings));
    Ok(bindings)
}

/// Section 3.8: setting ISOLATED binds the calling workspace by itself.
pub(super) fn bind_caller(uc: &mut Uc<'_>, row: &Row, name: &str) {
    let here = uc.req.ws.id;
    bind(&mut uc.store, row.securable, name, here);
}

/// Binds one workspace, if it is not bound yet.
pub(crate) fn bind(store: &mut Store, securable: &str, name: &str, workspace: u64) {
    let key = key(securable, name);
    let mut bindings = store.get(BINDINGS, &key).and_then(|b| b.as_array().cloned()).unwrap_or_default();
    if !bindings.iter().any(|b| b["workspace_id"] == workspace) {
        bindings.push(json!({"workspace_id": workspace, "binding_type": "BINDING_TYPE_READ_WRITE"}));
        store.put(BINDINGS, &key, &json!(bindings));
    }
}

pub(super) fn moved(store: &mut Store, securable: &str, old: &str, new: &str) {
    if let Some(bindings) = store.remove(BINDINGS, &key(securable, old)) {
        store.put(BINDINGS, &key(securable, new), &bindings);
    }
}
