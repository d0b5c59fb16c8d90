//! Reads: from memory what is live, from the store what is not, lists from both.
//!
//! **Invariant:** what is read from memory is told only once it is durable; a
//! list holds everything that was acknowledged before it was asked for.

use super::cold::{figures, store_failed};
use super::{Core, Embedded};
use crate::address::AddressRead;
use crate::api_key::{self, ApiKey};
use crate::backend::{
    Audit, Backend, Entry, EnvelopeFilter, GrabRow, ItemFilter, Listing, OnceKey, Page, ReceivedRow, Reply, Result,
};
use crate::code::{Code, HandedTo};
use crate::command::{
    Command, EnvelopeView, HoldView, ItemView, Merchant, MerchantStatus, OrderView, Outcome, WalletView,
};
use crate::error::EngineError;
use crate::event::EnvelopeCreated;
use crate::feed::{EventPage, EventQuery};
use crate::gift::{Gift, GiftRole};
use crate::gift_envelope::GiftEnvelopeView;
use crate::group::{Group, GroupsOf};
use crate::merchant;
use crate::payment::{Payment, PaymentFilter};
use crate::payout::{Payout, PayoutFilter, PayoutView};
use crate::relation::{RelationRow, RelationSide};
use crate::sale::{MerchantBalance, Statement, StatementTime};
use crate::sale::{MerchantEntryKind, SaleOf};
use crate::state::Router;
use crate::state::envelope::{Envelope, share_status};
use crate::state::ledger::{self, MerchantAccount, Wallet};
use crate::state::winners::Name;
use crate::store::{MadeBetween, View, WinRow};
use crate::types::{
    Amount, EnvelopeId, GiftEnvelopeId, GiftId, GroupId, HoldId, ItemId, Lsn, OrderId, PaymentId, PayoutId, Timestamp,
    UserId,
};
use std::collections::HashMap;

impl Backend for Embedded {
    async fn execute(&self, command: Command, once: Option<OnceKey>) -> Result<Reply> {
        let done = self.core.run(&command, once)?;
        self.core.wait(done.wait).await?;
        Ok(done.reply)
    }

    async fn execute_all(&self, commands: Vec<Command>) -> Vec<Result<Reply>> {
        let done = self.core.run_all(&commands);
        let last = done.iter().filter_map(|done| done.as_ref().ok()?.wait).max();
        let waited = self.core.wait(last).await;
        done.into_iter()
            .map(|done| {
                let done = done?;
                if done.wait.is_some() {
                    waited.clone()?;
                }
                Ok(done.reply)
            })
            .collect()
    }

    async fn wallet(&self, user: &UserId) -> Result<WalletView> {
        let core = &self.core;
        let (view, lsn) = loop {
            if let Some(durable) = &core.durable {
                core.warm_wallet(durable, user)?;
            }
            let shard = core.shards[core.router.user(user)].lock();
            match shard.wallets.get(user) {
                Some(wallet) => break (wallet.view(user), shard.last_lsn),
                None if core.durable.is_none() => break (Wallet::default().view(user), shard.last_lsn),
                // Evicted after it was brought in: what is not there is not nothing.
                None => {}
            }
        };
        core.wait(Some(lsn)).await?;
        Ok(view)
    }

    async fn entries(&self, user: &UserId, page: &Page) -> Result<Listing<Entry>> {
        self.core.view()?.entries(user, page)
    }

    async fn envelope(&self, id: EnvelopeId) -> Result<Option<EnvelopeView>> {
        let core = &self.core;
        let now = core.clock.now();
        match core.look(id, |envelope| envelope.view(now)) {
            Some((view, lsn)) => {
                core.wait(Some(lsn)).await?;
                Ok(Some(view))
            }
            None => {
                let Some((view, lsn)) = core.cold_envelope(id, now)? else { return Ok(None) };
                core.wait(Some(lsn)).await?;
                Ok(Some(view))
            }
        }
    }

    async fn envelopes(&self, filter: &EnvelopeFilter, page: &Page) -> Result<Listing<EnvelopeView>> {
        let core = &self.core;
        if let Some(reference) = &filter.reference {
            let key = OnceKey::reference(&filter.owner, "envelope", reference);
            let rows = match core.created_under(key)? {
                Some(id) => self.envelope(id).await?.filter(|view| filter.matches(view)).into_iter().collect(),
                None => Vec::new(),
            };
            return Ok(Listing { rows, next: None });
        }
        let made = MadeBetween { from: filter.created_from, to: filter.created_to };
        let mut last = Lsn(0);
        let view = core.view()?;
        let mut keep = |id| core.kept_view(id, filter, &mut last);
        let listing = match &filter.sender {
            Some(sender) => view.sent(sender, made, page, &mut keep)?,
            None => view.envelopes(made, page, &mut keep)?,
        };
        core.wait(Some(last)).await?;
        Ok(listing)
    }

    async fn grabs(&self, id: EnvelopeId, page: &Page) -> Result<Option<Listing<GrabRow>>> {
        let core = &self.core;
        let now = core.clock.now();
        let (facts, wins) = loop {
            let Some((facts, lsn)) = core.facts(id)? else { return Ok(None) };
            core.wait(Some(lsn)).await?;
            let wins = core.view()?.wins(id, page)?;
            // Sold out in between, a list of all rows would not tell the best.
            match core.facts(id)? {
                Some((after, _)) if after.best != facts.best => {}
                _ => break (facts, wins),
            }
        };
        let rows = wins.rows.into_iter().map(|win| facts.row(win, now)).collect();
        Ok(Some(Listing { rows, next: wins.next }))
    }

    async fn grab_of(&self, id: EnvelopeId, user: &UserId) -> Result<Option<GrabRow>> {
        let core = &self.core;
        let now = core.clock.now();
        let found = core.look(id, |envelope| {
            let share = envelope.winners.find(&Name::of(user))?;
            let winner = envelope.winners.get(share);
            let win = WinRow {
                share,
                user: user.clone(),
                amount: envelope.split.get(share),
                grabbed_at: winner.grabbed_at,
                claimed_at: winner.claimed_at,
            };
            Some(Facts::of_live(envelope).row(win, now))
        });
        if let Some((row, lsn)) = found {
            core.wait(Some(lsn)).await?;
            return Ok(row);
        }
        let Some(durable) = &core.durable else { return Ok(None) };
        let Some(row) = durable.store.envelope(id).map_err(store_failed)? else { return Ok(None) };
        let win = durable.store.win_of(&row, user).map_err(store_failed)?;
        let taken = figures(&row)?.taken;
        Ok(win.map(|win| Facts::of(&row.created, taken).row(win, now)))
    }

    async fn sent(&self, user: &UserId, page: &Page) -> Result<Listing<EnvelopeView>> {
        let filter = EnvelopeFilter { sender: Some(user.clone()), ..EnvelopeFilter::default() };
        self.envelopes(&filter, page).await
    }

    async fn received(&self, user: &UserId, page: &Page) -> Result<Listing<ReceivedRow>> {
        let core = &self.core;
        let now = core.clock.now();
        let wins = core.view()?.received(user, page)?;
        let mut rows = Vec::with_capacity(wins.rows.len());
        let mut last = Lsn(0);
        for (envelope, win) in wins.rows {
            let (facts, lsn) = core.facts(envelope)?.ok_or_else(|| {
                EngineError::Store(format!("{envelope} has a winner and no terms; run `hongbao audit`"))
            })?;
            last = last.max(lsn);
            let sender = facts.sender.clone();
            rows.push(ReceivedRow { envelope, sender, grab: facts.row(win, now) });
        }
        core.wait(Some(last)).await?;
        Ok(Listing { rows, next: wins.next })
    }

    async fn merchant(&self, id: &UserId) -> Result<Option<Merchant>> {
        let core = &self.core;
        let (merchant, lsn) = {
            let shard = core.shards[core.router.user(id)].lock();
            (shard.merchants.get(id).map(|account| account.merchant.clone()), shard.last_lsn)
        };
        core.wait(Some(lsn)).await?;
        Ok(merchant)
    }

    async fn merchants(&self, status: Option<MerchantStatus>, page: &Page) -> Result<Listing<Merchant>> {
        let core = &self.core;
        let after = merchant::after(page)?;
        let mut rows = merchant::FirstOf::new(page.limit);
        let mut last = Lsn(0);
        for shard in &core.shards {
            let shard = shard.lock();
            last = last.max(shard.last_lsn);
            let all = shard.merchants.values().map(|account| &account.merchant);
            let wanted = all.filter(|merchant| status.is_none_or(|status| merchant.status == status));
            wanted
                .filter(|merchant| after.as_ref().is_none_or(|after| merchant.id > *after))
                .for_each(|it| rows.offer(it));
        }
        core.wait(Some(last)).await?;
        Ok(rows.listing())
    }

    async fn merchant_balance(&self, id: &UserId) -> Result<Option<MerchantBalance>> {
        let core = &self.core;
        let (balance, lsn) = {
            let shard = core.shards[core.router.user(id)].lock();
            (shard.merchants.get(id).map(MerchantAccount::balance), shard.last_lsn)
        };
        core.wait(Some(lsn)).await?;
        Ok(balance)
    }

    async fn statement(&self, id: &UserId, time: StatementTime, page: &Page) -> Result<Option<Statement>> {
        let core = &self.core;
        if !core.shards[core.router.user(id)].lock().merchants.contains_key(id) {
            return Ok(None);
        }
        core.view()?.statement(id, time, page).map(Some)
    }

    async fn item(&self, id: ItemId) -> Result<Option<ItemView>> {
        let Some((view, _, lsn)) = self.core.look_at_item(id) else { return Ok(None) };
        self.core.wait(Some(lsn)).await?;
        Ok(Some(view))
    }

    async fn items(&self, filter: &ItemFilter, page: &Page) -> Result<Listing<ItemView>> {
        let core = &self.core;
        let (now, mut last) = (core.clock.now(), Lsn(0));
        let listing = core.view()?.items(page, |id| {
            Ok(core.look_at_item(id).and_then(|(view, may_sell, lsn)| {
                last = last.max(lsn);
                let is_on_sale = may_sell && view.terms.is_open(now);
                (filter.matches(&view) && filter.on_sale.is_none_or(|wanted| wanted == is_on_sale)).then_some(view)
            }))
        })?;
        core.wait(Some(last)).await?;
        Ok(listing)
    }

    async fn hold(&self, id: HoldId) -> Result<Option<HoldView>> {
        let core = &self.core;
        let found = {
            let shard = core.shards[core.router.hold(id)].lock();
            shard.hold(&id).map(|hold| (hold, shard.last_lsn))
        };
        match found {
            Some((view, lsn)) => {
                core.wait(Some(lsn)).await?;
                Ok(Some(view))
            }
            None => core.cold_hold(id),
        }
    }

    async fn order(&self, id: OrderId) -> Result<Option<OrderView>> {
        let core = &self.core;
        let found = {
            let shard = core.shards[core.router.order(id)].lock();
            let known = shard.known_orders.get(&id).and_then(|known| known.order.as_ref());
            let found = known.map(|order| ((**order).clone(), shard.last_lsn));
            found.or_else(|| shard.orders.get(&id).map(|pending| (pending.order.clone(), pending.lsn)))
        };
        let order = match (found, &core.durable) {
            (Some((order, lsn)), _) => {
                core.wait(Some(lsn)).await?;
                Some(order)
            }
            (None, Some(durable)) => durable.store.order(id).map_err(store_failed)?,
            (None, None) => None,
        };
        let Some(order) = order else { return Ok(None) };
        let shard = core.shards[core.router.order(id)].lock();
        let item = shard.items.get(&order.item);
        Ok(Some(match item {
            Some(item) => order.of_item(item),
            None => order,
        }))
    }

    async fn codes(&self, to: HandedTo) -> Result<Vec<Code>> {
        self.core.view()?.codes(to).map_err(store_failed)
    }

    async fn gift(&self, id: GiftId) -> Result<Option<Gift>> {
        let core = &self.core;
        let found = {
            let shard = core.shards[core.router.gift(id)].lock();
            shard.gift(id).map(|gift| (gift.clone(), shard.last_lsn))
        };
        let mut gift = match (found, &core.durable) {
            (Some((gift, lsn)), _) => {
                core.wait(Some(lsn)).await?;
                Some(gift)
            }
            (None, Some(durable)) => durable.store.gift(id).map_err(store_failed)?,
            (None, None) => None,
        };
        gift.iter_mut().for_each(|gift| gift.tell(gift.redacted));
        Ok(gift)
    }

    async fn address(&self, gift: GiftId) -> Result<AddressRead> {
        let (read, lsn) = self.core.read_address(gift)?;
        self.core.wait(lsn).await?;
        Ok(read)
    }

    async fn gifts(&self, user: &UserId, role: GiftRole, page: &Page) -> Result<Listing<Gift>> {
        let mut listing = self.core.view()?.gifts(user, role, page)?;
        listing.rows.iter_mut().for_each(|gift| gift.tell(gift.redacted));
        Ok(listing)
    }

    async fn gift_envelope(&self, id: GiftEnvelopeId) -> Result<Option<GiftEnvelopeView>> {
        // What has become of its gifts is durable then.
        let lsn = self.core.shards[self.core.router.gift_envelope(id)].lock().last_lsn;
        self.core.wait(Some(lsn)).await?;
        let mut view = self.core.view()?.gift_envelope(id).map_err(store_failed)?;
        view.iter_mut().flat_map(|view| &mut view.gifts).for_each(|gift| gift.tell(gift.redacted));
        Ok(view)
    }

    async fn gift_envelopes(&self, giver: &UserId, page: &Page) -> Result<Listing<GiftEnvelopeView>> {
        let mut listing = self.core.view()?.gift_envelopes(giver, page)?;
        let gifts = listing.rows.iter_mut().flat_map(|view| &mut view.gifts);
        gifts.for_each(|gift| gift.tell(gift.redacted));
        Ok(listing)
    }

    async fn relations(&self, user: &UserId, side: RelationSide, page: &Page) -> Result<Listing<RelationRow>> {
        self.core.view()?.relations(user, side, page)
    }
    async fn payment(&self, id: PaymentId) -> Result<Option<Payment>> {
        self.core.read_payment(id).await
    }

    async fn payments(&self, filter: &PaymentFilter, page: &Page) -> Result<Listing<Payment>> {
        self.core.view()?.payments(filter, page)
    }

    async fn group(&self, id: GroupId) -> Result<Option<Group>> {
        let Some((group, lsn)) = self.core.find_group(id)? else { return Ok(None) };
        self.core.wait(Some(lsn)).await?;
        Ok(Some(group))
    }

    async fn groups(&self, of: &GroupsOf, page: &Page) -> Result<Listing<Group>> {
        self.core.view()?.groups(of, page)
    }

    async fn payout(&self, id: PayoutId) -> Result<Option<PayoutView>> {
        let core = &self.core;
        let found = {
            let shard = core.shards[core.router.payout(id)].lock();
            shard.payouts.get(&id).and_then(|known| Some((known.payout.as_deref()?.clone(), shard.last_lsn)))
        };
        let payout = match (found, &core.durable) {
            (Some((payout, lsn)), _) => {
                core.wait(Some(lsn)).await?;
                payout
            }
            (None, Some(durable)) => match durable.store.payout(id).map_err(store_failed)? {
                Some(payout) => payout,
                None => return Ok(None),
            },
            (None, None) => return Ok(None),
        };
        let origin = core.origin(payout.envelope)?;
        Ok(Some(origin.view(payout)))
    }

    async fn payouts(&self, filter: &PayoutFilter, page: &Page) -> Result<Listing<PayoutView>> {
        let core = &self.core;
        let view = core.view()?;
        // Payouts of one envelope stand beside each other.
        let mut origins: HashMap<EnvelopeId, Origin> = HashMap::new();
        view.payouts(filter, page, |payout| {
            let origin = match origins.get(&payout.envelope) {
                Some(origin) => origin,
                None => origins.entry(payout.envelope).or_insert(core.origin(payout.envelope)?),
            };
            let is_wanted = filter.owner.as_ref().is_none_or(|owner| *owner == origin.owner);
            Ok(is_wanted.then(|| origin.view(payout)))
        })
    }

    async fn api_keys(&self, page: &Page) -> Result<Listing<ApiKey>> {
        let core = &self.core;
        let (listing, lsn) = {
            let shard = core.shards[Router::API_KEYS].lock();
            (api_key::list(shard.api_keys.values().cloned(), page)?, shard.last_lsn)
        };
        core.wait(Some(lsn)).await?;
        Ok(listing)
    }

    async fn api_keys_version(&self) -> Result<u64> {
        Ok(self.core.shards[Router::API_KEYS].lock().api_keys_lsn.0)
    }

    async fn events(&self, query: &EventQuery) -> Result<EventPage> {
        self.core.events(query)
    }

    async fn more_events(&self, mark: u64) -> Result<u64> {
        self.core.more_events(mark).await
    }

    async fn audit(&self) -> Result<Audit> {
        let core = &self.core;
        let (audit, lsn) = {
            let guards: Vec<_> = core.shards.iter().map(|shard| shard.lock()).collect();
            let last = guards.iter().map(|shard| shard.last_lsn).max().unwrap_or_default();
            (ledger::total(guards.iter().map(|shard| &shard.sums)), last)
        };
        core.wait(Some(lsn)).await?;
        Ok(audit)
    }

    fn now(&self) -> Timestamp {
        self.core.clock.now()
    }

    fn ready(&self) -> std::result::Result<(), String> {
        self.core.readiness()?;
        match self.core.durable.as_ref().and_then(|durable| durable.projector.failure()) {
            // Whoever asks is still answered, until too much waits for the store.
            Some(failure) => Err(format!("what is durable does not get into the store: {failure}")),
            None => Ok(()),
        }
    }
}

/// What is the same for all grabs of one envelope.
struct Facts {
    sender: UserId,
    claim_by: Timestamp,
    unclaimed: crate::command::Unclaimed,
    /// The luckiest share, once every share is taken.
    best: Option<u32>,
}

impl Facts {
    fn of(created: &EnvelopeCreated, taken: u32) -> Facts {
        Facts {
            sender: created.terms.sender.clone(),
            claim_by: created.claim_by,
            unclaimed: created.terms.unclaimed,
            best: (taken == created.terms.shares).then_some(created.best_share),
        }
    }

    fn of_live(envelope: &Envelope) -> Facts {
        Facts::of(&envelope.created, envelope.winners.len())
    }

    fn row(&self, win: WinRow, now: Timestamp) -> GrabRow {
        GrabRow {
            status: share_status(now, win.claimed_at.is_some(), self.claim_by, self.unclaimed),
            best: self.best == Some(win.share),
            user: win.user,
            amount: win.amount,
            share: win.share,
            grabbed_at: win.grabbed_at,
            claimed_at: win.claimed_at,
        }
    }
}

/// What a payout's envelope tells of it.
struct Origin {
    owner: String,
    funding: Option<String>,
}

impl Origin {
    fn of(created: &EnvelopeCreated) -> Origin {
        Origin { owner: created.terms.owner.clone(), funding: created.terms.outside.funding.clone() }
    }

    fn view(&self, payout: Payout) -> PayoutView {
        PayoutView { payout, owner: self.owner.clone(), funding_reference: self.funding.clone() }
    }
}

impl Core {
    /// Of an envelope that has payouts, and so is durable.
    fn origin(&self, id: EnvelopeId) -> Result<Origin> {
        if let Some(envelope) = self.shards[self.router.envelope(id)].lock().envelopes.get(&id) {
            return Ok(Origin::of(&envelope.created));
        }
        let row = match &self.durable {
            Some(durable) => durable.store.envelope(id).map_err(store_failed)?,
            None => None,
        };
        row.map(|row| Origin::of(&row.created))
            .ok_or_else(|| EngineError::Store(format!("{id} has a payout and no terms; run `hongbao audit`")))
    }

    /// What of an order's money is pending until when, as its sale tells; `None` if it was made before
    /// sales were pending.
    pub(super) fn sale_of(&self, order: &OrderView) -> Result<Option<(Amount, Timestamp)>> {
        if self.durable.is_none() {
            return Ok(None);
        }
        let sale = self.view()?.sale(&order.merchant, order.created_at, SaleOf::Order(order.id));
        Ok(match sale.map_err(store_failed)?.map(|entry| entry.kind) {
            Some(MerchantEntryKind::Sale { commission, due, .. }) => Some((commission, due)),
            _ => None,
        })
    }

    /// Everything durable now, for lists.
    fn view(&self) -> Result<View> {
        match &self.durable {
            Some(durable) => durable.projector.view().map_err(store_failed),
            None => Err(EngineError::NotReady("lists need a store: open the engine with a directory".to_owned())),
        }
    }

    /// Reads an envelope in memory, and what to wait for before telling.
    fn look<T>(&self, id: EnvelopeId, read: impl FnOnce(&Envelope) -> T) -> Option<(T, Lsn)> {
        let mut shard = self.shards[self.router.envelope(id)].lock();
        let last_lsn = shard.last_lsn;
        let envelope = shard.asked_envelope(id, self.clock.now())?;
        Some((read(envelope), last_lsn))
    }

    /// An item, whether its merchant may sell, and what to wait for before telling.
    fn look_at_item(&self, id: ItemId) -> Option<(ItemView, bool, Lsn)> {
        let shard = self.shards[self.router.item(id)].lock();
        let view = shard.items.get(&id)?.view();
        let may_sell = shard.refuses(&view.terms.merchant).is_none();
        Some((view, may_sell, shard.last_lsn))
    }

    fn cold_envelope(&self, id: EnvelopeId, now: Timestamp) -> Result<Option<(EnvelopeView, Lsn)>> {
        let Some((row, lsn)) = self.stored_envelope(id)? else { return Ok(None) };
        Ok(Some((figures(&row)?.view(&row.created, now), lsn)))
    }

    fn kept_view(&self, id: EnvelopeId, filter: &EnvelopeFilter, last: &mut Lsn) -> Result<Option<EnvelopeView>> {
        let now = self.clock.now();
        let found = match self.look(id, |envelope| envelope.view(now)) {
            Some(found) => Some(found),
            None => self.cold_envelope(id, now)?,
        };
        Ok(found.and_then(|(view, lsn)| {
            *last = lsn.max(*last);
            filter.matches(&view).then_some(view)
        }))
    }

    /// And what to wait for before telling them.
    fn facts(&self, id: EnvelopeId) -> Result<Option<(Facts, Lsn)>> {
        if let Some(found) = self.look(id, Facts::of_live) {
            return Ok(Some(found));
        }
        let Some(durable) = &self.durable else { return Ok(None) };
        let Some(row) = durable.store.envelope(id).map_err(store_failed)? else { return Ok(None) };
        Ok(Some((Facts::of(&row.created, figures(&row)?.taken), Lsn(0))))
    }

    /// The envelope whose creation is remembered under this key.
    fn created_under(&self, key: OnceKey) -> Result<Option<EnvelopeId>> {
        let Some(durable) = &self.durable else { return Ok(None) };
        self.warm_memo(durable, key)?;
        let shard = self.shards[self.router.memo(key)].lock();
        let kept = shard.memos.get(&key).and_then(|memo| memo.kept.as_deref());
        Ok(kept.and_then(|kept| match &kept.answer {
            Outcome::Envelope(view) => Some(view.id),
            _ => None,
        }))
    }
}
