//! The domains: one file each, with its routes and handlers.

pub(crate) mod alerts;
mod auth;
pub(crate) mod cluster_policies;
pub(crate) mod clusters;
mod control;
pub(crate) mod global_init_scripts;
pub(crate) mod instance_pools;
pub(crate) mod instance_profiles;
pub(crate) mod jobs;
pub(crate) mod lakeview;
pub(crate) mod libraries;
mod permission_types;
pub(crate) mod permissions;
pub(crate) mod pipelines;
pub(crate) mod queries;
pub(crate) mod repos;
pub(crate) mod scim;
pub(crate) mod scim_base;
mod scim_query;
pub(crate) mod secrets;
mod settings;
pub(crate) mod sql;
pub(crate) mod uc;
pub(crate) mod warehouses;
pub(crate) mod workspace;
mod workspace_import;

use crate::router::Routes;

/// Every route of a workspace.
pub(crate) fn routes() -> Routes {
    let mut routes = Routes::default();
    for domain in [
        control::routes,
        auth::routes,
        instance_pools::routes,
        cluster_policies::routes,
        workspace::routes,
        scim::routes,
        permissions::routes,
        clusters::routes,
        libraries::routes,
        global_init_scripts::routes,
        instance_profiles::routes,
        jobs::routes,
        pipelines::routes,
        repos::routes,
        settings::routes,
        uc::routes,
        warehouses::routes,
        queries::routes,
        alerts::routes,
        lakeview::routes,
        secrets::routes,
        sql::routes,
    ] {
        domain(&mut routes);
    }
    routes
}
