//! Tables of every type, and views on tables and on views.

use serde_json::{Map, Value, json};

use super::catalog::{add, grant, managed_schema, name, pick, text};
use super::{Maker, names};
use crate::api::sql::types::Type;
use crate::api::sql::{Cursor, Session, types, view_properties};
use crate::api::uc::{CATALOG, FUNCTION, LOCATION, SCHEMA, TABLE, managed_root};
use crate::identity::OPERATOR;
use crate::rng::Rng;
use crate::state::Store;

/// Columns that tables are made of: name, type, comment.
const COLUMNS: [(&str, &str, &str); 12] = [
    ("id", "bigint", "Key"),
    ("region", "string", "Where it was sold"),
    ("customer_email", "string", "Personal"),
    ("amount", "decimal(18,2)", ""),
    ("created_at", "timestamp", "When it came in"),
    ("day", "date", ""),
    ("is_test", "boolean", ""),
    ("tags", "array<string>", ""),
    ("attributes", "map<string,string>", ""),
    ("address", "struct<street:string,city:string,zip:varchar(10)>", "As given"),
    ("score", "double", ""),
    ("payload", "binary", ""),
];

/// A type by its text; one that does not parse is a string.
pub(super) fn column_type(text: &str) -> Type {
    let parsed = Cursor::new(text, "", "").and_then(|mut c| types::parse(&mut c));
    parsed.unwrap_or(Type::Plain("string", "string", "STRING"))
}

/// Makes the n-th table or view.
pub(super) fn create(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(TABLE.kind, n);
    let pipeline = m.ws.store().nth_id("pipeline", n);
    let mut store = m.ws.metastore.store();
    let foreign = pick(&store, SCHEMA.kind, &mut rng, |id| {
        !id.ends_with(".information_schema")
            && store.get(SCHEMA.kind, id).is_some_and(|s| s["catalog_type"] == "FOREIGN_CATALOG")
    });
    let plain = format!("{}_{n}", rng.pick(names::THINGS));
    let own = name(m, n, plain);
    let mut item = match (n % 20, foreign) {
        (19, Some(schema)) => foreign_table(&store, &schema, &own, &mut rng),
        (15..=16, _) => view(&store, &own, &mut rng, "VIEW", |t| t != "VIEW"),
        (17, _) => view(&store, &own, &mut rng, "VIEW", |t| t == "VIEW"),
        (18, _) => {
            let kind = if n % 40 == 18 { "MATERIALIZED_VIEW" } else { "STREAMING_TABLE" };
            let mut item = view(&store, &own, &mut rng, kind, |t| t != "VIEW");
            item["pipeline_id"] = json!(pipeline.unwrap_or_else(|| rng.uuid()));
            item
        }
        _ => table(m, &store, &own, n, &mut rng),
    };
    item["table_id"] = json!(rng.uuid());
    if rng.chance(50) {
        item["comment"] = json!(format!("{} by {}", rng.pick(names::THINGS), rng.pick(names::TEAMS)));
    }
    let id = add(m, &mut store, &TABLE, item.as_object().cloned().unwrap_or_default(), OPERATOR);
    drop(store);
    grant(m, &TABLE, &id, &mut rng, 20, &["SELECT", "MODIFY"]);
    id
}

fn columns(rng: &mut Rng) -> Vec<Map<String, Value>> {
    let extra = 3 + rng.below(9);
    let mut columns = Vec::new();
    for (i, (name, kind, comment)) in COLUMNS.iter().enumerate() {
        // Every table has the first three, so that keys, filters and masks have something to name.
        if i < 3 || rng.chance(extra * 8) {
            let mut metadata = Map::new();
            if !comment.is_empty() {
                metadata.insert("comment".to_owned(), json!(comment));
            }
            let mut column = column_type(kind).column(name, columns.len(), metadata);
            if !comment.is_empty() {
                column.insert("comment".to_owned(), json!(comment));
            }
            if i == 0 {
                column.insert("nullable".to_owned(), json!(false));
                let json =
                    json!({"name": "id", "type": "long", "nullable": false, "metadata": {"comment": "Key"}});
                column.insert("type_json".to_owned(), json!(json.to_string()));
            }
            columns.push(column);
        }
    }
    columns
}

fn table(m: &Maker<'_>, store: &Store, own: &str, n: u64, rng: &mut Rng) -> Value {
    let schema = managed_schema(store, rng);
    let mut columns = columns(rng);
    let location = store.nth_id(LOCATION.kind, rng.next()).and_then(|id| store.get(LOCATION.kind, &id));
    let external = location.filter(|_| matches!(n % 20, 12..=14));
    let format = if n % 20 == 14 && external.is_some() { "PARQUET" } else { "DELTA" };
    if rng.chance(8)
        && let Some(mask) = pick(store, FUNCTION.kind, rng, |id| id.contains(".mask_"))
        && let Some(column) = columns.iter_mut().find(|c| c.get("name") == Some(&json!("customer_email")))
    {
        column.insert("mask".to_owned(), json!({"function_name": mask}));
    }
    if (format == "PARQUET" || rng.chance(15))
        && let Some(column) = columns.iter_mut().find(|c| c.get("name") == Some(&json!("region")))
    {
        column.insert("partition_index".to_owned(), json!(0));
    }
    let mut properties = Map::new();
    if format == "DELTA" {
        for (key, value) in [
            ("delta.lastCommitTimestamp", m.now_ms.to_string()),
            ("delta.lastUpdateVersion", rng.below(500).to_string()),
            ("delta.minReaderVersion", "1".to_owned()),
            ("delta.minWriterVersion", "2".to_owned()),
        ] {
            properties.insert(key.to_owned(), json!(value));
        }
        if rng.chance(20) {
            properties.insert("delta.enableChangeDataFeed".to_owned(), json!("true"));
        }
        if rng.chance(20) {
            properties.insert("clusteringColumns".to_owned(), json!("[[\"id\"]]"));
        }
    } else {
        properties.insert("option.compression".to_owned(), json!("snappy"));
    }
    let uuid = rng.uuid();
    let mut item = json!({
        "full_name": format!("{schema}.{own}"), "data_source_format": format, "columns": columns, "properties": properties,
        "table_type": if external.is_some() { "EXTERNAL" } else { "MANAGED" },
        "storage_location": external.map_or_else(
            || format!("{}/tables/{uuid}", managed_root(m.ws)),
            |l| format!("{}/tables/{n}", text(&l, "url"))),
    });
    if rng.chance(5)
        && let Some(filter) = pick(store, FUNCTION.kind, rng, |id| id.contains(".filter_"))
    {
        item["row_filter"] = json!({"function_name": filter, "input_column_names": ["region"]});
    }
    let keyed = |id: &str| {
        store
            .get(TABLE.kind, id)
            .is_some_and(|t| !t["table_constraints"][0]["primary_key_constraint"].is_null())
    };
    let mut constraints = Vec::new();
    if n.is_multiple_of(3) {
        constraints
            .push(json!({"primary_key_constraint": {"name": format!("pk_{n}"), "child_columns": ["id"]}}));
    }
    if n % 9 == 4
        && let Some(parent) = pick(store, TABLE.kind, rng, keyed)
    {
        constraints.push(json!({"foreign_key_constraint": {
            "name": format!("fk_{n}"), "child_columns": ["id"], "parent_table": parent, "parent_columns": ["id"]}}));
    }
    if !constraints.is_empty() {
        item["table_constraints"] = json!(constraints);
    }
    item
}

fn quoted(full_name: &str) -> String {
    full_name.split('.').map(|p| format!("`{}`", p.replace('`', "``"))).collect::<Vec<_>>().join(".")
}

/// A view on something of a type, or on anything if there is none.
fn view(store: &Store, own: &str, rng: &mut Rng, kind: &str, on: impl Fn(&str) -> bool) -> Value {
    let schema = managed_schema(store, rng);
    let of_type = |id: &str| {
        store.get(TABLE.kind, id).is_some_and(|t| on(t["table_type"].as_str().unwrap_or_default()))
    };
    let below = pick(store, TABLE.kind, rng, of_type).or_else(|| store.nth_id(TABLE.kind, 0));
    let source = below.as_ref().and_then(|id| store.get(TABLE.kind, id)).unwrap_or_default();
    let columns: Vec<Map<String, Value>> = source["columns"]
        .as_array()
        .into_iter()
        .flatten()
        .take(3)
        .filter_map(Value::as_object)
        .map(|c| {
            let mut column = c.clone();
            column.shift_remove("mask");
            column.shift_remove("partition_index");
            column.insert("nullable".to_owned(), json!(true));
            column
        })
        .collect();
    let names: Vec<String> =
        columns.iter().map(|c| quoted(c.get("name").and_then(Value::as_str).unwrap_or_default())).collect();
    let definition = match &below {
        Some(below) if kind == "STREAMING_TABLE" => {
            format!("SELECT {} FROM STREAM {}", names.join(", "), quoted(below))
        }
        Some(below) => {
            format!("SELECT {}\nFROM {}\nWHERE id > {}", names.join(", "), quoted(below), rng.below(1000))
        }
        None => "SELECT 1 AS id".to_owned(),
    };
    let mut properties = Map::new();
    if kind == "VIEW" {
        let session = Session { catalog: "main".to_owned(), schema: "default".to_owned(), pro: true };
        view_properties(&mut properties, &columns, &session);
    }
    let dependencies: Vec<Value> = below.iter().map(|b| json!({"table": {"table_full_name": b}})).collect();
    json!({
        "full_name": format!("{schema}.{own}"), "table_type": kind, "columns": columns, "properties": properties,
        "data_source_format": if kind == "VIEW" { "UNKNOWN_DATA_SOURCE_FORMAT" } else { "DELTA" },
        "view_definition": definition, "view_dependencies": {"dependencies": dependencies},
    })
}

/// A table of another system, whose metadata is remote (section 3.8).
fn foreign_table(store: &Store, schema: &str, own: &str, rng: &mut Rng) -> Value {
    let catalog = schema.split('.').next().unwrap_or_default();
    let connection =
        store.get(CATALOG.kind, catalog).map(|c| text(&c, "connection_name")).unwrap_or_default();
    let kind = connection.split('_').next().unwrap_or_default().to_uppercase();
    json!({
        "full_name": format!("{schema}.{own}"), "table_type": "FOREIGN", "columns": columns(rng), "properties": {},
        "data_source_format": format!("{}_FORMAT", if kind.is_empty() { "POSTGRESQL" } else { &kind }),
    })
}
