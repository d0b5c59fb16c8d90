//! Reads of mass envelopes: what their pools say, put together.
//!
//! **Invariant:** the envelope's own row is read before its pools. What it says
//! of the end is then true of them, too: shares of an ended envelope stay where they are.

use super::archive::archived_envelope;
use super::backend::{Core, Result};
use super::bucket::Bucket;
use super::reads::{EnvelopeRow, Win};
use super::reply::{Answer, damaged};
use super::scripts::{POOL_WIN, POOL_WINS};
use crate::command::EndedAs;
use crate::event::EnvelopeCreated;
use crate::state::envelope::Figures;
use crate::types::{Amount, EnvelopeId, Timestamp, UserId};

/// Winners read from a pool at a time.
const READ_MAX: &[u8] = b"250";

/// What all pools of an envelope have given.
pub(super) struct Given {
    pub(super) taken: u32,
    pub(super) taken_amount: Amount,
    pub(super) claimed: u32,
    pub(super) claimed_amount: Amount,
}

/// Some of a pool's winners.
pub(super) struct Scanned {
    /// Where the next are; `0` after the last.
    pub(super) next: Vec<u8>,
    /// A winner may be told twice.
    pub(super) wins: Vec<Win>,
    /// Whether the pool has left Redis, or is not filled yet.
    pub(super) is_gone: bool,
}

impl Given {
    /// The figures of an envelope whose own row has these.
    fn over(&self, own: Figures, shares: u32) -> Figures {
        let Given { taken, taken_amount, claimed, claimed_amount } = *self;
        let mut figures = Figures { taken, taken_amount, claimed: claimed_amount, ..own };
        // Known as soon as the last share is taken, and noted only when somebody asks for one more.
        if taken == shares {
            figures.ended = Some(EndedAs::SoldOut);
        }
        figures.settled |= figures.ended.is_some() && claimed == taken;
        figures
    }
}

impl Scanned {
    pub(super) fn is_last(&self) -> bool {
        self.next == b"0"
    }
}

impl Core {
    /// A mass envelope with the figures of all its pools.
    pub(super) async fn mass_row(&self, id: EnvelopeId) -> Result<Option<EnvelopeRow>> {
        for _ in 0..2 {
            let Some(mut row) = self.mass_head(id).await? else { return Ok(None) };
            if row.figures.settled {
                return Ok(Some(row));
            }
            if let Some(given) = self.given(id).await? {
                row.figures = given.over(row.figures, row.created.terms.shares);
                return Ok(Some(row));
            }
            // It was settled and has left since.
        }
        Err(damaged("a pool"))
    }

    /// The same of a settled envelope too, whose own row does not say what was taken.
    pub(super) async fn mass_row_whole(&self, id: EnvelopeId) -> Result<Option<EnvelopeRow>> {
        let Some(mut row) = self.mass_head(id).await? else { return Ok(None) };
        if let Some(given) = self.given(id).await? {
            row.figures = given.over(row.figures, row.created.terms.shares);
            return Ok(Some(row));
        }
        let archived = self.archived_row(id).await?.ok_or_else(|| damaged("a pool"))?;
        archived_envelope(&archived).map(Some)
    }

    /// What an envelope's pools have given; `None` if one is not there.
    pub(super) async fn given(&self, id: EnvelopeId) -> Result<Option<Given>> {
        let pools = self.in_every_bucket(|core, pool| async move {
            let fields = ["row", "head", "taken_amount", "claimed", "claimed_amount"];
            let args = fields.map(|field| field.as_bytes().to_vec());
            core.read(pool, &[core.layout.pool(pool, id)], &args).await
        });
        let mut all = Given { taken: 0, taken_amount: Amount::ZERO, claimed: 0, claimed_amount: Amount::ZERO };
        for pool in pools.await? {
            if pool.maybe(0).is_none() {
                return Ok(None);
            }
            all.taken += pool.units(0)?;
            all.taken_amount += pool.amount(1)?;
            all.claimed += pool.units(2)?;
            all.claimed_amount += pool.amount(3)?;
        }
        Ok(Some(all))
    }

    /// Whether a pool that is not there may have left Redis with its envelope.
    pub(super) async fn may_have_left(&self, id: EnvelopeId) -> Result<bool> {
        Ok(self.archive.is_some() && self.mass_head(id).await?.is_none_or(|row| row.figures.settled))
    }

    /// The same for whoever knows that the envelope is there.
    pub(super) async fn mass_figures(&self, id: EnvelopeId) -> Result<Figures> {
        let row = self.mass_row(id).await?;
        row.map(|row| row.figures).ok_or_else(|| damaged("an envelope"))
    }

    /// What stands in the envelope's own bucket; of shares only whether all are
    /// taken. Nobody is owed anything of a settled envelope, so that is all of it.
    async fn mass_head(&self, id: EnvelopeId) -> Result<Option<EnvelopeRow>> {
        let (row, archived) = self.envelope_fields(id, ["created", "width", "ended", "settled", "refunded"]).await?;
        let Some(created) = row.maybe(0) else { return Ok(None) };
        let created = EnvelopeCreated::of_bytes(created).ok_or_else(|| damaged("an envelope"))?;
        let (ended, settled, refunded) = (row.ended(2)?, row.flag(3), row.amount(4)?);
        let is_sold_out = ended == Some(EndedAs::SoldOut);
        let figures = Figures {
            ended,
            settled,
            taken: if is_sold_out { created.terms.shares } else { 0 },
            taken_amount: if is_sold_out { created.terms.total } else { Amount::ZERO },
            claimed: if settled { created.terms.total - refunded } else { Amount::ZERO },
            refunded,
        };
        Ok(Some(EnvelopeRow { created, figures, width: row.number(1)?, archived }))
    }

    /// A user's win, and as much of the envelope as says whether it is the best.
    pub(super) async fn mass_win(&self, id: EnvelopeId, user: &UserId) -> Result<Option<(EnvelopeRow, Option<Win>)>> {
        let Some(row) = self.mass_head(id).await? else { return Ok(None) };
        let args = [b"win".to_vec(), user.as_str().as_bytes().to_vec()];
        let pool = self.layout.of_user(user);
        let answer = self.call(pool, &POOL_WIN, &self.pool_keys(id, pool), &args, true).await?;
        let mut found = scanned(&Answer::read(answer)?)?;
        let win = if found.is_gone { self.archived_win(id, user).await? } else { found.wins.pop() };
        if row.figures.ended.is_none() && win.as_ref().is_some_and(|win| win.share == row.created.best_share) {
            return Ok(self.mass_row(id).await?.map(|row| (row, win)));
        }
        Ok(Some((row, win)))
    }

    /// Up to `most` wins in the order of their shares, from a share on, of an
    /// envelope that has not left Redis, or not all of it.
    pub(super) async fn mass_wins(&self, id: EnvelopeId, from: u64, most: usize) -> Result<Vec<Win>> {
        let found = self.in_every_bucket(|core, pool| async move {
            let mut first: Vec<Win> = Vec::new();
            let mut cursor = b"0".to_vec();
            loop {
                let found = core.scan_winners(id, pool, cursor).await?;
                let is_last = found.is_last();
                first.extend(found.wins.into_iter().filter(|win| u64::from(win.share) >= from));
                keep_first(&mut first, most);
                if is_last {
                    return Ok((first, found.is_gone));
                }
                cursor = found.next;
            }
        });
        let (mut first, mut is_any_gone) = (Vec::new(), false);
        for (of_pool, is_gone) in found.await? {
            first.extend(of_pool);
            is_any_gone |= is_gone;
        }
        if is_any_gone {
            // Whichever pool was gone by then, the archive has all its winners.
            first.extend(self.archived_wins(id, from, most).await?);
        }
        keep_first(&mut first, most);
        Ok(first)
    }

    /// Some of a pool's winners.
    pub(super) async fn scan_winners(&self, id: EnvelopeId, pool: Bucket, cursor: Vec<u8>) -> Result<Scanned> {
        let args = [b"wins".to_vec(), cursor, READ_MAX.to_vec()];
        scanned(&Answer::read(self.call(pool, &POOL_WINS, &self.pool_keys(id, pool), &args, true).await?)?)
    }

    /// All winners of a pool; `None` if it has left Redis.
    pub(super) async fn pool_winners(&self, id: EnvelopeId, pool: Bucket) -> Result<Option<Vec<Win>>> {
        let (mut all, mut cursor) = (Vec::new(), b"0".to_vec());
        loop {
            let found = self.scan_winners(id, pool, cursor).await?;
            if found.is_gone {
                return Ok(None);
            }
            let is_last = found.is_last();
            all.extend(found.wins);
            if is_last {
                keep_first(&mut all, usize::MAX);
                return Ok(Some(all));
            }
            cursor = found.next;
        }
    }

    fn pool_keys(&self, id: EnvelopeId, pool: Bucket) -> [Vec<u8>; 3] {
        [self.layout.pool_winners(pool, id), self.layout.pool_shares(pool, id), self.layout.pool(pool, id)]
    }
}

fn keep_first(wins: &mut Vec<Win>, most: usize) {
    wins.sort_unstable_by_key(|win| win.share);
    wins.dedup_by_key(|win| win.share);
    wins.truncate(most);
}

/// Winners as `pool_wins.lua` tells them.
fn scanned(answer: &Answer) -> Result<Scanned> {
    let next = answer.bytes(0)?.to_vec();
    if answer.bytes(1)?.is_empty() {
        return Ok(Scanned { next, wins: Vec::new(), is_gone: true });
    }
    let base = answer.number(1)?;
    let wins = (2..answer.len()).step_by(3).map(|at| {
        let wrong = || damaged("a winner");
        let times = answer.bytes(at + 1)?.get(4..).ok_or_else(wrong)?;
        let mut times = times.chunks(5).map(|time| -> Result<Timestamp> {
            let mut ms = [0; 8];
            ms.get_mut(..time.len()).ok_or_else(wrong)?.copy_from_slice(time);
            Ok(Timestamp::from_ms(base + u64::from_le_bytes(ms)))
        });
        let grabbed_at = times.next().ok_or_else(wrong)??;
        let claimed_at = times.next().transpose()?;
        let (share, amount) = answer.bytes(at + 2)?.split_first_chunk().ok_or_else(wrong)?;
        Ok(Win {
            user: answer.user(at)?,
            share: u32::from_le_bytes(*share),
            amount: amount_of(amount)?,
            grabbed_at,
            claimed_at,
        })
    });
    Ok(Scanned { next, wins: wins.collect::<Result<_>>()?, is_gone: false })
}

/// An amount in as many bytes as an envelope's largest takes.
pub(super) fn amount_of(bytes: &[u8]) -> Result<Amount> {
    let mut amount = [0; 8];
    amount.get_mut(..bytes.len()).ok_or_else(|| damaged("a share"))?.copy_from_slice(bytes);
    Amount::new(u64::from_le_bytes(amount)).ok_or_else(|| damaged("a share"))
}
