//! What operators ask of deliveries.

use tally_delivery::review::text;
use tally_proto::json::{self, DeliveryStatus, ReviewPart};
use tally_store::DeliveryBook;

use super::answer::Answer;
use super::desk::Desk;
use super::fault::Fault;
use crate::deliveries::{self, Deliveries, Select, Source, ledger_name, status_of};
use crate::moment::moment;

/// What a review covers where nobody says it.
const REVIEWED_TIME: &str = "24h";

impl Desk<'_> {
    /// How each is; without a running manager, how each was.
    pub(super) fn delivery_statuses(&self) -> Result<Vec<DeliveryStatus>, Fault> {
        match self.deliveries {
            Some(deliveries) => Ok(deliveries.status()?),
            None => {
                let book = DeliveryBook::open(self.dir)?;
                Ok(book.all()?.iter().map(|state| status_of(state, "", (0, None))).collect())
            }
        }
    }

    pub(super) fn delivery_list(&self, answer: &mut Answer<'_>) -> Result<(), Fault> {
        for status in self.delivery_statuses()? {
            answer.object(&json::delivery(&status))?;
        }
        Ok(())
    }

    /// The review of a time, for those who look themselves.
    pub(super) fn digest(
        &self,
        since: Option<&str>,
        until: Option<&str>,
        as_text: bool,
        answer: &mut Answer<'_>,
    ) -> Result<(), Fault> {
        let now = self.now();
        let until = until.map_or(Ok(now), |text| moment(text, now))?;
        let from = moment(since.unwrap_or(REVIEWED_TIME), now)?;
        if from >= until {
            return Err(Fault::Told(format!("there is no time between {from} and {until}")));
        }
        let review = match self.deliveries {
            Some(deliveries) => deliveries.review((from, until))?,
            None => {
                let source = Source {
                    reader: &self.reader,
                    ledger: &ledger_name(&tally_store::public_key(self.dir)?.to_string()),
                    manager: crate::rule_files::own_name().into(),
                    deliveries: &self.delivery_statuses()?,
                };
                deliveries::review(&source, &Select::default(), &ReviewPart::ALL, (from, until))?
            }
        };
        let object = if as_text { json::done(&text(&review)) } else { json::review(&review) };
        Ok(answer.object(&object)?)
    }

    fn running(&self) -> Result<&Deliveries, Fault> {
        let why = "the manager is not running: start it with \"tally up\" or \"tally manager\"";
        self.deliveries.ok_or_else(|| Fault::Told(why.to_owned()))
    }

    pub(super) fn delivery_test(&self, name: &str, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let taken = self.running()?.test(name).map_err(Fault::Told)?;
        Ok(answer.object(&json::done(&taken))?)
    }

    pub(super) fn delivery_pause(&self, name: &str, is_paused: bool, answer: &mut Answer<'_>) -> Result<(), Fault> {
        self.running()?.pause(name, is_paused).map_err(Fault::Told)?;
        let done = if is_paused {
            format!("{name} is paused: what comes waits in the ledger, until \"tally delivery resume {name}\"")
        } else {
            format!("{name} goes on where it was")
        };
        Ok(answer.object(&json::done(&done))?)
    }

    /// `dead`: what was refused for good, and whether it is to be tried again.
    pub(super) fn delivery_replay(
        &self,
        name: &str,
        since: Option<&str>,
        dead: Option<bool>,
        answer: &mut Answer<'_>,
    ) -> Result<(), Fault> {
        let deliveries = self.running()?;
        let done = match (since, dead) {
            (None, Some(false)) => {
                for letter in deliveries.dead(name).map_err(Fault::Told)? {
                    let (index, time) = (letter.index, letter.time);
                    answer.object(&json::dead_letter(name, index, time, &letter.reason, letter.is_retried))?;
                }
                return Ok(());
            }
            (None, Some(true)) => {
                let count = deliveries.retry_dead(name).map_err(Fault::Told)?;
                format!("{count} messages are sent once more")
            }
            (Some(since), None) => {
                let since = moment(since, self.now())?;
                match deliveries.replay_since(name, since).map_err(Fault::Told)? {
                    Some(first) => {
                        format!("{name} delivers again from number {first} of the ledger on, with the same ids")
                    }
                    None => format!("nothing has come since {since}"),
                }
            }
            _ => return Err(Fault::Told("say what to replay: --since TIME, or dead".to_owned())),
        };
        Ok(answer.object(&json::done(&done))?)
    }
}
