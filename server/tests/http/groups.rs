//! Groups over HTTP: what is told of them to whom, and what is asked of the engine.

use crate::fake::*;
use hongbao_engine::command::{Command, ItemChange, NewItem, Outcome};
use hongbao_engine::group::{Group, GroupBuy, GroupState, NewGroup};
use hongbao_engine::types::{Amount, UserId};
use serde_json::{Value, json};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn site(group: Group) -> Site {
    let site = Site::new();
    let mut inner = site.fake.inner.lock().unwrap();
    inner.items.insert(item_id(1), item_view(1, Some(1)));
    inner.groups.insert(group.id, group);
    drop(inner);
    site
}

fn order(n: u8) -> String {
    hongbao_engine::types::OrderId::from_bytes([n; 16]).to_string()
}

fn shown(orders: [Value; 2]) -> Value {
    let [alice, bob] = orders;
    json!({
        "id": group_id(1).to_string(), "state": "open", "item": item_id(1).to_string(), "merchant": "rosy",
        "leader": "alice", "members": 2, "size": 3, "price": 9900, "currency": "CNY",
        "joined": [
            {"user": "alice", "joined_at": NOW_TEXT, "order": alice}, {"user": "bob", "joined_at": NOW_TEXT, "order": bob}
        ],
        "created_at": NOW_TEXT, "expires_at": "2027-02-06T08:01:00.123Z", "ended_at": null, "reference": null
    })
}

#[tokio::test]
async fn a_group_and_its_lists_are_shown_to_those_who_may_see_its_merchant() {
    let site = site(a_group(1));
    let expected = shown([Value::Null, Value::Null]);
    let list = json!({"groups": [expected], "next_cursor": null});
    let (of_group, of_item) = (format!("/v1/groups/{}", group_id(1)), format!("/v1/items/{}/groups", item_id(1)));
    for (role, sees) in
        [("admin", true), ("caller", true), ("viewer", true), ("merchant:rosy", true), ("merchant:lily", false)]
    {
        let (key, _) = site.key("anybody", &[role]).await;
        let (group, groups) = (site.get_with(&key, &of_group).await, site.get_with(&key, &of_item).await);
        if sees {
            assert_eq!((group.json(), groups.json()), (expected.clone(), list.clone()), "{role}");
        } else {
            group.assert_problem(404, "not_found", role);
            groups.assert_problem(404, "not_found", role);
        }
    }
    for role in ["issuer", "treasurer"] {
        let (key, _) = site.key("anybody", &[role]).await;
        site.get_with(&key, &of_group).await.assert_problem(403, "forbidden", role);
    }
    assert_eq!(site.get("/v1/users/bob/groups").await.json(), list);
    let none = json!({"groups": [], "next_cursor": null});
    assert_eq!(site.get("/v1/users/carol/groups").await.json(), none);
    assert_eq!(site.get(&format!("{of_item}?state=open")).await.json(), list);
    assert_eq!(site.get(&format!("{of_item}?state=leader_left")).await.json(), none);
    let wrong = site.get(&format!("{of_item}?state=closed")).await;
    assert_eq!(wrong.assert_problem(422, "invalid_field", "a state")["errors"][0]["field"], "state");
    for never in [group_id(2).to_string(), "group_x".into(), item_id(1).to_string()] {
        site.get(&format!("/v1/groups/{never}")).await.assert_problem(404, "not_found", &never);
    }
}

#[tokio::test]
async fn an_order_is_told_once_the_group_is_full_and_not_before() {
    let site = site(Group { state: GroupState::Full, ended_at: Some(NOW), ..a_group(1) });
    let told = site.get(&format!("/v1/groups/{}", group_id(1))).await.json();
    let mut expected = shown([json!(order(1)), json!(order(2))]);
    (expected["state"], expected["ended_at"]) = (json!("full"), json!(NOW_TEXT));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_is_asked_of_the_engine_is_what_was_sent() {
    let site = site(a_group(1));
    let open = format!("/v1/items/{}/groups", item_id(1));
    let answer = site.post(&open, "k1", json!({"user": "alice", "reference": "r"}).to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (201, shown([Value::Null, Value::Null])));
    let Some(Command::OpenGroup(terms)) = site.fake.commands().pop() else { panic!("a group is opened") };
    let NewGroup { owner, item, leader, reference } = *terms;
    assert_eq!((owner.as_str(), item, leader), ("admin", item_id(1), user("alice")));
    assert_eq!(reference.unwrap().text, "r");
    let (id, group) = (group_id(1), Box::new(a_group(1)));
    site.fake.script([Ok(Outcome::Joined { group, order: None, replayed: true })]);
    let path = format!("/v1/groups/{id}");
    let joined = site.post(&format!("{path}/join"), "k2", json!({"user": "bob"}).to_string()).await;
    let expected = json!({
        "outcome": "joined", "group": id.to_string(), "state": "open", "members": 2, "size": 3, "price": 9900,
        "expires_at": "2027-02-06T08:01:00.123Z", "order": null, "replayed": true
    });
    assert_eq!((joined.status.as_u16(), joined.json()), (200, expected));
    assert_eq!(site.fake.commands().pop(), Some(Command::JoinGroup { group: id, user: user("bob") }));
    let left = site.post(&format!("{path}/leave"), "k3", json!({"user": "bob"}).to_string()).await;
    assert_eq!(left.status, 200);
    assert_eq!(site.fake.commands().pop(), Some(Command::LeaveGroup { group: id, user: user("bob") }));
    for (outcome, told) in [
        (Outcome::GroupFull, "full"),
        (Outcome::LeaderLeft, "leader_left"),
        (Outcome::Expired, "expired"),
        (Outcome::SoldOut, "sold_out"),
        (Outcome::CannotPay, "insufficient_funds"),
    ] {
        site.fake.script([Ok(outcome)]);
        let answer = site.post(&format!("{path}/join"), told, json!({"user": "bob"}).to_string()).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"outcome": told})));
    }
}

#[tokio::test]
async fn a_group_that_cannot_be_opened_is_a_conflict() {
    let site = site(a_group(1));
    let open = format!("/v1/items/{}/groups", item_id(1));
    for (nth, (outcome, code)) in [
        (Outcome::SoldOut, "wrong_state"),
        (Outcome::LimitReached, "wrong_state"),
        (Outcome::NotOpen { opens_at: NOW }, "wrong_state"),
        (Outcome::Ended, "wrong_state"),
        (Outcome::CannotPay, "insufficient_funds"),
    ]
    .into_iter()
    .enumerate()
    {
        site.fake.script([Ok(outcome)]);
        let answer = site.post(&open, &format!("k{nth}"), json!({"user": "alice"}).to_string()).await;
        answer.assert_problem(409, code, "no group");
    }
}

#[tokio::test]
async fn terms_for_groups_are_set_changed_and_taken_away() {
    let site = site(a_group(1));
    let buy = json!({"size": 3, "price": 9900, "within_s": 86400});
    let terms = GroupBuy { size: 3, price: Amount::new(9900).unwrap(), within_s: 86_400 };
    let item = |group_buy: &Value| json!({"merchant": "rosy", "name": "99 roses", "category": "flowers", "price": 29900, "stock": 5, "group_buy": group_buy});
    site.post("/v1/items", "k1", item(&buy).to_string()).await;
    let Some(Command::CreateItem(made)) = site.fake.commands().pop() else { panic!("an item is made") };
    let NewItem { group_buy, .. } = *made;
    assert_eq!(group_buy, Some(terms));
    let path = format!("/v1/items/{}", item_id(1));
    for (sent, expected) in [
        (json!({"group_buy": buy}), Some(Some(terms))),
        (json!({"group_buy": null}), Some(None)),
        (json!({"price": 5}), None),
    ] {
        let site = self::site(a_group(1));
        let (admin, _) = site.key("shop", &["admin"]).await;
        site.ask_with(&admin, "PATCH", &path, sent).await;
        let Some(Command::ChangeItem { change, .. }) = site.fake.commands().pop() else { panic!("it is changed") };
        let ItemChange { group_buy, .. } = *change;
        assert_eq!(group_buy, expected);
    }
    let done = site.fake.commands().len();
    for (field, value) in [
        ("size", json!(1)),
        ("size", json!(0)),
        ("size", json!(101)),
        ("size", json!(2.5)),
        ("price", json!(0)),
        ("price", json!(9_007_199_254_740_992_u64)),
        ("within_s", json!(0)),
        ("within_s", json!(31_536_001)),
        ("within_s", Value::Null),
        ("leader", json!("alice")),
    ] {
        let mut wrong = buy.clone();
        wrong[field] = value.clone();
        let answer = site.post("/v1/items", "k", item(&wrong).to_string()).await;
        assert_eq!(answer.status, 422, "{field} {value}: {}", answer.text());
    }
    assert_eq!(site.fake.commands().len(), done, "nothing was asked of the engine");
}
