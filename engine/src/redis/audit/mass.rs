//! Mass envelopes: where each share is, among reserve, transfers and pools, and
//! that all of these say the same of the envelope's money and of its end.
//!
//! A transfer moves shares between two buckets, so they are compared only if none
//! was opened or noted in the reserve, and none came or went in a pool, while that
//! was read. Grabs and claims move nothing between places.

use super::envelopes::Taken;
use super::pools::{Facts, PoolLooked};
use super::{Finding, FindingKind, Look, Sums, readable, words};
use crate::command::EndedAs;
use crate::error::EngineError;
use crate::event::EnvelopeCreated;
use crate::redis::backend::{Core, Result};
use crate::redis::bucket::Bucket;
use crate::redis::names::Names;
use crate::redis::reads::Win;
use crate::redis::reply::{Answer, damaged};
use crate::redis::rows::{TransferRow, terms_of, width};
use crate::state::envelope::Figures;
use crate::types::{Amount, EnvelopeId, UserId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Looks at an envelope between whose pools shares move.
const LOOKS: usize = 3;
/// Winners taken from the archive at a time.
const WINNERS: usize = 256;

/// What a look at a mass envelope came to.
#[derive(Default)]
pub(super) struct MassLooked {
    pub(super) findings: Vec<Finding>,
    pub(super) wins: u64,
    /// Whether shares moved all the time.
    pub(super) is_moving: bool,
}

/// Looks at a mass envelope, and again if something is found: what was seen once
/// may have been on its way.
pub(super) async fn look_twice(core: &Arc<Core>, id: EnvelopeId) -> Result<MassLooked> {
    let first = look(core, id).await?;
    if first.findings.is_empty() {
        return Ok(first);
    }
    let mut second = look(core, id).await?;
    second.findings.retain(|finding| first.findings.contains(finding));
    Ok(second)
}

async fn look(core: &Arc<Core>, id: EnvelopeId) -> Result<MassLooked> {
    let (names, sums) = (Names::default(), Sums::new());
    let mut look = Look::new(Arc::clone(core), core.layout.of_id(id.bytes()), &names, &sums);
    let looked = look.mass(id).await;
    let is_moving = look.told_of(&id.to_string(), looked)?.is_some_and(|is_still| !is_still);
    Ok(MassLooked { findings: look.findings, wins: look.counts.wins, is_moving })
}

/// Pools of envelopes that are not there and do not open either.
pub(super) async fn strays(
    core: &Arc<Core>,
    pools: impl Iterator<Item = &EnvelopeId>,
    opening: &BTreeSet<EnvelopeId>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for &id in pools.filter(|id| !opening.contains(id)) {
        // It may have opened since its name was asked for.
        let head = core.mass_state(id).await.map(|head| match head {
            Some(_) => None,
            None => Some(Finding { kind: FindingKind::Envelope, what: format!("{id}: it has pools and is not there") }),
        });
        findings.extend(readable(&id.to_string(), head)?);
    }
    Ok(findings)
}

/// What stands in the envelope's own bucket.
#[derive(PartialEq, Eq)]
struct State {
    row: Answer,
    transfers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The same, read.
pub(super) struct Head {
    pub(super) ended: Vec<u8>,
    pub(super) closing: Vec<u8>,
    pub(super) is_lapsing: bool,
    pub(super) settled: bool,
    pub(super) refunded: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) kept: u64,
    pub(super) unsold: u64,
    pub(super) open: u64,
    pub(super) empty: u64,
    pub(super) closed: u64,
    pub(super) lapsed: u64,
    pub(super) transfers: HashMap<Bucket, TransferRow>,
    /// Shares of open grants.
    pub(super) grants: HashMap<Bucket, Vec<u8>>,
}

impl State {
    const FIELDS: [&str; 14] = [
        "created", "ended", "closing", "lapsing", "settled", "refunded", "head", "tail", "kept", "unsold", "open",
        "empty", "closed", "lapsed",
    ];

    fn created(&self, id: EnvelopeId) -> Result<EnvelopeCreated> {
        let created = EnvelopeCreated::of_bytes(self.row.bytes(0)?).ok_or_else(|| damaged("an envelope"))?;
        if created.id == id { Ok(created) } else { Err(damaged("an envelope")) }
    }

    fn head(&self) -> Result<Head> {
        let (mut transfers, mut grants) = (HashMap::new(), HashMap::new());
        for (field, value) in &self.transfers {
            let (number, is_grant) = match field.strip_prefix(b"shares") {
                Some(number) => (number, true),
                None => (&field[..], false),
            };
            let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
            let pool = Bucket::new(number.ok_or_else(|| damaged("a transfer"))?);
            if is_grant {
                grants.insert(pool, value.clone());
            } else {
                transfers.insert(pool, TransferRow::read(value)?);
            }
        }
        let row = &self.row;
        row.ended(1)?;
        Ok(Head {
            ended: row.bytes(1)?.to_vec(),
            closing: row.bytes(2)?.to_vec(),
            is_lapsing: row.flag(3),
            settled: row.flag(4),
            refunded: row.number(5)?,
            first: row.number(6)?,
            last: row.number(7)?,
            kept: row.number(8)?,
            unsold: row.number(9)?,
            open: row.number(10)?,
            empty: row.number(11)?,
            closed: row.number(12)?,
            lapsed: row.number(13)?,
            transfers,
            grants,
        })
    }
}

impl Head {
    pub(super) fn transfer(&self, pool: Bucket) -> TransferRow {
        self.transfers.get(&pool).copied().unwrap_or(TransferRow::NONE)
    }
}

impl Core {
    async fn mass_state(&self, id: EnvelopeId) -> Result<Option<State>> {
        let home = self.layout.of_id(id.bytes());
        let row = self.fields(home, self.layout.envelope(id), &words(State::FIELDS)).await?;
        if row.maybe(1).is_none() {
            return Ok(None);
        }
        let all = self.fields(home, self.layout.transfers(id), &[]).await?;
        let pairs = (0..all.len()).step_by(2).map(|at| Ok((all.bytes(at)?.to_vec(), all.bytes(at + 1)?.to_vec())));
        let mut transfers = pairs.collect::<Result<Vec<_>>>()?;
        transfers.sort_unstable();
        Ok(Some(State { row, transfers }))
    }
}

impl Look<'_> {
    /// The money in a mass envelope's reserve.
    pub(super) async fn in_reserve(&mut self, id: EnvelopeId) -> Result<()> {
        let row = self.core.fields(self.bucket, self.core.layout.envelope(id), &words(["kept"])).await?;
        self.money.escrowed = self.money.escrowed.saturating_add(row.number(0)?);
        Ok(())
    }

    /// The money of the pools that lie in this bucket.
    pub(super) async fn pools(&mut self) -> Result<()> {
        for name in self.names.pools.sorted() {
            let Ok(id) = name.parse::<EnvelopeId>() else {
                self.found(FindingKind::Unreadable, format!("{name}: no envelope has this id"));
                continue;
            };
            let row = self.core.pool_row(self.bucket, id).await;
            let name = format!("{id}, its pool in bucket {}", self.bucket.number());
            if let Some(Some(row)) = self.told_of(&name, row)? {
                self.money.escrowed = self.money.escrowed.saturating_add(row.escrowed());
            }
        }
        Ok(())
    }

    /// All of a mass envelope. Says whether nothing moved between its places meanwhile.
    async fn mass(&mut self, id: EnvelopeId) -> Result<bool> {
        let Some(state) = self.core.mass_state(id).await? else {
            // It has left Redis since its name was told.
            let archived = self.core.archived_row(id).await?;
            archived.ok_or_else(|| damaged("its row"))?;
            return self.archived_envelope(id).await.map(|()| true);
        };
        let created = state.created(id)?;
        let for_split = created.clone();
        // Of ten million shares that takes a second.
        let split = tokio::task::spawn_blocking(move || for_split.split()).await.expect("a split does not panic");
        let (width, buckets) = (width(&split), self.core.layout.buckets);
        let facts = Arc::new(Facts { created, split, width, buckets });
        let mut before = state;
        for nth in 1.. {
            let looked = self.places(before, &facts).await?;
            let is_still = looked.is_still;
            if is_still || nth == LOOKS {
                self.compare(looked, &facts).await?;
                return Ok(is_still);
            }
            before = self.core.mass_state(id).await?.ok_or_else(|| damaged("its row"))?;
        }
        unreachable!("the last look ends it")
    }

    /// Reads reserve and pools, and whether anything moved between them.
    async fn places(&self, before: State, facts: &Arc<Facts>) -> Result<Places> {
        let id = facts.created.id;
        let (core, home) = (&self.core, self.bucket);
        let head = before.head()?;
        let size = 4 + facts.width;
        let told = [[b"e", &id.bytes()[..]].concat()];
        let is_telling = core.fields(home, core.layout.outbox(home), &told).await?.maybe(0).is_some();
        let reserve = core.bytes_of(home, &core.layout.reserve(id), head.first * size, head.last * size).await?;
        let open: Vec<Bucket> =
            head.transfers.iter().filter(|(_, transfer)| transfer.is_open()).map(|(&pool, _)| pool).collect();
        let waiting = self.waiting_transfers(id, &open).await?;
        let mut pools = Vec::new();
        let look = |core: Arc<Core>, pool: Bucket| {
            let facts = Arc::clone(facts);
            async move { unreadable_too(id, pool, core.look_at_pool(pool, facts).await) }
        };
        core.in_buckets(core.layout.all(), look, |looked| pools.push(looked)).await?;
        pools.sort_unstable_by_key(|looked| looked.pool);
        let after = core.mass_state(id).await?.ok_or_else(|| damaged("its row"))?;
        let is_still = after == before && pools.iter().all(|looked| looked.still);
        Ok(Places { head, after: after.head()?, row: after.row, reserve, waiting, is_telling, pools, is_still })
    }

    /// Those of the open transfers that any sweeper will find.
    async fn waiting_transfers(&self, id: EnvelopeId, open: &[Bucket]) -> Result<BTreeSet<Bucket>> {
        if open.is_empty() {
            return Ok(BTreeSet::new());
        }
        let field = |pool: &Bucket| [b"t", &id.bytes()[..], &pool.number().to_le_bytes()].concat();
        let fields: Vec<Vec<u8>> = open.iter().map(field).collect();
        let row = self.core.fields(self.bucket, self.core.layout.outbox(self.bucket), &fields).await?;
        Ok((0..).zip(open).filter(|(nth, _)| row.maybe(*nth).is_some()).map(|(_, &pool)| pool).collect())
    }

    async fn compare(&mut self, mut places: Places, facts: &Facts) -> Result<()> {
        let created = &facts.created;
        let id = created.id;
        for looked in &mut places.pools {
            looked.findings.drain(..).for_each(|finding| self.found(finding.kind, finding.what));
        }
        let mut taken = Taken::default();
        for row in places.pools.iter().filter_map(|looked| looked.row.as_ref()) {
            taken.shares += row.head;
            taken.amount += row.taken_amount;
            taken.claimed += row.claimed;
            taken.claimed_amount += row.claimed_amount;
        }
        self.left(&places, facts, &mut taken).await?;
        self.counts.wins += taken.shares;
        let home = self.core.layout.envelope(id);
        let other = self.core.other_terms(self.bucket, home, terms_of(created, facts.width)).await?;
        if !other.is_empty() {
            self.found(FindingKind::Envelope, format!("{id}: its {} are not what it was made with", other.join(", ")));
        }
        self.told(id, &places);
        if !places.is_still {
            return Ok(());
        }
        self.transfers(id, &places);
        self.shares_in_places(&places, facts);
        let head = &places.head;
        let figures = Figures {
            ended: match &head.ended[..] {
                b"s" => Some(EndedAs::SoldOut),
                b"e" => Some(EndedAs::Expired),
                b"c" => Some(EndedAs::Cancelled),
                _ => None,
            },
            settled: head.settled,
            taken: taken.shares.try_into().unwrap_or(u32::MAX),
            taken_amount: amount(taken.amount)?,
            claimed: amount(taken.claimed_amount)?,
            refunded: amount(head.refunded)?,
        };
        let claimed = taken.claimed.try_into().unwrap_or(u32::MAX);
        self.figures(created, &figures, claimed, &taken, true);
        // An end that was begun is due at once.
        if !head.settled && (head.closing.is_empty() || figures.ended.is_some()) {
            self.deadline(created, &figures).await?;
        } else if !head.settled && self.due_at(id).await?.is_none() {
            self.found_if_still(FindingKind::List, format!("{id}: it is ending and nobody will look at it"));
        }
        self.ways(created, &figures).await?;
        if self.core.mass_state(id).await?.is_some_and(|now| now.row == places.row) {
            self.findings.append(&mut self.if_still);
        }
        Ok(())
    }
}

impl Look<'_> {
    /// Winners of pools that have left Redis, before their envelope has.
    async fn left(&mut self, places: &Places, facts: &Facts, taken: &mut Taken) -> Result<()> {
        let id = facts.created.id;
        let left: Vec<Bucket> =
            places.pools.iter().filter(|looked| looked.has_left).map(|looked| looked.pool).collect();
        let mut first = 0;
        while !left.is_empty() {
            let wins = self.core.archived_wins(id, first, WINNERS).await?;
            let Some(last) = wins.last() else { break };
            first = u64::from(last.share) + 1;
            let mut by_pool: HashMap<Bucket, HashMap<UserId, Win>> = HashMap::new();
            for win in wins {
                let pool = self.core.layout.of_user(&win.user);
                if !left.contains(&pool) {
                    continue;
                }
                if win.share >= facts.split.len() || facts.split.get(win.share) != win.amount {
                    let what = format!("{id}: share {} in the archive is not what the split has for it", win.share);
                    self.found(FindingKind::Share, what);
                }
                taken.shares += 1;
                taken.amount = taken.amount.saturating_add(win.amount.minor());
                if win.claimed_at.is_some() {
                    taken.claimed += 1;
                    taken.claimed_amount = taken.claimed_amount.saturating_add(win.amount.minor());
                }
                by_pool.entry(pool).or_default().insert(win.user.clone(), win);
            }
            let mut found = Vec::new();
            for (pool, winners) in by_pool {
                self.core.what_came_of_all(pool, facts, winners, &mut found).await?;
            }
            found.into_iter().for_each(|finding| self.found(finding.kind, finding.what));
        }
        Ok(())
    }
}

/// A pool that cannot be read is a finding and not the end of the look.
fn unreadable_too(id: EnvelopeId, pool: Bucket, looked: Result<PoolLooked>) -> Result<PoolLooked> {
    match looked {
        Err(EngineError::Backend(why)) => {
            let what = format!("{id}, its pool in bucket {}: {why}", pool.number());
            let findings = vec![Finding { kind: FindingKind::Unreadable, what }];
            Ok(PoolLooked::without_row(pool, findings))
        }
        looked => looked,
    }
}

fn amount(minor: u64) -> Result<Amount> {
    Amount::new(minor).ok_or_else(|| damaged("an amount"))
}

/// What was read of all places.
pub(super) struct Places {
    pub(super) head: Head,
    pub(super) after: Head,
    /// The envelope's own row, as it was last.
    row: Answer,
    pub(super) reserve: Vec<u8>,
    /// Pools whose open transfer waits in the outbox.
    pub(super) waiting: BTreeSet<Bucket>,
    /// Whether pools are still to be told how it has ended.
    pub(super) is_telling: bool,
    pub(super) pools: Vec<PoolLooked>,
    /// Whether nothing moved between them.
    is_still: bool,
}
