//! Tables, views and functions as SQL: what the catalog's API cannot make. The rendering follows the vendor's SQL reference:
//! <https://docs.databricks.com/aws/en/sql/language-manual/>.
//!
//! A table that is there is never made anew, since that would take its data: it is altered, and where its columns differ it
//! is left alone.

use lakehold_proto::fault::{Class, Fault, Result};
use serde_json::{Map, Value};

use super::super::kinds::path;
use crate::source::blueprint::Concern;

/// One statement, and the names it resolves unqualified names against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) catalog: Option<String>,
    pub(super) schema: Option<String>,
}

/// Table types that are made of a query.
const VIEWS: [&str; 4] = ["VIEW", "METRIC_VIEW", "MATERIALIZED_VIEW", "STREAMING_TABLE"];

/// Properties that the server makes of something else, by how they begin.
const DERIVED: [&str; 13] = [
    "delta.lastCommitTimestamp",
    "delta.lastUpdateVersion",
    "delta.minReaderVersion",
    "delta.minWriterVersion",
    "delta.constraints.",
    "delta.rowTracking.materialized",
    "spark.sql.",
    "view.",
    "clusteringColumns",
    "clusterByAuto",
    "pipelines.",
    "table_type",
    "option.serialization.format",
];

/// The statement of a row's template, for `object`.
///
/// # Errors
/// `Unsupported` when the template needs what the object does not have.
pub(super) fn render(template: &str, object: &Value) -> Result<Statement> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((slot, after)) = behind.split_once('}') else { break };
        text.push_str(before);
        text.push_str(&clause(slot, object)?);
        rest = after;
    }
    text.push_str(rest);
    Ok(statement(
        object,
        text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "),
        &text,
    ))
}

/// White space between clauses is put in order; what is inside them must not be.
fn statement(object: &Value, ordered: String, text: &str) -> Statement {
    let part = |n: u8| {
        let property = format!("view.catalogAndNamespace.part.{n}");
        object.get("properties")?.get(property)?.as_str().map(str::to_owned)
    };
    // Only a text without literals and bodies may be put in order.
    let plain = !text.contains(['\'', '\n', '"', '$']);
    let text = if plain { ordered } else { text.trim().to_owned() };
    Statement { text, catalog: part(0), schema: part(1) }
}

/// What follows once a table was made: checks, which can only be added.
pub(super) fn afterwards(object: &Value) -> Vec<Statement> {
    let Some(name) = full_name(object) else { return Vec::new() };
    let checks =
        properties(object).filter_map(|(key, value)| Some((key.strip_prefix("delta.constraints.")?, value)));
    checks
        .map(|(check, text)| {
            let text = format!("ALTER TABLE {name} ADD CONSTRAINT {} CHECK ({text})", quoted(check));
            statement(object, text.clone(), &text)
        })
        .collect()
}

/// The constraints of a table that was made without them.
pub(super) fn constraints_later(object: &Value) -> Vec<Statement> {
    let Some(name) = full_name(object) else { return Vec::new() };
    let all = constraints(object).into_iter();
    all.map(|constraint| {
        let text = format!("ALTER TABLE {name} ADD {constraint}");
        statement(object, text.clone(), &text)
    })
    .collect()
}

/// Whether an item of this object is made of a query, so that it may be made anew.
pub(super) fn is_view(object: &Value) -> bool {
    matches!(text(object, "table_type").as_str(), "VIEW" | "METRIC_VIEW" | "MATERIALIZED_VIEW")
}

/// The statements that make the table `is` into the table `wanted` without touching its data.
///
/// # Errors
/// `Unsupported` when their columns differ.
pub(super) fn alterations(is: &Value, wanted: &Value) -> Result<Vec<Statement>> {
    let Some(name) = full_name(wanted) else { return Ok(Vec::new()) };
    let shape = |table: &Value| -> Vec<(String, String)> {
        columns(table)
            .iter()
            .map(|column| (text(column, "name"), text(column, "type_text").to_lowercase()))
            .collect()
    };
    if text(is, "table_type") != text(wanted, "table_type") || shape(is) != shape(wanted) {
        let detail =
            "the target's table has other columns, or is of another type; making it anew would take its data";
        return Err(Fault::new(
            Class::Unsupported,
            "table.differs",
            format!("alter the table {name}"),
            detail,
        )
        .hint("alter its columns by hand, or rename it, and restore again"));
    }
    let mut found: Vec<String> = Vec::new();
    if text(is, "comment") != text(wanted, "comment") {
        found.push(format!("COMMENT ON TABLE {name} IS {}", literal(&text(wanted, "comment"))));
    }
    let (before, after): (Map<_, _>, Map<_, _>) = (kept(is), kept(wanted));
    let set: Map<String, Value> = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(*value))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if !set.is_empty() {
        found.push(format!("ALTER TABLE {name} SET TBLPROPERTIES ({})", pairs(set.iter())));
    }
    let unset: Vec<_> =
        before.keys().filter(|key| !after.contains_key(*key)).map(|key| literal(key)).collect();
    if !unset.is_empty() {
        found.push(format!("ALTER TABLE {name} UNSET TBLPROPERTIES IF EXISTS ({})", unset.join(", ")));
    }
    for (is, wanted) in columns(is).iter().zip(columns(wanted)) {
        let column = quoted(&text(&wanted, "name"));
        if text(is, "comment") != text(&wanted, "comment") {
            let comment = literal(&text(&wanted, "comment"));
            found.push(format!("ALTER TABLE {name} ALTER COLUMN {column} COMMENT {comment}"));
        }
        match (is.get("mask"), wanted.get("mask")) {
            (is, wanted) if is == wanted => {}
            (_, Some(_)) => {
                found.push(format!("ALTER TABLE {name} ALTER COLUMN {column} SET {}", mask(&wanted)));
            }
            (_, None) => found.push(format!("ALTER TABLE {name} ALTER COLUMN {column} DROP MASK")),
        }
    }
    match (is.get("row_filter"), wanted.get("row_filter")) {
        (is, wanted) if is == wanted => {}
        (_, Some(_)) => {
            found.push(format!("ALTER TABLE {name} SET {}", row_filter(wanted).replacen("WITH ", "", 1)));
        }
        (_, None) => found.push(format!("ALTER TABLE {name} DROP ROW FILTER")),
    }
    let (before, after) = (constraints(is), constraints(wanted));
    for gone in path::find(is, "table_constraints[].*.name").iter().filter_map(Value::as_str) {
        let said = |constraint: &&String| constraint.starts_with(&format!("CONSTRAINT {} ", quoted(gone)));
        if before.iter().find(said) != after.iter().find(said) {
            found.push(format!("ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {} CASCADE", quoted(gone)));
        }
    }
    found.extend(after.iter().filter(|c| !before.contains(c)).map(|c| format!("ALTER TABLE {name} ADD {c}")));
    Ok(found.into_iter().map(|text| statement(wanted, text.clone(), &text)).collect())
}

/// What of a table no definition brings back.
pub(super) fn shortcomings(object: &Value) -> Vec<Concern> {
    match text(object, "table_type").as_str() {
        "MANAGED" => {
            vec![Concern::ByHand("the data of the table: a snapshot has its definition alone".into())]
        }
        "MATERIALIZED_VIEW" | "STREAMING_TABLE" => {
            vec![Concern::ByHand("a refresh, after which it has data again".into())]
        }
        _ => Vec::new(),
    }
}

fn clause(slot: &str, object: &Value) -> Result<String> {
    let kind = text(object, "table_type");
    let rendered = match slot {
        "full_name" => full_name(object),
        "owner" => object.get("owner").and_then(Value::as_str).map(quoted),
        "sort" => Some(match kind.as_str() {
            "VIEW" | "METRIC_VIEW" => "VIEW".into(),
            "MATERIALIZED_VIEW" => "MATERIALIZED VIEW".into(),
            "STREAMING_TABLE" => "STREAMING TABLE".into(),
            _ => "TABLE".into(),
        }),
        "columns" => Some(column_list(object, &kind)),
        "clauses" => Some(clauses(object, &kind)),
        "as" => Some(definition(object, &kind)),
        "parameters" => Some(parameters(object.get("input_params"))),
        "returns" => Some(returns(object)),
        "characteristics" => Some(characteristics(object)),
        "body" => Some(body(object)),
        _ => None,
    };
    rendered.ok_or_else(|| {
        let detail = format!("it has no {slot}");
        Fault::new(Class::Unsupported, "sql.incomplete", "write a statement", detail)
    })
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Every part of a name in backticks.
fn full_name(object: &Value) -> Option<String> {
    let part = |field| object.get(field).and_then(Value::as_str).filter(|part| !part.is_empty()).map(quoted);
    Some(format!("{}.{}.{}", part("catalog_name")?, part("schema_name")?, part("name")?))
}

fn quoted(identifier: &str) -> String {
    format!("`{}`", identifier.replace('`', "``"))
}

/// Functions and parents are named in full; their parts hold no dots.
fn quoted_path(name: &str) -> String {
    name.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn columns(object: &Value) -> Vec<Value> {
    let mut columns = object.get("columns").and_then(Value::as_array).cloned().unwrap_or_default();
    columns.sort_by_key(|column| column.get("position").and_then(Value::as_i64));
    columns
}

fn column_list(object: &Value, kind: &str) -> String {
    let columns = columns(object);
    let mut elements: Vec<String> = columns
        .iter()
        .map(|column| if VIEWS.contains(&kind) { view_column(column) } else { table_column(column) })
        .collect();
    if kind == "METRIC_VIEW" || elements.is_empty() {
        return String::new();
    }
    if !VIEWS.contains(&kind) {
        elements.extend(constraints(object));
    }
    format!("({})", elements.join(", "))
}

fn view_column(column: &Value) -> String {
    let mut written = quoted(&text(column, "name"));
    written.push_str(&comment(column));
    written
}

fn table_column(column: &Value) -> String {
    let mut written = format!("{} {}", quoted(&text(column, "name")), text(column, "type_text"));
    let told: Value = serde_json::from_str(&text(column, "type_json")).unwrap_or_default();
    let told = |name: &str| told.get("metadata").and_then(|told| told.get(name)).cloned();
    let word = |name: &str| told(name).and_then(|value| value.as_str().map(str::to_owned));
    if let Some(expression) = word("delta.generationExpression") {
        written.push_str(&format!(" GENERATED ALWAYS AS ({expression})"));
    } else if let (Some(start), Some(step)) = (told("delta.identity.start"), told("delta.identity.step")) {
        let by = if told("delta.identity.allowExplicitInsert") == Some(Value::Bool(true)) {
            "BY DEFAULT"
        } else {
            "ALWAYS"
        };
        written.push_str(&format!(" GENERATED {by} AS IDENTITY (START WITH {start} INCREMENT BY {step})"));
    } else if let Some(default) = word("CURRENT_DEFAULT") {
        written.push_str(&format!(" DEFAULT {default}"));
    }
    if column.get("nullable") == Some(&Value::Bool(false)) {
        written.push_str(" NOT NULL");
    }
    written.push_str(&comment(column));
    let mask = mask(column);
    if !mask.is_empty() {
        written.push_str(&format!(" {mask}"));
    }
    written
}

fn comment(of: &Value) -> String {
    match text(of, "comment") {
        none if none.is_empty() => String::new(),
        comment => format!(" COMMENT {}", literal(&comment)),
    }
}

fn names(value: &Value, field: &str) -> Vec<String> {
    let all = value.get(field).and_then(Value::as_array);
    all.into_iter().flatten().filter_map(Value::as_str).map(quoted).collect()
}

fn mask(column: &Value) -> String {
    let Some(mask) = column.get("mask").filter(|mask| mask.is_object()) else { return String::new() };
    let using = names(mask, "using_column_names");
    let using =
        if using.is_empty() { String::new() } else { format!(" USING COLUMNS ({})", using.join(", ")) };
    format!("MASK {}{using}", quoted_path(&text(mask, "function_name")))
}

fn row_filter(object: &Value) -> String {
    let Some(filter) = object.get("row_filter").filter(|filter| filter.is_object()) else {
        return String::new();
    };
    format!(
        "WITH ROW FILTER {} ON ({})",
        quoted_path(&text(filter, "function_name")),
        names(filter, "input_column_names").join(", ")
    )
}

/// Keys, as they stand among the columns; primary ones first, since foreign ones may need them.
fn constraints(object: &Value) -> Vec<String> {
    let all = object.get("table_constraints").and_then(Value::as_array);
    let mut written = Vec::new();
    for constraint in all.into_iter().flatten() {
        if let Some(key) = constraint.get("primary_key_constraint") {
            let series: Vec<_> = names(key, "timeseries_columns");
            let columns = names(key, "child_columns").into_iter();
            let columns: Vec<_> =
                columns.map(|c| if series.contains(&c) { format!("{c} TIMESERIES") } else { c }).collect();
            let rely = if key.get("rely") == Some(&Value::Bool(true)) { " RELY" } else { "" };
            written.push((
                0,
                format!(
                    "CONSTRAINT {} PRIMARY KEY ({}){rely}",
                    quoted(&text(key, "name")),
                    columns.join(", ")
                ),
            ));
        }
        if let Some(key) = constraint.get("foreign_key_constraint") {
            let theirs = names(key, "parent_columns");
            let theirs = if theirs.is_empty() { String::new() } else { format!(" ({})", theirs.join(", ")) };
            let rely = if key.get("rely") == Some(&Value::Bool(true)) { " RELY" } else { "" };
            let key = format!(
                "CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {}{theirs}{rely}",
                quoted(&text(key, "name")),
                names(key, "child_columns").join(", "),
                quoted_path(&text(key, "parent_table"))
            );
            written.push((1, key));
        }
    }
    written.sort_by_key(|(order, _)| *order);
    written.into_iter().map(|(_, written)| written).collect()
}

fn properties(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = object.get("properties").and_then(Value::as_object);
    all.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// The properties that somebody set.
fn kept(object: &Value) -> Map<String, Value> {
    let set = properties(object).filter(|(key, _)| !DERIVED.iter().any(|begin| key.starts_with(begin)));
    let set = set.filter(|(key, _)| !key.starts_with("option."));
    set.map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}

fn pairs<'a>(all: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    let pair = |(key, value): (&String, &Value)| {
        format!("{} = {}", literal(key), literal(value.as_str().unwrap_or_default()))
    };
    all.map(pair).collect::<Vec<_>>().join(", ")
}

fn clauses(object: &Value, kind: &str) -> String {
    let mut clauses = Vec::new();
    if !VIEWS.contains(&kind) {
        clauses.push(format!("USING {}", text(object, "data_source_format")));
        let mut partitions: Vec<_> = columns(object)
            .iter()
            .filter_map(|column| {
                Some((column.get("partition_index")?.as_i64()?, quoted(&text(column, "name"))))
            })
            .collect();
        partitions.sort_unstable();
        if !partitions.is_empty() {
            let partitions: Vec<_> = partitions.into_iter().map(|(_, name)| name).collect();
            clauses.push(format!("PARTITIONED BY ({})", partitions.join(", ")));
        }
        clauses.push(clustering(object));
        let options: Map<String, Value> = properties(object)
            .filter(|(key, _)| !DERIVED.contains(key))
            .filter_map(|(key, value)| Some((key.strip_prefix("option.")?.to_owned(), Value::from(value))))
            .collect();
        if !options.is_empty() {
            clauses.push(format!("OPTIONS ({})", pairs(options.iter())));
        }
        if kind == "EXTERNAL" {
            clauses.push(format!("LOCATION {}", literal(&text(object, "storage_location"))));
        }
    }
    if kind != "METRIC_VIEW" {
        clauses.push(comment(object).trim_start().to_owned());
    }
    let kept = kept(object);
    if !kept.is_empty() {
        clauses.push(format!("TBLPROPERTIES ({})", pairs(kept.iter())));
    }
    clauses.push(row_filter(object));
    clauses.retain(|clause| !clause.is_empty());
    clauses.join(" ")
}

fn clustering(object: &Value) -> String {
    let property = |name: &str| properties(object).find(|(key, _)| *key == name).map(|(_, value)| value);
    if property("clusterByAuto") == Some("true") {
        return "CLUSTER BY AUTO".into();
    }
    let paths: Vec<Vec<String>> =
        property("clusteringColumns").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    if paths.is_empty() {
        return String::new();
    }
    let paths = paths.iter().map(|path| path.iter().map(|part| quoted(part)).collect::<Vec<_>>().join("."));
    format!("CLUSTER BY ({})", paths.collect::<Vec<_>>().join(", "))
}

fn definition(object: &Value, kind: &str) -> String {
    let definition = text(object, "view_definition");
    match kind {
        "METRIC_VIEW" => format!("WITH METRICS LANGUAGE YAML{} AS {}", comment(object), dollars(&definition)),
        "VIEW" | "MATERIALIZED_VIEW" | "STREAMING_TABLE" => format!("AS {definition}"),
        _ => String::new(),
    }
}

/// A body between dollar signs, or as a literal where it holds such itself.
fn dollars(body: &str) -> String {
    if body.contains("$$") { literal(body) } else { format!("$${body}$$") }
}

fn parameters(of: Option<&Value>) -> String {
    let mut all =
        of.and_then(|of| of.get("parameters")).and_then(Value::as_array).cloned().unwrap_or_default();
    all.sort_by_key(|parameter| parameter.get("position").and_then(Value::as_i64));
    let written = all.iter().map(|parameter| {
        let mut written = format!("{} {}", quoted(&text(parameter, "name")), text(parameter, "type_text"));
        let default = text(parameter, "parameter_default");
        if !default.is_empty() {
            written.push_str(&format!(" DEFAULT {default}"));
        }
        written + &comment(parameter)
    });
    written.collect::<Vec<_>>().join(", ")
}

fn returns(object: &Value) -> String {
    if text(object, "data_type") == "TABLE_TYPE" {
        return format!("RETURNS TABLE ({})", parameters(object.get("return_params")));
    }
    format!("RETURNS {}", text(object, "full_data_type"))
}

fn characteristics(object: &Value) -> String {
    let mut written = Vec::new();
    let external = text(object, "routine_body") == "EXTERNAL";
    if external {
        written.push(format!("LANGUAGE {}", text(object, "external_language")));
    }
    match object.get("is_deterministic") {
        Some(Value::Bool(true)) => written.push("DETERMINISTIC".into()),
        Some(Value::Bool(false)) => written.push("NOT DETERMINISTIC".into()),
        _ => {}
    }
    written.push(comment(object).trim_start().to_owned());
    match text(object, "sql_data_access").as_str() {
        "READS_SQL_DATA" if !external => written.push("READS SQL DATA".into()),
        "CONTAINS_SQL" if !external => written.push("CONTAINS SQL".into()),
        _ => {}
    }
    written.retain(|word| !word.is_empty());
    written.join(" ")
}

fn body(object: &Value) -> String {
    let body = text(object, "routine_definition");
    if text(object, "routine_body") == "EXTERNAL" {
        format!("AS {}", dollars(&body))
    } else {
        format!("RETURN {body}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::kinds::{Write, row};
    use super::*;

    fn create(kind: &str, object: &Value) -> String {
        let Write::Sql { statement } = row(kind).unwrap().restore.create else { panic!("{kind}") };
        render(statement, object).unwrap().text
    }

    #[test]
    fn a_table_is_written_with_all_its_clauses() {
        let table = json!({"catalog_name": "c`at", "schema_name": "s", "name": "t", "table_type": "EXTERNAL",
            "data_source_format": "DELTA", "comment": "it's", "storage_location": "s3://a/b",
            "properties": {"delta.lastUpdateVersion": "3", "delta.enableChangeDataFeed": "true", "clusteringColumns": "[[\"id\"]]"},
            "row_filter": {"function_name": "c.s.f", "input_column_names": ["id"]},
            "table_constraints": [
                {"foreign_key_constraint": {"name": "fk", "child_columns": ["id"], "parent_table": "c.s.p", "parent_columns": ["id"]}},
                {"primary_key_constraint": {"name": "pk", "child_columns": ["id"], "rely": true}}],
            "columns": [
                {"name": "n", "type_text": "string", "position": 1, "mask": {"function_name": "c.s.m", "using_column_names": ["id"]}},
                {"name": "id", "type_text": "bigint", "position": 0, "nullable": false, "comment": "Key",
                 "type_json": "{\"metadata\": {\"delta.identity.start\": 1, \"delta.identity.step\": 2}}"}]});
        assert_eq!(
            create("table", &table),
            "CREATE TABLE `c``at`.`s`.`t` (`id` bigint GENERATED ALWAYS AS IDENTITY (START WITH 1 INCREMENT BY 2) NOT NULL COMMENT 'Key', \
             `n` string MASK `c`.`s`.`m` USING COLUMNS (`id`), CONSTRAINT `pk` PRIMARY KEY (`id`) RELY, \
             CONSTRAINT `fk` FOREIGN KEY (`id`) REFERENCES `c`.`s`.`p` (`id`)) \
             USING DELTA CLUSTER BY (`id`) LOCATION 's3://a/b' COMMENT 'it\\'s' TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true') \
             WITH ROW FILTER `c`.`s`.`f` ON (`id`)"
        );
    }

    #[test]
    fn a_view_keeps_its_text_and_the_names_it_resolves_against() {
        let view = json!({"catalog_name": "c", "schema_name": "s", "name": "v", "table_type": "VIEW",
            "columns": [{"name": "a", "position": 0}], "view_definition": "SELECT a\nFROM  t",
            "properties": {"view.catalogAndNamespace.part.0": "main", "view.catalogAndNamespace.part.1": "default"}});
        let Write::Sql { statement } = row("table").unwrap().restore.create else { panic!() };
        let made = render(statement, &view).unwrap();
        assert_eq!(made.text, "CREATE VIEW `c`.`s`.`v` (`a`)  AS SELECT a\nFROM  t");
        assert_eq!((made.catalog.as_deref(), made.schema.as_deref()), (Some("main"), Some("default")));
    }

    #[test]
    fn functions_of_both_languages_are_written() {
        let mut function = json!({"catalog_name": "c", "schema_name": "s", "name": "f", "full_data_type": "STRING",
            "routine_body": "SQL", "routine_definition": "upper(x)", "is_deterministic": true, "sql_data_access": "CONTAINS_SQL",
            "input_params": {"parameters": [{"name": "x", "type_text": "string", "position": 0, "parameter_default": "'a'"}]}});
        assert_eq!(
            create("function", &function),
            "CREATE FUNCTION `c`.`s`.`f`(`x` string DEFAULT 'a') RETURNS STRING DETERMINISTIC CONTAINS SQL RETURN upper(x)"
        );
        function["routine_body"] = json!("EXTERNAL");
        function["external_language"] = json!("PYTHON");
        function["routine_definition"] = json!("return  x\n");
        assert!(create("function", &function).ends_with("LANGUAGE PYTHON DETERMINISTIC AS $$return  x\n$$"));
    }

    #[test]
    fn a_table_with_data_is_altered_and_never_made_anew() {
        let table = |comment: &str, kind: &str| {
            json!({"catalog_name": "c", "schema_name": "s", "name": "t", "table_type": "MANAGED", "comment": comment,
                "properties": {"a": comment}, "columns": [{"name": "id", "type_text": kind, "position": 0}]})
        };
        let altered = alterations(&table("x", "int"), &table("y", "int")).unwrap();
        let texts: Vec<_> = altered.iter().map(|statement| statement.text.as_str()).collect();
        assert_eq!(
            texts,
            ["COMMENT ON TABLE `c`.`s`.`t` IS 'y'", "ALTER TABLE `c`.`s`.`t` SET TBLPROPERTIES ('a' = 'y')"]
        );
        assert_eq!(alterations(&table("x", "int"), &table("x", "bigint")).unwrap_err().code, "table.differs");
        assert!(alterations(&table("x", "int"), &table("x", "int")).unwrap().is_empty());
    }
}
