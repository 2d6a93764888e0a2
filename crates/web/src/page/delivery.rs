//! The ways out: how each delivery is, what waits for it, and what its destination refused. What can be done about it is done on
//! the command line, where it is recorded who did it.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use tally_proto::json::DeliveryStatus;
use tally_proto::sentence::shown;
use tally_types::Timestamp;

use super::{ask, now, render};
use crate::console::Shared;
use crate::failure::Failure;
use crate::view::moment::{Moment, length};
use crate::view::shell::Shell;
use crate::view::word;

struct DeliveryLine {
    name: String,
    kind: String,
    target: String,
    state: &'static str,
    state_name: &'static str,
    waiting: String,
    /// How long the first of what waits has waited.
    lag: Option<String>,
    sent: String,
    last_success: Option<Moment>,
    /// Since when it fails.
    failing: Option<Moment>,
    error: Option<String>,
    dead: Option<String>,
    needs_attention: bool,
}

impl DeliveryLine {
    fn new(delivery: &DeliveryStatus, now: Timestamp) -> Self {
        let (state, state_name) = match delivery.state {
            "failing" => ("failing", "silent"),
            "paused" => ("paused", "stopped"),
            "held" => ("held until the hour is over", "baselining"),
            "removed" => ("gone from the configuration", "never-seen"),
            _ => ("working", "watching"),
        };
        let is_failing = delivery.failing_since.is_some();
        Self {
            name: shown(&delivery.name),
            kind: shown(&delivery.kind),
            target: shown(&delivery.target),
            state,
            state_name,
            waiting: word::number(delivery.waiting),
            lag: delivery.oldest_waiting.map(|oldest| length(now.since(oldest).max(0))),
            sent: word::number(delivery.sent),
            last_success: delivery.last_success.map(|time| Moment::new(time, now)),
            failing: delivery.failing_since.map(|time| Moment::new(time, now)),
            error: delivery.last_error.as_deref().filter(|_| is_failing).map(shown),
            dead: (delivery.dead > 0).then(|| word::number(delivery.dead)),
            needs_attention: is_failing || delivery.dead > 0 || delivery.state == "paused",
        }
    }
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    shell: Shell,
    deliveries: Vec<DeliveryLine>,
}

/// What needs attention comes first.
pub async fn all(State(shared): State<Arc<Shared>>) -> Result<Response, Failure> {
    let now = now();
    let source = shared.deliveries.get().cloned();
    let deliveries = ask(&shared, move |_| {
        let statuses = source.map_or_else(|| Ok(Vec::new()), |source| source())?;
        let mut lines: Vec<_> = statuses.iter().map(|delivery| DeliveryLine::new(delivery, now)).collect();
        lines.sort_by_key(|line| !line.needs_attention);
        Ok(lines)
    })
    .await?;
    render(&DeliveriesPage { shell: Shell::live("/deliveries", "Deliveries"), deliveries })
}
