//! A backend that keeps wallets and idempotency keys in a map and answers the
//! rest as it is told, so that a test is about the server and nothing else.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use hongbao_engine::EngineError;
use hongbao_engine::address::AddressRead;
use hongbao_engine::api_key::{ApiKey, NewApiKey};
use hongbao_engine::backend::*;
use hongbao_engine::code::{Code, HandedTo};
use hongbao_engine::command::*;
use hongbao_engine::feed::*;
use hongbao_engine::gift::{Gift, GiftRole, GiftState, GiftToken};
use hongbao_engine::gift_envelope::GiftEnvelopeView;
use hongbao_engine::group::{Group, GroupState, GroupsOf, Member};
use hongbao_engine::notes::*;
use hongbao_engine::order::OrderProgress;
use hongbao_engine::payment::{Payment, PaymentFilter, PaymentFor, PaymentState};
use hongbao_engine::payout::*;
use hongbao_engine::relation::{Relation, RelationRow, RelationSide};
use hongbao_engine::sale::{
    MerchantBalance, MerchantEntry, MerchantEntryKind, SaleOf, SaleTerms, Statement, StatementTime,
};
use hongbao_engine::types::*;
use hongbao_server::app::{Server, Setup, Shared, app};
use hongbao_server::caps::Caps;
use hongbao_server::payments::PaymentOptions;
use hongbao_server::relations::MayGive;
use hongbao_server::webhooks::WebhookOptions;
use http_body_util::BodyExt;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Semaphore;
use tower::ServiceExt;

pub const KEY: &str = "hb_test_0123456789";
pub const NOW: Timestamp = Timestamp::from_ms(1_801_900_800_123);
pub const NOW_TEXT: &str = "2027-02-06T08:00:00.123Z";

#[derive(Default)]
pub struct Inner {
    pub wallets: HashMap<UserId, u64>,
    pub commands: Vec<Command>,
    pub scripted: VecDeque<Result<Outcome>>,
    pub remembered: HashMap<OnceKey, (Command, Outcome)>,
    pub items: HashMap<ItemId, ItemView>,
    pub envelopes: HashMap<EnvelopeId, EnvelopeView>,
    pub orders: HashMap<OrderId, OrderView>,
    pub payouts: HashMap<PayoutId, PayoutView>,
    pub payments: HashMap<PaymentId, Payment>,
    pub payment_filters: Vec<PaymentFilter>,
    pub gifts: HashMap<GiftId, Gift>,
    pub groups: HashMap<GroupId, Group>,
    pub addresses: HashMap<GiftId, AddressRead>,
    pub codes: HashMap<HandedTo, Vec<Code>>,
    pub relations: Vec<RelationRow>,
    pub gift_envelopes: Vec<GiftEnvelopeView>,
    pub payout_filters: Vec<PayoutFilter>,
    pub keys: Vec<ApiKey>,
    pub keys_version: u64,
    pub pages: Vec<Page>,
    pub filters: Vec<EnvelopeFilter>,
    pub events: Vec<FeedEvent>,
    pub asked_events: Vec<EventQuery>,
    pub not_ready: Option<String>,
    pub notes: BTreeMap<(Shelf, String), Note>,
}

/// Answers what is scripted, else deposits and withdraws, makes and deletes keys,
/// gives, else `SoldOut`.
pub struct Fake {
    pub inner: Mutex<Inner>,
    /// Each command takes one of these for good, so that a test can hold them up.
    pub turns: Semaphore,
}

impl Default for Fake {
    fn default() -> Fake {
        Fake { inner: Mutex::default(), turns: Semaphore::new(1 << 20) }
    }
}

impl Fake {
    pub fn script(&self, answers: impl IntoIterator<Item = Result<Outcome>>) {
        self.inner.lock().unwrap().scripted.extend(answers);
    }

    pub fn commands(&self) -> Vec<Command> {
        self.inner.lock().unwrap().commands.clone()
    }

    pub fn keys(&self) -> Vec<ApiKey> {
        self.inner.lock().unwrap().keys.clone()
    }

    fn decide(&self, command: Command, once: Option<OnceKey>) -> Result<Reply> {
        let mut inner = self.inner.lock().unwrap();
        if let Some((first, outcome)) = once.and_then(|once| inner.remembered.get(&once).cloned()) {
            // Of a key, only what is asked counts, and not what was drawn for it.
            let asked = |command: &Command| format!("{:?}", without_digest(command));
            let same = asked(&first) == asked(&command);
            let outcome = if same { outcome } else { Outcome::Refused(Refusal::IdempotencyMismatch) };
            return Ok(Reply { outcome, replayed: same });
        }
        inner.commands.push(command.clone());
        let outcome = match inner.scripted.pop_front() {
            Some(answer) => answer?,
            None => {
                let moved = inner.move_money(&command);
                let done = moved.or_else(|| inner.change_keys(&command)).or_else(|| inner.tell_results(&command));
                let is_gift =
                    matches!(command, Command::CreateGift(_) | Command::StepGift { .. } | Command::RedactGift { .. });
                let gift = is_gift.then(|| Outcome::Gift(Box::new(a_gift(1))));
                let is_order = matches!(command, Command::StepOrder { .. });
                let gift = gift.or(is_order.then(|| Outcome::Order(Box::new(OrderNow::new(an_order(1))))));
                let relations = inner.put_relations(&command);
                let is_group = matches!(command, Command::OpenGroup(_) | Command::LeaveGroup { .. });
                let gift = gift.or(is_group.then(|| Outcome::Group(Box::new(a_group(1)))));
                done.or(gift).or(relations).unwrap_or(Outcome::SoldOut)
            }
        };
        if let (Some(once), false) = (once, matches!(outcome, Outcome::Refused(_))) {
            inner.remembered.insert(once, (command, outcome.clone()));
        }
        Ok(Reply { outcome, replayed: false })
    }
}

fn without_digest(command: &Command) -> Command {
    match command {
        Command::CreateApiKey(new) => Command::CreateApiKey(Box::new(NewApiKey { digest: [0; 32], ..(**new).clone() })),
        command => command.clone(),
    }
}

impl Inner {
    fn change_keys(&mut self, command: &Command) -> Option<Outcome> {
        let key = match command {
            Command::CreateApiKey(new) => {
                let NewApiKey { name, owner, roles, digest } = (**new).clone();
                let id = ApiKeyId::from_bytes([self.keys.len() as u8 + 1; 16]);
                self.keys.push(ApiKey { id, name, owner, roles, digest, created_at: NOW, deleted_at: None });
                self.keys.last_mut()
            }
            Command::DeleteApiKey { key } => {
                let mut found = self.keys.iter_mut().find(|it| it.id == *key);
                if let Some(found) = &mut found {
                    found.deleted_at = Some(NOW);
                }
                found
            }
            _ => return None,
        };
        self.keys_version += 1;
        Some(key.map_or(Outcome::Refused(Refusal::NotFound), |key| Outcome::ApiKey(Box::new(key.clone()))))
    }

    fn put_relations(&mut self, command: &Command) -> Option<Outcome> {
        let Command::PutRelations(rows) = command else { return None };
        for row in rows {
            self.relations.retain(|known| (&known.user, &known.other) != (&row.user, &row.other));
            self.relations.extend((row.relation != Relation::None).then(|| row.clone()));
        }
        Some(Outcome::Relations(rows.len() as u32))
    }

    fn tell_results(&mut self, command: &Command) -> Option<Outcome> {
        let Command::PayoutResults(results) = command else { return None };
        let answers = results.iter().map(|result| match self.payouts.get(&result.payout) {
            None => PayoutAnswer::NotFound,
            Some(view) if view.payout.state == PayoutState::Paid => PayoutAnswer::WrongState(PayoutState::Paid),
            Some(_) => PayoutAnswer::Stands(result.state),
        });
        Some(Outcome::Payouts(answers.collect()))
    }

    fn move_money(&mut self, command: &Command) -> Option<Outcome> {
        let (user, balance) = match command {
            Command::Deposit(transfer) => {
                let before = self.wallets.get(&transfer.user).copied().unwrap_or(0);
                (&transfer.user, before + transfer.amount.minor())
            }
            Command::Withdraw(transfer) => {
                let before = self.wallets.get(&transfer.user).copied().unwrap_or(0);
                let Some(after) = before.checked_sub(transfer.amount.minor()) else {
                    return Some(Outcome::Refused(Refusal::InsufficientFunds));
                };
                (&transfer.user, after)
            }
            _ => return None,
        };
        self.wallets.insert(user.clone(), balance);
        Some(Outcome::Wallet(wallet(user, balance)))
    }
}

fn wallet(user: &UserId, balance: u64) -> WalletView {
    WalletView { user: user.clone(), available: Amount::new(balance).unwrap(), held: Amount::ZERO }
}

fn none<T>() -> Listing<T> {
    Listing { rows: Vec::new(), next: Some(vec![0, 255, 16]) }
}

impl Notes for Fake {
    async fn notes(&self, shelf: Shelf) -> Result<Vec<Note>> {
        let inner = self.inner.lock().unwrap();
        Ok(inner.notes.iter().filter(|((on, _), _)| *on == shelf).map(|(_, note)| note.clone()).collect())
    }
    async fn note(&self, shelf: Shelf, name: &str) -> Result<Option<Note>> {
        Ok(self.inner.lock().unwrap().notes.get(&(shelf, name.to_owned())).cloned())
    }
    fn id_under(&self, key: OnceKey) -> [u8; 16] {
        *key.bytes()
    }
    async fn put_note(
        &self,
        shelf: Shelf,
        name: &str,
        was: Option<Version>,
        bytes: Option<&[u8]>,
    ) -> Result<Option<Version>> {
        let notes = &mut self.inner.lock().unwrap().notes;
        let place = (shelf, name.to_owned());
        if notes.get(&place).map(|note| note.version) != was {
            return Ok(None);
        }
        let version = Version::drawn();
        match bytes {
            Some(bytes) => notes.insert(place, Note { name: name.to_owned(), version, bytes: bytes.to_vec() }),
            None => notes.remove(&place),
        };
        Ok(Some(version))
    }
}

impl Backend for Fake {
    async fn execute(&self, command: Command, once: Option<OnceKey>) -> Result<Reply> {
        self.turns.acquire().await.unwrap().forget();
        self.decide(command, once)
    }
    async fn execute_all(&self, commands: Vec<Command>) -> Vec<Result<Reply>> {
        commands.into_iter().map(|command| self.decide(command, None)).collect()
    }
    async fn wallet(&self, user: &UserId) -> Result<WalletView> {
        Ok(wallet(user, self.inner.lock().unwrap().wallets.get(user).copied().unwrap_or(0)))
    }
    async fn entries(&self, _: &UserId, page: &Page) -> Result<Listing<Entry>> {
        self.inner.lock().unwrap().pages.push(page.clone());
        let entry =
            |kind| Entry { at: NOW, kind, amount: Amount::new(7).unwrap(), balance_after: Amount::new(9).unwrap() };
        let kinds = [
            EntryKind::Deposit(Some("alipay:1".into())),
            EntryKind::Withdrawal(None),
            EntryKind::EnvelopeCreated(envelope_id(1)),
            EntryKind::Claim(envelope_id(1)),
            EntryKind::Refund(envelope_id(1)),
            EntryKind::Lapse(envelope_id(1)),
            EntryKind::Order(OrderId::from_bytes([1; 16])),
            EntryKind::GiftPaid(gift_id(1)),
            EntryKind::GiftRefund(gift_id(1)),
            EntryKind::OrderRefund(OrderId::from_bytes([1; 16])),
            EntryKind::GroupPaid(group_id(1)),
            EntryKind::GroupRefund(group_id(1)),
        ];
        Ok(Listing { rows: kinds.map(entry).into(), next: None })
    }
    async fn envelope(&self, id: EnvelopeId) -> Result<Option<EnvelopeView>> {
        Ok(self.inner.lock().unwrap().envelopes.get(&id).cloned())
    }
    async fn envelopes(&self, filter: &EnvelopeFilter, page: &Page) -> Result<Listing<EnvelopeView>> {
        let mut inner = self.inner.lock().unwrap();
        inner.pages.push(page.clone());
        inner.filters.push(filter.clone());
        if page.cursor.as_deref() == Some(b"bad") {
            return Err(EngineError::Cursor);
        }
        Ok(Listing { rows: inner.envelopes.values().cloned().collect(), next: Some(vec![0, 255, 16]) })
    }
    async fn grabs(&self, envelope: EnvelopeId, _: &Page) -> Result<Option<Listing<GrabRow>>> {
        let known = self.inner.lock().unwrap().envelopes.contains_key(&envelope);
        Ok(known.then(|| Listing { rows: vec![grab_row()], next: None }))
    }
    async fn grab_of(&self, envelope: EnvelopeId, user: &UserId) -> Result<Option<GrabRow>> {
        let known = self.inner.lock().unwrap().envelopes.contains_key(&envelope);
        Ok((known && user.as_str() == "bob").then(grab_row))
    }
    async fn sent(&self, _: &UserId, _: &Page) -> Result<Listing<EnvelopeView>> {
        Ok(none())
    }
    async fn received(&self, _: &UserId, _: &Page) -> Result<Listing<ReceivedRow>> {
        let row = ReceivedRow { envelope: envelope_id(1), sender: UserId::new("alice").unwrap(), grab: grab_row() };
        Ok(Listing { rows: vec![row], next: None })
    }
    async fn merchant(&self, id: &UserId) -> Result<Option<Merchant>> {
        let (name, status, verification) = ("Rosy".to_owned(), MerchantStatus::Pending, None);
        Ok(Some(Merchant { id: id.clone(), name, status, verification, terms: SaleTerms::default() }))
    }
    async fn merchant_balance(&self, _: &UserId) -> Result<Option<MerchantBalance>> {
        Ok(Some(sales(900, 100)))
    }
    async fn statement(&self, _: &UserId, time: StatementTime, page: &Page) -> Result<Option<Statement>> {
        self.inner.lock().unwrap().pages.push(page.clone());
        let (order, due) = (SaleOf::Order(OrderId::from_bytes([1; 16])), NOW.plus_s(60));
        let gift = SaleOf::Gift(gift_id(1));
        let kinds = [
            MerchantEntryKind::Sale { of: order, commission: Amount::new(1).unwrap(), due },
            MerchantEntryKind::Sale { of: gift, commission: Amount::ZERO, due },
            MerchantEntryKind::Commission { due },
            MerchantEntryKind::Settled { due },
            MerchantEntryKind::Refund { of: order, commission: Amount::ZERO, pending_until: Some(due) },
            MerchantEntryKind::Refund { of: gift, commission: Amount::ZERO, pending_until: None },
            MerchantEntryKind::Withdrawal(Some("bank:7".into())),
            MerchantEntryKind::Withdrawal(None),
        ];
        let (at, amount) = (time.from.unwrap_or(NOW), Amount::new(7).unwrap());
        let rows = kinds.map(|kind| MerchantEntry { at, kind, amount, balance_after: sales(9, 1) }).into();
        let entries = Listing { rows, next: Some(vec![7]) };
        Ok(Some(Statement { opening: sales(2, 1), entries, closing: sales(9, 1) }))
    }
    async fn merchants(&self, _: Option<MerchantStatus>, _: &Page) -> Result<Listing<Merchant>> {
        Ok(none())
    }
    async fn item(&self, id: ItemId) -> Result<Option<ItemView>> {
        Ok(self.inner.lock().unwrap().items.get(&id).cloned())
    }
    async fn items(&self, _: &ItemFilter, _: &Page) -> Result<Listing<ItemView>> {
        Ok(Listing { rows: self.inner.lock().unwrap().items.values().cloned().collect(), next: None })
    }
    async fn hold(&self, id: HoldId) -> Result<Option<HoldView>> {
        Ok((id == HoldId::from_bytes([1; 16])).then(|| HoldView {
            id,
            item: item_id(1),
            user: UserId::new("bob").unwrap(),
            quantity: 2,
            amount: Amount::new(200).unwrap(),
            state: HoldState::Claimed(OrderId::from_bytes([2; 16])),
            created_at: NOW,
            expires_at: NOW.plus_s(900),
        }))
    }
    async fn order(&self, id: OrderId) -> Result<Option<OrderView>> {
        Ok(self.inner.lock().unwrap().orders.get(&id).cloned())
    }
    async fn codes(&self, to: HandedTo) -> Result<Vec<Code>> {
        Ok(self.inner.lock().unwrap().codes.get(&to).cloned().unwrap_or_default())
    }
    async fn gift(&self, id: GiftId) -> Result<Option<Gift>> {
        Ok(self.inner.lock().unwrap().gifts.get(&id).cloned())
    }
    async fn group(&self, id: GroupId) -> Result<Option<Group>> {
        Ok(self.inner.lock().unwrap().groups.get(&id).cloned())
    }
    async fn groups(&self, of: &GroupsOf, page: &Page) -> Result<Listing<Group>> {
        let mut inner = self.inner.lock().unwrap();
        inner.pages.push(page.clone());
        let is_wanted = |group: &&Group| match of {
            GroupsOf::User(user) => group.member(user).is_some(),
            GroupsOf::Item(item, state) => group.item == *item && state.is_none_or(|state| state == group.state),
        };
        Ok(Listing { rows: inner.groups.values().filter(is_wanted).cloned().collect(), next: None })
    }
    async fn address(&self, gift: GiftId) -> Result<AddressRead> {
        Ok(self.inner.lock().unwrap().addresses.get(&gift).cloned().unwrap_or(AddressRead::None))
    }
    async fn gifts(&self, user: &UserId, role: GiftRole, page: &Page) -> Result<Listing<Gift>> {
        let mut inner = self.inner.lock().unwrap();
        inner.pages.push(page.clone());
        let mine = |gift: &&Gift| match role {
            GiftRole::Given => gift.giver == *user,
            GiftRole::Received => gift.recipient.as_ref() == Some(user),
        };
        Ok(Listing { rows: inner.gifts.values().filter(mine).cloned().collect(), next: None })
    }
    async fn gift_envelope(&self, id: GiftEnvelopeId) -> Result<Option<GiftEnvelopeView>> {
        Ok(self.inner.lock().unwrap().gift_envelopes.iter().find(|view| view.envelope.id == id).cloned())
    }
    async fn gift_envelopes(&self, giver: &UserId, page: &Page) -> Result<Listing<GiftEnvelopeView>> {
        let mut inner = self.inner.lock().unwrap();
        inner.pages.push(page.clone());
        let rows = inner.gift_envelopes.iter().filter(|view| view.envelope.giver == *giver).cloned().collect();
        Ok(Listing { rows, next: None })
    }
    async fn relations(&self, user: &UserId, side: RelationSide, page: &Page) -> Result<Listing<RelationRow>> {
        let mut inner = self.inner.lock().unwrap();
        inner.pages.push(page.clone());
        let mine = |row: &&RelationRow| match side {
            RelationSide::Own => row.user == *user,
            RelationSide::OfOthers => row.other == *user,
        };
        let rows = inner.relations.iter().filter(mine).take(page.limit).cloned().collect();
        Ok(Listing { rows, next: None })
    }
    async fn payment(&self, id: PaymentId) -> Result<Option<Payment>> {
        Ok(self.inner.lock().unwrap().payments.get(&id).cloned())
    }
    async fn payments(&self, filter: &PaymentFilter, page: &Page) -> Result<Listing<Payment>> {
        let mut inner = self.inner.lock().unwrap();
        inner.pages.push(page.clone());
        inner.payment_filters.push(filter.clone());
        Ok(Listing { rows: inner.payments.values().cloned().collect(), next: None })
    }
    async fn payout(&self, id: PayoutId) -> Result<Option<PayoutView>> {
        Ok(self.inner.lock().unwrap().payouts.get(&id).cloned())
    }
    async fn payouts(&self, filter: &PayoutFilter, page: &Page) -> Result<Listing<PayoutView>> {
        let mut inner = self.inner.lock().unwrap();
        inner.pages.push(page.clone());
        inner.payout_filters.push(filter.clone());
        Ok(Listing { rows: inner.payouts.values().cloned().collect(), next: None })
    }
    async fn api_keys(&self, page: &Page) -> Result<Listing<ApiKey>> {
        let inner = self.inner.lock().unwrap();
        let from = page.cursor.as_ref().map_or(0, |cursor| usize::from(cursor[0]));
        let working: Vec<_> = inner.keys.iter().filter(|key| key.deleted_at.is_none()).cloned().collect();
        let rows: Vec<_> = working.iter().skip(from).take(page.limit).cloned().collect();
        let to = from + rows.len();
        Ok(Listing { rows, next: (to < working.len()).then(|| vec![to as u8]) })
    }
    async fn api_keys_version(&self) -> Result<u64> {
        Ok(self.inner.lock().unwrap().keys_version)
    }
    async fn events(&self, query: &EventQuery) -> Result<EventPage> {
        let mut inner = self.inner.lock().unwrap();
        inner.asked_events.push(query.clone());
        match &query.after {
            After::Cursor(cursor) if cursor == b"bad" => Err(EngineError::Cursor),
            After::Cursor(cursor) if cursor == b"old" => Err(EngineError::CursorGone { oldest: vec![1, 2] }),
            _ => Ok(EventPage { events: std::mem::take(&mut inner.events), next: vec![7, 8], is_end: true }),
        }
    }
    async fn more_events(&self, _: u64) -> Result<u64> {
        std::future::pending().await
    }
    async fn audit(&self) -> Result<Audit> {
        Ok(Audit { deposited: 10, wallets: 4, escrowed: 6, ..Audit::default() })
    }
    fn now(&self) -> Timestamp {
        NOW
    }
    fn ready(&self) -> std::result::Result<(), String> {
        self.inner.lock().unwrap().not_ready.clone().map_or(Ok(()), Err)
    }
}

pub fn envelope_id(n: u8) -> EnvelopeId {
    EnvelopeId::from_bytes([n; 16])
}

fn sales(pending: u64, available: u64) -> MerchantBalance {
    let [pending, available] = [pending, available].map(|minor| Amount::new(minor).unwrap());
    MerchantBalance { pending, available }
}

pub fn gift_id(n: u8) -> GiftId {
    GiftId::from_bytes([n; 16])
}

/// A gift that anybody may accept who has its token.
pub fn an_order(n: u8) -> OrderView {
    OrderView {
        id: OrderId::from_bytes([n; 16]),
        hold: HoldId::from_bytes([n; 16]),
        item: item_id(1),
        merchant: UserId::new("rosy").unwrap(),
        user: UserId::new("bob").unwrap(),
        quantity: 2,
        amount: Amount::new(200).unwrap(),
        created_at: NOW,
        progress: OrderProgress::default(),
    }
}

pub fn group_id(n: u8) -> GroupId {
    GroupId::from_bytes([n; 16])
}

/// An open group of three, of two members.
pub fn a_group(n: u8) -> Group {
    let user = |text| UserId::new(text).unwrap();
    let member = |name, n| Member { user: user(name), joined_at: NOW, order: OrderId::from_bytes([n; 16]) };
    Group {
        id: group_id(n),
        owner: "shop".into(),
        state: GroupState::Open,
        item: item_id(1),
        merchant: user("rosy"),
        size: 3,
        price: Amount::new(9_900).unwrap(),
        leader: user("alice"),
        members: vec![member("alice", 1), member("bob", 2)],
        created_at: NOW,
        expires_at: NOW.plus_s(60),
        ended_at: None,
        reference: None,
    }
}

pub fn a_payment(n: u8) -> Payment {
    Payment {
        id: PaymentId::from_bytes([n; 16]),
        gateway: "alipay".into(),
        purpose: PaymentFor::Hold(HoldId::from_bytes([n; 16])),
        payer: UserId::new("bob").unwrap(),
        item: item_id(1),
        merchant: UserId::new("rosy").unwrap(),
        amount: Amount::new(200).unwrap(),
        state: PaymentState::Created,
        created_at: NOW,
        pay_by: NOW.plus_s(60),
        kept_until: NOW.plus_s(90),
        due_before: NOW,
        pay_url: None,
        number: None,
        taken: Amount::ZERO,
        paid_at: None,
        was_spent: false,
        order: None,
        refunding_at: None,
        refunded_at: None,
        refund_number: None,
        reason: None,
        discrepancy: None,
        changed_at: NOW,
    }
}

pub fn a_gift(n: u8) -> Gift {
    let user = |text| UserId::new(text).unwrap();
    Gift {
        id: gift_id(n),
        owner: "shop".into(),
        state: GiftState::Offered,
        giver: user("alice"),
        recipient: None,
        payer: user("carol"),
        item: item_id(1),
        merchant: user("rosy"),
        amount: Amount::new(29_900).unwrap(),
        message: "for you".into(),
        token: Some(GiftToken([n; 16])),
        created_at: NOW,
        pay_by: Some(NOW.plus_s(60)),
        paid_at: Some(NOW),
        accept_within_s: 60,
        accept_by: Some(NOW.plus_s(60)),
        accepted_at: None,
        ship_within_s: 60,
        ship_by: None,
        shipped_at: None,
        carrier: None,
        tracking: None,
        ended_at: None,
        reason: None,
        note: None,
        reference: None,
        metadata: "{}".into(),
        redacted: None,
    }
}

pub fn item_id(n: u8) -> ItemId {
    ItemId::from_bytes([n; 16])
}

fn grab_row() -> GrabRow {
    GrabRow {
        user: UserId::new("bob").unwrap(),
        amount: Amount::new(417).unwrap(),
        share: 17,
        status: ShareStatus::Claimed,
        grabbed_at: NOW,
        claimed_at: Some(NOW),
        best: true,
    }
}

pub fn envelope_view(n: u8) -> EnvelopeView {
    EnvelopeView {
        id: envelope_id(n),
        owner: "admin".into(),
        sender: UserId::new("alice").unwrap(),
        state: EnvelopeState::Open,
        ended_as: None,
        total: Amount::new(1000).unwrap(),
        shares: 10,
        split: "lucky".into(),
        message: "恭喜发财 \"\\".into(),
        remaining_shares: 9,
        remaining_amount: Amount::new(900).unwrap(),
        claimed_amount: Amount::new(100).unwrap(),
        refunded_amount: Amount::ZERO,
        created_at: NOW,
        opens_at: NOW,
        expires_at: NOW.plus_s(60),
        claim_by: NOW.plus_s(120),
        commitment: [0xab; 32],
        secret: None,
        reference: None,
        metadata: r#"{"n": 123456789012345678901234567890}"#.into(),
        outside: Outside::default(),
        redacted_at: None,
    }
}

pub fn payout_id(n: u8) -> PayoutId {
    PayoutId::from_bytes([n; 16])
}

pub fn payout_view(n: u8, owner: &str, state: PayoutState) -> PayoutView {
    let payout = Payout {
        id: payout_id(n),
        kind: PayoutKind::Win,
        user: UserId::new("bob").unwrap(),
        amount: Amount::new(417).unwrap(),
        envelope: envelope_id(1),
        state,
        attempts: 1,
        reference: Some("bank-1".into()),
        reason: None,
        created_at: NOW,
        changed_at: NOW.plus_s(1),
    };
    PayoutView { payout, owner: owner.to_owned(), funding_reference: Some("order-7".into()) }
}

pub fn item_view(n: u8, per_user_limit: Option<u32>) -> ItemView {
    ItemView {
        id: item_id(n),
        created_at: NOW,
        terms: NewItem {
            merchant: UserId::new("rosy").unwrap(),
            name: "99 roses".into(),
            category: "flowers".into(),
            price: Amount::new(29_900).unwrap(),
            stock: 500,
            per_user_limit,
            starts_at: None,
            ends_at: None,
            hold_ttl_s: 900,
            image_url: None,
            origin: ItemOrigin::default(),
            group_buy: None,
        },
        stock: Stock { total: 500, free: 400, held: 60, sold: 40 },
    }
}

/// A server over a fake, with a client for it.
pub struct Site {
    pub fake: Arc<Fake>,
    pub server: Shared<Fake>,
    pub router: Router,
}

pub fn setup() -> Setup {
    Setup {
        currency: "CNY".parse().unwrap(),
        admin_key: KEY.into(),
        test: false,
        metrics_apart: false,
        in_flight_max: 4,
        event_readers_max: 2,
        body_timeout: Duration::from_secs(15),
        caps: Caps::default(),
        may_give: MayGive::default(),
        webhooks: WebhookOptions::default(),
        payments: PaymentOptions::default(),
    }
}

impl Site {
    pub fn new() -> Site {
        Site::with(&setup())
    }

    pub fn with(setup: &Setup) -> Site {
        Site::before(Arc::new(Fake::default()), setup)
    }

    pub fn before(fake: Arc<Fake>, setup: &Setup) -> Site {
        let server = Server::new(fake.clone(), setup);
        Site { fake, router: app(server.clone()), server }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body: body.to_vec() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(ask(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    /// Posts `body` with an idempotency key of `key`, if that is not empty.
    pub async fn post(&self, path: &str, key: &str, body: impl Into<Body>) -> Answer {
        let mut request = ask(Method::POST, path).header("content-type", "application/json");
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        self.send(request.body(body.into()).unwrap()).await
    }
}

pub fn ask(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", format!("Bearer {KEY}"))
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that this is a well-formed problem of this status and code.
    pub fn assert_problem(&self, status: u16, code: &str, what: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{what}: {}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{what}");
        let json = self.json();
        assert_eq!(json["code"], code, "{what}: {json}");
        assert_eq!(json["status"], status, "{what}");
        assert_eq!(json["request_id"], self.header("x-request-id"), "{what}");
        for text in ["type", "title", "detail", "retry"] {
            assert!(json[text].as_str().is_some_and(|text| !text.is_empty()), "{what}: {text} in {json}");
        }
        let later = json["retry"] == "after" || json["code"] == "unconfirmed";
        assert_eq!(later, self.headers.contains_key("retry-after"), "{what}: {json}");
        json
    }
}
