//! Which server serves which slot, as the servers themselves say.
//!
//! **Invariant:** of two servers that claim a slot, the one with the greater
//! configuration epoch has it: the rule by which a Cluster agrees with itself.

use super::bucket::SLOTS;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// What MOVED and ASK name: `host:port`; no host means that of who says it.
    pub(super) fn named(text: &str, by: &Address) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = if host.is_empty() || host == "?" { &by.host } else { host };
        Some(Address { host: host.to_owned(), port: port.parse().ok()? })
    }
}

/// A line of CLUSTER NODES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeLine {
    pub(super) id: String,
    pub(super) address: Address,
    flags: Vec<String>,
    primary: Option<String>,
    epoch: u64,
    slots: Vec<(u16, u16)>,
}

impl NodeLine {
    /// The lines of CLUSTER NODES, as `by` answers it. What cannot be read is left out.
    pub(super) fn all(text: &str, by: &Address) -> Vec<NodeLine> {
        text.lines().filter_map(|line| NodeLine::read(line, by)).collect()
    }

    fn read(line: &str, by: &Address) -> Option<NodeLine> {
        // <id> <host:port@bus[,hostname]> <flags> <primary|-> <ping> <pong> <epoch> <link> <slot>...
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [id, address, flags, primary, _, _, epoch, _, slots @ ..] = &*words else { return None };
        let flags: Vec<String> = flags.split(',').map(str::to_owned).collect();
        let unusable = |flag: &String| matches!(&**flag, "handshake" | "noaddr");
        if flags.iter().any(unusable) {
            return None;
        }
        let address = Address::named(address.split(['@', ',']).next()?, by)?;
        let slots = slots.iter().filter(|range| !range.starts_with('['));
        let slots = slots.filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        Some(NodeLine {
            id: (*id).to_owned(),
            address,
            flags,
            primary: (*primary != "-").then(|| (*primary).to_owned()),
            epoch: epoch.parse().ok()?,
            slots: slots.collect(),
        })
    }

    fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }

    /// A replica that may be voted into its primary's place, now or when it is back.
    fn may_follow(&self) -> bool {
        self.is("slave") && !self.is("nofailover")
    }
}

/// Who serves what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Topology {
    /// All servers known, replicas among them.
    pub(super) servers: BTreeSet<Address>,
    /// Those that serve slots, each with the replicas that could take its place.
    pub(super) primaries: BTreeMap<Address, Vec<Address>>,
    /// Slots, first to last, in order.
    ranges: Vec<(u16, u16, Address)>,
}

impl Topology {
    /// One server that serves everything.
    pub(super) fn single(primary: Address, replicas: Vec<Address>) -> Topology {
        Topology {
            servers: [primary.clone()].into(),
            ranges: vec![(0, SLOTS - 1, primary.clone())],
            primaries: [(primary, replicas)].into(),
        }
    }

    /// What several nodes of one Cluster say, taken together.
    pub(super) fn of_cluster(views: &[Vec<NodeLine>]) -> Topology {
        let mut owners: Vec<Option<&NodeLine>> = vec![None; usize::from(SLOTS)];
        for line in views.iter().flatten().filter(|line| line.is("master")) {
            for slot in line.slots.iter().flat_map(|&(first, last)| first..=last.min(SLOTS - 1)) {
                let owner = &mut owners[usize::from(slot)];
                if owner.is_none_or(|other| other.epoch < line.epoch) {
                    *owner = Some(line);
                }
            }
        }
        let mut topology = Topology::default();
        for (slot, owner) in (0..).zip(owners) {
            let Some(owner) = owner else { continue };
            match topology.ranges.last_mut() {
                Some((_, last, address)) if *last + 1 == slot && *address == owner.address => *last = slot,
                _ => topology.ranges.push((slot, slot, owner.address.clone())),
            }
            topology.primaries.entry(owner.address.clone()).or_insert_with(|| {
                // Whoever has failed may come back and be voted for, so it counts until it is forgotten.
                let follows = |line: &&NodeLine| line.may_follow() && line.primary.as_ref() == Some(&owner.id);
                let replicas = views.iter().flatten().filter(follows).map(|line| line.address.clone());
                replicas.collect::<BTreeSet<_>>().into_iter().collect()
            });
        }
        topology.servers = views.iter().flatten().map(|line| line.address.clone()).collect();
        topology
    }

    /// Who serves `slot`.
    pub(super) fn primary_of(&self, slot: u16) -> Option<&Address> {
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, address) = &self.ranges[after.checked_sub(1)?];
        (slot <= *last).then_some(address)
    }

    /// How many slots nobody serves.
    pub(super) fn unserved(&self) -> usize {
        let served = self.ranges.iter().map(|(first, last, _)| usize::from(last - first) + 1);
        usize::from(SLOTS) - served.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, NodeLine, Topology};

    fn address(port: u16) -> Address {
        Address { host: "10.0.0.1".to_owned(), port }
    }

    fn lines(text: &str) -> Vec<NodeLine> {
        NodeLine::all(text, &address(7000))
    }

    #[test]
    fn lines_are_read() {
        let view = lines(
            "a1 10.0.0.1:7001@17001,redis-1 myself,master - 0 0 3 connected 0-99 101 [102->-b2]\n\
             b2 10.0.0.1:7002@17002 master - 0 1 2 connected 100 102-16383\n\
             c3 :7003@17003 slave a1 0 1 3 connected\n\
             d4 10.0.0.1:7004@17004 slave,nofailover a1 0 1 3 connected\n\
             e5 10.0.0.1:7005@17005 slave,fail a1 0 1 3 disconnected\n\
             f6 :0@0 master,noaddr - 0 1 9 disconnected\n\
             not a line",
        );
        let topology = Topology::of_cluster(&[view]);
        for (slot, port) in [(0, 7001), (99, 7001), (100, 7002), (101, 7001), (102, 7002), (16_383, 7002)] {
            assert_eq!(topology.primary_of(slot), Some(&address(port)), "{slot}");
        }
        assert_eq!(topology.unserved(), 0);
        assert_eq!(topology.primaries[&address(7001)], [address(7003), address(7005)], "nofailover does not count");
        assert_eq!(topology.servers.len(), 5);
    }

    #[test]
    fn the_greater_epoch_has_the_slot() {
        let old = lines("a1 10.0.0.1:7001@17001 myself,master - 0 0 3 connected 0-16383");
        let new = lines(
            "a1 10.0.0.1:7001@17001 master,fail - 0 0 3 disconnected 0-9\n\
             b2 10.0.0.1:7002@17002 myself,master - 0 0 8 connected 5-16382",
        );
        for views in [[old.clone(), new.clone()], [new, old]] {
            let topology = Topology::of_cluster(&views);
            assert_eq!(topology.primary_of(4), Some(&address(7001)));
            assert_eq!(topology.primary_of(5), Some(&address(7002)));
        }
        let holes = Topology::of_cluster(&[lines("b2 10.0.0.1:7002@17002 master - 0 0 8 connected 5-10")]);
        assert_eq!((holes.primary_of(4), holes.primary_of(11), holes.unserved()), (None, None, 16_384 - 6));
    }

    #[test]
    fn redirections_name_servers() {
        for (text, host, port) in
            [("10.0.0.9:7009", "10.0.0.9", 7009), (":7009", "10.0.0.1", 7009), ("::1:7009", "::1", 7009)]
        {
            assert_eq!(Address::named(text, &address(7000)), Some(Address { host: host.to_owned(), port }), "{text}");
        }
        assert_eq!(Address::named("nowhere", &address(7000)), None);
    }
}
