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
const SECRET_BYTES_MIN: usize = 24;
/// Signatures of one message that are looked at.
const SIGNATURES_MAX: usize = 8;

/// What an endpoint's requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// A new one.
    pub(crate) fn random() -> Secret {
        Secret(rand::random::<[u8; SECRET_BYTES]>().to_vec())
    }

    /// As whoever checks signatures is given it.
    pub(crate) fn shown(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    pub(crate) fn read(text: &str) -> Option<Secret> {
        text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok()).map(Secret)
    }

    /// Whether it is as long as the least that Standard Webhooks allows.
    pub(crate) fn is_long(&self) -> bool {
        self.0.len() >= SECRET_BYTES_MIN
    }

    fn mac(&self, id: &str, at_s: u64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key may have any length");
        mac.update(format!("{id}.{at_s}.").as_bytes());
        mac.update(body);
        mac
    }

    fn sign(&self, id: &str, at_s: u64, body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(self.mac(id, at_s, body).finalize().into_bytes()))
    }

    /// Whether one of the signatures in a header `webhook-signature` is by this secret, in a time that
    /// does not tell how much of it is.
    pub(crate) fn has_signed(&self, id: &str, at_s: u64, body: &[u8], header: &str) -> bool {
        let signatures = header.split(' ').take(SIGNATURES_MAX).filter_map(|signature| signature.strip_prefix("v1,"));
        let mut decoded = signatures.filter_map(|signature| STANDARD.decode(signature).ok());
        decoded.any(|signature| self.mac(id, at_s, body).verify_slice(&signature).is_ok())
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
    fn what_a_secret_has_signed_is_told_from_all_else() {
        let (secret, other) = (Secret::random(), Secret::random());
        let (id, at_s, body) = ("m1", 1_614_265_330, b"{}");
        let signed = signatures([&other, &secret], id, at_s, body);
        assert!(secret.has_signed(id, at_s, body, &signed) && other.has_signed(id, at_s, body, &signed));
        let alone = signatures([&secret], id, at_s, body);
        assert!(!other.has_signed(id, at_s, body, &alone));
        for (id, at_s, body) in [("m2", at_s, &b"{}"[..]), (id, at_s + 1, b"{}"), (id, at_s, b"{ }")] {
            assert!(!secret.has_signed(id, at_s, body, &signed));
        }
        for wrong in ["", "v1,", "v1", &alone[3..], &alone.replace("v1,", "v2,"), &alone[..alone.len() - 4]] {
            assert!(!secret.has_signed(id, at_s, body, wrong), "{wrong}");
        }
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
