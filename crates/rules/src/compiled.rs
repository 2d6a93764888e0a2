//! The conditions that OSSEC has as compiled functions: `<compiled_rule>`.
//!
//! Source: OSSEC 4.3.0 (reference: its analysisd, compiled rules).

use crate::decoded::LogField;
use crate::view::View;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiled {
    CheckIdSize,
    CompSrcuserDstuser,
    CompMswinTargetuserCalleruserDiff,
    IsSimpleHttpRequest,
    IsValidCrawler,
}

/// Beginnings of the addresses that crawlers had.
const CRAWLERS: [&[u8]; 7] = [b"72.14.", b"209.85.", b"65.55.", b"207.46.", b"74.6.", b"72.30.", b"67.195."];

impl Compiled {
    pub const NAMES: [&str; 5] = [
        "check_id_size",
        "comp_srcuser_dstuser",
        "comp_mswin_targetuser_calleruser_diff",
        "is_simple_http_request",
        "is_valid_crawler",
    ];

    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "check_id_size" => Self::CheckIdSize,
            "comp_srcuser_dstuser" => Self::CompSrcuserDstuser,
            "comp_mswin_targetuser_calleruser_diff" => Self::CompMswinTargetuserCalleruserDiff,
            "is_simple_http_request" => Self::IsSimpleHttpRequest,
            "is_valid_crawler" => Self::IsValidCrawler,
            _ => return None,
        })
    }

    pub fn holds(self, view: &View<'_>) -> bool {
        let field = |field| view.field(field);
        match self {
            Self::CheckIdSize => field(LogField::Id).is_some_and(|id| id.len() >= 10),
            Self::CompSrcuserDstuser => match (field(LogField::SrcUser), field(LogField::DstUser)) {
                (Some(source), Some(destination)) => source == destination,
                _ => true,
            },
            Self::CompMswinTargetuserCalleruserDiff => users_differ(view.log()).unwrap_or(false),
            Self::IsSimpleHttpRequest => {
                let is_get = field(LogField::Action).is_none_or(|action| action.eq_ignore_ascii_case(b"GET"));
                is_get && field(LogField::Url).is_some_and(|url| url == b"/" || !url.contains(&b'?'))
            }
            // The original asks the name service for others, and wants an answer that cannot come.
            Self::IsValidCrawler => CRAWLERS.iter().any(|start| view.log().starts_with(start)),
        }
    }
}

/// Whether the two accounts that a Windows event names are not the same; `None` where one is not named.
fn users_differ(log: &[u8]) -> Option<bool> {
    let behind = |name: &[u8]| {
        let at = log.windows(name.len()).position(|window| window == name)?;
        let colon = log[at..].iter().position(|byte| *byte == b':')?;
        Some(&log[at + colon + 1..])
    };
    let (target, caller) = (behind(b"Target Account Name")?, behind(b"Caller User Name")?);
    let ends = |place: usize| target[place] == b'\t' || target[place..].starts_with(b"  ");
    let length = (0..target.len()).find(|place| ends(*place)).unwrap_or(target.len());
    Some(caller.get(..length) != Some(&target[..length]))
}
