//! Connections to other systems (section 3.8).
//!
//! <https://docs.databricks.com/api/workspace/connections>

use serde_json::{Map, Value, json};

use super::{BASE, CATALOG, CONNECTION, open, put};
use crate::errors::ApiError;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;

/// Section 3.8: options that are accepted and never returned.
const SECRET_OPTIONS: [&str; 9] = [
    "user",
    "password",
    "personalAccessToken",
    "access_token",
    "client_secret",
    "pem_private_key",
    "OAuthPvtKey",
    "GoogleServiceAccountKeyJson",
    "bearer_token",
];

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog";
    r.get(&format!("{BASE}/connections"), family, |req| {
        ok(open(req)?.page(&CONNECTION, None, |_| true)?.body("connections"))
    });
    r.post(&format!("{BASE}/connections"), family, create);
    r.get(&format!("{BASE}/connections/{{name}}"), family, |req| super::get(req, &CONNECTION, "name"));
    r.patch(&format!("{BASE}/connections/{{name}}"), family, patch);
    r.delete(&format!("{BASE}/connections/{{name}}"), family, delete);
}

fn create(req: &Req) -> Reply {
    let mut given = req.json()?;
    let mut uc = open(req)?;
    for field in ["name", "connection_type"] {
        if given.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(ApiError::invalid(format!("Missing required field: {field}")));
        }
    }
    if !given.get("options").is_some_and(Value::is_object) {
        return Err(ApiError::invalid("Missing required field: options"));
    }
    given.remove("secrets");
    let name = given.get("name").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    given.insert("name".to_owned(), json!(name));
    finish(&mut given);
    ok(uc.create(&CONNECTION, given)?)
}

/// What the server adds, and what it keeps to itself.
pub(crate) fn finish(connection: &mut Map<String, Value>) {
    if let Some(options) = connection.get_mut("options").and_then(Value::as_object_mut) {
        options.retain(|k, _| !SECRET_OPTIONS.contains(&k.as_str()));
    }
    connection.insert("securable_type".to_owned(), json!("CONNECTION"));
    connection.insert("credential_type".to_owned(), json!("USERNAME_PASSWORD"));
    connection.insert("provisioning_info".to_owned(), json!({"state": "ACTIVE"}));
    connection.entry("read_only").or_insert_with(|| json!(true));
}

fn patch(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let old = uc.get(&CONNECTION, req.param("name"))?;
    // Section 3.8: PATCH needs the full options.
    if let Some(given) = req.json()?.get("options").and_then(Value::as_object)
        && let Some(had) = old["options"].as_object()
        && let Some(missing) = had.keys().find(|k| !given.contains_key(*k))
    {
        return Err(ApiError::invalid(format!("Option '{missing}' is missing: all options must be given.")));
    }
    let Value::Object(mut map) = uc.patch(&CONNECTION, req.param("name"))? else { return done() };
    finish(&mut map);
    let name = map.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let item = Value::Object(map);
    put(&mut uc.store, &CONNECTION, &name, &item);
    ok(item)
}

fn delete(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let name = req.param("name").to_lowercase();
    if uc.store.find(CATALOG.kind, |c| c["connection_name"] == *name).is_some() {
        return Err(ApiError::state(format!("Connection '{name}' is used by a foreign catalog.")));
    }
    uc.delete(&CONNECTION, &name, true)?;
    done()
}
