//! SCIM's small languages: filters, attribute lists, PATCH operations.

use serde_json::{Value, json};

use crate::errors::ApiError;

/// A filter such as `userName eq "a@b.c" or displayName sw "x"`; `and` binds tighter than `or`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filter(Vec<Vec<Term>>);

#[derive(Debug, PartialEq, Eq)]
struct Term {
    attribute: String,
    op: String,
    value: String,
}

impl Filter {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let bad = || {
            ApiError::scim(400, "invalidFilter", format!("Given filter operator is not supported: {text}"))
        };
        let mut ors = vec![Vec::new()];
        let mut tokens = tokens(text).into_iter();
        loop {
            let (Some(attribute), Some(op)) = (tokens.next(), tokens.next()) else { return Err(bad()) };
            let op = op.to_lowercase();
            let value = match op.as_str() {
                "pr" => String::new(),
                "eq" | "ne" | "co" | "sw" | "ew" => tokens.next().ok_or_else(bad)?,
                _ => return Err(bad()),
            };
            if let Some(ands) = ors.last_mut() {
                ands.push(Term { attribute, op, value });
            }
            match tokens.next().map(|t| t.to_lowercase()).as_deref() {
                None => return Ok(Self(ors)),
                Some("and") => {}
                Some("or") => ors.push(Vec::new()),
                Some(_) => return Err(bad()),
            }
        }
    }

    pub(crate) fn matches(&self, item: &Value) -> bool {
        self.0.iter().any(|ands| ands.iter().all(|t| t.matches(item)))
    }
}

impl Term {
    fn matches(&self, item: &Value) -> bool {
        let found = values(item, &self.attribute);
        let wanted = self.value.to_lowercase();
        match self.op.as_str() {
            "pr" => !found.is_empty(),
            "ne" => found.iter().all(|v| *v != wanted),
            "co" => found.iter().any(|v| v.contains(&wanted)),
            "sw" => found.iter().any(|v| v.starts_with(&wanted)),
            "ew" => found.iter().any(|v| v.ends_with(&wanted)),
            _ => found.contains(&wanted),
        }
    }
}

/// The lower-case values of a dotted attribute; of `entitlements` those of its `value`s.
fn values(item: &Value, attribute: &str) -> Vec<String> {
    let (head, rest) = attribute.split_once('.').unwrap_or((attribute, ""));
    let key = item.as_object().and_then(|m| m.keys().find(|k| k.eq_ignore_ascii_case(head)));
    let Some(value) = key.and_then(|k| item.get(k)) else { return Vec::new() };
    match value {
        Value::Array(all) => {
            all.iter().flat_map(|v| values(v, if rest.is_empty() { "value" } else { rest })).collect()
        }
        Value::Object(_) => values(value, if rest.is_empty() { "value" } else { rest }),
        Value::String(s) => vec![s.to_lowercase()],
        Value::Null => Vec::new(),
        other => vec![other.to_string()],
    }
}

/// Words, and texts in double or single quotes.
fn tokens(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = if first == '"' || first == '\'' {
            let body = &rest[1..];
            body.split_once(first).unwrap_or((body, ""))
        } else {
            rest.split_once(' ').unwrap_or((rest, ""))
        };
        all.push(token.to_owned());
        rest = after.trim_start();
    }
    all
}

/// Keeps the attributes asked for; `id` and `schemas` always stay.
pub(crate) fn project(item: &mut Value, attributes: Option<&str>, excluded: Option<&str>) {
    let names = |list: &str| -> Vec<String> {
        list.split(',')
            .map(|a| a.trim().split('.').next().unwrap_or_default().to_lowercase())
            .filter(|a| !a.is_empty())
            .collect()
    };
    let keep = attributes.map(names).filter(|n| !n.is_empty());
    let drop = excluded.map(names).unwrap_or_default();
    if let Some(map) = item.as_object_mut() {
        map.retain(|k, _| {
            let k = k.to_lowercase();
            matches!(k.as_str(), "id" | "schemas")
                || keep.as_ref().is_none_or(|n| n.contains(&k)) && !drop.contains(&k)
        });
    }
}

/// One PATCH operation: add, remove or replace, with or without a path.
pub(crate) fn apply(item: &mut Value, operation: &Value) -> Result<(), ApiError> {
    let op = operation["op"].as_str().unwrap_or_default().to_lowercase();
    let path = operation["path"].as_str().unwrap_or_default();
    let value = &operation["value"];
    if !matches!(op.as_str(), "add" | "remove" | "replace") {
        return Err(ApiError::scim(400, "invalidSyntax", format!("Unknown operation {op}")));
    }
    if path.is_empty() {
        let Some(fields) = value.as_object() else {
            return Err(ApiError::scim(400, "noTarget", "A path or an object is required"));
        };
        for (field, value) in fields {
            set(item, &op, field, value);
        }
        return Ok(());
    }
    // `members[value eq "123"]`: the elements that match.
    if let Some((field, condition)) = path.split_once('[') {
        let filter = Filter::parse(condition.split_once(']').map_or(condition, |(c, _)| c))?;
        if op != "remove" {
            return Err(ApiError::scim(400, "invalidPath", "Filters are supported by remove only"));
        }
        if let Some(all) = item[field].as_array_mut() {
            all.retain(|v| !filter.matches(v));
        }
        return Ok(());
    }
    if op == "remove" && value.is_null() {
        if let Some(map) = item.as_object_mut() {
            map.shift_remove(path);
        }
        return Ok(());
    }
    set(item, &op, path, value);
    Ok(())
}

fn set(item: &mut Value, op: &str, field: &str, value: &Value) {
    const MULTI: [&str; 4] = ["members", "entitlements", "roles", "emails"];
    if matches!(field, "id" | "schemas" | "groups" | "meta") {
        return;
    }
    if !MULTI.contains(&field) {
        match field.split_once('.') {
            Some((outer, inner)) => item[outer][inner] = value.clone(),
            None => item[field] = value.clone(),
        }
        return;
    }
    let given: Vec<Value> = match value {
        Value::Array(all) => all.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let given: Vec<Value> =
        given.into_iter().map(|v| if v.is_string() { json!({"value": v}) } else { v }).collect();
    let mut all = item[field].as_array().cloned().unwrap_or_default();
    let same = |a: &Value, b: &Value| a["value"] == b["value"];
    match op {
        "replace" => all = given,
        "remove" => all.retain(|v| !given.iter().any(|g| same(g, v))),
        _ => {
            // Adding what is there changes nothing.
            for g in given {
                if !all.iter().any(|v| same(v, &g)) {
                    all.push(g);
                }
            }
        }
    }
    item[field] = Value::Array(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_scim_says() {
        let item = json!({"userName": "Ann@Example.com", "entitlements": [{"value": "workspace-access"}], "name": {"givenName": "Ann"}});
        let test = |f: &str| Filter::parse(f).expect("parses").matches(&item);
        assert!(test("userName eq \"ann@example.com\""));
        assert!(test("username sw 'ann' and entitlements eq workspace-access"));
        assert!(test("displayName eq x or name.givenName co \"nn\""));
        assert!(!test("userName ne \"ann@example.com\""));
        assert!(Filter::parse("userName ~ x").is_err());
    }

    #[test]
    fn operations_change_only_what_they_name() {
        let mut item = json!({"id": "1", "members": [{"value": "a"}, {"value": "b"}]});
        apply(&mut item, &json!({"op": "add", "path": "members", "value": [{"value": "b"}, {"value": "c"}]}))
            .expect("add");
        assert_eq!(item["members"], json!([{"value": "a"}, {"value": "b"}, {"value": "c"}]));
        apply(&mut item, &json!({"op": "remove", "path": "members[value eq \"a\"]"})).expect("remove");
        apply(&mut item, &json!({"op": "replace", "value": {"displayName": "x", "id": "9"}}))
            .expect("replace");
        assert_eq!(item, json!({"id": "1", "members": [{"value": "b"}, {"value": "c"}], "displayName": "x"}));
    }

    #[test]
    fn projection_keeps_the_id() {
        let mut item = json!({"id": "1", "displayName": "x", "members": []});
        project(&mut item, Some("displayName"), None);
        assert_eq!(item, json!({"id": "1", "displayName": "x"}));
    }
}
