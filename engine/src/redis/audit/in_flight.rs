//! Money between buckets, and what waits in outboxes.

use super::{Finding, FindingKind, Pages, Sums, sum, words};
use crate::backend::Audit;
use crate::error::EngineError;
use crate::event::EnvelopeCreated;
use crate::redis::backend::{Core, Result};
use crate::redis::bucket::Bucket;
use crate::redis::effects::is_outside;
use crate::redis::reply::{Effect, damaged};
use crate::redis::rows::{TransferRow, shares_in};
use crate::redis::sales::Owed;
use crate::types::{Amount, EnvelopeId, GiftId, OrderId, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Looks while money moves.
const LOOKS: usize = 3;
/// An effect is carried by whoever caused it, or by any server's sweeper: older
/// than this, nobody did.
pub(in crate::redis) const LATE_MS: u64 = 60_000;

/// What the sums say, and what waits.
pub(super) struct InFlight {
    pub(super) totals: Audit,
    pub(super) waiting: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) late: Vec<Finding>,
    /// Envelopes that are funded and do not open yet.
    pub(super) opening: BTreeSet<EnvelopeId>,
    pub(super) settled: bool,
}

/// Effects of one bucket's outbox.
#[derive(Default)]
pub(in crate::redis) struct Waiting {
    pub(in crate::redis) effects: u64,
    /// Those that nobody carried for so long.
    pub(in crate::redis) late: Vec<Effect>,
    /// Money that left a place for another and is not there yet.
    money: u64,
    opening: Vec<EnvelopeId>,
    findings: Vec<Finding>,
}

/// Sums, outboxes and sums again: if nothing moved in between, what is in flight
/// is what waits.
pub(super) async fn look(core: &Arc<Core>) -> Result<InFlight> {
    let mut before = core.sums_of_all().await?;
    for nth in 1.. {
        let waiting = core.in_every_bucket(|core, bucket| async move { core.waiting(bucket, LATE_MS).await }).await?;
        let after = core.sums_of_all().await?;
        let settled = before == after;
        before = after;
        if settled || nth == LOOKS {
            return told(&before, waiting, settled);
        }
    }
    unreachable!("the last look ends it")
}

fn told(sums: &[Sums], waiting: Vec<Waiting>, settled: bool) -> Result<InFlight> {
    let all =
        |name: &str| sums.iter().try_fold(0i64, |all, sums| Ok::<_, EngineError>(all.saturating_add(sum(sums, name)?)));
    let in_flight = all("transit")?;
    let place = |name: &str| Ok::<_, EngineError>(u64::try_from(all(name)?).unwrap_or(0));
    let mut told = InFlight {
        totals: Audit {
            deposited: place("deposited")?,
            withdrawn: place("withdrawn")?,
            paid_out: place("paid_out")?,
            wallets: place("wallets")?,
            escrowed: place("escrowed")?,
            payable: place("payable")?,
            refunding: 0,
            merchants: place("merchants")?,
            platform: place("platform")?,
            in_flight,
        },
        waiting: 0,
        findings: Vec::new(),
        late: Vec::new(),
        opening: BTreeSet::new(),
        settled,
    };
    let mut money = 0u64;
    for bucket in waiting {
        told.waiting += bucket.effects;
        money = money.saturating_add(bucket.money);
        told.findings.extend(bucket.findings);
        told.late.extend(bucket.late.iter().map(late));
        told.opening.extend(bucket.opening);
    }
    if settled && i128::from(in_flight) != i128::from(money) {
        let what = format!("between buckets: {in_flight} is on record, what waits in outboxes makes {money}");
        told.findings.push(Finding { kind: FindingKind::InFlight, what });
    }
    Ok(told)
}

fn late(effect: &Effect) -> Finding {
    let id = effect.id().unwrap_or_default();
    let envelope = EnvelopeId::from_bytes(id);
    let whose = String::from_utf8_lossy(effect.field.get(17..).unwrap_or_default()).into_owned();
    let what = match effect.kind() {
        b'f' => format!("{envelope}: it is funded and does not open"),
        b'g' => format!("{envelope}: the share of {whose} is not in the list of what was received"),
        b'c' => format!("{envelope}: {whose} claimed and is not credited"),
        b'r' => format!("{envelope}: what is unsold does not go back"),
        b'l' => format!("{envelope}: what is unclaimed does not go back"),
        b'p' => format!("{}: its payment does not end", OrderId::from_bytes(id)),
        b'e' => format!("{envelope}: its pools are not told how it has ended"),
        b't' => format!("{envelope}: a transfer with one of its pools does not end"),
        b'm' => format!("{}: its merchant is not owed", OrderId::from_bytes(id)),
        b'q' => format!("{}: its payment does not end", GiftId::from_bytes(id)),
        b's' => format!("{}: its merchant is not owed", GiftId::from_bytes(id)),
        b'b' => format!("{}: what was paid for it does not go back", GiftId::from_bytes(id)),
        b'v' => format!("{}: it is not in a list of its giver's or recipient's", GiftId::from_bytes(id)),
        b'o' => format!("{}: its return does not end", OrderId::from_bytes(id)),
        b'u' => format!("{}: what was paid for it does not go back", OrderId::from_bytes(id)),
        b'k' => {
            let merchant = effect.field[1..].split(|&byte| byte == b' ').next().unwrap_or_default();
            let merchant = String::from_utf8_lossy(merchant);
            format!("merchant {merchant}: not every bucket is told whether it may sell")
        }
        kind => format!("an effect of the kind {kind}"),
    };
    Finding { kind: FindingKind::LateEffect, what }
}

impl Core {
    /// Looks through a bucket's outbox, and for each effect whether it has arrived. So old it is late.
    pub(in crate::redis) async fn waiting(&self, bucket: Bucket, late_ms: u64) -> Result<Waiting> {
        let mut waiting = Waiting::default();
        let mut seen = std::collections::HashSet::new();
        let mut pages = Pages::of(self, bucket, self.layout.outbox(bucket));
        while let Some(page) = pages.next().await? {
            for (field, value) in page {
                if !seen.insert(field.clone()) {
                    continue;
                }
                let effect = Effect { field, value, read_in: 0 };
                waiting.effects += 1;
                if effect.kind() == b'f' {
                    waiting.opening.extend(effect.id().map(EnvelopeId::from_bytes));
                }
                match self.money_of(&effect).await {
                    Ok((at, money)) => {
                        waiting.money = waiting.money.saturating_add(money);
                        if self.clock.now() >= at.plus_ms(late_ms) {
                            waiting.late.push(effect);
                        }
                    }
                    Err(EngineError::Backend(why)) => {
                        let field = String::from_utf8_lossy(&effect.field).into_owned();
                        let what = format!("an effect in bucket {} under {field:?}: {why}", bucket.number());
                        waiting.findings.push(Finding { kind: FindingKind::Unreadable, what });
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(waiting)
    }

    /// When an effect was caused, and how much money it has on its way.
    async fn money_of(&self, effect: &Effect) -> Result<(Timestamp, u64)> {
        if effect.kind() == b'k' {
            return Ok((effect.words()?.0, 0));
        }
        let id = effect.id()?;
        if effect.kind() == b'f' {
            let created = EnvelopeCreated::of_bytes(&effect.value).ok_or_else(|| damaged("an envelope"))?;
            let row = self.fields(self.layout.of_id(&id), self.layout.envelope(created.id), &words(["total"])).await?;
            let money = match row.maybe(0) {
                Some(_) => 0,
                None => created.terms.total.minor().saturating_sub(self.filled(created.id).await?),
            };
            return Ok((created.created_at, money));
        }
        let (at, words) = effect.words()?;
        match effect.kind() {
            b'e' => return Ok((at, 0)),
            b't' => return Ok((at, self.money_of_transfer(effect).await?)),
            _ => {}
        }
        let user = words.user(3)?;
        let amount = match words.bytes(2)? {
            b"" => 0,
            _ => words.amount(2)?.minor(),
        };
        let is_outside = is_outside(&words);
        let entered = |kind: &[u8]| {
            let mark = [kind, &id].concat();
            let user = &user;
            async move {
                let arrived = self.arrived(user, &mark, &id, is_outside).await?;
                Ok::<_, EngineError>(arrived.amount.map_or(0, Amount::minor))
            }
        };
        let there = match effect.kind() {
            b'g' | b'c' => entered(b"c").await?,
            b'r' => entered(b"r").await?,
            b'l' => entered(b"l").await?,
            // What was paid is on its way as long as the hold does not know.
            b'p' => amount - entered(b"o").await?.min(amount),
            b'q' => amount - entered(b"g").await?.min(amount),
            b'b' => entered(b"b").await?,
            b'u' => entered(b"u").await?,
            // Taken from its merchant it is on its way as long as the order does not know.
            b'o' => {
                let owed = self.fields(self.layout.of_user(&user), self.layout.owed(&user), &[id.to_vec()]).await?;
                let is_back = owed.maybe(0).map(Owed::read).transpose()?.is_some_and(|owed| owed.is_back);
                if is_back { 0 } else { amount }
            }
            b'v' => 0,
            b'm' | b's' => {
                let owed = self.fields(self.layout.of_user(&user), self.layout.owed(&user), &[id.to_vec()]).await?;
                if owed.maybe(0).is_some() { amount } else { 0 }
            }
            _ => return Err(damaged("an effect")),
        };
        Ok((at, amount - there.min(amount)))
    }

    /// Money of an envelope that has come into its pools before it opens.
    async fn filled(&self, id: EnvelopeId) -> Result<u64> {
        if !id.is_mass() {
            return Ok(0);
        }
        let pools = self.in_every_bucket(|core, pool| async move {
            let row = core.fields(pool, core.layout.pool(pool, id), &words(["entered"])).await?;
            if row.maybe(0).is_some() { row.number(0) } else { Ok(0) }
        });
        Ok(pools.await?.into_iter().fold(0, u64::saturating_add))
    }

    /// Money of shares that have left the reserve and did not come into a pool, or the other way.
    async fn money_of_transfer(&self, effect: &Effect) -> Result<u64> {
        let (id, pool) = (EnvelopeId::from_bytes(effect.id()?), effect.pool()?);
        let number = pool.number().to_string().into_bytes();
        let names = [number.clone(), [b"shares", &number[..]].concat()];
        let row = self.fields(self.layout.of_id(id.bytes()), self.layout.transfers(id), &names).await?;
        let transfer = TransferRow::read(row.maybe(0).ok_or_else(|| damaged("a transfer"))?)?;
        let of_pool = self.pool_row(pool, id).await?.ok_or_else(|| damaged("a pool"))?;
        let has_come = of_pool.sequence == transfer.sequence;
        Ok(match transfer.kind {
            b'-' => 0,
            b'g' if has_come => 0,
            b'g' => shares_in(row.bytes(1)?, of_pool.width).map(|(_, amount)| amount).sum(),
            _ if has_come => of_pool.given_amount,
            _ => 0,
        })
    }
}
