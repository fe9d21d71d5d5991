//! Schemas (section 3.8).
//!
//! <https://docs.databricks.com/api/workspace/schemas>

use serde_json::{Map, Value, json};

use super::{BASE, CATALOG, SCHEMA, Uc, full_name_of, open, put, stamp};
use crate::errors::ApiError;
use crate::reply::{Reply, Req, ok};
use crate::router::Routes;

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog";
    r.get(&format!("{BASE}/schemas"), family, list);
    r.post(&format!("{BASE}/schemas"), family, |req| ok(create(&mut open(req)?, req.json()?)?));
    r.get(&format!("{BASE}/schemas/{{full_name}}"), family, |req| super::get(req, &SCHEMA, "full_name"));
    r.patch(&format!("{BASE}/schemas/{{full_name}}"), family, |req| super::patch(req, &SCHEMA, "full_name"));
    r.delete(&format!("{BASE}/schemas/{{full_name}}"), family, |req| {
        super::delete(req, &SCHEMA, "full_name")
    });
}

fn list(req: &Req) -> Reply {
    let uc = open(req)?;
    let catalog = req.need("catalog_name")?.to_lowercase();
    uc.catalog(&catalog)?;
    ok(uc.page(&SCHEMA, Some(&catalog), |_| true)?.body("schemas"))
}

/// Creates a schema; also what CREATE SCHEMA does.
pub(crate) fn create(uc: &mut Uc<'_>, given: Map<String, Value>) -> Result<Value, ApiError> {
    let full_name = full_name_of(&given, &["catalog_name", "name"])?;
    let catalog = uc.catalog(full_name.split('.').next().unwrap_or_default())?;
    if catalog["catalog_type"] != "MANAGED_CATALOG" {
        return Err(ApiError::invalid(format!(
            "Schemas cannot be created in catalog '{}' of type {}.",
            catalog["name"].as_str().unwrap_or_default(),
            catalog["catalog_type"].as_str().unwrap_or_default()
        )));
    }
    let mut schema = Map::new();
    schema.insert("full_name".to_owned(), json!(full_name));
    for field in ["comment", "properties", "storage_root", "custom_max_retention_hours"] {
        if let Some(value) = given.get(field) {
            schema.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(root) = given.get("storage_root").and_then(Value::as_str) {
        let id = uc.req.ws.metastore.fresh().uuid();
        let location = format!("{}/__unitystorage/schemas/{id}", root.trim_end_matches('/'));
        schema.insert("storage_location".to_owned(), json!(location));
    }
    schema.insert("catalog_type".to_owned(), catalog["catalog_type"].clone());
    schema.insert("enable_predictive_optimization".to_owned(), json!("INHERIT"));
    uc.create(&SCHEMA, schema)
}

/// Section 3.8: `default` and `information_schema` exist in a new catalog already.
pub(super) fn builtin(uc: &mut Uc<'_>, catalog: &str, kind: &str) {
    let (ws, by, now) = (&uc.req.ws, &uc.req.caller.name, uc.req.now());
    let names: &[&str] =
        if kind == "MANAGED_CATALOG" { &["default", "information_schema"] } else { &["information_schema"] };
    for name in names {
        let mut rng = ws.metastore.fresh();
        let mut schema = builtin_schema(catalog, name, kind, &rng.uuid());
        stamp(&mut schema, &SCHEMA, ws, by, now);
        put(&mut uc.store, &SCHEMA, &format!("{catalog}.{name}"), &Value::Object(schema));
    }
}

/// A schema that the server makes itself.
pub(crate) fn builtin_schema(catalog: &str, name: &str, kind: &str, id: &str) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("full_name".to_owned(), json!(format!("{catalog}.{name}")));
    schema.insert("schema_id".to_owned(), json!(id));
    schema.insert("catalog_type".to_owned(), json!(kind));
    schema.insert("enable_predictive_optimization".to_owned(), json!("INHERIT"));
    if name == "information_schema" {
        schema.insert("comment".to_owned(), json!("Information schema (auto-created)"));
        schema.insert("owner".to_owned(), json!("System user"));
    } else {
        schema.insert("comment".to_owned(), json!("Default schema (auto-created)"));
    }
    schema
}

/// The parent of a list of children, which must be there and in reach.
pub(super) fn parent(uc: &Uc<'_>) -> Result<String, ApiError> {
    let full_name =
        format!("{}.{}", uc.req.need("catalog_name")?, uc.req.need("schema_name")?).to_lowercase();
    uc.catalog(full_name.split('.').next().unwrap_or_default())?;
    uc.get(&SCHEMA, &full_name)?;
    Ok(full_name)
}

/// The type of the catalog above a full name.
pub(crate) fn catalog_type(uc: &Uc<'_>, full_name: &str) -> String {
    let catalog = full_name.split('.').next().unwrap_or_default();
    let catalog = uc.store.get(CATALOG.kind, catalog).unwrap_or_default();
    catalog["catalog_type"].as_str().unwrap_or_default().to_owned()
}
