//! Doing what a statement says to the metastore.

use serde_json::{Map, Value, json};

use super::alter::properties;
use super::cursor::{Cursor, Sql, SqlError};
use super::query::{self, Rows};
use super::statement::{Change, Existing, Relation, Source, Statement, parse};
use super::{changes, relations, show};
use crate::api::uc::{
    self, CATALOG, FUNCTION, Row, SCHEMA, TABLE, Uc, VOLUME, create_catalog, functions, grants, put, schemas,
    tables, volumes,
};
use crate::errors::ApiError;

/// Where and as what a statement runs.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) catalog: String,
    pub(crate) schema: String,
    /// Pro or serverless: materialized views and streaming tables.
    pub(crate) pro: bool,
}

/// Runs one statement.
pub(crate) fn run(uc: &mut Uc<'_>, text: &str, session: &Session) -> Sql<Rows> {
    let mut cursor = Cursor::new(text, &session.catalog, &session.schema)?;
    if cursor.done() {
        return Err(SqlError::new(
            "PARSE_EMPTY_STATEMENT",
            "42617",
            "Syntax error, unexpected empty statement.",
        ));
    }
    match parse(&mut cursor)? {
        Statement::Catalog { existing, body } => {
            let name = text_of(&body, "name").to_owned();
            if keep(uc, &CATALOG, &name, existing) {
                return Ok(Rows::default());
            }
            create_catalog(uc, body).map_err(failed)?;
        }
        Statement::Schema { name, existing, body } => {
            if !keep(uc, &SCHEMA, &name, existing) {
                schemas::create(uc, named(body, &name)).map_err(failed)?;
            }
        }
        Statement::Volume { name, existing, body } => {
            if !keep(uc, &VOLUME, &name, existing) {
                volumes::create(uc, named(body, &name)).map_err(failed)?;
            }
        }
        Statement::Function { name, existing, body, source } => {
            function(uc, &name, existing, body, source.as_ref(), session)?;
        }
        Statement::Relation(relation) => relations::create(uc, *relation, session)?,
        Statement::Drop { row, kinds, name, if_exists, cascade } => {
            drop_one(uc, row, kinds, &name, if_exists, cascade)?;
        }
        Statement::Alter { row, name, change } => alter(uc, row, &name, *change, session)?,
        Statement::Grant { securable, name, privileges, principal, revoke } => {
            let name = if securable == "metastore" { uc.req.ws.metastore.id.clone() } else { name };
            let (add, remove) = if revoke { (Vec::new(), privileges) } else { (privileges, Vec::new()) };
            grants::change(uc, &securable, &name, &[grants::Change { principal, add, remove }])
                .map_err(failed)?;
        }
        Statement::Query(source) => return query::rows(uc, &source, &session.catalog, &session.schema),
        Statement::Show(shown) => return show::rows(uc, &shown),
        Statement::Nothing => {}
    }
    Ok(Rows::default())
}

fn text_of<'a>(map: &'a Map<String, Value>, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// True if the thing is there and may stay.
fn keep(uc: &Uc<'_>, row: &Row, name: &str, existing: Existing) -> bool {
    existing == Existing::Keep && uc.get(row, name).is_ok()
}

/// Adds the parts of a full name as the fields by which the REST API takes them.
pub(super) fn named(mut body: Map<String, Value>, full_name: &str) -> Map<String, Value> {
    let parts: Vec<&str> = full_name.split('.').collect();
    for (field, part) in ["catalog_name", "schema_name"].iter().zip(&parts[..parts.len() - 1]) {
        body.insert((*field).to_owned(), json!(part));
    }
    body.insert("name".to_owned(), json!(parts.last()));
    body
}

fn function(
    uc: &mut Uc<'_>,
    name: &str,
    existing: Existing,
    mut body: Map<String, Value>,
    source: Option<&Source>,
    session: &Session,
) -> Sql<()> {
    if keep(uc, &FUNCTION, name, existing) {
        return Ok(());
    }
    if let Some(source) = source {
        let uses = query::uses(uc, &source.query, &session.catalog, &session.schema)?;
        body.insert("routine_dependencies".to_owned(), uses.json());
        body.entry("sql_data_access").or_insert_with(|| json!("READS_SQL_DATA"));
    }
    let old = uc.get(&FUNCTION, name).ok().filter(|_| existing == Existing::Replace);
    if old.is_some() {
        uc.store.remove(FUNCTION.kind, name);
    }
    let made = functions::create(uc, named(body, name)).map_err(failed);
    match (made, old) {
        // A replaced function keeps its owner; grants stand apart and stay too.
        (Ok(mut made), Some(old)) => {
            made["owner"] = old["owner"].clone();
            put(&mut uc.store, &FUNCTION, name, &made);
            Ok(())
        }
        (Ok(_), None) => Ok(()),
        (Err(error), old) => {
            if let Some(old) = old {
                put(&mut uc.store, &FUNCTION, name, &old);
            }
            Err(error)
        }
    }
}

fn drop_one(
    uc: &mut Uc<'_>,
    row: &Row,
    kinds: &[&str],
    name: &str,
    if_exists: bool,
    cascade: bool,
) -> Sql<()> {
    let item = match uc.get(row, name) {
        Ok(item) => item,
        Err(e) if if_exists && e.status == 404 => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    let kind = item["table_type"].as_str().unwrap_or_default();
    if row.kind == TABLE.kind && !kinds.contains(&kind) {
        return Err(SqlError::new(
            "WRONG_COMMAND_FOR_OBJECT_TYPE",
            "42809",
            format!("The operation requires another type of object, but `{name}` is a {kind}."),
        ));
    }
    uc.delete(row, name, cascade).map_err(failed)
}

fn alter(uc: &mut Uc<'_>, row: &Row, name: &str, change: Change, session: &Session) -> Sql<()> {
    let mut item = uc.get(row, name).map_err(failed)?;
    let name = name.to_lowercase();
    match change {
        Change::Owner(owner) => {
            grants::principal(uc.req, &owner).map_err(failed)?;
            item["owner"] = json!(owner);
        }
        Change::Rename(new) => {
            let same_parent = new.rsplit_once('.').map(|n| n.0) == name.rsplit_once('.').map(|n| n.0);
            if !same_parent {
                return Err(SqlError::new(
                    "UNSUPPORTED_FEATURE.RENAME",
                    "0A000",
                    "Cannot move to another schema by renaming.",
                ));
            }
            uc.rename(row, &name, new.rsplit('.').next().unwrap_or_default()).map_err(failed)?;
            return Ok(());
        }
        Change::Set(pairs) => {
            if !item["properties"].is_object() {
                item["properties"] = json!({});
            }
            for (key, value) in pairs {
                item["properties"][key] = json!(value);
            }
        }
        Change::Unset(keys, if_exists) => {
            for key in keys {
                let gone = item["properties"].as_object_mut().and_then(|p| p.shift_remove(&key));
                if gone.is_none() && !if_exists {
                    return Err(SqlError::new(
                        "UNSET_NONEXISTENT_PROPERTIES",
                        "42K0J",
                        format!("Attempted to unset non-existent properties [{key}] in table `{name}`."),
                    ));
                }
            }
        }
        Change::Field(field, value) => item[field] = value,
        Change::AddConstraint(constraint) => {
            return changes::add_constraint(uc, &name, constraint);
        }
        Change::DropConstraint { name: constraint, if_exists, cascade } => {
            return changes::drop_constraint(uc, &name, constraint, if_exists, cascade);
        }
        Change::Nothing => {}
        change => changes::alter(uc, &mut item, change, session)?,
    }
    item["updated_at"] = json!(uc.req.now());
    item["updated_by"] = json!(uc.req.caller.name);
    put(&mut uc.store, row, &name, &item);
    Ok(())
}

/// What an error of the catalog is called by the engine.
pub(super) fn failed(error: ApiError) -> SqlError {
    let (class, state) = match error.code.as_str() {
        "CATALOG_DOES_NOT_EXIST" => ("NO_SUCH_CATALOG_EXCEPTION", "42704"),
        "SCHEMA_DOES_NOT_EXIST" => ("SCHEMA_NOT_FOUND", "42704"),
        "TABLE_DOES_NOT_EXIST" => ("TABLE_OR_VIEW_NOT_FOUND", "42P01"),
        "FUNCTION_DOES_NOT_EXIST" => ("ROUTINE_NOT_FOUND", "42883"),
        "COLUMN_DOES_NOT_EXIST" => ("UNRESOLVED_COLUMN.WITH_SUGGESTION", "42703"),
        "CATALOG_ALREADY_EXISTS" => ("CATALOG_ALREADY_EXISTS", "42710"),
        "SCHEMA_ALREADY_EXISTS" => ("SCHEMA_ALREADY_EXISTS", "42P06"),
        "TABLE_ALREADY_EXISTS" => ("TABLE_OR_VIEW_ALREADY_EXISTS", "42P07"),
        "FUNCTION_ALREADY_EXISTS" => ("ROUTINE_ALREADY_EXISTS", "42723"),
        "PERMISSION_DENIED" => ("INSUFFICIENT_PERMISSIONS", "42501"),
        "INVALID_STATE" => ("SCHEMA_NOT_EMPTY", "2BP01"),
        "INVALID_PARAMETER_VALUE" => ("INVALID_PARAMETER_VALUE", "22023"),
        other => (other, "KD000"),
    };
    SqlError::new(class, state, error.message)
}

/// Properties as the catalog keeps them.
pub(super) fn property_map(relation: &Relation) -> Map<String, Value> {
    match properties(&relation.properties) {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A table of any type, for those that alter it.
pub(super) fn table(uc: &Uc<'_>, name: &str) -> Sql<Value> {
    uc.get(&TABLE, name).map_err(failed)
}

/// A primary key drop names no constraint: this finds it.
pub(super) fn primary_key_name(table: &Value) -> Option<String> {
    let constraints = table["table_constraints"].as_array()?;
    let primary = constraints.iter().find(|c| !c["primary_key_constraint"].is_null())?;
    Some(tables::constraint_name(primary).to_owned())
}

/// Fails unless a function is there.
pub(super) fn known_function(uc: &Uc<'_>, name: &str) -> Sql<()> {
    if uc.get(&FUNCTION, name).is_ok() { Ok(()) } else { Err(query::no_function(name)) }
}

/// Fails unless a path lies in an external location (section 4.1: locations come first).
pub(super) fn covered(uc: &Uc<'_>, path: &str) -> Sql<()> {
    let path = format!("{}/", path.trim_end_matches('/'));
    let covers = |l: &Value| {
        l["url"].as_str().is_some_and(|u| path.starts_with(&format!("{}/", u.trim_end_matches('/'))))
    };
    if uc.store.find(uc::LOCATION.kind, covers).is_some() {
        return Ok(());
    }
    Err(SqlError::new(
        "EXTERNAL_LOCATION_DOES_NOT_EXIST",
        "42704",
        format!("No parent external location was found for path '{path}'."),
    ))
}
