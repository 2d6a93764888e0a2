//! Ways out for alerts and events: what a message is, how it is written, and where it goes.
//!
//! A destination takes a batch and says what became of it; which batch comes next, when it is tried again and how far the
//! ledger was delivered is the manager's affair (`tally-manager`). Nothing here remembers anything across a restart, and
//! nothing here reads the ledger.
//!
//! | file | what |
//! |---|---|
//! | `message` | one alert or event on its way out |
//! | `destination` | all kinds of destinations, and what they say of a batch |
//! | `format` | the texts that messages become |
//! | `review` | the review of a day |
//! | `group` | messages of one cause, told as one |
//! | `aws` | CloudWatch Logs, S3, Security Hub, queues of AWS, and whose account they are |
//! | `mail` | e-mail, one for each window |
//! | `syslog`, `webhook` | what their names say |
//! | `keys` | the keys of one `[[delivery]]`, with their places in the file |
//! | `template` | texts with placeholders |
//! | `secret` | passwords and tokens, from anywhere but the file |
//! | `incident`, `siem`, `nats` | Slack, Teams, PagerDuty; Splunk, Elasticsearch; NATS |
//! | `http`, `tls` | the one client |

pub mod aws;
mod destination;
pub mod format;
pub mod group;
pub mod http;
pub mod incident;
mod keys;
pub mod mail;
mod message;
#[cfg(test)]
mod mock;
pub mod nats;
pub mod review;
mod secret;
pub mod siem;
pub mod syslog;
mod template;
pub mod tls;
#[cfg(test)]
mod tool;
pub mod webhook;

pub use destination::{BatchLimits, Destination, Kind, Resolves, Sent, Settings};
pub use format::Format;
pub use keys::{Key, Keys, Value};
pub use message::{AgentFacts, AlertPart, Cloud, Message};
pub use secret::{Secret, SecretError, SecretText};
pub use template::Template;
