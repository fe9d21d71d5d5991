//! What a statement says, before anything is done about it.

use serde_json::{Map, Value};
use sqlparser::ast::Query;

use super::alter;
use super::create;
use super::cursor::{Cursor, Sql};
use super::show;
use crate::api::uc::{
    CATALOG, CONNECTION, CREDENTIAL, FUNCTION, LOCATION, Level, Row, SCHEMA, TABLE, VOLUME,
};

/// How a CREATE treats what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Fail,
    Keep,
    Replace,
}

/// A query and its text.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) text: String,
    pub(crate) query: Query,
}

/// A table or view to be created.
#[derive(Debug)]
pub(crate) struct Relation {
    pub(crate) name: String,
    pub(crate) existing: Existing,
    /// `table_type`.
    pub(crate) kind: &'static str,
    pub(crate) columns: Vec<Map<String, Value>>,
    pub(crate) constraints: Vec<Value>,
    pub(crate) format: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) partitions: Vec<String>,
    pub(crate) clusters: Option<Vec<String>>,
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) row_filter: Option<(String, Vec<String>)>,
    pub(crate) source: Option<Source>,
    /// Table of which this is a clone, and whether it is a deep one.
    pub(crate) clone_of: Option<(String, bool)>,
    /// The YAML of a metric view.
    pub(crate) yaml: Option<String>,
}

/// One change of an ALTER.
#[derive(Debug)]
pub(crate) enum Change {
    Owner(String),
    Rename(String),
    Set(Vec<(String, String)>),
    Unset(Vec<String>, bool),
    Field(&'static str, Value),
    AddConstraint(Value),
    /// A CHECK, with the text of its condition.
    AddCheck(String, String),
    DropConstraint {
        name: Option<String>,
        if_exists: bool,
        cascade: bool,
    },
    RowFilter(Option<(String, Vec<String>)>),
    Mask(String, Option<(String, Vec<String>)>),
    ColumnComment(String, String),
    ColumnNullable(String, bool),
    ColumnType(String, super::types::Type),
    AddColumns(Vec<Map<String, Value>>),
    DropColumn(String, bool),
    RenameColumn(String, String),
    Cluster(Option<Vec<String>>),
    Body(Source),
    /// Accepted, and nothing that a list or get of these APIs would show.
    Nothing,
}

/// A statement.
#[derive(Debug)]
pub(crate) enum Statement {
    Catalog {
        existing: Existing,
        body: Map<String, Value>,
    },
    Schema {
        name: String,
        existing: Existing,
        body: Map<String, Value>,
    },
    Volume {
        name: String,
        existing: Existing,
        body: Map<String, Value>,
    },
    Function {
        name: String,
        existing: Existing,
        body: Map<String, Value>,
        source: Option<Source>,
    },
    Relation(Box<Relation>),
    Drop {
        row: &'static Row,
        kinds: &'static [&'static str],
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    Alter {
        row: &'static Row,
        name: String,
        change: Box<Change>,
    },
    Grant {
        securable: String,
        name: String,
        privileges: Vec<String>,
        principal: String,
        revoke: bool,
    },
    Query(Box<Source>),
    Show(show::Show),
    /// Valid, and without an effect that outlives the statement: there is no session (section 5.4).
    Nothing,
}

/// The type of securable an ALTER, DROP, COMMENT or GRANT speaks of, and how many parts its names have.
pub(crate) fn securable(c: &mut Cursor<'_>) -> Option<(&'static Row, &'static [&'static str])> {
    const TABLES: &[&str] = &[
        "MANAGED",
        "EXTERNAL",
        "STREAMING_TABLE",
        "MANAGED_SHALLOW_CLONE",
        "EXTERNAL_SHALLOW_CLONE",
        "FOREIGN",
    ];
    const VIEWS: &[&str] = &["VIEW", "METRIC_VIEW"];
    const WORDS: [(&str, &Row, &[&str]); 12] = [
        ("CATALOG", &CATALOG, &[]),
        ("SCHEMA", &SCHEMA, &[]),
        ("DATABASE", &SCHEMA, &[]),
        ("MATERIALIZED VIEW", &TABLE, &["MATERIALIZED_VIEW"]),
        ("STREAMING TABLE", &TABLE, &["STREAMING_TABLE"]),
        ("TABLE", &TABLE, TABLES),
        ("VIEW", &TABLE, VIEWS),
        ("VOLUME", &VOLUME, &[]),
        ("FUNCTION", &FUNCTION, &[]),
        ("EXTERNAL LOCATION", &LOCATION, &[]),
        ("STORAGE CREDENTIAL", &CREDENTIAL, &[]),
        ("CONNECTION", &CONNECTION, &[]),
    ];
    WORDS.into_iter().find(|(words, ..)| c.take(words)).map(|(_, row, kinds)| (row, kinds))
}

/// How many parts the full name of a securable has.
pub(crate) fn parts_of(row: &Row) -> usize {
    match row.level {
        Level::Metastore => 1,
        Level::Catalog => 2,
        Level::Schema => 3,
    }
}

/// Reads one statement to its end.
pub(crate) fn parse(c: &mut Cursor<'_>) -> Sql<Statement> {
    let statement = if c.take("CREATE") {
        create::parse(c)?
    } else if c.take("ALTER") {
        alter::parse(c)?
    } else if c.take("DROP") {
        drop_one(c)?
    } else if c.take("COMMENT ON") {
        comment(c)?
    } else if c.take("GRANT") {
        grant(c, false)?
    } else if c.take("REVOKE") {
        grant(c, true)?
    } else if c.take("USE") {
        let _ = c.take("CATALOG") || c.take("SCHEMA") || c.take("DATABASE");
        c.parts()?;
        Statement::Nothing
    } else if c.take("REFRESH")
        || c.take("OPTIMIZE")
        || c.take("VACUUM")
        || c.take("MSCK REPAIR")
        || c.take("ANALYZE")
    {
        c.rest();
        Statement::Nothing
    } else if let Some(shown) = show::parse(c)? {
        Statement::Show(shown)
    } else {
        let (text, query) = c.query()?;
        Statement::Query(Box::new(Source { text: text.to_owned(), query }))
    };
    c.end()?;
    Ok(statement)
}

fn drop_one(c: &mut Cursor<'_>) -> Sql<Statement> {
    let Some((row, kinds)) = securable(c) else { return Err(c.unexpected()) };
    let if_exists = c.take("IF EXISTS");
    let name = c.name(parts_of(row))?;
    let cascade = c.take("CASCADE") || c.take("FORCE");
    let _ = c.take("RESTRICT");
    Ok(Statement::Drop { row, kinds, name, if_exists, cascade })
}

fn comment(c: &mut Cursor<'_>) -> Sql<Statement> {
    if c.take("COLUMN") {
        let mut parts = c.parts()?;
        let column = parts.pop().unwrap_or_default();
        let name = c.complete(parts, 3)?;
        c.expect("IS")?;
        let text = text_or_null(c)?;
        return Ok(Statement::Alter {
            row: &TABLE,
            name,
            change: Box::new(Change::ColumnComment(column, text)),
        });
    }
    let Some((row, _)) = securable(c) else { return Err(c.unexpected()) };
    let name = c.name(parts_of(row))?;
    c.expect("IS")?;
    let text = text_or_null(c)?;
    Ok(Statement::Alter { row, name, change: Box::new(Change::Field("comment", Value::String(text))) })
}

fn text_or_null(c: &mut Cursor<'_>) -> Sql<String> {
    if c.take("NULL") { Ok(String::new()) } else { c.string() }
}

/// `p1, p2 ON type name TO principal`.
fn grant(c: &mut Cursor<'_>, revoke: bool) -> Sql<Statement> {
    let mut privileges = Vec::new();
    loop {
        let mut words = vec![c.ident()?];
        while !c.sees("ON") && *c.peek() != sqlparser::tokenizer::Token::Comma {
            words.push(c.ident()?);
        }
        // Section 3.8: enum strings use `_`, SQL uses spaces.
        privileges.push(words.join("_").to_uppercase());
        if !c.take_token(&sqlparser::tokenizer::Token::Comma) {
            break;
        }
    }
    c.expect("ON")?;
    let (securable, name) = if c.take("METASTORE") {
        ("metastore".to_owned(), String::new())
    } else {
        // Without a type a table is meant; a model is granted on as a function.
        let row = if c.take("MODEL") { &FUNCTION } else { securable(c).map_or(&TABLE, |s| s.0) };
        (row.securable.to_owned(), c.name(parts_of(row))?)
    };
    c.expect(if revoke { "FROM" } else { "TO" })?;
    let principal = c.ident()?;
    Ok(Statement::Grant { securable, name, privileges, principal, revoke })
}
