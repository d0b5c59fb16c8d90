//! What servers note for themselves, in front of one Redis.

use crate::redis_stand::{RedisServer, ServerOptions, is_missing};
use hongbao_engine::notes::{Notes, Shelf};
use hongbao_engine::redis::{RedisBackend, RedisBackendOptions, RedisOptions};

#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_changed_by_who_knows_it_whichever_server_that_is() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let open = async || {
        let redis = RedisOptions { urls: vec![redis.url()], buckets: 4, ..RedisOptions::default() };
        RedisBackend::open(RedisBackendOptions { redis, ..RedisBackendOptions::default() }).await.expect("it opens")
    };
    let (one, other, shelf) = (open().await, open().await, Shelf::Webhooks);
    let put = async |by: &RedisBackend, was, bytes| by.put_note(shelf, "a", was, bytes).await.expect("an answer");
    let first = put(&one, None, Some(b"one".as_slice())).await.expect("nothing was there");
    assert_eq!(put(&other, None, Some(b"two".as_slice())).await, None, "something is there");
    let found = other.note(shelf, "a").await.unwrap().expect("it is there");
    assert_eq!((found.version, &*found.bytes), (first, b"one".as_slice()));
    // As many as want to: one is first, and the others are told.
    let at_once = (0..16).map(|nth| {
        let (one, other) = (&one, &other);
        async move {
            let by = if nth % 2 == 0 { one } else { other };
            by.put_note(shelf, "a", Some(first), Some(&[nth, 0, 255])).await.expect("an answer")
        }
    });
    let versions: Vec<_> = futures_util::future::join_all(at_once).await.into_iter().flatten().collect();
    assert_eq!(versions.len(), 1, "{versions:?}");
    let found = one.note(shelf, "a").await.unwrap().expect("it is there");
    assert_eq!((found.version, &found.bytes[1..]), (versions[0], [0, 255].as_slice()));
    assert_eq!(put(&one, Some(first), None).await, None, "it stands otherwise");
    one.put_note(Shelf::DeadLetters, "a", None, Some(b"")).await.unwrap().expect("another shelf");
    assert!(put(&other, Some(found.version), None).await.is_some());
    assert_eq!(one.notes(shelf).await.unwrap(), []);
    assert_eq!(one.notes(Shelf::DeadLetters).await.unwrap().len(), 1);
    let audited = one.audit_rows(&mut |_| ()).await.expect("it is audited");
    assert!(audited.findings.is_empty(), "{:?}", audited.findings);
}
