//! The real server behind a proxy that changes some of what it says.
//!
//! **Invariant:** the server itself keeps every promise; each lie is the proxy's.

use crate::program::{Outcome, run};
use crate::real::{self, KEY};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};

/// What the proxy does to answers of grabs, and to what is told of gifts and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    /// Every 50th amount is one more.
    ChangesAmounts,
    /// Who won the 50th, 100th, ... share has never won when asked again.
    ForgetsWins,
    /// Somebody who came too late is told the win of somebody else.
    SellsTwice,
    /// Every 10th gift is told as one that was declined, once somebody looks at it.
    ChangesGifts,
    /// Every 10th gift is not there any more then.
    ForgetsGifts,
    /// Every 10th group is told with another state, once somebody looks at it.
    ChangesGroups,
    /// Every 10th group is not there any more then.
    ForgetsGroups,
    /// Every 10th group lacks its last member then: one of those who paid is not in it.
    DropsMembers,
    /// A merchant is told a fen less than it has.
    KeepsAFen,
}

#[derive(Default)]
struct Told {
    wins: u64,
    winners: HashSet<String>,
    forgotten: HashSet<String>,
    /// Who was told another's win, and the answer.
    twice: HashMap<String, Value>,
    last_win: Option<Value>,
    gifts_made: u64,
    /// Every 10th of them.
    gifts: HashSet<String>,
}

struct Proxy {
    lie: Lie,
    told: Mutex<Told>,
}

impl Proxy {
    /// The answer to a grab of `who`, as it is passed on.
    fn retell(&self, who: &str, mut answer: Value) -> Value {
        const EVERY: u64 = 50;
        let mut told = self.told.lock().unwrap();
        if self.lie == Lie::None {
            return answer;
        }
        if let Some(known) = told.twice.get(who) {
            let mut again = known.clone();
            again["replayed"] = json!(true);
            return again;
        }
        if self.lie == Lie::SellsTwice
            && answer["outcome"] == "sold_out"
            && told.twice.is_empty()
            && let Some(win) = told.last_win.clone()
        {
            told.twice.insert(who.to_owned(), win.clone());
            return win;
        }
        if answer["outcome"] != "won" {
            return answer;
        }
        if told.forgotten.contains(who) && !told.winners.insert(who.to_owned()) {
            return json!({"outcome": "sold_out"});
        }
        told.winners.insert(who.to_owned());
        told.wins += 1;
        let is_chosen = told.wins.is_multiple_of(EVERY);
        if self.lie == Lie::ForgetsWins && is_chosen && answer["replayed"] == false {
            told.forgotten.insert(who.to_owned());
        }
        if self.lie == Lie::ChangesAmounts && is_chosen {
            answer["amount"] = json!(answer["amount"].as_u64().unwrap() + 1);
        }
        told.last_win = Some(answer.clone());
        answer
    }
}

impl Proxy {
    /// Notes which gifts are made, and which groups are opened.
    fn note_gift(&self, answer: &Value) {
        let mut told = self.told.lock().unwrap();
        told.gifts_made += 1;
        if told.gifts_made.is_multiple_of(10) {
            told.gifts.insert(answer["id"].as_str().unwrap().to_owned());
        }
    }

    /// What is told of a gift that somebody looks at, if it is another answer: its status, and its body.
    fn retell_gift(&self, id: &str, mut answer: Value) -> Option<(StatusCode, Value)> {
        if !self.told.lock().unwrap().gifts.contains(id) {
            return None;
        }
        match self.lie {
            Lie::ChangesGifts => {
                answer["state"] = json!(if answer["state"] == "declined" { "delivered" } else { "declined" });
                Some((StatusCode::OK, answer))
            }
            Lie::ChangesGroups => {
                answer["state"] = json!(if answer["state"] == "full" { "expired" } else { "full" });
                Some((StatusCode::OK, answer))
            }
            Lie::DropsMembers => {
                answer["joined"].as_array_mut().unwrap().pop();
                Some((StatusCode::OK, answer))
            }
            Lie::ForgetsGifts | Lie::ForgetsGroups => {
                let problem = json!({"code": "not_found", "title": "Not Found", "detail": "There is nothing here."});
                Some((StatusCode::NOT_FOUND, problem))
            }
            _ => None,
        }
    }
}

/// Passes on everything between this program's clients and the server. Ends with the runtime.
async fn accept(proxy: Arc<Proxy>, listener: TcpListener, server: SocketAddr) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let upstream = TcpStream::connect(server).await.unwrap();
            upstream.set_nodelay(true).unwrap();
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(upstream)).await.unwrap();
            tokio::spawn(connection);
            let sender = Arc::new(tokio::sync::Mutex::new(sender));
            let service =
                hyper::service::service_fn(move |request| pass(Arc::clone(&proxy), Arc::clone(&sender), request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn pass(
    proxy: Arc<Proxy>,
    sender: Arc<tokio::sync::Mutex<SendRequest<Full<Bytes>>>>,
    request: Request<Incoming>,
) -> hyper::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let is_get = parts.method == Method::GET;
    let body = body.collect().await?.to_bytes();
    let path = parts.uri.path().to_owned();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut sender = sender.lock().await;
    sender.ready().await?;
    let (mut head, answer) = sender.send_request(Request::from_parts(parts, Full::from(body))).await?.into_parts();
    let answer = answer.collect().await?.to_bytes();
    let name = |envelope: &str, user: &Value| format!("{envelope} {user}");
    let told = match path.split('/').collect::<Vec<_>>()[..] {
        ["", "v1", "envelopes", id, "grab"] if head.status == 200 => {
            let answer = serde_json::from_slice(&answer).unwrap();
            Some(proxy.retell(&name(id, &asked["user"]), answer))
        }
        ["", "v1", "grabs"] if head.status == 200 => {
            let mut answer: Value = serde_json::from_slice(&answer).unwrap();
            let results = answer["results"].as_array_mut().unwrap();
            for (result, grab) in results.iter_mut().zip(asked["grabs"].as_array().unwrap()) {
                let who = name(grab["envelope"].as_str().unwrap(), &grab["user"]);
                *result = proxy.retell(&who, result.take());
            }
            Some(answer)
        }
        ["", "v1", "gifts"] | ["", "v1", "items", _, "groups"] if head.status == 201 => {
            proxy.note_gift(&serde_json::from_slice(&answer).unwrap());
            None
        }
        ["", "v1", "gifts" | "groups", id] if is_get && head.status == 200 => {
            let retold = proxy.retell_gift(id, serde_json::from_slice(&answer).unwrap());
            retold.map(|(status, answer)| {
                head.status = status;
                answer
            })
        }
        ["", "v1", "merchants", _, "balance"] if proxy.lie == Lie::KeepsAFen && head.status == 200 => {
            let mut answer: Value = serde_json::from_slice(&answer).unwrap();
            let of = if answer["available"] == 0 { "pending" } else { "available" };
            answer[of] = json!(answer[of].as_u64().unwrap() - 1);
            Some(answer)
        }
        _ => None,
    };
    let Some(told) = told else { return Ok(Response::from_parts(head, Full::from(answer))) };
    head.headers.remove("content-length");
    Ok(Response::from_parts(head, Full::from(told.to_string())))
}

/// Runs against a server through a proxy that lies so.
fn run_through(server: SocketAddr, lie: Lie, arguments: &[&str]) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let proxy = Arc::new(Proxy { lie, told: Mutex::default() });
    runtime.spawn(accept(proxy, listener, server));
    run(&url, &[arguments, &["--key", KEY]].concat())
}

#[test]
fn every_lie_about_a_real_server_is_caught() {
    let real = real::start(&["--test"]);
    let hot = ["hot", "--shares", "500", "--users", "1500", "--rate", "1000", "--duration", "1500ms"];
    let gifts = ["gifts", "--rate", "400", "--duration", "1500ms"];
    let together = ["group-buy", "--rate", "400", "--duration", "1500ms"];
    for (lie, arguments, code, words) in [
        (Lie::None, &hot[..], 0, "audit      ok"),
        (Lie::ChangesAmounts, &hot, 1, "the win changed when asked again"),
        (Lie::ForgetsWins, &hot, 1, "an acknowledged win was forgotten"),
        (Lie::SellsTwice, &hot, 1, "was sold twice: to u"),
        (Lie::None, &gifts, 0, "audit      ok"),
        (Lie::ChangesGifts, &gifts, 1, "the gift's state changed"),
        (Lie::ForgetsGifts, &gifts, 1, "an acknowledged gift was forgotten"),
        (Lie::KeepsAFen, &gifts, 1, "merchant m"),
        (Lie::None, &together, 0, "audit      ok"),
        (Lie::ChangesGroups, &together, 1, "the group changed"),
        (Lie::ForgetsGroups, &together, 1, "an acknowledged group was forgotten"),
        (Lie::DropsMembers, &together, 1, "the group changed"),
        (Lie::KeepsAFen, &together, 1, "merchant m"),
    ] {
        let done = run_through(real.address, lie, arguments);
        assert_eq!(done.code, Some(code), "{lie:?}: {}", done.tell());
        assert_eq!(done.summary["audit"]["ok"], code == 0, "{lie:?}: {}", done.tell());
        assert!(done.stdout.contains(words), "{lie:?}: no '{words}' in {}", done.tell());
        assert_eq!(done.summary["money"]["test_mode"], true, "{lie:?}");
    }
}
