//! SHOW and DESCRIBE: what the catalog knows, as rows.

use serde_json::Value;

use super::cursor::{Cursor, Sql};
use super::query::Rows;
use super::statement::{parts_of, securable};
use crate::api::uc::{CATALOG, FUNCTION, GRANTS, Row, SCHEMA, TABLE, Uc, VOLUME, grants};

/// One of them.
#[derive(Debug)]
pub(crate) enum Show {
    /// Items of a type under a parent.
    Names(&'static Row, String),
    CreateTable(String),
    Describe(String),
    Grants(String, String),
}

/// Reads one if one comes next.
pub(super) fn parse(c: &mut Cursor<'_>) -> Sql<Option<Show>> {
    if c.take("DESCRIBE") || c.take("DESC") {
        let _ = c.take("TABLE");
        let _ = c.take("EXTENDED");
        return Ok(Some(Show::Describe(c.name(3)?)));
    }
    if !c.take("SHOW") {
        return Ok(None);
    }
    if c.take("CREATE TABLE") {
        return Ok(Some(Show::CreateTable(c.name(3)?)));
    }
    if c.take("GRANTS ON") {
        let row = securable(c).map_or(&TABLE, |s| s.0);
        return Ok(Some(Show::Grants(row.securable.to_owned(), c.name(parts_of(row))?)));
    }
    if c.take("CATALOGS") {
        return Ok(Some(Show::Names(&CATALOG, String::new())));
    }
    if c.take("SCHEMAS") || c.take("DATABASES") {
        let parent = if c.take("IN") || c.take("FROM") { c.name(1)? } else { c.catalog.clone() };
        return Ok(Some(Show::Names(&SCHEMA, parent)));
    }
    let _ = c.take("USER");
    for (word, row) in [("TABLES", &TABLE), ("VIEWS", &TABLE), ("VOLUMES", &VOLUME), ("FUNCTIONS", &FUNCTION)]
    {
        if c.take(word) {
            let here = format!("{}.{}", c.catalog, c.schema);
            let parent = if c.take("IN") || c.take("FROM") { c.name(2)? } else { here };
            return Ok(Some(Show::Names(row, parent)));
        }
    }
    Err(c.unexpected())
}

/// The rows of one.
pub(super) fn rows(uc: &Uc<'_>, show: &Show) -> Sql<Rows> {
    let text = |v: &Value, f: &str| v[f].as_str().unwrap_or_default().to_owned();
    match show {
        Show::Names(row, parent) => {
            let column = match row.items {
                "catalogs" => "catalog",
                "schemas" => "databaseName",
                "tables" => "tableName",
                _ => "name",
            };
            match parent.split('.').count() {
                _ if parent.is_empty() => {}
                1 => drop(uc.catalog(parent).map_err(super::run::failed)?),
                _ => drop(uc.get(&SCHEMA, parent).map_err(super::run::failed)?),
            }
            let parent = (!parent.is_empty()).then_some(parent.as_str());
            let items: Vec<Value> = uc.store.scan(row.kind, parent, 0).map(|d| d.value).collect();
            Ok(Rows::of(&[column], items.iter().map(|i| vec![Some(text(i, "name"))]).collect()))
        }
        Show::CreateTable(name) => {
            let table = uc.get(&TABLE, name).map_err(super::run::failed)?;
            Ok(Rows::of(&["createtab_stmt"], vec![vec![Some(ddl(&table))]]))
        }
        Show::Describe(name) => {
            let table = uc.get(&TABLE, name).map_err(super::run::failed)?;
            let columns = table["columns"].as_array().cloned().unwrap_or_default();
            let rows = columns
                .iter()
                .map(|c| {
                    vec![
                        Some(text(c, "name")),
                        Some(text(c, "type_text")),
                        c["comment"].as_str().map(str::to_owned),
                    ]
                })
                .collect();
            Ok(Rows::of(&["col_name", "data_type", "comment"], rows))
        }
        Show::Grants(securable, name) => {
            let all = uc.store.get(GRANTS, &grants::key(securable, name)).unwrap_or_default();
            let mut rows = Vec::new();
            for (principal, privileges) in all.as_object().into_iter().flatten() {
                for privilege in privileges.as_array().into_iter().flatten() {
                    let action = privilege.as_str().unwrap_or_default().replace('_', " ");
                    rows.push(vec![
                        Some(principal.clone()),
                        Some(action),
                        Some(securable.to_uppercase()),
                        Some(name.clone()),
                    ]);
                }
            }
            Ok(Rows::of(&["Principal", "ActionType", "ObjectType", "ObjectKey"], rows))
        }
    }
}

fn quoted(name: &str) -> String {
    let part = |p: &str| {
        if !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            p.to_owned()
        } else {
            format!("`{}`", p.replace('`', "``"))
        }
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The server's own rendering (section 5.2, cross-check).
fn ddl(table: &Value) -> String {
    let text = |f: &str| table[f].as_str().unwrap_or_default();
    let name = quoted(text("full_name"));
    let comment = table["comment"].as_str().map_or_else(String::new, |c| format!("\nCOMMENT {}", literal(c)));
    let columns = table["columns"].as_array().map_or(&[][..], Vec::as_slice);
    if let Some(definition) = table["view_definition"].as_str() {
        let names: Vec<String> =
            columns.iter().map(|c| format!("  {}", quoted(c["name"].as_str().unwrap_or_default()))).collect();
        let what = text("table_type").replace('_', " ");
        return format!("CREATE {what} {name} (\n{}){comment}\nAS {definition}\n", names.join(",\n"));
    }
    let mut lines: Vec<String> = columns
        .iter()
        .map(|c| {
            let mut line = format!(
                "  {} {}",
                quoted(c["name"].as_str().unwrap_or_default()),
                c["type_text"].as_str().unwrap_or_default().to_uppercase()
            );
            if c["nullable"] == false {
                line.push_str(" NOT NULL");
            }
            if let Some(comment) = c["comment"].as_str() {
                line.push_str(&format!(" COMMENT {}", literal(comment)));
            }
            if let Some(function) = c["mask"]["function_name"].as_str() {
                line.push_str(&format!(" MASK {}", quoted(function)));
            }
            line
        })
        .collect();
    let list = |v: &Value| {
        v.as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(quoted)
            .collect::<Vec<_>>()
            .join(", ")
    };
    for constraint in table["table_constraints"].as_array().into_iter().flatten() {
        let (primary, foreign) =
            (&constraint["primary_key_constraint"], &constraint["foreign_key_constraint"]);
        if let Some(key) = primary["name"].as_str() {
            lines.push(format!(
                "  CONSTRAINT {} PRIMARY KEY ({})",
                quoted(key),
                list(&primary["child_columns"])
            ));
        } else if let Some(key) = foreign["name"].as_str() {
            lines.push(format!(
                "  CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({})",
                quoted(key),
                list(&foreign["child_columns"]),
                quoted(foreign["parent_table"].as_str().unwrap_or_default()),
                list(&foreign["parent_columns"])
            ));
        }
    }
    let mut out = format!(
        "CREATE TABLE {name} (\n{})\nUSING {}",
        lines.join(",\n"),
        text("data_source_format").to_lowercase()
    );
    let partitions: Vec<&str> =
        columns.iter().filter(|c| c["partition_index"].is_u64()).filter_map(|c| c["name"].as_str()).collect();
    if !partitions.is_empty() {
        out.push_str(&format!("\nPARTITIONED BY ({})", partitions.join(", ")));
    }
    if text("table_type") == "EXTERNAL" {
        out.push_str(&format!("\nLOCATION {}", literal(text("storage_location"))));
    }
    format!("{out}{comment}\n")
}
