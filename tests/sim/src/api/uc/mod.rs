//! Unity Catalog (reference section 3.8): what all its securables share.
//!
//! Everything here lives in the metastore, which several workspaces may share. A [`Row`] says what
//! distinguishes one type of securable; listing, reading, renaming, changing and deleting are the same
//! for all. Names are stored in lower case, as the server keeps them.
//!
//! <https://docs.databricks.com/api/workspace/catalogs>

pub(crate) mod bindings;
pub(crate) mod catalogs;
pub(crate) mod connections;
pub(crate) mod functions;
pub(crate) mod grants;
mod metastores;
mod models;
mod page;
mod rows;
pub(crate) mod schemas;
pub(crate) mod storage;
pub(crate) mod tables;
pub(crate) mod volumes;

use std::sync::MutexGuard;

use serde_json::{Map, Value, json};

use crate::errors::ApiError;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::sim::Cloud;
use crate::state::{Store, Workspace};

pub(crate) use bindings::BINDINGS;
pub(crate) use catalogs::create as create_catalog;
pub(crate) use grants::GRANTS;
pub(crate) use metastores::{ASSIGNMENT, assign as assign_metastore};
pub(crate) use models::VERSION;
pub(crate) use rows::{
    CATALOG, CONNECTION, CREDENTIAL, FUNCTION, LOCATION, Level, MODEL, ROWS, Row, SCHEMA, TABLE, VOLUME,
};

/// Where every path of Unity Catalog begins.
pub(crate) const BASE: &str = "/api/2.1/unity-catalog";

pub(crate) fn routes(r: &mut Routes) {
    for domain in [
        metastores::routes,
        catalogs::routes,
        schemas::routes,
        tables::routes,
        volumes::routes,
        functions::routes,
        models::routes,
        storage::routes,
        connections::routes,
        bindings::routes,
        grants::routes,
    ] {
        domain(r);
    }
}

/// The metastore, open for one call.
pub(crate) struct Uc<'a> {
    pub(crate) req: &'a Req,
    pub(crate) store: MutexGuard<'a, Store>,
}

/// Opens the metastore of the workspace.
pub(crate) fn open(req: &Req) -> Result<Uc<'_>, ApiError> {
    // Section 3.8: a workspace without Unity Catalog answers so on every call.
    if !req.ws.store().contains(ASSIGNMENT, &req.ws.id.to_string()) {
        return Err(ApiError::new(
            404,
            "METASTORE_DOES_NOT_EXIST",
            format!("No metastore assigned for the current workspace. Workspace ID: {}", req.ws.id),
        ));
    }
    Ok(Uc { req, store: req.ws.metastore.store() })
}

impl Uc<'_> {
    /// A securable by its full name, in any case; catalogs that are not bound here are out of reach.
    pub(crate) fn get(&self, row: &Row, full_name: &str) -> Result<Value, ApiError> {
        let full_name = full_name.to_lowercase();
        self.reach(row, &full_name)?;
        self.store.get(row.kind, &full_name).ok_or_else(|| absent(row, &full_name))
    }

    /// Fails if what stands above a full name is not there, or not bound to this workspace.
    pub(crate) fn reach(&self, row: &Row, full_name: &str) -> Result<(), ApiError> {
        let parts: Vec<&str> = full_name.split('.').collect();
        let wanted = match row.level {
            Level::Metastore => return Ok(()),
            Level::Catalog => 2,
            Level::Schema => 3,
        };
        if parts.len() != wanted || parts.iter().any(|p| p.is_empty()) {
            return Err(ApiError::invalid(format!(
                "'{full_name}' is not a valid name for a {}.",
                row.noun.to_lowercase()
            )));
        }
        self.catalog(parts[0])?;
        let schema = format!("{}.{}", parts[0], parts[1]);
        if wanted == 3 && !self.store.contains(SCHEMA.kind, &schema) {
            return Err(absent(&SCHEMA, &schema));
        }
        Ok(())
    }

    /// A catalog that is there and bound to this workspace.
    pub(crate) fn catalog(&self, name: &str) -> Result<Value, ApiError> {
        let name = name.to_lowercase();
        let catalog = self.store.get(CATALOG.kind, &name).ok_or_else(|| absent(&CATALOG, &name))?;
        // Section 3.8, scope note: visibility depends on the calling workspace.
        if !self.bound(&CATALOG, &catalog) {
            return Err(ApiError::denied(format!("Catalog '{name}' is not accessible in current workspace")));
        }
        Ok(catalog)
    }

    /// Section 3.8: bindings are consulted only if the isolation mode is ISOLATED.
    pub(crate) fn bound(&self, row: &Row, item: &Value) -> bool {
        let isolated =
            matches!(item["isolation_mode"].as_str(), Some("ISOLATED" | "ISOLATION_MODE_ISOLATED"));
        if !isolated {
            return true;
        }
        let key = bindings::key(row.securable, item["name"].as_str().unwrap_or_default());
        let bindings = self.store.get(BINDINGS, &key).unwrap_or_default();
        bindings.as_array().is_some_and(|b| b.iter().any(|b| b["workspace_id"] == self.req.ws.id))
    }

    /// Adds what the server assigns, and stores a new securable.
    pub(crate) fn create(&mut self, row: &Row, item: Map<String, Value>) -> Result<Value, ApiError> {
        let full_name = item.get("full_name").or_else(|| item.get("name"));
        let full_name = full_name.and_then(Value::as_str).unwrap_or_default().to_lowercase();
        let name = full_name.rsplit('.').next().unwrap_or_default();
        valid_name(name)?;
        self.reach(row, &full_name)?;
        self.vacant(row, &full_name)?;
        let mut item = item;
        stamp(&mut item, row, &self.req.ws, &self.req.caller.name, self.req.now());
        let id = self.req.ws.metastore.fresh().uuid();
        if !row.id_field.is_empty() {
            item.insert(row.id_field.to_owned(), json!(id));
        }
        let value = Value::Object(item);
        put(&mut self.store, row, &full_name, &value);
        Ok(value)
    }

    fn vacant(&self, row: &Row, full_name: &str) -> Result<(), ApiError> {
        // Functions and models share one name space, since both are securables of type `function`.
        let rows: &[&Row] = if row.securable == "function" { &[&FUNCTION, &MODEL] } else { &[row] };
        if rows.iter().any(|r| self.store.contains(r.kind, full_name)) {
            // Not the 409 that RESOURCE_ALREADY_EXISTS has elsewhere (section 2.2): the codes of Unity Catalog are its own,
            // and the vendor's own migration tool met a duplicate as a BadRequest, which its SDK makes of a 400 only.
            // <https://github.com/databrickslabs/ucx/pull/2077>, seen 2026-11.
            return Err(ApiError::new(
                400,
                &format!("{}_ALREADY_EXISTS", row.stem),
                format!("{} '{full_name}' already exists", row.noun),
            ));
        }
        Ok(())
    }

    /// PATCH: the fields of the row, the owner, the name.
    pub(crate) fn patch(&mut self, row: &Row, full_name: &str) -> Result<Value, ApiError> {
        let mut item = self.get(row, full_name)?;
        let full_name = full_name.to_lowercase();
        let body = self.req.json()?;
        if let Some(owner) = body.get("owner").and_then(Value::as_str) {
            grants::principal(self.req, owner)?;
            item["owner"] = json!(owner);
        }
        for field in row.editable {
            if let Some(value) = body.get(*field) {
                item[*field] = value.clone();
            }
        }
        item["updated_at"] = json!(self.req.now());
        item["updated_by"] = json!(self.req.caller.name);
        if item["isolation_mode"].as_str().is_some_and(|m| m.ends_with("ISOLATED")) {
            bindings::bind_caller(self, row, &full_name);
        }
        put(&mut self.store, row, &full_name, &item);
        match body.get("new_name").and_then(Value::as_str).map(str::to_lowercase) {
            Some(new) if !full_name.ends_with(&new) || full_name.rsplit('.').next() != Some(&new) => {
                self.rename(row, &full_name, &new)
            }
            _ => Ok(item),
        }
    }

    /// Gives a securable and all below it a new name; grants and bindings move along.
    pub(crate) fn rename(&mut self, row: &Row, old: &str, new: &str) -> Result<Value, ApiError> {
        valid_name(new)?;
        let target = match old.rsplit_once('.') {
            Some((parent, _)) => format!("{parent}.{new}"),
            None => new.to_owned(),
        };
        self.vacant(row, &target)?;
        let below = format!("{old}.");
        for r in ROWS.iter().filter(|r| r.level != Level::Metastore || r.kind == row.kind) {
            let moved: Vec<String> = self
                .store
                .ids(r.kind)
                .into_iter()
                .filter(|id| {
                    (r.kind == row.kind && id == old)
                        || (row.level != Level::Schema
                            && id.starts_with(&below)
                            && r.level != Level::Metastore)
                })
                .collect();
            for id in moved {
                let Some(mut item) = self.store.remove(r.kind, &id) else { continue };
                let full_name = format!("{target}{}", &id[old.len()..]);
                name_fields(&mut item, r, &full_name);
                put(&mut self.store, r, &full_name, &item);
                grants::moved(&mut self.store, r.securable, &id, &full_name);
                models::moved(&mut self.store, r, &id, &full_name);
            }
        }
        bindings::moved(&mut self.store, row.securable, old, new);
        self.store.get(row.kind, &target).ok_or_else(|| absent(row, &target))
    }

    /// Removes a securable with its grants and bindings, and with all below it if forced.
    pub(crate) fn delete(&mut self, row: &Row, full_name: &str, force: bool) -> Result<(), ApiError> {
        self.get(row, full_name)?;
        let full_name = full_name.to_lowercase();
        let doomed = below(&self.store, row, &full_name);
        let kept = doomed.iter().filter(|(_, id)| !id.ends_with(".information_schema")).count();
        if kept > 0 && !force {
            return Err(ApiError::state(format!(
                "{} '{full_name}' is not empty. It has {kept} dependent object(s).",
                row.noun
            )));
        }
        purge(&mut self.store, row, &full_name);
        Ok(())
    }
}

/// What stands below a catalog or schema.
fn below(store: &Store, row: &Row, full_name: &str) -> Vec<(&'static Row, String)> {
    let prefix = format!("{full_name}.");
    let mut found = Vec::new();
    if row.kind == CATALOG.kind || row.kind == SCHEMA.kind {
        for r in ROWS.into_iter().filter(|r| r.level != Level::Metastore) {
            let ids = store.ids(r.kind).into_iter().filter(|id| id.starts_with(&prefix));
            found.extend(ids.map(|id| (r, id)));
        }
    }
    found
}

/// Removes a securable, all below it, and their grants and bindings; false if it is not there.
pub(crate) fn purge(store: &mut Store, row: &Row, full_name: &str) -> bool {
    for (r, id) in below(store, row, full_name) {
        forget(store, r, &id);
    }
    forget(store, row, full_name)
}

fn forget(store: &mut Store, row: &Row, id: &str) -> bool {
    store.remove(GRANTS, &grants::key(row.securable, id));
    store.remove(BINDINGS, &bindings::key(row.securable, id));
    models::gone(store, row, id);
    store.remove(row.kind, id).is_some()
}

/// GET of one securable.
pub(crate) fn get(req: &Req, row: &Row, param: &str) -> Reply {
    ok(open(req)?.get(row, req.param(param))?)
}

/// PATCH of one securable.
pub(crate) fn patch(req: &Req, row: &Row, param: &str) -> Reply {
    ok(open(req)?.patch(row, req.param(param))?)
}

/// DELETE of one securable.
pub(crate) fn delete(req: &Req, row: &Row, param: &str) -> Reply {
    open(req)?.delete(row, req.param(param), req.flag("force"))?;
    done()
}

/// The error for what is not there: `*_DOES_NOT_EXIST` (section 2.2).
pub(crate) fn absent(row: &Row, full_name: &str) -> ApiError {
    ApiError::new(
        404,
        &format!("{}_DOES_NOT_EXIST", row.stem),
        format!("{} '{full_name}' does not exist.", row.noun),
    )
}

/// Stores a securable under what it stands under.
pub(crate) fn put(store: &mut Store, row: &Row, full_name: &str, item: &Value) {
    let parent = full_name.rsplit_once('.').map_or("", |(parent, _)| parent);
    store.put_under(row.kind, full_name, parent, item);
}

/// The fields every securable has.
pub(crate) fn stamp(item: &mut Map<String, Value>, row: &Row, ws: &Workspace, by: &str, now_ms: i64) {
    let full_name = item.get("full_name").or_else(|| item.get("name"));
    let full_name = full_name.and_then(Value::as_str).unwrap_or_default().to_lowercase();
    for (field, value) in [
        ("metastore_id", json!(ws.metastore.id)),
        ("created_at", json!(now_ms)),
        ("created_by", json!(by)),
        ("updated_at", json!(now_ms)),
        ("updated_by", json!(by)),
    ] {
        item.insert(field.to_owned(), value);
    }
    item.entry("owner").or_insert_with(|| json!(by));
    let mut value = Value::Object(std::mem::take(item));
    name_fields(&mut value, row, &full_name);
    if let Value::Object(map) = value {
        *item = map;
    }
}

fn name_fields(item: &mut Value, row: &Row, full_name: &str) {
    let parts: Vec<&str> = full_name.split('.').collect();
    item["name"] = json!(parts.last());
    if row.kind != LOCATION.kind {
        item["full_name"] = json!(full_name);
    }
    if row.level != Level::Metastore {
        item["catalog_name"] = json!(parts.first());
    }
    if row.level == Level::Schema {
        item["schema_name"] = json!(parts.get(1));
    }
}

/// At most 255 characters; no period, space, slash or control character.
pub(crate) fn valid_name(name: &str) -> Result<(), ApiError> {
    let bad = |c: char| c.is_control() || matches!(c, '.' | '/' | ' ');
    if name.is_empty() || name.chars().count() > 255 || name.chars().any(bad) {
        return Err(ApiError::invalid(format!(
            "'{name}' is not a valid name. Valid names must contain only alphanumeric characters, underscores and hyphens, or be quoted."
        )));
    }
    Ok(())
}

/// Where managed things of a metastore lie.
pub(crate) fn managed_root(ws: &Workspace) -> String {
    let id = &ws.metastore.id;
    match ws.cloud {
        Cloud::Aws => format!("s3://sim-metastore/{id}"),
        Cloud::Azure => format!("abfss://metastore@simstorage.dfs.core.windows.net/{id}"),
        Cloud::Gcp => format!("gs://sim-metastore/{id}"),
    }
}

/// Joins the parts of a full name given as fields of the body.
pub(crate) fn full_name_of(body: &Map<String, Value>, fields: &[&str]) -> Result<String, ApiError> {
    let mut parts = Vec::new();
    for field in fields {
        let part = body.get(*field).and_then(Value::as_str).filter(|s| !s.is_empty());
        let part = part.ok_or_else(|| ApiError::invalid(format!("Missing required field: {field}")))?;
        valid_name(part)?;
        parts.push(part.to_lowercase());
    }
    Ok(parts.join("."))
}
