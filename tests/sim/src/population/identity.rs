//! Users, service principals and groups, nested a little.

use serde_json::{Map, Value, json};

use super::names;
use super::{Kind, Maker};
use crate::api::scim::{self, GROUP, PRINCIPAL, USER};
use crate::rng::Rng;
use crate::state::Workspace;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: USER,
        share: 80,
        least: 4,
        hostile: names::HOSTILE,
        create: user,
        edit: rename,
        delete: |m, id| drop_one(m, USER, id),
        ids: |ws| others(ws, USER),
    },
    Kind {
        name: PRINCIPAL,
        share: 20,
        least: 1,
        hostile: 0,
        create: principal,
        edit: rename,
        delete: |m, id| drop_one(m, PRINCIPAL, id),
        ids: |ws| others(ws, PRINCIPAL),
    },
    Kind {
        name: GROUP,
        share: 30,
        least: 2,
        hostile: names::HOSTILE,
        create: group,
        edit: regroup,
        delete: |m, id| drop_one(m, GROUP, id),
        ids: |ws| others(ws, GROUP),
    },
];

/// People of one account are the same in all of its workspaces, so their seed is the account's.
fn account_rng(m: &Maker<'_>, kind: &str, n: u64) -> Rng {
    Rng::of(m.ws.account.seed, kind, n)
}

fn number(rng: &mut Rng) -> String {
    (100_000_000_000_000 + rng.below(900_000_000_000_000)).to_string()
}

fn store(m: &Maker<'_>, kind: &'static str, id: &str, item: Value) {
    if let Value::Object(map) = item {
        scim::put(&mut m.ws.store(), kind, id, &map);
    }
}

fn user(m: &Maker<'_>, n: u64) -> String {
    let mut rng = account_rng(m, USER, n);
    let (first, last) = (rng.pick(names::FIRST), rng.pick(names::LAST));
    let name = format!("{first}.{last}{n}@example.com");
    let id = number(&mut rng);
    let display = if m.hostile && n < 12 { names::hostile(n) } else { format!("{first} {last}") };
    let mut item = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "id": id, "userName": name, "displayName": display,
        "name": {"givenName": first, "familyName": last}, "active": !rng.chance(3),
        "emails": [{"type": "work", "value": name, "primary": true}],
    });
    if rng.chance(20) {
        item["externalId"] = json!(rng.uuid());
    }
    if rng.chance(15) {
        item["entitlements"] = json!([{"value": "allow-cluster-create"}]);
    }
    super::home(m.ws, &name, m.now_ms);
    store(m, USER, &id, item);
    id
}

fn principal(m: &Maker<'_>, n: u64) -> String {
    let mut rng = account_rng(m, PRINCIPAL, n);
    let id = number(&mut rng);
    // Section 3.1: display names are not unique.
    let name = format!("sp-{}-{}", rng.pick(names::TEAMS), n / 2);
    let item = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServicePrincipal"], "id": id, "displayName": name,
        "applicationId": rng.uuid(), "active": true, "entitlements": [{"value": "workspace-access"}],
    });
    store(m, PRINCIPAL, &id, item);
    id
}

fn group(m: &Maker<'_>, n: u64) -> String {
    let mut rng = account_rng(m, GROUP, n);
    let id = number(&mut rng);
    let name = if m.hostile && n < 11 {
        format!("{} {n}", names::hostile(n))
    } else {
        format!(
            "{}-{}-{n}",
            rng.pick(names::TEAMS),
            rng.pick(&["engineers", "analysts", "readers", "owners"])
        )
    };
    let mut members: Map<String, Value> = Map::new();
    {
        let store = m.ws.store();
        // Few large groups, many small ones.
        let size = if n == 0 { store.len(USER) / 2 } else { 1 + usize::try_from(rng.below(12)).unwrap_or(1) };
        let start = rng.below(store.len(USER) as u64);
        for (offset, user) in store
            .scan(USER, None, 0)
            .map(|d| d.value)
            .skip(usize::try_from(start).unwrap_or(0))
            .take(size)
            .enumerate()
        {
            let uid = user["id"].as_str().unwrap_or_default();
            if n == 0 || offset % 3 != 2 {
                members.insert(
                    uid.to_owned(),
                    json!({"value": uid, "display": user["displayName"], "$ref": format!("Users/{uid}")}),
                );
            }
        }
        if rng.chance(30)
            && let Some(sp) = store.nth_id(PRINCIPAL, rng.next()).and_then(|id| store.get(PRINCIPAL, &id))
        {
            let sid = sp["id"].as_str().unwrap_or_default();
            members.insert(sid.to_owned(), json!({"value": sid, "display": sp["displayName"], "$ref": format!("ServicePrincipals/{sid}")}));
        }
        // Nested groups, always of earlier ones: no cycles.
        if rng.chance(25)
            && let Some(child) = store
                .scan(GROUP, None, 0)
                .map(|d| d.value)
                .filter(|g| !matches!(g["displayName"].as_str(), Some("admins" | "users")))
                .last()
        {
            let gid = child["id"].as_str().unwrap_or_default();
            members.insert(
                gid.to_owned(),
                json!({"value": gid, "display": child["displayName"], "$ref": format!("Groups/{gid}")}),
            );
        }
    }
    let kind = if rng.chance(60) { "Group" } else { "WorkspaceGroup" };
    let mut item = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "id": id, "displayName": name, "meta": {"resourceType": kind}});
    if !members.is_empty() {
        item["members"] = members.into_iter().map(|(_, v)| v).collect();
    }
    if rng.chance(40) {
        item["entitlements"] = json!([{"value": "workspace-access"}, {"value": "databricks-sql-access"}]);
    }
    store(m, GROUP, &id, item);
    id
}

fn rename(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let name = format!("{} {}", rng.pick(names::FIRST), rng.hex(6));
    let mut store = m.ws.store();
    let kind = if store.contains(USER, id) { USER } else { PRINCIPAL };
    store.edit(kind, id, |item| item["displayName"] = json!(name)).is_some()
}

fn regroup(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let external = rng.uuid();
    m.ws.store().edit(GROUP, id, |item| item["externalId"] = json!(external)).is_some()
}

fn drop_one(m: &Maker<'_>, kind: &'static str, id: &str) -> bool {
    scim::remove_principal(&mut m.ws.store(), kind, id)
}

/// All but those every workspace has, which come first.
fn others(ws: &Workspace, kind: &str) -> Vec<String> {
    let built_in = if kind == GROUP { 2 } else { 1 };
    ws.store().ids(kind).into_iter().skip(built_in).collect()
}
