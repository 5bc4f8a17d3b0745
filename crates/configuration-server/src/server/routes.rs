//! The table of routes: which handler answers which method and path.
//!
//! A router forgets what is in it, so the table is kept beside it: a test compares it with the document that describes
//! the API (`openapi.json`).

use super::Shared;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use std::sync::Arc;

/// Routes, and a router of them.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<Arc<Shared>>,
    listed: Vec<(&'static str, &'static str)>,
}

impl Routes {
    /// The router of these routes.
    pub(super) fn into_router(self) -> Router<Arc<Shared>> {
        tracing::debug!(routes = self.listed.len(), "the table of routes is complete");
        self.router
    }

    /// Method and path of each route.
    #[cfg(test)]
    pub(super) fn listed(&self) -> &[(&'static str, &'static str)] {
        &self.listed
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
        self.router = self.router.route(path, on(filter, handler));
        self.listed.push((method, path));
        self
    }
}
