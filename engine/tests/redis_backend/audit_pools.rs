//! Audits of mass envelopes: each kind of damage to reserve, transfers, pools and
//! winners is found, and wherever an engine ends in the middle of moving shares
//! nothing is, also while engines decide.

use crate::deployment::{Deployment, is_missing};
use crate::redis_stand::RedisServer;
use crate::scene::{Acts, server, sound_while_engines_decide};
use crate::stand::{envelope, fen, user};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::{Command, EnvelopeState, NewEnvelope, Outcome, Transfer, Unclaimed};
use hongbao_engine::redis::FindingKind::{
    self, Envelope, InFlight, LateEffect, List, LostMoney, Share, Sums, Unreadable, Wallet,
};
use hongbao_engine::redis::{Finding, Fuse, RedisAudit, RedisBackend, RedisBackendOptions};
use hongbao_engine::types::*;
use sha2::{Digest, Sha256};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// What finds the keys of a scene: of its open envelope the row and the pool in which
/// bob has a share, and of the one that has ended.
const FINDERS: &str = "
    local function key(rest) return redis.call('KEYS', ARGV[1] .. ':*}:' .. rest)[1] end
    local function beside(one, rest) return string.match(one, '^.*}:') .. rest end
    local env, ended = key(ARGV[2]), key(ARGV[3])
    local bob, carol = key('wallet:bob'), key('wallet:carol')
    local pool = beside(bob, ARGV[2] .. ':pool')
    local shares, winners = beside(bob, ARGV[2] .. ':shares'), beside(bob, ARGV[2] .. ':winners')
    local function another()
      for _, name in ipairs(redis.call('KEYS', ARGV[1] .. ':*}:' .. ARGV[2] .. ':pool')) do
        if name ~= pool then return string.sub(name, 1, -6) end
      end
    end
    ";

/// What is done with redis-cli, and the types of what is to be found then, among others.
const DAMAGES: &[(&str, &[FindingKind])] = &[
    // The reserve.
    ("redis.call('HINCRBY', env, 'kept', 1)", &[Envelope, Sums]),
    ("redis.call('HINCRBY', env, 'head', 1)", &[Share, Envelope]),
    ("redis.call('HINCRBY', env, 'refunded', 1)", &[Envelope]),
    ("redis.call('DEL', env .. ':reserve')", &[Share]),
    ("redis.call('SETRANGE', env .. ':reserve', redis.call('HGET', env, 'head') * 8, 'xxxx')", &[Share]),
    ("redis.call('SETRANGE', env .. ':reserve', redis.call('HGET', env, 'head') * 8 + 4, 'x')", &[Share, Envelope]),
    ("redis.call('HDEL', env, 'created')", &[Unreadable]),
    ("redis.call('HSET', env, 'created', 'x')", &[Unreadable]),
    ("redis.call('HDEL', env, 'kept')", &[Unreadable]),
    ("redis.call('DEL', env)", &[Envelope, Sums]),
    ("redis.call('HSET', env, 'claim_by', '1')", &[Envelope]),
    ("redis.call('HINCRBY', env, 'total', 1)", &[Envelope]),
    // Transfers.
    ("redis.call('DEL', env .. ':transfers')", &[Envelope]),
    (
        "for _, name in ipairs(redis.call('HKEYS', env .. ':transfers')) do
        redis.call('HSET', env .. ':transfers', name, '9 - 0 -1 -') end",
        &[Envelope],
    ),
    (
        "for _, name in ipairs(redis.call('HKEYS', env .. ':transfers')) do
        redis.call('HSET', env .. ':transfers', name, 'x') end",
        &[Unreadable],
    ),
    ("redis.call('HINCRBY', env, 'open', 1)", &[Envelope]),
    ("redis.call('HINCRBY', env, 'empty', 1)", &[Envelope]),
    ("redis.call('HINCRBY', env, 'closed', 1)", &[Envelope]),
    ("redis.call('HINCRBY', ended, 'lapsed', 1)", &[Envelope]),
    // Pools.
    ("redis.call('DEL', pool)", &[Envelope, Sums]),
    ("redis.call('HSET', pool, 'width', 'x')", &[Unreadable]),
    ("redis.call('HINCRBY', pool, 'head', -1)", &[Envelope, Share]),
    ("redis.call('HINCRBY', pool, 'tail', -1)", &[Envelope, Share]),
    ("redis.call('HINCRBY', pool, 'tail', 1)", &[Share]),
    ("redis.call('HINCRBY', pool, 'entered', 1)", &[Envelope, Sums]),
    ("redis.call('HINCRBY', pool, 'taken_amount', 1)", &[Envelope]),
    ("redis.call('HINCRBY', pool, 'claimed', 1)", &[Envelope]),
    ("redis.call('HINCRBY', pool, 'claimed_amount', 1)", &[Envelope, Sums]),
    ("redis.call('HINCRBY', pool, 'sequence', 1)", &[Envelope]),
    ("redis.call('HINCRBY', pool, 'expires', 1)", &[Envelope]),
    ("redis.call('HSET', pool, 'told', 's')", &[Envelope]),
    ("redis.call('HSET', pool, 'closed', '1')", &[Envelope]),
    ("redis.call('HSET', pool, 'lapsed', '1')", &[Envelope, Sums]),
    ("redis.call('HSET', beside(bob, ARGV[3] .. ':pool'), 'told', '')", &[Envelope]),
    ("redis.call('HSET', beside(bob, ARGV[3] .. ':pool'), 'told', 'e')", &[Envelope]),
    ("redis.call('HSET', beside(bob, ARGV[3] .. ':pool'), 'closed', '')", &[Envelope]),
    ("redis.call('DEL', shares)", &[Unreadable]),
    ("redis.call('SETRANGE', shares, 4, 'x')", &[Share, Envelope]),
    ("redis.call('SETRANGE', shares, 0, redis.call('GETRANGE', another() .. ':shares', 0, 7))", &[Share]),
    ("redis.call('SETRANGE', shares, 0, redis.call('GETRANGE', env .. ':reserve', 8, 15))", &[Share]),
    // Winners, and what came of them.
    ("redis.call('DEL', winners)", &[Envelope]),
    ("redis.call('HDEL', winners, 'bob')", &[Envelope]),
    ("redis.call('HSET', winners, 'bob', 'x')", &[Unreadable]),
    ("redis.call('HSET', winners, 'mallory', redis.call('HGET', winners, 'bob'))", &[Share]),
    ("redis.call('HSET', winners, 'bob', struct.pack('<I4I5', redis.call('HGET', pool, 'head'), 1))", &[Share, List]),
    (
        "local to = another()
      redis.call('HSET', to .. ':winners', 'bob', struct.pack('<I4I5', redis.call('HGET', to .. ':pool', 'head'), 1))
      redis.call('HINCRBY', to .. ':pool', 'head', 1)",
        &[Share],
    ),
    ("redis.call('DEL', key('received:bob'))", &[List]),
    ("redis.call('ZADD', key('received:bob'), -1, redis.call('ZRANGE', key('received:bob'), 0, 0)[1])", &[List]),
    (
        "for _, name in ipairs(redis.call('HKEYS', carol)) do
        if string.find(name, '#c') == 1 then redis.call('HDEL', carol, name) end end",
        &[Wallet, LostMoney],
    ),
    ("redis.call('DEL', carol)", &[LostMoney, Sums]),
    // What leads to it, and its money.
    ("redis.call('DEL', beside(env, 'due'))", &[List]),
    ("redis.call('DEL', beside(env, 'envelopes'))", &[List]),
    ("redis.call('DEL', key('sent:alice'))", &[List]),
    (
        "local alice = key('wallet:alice')
      for _, name in ipairs(redis.call('HKEYS', alice)) do
        if string.find(name, '#r') == 1 then redis.call('HDEL', alice, name) end end",
        &[Wallet, LostMoney],
    ),
    ("redis.call('HINCRBY', beside(env, 'sums'), 'escrowed', 1)", &[Sums]),
];

const POOLS: u16 = 3;

/// A deployment with an open mass envelope, one that was cancelled and one that is settled.
struct Scene {
    acts: Acts,
    open: EnvelopeId,
    ended: EnvelopeId,
}

impl Deref for Scene {
    type Target = Acts;

    fn deref(&self) -> &Acts {
        &self.acts
    }
}

impl Scene {
    fn new(seed: u64, server: &Arc<RedisServer>) -> Scene {
        let deployment = Deployment::alone_on(seed, server).with_pools(POOLS);
        // One that makes its calls one after the other, and leaves nothing to others.
        let fuse = Some(Arc::new(Fuse { calls_left: AtomicI64::new(i64::MAX), loses_answer: false }));
        let options = RedisBackendOptions { fuse, ..deployment.options.clone() };
        let backend = deployment.drive(RedisBackend::open(options)).expect("it opens");
        let none = EnvelopeId::from_bytes([0; 16]);
        let mut scene = Scene { acts: Acts { deployment, backend }, open: none, ended: none };
        scene.deposit("alice", 5000);
        scene.deposit("bob", 100);
        let lapsed = scene.give(NewEnvelope { expires_in_s: 5, claim_within_s: 5, ..envelope(600, 60) });
        scene.grab(lapsed, "bob");
        scene.grab(lapsed, "dave");
        scene.ask(Command::Claim { envelope: lapsed, user: user("dave") });
        scene.ask(Command::AdvanceClock { by_s: 20 });
        scene.deployment.settle(&scene.backend);
        let sold_out = scene.give(NewEnvelope { auto_claim: true, ..envelope(90, 9) });
        (0..9).for_each(|nth| scene.grab(sold_out, &format!("buyer{nth}")));
        let late = Command::Grab { envelope: sold_out, user: user("late") };
        assert_eq!(scene.ask(late), Outcome::SoldOut);
        scene.ended = scene.give(envelope(600, 60));
        scene.grab(scene.ended, "bob");
        scene.ask(Command::Cancel { envelope: scene.ended });
        scene.open = scene.give(envelope(1500, 150));
        // Enough for some of the reserve to have come into a pool.
        strangers(&scene.deployment, 1).take(40).for_each(|name| scene.grab(scene.open, &name));
        for name in ["bob", "carol", "eve"] {
            scene.grab(scene.open, name);
        }
        scene.ask(Command::Claim { envelope: scene.open, user: user("carol") });
        scene.deployment.settle(&scene.backend);
        scene
    }

    fn damage(&self, server: &RedisServer, lua: &str) {
        self.acts.damage(server, FINDERS, lua, [self.open.to_string(), self.ended.to_string()]);
    }

    fn audit(&self) -> RedisAudit {
        audit(&self.deployment)
    }

    /// Whatever an engine leaves that ends after so many calls, nothing is wrong with
    /// it. What it left, or `None` if it came to the end.
    fn left_in_the_middle(&self, calls: i64, loses_answer: bool, command: &Command) -> Option<RedisAudit> {
        let fuse = Some(Arc::new(Fuse { calls_left: AtomicI64::new(calls), loses_answer }));
        let options = RedisBackendOptions { fuse, ..self.deployment.options.clone() };
        let ended = self.deployment.drive(RedisBackend::open(options)).expect("it opens");
        let is_done = self.deployment.drive(ended.execute(command.clone(), None)).is_ok();
        let left = self.sound_audit(&format!("after {calls} calls of {command:?}"));
        (!is_done).then_some(left)
    }

    fn sound_audit(&self, when: &str) -> RedisAudit {
        let audit = self.audit();
        assert_eq!(audit.findings, [], "{when}");
        assert!(audit.settled && audit.unsettled == 0 && audit.moving == 0, "{when}: {audit:?}");
        audit
    }

    /// After how many calls a command came to its end, left in the middle after each, and how often with money
    /// on its way.
    fn step_by_step(&self, loses_answer: bool, command: &Command) -> (i64, u64) {
        let (mut calls, mut in_flight) = (1, 0);
        while let Some(left) = self.left_in_the_middle(calls, loses_answer, command) {
            in_flight += u64::from(left.totals.in_flight > 0);
            calls += 1;
        }
        (calls, in_flight)
    }
}

fn audit(deployment: &Deployment) -> RedisAudit {
    let attached = deployment.drive(RedisBackend::attach(deployment.options.clone())).expect("it is there");
    deployment.drive(attached.audit_rows(&mut |_| ())).expect("it can be read")
}

fn kinds(findings: &[Finding]) -> Vec<FindingKind> {
    findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn every_kind_of_damage_to_pools_is_found() {
    let Some(server) = server() else { return };
    let mut missed = Vec::new();
    for (nth, (lua, expected)) in DAMAGES.iter().enumerate() {
        let scene = Scene::new(nth as u64, &server);
        let clean = scene.sound_audit(&format!("before {lua}"));
        assert!(clean.totals.balanced(), "{clean:?}");
        assert_eq!((clean.looked_at.envelopes, clean.looked_at.wins, clean.waiting), (4, 55, 0));
        scene.damage(&server, lua);
        let found = scene.audit().findings;
        let missing: Vec<_> = expected.iter().filter(|kind| !kinds(&found).contains(kind)).collect();
        if !missing.is_empty() {
            missed.push(format!("{lua}\n  no {missing:?} in {found:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// A user of each pool who has nothing yet, one after the other.
fn strangers(deployment: &Deployment, pool: u16) -> impl Iterator<Item = String> + use<> {
    let buckets = deployment.options.redis.buckets;
    let bucket = move |name: &str| {
        let digest = Sha256::digest(name.as_bytes());
        u16::from_be_bytes([digest[6], digest[7]]) % buckets
    };
    (0..).map(|nth| format!("stranger{nth}")).filter(move |name| bucket(name) == pool)
}

#[test]
fn wherever_shares_were_left_on_their_way_nothing_is_wrong() {
    let Some(server) = server() else { return };
    for loses_answer in [false, true] {
        let scene = Scene::new(100, &server);
        // All of one pool's users: first it is refilled, then the others have to give some back.
        let id = scene.give(envelope(600, 60));
        let mut grabs = strangers(&scene.deployment, 1).map(|name| Command::Grab { envelope: id, user: user(&name) });
        let mut in_flight = 0;
        for won in 0..60 {
            let grab = grabs.next().expect("there are many");
            if won < 14 {
                // There are enough in the pool, and nothing moves.
                scene.ask(grab);
            } else {
                in_flight += scene.step_by_step(loses_answer, &grab).1;
            }
        }
        assert!(in_flight >= 5, "money of shares was on its way {in_flight} times");
        let late = grabs.next().expect("there are many");
        scene.step_by_step(loses_answer, &late);
        assert_eq!(scene.ask(late), Outcome::SoldOut);
    }
}

#[test]
fn wherever_a_beginning_or_an_end_was_left_nothing_is_wrong() {
    let Some(server) = server() else { return };
    let scene = Scene::new(101, &server);
    scene.deposit("alice", 100_000);
    let (calls, in_flight) = scene.step_by_step(false, &Command::CreateEnvelope(Box::new(envelope(600, 60))));
    assert!(calls > 5 && in_flight > 3, "{calls}, {in_flight}");
    scene.deployment.settle(&scene.backend);
    let id = scene.give(envelope(600, 60));
    ["bob", "carol"].iter().for_each(|name| scene.grab(id, name));
    let (calls, _) = scene.step_by_step(true, &Command::Cancel { envelope: id });
    assert!(calls > 3, "{calls}");
    for unclaimed in [Unclaimed::Return, Unclaimed::Credit] {
        let terms = NewEnvelope { unclaimed, expires_in_s: 5, claim_within_s: 5, ..envelope(600, 60) };
        let id = scene.give(terms);
        ["bob", "carol", "dave"].iter().for_each(|name| scene.grab(id, name));
        for step in ["it expires", "it settles"] {
            scene.ask(Command::AdvanceClock { by_s: 5 });
            for calls in 1.. {
                let fuse = Some(Arc::new(Fuse { calls_left: AtomicI64::new(calls), loses_answer: calls % 2 == 0 }));
                let options = RedisBackendOptions { fuse, ..scene.deployment.options.clone() };
                let ended = scene.deployment.drive(RedisBackend::open(options)).expect("it opens");
                let swept = scene.deployment.drive(ended.sweep());
                scene.sound_audit(&format!("{step}: after {calls} calls of a sweep"));
                if swept.is_ok_and(|any| !any) {
                    break;
                }
            }
        }
        let view = scene.deployment.drive(scene.backend.envelope(id)).expect("a read").expect("it is there");
        assert_eq!((view.state, view.claimed_amount + view.refunded_amount), (EnvelopeState::Settled, fen(600)));
    }
}

#[test]
fn a_transfer_that_nobody_finishes_is_late_and_is_carried() {
    let Some(server) = server() else { return };
    let scene = Scene::new(102, &server);
    let id = scene.give(envelope(600, 60));
    let mut users = strangers(&scene.deployment, 2);
    // Until an engine has gone after it has opened a transfer and before that has come into the pool.
    let waiting = |audit: &RedisAudit| (audit.waiting, audit.totals.in_flight > 0);
    loop {
        let grab = Command::Grab { envelope: id, user: user(&users.next().expect("there are many")) };
        if scene.left_in_the_middle(2, true, &grab).as_ref().map(waiting) == Some((1, true)) {
            break;
        }
    }
    let reconcile = |repair| {
        let options = scene.deployment.options.clone();
        let attached = scene.deployment.drive(RedisBackend::attach(options)).expect("it is there");
        scene.deployment.drive(attached.reconcile(repair, &mut |_| ())).expect("it can be read")
    };
    let young = reconcile(true);
    assert_eq!((young.carried, young.findings().count(), waiting(&young.left)), (0, 0, (1, true)));
    scene.ask(Command::AdvanceClock { by_s: 61 });
    let late = reconcile(false);
    assert_eq!(late.findings().map(|finding| finding.kind).collect::<Vec<_>>(), [LateEffect], "{late:?}");
    let repaired = reconcile(true);
    assert_eq!((repaired.carried, repaired.findings().count(), waiting(&repaired.left)), (1, 0, (0, false)));

    // Without its effect nobody finds it, and its money is nowhere.
    loop {
        let grab = Command::Grab { envelope: id, user: user(&users.next().expect("there are many")) };
        if scene.left_in_the_middle(2, true, &grab).as_ref().map(waiting) == Some((1, true)) {
            break;
        }
    }
    let home = format!("redis.call('DEL', beside(key('{id}'), 'outbox'))");
    scene.damage(&server, &home);
    assert_eq!(kinds(&scene.audit().findings), [InFlight, List]);
}

#[test]
fn a_sound_deployment_with_pools_has_no_finding_while_engines_decide() {
    let Some(server) = server() else { return };
    let mut deployment = Deployment::alone_on(103, &server).with_pools(8);
    sound_while_engines_decide(&mut deployment, |backend, asker, nth| Box::pin(evening(backend, asker, nth)));
    let sweeper = deployment.open();
    deployment.settle(&sweeper);
    let last = audit(&deployment);
    assert_eq!((last.findings.as_slice(), last.unsettled, last.moving, last.settled), (&[][..], 0, 0, true));
    assert!(last.looked_at.wins > 400, "{last:?}");
}

/// A mass envelope from beginning to end, by one of many: sold out, cancelled, or left as it is.
async fn evening(backend: &RedisBackend, asker: u64, nth: u64) {
    let ask = async |command: Command| backend.execute(command, None).await.expect("it is answered").outcome;
    let giver = user(&format!("giver{asker}"));
    ask(Command::Deposit(Transfer { user: giver.clone(), amount: fen(640), reference: None })).await;
    let terms = NewEnvelope { sender: giver, auto_claim: nth.is_multiple_of(3), ..envelope(640, 64) };
    let Outcome::Envelope(made) = ask(Command::CreateEnvelope(Box::new(terms))).await else { panic!("no envelope") };
    let grabbers = if nth.is_multiple_of(2) { 66 } else { 30 };
    for grabber in 0..grabbers {
        let user = user(&format!("grabber{}", (31 * asker + grabber) % 97));
        ask(Command::Grab { envelope: made.id, user: user.clone() }).await;
        if grabber % 3 == nth % 3 {
            ask(Command::Claim { envelope: made.id, user }).await;
        }
    }
    if nth % 4 == 1 {
        ask(Command::Cancel { envelope: made.id }).await;
    }
}

#[test]
fn only_a_cluster_makes_pools() {
    if is_missing() {
        return;
    }
    for (deployment, in_pools) in [(Deployment::new(4), 0), (Deployment::on_cluster(4), 1)] {
        let backend = deployment.open();
        let ask = |command| deployment.drive(backend.execute(command, None)).expect("it is answered");
        ask(Command::Deposit(Transfer { user: user("alice"), amount: fen(1000), reference: None }));
        let shares = 64 * u32::from(deployment.options.redis.buckets);
        ask(Command::CreateEnvelope(Box::new(envelope(1000, shares))));
        deployment.settle(&backend);
        let audit = audit(&deployment);
        assert_eq!((audit.findings, audit.in_pools), (Vec::new(), in_pools));
    }
}
