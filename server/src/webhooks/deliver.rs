//! Who delivers: for each endpoint one task, which sends one batch after the other.
//!
//! **Invariant:** a batch is left behind only when the receiver has taken it or it is
//! among the dead letters. So each event arrives at least once, in its order.
//!
//! **Invariant:** an endpoint has one server that delivers to it. Whoever takes its
//! place has changed the endpoint's note, and what the other does to it comes to nothing.
//!
//! **Invariant:** endpoints share nothing but the feed: none waits for another.

use super::batch::{self, Next};
use super::client::{Answer, Letter, Line, Sender};
use super::record::{Batch, DeadLetter, Endpoint, Holder, Pending};
use super::{Webhooks, shelf};
use crate::app::Shared;
use crate::extract::hex;
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, Result};
use hongbao_engine::types::{BatchId, Timestamp, WebhookId};
use hyper::StatusCode;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How often it is looked whether somebody else has changed something, or the time has come.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is noted how far an endpoint is of which nothing was sent.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// How long events are gathered that come after a while without any.
const GATHER: Duration = Duration::from_millis(20);
/// The longest that a receiver may ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// The most characters of a reason that are kept.
const WHY_CHARS_MAX: usize = 300;

/// Delivers to every endpoint until the server stops.
pub async fn deliver<B: Backend>(server: Shared<B>) {
    if server.webhooks.sender.allowed.is_empty() {
        let kept = shelf::endpoints(&server).await.map_or(0, |endpoints| endpoints.len());
        if kept > 0 {
            tracing::warn!(kept, "webhooks are not sent: start the server with --webhook-allow HOST[:PORT]");
        }
        return;
    }
    let mut workers: HashMap<WebhookId, JoinHandle<()>> = HashMap::new();
    let mut changed = server.webhooks.changed.subscribe();
    loop {
        changed.mark_unchanged();
        match shelf::endpoints(&server).await {
            Ok(endpoints) => {
                workers.retain(|_, worker| !worker.is_finished());
                for (id, _) in &endpoints {
                    workers.entry(*id).or_insert_with(|| tokio::spawn(Worker::new(server.clone(), *id).run()));
                }
                server.webhooks.count(&endpoints, server.backend.now());
            }
            Err(error) => tracing::debug!(%error, "the webhooks could not be read"),
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = sleep(LOOK_EVERY) => {}
            () = server.stop.cancelled() => break,
        }
    }
    for (_, worker) in workers {
        let _ = worker.await;
    }
}

/// What a worker does next.
enum Step {
    /// Looks again at once.
    Again,
    /// Looks again after so long, or when something has changed.
    Wait(Duration),
    /// The same, or when there are more events.
    WaitForEvents,
    /// Ends: there is no such endpoint any more.
    End,
}

/// How far there was nothing to be sent.
struct Position {
    behind: String,
    types: Option<Vec<String>>,
    rewinds: u32,
    until: String,
}

impl Position {
    /// Whether it is still so: whoever wants other types, or all of it again, may find something.
    fn is_of(&self, endpoint: &Endpoint) -> bool {
        (&self.behind, &self.types, self.rewinds) == (&endpoint.cursor, &endpoint.types, endpoint.rewinds)
    }
}

pub(super) struct Worker<B> {
    pub(super) server: Shared<B>,
    pub(super) id: WebhookId,
    line: Line,
    /// While it waits for events: what wakes it.
    pulse: Option<watch::Receiver<u64>>,
    /// Behind a noted cursor, how far there was nothing to be sent of what was wanted then.
    position: Option<Position>,
    noted_at: Instant,
    /// Another server that delivers, and since when it has not stirred.
    pub(super) other: Option<(Holder, Instant)>,
    pub(super) beat_at: Instant,
    /// When what failed is tried again at the latest, whatever the engine's clock says.
    retry_at: Option<Instant>,
}

impl<B: Backend> Worker<B> {
    fn new(server: Shared<B>, id: WebhookId) -> Worker<B> {
        let (now, line) = (Instant::now(), Line::default());
        Worker {
            server,
            id,
            line,
            pulse: None,
            position: None,
            noted_at: now,
            other: None,
            beat_at: now,
            retry_at: None,
        }
    }

    async fn run(mut self) {
        let stop = self.server.stop.clone();
        let mut changed = self.webhooks().changed.subscribe();
        while !stop.is_cancelled() {
            if let Some(pulse) = &mut self.pulse {
                pulse.mark_unchanged();
            }
            changed.mark_unchanged();
            let (wait, for_events) = match self.step().await {
                Ok(Step::Again) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(Step::Wait(wait)) => (wait, false),
                // It looks once more before it waits, as it was not told of what came before.
                Ok(Step::WaitForEvents) if self.pulse.is_none() => {
                    self.pulse = Some(self.server.pulse.follow(&self.server));
                    continue;
                }
                Ok(Step::WaitForEvents) => (LOOK_EVERY, true),
                Ok(Step::End) => return,
                Err(error) => {
                    tracing::debug!(%error, id = %self.id, "a webhook waits for the engine");
                    (LOOK_EVERY, false)
                }
            };
            if !for_events {
                // Whoever follows has the engine asked all the time.
                self.pulse = None;
            }
            tokio::select! {
                () = more(&mut self.pulse) => {}
                _ = changed.changed() => {}
                () = sleep(wait.min(LOOK_EVERY)) => {}
                () = stop.cancelled() => {}
            }
        }
        self.release().await;
    }

    pub(super) fn webhooks(&self) -> &Webhooks {
        &self.server.webhooks
    }

    fn now(&self) -> Timestamp {
        self.server.backend.now()
    }

    async fn step(&mut self) -> Result<Step> {
        let Some(endpoint) = shelf::endpoint(&self.server, self.id).await? else { return Ok(Step::End) };
        if !self.holds(&endpoint).await? || endpoint.disabled.is_some() {
            return Ok(Step::Wait(LOOK_EVERY));
        }
        if endpoint.dead > 0 {
            let letters = shelf::dead(&self.server, self.id).await?;
            if let Some(letter) = letters.into_iter().find(|letter| letter.redeliver) {
                return self.redeliver(&endpoint, letter).await;
            }
        }
        let Some(pending) = &endpoint.pending else { return self.advance(&endpoint).await };
        let wait_ms = pending.next_at_ms.saturating_sub(self.now().ms());
        if wait_ms > 0 && self.retry_at.is_none_or(|at| Instant::now() < at) {
            return Ok(Step::Wait(Duration::from_millis(wait_ms)));
        }
        self.attempt(&endpoint, pending).await
    }

    async fn next(&self, endpoint: &Endpoint, after: &str) -> Result<Next> {
        batch::next(&*self.server.backend, self.server.currency, self.id, endpoint, after).await
    }

    /// Notes the batch that comes next, if there is one.
    async fn advance(&mut self, endpoint: &Endpoint) -> Result<Step> {
        let noted = self.position.take().filter(|noted| noted.is_of(endpoint));
        let after = noted.map_or_else(|| endpoint.cursor.clone(), |noted| noted.until);
        // What was found is what is wanted, unless that has changed meanwhile.
        let fits = |it: &Endpoint| {
            let is_as_wanted = it.types == endpoint.types && it.rewinds == endpoint.rewinds;
            it.pending.is_none() && it.cursor == endpoint.cursor && is_as_wanted
        };
        let (position, step) = match self.next(endpoint, &after).await {
            Ok(Next::Batch(batch)) => {
                let now = self.now();
                self.change(|it| fits(it).then(|| it.pending = Some(Pending::new(batch.clone(), now)))).await?;
                return Ok(Step::Again);
            }
            Ok(Next::Nothing(position)) => (position, Step::WaitForEvents),
            Ok(Next::Others(position)) => (position, Step::Again),
            Err(EngineError::CursorGone { oldest }) => {
                self.lose(endpoint, None, &hex(&oldest)).await?;
                return Ok(Step::Again);
            }
            Err(error @ (EngineError::Cursor | EngineError::EventsOff(_))) => return self.note_error(error).await,
            Err(error) => return Err(error),
        };
        if self.noted_at.elapsed() >= NOTE_EVERY && position != endpoint.cursor {
            self.noted_at = Instant::now();
            self.change(|it| fits(it).then(|| it.cursor.clone_from(&position))).await?;
        } else {
            let Endpoint { cursor: behind, types, rewinds, .. } = endpoint.clone();
            self.position = Some(Position { behind, types, rewinds, until: position });
        }
        Ok(step)
    }

    /// Sends what is pending, and notes what became of it.
    async fn attempt(&mut self, endpoint: &Endpoint, pending: &Pending) -> Result<Step> {
        let (batch, pace) = (&pending.batch, self.webhooks().pace);
        if pending.was_tried_for(pace.give_up_after, self.now()) {
            // Whoever gave it up was interrupted before the endpoint went on.
            let mut letters = shelf::dead(&self.server, self.id).await?.into_iter();
            if let Some(letter) = letters.find(|letter| letter.batch.id == batch.id && !letter.gone) {
                self.bury(batch, letter.attempts, letter.why, false, &batch.until).await?;
                return Ok(Step::Again);
            }
        }
        let body = batch::body(&*self.server.backend, self.server.currency, self.id, endpoint, batch).await;
        let body = match body {
            Ok(body) => body,
            Err(EngineError::CursorGone { oldest }) => {
                self.lose(endpoint, Some(pending), &hex(&oldest)).await?;
                return Ok(Step::Again);
            }
            Err(error @ (EngineError::Cursor | EngineError::EventsOff(_))) => return self.note_error(error).await,
            Err(error) => return Err(error),
        };
        let Some(answer) = self.send(endpoint, &batch.id, body).await? else { return Ok(Step::Wait(LOOK_EVERY)) };
        let now = self.now();
        self.retry_at = None;
        match outcome(answer) {
            Outcome::Taken => {
                self.webhooks().delivered.increment(batch.events as u64);
                // The next is noted with it, so that a batch costs one write. Why there is none is found out later.
                let next = self.next(endpoint, &batch.until).await;
                let next = next.ok().and_then(|next| if let Next::Batch(batch) = next { Some(batch) } else { None });
                let taken = |it: &mut Endpoint| {
                    let is_it = it.pending.as_ref().is_some_and(|pending| pending.batch == *batch);
                    is_it.then(|| {
                        leave_behind(it, batch, now);
                        it.pending =
                            next.clone().filter(|next| next.types == it.types).map(|next| Pending::new(next, now));
                    })
                };
                self.noted(|| self.change(taken)).await?;
            }
            Outcome::Gone => {
                self.webhooks().failed.increment(1);
                let why = "the receiver answered 410 Gone; enable it again with PATCH once it takes events";
                tracing::warn!(id = %self.id, "a webhook was disabled: {why}");
                // Where it goes by now has not said so.
                self.change(|it| {
                    (it.url == endpoint.url).then(|| {
                        it.note_error("410 Gone".to_owned(), now);
                        it.disabled = Some(why.to_owned());
                    })
                })
                .await?;
            }
            Outcome::Failed(why, retry_after) => {
                self.webhooks().failed.increment(1);
                if pending.was_tried_for(pace.give_up_after, now) {
                    let attempts = pending.attempts + 1;
                    self.bury(batch, attempts, why, false, &batch.until).await?;
                    return Ok(Step::Again);
                }
                let wait = pace.backoff(pending.attempts).max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
                self.retry_at = Some(Instant::now() + wait);
                self.change(|it| {
                    let is_elsewhere = it.url != endpoint.url;
                    let own = it.pending.as_mut().filter(|pending| pending.batch == *batch && !is_elsewhere)?;
                    own.attempts += 1;
                    own.next_at_ms = now.ms() + wait.as_millis() as u64;
                    it.note_error(why.clone(), now);
                    Some(())
                })
                .await?;
            }
        }
        Ok(Step::Again)
    }

    /// Sends a dead letter once more.
    async fn redeliver(&mut self, endpoint: &Endpoint, letter: DeadLetter) -> Result<Step> {
        let batch = &letter.batch;
        let body = batch::body(&*self.server.backend, self.server.currency, self.id, endpoint, batch).await;
        let outcome = match body {
            Ok(body) => match self.send(endpoint, &batch.id, body).await? {
                Some(answer) => Some(outcome(answer)),
                None => return Ok(Step::Wait(LOOK_EVERY)),
            },
            Err(EngineError::CursorGone { .. }) => None,
            // It will be so tomorrow, and what comes next waits behind it.
            Err(error @ (EngineError::Cursor | EngineError::EventsOff(_))) => {
                Some(Outcome::Failed(error.to_string(), None))
            }
            Err(error) => return Err(error),
        };
        let now = self.now();
        let told = |letters: &mut Vec<DeadLetter>| {
            let Some(at) = letters.iter().position(|other| other.batch.id == batch.id) else { return false };
            letters[at].redeliver = false;
            match &outcome {
                Some(Outcome::Taken) => drop(letters.remove(at)),
                Some(Outcome::Gone) => {
                    letters[at].attempts += 1;
                    "410 Gone".clone_into(&mut letters[at].why);
                }
                Some(Outcome::Failed(why, _)) => {
                    letters[at].attempts += 1;
                    letters[at].why.clone_from(why);
                }
                None => letters[at].gone = true,
            }
            true
        };
        let left = self.noted(|| shelf::update_dead(&self.server, self.id, told)).await?.len();
        match &outcome {
            Some(Outcome::Taken) => self.webhooks().delivered.increment(batch.events as u64),
            Some(_) => self.webhooks().failed.increment(1),
            None => {}
        }
        let counted = |it: &mut Endpoint| {
            it.dead = left;
            match &outcome {
                Some(Outcome::Taken) => it.last_success_at_ms = Some(now.ms()),
                Some(Outcome::Failed(why, _)) => it.note_error(why.clone(), now),
                Some(Outcome::Gone) => it.note_error("410 Gone".to_owned(), now),
                None => {}
            }
            Some(())
        };
        self.noted(|| self.change(counted)).await?;
        Ok(Step::Again)
    }

    /// Goes on behind what is not kept any more.
    async fn lose(&mut self, endpoint: &Endpoint, pending: Option<&Pending>, oldest: &str) -> Result<()> {
        let unknown = || Batch {
            id: BatchId::from_bytes(rand::random()).to_string(),
            after: endpoint.cursor.clone(),
            until: oldest.to_owned(),
            events: 0,
            types: endpoint.types.clone(),
            first_at_ms: self.now().ms(),
        };
        let (batch, attempts) = pending.map_or_else(|| (unknown(), 0), |it| (it.batch.clone(), it.attempts));
        let why = "events that were not delivered yet are not kept any more; bring what depends on them up to date by other reads";
        self.bury(&batch, attempts, why.to_owned(), true, oldest).await
    }

    /// Puts a batch among the dead letters, and goes on behind it.
    async fn bury(&mut self, batch: &Batch, attempts: u32, why: String, gone: bool, until: &str) -> Result<()> {
        let now = self.now();
        let letter = DeadLetter {
            batch: batch.clone(),
            attempts,
            died_at_ms: now.ms(),
            why: why.clone(),
            gone,
            redeliver: false,
        };
        // Before the endpoint goes on, so that it is nowhere forgotten.
        let buried = |letters: &mut Vec<DeadLetter>| {
            let is_new = letters.iter().all(|other| other.batch.id != letter.batch.id);
            if is_new {
                letters.push(letter.clone());
            }
            is_new
        };
        let left = self.noted(|| shelf::update_dead(&self.server, self.id, buried)).await?.len();
        self.webhooks().dead.increment(1);
        tracing::warn!(id = %self.id, batch = batch.id, events = batch.events, why, "a webhook's batch is a dead letter");
        let left_behind = |it: &mut Endpoint| {
            let is_it = it.pending.as_ref().is_none_or(|pending| pending.batch == *batch);
            is_it.then(|| {
                until.clone_into(&mut it.cursor);
                (it.pending, it.dead) = (None, left);
                it.note_error(why.clone(), now);
            })
        };
        self.noted(|| self.change(left_behind)).await?;
        if shelf::endpoint(&self.server, self.id).await?.is_none() {
            // It was deleted in the meantime, and its dead letters before this one.
            shelf::remove(&self.server, self.id).await?;
        }
        Ok(())
    }

    /// Notes once why the feed tells nothing, and waits for somebody who does something about it.
    async fn note_error(&mut self, error: EngineError) -> Result<Step> {
        let (why, now) = (error.to_string(), self.now());
        self.change(|it| {
            let is_new = it.last_error.as_ref().is_none_or(|last| last.why != why);
            is_new.then(|| it.note_error(why.clone(), now))
        })
        .await?;
        Ok(Step::Wait(LOOK_EVERY))
    }

    /// Sends a body; `None` if the server stops, or another delivers now.
    async fn send(&mut self, endpoint: &Endpoint, id: &str, body: bytes::Bytes) -> Result<Option<Answer>> {
        let letter = Letter::signed(endpoint.signing(self.now()), id.to_owned(), body);
        let mut line = std::mem::take(&mut self.line);
        let sender: Sender = self.webhooks().sender.clone();
        let stop = self.server.stop.clone();
        let answer = {
            let sending = sender.send(&mut line, &endpoint.url, &letter);
            tokio::pin!(sending);
            loop {
                tokio::select! {
                    answer = &mut sending => break answer,
                    () = stop.cancelled() => return Ok(None),
                    () = sleep(self.webhooks().pace.beat_every()), if self.webhooks().is_shared => {
                        if !self.beat().await? {
                            return Ok(None);
                        }
                    }
                }
            }
        };
        self.line = line;
        Ok(Some(answer))
    }
}

/// Waits for events; for ever if it does not follow them.
async fn more(pulse: &mut Option<watch::Receiver<u64>>) {
    match pulse {
        Some(pulse) => {
            let _ = pulse.changed().await;
            // Some more are sent together, and what comes all the time wakes it less often.
            sleep(GATHER).await;
        }
        None => std::future::pending().await,
    }
}

fn leave_behind(endpoint: &mut Endpoint, batch: &Batch, now: Timestamp) {
    endpoint.cursor.clone_from(&batch.until);
    endpoint.pending = None;
    endpoint.last_success_at_ms = Some(now.ms());
}

/// What an answer means for a batch.
pub(super) enum Outcome {
    /// It has arrived.
    Taken,
    /// Nothing is to be sent there any more.
    Gone,
    /// It is to be sent again, not before so long if that was said.
    Failed(String, Option<Duration>),
}

/// What an answer means.
pub(super) fn outcome(answer: Answer) -> Outcome {
    match answer {
        Answer::Status(status, _) if status.is_success() => Outcome::Taken,
        Answer::Status(StatusCode::GONE, _) => Outcome::Gone,
        Answer::Status(status, _) if status.is_redirection() => {
            Outcome::Failed(format!("{status}, which is not followed; give the endpoint its new url"), None)
        }
        Answer::Status(status, retry_after) => Outcome::Failed(status.to_string(), retry_after),
        Answer::None(why) => Outcome::Failed(why.chars().take(WHY_CHARS_MAX).collect(), None),
    }
}
