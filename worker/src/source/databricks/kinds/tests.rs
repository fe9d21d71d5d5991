//! The table has tests: a row that forgets something, or says something that its fixture does not bear out, fails here.
//!
//! A fixture holds an item's documents in the vendor's shapes: `list` (as the listing shows it), `get` (as its own call
//! shows it, where there is one), `content` and `permissions`. They are written from the vendor's pages, not from a row.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

fn fixture(row: &Row) -> Value {
    let path =
        format!("{}/src/source/databricks/kinds/fixtures/{}.json", env!("CARGO_MANIFEST_DIR"), row.name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The documents in which a field of the row may occur.
fn documents(row: &Row) -> Vec<Value> {
    let Value::Object(mut members) = fixture(row) else { panic!("{}: no object", row.name) };
    ["list", "get", "content"].iter().filter_map(|name| members.remove(*name)).collect()
}

fn occurs(row: &Row, field: &str) -> bool {
    documents(row).iter().any(|document| !path::find(document, field).is_empty())
}

#[test]
fn families_are_sorted_and_names_unique() {
    let mut seen = BTreeSet::new();
    for row in rows() {
        assert!(seen.insert(row.name), "{} twice", row.name);
        assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
        assert!(row.page.starts_with("https://docs.databricks.com/"), "{}", row.name);
    }
    let families: [&[Row]; 7] = [
        &identity::ROWS,
        &compute::ROWS,
        &workspace::ROWS,
        &jobs::ROWS,
        &sql::ROWS,
        &secrets::ROWS,
        &catalog::ROWS,
    ];
    for family in families {
        assert!(family.is_sorted_by_key(|row| row.name));
    }
    assert_eq!(seen.len(), families.iter().map(|family| family.len()).sum::<usize>());
}

#[test]
fn every_fixture_belongs_to_a_row() {
    let folder = format!("{}/src/source/databricks/kinds/fixtures", env!("CARGO_MANIFEST_DIR"));
    for file in std::fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(row(name.trim_end_matches(".json")).is_some(), "{name}");
    }
}

#[test]
fn every_field_occurs_in_the_fixture() {
    let mut missing = Vec::new();
    for row in rows() {
        let mut need = |field: &str| {
            if !occurs(row, field) {
                missing.push(format!("{}: {field}", row.name));
            }
        };
        row.rules.iter().for_each(|rule| need(rule.path));
        row.sets.iter().for_each(|set| need(set));
        row.references.iter().for_each(|reference| need(reference.path));
        row.builtin.iter().for_each(|builtin| need(builtin.path));
        row.restore.adopt_by.iter().for_each(|field| need(field));
        row.within.into_iter().for_each(&mut need);
        if let Some(carries) = row.carries {
            carries.fields.iter().for_each(|field| need(field));
        }
        let get = row.get.iter().flat_map(|get| get.joined);
        get.for_each(|field| need(field));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn what_is_read_of_a_listed_item_is_in_the_list() {
    for row in rows() {
        let list = &fixture(row)["list"];
        let there = |field: &str| path::text(list, field).is_some();
        assert!(row.key.iter().any(|key| there(key)), "{}: key", row.name);
        assert!(row.title.iter().any(|title| there(title)), "{}: title", row.name);
        if let Stamp::Trusted(stamps) = row.stamp {
            assert!(stamps.iter().all(|stamp| there(stamp)), "{}: stamp", row.name);
        }
        for template in templates(row) {
            for slot in slots(template) {
                assert!(there(slot) || row.walks.is_some(), "{}: {{{slot}}} of {template}", row.name);
            }
        }
        match row.access {
            Access::None { why } => assert!(!why.is_empty(), "{}", row.name),
            Access::Object { id: field, .. }
            | Access::Grants { name: field, .. }
            | Access::Secrets { scope: field } => {
                assert!(there(field), "{}: {field}", row.name);
                assert!(fixture(row)["permissions"].is_object(), "{}: permissions", row.name);
            }
        }
    }
}

/// Every template that is filled from a listed item.
fn templates(row: &Row) -> Vec<&'static str> {
    let get = row.get.map(|get| (get.path, get.query));
    let content = match row.content {
        Content::Encoded { call, .. } | Content::Answer { call, .. } => Some((call.path, call.query)),
        Content::None | Content::Notebook | Content::File => None,
    };
    let parts = get.into_iter().chain(content);
    parts
        .flat_map(|(path, query)| std::iter::once(path).chain(query.iter().map(|(_, value)| *value)))
        .collect()
}

fn slots(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(slot, _)| slot))
}

#[test]
fn every_reason_is_given() {
    for row in rows() {
        assert!(!row.permission.is_empty(), "{}", row.name);
        assert!(row.rules.iter().all(|rule| !rule.why.is_empty()), "{}", row.name);
        assert!(row.builtin.iter().all(|builtin| !builtin.why.is_empty()), "{}", row.name);
        assert!(row.get.is_none_or(|get| !get.why.is_empty()), "{}", row.name);
        if let Stamp::None { why } = row.stamp {
            assert!(!why.is_empty(), "{}", row.name);
        }
        let Restore { create, update, delete, then, stop, owner, .. } = row.restore;
        let more = then.iter().copied().chain(stop).chain(owner.map(|(_, write)| write));
        for write in [create, update, delete].into_iter().chain(more) {
            match write {
                Write::Rest { method, path, .. } => {
                    assert!(["POST", "PUT", "PATCH", "DELETE"].contains(&method), "{}: {method}", row.name);
                    assert!(path.starts_with("/api/"), "{}: {path}", row.name);
                }
                Write::Sql { statement } | Write::Alter { statement } => {
                    assert!(statement.contains("{full_name}"), "{}", row.name);
                }
                Write::Nothing { why } => assert!(!why.is_empty(), "{}", row.name),
            }
        }
    }
}

#[test]
fn what_is_hashed_does_not_reach_into_strings() {
    for row in rows() {
        let hashed = row.rules.iter().filter(|rule| rule.class == Class::Volatile).map(|rule| rule.path);
        assert!(hashed.chain(row.sets.iter().copied()).all(|path| !path.contains("(json)")), "{}", row.name);
    }
}

#[test]
fn no_field_has_two_classes() {
    for row in rows() {
        let mut seen = BTreeSet::new();
        assert!(row.rules.iter().all(|rule| seen.insert(rule.path)), "{}", row.name);
    }
}

#[test]
fn kinds_that_are_named_exist() {
    for each in rows() {
        for reference in each.references {
            assert!(row(reference.kind).is_some(), "{} refers to {}", each.name, reference.kind);
        }
        for name in each.walks.into_iter().chain(each.listed_with).chain(each.carries.map(|c| c.kind)) {
            assert!(row(name).is_some(), "{} names {name}", each.name);
        }
    }
}

#[test]
fn the_restore_order_has_no_circle() {
    let mut before: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for each in rows() {
        let needs = before.entry(each.name).or_default();
        for reference in each.references.iter().filter(|reference| !reference.later) {
            let target = row(reference.kind).unwrap();
            assert!(
                target.restore.layer <= each.restore.layer,
                "{} (layer {}) needs {} (layer {})",
                each.name,
                each.restore.layer,
                target.name,
                target.restore.layer
            );
            needs.insert(reference.kind);
        }
    }
    while !before.is_empty() {
        let free: Vec<_> =
            before.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| *name).collect();
        assert!(!free.is_empty(), "these wait for each other: {before:?}");
        for name in free {
            before.remove(name);
            before.values_mut().for_each(|needs| {
                needs.remove(name);
            });
        }
    }
}

#[test]
fn every_kind_is_reached_from_a_task_that_a_plan_begins_with() {
    let mut reached = BTreeSet::new();
    for root in rows().filter(|row| row.walks.is_none() && row.task() == row.name) {
        reached.extend(yields(root.name).iter().map(|row| row.name));
    }
    assert!(rows().all(|row| reached.contains(row.name)), "{reached:?}");
}

#[test]
fn families_of_the_metastore_are_told_apart() {
    assert!(catalog::ROWS.iter().all(is_metastores));
    assert_eq!(rows().filter(|row| is_metastores(row)).count(), catalog::ROWS.len());
}
