//! Unity Catalog: the metastore is filled by the first workspace that is attached to it.

use serde_json::{Map, Value, json};

use super::tables;
use super::{Kind, Maker, names};
use crate::api::uc::{
    self, BINDINGS, CATALOG, CONNECTION, CREDENTIAL, FUNCTION, GRANTS, LOCATION, MODEL, Row, SCHEMA, TABLE,
    VERSION, VOLUME, bindings, catalogs, connections, grants, managed_root, put, schemas, stamp, storage,
};
use crate::identity::OPERATOR;
use crate::rng::Rng;
use crate::sim::Cloud;
use crate::state::Workspace;

/// From this number on an item is a change, not part of the first population.
const CHANGES: u64 = 1_000_000_000;

macro_rules! kind {
    ($row:expr, $share:expr, $least:expr, $create:expr) => {
        Kind {
            name: $row.kind,
            share: $share,
            least: $least,
            hostile: names::HOSTILE,
            create: |m, n| if m.first_of_metastore || n >= CHANGES { $create(m, n) } else { String::new() },
            edit: |m, id, rng| edit(m, &$row, id, rng),
            delete: |m, id| uc::purge(&mut m.ws.metastore.store(), &$row, id),
            ids: |ws| own(ws, &$row),
        }
    };
}

pub(super) const KINDS: &[Kind] = &[
    kind!(CREDENTIAL, 5, 1, credential),
    kind!(LOCATION, 10, 2, location),
    kind!(CONNECTION, 4, 1, connection),
    kind!(CATALOG, 8, 3, catalog),
    kind!(SCHEMA, 60, 3, schema),
    kind!(FUNCTION, 50, 4, function),
    kind!(TABLE, 1000, 8, tables::create),
    kind!(VOLUME, 40, 2, volume),
    kind!(MODEL, 20, 1, model),
];

/// What a new metastore has: the catalogs `main` and `system`.
pub(super) fn base(m: &Maker<'_>) {
    uc::assign_metastore(m.ws);
    let mut store = m.ws.metastore.store();
    if !m.first_of_metastore {
        // So that no workspace of a shared metastore finds gaps in a default population.
        let bound = |name: &String| store.contains(BINDINGS, &bindings::key(CATALOG.securable, name));
        let isolated: Vec<String> = store.ids(CATALOG.kind).into_iter().filter(bound).collect();
        for name in isolated {
            bindings::bind(&mut store, CATALOG.securable, &name, m.ws.id);
        }
        return;
    }
    for (n, (name, kind, own)) in (0u64..).zip([
        ("main", "MANAGED_CATALOG", &["default", "information_schema"][..]),
        ("system", "SYSTEM_CATALOG", &["information_schema"][..]),
    ]) {
        let mut item = Map::new();
        item.insert("name".to_owned(), json!(name));
        catalogs::finish(&mut item, kind);
        if name == "system" {
            item.insert("owner".to_owned(), json!("System user"));
            item.insert("comment".to_owned(), json!("System catalog (auto-created)"));
        } else {
            item.insert("storage_root".to_owned(), json!(managed_root(m.ws)));
            item.insert("comment".to_owned(), json!("Main catalog (auto-created)"));
        }
        add(m, &mut store, &CATALOG, item, OPERATOR);
        for (i, schema) in (0u64..).zip(own) {
            let id = m.rng("builtin_schema", n * 8 + i).uuid();
            add(m, &mut store, &SCHEMA, schemas::builtin_schema(name, schema, kind, &id), OPERATOR);
        }
    }
    // Everybody may use `main` in a new metastore.
    let everybody = json!({"account users": ["USE_CATALOG"]});
    store.put(GRANTS, &grants::key("catalog", "main"), &everybody);
}

/// Stamps and stores.
pub(super) fn add(
    m: &Maker<'_>,
    store: &mut crate::state::Store,
    row: &Row,
    mut item: Map<String, Value>,
    by: &str,
) -> String {
    stamp(&mut item, row, m.ws, by, m.now_ms);
    let id = item
        .get("full_name")
        .or_else(|| item.get("name"))
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    put(store, row, &id, &Value::Object(item));
    id
}

pub(super) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// A name, hostile for the first dozen of a hostile population, within what the server accepts.
pub(super) fn name(m: &Maker<'_>, n: u64, plain: String) -> String {
    if !m.hostile || n >= 12 {
        return plain;
    }
    let bad = |c: char| c.is_control() || matches!(c, '.' | '/' | ' ');
    let hostile: String = names::hostile(n).chars().map(|c| if bad(c) { '_' } else { c }).take(240).collect();
    // Twins by case are one name to the server; a number keeps them apart.
    let twin = if n == 7 { "_7" } else { "" };
    format!("{}{twin}", hostile.to_lowercase())
}

/// Somebody who may own things or be granted rights.
pub(super) fn principal(m: &Maker<'_>, rng: &mut Rng) -> String {
    let store = m.ws.store();
    for (kind, field) in
        [("group", "displayName"), ("user", "userName"), ("service_principal", "applicationId")]
    {
        if rng.chance(60)
            && let Some(found) = store.nth_id(kind, rng.next()).and_then(|id| store.get(kind, &id))
            && let Some(name) = found[field].as_str()
            // Local groups cannot be named in the catalog.
            && !(kind == "group" && (found["meta"]["resourceType"] == "WorkspaceGroup" || matches!(name, "admins" | "users")))
        {
            return name.to_owned();
        }
    }
    "account users".to_owned()
}

/// Grants some of these privileges on a new securable to a few principals.
pub(super) fn grant(m: &Maker<'_>, row: &Row, id: &str, rng: &mut Rng, percent: u64, privileges: &[&str]) {
    let mut entries = Map::new();
    for _ in 0..3 {
        if rng.chance(percent) {
            let mut some: Vec<&str> = privileges.iter().copied().filter(|_| rng.chance(50)).collect();
            if some.is_empty() {
                some.extend(privileges.first());
            }
            entries.insert(principal(m, rng), json!(some));
        }
    }
    if !entries.is_empty() {
        m.ws.metastore.store().put(GRANTS, &grants::key(row.securable, id), &Value::Object(entries));
    }
}

fn storage_root(m: &Maker<'_>, rng: &mut Rng, n: u64) -> String {
    let team = rng.pick(names::TEAMS);
    match m.cloud {
        Cloud::Aws => format!("s3://acme-{team}-{n}/lake"),
        Cloud::Azure => format!("abfss://{team}-{n}@acmelake.dfs.core.windows.net/lake"),
        Cloud::Gcp => format!("gs://acme-{team}-{n}/lake"),
    }
}

fn credential(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(CREDENTIAL.kind, n);
    let plain = format!("{}_{}_access_{n}", rng.pick(names::TEAMS), rng.pick(names::STAGES));
    let mut item = Map::new();
    item.insert("name".to_owned(), json!(name(m, n, plain)));
    item.insert("id".to_owned(), json!(rng.uuid()));
    let (field, holder) = match m.cloud {
        Cloud::Aws => (
            "aws_iam_role",
            json!({"role_arn": format!("arn:aws:iam::{:012}:role/lake-access-{n}", rng.below(999_999_999_999))}),
        ),
        Cloud::Azure => (
            "azure_managed_identity",
            json!({"access_connector_id": format!("/subscriptions/{}/resourceGroups/lake/providers/Microsoft.Databricks/accessConnectors/lake-{n}", rng.uuid())}),
        ),
        Cloud::Gcp => ("databricks_gcp_service_account", json!({})),
    };
    item.insert(field.to_owned(), holder);
    item.insert("comment".to_owned(), json!("Access to the lake"));
    storage::finish_credential(&mut item, &mut rng);
    let id = add(m, &mut m.ws.metastore.store(), &CREDENTIAL, item, OPERATOR);
    grant(m, &CREDENTIAL, &id, &mut rng, 40, &["CREATE_EXTERNAL_LOCATION", "READ_FILES", "WRITE_FILES"]);
    id
}

fn location(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(LOCATION.kind, n);
    let id = {
        let mut store = m.ws.metastore.store();
        let credential = store.nth_id(CREDENTIAL.kind, rng.next()).unwrap_or_default();
        let credential_id =
            store.get(CREDENTIAL.kind, &credential).map(|c| c["id"].clone()).unwrap_or_default();
        let url = storage_root(m, &mut rng, n);
        let plain = format!("{}_lake_{n}", rng.pick(names::TEAMS));
        let item = json!({
            "name": name(m, n, plain), "url": url, "credential_name": credential, "credential_id": credential_id,
            "read_only": rng.chance(20), "isolation_mode": "ISOLATION_MODE_OPEN", "fallback": false, "comment": "",
        });
        add(m, &mut store, &LOCATION, item.as_object().cloned().unwrap_or_default(), OPERATOR)
    };
    grant(
        m,
        &LOCATION,
        &id,
        &mut rng,
        50,
        &["READ_FILES", "WRITE_FILES", "CREATE_EXTERNAL_TABLE", "CREATE_EXTERNAL_VOLUME"],
    );
    id
}

fn connection(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(CONNECTION.kind, n);
    let kind =
        *[&"POSTGRESQL", &"MYSQL", &"SQLSERVER", &"SNOWFLAKE"][usize::try_from(rng.below(4)).unwrap_or(0)];
    let plain = format!("{}_{n}", kind.to_lowercase());
    let mut item = Map::new();
    item.insert("name".to_owned(), json!(name(m, n, plain)));
    item.insert("connection_id".to_owned(), json!(rng.uuid()));
    item.insert("connection_type".to_owned(), json!(kind));
    item.insert(
        "options".to_owned(),
        json!({"host": format!("db{n}.example.com"), "port": "5432", "user": "reader", "password": "x"}),
    );
    item.insert("comment".to_owned(), json!("Operational database"));
    connections::finish(&mut item);
    let id = add(m, &mut m.ws.metastore.store(), &CONNECTION, item, OPERATOR);
    grant(m, &CONNECTION, &id, &mut rng, 50, &["USE_CONNECTION", "CREATE_FOREIGN_CATALOG"]);
    id
}

fn catalog(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(CATALOG.kind, n);
    let plain = format!("{}_{}_{n}", rng.pick(names::TEAMS), rng.pick(&["dev", "test", "prod"]));
    let owner = principal(m, &mut rng);
    let mut store = m.ws.metastore.store();
    let mut item = Map::new();
    let own_name = name(m, n, plain);
    item.insert("name".to_owned(), json!(own_name));
    item.insert("comment".to_owned(), json!(format!("Data of {}", rng.pick(names::TEAMS))));
    item.insert("owner".to_owned(), json!(owner));
    let connection = store.nth_id(CONNECTION.kind, n).filter(|_| n % 3 == 2);
    let kind = match &connection {
        Some(connection) => {
            item.insert("connection_name".to_owned(), json!(connection));
            item.insert("options".to_owned(), json!({"database": "shop"}));
            "FOREIGN_CATALOG"
        }
        None => {
            let location = store
                .nth_id(LOCATION.kind, n)
                .and_then(|id| store.get(LOCATION.kind, &id))
                .filter(|_| n % 3 == 1);
            match location {
                Some(location) => {
                    let root = format!("{}/catalogs/{n}", text(&location, "url"));
                    item.insert(
                        "storage_location".to_owned(),
                        json!(format!("{root}/__unitystorage/catalogs/{}", rng.uuid())),
                    );
                    item.insert("storage_root".to_owned(), json!(root));
                }
                None => drop(item.insert("storage_root".to_owned(), json!(managed_root(m.ws)))),
            }
            item.insert("properties".to_owned(), json!({"cost_center": rng.below(900).to_string()}));
            "MANAGED_CATALOG"
        }
    };
    let isolated = n % 4 == 1;
    if isolated {
        item.insert("isolation_mode".to_owned(), json!("ISOLATED"));
    }
    catalogs::finish(&mut item, kind);
    let id = add(m, &mut store, &CATALOG, item, OPERATOR);
    if isolated {
        bindings::bind(&mut store, CATALOG.securable, &id, m.ws.id);
    }
    let own: &[&str] =
        if connection.is_some() { &["information_schema"] } else { &["default", "information_schema"] };
    for schema in own {
        let schema_id = rng.uuid();
        add(m, &mut store, &SCHEMA, schemas::builtin_schema(&id, schema, kind, &schema_id), OPERATOR);
    }
    drop(store);
    grant(
        m,
        &CATALOG,
        &id,
        &mut rng,
        80,
        &["USE_CATALOG", "USE_SCHEMA", "SELECT", "CREATE_SCHEMA", "BROWSE"],
    );
    id
}

fn schema(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(SCHEMA.kind, n);
    let mut store = m.ws.metastore.store();
    // Every fifth is in a foreign catalog, if there is one.
    let foreign =
        |id: &str| store.get(CATALOG.kind, id).is_some_and(|c| c["catalog_type"] == "FOREIGN_CATALOG");
    let chosen = pick(&store, CATALOG.kind, &mut rng, |id| n % 5 == 1 && foreign(id))
        .or_else(|| pick(&store, CATALOG.kind, &mut rng, |id| id != "system"));
    let Some(catalog) = chosen else { return String::new() };
    let kind = store.get(CATALOG.kind, &catalog).map(|c| c["catalog_type"].clone()).unwrap_or_default();
    let plain = format!("{}_{n}", rng.pick(names::STAGES));
    let item = json!({
        "full_name": format!("{catalog}.{}", name(m, n, plain)), "schema_id": rng.uuid(), "catalog_type": kind,
        "comment": format!("{} layer", rng.pick(names::STAGES)), "enable_predictive_optimization": "INHERIT",
        "properties": {"retention": format!("{}d", rng.below(400))},
    });
    let id = add(m, &mut store, &SCHEMA, item.as_object().cloned().unwrap_or_default(), OPERATOR);
    drop(store);
    grant(m, &SCHEMA, &id, &mut rng, 50, &["USE_SCHEMA", "SELECT", "CREATE_TABLE", "MODIFY", "EXECUTE"]);
    id
}

/// One id of a kind that passes, chosen by chance.
pub(super) fn pick(
    store: &crate::state::Store,
    kind: &str,
    rng: &mut Rng,
    test: impl Fn(&str) -> bool,
) -> Option<String> {
    let start = rng.next() >> 1;
    (0..24).filter_map(|i| store.nth_id(kind, start + i)).find(|id| test(id))
}

/// A schema of a catalog in which things can be made.
pub(super) fn managed_schema(store: &crate::state::Store, rng: &mut Rng) -> String {
    let found = pick(store, SCHEMA.kind, rng, |id| {
        !id.ends_with(".information_schema")
            && store.get(SCHEMA.kind, id).is_some_and(|s| s["catalog_type"] == "MANAGED_CATALOG")
    });
    found.unwrap_or_else(|| "main.default".to_owned())
}

/// Every fourth masks a string, every fourth filters rows; the others are ordinary.
fn function(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(FUNCTION.kind, n);
    let mut store = m.ws.metastore.store();
    let schema = managed_schema(&store, &mut rng);
    let thing = rng.pick(names::THINGS);
    let python = |body: String| (body, "EXTERNAL");
    let (prefix, parameter, returns, (definition, body)) = match n % 4 {
        0 => (
            "mask",
            ("value", "string"),
            "STRING",
            ("CASE WHEN is_account_group_member('admins') THEN value ELSE '***' END".to_owned(), "SQL"),
        ),
        1 => (
            "filter",
            ("region", "string"),
            "BOOLEAN",
            ("is_account_group_member('admins') OR region = 'EU'".to_owned(), "SQL"),
        ),
        2 => ("convert", ("amount", "double"), "DOUBLE", (format!("amount * {}", 1 + rng.below(9)), "SQL")),
        _ => (
            "parse",
            ("line", "string"),
            "STRING",
            python(
                "import json\n\ndef clean(s):\n  return json.dumps(s.strip())\nreturn clean(line)\n"
                    .to_owned(),
            ),
        ),
    };
    let plain = format!("{prefix}_{thing}_{n}");
    let full_name = format!("{schema}.{}", if m.hostile && n >= 4 { name(m, n, plain) } else { plain });
    let (column, kind) = (parameter.0, tables::column_type(parameter.1));
    let mut input = kind.column(column, 0, Map::new());
    input.insert("parameter_mode".to_owned(), json!("IN"));
    input.insert("parameter_type".to_owned(), json!("PARAM"));
    input.shift_remove("nullable");
    let mut item = json!({
        "full_name": full_name, "function_id": rng.uuid(), "specific_name": full_name.rsplit('.').next(),
        "input_params": {"parameters": [input]}, "data_type": returns, "full_data_type": returns, "routine_body": body,
        "routine_definition": definition, "parameter_style": "S", "is_deterministic": true, "is_null_call": false,
        "security_type": "DEFINER", "sql_data_access": if body == "SQL" { "CONTAINS_SQL" } else { "NO_SQL" },
    });
    if body == "EXTERNAL" {
        item["external_language"] = json!("PYTHON");
    }
    let id = add(m, &mut store, &FUNCTION, item.as_object().cloned().unwrap_or_default(), OPERATOR);
    drop(store);
    grant(m, &FUNCTION, &id, &mut rng, 30, &["EXECUTE"]);
    id
}

fn volume(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(VOLUME.kind, n);
    let mut store = m.ws.metastore.store();
    let schema = managed_schema(&store, &mut rng);
    let external =
        store.nth_id(LOCATION.kind, n).and_then(|id| store.get(LOCATION.kind, &id)).filter(|_| n % 3 == 2);
    let uuid = rng.uuid();
    let location = match &external {
        Some(location) => format!("{}/volumes/{n}", text(location, "url")),
        None => format!("{}/volumes/{uuid}", managed_root(m.ws)),
    };
    let plain = format!("{}_files_{n}", rng.pick(names::THINGS));
    let item = json!({
        "full_name": format!("{schema}.{}", name(m, n, plain)), "volume_id": uuid, "storage_location": location,
        "volume_type": if external.is_some() { "EXTERNAL" } else { "MANAGED" }, "comment": "Landing area",
    });
    let id = add(m, &mut store, &VOLUME, item.as_object().cloned().unwrap_or_default(), OPERATOR);
    drop(store);
    grant(m, &VOLUME, &id, &mut rng, 40, &["READ_VOLUME", "WRITE_VOLUME"]);
    id
}

fn model(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(MODEL.kind, n);
    let mut store = m.ws.metastore.store();
    let schema = managed_schema(&store, &mut rng);
    let plain = format!("{}_forecast_{n}", rng.pick(names::THINGS));
    // Functions and models share one name space.
    let own = if m.hostile { format!("m_{}", name(m, n, plain)) } else { plain };
    let full_name = format!("{schema}.{own}");
    let uuid = rng.uuid();
    let location = format!("{}/models/{uuid}", managed_root(m.ws));
    let count = 1 + rng.below(4);
    let mut item = json!({
        "full_name": full_name, "id": uuid, "storage_location": location, "comment": "Trained weekly",
    });
    if rng.chance(70) {
        item["aliases"] = json!([{"alias_name": "champion", "version_num": count}]);
    }
    let id = add(m, &mut store, &MODEL, item.as_object().cloned().unwrap_or_default(), OPERATOR);
    let parts: Vec<&str> = id.split('.').collect();
    for version in 1..=count {
        let item = json!({
            "catalog_name": parts.first(), "schema_name": parts.get(1), "model_name": parts.get(2), "version": version,
            "id": rng.uuid(), "status": "READY", "source": format!("dbfs:/databricks/mlflow-tracking/{}/artifacts/model", rng.hex(12)),
            "run_id": rng.hex(32), "run_workspace_id": m.ws.id, "storage_location": format!("{location}/versions/{version}"),
            "metastore_id": m.ws.metastore.id, "created_at": m.now_ms, "created_by": OPERATOR, "updated_at": m.now_ms, "updated_by": OPERATOR,
        });
        store.put_under(VERSION, &format!("{id}/{version}"), &id, &item);
    }
    drop(store);
    grant(m, &MODEL, &id, &mut rng, 40, &["EXECUTE"]);
    id
}

fn edit(m: &Maker<'_>, row: &Row, id: &str, rng: &mut Rng) -> bool {
    let comment = format!("Changed: {}", rng.hex(10));
    let now = m.now_ms;
    let changed = m.ws.metastore.store().edit(row.kind, id, |item| {
        item["comment"] = json!(comment);
        item["updated_at"] = json!(now);
    });
    changed.is_some()
}

/// All but what every metastore has.
fn own(ws: &Workspace, row: &Row) -> Vec<String> {
    let builtin = |id: &String| {
        matches!(id.as_str(), "main" | "system")
            || id.ends_with(".information_schema")
            || id.ends_with(".default")
    };
    ws.metastore.store().ids(row.kind).into_iter().filter(|id| !builtin(id)).collect()
}
