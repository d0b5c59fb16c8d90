//! Relations over HTTP: told in bulk, read, erased; and what the rule of giving makes of a call.

use crate::fake::*;
use axum::body::Body;
use axum::http::Method;
use hongbao_engine::command::{Command, Outcome, Refusal};
use hongbao_engine::gift::{Acceptance, GiftStep};
use hongbao_engine::relation::{Relation, RelationRow};
use hongbao_engine::types::UserId;
use hongbao_server::app::Setup;
use hongbao_server::relations::MayGive;
use serde_json::{Value, json};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn row(name: &str, relation: Relation, other: &str) -> RelationRow {
    RelationRow { user: user(name), other: user(other), relation }
}

async fn told(site: &Site, rows: Value) -> Answer {
    site.post("/v1/relations", "k", json!({ "relations": rows }).to_string()).await
}

#[tokio::test]
async fn relations_are_told_in_bulk_and_read_as_what_a_user_is_to_others() {
    let site = Site::new();
    let rows = json!([
        {"user": "bob", "other": "alice", "relation": "follows"},
        {"user": "carol", "other": "bob", "relation": "blocks"},
        {"user": "bob", "other": "dora", "relation": "none"},
    ]);
    let answer = told(&site, rows.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"rows": 3})));
    let expected = vec![
        row("bob", Relation::Follows, "alice"),
        row("carol", Relation::Blocks, "bob"),
        row("bob", Relation::None, "dora"),
    ];
    assert_eq!(site.fake.commands(), [Command::PutRelations(expected)]);
    let of = |name: &str| format!("/v1/users/{name}/relations");
    let page = |rows: Value| json!({"relations": rows, "next_cursor": null});
    assert_eq!(site.get(&of("bob")).await.json(), page(json!([rows[0]])));
    assert_eq!(site.get(&of("carol")).await.json(), page(json!([rows[1]])));
    // Whoever is blocked does not learn by whom.
    assert_eq!(site.get(&of("alice")).await.json(), page(json!([])));
}

#[tokio::test]
async fn what_is_wrong_with_a_relation_is_told_by_its_place() {
    let site = Site::new();
    let fine = json!({"user": "a", "other": "b", "relation": "follows"});
    for (rows, field) in [
        (json!([]), "relations"),
        (json!(vec![fine.clone(); 1001]), "relations"),
        (json!([fine, {"user": "a", "other": "b", "relation": "hates"}]), "relations[1].relation"),
        (json!([{"user": "a b", "other": "b", "relation": "none"}]), "relations[0].user"),
    ] {
        let problem = told(&site, rows).await.assert_problem(422, "invalid_field", field);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    assert_eq!(site.fake.commands(), []);
}

#[tokio::test]
async fn a_users_relations_are_erased_on_both_sides() {
    let site = Site::new();
    let mut rows: Vec<_> = (0..1000).map(|n| row("bob", Relation::Follows, &format!("u{n}"))).collect();
    rows.push(row("carol", Relation::Blocks, "bob"));
    let other = row("carol", Relation::Follows, "dora");
    rows.push(other.clone());
    site.fake.inner.lock().unwrap().relations = rows;
    for _ in 0..2 {
        let request = ask(Method::DELETE, "/v1/users/bob/relations").body(Body::empty()).unwrap();
        assert_eq!(site.send(request).await.status, 204);
        assert_eq!(site.fake.inner.lock().unwrap().relations, std::slice::from_ref(&other));
    }
}

#[tokio::test]
async fn the_rule_asks_the_engine_unless_the_call_asserts_it() {
    for (may_give, asserted, must_follow) in [
        (MayGive::Anyone, false, false),
        (MayGive::Anyone, true, false),
        (MayGive::Mutual, false, true),
        (MayGive::Mutual, true, false),
    ] {
        let site = Site::with(&Setup { may_give, ..setup() });
        let body = json!({"giver": "alice", "recipient": "bob", "item": item_id(1).to_string(), "mutual": asserted});
        site.post("/v1/gifts", "k", body.to_string()).await;
        let Some(Command::CreateGift(terms)) = site.fake.commands().pop() else { panic!("a gift is made") };
        assert_eq!(terms.must_follow, must_follow, "{may_give:?}, asserted: {asserted}");
        let body = json!({"user": "bob", "mutual": asserted}).to_string();
        site.post(&format!("/v1/gifts/{}/accept", gift_id(1)), "a", body).await;
        let Some(Command::StepGift { step, .. }) = site.fake.commands().pop() else { panic!("it is accepted") };
        let how = Acceptance { user: user("bob"), token: None, address: None, must_follow: true };
        let expected = match must_follow {
            true => GiftStep::AcceptWith(Box::new(how)),
            false => GiftStep::Accept { user: user("bob"), token: None },
        };
        assert_eq!(*step, expected, "{may_give:?}, asserted: {asserted}");
    }
}

#[tokio::test]
async fn who_is_blocked_is_not_told_by_whom() {
    let site = Site::new();
    let body = json!({"giver": "alice", "recipient": "bob", "item": item_id(1).to_string()}).to_string();
    for (refusal, says) in [(Refusal::Apart, "name somebody else"), (Refusal::NotMutual, "\"mutual\": true")] {
        site.fake.script([Ok(Outcome::Refused(refusal))]);
        let problem = site.post("/v1/gifts", "k", body.clone()).await.assert_problem(403, "forbidden", says);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says) && !detail.contains("block"), "{detail}");
    }
}
