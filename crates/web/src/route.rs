//! Which address shows which page. Everything but the login and the console's own files is behind a session.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::console::Shared;
use crate::failure::Failure;
use crate::page::{agent, collection, delivery, list, log, login, overview, policy, sheet};
use crate::{asset, guard, live};

/// The only form that is posted holds a token.
const BODY_BYTES_MAX: usize = 4 << 10;

pub fn router(shared: Arc<Shared>) -> Router {
    let inside = Router::new()
        .route("/", get(overview::show))
        .route("/changes", get(list::changes))
        .route("/alerts", get(list::alerts))
        .route("/change/{agent}/{epoch}/{seq}", get(sheet::change))
        .route("/alert/{agent}/{epoch}/{seq}/{rule}", get(sheet::alert))
        .route("/agents", get(agent::all))
        .route("/agent/{id}", get(agent::one))
        .route("/logs", get(log::all))
        .route("/logs/{id}", get(log::of_agent))
        .route("/collection", get(collection::show))
        .route("/policies", get(policy::all))
        .route("/policy/{digest}", get(policy::one))
        .route("/deliveries", get(delivery::all))
        .route("/live", get(live::stream))
        .route("/logout", post(login::leave))
        .fallback(no_page)
        .layer(from_fn_with_state(shared.clone(), guard::inner));
    Router::new()
        .route("/login", get(login::show).post(login::press))
        .route("/static/{name}", get(file))
        .merge(inside)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(guard::outer))
        .with_state(shared)
}

async fn file(request: Request) -> Response {
    asset::serve(request.uri().path())
}

async fn no_page() -> Response {
    Failure::NoPage.into_response()
}
