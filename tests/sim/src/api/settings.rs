//! Workspace configuration, tokens, IP access lists (reference section 3.6).

use serde_json::{Map, Value, json};

use crate::errors::ApiError;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;

const CONF: &str = "workspace_conf";
const TOKEN: &str = "token";
const IP_LIST: &str = "ip_access_list";

/// The keys of the workspace configuration that are simulated.
const CONF_KEYS: [&str; 10] = [
    "enableIpAccessLists",
    "enableTokensConfig",
    "maxTokenLifetimeDays",
    "enableWebTerminal",
    "enableDbfsFileBrowser",
    "enableResultsDownloading",
    "enforceUserIsolation",
    "storeInteractiveNotebookResultsInCustomerAccount",
    "projectsAllowList",
    "enableExportNotebook",
];

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/workspace-conf", "settings", get_conf);
    r.patch("/api/2.0/workspace-conf", "settings", set_conf);
    r.get("/api/2.0/token-management/tokens", "token-management", tokens);
    r.get("/api/2.0/token-management/tokens/{id}", "token-management", token);
    r.delete("/api/2.0/token-management/tokens/{id}", "token-management", delete_token);
    r.post("/api/2.0/token/create", "token-management", create_token);
    r.get("/api/2.0/token/list", "token-management", tokens);
    r.get("/api/2.0/ip-access-lists", "ip-access-lists", ip_lists);
    r.post("/api/2.0/ip-access-lists", "ip-access-lists", create_ip_list);
    r.get("/api/2.0/ip-access-lists/{id}", "ip-access-lists", ip_list);
    r.put("/api/2.0/ip-access-lists/{id}", "ip-access-lists", change_ip_list);
    r.patch("/api/2.0/ip-access-lists/{id}", "ip-access-lists", change_ip_list);
    r.delete("/api/2.0/ip-access-lists/{id}", "ip-access-lists", delete_ip_list);
}

/// One invalid key fails the whole call; unset ones are null (section 3.6).
fn get_conf(req: &Req) -> Reply {
    req.admin()?;
    let keys = req.need("keys")?;
    let store = req.ws.store();
    let mut body = Map::new();
    for key in keys.split(',') {
        known(key)?;
        body.insert(key.to_owned(), store.get(CONF, key).unwrap_or_default());
    }
    ok(Value::Object(body))
}

/// All values are strings (section 3.6).
fn set_conf(req: &Req) -> Reply {
    req.admin()?;
    let body = req.json()?;
    for (key, value) in &body {
        known(key)?;
        if !value.is_string() {
            return Err(ApiError::new(400, "BAD_REQUEST", format!("The value of {key} must be a string.")));
        }
    }
    for (key, value) in &body {
        req.ws.store().put(CONF, key, value);
    }
    Ok(crate::reply::Answer::bytes("application/json", bytes::Bytes::new()).with_status(204))
}

fn known(key: &str) -> Result<(), ApiError> {
    if CONF_KEYS.contains(&key) {
        Ok(())
    } else {
        Err(ApiError::new(400, "BAD_REQUEST", format!("Invalid keys: [{key}]")))
    }
}

fn tokens(req: &Req) -> Reply {
    ok(json!({"token_infos": req.ws.store().all(TOKEN)}))
}

fn token(req: &Req) -> Reply {
    let found = req.ws.store().get(TOKEN, req.param("id"));
    ok(json!({"token_info": found.ok_or_else(|| no_token(req))?}))
}

fn no_token(req: &Req) -> ApiError {
    ApiError::absent(format!("Token with id {} does not exist.", req.param("id")))
}

/// The value is shown once; it opens this workspace with the rights of its creator.
fn create_token(req: &Req) -> Reply {
    let id = req.ws.fresh().hex(64);
    let value = format!("dapi{}", req.ws.fresh().hex(32));
    let life = req.arg("lifetime_seconds").and_then(|l| l.parse::<i64>().ok());
    let expiry = life.map_or(-1, |l| req.now() + l * 1000);
    let info = json!({"token_id": id, "creation_time": req.now(), "expiry_time": expiry, "comment": req.arg("comment").unwrap_or_default(),
        "created_by_username": req.caller.name, "owner_id": 1});
    let mut spec = crate::identity::IdentitySpec::admin(&value, &req.caller.name);
    spec.admin = req.caller.admin;
    spec.visible_percent = req.caller.visible_percent;
    spec.denied.clone_from(&req.caller.denied);
    spec.expires_at_ms = life.map(|_| expiry);
    req.ws.identities.define(spec);
    req.ws.store().put(TOKEN, &id, &info);
    ok(json!({"token_value": value, "token_info": info}))
}

fn delete_token(req: &Req) -> Reply {
    let removed = req.ws.store().remove(TOKEN, req.param("id"));
    removed.map_or_else(|| Err(no_token(req)), |_| done())
}

fn ip_enabled(req: &Req) -> Result<(), ApiError> {
    req.admin()?;
    // Section 3.6: the feature is off until the configuration turns it on.
    if req.ws.store().get(CONF, "enableIpAccessLists") == Some(json!("true")) {
        return Ok(());
    }
    Err(ApiError::new(
        404,
        "FEATURE_DISABLED",
        "IP access list is not available in the pricing tier of this workspace or not enabled.",
    ))
}

fn ip_lists(req: &Req) -> Reply {
    ip_enabled(req)?;
    ok(json!({"ip_access_lists": req.ws.store().all(IP_LIST)}))
}

fn ip_list(req: &Req) -> Reply {
    ip_enabled(req)?;
    let found = req.ws.store().get(IP_LIST, req.param("id"));
    ok(json!({"ip_access_list": found.ok_or_else(|| no_list(req))?}))
}

fn no_list(req: &Req) -> ApiError {
    ApiError::absent(format!("IP access list {} does not exist.", req.param("id")))
}

/// Creating takes no `enabled` (section 3.6).
fn create_ip_list(req: &Req) -> Reply {
    ip_enabled(req)?;
    let (label, list_type) = (req.need("label")?, req.need("list_type")?);
    let addresses = req.json()?.get("ip_addresses").cloned().unwrap_or_else(|| json!([]));
    let id = req.ws.fresh().uuid();
    let list = json!({"list_id": id, "label": label, "list_type": list_type, "ip_addresses": addresses, "enabled": true,
        "address_count": addresses.as_array().map_or(0, Vec::len), "created_at": req.now(), "created_by": 1, "updated_at": req.now(), "updated_by": 1});
    req.ws.store().put(IP_LIST, &id, &list);
    ok(json!({"ip_access_list": list}))
}

fn change_ip_list(req: &Req) -> Reply {
    ip_enabled(req)?;
    let body = req.json()?;
    let changed = req.ws.store().edit(IP_LIST, req.param("id"), |list| {
        for field in ["label", "list_type", "ip_addresses", "enabled"] {
            if let Some(value) = body.get(field) {
                list[field] = value.clone();
            }
        }
        list["address_count"] = json!(list["ip_addresses"].as_array().map_or(0, Vec::len));
        list["updated_at"] = json!(req.now());
    });
    ok(json!({"ip_access_list": changed.ok_or_else(|| no_list(req))?}))
}

fn delete_ip_list(req: &Req) -> Reply {
    ip_enabled(req)?;
    let removed = req.ws.store().remove(IP_LIST, req.param("id"));
    removed.map_or_else(|| Err(no_list(req)), |_| done())
}
