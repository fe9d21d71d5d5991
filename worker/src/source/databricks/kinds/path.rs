//! The language in which rows name fields: `settings.tasks[].new_cluster.policy_id`.
//!
//! Steps are parted by dots. `name` goes into a member (in single quotes where the name itself has dots), `[]` behind it
//! into every element of an array, `*` into every member, and `(json)` into the JSON document that a string holds. A path
//! that ends in text means that text; what is not there is passed over.

use serde_json::Value;

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Into the member of this name.
    Member(&'a str),
    /// Into every element.
    Each,
    /// Into every member.
    Any,
    /// Into the document that the string holds.
    Json,
}

/// The steps of a path.
pub fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (name, behind) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        match name {
            "" => {}
            "*" => steps.push(Step::Any),
            "(json)" => steps.push(Step::Json),
            name => steps.push(Step::Member(name)),
        }
        rest = behind;
        while let Some(behind) = rest.strip_prefix("[]") {
            steps.push(Step::Each);
            rest = behind;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    steps
}

/// Every value at `path`. Values inside JSON strings are parsed anew, so they come by value.
pub fn find(value: &Value, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    walk(value, &steps(path), &mut found);
    found
}

fn walk(value: &Value, steps: &[Step<'_>], found: &mut Vec<Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value.clone());
        return;
    };
    match (step, value) {
        (Step::Member(name), Value::Object(members)) => {
            if let Some(member) = members.get(*name) {
                walk(member, rest, found);
            }
        }
        (Step::Each, Value::Array(items)) => items.iter().for_each(|item| walk(item, rest, found)),
        (Step::Any, Value::Object(members)) => members.values().for_each(|member| walk(member, rest, found)),
        (Step::Json, Value::String(text)) => {
            if let Ok(inner) = serde_json::from_str(text) {
                walk(&inner, rest, found);
            }
        }
        _ => {}
    }
}

/// The text at `path`, for paths of plain members: strings as they are, numbers and booleans as JSON writes them.
pub fn text(value: &Value, path: &str) -> Option<String> {
    let mut at = value;
    for step in steps(path) {
        let Step::Member(name) = step else { return None };
        at = at.get(name)?;
    }
    match at {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(at.to_string()),
        _ => None,
    }
}

/// Removes what is at `path`.
pub fn remove(value: &mut Value, path: &str) {
    if let Some((last, steps)) = steps(path).split_last() {
        change(value, steps, &mut |parent| match (last, parent) {
            (Step::Member(name), Value::Object(members)) => {
                members.shift_remove(*name);
            }
            (Step::Each, Value::Array(items)) => items.clear(),
            (Step::Any, Value::Object(members)) => members.clear(),
            _ => {}
        });
    }
}

/// Sorts the arrays at `path` by the canonical form of their elements.
pub fn sort(value: &mut Value, path: &str) {
    change(value, &steps(path), &mut |set| {
        if let Value::Array(items) = set {
            items.sort_by_cached_key(lakehold_proto::format::canonical_json);
        }
    });
}

/// Hands every value at `path` to `act`, which may change it. A document inside a string is written anew if it changed.
pub fn rewrite(value: &mut Value, path: &str, act: &mut impl FnMut(&mut Value)) {
    change(value, &steps(path), act);
}

/// Takes away every null at `path`, and what stood for it alone: the element of the innermost list around it, else the
/// members that are empty without it.
pub fn prune(value: &mut Value, path: &str) {
    prune_at(value, &steps(path));
}

/// Whether something was taken away that no list has made up for.
fn prune_at(value: &mut Value, steps: &[Step<'_>]) -> bool {
    let Some((step, rest)) = steps.split_first() else { return value.is_null() };
    match (step, value) {
        (Step::Member(name), Value::Object(members)) => {
            let Some(member) = members.get_mut(*name) else { return false };
            let hit = prune_at(member, rest);
            if hit && (member.is_null() || member.as_object().is_some_and(serde_json::Map::is_empty)) {
                members.shift_remove(*name);
            }
            hit
        }
        (Step::Each, Value::Array(items)) => {
            items.retain_mut(|item| !prune_at(item, rest));
            false
        }
        (Step::Any, Value::Object(members)) => {
            members.retain(|_, member| !prune_at(member, rest));
            false
        }
        _ => false,
    }
}

fn change(value: &mut Value, steps: &[Step<'_>], act: &mut impl FnMut(&mut Value)) {
    let Some((step, rest)) = steps.split_first() else { return act(value) };
    match (step, value) {
        (Step::Member(name), Value::Object(members)) => {
            if let Some(member) = members.get_mut(*name) {
                change(member, rest, act);
            }
        }
        (Step::Each, Value::Array(items)) => items.iter_mut().for_each(|item| change(item, rest, act)),
        (Step::Any, Value::Object(members)) => {
            members.values_mut().for_each(|member| change(member, rest, act));
        }
        (Step::Json, Value::String(text)) => {
            let Ok(before) = serde_json::from_str::<Value>(text) else { return };
            let mut inner = before.clone();
            change(&mut inner, rest, act);
            if inner != before {
                *text = inner.to_string();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_reach_arrays_members_and_json_in_strings() {
        let value = json!({
            "a": [{"b": 1}, {"b": 2}, {}],
            "m": {"x": {"id": 3}, "y": {"id": 4}},
            "s": "{\"k.with.dots\": {\"value\": \"deep\"}}",
        });
        assert_eq!(find(&value, "a[].b"), [json!(1), json!(2)]);
        assert_eq!(find(&value, "m.*.id"), [json!(3), json!(4)]);
        assert_eq!(find(&value, "s.(json).'k.with.dots'.value"), [json!("deep")]);
        assert!(find(&value, "a.b").is_empty() && find(&value, "s.(json).other").is_empty());
        assert_eq!(text(&value, "m.x.id").as_deref(), Some("3"));
    }

    #[test]
    fn removing_and_sorting_touch_nothing_else() {
        let mut value = json!({"a": [{"b": 1, "c": [3, 1, 2]}, {"c": ["z", "y"]}], "b": 5});
        remove(&mut value, "a[].b");
        sort(&mut value, "a[].c");
        assert_eq!(value, json!({"a": [{"c": [1, 2, 3]}, {"c": ["y", "z"]}], "b": 5}));
        remove(&mut value, "nowhere.at[].all");
        sort(&mut value, "b");
        assert_eq!(value, json!({"a": [{"c": [1, 2, 3]}, {"c": ["y", "z"]}], "b": 5}));
    }
}
