//! Why a page cannot be shown, as a page that says so and what to do.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use tally_store::StoreError;

use crate::view::shell::Shell;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("You are not logged in")]
    NotLoggedIn,
    #[error("This link is used up or too old")]
    LinkSpent,
    #[error("There is no such page")]
    NoPage,
    #[error("There is no {0}")]
    NotFound(String),
    #[error("Too many pages are open")]
    TooManyWatchers,
    #[error("The login cannot be put on record")]
    NoRecord,
    #[error("The record cannot be read")]
    Store(#[from] StoreError),
    #[error("The page could not be made")]
    Broken,
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage<'f> {
    shell: Shell,
    title: String,
    advice: &'f str,
    detail: Option<String>,
}

impl Failure {
    const fn status(&self) -> StatusCode {
        match self {
            Self::NotLoggedIn | Self::LinkSpent => StatusCode::UNAUTHORIZED,
            Self::NoPage | Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::TooManyWatchers | Self::NoRecord => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) | Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn advice(&self) -> &'static str {
        match self {
            Self::NotLoggedIn => "The console opens with a link that works once. Get one on the manager's machine:",
            Self::LinkSpent => "A login link works once, and for an hour. Get a new one on the manager's machine:",
            Self::NoPage => "The address may be mistyped, or from another version.",
            Self::NotFound(_) => "It may be mistyped, or it was never recorded here.",
            Self::TooManyWatchers => "Close some of the console's pages.",
            Self::NoRecord => "Every login is recorded, and the manager does not take records now. Look at its log.",
            Self::Store(_) => "Look at the manager's log, and try again.",
            Self::Broken => "This is a defect of the console. Look at the manager's log.",
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status();
        let detail = match &self {
            Self::Store(error) => {
                tracing::error!(%error, "A page of the console could not be made.");
                Some(error.to_string())
            }
            _ => None,
        };
        let shell = match self {
            Self::NotLoggedIn | Self::LinkSpent | Self::NoRecord => Shell::outside("Log in"),
            _ => Shell::inside("", "Not available"),
        };
        let page = FailurePage { shell, title: self.to_string(), advice: self.advice(), detail };
        match page.render() {
            Ok(html) => (status, Html(html)).into_response(),
            Err(_) => status.into_response(),
        }
    }
}
