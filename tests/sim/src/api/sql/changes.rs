//! The changes that only tables and views have.

use serde_json::{Map, Value, json};

use super::cursor::{Sql, SqlError};
use super::query;
use super::relations::{cluster, row_filter, unresolved, view_properties};
use super::run::{Session, failed, known_function, primary_key_name, table};
use super::statement::{Change, Source};
use crate::api::uc::{TABLE, Uc, put, tables};

/// Adds a constraint; a foreign key that names no columns means the parent's primary key.
pub(super) fn add_constraint(uc: &mut Uc<'_>, name: &str, mut constraint: Value) -> Sql<()> {
    let foreign = &constraint["foreign_key_constraint"];
    if let Some(parent) = foreign["parent_table"].as_str()
        && foreign["parent_columns"].as_array().is_none_or(Vec::is_empty)
    {
        let parent = uc.get(&TABLE, parent).map_err(|_| query::no_table(parent))?;
        let keys = parent["table_constraints"].as_array().cloned().unwrap_or_default();
        let key = keys.iter().map(|c| &c["primary_key_constraint"]).find(|k| !k.is_null());
        constraint["foreign_key_constraint"]["parent_columns"] =
            key.map(|k| k["child_columns"].clone()).unwrap_or_default();
    }
    tables::add_constraint(uc, name, &constraint).map_err(failed)
}

pub(super) fn drop_constraint(
    uc: &mut Uc<'_>,
    name: &str,
    constraint: Option<String>,
    if_exists: bool,
    cascade: bool,
) -> Sql<()> {
    let mut item = table(uc, name)?;
    let Some(constraint) = constraint.or_else(|| primary_key_name(&item)) else {
        return if if_exists {
            Ok(())
        } else {
            Err(SqlError::new("CONSTRAINT_DOES_NOT_EXIST", "42704", "There is no primary key."))
        };
    };
    // The text of a CHECK is a property of the table.
    let check = format!("delta.constraints.{}", constraint.to_lowercase());
    if item["properties"].as_object_mut().is_some_and(|p| p.shift_remove(&check).is_some()) {
        put(&mut uc.store, &TABLE, name, &item);
    }
    match tables::drop_constraint(uc, name, &constraint, cascade) {
        Err(e) if if_exists && e.status == 404 => Ok(()),
        result => result.map_err(failed),
    }
}

/// The changes only tables and views have.
pub(super) fn alter(uc: &Uc<'_>, item: &mut Value, change: Change, session: &Session) -> Sql<()> {
    match change {
        Change::AddCheck(name, text) => {
            let key = format!("delta.constraints.{}", name.to_lowercase());
            if !item["properties"][&key].is_null() {
                return Err(SqlError::new(
                    "CONSTRAINT_ALREADY_EXISTS",
                    "42710",
                    format!("Constraint '{name}' already exists."),
                ));
            }
            item["properties"][key] = json!(text);
            let constraint = json!({"named_table_constraint": {"name": name}});
            match item["table_constraints"].as_array_mut() {
                Some(list) => list.push(constraint),
                None => item["table_constraints"] = json!([constraint]),
            }
        }
        Change::RowFilter(Some((function, columns))) => {
            let filter = row_filter(uc, item, &function, &columns)?;
            item["row_filter"] = filter;
        }
        Change::RowFilter(None) => drop(item.as_object_mut().and_then(|i| i.shift_remove("row_filter"))),
        Change::Mask(name, mask) => {
            if let Some((function, using)) = &mask {
                known_function(uc, function)?;
                for other in using {
                    tables::known_column(item, other).map_err(failed)?;
                }
            }
            let column = column_mut(item, &name)?;
            match mask {
                Some((function, using)) => {
                    let mut value = json!({"function_name": function});
                    if !using.is_empty() {
                        value["using_column_names"] = json!(using);
                    }
                    column.insert("mask".to_owned(), value);
                }
                None => drop(column.shift_remove("mask")),
            }
        }
        Change::ColumnComment(name, comment) => {
            let column = column_mut(item, &name)?;
            column.insert("comment".to_owned(), json!(comment));
            in_type_json(column, |json| json["metadata"]["comment"] = json!(comment));
        }
        Change::ColumnNullable(name, nullable) => {
            let column = column_mut(item, &name)?;
            column.insert("nullable".to_owned(), json!(nullable));
            in_type_json(column, |json| json["nullable"] = json!(nullable));
        }
        Change::ColumnType(name, kind) => {
            let column = column_mut(item, &name)?;
            column.insert("type_text".to_owned(), json!(kind.text()));
            column.insert("type_name".to_owned(), json!(kind.name()));
            in_type_json(column, |json| json["type"] = kind.json());
        }
        Change::AddColumns(new) => {
            for mut column in new {
                let name = column.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                if tables::known_column(item, &name).is_ok() {
                    return Err(SqlError::new(
                        "FIELD_ALREADY_EXISTS",
                        "42710",
                        format!("Cannot add column, because `{name}` already exists."),
                    ));
                }
                let list = item["columns"].as_array().map_or(0, Vec::len);
                column.insert("position".to_owned(), json!(list));
                if let Some(columns) = item["columns"].as_array_mut() {
                    columns.push(Value::Object(column));
                }
            }
        }
        Change::DropColumn(name, if_exists) => {
            if let Err(e) = tables::known_column(item, &name) {
                return if if_exists { Ok(()) } else { Err(failed(e)) };
            }
            if let Some(columns) = item["columns"].as_array_mut() {
                columns.retain(|c| !c["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(&name)));
                for (i, column) in columns.iter_mut().enumerate() {
                    column["position"] = json!(i);
                }
            }
        }
        Change::RenameColumn(old, new) => {
            let column = column_mut(item, &old)?;
            column.insert("name".to_owned(), json!(new));
            in_type_json(column, |json| json["name"] = json!(new));
        }
        Change::Cluster(by) => {
            let columns: Vec<Map<String, Value>> = item["columns"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_object)
                .cloned()
                .collect();
            if let Some(properties) = item["properties"].as_object_mut() {
                properties.shift_remove("clusteringColumns");
                properties.shift_remove("clusterByAuto");
                if let Some(by) = by {
                    cluster(&columns, &by, properties)?;
                }
            }
        }
        Change::Body(source) => body(uc, item, &source, session)?,
        _ => {}
    }
    Ok(())
}

/// A new query for a view.
fn body(uc: &Uc<'_>, item: &mut Value, source: &Source, session: &Session) -> Sql<()> {
    let uses = query::uses(uc, &source.query, &session.catalog, &session.schema)?;
    let columns = query::columns(uc, source, &uses)?;
    let mut properties = item["properties"].as_object().cloned().unwrap_or_default();
    properties.retain(|k, _| !k.starts_with("view.query.out."));
    view_properties(&mut properties, &columns, session);
    item["properties"] = Value::Object(properties);
    item["columns"] = json!(columns);
    item["view_definition"] = json!(source.text);
    item["view_dependencies"] = uses.json();
    Ok(())
}

fn column_mut<'a>(item: &'a mut Value, name: &str) -> Sql<&'a mut Map<String, Value>> {
    let same = |c: &&mut Value| c["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name));
    let found = item["columns"].as_array_mut().and_then(|c| c.iter_mut().find(same));
    found.and_then(Value::as_object_mut).ok_or_else(|| unresolved(name))
}

fn in_type_json(column: &mut Map<String, Value>, change: impl FnOnce(&mut Value)) {
    let text = column.get("type_json").and_then(Value::as_str).unwrap_or("{}");
    let mut json: Value = serde_json::from_str(text).unwrap_or_default();
    change(&mut json);
    column.insert("type_json".to_owned(), json!(json.to_string()));
}
