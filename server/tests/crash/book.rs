//! What was promised: every positive answer, with the question that gets it
//! again, and what follows from all of them together.
//!
//! **Invariant:** two answers about one thing agree, whoever asked, before the
//! crash or after it.

use crate::client::{Answer, Ask, Client};
use serde_json::Value;
use std::collections::HashMap;

/// What an answer said that must stay true.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Under an idempotency key, so to be repeated to the byte.
    Body {
        status: u16,
        body: String,
    },
    Won {
        amount: u64,
        share: u64,
        grabbed_at: String,
        claim_by: String,
        status: String,
    },
    Claimed {
        amount: u64,
        claimed_at: String,
    },
    Held {
        user: String,
        item: String,
        quantity: u64,
        amount: u64,
        expires_at: String,
    },
    Ordered {
        order: String,
    },
    Released,
}

/// A fact, and how to hear it again.
pub struct Promise {
    pub ask: Ask,
    pub fact: Fact,
    pub cycle: usize,
}

/// An envelope as it was made.
#[derive(Clone, Debug)]
pub struct Made {
    pub sender: String,
    pub total: u64,
    pub shares: u64,
    pub auto_claim: bool,
    /// Whether what nobody claims is credited all the same.
    pub credits: bool,
    pub reference: String,
    pub cycle: usize,
}

/// How far an envelope was seen to have come: it never goes back.
#[derive(Clone, Debug)]
pub struct Seen {
    pub remaining_shares: u64,
    pub claimed: u64,
    pub refunded: u64,
    pub ended_as: Option<String>,
}

#[derive(Default)]
pub struct Book {
    pub cycle: usize,
    pub promises: Vec<Promise>,
    by_ask: HashMap<Ask, usize>,
    pub envelopes: HashMap<String, Made>,
    pub seen: HashMap<String, Seen>,
    /// Envelope, then user: share and amount.
    pub wins: HashMap<String, HashMap<String, (u64, u64)>>,
    /// Envelope and user: the amount.
    pub claims: HashMap<(String, String), u64>,
    /// Hold: item, user, quantity, amount.
    pub holds: HashMap<String, (String, String, u64, u64)>,
    /// Hold: order.
    pub orders: HashMap<String, String>,
    pub released: HashMap<String, String>,
    /// Item: the units ever put into it.
    pub stock: HashMap<String, u64>,
    /// User: deposits and withdrawals, as (kind, reference, amount).
    pub transfers: HashMap<String, Vec<(String, String, u64)>>,
    /// User: the newest movements, as they were last listed.
    pub movements: HashMap<String, Vec<Value>>,
    /// The latest time that was told.
    pub clock: String,
}

pub fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}")).to_owned()
}

pub fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} of {value}"))
}

/// Whether the two may be told of one thing, one after the other or at once.
fn agree(a: &Fact, b: &Fact) -> bool {
    match (a, b) {
        (
            Fact::Won { amount, share, grabbed_at, claim_by, status },
            Fact::Won { amount: a, share: s, grabbed_at: g, claim_by: c, status: t },
        ) => {
            let open = |status: &str| status == "grabbed";
            (amount, share, grabbed_at, claim_by) == (a, s, g, c) && (status == t || open(status) || open(t))
        }
        (a, b) => a == b,
    }
}

/// What an answer to `GET /v1/envelopes/{id}/grabs/{user}`, or an element of a
/// list of them, tells of a win; it does not say until when to claim.
pub fn won_of_row(row: &Value, claim_by: &str) -> Fact {
    Fact::Won {
        amount: number(row, "amount"),
        share: number(row, "share"),
        grabbed_at: text(row, "grabbed_at"),
        claim_by: claim_by.to_owned(),
        status: text(row, "status"),
    }
}

pub fn grab(envelope: &str, user: &str) -> Ask {
    Ask::post(format!("/v1/envelopes/{envelope}/grab"), &serde_json::json!({ "user": user }))
}

impl Book {
    /// Takes note of an answer.
    pub fn learn(&mut self, ask: &Ask, answer: &Answer) {
        let code = |code: &str| answer.body.contains(&format!("\"code\":\"{code}\""));
        match answer.status {
            200 | 201 => self.learn_positive(ask, answer),
            409 => assert!(code("insufficient_funds") || code("wrong_state"), "{ask:?}: {answer:?}"),
            404 => assert!(ask.method == "GET", "what was told of is there: {ask:?}: {answer:?}"),
            503 => assert!(code("overloaded") || code("shutting_down"), "{ask:?}: {answer:?}"),
            _ => panic!("{ask:?}: {answer:?}"),
        }
    }

    fn learn_positive(&mut self, ask: &Ask, answer: &Answer) {
        let json = answer.json();
        let body = Fact::Body { status: answer.status, body: answer.body.clone() };
        let outcome = json["outcome"].as_str().unwrap_or_default();
        match (ask.method, ask.segments().as_slice()) {
            ("POST", ["wallets", user, kind @ ("deposits" | "withdrawals")]) => {
                let is_new = self.promise(ask.clone(), body);
                let sent = ask.json();
                let kind = kind.trim_end_matches('s').to_owned();
                let transfer = (kind, text(&sent, "reference"), number(&sent, "amount"));
                let transfers = self.transfers.entry((*user).to_owned()).or_default();
                if is_new {
                    transfers.push(transfer);
                }
            }
            ("POST", ["envelopes"]) => {
                self.promise(ask.clone(), body);
                self.made(&ask.json(), &json);
                self.saw(&json);
            }
            ("POST", ["envelopes", _, "cancel"]) => {
                self.promise(ask.clone(), body);
                self.saw(&json);
            }
            ("POST", ["envelopes", id, "grab"]) => self.grabbed(id, &text(&ask.json(), "user"), &json),
            ("POST", ["grabs"]) => {
                let (asked, results) = (ask.json(), &json["results"]);
                let (asked, results) = (asked["grabs"].as_array().unwrap(), results.as_array().unwrap());
                assert_eq!(asked.len(), results.len(), "every element is answered");
                for (asked, result) in asked.iter().zip(results) {
                    let code = result["error"]["code"].as_str();
                    let may_be = matches!(code, None | Some("overloaded" | "not_ready" | "unconfirmed"));
                    assert!(may_be, "{asked}: {result}");
                    self.grabbed(&text(asked, "envelope"), &text(asked, "user"), result);
                }
            }
            ("POST", ["envelopes", id, "claim"]) if outcome == "claimed" => {
                let amount = number(&json, "amount");
                let user = text(&ask.json(), "user");
                self.claims.insert(((*id).to_owned(), user), amount);
                self.promise(ask.clone(), Fact::Claimed { amount, claimed_at: text(&json, "claimed_at") });
            }
            ("POST", ["items", id, "grab"]) if outcome == "held" => {
                if ask.key.is_some() {
                    self.promise(ask.clone(), body);
                }
                let hold = text(&json, "hold");
                let user = text(&ask.json(), "user");
                let (quantity, amount) = (number(&json, "quantity"), number(&json, "amount"));
                let (item, expires_at) = ((*id).to_owned(), text(&json, "expires_at"));
                self.holds.insert(hold.clone(), (item.clone(), user.clone(), quantity, amount));
                let fact = Fact::Held { user, item, quantity, amount, expires_at };
                self.promise(Ask::get(format!("/v1/holds/{hold}")), fact);
            }
            ("POST", ["holds", hold, "claim"]) if outcome == "claimed" => {
                let order = text(&json, "order");
                self.orders.insert((*hold).to_owned(), order.clone());
                self.promise(ask.clone(), Fact::Ordered { order });
            }
            ("POST", ["holds", hold, "release"]) if outcome == "released" => {
                self.released.insert((*hold).to_owned(), text(&ask.json(), "user"));
                self.promise(ask.clone(), Fact::Released);
            }
            ("POST", ["items"]) => {
                self.promise(ask.clone(), body);
                self.stock.insert(text(&json, "id"), number(&json["stock"], "total"));
            }
            ("POST", ["items", id, "restock"]) => {
                let is_new = self.promise(ask.clone(), body);
                let total = self.stock.get_mut(*id).expect("an item was made before");
                if is_new {
                    *total += number(&ask.json(), "quantity");
                }
            }
            ("POST", ["merchants"]) => drop(self.promise(ask.clone(), body)),
            ("POST", ["test", "clock"]) => self.clock = text(&json, "now").max(std::mem::take(&mut self.clock)),
            ("GET", ["envelopes", _]) => self.saw(&json),
            ("GET", ["envelopes", id, "grabs", user]) => self.saw_grab(id, user, &json),
            ("GET", ["wallets", user, "entries"]) => {
                self.movements.insert((*user).to_owned(), json["entries"].as_array().unwrap().clone());
            }
            ("GET", ["audit"]) => assert_eq!(json["balanced"], true, "{json}"),
            ("GET", ["items", _]) => check_stock(&json),
            _ => {}
        }
    }

    /// Keeps a fact; says whether it is new.
    fn promise(&mut self, ask: Ask, fact: Fact) -> bool {
        match self.by_ask.get(&ask) {
            Some(&at) => {
                let known = &mut self.promises[at].fact;
                assert!(agree(known, &fact), "{ask:?}: once {known:?}, once {fact:?}");
                if matches!(known, Fact::Won { status, .. } if status == "grabbed") {
                    *known = fact;
                }
                false
            }
            None => {
                self.by_ask.insert(ask.clone(), self.promises.len());
                self.promises.push(Promise { ask, fact, cycle: self.cycle });
                true
            }
        }
    }

    pub fn knows(&self, ask: &Ask) -> bool {
        self.by_ask.contains_key(ask)
    }

    fn made(&mut self, sent: &Value, json: &Value) {
        let made = Made {
            sender: text(json, "sender"),
            total: number(json, "total"),
            shares: number(json, "shares"),
            auto_claim: sent["auto_claim"] == true,
            credits: sent["unclaimed"] == "credit",
            reference: text(json, "reference"),
            cycle: self.cycle,
        };
        self.envelopes.entry(text(json, "id")).or_insert(made);
    }

    fn saw(&mut self, json: &Value) {
        let now = Seen {
            remaining_shares: number(json, "remaining_shares"),
            claimed: number(json, "claimed_amount"),
            refunded: number(json, "refunded_amount"),
            ended_as: json["ended_as"].as_str().map(str::to_owned),
        };
        let seen = self.seen.entry(text(json, "id")).or_insert_with(|| now.clone());
        // Answers of one cycle come in any order.
        seen.remaining_shares = seen.remaining_shares.min(now.remaining_shares);
        seen.claimed = seen.claimed.max(now.claimed);
        seen.refunded = seen.refunded.max(now.refunded);
        let known = (&seen.ended_as, &now.ended_as);
        assert!(known.0 == known.1 || known.0.is_none() || known.1.is_none(), "it ends in one way: {json}");
        seen.ended_as = seen.ended_as.take().or(now.ended_as);
    }

    fn grabbed(&mut self, envelope: &str, user: &str, json: &Value) {
        if json["outcome"] == "won" {
            self.won(envelope, user, won_of_row(json, &text(json, "claim_by")));
        }
    }

    /// A list tells of a win as well as the answer to a grab does.
    fn saw_grab(&mut self, envelope: &str, user: &str, row: &Value) {
        let ask = grab(envelope, user);
        if let Some(&at) = self.by_ask.get(&ask)
            && let Fact::Won { claim_by, .. } = &self.promises[at].fact
        {
            let fact = won_of_row(row, &claim_by.clone());
            self.promise(ask, fact);
        }
        let (share, amount) = (number(row, "share"), number(row, "amount"));
        let known =
            *self.wins.entry(envelope.to_owned()).or_default().entry(user.to_owned()).or_insert((share, amount));
        assert_eq!(known, (share, amount), "{envelope} {user}: one share a user (I3)");
    }

    fn won(&mut self, envelope: &str, user: &str, fact: Fact) {
        let Fact::Won { share, amount, .. } = fact else { unreachable!("a win is won") };
        let known =
            *self.wins.entry(envelope.to_owned()).or_default().entry(user.to_owned()).or_insert((share, amount));
        assert_eq!(known, (share, amount), "{envelope} {user}: one share a user (I3)");
        self.promise(grab(envelope, user), fact);
    }
}

pub fn check_stock(item: &Value) {
    let [total, free, held, sold] = ["total", "free", "held", "sold"].map(|field| number(&item["stock"], field));
    assert_eq!(total, free + held + sold, "stock = free + held + sold (I4): {item}");
}

/// Asks for what was promised and compares.
///
/// # Panics
/// If it is not the same, or not marked as a repeat.
pub fn ask_again(client: &mut Client, promise: &Promise) {
    let Promise { ask, fact, cycle } = promise;
    let answer = client.ask(ask);
    let lost = |what: &str| -> ! { panic!("{what} of cycle {cycle}: {ask:?}\n  was {fact:?}\n  now {answer:?}") };
    if let Fact::Body { status, body } = fact {
        if (answer.status, &answer.body) != (*status, body) {
            lost("another answer under the same key");
        }
        if !answer.replayed {
            lost("a repeat not told as one");
        }
        return;
    }
    if answer.status != 200 {
        lost("no answer");
    }
    let json = answer.json();
    let again = match fact {
        Fact::Won { .. } if json["outcome"] == "won" => won_of_row(&json, &text(&json, "claim_by")),
        Fact::Claimed { .. } if json["outcome"] == "claimed" => {
            Fact::Claimed { amount: number(&json, "amount"), claimed_at: text(&json, "claimed_at") }
        }
        Fact::Held { .. } => Fact::Held {
            user: text(&json, "user"),
            item: text(&json, "item"),
            quantity: number(&json, "quantity"),
            amount: number(&json, "amount"),
            expires_at: text(&json, "expires_at"),
        },
        Fact::Ordered { .. } if json["outcome"] == "claimed" => Fact::Ordered { order: text(&json, "order") },
        Fact::Released if json["outcome"] == "released" => Fact::Released,
        _ => lost("another outcome"),
    };
    if !agree(fact, &again) {
        lost("another answer");
    }
    let went_back =
        |status: &str| status != "grabbed" && matches!(&again, Fact::Won { status: now, .. } if now != status);
    if matches!(fact, Fact::Won { status, .. } if went_back(status)) {
        lost("a status that went back");
    }
    if !matches!(fact, Fact::Held { .. }) && json["replayed"] != true {
        lost("a repeat not told as one");
    }
    let state_of_hold = |client: &mut Client| client.json(&Ask::get(format!("/v1/holds/{}", ask.segments()[1])));
    match fact {
        Fact::Ordered { order } => {
            let hold = state_of_hold(client);
            assert!(hold["state"] == "claimed" && hold["order"] == **order, "{order}: {hold}");
            let shown = client.json(&Ask::get(format!("/v1/orders/{order}")));
            let same = ["item", "user", "quantity", "amount"].iter().all(|field| shown[field] == hold[field]);
            assert!(shown["hold"] == hold["id"] && same, "{shown} of {hold}");
        }
        Fact::Released => assert_eq!(state_of_hold(client)["state"], "released", "{ask:?}"),
        _ => {}
    }
}
