//! The domains: one file each, with its routes and handlers.

mod auth;
pub(crate) mod cluster_policies;
mod control;
pub(crate) mod instance_pools;

use crate::router::Routes;

/// Every route of a workspace.
pub(crate) fn routes() -> Routes {
    let mut routes = Routes::default();
    for domain in [control::routes, auth::routes, instance_pools::routes, cluster_policies::routes] {
        domain(&mut routes);
    }
    routes
}
