//! What clients ask for: few users and things, so that they meet often.

use crate::gift_envelopes;
use crate::model::Model;
use crate::random::Random;
use crate::relations;
use hongbao_engine::api_key::{NewApiKey, Role};
use hongbao_engine::backend::OnceKey;
use hongbao_engine::code::Code;
use hongbao_engine::command::{
    Command, HoldState, ItemChange, ItemKind, ItemOrigin, MerchantStatus, NewEnvelope, NewItem, NewMerchant,
    NewVerification, Reference, Transfer, Unclaimed,
};
use hongbao_engine::gift::{Acceptance, GiftState, GiftStep, GiftToken, NewGift};
use hongbao_engine::gift_envelope::NewGiftEnvelope;
use hongbao_engine::group::{GroupBuy, NewGroup};
use hongbao_engine::order::{OrderState, OrderStep, RETURN_WITHIN_S};
use hongbao_engine::payout::{Outside, PayoutResult, PayoutState, PayoutTo};
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::{
    Amount, ApiKeyId, EnvelopeId, GiftId, GroupId, HoldId, ItemId, OrderId, PayoutId, Timestamp, UserId,
};

const USERS: [&str; 7] = ["alice", "bob", "7", "07", "carol:x@y", "18446744073709551616", "u"];
const MERCHANTS: [&str; 3] = ["rosy", "alice", "9"];

pub(crate) fn fen(minor: u64) -> Amount {
    Amount::new(minor).expect("a small amount")
}

pub(crate) fn user(text: &str) -> UserId {
    UserId::new(text).expect("a well-formed user")
}

pub(crate) fn users() -> Vec<UserId> {
    USERS.map(user).to_vec()
}

pub(crate) fn any_user(random: &mut Random) -> UserId {
    user(random.pick(&USERS))
}

fn reference(random: &mut Random) -> Option<Reference> {
    random.maybe(4, |random| Reference { owner: "app".to_owned(), text: format!("r{}", random.below(8)) })
}

/// A key for a command whose route asks for one.
pub(crate) fn once_for(command: &Command, random: &mut Random) -> Option<OnceKey> {
    let by_nature = matches!(
        command,
        Command::Grab { .. } | Command::Claim { .. } | Command::ClaimHold { .. } | Command::ReleaseHold { .. }
    );
    if by_nature {
        return None;
    }
    random.maybe(3, |random| OnceKey::idempotency("app", "route", &format!("k{}", random.below(16))))
}

/// Mostly the newest, or one that is not settled.
fn an_envelope(model: &Model, random: &mut Random) -> EnvelopeId {
    if model.envelopes.is_empty() || random.once_in(40) {
        return EnvelopeId::from_bytes([random.below(4) as u8; 16]);
    }
    let live: Vec<EnvelopeId> = model.envelopes.values().filter(|e| !e.settled).map(|e| e.id).collect();
    if live.is_empty() || random.once_in(8) {
        let known: Vec<EnvelopeId> = model.envelopes.keys().copied().collect();
        return random.pick(&known);
    }
    let newest = model.envelopes.values().max_by_key(|envelope| (envelope.created_at, envelope.id));
    match newest {
        Some(newest) if random.once_in(3) => newest.id,
        _ => random.pick(&live),
    }
}

/// Mostly somebody who has not paid or taken yet.
fn a_sender(model: &Model, random: &mut Random) -> UserId {
    let rich: Vec<UserId> = model.wallets.keys().filter(|user| model.balance(user) > 50).cloned().collect();
    if rich.is_empty() || random.once_in(15) { any_user(random) } else { random.pick(&rich) }
}

fn an_item(model: &Model, random: &mut Random) -> ItemId {
    let known: Vec<ItemId> = model.items.keys().copied().collect();
    if known.is_empty() || random.once_in(40) {
        return ItemId::from_bytes([random.below(4) as u8; 16]);
    }
    random.pick(&known)
}

/// Mostly a live hold, and mostly asked for by its own user.
fn a_hold(model: &Model, random: &mut Random) -> (HoldId, UserId) {
    let live = model.holds.values().filter(|(hold, _)| hold.state == HoldState::Held);
    let live: Vec<_> = live.map(|(hold, _)| (hold.id, hold.user.clone())).collect();
    let all: Vec<_> = model.holds.values().map(|(hold, _)| (hold.id, hold.user.clone())).collect();
    if all.is_empty() {
        return (HoldId::from_bytes([0; 16]), any_user(random));
    }
    let (id, owner) = if live.is_empty() || random.once_in(3) { random.pick(&all) } else { random.pick(&live) };
    (id, if random.once_in(8) { any_user(random) } else { owner })
}

fn transfer(random: &mut Random, most: u64) -> Transfer {
    let minor = if random.once_in(60) { 0 } else { random.between(1, most) };
    Transfer { user: any_user(random), amount: fen(minor), reference: reference(random) }
}

/// A gift to be made, mostly by somebody who can pay.
fn new_gift(model: &Model, random: &mut Random) -> Command {
    let giver = a_sender(model, random);
    let payer = if random.once_in(3) { a_sender(model, random) } else { giver.clone() };
    let within = |random: &mut Random| random.pick(&[1, 3, 60, 60, 400]);
    let ship_within_s = within(random);
    Command::CreateGift(Box::new(NewGift {
        owner: "app".to_owned(),
        giver,
        recipient: if random.once_in(3) { None } else { Some(any_user(random)) },
        item: an_item(model, random),
        payer,
        message: "for you".to_owned(),
        pay_within_s: within(random),
        accept_within_s: if random.once_in(60) { 0 } else { within(random) },
        ship_within_s,
        reference: reference(random),
        metadata: "{}".to_owned(),
        // The same for the same terms, as it is no part of what is asked.
        must_follow: ship_within_s == 3,
    }))
}

/// Units for whoever comes first, mostly by somebody who can pay.
fn new_gift_envelope(model: &Model, random: &mut Random) -> Command {
    let giver = a_sender(model, random);
    let payer = if random.once_in(3) { a_sender(model, random) } else { giver.clone() };
    let within = |random: &mut Random| random.pick(&[1, 3, 60, 60, 400]);
    let units = if random.once_in(60) { random.pick(&[0, 101]) } else { random.between(1, 4) as u32 };
    Command::CreateGiftEnvelope(Box::new(NewGiftEnvelope {
        payer,
        has_token: random.once_in(3),
        pay_within_s: within(random),
        expires_in_s: within(random),
        accept_within_s: within(random),
        ship_within_s: within(random),
        reference: reference(random),
        ..NewGiftEnvelope::new("app", giver, an_item(model, random), units)
    }))
}

/// Mostly what comes next for a gift that has not ended, by who may do it.
fn step_gift(model: &Model, random: &mut Random) -> Command {
    let live: Vec<GiftId> = model.given.iter().filter(|(_, it)| !it.state().has_ended()).map(|(id, _)| *id).collect();
    let known: Vec<GiftId> = model.given.keys().copied().collect();
    if known.is_empty() || random.once_in(40) {
        let gift = GiftId::from_bytes([random.below(4) as u8; 16]);
        return Command::StepGift { gift, step: Box::new(GiftStep::Deliver) };
    }
    let gift = if live.is_empty() || random.once_in(4) { random.pick(&known) } else { random.pick(&live) };
    let step = Box::new(a_step(model, gift, random));
    Command::StepGift { gift, step }
}

fn a_step(model: &Model, id: GiftId, random: &mut Random) -> GiftStep {
    let gift = model.given[&id].gift();
    let recipient = gift.recipient.clone().unwrap_or_else(|| any_user(random));
    let mut user = |right: UserId| if random.once_in(8) { any_user(random) } else { right };
    let (payer, giver, recipient) = (user(gift.payer), user(gift.giver), user(recipient));
    let text = |random: &mut Random| format!("t{}", random.below(2));
    let token = if random.once_in(8) { random.maybe(2, |_| GiftToken([0; 16])) } else { gift.token };
    let next = match gift.state {
        GiftState::AwaitingPayment => random.pick(&[0, 0, 0, 3]),
        GiftState::Offered => random.pick(&[1, 1, 1, 2, 3]),
        GiftState::Accepted => random.pick(&[4, 4, 6, 7]),
        GiftState::Shipped => random.pick(&[5, 5, 7]),
        _ => random.below(8),
    };
    match if random.once_in(6) { random.below(8) } else { next } {
        0 => GiftStep::Pay { payer },
        1 if random.once_in(6) => {
            GiftStep::AcceptWith(Box::new(Acceptance { user: recipient, token, address: None, must_follow: true }))
        }
        1 => GiftStep::Accept { user: recipient, token },
        2 => GiftStep::Decline { user: recipient, reason: random.maybe(2, text) },
        3 => GiftStep::Cancel { user: giver },
        4 => GiftStep::Ship { carrier: text(random), tracking: text(random) },
        5 => GiftStep::Deliver,
        6 => GiftStep::Fail { reason: text(random) },
        _ => GiftStep::Thank { user: recipient, note: text(random) },
    }
}

/// A group opened, joined or left: mostly one that is open, and mostly by who can pay or is in it.
fn of_groups(model: &Model, random: &mut Random) -> Command {
    let open: Vec<GroupId> = model.groups.iter().filter(|(_, it)| it.is_open()).map(|(id, _)| *id).collect();
    let known: Vec<GroupId> = model.groups.keys().copied().collect();
    if known.is_empty() || random.once_in(if open.is_empty() { 2 } else { 4 }) {
        let sold = model.items.values().filter(|item| item.terms.group_buy.is_some()).map(|item| item.id);
        let sold: Vec<ItemId> = sold.collect();
        let item = if sold.is_empty() || random.once_in(10) { an_item(model, random) } else { random.pick(&sold) };
        let (leader, reference) = (a_sender(model, random), reference(random));
        return Command::OpenGroup(Box::new(NewGroup { owner: "app".to_owned(), item, leader, reference }));
    }
    let group = match () {
        () if random.once_in(40) => GroupId::from_bytes([random.below(4) as u8; 16]),
        () if open.is_empty() || random.once_in(5) => random.pick(&known),
        () => random.pick(&open),
    };
    let members = model.groups.get(&group).map(|it| it.group().members).unwrap_or_default();
    let member = random.once_in(3).then(|| members.into_iter().map(|member| member.user).collect::<Vec<_>>());
    let user = match member.filter(|members| !members.is_empty()) {
        Some(members) => random.pick(&members),
        None => a_sender(model, random),
    };
    if random.once_in(5) { Command::LeaveGroup { group, user } } else { Command::JoinGroup { group, user } }
}

/// A grab from an envelope, for batches.
pub(crate) fn grab(model: &Model, random: &mut Random) -> Command {
    Command::Grab { envelope: an_envelope(model, random), user: any_user(random) }
}

/// What came of some payouts, mostly of those that are not paid yet.
fn results(model: &Model, random: &mut Random) -> Command {
    use PayoutState::{Due, Failed, Paid, Sent};
    let known: Vec<PayoutId> = model.payouts.iter().filter_map(|owed| owed.id).collect();
    let unpaid = model.payouts.iter().filter(|owed| owed.state != Paid);
    let unpaid: Vec<PayoutId> = unpaid.filter_map(|owed| owed.id).collect();
    let text = |random: &mut Random| random.maybe(3, |random| format!("t{}", random.below(2)));
    let count = random.between(1, 4);
    let results = (0..count).map(|_| PayoutResult {
        payout: match () {
            () if known.is_empty() || random.once_in(20) => PayoutId::from_bytes([random.below(4) as u8; 16]),
            () if unpaid.is_empty() || random.once_in(4) => random.pick(&known),
            () => random.pick(&unpaid),
        },
        state: random.pick(&[Due, Sent, Sent, Paid, Failed]),
        reference: text(random),
        reason: text(random),
    });
    Command::PayoutResults(results.collect())
}

/// What a run is mostly about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    Everything,
    Money,
    Sales,
}

pub(crate) fn verified(random: &mut Random) -> Command {
    let id = user(random.pick(&MERCHANTS));
    Command::PutMerchant(Box::new(NewMerchant {
        // What is due within a run, and what is not.
        settle_after_s: random.maybe(2, |random| random.pick(&[0, 5, 60, 400, 86_400])),
        commission_bps: random.maybe(2, |random| random.pick(&[0, 1, 250, 3333, 10_000])),
        ..NewMerchant::new(id, "Rosy", Some(MerchantStatus::Verified))
    }))
}

/// Sale money to be taken out, mostly of a merchant that has so much.
fn withdraw_sales(model: &Model, random: &mut Random) -> Command {
    let id = user(random.pick(&MERCHANTS));
    let available = model.merchants.get(&id).map_or(0, |seller| seller.balance().available.minor());
    let Transfer { reference, .. } = transfer(random, 1);
    let amount = fen(random.below(available + 3));
    Command::WithdrawSales(Transfer { user: id, amount, reference })
}

pub(crate) fn any(theme: Theme, model: &Model, now: Timestamp, random: &mut Random) -> Command {
    let is_of_sales = theme != Theme::Money && !model.items.is_empty();
    if is_of_sales && random.once_in(8) && !model.orders.is_empty() {
        return step_order(model, random);
    }
    if is_of_sales && random.once_in(4) {
        let is_new = model.given.is_empty() || random.once_in(3);
        return if is_new { new_gift(model, random) } else { step_gift(model, random) };
    }
    if is_of_sales && random.once_in(10) {
        let is_new = model.gift_envelopes.is_empty() || random.once_in(4);
        return if is_new { new_gift_envelope(model, random) } else { gift_envelopes::about_one(model, random) };
    }
    if is_of_sales && random.once_in(12) {
        return relations::put(random);
    }
    if is_of_sales && random.once_in(5) {
        return of_groups(model, random);
    }
    if is_of_sales && random.once_in(10) && model.items.keys().any(|item| model.sells_codes(*item)) {
        return add_codes(model, random);
    }
    let choice = match theme {
        Theme::Everything => random.below(100),
        Theme::Money => random.below(66),
        Theme::Sales if model.merchants.is_empty() => return verified(random),
        Theme::Sales if random.once_in(6) => random.below(66),
        Theme::Sales => random.between(66, 99),
    };
    match choice {
        0..=65 if !model.payouts.is_empty() && random.once_in(8) => results(model, random),
        0..=8 => {
            if random.once_in(80) {
                let amount = Amount::MAX.minor() / random.between(1, 3);
                return Command::Deposit(Transfer { user: any_user(random), amount: fen(amount), reference: None });
            }
            Command::Deposit(transfer(random, 20_000))
        }
        9..=11 => Command::Withdraw(transfer(random, 3_000)),
        12..=26 if model.wallets.is_empty() => Command::Deposit(transfer(random, 20_000)),
        12..=26 => Command::CreateEnvelope(Box::new(new_envelope(model, now, random))),
        27..=62 if model.envelopes.is_empty() => Command::Deposit(transfer(random, 20_000)),
        27..=52 => grab(model, random),
        53..=62 => {
            let envelope = an_envelope(model, random);
            let open = model.envelopes.values().filter(|envelope| !envelope.settled);
            let owed = open.flat_map(|e| e.wins.iter().filter(|win| win.claimed.is_none()).map(|win| (e.id, win)));
            let owed: Vec<_> = owed.map(|(id, win)| (id, win.user.clone())).collect();
            if owed.is_empty() || random.once_in(6) {
                return Command::Claim { envelope, user: any_user(random) };
            }
            let (envelope, user) = random.pick(&owed);
            Command::Claim { envelope, user }
        }
        63..=64 if random.once_in(3) => {
            Command::Redact { envelope: an_envelope(model, random), metadata: random.once_in(2) }
        }
        63..=65 => Command::Cancel { envelope: an_envelope(model, random) },
        66..=68 => {
            if random.once_in(3) {
                return withdraw_sales(model, random);
            }
            if random.once_in(2) {
                return verified(random);
            }
            let id = user(random.pick(&MERCHANTS));
            if random.once_in(4) {
                let by = random.once_in(2).then(|| "li".to_owned());
                let papers = NewVerification { by, reference: random.once_in(2).then(|| "papers".to_owned()) };
                let verified = NewMerchant::new(id, "Rosy", Some(MerchantStatus::Verified));
                let told_by = "app".to_owned();
                return Command::PutMerchant(Box::new(NewMerchant { verification: Some(papers), told_by, ..verified }));
            }
            let status = random.pick(&[None, Some(MerchantStatus::Pending), Some(MerchantStatus::Suspended)]);
            Command::PutMerchant(Box::new(NewMerchant::new(id, "Rosy Ltd", status)))
        }
        69..=72 => Command::CreateItem(Box::new(new_item(model, now, random))),
        73..=94 if model.items.is_empty() => Command::CreateItem(Box::new(new_item(model, now, random))),
        73..=74 => Command::ChangeItem { item: an_item(model, random), change: Box::new(change(now, random)) },
        75..=76 => Command::Restock { item: an_item(model, random), quantity: random.below(4) as u32 },
        77..=87 => {
            let quantity = if random.once_in(4) { random.below(4) } else { 1 };
            Command::GrabItem { item: an_item(model, random), user: any_user(random), quantity: quantity as u32 }
        }
        88..=94 => {
            let (hold, user) = a_hold(model, random);
            Command::ClaimHold { hold, user }
        }
        98 => {
            let known: Vec<ApiKeyId> = model.api_keys.keys().copied().collect();
            match random.below(5) {
                0..=1 if !known.is_empty() => Command::DeleteApiKey { key: random.pick(&known) },
                2 => Command::DeleteApiKey { key: ApiKeyId::from_bytes([0; 16]) },
                nth => {
                    let roles = vec![Role::Issuer, Role::Merchant(any_user(random))];
                    let (name, digest) = (format!("key {nth}"), [nth as u8; 32]);
                    Command::CreateApiKey(Box::new(NewApiKey { name, owner: any_user(random), roles, digest }))
                }
            }
        }
        95..=97 => {
            let (hold, user) = a_hold(model, random);
            Command::ReleaseHold { hold, user }
        }
        _ => Command::AdvanceClock { by_s: random.pick(&[1, 1, 5, 30, 61, 400]) },
    }
}

/// Moments to be asked at, each with something to ask for just then.
pub(crate) fn at_a_deadline(model: &Model, now: Timestamp, random: &mut Random) -> Option<(Timestamp, Command)> {
    let mut moments = Vec::new();
    for envelope in model.envelopes.values().filter(|envelope| !envelope.settled) {
        let grab = Command::Grab { envelope: envelope.id, user: any_user(random) };
        moments.push((envelope.opens_at, grab.clone()));
        moments.push((envelope.expires_at, grab));
        moments.push((envelope.expires_at, Command::Cancel { envelope: envelope.id }));
        for win in envelope.wins.iter().filter(|win| win.claimed.is_none()) {
            moments.push((envelope.claim_by, Command::Claim { envelope: envelope.id, user: win.user.clone() }));
        }
    }
    for (hold, _) in model.holds.values().filter(|(hold, _)| hold.state == HoldState::Held) {
        let (id, user) = (hold.id, hold.user.clone());
        moments.push((hold.expires_at, Command::ReleaseHold { hold: id, user: user.clone() }));
        moments.push((hold.expires_at, Command::ClaimHold { hold: id, user }));
        let user = any_user(random);
        moments.push((hold.expires_at, Command::GrabItem { item: hold.item, user, quantity: 1 }));
    }
    for given in model.given.values() {
        let Some(at) = given.deadline() else { continue };
        let gift = given.gift();
        for _ in 0..2 {
            let step = Box::new(a_step(model, gift.id, random));
            moments.push((at, Command::StepGift { gift: gift.id, step }));
        }
        let user = any_user(random);
        moments.push((at, Command::GrabItem { item: gift.item, user, quantity: 1 }));
        moments.push((at, new_gift(model, random)));
    }
    for together in model.groups.values() {
        let (Some(at), group) = (together.deadline(), together.group()) else { continue };
        let (id, user) = (group.id, a_sender(model, random));
        moments.push((at, Command::JoinGroup { group: id, user: user.clone() }));
        moments.push((at, Command::LeaveGroup { group: id, user: group.leader }));
        moments.push((at, Command::GrabItem { item: group.item, user, quantity: 1 }));
    }
    for (order, _) in model.orders.values() {
        let within_s = u64::from(model.items[&order.item].terms.origin.return_within_s);
        let until = order.progress.delivered_at.map(|at| at.plus_s(within_s));
        for at in until.into_iter().chain(order.progress.answer_by).filter(|at| *at > now) {
            let step = Box::new(an_orders_step(model, order.id, random));
            moments.push((at, Command::StepOrder { order: order.id, step }));
        }
    }
    for item in model.items.values() {
        for at in item.terms.starts_at.into_iter().chain(item.terms.ends_at) {
            moments.push((at, Command::GrabItem { item: item.id, user: any_user(random), quantity: 1 }));
        }
    }
    moments.retain(|(at, _)| *at > now);
    moments.sort_by_key(|(at, _)| *at);
    if !random.once_in(4) {
        moments.truncate(6);
    }
    if moments.is_empty() { None } else { Some(random.pick(&moments)) }
}

fn new_envelope(model: &Model, now: Timestamp, random: &mut Random) -> NewEnvelope {
    let sender = a_sender(model, random);
    let shares = random.between(1, 6);
    let balance = model.balance(&sender);
    let mut total = match random.below(10) {
        0 => random.between(1, 5_000),
        1 => balance.max(shares),
        _ => (balance / random.between(2, 8)).max(shares * 2),
    };
    let split = match random.below(8) {
        0 => {
            total = total / shares * shares;
            SplitRule::Equal
        }
        1 => SplitRule::Uniform { min_share: fen(1) },
        2 => {
            total = total.max(shares);
            let mut amounts = vec![fen(1); shares as usize];
            amounts[0] = fen(total - (shares - 1));
            SplitRule::Specified(amounts)
        }
        3 => SplitRule::Lucky { min_share: fen(random.below(3)), max_share: Some(fen(total / shares + 1)) },
        _ => SplitRule::Lucky { min_share: fen(1), max_share: None },
    };
    let opens_at = match random.below(10) {
        0 => Some(now),
        1 => Some(now.plus_s(random.pick(&[1, 10, 90]))),
        2 => Some(now.plus_ms(random.between(1, 200))),
        3 => random.maybe(3, |_| Timestamp::from_ms(now.ms() - 1)),
        _ => None,
    };
    NewEnvelope {
        owner: "app".to_owned(),
        sender,
        total: fen(total),
        shares: shares as u32,
        split,
        message: "恭喜发财".to_owned(),
        opens_at,
        expires_in_s: if random.once_in(60) { 0 } else { random.pick(&[1, 3, 60, 60, 400, 3_600]) },
        claim_within_s: random.pick(&[0, 1, 30, 600]),
        auto_claim: random.once_in(3),
        unclaimed: random.pick(&[Unclaimed::Return, Unclaimed::Credit]),
        reference: reference(random),
        metadata: r#"{"theme":1}"#.to_owned(),
        client_seed: random.maybe(3, |_| "mine".to_owned()),
        outside: Outside {
            funding: random.maybe(4, |random| format!("f{}", random.below(24))),
            payout: if random.once_in(3) { PayoutTo::External } else { PayoutTo::Wallet },
        },
    }
}

fn new_item(model: &Model, now: Timestamp, random: &mut Random) -> NewItem {
    let starts_at = match random.below(20) {
        0..=3 => Some(now.plus_ms(random.between(0, 2_000))),
        4 => Some(random.pick(&[Timestamp::from_ms(now.ms() - 1), now.plus_s(31_536_001)])),
        _ => None,
    };
    let kind = random.pick(&ItemKind::ALL);
    let is_right = kind != ItemKind::Code || random.once_in(10);
    NewItem {
        merchant: user(random.pick(&MERCHANTS)),
        name: "99 roses".to_owned(),
        category: "flowers".to_owned(),
        price: fen(if random.once_in(30) { 0 } else { random.between(1, 300) }),
        stock: if is_right { random.below(7) as u32 } else { 0 },
        per_user_limit: random.pick(&[None, Some(1), Some(1), Some(3)]),
        starts_at,
        ends_at: random.maybe(5, |random| now.plus_ms(random.between(1_000, 90_000))),
        hold_ttl_s: random.pick(&[1, 2, 60, 900]),
        image_url: random.once_in(6).then(|| "https://example.com/roses.png".to_owned()),
        origin: ItemOrigin {
            owner: random.pick(&["", "app", "shop"]).to_owned(),
            kind,
            return_within_s: random.pick(&[RETURN_WITHIN_S, RETURN_WITHIN_S, 60, 0]),
            variant_of: (random.once_in(4) && !model.items.is_empty()).then(|| an_item(model, random)),
        },
        group_buy: random.maybe(2, group_buy),
    }
}

/// Some of them for more than the item costs, which is refused.
fn group_buy(random: &mut Random) -> GroupBuy {
    let (size, price) = (random.pick(&[2, 2, 3]), random.pick(&[1, 1, 20, 60]));
    GroupBuy { size, price: fen(price), within_s: random.pick(&[1, 3, 60, 60, 400]) }
}

/// Mostly what comes next for an order, by who may do it.
fn step_order(model: &Model, random: &mut Random) -> Command {
    let known: Vec<OrderId> = model.orders.keys().copied().collect();
    let order = random.pick(&known);
    let step = Box::new(an_orders_step(model, order, random));
    Command::StepOrder { order: if random.once_in(30) { OrderId::from_bytes([0; 16]) } else { order }, step }
}

fn an_orders_step(model: &Model, order: OrderId, random: &mut Random) -> OrderStep {
    let (order, _) = &model.orders[&order];
    let user = if random.once_in(10) { any_user(random) } else { order.user.clone() };
    let text = |random: &mut Random| format!("text {}", random.below(3));
    let next = match order.progress.state {
        OrderState::Paid => random.pick(&[0, 0, 1, 2]),
        OrderState::Shipped => random.pick(&[1, 1, 2]),
        OrderState::Delivered => 2,
        OrderState::ReturnRequested => random.pick(&[2, 3, 4, 4]),
        OrderState::Returned | OrderState::Refused => random.below(5),
    };
    match if random.once_in(5) { random.below(5) } else { next } {
        0 => OrderStep::Ship { carrier: text(random), tracking: text(random) },
        1 => OrderStep::Deliver,
        2 => OrderStep::Return { user, reason: text(random) },
        3 => OrderStep::AcceptReturn { restock: random.once_in(2) },
        _ => OrderStep::RefuseReturn { reason: text(random) },
    }
}

/// Codes of few, so that many have been added before; mostly for an item that takes some.
fn add_codes(model: &Model, random: &mut Random) -> Command {
    let taking: Vec<ItemId> = model.items.keys().copied().filter(|item| model.sells_codes(*item)).collect();
    let item = if random.once_in(15) { an_item(model, random) } else { random.pick(&taking) };
    let codes = (0..random.below(5)).map(|_| Code::new(format!("code-{}", random.below(60)))).collect();
    Command::AddCodes { item, codes }
}

fn ago(now: Timestamp, seconds: u64) -> Timestamp {
    Timestamp::from_ms(now.ms() - seconds * 1000)
}

fn change(now: Timestamp, random: &mut Random) -> ItemChange {
    ItemChange {
        price: random.maybe(3, |random| fen(random.below(500))),
        per_user_limit: random.maybe(2, |random| random.pick(&[None, Some(1), Some(2)])),
        ends_at: random.maybe(4, |random| random.pick(&[None, Some(now), Some(ago(now, 61)), Some(now.plus_s(20))])),
        hold_ttl_s: random.maybe(4, |random| random.pick(&[1, 100])),
        group_buy: random.maybe(4, |random| random.maybe(2, group_buy)),
        ..ItemChange::default()
    }
}
