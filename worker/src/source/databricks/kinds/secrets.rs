//! Secret scopes: their keys and who may use them. Values are never read.

use super::super::families::SECRETS;
use super::row::*;

/// See the module.
pub(super) static ROWS: [Row; 1] = [Row {
    name: "secret_scope",
    page: "https://docs.databricks.com/api/workspace/secrets/listscopes",
    list: List::Calls(&[at_once(&SECRETS, "/api/2.0/secrets/scopes/list", "scopes")]),
    walks: None,
    listed_with: None,
    key: &["name"],
    title: &["name"],
    within: None,
    stamp: Stamp::None { why: "the list shows no times" },
    get: None,
    content: Content::Answer {
        call: One { family: &SECRETS, path: "/api/2.0/secrets/list", query: &[("scope", "{name}")] },
        format: "keys",
        optional: false,
    },
    access: Access::Secrets { scope: "name" },
    carries: None,
    rules: &[assigned(
        "secrets[].last_updated_timestamp",
        "set by the server; a change of it is a change of the value",
    )],
    sets: &["secrets"],
    references: &[],
    builtin: &[],
    restore: Restore {
        layer: 2,
        adopt_by: &["name"],
        create: rest(
            "POST",
            "/api/2.0/secrets/scopes/create",
            Shape::Renamed(&[
                ("name", "scope"),
                ("backend_type", "scope_backend_type"),
                ("keyvault_metadata", "backend_azure_keyvault"),
            ]),
        ),
        update: nothing("a scope is nothing but its name, its keys and its permissions"),
        delete: rest("POST", "/api/2.0/secrets/scopes/delete", Shape::Renamed(&[("name", "scope")])),
        find: Find::Named,
        clouds: &[("keyvault_metadata", "azure")],
        ..PLAIN
    },
    permission: "workspace admin, or READ on every secret scope",
    scope: Scope::Shared,
    not_on: &[],
}];
