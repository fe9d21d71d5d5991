//! Who may do what with an item, and whose it is: set last, so that nobody is locked out of what is still being made.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use lakehold_proto::fault::{Class, Fault, Result};
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::families::{GRANTS, PERMISSIONS, SECRETS, UNITY_CATALOG};
use super::super::kinds::Access;
use super::super::paging::Paging;
use super::super::request::{Request, segment};
use super::writes::Item;
use crate::capture::Meter;

/// Pages of the server's own size; any from 1 to 149 is refused.
const PAGES: Paging = Paging::Token { request: "page_token", size: Some(("max_results", "0")) };

/// Makes the permissions of the target's item those of `wanted`: none more, none fewer.
///
/// # Errors
/// Those of the calls; `Bug` when the item has no key yet.
pub(super) async fn set(client: &Client, meter: &Arc<Meter>, item: &Item, wanted: &Value) -> Result<()> {
    let key = item.key.as_deref().ok_or_else(|| {
        Fault::new(Class::Bug, "restore.no-key", "set permissions", "the item has no key in the target")
    })?;
    match item.row.access {
        Access::None { .. } => Ok(()),
        Access::Object { object, .. } => {
            let path = format!("/api/2.0/permissions/{object}/{}", segment(key));
            let request = Request::put(&PERMISSIONS, path).json(wanted)?.repeatable();
            client.json(&request, meter).await.map(drop)
        }
        Access::Grants { securable, name, .. } => {
            let name = item.slot(name).unwrap_or_else(|| key.to_owned());
            grants(client, meter, securable, &name, wanted).await
        }
        Access::Secrets { .. } => secrets(client, meter, key, wanted).await,
    }
}

type Granted = BTreeMap<String, Vec<String>>;

async fn grants(
    client: &Client,
    meter: &Arc<Meter>,
    securable: &str,
    name: &str,
    wanted: &Value,
) -> Result<()> {
    let path = format!("/api/2.1/unity-catalog/permissions/{securable}/{}", segment(name));
    let read = Request::get(&GRANTS, path.clone());
    let now = all(client, meter, read, "privilege_assignments").await?;
    let wanted_grants =
        granted(wanted.get("privilege_assignments").and_then(Value::as_array).into_iter().flatten());
    let changes = changes(&granted(now.iter()), &wanted_grants);
    if !changes.is_empty() {
        let request = Request::patch(&GRANTS, path).json(&json!({"changes": changes}))?.repeatable();
        client.json(&request, meter).await?;
    }
    if let Some(wanted) = wanted.get("bindings").and_then(Value::as_array) {
        let path = format!("/api/2.1/unity-catalog/bindings/{securable}/{}", segment(name));
        let now = all(client, meter, Request::get(&UNITY_CATALOG, path.clone()), "bindings").await?;
        let without = |these: &[Value], those: &[Value]| -> Vec<Value> {
            let workspace = |binding: &Value| binding.get("workspace_id").cloned();
            these
                .iter()
                .filter(|this| !those.iter().any(|that| workspace(that) == workspace(this)))
                .cloned()
                .collect()
        };
        let change = json!({"add": wanted, "remove": without(&now, wanted)});
        let request = Request::patch(&UNITY_CATALOG, path).json(&change)?.repeatable();
        client.json(&request, meter).await?;
    }
    Ok(())
}

fn granted<'a>(entries: impl Iterator<Item = &'a Value>) -> Granted {
    let of = |entry: &Value| {
        let privileges = entry.get("privileges")?.as_array()?.iter();
        let privileges = privileges.filter_map(|privilege| privilege.as_str().map(str::to_owned));
        Some((entry.get("principal")?.as_str()?.to_owned(), privileges.collect()))
    };
    entries.filter_map(of).collect()
}

/// All entries of a listing that comes in pages.
async fn all(client: &Client, meter: &Arc<Meter>, request: Request, items: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut pages = client.pages(request, &PAGES, items, meter);
    while let Some(page) = pages.try_next().await? {
        all.extend(page.iter().filter_map(|entry| serde_json::from_str::<Value>(entry.get()).ok()));
    }
    Ok(all)
}

/// What is to be granted and taken back; one privilege is never in both.
fn changes(now: &Granted, wanted: &Granted) -> Vec<Value> {
    let none = Vec::new();
    let everybody: std::collections::BTreeSet<_> = now.keys().chain(wanted.keys()).collect();
    let change = |principal: &String| {
        let (has, wants) = (now.get(principal).unwrap_or(&none), wanted.get(principal).unwrap_or(&none));
        let add: Vec<_> = wants.iter().filter(|privilege| !has.contains(privilege)).collect();
        let remove: Vec<_> = has.iter().filter(|privilege| !wants.contains(privilege)).collect();
        let nothing = add.is_empty() && remove.is_empty();
        (!nothing).then(|| json!({"principal": principal, "add": add, "remove": remove}))
    };
    everybody.into_iter().filter_map(change).collect()
}

async fn secrets(client: &Client, meter: &Arc<Meter>, scope: &str, wanted: &Value) -> Result<()> {
    let list = Request::get(&SECRETS, "/api/2.0/secrets/acls/list").query("scope", scope);
    let now: Value = serde_json::from_slice(&client.json(&list, meter).await?).unwrap_or_default();
    let of = |acl: &Value| -> BTreeMap<String, String> {
        let entries = acl.get("items").and_then(Value::as_array).into_iter().flatten();
        let text = |entry: &Value, field: &str| Some(entry.get(field)?.as_str()?.to_owned());
        entries.filter_map(|entry| Some((text(entry, "principal")?, text(entry, "permission")?))).collect()
    };
    let (now, wanted) = (of(&now), of(wanted));
    // Granted first, so that somebody manages the scope at every moment.
    for (principal, permission) in
        wanted.iter().filter(|(principal, permission)| now.get(*principal) != Some(*permission))
    {
        let body = json!({"scope": scope, "principal": principal, "permission": permission});
        let request = Request::post(&SECRETS, "/api/2.0/secrets/acls/put").json(&body)?.repeatable();
        client.json(&request, meter).await?;
    }
    for principal in now.keys().filter(|principal| !wanted.contains_key(*principal)) {
        let body = json!({"scope": scope, "principal": principal});
        let request = Request::post(&SECRETS, "/api/2.0/secrets/acls/delete").json(&body)?.repeatable();
        client.json(&request, meter).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_changed_by_their_difference() {
        let of = |entries: &[(&str, &[&str])]| -> Granted {
            entries
                .iter()
                .map(|(who, what)| ((*who).into(), what.iter().map(|p| (*p).into()).collect()))
                .collect()
        };
        let now = of(&[("a", &["SELECT", "MODIFY"]), ("b", &["SELECT"]), ("c", &["USE_SCHEMA"])]);
        let wanted = of(&[("a", &["SELECT", "EXECUTE"]), ("c", &["USE_SCHEMA"]), ("d", &["SELECT"])]);
        assert_eq!(
            json!(changes(&now, &wanted)),
            json!([
            {"principal": "a", "add": ["EXECUTE"], "remove": ["MODIFY"]},
            {"principal": "b", "add": [], "remove": ["SELECT"]},
            {"principal": "d", "add": ["SELECT"], "remove": []}])
        );
    }
}
