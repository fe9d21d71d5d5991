//! Tables and views: creating them.

use serde_json::{Map, Value, json};

use super::changes::add_constraint;
use super::cursor::{Sql, SqlError};
use super::query::{self, Uses};
use super::run::{Session, covered, failed, known_function, property_map};
use super::statement::{Existing, Relation};
use crate::api::uc::{TABLE, Uc, managed_root, put, schemas, tables};
use crate::clock::rfc3339;

/// The log of an external Delta table, which outlives the table: by location, its columns.
const DELTA_LOG: &str = "uc_delta_log";

/// Creates a table or view of any type.
pub(super) fn create(uc: &mut Uc<'_>, relation: Relation, session: &Session) -> Sql<()> {
    let name = relation.name.clone();
    let old = uc.get(&TABLE, &name).ok();
    match (&old, relation.existing) {
        (Some(_), Existing::Keep) => return Ok(()),
        (Some(_), Existing::Fail) => {
            return Err(SqlError::new(
                "TABLE_OR_VIEW_ALREADY_EXISTS",
                "42P07",
                format!("Cannot create table or view `{name}` because it already exists."),
            ));
        }
        (Some(old), Existing::Replace) => same_sort(old, &relation)?,
        (None, _) => {}
    }
    uc.reach(&TABLE, &name).map_err(failed)?;
    if schemas::catalog_type(uc, &name) != "MANAGED_CATALOG" {
        return Err(SqlError::new(
            "UNSUPPORTED_FEATURE.CATALOG_OPERATION",
            "0A000",
            "This catalog does not support CREATE TABLE.",
        ));
    }
    if matches!(relation.kind, "MATERIALIZED_VIEW" | "STREAMING_TABLE") && !session.pro {
        return Err(SqlError::new(
            "UNSUPPORTED_FEATURE.SQL_WAREHOUSE_TYPE",
            "0A000",
            format!("{} requires a pro or serverless SQL warehouse.", relation.kind.replace('_', " ")),
        ));
    }
    let constraints = relation.constraints.clone();
    let item = if relation.kind.ends_with("VIEW") || relation.kind == "STREAMING_TABLE" {
        view(uc, relation, session)?
    } else {
        self::relation(uc, relation, session)?
    };
    if old.is_some() {
        uc.store.remove(TABLE.kind, &name);
    }
    let made = uc.create(&TABLE, item).map_err(failed);
    let result = made.and_then(|mut made| {
        if let Some(old) = &old {
            // Replacing keeps identity and owner; grants stand apart and stay too.
            for field in ["table_id", "owner", "created_at", "created_by"] {
                made[field] = old[field].clone();
            }
            put(&mut uc.store, &TABLE, &name, &made);
        }
        constraints.into_iter().try_for_each(|c| add_constraint(uc, &name, c))
    });
    if result.is_err() {
        // A statement is done whole or not at all.
        uc.store.remove(TABLE.kind, &name);
        if let Some(old) = &old {
            put(&mut uc.store, &TABLE, &name, old);
        }
    }
    result
}

fn same_sort(old: &Value, new: &Relation) -> Sql<()> {
    let is_view = |k: &str| k.ends_with("VIEW");
    let kind = old["table_type"].as_str().unwrap_or_default();
    if is_view(kind) == is_view(new.kind) {
        return Ok(());
    }
    Err(SqlError::new(
        "EXPECT_TABLE_NOT_VIEW.NO_ALTERNATIVE",
        "42809",
        format!("'CREATE OR REPLACE' cannot replace `{}`, which is a {kind}.", new.name),
    ))
}

/// The fields that all have.
fn base(relation: &Relation) -> Map<String, Value> {
    let mut item = Map::new();
    item.insert("full_name".to_owned(), json!(relation.name));
    item.insert("table_type".to_owned(), json!(relation.kind));
    if let Some(comment) = &relation.comment {
        item.insert("comment".to_owned(), json!(comment));
    }
    item
}

fn view(uc: &mut Uc<'_>, relation: Relation, session: &Session) -> Sql<Map<String, Value>> {
    let mut item = base(&relation);
    let mut properties = property_map(&relation);
    let format = if relation.kind == "VIEW" { "UNKNOWN_DATA_SOURCE_FORMAT" } else { "DELTA" };
    item.insert("data_source_format".to_owned(), json!(format));
    if let Some(yaml) = &relation.yaml {
        item.insert("view_definition".to_owned(), json!(yaml));
        item.insert("view_dependencies".to_owned(), Uses::default().json());
    }
    if let Some(source) = &relation.source {
        let uses = query::uses(uc, &source.query, &session.catalog, &session.schema)?;
        let mut columns = query::columns(uc, source, &uses)?;
        rename_columns(&relation, &mut columns)?;
        if relation.kind == "VIEW" {
            view_properties(&mut properties, &columns, session);
        }
        item.insert("columns".to_owned(), json!(columns));
        item.insert("view_definition".to_owned(), json!(source.text));
        item.insert("view_dependencies".to_owned(), uses.json());
    } else {
        item.insert("columns".to_owned(), json!(relation.columns));
    }
    if relation.kind == "MATERIALIZED_VIEW" || relation.kind == "STREAMING_TABLE" {
        // Section 5.1: made by SQL, so the pipeline behind it belongs to the server.
        item.insert("pipeline_id".to_owned(), json!(uc.req.ws.metastore.fresh().uuid()));
    }
    item.insert("properties".to_owned(), Value::Object(properties));
    Ok(item)
}

/// The names and comments that the statement gives to the columns of its query.
fn rename_columns(relation: &Relation, columns: &mut [Map<String, Value>]) -> Sql<()> {
    if relation.columns.is_empty() {
        return Ok(());
    }
    if !columns.is_empty() && relation.columns.len() != columns.len() {
        return Err(SqlError::new(
            "CREATE_VIEW_COLUMN_ARITY_MISMATCH",
            "21S01",
            format!("Cannot create view `{}`: the number of columns differs.", relation.name),
        ));
    }
    for (column, given) in columns.iter_mut().zip(&relation.columns) {
        column.extend(given.clone());
    }
    Ok(())
}

/// Section 5.1: what names inside the definition resolve against is kept in properties.
pub(crate) fn view_properties(
    properties: &mut Map<String, Value>,
    columns: &[Map<String, Value>],
    session: &Session,
) {
    for (key, value) in [
        ("view.catalogAndNamespace.numParts", "2".to_owned()),
        ("view.catalogAndNamespace.part.0", session.catalog.clone()),
        ("view.catalogAndNamespace.part.1", session.schema.clone()),
        ("view.query.out.numCols", columns.len().to_string()),
        ("view.sqlConfig.spark.sql.ansi.enabled", "true".to_owned()),
    ] {
        properties.insert(key.to_owned(), json!(value));
    }
    for (i, column) in columns.iter().enumerate() {
        properties.insert(format!("view.query.out.col.{i}"), column.get("name").cloned().unwrap_or_default());
    }
}

fn relation(uc: &mut Uc<'_>, mut relation: Relation, session: &Session) -> Sql<Map<String, Value>> {
    let format = relation.format.clone().unwrap_or_else(|| "DELTA".to_owned());
    let delta = format == "DELTA";
    clone_columns(uc, &mut relation)?;
    if let Some(source) = &relation.source {
        let uses = query::uses(uc, &source.query, &session.catalog, &session.schema)?;
        let mut columns = query::columns(uc, source, &uses)?;
        rename_columns(&relation, &mut columns)?;
        relation.columns = columns;
    }
    check_columns(uc, &relation)?;
    let mut properties = property_map(&relation);
    match &relation.location {
        Some(location) => {
            covered(uc, location)?;
            if relation.kind == "MANAGED" {
                relation.kind = "EXTERNAL";
            }
            if delta {
                from_log(uc, &location.clone(), &mut relation.columns)?;
            }
        }
        None if !delta && format != "ICEBERG" => {
            return Err(SqlError::new(
                "MANAGED_TABLE_FORMAT",
                "0AKDC",
                format!(
                    "Only Delta is supported for managed tables. Provided data source format is {}.",
                    format.to_lowercase()
                ),
            ));
        }
        None => {}
    }
    partition(&mut relation)?;
    if let Some(clusters) = &relation.clusters {
        cluster(&relation.columns, clusters, &mut properties)?;
    }
    if delta {
        for (key, value) in [
            ("delta.lastCommitTimestamp", uc.req.now().to_string()),
            ("delta.lastUpdateVersion", "0".to_owned()),
            ("delta.minReaderVersion", "1".to_owned()),
            ("delta.minWriterVersion", "2".to_owned()),
        ] {
            properties.entry(key).or_insert_with(|| json!(value));
        }
    }
    let managed = || format!("{}/tables/{}", managed_root(&uc.req.ws), uc.req.ws.metastore.fresh().uuid());
    let location = relation.location.clone().unwrap_or_else(managed);
    let mut item = base(&relation);
    for (field, value) in [
        ("data_source_format", json!(format)),
        ("columns", json!(relation.columns)),
        ("storage_location", json!(location)),
        ("properties", Value::Object(properties)),
    ] {
        item.insert(field.to_owned(), value);
    }
    if let Some((function, columns)) = &relation.row_filter {
        let filter = row_filter(uc, &Value::Object(item.clone()), function, columns)?;
        item.insert("row_filter".to_owned(), filter);
    }
    if relation.kind == "EXTERNAL" && delta {
        let log = json!({"columns": relation.columns, "at": rfc3339(uc.req.now())});
        uc.store.put(DELTA_LOG, location.trim_end_matches('/'), &log);
    }
    Ok(item)
}

fn clone_columns(uc: &Uc<'_>, relation: &mut Relation) -> Sql<()> {
    let Some((source, deep)) = &relation.clone_of else { return Ok(()) };
    let source = uc.get(&TABLE, source).map_err(|_| query::no_table(source))?;
    let columns = source["columns"].as_array().cloned().unwrap_or_default();
    relation.columns = columns.iter().filter_map(Value::as_object).cloned().collect();
    if !deep {
        relation.kind =
            if relation.location.is_some() { "EXTERNAL_SHALLOW_CLONE" } else { "MANAGED_SHALLOW_CLONE" };
    }
    Ok(())
}

fn check_columns(uc: &Uc<'_>, relation: &Relation) -> Sql<()> {
    let text =
        |c: &Map<String, Value>, f: &str| c.get(f).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut seen = std::collections::BTreeSet::new();
    for column in &relation.columns {
        let name = text(column, "name");
        if !seen.insert(name.to_lowercase()) {
            return Err(SqlError::new(
                "COLUMN_ALREADY_EXISTS",
                "42711",
                format!("The column `{name}` already exists."),
            ));
        }
        if let Some(mask) = column.get("mask") {
            known_function(uc, mask["function_name"].as_str().unwrap_or_default())?;
        }
        // Section 5.1: defaults need the table feature.
        let feature = relation.properties.iter().any(|(k, _)| k == "delta.feature.allowColumnDefaults");
        if text(column, "type_json").contains("CURRENT_DEFAULT") && !feature {
            return Err(SqlError::new(
                "WRONG_COLUMN_DEFAULTS_FOR_DELTA_FEATURE_NOT_ENABLED",
                "0AKDE",
                "Failed to execute the command because DEFAULT values are not supported when adding new columns: the table feature allowColumnDefaults is not enabled.",
            ));
        }
    }
    Ok(())
}

/// Section 5.2: an external Delta table takes its schema from the log; other columns than those fail.
fn from_log(uc: &Uc<'_>, location: &str, columns: &mut Vec<Map<String, Value>>) -> Sql<()> {
    let location = location.trim_end_matches('/');
    let logged = uc.store.get(DELTA_LOG, location).map(|l| l["columns"].clone()).or_else(|| {
        let same =
            |t: &Value| t["storage_location"].as_str().is_some_and(|l| l.trim_end_matches('/') == location);
        uc.store.find(TABLE.kind, same).map(|t| t["columns"].clone())
    });
    let logged: Vec<Map<String, Value>> = logged
        .and_then(|l| l.as_array().cloned())
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_object)
        .cloned()
        .collect();
    if columns.is_empty() && logged.is_empty() {
        return Err(SqlError::new(
            "DELTA_CREATE_EXTERNAL_TABLE_WITHOUT_SCHEMA",
            "42601",
            format!(
                "You are trying to create an external table from `{location}`, but the schema is not specified when the input path is empty."
            ),
        ));
    }
    let shape = |c: &Map<String, Value>| (c.get("name").cloned(), c.get("type_text").cloned());
    if columns.is_empty() {
        *columns = logged;
    } else if !logged.is_empty() && !columns.iter().map(shape).eq(logged.iter().map(shape)) {
        return Err(SqlError::new(
            "DELTA_CREATE_TABLE_SCHEME_MISMATCH",
            "42KD7",
            format!("The specified schema does not match the existing schema at {location}."),
        ));
    }
    Ok(())
}

fn partition(relation: &mut Relation) -> Sql<()> {
    for (i, name) in relation.partitions.iter().enumerate() {
        let same = |c: &&mut Map<String, Value>| {
            c.get("name").and_then(Value::as_str).is_some_and(|n| n.eq_ignore_ascii_case(name))
        };
        match relation.columns.iter_mut().find(same) {
            Some(column) => drop(column.insert("partition_index".to_owned(), json!(i))),
            None => return Err(unresolved(name)),
        }
    }
    Ok(())
}

pub(super) fn unresolved(column: &str) -> SqlError {
    SqlError::new(
        "UNRESOLVED_COLUMN.WITH_SUGGESTION",
        "42703",
        format!("A column with name `{column}` cannot be resolved."),
    )
}

/// Section 5.1: clustering is told by two properties.
pub(super) fn cluster(
    columns: &[Map<String, Value>],
    by: &[String],
    properties: &mut Map<String, Value>,
) -> Sql<()> {
    if by.is_empty() {
        properties.insert("clusterByAuto".to_owned(), json!("true"));
        return Ok(());
    }
    for name in by {
        let top = name.split('.').next().unwrap_or_default();
        if !columns
            .iter()
            .any(|c| c.get("name").and_then(Value::as_str).is_some_and(|n| n.eq_ignore_ascii_case(top)))
        {
            return Err(unresolved(name));
        }
    }
    let paths: Vec<Vec<&str>> = by.iter().map(|b| b.split('.').collect()).collect();
    properties.insert("clusteringColumns".to_owned(), json!(json!(paths).to_string()));
    Ok(())
}

pub(super) fn row_filter(uc: &Uc<'_>, table: &Value, function: &str, columns: &[String]) -> Sql<Value> {
    known_function(uc, function)?;
    for column in columns {
        tables::known_column(table, column).map_err(failed)?;
    }
    Ok(json!({"function_name": function, "input_column_names": columns}))
}
