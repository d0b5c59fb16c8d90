//! Reads and lists.
//!
//! **Invariant:** what is told is confirmed first: every read is a call that
//! asks for it.

use super::archive::rows::Listed;
use super::backend::{Core, RedisBackend, Result};
use super::commands::figures;
use super::layout::{Layout, MONEY};
use super::lists::{Bounds, Walk};
use super::pool_reads::amount_of;
use super::reply::{Answer, damaged, parts};
use super::scripts::READ;
use super::sweep;
use crate::address::AddressRead;
use crate::api_key::ApiKey;
use crate::backend::{
    Audit, Backend, Entry, EntryKind, EnvelopeFilter, GrabRow, ItemFilter, Listing, OnceKey, Page, ReceivedRow, Reply,
};
use crate::code::{Code, HandedTo};
use crate::command::{Command, EnvelopeView, HoldView, ItemView, Merchant, MerchantStatus, OrderView, WalletView};
use crate::error::EngineError;
use crate::event::EnvelopeCreated;
use crate::feed::{EventPage, EventQuery};
use crate::gift::{Gift, GiftRole};
use crate::gift_envelope::GiftEnvelopeView;
use crate::group::{Group, GroupsOf};
use crate::payment::{Payment, PaymentFilter};
use crate::payout::{PayoutFilter, PayoutView};
use crate::relation::{RelationRow, RelationSide};
use crate::sale::{MerchantBalance, Statement, StatementTime};
use crate::state::envelope::{Figures, share_status};
use crate::types::{
    Amount, EnvelopeId, GiftEnvelopeId, GiftId, GroupId, HoldId, ItemId, OrderId, PaymentId, PayoutId, Timestamp,
    UserId,
};
use std::collections::HashMap;
use std::sync::Arc;

/// How often an audit looks again while money moves under its eyes.
const AUDIT_LOOKS: usize = 20;

/// Which list a cursor belongs to; its first byte.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum List {
    Entries = 1,
    Envelopes = 2,
    Sent = 3,
    Received = 4,
    Wins = 5,
    Items = 6,
    Payouts = 7,
    Gifts = 8,
}

impl Backend for RedisBackend {
    async fn execute(&self, command: Command, once: Option<OnceKey>) -> Result<Reply> {
        self.core.execute(&command, once).await
    }

    async fn execute_all(&self, commands: Vec<Command>) -> Vec<Result<Reply>> {
        self.core.execute_all(&commands).await
    }

    async fn wallet(&self, user: &UserId) -> Result<WalletView> {
        let core = &self.core;
        let args = ["row", "available"].map(|word| word.as_bytes().to_vec());
        let row = core.read(core.layout.of_user(user), &[core.layout.wallet(user)], &args).await?;
        let available = if row.maybe(0).is_some() { row.amount(0)? } else { Amount::ZERO };
        Ok(WalletView { user: user.clone(), available, held: Amount::ZERO })
    }

    async fn entries(&self, user: &UserId, page: &Page) -> Result<Listing<Entry>> {
        self.core.entries(user, page).await
    }

    async fn envelope(&self, id: EnvelopeId) -> Result<Option<EnvelopeView>> {
        let now = self.core.clock.now();
        let found = self.core.envelope_row(id).await?;
        Ok(found.map(|row| row.figures.view(&row.created, now)))
    }

    async fn envelopes(&self, filter: &EnvelopeFilter, page: &Page) -> Result<Listing<EnvelopeView>> {
        self.core.envelopes(filter, page).await
    }

    async fn grabs(&self, id: EnvelopeId, page: &Page) -> Result<Option<Listing<GrabRow>>> {
        self.core.grabs(id, page).await
    }

    async fn grab_of(&self, id: EnvelopeId, user: &UserId) -> Result<Option<GrabRow>> {
        Ok(self.core.grab_with_row(id, user).await?.and_then(|(_, grab)| grab))
    }

    async fn sent(&self, user: &UserId, page: &Page) -> Result<Listing<EnvelopeView>> {
        let filter = EnvelopeFilter { sender: Some(user.clone()), ..EnvelopeFilter::default() };
        self.core.envelopes(&filter, page).await
    }

    async fn received(&self, user: &UserId, page: &Page) -> Result<Listing<ReceivedRow>> {
        self.core.received(user, page).await
    }

    async fn merchant(&self, id: &UserId) -> Result<Option<Merchant>> {
        self.core.merchant(id).await
    }

    async fn merchants(&self, status: Option<MerchantStatus>, page: &Page) -> Result<Listing<Merchant>> {
        self.core.merchants(status, page).await
    }

    async fn merchant_balance(&self, id: &UserId) -> Result<Option<MerchantBalance>> {
        match self.core.merchant(id).await? {
            Some(_) => self.core.merchant_balance(id).await.map(Some),
            None => Ok(None),
        }
    }

    async fn statement(&self, id: &UserId, time: StatementTime, page: &Page) -> Result<Option<Statement>> {
        match self.core.merchant(id).await? {
            Some(_) => self.core.statement(id, time, page).await.map(Some),
            None => Ok(None),
        }
    }

    async fn item(&self, id: ItemId) -> Result<Option<ItemView>> {
        self.core.item(id).await
    }

    async fn items(&self, filter: &ItemFilter, page: &Page) -> Result<Listing<ItemView>> {
        self.core.items(filter, page).await
    }

    async fn hold(&self, id: HoldId) -> Result<Option<HoldView>> {
        self.core.hold(id).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<OrderView>> {
        self.core.order(id).await
    }

    /// There are none.
    async fn gift_envelope(&self, _: GiftEnvelopeId) -> Result<Option<GiftEnvelopeView>> {
        Ok(None)
    }

    async fn gift_envelopes(&self, _: &UserId, _: &Page) -> Result<Listing<GiftEnvelopeView>> {
        Ok(Listing { rows: Vec::new(), next: None })
    }

    /// None are kept.
    async fn relations(&self, _: &UserId, _: RelationSide, _: &Page) -> Result<Listing<RelationRow>> {
        Ok(Listing { rows: Vec::new(), next: None })
    }

    async fn codes(&self, to: HandedTo) -> Result<Vec<Code>> {
        self.core.handed(to).await
    }

    async fn gift(&self, id: GiftId) -> Result<Option<Gift>> {
        let mut gift = self.core.gift(id).await?;
        gift.iter_mut().for_each(|gift| gift.tell(gift.redacted));
        Ok(gift)
    }

    async fn address(&self, gift: GiftId) -> Result<AddressRead> {
        self.core.address(gift).await
    }

    async fn gifts(&self, user: &UserId, role: GiftRole, page: &Page) -> Result<Listing<Gift>> {
        let mut listing = self.core.gifts(user, role, page).await?;
        listing.rows.iter_mut().for_each(|gift| gift.tell(gift.redacted));
        Ok(listing)
    }

    /// Nothing is paid outside here.
    async fn payment(&self, _: PaymentId) -> Result<Option<Payment>> {
        Ok(None)
    }

    async fn payments(&self, _: &PaymentFilter, _: &Page) -> Result<Listing<Payment>> {
        Ok(Listing { rows: Vec::new(), next: None })
    }

    async fn group(&self, _: GroupId) -> Result<Option<Group>> {
        Ok(None)
    }

    async fn groups(&self, _: &GroupsOf, _: &Page) -> Result<Listing<Group>> {
        Ok(Listing { rows: Vec::new(), next: None })
    }

    async fn payout(&self, id: PayoutId) -> Result<Option<PayoutView>> {
        self.core.payout(id).await
    }

    async fn payouts(&self, filter: &PayoutFilter, page: &Page) -> Result<Listing<PayoutView>> {
        self.core.payouts(filter, page).await
    }

    async fn api_keys(&self, page: &Page) -> Result<Listing<ApiKey>> {
        self.core.api_keys(page).await
    }

    async fn api_keys_version(&self) -> Result<u64> {
        self.core.api_keys_version().await
    }

    async fn events(&self, query: &EventQuery) -> Result<EventPage> {
        self.core.feed(query).await
    }

    async fn more_events(&self, mark: u64) -> Result<u64> {
        self.core.more_events(mark).await
    }

    async fn audit(&self) -> Result<Audit> {
        self.core.audit().await
    }

    fn now(&self) -> Timestamp {
        self.core.clock.now()
    }

    fn ready(&self) -> std::result::Result<(), String> {
        let found_away = self.core.nodes.absence().why().map(|why| sweep::waits_for_redis(&why));
        let unready = found_away.or_else(|| self.core.unready.lock().clone());
        unready.or_else(|| self.core.clock.alarm()).map_or(Ok(()), Err)
    }
}

/// An envelope as it is now.
pub(super) struct EnvelopeRow {
    pub(super) created: EnvelopeCreated,
    pub(super) figures: Figures,
    pub(super) width: u64,
    /// Whether it has left Redis.
    pub(super) archived: bool,
}

/// A share and whose it is.
#[derive(Clone)]
pub(super) struct Win {
    pub(super) user: UserId,
    pub(super) share: u32,
    pub(super) amount: Amount,
    pub(super) grabbed_at: Timestamp,
    pub(super) claimed_at: Option<Timestamp>,
}

impl EnvelopeRow {
    fn grab(&self, win: Win, now: Timestamp) -> GrabRow {
        let terms = &self.created.terms;
        let Win { user, share, amount, grabbed_at, claimed_at } = win;
        let status = share_status(now, claimed_at.is_some(), self.created.claim_by, terms.unclaimed);
        let best = self.figures.taken == terms.shares && share == self.created.best_share;
        GrabRow { user, amount, share, status, grabbed_at, claimed_at, best }
    }
}

impl Win {
    /// As `read.lua` tells those of small envelopes.
    pub(super) fn read(win: &Answer) -> Result<Win> {
        Ok(Win {
            user: win.user(0)?,
            share: win.units(1)?,
            amount: amount_of(win.bytes(4)?)?,
            grabbed_at: win.at(2)?,
            claimed_at: win.at_if_any(3)?,
        })
    }
}

impl Core {
    pub(super) async fn envelope_row(&self, id: EnvelopeId) -> Result<Option<EnvelopeRow>> {
        if id.is_mass() {
            return self.mass_row(id).await;
        }
        let fields = ["created", "width", "ended", "settled", "taken", "taken_amount", "claimed_amount", "refunded"];
        let (row, archived) = self.envelope_fields(id, fields).await?;
        let Some(created) = row.maybe(0) else { return Ok(None) };
        let created = EnvelopeCreated::of_bytes(created).ok_or_else(|| damaged("an envelope"))?;
        Ok(Some(EnvelopeRow { created, figures: figures(&row, 2)?, width: row.number(1)?, archived }))
    }

    pub(super) async fn grab_with_row(
        &self,
        id: EnvelopeId,
        user: &UserId,
    ) -> Result<Option<(EnvelopeRow, Option<GrabRow>)>> {
        let now = self.clock.now();
        if id.is_mass() {
            let Some((row, win)) = self.mass_win(id, user).await? else { return Ok(None) };
            let grab = win.map(|win| row.grab(win, now));
            return Ok(Some((row, grab)));
        }
        let Some(row) = self.envelope_row(id).await? else { return Ok(None) };
        let mut win = if row.archived { self.archived_win(id, user).await? } else { self.win(&row, user).await? };
        if win.is_none() && !row.archived && row.figures.settled {
            // It may have left Redis in between.
            win = self.archived_win(id, user).await?;
        }
        let grab = win.map(|win| row.grab(win, now));
        Ok(Some((row, grab)))
    }

    async fn win(&self, row: &EnvelopeRow, user: &UserId) -> Result<Option<Win>> {
        let id = row.created.id;
        let keys = [self.layout.winners(id), self.layout.shares(id)];
        let [opened, width] = [row.created.opens_at.ms(), row.width].map(|number| number.to_string().into_bytes());
        let args = [b"win".to_vec(), opened, width, user.as_str().as_bytes().to_vec()];
        let win = self.read(self.layout.of_id(id.bytes()), &keys, &args).await?;
        if win.len() == 0 { Ok(None) } else { Win::read(&win).map(Some) }
    }

    /// Up to `most` wins in the order of their shares, from a share on; of an
    /// envelope that lies whole in its bucket with so many bytes a share.
    pub(super) async fn wins(&self, created: &EnvelopeCreated, width: u64, from: u64, most: usize) -> Result<Vec<Win>> {
        let id = created.id;
        let keys = [self.layout.winners_in_order(id), self.layout.winners(id), self.layout.shares(id)];
        let numbers = [created.opens_at.ms(), width, from, most as u64].map(|number| number.to_string().into_bytes());
        let args: Vec<Vec<u8>> = [b"wins".to_vec()].into_iter().chain(numbers).collect();
        let found = parts(self.call(self.layout.of_id(id.bytes()), &READ, &keys, &args, true).await?)?;
        found.into_iter().map(|win| Win::read(&Answer::read(win)?)).collect()
    }

    async fn grabs(&self, id: EnvelopeId, page: &Page) -> Result<Option<Listing<GrabRow>>> {
        let now = self.clock.now();
        let first = match position::<4>(List::Wins, page)? {
            Some(last) => u64::from(u32::from_be_bytes(last)) + 1,
            None => 0,
        };
        loop {
            let Some(before) = self.envelope_row(id).await? else { return Ok(None) };
            let most = page.limit + 1;
            let wins = match (id.is_mass(), before.archived) {
                (_, true) => self.archived_wins(id, first, most).await?,
                (true, _) => self.mass_wins(id, first, most).await?,
                _ => self.wins(&before.created, before.width, first, most).await?,
            };
            let Some(row) = self.envelope_row(id).await? else { return Ok(None) };
            // Sold out in between, a list of all rows would not tell the best; archived
            // in between, its rows were looked for where they are not any more.
            let is_sold_out = |row: &EnvelopeRow| row.figures.taken == row.created.terms.shares;
            if is_sold_out(&row) != is_sold_out(&before) || row.archived != before.archived {
                continue;
            }
            let mut rows: Vec<GrabRow> = wins.into_iter().map(|win| row.grab(win, now)).collect();
            let more = rows.len() > page.limit;
            rows.truncate(page.limit);
            let last = rows.last().filter(|_| more).map(|row| row.share.to_be_bytes());
            return Ok(Some(Listing { rows, next: last.map(|last| cursor(List::Wins, &last)) }));
        }
    }

    async fn entries(&self, user: &UserId, page: &Page) -> Result<Listing<Entry>> {
        let (bucket, key) = (self.layout.of_user(user), self.layout.wallet(user));
        let newest = match position::<8>(List::Entries, page)? {
            Some(last) => u64::from_be_bytes(last).saturating_sub(1),
            None => {
                let args = ["row", "rows"].map(|word| word.as_bytes().to_vec());
                let row = self.read(bucket, &[key], &args).await?;
                if row.maybe(0).is_some() { row.number(0)? } else { 0 }
            }
        };
        let oldest = newest.saturating_sub(page.limit as u64) + 1;
        if newest == 0 {
            return Ok(Listing { rows: Vec::new(), next: None });
        }
        let found = self.movements(user, (oldest..=newest).rev()).await?;
        let read = |row: Option<Vec<u8>>| entry(&row.ok_or_else(|| damaged("a wallet"))?);
        let rows = found.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        let next = (oldest > 1).then(|| cursor(List::Entries, &oldest.to_be_bytes()));
        Ok(Listing { rows, next })
    }

    async fn envelopes(self: &Arc<Self>, filter: &EnvelopeFilter, page: &Page) -> Result<Listing<EnvelopeView>> {
        let now = self.clock.now();
        if let Some(reference) = &filter.reference {
            let key = OnceKey::reference(&filter.owner, "envelope", reference);
            let made = match self.created_under(key).await? {
                Some(id) => self.envelope_row(id).await?,
                None => None,
            };
            let view = made.map(|row| row.figures.view(&row.created, now)).filter(|view| filter.matches(view));
            return Ok(Listing { rows: view.into_iter().collect(), next: None });
        }
        let list = if filter.sender.is_some() { List::Sent } else { List::Envelopes };
        let mut bounds = Bounds::after(position(list, page)?);
        bounds.before_ms = filter.created_to.map(Timestamp::ms);
        bounds.from_ms = filter.created_from.map(Timestamp::ms);
        let mut walk = match &filter.sender {
            Some(sender) => {
                let archived = Some(Listed::Sent(sender));
                Walk::of_one(self, self.layout.of_user(sender), self.layout.sent(sender), bounds, archived)
            }
            None => Walk::of_all(self, Layout::envelopes_by_time, bounds, Some(Listed::All)).await?,
        };
        let mut rows = Vec::new();
        while let Some(at) = walk.next().await? {
            if let Some(next) = walk.end_of_page(rows.len(), page.limit) {
                return Ok(Listing { rows, next: Some(cursor(list, &next)) });
            }
            let made = self.envelope_row(EnvelopeId::from_bytes(at.id)).await?;
            let view = made.map(|row| row.figures.view(&row.created, now));
            rows.extend(view.filter(|view| filter.matches(view)));
            walk.pass(at);
        }
        Ok(Listing { rows, next: None })
    }

    async fn received(self: &Arc<Self>, user: &UserId, page: &Page) -> Result<Listing<ReceivedRow>> {
        let bounds = Bounds::after(position(List::Received, page)?);
        let archived = Some(Listed::Received(user));
        let mut walk = Walk::of_one(self, self.layout.of_user(user), self.layout.received(user), bounds, archived);
        let mut rows = Vec::new();
        while let Some(at) = walk.next().await? {
            if let Some(next) = walk.end_of_page(rows.len(), page.limit) {
                return Ok(Listing { rows, next: Some(cursor(List::Received, &next)) });
            }
            let envelope = EnvelopeId::from_bytes(at.id);
            let Some((row, Some(grab))) = self.grab_with_row(envelope, user).await? else {
                return Err(damaged("a grab"));
            };
            rows.push(ReceivedRow { envelope, sender: row.created.terms.sender, grab });
            walk.pass(at);
        }
        Ok(Listing { rows, next: None })
    }

    async fn items(self: &Arc<Self>, filter: &ItemFilter, page: &Page) -> Result<Listing<ItemView>> {
        let bounds = Bounds::after(position(List::Items, page)?);
        let mut walk = Walk::of_all(self, Layout::items_by_time, bounds, None).await?;
        // Merchants of this page, and whether they may sell.
        let (now, mut selling) = (self.clock.now(), HashMap::new());
        let mut rows = Vec::new();
        while let Some(at) = walk.next().await? {
            if let Some(next) = walk.end_of_page(rows.len(), page.limit) {
                return Ok(Listing { rows, next: Some(cursor(List::Items, &next)) });
            }
            let view = self.item(ItemId::from_bytes(at.id)).await?.filter(|view| filter.matches(view));
            let is_wanted = match (&view, filter.on_sale) {
                (Some(view), Some(wanted)) => {
                    let merchant = &view.terms.merchant;
                    let may_sell = match selling.get(merchant) {
                        Some(may_sell) => *may_sell,
                        None => {
                            let status = self.merchant(merchant).await?.map(|merchant| merchant.status);
                            let may_sell = status == Some(MerchantStatus::Verified);
                            selling.insert(merchant.clone(), may_sell);
                            may_sell
                        }
                    };
                    wanted == (may_sell && view.terms.is_open(now))
                }
                _ => true,
            };
            rows.extend(view.filter(|_| is_wanted));
            walk.pass(at);
        }
        Ok(Listing { rows, next: None })
    }

    /// Adds up the buckets' sums. They are not read at one moment: money that
    /// arrived in one bucket before it was seen to leave another makes the sum of
    /// what is in between negative, and then it is read again. If nothing has
    /// moved meanwhile it is missing, and the audit says so.
    async fn audit(self: &Arc<Self>) -> Result<Audit> {
        let mut before = Vec::new();
        for _ in 0..AUDIT_LOOKS {
            let rows = self.in_every_bucket(|core, bucket| async move {
                let words = std::iter::once("row").chain(MONEY);
                let args: Vec<Vec<u8>> = words.map(|word| word.as_bytes().to_vec()).collect();
                let row = core.read(bucket, &[core.layout.sums(bucket)], &args).await?;
                let mut sums = [0i64; MONEY.len()];
                for (index, sum) in sums.iter_mut().enumerate() {
                    *sum = if row.maybe(index).is_some() { row.signed(index)? } else { 0 };
                }
                Ok((bucket.number(), sums))
            });
            let mut rows = rows.await?;
            rows.sort_unstable();
            let mut sums = [0i64; MONEY.len()];
            for (_, row) in &rows {
                for (sum, part) in sums.iter_mut().zip(row) {
                    *sum = sum.checked_add(*part).ok_or_else(|| damaged("a sum"))?;
                }
            }
            let [.., in_flight] = sums;
            if in_flight >= 0 || before == rows {
                let place = |sum: i64| u64::try_from(sum).map_err(|_| damaged("a sum"));
                let [deposited, withdrawn, paid_out, wallets, escrowed, payable, merchants, platform, _] =
                    sums.map(place);
                return Ok(Audit {
                    deposited: deposited?,
                    withdrawn: withdrawn?,
                    paid_out: paid_out?,
                    wallets: wallets?,
                    escrowed: escrowed?,
                    payable: payable?,
                    refunding: 0,
                    merchants: merchants?,
                    platform: platform?,
                    in_flight,
                });
            }
            before = rows;
        }
        Err(EngineError::Overloaded)
    }
}

/// A movement as the prelude's `enter` writes it.
pub(super) fn entry(row: &[u8]) -> Result<Entry> {
    let words = Answer::split(row.to_vec(), 5);
    let envelope = || words.id(4).map(EnvelopeId::from_bytes);
    let reference = || match words.bytes(4)?.split_first() {
        Some((b'r', text)) => String::from_utf8(text.to_vec()).map(Some).map_err(|_| damaged("a reference")),
        _ => Ok(None),
    };
    Ok(Entry {
        at: words.at(0)?,
        kind: match words.bytes(1)? {
            b"d" => EntryKind::Deposit(reference()?),
            b"w" => EntryKind::Withdrawal(reference()?),
            b"f" => EntryKind::EnvelopeCreated(envelope()?),
            b"c" => EntryKind::Claim(envelope()?),
            b"r" => EntryKind::Refund(envelope()?),
            b"l" => EntryKind::Lapse(envelope()?),
            b"o" => EntryKind::Order(words.id(4).map(OrderId::from_bytes)?),
            b"g" => EntryKind::GiftPaid(words.id(4).map(GiftId::from_bytes)?),
            b"b" => EntryKind::GiftRefund(words.id(4).map(GiftId::from_bytes)?),
            b"u" => EntryKind::OrderRefund(words.id(4).map(OrderId::from_bytes)?),
            _ => return Err(damaged("a movement")),
        },
        amount: words.amount(2)?,
        balance_after: words.amount(3)?,
    })
}

pub(super) fn cursor(list: List, position: &[u8]) -> Vec<u8> {
    [&[list as u8], position].concat()
}

/// Where a page starts: after this, in this list.
pub(super) fn position<const N: usize>(list: List, page: &Page) -> Result<Option<[u8; N]>> {
    match page.cursor.as_deref().map(<[u8]>::split_first) {
        None => Ok(None),
        Some(Some((&tag, position))) if tag == list as u8 => {
            position.try_into().map(Some).map_err(|_| EngineError::Cursor)
        }
        Some(_) => Err(EngineError::Cursor),
    }
}
