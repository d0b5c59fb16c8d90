//! Where webhooks may go: hosts that the operator has named, at addresses that
//! are nobody's inside.
//!
//! **Invariant:** the address that is dialled is one that was checked, whatever a
//! name leads to a moment before or after.

use hyper::Uri;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest URL.
const URL_BYTES_MAX: usize = 2048;

/// What webhooks may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTarget {
    host: AllowedHost,
    port: u16,
    /// Whether it may be reached without TLS; then only so.
    is_plain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum AllowedHost {
    Named(Host),
    /// All names that end so, behind a dot.
    Below(String),
}

/// A host as it stands in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name in lower case.
    Name(String),
    Address(IpAddr),
}

impl Host {
    fn read(text: &str) -> Option<Host> {
        if let Some(text) = text.strip_prefix('[') {
            return text.strip_suffix(']')?.parse().ok().map(|v6| Host::Address(IpAddr::V6(v6)));
        }
        if let Ok(v4) = text.parse() {
            return Some(Host::Address(IpAddr::V4(v4)));
        }
        is_name(text).then(|| Host::Name(text.trim_end_matches('.').to_ascii_lowercase()))
    }
}

/// Whether it is the name of a host, and not a number: resolvers take `2130706433`,
/// `0x7f.1` and `0177.0.0.1` for addresses.
fn is_name(text: &str) -> bool {
    let labels: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    let is_label = |label: &&str| {
        let graphic = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        (1..=63).contains(&label.len()) && graphic && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = labels.last().copied().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    text.len() <= 253 && labels.iter().all(is_label) && !is_number
}

impl FromStr for AllowedTarget {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<AllowedTarget, &'static str> {
        const FORM: &str = "name a host, with a port if it is not 443: hooks.example.com, *.example.com:8443, or \
                            http://10.0.0.7:9000 for one without TLS";
        let (is_plain, rest) = match text.split_once("://") {
            Some(("http", rest)) => (true, rest),
            Some(("https", rest)) => (false, rest),
            Some(_) => return Err(FORM),
            None => (false, text),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().map_err(|_| FORM)?)),
            _ => (rest, None),
        };
        let port = match (port, is_plain) {
            (Some(port), _) if port > 0 => port,
            (None, false) => 443,
            _ => return Err(FORM),
        };
        let host = match host.strip_prefix("*.") {
            Some(below) => match Host::read(below) {
                Some(Host::Name(name)) => AllowedHost::Below(name),
                _ => return Err(FORM),
            },
            None => AllowedHost::Named(Host::read(host).ok_or(FORM)?),
        };
        Ok(AllowedTarget { host, port, is_plain })
    }
}

/// What allows a URL's own host and port, and nothing else: the operator has named it.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub(crate) fn allowed_by_url(url: &str) -> Result<AllowedTarget, String> {
    let Target { is_tls, host, port, .. } = Target::parse(url)?;
    Ok(AllowedTarget { host: AllowedHost::Named(host), port, is_plain: !is_tls })
}

impl AllowedTarget {
    fn allows(&self, target: &Target) -> bool {
        let is_host = match (&self.host, &target.host) {
            (AllowedHost::Named(allowed), host) => allowed == host,
            (AllowedHost::Below(allowed), Host::Name(name)) => {
                name.strip_suffix(allowed.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
            }
            (AllowedHost::Below(_), Host::Address(_)) => false,
        };
        is_host && self.port == target.port && self.is_plain != target.is_tls
    }

    /// Whether it is that very place: another port of its address may be somebody else's.
    fn is_address(&self, address: IpAddr, port: u16) -> bool {
        self.host == AllowedHost::Named(Host::Address(address)) && self.port == port
    }
}

/// A URL that requests can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) is_tls: bool,
    pub(super) host: Host,
    pub(super) port: u16,
    /// What the header `Host` says.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

impl Target {
    /// Reads a URL and checks that it may be sent to.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(super) fn read(url: &str, allowed: &[AllowedTarget]) -> Result<Target, String> {
        let target = Target::parse(url)?;
        if allowed.iter().any(|allowed| allowed.allows(&target)) {
            return Ok(target);
        }
        Err(format!("is no target that the operator allows; start the server with --webhook-allow {target}"))
    }

    fn parse(url: &str) -> Result<Target, String> {
        if url.len() > URL_BYTES_MAX || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("must be a URL of up to {URL_BYTES_MAX} visible ASCII characters"));
        }
        if url.contains(['#', '\\']) {
            return Err("may have no fragment and no backslash".to_owned());
        }
        let uri: Uri = url.parse().map_err(|_| "must be a URL, as https://hooks.example.com/hongbao".to_owned())?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("must begin with https://".to_owned()),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err("may have no user and no password; requests are signed instead".to_owned());
        }
        let host = Host::read(uri.host().unwrap_or_default());
        let host = host.ok_or("has no host that is a name or an address in its usual form")?;
        let port = match uri.port() {
            Some(port) => port.as_u16(),
            // One that is too large is none to the parser, and not the usual one.
            None if uri.host() != Some(authority) => {
                return Err("has no port from 1 to 65535 behind the colon".to_owned());
            }
            None if is_tls => 443,
            None => 80,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Target { is_tls, host, port, authority: authority.to_owned(), path })
    }

    /// Those of the addresses that may be dialled.
    ///
    /// # Errors
    /// That none may.
    pub(super) fn checked(
        &self,
        found: impl IntoIterator<Item = IpAddr>,
        allowed: &[AllowedTarget],
    ) -> Result<Vec<SocketAddr>, String> {
        let mut refused = None;
        let mut checked = Vec::new();
        for address in found {
            if is_public(address) || allowed.iter().any(|allowed| allowed.is_address(address, self.port)) {
                checked.push(SocketAddr::new(address, self.port));
            } else {
                refused = Some(address);
            }
        }
        match refused {
            _ if !checked.is_empty() => Ok(checked),
            Some(address) => Err(format!(
                "leads to {address}, which is an address of the inside; if that is meant, name it too: --webhook-allow {}",
                SocketAddr::new(address, self.port)
            )),
            None => Err("leads to no address".to_owned()),
        }
    }
}

impl fmt::Display for Target {
    /// As it would be allowed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "" } else { "http://" };
        match &self.host {
            Host::Name(name) => write!(f, "{scheme}{name}:{}", self.port),
            Host::Address(address) => write!(f, "{scheme}{}", SocketAddr::new(*address, self.port)),
        }
    }
}

/// Whether an address is one of the public net, where nobody trusts who asks for being inside.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// The special blocks of IANA's registry, and where Azure has its metadata.
const INSIDE_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    !INSIDE_V4.iter().any(|(block, bits)| (address.to_bits() ^ block.to_bits()) >> (32 - bits) == 0)
}

/// Global unicast only, without the blocks in it that wrap IPv4 (6to4, Teredo), are for
/// documents, or never routed. IPv4-mapped, NAT64, ULA, link-local and multicast are outside of it.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let is_global = first >> 13 == 0b001;
    let is_protocol = first == 0x2001 && second < 0x0200;
    let is_documentation = (first, second) == (0x2001, 0x0db8) || first == 0x3fff;
    is_global && !is_protocol && !is_documentation && first != 0x2002
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(list: &[&str]) -> Vec<AllowedTarget> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn urls_are_allowed_by_host_port_and_scheme() {
        let list =
            allowed(&["hooks.example.com", "*.below.example:8443", "http://10.0.0.7:9000", "https://[::1]:7443"]);
        for (url, good) in [
            ("https://hooks.example.com/x?y=1", true),
            ("https://HOOKS.example.com:443", true),
            ("https://hooks.example.com./x", true),
            ("https://hooks.example.com:8443/x", false),
            ("http://hooks.example.com/x", false),
            ("https://other.example.com/", false),
            ("https://hooks.example.com.evil.example/", false),
            ("https://hooks.example.com@evil.example/", false),
            ("https://evil.example\\@hooks.example.com/", false),
            ("https://a.below.example:8443/", true),
            ("https://a.b.below.example:8443/", true),
            ("https://below.example:8443/", false),
            ("https://notbelow.example:8443/", false),
            ("http://10.0.0.7:9000/", true),
            ("https://10.0.0.7:9000/", false),
            ("http://10.0.0.7:9001/", false),
            ("http://[::ffff:10.0.0.7]:9000/", false),
            ("http://167772167:9000/", false),
            ("http://012.0.0.7:9000/", false),
            ("http://0x0a.0.0.7:9000/", false),
            ("http://0xa000007:9000/", false),
            ("http://10.7:9000/", false),
            ("https://[::1]:7443/", true),
            ("https://[::2]:7443/", false),
            ("ftp://hooks.example.com/", false),
            ("hooks.example.com", false),
            ("https:///x", false),
            ("https://hooks.example.com:/x", false),
            ("https://hooks.example.com:99999/x", false),
            ("https://hooks.example.com:65979/x", false),
            ("https://hooks.example.com:4430443/x", false),
            ("https://hooks.example.com:0443/x", true),
            ("http://10.0.0.7:65536/", false),
            ("https://hooks.example.com/#x", false),
            ("https://hooks.example.com/ä", false),
            ("", false),
        ] {
            let read = Target::read(url, &list);
            assert_eq!(read.is_ok(), good, "{url}: {read:?}");
        }
        let none = Target::read("https://hooks.example.com/", &[]).unwrap_err();
        assert!(none.contains("--webhook-allow hooks.example.com:443"), "{none}");
        for wrong in
            ["", "*", "*.", "*.10.0.0.1", "a b", "host:0", "host:x", "http://host", "ftp://host", "2130706433", "h/x"]
        {
            assert!(wrong.parse::<AllowedTarget>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_of_the_inside_are_dialled_only_if_they_are_named_themselves() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("100.63.255.255", true),
            ("172.32.0.1", true),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("172.31.255.255", false),
            ("192.168.0.1", false),
            ("100.64.0.1", false),
            ("100.100.100.200", false),
            ("169.254.169.254", false),
            ("168.63.129.16", false),
            ("192.0.0.192", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("::1", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", false),
            ("::127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("2002:7f00:1::", false),
            ("2001:0:4136::1", false),
            ("2001:db8::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let named = allowed(&["hooks.example.com"]);
            let target = Target::read("https://hooks.example.com/", &named).unwrap();
            assert_eq!(target.checked([address], &named).is_ok(), public, "{address}");
            // A name whose other addresses are those of the inside leads outside only.
            let outside: IpAddr = "9.9.9.9".parse().unwrap();
            let dialled = target.checked([address, outside], &named).unwrap();
            assert_eq!(dialled.len(), if public { 2 } else { 1 }, "{address}");
            // Named is a place, not whatever else is at its address.
            for (port, is_named) in [(443, true), (1, false)] {
                let itself = SocketAddr::new(address, port).to_string();
                let both = allowed(&["hooks.example.com", &itself]);
                assert_eq!(target.checked([address], &both).is_ok(), public || is_named, "{itself}");
            }
        }
    }
}
