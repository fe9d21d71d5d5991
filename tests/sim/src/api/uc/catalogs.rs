//! Catalogs (section 3.8).
//!
//! <https://docs.databricks.com/api/workspace/catalogs>

use serde_json::{Map, Value, json};

use super::{BASE, CATALOG, CONNECTION, Uc, managed_root, open, schemas};
use crate::errors::ApiError;
use crate::reply::{Reply, Req, ok};
use crate::router::Routes;

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog";
    r.get(&format!("{BASE}/catalogs"), family, list);
    r.post(&format!("{BASE}/catalogs"), family, |req| ok(create(&mut open(req)?, req.json()?)?));
    r.get(&format!("{BASE}/catalogs/{{name}}"), family, |req| ok(open(req)?.catalog(req.param("name"))?));
    r.patch(&format!("{BASE}/catalogs/{{name}}"), family, |req| super::patch(req, &CATALOG, "name"));
    r.delete(&format!("{BASE}/catalogs/{{name}}"), family, delete);
}

fn list(req: &Req) -> Reply {
    let uc = open(req)?;
    // Section 3.8: without include_unbound only what is bound to the calling workspace.
    let all = req.flag("include_unbound");
    ok(uc.page(&CATALOG, None, |c| all || uc.bound(&CATALOG, c))?.body("catalogs"))
}

/// Creates a catalog with the schemas every catalog has; also what CREATE CATALOG does.
pub(crate) fn create(uc: &mut Uc<'_>, given: Map<String, Value>) -> Result<Value, ApiError> {
    let text = |field: &str| given.get(field).and_then(Value::as_str).filter(|s| !s.is_empty());
    let name = text("name").ok_or_else(|| ApiError::invalid("Missing required field: name"))?;
    let mut catalog = Map::new();
    catalog.insert("name".to_owned(), json!(name.to_lowercase()));
    for field in ["comment", "properties", "options", "custom_max_retention_hours"] {
        if let Some(value) = given.get(field) {
            catalog.insert(field.to_owned(), value.clone());
        }
    }
    let kind = match (text("connection_name"), text("provider_name")) {
        (Some(connection), _) => {
            uc.get(&CONNECTION, connection)?;
            catalog.insert("connection_name".to_owned(), json!(connection));
            "FOREIGN_CATALOG"
        }
        (None, Some(provider)) => {
            let share =
                text("share_name").ok_or_else(|| ApiError::invalid("Missing required field: share_name"))?;
            catalog.insert("provider_name".to_owned(), json!(provider));
            catalog.insert("share_name".to_owned(), json!(share));
            "DELTASHARING_CATALOG"
        }
        (None, None) => {
            if let Some(root) = text("storage_root") {
                // Section 3.8: the location is the root and a directory of the server's choosing.
                let id = uc.req.ws.metastore.fresh().uuid();
                catalog.insert("storage_root".to_owned(), json!(root));
                catalog.insert(
                    "storage_location".to_owned(),
                    json!(format!("{}/__unitystorage/catalogs/{id}", root.trim_end_matches('/'))),
                );
            } else {
                catalog.insert("storage_root".to_owned(), json!(managed_root(&uc.req.ws)));
            }
            "MANAGED_CATALOG"
        }
    };
    finish(&mut catalog, kind);
    let made = uc.create(&CATALOG, catalog)?;
    let name = made["name"].as_str().unwrap_or_default().to_owned();
    schemas::builtin(uc, &name, kind);
    Ok(made)
}

/// What the server adds to a catalog of any type.
pub(crate) fn finish(catalog: &mut Map<String, Value>, kind: &str) {
    for (field, value) in [
        ("catalog_type", json!(kind)),
        ("securable_type", json!("CATALOG")),
        ("provisioning_info", json!({"state": "ACTIVE"})),
    ] {
        catalog.insert(field.to_owned(), value);
    }
    catalog.entry("isolation_mode").or_insert_with(|| json!("OPEN"));
    catalog.entry("enable_predictive_optimization").or_insert_with(|| json!("INHERIT"));
}

fn delete(req: &Req) -> Reply {
    if req.param("name") == "system" {
        return Err(ApiError::denied("Catalog 'system' is owned by the system and cannot be deleted."));
    }
    super::delete(req, &CATALOG, "name")
}
