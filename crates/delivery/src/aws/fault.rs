//! What can go wrong with a call to AWS, and what follows from it.

use std::time::Duration;

use serde_json::Value;
use tally_types::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::xml;
use crate::destination::Sent;
use crate::http::{Answer, HttpError};

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The service said no, in its own words.
    #[error("{service} answered {code} ({status}): {message}")]
    Answer { service: &'static str, status: u16, code: String, message: String, after: Option<Duration> },
    #[error("no AWS credentials: {0}")]
    Credentials(String),
    #[error("these credentials are of the account {found}, and the account {wanted} was meant: nothing is sent")]
    Account { wanted: String, found: String },
    #[error("{service} gave an answer that is not understood: {why}")]
    Foreign { service: &'static str, why: String },
    #[error("{0}")]
    Settings(String),
    /// The signature's time was refused.
    #[error("this host's clock is {} s {} AWS's: requests are refused ({message})", .offset_s.unsigned_abs(), side(*.offset_s))]
    Clock { offset_s: i64, message: String },
}

/// What to do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It passes: the network, a service that is busy.
    Again,
    /// Somebody has to act: rights, names, accounts.
    Wrong,
    /// The credentials have ended: fetch new ones.
    Stale,
    /// The time in the signature was refused.
    Skewed,
    /// The request's content is at fault.
    Refused,
}

/// Codes that pass, beside 5xx and 429.
const BUSY: [&str; 14] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "SlowDown",
    "PriorRequestNotComplete",
    "RequestTimeout",
    "OperationAbortedException",
];
const STALE: [&str; 5] =
    ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "UnrecognizedClientException"];
const SKEWED: [&str; 4] = ["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture", "InvalidSignatureException"];
/// Of 400: names and rights, not content.
const WRONG: [&str; 13] = [
    "AccessDenied",
    "AccessDeniedException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "ResourceNotFoundException",
    "NotAuthorized",
    "AuthorizationError",
    "NotFound",
];

impl Fault {
    /// Of an answer that is no success. JSON and XML are told apart by the body.
    pub fn of_answer(service: &'static str, answer: &Answer) -> Self {
        let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let (mut code, mut message) = match &json {
            Some(json) => {
                let word = |names: &[&str]| names.iter().find_map(|name| json[*name].as_str()).map(str::to_owned);
                let code = answer.header("x-amzn-errortype").map(str::to_owned);
                (code.or_else(|| word(&["__type", "code", "Code"])), word(&["message", "Message"]))
            }
            None => (xml::text(&answer.body, "Code"), xml::text(&answer.body, "Message")),
        };
        if code.is_none() && message.is_none() {
            message = Some(answer.excerpt());
        }
        code = code.map(|code| {
            let code = code.rsplit('#').next().unwrap_or_default();
            code.split(':').next().unwrap_or_default().chars().take(100).collect()
        });
        Self::Answer {
            service,
            status: answer.status,
            code: code.unwrap_or_else(|| "without a code".into()),
            message: message.unwrap_or_default().chars().take(500).collect(),
            after: answer.retry_after(),
        }
    }

    pub fn code(&self) -> &str {
        if let Self::Answer { code, .. } = self { code } else { "" }
    }

    pub fn turn(&self) -> Turn {
        match self {
            Self::Http(error) => {
                if error.is_lasting() {
                    Turn::Wrong
                } else {
                    Turn::Again
                }
            }
            Self::Credentials(_) | Self::Account { .. } | Self::Settings(_) | Self::Clock { .. } => Turn::Wrong,
            Self::Foreign { .. } => Turn::Again,
            Self::Answer { status, code, message, .. } => {
                let code = code.as_str();
                if *status >= 500 || *status == 429 || BUSY.contains(&code) {
                    Turn::Again
                } else if STALE.contains(&code) {
                    Turn::Stale
                } else if SKEWED.contains(&code) || (code == "SignatureDoesNotMatch" && speaks_of_time(message)) {
                    Turn::Skewed
                } else if matches!(status, 401 | 403 | 404 | 301 | 307) || WRONG.contains(&code) {
                    Turn::Wrong
                } else {
                    Turn::Refused
                }
            }
        }
    }

    /// What a delivery says of it. What only the content can have caused is for the caller to settle before.
    pub fn sent(&self) -> Sent {
        match self.turn() {
            Turn::Again => Sent::Again { why: self.to_string(), after: self.after() },
            Turn::Wrong | Turn::Stale | Turn::Skewed | Turn::Refused => Sent::wrong(self),
        }
    }

    fn after(&self) -> Option<Duration> {
        if let Self::Answer { after, .. } = self { *after } else { None }
    }
}

const fn side(offset_s: i64) -> &'static str {
    if offset_s < 0 { "behind" } else { "ahead of" }
}

/// "Signature expired: 2026… is now earlier than …", "Signature not yet current: …".
fn speaks_of_time(message: &str) -> bool {
    message.starts_with("Signature expired") || message.starts_with("Signature not yet current")
}

/// The time by the other side's clock.
pub fn date_of(answer: &Answer) -> Option<Timestamp> {
    let date = OffsetDateTime::parse(answer.header("date")?.trim(), &Rfc2822).ok()?;
    Some(Timestamp::from_secs(date.unix_timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: u16, code: &str, message: &str) -> Fault {
        Fault::Answer { service: "logs", status, code: code.into(), message: message.into(), after: None }
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        for (status, code, turn) in [
            (400, "ThrottlingException", Turn::Again),
            (503, "without a code", Turn::Again),
            (429, "", Turn::Again),
            (400, "ExpiredTokenException", Turn::Stale),
            (403, "ExpiredToken", Turn::Stale),
            (400, "AccessDeniedException", Turn::Wrong),
            (403, "SignatureDoesNotMatch", Turn::Wrong),
            (403, "RequestTimeTooSkewed", Turn::Skewed),
            (400, "InvalidParameterException", Turn::Refused),
            (413, "RequestEntityTooLarge", Turn::Refused),
        ] {
            assert_eq!(fault(status, code, "").turn(), turn, "{status} {code}");
        }
        assert_eq!(fault(403, "SignatureDoesNotMatch", "Signature expired: 20").turn(), Turn::Skewed);
        assert!(matches!(fault(400, "AccessDeniedException", "").sent(), Sent::Wrong { .. }));
    }

    #[test]
    fn a_clock_is_told_in_words() {
        let fault = Fault::Clock { offset_s: -400, message: "x".into() };
        assert!(fault.to_string().contains("is 400 s behind"), "{fault}");
    }
}
