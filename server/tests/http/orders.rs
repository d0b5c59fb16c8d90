//! Orders over HTTP: who may do what about one, and what is told of it.

use crate::fake::*;
use hongbao_engine::command::{Command, Outcome, Refusal};
use hongbao_engine::order::{OrderProgress, OrderState, OrderStep};
use hongbao_engine::types::UserId;
use serde_json::json;

#[tokio::test]
async fn an_order_is_told_with_what_has_become_of_it() {
    let site = Site::new();
    let mut order = an_order(1);
    order.progress = OrderProgress {
        state: OrderState::ReturnRequested,
        shipped_at: Some(NOW),
        carrier: Some("sf".into()),
        tracking: Some("SF1".into()),
        delivered_at: Some(NOW),
        return_requested_at: Some(NOW),
        return_reason: Some("broken".into()),
        answer_by: Some(NOW),
        ended_at: None,
        refusal: None,
        restocked: false,
    };
    let path = format!("/v1/orders/{}", order.id);
    let expected = json!({
        "id": order.id.to_string(), "hold": order.hold.to_string(), "item": item_id(1).to_string(),
        "merchant": "rosy", "user": "bob", "quantity": 2, "amount": 200, "currency": "CNY", "created_at": NOW_TEXT,
        "state": "return_requested", "shipped_at": NOW_TEXT, "carrier": "sf", "tracking": "SF1",
        "delivered_at": NOW_TEXT, "return_requested_at": NOW_TEXT, "return_reason": "broken", "answer_by": NOW_TEXT,
        "ended_at": null, "refusal": null, "restocked": false, "codes": null,
    });
    site.fake.inner.lock().unwrap().orders.insert(order.id, order);
    assert_eq!(site.get(&path).await.json(), expected);
}

#[tokio::test]
async fn only_its_own_merchant_leads_an_order_on_and_users_send_it_back() {
    let site = Site::new();
    site.fake.inner.lock().unwrap().orders.insert(an_order(1).id, an_order(1));
    let path = |step: &str| format!("/v1/orders/{}/{step}", an_order(1).id);
    let (own, _) = site.key("rosy", &["merchant:rosy"]).await;
    let (other, _) = site.key("lily", &["merchant:lily"]).await;
    let (caller, _) = site.key("app", &["caller"]).await;
    let text = |text: &str| text.to_owned();
    for (name, body, done) in [
        (
            "ship",
            json!({"carrier": "sf", "tracking": "1"}),
            OrderStep::Ship { carrier: text("sf"), tracking: text("1") },
        ),
        ("deliver", json!({}), OrderStep::Deliver),
        ("accept-return", json!({"restock": true}), OrderStep::AcceptReturn { restock: true }),
        ("refuse-return", json!({"reason": "used"}), OrderStep::RefuseReturn { reason: text("used") }),
    ] {
        site.ask_with(&other, "POST", &path(name), body.clone()).await.assert_problem(404, "not_found", name);
        site.ask_with(&caller, "POST", &path(name), body.clone()).await.assert_problem(403, "forbidden", name);
        assert_eq!(site.ask_with(&own, "POST", &path(name), body).await.status, 200, "{name}");
        let Some(Command::StepOrder { order, step }) = site.fake.commands().pop() else { panic!("{name}") };
        assert_eq!((order, *step), (an_order(1).id, done));
    }
    let body = json!({"user": "bob", "reason": "broken"});
    site.ask_with(&own, "POST", &path("return"), body.clone()).await.assert_problem(403, "forbidden", "a merchant");
    assert_eq!(site.ask_with(&caller, "POST", &path("return"), body).await.status, 200);
    let Some(Command::StepOrder { step, .. }) = site.fake.commands().pop() else { panic!("it was sent back") };
    assert_eq!(*step, OrderStep::Return { user: UserId::new("bob").unwrap(), reason: text("broken") });
}

#[tokio::test]
async fn a_merchant_with_too_little_is_told_to_repeat_it() {
    let site = Site::new();
    site.fake.inner.lock().unwrap().orders.insert(an_order(1).id, an_order(1));
    let path = format!("/v1/orders/{}/accept-return", an_order(1).id);
    site.fake.script([Ok(Outcome::Refused(Refusal::InsufficientFunds))]);
    let answer = site.post(&path, "k", json!({"restock": true}).to_string()).await;
    let problem = answer.assert_problem(409, "insufficient_funds", "a merchant");
    assert_eq!(problem["retry"], "same_key");
    assert!(problem["detail"].as_str().unwrap().starts_with("The merchant has less"), "{problem}");
}
