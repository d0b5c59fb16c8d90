//! Gifts' lives: what is to become of each, what is asked for that, and what was acknowledged.
//!
//! **Invariant:** what becomes of a life follows from the seed and its number, and each of its
//! steps has an idempotency key of its own: whoever asks again, after a crash too, asks for the same.
//! A life has one request under way at a time.

use crate::facts::{Differences, Facts};
use crate::world::World;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use std::fmt::Write as _;

/// What a recipient has who is to let a gift expire, and a payer who never pays.
pub(crate) const LEFT_S: u64 = 2;

/// What is done about a gift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Make,
    Pay,
    Accept,
    Decline,
    Cancel,
    Ship,
    Deliver,
    Fail,
}

impl Step {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Step::Make => "make",
            Step::Pay => "pay",
            Step::Accept => "accept",
            Step::Decline => "decline",
            Step::Cancel => "cancel",
            Step::Ship => "ship",
            Step::Deliver => "deliver",
            Step::Fail => "fail",
        }
    }
}

/// Everything that is given in a run: items of one price, and people who give, pay and get.
#[derive(Clone, Debug)]
pub(crate) struct Giving {
    /// Ids of the items.
    pub(crate) items: Vec<String>,
    pub(crate) lives: u32,
    pub(crate) price: u64,
    pub(crate) first_user: u32,
    /// At least three.
    pub(crate) users: u32,
    pub(crate) seed: u64,
}

impl Giving {
    /// Of each item there are so many units: nobody is told that there is none.
    pub(crate) fn stock(&self) -> u32 {
        self.lives.div_ceil(self.items.len() as u32)
    }

    /// What each of the people has at first: enough to give and to pay for others whenever
    /// that is asked.
    pub(crate) fn deposit(&self) -> u64 {
        2 * u64::from(self.lives.div_ceil(self.users)) * self.price
    }

    /// Which item a life is about.
    pub(crate) fn item_of(&self, life: u32) -> usize {
        life as usize % self.items.len()
    }

    /// One of the people of a life: who gives, whoever else may be asked to pay, who gets it.
    fn person(&self, life: u32, nth: u32) -> u32 {
        self.first_user + (life + nth) % self.users
    }

    pub(crate) fn giver(&self, life: u32) -> u32 {
        self.person(life, 0)
    }
}

/// What is to become of a gift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Somebody else is asked to pay.
    pub(crate) asks: bool,
    /// Steps after the gift is made.
    steps: &'static [Step],
    /// Nothing more is done in time, and it expires.
    pub(crate) is_left: bool,
}

impl Life {
    /// The life with this number. With real money no gift reaches its merchant, who would keep the money, and
    /// none is left.
    pub(crate) fn of(world: &World, giving: &Giving, number: u32) -> Life {
        use Step::{Accept, Cancel, Decline, Deliver, Fail, Pay, Ship};
        let mut rng = SmallRng::seed_from_u64(giving.seed ^ (u64::from(number) << 20));
        let (asks, end) = (rng.random_range(0..4) == 0, rng.random_range(0..100));
        let of = |steps, is_left| Life { asks, steps, is_left };
        match (asks, end) {
            (false, 0..50) if world.is_live => of(&[Decline], false),
            (false, _) if world.is_live => of(&[Cancel], false),
            (true, 0..50) if world.is_live => of(&[Pay, Decline], false),
            (true, _) if world.is_live => of(&[Pay, Cancel], false),
            (false, 0..55) => of(&[Accept, Ship, Deliver], false),
            (false, 55..65) => of(&[Accept, Ship], false),
            (false, 65..72) => of(&[Accept, Fail], false),
            (false, 72..82) => of(&[Decline], false),
            (false, 82..90) => of(&[Cancel], false),
            (false, _) => of(&[], true),
            (true, 0..55) => of(&[Pay, Accept, Ship, Deliver], false),
            (true, 55..65) => of(&[Pay, Accept, Ship], false),
            (true, 65..72) => of(&[Pay, Accept, Fail], false),
            (true, 72..82) => of(&[Pay, Decline], false),
            (true, 82..86) => of(&[Pay, Cancel], false),
            (true, 86..90) => of(&[Cancel], false),
            (true, 90..95) => of(&[Pay], true),
            (true, _) => of(&[], true),
        }
    }

    /// The step after so many that were done.
    pub(crate) fn step(&self, done: usize) -> Option<Step> {
        if done == 0 { Some(Step::Make) } else { self.steps.get(done - 1).copied() }
    }

    /// How the gift stands after so many steps, as far as those who act know.
    pub(crate) fn state(&self, done: usize) -> &'static str {
        match done.checked_sub(1).and_then(|last| self.step(last)) {
            None => "none",
            Some(Step::Make) if self.asks => "awaiting_payment",
            Some(Step::Make | Step::Pay) => "offered",
            Some(Step::Accept) => "accepted",
            Some(Step::Decline) => "declined",
            Some(Step::Cancel) => "cancelled",
            Some(Step::Ship) => "shipped",
            Some(Step::Deliver) => "delivered",
            Some(Step::Fail) => "failed",
        }
    }

    /// How it stands in the end.
    pub(crate) fn end(&self, done: usize) -> &'static str {
        if self.expires(done) { "expired" } else { self.state(done) }
    }

    /// Whether nothing but time is to act on it any more.
    pub(crate) fn expires(&self, done: usize) -> bool {
        self.is_left && done > self.steps.len()
    }

    /// Whether the money is the gift's or its merchant's then.
    pub(crate) fn is_paid(state: &str) -> bool {
        matches!(state, "offered" | "accepted" | "shipped" | "delivered")
    }
}

/// A gift, or a group that buys together, as it was acknowledged.
#[derive(Clone, Debug, Default)]
pub(crate) struct LifeFact {
    pub(crate) id: Box<str>,
    /// Steps that were acknowledged.
    pub(crate) done: usize,
    /// Whether the next was asked for and not answered.
    pub(crate) is_unknown: bool,
}

/// What is read of an answer about a gift.
#[derive(Debug, Deserialize)]
pub(crate) struct GiftAnswer<'a> {
    #[serde(borrow)]
    pub(crate) id: &'a str,
    #[serde(borrow)]
    pub(crate) state: &'a str,
    pub(crate) amount: u64,
    #[serde(borrow)]
    pub(crate) giver: &'a str,
    #[serde(borrow)]
    pub(crate) payer: &'a str,
}

/// A request for a step, in buffers that are kept.
#[derive(Debug, Default)]
pub(crate) struct StepRequest {
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) body: String,
}

impl StepRequest {
    /// Composes the request for `step` of a life whose gift is `id`, if it is made.
    pub(crate) fn compose(&mut self, world: &World, giving: &Giving, life: u32, step: Step, id: &str) {
        let StepRequest { path, key, body } = self;
        [&mut *path, &mut *key, &mut *body].into_iter().for_each(String::clear);
        let _ = write!(key, "load-{}-gift-{life}-{}", world.tag, step.name());
        let user = |nth| world.user(giving.person(life, nth));
        let (giver, other, recipient) = (user(0), user(1), user(2));
        if step != Step::Make {
            let _ = write!(path, "/v1/gifts/{id}/{}", step.name());
        }
        let _ = match step {
            Step::Make => {
                path.push_str("/v1/gifts");
                let terms = Life::of(world, giving, life);
                let payer = if terms.asks { &other } else { &giver };
                let is_unpaid = terms.is_left && terms.asks && terms.step(1).is_none();
                let (pay_s, accept_s) = match (terms.is_left, is_unpaid) {
                    (_, true) => (LEFT_S, LEFT_S),
                    (true, false) => (86_400, LEFT_S),
                    (false, _) => (86_400, 259_200),
                };
                let item = &giving.items[giving.item_of(life)];
                write!(
                    body,
                    "{{\"giver\":\"{giver}\",\"recipient\":\"{recipient}\",\"payer\":\"{payer}\",\"item\":\"{item}\",\
                     \"message\":\"for you\",\"pay_within_s\":{pay_s},\"accept_within_s\":{accept_s}}}"
                )
            }
            Step::Pay => write!(body, "{{\"payer\":\"{other}\"}}"),
            Step::Accept | Step::Decline => write!(body, "{{\"user\":\"{recipient}\"}}"),
            Step::Cancel => write!(body, "{{\"user\":\"{giver}\"}}"),
            Step::Ship => write!(body, "{{\"carrier\":\"sf\",\"tracking\":\"SF{life}\"}}"),
            Step::Deliver => write!(body, "{{}}"),
            Step::Fail => write!(body, "{{\"reason\":\"withered\"}}"),
        };
    }
}

/// Who has paid for a life's gift, or is asked to.
pub(crate) fn payer(world: &World, giving: &Giving, life: u32) -> u32 {
    giving.person(life, u32::from(Life::of(world, giving, life).asks))
}

/// What an answer about a gift says otherwise than it must, `done` steps after its beginning; `None` if nothing.
pub(crate) fn disagreement(
    world: &World,
    giving: &Giving,
    (life, known): (u32, &LifeFact),
    expected: &str,
    answer: &GiftAnswer<'_>,
) -> Option<String> {
    let (giver, payer) = (world.user(giving.giver(life)), world.user(payer(world, giving, life)));
    if !known.id.is_empty() && *known.id != *answer.id {
        return Some(format!("one life got two gifts: expected {}, got {}", known.id, answer.id));
    }
    if expected != answer.state {
        return Some(format!("the gift's state changed: expected {expected}, got {}", answer.state));
    }
    if (giving.price, &*giver, &*payer) != (answer.amount, answer.giver, answer.payer) {
        return Some(format!(
            "the gift changed: expected {} from {giver} paid by {payer}, got {} from {} paid by {}",
            giving.price, answer.amount, answer.giver, answer.payer
        ));
    }
    None
}

/// Plain words for a gift that the server denies.
pub(crate) fn forgotten_gift(state: &str, got: u16) -> String {
    format!("an acknowledged gift was forgotten: expected {state}, got {got}")
}

/// The name of a life's gift, for differences.
pub(crate) fn gift_name(life: u32, id: &str) -> String {
    format!("gift {id} (life {life})")
}

impl Facts {
    /// The step that a life has under way, or would have next.
    pub(crate) fn next_step(&self, world: &World, giving: &Giving, life: u32) -> Option<Step> {
        Life::of(world, giving, life).step(self.gifts.get(&life).map_or(0, |known| known.done))
    }

    /// The next step of a life was answered.
    pub(crate) fn gift_stepped(&mut self, world: &World, giving: &Giving, life: u32, answer: &GiftAnswer<'_>) {
        let known = self.gifts.entry(life).or_default();
        let expected = Life::of(world, giving, life).state(known.done + 1);
        if let Some(why) = disagreement(world, giving, (life, known), expected, answer) {
            self.differences.add(format!("{}: {why}", gift_name(life, answer.id)));
        }
        if known.id.is_empty() {
            known.id = answer.id.into();
        }
        known.done += 1;
        known.is_unknown = false;
    }

    /// It was refused, though nothing but the life itself acts on its gift.
    pub(crate) fn gift_refused(&mut self, world: &World, giving: &Giving, life: u32, status: u16, text: &str) {
        let terms = Life::of(world, giving, life);
        let known = self.gifts.entry(life).or_default();
        known.is_unknown = false;
        let step = terms.step(known.done).map_or("nothing", Step::name);
        let state = terms.state(known.done);
        let why = match status {
            404 => forgotten_gift(state, status),
            _ => format!("{step} of a gift that is {state} was refused: got {status}: {text}"),
        };
        add(&mut self.differences, life, &known.id, &why);
    }

    /// It had no answer.
    pub(crate) fn gift_unknown(&mut self, life: u32) {
        self.gifts.entry(life).or_default().is_unknown = true;
    }
}

fn add(differences: &mut Differences, life: u32, id: &str, why: &str) {
    differences.add(format!("{}: {why}", gift_name(life, id)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tests::giving_world;
    use std::collections::HashSet;

    #[test]
    fn every_end_is_met_and_the_same_life_is_the_same_again() {
        let world = giving_world(500, false);
        let giving = world.giving.as_ref().unwrap();
        let mut ends = HashSet::new();
        for number in 0..giving.lives {
            let life = Life::of(&world, giving, number);
            assert_eq!(life, Life::of(&world, giving, number));
            let steps = (0..).take_while(|done| life.step(*done).is_some()).count();
            ends.insert((life.asks, life.end(steps)));
            assert_eq!(life.state(0), "none");
            assert_eq!(life.expires(steps), life.is_left);
            assert!(!life.expires(0), "nothing expires that was not made");
        }
        for asks in [false, true] {
            for end in ["delivered", "shipped", "failed", "declined", "cancelled", "expired"] {
                assert!(ends.contains(&(asks, end)), "{asks} {end}");
            }
        }
    }

    #[test]
    fn with_real_money_all_of_it_comes_back() {
        let world = giving_world(500, true);
        let giving = world.giving.as_ref().unwrap();
        for number in 0..giving.lives {
            let life = Life::of(&world, giving, number);
            let steps = (0..).take_while(|done| life.step(*done).is_some()).count();
            assert!(matches!(life.end(steps), "declined" | "cancelled"), "{life:?}");
        }
    }

    #[test]
    fn answers_that_disagree_are_told() {
        let world = giving_world(50, false);
        let giving = world.giving.as_ref().unwrap();
        let life = (0..).find(|life| Life::of(&world, giving, *life).step(1) == Some(Step::Accept)).unwrap();
        let giver = world.user(giving.giver(life));
        let answer =
            |id: &'static str, state| GiftAnswer { id, state, amount: giving.price, giver: &giver, payer: &giver };
        let mut facts = Facts::default();
        facts.gift_stepped(&world, giving, life, &answer("g1", "offered"));
        facts.gift_unknown(life);
        facts.gift_stepped(&world, giving, life, &answer("g1", "accepted"));
        assert_eq!((facts.gifts[&life].done, facts.gifts[&life].is_unknown), (2, false));
        assert_eq!(facts.differences.words, Vec::<String>::new());
        facts.gift_stepped(&world, giving, life, &answer("g1", "declined"));
        facts.gift_refused(&world, giving, life, 404, "");
        facts.gift_refused(&world, giving, life, 409, "why");
        let known = &facts.gifts[&life];
        let other = disagreement(&world, giving, (life, known), "accepted", &answer("g2", "accepted"));
        assert!(other.unwrap().contains("two gifts"));
        for (told, words) in
            facts.differences.words.iter().zip(["state changed", "forgotten", "was refused: got 409: why"])
        {
            assert!(told.contains(words) && told.contains("g1"), "{told}");
        }
    }
}
