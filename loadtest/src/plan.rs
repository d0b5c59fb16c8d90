//! The stream of requests of one worker.
//!
//! **Invariant:** a pair of envelope (or item) and user belongs to one worker,
//! so that what is known about it lives in one place, without locks. Streams are
//! a function of the seed and of the answers; they never end: who has had a turn
//! asks again.

use crate::facts::{Facts, HoldState, Pair};
use crate::scenario::Mix;
use crate::world::{Action, World};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::time::Duration;

/// Groups chat at the same time, each for a while.
const GROUPS_AT_ONCE: usize = 64;
const RECENT_WINS: usize = 4096;
/// How long people take from one step of a gift's life to the next, at least.
const LIFE_PAUSE: Duration = Duration::from_millis(20);

/// The stream of actions of one worker.
#[derive(Debug)]
pub(crate) struct Plan {
    mix: Mix,
    pays: bool,
    rng: SmallRng,
    worker: u32,
    workers: u32,
    mass_turn: u32,
    groups_next: u32,
    groups_open: Vec<(u32, u32)>,
    unit_turn: u32,
    life_turn: u32,
    lives: VecDeque<(Duration, u32)>,
    gather_turn: u32,
    gatherings: VecDeque<(Duration, u32)>,
    later: VecDeque<(Duration, Action)>,
    unclaimed: VecDeque<Pair>,
    recent: Vec<Pair>,
}

impl Plan {
    /// That of number `worker` of this part's `workers`.
    pub(crate) fn new(mix: Mix, world: &World, seed: u64, worker: u32, workers: u32) -> Self {
        let (worker, workers) = (world.part.worker(worker), world.part.workers(workers));
        let mut plan = Self {
            mix,
            pays: !world.is_live,
            rng: SmallRng::seed_from_u64(seed.wrapping_add(u64::from(worker).wrapping_mul(0x9E37_79B9_7F4A_7C15))),
            worker,
            workers,
            mass_turn: 0,
            groups_next: world.groups().start + worker,
            groups_open: Vec::with_capacity(GROUPS_AT_ONCE),
            unit_turn: 0,
            life_turn: 0,
            lives: VecDeque::new(),
            gather_turn: 0,
            gatherings: VecDeque::new(),
            later: VecDeque::new(),
            unclaimed: VecDeque::new(),
            recent: Vec::with_capacity(RECENT_WINS),
        };
        while plan.groups_open.len() < GROUPS_AT_ONCE && plan.open_group(world) {}
        plan
    }

    pub(crate) fn next(&mut self, world: &World, facts: &Facts, now: Duration) -> Action {
        if !self.mix.is_single() {
            return self.mixed(world, facts, now);
        }
        if self.mix.mass > 0 {
            return self.mass(world).unwrap_or_else(|| self.mass_again(world));
        }
        if self.mix.groups > 0 {
            return self.group(world).unwrap_or_else(|| self.group_again(world));
        }
        if self.mix.gifts > 0 {
            return self.gift(world, now).unwrap_or_else(|| self.wallet(world));
        }
        if self.mix.group_buy > 0 {
            return self.gather(world, now).unwrap_or_else(|| self.wallet(world));
        }
        // Everybody has a turn before anybody pays: that is the rush.
        self.unit(world, facts).or_else(|| self.follow_up(facts, now)).unwrap_or_else(|| self.unit_again(world, facts))
    }

    fn mixed(&mut self, world: &World, facts: &Facts, now: Duration) -> Action {
        if let Some(action) = self.follow_up(facts, now) {
            return action;
        }
        let mut drawn = self.rng.random_range(0..self.mix.sum() as u32);
        let parts = self.mix.parts();
        let kind = parts.iter().position(|part| {
            let is_it = drawn < *part;
            drawn = drawn.saturating_sub(*part);
            is_it
        });
        let wanted = match kind {
            Some(0) => self.mass(world),
            Some(1) => self.group(world),
            Some(2) => self.unit(world, facts),
            Some(3) => self.unclaimed.pop_front().map(Action::ClaimShare),
            Some(4) => self.recent_win().map(Action::GrabShare),
            Some(6) => self.gift(world, now),
            Some(7) => self.gather(world, now),
            _ => None,
        };
        wanted.unwrap_or_else(|| match self.rng.random_range(0..4) {
            0 => self.mass_again(world),
            1 => self.group_again(world),
            2 => self.unit_again(world, facts),
            _ => self.wallet(world),
        })
    }

    fn wallet(&mut self, world: &World) -> Action {
        Action::ReadWallet(self.rng.random_range(0..world.population))
    }

    /// A share was won: it may be claimed and asked for again later.
    pub(crate) fn on_win(&mut self, pair: Pair) {
        if self.mix.claims > 0 {
            self.unclaimed.push_back(pair);
        }
        if self.mix.repeats == 0 {
            return;
        }
        if self.recent.len() < RECENT_WINS {
            self.recent.push(pair);
        } else {
            let at = self.rng.random_range(0..RECENT_WINS);
            self.recent[at] = pair;
        }
    }

    /// A unit is held: six in ten pay, a quarter give it back, the rest let go.
    /// What a merchant was paid stays with it, so with real money all give back.
    pub(crate) fn on_hold(&mut self, pair: Pair, now: Duration) {
        let at = now + Duration::from_millis(self.rng.random_range(50..500));
        match self.rng.random_range(0..100) {
            0..60 if self.pays => self.later.push_back((at, Action::ClaimUnit(pair))),
            0..85 => self.later.push_back((at, Action::ReleaseUnit(pair))),
            _ => {}
        }
    }

    /// A gift's life goes on after a pause: its next step, or the last one again.
    pub(crate) fn on_gift(&mut self, life: u32, now: Duration) {
        self.lives.push_back((now + LIFE_PAUSE, life));
    }

    /// The next step of a life that is due, or else a new one.
    fn gift(&mut self, world: &World, now: Duration) -> Option<Action> {
        if let Some(&(due, life)) = self.lives.front()
            && due <= now
        {
            self.lives.pop_front();
            return Some(Action::Gift(life));
        }
        let life = self.worker + self.workers * self.life_turn;
        if life >= world.giving.as_ref()?.lives {
            return None;
        }
        self.life_turn += 1;
        Some(Action::Gift(life))
    }

    /// A group's life goes on after a pause: its next turn, or the last one again.
    pub(crate) fn on_group(&mut self, life: u32, now: Duration) {
        self.gatherings.push_back((now + LIFE_PAUSE, life));
    }

    /// The next turn of a group's life that is due, or else a new one.
    fn gather(&mut self, world: &World, now: Duration) -> Option<Action> {
        if let Some(&(due, life)) = self.gatherings.front()
            && due <= now
        {
            self.gatherings.pop_front();
            return Some(Action::Gather(life));
        }
        let life = self.worker + self.workers * self.gather_turn;
        if life >= world.gathering.as_ref()?.lives {
            return None;
        }
        self.gather_turn += 1;
        Some(Action::Gather(life))
    }

    /// The next user of the mass envelope that has not had a turn.
    fn mass(&mut self, world: &World) -> Option<Action> {
        let user = self.worker + self.workers * self.mass_turn;
        if !world.has_mass || user >= world.envelopes[0].users {
            return None;
        }
        self.mass_turn += 1;
        Some(Action::GrabShare((0, world.envelopes[0].first_user + user)))
    }

    fn mass_again(&mut self, world: &World) -> Action {
        let users = if world.has_mass { world.envelopes[0].users } else { 0 };
        let turns = users.saturating_sub(self.worker).div_ceil(self.workers);
        if turns == 0 {
            return self.wallet(world);
        }
        let user = self.worker + self.workers * self.rng.random_range(0..turns);
        Action::GrabShare((0, world.envelopes[0].first_user + user))
    }

    fn open_group(&mut self, world: &World) -> bool {
        if self.groups_next >= world.groups().end {
            return false;
        }
        self.groups_open.push((self.groups_next, 0));
        self.groups_next += self.workers;
        true
    }

    fn group(&mut self, world: &World) -> Option<Action> {
        if self.groups_open.is_empty() {
            return None;
        }
        let at = self.rng.random_range(0..self.groups_open.len());
        let (envelope, turn) = self.groups_open[at];
        if turn + 1 < world.envelopes[envelope as usize].users {
            self.groups_open[at].1 += 1;
        } else {
            self.groups_open.swap_remove(at);
            self.open_group(world);
        }
        Some(Action::GrabShare(world.group_pair(envelope, turn)))
    }

    fn group_again(&mut self, world: &World) -> Action {
        let groups = world.groups();
        let own = (groups.end - groups.start).saturating_sub(self.worker).div_ceil(self.workers);
        if own == 0 {
            return self.wallet(world);
        }
        let envelope = groups.start + self.worker + self.workers * self.rng.random_range(0..own);
        let turn = self.rng.random_range(0..world.envelopes[envelope as usize].users);
        Action::GrabShare(world.group_pair(envelope, turn))
    }

    fn unit(&mut self, world: &World, facts: &Facts) -> Option<Action> {
        let item = world.items.first()?;
        loop {
            let turn = self.worker + self.workers * self.unit_turn;
            if turn >= item.users {
                return None;
            }
            self.unit_turn += 1;
            let pair = (0, item.first_user + turn);
            // Who asks again may have been the first to ask.
            if !facts.busy.contains(&pair) {
                return Some(Action::GrabUnit(pair));
            }
        }
    }

    fn unit_again(&mut self, world: &World, facts: &Facts) -> Action {
        let Some(item) = world.items.first() else { return self.wallet(world) };
        let turns = item.users.saturating_sub(self.worker).div_ceil(self.workers);
        let turn = self.worker + self.workers * self.rng.random_range(0..turns.max(1));
        let pair = (0, item.first_user + turn.min(item.users - 1));
        if turns == 0 || facts.busy.contains(&pair) {
            return Action::ReadWallet(pair.1);
        }
        Action::GrabUnit(pair)
    }

    fn follow_up(&mut self, facts: &Facts, now: Duration) -> Option<Action> {
        let &(at, action) = self.later.front()?;
        if at > now {
            return None;
        }
        self.later.pop_front();
        let (Action::ClaimUnit(pair) | Action::ReleaseUnit(pair)) = action else { return None };
        if facts.busy.contains(&pair) {
            self.later.push_back((now + Duration::from_millis(50), action));
            return None;
        }
        let live = facts.holds.get(&pair).is_some_and(|hold| hold.state == HoldState::Held);
        live.then_some(action)
    }

    fn recent_win(&mut self) -> Option<Pair> {
        if self.recent.is_empty() {
            return None;
        }
        Some(self.recent[self.rng.random_range(0..self.recent.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;
    use crate::world::tests::giving_world;
    use crate::world::{Envelope, Item, KeyRange, Share};
    use std::collections::{HashMap, HashSet};

    fn envelope(shares: u32, first_user: u32, users: u32) -> Envelope {
        Envelope { id: String::new(), sender: 0, total: 1000, shares, first_user, users }
    }

    fn mix(name: &str) -> Mix {
        Scenario::built_in(name).unwrap().mix
    }

    fn world() -> World {
        let item = Item { id: String::new(), stock: 3, price: 1, first_user: 500, users: 300 };
        World {
            tag: "t".to_owned(),
            part: Share::WHOLE,
            is_live: false,
            population: 500,
            group_users: KeyRange { start: 0, end: 500 },
            has_mass: true,
            envelopes: vec![envelope(100, 0, 130), envelope(5, 490, 20), envelope(2, 7, 4), envelope(3, 0, 5)],
            items: vec![item],
            senders: 1,
            hold_ttl: Duration::from_secs(900),
            giving: None,
            gathering: None,
        }
    }

    #[test]
    fn everybody_has_a_turn_and_pairs_belong_to_one_worker() {
        let (world, facts) = (world(), Facts::default());
        for (scenario, expected) in [("hot", 130), ("groups", 29), ("flash", 300)] {
            let mut seen = [HashSet::new(), HashSet::new(), HashSet::new()];
            for (worker, seen) in seen.iter_mut().enumerate() {
                let mut plan = Plan::new(mix(scenario), &world, 1, worker as u32, 3);
                for _ in 0..2000 {
                    match plan.next(&world, &facts, Duration::ZERO) {
                        Action::GrabShare(pair) | Action::GrabUnit(pair) => drop(seen.insert(pair)),
                        _ => {}
                    }
                }
            }
            let all: HashSet<_> = seen.iter().flatten().collect();
            assert_eq!(all.len(), expected, "{scenario:?}");
            assert_eq!(seen.iter().map(HashSet::len).sum::<usize>(), expected, "{scenario:?}: disjoint");
        }
    }

    #[test]
    fn more_workers_than_envelopes_still_have_something_to_do() {
        let (world, facts) = (world(), Facts::default());
        for scenario in ["hot", "groups", "flash", "mixed"] {
            let mut plan = Plan::new(mix(scenario), &world, 1, 9, 10);
            for _ in 0..1000 {
                plan.next(&world, &facts, Duration::ZERO);
            }
        }
    }

    #[test]
    fn a_unit_that_is_being_asked_for_is_left_alone() {
        let (world, mut facts) = (world(), Facts::default());
        facts.busy.extend((500..800).step_by(2).map(|user| (0, user)));
        let mut plan = Plan::new(mix("flash"), &world, 1, 0, 1);
        let mut asked = HashSet::new();
        for _ in 0..2000 {
            if let Action::GrabUnit(pair) = plan.next(&world, &facts, Duration::ZERO) {
                assert!(!facts.busy.contains(&pair), "{pair:?}");
                asked.insert(pair);
            }
        }
        assert_eq!(asked.len(), 150);
    }

    #[test]
    fn parts_share_everything_and_nobody_is_asked_for_twice() {
        for (scenario, expected) in [("hot", 130), ("groups", 29), ("flash", 300)] {
            let mut seen = HashSet::new();
            // Parts with one, two and three threads.
            for (part, workers) in [("1/3", 1), ("2/3", 2), ("3/3", 3)] {
                let world = World { part: part.parse().unwrap(), ..world() };
                let mut own = HashSet::new();
                for worker in 0..workers {
                    let mut plan = Plan::new(mix(scenario), &world, 1, worker, workers);
                    for _ in 0..2000 {
                        match plan.next(&world, &Facts::default(), Duration::ZERO) {
                            Action::GrabShare(pair) => {
                                assert!(world.owns(pair), "{scenario} {part}: {pair:?}");
                                own.insert(pair);
                            }
                            Action::GrabUnit(pair) => drop(own.insert(pair)),
                            _ => {}
                        }
                    }
                }
                for pair in own {
                    assert!(seen.insert(pair), "{scenario} {part}: {pair:?} is another part's");
                }
            }
            assert_eq!(seen.len(), expected, "{scenario}");
        }
    }

    #[test]
    fn each_life_goes_on_step_by_step_in_one_place() {
        let (world, facts) = (giving_world(50, false), Facts::default());
        let mut asked = HashMap::new();
        for worker in 0..3 {
            let mut plan = Plan::new(mix("gifts"), &world, 1, worker, 3);
            for second in 0..200 {
                let now = Duration::from_secs(second);
                if let Action::Gift(life) = plan.next(&world, &facts, now) {
                    assert_eq!(life % 3, worker);
                    *asked.entry(life).or_insert(0) += 1;
                    if asked[&life] < 3 {
                        plan.on_gift(life, now);
                    }
                }
            }
        }
        assert_eq!(asked, (0..50).map(|life| (life, 3)).collect());
    }

    #[test]
    fn a_mix_has_its_parts() {
        let (world, facts) = (world(), Facts::default());
        let halves = Mix { mass: 1, others: 1, ..Mix::default() };
        let mut plan = Plan::new(halves, &world, 1, 0, 1);
        let is_new = |action: Action| matches!(action, Action::GrabShare((0, user)) if user < 130);
        let new = (0..200).filter(|_| is_new(plan.next(&world, &facts, Duration::ZERO))).count();
        // Half are turns, and of the others a quarter asks again; the deviation is 7.
        assert!((90..=160).contains(&new), "{new}");
    }
}
