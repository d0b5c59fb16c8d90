//! What a run has created on the server, and who asks for it.
//!
//! **Invariant:** every name begins with the run's tag, and a pair of envelope
//! (or item) and user belongs to one part of the run, so that what is known
//! about it lives in one place.

use crate::facts::Pair;
use crate::gifts::Giving;
use crate::group_buy::Gathering;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One request of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    GrabShare(Pair),
    ClaimShare(Pair),
    GrabUnit(Pair),
    ClaimUnit(Pair),
    ReleaseUnit(Pair),
    ReadWallet(u32),
    /// The next step of a gift's life.
    Gift(u32),
    /// The next turn of the life of a group that buys together.
    Gather(u32),
}

/// An envelope created for the run. Its grabbers are `users` people from
/// `first_user` on, counted round those who grab envelopes of its kind.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) id: String,
    pub(crate) sender: u32,
    pub(crate) total: u64,
    pub(crate) shares: u32,
    pub(crate) first_user: u32,
    pub(crate) users: u32,
}

/// An item put on sale for the run.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) stock: u32,
    pub(crate) price: u64,
    pub(crate) first_user: u32,
    pub(crate) users: u32,
}

/// Users from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "[u32; 2]", into = "[u32; 2]")]
pub(crate) struct KeyRange {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl KeyRange {
    pub(crate) fn count(self) -> u32 {
        self.end.saturating_sub(self.start)
    }
}

impl From<[u32; 2]> for KeyRange {
    fn from([start, end]: [u32; 2]) -> Self {
        Self { start, end }
    }
}

impl From<KeyRange> for [u32; 2] {
    fn from(range: KeyRange) -> Self {
        [range.start, range.end]
    }
}

/// Which of several generators this one is: `2/4` is the second of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// From 0.
    index: u32,
    of: u32,
}

impl Share {
    pub(crate) const WHOLE: Share = Share { index: 0, of: 1 };

    pub(crate) fn number(self) -> u32 {
        self.index + 1
    }

    pub(crate) fn of(self) -> u32 {
        self.of
    }

    pub(crate) fn is_whole(self) -> bool {
        self.of == 1
    }

    /// The number of this part's worker among those of all parts, which are
    /// dealt round: whatever is `n` modulo the parts is the part's with index `n`,
    /// however many threads each of them has.
    pub(crate) fn worker(self, worker: u32) -> u32 {
        self.index + self.of * worker
    }

    pub(crate) fn workers(self, workers: u32) -> u32 {
        self.of * workers
    }

    fn owns(self, turn: u32) -> bool {
        turn % self.of == self.index
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number(), self.of)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').map(|(number, of)| (number.parse::<u32>(), of.parse::<u32>()));
        match numbers {
            Some((Ok(number), Ok(of))) if (1..=1000).contains(&of) && (1..=of).contains(&number) => {
                Ok(Self { index: number - 1, of })
            }
            _ => Err("give which part of how many (up to 1000): 2/4".to_owned()),
        }
    }
}

/// Everything created for the run. The mass envelope, if any, is the first.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// In every name and key of this run, so that runs never meet.
    pub(crate) tag: String,
    pub(crate) part: Share,
    /// Whether the money is real: it is taken back after the run.
    pub(crate) is_live: bool,
    pub(crate) population: u32,
    /// Who grabs small envelopes.
    pub(crate) group_users: KeyRange,
    pub(crate) has_mass: bool,
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) items: Vec<Item>,
    pub(crate) senders: u32,
    pub(crate) hold_ttl: Duration,
    /// What is given, if anything is.
    pub(crate) giving: Option<Giving>,
    /// What is bought together, if anything is.
    pub(crate) gathering: Option<Gathering>,
}

impl World {
    pub(crate) fn user(&self, user: u32) -> String {
        format!("u{}-{user}", self.tag)
    }

    pub(crate) fn sender(&self, sender: u32) -> String {
        format!("s{}-{sender}", self.tag)
    }

    pub(crate) fn merchant(&self) -> String {
        format!("m{}", self.tag)
    }

    /// What every reference and idempotency key of the run begins with.
    pub(crate) fn reference_prefix(&self) -> String {
        format!("load-{}-", self.tag)
    }

    /// The name of an envelope's user, for differences.
    pub(crate) fn share_name(&self, pair: Pair) -> String {
        format!("envelope {} user {}", self.envelopes[pair.0 as usize].id, self.user(pair.1))
    }

    pub(crate) fn unit_name(&self, pair: Pair) -> String {
        format!("item {} user {}", self.items[pair.0 as usize].id, self.user(pair.1))
    }

    /// The small envelopes.
    pub(crate) fn groups(&self) -> std::ops::Range<u32> {
        u32::from(self.has_mass)..self.envelopes.len() as u32
    }

    pub(crate) fn group_pair(&self, envelope: u32, turn: u32) -> Pair {
        let (e, keys) = (&self.envelopes[envelope as usize], self.group_users);
        (envelope, keys.start + (e.first_user - keys.start + turn) % keys.count())
    }

    /// Whether an envelope is grabbed from by one part alone.
    pub(crate) fn is_own(&self, envelope: u32) -> bool {
        let groups = self.groups();
        self.part.is_whole() || (groups.contains(&envelope) && self.part.owns(envelope - groups.start))
    }

    /// Whether it is this part that asks for a user's share of an envelope.
    pub(crate) fn owns(&self, (envelope, user): Pair) -> bool {
        if self.groups().contains(&envelope) {
            return self.is_own(envelope);
        }
        let first = self.envelopes[envelope as usize].first_user;
        self.part.owns(user.saturating_sub(first))
    }

    /// Every wallet money is paid into, and how much.
    pub(crate) fn deposits(&self) -> Vec<(String, u64)> {
        let mut needed = vec![0_u64; self.senders as usize];
        for envelope in &self.envelopes {
            needed[envelope.sender as usize] += envelope.total;
        }
        let senders = (0..self.senders).zip(needed).filter(|(_, amount)| *amount > 0);
        let mut deposits: Vec<(String, u64)> = senders.map(|(sender, amount)| (self.sender(sender), amount)).collect();
        for item in &self.items {
            let users = item.first_user..item.first_user + item.users;
            deposits.extend(users.map(|user| (self.user(user), item.price)));
        }
        if let Some(giving) = &self.giving {
            let users = giving.first_user..giving.first_user + giving.users;
            deposits.extend(users.map(|user| (self.user(user), giving.deposit())));
        }
        if let Some(gathering) = &self.gathering {
            let users = gathering.first_user..gathering.first_user + gathering.users;
            deposits.extend(users.map(|user| (self.user(user), gathering.deposit())));
        }
        deposits
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A world in which nothing is done but to give.
    pub(crate) fn giving_world(lives: u32, is_live: bool) -> World {
        let items = vec!["item_1".to_owned(), "item_2".to_owned()];
        World {
            tag: "t".to_owned(),
            part: Share::WHOLE,
            is_live,
            population: 100,
            group_users: KeyRange { start: 0, end: 100 },
            has_mass: false,
            envelopes: Vec::new(),
            items: Vec::new(),
            senders: 1,
            hold_ttl: Duration::from_secs(900),
            giving: Some(Giving { items, lives, price: 10, first_user: 100, users: 7, seed: 1 }),
            gathering: None,
        }
    }

    /// A world in which nothing is done but to buy together.
    pub(crate) fn gathering_world(lives: u32, size: u32, is_live: bool) -> World {
        let items = ["item_1", "item_2"].map(str::to_owned).to_vec();
        let gathering = Gathering { items, lives, size, price: 10, first_user: 100, users: 9, seed: 1 };
        World { giving: None, gathering: Some(gathering), ..giving_world(lives, is_live) }
    }

    #[test]
    fn parts() {
        for text in ["0/4", "5/4", "1", "1/0", "a/b", "1/2/3", "1/1001", ""] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        let second: Share = "2/4".parse().unwrap();
        assert_eq!((second.to_string().as_str(), second.is_whole(), second.worker(3)), ("2/4", false, 13));
        // Whatever the number of threads, what a part's workers ask for is the part's.
        for workers in 1..5 {
            for worker in 0..workers {
                for turn in 0..10 {
                    assert!(second.owns(second.worker(worker) + second.workers(workers) * turn));
                }
            }
        }
    }
}
