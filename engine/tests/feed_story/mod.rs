//! A story and the feed of it, for any engine: whatever lists tell, the feed
//! has told, once and in order.

#![allow(dead_code)]

use crate::stand::*;
use hongbao_engine::backend::{Backend, OnceKey, Page};
use hongbao_engine::command::*;
use hongbao_engine::feed::*;
use hongbao_engine::gift::{GiftState, GiftStep, GiftToken, NewGift};
use hongbao_engine::order::OrderStep;
use hongbao_engine::payment::{NewPayment, PaymentFor, PaymentTold};
use hongbao_engine::payout::*;
use hongbao_engine::types::*;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn query(after: After, types: EventTypes, limit: usize) -> EventQuery {
    EventQuery { after, types, owner: None, limit, until: None }
}

/// Everything behind a position, in pages of `limit`, and where that ended.
pub(crate) fn follow<B: Backend>(
    engine: &B,
    after: After,
    types: EventTypes,
    owner: Option<&str>,
    limit: usize,
) -> (Vec<FeedEvent>, Vec<u8>) {
    pages(engine, EventQuery { owner: owner.map(str::to_owned), ..query(after, types, limit) })
}

/// All that is asked for, page by page, and where that ended.
fn pages<B: Backend>(engine: &B, mut query: EventQuery) -> (Vec<FeedEvent>, Vec<u8>) {
    let mut events = Vec::new();
    loop {
        let page = wait(engine.events(&query)).expect("the feed is read");
        assert!(page.events.len() <= query.limit, "a page is no longer than it may be");
        events.extend(page.events);
        if page.is_end {
            return (events, page.next);
        }
        query.after = After::Cursor(page.next);
    }
}

/// Whether what lies between two of these events, which were one page, is what it was then, whatever was told since.
pub(crate) fn assert_stays_between<B: Backend>(engine: &B, events: &[FeedEvent]) {
    let end = events.len() - 1;
    let ids = |events: &[FeedEvent]| events.iter().map(|event| event.id.to_string()).collect::<BTreeSet<_>>();
    for (first, last) in [(0, end), (0, end / 3), (end / 3, end - 1), (end / 2, end / 2), (end - 1, end)] {
        let (after, until) = (After::Cursor(events[first].cursor.clone()), events[last].cursor.clone());
        for limit in [1, 3, 1000] {
            for of in [EventTypes::ALL, EventTypes::USUAL] {
                let wanted = EventQuery { until: Some(until.clone()), ..query(after.clone(), of, limit) };
                let told = pages(engine, wanted).0;
                let expected: Vec<_> =
                    events[first + 1..=last].iter().filter(|event| of.has(event.what.event_type())).cloned().collect();
                let what = format!("from {first} to {last} in pages of {limit}");
                assert_eq!((told.len(), ids(&told)), (expected.len(), ids(&expected)), "{what}");
                assert_eq!(by_thing(&told), by_thing(&expected), "{what}");
            }
        }
    }
}

pub(crate) fn all<B: Backend>(engine: &B) -> Vec<FeedEvent> {
    follow(engine, After::Oldest, EventTypes::ALL, None, 1000).0
}

/// What was made in the story.
pub(crate) struct Made {
    pub(crate) envelopes: Vec<EnvelopeId>,
    pub(crate) users: Vec<UserId>,
    pub(crate) item: ItemId,
}

/// Gifts of which each state is met, the last of them once their time is over.
pub(crate) fn play_gifts<B: Backend>(engine: &B, item: ItemId) {
    let (alice, bob) = (user("alice"), user("bob"));
    engine.deposit(&alice, 1000);
    let give = |payer: &str| {
        let terms = NewGift { payer: user(payer), ..NewGift::new("shop", alice.clone(), bob.clone(), item) };
        match engine.ask(Command::CreateGift(Box::new(terms))) {
            Outcome::Gift(gift) => gift.id,
            other => panic!("not given: {other:?}"),
        }
    };
    let accept = GiftStep::Accept { user: bob.clone(), token: None::<GiftToken> };
    let ship = GiftStep::Ship { carrier: "sf".to_owned(), tracking: "SF1".to_owned() };
    let rows = [
        vec![accept.clone(), ship, GiftStep::Deliver, GiftStep::Thank { user: bob.clone(), note: "thanks".to_owned() }],
        vec![accept, GiftStep::Fail { reason: "frost".to_owned() }],
        vec![GiftStep::Decline { user: bob.clone(), reason: None }],
        vec![GiftStep::Cancel { user: alice.clone() }],
    ];
    for steps in rows {
        let gift = give("alice");
        for step in steps {
            let done = engine.ask(Command::StepGift { gift, step: Box::new(step) });
            assert!(matches!(done, Outcome::Gift(_)), "{done:?}");
        }
    }
    give("carol");
}

/// What comes of orders once they are paid.
pub(crate) fn play_orders<B: Backend>(engine: &B, item: ItemId) {
    let bob = user("bob");
    engine.deposit(&bob, 1000);
    let back = OrderStep::Return { user: bob.clone(), reason: "too big".to_owned() };
    let rows = [
        vec![
            OrderStep::Ship { carrier: "sf".to_owned(), tracking: "SF2".to_owned() },
            OrderStep::Deliver,
            back.clone(),
            OrderStep::AcceptReturn { restock: true },
        ],
        vec![back, OrderStep::RefuseReturn { reason: "it was worn".to_owned() }],
    ];
    for steps in rows {
        let hold = match engine.ask(Command::GrabItem { item, user: bob.clone(), quantity: 1 }) {
            Outcome::Held { hold, .. } => hold,
            other => panic!("not held: {other:?}"),
        };
        let order = match engine.ask(Command::ClaimHold { hold, user: bob.clone() }) {
            Outcome::Ordered { order, .. } => order,
            other => panic!("not paid: {other:?}"),
        };
        for step in steps {
            let done = engine.ask(Command::StepOrder { order, step: Box::new(step) });
            assert!(matches!(done, Outcome::Order(_)), "{done:?}");
        }
    }
}

/// What comes of payments outside: one that fails, and one that comes all the same and goes back.
pub(crate) fn play_payments<B: Backend>(engine: &B, item: ItemId) {
    let bob = user("bob");
    let hold = match engine.ask(Command::GrabItem { item, user: bob.clone(), quantity: 1 }) {
        Outcome::Held { hold, .. } => hold,
        other => panic!("not held: {other:?}"),
    };
    let tell = |payment, told| _ = engine.ask(Command::TellPayment { payment, told: Box::new(told) });
    let pay = || {
        let (gateway, purpose, payer) = ("alipay".to_owned(), PaymentFor::Hold(hold), bob.clone());
        let terms = NewPayment { gateway, purpose, payer, pay_within_s: 60, keep_s: 60 };
        match engine.ask(Command::CreatePayment(Box::new(terms))) {
            Outcome::Payment(payment) => (payment.id, payment.amount),
            other => panic!("not to be paid: {other:?}"),
        }
    };
    let (first, amount) = pay();
    tell(first, PaymentTold::Failed { reason: "no such card".to_owned() });
    let paid = || PaymentTold::Paid { amount, number: "1".to_owned() };
    let (second, _) = pay();
    tell(second, paid());
    tell(first, paid());
    tell(first, PaymentTold::Refunded { number: None });
}

/// Envelopes that sell out, are cancelled and are left to end; holds that are
/// paid, given back and left to end; money in and out.
pub(crate) fn play<B: Backend>(engine: &B) -> Made {
    let (alice, bob, carol, dave) = (user("alice"), user("bob"), user("carol"), user("dave"));
    let of_shop = |terms: NewEnvelope| NewEnvelope { owner: "shop".to_owned(), ..terms };
    let referred = NewEnvelope { reference: Some(reference("shop", "gala-1")), ..of_shop(envelope(100, 2)) };
    let sold_out = engine.give(referred);
    let cancelled = engine.give(of_shop(envelope(90, 4)));
    let left = engine.give(envelope(80, 4));
    let credited = engine.give(NewEnvelope { unclaimed: Unclaimed::Credit, ..envelope(70, 2) });
    let at_once = engine.give(NewEnvelope { auto_claim: true, ..envelope(60, 2) });
    for id in [sold_out, cancelled, left, credited, at_once] {
        for user in [&bob, &carol] {
            assert!(matches!(engine.grab(id, user), Outcome::Won { .. }));
        }
        // Asked again nothing happens.
        assert!(matches!(engine.grab(id, &bob), Outcome::Won { replayed: true, .. }));
        engine.grab(id, &dave);
    }
    for user in [&bob, &carol] {
        assert!(matches!(engine.claim(sold_out, user), Outcome::Claimed { .. }));
    }
    assert!(matches!(engine.claim(left, &bob), Outcome::Claimed { .. }));
    for metadata in [false, false, true, true] {
        engine.ask(Command::Redact { envelope: left, metadata });
    }
    engine.cancel(cancelled);
    let item = engine.sell(item(10));
    let papers = NewVerification { by: Some("Li Lei".to_owned()), reference: Some("p 1".to_owned()) };
    for (status, verification) in [("suspended", None), ("pending", None), ("verified", Some(papers))] {
        let status = MerchantStatus::ALL.into_iter().find(|it| it.name() == status);
        let rosy = NewMerchant::new(user("rosy"), "Rosy 花店", status);
        // What she sells is settled while the story lasts.
        let settle_after_s = Some(60);
        engine.ask(Command::PutMerchant(Box::new(NewMerchant { verification, settle_after_s, ..rosy })));
    }
    engine.ask(Command::Restock { item, quantity: 5 });
    engine.deposit(&dave, 500);
    let held = |quantity| match engine.grab_item(item, &dave, quantity) {
        Outcome::Held { hold, .. } => hold,
        other => panic!("a hold was expected, not {other:?}"),
    };
    let (paid, released, _left) = (held(1), held(2), held(3));
    engine.claim_hold(paid, &dave);
    engine.release_hold(released, &dave);
    let out = Transfer { user: dave.clone(), amount: fen(7), reference: Some(reference("shop", "out-1")) };
    engine.ask(Command::Withdraw(out));
    let outside = pay_outside(engine, of_shop(envelope(50, 4)), "alipay-1", [&bob, &carol]);
    let auto_claim = NewEnvelope { auto_claim: true, ..of_shop(envelope(40, 4)) };
    let outside_at_once = pay_outside(engine, auto_claim, "alipay-2", [&carol, &dave]);
    Made {
        envelopes: vec![sold_out, cancelled, left, credited, at_once, outside, outside_at_once],
        users: vec![alice, bob, carol, dave],
        item,
    }
}

/// An envelope past the wallets. What came of its payouts is told in every state, and one of them fails and is
/// tried again.
fn pay_outside<B: Backend>(engine: &B, terms: NewEnvelope, funding: &str, winners: [&UserId; 2]) -> EnvelopeId {
    let outside = Outside { funding: Some(funding.to_owned()), payout: PayoutTo::External };
    let id = engine.give(NewEnvelope { outside, ..terms });
    for user in winners {
        assert!(matches!(engine.grab(id, user), Outcome::Won { .. }));
        assert!(matches!(engine.claim(id, user), Outcome::Claimed { .. }));
    }
    use PayoutState::{Due, Failed, Paid, Sent};
    for (payout, states) in payouts_of(engine, id).into_iter().zip([&[Sent, Failed, Due, Sent, Paid][..], &[Failed]]) {
        for (nth, state) in states.iter().enumerate() {
            let reference = (*state == Sent).then(|| "bank-1".to_owned());
            let reason = (*state == Failed).then(|| "no such account".to_owned());
            let result = PayoutResult { payout: payout.id, state: *state, reference, reason };
            // Told again, under the same key or another, it is nothing new.
            for key in ["a", "a", "b"] {
                let once = OnceKey::idempotency("shop", "results", &format!("{}-{nth}-{key}", payout.id));
                engine.ask_under(Command::PayoutResults(vec![result.clone()]), Some(once));
            }
        }
    }
    id
}

pub(crate) fn payouts_of<B: Backend>(engine: &B, envelope: EnvelopeId) -> Vec<Payout> {
    let filter = PayoutFilter { envelope: Some(envelope), ..PayoutFilter::default() };
    let listing = wait(engine.payouts(&filter, &Page { limit: 1000, cursor: None })).expect("a list");
    listing.rows.into_iter().map(|view| view.payout).collect()
}

/// What an event is about, and whose order it keeps.
fn thing(event: &FeedEvent) -> String {
    match &event.what {
        Happened::Created(view) => view.id.to_string(),
        Happened::SoldOut(envelope)
        | Happened::Expired { envelope, .. }
        | Happened::Cancelled { envelope, .. }
        | Happened::Settled { envelope, .. }
        | Happened::Redacted { envelope, .. }
        | Happened::Lapsed { envelope, .. } => envelope.id.to_string(),
        Happened::Grabbed(share) | Happened::Claimed(share) => share.envelope.id.to_string(),
        Happened::Deposited(moved) | Happened::Withdrawn(moved) => moved.user.to_string(),
        Happened::Item(put) => put.id.to_string(),
        Happened::Hold(hold) => hold.id.to_string(),
        Happened::Order(order) => order.id.to_string(),
        Happened::Payout(view) => view.payout.id.to_string(),
        Happened::Merchant(merchant) => format!("merchant {}", merchant.id),
        Happened::Gift(gift) | Happened::GiftRedacted(gift) => gift.id.to_string(),
        Happened::Payment(payment) => payment.id.to_string(),
        Happened::Group(happened) => happened.group.id.to_string(),
        Happened::SalesSettled(settled) => format!("merchant {}", settled.merchant),
    }
}

/// By what it is about: the names of what happened, in order.
pub(crate) fn by_thing(events: &[FeedEvent]) -> BTreeMap<String, Vec<&'static str>> {
    let mut things: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in events {
        things.entry(thing(event)).or_default().push(event.what.event_type().name());
    }
    things
}

/// Whether lists and feed tell the same of what was made; what happened to one
/// envelope in order, if that is promised.
pub(crate) fn assert_agrees<B: Backend>(engine: &B, made: &Made, events: &[FeedEvent], in_order: bool) {
    let ids: BTreeSet<_> = events.iter().map(|event| event.id.to_string()).collect();
    assert_eq!(ids.len(), events.len(), "no event is told twice");
    let things = by_thing(events);
    for id in &made.envelopes {
        let view = engine.seen(*id);
        let told = &things[&id.to_string()];
        let count = |name: &str| told.iter().filter(|it| **it == name).count();
        let at = |name: &str| told.iter().position(|it| *it == name);
        assert_eq!(count("envelope.created"), 1, "{told:?}");
        let created = events.iter().find_map(|event| match &event.what {
            Happened::Created(created) if created.id == *id => Some(created),
            _ => None,
        });
        assert_eq!(created.map(|created| &created.outside), Some(&view.outside), "{id}");
        assert_eq!(count("envelope.redacted"), if view.redacted_at.is_some() { 2 } else { 0 }, "{told:?}");
        assert!(!in_order || told[0] == "envelope.created", "{told:?}");
        let ends = [
            ("envelope.sold_out", EndedAs::SoldOut),
            ("envelope.expired", EndedAs::Expired),
            ("envelope.cancelled", EndedAs::Cancelled),
        ];
        for (name, how) in ends {
            assert_eq!(count(name), usize::from(view.ended_as == Some(how)), "{id} {name}: {told:?}");
        }
        for payout in payouts_of(engine, *id) {
            let of_it = |event: &&FeedEvent| matches!(&event.what, Happened::Payout(it) if it.payout.id == payout.id);
            let told: Vec<_> = events.iter().filter(of_it).collect();
            let Happened::Payout(last) = &told.last().expect("it is told").what else { panic!("{told:?}") };
            assert_eq!((&last.payout, &*last.owner), (&payout, "shop"), "as the list has it");
            assert!(last.funding_reference.as_deref().is_some_and(|reference| reference.starts_with("alipay-")));
            let states: Vec<_> = told.iter().map(|event| event.what.event_type().name()).collect();
            let expected: &[&str] = match payout.state {
                PayoutState::Paid => &["due", "sent", "failed", "due", "sent", "paid"],
                PayoutState::Failed => &["due", "failed"],
                _ => &["due"],
            };
            assert!(states.iter().map(|name| &name["payout.".len()..]).eq(expected.iter().copied()), "{states:?}");
        }
        let is_settled = view.state == EnvelopeState::Settled;
        assert_eq!(count("envelope.settled"), usize::from(is_settled), "{id}: {told:?}");
        assert!(!is_settled || !in_order || told.last() == Some(&"envelope.settled"), "{id}: {told:?}");
        let grabs = engine.all_grabs(*id);
        assert_eq!(count("share.grabbed"), grabs.len(), "{id}: {told:?}");
        let claimed: BTreeMap<_, _> = events
            .iter()
            .filter_map(|event| match &event.what {
                Happened::Claimed(share) if share.envelope.id == *id => Some((share.user.clone(), (share, event.at))),
                _ => None,
            })
            .collect();
        for grab in &grabs {
            let told = claimed.get(&grab.user).map(|(share, at)| (share.share, share.amount, share.grabbed_at, *at));
            let listed = grab.claimed_at.map(|at| (grab.share, grab.amount, grab.grabbed_at, at));
            assert_eq!(told, listed, "{id}: {}", grab.user);
        }
        assert_eq!(claimed.len(), grabs.iter().filter(|grab| grab.claimed_at.is_some()).count());
        assert!(at("share.claimed").is_none_or(|claimed| claimed > at("share.grabbed").unwrap()));
    }
    for user in &made.users {
        let entries = wait(engine.entries(user, &Page { limit: 1000, cursor: None })).unwrap().rows;
        let moved: Vec<_> = entries
            .iter()
            .rev()
            .filter_map(|entry| match &entry.kind {
                hongbao_engine::backend::EntryKind::Deposit(reference) => {
                    Some((entry.at, true, entry.amount, reference))
                }
                hongbao_engine::backend::EntryKind::Withdrawal(reference) => {
                    Some((entry.at, false, entry.amount, reference))
                }
                _ => None,
            })
            .collect();
        let told: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.what {
                Happened::Deposited(moved) if moved.user == *user => {
                    Some((event.at, true, moved.amount, &moved.reference))
                }
                Happened::Withdrawn(moved) if moved.user == *user => {
                    Some((event.at, false, moved.amount, &moved.reference))
                }
                _ => None,
            })
            .collect();
        assert_eq!(told, moved, "{user}");
    }
    let stock = engine.stock(made.item);
    let (mut units, mut gifts) = ((0, 0), BTreeMap::new());
    for event in events {
        match &event.what {
            Happened::Gift(gift) if gift.item == made.item => drop(gifts.insert(gift.id, gift.state)),
            Happened::Hold(hold) if hold.item == made.item => match hold.state {
                HoldState::Held => units.0 += hold.quantity,
                HoldState::Claimed(_) => (units.0, units.1) = (units.0 - hold.quantity, units.1 + hold.quantity),
                HoldState::Released | HoldState::Expired => units.0 -= hold.quantity,
            },
            Happened::Order(order) if order.progress.restocked => units.1 -= order.quantity,
            _ => {}
        }
    }
    for state in gifts.into_values() {
        match state {
            GiftState::AwaitingPayment | GiftState::Offered => units.0 += 1,
            GiftState::Accepted | GiftState::Shipped | GiftState::Delivered => units.1 += 1,
            _ => {}
        }
    }
    assert_eq!(units, (stock.held, stock.sold));
    let count = |of| events.iter().filter(|event| event.what.event_type() == of).count();
    assert_eq!(count(EventType::OrderCreated), count(EventType::HoldClaimed));
    let put: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.what {
            Happened::Item(put) => Some(put.stock_total),
            _ => None,
        })
        .collect();
    assert_eq!(put, [10, 15]);
    let merchants: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.what {
            Happened::Merchant(merchant) => Some((**merchant).clone()),
            _ => None,
        })
        .collect();
    let stood: Vec<_> = merchants.iter().map(|merchant| merchant.status.name()).collect();
    assert_eq!(stood, ["verified", "suspended", "pending", "verified"], "the history of its status");
    assert_eq!(merchants.last().cloned(), wait(engine.merchant(&user("rosy"))).unwrap());
    let papers = merchants[3].verification.as_ref().expect("its papers were checked");
    assert_eq!((&*papers.by, papers.reference.as_deref()), ("Li Lei", Some("p 1")));
}
