//! What is told of what has left Redis: the same as Redis told before.

use super::rows::{self, Fields, Listed};
use super::{Archive, Files};
use crate::command::{EndedAs, Unclaimed};
use crate::error::EngineError;
use crate::event::EnvelopeCreated;
use crate::redis::audit::words;
use crate::redis::backend::{Core, Operation, Result};
use crate::redis::commands::{figures, is_no};
use crate::redis::reads::{EnvelopeRow, Win};
use crate::redis::reply::{Answer, Decided, Told, damaged};
use crate::redis::scripts::OPERATION;
use crate::state::envelope::Figures;
use crate::types::{EnvelopeId, UserId};
use std::sync::Arc;

/// Winners in one row of the archive.
pub(super) const WINNERS_A_ROW: usize = 64;

/// The same by envelope. Winners of a mass envelope come pool by pool, each
/// pool's in no order: one in a row, so that they stand in the order of shares.
pub(super) fn winners_a_row(id: EnvelopeId) -> usize {
    if id.is_mass() { 1 } else { WINNERS_A_ROW }
}

/// Whoever looks into the archive, if there is one.
pub(in crate::redis) type Archived = Option<Arc<Archive>>;

impl Core {
    /// Looks into the archive, beside what else goes on. `None` without one.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Files) -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        let Some(archive) = self.archive.clone() else { return Ok(None) };
        let looked = tokio::task::spawn_blocking(move || look(&archive.files()?)).await;
        looked.map_err(|_| EngineError::ShuttingDown)?.map(Some)
    }

    /// Whether there are rows under these keys.
    pub(in crate::redis) async fn are_archived(&self, keys: Vec<Vec<u8>>) -> Result<Vec<bool>> {
        let look = move |files: &Files| keys.iter().map(|key| Ok(files.get(key)?.is_some())).collect();
        Ok(self.look(look).await?.unwrap_or_default())
    }

    /// Fields of an envelope's row: from Redis, or from the archive, or, if it
    /// comes back after a failover, from Redis. Says whether it is archived.
    pub(in crate::redis) async fn envelope_fields<const N: usize>(
        &self,
        id: EnvelopeId,
        names: [&'static str; N],
    ) -> Result<(Answer, bool)> {
        let bucket = self.layout.of_id(id.bytes());
        let row = self.fields(bucket, self.layout.envelope(id), &words(names)).await?;
        if row.maybe(0).is_some() || self.archive.is_none() {
            return Ok((row, false));
        }
        match self.archived_row(id).await? {
            Some(row) => Ok((named(&row, names)?, true)),
            None => Ok((self.fields(bucket, self.layout.envelope(id), &words(names)).await?, false)),
        }
    }

    pub(in crate::redis) async fn archived_row(&self, id: EnvelopeId) -> Result<Option<Fields>> {
        let found = self.look(move |files| files.get(&rows::envelope(id))).await?.flatten();
        let Some(row) = found else { return Ok(None) };
        self.without_redacted(id, rows::fields(&row)?).await.map(Some)
    }

    /// A user's win of an archived envelope.
    pub(in crate::redis) async fn archived_win(&self, id: EnvelopeId, user: &UserId) -> Result<Option<Win>> {
        let key = rows::winner(id, user);
        let found = self.look(move |files| files.get(&key)).await?.flatten();
        found.map(|value| rows::win(&value)).transpose()
    }

    /// Up to `most` wins of an archived envelope in the order of their shares,
    /// from a share on.
    pub(in crate::redis) async fn archived_wins(&self, id: EnvelopeId, from: u64, most: usize) -> Result<Vec<Win>> {
        let Ok(from) = u32::try_from(from) else { return Ok(Vec::new()) };
        let a_row = winners_a_row(id);
        let row = from - from % a_row as u32;
        let many = most.div_ceil(a_row) + 1;
        let found = self.look(move |files| files.of(&rows::winners(id), &rows::winners_from(id, row), many)).await?;
        let mut wins = Vec::new();
        for (_, value) in found.unwrap_or_default() {
            wins.extend(rows::wins(&value)?.into_iter().filter(|win| win.share >= from));
        }
        wins.truncate(most);
        Ok(wins)
    }

    /// Movements of a wallet by their numbers, each where it is by now.
    pub(in crate::redis) async fn movements(
        &self,
        user: &UserId,
        numbers: impl Iterator<Item = u64>,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let numbers: Vec<u64> = numbers.collect();
        let names: Vec<Vec<u8>> = numbers.iter().map(|number| number.to_string().into_bytes()).collect();
        self.wallet_fields(user, &names, |user, index| rows::movement(user, numbers[index])).await
    }

    /// Under which numbers movements were entered, by their marks.
    pub(in crate::redis) async fn marked(&self, user: &UserId, marks: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        self.wallet_fields(user, marks, |user, index| rows::mark(user, &marks[index])).await
    }

    /// An archived movement, by its effect's id.
    pub(in crate::redis) async fn archived_movement(&self, user: &UserId, effect: &[u8]) -> Result<Option<Vec<u8>>> {
        let (user, mark) = (user.clone(), rows::mark(user, &[b"#", effect].concat()));
        let found = self.look(move |files| {
            let Some(number) = files.get(&mark)? else { return Ok(None) };
            let number = std::str::from_utf8(&number).ok().and_then(|text| text.parse().ok());
            files.get(&rows::movement(&user, number.ok_or_else(|| damaged("a mark"))?))
        });
        Ok(found.await?.flatten())
    }

    async fn wallet_fields(
        &self,
        user: &UserId,
        names: &[Vec<u8>],
        key: impl Fn(&UserId, usize) -> Vec<u8>,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (bucket, wallet) = (self.layout.of_user(user), self.layout.wallet(user));
        let in_redis = async || -> Result<Vec<Option<Vec<u8>>>> {
            let row = self.fields(bucket, wallet.clone(), names).await?;
            Ok((0..names.len()).map(|index| row.maybe(index).map(<[u8]>::to_vec)).collect())
        };
        let mut found = in_redis().await?;
        let missing: Vec<usize> = (0..names.len()).filter(|&index| found[index].is_none()).collect();
        if missing.is_empty() || self.archive.is_none() {
            return Ok(found);
        }
        let keys: Vec<Vec<u8>> = missing.iter().map(|&index| key(user, index)).collect();
        let archived =
            self.look(move |files| keys.iter().map(|key| files.get(key)).collect::<Result<Vec<_>>>()).await?;
        for (index, value) in missing.into_iter().zip(archived.unwrap_or_default()) {
            found[index] = value;
        }
        if found.iter().any(Option::is_none) {
            for (found, again) in found.iter_mut().zip(in_redis().await?) {
                *found = found.take().or(again);
            }
        }
        Ok(found)
    }

    /// Places in an archived list after `last`, or from its start.
    pub(in crate::redis) async fn archived_list(
        &self,
        of: Listed<'_>,
        last: Option<(u64, [u8; 16])>,
        most: usize,
    ) -> Result<Vec<(u64, [u8; 16])>> {
        let prefix = rows::list(of);
        let from = match last {
            // The first key after it.
            Some((at_ms, id)) => [&rows::listed(of, at_ms, &id)[..], &[0]].concat(),
            None => prefix.clone(),
        };
        let found = self.look(move |files| files.of(&prefix, &from, most)).await?;
        found.unwrap_or_default().iter().map(|(key, _)| rows::place(key)).collect()
    }

    /// The ids of all archived envelopes.
    pub(in crate::redis) async fn archived_ids(&self) -> Result<Vec<EnvelopeId>> {
        let ids = self.look(|files| {
            let mut ids = Vec::new();
            let mut walk = files.from(b"e")?;
            while let Some((key, _)) = walk.next()?
                && key.first() == Some(&b'e')
            {
                ids.push(rows::envelope_of(&key)?);
            }
            Ok(ids)
        });
        Ok(ids.await?.unwrap_or_default())
    }

    /// How an archived envelope answers a user who grabs from it, in the words of
    /// `grab.lua`; `None` if there is no such envelope.
    pub(in crate::redis) async fn archived_grab(&self, id: EnvelopeId, user: &UserId) -> Result<Option<Answer>> {
        let Some(row) = self.archived(id).await? else { return Ok(None) };
        let Some(win) = self.archived_win(id, user).await? else {
            return Ok(Some(said(&["no", refused(row.figures.ended)])));
        };
        let unclaimed = match row.created.terms.unclaimed {
            Unclaimed::Return => "return",
            Unclaimed::Credit => "credit",
        };
        let claimed_at = win.claimed_at.map(|at| at.ms().to_string()).unwrap_or_default();
        let [amount, share] = [win.amount.to_string(), win.share.to_string()];
        let [grabbed_at, claim_by] = [win.grabbed_at, row.created.claim_by].map(|at| at.ms().to_string());
        Ok(Some(said(&["won", &amount, &share, &grabbed_at, &claimed_at, &claim_by, unclaimed, "1", ""])))
    }

    /// The same for a claim, in the words of `envelope.lua`.
    pub(in crate::redis) async fn archived_claim(&self, id: EnvelopeId, user: &UserId) -> Result<Option<Answer>> {
        if self.archived(id).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(match self.archived_win(id, user).await? {
            None => said(&["no", "not_won"]),
            Some(Win { amount, claimed_at: Some(at), .. }) => {
                said(&["claimed", &amount.to_string(), &at.ms().to_string(), "1"])
            }
            Some(_) => said(&["no", "lapsed"]),
        }))
    }

    /// The same for a cancellation.
    pub(in crate::redis) async fn archived_cancel(&self, id: EnvelopeId) -> Result<Option<Answer>> {
        let Some(EnvelopeRow { figures, .. }) = self.archived(id).await? else { return Ok(None) };
        if figures.ended != Some(EndedAs::Cancelled) {
            return Ok(Some(said(&["no", "ended_otherwise"])));
        }
        let Figures { taken, taken_amount, claimed, refunded, .. } = figures;
        let [taken, taken_amount] = [taken.to_string(), taken_amount.to_string()];
        let [claimed, refunded] = [claimed.to_string(), refunded.to_string()];
        let mut answer = said(&["envelope", "c", "1", &taken, &taken_amount, &claimed, &refunded]);
        answer.push(id.bytes());
        Ok(Some(answer))
    }

    /// An envelope that is archived; or of which a pool is, when that is not there any more.
    async fn archived(&self, id: EnvelopeId) -> Result<Option<EnvelopeRow>> {
        if self.archive.is_none() {
            return Ok(None);
        }
        if id.is_mass() {
            return self.archived_row(id).await?.map(|row| archived_envelope(&row)).transpose();
        }
        let row = self.envelope_row(id).await?;
        Ok(row.filter(|row| row.archived))
    }

    /// A decision of Redis; if that is that there is no such envelope, what the archive says.
    pub(in crate::redis) async fn or_archived(
        &self,
        operation: &Operation,
        decided: Decided,
        archived: impl Future<Output = Result<Option<Answer>>>,
    ) -> Result<Decided> {
        if !is_no(&decided, b"not_found") {
            return Ok(decided);
        }
        match archived.await? {
            Some(answer) => self.archived_decision(operation, answer).await,
            None => Ok(decided),
        }
    }

    /// An answer out of the archive as a decision: under a key it is kept like
    /// any other, so that the key stands for it from now on.
    pub(in crate::redis) async fn archived_decision(&self, operation: &Operation, answer: Answer) -> Result<Decided> {
        use crate::redis::backend::Keep;
        if operation.keep == Keep::Natural || answer.tag() == b"no" {
            return Ok(Decided::New(Told { at: self.clock.now(), answer, effects: Vec::new() }));
        }
        let mut args = words(["keep"]);
        for index in 0..answer.len() {
            args.push(answer.bytes(index)?.to_vec());
        }
        self.ask(&OPERATION, operation, [], args).await
    }
}

/// Why nobody gets anything of an envelope that is settled.
fn refused(ended: Option<EndedAs>) -> &'static str {
    match ended {
        Some(EndedAs::Cancelled) => "cancelled",
        Some(EndedAs::SoldOut) => "sold_out",
        Some(EndedAs::Expired) | None => "expired",
    }
}

fn said(words: &[&str]) -> Answer {
    let mut answer = Answer::default();
    words.iter().for_each(|word| answer.push(word.as_bytes()));
    answer
}

/// Fields of a row in this order.
fn named<const N: usize>(row: &Fields, names: [&str; N]) -> Result<Answer> {
    let mut answer = Answer::default();
    for name in names {
        answer.push(row.get(name).ok_or_else(|| damaged("an archived envelope"))?);
    }
    Ok(answer)
}

/// An archived envelope, by its row.
pub(in crate::redis) fn archived_envelope(row: &Fields) -> Result<EnvelopeRow> {
    let names = ["width", "ended", "settled", "taken", "taken_amount", "claimed_amount", "refunded"];
    let answer = named(row, names)?;
    let (width, figures) = (answer.number(0)?, figures(&answer, 1)?);
    Ok(EnvelopeRow { created: created(row)?, figures, width, archived: true })
}

/// What was fixed when an envelope was made, of its row.
pub(super) fn created(fields: &Fields) -> Result<EnvelopeCreated> {
    let bytes = fields.get("created").ok_or_else(|| damaged("an envelope"))?;
    EnvelopeCreated::of_bytes(bytes).ok_or_else(|| damaged("an envelope"))
}
