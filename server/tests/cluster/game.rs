//! Players at both servers while something is done to them, and then every
//! answer asked again.
//!
//! A player who is told to ask again, or whose server goes away, does something
//! else; the question is asked to its end when the load is over.

use crate::book::{Book, grab, text};
use crate::client::{Answer, Ask, Client, Door, NoAnswer};
use crate::follower::{Followed, check_against_lists};
use crate::house::{Doors, House, SERVERS};
use crate::inquiry::{Down, ask_unanswered, inquire, let_all_end};
use crate::load::{Dice, Player, Table, opening};
use crate::number_of;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

const PLAYERS: u64 = 6;
/// Between two questions of a player: load, not as much as the machine can bear.
const THOUGHT: Duration = Duration::from_millis(3);
/// Whoever got no answer looks again after so long.
const PAUSE: Duration = Duration::from_millis(20);

/// What has been played, and by whom.
pub struct Game {
    pub book: Book,
    table: Mutex<Table>,
    dice: Dice,
    /// What somebody is told who follows the events, now at the one server and now at the other.
    followed: Followed,
}

/// How the game goes while it is disturbed.
pub struct Pace<'a> {
    answered: &'a AtomicU64,
    unanswered: &'a AtomicU64,
}

impl Pace<'_> {
    /// Until so many questions more have been answered.
    pub fn more(&self, answers: u64) {
        until(self.answered, answers, "nobody is answered");
    }

    /// Until so many more were not.
    pub fn refusals(&self, refusals: u64) {
        until(self.unanswered, refusals, "everybody is answered");
    }
}

fn until(count: &AtomicU64, more: u64, otherwise: &str) {
    let (enough, give_up) = (count.load(Ordering::Relaxed) + more, Instant::now() + Duration::from_secs(90));
    while count.load(Ordering::Relaxed) < enough {
        assert!(Instant::now() < give_up, "{otherwise}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What one player asked: what was answered, and what was not.
#[derive(Default)]
struct Diary {
    answered: Vec<(Ask, Answer)>,
    unanswered: Vec<Ask>,
}

/// Ends the game also when whoever disturbs it fails.
struct Whistle<'a>(&'a AtomicBool);

impl Drop for Whistle<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Game {
    pub fn open(house: &House) -> Game {
        let clock = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_millis() as u64);
        let seed = number_of("SEED", clock);
        eprintln!("SEED={seed}");
        let mut game =
            Game { book: Book::default(), table: Mutex::default(), dice: Dice(seed), followed: Followed::default() };
        let mut client = house.client(0);
        for ask in opening() {
            let answer = client.ask(&ask);
            assert_eq!(answer.status, 201, "{ask:?}: {answer:?}");
            game.book.learn(&ask, &answer);
            if ask.path == "/v1/items" {
                let item = answer.json();
                let kind = (item["id"].as_str().unwrap().to_owned(), item["per_user_limit"].as_u64());
                game.table.get_mut().unwrap().items.push(kind);
            }
        }
        game
    }

    /// Everybody plays while `disturb` does what it does; then all is asked again.
    pub fn cycle(&mut self, house: &mut House, what: &str, disturb: impl FnOnce(&mut House, &Pace<'_>)) {
        self.book.cycle += 1;
        let cycle = self.book.cycle;
        let (stop, answered, unanswered) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let pace = Pace { answered: &answered, unanswered: &unanswered };
        let began = Instant::now();
        let diaries: Vec<Diary> = std::thread::scope(|scope| {
            let whistle = Whistle(&stop);
            let players = (0..PLAYERS).map(|nth| {
                let player = Player::new(format!("c{cycle}p{nth}"), Dice(self.dice.roll()));
                let (doors, table) = (std::sync::Arc::clone(&house.doors), &self.table);
                let (stop, pace) = (&stop, &pace);
                scope.spawn(move || play(player, &doors, table, stop, pace))
            });
            let players: Vec<_> = players.collect();
            let (doors, followed) = (std::sync::Arc::clone(&house.doors), &mut self.followed);
            let stop = &stop;
            scope.spawn(move || follow(followed, &doors, stop));
            pace.more(50);
            disturb(house, &pace);
            pace.more(50);
            drop(whistle);
            players.into_iter().map(|player| player.join().unwrap()).collect()
        });
        let played = began.elapsed();
        let mut open = Vec::new();
        for Diary { answered, unanswered } in diaries {
            answered.iter().for_each(|(ask, answer)| self.book.learn(ask, answer));
            open.extend(unanswered);
        }
        house.cluster.wait_ok();
        let server = cycle % SERVERS;
        ask_unanswered(&mut house.client(server), &mut self.book, &open, Down::Killed);
        house.wait_settled(1 - server);
        inquire(house.door(1 - server), &self.book, &mut self.dice, false);
        let told = answered.load(Ordering::Relaxed);
        let (played, all) = (played.as_secs_f32(), began.elapsed().as_secs_f32());
        eprintln!("{cycle}: {what}: {told} answers, {} not, in {played:.1} s, asked again by {all:.1} s", open.len());
    }

    /// Every deadline passes, all envelopes settle, and all that was ever told is still true.
    pub fn end(mut self, house: House) {
        let_all_end(&mut house.client(0), &mut self.book);
        let audit = house.wait_settled(1);
        assert_eq!(audit["escrowed"], 0, "{audit}");
        inquire(house.door(1), &self.book, &mut self.dice, true);
        self.followed.poll(house.doors.address(0), false);
        let mut whole = Followed::default();
        whole.poll(house.doors.address(1), false);
        assert_eq!(by_thing(&self.followed.events), by_thing(&whole.events), "each thing's events, in order and once");
        check_against_lists(&mut house.client(0), &self.book, &whole.events);
        eprintln!("{} events", whole.events.len());
        house.close();
    }
}

/// Follows the events, at whichever server answers, until the game ends.
fn follow(followed: &mut Followed, doors: &Doors, stop: &AtomicBool) {
    for nth in 0.. {
        let mut client = Client::new(Door::from(doors.address(nth % SERVERS)));
        while let Some(status) = followed.ask(&mut client, 1) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match status {
                200 | 204 if nth % 3 == 0 => {}
                200 | 204 => break,
                // A bucket is away, and whoever leaves it out would pass something over.
                503 => {
                    std::thread::sleep(PAUSE);
                    break;
                }
                other => panic!("{other}"),
            }
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// By envelope, wallet, item, hold or order: the ids of its events, in order.
pub fn by_thing<'a>(events: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, Vec<String>> {
    let mut things = BTreeMap::<_, Vec<_>>::new();
    for event in events {
        let (kind, data) = (event["type"].as_str().unwrap(), &event["data"]);
        let thing = match kind.split('.').next().unwrap() {
            "share" => &data["envelope"],
            "wallet" => &data["user"],
            _ => &data["id"],
        };
        things.entry(thing.as_str().unwrap().to_owned()).or_default().push(text(event, "id"));
    }
    things
}

fn play(mut player: Player, doors: &Doors, table: &Mutex<Table>, stop: &AtomicBool, pace: &Pace<'_>) -> Diary {
    let mut diary = Diary::default();
    let mut clients: [Option<(SocketAddr, Client)>; SERVERS] = [None, None];
    while !stop.load(Ordering::Relaxed) {
        let ask = player.next(table);
        let server = player.dice.below(SERVERS as u64) as usize;
        let address = doors.address(server);
        let client = match &mut clients[server] {
            Some((known, client)) if *known == address => client,
            fresh => &mut fresh.insert((address, Client::new(Door::from(address)))).1,
        };
        let sent = client.send(&ask);
        if let Ok(answer) = &sent
            && answer.status != 503
        {
            table.lock().unwrap().note(&ask, answer);
            pace.answered.fetch_add(1, Ordering::Relaxed);
            if ask.key.is_some() {
                player.own.push(ask.clone());
            }
            diary.unanswered.extend(failed_grabs(&ask, answer));
            diary.answered.push((ask, answer.clone()));
            std::thread::sleep(THOUGHT);
            continue;
        }
        pace.unanswered.fetch_add(1, Ordering::Relaxed);
        match sent {
            Ok(answer) => {
                let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
                let may_be = ["unconfirmed", "not_ready", "overloaded"].contains(&code.as_str());
                assert!(may_be && answer.retry_after_s.is_some(), "{ask:?}: {answer:?}");
                diary.unanswered.extend(to_its_end(ask));
            }
            Err(NoAnswer::Unknown) => diary.unanswered.extend(to_its_end(ask)),
            Err(NoAnswer::Unsent) => {}
        }
        std::thread::sleep(PAUSE);
    }
    diary
}

/// What has to be asked again of a question without an answer; a look at something does not matter.
fn to_its_end(ask: Ask) -> Vec<Ask> {
    match (ask.method, ask.segments().as_slice()) {
        ("GET", _) => Vec::new(),
        (_, ["grabs"]) => {
            let asked = ask.json();
            let grabs = asked["grabs"].as_array().unwrap().iter();
            grabs.map(|one| grab(one["envelope"].as_str().unwrap(), one["user"].as_str().unwrap())).collect()
        }
        _ => vec![ask],
    }
}

/// The grabs of a batch that had no outcome.
fn failed_grabs(ask: &Ask, answer: &Answer) -> Vec<Ask> {
    if answer.status != 200 || ask.segments() != ["grabs"] {
        return Vec::new();
    }
    let asked = to_its_end(ask.clone());
    let results = answer.json();
    let failed = results["results"].as_array().unwrap().iter().map(|result| !result["error"].is_null());
    asked.into_iter().zip(failed).filter_map(|(ask, failed)| failed.then_some(ask)).collect()
}

/// Makes an envelope of so many equal shares and returns its id.
pub fn give(client: &mut Client, sender: &str, shares: u64, key: &str) -> String {
    let deposit = json!({ "amount": shares * 100, "reference": format!("deposit-{key}") });
    client.json(&Ask::post(format!("/v1/wallets/{sender}/deposits"), &deposit).with_key(format!("deposit-{key}")));
    client.json(&create(sender, shares, key))["id"].as_str().unwrap().to_owned()
}

/// The question that makes such an envelope of the sender's money.
pub fn create(sender: &str, shares: u64, key: &str) -> Ask {
    let terms = json!({ "sender": sender, "total": shares * 100, "shares": shares, "split": "equal",
        "expires_in_s": 3600, "claim_within_s": 3600 });
    Ask::post("/v1/envelopes", &terms).with_key(key)
}
