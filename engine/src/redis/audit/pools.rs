//! One pool of a mass envelope: its shares, its winners, and what came of each.
//! All of it lies in one bucket, so a winner's list and wallet are compared with
//! the winner's row and no outbox is asked.

use super::envelopes::place_of;
use super::{Finding, FindingKind, words};
use crate::event::EnvelopeCreated;
use crate::payout::PayoutTo;
use crate::redis::backend::{Core, Result};
use crate::redis::bucket::Bucket;
use crate::redis::reads::Win;
use crate::redis::reply::{Answer, damaged};
use crate::redis::rows::{pool_terms_of, shares_in};
use crate::split::Shares;
use crate::types::{EnvelopeId, UserId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Looks at a pool that does not come to rest.
const LOOKS: usize = 4;
/// Winners of whom it is looked at once what came of them.
const WINNERS: usize = 256;

/// A pool as its scripts keep it.
pub(in crate::redis) struct PoolRow {
    pub(in crate::redis) width: u64,
    pub(in crate::redis) sequence: u64,
    pub(super) head: u64,
    pub(super) tail: u64,
    pub(super) entered: u64,
    pub(super) taken_amount: u64,
    pub(super) claimed: u64,
    pub(super) claimed_amount: u64,
    /// What the last transfer gave back.
    pub(super) given: u64,
    pub(in crate::redis) given_amount: u64,
    given_kind: Vec<u8>,
    /// How it was told that the envelope has ended.
    pub(super) told: Vec<u8>,
    pub(super) is_closed: bool,
    pub(super) has_lapsed: bool,
    row: Answer,
}

impl PoolRow {
    const FIELDS: [&str; 16] = [
        "width",
        "sequence",
        "head",
        "tail",
        "entered",
        "taken_amount",
        "claimed",
        "claimed_amount",
        "given",
        "given_amount",
        "given_kind",
        "told",
        "closed",
        "lapsed",
        "auto_claim",
        "filled",
    ];

    fn read(row: Answer) -> Result<PoolRow> {
        let width = row.number(0)?;
        if width != 4 && width != 8 {
            return Err(damaged("a pool"));
        }
        Ok(PoolRow {
            width,
            sequence: row.number(1)?,
            head: row.number(2)?,
            tail: row.number(3)?,
            entered: row.number(4)?,
            taken_amount: row.number(5)?,
            claimed: row.number(6)?,
            claimed_amount: row.number(7)?,
            given: row.number(8)?,
            given_amount: row.number(9)?,
            given_kind: row.bytes(10)?.to_vec(),
            told: row.bytes(11)?.to_vec(),
            is_closed: row.flag(12),
            has_lapsed: row.flag(13),
            row,
        })
    }

    /// Money that lies in it.
    pub(super) fn escrowed(&self) -> u64 {
        let unclaimed = if self.has_lapsed { self.taken_amount.saturating_sub(self.claimed_amount) } else { 0 };
        self.entered.saturating_sub(self.claimed_amount).saturating_sub(unclaimed)
    }

    /// Shares that the last transfer took from it and that lie there until the next.
    fn recalled(&self) -> u64 {
        if self.given_kind == b"r" { self.given } else { 0 }
    }
}

/// What is the same for all pools of an envelope.
pub(super) struct Facts {
    pub(super) created: EnvelopeCreated,
    pub(super) split: Shares,
    /// Bytes of an amount.
    pub(super) width: u64,
    /// How many pools there are.
    pub(super) buckets: u16,
}

/// What a look at a pool came to.
pub(super) struct PoolLooked {
    pub(super) pool: Bucket,
    /// `None` if there is no such pool.
    pub(super) row: Option<PoolRow>,
    /// Which shares lie there, those that somebody has first, then those that a
    /// transfer that is not noted may have taken.
    pub(super) shares: Vec<u32>,
    /// Whether no transfer came or went meanwhile.
    pub(super) still: bool,
    pub(super) findings: Vec<Finding>,
    /// Whether it has left Redis.
    pub(super) has_left: bool,
}

impl PoolLooked {
    /// One of which nothing is there.
    pub(super) fn without_row(pool: Bucket, findings: Vec<Finding>) -> PoolLooked {
        PoolLooked { pool, row: None, shares: Vec::new(), still: true, findings, has_left: false }
    }
}

impl Core {
    pub(in crate::redis) async fn pool_row(&self, pool: Bucket, id: EnvelopeId) -> Result<Option<PoolRow>> {
        let row = self.fields(pool, self.layout.pool(pool, id), &words(PoolRow::FIELDS)).await?;
        if row.maybe(0).is_none() {
            return Ok(None);
        }
        PoolRow::read(row).map(Some)
    }

    /// Looks at one pool until it is at rest, or so often.
    pub(super) async fn look_at_pool(self: Arc<Self>, pool: Bucket, facts: Arc<Facts>) -> Result<PoolLooked> {
        let id = facts.created.id;
        for nth in 1.. {
            let Some(before) = self.pool_row(pool, id).await? else {
                if self.may_have_left(id).await? && self.archived_row(id).await?.is_some() {
                    return Ok(PoolLooked { has_left: true, ..PoolLooked::without_row(pool, Vec::new()) });
                }
                let what = format!("{id}: its pool in bucket {} is missing", pool.number());
                let findings = vec![Finding { kind: FindingKind::Envelope, what }];
                return Ok(PoolLooked::without_row(pool, findings));
            };
            let size = 4 + before.width;
            let end = (before.tail + before.recalled()) * size;
            let shares = self.bytes_of(pool, &self.layout.pool_shares(pool, id), 0, end).await?;
            let winners = self.winners_of_pool(id, pool).await?;
            let Some(after) = self.pool_row(pool, id).await? else { continue };
            if after.row == before.row || nth == LOOKS {
                let still = after.sequence == before.sequence;
                let mut look =
                    PoolLook { facts: &facts, pool, before: &before, after: &after, still, findings: Vec::new() };
                let numbers = look.shares(&shares);
                look.winners(&winners, numbers.as_deref());
                look.terms(self.pool_terms(pool, &facts).await?);
                let mut findings = look.findings;
                self.what_came_of_all(pool, &facts, winners, &mut findings).await?;
                return Ok(PoolLooked {
                    pool,
                    row: Some(before),
                    shares: numbers.unwrap_or_default(),
                    still,
                    findings,
                    has_left: false,
                });
            }
        }
        unreachable!("the last look ends it")
    }

    /// By user: a server may tell one twice.
    async fn winners_of_pool(&self, id: EnvelopeId, pool: Bucket) -> Result<HashMap<UserId, Win>> {
        let (mut winners, mut cursor) = (HashMap::new(), b"0".to_vec());
        loop {
            let found = self.scan_winners(id, pool, cursor).await?;
            let is_last = found.is_last();
            winners.extend(found.wins.into_iter().map(|win| (win.user.clone(), win)));
            if is_last {
                return Ok(winners);
            }
            cursor = found.next;
        }
    }

    /// The terms that are not those of the envelope.
    async fn pool_terms(&self, pool: Bucket, facts: &Facts) -> Result<Vec<String>> {
        let terms = pool_terms_of(&facts.created, facts.width);
        self.other_terms(pool, self.layout.pool(pool, facts.created.id), terms).await
    }

    /// Of a row's terms, names and values, those that are otherwise there.
    pub(super) async fn other_terms(&self, bucket: Bucket, key: Vec<u8>, terms: Vec<Vec<u8>>) -> Result<Vec<String>> {
        let names: Vec<Vec<u8>> = terms.iter().step_by(2).cloned().collect();
        let row = self.fields(bucket, key, &names).await?;
        let is_other = |nth: usize| row.maybe(nth) != Some(terms[2 * nth + 1].as_slice());
        let other = (0..names.len()).filter(|&nth| is_other(nth));
        Ok(other.map(|nth| String::from_utf8_lossy(&names[nth]).into_owned()).collect())
    }

    pub(super) async fn what_came_of_all(
        self: &Arc<Self>,
        pool: Bucket,
        facts: &Facts,
        winners: HashMap<UserId, Win>,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let id = facts.created.id;
        let is_outside = facts.created.terms.outside.payout == PayoutTo::External;
        let mut looked = JoinSet::new();
        for win in winners.into_values() {
            if looked.len() == WINNERS
                && let Some(came) = looked.join_next().await
            {
                findings.extend(came.expect("a look does not panic")?);
            }
            let core = Arc::clone(self);
            if core.layout.of_user(&win.user) != pool {
                // Told of already; what this user has lies elsewhere.
                continue;
            }
            looked.spawn(async move {
                let name = format!("{id}, {}", win.user);
                super::readable(&name, core.what_came_of_win(id, win, is_outside).await)
            });
        }
        while let Some(came) = looked.join_next().await {
            findings.extend(came.expect("a look does not panic")?);
        }
        Ok(())
    }

    /// Whether a winner's own list has the share and, if it was claimed, the wallet its money.
    async fn what_came_of_win(&self, id: EnvelopeId, mut win: Win, is_outside: bool) -> Result<Option<Finding>> {
        let effect = [b"c", &id.bytes()[..]].concat();
        for nth in 0.. {
            let arrived = self.arrived(&win.user, &effect, id.bytes(), is_outside).await?;
            let is_listed = arrived.grabbed_at_ms == Some(win.grabbed_at.ms() as i64);
            let owed = win.claimed_at.map(|_| win.amount);
            if is_listed && arrived.amount == owed {
                return Ok(None);
            }
            if nth == 0 {
                // It may have been claimed since it was read.
                if let Some((_, Some(now))) = self.mass_win(id, &win.user).await? {
                    win = now;
                }
                continue;
            }
            let there = arrived.amount.map_or(0, |amount| amount.minor());
            let owed = owed.map_or(0, |amount| amount.minor());
            return Ok(Some(if is_listed {
                let place = place_of(is_outside);
                let what = format!("{id}: {} claimed {owed}, and in the {place} stand {there}", win.user);
                Finding { kind: FindingKind::LostMoney, what }
            } else {
                let what = format!("{id}: share {} is missing from the list of what {} received", win.share, win.user);
                Finding { kind: FindingKind::List, what }
            }));
        }
        unreachable!("the second look ends it")
    }
}

/// A pool's rows while they are compared.
struct PoolLook<'a> {
    facts: &'a Facts,
    pool: Bucket,
    before: &'a PoolRow,
    after: &'a PoolRow,
    still: bool,
    findings: Vec<Finding>,
}

impl PoolLook<'_> {
    fn found(&mut self, kind: FindingKind, what: String) {
        let (id, number) = (self.facts.created.id, self.pool.number());
        self.findings.push(Finding { kind, what: format!("{id}, its pool in bucket {number}: {what}") });
    }

    fn expect(&mut self, what: &str, told: u64, rows: u64) {
        if told != rows {
            self.found(FindingKind::Envelope, format!("{what}: {told} is on record, the rows make {rows}"));
        }
    }

    fn terms(&mut self, other: Vec<String>) {
        if !other.is_empty() {
            self.found(FindingKind::Envelope, format!("its {} are not the envelope's", other.join(", ")));
        }
    }

    /// I3: each share and its amount are the split's; I2: the money is that of the
    /// shares. Which they are.
    fn shares(&mut self, packed: &[u8]) -> Option<Vec<u32>> {
        let PoolRow { head, tail, entered, taken_amount, given_amount, .. } = *self.before;
        let all = tail + self.before.recalled();
        let found = packed.len() as u64 / (4 + self.before.width);
        if head > tail || found != all {
            self.found(FindingKind::Share, format!("{found} shares lie there, {all} are on record, {head} are taken"));
            return None;
        }
        let split = &self.facts.split;
        let (mut numbers, mut wrong) = (Vec::new(), None);
        let (mut taken, mut lie_there, mut recalled) = (0u64, 0u64, 0u64);
        for (place, (share, amount)) in (0..).zip(shares_in(packed, self.before.width)) {
            if share >= split.len() || split.get(share).minor() != amount {
                wrong.get_or_insert((share, amount));
            }
            match place {
                place if place < head => taken = taken.saturating_add(amount),
                place if place < tail => lie_there = lie_there.saturating_add(amount),
                _ => recalled = recalled.saturating_add(amount),
            }
            numbers.push(share);
        }
        if let Some((share, amount)) = wrong {
            self.found(FindingKind::Share, format!("share {share} of {amount} is not what the split has"));
        }
        self.expect("money in shares that are taken", taken_amount, taken);
        // Of what is behind them a transfer may have taken some meanwhile, and brought others.
        if self.still {
            self.expect("money in its shares", entered, taken.saturating_add(lie_there));
            if self.before.recalled() > 0 {
                self.expect("money that it gave back", given_amount, recalled);
            }
        }
        Some(numbers)
    }

    /// I3: whoever has a share has one, of those that the pool gave, and each has one user.
    fn winners(&mut self, winners: &HashMap<UserId, Win>, numbers: Option<&[u32]>) {
        let (before, after) = (self.before, self.after);
        // What was taken meanwhile stands behind what had been taken before.
        let given: Option<HashSet<u32>> =
            numbers.map(|numbers| numbers.iter().copied().take(after.head as usize).collect());
        // A transfer may have brought what was not there to be read.
        let is_strange = |share: &u32| match (&given, numbers) {
            (Some(given), Some(numbers)) => !given.contains(share) && (self.still || numbers.contains(share)),
            _ => false,
        };
        let mut seen = HashSet::new();
        let (mut claimed, mut claimed_amount) = (0u64, 0u64);
        let mut wrong: Vec<String> = Vec::new();
        for Win { user, share, amount, claimed_at, .. } in winners.values() {
            if !seen.insert(*share) {
                wrong.push(format!("share {share} has another user beside {user}"));
            } else if is_strange(share) {
                wrong.push(format!("{user} has share {share}, which nobody was given there"));
            }
            if Bucket::of(user.as_str().as_bytes(), self.facts.buckets) != self.pool {
                wrong.push(format!("{user} has share {share}, and belongs into another pool"));
            }
            if claimed_at.is_some() {
                claimed += 1;
                claimed_amount = claimed_amount.saturating_add(amount.minor());
            }
        }
        wrong.sort_unstable();
        wrong.into_iter().for_each(|what| self.found(FindingKind::Share, what));
        if after.row == before.row {
            self.expect("shares that are taken", before.head, winners.len() as u64);
            self.expect("shares that are claimed", before.claimed, claimed);
            self.expect("money that is claimed", before.claimed_amount, claimed_amount);
        }
    }
}
