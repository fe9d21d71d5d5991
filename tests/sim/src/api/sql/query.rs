//! Queries: which tables and functions they name, and the rows of those that name none.
//!
//! The tables of the simulator hold no data, so a query that reads one has no rows; what is checked is
//! what a warehouse checks first: that everything it names is there.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use serde_json::{Map, Value, json};
use sqlparser::ast::{
    Expr, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableFactor, UnaryOperator,
    Value as Literal, Visit, Visitor,
};

use super::cursor::{Sql, SqlError};
use super::statement::Source;
use crate::api::uc::{FUNCTION, TABLE, Uc};

/// A result: column names and values, all of them strings or null (section 5.4).
#[derive(Debug, Default, Clone)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<String>,
    pub(crate) values: Vec<Vec<Option<String>>>,
}

impl Rows {
    pub(super) fn of(columns: &[&str], values: Vec<Vec<Option<String>>>) -> Self {
        Self { columns: columns.iter().map(|c| (*c).to_owned()).collect(), values }
    }
}

/// What a query depends on, by full name.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    pub(crate) tables: BTreeSet<String>,
    pub(crate) functions: BTreeSet<String>,
}

impl Uses {
    /// As a view tells them.
    pub(crate) fn json(&self) -> Value {
        let tables = self.tables.iter().map(|t| json!({"table": {"table_full_name": t}}));
        let functions = self.functions.iter().map(|f| json!({"function": {"function_full_name": f}}));
        json!({"dependencies": tables.chain(functions).collect::<Vec<_>>()})
    }
}

struct Finder<'a> {
    catalog: &'a str,
    schema: &'a str,
    /// Names of common table expressions, which hide tables.
    with: BTreeSet<String>,
    uses: Uses,
}

fn name_parts(name: &ObjectName) -> Vec<String> {
    let ident = |p: &ObjectNamePart| p.as_ident().map(|i| i.value.clone());
    name.0.iter().filter_map(ident).collect()
}

impl Finder<'_> {
    fn full(&self, parts: &[String]) -> String {
        let name = match parts {
            [table] => format!("{}.{}.{table}", self.catalog, self.schema),
            [schema, table] => format!("{}.{schema}.{table}", self.catalog),
            _ => parts.join("."),
        };
        name.to_lowercase()
    }
}

impl Visitor for Finder<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|w| &w.cte_tables) {
            self.with.insert(cte.alias.name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor {
            let parts = name_parts(name);
            let hidden = parts.len() == 1 && self.with.contains(&parts[0].to_lowercase());
            // `delta.`path`` and its like read files, not tables.
            let path = parts.len() == 2 && parts[1].contains('/');
            if !hidden && !path {
                self.uses.tables.insert(self.full(&parts));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            let parts = name_parts(&function.name);
            if parts.len() > 1 {
                self.uses.functions.insert(self.full(&parts));
            }
        }
        ControlFlow::Continue(())
    }
}

/// What a query names, resolved, all of which must be there.
pub(crate) fn uses(uc: &Uc<'_>, query: &Query, catalog: &str, schema: &str) -> Sql<Uses> {
    let mut finder = Finder { catalog, schema, with: BTreeSet::new(), uses: Uses::default() };
    let _ = query.visit(&mut finder);
    for table in &finder.uses.tables {
        // The views of information schemas are not simulated one by one.
        if table.split('.').nth(1) != Some("information_schema") && uc.get(&TABLE, table).is_err() {
            return Err(no_table(table));
        }
    }
    for function in &finder.uses.functions {
        if uc.get(&FUNCTION, function).is_err() {
            return Err(no_function(function));
        }
    }
    Ok(finder.uses)
}

pub(super) fn no_table(name: &str) -> SqlError {
    SqlError::new(
        "TABLE_OR_VIEW_NOT_FOUND",
        "42P01",
        format!(
            "The table or view `{}` cannot be found. Verify the spelling and correctness of the schema and catalog.",
            name.replace('.', "`.`")
        ),
    )
}

pub(super) fn no_function(name: &str) -> SqlError {
    let name = name.replace('.', "`.`");
    SqlError::new("UNRESOLVED_ROUTINE", "42883", format!("Cannot resolve routine `{name}` on search path."))
}

fn select(query: &Query) -> Option<&Select> {
    match query.body.as_ref() {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(inner) => select(inner),
        SetExpr::SetOperation { left, .. } => match left.as_ref() {
            SetExpr::Select(select) => Some(select),
            SetExpr::Query(inner) => select(inner),
            _ => None,
        },
        _ => None,
    }
}

/// The columns a query gives: those of a table where it names them, else strings of that name.
pub(crate) fn columns(uc: &Uc<'_>, source: &Source, uses: &Uses) -> Sql<Vec<Map<String, Value>>> {
    let Some(select) = select(&source.query) else { return Ok(Vec::new()) };
    let known: Vec<Value> = uses.tables.iter().filter_map(|t| uc.store.get(TABLE.kind, t)).collect();
    let of_table = |t: &Value| t["columns"].as_array().cloned().unwrap_or_default();
    let all: Vec<Value> = known.iter().flat_map(of_table).collect();
    let simple = select.from.len() == 1
        && select.from[0].joins.is_empty()
        && known.len() == 1
        && uses.tables.len() == 1;
    let derived = select.from.iter().any(|f| !matches!(f.relation, TableFactor::Table { .. }));
    let find =
        |name: &str| all.iter().find(|c| c["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)));
    let mut columns: Vec<Map<String, Value>> = Vec::new();
    let mut add = |name: &str, from: Option<&Value>| {
        let position = columns.len();
        let plain = super::types::Type::Plain("string", "string", "STRING");
        let mut column = plain.column(name, position, Map::new());
        if let Some(from) = from.and_then(Value::as_object) {
            for field in ["type_text", "type_name", "type_precision", "type_scale", "comment"] {
                if let Some(value) = from.get(field) {
                    column.insert(field.to_owned(), value.clone());
                }
            }
            let text = from.get("type_json").and_then(Value::as_str).unwrap_or("{}");
            let mut json: Value = serde_json::from_str(text).unwrap_or_default();
            json["name"] = json!(name);
            column.insert("type_json".to_owned(), json!(json.to_string()));
        }
        columns.push(column);
    };
    for (i, item) in select.projection.iter().enumerate() {
        match item {
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                for column in &all {
                    add(column["name"].as_str().unwrap_or_default(), Some(column));
                }
            }
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => {
                let found = find(&ident.value);
                if found.is_none() && simple && !derived && source.query.with.is_none() {
                    return Err(SqlError::new(
                        "UNRESOLVED_COLUMN.WITH_SUGGESTION",
                        "42703",
                        format!(
                            "A column, variable, or function parameter with name `{}` cannot be resolved.",
                            ident.value
                        ),
                    ));
                }
                add(&ident.value, found);
            }
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                let name = parts.last().map_or("", |p| p.value.as_str());
                add(name, find(name));
            }
            SelectItem::UnnamedExpr(expr) => add(&expr.to_string(), None),
            SelectItem::ExprWithAlias { expr, alias } => {
                let from = match expr {
                    Expr::Identifier(ident) => find(&ident.value),
                    Expr::CompoundIdentifier(parts) => parts.last().and_then(|p| find(&p.value)),
                    _ => None,
                };
                add(&alias.value, from);
            }
            SelectItem::ExprWithAliases { aliases, .. } => {
                add(&aliases.first().map_or_else(|| format!("col{i}"), |a| a.value.clone()), None);
            }
        }
    }
    Ok(columns)
}

/// The rows of a query: one of values if it reads no table, else none.
pub(crate) fn rows(uc: &Uc<'_>, source: &Source, catalog: &str, schema: &str) -> Sql<Rows> {
    let uses = uses(uc, &source.query, catalog, schema)?;
    let names: Vec<String> = columns(uc, source, &uses)?
        .iter()
        .map(|c| c.get("name").and_then(Value::as_str).unwrap_or_default().to_owned())
        .collect();
    let mut values = Vec::new();
    if let Some(select) = select(&source.query)
        && select.from.is_empty()
    {
        let row = select.projection.iter().map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                value(uc, expr, catalog, schema)
            }
            _ => None,
        });
        values.push(row.collect());
    }
    Ok(Rows { columns: names, values })
}

fn value(uc: &Uc<'_>, expr: &Expr, catalog: &str, schema: &str) -> Option<String> {
    match expr {
        Expr::Value(v) => match &v.value {
            Literal::Number(n, _) => Some(n.clone()),
            Literal::SingleQuotedString(s) | Literal::DoubleQuotedString(s) => Some(s.clone()),
            Literal::Boolean(b) => Some(b.to_string()),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            value(uc, expr, catalog, schema).map(|v| format!("-{v}"))
        }
        Expr::Nested(inner) => value(uc, inner, catalog, schema),
        Expr::Function(function) => match function.name.to_string().to_lowercase().as_str() {
            "current_catalog" => Some(catalog.to_owned()),
            "current_schema" | "current_database" => Some(schema.to_owned()),
            "current_user" | "session_user" => Some(uc.req.caller.name.clone()),
            "current_metastore" => Some(format!("aws:eu-central-1:{}", uc.req.ws.metastore.id)),
            "version" => Some("4.0.0".to_owned()),
            _ => None,
        },
        _ => None,
    }
}
