//! Who is let in: enrolment, and the hello of an agent.

use std::sync::Arc;

use tally_net::{AuthorityError, CloseCode};
use tally_proto::limit::NAME_BYTES_MAX;
use tally_proto::message::{EnrolAnswer, EnrolReply, EnrolRequest, Hello, Refused, RefusedCode};
use tally_proto::session::{Admission, IdentityVerdict, ManagerIn};
use tally_store::{Entry, StoreError};
use tally_types::{AgentId, Event, EventBody, Life, Timestamp};

use super::{After, Ingest, event_record};
use crate::clock::Moment;
use crate::fleet::{Member, Session};
use crate::input::{Link, Source};

/// Two copies of an identity are told of once in this time: each of them tries again and again.
pub const DUPLICATE_MS: u64 = 10 * 60 * 1000;

impl Ingest {
    pub(super) fn hello(&mut self, now: Moment, from: Source, hello: &Hello, received: Timestamp, link: Link) {
        let refuse = |link: &Link, refused| {
            // A session that is gone needs no answer.
            let _ = link.to.try_send(ManagerIn::Refuse(refused));
        };
        if !self.fleet.contains_key(&from.agent) {
            let text = format!(
                "agent {} is not known here: it was removed, or this is not the manager it enrolled with; enrol it again",
                from.agent
            );
            return refuse(&link, Refused::new(RefusedCode::UnknownAgent, text));
        }
        if let Some(refused) = self.refusal() {
            return refuse(&link, refused);
        }
        let Some(member) = self.fleet.get_mut(&from.agent) else { return };
        match member.holder.hello(hello.run_id, from.connection.0) {
            IdentityVerdict::Admit => {}
            IdentityVerdict::Replace { .. } => {
                member.comparison.disconnected();
                let old = member.session.take().and_then(|session| session.link.closer);
                if let Some(closer) = old {
                    closer.close(CloseCode::Superseded, "this agent has a newer connection");
                }
            }
            IdentityVerdict::Duplicate { .. } => {
                refuse(&link, duplicate_refusal());
                return self.two_copies(now, from.agent, link);
            }
        }
        member.session = Some(Session {
            connection: from.connection,
            run_id: hello.run_id,
            link,
            checkpoint_size: hello.checkpoint.map_or(0, |head| head.size),
        });
        self.heard(now, from);
        self.take_status(now, from.agent, Box::new(hello.status.clone()), received);
        self.group.after.push(After::Admit { from });
    }

    fn two_copies(&mut self, now: Moment, agent: AgentId, newcomer: Link) {
        let address = |link: &Link| link.closer.as_ref().map_or("an unknown address".into(), |c| c.peer().to_string());
        let Some(member) = self.fleet.get_mut(&agent) else { return };
        let is_told = member.duplicate_ms.is_some_and(|at_ms| now.ms < at_ms + DUPLICATE_MS);
        let first = member.session.as_ref().map_or("an unknown address".into(), |session| address(&session.link));
        if is_told {
            return;
        }
        member.duplicate_ms = Some(now.ms);
        let detail = format!(
            "one speaks from {first}, another from {}; give the copy an identity of its own by enrolling it",
            address(&newcomer)
        );
        self.notice(now, agent, Life::DuplicateIdentity { detail: detail.into() });
    }

    /// Everything that older connections brought is durable: the agent may go on behind it.
    pub(super) fn admit(&mut self, now: Moment, from: Source) {
        let Some(member) = self.fleet.get(&from.agent).filter(|member| member.is_from(from)) else { return };
        let admission = Admission {
            agent: from.agent,
            name: member.name.clone(),
            stored: member.stored,
            stored_run: member.stored_run,
            heartbeat_ms: self.settings.heartbeat_ms,
            now: now.wall,
        };
        self.tell(from, ManagerIn::Admit(admission));
        self.offer_policy(from);
        self.ask_policy(from.agent);
        self.say_orders(now, from.agent, None);
    }

    /// Gives a host its identity.
    pub(super) fn enrol(&mut self, now: Moment, request: &EnrolRequest) -> EnrolAnswer {
        self.commit(now);
        if let Some(refused) = self.refusal() {
            return EnrolAnswer::Refused(refused);
        }
        match self.try_enrol(now, request) {
            Ok(reply) => EnrolAnswer::Enrolled(reply),
            Err(EnrolFault::Refused(refused)) => EnrolAnswer::Refused(refused),
            Err(EnrolFault::Store(error)) => {
                tracing::error!(%error, "a host could not be enrolled");
                let code = if error.is_full() { RefusedCode::Full } else { RefusedCode::Unavailable };
                EnrolAnswer::Refused(Refused::new(code, format!("the manager cannot enrol a host now: {error}")))
            }
        }
    }

    fn try_enrol(&mut self, now: Moment, request: &EnrolRequest) -> Result<EnrolReply, EnrolFault> {
        check_name(&request.name)?;
        // Before a use of the token is spent: a request that cannot be signed costs nothing.
        self.authority.issue(&request.csr_pem, AgentId(u32::MAX), now.wall)?;
        let seq = self.own.seq + 1;
        let epoch = self.own.epoch;
        let (agent, group) = self.transact(now, |scribe| {
            let group = match scribe.tx().spend_token(request.secret.as_bytes(), now.wall)? {
                Entry::Granted(token) => token.group,
                refused => return Err(EnrolFault::Refused(token_refusal(&refused))),
            };
            let agent = scribe.tx().create_agent(&request.name, &group, now.wall)?;
            let body = EventBody::Life(Life::Enrolled { name: request.name.clone(), group: group.clone() });
            let event = Event { epoch, seq, time: now.wall, body };
            scribe.record(&event_record(AgentId::MANAGER, agent, now.wall, event))?;
            Ok((agent, group))
        })?;
        self.own.seq = seq;
        self.fleet.insert(agent, Member::new(request.name.clone(), group));
        let cert_pem: Arc<str> = self.authority.issue(&request.csr_pem, agent, now.wall)?.into();
        let ledger_key = self.store.ledger_key().into();
        tracing::info!(%agent, name = %request.name, "a host was enrolled");
        Ok(EnrolReply { agent, name: request.name.clone(), cert_pem, ledger_key })
    }
}

enum EnrolFault {
    Refused(Refused),
    Store(StoreError),
}

impl From<AuthorityError> for EnrolFault {
    fn from(error: AuthorityError) -> Self {
        Self::Refused(Refused::new(RefusedCode::Request, error.to_string()))
    }
}

impl From<StoreError> for EnrolFault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NameTaken(name) => Self::Refused(name_refusal(&name)),
            error => Self::Store(error),
        }
    }
}

impl From<Refused> for EnrolFault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// A name is shown in lists and typed in commands: it has no white space, no control character and no `@`, which divides
/// an agent from a time. Where commands take a name they take a number as well: no name looks like one.
fn check_name(name: &str) -> Result<(), Refused> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        let text = "an agent's name cannot be a number, which is how agents are counted; give another by --name";
        return Err(Refused::new(RefusedCode::Name, text));
    }
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_plain) {
        return Ok(());
    }
    let text = "an agent's name has 1 to 256 letters, digits, and \".\", \"-\", \"_\", \":\"; give another by --name";
    Err(Refused::new(RefusedCode::Name, text))
}

fn name_refusal(name: &str) -> Refused {
    let text = format!("an agent named \"{name}\" exists already; remove it, or give this one another name by --name");
    Refused::new(RefusedCode::Name, text)
}

fn token_refusal(entry: &Entry) -> Refused {
    let text = match entry {
        Entry::Expired => "the token has expired; make a new one with \"tally token new\"",
        Entry::UsedUp => "the token has no use left; make a new one with \"tally token new\"",
        Entry::Unknown | Entry::Granted(_) => {
            "the token is not known here: it was revoked, or it is of another manager"
        }
    };
    Refused::new(RefusedCode::Token, text)
}

fn duplicate_refusal() -> Refused {
    let text = "another running agent uses this identity; enrol this host anew to give it its own";
    Refused::new(RefusedCode::Duplicate, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_number_and_has_nothing_that_commands_divide_by() {
        for name in ["web1", "1a", "001.example", "db-2", "ü"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "001", "7", "99999999999999999999", "a b", "a@b", "a\n"] {
            assert_eq!(check_name(name).unwrap_err().code, RefusedCode::Name, "{name}");
        }
        assert!(check_name("001").unwrap_err().text.contains("cannot be a number"));
    }
}
