//! How a mass envelope leaves Redis: pool by pool, and a pool in parts, so that
//! as much is in memory and in one file as of small envelopes.
//!
//! In this order: everything that the envelope caused has arrived, and new
//! generations of its bucket and its sender's are confirmed; its own row is in a
//! file, with the figures of all pools; of each pool all winners are in files and
//! what else they have of the envelope has left, then the pool goes at once; at
//! last what the sender has, and the envelope's own row.
//!
//! **Invariant:** a pool answers for all its winners until it is gone; from then on the
//! archive does, which has the envelope's row before any pool goes.
//!
//! **Invariant:** the envelope's row is there as long as a pool is.

use super::Archive;
use super::leave::{Generations, Part, WINNERS_A_FILE, field};
use super::reads::created;
use super::rows::Fields;
use crate::event::EnvelopeCreated;
use crate::redis::backend::{Core, Result};
use crate::redis::bucket::Bucket;
use crate::redis::pool_reads::Given;
use crate::redis::reply::{Answer, damaged};
use crate::redis::scripts::LEAVE_POOL;
use crate::types::EnvelopeId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Core {
    /// Archives a mass envelope. Whoever is ended in the middle leaves the rest to
    /// another, who begins with the first pool that is left.
    pub(super) async fn archive_mass(&self, archive: &Arc<Archive>, home: Bucket, id: EnvelopeId) -> Result<()> {
        let Some(row) = self.settled_row(home, id).await? else { return Ok(()) };
        if field(&row, "open")? > 0 {
            return Err(damaged("a settled envelope"));
        }
        self.take_again(home, id).await?;
        let made = Arc::new(created(&row)?);
        let sender = self.layout.of_user(&made.terms.sender);
        let effect = |kind: &u8| [&[*kind], &id.bytes()[..]].concat();
        let mut caused: HashMap<Bucket, Vec<Vec<u8>>> = HashMap::new();
        caused.entry(home).or_default().extend(b"erl".iter().map(effect));
        caused.entry(sender).or_default().push(effect(&b'f'));
        if !self.waiting_in(caused).await?.is_empty() {
            return Ok(());
        }
        let generations = self.turn_in(HashSet::from([home, sender])).await?;

        let row = self.row_with_figures(id, row).await?;
        let head = Part { created: Arc::clone(&made), winners: Vec::new(), row: Some(row) };
        let of_sender = self.file(archive, &[&head]).await?;
        for pool in self.layout.all() {
            if self.archive_pool(archive, &made, pool, &generations).await? {
                self.take_again(home, id).await?;
            }
        }
        self.leave_users(&of_sender, &generations).await?;
        self.leave_envelope(&head, &generations).await?;
        self.archiving.envelopes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The row as the archive has it. Nothing of a settled envelope changes, so
    /// whoever archives it writes the same.
    async fn row_with_figures(&self, id: EnvelopeId, mut row: Fields) -> Result<Fields> {
        let Some(Given { taken, taken_amount, claimed, claimed_amount }) = self.given(id).await? else {
            // A pool has left, so the row is there.
            return self.archived_row(id).await?.ok_or_else(|| damaged("a pool"));
        };
        for (name, figure) in [
            ("taken", u64::from(taken)),
            ("taken_amount", taken_amount.minor()),
            ("claimed", claimed.into()),
            ("claimed_amount", claimed_amount.minor()),
        ] {
            row.insert(name.to_owned(), figure.to_string().into_bytes());
        }
        Ok(row)
    }

    /// Archives a pool. `false` if it has left already.
    async fn archive_pool(
        &self,
        archive: &Arc<Archive>,
        made: &Arc<EnvelopeCreated>,
        pool: Bucket,
        generations: &Generations,
    ) -> Result<bool> {
        let id = made.id;
        let mut cursor = b"0".to_vec();
        loop {
            let mut part = Part { created: Arc::clone(made), winners: Vec::new(), row: None };
            let is_last = loop {
                let found = self.scan_winners(id, pool, cursor).await?;
                if found.is_gone {
                    return Ok(false);
                }
                let is_last = found.is_last();
                part.winners.extend(found.wins);
                cursor = found.next;
                if is_last || part.winners.len() >= WINNERS_A_FILE {
                    break is_last;
                }
            };
            if !part.winners.is_empty() {
                let filed = self.file(archive, &[&part]).await?;
                self.leave_users(&filed, generations).await?;
                self.merge(archive).await?;
            }
            if is_last {
                break;
            }
        }
        let layout = &self.layout;
        let keys = [
            layout.sums(pool),
            layout.fences(pool),
            layout.pool(pool, id),
            layout.pool_shares(pool, id),
            layout.pool_winners(pool, id),
        ];
        let fence = self.fence_of(layout.of_user(&made.terms.sender), generations)?;
        let left = Answer::read(self.call(pool, &LEAVE_POOL, &keys, &fence, true).await?)?;
        if left.tag() == b"left" { Ok(true) } else { Err(damaged("a pool of a settled envelope")) }
    }
}
