//! I6 and all the others, under load and SIGKILL. `CYCLES` and `SEED` choose
//! how often and where.

use crate::book::Book;
use crate::client::{Ask, Client};
use crate::inquiry::{Down, ask_unanswered, inquire, let_all_end};
use crate::load::{Asked, Dice, Player, Table, opening};
use crate::process::{Running, audit, serve, told};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

const PLAYERS: usize = 6;

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn kill_9_under_load_twenty_cycles() {
    let cycles = number_of("CYCLES").unwrap_or(20) as usize;
    let clock = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_millis() as u64);
    let seed = number_of("SEED").unwrap_or_else(clock);
    eprintln!("SEED={seed} CYCLES={cycles}");
    let mut dice = Dice(seed);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");

    let (mut server, mut address) = Running::ready(&mut serve(&data, &[]));
    let mut book = Book::default();
    let table = Mutex::new(open_table(address, &mut book));
    for cycle in 1..=cycles {
        book.cycle = cycle;
        let down = if cycle % 5 == 0 { Down::Stopped } else { Down::Killed };
        // Some die before they have done much.
        let after_ms = if cycle % 4 == 2 { dice.below(30) } else { 100 + dice.below(700) };
        let diaries = play(server, address, &table, &mut dice, cycle, Duration::from_millis(after_ms), down);
        let mut unanswered = Vec::new();
        for (ask, answer) in diaries.into_iter().flatten() {
            match answer {
                Some(answer) => book.learn(&ask, &answer),
                None => unanswered.push(ask),
            }
        }
        if cycle % 3 == 0 {
            die_while_starting(&data, &mut dice);
        }
        if cycle % 7 == 4 {
            let output = audit(&data);
            assert!(output.status.success(), "after a crash, before a start: {}", told(&output));
        }
        (server, address) = Running::ready(&mut serve(&data, &[]));
        ask_unanswered(&mut Client::new(address), &mut book, &unanswered, down);
        inquire(address.into(), &book, &mut dice, false);
        let of_cycle = book.promises.iter().filter(|promise| promise.cycle == cycle).count();
        eprintln!("cycle {cycle}: {down:?} after {after_ms} ms, {of_cycle} promises, {} unanswered", unanswered.len());
    }

    let_all_end(&mut Client::new(address), &mut book);
    let (status, log) = server.stop();
    assert!(status.success(), "{status}:\n{log}");
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    inquire(address.into(), &book, &mut dice, true);
    let (status, log) = server.stop();
    assert!(status.success(), "{status}:\n{log}");
    let output = audit(&data);
    assert!(output.status.success(), "{}", told(&output));
}

pub fn open_table(address: SocketAddr, book: &mut Book) -> Table {
    let mut client = Client::new(address);
    let mut table = Table::default();
    for ask in opening() {
        let answer = client.ask(&ask);
        assert_eq!(answer.status, 201, "{ask:?}: {answer:?}");
        book.learn(&ask, &answer);
        if ask.path == "/v1/items" {
            let item = answer.json();
            table.items.push((item["id"].as_str().unwrap().to_owned(), item["per_user_limit"].as_u64()));
        }
    }
    table
}

/// Lets all players play until the server goes down.
pub fn play(
    mut server: Running,
    address: SocketAddr,
    table: &Mutex<Table>,
    dice: &mut Dice,
    cycle: usize,
    after: Duration,
    down: Down,
) -> Vec<Vec<Asked>> {
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..PLAYERS)
            .map(|n| {
                let player = Player::new(format!("c{cycle}p{n}"), Dice(dice.roll()));
                scope.spawn(move || player.play(address, table))
            })
            .collect();
        std::thread::sleep(after);
        assert!(server.is_alive(), "it ended by itself:\n{}", server.log());
        match down {
            Down::Killed => drop(server.kill()),
            Down::Stopped => {
                let (status, log) = server.stop();
                assert!(status.success() && log.contains("everything is on disk"), "{status}:\n{log}");
                assert!(!log.contains("were cut off"), "{log}");
            }
        }
        players.into_iter().map(|player| player.join().unwrap()).collect()
    })
}

/// Race 35: a crash during recovery changes nothing, as often as it happens.
fn die_while_starting(data: &Path, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let starting = Running::start(&mut serve(data, &[]));
        std::thread::sleep(Duration::from_millis(dice.below(600)));
        starting.kill();
    }
}

/// A server that stops answers what it has accepted, on every connection.
#[test]
fn sigterm_answers_what_was_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    let deposit = |n: usize| {
        let body = serde_json::json!({ "amount": 1, "reference": format!("r{n}") });
        Ask::post("/v1/wallets/bob/deposits", &body).with_key(format!("k{n}"))
    };
    const CALLERS: usize = 40;
    let answered: usize = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|n| {
                scope.spawn(move || {
                    let mut client = Client::new(address);
                    let mut answered = 0;
                    while let Ok(answer) = client.send(&deposit(n * 1_000_000 + answered)) {
                        assert_eq!(answer.status, 201, "{answer:?}");
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let (status, log) = server.stop();
        assert!(status.success(), "{status}:\n{log}");
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    assert!(server.log().contains("last_end=\"in order\""), "{}", server.log());
    let wallet = Client::new(address).json(&Ask::get("/v1/wallets/bob"));
    assert_eq!(wallet["available"], answered, "each deposit of 1 was answered, and none else was made");
}

/// What a sender may make in a day is counted over crashes: no envelope more, and none that was answered is forgotten.
#[test]
fn the_cap_of_a_sender_holds_over_crashes() {
    const CAP: usize = 60;
    const CALLERS: usize = 4;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let cap = CAP.to_string();
    let start = || Running::ready(&mut serve(&data, &["--creates-per-sender-per-day", &cap]));
    let (mut server, mut address) = start();
    let mut client = Client::new(address);
    // At noon, so that no day ends meanwhile.
    let now_s = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let noon = serde_json::json!({ "advance_s": 86_400 - now_s % 86_400 + 43_200 });
    client.json(&Ask::post("/v1/test/clock", &noon));
    client.json(&Ask::post("/v1/wallets/alice/deposits", &serde_json::json!({ "amount": 1000 })).with_key("d"));
    let terms = serde_json::json!({ "sender": "alice", "total": 1, "shares": 1 });
    let create = |key: &str| Ask::post("/v1/envelopes", &terms).with_key(key);
    let (mut made, mut unanswered) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let answered = AtomicUsize::new(0);
        let asked = std::thread::scope(|scope| {
            let call = |caller: usize| {
                let (mut client, mut asked) = (Client::new(address), Vec::new());
                for nth in 0.. {
                    let ask = create(&format!("{round}-{caller}-{nth}"));
                    let answer = client.send(&ask).ok();
                    let is_answered = answer.is_some();
                    answered.fetch_add(usize::from(is_answered), Ordering::Relaxed);
                    asked.push((ask, answer));
                    if !is_answered {
                        break;
                    }
                }
                asked
            };
            let callers: Vec<_> = (0..CALLERS).map(|caller| scope.spawn(move || call(caller))).collect();
            while answered.load(Ordering::Relaxed) < CAP / 4 {
                std::thread::yield_now();
            }
            server.kill();
            callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
        });
        for (ask, answer) in asked {
            match answer {
                Some(answer) if answer.status == 201 => made.push((ask, answer.json()["id"].clone())),
                Some(answer) => assert!(answer.body.contains("creates_per_sender_per_day"), "{answer:?}"),
                None => unanswered.push(ask),
            }
        }
        (server, address) = start();
    }
    let mut client = Client::new(address);
    // Those that were made before a crash are told, and as many of the others made as there is room for.
    unanswered.extend((0..CAP).map(|nth| create(&format!("last-{nth}"))));
    for ask in unanswered {
        let answer = client.ask(&ask);
        match answer.status {
            201 => made.push((ask, answer.json()["id"].clone())),
            422 => assert!(answer.body.contains("creates_per_sender_per_day"), "{answer:?}"),
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!(made.len(), CAP);
    let sent = client.json(&Ask::get("/v1/users/alice/sent?limit=1000"));
    assert_eq!(sent["envelopes"].as_array().map(Vec::len), Some(CAP), "{sent}");
    for (ask, id) in made {
        assert_eq!(client.json(&ask)["id"], id);
    }
    assert!(server.stop().0.success());
}
