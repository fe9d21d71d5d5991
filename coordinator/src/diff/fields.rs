//! Which fields of two JSON documents differ.

use lakehold_proto::format::Role;
use serde::{Deserialize, Serialize};
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What is there; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

impl FieldChange {
    /// A part that differs as a whole, told by its sizes in bytes.
    pub(super) fn whole(part: Role, from: Option<u64>, to: Option<u64>) -> Self {
        Self { part, path: String::new(), from: from.map(Value::from), to: to.map(Value::from) }
    }
}

/// Adds every place in which two documents differ. Lists of equal length are compared place by place; others as a whole,
/// since what was put in where cannot be known.
pub fn compare(part: Role, from: &Value, to: &Value, found: &mut Vec<FieldChange>) {
    walk(part, String::new(), from, to, found);
}

fn walk(part: Role, path: String, from: &Value, to: &Value, found: &mut Vec<FieldChange>) {
    match (from, to) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            for name in names {
                let path = join(&path, name);
                match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => walk(part, path, a, b, found),
                    (from, to) => {
                        found.push(FieldChange { part, path, from: from.cloned(), to: to.cloned() });
                    }
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                walk(part, format!("{path}[{n}]"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(FieldChange { part, path, from: Some(a.clone()), to: Some(b.clone()) }),
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
    }

    #[test]
    fn equal_documents_have_none() {
        let mut found = Vec::new();
        compare(Role::Object, &json!({"a": [1], "b": 2}), &json!({"b": 2, "a": [1]}), &mut found);
        assert!(found.is_empty());
    }
}
