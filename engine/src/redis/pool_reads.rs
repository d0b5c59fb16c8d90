//! Reads of mass envelopes: what their pools say, put together.
//!
//! **Invariant:** the envelope's own row is read before its pools. What it says
//! of the end is then true of them, too: shares of an ended envelope stay where they are.

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

impl Core {
    /// A mass envelope with the figures of all its pools.
    pub(super) async fn mass_row(&self, id: EnvelopeId) -> Result<Option<EnvelopeRow>> {
        let Some(mut row) = self.mass_head(id).await? else { return Ok(None) };
        if !row.figures.settled {
            self.add_pools(&mut row).await?;
        }
        Ok(Some(row))
    }

    /// The same of a settled envelope too, whose own row does not say what was taken.
    pub(super) async fn mass_row_whole(&self, id: EnvelopeId) -> Result<Option<EnvelopeRow>> {
        let Some(mut row) = self.mass_head(id).await? else { return Ok(None) };
        self.add_pools(&mut row).await?;
        Ok(Some(row))
    }

    /// Adds up the figures of an envelope's pools.
    async fn add_pools(&self, row: &mut EnvelopeRow) -> Result<()> {
        let id = row.created.id;
        let pools = self.in_every_bucket(|core, pool| async move {
            let fields = ["row", "head", "taken_amount", "claimed", "claimed_amount"];
            let args = fields.map(|field| field.as_bytes().to_vec());
            core.read(pool, &[core.layout.pool(pool, id)], &args).await
        });
        let figures = &mut row.figures;
        (figures.taken, figures.taken_amount, figures.claimed) = (0, Amount::ZERO, Amount::ZERO);
        let mut claimed = 0;
        for pool in pools.await? {
            figures.taken += pool.units(0)?;
            figures.taken_amount += pool.amount(1)?;
            claimed += pool.units(2)?;
            figures.claimed += pool.amount(3)?;
        }
        // Known as soon as the last share is taken, and noted only when somebody asks for one more.
        if figures.taken == row.created.terms.shares {
            figures.ended = Some(EndedAs::SoldOut);
        }
        figures.settled |= figures.ended.is_some() && claimed == figures.taken;
        Ok(())
    }

    /// The same for whoever knows that the envelope is there.
    pub(super) async fn mass_figures(&self, id: EnvelopeId) -> Result<Figures> {
        let row = self.mass_row(id).await?;
        row.map(|row| row.figures).ok_or_else(|| damaged("an envelope"))
    }

    /// What stands in the envelope's own bucket; of shares only whether all are
    /// taken. Nobody is owed anything of a settled envelope, so that is all of it.
    async fn mass_head(&self, id: EnvelopeId) -> Result<Option<EnvelopeRow>> {
        let args = ["row", "created", "width", "ended", "settled", "refunded"].map(|field| field.as_bytes().to_vec());
        let row = self.read(self.layout.of_id(id.bytes()), &[self.layout.envelope(id)], &args).await?;
        let Some(created) = row.maybe(0) else { return Ok(None) };
        let created: EnvelopeCreated = postcard::from_bytes(created).map_err(|_| damaged("an envelope"))?;
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
        Ok(Some(EnvelopeRow { created, figures, width: row.number(1)?, archived: false }))
    }

    /// A user's win, and as much of the envelope as says whether it is the best.
    pub(super) async fn mass_win(&self, id: EnvelopeId, user: &UserId) -> Result<Option<(EnvelopeRow, Option<Win>)>> {
        let Some(row) = self.mass_head(id).await? else { return Ok(None) };
        let args = [b"win".to_vec(), user.as_str().as_bytes().to_vec()];
        let pool = self.layout.of_user(user);
        let answer = self.call(pool, &POOL_WIN, &self.pool_keys(id, pool), &args, true).await?;
        let win = wins(&Answer::read(answer)?)?.pop();
        if row.figures.ended.is_none() && win.as_ref().is_some_and(|win| win.share == row.created.best_share) {
            return Ok(self.mass_row(id).await?.map(|row| (row, win)));
        }
        Ok(Some((row, win)))
    }

    /// Up to `most` wins in the order of their shares, from a share on.
    pub(super) async fn mass_wins(&self, id: EnvelopeId, from: u64, most: usize) -> Result<Vec<Win>> {
        let found = self.in_every_bucket(|core, pool| async move {
            let mut first: Vec<Win> = Vec::new();
            let mut cursor = b"0".to_vec();
            loop {
                let (next, wins) = core.scan_winners(id, pool, cursor).await?;
                first.extend(wins.into_iter().filter(|win| u64::from(win.share) >= from));
                keep_first(&mut first, most);
                if next == b"0" {
                    return Ok(first);
                }
                cursor = next;
            }
        });
        let mut first = found.await?.concat();
        keep_first(&mut first, most);
        Ok(first)
    }

    /// Some of a pool's winners, and where the next are; `0` after the last. A
    /// winner may be told twice.
    pub(super) async fn scan_winners(
        &self,
        id: EnvelopeId,
        pool: Bucket,
        cursor: Vec<u8>,
    ) -> Result<(Vec<u8>, Vec<Win>)> {
        let args = [b"wins".to_vec(), cursor, READ_MAX.to_vec()];
        let answer = Answer::read(self.call(pool, &POOL_WINS, &self.pool_keys(id, pool), &args, true).await?)?;
        Ok((answer.bytes(0)?.to_vec(), wins(&answer)?))
    }

    /// All winners of a pool.
    pub(super) async fn pool_winners(&self, id: EnvelopeId, pool: Bucket) -> Result<Vec<Win>> {
        let (mut all, mut cursor) = (Vec::new(), b"0".to_vec());
        loop {
            let (next, wins) = self.scan_winners(id, pool, cursor).await?;
            all.extend(wins);
            if next == b"0" {
                keep_first(&mut all, usize::MAX);
                return Ok(all);
            }
            cursor = next;
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
fn wins(answer: &Answer) -> Result<Vec<Win>> {
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
    wins.collect()
}

/// An amount in as many bytes as an envelope's largest takes.
pub(super) fn amount_of(bytes: &[u8]) -> Result<Amount> {
    let mut amount = [0; 8];
    amount.get_mut(..bytes.len()).ok_or_else(|| damaged("a share"))?.copy_from_slice(bytes);
    Amount::new(u64::from_le_bytes(amount)).ok_or_else(|| damaged("a share"))
}
