//! Copies: what one engine answered the other answers after a copy, however
//! often that was interrupted, and so does the one that it is copied back to.

use crate::deployment::{Deployment, is_missing};
use crate::redis_stand::{RedisServer, ServerOptions};
use crate::stand::{World, api_key, envelope, fen, item, reference, until, user};
use hongbao_engine::backend::{Backend, EnvelopeFilter, ItemFilter, Listing, OnceKey, Page, Reply};
use hongbao_engine::code::{Code, HandedTo};
use hongbao_engine::command::*;
use hongbao_engine::gift::{GiftRole, GiftState, GiftStep, NewGift};
use hongbao_engine::memory::{Embedded, EmbeddedOptions, OpenError};
use hongbao_engine::order::OrderStep;
use hongbao_engine::payout::{Outside, PayoutFilter, PayoutResult, PayoutState, PayoutTo};
use hongbao_engine::redis::{
    CopyError, CopyOptions, Fuse, RedisBackend, RedisBackendOptions, RedisOpenError, copy_to_directory, copy_to_redis,
};
use hongbao_engine::sale::StatementTime;
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::*;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

const USERS: u64 = 6;
const COMMANDS: usize = 250;
const SEEDS: u64 = 3;

pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len() as u64) as usize])
    }
}

/// What was made, and what is to be answered again.
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) envelopes: Vec<EnvelopeId>,
    items: Vec<ItemId>,
    holds: Vec<HoldId>,
    orders: Vec<OrderId>,
    api_keys: Vec<ApiKeyId>,
    payouts: Vec<PayoutId>,
    gifts: Vec<GiftId>,
    answered: Vec<(Command, Option<OnceKey>, Reply)>,
}

fn who(random: &mut Random) -> UserId {
    user(&format!("u{}", random.below(USERS)))
}

fn draw(random: &mut Random, story: &Story) -> Command {
    let transfer = |random: &mut Random| {
        let text = random.one_in(3).then(|| format!("r{}", random.below(8)));
        let reference = text.map(|text| reference("app", &text));
        Transfer { user: who(random), amount: fen(1 + random.below(200)), reference }
    };
    match random.below(39) {
        0..=4 => Command::Deposit(transfer(random)),
        5 => Command::Withdraw(transfer(random)),
        6..=8 => {
            let shares = 1 + random.below(5);
            let outside = Outside {
                funding: random.one_in(3).then(|| format!("f{}", random.below(30))),
                payout: if random.one_in(3) { PayoutTo::External } else { PayoutTo::Wallet },
            };
            let split = if random.one_in(2) { SplitRule::Equal } else { SplitRule::lucky() };
            let terms = NewEnvelope {
                sender: who(random),
                split,
                outside,
                auto_claim: random.one_in(3),
                unclaimed: if random.one_in(2) { Unclaimed::Return } else { Unclaimed::Credit },
                expires_in_s: 1 + random.below(120),
                claim_within_s: random.below(120),
                reference: random.one_in(4).then(|| reference("app", &format!("e{}", random.below(5)))),
                client_seed: random.one_in(4).then(|| "seed".to_owned()),
                message: "rude".to_owned(),
                metadata: r#"{"theme":1}"#.to_owned(),
                ..envelope(shares * 10, shares as u32)
            };
            Command::CreateEnvelope(Box::new(terms))
        }
        9..=12 => match random.pick(&story.envelopes) {
            Some(envelope) => Command::Grab { envelope, user: who(random) },
            None => Command::Deposit(transfer(random)),
        },
        13..=14 => match random.pick(&story.envelopes) {
            Some(envelope) => Command::Claim { envelope, user: who(random) },
            None => Command::Deposit(transfer(random)),
        },
        15 => match random.pick(&story.envelopes) {
            Some(envelope) if random.one_in(3) => Command::Redact { envelope, metadata: random.one_in(2) },
            Some(envelope) if random.one_in(2) => Command::Cancel { envelope },
            _ => {
                let (id, name) = (user("rosy"), "Rosy".to_owned());
                let status = random.pick(&[None, Some(MerchantStatus::Verified)]).flatten();
                let commission_bps = random.pick(&[0, 3333]);
                Command::PutMerchant(Box::new(NewMerchant { commission_bps, ..NewMerchant::new(id, &name, status) }))
            }
        },
        16 => {
            let per_user_limit = random.pick(&[None, Some(1), Some(3)]).flatten();
            let is_code = random.one_in(3);
            let kind = if is_code { ItemKind::Code } else { ItemKind::Physical };
            let stock = if is_code { 0 } else { random.below(9) as u32 };
            let origin = ItemOrigin { kind, ..item(0).origin };
            let terms = NewItem { per_user_limit, hold_ttl_s: 1 + random.below(90), origin, ..item(stock) };
            Command::CreateItem(Box::new(terms))
        }
        17..=18 => match random.pick(&story.items) {
            Some(item) if random.one_in(5) => Command::Restock { item, quantity: 2 },
            Some(item) if random.one_in(5) => {
                let change = ItemChange { price: Some(fen(7)), ..ItemChange::default() };
                Command::ChangeItem { item, change: Box::new(change) }
            }
            Some(item) => Command::GrabItem { item, user: who(random), quantity: 1 + random.below(2) as u32 },
            None => Command::Deposit(transfer(random)),
        },
        19..=20 => match random.pick(&story.holds) {
            Some(hold) => Command::ClaimHold { hold, user: who(random) },
            None => Command::Deposit(transfer(random)),
        },
        24..=25 => {
            let results = (0..1 + random.below(3)).filter_map(|_| {
                let payout = random.pick(&story.payouts)?;
                let state = random.pick(&PayoutState::ALL)?;
                let reference = random.one_in(2).then(|| format!("b{}", random.below(3)));
                let reason = random.one_in(3).then(|| "no \"account\"".to_owned());
                Some(PayoutResult { payout, state, reference, reason })
            });
            match results.collect::<Vec<_>>() {
                none if none.is_empty() => Command::Deposit(transfer(random)),
                results => Command::PayoutResults(results),
            }
        }
        27..=28 => match random.pick(&story.items) {
            Some(item) => Command::CreateGift(Box::new(NewGift {
                payer: who(random),
                recipient: (!random.one_in(4)).then(|| who(random)),
                pay_within_s: 1 + random.below(120),
                accept_within_s: 1 + random.below(120),
                ship_within_s: 1 + random.below(120),
                reference: random.one_in(4).then(|| reference("app", &format!("g{}", random.below(5)))),
                ..NewGift::new("app", who(random), who(random), item)
            })),
            None => Command::Deposit(transfer(random)),
        },
        29..=32 => match random.pick(&story.gifts) {
            Some(gift) => {
                let (by, text) = (who(random), || "so".to_owned());
                let step = match random.below(7) {
                    0..=1 => GiftStep::Pay { payer: by },
                    2..=3 => GiftStep::Accept { user: by, token: None },
                    4 => GiftStep::Ship { carrier: text(), tracking: text() },
                    5 => GiftStep::Fail { reason: text() },
                    _ => GiftStep::Decline { user: by, reason: Some(text()) },
                };
                Command::StepGift { gift, step: Box::new(step) }
            }
            None => Command::Deposit(transfer(random)),
        },
        37..=38 => match random.pick(&story.items) {
            Some(item) => {
                let codes = (0..1 + random.below(4)).map(|_| Code::new(format!("c{}", random.below(99))));
                Command::AddCodes { item, codes: codes.collect() }
            }
            None => Command::Deposit(transfer(random)),
        },
        34..=36 => match random.pick(&story.orders) {
            Some(order) => {
                let text = || "so".to_owned();
                let step = match random.below(7) {
                    0 => OrderStep::Ship { carrier: text(), tracking: text() },
                    1 => OrderStep::Deliver,
                    2..=3 => OrderStep::Return { user: who(random), reason: text() },
                    4 => OrderStep::RefuseReturn { reason: text() },
                    _ => OrderStep::AcceptReturn { restock: random.one_in(2) },
                };
                Command::StepOrder { order, step: Box::new(step) }
            }
            None => Command::Deposit(transfer(random)),
        },
        21..=22 => match random.pick(&story.api_keys) {
            Some(key) if random.one_in(2) => Command::DeleteApiKey { key },
            _ => Command::CreateApiKey(Box::new(api_key("shop", story.api_keys.len() as u8))),
        },
        _ => match random.pick(&story.holds) {
            Some(hold) => Command::ReleaseHold { hold, user: who(random) },
            None => Command::Deposit(transfer(random)),
        },
    }
}

/// What was answered first, without what was taken back of it since.
fn as_redacted(first: &Reply, again: &Reply) -> Outcome {
    let mut first = first.outcome.clone();
    if let (Outcome::Envelope(first), Outcome::Envelope(again)) = (&mut first, &again.outcome)
        && again.redacted_at.is_some()
    {
        assert_eq!(again.message, "", "{again:?}");
        (first.message, first.metadata) = (again.message.clone(), again.metadata.clone());
        first.redacted_at = again.redacted_at;
    }
    first
}

impl Story {
    /// So many commands to an engine, while time goes on.
    pub(crate) async fn tell(&mut self, backend: &impl Backend, random: &mut Random, world: &World) {
        for nth in 0..COMMANDS {
            let command = match nth {
                // Else few of them have an item.
                0 => Command::PutMerchant(Box::new(NewMerchant::new(
                    user("rosy"),
                    "Rosy",
                    Some(MerchantStatus::Verified),
                ))),
                _ => draw(random, self),
            };
            let once = random.one_in(2).then(|| OnceKey::idempotency("app", "route", &format!("{}k{nth}", random.0)));
            // Nothing is kept under the key of a redaction.
            let once = once.filter(|_| !matches!(command, Command::Redact { .. }));
            let reply = backend.execute(command.clone(), once).await.expect("it is answered");
            match &reply.outcome {
                Outcome::Envelope(view) if !self.envelopes.contains(&view.id) => self.envelopes.push(view.id),
                Outcome::Item(view) if !self.items.contains(&view.id) => self.items.push(view.id),
                Outcome::Held { hold, .. } if !self.holds.contains(hold) => self.holds.push(*hold),
                Outcome::ApiKey(key) if !self.api_keys.contains(&key.id) => self.api_keys.push(key.id),
                Outcome::Gift(gift) if !self.gifts.contains(&gift.id) => self.gifts.push(gift.id),
                Outcome::Ordered { order, .. } if !self.orders.contains(order) => self.orders.push(*order),
                _ => {}
            }
            let is_kept = match &reply.outcome {
                Outcome::Won { .. } | Outcome::Claimed { .. } => true,
                Outcome::Wallet(_)
                | Outcome::Envelope(_)
                | Outcome::Item(_)
                | Outcome::Merchant(_)
                | Outcome::Held { .. }
                | Outcome::Ordered { .. }
                | Outcome::ApiKey(_)
                | Outcome::Payouts(_)
                | Outcome::Gift(_)
                | Outcome::Order(_)
                | Outcome::Released { .. } => once.is_some(),
                _ => false,
            };
            if is_kept {
                self.answered.push((command, once, reply));
            }
            if random.one_in(4) {
                let (every, page) = (PayoutFilter::default(), Page { limit: 1000, cursor: None });
                let listed = backend.payouts(&every, &page).await.expect("a list").rows;
                self.payouts = listed.iter().map(|view| view.payout.id).collect();
                world.advance_s(random.below(12));
            }
        }
        let kinds: BTreeSet<String> = self.answered.iter().map(|(command, ..)| kind_of(command)).collect();
        assert!(kinds.len() >= 8, "of too few kinds: {kinds:?}");
    }

    /// Waits until an engine has ended the gifts that were due when it started.
    pub(crate) fn until_due_gifts_end(&self, stage: &Stage, engine: &Embedded) {
        until("what is due has ended", || {
            self.gifts.iter().all(|id| {
                let gift = stage.deployment.drive(engine.gift(*id)).expect("a read").expect("a gift");
                let deadline = match gift.state {
                    GiftState::AwaitingPayment => gift.pay_by,
                    GiftState::Offered => gift.accept_by,
                    GiftState::Accepted => gift.ship_by,
                    _ => None,
                };
                deadline.is_none_or(|deadline| engine.now() < deadline)
            })
        });
    }

    /// All that can be read.
    pub(crate) async fn read(&self, backend: &impl Backend) -> String {
        let mut told = String::new();
        let mut line = |what: &str, said: &dyn std::fmt::Debug| writeln!(told, "{what}: {said:?}").expect("a string");
        for nth in 0..USERS {
            let user = user(&format!("u{nth}"));
            line("wallet", &backend.wallet(&user).await.expect("a read"));
            line("entries", &all(async |page| backend.entries(&user, &page).await.expect("a list")).await);
            line("sent", &all(async |page| backend.sent(&user, &page).await.expect("a list")).await);
            line("received", &all(async |page| backend.received(&user, &page).await.expect("a list")).await);
            for role in [GiftRole::Given, GiftRole::Received] {
                line("gifts", &all(async |page| backend.gifts(&user, role, &page).await.expect("a list")).await);
            }
            for id in &self.envelopes {
                line("grab", &backend.grab_of(*id, &user).await.expect("a read"));
            }
        }
        for id in &self.envelopes {
            line("envelope", &backend.envelope(*id).await.expect("a read"));
            line(
                "grabs",
                &all(async |page| backend.grabs(*id, &page).await.expect("a list").expect("it is there")).await,
            );
        }
        let filter = EnvelopeFilter { owner: "app".to_owned(), ..EnvelopeFilter::default() };
        line("envelopes", &all(async |page| backend.envelopes(&filter, &page).await.expect("a list")).await);
        for nth in 0..5 {
            let filter = EnvelopeFilter { reference: Some(format!("e{nth}")), ..filter.clone() };
            line("by reference", &all(async |page| backend.envelopes(&filter, &page).await.expect("a list")).await);
        }
        line("merchant", &backend.merchant(&user("rosy")).await.expect("a read"));
        line("sales", &backend.merchant_balance(&user("rosy")).await.expect("a read"));
        let page = Page { limit: 1000, cursor: None };
        let statement = backend.statement(&user("rosy"), StatementTime::default(), &page).await.expect("a read");
        line("statement", &statement.map(|it| (it.opening, it.entries.rows, it.closing)));
        line("items", &all(async |page| backend.items(&ItemFilter::default(), &page).await.expect("a list")).await);
        for id in &self.holds {
            line("hold", &backend.hold(*id).await.expect("a read"));
        }
        for id in &self.gifts {
            line("gift", &backend.gift(*id).await.expect("a read"));
            line("its code", &texts(&backend.codes(HandedTo::Gift(*id)).await.expect("a read")));
        }
        for id in &self.orders {
            line("order", &backend.order(*id).await.expect("a read"));
            line("its codes", &texts(&backend.codes(HandedTo::Order(*id)).await.expect("a read")));
        }
        for state in [None].into_iter().chain(PayoutState::ALL.map(Some)) {
            let filter = PayoutFilter { state, ..PayoutFilter::default() };
            line("payouts", &all(async |page| backend.payouts(&filter, &page).await.expect("a list")).await);
        }
        line("API keys", &all(async |page| backend.api_keys(&page).await.expect("a list")).await);
        line("audit", &backend.audit().await.expect("a read"));
        told
    }

    /// What was answered is answered again, and what was used for one thing is
    /// refused for another.
    pub(crate) async fn repeat(&self, backend: &impl Backend) -> String {
        let mut told = String::new();
        for (command, once, first) in &self.answered {
            let again = backend.execute(command.clone(), *once).await.expect("it is answered");
            if once.is_some() {
                assert_eq!((&again.outcome, again.replayed), (&as_redacted(first, &again), true), "{command:?}");
                let other = Transfer { user: user("nobody"), amount: fen(1), reference: None };
                let other = backend.execute(Command::Deposit(other), *once).await.expect("it is answered").outcome;
                assert_eq!(other, Outcome::Refused(Refusal::IdempotencyMismatch), "{command:?}");
            }
            writeln!(told, "{command:?}: {again:?}").expect("a string takes it");
            if let Command::Deposit(transfer) = command
                && transfer.reference.is_some()
            {
                let other = Transfer { amount: fen(1 + transfer.amount.minor()), ..transfer.clone() };
                let other = backend.execute(Command::Deposit(other), None).await.expect("it is answered").outcome;
                assert_eq!(other, Outcome::Refused(Refusal::ReferenceConflict));
            }
        }
        told
    }
}

fn texts(codes: &[Code]) -> Vec<&str> {
    codes.iter().map(Code::as_str).collect()
}

fn kind_of(command: &Command) -> String {
    format!("{command:?}").split(['(', ' ']).next().unwrap_or_default().to_owned()
}

/// Line by line, so that the first that differs is told and not all.
pub(crate) fn assert_same(left: &str, right: &str, seed: u64, which: &str) {
    for (one, other) in left.lines().zip(right.lines()) {
        assert_eq!(one, other, "seed {seed} ({which})");
    }
    assert_eq!(left.lines().count(), right.lines().count(), "seed {seed} ({which})");
}

/// Of deadlines that pass at once, each engine does what is due in an order of its own,
/// and of payouts that it makes then the ids are its own.
pub(crate) fn without_entries(told: &str) -> String {
    let mut kept = String::new();
    for line in told.lines().filter(|line| !line.starts_with("entries")) {
        if line.starts_with("payouts") {
            let mut rows: Vec<&str> = line.split("Payout { id: ").skip(1).map(|row| &row[30..]).collect();
            rows.iter_mut()
                .for_each(|row| *row = row.trim_end_matches("PayoutView { payout: ").trim_end_matches([',', ' ', ']']));
            rows.sort_unstable();
            kept += &format!("payouts: {rows:?}\n");
        } else {
            kept += &format!("{line}\n");
        }
    }
    kept
}

/// A list in pages of three.
async fn all<T>(page: impl AsyncFn(Page) -> Listing<T>) -> Vec<T> {
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let part = page(Page { limit: 3, cursor }).await;
        rows.extend(part.rows);
        cursor = part.next;
        if cursor.is_none() {
            return rows;
        }
    }
}

pub(crate) fn open(directory: &Path, options: &EmbeddedOptions) -> Embedded {
    Embedded::open(directory, options.clone()).expect("it opens").0
}

/// Where a story's engines are, all with one time.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) embedded: EmbeddedOptions,
    pub(crate) deployment: Deployment,
    directory: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new(seed: u64) -> Stage {
        Stage::over(seed, Deployment::new(seed))
    }

    pub(crate) fn over(seed: u64, mut deployment: Deployment) -> Stage {
        let world = World::new(seed);
        deployment.options.clock = Some(Arc::<hongbao_engine::clock::ManualClock>::clone(&world.clock));
        let embedded = world.options();
        Stage { world, embedded, deployment, directory: tempfile::tempdir().expect("a directory") }
    }

    /// A path of a directory that is not there.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn copying(&self, rows_max: Option<u64>) -> CopyOptions {
        CopyOptions { backend: self.deployment.options.clone(), rows_max }
    }

    pub(crate) fn to_redis(&self, from: &Path, rows_max: Option<u64>) -> Result<u64, CopyError> {
        let copied = self.deployment.drive(copy_to_redis(from, self.copying(rows_max), &mut |_| ()))?;
        assert_eq!(copied.differences, Vec::<String>::new());
        Ok(copied.things)
    }

    pub(crate) fn to_directory(&self, to: &Path, rows_max: Option<u64>) -> Result<u64, CopyError> {
        let copied = self.deployment.drive(copy_to_directory(self.copying(rows_max), to, &mut |_| ()))?;
        assert_eq!(copied.differences, Vec::<String>::new());
        Ok(copied.things)
    }

    fn refused(&self) -> String {
        let opened = self.deployment.drive(RedisBackend::open(self.deployment.options.clone()));
        match opened.err() {
            Some(RedisOpenError::Deployment { why }) => why,
            other => panic!("it opens: {other:?}"),
        }
    }
}

#[test]
fn a_directory_is_copied_into_redis_and_back() {
    if is_missing() {
        return;
    }
    for seed in 1..=SEEDS {
        let stage = Stage::new(seed);
        let (mut story, mut random) = (Story::default(), Random(seed));
        let (first, back) = (stage.path("first"), stage.path("back"));
        let engine = open(&first, &stage.embedded);
        stage.deployment.drive(story.tell(&engine, &mut random, &stage.world));
        engine.close().expect("it closes");
        drop(engine);
        // What is due by now is done at a start.
        let engine = open(&first, &stage.embedded);
        story.until_due_gifts_end(&stage, &engine);
        let told = stage.deployment.drive(story.read(&engine));
        engine.close().expect("it closes");
        drop(engine);

        let mut stops = 0;
        let things = loop {
            match stage.to_redis(&first, Some(if stops == 0 { 1 } else { 41 })) {
                Ok(things) => break things,
                Err(CopyError::Stopped) => stops += 1,
                Err(other) => panic!("{other}"),
            }
            assert!(stage.refused().contains("a copy into the deployment"), "{}", stage.refused());
        };
        assert!(stops > 4, "it was interrupted {stops} times");
        assert!(things > 150, "{things}");
        let again = stage.to_redis(&first, None);
        assert!(matches!(again, Err(CopyError::Occupied(_))), "{again:?}");
        let redis = stage.deployment.open();
        let read = stage.deployment.drive(story.read(&redis));
        assert_same(&told, &read, seed, "left is the directory, right is Redis");

        for most in [1, 60, 90] {
            let stopped = stage.to_directory(&back, Some(most));
            assert!(matches!(stopped, Err(CopyError::Stopped)), "{stopped:?}");
            assert!(stage.refused().contains("a copy out of the deployment"), "{}", stage.refused());
        }
        assert_eq!(stage.to_directory(&back, None).expect("it is copied"), things, "as many there and back");
        let again = stage.to_directory(&back, None);
        assert!(matches!(again, Err(CopyError::Occupied(_))), "{again:?}");
        let copied = open(&back, &stage.embedded);
        let read = stage.deployment.drive(story.read(&copied));
        assert_same(&told, &read, seed, "left is the first directory, right the one copied back");

        let engine = open(&first, &stage.embedded);
        let repeats = stage.deployment.drive(story.repeat(&engine));
        assert_same(&repeats, &stage.deployment.drive(story.repeat(&redis)), seed, "right is Redis");
        assert_same(&repeats, &stage.deployment.drive(story.repeat(&copied)), seed, "right is copied back");
        // All go on alike: deadlines, new commands, histories.
        stage.world.advance_s(400);
        for engine in [engine, copied] {
            engine.close().expect("it closes");
        }
        stage.deployment.settle(&redis);
        let (engine, copied) = (open(&first, &stage.embedded), open(&back, &stage.embedded));
        let more = Command::Deposit(Transfer { user: user("u0"), amount: fen(5), reference: None });
        for backend in [&engine, &copied] {
            stage.deployment.drive(backend.execute(more.clone(), None)).expect("it is answered");
        }
        stage.deployment.drive(redis.execute(more, None)).expect("it is answered");
        [&engine, &copied].into_iter().for_each(|engine| story.until_due_gifts_end(&stage, engine));
        let told = without_entries(&stage.deployment.drive(story.read(&engine)));
        let read = without_entries(&stage.deployment.drive(story.read(&redis)));
        assert_same(&told, &read, seed, "right is Redis");
        let read = without_entries(&stage.deployment.drive(story.read(&copied)));
        assert_same(&told, &read, seed, "right is copied back");
        for engine in [engine, copied] {
            engine.close().expect("it closes");
        }
    }
}

#[test]
fn a_deployment_with_effects_on_their_way_is_copied_into_a_directory_and_back() {
    if is_missing() {
        return;
    }
    for seed in 11..=10 + SEEDS {
        let mut stage = Stage::new(seed);
        let (mut story, mut random) = (Story::default(), Random(seed));
        let redis = stage.deployment.open();
        stage.deployment.drive(story.tell(&redis, &mut random, &stage.world));
        stage.deployment.settle(&redis);
        let Outcome::Envelope(made) = stage.deployment.drive(async {
            let all = Transfer { user: user("u1"), amount: fen(100), reference: None };
            redis.execute(Command::Deposit(all), None).await.expect("it is answered");
            let terms = NewEnvelope { sender: user("u1"), ..envelope(100, 2) };
            redis.execute(Command::CreateEnvelope(Box::new(terms)), None).await.expect("it is answered").outcome
        }) else {
            panic!("no envelope")
        };
        story.envelopes.push(made.id);
        let fuse = Some(Arc::new(Fuse { calls_left: AtomicI64::new(1), loses_answer: false }));
        let options = RedisBackendOptions { fuse, ..stage.deployment.options.clone() };
        let ended = stage.deployment.drive(RedisBackend::open(options)).expect("it opens");
        let grab = Command::Grab { envelope: made.id, user: user("u2") };
        stage.deployment.drive(redis.execute(grab, None)).expect("it is answered");
        let claim = Command::Claim { envelope: made.id, user: user("u2") };
        stage.deployment.drive(ended.execute(claim, None)).expect_err("it ends in the middle");

        let first = stage.path("first");
        stage.to_directory(&first, None).expect("it is copied");
        // The effect that was left is carried by the copy.
        let told = stage.deployment.drive(story.read(&redis));
        assert!(told.contains("received"), "{told}");
        let engine = open(&first, &stage.embedded);
        assert_same(&told, &stage.deployment.drive(story.read(&engine)), seed, "right is the directory");
        let repeats = stage.deployment.drive(story.repeat(&redis));
        assert_same(&repeats, &stage.deployment.drive(story.repeat(&engine)), seed, "right is the directory");
        engine.close().expect("it closes");
        drop(engine);
        let told = stage.deployment.drive(story.read(&redis));
        let prefix = format!("{}back", stage.deployment.options.redis.key_prefix);
        stage.deployment.options.redis.key_prefix = prefix;
        stage.to_redis(&first, None).expect("it is copied");
        let back = stage.deployment.open();
        assert_same(&told, &stage.deployment.drive(story.read(&back)), seed, "right is copied back");
        let why = hongbao_engine::rebuild::rebuild(&first, stage.directory.path(), &mut |_| (), &mut |_| ());
        assert!(why.expect_err("its history is not there").to_string().contains("began as a copy"));
    }
}

#[test]
fn what_is_served_meanwhile_is_not_copied() {
    if is_missing() {
        return;
    }
    let stage = Stage::new(21);
    let first = stage.path("first");
    let engine = open(&first, &stage.embedded);
    let locked = stage.to_redis(&first, None);
    assert!(matches!(&locked, Err(CopyError::Directory(error)) if error.to_string().contains("in use")), "{locked:?}");
    engine.close().expect("it closes");
    drop(engine);

    let redis = stage.deployment.open();
    let deposit = |minor| Command::Deposit(Transfer { user: user("u1"), amount: fen(minor), reference: None });
    stage.deployment.drive(redis.execute(deposit(5), None)).expect("it is answered");
    let occupied = stage.to_redis(&first, None);
    assert!(matches!(&occupied, Err(CopyError::Occupied(why)) if why.contains("--redis-prefix")), "{occupied:?}");

    // Interrupted, then served all the same by an engine that stood there already.
    let back = stage.path("back");
    let stopped = stage.to_directory(&back, Some(0));
    assert!(matches!(stopped, Err(CopyError::Stopped)), "{stopped:?}");
    stage.deployment.drive(redis.execute(deposit(6), None)).expect("it is answered");
    let changed = stage.to_directory(&back, None);
    assert!(matches!(&changed, Err(CopyError::Occupied(why)) if why.contains("store.copied")), "{changed:?}");
    assert!(stage.refused().contains("a copy out of"), "the mark of the first copy stands");
    std::fs::remove_dir_all(back.join("store.copied")).expect("it is there");
    stage.to_directory(&back, None).expect("it is copied");
    open(&back, &stage.embedded).close().expect("it closes");
    stage.deployment.open();
}

#[test]
fn a_copy_that_was_given_up_does_not_go_on() {
    if is_missing() {
        return;
    }
    let server = Arc::new(RedisServer::start(ServerOptions::without_aof()));
    let mut stage = Stage::new(22);
    stage.deployment = Deployment::alone_on(22, &server);
    let redis = stage.deployment.open();
    let merchant = |name: &str| {
        let status = Some(MerchantStatus::Verified);
        Command::PutMerchant(Box::new(NewMerchant::new(user(name), name, status)))
    };
    stage.deployment.drive(redis.execute(merchant("rosy"), None)).expect("it is answered");
    let back = stage.path("back");
    let stopped = stage.to_directory(&back, Some(0));
    assert!(matches!(stopped, Err(CopyError::Stopped)), "{stopped:?}");
    // Nobody serves the half of it.
    let half = Embedded::open(&back, stage.embedded.clone()).err();
    assert!(matches!(half, Some(OpenError::HalfCopied(_))), "{half:?}");
    // Given up as the refusal says, then served: what is decided moves no money.
    let refused = stage.refused();
    let words: Vec<&str> = refused.split("redis-cli ").nth(1).expect("it names a command").split(' ').collect();
    let [verb, key, field] = words[..] else { panic!("{refused}") };
    assert_eq!(server.cli(&[verb, key.trim_matches('\''), field]), "1");
    stage.deployment.drive(stage.deployment.open().execute(merchant("lily"), None)).expect("it is answered");
    let changed = stage.to_directory(&back, None);
    assert!(matches!(changed, Err(CopyError::Occupied(_))), "{changed:?}");
    // The copy that was refused has left no mark of its own.
    stage.deployment.drive(stage.deployment.open().execute(merchant("iris"), None)).expect("it is answered");
}

#[test]
fn a_copy_that_is_refused_leaves_no_directory() {
    if is_missing() {
        return;
    }
    let server = Arc::new(RedisServer::start(ServerOptions::without_aof()));
    let mut stage = Stage::new(24);
    stage.deployment = Deployment::alone_on(24, &server);
    let redis = stage.deployment.open();
    let deposit = Command::Deposit(Transfer { user: user("u1"), amount: fen(5), reference: None });
    stage.deployment.drive(redis.execute(deposit, None)).expect("it is answered");
    let sums = server.cli(&["--scan", "--pattern", "*:sums"]);
    let sums = sums.lines().next().expect("money came in");
    server.cli(&["HINCRBY", sums, "transit", "1"]);
    let back = stage.path("back");
    let refused = stage.to_directory(&back, None);
    assert!(matches!(&refused, Err(CopyError::Form(why)) if why.contains("on its way")), "{refused:?}");
    assert!(!back.exists(), "what was made for nothing is gone");
    std::fs::create_dir(&back).expect("it can be made");
    stage.to_directory(&back, None).expect_err("the money is still on its way");
    assert!(back.exists(), "what somebody else made stays");
    server.cli(&["HINCRBY", sums, "transit", "-1"]);
    stage.to_directory(&back, None).expect("it is copied");
}

/// A sale, settled with its commission, a withdrawal, and another sale.
async fn statement_of(backend: &impl Backend) -> String {
    let page = Page { limit: 1000, cursor: None };
    let statement = backend.statement(&user("rosy"), StatementTime::default(), &page).await.expect("a read");
    let statement = statement.expect("rosy is known");
    assert_eq!(statement.entries.rows.len(), 5, "{statement:?}");
    format!("{:?}", (statement.opening, statement.entries.rows, statement.closing))
}

#[test]
fn what_merchants_have_goes_with_a_copy() {
    if is_missing() {
        return;
    }
    let mut stage = Stage::new(22);
    let redis = stage.deployment.open();
    let ask = |command| stage.deployment.drive(redis.execute(command, None)).expect("it is answered").outcome;
    ask(Command::PutMerchant(Box::new(NewMerchant {
        settle_after_s: Some(60),
        commission_bps: Some(3333),
        ..NewMerchant::new(user("rosy"), "Rosy", Some(MerchantStatus::Verified))
    })));
    ask(Command::Deposit(Transfer { user: user("u1"), amount: fen(1000), reference: None }));
    let Outcome::Item(made) = ask(Command::CreateItem(Box::new(NewItem { per_user_limit: None, ..item(9) }))) else {
        panic!("no item")
    };
    let buy = || {
        let Outcome::Held { hold, .. } = ask(Command::GrabItem { item: made.id, user: user("u1"), quantity: 1 }) else {
            panic!("no hold")
        };
        assert!(matches!(ask(Command::ClaimHold { hold, user: user("u1") }), Outcome::Ordered { .. }));
    };
    buy();
    stage.world.advance_s(120);
    stage.deployment.settle(&redis);
    let out = Transfer { user: user("rosy"), amount: fen(1), reference: None };
    assert!(matches!(ask(Command::WithdrawSales(out)), Outcome::Sales { .. }));
    buy();
    let first = stage.path("first");
    let before = stage.deployment.drive(statement_of(&redis));
    stage.to_directory(&first, None).expect("it is copied");
    let engine = open(&first, &stage.embedded);
    assert_eq!(before, stage.deployment.drive(statement_of(&engine)));
    engine.close().expect("it closes");
    drop(engine);
    let prefix = format!("{}back", stage.deployment.options.redis.key_prefix);
    stage.deployment.options.redis.key_prefix = prefix;
    stage.to_redis(&first, None).expect("it is copied");
    let back = stage.deployment.open();
    assert_eq!(before, stage.deployment.drive(statement_of(&back)));
    // What is pending there is settled there.
    stage.world.advance_s(120);
    stage.deployment.settle(&back);
    let has = stage.deployment.drive(back.merchant_balance(&user("rosy"))).expect("a read").expect("rosy is known");
    assert!(has.pending.is_zero() && !has.available.is_zero(), "{has:?}");
}
