//! Coming in and going out.

use std::sync::Arc;
use std::time::Instant;

use askama::Template;
use axum::Form;
use axum::extract::{Extension, RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::render;
use crate::console::{Peer, Shared};
use crate::door::{Entry, SESSION_LIFE};
use crate::failure::Failure;
use crate::filter::Query;
use crate::guard;
use crate::view::shell::Shell;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    shell: Shell,
    token: String,
}

#[derive(Deserialize)]
pub struct Pressed {
    #[serde(default)]
    token: String,
}

/// The link: shows a button, and uses nothing up.
pub async fn show(State(shared): State<Arc<Shared>>, query: RawQuery) -> Result<Response, Failure> {
    let token = Query::parse(&query).field("token").to_owned();
    match shared.door.would_open(&token, Instant::now()) {
        Entry::Open => render(&LoginPage { shell: Shell::outside("Log in"), token }),
        Entry::Shut if token.is_empty() => Err(Failure::NotLoggedIn),
        Entry::Shut => Err(Failure::LinkSpent),
    }
}

/// The button: uses the link up and opens the session.
pub async fn press(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Form(pressed): Form<Pressed>,
) -> Result<Response, Failure> {
    let now = Instant::now();
    if shared.door.would_open(&pressed.token, now) == Entry::Shut {
        return Err(Failure::LinkSpent);
    }
    if let Some(logins) = shared.logins.get() {
        logins.try_send(format!("from {peer}").into()).map_err(|_| Failure::NoRecord)?;
    }
    let session = shared.door.redeem(&pressed.token, now).ok_or(Failure::LinkSpent)?;
    tracing::info!(%peer, "Somebody logged in to the console.");
    let cookie = format!(
        "{}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
        guard::cookie_name(&headers),
        SESSION_LIFE.as_secs()
    );
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

pub async fn leave(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Some(session) = guard::session(&headers) {
        shared.door.end(session, Instant::now());
    }
    let cookie = format!("{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0", guard::cookie_name(&headers));
    ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}
