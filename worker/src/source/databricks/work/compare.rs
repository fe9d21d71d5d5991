//! The forms that are hashed to tell whether something changed: without volatile fields, with sets sorted. What is kept is
//! what the API gave.

use bytes::Bytes;
use lakehold_proto::format::{Role, canonical_json};
use lakehold_proto::ids::Kind;
use serde_json::Value;

use super::super::kinds::{Access, Class, Row, path, row};
use crate::capture::Body;

/// The body of an object or of an answer about it.
pub(super) fn document(row: &Row, raw: Bytes) -> Body {
    body(raw, |value| of_document(row, value))
}

/// The body of an access list.
pub(super) fn access(access: &Access, raw: Bytes) -> Body {
    body(raw, |value| of_access(access, value))
}

/// Leaves of a captured part what is compared. A kind that the table does not have is compared as it is.
pub(in super::super) fn comparable(kind: &Kind, role: Role, value: &mut Value) {
    let Some(row) = row(kind.as_str()) else { return };
    match role {
        Role::Permissions => of_access(&row.access, value),
        Role::Object | Role::Content | Role::Data => of_document(row, value),
    }
}

fn of_document(row: &Row, value: &mut Value) {
    row.rules
        .iter()
        .filter(|rule| rule.class == Class::Volatile)
        .for_each(|rule| path::remove(value, rule.path));
    row.sets.iter().for_each(|set| path::sort(value, set));
}

fn of_access(access: &Access, value: &mut Value) {
    match access {
        Access::None { .. } => {}
        Access::Object { .. } => direct_only(value),
        Access::Grants { .. } => {
            path::sort(value, "privilege_assignments[].privileges");
            path::sort(value, "privilege_assignments");
            path::sort(value, "bindings");
        }
        Access::Secrets { .. } => path::sort(value, "items"),
    }
}

/// What lies deeper than the parser goes is kept, and compared, by its bytes.
fn body(raw: Bytes, change: impl FnOnce(&mut Value)) -> Body {
    match serde_json::from_slice::<Value>(&raw) {
        Ok(mut value) => {
            change(&mut value);
            Body::json(raw, &value)
        }
        Err(_) => Body::Bytes(raw),
    }
}

/// Leaves what was granted on the object itself. What it inherits belongs to, and changes with, its parents. The server
/// gives entries in no order.
fn direct_only(value: &mut Value) {
    let Some(Value::Array(entries)) = value.get_mut("access_control_list") else { return };
    for entry in entries.iter_mut() {
        if let Some(Value::Array(permissions)) = entry.get_mut("all_permissions") {
            permissions.retain(|permission| permission.get("inherited") != Some(&Value::Bool(true)));
            permissions.sort_by_cached_key(canonical_json);
        }
        // The principal's own name, which is captured with the principal.
        path::remove(entry, "display_name");
    }
    entries.retain(|entry| {
        entry.get("all_permissions").is_none_or(|all| all.as_array().is_none_or(|all| !all.is_empty()))
    });
    entries.sort_by_cached_key(canonical_json);
}

#[cfg(test)]
mod tests {
    use super::super::super::kinds::row;
    use super::*;
    use serde_json::json;

    fn hash(body: Body) -> lakehold_proto::ids::Hash {
        let Body::Json { canonical, .. } = body else { panic!("no JSON") };
        canonical
    }

    #[test]
    fn order_and_inheritance_change_nothing_and_a_grant_does() {
        let row = row("notebook").unwrap();
        let acl = |entries: Value| {
            hash(access(&row.access, json!({"access_control_list": entries}).to_string().into()))
        };
        let own = |who: &str, level: &str| {
            json!({"user_name": who, "display_name": who, "all_permissions": [
                {"permission_level": level, "inherited": false},
                {"permission_level": "CAN_READ", "inherited": true, "inherited_from_object": ["/directories/1"]},
            ]})
        };
        let inherited = json!({"group_name": "admins", "all_permissions": [
            {"permission_level": "CAN_MANAGE", "inherited": true, "inherited_from_object": ["/directories/0"]}]});
        let one = acl(json!([own("a", "CAN_RUN"), own("b", "CAN_EDIT"), inherited]));
        assert_eq!(one, acl(json!([own("b", "CAN_EDIT"), own("a", "CAN_RUN")])));
        assert_ne!(one, acl(json!([own("a", "CAN_MANAGE"), own("b", "CAN_EDIT")])));
    }

    #[test]
    fn volatile_fields_are_kept_and_not_compared() {
        let row = row("sql_warehouse").unwrap();
        let of = |state: &str, name: &str| {
            let raw = Bytes::from(json!({"id": "1", "name": name, "state": state}).to_string());
            let Body::Json { raw: kept, canonical } = document(row, raw.clone()) else { panic!("no JSON") };
            assert_eq!(kept, raw);
            canonical
        };
        assert_eq!(of("RUNNING", "a"), of("STOPPED", "a"));
        assert_ne!(of("RUNNING", "a"), of("RUNNING", "b"));
    }

    #[test]
    fn what_cannot_be_parsed_is_kept_by_its_bytes() {
        let deep = Bytes::from(format!("{}{}", "[".repeat(5000), "]".repeat(5000)));
        let row = row("job").unwrap();
        assert!(matches!(document(row, deep.clone()), Body::Bytes(kept) if kept == deep));
    }
}
