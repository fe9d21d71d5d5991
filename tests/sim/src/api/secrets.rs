//! Secret scopes, keys and ACLs (section 3.6).
//!
//! <https://docs.databricks.com/api/workspace/secrets>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::errors::ApiError;
use crate::paging;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::sim::Cloud;
use crate::state::Store;

/// Scopes by name.
pub(crate) const SCOPE: &str = "secret_scope";

/// Keys by `scope/key`; their parent is the scope. Values are not kept at all.
pub(crate) const SECRET: &str = "secret";

/// ACL entries by `scope/principal`; their parent is the scope.
pub(crate) const SECRET_ACL: &str = "secret_acl";

/// Section 2.5: the most secrets in a scope.
const MAX_SECRETS: usize = 1000;

/// Section 2.5: the largest value, in bytes.
const MAX_VALUE: usize = 128 << 10;

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/secrets/scopes/list", "secrets", list_scopes);
    r.post("/api/2.0/secrets/scopes/create", "secrets", create_scope);
    r.post("/api/2.0/secrets/scopes/delete", "secrets", delete_scope);
    r.get("/api/2.0/secrets/list", "secrets", list);
    r.get("/api/2.0/secrets/get", "secrets", get);
    r.post("/api/2.0/secrets/put", "secrets", put);
    r.post("/api/2.0/secrets/delete", "secrets", delete);
    r.get("/api/2.0/secrets/acls/list", "secrets", list_acls);
    r.get("/api/2.0/secrets/acls/get", "secrets", get_acl);
    r.post("/api/2.0/secrets/acls/put", "secrets", put_acl);
    r.post("/api/2.0/secrets/acls/delete", "secrets", delete_acl);
}

fn list_scopes(req: &Req) -> Reply {
    ok(json!({"scopes": paging::visible(req, &req.ws.store(), SCOPE)}))
}

fn create_scope(req: &Req) -> Reply {
    let name = req.need("scope")?;
    valid(&name, "Scope name")?;
    let body = req.json()?;
    let mut store = req.ws.store();
    if store.contains(SCOPE, &name) {
        return Err(ApiError::new(400, "RESOURCE_ALREADY_EXISTS", format!("Scope {name} already exists!")));
    }
    let vault = body.get("scope_backend_type") == Some(&json!("AZURE_KEYVAULT"));
    if vault && req.ws.cloud != Cloud::Azure {
        return Err(ApiError::invalid("Azure Key Vault is only supported on Azure."));
    }
    // Section 3.6: a Key Vault scope wants an Entra token, which a static one is not.
    if vault && req.headers.get("authorization").is_some_and(|h| h.as_bytes() == b"Bearer sim") {
        return Err(ApiError::denied(
            "Scope with Azure KeyVault must have userAADToken defined! Personal access tokens are not supported.",
        ));
    }
    let everybody = match body.get("initial_manage_principal").and_then(Value::as_str) {
        None | Some("") => false,
        // Section 3.6: only this value is accepted.
        Some("users") => true,
        Some(other) => {
            return Err(ApiError::invalid(format!(
                "Invalid initial_manage_principal {other}: only users is supported."
            )));
        }
    };
    let mut scope =
        json!({"name": name, "backend_type": if vault { "AZURE_KEYVAULT" } else { "DATABRICKS" }});
    if vault && let Some(keyvault) = body.get("backend_azure_keyvault") {
        scope["keyvault_metadata"] =
            json!({"resource_id": keyvault["resource_id"], "dns_name": keyvault["dns_name"]});
    }
    store.put(SCOPE, &name, &scope);
    // Section 3.6: the creator gets MANAGE.
    let manager = if everybody { "users" } else { req.caller.name.as_str() };
    grant(&mut store, &name, manager, "MANAGE");
    done()
}

/// Sets one entry; also what populations use.
pub(crate) fn grant(store: &mut Store, scope: &str, principal: &str, permission: &str) {
    let entry = json!({"principal": principal, "permission": permission});
    store.put_under(SECRET_ACL, &format!("{scope}/{principal}"), scope, &entry);
}

fn delete_scope(req: &Req) -> Reply {
    let name = req.need("scope")?;
    let mut store = req.ws.store();
    known(&store, &name)?;
    remove_scope(&mut store, &name);
    done()
}

/// Removes a scope with its keys and entries; false if there is none.
pub(crate) fn remove_scope(store: &mut Store, name: &str) -> bool {
    for kind in [SECRET, SECRET_ACL] {
        let below: Vec<String> = store.scan(kind, Some(name), 0).map(|d| d.id).collect();
        for id in below {
            store.remove(kind, &id);
        }
    }
    store.remove(SCOPE, name).is_some()
}

fn known(store: &Store, scope: &str) -> Result<Value, ApiError> {
    store.get(SCOPE, scope).ok_or_else(|| ApiError::absent(format!("Scope {scope} does not exist!")))
}

/// Section 3.6: keys and times, never values.
fn list(req: &Req) -> Reply {
    let scope = req.need("scope")?;
    let store = req.ws.store();
    known(&store, &scope)?;
    let secrets: Vec<Value> = store.scan(SECRET, Some(&scope), 0).map(|d| d.value).collect();
    ok(if secrets.is_empty() { json!({}) } else { json!({"secrets": secrets}) })
}

/// Section 3.6: documented as for DBUtils only; here it is always refused, and nothing is kept to give.
fn get(req: &Req) -> Reply {
    let (scope, key) = (req.need("scope")?, req.need("key")?);
    let store = req.ws.store();
    known(&store, &scope)?;
    known_key(&store, &scope, &key)?;
    Err(ApiError::new(400, "BAD_REQUEST", "Secrets can be read from DBUtils only."))
}

fn known_key(store: &Store, scope: &str, key: &str) -> Result<(), ApiError> {
    if store.contains(SECRET, &format!("{scope}/{key}")) {
        return Ok(());
    }
    Err(ApiError::absent(format!("Secret does not exist with scope: {scope} and key: {key}")))
}

fn put(req: &Req) -> Reply {
    let (scope, key) = (req.need("scope")?, req.need("key")?);
    valid(&key, "Key")?;
    let body = req.json()?;
    let length = match (body.get("string_value"), body.get("bytes_value")) {
        (Some(Value::String(text)), None) => text.len(),
        (None, Some(Value::String(bytes))) => {
            let bytes = STANDARD.decode(bytes);
            bytes.map_err(|_| ApiError::new(400, "MALFORMED_REQUEST", "bytes_value is not base64."))?.len()
        }
        _ => {
            return Err(ApiError::new(
                400,
                "MALFORMED_REQUEST",
                "Exactly one of string_value and bytes_value must be given.",
            ));
        }
    };
    if length > MAX_VALUE {
        return Err(ApiError::invalid(format!("Secret value exceeds {MAX_VALUE} bytes.")));
    }
    let mut store = req.ws.store();
    if known(&store, &scope)?["backend_type"] == "AZURE_KEYVAULT" {
        // Section 3.6: Key Vault scopes are read-only.
        return Err(ApiError::new(
            400,
            "BAD_REQUEST",
            "Cannot write secrets to Azure KeyVault-backed scope.",
        ));
    }
    let id = format!("{scope}/{key}");
    if !store.contains(SECRET, &id) && store.scan(SECRET, Some(&scope), 0).count() >= MAX_SECRETS {
        return Err(ApiError::new(
            400,
            "RESOURCE_LIMIT_EXCEEDED",
            format!("Scope {scope} already has {MAX_SECRETS} secrets."),
        ));
    }
    store.put_under(SECRET, &id, &scope, &json!({"key": key, "last_updated_timestamp": req.now()}));
    done()
}

fn delete(req: &Req) -> Reply {
    let (scope, key) = (req.need("scope")?, req.need("key")?);
    let mut store = req.ws.store();
    known(&store, &scope)?;
    known_key(&store, &scope, &key)?;
    store.remove(SECRET, &format!("{scope}/{key}"));
    done()
}

fn list_acls(req: &Req) -> Reply {
    let scope = req.need("scope")?;
    let store = req.ws.store();
    known(&store, &scope)?;
    let items: Vec<Value> = store.scan(SECRET_ACL, Some(&scope), 0).map(|d| d.value).collect();
    ok(if items.is_empty() { json!({}) } else { json!({"items": items}) })
}

fn get_acl(req: &Req) -> Reply {
    let (scope, principal) = (req.need("scope")?, req.need("principal")?);
    let store = req.ws.store();
    known(&store, &scope)?;
    let entry = store.get(SECRET_ACL, &format!("{scope}/{principal}"));
    ok(entry.ok_or_else(|| no_entry(&scope, &principal))?)
}

fn no_entry(scope: &str, principal: &str) -> ApiError {
    ApiError::absent(format!("ACL for principal {principal} in scope {scope} does not exist!"))
}

fn put_acl(req: &Req) -> Reply {
    let (scope, principal, permission) =
        (req.need("scope")?, req.need("principal")?, req.need("permission")?);
    if !["READ", "WRITE", "MANAGE"].contains(&permission.as_str()) {
        return Err(ApiError::invalid(format!("{permission} is not a valid permission.")));
    }
    known(&req.ws.store(), &scope)?;
    if super::uc::grants::principal(req, &principal).is_err() {
        return Err(ApiError::absent(format!("Principal {principal} does not exist!")));
    }
    grant(&mut req.ws.store(), &scope, &principal, &permission);
    done()
}

fn delete_acl(req: &Req) -> Reply {
    let (scope, principal) = (req.need("scope")?, req.need("principal")?);
    let mut store = req.ws.store();
    known(&store, &scope)?;
    store.remove(SECRET_ACL, &format!("{scope}/{principal}")).ok_or_else(|| no_entry(&scope, &principal))?;
    done()
}

/// Section 2.5: at most 128 characters of a small alphabet.
fn valid(name: &str, what: &str) -> Result<(), ApiError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.len() > 128 || !name.chars().all(good) {
        return Err(ApiError::invalid(format!(
            "{what} {name} is invalid: at most 128 alphanumeric characters, dashes, underscores and periods."
        )));
    }
    Ok(())
}
