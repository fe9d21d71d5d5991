//! Whether a database that was restored is the one that was backed up, by what the catalogue says of it.

use std::collections::{BTreeMap, BTreeSet};

use lakehold_proto::fault::{Class, Fault, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::catalog::{PROPERTIES, Properties, SEQUENCES, Sequence};
use super::super::programs::Programs;
use super::super::session::{Session, begin};

/// What was found in order, by what it is.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Checked {
    /// Relations by their kind, as `pg_class` has it.
    relations: BTreeMap<String, u64>,
    constraints: u64,
    sequences: usize,
    extensions: usize,
}

/// Checks it.
///
/// # Errors
/// `Conflict` (`pg.check-failed`), with all that is wrong.
pub(super) async fn check(programs: &Programs, database: &str, wanted: &Value) -> Result<Checked> {
    let mut session = Session::open(programs, Some(database)).await?;
    let is: Properties = session.row(PROPERTIES).await?;
    let sequences: Vec<Sequence> = session.rows(SEQUENCES).await?;
    session.close().await?;
    let wrong = wrong(wanted, &is, &sequences);
    if wrong.is_empty() {
        return Ok(Checked {
            relations: counts(&is.relations),
            constraints: is.constraints,
            sequences: sequences.len(),
            extensions: is.extensions.as_array().map_or(0, Vec::len),
        });
    }
    let detail = format!("it is not what was backed up: {}", wrong.join("; "));
    Err(Fault::new(Class::Conflict, "pg.check-failed", "check a database", detail)
        .hint(format!("look at it: it is the database {database:?}; nothing else was changed")))
}

/// Whether the server can read all of a database: what `pg_amcheck` asks it to came with 14.
/// Source: <https://www.postgresql.org/docs/14/release-14.html>.
const CAN_READ_ALL: &str = "select name::text from pg_available_extensions where name = 'amcheck' \
    and current_setting('server_version_num')::int >= 140000";

/// Reads all of a database's tables and indexes, where the server can: whether it did.
///
/// # Errors
/// `Conflict` (`pg.corrupted`) with what is damaged.
pub(super) async fn read_all(programs: &Programs, database: &str, jobs: usize) -> Result<bool> {
    let mut session = Session::open(programs, Some(database)).await?;
    let there: Vec<Value> = session.rows(CAN_READ_ALL).await?;
    session.close().await?;
    let jobs = format!("--jobs={jobs}");
    let arguments = ["--install-missing", "--heapallindexed", &jobs];
    let command = programs.optional("pg_amcheck", &arguments[..], database).filter(|_| !there.is_empty());
    let Some(mut command) = command else { return Ok(false) };
    let said = command.output().await.map_err(|e| begin("pg_amcheck", &e))?;
    if said.status.success() {
        return Ok(true);
    }
    let words: String = [said.stdout, said.stderr].iter().map(|said| String::from_utf8_lossy(said)).collect();
    Err(Fault::new(Class::Conflict, "pg.corrupted", "read all of a database", words.trim()))
}

fn counts(relations: &Value) -> BTreeMap<String, u64> {
    let counts = relations.as_object().into_iter().flatten();
    counts.filter_map(|(kind, count)| Some((kind.clone(), count.as_u64()?))).collect()
}

fn texts(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// All that is wrong.
fn wrong(wanted: &Value, is: &Properties, sequences: &[Sequence]) -> Vec<String> {
    let mut wrong = Vec::new();
    // Of what nobody could read the definition, nothing came.
    let is_all = wanted["hidden"].as_array().is_none_or(Vec::is_empty);
    if is_all {
        let (mut expected, found) = (counts(&wanted["relations"]), counts(&is.relations));
        // Indexes that are not valid are in no dump.
        let invalid = texts(&wanted["invalid_indexes"]).len() as u64;
        for kind in ["i", "I"] {
            let (Some(expected), Some(found)) = (expected.get_mut(kind), found.get(kind)) else { continue };
            if *expected > *found && *expected - *found <= invalid {
                *expected = *found;
            }
        }
        for kind in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
            let of = |counts: &BTreeMap<String, u64>| counts.get(kind).copied().unwrap_or_default();
            let (expected, found) = (of(&expected), of(&found));
            if expected != found {
                wrong.push(format!("{found} {} and not {expected}", relation(kind)));
            }
        }
        if let Some(expected) = wanted["constraints"].as_u64().filter(|expected| *expected != is.constraints)
        {
            wrong.push(format!("{} constraints and not {expected}", is.constraints));
        }
    }
    for (field, found, what) in [
        ("not_validated", &is.not_validated, "constraints are not validated"),
        ("invalid_indexes", &is.invalid_indexes, "indexes are not valid"),
        ("not_populated", &is.not_populated, "materialised views have no rows"),
    ] {
        let more: Vec<_> =
            texts(found).difference(&texts(&wanted[field])).copied().map(str::to_owned).collect();
        if !more.is_empty() {
            wrong.push(format!("{what}: {}", more.join(", ")));
        }
    }
    let extensions = |of: &Value| -> BTreeSet<String> {
        let all = of.as_array().into_iter().flatten();
        all.filter_map(|extension| Some(extension["name"].as_str()?.to_owned())).collect()
    };
    let found = extensions(&is.extensions);
    let missing: Vec<_> =
        extensions(&wanted["extensions"]).into_iter().filter(|name| !found.contains(name)).collect();
    if !missing.is_empty() {
        wrong.push(format!("extensions are missing: {}", missing.join(", ")));
    }
    let stands: BTreeMap<_, _> = sequences
        .iter()
        .map(|sequence| ((&*sequence.schema, &*sequence.name), sequence.last_value))
        .collect();
    for sequence in wanted["sequences"].as_array().into_iter().flatten() {
        let text = |field: &str| sequence[field].as_str().unwrap_or_default();
        let Some(expected) = sequence["last_value"].as_i64() else { continue };
        let name = (text("schema"), text("name"));
        match stands.get(&name) {
            Some(Some(found)) if *found >= expected || expected < 0 => {}
            Some(found) => {
                let found = found.map_or_else(|| "its start".to_owned(), |found| found.to_string());
                wrong.push(format!(
                    "the sequence {}.{} stands at {found} and not at {expected}",
                    name.0, name.1
                ));
            }
            None if is_all => wrong.push(format!("the sequence {}.{} is missing", name.0, name.1)),
            None => {}
        }
    }
    wrong
}

/// What `pg_class` means. <https://www.postgresql.org/docs/17/catalog-pg-class.html>
fn relation(kind: &str) -> &str {
    match kind {
        "r" => "tables",
        "p" => "partitioned tables",
        "i" => "indexes",
        "I" => "partitioned indexes",
        "S" => "sequences",
        "v" => "views",
        "m" => "materialised views",
        "c" => "composite types",
        "f" => "foreign tables",
        other => other,
    }
}

/// Extensions that a database has and a server lacks.
///
/// # Errors
/// Those of [`Session::rows`].
pub(super) async fn missing_extensions(session: &mut Session, wanted: &Value) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Available {
        name: String,
    }
    let there: Vec<Available> =
        session.rows("select name::text as name from pg_available_extensions").await?;
    let there: BTreeSet<_> = there.into_iter().map(|extension| extension.name).collect();
    let wanted = wanted["extensions"].as_array().into_iter().flatten();
    let wanted = wanted.filter_map(|extension| extension["name"].as_str());
    Ok(wanted.filter(|name| !there.contains(*name)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(changes: Value) -> Properties {
        let mut is = json!({"properties": {}, "settings": [], "role_settings": [], "roles": [], "bytes": 1, "extensions": [{"name": "a"}], "relations": {"r": 2, "i": 3},
            "constraints": 4, "not_validated": [], "invalid_indexes": [], "not_populated": [], "large_objects": 0});
        is.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(is).unwrap()
    }

    #[test]
    fn each_defect_is_told_and_nothing_else() {
        let wanted = json!({"relations": {"r": 2, "i": 3}, "constraints": 4, "extensions": [{"name": "a"}],
            "sequences": [{"schema": "s", "name": "q", "last_value": 7}]});
        let at = |value: Option<i64>| {
            vec![Sequence { schema: "s".into(), name: "q".into(), last_value: value, is_owned: false }]
        };
        let none: [&str; 0] = [];
        assert_eq!(wrong(&wanted, &found(json!({})), &at(Some(8))), none);
        for (changes, sequences, told) in [
            (json!({"relations": {"r": 1, "i": 3}}), at(Some(7)), "1 tables and not 2"),
            (json!({"relations": {"r": 2}}), at(Some(7)), "0 indexes and not 3"),
            (json!({"constraints": 3}), at(Some(7)), "3 constraints and not 4"),
            (json!({"invalid_indexes": ["x"]}), at(Some(7)), "indexes are not valid: x"),
            (json!({"not_validated": ["t c"]}), at(Some(7)), "constraints are not validated: t c"),
            (json!({"not_populated": ["m"]}), at(Some(7)), "materialised views have no rows: m"),
            (json!({"extensions": []}), at(Some(7)), "extensions are missing: a"),
            (json!({}), at(Some(6)), "the sequence s.q stands at 6 and not at 7"),
            (json!({}), at(None), "the sequence s.q stands at its start and not at 7"),
            (json!({}), Vec::new(), "the sequence s.q is missing"),
        ] {
            assert_eq!(wrong(&wanted, &found(changes), &sequences), [told]);
        }
        // Indexes that were not valid are in no dump.
        let lacking = json!({"relations": {"i": 3}, "invalid_indexes": ["x"]});
        assert_eq!(wrong(&lacking, &found(json!({"relations": {"i": 2}, "constraints": 0})), &[]), none);
    }
}
