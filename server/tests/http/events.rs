//! The feed of events over HTTP: what is asked of the engine, and how it is told.

use crate::fake::*;
use axum::body::Body;
use axum::http::{Method, Request};
use hongbao_engine::command::*;
use hongbao_engine::event::ItemPut;
use hongbao_engine::feed::*;
use hongbao_engine::gift::{Gift, GiftState};
use hongbao_engine::order::{OrderProgress, OrderState};
use hongbao_engine::payment::{Payment, PaymentState};
use hongbao_engine::payout::*;
use hongbao_engine::redaction::Redaction;
use hongbao_engine::sale::{MerchantBalance, SaleTerms};
use hongbao_engine::types::*;
use hongbao_server::service::OPENAPI;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tower::ServiceExt;

fn amount(minor: u64) -> Amount {
    Amount::new(minor).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn facts() -> EnvelopeFacts {
    let reference = Some("gala-1".to_owned());
    let (owner, funding_reference) = ("shop".into(), Some("alipay-1".to_owned()));
    EnvelopeFacts { id: envelope_id(1), owner, sender: user("alice"), reference, funding_reference }
}

fn event(n: u8, what: Happened) -> FeedEvent {
    FeedEvent { id: EventId::from_bytes([n; 16]), at: NOW, what, cursor: vec![n] }
}

fn view() -> EnvelopeView {
    EnvelopeView {
        id: envelope_id(1),
        owner: "shop".into(),
        sender: user("alice"),
        state: EnvelopeState::Open,
        ended_as: None,
        total: amount(1000),
        shares: 3,
        split: "lucky".into(),
        message: "hello".into(),
        remaining_shares: 3,
        remaining_amount: amount(1000),
        claimed_amount: Amount::ZERO,
        refunded_amount: Amount::ZERO,
        created_at: NOW,
        opens_at: NOW,
        expires_at: NOW,
        claim_by: NOW,
        commitment: [9; 32],
        secret: None,
        reference: Some("gala-1".into()),
        metadata: "{}".into(),
        outside: Outside::default(),
        redacted_at: None,
    }
}

fn paying(state: PayoutState) -> Happened {
    let payout = Payout {
        id: PayoutId::from_bytes([6; 16]),
        kind: PayoutKind::Win,
        user: user("bob"),
        amount: amount(417),
        envelope: envelope_id(1),
        state,
        attempts: 1,
        reference: Some("bank-7".into()),
        reason: None,
        created_at: NOW,
        changed_at: NOW,
    };
    Happened::Payout(Box::new(PayoutView { payout, owner: "shop".into(), funding_reference: Some("alipay-1".into()) }))
}

/// One of each type.
fn all() -> Vec<FeedEvent> {
    let share = Share {
        envelope: facts(),
        share: 2,
        amount: amount(417),
        user: user("bob"),
        grabbed_at: Timestamp::from_ms(0),
    };
    let moved = Moved { user: user("bob"), amount: amount(5), available: amount(7), reference: None };
    let item = ItemId::from_bytes([3; 16]);
    let (hold, order) = (HoldId::from_bytes([4; 16]), OrderId::from_bytes([5; 16]));
    let held = |state| {
        let (user, amount) = (user("bob"), amount(20));
        let hold = HoldView { id: hold, item, user, quantity: 2, amount, state, created_at: NOW, expires_at: NOW };
        Happened::Hold(Box::new(hold))
    };
    let terms = NewItem {
        merchant: user("rosy"),
        name: "99 roses".into(),
        category: "flowers".into(),
        price: amount(10),
        stock: 5,
        per_user_limit: Some(1),
        starts_at: None,
        ends_at: None,
        hold_ttl_s: 900,
        image_url: None,
        origin: ItemOrigin { owner: "shop".into(), ..ItemOrigin::default() },
        group_buy: None,
    };
    let what = [
        Happened::Created(Box::new(view())),
        Happened::SoldOut(facts()),
        Happened::Expired { envelope: facts(), refunded: amount(1) },
        Happened::Cancelled { envelope: facts(), refunded: amount(2) },
        Happened::Settled { envelope: facts(), ended_as: EndedAs::SoldOut, claimed: amount(3), refunded: amount(4) },
        Happened::Grabbed(share.clone()),
        Happened::Claimed(share),
        Happened::Lapsed { envelope: facts(), amount: amount(6) },
        Happened::Deposited(moved.clone()),
        Happened::Withdrawn(moved),
        Happened::Item(Box::new(ItemPut { id: item, created_at: NOW, terms, stock_total: 8 })),
        held(HoldState::Held),
        held(HoldState::Claimed(order)),
        held(HoldState::Released),
        held(HoldState::Expired),
        Happened::Order(Box::new(OrderView {
            id: order,
            hold,
            item,
            merchant: user("rosy"),
            user: user("bob"),
            quantity: 2,
            amount: amount(20),
            created_at: NOW,
            progress: OrderProgress::default(),
        })),
        paying(PayoutState::Due),
        paying(PayoutState::Sent),
        paying(PayoutState::Paid),
        paying(PayoutState::Failed),
        Happened::Redacted { envelope: facts(), redaction: Redaction { at: NOW, metadata: true } },
        Happened::Merchant(Box::new(Merchant {
            id: user("rosy"),
            name: "Rosy".into(),
            status: MerchantStatus::Suspended,
            verification: Some(Verification { by: "li".into(), reference: None, at: NOW }),
            terms: SaleTerms::default(),
        })),
        Happened::SalesSettled(Box::new(SalesSettled {
            merchant: user("rosy"),
            due: NOW,
            amount: amount(100),
            commission: amount(2),
            balance: MerchantBalance { pending: amount(0), available: amount(98) },
        })),
    ];
    let gifts = GiftState::ALL.map(|state| Happened::Gift(Box::new(Gift { state, ..a_gift(1) })));
    let orders = OrderState::ALL.into_iter().filter(|state| *state != OrderState::Paid);
    let orders = orders.map(|state| {
        let progress = OrderProgress { state, ..OrderProgress::default() };
        Happened::Order(Box::new(OrderView { progress, ..an_order(1) }))
    });
    let groups = [
        (EventType::GroupOpened, Some("alice")),
        (EventType::GroupJoined, Some("bob")),
        (EventType::GroupLeft, Some("bob")),
        (EventType::GroupFull, None),
        (EventType::GroupExpired, None),
        (EventType::GroupLeaderLeft, None),
    ];
    let groups = groups
        .map(|(what, who)| Happened::Group(Box::new(GroupHappened { what, user: who.map(user), group: a_group(1) })));
    let redacted = Happened::GiftRedacted(Box::new(a_gift(1)));
    let payments = PaymentState::ALL.into_iter().filter(|state| {
        // Those two are told as what they are to whoever waits: to be paid, or not paid.
        !matches!(state, PaymentState::Pending | PaymentState::Expired)
    });
    let payments = payments.map(|state| Happened::Payment(Box::new(Payment { state, ..a_payment(1) })));
    let rest = gifts.into_iter().chain([redacted]).chain(orders).chain(groups).chain(payments);
    what.into_iter().chain(rest).zip(1..).map(|(what, n)| event(n, what)).collect()
}

impl Site {
    fn asked(&self) -> EventQuery {
        self.fake.inner.lock().unwrap().asked_events.last().unwrap().clone()
    }

    fn tell(&self, events: Vec<FeedEvent>) {
        self.fake.inner.lock().unwrap().events = events;
    }
}

#[tokio::test]
async fn every_type_is_told_as_the_document_says() {
    let site = Site::new();
    site.tell(all());
    let answer = site.get("/v1/events?types=envelope.*,share.*&limit=3").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!(told["next_cursor"], "0708");
    let events = told["events"].as_array().unwrap();
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let schema = |name: &str| &document["components"]["schemas"][name];
    let types: BTreeSet<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let documented: BTreeSet<_> = schema("Event")["properties"]["type"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(types, documented);
    assert_eq!(types, EventType::ALL.iter().map(|of| of.name()).collect::<BTreeSet<_>>());
    for event in events {
        let kind = event["type"].as_str().unwrap();
        let of_envelope =
            ["envelope.", "share.", "payout.", "item.", "gift.", "group."].iter().any(|group| kind.starts_with(group));
        assert_eq!(event["owner"], if of_envelope { json!("shop") } else { Value::Null }, "{kind}");
        assert_eq!(event["at"], NOW_TEXT);
        let (shape, lacks) = match kind {
            "envelope.created" => ("Envelope", &[][..]),
            "share.lapsed" => ("LapsedShares", &[][..]),
            "envelope.redacted" => ("RedactedEnvelope", &[][..]),
            kind if kind.starts_with("envelope.") => ("EnvelopeChanged", &[][..]),
            kind if kind.starts_with("share.") => ("ShareOf", &[][..]),
            kind if kind.starts_with("wallet.") => ("MovedMoney", &[][..]),
            "item.put" => ("Item", &["free", "held", "sold"][..]),
            kind if kind.starts_with("order.") => ("Order", &[][..]),
            "merchant.changed" => ("Merchant", &[][..]),
            "merchant.settled" => ("SettledSales", &[][..]),
            kind if kind.starts_with("payout.") => ("Payout", &[][..]),
            kind if kind.starts_with("payment.") => ("Payment", &[][..]),
            kind if kind.starts_with("gift.") => ("Gift", &[][..]),
            kind if kind.starts_with("group.") => ("GroupHappened", &[][..]),
            _ => ("Hold", &[][..]),
        };
        let names: BTreeSet<_> = event["data"].as_object().unwrap().keys().map(String::as_str).collect();
        let required = schema(shape)["required"].as_array().unwrap();
        let missing: Vec<_> =
            required.iter().filter_map(Value::as_str).filter(|it| !names.contains(it) && !lacks.contains(it)).collect();
        assert!(missing.is_empty(), "{kind} lacks {missing:?} of {shape}: {event}");
        let known = schema(shape)["properties"].as_object().unwrap();
        assert!(names.iter().all(|name| known.contains_key(*name)), "{kind}: {names:?} are not all in {shape}");
    }
    assert_eq!(events[1]["data"]["state"], "sold_out");
    assert_eq!(events[4]["data"]["claimed_amount"], 3);
    assert_eq!(events[6]["data"]["claimed_at"], NOW_TEXT);
    assert_eq!(events[10]["data"]["stock"], json!({"total": 8}));
    assert_eq!((&events[18]["type"], &events[18]["data"]["state"]), (&json!("payout.paid"), &json!("paid")));
    assert_eq!(events[20]["data"]["with_metadata"], true);
    assert!(
        site.get("/metrics")
            .await
            .text()
            .lines()
            .any(|line| line == format!("hongbao_events_told_total {}", all().len()))
    );
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_engine() {
    let site = Site::new();
    let grabs = EventTypes::of(EventType::ShareGrabbed);
    for (query, after, types, limit) in [
        ("wait_s=0", After::Oldest, EventTypes::USUAL, 100),
        ("wait_s=0&after=oldest", After::Oldest, EventTypes::USUAL, 100),
        ("wait_s=0&after=now&limit=1000", After::Now, EventTypes::USUAL, 1000),
        ("wait_s=0&after=0aff&types=share.grabbed&limit=1", After::Cursor(vec![10, 255]), grabs, 1),
    ] {
        let answer = site.get(&format!("/v1/events?{query}")).await;
        assert_eq!(answer.json(), json!({"events": [], "next_cursor": "0708"}), "{query}");
        let asked = site.asked();
        assert_eq!((asked.after, asked.types, asked.limit, asked.owner), (after, types, limit, None), "{query}");
    }
    for (query, field) in [
        ("types=share.lost", "types"),
        ("types=", "types"),
        ("types=share.claimed,,", "types"),
        ("after=xyz", "after"),
        ("after=626164", "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("wait_s=56", "wait_s"),
        ("wait_s=-1", "wait_s"),
        ("cursor=00", "cursor"),
    ] {
        let problem = site.get(&format!("/v1/events?{query}")).await.assert_problem(422, "invalid_field", query);
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
    let gone = site.get("/v1/events?after=6f6c64").await.assert_problem(410, "cursor_gone", "an old one");
    assert_eq!((&gone["oldest_cursor"], &gone["retry"]), (&json!("0102"), &json!("never")));
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_and_then_says_where_to_go_on() {
    let site = Site::new();
    let began = tokio::time::Instant::now();
    assert_eq!(site.get("/v1/events?after=now").await.json(), json!({"events": [], "next_cursor": "0708"}));
    assert!(began.elapsed() >= std::time::Duration::from_secs(25));
    assert_eq!(site.asked().after, After::Now, "it was asked once, as nothing woke it");
    site.server.stop.cancel();
    let began = tokio::time::Instant::now();
    assert_eq!(site.get("/v1/events").await.status, 200);
    assert_eq!(began.elapsed(), std::time::Duration::ZERO, "a server that stops lets nobody wait");
}

async fn stream(site: &Site, path: &str, last_id: Option<&str>) -> axum::response::Response {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header("authorization", format!("Bearer {KEY}"))
        .header("accept", "text/html, text/event-stream;q=0.9");
    if let Some(id) = last_id {
        request = request.header("last-event-id", id);
    }
    site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn part(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.unwrap().into_data().unwrap();
    Some(String::from_utf8(frame.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_events_beats_and_ends() {
    let site = Site::new();
    site.tell(all().into_iter().take(2).collect());
    let response = stream(&site, "/v1/events?after=now", Some("0a")).await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((header("content-type"), header("cache-control")), ("text/event-stream".into(), "no-store".into()));
    assert_eq!(site.asked().after, After::Cursor(vec![10]), "the last id counts before the address");
    let mut body = response.into_body();
    let text = part(&mut body).await.unwrap();
    let blocks: Vec<_> = text.split_terminator("\n\n").collect();
    assert_eq!(blocks[0], "retry: 1000");
    let lines: Vec<_> = blocks[2].lines().collect();
    assert_eq!(lines[..2], ["id: 02", "event: envelope.sold_out"]);
    let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&data["type"], blocks.len()), (&json!("envelope.sold_out"), 3));
    let began = tokio::time::Instant::now();
    assert_eq!(part(&mut body).await.unwrap(), "id: 0708\n\n", "a beat moves the id on");
    assert_eq!(began.elapsed(), std::time::Duration::from_secs(15));
    site.server.stop.cancel();
    assert_eq!(part(&mut body).await, None, "it ends in order when the server stops");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_key() {
    let site = Site::new();
    let made = site.post("/v1/keys", "k", r#"{"name":"log","roles":["viewer"]}"#).await.json();
    let request = Request::builder()
        .uri("/v1/events")
        .header("authorization", format!("Bearer {}", made["key"].as_str().unwrap()))
        .header("accept", "text/event-stream");
    let response = site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(part(&mut body).await.unwrap(), "retry: 1000\n\n");
    assert_eq!(part(&mut body).await.unwrap(), "id: 0708\n\n", "its key works");
    let gone = ask(Method::DELETE, &format!("/v1/keys/{}", made["id"].as_str().unwrap()));
    assert_eq!(site.send(gone.body(Body::empty()).unwrap()).await.status, 204);
    while part(&mut body).await.is_some() {}
}

#[tokio::test]
async fn a_stream_that_cannot_begin_is_a_problem() {
    let site = Site::new();
    for (last_id, status) in [("6f6c64", 410), ("626164", 422), ("nonsense", 422)] {
        assert_eq!(stream(&site, "/v1/events", Some(last_id)).await.status(), status, "{last_id}");
    }
}

#[tokio::test]
async fn followers_are_bounded_and_take_no_place_of_others() {
    let site = Site::new();
    let mut bodies = Vec::new();
    for _ in 0..setup().event_readers_max {
        bodies.push(stream(&site, "/v1/events", None).await.into_body());
    }
    let gauge = |text: String, line: &str| assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    let metrics = site.get("/metrics").await.text();
    gauge(metrics.clone(), "hongbao_event_readers 2");
    gauge(metrics, "hongbao_http_in_flight 1");
    let problem = site.get("/v1/events").await.assert_problem(503, "overloaded", "one more");
    assert_eq!(problem["retry"], "after");
    assert_eq!(site.get("/v1/wallets/bob").await.status, 200);
    drop(bodies);
    while site.get("/v1/events?wait_s=0").await.status != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_issuer_is_told_of_its_owners_envelopes() {
    let site = Site::new();
    for (roles, owner) in
        [(r#"["issuer"]"#, Some("shop")), (r#"["issuer","caller"]"#, Some("shop")), (r#"["issuer","viewer"]"#, None)]
    {
        let body = format!(r#"{{"name":"a key","owner":"shop","roles":{roles}}}"#);
        let made = site.post("/v1/keys", roles, body).await.json();
        let request = Request::builder()
            .uri("/v1/events?wait_s=0")
            .header("authorization", format!("Bearer {}", made["key"].as_str().unwrap()));
        assert_eq!(site.send(request.body(Body::empty()).unwrap()).await.status, 200, "{roles}");
        assert_eq!(site.asked().owner.as_deref(), owner, "{roles}");
    }
}
