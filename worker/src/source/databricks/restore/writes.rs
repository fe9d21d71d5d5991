//! The calls that make, change and take away: a row's `Write` filled in with an item.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lakehold_proto::fault::{Class, Fault, Result};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::super::families::{Family, Verb, WORKSPACE_EXPORT, WORKSPACE_LIST};
use super::super::kinds::{Content, List, Row, Shape, path, row};
use super::super::request::{Request, segment};
use super::super::work::fill;
use super::portable::like;

/// What a SCIM patch says of itself.
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// An item on its way into the target.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its row.
    pub(super) row: &'static Row,
    /// Its object, in the target's words.
    pub(super) object: Value,
    /// Its content, where it is JSON, in the target's words.
    pub(super) document: Option<Value>,
    /// Its content's bytes, and their form.
    pub(super) content: Option<(Bytes, Option<String>)>,
    /// Its key in the target, once it has one.
    pub(super) key: Option<String>,
    /// The key as the source's object holds it: some are numbers.
    pub(super) like: Value,
}

/// The family whose budget changes of a kind come out of.
pub(super) fn family(row: &Row) -> &'static Family {
    match (row.list, row.content) {
        (List::Calls([call, ..]), _) => call.family,
        (List::Tree, Content::Notebook | Content::File) => &WORKSPACE_EXPORT,
        (List::Tree, _) => row.get.map_or(&WORKSPACE_LIST, |get| get.family),
        _ => carrier_family(),
    }
}

/// What carries others belongs to one family.
fn carrier_family() -> &'static Family {
    row("user").map_or(&WORKSPACE_LIST, family)
}

impl Item {
    /// The call of a REST write.
    ///
    /// # Errors
    /// `Unsupported` when the item lacks what the call needs.
    pub(super) fn request(&self, method: &str, template: &str, shape: &Shape) -> Result<Option<Request>> {
        let Some(body) = self.body(shape)? else { return Ok(None) };
        let (template, parameters) = template.split_once('?').unwrap_or((template, ""));
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|e| Fault::new(Class::Bug, "table.method", "read the table", e))?;
        let whole = template.contains("{path}");
        let filled = fill(&template.replace("{path}", "\u{0}"), true, |slot| self.slot(slot))?;
        let filled = if whole { filled.replace('\u{0}', &self.tree_path()) } else { filled };
        let mut request = Request { verb: Verb::Write, method, ..Request::get(family(self.row), filled) };
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            request = request.query(name_of(name), value);
        }
        Ok(Some(match body {
            Sent::Nothing => request,
            Sent::Json(body) => request.json(&body)?,
            Sent::Bytes(bytes) => request.octets(bytes),
        }))
    }

    pub(super) fn slot(&self, slot: &str) -> Option<String> {
        let key = self.key.as_deref();
        match slot {
            "under" => Some(match key?.split_once('/')?.0 {
                "users" => "Users".into(),
                "groups" => "Groups".into(),
                _ => "ServicePrincipals".into(),
            }),
            "id" if matches!(self.row.list, List::Carried) => Some(key?.split_once('/')?.1.to_owned()),
            "id" => key.map(str::to_owned),
            slot if self.row.key.first() == Some(&slot) => key.map(str::to_owned),
            slot => path::text(&self.object, slot).or_else(|| self.full_name(slot)),
        }
    }

    /// The full name of what lies in a catalog, where the server made it of these.
    fn full_name(&self, slot: &str) -> Option<String> {
        let part = |field| path::text(&self.object, field);
        let name = part("name")?;
        (slot == "full_name").then(|| match (part("catalog_name"), part("schema_name")) {
            (Some(catalog), Some(schema)) => format!("{catalog}.{schema}.{name}"),
            (Some(catalog), None) => format!("{catalog}.{name}"),
            _ => name,
        })
    }

    /// The path of an item of the tree, each of its names one segment.
    fn tree_path(&self) -> String {
        let path = path::text(&self.object, "path").unwrap_or_default();
        path.split('/').map(segment).collect::<Vec<_>>().join("/")
    }

    fn body(&self, shape: &Shape) -> Result<Option<Sent>> {
        let object = self.object.as_object();
        let take = |fields: &[&str]| -> Map<String, Value> {
            fields.iter().filter_map(|field| Some(((*field).to_owned(), self.field(field)?))).collect()
        };
        let always = |mut body: Map<String, Value>, more: &[(&str, bool)]| {
            body.extend(more.iter().map(|(name, value)| ((*name).to_owned(), Value::Bool(*value))));
            body
        };
        let body = match *shape {
            Shape::Empty => return Ok(Some(Sent::Nothing)),
            Shape::Whole => object.cloned().unwrap_or_default(),
            Shape::Only(fields) => {
                let body = take(fields);
                // Nothing to say is not said.
                if body.is_empty() {
                    return Ok(None);
                }
                body
            }
            Shape::With(fields, more) => always(take(fields), more),
            Shape::Of(field) => {
                self.field(field).and_then(|value| value.as_object().cloned()).unwrap_or_default()
            }
            Shape::Merged(field, beside, more) => {
                let mut body =
                    self.field(field).and_then(|value| value.as_object().cloned()).unwrap_or_default();
                body.extend(take(beside));
                always(body, more)
            }
            Shape::Under(field) => {
                Map::from_iter([(field.to_owned(), Value::Object(object.cloned().unwrap_or_default()))])
            }
            Shape::Renamed(names) => {
                names.iter().filter_map(|(from, to)| Some(((*to).to_owned(), self.field(from)?))).collect()
            }
            Shape::Masked(under, fields) => {
                let given = take(fields);
                if given.is_empty() {
                    return Ok(None);
                }
                // What is named and not given is cleared.
                let mask = fields.join(",");
                Map::from_iter([
                    (under.to_owned(), Value::Object(given)),
                    ("update_mask".to_owned(), json!(mask)),
                ])
            }
            Shape::Scim(fields) => {
                let set = fields.iter().map(|field| match self.field(field) {
                    Some(value) => json!({"op": "replace", "path": field, "value": value}),
                    None => json!({"op": "remove", "path": field}),
                });
                // What the item does not have may be in the target; that is only taken away where the row is about it.
                let set: Vec<_> = set.filter(|operation| operation["op"] != "remove").collect();
                if set.is_empty() {
                    return Ok(None);
                }
                Map::from_iter([
                    ("schemas".to_owned(), json!([PATCH])),
                    ("Operations".to_owned(), json!(set)),
                ])
            }
            Shape::Content(fields) => {
                let Some(document) = &self.document else { return Ok(None) };
                fields
                    .iter()
                    .filter_map(|field| Some(((*field).to_owned(), document.get(*field)?.clone())))
                    .collect()
            }
            Shape::Libraries => {
                let found =
                    self.document.as_ref().map(|document| path::find(document, "library_statuses[].library"));
                let Some(libraries) = found.filter(|libraries| !libraries.is_empty()) else {
                    return Ok(None);
                };
                Map::from_iter([("libraries".to_owned(), json!(libraries))])
            }
            Shape::Keyed(inner) => {
                let mut body = match self.body(inner)? {
                    Some(Sent::Json(Value::Object(body))) => body,
                    Some(_) => Map::new(),
                    None => return Ok(None),
                };
                if let (Some(field), Some(key)) = (self.row.key.first(), &self.key) {
                    body.insert((*field).to_owned(), like(&self.like, key.clone()));
                }
                body
            }
            Shape::Import => return self.import().map(|body| Some(Sent::Json(body))),
            Shape::Raw => return Ok(Some(Sent::Bytes(self.bytes()?.0))),
        };
        Ok(Some(Sent::Json(Value::Object(body))))
    }

    /// A field of the object; of encoded contents, the content.
    fn field(&self, field: &str) -> Option<Value> {
        if let Content::Encoded { field: encoded, .. } = self.row.content
            && field == encoded
        {
            return self.content.as_ref().map(|(bytes, _)| json!(STANDARD.encode(bytes)));
        }
        self.object.get(field).cloned()
    }

    fn bytes(&self) -> Result<(Bytes, Option<String>)> {
        self.content.clone().ok_or_else(|| {
            let detail = "the snapshot has none of its content";
            Fault::new(Class::Absent, "item.no-content", "read what is in it", detail)
        })
    }

    fn import(&self) -> Result<Value> {
        let (bytes, format) = self.bytes()?;
        let format = if format.as_deref() == Some("jupyter") { "JUPYTER" } else { "SOURCE" };
        let text = |field: &str| path::text(&self.object, field);
        let mut body = json!({
            "path": text("path"), "format": format, "overwrite": true, "content": STANDARD.encode(&bytes),
        });
        if let Some(language) = text("language") {
            body["language"] = json!(language);
        }
        Ok(body)
    }
}

/// A body.
enum Sent {
    Nothing,
    Json(Value),
    Bytes(Bytes),
}

/// Names of parameters are the table's own, and few.
fn name_of(name: &str) -> &'static str {
    const KNOWN: [&str; 4] = ["update_mask", "purge", "force", "overwrite"];
    KNOWN.into_iter().find(|known| *known == name).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::super::super::kinds::{Write, rows};
    use super::*;

    fn item(kind: &str, object: Value, key: &str) -> Item {
        let row = row(kind).unwrap();
        let like =
            row.key.first().and_then(|field| path::find(&object, field).first().cloned()).unwrap_or_default();
        Item { row, object, document: None, content: None, key: Some(key.into()), like }
    }

    fn sent(item: &Item, write: Write) -> (String, Value) {
        let Write::Rest { method, path, body } = write else { panic!("no call") };
        let request = item.request(method, path, &body).unwrap().unwrap();
        let body = request.body.map_or(Value::Null, |body| serde_json::from_slice(&body).unwrap());
        (format!("{} {}", request.method, request.path), body)
    }

    #[test]
    fn a_job_is_reset_by_its_number_in_the_target() {
        let mut job = item("job", json!({"job_id": 7, "settings": {"name": "n"}}), "34");
        job.object = json!({"settings": {"name": "n"}});
        let (call, body) = sent(&job, job.row.restore.update);
        assert_eq!(
            (call.as_str(), body),
            ("POST /api/2.2/jobs/reset", json!({"new_settings": {"name": "n"}, "job_id": 34}))
        );
    }

    #[test]
    fn names_in_paths_are_data() {
        let file = Item {
            content: Some((Bytes::from_static(b"x"), None)),
            ..item("workspace_file", json!({"path": "/Shared/a b/ü?.txt"}), "1")
        };
        let Write::Rest { method, path, body } = file.row.restore.create else { panic!() };
        let request = file.request(method, path, &body).unwrap().unwrap();
        assert_eq!(request.path, "/api/2.0/workspace-files/import-file/Shared/a%20b/%C3%BC%3F.txt");
        assert_eq!(request.query, [("overwrite", "true".to_owned())]);
    }

    #[test]
    fn what_is_carried_is_set_on_what_carries_it() {
        let carried =
            item("entitlements", json!({"entitlements": [{"value": "workspace-access"}]}), "groups/12");
        let (call, body) = sent(&carried, carried.row.restore.create);
        assert_eq!(call, "PATCH /api/2.0/preview/scim/v2/Groups/12");
        assert_eq!(
            body["Operations"][0],
            json!({"op": "replace", "path": "entitlements", "value": [{"value": "workspace-access"}]})
        );
    }

    #[test]
    fn parameters_of_the_table_are_known() {
        for row in rows() {
            let restore = row.restore;
            let writes = [restore.create, restore.update, restore.delete]
                .into_iter()
                .chain(restore.then.iter().copied());
            for write in writes {
                let Write::Rest { path, .. } = write else { continue };
                let parameters = path.split_once('?').map_or("", |(_, parameters)| parameters);
                for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
                    let name = parameter.split('=').next().unwrap();
                    assert_eq!(name_of(name), name, "{}", row.name);
                }
            }
        }
    }
}
