//! Bad input: every POST against everything that can be wrong with a body. Each
//! row says status, code and field, and none may reach the backend.

use crate::fake::{Site, a_gift, an_order, ask, envelope_id, gift_id, group_id, item_id, item_view, payout_id};
use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

/// A POST, a body it takes, and the kind of each field.
struct Post {
    path: String,
    good: Value,
    fields: &'static [(&'static str, Kind)],
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// An integer from 1 to this; needed or not.
    Integer(u64, Need),
    /// A user.
    User,
    /// A text of at most so many characters, at least one if needed.
    Text(usize, Need),
}

#[derive(Clone, Copy, PartialEq)]
enum Need {
    Must,
    May,
}

use Kind::{Integer, Text, User};
use Need::{May, Must};

const AMOUNT_MAX: u64 = (1 << 53) - 1;
const COUNT_MAX: u64 = u32::MAX as u64;
const YEAR_S: u64 = 31_536_000;

fn posts() -> Vec<Post> {
    let envelope = format!("/v1/envelopes/{}", envelope_id(1));
    let item = format!("/v1/items/{}", item_id(1));
    let hold = format!("/v1/holds/{}", hongbao_engine::types::HoldId::from_bytes([1; 16]));
    let transfer: &[_] = &[("amount", Integer(AMOUNT_MAX, Must)), ("reference", Text(128, May))];
    let by_user: &[_] = &[("user", User)];
    let create: &[_] = &[
        ("sender", User),
        ("total", Integer(AMOUNT_MAX, Must)),
        ("shares", Integer(10_000_000, Must)),
        ("min_share", Integer(AMOUNT_MAX, May)),
        ("max_share", Integer(AMOUNT_MAX, May)),
        ("message", Text(200, May)),
        ("expires_in_s", Integer(YEAR_S, May)),
        ("reference", Text(128, May)),
        ("client_seed", Text(128, May)),
    ];
    let create_item: &[_] = &[
        ("merchant", User),
        ("name", Text(200, Must)),
        ("category", Text(64, Must)),
        ("price", Integer(AMOUNT_MAX, Must)),
        ("stock", Integer(COUNT_MAX, Must)),
        ("per_user_limit", Integer(COUNT_MAX, May)),
        ("hold_ttl_s", Integer(YEAR_S, May)),
    ];
    let gift = format!("/v1/gifts/{}", gift_id(1));
    let group = format!("/v1/groups/{}", group_id(1));
    let order = format!("/v1/orders/{}", an_order(1).id);
    let post = |path: String, good: Value, fields| Post { path, good, fields };
    vec![
        post("/v1/wallets/alice/deposits".into(), json!({"amount": 5}), transfer),
        post("/v1/wallets/alice/withdrawals".into(), json!({"amount": 5}), transfer),
        post("/v1/envelopes".into(), json!({"sender": "alice", "total": 100, "shares": 10}), create),
        post(format!("{envelope}/grab"), json!({"user": "bob"}), by_user),
        post(format!("{envelope}/claim"), json!({"user": "bob"}), by_user),
        post(format!("{envelope}/cancel"), json!({}), &[]),
        post(format!("{envelope}/redact"), json!({"metadata": true}), &[]),
        post("/v1/grabs".into(), json!({"grabs": [{"envelope": envelope_id(1).to_string(), "user": "bob"}]}), &[]),
        post("/v1/merchants".into(), json!({"id": "rosy", "name": "Rosy"}), &[("id", User), ("name", Text(200, Must))]),
        post("/v1/merchants/rosy/withdrawals".into(), json!({"amount": 1}), transfer),
        post(
            "/v1/items".into(),
            json!({"merchant": "rosy", "name": "99 roses", "category": "flowers", "price": 29900, "stock": 500}),
            create_item,
        ),
        post(format!("{item}/restock"), json!({"quantity": 5}), &[("quantity", Integer(COUNT_MAX, Must))]),
        post(format!("{item}/codes"), json!({"codes": ["ABC-1", "ABC-2"]}), &[]),
        post(format!("{item}/grab"), json!({"user": "bob"}), &[("user", User), ("quantity", Integer(COUNT_MAX, May))]),
        post(
            format!("{order}/ship"),
            json!({"carrier": "sf", "tracking": "1"}),
            &[("carrier", Text(200, Must)), ("tracking", Text(200, Must))],
        ),
        post(format!("{order}/deliver"), json!({}), &[]),
        post(
            format!("{order}/return"),
            json!({"user": "bob", "reason": "broken"}),
            &[("user", User), ("reason", Text(200, Must))],
        ),
        post(format!("{order}/accept-return"), json!({"restock": true}), &[]),
        post(format!("{order}/refuse-return"), json!({"reason": "used"}), &[("reason", Text(200, Must))]),
        post(format!("{hold}/claim"), json!({"user": "bob"}), &[("user", User), ("pay_with", Text(32, May))]),
        post(format!("{hold}/release"), json!({"user": "bob"}), by_user),
        post("/v1/keys".into(), json!({"name": "till", "roles": ["caller"]}), &[("name", Text(200, Must))]),
        post(
            "/v1/payouts/results".into(),
            json!({"results": [{"id": payout_id(1).to_string(), "state": "paid", "reference": "bank-1"}]}),
            &[],
        ),
        post(
            "/v1/gifts".into(),
            json!({"giver": "alice", "recipient": "bob", "item": item_id(1).to_string()}),
            &[
                ("giver", User),
                ("message", Text(200, May)),
                ("reference", Text(128, May)),
                ("pay_within_s", Integer(YEAR_S, May)),
                ("accept_within_s", Integer(YEAR_S, May)),
                ("ship_within_s", Integer(YEAR_S, May)),
            ],
        ),
        post(format!("{item}/groups"), json!({"user": "alice"}), &[("user", User), ("reference", Text(128, May))]),
        post(format!("{group}/join"), json!({"user": "bob"}), by_user),
        post(format!("{group}/leave"), json!({"user": "bob"}), by_user),
        post(format!("{gift}/pay"), json!({"payer": "carol"}), &[("payer", User)]),
        post(format!("{gift}/accept"), json!({"user": "bob"}), by_user),
        post(format!("{gift}/decline"), json!({"user": "bob"}), &[("user", User), ("reason", Text(200, May))]),
        post(format!("{gift}/cancel"), json!({"user": "alice"}), by_user),
        post(format!("{gift}/redact"), json!({"metadata": true}), &[]),
        post(
            format!("{gift}/thank"),
            json!({"user": "bob", "note": "x"}),
            &[("user", User), ("note", Text(200, Must))],
        ),
        post(
            format!("{gift}/ship"),
            json!({"carrier": "sf", "tracking": "1"}),
            &[("carrier", Text(200, Must)), ("tracking", Text(200, Must))],
        ),
        post(format!("{gift}/deliver"), json!({}), &[]),
        post(format!("{gift}/fail"), json!({"reason": "frost"}), &[("reason", Text(200, Must))]),
        post("/v1/test/clock".into(), json!({"advance_s": 60}), &[("advance_s", Integer(YEAR_S, Must))]),
    ]
}

fn site() -> Site {
    let site = Site::with(&hongbao_server::app::Setup { test: true, ..crate::fake::setup() });
    site.fake.inner.lock().unwrap().items.insert(item_id(1), item_view(1, Some(1)));
    site.fake.inner.lock().unwrap().gifts.insert(gift_id(1), a_gift(1));
    site.fake.inner.lock().unwrap().orders.insert(an_order(1).id, an_order(1));
    site
}

/// Sends `body` and asserts the problem, the field, and that nothing was executed.
async fn check(site: &Site, path: &str, body: impl Into<Body>, status: u16, code: &str, field: &str, what: &str) {
    let what = format!("POST {path} with {what}");
    let answer = site.post(path, "k", body).await;
    let problem = answer.assert_problem(status, code, &what);
    if !field.is_empty() {
        assert_eq!(problem["errors"][0]["field"], field, "{what}: {problem}");
        assert!(!problem["errors"][0]["message"].as_str().unwrap().is_empty(), "{what}");
    }
    assert_eq!(site.fake.commands(), [], "{what} changed state");
}

#[tokio::test]
async fn good_bodies_are_taken() {
    for post in posts() {
        let site = site();
        site.fake.inner.lock().unwrap().wallets.insert(hongbao_engine::types::UserId::new("alice").unwrap(), 5);
        let answer = site.post(&post.path, "k", post.good.to_string()).await;
        assert!(answer.status.is_success(), "{}: {}", post.path, answer.text());
        assert_eq!(site.fake.commands().len(), 1, "{}", post.path);
    }
}

#[tokio::test]
async fn what_exceeds_a_cap_is_told_its_name() {
    let amount = |minor| hongbao_engine::types::Amount::new(minor);
    let caps = hongbao_server::caps::Caps { largest_total: amount(1000), largest_share: amount(200) };
    let site = Site::with(&hongbao_server::app::Setup { caps, ..crate::fake::setup() });
    let body = |total: u64, shares: u32, most: Option<u64>| {
        json!({"sender": "alice", "total": total, "shares": shares, "max_share": most}).to_string()
    };
    for (body, field, cap) in [
        (body(1001, 10, Some(200)), "total", "largest_total"),
        (body(1000, 10, Some(201)), "max_share", "largest_share"),
        (body(1000, 10, None), "max_share", "largest_share"),
    ] {
        check(&site, "/v1/envelopes", body.clone(), 422, "invalid_field", field, &body).await;
        let problem = site.post("/v1/envelopes", "k", body).await.json();
        assert!(problem["errors"][0]["message"].as_str().unwrap().contains(cap), "{problem}");
    }
    assert!(site.post("/v1/envelopes", "k", body(1000, 10, Some(200))).await.status.is_success());
}

#[tokio::test]
async fn bodies_that_are_not_json() {
    let site = site();
    let unclosed = "[".repeat(500_000);
    let deep = format!("{unclosed}{}", "]".repeat(500_000));
    let deep_objects = format!("{}1{}", r#"{"user":"#.repeat(100_000), "}".repeat(100_000));
    for post in posts() {
        let good = post.good.to_string();
        let may_be_empty =
            ["/cancel", "/redact", "/deliver"].iter().any(|end| post.path.ends_with(end) && post.fields.is_empty());
        for (body, what) in [
            ("{", "an open brace"),
            ("{\"user\":}", "a missing value"),
            ("{'user':'bob'}", "single quotes"),
            (&good[..good.len() - 1], "the end missing"),
            (&format!("{good}{good}"), "a second object"),
            (&format!("{good},"), "a comma behind it"),
            (" ", "a space"),
            ("nul", "half a null"),
        ] {
            check(&site, &post.path, body.to_owned(), 400, "invalid_json", "", what).await;
        }
        if !may_be_empty {
            check(&site, &post.path, "", 400, "invalid_json", "", "an empty body").await;
        }
        check(&site, &post.path, &b"{\"user\":\"b\xff\"}"[..], 400, "invalid_json", "", "a byte that is not UTF-8")
            .await;
        check(&site, &post.path, &b"\xff\xfe{\0}\0"[..], 400, "invalid_json", "", "UTF-16").await;
        for body in ["[]", "\"bob\"", "1", "null", "true", "[\"bob\"]"] {
            check(&site, &post.path, body, 422, "invalid_field", "body", body).await;
        }
        check(&site, &post.path, unclosed.clone(), 400, "invalid_json", "", "deep arrays, not closed").await;
        check(&site, &post.path, deep.clone(), 422, "invalid_field", "body", "deep arrays").await;
        check(&site, &post.path, deep_objects.clone(), 422, "invalid_field", "user", "deep objects").await;
        let name = post.fields.first().map_or("user", |field| field.0);
        let nested = format!(r#"{{"{name}":{}{}}}"#, "[".repeat(400_000), "]".repeat(400_000));
        check(&site, &post.path, nested, 422, "invalid_field", name, "a deep field").await;
    }
    assert_eq!(site.fake.commands(), []);
}

#[tokio::test]
async fn bodies_of_a_wrong_kind_or_size() {
    let site = site();
    for post in posts() {
        let good = post.good.to_string();
        check(&site, &post.path, vec![b' '; 2 << 20], 413, "payload_too_large", "", "2 MiB").await;
        check(&site, &post.path, vec![b' '; (1 << 20) + 1], 413, "payload_too_large", "", "a byte over 1 MiB").await;
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=gbk",
            "application/jsonp",
            "",
        ] {
            let mut request = ask(Method::POST, &post.path).header("idempotency-key", "k");
            if !content_type.is_empty() {
                request = request.header("content-type", content_type);
            }
            let answer = site.send(request.body(good.clone().into()).unwrap()).await;
            answer.assert_problem(415, "unsupported_media_type", &format!("{} as {content_type:?}", post.path));
        }
        for encodings in [&["gzip"][..], &["br"], &["deflate, gzip"], &["identity", "zstd"], &[""]] {
            let mut request = ask(Method::POST, &post.path).header("idempotency-key", "k");
            request = request.header("content-type", "application/json");
            for encoding in encodings {
                request = request.header("content-encoding", *encoding);
            }
            let answer = site.send(request.body(good.clone().into()).unwrap()).await;
            let what = format!("{} in {encodings:?}", post.path);
            let problem = answer.assert_problem(415, "unsupported_media_type", &what);
            assert!(problem["detail"].as_str().unwrap().contains("Content-Encoding"), "{what}: {problem}");
        }
    }
    let twice = ask(Method::POST, "/v1/wallets/a/deposits").header("idempotency-key", "k");
    let twice = twice.header("content-type", "application/json").header("content-type", "application/json");
    let answer = site.send(twice.body(r#"{"amount":1}"#.into()).unwrap()).await;
    answer.assert_problem(415, "unsupported_media_type", "two content types");
    assert_eq!(site.fake.commands(), []);
    let request = ask(Method::POST, "/v1/wallets/a/deposits")
        .header("idempotency-key", "k")
        .header("content-encoding", "Identity")
        .header("content-type", "Application/JSON; charset=\"UTF-8\"");
    assert_eq!(site.send(request.body(r#"{"amount":1}"#.into()).unwrap()).await.status, 201);
}

#[tokio::test]
async fn fields_that_cannot_be() {
    let site = site();
    for post in posts() {
        let with = |field: &str, value: &str| {
            let mut body = post.good.clone();
            body[field] = json!("\u{1}");
            body.to_string().replace(r#""\u0001""#, value)
        };
        let bad = |field: &str, value: &str| (field.to_owned(), with(field, value), format!("{field} = {value:.80}"));
        let mut rows = vec![bad("surprise", "1"), bad("__proto__", "{}")];
        for &(field, kind) in post.fields {
            let mut values: Vec<String> = ["[]", "{}", "true", "[1]"].map(str::to_owned).into();
            let optional = match kind {
                Integer(max, need) => {
                    let more = max + 1;
                    values.extend(
                        [
                            "1.5",
                            "1.0",
                            "1e3",
                            "0",
                            "-1",
                            "-0",
                            "-0.0",
                            "1e999",
                            "\"1\"",
                            "\"\"",
                            "18446744073709551616",
                        ]
                        .map(str::to_owned),
                    );
                    values.extend([more.to_string(), u64::MAX.to_string(), "9".repeat(400)]);
                    need == May
                }
                User => {
                    values.extend(
                        ["1", "\"\"", "\".\"", "\"..\"", "\"a b\"", "\"a/b\"", "\"红\"", "\"a\\u0000\"", "\"a\\n\""]
                            .map(str::to_owned),
                    );
                    values.push(format!("\"{}\"", "x".repeat(65)));
                    false
                }
                Text(max, need) => {
                    values.extend(["1".to_owned(), format!("\"{}\"", "红".repeat(max + 1)), "\"\\u0000\"".to_owned()]);
                    if need == Must || field == "reference" {
                        values.push("\"\"".to_owned());
                    }
                    need == May
                }
            };
            if !optional {
                values.push("null".to_owned());
                let mut body = post.good.clone();
                body.as_object_mut().unwrap().remove(field);
                if post.good.get(field).is_some() {
                    rows.push((field.to_owned(), body.to_string(), format!("{field} missing")));
                }
            }
            rows.extend(values.iter().map(|value| bad(field, value)));
            if let Some(value) = post.good.get(field) {
                let once = post.good.to_string();
                let twice = format!("{},\"{field}\":{value}}}", &once[..once.len() - 1]);
                rows.push((field.to_owned(), twice, format!("{field} twice")));
            }
        }
        for (field, body, what) in rows {
            check(&site, &post.path, body, 422, "invalid_field", &field, &what).await;
        }
    }
}

#[tokio::test]
async fn envelopes_that_cannot_be() {
    let site = site();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(5000));
    for (more, field) in [
        (r#""split":"fair""#, "split"),
        (r#""split":"equal","shares":7"#, "total"),
        (r#""split":"equal","min_share":2"#, "min_share"),
        (r#""split":"equal","max_share":50"#, "max_share"),
        (r#""split":"uniform","max_share":50"#, "max_share"),
        (r#""split":"specified""#, "amounts"),
        (r#""split":"specified","amounts":[50,49],"shares":2"#, "amounts"),
        (r#""split":"specified","amounts":[50,0],"shares":2"#, "amounts[1]"),
        (r#""split":"specified","amounts":[50,50],"shares":3"#, "amounts"),
        (r#""split":"specified","amounts":[50,-50],"shares":2"#, "amounts[1]"),
        (r#""amounts":[100]"#, "amounts"),
        (r#""min_share":11"#, "min_share"),
        (r#""min_share":5,"max_share":4"#, "max_share"),
        (r#""max_share":9"#, "max_share"),
        (r#""shares":101"#, "shares"),
        (r#""split":"equal","shares":101"#, "shares"),
        (r#""shares":10000001"#, "shares"),
        (r#""opens_at":"tomorrow""#, "opens_at"),
        (r#""opens_at":1770000000"#, "opens_at"),
        (r#""opens_at":"2027-02-30T00:00:00Z""#, "opens_at"),
        (r#""opens_at":"2027-02-01T00:00:00""#, "opens_at"),
        (r#""opens_at":"1969-12-31T23:59:59Z""#, "opens_at"),
        (r#""claim_within_s":31536001"#, "claim_within_s"),
        (r#""claim_within_s":-1"#, "claim_within_s"),
        (r#""auto_claim":"yes""#, "auto_claim"),
        (r#""unclaimed":"keep""#, "unclaimed"),
        (r#""reference":"a b""#, "reference"),
        (r#""reference":"a\u200bb""#, "reference"),
        (r#""metadata":[]"#, "metadata"),
        (r#""metadata":"x""#, "metadata"),
        (r#""metadata":null"#, "metadata"),
        (&format!(r#""metadata":{deep}"#), "metadata"),
        (&format!(r#""metadata":{large}"#), "metadata"),
        (r#""funding":{}"#, "funding.reference"),
        (r#""funding":{"reference":null}"#, "funding.reference"),
        (r#""funding":{"reference":""}"#, "funding.reference"),
        (r#""funding":{"reference":"a b"}"#, "funding.reference"),
        (r#""funding":{"reference":"x","amount":5}"#, "funding.amount"),
        (r#""funding":"x""#, "funding"),
        (r#""funding":["x"]"#, "funding"),
        (r#""payout":null"#, "payout"),
        (r#""payout":"moon""#, "payout"),
    ] {
        let pairs = [(r#""total""#, "100"), (r#""shares""#, "10"), (r#""sender""#, r#""alice""#)];
        let mut body = more.to_owned();
        for (name, value) in pairs {
            if !more.contains(name) {
                body = format!("{body},{name}:{value}");
            }
        }
        check(&site, "/v1/envelopes", format!("{{{body}}}"), 422, "invalid_field", field, more).await;
    }
}

#[tokio::test]
async fn numbers_are_refused_with_their_own_bounds() {
    let site = site();
    for (body, bounds) in [
        (r#"{"sender":"a","total":100,"shares":0}"#, "1 to 10000000"),
        (r#"{"sender":"a","total":100,"shares":10000001}"#, "1 to 10000000"),
        (r#"{"sender":"a","total":0,"shares":1}"#, "1 to 9007199254740991"),
        (r#"{"sender":"a","total":100,"shares":1,"expires_in_s":0}"#, "1 to 31536000"),
        (r#"{"sender":"a","total":100,"shares":1,"claim_within_s":31536001}"#, "0 to 31536000"),
    ] {
        let problem = site.post("/v1/envelopes", "k", body).await.assert_problem(422, "invalid_field", body);
        assert!(problem["detail"].as_str().unwrap().ends_with(bounds), "{body}: {problem}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_the_api() {
    let site = site();
    let split = "expected one of `lucky`, `uniform`, `equal`, `specified`";
    for (more, says) in [
        (r#""split":null"#, split),
        (r#""split":1"#, split),
        (r#""split":["lucky"]"#, split),
        (r#""split":"fair""#, split),
        (r#""unclaimed":null"#, "expected `return` or `credit`"),
        (r#""payout":null"#, "expected `wallet` or `external`"),
        (r#""payout":"bank""#, "expected `wallet` or `external`"),
        (r#""max_share":18446744073709551616"#, "max_share: must be an integer from 1 to 9007199254740991"),
        (r#""max_share":-1"#, "an integer from 1 to 9007199254740991"),
        (r#""max_share":1.5"#, "without fraction or exponent"),
        (r#""max_share":1e3"#, "without fraction or exponent"),
        (r#""max_share":1e999"#, "max_share: is far too large"),
        (&format!(r#""max_share":{}"#, "9".repeat(400)), "max_share: is far too large"),
        (r#""min_share":11"#, "lower the smallest share"),
    ] {
        let body = format!(r#"{{"sender":"alice","total":100,"shares":10,{more}}}"#);
        let problem = site.post("/v1/envelopes", "k", body).await.assert_problem(422, "invalid_field", more);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{more:.80} says {detail:?}");
        assert!(!detail.contains("expected value"), "{more:.80} says {detail:?}");
        assert!(!detail.ends_with("740991, without fraction or exponent") || !more.contains("1844"), "{detail:?}");
    }
    // As many bytes as its characters take.
    let seed = "🧧".repeat(128);
    let body = json!({"sender": "alice", "total": 100, "shares": 10, "client_seed": seed});
    site.post("/v1/envelopes", "k", body.to_string()).await;
    assert!(format!("{:?}", site.fake.commands()).contains(&seed));
}

#[tokio::test]
async fn names_that_nobody_sees() {
    let site = site();
    for name in [" ", "  ", r"\n", r"\u3000", r"\u200b"] {
        let body = format!(r#"{{"id":"rosy","name":"{name}"}}"#);
        check(&site, "/v1/merchants", body, 422, "invalid_field", "name", name).await;
    }
}

#[tokio::test]
async fn a_post_takes_no_query() {
    let site = site();
    for post in posts() {
        let good = post.good.to_string();
        for (query, field) in [("colour=red", "colour"), ("limit=1", "limit"), ("%ff=1", "query"), ("x", "x")] {
            let path = format!("{}?{query}", post.path);
            check(&site, &path, good.clone(), 422, "invalid_field", field, "a query").await;
        }
    }
    let path = format!("/v1/items/{}?x=1", item_id(1));
    let request = ask(Method::PATCH, &path).header("content-type", "application/json");
    site.send(request.body("{}".into()).unwrap()).await.assert_problem(422, "invalid_field", &path);
    assert_eq!(site.fake.commands(), []);
    assert_eq!(site.post("/v1/wallets/alice/deposits?", "k", r#"{"amount":5}"#).await.status, 201);
}

#[tokio::test]
async fn batches_that_cannot_be() {
    let site = site();
    let good = json!({"envelope": envelope_id(1).to_string(), "user": "bob"});
    let many: Vec<_> = (0..1001).map(|_| good.clone()).collect();
    let many_bad: Vec<_> = (0..1001).map(|_| json!({})).collect();
    for (body, field) in [
        (json!({"grabs": []}), "grabs"),
        (json!({"grabs": many}), "grabs"),
        (json!({"grabs": many_bad}), "grabs"),
        (json!({"grabs": {}}), "grabs"),
        (json!({"grabs": null}), "grabs"),
        (json!({}), "grabs"),
        (json!({"grabs": [good], "x": 1}), "x"),
        (json!({"grabs": [null], "x": 1}), "x"),
    ] {
        let what = body.to_string().chars().take(100).collect::<String>();
        check(&site, "/v1/grabs", body.to_string(), 422, "invalid_field", field, &what).await;
    }
    check(&site, "/v1/grabs", r#"{"grabs":[{"user":"a b"},]}"#, 400, "invalid_json", "", "a comma too many").await;
}

#[tokio::test]
async fn an_element_at_fault_is_told_in_its_place() {
    let id = envelope_id(1).to_string();
    let deep = format!("{{\"user\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let user = |user: &str| json!({"envelope": id, "user": user}).to_string();
    for (bad, field) in [
        (json!({"envelope": id}).to_string(), ".user"),
        (json!({"envelope": "env_x", "user": "a b"}).to_string(), ".user"),
        (user(""), ".user"),
        (user(".."), ".user"),
        (user(&"x".repeat(65)), ".user"),
        (json!({"envelope": id, "user": null}).to_string(), ".user"),
        (json!({"user": "bob"}).to_string(), ".envelope"),
        (json!({"envelope": 1, "user": "bob"}).to_string(), ".envelope"),
        (json!({"envelope": id, "user": "bob", "x": 1}).to_string(), ".x"),
        (r#"{"envelope":"env_x","user":"bob","user":"bob"}"#.to_owned(), ".user"),
        (deep, ".user"),
        (json!([id, "bob"]).to_string(), ""),
        ("null".to_owned(), ""),
        ("1e999".to_owned(), ""),
        (r#""bob""#.to_owned(), ""),
    ] {
        let site = site();
        let body = format!(r#"{{"grabs":[{},{bad}, {} ,{bad}]}}"#, user("first"), user("third"));
        let answer = site.post("/v1/grabs", "", body.clone()).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        let results = answer.json()["results"].as_array().unwrap().clone();
        assert_eq!(results.len(), 4, "{body}");
        for (i, result) in results.iter().enumerate() {
            if i % 2 == 0 {
                assert_eq!(*result, json!({"outcome": "sold_out"}), "{i} of {body}");
                continue;
            }
            let error = &result["error"];
            assert_eq!((&error["code"], &error["status"]), (&json!("invalid_field"), &json!(422)), "{body}: {error}");
            assert_eq!(error["errors"][0]["field"], format!("grabs[{i}]{field}"), "{body}: {error}");
            assert!(error["detail"].as_str().unwrap().starts_with(&format!("grabs[{i}]{field}: ")), "{error}");
            assert_eq!(error["request_id"], answer.header("x-request-id"), "{error}");
        }
        let users: Vec<_> = site.fake.commands().iter().map(|it| format!("{it:?}").contains("first")).collect();
        assert_eq!(users, [true, false], "the others are done, in order");
    }
    let site = site();
    let answer = site.post("/v1/grabs", "", r#"{"grabs":[{},{}]}"#).await;
    assert_eq!((answer.status.as_u16(), site.fake.commands().len()), (200, 0), "{}", answer.text());
}

#[tokio::test]
async fn changes_of_items_that_cannot_be() {
    let site = site();
    let path = format!("/v1/items/{}", item_id(1));
    for (body, field) in [
        (r#"{"name":null}"#, "name"),
        (r#"{"price":0}"#, "price"),
        (r#"{"hold_ttl_s":null}"#, "hold_ttl_s"),
        (r#"{"per_user_limit":0}"#, "per_user_limit"),
        (r#"{"stock":5}"#, "stock"),
        (r#"{"image_url":"javascript:alert(1)"}"#, "image_url"),
        (r#"{"starts_at":"2027-02-06T00:00:00Z","ends_at":"2027-02-05T00:00:00Z"}"#, "ends_at"),
    ] {
        let request = ask(Method::PATCH, &path).header("content-type", "application/json");
        let answer = site.send(request.body(body.into()).unwrap()).await;
        let problem = answer.assert_problem(422, "invalid_field", body);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    assert_eq!(site.fake.commands(), []);
}

#[tokio::test]
async fn odd_ids_users_and_queries() {
    let site = site();
    let env = envelope_id(1).to_string();
    let upper = env.to_uppercase();
    for (path, status, code) in [
        ("/v1/wallets/a%20b", 422, "invalid_field"),
        ("/v1/wallets/%2e%2e", 422, "invalid_field"),
        ("/v1/wallets/a%2Fb", 422, "invalid_field"),
        ("/v1/wallets/%E7%BA%A2", 422, "invalid_field"),
        ("/v1/wallets/%FF", 422, "invalid_field"),
        ("/v1/wallets/%ff/entries", 422, "invalid_field"),
        ("/v1/envelopes/%ff", 404, "not_found"),
        ("/v1/envelopes/%ff/grabs/bob", 404, "not_found"),
        (&format!("/v1/envelopes/{env}/grabs/%ff"), 422, "invalid_field"),
        ("/v1/holds/%ff", 404, "not_found"),
        ("/%ff", 404, "not_found"),
        ("/v1/wallets/a%00", 422, "invalid_field"),
        (&format!("/v1/wallets/{}", "x".repeat(65)), 422, "invalid_field"),
        (&format!("/v1/wallets/{}", "x".repeat(10_000)), 422, "invalid_field"),
        ("/v1/wallets/", 404, "not_found"),
        ("/v1/envelopes/1", 404, "not_found"),
        ("/v1/envelopes/env_", 404, "not_found"),
        (&format!("/v1/envelopes/{upper}"), 404, "not_found"),
        (&format!("/v1/envelopes/{env}/grabs/a%20b"), 422, "invalid_field"),
        (&format!("/v1/holds/{env}"), 404, "not_found"),
        ("/v1/items/..", 404, "not_found"),
        ("/v1/orders/order_%F0%9F%A7%A7", 404, "not_found"),
        ("/v1/envelopes?limit=0", 422, "invalid_field"),
        ("/v1/envelopes?limit=1001", 422, "invalid_field"),
        ("/v1/envelopes?limit=-1", 422, "invalid_field"),
        ("/v1/envelopes?limit=ten", 422, "invalid_field"),
        ("/v1/envelopes?limit=99999999999999999999", 422, "invalid_field"),
        ("/v1/envelopes?cursor=xyz", 422, "invalid_field"),
        ("/v1/envelopes?cursor=%F0%9F%A7%A7", 422, "invalid_field"),
        ("/v1/envelopes?cursor=626164", 422, "invalid_field"),
        ("/v1/envelopes?state=closed", 422, "invalid_field"),
        ("/v1/envelopes?sender=a%20b", 422, "invalid_field"),
        ("/v1/envelopes?created_from=yesterday", 422, "invalid_field"),
        ("/v1/items?merchant=a%20b", 422, "invalid_field"),
    ] {
        site.get(path).await.assert_problem(status, code, path);
    }
    for path in ["/v1/envelopes?cursor=", "/v1/envelopes?", "/v1/envelopes?&limit=1000&&state=sold_out&", "/livez?x=1"]
    {
        assert_eq!(site.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn query_parameters_that_cannot_be() {
    let site = site();
    site.fake.inner.lock().unwrap().envelopes.insert(envelope_id(1), crate::fake::envelope_view(1));
    let envelope = format!("/v1/envelopes/{}", envelope_id(1));
    let item = format!("/v1/items/{}", item_id(1));
    let hold = format!("/v1/holds/{}", hongbao_engine::types::HoldId::from_bytes([1; 16]));
    let grabs = format!("{envelope}/grabs");
    let grab = format!("{envelope}/grabs/bob");
    let reads = ["/v1/wallets/a", &envelope, &grab, "/v1/audit", &item, &hold];
    let lists =
        ["/v1/wallets/a/entries", "/v1/envelopes", &grabs, "/v1/users/a/sent", "/v1/users/a/received", "/v1/items"];
    let refused = async |path: &str, query: &str, field: &str| {
        let path = format!("{path}?{query}");
        let problem = site.get(&path).await.assert_problem(422, "invalid_field", &path);
        assert_eq!(problem["errors"][0]["field"], field, "{path}: {problem}");
        problem["detail"].as_str().unwrap().to_owned()
    };
    for path in reads {
        assert_eq!(site.get(path).await.status, 200, "{path}");
        refused(path, "limit=1", "limit").await;
        refused(path, "x", "x").await;
    }
    for path in lists {
        assert_eq!(site.get(&format!("{path}?limit=1&cursor=00ff")).await.status, 200, "{path}");
        for (query, field) in [
            ("colour=red", "colour"),
            ("limit=1&Limit=1", "Limit"),
            ("limit=1&cursor=&colour", "colour"),
            ("limit=1&limit=1", "limit"),
            ("cursor=&cursor=00ff", "cursor"),
            ("limit=", "limit"),
            ("limit", "limit"),
            ("=1", ""),
            ("limit=%ff", "limit"),
            ("cursor=%zz", "cursor"),
            ("cursor=00%f", "cursor"),
            ("%ff=1", "query"),
        ] {
            refused(path, query, field).await;
        }
    }
    for filter in ["reference", "sender", "state", "created_from", "created_to"] {
        refused("/v1/envelopes", &format!("{filter}="), filter).await;
        refused("/v1/envelopes", &format!("{filter}=a&{filter}=a"), filter).await;
        refused("/v1/items", &format!("{filter}=a"), filter).await;
    }
    for filter in ["category", "merchant", "kind", "variant_of", "on_sale"] {
        refused("/v1/items", &format!("limit=5&{filter}="), filter).await;
        refused("/v1/envelopes", &format!("{filter}=a"), filter).await;
    }
    for (filter, words) in
        [("kind", "physical, virtual or code"), ("variant_of", "item's id"), ("on_sale", "true or false")]
    {
        let told = refused("/v1/items", &format!("{filter}=x"), filter).await;
        assert!(told.contains(words), "{told}");
    }
    let told = refused("/v1/items", "colour=red", "colour").await;
    assert_eq!(
        told,
        "colour: unknown parameter; this takes category, merchant, kind, variant_of, on_sale, limit, cursor"
    );
    let long = refused("/v1/items", &format!("{}=1", "x".repeat(5000)), &"x".repeat(200)).await;
    assert!(long.len() < 400, "{long}");
}
