//! What a grab costs over HTTP beside a handler that answers a constant in the
//! same server loop. Prints; asserts nothing, since machines differ.
//!
//! `cargo test --release -p hongbao-server --test pace -- --ignored --nocapture`

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::routing::post;
use hongbao_engine::command::{Command, Outcome};
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::types::{EnvelopeId, UserId};
use hongbao_server::app::{Server, Setup, app};
use hongbao_server::serve::{Limits, listen, serve};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tower::Service;

const KEY: &str = "hb_test_0123456789";
const CONNECTIONS: usize = 64;
const RUN: Duration = Duration::from_secs(2);
const CONSTANT: &str = "/constant";

/// Whether a measured grab is one that wins.
#[derive(Clone, Copy, PartialEq)]
enum Grab {
    SoldOut,
    Won,
}

#[test]
#[ignore = "a measurement"]
fn a_grab_beside_a_constant() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let constant = Router::new()
        .route(CONSTANT, post(async |_: Bytes| ([("content-type", "application/json")], r#"{"outcome":"sold_out"}"#)));
    let engine = Arc::new(Embedded::volatile(&EmbeddedOptions::default()));
    let sold_out = runtime.block_on(make(&engine, 1));
    runtime.block_on(grab(&engine, sold_out, "first"));
    let setup = Setup {
        currency: "CNY".parse().unwrap(),
        admin_key: KEY.to_owned(),
        test: false,
        metrics_apart: false,
        in_flight_max: 4096,
        body_timeout: Duration::from_secs(15),
    };
    let server = Server::new(Arc::clone(&engine), &setup);
    let metrics = Arc::clone(&server.metrics);
    let router = app(server).merge(constant);
    let open = |kind| match kind {
        Grab::SoldOut => sold_out,
        Grab::Won => runtime.block_on(make(&engine, 10_000_000)),
    };

    for round in 0..3 {
        let base = in_process(&router, |_| request(CONSTANT, 0));
        for (kind, name) in [(Grab::SoldOut, "sold_out"), (Grab::Won, "won")] {
            let path = format!("/v1/envelopes/{}/grab", open(kind));
            let cost = in_process(&router, |n| request(&path, round * 10_000_000 + n));
            println!("in process: constant {base:.0} ns, {name} {cost:.0} ns, {:+.0} ns", cost - base);
        }
    }

    let listeners = {
        let _inside = runtime.enter();
        listen("127.0.0.1:0".parse().unwrap()).unwrap()
    };
    let address = listeners[0].local_addr().unwrap();
    runtime.spawn(serve(router, listeners, Limits::default(), metrics, CancellationToken::new()));
    for round in 0..3 {
        let base = over_http(address, CONSTANT, round);
        for (kind, name) in [(Grab::SoldOut, "sold_out"), (Grab::Won, "won")] {
            let path = format!("/v1/envelopes/{}/grab", open(kind));
            let rate = over_http(address, &path, 10 + round);
            println!("over http: constant {base:.0}/s, {name} {rate:.0}/s, ratio {:.3}", rate / base);
        }
    }
}

async fn make(engine: &Embedded, shares: u64) -> EnvelopeId {
    let transfer = serde_json::json!({"user": "alice", "amount": shares * 10, "reference": null});
    let once = None;
    hongbao_engine::backend::Backend::execute(
        engine,
        Command::Deposit(serde_json::from_value(transfer).unwrap()),
        once,
    )
    .await
    .unwrap();
    let terms = serde_json::json!({
        "owner": "admin", "sender": "alice", "total": shares * 10, "shares": shares,
        "split": {"lucky": {"min_share": 1, "max_share": null}}, "message": "", "opens_at": null,
        "expires_in_s": 86400, "claim_within_s": 86400, "auto_claim": false, "unclaimed": "return",
        "reference": null, "metadata": "{}", "client_seed": null,
    });
    let create = Command::CreateEnvelope(Box::new(serde_json::from_value(terms).unwrap()));
    match hongbao_engine::backend::Backend::execute(engine, create, None).await.unwrap().outcome {
        Outcome::Envelope(view) => view.id,
        other => panic!("{other:?}"),
    }
}

async fn grab(engine: &Embedded, envelope: EnvelopeId, user: &str) {
    let user = UserId::new(user).unwrap();
    hongbao_engine::backend::Backend::execute(engine, Command::Grab { envelope, user }, None).await.unwrap();
}

fn request(path: &str, n: u64) -> Request<Body> {
    Request::post(path)
        .header("host", "x")
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json")
        .body(Body::from(format!(r#"{{"user":"user-{n}"}}"#)))
        .unwrap()
}

/// Nanoseconds a request, the router called directly on one thread.
fn in_process(router: &Router, make: impl Fn(u64) -> Request<Body>) -> f64 {
    const REQUESTS: u64 = 200_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let requests: Vec<_> = (0..REQUESTS).map(make).collect();
    runtime.block_on(async {
        let start = Instant::now();
        for request in requests {
            let response = router.clone().call(request).await.unwrap();
            assert_eq!(response.status(), 200);
        }
        start.elapsed().as_nanos() as f64 / REQUESTS as f64
    })
}

/// Answers a second over keep-alive connections, each with one request at a time.
fn over_http(address: SocketAddr, path: &str, round: usize) -> f64 {
    let start = Instant::now();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let path = path.to_owned();
            std::thread::spawn(move || {
                let mut streams: Vec<_> = (0..CONNECTIONS / 4).map(|_| TcpStream::connect(address).unwrap()).collect();
                streams.iter().for_each(|stream| stream.set_nodelay(true).unwrap());
                let (mut answers, mut buffer) = (0u64, vec![0; 4096]);
                while start.elapsed() < RUN {
                    for (c, stream) in streams.iter_mut().enumerate() {
                        let body = format!(r#"{{"user":"{round}.{thread}.{c}.{answers}"}}"#);
                        let request = format!(
                            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
                             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        stream.write_all(request.as_bytes()).unwrap();
                    }
                    for stream in &mut streams {
                        let read = stream.read(&mut buffer).unwrap();
                        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"));
                        answers += 1;
                    }
                }
                answers
            })
        })
        .collect();
    let answers: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    answers as f64 / start.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn times_as_text() {
    use hongbao_engine::types::Timestamp;
    use hongbao_server::views::At;
    let mut out = Vec::with_capacity(64);
    let start = Instant::now();
    for n in 0..1_000_000u64 {
        out.clear();
        serde_json::to_writer(&mut out, &At(Timestamp::from_ms(1_801_900_800_123 + n * 977))).unwrap();
        std::hint::black_box(&out);
    }
    println!("a time as JSON: {} ns", start.elapsed().as_nanos() / 1_000_000);
}
