//! OSSEC's enrolment: requests of its port, answered from `client.keys`.

use std::net::IpAddr;
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use tally_net::{AuthdAnswer, AuthdPort};
use tally_ossec::authd::{Answer, Request, enrol};

use super::KeyFile;

/// Who may enrol, and how.
pub struct Enrolment {
    pub keys: Arc<KeyFile>,
    pub password: Option<String>,
    /// New keys are for the address alone that they were asked from.
    pub fix_address: bool,
}

impl Enrolment {
    fn answer(&self, from: IpAddr, bytes: &[u8]) -> Option<String> {
        let request = Request::parse(bytes, self.password.as_deref())
            .inspect_err(|error| tracing::debug!(%from, %error, "an enrolment is not answered"))
            .ok()?;
        let mut random = [0; 32];
        SystemRandom::new().fill(&mut random).ok()?;
        let answered = self.keys.alter(|keys| match enrol(keys, &request, from, self.fix_address, &random) {
            Answer::Refused(error) => Err(error),
            answer @ Answer::Key(_) => Ok(answer),
        });
        let answer = match answered {
            Ok(answer) => answer,
            Err(super::file::FileError::Key(error)) => {
                tracing::warn!(%from, %error, "an OSSEC agent was not enrolled");
                Answer::Refused(error)
            }
            Err(error) => {
                tracing::error!(%from, %error, "an OSSEC agent could not be enrolled");
                Answer::Refused(tally_ossec::keys::KeyError::Key)
            }
        };
        if let Answer::Key(key) = &answer {
            tracing::info!(%from, id = &*key.id, name = &*key.name, "an OSSEC agent was enrolled");
        }
        Some(answer.text(&request))
    }
}

/// Answers until the port is dropped.
pub async fn serve(port: AuthdPort, enrolment: Enrolment) {
    let answer: AuthdAnswer = Arc::new(move |from, bytes| enrolment.answer(from, bytes));
    port.serve(answer).await;
}
