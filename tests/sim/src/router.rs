//! Routes as rows: verb, path template, API family, handler.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};

use crate::chain;
use crate::errors::ApiError;
use crate::reply::{Handler, Req};
use crate::state::{Workspace, World};

/// What stands in front of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A token, faults, limits, latency and accounting: every API.
    Api,
    /// As [`Guard::Api`] without a token: discovery and token endpoints.
    Open,
    /// Nothing: the simulator's own `/__sim/`, which must work whatever is simulated.
    Control,
}

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// API family: what limits, denials and counters go by.
    pub(crate) family: &'static str,
    pub(crate) guard: Guard,
    pub(crate) handler: Handler,
}

/// The table being filled by the domains.
#[derive(Debug, Default)]
pub(crate) struct Routes(Vec<Route>);

impl Routes {
    pub(crate) fn get(&mut self, path: &str, family: &'static str, handler: Handler) {
        self.add("GET", path, family, Guard::Api, handler);
    }

    pub(crate) fn post(&mut self, path: &str, family: &'static str, handler: Handler) {
        self.add("POST", path, family, Guard::Api, handler);
    }

    pub(crate) fn put(&mut self, path: &str, family: &'static str, handler: Handler) {
        self.add("PUT", path, family, Guard::Api, handler);
    }

    pub(crate) fn patch(&mut self, path: &str, family: &'static str, handler: Handler) {
        self.add("PATCH", path, family, Guard::Api, handler);
    }

    pub(crate) fn delete(&mut self, path: &str, family: &'static str, handler: Handler) {
        self.add("DELETE", path, family, Guard::Api, handler);
    }

    pub(crate) fn add(
        &mut self,
        method: &'static str,
        path: &str,
        family: &'static str,
        guard: Guard,
        handler: Handler,
    ) {
        self.0.push(Route { method, path: path.to_owned(), family, guard, handler });
    }

    /// The service of one workspace.
    pub(crate) fn build(self, world: &Arc<World>, ws: &Arc<Workspace>) -> Router {
        let mut by_path: BTreeMap<String, MethodRouter> = BTreeMap::new();
        for route in self.0 {
            let path = route.path.clone();
            let filter = match route.method {
                "GET" => MethodFilter::GET,
                "POST" => MethodFilter::POST,
                "PUT" => MethodFilter::PUT,
                "PATCH" => MethodFilter::PATCH,
                _ => MethodFilter::DELETE,
            };
            let handler = bind(world, ws, route);
            let methods = by_path.remove(&path).unwrap_or_default();
            by_path.insert(path, methods.merge(on(filter, handler)));
        }
        let unknown = Route {
            method: "*",
            path: "(no such endpoint)".to_owned(),
            family: "unknown",
            guard: Guard::Api,
            handler: no_such_endpoint,
        };
        let mut router = Router::new();
        for (path, methods) in by_path {
            router = router.route(&path, methods);
        }
        router
            .fallback(bind(world, ws, unknown.clone()))
            .method_not_allowed_fallback(bind(world, ws, unknown))
    }
}

fn bind(
    world: &Arc<World>,
    ws: &Arc<Workspace>,
    route: Route,
) -> impl Fn(Request) -> futures::future::BoxFuture<'static, Response> + Clone + Send + Sync + 'static {
    let (world, ws, route) = (Arc::clone(world), Arc::clone(ws), Arc::new(route));
    move |request| Box::pin(chain::serve(Arc::clone(&world), Arc::clone(&ws), Arc::clone(&route), request))
}

/// A kind absent in a region or tier shows as 404 ENDPOINT_NOT_FOUND (section 2.2).
fn no_such_endpoint(req: &Req) -> crate::reply::Reply {
    Err(ApiError::new(404, "ENDPOINT_NOT_FOUND", format!("No API found for '{} {}'", req.method, req.path)))
}
