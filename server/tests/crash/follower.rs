//! Whoever follows the events, over whatever happens to the server, and whether
//! what it was told is what lists tell.

use crate::book::{Book, text};
use crate::client::{Ask, Client};
use crate::process::KEY;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

/// All types.
pub const TYPES: &str = "envelope.*,share.*,wallet.*,item.*,hold.*,order.*";

/// What somebody was told, and where to go on.
#[derive(Default)]
pub struct Followed {
    pub events: Vec<Value>,
    cursor: String,
}

impl Followed {
    /// Asks page by page until the server is gone, or has no more if it is not.
    pub fn poll(&mut self, address: SocketAddr, waits: bool) {
        let mut client = Client::new(address);
        while let Some(status) = self.ask(&mut client, if waits { 20 } else { 0 }) {
            assert!(status == 200 || status == 204, "{status}");
            if status == 204 && !waits {
                return;
            }
        }
    }

    /// Asks for a page: the answer's status, 204 if there is nothing more yet, or nothing without an answer.
    pub fn ask(&mut self, client: &mut Client, wait_s: u64) -> Option<u16> {
        let (cursor, limit) = (&self.cursor, 1 + self.events.len() % 300);
        let path = format!("/v1/events?after={cursor}&types={TYPES}&limit={limit}&wait_s={wait_s}");
        let path = path.replace("after=&", "after=oldest&");
        let answer = client.send(&Ask::get(path)).ok()?;
        if answer.status != 200 {
            return Some(answer.status);
        }
        let mut page = answer.json();
        self.cursor = text(&page, "next_cursor");
        let events = page["events"].as_array_mut().unwrap();
        let is_empty = events.is_empty();
        self.events.append(events);
        Some(if is_empty { 204 } else { 200 })
    }

    /// Listens to a stream until the server is gone, or `enough`.
    pub fn listen(&mut self, address: SocketAddr, enough: &dyn Fn(&Value) -> bool) {
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

/// Whether what was told is what lists tell, envelope by envelope.
pub fn check_against_lists(client: &mut Client, book: &Book, events: &[Value]) {
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
