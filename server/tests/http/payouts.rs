//! Payouts over HTTP: what a list and a payout tell and to whom, and results that
//! are taken in each for itself.

use crate::fake::*;
use hongbao_engine::command::{Command, NewEnvelope, Outcome, Refusal};
use hongbao_engine::payout::{Outside, PayoutFilter, PayoutKind, PayoutResult, PayoutState, PayoutTo};
use hongbao_engine::types::{Timestamp, UserId};
use serde_json::{Value, json};

fn site(views: &[(u8, &str, PayoutState)]) -> Site {
    let site = Site::new();
    for (n, owner, state) in views {
        site.fake.inner.lock().unwrap().payouts.insert(payout_id(*n), payout_view(*n, owner, *state));
    }
    site
}

fn shown(n: u8, state: &str) -> Value {
    json!({
        "id": payout_id(n).to_string(), "kind": "win", "user": "bob", "amount": 417, "currency": "CNY",
        "envelope": envelope_id(1).to_string(), "funding_reference": "order-7", "state": state, "attempts": 1,
        "reference": "bank-1", "reason": null, "created_at": NOW_TEXT, "changed_at": "2027-02-06T08:00:01.123Z"
    })
}

#[tokio::test]
async fn a_payout_and_a_list_of_them() {
    let site = site(&[(1, "shop", PayoutState::Sent)]);
    assert_eq!(site.get(&format!("/v1/payouts/{}", payout_id(1))).await.json(), shown(1, "sent"));
    assert_eq!(site.get("/v1/payouts").await.json(), json!({"payouts": [shown(1, "sent")], "next_cursor": null}));
    for never in [payout_id(2).to_string(), "pay_x".into(), "%ff".into(), envelope_id(1).to_string()] {
        site.get(&format!("/v1/payouts/{never}")).await.assert_problem(404, "not_found", &never);
    }
}

#[tokio::test]
async fn lists_are_asked_for_by_what_payouts_are() {
    let site = site(&[]);
    let query = format!(
        "state=failed&kind=refund&user=bob&envelope={}&created_from=1970-01-01T00:00:01Z&created_to=1970-01-01T00:00:02Z&limit=7&cursor=08ff",
        envelope_id(3)
    );
    assert_eq!(site.get(&format!("/v1/payouts?{query}")).await.status, 200);
    let inner = site.fake.inner.lock().unwrap();
    let filter = PayoutFilter {
        owner: None,
        state: Some(PayoutState::Failed),
        kind: Some(PayoutKind::Refund),
        user: Some(UserId::new("bob").unwrap()),
        envelope: Some(envelope_id(3)),
        created_from: Some(Timestamp::from_ms(1000)),
        created_to: Some(Timestamp::from_ms(2000)),
    };
    assert_eq!(format!("{:?}", inner.payout_filters), format!("{:?}", [filter]));
    let page = inner.pages.last().unwrap();
    assert_eq!((page.limit, page.cursor.as_deref()), (7, Some(&[8, 255][..])));
}

#[tokio::test]
async fn lists_that_cannot_be_asked_for() {
    let site = site(&[]);
    for (query, field) in [
        ("state=Due", "state"),
        ("state=unpaid", "state"),
        ("kind=lapse", "kind"),
        ("user=a%20b", "user"),
        ("envelope=env_x", "envelope"),
        ("created_from=yesterday", "created_from"),
        ("owner=shop", "owner"),
        ("state=due&state=sent", "state"),
        ("state=", "state"),
        ("limit=1001", "limit"),
    ] {
        let answer = site.get(&format!("/v1/payouts?{query}")).await;
        let problem = answer.assert_problem(422, "invalid_field", query);
        assert_eq!(problem["errors"][0]["field"], field, "{query}: {problem}");
    }
    let path = format!("/v1/payouts/{}?x=1", payout_id(1));
    site.get(&path).await.assert_problem(422, "invalid_field", "a parameter");
    assert!(site.fake.inner.lock().unwrap().payout_filters.is_empty());
}

#[tokio::test]
async fn what_is_another_owners_is_not_there() {
    let site = site(&[(1, "shop", PayoutState::Due), (2, "other", PayoutState::Due)]);
    let (own, others) = (format!("/v1/payouts/{}", payout_id(1)), format!("/v1/payouts/{}", payout_id(2)));
    for (roles, sees_all) in [(&["issuer"][..], false), (&["treasurer"], true), (&["viewer"], true), (&["admin"], true)]
    {
        let (key, _) = site.key("shop", roles).await;
        assert_eq!(site.get_with(&key, &own).await.json(), shown(1, "due"), "{roles:?}");
        let other = site.get_with(&key, &others).await;
        if sees_all {
            assert_eq!(other.json(), shown(2, "due"), "{roles:?}");
        } else {
            let problem = other.assert_problem(404, "not_found", "another owner's");
            let never = site.get_with(&key, &format!("/v1/payouts/{}", payout_id(9))).await.json();
            assert_eq!(problem["detail"], never["detail"], "nothing tells it from what is not there");
        }
        assert_eq!(site.get_with(&key, "/v1/payouts").await.status, 200, "{roles:?}");
        let filter = site.fake.inner.lock().unwrap().payout_filters.pop().unwrap();
        assert_eq!(filter.owner.as_deref(), (!sees_all).then_some("shop"), "{roles:?}");
    }
}

#[tokio::test]
async fn results_are_taken_in_each_for_itself() {
    let site = site(&[(1, "shop", PayoutState::Due), (2, "shop", PayoutState::Paid), (3, "shop", PayoutState::Sent)]);
    let [one, two, three, nine] = [1, 2, 3, 9].map(|n| payout_id(n).to_string());
    let long = "x".repeat(100);
    let body = json!({"results": [
        {"id": one, "state": "sent", "reference": "b:1"},
        {"id": nine, "state": "paid"},
        {"id": "pay_nonsense", "state": "paid"},
        {"id": two, "state": "failed"},
        {"id": three, "state": "gone"},
        {"id": three, "state": "failed", "reason": ""},
        {"id": three, "state": "failed", "reference": "a b"},
        {"state": "failed"},
        {"id": 7, "state": "failed"},
        "paid",
        {"id": three, "state": "failed", "fee": 1},
        {"id": long, "state": "paid"},
        {"id": three, "state": "failed", "reason": "the account is closed", "reference": null},
    ]})
    .to_string();
    let answer = site.post("/v1/payouts/results", "k1", body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    let told = told["results"].as_array().unwrap();
    let expected = [
        (json!(one), "sent", ""),
        (json!(nine), "not_found", ""),
        (json!("pay_nonsense"), "not_found", ""),
        (json!(two), "wrong_state", ""),
        (json!(three), "invalid_field", "results[4].state"),
        (json!(three), "invalid_field", "results[5].reason"),
        (json!(three), "invalid_field", "results[6].reference"),
        (json!(null), "invalid_field", "results[7].id"),
        (json!(null), "invalid_field", "results[8].id"),
        (json!(null), "invalid_field", "results[9]"),
        (json!(three), "invalid_field", "results[10].fee"),
        (json!("x".repeat(64)), "not_found", ""),
        (json!(three), "failed", ""),
    ];
    assert_eq!(told.len(), expected.len());
    for (told, (id, says, field)) in told.iter().zip(&expected) {
        assert_eq!(told["id"], *id, "{told}");
        let (state, code) = (told["state"].as_str(), told["error"]["code"].as_str());
        assert_eq!(state.or(code), Some(*says), "{told}");
        assert!(state.is_none() || code.is_none(), "{told}");
        assert_eq!(told["error"]["errors"][0]["field"].as_str().unwrap_or_default(), *field, "{told}");
    }
    let detail = told[3]["error"]["detail"].as_str().unwrap();
    assert!(detail.contains("cannot be failed now: it is paid, which is final"), "{detail}");
    let result = |n, state, reference: Option<&str>, reason: Option<&str>| PayoutResult {
        payout: payout_id(n),
        state,
        reference: reference.map(str::to_owned),
        reason: reason.map(str::to_owned),
    };
    let asked = Command::PayoutResults(vec![
        result(1, PayoutState::Sent, Some("b:1"), None),
        result(9, PayoutState::Paid, None, None),
        result(2, PayoutState::Failed, None, None),
        result(3, PayoutState::Failed, None, Some("the account is closed")),
    ]);
    assert_eq!(site.fake.commands(), [asked]);

    let again = site.post("/v1/payouts/results", "k1", body).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    for (again, told) in again.json()["results"].as_array().unwrap().iter().zip(told) {
        assert_eq!((&again["id"], &again["state"]), (&told["id"], &told["state"]));
        assert_eq!(again["error"]["detail"], told["error"]["detail"]);
    }
    assert_eq!(site.fake.commands().len(), 1, "the whole call is remembered");
    let other = json!({"results": [{"id": one, "state": "paid"}]}).to_string();
    site.post("/v1/payouts/results", "k1", other).await.assert_problem(422, "idempotency_mismatch", "other results");
}

#[tokio::test]
async fn calls_that_bring_no_results() {
    let site = site(&[]);
    let many = json!({"results": vec![json!({"id": "pay_x", "state": "due"}); 1001]}).to_string();
    for (body, field) in [
        ("{}", "results"),
        (r#"{"results":[]}"#, "results"),
        (r#"{"results":{}}"#, "results"),
        (r#"{"results":null}"#, "results"),
        (r#"{"results":[],"x":1}"#, ""),
        (&many, "results"),
        ("[]", "body"),
    ] {
        let problem = site.post("/v1/payouts/results", "k", body.to_owned()).await;
        let problem = problem.assert_problem(422, "invalid_field", &body[..body.len().min(40)]);
        if !field.is_empty() {
            assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        }
    }
    assert_eq!(site.fake.commands(), []);
    site.fake.script([Ok(Outcome::Refused(Refusal::invalid("results", "carry too much text; send fewer")))]);
    let body = json!({"results": [{"id": payout_id(1).to_string(), "state": "paid"}]}).to_string();
    let problem = site.post("/v1/payouts/results", "k", body).await;
    let problem = problem.assert_problem(422, "invalid_field", "what the engine refuses");
    assert_eq!(problem["errors"][0]["field"], "results");
}

#[tokio::test]
async fn an_envelope_is_funded_and_paid_outside_as_it_is_asked_for() {
    let site = site(&[]);
    for (more, outside) in [
        (json!({}), Outside::default()),
        (json!({"funding": null, "payout": "wallet"}), Outside::default()),
        (
            json!({"funding": {"reference": "order-7"}}),
            Outside { funding: Some("order-7".into()), payout: PayoutTo::Wallet },
        ),
        (json!({"payout": "external"}), Outside { funding: None, payout: PayoutTo::External }),
    ] {
        let mut body = json!({"sender": "alice", "total": 100, "shares": 10});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        site.post("/v1/envelopes", &format!("{more}"), body.to_string()).await;
        match site.fake.commands().pop() {
            Some(Command::CreateEnvelope(terms)) => {
                let NewEnvelope { outside: asked, owner, .. } = *terms;
                assert_eq!((asked, owner.as_str()), (outside, "admin"), "{more}");
            }
            other => panic!("{more}: {other:?}"),
        }
    }
}
