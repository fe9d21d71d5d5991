//! CREATE of everything (section 5.1).

use serde_json::{Map, Value, json};
use sqlparser::tokenizer::Token;

use super::columns::{column, constraint};
use super::cursor::{Cursor, Sql, SqlError};
use super::statement::{Existing, Relation, Source, Statement};
use super::types;

/// Reads what follows CREATE.
pub(super) fn parse(c: &mut Cursor<'_>) -> Sql<Statement> {
    let replace = c.take("OR REPLACE");
    let refresh = c.take("OR REFRESH");
    if c.take("FOREIGN CATALOG") {
        return catalog(c, true);
    }
    if c.take("CATALOG") {
        return catalog(c, false);
    }
    if c.take("SCHEMA") || c.take("DATABASE") {
        return schema(c);
    }
    if c.take("EXTERNAL VOLUME") {
        return volume(c, true);
    }
    if c.take("VOLUME") {
        return volume(c, false);
    }
    if c.take("FUNCTION") {
        return function(c, replace);
    }
    let kind = if c.take("MATERIALIZED VIEW") {
        "MATERIALIZED_VIEW"
    } else if c.take("STREAMING TABLE") {
        "STREAMING_TABLE"
    } else if c.take("VIEW") {
        "VIEW"
    } else if c.take("EXTERNAL TABLE") || c.take("TABLE") {
        "MANAGED"
    } else {
        return Err(c.unexpected());
    };
    relation(c, kind, replace || refresh)
}

fn existing(c: &mut Cursor<'_>, replace: bool) -> Sql<Existing> {
    match (c.take("IF NOT EXISTS"), replace) {
        (true, true) => Err(SqlError::syntax("IF NOT EXISTS and OR REPLACE cannot be used together.")),
        (true, false) => Ok(Existing::Keep),
        (false, true) => Ok(Existing::Replace),
        (false, false) => Ok(Existing::Fail),
    }
}

fn object(pairs: Vec<(String, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(k, v)| (k, Value::String(v))).collect())
}

fn catalog(c: &mut Cursor<'_>, foreign: bool) -> Sql<Statement> {
    let existing = existing(c, false)?;
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(c.name(1)?));
    while !c.done() {
        let (field, value) = if c.take("MANAGED LOCATION") {
            ("storage_root", json!(c.string()?))
        } else if c.take("COMMENT") {
            ("comment", json!(c.string()?))
        } else if foreign && c.take("USING CONNECTION") {
            ("connection_name", json!(c.ident()?))
        } else if foreign && c.take("OPTIONS") {
            ("options", object(c.properties()?))
        } else if c.take("USING SHARE") {
            let parts = c.parts()?;
            let [provider, share] = parts.as_slice() else { return Err(c.unexpected()) };
            body.insert("provider_name".to_owned(), json!(provider));
            ("share_name", json!(share))
        } else {
            return Err(c.unexpected());
        };
        body.insert(field.to_owned(), value);
    }
    if foreign && !body.contains_key("connection_name") {
        return Err(c.unexpected());
    }
    Ok(Statement::Catalog { existing, body })
}

fn schema(c: &mut Cursor<'_>) -> Sql<Statement> {
    let existing = existing(c, false)?;
    let name = c.name(2)?;
    let mut body = Map::new();
    while !c.done() {
        let (field, value) = if c.take("MANAGED LOCATION") {
            ("storage_root", json!(c.string()?))
        } else if c.take("COMMENT") {
            ("comment", json!(c.string()?))
        } else if c.take("WITH DBPROPERTIES") {
            ("properties", object(c.properties()?))
        } else {
            return Err(c.unexpected());
        };
        body.insert(field.to_owned(), value);
    }
    Ok(Statement::Schema { name, existing, body })
}

fn volume(c: &mut Cursor<'_>, external: bool) -> Sql<Statement> {
    let existing = existing(c, false)?;
    let name = c.name(3)?;
    let mut body = Map::new();
    body.insert("volume_type".to_owned(), json!(if external { "EXTERNAL" } else { "MANAGED" }));
    while !c.done() {
        let (field, value) = if c.take("LOCATION") {
            ("storage_location", json!(c.string()?))
        } else if c.take("COMMENT") {
            ("comment", json!(c.string()?))
        } else {
            return Err(c.unexpected());
        };
        body.insert(field.to_owned(), value);
    }
    Ok(Statement::Volume { name, existing, body })
}

fn function(c: &mut Cursor<'_>, replace: bool) -> Sql<Statement> {
    let existing = existing(c, replace)?;
    let name = c.name(3)?;
    let mut body = Map::new();
    let parameters = parameters(c)?;
    if !parameters.is_empty() {
        body.insert("input_params".to_owned(), json!({"parameters": parameters}));
    }
    let mut table = false;
    if c.take("RETURNS TABLE") {
        table = true;
        let columns = if *c.peek() == Token::LParen { self::parameters(c)? } else { Vec::new() };
        let fields: Vec<String> = columns
            .iter()
            .map(|p| format!("{} {}", text(p, "name"), text(p, "type_text").to_uppercase()))
            .collect();
        body.insert("full_data_type".to_owned(), json!(format!("({})", fields.join(", "))));
        body.insert("data_type".to_owned(), json!("TABLE_TYPE"));
        body.insert("return_params".to_owned(), json!({"parameters": columns}));
    } else if c.take("RETURNS") {
        let kind = types::parse(c)?;
        body.insert("data_type".to_owned(), json!(kind.name()));
        body.insert("full_data_type".to_owned(), json!(kind.text().to_uppercase()));
    }
    let mut language = "SQL".to_owned();
    let mut source = None;
    loop {
        if c.take("LANGUAGE") {
            language = c.ident()?.to_uppercase();
        } else if c.take("NOT DETERMINISTIC") {
            body.insert("is_deterministic".to_owned(), json!(false));
        } else if c.take("DETERMINISTIC") {
            body.insert("is_deterministic".to_owned(), json!(true));
        } else if c.take("COMMENT") {
            body.insert("comment".to_owned(), json!(c.string()?));
        } else if c.take("READS SQL DATA") {
            body.insert("sql_data_access".to_owned(), json!("READS_SQL_DATA"));
        } else if c.take("CONTAINS SQL") {
            body.insert("sql_data_access".to_owned(), json!("CONTAINS_SQL"));
        } else {
            break;
        }
    }
    let definition = if c.take("RETURN") {
        if language != "SQL" {
            return Err(SqlError::syntax(format!("RETURN is not allowed for LANGUAGE {language}.")));
        }
        if table || c.sees("SELECT") || c.sees("WITH") {
            let (text, query) = c.query()?;
            source = Some(Source { text: text.to_owned(), query });
            text.to_owned()
        } else {
            c.expr()?.0.to_owned()
        }
    } else if c.take("AS") {
        if language == "SQL" {
            return Err(c.unexpected());
        }
        c.string()?
    } else {
        return Err(c.unexpected());
    };
    body.insert("routine_definition".to_owned(), json!(definition));
    body.entry("data_type").or_insert_with(|| json!("STRING"));
    body.entry("full_data_type").or_insert_with(|| json!("STRING"));
    if language == "SQL" {
        body.insert("routine_body".to_owned(), json!("SQL"));
    } else {
        body.insert("routine_body".to_owned(), json!("EXTERNAL"));
        body.insert("external_language".to_owned(), json!(language));
        body.entry("sql_data_access").or_insert_with(|| json!("NO_SQL"));
    }
    Ok(Statement::Function { name, existing, body, source })
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn parameters(c: &mut Cursor<'_>) -> Sql<Vec<Value>> {
    let mut position = 0;
    c.list(|c| {
        let name = c.ident()?;
        let kind = types::parse(c)?;
        let mut parameter = kind.column(&name, position, Map::new());
        parameter.shift_remove("nullable");
        position += 1;
        parameter.insert("parameter_mode".to_owned(), json!("IN"));
        parameter.insert("parameter_type".to_owned(), json!("PARAM"));
        loop {
            if c.take("DEFAULT") {
                parameter.insert("parameter_default".to_owned(), json!(c.expr()?.0));
            } else if c.take("COMMENT") {
                parameter.insert("comment".to_owned(), json!(c.string()?));
            } else {
                return Ok(Value::Object(parameter));
            }
        }
    })
}

fn relation(c: &mut Cursor<'_>, kind: &'static str, replace: bool) -> Sql<Statement> {
    let existing = existing(c, replace)?;
    let mut r = Relation {
        name: c.name(3)?,
        existing,
        kind,
        columns: Vec::new(),
        constraints: Vec::new(),
        format: None,
        location: None,
        comment: None,
        partitions: Vec::new(),
        clusters: None,
        properties: Vec::new(),
        row_filter: None,
        source: None,
        clone_of: None,
        yaml: None,
    };
    for (words, deep) in [("DEEP CLONE", true), ("SHALLOW CLONE", false), ("CLONE", true)] {
        if r.clone_of.is_none() && c.take(words) {
            r.clone_of = Some((c.name(3)?, deep));
        }
    }
    if *c.peek() == Token::LParen {
        elements(c, &mut r)?;
    }
    clauses(c, &mut r)?;
    if kind.ends_with("VIEW") && r.source.is_none() && r.yaml.is_none() {
        return Err(c.unexpected());
    }
    Ok(Statement::Relation(Box::new(r)))
}

fn clauses(c: &mut Cursor<'_>, r: &mut Relation) -> Sql<()> {
    while !c.done() {
        if c.take("USING") {
            r.format = Some(c.ident()?.to_uppercase());
        } else if c.take("LOCATION") {
            r.location = Some(c.string()?);
        } else if c.take("COMMENT") {
            r.comment = Some(c.string()?);
        } else if c.take("PARTITIONED BY") {
            r.partitions = c.list(Cursor::ident)?;
        } else if c.take("CLUSTER BY") {
            r.clusters = clusters(c)?;
        } else if c.take("TBLPROPERTIES") {
            r.properties.extend(c.properties()?);
        } else if c.take("OPTIONS") {
            // Section 5.1: options come back as properties with a prefix.
            let options = c.properties()?.into_iter().map(|(k, v)| (format!("option.{k}"), v));
            r.properties.extend(options);
        } else if c.take("WITH ROW FILTER") {
            r.row_filter = Some(row_filter(c)?);
        } else if c.take("WITH SCHEMA") {
            let _ = c.take("TYPE");
            let _ = c.ident()?;
        } else if c.take("SCHEDULE") {
            let _ = c.take("REFRESH");
            while !c.done() && !c.sees("AS") {
                let _ = c.next();
            }
        } else if r.kind == "VIEW" && c.take("WITH METRICS") {
            c.expect("LANGUAGE YAML")?;
            while !c.sees("AS") {
                c.expect("COMMENT")?;
                r.comment = Some(c.string()?);
            }
            c.expect("AS")?;
            r.yaml = Some(c.string()?);
            r.kind = "METRIC_VIEW";
        } else {
            if !c.take("AS") && !c.sees("SELECT") && !c.sees("WITH") {
                return Err(c.unexpected());
            }
            let at = c.position();
            let text = c.rest().to_owned();
            c.rewind(at);
            if r.kind == "STREAMING_TABLE" {
                c.without_stream();
            }
            let (_, query) = c.query()?;
            c.end()?;
            r.source = Some(Source { text, query });
        }
    }
    Ok(())
}

/// `AUTO`, `NONE`, or columns.
pub(super) fn clusters(c: &mut Cursor<'_>) -> Sql<Option<Vec<String>>> {
    if c.take("AUTO") {
        return Ok(Some(Vec::new()));
    }
    if c.take("NONE") {
        return Ok(None);
    }
    Ok(Some(c.list(|c| Ok(c.parts()?.join(".")))?))
}

/// `f ON (a, b)`.
pub(super) fn row_filter(c: &mut Cursor<'_>) -> Sql<(String, Vec<String>)> {
    let function = c.name(3)?;
    c.expect("ON")?;
    Ok((function, c.list(Cursor::ident)?))
}

/// Columns and constraints of a table, or the column list of a view.
fn elements(c: &mut Cursor<'_>, r: &mut Relation) -> Sql<()> {
    let view = r.kind == "VIEW";
    let mut columns = Vec::new();
    let mut constraints = Vec::new();
    let table = r.name.rsplit('.').next().unwrap_or_default().to_owned();
    let mut position = 0;
    c.list(|c| {
        if let Some(constraint) = constraint(c, &table)? {
            constraints.push(constraint);
            return Ok(());
        }
        let name = c.ident()?;
        // A view, or a table made from a query, may name its columns without types.
        let untyped = view || matches!(c.peek(), Token::Comma | Token::RParen) || c.sees("COMMENT");
        let column = if untyped {
            let mut column = Map::new();
            column.insert("name".to_owned(), json!(name));
            if c.take("COMMENT") {
                column.insert("comment".to_owned(), json!(c.string()?));
            }
            column
        } else {
            column(c, &name, position, &table, &mut constraints)?
        };
        position += 1;
        columns.push(column);
        Ok(())
    })?;
    r.columns = columns;
    r.constraints = constraints;
    Ok(())
}
