//! Everything at once, while primaries fail over and all else happens.

use crate::client::Ask;
use crate::game::{Game, Pace};
use crate::house::{House, SERVERS};
use crate::load::{USERS, user};
use crate::number_of;
use crate::redis_stand::{is_missing, slots_of};
use rustix::process::Signal;
use std::time::Duration;

/// Race 29: no acknowledged answer is lost, and no share is given twice.
#[test]
fn race_29_redis_fails_over_again_and_again() {
    if is_missing() {
        return;
    }
    let mut house = House::open();
    let mut game = Game::open(&house);
    for nth in 0..number_of("FAILOVERS", 10) as usize {
        let slot = slots_of(nth % 3, 3).0;
        if nth % 2 == 0 {
            game.cycle(&mut house, "a primary is killed", |house, pace| kill_primary(house, pace, slot));
        } else {
            game.cycle(&mut house, "a primary hangs", |house, pace| pause_primary(house, pace, slot));
        }
    }
    game.end(house);
}

fn kill_primary(house: &mut House, pace: &Pace<'_>, slot: u16) {
    let old = house.cluster.kill_primary_of(slot);
    house.cluster.wait_taken_over(slot, old);
    pace.more(20);
    house.cluster.nodes[old].restart();
    house.cluster.wait_follows(old);
}

/// With two replicas of each primary and one of them enough, everybody is answered while the dead one is away.
#[test]
fn race_29_a_second_replica_confirms_after_a_failover() {
    if is_missing() {
        return;
    }
    let mut house = House::open_with(2, &["--redis-replicas", "1"]);
    let mut game = Game::open(&house);
    game.cycle(&mut house, "a primary with two replicas is killed", |house, pace| {
        let (slot, mut client) = (slots_of(0, 3).0, house.client(0));
        let old = house.cluster.kill_primary_of(slot);
        house.cluster.wait_taken_over(slot, old);
        // Every wallet's balance is confirmed where it lies, without the one that is away.
        for number in 0..USERS {
            let wallet = client.ask(&Ask::get(format!("/v1/wallets/{}", user(number))));
            assert_eq!(wallet.status, 200, "{wallet:?}");
        }
        pace.more(50);
        assert!(!house.cluster.nodes[old].runs(), "nobody has come back meanwhile");
        house.cluster.nodes[old].restart();
        house.cluster.wait_follows(old);
    });
    game.end(house);
}

/// It wakes when another has its place, and has not heard of it.
pub fn pause_primary(house: &mut House, pace: &Pace<'_>, slot: u16) {
    let old = house.cluster.primary_of(slot);
    house.cluster.nodes[old].pause();
    house.cluster.wait_taken_over(slot, old);
    pace.more(20);
    house.cluster.nodes[old].resume();
    house.cluster.wait_follows(old);
}

/// Race 31: scripts are sent again, redirections followed, refusals waited out.
#[test]
fn race_31_scripts_are_flushed_slots_move_and_roles_change() {
    if is_missing() {
        return;
    }
    let mut house = House::open();
    let mut game = Game::open(&house);
    for _ in 0..number_of("ROUNDS", 1) {
        game.cycle(&mut house, "scripts are flushed", |house, pace| {
            for _ in 0..5 {
                house.cluster.nodes.iter().for_each(|node| assert_eq!(node.cli(&["SCRIPT", "FLUSH"]), "OK"));
                pace.more(20);
            }
        });
        game.cycle(&mut house, "slots move by hand", |house, pace| {
            for slot in slots_of_players(house) {
                let from = house.cluster.primary_of(slot);
                let others = (0..3).filter(|&index| house.cluster.primary_of(slots_of(index, 3).0) != from);
                let to = others.map(|index| house.cluster.primary_of(slots_of(index, 3).0)).next().unwrap();
                house.cluster.move_slot(slot, to, Duration::from_millis(5));
                pace.more(20);
                house.cluster.move_slot(slot, from, Duration::ZERO);
                pace.more(20);
            }
        });
        game.cycle(&mut house, "slots move by redis-cli --cluster reshard", |house, pace| {
            let (from, to) = (house.cluster.primary_of(0), house.cluster.primary_of(slots_of(1, 3).0));
            house.cluster.reshard(400, from, to);
            pace.more(20);
            house.cluster.reshard(400, to, from);
        });
        game.cycle(&mut house, "primaries hand over to their replicas", |house, pace| {
            for (first, replica) in [(0, 3), (1, 4), (1, 1), (0, 0)] {
                house.cluster.hand_over(slots_of(first, 3).0, replica);
                pace.more(20);
            }
        });
        let errors: String = house.cluster.nodes.iter().map(|node| node.cli(&["INFO", "errorstats"])).collect();
        for error in ["NOSCRIPT", "MOVED", "ASK"] {
            assert!(errors.contains(&format!("errorstat_{error}")), "{error} never happened: {errors}");
        }
        game.cycle(&mut house, "all Redis servers are killed and come back", |house, pace| {
            house.cluster.nodes.iter_mut().for_each(|node| node.kill9());
            pace.refusals(6);
            house.cluster.nodes.iter_mut().for_each(|node| node.restart());
            house.cluster.wait_ok();
        });
    }
    game.end(house);
}

/// The slots of a few wallets that everybody plays with.
fn slots_of_players(house: &House) -> Vec<u16> {
    let mut slots: Vec<u16> = Vec::new();
    for node in house.cluster.nodes.iter().take(3) {
        let wallets = node.cli(&["--scan", "--pattern", "hb:*:wallet:u*"]);
        let slot = |key: &str| node.cli(&["CLUSTER", "KEYSLOT", key]).parse::<u16>().ok();
        slots.extend(wallets.lines().take(1).filter_map(slot));
    }
    assert!(!slots.is_empty(), "there are wallets");
    slots
}

/// Servers keep nothing: whoever is left answers what the other was asked.
#[test]
fn servers_are_killed_and_started_again() {
    if is_missing() {
        return;
    }
    let mut house = House::open();
    let mut game = Game::open(&house);
    for _ in 0..number_of("ROUNDS", 1) {
        for server in 0..SERVERS {
            game.cycle(&mut house, "a server is killed", |house, pace| {
                house.kill_server(server);
                pace.more(100);
                house.start_server(server);
                pace.more(100);
            });
        }
        game.cycle(&mut house, "servers fall asleep and wake", |house, pace| {
            for nth in 0..4 {
                house.server(nth % SERVERS).signal(Signal::STOP);
                // Long enough for the other to look for what is left lying.
                std::thread::sleep(Duration::from_millis(1500));
                house.server(nth % SERVERS).signal(Signal::CONT);
                pace.more(30);
            }
        });
        game.cycle(&mut house, "a server and a primary are killed at once", |house, pace| {
            let slot = slots_of(1, 3).0;
            let old = house.cluster.kill_primary_of(slot);
            house.kill_server(0);
            house.cluster.wait_taken_over(slot, old);
            pace.more(20);
            house.cluster.nodes[old].restart();
            house.cluster.wait_follows(old);
            house.start_server(0);
        });
    }
    game.end(house);
}
