//! What scripts answer, read into words.
//!
//! **Invariant:** an answer of another form than the script gives is an error
//! that says so, never a guess: money is read here.

use super::bucket::Bucket;
use crate::command::{EndedAs, MerchantStatus};
use crate::error::EngineError;
use crate::types::{Amount, Timestamp, UserId};
use redis::Value;
use smallvec::SmallVec;

type Result<T> = std::result::Result<T, EngineError>;

/// What a deciding script says: see `scripts/lua/decide.lua`.
pub(super) enum Decided {
    /// It was decided now.
    New(Told),
    /// It had been decided at the time told.
    Kept(Told),
    /// The operation may not be decided any more.
    Void,
}

/// An answer, when it was given, and what it caused elsewhere.
pub(super) struct Told {
    pub(super) at: Timestamp,
    pub(super) answer: Answer,
    pub(super) effects: Vec<Effect>,
}

/// Something that another bucket has to get.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) field: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// A generation of its bucket that was confirmed before it was read. Who knows
    /// none says 0, and may be sent back to look again.
    pub(super) read_in: u64,
}

/// The words of an answer, one behind the other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    text: Vec<u8>,
    /// Where each lies in the text, if it is there at all.
    words: SmallVec<[Option<(u32, u32)>; 10]>,
}

pub(super) fn damaged(what: &str) -> EngineError {
    EngineError::Backend(format!("{what} is not of a form this version knows"))
}

impl Decided {
    /// `read_in`: see [`Effect`].
    pub(super) fn read(value: Value, read_in: u64) -> Result<Decided> {
        let mut parts = parts(value)?.into_iter();
        let mut next = || parts.next().ok_or_else(|| damaged("a decision"));
        let how = word(next()?)?.unwrap_or_default();
        match &*how {
            b"void" => return Ok(Decided::Void),
            b"clock" => return Err(clocks_apart(&word(next()?)?.unwrap_or_default())),
            _ => {}
        }
        let at = Answer::read(Value::Array(vec![next()?]))?.at(0)?;
        let answer = Answer::read(next()?)?;
        let effects = effects(next()?, read_in)?;
        let told = Told { at, answer, effects };
        match &*how {
            b"new" => Ok(Decided::New(told)),
            b"kept" => Ok(Decided::Kept(told)),
            _ => Err(damaged("a decision")),
        }
    }
}

impl Effect {
    /// What kind of effect it is.
    pub(super) fn kind(&self) -> u8 {
        self.field.first().copied().unwrap_or_default()
    }

    /// The id that follows the kind.
    pub(super) fn id(&self) -> Result<[u8; 16]> {
        self.field.get(1..17).and_then(|id| id.try_into().ok()).ok_or_else(|| damaged("an effect's id"))
    }

    /// The pool of a transfer.
    pub(super) fn pool(&self) -> Result<Bucket> {
        let pool = self.field.get(17..19).and_then(|pool| pool.try_into().ok());
        pool.map(|pool| Bucket::new(u16::from_le_bytes(pool))).ok_or_else(|| damaged("a transfer"))
    }

    /// The words of its value: the time, the kind, the amount, whose, and the rest.
    pub(super) fn words(&self) -> Result<(Timestamp, Answer)> {
        let answer = Answer::split(self.value.clone(), 5);
        Ok((answer.at(0)?, answer))
    }
}

impl Answer {
    pub(super) fn read(value: Value) -> Result<Answer> {
        let mut answer = Answer::default();
        for part in parts(value)? {
            match part {
                Value::BulkString(bytes) => answer.push(&bytes),
                Value::SimpleString(text) => answer.push(text.as_bytes()),
                Value::Int(number) => answer.push(number.to_string().as_bytes()),
                Value::Nil => answer.words.push(None),
                _ => return Err(damaged("a word of an answer")),
            }
        }
        Ok(answer)
    }

    /// Words with spaces between them; the last of `most` is all that is left.
    pub(super) fn split(text: Vec<u8>, most: usize) -> Answer {
        let mut words = SmallVec::new();
        let mut start = 0;
        for word in text.splitn(most, |&byte| byte == b' ') {
            words.push(Some((start, start + word.len() as u32)));
            start += word.len() as u32 + 1;
        }
        Answer { text, words }
    }

    pub(super) fn push(&mut self, word: &[u8]) {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(word);
        self.words.push(Some((start, self.text.len() as u32)));
    }

    /// What a script that begins with the prelude, and decides nothing, answers.
    pub(super) fn of_script(value: Value) -> Result<Answer> {
        let answer = Answer::read(value)?;
        if answer.tag() == b"clock" {
            return Err(clocks_apart(answer.bytes(1)?));
        }
        Ok(answer)
    }

    /// The first word, which says what the answer is.
    pub(super) fn tag(&self) -> &[u8] {
        self.maybe(0).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    pub(super) fn maybe(&self, index: usize) -> Option<&[u8]> {
        let (start, end) = (*self.words.get(index)?)?;
        Some(&self.text[start as usize..end as usize])
    }

    pub(super) fn bytes(&self, index: usize) -> Result<&[u8]> {
        self.maybe(index).ok_or_else(|| damaged("an answer"))
    }

    pub(super) fn text(&self, index: usize) -> Result<&str> {
        std::str::from_utf8(self.bytes(index)?).map_err(|_| damaged("a text"))
    }

    pub(super) fn number(&self, index: usize) -> Result<u64> {
        self.text(index)?.parse().map_err(|_| damaged("a number"))
    }

    pub(super) fn signed(&self, index: usize) -> Result<i64> {
        self.text(index)?.parse().map_err(|_| damaged("a number"))
    }

    pub(super) fn units(&self, index: usize) -> Result<u32> {
        self.text(index)?.parse().map_err(|_| damaged("a number"))
    }

    pub(super) fn amount(&self, index: usize) -> Result<Amount> {
        Amount::new(self.number(index)?).ok_or_else(|| damaged("an amount"))
    }

    pub(super) fn at(&self, index: usize) -> Result<Timestamp> {
        self.number(index).map(Timestamp::from_ms)
    }

    /// A time, or none where nothing stands.
    pub(super) fn at_if_any(&self, index: usize) -> Result<Option<Timestamp>> {
        match self.maybe(index) {
            None | Some(b"") => Ok(None),
            Some(_) => self.at(index).map(Some),
        }
    }

    pub(super) fn flag(&self, index: usize) -> bool {
        self.maybe(index) == Some(b"1")
    }

    /// How an envelope has ended, if it has.
    pub(super) fn ended(&self, index: usize) -> Result<Option<EndedAs>> {
        match self.bytes(index)? {
            b"" => Ok(None),
            b"s" => Ok(Some(EndedAs::SoldOut)),
            b"e" => Ok(Some(EndedAs::Expired)),
            b"c" => Ok(Some(EndedAs::Cancelled)),
            _ => Err(damaged("an envelope")),
        }
    }

    pub(super) fn id(&self, index: usize) -> Result<[u8; 16]> {
        self.bytes(index)?.try_into().map_err(|_| damaged("an id"))
    }

    pub(super) fn merchant_status(&self, index: usize) -> Result<MerchantStatus> {
        match self.bytes(index)? {
            b"pending" => Ok(MerchantStatus::Pending),
            b"verified" => Ok(MerchantStatus::Verified),
            b"suspended" => Ok(MerchantStatus::Suspended),
            _ => Err(damaged("a merchant")),
        }
    }

    pub(super) fn user(&self, index: usize) -> Result<UserId> {
        UserId::new(self.text(index)?).map_err(|_| damaged("a user"))
    }
}

/// Fields and values, one after the other.
pub(super) fn effects(value: Value, read_in: u64) -> Result<Vec<Effect>> {
    let mut words = parts(value)?.into_iter();
    let mut effects = Vec::new();
    while let Some(field) = words.next() {
        match (field, words.next()) {
            (Value::BulkString(field), Some(Value::BulkString(value))) => {
                effects.push(Effect { field, value, read_in });
            }
            _ => return Err(damaged("an effect")),
        }
    }
    Ok(effects)
}

pub(super) fn parts(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(parts) => Ok(parts),
        _ => Err(damaged("an answer")),
    }
}

fn word(value: Value) -> Result<Option<Vec<u8>>> {
    match value {
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        Value::Int(number) => Ok(Some(number.to_string().into_bytes())),
        Value::Nil => Ok(None),
        _ => Err(damaged("a word of an answer")),
    }
}

/// Whether a script refused the time it was given, for one decision or for many.
pub(super) fn is_late(value: &Value) -> bool {
    match value {
        Value::Array(parts) => match parts.first() {
            Some(Value::BulkString(word)) => word == b"clock",
            Some(many @ Value::Array(_)) => is_late(many),
            _ => false,
        },
        _ => false,
    }
}

fn clocks_apart(by_ms: &[u8]) -> EngineError {
    let by_ms = String::from_utf8_lossy(by_ms);
    let remedy = "set both by NTP; until then nothing is decided here";
    EngineError::OperatorNeeded(format!("this server's clock is {by_ms} ms from that of Redis: {remedy}"))
}
