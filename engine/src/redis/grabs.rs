//! Grabs: all that wait for an envelope, or an item, are decided in one run.
//!
//! Where one server has all buckets, the run also does what an envelope's grab
//! causes in its user's bucket; in a Cluster that is carried behind it (see `effects`).

use super::backend::{Core, Keep, Operation, Result};
use super::commands::{ATTEMPTS_MAX, decided_all_the_same, is_no};
use super::lane::Words;
use super::layout::Key;
use super::memos::Verdict;
use super::reply::{Answer, Decided, Told, damaged};
use super::scripts::{GRAB, GRAB_ITEM};
use crate::backend::Reply;
use crate::command::Command;
use crate::error::EngineError;
use crate::types::{EnvelopeId, ItemId, Timestamp, UserId};
use futures_util::stream::{self, StreamExt};
use redis::Value;
use std::collections::HashSet;
use std::pin::pin;

/// Commands of one call that are decided at once.
const DECIDED_AT_ONCE: usize = 256;

impl Core {
    /// Decides independent commands, many at once, and answers in their order.
    /// One that is there twice is decided the second time after the first.
    pub(super) async fn execute_all(&self, commands: &[Command]) -> Vec<Result<Reply>> {
        let mut seen = HashSet::with_capacity(commands.len());
        let (mut firsts, mut others) = (Vec::with_capacity(commands.len()), Vec::new());
        for (nth, command) in commands.iter().enumerate() {
            let again = match command {
                Command::Grab { envelope, user } => !seen.insert((*envelope, user)),
                _ => true,
            };
            if again { others.push(nth) } else { firsts.push(nth) }
        }
        let mut replies: Vec<Option<Result<Reply>>> = commands.iter().map(|_| None).collect();
        let decided = firsts.into_iter().map(|nth| async move { (nth, self.execute(&commands[nth], None).await) });
        let mut decided = pin!(stream::iter(decided).buffer_unordered(DECIDED_AT_ONCE));
        while let Some((nth, reply)) = decided.next().await {
            replies[nth] = Some(reply);
        }
        for nth in others {
            replies[nth] = Some(self.execute(&commands[nth], None).await);
        }
        replies.into_iter().map(|reply| reply.expect("each was the first or another")).collect()
    }

    /// Decides a grab.
    pub(super) async fn grab(
        &self,
        command: &Command,
        id: EnvelopeId,
        user: &UserId,
        operation: &Operation,
    ) -> Result<Verdict> {
        let args = self.grab_args(id, user, operation);
        let keys = self.layout.grab(id, user, self.nodes.buckets_mix(), self.mark(operation));
        let answer = self.run_with(operation.bucket, &GRAB, keys, args).await?;
        let text = match answer {
            Value::BulkString(text) => text,
            // Under a mark the answer tells more.
            other if operation.keep != Keep::Natural => {
                return self.verdict(command, operation, Decided::read(other)?).await;
            }
            other => return Answer::of_script(other).and_then(|_| Err(damaged("a grab's answer"))),
        };
        let answer = Answer::split(text, 10);
        if answer.tag() != b"won" {
            let at = self.clock.now();
            return Ok(Verdict::Answered { outcome: self.outcome(command, at, &answer).await?, at, kept: false });
        }
        if answer.flag(8) {
            let amount = if id.is_auto_claim() { Some(answer.amount(1)?) } else { None };
            self.enter_grab(id, user, answer.at(3)?, amount).await.map_err(decided_all_the_same)?;
            self.leave(operation.bucket, [b"g", &id.bytes()[..], user.as_str().as_bytes()].concat());
        }
        let at = answer.at(9)?;
        Ok(Verdict::Answered { outcome: self.outcome(command, at, &answer).await?, at, kept: false })
    }

    /// Decides a grab of an item's units.
    pub(super) async fn grab_item(
        &self,
        item: ItemId,
        user: &UserId,
        quantity: u32,
        operation: &Operation,
    ) -> Result<Decided> {
        let mut hold = operation.id;
        hold[..2].copy_from_slice(&item.bytes()[..2]);
        for _ in 0..ATTEMPTS_MAX {
            let args = self.grab_item_args(item, &hold, user, quantity, operation);
            let keys = self.layout.grab_item(item, self.mark(operation));
            let mut decided = match self.run_with(operation.bucket, &GRAB_ITEM, keys, args).await? {
                Value::BulkString(text) => decided_alone(text)?,
                told => Decided::read(told)?,
            };
            if is_no(&decided, b"unresolved") {
                self.resolve(&mut decided, operation.bucket).await?;
            } else if !is_no(&decided, b"again") {
                return Ok(decided);
            }
        }
        Err(EngineError::Overloaded)
    }

    fn grab_args(&self, id: EnvelopeId, user: &UserId, operation: &Operation) -> Words {
        let [now, mode] = self.preamble();
        let mut args = Words::with_capacity(96);
        args.push(&[&now]);
        args.push(&[&mode]);
        args.push(&[id.bytes()]);
        args.push(&[user.as_str().as_bytes()]);
        if operation.keep != Keep::Natural {
            args.push(&[&operation.keep.word()]);
        }
        args
    }

    fn grab_item_args(
        &self,
        item: ItemId,
        hold: &[u8; 16],
        user: &UserId,
        quantity: u32,
        operation: &Operation,
    ) -> Words {
        let [now, mode] = self.preamble();
        let mut args = Words::with_capacity(128);
        args.push(&[&now]);
        args.push(&[&mode]);
        args.push(&[item.bytes()]);
        args.push(&[hold]);
        args.push(&[user.as_str().as_bytes()]);
        args.push(&[quantity.to_string().as_bytes()]);
        if operation.keep != Keep::Natural {
            args.push(&[&operation.keep.word()]);
        }
        args
    }

    /// Where an operation's answer is kept, if it is.
    fn mark(&self, operation: &Operation) -> Option<Key> {
        (operation.keep != Keep::Natural).then(|| self.layout.operation(operation.bucket, &operation.id))
    }
}

/// What `grab_item.lua` says in one line.
fn decided_alone(text: Vec<u8>) -> Result<Decided> {
    let said = Answer::split(text, 7);
    if said.tag() != b"held" {
        return Ok(Decided::New(Told { at: Timestamp::default(), answer: said, effects: Vec::new() }));
    }
    let mut answer = Answer::default();
    for index in [0, 6, 1, 2, 3, 4] {
        answer.push(said.bytes(index)?);
    }
    Ok(Decided::New(Told { at: said.at(5)?, answer, effects: Vec::new() }))
}
