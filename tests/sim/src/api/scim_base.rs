//! The people and groups that every workspace has, also an empty one (reference section 3.1).

use serde_json::json;

use crate::api::scim::{GROUP, PRINCIPAL, RESOURCES, USER, as_map, put};
use crate::identity::{CLIENT, OPERATOR};
use crate::rng::Rng;
use crate::state::Workspace;

/// Adds the operator, the client `sim`, and the groups `admins` and `users`.
pub(crate) fn base(ws: &Workspace) {
    let mut store = ws.store();
    let id = |seed: u64, label: &str| {
        (100_000_000_000_000 + Rng::of(seed, label, 0).below(900_000_000_000_000)).to_string()
    };
    // People belong to the account, the built-in groups to the workspace.
    let (operator, client) = (id(ws.account.seed, "operator"), id(ws.account.seed, "client"));
    let (admins, users) = (id(ws.seed, "admins"), id(ws.seed, "users"));
    let people = [
        (
            USER,
            &operator,
            json!({"userName": OPERATOR, "displayName": "Operator", "name": {"givenName": "Operator"}, "active": true,
            "emails": [{"type": "work", "value": OPERATOR, "primary": true}]}),
        ),
        (PRINCIPAL, &client, json!({"displayName": "sim", "applicationId": CLIENT, "active": true})),
        (
            GROUP,
            &admins,
            json!({"displayName": "admins", "meta": {"resourceType": "WorkspaceGroup"}, "members": [
            {"value": operator, "display": "Operator", "$ref": format!("Users/{operator}")},
            {"value": client, "display": "sim", "$ref": format!("ServicePrincipals/{client}")}],
            "entitlements": [{"value": "allow-cluster-create"}, {"value": "allow-instance-pool-create"},
                {"value": "workspace-access"}, {"value": "databricks-sql-access"}]}),
        ),
        // Section 3.1: `users` has entitlements in a new workspace.
        (
            GROUP,
            &users,
            json!({"displayName": "users", "meta": {"resourceType": "WorkspaceGroup"},
            "entitlements": [{"value": "workspace-access"}, {"value": "databricks-sql-access"}]}),
        ),
    ];
    for (kind, id, mut item) in people {
        let schema = RESOURCES.iter().find(|r| r.kind == kind).map_or("", |r| r.schema);
        item["id"] = json!(id);
        item["schemas"] = json!([schema]);
        put(&mut store, kind, id, as_map(&item));
    }
}
