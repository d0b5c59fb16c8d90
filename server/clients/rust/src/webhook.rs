//! What a receiver of webhooks checks: that a request is the server's, and of now.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::{Duration, SystemTime};

/// How far the timestamp of a request may be off.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// The headers of a request that its signature is made of.
#[derive(Clone, Copy, Debug)]
pub struct WebhookHeaders<'a> {
    /// `webhook-id`: the same whenever a batch is sent.
    pub id: &'a str,
    /// `webhook-timestamp`: seconds of Unix time.
    pub timestamp: &'a str,
    /// `webhook-signature`: one or more, with spaces between.
    pub signature: &'a str,
}

/// A request that the server did not send, or not now. Answer it with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWebhook {
    /// The secret is not one that the server has shown.
    #[error("the secret is not whsec_ and base64; take it from the answer that made the webhook")]
    Secret,
    /// The timestamp is none, or too far off.
    #[error("the timestamp is not of now; check this machine's clock")]
    Timestamp,
    /// No signature fits.
    #[error("no signature is of this secret")]
    Signature,
}

/// Checks that a webhook's request was signed with this secret, and sent within
/// [`TOLERANCE`] of `now`. `body` has to be the bytes as they came. Batches may come
/// twice: keep the ids of the last ones.
///
/// # Errors
/// [`InvalidWebhook`] says what is wrong with it.
///
/// ```
/// use hongbao_client::{InvalidWebhook, WebhookHeaders, verify_webhook};
/// use std::time::{Duration, SystemTime};
///
/// let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// let headers = WebhookHeaders {
///     id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
///     timestamp: "1614265330",
///     signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
/// };
/// let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_614_265_400);
/// assert_eq!(verify_webhook(secret, headers, br#"{"test": 2432232314}"#, now), Ok(()));
/// assert_eq!(verify_webhook(secret, headers, b"{}", now), Err(InvalidWebhook::Signature));
/// ```
pub fn verify_webhook(
    secret: &str,
    headers: WebhookHeaders<'_>,
    body: &[u8],
    now: SystemTime,
) -> Result<(), InvalidWebhook> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret));
    let key = key.ok().filter(|key| !key.is_empty()).ok_or(InvalidWebhook::Secret)?;
    let sent_at = headers.timestamp.parse().ok().map(Duration::from_secs);
    let sent_at =
        sent_at.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)).ok_or(InvalidWebhook::Timestamp)?;
    let distance = now.duration_since(sent_at).or_else(|_| sent_at.duration_since(now)).unwrap_or(Duration::MAX);
    if distance > TOLERANCE {
        return Err(InvalidWebhook::Timestamp);
    }
    let fits = |signature: &str| {
        let tag = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
        tag.is_some_and(|tag| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length will do");
            for part in [headers.id.as_bytes(), b".", headers.timestamp.as_bytes(), b".", body] {
                mac.update(part);
            }
            mac.verify_slice(&tag).is_ok()
        })
    };
    if headers.signature.split(' ').any(fits) { Ok(()) } else { Err(InvalidWebhook::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_servers_is_refused() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let both = format!("v1,AAAA v2,x {signature}");
        let good = WebhookHeaders { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp: "1614265330", signature };
        let body = br#"{"test": 2432232314}"#;
        let at = |off_s: i64| SystemTime::UNIX_EPOCH + Duration::from_secs((1_614_265_330 + off_s) as u64);
        use InvalidWebhook::{Secret, Signature, Timestamp};
        for (secret, headers, now, expected) in [
            (secret, good, at(0), Ok(())),
            (&secret[6..], good, at(300), Ok(())),
            (secret, WebhookHeaders { signature: &both, ..good }, at(-300), Ok(())),
            (secret, good, at(301), Err(Timestamp)),
            (secret, good, at(-301), Err(Timestamp)),
            (secret, WebhookHeaders { timestamp: "1614265331", ..good }, at(0), Err(Signature)),
            (secret, WebhookHeaders { timestamp: "soon", ..good }, at(0), Err(Timestamp)),
            (secret, WebhookHeaders { id: "msg_other", ..good }, at(0), Err(Signature)),
            (secret, WebhookHeaders { signature: "", ..good }, at(0), Err(Signature)),
            (secret, WebhookHeaders { signature: &signature[3..], ..good }, at(0), Err(Signature)),
            ("whsec_AAAA", good, at(0), Err(Signature)),
            ("whsec_", good, at(0), Err(Secret)),
            ("whsec_*", good, at(0), Err(Secret)),
        ] {
            assert_eq!(verify_webhook(secret, headers, body, now), expected, "{secret} {headers:?}");
        }
    }
}
