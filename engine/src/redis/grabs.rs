//! Grabs: all that wait for an envelope, or an item, are decided in one run.
//!
//! Where one server has all buckets, the run also does what an envelope's grab
//! causes in its user's bucket; in a Cluster that is carried behind it (see `effects`).

use super::backend::{Core, Keep, Operation, Result};
use super::commands::{ATTEMPTS_MAX, decided_all_the_same, refusal_or_no, won};
use super::lane::Words;
use super::layout::{Key, is_mass};
use super::memos::Verdict;
use super::reply::{Answer, Decided, Told, damaged};
use super::script::CALLS_MAX;
use super::scripts::{GRAB, GRAB_ITEM};
use crate::backend::Reply;
use crate::command::{Command, Outcome};
use crate::error::EngineError;
use crate::types::{EnvelopeId, ItemId, Timestamp, UserId};
use futures_util::stream::{self, StreamExt};
use redis::Value;
use std::collections::HashMap;
use std::pin::pin;

/// Envelopes, or pools, of one batch that are grabbed from at once.
const GRABBED_AT_ONCE: usize = 128;

impl Core {
    /// Decides independent commands and answers in their order. Grabs of one
    /// envelope are decided in their order, up to 64 in one run, those of a mass
    /// envelope, whose users have pools of their own, user by user; those of
    /// different ones at once; then whatever else there is.
    pub(super) async fn execute_all(&self, commands: &[Command]) -> Vec<Result<Reply>> {
        let mut grabs: HashMap<(EnvelopeId, Option<&UserId>), Vec<(usize, &UserId)>> = HashMap::new();
        for (nth, command) in commands.iter().enumerate() {
            if let Command::Grab { envelope, user } = command {
                let pool_of = is_mass(*envelope).then_some(user);
                grabs.entry((*envelope, pool_of)).or_default().push((nth, user));
            }
        }
        let mut replies: Vec<Option<Result<Reply>>> = commands.iter().map(|_| None).collect();
        let grabbed: Vec<_> = grabs.iter().map(|((id, _), grabs)| self.grab_in_turn(*id, grabs)).collect();
        let mut grabbed = pin!(stream::iter(grabbed).buffer_unordered(GRABBED_AT_ONCE));
        while let Some(told) = grabbed.next().await {
            told.into_iter().for_each(|(nth, reply)| replies[nth] = Some(reply));
        }
        let mut all = Vec::with_capacity(commands.len());
        for (command, reply) in commands.iter().zip(replies) {
            all.push(match reply {
                Some(reply) => reply,
                None => self.execute(command, None).await,
            });
        }
        all
    }

    /// Decides grabs of one envelope in their order, and tells the place of each.
    async fn grab_in_turn(&self, id: EnvelopeId, grabs: &[(usize, &UserId)]) -> Vec<(usize, Result<Reply>)> {
        let mut told = Vec::with_capacity(grabs.len());
        if is_mass(id) {
            for (nth, user) in grabs {
                let grab = Command::Grab { envelope: id, user: (*user).clone() };
                told.push((*nth, self.execute(&grab, None).await));
            }
            return told;
        }
        for part in grabs.chunks(CALLS_MAX) {
            let users: Vec<&UserId> = part.iter().map(|(_, user)| *user).collect();
            let answered = self.grab_together(id, &users).await;
            told.extend(part.iter().map(|(nth, _)| *nth).zip(answered));
        }
        told
    }

    /// Decides a grab.
    pub(super) async fn grab(
        &self,
        command: &Command,
        id: EnvelopeId,
        user: &UserId,
        operation: &Operation,
    ) -> Result<Verdict> {
        let (mut keys, args) = (self.grab_keys(id, &[user]), self.grab_args_under(id, user, operation));
        self.mark(operation).iter().for_each(|mark| keys.push(&[mark]));
        let read_in = self.generations.get(operation.bucket);
        let told = self.run_with(operation.bucket, &GRAB, keys, args, 1).await?;
        if operation.keep == Keep::Natural {
            let (at, outcome) = self.grabbed(id, user, told, read_in).await?;
            return Ok(Verdict::Answered { outcome, at, kept: false });
        }
        let decided = Decided::read(told, read_in)?;
        let decided = self.or_archived(operation, decided, self.archived_grab(id, user)).await?;
        self.verdict(command, operation, decided).await
    }

    /// Decides grabs of one envelope in one run, in their order: at most 64.
    async fn grab_together(&self, id: EnvelopeId, users: &[&UserId]) -> Vec<Result<Reply>> {
        let (keys, args) = (self.grab_keys(id, users), self.grab_args(id, users));
        let bucket = self.layout.of_id(id.bytes());
        let read_in = self.generations.get(bucket);
        let told = match self.run_with(bucket, &GRAB, keys, args, users.len()).await {
            Ok(told) if users.len() == 1 => vec![told],
            Ok(Value::Array(told)) if told.len() == users.len() => told,
            Ok(_) => return users.iter().map(|_| Err(damaged("an answer"))).collect(),
            Err(error) => return users.iter().map(|_| Err(error.clone())).collect(),
        };
        let grabbed = users.iter().zip(told).map(|(user, told)| self.grabbed_among(id, user, told, read_in));
        let grabbed: Vec<_> = grabbed.collect();
        let mut grabbed = pin!(stream::iter(grabbed).buffered(CALLS_MAX));
        let mut replies = Vec::with_capacity(users.len());
        while let Some(told) = grabbed.next().await {
            replies.push(told.map(|(_, outcome)| Reply { outcome, replayed: false }));
        }
        replies
    }

    /// What it says about one of many. One that failed is asked for alone: whatever
    /// is said then counts.
    async fn grabbed_among(
        &self,
        id: EnvelopeId,
        user: &UserId,
        told: Value,
        read_in: u64,
    ) -> Result<(Timestamp, Outcome)> {
        let told = match told {
            Value::ServerError(_) => {
                let (keys, args) = (self.grab_keys(id, &[user]), self.grab_args(id, &[user]));
                self.run_with(self.layout.of_id(id.bytes()), &GRAB, keys, args, 1).await?
            }
            told => told,
        };
        self.grabbed(id, user, told, read_in).await
    }

    /// What `grab.lua` says about one grab, once all it causes is where it belongs.
    /// `read_in`: of the effect that it may have left, see `Effect`.
    async fn grabbed(&self, id: EnvelopeId, user: &UserId, told: Value, read_in: u64) -> Result<(Timestamp, Outcome)> {
        let text = match told {
            Value::BulkString(text) => text,
            other => return Answer::of_script(other).and_then(|_| Err(damaged("a grab's answer"))),
        };
        let answer = Answer::split(text, 10);
        if answer.tag() == b"no"
            && answer.maybe(1) == Some(b"not_found")
            && let Some(archived) = self.archived_grab(id, user).await?
        {
            let at = self.clock.now();
            let outcome = if archived.tag() == b"won" { won(at, &archived)? } else { refusal_or_no(&archived)? };
            return Ok((at, outcome));
        }
        if answer.tag() != b"won" {
            return Ok((self.clock.now(), refusal_or_no(&answer)?));
        }
        if let Some(waits @ (b"1" | b"x")) = answer.maybe(8) {
            let amount = if id.is_auto_claim() { Some(answer.amount(1)?) } else { None };
            self.enter_grab(id, user, answer.at(3)?, amount, waits == b"x", read_in)
                .await
                .map_err(decided_all_the_same)?;
            let field = [b"g", &id.bytes()[..], user.as_str().as_bytes()].concat();
            self.leave(self.layout.of_id(id.bytes()), field);
        }
        let at = answer.at(9)?;
        Ok((at, won(at, &answer)?))
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
            let decided = match self.run_with(operation.bucket, &GRAB_ITEM, keys, args, 1).await? {
                Value::BulkString(text) => decided_alone(text)?,
                told => Decided::read(told, 0)?,
            };
            if let Some(decided) = self.in_the_way(decided, operation.bucket).await? {
                return Ok(decided);
            }
        }
        Err(EngineError::Overloaded)
    }

    fn grab_keys(&self, id: EnvelopeId, users: &[&UserId]) -> Words {
        // What a claim makes outside goes by the outbox.
        let may_make_payouts = id.is_auto_claim() && id.may_pay_outside();
        self.layout.grabs(id, if self.nodes.buckets_mix() && !may_make_payouts { users } else { &[] })
    }

    pub(super) fn grab_args(&self, id: EnvelopeId, users: &[&UserId]) -> Words {
        let [now, mode] = self.preamble();
        let mut args = Words::with_capacity(64 + 32 * users.len());
        args.push(&[&now]);
        args.push(&[&mode]);
        args.push(&[id.bytes()]);
        users.iter().for_each(|user| args.push(&[user.as_str().as_bytes()]));
        args
    }

    /// The arguments of one grab under an operation.
    fn grab_args_under(&self, id: EnvelopeId, user: &UserId, operation: &Operation) -> Words {
        let mut args = self.grab_args(id, &[user]);
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
    pub(super) fn mark(&self, operation: &Operation) -> Option<Key> {
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
