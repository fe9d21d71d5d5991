//! Secret scopes with their keys and ACLs.

use serde_json::json;

use super::catalog::principal;
use super::{Kind, Maker, names};
use crate::api::secrets::{self, SCOPE, SECRET};
use crate::identity::OPERATOR;
use crate::rng::Rng;

pub(super) const KINDS: &[Kind] = &[Kind {
    name: SCOPE,
    share: 20,
    least: 2,
    hostile: 4,
    create: scope,
    edit,
    delete: |m, id| secrets::remove_scope(&mut m.ws.store(), id),
    ids: |ws| ws.store().ids(SCOPE),
}];

fn scope(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(SCOPE, n);
    // The alphabet of names is small; these are the meanest it allows (section 2.5).
    let name = match (m.hostile, n) {
        (true, 0) => "..".to_owned(),
        (true, 1) => "-".repeat(128),
        (true, 2) => "Finance-Keys".to_owned(),
        (true, 3) => "finance-keys".to_owned(),
        _ => format!("{}-{n}", rng.pick(names::TEAMS)),
    };
    let reader = principal(m, &mut rng);
    let mut store = m.ws.store();
    store.put(SCOPE, &name, &json!({"name": name, "backend_type": "DATABRICKS"}));
    secrets::grant(&mut store, &name, OPERATOR, "MANAGE");
    // Local groups are named in the ACLs of scopes too; account groups as everywhere.
    if reader != "account users" && reader != OPERATOR {
        let permission = if rng.chance(80) { "READ" } else { "WRITE" };
        secrets::grant(&mut store, &name, &reader, permission);
    }
    for i in 0..1 + rng.below(6) {
        let key = if m.hostile && i == 0 {
            "...".to_owned()
        } else {
            format!("{}_{i}", rng.pick(&["api-key", "password", "token"]))
        };
        store.put_under(
            SECRET,
            &format!("{name}/{key}"),
            &name,
            &json!({"key": key, "last_updated_timestamp": m.now_ms}),
        );
    }
    name
}

/// Somebody rotates a key: its time changes, and nothing else that can be seen.
fn edit(m: &Maker<'_>, id: &str, _: &mut Rng) -> bool {
    let mut store = m.ws.store();
    let Some(secret) = store.scan(SECRET, Some(id), 0).map(|d| d.id).next() else { return false };
    let now = m.now_ms;
    store.edit(SECRET, &secret, |s| s["last_updated_timestamp"] = json!(now)).is_some()
}
