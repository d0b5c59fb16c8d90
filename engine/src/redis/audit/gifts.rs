//! Gifts: what each state says of a unit and of money, their lists and deadlines.
//!
//! **Invariant:** a gift that is made with its payment has its unit from the payment's
//! beginning on, and stands nowhere but in the outbox until that ends.

use super::sales::Units;
use super::{Finding, FindingKind, Look, PAGE, Pages, readable};
use crate::gift::{Gift, GiftRole};
use crate::redis::backend::{Core, Result};
use crate::redis::bucket::Bucket;
use crate::redis::gifts::{Payment, gift_of, packed};
use crate::redis::reply::{Effect, damaged};
use crate::redis::sales::Owed;
use crate::types::{Amount, GiftId, ItemId, UserId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::task::JoinSet;

impl Look<'_> {
    /// Adds what gifts make of units.
    pub(super) async fn gifts(&mut self, units: &mut HashMap<[u8; 16], Units>) -> Result<()> {
        let core = Arc::clone(&self.core);
        let mut seen = HashSet::new();
        let mut pages = Pages::of(&core, self.bucket, core.layout.gifts(self.bucket));
        while let Some(page) = pages.next().await? {
            let mut looked = JoinSet::new();
            let mut due = Vec::new();
            for (id, row) in page {
                let read = gift_of(&row).and_then(|gift| match *gift.id.bytes() == *id && packed(&gift) == row {
                    true => Ok(gift),
                    false => Err(damaged("a gift")),
                });
                let Some(gift) = self.told_of("a gift", read)? else { continue };
                if !seen.insert(gift.id) {
                    continue;
                }
                self.counts.gifts += 1;
                if gift.state.is_escrowed() {
                    self.money.escrowed += gift.amount.minor();
                }
                let of_it = units.entry(*gift.item.bytes()).or_default();
                let (held, sold) = (u64::from(gift.state.holds_unit()), u64::from(gift.state.has_sold()));
                (of_it.held, of_it.sold) = (of_it.held + held, of_it.sold + sold);
                let by_user = of_it.by_user.entry(gift.giver.clone()).or_default();
                *by_user = (by_user.0 + held, by_user.1 + sold);
                if let Some(deadline) = gift.deadline() {
                    due.push((gift.id, deadline.ms()));
                    if gift.state.holds_unit() {
                        of_it.gifts.push((member(gift.id, &gift.giver), deadline.ms()));
                    }
                }
                let (core, bucket, name) = (Arc::clone(&core), self.bucket, gift.id.to_string());
                looked.spawn(async move { readable(&name, what_came_of(core, bucket, gift).await) });
            }
            let members: Vec<Vec<u8>> = due.iter().map(|(id, _)| [b"g", &id.bytes()[..]].concat()).collect();
            let scores = core.scores(self.bucket, core.layout.due(self.bucket), &members).await?;
            for ((id, deadline), score) in due.iter().zip(scores) {
                if score != Some(*deadline as i64) {
                    self.found_if_still(FindingKind::List, format!("{id}: nobody will look at it when it is due"));
                }
            }
            while let Some(came) = looked.join_next().await {
                self.findings.extend(came.expect("a look does not panic")?);
            }
        }
        self.gifts_being_made(&seen, units).await
    }

    async fn gifts_being_made(&mut self, there: &HashSet<GiftId>, units: &mut HashMap<[u8; 16], Units>) -> Result<()> {
        let core = Arc::clone(&self.core);
        let mut seen = HashSet::new();
        let mut pages = Pages::of(&core, self.bucket, core.layout.outbox(self.bucket));
        while let Some(page) = pages.next().await? {
            for (field, value) in page {
                if field.first() != Some(&b'q') {
                    continue;
                }
                let payment = Payment::read(&Effect { field, value, read_in: 0 }, self.bucket);
                let Some(payment) = self.told_of("a gift's payment", payment)? else { continue };
                let gift = &payment.gift;
                if payment.makes() && !there.contains(&gift.id) && seen.insert(gift.id) {
                    let of_it = units.entry(*gift.item.bytes()).or_default();
                    of_it.held += 1;
                    of_it.by_user.entry(gift.giver.clone()).or_default().0 += 1;
                    of_it.gifts.push((member(gift.id, &gift.giver), 0));
                }
            }
        }
        Ok(())
    }

    /// An item's gifts that have a unit set aside are in its list, and nothing else is.
    pub(super) async fn gifts_of_item(&mut self, id: ItemId, gifts: &[(Vec<u8>, u64)]) -> Result<()> {
        let core = Arc::clone(&self.core);
        let key = core.layout.gifts_of_item(id);
        let listed = core.sizes(self.bucket, [key.clone()]).await?[0];
        self.expect(FindingKind::List, &format!("{id}: gifts that have a unit set aside"), listed, gifts.len() as u64);
        for gifts in gifts.chunks(PAGE) {
            let members: Vec<Vec<u8>> = gifts.iter().map(|(member, _)| member.clone()).collect();
            let scores = core.scores(self.bucket, key.clone(), &members).await?;
            for ((member, deadline), score) in gifts.iter().zip(scores) {
                if score != Some(*deadline as i64) {
                    let gift =
                        member.first_chunk().copied().map(GiftId::from_bytes).ok_or_else(|| damaged("a gift"))?;
                    self.found_if_still(FindingKind::List, format!("{gift}: it is missing from those of its item"));
                }
            }
        }
        Ok(())
    }
}

fn member(id: GiftId, giver: &UserId) -> Vec<u8> {
    [id.bytes(), giver.as_str().as_bytes()].concat()
}

/// Whether a gift was paid, its money is where its state says, or will be, and its users have it in their lists.
async fn what_came_of(core: Arc<Core>, cause: Bucket, gift: Gift) -> Result<Option<Finding>> {
    let id = gift.id;
    let lost = |what: String| Some(Finding { kind: FindingKind::LostMoney, what: format!("{id}: {what}") });
    let amount_of = |kind: u8| {
        let (core, mark, payer) = (&core, [&[kind], &id.bytes()[..]].concat(), &gift.payer);
        async move { Ok::<_, crate::EngineError>(core.arrived(payer, &mark, &[0; 16], false).await?.amount) }
    };
    if gift.paid_at.is_some() {
        let paid = amount_of(b'g').await?;
        if paid != Some(gift.amount) {
            let there = paid.map_or(0, Amount::minor);
            return Ok(lost(format!(
                "{} was paid for it, and in the wallet of {} stand {there}",
                gift.amount, gift.payer
            )));
        }
    }
    let is_merchants = gift.state.is_merchants();
    let goes_back = gift.paid_at.is_some() && !is_merchants && !gift.state.is_escrowed();
    if is_merchants || goes_back {
        let kind = if is_merchants { b's' } else { b'b' };
        let mut there = None;
        for _ in 0..2 {
            there = if is_merchants {
                let owed = core.layout.owed(&gift.merchant);
                let row = core.fields(core.layout.of_user(&gift.merchant), owed, &[id.bytes().to_vec()]).await?;
                row.maybe(0).map(Owed::read).transpose()?.map(|owed| owed.amount)
            } else {
                amount_of(b'b').await?
            };
            if there == Some(gift.amount) || there.is_none() && waits(&core, cause, [&[kind], &id.bytes()[..]]).await? {
                there = Some(gift.amount);
                break;
            }
        }
        if there != Some(gift.amount) {
            let whose = if is_merchants { &gift.merchant } else { &gift.payer };
            let there = there.map_or(0, Amount::minor);
            return Ok(lost(format!("{whose} is to have {} of it, and has {there}", gift.amount)));
        }
    }
    let received = gift.recipient.as_ref().map(|user| (user, GiftRole::Received, b'r'));
    for (user, role, letter) in [Some((&gift.giver, GiftRole::Given, b'g')), received].into_iter().flatten() {
        let place = Some(-(gift.created_at.ms() as i64));
        let mut is_listed = false;
        for _ in 0..2 {
            let list = core.layout.gifts_of_user(user, role);
            let score = core.scores(core.layout.of_user(user), list, &[id.bytes().to_vec()]).await?[0];
            is_listed |= score == place || waits(&core, cause, [b"v", id.bytes(), &[letter]]).await?;
        }
        if !is_listed {
            let what = format!("{id}: it is missing from a list of {user}");
            return Ok(Some(Finding { kind: FindingKind::List, what }));
        }
    }
    Ok(None)
}

async fn waits<const N: usize>(core: &Core, cause: Bucket, effect: [&[u8]; N]) -> Result<bool> {
    let waits = core.fields(cause, core.layout.outbox(cause), &[effect.concat()]).await?;
    Ok(waits.maybe(0).is_some())
}
