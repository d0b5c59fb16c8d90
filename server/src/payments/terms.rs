//! A gateway as the operator names it.

use crate::webhooks::{AllowedTarget, Secret, allowed_by_url};
use hongbao_engine::payment::{GATEWAY_CHARS_MAX, KEEP_S, PAY_WITHIN_S};
use std::path::Path;
use std::str::FromStr;

/// A payment gateway, and on what terms it is used.
#[derive(Clone, Debug)]
pub struct GatewayTerms {
    /// What callers call it.
    pub name: String,
    /// Where it is; its paths are below.
    pub url: String,
    /// What our requests and its callbacks are signed with.
    pub(crate) secret: Secret,
    /// Its own host, and nothing else.
    pub(crate) allowed: AllowedTarget,
    /// How long a payment may take, seconds.
    pub pay_within_s: u64,
    /// How much longer what it is for is kept while the gateway does not say whether it was paid.
    pub keep_s: u64,
}

impl GatewayTerms {
    /// A gateway at `url` whose messages are signed with `secret`, as `whsec_…`.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn new(name: &str, url: &str, secret: &str) -> Result<GatewayTerms, String> {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if !(1..=GATEWAY_CHARS_MAX).contains(&name.len()) || !name.bytes().all(is_name) {
            return Err(format!("name a gateway with 1 to {GATEWAY_CHARS_MAX} of a-z 0-9 _ -"));
        }
        let secret = Secret::read(secret.trim())
            .filter(Secret::is_long)
            .ok_or("a gateway's secret is whsec_ and at least 24 bytes in base64")?;
        let url = url.trim_end_matches('/').to_owned();
        let allowed = allowed_by_url(&url).map_err(|why| format!("the gateway's url {why}"))?;
        Ok(GatewayTerms { name: name.to_owned(), url, secret, allowed, pay_within_s: PAY_WITHIN_S, keep_s: KEEP_S })
    }
}

const FORM: &str = "say NAME,url=URL,secret_file=FILE, and if need be pay_within_s=SECONDS and keep_s=SECONDS";

/// As `NAME,url=URL,secret_file=FILE[,pay_within_s=SECONDS][,keep_s=SECONDS]`.
impl FromStr for GatewayTerms {
    type Err = String;

    fn from_str(text: &str) -> Result<GatewayTerms, String> {
        let (name, rest) = text.split_once(',').ok_or(FORM)?;
        let (mut url, mut secret_file) = (None, None);
        let (mut pay_within_s, mut keep_s) = (PAY_WITHIN_S, KEEP_S);
        for pair in rest.split(',') {
            let (key, value) = pair.split_once('=').ok_or(FORM)?;
            let seconds = |least: u64| {
                let seconds = value.parse().ok().filter(|seconds| (least..=31_536_000).contains(seconds));
                seconds.ok_or_else(|| format!("{key} is {least} to 31536000 seconds"))
            };
            match key {
                "url" => url = Some(value),
                "secret_file" => secret_file = Some(value),
                "pay_within_s" => pay_within_s = seconds(1)?,
                "keep_s" => keep_s = seconds(0)?,
                _ => return Err(format!("{key} is not known; {FORM}")),
            }
        }
        let (url, file) = url.zip(secret_file).ok_or(FORM)?;
        let secret = std::fs::read_to_string(Path::new(file)).map_err(|error| format!("{file}: {error}"))?;
        Ok(GatewayTerms { pay_within_s, keep_s, ..GatewayTerms::new(name, url, &secret)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_from_one_word() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        let file = file.display();
        let terms: GatewayTerms =
            format!("alipay,url=http://127.0.0.1:9100/,secret_file={file},pay_within_s=60").parse().unwrap();
        assert_eq!((&*terms.name, &*terms.url), ("alipay", "http://127.0.0.1:9100"));
        assert_eq!((terms.pay_within_s, terms.keep_s), (60, KEEP_S));
        for (wrong, told) in [
            ("alipay".to_owned(), "say NAME"),
            ("alipay,url=http://127.0.0.1:1".to_owned(), "say NAME"),
            (format!("Ali,url=http://127.0.0.1:1,secret_file={file}"), "a-z"),
            (format!("a,url=ftp://127.0.0.1,secret_file={file}"), "http"),
            (format!("a,url=http://127.0.0.1:1,secret_file={file}.none"), "No such file"),
            (format!("a,url=http://127.0.0.1:1,secret_file={file},pay_within_s=0"), "pay_within_s is 1 to"),
            (format!("a,url=http://127.0.0.1:1,secret_file={file},speed=9"), "speed is not known"),
        ] {
            let error = wrong.parse::<GatewayTerms>().expect_err(&wrong);
            assert!(error.contains(told), "{wrong}: {error}");
        }
        assert!(GatewayTerms::new("a", "http://127.0.0.1:1", "whsec_AAAA").is_err(), "a short secret is none");
    }
}
