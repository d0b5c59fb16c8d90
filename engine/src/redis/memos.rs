//! Idempotency keys and references: which operation a command is.
//!
//! A key's record, in the bucket of its hash, says for which command it stands
//! (a fingerprint) and under which operation that is decided, and where. The
//! answer is kept there, with what was done and in the same step. So a key costs
//! one more step, and no engine that ends between the two leaves anything to
//! mend: whoever repeats finds the operation, and the operation its answer.
//!
//! A command that is refused leaves nothing but the record. If another wants the
//! key, the operation is made void first: whoever was about to decide it finds out.
//!
//! **Invariant:** a record is given to another command only after its operation
//! was made void, or its answer's time is over.

use super::backend::{Core, Keep, Operation, Result};
use super::bucket::Bucket;
use super::reply::{Answer, Decided, Told, damaged};
use super::scripts::{MEMO, OPERATION};
use crate::backend::{OnceKey, Reply};
use crate::command::{Command, Outcome, Refusal};
use crate::state::decide::References;
use crate::state::is_positive;
use crate::types::{EnvelopeId, Timestamp};

/// How long an answer is kept under an idempotency key, and how long a record counts whose
/// operation has no answer: less than an operation's mark is kept, as one that is not there
/// any more would be decided again.
const REMEMBER_S: u64 = 8 * 86_400;
/// So much less an answer counts that came long after its key was first used.
const LATE_S: u64 = 86_400;
/// How long a key's record is kept after it was last used: longer than the
/// answer that it leads to.
const RECORD_MS: u64 = 18 * 86_400_000;

/// What a decision under an operation came to.
pub(super) enum Verdict {
    Answered { outcome: Outcome, at: Timestamp, kept: bool },
    Void,
}

/// A key and how long it counts.
#[derive(Clone, Copy)]
struct Memo {
    key: OnceKey,
    for_ever: bool,
}

/// For which operation a record stands, and until when if that is not for ever.
enum Stands {
    /// For this one, which nobody has begun before.
    Mine,
    /// For the same command, begun before.
    Same(Operation, Option<Timestamp>),
    /// For another command.
    Other(Operation, Option<Timestamp>),
}

/// What stands under a command's references.
enum Begun {
    Operation(Operation),
    /// Another command that was answered.
    Conflict,
}

impl Core {
    /// Decides a command under its keys. Of its references the operation counts that
    /// stands under its own.
    pub(super) async fn run_keyed(
        &self,
        command: &Command,
        once: Option<OnceKey>,
        [own, funding]: References,
    ) -> Result<Reply> {
        let fingerprint = command.fingerprint(&self.fingerprint_secret);
        let once = once.map(|key| Memo { key, for_ever: false });
        let references: Vec<Memo> = funding.into_iter().chain(own).map(|key| Memo { key, for_ever: true }).collect();
        let keep = if references.is_empty() { Keep::Once } else { Keep::Ever };
        loop {
            let drawn = self.draw(command, keep);
            let mut operation = drawn;
            let mut counts_until = None;
            if let Some(memo) = once {
                match self.begin(memo, &fingerprint, &drawn).await? {
                    Stands::Mine => {}
                    Stands::Same(begun, until) => {
                        operation = begun;
                        counts_until = until;
                    }
                    Stands::Other(begun, until) => {
                        if self.is_answered(&begun, |at| until.unwrap_or(at.plus_s(REMEMBER_S))).await? {
                            return Ok(refused(Refusal::IdempotencyMismatch));
                        }
                        if !self.replace(memo, &fingerprint, &begun, &drawn, None).await? {
                            continue;
                        }
                    }
                }
            }
            let under_once = operation;
            let Some(begun) = self.begin_references(&references, &fingerprint, operation).await? else { continue };
            operation = match begun {
                Begun::Operation(begun) => begun,
                Begun::Conflict => return Ok(refused(Refusal::ReferenceConflict)),
            };
            // What was answered before is answered again, whatever would be refused by now.
            let verdict = match operation.id == drawn.id {
                true => self.decide(command, &operation).await?,
                false => match self.kept_answer(command, &operation).await? {
                    Some(verdict) => verdict,
                    None => self.decide(command, &operation).await?,
                },
            };
            match verdict {
                Verdict::Void => {
                    for &memo in once.iter().chain(&references) {
                        self.replace(memo, &fingerprint, &operation, &self.draw(command, keep), None).await?;
                    }
                }
                Verdict::Answered { outcome, at, kept } => {
                    let until = counts_until.unwrap_or(at.plus_s(REMEMBER_S));
                    let is_over = kept && self.clock.now() >= until;
                    if let Some(memo) = once
                        && references.is_empty()
                        && is_over
                    {
                        let anew = self.draw(command, keep);
                        self.replace(memo, &fingerprint, &operation, &anew, None).await?;
                        continue;
                    }
                    if let Some(memo) = once
                        && is_positive(&outcome)
                    {
                        // First answered under the reference, it counts under the key from now on;
                        // refused for days before, from its answer on.
                        let is_anew = under_once.id != operation.id || is_over;
                        let from = if is_anew { self.clock.now() } else { at };
                        let counts_until = from.plus_s(REMEMBER_S);
                        if is_anew || until.plus_s(LATE_S) < counts_until {
                            self.replace(memo, &fingerprint, &under_once, &operation, Some(counts_until)).await?;
                        }
                    }
                    return Ok(Reply { outcome, replayed: kept });
                }
            }
        }
    }

    /// The operation that stands under a command's references. `None` if somebody
    /// else has changed what does, and it has to be looked at again.
    async fn begin_references(
        &self,
        references: &[Memo],
        fingerprint: &[u8; 16],
        mut operation: Operation,
    ) -> Result<Option<Begun>> {
        for &memo in references {
            match self.begin(memo, fingerprint, &operation).await? {
                Stands::Mine => {}
                Stands::Same(begun, _) => operation = begun,
                Stands::Other(begun, _) => {
                    if self.is_answered(&begun, |_| Timestamp::from_ms(u64::MAX)).await? {
                        return Ok(Some(Begun::Conflict));
                    }
                    if !self.replace(memo, fingerprint, &begun, &operation, None).await? {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(Begun::Operation(operation)))
    }

    /// An operation that nobody has begun.
    pub(super) fn draw(&self, command: &Command, keep: Keep) -> Operation {
        let id = self.random();
        Operation { id, keep, bucket: self.home(command, &id) }
    }

    async fn begin(&self, memo: Memo, fingerprint: &[u8; 16], drawn: &Operation) -> Result<Stands> {
        let args = self.memo_args(b"begin", (memo, None), fingerprint, drawn);
        let answer = self.memo(memo, args).await?;
        let begun = || -> Result<Operation> {
            let bucket = u16::try_from(answer.number(2)?).map_err(|_| damaged("a key's record"))?;
            Ok(Operation { id: answer.id(1)?, keep: drawn.keep, bucket: Bucket::new(bucket) })
        };
        match answer.tag() {
            b"mine" => Ok(Stands::Mine),
            b"same" => Ok(Stands::Same(begun()?, answer.at_if_any(3)?)),
            b"other" => Ok(Stands::Other(begun()?, answer.at_if_any(3)?)),
            _ => Err(damaged("a key's record")),
        }
    }

    /// Lets a record stand for another operation, unless somebody else did in between.
    async fn replace(
        &self,
        memo: Memo,
        fingerprint: &[u8; 16],
        from: &Operation,
        to: &Operation,
        until: Option<Timestamp>,
    ) -> Result<bool> {
        let mut args = self.memo_args(b"replace", (memo, until), fingerprint, to);
        args.push(from.id.to_vec());
        Ok(self.memo(memo, args).await?.tag() == b"mine")
    }

    async fn memo(&self, memo: Memo, args: Vec<Vec<u8>>) -> Result<Answer> {
        let bucket = self.layout.of_id(memo.key.bytes());
        Answer::of_script(self.run(bucket, &MEMO, [self.layout.memo(memo.key)], args).await?)
    }

    /// Whether an operation has an answer that counts now: the answer's time
    /// says until when. One that has none never will.
    async fn is_answered(&self, operation: &Operation, until: impl Fn(Timestamp) -> Timestamp) -> Result<bool> {
        // A void operation is remembered as long as its record may lead to it.
        let args = [b"void".to_vec(), operation.keep.word()];
        match self.ask(&OPERATION, operation, [], args).await? {
            Decided::Kept(Told { at, .. }) => Ok(self.clock.now() < until(at)),
            Decided::New(_) | Decided::Void => Ok(false),
        }
    }

    /// The envelope whose creation is remembered under this key.
    pub(super) async fn created_under(&self, key: OnceKey) -> Result<Option<EnvelopeId>> {
        let args = ["row", "operation", "bucket"].map(|word| word.as_bytes().to_vec());
        let row = self.read(self.layout.of_id(key.bytes()), &[self.layout.memo(key)], &args).await?;
        if row.maybe(0).is_none() {
            return Ok(None);
        }
        let bucket = u16::try_from(row.number(1)?).map_err(|_| damaged("a key's record"))?;
        let operation = Operation { id: row.id(0)?, keep: Keep::Ever, bucket: Bucket::new(bucket) };
        match self.ask(&OPERATION, &operation, [], [b"peek".to_vec()]).await? {
            Decided::Kept(Told { answer, effects, .. }) if answer.tag() == b"created" => {
                self.carry(operation.bucket, effects).await?;
                answer.id(1).map(EnvelopeId::from_bytes).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The arguments of `memo.lua`; a key that stands for an operation anew counts as long
    /// as an answer, if nothing else is said.
    fn memo_args(
        &self,
        verb: &[u8],
        (memo, until): (Memo, Option<Timestamp>),
        fingerprint: &[u8; 16],
        operation: &Operation,
    ) -> Vec<Vec<u8>> {
        let kept_ms = if memo.for_ever { 0 } else { RECORD_MS };
        let until = until.or_else(|| (!memo.for_ever).then(|| self.clock.now().plus_s(REMEMBER_S)));
        vec![
            verb.to_vec(),
            fingerprint.to_vec(),
            operation.id.to_vec(),
            operation.bucket.number().to_string().into_bytes(),
            kept_ms.to_string().into_bytes(),
            until.map(|at| at.ms().to_string().into_bytes()).unwrap_or_default(),
        ]
    }

    /// What an operation begun before was answered, if it was.
    async fn kept_answer(&self, command: &Command, operation: &Operation) -> Result<Option<Verdict>> {
        match self.ask(&OPERATION, operation, [], [b"peek".to_vec()]).await? {
            Decided::New(_) => Ok(None),
            decided => self.verdict(command, operation, decided).await.map(Some),
        }
    }
}

fn refused(refusal: Refusal) -> Reply {
    Reply { outcome: Outcome::Refused(refusal), replayed: false }
}
