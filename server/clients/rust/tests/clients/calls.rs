//! The client in Rust: what it asks, and what a lost reply does.

use crate::server::{Server, start};
use hongbao_client::types::*;
use hongbao_client::{Client, Error};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn fail(client: &Client, fault: FaultsFault, count: u64) {
    client.plant_faults(&Faults::new(fault, count)).await.unwrap();
}

#[tokio::test]
async fn an_evening() {
    let server: Server = start();
    let client = server.client();
    assert_eq!(client.deposit("alice", &Transfer::new(1000)).await.unwrap().available, 1000);
    let terms = NewEnvelope::new("alice", 1000, 3).message("恭喜发财").reference("gala-1".to_owned());
    let envelope = client.create_envelope(&terms).await.unwrap();
    assert_eq!((envelope.state, &*envelope.message), (EnvelopeState::Open, "恭喜发财"));
    let mut amounts = Vec::new();
    for user in ["bob", "carol", "dave"] {
        let GrabOutcome::Won(won) = client.grab(&envelope.id, &ByUser::new(user)).await.unwrap() else {
            panic!("{user}")
        };
        amounts.push(won.amount);
    }
    assert_eq!(amounts.iter().sum::<u64>(), 1000);
    assert!(matches!(client.grab(&envelope.id, &ByUser::new("eve")).await, Ok(GrabOutcome::SoldOut(_))));
    let pairs = vec![GrabPair::new(&envelope.id, "bob"), GrabPair::new("env_nonsense", "bob")];
    let results = client.grab_many(&GrabMany::new(pairs)).await.unwrap().results;
    assert!(matches!(&results[0], GrabResult::GrabOutcome(GrabOutcome::Won(won)) if won.replayed), "{results:?}");
    assert!(matches!(&results[1], GrabResult::Failed(failed) if failed.error.code == "not_found"), "{results:?}");

    let found = client.envelopes(&EnvelopesQuery::new().reference("gala-1")).collect().await.unwrap();
    assert_eq!(found.iter().map(|one| &one.id).collect::<Vec<_>>(), [&envelope.id]);
    let listed = client.grabs(&envelope.id, &GrabsQuery::new().limit(1)).collect().await.unwrap();
    assert_eq!(listed.iter().map(|grab| grab.amount).sum::<u64>(), 1000, "of three pages");
    assert!(client.metrics().await.unwrap().contains("hongbao_ready 1"));
    for user in ["", ".", ".."] {
        assert!(matches!(client.wallet(user).await, Err(Error::Request(_))), "{user:?}");
    }
    assert!(client.audit().await.unwrap().balanced);
}

#[tokio::test]
async fn a_lost_reply_does_nothing_twice() {
    let server = start();
    let client = server.client();
    for count in [1, 3] {
        let user = format!("lost-{count}");
        let lose = async || fail(&client, FaultsFault::LoseReply, count).await;
        lose().await;
        assert_eq!(client.deposit(&user, &Transfer::new(500)).await.unwrap().available, 500);
        lose().await;
        let envelope = client.create_envelope(&NewEnvelope::new(&user, 500, 2)).await.unwrap();
        lose().await;
        let GrabOutcome::Won(won) = client.grab(&envelope.id, &ByUser::new(&user)).await.unwrap() else { panic!() };
        lose().await;
        let ClaimOutcome::Claimed(claimed) = client.claim(&envelope.id, &ByUser::new(&user)).await.unwrap() else {
            panic!()
        };
        assert_eq!(claimed.amount, won.amount);
        lose().await;
        client.cancel(&envelope.id).await.unwrap();
        lose().await;
        assert_eq!(client.withdraw(&user, &Transfer::new(500)).await.unwrap().available, 0);
        let entries = client.entries(&user, &EntriesQuery::new().limit(2)).collect().await.unwrap();
        let mut kinds: Vec<_> = entries.iter().map(|entry| entry.kind.as_str()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["claim", "deposit", "envelope", "refund", "withdrawal"]);
        lose().await;
        let key = client.create_key(&NewKey::new("k", vec!["viewer".into()])).await.unwrap();
        lose().await;
        client.delete_key(&key.id).await.unwrap();
    }
    let audit = client.audit().await.unwrap();
    assert!(audit.balanced);
    assert_eq!((audit.deposited, audit.withdrawn), (1000, 1000));
}

#[tokio::test]
async fn what_was_shed_is_asked_again_and_a_refusal_is_told() {
    let server = start();
    let client = server.client();
    fail(&client, FaultsFault::Overloaded, 2).await;
    assert_eq!(client.deposit("bob", &Transfer::new(7)).await.unwrap().available, 7);
    fail(&client, FaultsFault::Overloaded, 1).await;
    let hurried = client.with_limit(Duration::from_millis(500));
    let Err(Error::Problem(problem)) = hurried.deposit("bob", &Transfer::new(7)).await else { panic!() };
    assert_eq!((&*problem.code, problem.retry_after_s, problem.attempts), ("overloaded", Some(1), 1));
    let later = client.with_idempotency_key(problem.idempotency_key.unwrap());
    for _ in 0..2 {
        assert_eq!(later.deposit("bob", &Transfer::new(7)).await.unwrap().available, 14);
    }
    let Err(Error::Problem(problem)) = client.withdraw("bob", &Transfer::new(15)).await else { panic!() };
    assert_eq!((&*problem.code, &*problem.retry, problem.attempts), ("insufficient_funds", "same_key", 1));
    let Err(Error::Problem(problem)) = client.create_envelope(&NewEnvelope::new("bob", 1, 2)).await else { panic!() };
    assert_eq!(&*problem.code, "invalid_field");
    assert!(!problem.errors[0].field.is_empty() && !problem.request_id.is_empty());
}

/// Answers each request with the next of these, or ends the connection where there is none; tells what was asked.
async fn scripted(script: Vec<Option<String>>) -> (Client, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()), "k").unwrap();
    let server = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in script {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            asked.push(String::from_utf8_lossy(&request[..length]).into_owned());
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
        asked
    });
    (client, server)
}

fn answer(status: u16, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"))
}

fn problem(status: u16, code: &str, retry: &str) -> Option<String> {
    answer(status, &format!(r#"{{"status":{status},"code":"{code}","retry":"{retry}","request_id":"r"}}"#))
}

#[tokio::test]
async fn repeats_are_the_same_bytes_and_only_where_they_may_help() {
    let wallet = answer(201, r#"{"user":"a","currency":"CNY","available":5,"held":0,"new_field":[1]}"#);
    let (client, server) = scripted(vec![
        None,
        problem(503, "unconfirmed", "same_key"),
        problem(409, "in_progress", "same_key"),
        answer(502, "<html>"),
        problem(503, "overloaded", "after"),
        wallet.clone(),
        wallet,
    ])
    .await;
    for _ in 0..2 {
        assert_eq!(client.deposit("a", &Transfer::new(5)).await.unwrap().available, 5);
    }
    let asked = server.await.unwrap();
    assert!(asked[0].contains("idempotency-key: "), "{}", asked[0]);
    assert!(asked[..6].iter().all(|request| *request == asked[0]), "{asked:#?}");
    assert_ne!(asked[5], asked[6], "another call has another key");

    for (status, code, retry) in
        [(422, "idempotency_mismatch", "new_key"), (403, "forbidden", "never"), (409, "news", "news")]
    {
        let (client, _server) = scripted(vec![problem(status, code, retry)]).await;
        let Err(Error::Problem(told)) = client.deposit("a", &Transfer::new(5)).await else { panic!("{code}") };
        assert_eq!((&*told.code, told.attempts), (code, 1));
    }
    let (client, _server) = scripted(vec![None]).await;
    let lost = client.advance_clock(&Advance::new(5)).await;
    assert!(
        matches!(lost, Err(Error::NoAnswer { attempts: 1, .. })),
        "a clock moved twice is not where it was told: {lost:?}"
    );
}

#[tokio::test]
async fn a_server_that_means_ill_ends_no_caller_and_costs_no_key() {
    let waits = |seconds: &str| {
        let body = r#"{"status":503,"code":"overloaded","retry":"after"}"#;
        let length = body.len();
        Some(format!(
            "HTTP/1.1 503 X\r\nConnection: close\r\nRetry-After: {seconds}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    };
    let minute = Duration::from_secs(60);
    for (hostile, limit) in [
        (waits(&u64::MAX.to_string()), minute),
        (waits(&"9".repeat(300)), minute),
        (answer(200, "hello"), Duration::MAX),
        (answer(200, &"[".repeat(100_000)), minute),
        (Some("HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_owned()), minute),
    ] {
        let (client, _server) = scripted(vec![hostile]).await;
        let client = client.with_limit(limit).with_attempt(limit).with_idempotency_key("mine");
        let key = match client.deposit("a", &Transfer::new(5)).await.unwrap_err() {
            Error::Problem(problem) => problem.idempotency_key,
            Error::Unexpected { idempotency_key, .. } => idempotency_key,
            other => panic!("{other}"),
        };
        assert_eq!(key.as_deref(), Some("mine"));
    }
    let endless = |mut stream: tokio::net::TcpStream| async move {
        let chunk = [b"100000\r\n", &[b' '; 0x10_0000][..], b"\r\n"].concat();
        stream.write_all(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        while stream.write_all(&chunk).await.is_ok() {}
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()), "k").unwrap();
    let server = tokio::spawn(async move { endless(listener.accept().await.unwrap().0).await });
    let told = client.with_attempt(minute).with_limit(minute);
    assert!(matches!(told.advance_clock(&Advance::new(5)).await, Err(Error::NoAnswer { attempts: 1, .. })));
    server.await.unwrap();
}

#[tokio::test]
async fn news_are_kept_and_nonsense_is_refused() {
    let (client, _server) = scripted(vec![answer(200, r#"{"outcome":"postponed","until":"tomorrow"}"#)]).await;
    let outcome = client.grab("env_x", &ByUser::new("a")).await.unwrap();
    assert!(
        matches!(&outcome, GrabOutcome::Unknown { name, body } if name == "postponed" && body["until"] == "tomorrow")
    );
    for body in ["hello", "[]", r#"{"user":"a"}"#, r#"{"user":"a","currency":"CNY","available":5.0,"held":0}"#] {
        let (client, _server) = scripted(vec![answer(200, body)]).await;
        assert!(matches!(client.wallet("a").await, Err(Error::Unexpected { .. })), "{body}");
    }
    for url in ["https://127.0.0.1", "127.0.0.1:8080", "http://127.0.0.1/under", ""] {
        assert!(Client::new(url, "k").is_err(), "{url}");
    }
}
