//! Which fields of two JSON documents differ.

use std::collections::BTreeMap;

use lakehold_proto::format::Role;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// One place in which an item differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Which side of the item.
    pub part: Role,
    /// Where in it: `settings.tasks[0].timeout_seconds`; empty for the part as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What was there; absent when nothing was. For a part as a whole: its bytes.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What is there; absent when nothing is.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// What is there is something, also where it is `null`.
fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl FieldChange {
    /// A part that differs as a whole, told by its sizes in bytes.
    pub(super) fn whole(part: Role, from: Option<u64>, to: Option<u64>) -> Self {
        Self { part, path: String::new(), from: from.map(Value::from), to: to.map(Value::from) }
    }
}

/// Adds every place in which two documents differ. Lists of things that have names are compared by name; others of equal
/// length place by place, or as a whole, since what was put in where cannot be known. What one of them does not know
/// ([`unknown`]) does not differ.
pub fn compare(part: Role, from: &Value, to: &Value, found: &mut Vec<FieldChange>) {
    walk(part, String::new(), from, to, found);
}

fn walk(part: Role, path: String, from: &Value, to: &Value, found: &mut Vec<FieldChange>) {
    match (from, to) {
        (from, to) if unknown(from).or(unknown(to)).is_some() => {}
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            for name in names {
                let path = join(&path, name);
                member(part, path, [a.get(name), b.get(name)], found);
            }
        }
        (Value::Array(a), Value::Array(b)) => lists(part, path, [a, b], found),
        (a, b) if a == b => {}
        (a, b) => found.push(FieldChange { part, path, from: Some(a.clone()), to: Some(b.clone()) }),
    }
}

fn member(part: Role, path: String, sides: [Option<&Value>; 2], found: &mut Vec<FieldChange>) {
    match sides {
        [Some(from), Some(to)] => walk(part, path, from, to, found),
        sides if sides.into_iter().flatten().any(|value| unknown(value).is_some()) => {}
        [from, to] => found.push(FieldChange { part, path, from: from.cloned(), to: to.cloned() }),
    }
}

fn lists(part: Role, path: String, [was, is]: [&Vec<Value>; 2], found: &mut Vec<FieldChange>) {
    let whole = |path, from, to| FieldChange { part, path, from: Some(from), to: Some(to) };
    if let (Some(a), Some(b)) = (named(was), named(is)) {
        for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
            let path = format!("{path}[{}]", Value::from(name.as_str()));
            member(part, path, [a.get(name).copied(), b.get(name).copied()], found);
        }
        let order = |list: &[Value]| list.iter().filter_map(name_of).map(Value::from).collect::<Vec<_>>();
        if a.keys().eq(b.keys()) && order(was) != order(is) {
            found.push(whole(path, order(was).into(), order(is).into()));
        }
    } else if was.len() == is.len() {
        for (n, (a, b)) in was.iter().zip(is).enumerate() {
            walk(part, format!("{path}[{n}]"), a, b, found);
        }
    } else {
        found.push(whole(path, was.clone().into(), is.clone().into()));
    }
}

/// The things of a list by their names, where all have one and no two the same.
fn named(list: &[Value]) -> Option<BTreeMap<String, &Value>> {
    let by_name: Option<BTreeMap<_, _>> =
        list.iter().map(|thing| name_of(thing).map(|name| (name, thing))).collect();
    by_name.filter(|by_name| by_name.len() == list.len())
}

fn name_of(thing: &Value) -> Option<String> {
    let name = thing.get("name")?.as_str()?;
    let schema = thing.get("schema").and_then(Value::as_str);
    Some(schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}")))
}

/// Why the source could not tell a value: it wrote `{"unknown": WHY}` in its place.
fn unknown(value: &Value) -> Option<&str> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    members.get("unknown")?.as_str()
}

/// The places of a document that its source could not tell, and why.
pub(super) fn all_unknown(path: String, value: &Value, found: &mut Vec<(String, String)>) {
    if let Some(why) = unknown(value) {
        return found.push((path, why.to_owned()));
    }
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| all_unknown(join(&path, name), value, found));
        }
        Value::Array(values) => {
            let each = values.iter().enumerate();
            each.for_each(|(n, value)| all_unknown(format!("{path}[{n}]"), value, found));
        }
        _ => {}
    }
}

/// A member's path. A name that holds what separates names is quoted.
fn join(path: &str, name: &str) -> String {
    if name.is_empty() || name.contains(['.', '[', ']', '"']) {
        return format!("{path}[{}]", Value::from(name));
    }
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_difference_has_its_path() {
        let from = json!({"a": 1, "b": {"c": [1, {"d": 2}], "e.f": 1}, "gone": null, "list": [1]});
        let to = json!({"a": 1, "b": {"c": [1, {"d": 3}], "e.f": 2}, "new": true, "list": [1, 2]});
        let mut found = Vec::new();
        compare(Role::Object, &from, &to, &mut found);
        let paths: Vec<_> = found.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(paths, ["b.c[1].d", "b[\"e.f\"]", "gone", "list", "new"]);
        assert_eq!((found[2].from.clone(), found[2].to.clone()), (Some(Value::Null), None));
        assert_eq!(found[3].to, Some(json!([1, 2])));
        let written = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Vec<FieldChange>>(&written).unwrap(), found);
    }

    fn told(from: &Value, to: &Value) -> Vec<String> {
        let mut found = Vec::new();
        compare(Role::Object, from, to, &mut found);
        found.into_iter().map(|field| field.path).collect()
    }

    #[test]
    fn things_with_names_pair_by_name() {
        let thing = |schema: &str, name: &str, at: u32| json!({"schema": schema, "name": name, "at": at});
        let from = json!({"l": [thing("a", "x", 1), thing("b", "x", 1), thing("b", "y", 1)]});
        let to = json!({"l": [thing("b", "x", 2), thing("b", "y", 1), thing("c", "x", 1)]});
        assert_eq!(told(&from, &to), ["l[\"a.x\"]", "l[\"b.x\"].at", "l[\"c.x\"]"]);
        let turned = json!({"l": [thing("b", "x", 1), thing("a", "x", 1), thing("b", "y", 1)]});
        assert_eq!(told(&from, &turned), ["l"], "their order may mean something");
        let twins = json!({"l": [{"name": "x", "at": 1}, {"name": "x", "at": 1}]});
        assert_eq!(
            told(&twins, &json!({"l": [{"name": "x", "at": 1}, {"name": "x", "at": 2}]})),
            ["l[1].at"]
        );
    }

    #[test]
    fn what_is_not_known_does_not_differ() {
        let unknown = json!({"unknown": "it is locked"});
        let (known, hidden) =
            (json!({"a": {"b": "text"}, "c": 1}), json!({"a": {"b": unknown, "d": unknown}, "c": 2}));
        assert_eq!((told(&known, &hidden), told(&hidden, &known)), (vec!["c".into()], vec!["c".into()]));
        let mut found = Vec::new();
        all_unknown(String::new(), &hidden, &mut found);
        assert_eq!(
            found,
            [("a.b", "it is locked"), ("a.d", "it is locked")].map(|(a, b)| (a.into(), b.into()))
        );
    }

    #[test]
    fn equal_documents_have_none() {
        let mut found = Vec::new();
        compare(Role::Object, &json!({"a": [1], "b": 2}), &json!({"b": 2, "a": [1]}), &mut found);
        assert!(found.is_empty());
    }
}
