//! Gifts' whole lives over HTTP: offered, paid by another, accepted, shipped, delivered.
//!
//! **Invariant:** a step that does not lead to its state ends the bench.

use crate::http::{Expected, Talk, post};
use crate::{fund_with, sell_for};
use hongbao_engine::backend::Backend;
use hongbao_engine::types::{ItemId, UserId};

/// How the answer to every step begins.
pub const GIFT: Expected = br#"{"id":"gift_"#;
/// Steps of a life.
pub const STEPS: usize = 5;
/// Where a gift's state stands in an answer, behind its id.
const STATES: [&str; STEPS] = ["awaiting_payment", "offered", "accepted", "shipped", "delivered"];
const ITEMS: usize = 100;
const PAYERS: usize = 1_000;

/// A life on each connection, and then the next one.
#[derive(Clone)]
pub struct Lives {
    items: Vec<ItemId>,
    payers: Vec<UserId>,
    /// Turns so far: nobody gives twice, and no idempotency key is used again.
    turn: usize,
    /// By connection.
    at: Vec<Life>,
    request: Vec<u8>,
}

#[derive(Clone, Default)]
struct Life {
    /// Steps asked for.
    asked: usize,
    number: u64,
    gift: String,
}

impl Lives {
    /// Items on sale, and people who can pay for them.
    pub async fn new(engine: &impl Backend) -> Lives {
        let (items, payers) = (Vec::new(), Vec::new());
        let mut lives = Lives { items, payers, turn: 0, at: Vec::new(), request: Vec::new() };
        for _ in 0..ITEMS {
            lives.items.push(sell_for(engine, 1_000_000, None, 900).await);
        }
        for number in 0..PAYERS {
            let payer = UserId::new(&format!("payer{number}")).expect("a word is a user");
            fund_with(engine, &payer, 1 << 40).await;
            lives.payers.push(payer);
        }
        lives
    }

    /// For a turn: other lives than those of turns before.
    pub fn again(&mut self) -> Lives {
        self.turn += 1;
        self.clone()
    }

    fn step(&self, life: &Life) -> String {
        let Life { number, gift, .. } = life;
        let person = format!("{}-{number}", self.turn);
        let key = |step: &str| format!("idempotency-key: {step}{person}\r\n");
        let payer = &self.payers[*number as usize % PAYERS];
        let path = |step: &str| format!("/v1/gifts/{gift}/{step}");
        match life.asked {
            0 => {
                let item = self.items[*number as usize % ITEMS];
                let body =
                    format!(r#"{{"giver":"g{person}","recipient":"r{person}","item":"{item}","payer":"{payer}"}}"#);
                post("/v1/gifts", &key("make"), &body)
            }
            1 => post(&path("pay"), &key("pay"), &format!(r#"{{"payer":"{payer}"}}"#)),
            2 => post(&path("accept"), "", &format!(r#"{{"user":"r{person}"}}"#)),
            3 => post(&path("ship"), &key("ship"), r#"{"carrier":"sf","tracking":"SF1029384756"}"#),
            _ => post(&path("deliver"), "", "{}"),
        }
    }
}

impl Talk for Lives {
    fn next(&mut self, connection: usize, answer: &[u8], user: &mut u64) -> &[u8] {
        if self.at.len() <= connection {
            self.at.resize_with(connection + 1, || Life { asked: STEPS, ..Life::default() });
        }
        let mut life = std::mem::take(&mut self.at[connection]);
        if let Some(last) = life.asked.checked_sub(1).filter(|_| !answer.is_empty()) {
            let answer = std::str::from_utf8(answer).expect("JSON is text");
            let mut words = answer.split('"').skip(3).step_by(4);
            life.gift = words.next().expect("a gift has an id").to_owned();
            assert_eq!(words.next(), Some(STATES[last]), "{answer}");
        }
        if life.asked == STEPS {
            life = Life { asked: 0, number: *user, gift: String::new() };
            *user += 1;
        }
        self.request = self.step(&life).into_bytes();
        life.asked += 1;
        self.at[connection] = life;
        &self.request
    }
}
