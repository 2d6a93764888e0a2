//! What is shown as it happens: to the console's open pages, and to whoever watches alerts in this process.

use std::sync::Arc;

use serde_json::Value;
use tally_types::{AgentId, Level, Timestamp};
use tokio::sync::{broadcast, watch};

use crate::feed::Feed;

/// News that wait for a slow page. It is told that it missed some, and looks again as a whole.
const NEWS_MAX: usize = 4096;

/// A recorded event.
#[derive(Clone, Debug)]
pub struct Shown {
    pub about: AgentId,
    /// Of the alert that it raised.
    pub level: Option<Level>,
    /// That alert as a schema-1 object, where somebody watches and there is room.
    pub alert: Option<Arc<Value>>,
}

/// All ways to show. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Live {
    pub feed: Feed,
    pub news: broadcast::Sender<tally_web::Live>,
    pub problems: watch::Sender<Arc<[String]>>,
}

impl Default for Live {
    fn default() -> Self {
        Self { feed: Feed::default(), news: broadcast::Sender::new(NEWS_MAX), problems: watch::Sender::new([].into()) }
    }
}

impl Live {
    /// Shows what has become durable. Of its alerts so many have no object, because too many came at once.
    pub fn show(&self, shown: &[Shown], not_shown: u64, now: Timestamp) {
        let alerts: Vec<_> = shown.iter().filter_map(|event| event.alert.as_ref()).collect();
        if !alerts.is_empty() || not_shown > 0 {
            self.feed.show(&alerts, not_shown, now);
        }
        for event in shown {
            self.tell(tally_web::Live::Change { about: event.about });
            if let Some(level) = event.level {
                self.tell(tally_web::Live::Alert { about: event.about, level });
            }
        }
    }

    /// What is known of an agent has changed.
    pub fn agent(&self, id: AgentId) {
        self.tell(tally_web::Live::Agent { id });
    }

    fn tell(&self, news: tally_web::Live) {
        // Without an open page there is nobody to tell.
        let _ = self.news.send(news);
    }

    pub fn problems(&self, problems: Vec<String>) {
        self.problems.send_if_modified(|shown| {
            let is_new = **shown != *problems;
            if is_new {
                *shown = problems.into();
            }
            is_new
        });
    }
}
