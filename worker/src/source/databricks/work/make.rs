//! Makes drafts of a listed item: fetches what its row says the list lacks, all parts at once, and notes what could not be had.

use std::sync::Arc;

use bytes::Bytes;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Role};
use lakehold_proto::ids::Kind;
use serde_json::{Map, Value, json};

use super::super::kinds::{Access, Carries, Content, Get, One, Row, When, path};
use super::content::{Fetched, decoded};
use super::item::{Item, Reuse};
use super::{Work, compare, shallow};
use crate::capture::{Body, Draft};

/// What is said of an object that is kept and compared by its bytes.
const TOO_DEEP: &str = "nested too deeply to be read: kept, and compared, byte for byte";

/// What became of one part.
enum Part {
    Is(Fetched),
    /// The item has none.
    None,
    /// The item itself is gone.
    Gone,
    Gap(Fault),
}

impl Part {
    fn of(fetched: Result<Part>) -> Self {
        match fetched {
            Ok(part) => part,
            Err(fault) if fault.class == Class::Absent => Self::Gone,
            Err(fault) => Self::Gap(fault),
        }
    }

    fn base() -> Self {
        Self::Is(Fetched { body: Body::Base, format: "", degraded: None })
    }
}

/// The items that one listed item makes: itself, and what is captured of it as another kind. Empty when it vanished since.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) drafts: Vec<(Kind, Draft)>,
    /// The object as its own call shows it.
    pub(super) object: Option<Value>,
    /// Whether it vanished while it was read.
    pub(super) gone: bool,
}

impl Work {
    /// What the base snapshot has of the item that can be taken over.
    pub(super) fn reuse(&self, row: &Row, item: &Item, known: Option<&Entry>) -> Reuse {
        item.reuse(self, row, known)
    }

    /// Makes the drafts of `item`.
    pub(super) async fn make(self: Arc<Self>, row: &'static Row, item: Item, reuse: Reuse) -> Made {
        if !item.identified {
            return unidentified(row, &item);
        }
        let (object, content, access) = futures::join!(
            self.object_of(row, &item, &reuse),
            self.content_of(row, &item, &reuse),
            self.access_of(row, &item)
        );
        if [&object, &content, &access].iter().any(|part| matches!(part, Part::Gone)) {
            tracing::debug!(
                kind = row.name,
                key = item.key,
                "it vanished while it was read: deleted meanwhile"
            );
            return Made { gone: true, ..Made::default() };
        }
        let mut made = Made { object: row.get.and_then(|_| parsed(&object)), ..Made::default() };
        if let Some(carries) = row.carries.filter(|carries| self.wants(carries.kind)) {
            let of = made.object.as_ref().unwrap_or(&item.value);
            made.drafts.extend(carried(&carries, &item, of));
        }
        if self.wants(row.name) {
            let mut draft = start(&item);
            for (role, part) in
                [(Role::Object, object), (Role::Content, content), (Role::Permissions, access)]
            {
                draft = with(draft, role, part, &reuse);
            }
            made.drafts.push((row.kind(), draft));
        }
        made
    }

    async fn object_of(&self, row: &Row, item: &Item, reuse: &Reuse) -> Part {
        let Some(get) = row.get.filter(|get| applies(get.when, &item.value)) else {
            return document(row, item.raw.clone());
        };
        if reuse.object {
            return Part::base();
        }
        Part::of(self.whole(&get, item).await.map(|raw| document(row, raw)))
    }

    async fn content_of(self: &Arc<Self>, row: &Row, item: &Item, reuse: &Reuse) -> Part {
        if !self.wants(row.name) {
            return Part::None;
        }
        if reuse.content {
            return Part::base();
        }
        match row.content {
            Content::None => Part::None,
            Content::Notebook => Part::of(self.notebook(item).await.map(Part::Is)),
            Content::File => Part::of(self.file(item).await.map(Part::Is)),
            Content::Encoded { call, field, format } => {
                let bytes = self.answer(&call, item).await.and_then(|answer| decoded(&answer, field));
                Part::of(bytes.map(|bytes| fetched(Body::Bytes(bytes), format)))
            }
            Content::Answer { call, format, optional } => match self.answer(&call, item).await {
                Err(fault) if optional && fault.class == Class::Absent => Part::None,
                answer => Part::of(answer.map(|raw| fetched(compare::document(row, raw), format))),
            },
        }
    }

    async fn access_of(self: &Arc<Self>, row: &Row, item: &Item) -> Part {
        if !self.wants(row.name) || matches!(row.access, Access::None { .. }) {
            return Part::None;
        }
        match self.access(&row.access, item).await {
            Ok(Some(raw)) => fetched(compare::access(&row.access, raw), ""),
            Ok(None) => Part::None,
            // Only a server that knows the object says by a code that it is gone; a bare 404 may only mean its access list.
            Err(fault) if fault.class == Class::Absent && names_a_code(&fault) => Part::Gone,
            Err(fault) => Part::Gap(fault),
        }
    }

    /// The answer of an item's own call, with arrays that come in pieces joined. One that comes whole is kept as it came.
    async fn whole(&self, get: &Get, item: &Item) -> Result<Bytes> {
        let call = One { family: get.family, path: get.path, query: get.query };
        let request = item.call(&call)?;
        let first = self.client.json(&request, &self.meter).await?;
        if get.joined.is_empty() {
            return Ok(first);
        }
        let mut joined = shallow::read(&first);
        let Some(mut token) = next_page(&joined) else { return Ok(first) };
        let too_deep = |_| {
            let detail = "it comes in pages, and is nested too deeply to be put together";
            Fault::new(Class::Unsupported, "item.too-deep", request.context(), detail)
        };
        joined = serde_json::from_slice(&first).map_err(too_deep)?;
        let mut seen = std::collections::HashSet::new();
        loop {
            if !seen.insert(token.clone()) {
                let detail = "a page points back to a page that was already read";
                return Err(Fault::new(Class::Unavailable, "http.page-loop", request.context(), detail));
            }
            let more = self.client.json(&request.clone().query("page_token", token), &self.meter).await?;
            let more: Value = serde_json::from_slice(&more).map_err(|_| {
                let detail = "a further page cannot be read";
                Fault::new(Class::Unavailable, "http.unexpected", request.context(), detail)
            })?;
            get.joined.iter().for_each(|array| append(&mut joined, &more, array));
            match next_page(&more) {
                Some(next) => token = next,
                None => break,
            }
        }
        // They speak of the pages, not of the item.
        ["next_page_token", "has_more"].iter().for_each(|field| path::remove(&mut joined, field));
        serde_json::to_vec(&joined)
            .map(Bytes::from)
            .map_err(|e| Fault::new(Class::Bug, "item.join", "join the pages of an item", e))
    }
}

fn document(row: &Row, raw: Bytes) -> Part {
    fetched(compare::document(row, raw), "")
}

fn fetched(body: Body, format: &'static str) -> Part {
    Part::Is(Fetched { body, format, degraded: None })
}

fn names_a_code(fault: &Fault) -> bool {
    fault.http.as_ref().is_some_and(|http| http.code.is_some())
}

fn applies(when: When, listed: &Value) -> bool {
    match when {
        When::Always => true,
        When::Lacks(field) => path::find(listed, field).is_empty(),
        When::Unless(field, values) => {
            path::text(listed, field).is_none_or(|value| !values.contains(&value.as_str()))
        }
    }
}

fn start(item: &Item) -> Draft {
    let draft = Draft::new(&item.key, &item.name);
    let draft = match &item.parent {
        Some(parent) => draft.parent(parent),
        None => draft,
    };
    match &item.version {
        Some(version) => draft.version(version),
        None => draft,
    }
}

fn with(draft: Draft, role: Role, part: Part, reuse: &Reuse) -> Draft {
    let Fetched { body, format, degraded } = match part {
        Part::Is(fetched) => fetched,
        Part::Gap(fault) => return draft.gap(role, fault),
        Part::None | Part::Gone => return draft,
    };
    let taken_over = matches!(body, Body::Base) && role == Role::Content;
    let too_deep = (role == Role::Object && matches!(body, Body::Bytes(_))).then(|| TOO_DEEP.to_owned());
    let draft = if format.is_empty() { draft.part(role, body) } else { draft.part_as(role, format, body) };
    let reasons =
        degraded.into_iter().chain(too_deep).chain(reuse.degraded.iter().filter(|_| taken_over).cloned());
    reasons.fold(draft, Draft::degraded)
}

/// An object without a key: it is in the snapshot as a gap, since nothing else can be said about it.
fn unidentified(row: &'static Row, item: &Item) -> Made {
    let detail = format!("the listing shows an item without {}", row.key.join(" or "));
    let fault = Fault::new(Class::Unavailable, "http.no-key", format!("list the kind {}", row.name), detail);
    let draft = Draft::new(&item.key, &item.name).gap(Role::Object, fault);
    Made { drafts: vec![(row.kind(), draft)], ..Made::default() }
}

/// The object as its own call shows it, for what is read of it.
fn parsed(object: &Part) -> Option<Value> {
    match object {
        Part::Is(Fetched { body: Body::Json { raw, .. } | Body::Bytes(raw), .. }) => Some(shallow::read(raw)),
        _ => None,
    }
}

/// What `of` carries of another kind. Nothing when it has none of it.
fn carried(carries: &Carries, item: &Item, of: &Value) -> Option<(Kind, Draft)> {
    let mut fields = Map::new();
    for field in carries.fields {
        match of.get(*field) {
            Some(Value::Array(values)) if !values.is_empty() => {
                fields.insert((*field).to_owned(), Value::Array(values.clone()));
            }
            _ => {}
        }
    }
    if fields.is_empty() {
        return None;
    }
    let row = super::super::kinds::row(carries.kind)?;
    let raw = Bytes::from(json!(fields).to_string());
    let [key, name] = [&item.key, &item.name].map(|part| format!("{}/{part}", carries.under));
    let draft = Draft::new(key, name).parent(&item.name).part(Role::Object, compare::document(row, raw));
    Some((row.kind(), draft))
}

fn next_page(answer: &Value) -> Option<String> {
    answer.get("next_page_token")?.as_str().filter(|token| !token.is_empty()).map(str::to_owned)
}

/// Appends what `more` has at `array` to what `joined` has there.
fn append(joined: &mut Value, more: &Value, array: &str) {
    let mut at = joined;
    let mut from = Some(more);
    for step in path::steps(array) {
        let path::Step::Member(name) = step else { return };
        from = from.and_then(|value| value.get(name));
        let Value::Object(members) = at else { return };
        at = members.entry(name).or_insert(Value::Null);
    }
    let Some(Value::Array(behind)) = from else {
        return;
    };
    match at {
        Value::Array(items) => items.extend(behind.iter().cloned()),
        empty => *empty = Value::Array(behind.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_joined_and_absent_ones_left_alone() {
        let mut job = json!({"settings": {"tasks": [1, 2]}});
        append(&mut job, &json!({"settings": {"tasks": [3], "job_clusters": []}}), "settings.tasks");
        append(&mut job, &json!({"settings": {"parameters": [9]}}), "settings.parameters");
        assert_eq!(job, json!({"settings": {"tasks": [1, 2, 3], "parameters": [9]}}));
    }

    #[test]
    fn calls_are_made_for_what_the_list_lacks_only() {
        let members = json!({"members": []});
        assert!(!applies(When::Lacks("members"), &members) && applies(When::Lacks("members"), &json!({})));
        let unless = When::Unless("table_type", &["FOREIGN"]);
        assert!(!applies(unless, &json!({"table_type": "FOREIGN"})));
        assert!(applies(unless, &json!({"table_type": "VIEW"})) && applies(unless, &json!({})));
    }

    #[test]
    fn a_principal_without_entitlements_carries_none() {
        let row = super::super::super::kinds::row("user").unwrap();
        let item = |json: Value| Item::read(row, Bytes::from(json.to_string()));
        let carries = row.carries.unwrap();
        let bare = item(json!({"id": "1", "userName": "a", "entitlements": []}));
        assert!(carried(&carries, &bare, &bare.value).is_none());
        let full = item(json!({"id": "1", "userName": "a", "entitlements": [{"value": "workspace-access"}]}));
        let (kind, draft) = carried(&carries, &full, &full.value).unwrap();
        assert_eq!(kind.as_str(), "entitlements");
        assert!(format!("{draft:?}").contains("users/1"));
    }
}
