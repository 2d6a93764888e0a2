//! The pages: each is a struct with its template and the handler that fills it.

pub mod agent;
pub mod collection;
pub mod delivery;
pub mod list;
pub mod log;
pub mod login;
pub mod overview;
pub mod policy;
pub mod sheet;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use tally_store::{Reader, StoreError};
use tally_types::Timestamp;

use crate::console::Shared;
use crate::failure::Failure;

/// Asks the store on a thread of its own: it blocks.
async fn ask<T: Send + 'static>(
    shared: &Arc<Shared>,
    question: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    // The semaphore is never closed.
    let place = shared.renderings.clone().acquire_owned().await.map_err(|_| Failure::Broken)?;
    let reader = shared.reader.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let answer = question(&reader);
        drop(place);
        answer
    });
    Ok(answer.await.map_err(|_| Failure::Broken)??)
}

fn render(page: &impl Template) -> Result<Response, Failure> {
    match page.render() {
        Ok(html) => Ok(Html(html).into_response()),
        Err(error) => {
            tracing::error!(%error, "A page of the console could not be rendered.");
            Err(Failure::Broken)
        }
    }
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
