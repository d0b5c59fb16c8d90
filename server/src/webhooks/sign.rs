//! Secrets and signatures, as Standard Webhooks says.
//!
//! **Invariant:** a secret is shown by nothing but [`Secret::shown`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;
use std::fmt;

const PREFIX: &str = "whsec_";
const SECRET_BYTES: usize = 32;

/// What an endpoint's requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Vec<u8>);

impl Secret {
    /// A new one.
    pub(super) fn random() -> Secret {
        Secret(rand::random::<[u8; SECRET_BYTES]>().to_vec())
    }

    /// As whoever checks signatures is given it.
    pub(super) fn shown(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    fn read(text: &str) -> Option<Secret> {
        text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok()).map(Secret)
    }

    fn sign(&self, id: &str, at_s: u64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key may have any length");
        mac.update(format!("{id}.{at_s}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        let text = String::deserialize(deserializer)?;
        Secret::read(&text).ok_or_else(|| serde::de::Error::custom("no secret of a webhook"))
    }
}

/// The header `webhook-signature`: one signature for each secret.
pub(super) fn signatures<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    id: &str,
    at_s: u64,
    body: &[u8],
) -> String {
    let signatures: Vec<_> = secrets.into_iter().map(|secret| secret.sign(id, at_s, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the vector that libraries of Standard Webhooks share; the second
    /// was made by Python's hmac.
    #[test]
    fn signatures_are_those_of_other_implementations() {
        let given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let secret = Secret::read(given).unwrap();
        assert_eq!(secret.shown(), given);
        let other = Secret((0..32).collect());
        let (id, at_s) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
        let body = br#"{"test": 2432232314}"#;
        let first = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signatures([&secret], id, at_s, body), first);
        let both = signatures([&other, &secret], id, at_s, body);
        assert_eq!(both, format!("v1,O4Gjv1HqPqsMrjmczoggs/sWA8gZD0VyHG+fLh4+ktI= {first}"));
    }

    #[test]
    fn a_secret_is_not_shown_by_accident() {
        let secret = Secret::random();
        assert!(!format!("{secret:?}").contains(&secret.shown()[PREFIX.len()..]));
        assert_eq!(serde_json::from_str::<Secret>(&serde_json::to_string(&secret).unwrap()).unwrap(), secret);
        for wrong in ["", "whsec", "whsec_*", "whsec_a"] {
            assert_eq!(Secret::read(wrong), None, "{wrong}");
        }
    }
}
