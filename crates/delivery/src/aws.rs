//! AWS: CloudWatch Logs, S3, Security Hub, SNS, SQS, EventBridge, Kinesis and Firehose, and secrets that are kept there.
//!
//! All of them speak through one client (`client`) that signs requests itself (`sign`): signature version 4 is one page of
//! rules that has not changed since 2012, AWS publishes vectors for it, and the SDK's crates for these services alone cost
//! more to build than the rest of the manager. Whose credentials are used, and that they are of the account which was meant,
//! is `session`'s affair: nothing leaves before the account is known to be the right one.
//!
//! | file | what |
//! |---|---|
//! | `settings` | what every delivery to AWS is told: region, role, endpoint |
//! | `sign` | signature version 4 |
//! | `credentials`, `profile`, `metadata` | where credentials come from, in AWS's order |
//! | `session`, `sts` | the role that is assumed, and the proof of its account |
//! | `name` | names with placeholders |
//! | `client`, `fault`, `xml` | one signed call, and what became of it |
//! | `cloudwatch`, `s3`, `security_hub`, `queue` | the destinations |
//! | `secret` | parameters of Systems Manager, and of Secrets Manager |

pub mod client;
pub mod cloudwatch;
pub mod credentials;
pub mod destination;
pub mod fault;
pub mod metadata;
pub mod name;
pub mod profile;
pub mod queue;
pub mod s3;
pub mod secret;
pub mod security_hub;
pub mod session;
pub mod settings;
mod settled;
pub mod sign;
pub mod sts;
pub mod xml;

use tally_types::Timestamp;

/// The wall clock, in UTC.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
