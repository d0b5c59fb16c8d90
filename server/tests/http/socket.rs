//! On a real socket: peers that are slow, silent, many or gone, and the end.

use crate::fake::*;
use hongbao_server::app::{Setup, app};
use hongbao_server::metrics::Metrics;
use hongbao_server::serve::{Limits, listen, listen_on_first, serve};
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A server on a port of its own.
struct Live {
    address: SocketAddr,
    fake: Arc<Fake>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    done: JoinHandle<std::io::Result<()>>,
}

fn limits() -> Limits {
    Limits { connections_max: 3000, head_timeout: Duration::from_millis(500), ..Limits::default() }
}

impl Live {
    fn start(limits: Limits) -> Live {
        Live::with_body_timeout(limits, Duration::from_millis(500))
    }

    fn with_body_timeout(limits: Limits, body_timeout: Duration) -> Live {
        let site = Site::with(&Setup { in_flight_max: 100, body_timeout, test: limits.is_test, ..setup() });
        let listeners = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let stop = CancellationToken::new();
        let metrics = site.server.metrics.clone();
        let done = tokio::spawn(serve(app(site.server), listeners, limits, metrics.clone(), stop.clone()));
        Live { address, fake: site.fake, metrics, stop, done }
    }

    /// Waits until the metrics tell of so many open connections.
    async fn until_open(&self, connections: usize) {
        self.until_told("hongbao_http_connections_open", connections).await;
    }

    /// Waits until the metrics tell of so many requests in flight.
    async fn until_in_flight(&self, requests: usize) {
        self.until_told("hongbao_http_in_flight", requests).await;
    }

    /// Waits until nobody listens any more.
    async fn until_deaf(&self) {
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_told(&self, metric: &str, count: usize) {
        let line = format!("{metric} {count}");
        let told = async {
            while !self.metrics.render().lines().any(|it| it == line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(5), told).await;
        told.unwrap_or_else(|_| panic!("no {line} in\n{}", self.metrics.render()));
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// One request on a connection of its own, answered within a second.
    async fn is_well(&self) {
        let ask = async {
            let mut stream = self.connect().await;
            stream.write_all(grab("close").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = tokio::time::timeout(Duration::from_secs(1), ask).await.expect("an answer within a second");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"outcome":"sold_out"}"#), "{answer}");
    }
}

fn grab(connection: &str) -> String {
    let body = r#"{"user":"bob"}"#;
    format!(
        "POST /v1/envelopes/{}/grab HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: {connection}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        envelope_id(1),
        body.len()
    )
}

/// What the server sends until it closes, and after how long it does.
async fn until_closed(mut stream: TcpStream) -> (String, Duration) {
    let start = Instant::now();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    closed.expect("the server ends this within five seconds").ok();
    (String::from_utf8_lossy(&answer).into_owned(), start.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_behind_a_request_do_not_hold_back_its_answer() {
    let live = Live::start(Limits { head_timeout: Duration::from_secs(20), ..limits() });
    let whole = grab("keep-alive");
    for (sent, status, what) in [
        (format!("{whole}\r\n"), "HTTP/1.1 200", "an empty line, as old clients send"),
        (format!("{whole}POST /v1"), "HTTP/1.1 200", "the start of the next one"),
        (format!("{whole}no request\r\n\r\nand more"), "HTTP/1.1 200", "what is no request"),
        ("GET / HTTP/1.1\r\ncontent-length: x\r\n\r\nand more".to_owned(), "HTTP/1.1 400", "a head that is wrong"),
    ] {
        let mut stream = live.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await;
        read.expect(what).expect(what);
        assert_eq!(String::from_utf8_lossy(&answer), status, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_was_carried_out_and_asked_again_is_told() {
    let live = Live::start(Limits { is_test: true, ..limits() });
    let body = r#"{"fault":"lose_reply","count":1}"#;
    let plant = format!(
        "POST /v1/test/faults HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = live.connect().await;
    stream.write_all(plant.as_bytes()).await.unwrap();
    let (answer, _) = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut stream = live.connect().await;
    stream.write_all(grab("keep-alive").as_bytes()).await.unwrap();
    let (answer, _) = until_closed(stream).await;
    assert_eq!(answer, "", "the connection ends without a word");
    assert_eq!(live.fake.commands().len(), 1, "and the grab was carried out");
    live.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_peers_are_ended_and_stop_nobody() {
    let live = Live::start(limits());
    let head = "POST /v1/envelopes HTTP/1.1\r\nhost: x\r\n";
    let whole = grab("keep-alive");
    for (sent, answer, what) in [
        ("", "", "a silent one"),
        (head, "", "half a head"),
        (&whole[..whole.len() - 3], "HTTP/1.1 408", "half a body"),
        (&whole, "HTTP/1.1 200", "one that idles after its answer"),
    ] {
        let mut slow = live.connect().await;
        slow.write_all(sent.as_bytes()).await.unwrap();
        live.is_well().await;
        let (text, after) = until_closed(slow).await;
        assert!(text.starts_with(answer) && (answer.is_empty() == text.is_empty()), "{what}: {text}");
        assert!(after > Duration::from_millis(200) && after < Duration::from_secs(3), "{what}: {after:?}");
    }
    let mut trickling = live.connect().await;
    let trickle = async {
        for byte in head.bytes().cycle() {
            if trickling.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), trickle).await.expect("a trickling head is ended");
    live.is_well().await;
}

/// A list is read from the store and made to text before its first byte is sent.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_its_lists_has_no_place_in_flight_and_is_ended() {
    const PLENTY: usize = 100_000;
    let live = Live::start(Limits { write_timeout: Duration::from_secs(1), ..limits() });
    let (unread, mut asking) = live.connect().await.into_split();
    let list = format!("GET /v1/wallets/bob/entries HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n");
    let asked = tokio::spawn(async move { asking.write_all(list.repeat(PLENTY).as_bytes()).await });
    let answered = || {
        let text = live.metrics.render();
        let lines = text.lines().filter(|line| line.starts_with("hongbao_http_requests_total"));
        let list = lines.filter(|line| line.contains("entries") && line.contains("2xx"));
        list.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum::<usize>()
    };
    let stands_still = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            match answered() {
                now if now == before && now > 0 => return,
                now => before = now,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), stands_still).await.expect("what nobody reads fills the buffers");
    assert!(answered() < PLENTY);
    assert!(
        live.metrics.render().lines().any(|line| line == "hongbao_http_in_flight 0"),
        "it waits and holds no place"
    );
    live.is_well().await;
    live.until_open(0).await;
    assert!(asked.await.unwrap().is_err(), "its connection is gone");
    drop(unread);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_and_half_open_peers_stop_nobody() {
    let live = Live::start(Limits { head_timeout: Duration::from_secs(60), ..limits() });
    let mut idle = Vec::new();
    for n in 0..2000 {
        let mut stream = live.connect().await;
        match n % 4 {
            0 => {}
            1 => stream.write_all(b"POST /v1/gr").await.unwrap(),
            2 => stream.write_all(grab("keep-alive").as_bytes()).await.unwrap(),
            // Their side is closed; ours is not told whether they still listen.
            _ => stream.shutdown().await.unwrap(),
        }
        idle.push(stream);
    }
    live.is_well().await;
    drop(idle);
    live.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_are_counted() {
    let live = Live::start(Limits { connections_max: 4, head_timeout: Duration::from_secs(60), ..limits() });
    live.until_open(0).await;
    let mut peers = Vec::new();
    for n in 1..=4 {
        peers.push(live.connect().await);
        live.until_open(n).await;
    }
    // A fifth has no place yet.
    peers.push(live.connect().await);
    for n in [4, 3, 2] {
        peers.remove(0);
        live.until_open(n).await;
    }
    live.stop.cancel();
    live.until_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_takes_the_next_when_one_leaves() {
    let live = Live::start(Limits { connections_max: 10, head_timeout: Duration::from_secs(60), ..limits() });
    let mut inside = Vec::new();
    for _ in 0..10 {
        let mut stream = live.connect().await;
        stream.write_all(grab("keep-alive").as_bytes()).await.unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).await.unwrap();
        inside.push(stream);
    }
    let mut waiting = live.connect().await;
    waiting.write_all(grab("close").as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_millis(200), waiting.read_to_string(&mut answer)).await;
    assert!(read.is_err(), "an eleventh was let in: {answer}");
    inside.truncate(8);
    let read = tokio::time::timeout(Duration::from_secs(2), waiting.read_to_string(&mut answer)).await;
    read.expect("a place was free").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_gets_a_problem() {
    let live = Live::start(Limits { head_timeout: Duration::from_secs(20), is_test: true, ..limits() });
    let whole = grab("keep-alive");
    let long = "x".repeat(400_000);
    let many = "x-one: 1\r\n".repeat(101);
    for (sent, answers, code) in [
        (format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n"), 1, "head_too_large"),
        (format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"), 1, "head_too_large"),
        (format!("GET /livez HTTP/1.1\r\nhost: x\r\n{many}\r\n"), 1, "head_too_large"),
        ("no request\r\n\r\nand more".to_owned(), 1, "malformed_request"),
        ("GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n".to_owned(), 1, "malformed_request"),
        ("GET / HTTP/1.1\r\nno header\r\n\r\n".to_owned(), 1, "malformed_request"),
        ("GET / HTTP/7.0\r\n\r\n".to_owned(), 1, "malformed_request"),
        ("GET /livez HTTP/1.1\r\n\r\n".to_owned(), 1, "malformed_request"),
        ("GET /livez HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n".to_owned(), 1, "malformed_request"),
        ("GET /livez HTTP/1.1\r\nhost: x y\r\n\r\n".to_owned(), 1, "malformed_request"),
        ("GET /livez HTTP/1.1\r\nhost: http://x/\r\n\r\n".to_owned(), 1, "malformed_request"),
        (whole.replace("host: x\r\n", ""), 1, "malformed_request"),
        (format!("{whole}{whole}no request\r\n\r\n"), 3, "malformed_request"),
    ] {
        let stream = live.connect().await;
        let (reading, mut writing) = stream.into_split();
        // It may be answered before all of it was read.
        let write = tokio::spawn(async move { writing.write_all(sent.as_bytes()).await.map(|()| writing) });
        let mut told = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), { reading }.read_to_end(&mut told)).await;
        read.expect(code).expect(code);
        drop(write.await);
        let told = String::from_utf8(told).unwrap();
        assert_eq!(told.matches("\r\ncontent-length: ").count(), answers, "{code}: {told}");
        let (head, body) = told.rsplit_once("\r\n\r\n").unwrap();
        let head = &head[head.rfind("HTTP/1.1 4").unwrap()..];
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], code, "{told}");
        let id = problem["request_id"].as_str().unwrap();
        for line in [
            &*format!("HTTP/1.1 {} ", problem["status"]),
            "\r\ncontent-type: application/problem+json",
            "\r\nconnection: close",
            "\r\nhongbao-test: true",
            &*format!("\r\ncontent-length: {}", body.len()),
            &*format!("\r\nx-request-id: {id}"),
        ] {
            assert!(head.contains(line), "no {line:?} in {told}");
        }
    }
    live.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_needs_no_host_and_an_empty_one_will_do() {
    let live = Live::start(limits());
    for (head, status) in [
        ("GET /livez HTTP/1.0\r\n\r\n", " 200"),
        ("GET /livez HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n", " 400"),
        ("GET /livez HTTP/1.1\r\nhost:\r\nconnection: close\r\n\r\n", " 200"),
        ("GET /livez HTTP/1.1\r\nhost: [::1]:8080\r\nconnection: close\r\n\r\n", " 200"),
    ] {
        let mut stream = live.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let (answer, _) = until_closed(stream).await;
        assert!(answer[8..].starts_with(status), "{head}: {answer}");
    }
}

/// Nobody's patience is long enough to wait for the body, so it is the head that is answered.
#[tokio::test(flavor = "multi_thread")]
async fn oversized_bodies_are_refused_before_they_come() {
    let live = Live::with_body_timeout(limits(), Duration::from_secs(600));
    let whole = grab("keep-alive").replace("content-length: 14", "content-length: 2097152");
    let head = whole.strip_suffix(r#"{"user":"bob"}"#).unwrap();
    let chunked = head.replace("content-length: 2097152", "transfer-encoding: chunked") + "200000\r\n";
    for (head, body) in [(head, 0), (head, 1), (head, 2 << 20), (&chunked, (1 << 20) + 1)] {
        let mut stream = live.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        // Who sends it all the same, and looks only then, gets to see the answer too.
        stream.write_all(&vec![b' '; body]).await.unwrap();
        let (answer, _) = until_closed(stream).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("payload_too_large"), "{body}: {answer}");
    }
    live.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_told_that_the_port_is_taken() {
    let live = Live::start(limits());
    let error = listen(live.address).expect_err("somebody listens there");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_some_addresses_the_first_that_is_free_is_listened_on() {
    let live = Live::start(limits());
    // The second is nobody's here, kept for documentation.
    let addresses = [live.address, "192.0.2.1:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
    let listeners = listen_on_first(&addresses).unwrap();
    let address = listeners[0].local_addr().unwrap();
    assert!(address.ip().is_loopback() && address != live.address, "{address}");
    let refused = listen_on_first(&addresses[..2]).unwrap_err();
    let told = refused.to_string();
    assert!(addresses[..2].iter().all(|address| told.contains(&address.to_string())), "{told}");
    assert!(refused.is_held(), "the first would be free if its server ended: {told}");
    assert!(!listen_on_first(&addresses[1..2]).unwrap_err().is_held(), "nobody can let go of the second");
}

#[test]
fn of_two_that_start_at_once_one_gets_the_port() {
    for round in 0..200 {
        let address = listen("127.0.0.1:0".parse().unwrap()).unwrap()[0].local_addr().unwrap();
        let both = Barrier::new(2);
        let start = || {
            both.wait();
            listen(address)
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(start);
            (start(), other.join().unwrap())
        });
        assert!(one.is_err() || other.is_err(), "both listen on {address} in round {round}");
    }
}

#[test]
fn every_listening_socket_gets_its_part() {
    let listeners = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let peers: Vec<_> = (0..400).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    for (n, listener) in listeners.iter().enumerate() {
        let taken = std::iter::from_fn(|| listener.accept().ok()).count();
        let fair = peers.len() / listeners.len();
        assert!(taken > fair / 4, "socket {n} of {} got {taken} of {}", listeners.len(), peers.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_answers_what_was_accepted() {
    let live = Live::start(limits());
    live.fake.turns.forget_permits(1 << 20);
    let mut asking = Vec::new();
    for _ in 0..20 {
        let mut stream = live.connect().await;
        stream.write_all(grab("keep-alive").as_bytes()).await.unwrap();
        asking.push(stream);
    }
    let idle = live.connect().await;
    live.until_in_flight(20).await;
    live.stop.cancel();
    live.until_deaf().await;
    assert!(!live.done.is_finished(), "twenty are still waiting for their answer");
    live.fake.turns.add_permits(1 << 20);
    for stream in asking {
        let (answer, _) = until_closed(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"outcome":"sold_out"}"#), "{answer}");
    }
    until_closed(idle).await;
    live.done.await.unwrap().unwrap();
    assert!(TcpStream::connect(live.address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_when_the_server_stopped_is_answered() {
    let live = Live::start(limits());
    let mut asking = Vec::new();
    for _ in 0..50 {
        let mut stream = live.connect().await;
        stream.write_all(grab("keep-alive").as_bytes()).await.unwrap();
        asking.push(stream);
    }
    live.stop.cancel();
    for stream in asking {
        let (answer, _) = until_closed(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    live.done.await.unwrap().unwrap();
}

/// An answer on a connection that stays open.
async fn answer(stream: &mut TcpStream) -> String {
    let mut told = String::new();
    while !told.ends_with('}') {
        let mut part = [0; 1024];
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "closed after {told:?}");
        told.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_idles_when_the_server_stops_may_ask_once_more() {
    let ages = Duration::from_secs(600);
    let live = Live::start(Limits { head_timeout: ages, drain: ages, last_call: ages, ..limits() });
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = live.connect().await;
        stream.write_all(grab("keep-alive").as_bytes()).await.unwrap();
        let told = answer(&mut stream).await;
        assert!(told.starts_with("HTTP/1.1 200") && !told.contains("connection: close"), "{told}");
        idle.push(stream);
    }
    live.stop.cancel();
    live.until_deaf().await;
    for mut stream in idle {
        stream.write_all(grab("keep-alive").as_bytes()).await.unwrap();
        let (told, _) = until_closed(stream).await;
        assert!(told.starts_with("HTTP/1.1 200") && told.contains("\r\nconnection: close\r\n"), "{told}");
    }
    // Nobody is left to be waited for.
    live.done.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_go_on_idling_are_closed() {
    let ages = Duration::from_secs(600);
    let live =
        Live::start(Limits { head_timeout: ages, drain: ages, last_call: Duration::from_millis(50), ..limits() });
    let mut idle = live.connect().await;
    idle.write_all(grab("keep-alive").as_bytes()).await.unwrap();
    answer(&mut idle).await;
    let fresh = live.connect().await;
    live.until_open(2).await;
    live.stop.cancel();
    live.done.await.unwrap().unwrap();
    for stream in [idle, fresh] {
        assert_eq!(until_closed(stream).await.0, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_for_ever() {
    let live = Live::start(Limits { drain: Duration::from_millis(300), ..limits() });
    live.fake.turns.forget_permits(1 << 20);
    let mut stream = live.connect().await;
    stream.write_all(grab("keep-alive").as_bytes()).await.unwrap();
    live.until_in_flight(1).await;
    let start = Instant::now();
    live.stop.cancel();
    live.done.await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// Whoever asks for the head only gets that, as `GET` would have it, and what follows on the connection is the next answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_what_get_answers_without_its_body() {
    let live = Live::start(limits());
    let ask = |method: &str, path: &str, key: &str, connection: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: {connection}\r\n\r\n"
        )
    };
    let rows = [
        ("/v1/wallets/bob", KEY, "200"),
        ("/v1/wallets/a%20b", KEY, "422"),
        ("/v1/nothing", KEY, "404"),
        ("/v1/wallets/bob", "hb_nobodys_key_0123", "401"),
        ("/v1/grabs", KEY, "405"),
        ("/livez", "-", "200"),
    ];
    for (path, key, status) in rows {
        let mut stream = live.connect().await;
        stream.write_all(ask("GET", path, key, "close").as_bytes()).await.unwrap();
        let (whole, _) = until_closed(stream).await;
        let (whole_head, body) = whole.split_once("\r\n\r\n").unwrap();
        assert!(whole_head.starts_with(&format!("HTTP/1.1 {status}")) && !body.is_empty(), "{path}: {whole}");

        let mut stream = live.connect().await;
        let both = ask("HEAD", path, key, "keep-alive") + &ask("GET", path, key, "close");
        stream.write_all(both.as_bytes()).await.unwrap();
        let (answers, _) = until_closed(stream).await;
        let (head, then) = answers.split_once("\r\n\r\n").unwrap();
        let told = |head: &str| {
            let of_itself = ["x-request-id", "date", "connection"];
            let lines = head.lines().filter(|line| !of_itself.iter().any(|name| line.starts_with(name)));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(told(head), told(whole_head), "{path}");
        assert!(then.starts_with("HTTP/1.1 "), "the next answer comes right behind the head of {path}: {answers}");
    }
}
