//! How the engine stands in front of Redis.

use std::path::PathBuf;
use std::time::Duration;

/// What an acknowledged answer survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every positive answer is on the primary's disk and on all replicas that
    /// could take its place before it is given.
    Confirmed,
    /// Answers are given as soon as the primary has decided. A failover, or a
    /// crash of a server whose file is not synced before every answer, may
    /// forget what was acknowledged in its last second.
    Relaxed,
}

/// Files in PEM for connections by TLS. A server's certificate is always
/// checked, against the host or the address by which it is reached: in a
/// Cluster that is what CLUSTER NODES tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Whose certificates are trusted; without it those whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key to show to servers that ask for one.
    pub identity: Option<RedisIdentity>,
}

/// Who the engine is to servers that ask for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisIdentity {
    /// The certificate and those that lead from it to an authority.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Where Redis is and how it is used.
#[derive(Clone)]
pub struct RedisOptions {
    /// Where to start: `redis://[user][:password@]host[:port]`, or `rediss://`
    /// for TLS. One of a Cluster's nodes is enough; more of them help when some
    /// are down.
    pub urls: Vec<String>,
    /// Whom to trust and who to be, with `rediss://`.
    pub tls: RedisTls,
    /// What every key starts with. Fixed for a deployment.
    pub key_prefix: String,
    /// How many buckets keys are spread over, from 1 to 16,384. Fixed for a
    /// deployment. A primary can have no less than one; in a Cluster what waits for
    /// the same bucket travels together, so more of them make each grab dearer.
    pub buckets: u16,
    /// Envelopes of at least so many shares get a part in every bucket. `None`:
    /// 64 for each bucket in a Cluster, and none on a single server. Less is for tests.
    #[doc(hidden)]
    pub mass_shares_min: Option<u32>,
    /// The directory that all engines of the deployment archive into. `None`: nothing
    /// leaves Redis, and nothing may have left it.
    pub archive: Option<PathBuf>,
    /// How long after its settlement an envelope is archived.
    pub archive_after: Duration,
    /// What an acknowledged answer survives.
    pub durability: Durability,
    /// At least so many replicas have to confirm an answer. `None`: as many as
    /// the primary with the most replicas has at the start. All replicas that a
    /// primary has by then must confirm in any case.
    pub replicas_needed: Option<u8>,
    /// Connections to each primary. `None`: three, and two where answers are
    /// confirmed: a sync of two files is then for half of all that wait.
    pub connections: Option<usize>,
    /// Until a connection is made.
    pub connect_timeout: Duration,
    /// Until a batch is answered; after that its outcome is unknown and the
    /// connection is given up. Replicas have two thirds of it to confirm.
    pub response_timeout: Duration,
    /// Until a call gives up, all its attempts included.
    pub call_timeout: Duration,
}

impl Default for RedisOptions {
    fn default() -> RedisOptions {
        RedisOptions {
            urls: vec!["redis://127.0.0.1:6379".to_owned()],
            tls: RedisTls::default(),
            key_prefix: "hb".to_owned(),
            buckets: 64,
            mass_shares_min: None,
            archive: None,
            archive_after: Duration::from_secs(3600),
            durability: Durability::Confirmed,
            replicas_needed: None,
            connections: None,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(5),
        }
    }
}

/// Urls carry passwords, so only their number is told.
impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions")
            .field("urls", &self.urls.len())
            .field("tls", &self.tls)
            .field("key_prefix", &self.key_prefix)
            .field("buckets", &self.buckets)
            .field("mass_shares_min", &self.mass_shares_min)
            .field("archive", &self.archive)
            .field("archive_after", &self.archive_after)
            .field("durability", &self.durability)
            .field("replicas_needed", &self.replicas_needed)
            .field("connections", &self.connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("call_timeout", &self.call_timeout)
            .finish()
    }
}
