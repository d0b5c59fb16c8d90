//! The same random commands to the embedded engine and to one in front of
//! Redis: the same answers, the same balances, the same stock.
//!
//! Ids differ, so they are compared by the order in which they were made; and
//! draws differ, so shares are equal.

use crate::deployment::{Deployment, is_missing};
use crate::random::Random;
use crate::stand::{START, World, api_key, creates_cap, fen, reference, user};
use hongbao_engine::api_key::ApiKey;
use hongbao_engine::backend::{Backend, GrabRow, OnceKey, Page, Reply};
use hongbao_engine::code::{Code, HandedTo};
use hongbao_engine::command::*;
use hongbao_engine::gift::{Gift, GiftStep, NewGift};
use hongbao_engine::memory::Embedded;
use hongbao_engine::order::{OrderStep, RETURN_WITHIN_S};
use hongbao_engine::payout::{Outside, PayoutTo};
use hongbao_engine::redis::RedisBackend;
use hongbao_engine::sale::{MerchantBalance, StatementTime};
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::*;
use std::collections::HashMap;
use std::fmt::Write;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long sequences go on being drawn, if there are fewer than the most.
const TIME: Duration = Duration::from_secs(20);
const DEPLOYMENTS_MAX: u64 = 50;
const SEQUENCES: usize = 100;
const STEPS: usize = 20;
/// How many envelopes a sender may make in a day.
const CREATES: u32 = 2;
const ALL: Page = Page { limit: 1000, cursor: None };

/// Names of ids by the order in which each engine made them.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn bind(&mut self, name: &str, id: impl ToString) {
        self.0.entry(id.to_string()).or_insert_with(|| name.to_owned());
    }

    fn of(&self, id: impl ToString) -> &str {
        self.0.get(&id.to_string()).map_or("?", String::as_str)
    }
}

/// Things that both engines made.
#[derive(Default)]
struct Made {
    envelopes: Vec<[EnvelopeId; 2]>,
    items: Vec<[ItemId; 2]>,
    holds: Vec<[HoldId; 2]>,
    orders: Vec<[OrderId; 2]>,
    api_keys: Vec<[ApiKeyId; 2]>,
    gifts: Vec<[Gift; 2]>,
}

/// A command whose things are told by their place among those made.
#[derive(Clone, Debug)]
enum Drawn {
    Plain(Command),
    Grab(usize, UserId),
    Claim(usize, UserId),
    Cancel(usize),
    Change(usize, ItemChange),
    Restock(usize, u32),
    GrabItem(usize, UserId, u32),
    ClaimHold(usize, UserId),
    ReleaseHold(usize, UserId),
    DeleteApiKey(usize),
    Redact(usize, bool),
    Give(usize, NewGift),
    StepGift(usize, GiftStep),
    StepOrder(usize, OrderStep),
    AddCodes(usize, Vec<Code>),
}

struct Pair {
    deployment: Deployment,
    embedded: Embedded,
    redis: RedisBackend,
    /// Whether the n-th grab is of share n in both.
    in_order: bool,
    names: [Names; 2],
    made: Made,
    log: String,
}

#[test]
fn both_engines_mean_the_same() {
    compare_engines(Deployment::new, true);
}

/// With one pool shares are grabbed in the same order.
#[test]
fn both_engines_mean_the_same_of_envelopes_in_a_pool() {
    compare_engines(|seed| Deployment::in_pools(seed, 1), true);
}

#[test]
fn both_engines_mean_the_same_of_envelopes_in_pools() {
    compare_engines(|seed| Deployment::in_pools(seed, 3), false);
}

#[test]
fn both_engines_mean_the_same_of_what_is_archived() {
    compare_engines(|seed| Deployment::new(seed).archiving(), true);
}

#[test]
fn both_engines_mean_the_same_of_what_is_archived_out_of_a_cluster() {
    compare_engines(|seed| Deployment::on_cluster(seed).archiving(), true);
}

fn compare_engines(deploy: fn(u64) -> Deployment, in_order: bool) {
    if is_missing() {
        return;
    }
    let first = std::env::var("HONGBAO_SEED").ok().and_then(|seed| seed.parse().ok());
    let since = Instant::now();
    let mut sequences = 0;
    for seed in first.unwrap_or(1)..first.map_or(DEPLOYMENTS_MAX + 1, |seed: u64| seed + 1) {
        let mut pair = Pair::new(seed, deploy(seed), in_order);
        let mut random = Random(seed);
        for nth in 0..SEQUENCES {
            pair.sequence(&mut random, nth);
            sequences += 1;
        }
        let audit = pair.deployment.drive(pair.redis.audit_rows(&mut |_| ())).expect("an audit");
        assert!(audit.findings.is_empty(), "HONGBAO_SEED={seed}: {:?}", audit.findings);
        if since.elapsed() > TIME {
            break;
        }
    }
    println!("{sequences} sequences of {STEPS} commands in {:?}", since.elapsed());
}

impl Pair {
    fn new(seed: u64, mut deployment: Deployment, in_order: bool) -> Pair {
        let embedded = Embedded::volatile(&World::new(seed).capped(Some(CREATES)).options_by_hand());
        deployment.options.creates = Some(creates_cap(CREATES));
        let redis = deployment.open();
        let log = format!("HONGBAO_SEED={seed}\n");
        let (names, made) = Default::default();
        Pair { deployment, embedded, redis, in_order, names, made, log }
    }

    fn sequence(&mut self, random: &mut Random, nth: usize) {
        self.made = Made::default();
        let users: Vec<UserId> = (0..4).map(|n| user(&format!("s{nth}u{n}"))).collect();
        let merchants: Vec<UserId> = (0..2).map(|n| user(&format!("s{nth}m{n}"))).collect();
        for _ in 0..STEPS {
            let drawn = self.draw(random, &users, &merchants, nth);
            let once = random.once_in(3).then(|| format!("s{nth}k{}", random.below(6)));
            self.step(&drawn, once.as_deref());
            // What is credited at its deadline tells when that was done, so both do it now or later.
            if random.once_in(3) {
                while self.embedded.tick() {}
                self.deployment.settle(&self.redis);
            }
        }
        while self.embedded.tick() {}
        self.deployment.settle(&self.redis);
        self.compare(&users, &merchants);
    }

    fn draw(&self, random: &mut Random, users: &[UserId], merchants: &[UserId], nth: usize) -> Drawn {
        let who = random.pick(users);
        let below = |random: &mut Random, count: usize| random.below(count as u64) as usize;
        let kind = random.below(44);
        match kind {
            0..=2 => Drawn::Plain(Command::Deposit(transfer(random, &who, nth))),
            3 => Drawn::Plain(Command::Withdraw(transfer(random, &who, nth))),
            4..=6 => Drawn::Plain(Command::CreateEnvelope(Box::new(terms(random, &who, nth)))),
            7..=10 if !self.made.envelopes.is_empty() => Drawn::Grab(below(random, self.made.envelopes.len()), who),
            11..=12 if !self.made.envelopes.is_empty() => Drawn::Claim(below(random, self.made.envelopes.len()), who),
            13 if !self.made.envelopes.is_empty() => Drawn::Cancel(below(random, self.made.envelopes.len())),
            14 => {
                let status = random.pick(&[
                    None,
                    Some(MerchantStatus::Verified),
                    Some(MerchantStatus::Verified),
                    Some(MerchantStatus::Suspended),
                ]);
                let id = random.pick(merchants);
                let terms = NewMerchant {
                    settle_after_s: random.once_in(2).then(|| random.pick(&[0, 30, 86_400])),
                    commission_bps: random.once_in(2).then(|| random.pick(&[0, 1, 3333, 10_000])),
                    ..NewMerchant::new(id, "Rosy", status)
                };
                Drawn::Plain(Command::PutMerchant(Box::new(terms)))
            }
            26 => {
                let Transfer { reference, .. } = transfer(random, &who, nth);
                let (user, amount) = (random.pick(merchants), fen(random.below(30)));
                Drawn::Plain(Command::WithdrawSales(Transfer { user, amount, reference }))
            }
            15..=16 => {
                let kind = random.pick(&[ItemKind::Physical, ItemKind::Virtual, ItemKind::Code]);
                let is_code = kind == ItemKind::Code;
                Drawn::Plain(Command::CreateItem(Box::new(NewItem {
                    merchant: random.pick(merchants),
                    name: "roses".to_owned(),
                    category: "flowers".to_owned(),
                    price: fen(1 + random.below(20)),
                    stock: if is_code { 0 } else { random.below(5) as u32 },
                    per_user_limit: random.pick(&[None, Some(1), Some(2), Some(3)]),
                    starts_at: random.once_in(6).then(|| self.embedded.now().plus_s(random.below(3))),
                    ends_at: random.once_in(6).then(|| self.embedded.now().plus_s(random.below(3))),
                    hold_ttl_s: 1 + random.below(40),
                    image_url: None,
                    group_buy: None,
                    origin: ItemOrigin {
                        owner: random.pick(&["", "shop"]).to_owned(),
                        kind,
                        variant_of: None,
                        return_within_s: if is_code { RETURN_WITHIN_S } else { random.pick(&[0, 20, RETURN_WITHIN_S]) },
                        ..ItemOrigin::default()
                    },
                })))
            }
            41..=42 if !self.made.items.is_empty() => {
                let item = below(random, self.made.items.len());
                let codes = (0..1 + random.below(3)).map(|_| Code::new(format!("c{}", random.below(12))));
                Drawn::AddCodes(item, codes.collect())
            }
            17..=18 if !self.made.items.is_empty() => {
                Drawn::GrabItem(below(random, self.made.items.len()), who, random.below(4) as u32)
            }
            19 if !self.made.items.is_empty() => {
                let item = below(random, self.made.items.len());
                if random.once_in(2) {
                    return Drawn::Restock(item, random.below(3) as u32);
                }
                let now = self.embedded.now();
                Drawn::Change(
                    item,
                    ItemChange {
                        price: random.once_in(2).then(|| fen(random.below(20))),
                        starts_at: random.once_in(3).then(|| random.pick(&[None, Some(now.plus_s(10))])),
                        ends_at: random.once_in(3).then(|| random.pick(&[None, Some(now.plus_s(20))])),
                        hold_ttl_s: random.once_in(2).then(|| 1 + random.below(40)),
                        ..ItemChange::default()
                    },
                )
            }
            20..=21 if !self.made.holds.is_empty() => Drawn::ClaimHold(below(random, self.made.holds.len()), who),
            24..=25 if random.once_in(2) => Drawn::Plain(Command::CreateApiKey(Box::new(api_key(who.as_str(), 1)))),
            24..=25 if !self.made.api_keys.is_empty() => Drawn::DeleteApiKey(below(random, self.made.api_keys.len())),
            23 if !self.made.envelopes.is_empty() => {
                Drawn::Redact(below(random, self.made.envelopes.len()), random.once_in(2))
            }
            22 if !self.made.holds.is_empty() => Drawn::ReleaseHold(below(random, self.made.holds.len()), who),
            27..=28 if !self.made.items.is_empty() => {
                let (payer, recipient) = (random.pick(users), random.pick(users));
                Drawn::Give(
                    below(random, self.made.items.len()),
                    NewGift {
                        payer: if random.once_in(2) { payer } else { who.clone() },
                        recipient: (!random.once_in(4)).then_some(recipient),
                        pay_within_s: 1 + random.below(30),
                        accept_within_s: 1 + random.below(30),
                        ship_within_s: 1 + random.below(30),
                        reference: random.once_in(4).then(|| reference("app", &format!("s{nth}r{}", random.below(3)))),
                        // The command names its own.
                        ..NewGift::new("app", who.clone(), who, ItemId::from_bytes([0; 16]))
                    },
                )
            }
            29..=34 if !self.made.gifts.is_empty() => {
                let at = below(random, self.made.gifts.len());
                Drawn::StepGift(at, gift_step(random, &self.made.gifts[at][0], who))
            }
            35..=40 if !self.made.orders.is_empty() => {
                let at = below(random, self.made.orders.len());
                let order = drive(self.embedded.order(self.made.orders[at][0])).expect("a read").expect("an order");
                Drawn::StepOrder(at, order_step(random, &order, who))
            }
            _ => {
                let by_s = if random.once_in(20) { 8 * 86_400 } else { 1 + random.below(30) };
                Drawn::Plain(Command::AdvanceClock { by_s })
            }
        }
    }

    fn step(&mut self, drawn: &Drawn, once: Option<&str>) {
        writeln!(self.log, "{drawn:?} key={once:?}").expect("a string takes it");
        let commands = [0, 1].map(|side| self.command(drawn, side));
        // As on HTTP, where a key belongs to a route.
        let route = std::mem::discriminant(&commands[0]);
        let once = once.map(|key| OnceKey::idempotency("app", &format!("{route:?}"), key));
        let [first, second] = commands;
        let embedded = drive(self.embedded.execute(first, once)).expect("the embedded engine answers");
        let redis = self.deployment.drive(self.redis.execute(second, once)).expect("the engine on Redis answers");
        self.bind(&embedded.outcome, &redis.outcome);
        // Whoever finds an empty pool after its deadline does what is due.
        let in_pools = self.deployment.options.redis.mass_shares_min.is_some();
        if in_pools && matches!(redis.outcome, Outcome::Expired | Outcome::SoldOut) {
            while self.embedded.tick() {}
            self.deployment.settle(&self.redis);
        }
        let told = [self.tell(0, &embedded), self.tell(1, &redis)];
        writeln!(self.log, "    {}", told[0]).expect("a string takes it");
        assert_eq!(told[0], told[1], "\n{}\n(left is embedded, right is Redis)", self.log);
    }

    fn command(&self, drawn: &Drawn, side: usize) -> Command {
        let made = &self.made;
        match drawn.clone() {
            Drawn::Plain(command) => command,
            Drawn::Grab(at, user) => Command::Grab { envelope: made.envelopes[at][side], user },
            Drawn::Claim(at, user) => Command::Claim { envelope: made.envelopes[at][side], user },
            Drawn::Cancel(at) => Command::Cancel { envelope: made.envelopes[at][side] },
            Drawn::Change(at, change) => Command::ChangeItem { item: made.items[at][side], change: Box::new(change) },
            Drawn::Restock(at, quantity) => Command::Restock { item: made.items[at][side], quantity },
            Drawn::GrabItem(at, user, quantity) => Command::GrabItem { item: made.items[at][side], user, quantity },
            Drawn::ClaimHold(at, user) => Command::ClaimHold { hold: made.holds[at][side], user },
            Drawn::DeleteApiKey(at) => Command::DeleteApiKey { key: made.api_keys[at][side] },
            Drawn::Redact(at, metadata) => Command::Redact { envelope: made.envelopes[at][side], metadata },
            Drawn::ReleaseHold(at, user) => Command::ReleaseHold { hold: made.holds[at][side], user },
            Drawn::Give(at, terms) => Command::CreateGift(Box::new(NewGift { item: made.items[at][side], ..terms })),
            Drawn::StepGift(at, step) => {
                let gift = &made.gifts[at][side];
                // A token is another in each; what is shown stands for it.
                let step = match step {
                    GiftStep::Accept { user, token } => GiftStep::Accept { user, token: token.and(gift.token) },
                    step => step,
                };
                Command::StepGift { gift: gift.id, step: Box::new(step) }
            }
            Drawn::AddCodes(at, codes) => Command::AddCodes { item: made.items[at][side], codes },
            Drawn::StepOrder(at, step) => Command::StepOrder { order: made.orders[at][side], step: Box::new(step) },
        }
    }

    /// Names what both have made.
    fn bind(&mut self, embedded: &Outcome, redis: &Outcome) {
        let [one, other] = &mut self.names;
        let mut name = |kind: char, ids: [String; 2]| {
            let is_new = !one.0.contains_key(&ids[0]) && !other.0.contains_key(&ids[1]);
            let name = format!("{kind}{}", one.0.len());
            let [first, second] = ids;
            if is_new {
                one.bind(&name, first);
                other.bind(&name, second);
            }
            is_new
        };
        match (embedded, redis) {
            (Outcome::Envelope(a), Outcome::Envelope(b)) if name('E', [a.id.to_string(), b.id.to_string()]) => {
                self.made.envelopes.push([a.id, b.id]);
            }
            (Outcome::Item(a), Outcome::Item(b)) if name('I', [a.id.to_string(), b.id.to_string()]) => {
                self.made.items.push([a.id, b.id]);
            }
            (Outcome::Held { hold: a, .. }, Outcome::Held { hold: b, .. })
                if name('H', [a.to_string(), b.to_string()]) =>
            {
                self.made.holds.push([*a, *b]);
            }
            (Outcome::Ordered { order: a, .. }, Outcome::Ordered { order: b, .. })
                if name('O', [a.to_string(), b.to_string()]) =>
            {
                self.made.orders.push([*a, *b]);
            }
            (Outcome::ApiKey(a), Outcome::ApiKey(b)) if name('K', [a.id.to_string(), b.id.to_string()]) => {
                self.made.api_keys.push([a.id, b.id]);
            }
            (Outcome::Gift(a), Outcome::Gift(b)) if name('G', [a.id.to_string(), b.id.to_string()]) => {
                self.made.gifts.push([(**a).clone(), (**b).clone()]);
            }
            _ => {}
        }
    }

    fn tell(&self, side: usize, reply: &Reply) -> String {
        let names = &self.names[side];
        let told = match &reply.outcome {
            Outcome::Envelope(view) => self.tell_envelope(side, view),
            Outcome::Item(view) => tell_item(names, view),
            Outcome::ApiKey(key) => tell_api_key(names, key),
            Outcome::Gift(gift) => tell_gift(names, gift),
            Outcome::Order(order) => tell_order(names, &order.view()),
            Outcome::Won { amount, status, grabbed_at, claim_by, replayed, .. } if !self.in_order => {
                format!("won {amount} {status:?} {grabbed_at:?} {claim_by:?} {replayed}")
            }
            Outcome::Held { hold, quantity, amount, expires_at, replayed } => {
                format!("held {} {quantity} {amount} {} {replayed}", names.of(hold), expires_at.ms() - START.ms())
            }
            Outcome::Ordered { order, replayed } => format!("ordered {} {replayed}", names.of(order)),
            other => format!("{other:?}"),
        };
        format!("{told} replayed={}", reply.replayed)
    }

    /// Without what depends on the order in which shares are grabbed, if that is another.
    fn anonymous(&self, row: GrabRow) -> GrabRow {
        if self.in_order { row } else { GrabRow { share: 0, best: false, ..row } }
    }

    fn tell_envelope(&self, side: usize, view: &EnvelopeView) -> String {
        let anonymous = EnvelopeView {
            id: EnvelopeId::from_bytes([0; 16]),
            commitment: [0; 32],
            secret: view.secret.map(|_| [0; 32]),
            ..view.clone()
        };
        format!("{} {anonymous:?}", self.names[side].of(view.id))
    }

    /// Everything that can be read tells the same.
    fn compare(&mut self, users: &[UserId], merchants: &[UserId]) {
        let mut told = [String::new(), String::new()];
        let [one, other] = &mut told;
        macro_rules! both {
            ($what:literal, $embedded:expr, $redis:expr) => {
                writeln!(one, "{}: {:?}", $what, $embedded).expect("a string takes it");
                writeln!(other, "{}: {:?}", $what, $redis).expect("a string takes it");
            };
        }
        let names = &self.names;
        for user in users {
            let wallets = [drive(self.embedded.wallet(user)), self.deployment.drive(self.redis.wallet(user))];
            let [a, b] = wallets.map(|wallet| wallet.expect("a wallet"));
            both!("wallet", a, b);
        }
        for merchant in merchants {
            let a = drive(self.embedded.merchant(merchant)).expect("a read");
            let b = self.deployment.drive(self.redis.merchant(merchant)).expect("a read");
            both!("merchant", a, b);
            let a = drive(self.embedded.merchant_balance(merchant)).expect("a read");
            let b = self.deployment.drive(self.redis.merchant_balance(merchant)).expect("a read");
            both!("sales", a, b);
            let b = self.deployment.drive(self.redis.statement(merchant, StatementTime::default(), &ALL));
            if let Some(statement) = b.expect("a read") {
                assert_eq!(
                    (statement.opening, Some(statement.closing)),
                    (MerchantBalance::default(), a),
                    "{}",
                    self.log
                );
            }
        }
        for [a, b] in &self.made.envelopes {
            for user in users {
                let a = drive(self.embedded.grab_of(*a, user)).expect("a read");
                let b = self.deployment.drive(self.redis.grab_of(*b, user)).expect("a read");
                // The best share is another one of equal ones only if shares were drawn otherwise.
                let [a, b] = [a, b].map(|row| row.map(|row| self.anonymous(row)));
                both!("grab", a, b);
            }
            let listed = self.deployment.drive(self.redis.grabs(*b, &ALL)).expect("a read").expect("an envelope").rows;
            assert!(listed.is_sorted_by_key(|row| row.share), "{}", self.log);
            for row in listed {
                let one = self.deployment.drive(self.redis.grab_of(*b, &row.user)).expect("a read");
                assert_eq!(one, Some(row), "\n{}", self.log);
            }
            let a = drive(self.embedded.envelope(*a)).expect("a read").expect("an envelope");
            let b = self.deployment.drive(self.redis.envelope(*b)).expect("a read").expect("an envelope");
            both!("envelope", self.tell_envelope(0, &a), self.tell_envelope(1, &b));
        }
        let mut handed = Vec::new();
        let mut sold = 0;
        for [a, b] in &self.made.items {
            let a = drive(self.embedded.item(*a)).expect("a read").expect("an item");
            let b = self.deployment.drive(self.redis.item(*b)).expect("a read").expect("an item");
            sold += if b.terms.origin.kind == ItemKind::Code { b.stock.sold as usize } else { 0 };
            both!("item", tell_item(&names[0], &a), tell_item(&names[1], &b));
        }
        for [a, b] in &self.made.holds {
            let a = drive(self.embedded.hold(*a)).expect("a read").expect("a hold");
            let b = self.deployment.drive(self.redis.hold(*b)).expect("a read").expect("a hold");
            both!("hold", tell_hold(&names[0], &a), tell_hold(&names[1], &b));
        }
        for [a, b] in &self.made.orders {
            let a = drive(self.embedded.order(*a)).expect("a read").expect("an order");
            let b = self.deployment.drive(self.redis.order(*b)).expect("a read").expect("an order");
            both!("order", tell_order(&names[0], &a), tell_order(&names[1], &b));
        }
        let orders = self.made.orders.iter().map(|[a, b]| [HandedTo::Order(*a), HandedTo::Order(*b)]);
        let gifts = self.made.gifts.iter().map(|[a, b]| [HandedTo::Gift(a.id), HandedTo::Gift(b.id)]);
        for [_, b] in orders.chain(gifts) {
            let codes = self.deployment.drive(self.redis.codes(b)).expect("a read");
            // An engine without a directory keeps no texts.
            handed.extend(codes.iter().map(|code| code.as_str().to_owned()));
        }
        for [a, b] in &self.made.gifts {
            let a = drive(self.embedded.gift(a.id)).expect("a read").expect("a gift");
            let b = self.deployment.drive(self.redis.gift(b.id)).expect("a read").expect("a gift");
            both!("gift", tell_gift(&names[0], &a), tell_gift(&names[1], &b));
        }
        assert_eq!(handed.len(), sold, "\n{}", self.log);
        let a = drive(self.embedded.api_keys(&ALL)).expect("a list").rows;
        let b = self.deployment.drive(self.redis.api_keys(&ALL)).expect("a list").rows;
        let tell = |side: usize, keys: Vec<ApiKey>| {
            let mut told: Vec<_> = keys.iter().map(|key| tell_api_key(&names[side], key)).collect();
            told.sort_unstable();
            told
        };
        both!("API keys", tell(0, a), tell(1, b));
        let a = drive(Backend::audit(&self.embedded)).expect("a read");
        let b = self.deployment.drive(Backend::audit(&self.redis)).expect("a read");
        both!("audit", a, b);
        assert!(b.balanced(), "{b:?}");
        assert_eq!(told[0], told[1], "\n{}\n(left is embedded, right is Redis)", self.log);
    }
}

fn drive<T>(future: impl Future<Output = T>) -> T {
    crate::stand::wait(future)
}

fn transfer(random: &mut Random, who: &UserId, nth: usize) -> Transfer {
    let reference = random.once_in(4).then(|| reference("app", &format!("s{nth}r{}", random.below(4))));
    Transfer { user: who.clone(), amount: fen(random.pick(&[1, 10, 50, 100])), reference }
}

fn terms(random: &mut Random, who: &UserId, nth: usize) -> NewEnvelope {
    let shares = if random.once_in(6) { 20 } else { 1 + random.below(4) };
    let mut terms = NewEnvelope::new("app", who.clone(), fen(shares * 10), shares as u32, SplitRule::Equal);
    (terms.message, terms.metadata) = ("rude".to_owned(), r#"{"theme":1}"#.to_owned());
    terms.expires_in_s = 1 + random.below(60);
    terms.claim_within_s = random.below(60);
    terms.opens_at = random.once_in(6).then(|| START.plus_s(random.below(200)));
    terms.auto_claim = random.once_in(3);
    terms.unclaimed = random.pick(&[Unclaimed::Return, Unclaimed::Credit]);
    terms.reference = random.once_in(5).then(|| reference("app", &format!("s{nth}r{}", random.below(3))));
    terms.outside = Outside {
        funding: random.once_in(4).then(|| format!("s{nth}f{}", random.below(4))),
        payout: random.pick(&[PayoutTo::Wallet, PayoutTo::Wallet, PayoutTo::External]),
    };
    terms
}

fn tell_item(names: &Names, view: &ItemView) -> String {
    let anonymous = ItemView { id: ItemId::from_bytes([0; 16]), ..view.clone() };
    format!("{} {anonymous:?}", names.of(view.id))
}

fn tell_api_key(names: &Names, key: &ApiKey) -> String {
    let anonymous = ApiKey { id: ApiKeyId::from_bytes([0; 16]), ..key.clone() };
    format!("{} {anonymous:?}", names.of(key.id))
}

fn tell_gift(names: &Names, gift: &Gift) -> String {
    let (id, item) = (GiftId::from_bytes([0; 16]), ItemId::from_bytes([0; 16]));
    let anonymous = Gift { id, item, ..gift.clone() };
    format!("{} {} {anonymous:?}", names.of(gift.id), names.of(gift.item))
}

fn tell_order(names: &Names, order: &OrderView) -> String {
    let (id, hold, item) = (OrderId::from_bytes([0; 16]), HoldId::from_bytes([0; 16]), ItemId::from_bytes([0; 16]));
    let anonymous = OrderView { id, hold, item, ..order.clone() };
    let [id, hold, item] = [names.of(order.id), names.of(order.hold), names.of(order.item)];
    format!("{id} {hold} {item} {anonymous:?}")
}

/// Mostly what leads an order on, and mostly by whom it may.
fn order_step(random: &mut Random, order: &OrderView, who: UserId) -> OrderStep {
    let user = if random.once_in(6) { who } else { order.user.clone() };
    let text = || "so".to_owned();
    match random.below(10) {
        0 => OrderStep::Ship { carrier: text(), tracking: format!("T{}", random.below(2)) },
        1 => OrderStep::Deliver,
        2..=4 => OrderStep::Return { user, reason: text() },
        5 => OrderStep::RefuseReturn { reason: text() },
        _ => OrderStep::AcceptReturn { restock: random.once_in(2) },
    }
}

/// Mostly what leads a gift on, and mostly by whom it may.
fn gift_step(random: &mut Random, gift: &Gift, who: UserId) -> GiftStep {
    let is_right = !random.once_in(4);
    let by = |user: Option<&UserId>| user.filter(|_| is_right).unwrap_or(&who).clone();
    let (recipient, text) = (by(gift.recipient.as_ref()), || "so".to_owned());
    match random.below(12) {
        0..=2 => GiftStep::Pay { payer: by(Some(&gift.payer)) },
        3..=5 => GiftStep::Accept { user: recipient, token: gift.token.filter(|_| is_right) },
        6 => GiftStep::Decline { user: recipient, reason: random.once_in(2).then(text) },
        7 => GiftStep::Cancel { user: by(Some(&gift.giver)) },
        8 => GiftStep::Ship { carrier: text(), tracking: format!("T{}", random.below(2)) },
        9 => GiftStep::Deliver,
        10 => GiftStep::Fail { reason: text() },
        _ => GiftStep::Thank { user: recipient, note: format!("N{}", random.below(2)) },
    }
}

fn tell_hold(names: &Names, view: &HoldView) -> String {
    let HoldView { id, item, user, quantity, amount, state, created_at, expires_at } = view;
    let state = match state {
        HoldState::Claimed(order) => format!("claimed as {}", names.of(order)),
        other => format!("{other:?}"),
    };
    let (id, item) = (names.of(id), names.of(item));
    format!("{id} {item} {user} {quantity} {amount} {state} {created_at:?} {expires_at:?}")
}
