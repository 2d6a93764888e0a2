//! What an agent's rootcheck says: findings, and the beginnings and ends of scans (syscheck's are told here too).

/// A rootcheck message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootcheckMessage {
    SyscheckStarts,
    SyscheckEnds,
    RootcheckStarts,
    RootcheckEnds,
    /// A text for decoders and rules.
    Finding,
}

impl RootcheckMessage {
    pub fn parse(text: &[u8]) -> Self {
        match text {
            b"Starting syscheck scan." => Self::SyscheckStarts,
            b"Ending syscheck scan." => Self::SyscheckEnds,
            b"Starting rootcheck scan." => Self::RootcheckStarts,
            b"Ending rootcheck scan." => Self::RootcheckEnds,
            _ => Self::Finding,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_told_from_findings() {
        assert_eq!(RootcheckMessage::parse(b"Starting syscheck scan."), RootcheckMessage::SyscheckStarts);
        assert_eq!(RootcheckMessage::parse(b"Ending rootcheck scan."), RootcheckMessage::RootcheckEnds);
        assert_eq!(RootcheckMessage::parse(b"Interface 'eth0' in promiscuous mode."), RootcheckMessage::Finding);
    }
}
