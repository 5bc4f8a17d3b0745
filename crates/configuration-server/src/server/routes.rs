//! The table of routes: which handler answers which method and path.
//!
//! A router forgets what is in it, so the table is kept beside it: a test compares it with the document that describes
//! the API (`openapi.json`).

use super::Shared;
use crate::access::{self, Access, Role};
use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use std::sync::Arc;

/// Routes, each with whom it answers.
pub(super) struct Routes {
    all: Vec<Route>,
    /// Whom the routes answer that are added next.
    access: Access,
}

struct Route {
    method: &'static str,
    path: &'static str,
    access: Access,
    handler: MethodRouter<Arc<Shared>>,
}

impl Default for Routes {
    /// None. Those that are added answer users who have logged in, until [`Routes::answering`] says otherwise.
    fn default() -> Routes {
        Routes { all: Vec::new(), access: Access::People(Role::Reader) }
    }
}

impl Routes {
    /// The router of these routes, with the guard in front of each.
    pub(super) fn into_router(self, shared: &Arc<Shared>) -> Router<Arc<Shared>> {
        self.all.into_iter().fold(Router::new(), |router, route| {
            tracing::trace!(method = route.method, path = route.path, access = ?route.access, "route");
            let guard = from_fn_with_state((shared.clone(), route.access), access::guard);
            router.route(route.path, route.handler.route_layer(guard))
        })
    }

    /// Method and path of each route, and whom it answers.
    #[cfg(test)]
    pub(super) fn listed(&self) -> impl Iterator<Item = (&'static str, &'static str, Access)> {
        self.all.iter().map(|route| (route.method, route.path, route.access))
    }

    /// The routes that follow answer these, and nobody else.
    pub(super) fn answering(mut self, access: Access) -> Routes {
        self.access = access;
        self
    }

    pub(super) fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, Arc<Shared>>) -> Routes {
        self.add("get", MethodFilter::GET, path, handler)
    }

    pub(super) fn post<T: 'static>(
        self,
        path: &'static str,
        handler: impl Handler<T, Arc<Shared>>,
    ) -> Routes {
        self.add("post", MethodFilter::POST, path, handler)
    }

    pub(super) fn put<T: 'static>(self, path: &'static str, handler: impl Handler<T, Arc<Shared>>) -> Routes {
        self.add("put", MethodFilter::PUT, path, handler)
    }

    pub(super) fn patch<T: 'static>(
        self,
        path: &'static str,
        handler: impl Handler<T, Arc<Shared>>,
    ) -> Routes {
        self.add("patch", MethodFilter::PATCH, path, handler)
    }

    pub(super) fn delete<T: 'static>(
        self,
        path: &'static str,
        handler: impl Handler<T, Arc<Shared>>,
    ) -> Routes {
        self.add("delete", MethodFilter::DELETE, path, handler)
    }

    fn add<T: 'static>(
        mut self,
        method: &'static str,
        filter: MethodFilter,
        path: &'static str,
        handler: impl Handler<T, Arc<Shared>>,
    ) -> Routes {
        self.all.push(Route { method, path, access: self.access, handler: on(filter, handler) });
        self
    }
}
