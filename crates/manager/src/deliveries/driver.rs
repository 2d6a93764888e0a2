//! The task of one delivery: reads, sends, moves the cursor, and waits when that fails.
//!
//! A message that its destination refuses for good goes to the dead letters; so does one on which the destination fails
//! again and again while it takes the next. Neither holds back the rest.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tally_delivery::{BatchLimits, Destination, Message, Sent};
use tally_store::{DeliveryState, Progress, StoreError};
use tally_types::{Life, Timestamp};
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::backoff::Backoff;
use super::batch::{self, Batch};
use super::{Line, REVIEWED, Shared, review};
use crate::clock::wall;

/// When nothing is told, there is a look all the same.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A destination that has not answered by then has failed. Its own time-outs are shorter.
const SEND_TIME_MAX: Duration = Duration::from_secs(300);
/// After so many failures with one message alone, the next one is tried.
const PROBE_AFTER: u32 = 8;
/// A mark that is only written to see whether one can be.
const PROBE: &str = "probe";
/// Dead letters that are tried again at once.
const RETRIED_MAX: u64 = 100;
/// At most so often it is told that there are dead letters.
const DEAD_TOLD_US: i64 = 3_600_000_000;

pub struct Driver {
    shared: Arc<Shared>,
    line: Arc<Line>,
    news: broadcast::Receiver<tally_web::Live>,
    stop: watch::Receiver<bool>,
    destination: Destination,
    backoff: Backoff,
    dead_told: Option<Timestamp>,
    /// What is written down of the destination's memory.
    kept: Vec<(&'static str, i64)>,
    /// Whether it is on record that its place cannot be noted.
    is_stuck_told: bool,
}

/// What comes after a step.
enum Next {
    AtOnce,
    /// When there is something new.
    News,
    After(Duration),
}

/// Why a batch was not taken as a whole.
struct Trouble {
    why: String,
    after: Option<Duration>,
    is_wrong: bool,
    /// Nothing has failed: it is to wait.
    is_held: bool,
}

/// How far a batch came.
struct Outcome {
    /// The messages before this one are settled.
    settled: usize,
    /// Of these.
    refused: Vec<(usize, String)>,
    trouble: Option<Trouble>,
}

impl Driver {
    pub fn new(
        shared: Arc<Shared>,
        line: Arc<Line>,
        news: broadcast::Receiver<tally_web::Live>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let destination = Destination::new(&line.config.settings);
        let backoff = Backoff::new(line.config.retry_first);
        Self { shared, line, news, stop, destination, backoff, dead_told: None, kept: Vec::new(), is_stuck_told: false }
    }

    pub async fn run(mut self) {
        if let Err(error) = self.remember().await {
            tracing::warn!(delivery = self.line.config.name, %error, "what an earlier run left is not known");
        }
        while !*self.stop.borrow() {
            // Only what comes after this look is news.
            self.news = self.news.resubscribe();
            let next = match self.step().await {
                Ok(next) => {
                    self.unstuck().await;
                    next
                }
                Err(error) => {
                    tracing::error!(delivery = self.line.config.name, %error, "a delivery cannot read or note how far it is");
                    self.stuck(&error).await;
                    Next::After(self.backoff.failed(random(), None, false))
                }
            };
            self.pause(next).await;
        }
        self.destination.close().await;
    }

    /// It is not known any more how far it is: what was sent comes again, with the same ids. Told at once, if the ledger can be
    /// written: the book of deliveries tells nobody.
    async fn stuck(&mut self, error: &StoreError) {
        let why = format!("how far it is cannot be read or noted: {error}");
        let is_new = {
            let mut stuck = self.line.stuck.lock().unwrap_or_else(PoisonError::into_inner);
            stuck.replace(why.clone()).is_none()
        };
        if is_new || !self.is_stuck_told {
            let part = part(&self.line.config.name);
            let told = self.blocking(move |shared| Ok(shared.record(Life::Impaired { part, detail: why.into() })));
            self.is_stuck_told = told.await.unwrap_or(false);
        }
    }

    async fn unstuck(&mut self) {
        if self.line.stuck.lock().unwrap_or_else(PoisonError::into_inner).take().is_none() {
            return;
        }
        self.backoff.succeeded();
        if std::mem::take(&mut self.is_stuck_told) {
            let part = part(&self.line.config.name);
            let _ = self.blocking(move |shared| Ok(shared.record(Life::Restored { part }))).await;
        }
    }

    /// Takes up what an earlier run left.
    async fn remember(&mut self) -> Result<(), StoreError> {
        let (name, names) = (self.line.config.name.clone(), self.destination.memory());
        let known = self
            .blocking(move |shared| {
                let book = shared.book();
                let each = |(key, _): &(&'static str, i64)| Ok(book.mark(&name, key)?.map(|value| (*key, value)));
                names.iter().filter_map(|pair| each(pair).transpose()).collect::<Result<Vec<_>, StoreError>>()
            })
            .await?;
        self.kept.clone_from(&known);
        self.destination.remember(|key| known.iter().find(|(name, _)| *name == key).map(|(_, value)| *value));
        Ok(())
    }

    /// Keeps what the next run has to know, where it is another than before.
    async fn keep(&mut self) -> Result<(), StoreError> {
        let memory = self.destination.memory();
        if memory == self.kept {
            return Ok(());
        }
        self.kept.clone_from(&memory);
        let name = self.line.config.name.clone();
        self.blocking(move |shared| shared.book().set_marks(&name, &memory)).await
    }

    async fn pause(&mut self, next: Next) {
        let wait = match next {
            Next::After(wait) => wait.min(self.until_review(wall()).unwrap_or(wait)),
            Next::AtOnce | Next::News => Duration::ZERO,
        };
        let stopped = async { drop(self.stop.wait_for(|stop| *stop).await) };
        match next {
            Next::AtOnce => tokio::task::yield_now().await,
            Next::News => tokio::select! {
                () = stopped => {}
                () = self.line.wake.notified() => {}
                _ = self.news.recv() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            },
            Next::After(_) => tokio::select! {
                () = stopped => {}
                () = self.line.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            },
        }
    }

    async fn step(&mut self) -> Result<Next, StoreError> {
        let name = self.line.config.name.clone();
        let is_stuck = self.line.stuck.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let state = self
            .blocking(move |shared| {
                let mut book = shared.book();
                // As long as nothing can be noted nothing is sent: it would be the same again and again.
                if is_stuck {
                    book.set_marks(&name, &[(PROBE, wall().micros())])?;
                }
                book.get(&name)
            })
            .await?;
        let Some(state) = state.filter(|state| !state.is_paused) else { return Ok(Next::News) };
        if let Some(next) = self.retry_dead().await? {
            return Ok(next);
        }
        if let Some(next) = self.review(&state).await? {
            return Ok(next);
        }
        let limits = self.limits();
        let (line, cursor) = (self.line.clone(), state.cursor);
        let batch = self.blocking(move |shared| batch::read(shared, &line.config, cursor, limits)).await?;
        if batch.messages.is_empty() {
            if batch.next > cursor && (batch.is_more || batch.next - cursor >= 1000) {
                self.advance(cursor, batch.next, 0, Vec::new()).await?;
            }
            return Ok(if batch.is_more { Next::AtOnce } else { Next::News });
        }
        if !limits.wait.is_zero()
            && !batch.is_more
            && !batch.messages.iter().any(|message| self.destination.is_urgent(message))
            && batch.messages.len() < limits.count_max
            && self.is_young(&batch, limits)
        {
            return Ok(Next::After(limits.wait / 4));
        }
        self.deliver(&state, batch).await
    }

    /// Whether a batch that is not full may wait for more: until its first message has waited so long.
    fn is_young(&self, batch: &Batch, limits: BatchLimits) -> bool {
        let waited_us = batch.messages.first().map_or(i64::MAX, |message| wall().since(message.received));
        u128::try_from(waited_us).is_ok_and(|us| us < limits.wait.as_micros())
    }

    /// While it fails, smaller batches: what one message causes then hits only that one.
    fn limits(&self) -> BatchLimits {
        let limits = self.destination.limits();
        let count_max = (limits.count_max >> self.backoff.failures().saturating_sub(2).min(31)).max(1);
        BatchLimits { count_max, ..limits }
    }

    /// Sends the review of the day where one is due.
    async fn review(&mut self, state: &DeliveryState) -> Result<Option<Next>, StoreError> {
        let Some(daily) = self.line.config.settings.daily().cloned() else { return Ok(None) };
        let (name, now) = (self.line.config.name.clone(), wall());
        let due = review::last_due(now, daily.second, tally_sys::clock::utc_offset_s);
        let from = self.blocking(move |shared| shared.review_from(&name, now)).await?;
        if from >= due {
            return Ok(None);
        }
        let line = self.line.clone();
        let made = self.blocking(move |shared| shared.review(&line.config.select, &daily.parts, (from, due))).await?;
        let is_wanted = made.is_for_review() || daily.when_empty;
        let id = format!("review.{}.{}.{}", self.shared.ledger, self.line.config.name, due.micros() / 1_000_000);
        let sent = if is_wanted {
            let day = review::day(due);
            let sending = self.destination.send_review(&id, &made, &day);
            let why = || Sent::again(format!("no answer within {} s", SEND_TIME_MAX.as_secs()));
            timeout(SEND_TIME_MAX, sending).await.unwrap_or_else(|_| why())
        } else {
            Sent::all()
        };
        let name = self.line.config.name.clone();
        let refused = match sent {
            Sent::Done { refused } => refused,
            Sent::Refused { why } => vec![(0, why)],
            Sent::Later { why, after } => {
                let trouble = Trouble { why, after: Some(after), is_wrong: false, is_held: false };
                return self.failed(state, trouble).await.map(Some);
            }
            Sent::Again { why, after } => {
                let trouble = Trouble { why, after, is_wrong: false, is_held: false };
                return self.failed(state, trouble).await.map(Some);
            }
            Sent::Wrong { why } => {
                let trouble = Trouble { why, after: None, is_wrong: true, is_held: false };
                return self.failed(state, trouble).await.map(Some);
            }
        };
        self.recovered(state).await?;
        tracing::info!(delivery = name, from = %from, until = %due, "the review of a day is sent");
        self.blocking(move |shared| {
            shared.book().set_marks(&name, &[(REVIEWED, due.micros())])?;
            if let Some((_, why)) = refused.into_iter().next() {
                let detail = format!("it did not reach everybody: {why}").into();
                shared.record(Life::Impaired { part: format!("review of delivery {name}").into(), detail });
            }
            Ok(())
        })
        .await?;
        Ok(Some(Next::AtOnce))
    }

    /// How long it is until the next review is due.
    fn until_review(&self, now: Timestamp) -> Option<Duration> {
        let daily = self.line.config.settings.daily()?;
        let offset = tally_sys::clock::utc_offset_s;
        let day_us = 86_400_000_000;
        let next = review::last_due(now.plus_micros(day_us), daily.second, offset);
        let wait_us = u64::try_from(next.since(now)).ok()?;
        Some(Duration::from_micros(wait_us) + Duration::from_secs(1))
    }

    async fn deliver(&mut self, state: &DeliveryState, batch: Batch) -> Result<Next, StoreError> {
        let mut outcome = self.send(&batch.messages).await;
        if outcome.trouble.is_some() && outcome.settled == 0 && self.backoff.failures() >= PROBE_AFTER {
            self.probe(&batch, &mut outcome).await?;
        }
        self.keep().await?;
        let Outcome { settled, refused, trouble } = outcome;
        let is_held = trouble.as_ref().is_some_and(|trouble| trouble.is_held);
        self.line.is_held.store(is_held, Ordering::Relaxed);
        let sent = (settled - refused.len()) as u64;
        let number = |at: usize| batch.messages.get(at).map_or(batch.next, |message| message.index);
        let refused: Vec<_> = refused.into_iter().map(|(at, why)| (number(at), why)).collect();
        if settled > 0 {
            let to = if trouble.is_none() { batch.next } else { number(settled) };
            self.tell_refused(&refused).await;
            self.advance(state.cursor, to, sent, refused).await?;
        }
        match trouble {
            None => {
                self.recovered(state).await?;
                Ok(if batch.is_more { Next::AtOnce } else { Next::News })
            }
            Some(Trouble { is_held: true, why, after, .. }) => {
                tracing::info!(delivery = self.line.config.name, why, "a delivery waits");
                Ok(Next::After(after.unwrap_or(LOOK_EVERY)))
            }
            Some(trouble) => self.failed(state, trouble).await,
        }
    }

    /// Sends a batch in order. What is refused as a whole is halved until it is known which message is meant.
    async fn send(&mut self, messages: &[Message]) -> Outcome {
        let mut refused = Vec::new();
        let mut parts: Vec<_> = std::iter::once(0..messages.len()).collect();
        while let Some(part) = parts.pop() {
            let sent = timeout(SEND_TIME_MAX, self.destination.send(&messages[part.clone()])).await;
            let sent = sent.unwrap_or_else(|_| Sent::again(format!("no answer within {} s", SEND_TIME_MAX.as_secs())));
            let trouble = match sent {
                Sent::Done { refused: some } => {
                    let inside = some.into_iter().filter(|(at, _)| *at < part.len());
                    refused.extend(inside.map(|(at, why)| (part.start + at, why)));
                    continue;
                }
                Sent::Refused { why } if part.len() == 1 => {
                    refused.push((part.start, why));
                    continue;
                }
                Sent::Refused { .. } => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                    continue;
                }
                Sent::Again { why, after } => Trouble { why, after, is_wrong: false, is_held: false },
                Sent::Later { why, after } => Trouble { why, after: Some(after), is_wrong: false, is_held: true },
                Sent::Wrong { why } => Trouble { why, after: None, is_wrong: true, is_held: false },
            };
            return Outcome { settled: part.start, refused, trouble: Some(trouble) };
        }
        Outcome { settled: messages.len(), refused, trouble: None }
    }

    /// It has failed with one message for long: if the next is taken, it is that message.
    async fn probe(&mut self, batch: &Batch, outcome: &mut Outcome) -> Result<(), StoreError> {
        let Some(Trouble { is_wrong: false, is_held: false, why, .. }) = &outcome.trouble else { return Ok(()) };
        let why = format!("it fails on this message again and again, and takes the next: {why}");
        let (line, from) = (self.line.clone(), batch.next);
        let limits = BatchLimits { count_max: 1, ..self.destination.limits() };
        let next = self.blocking(move |shared| batch::read(shared, &line.config, from, limits)).await?;
        // It comes once more with the next batch: with the same id.
        if let [_] = &next.messages[..]
            && self.send(&next.messages).await.trouble.is_none()
        {
            outcome.refused = vec![(0, why)];
            outcome.settled = batch.messages.len().min(1);
            outcome.trouble = None;
        }
        Ok(())
    }

    /// Tries dead letters again that somebody asked for.
    async fn retry_dead(&mut self) -> Result<Option<Next>, StoreError> {
        let line = self.line.clone();
        let (letters, messages) = self
            .blocking(move |shared| {
                let letters = shared.book().dead(&line.config.name, true, RETRIED_MAX)?;
                let numbers: Vec<_> = letters.iter().map(|letter| letter.index).collect();
                let messages = batch::by_number(shared, line.config.events, &numbers)?;
                Ok((letters, messages))
            })
            .await?;
        if letters.is_empty() {
            return Ok(None);
        }
        let outcome = self.send(&messages).await;
        let name = self.line.config.name.clone();
        let settled: Vec<_> = messages[..outcome.settled].iter().map(|message| message.index).collect();
        let refused: Vec<_> = outcome.refused.into_iter().map(|(at, why)| (messages[at].index, why)).collect();
        self.blocking(move |shared| {
            let mut book = shared.book();
            for index in settled {
                let why = refused.iter().find(|(refused, _)| *refused == index).map(|(_, why)| &**why);
                book.settle_dead(&name, index, why, wall())?;
            }
            // What the ledger's rows do not show any more cannot be sent.
            for letter in letters.iter().filter(|letter| messages.iter().all(|message| message.index != letter.index)) {
                book.settle_dead(&name, letter.index, Some("the manager does not have it any more"), wall())?;
            }
            Ok(())
        })
        .await?;
        Ok(Some(match outcome.trouble {
            None => Next::AtOnce,
            Some(Trouble { is_held: true, after, .. }) => Next::After(after.unwrap_or(LOOK_EVERY)),
            Some(trouble) => Next::After(self.backoff.failed(random(), trouble.after, trouble.is_wrong)),
        }))
    }

    async fn advance(&self, from: u64, cursor: u64, sent: u64, refused: Vec<(u64, String)>) -> Result<(), StoreError> {
        let name = self.line.config.name.clone();
        self.blocking(move |shared| {
            let progress = Progress { from, cursor, sent, refused: &refused, now: wall() };
            shared.book().advance(&name, progress)
        })
        .await
    }

    async fn recovered(&mut self, state: &DeliveryState) -> Result<(), StoreError> {
        self.backoff.succeeded();
        let Some(since) = state.failing_since else { return Ok(()) };
        let (name, is_told) = (self.line.config.name.clone(), state.is_told);
        tracing::info!(delivery = name, since = %since, "a delivery works again");
        self.blocking(move |shared| {
            if is_told {
                shared.record(Life::Restored { part: part(&name) });
            }
            shared.book().recover(&name)
        })
        .await
    }

    async fn failed(&mut self, state: &DeliveryState, trouble: Trouble) -> Result<Next, StoreError> {
        let Trouble { why, after, is_wrong, .. } = trouble;
        let wait = self.backoff.failed(random(), after, is_wrong);
        let now = wall();
        let since = state.failing_since.unwrap_or(now);
        let for_us = u128::try_from(now.since(since)).unwrap_or(0);
        let failing_max = self.line.config.failing_max;
        let is_due = !state.is_told && (is_wrong || for_us >= failing_max.as_micros());
        // A destination that asks for a day does not put off that somebody is told.
        let left_us = u64::try_from(failing_max.as_micros().saturating_sub(for_us)).unwrap_or(u64::MAX);
        let wait = if state.is_told || is_due { wait } else { wait.min(Duration::from_micros(left_us)) };
        let (name, is_told) = (self.line.config.name.clone(), state.is_told);
        if state.last_error.as_deref() != Some(&*why) || state.failing_since.is_none() {
            tracing::warn!(delivery = name, why, "a delivery fails; what is to be delivered waits in the ledger");
        }
        self.blocking(move |shared| {
            let detail = format!("it has failed since {since}: {why}");
            let is_told =
                is_told || (is_due && shared.record(Life::Impaired { part: part(&name), detail: detail.into() }));
            shared.book().fail(&name, &why, since, is_told, now)
        })
        .await?;
        Ok(Next::After(wait))
    }

    /// An alert that there are dead letters, not for each of them.
    async fn tell_refused(&mut self, refused: &[(u64, String)]) {
        let Some((index, why)) = refused.first() else { return };
        tracing::error!(
            delivery = self.line.config.name,
            count = refused.len(),
            index,
            why,
            "messages were refused for good"
        );
        let now = wall();
        if self.dead_told.is_some_and(|told| now.since(told) < DEAD_TOLD_US) {
            return;
        }
        self.dead_told = Some(now);
        let part = format!("dead letters of delivery {}", self.line.config.name).into();
        let detail =
            format!("its destination refused {} messages for good, the first is {index}: {why}", refused.len());
        let recorded =
            self.blocking(move |shared| Ok(shared.record(Life::Impaired { part, detail: detail.into() }))).await;
        if !recorded.unwrap_or(false) {
            self.dead_told = None;
        }
    }

    /// What reads or writes a database, on a thread that may wait.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(done) => done,
            Err(error) => Err(StoreError::Failed(error.to_string())),
        }
    }
}

fn part(name: &str) -> Arc<str> {
    format!("delivery {name}").into()
}

/// Any number, for jitter.
fn random() -> u64 {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 8];
    // Without randomness there is no jitter, which is no harm.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
