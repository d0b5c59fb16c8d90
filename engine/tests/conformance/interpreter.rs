//! Reads stories and tells them to a backend.
//!
//! ```text
//! == a title starts a story on a fresh backend
//! deposit alice 1000
//! create E1 sender=alice total=1000 shares=3 seed=7 => open left=3
//! grab E1 bob => won $a
//! grab E1 bob => won $a replayed
//! advance 100s
//! wallet alice => 0
//! ```
//!
//! - A title that ends with `[creates=2]` is of a backend where a sender makes two
//!   envelopes a day; the first day has 76,800 s left.
//! - A step is a verb, words and `key=value`s; after `=>` stands what is
//!   answered. Without `=>` the answer has to be positive.
//! - Names like `E1` are bound by the step that makes the thing. `E?`, `I?`, `H?`,
//!   `O?`, `G?`, `N?` and `K?` stand for things that never were.
//!   `O?`, `G?`, `U?` and `K?` stand for things that never were.
//! - An answer's words and flags (`replayed`: the answer says so; `remembered`:
//!   it was kept under a key or a reference) have to be those expected, all of
//!   them; of its `key=value`s only those expected are looked at.
//! - Words are compared part by part between colons. `_` is anything, `$a` is
//!   bound where it is first met; `1000-$a-$b` is computed.
//! - A payout is `E1/bob`, the first one out of that envelope to that user, or `E1/bob/2`;
//!   `P?` never was. A result is `E1/bob:sent`, with a reference and a reason behind it.
//! - Times are seconds since the start of the story: `t100`; when they are
//!   given, `+10s` and `-10s` are seconds from now.
//! - `x*201` is x, 201 times over.
//! - Reads see what is due by now as done. Commands are not helped that way.
//! - Lists are read in pages of 1, 2 and 1000, which have to tell the same.

use crate::Stand;
use crate::stand::address;
use hongbao_engine::EngineError;
use hongbao_engine::address::AddressRead;
use hongbao_engine::api_key::{ApiKey, NewApiKey};
use hongbao_engine::backend::{
    Backend, Entry, EntryKind, EnvelopeFilter, GrabRow, ItemFilter, Listing, OnceKey, Page, ReceivedRow, Reply,
};
use hongbao_engine::code::{Code, HandedTo};
use hongbao_engine::command::*;
use hongbao_engine::gift::*;
use hongbao_engine::gift_envelope::*;
use hongbao_engine::group::*;
use hongbao_engine::order::OrderStep;
use hongbao_engine::payment::{NewPayment, Payment, PaymentFilter, PaymentFor, PaymentState, PaymentTold};
use hongbao_engine::payout::*;
use hongbao_engine::relation::*;
use hongbao_engine::sale::*;
use hongbao_engine::split::{SplitRule, commitment, envelope_seed, split};
use hongbao_engine::types::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{Display, Write};
use std::future::Future;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Tells all stories of a file; fails with every step that was answered otherwise.
pub(crate) fn tell<S: Stand>(path: &str, text: &str) {
    let mut wrong = String::new();
    let mut story: Option<Story<S>> = None;
    let mut told = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with("==") {
            story = Some(Story::fresh(creates_in(line)));
            told += 1;
            continue;
        }
        // After a first wrong answer the rest of the story means nothing.
        let Some(listening) = story.as_mut() else { continue };
        if let Err(why) = listening.step(line) {
            writeln!(wrong, "{path}:{}: {line}\n    {why}", index + 1).expect("a string takes it");
            story = None;
        }
    }
    assert!(told > 0, "{path} has no story");
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// How many envelopes a sender may make in a day, by a story's title.
fn creates_in(title: &str) -> Option<u32> {
    let (_, cap) = title.split_once("[creates=")?;
    Some(cap.trim_end_matches(']').parse().expect("a number stands in [creates=N]"))
}

struct Story<S> {
    stand: Option<S>,
    started: Timestamp,
    /// Ids as text by name, and the other way round.
    ids: HashMap<String, String>,
    names: HashMap<String, String>,
    variables: HashMap<String, String>,
    /// The terms of envelopes, and what was published before the first grab.
    made: HashMap<EnvelopeId, (NewEnvelope, [u8; 32])>,
}

/// What was answered, in words.
#[derive(Debug, Default)]
struct Told {
    words: Vec<String>,
    /// Whether the words stand in the order of shares.
    is_by_share: bool,
    flags: BTreeSet<&'static str>,
    fields: BTreeMap<&'static str, String>,
}

/// One step, taken apart.
struct Step<'a> {
    verb: &'a str,
    words: Vec<&'a str>,
    fields: HashMap<&'a str, &'a str>,
}

type Wrong = String;

const NEVER_WAS: [u8; 16] = *b"never was, never";
const FLAGS: [&str; 2] = ["replayed", "remembered"];
const PATIENCE: Duration = Duration::from_secs(60);

/// What is expected where shares are grabbed in another order than theirs:
/// nothing of their numbers, nor of which is the best.
fn loosen(step: &Step<'_>, expected: &str) -> String {
    let expected = expected.replace(":best", "").replace(":claimed:_", ":claimed");
    let mut parts: Vec<_> = expected.split_whitespace().filter(|part| !part.starts_with("share=")).collect();
    if step.verb == "grabs" {
        parts.sort_unstable();
    }
    parts.join(" ")
}

impl<S: Stand> Story<S> {
    fn fresh(creates: Option<u32>) -> Story<S> {
        let stand = S::fresh(creates);
        let started = stand.backend().now();
        let mut story = Story {
            stand: Some(stand),
            started,
            ids: HashMap::new(),
            names: HashMap::new(),
            variables: HashMap::new(),
            made: HashMap::new(),
        };
        story.bind("E?", EnvelopeId::from_bytes(NEVER_WAS));
        story.bind("I?", ItemId::from_bytes(NEVER_WAS));
        story.bind("H?", HoldId::from_bytes(NEVER_WAS));
        story.bind("O?", OrderId::from_bytes(NEVER_WAS));
        story.bind("G?", GiftId::from_bytes(NEVER_WAS));
        story.bind("N?", GiftEnvelopeId::from_bytes(NEVER_WAS));
        story.bind("U?", GroupId::from_bytes(NEVER_WAS));
        story.bind("K?", ApiKeyId::from_bytes(NEVER_WAS));
        story
    }

    fn stand(&self) -> &S {
        self.stand.as_ref().expect("a story stands on something")
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        self.stand().drive(future)
    }

    fn step(&mut self, line: &str) -> Result<(), Wrong> {
        let (asked, expected) = match line.split_once("=>") {
            Some((asked, expected)) => (asked, Some(expected.trim())),
            None => (line, None),
        };
        let step = Step::parse(asked);
        let loosened = expected.filter(|_| !S::IN_ORDER).map(|expected| loosen(&step, expected));
        let expected = loosened.as_deref().or(expected);
        let Some(told) = self.command(&step)? else { return self.read_until(&step, expected) };
        self.compare(told, expected)?;
        let stand = self.stand.take().expect("a story stands on something");
        self.stand = Some(stand.befall());
        Ok(())
    }

    fn read_until(&mut self, step: &Step<'_>, expected: Option<&str>) -> Result<(), Wrong> {
        let since = Instant::now();
        loop {
            self.stand().settle();
            let result = self.read(step).and_then(|told| self.compare(told, expected));
            if result.is_ok() || !S::EVENTUALLY || since.elapsed() > PATIENCE {
                return result;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn bind(&mut self, name: &str, id: impl Display) {
        self.ids.insert(name.to_owned(), id.to_string());
        self.names.insert(id.to_string(), name.to_owned());
    }

    /// Binds a name to an id unless the id has one already.
    fn bind_new(&mut self, name: &str, id: impl Display) {
        if !self.names.contains_key(&id.to_string()) {
            self.bind(name, id);
        }
    }

    fn id<T: FromStr<Err = NameError>>(&self, name: &str) -> Result<T, Wrong> {
        let id = self.ids.get(name).ok_or_else(|| format!("nothing is named {name} yet"))?;
        id.parse().map_err(|_| format!("{name} is something else"))
    }

    fn name_of(&self, id: impl Display) -> String {
        let id = id.to_string();
        self.names.get(&id).cloned().unwrap_or(id)
    }

    fn told_time(&self, at: Timestamp) -> String {
        let ms = at.ms() as i64 - self.started.ms() as i64;
        match ms % 1000 {
            0 => format!("t{}", ms / 1000),
            _ => format!("t{ms}ms"),
        }
    }

    fn time(&self, text: &str) -> Result<Timestamp, Wrong> {
        let wrong = || format!("{text} is not a time: t10, +10s or -10s");
        let seconds = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let now = self.stand().backend().now();
        if let Some(after) = text.strip_prefix('t') {
            return Ok(self.started.plus_s(seconds(after)?));
        }
        let by = seconds(text.get(1..).and_then(|by| by.strip_suffix('s')).ok_or_else(wrong)?)?;
        match text.as_bytes()[0] {
            b'+' => Ok(now.plus_s(by)),
            b'-' => Ok(Timestamp::from_ms(now.ms() - by * 1000)),
            _ => Err(wrong()),
        }
    }

    /// `x*3` is xxx; variables are put in.
    fn text(&self, text: &str) -> String {
        if let Some((once, times)) = text.split_once('*')
            && let Ok(times) = times.parse()
        {
            return once.repeat(times);
        }
        self.value_of(text).unwrap_or_else(|| text.to_owned())
    }

    fn user(&self, text: &str) -> Result<UserId, Wrong> {
        UserId::new(&self.text(text)).map_err(|error| format!("{text}: {error}"))
    }

    fn number<T: FromStr>(&self, text: &str) -> Result<T, Wrong> {
        self.text(text).parse().map_err(|_| format!("{text} is not a number of its kind"))
    }

    fn amount(&self, text: &str) -> Result<Amount, Wrong> {
        Amount::new(self.number(text)?).ok_or_else(|| format!("{text} is above 2^53-1"))
    }

    /// What an expression with variables comes to, if it has any and all are bound.
    fn value_of(&self, text: &str) -> Option<String> {
        if !text.contains('$') {
            return None;
        }
        if let Some(value) = text.strip_prefix('$').and_then(|name| self.variables.get(name)) {
            return Some(value.clone());
        }
        let mut sum = 0i128;
        let mut rest = text;
        let mut sign = 1;
        loop {
            let end = rest.find(['+', '-']).unwrap_or(rest.len());
            let term = &rest[..end];
            let number = match term.strip_prefix('$') {
                Some(name) => self.variables.get(name)?.parse::<i128>().ok()?,
                None => term.parse().ok()?,
            };
            sum += sign * number;
            sign = match rest.as_bytes().get(end) {
                None => return Some(sum.to_string()),
                Some(b'-') => -1,
                Some(_) => 1,
            };
            rest = &rest[end + 1..];
        }
    }

    /// Whether what was told is what was expected; binds what is met first.
    fn compare(&mut self, mut told: Told, expected: Option<&str>) -> Result<(), Wrong> {
        if !S::IN_ORDER {
            told.words.iter_mut().for_each(|word| *word = word.replace(":best", ""));
            if told.is_by_share {
                told.words.sort_unstable();
            }
        }
        let Some(expected) = expected else {
            let negative = ["refused", "error", "sold_out", "expired", "not_won"];
            return match told.words.first() {
                Some(word) if negative.contains(&word.as_str()) => Err(format!("told: {told}")),
                _ => Ok(()),
            };
        };
        let before = self.variables.clone();
        let mut words = told.words.iter();
        let mut flags = BTreeSet::new();
        let mut same = true;
        for part in expected.split_whitespace() {
            if let Some(flag) = FLAGS.iter().find(|&&flag| flag == part) {
                flags.insert(*flag);
            } else if let Some((key, value)) = part.split_once('=') {
                same &= told.fields.get(key).is_some_and(|field| self.is(field, value));
            } else {
                same &= words.next().is_some_and(|word| self.is(word, part));
            }
        }
        if !same || words.next().is_some() || flags != told.flags {
            self.variables = before;
            return Err(format!("told: {told}"));
        }
        Ok(())
    }

    /// Whether a word is what was expected, part by part; binds what is met first.
    fn is(&mut self, told: &str, expected: &str) -> bool {
        let (told, expected): (Vec<_>, Vec<_>) = (told.split(':').collect(), expected.split(':').collect());
        told.len() == expected.len()
            && told.iter().zip(expected).all(|(&told, expected)| match expected.strip_prefix('$') {
                _ if expected == "_" => true,
                Some(name) if !name.contains(['+', '-']) && !self.variables.contains_key(name) => {
                    self.variables.insert(name.to_owned(), told.to_owned());
                    true
                }
                _ => told == self.text(expected),
            })
    }

    /// Carries a command out; `None` if the step is none.
    fn command(&mut self, step: &Step<'_>) -> Result<Option<Told>, Wrong> {
        let command = match (step.verb, &step.words[..]) {
            ("grab_all", elements) => return self.grab_all(elements).map(Some),
            ("deposit" | "withdraw", [user, amount]) => {
                let transfer =
                    Transfer { user: self.user(user)?, amount: self.amount(amount)?, reference: self.reference(step) };
                if step.verb == "deposit" { Command::Deposit(transfer) } else { Command::Withdraw(transfer) }
            }
            ("withdraw_sales", [merchant, amount]) => {
                let (user, amount) = (self.user(merchant)?, self.amount(amount)?);
                Command::WithdrawSales(Transfer { user, amount, reference: self.reference(step) })
            }
            ("create", [_]) => Command::CreateEnvelope(Box::new(self.new_envelope(step)?)),
            ("grab", [envelope, user]) => Command::Grab { envelope: self.id(envelope)?, user: self.user(user)? },
            ("claim", [envelope, user]) => Command::Claim { envelope: self.id(envelope)?, user: self.user(user)? },
            ("cancel", [envelope]) => Command::Cancel { envelope: self.id(envelope)? },
            ("redact", [envelope]) => Command::Redact { envelope: self.id(envelope)?, metadata: false },
            ("redact_gift", [gift]) => Command::RedactGift { gift: self.id(gift)?, metadata: false },
            ("redact_gift", [gift, "metadata"]) => Command::RedactGift { gift: self.id(gift)?, metadata: true },
            ("redact", [envelope, "metadata"]) => Command::Redact { envelope: self.id(envelope)?, metadata: true },
            ("put_merchant", [merchant, status]) => {
                let told = |field| step.fields.get(field).map(|text| self.text(text));
                let papers = NewVerification { by: told("by"), reference: told("papers") };
                Command::PutMerchant(Box::new(NewMerchant {
                    verification: (papers != NewVerification::default()).then_some(papers),
                    told_by: "app".to_owned(),
                    settle_after_s: step.fields.get("settle_after").map(|text| self.number(text)).transpose()?,
                    commission_bps: step.fields.get("commission").map(|text| self.number(text)).transpose()?,
                    ..NewMerchant::new(
                        self.user(merchant)?,
                        &told("name").unwrap_or("Rosy".to_owned()),
                        if *status == "none" { None } else { Some(merchant_status(status)?) },
                    )
                }))
            }
            ("create_item", [_]) => Command::CreateItem(Box::new(self.new_item(step)?)),
            ("change_item", [item]) => {
                let change = Box::new(self.item_change(step)?);
                Command::ChangeItem { item: self.id(item)?, change }
            }
            ("restock", [item, quantity]) => {
                Command::Restock { item: self.id(item)?, quantity: self.number(quantity)? }
            }
            ("add_codes", [item, codes @ ..]) => {
                let codes = codes.iter().map(|code| Code::new(self.text(code))).collect();
                Command::AddCodes { item: self.id(item)?, codes }
            }
            ("grab_item", [_, item, user, quantity]) => {
                Command::GrabItem { item: self.id(item)?, user: self.user(user)?, quantity: self.number(quantity)? }
            }
            ("claim_hold", [_, hold, user]) => Command::ClaimHold { hold: self.id(hold)?, user: self.user(user)? },
            ("release_hold", [hold, user]) => Command::ReleaseHold { hold: self.id(hold)?, user: self.user(user)? },
            (verb, [order, words @ ..]) if order_step(verb, words).is_some() => {
                let step = order_step(verb, words).expect("it was just there");
                Command::StepOrder { order: self.id(order)?, step: Box::new(step) }
            }
            ("pay_with", [_, gateway, of, payer]) => {
                let seconds = |field, usual| step.fields.get(field).map_or(Ok(usual), |text| self.number(text));
                let purpose = self.id(of).map(PaymentFor::Hold).or_else(|_| self.id(of).map(PaymentFor::Gift))?;
                Command::CreatePayment(Box::new(NewPayment {
                    gateway: (*gateway).to_owned(),
                    purpose,
                    payer: self.user(payer)?,
                    pay_within_s: seconds("pay_within", 60)?,
                    keep_s: seconds("keep", 30)?,
                }))
            }
            ("tell", [payment, words @ ..]) => {
                let told = match words {
                    ["created"] => PaymentTold::Created { number: None, pay_url: None },
                    ["paid", amount, number] => {
                        PaymentTold::Paid { amount: self.amount(amount)?, number: (*number).to_owned() }
                    }
                    ["failed"] => PaymentTold::Failed { reason: "no such card".to_owned() },
                    ["unpaid"] => PaymentTold::Unpaid,
                    ["given_up"] => PaymentTold::GivenUp,
                    ["refunded"] => PaymentTold::Refunded { number: None },
                    _ => return Err("created, paid, failed, unpaid, given_up or refunded is told".into()),
                };
                Command::TellPayment { payment: self.id(payment)?, told: Box::new(told) }
            }
            ("open_group", [_, item, user]) => {
                let owner = step.fields.get("owner").copied().unwrap_or("app").to_owned();
                let (item, leader, reference) = (self.id(item)?, self.user(user)?, self.reference(step));
                Command::OpenGroup(Box::new(NewGroup { owner, item, leader, reference }))
            }
            ("join", [group, user]) => Command::JoinGroup { group: self.id(group)?, user: self.user(user)? },
            ("leave", [group, user]) => Command::LeaveGroup { group: self.id(group)?, user: self.user(user)? },
            ("give", [_]) => Command::CreateGift(Box::new(self.new_gift(step)?)),
            (verb, [gift, words @ ..]) if verb != "results" && self.gift_step(verb, gift, words)?.is_some() => {
                let gift_step = self.gift_step(verb, gift, words)?.expect("it was just there");
                Command::StepGift { gift: self.id(gift)?, step: Box::new(gift_step) }
            }
            ("give_many", [_]) => Command::CreateGiftEnvelope(Box::new(self.new_gift_envelope(step)?)),
            ("grab_gift", [_, envelope, user, token @ ..]) => {
                let token = match token.first() {
                    Some(&"token") => self.variables.get(&format!("{envelope}_token")).cloned(),
                    shown => shown.map(|text| self.text(text)),
                };
                let token = token.map(|text| text.parse()).transpose().map_err(|_| "it is no token")?;
                let must_follow = step.fields.contains_key("must_follow");
                Command::GrabGift { envelope: self.id(envelope)?, user: self.user(user)?, token, must_follow }
            }
            ("pay_many", [envelope, payer]) => {
                let step = Box::new(GiftEnvelopeStep::Pay { payer: self.user(payer)? });
                Command::StepGiftEnvelope { envelope: self.id(envelope)?, step }
            }
            ("take_back_many", [envelope, user]) => {
                let step = Box::new(GiftEnvelopeStep::Cancel { user: self.user(user)? });
                Command::StepGiftEnvelope { envelope: self.id(envelope)?, step }
            }
            ("relate", rows) => {
                Command::PutRelations(rows.iter().map(|row| self.relation(row)).collect::<Result<_, _>>()?)
            }
            ("advance", [by]) => Command::AdvanceClock { by_s: self.number(by.strip_suffix('s').unwrap_or(by))? },
            ("create_api_key", [_]) => Command::CreateApiKey(Box::new(self.new_api_key(step)?)),
            ("delete_api_key", [key]) => Command::DeleteApiKey { key: self.id(key)? },
            ("results", results) => {
                Command::PayoutResults(results.iter().map(|result| self.result(result)).collect::<Result<_, _>>()?)
            }
            _ => return Ok(None),
        };
        let owner = step.fields.get("owner").copied().unwrap_or("app");
        let once = step.fields.get("key").map(|key| OnceKey::idempotency(owner, step.verb, key));
        let reply = self.drive(self.stand().backend().execute(command.clone(), once));
        match (reply.as_ref().map(|reply| &reply.outcome), &command) {
            (Ok(Outcome::Envelope(view)), Command::CreateEnvelope(terms)) => {
                self.bind_new(step.words[0], view.id);
                self.made.entry(view.id).or_insert_with(|| ((**terms).clone(), view.commitment));
            }
            (Ok(Outcome::Item(view)), Command::CreateItem(_)) => self.bind_new(step.words[0], view.id),
            (Ok(Outcome::ApiKey(key)), _) => self.bind_new(step.words[0], key.id),
            (Ok(Outcome::Gift(gift)), Command::GrabGift { .. }) => self.bind_new(step.words[0], gift.id),
            (Ok(Outcome::GiftEnvelope(made)), Command::CreateGiftEnvelope(_)) => {
                self.bind_new(step.words[0], made.id);
                if let Some(token) = made.token {
                    self.variables.insert(format!("{}_token", step.words[0]), token.to_string());
                }
            }
            (Ok(Outcome::Gift(gift)), Command::CreateGift(_)) => {
                self.bind_new(step.words[0], gift.id);
                if let Some(token) = gift.token {
                    self.variables.insert(format!("{}_token", step.words[0]), token.to_string());
                }
            }
            (Ok(Outcome::Group(group)), Command::OpenGroup(_)) => self.bind_new(step.words[0], group.id),
            // The orders of a group that is full are named as it and its members.
            (Ok(Outcome::Joined { group, order: Some(_), .. }), Command::JoinGroup { .. }) => {
                for member in &group.members {
                    let order = group.order_of(&member.user).expect("it is full");
                    self.bind_new(&format!("{}/{}", step.words[0], member.user), order);
                }
            }
            (Ok(Outcome::Held { hold, .. }), _) => self.bind_new(step.words[0], hold),
            (Ok(Outcome::Payment(payment)), Command::CreatePayment(_)) => self.bind_new(step.words[0], payment.id),
            (Ok(Outcome::Payment(payment)), _) => {
                if let Some(order) = payment.order {
                    self.bind_new(&format!("{}_order", step.words[0]), order);
                }
            }
            (Ok(Outcome::Ordered { order, .. }), _) => self.bind_new(step.words[0], order),
            _ => {}
        }
        Ok(Some(self.told_reply(&reply)))
    }

    fn grab_all(&self, elements: &[&str]) -> Result<Told, Wrong> {
        let mut commands = Vec::new();
        for element in elements {
            let (envelope, user) = element.split_once(':').ok_or("an element is E1:bob")?;
            commands.push(Command::Grab { envelope: self.id(envelope)?, user: self.user(user)? });
        }
        let at_once = if S::BATCHES_IN_ORDER { commands.len() } else { 1 };
        let mut replies = Vec::new();
        for batch in commands.chunks(at_once.max(1)) {
            replies.extend(self.drive(self.stand().backend().execute_all(batch.to_vec())));
        }
        let mut told = Told::default();
        for reply in &replies {
            let element = self.told_reply(reply);
            let parts = element.words.iter().map(String::as_str).chain(element.flags.iter().copied());
            told.words.push(parts.collect::<Vec<_>>().join(":"));
        }
        Ok(told)
    }

    fn reference(&self, step: &Step<'_>) -> Option<Reference> {
        let owner = step.fields.get("owner").copied().unwrap_or("app").to_owned();
        step.fields.get("reference").map(|text| Reference { owner, text: self.text(text) })
    }

    fn new_api_key(&self, step: &Step<'_>) -> Result<NewApiKey, Wrong> {
        let field = |name, default| step.fields.get(name).copied().unwrap_or(default);
        let roles = field("roles", "caller").split(',').filter(|role| !role.is_empty());
        Ok(NewApiKey {
            name: self.text(field("name", "shop")),
            owner: self.user(field("for", "shop"))?,
            roles: roles.map(str::parse).collect::<Result<_, _>>().map_err(|error| format!("{error}"))?,
            digest: [self.number(field("digest", "1"))?; 32],
        })
    }

    fn new_gift(&self, step: &Step<'_>) -> Result<NewGift, Wrong> {
        let field = |name, default| step.fields.get(name).copied().unwrap_or(default);
        let giver = field("giver", "alice");
        Ok(NewGift {
            owner: field("owner", "app").to_owned(),
            giver: self.user(giver)?,
            recipient: self.optional(field("recipient", "bob"), |story, text| story.user(text))?,
            item: self.id(field("item", "I1"))?,
            payer: self.user(field("payer", giver))?,
            message: self.text(field("message", "")),
            pay_within_s: self.number(field("pay_within", "86400"))?,
            accept_within_s: self.number(field("accept_within", "259200"))?,
            ship_within_s: self.number(field("ship_within", "1209600"))?,
            reference: self.reference(step),
            metadata: self.text(field("metadata", "{}")),
            must_follow: step.fields.contains_key("must_follow"),
        })
    }

    fn new_gift_envelope(&self, step: &Step<'_>) -> Result<NewGiftEnvelope, Wrong> {
        let field = |name, default| step.fields.get(name).copied().unwrap_or(default);
        let (giver, item) = (field("giver", "alice"), self.id(field("item", "I1"))?);
        Ok(NewGiftEnvelope {
            payer: self.user(field("payer", giver))?,
            message: self.text(field("message", "")),
            has_token: step.fields.contains_key("token"),
            pay_within_s: self.number(field("pay_within", "86400"))?,
            expires_in_s: self.number(field("expires", "86400"))?,
            accept_within_s: self.number(field("accept_within", "259200"))?,
            ship_within_s: self.number(field("ship_within", "1209600"))?,
            reference: self.reference(step),
            ..NewGiftEnvelope::new(field("owner", "app"), self.user(giver)?, item, self.number(field("units", "2"))?)
        })
    }

    /// `bob:blocks:alice`.
    fn relation(&self, row: &str) -> Result<RelationRow, Wrong> {
        let [user, relation, other] = row.split(':').collect::<Vec<_>>()[..] else {
            return Err(format!("{row} is no relation"));
        };
        let known = Relation::ALL.into_iter().find(|known| known.name() == relation);
        let relation = known.ok_or_else(|| format!("{relation} is no relation"))?;
        Ok(RelationRow { user: self.user(user)?, other: self.user(other)?, relation })
    }

    /// What is done about a gift, if that is what the verb says.
    fn gift_step(&self, verb: &str, gift: &str, words: &[&str]) -> Result<Option<GiftStep>, Wrong> {
        let text = |at: usize| words.get(at).map(|text| self.text(text));
        let token = || {
            let shown = match words.get(1) {
                Some(&"token") => self.variables.get(&format!("{gift}_token")).cloned(),
                shown => shown.map(|text| self.text(text)),
            };
            shown.map(|text| text.parse::<GiftToken>()).transpose().map_err(|error| error.to_string())
        };
        let user = || self.user(words.first().ok_or("somebody does it")?);
        Ok(Some(match verb {
            "pay" => GiftStep::Pay { payer: user()? },
            "accept" => GiftStep::Accept { user: user()?, token: token()? },
            "accept_followed" => GiftStep::AcceptWith(Box::new(Acceptance {
                user: user()?,
                token: token()?,
                address: None,
                must_follow: true,
            })),
            "decline" => GiftStep::Decline { user: user()?, reason: text(1) },
            "take_back" => GiftStep::Cancel { user: user()? },
            "ship" => GiftStep::Ship {
                carrier: text(0).unwrap_or_else(|| "sf".to_owned()),
                tracking: text(1).unwrap_or_else(|| "SF1".to_owned()),
            },
            "deliver" => GiftStep::Deliver,
            "fail" => GiftStep::Fail { reason: text(0).unwrap_or_else(|| "withered".to_owned()) },
            "accept_to" => {
                let address = address(&text(1).unwrap_or_else(|| "lake".to_owned()));
                GiftStep::AcceptTo { user: user()?, token: None, address: Box::new(address) }
            }
            "ship_to" => GiftStep::ShipTo {
                carrier: "sf".to_owned(),
                tracking: "SF1".to_owned(),
                address_version: self.number(words.first().ok_or("of a version")?)?,
            },
            "erase_address" => GiftStep::EraseAddress,
            "thank" => GiftStep::Thank { user: user()?, note: text(1).unwrap_or_else(|| "thanks".to_owned()) },
            _ => return Ok(None),
        }))
    }

    fn told_gift(&self, gift: &Gift) -> Told {
        let time = |at: Option<Timestamp>| at.map_or("none".to_owned(), |at| self.told_time(at));
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        Told::of([gift.state.name()])
            .with("id", self.name_of(gift.id))
            .with("owner", &gift.owner)
            .with("giver", &gift.giver)
            .with("recipient", gift.recipient.as_ref().map_or("none".to_owned(), ToString::to_string))
            .with("payer", &gift.payer)
            .with("item", self.name_of(gift.item))
            .with("merchant", &gift.merchant)
            .with("amount", gift.amount)
            .with("message", &gift.message)
            .with("token", if gift.token.is_some() { "some" } else { "none" })
            .with("created", self.told_time(gift.created_at))
            .with("pay_by", time(gift.pay_by))
            .with("paid", time(gift.paid_at))
            .with("accept_by", time(gift.accept_by))
            .with("accepted", time(gift.accepted_at))
            .with("ship_by", time(gift.ship_by))
            .with("shipped", time(gift.shipped_at))
            .with("carrier", or_none(&gift.carrier))
            .with("tracking", or_none(&gift.tracking))
            .with("ended", time(gift.ended_at))
            .with("reason", or_none(&gift.reason))
            .with("note", or_none(&gift.note))
            .with("reference", or_none(&gift.reference))
            .with("metadata", &gift.metadata)
            .with("redacted", time(gift.redacted.map(|redaction| redaction.at)))
    }

    fn told_group(&self, group: &Group) -> Told {
        let members: Vec<_> = group.members.iter().map(|member| member.user.to_string()).collect();
        Told::of([group.state.name()])
            .with("id", self.name_of(group.id))
            .with("owner", &group.owner)
            .with("item", self.name_of(group.item))
            .with("merchant", &group.merchant)
            .with("size", group.size)
            .with("price", group.price)
            .with("leader", &group.leader)
            .with("members", members.join(","))
            .with("created", self.told_time(group.created_at))
            .with("expires", self.told_time(group.expires_at))
            .with("ended", group.ended_at.map_or("none".to_owned(), |at| self.told_time(at)))
            .with("reference", group.reference.as_deref().unwrap_or("none"))
    }

    /// `3:9:60` is a group of three that pays 9 each and may take a minute.
    fn group_buy(&self, text: &str) -> Result<GroupBuy, Wrong> {
        let parts: Vec<_> = text.split(':').collect();
        let [size, price, within_s] = parts[..] else { return Err(format!("{text} is not size:price:within")) };
        Ok(GroupBuy { size: self.number(size)?, price: self.amount(price)?, within_s: self.number(within_s)? })
    }

    fn new_envelope(&self, step: &Step<'_>) -> Result<NewEnvelope, Wrong> {
        let field = |name, default| step.fields.get(name).copied().unwrap_or(default);
        let min_share = self.amount(field("min_share", "1"))?;
        let max_share = step.fields.get("max_share").map(|max| self.amount(max)).transpose()?;
        let split = match field("split", "lucky") {
            "lucky" => SplitRule::Lucky { min_share, max_share },
            "uniform" => SplitRule::Uniform { min_share },
            "equal" => SplitRule::Equal,
            "specified" => {
                let amounts = field("amounts", "");
                let amounts = match amounts.split_once('*') {
                    Some((amount, times)) => vec![self.amount(amount)?; self.number(times)?],
                    None => amounts
                        .split(',')
                        .filter(|a| !a.is_empty())
                        .map(|a| self.amount(a))
                        .collect::<Result<_, _>>()?,
                };
                SplitRule::Specified(amounts)
            }
            other => return Err(format!("{other} is no split")),
        };
        Ok(NewEnvelope {
            owner: field("owner", "app").to_owned(),
            sender: self.user(field("sender", "alice"))?,
            total: self.amount(field("total", "1000"))?,
            shares: self.number(field("shares", "3"))?,
            split,
            message: self.text(field("message", "")),
            opens_at: step.fields.get("opens").map(|at| self.time(at)).transpose()?,
            expires_in_s: self.number(field("expires", "86400"))?,
            claim_within_s: self.number(field("claim", "86400"))?,
            auto_claim: field("auto_claim", "false") == "true",
            unclaimed: match field("unclaimed", "return") {
                "return" => Unclaimed::Return,
                "credit" => Unclaimed::Credit,
                other => return Err(format!("{other} is nothing that becomes of shares")),
            },
            reference: self.reference(step),
            metadata: self.text(field("metadata", "{}")),
            client_seed: step.fields.get("seed").map(|seed| self.text(seed)),
            outside: Outside {
                funding: step.fields.get("funding").map(|text| self.text(text)),
                payout: match field("payout", "wallet") {
                    "wallet" => PayoutTo::Wallet,
                    "external" => PayoutTo::External,
                    other => return Err(format!("{other} is nowhere to pay to")),
                },
            },
        })
    }

    fn result(&self, text: &str) -> Result<PayoutResult, Wrong> {
        let mut parts = text.split(':');
        let payout = self.payout_id(parts.next().unwrap_or_default())?;
        let state = state_of(parts.next().unwrap_or_default())?;
        let mut told = || parts.next().filter(|text| *text != "none").map(|text| self.text(text));
        Ok(PayoutResult { payout, state, reference: told(), reason: told() })
    }

    fn payout_id(&self, text: &str) -> Result<PayoutId, Wrong> {
        if text == "P?" {
            return Ok(PayoutId::from_bytes(NEVER_WAS));
        }
        let mut parts = text.split('/');
        let envelope = Some(self.id(parts.next().unwrap_or_default())?);
        let user = Some(self.user(parts.next().unwrap_or_default())?);
        let nth: usize = parts.next().map_or(Ok(1), |nth| self.number(nth))?;
        let filter = PayoutFilter { envelope, user, ..PayoutFilter::default() };
        let found = self.drive(self.stand().backend().payouts(&filter, &Page { limit: 1000, cursor: None }));
        let found = found.map_err(failed)?.rows.into_iter().nth(nth - 1);
        found.map(|view| view.payout.id).ok_or_else(|| format!("there is no payout {text}"))
    }

    /// `none` is null.
    fn optional<T>(
        &self,
        text: &str,
        read: impl FnOnce(&Story<S>, &str) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        if text == "none" { Ok(None) } else { read(self, text).map(Some) }
    }

    fn new_item(&self, step: &Step<'_>) -> Result<NewItem, Wrong> {
        let field = |name, default| step.fields.get(name).copied().unwrap_or(default);
        Ok(NewItem {
            merchant: self.user(field("merchant", "rosy"))?,
            name: self.text(field("name", "roses")),
            category: self.text(field("category", "flowers")),
            price: self.amount(field("price", "10"))?,
            stock: self.number(field("stock", "10"))?,
            per_user_limit: self.optional(field("limit", "none"), |story, text| story.number(text))?,
            starts_at: self.optional(field("starts", "none"), |story, text| story.time(text))?,
            ends_at: self.optional(field("ends", "none"), |story, text| story.time(text))?,
            hold_ttl_s: self.number(field("ttl", "900"))?,
            image_url: self.optional(field("image", "none"), |story, text| Ok(story.text(text)))?,
            origin: ItemOrigin {
                owner: field("owner", "app").to_owned(),
                kind: item_kind(field("kind", "physical"))?,
                variant_of: self.optional(field("variant", "none"), |story, text| story.id(text))?,
                return_within_s: self.number(field("return_within", "604800"))?,
            },
            group_buy: self.optional(field("group", "none"), |story, text| story.group_buy(text))?,
        })
    }

    fn item_change(&self, step: &Step<'_>) -> Result<ItemChange, Wrong> {
        let mut change = ItemChange::default();
        for (&name, &value) in &step.fields {
            match name {
                "name" => change.name = Some(self.text(value)),
                "category" => change.category = Some(self.text(value)),
                "price" => change.price = Some(self.amount(value)?),
                "limit" => change.per_user_limit = Some(self.optional(value, |story, text| story.number(text))?),
                "starts" => change.starts_at = Some(self.optional(value, |story, text| story.time(text))?),
                "ends" => change.ends_at = Some(self.optional(value, |story, text| story.time(text))?),
                "ttl" => change.hold_ttl_s = Some(self.number(value)?),
                "image" => change.image_url = Some(self.optional(value, |story, text| Ok(story.text(text)))?),
                "group" => change.group_buy = Some(self.optional(value, |story, text| story.group_buy(text))?),
                "key" | "owner" => {}
                other => return Err(format!("an item has no {other} that could be changed")),
            }
        }
        Ok(change)
    }

    fn told_reply(&self, reply: &Result<Reply, EngineError>) -> Told {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return Told::of(["error", &error.to_string().replace(' ', "_")]),
        };
        let mut told = self.told_outcome(&reply.outcome);
        if reply.replayed {
            told.flags.insert("remembered");
        }
        told
    }

    fn told_outcome(&self, outcome: &Outcome) -> Told {
        match outcome {
            Outcome::Wallet(view) => told_wallet(view),
            Outcome::Envelope(view) => self.told_envelope(view),
            Outcome::Won { amount, share, status, grabbed_at, claim_by, replayed } => {
                Told::of(["won", &amount.to_string()])
                    .with("share", share)
                    .with("status", told_status(*status))
                    .with("at", self.told_time(*grabbed_at))
                    .with("claim_by", self.told_time(*claim_by))
                    .flag("replayed", *replayed)
            }
            Outcome::SoldOut => Told::of(["sold_out"]),
            Outcome::Expired => Told::of(["expired"]),
            Outcome::Cancelled => Told::of(["cancelled"]),
            Outcome::NotOpen { opens_at } => Told::of(["not_open"]).with("opens", self.told_time(*opens_at)),
            Outcome::Claimed { amount, claimed_at, replayed } => Told::of(["claimed", &amount.to_string()])
                .with("at", self.told_time(*claimed_at))
                .flag("replayed", *replayed),
            Outcome::NotWon => Told::of(["not_won"]),
            Outcome::Lapsed => Told::of(["lapsed"]),
            Outcome::Merchant(merchant) => told_merchant(merchant),
            Outcome::Item(view) => self.told_item(view),
            Outcome::Held { hold, quantity, amount, expires_at, replayed } => {
                Told::of(["held", &quantity.to_string(), &amount.to_string()])
                    .with("hold", self.name_of(hold))
                    .with("until", self.told_time(*expires_at))
                    .flag("replayed", *replayed)
            }
            Outcome::LimitReached => Told::of(["limit_reached"]),
            Outcome::Ended => Told::of(["ended"]),
            Outcome::Order(order) => self.told_order(&order.view()),
            Outcome::GiftEnvelope(made) => Told::of(["gift_envelope"])
                .with("giver", &made.giver)
                .with("payer", &made.payer)
                .with("merchant", &made.merchant)
                .with("amount", made.amount)
                .with("units", made.gifts.len()),
            Outcome::Relations(rows) => Told::of(["relations", &rows.to_string()]),
            Outcome::Ordered { order, replayed } => {
                Told::of(["ordered"]).with("order", self.name_of(order)).flag("replayed", *replayed)
            }
            Outcome::HoldExpired => Told::of(["expired"]),
            Outcome::Released { replayed } => Told::of(["released"]).flag("replayed", *replayed),
            Outcome::CannotPay => Told::of(["cannot_pay"]),
            Outcome::ApiKey(key) => self.told_api_key(key),
            Outcome::Gift(gift) => self.told_gift(gift),
            Outcome::Group(group) => self.told_group(group),
            Outcome::Joined { group, order, replayed } => {
                let told = self.told_group(group);
                let order = order.map_or("none".to_owned(), |order| self.name_of(order));
                Told { words: vec!["joined".to_owned(), group.state.name().to_owned()], ..told }
                    .with("order", order)
                    .flag("replayed", *replayed)
            }
            Outcome::GroupFull => Told::of(["full"]),
            Outcome::LeaderLeft => Told::of(["leader_left"]),
            Outcome::Sales { balance, .. } => told_sales(*balance),
            Outcome::Payment(payment) => self.told_payment(payment),
            Outcome::Payouts(answers) => Told {
                words: answers
                    .iter()
                    .map(|answer| match answer {
                        PayoutAnswer::Stands(state) => state.name().to_owned(),
                        PayoutAnswer::NotFound => "not_found".to_owned(),
                        PayoutAnswer::WrongState(state) => format!("wrong_state:{}", state.name()),
                    })
                    .collect(),
                ..Told::default()
            },
            Outcome::Clock(at) => Told::of(["clock", &self.told_time(*at)]),
            Outcome::Refused(refusal) => match refusal {
                Refusal::NotFound => Told::of(["refused", "not_found"]),
                Refusal::InsufficientFunds => Told::of(["refused", "insufficient_funds"]),
                Refusal::WrongState(_) => Told::of(["refused", "wrong_state"]),
                Refusal::Forbidden => Told::of(["refused", "forbidden"]),
                Refusal::Apart => Told::of(["refused", "apart"]),
                Refusal::NotMutual => Told::of(["refused", "not_mutual"]),
                Refusal::ReferenceConflict => Told::of(["refused", "reference_conflict"]),
                Refusal::IdempotencyMismatch => Told::of(["refused", "idempotency_mismatch"]),
                Refusal::Invalid { field, .. } => Told::of(["refused", "invalid", field]),
            },
        }
    }

    fn told_api_key(&self, key: &ApiKey) -> Told {
        let roles: Vec<_> = key.roles.iter().map(ToString::to_string).collect();
        Told::of([if key.deleted_at.is_some() { "deleted" } else { "api_key" }])
            .with("id", self.name_of(key.id))
            .with("name", &key.name)
            .with("for", &key.owner)
            .with("roles", roles.join(","))
            .with("digest", key.digest[0])
            .with("created", self.told_time(key.created_at))
            .with("deleted", key.deleted_at.map_or("none".to_owned(), |at| self.told_time(at)))
    }

    fn told_envelope(&self, view: &EnvelopeView) -> Told {
        let state = match view.state {
            EnvelopeState::Scheduled => "scheduled",
            EnvelopeState::Open => "open",
            EnvelopeState::SoldOut => "sold_out",
            EnvelopeState::Expired => "expired",
            EnvelopeState::Cancelled => "cancelled",
            EnvelopeState::Settled => "settled",
        };
        let ended_as = match view.ended_as {
            None => "none",
            Some(EndedAs::SoldOut) => "sold_out",
            Some(EndedAs::Expired) => "expired",
            Some(EndedAs::Cancelled) => "cancelled",
        };
        Told::of([state])
            .with("id", self.name_of(view.id))
            .with("owner", &view.owner)
            .with("sender", &view.sender)
            .with("ended_as", ended_as)
            .with("total", view.total)
            .with("shares", view.shares)
            .with("split", &view.split)
            .with("message", &view.message)
            .with("left", view.remaining_shares)
            .with("left_amount", view.remaining_amount)
            .with("claimed", view.claimed_amount)
            .with("refunded", view.refunded_amount)
            .with("created", self.told_time(view.created_at))
            .with("opens", self.told_time(view.opens_at))
            .with("expires", self.told_time(view.expires_at))
            .with("claim_by", self.told_time(view.claim_by))
            .with("reference", view.reference.as_deref().unwrap_or("none"))
            .with("metadata", &view.metadata)
            .with("funding", view.outside.funding.as_deref().unwrap_or("none"))
            .with("payout", if view.outside.payout == PayoutTo::External { "external" } else { "wallet" })
            .with("redacted", view.redacted_at.map_or("none".to_owned(), |at| self.told_time(at)))
    }

    fn told_item(&self, view: &ItemView) -> Told {
        let ItemView { id, created_at, terms, stock } = view;
        assert_eq!(stock.total, stock.free + stock.held + stock.sold, "stock = free + held + sold (I4)");
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        let stock_words = [("free", stock.free), ("held", stock.held), ("sold", stock.sold), ("total", stock.total)];
        let told = Told::of(["item"])
            .with("id", self.name_of(id))
            .with("created", self.told_time(*created_at))
            .with("merchant", &terms.merchant)
            .with("name", &terms.name)
            .with("category", &terms.category)
            .with("price", terms.price)
            .with("limit", or_none(terms.per_user_limit.map(|limit| limit.to_string())))
            .with("starts", or_none(terms.starts_at.map(|at| self.told_time(at))))
            .with("ends", or_none(terms.ends_at.map(|at| self.told_time(at))))
            .with("ttl", terms.hold_ttl_s)
            .with("image", or_none(terms.image_url.clone()))
            .with("owner", &terms.origin.owner)
            .with("kind", terms.origin.kind.name())
            .with("variant", or_none(terms.origin.variant_of.map(|of| self.name_of(of))));
        stock_words.into_iter().fold(told, |told, (name, units)| told.with(name, units))
    }

    fn told_payment(&self, payment: &Payment) -> Told {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        Told::of([payment.state.name()])
            .with("gateway", &payment.gateway)
            .with("payer", &payment.payer)
            .with("amount", payment.amount)
            .with("taken", payment.taken)
            .with("pay_by", self.told_time(payment.pay_by))
            .with("kept_until", self.told_time(payment.kept_until))
            .with("order", or_none(payment.order.map(|order| self.name_of(order))))
            .with("discrepancy", payment.discrepancy.map_or("none", |it| it.name()))
    }

    fn told_order(&self, view: &OrderView) -> Told {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        let at = |time: Option<Timestamp>| or_none(time.map(|time| self.told_time(time)));
        let progress = &view.progress;
        Told::of(["order"])
            .with("id", self.name_of(view.id))
            .with("hold", self.name_of(view.hold))
            .with("item", self.name_of(view.item))
            .with("merchant", &view.merchant)
            .with("user", &view.user)
            .with("quantity", view.quantity)
            .with("amount", view.amount)
            .with("created", self.told_time(view.created_at))
            .with("state", progress.state.name())
            .with("shipped", at(progress.shipped_at))
            .with("carrier", or_none(progress.carrier.clone()))
            .with("tracking", or_none(progress.tracking.clone()))
            .with("delivered", at(progress.delivered_at))
            .with("requested", at(progress.return_requested_at))
            .with("reason", or_none(progress.return_reason.clone()))
            .with("answer_by", at(progress.answer_by))
            .with("ended", at(progress.ended_at))
            .with("refusal", or_none(progress.refusal.clone()))
            .with("restocked", if progress.restocked { "yes" } else { "no" })
    }

    fn read(&self, step: &Step<'_>) -> Result<Told, Wrong> {
        let backend = self.stand().backend();
        Ok(match (step.verb, &step.words[..]) {
            ("wallet", [user]) => told_wallet(&self.drive(backend.wallet(&self.user(user)?)).map_err(failed)?),
            ("entries", [user]) => {
                let user = self.user(user)?;
                self.told_list(|page| self.drive(backend.entries(&user, page)), |entry| self.told_entry(&entry))?
            }
            ("envelope", [envelope]) => match self.drive(backend.envelope(self.id(envelope)?)).map_err(failed)? {
                Some(view) => self.told_envelope(&view),
                None => Told::of(["none"]),
            },
            ("envelopes", []) => {
                let filter = self.envelope_filter(step)?;
                let list = |page: &Page| self.drive(backend.envelopes(&filter, page));
                self.told_list(list, |view| self.name_of(view.id))?
            }
            ("sent", [user]) => {
                let user = self.user(user)?;
                self.told_list(|page| self.drive(backend.sent(&user, page)), |view| self.name_of(view.id))?
            }
            ("received", [user]) => {
                let user = self.user(user)?;
                let row = |row: ReceivedRow| {
                    let grab = told_grab(&row.grab);
                    format!("{}:{}:{grab}", self.name_of(row.envelope), row.sender)
                };
                self.told_list(|page| self.drive(backend.received(&user, page)), row)?
            }
            ("grabs", [envelope]) => {
                let id = self.id(envelope)?;
                if self.drive(backend.grabs(id, &Page { limit: 1, cursor: None })).map_err(failed)?.is_none() {
                    return Ok(Told::of(["none"]));
                }
                let mut share = 0;
                let row = |row: GrabRow| {
                    let follows = row.share == 0 || row.share == share + 1 || !S::IN_ORDER;
                    assert!(follows, "grabs are listed by share, without a gap");
                    share = row.share;
                    format!("{}:{}", row.user, told_grab(&row))
                };
                let list = |page: &Page| Ok(self.drive(backend.grabs(id, page))?.expect("it is still there"));
                Told { is_by_share: true, ..self.told_list(list, row)? }
            }
            ("grab_of", [envelope, user]) => {
                match self.drive(backend.grab_of(self.id(envelope)?, &self.user(user)?)).map_err(failed)? {
                    Some(row) => Told::of([told_grab(&row).as_str()])
                        .with("share", row.share)
                        .with("user", &row.user)
                        .with("at", self.told_time(row.grabbed_at))
                        .with("claimed_at", row.claimed_at.map_or("none".to_owned(), |at| self.told_time(at))),
                    None => Told::of(["none"]),
                }
            }
            ("merchant", [merchant]) => match self.drive(backend.merchant(&self.user(merchant)?)).map_err(failed)? {
                Some(merchant) => told_merchant(&merchant),
                None => Told::of(["none"]),
            },
            ("sales", [merchant]) => {
                match self.drive(backend.merchant_balance(&self.user(merchant)?)).map_err(failed)? {
                    Some(balance) => told_sales(balance),
                    None => Told::of(["none"]),
                }
            }
            ("statement", [merchant]) => self.told_statement(step, &self.user(merchant)?)?,
            ("merchants", []) => {
                let status = step.fields.get("status").map(|status| merchant_status(status)).transpose()?;
                let row = |merchant: Merchant| format!("{}:{}", merchant.id, merchant.status.name());
                self.told_list(|page| self.drive(backend.merchants(status, page)), row)?
            }
            ("item", [item]) => match self.drive(backend.item(self.id(item)?)).map_err(failed)? {
                Some(view) => self.told_item(&view),
                None => Told::of(["none"]),
            },
            ("items", []) => {
                let field = |name| step.fields.get(name).copied();
                let filter = ItemFilter {
                    category: field("category").map(str::to_owned),
                    merchant: field("merchant").map(|merchant| self.user(merchant)).transpose()?,
                    kind: field("kind").map(item_kind).transpose()?,
                    variant_of: field("variant").map(|item| self.id(item)).transpose()?,
                    on_sale: field("on_sale").map(|wanted| wanted == "yes"),
                };
                self.told_list(|page| self.drive(backend.items(&filter, page)), |view| self.name_of(view.id))?
            }
            ("hold", [hold]) => match self.drive(backend.hold(self.id(hold)?)).map_err(failed)? {
                Some(view) => self.told_hold(&view),
                None => Told::of(["none"]),
            },
            ("order", [order]) => match self.drive(backend.order(self.id(order)?)).map_err(failed)? {
                Some(view) => self.told_order(&view),
                None => Told::of(["none"]),
            },
            ("payment", [payment]) => match self.drive(backend.payment(self.id(payment)?)).map_err(failed)? {
                Some(payment) => self.told_payment(&payment),
                None => Told::of(["none"]),
            },
            ("payments", [which]) => {
                let state = PaymentState::ALL.into_iter().find(|state| state.name() == *which);
                let filter = PaymentFilter { state, discrepant: *which == "discrepant", ..PaymentFilter::default() };
                self.told_list(|page| self.drive(backend.payments(&filter, page)), |payment| self.name_of(payment.id))?
            }
            ("codes", [of]) => {
                let to = match self.id::<OrderId>(of) {
                    Ok(order) => HandedTo::Order(order),
                    Err(_) => HandedTo::Gift(self.id(of)?),
                };
                let codes = self.drive(backend.codes(to)).map_err(failed)?;
                codes.iter().fold(Told::of(["codes"]), |mut told, code| {
                    told.words.push(code.as_str().to_owned());
                    told
                })
            }
            ("gift_envelope", [id]) => match self.drive(backend.gift_envelope(self.id(id)?)).map_err(failed)? {
                Some(view) => {
                    let recipients = view.gifts.iter().filter_map(|gift| gift.recipient.as_ref());
                    let recipients = recipients.map(ToString::to_string).collect::<Vec<_>>().join(",");
                    Told::of([view.state().name()])
                        .with("remaining", view.remaining())
                        .with("grabbed", view.grabbed())
                        .with("recipients", recipients)
                }
                None => Told::of(["none"]),
            },
            ("gift_envelopes", [giver]) => {
                let giver = self.user(giver)?;
                let row =
                    |view: GiftEnvelopeView| format!("{}:{}", self.name_of(view.envelope.id), view.state().name());
                self.told_list(|page| self.drive(backend.gift_envelopes(&giver, page)), row)?
            }
            ("relations" | "relations_of_others", [user]) => {
                let user = self.user(user)?;
                let side = if step.verb == "relations" { RelationSide::Own } else { RelationSide::OfOthers };
                let row = |row: RelationRow| format!("{}:{}:{}", row.user, row.relation.name(), row.other);
                self.told_list(|page| self.drive(backend.relations(&user, side, page)), row)?
            }
            ("gift", [gift]) => match self.drive(backend.gift(self.id(gift)?)).map_err(failed)? {
                Some(gift) => self.told_gift(&gift),
                None => Told::of(["none"]),
            },
            ("address", [gift]) => match self.drive(backend.address(self.id(gift)?)).map_err(failed)? {
                AddressRead::Open { version, address } => Told::of([&*format!("open:{version}:{}", address.lines[0])]),
                AddressRead::None => Told::of(["none"]),
                AddressRead::KeyLost => Told::of(["lost"]),
            },
            ("gifts", [user, role]) => {
                let role = match *role {
                    "given" => GiftRole::Given,
                    "received" => GiftRole::Received,
                    other => return Err(format!("{other} is no role")),
                };
                let user = self.user(user)?;
                let row = |gift: Gift| format!("{}:{}", self.name_of(gift.id), gift.state.name());
                self.told_list(|page| self.drive(backend.gifts(&user, role, page)), row)?
            }
            ("group", [group]) => match self.drive(backend.group(self.id(group)?)).map_err(failed)? {
                Some(group) => self.told_group(&group),
                None => Told::of(["none"]),
            },
            ("groups_of_user", [user]) => {
                let of = GroupsOf::User(self.user(user)?);
                let row = |group: Group| format!("{}:{}", self.name_of(group.id), group.state.name());
                self.told_list(|page| self.drive(backend.groups(&of, page)), row)?
            }
            ("groups_of_item", [item]) => {
                let state = step.fields.get("state").map(|name| {
                    let found = GroupState::ALL.into_iter().find(|state| state.name() == *name);
                    found.ok_or_else(|| format!("{name} is no group's state"))
                });
                let of = GroupsOf::Item(self.id(item)?, state.transpose()?);
                let row = |group: Group| format!("{}:{}", self.name_of(group.id), group.state.name());
                self.told_list(|page| self.drive(backend.groups(&of, page)), row)?
            }
            ("payout", [payout]) => match self.drive(backend.payout(self.payout_id(payout)?)).map_err(failed)? {
                Some(view) => self.told_payout(&view),
                None => Told::of(["none"]),
            },
            ("payouts", []) => {
                let filter = self.payout_filter(step)?;
                let row = |view: PayoutView| {
                    let Payout { user, amount, state, envelope, .. } = view.payout;
                    format!("{}:{user}:{amount}:{}", self.name_of(envelope), state.name())
                };
                self.told_list(|page| self.drive(backend.payouts(&filter, page)), row)?
            }
            ("api_keys", []) => {
                self.told_list(|page| self.drive(backend.api_keys(page)), |key| self.name_of(key.id))?
            }
            ("audit", []) => {
                let audit = self.drive(Backend::audit(backend)).map_err(failed)?;
                Told::of([if audit.balanced() { "balanced" } else { "unbalanced" }])
                    .with("deposited", audit.deposited)
                    .with("withdrawn", audit.withdrawn)
                    .with("paid_out", audit.paid_out)
                    .with("payable", audit.payable)
                    .with("refunding", audit.refunding)
                    .with("wallets", audit.wallets)
                    .with("escrowed", audit.escrowed)
                    .with("merchants", audit.merchants)
                    .with("platform", audit.platform)
                    .with("in_flight", audit.in_flight)
            }
            ("draw", [envelope]) => self.told_draw(self.id(envelope)?)?,
            ("now", []) => Told::of([self.told_time(backend.now()).as_str()]),
            ("ready", []) => Told::of([if backend.ready().is_ok() { "yes" } else { "no" }]),
            _ => return Err(format!("there is no such step; see {}", file!())),
        })
    }

    fn envelope_filter(&self, step: &Step<'_>) -> Result<EnvelopeFilter, Wrong> {
        let state = match step.fields.get("state").copied() {
            None => None,
            Some("scheduled") => Some(EnvelopeState::Scheduled),
            Some("open") => Some(EnvelopeState::Open),
            Some("sold_out") => Some(EnvelopeState::SoldOut),
            Some("expired") => Some(EnvelopeState::Expired),
            Some("cancelled") => Some(EnvelopeState::Cancelled),
            Some("settled") => Some(EnvelopeState::Settled),
            Some(other) => return Err(format!("{other} is no state")),
        };
        Ok(EnvelopeFilter {
            owner: step.fields.get("owner").copied().unwrap_or("app").to_owned(),
            of_owner: step.fields.contains_key("owner") && !step.fields.contains_key("reference"),
            reference: step.fields.get("reference").map(|text| (*text).to_owned()),
            sender: step.fields.get("sender").map(|sender| self.user(sender)).transpose()?,
            state,
            created_from: step.fields.get("from").map(|at| self.time(at)).transpose()?,
            created_to: step.fields.get("to").map(|at| self.time(at)).transpose()?,
        })
    }

    fn payout_filter(&self, step: &Step<'_>) -> Result<PayoutFilter, Wrong> {
        let field = |name| step.fields.get(name).copied();
        Ok(PayoutFilter {
            owner: field("owner").map(str::to_owned),
            state: field("state").map(state_of).transpose()?,
            kind: match field("kind") {
                None => None,
                Some("win") => Some(PayoutKind::Win),
                Some("refund") => Some(PayoutKind::Refund),
                Some(other) => return Err(format!("{other} is no kind of payout")),
            },
            user: field("user").map(|user| self.user(user)).transpose()?,
            envelope: field("envelope").map(|name| self.id(name)).transpose()?,
            created_from: field("from").map(|at| self.time(at)).transpose()?,
            created_to: field("to").map(|at| self.time(at)).transpose()?,
        })
    }

    fn told_payout(&self, view: &PayoutView) -> Told {
        let payout = &view.payout;
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        Told::of([payout.state.name()])
            .with("kind", if payout.kind == PayoutKind::Win { "win" } else { "refund" })
            .with("user", &payout.user)
            .with("amount", payout.amount)
            .with("envelope", self.name_of(payout.envelope))
            .with("attempts", payout.attempts)
            .with("reference", or_none(&payout.reference))
            .with("reason", or_none(&payout.reason))
            .with("created", self.told_time(payout.created_at))
            .with("changed", self.told_time(payout.changed_at))
            .with("owner", &view.owner)
            .with("funding", or_none(&view.funding_reference))
    }

    /// Reads a list in pages of several sizes, which have to tell the same.
    fn told_list<T>(
        &self,
        list: impl Fn(&Page) -> Result<Listing<T>, EngineError>,
        mut row: impl FnMut(T) -> String,
    ) -> Result<Told, Wrong> {
        let mut all: Option<Vec<String>> = None;
        for limit in [1000, 1, 2] {
            let mut words = Vec::new();
            let mut page = Page { limit, cursor: None };
            loop {
                let listing = list(&page).map_err(failed)?;
                if listing.rows.len() > limit {
                    return Err(format!("a page of {limit} has {} rows", listing.rows.len()));
                }
                words.extend(listing.rows.into_iter().map(&mut row));
                match listing.next {
                    Some(next) => page.cursor = Some(next),
                    None => break,
                }
            }
            match &all {
                None => all = Some(words),
                Some(all) if *all != words => {
                    return Err(format!("in pages of {limit} the list is {words:?}, not {all:?}"));
                }
                Some(_) => {}
            }
        }
        Ok(Told { words: all.unwrap_or_default(), ..Told::default() })
    }

    /// A merchant's entries, and what it had before and after them, which every page tells.
    fn told_statement(&self, step: &Step<'_>, merchant: &UserId) -> Result<Told, Wrong> {
        let time = |field| step.fields.get(field).map(|text| self.time(text)).transpose();
        let time = StatementTime { from: time("from")?, to: time("to")? };
        let statement = |page: &Page| self.drive(self.stand().backend().statement(merchant, time, page));
        let Some(Statement { opening, closing, .. }) = statement(&Page { limit: 1, cursor: None }).map_err(failed)?
        else {
            return Ok(Told::of(["none"]));
        };
        let list = |page: &Page| {
            let statement = statement(page)?.expect("it is still there");
            assert_eq!((statement.opening, statement.closing), (opening, closing), "of every page");
            Ok(statement.entries)
        };
        let told = |balance: MerchantBalance| format!("{}:{}", balance.pending, balance.available);
        let of = |of: &SaleOf| match of {
            SaleOf::Order(order) => self.name_of(order),
            SaleOf::Gift(gift) => self.name_of(gift),
        };
        let row = |entry: MerchantEntry| {
            let (kind, about) = match &entry.kind {
                MerchantEntryKind::Sale { of: sold, due, .. } => {
                    ("sale", format!("{}:{}", of(sold), self.told_time(*due)))
                }
                MerchantEntryKind::Commission { due } => ("commission", self.told_time(*due)),
                MerchantEntryKind::Settled { due } => ("settled", self.told_time(*due)),
                MerchantEntryKind::Refund { of: sold, .. } => ("refund", of(sold)),
                MerchantEntryKind::Withdrawal(reference) => {
                    ("withdrawal", reference.clone().unwrap_or_else(|| "none".to_owned()))
                }
            };
            format!("{kind}:{}:{}:{about}", entry.amount, told(entry.balance_after))
        };
        let told_rows = self.told_list(list, row)?;
        Ok(told_rows.with("opening", told(opening)).with("closing", told(closing)))
    }

    fn told_entry(&self, entry: &Entry) -> String {
        let reference = |reference: &Option<String>| reference.clone().unwrap_or_else(|| "none".to_owned());
        let (kind, about) = match &entry.kind {
            EntryKind::Deposit(text) => ("deposit", reference(text)),
            EntryKind::Withdrawal(text) => ("withdrawal", reference(text)),
            EntryKind::EnvelopeCreated(id) => ("created", self.name_of(id)),
            EntryKind::Claim(id) => ("claim", self.name_of(id)),
            EntryKind::Refund(id) => ("refund", self.name_of(id)),
            EntryKind::Lapse(id) => ("lapse", self.name_of(id)),
            EntryKind::Order(id) => ("order", self.name_of(id)),
            EntryKind::GiftPaid(id) => ("gift", self.name_of(id)),
            EntryKind::GiftRefund(id) => ("gift_refund", self.name_of(id)),
            EntryKind::OrderRefund(id) => ("order_refund", self.name_of(id)),
            EntryKind::GroupPaid(id) => ("group", self.name_of(id)),
            EntryKind::GroupRefund(id) => ("group_refund", self.name_of(id)),
        };
        format!("{kind}:{}:{}:{about}:{}", entry.amount, entry.balance_after, self.told_time(entry.at))
    }

    fn told_hold(&self, view: &HoldView) -> Told {
        let (state, order) = match view.state {
            HoldState::Held => ("held", None),
            HoldState::Claimed(order) => ("claimed", Some(order)),
            HoldState::Released => ("released", None),
            HoldState::Expired => ("expired", None),
        };
        Told::of([state])
            .with("id", self.name_of(view.id))
            .with("item", self.name_of(view.item))
            .with("user", &view.user)
            .with("quantity", view.quantity)
            .with("amount", view.amount)
            .with("order", order.map_or("none".to_owned(), |order| self.name_of(order)))
            .with("created", self.told_time(view.created_at))
            .with("until", self.told_time(view.expires_at))
    }

    /// Repeats the draw with what is public, if the secret is.
    fn told_draw(&self, id: EnvelopeId) -> Result<Told, Wrong> {
        let backend = self.stand().backend();
        let view = self.drive(backend.envelope(id)).map_err(failed)?.ok_or("there is no such envelope")?;
        let (terms, published) = self.made.get(&id).ok_or("the story did not make this envelope")?;
        if view.commitment != *published {
            return Err("the commitment is not the one published at first".to_owned());
        }
        let Some(secret) = view.secret else { return Ok(Told::of(["hidden"])) };
        if commitment(&secret) != *published {
            return Err("the secret is not the one committed to".to_owned());
        }
        let client_seed = terms.client_seed.as_deref().unwrap_or("");
        let shares =
            split(&terms.split, terms.total, terms.shares, &envelope_seed(&secret, &id, client_seed.as_bytes()));
        let grabs = self.drive(backend.grabs(id, &Page { limit: 1000, cursor: None })).map_err(failed)?;
        for row in grabs.ok_or("it has no grabs")?.rows {
            if row.amount != shares.get(row.share) {
                return Err(format!("share {} is {}, the draw says {}", row.share, row.amount, shares.get(row.share)));
            }
            if row.best != (row.share == shares.best()) {
                return Err(format!("share {} is not rightly told the best or not", row.share));
            }
        }
        Ok(Told::of(["repeatable"]))
    }
}

impl<'a> Step<'a> {
    fn parse(text: &'a str) -> Step<'a> {
        let mut parts = text.split_whitespace();
        let mut step = Step { verb: parts.next().unwrap_or_default(), words: Vec::new(), fields: HashMap::new() };
        for part in parts {
            match part.split_once('=') {
                Some((key, value)) => {
                    step.fields.insert(key, value);
                }
                None => step.words.push(part),
            }
        }
        step
    }
}

impl Told {
    fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Told {
        Told { words: words.into_iter().map(str::to_owned).collect(), ..Told::default() }
    }

    fn with(mut self, name: &'static str, value: impl Display) -> Told {
        self.fields.insert(name, value.to_string());
        self
    }

    fn flag(mut self, flag: &'static str, is_set: bool) -> Told {
        if is_set {
            self.flags.insert(flag);
        }
        self
    }
}

impl Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flags = self.flags.iter().map(|flag| (*flag).to_owned());
        let fields = self.fields.iter().map(|(name, value)| format!("{name}={value}"));
        let all: Vec<String> = self.words.iter().cloned().chain(flags).chain(fields).collect();
        f.write_str(&all.join(" "))
    }
}

fn failed(error: EngineError) -> Wrong {
    format!("error: {error}")
}

fn state_of(text: &str) -> Result<PayoutState, Wrong> {
    PayoutState::ALL
        .into_iter()
        .find(|state| state.name() == text)
        .ok_or_else(|| format!("{text} is no payout's state"))
}

fn told_wallet(view: &WalletView) -> Told {
    Told::of([view.available.to_string().as_str()]).with("held", view.held).with("user", &view.user)
}

fn told_sales(balance: MerchantBalance) -> Told {
    Told::of([balance.pending.to_string().as_str(), balance.available.to_string().as_str()])
}

fn told_merchant(merchant: &Merchant) -> Told {
    let papers = merchant.verification.as_ref();
    let told = Told::of([merchant.status.name()]).with("name", &merchant.name).with("id", &merchant.id);
    let told = told.with("settle_after", merchant.terms.settle_after_s);
    let told = told.with("commission", merchant.terms.commission_bps);
    told.with("by", papers.map_or("none", |papers| &papers.by))
        .with("papers", papers.and_then(|papers| papers.reference.as_deref()).unwrap_or("none"))
}

/// What is done about an order, if that is what the verb says.
fn order_step(verb: &str, words: &[&str]) -> Option<OrderStep> {
    let text = |at: usize| words.get(at).map(|text| (*text).to_owned());
    Some(match verb {
        "ship_order" => OrderStep::Ship { carrier: text(0)?, tracking: text(1)? },
        "deliver_order" => OrderStep::Deliver,
        "return" => OrderStep::Return { user: UserId::new(words.first()?).ok()?, reason: text(1)? },
        "accept_return" => OrderStep::AcceptReturn { restock: *words.first()? == "restock" },
        "refuse_return" => OrderStep::RefuseReturn { reason: text(0)? },
        _ => return None,
    })
}

fn item_kind(name: &str) -> Result<ItemKind, String> {
    let found = ItemKind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| format!("{name} is no item's kind"))
}

fn merchant_status(name: &str) -> Result<MerchantStatus, String> {
    let found = MerchantStatus::ALL.into_iter().find(|status| status.name() == name);
    found.ok_or_else(|| format!("{name} is no merchant's status"))
}

fn told_status(status: ShareStatus) -> &'static str {
    match status {
        ShareStatus::Grabbed => "grabbed",
        ShareStatus::Claimed => "claimed",
        ShareStatus::Lapsed => "lapsed",
    }
}

fn told_grab(row: &GrabRow) -> String {
    assert_eq!(row.status == ShareStatus::Claimed, row.claimed_at.is_some(), "what is claimed was claimed at a time");
    let best = if row.best { ":best" } else { "" };
    format!("{}:{}{best}", row.amount, told_status(row.status))
}
