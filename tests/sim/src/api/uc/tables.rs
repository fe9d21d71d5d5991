//! Tables of all types, views, and their constraints (section 3.8).
//!
//! <https://docs.databricks.com/api/workspace/tables>

use serde_json::{Map, Value, json};

use super::page::{cut, size};
use super::{BASE, TABLE, Uc, absent, full_name_of, open, put, schemas, valid_name};
use crate::errors::ApiError;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog";
    r.get(&format!("{BASE}/tables"), family, list);
    r.post(&format!("{BASE}/tables"), family, create);
    r.get(&format!("{BASE}/tables/{{full_name}}"), family, get);
    r.get(&format!("{BASE}/tables/{{full_name}}/exists"), family, exists);
    r.patch(&format!("{BASE}/tables/{{full_name}}"), family, |req| super::patch(req, &TABLE, "full_name"));
    r.delete(&format!("{BASE}/tables/{{full_name}}"), family, |req| super::delete(req, &TABLE, "full_name"));
    r.get(&format!("{BASE}/table-summaries"), family, summaries);
    r.post(&format!("{BASE}/constraints"), family, create_constraint);
    r.delete(&format!("{BASE}/constraints/{{full_name}}"), family, delete_constraint);
}

fn list(req: &Req) -> Reply {
    let uc = open(req)?;
    let parent = schemas::parent(&uc)?;
    let mut page = uc.page(&TABLE, Some(&parent), |_| true)?;
    for table in page.items.iter_mut().filter_map(Value::as_object_mut) {
        // Section 3.8: the list omits these two.
        table.remove("view_dependencies");
        table.remove("table_constraints");
        table.remove("delta_runtime_properties_kvpairs");
        if req.flag("omit_columns") {
            table.remove("columns");
        }
        if req.flag("omit_properties") {
            table.remove("properties");
        }
        if req.flag("omit_username") {
            for field in ["owner", "created_by", "updated_by"] {
                table.remove(field);
            }
        }
    }
    ok(page.body("tables"))
}

fn get(req: &Req) -> Reply {
    let mut table = open(req)?.get(&TABLE, req.param("full_name"))?;
    if req.flag("include_delta_metadata") && table["data_source_format"] == "DELTA" {
        table["delta_runtime_properties_kvpairs"] =
            json!({"delta_runtime_properties": {"delta.lastUpdateVersion": "3"}});
    }
    ok(table)
}

fn exists(req: &Req) -> Reply {
    let uc = open(req)?;
    let name = req.param("full_name").to_lowercase();
    uc.reach(&TABLE, &name)?;
    ok(json!({"table_exists": uc.store.contains(TABLE.kind, &name)}))
}

/// Section 3.8: only EXTERNAL DELTA tables, and no masks.
fn create(req: &Req) -> Reply {
    let given = req.json()?;
    let full_name = full_name_of(&given, &["catalog_name", "schema_name", "name"])?;
    let mut uc = open(req)?;
    if given.get("table_type") != Some(&json!("EXTERNAL"))
        || given.get("data_source_format") != Some(&json!("DELTA"))
    {
        return Err(ApiError::invalid("Only external Delta tables can be created through this API."));
    }
    let Some(location) = given.get("storage_location").and_then(Value::as_str) else {
        return Err(ApiError::invalid("Missing required field: storage_location"));
    };
    let columns = given.get("columns").cloned().unwrap_or_else(|| json!([]));
    if columns.as_array().is_some_and(|c| c.iter().any(|c| c.get("mask").is_some())) {
        return Err(ApiError::invalid("Column masks cannot be set through this API."));
    }
    let mut table = Map::new();
    for (field, value) in [
        ("full_name", json!(full_name)),
        ("table_type", json!("EXTERNAL")),
        ("data_source_format", json!("DELTA")),
        ("storage_location", json!(location)),
        ("columns", columns),
        ("properties", given.get("properties").cloned().unwrap_or_else(|| json!({}))),
    ] {
        table.insert(field.to_owned(), value);
    }
    ok(uc.create(&TABLE, table)?)
}

/// Names and types, 10 000 to a page: cheap change detection (section 3.8).
fn summaries(req: &Req) -> Reply {
    let uc = open(req)?;
    let catalog = req.need("catalog_name")?.to_lowercase();
    uc.catalog(&catalog)?;
    let schema_like = like(req.query("schema_name_pattern"));
    let table_like = like(req.query("table_name_pattern"));
    let below = format!("{catalog}.");
    // The page of this list is larger than that of any other.
    let size = size(req, "max_results", 1)?.or(Some(10_000));
    let page = cut(req, &format!("summaries/{catalog}"), size, |after| {
        Box::new(uc.store.scan(TABLE.kind, None, after).filter(|d| {
            d.id.starts_with(&below)
                && schema_like(d.value["schema_name"].as_str().unwrap_or_default())
                && table_like(d.value["name"].as_str().unwrap_or_default())
        }))
    })?;
    let items = page
        .items
        .iter()
        .map(|t| json!({"full_name": t["full_name"], "table_type": t["table_type"]}))
        .collect();
    ok(crate::paging::Page { items, next: page.next }.body("tables"))
}

/// A LIKE pattern with `%` at its ends only, which is all that callers use.
fn like(pattern: Option<&str>) -> impl Fn(&str) -> bool {
    let pattern = pattern.unwrap_or("%").to_lowercase();
    move |name: &str| match (pattern.strip_prefix('%'), pattern.strip_suffix('%')) {
        (Some(_), Some(_)) => name.contains(pattern.trim_matches('%')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == pattern,
    }
}

fn create_constraint(req: &Req) -> Reply {
    let body = req.json()?;
    let full_name = body.get("full_name_arg").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let constraint = body.get("constraint").cloned().unwrap_or_default();
    add_constraint(&mut open(req)?, &full_name, &constraint)?;
    ok(constraint)
}

fn delete_constraint(req: &Req) -> Reply {
    let name = req.need("constraint_name")?;
    drop_constraint(&mut open(req)?, req.param("full_name"), &name, req.flag("cascade"))?;
    done()
}

const CONSTRAINTS: [&str; 3] = ["primary_key_constraint", "foreign_key_constraint", "named_table_constraint"];

/// The name of a constraint of any type.
pub(crate) fn constraint_name(constraint: &Value) -> &str {
    CONSTRAINTS.iter().find_map(|c| constraint[*c]["name"].as_str()).unwrap_or_default()
}

fn primary_key(table: &Value) -> Option<&Value> {
    let constraints = table["table_constraints"].as_array()?;
    constraints.iter().map(|c| &c["primary_key_constraint"]).find(|c| !c.is_null())
}

/// Adds a constraint to a table; a foreign key wants the primary key it points to.
pub(crate) fn add_constraint(uc: &mut Uc<'_>, full_name: &str, constraint: &Value) -> Result<(), ApiError> {
    let mut table = uc.get(&TABLE, full_name)?;
    let full_name = full_name.to_lowercase();
    let name = constraint_name(constraint);
    valid_name(name)?;
    let taken =
        table["table_constraints"].as_array().is_some_and(|c| c.iter().any(|c| constraint_name(c) == name));
    if taken {
        return Err(ApiError::new(
            400,
            "CONSTRAINT_ALREADY_EXISTS",
            format!("Constraint '{name}' already exists in table '{full_name}'."),
        ));
    }
    let (primary, foreign) = (&constraint["primary_key_constraint"], &constraint["foreign_key_constraint"]);
    for column in [primary, foreign].iter().filter_map(|c| c["child_columns"].as_array()).flatten() {
        known_column(&table, column.as_str().unwrap_or_default())?;
    }
    if !primary.is_null() && primary_key(&table).is_some() {
        return Err(ApiError::new(
            400,
            "CONSTRAINT_ALREADY_EXISTS",
            format!("Table '{full_name}' already has a primary key."),
        ));
    }
    if !foreign.is_null() {
        let parent = uc.get(&TABLE, foreign["parent_table"].as_str().unwrap_or_default())?;
        // Section 4.1: primary keys come before foreign keys.
        let Some(key) = primary_key(&parent) else {
            return Err(ApiError::invalid(format!(
                "Foreign key parent columns {} do not match the primary key of table '{}', which has none.",
                foreign["parent_columns"],
                parent["full_name"].as_str().unwrap_or_default()
            )));
        };
        if key["child_columns"] != foreign["parent_columns"] {
            return Err(ApiError::invalid(format!(
                "Foreign key parent columns {} do not match the primary key child columns {}.",
                foreign["parent_columns"], key["child_columns"]
            )));
        }
    }
    match table["table_constraints"].as_array_mut() {
        Some(constraints) => constraints.push(constraint.clone()),
        None => table["table_constraints"] = json!([constraint]),
    }
    put(&mut uc.store, &TABLE, &full_name, &table);
    Ok(())
}

/// Drops a constraint; foreign keys that point to a primary key go only with `cascade`.
pub(crate) fn drop_constraint(
    uc: &mut Uc<'_>,
    full_name: &str,
    name: &str,
    cascade: bool,
) -> Result<(), ApiError> {
    let mut table = uc.get(&TABLE, full_name)?;
    let full_name = full_name.to_lowercase();
    let missing = || {
        ApiError::new(
            404,
            "CONSTRAINT_DOES_NOT_EXIST",
            format!("Constraint '{name}' does not exist in table '{full_name}'."),
        )
    };
    let constraints = table["table_constraints"].as_array_mut().ok_or_else(missing)?;
    let at = constraints.iter().position(|c| constraint_name(c) == name).ok_or_else(missing)?;
    let gone = constraints.remove(at);
    if constraints.is_empty()
        && let Some(table) = table.as_object_mut()
    {
        table.remove("table_constraints");
    }
    if gone.get("primary_key_constraint").is_some() {
        let points = |c: &Value| c["foreign_key_constraint"]["parent_table"] == *full_name;
        let children: Vec<Value> = uc
            .store
            .scan(TABLE.kind, None, 0)
            .map(|d| d.value)
            .filter(|t| t["table_constraints"].as_array().is_some_and(|c| c.iter().any(points)))
            .collect();
        if !children.is_empty() && !cascade {
            return Err(ApiError::state(format!(
                "Constraint '{name}' has dependent foreign keys; use cascade."
            )));
        }
        for mut child in children {
            if let Some(list) = child["table_constraints"].as_array_mut() {
                list.retain(|c| !points(c));
            }
            let id = child["full_name"].as_str().unwrap_or_default().to_owned();
            put(&mut uc.store, &TABLE, &id, &child);
        }
    }
    put(&mut uc.store, &TABLE, &full_name, &table);
    Ok(())
}

/// Fails unless the table has the column.
pub(crate) fn known_column(table: &Value, column: &str) -> Result<(), ApiError> {
    let has = |c: &Value| c["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(column));
    if table["columns"].as_array().is_some_and(|c| c.iter().any(has)) {
        return Ok(());
    }
    Err(ApiError::new(
        400,
        "COLUMN_DOES_NOT_EXIST",
        format!(
            "Column '{column}' does not exist in table '{}'.",
            table["full_name"].as_str().unwrap_or_default()
        ),
    ))
}

/// A table by name, or `absent` in the words of tables also where a view is meant.
pub(crate) fn need(uc: &Uc<'_>, full_name: &str) -> Result<Value, ApiError> {
    uc.store.get(TABLE.kind, full_name).ok_or_else(|| absent(&TABLE, full_name))
}
