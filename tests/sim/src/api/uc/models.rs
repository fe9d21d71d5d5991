//! Registered models with their aliases and versions (section 3.8).
//!
//! Versions are made by an MLflow client, not by this API; the population has some.
//!
//! <https://docs.databricks.com/api/workspace/registeredmodels>

use serde_json::{Map, Value, json};

use super::{BASE, MODEL, Row, Uc, full_name_of, managed_root, open, put, schemas};
use crate::errors::ApiError;
use crate::paging::Page;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::state::Store;

/// Versions; their id is `full_name/version`, their parent the full name.
pub(crate) const VERSION: &str = "uc_model_version";

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog";
    r.get(&format!("{BASE}/models"), family, list);
    r.post(&format!("{BASE}/models"), family, create);
    r.get(&format!("{BASE}/models/{{full_name}}"), family, get);
    r.patch(&format!("{BASE}/models/{{full_name}}"), family, |req| {
        let mut model = open(req)?.patch(&MODEL, req.param("full_name"))?;
        if let Some(model) = model.as_object_mut() {
            model.remove("aliases");
        }
        ok(model)
    });
    r.delete(&format!("{BASE}/models/{{full_name}}"), family, |req| super::delete(req, &MODEL, "full_name"));
    r.get(&format!("{BASE}/models/{{full_name}}/versions"), family, versions);
    r.get(&format!("{BASE}/models/{{full_name}}/versions/{{version}}"), family, version);
    r.patch(&format!("{BASE}/models/{{full_name}}/versions/{{version}}"), family, edit_version);
    r.delete(&format!("{BASE}/models/{{full_name}}/versions/{{version}}"), family, delete_version);
    r.get(&format!("{BASE}/models/{{full_name}}/aliases/{{alias}}"), family, by_alias);
    r.put(&format!("{BASE}/models/{{full_name}}/aliases/{{alias}}"), family, set_alias);
    r.delete(&format!("{BASE}/models/{{full_name}}/aliases/{{alias}}"), family, delete_alias);
}

/// Section 3.8: catalog and schema, both or none.
fn list(req: &Req) -> Reply {
    let uc = open(req)?;
    let page = match (req.query("catalog_name"), req.query("schema_name")) {
        (None, None) => uc.page(&MODEL, None, |_| true)?,
        (Some(_), Some(_)) => {
            let parent = schemas::parent(&uc)?;
            uc.page(&MODEL, Some(&parent), |_| true)?
        }
        _ => return Err(ApiError::invalid("catalog_name and schema_name must be given together.")),
    };
    let items = page.items.into_iter().map(without_aliases).collect();
    ok(Page { items, next: page.next }.body("registered_models"))
}

fn without_aliases(mut model: Value) -> Value {
    if let Some(model) = model.as_object_mut() {
        model.remove("aliases");
    }
    model
}

fn get(req: &Req) -> Reply {
    let model = open(req)?.get(&MODEL, req.param("full_name"))?;
    ok(if req.flag("include_aliases") { model } else { without_aliases(model) })
}

fn create(req: &Req) -> Reply {
    let given = req.json()?;
    let full_name = full_name_of(&given, &["catalog_name", "schema_name", "name"])?;
    let mut uc = open(req)?;
    let mut model = Map::new();
    model.insert("full_name".to_owned(), json!(full_name));
    if let Some(comment) = given.get("comment") {
        model.insert("comment".to_owned(), comment.clone());
    }
    let managed = || format!("{}/models/{}", managed_root(&req.ws), req.ws.metastore.fresh().uuid());
    let location = given.get("storage_location").and_then(Value::as_str).map_or_else(managed, str::to_owned);
    model.insert("storage_location".to_owned(), json!(location));
    ok(uc.create(&MODEL, model)?)
}

fn key(req: &Req) -> (String, String) {
    let model = req.param("full_name").to_lowercase();
    let key = format!("{model}/{}", req.param("version"));
    (model, key)
}

fn versions(req: &Req) -> Reply {
    let uc = open(req)?;
    let model = uc.get(&MODEL, req.param("full_name"))?;
    let row = Row { kind: VERSION, items: "model_versions", ..MODEL };
    ok(uc.page(&row, model["full_name"].as_str(), |_| true)?.body("model_versions"))
}

fn find_version(uc: &Uc<'_>, model: &str, key: &str) -> Result<Value, ApiError> {
    uc.get(&MODEL, model)?;
    uc.store.get(VERSION, key).ok_or_else(|| {
        ApiError::new(404, "RESOURCE_DOES_NOT_EXIST", format!("Model version '{key}' does not exist."))
    })
}

fn version(req: &Req) -> Reply {
    let uc = open(req)?;
    let (model, key) = key(req);
    let mut found = find_version(&uc, &model, &key)?;
    if req.flag("include_aliases") {
        let number = found["version"].clone();
        let aliases = uc.get(&MODEL, &model)?["aliases"].as_array().cloned().unwrap_or_default();
        let own: Vec<Value> = aliases.into_iter().filter(|a| a["version_num"] == number).collect();
        found["aliases"] = json!(own);
    }
    ok(found)
}

fn edit_version(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let (model, key) = key(req);
    let mut found = find_version(&uc, &model, &key)?;
    if let Some(comment) = req.json()?.get("comment") {
        found["comment"] = comment.clone();
    }
    found["updated_at"] = json!(req.now());
    found["updated_by"] = json!(req.caller.name);
    uc.store.put_under(VERSION, &key, &model, &found);
    ok(found)
}

fn delete_version(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let (model, key) = key(req);
    find_version(&uc, &model, &key)?;
    uc.store.remove(VERSION, &key);
    done()
}

fn by_alias(req: &Req) -> Reply {
    let uc = open(req)?;
    let model = uc.get(&MODEL, req.param("full_name"))?;
    let found =
        model["aliases"].as_array().and_then(|a| a.iter().find(|a| a["alias_name"] == req.param("alias")));
    let alias =
        found.ok_or_else(|| ApiError::absent(format!("Alias '{}' does not exist.", req.param("alias"))))?;
    let full_name = model["full_name"].as_str().unwrap_or_default();
    ok(find_version(&uc, full_name, &format!("{full_name}/{}", alias["version_num"]))?)
}

fn set_alias(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let mut model = uc.get(&MODEL, req.param("full_name"))?;
    let full_name = model["full_name"].as_str().unwrap_or_default().to_owned();
    let number = req.json()?.get("version_num").and_then(Value::as_i64).unwrap_or_default();
    find_version(&uc, &full_name, &format!("{full_name}/{number}"))?;
    let alias = json!({"alias_name": req.param("alias"), "version_num": number});
    match model["aliases"].as_array_mut() {
        Some(aliases) => {
            aliases.retain(|a| a["alias_name"] != req.param("alias"));
            aliases.push(alias.clone());
        }
        None => model["aliases"] = json!([alias]),
    }
    put(&mut uc.store, &MODEL, &full_name, &model);
    ok(alias)
}

fn delete_alias(req: &Req) -> Reply {
    let mut uc = open(req)?;
    let mut model = uc.get(&MODEL, req.param("full_name"))?;
    let full_name = model["full_name"].as_str().unwrap_or_default().to_owned();
    if let Some(aliases) = model["aliases"].as_array_mut() {
        aliases.retain(|a| a["alias_name"] != req.param("alias"));
    }
    put(&mut uc.store, &MODEL, &full_name, &model);
    done()
}

/// Versions go where their model goes.
pub(super) fn moved(store: &mut Store, row: &Row, old: &str, new: &str) {
    if row.kind != MODEL.kind {
        return;
    }
    let versions: Vec<_> = store.scan(VERSION, Some(old), 0).collect();
    for doc in versions {
        store.remove(VERSION, &doc.id);
        let mut value = doc.value;
        let mut parts = new.split('.');
        for field in ["catalog_name", "schema_name", "model_name"] {
            value[field] = json!(parts.next());
        }
        store.put_under(VERSION, &format!("{new}{}", &doc.id[old.len()..]), new, &value);
    }
}

/// Versions go with their model.
pub(super) fn gone(store: &mut Store, row: &Row, full_name: &str) {
    if row.kind == MODEL.kind {
        let versions: Vec<_> = store.scan(VERSION, Some(full_name), 0).collect();
        for doc in versions {
            store.remove(VERSION, &doc.id);
        }
    }
}
