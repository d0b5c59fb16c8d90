//! Lives of groups that buy together: who opens, joins and leaves each, and what was acknowledged.
//!
//! **Invariant:** what is done about a group follows from the seed and its number, and each of its steps has an
//! idempotency key of its own: whoever asks again, after a crash too, asks for the same. A life has one request
//! under way at a time, so what each step must be told is known beforehand.

use crate::facts::Facts;
use crate::gifts::{LEFT_S, LifeFact, StepRequest};
use crate::world::World;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use std::fmt::Write as _;

/// How long a group may take that is to be full, or left.
const PATIENT_S: u64 = 86_400;

/// What is done about a group, and by which of its life's people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The first of them opens it.
    Open,
    Join(u32),
    Leave(u32),
}

/// Everything that is bought together in a run.
#[derive(Clone, Debug)]
pub(crate) struct Gathering {
    /// Ids of the items whose groups have a day, and behind them as many whose groups have two seconds.
    pub(crate) items: Vec<String>,
    pub(crate) lives: u32,
    pub(crate) size: u32,
    pub(crate) price: u64,
    pub(crate) first_user: u32,
    /// At least two more than a group has members.
    pub(crate) users: u32,
    pub(crate) seed: u64,
}

impl Gathering {
    /// People of one life: who are in it, and two who come too late.
    fn people(&self) -> u32 {
        self.size + 2
    }

    /// Of each item there are so many units: nobody is told that there is none.
    pub(crate) fn stock(&self) -> u32 {
        self.lives.div_ceil(self.items.len() as u32 / 2) * self.size
    }

    /// What each of the people has at first: enough for all groups in which they may be.
    pub(crate) fn deposit(&self) -> u64 {
        u64::from(self.lives.div_ceil(self.users) * self.people()) * self.price
    }

    pub(crate) fn person(&self, life: u32, nth: u32) -> u32 {
        self.first_user + (life + nth) % self.users
    }

    /// Which item a life is about.
    pub(crate) fn item_of(&self, world: &World, life: u32) -> usize {
        let half = self.items.len() / 2;
        let hasty = usize::from(GroupLife::of(world, self, life).is_left) * half;
        hasty + life as usize % half
    }

    /// How long groups of an item may take.
    pub(crate) fn within_s(&self, item: usize) -> u64 {
        if item < self.items.len() / 2 { PATIENT_S } else { LEFT_S }
    }
}

/// What is to become of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupLife {
    size: u32,
    turns: Vec<Turn>,
    /// Nothing more is done in time, and it expires.
    pub(crate) is_left: bool,
}

/// How a group stands after some of its turns, and what the last of them was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Of the life's people.
    pub(crate) members: Vec<u32>,
    pub(crate) state: &'static str,
    /// `group` if the group itself was told; else the outcome.
    outcome: &'static str,
    replayed: bool,
}

impl GroupLife {
    /// The life with this number. With real money none is full, as its merchant would keep the money, and none
    /// is left.
    pub(crate) fn of(world: &World, gathering: &Gathering, number: u32) -> GroupLife {
        use Turn::{Join, Leave, Open};
        let size = gathering.size;
        let mut rng = SmallRng::seed_from_u64(gathering.seed ^ (u64::from(number) << 20));
        let of = |turns, is_left| GroupLife { size, turns, is_left };
        // Somebody asks twice, and who comes too late is told so.
        let rest = |from: u32| (from..size).map(Join).chain([Join(1), Join(size), Join(size + 1)]);
        match rng.random_range(0..100) {
            _ if world.is_live && size > 2 => of(vec![Open, Join(1), Leave(1), Leave(0), Join(1)], false),
            _ if world.is_live => of(vec![Open, Leave(0), Join(1)], false),
            0..55 => of([Open, Join(1), Join(1)].into_iter().chain(rest(2)).collect(), false),
            55..70 if size > 2 => {
                of([Open, Join(1), Leave(1), Leave(1), Join(1)].into_iter().chain(rest(2)).collect(), false)
            }
            70..85 if size > 2 => of(vec![Open, Join(1), Leave(0), Join(2), Leave(0)], false),
            55..85 => of(vec![Open, Leave(0), Join(1), Leave(0)], false),
            _ => of(vec![Open], true),
        }
    }

    /// The turn after so many that were done.
    pub(crate) fn turn(&self, done: usize) -> Option<Turn> {
        self.turns.get(done).copied()
    }

    /// How the group stands after so many turns, as far as those who act know.
    pub(crate) fn after(&self, done: usize) -> Standing {
        let mut now = Standing { state: "none", ..Standing::default() };
        for turn in &self.turns[..done.min(self.turns.len())] {
            let is_open = now.state == "open";
            now.replayed = false;
            now.outcome = match turn {
                Turn::Open => {
                    (now.members, now.state) = (vec![0], "open");
                    "group"
                }
                Turn::Join(user) if now.state != "leader_left" && now.members.contains(user) => {
                    now.replayed = true;
                    "joined"
                }
                Turn::Join(user) if is_open => {
                    now.members.push(*user);
                    if now.members.len() == self.size as usize {
                        now.state = "full";
                    }
                    "joined"
                }
                Turn::Join(_) => now.state,
                Turn::Leave(0) if is_open => {
                    now.state = "leader_left";
                    "group"
                }
                Turn::Leave(user) => {
                    now.members.retain(|member| !is_open || member != user);
                    "group"
                }
            };
        }
        now
    }

    /// How it stands in the end.
    pub(crate) fn end(&self, done: usize) -> &'static str {
        if self.is_left && done == self.turns.len() { "expired" } else { self.after(done).state }
    }
}

/// What is read of an answer about a group: the group itself, or an outcome.
#[derive(Debug, Deserialize)]
pub(crate) struct GroupAnswer<'a> {
    #[serde(borrow)]
    outcome: Option<&'a str>,
    #[serde(borrow)]
    id: Option<&'a str>,
    #[serde(borrow)]
    group: Option<&'a str>,
    #[serde(borrow)]
    pub(crate) state: Option<&'a str>,
    pub(crate) members: Option<usize>,
    pub(crate) price: Option<u64>,
    #[serde(borrow)]
    order: Option<&'a str>,
    replayed: Option<bool>,
}

impl GroupAnswer<'_> {
    pub(crate) fn id(&self) -> &str {
        self.id.or(self.group).unwrap_or("")
    }

    /// As what it is counted.
    pub(crate) fn name(&self) -> &str {
        match (self.outcome, self.replayed) {
            (Some("joined"), Some(true)) => "joined_again",
            (Some(outcome), _) => outcome,
            (None, _) => self.state.unwrap_or("unreadable"),
        }
    }
}

/// What an answer about a group says otherwise than it must; `None` if nothing.
pub(crate) fn disagreement(
    gathering: &Gathering,
    known: &LifeFact,
    expected: &Standing,
    answer: &GroupAnswer<'_>,
) -> Option<String> {
    let id = answer.id();
    if !known.id.is_empty() && !id.is_empty() && *known.id != *id {
        return Some(format!("one life got two groups: expected {}, got {id}", known.id));
    }
    let outcome = answer.outcome.unwrap_or("group");
    if outcome != expected.outcome {
        return Some(format!("what was told changed: expected {}, got {outcome}", expected.outcome));
    }
    if !matches!(outcome, "group" | "joined") {
        return None;
    }
    let told = (answer.state.unwrap_or(""), answer.members.unwrap_or(0), answer.price.unwrap_or(0));
    let wanted = (expected.state, expected.members.len(), gathering.price);
    if told != wanted {
        return Some(format!("the group changed: expected {wanted:?}, got {told:?}"));
    }
    if outcome == "joined" && answer.replayed != Some(expected.replayed) {
        return Some(format!(
            "somebody joined twice: expected replayed {}, got {:?}",
            expected.replayed, answer.replayed
        ));
    }
    if outcome == "joined" && answer.order.is_some() != (expected.state == "full") {
        return Some(format!("a member of a group that is {} has the order {:?}", expected.state, answer.order));
    }
    None
}

/// The name of a life's group, for differences.
pub(crate) fn group_name(life: u32, id: &str) -> String {
    format!("group {id} (life {life})")
}

impl StepRequest {
    /// Composes the request for a life's turn with this number.
    pub(crate) fn compose_turn(&mut self, world: &World, gathering: &Gathering, (life, nth): (u32, usize), id: &str) {
        let Some(turn) = GroupLife::of(world, gathering, life).turn(nth) else { return };
        let StepRequest { path, key, body } = self;
        [&mut *path, &mut *key, &mut *body].into_iter().for_each(String::clear);
        let _ = write!(key, "load-{}-group-{life}-{nth}", world.tag);
        let (person, verb) = match turn {
            Turn::Open => (0, None),
            Turn::Join(person) => (person, Some("join")),
            Turn::Leave(person) => (person, Some("leave")),
        };
        let _ = match verb {
            Some(verb) => write!(path, "/v1/groups/{id}/{verb}"),
            None => write!(path, "/v1/items/{}/groups", gathering.items[gathering.item_of(world, life)]),
        };
        let _ = write!(body, "{{\"user\":\"{}\"}}", world.user(gathering.person(life, person)));
    }
}

impl Facts {
    /// The turn that a life has under way, or would have next.
    pub(crate) fn next_turn(&self, world: &World, gathering: &Gathering, life: u32) -> Option<Turn> {
        GroupLife::of(world, gathering, life).turn(self.gatherings.get(&life).map_or(0, |known| known.done))
    }

    /// The next turn of a life was answered.
    pub(crate) fn group_turned(&mut self, world: &World, gathering: &Gathering, life: u32, answer: &GroupAnswer<'_>) {
        let known = self.gatherings.entry(life).or_default();
        let expected = GroupLife::of(world, gathering, life).after(known.done + 1);
        if let Some(why) = disagreement(gathering, known, &expected, answer) {
            self.differences.add(format!("{}: {why}", group_name(life, &known.id)));
        }
        if known.id.is_empty() {
            known.id = answer.id().into();
        }
        known.done += 1;
        known.is_unknown = false;
    }

    /// It was refused, though nothing but the life itself acts on its group.
    pub(crate) fn group_refused(&mut self, world: &World, gathering: &Gathering, life: u32, status: u16, text: &str) {
        let known = self.gatherings.entry(life).or_default();
        known.is_unknown = false;
        let terms = GroupLife::of(world, gathering, life);
        let (turn, state) = (terms.turn(known.done), terms.after(known.done).state);
        let why = match status {
            404 => forgotten_group(state, status),
            _ => format!("{turn:?} of a group that is {state} was refused: got {status}: {text}"),
        };
        self.differences.add(format!("{}: {why}", group_name(life, &known.id)));
    }

    /// It had no answer.
    pub(crate) fn group_unknown(&mut self, life: u32) {
        self.gatherings.entry(life).or_default().is_unknown = true;
    }
}

/// Plain words for a group that the server denies.
pub(crate) fn forgotten_group(state: &str, got: u16) -> String {
    format!("an acknowledged group was forgotten: expected {state}, got {got}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tests::gathering_world;
    use std::collections::HashSet;

    #[test]
    fn every_end_is_met_and_nobody_is_in_a_group_twice() {
        for size in [2, 3, 5] {
            let world = gathering_world(500, size, false);
            let gathering = world.gathering.as_ref().unwrap();
            let mut ends = HashSet::new();
            for number in 0..gathering.lives {
                let life = GroupLife::of(&world, gathering, number);
                assert_eq!(life, GroupLife::of(&world, gathering, number));
                for done in 0..=life.turns.len() {
                    let members = life.after(done).members;
                    assert_eq!(members.iter().collect::<HashSet<_>>().len(), members.len(), "{life:?}");
                }
                assert_eq!(life.after(life.turns.len()).outcome == "full", life.end(life.turns.len()) == "full");
                ends.insert(life.end(life.turns.len()));
            }
            assert_eq!(ends, HashSet::from(["full", "leader_left", "expired"]));
        }
    }

    #[test]
    fn with_real_money_all_of_it_comes_back() {
        let world = gathering_world(100, 3, true);
        let gathering = world.gathering.as_ref().unwrap();
        for number in 0..gathering.lives {
            let life = GroupLife::of(&world, gathering, number);
            assert_eq!(life.end(life.turns.len()), "leader_left");
        }
    }

    #[test]
    fn answers_that_disagree_are_told() {
        let world = gathering_world(50, 3, false);
        let gathering = world.gathering.as_ref().unwrap();
        let known = LifeFact { id: "group_1".into(), done: 1, is_unknown: false };
        let expected = Standing { members: vec![0, 1], state: "open", outcome: "joined", replayed: true };
        let told = |text: &str| disagreement(gathering, &known, &expected, &serde_json::from_str(text).unwrap());
        let of = |group: &str, members: usize, replayed: bool, order: &str| {
            format!(
                r#"{{"outcome":"joined","group":"{group}","state":"open","members":{members},"price":10,"order":{order},"replayed":{replayed}}}"#
            )
        };
        assert_eq!(told(&of("group_1", 2, true, "null")), None);
        for (text, words) in [
            (of("group_2", 2, true, "null"), "two groups"),
            (of("group_1", 3, true, "null"), "the group changed"),
            (of("group_1", 2, false, "null"), "joined twice"),
            (of("group_1", 2, true, r#""order_1""#), "has the order"),
            (r#"{"outcome":"full"}"#.to_owned(), "what was told changed"),
        ] {
            assert!(told(&text).is_some_and(|why| why.contains(words)), "{words}");
        }
    }
}
