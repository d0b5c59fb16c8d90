//! Decisions that travel together: each is decided for itself, whatever becomes
//! of the others in its run.

use crate::deployment::{Deployment, is_missing};
use crate::races::Two;
use crate::redis_stand::{RedisServer, ServerOptions};
use crate::stand::{envelope, fen, item, user};
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, OnceKey, Page, Reply};
use hongbao_engine::command::*;
use hongbao_engine::types::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Two engines, and their server. `None` if there is none and that is all right.
fn two_alone(seed: u64) -> Option<(Two, Arc<RedisServer>)> {
    if is_missing() {
        return None;
    }
    let server = Arc::new(RedisServer::start(ServerOptions::without_aof()));
    Some((Two::over(Deployment::alone_on(seed, &server)), server))
}

fn grab(envelope: EnvelopeId, name: &str) -> Command {
    Command::Grab { envelope, user: user(name) }
}

/// How many commands each run of a script took.
fn commands_a_run(server: &RedisServer, commands: usize) -> f64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let runs = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next());
    commands as f64 / runs.and_then(|runs| runs.parse::<f64>().ok()).expect("scripts have run")
}

#[test]
fn many_callers_and_repeats_on_one_envelope() {
    let on_one = two_alone(41).map(|(two, _)| two);
    let on_cluster = (!is_missing()).then(|| Two::over(Deployment::on_cluster(41)));
    for two in on_one.into_iter().chain(on_cluster) {
        for auto_claim in [false, true] {
            let id = two.give(NewEnvelope { auto_claim, ..envelope(6000, 60) });
            let name = |n: usize| format!("{auto_claim}{}", n % 100);
            let outcomes = two.all_at_once((0..400).map(|n| grab(id, &name(n))).collect());
            let mut wins: HashMap<String, (u32, u64)> = HashMap::new();
            let mut fresh = 0;
            for (n, outcome) in outcomes.iter().enumerate() {
                match outcome {
                    Outcome::Won { share, amount, replayed, .. } => {
                        fresh += u32::from(!replayed);
                        let won = (*share, amount.minor());
                        assert_eq!(*wins.entry(name(n)).or_insert(won), won, "a user is told the same each time");
                    }
                    Outcome::SoldOut => {}
                    other => panic!("{other:?}"),
                }
            }
            let mut shares: Vec<_> = wins.values().map(|(share, _)| *share).collect();
            shares.sort_unstable();
            assert_eq!((fresh, shares), (60, (0..60).collect()), "each share once");
            assert_eq!(wins.values().map(|(_, amount)| amount).sum::<u64>(), 6000);
            let all = Page { limit: 10, cursor: None };
            for (name, (share, amount)) in &wins {
                let received = two.deployment.drive(two.engines[1].received(&user(name), &all)).expect("a read").rows;
                assert_eq!(received.iter().map(|row| row.grab.share).collect::<Vec<_>>(), [*share]);
                assert_eq!(two.available(name), if auto_claim { *amount } else { 0 });
            }
        }
        two.assert_clean();
    }
}

#[test]
fn a_batch_is_decided_in_order() {
    let on_one = two_alone(47).map(|(two, _)| two);
    let on_cluster = (!is_missing()).then(|| Two::over(Deployment::on_cluster(47)));
    for two in on_one.into_iter().chain(on_cluster) {
        let (first, other) = (two.give(envelope(1300, 130)), two.give(envelope(50, 50)));
        // Each user twice in a row, and now and then another envelope's grab in between.
        let mut commands = Vec::new();
        for n in 0..200 {
            commands.extend([grab(first, &format!("u{}", n / 2)), grab(first, &format!("v{n}"))]);
            if n % 5 == 0 {
                commands.push(grab(other, &format!("u{n}")));
            }
        }
        let replies = two.deployment.drive(two.engines[0].execute_all(commands.clone()));
        let mut winners: HashMap<EnvelopeId, Vec<UserId>> = HashMap::new();
        for (command, reply) in commands.into_iter().zip(replies) {
            let Command::Grab { envelope, user } = command else { unreachable!("only grabs were asked for") };
            let winners = winners.entry(envelope).or_default();
            let expected = winners.iter().position(|winner| *winner == user);
            match reply.expect("it is answered").outcome {
                Outcome::Won { share, replayed, .. } => {
                    assert_eq!(expected.unwrap_or(winners.len()), share as usize, "whoever comes first is first");
                    assert_eq!(replayed, expected.is_some());
                    if !replayed {
                        winners.push(user);
                    }
                }
                Outcome::SoldOut => assert!(expected.is_none() && winners.len() == 130),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((winners[&first].len(), winners[&other].len()), (130, 40));
        // A mass envelope has a share for everybody, each in a pool.
        let mass = two.give(envelope(600, 600));
        let batch: Vec<_> = (0..200).map(|n| grab(mass, &format!("w{}", n / 2))).collect();
        for (n, reply) in two.deployment.drive(two.engines[0].execute_all(batch)).into_iter().enumerate() {
            let outcome = reply.expect("it is answered").outcome;
            assert!(matches!(outcome, Outcome::Won { replayed, .. } if replayed == (n % 2 == 1)), "{n}: {outcome:?}");
        }
        two.assert_clean();
    }
}

#[test]
fn decisions_of_all_kinds_travel_together() {
    let Some((two, server)) = two_alone(42) else { return };
    let (shared, sold) = (two.give(envelope(1000, 300)), two.sell(item(300)));
    let names: Vec<String> = (0..300).map(|n| format!("u{n}")).collect();
    for command in [
        |name: &str, _, _| Command::Deposit(Transfer { user: user(name), amount: fen(1), reference: None }),
        |name: &str, envelope, _| Command::Grab { envelope, user: user(name) },
        |name: &str, envelope, _| Command::Claim { envelope, user: user(name) },
        |name: &str, _, item| Command::GrabItem { item, user: user(name), quantity: 1 },
    ] as [fn(&str, EnvelopeId, ItemId) -> Command; 4]
    {
        server.cli(&["CONFIG", "RESETSTAT"]);
        let commands: Vec<_> = names.iter().map(|name| command(name, shared, sold)).collect();
        let what = format!("{:?}", commands[0]);
        two.all_at_once(commands);
        let together = commands_a_run(&server, names.len());
        assert!(together > 2.0, "{together} commands a run: {what}");
    }
    two.assert_clean();
}

/// Everybody's holds are due, and everybody wants units again: under keys, so
/// that each is told the same again.
#[test]
fn due_holds_end_in_the_lane_that_needs_their_units() {
    let Some((two, _server)) = two_alone(46) else { return };
    let id = two.sell(NewItem { per_user_limit: Some(2), hold_ttl_s: 100, ..item(120) });
    let wanted = |round: u32, users: u32| -> Vec<_> {
        let one = |n: u32| {
            let once = OnceKey::idempotency("app", "grabs", &format!("{round}.{n}"));
            (Command::GrabItem { item: id, user: user(&format!("u{}", n / 2)), quantity: 1 }, Some(once))
        };
        (0..2 * users).map(one).collect()
    };
    for round in 0..3 {
        let replies = two.at_once(wanted(round, 60));
        let told: Vec<_> = replies.into_iter().map(|reply| reply.expect("it is answered").outcome).collect();
        let held: Vec<_> = told.iter().filter(|told| matches!(told, Outcome::Held { .. })).collect();
        assert_eq!(held.len(), 120, "each unit is held, and no due hold is in the way: {told:?}");
        assert_eq!(two.stock(id), Stock { total: 120, free: 0, held: 120, sold: 0 });
        for (told, again) in told.iter().zip(two.at_once(wanted(round, 60))) {
            let again = again.expect("it is answered").outcome;
            if matches!(told, Outcome::Held { .. }) {
                assert_eq!(again, *told);
            }
        }
        two.ask(Command::AdvanceClock { by_s: 100 });
    }
}

/// Puts something else where a script expects its own, and takes it away again.
fn with_damaged<T>(server: &RedisServer, key_ends_with: &str, work: impl FnOnce() -> T) -> T {
    let found = server.cli(&["KEYS", &format!("*{key_ends_with}")]);
    assert!(!found.is_empty() && found.lines().count() == 1, "one key ends with {key_ends_with}: {found}");
    assert_eq!(server.cli(&["RENAME", &found, "set aside"]), "OK");
    assert_eq!(server.cli(&["SET", &found, "damaged"]), "OK");
    let done = work();
    assert_eq!(server.cli(&["RENAME", "set aside", &found]), "OK");
    done
}

#[test]
fn a_damaged_wallet_is_paid_whole_or_not_at_all() {
    if is_missing() {
        return;
    }
    for in_pools in [false, true] {
        let server = Arc::new(RedisServer::start(ServerOptions::without_aof()));
        let deployment = Deployment::alone_on(45, &server);
        let two = Two::over(if in_pools { deployment.with_pools(4) } else { deployment });
        two.ask(Command::Deposit(Transfer { user: user("u7"), amount: fen(1), reference: None }));
        let wallet = server.cli(&["KEYS", "*:wallet:u7"]);
        for field in ["rows", "available"] {
            let id = two.give(NewEnvelope { auto_claim: true, ..envelope(100, 2) });
            let sound = server.cli(&["HGET", &wallet, field]);
            server.cli(&["HSET", &wallet, field, "x"]);
            for _ in 0..2 {
                two.at_once(vec![(grab(id, "u7"), None)])[0].as_ref().expect_err("its wallet cannot be read");
            }
            server.cli(&["HSET", &wallet, field, &sound]);
            let before = two.deployment.drive(two.engines[0].wallet(&user("u7"))).expect("a read").available;
            let Outcome::Won { amount, replayed: false, .. } = two.ask(grab(id, "u7")) else { panic!("no win") };
            let after = two.deployment.drive(two.engines[0].wallet(&user("u7"))).expect("a read").available;
            assert_eq!(after, before + amount, "{field}, in pools {in_pools}");
        }
        let audit = two.deployment.drive(two.engines[0].audit()).expect("a read");
        assert!(audit.balanced() && audit.in_flight == 0, "{audit:?}");
    }
}

#[test]
fn a_damaged_key_fails_its_own_call_and_no_other() {
    let Some((two, server)) = two_alone(43) else { return };
    // Makes the keys that are damaged then.
    let first = two.give(NewEnvelope { auto_claim: true, ..envelope(10, 1) });
    two.ask(grab(first, "u7"));
    for (auto_claim, damaged) in [(false, ":received:u7"), (true, ":received:u7"), (true, ":wallet:u7")] {
        let id = two.give(NewEnvelope { auto_claim, ..envelope(1000, 100) });
        let commands = || (0..64).map(|n| (grab(id, &format!("u{n}")), None)).collect();
        let replies = with_damaged(&server, damaged, || two.at_once(commands()));
        for (n, reply) in replies.iter().enumerate() {
            match reply {
                Ok(reply) => assert!(n != 7 && matches!(reply.outcome, Outcome::Won { replayed: false, .. }), "{n}"),
                Err(EngineError::Backend(why)) => assert!(n == 7 && why.contains("WRONGTYPE"), "{n}: {why}"),
                Err(other) => panic!("{other}"),
            }
        }
        let view = two.deployment.drive(two.engines[0].envelope(id)).expect("a read").expect("it is there");
        assert_eq!(view.remaining_shares, 100 - 63, "nothing was half done for u7");
        let batch: Vec<_> = (0..64).map(|n| grab(id, &format!("u{n}"))).collect();
        let again = with_damaged(&server, damaged, || two.deployment.drive(two.engines[0].execute_all(batch)));
        let failed: Vec<_> = (0..64).filter(|&n| again[n].is_err()).collect();
        assert_eq!(failed, [7], "the same in a batch");
        two.assert_clean();
        assert!(matches!(two.ask(grab(id, "u7")), Outcome::Won { replayed: false, share: 63, .. }));
        two.assert_clean();
    }
    let deposit = |n| Command::Deposit(Transfer { user: user(&format!("u{n}")), amount: fen(1), reference: None });
    let commands = (0..64).map(|n| (deposit(n), None)).collect();
    let replies = with_damaged(&server, ":wallet:u7", || two.at_once(commands));
    let failed: Vec<_> = (0..64).filter(|&n| replies[n].is_err()).collect();
    assert_eq!(failed, [7]);
    two.assert_clean();
}

/// Grabs from one envelope after the other, by everybody, while `trouble` is
/// made. Who is told that it was not carried out, or may not have been, asks
/// again. Everything that was told is true afterwards.
fn in_spite_of(seed: u64, trouble: impl Fn(&RedisServer) + Send + 'static) {
    let Some((two, server)) = two_alone(seed) else { return };
    let done = Arc::new(AtomicBool::new(false));
    let maker = {
        let (server, done) = (Arc::clone(&server), Arc::clone(&done));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                trouble(&server);
            }
        })
    };
    let mut refused = 0;
    for round in 0..12 {
        let terms = NewEnvelope { auto_claim: round % 2 == 1, ..envelope(2000, 200) };
        let id = loop {
            let made = two.deployment.drive(async {
                let deposit = Transfer { user: user("alice"), amount: fen(2000), reference: None };
                two.engines[0].execute(Command::Deposit(deposit), None).await?;
                two.engines[0].execute(Command::CreateEnvelope(Box::new(terms.clone())), None).await
            });
            if let Ok(Reply { outcome: Outcome::Envelope(view), .. }) = made {
                break view.id;
            }
        };
        let mut told: Vec<Option<Outcome>> = vec![None; 250];
        while told.iter().any(Option::is_none) {
            let open: Vec<_> = (0..told.len()).filter(|&n| told[n].is_none()).collect();
            let commands = open.iter().map(|n| (grab(id, &format!("u{n}")), None)).collect();
            for (n, reply) in open.iter().zip(two.at_once(commands)) {
                match reply {
                    Ok(reply) => told[*n] = Some(reply.outcome),
                    Err(EngineError::NotReady(_) | EngineError::Unconfirmed(_)) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        let won = told.iter().flatten().filter(|told| matches!(told, Outcome::Won { .. })).count();
        assert_eq!(won, 200, "no share is lost and none is given twice");
    }
    done.store(true, Ordering::Relaxed);
    maker.join().expect("no panic");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    two.assert_clean();
    println!("{refused} calls were refused");
}

#[test]
fn race_31_scripts_are_forgotten_in_the_middle_of_lanes() {
    in_spite_of(44, |server| _ = server.cli(&["SCRIPT", "FLUSH"]));
}

#[test]
fn memory_is_full_in_the_middle_of_lanes() {
    in_spite_of(45, |server| {
        server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    });
}
