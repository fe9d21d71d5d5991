//! What is written down of an item besides what PostgreSQL's programs write. What was true at that moment alone stands below
//! `captured`, and is not compared.

use lakehold_proto::format::{Role, canonical_json};
use lakehold_proto::ids::{Hash, Kind};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::super::catalog::Table;
use super::super::kinds::{DATABASE, TABLE};
use super::super::names::join;
use crate::capture::{Body, Draft};

/// The field that is not compared.
pub(super) const CAPTURED: &str = "captured";
/// The form of a content that begins an archive of `pg_dump -Fc`, whose blocks, if it has any, are the item's data.
pub(super) const HEAD: &str = "pg_dump-custom-head";
/// The form of the data of such an archive.
pub(super) const BLOCKS: &str = "pg_dump-custom-blocks";

/// Leaves what is compared. A script of globals has lines that are drawn anew each time, against those who would smuggle
/// commands of `psql` into it.
pub(in super::super) fn comparable(document: &mut Value) {
    let Value::Object(members) = document else { return };
    members.remove(CAPTURED);
    if let Some(Value::Array(lines)) = members.get_mut("sql") {
        let drawn = |line: &str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
        lines.retain(|line| !line.as_str().is_some_and(drawn));
    }
}

/// The body of a document.
pub(super) fn body(document: &Value) -> Body {
    let mut compared = document.clone();
    comparable(&mut compared);
    Body::json(document.to_string(), &compared)
}

/// The body of a database's document, with its schema, which stays the text that it is: it is made in one order, and of ten
/// thousand tables it is megabytes.
pub(super) fn with_schema(document: &Value, schema: &RawValue) -> Body {
    let mut compared = document.clone();
    comparable(&mut compared);
    let mut lasting = Sha256::new();
    lasting.update(canonical_json(&compared));
    lasting.update(schema.get());
    let document = document.to_string();
    let raw = format!("{{\"schema\":{},{}", schema.get(), document.trim_start_matches('{'));
    Body::compared(raw, Hash::finish(lasting))
}

/// See [`crate::source::ToldIn`]. An archive is another text for what the catalogue told.
pub fn told_in(kind: &Kind, role: Role) -> &'static [&'static str] {
    match (kind.as_str(), role) {
        (DATABASE, Role::Content) => &["schema", "properties", "settings", "role_settings", "extensions"],
        (TABLE, Role::Content) => &["columns", "rows"],
        _ => &[],
    }
}

/// The item of a table, without anything in it.
pub(super) fn draft(database: &str, table: &Table) -> Draft {
    let name = join(&[database, &table.schema, &table.name]);
    Draft::new(name.clone(), name).parent(join(&[database]))
}

/// What is said of a table. `rows` were counted while they flowed; without them there is only the server's guess.
pub(super) fn table(table: &Table, rows: Option<u64>) -> Value {
    json!({
        "schema": table.schema,
        "name": table.name,
        "columns": table.columns,
        "sequences": table.sequences,
        "unlogged": table.persistence == "u",
        "partition_of": table.partition_of,
        "extension": table.extension,
        "rows": rows.map(|count| json!({"count": count, "exact": true})),
        CAPTURED: {
            "bytes": table.bytes,
            "rows_guess": {"count": table.estimate, "exact": false},
        },
    })
}

/// A table whose rows should be here and are not.
pub(super) fn missing(database: &str, of: &Table, fault: lakehold_proto::fault::Fault) -> Draft {
    draft(database, of).part(Role::Object, body(&table(of, None))).gap(Role::Data, fault)
}
