//! API keys: what each role may do, what it sees of other owners, and how keys
//! are made, shown once and deleted.

use crate::fake::*;
use axum::body::Body;
use axum::http::{Method, Request};
use hongbao_engine::EngineError;
use hongbao_engine::command::{Command, ItemKind, ItemOrigin, OrderView, Outcome, Refusal};
use hongbao_engine::order::OrderProgress;
use hongbao_engine::types::{Amount, HoldId, OrderId, UserId};
use hongbao_server::app::{Setup, routes};
use hongbao_server::service::OPENAPI;
use serde_json::{Value, json};

const ROLES: [&str; 6] = ["admin", "issuer", "caller", "treasurer", "merchant:rosy", "viewer"];

/// What people read: who is let in where.
const KEYS_MD: &str = include_str!("../../../docs/KEYS.md");

/// Method, path, and for each of [`ROLES`] whether it is let in.
fn matrix() -> Vec<(&'static str, &'static str, [bool; 6])> {
    let row = |line: &'static str| {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let (method, path) = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.split_once(' ')?;
        Some((method, path, std::array::from_fn(|_| cells.next().is_some_and(|cell| !cell.is_empty()))))
    };
    KEYS_MD.lines().filter_map(row).collect()
}

fn test_site() -> Site {
    Site::with(&Setup { test: true, ..setup() })
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

impl Site {
    /// Makes a key, and gives it with its id.
    pub async fn key(&self, owner: &str, roles: &[&str]) -> (String, String) {
        let body = json!({"name": "a key", "owner": owner, "roles": roles}).to_string();
        let answer = self.post("/v1/keys", &format!("{owner}:{}", roles.join("+")), body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let made = answer.json();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("key"), text("id"))
    }

    pub async fn ask_with(&self, key: &str, method: &str, path: &str, body: Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("idempotency-key", "once");
        let request = match body {
            Value::Null => request.body(Body::empty()),
            body => request.header("content-type", "application/json").body(Body::from(body.to_string())),
        };
        self.send(request.unwrap()).await
    }

    pub async fn get_with(&self, key: &str, path: &str) -> Answer {
        self.ask_with(key, "GET", path, Value::Null).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(ask(Method::DELETE, path).body(Body::empty()).unwrap()).await
    }
}

#[tokio::test]
async fn every_role_is_let_in_where_the_table_says() {
    let site = test_site();
    let mut keys = Vec::new();
    for role in ROLES {
        keys.push(site.key("shop", &[role]).await.0);
    }
    let rows = matrix();
    let mut listed: Vec<_> = rows.iter().map(|(method, path, _)| (*method, *path)).collect();
    let mut served = routes(&site.server);
    // What gateways call is signed, and needs no key.
    served.retain(|(_, path)| path.starts_with("/v1") && !path.starts_with("/v1/payments/callbacks/"));
    listed.sort_unstable();
    served.sort_unstable();
    assert_eq!(listed, served, "every route stands in docs/KEYS.md");
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    for (method, path, lets_in) in rows {
        let names = ROLES.map(|role| role.replace("rosy", "<id>"));
        let would_do: Vec<_> =
            names.iter().zip(lets_in).filter_map(|(name, lets_in)| lets_in.then_some(name)).collect();
        let documented = &document["paths"][path][method.to_lowercase()]["security"];
        let expected: Vec<_> = would_do.iter().map(|name| json!({"key": [name]})).collect();
        assert_eq!(documented, &json!(expected), "openapi.json names the roles of {method} {path}");
        let mut at = path.replace("{id}", "none").replace("{user}", "bob");
        if path == "/v1/events" {
            at.push_str("?wait_s=0");
        }
        for ((key, name), is_let_in) in keys.iter().zip(&names).zip(lets_in) {
            let what = format!("{method} {path} by {name}");
            let before = site.fake.commands().len();
            let answer = site.ask_with(key, method, &at, Value::Null).await;
            if is_let_in {
                // The list of all items is one that a merchant has to ask for its own of.
                assert!(
                    answer.status != 403 || answer.text().contains("its own merchants"),
                    "{what}: {}",
                    answer.text()
                );
                continue;
            }
            let problem = answer.assert_problem(403, "forbidden", &what);
            let (has, takes) = problem["detail"].as_str().unwrap().split_once("this takes ").unwrap();
            assert!(would_do.iter().all(|name| takes.contains(*name)), "{what}: not all of {would_do:?} in {takes}");
            assert!(has.contains(name), "{what}: no {name} in {has}");
            assert_eq!(site.fake.commands().len(), before, "{what}: nothing is asked of the engine");
        }
    }
}

#[tokio::test]
async fn roles_add_up() {
    let site = Site::new();
    let (key, _) = site.key("shop", &["treasurer", "caller"]).await;
    let deposited = site.ask_with(&key, "POST", "/v1/wallets/bob/deposits", json!({"amount": 5})).await;
    assert_eq!(deposited.status, 201, "{}", deposited.text());
    let grabbed = site.ask_with(&key, "POST", "/v1/grabs", json!({"grabs": [{"envelope": "x", "user": "bob"}]})).await;
    assert_eq!(grabbed.status, 200, "{}", grabbed.text());
    let problem = site.get_with(&key, "/v1/keys").await.assert_problem(403, "forbidden", "keys");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("the roles caller and treasurer, and this takes admin;"), "{detail}");
}

#[tokio::test]
async fn a_key_is_shown_once() {
    let site = Site::new();
    let body = json!({"name": "till", "roles": ["caller", "merchant:rosy"]}).to_string();
    let first = site.post("/v1/keys", "k1", body.clone()).await;
    let made = first.json();
    assert_eq!(first.status, 201, "{made}");
    assert_eq!(made["roles"], json!(["caller", "merchant:rosy"]));
    assert_eq!(
        (&made["name"], &made["owner"], &made["created_at"]),
        (&json!("till"), &json!("till"), &json!(NOW_TEXT))
    );
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("hb_") && key.len() == 67, "{key}");
    assert_eq!(site.get_with(key, "/v1/wallets/bob").await.status, 200, "it works as soon as it is told");

    let again = site.post("/v1/keys", "k1", body).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    let mut expected = made.clone();
    expected["key"] = Value::Null;
    assert_eq!(again.json(), expected);
    let other = json!({"name": "till", "roles": ["admin"]}).to_string();
    site.post("/v1/keys", "k1", other).await.assert_problem(422, "idempotency_mismatch", "other roles");

    let listed = site.get("/v1/keys").await.json();
    let mut row = made.clone();
    row.as_object_mut().unwrap().remove("key");
    assert_eq!(listed, json!({"keys": [row], "next_cursor": null}));
    for command in site.fake.commands() {
        assert!(!format!("{command:?}").contains(key), "the engine never gets the key itself");
    }
    let second = site.post("/v1/keys", "k2", json!({"name": "till", "roles": ["caller"]}).to_string()).await;
    assert_ne!(second.json()["key"], made["key"]);
}

#[tokio::test]
async fn a_deleted_key_opens_nothing() {
    let site = Site::new();
    let (key, id) = site.key("shop", &["viewer"]).await;
    let (other, _) = site.key("shop", &["caller"]).await;
    assert_eq!(site.get_with(&key, "/v1/audit").await.status, 200);
    let path = format!("/v1/keys/{id}");
    for time in ["once", "again"] {
        let answer = site.delete(&path).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (204, String::new()), "{time}");
        site.get_with(&key, "/v1/audit").await.assert_problem(401, "unauthorized", time);
    }
    assert_eq!(site.get_with(&other, "/v1/wallets/bob").await.status, 200, "another goes on working");
    assert_eq!(site.get("/v1/keys").await.json()["keys"].as_array().unwrap().len(), 1);
    for never in [format!("{}x", &path[..path.len() - 1]), "/v1/keys/key_x".into(), format!("/v1/keys/{key}")] {
        site.delete(&never).await.assert_problem(404, "not_found", &never);
    }
    site.delete(&format!("{path}?force=true")).await.assert_problem(422, "invalid_field", "a parameter");
    // Under its idempotency key the one that was deleted is told, and does not come back to life.
    let body = json!({"name": "a key", "owner": "shop", "roles": ["viewer"]}).to_string();
    let again = site.post("/v1/keys", "shop:viewer", body).await.json();
    assert_eq!((&again["id"], &again["key"]), (&json!(id), &Value::Null));
    site.get_with(&key, "/v1/audit").await.assert_problem(401, "unauthorized", "after the repeat");
}

/// Race 36.
#[tokio::test]
async fn a_key_deleted_in_the_middle_of_a_request_was_checked_at_its_entry() {
    let site = std::sync::Arc::new(Site::new());
    let (key, id) = site.key("shop", &["caller"]).await;
    site.fake.turns.forget_permits(1 << 20);
    let path = format!("/v1/envelopes/{}/grab", envelope_id(1));
    let grab = {
        let (site, key, path) = (site.clone(), key.clone(), path.clone());
        tokio::spawn(async move { site.ask_with(&key, "POST", &path, json!({"user": "bob"})).await })
    };
    while site.get("/metrics").await.text().lines().all(|line| line != "hongbao_http_in_flight 2") {
        tokio::task::yield_now().await;
    }
    // The fake gives turns in order: the grab waits, and so does the deletion after it.
    let deletion = {
        let site = site.clone();
        tokio::spawn(async move { site.delete(&format!("/v1/keys/{id}")).await.status })
    };
    while site.get("/metrics").await.text().lines().all(|line| line != "hongbao_http_in_flight 3") {
        tokio::task::yield_now().await;
    }
    site.fake.turns.add_permits(1 << 20);
    assert_eq!((grab.await.unwrap().status.as_u16(), deletion.await.unwrap().as_u16()), (200, 204));
    let after = site.ask_with(&key, "POST", &path, json!({"user": "bob"})).await;
    after.assert_problem(401, "unauthorized", "after its deletion");
}

#[tokio::test]
async fn keys_that_cannot_be_made() {
    let site = Site::new();
    let long = "x".repeat(201);
    for (body, field, word) in [
        (json!({"roles": ["caller"]}), "name", "missing"),
        (json!({"name": "", "roles": ["caller"]}), "name", "1 to 200"),
        (json!({"name": long, "roles": ["caller"]}), "name", "1 to 200"),
        (json!({"name": "a\u{0}", "roles": ["caller"]}), "name", "control"),
        (json!({"name": "front desk", "roles": ["caller"]}), "owner", "give one"),
        (json!({"name": "x".repeat(65), "roles": ["caller"]}), "owner", "1 to 64"),
        (json!({"name": "a", "owner": "a b", "roles": ["caller"]}), "owner", "A-Z"),
        (json!({"name": "a", "owner": null, "roles": ["caller"]}), "owner", "null"),
        (json!({"name": "a"}), "roles", "missing"),
        (json!({"name": "a", "roles": "caller"}), "roles", "sequence"),
        (json!({"name": "a", "roles": ["caller", "janitor"]}), "roles[1]", "\"janitor\" is not a role"),
        (json!({"name": "a", "roles": ["Admin"]}), "roles[0]", "\"Admin\" is not a role"),
        (json!({"name": "a", "roles": ["merchant:"]}), "roles[0]", "merchant:<id>"),
        (json!({"name": "a", "roles": [7]}), "roles[0]", "string"),
        (json!({"name": "a", "roles": ["caller"], "key": "mine"}), "key", "unknown"),
    ] {
        let what = body.to_string();
        let problem = site.post("/v1/keys", "k", what.clone()).await.assert_problem(422, "invalid_field", &what);
        assert_eq!(problem["errors"][0]["field"], field, "{what}: {problem}");
        let message = problem["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(word), "{what}: no {word:?} in {message}");
    }
    let good = json!({"name": "front desk", "owner": "shop", "roles": ["caller"]}).to_string();
    site.post("/v1/keys", "", good.clone()).await.assert_problem(400, "idempotency_key_required", "no key");
    assert_eq!(site.fake.commands(), []);
    site.fake.script([Ok(Outcome::Refused(Refusal::invalid("roles", "names caller twice; name it once")))]);
    site.post("/v1/keys", "k", good.clone()).await.assert_problem(422, "invalid_field", "what the engine refuses");
    site.fake.script([Err(EngineError::Unconfirmed("lost".into()))]);
    site.post("/v1/keys", "k", good).await.assert_problem(503, "unconfirmed", "an answer that was lost");
}

#[tokio::test]
async fn keys_near_a_right_one_open_nothing() {
    let site = Site::new();
    let (key, id) = site.key("shop", &["admin"]).await;
    let upper = key.to_uppercase();
    for wrong in [
        &key[..key.len() - 1],
        &format!("{key}0"),
        &key[3..],
        &upper,
        &id,
        &format!(" {key}"),
        "hb_0000000000000000000000000000000000000000000000000000000000000000",
    ] {
        site.get_with(wrong, "/v1/keys").await.assert_problem(401, "unauthorized", wrong);
    }
    // What is stored of it opens nothing either.
    let digest = site.fake.keys().pop().unwrap().digest;
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    for wrong in [digest.clone(), format!("hb_{digest}")] {
        site.get_with(&wrong, "/v1/keys").await.assert_problem(401, "unauthorized", "a digest");
    }
    let both = ask(Method::GET, "/v1/keys").header("authorization", format!("Bearer {key}"));
    site.send(both.body(Body::empty()).unwrap()).await.assert_problem(401, "unauthorized", "two keys");
    assert_eq!(site.get_with(&key, "/v1/keys").await.status, 200);
    // A second server in front of the same engine knows it as soon as it has looked.
    let elsewhere = Site::before(site.fake.clone(), &setup());
    elsewhere.get_with(&key, "/v1/keys").await.assert_problem(401, "unauthorized", "not looked yet");
    elsewhere.server.keys().refresh(&*elsewhere.fake).await.unwrap();
    assert_eq!(elsewhere.get_with(&key, "/v1/keys").await.status, 200);
    site.delete(&format!("/v1/keys/{id}")).await;
    elsewhere.server.keys().refresh(&*elsewhere.fake).await.unwrap();
    elsewhere.get_with(&key, "/v1/keys").await.assert_problem(401, "unauthorized", "deleted elsewhere");
}

#[tokio::test]
async fn what_belongs_to_another_owner_is_not_there_for_an_issuer() {
    let site = Site::new();
    let (own, _) = site.key("shop", &["issuer"]).await;
    let (other, _) = site.key("rival", &["issuer", "merchant:rosy", "treasurer"]).await;
    let (both, _) = site.key("rival", &["issuer", "caller"]).await;
    let (viewer, _) = site.key("rival", &["viewer"]).await;
    let (caller, _) = site.key("rival", &["caller"]).await;
    let (admin, _) = site.key("rival", &["admin"]).await;
    let mut view = envelope_view(1);
    view.owner = "shop".to_owned();
    site.fake.inner.lock().unwrap().envelopes.insert(envelope_id(1), view);
    let path = format!("/v1/envelopes/{}", envelope_id(1));
    let reads = [path.clone(), format!("{path}/grabs"), format!("{path}/grabs/bob")];
    for (key, sees) in [(&own, true), (&other, false), (&both, true), (&viewer, true), (&caller, true), (&admin, true)]
    {
        for read in &reads {
            let answer = site.get_with(key, read).await;
            match sees {
                true => assert_eq!(answer.status, 200, "{read}: {}", answer.text()),
                false => drop(answer.assert_problem(404, "not_found", read)),
            }
        }
    }
    let before = site.fake.commands().len();
    let cancel = format!("{path}/cancel");
    let never = format!("/v1/envelopes/{}/cancel", envelope_id(9));
    for (key, status, code) in [
        (&other, 404, "not_found"),
        (&both, 404, "not_found"),
        (&viewer, 403, "forbidden"),
        (&caller, 403, "forbidden"),
    ] {
        site.ask_with(key, "POST", &cancel, json!({})).await.assert_problem(status, code, "another's");
    }
    let unknown = site.ask_with(&other, "POST", &never, json!({})).await.assert_problem(404, "not_found", "none");
    let others = site.ask_with(&other, "POST", &cancel, json!({})).await.assert_problem(404, "not_found", "another's");
    assert_eq!(unknown["detail"], others["detail"], "nobody can tell one from the other");
    assert_eq!(site.fake.commands().len(), before, "none came to the engine");
    for key in [&own, &admin] {
        site.fake.script([Ok(Outcome::Envelope(Box::new(envelope_view(1))))]);
        assert_eq!(site.ask_with(key, "POST", &cancel, json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn another_owners_item_is_not_there_to_be_changed() {
    let site = Site::new();
    let (own, _) = site.key("shop", &["issuer"]).await;
    let (other, _) = site.key("rival", &["issuer", "caller"]).await;
    let (admin, _) = site.key("boss", &["admin"]).await;
    {
        let mut inner = site.fake.inner.lock().unwrap();
        let mut of_shop = item_view(1, Some(1));
        of_shop.terms.origin.owner = "shop".to_owned();
        inner.items.insert(item_id(1), of_shop);
        inner.items.insert(item_id(2), item_view(2, Some(1)));
    }
    let asks = |id: u8| {
        let path = format!("/v1/items/{}", item_id(id));
        [
            ("PATCH", path.clone(), json!({"price": 7})),
            ("POST", format!("{path}/restock"), json!({"quantity": 1})),
            ("POST", format!("{path}/codes"), json!({"codes": ["A"]})),
        ]
    };
    for ((method, path, body), (_, never, _)) in asks(1).into_iter().zip(asks(9)) {
        let before = site.fake.commands().len();
        let others = site.ask_with(&other, method, &path, body.clone()).await.assert_problem(404, "not_found", &path);
        let unknown =
            site.ask_with(&other, method, &never, body.clone()).await.assert_problem(404, "not_found", &never);
        assert_eq!(unknown["detail"], others["detail"], "nobody can tell one from the other");
        assert_eq!(site.fake.commands().len(), before, "none came to the engine");
        for key in [&own, &admin] {
            site.fake.script([Ok(Outcome::Item(Box::new(item_view(1, Some(1)))))]);
            assert_eq!(site.ask_with(key, method, &path, body.clone()).await.status, 200, "{path}");
        }
    }
    for (method, path, body) in asks(2) {
        site.fake.script([Ok(Outcome::Item(Box::new(item_view(2, Some(1)))))]);
        assert_eq!(site.ask_with(&other, method, &path, body).await.status, 200, "{path}: it has no owner");
    }
    assert_eq!(site.get_with(&other, &format!("/v1/items/{}", item_id(1))).await.status, 200, "all read it");
    let made = json!({"merchant": "rosy", "name": "rose", "category": "home", "price": 1, "stock": 1, "kind": "virtual",
                      "variant_of": item_id(1).to_string()});
    site.fake.script([Ok(Outcome::Item(Box::new(item_view(3, Some(1)))))]);
    assert_eq!(site.ask_with(&other, "POST", "/v1/items", made).await.status, 201);
    let Some(Command::CreateItem(terms)) = site.fake.commands().pop() else { panic!("no item was made") };
    let origin = ItemOrigin {
        owner: "rival".to_owned(),
        kind: ItemKind::Virtual,
        variant_of: Some(item_id(1)),
        ..ItemOrigin::default()
    };
    assert_eq!(terms.origin, origin);
}

#[tokio::test]
async fn owners_have_references_and_idempotency_keys_of_their_own() {
    let site = Site::new();
    let (one, _) = site.key("shop", &["treasurer", "issuer"]).await;
    let (same, _) = site.key("shop", &["treasurer"]).await;
    let (other, _) = site.key("rival", &["treasurer", "issuer"]).await;
    let (viewer, _) = site.key("rival", &["viewer"]).await;
    let deposit = json!({"amount": 5, "reference": "r1"});
    for (key, replayed) in [(&one, ""), (&same, "true"), (&other, ""), (&one, "true")] {
        let answer = site.ask_with(key, "POST", "/v1/wallets/bob/deposits", deposit.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.header("idempotency-replayed")), (201, replayed));
    }
    let owners: Vec<_> = site.fake.commands().iter().filter_map(owner_of).collect();
    assert_eq!(owners, ["shop", "rival"]);
    for (key, owner, of_owner) in [(&one, "shop", true), (&other, "rival", true), (&viewer, "rival", false)] {
        assert_eq!(site.get_with(key, "/v1/envelopes?reference=gala").await.status, 200);
        let filter = site.fake.inner.lock().unwrap().filters.pop().unwrap();
        assert_eq!((&*filter.owner, filter.of_owner), (owner, of_owner));
    }
    site.get("/v1/envelopes").await;
    let filter = site.fake.inner.lock().unwrap().filters.pop().unwrap();
    assert_eq!((&*filter.owner, filter.of_owner), ("admin", false), "the admin key is the owner admin's");
    let create = json!({"sender": "alice", "total": 10, "shares": 1, "reference": "r1"});
    site.fake.script([Ok(Outcome::Envelope(Box::new(envelope_view(1))))]);
    assert_eq!(site.ask_with(&other, "POST", "/v1/envelopes", create).await.status, 201);
    let Some(Command::CreateEnvelope(terms)) = site.fake.commands().pop() else { panic!("no envelope was made") };
    assert_eq!((&*terms.owner, &*terms.reference.unwrap().owner), ("rival", "rival"));
}

fn owner_of(command: &Command) -> Option<String> {
    match command {
        Command::Deposit(transfer) => transfer.reference.as_ref().map(|reference| reference.owner.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_merchant_reads_itself_its_own_items_and_orders() {
    let site = Site::new();
    let (own, _) = site.key("rosy", &["merchant:rosy", "merchant:tim"]).await;
    let (other, _) = site.key("eve", &["merchant:eve", "treasurer"]).await;
    let (caller, _) = site.key("app", &["caller", "merchant:eve"]).await;
    let order = OrderId::from_bytes([2; 16]);
    {
        let mut inner = site.fake.inner.lock().unwrap();
        inner.items.insert(item_id(1), item_view(1, Some(1)));
        inner.orders.insert(
            order,
            OrderView {
                id: order,
                hold: HoldId::from_bytes([1; 16]),
                item: item_id(1),
                merchant: user("rosy"),
                user: user("bob"),
                quantity: 1,
                amount: Amount::new(100).unwrap(),
                created_at: NOW,
                progress: OrderProgress::default(),
            },
        );
    }
    let (item, order) = (format!("/v1/items/{}", item_id(1)), format!("/v1/orders/{order}"));
    for path in [item, order, "/v1/merchants/rosy".to_owned()] {
        assert_eq!(site.get_with(&own, &path).await.status, 200, "{path}");
        assert_eq!(site.get_with(&caller, &path).await.status, 200, "{path}");
        site.get_with(&other, &path).await.assert_problem(404, "not_found", &path);
    }
    // Its money is nobody's business but its own and the house's.
    let (eve, _) = site.key("eve", &["merchant:eve"]).await;
    for path in ["/v1/merchants/rosy/balance", "/v1/merchants/rosy/statement"] {
        for key in [&own, &other] {
            assert_eq!(site.get_with(key, path).await.status, 200, "{path}");
        }
        for key in [&eve, &caller] {
            site.get_with(key, path).await.assert_problem(404, "not_found", path);
        }
    }
    for (key, query, status) in [
        (&own, "", 403),
        (&own, "?merchant=rosy", 200),
        (&own, "?merchant=tim", 200),
        (&own, "?merchant=eve", 403),
        (&other, "?merchant=rosy", 403),
        (&other, "?merchant=eve", 200),
        (&caller, "", 200),
    ] {
        let answer = site.get_with(key, &format!("/v1/items{query}")).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
    }
    let problem = site.get_with(&own, "/v1/items").await.assert_problem(403, "forbidden", "all items");
    assert!(problem["detail"].as_str().unwrap().contains("?merchant=rosy or ?merchant=tim"), "{problem}");
}
