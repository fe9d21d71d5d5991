//! ALTER of everything (section 5.1).

use serde_json::{Value, json};
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Sql};
use super::statement::{Change, Source, Statement, parts_of, securable};
use super::types;
use super::{columns, create};
use crate::api::uc::{Row, SCHEMA, TABLE};

/// Reads what follows ALTER.
pub(super) fn parse(c: &mut Cursor<'_>) -> Sql<Statement> {
    let Some((row, _)) = securable(c) else { return Err(c.unexpected()) };
    let name = c.name(parts_of(row))?;
    let change = change(c, row, &name)?;
    Ok(Statement::Alter { row, name, change: Box::new(change) })
}

fn change(c: &mut Cursor<'_>, row: &Row, name: &str) -> Sql<Change> {
    if c.take("SET OWNER TO") || c.take("OWNER TO") {
        return Ok(Change::Owner(c.ident()?));
    }
    if c.take("RENAME TO") {
        let parts = c.parts()?;
        return Ok(Change::Rename(c.complete(parts, parts_of(row))?));
    }
    if c.take("SET TAGS") || c.take("UNSET TAGS") || c.take("DEFAULT COLLATION") {
        c.rest();
        return Ok(Change::Nothing);
    }
    for (words, value) in [("ENABLE", "ENABLE"), ("DISABLE", "DISABLE"), ("INHERIT", "INHERIT")] {
        if c.take(&format!("{words} PREDICTIVE OPTIMIZATION")) {
            return Ok(Change::Field("enable_predictive_optimization", json!(value)));
        }
    }
    if c.take("SET DBPROPERTIES") || (row.kind != SCHEMA.kind && c.take("SET TBLPROPERTIES")) {
        return Ok(Change::Set(c.properties()?));
    }
    if c.take("UNSET TBLPROPERTIES") || c.take("UNSET DBPROPERTIES") {
        let if_exists = c.take("IF EXISTS");
        return Ok(Change::Unset(c.list(|c| c.string().or_else(|_| Ok(c.parts()?.join("."))))?, if_exists));
    }
    if row.kind == TABLE.kind {
        return of_table(c, name);
    }
    Err(c.unexpected())
}

fn of_table(c: &mut Cursor<'_>, name: &str) -> Sql<Change> {
    let table = name.rsplit('.').next().unwrap_or_default();
    if c.sees("ADD CONSTRAINT") || c.sees("ADD PRIMARY KEY") || c.sees("ADD FOREIGN KEY") {
        c.expect("ADD")?;
        let at = c.position();
        if c.take("CONSTRAINT") {
            let name = c.ident()?;
            if c.take("CHECK") {
                c.expect_token(&Token::LParen)?;
                let text = c.expr()?.0.to_owned();
                c.expect_token(&Token::RParen)?;
                let _ = c.take("ENFORCED");
                return Ok(Change::AddCheck(name, text));
            }
            c.rewind(at);
        }
        let constraint = columns::constraint(c, table)?;
        return constraint.map(Change::AddConstraint).ok_or_else(|| c.unexpected());
    }
    if c.take("DROP CONSTRAINT") {
        let if_exists = c.take("IF EXISTS");
        let name = Some(c.ident()?);
        let cascade = c.take("CASCADE");
        let _ = c.take("RESTRICT");
        return Ok(Change::DropConstraint { name, if_exists, cascade });
    }
    if c.take("DROP PRIMARY KEY") {
        let if_exists = c.take("IF EXISTS");
        let cascade = c.take("CASCADE");
        let _ = c.take("RESTRICT");
        return Ok(Change::DropConstraint { name: None, if_exists, cascade });
    }
    if c.take("SET ROW FILTER") {
        return Ok(Change::RowFilter(Some(create::row_filter(c)?)));
    }
    if c.take("DROP ROW FILTER") {
        return Ok(Change::RowFilter(None));
    }
    if c.take("ALTER COLUMN") || c.take("CHANGE COLUMN") {
        return of_column(c);
    }
    if c.take("ADD COLUMNS") || c.take("ADD COLUMN") {
        let mut ignored = Vec::new();
        let mut one = |c: &mut Cursor<'_>| {
            let name = c.ident()?;
            let column = columns::column(c, &name, 0, table, &mut ignored)?;
            if c.take("AFTER") {
                let _ = c.ident()?;
            }
            let _ = c.take("FIRST");
            Ok(column)
        };
        let columns = if *c.peek() == Token::LParen { c.list(one)? } else { vec![one(c)?] };
        return Ok(Change::AddColumns(columns));
    }
    if c.take("DROP COLUMN") {
        let if_exists = c.take("IF EXISTS");
        return Ok(Change::DropColumn(c.ident()?, if_exists));
    }
    if c.take("RENAME COLUMN") {
        let old = c.ident()?;
        c.expect("TO")?;
        return Ok(Change::RenameColumn(old, c.ident()?));
    }
    if c.take("CLUSTER BY") {
        return Ok(Change::Cluster(create::clusters(c)?));
    }
    if c.take("AS") {
        let (text, query) = c.query()?;
        return Ok(Change::Body(Source { text: text.to_owned(), query }));
    }
    Err(c.unexpected())
}

fn of_column(c: &mut Cursor<'_>) -> Sql<Change> {
    let column = c.ident()?;
    if c.take("SET MASK") {
        return Ok(Change::Mask(column, Some(columns::mask(c)?)));
    }
    if c.take("DROP MASK") {
        return Ok(Change::Mask(column, None));
    }
    if c.take("COMMENT") {
        return Ok(Change::ColumnComment(column, c.string()?));
    }
    if c.take("SET NOT NULL") {
        return Ok(Change::ColumnNullable(column, false));
    }
    if c.take("DROP NOT NULL") {
        return Ok(Change::ColumnNullable(column, true));
    }
    if c.take("TYPE") {
        return Ok(Change::ColumnType(column, types::parse(c)?));
    }
    if c.take("SET TAGS")
        || c.take("UNSET TAGS")
        || c.take("SET DEFAULT")
        || c.take("DROP DEFAULT")
        || c.take("SYNC IDENTITY")
    {
        c.rest();
        return Ok(Change::Nothing);
    }
    Err(c.unexpected())
}

/// The value a property list has as JSON.
pub(super) fn properties(pairs: &[(String, String)]) -> Value {
    Value::Object(pairs.iter().map(|(k, v)| (k.clone(), json!(v))).collect())
}
