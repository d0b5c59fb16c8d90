//! What is asked: the four scenarios as streams of actions.
//!
//! **Invariant:** a pair of envelope (or item) and user belongs to one worker,
//! so that what is known about it lives in one place, without locks. Streams are
//! a function of the seed and of the answers; they never end: who has had a turn
//! asks again.

use crate::facts::{Facts, HoldState, Pair};
use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One mass envelope, more users than shares
    Hot,
    /// Many small envelopes of 2 to 100 shares, each with a few users too many
    Groups,
    /// An item of which 100 times as many users as units want one at once
    Flash,
    /// All of them together, with claims, repeats and wallet reads
    Mixed,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Groups => "groups",
            Self::Flash => "flash",
            Self::Mixed => "mixed",
        }
    }

    pub(crate) fn has_hot(self) -> bool {
        matches!(self, Self::Hot | Self::Mixed)
    }

    pub(crate) fn has_groups(self) -> bool {
        matches!(self, Self::Groups | Self::Mixed)
    }

    pub(crate) fn has_flash(self) -> bool {
        matches!(self, Self::Flash | Self::Mixed)
    }
}

/// One request of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    GrabShare(Pair),
    ClaimShare(Pair),
    GrabUnit(Pair),
    ClaimUnit(Pair),
    ReleaseUnit(Pair),
    ReadWallet(u32),
}

/// An envelope created for the run. Its grabbers are `users` people from
/// `first_user` on, counted round the population.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) id: String,
    pub(crate) sender: u32,
    pub(crate) total: u64,
    pub(crate) shares: u32,
    pub(crate) first_user: u32,
    pub(crate) users: u32,
}

/// An item put on sale for the run.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) stock: u32,
    pub(crate) price: u64,
    pub(crate) first_user: u32,
    pub(crate) users: u32,
}

/// Everything created for the run. The mass envelope, if any, is the first.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// In every name and key of this run, so that runs never meet.
    pub(crate) tag: String,
    pub(crate) population: u32,
    pub(crate) has_mass: bool,
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) items: Vec<Item>,
    pub(crate) senders: u32,
    pub(crate) hold_ttl: Duration,
}

impl World {
    pub(crate) fn user(&self, user: u32) -> String {
        format!("u{}-{user}", self.tag)
    }

    pub(crate) fn sender(&self, sender: u32) -> String {
        format!("s{}-{sender}", self.tag)
    }

    /// The name of an envelope's user, for differences.
    pub(crate) fn share_name(&self, pair: Pair) -> String {
        format!("envelope {} user {}", self.envelopes[pair.0 as usize].id, self.user(pair.1))
    }

    pub(crate) fn unit_name(&self, pair: Pair) -> String {
        format!("item {} user {}", self.items[pair.0 as usize].id, self.user(pair.1))
    }

    fn groups(&self) -> std::ops::Range<u32> {
        u32::from(self.has_mass)..self.envelopes.len() as u32
    }

    fn group_pair(&self, envelope: u32, turn: u32) -> Pair {
        let e = &self.envelopes[envelope as usize];
        (envelope, (e.first_user + turn) % self.population)
    }
}

/// Groups chat at the same time, each for a while.
const GROUPS_AT_ONCE: usize = 64;
const RECENT_WINS: usize = 4096;

/// The stream of actions of one worker.
#[derive(Debug)]
pub(crate) struct Plan {
    scenario: Scenario,
    rng: SmallRng,
    worker: u32,
    workers: u32,
    mass_turn: u32,
    groups_next: u32,
    groups_open: Vec<(u32, u32)>,
    unit_turn: u32,
    later: VecDeque<(Duration, Action)>,
    unclaimed: VecDeque<Pair>,
    recent: Vec<Pair>,
}

impl Plan {
    pub(crate) fn new(scenario: Scenario, world: &World, seed: u64, worker: u32, workers: u32) -> Self {
        let mut plan = Self {
            scenario,
            rng: SmallRng::seed_from_u64(seed.wrapping_add(u64::from(worker).wrapping_mul(0x9E37_79B9_7F4A_7C15))),
            worker,
            workers,
            mass_turn: 0,
            groups_next: world.groups().start + worker,
            groups_open: Vec::with_capacity(GROUPS_AT_ONCE),
            unit_turn: 0,
            later: VecDeque::new(),
            unclaimed: VecDeque::new(),
            recent: Vec::with_capacity(RECENT_WINS),
        };
        while plan.groups_open.len() < GROUPS_AT_ONCE && plan.open_group(world) {}
        plan
    }

    pub(crate) fn next(&mut self, world: &World, facts: &Facts, now: Duration) -> Action {
        match self.scenario {
            Scenario::Hot => self.mass(world).unwrap_or_else(|| self.mass_again(world)),
            Scenario::Groups => self.group(world).unwrap_or_else(|| self.group_again(world)),
            Scenario::Flash => self
                .unit(world, facts)
                .or_else(|| self.follow_up(facts, now))
                .unwrap_or_else(|| self.unit_again(world, facts)),
            Scenario::Mixed => self.mixed(world, facts, now),
        }
    }

    fn mixed(&mut self, world: &World, facts: &Facts, now: Duration) -> Action {
        if let Some(action) = self.follow_up(facts, now) {
            return action;
        }
        let wanted = match self.rng.random_range(0..100) {
            0..35 => self.mass(world),
            35..60 => self.group(world),
            60..75 => self.unit(world, facts),
            75..90 => self.unclaimed.pop_front().map(Action::ClaimShare),
            90..95 => self.recent_win().map(Action::GrabShare),
            _ => None,
        };
        wanted.unwrap_or_else(|| match self.rng.random_range(0..4) {
            0 => self.mass_again(world),
            1 => self.group_again(world),
            2 => self.unit_again(world, facts),
            _ => Action::ReadWallet(self.rng.random_range(0..world.population)),
        })
    }

    /// A share was won: it may be claimed and asked for again later.
    pub(crate) fn on_win(&mut self, pair: Pair) {
        if self.scenario != Scenario::Mixed {
            return;
        }
        self.unclaimed.push_back(pair);
        if self.recent.len() < RECENT_WINS {
            self.recent.push(pair);
        } else {
            let at = self.rng.random_range(0..RECENT_WINS);
            self.recent[at] = pair;
        }
    }

    /// A unit is held: six in ten pay, a quarter give it back, the rest let go.
    pub(crate) fn on_hold(&mut self, pair: Pair, now: Duration) {
        let at = now + Duration::from_millis(self.rng.random_range(50..500));
        match self.rng.random_range(0..100) {
            0..60 => self.later.push_back((at, Action::ClaimUnit(pair))),
            60..85 => self.later.push_back((at, Action::ReleaseUnit(pair))),
            _ => {}
        }
    }

    /// The next user of the mass envelope that has not had a turn.
    fn mass(&mut self, world: &World) -> Option<Action> {
        let user = self.worker + self.workers * self.mass_turn;
        if !world.has_mass || user >= world.envelopes[0].users {
            return None;
        }
        self.mass_turn += 1;
        Some(Action::GrabShare((0, user)))
    }

    fn mass_again(&mut self, world: &World) -> Action {
        let turns = world.envelopes[0].users.saturating_sub(self.worker).div_ceil(self.workers);
        if turns == 0 {
            return Action::ReadWallet(0);
        }
        let user = self.worker + self.workers * self.rng.random_range(0..turns);
        Action::GrabShare((0, user))
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
            return Action::ReadWallet(self.rng.random_range(0..world.population));
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
        let Some(item) = world.items.first() else { return Action::ReadWallet(0) };
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

/// Shares and total of a small envelope, as people send them: mostly to a
/// handful of friends or a family, with numbers that bring luck.
pub(crate) fn small_envelope(rng: &mut SmallRng) -> (u32, u64) {
    const TOTALS: [u64; 14] = [100, 188, 520, 666, 888, 1000, 1314, 1800, 2000, 5000, 6600, 8800, 10_000, 20_000];
    let shares = match rng.random_range(0..100) {
        0..8 => 2,
        8..35 => rng.random_range(3..=5),
        35..68 => rng.random_range(6..=10),
        68..86 => rng.random_range(11..=20),
        86..96 => rng.random_range(21..=50),
        _ => rng.random_range(51..=100),
    };
    (shares, TOTALS[rng.random_range(0..TOTALS.len())])
}

/// The mean of [`small_envelope`]'s grabbers, for choosing how many to create.
pub(crate) const SMALL_ENVELOPE_USERS_MEAN: f64 = 16.0;

/// How many want a share of a small envelope: a few more than there are.
pub(crate) fn small_envelope_users(rng: &mut SmallRng, shares: u32) -> u32 {
    shares + 1 + rng.random_range(0..=shares.div_ceil(5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn envelope(shares: u32, first_user: u32, users: u32) -> Envelope {
        Envelope { id: String::new(), sender: 0, total: 1000, shares, first_user, users }
    }

    fn world() -> World {
        let item = Item { id: String::new(), stock: 3, price: 1, first_user: 500, users: 300 };
        World {
            tag: "t".to_owned(),
            population: 500,
            has_mass: true,
            envelopes: vec![envelope(100, 0, 130), envelope(5, 490, 20), envelope(2, 7, 4), envelope(3, 0, 5)],
            items: vec![item],
            senders: 1,
            hold_ttl: Duration::from_secs(900),
        }
    }

    #[test]
    fn everybody_has_a_turn_and_pairs_belong_to_one_worker() {
        let (world, facts) = (world(), Facts::default());
        for (scenario, expected) in [(Scenario::Hot, 130), (Scenario::Groups, 29), (Scenario::Flash, 300)] {
            let mut seen = [HashSet::new(), HashSet::new(), HashSet::new()];
            for (worker, seen) in seen.iter_mut().enumerate() {
                let mut plan = Plan::new(scenario, &world, 1, worker as u32, 3);
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
        for scenario in [Scenario::Hot, Scenario::Groups, Scenario::Flash, Scenario::Mixed] {
            let mut plan = Plan::new(scenario, &world, 1, 9, 10);
            for _ in 0..1000 {
                plan.next(&world, &facts, Duration::ZERO);
            }
        }
    }

    #[test]
    fn a_unit_that_is_being_asked_for_is_left_alone() {
        let (world, mut facts) = (world(), Facts::default());
        facts.busy.extend((500..800).step_by(2).map(|user| (0, user)));
        let mut plan = Plan::new(Scenario::Flash, &world, 1, 0, 1);
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
    fn small_envelopes_can_be_split() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut users = 0;
        for _ in 0..10_000 {
            let (shares, total) = small_envelope(&mut rng);
            assert!((2..=100).contains(&shares) && total >= u64::from(shares));
            let wanted = small_envelope_users(&mut rng, shares);
            assert!(wanted > shares);
            users += wanted;
        }
        let mean = f64::from(users) / 10_000.0;
        assert!((mean / SMALL_ENVELOPE_USERS_MEAN - 1.0).abs() < 0.15, "{mean}");
    }
}
