//! Users, groups, service principals, and what they are entitled to.
//!
//! Entitlements and roles come inside the answer for a principal, but they are granted, changed and brought back apart
//! from it (a restored group exists before anybody is entitled by it), so they are a kind of their own: what a person sees
//! in `ls entitlements` is exactly what each principal was given. They cost no call.

use super::super::families::SCIM;
use super::super::paging::Paging;
use super::row::*;

const USERS: &str = "/api/2.0/preview/scim/v2/Users";
const GROUPS: &str = "/api/2.0/preview/scim/v2/Groups";
const PRINCIPALS: &str = "/api/2.0/preview/scim/v2/ServicePrincipals";

const PRINCIPAL_FIELDS: &[&str] = &["entitlements", "roles"];
const NO_STAMP: Stamp = Stamp::None { why: "SCIM lists show no time of change; the list itself is the body" };
const NO_ACCESS: Access =
    Access::None { why: "who may manage a principal is kept by the account, not by the workspace" };
const CARRIED: &str = "captured as the kind entitlements";
const MEMBERSHIPS: &str = "the other side of a group's members, which are captured there";
const ADMIN: &str = "workspace admin (a member of the group admins)";

/// See the module.
pub(super) static ROWS: [Row; 4] = [
    Row {
        name: "entitlements",
        page: "https://docs.databricks.com/api/workspace/groups/patch",
        list: List::Carried,
        walks: None,
        listed_with: None,
        key: &["key"],
        title: &["name"],
        within: None,
        stamp: NO_STAMP,
        get: None,
        content: Content::None,
        access: Access::None { why: "they are themselves permissions" },
        carries: None,
        rules: &[],
        sets: &["entitlements", "roles"],
        references: &[],
        builtin: &[],
        restore: Restore {
            layer: 2,
            adopt_by: &["name"],
            create: rest("PATCH", "/api/2.0/preview/scim/v2/{under}/{id}", Shape::Scim(PRINCIPAL_FIELDS)),
            update: rest("PATCH", "/api/2.0/preview/scim/v2/{under}/{id}", Shape::Scim(PRINCIPAL_FIELDS)),
            delete: nothing("what a principal is entitled to goes with the principal"),
            find: Find::Carried,
            ..PLAIN
        },
        permission: ADMIN,
        scope: Scope::Shared,
        not_on: &[],
    },
    Row {
        name: "group",
        page: "https://docs.databricks.com/api/workspace/groups",
        list: List::Calls(&[Call {
            family: &SCIM,
            path: GROUPS,
            query: &[],
            paging: Paging::Scim { count: 500 },
            items: "Resources",
        }]),
        walks: None,
        listed_with: None,
        key: &["id"],
        title: &["displayName"],
        within: None,
        stamp: NO_STAMP,
        get: Some(Get {
            family: &SCIM,
            path: "/api/2.0/preview/scim/v2/Groups/{id}",
            query: &[],
            when: When::Lacks("members"),
            joined: &[],
            why: "the list leaves the members of large groups out; an absent field may also mean that there are none",
        }),
        content: Content::None,
        access: NO_ACCESS,
        carries: Some(Carries { kind: "entitlements", under: "groups", fields: PRINCIPAL_FIELDS }),
        rules: &[
            assigned("id", "given by the account"),
            assigned(
                "meta",
                "says whether the group is the account's or the workspace's own, and its version",
            ),
            assigned("members[].$ref", "an address made of the member's id"),
            volatile("members[].display", "the member's own name, captured with the member"),
            volatile("groups", MEMBERSHIPS),
            volatile("entitlements", CARRIED),
            volatile("roles", CARRIED),
        ],
        sets: &["members", "schemas"],
        references: &[
            refers("members[].value", "user", Holds::Key),
            refers("members[].value", "service_principal", Holds::Key),
            refers_later("members[].value", "group", Holds::Key),
        ],
        builtin: &[Builtin {
            path: "displayName",
            is: Is::OneOf(&["admins", "users", "account users"]),
            treat: Treat::Adopt,
            why: "every workspace has them; only members and entitlements differ",
        }],
        restore: Restore {
            layer: 1,
            adopt_by: &["displayName"],
            create: rest("POST", GROUPS, Shape::Only(&["displayName", "externalId", "schemas"])),
            update: rest("PATCH", "/api/2.0/preview/scim/v2/Groups/{id}", Shape::Scim(&["externalId"])),
            delete: rest("DELETE", "/api/2.0/preview/scim/v2/Groups/{id}", Shape::Empty),
            then: &[rest("PATCH", "/api/2.0/preview/scim/v2/Groups/{id}", Shape::Scim(&["members"]))],
            // Everybody is in these, without being put there.
            assigned_where: &[("members", "displayName", &["users", "account users"])],
            ..PLAIN
        },
        permission: ADMIN,
        scope: Scope::Shared,
        not_on: &[],
    },
    Row {
        name: "service_principal",
        page: "https://docs.databricks.com/api/workspace/serviceprincipals",
        list: List::Calls(&[Call {
            family: &SCIM,
            path: PRINCIPALS,
            query: &[],
            paging: Paging::Scim { count: 500 },
            items: "Resources",
        }]),
        walks: None,
        listed_with: None,
        key: &["id"],
        title: &["displayName", "applicationId"],
        within: None,
        stamp: NO_STAMP,
        get: None,
        content: Content::None,
        access: NO_ACCESS,
        carries: Some(Carries {
            kind: "entitlements",
            under: "service_principals",
            fields: PRINCIPAL_FIELDS,
        }),
        rules: &[
            assigned("id", "given by the account"),
            assigned(
                "applicationId",
                "given by the account on AWS and GCP; on Azure it is the Entra application",
            ),
            volatile("groups", MEMBERSHIPS),
            volatile("entitlements", CARRIED),
            volatile("roles", CARRIED),
        ],
        sets: &["schemas"],
        references: &[],
        builtin: &[],
        restore: Restore {
            layer: 0,
            adopt_by: &["displayName"],
            create: rest(
                "POST",
                PRINCIPALS,
                Shape::Only(&["displayName", "applicationId", "active", "externalId", "schemas"]),
            ),
            update: rest(
                "PATCH",
                "/api/2.0/preview/scim/v2/ServicePrincipals/{id}",
                Shape::Scim(&["displayName", "active", "externalId"]),
            ),
            delete: rest("DELETE", "/api/2.0/preview/scim/v2/ServicePrincipals/{id}", Shape::Empty),
            alias: Some("applicationId"),
            ..PLAIN
        },
        permission: ADMIN,
        scope: Scope::Shared,
        not_on: &[],
    },
    Row {
        name: "user",
        page: "https://docs.databricks.com/api/workspace/users",
        list: List::Calls(&[Call {
            family: &SCIM,
            path: USERS,
            query: &[],
            paging: Paging::Scim { count: 500 },
            items: "Resources",
        }]),
        walks: None,
        listed_with: None,
        key: &["id"],
        title: &["userName"],
        within: None,
        stamp: NO_STAMP,
        get: None,
        content: Content::None,
        access: NO_ACCESS,
        carries: Some(Carries { kind: "entitlements", under: "users", fields: PRINCIPAL_FIELDS }),
        rules: &[
            assigned("id", "given by the account"),
            volatile("groups", MEMBERSHIPS),
            volatile("entitlements", CARRIED),
            volatile("roles", CARRIED),
        ],
        sets: &["emails", "schemas"],
        references: &[],
        builtin: &[],
        restore: Restore {
            layer: 0,
            adopt_by: &["userName"],
            create: rest(
                "POST",
                USERS,
                Shape::Only(&[
                    "userName",
                    "displayName",
                    "name",
                    "emails",
                    "active",
                    "externalId",
                    "schemas",
                ]),
            ),
            update: rest(
                "PATCH",
                "/api/2.0/preview/scim/v2/Users/{id}",
                Shape::Scim(&["displayName", "name", "emails", "active", "externalId"]),
            ),
            delete: rest("DELETE", "/api/2.0/preview/scim/v2/Users/{id}", Shape::Empty),
            caseless: true,
            ..PLAIN
        },
        permission: ADMIN,
        scope: Scope::Shared,
        not_on: &[],
    },
];
