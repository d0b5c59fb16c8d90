//! What leaves Redis: envelopes that were settled a while ago, with their
//! winners, and what these and the sender have of them.
//!
//! In this order: everything that the envelope caused has arrived (`turn.lua`);
//! a new generation of its bucket, and of its sender's, is confirmed; the rows
//! are in a file; users' rows leave, and with each a fence against whoever read
//! the cause in an older generation; at last the envelope's own. Who ends in the
//! middle leaves rows in both places, and the next begins again.
//!
//! **Invariant:** what leaves is what a file has, row by row.

use super::reads::{WINNERS_A_ROW, created, winners_a_row};
use super::rows::{self, Fields, Listed};
use super::{Archive, Extent};
use crate::error::EngineError;
use crate::event::EnvelopeCreated;
use crate::redis::backend::{Core, RedisBackend, Result, named};
use crate::redis::bucket::Bucket;
use crate::redis::layout::Key;
use crate::redis::reads::Win;
use crate::redis::reply::{Answer, damaged, effects};
use crate::redis::scripts::{LEAVE, LEAVE_ENVELOPE, MOVED, READ, TAKE_SETTLED, TURN};
use crate::types::{EnvelopeId, Timestamp, UserId};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Envelopes taken at a time, from one bucket and in all.
const TAKEN_EACH: usize = 64;
const TAKEN_MAX: usize = 1024;
/// Winners in one file, if not those of a single envelope make it more.
pub(super) const WINNERS_A_FILE: usize = 8192;
/// Winners read at a time: rows of the archive are whole.
const WINNERS_READ: usize = 4 * WINNERS_A_ROW;
/// Effects looked for at a time.
const EFFECTS_ASKED: usize = 512;
/// Calls at once.
pub(super) const AT_ONCE: usize = 128;
/// For so long nobody else takes an envelope that somebody has taken.
const TAKEN_FOR_MS: u64 = 600_000;
/// Servers that were started without an archive find out within a tour that
/// there is one; nothing leaves before.
const NOTICE_MS: u64 = 60_000;

/// How an engine archives.
#[derive(Default)]
pub(in crate::redis) struct Archiving {
    /// How long after its settlement an envelope leaves.
    after_ms: u64,
    /// Since when servers can know that there is an archive.
    noted_at: Timestamp,
    /// Envelopes that this engine has archived.
    pub(super) envelopes: AtomicU64,
    /// Whether the last tour could not.
    has_failed: AtomicBool,
    /// What there was when somebody last looked.
    extent: Mutex<Extent>,
}

impl Archiving {
    pub(in crate::redis) fn new(after_ms: u64, noted_at: Timestamp, extent: Extent) -> Archiving {
        Archiving { after_ms, noted_at, extent: Mutex::new(extent), ..Archiving::default() }
    }
}

/// What has left Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisArchived {
    /// Envelopes that this engine has archived.
    pub envelopes: u64,
    /// Files of the archive, when this engine last archived something or was opened.
    pub files: u64,
    /// Rows in them; one that two files have counts twice.
    pub rows: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Whether the archive could not be written or read at the last tour.
    pub has_failed: bool,
}

impl RedisBackend {
    /// What has left Redis.
    pub fn archived(&self) -> RedisArchived {
        let Archiving { envelopes, has_failed, extent, .. } = &self.core.archiving;
        let Extent { files, rows, bytes } = *extent.lock();
        let (envelopes, has_failed) = (envelopes.load(Ordering::Relaxed), has_failed.load(Ordering::Relaxed));
        RedisArchived { envelopes, files, rows, bytes, has_failed }
    }
}

/// A part of an envelope, as much as goes into one file.
pub(super) struct Part {
    pub(super) created: Arc<EnvelopeCreated>,
    pub(super) winners: Vec<Win>,
    /// The envelope's own row, with its last part.
    pub(super) row: Option<Fields>,
}

/// What goes into one file.
#[derive(Default)]
struct Batch {
    parts: Vec<Part>,
    winners: usize,
}

/// A user who has something of an envelope: its winner, or its sender.
pub(super) struct Owner<'a> {
    part: &'a Part,
    user: &'a UserId,
    is_sender: bool,
}

/// A movement of a wallet: its mark, its number, its row.
pub(super) type Moved = (Vec<u8>, Vec<u8>, Vec<u8>);

/// Movements of a user that a file has.
pub(super) struct Filed<'a> {
    owner: Owner<'a>,
    moved: Vec<Moved>,
}

/// By bucket, its new generation.
pub(super) type Generations = HashMap<Bucket, u64>;

impl Part {
    pub(super) fn id(&self) -> EnvelopeId {
        self.created.id
    }

    fn owners(&self) -> impl Iterator<Item = Owner<'_>> {
        let sender = &self.created.terms.sender;
        let winners = self.winners.iter().map(|win| Owner { part: self, user: &win.user, is_sender: false });
        winners.chain(self.row.iter().map(move |_| Owner { part: self, user: sender, is_sender: true }))
    }
}

impl Owner<'_> {
    /// Under which movements of this envelope were entered.
    fn marks(&self) -> Vec<Vec<u8>> {
        let kinds: &[u8] = if self.is_sender { b"frl" } else { b"c" };
        kinds.iter().map(|&kind| [&[b'#', kind], &self.part.id().bytes()[..]].concat()).collect()
    }
}

impl Core {
    /// Until when envelopes were settled that may be archived now, if any may.
    pub(in crate::redis) fn archives_until(&self) -> Option<Timestamp> {
        self.archive.as_ref()?;
        let (now, after_ms) = (self.clock.now().ms(), self.archiving.after_ms);
        let noticed = now >= self.archiving.noted_at.ms() + NOTICE_MS.min(after_ms);
        now.checked_sub(after_ms).filter(|_| noticed).map(Timestamp::from_ms)
    }

    /// Archives what was settled long enough ago in these buckets, as much as is
    /// done at a time. Says whether there was anything. An archive that cannot be
    /// written keeps nothing else back: all stays in Redis.
    pub(in crate::redis) async fn archive_settled(&self, buckets: Vec<Bucket>) -> Result<bool> {
        let archived = self.archive_those(buckets).await;
        let failed = matches!(archived, Err(EngineError::Archive(_)));
        self.archiving.has_failed.store(failed, Ordering::Relaxed);
        match archived {
            Err(EngineError::Archive(why)) => {
                tracing::error!(why, "nothing can be archived");
                Ok(false)
            }
            archived => archived,
        }
    }

    async fn archive_those(&self, mut buckets: Vec<Bucket>) -> Result<bool> {
        let (Some(archive), Some(until)) = (self.archive.clone(), self.archives_until()) else { return Ok(false) };
        if buckets.is_empty() {
            return Ok(false);
        }
        // Servers begin in different places.
        let [first] = self.random::<1>();
        let first = usize::from(first) % buckets.len();
        buckets.rotate_left(first);
        let mut batch = Batch::default();
        let mut taken = 0;
        for bucket in buckets {
            for id in self.take_settled(bucket, until).await? {
                taken += 1;
                let left = if id.is_mass() {
                    // That takes a while.
                    self.archive_batch(&archive, std::mem::take(&mut batch)).await?;
                    self.archive_mass(&archive, bucket, id).await
                } else {
                    self.gather(&archive, bucket, id, &mut batch).await
                };
                skip_damaged(id, left)?;
            }
            if taken >= TAKEN_MAX {
                break;
            }
        }
        self.archive_batch(&archive, batch).await?;
        self.merge(&archive).await?;
        Ok(taken > 0)
    }

    /// Merges files, if there are many.
    pub(super) async fn merge(&self, archive: &Arc<Archive>) -> Result<()> {
        let (archive, nonce) = (Arc::clone(archive), self.random());
        let merged = tokio::task::spawn_blocking(move || {
            archive.merge(nonce)?;
            archive.files().map(|files| files.extent())
        });
        *self.archiving.extent.lock() = merged.await.map_err(|_| EngineError::ShuttingDown)??;
        Ok(())
    }

    /// Adds an envelope to a batch; whenever that is full, archives it.
    async fn gather(&self, archive: &Arc<Archive>, bucket: Bucket, id: EnvelopeId, batch: &mut Batch) -> Result<()> {
        let Some(row) = self.settled_row(bucket, id).await? else { return Ok(()) };
        let made = Arc::new(created(&row)?);
        let (width, all) = (field(&row, "width")?, field(&row, "taken")?);
        let mut read = 0;
        while read < all {
            let winners = self.wins(&made, width, read, WINNERS_READ).await?;
            if winners.is_empty() {
                // Another has archived it meanwhile.
                return Ok(());
            }
            read += winners.len() as u64;
            batch.winners += winners.len();
            batch.parts.push(Part { created: Arc::clone(&made), winners, row: None });
            if batch.winners >= WINNERS_A_FILE {
                self.archive_batch(archive, std::mem::take(batch)).await?;
            }
        }
        batch.parts.push(Part { created: made, winners: Vec::new(), row: Some(row) });
        Ok(())
    }

    /// Archives a batch; if something in it is damaged, each envelope alone, so
    /// that the others leave.
    async fn archive_batch(&self, archive: &Arc<Archive>, batch: Batch) -> Result<()> {
        match self.archive_parts(archive, &batch.parts).await {
            Err(EngineError::Backend(_)) => {}
            archived => return archived,
        }
        for parts in batch.parts.chunk_by(|one, next| one.id() == next.id()) {
            skip_damaged(parts[0].id(), self.archive_parts(archive, parts).await)?;
        }
        Ok(())
    }

    /// Keeps others from taking an envelope that is not done yet.
    pub(super) async fn take_again(&self, bucket: Bucket, id: EnvelopeId) -> Result<()> {
        let Some(until) = self.archives_until() else { return Ok(()) };
        let later = (until.ms() + TAKEN_FOR_MS).to_string().into_bytes();
        let args = [Vec::new(), Vec::new(), later, id.bytes().to_vec()];
        self.call(bucket, &TAKE_SETTLED, &[self.layout.settled(bucket)], &args, false).await.map(drop)
    }

    async fn take_settled(&self, bucket: Bucket, until: Timestamp) -> Result<Vec<EnvelopeId>> {
        let later = until.ms() + TAKEN_FOR_MS;
        let args = [until.ms(), TAKEN_EACH as u64, later].map(|number| number.to_string().into_bytes());
        let keys = [self.layout.settled(bucket)];
        let ids = Answer::read(self.call(bucket, &TAKE_SETTLED, &keys, &args, false).await?)?;
        (0..ids.len()).map(|index| ids.id(index).map(EnvelopeId::from_bytes)).collect()
    }

    /// An envelope's row, if it is settled.
    pub(super) async fn settled_row(&self, bucket: Bucket, id: EnvelopeId) -> Result<Option<Fields>> {
        let row = self.call(bucket, &READ, &[self.layout.envelope(id)], &[b"row".to_vec()], true).await?;
        let row: Fields = named(&Answer::read(row)?)?.into_iter().collect();
        Ok(row.get("settled").is_some_and(|settled| settled == b"1").then_some(row))
    }

    async fn archive_parts(&self, archive: &Arc<Archive>, parts: &[Part]) -> Result<()> {
        let waits = self.waiting_among(parts).await?;
        let batch: Vec<&Part> = parts.iter().filter(|part| !waits.contains(part.id().bytes())).collect();
        if batch.is_empty() {
            return Ok(());
        }
        let generations = self.turn_all(&batch).await?;
        let filed = self.file(archive, &batch).await?;
        self.leave_users(&filed, &generations).await?;
        let whole: Vec<&Part> = batch.iter().copied().filter(|part| part.row.is_some()).collect();
        let leaving: Vec<_> = whole.iter().map(|part| self.leave_envelope(part, &generations)).collect();
        stream::iter(leaving).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        self.archiving.envelopes.fetch_add(whole.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Writes parts of envelopes into a file, with what their users have of them.
    /// Tells what is theirs, and may leave now.
    pub(super) async fn file<'a>(&self, archive: &Arc<Archive>, parts: &[&'a Part]) -> Result<Vec<Filed<'a>>> {
        let owners: Vec<Owner<'_>> = parts.iter().copied().flat_map(Part::owners).collect();
        let asked: Vec<_> = owners.into_iter().map(|owner| self.moved(owner)).collect();
        let filed: Vec<Filed<'a>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let rows = rows_of(parts, &filed)?;
        let (to, nonce) = (Arc::clone(archive), self.random());
        let added = tokio::task::spawn_blocking(move || to.add(nonce, &rows)).await;
        added.map_err(|_| EngineError::ShuttingDown)??;
        Ok(filed)
    }

    /// What users have of envelopes leaves Redis.
    pub(super) async fn leave_users(&self, filed: &[Filed<'_>], generations: &Generations) -> Result<()> {
        let leaving: Vec<_> = filed.iter().map(|filed| self.leave_user(filed, generations)).collect();
        stream::iter(leaving).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Envelopes that have caused something that does not arrive.
    async fn waiting_among(&self, batch: &[Part]) -> Result<HashSet<[u8; 16]>> {
        let mut caused: HashMap<Bucket, Vec<Vec<u8>>> = HashMap::new();
        for part in batch {
            let id = part.id();
            let effect = |kind: &[u8], user: &[u8]| [kind, id.bytes(), user].concat();
            let home = caused.entry(self.layout.of_id(id.bytes())).or_default();
            for win in &part.winners {
                home.extend([b"g", b"c"].map(|kind| effect(kind, win.user.as_str().as_bytes())));
            }
            if part.row.is_some() {
                home.extend([b"r", b"l"].map(|kind| effect(kind, b"")));
                let sender = self.layout.of_user(&part.created.terms.sender);
                caused.entry(sender).or_default().push(effect(b"f", b""));
            }
        }
        self.waiting_in(caused).await
    }

    /// Envelopes of which effects under these fields wait and cannot be carried.
    pub(super) async fn waiting_in(&self, caused: HashMap<Bucket, Vec<Vec<u8>>>) -> Result<HashSet<[u8; 16]>> {
        let mut waits: HashSet<[u8; 16]> = HashSet::new();
        for (bucket, fields) in caused {
            for fields in fields.chunks(EFFECTS_ASKED) {
                let waiting = self.waiting_of(bucket, fields).await?;
                if waiting.is_empty() {
                    continue;
                }
                // Whoever caused it is a moment behind, or has ended.
                if let Err(error) = self.carry_out(bucket, waiting).await {
                    tracing::warn!(%error, "what an envelope caused does not arrive, so it is not archived");
                }
                for effect in self.waiting_of(bucket, fields).await? {
                    waits.insert(effect.id()?);
                }
            }
        }
        Ok(waits)
    }

    /// Those of these effects that wait. That the others do not is confirmed.
    async fn waiting_of(&self, bucket: Bucket, fields: &[Vec<u8>]) -> Result<Vec<crate::redis::reply::Effect>> {
        let read_in = self.generations.get(bucket);
        effects(self.call(bucket, &TURN, &self.turn_keys(bucket), fields, true).await?, read_in)
    }

    fn turn_keys(&self, bucket: Bucket) -> [Key; 2] {
        [self.layout.sums(bucket), self.layout.outbox(bucket)]
    }

    /// New generations of all buckets in which something was caused.
    async fn turn_all(&self, batch: &[&Part]) -> Result<Generations> {
        let homes = batch.iter().map(|part| self.layout.of_id(part.id().bytes()));
        let senders = batch.iter().filter(|part| part.row.is_some());
        let senders = senders.map(|part| self.layout.of_user(&part.created.terms.sender));
        self.turn_in(homes.chain(senders).collect()).await
    }

    /// New generations of these buckets.
    pub(super) async fn turn_in(&self, buckets: HashSet<Bucket>) -> Result<Generations> {
        let turned = buckets.into_iter().map(|bucket| async move {
            let value = self.call(bucket, &TURN, &self.turn_keys(bucket), &[], true).await?;
            Ok((bucket, Answer::read(value)?.number(0)?))
        });
        let turned: Vec<_> = turned.collect();
        stream::iter(turned).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn moved<'a>(&self, owner: Owner<'a>) -> Result<Filed<'a>> {
        let (bucket, keys) = (self.layout.of_user(owner.user), [self.layout.wallet(owner.user)]);
        let found = Answer::read(self.call(bucket, &MOVED, &keys, &owner.marks(), true).await?)?;
        let moved = (0..found.len()).step_by(3);
        let moved = moved
            .map(|at| Ok((found.bytes(at)?.to_vec(), found.bytes(at + 1)?.to_vec(), found.bytes(at + 2)?.to_vec())))
            .collect::<Result<_>>()?;
        Ok(Filed { owner, moved })
    }

    async fn leave_user(&self, Filed { owner, moved }: &Filed<'_>, generations: &Generations) -> Result<()> {
        let (bucket, layout, user) = (self.layout.of_user(owner.user), &self.layout, owner.user);
        let list = if owner.is_sender { layout.sent(user) } else { layout.received(user) };
        let keys = [layout.sums(bucket), layout.fences(bucket), layout.wallet(user), list];
        let id = owner.part.id();
        let mut args = self.fence_of(layout.of_id(id.bytes()), generations)?;
        args.push(id.bytes().to_vec());
        for (mark, number, _) in moved {
            args.extend([mark.clone(), number.clone()]);
        }
        self.call(bucket, &LEAVE, &keys, &args, true).await.map(drop)
    }

    pub(super) async fn leave_envelope(&self, part: &Part, generations: &Generations) -> Result<()> {
        let (id, layout) = (part.id(), &self.layout);
        let bucket = layout.of_id(id.bytes());
        let of_it = match id.is_mass() {
            true => vec![layout.reserve(id), layout.transfers(id)],
            false => vec![layout.shares(id), layout.winners(id), layout.winners_in_order(id)],
        };
        let mut keys = vec![
            layout.sums(bucket),
            layout.fences(bucket),
            layout.settled(bucket),
            layout.envelopes_by_time(bucket),
            layout.envelope(id),
        ];
        keys.extend(of_it);
        let mut args = self.fence_of(layout.of_user(&part.created.terms.sender), generations)?;
        args.push(id.bytes().to_vec());
        let left = Answer::read(self.call(bucket, &LEAVE_ENVELOPE, &keys, &args, true).await?)?;
        if left.tag() == b"left" { Ok(()) } else { Err(damaged("a settled envelope")) }
    }

    pub(super) fn fence_of(&self, cause: Bucket, generations: &Generations) -> Result<Vec<Vec<u8>>> {
        let generation = generations.get(&cause).ok_or_else(|| damaged("a generation"))?;
        Ok([u64::from(cause.number()), *generation].map(|number| number.to_string().into_bytes()).to_vec())
    }
}

/// All rows of a batch, as the archive has them.
fn rows_of(batch: &[&Part], filed: &[Filed<'_>]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for part in batch {
        let id = part.id();
        for page in part.winners.chunks(winners_a_row(id)) {
            all.insert(rows::winners_from(id, page[0].share), rows::packed_wins(page));
        }
        for win in &part.winners {
            all.insert(rows::winner(id, &win.user), rows::packed_win(win));
            all.insert(rows::listed(Listed::Received(&win.user), win.grabbed_at.ms(), id.bytes()), Vec::new());
        }
        if let Some(row) = &part.row {
            let (at_ms, sender) = (part.created.created_at.ms(), &part.created.terms.sender);
            all.insert(rows::envelope(id), rows::packed_fields(row));
            all.insert(rows::listed(Listed::All, at_ms, id.bytes()), Vec::new());
            all.insert(rows::listed(Listed::Sent(sender), at_ms, id.bytes()), Vec::new());
        }
    }
    for Filed { owner, moved } in filed {
        for (mark, number, row) in moved {
            let text = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
            let number: u64 = text.ok_or_else(|| damaged("a wallet"))?;
            all.insert(rows::movement(owner.user, number), row.clone());
            if !mark.is_empty() {
                all.insert(rows::mark(owner.user, mark), number.to_string().into_bytes());
            }
        }
    }
    Ok(all)
}

/// One that cannot be read stays where it is, and keeps no other back.
fn skip_damaged(id: EnvelopeId, archived: Result<()>) -> Result<()> {
    match archived {
        Err(EngineError::Backend(why)) => {
            tracing::warn!(envelope = %id, why, "an envelope is not archived: run `hongbao audit`");
            Ok(())
        }
        archived => archived,
    }
}

pub(super) fn field(row: &Fields, name: &str) -> Result<u64> {
    let text = row.get(name).and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| damaged("an envelope"))
}
