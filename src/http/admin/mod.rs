//! `/admin/v1`: what only the operators of a server may do.

mod policies;
mod policy_shapes;

use std::sync::Arc;

use axum::Router;

use crate::service::App;

/// The routes of the admin document.
pub(super) fn plain_routes() -> Router<Arc<App>> {
    let (routes, _document) = policies::routes().split_for_parts();
    routes
}
