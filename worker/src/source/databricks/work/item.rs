//! An item as a listing shows it, and the calls that are made for it.

use bytes::Bytes;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Role};
use lakehold_proto::ids::Hash;
use serde_json::Value;

use super::super::kinds::{Builtin, Content, Is, List, One, Row, Stamp, Treat, path};
use super::super::request::{Request, segment};
use super::{Work, shallow};

/// An item as a listing shows it.
#[derive(Debug)]
pub(in super::super) struct Item {
    /// What the listing said, in one line.
    pub(in super::super) raw: Bytes,
    /// The same, parsed.
    pub(in super::super) value: Value,
    pub(in super::super) key: String,
    pub(in super::super) name: String,
    pub(in super::super) parent: Option<String>,
    /// What tells that nothing changed, where that can be trusted.
    pub(in super::super) version: Option<String>,
    /// Whether the listing showed a key; what has none cannot be told apart from its like.
    pub(in super::super) identified: bool,
}

/// What the base snapshot has that need not be fetched.
#[derive(Debug, Default)]
pub(super) struct Reuse {
    pub(super) object: bool,
    pub(super) content: bool,
    /// In what lesser form the base has it: that is so still.
    pub(super) degraded: Vec<String>,
}

impl Item {
    /// Reads what a listing of `row` shows. What cannot be read gets a key made of its bytes.
    pub(in super::super) fn read(row: &Row, raw: Bytes) -> Self {
        let value = shallow::read(&raw);
        let first = |fields: &[&str]| {
            fields.iter().filter_map(|field| path::text(&value, field)).find(|text| !text.is_empty())
        };
        let found = first(row.key);
        let identified = found.is_some();
        let key = found.unwrap_or_else(|| format!("unidentified-{}", Hash::of(&raw)));
        let name = first(row.title).unwrap_or_else(|| key.clone());
        let tree = matches!(row.list, List::Tree);
        let name = if tree { canonical_path(&name).to_owned() } else { name };
        let parent = match row.within {
            // A schema's own name means nothing without its catalog's, which every full name begins with.
            Some(_) if row.walks.is_some() => name.rsplit_once('.').map(|(parent, _)| parent.to_owned()),
            Some(field) => path::text(&value, field),
            None if tree => parent_of(&name).map(str::to_owned),
            None => None,
        };
        let version = match row.stamp {
            Stamp::Trusted(fields) => {
                let stamps: Option<Vec<_>> = fields.iter().map(|field| path::text(&value, field)).collect();
                stamps.map(|stamps| stamps.join("/"))
            }
            Stamp::None { .. } => None,
        };
        Self { raw, value, key, name, parent, version, identified }
    }

    /// The rule by which it is left out, if there is one.
    pub(in super::super) fn skipped(&self, row: &'static Row) -> Option<&'static Builtin> {
        row.builtin.iter().filter(|builtin| builtin.treat == Treat::Skip).find(|builtin| {
            path::text(&self.value, builtin.path).is_some_and(|text| match builtin.is {
                Is::OneOf(these) => these.contains(&text.as_str()),
                Is::Ending(ends) => ends.iter().any(|end| text.ends_with(end)),
            })
        })
    }

    /// What of `known`, the item as the base snapshot has it, can be taken over without fetching.
    pub(super) fn reuse(&self, work: &Work, row: &Row, known: Option<&Entry>) -> Reuse {
        let Some(known) = known else { return Reuse::default() };
        if work.full || self.version.is_none() || self.version != known.version {
            return Reuse::default();
        }
        let covered = matches!(row.content, Content::Notebook | Content::File | Content::Encoded { .. });
        Reuse {
            object: row.get.is_some() && known.part(Role::Object).is_some(),
            content: covered && known.part(Role::Content).is_some(),
            degraded: known.degraded.clone(),
        }
    }

    /// The call that `one` describes, for this item.
    ///
    /// # Errors
    /// `Unavailable` when the listing lacks a field that the call needs.
    pub(in super::super) fn call(&self, one: &One) -> Result<Request> {
        let lookup = |slot: &str| path::text(&self.value, slot);
        let mut request = Request::get(one.family, fill(one.path, true, lookup)?);
        for (name, value) in one.query {
            request = request.query(name, fill(value, false, lookup)?);
        }
        Ok(request)
    }
}

/// Fills the slots of a template. `encode` makes each value one segment of a path.
///
/// # Errors
/// `Unavailable` when a slot has no value.
pub(in super::super) fn fill(
    template: &str,
    encode: bool,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((slot, after)) = behind.split_once('}') else { break };
        let value = lookup(slot).ok_or_else(|| {
            let detail = format!("the listing shows no {slot}");
            Fault::new(Class::Unavailable, "http.unexpected", format!("fill in {template}"), detail)
        })?;
        filled.push_str(before);
        filled.push_str(&if encode { segment(&value) } else { value });
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// A path of the workspace tree without the prefix `/Workspace`, which the API writes or not as it likes.
pub(in super::super) fn canonical_path(path: &str) -> &str {
    match path.strip_prefix("/Workspace") {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// The directory that a path lies in.
fn parent_of(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

/// The bytes of a listed item in one line: a newline inside JSON is white space, and would part a written listing.
pub(super) fn one_line(raw: &str) -> Bytes {
    if !raw.contains(['\n', '\r']) {
        return Bytes::copy_from_slice(raw.as_bytes());
    }
    raw.replace(['\n', '\r'], " ").into()
}

#[cfg(test)]
mod tests {
    use super::super::super::kinds::row;
    use super::*;

    fn read(kind: &str, json: &str) -> Item {
        Item::read(row(kind).unwrap(), Bytes::copy_from_slice(json.as_bytes()))
    }

    #[test]
    fn keys_names_and_stamps_come_from_where_the_row_says() {
        let item = read(
            "notebook",
            r#"{"object_id": 9007199254740993, "path": "/Workspace/a/b", "modified_at": 5}"#,
        );
        assert_eq!((item.key.as_str(), item.name.as_str()), ("9007199254740993", "/a/b"));
        assert_eq!((item.parent.as_deref(), item.version.as_deref()), (Some("/a"), Some("5")));
        let item = read("job", r#"{"job_id": 7, "settings": {"name": ""}}"#);
        assert_eq!(
            (item.name.as_str(), item.identified),
            ("7", true),
            "a job without a name is named by its key"
        );
        let item = read("table", r#"{"full_name": "a.b.c"}"#);
        assert_eq!((item.key.as_str(), item.parent.as_deref()), ("a.b.c", Some("a.b")));
        assert!(!read("job", "[1]").identified);
        let deep = format!(
            r#"{{"job_id": 7, "settings": {{"x": {}{}, "name": "n"}}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        let item = read("job", &deep);
        assert_eq!((item.key.as_str(), item.name.as_str()), ("7", "n"), "however deep the rest of it goes");
    }

    #[test]
    fn a_missing_stamp_is_no_stamp() {
        let file = read("workspace_file", r#"{"object_id": 1, "path": "/a", "modified_at": 5}"#);
        assert_eq!(file.version, None, "one of two is not enough");
    }

    #[test]
    fn calls_are_filled_with_names_as_data() {
        let item = read("table", r#"{"full_name": "a.b.c/../d?x"}"#);
        let one = One {
            family: &super::super::super::families::UNITY_CATALOG,
            path: "/api/t/{full_name}",
            query: &[("n", "{full_name}"), ("f", "true")],
        };
        let call = item.call(&one).unwrap();
        assert_eq!(call.path, "/api/t/a.b.c%2F..%2Fd%3Fx");
        assert_eq!(call.query, [("n", "a.b.c/../d?x".to_owned()), ("f", "true".to_owned())]);
        assert!(read("table", r#"{"name": "x"}"#).call(&one).is_err());
    }

    #[test]
    fn the_platforms_own_are_left_out() {
        let skipped = |kind: &str, json: &str| read(kind, json).skipped(row(kind).unwrap()).is_some();
        assert!(skipped("catalog", r#"{"name": "system", "catalog_type": "SYSTEM_CATALOG"}"#));
        assert!(!skipped("catalog", r#"{"name": "main", "catalog_type": "MANAGED_CATALOG"}"#));
        assert!(skipped("cluster", r#"{"cluster_id": "1", "cluster_source": "JOB"}"#));
        assert!(!skipped("workspace_file", r#"{"object_id": 1, "path": "/a/x.dbalert.json"}"#));
    }

    #[test]
    fn paths_lose_their_prefix_only() {
        for (path, canonical) in
            [("/Workspace", "/"), ("/Workspace/a", "/a"), ("/Workspaces/a", "/Workspaces/a"), ("/a", "/a")]
        {
            assert_eq!(canonical_path(path), canonical);
        }
        assert_eq!((parent_of("/a"), parent_of("/a/b"), parent_of("/")), (Some("/"), Some("/a"), None));
    }
}
