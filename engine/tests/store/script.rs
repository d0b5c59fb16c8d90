//! Writes journals for the tests: a small naive engine that makes records as
//! the real one would, from a seed.

use crate::random::Random;
use hongbao_engine::address::{AddressKeep, AddressMark};
use hongbao_engine::api_key::{ApiKey, Role};
use hongbao_engine::backend::{EntryKind, OnceKey};
use hongbao_engine::code::*;
use hongbao_engine::command::*;
use hongbao_engine::event::*;
use hongbao_engine::gift::*;
use hongbao_engine::group::{Group, GroupState, Member};
use hongbao_engine::order::OrderProgress;
use hongbao_engine::payout::*;
use hongbao_engine::relation::{Relation, RelationRow};
use hongbao_engine::sale::*;
use hongbao_engine::split::SplitRule;
use hongbao_engine::store::DurableBatch;
use hongbao_engine::types::*;
use std::collections::BTreeMap;

pub(crate) fn user(number: u64) -> UserId {
    // Some users' texts start with other users' texts.
    UserId::new(&"u".repeat(1 + number as usize)).unwrap()
}

pub(crate) fn amount(minor: u64) -> Amount {
    Amount::new(minor).unwrap()
}

pub(crate) fn id(kind: u8, number: u64) -> [u8; 16] {
    let mut bytes = [kind; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes
}

/// An envelope of equal shares.
pub(crate) fn made(id: EnvelopeId, sender: UserId, total: Amount, shares: u32, now: Timestamp) -> EnvelopeCreated {
    EnvelopeCreated {
        id,
        terms: NewEnvelope {
            owner: "app".to_owned(),
            sender,
            total,
            shares,
            split: SplitRule::Equal,
            message: "恭喜发财".to_owned(),
            opens_at: None,
            expires_in_s: 3600,
            claim_within_s: 3600,
            auto_claim: false,
            unclaimed: Unclaimed::Return,
            reference: None,
            // Some values are longer than a page, some are much longer.
            metadata: "{}".repeat([1, 1, 1, 2_500, 1, 9_000, 1, 1][usize::from(id.bytes()[0] % 8)]),
            client_seed: None,
            outside: Outside::default(),
        },
        created_at: now,
        opens_at: now,
        expires_at: now.plus_s(3600),
        claim_by: now.plus_s(7200),
        secret: [7; 32],
        best_share: 0,
        payout_secret: [0; 32],
        redacted: None,
    }
}

struct Envelope {
    created: EnvelopeCreated,
    taken: Vec<(UserId, Timestamp, bool)>,
    ended: Option<EndedAs>,
    settled: bool,
    refunded: Amount,
}

impl Envelope {
    fn share_amount(&self, share: u32) -> Amount {
        amount(self.created.terms.total.minor() / u64::from(self.created.terms.shares) * u64::from(share < u32::MAX))
    }
    fn open_amount(&self) -> Amount {
        (0..).zip(&self.taken).filter(|(_, taken)| !taken.2).map(|(share, _)| self.share_amount(share)).sum()
    }
    fn claimed_amount(&self) -> Amount {
        (0..).zip(&self.taken).filter(|(_, taken)| taken.2).map(|(share, _)| self.share_amount(share)).sum()
    }
    fn unsold(&self) -> Amount {
        self.created.terms.total - self.open_amount() - self.claimed_amount()
    }
}

struct Item {
    put: ItemPut,
    units: BTreeMap<UserId, Units>,
    /// Codes that were handed out.
    gone: u32,
}

impl Item {
    /// Hands codes, if that is what its units are.
    fn hand(&mut self, count: u32, to: HandedTo) -> Option<Event> {
        let first = self.gone;
        (self.put.terms.origin.kind == ItemKind::Code).then(|| {
            self.gone += count;
            Event::CodesHanded(CodesHanded { item: self.put.id, first, count, to })
        })
    }
}

#[derive(Default)]
struct Seller {
    available: Amount,
    slots: BTreeMap<Timestamp, Slot>,
}

impl Seller {
    fn balance(&self) -> MerchantBalance {
        let pending = self.slots.values().map(|slot| slot.amount).sum();
        MerchantBalance { pending, available: self.available }
    }

    fn moved(&self, merchant: &UserId, kind: MerchantMove, amount: Amount) -> Event {
        let (merchant, balance_after) = (merchant.clone(), self.balance());
        Event::MerchantMoved(Box::new(MerchantMoved { merchant, kind, amount, balance_after }))
    }
}

pub(crate) struct Script {
    random: Random,
    pub(crate) now: Timestamp,
    wallets: BTreeMap<UserId, Amount>,
    envelopes: Vec<Envelope>,
    items: Vec<Item>,
    api_keys: Vec<ApiKey>,
    holds: Vec<HoldView>,
    sellers: BTreeMap<UserId, Seller>,
    pub(crate) payouts: Vec<Payout>,
    pub(crate) gifts: Vec<Gift>,
    groups: Vec<Group>,
    addresses: BTreeMap<GiftId, AddressMark>,
    numbers: u64,
    pub(crate) records: Vec<Vec<u8>>,
}

impl Script {
    pub(crate) fn new(seed: u64) -> Script {
        Script {
            random: Random(seed),
            now: Timestamp::from_ms(1_770_000_000_000),
            wallets: BTreeMap::new(),
            envelopes: Vec::new(),
            items: Vec::new(),
            api_keys: Vec::new(),
            holds: Vec::new(),
            sellers: BTreeMap::new(),
            payouts: Vec::new(),
            gifts: Vec::new(),
            groups: Vec::new(),
            addresses: BTreeMap::new(),
            numbers: 0,
            records: Vec::new(),
        }
    }

    /// `records` records of a seed.
    pub(crate) fn of(seed: u64, records: usize) -> Script {
        let mut script = Script::new(seed);
        while script.records.len() < records {
            script.act();
        }
        script
    }

    /// An envelope that is grabbed by `shares` users, of whom some claim at once
    /// and some later.
    pub(crate) fn crowd(&mut self, shares: u32) -> EnvelopeId {
        let (sender, total) = (user(0), amount(u64::from(shares)));
        let envelope = EnvelopeId::from_bytes(id(1, self.number()));
        let deposited = self.moved(&sender, EntryKind::Deposit(None), total);
        let moved = self.moved(&sender, EntryKind::EnvelopeCreated(envelope), total);
        let created = made(envelope, sender, total, shares, self.now);
        self.record(vec![deposited, moved, Event::EnvelopeCreated(Box::new(created))]);
        let mut unclaimed = Vec::new();
        for share in 0..shares {
            let who = UserId::new(&format!("crowd{share}")).unwrap();
            let grabbed =
                Event::Grabbed(Grabbed { envelope, share, amount: amount(1), user: who.clone(), is_last: false });
            let claimed = Claimed { envelope, share, amount: amount(1), user: who.clone(), grabbed_at: self.now };
            if self.below(4) == 0 {
                let moved = self.moved(&who, EntryKind::Claim(envelope), amount(1));
                self.record(vec![grabbed, Event::Claimed(claimed), moved]);
            } else {
                self.record(vec![grabbed]);
                unclaimed.push(claimed);
            }
            self.now = self.now.plus_ms(self.below(2));
            if self.below(3) == 0 && !unclaimed.is_empty() {
                let claimed = unclaimed.swap_remove(self.below(unclaimed.len() as u64) as usize);
                let moved = self.moved(&claimed.user.clone(), EntryKind::Claim(envelope), amount(1));
                self.record(vec![Event::Claimed(claimed), moved]);
            }
        }
        envelope
    }

    /// The records in batches of random sizes.
    pub(crate) fn batches(&mut self) -> Vec<DurableBatch> {
        self.batches_of(7)
    }

    /// The records in batches of random sizes of up to `at_most` records.
    pub(crate) fn batches_of(&mut self, at_most: u64) -> Vec<DurableBatch> {
        let mut batches = Vec::new();
        let mut from = 0;
        while from < self.records.len() {
            let to = self.records.len().min(from + 1 + self.below(at_most) as usize);
            batches.push(DurableBatch::copied(Lsn(from as u64 + 1), self.records[from..to].iter().map(Vec::as_slice)));
            from = to;
        }
        batches
    }

    pub(crate) fn envelope_ids(&self) -> Vec<EnvelopeId> {
        self.envelopes.iter().map(|envelope| envelope.created.id).collect()
    }

    pub(crate) fn hold_ids(&self) -> Vec<HoldId> {
        self.holds.iter().map(|hold| hold.id).collect()
    }

    pub(crate) fn order_ids(&self) -> Vec<OrderId> {
        let order = |hold: &HoldView| match hold.state {
            HoldState::Claimed(order) => Some(order),
            _ => None,
        };
        self.holds.iter().filter_map(order).collect()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn record(&mut self, events: Vec<Event>) {
        let record = Record { at: self.now, events: events.into() };
        assert!(record.balances(), "{record:?}");
        let mut bytes = Vec::new();
        encode(record.at, &record.events, &mut bytes);
        self.records.push(bytes);
    }

    fn moved(&mut self, user: &UserId, kind: EntryKind, amount: Amount) -> Event {
        let mut moved = WalletMoved { user: user.clone(), kind, amount, available_after: Amount::ZERO };
        let balance = self.wallets.entry(user.clone()).or_default();
        *balance = if moved.is_credit() { *balance + amount } else { *balance - amount };
        moved.available_after = *balance;
        Event::WalletMoved(moved)
    }

    /// Money out of an envelope: into a wallet, or outside if its terms say so.
    fn gone(&mut self, of: &EnvelopeCreated, user: &UserId, kind: EntryKind, sum: Amount) -> Event {
        let outside = &of.terms.outside;
        let (payout_kind, is_outside) = match kind {
            EntryKind::Claim(_) => (PayoutKind::Win, outside.payout == PayoutTo::External),
            _ => (PayoutKind::Refund, outside.funding.is_some()),
        };
        if !is_outside {
            return self.moved(user, kind, sum);
        }
        let payout = PayoutId::from_bytes(id(8, self.number()));
        let made = PayoutMade { payout, kind: payout_kind, envelope: of.id, amount: sum, user: user.clone() };
        self.payouts.push(Payout {
            id: payout,
            kind: payout_kind,
            user: user.clone(),
            amount: sum,
            envelope: of.id,
            state: PayoutState::Due,
            attempts: 0,
            reference: None,
            reason: None,
            created_at: self.now,
            changed_at: self.now,
        });
        Event::PayoutMade(made)
    }

    fn tell_result(&mut self) {
        if self.payouts.is_empty() {
            return;
        }
        let at = self.below(self.payouts.len() as u64) as usize;
        let number = self.number();
        let payout = &mut self.payouts[at];
        let was = payout.state;
        let leads_to = PayoutState::ALL.into_iter().filter(|next| was.leads_to(*next)).collect::<Vec<_>>();
        if leads_to.is_empty() {
            return;
        }
        payout.state = leads_to[number as usize % leads_to.len()];
        payout.attempts += u32::from(was == PayoutState::Due);
        payout.reference = number.is_multiple_of(2).then(|| format!("bank-{number}"));
        payout.changed_at = self.now;
        let payout = payout.clone();
        self.record(vec![Event::PayoutChanged(Box::new(PayoutChanged { was, payout }))]);
    }

    fn act(&mut self) {
        // Time often stands still, so that lists have ties.
        let pause = [0, 0, 1, 50][self.below(4) as usize];
        self.now = self.now.plus_ms(pause);
        match self.below(33) {
            0..2 => self.deposit(),
            2 => self.withdraw(),
            3..5 => self.create(),
            5..10 => self.grab(),
            10..13 => self.claim(),
            13 => self.end(),
            14 => self.lapse_or_settle(),
            15 => self.sell(),
            16..18 => self.hold(),
            18 => self.end_hold(),
            19 => self.api_key(),
            20..22 => self.tell_result(),
            22 => self.give(),
            23..26 => self.change_gift(),
            26 => self.settle_sales(),
            27 => self.withdraw_sales(),
            29..33 => self.gather(),
            _ => {
                let by_ms = self.below(1000);
                // Nothing more is drawn for it: the same journals as ever, with relations in them.
                self.record(vec![Event::ClockAdvanced { by_ms }, Event::RelationsPut(relations(by_ms))]);
            }
        }
    }

    fn deposit(&mut self) {
        let (who, sum, reference) = (user(self.below(5)), amount(1 + self.below(10_000)), self.number());
        let kind = EntryKind::Deposit((sum.minor() % 2 == 0).then(|| format!("ref-{reference}")));
        let moved = self.moved(&who, kind, sum);
        let available = self.wallets[&who];
        let memo = Remembered {
            key: OnceKey::reference("app", "deposit", &reference.to_string()),
            fingerprint: [reference as u8; 16],
            answer: Outcome::Wallet(WalletView { user: who, available, held: Amount::ZERO }),
            expires_at: (reference % 3 > 0).then(|| self.now.plus_s(reference % 5)),
        };
        self.record(vec![moved, Event::Remembered(Box::new(memo))]);
    }

    fn withdraw(&mut self) {
        let who = user(self.below(5));
        let half = self.wallets.get(&who).map_or(0, |balance| balance.minor() / 2);
        if half > 0 {
            let moved = self.moved(&who, EntryKind::Withdrawal(None), amount(half));
            self.record(vec![moved]);
        }
    }

    fn create(&mut self) {
        let (sender, shares) = (user(self.below(5)), 1 + self.below(5) as u32);
        let each = 1 + self.below(50);
        let total = amount(each * u64::from(shares));
        let funding = (self.below(4) == 0).then(|| format!("order-{}", self.numbers));
        let payout = if self.below(3) == 0 { PayoutTo::External } else { PayoutTo::Wallet };
        if funding.is_none() && self.wallets.get(&sender).is_none_or(|&balance| balance < total) {
            return;
        }
        let envelope = EnvelopeId::from_bytes(id(1, self.number()));
        let mut events = Vec::new();
        if funding.is_none() {
            events.push(self.moved(&sender, EntryKind::EnvelopeCreated(envelope), total));
        }
        let auto_claim = self.below(3) == 0;
        let mut created = made(envelope, sender, total, shares, self.now);
        created.terms.auto_claim = auto_claim;
        created.terms.outside = Outside { funding, payout };
        created.payout_secret = [envelope.bytes()[0]; 32];
        self.envelopes.push(Envelope {
            created: created.clone(),
            taken: Vec::new(),
            ended: None,
            settled: false,
            refunded: Amount::ZERO,
        });
        let outside = created.terms.outside.clone();
        let deposited = if outside.funding.is_some() { total } else { Amount::ZERO };
        let payout_secret = created.payout_secret;
        events.push(Event::EnvelopeCreated(Box::new(created)));
        if outside != Outside::default() {
            let outside = EnvelopeOutside { envelope, outside, deposited, payout_secret };
            events.push(Event::EnvelopeOutside(Box::new(outside)));
        }
        self.record(events);
    }

    fn any_envelope(&mut self, fits: impl Fn(&Envelope) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.envelopes.len()).filter(|&i| fits(&self.envelopes[i])).collect();
        (!fitting.is_empty()).then(|| fitting[self.below(fitting.len() as u64) as usize])
    }

    fn grab(&mut self) {
        let who = user(self.below(8));
        let grabbable = |e: &Envelope| e.ended.is_none() && e.taken.iter().all(|(user, ..)| *user != who);
        let Some(i) = self.any_envelope(grabbable) else { return };
        let envelope = &mut self.envelopes[i];
        let (id, share) = (envelope.created.id, envelope.taken.len() as u32);
        let auto_claim = envelope.created.terms.auto_claim;
        envelope.taken.push((who.clone(), self.now, auto_claim));
        if envelope.taken.len() as u32 == envelope.created.terms.shares {
            envelope.ended = Some(EndedAs::SoldOut);
        }
        let (sum, of) = (envelope.share_amount(share), envelope.created.clone());
        let mut events =
            vec![Event::Grabbed(Grabbed { envelope: id, share, amount: sum, user: who.clone(), is_last: false })];
        if auto_claim {
            let claimed = Claimed { envelope: id, share, amount: sum, user: who.clone(), grabbed_at: self.now };
            events.push(Event::Claimed(claimed));
            events.push(self.gone(&of, &who, EntryKind::Claim(id), sum));
        }
        self.record(events);
    }

    fn claim(&mut self) {
        let Some(i) = self.any_envelope(|e| !e.settled && e.taken.iter().any(|taken| !taken.2)) else { return };
        let envelope = &mut self.envelopes[i];
        let share = envelope.taken.iter().position(|taken| !taken.2).unwrap();
        envelope.taken[share].2 = true;
        let (who, grabbed_at, _) = envelope.taken[share].clone();
        let (id, sum) = (envelope.created.id, envelope.share_amount(share as u32));
        let claimed = Claimed { envelope: id, share: share as u32, amount: sum, user: who.clone(), grabbed_at };
        let of = envelope.created.clone();
        let gone = self.gone(&of, &who, EntryKind::Claim(id), sum);
        self.record(vec![Event::Claimed(claimed), gone]);
    }

    fn end(&mut self) {
        let Some(i) = self.any_envelope(|e| e.ended.is_none()) else { return };
        let how = if self.below(2) == 0 { EndedAs::Expired } else { EndedAs::Cancelled };
        let envelope = &mut self.envelopes[i];
        envelope.ended = Some(how);
        let (id, refund, sender) = (envelope.created.id, envelope.unsold(), envelope.created.terms.sender.clone());
        envelope.refunded = refund;
        let of = envelope.created.clone();
        let gone = self.gone(&of, &sender, EntryKind::Refund(id), refund);
        self.record(vec![Event::EnvelopeEnded(EnvelopeEnded { envelope: id, how, refund }), gone]);
    }

    fn lapse_or_settle(&mut self) {
        let Some(i) = self.any_envelope(|e| e.ended.is_some() && !e.settled) else { return };
        let mut events = Vec::new();
        let envelope = &self.envelopes[i];
        let (id, lapsed, sender) = (envelope.created.id, envelope.open_amount(), envelope.created.terms.sender.clone());
        if !lapsed.is_zero() {
            events.push(Event::EnvelopeLapsed { envelope: id, amount: lapsed });
            let of = envelope.created.clone();
            events.push(self.gone(&of, &sender, EntryKind::Lapse(id), lapsed));
        }
        let envelope = &mut self.envelopes[i];
        envelope.refunded += lapsed;
        envelope.settled = true;
        events.push(Event::EnvelopeSettled(EnvelopeSettled {
            envelope: id,
            how: envelope.ended.unwrap(),
            taken: envelope.taken.len() as u32,
            claimed: envelope.claimed_amount(),
            refunded: envelope.refunded,
        }));
        self.record(events);
    }

    fn sell(&mut self) {
        let merchant = user(20 + self.below(2));
        let known = Merchant {
            id: merchant.clone(),
            name: "玫瑰".to_owned(),
            status: MerchantStatus::Verified,
            verification: None,
            terms: SaleTerms::default(),
        };
        let kind = if self.below(2) == 0 { ItemKind::Code } else { ItemKind::Physical };
        let units = 1 + self.below(20) as u32;
        let terms = NewItem {
            merchant,
            name: "99 roses".to_owned(),
            category: "flowers".to_owned(),
            price: amount(1 + self.below(20)),
            stock: if kind == ItemKind::Code { 0 } else { units },
            per_user_limit: None,
            starts_at: None,
            ends_at: None,
            hold_ttl_s: 900,
            image_url: None,
            origin: ItemOrigin { kind, ..ItemOrigin::default() },
            group_buy: None,
        };
        let put =
            ItemPut { id: ItemId::from_bytes(id(2, self.number())), created_at: self.now, stock_total: units, terms };
        self.items.push(Item { put: put.clone(), units: BTreeMap::new(), gone: 0 });
        let codes = (0..units).map(|place| Code::new(format!("code-{place}"))).collect();
        let added = CodesAdded { item: put.id, first: 0, codes };
        let mut events = vec![Event::MerchantPut(Box::new(known)), Event::ItemPut(Box::new(put))];
        events.extend((kind == ItemKind::Code).then(|| Event::CodesAdded(Box::new(added))));
        self.record(events);
    }

    fn api_key(&mut self) {
        if self.below(3) == 0
            && let Some(key) = self.api_keys.iter_mut().find(|key| key.deleted_at.is_none())
        {
            key.deleted_at = Some(self.now);
            let deleted = key.clone();
            return self.record(vec![Event::ApiKeyPut(Box::new(deleted))]);
        }
        let number = self.number();
        let key = ApiKey {
            id: ApiKeyId::from_bytes(id(9, number)),
            name: "shop".to_owned(),
            owner: user(self.below(5)),
            roles: vec![Role::Issuer, Role::Merchant(user(20))],
            digest: std::array::from_fn(|at| number.to_le_bytes()[at % 8]),
            created_at: self.now,
            deleted_at: None,
        };
        self.api_keys.push(key.clone());
        self.record(vec![Event::ApiKeyPut(Box::new(key))]);
    }

    fn hold(&mut self) {
        if self.items.is_empty() {
            return;
        }
        let (who, quantity) = (user(self.below(5)), 1 + self.below(2) as u32);
        let i = self.below(self.items.len() as u64) as usize;
        let number = self.number();
        let item = &mut self.items[i];
        let used: u32 = item.units.values().map(|units| units.held + units.sold).sum();
        if used + quantity > item.put.stock_total {
            return;
        }
        let units = item.units.entry(who.clone()).or_default();
        units.held += quantity;
        let mut bytes = id(3, number);
        bytes[..2].copy_from_slice(&item.put.id.bytes()[..2]);
        let held = Held {
            hold: HoldId::from_bytes(bytes),
            item: item.put.id,
            user: who.clone(),
            quantity,
            amount: item.put.terms.price.checked_mul(quantity.into()).unwrap(),
            expires_at: self.now.plus_s(900),
            units_after: *units,
        };
        self.holds.push(HoldView {
            id: held.hold,
            item: held.item,
            user: who,
            quantity,
            amount: held.amount,
            state: HoldState::Held,
            created_at: self.now,
            expires_at: held.expires_at,
        });
        self.record(vec![Event::Held(held)]);
    }

    fn give(&mut self) {
        if self.items.is_empty() {
            return;
        }
        let (giver, number) = (user(self.below(5)), self.number());
        let item = self.below(self.items.len() as u64) as usize;
        let put = &self.items[item].put;
        let used: u32 = self.items[item].units.values().map(|units| units.held + units.sold).sum();
        if used == put.stock_total {
            return;
        }
        let mut bytes = id(5, number);
        bytes[..2].copy_from_slice(&put.id.bytes()[..2]);
        let gift = Gift {
            id: GiftId::from_bytes(bytes),
            owner: "app".to_owned(),
            state: GiftState::AwaitingPayment,
            recipient: number.is_multiple_of(3).then(|| user(6)),
            payer: user(number % 5),
            item: put.id,
            merchant: put.terms.merchant.clone(),
            amount: put.terms.price,
            message: "恭喜发财".to_owned(),
            token: None,
            created_at: self.now,
            pay_by: Some(self.now.plus_s(900)),
            paid_at: None,
            accept_within_s: 900,
            accept_by: None,
            accepted_at: None,
            ship_within_s: 900,
            ship_by: None,
            shipped_at: None,
            carrier: None,
            tracking: None,
            ended_at: None,
            reason: None,
            note: None,
            reference: None,
            metadata: "{}".to_owned(),
            redacted: None,
            giver,
        };
        self.gifts.push(gift.clone());
        self.gift_becomes(None, gift);
    }

    /// A group of two or three is opened, joined or left, or comes to nothing.
    fn gather(&mut self) {
        let open: Vec<usize> = (0..self.groups.len()).filter(|&at| self.groups[at].state == GroupState::Open).collect();
        let choice = self.below(8);
        if open.is_empty() || choice == 0 {
            return self.open_group();
        }
        let at = open[self.below(open.len() as u64) as usize];
        let mut group = self.groups[at].clone();
        match choice {
            1 | 2 => {
                let how = if choice == 1 { GroupState::Expired } else { GroupState::LeaderLeft };
                (group.state, group.ended_at) = (how, Some(self.now));
                let back = group.members.clone();
                self.group_becomes(at, GroupMove::Ended, group, &back, -1);
            }
            3 if group.members.len() > 1 => {
                let member = group.members.remove(1);
                let back = [member.clone()];
                self.group_becomes(at, GroupMove::Left(member), group, &back, -1);
            }
            _ => self.join_group(at, group),
        }
    }

    fn open_group(&mut self) {
        if self.items.is_empty() {
            return;
        }
        let (item, number) = (self.below(self.items.len() as u64) as usize, self.number());
        let put = &self.items[item].put;
        let mut bytes = id(6, number);
        bytes[..2].copy_from_slice(&put.id.bytes()[..2]);
        let group = Group {
            id: GroupId::from_bytes(bytes),
            owner: "app".to_owned(),
            state: GroupState::Open,
            item: put.id,
            merchant: put.terms.merchant.clone(),
            size: 2 + (number % 2) as u32,
            price: put.terms.price,
            leader: user(number % 5),
            members: Vec::new(),
            created_at: self.now,
            expires_at: self.now.plus_s(900),
            ended_at: None,
            reference: None,
        };
        // It is there once its leader has joined.
        let at = self.groups.len();
        self.groups.push(group.clone());
        let leader = group.leader.clone();
        if !self.take_in(at, group, leader) {
            self.groups.pop();
        }
    }

    fn join_group(&mut self, at: usize, group: Group) {
        let who = user(self.below(5));
        if group.member(&who).is_none() {
            self.take_in(at, group, who);
        }
    }

    /// Says whether there was a unit, and the money for it.
    fn take_in(&mut self, at: usize, mut group: Group, who: UserId) -> bool {
        let item = self.items.iter().find(|item| item.put.id == group.item).unwrap();
        let used: u32 = item.units.values().map(|units| units.held + units.sold).sum();
        let can_pay = self.wallets.get(&who).is_some_and(|&has| has >= group.price);
        if used == item.put.stock_total || !can_pay {
            return false;
        }
        let mut bytes = id(7, self.number());
        bytes[..2].copy_from_slice(&group.item.bytes()[..2]);
        let member = Member { user: who, joined_at: self.now, order: OrderId::from_bytes(bytes) };
        group.members.push(member.clone());
        if group.members.len() == group.size as usize {
            (group.state, group.ended_at) = (GroupState::Full, Some(self.now));
        }
        self.group_becomes(at, GroupMove::Joined, group, &[member], 1);
        true
    }

    fn group_becomes(&mut self, at: usize, step: GroupMove, group: Group, moved: &[Member], by: i32) {
        let (mut events, mut units_after) = (Vec::new(), Vec::new());
        for member in moved {
            let kind = if by > 0 { EntryKind::GroupPaid(group.id) } else { EntryKind::GroupRefund(group.id) };
            events.push(self.moved(&member.user, kind, group.price));
            let item = self.items.iter_mut().find(|item| item.put.id == group.item).unwrap();
            let units = item.units.entry(member.user.clone()).or_default();
            units.held = units.held.checked_add_signed(by).unwrap();
            units_after.push(*units);
        }
        self.groups[at] = group.clone();
        let is_full = group.state == GroupState::Full;
        events.push(Event::GroupChanged(Box::new(GroupChanged { step, group: group.clone(), units_after })));
        for member in group.members.iter().filter(|_| is_full) {
            let order = OrderView {
                id: member.order,
                hold: HoldId::from_bytes(*member.order.bytes()),
                item: group.item,
                merchant: group.merchant.clone(),
                user: member.user.clone(),
                quantity: 1,
                amount: group.price,
                created_at: self.now,
                progress: OrderProgress::default(),
            };
            let (owed_after, sold) = self.sold(&group.merchant, SaleOf::Order(order.id), group.price);
            let item = self.items.iter_mut().find(|item| item.put.id == group.item).unwrap();
            let units = item.units.get_mut(&member.user).unwrap();
            (units.held, units.sold) = (units.held - 1, units.sold + 1);
            let units_after = *units;
            let handed = item.hand(1, HandedTo::Order(order.id));
            let ordered = GroupOrdered { group: group.id, order, units_after, owed_after };
            events.push(Event::GroupOrdered(Box::new(ordered)));
            events.extend(sold);
            events.extend(handed);
        }
        self.record(events);
    }

    fn change_gift(&mut self) {
        use GiftState::*;
        let live: Vec<usize> = (0..self.gifts.len()).filter(|&at| !self.gifts[at].state.has_ended()).collect();
        if live.is_empty() {
            return;
        }
        let at = live[self.below(live.len() as u64) as usize];
        let was = self.gifts[at].state;
        let can_pay = self.wallets.get(&self.gifts[at].payer).is_some_and(|&has| has >= self.gifts[at].amount);
        let leads_to: &[GiftState] = match was {
            AwaitingPayment if can_pay => &[Offered, Offered, Offered, Expired, Cancelled],
            AwaitingPayment => &[Expired],
            Offered => &[Accepted, Accepted, Declined, Expired, Cancelled],
            Accepted => &[Shipped, Failed],
            _ => &[Delivered],
        };
        let state = leads_to[self.below(leads_to.len() as u64) as usize];
        let item = self.items.iter().find(|item| item.put.id == self.gifts[at].item).unwrap();
        let is_code = item.put.terms.origin.kind == ItemKind::Code;
        let state = if is_code && state == Accepted { Delivered } else { state };
        let now = Some(self.now);
        let gift = &mut self.gifts[at];
        gift.state = state;
        match state {
            Delivered if is_code => {
                (gift.accepted_at, gift.ended_at) = (now, now);
                gift.recipient.get_or_insert_with(|| user(7));
            }
            Offered => (gift.paid_at, gift.accept_by) = (now, Some(self.now.plus_s(900))),
            Accepted => {
                (gift.accepted_at, gift.ship_by) = (now, Some(self.now.plus_s(900)));
                gift.recipient.get_or_insert_with(|| user(7));
            }
            Shipped => (gift.shipped_at, gift.tracking) = (now, Some("SF1".to_owned())),
            _ => gift.ended_at = now,
        }
        let gift = gift.clone();
        self.gift_becomes(Some(was), gift);
    }

    /// Where the unit and the money are follows from the state alone.
    fn gift_becomes(&mut self, was: Option<GiftState>, gift: Gift) {
        use GiftState::*;
        let held = |state| matches!(state, Some(AwaitingPayment | Offered));
        let sold = |state| matches!(state, Some(Accepted | Shipped | Delivered));
        let own = |state| matches!(state, Some(Offered | Accepted));
        let is = Some(gift.state);
        let item = self.items.iter_mut().find(|item| item.put.id == gift.item).unwrap();
        let units = item.units.entry(gift.giver.clone()).or_default();
        units.held = units.held + u32::from(held(is)) - u32::from(held(was));
        units.sold = units.sold + u32::from(sold(is)) - u32::from(sold(was));
        let units_after = *units;
        let is_sold = sold(is) && !sold(was);
        let handed = is_sold.then(|| item.hand(1, HandedTo::Gift(gift.id))).flatten();
        let mut events = Vec::new();
        let (mut owed_after, mut sold) = (None, None);
        let payer = gift.payer.clone();
        match (own(was), own(is), gift.state) {
            (false, true, _) => events.push(self.moved(&payer, EntryKind::GiftPaid(gift.id), gift.amount)),
            (true, false, Shipped | Delivered) => {
                let (owed, event) = self.sold(&gift.merchant, SaleOf::Gift(gift.id), gift.amount);
                (owed_after, sold) = (Some(owed), event);
            }
            (true, false, _) => events.push(self.moved(&payer, EntryKind::GiftRefund(gift.id), gift.amount)),
            _ => {}
        }
        let address = self.address_of(&gift);
        events.push(Event::GiftChanged(Box::new(GiftChanged { was, gift, units_after, owed_after, redacts: false })));
        events.extend(sold);
        events.extend(address);
        events.extend(handed);
        self.record(events);
    }

    /// What follows for the address that every other gift has.
    fn address_of(&mut self, gift: &Gift) -> Option<Event> {
        use GiftState::*;
        let id = gift.id;
        let put = |mark, sealed| Some(Event::AddressPut(Box::new(AddressPut { gift: id, mark, sealed })));
        match (self.addresses.get(&id).copied(), gift.state) {
            (None, Accepted) if id.bytes()[7].is_multiple_of(2) || self.addresses.is_empty() => {
                let slot = Some(self.number() as u32);
                let mark = AddressMark { version: 1, slot, erase_at: None, keep: AddressKeep::default() };
                self.addresses.insert(id, mark);
                put(mark, Some(vec![7; 272]))
            }
            (Some(mark), Shipped) => {
                let mark = AddressMark { erase_at: Some(self.now.plus_s(mark.keep.shipped_s)), ..mark };
                self.addresses.insert(id, mark);
                put(mark, None)
            }
            (Some(_), Failed) => {
                self.addresses.remove(&id);
                Some(Event::AddressErased(AddressErased { gift: id, kept: None }))
            }
            _ => None,
        }
    }

    fn end_hold(&mut self) {
        let Some(h) = self.holds.iter().position(|hold| hold.state == HoldState::Held) else { return };
        let mut hold = self.holds[h].clone();
        let can_pay = self.wallets.get(&hold.user).is_some_and(|&balance| balance >= hold.amount);
        let number = self.number();
        let i = self.items.iter().position(|item| item.put.id == hold.item).unwrap();
        let units = self.items[i].units.get_mut(&hold.user).unwrap();
        units.held -= hold.quantity;
        let mut events = Vec::new();
        let (mut merchant, mut sold) = (None, None);
        if can_pay {
            units.sold += hold.quantity;
            let mut bytes = id(4, number);
            bytes[..2].copy_from_slice(&hold.item.bytes()[..2]);
            let order = OrderId::from_bytes(bytes);
            hold.state = HoldState::Claimed(order);
            let seller = self.items[i].put.terms.merchant.clone();
            let (owed, event) = self.sold(&seller, SaleOf::Order(order), hold.amount);
            (merchant, sold) = (Some((seller, owed)), event);
            let who = hold.user.clone();
            events.push(self.moved(&who, EntryKind::Order(order), hold.amount));
        } else {
            hold.state = if self.below(2) == 0 { HoldState::Released } else { HoldState::Expired };
        }
        let units_after = self.items[i].units[&hold.user];
        self.holds[h] = hold.clone();
        let handed = match hold.state {
            HoldState::Claimed(order) => self.items[i].hand(hold.quantity, HandedTo::Order(order)),
            _ => None,
        };
        events.push(Event::HoldEnded(Box::new(HoldEnded { hold, units_after, merchant })));
        events.extend(sold);
        events.extend(handed);
        self.record(events);
    }

    /// What a sale makes of what its merchant is owed. The first records are of a version that
    /// knew of nothing pending.
    fn sold(&mut self, merchant: &UserId, of: SaleOf, price: Amount) -> (Amount, Option<Event>) {
        let is_older = self.records.len() < 60;
        let (commission, due) = (amount(price.minor() / 3), self.now.plus_s(60 * (1 + self.below(3))));
        let seller = self.sellers.entry(merchant.clone()).or_default();
        if is_older && seller.slots.is_empty() {
            seller.available += price;
            return (seller.balance().total(), None);
        }
        let slot = seller.slots.entry(due).or_default();
        (slot.amount, slot.commission) = (slot.amount + price, slot.commission + commission);
        let kind = MerchantMove::Sold { of, commission, due, slot_after: *slot };
        (seller.balance().total(), Some(seller.moved(merchant, kind, price)))
    }

    fn settle_sales(&mut self) {
        let mut events = Vec::new();
        for (merchant, seller) in &mut self.sellers {
            if let Some((due, Slot { amount, commission })) = seller.slots.pop_first() {
                seller.available += amount - commission;
                events.push(seller.moved(merchant, MerchantMove::Settled { due, commission }, amount));
            }
        }
        if !events.is_empty() {
            self.record(events);
        }
    }

    fn withdraw_sales(&mut self) {
        // Before all the first records' there are no entries.
        if self.records.len() < 60 {
            return;
        }
        let rich = self.sellers.iter_mut().find(|(_, seller)| seller.available > amount(1));
        if let Some((merchant, seller)) = rich {
            let half = amount(seller.available.minor() / 2);
            seller.available -= half;
            let event = seller.moved(merchant, MerchantMove::Withdrawn(Some("bank-1".to_owned())), half);
            self.record(vec![event]);
        }
    }
}

/// Up to three relations of few users, the same for the same number.
fn relations(number: u64) -> Vec<RelationRow> {
    let row = |nth: u64| {
        let number = number / (nth + 1);
        let (one, other) = (number % 5, number / 5 % 4);
        let other = if other >= one { other + 1 } else { other };
        let relation = Relation::ALL[(number / 20 % 3) as usize];
        RelationRow { user: user(one), other: user(other), relation }
    };
    (0..number % 4).map(row).collect()
}
