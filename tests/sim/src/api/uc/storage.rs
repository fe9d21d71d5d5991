//! Storage credentials and external locations (section 3.8).
//!
//! <https://docs.databricks.com/api/workspace/storagecredentials>
//! <https://docs.databricks.com/api/workspace/externallocations>

use serde_json::{Map, Value, json};

use super::{BASE, CREDENTIAL, LOCATION, Uc, open, put};
use crate::errors::ApiError;
use crate::reply::{Reply, Req, done, ok};
use crate::rng::Rng;
use crate::router::Routes;

/// The cloud identities a credential can hold, exactly one of them.
const HOLDERS: [&str; 5] = [
    "aws_iam_role",
    "azure_managed_identity",
    "azure_service_principal",
    "databricks_gcp_service_account",
    "cloudflare_api_token",
];

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog";
    r.get(&format!("{BASE}/storage-credentials"), family, list_credentials);
    r.post(&format!("{BASE}/storage-credentials"), family, create_credential);
    r.get(&format!("{BASE}/storage-credentials/{{name}}"), family, |req| {
        super::get(req, &CREDENTIAL, "name")
    });
    r.patch(&format!("{BASE}/storage-credentials/{{name}}"), family, patch_credential);
    r.delete(&format!("{BASE}/storage-credentials/{{name}}"), family, delete_credential);
    r.post(&format!("{BASE}/validate-storage-credentials"), family, |req| {
        drop(open(req)?);
        ok(json!({"isDir": true, "results": [{"operation": "READ", "result": "PASS"}]}))
    });
    r.get(&format!("{BASE}/external-locations"), family, list_locations);
    r.post(&format!("{BASE}/external-locations"), family, create_location);
    r.get(&format!("{BASE}/external-locations/{{name}}"), family, |req| super::get(req, &LOCATION, "name"));
    r.patch(&format!("{BASE}/external-locations/{{name}}"), family, patch_location);
    r.delete(&format!("{BASE}/external-locations/{{name}}"), family, |req| {
        super::delete(req, &LOCATION, "name")
    });
}

fn list_credentials(req: &Req) -> Reply {
    let uc = open(req)?;
    let all = req.flag("include_unbound");
    ok(uc.page(&CREDENTIAL, None, |c| all || uc.bound(&CREDENTIAL, c))?.body("storage_credentials"))
}

fn list_locations(req: &Req) -> Reply {
    let uc = open(req)?;
    let all = req.flag("include_unbound");
    ok(uc.page(&LOCATION, None, |l| all || uc.bound(&LOCATION, l))?.body("external_locations"))
}

fn create_credential(req: &Req) -> Reply {
    let mut given = req.json()?;
    let mut uc = open(req)?;
    if HOLDERS.iter().filter(|h| given.contains_key(**h)).count() != 1 {
        return Err(ApiError::invalid("Exactly one cloud credential must be given."));
    }
    given.remove("skip_validation");
    let name = given.get("name").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    given.insert("name".to_owned(), json!(name));
    finish_credential(&mut given, &mut req.ws.metastore.fresh());
    ok(uc.create(&CREDENTIAL, given)?)
}

/// What the server adds to a credential, and what it never tells again.
pub(crate) fn finish_credential(credential: &mut Map<String, Value>, rng: &mut Rng) {
    if let Some(role) = credential.get_mut("aws_iam_role").and_then(Value::as_object_mut) {
        // Section 3.8: the external id differs for each credential, so trust policies must follow.
        role.entry("external_id").or_insert_with(|| json!(rng.uuid()));
        role.insert(
            "unity_catalog_iam_arn".to_owned(),
            json!("arn:aws:iam::414351767826:role/unity-catalog-prod-UCMasterRole-14S5ZJVKOTYTL"),
        );
    }
    if let Some(identity) = credential.get_mut("azure_managed_identity").and_then(Value::as_object_mut) {
        identity.insert("credential_id".to_owned(), json!(rng.uuid()));
    }
    if let Some(account) = credential.get_mut("databricks_gcp_service_account").and_then(Value::as_object_mut)
    {
        account.insert("credential_id".to_owned(), json!(rng.uuid()));
        account
            .insert("email".to_owned(), json!(format!("db-uc-{}@uc.iam.gserviceaccount.com", rng.hex(10))));
    }
    // Section 3.8: secrets are never returned.
    for (holder, secret) in
        [("azure_service_principal", "client_secret"), ("cloudflare_api_token", "secret_access_key")]
    {
        if let Some(holder) = credential.get_mut(holder).and_then(Value::as_object_mut) {
            holder.remove(secret);
        }
    }
    credential.entry("isolation_mode").or_insert_with(|| json!("ISOLATION_MODE_OPEN"));
    credential.entry("read_only").or_insert_with(|| json!(false));
    credential.entry("used_for_managed_storage").or_insert_with(|| json!(false));
}

fn patch_credential(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let item = uc.patch(&CREDENTIAL, req.param("name"))?;
    let Value::Object(mut map) = item else { return done() };
    finish_credential(&mut map, &mut req.ws.metastore.fresh());
    let name = map.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let item = Value::Object(map);
    put(&mut uc.store, &CREDENTIAL, &name, &item);
    ok(item)
}

fn delete_credential(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let name = req.param("name").to_lowercase();
    let users = uc.store.all(LOCATION.kind).iter().filter(|l| l["credential_name"] == *name).count();
    if users > 0 && !req.flag("force") {
        return Err(ApiError::state(format!(
            "Storage credential '{name}' cannot be deleted because it is in use. It has {users} dependent external location(s)."
        )));
    }
    uc.delete(&CREDENTIAL, &name, true)?;
    done()
}

fn create_location(req: &Req) -> Reply {
    let mut given = req.json()?;
    let mut uc = open(req)?;
    let text = |field: &str| given.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (name, url) = (text("name").to_lowercase(), text("url"));
    check_location(&uc, &name, &url, &text("credential_name"))?;
    given.remove("skip_validation");
    given.insert("name".to_owned(), json!(name));
    finish_location(&uc, &mut given);
    ok(uc.create(&LOCATION, given)?)
}

/// The credential must exist, and the URL must not overlap another location's (section 3.8).
fn check_location(uc: &Uc<'_>, name: &str, url: &str, credential: &str) -> Result<(), ApiError> {
    if !url.contains("://") {
        return Err(ApiError::invalid(format!("'{url}' is not a valid URL of cloud storage.")));
    }
    uc.get(&CREDENTIAL, credential)?;
    let ends = |u: &str| format!("{}/", u.trim_end_matches('/'));
    let url = ends(url);
    for other in uc.store.all(LOCATION.kind) {
        let theirs = ends(other["url"].as_str().unwrap_or_default());
        if other["name"] != name && (theirs.starts_with(&url) || url.starts_with(&theirs)) {
            return Err(ApiError::new(
                400,
                "LOCATION_OVERLAP",
                format!("Input path url '{url}' overlaps with other external locations."),
            ));
        }
    }
    Ok(())
}

fn finish_location(uc: &Uc<'_>, location: &mut Map<String, Value>) {
    let credential = location.get("credential_name").and_then(Value::as_str).unwrap_or_default();
    let credential = uc.store.get(CREDENTIAL.kind, &credential.to_lowercase()).unwrap_or_default();
    location.insert("credential_id".to_owned(), credential["id"].clone());
    location.entry("isolation_mode").or_insert_with(|| json!("ISOLATION_MODE_OPEN"));
    location.entry("read_only").or_insert_with(|| json!(false));
    location.entry("fallback").or_insert_with(|| json!(false));
}

fn patch_location(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let old = uc.get(&LOCATION, req.param("name"))?;
    let body = req.json()?;
    let text = |field: &str| {
        body.get(field).or_else(|| old.get(field)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    check_location(&uc, &text_of(&old, "name"), &text("url"), &text("credential_name"))?;
    let item = uc.patch(&LOCATION, req.param("name"))?;
    let Value::Object(mut map) = item else { return done() };
    finish_location(&uc, &mut map);
    let item = Value::Object(map);
    put(&mut uc.store, &LOCATION, &text_of(&item, "name"), &item);
    ok(item)
}

fn text_of(item: &Value, field: &str) -> String {
    item[field].as_str().unwrap_or_default().to_owned()
}
