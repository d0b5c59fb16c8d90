//! What handlers take from a request: ids and users of the path, pages of
//! lists, idempotency keys and JSON bodies.
//!
//! **Invariant:** whatever a caller sends, extracting it ends in a value that
//! was checked or in a [`Problem`] that names the field; it never panics, and
//! it never reads more than [`BODY_BYTES_MAX`].

use crate::app::Shared;
use crate::auth::Caller;
use crate::door::Visit;
use crate::problem::{Code, Problem};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri};
use hongbao_engine::backend::{Backend, OnceKey, Page};
pub use hongbao_engine::types::hex;
use hongbao_engine::types::{
    ApiKeyId, EnvelopeId, GiftEnvelopeId, GiftId, GroupId, HoldId, ItemId, OrderId, PaymentId, PayoutId, Timestamp,
    UserId, WebhookId,
};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// The largest body that is read.
pub const BODY_BYTES_MAX: usize = 1 << 20;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
const LIMIT_MAX: usize = 1000;
/// How much of a list is told unless it is said.
pub const LIMIT_DEFAULT: usize = 100;
const CURSOR_BYTES_MAX: usize = 512;
/// The most characters of a field's name that are told: a caller may have made it up.
const FIELD_CHARS_MAX: usize = 200;

/// A part of a path.
pub trait Segment: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What the caller should be told.
    fn read(text: &str) -> Result<Self, Problem>;
}

macro_rules! id_segment {
    ($($id:ident),*) => {$(
        impl Segment for $id {
            /// A malformed id is one that does not exist.
            fn read(text: &str) -> Result<Self, Problem> {
                text.parse().map_err(|_| Problem::not_found())
            }
        }
    )*};
}
id_segment!(
    ApiKeyId,
    EnvelopeId,
    GiftEnvelopeId,
    GiftId,
    GroupId,
    HoldId,
    ItemId,
    OrderId,
    PaymentId,
    PayoutId,
    WebhookId
);

impl Segment for UserId {
    fn read(text: &str) -> Result<Self, Problem> {
        UserId::new(text).map_err(|error| Problem::field("user", error.to_string()))
    }
}

/// What stands for a part of the path that is not UTF-8: no id and no user.
const NOT_UTF8: &str = "\u{fffd}";

/// The only variable part of the path.
pub struct One<T>(pub T);

impl<T: Segment, S: Send + Sync> FromRequestParts<S> for One<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // Fails where a part is not UTF-8.
        let Ok(params) = RawPathParams::from_request_parts(parts, state).await else {
            return T::read(NOT_UTF8).map(One);
        };
        let (_, text) = params.iter().next().ok_or_else(Problem::not_found)?;
        Ok(One(T::read(text)?))
    }
}

/// Both variable parts of the path, which ends with the second.
pub struct Two<T, U>(pub T, pub U);

impl<T: Segment, U: Segment, S: Send + Sync> FromRequestParts<S> for Two<T, U> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(params) = RawPathParams::from_request_parts(parts, state).await else {
            if parts.uri.path().rsplit('/').next().and_then(decode).is_some() {
                T::read(NOT_UTF8)?;
            }
            U::read(NOT_UTF8)?;
            return Err(Problem::not_found());
        };
        let mut texts = params.iter().map(|(_, text)| text);
        let (Some(first), Some(second)) = (texts.next(), texts.next()) else { return Err(Problem::not_found()) };
        Ok(Two(T::read(first)?, U::read(second)?))
    }
}

/// The query's pairs.
pub struct Params(Vec<(String, String)>);

/// The query of a request that takes no parameters.
pub struct NoParams;

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Params::read(&parts.uri)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NoParams {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        NoParams::read(&parts.uri)
    }
}

impl NoParams {
    fn read(uri: &Uri) -> Result<NoParams, Problem> {
        if uri.query().is_some() {
            Params::read(uri)?.only(&[])?;
        }
        Ok(NoParams)
    }
}

fn parameter(name: &str, message: &str) -> Problem {
    Problem::field(name.chars().take(FIELD_CHARS_MAX).collect::<String>(), message)
}

const NOT_DECODED: &str = "must be percent-encoded UTF-8";

/// A name or value of a query, or a part of a path, as it was before it was encoded.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

impl Params {
    fn read(uri: &Uri) -> Result<Params, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| Problem::field("query", NOT_DECODED))?;
            let value = decode(value).ok_or_else(|| parameter(&name, NOT_DECODED))?;
            pairs.push((name, value));
        }
        Ok(Params(pairs))
    }

    /// Whether each parameter is one of `names`, is there once and has a value.
    ///
    /// # Errors
    /// 422 naming one that is not so.
    pub fn only(&self, names: &[&str]) -> Result<(), Problem> {
        for (i, (name, value)) in self.0.iter().enumerate() {
            let named = |message: &str| Err(parameter(name, message));
            if !names.contains(&name.as_str()) {
                return match names {
                    [] => named("unknown parameter; this takes none"),
                    _ => named(&format!("unknown parameter; this takes {}", names.join(", "))),
                };
            }
            if self.0[..i].iter().any(|(earlier, _)| earlier == name) {
                return named("is there twice; send it once");
            }
            // The first page has no cursor, and clients send what they have.
            if value.is_empty() && name != "cursor" {
                return named("is empty; give it a value or leave it out");
            }
        }
        Ok(())
    }

    /// The value under `name`; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value under `name`, read by `read`.
    ///
    /// # Errors
    /// 422 naming the parameter.
    pub fn parse<T, E: fmt::Display>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        self.get(name).map(read).transpose().map_err(|error| Problem::field(name, error.to_string()))
    }

    /// How much of a list is wanted, if it is said.
    ///
    /// # Errors
    /// 422 naming it.
    pub fn limit(&self) -> Result<Option<usize>, Problem> {
        self.parse("limit", |text| match text.parse() {
            Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
            _ => Err(format!("must be an integer from 1 to {LIMIT_MAX}")),
        })
    }

    /// `limit` and `cursor` of a list that can be filtered by `filters`.
    ///
    /// # Errors
    /// 422 naming either, or a parameter that the list does not take.
    pub fn page(&self, filters: &[&str]) -> Result<Page, Problem> {
        self.only(&[filters, &["limit", "cursor"]].concat())?;
        let limit = self.limit()?;
        let cursor =
            self.parse("cursor", |text| read_hex(text).ok_or("must be the next_cursor of this list's last page"))?;
        Ok(Page { limit: limit.unwrap_or(LIMIT_DEFAULT), cursor })
    }
}

/// Bytes from hexadecimal, up to the length of a cursor.
pub fn read_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * CURSOR_BYTES_MAX {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits.chunks_exact(2).map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}

/// A time as RFC 3339.
///
/// # Errors
/// What it should look like.
pub fn read_time(text: &str) -> Result<Timestamp, &'static str> {
    const FORM: &str = "must be an RFC 3339 time from 1970 on, as 2027-02-06T20:00:00Z";
    let time: jiff::Timestamp = text.parse().map_err(|_| FORM)?;
    u64::try_from(time.as_millisecond()).map(Timestamp::from_ms).map_err(|_| FORM)
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Visit>().and_then(|visit| visit.caller.clone());
        caller.ok_or_else(|| Problem::new(Code::Unauthorized, "Send the header Authorization: Bearer <key>."))
    }
}

/// The idempotency key with its scope, if the request has one.
pub struct MaybeOnce(pub Option<OnceKey>);

impl<S: Send + Sync> FromRequestParts<S> for MaybeOnce {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(text) = idempotency_key(&parts.headers)? else { return Ok(MaybeOnce(None)) };
        let text = text.to_owned();
        let visit = parts.extensions.get::<Visit>().ok_or_else(Problem::not_found)?;
        let owner = visit.caller.as_ref().map_or("", Caller::owner);
        // What the path names is part of the command, and so of its fingerprint.
        let route = format!("{} {}", parts.method, visit.template);
        Ok(MaybeOnce(Some(OnceKey::idempotency(owner, &route, &text))))
    }
}

/// The idempotency key with its scope, of a request that must have one.
pub struct Once(pub OnceKey);

impl<S: Send + Sync> FromRequestParts<S> for Once {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let MaybeOnce(key) = MaybeOnce::from_request_parts(parts, state).await?;
        key.map(Once).ok_or_else(key_required)
    }
}

/// 400 for a request that must have an idempotency key and has none.
pub fn key_required() -> Problem {
    let detail = "Send a header Idempotency-Key of your own making, the same one when you repeat this request.";
    Problem::new(Code::IdempotencyKeyRequired, detail)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let malformed = |message: &'static str| Err(Problem::field("Idempotency-Key", message));
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return malformed("is there several times; send it once");
    }
    match value.to_str() {
        Ok("") => malformed("is empty; send 1 to 255 visible ASCII characters"),
        Ok(text) if text.len() > IDEMPOTENCY_KEY_CHARS_MAX => {
            malformed("is too long; send 1 to 255 visible ASCII characters")
        }
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(text)),
        _ => malformed("may only hold visible ASCII characters, without spaces"),
    }
}

/// Nothing: `{}` or an empty body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

impl Content for Empty {
    const MAY_BE_EMPTY: bool = true;
}

/// What a JSON body is read into.
pub trait Content: DeserializeOwned {
    /// Whether an empty body stands for `{}`.
    const MAY_BE_EMPTY: bool = false;

    /// Reads it from a whole body.
    ///
    /// # Errors
    /// 400 if that is not JSON, 422 naming the field that cannot be so.
    fn read(bytes: &[u8]) -> Result<Self, Problem> {
        from_json(bytes)
    }

    /// What can be said against it from the body alone, beyond its fields' types.
    ///
    /// # Errors
    /// 422 naming the fields.
    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// The content of a body in its most common form, so that it need not go
    /// the general way. What this gives must be what the general way would give;
    /// it says nothing of bodies that it does not take.
    fn read_common(_bytes: &[u8]) -> Option<Self> {
        None
    }
}

/// A body of JSON, read and checked. A request that has one takes no parameters.
pub struct Json<T>(pub T);

impl<B: Backend, T: Content> FromRequest<Shared<B>> for Json<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, server: &Shared<B>) -> Result<Self, Problem> {
        let bytes = read_json(request, server.body_timeout, BODY_BYTES_MAX).await?;
        let content: T = match &*bytes {
            [] if T::MAY_BE_EMPTY => T::read(b"{}")?,
            bytes => T::read(bytes)?,
        };
        content.check()?;
        Ok(Json(content))
    }
}

/// A body of JSON as it came, since it is signed. A request that has one takes no parameters.
pub struct RawBody<const MAX: usize>(pub Bytes);

impl<B: Backend, const MAX: usize> FromRequest<Shared<B>> for RawBody<MAX> {
    type Rejection = Problem;
    async fn from_request(request: Request, server: &Shared<B>) -> Result<Self, Problem> {
        read_json(request, server.body_timeout, MAX).await.map(RawBody)
    }
}

/// A body that is said to be JSON, of a request that takes no parameters.
async fn read_json(request: Request, timeout: Duration, bytes_max: usize) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    NoParams::read(&parts.uri)?;
    parts.headers.get_all(CONTENT_ENCODING).iter().try_for_each(check_content_encoding)?;
    let mut content_types = parts.headers.get_all(CONTENT_TYPE).iter();
    let content_type = content_types.next();
    if content_types.next().is_some() {
        return Err(Problem::new(Code::UnsupportedMediaType, "Send one Content-Type: application/json."));
    }
    content_type.map_or(Ok(()), check_content_type)?;
    let bytes = read_body(body, timeout, bytes_max).await?;
    if content_type.is_none() && !bytes.is_empty() {
        return Err(unsupported());
    }
    Ok(bytes)
}

fn check_content_type(value: &HeaderValue) -> Result<(), Problem> {
    if value == "application/json" {
        return Ok(());
    }
    let text = value.to_str().map_err(|_| unsupported())?;
    let mut parts = text.split(';').map(str::trim);
    if !parts.next().is_some_and(|mime| mime.eq_ignore_ascii_case("application/json")) {
        return Err(unsupported());
    }
    let utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, charset)) if name.eq_ignore_ascii_case("charset") => {
            charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    if parts.all(utf8) { Ok(()) } else { Err(unsupported()) }
}

fn check_content_encoding(value: &HeaderValue) -> Result<(), Problem> {
    if value.as_bytes().eq_ignore_ascii_case(b"identity") {
        return Ok(());
    }
    let detail = "Bodies are not decompressed here; send it as it is, without Content-Encoding.";
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

fn unsupported() -> Problem {
    Problem::new(Code::UnsupportedMediaType, "Send the body as JSON in UTF-8, with Content-Type: application/json.")
}

async fn read_body(mut body: Body, timeout: Duration, bytes_max: usize) -> Result<Bytes, Problem> {
    let read = async {
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(too_large(bytes_max));
        }
        let mut whole = Bytes::new();
        let mut parts = Vec::new();
        while !body.is_end_stream() {
            let Some(frame) = body.frame().await else { break };
            let cut_off = |_| Problem::new(Code::InvalidJson, "The body broke off; send it whole.");
            let Ok(part) = frame.map_err(cut_off)?.into_data() else { continue };
            if whole.is_empty() && parts.is_empty() {
                whole = part;
            } else {
                if parts.is_empty() {
                    parts.extend_from_slice(&whole);
                }
                parts.extend_from_slice(&part);
            }
            if whole.len().max(parts.len()) > bytes_max {
                return Err(too_large(bytes_max));
            }
        }
        Ok(if parts.is_empty() { whole } else { parts.into() })
    };
    let mut read = pin!(read);
    // Most bodies came with their head, and need no timer.
    if let Poll::Ready(done) = poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await {
        return done;
    }
    let late = |_| Problem::new(Code::RequestTimeout, "The body did not arrive in time; send it again.");
    tokio::time::timeout(timeout, read).await.map_err(late)?
}

/// The rest is not waited for: [`crate::wire`] forgets it, so that its sender gets
/// to see the answer instead of a broken connection.
fn too_large(bytes_max: usize) -> Problem {
    let most = if bytes_max == BODY_BYTES_MAX { "1 MiB".to_owned() } else { format!("{} KiB", bytes_max >> 10) };
    Problem::new(Code::PayloadTooLarge, format!("The body is over {most}; send less at once."))
}

/// Reads a JSON object with strict rules. What is wrong with a bad one is found
/// out by reading it again, so that a good one costs nothing extra.
///
/// # Errors
/// 400 if it is not JSON, 422 naming the field that cannot be so.
pub fn from_json<T: Content>(bytes: &[u8]) -> Result<T, Problem> {
    if let Some(content) = T::read_common(bytes) {
        return Ok(content);
    }
    if let Ok(Object(content)) = serde_json::from_slice(bytes) {
        return Ok(content);
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(not_json(error));
    }
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
        return Err(not_json(error));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, Object<T>>(&mut json) {
        Ok(Object(content)) => Ok(content),
        Err(error) => Err(explain(&error.path().to_string(), error.inner())),
    }
}

fn not_json(error: impl fmt::Display) -> Problem {
    let shown = error.to_string().chars().take(200).collect::<String>();
    Problem::new(Code::InvalidJson, format!("The body is not JSON: {shown}."))
}

/// The body is JSON, so whatever serde says is about what it means.
fn explain(path: &str, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let (message, _) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix)?.split_once('`'))
        .map(|(name, _)| name);
    let unquoted = unquoted(message);
    let message = match unquoted.as_deref().unwrap_or(message) {
        "number out of range" => "is far too large for any number here; send an integer within the field's bounds",
        message => message,
    };
    let field = match (path, named) {
        (".", None) => "body".to_owned(),
        (".", Some(name)) => name.to_owned(),
        (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    };
    Problem::field(field.chars().take(FIELD_CHARS_MAX).collect::<String>(), message)
}

/// What serde says of a value of another type or form, without the value: it may be anybody's.
fn unquoted(message: &str) -> Option<String> {
    let (found, expected) = message.rsplit_once(", expected ")?;
    let kind = found.split(['"', '`']).next()?.trim_end();
    (kind != found).then(|| format!("{kind}, expected {expected}"))
}

/// A JSON object read into `T`. Derived readers would also take an array of the
/// fields in order, which nobody means.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InObject<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for InObject<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(InObject(PhantomData))
    }
}
