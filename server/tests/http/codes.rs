//! Codes over HTTP: who is told them, and who is not.

use crate::fake::*;
use hongbao_engine::code::{Code, HandedTo};
use hongbao_engine::command::{Command, ItemKind, OrderView};
use hongbao_engine::gift::{Gift, GiftState};
use hongbao_engine::types::{ItemId, OrderId, UserId};
use serde_json::json;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn code_item(site: &Site, id: ItemId) {
    let mut item = item_view(1, None);
    (item.id, item.terms.origin.kind) = (id, ItemKind::Code);
    site.fake.inner.lock().unwrap().items.insert(id, item);
}

fn order_of(site: &Site, item: ItemId) -> OrderId {
    let id = OrderId::from_bytes([7; 16]);
    let order = OrderView { id, item, ..an_order(7) };
    let mut inner = site.fake.inner.lock().unwrap();
    inner.orders.insert(id, order);
    inner.codes.insert(HandedTo::Order(id), vec![Code::new("SECRET-1"), Code::new("SECRET-2")]);
    id
}

#[tokio::test]
async fn an_order_tells_its_codes_to_those_who_act_for_users() {
    let site = Site::new();
    code_item(&site, item_id(1));
    let path = format!("/v1/orders/{}", order_of(&site, item_id(1)));
    for (role, told) in [("admin", true), ("caller", true), ("viewer", false), ("merchant:rosy", false)] {
        let (key, _) = site.key("anybody", &[role]).await;
        let answer = site.get_with(&key, &path).await;
        let expected = if told { json!(["SECRET-1", "SECRET-2"]) } else { json!(null) };
        assert_eq!((answer.status.as_u16(), &answer.json()["codes"]), (200, &expected), "{role}");
        assert_eq!(answer.text().contains("SECRET"), told, "{role}");
    }
    site.fake.inner.lock().unwrap().items.insert(item_id(1), item_view(1, Some(1)));
    assert_eq!(site.get(&path).await.json()["codes"], json!(null), "of another kind there are none");
}

#[tokio::test]
async fn a_gifts_codes_are_told_for_its_recipient_only() {
    let site = Site::new();
    let accepted =
        Gift { recipient: Some(user("bob")), accepted_at: Some(NOW), state: GiftState::Delivered, ..a_gift(1) };
    let path = format!("/v1/gifts/{}/codes", gift_id(1));
    {
        let mut inner = site.fake.inner.lock().unwrap();
        inner.gifts.insert(accepted.id, accepted);
        inner.gifts.insert(gift_id(2), Gift { recipient: Some(user("bob")), ..a_gift(2) });
        for id in [gift_id(1), gift_id(2)] {
            inner.codes.insert(HandedTo::Gift(id), vec![Code::new("SECRET-1")]);
        }
    }
    assert_eq!(site.get(&format!("{path}?user=bob")).await.json(), json!({"codes": ["SECRET-1"]}));
    for giver in ["alice", "carol", "mallory"] {
        let answer = site.get(&format!("{path}?user={giver}")).await;
        let problem = answer.assert_problem(403, "forbidden", giver);
        assert!(!problem.to_string().contains("SECRET"));
    }
    site.get(&path).await.assert_problem(422, "invalid_field", "for nobody");
    let offered = format!("/v1/gifts/{}/codes?user=bob", gift_id(2));
    site.get(&offered).await.assert_problem(403, "forbidden", "not accepted");
    site.get(&format!("/v1/gifts/{}/codes?user=bob", gift_id(9))).await.assert_problem(404, "not_found", "no gift");
    for told in
        [format!("/v1/gifts/{}", gift_id(1)), "/v1/users/bob/gifts".into(), "/v1/users/alice/gifts?role=given".into()]
    {
        assert!(!site.get(&told).await.text().contains("SECRET"), "{told}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_code_is_told_by_its_place() {
    let site = Site::new();
    code_item(&site, item_id(1));
    let path = format!("/v1/items/{}/codes", item_id(1));
    let long = "x".repeat(201);
    for (codes, field) in [
        (json!([]), "codes"),
        (json!(vec!["x"; 1001]), "codes"),
        (json!("SECRET-1"), "codes"),
        (json!(["SECRET-1", ""]), "codes[1]"),
        (json!(["SECRET-1", "with space"]), "codes[1]"),
        (json!(["SECRET-1", "SECRET-2", long]), "codes[2]"),
        (json!([1]), "codes[0]"),
    ] {
        let answer = site.post(&path, "k", json!({"codes": codes}).to_string()).await;
        let problem = answer.assert_problem(422, "invalid_field", field);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        assert!(!problem.to_string().contains("SECRET-2"), "{problem}");
    }
    assert_eq!(site.fake.commands(), []);
    site.post(&path, "k", json!({"codes": ["SECRET-1", "红包-2"]}).to_string()).await;
    let Some(Command::AddCodes { item, codes }) = site.fake.commands().pop() else { panic!("codes were added") };
    assert_eq!((item, codes), (item_id(1), vec![Code::new("SECRET-1"), Code::new("红包-2")]));
    let described = format!("{:?}", site.fake.commands());
    assert!(!described.contains("SECRET"), "a log of a command tells no code: {described}");
}

#[tokio::test]
async fn an_item_of_codes_is_made_without_stock() {
    let site = Site::new();
    let with = |kind: &str, stock: &str| {
        format!(r#"{{"merchant":"rosy","name":"n","category":"c","price":1,"kind":"{kind}"{stock}}}"#)
    };
    for (kind, stock) in [("code", r#","stock":1"#), ("physical", ""), ("physical", r#","stock":0"#), ("virtual", "")] {
        let answer = site.post("/v1/items", "k", with(kind, stock)).await;
        let problem = answer.assert_problem(422, "invalid_field", kind);
        assert_eq!(problem["errors"][0]["field"], "stock");
    }
    assert_eq!(site.fake.commands(), []);
    for (key, stock) in [("a", ""), ("b", r#","stock":0"#)] {
        site.post("/v1/items", key, with("code", stock)).await;
        let Some(Command::CreateItem(terms)) = site.fake.commands().pop() else { panic!("an item is made") };
        assert_eq!((terms.stock, terms.origin.kind), (0, ItemKind::Code));
    }
}
