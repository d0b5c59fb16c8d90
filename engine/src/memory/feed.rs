//! The feed of the embedded engine: its own journal, read again.
//!
//! **Invariant:** what is told is durable, and nothing durable that is kept is
//! passed over: a position is that of a record, and records have no gaps.

use super::cold::store_failed;
use super::{Core, Log};
use crate::backend::Result;
use crate::erase::is_erased;
use crate::error::EngineError;
use crate::event::Record;
use crate::feed::cursor::Seal;
use crate::feed::record::{is_passed_over, told};
use crate::feed::{After, EnvelopeFacts, EventPage, EventQuery, FeedEvent, Happened};
use crate::journal::{Journal, ReadError};
use crate::types::{EnvelopeId, Lsn, Timestamp};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// So much of the journal is looked at for one page.
const PAGE_BYTES: usize = 1 << 20;
/// What cursors of this feed are sealed as.
const KIND: u8 = 1;
/// All that a record tells was told.
const WHOLE: u32 = u32::MAX;

/// A place in the journal: behind so much of what the record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    lsn: u64,
    /// What the record tells, below this number, was told.
    told: u32,
    /// Of the record's bytes, or 0 if it was not read: after a restore another
    /// record may stand there.
    checksum: u32,
}

impl Position {
    fn before(lsn: Lsn) -> Position {
        Position { lsn: lsn.0 - 1, told: WHOLE, checksum: 0 }
    }

    /// As a cursor of this history.
    fn seal(self, seal: &Seal, history: u32) -> Vec<u8> {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.lsn.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.told.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[16..].copy_from_slice(&history.to_le_bytes());
        // The first history's are as short as they were before there could be others.
        seal.seal(KIND, if history == 0 { &bytes[..16] } else { &bytes })
    }

    /// A cursor's, and of which history it is.
    fn open(seal: &Seal, cursor: &[u8]) -> Option<(Position, u32)> {
        let bytes = seal.open(KIND, cursor)?;
        let (lsn, rest) = bytes.split_first_chunk()?;
        let (told, rest) = rest.split_first_chunk()?;
        let (checksum, history) = rest.split_first_chunk()?;
        let history = if history.is_empty() { 0 } else { u32::from_le_bytes(history.try_into().ok()?) };
        let [told, checksum] = [*told, *checksum].map(u32::from_le_bytes);
        Some((Position { lsn: u64::from_le_bytes(*lsn), told, checksum }, history))
    }
}

impl Core {
    fn journal(&self) -> Result<&Journal> {
        match &self.log {
            Log::Journal(journal) => Ok(journal),
            Log::Off(_) => {
                Err(EngineError::NotReady("events need a journal: open the engine with a directory".to_owned()))
            }
        }
    }

    pub(super) fn events(&self, query: &EventQuery) -> Result<EventPage> {
        let journal = self.journal()?;
        let durable = journal.durable_lsn();
        let current = self.histories.current();
        let gone =
            || EngineError::CursorGone { oldest: Position::before(journal.oldest_lsn()).seal(&self.seal, current) };
        let (from, history) = match &query.after {
            After::Oldest => (Position::before(journal.oldest_lsn()), current),
            After::Now => {
                let now = Position { checksum: checksum_of(journal, durable), ..Position::before(durable.next()) };
                (now, current)
            }
            After::Cursor(cursor) => Position::open(&self.seal, cursor).ok_or(EngineError::Cursor)?,
        };
        let until = query.until.as_ref().map(|cursor| Position::open(&self.seal, cursor).ok_or(EngineError::Cursor));
        let until = until.transpose()?.map(|(until, _)| until);
        if query.limit == 0 {
            return Ok(EventPage { events: Vec::new(), next: from.seal(&self.seal, history), is_end: false });
        }
        if from.lsn > durable.0 || !self.histories.has(history, Lsn(from.lsn)) {
            // It was told by what a restore has replaced.
            return Err(gone());
        }
        // What it told last is read again, for its rest or to compare it, unless nothing of it is needed and it is gone.
        let reads_last = from.told != WHOLE || from.checksum != 0 && from.lsn >= journal.oldest_lsn().0;
        let (events, facts) = (Vec::new(), HashMap::new());
        let mut page = Page { core: self, query, from, until, at: from, is_up_to_until: false, events, facts };
        let mut failed = Ok(());
        let first = Lsn(if reads_last { from.lsn } else { from.lsn + 1 });
        let next = journal.read(first, PAGE_BYTES, &mut |lsn, bytes| match page.take(lsn, bytes) {
            Ok(flow) => flow,
            Err(why) => {
                failed = Err(why);
                ControlFlow::Break(())
            }
        });
        let next = next.map_err(|error| match error {
            ReadError::Gone { .. } => gone(),
            ReadError::File { .. } => EngineError::Store(error.to_string()),
        })?;
        match failed {
            Ok(()) => {}
            Err(Stop::Replaced) => return Err(gone()),
            Err(Stop::Failed(error)) => return Err(error),
        }
        let is_end = page.is_up_to_until || next > durable && page.at.told == WHOLE;
        Ok(EventPage { events: page.events, next: page.at.seal(&self.seal, current), is_end })
    }

    /// The last record of which events can be told, once that is above `mark`.
    pub(super) async fn more_events(&self, mark: u64) -> Result<u64> {
        let journal = self.journal()?;
        self.wait(Some(Lsn(mark).next())).await?;
        Ok(journal.durable_lsn().0)
    }

    /// What never changes of an envelope, live or not.
    fn envelope_facts(&self, id: EnvelopeId) -> Result<EnvelopeFacts> {
        let live = {
            let shard = self.shards[self.router.envelope(id)].lock();
            shard.envelopes.get(&id).map(|envelope| EnvelopeFacts::of(&envelope.created))
        };
        if let (None, Some(durable)) = (&live, &self.durable) {
            let row = durable.store.envelope(id).map_err(store_failed)?;
            return row.map(|row| EnvelopeFacts::of(&row.created)).ok_or_else(|| {
                EngineError::Store(format!(
                    "the journal tells of {id} and the store has no such envelope; run `hongbao audit`"
                ))
            });
        }
        live.ok_or_else(|| EngineError::NotReady("events need a store: open the engine with a directory".to_owned()))
    }

    /// Lets the journal forget what is older than events are kept.
    pub(super) fn forget_events(&self) {
        let Log::Journal(journal) = &self.log else { return };
        let Some(second) = journal.second_kept_lsn() else { return };
        let known = &mut *self.housekeeping.second_kept.lock();
        if known.is_none_or(|(lsn, _)| lsn != second) {
            let mut at = None;
            let read = journal.read(second, 1, &mut |_, bytes| {
                at = Record::decode(bytes).ok().map(|record| record.at);
                ControlFlow::Break(())
            });
            *known = read.ok().and(at).map(|at| (second, at));
        }
        if let Some((second, at)) = *known
            && at.plus_s(self.events_kept_s) <= self.clock.now()
        {
            journal.forget_below(second);
        }
    }
}

/// Of a record's bytes; 0 if it cannot be read.
fn checksum_of(journal: &Journal, lsn: Lsn) -> u32 {
    let mut checksum = 0;
    let read = journal.read(lsn, 1, &mut |_, bytes| {
        checksum = crc32c::crc32c(bytes);
        ControlFlow::Break(())
    });
    if read.is_ok() { checksum } else { 0 }
}

/// A page being made.
struct Page<'a> {
    core: &'a Core,
    query: &'a EventQuery,
    from: Position,
    /// How far it may come.
    until: Option<Position>,
    /// How far it has come.
    at: Position,
    /// Whether that is as far as it may.
    is_up_to_until: bool,
    events: Vec<FeedEvent>,
    /// What was looked up for it.
    facts: HashMap<EnvelopeId, EnvelopeFacts>,
}

/// Why a page is not made.
enum Stop {
    /// Another record stands where the cursor was.
    Replaced,
    Failed(EngineError),
}

impl Page<'_> {
    fn take(&mut self, lsn: Lsn, bytes: &[u8]) -> std::result::Result<ControlFlow<()>, Stop> {
        let checksum = crc32c::crc32c(bytes);
        let told_before = if lsn.0 == self.from.lsn { self.from.told } else { 0 };
        // The same record without its texts is still the one that was told.
        let is_other = self.from.checksum != 0 && self.from.checksum != checksum;
        if lsn.0 == self.from.lsn && is_other && !is_erased(bytes) {
            return Err(Stop::Replaced);
        }
        let until = self.until.filter(|until| until.lsn <= lsn.0);
        self.is_up_to_until = until.is_some();
        if until.is_some_and(|until| until.lsn < lsn.0) {
            return Ok(ControlFlow::Break(()));
        }
        let flow = if self.is_up_to_until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let told_until = until.map_or(WHOLE, |until| until.told);
        self.at = Position { lsn: lsn.0, told: told_until, checksum };
        if told_before == WHOLE || is_passed_over(bytes, self.query.types) {
            return Ok(flow);
        }
        let unreadable = |error| Stop::Failed(EngineError::Store(format!("record {} of the journal: {error}", lsn.0)));
        let record = Record::decode(bytes).map_err(unreadable)?;
        for (number, event) in record.events.iter().enumerate() {
            let mut found = Vec::new();
            let facts = |id| Page::facts(&mut self.facts, self.core, id);
            told(number as u32, event, record.at, self.query.types, facts, |number, what| found.push((number, what)))
                .map_err(Stop::Failed)?;
            for (number, mut what) in found {
                if (told_before..told_until).contains(&number) && self.is_seen(what.owner()) {
                    if let Happened::Created(view) = &mut what {
                        let (unkept, _) = self.core.unkept(view.id).map_err(Stop::Failed)?;
                        unkept.put(view);
                    }
                    if let Happened::Gift(gift) | Happened::GiftRedacted(gift) = &mut what {
                        gift.tell(self.core.gift_redaction(gift.id).map_err(Stop::Failed)?.0);
                    }
                    let after = Position { lsn: lsn.0, told: number + 1, checksum };
                    self.push(after, number, record.at, what);
                    if self.events.len() == self.query.limit {
                        self.at = after;
                        self.is_up_to_until = until == Some(after);
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(flow)
    }

    fn facts(known: &mut HashMap<EnvelopeId, EnvelopeFacts>, core: &Core, id: EnvelopeId) -> Result<EnvelopeFacts> {
        if let Some(facts) = known.get(&id) {
            return Ok(facts.clone());
        }
        let facts = core.envelope_facts(id)?;
        known.insert(id, facts.clone());
        Ok(facts)
    }

    fn is_seen(&self, owner: Option<&str>) -> bool {
        self.query.owner.as_deref().is_none_or(|wanted| owner == Some(wanted))
    }

    fn push(&mut self, after: Position, number: u32, at: Timestamp, what: Happened) {
        let seal = &self.core.seal;
        let id = seal.id(&[&after.lsn.to_le_bytes(), &number.to_le_bytes()], at);
        self.events.push(FeedEvent { id, at, what, cursor: after.seal(seal, self.core.histories.current()) });
    }
}
