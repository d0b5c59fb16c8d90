//! The audit of a whole deployment: every invariant, checked from the rows in
//! Redis, whether servers run or not.
//!
//! - `wallets`: balances and the movements that make them
//! - `envelopes`: figures, shares, winners, lists
//! - `archived`: envelopes that have left Redis
//! - `mass`, `places`, `pools`: mass envelopes: what lies where, what has to hold
//!   between reserve, transfers and pools, and each pool with its winners
//! - `payouts`: what is to be paid outside
//! - `sales`, `merchants`: items, holds, orders; what merchants have
//! - `gifts`: gifts, their units, their money and their lists
//! - `in_flight`: money between buckets, and what waits in outboxes
//!
//! A bucket is looked at as a whole. Where two buckets are compared, what was
//! caused is looked for first, then the outbox of its cause, and then once more:
//! an effect stands in one of them at any time. A bucket in which something was
//! decided meanwhile is looked at again, and so is one with a finding.
//!
//! **Invariant:** a sound deployment has no finding, however many servers decide
//! meanwhile: what moves under its eyes is not compared, and told as unsettled.

mod api_keys;
mod archived;
mod codes;
mod envelopes;
mod gifts;
mod in_flight;
mod mass;
mod merchants;
mod payouts;
mod places;
mod pools;
mod sales;
mod wallets;

use super::backend::{Core, RedisBackend, Result};
use super::bucket::Bucket;
use super::layout::{Layout, MONEY};
use super::names::Names;
use super::reply::{Answer, damaged, parts};
use super::scripts::{INSPECT, READ};
use crate::backend::Audit;
use crate::error::EngineError;
use crate::store::Audited;
use crate::types::EnvelopeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) use in_flight::LATE_MS;
pub(super) use sales::{HoldRow, units_of};
pub(super) use wallets::mark_of;

/// What is wrong, by type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An effect that nobody carried for a minute.
    LateEffect,
    /// A row that is not of a form this version knows.
    Unreadable,
    /// A bucket's sums do not balance, or are not what its rows make (I1).
    Sums,
    /// Money between buckets is not what waits in outboxes (I1).
    InFlight,
    /// The movements of a wallet do not make its balance (I1).
    Wallet,
    /// Money that left one place and neither arrived in another nor waits (I1).
    LostMoney,
    /// An envelope's figures are not those of its shares (I2).
    Envelope,
    /// A share is not the split's, or not one user's (I3).
    Share,
    /// Something is missing from a list, or from the deadlines.
    List,
    /// An item's units are not those of its holds and orders (I4).
    Item,
    /// A hold or an order is in two states, or in none (I5).
    Hold,
    /// What a merchant is owed is not what was sold.
    Merchant,
    /// A payout is not of what left its envelope (I5).
    Payout,
    /// An API key works and is deleted, or stands under another's id.
    ApiKey,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Its type.
    pub kind: FindingKind,
    /// In plain words, with the ids concerned.
    pub what: String,
}

/// What an audit found.
#[derive(Clone, Debug)]
pub struct RedisAudit {
    /// What was looked at, and the number of findings.
    pub looked_at: Audited,
    /// Where all money is.
    pub totals: Audit,
    /// Effects that wait in outboxes.
    pub waiting: u64,
    /// The findings; of very many in one bucket only the first.
    pub findings: Vec<Finding>,
    /// Effects that nobody carried for a minute. They harm nobody: who needs
    /// them carries them, and so does any server.
    pub late: Vec<Finding>,
    /// Buckets in which something was decided all the time, so that their sums
    /// could not be compared with their rows.
    pub unsettled: u64,
    /// Mass envelopes among those that were looked at.
    pub in_pools: u64,
    /// Mass envelopes between whose pools shares moved all the time, so that it
    /// could not be compared where all of them are.
    pub moving: u64,
    /// Whether the money between buckets could be compared with what waits.
    pub settled: bool,
}

/// How far a long task has come: so many of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is done.
    pub done: u64,
    /// All there is to do; more may come to light.
    pub all: u64,
}

/// Where progress is told.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// Looks at a bucket that does not come to rest.
const ROUNDS: usize = 3;
/// Findings kept of one bucket.
const KEPT_MAX: usize = 200;
/// Bytes of a string taken at a time.
const BYTES: usize = 64 << 10;
/// Rows of a hash or list taken at a time.
const PAGE: usize = 256;

impl RedisBackend {
    /// Checks every invariant from the rows, without trusting a figure that
    /// another row can confirm.
    ///
    /// # Errors
    /// [`EngineError`] when Redis cannot be read now.
    pub async fn audit_rows(&self, progress: OnProgress<'_>) -> Result<RedisAudit> {
        let core = &self.core;
        let count = usize::from(core.layout.buckets);
        let mut wanted = vec![true; count];
        let mut looked: Vec<Option<Looked>> = Vec::new();
        looked.resize_with(count, || None);
        let mut told = Progress { done: 0, all: count as u64 };
        let mut in_pools = None;
        for _ in 0..ROUNDS {
            let before = core.sums_of_all().await?;
            let names = Arc::new(core.names(&wanted).await?);
            in_pools.get_or_insert_with(|| InPools::of(&names));
            let shared = Arc::new(before);
            let buckets = core.layout.all().filter(|bucket| wanted[usize::from(bucket.number())]).collect::<Vec<_>>();
            let look = |core, bucket: Bucket| {
                let (names, before) = (Arc::clone(&names), Arc::clone(&shared));
                let at = usize::from(bucket.number());
                async move { Look::new(core, bucket, &names[at], &before[at]).whole().await }
            };
            core.in_buckets(buckets.into_iter(), look, |mut now: Looked| {
                let at = usize::from(now.bucket.number());
                if let Some(last) = &looked[at] {
                    // What was seen once may have been on its way.
                    now.findings.retain(|finding| last.findings.contains(finding));
                    now.is_sure = true;
                }
                wanted[at] = !now.still || (!now.is_sure && !now.findings.is_empty());
                looked[at] = Some(now);
                told.done += 1;
                progress(told);
            })
            .await?;
            let again = wanted.iter().filter(|&&wanted| wanted).count();
            if again == 0 {
                break;
            }
            told.all += again as u64;
        }
        let InPools { envelopes, pools } = in_pools.unwrap_or_default();
        told.all += envelopes.len() as u64;
        let mut in_mass = Vec::new();
        for &id in &envelopes {
            in_mass.push(mass::look_twice(core, id).await?);
            told.done += 1;
            progress(told);
        }
        let in_flight = in_flight::look(core).await?;
        let strays = mass::strays(core, pools.difference(&envelopes), &in_flight.opening).await?;
        let mut report = RedisAudit {
            looked_at: Audited::default(),
            totals: in_flight.totals,
            waiting: in_flight.waiting,
            findings: in_flight.findings,
            late: in_flight.late,
            unsettled: 0,
            in_pools: envelopes.len() as u64,
            moving: 0,
            settled: in_flight.settled,
        };
        for mut bucket in looked.into_iter().flatten() {
            add(&mut report.looked_at, &bucket.counts);
            report.unsettled += u64::from(!bucket.still);
            if bucket.is_sure {
                report.findings.append(&mut bucket.findings);
            }
        }
        for mut looked in in_mass {
            report.looked_at.wins += looked.wins;
            report.moving += u64::from(looked.is_moving);
            report.findings.append(&mut looked.findings);
        }
        report.findings.extend(strays);
        report.findings.sort_by(|one, other| (one.kind, &one.what).cmp(&(other.kind, &other.what)));
        report.looked_at.findings = report.findings.len() as u64;
        Ok(report)
    }
}

/// What lies in pools, as far as names tell.
#[derive(Default)]
struct InPools {
    envelopes: BTreeSet<EnvelopeId>,
    /// Of which envelopes there are pools.
    pools: BTreeSet<EnvelopeId>,
}

impl InPools {
    fn of(names: &[Names]) -> InPools {
        let ids = |names: &super::names::Packed| {
            names.sorted().into_iter().filter_map(|name| name.parse::<EnvelopeId>().ok()).collect::<Vec<_>>()
        };
        let envelopes = names.iter().flat_map(|names| ids(&names.envelopes)).filter(EnvelopeId::is_mass);
        InPools { envelopes: envelopes.collect(), pools: names.iter().flat_map(|names| ids(&names.pools)).collect() }
    }
}

fn add(all: &mut Audited, some: &Audited) {
    all.wallets += some.wallets;
    all.entries += some.entries;
    all.envelopes += some.envelopes;
    all.wins += some.wins;
    all.items += some.items;
    all.holds += some.holds;
    all.orders += some.orders;
    all.payouts += some.payouts;
    all.gifts += some.gifts;
    all.codes += some.codes;
}

/// What is read of a bucket's sums beside its money; what is told of it stands there, too.
const BESIDE_MONEY: [&str; 3] = ["clock", "generation", "quota"];

/// A bucket's sums, its clock among them.
pub(super) type Sums = BTreeMap<String, Vec<u8>>;

/// A sum that is not there is zero.
pub(super) fn sum(sums: &Sums, name: &str) -> Result<i64> {
    let Some(value) = sums.get(name) else { return Ok(0) };
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(|| damaged("a sum"))
}

impl Core {
    pub(super) async fn sums(&self, bucket: Bucket) -> Result<Sums> {
        let names = || BESIDE_MONEY.into_iter().chain(MONEY);
        let args: Vec<Vec<u8>> = std::iter::once("row").chain(names()).map(|word| word.as_bytes().to_vec()).collect();
        let row = self.read(bucket, &[self.layout.sums(bucket)], &args).await?;
        let named = names().enumerate().filter_map(|(index, name)| Some((name.to_owned(), row.maybe(index)?.to_vec())));
        Ok(named.collect())
    }

    /// By the bucket's number.
    pub(super) async fn sums_of_all(self: &Arc<Self>) -> Result<Vec<Sums>> {
        let asked = self.in_every_bucket(|core, bucket| async move { Ok((bucket, core.sums(bucket).await?)) });
        let mut sums = vec![Sums::new(); usize::from(self.layout.buckets)];
        asked.await?.into_iter().for_each(|(bucket, of_it)| sums[usize::from(bucket.number())] = of_it);
        Ok(sums)
    }

    /// Reads by `inspect.lua`.
    pub(super) async fn inspect(&self, bucket: Bucket, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Result<redis::Value> {
        self.call(bucket, &INSPECT, keys, args, true).await
    }

    pub(super) async fn sizes<const N: usize>(&self, bucket: Bucket, keys: [Vec<u8>; N]) -> Result<[u64; N]> {
        let answer = Answer::read(self.inspect(bucket, &keys, &words(["sizes"])).await?)?;
        let mut sizes = [0; N];
        for (index, size) in sizes.iter_mut().enumerate() {
            *size = answer.number(index)?;
        }
        Ok(sizes)
    }

    /// Where members stand in a sorted set; `None` is nowhere.
    pub(super) async fn scores(&self, bucket: Bucket, key: Vec<u8>, members: &[Vec<u8>]) -> Result<Vec<Option<i64>>> {
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let args: Vec<Vec<u8>> = words(["scores"]).into_iter().chain(members.iter().cloned()).collect();
        let answer = Answer::read(self.inspect(bucket, &[key], &args).await?)?;
        let score = |index: usize| match answer.maybe(index) {
            None => Ok(None),
            Some(_) => answer.signed(index).map(Some),
        };
        (0..members.len()).map(score).collect()
    }

    /// Bytes of a string, from one on to before another.
    async fn bytes_of(&self, bucket: Bucket, key: &[u8], from: u64, to: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for first in (from..to).step_by(BYTES) {
            let last = to.min(first + BYTES as u64) - 1;
            let range = [first, last].map(|at| at.to_string().into_bytes());
            let args: Vec<Vec<u8>> = words(["bytes"]).into_iter().chain(range).collect();
            let part = Answer::read(self.inspect(bucket, &[key.to_vec()], &args).await?)?;
            bytes.extend_from_slice(part.bytes(0)?);
        }
        Ok(bytes)
    }

    pub(super) async fn fields(&self, bucket: Bucket, key: Vec<u8>, fields: &[Vec<u8>]) -> Result<Answer> {
        let args: Vec<Vec<u8>> = words(["row"]).into_iter().chain(fields.iter().cloned()).collect();
        Answer::read(self.call(bucket, &READ, &[key], &args, true).await?)
    }
}

/// A walk through a hash, page by page. A field may be told twice while others
/// write or the hash shrinks.
pub(super) struct Pages<'a> {
    core: &'a Core,
    bucket: Bucket,
    key: Vec<u8>,
    cursor: Option<Vec<u8>>,
}

impl<'a> Pages<'a> {
    pub(super) fn of(core: &'a Core, bucket: Bucket, key: Vec<u8>) -> Pages<'a> {
        Pages { core, bucket, key, cursor: Some(b"0".to_vec()) }
    }

    /// Fields and values; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<(Vec<u8>, Vec<u8>)>>> {
        let Some(cursor) = self.cursor.take() else { return Ok(None) };
        let args = [b"page".to_vec(), cursor, PAGE.to_string().into_bytes()];
        let answer = self.core.inspect(self.bucket, std::slice::from_ref(&self.key), &args).await?;
        let mut answer = parts(answer)?.into_iter();
        let (Some(end), Some(rows)) = (answer.next(), answer.next()) else { return Err(damaged("a page")) };
        let end = Answer::read(redis::Value::Array(vec![end]))?;
        self.cursor = Some(end.bytes(0)?.to_vec()).filter(|end| end != b"0");
        let rows = Answer::read(rows)?;
        let pairs = (0..rows.len()).step_by(2).map(|at| Ok((rows.bytes(at)?.to_vec(), rows.bytes(at + 1)?.to_vec())));
        pairs.collect::<Result<Vec<_>>>().map(Some)
    }
}

pub(super) fn words<const N: usize>(words: [&str; N]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// What was found out about one thing; that it cannot be read is a finding.
fn readable(name: &str, looked: Result<Option<Finding>>) -> Result<Option<Finding>> {
    match looked {
        Err(EngineError::Backend(why) | EngineError::Archive(why)) => {
            Ok(Some(Finding { kind: FindingKind::Unreadable, what: format!("{name}: {why}") }))
        }
        looked => looked,
    }
}

/// What a look at one bucket came to.
struct Looked {
    bucket: Bucket,
    /// Whether nothing was decided there from before its names were asked for.
    still: bool,
    /// Whether the findings were found twice.
    is_sure: bool,
    counts: Audited,
    findings: Vec<Finding>,
}

/// Money as the rows of a bucket make it.
#[derive(Clone, Copy, Default)]
pub(super) struct Money {
    pub(super) deposited: u64,
    pub(super) withdrawn: u64,
    pub(super) paid_out: u64,
    pub(super) wallets: u64,
    pub(super) escrowed: u64,
    pub(super) payable: u64,
    pub(super) merchants: u64,
    pub(super) platform: u64,
}

/// One bucket while it is looked at.
struct Look<'a> {
    core: Arc<Core>,
    bucket: Bucket,
    names: &'a Names,
    before: &'a Sums,
    money: Money,
    counts: Audited,
    findings: Vec<Finding>,
    /// What can be told only if nothing was decided meanwhile.
    if_still: Vec<Finding>,
}

impl<'a> Look<'a> {
    fn new(core: Arc<Core>, bucket: Bucket, names: &'a Names, before: &'a Sums) -> Look<'a> {
        let (money, counts) = (Money::default(), Audited::default());
        Look { core, bucket, names, before, money, counts, findings: Vec::new(), if_still: Vec::new() }
    }

    async fn whole(mut self) -> Result<Looked> {
        let number = self.bucket.number();
        let looked = self.wallets().await;
        self.told_of(&format!("wallets of bucket {number}"), looked)?;
        let looked = self.envelopes().await;
        self.told_of(&format!("envelopes of bucket {number}"), looked)?;
        let looked = self.pools().await;
        self.told_of(&format!("pools of bucket {number}"), looked)?;
        let looked = self.archived().await;
        self.told_of(&format!("archived envelopes of bucket {number}"), looked)?;
        let looked = self.payouts().await;
        self.told_of(&format!("payouts of bucket {number}"), looked)?;
        let looked = self.sales().await;
        self.told_of(&format!("sales of bucket {number}"), looked)?;
        if self.bucket == Layout::COMMON {
            let looked = self.api_keys().await;
            self.told_of("API keys", looked)?;
        }
        let after = self.core.sums(self.bucket).await?;
        let still = after == *self.before;
        let looked = self.sums(&after);
        self.told_of(&format!("sums of bucket {number}"), looked)?;
        if still {
            self.findings.append(&mut self.if_still);
        }
        Ok(Looked { bucket: self.bucket, still, is_sure: false, counts: self.counts, findings: self.findings })
    }

    fn found(&mut self, kind: FindingKind, what: String) {
        if self.findings.len() < KEPT_MAX {
            self.findings.push(Finding { kind, what });
        }
    }

    fn found_if_still(&mut self, kind: FindingKind, what: String) {
        if self.if_still.len() < KEPT_MAX {
            self.if_still.push(Finding { kind, what });
        }
    }

    /// A finding, if nothing moves, unless `told` is what the rows say.
    fn expect(&mut self, kind: FindingKind, what: &str, told: u64, rows: u64) {
        if told != rows {
            self.found_if_still(kind, format!("{what}: {told} is on record, the rows make {rows}"));
        }
    }

    /// A row that cannot be read is a finding and not the end of the audit.
    fn told_of<T>(&mut self, name: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(EngineError::Backend(why) | EngineError::Archive(why)) => {
                self.found(FindingKind::Unreadable, format!("{name}: {why}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// I1 for the bucket: in itself at any time, and with its rows.
    fn sums(&mut self, sums: &Sums) -> Result<()> {
        let number = self.bucket.number();
        let places = ["withdrawn", "paid_out", "wallets", "escrowed", "payable", "merchants", "platform", "transit"];
        let mut left = i128::from(sum(sums, "deposited")?);
        for place in places {
            left -= i128::from(sum(sums, place)?);
        }
        if left != 0 {
            self.found(FindingKind::Sums, format!("sums of bucket {number}: {left} of what came in is nowhere"));
        }
        let rows = [
            ("deposited", self.money.deposited),
            ("withdrawn", self.money.withdrawn),
            ("paid_out", self.money.paid_out),
            ("wallets", self.money.wallets),
            ("escrowed", self.money.escrowed),
            ("payable", self.money.payable),
            ("merchants", self.money.merchants),
            ("platform", self.money.platform),
        ];
        for (name, rows) in rows {
            let told = sum(sums, name)?;
            if i128::from(told) != i128::from(rows) {
                let what = format!("{name} of bucket {number}: {told} is on record, the rows make {rows}");
                self.found_if_still(FindingKind::Sums, what);
            }
        }
        let (deposited, quota) = (sum(sums, "deposited")?, sum(sums, "quota")?);
        if deposited > quota {
            self.found(FindingKind::Sums, format!("bucket {number}: {deposited} was deposited of {quota} allowed"));
        }
        Ok(())
    }
}
