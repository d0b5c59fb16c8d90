//! Whoever follows the events while the server is killed again and again is
//! told every one of them, once and in order.

use crate::book::{Book, text};
use crate::client::{Ask, Client};
use crate::follower::{Followed, check_against_lists};
use crate::inquiry::{Down, ask_unanswered, let_all_end};
use crate::kill::{open_table, play};
use crate::load::Dice;
use crate::process::{KEY, Running, serve};
use serde_json::Value;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CYCLES: usize = 6;
/// Far more than the story advances the clock.
const KEPT: [&str; 2] = ["--events-kept-s", "31536000"];

#[test]
fn no_event_is_lost_doubled_or_out_of_order_over_kill_9() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_270_206);
    eprintln!("SEED={seed}");
    let mut dice = Dice(seed);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (mut server, mut address) = Running::ready(&mut serve(&data, &KEPT));
    let mut book = Book::default();
    let table = Mutex::new(open_table(address, &mut book));
    let (mut polled, mut streamed) = (Followed::default(), Followed::default());
    for cycle in 1..=CYCLES {
        book.cycle = cycle;
        let down = if cycle == 3 { Down::Stopped } else { Down::Killed };
        let after = Duration::from_millis(150 + dice.below(500));
        let diaries = std::thread::scope(|scope| {
            scope.spawn(|| polled.poll(address, true));
            scope.spawn(|| streamed.listen(address, &|_| false));
            play(server, address, &table, &mut dice, cycle, after, down)
        });
        let mut unanswered = Vec::new();
        for (ask, answer) in diaries.into_iter().flatten() {
            match answer {
                Some(answer) => book.learn(&ask, &answer),
                None => unanswered.push(ask),
            }
        }
        (server, address) = Running::ready(&mut serve(&data, &KEPT));
        ask_unanswered(&mut Client::new(address), &mut book, &unanswered, down);
    }
    let mut client = Client::new(address);
    let_all_end(&mut client, &mut book);
    polled.poll(address, false);
    let last = text(polled.events.last().unwrap(), "id");
    let is_last = |event: &Value| event["id"] == *last;
    if !streamed.events.last().is_some_and(is_last) {
        streamed.listen(address, &is_last);
    }
    let ids = |followed: &Followed| followed.events.iter().map(|event| text(event, "id")).collect::<Vec<_>>();
    assert_eq!(ids(&polled), ids(&streamed), "a stream and pages tell the same");
    assert_eq!(ids(&polled).iter().collect::<HashSet<_>>().len(), polled.events.len(), "nothing is told twice");
    let mut whole = Followed::default();
    whole.poll(address, false);
    assert_eq!(whole.events, polled.events, "and so does whoever comes last");
    check_against_lists(&mut client, &book, &polled.events);
    eprintln!("{} events of {} envelopes", polled.events.len(), book.envelopes.len());
    let (status, log) = server.stop();
    assert!(status.success(), "{status}:\n{log}");
}

/// Who waits is answered when the server stops, and a stream ends in order.
#[test]
fn followers_are_let_go_when_the_server_stops() {
    let directory = tempfile::tempdir().unwrap();
    let (server, address) = Running::ready(&mut serve(&directory.path().join("data"), &KEPT));
    let is_stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| {
            let mut stream = TcpStream::connect(address).unwrap();
            let head = format!(
                "GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\naccept: text/event-stream\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            let lines: Vec<_> = BufReader::new(stream).lines().map_while(Result::ok).collect();
            assert!(is_stopped.load(Ordering::Acquire), "not before");
            assert_eq!(lines[lines.len() - 2..], ["0", ""], "its last chunk came: {lines:?}");
        });
        let poll = scope.spawn(|| {
            let answer = Client::new(address).ask(&Ask::get("/v1/events?after=now&wait_s=55"));
            assert!(is_stopped.load(Ordering::Acquire), "not before");
            assert_eq!((answer.status, answer.json()["events"].as_array().unwrap().len()), (200, 0));
        });
        let mut client = Client::new(address);
        let followers = || client.ask(&Ask::get("/metrics")).body.lines().any(|line| line == "hongbao_event_readers 2");
        let mut followers = followers;
        while !followers() {
            std::thread::sleep(Duration::from_millis(5));
        }
        is_stopped.store(true, Ordering::Release);
        let (status, log) = server.stop();
        assert!(status.success() && !log.contains("were cut off"), "{status}:\n{log}");
        stream.join().unwrap();
        poll.join().unwrap();
    });
}

/// Whoever asks page by page and is not at the end is told of as behind, by a figure without names.
#[test]
fn a_follower_that_is_behind_is_seen_in_the_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, address) = Running::ready(&mut serve(&directory.path().join("data"), &KEPT));
    let mut client = Client::new(address);
    for nth in 0..3 {
        let body = serde_json::json!({ "amount": 1 });
        client.json(&Ask::post("/v1/wallets/bob/deposits", &body).with_key(format!("k{nth}")));
    }
    let mut lag_s = |asked: &str| -> f64 {
        client.json(&Ask::get(asked));
        let metrics = client.ask(&Ask::get("/metrics")).body;
        let line = metrics.lines().find_map(|line| line.strip_prefix("hongbao_event_lag_seconds "));
        line.expect("it is told").parse().unwrap()
    };
    assert!(lag_s("/v1/events?wait_s=0") <= 0.0, "all there is");
    assert!(lag_s("/v1/events?wait_s=0&limit=1") > 0.0, "two are left");
}
