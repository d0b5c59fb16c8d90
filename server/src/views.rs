//! The JSON shapes of answers.
//!
//! **Invariant:** ids are shown as text, amounts as integers of minor units,
//! times as RFC 3339 UTC with milliseconds.

use crate::config::Currency;
use crate::extract::hex;
use hongbao_engine::api_key::{ApiKey, Role};
use hongbao_engine::backend::{Audit, Entry, EntryKind, GrabRow, ReceivedRow};
use hongbao_engine::code::Code;
use hongbao_engine::command::{
    EndedAs, EnvelopeState, EnvelopeView, HoldState, HoldView, ItemKind, ItemView, Merchant, MerchantStatus, NewItem,
    OrderView, ShareStatus, Stock, Verification, WalletView,
};
use hongbao_engine::gift::{Gift, GiftState};
use hongbao_engine::group::GroupBuy;
use hongbao_engine::order::OrderState;
use hongbao_engine::payout::{PayoutKind, PayoutState, PayoutTo, PayoutView};
use hongbao_engine::sale::SaleTerms;
use hongbao_engine::types::{
    Amount, ApiKeyId, EnvelopeId, GiftId, GroupId, HoldId, ItemId, OrderId, PayoutId, Timestamp, UserId,
};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt::Display;

/// A time, shown.
#[derive(Clone, Copy)]
pub struct At(pub Timestamp);

impl At {
    /// As RFC 3339. Every win tells two times, so the digits are put in place by
    /// hand, several times as fast as by a formatter.
    pub(crate) fn text(self) -> [u8; 24] {
        let ms = i64::try_from(self.0.ms()).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
        let civil = jiff::tz::Offset::UTC.to_datetime(time);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |at: usize, digits: usize, mut number: u16| {
            for digit in text[at..at + digits].iter_mut().rev() {
                *digit += (number % 10) as u8;
                number /= 10;
            }
        };
        put(0, 4, civil.year().unsigned_abs());
        put(5, 2, civil.month().unsigned_abs().into());
        put(8, 2, civil.day().unsigned_abs().into());
        put(11, 2, civil.hour().unsigned_abs().into());
        put(14, 2, civil.minute().unsigned_abs().into());
        put(17, 2, civil.second().unsigned_abs().into());
        put(20, 3, civil.millisecond().unsigned_abs());
        text
    }
}

impl Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("digits and dashes are ASCII"))
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.text();
        serializer.serialize_str(std::str::from_utf8(&text).expect("digits and dashes are ASCII"))
    }
}

/// Anything that is shown by its text.
pub struct Shown<T>(pub T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A wallet.
#[derive(Serialize)]
pub struct WalletJson<'a> {
    user: &'a UserId,
    currency: Currency,
    available: Amount,
    held: Amount,
}

impl<'a> WalletJson<'a> {
    /// `view`, shown.
    pub fn new(view: &'a WalletView, currency: Currency) -> Self {
        WalletJson { user: &view.user, currency, available: view.available, held: view.held }
    }
}

/// A movement on a wallet.
#[derive(Serialize)]
pub struct EntryJson<'a> {
    at: At,
    kind: &'static str,
    amount: Amount,
    balance_after: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<Shown<EnvelopeId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Shown<OrderId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gift: Option<Shown<GiftId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Shown<GroupId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
}

impl<'a> EntryJson<'a> {
    /// `entry`, shown.
    pub fn new(entry: &'a Entry) -> Self {
        let mut json = EntryJson {
            at: At(entry.at),
            kind: "",
            amount: entry.amount,
            balance_after: entry.balance_after,
            envelope: None,
            order: None,
            gift: None,
            group: None,
            reference: None,
        };
        match &entry.kind {
            EntryKind::Deposit(reference) => (json.kind, json.reference) = ("deposit", reference.as_deref()),
            EntryKind::Withdrawal(reference) => (json.kind, json.reference) = ("withdrawal", reference.as_deref()),
            EntryKind::EnvelopeCreated(id) => (json.kind, json.envelope) = ("envelope", Some(Shown(*id))),
            EntryKind::Claim(id) => (json.kind, json.envelope) = ("claim", Some(Shown(*id))),
            EntryKind::Refund(id) => (json.kind, json.envelope) = ("refund", Some(Shown(*id))),
            EntryKind::Lapse(id) => (json.kind, json.envelope) = ("lapse", Some(Shown(*id))),
            EntryKind::Order(id) => (json.kind, json.order) = ("order", Some(Shown(*id))),
            EntryKind::OrderRefund(id) => (json.kind, json.order) = ("order_refund", Some(Shown(*id))),
            EntryKind::GiftPaid(id) => (json.kind, json.gift) = ("gift", Some(Shown(*id))),
            EntryKind::GiftRefund(id) => (json.kind, json.gift) = ("gift_refund", Some(Shown(*id))),
            EntryKind::GroupPaid(id) => (json.kind, json.group) = ("group", Some(Shown(*id))),
            EntryKind::GroupRefund(id) => (json.kind, json.group) = ("group_refund", Some(Shown(*id))),
        }
        json
    }
}

/// An envelope.
#[derive(Serialize)]
pub struct EnvelopeJson<'a> {
    id: Shown<EnvelopeId>,
    sender: &'a UserId,
    state: EnvelopeState,
    ended_as: Option<EndedAs>,
    total: Amount,
    currency: Currency,
    shares: u32,
    split: &'a str,
    message: &'a str,
    remaining_shares: u32,
    remaining_amount: Amount,
    claimed_amount: Amount,
    refunded_amount: Amount,
    created_at: At,
    opens_at: At,
    expires_at: At,
    claim_by: At,
    commitment: String,
    seed_secret: Option<String>,
    reference: Option<&'a str>,
    metadata: &'a RawValue,
    funding: Option<FundingJson<'a>>,
    payout: PayoutTo,
    redacted_at: Option<At>,
}

/// Under which reference an envelope's money came from outside.
#[derive(Serialize)]
struct FundingJson<'a> {
    reference: &'a str,
}

impl<'a> EnvelopeJson<'a> {
    /// `view`, shown.
    pub fn new(view: &'a EnvelopeView, currency: Currency) -> Self {
        EnvelopeJson {
            id: Shown(view.id),
            sender: &view.sender,
            state: view.state,
            ended_as: view.ended_as,
            total: view.total,
            currency,
            shares: view.shares,
            split: &view.split,
            message: &view.message,
            remaining_shares: view.remaining_shares,
            remaining_amount: view.remaining_amount,
            claimed_amount: view.claimed_amount,
            refunded_amount: view.refunded_amount,
            created_at: At(view.created_at),
            opens_at: At(view.opens_at),
            expires_at: At(view.expires_at),
            claim_by: At(view.claim_by),
            commitment: hex(&view.commitment),
            seed_secret: view.secret.as_ref().map(|secret| hex(secret)),
            reference: view.reference.as_deref(),
            // It was checked on the way in; an engine filled by other means may hold other text.
            metadata: serde_json::from_str(&view.metadata).unwrap_or(RawValue::NULL),
            funding: view.outside.funding.as_deref().map(|reference| FundingJson { reference }),
            payout: view.outside.payout,
            redacted_at: view.redacted_at.map(At),
        }
    }
}

/// A grab in the list of an envelope's.
#[derive(Serialize)]
pub struct GrabJson<'a> {
    user: &'a UserId,
    amount: Amount,
    share: u32,
    status: ShareStatus,
    grabbed_at: At,
    claimed_at: Option<At>,
    best: bool,
}

impl<'a> GrabJson<'a> {
    /// `row`, shown.
    pub fn new(row: &'a GrabRow) -> Self {
        GrabJson {
            user: &row.user,
            amount: row.amount,
            share: row.share,
            status: row.status,
            grabbed_at: At(row.grabbed_at),
            claimed_at: row.claimed_at.map(At),
            best: row.best,
        }
    }
}

/// A grab in the list of a user's.
#[derive(Serialize)]
pub struct ReceivedJson<'a> {
    envelope: Shown<EnvelopeId>,
    sender: &'a UserId,
    amount: Amount,
    status: ShareStatus,
    grabbed_at: At,
    claimed_at: Option<At>,
}

impl<'a> ReceivedJson<'a> {
    /// `row`, shown.
    pub fn new(row: &'a ReceivedRow) -> Self {
        ReceivedJson {
            envelope: Shown(row.envelope),
            sender: &row.sender,
            amount: row.grab.amount,
            status: row.grab.status,
            grabbed_at: At(row.grab.grabbed_at),
            claimed_at: row.grab.claimed_at.map(At),
        }
    }
}

/// A payout.
#[derive(Serialize)]
pub struct PayoutJson<'a> {
    id: Shown<PayoutId>,
    kind: PayoutKind,
    user: &'a UserId,
    amount: Amount,
    currency: Currency,
    envelope: Shown<EnvelopeId>,
    funding_reference: Option<&'a str>,
    state: PayoutState,
    attempts: u32,
    reference: Option<&'a str>,
    reason: Option<&'a str>,
    created_at: At,
    changed_at: At,
}

impl<'a> PayoutJson<'a> {
    /// `view`, shown.
    pub fn new(view: &'a PayoutView, currency: Currency) -> Self {
        let payout = &view.payout;
        PayoutJson {
            id: Shown(payout.id),
            kind: payout.kind,
            user: &payout.user,
            amount: payout.amount,
            currency,
            envelope: Shown(payout.envelope),
            funding_reference: view.funding_reference.as_deref(),
            state: payout.state,
            attempts: payout.attempts,
            reference: payout.reference.as_deref(),
            reason: payout.reason.as_deref(),
            created_at: At(payout.created_at),
            changed_at: At(payout.changed_at),
        }
    }
}

/// Where all money is.
#[derive(Serialize)]
pub struct AuditJson {
    balanced: bool,
    deposited: u64,
    withdrawn: u64,
    paid_out: u64,
    wallets: u64,
    escrowed: u64,
    payable: u64,
    refunding: u64,
    merchants: u64,
    platform: u64,
    in_flight: i64,
}

impl AuditJson {
    /// `audit`, shown.
    pub fn new(audit: Audit) -> Self {
        let balanced = audit.balanced();
        let Audit { deposited, withdrawn, paid_out, wallets, escrowed, payable, .. } = audit;
        let Audit { refunding, merchants, platform, in_flight, .. } = audit;
        AuditJson {
            balanced,
            deposited,
            withdrawn,
            paid_out,
            wallets,
            escrowed,
            payable,
            refunding,
            merchants,
            platform,
            in_flight,
        }
    }
}

/// A merchant.
#[derive(Serialize)]
pub struct MerchantJson<'a> {
    id: &'a UserId,
    name: &'a str,
    status: MerchantStatus,
    verification: Option<VerificationJson<'a>>,
    settle_after_s: u32,
    commission_bps: u16,
}

/// Who checked a merchant's papers.
#[derive(Serialize)]
struct VerificationJson<'a> {
    by: &'a str,
    reference: Option<&'a str>,
    at: At,
}

impl<'a> MerchantJson<'a> {
    /// `merchant`, shown.
    pub fn new(merchant: &'a Merchant) -> Self {
        let Merchant { id, name, status, verification, terms } = merchant;
        let SaleTerms { settle_after_s, commission_bps } = *terms;
        let verification = verification.as_ref().map(|Verification { by, reference, at }| VerificationJson {
            by,
            reference: reference.as_deref(),
            at: At(*at),
        });
        MerchantJson { id, name, status: *status, verification, settle_after_s, commission_bps }
    }
}

/// An API key.
#[derive(Serialize)]
pub struct ApiKeyJson<'a> {
    id: Shown<ApiKeyId>,
    name: &'a str,
    owner: &'a UserId,
    roles: Vec<Shown<&'a Role>>,
    /// The key itself, where keys are made: null unless it was made just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Option<&'a str>>,
    created_at: At,
}

impl<'a> ApiKeyJson<'a> {
    /// `made`, shown with the key itself, which is known only to whoever made it.
    pub fn new(made: &'a ApiKey, key: Option<&'a str>) -> Self {
        ApiKeyJson { key: Some(key), ..ApiKeyJson::listed(made) }
    }

    /// The same, as a list tells it.
    pub fn listed(key: &'a ApiKey) -> Self {
        ApiKeyJson {
            id: Shown(key.id),
            name: &key.name,
            owner: &key.owner,
            roles: key.roles.iter().map(Shown).collect(),
            key: None,
            created_at: At(key.created_at),
        }
    }
}

/// An item, with what is told of its stock.
#[derive(Serialize)]
pub struct ItemJson<'a, S = Stock> {
    id: Shown<ItemId>,
    merchant: &'a UserId,
    name: &'a str,
    category: &'a str,
    kind: ItemKind,
    variant_of: Option<Shown<ItemId>>,
    return_within_s: u32,
    price: Amount,
    currency: Currency,
    stock: S,
    per_user_limit: Option<u32>,
    starts_at: Option<At>,
    ends_at: Option<At>,
    hold_ttl_s: u64,
    image_url: Option<&'a str>,
    group_buy: Option<GroupBuyJson>,
    created_at: At,
}

/// On which terms groups buy an item.
#[derive(Serialize)]
struct GroupBuyJson {
    size: u32,
    price: Amount,
    within_s: u64,
}

impl<'a> ItemJson<'a> {
    /// `view`, shown.
    pub fn new(view: &'a ItemView, currency: Currency) -> Self {
        ItemJson::with_stock(view.id, &view.terms, view.created_at, view.stock, currency)
    }
}

impl<'a, S> ItemJson<'a, S> {
    /// The item with these terms, and `stock`.
    pub fn with_stock(id: ItemId, terms: &'a NewItem, created_at: Timestamp, stock: S, currency: Currency) -> Self {
        ItemJson {
            id: Shown(id),
            merchant: &terms.merchant,
            name: &terms.name,
            category: &terms.category,
            kind: terms.origin.kind,
            variant_of: terms.origin.variant_of.map(Shown),
            return_within_s: terms.origin.return_within_s(),
            price: terms.price,
            currency,
            stock,
            per_user_limit: terms.per_user_limit,
            starts_at: terms.starts_at.map(At),
            ends_at: terms.ends_at.map(At),
            hold_ttl_s: terms.hold_ttl_s,
            image_url: terms.image_url.as_deref(),
            group_buy: terms.group_buy.map(|GroupBuy { size, price, within_s }| GroupBuyJson { size, price, within_s }),
            created_at: At(created_at),
        }
    }
}

/// A hold.
#[derive(Serialize)]
pub struct HoldJson<'a> {
    id: Shown<HoldId>,
    item: Shown<ItemId>,
    user: &'a UserId,
    quantity: u32,
    amount: Amount,
    currency: Currency,
    state: &'static str,
    order: Option<Shown<OrderId>>,
    created_at: At,
    expires_at: At,
}

impl<'a> HoldJson<'a> {
    /// `view`, shown.
    pub fn new(view: &'a HoldView, currency: Currency) -> Self {
        let (state, order) = match view.state {
            HoldState::Held => ("held", None),
            HoldState::Claimed(order) => ("claimed", Some(Shown(order))),
            HoldState::Released => ("released", None),
            HoldState::Expired => ("expired", None),
        };
        HoldJson {
            id: Shown(view.id),
            item: Shown(view.item),
            user: &view.user,
            quantity: view.quantity,
            amount: view.amount,
            currency,
            state,
            order,
            created_at: At(view.created_at),
            expires_at: At(view.expires_at),
        }
    }
}

/// An order.
#[derive(Serialize)]
pub struct OrderJson<'a> {
    id: Shown<OrderId>,
    hold: Shown<HoldId>,
    item: Shown<ItemId>,
    merchant: &'a UserId,
    user: &'a UserId,
    quantity: u32,
    amount: Amount,
    currency: Currency,
    created_at: At,
    state: OrderState,
    shipped_at: Option<At>,
    carrier: Option<&'a str>,
    tracking: Option<&'a str>,
    delivered_at: Option<At>,
    return_requested_at: Option<At>,
    return_reason: Option<&'a str>,
    answer_by: Option<At>,
    ended_at: Option<At>,
    refusal: Option<&'a str>,
    restocked: bool,
}

impl<'a> OrderJson<'a> {
    /// `view`, shown.
    pub fn new(view: &'a OrderView, currency: Currency) -> Self {
        let progress = &view.progress;
        OrderJson {
            id: Shown(view.id),
            hold: Shown(view.hold),
            item: Shown(view.item),
            merchant: &view.merchant,
            user: &view.user,
            quantity: view.quantity,
            amount: view.amount,
            currency,
            created_at: At(view.created_at),
            state: progress.state,
            shipped_at: progress.shipped_at.map(At),
            carrier: progress.carrier.as_deref(),
            tracking: progress.tracking.as_deref(),
            delivered_at: progress.delivered_at.map(At),
            return_requested_at: progress.return_requested_at.map(At),
            return_reason: progress.return_reason.as_deref(),
            answer_by: progress.answer_by.map(At),
            ended_at: progress.ended_at.map(At),
            refusal: progress.refusal.as_deref(),
            restocked: progress.restocked,
        }
    }
}

/// An order, and its codes for those who may see them. They are in no other answer, and in no event.
#[derive(Serialize)]
pub struct OrderWithCodes<'a> {
    #[serde(flatten)]
    order: OrderJson<'a>,
    codes: Option<&'a [Code]>,
}

impl<'a> OrderWithCodes<'a> {
    /// `view`, shown, with `codes`.
    pub fn new(view: &'a OrderView, codes: Option<&'a [Code]>, currency: Currency) -> Self {
        OrderWithCodes { order: OrderJson::new(view, currency), codes }
    }
}

/// The codes of a gift.
#[derive(Serialize)]
pub struct CodesJson<'a> {
    codes: &'a [Code],
}

impl<'a> CodesJson<'a> {
    /// `codes`, shown.
    pub fn new(codes: &'a [Code]) -> Self {
        CodesJson { codes }
    }
}

/// A gift. It has no address: whoever gives never sees one.
#[derive(Serialize)]
pub struct GiftJson<'a> {
    id: Shown<GiftId>,
    state: GiftState,
    giver: &'a UserId,
    recipient: Option<&'a UserId>,
    payer: &'a UserId,
    item: Shown<ItemId>,
    merchant: &'a UserId,
    amount: Amount,
    currency: Currency,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    created_at: At,
    pay_by: Option<At>,
    paid_at: Option<At>,
    accept_by: Option<At>,
    accepted_at: Option<At>,
    ship_by: Option<At>,
    shipped_at: Option<At>,
    carrier: Option<&'a str>,
    tracking: Option<&'a str>,
    ended_at: Option<At>,
    reason: Option<&'a str>,
    note: Option<&'a str>,
    reference: Option<&'a str>,
    metadata: &'a RawValue,
    redacted_at: Option<At>,
}

impl<'a> GiftJson<'a> {
    /// `gift`, shown to those who may not accept it.
    pub fn new(gift: &'a Gift, currency: Currency) -> Self {
        GiftJson {
            id: Shown(gift.id),
            state: gift.state,
            giver: &gift.giver,
            recipient: gift.recipient.as_ref(),
            payer: &gift.payer,
            item: Shown(gift.item),
            merchant: &gift.merchant,
            amount: gift.amount,
            currency,
            message: &gift.message,
            token: None,
            created_at: At(gift.created_at),
            pay_by: gift.pay_by.map(At),
            paid_at: gift.paid_at.map(At),
            accept_by: gift.accept_by.map(At),
            accepted_at: gift.accepted_at.map(At),
            ship_by: gift.ship_by.map(At),
            shipped_at: gift.shipped_at.map(At),
            carrier: gift.carrier.as_deref(),
            tracking: gift.tracking.as_deref(),
            ended_at: gift.ended_at.map(At),
            reason: gift.reason.as_deref(),
            note: gift.note.as_deref(),
            reference: gift.reference.as_deref(),
            metadata: serde_json::from_str(&gift.metadata).unwrap_or(RawValue::NULL),
            redacted_at: gift.redacted.map(|redaction| At(redaction.at)),
        }
    }

    /// The same for whoever acts for its giver, with what a recipient has to show as
    /// long as that is needed.
    pub fn with_token(gift: &'a Gift, currency: Currency) -> Self {
        let is_needed = matches!(gift.state, GiftState::AwaitingPayment | GiftState::Offered);
        let token = gift.token.filter(|_| is_needed).map(|token| token.to_string());
        GiftJson { token, ..GiftJson::new(gift, currency) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_a_formatter_writes_them() {
        for ms in
            [0, 1, 999, 951_782_399_999, 951_868_800_000, 1_801_900_800_123, 4_102_444_799_999, 253_402_207_199_999]
        {
            let expected = format!("{:.3}", jiff::Timestamp::from_millisecond(ms).unwrap());
            let at = At(Timestamp::from_ms(ms.unsigned_abs()));
            assert_eq!(std::str::from_utf8(&at.text()), Ok(expected.as_str()));
        }
        assert_eq!(&At(Timestamp::from_ms(u64::MAX)).text()[..5], b"9999-");
    }
}
