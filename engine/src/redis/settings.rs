//! What must be so before the engine serves: each server is asked for its
//! settings, and a wrong one is refused with the command that mends it.

use super::error::RedisOpenError;
use super::nodes::{Fleet, Node, QueryError};
use super::options::Durability;
use super::tls;
use super::topology::{Address, Topology};
use redis::RedisError;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The oldest version whose commands the scripts use.
const VERSION_MIN: (u64, u64) = (6, 2);

/// A setting, what it has to be, whether only for confirmed answers, and why.
struct Rule {
    setting: &'static str,
    needed: &'static str,
    confirmed_only: bool,
    why: &'static str,
    /// Servers before it was made do not know it, and do as is needed.
    optional: bool,
}

const RULES: &[Rule] = &[
    Rule {
        setting: "maxmemory-policy",
        needed: "noeviction",
        confirmed_only: false,
        why: "with any other policy it forgets money when its memory is full",
        optional: false,
    },
    Rule {
        setting: "appendonly",
        needed: "yes",
        confirmed_only: true,
        why: "without its file it forgets all it has acknowledged when it ends (who wants that: --redis-durability relaxed)",
        optional: false,
    },
    Rule {
        setting: "appendfsync",
        needed: "always",
        confirmed_only: true,
        why: "otherwise it forgets the last second of what it has acknowledged when its machine ends (who wants that: \
              --redis-durability relaxed)",
        optional: false,
    },
    Rule {
        setting: "no-appendfsync-on-rewrite",
        needed: "no",
        confirmed_only: true,
        why: "otherwise it does not sync its file while it rewrites it",
        optional: false,
    },
    Rule {
        setting: "cluster-allow-reads-when-down",
        needed: "no",
        confirmed_only: true,
        why: "otherwise a server that is cut off tells what is not true any more",
        optional: true,
    },
];

/// Finds out what the servers are, checks them, and takes their topology.
pub(super) async fn examine(fleet: &mut Fleet) -> Result<(), RedisOpenError> {
    let infos = first_answers(fleet).await?;
    let (asked, info) = &infos[0];
    fleet.clustered = field(info, "cluster_enabled") == Some("1");
    fleet.buckets_mix.store(!fleet.clustered, Ordering::Release);
    let topology = match fleet.clustered {
        true => whole_cluster(fleet, asked).await?,
        false => only_primary(&infos)?,
    };
    let confirmed = fleet.options.durability == Durability::Confirmed;
    if let (None, true) = (fleet.options.replicas_needed, confirmed) {
        let most = topology.primaries.values().map(Vec::len).max().unwrap_or(0);
        fleet.replicas_min.store(u8::try_from(most).unwrap_or(u8::MAX), Ordering::Release);
    }
    fleet.adopt(&topology);
    for (address, replicas) in &topology.primaries {
        let primary = check_server(fleet, address).await?;
        if confirmed {
            check_replicas(fleet, &primary, replicas).await?;
            for replica in replicas {
                check_server(fleet, replica).await?;
            }
        }
    }
    Ok(())
}

/// What the servers of the urls say of themselves; some may be down.
async fn first_answers(fleet: &Fleet) -> Result<Vec<(Arc<Node>, String)>, RedisOpenError> {
    let mut answers = Vec::new();
    let mut failed = None;
    for address in &fleet.seeds {
        match info_of(fleet, address).await {
            Ok(answer) => answers.push(answer),
            Err(error @ RedisOpenError::Unreachable { .. }) => _ = failed.get_or_insert(error),
            Err(error) => return Err(error),
        }
    }
    match failed {
        Some(error) if answers.is_empty() => Err(error),
        _ => Ok(answers),
    }
}

async fn info_of(fleet: &Fleet, address: &Address) -> Result<(Arc<Node>, String), RedisOpenError> {
    let no_client = || RedisOpenError::Unreachable { address: address.to_string(), why: "not an address".to_owned() };
    let node = fleet.node_at(address).ok_or_else(no_client)?;
    let info = node
        .query::<String>(&["INFO"], fleet.options.response_timeout)
        .await
        .map_err(|error| refusal(fleet, address, error))?;
    if field(&info, "loading") == Some("1") {
        let why = "it is loading its file; try again when it has".to_owned();
        return Err(RedisOpenError::Unreachable { address: address.to_string(), why });
    }
    Ok((node, info))
}

async fn whole_cluster(fleet: &Fleet, asked: &Node) -> Result<Topology, RedisOpenError> {
    let address = &asked.address;
    let broken = |why: String| RedisOpenError::Cluster {
        address: address.to_string(),
        why,
        command: format!("redis-cli --cluster check {address}{}", certificates(fleet)),
    };
    // The urls' servers tell who else there is; then all are asked.
    let first =
        fleet.look().await.ok_or_else(|| broken("none of the urls' nodes tells its CLUSTER NODES".to_owned()))?;
    fleet.adopt(&first);
    let topology = fleet.look().await.unwrap_or(first);
    if topology.unserved() > 0 {
        return Err(broken(format!("{} of 16384 slots are served by nobody", topology.unserved())));
    }
    let state: String = asked
        .query(&["CLUSTER", "INFO"], fleet.options.response_timeout)
        .await
        .map_err(|error| refusal(fleet, address, error))?;
    match field(&state, "cluster_state") {
        Some("ok") => Ok(topology),
        other => Err(broken(format!("its state is {}", other.unwrap_or("not told")))),
    }
}

fn only_primary(infos: &[(Arc<Node>, String)]) -> Result<Topology, RedisOpenError> {
    let mut primaries = infos.iter().filter(|(_, info)| field(info, "role") == Some("master"));
    match (primaries.next(), primaries.next()) {
        (Some((node, info)), None) => Ok(Topology::single(node.address.clone(), replicas_in_step(info))),
        (None, _) => Err(RedisOpenError::Primary {
            why: format!("Redis at {} is a replica; give the url of its primary as well", infos[0].0.address),
        }),
        (Some((one, _)), Some((other, _))) => Err(RedisOpenError::Primary {
            why: format!(
                "Redis at {} and at {} are both primaries and not a Cluster; give one of them, or make them a Cluster",
                one.address, other.address
            ),
        }),
    }
}

async fn check_server(fleet: &Fleet, address: &Address) -> Result<Arc<Node>, RedisOpenError> {
    let (node, info) = info_of(fleet, address).await?;
    let version = field(&info, "redis_version").unwrap_or("of an unknown version");
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < VERSION_MIN {
        return Err(RedisOpenError::TooOld { address: address.to_string(), version: version.to_owned() });
    }
    let confirmed = fleet.options.durability == Durability::Confirmed;
    for rule in RULES.iter().filter(|rule| confirmed || !rule.confirmed_only) {
        let asked = node
            .query::<HashMap<String, String>>(&["CONFIG", "GET", rule.setting], fleet.options.response_timeout)
            .await;
        let mut found = asked.map_err(|error| refusal(fleet, address, error))?;
        let found = match found.remove(rule.setting) {
            None if rule.optional => continue,
            found => found.unwrap_or_else(|| "not told".to_owned()),
        };
        if found != rule.needed {
            let command = format!("{} CONFIG SET {} {}", cli(fleet, address), rule.setting, rule.needed);
            return Err(RedisOpenError::Setting {
                address: address.to_string(),
                setting: rule.setting,
                found,
                needed: rule.needed,
                why: rule.why,
                command,
            });
        }
    }
    Ok(node)
}

async fn check_replicas(fleet: &Fleet, primary: &Node, known: &[Address]) -> Result<(), RedisOpenError> {
    let address = &primary.address;
    let info: String = primary
        .query(&["INFO", "replication"], fleet.options.response_timeout)
        .await
        .map_err(|error| refusal(fleet, address, error))?;
    let found = replicas_in_step(&info).len();
    let needed = usize::from(fleet.replicas_min.load(Ordering::Acquire)).max(known.len());
    if found >= needed {
        return Ok(());
    }
    let command = match fleet.clustered {
        true => format!("redis-cli --cluster add-node NEW_HOST:NEW_PORT {address} --cluster-slave"),
        false => format!("redis-cli -h NEW_HOST -p NEW_PORT REPLICAOF {} {}", address.host, address.port),
    };
    Err(RedisOpenError::Replicas { address: address.to_string(), found, needed, command })
}

/// The replicas that a primary's INFO says are in step.
pub(super) fn replicas_in_step(info: &str) -> Vec<Address> {
    // slave0:ip=127.0.0.1,port=7001,state=online,offset=42,lag=0
    let lines = info.lines().filter(|line| line.starts_with("slave") && line.contains("state=online"));
    let address = |line: &str| {
        let value = |name: &str| line.split([':', ',']).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        Some(Address { host: value("ip")?.to_owned(), port: value("port")?.trim().parse().ok()? })
    };
    lines.filter_map(address).collect()
}

pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn cli(fleet: &Fleet, address: &Address) -> String {
    let place = match &*address.host {
        "127.0.0.1" | "localhost" => format!("redis-cli -p {}", address.port),
        host => format!("redis-cli -h {host} -p {}", address.port),
    };
    place + &certificates(fleet)
}

/// What `redis-cli` has to be told of TLS, each word after a space.
fn certificates(fleet: &Fleet) -> String {
    let tls = &fleet.options.tls;
    let mut words = if tls::is_used(&fleet.login) { " --tls".to_owned() } else { String::new() };
    let identity = tls.identity.as_ref();
    let files = [
        ("cacert", tls.ca_file.as_ref()),
        ("cert", identity.map(|identity| &identity.certificate_file)),
        ("key", identity.map(|identity| &identity.key_file)),
    ];
    for (option, file) in files {
        if let Some(file) = file {
            words += &format!(" --{option} {}", file.display());
        }
    }
    words
}

fn refusal(fleet: &Fleet, address: &Address, error: QueryError) -> RedisOpenError {
    let code = match &error {
        QueryError::Redis(error) => error.code().map(str::to_owned),
        QueryError::Other(_) => None,
    };
    let (address, why) = (address, error.to_string());
    match code.as_deref() {
        Some("NOPERM") => {
            let user = fleet.login.redis_settings().username().unwrap_or("default");
            let command = format!(
                "{} ACL SETUSER {user} '~{}:*' +@read +@write +@scripting +@connection +wait +info +cluster +config",
                cli(fleet, address),
                fleet.options.key_prefix
            );
            RedisOpenError::Rights { address: address.to_string(), why, command }
        }
        Some("NOAUTH" | "WRONGPASS") => RedisOpenError::Password { address: address.to_string(), why },
        _ if tls::is_used(&fleet.login) && why.to_lowercase().contains("certificate") => {
            RedisOpenError::Certificate { address: address.to_string(), why }
        }
        _ if is_login(&error) => RedisOpenError::Password { address: address.to_string(), why },
        _ => RedisOpenError::Unreachable { address: address.to_string(), why },
    }
}

fn is_login(error: &QueryError) -> bool {
    let authentication = |error: &RedisError| error.kind() == redis::ErrorKind::AuthenticationFailed;
    matches!(error, QueryError::Redis(error) if authentication(error))
}
