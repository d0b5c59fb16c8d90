//! Why the engine does not start in front of these servers.

/// What is wrong, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisOpenError {
    /// An option cannot be so.
    #[error("{option}: {why}")]
    Option {
        /// The field of [`RedisOptions`](super::RedisOptions).
        option: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// No connection, or no answer.
    #[error("Redis at {address} cannot be reached: {why}; is it running, and is this its address?")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the attempt came to.
        why: String,
    },
    /// The certificate of one is not good for the other.
    #[error(
        "Redis at {address} and this server do not trust each other: {why}; name the authority of its certificate \
         (--redis-ca FILE), and a certificate and key of your own if it asks for one (--redis-cert, --redis-key)"
    )]
    Certificate {
        /// Host and port.
        address: String,
        /// What the attempt came to.
        why: String,
    },
    /// It does not let this user in.
    #[error(
        "Redis at {address} refuses the password or the user: {why}; \
         write them into the url as redis://user:password@host:port (without a user: redis://:password@host:port)"
    )]
    Password {
        /// Host and port.
        address: String,
        /// What it says.
        why: String,
    },
    /// The user may not do what the engine does.
    #[error("Redis at {address} does not allow it: {why}; allow it with: {command}")]
    Rights {
        /// Host and port.
        address: String,
        /// What it says.
        why: String,
        /// What an operator types.
        command: String,
    },
    /// Too old for what the scripts need.
    #[error("Redis at {address} is {version}; 6.2 or newer is needed: install a newer one")]
    TooOld {
        /// Host and port.
        address: String,
        /// What it says it is.
        version: String,
    },
    /// A setting with which acknowledged answers could be lost.
    #[error("Redis at {address} has {setting} {found}, and {needed} is needed: {why}; set it with: {command}")]
    Setting {
        /// Host and port.
        address: String,
        /// The setting's name in redis.conf.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        needed: &'static str,
        /// What could happen otherwise.
        why: &'static str,
        /// What an operator types.
        command: String,
    },
    /// The Cluster does not serve all slots.
    #[error("the Cluster at {address} is not whole: {why}; look at it with: {command}")]
    Cluster {
        /// Host and port of the node that says so.
        address: String,
        /// What is missing.
        why: String,
        /// What an operator types.
        command: String,
    },
    /// Fewer replicas than have to confirm.
    #[error(
        "the primary at {address} has {found} replicas in step, and {needed} have to confirm; \
         add one with: {command} (or ask for fewer, or for relaxed durability)"
    )]
    Replicas {
        /// Host and port of the primary.
        address: String,
        /// Replicas that are connected.
        found: usize,
        /// Replicas that have to confirm.
        needed: usize,
        /// What an operator types.
        command: String,
    },
    /// Several servers, or none, say that they are the primary.
    #[error("{why}")]
    Primary {
        /// Who says what.
        why: String,
    },
    /// The directory of the archive is not the deployment's.
    #[error(
        "the archive in {directory}: {why}; name the directory that all servers of this deployment archive into \
         (--redis-archive DIR), mount it first if it lies elsewhere, or restore it from a backup"
    )]
    Archive {
        /// The directory.
        directory: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file of the archive cannot be read.
    #[error("{0}")]
    ArchiveDamaged(String),
    /// Addresses that no key opens which was given.
    #[error(
        "{count} addresses are sealed with address keys that were not given: {missing}; start it with the one they were \
         sealed with (--address-key-file), or name it beside a new one (--address-old-key-file)"
    )]
    Addresses {
        /// How many.
        count: usize,
        /// What the keys are called.
        missing: String,
    },
    /// What lies there was made for something else, or cannot be read.
    #[error("{why}")]
    Deployment {
        /// What differs, and what to do.
        why: String,
    },
}
