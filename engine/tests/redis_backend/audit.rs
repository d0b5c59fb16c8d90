//! Audits and the reconciler: each kind of damage is found and told by its
//! type, what nobody carried is carried, and a sound deployment has no finding
//! while engines decide in it.

use crate::deployment::Deployment;
use crate::redis_stand::RedisServer;
use crate::scene::{Acts, server, sound_while_engines_decide};
use crate::stand::{api_key, envelope, fen, item, user};
use hongbao_engine::backend::{Backend, Page};
use hongbao_engine::code::Code;
use hongbao_engine::command::{
    Command, ItemKind, ItemOrigin, MerchantStatus, NewEnvelope, NewItem, NewMerchant, Outcome, Transfer,
};
use hongbao_engine::gift::{GiftState, GiftStep, NewGift};
use hongbao_engine::order::OrderStep;
use hongbao_engine::payout::{Outside, PayoutFilter, PayoutResult, PayoutState, PayoutTo};
use hongbao_engine::redis::FindingKind::{
    self, Envelope, Hold, InFlight, Item, LateEffect, List, LostMoney, Share, Sums, Unreadable, Wallet,
};
use hongbao_engine::redis::{Fuse, Reconciled, RedisAudit, RedisBackend, RedisBackendOptions, RedisOptions};
use hongbao_engine::types::*;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// What finds the keys of a scene. Its prefix, open envelope and item are given.
const FINDERS: &str = "
    local function key(rest) return redis.call('KEYS', ARGV[1] .. ':*}:' .. rest)[1] end
    local function beside(one, rest) return string.match(one, '^.*}:') .. rest end
    local function field(hash, form)
      for _, name in ipairs(redis.call('HKEYS', hash)) do
        if string.find(name, form) == 1 then return name end
      end
    end
    local env, item = key(ARGV[2]), key(ARGV[3])
    local bob, alice, hana = key('wallet:bob'), key('wallet:alice'), key('wallet:hana')
    local gifts = beside(item, 'gifts')
    local music = string.match(key('item_*:had'), '^(.*):had$')
    local api_keys, deleted = key('api_keys'), key('deleted_api_keys')
    local function payout(name)
      for _, found in ipairs(redis.call('KEYS', ARGV[1] .. ':*}:pay_*')) do
        if redis.call('HGET', found, 'user') == name then return found end
      end
    end
    local to_frank, to_gina, back = payout('frank'), payout('gina'), payout('alice')
    local working
    for _, id in ipairs(redis.call('HKEYS', api_keys)) do
      if #id == 16 then
        working = id
      end
    end
    ";

/// What is done with redis-cli, and the types of what is to be found then, among others.
const DAMAGES: &[(&str, &[FindingKind])] = &[
    ("redis.call('HINCRBY', bob, 'available', 1)", &[Wallet, Sums]),
    ("redis.call('HSET', bob, '1', '1 d 999 999 ')", &[Wallet, Sums]),
    ("redis.call('HDEL', bob, '1')", &[Wallet]),
    ("redis.call('HDEL', bob, field(bob, '#c'))", &[Wallet, LostMoney]),
    ("redis.call('DEL', bob)", &[LostMoney, Sums]),
    ("redis.call('SET', bob, 'x')", &[Unreadable]),
    ("redis.call('HDEL', alice, field(alice, '#r'))", &[Wallet, LostMoney]),
    ("redis.call('DEL', key('received:carol'))", &[List]),
    ("redis.call('DEL', key('sent:alice'))", &[List]),
    ("redis.call('ZREM', beside(env, 'envelopes'), redis.call('ZRANGE', beside(env, 'envelopes'), 0, 0)[1])", &[List]),
    ("redis.call('DEL', beside(env, 'due'))", &[List]),
    ("redis.call('SETRANGE', env .. ':shares', 0, 'x')", &[Share, Envelope, LostMoney]),
    ("redis.call('SETRANGE', env .. ':shares', 8, 'x')", &[Share]),
    ("redis.call('APPEND', env .. ':shares', 'xxxx')", &[Share]),
    ("redis.call('HSET', env .. ':winners', 'carol', struct.pack('<I4I5', 0, 1))", &[Share]),
    ("redis.call('HDEL', env .. ':winners', 'carol')", &[Unreadable]),
    ("redis.call('RPOP', env .. ':order')", &[Envelope]),
    ("redis.call('HINCRBY', env, 'claimed_amount', 1)", &[Envelope, Sums]),
    ("redis.call('HINCRBY', env, 'claimed', 1)", &[Envelope]),
    ("redis.call('HINCRBY', env, 'refunded', 1)", &[Envelope, Sums]),
    ("redis.call('HDEL', env, 'created')", &[Unreadable, Sums]),
    ("redis.call('HSET', env, 'created', 'x')", &[Unreadable, Sums]),
    ("redis.call('HINCRBY', beside(env, 'sums'), 'escrowed', 1)", &[Sums]),
    (
        "redis.call('HINCRBY', beside(bob, 'sums'), 'wallets', 5)
         redis.call('HINCRBY', beside(bob, 'sums'), 'transit', -5)",
        &[Sums, InFlight],
    ),
    ("redis.call('HSET', beside(alice, 'sums'), 'quota', '1')", &[Sums]),
    ("redis.call('HSET', beside(env, 'outbox'), 'xyz', 'x')", &[Unreadable]),
    ("redis.call('HINCRBY', item, 'sold', 1)", &[Item]),
    ("redis.call('HINCRBY', item, 'sold', 100)", &[Item]),
    ("redis.call('HINCRBY', item, 'held', -1)", &[Item]),
    ("redis.call('HDEL', item .. ':units', 'bob')", &[Item, Hold]),
    ("redis.call('HSET', item .. ':units', 'eve', struct.pack('<I4I4', 1, 0))", &[Item]),
    ("redis.call('DEL', item .. ':live')", &[List]),
    ("redis.call('ZREM', beside(item, 'items'), redis.call('ZRANGE', beside(item, 'items'), 0, 0)[1])", &[List]),
    ("redis.call('DEL', item)", &[Item]),
    ("redis.call('DEL', beside(item, 'holds'))", &[Item, Hold]),
    ("local holds = beside(item, 'holds') redis.call('HSET', holds, field(holds, '.*'), 'x')", &[Unreadable, Item]),
    ("redis.call('DEL', beside(item, 'orders'))", &[Hold]),
    ("redis.call('HINCRBY', key('merchant:rosy'), 'owed', 1)", &[FindingKind::Merchant]),
    ("redis.call('HSET', api_keys, 'x', 'y')", &[Unreadable]),
    (
        "redis.call('HSET', api_keys, string.rep('x', 16), redis.call('HGET', api_keys, working))",
        &[FindingKind::ApiKey],
    ),
    ("redis.call('HSET', deleted, working, redis.call('HGET', api_keys, working))", &[FindingKind::ApiKey]),
    (
        "local gone = redis.call('HKEYS', deleted)[1]
         redis.call('HSET', api_keys, gone, redis.call('HGET', deleted, gone))",
        &[FindingKind::ApiKey],
    ),
    ("redis.call('DEL', to_frank)", &[LostMoney, List, Sums]),
    ("redis.call('DEL', back)", &[LostMoney, List, Sums]),
    ("redis.call('HINCRBY', to_frank, 'amount', 1)", &[FindingKind::Payout, Sums]),
    ("redis.call('HSET', to_frank, 'user', 'zoe')", &[FindingKind::Payout]),
    ("redis.call('HSET', to_frank, 'kind', 'refund')", &[FindingKind::Payout]),
    ("redis.call('HSET', back, 'user', 'frank')", &[FindingKind::Payout]),
    ("redis.call('HSET', to_frank, 'kind', 'x')", &[Unreadable]),
    ("redis.call('HSET', to_frank, 'state', 'paid')", &[List, Sums]),
    ("redis.call('HSET', to_gina, 'state', 'due')", &[List]),
    ("redis.call('DEL', beside(to_gina, 'payouts:sent'))", &[List]),
    ("redis.call('DEL', beside(to_frank, 'payouts'))", &[List]),
    ("redis.call('HINCRBY', beside(to_frank, 'sums'), 'payable', 1)", &[Sums]),
    ("redis.call('HINCRBY', beside(back, 'sums'), 'paid_out', 1)", &[Sums]),
    ("redis.call('DEL', beside(alice, 'funded'))", &[LostMoney, Sums]),
    ("redis.call('HINCRBY', beside(alice, 'funded'), field(beside(alice, 'funded'), '.*'), 1)", &[LostMoney, Sums]),
    ("redis.call('DEL', key('owed:rosy'))", &[FindingKind::Merchant, LostMoney, Sums]),
    ("redis.call('HINCRBY', key('merchant:rosy'), 'pending', -1)", &[FindingKind::Merchant]),
    ("redis.call('DEL', key('slots:rosy'))", &[FindingKind::Merchant]),
    ("redis.call('HSET', key('slots:rosy'), '1', '5 0')", &[FindingKind::Merchant]),
    ("redis.call('DEL', key('sales:rosy'))", &[FindingKind::Merchant]),
    ("redis.call('ZADD', key('sales:rosy'), 1, '0000000000000009 w 1 1 1 ')", &[FindingKind::Merchant, Sums]),
    ("redis.call('ZADD', key('sales:rosy'), 1, 'x')", &[Unreadable]),
    ("redis.call('ZREM', beside(key('merchant:rosy'), 'due'), 'mrosy')", &[List]),
    ("redis.call('HINCRBY', beside(key('merchant:rosy'), 'sums'), 'platform', 1)", &[Sums]),
    ("redis.call('DEL', beside(item, 'not_selling'))", &[FindingKind::Merchant]),
    ("redis.call('HSET', beside(item, 'not_selling'), 'lily', '1 verified')", &[FindingKind::Merchant]),
    ("redis.call('DEL', key('merchants'))", &[List]),
    ("redis.call('DEL', gifts)", &[Item, List, Sums]),
    ("redis.call('HSET', gifts, field(gifts, '.*'), 'x')", &[Unreadable]),
    (
        "local id = field(gifts, '.*')
         redis.call('HSET', gifts, id, 'c' .. string.sub(redis.call('HGET', gifts, id), 2))",
        &[Unreadable],
    ),
    ("redis.call('DEL', item .. ':gifts')", &[List]),
    ("redis.call('ZADD', item .. ':gifts', 0, string.rep('x', 16) .. 'hana')", &[List]),
    (
        "for _, member in ipairs(redis.call('ZRANGE', beside(item, 'due'), 0, -1)) do
           if string.find(member, 'g') == 1 then redis.call('ZREM', beside(item, 'due'), member) end
         end",
        &[List],
    ),
    ("redis.call('HDEL', hana, field(hana, '#g'))", &[Wallet, LostMoney]),
    ("redis.call('HDEL', hana, field(hana, '#b'))", &[Wallet, LostMoney]),
    ("redis.call('DEL', key('given:hana'))", &[List]),
    ("redis.call('DEL', key('gifts:ivan'))", &[List]),
    ("redis.call('RPOP', music .. ':codes')", &[Item]),
    ("redis.call('SPOP', music .. ':had')", &[Item]),
    ("redis.call('RPUSH', music .. ':codes', 'x')", &[Item]),
    ("redis.call('HSET', music, '#' .. string.rep('7', 16), '0')", &[Item]),
    (
        "for _, field in ipairs(redis.call('HKEYS', music)) do
           if string.sub(field, 1, 1) == '#' then redis.call('HDEL', music, field) end
         end",
        &[Item],
    ),
    (
        "local orders = beside(music, 'orders')
         for _, id in ipairs(redis.call('HKEYS', orders)) do
           redis.call('HSET', orders, id, (string.gsub(redis.call('HGET', orders, id), '#0$', '#1')))
         end",
        &[Item],
    ),
    // The order went back: its merchant still has the money, its payer has not, or it says that it did not.
    (
        "local owed = key('owed:rosy')
         for _, id in ipairs(redis.call('HKEYS', owed)) do
           redis.call('HSET', owed, id, (string.gsub(redis.call('HGET', owed, id), ' r$', '')))
         end",
        &[FindingKind::Merchant, LostMoney],
    ),
    (
        "local wallet = key('wallet:kate')
         for _, mark in ipairs(redis.call('HKEYS', wallet)) do
           if string.sub(mark, 1, 2) == '#u' then redis.call('HDEL', wallet, mark) end
         end",
        &[Wallet, LostMoney],
    ),
    (
        "local orders = beside(item, 'orders')
         for _, id in ipairs(redis.call('HKEYS', orders)) do
           local row = redis.call('HGET', orders, id)
           local at, merchant = string.match(string.sub(row, 17), '^(%d+) (%S+)')
           redis.call('HSET', orders, id, string.sub(row, 1, 16) .. at .. ' ' .. merchant)
         end",
        &[Item, LostMoney],
    ),
    (
        "local owed = key('owed:rosy')
         for _, id in ipairs(redis.call('HKEYS', owed)) do
           if redis.call('HEXISTS', gifts, id) == 1 then redis.call('HDEL', owed, id) end
         end",
        &[FindingKind::Merchant, LostMoney, Sums],
    ),
];

/// A deployment in which everything has happened, and what is open in it.
struct Scene {
    acts: Acts,
    envelope: EnvelopeId,
    item: ItemId,
}

impl Deref for Scene {
    type Target = Acts;

    fn deref(&self) -> &Acts {
        &self.acts
    }
}

impl Scene {
    fn new(seed: u64, server: &Arc<RedisServer>) -> Scene {
        let deployment = Deployment::alone_on(seed, server);
        let backend = deployment.open();
        let ids = (EnvelopeId::from_bytes([0; 16]), ItemId::from_bytes([0; 16]));
        let mut scene = Scene { acts: Acts { deployment, backend }, envelope: ids.0, item: ids.1 };
        scene.deposit("alice", 1000);
        scene.deposit("bob", 100);
        let short = scene.give(NewEnvelope { expires_in_s: 10, ..envelope(60, 2) });
        scene.grab(short, "dave");
        let own = scene.give(NewEnvelope { auto_claim: true, ..envelope(10, 1) });
        scene.grab(own, "eve");
        scene.ask(Command::AdvanceClock { by_s: 20 });
        scene.deployment.settle(&scene.backend);
        scene.envelope = scene.give(envelope(300, 3));
        scene.grab(scene.envelope, "bob");
        scene.grab(scene.envelope, "carol");
        scene.ask(Command::Claim { envelope: scene.envelope, user: user("bob") });
        let outside = Outside { funding: Some("f".to_owned()), payout: PayoutTo::External };
        let paid = scene.give(NewEnvelope { auto_claim: true, outside, ..envelope(30, 3) });
        scene.grab(paid, "frank");
        scene.grab(paid, "gina");
        scene.ask(Command::Cancel { envelope: paid });
        scene.deployment.settle(&scene.backend);
        for (name, state) in [("gina", PayoutState::Sent), ("alice", PayoutState::Paid)] {
            let filter = PayoutFilter { user: Some(user(name)), ..PayoutFilter::default() };
            let page = Page { limit: 1, cursor: None };
            let listed = scene.deployment.drive(scene.backend.payouts(&filter, &page)).expect("a list").rows;
            let payout = listed[0].payout.id;
            scene.ask(Command::PayoutResults(vec![PayoutResult { payout, state, reference: None, reason: None }]));
        }
        for nth in [1, 2] {
            let made = scene.ask(Command::CreateApiKey(Box::new(api_key("shop", nth))));
            let Outcome::ApiKey(key) = made else { panic!("{made:?}") };
            if nth == 2 {
                scene.ask(Command::DeleteApiKey { key: key.id });
            }
        }
        let status = Some(MerchantStatus::Verified);
        scene.ask(Command::PutMerchant(Box::new(NewMerchant::new(user("rosy"), "Rosy", status))));
        for status in [Some(MerchantStatus::Pending), Some(MerchantStatus::Suspended)] {
            scene.ask(Command::PutMerchant(Box::new(NewMerchant::new(user("lily"), "Lily", status))));
        }
        let Outcome::Item(view) = scene.ask(Command::CreateItem(Box::new(item(9)))) else { panic!("no item") };
        scene.item = view.id;
        let hold = scene.hold("bob");
        scene.ask(Command::ClaimHold { hold, user: user("bob") });
        scene.hold("bob");
        scene.codes();
        scene.returns();
        scene.gifts();
        scene
    }

    /// Three codes, of which one is bought, one given.
    fn codes(&self) {
        self.deposit("lena", 100);
        let origin = ItemOrigin { kind: ItemKind::Code, ..ItemOrigin::default() };
        let name = "A month of music".to_owned();
        let made = self.ask(Command::CreateItem(Box::new(NewItem { name, origin, per_user_limit: None, ..item(0) })));
        let Outcome::Item(view) = made else { panic!("{made:?}") };
        let (item, lena) = (view.id, user("lena"));
        self.ask(Command::AddCodes { item, codes: ["one", "two", "three"].map(Code::new).to_vec() });
        let held = self.ask(Command::GrabItem { item, user: lena.clone(), quantity: 1 });
        let Outcome::Held { hold, .. } = held else { panic!("{held:?}") };
        self.ask(Command::ClaimHold { hold, user: lena.clone() });
        let given = self.ask(Command::CreateGift(Box::new(NewGift::new("app", lena, user("mona"), item))));
        let Outcome::Gift(gift) = given else { panic!("{given:?}") };
        let accept = GiftStep::Accept { user: user("mona"), token: None };
        let done = self.ask(Command::StepGift { gift: gift.id, step: Box::new(accept) });
        assert!(matches!(&done, Outcome::Gift(gift) if gift.state == GiftState::Delivered), "{done:?}");
        self.deployment.settle(&self.backend);
    }

    /// What was bought went back, and is on sale again.
    fn returns(&self) {
        self.deposit("kate", 100);
        let hold = self.hold("kate");
        let ordered = self.ask(Command::ClaimHold { hold, user: user("kate") });
        let Outcome::Ordered { order, .. } = ordered else { panic!("{ordered:?}") };
        let back = OrderStep::Return { user: user("kate"), reason: "broken".to_owned() };
        for step in [back, OrderStep::AcceptReturn { restock: true }] {
            let done = self.ask(Command::StepOrder { order, step: Box::new(step) });
            assert!(matches!(done, Outcome::Order(_)), "{done:?}");
        }
        self.deployment.settle(&self.backend);
    }

    /// One that waits for its payment, one that is paid, one that is shipped, and one that went back.
    fn gifts(&self) {
        self.deposit("hana", 100);
        let (giver, recipient) = (user("hana"), user("ivan"));
        let step = |gift, step| {
            let done = self.ask(Command::StepGift { gift, step: Box::new(step) });
            assert!(matches!(done, Outcome::Gift(_)), "{done:?}");
        };
        for nth in 0..4 {
            let payer = if nth == 0 { user("jack") } else { giver.clone() };
            let terms = NewGift { payer, ..NewGift::new("app", giver.clone(), recipient.clone(), self.item) };
            let Outcome::Gift(gift) = self.ask(Command::CreateGift(Box::new(terms))) else { panic!("no gift") };
            if nth == 2 {
                step(gift.id, GiftStep::Accept { user: recipient.clone(), token: None });
                step(gift.id, GiftStep::Ship { carrier: "sf".to_owned(), tracking: "SF1".to_owned() });
            } else if nth == 3 {
                step(gift.id, GiftStep::Decline { user: recipient.clone(), reason: None });
            }
        }
        self.deployment.settle(&self.backend);
    }

    fn hold(&self, name: &str) -> HoldId {
        match self.ask(Command::GrabItem { item: self.item, user: user(name), quantity: 2 }) {
            Outcome::Held { hold, .. } => hold,
            other => panic!("{other:?}"),
        }
    }

    fn damage(&self, server: &RedisServer, lua: &str) {
        self.acts.damage(server, FINDERS, lua, [self.envelope.to_string(), self.item.to_string()]);
    }

    fn audit(&self) -> RedisAudit {
        let attached = self.attach();
        self.deployment.drive(attached.audit_rows(&mut |_| ())).expect("it can be read")
    }

    fn reconcile(&self, repair: bool) -> Reconciled {
        let attached = self.attach();
        self.deployment.drive(attached.reconcile(repair, &mut |_| ())).expect("it can be read")
    }

    /// As the command line does, which knows nothing but where it is.
    fn attach(&self) -> RedisBackend {
        let mut options = self.deployment.options.clone();
        options.redis.buckets = RedisOptions::default().buckets;
        options.test_mode = false;
        self.deployment.drive(RedisBackend::attach(options)).expect("it is there")
    }

    /// An engine that ends after so many calls.
    fn ending(&self, calls: i64) -> RedisBackend {
        let fuse = Arc::new(Fuse { calls_left: AtomicI64::new(calls), loses_answer: false });
        let options = RedisBackendOptions { fuse: Some(Arc::clone(&fuse)), ..self.deployment.options.clone() };
        self.deployment.drive(RedisBackend::open(options)).expect("it opens")
    }
}

#[test]
fn every_kind_of_damage_is_found() {
    let Some(server) = server() else { return };
    let mut missed = Vec::new();
    for (nth, (lua, kinds)) in DAMAGES.iter().enumerate() {
        let scene = Scene::new(nth as u64, &server);
        let clean = scene.audit();
        assert_eq!(clean.findings, [], "before {lua}");
        assert!(clean.settled && clean.unsettled == 0 && clean.totals.balanced(), "{clean:?}");
        let looked = &clean.looked_at;
        assert_eq!((looked.envelopes, looked.wins, looked.items, looked.holds, looked.orders), (4, 6, 2, 4, 3));
        assert_eq!((looked.payouts, looked.gifts, looked.codes), (3, 5, 3));
        scene.damage(&server, lua);
        let found = scene.audit().findings;
        let missing: Vec<_> = kinds.iter().filter(|kind| !found.iter().any(|finding| finding.kind == **kind)).collect();
        if !missing.is_empty() {
            missed.push(format!("{lua}\n  no {missing:?} in {found:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn money_that_is_there_twice_is_no_balance() {
    let Some(server) = server() else { return };
    let scene = Scene::new(3, &server);
    let audit = || scene.deployment.drive(Backend::audit(&scene.backend)).expect("a read");
    assert!(audit().balanced());
    scene.damage(&server, "redis.call('HINCRBY', beside(env, 'sums'), 'transit', -500)");
    scene.damage(&server, "redis.call('HINCRBY', beside(env, 'sums'), 'wallets', 500)");
    assert_eq!(audit().in_flight, -500);
    assert!(!audit().balanced(), "{:?}", audit());
}

#[test]
fn an_effect_that_is_taken_out_of_an_outbox_is_lost_money() {
    let Some(server) = server() else { return };
    let scene = Scene::new(1, &server);
    let ended = scene.ending(1);
    let claim = Command::Claim { envelope: scene.envelope, user: user("carol") };
    scene.deployment.drive(ended.execute(claim, None)).expect_err("it ends in the middle");
    let audit = scene.audit();
    assert_eq!((audit.findings.as_slice(), audit.waiting), (&[][..], 1));
    assert!(audit.totals.in_flight > 0, "{audit:?}");
    scene.damage(&server, "redis.call('DEL', beside(env, 'outbox'))");
    let kinds: Vec<_> = scene.audit().findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [InFlight, LostMoney]);
}

#[test]
fn what_nobody_carried_is_late_and_is_carried() {
    let Some(server) = server() else { return };
    let scene = Scene::new(2, &server);
    let buyer = scene.hold("bob");
    let Outcome::Envelope(cancelled) = scene.ask(Command::CreateEnvelope(Box::new(envelope(30, 3)))) else {
        panic!("no envelope")
    };
    let commands = [
        Command::Claim { envelope: scene.envelope, user: user("carol") },
        Command::CreateEnvelope(Box::new(envelope(20, 2))),
        Command::Cancel { envelope: cancelled.id },
    ];
    for command in commands {
        let ended = scene.ending(1);
        scene.deployment.drive(ended.execute(command, None)).expect_err("it ends in the middle");
    }
    // The hold is read, its payment begun; and then its wallet pays as well.
    let ended = scene.ending(3);
    let claim = Command::ClaimHold { hold: buyer, user: user("bob") };
    scene.deployment.drive(ended.execute(claim, None)).expect_err("it ends in the middle");

    let young = scene.reconcile(true);
    assert_eq!((young.carried, young.findings().count(), young.left.waiting), (0, 0, 4), "{young:?}");
    scene.ask(Command::AdvanceClock { by_s: 61 });
    let late = scene.reconcile(false);
    assert!(late.findings().all(|finding| finding.kind == LateEffect), "{late:?}");
    assert_eq!((late.carried, late.findings().count()), (0, 4), "{late:?}");
    let repaired = scene.reconcile(true);
    assert_eq!((repaired.carried, repaired.findings().count(), repaired.left.waiting), (4, 0, 0), "{repaired:?}");
    assert_eq!(repaired.left.totals.in_flight, 0);
    let again = scene.reconcile(true);
    assert_eq!((again.carried, again.findings().count()), (0, 0), "{again:?}");
}

#[test]
fn what_cannot_be_carried_is_told_and_left() {
    let Some(server) = server() else { return };
    let scene = Scene::new(3, &server);
    let value = "'1 c 5 \"no user\"'";
    scene.damage(
        &server,
        &format!("redis.call('HSET', beside(env, 'outbox'), 'c' .. string.rep('x', 16) .. 'u', {value})"),
    );
    let reconciled = scene.reconcile(true);
    assert_eq!(reconciled.carried, 0);
    assert_eq!(reconciled.findings().map(|finding| finding.kind).collect::<Vec<_>>(), [Unreadable]);
}

#[test]
fn a_sound_deployment_has_no_finding_while_engines_decide() {
    let Some(server) = server() else { return };
    let mut deployment = Deployment::alone_on(4, &server);
    let attached =
        sound_while_engines_decide(&mut deployment, |backend, asker, nth| Box::pin(evening(backend, asker, nth)));
    let last = deployment.drive(attached.audit_rows(&mut |_| ())).expect("it can be read");
    assert_eq!((last.findings.as_slice(), last.unsettled, last.settled), (&[][..], 0, true));
    assert!(last.looked_at.wins > 20 && last.looked_at.orders > 20 && last.looked_at.gifts > 20, "{last:?}");
}

/// An envelope and a sale, from beginning to end, by one of many.
async fn evening(backend: &RedisBackend, asker: u64, nth: u64) {
    let ask = async |command: Command| backend.execute(command, None).await.expect("it is answered").outcome;
    let (giver, seller) = (user(&format!("giver{asker}")), user(&format!("seller{asker}")));
    let all = Transfer { user: giver.clone(), amount: fen(100), reference: None };
    ask(Command::Deposit(all)).await;
    let outside = Outside {
        funding: nth.is_multiple_of(2).then(|| format!("f{asker}-{nth}")),
        payout: if nth % 4 < 2 { PayoutTo::External } else { PayoutTo::Wallet },
    };
    let terms = NewEnvelope { sender: giver.clone(), auto_claim: nth.is_multiple_of(3), outside, ..envelope(60, 4) };
    let Outcome::Envelope(made) = ask(Command::CreateEnvelope(Box::new(terms))).await else { panic!("no envelope") };
    for grabber in 0..3 {
        // Some grab for the first time, some have much already.
        let user = user(&format!("grabber{}", (asker + grabber) % 4 + 10 * (nth % 2)));
        ask(Command::Grab { envelope: made.id, user: user.clone() }).await;
        if grabber != nth % 3 {
            ask(Command::Claim { envelope: made.id, user }).await;
        }
    }
    ask(Command::Cancel { envelope: made.id }).await;
    let status = Some(MerchantStatus::Verified);
    let merchant = NewMerchant::new(seller.clone(), "Rosy", status);
    ask(Command::PutMerchant(Box::new(merchant))).await;
    let terms = NewItem { merchant: seller, ..item(3) };
    let Outcome::Item(made) = ask(Command::CreateItem(Box::new(terms))).await else { panic!("no item") };
    for quantity in [1, 2, 1] {
        let grab = Command::GrabItem { item: made.id, user: giver.clone(), quantity };
        if let Outcome::Held { hold, .. } = ask(grab).await {
            let user = giver.clone();
            let end =
                if quantity == 1 { Command::ClaimHold { hold, user } } else { Command::ReleaseHold { hold, user } };
            ask(end).await;
        }
    }
    let friend = user(&format!("grabber{}", (asker + 1) % 4));
    for (payer, step) in [
        (&giver, GiftStep::Decline { user: friend.clone(), reason: None }),
        (&giver, GiftStep::Accept { user: friend.clone(), token: None }),
        (&friend, GiftStep::Cancel { user: giver.clone() }),
    ] {
        let terms = NewGift { payer: payer.clone(), ..NewGift::new("app", giver.clone(), friend.clone(), made.id) };
        let Outcome::Gift(gift) = ask(Command::CreateGift(Box::new(terms))).await else { continue };
        ask(Command::StepGift { gift: gift.id, step: Box::new(step) }).await;
        let ship = GiftStep::Ship { carrier: "sf".to_owned(), tracking: "SF1".to_owned() };
        ask(Command::StepGift { gift: gift.id, step: Box::new(ship) }).await;
    }
    backend.received(&giver, &Page { limit: 10, cursor: None }).await.expect("a read");
}
