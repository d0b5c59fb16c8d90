//! Items, holds, orders, and what merchants are owed.
//!
//! **Invariant:** a live hold is counted from its own row, a sold unit from the
//! hold that was paid; what users', items' and merchants' rows say must agree.

use super::codes::Handed;
use super::{Finding, FindingKind, Look, PAGE, Pages, readable, words};
use crate::command::HoldView;
use crate::order::OrderState;
use crate::redis::backend::{Core, Result};
use crate::redis::bucket::Bucket;
use crate::redis::commands::hold_view;
use crate::redis::orders::OrderRow;
use crate::redis::reply::damaged;
use crate::redis::sales::Owed;
use crate::types::{Amount, HoldId, ItemId, OrderId, UserId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::task::JoinSet;

/// A hold as it lies in Redis.
pub(in crate::redis) struct HoldRow {
    pub(in crate::redis) view: HoldView,
    /// Whether it is being paid at the moment.
    pub(in crate::redis) paying: bool,
    /// Under which it was or is being paid.
    pub(in crate::redis) order: [u8; 16],
}

impl HoldRow {
    pub(in crate::redis) fn read(id: &[u8], packed: &[u8]) -> Result<HoldRow> {
        let id = id.try_into().map_err(|_| damaged("a hold"))?;
        let view = hold_view(HoldId::from_bytes(id), packed)?;
        let order = packed[16..].first_chunk().copied().ok_or_else(|| damaged("a hold"))?;
        Ok(HoldRow { view, paying: packed.get(32) == Some(&b'p'), order })
    }

    fn is_live(&self) -> bool {
        matches!(self.view.state, crate::command::HoldState::Held)
    }
}

/// What the holds and gifts of an item make.
#[derive(Default)]
pub(super) struct Units {
    pub(super) held: u64,
    pub(super) sold: u64,
    /// Held and sold, by user.
    pub(super) by_user: BTreeMap<UserId, (u64, u64)>,
    live: Vec<[u8; 16]>,
    first_due_ms: Option<u64>,
    /// Those that can lapse, and those that are being paid: each with its deadline.
    waiting: Vec<([u8; 16], u64)>,
    paying: Vec<([u8; 16], u64)>,
    /// Gifts that have a unit set aside, as they are listed with the item.
    pub(super) gifts: Vec<(Vec<u8>, u64)>,
    /// What orders were handed of its codes.
    pub(super) handed: Vec<Handed>,
}

impl Units {
    /// Units that were sold by a hold and came back.
    fn take_back(&mut self, hold: &HoldView) {
        let quantity = u64::from(hold.quantity);
        self.sold -= quantity;
        self.by_user.entry(hold.user.clone()).or_default().1 -= quantity;
    }
}

/// A hold that was paid, under its order.
type Paid = HashMap<[u8; 16], HoldView>;

impl Look<'_> {
    pub(super) async fn sales(&mut self) -> Result<()> {
        let (mut units, mut paid) = self.holds().await?;
        self.gifts(&mut units).await?;
        self.orders(&mut paid, &mut units).await?;
        for order in paid.keys() {
            let id = OrderId::from_bytes(*order);
            self.found_if_still(FindingKind::Hold, format!("{}: it was paid and {id} is missing", paid[order].id));
        }
        for name in self.names.items.sorted() {
            let Ok(id) = name.parse::<ItemId>() else {
                self.found(FindingKind::Unreadable, format!("{name}: no item has this id"));
                continue;
            };
            self.counts.items += 1;
            let of_it = units.remove(id.bytes()).unwrap_or_default();
            let looked = self.item(id, of_it).await;
            self.told_of(&id.to_string(), looked)?;
        }
        for (item, of_it) in units {
            let id = ItemId::from_bytes(item);
            self.found_if_still(
                FindingKind::Item,
                format!("{id}: {} units are held or sold and it is missing", of_it.held + of_it.sold),
            );
        }
        let listed = self.core.sizes(self.bucket, [self.core.layout.items_by_time(self.bucket)]).await?;
        let what = format!("items listed in bucket {}", self.bucket.number());
        self.expect(FindingKind::List, &what, listed[0], self.counts.items);
        for name in self.names.merchants.sorted() {
            let looked = self.merchant(name).await;
            self.told_of(&format!("merchant {name}"), looked)?;
        }
        Ok(())
    }

    async fn holds(&mut self) -> Result<(HashMap<[u8; 16], Units>, Paid)> {
        let core = Arc::clone(&self.core);
        let (mut units, mut paid) = (HashMap::<[u8; 16], Units>::new(), Paid::new());
        let mut seen = HashSet::new();
        let mut pages = Pages::of(&core, self.bucket, core.layout.holds(self.bucket));
        while let Some(page) = pages.next().await? {
            for (id, packed) in page {
                let read = HoldRow::read(&id, &packed);
                let Some(hold) = self.told_of("a hold", read)? else { continue };
                let view = &hold.view;
                if !seen.insert(*view.id.bytes()) {
                    continue;
                }
                self.counts.holds += 1;
                let of_it = units.entry(*view.item.bytes()).or_default();
                let quantity = u64::from(view.quantity);
                let expires = view.expires_at.ms();
                if hold.is_live() {
                    of_it.held += quantity;
                    of_it.by_user.entry(view.user.clone()).or_default().0 += quantity;
                    of_it.live.push(*view.id.bytes());
                    if hold.paying {
                        of_it.paying.push((*view.id.bytes(), expires));
                    } else {
                        of_it.waiting.push((*view.id.bytes(), expires));
                        of_it.first_due_ms = Some(of_it.first_due_ms.map_or(expires, |first| first.min(expires)));
                    }
                } else if matches!(view.state, crate::command::HoldState::Claimed(_)) {
                    of_it.sold += quantity;
                    of_it.by_user.entry(view.user.clone()).or_default().1 += quantity;
                    if let Some(other) = paid.insert(hold.order, hold.view.clone()) {
                        let what = format!("{} and {}: both were paid by one order", other.id, hold.view.id);
                        self.found(FindingKind::Hold, what);
                    }
                }
            }
        }
        Ok((units, paid))
    }

    /// Takes out of `paid` what has its order, and out of `units` what was sold and is on sale again.
    async fn orders(&mut self, paid: &mut Paid, units: &mut HashMap<[u8; 16], Units>) -> Result<()> {
        let core = Arc::clone(&self.core);
        let mut seen = HashSet::new();
        let mut pages = Pages::of(&core, self.bucket, core.layout.orders(self.bucket));
        while let Some(page) = pages.next().await? {
            let mut looked = JoinSet::new();
            for (id, packed) in page {
                let read = OrderRow::read(&id, &packed);
                let Some(order) = self.told_of("an order", read)? else { continue };
                if !seen.insert(order.id) {
                    continue;
                }
                self.counts.orders += 1;
                match paid.remove(order.id.bytes()) {
                    Some(hold) if hold.id == order.hold => {
                        let of_it = units.entry(*hold.item.bytes()).or_default();
                        if order.progress.restocked {
                            of_it.take_back(&hold);
                        }
                        of_it.handed.extend(order.codes_from.map(|first| Handed::order(first, &hold, order.id)));
                        let (core, bucket, name) = (Arc::clone(&core), self.bucket, order.id.to_string());
                        looked.spawn(async move { readable(&name, what_came_of(core, bucket, order, hold).await) });
                    }
                    _ => {
                        let what = format!("{}: it does not agree with {}, of which it was made", order.id, order.hold);
                        self.found_if_still(FindingKind::Hold, what);
                    }
                }
            }
            while let Some(came) = looked.join_next().await {
                self.findings.extend(came.expect("a look does not panic")?);
            }
        }
        Ok(())
    }

    /// I4: total = free + held + sold, in the item's row, its users' and its holds'.
    async fn item(&mut self, id: ItemId, of_it: Units) -> Result<()> {
        let core = Arc::clone(&self.core);
        let fields = words(["total", "held", "sold", "created"]);
        let row = core.fields(self.bucket, core.layout.item(id), &fields).await?;
        let (total, held, sold) = (row.number(0)?, row.number(1)?, row.number(2)?);
        if held.checked_add(sold).is_none_or(|gone| gone > total) {
            self.found(FindingKind::Item, format!("{id}: oversold: {held} units are held and {sold} sold of {total}"));
        }
        self.expect(FindingKind::Item, &format!("{id}: units held"), held, of_it.held);
        self.expect(FindingKind::Item, &format!("{id}: units sold"), sold, of_it.sold);
        self.units(id, of_it.by_user, &of_it.live).await?;
        let layout = &core.layout;
        for (key, holds) in [(layout.live_holds(id), &of_it.waiting), (layout.holds_being_paid(id), &of_it.paying)] {
            let listed = core.sizes(self.bucket, [key.clone()]).await?[0];
            self.expect(FindingKind::List, &format!("{id}: holds in {}", rest_of(&key)), listed, holds.len() as u64);
            for holds in holds.chunks(PAGE) {
                let members: Vec<Vec<u8>> = holds.iter().map(|(hold, _)| hold.to_vec()).collect();
                let scores = core.scores(self.bucket, key.clone(), &members).await?;
                for ((hold, expires), score) in holds.iter().zip(scores) {
                    if score != Some(*expires as i64) {
                        let what = format!("{}: it is missing from {}", HoldId::from_bytes(*hold), rest_of(&key));
                        self.found_if_still(FindingKind::List, what);
                    }
                }
            }
        }
        let listed = core.scores(self.bucket, layout.items_by_time(self.bucket), &[id.bytes().to_vec()]).await?[0];
        if listed != Some(-row.signed(3)?) {
            self.found(FindingKind::List, format!("{id}: it is missing from the list of all items"));
        }
        let due = core.scores(self.bucket, layout.due(self.bucket), &[[b"i", &id.bytes()[..]].concat()]).await?[0];
        if of_it.first_due_ms.is_some_and(|first| due.is_none_or(|due| due > first as i64)) {
            self.found_if_still(FindingKind::List, format!("{id}: nobody will look at it when its next hold is due"));
        }
        self.codes(id, of_it.handed).await?;
        self.gifts_of_item(id, &of_it.gifts).await?;
        // What is being paid is found by its effect.
        for (hold, _) in of_it.paying {
            self.being_paid(HoldId::from_bytes(hold)).await?;
        }
        Ok(())
    }

    async fn units(&mut self, id: ItemId, mut by_user: BTreeMap<UserId, (u64, u64)>, live: &[[u8; 16]]) -> Result<()> {
        let core = Arc::clone(&self.core);
        let mut listed = HashSet::new();
        let mut seen = HashSet::new();
        let mut pages = Pages::of(&core, self.bucket, core.layout.units(id));
        while let Some(page) = pages.next().await? {
            for (name, packed) in page {
                let user = std::str::from_utf8(&name).ok().and_then(|name| UserId::new(name).ok());
                let user = user.ok_or_else(|| damaged("a user's units"))?;
                if !seen.insert(user.clone()) {
                    continue;
                }
                let (held, sold, holds) = units_of(&packed)?;
                let rows = by_user.remove(&user).unwrap_or_default();
                self.expect(FindingKind::Item, &format!("{id}: units held for {user}"), held.into(), rows.0);
                self.expect(FindingKind::Item, &format!("{id}: units sold to {user}"), sold.into(), rows.1);
                listed.extend(holds);
            }
        }
        for (user, (held, sold)) in by_user.into_iter().filter(|(_, units)| *units != (0, 0)) {
            self.expect(FindingKind::Item, &format!("{id}: units held for or sold to {user}"), 0, held + sold);
        }
        for hold in live.iter().filter(|hold| !listed.contains(*hold)) {
            let what = format!("{}: it is not among the live holds of its user", HoldId::from_bytes(*hold));
            self.found_if_still(FindingKind::Hold, what);
        }
        self.expect(
            FindingKind::Hold,
            &format!("{id}: live holds of its users"),
            listed.len() as u64,
            live.len() as u64,
        );
        Ok(())
    }

    async fn being_paid(&mut self, id: HoldId) -> Result<()> {
        let row = self.core.fields(self.bucket, self.core.layout.holds(self.bucket), &[id.bytes().to_vec()]).await?;
        let Some(hold) = row.maybe(0).map(|packed| HoldRow::read(id.bytes(), packed)).transpose()? else {
            return Ok(());
        };
        if hold.paying {
            let effect = [b"p", &hold.order[..]].concat();
            let waits = self.core.fields(self.bucket, self.core.layout.outbox(self.bucket), &[effect]).await?;
            if waits.maybe(0).is_none() {
                self.found_if_still(FindingKind::Hold, format!("{id}: it is being paid, and nobody will end that"));
            }
        }
        Ok(())
    }

    async fn merchant(&mut self, name: &str) -> Result<()> {
        let Ok(id) = UserId::new(name) else { return Err(damaged("its name")) };
        let core = Arc::clone(&self.core);
        let row = core.fields(self.bucket, core.layout.merchant(&id), &words(["owed", "status", "turn"])).await?;
        let listed = core.scores(self.bucket, core.layout.merchants(self.bucket), &[name.as_bytes().to_vec()]).await?;
        if row.maybe(1).is_some() && listed[0].is_none() {
            self.found_if_still(FindingKind::List, format!("merchant {id}: it is missing from the list of merchants"));
        }
        if let Some(turn) = row.maybe(2) {
            self.standing(&id, turn, row.bytes(1)?).await?;
        }
        let (mut brought, mut seen) = ((0, 0), HashSet::new());
        let mut pages = Pages::of(&core, self.bucket, core.layout.owed(&id));
        while let Some(page) = pages.next().await? {
            for (order, amount) in page {
                let owed = Owed::read(&amount)?;
                if seen.insert(order) {
                    brought.0 += owed.amount.minor();
                    brought.1 += u64::from(owed.is_back);
                }
            }
        }
        self.seller(&id, brought).await
    }
}

impl Look<'_> {
    /// A merchant that was kept from selling stands so in every bucket, or will.
    async fn standing(&mut self, id: &UserId, turn: &[u8], status: &[u8]) -> Result<()> {
        let core = Arc::clone(&self.core);
        let standing = [turn, b" ", status].concat();
        let effect = [b"k", id.as_str().as_bytes(), b" ", turn].concat();
        for bucket in core.layout.all() {
            let name = [id.as_str().as_bytes().to_vec()];
            let there = core.fields(bucket, core.layout.not_selling(bucket), &name).await?;
            if there.maybe(0) == Some(&*standing) {
                continue;
            }
            let waits =
                core.fields(self.bucket, core.layout.outbox(self.bucket), std::slice::from_ref(&effect)).await?;
            if waits.maybe(0).is_none() {
                let what = format!("merchant {id}: bucket {} does not know whether it may sell", bucket.number());
                self.found_if_still(FindingKind::Merchant, what);
            }
        }
        Ok(())
    }
}

/// Whether an order was paid, and its merchant is owed for it or will be.
async fn what_came_of(core: Arc<Core>, cause: Bucket, order: OrderRow, hold: HoldView) -> Result<Option<Finding>> {
    let id = order.id;
    let paid = core.arrived(&hold.user, &[b"o", &id.bytes()[..]].concat(), &[0; 16], false).await?.amount;
    if paid != Some(hold.amount) {
        let there = paid.map_or(0, Amount::minor);
        let what = format!("{id}: {} was paid for it, and in the wallet of {} stand {there}", hold.amount, hold.user);
        return Ok(Some(Finding { kind: FindingKind::LostMoney, what }));
    }
    let (merchant, field) = (core.layout.of_user(&order.merchant), [id.bytes().to_vec()]);
    let is_back = order.progress.state == OrderState::Returned;
    let waits = |kind: u8| {
        let (core, effect) = (&core, [&[kind], &id.bytes()[..]].concat());
        async move {
            let waits = core.fields(cause, core.layout.outbox(cause), &[effect]).await?;
            Ok::<_, crate::EngineError>(waits.maybe(0).is_some())
        }
    };
    let mut there = None;
    let mut is_found = false;
    for _ in 0..2 {
        let owed = core.fields(merchant, core.layout.owed(&order.merchant), &field).await?;
        there = owed.maybe(0).map(<[u8]>::to_vec);
        let owed = there.as_deref().map(Owed::read).transpose()?;
        // While it goes back the merchant may know before the order does.
        is_found = match owed {
            Some(owed) => {
                owed.amount == hold.amount && (owed.is_back == is_back || owed.is_back && waits(b'o').await?)
            }
            None => waits(b'm').await?,
        };
        if is_found {
            break;
        }
    }
    if !is_found {
        let there = String::from_utf8_lossy(&there.unwrap_or_else(|| b"nothing".to_vec())).into_owned();
        let back = if is_back { ", which went back" } else { "" };
        let what =
            format!("{id}: merchant {} is to have {} for it{back}, and has {there}", order.merchant, hold.amount);
        return Ok(Some(Finding { kind: FindingKind::LostMoney, what }));
    }
    let mut back = None;
    for _ in 0..2 {
        back = core.arrived(&hold.user, &[b"u", &id.bytes()[..]].concat(), &[0; 16], false).await?.amount;
        if is_back && back.is_none() && waits(b'u').await? {
            back = Some(hold.amount);
        }
        if back.is_some() == is_back {
            break;
        }
    }
    let expected = is_back.then_some(hold.amount);
    if back != expected {
        let [expected, there] = [expected, back].map(|amount| amount.map_or(0, Amount::minor));
        let what = format!("{id}: {expected} of it went back to {}, and in the wallet stand {there}", hold.user);
        return Ok(Some(Finding { kind: FindingKind::LostMoney, what }));
    }
    Ok(None)
}

/// A user's units of an item as `hold.lua` packs them: held, sold, live holds.
pub(in crate::redis) fn units_of(packed: &[u8]) -> Result<(u32, u32, Vec<[u8; 16]>)> {
    let wrong = || damaged("a user's units");
    let (held, rest) = packed.split_first_chunk::<4>().ok_or_else(wrong)?;
    let (sold, rest) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
    let (holds, rest) = rest.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    Ok((u32::from_le_bytes(*held), u32::from_le_bytes(*sold), holds.to_vec()))
}

/// The part of a key that people know.
fn rest_of(key: &[u8]) -> String {
    String::from_utf8_lossy(key).rsplit(':').next().unwrap_or_default().to_owned()
}
