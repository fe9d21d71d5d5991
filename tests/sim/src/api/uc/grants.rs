//! Grants on securables (section 3.8, `grants`).
//!
//! <https://docs.databricks.com/api/workspace/grants>

use serde_json::{Map, Value, json};

use super::page::{cut, size};
use super::{BASE, CATALOG, Level, ROWS, SCHEMA, Uc, absent, open};
use crate::api::scim::{self, GROUP, PRINCIPAL, USER};
use crate::errors::ApiError;
use crate::identity::{CLIENT, OPERATOR};
use crate::paging::Page;
use crate::reply::{Reply, Req, ok};
use crate::rng::{self, Rng};
use crate::router::Routes;
use crate::state::{Doc, Store};

/// Grants by [`key`]: an object from principal to its privileges.
pub(crate) const GRANTS: &str = "uc_grants";

/// What can be granted on each type.
const PRIVILEGES: [(&str, &[&str]); 9] = [
    (
        "metastore",
        &[
            "CREATE_CATALOG",
            "CREATE_CONNECTION",
            "CREATE_EXTERNAL_LOCATION",
            "CREATE_PROVIDER",
            "CREATE_RECIPIENT",
            "CREATE_SHARE",
            "CREATE_STORAGE_CREDENTIAL",
            "CREATE_SERVICE_CREDENTIAL",
            "CREATE_CLEAN_ROOM",
            "MANAGE_ALLOWLIST",
            "SET_SHARE_PERMISSION",
            "USE_MARKETPLACE_ASSETS",
            "USE_CONNECTION",
            "USE_PROVIDER",
            "USE_RECIPIENT",
            "USE_SHARE",
        ],
    ),
    ("catalog", &CATALOG_PRIVILEGES),
    ("schema", &CATALOG_PRIVILEGES),
    ("table", &["ALL_PRIVILEGES", "APPLY_TAG", "BROWSE", "MANAGE", "MODIFY", "REFRESH", "SELECT"]),
    ("volume", &["ALL_PRIVILEGES", "APPLY_TAG", "BROWSE", "MANAGE", "READ_VOLUME", "WRITE_VOLUME"]),
    ("function", &["ALL_PRIVILEGES", "APPLY_TAG", "BROWSE", "CREATE_MODEL_VERSION", "EXECUTE", "MANAGE"]),
    (
        "external_location",
        &[
            "ALL_PRIVILEGES",
            "BROWSE",
            "CREATE_EXTERNAL_TABLE",
            "CREATE_EXTERNAL_VOLUME",
            "CREATE_FOREIGN_SECURABLE",
            "CREATE_MANAGED_STORAGE",
            "EXTERNAL_USE_LOCATION",
            "MANAGE",
            "READ_FILES",
            "WRITE_FILES",
        ],
    ),
    (
        "storage_credential",
        &[
            "ALL_PRIVILEGES",
            "CREATE_EXTERNAL_LOCATION",
            "CREATE_EXTERNAL_TABLE",
            "MANAGE",
            "READ_FILES",
            "WRITE_FILES",
        ],
    ),
    ("connection", &["ALL_PRIVILEGES", "CREATE_FOREIGN_CATALOG", "MANAGE", "USE_CONNECTION"]),
];

const CATALOG_PRIVILEGES: [&str; 20] = [
    "ALL_PRIVILEGES",
    "APPLY_TAG",
    "BROWSE",
    "CREATE_FUNCTION",
    "CREATE_MATERIALIZED_VIEW",
    "CREATE_MODEL",
    "CREATE_MODEL_VERSION",
    "CREATE_SCHEMA",
    "CREATE_TABLE",
    "CREATE_VOLUME",
    "EXECUTE",
    "EXTERNAL_USE_SCHEMA",
    "MANAGE",
    "MODIFY",
    "READ_VOLUME",
    "REFRESH",
    "SELECT",
    "USE_CATALOG",
    "USE_SCHEMA",
    "WRITE_VOLUME",
];

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog.permissions";
    r.get(&format!("{BASE}/permissions/{{type}}/{{full_name}}"), family, get);
    r.patch(&format!("{BASE}/permissions/{{type}}/{{full_name}}"), family, patch);
    r.get(&format!("{BASE}/privilege-assignments/{{type}}/{{full_name}}"), family, assignments);
    r.get(&format!("{BASE}/effective-permissions/{{type}}/{{full_name}}"), family, effective);
}

pub(crate) fn key(securable: &str, full_name: &str) -> String {
    format!("{securable}/{full_name}")
}

pub(super) fn moved(store: &mut Store, securable: &str, old: &str, new: &str) {
    if let Some(grants) = store.remove(GRANTS, &key(securable, old)) {
        store.put(GRANTS, &key(securable, new), &grants);
    }
}

/// The securable of a request: its type in lower case and its key.
fn securable(uc: &Uc<'_>, kind: &str, full_name: &str) -> Result<(String, String), ApiError> {
    let kind = kind.to_lowercase();
    if !PRIVILEGES.iter().any(|p| p.0 == kind) {
        return Err(ApiError::invalid(format!("SECURABLE_TYPE '{kind}' is not a valid securable type.")));
    }
    if kind == "metastore" {
        let own = full_name == uc.req.ws.metastore.id;
        return if own {
            Ok((kind.clone(), key(&kind, full_name)))
        } else {
            Err(ApiError::new(
                404,
                "METASTORE_DOES_NOT_EXIST",
                format!("Metastore '{full_name}' does not exist."),
            ))
        };
    }
    let full_name = full_name.to_lowercase();
    let mut rows = ROWS.iter().filter(|r| r.securable == kind);
    let row = rows.clone().find(|r| uc.store.contains(r.kind, &full_name));
    match row.or_else(|| rows.next()) {
        Some(row) => {
            if row.level != Level::Metastore {
                uc.reach(row, &full_name)?;
            }
            if !uc.store.contains(row.kind, &full_name) {
                return Err(absent(row, &full_name));
            }
            Ok((kind.clone(), key(&kind, &full_name)))
        }
        None => Err(absent(&CATALOG, &full_name)),
    }
}

/// The direct grants as documents, in an order that differs from call to call (section 3.8).
fn entries(uc: &Uc<'_>, key: &str) -> Vec<Doc> {
    let grants = uc.store.get(GRANTS, key).unwrap_or_default();
    let only = uc.req.query("principal");
    let map = grants.as_object().cloned().unwrap_or_default();
    (1u64..)
        .zip(map)
        .filter(|(_, (principal, _))| only.is_none_or(|p| p == principal))
        .map(|(seq, (principal, privileges))| Doc {
            seq,
            id: principal.clone(),
            value: json!({"principal": principal, "privileges": privileges}),
        })
        .collect()
}

fn shuffled(uc: &Uc<'_>, mut page: Page, name: &str) -> Value {
    let mut rng = Rng::new(rng::hash(&uc.req.ws.request_id()));
    for i in (1..page.items.len()).rev() {
        let j = usize::try_from(rng.below(i as u64 + 1)).unwrap_or(0);
        page.items.swap(i, j);
    }
    page.body(name)
}

fn get(req: &Req) -> Reply {
    let uc = open(req)?;
    let (_, key) = securable(&uc, req.param("type"), req.param("full_name"))?;
    // Section 3.8: a page size of 1-149 is invalid.
    let size = size(req, "max_results", 150)?;
    let entries = entries(&uc, &key);
    let page = cut(req, &format!("grants/{key}"), size, |after| {
        Box::new(entries.into_iter().filter(move |d| d.seq > after))
    })?;
    ok(shuffled(&uc, page, "privilege_assignments"))
}

/// The newer form of the same, with an ordinary page size.
fn assignments(req: &Req) -> Reply {
    let uc = open(req)?;
    let (_, key) = securable(&uc, req.param("type"), req.param("full_name"))?;
    let size = size(req, "page_size", 1)?.or(Some(100));
    let entries = entries(&uc, &key);
    let page = cut(req, &format!("assignments/{key}"), size, |after| {
        Box::new(entries.into_iter().filter(move |d| d.seq > after))
    })?;
    ok(shuffled(&uc, page, "privilege_assignments"))
}

/// Direct grants and those of what stands above.
fn effective(req: &Req) -> Reply {
    let uc = open(req)?;
    let (kind, key) = securable(&uc, req.param("type"), req.param("full_name"))?;
    let mut chain = vec![(kind.clone(), key)];
    let full_name = req.param("full_name").to_lowercase();
    let parts: Vec<&str> = full_name.split('.').collect();
    if parts.len() == 3 {
        let schema = format!("{}.{}", parts[0], parts[1]);
        chain.push((SCHEMA.securable.to_owned(), self::key(SCHEMA.securable, &schema)));
    }
    if parts.len() > 1 {
        chain.push((CATALOG.securable.to_owned(), self::key(CATALOG.securable, parts[0])));
    }
    let mut by_principal: Map<String, Value> = Map::new();
    for (i, (level, key)) in chain.iter().enumerate() {
        for entry in entries(&uc, key) {
            let list = by_principal.entry(entry.id).or_insert_with(|| json!([]));
            for privilege in entry.value["privileges"].as_array().into_iter().flatten() {
                let mut effective = json!({"privilege": privilege});
                if i > 0 {
                    effective["inherited_from_type"] = json!(level.to_uppercase());
                    effective["inherited_from_name"] = json!(key.split_once('/').map(|k| k.1));
                }
                if let Some(list) = list.as_array_mut() {
                    list.push(effective);
                }
            }
        }
    }
    let items: Vec<Value> =
        by_principal.into_iter().map(|(p, list)| json!({"principal": p, "privileges": list})).collect();
    ok(json!({"privilege_assignments": items}))
}

fn patch(req: &Req) -> Reply {
    let body = req.json()?;
    let mut uc = open(req)?;
    let (kind, key) = securable(&uc, req.param("type"), req.param("full_name"))?;
    let changes = body.get("changes").and_then(Value::as_array).cloned().unwrap_or_default();
    let list = |change: &Value, field: &str| -> Vec<String> {
        let list = change[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let parsed: Vec<Change> = changes
        .iter()
        .map(|c| Change {
            principal: c["principal"].as_str().unwrap_or_default().to_owned(),
            add: list(c, "add"),
            remove: list(c, "remove"),
        })
        .collect();
    apply(&mut uc, &kind, &key, &parsed)?;
    if body.get("omit_permissions_in_response") == Some(&json!(true)) {
        return ok(json!({}));
    }
    let items = entries(&uc, &key).into_iter().map(|d| d.value).collect();
    ok(shuffled(&uc, Page { items, next: None }, "privilege_assignments"))
}

/// What one principal gains and loses.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) principal: String,
    pub(crate) add: Vec<String>,
    pub(crate) remove: Vec<String>,
}

/// Checks all changes, then makes them; also what GRANT and REVOKE do.
pub(crate) fn change(
    uc: &mut Uc<'_>,
    kind: &str,
    full_name: &str,
    changes: &[Change],
) -> Result<(), ApiError> {
    let (kind, key) = securable(uc, kind, full_name)?;
    apply(uc, &kind, &key, changes)
}

fn apply(uc: &mut Uc<'_>, kind: &str, key: &str, changes: &[Change]) -> Result<(), ApiError> {
    for change in changes {
        principal(uc.req, &change.principal)?;
        for privilege in change.add.iter().chain(&change.remove) {
            let allowed =
                PRIVILEGES.iter().find(|p| p.0 == kind).is_some_and(|p| p.1.contains(&privilege.as_str()));
            if !allowed {
                return Err(ApiError::invalid(format!(
                    "Privilege {privilege} is not applicable to this entity [{}:{kind}].",
                    key.split_once('/').map_or("", |k| k.1)
                )));
            }
        }
        // Section 3.8: the same privilege in add and remove of one principal.
        if let Some(both) = change.add.iter().find(|p| change.remove.contains(p)) {
            return Err(ApiError::invalid(format!(
                "Duplicate privileges to add and delete for principal {}: {both}.",
                change.principal
            )));
        }
    }
    let mut grants = uc.store.get(GRANTS, key).and_then(|g| g.as_object().cloned()).unwrap_or_default();
    for change in changes {
        let entry = grants.entry(change.principal.clone()).or_insert_with(|| json!([]));
        let Some(list) = entry.as_array_mut() else { continue };
        list.retain(|p| !change.remove.iter().any(|r| p == r));
        for privilege in &change.add {
            if !list.iter().any(|p| p == privilege) {
                list.push(json!(privilege));
            }
        }
    }
    grants.retain(|_, list| list.as_array().is_some_and(|l| !l.is_empty()));
    uc.store.put(GRANTS, key, &Value::Object(grants));
    Ok(())
}

/// Fails unless a user, a group or an application id of this name exists; the account's principals are
/// those of all workspaces of the metastore.
pub(crate) fn principal(req: &Req, name: &str) -> Result<(), ApiError> {
    let builtin = [OPERATOR, CLIENT, "account users", "System user", req.caller.name.as_str()];
    if builtin.contains(&name) {
        return Ok(());
    }
    let shared =
        req.world.workspaces.iter().filter(|w| std::sync::Arc::ptr_eq(&w.metastore, &req.ws.metastore));
    for ws in shared {
        let store = ws.store();
        let found =
            [USER, GROUP, PRINCIPAL].into_iter().find_map(|kind| scim::id_by_name(&store, kind, name));
        if found.is_some() {
            return Ok(());
        }
    }
    Err(ApiError::new(404, "PRINCIPAL_DOES_NOT_EXIST", format!("Could not find principal with name {name}")))
}

/// A model answers to grants as `function` only (section 3.8).
#[cfg(test)]
mod tests {
    use super::super::{FUNCTION, MODEL};
    use super::*;

    #[test]
    fn models_and_functions_share_a_securable_type() {
        assert_eq!(MODEL.securable, FUNCTION.securable);
    }

    #[test]
    fn every_row_can_be_granted_on() {
        for row in ROWS {
            assert!(PRIVILEGES.iter().any(|p| p.0 == row.securable), "{}", row.kind);
        }
    }
}
