//! Canonical forms: what is hashed to tell whether an item changed. Bodies themselves are kept as the API gave them.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Part;
use crate::ids::Hash;

/// The version of the rule below. An entry made under another rule is not comparable by hash, only by its bytes.
pub const CANONICAL_RULE: u32 = 1;

/// Writes JSON in its canonical form: members sorted by the bytes of their names, no white space, numbers and strings as
/// `serde_json` writes them. Arrays keep their order: a source sorts those that mean sets before it comes here.
pub fn canonical_json(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_bytes());
            out.push(b'{');
            for (n, (name, member)) in sorted.into_iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(&Value::String(name.clone()), out);
                out.push(b':');
                write(member, out);
            }
            out.push(b'}');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

/// The content hash of an item: SHA-256 over its parts in the order of their roles' names, for each the name of the role,
/// a NUL byte, and the 32 bytes of the part's own content hash. `None` for an item without parts.
pub fn content_of(parts: &[Part]) -> Option<Hash> {
    if parts.is_empty() {
        return None;
    }
    let mut sorted: Vec<_> = parts.iter().map(|p| (p.role.word(), p.content())).collect();
    sorted.sort_unstable();
    let mut hasher = Sha256::new();
    for (role, content) in sorted {
        hasher.update(role.as_bytes());
        hasher.update([0]);
        hasher.update(content.bytes());
    }
    Some(Hash::finish(hasher))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_members_and_white_space_do_not_matter() {
        let one: Value =
            serde_json::from_str(r#"{"b": [1, {"y": null, "x": 9007199254740993}], "a": "é\n"}"#).unwrap();
        let two: Value =
            serde_json::from_str(r#"{"a":"\u00e9\n","b":[1,{"x":9007199254740993,"y":null}]}"#).unwrap();
        assert_eq!(canonical_json(&one), canonical_json(&two));
        assert_eq!(
            canonical_json(&one),
            "{\"a\":\"é\\n\",\"b\":[1,{\"x\":9007199254740993,\"y\":null}]}".as_bytes()
        );
    }
}
