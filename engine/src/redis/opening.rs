//! A funded envelope opens: its shares come to lie where they belong, and then
//! the row over them.
//!
//! **Invariant:** an envelope opens after all its shares, in every bucket that
//! has some, are confirmed.

use super::backend::{Core, Result};
use super::bucket::Bucket;
use super::effects::as_read;
use super::layout::Key;
use super::reply::{Answer, Effect, damaged};
use super::rows::{number, packed, plan, pool_fields, reserve_fields, small_fields, width};
use super::scripts::OPEN;
use crate::event::EnvelopeCreated;
use crate::types::Amount;
use std::sync::Arc;

/// Bytes of an envelope's shares written at a time.
const FILL_BYTES: usize = 256 << 10;

impl Core {
    /// Opens an envelope whose money has been taken.
    pub(super) async fn open_envelope(&self, cause: Bucket, effect: &Effect) -> Result<()> {
        let created = EnvelopeCreated::of_bytes(&effect.value).ok_or_else(|| damaged("an envelope"))?;
        let id = created.id;
        let bucket = self.layout.of_id(id.bytes());
        let split = created.split();
        let (listed, due) = (self.layout.envelopes_by_time(bucket), self.layout.due(bucket));
        let fences = self.layout.fences(bucket);
        let (width, read_in) = (width(&split), effect.read_in);
        if !id.is_mass() {
            let (shares, fields) = (packed(&split), small_fields(&created, width));
            let part = Part { bucket, shares, amount: created.terms.total, fields };
            let keys = [self.layout.envelope(id), self.layout.shares(id), fences, listed, due];
            return self.open((cause, read_in), &created, part, keys).await;
        }
        let mut plan = plan(&split, self.layout.buckets).into_iter();
        let (shares, amount) = plan.next_back().expect("the reserve comes last");
        let plan: Arc<Vec<_>> = Arc::new(plan.map(|part| parking_lot::Mutex::new(Some(part))).collect());
        let shared = Arc::new(created);
        let filled = self.in_every_bucket(|core, pool| {
            let (plan, created) = (Arc::clone(&plan), Arc::clone(&shared));
            async move {
                let part = plan[usize::from(pool.number())].lock().take();
                let (shares, amount) = part.expect("every pool is filled once");
                let fields = pool_fields(&created, width, shares.len() as u64 / (4 + width), amount);
                let layout = &core.layout;
                let keys = [layout.pool(pool, created.id), layout.pool_shares(pool, created.id), layout.fences(pool)];
                core.open((cause, read_in), &created, Part { bucket: pool, shares, amount, fields }, keys).await
            }
        });
        filled.await?;
        let fields = reserve_fields(&shared, width, self.layout.buckets, shares.len() as u64 / (4 + width), amount);
        let keys = [self.layout.envelope(id), self.layout.reserve(id), fences, listed, due];
        self.open((cause, read_in), &shared, Part { bucket, shares, amount, fields }, keys).await
    }

    /// Brings shares to a bucket, and then the row over them.
    async fn open<const N: usize>(
        &self,
        (cause, mut read_in): (Bucket, u64),
        created: &EnvelopeCreated,
        part: Part,
        keys: [Key; N],
    ) -> Result<()> {
        let field = [b"f", &created.id.bytes()[..]].concat();
        while !self.opened((cause, read_in), created, &part, &keys).await? {
            match self.waits_in(cause, &field).await? {
                Some(generation) => read_in = generation,
                None => break,
            }
        }
        Ok(())
    }

    /// The same, if nothing has left the bucket since the funding was read.
    async fn opened<const N: usize>(
        &self,
        read: (Bucket, u64),
        created: &EnvelopeCreated,
        part: &Part,
        keys: &[Key; N],
    ) -> Result<bool> {
        let Part { bucket, shares, amount, fields } = part;
        let verb = |verb: &[u8]| [verb.to_vec()].into_iter().chain(as_read(read));
        for (nth, chunk) in shares.chunks(FILL_BYTES).enumerate() {
            let offset = number((nth * FILL_BYTES) as u64);
            let args = verb(b"fill").chain([offset, chunk.to_vec()]);
            let answer = Answer::of_script(self.run(*bucket, &OPEN, keys.clone(), args).await?)?;
            match answer.tag() {
                b"open" => return Ok(true),
                b"fenced" => return Ok(false),
                _ => {}
            }
        }
        let args = [
            created.id.bytes().to_vec(),
            number(shares.len() as u64),
            number(amount.minor()),
            number(created.created_at.ms()),
            number(created.expires_at.ms()),
        ];
        let args = verb(b"open").chain(args).chain(fields.iter().cloned());
        match Answer::of_script(self.run(*bucket, &OPEN, keys.clone(), args).await?)?.tag() {
            b"open" => Ok(true),
            b"fenced" => Ok(false),
            _ => Err(damaged("an envelope's shares")),
        }
    }
}

/// Shares that come to lie in one bucket, and the row over them.
struct Part {
    bucket: Bucket,
    shares: Vec<u8>,
    amount: Amount,
    fields: Vec<Vec<u8>>,
}
