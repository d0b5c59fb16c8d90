//! Who and what there is in a deployment. Nothing lists users or keys, so every
//! server is asked for the names of all its keys.
//!
//! Memory grows with the number of users, things and idempotency keys, by the
//! bytes of their names.
//!
//! **Invariant:** a name that was there from the beginning to the end of the
//! asking is found, unless its slot moved meanwhile.

use super::backend::{Core, Result};
use super::bucket::Bucket;
use crate::error::EngineError;
use std::time::Duration;
use tokio::time::timeout;

/// Names asked for at a time.
const ASKED_FOR: u32 = 1000;
/// Until a server has to have told some.
const PATIENCE: Duration = Duration::from_secs(10);

/// What lies in one bucket.
#[derive(Default)]
pub(super) struct Names {
    pub(super) wallets: Packed,
    /// Merchants, and those that are owed something.
    pub(super) merchants: Packed,
    pub(super) envelopes: Packed,
    /// Envelopes that have a pool there.
    pub(super) pools: Packed,
    /// Envelopes that the archive has; one on its way there is among both.
    pub(super) archived: Packed,
    pub(super) items: Packed,
    pub(super) payouts: Packed,
    /// Gifts of whose addresses there is a wrapped data key.
    pub(super) address_keys: Packed,
    /// Idempotency keys and references.
    pub(super) keys: Packed,
}

/// Many names in one piece of memory, each behind its length.
#[derive(Default)]
pub(super) struct Packed(Vec<u8>);

impl Packed {
    fn push(&mut self, name: &[u8]) {
        let Ok(length) = u8::try_from(name.len()) else { return };
        self.0.push(length);
        self.0.extend_from_slice(name);
    }

    /// Each once and in order; a server may tell one twice.
    pub(super) fn sorted(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let mut rest = &*self.0;
        while let Some((&length, after)) = rest.split_first() {
            let (name, after) = after.split_at(length.into());
            names.extend(std::str::from_utf8(name));
            rest = after;
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Names {
    fn take(&mut self, rest: &[u8]) {
        match rest.split_once_at(b':') {
            (b"wallet", Some(user)) => self.wallets.push(user),
            (b"merchant" | b"owed" | b"slots" | b"sales", Some(merchant)) => self.merchants.push(merchant),
            (b"key", Some(key)) => self.keys.push(key),
            (b"address", Some(gift)) => self.address_keys.push(gift),
            (envelope, None) if envelope.starts_with(b"env_") => self.envelopes.push(envelope),
            (envelope, Some(b"pool")) if envelope.starts_with(b"env_") => self.pools.push(envelope),
            (payout, None) if payout.starts_with(b"pay_") => self.payouts.push(payout),
            (item, None) if item.starts_with(b"item_") => self.items.push(item),
            _ => {}
        }
    }
}

trait SplitOnce {
    fn split_once_at(&self, mark: u8) -> (&[u8], Option<&[u8]>);
}

impl SplitOnce for [u8] {
    fn split_once_at(&self, mark: u8) -> (&[u8], Option<&[u8]>) {
        match self.iter().position(|&byte| byte == mark) {
            Some(at) => (&self[..at], Some(&self[at + 1..])),
            None => (self, None),
        }
    }
}

impl Core {
    /// The names in every bucket that is `wanted`, by its number.
    pub(super) async fn names(&self, wanted: &[bool]) -> Result<Vec<Names>> {
        let mut names = Vec::new();
        names.resize_with(wanted.len(), Names::default);
        let prefix = format!("{}:{{b", self.layout.prefix);
        for server in self.nodes.bucket_of_each()? {
            self.names_on_server(server, &prefix, |bucket, rest| {
                if wanted.get(bucket).is_some_and(|&wanted| wanted) {
                    names[bucket].take(rest);
                }
            })
            .await?;
        }
        // After Redis: what left it meanwhile is there by now.
        for id in self.archived_ids().await? {
            let at = usize::from(self.layout.of_id(id.bytes()).number());
            if wanted.get(at).is_some_and(|&wanted| wanted) {
                names[at].archived.push(id.to_string().as_bytes());
            }
        }
        Ok(names)
    }

    async fn names_on_server(&self, server: Bucket, prefix: &str, mut each: impl FnMut(usize, &[u8])) -> Result<()> {
        let failed = |why: String| EngineError::NotReady(format!("Redis did not tell its keys: {why}; run it again"));
        let mut connection = self.nodes.connection(server).await?;
        let pattern = format!("{}*", as_pattern(prefix));
        let mut cursor = b"0".to_vec();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(ASKED_FOR);
            let told = timeout(PATIENCE, scan.query_async::<(Vec<u8>, Vec<Vec<u8>>)>(&mut *connection)).await;
            let (next, keys) =
                told.map_err(|_| failed("no answer in time".to_owned()))?.map_err(|error| failed(error.to_string()))?;
            for key in keys {
                let parts = key.strip_prefix(prefix.as_bytes()).map(|rest| rest.split_once_at(b'}'));
                if let Some((number, Some([b':', rest @ ..]))) = parts
                    && let Some(number) = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok())
                {
                    each(number, rest);
                }
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

/// A pattern that only this text fits.
fn as_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::{Names, as_pattern};

    #[test]
    fn keys_are_known_by_what_they_are_of() {
        let mut names = Names::default();
        for key in [
            "wallet:b:c",
            "wallet:a",
            "wallet:a",
            "received:a",
            "owed:m",
            "env_1",
            "env_1:shares",
            "env_2:pool",
            "item_2",
            "item_2:units",
            "key:00",
            "outbox",
            "pay_3",
            "payouts",
            "payouts:due",
            "address:gift_4",
            "addresses",
        ] {
            names.take(key.as_bytes());
        }
        assert_eq!(names.wallets.sorted(), ["a", "b:c"]);
        assert_eq!(names.merchants.sorted(), ["m"]);
        assert_eq!(names.envelopes.sorted(), ["env_1"]);
        assert_eq!(names.pools.sorted(), ["env_2"]);
        assert_eq!(names.items.sorted(), ["item_2"]);
        assert_eq!(names.keys.sorted(), ["00"]);
        assert_eq!(names.payouts.sorted(), ["pay_3"]);
        assert_eq!(names.address_keys.sorted(), ["gift_4"]);
        assert_eq!(as_pattern("a*[b"), "a\\*\\[b");
    }
}
