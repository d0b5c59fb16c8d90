//! Connections by TLS: whom they trust, whom they do not, and who they are.

use super::redis_stand::{Certificates, RedisCluster, RedisServer, ServerOptions};
use super::{count, options, refused};
use crate::redis::{Bucket, Nodes, RedisIdentity, RedisOpenError, RedisOptions, RedisTls};

fn trusting(files: &Certificates, url: String) -> RedisOptions {
    let tls = RedisTls { ca_file: Some(files.path("ca.pem")), identity: None };
    RedisOptions { tls, ..options(vec![url]) }
}

fn with_client(files: &Certificates, url: String) -> RedisOptions {
    let identity = RedisIdentity { certificate_file: files.path("client.pem"), key_file: files.path("client.key") };
    let tls = RedisTls { ca_file: Some(files.path("ca.pem")), identity: Some(identity) };
    RedisOptions { tls, ..options(vec![url]) }
}

#[tokio::test]
async fn who_is_not_trusted_is_refused() {
    let (files, others) = (Certificates::new(), Certificates::new());
    let server = RedisServer::start(ServerOptions {
        tls: Some(files.directory()),
        password: Some("sesame".to_owned()),
        ..ServerOptions::default()
    });
    for wrong in [options(vec![server.tls_url()]), trusting(&others, server.tls_url())] {
        let error = refused(&wrong).await;
        assert!(matches!(error, RedisOpenError::Certificate { .. }), "{error}");
        assert!(error.to_string().contains("--redis-ca FILE"), "{error}");
    }
    let missing = RedisTls { ca_file: Some(files.path("nobody.pem")), identity: None };
    let error = refused(&RedisOptions { tls: missing, ..options(vec![server.tls_url()]) }).await;
    assert!(matches!(&error, RedisOpenError::Option { option: "tls", why } if why.contains("nobody.pem")), "{error}");
    let nodes = Nodes::connect(&trusting(&files, server.tls_url())).await.expect("it is trusted");
    assert_eq!(count(&nodes, Bucket::new(3), "once").await.expect("it counts"), 1);
    let plain = server.tls_url().replace("rediss", "redis");
    assert!(Nodes::connect(&options(vec![plain])).await.is_err(), "it is the port for TLS");
}

#[tokio::test]
async fn a_server_may_ask_who_it_is() {
    let files = Certificates::new();
    let options = ServerOptions { tls: Some(files.directory()), ..ServerOptions::default() };
    let server = RedisServer::start(options.line("tls-auth-clients yes").line("appendfsync everysec"));
    let error = refused(&trusting(&files, server.tls_url())).await;
    assert!(matches!(error, RedisOpenError::Certificate { .. }), "{error}");
    let known = with_client(&files, server.tls_url());
    let message = refused(&known).await.to_string();
    let (_, command) = message.rsplit_once(": ").expect("a command at the end");
    let typed = std::process::Command::new("sh").args(["-c", command]).output().expect("a shell");
    assert_eq!(String::from_utf8_lossy(&typed.stdout).trim(), "OK", "{message}");
    let nodes = Nodes::connect(&known).await.expect("it is known");
    assert_eq!(count(&nodes, Bucket::new(3), "once").await.expect("it counts"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_tells_its_ports_for_tls() {
    let files = Certificates::new();
    let with_tls = ServerOptions { tls: Some(files.directory()), ..ServerOptions::default() };
    let cluster = RedisCluster::start_with(2, 1, with_tls);
    let nodes = Nodes::connect(&trusting(&files, cluster.nodes[3].tls_url())).await.expect("it is whole");
    for number in 0..20 {
        assert_eq!(count(&nodes, Bucket::new(number), "once").await.expect("it counts"), 1);
    }
}
