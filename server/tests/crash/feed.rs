//! Whoever follows the events while the server is killed again and again is
//! told every one of them, once and in order.

use crate::book::{Book, text};
use crate::client::{Ask, Client};
use crate::inquiry::{Down, ask_unanswered, let_all_end};
use crate::kill::{open_table, play};
use crate::load::Dice;
use crate::process::{KEY, Running, serve};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CYCLES: usize = 6;
const TYPES: &str = "envelope.*,share.*,wallet.*,item.*,hold.*,order.*";
/// Far more than the story advances the clock.
const KEPT: [&str; 2] = ["--events-kept-s", "31536000"];

/// What somebody was told, and where to go on.
#[derive(Default)]
struct Followed {
    events: Vec<Value>,
    cursor: String,
}

impl Followed {
    /// Asks page by page until the server is gone, or has no more if it is not.
    fn poll(&mut self, address: SocketAddr, waits: bool) {
        let mut client = Client::new(address);
        loop {
            let wait_s = if waits { 20 } else { 0 };
            let (cursor, limit) = (&self.cursor, 1 + self.events.len() % 300);
            let path = format!("/v1/events?after={cursor}&types={TYPES}&limit={limit}&wait_s={wait_s}");
            let path = path.replace("after=&", "after=oldest&");
            let Ok(answer) = client.send(&Ask::get(path)) else { return };
            assert_eq!(answer.status, 200, "{answer:?}");
            let mut page = answer.json();
            self.cursor = text(&page, "next_cursor");
            let events = page["events"].as_array_mut().unwrap();
            if events.is_empty() && !waits {
                return;
            }
            self.events.append(events);
        }
    }

    /// Listens to a stream until the server is gone, or `enough`.
    fn listen(&mut self, address: SocketAddr, enough: &dyn Fn(&Value) -> bool) {
        let Ok(mut stream) = TcpStream::connect(address) else { return };
        let last = if self.cursor.is_empty() { String::new() } else { format!("last-event-id: {}\r\n", self.cursor) };
        let head = format!(
            "GET /v1/events?types={TYPES} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
             accept: text/event-stream\r\n{last}\r\n"
        );
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
        let (mut id, mut data) = (None, None);
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8(line).unwrap();
            let line = line.trim_end();
            if let Some(text) = line.strip_prefix("id: ") {
                id = Some(text.to_owned());
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = serde_json::from_str::<Value>(text).ok();
            } else if line.is_empty() {
                // What is not whole when the server dies is told again.
                let is_enough = data.as_ref().is_some_and(enough);
                if let Some(id) = id.take() {
                    self.cursor = id;
                    self.events.extend(data.take());
                }
                if is_enough {
                    return;
                }
            }
        }
    }
}

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

/// Whether what was told is what lists tell, envelope by envelope.
fn check_against_lists(client: &mut Client, book: &Book, events: &[Value]) {
    let mut of_envelope: HashMap<&str, Vec<&Value>> = HashMap::new();
    for event in events {
        let kind = event["type"].as_str().unwrap();
        let id = match kind.split('.').next() {
            Some("envelope") => &event["data"]["id"],
            Some("share") => &event["data"]["envelope"],
            _ => continue,
        };
        of_envelope.entry(id.as_str().unwrap()).or_default().push(event);
    }
    assert!(book.envelopes.keys().all(|id| of_envelope.contains_key(&**id)), "every envelope is told of");
    for (id, told) in of_envelope {
        let view = client.json(&Ask::get(format!("/v1/envelopes/{id}")));
        let names: Vec<_> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let count = |name: &str| names.iter().filter(|it| **it == name).count();
        assert_eq!((names[0], names[names.len() - 1]), ("envelope.created", "envelope.settled"), "{names:?}");
        let ended = format!("envelope.{}", text(&view, "ended_as"));
        assert_eq!((count("envelope.created"), count(&ended), count("envelope.settled")), (1, 1, 1), "{names:?}");
        let mut path = format!("/v1/envelopes/{id}/grabs?limit=1000");
        let mut listed = HashMap::new();
        loop {
            let page = client.json(&Ask::get(&path));
            for row in page["grabs"].as_array().unwrap() {
                listed.insert(text(row, "user"), row.clone());
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/envelopes/{id}/grabs?limit=1000&cursor={next}");
        }
        assert_eq!(count("share.grabbed"), listed.len(), "{names:?}");
        assert_eq!(count("share.claimed"), listed.values().filter(|row| !row["claimed_at"].is_null()).count());
        for event in told {
            let data = &event["data"];
            let fields = match event["type"].as_str().unwrap() {
                "share.grabbed" => &["share", "amount", "grabbed_at"][..],
                "share.claimed" => &["share", "amount", "grabbed_at", "claimed_at"][..],
                _ => continue,
            };
            let row = &listed[data["user"].as_str().unwrap()];
            fields.iter().for_each(|field| assert_eq!(data[field], row[field], "{field} of {event} and {row}"));
        }
    }
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
