//! Players who do everything at once, on few users, envelopes and items, and
//! write down what they asked and what they were told.

use crate::book::grab;
use crate::client::{Answer, Ask, Client, NoAnswer};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;

pub const USERS: u64 = 14;
/// What everybody starts with.
pub const FORTUNE: u64 = 5_000_000;
pub const MERCHANT: &str = "rosy";

/// A request, and the answer if there was one.
pub type Asked = (Ask, Option<Answer>);

/// Chance, from a seed (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub fn of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len() as u64) as usize]
    }
}

/// What is being played with: the newest of everything.
#[derive(Default)]
pub struct Table {
    pub envelopes: VecDeque<String>,
    pub wins: VecDeque<(String, String)>,
    pub holds: VecDeque<(String, String)>,
    /// Items, and how many units one user may have.
    pub items: Vec<(String, Option<u64>)>,
    /// What somebody sends right now, to be sent by another as well.
    echo: Option<Ask>,
}

fn keep<T>(newest: &mut VecDeque<T>, thing: T, most: usize) {
    newest.push_back(thing);
    if newest.len() > most {
        newest.pop_front();
    }
}

impl Table {
    /// Takes note of what can be played with.
    pub fn note(&mut self, ask: &Ask, answer: &Answer) {
        if answer.status > 201 {
            return;
        }
        let told = || answer.json();
        let user = || ask.json()["user"].as_str().unwrap_or_default().to_owned();
        match ask.segments().as_slice() {
            ["envelopes"] if ask.method == "POST" => {
                keep(&mut self.envelopes, told()["id"].as_str().unwrap().to_owned(), 6);
            }
            ["envelopes", id, "grab"] if told()["outcome"] == "won" => {
                keep(&mut self.wins, ((*id).to_owned(), user()), 64);
            }
            ["items", _, "grab"] if told()["outcome"] == "held" => {
                keep(&mut self.holds, (told()["hold"].as_str().unwrap().to_owned(), user()), 32);
            }
            _ => {}
        }
    }
}

/// Everybody's money, and a shelf.
pub fn opening() -> Vec<Ask> {
    let mut asks: Vec<Ask> = (0..USERS)
        .map(|n| {
            let body = json!({ "amount": FORTUNE, "reference": format!("fortune-{n}") });
            Ask::post(format!("/v1/wallets/{}/deposits", user(n)), &body).with_key(format!("fortune-{n}"))
        })
        .collect();
    let merchant = json!({ "id": MERCHANT, "name": "Rosy 花店", "status": "verified" });
    asks.push(Ask::post("/v1/merchants", &merchant).with_key("rosy"));
    for (name, limit, ttl_s) in [("99 roses", Some(1), 2), ("Peonies", Some(3), 600), ("Lipstick", None, 3)] {
        let mut item = json!({ "merchant": MERCHANT, "name": name, "category": "gifts", "price": 299, "stock": 40,
            "hold_ttl_s": ttl_s });
        item["per_user_limit"] = json!(limit);
        asks.push(Ask::post("/v1/items", &item).with_key(name.replace(' ', "-")));
    }
    asks
}

pub fn user(number: u64) -> String {
    format!("u{number}")
}

/// One of those who play.
pub struct Player {
    /// Unlike every other player's of every cycle.
    pub name: String,
    pub dice: Dice,
    asked: u64,
    /// What it asked under a key, to be asked again at times.
    pub own: Vec<Ask>,
}

impl Player {
    pub fn new(name: String, dice: Dice) -> Player {
        Player { name, dice, asked: 0, own: Vec::new() }
    }

    /// Plays until the server is gone.
    pub fn play(mut self, address: SocketAddr, table: &Mutex<Table>) -> Vec<Asked> {
        let mut client = Client::new(address);
        let mut diary = Vec::new();
        loop {
            let ask = self.next(table);
            match client.send(&ask) {
                Ok(answer) => {
                    table.lock().unwrap().note(&ask, &answer);
                    if ask.key.is_some() {
                        self.own.push(ask.clone());
                    }
                    diary.push((ask, Some(answer)));
                }
                Err(NoAnswer::Unknown) => {
                    diary.push((ask, None));
                    return diary;
                }
                Err(NoAnswer::Unsent) => return diary,
            }
        }
    }

    /// What it asks next.
    pub fn next(&mut self, table: &Mutex<Table>) -> Ask {
        self.asked += 1;
        let mut table = table.lock().unwrap();
        if self.dice.below(20) == 0
            && let Some(ask) = table.echo.take()
        {
            return ask;
        }
        let ask = self.pick(&mut table);
        if self.dice.below(8) == 0 && ask.method == "POST" && ask.path != "/v1/test/clock" {
            table.echo = Some(ask.clone());
        }
        ask
    }

    fn pick(&mut self, table: &mut Table) -> Ask {
        let user = user(self.dice.below(USERS));
        if table.envelopes.is_empty() {
            return self.create(&user);
        }
        let envelope = table.envelopes[self.dice.below(table.envelopes.len() as u64) as usize].clone();
        let (item, limit) = self.dice.of(&table.items).clone();
        let near = |dice: &mut Dice, things: &VecDeque<(String, String)>| {
            (!things.is_empty()).then(|| things[dice.below(things.len() as u64) as usize].clone())
        };
        match self.dice.below(100) {
            0..8 => self.transfer(&user, "deposits"),
            8..12 => self.transfer(&user, "withdrawals"),
            12..20 => self.create(&user),
            20..44 => grab(&envelope, &user),
            44..49 => {
                let few = self.dice.below(20) + 1;
                let grabs: Vec<Value> = (0..few)
                    .map(|_| {
                        let envelope = &table.envelopes[self.dice.below(table.envelopes.len() as u64) as usize];
                        json!({ "envelope": envelope, "user": self::user(self.dice.below(USERS)) })
                    })
                    .collect();
                Ask::post("/v1/grabs", &json!({ "grabs": grabs }))
            }
            49..62 => {
                let (envelope, user) = near(&mut self.dice, &table.wins).unwrap_or((envelope, user));
                Ask::post(format!("/v1/envelopes/{envelope}/claim"), &json!({ "user": user }))
            }
            62..64 => Ask::post(format!("/v1/envelopes/{envelope}/cancel"), &json!({})).with_key(self.key()),
            64..74 => {
                let most = limit.unwrap_or(3);
                let quantity = self.dice.below(most) + 1;
                let ask = Ask::post(format!("/v1/items/{item}/grab"), &json!({ "user": user, "quantity": quantity }));
                if limit == Some(1) { ask } else { ask.with_key(self.key()) }
            }
            74..82 => match near(&mut self.dice, &table.holds) {
                Some((hold, user)) => Ask::post(format!("/v1/holds/{hold}/claim"), &json!({ "user": user })),
                None => self.look(&envelope, &user, &item),
            },
            82..86 => match near(&mut self.dice, &table.holds) {
                Some((hold, user)) => Ask::post(format!("/v1/holds/{hold}/release"), &json!({ "user": user })),
                None => self.look(&envelope, &user, &item),
            },
            86..87 => {
                let quantity = json!({ "quantity": self.dice.below(5) + 1 });
                Ask::post(format!("/v1/items/{item}/restock"), &quantity).with_key(self.key())
            }
            87..91 if !self.own.is_empty() => self.dice.of(&self.own).clone(),
            91 if self.dice.below(8) == 0 => Ask::post("/v1/test/clock", &json!({ "advance_s": 1 })),
            _ => self.look(&envelope, &user, &item),
        }
    }

    fn key(&self) -> String {
        format!("{}-{}", self.name, self.asked)
    }

    fn transfer(&mut self, user: &str, kind: &str) -> Ask {
        let body = json!({ "amount": self.dice.below(5_000) + 1, "reference": format!("ref-{}", self.key()) });
        Ask::post(format!("/v1/wallets/{user}/{kind}"), &body).with_key(self.key())
    }

    fn create(&mut self, sender: &str) -> Ask {
        let shares = self.dice.below(12) + 1;
        let mut body = json!({
            "sender": sender,
            "total": shares * (self.dice.below(200) + 10),
            "shares": shares,
            "split": self.dice.of(&["lucky", "lucky", "uniform", "equal"]),
            "auto_claim": self.dice.below(3) == 0,
            "unclaimed": self.dice.of(&["return", "return", "credit"]),
            "expires_in_s": self.dice.of(&[1, 2, 5, 60, 3600]),
            "claim_within_s": self.dice.of(&[0, 1, 60, 3600]),
            "message": "恭喜发财",
            "metadata": { "by": self.name },
            "reference": format!("ref-{}", self.key()),
        });
        if self.dice.below(4) == 0 {
            body["client_seed"] = json!(self.key());
        }
        if self.dice.below(5) == 0 {
            let amounts: Vec<u64> = (0..shares).map(|_| self.dice.below(300) + 1).collect();
            body["total"] = json!(amounts.iter().sum::<u64>());
            body["split"] = json!("specified");
            body["amounts"] = json!(amounts);
        }
        Ask::post("/v1/envelopes", &body).with_key(self.key())
    }

    fn look(&mut self, envelope: &str, user: &str, item: &str) -> Ask {
        Ask::get(match self.dice.below(9) {
            0 => format!("/v1/wallets/{user}"),
            1 => format!("/v1/wallets/{user}/entries?limit=20"),
            2 => format!("/v1/envelopes/{envelope}"),
            3 => format!("/v1/envelopes/{envelope}/grabs"),
            4 | 5 => format!("/v1/envelopes/{envelope}/grabs/{user}"),
            6 => format!("/v1/users/{user}/received?limit=20"),
            7 => format!("/v1/items/{item}"),
            _ => "/v1/audit".to_owned(),
        })
    }
}
