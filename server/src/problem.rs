//! Errors as `application/problem+json`: one code for each way a request can
//! fail, each with its status, its title and what the caller should do next.
//!
//! **Invariant:** a problem says nothing of the inside: no source text of an
//! operating error reaches a caller, only the log.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;

/// What went wrong, as callers match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It is not HTTP.
    MalformedRequest,
    /// The body is not JSON at all.
    InvalidJson,
    /// The key that makes a repeat safe is missing.
    IdempotencyKeyRequired,
    /// No key, or not one of ours.
    Unauthorized,
    /// The key, or the user, may not do this.
    Forbidden,
    /// No such thing, or no such route.
    NotFound,
    /// The route has no such method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The wallet does not hold enough.
    InsufficientFunds,
    /// The reference stands for something else.
    ReferenceConflict,
    /// It has ended otherwise.
    WrongState,
    /// What follows the cursor is not kept any more.
    CursorGone,
    /// The body is over 1 MiB.
    PayloadTooLarge,
    /// The body is not said to be JSON in UTF-8, or said to be compressed.
    UnsupportedMediaType,
    /// A field cannot be so.
    InvalidField,
    /// The idempotency key stands for another path or body.
    IdempotencyMismatch,
    /// The head is over 16 KiB.
    HeadTooLarge,
    /// Something failed here.
    Internal,
    /// More is being asked than can be answered.
    Overloaded,
    /// It may or may not have happened.
    Unconfirmed,
    /// The server is going away.
    ShuttingDown,
    /// The server does not serve yet, or not now.
    NotReady,
    /// The disk is full.
    StorageFull,
}

/// What a caller should do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Ask again with the same idempotency key.
    SameKey,
    /// Ask again with a new idempotency key.
    NewKey,
    /// Ask again after `Retry-After`, with the same key.
    After,
    /// The same request will never succeed.
    Never,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 23] = [
        Code::MalformedRequest,
        Code::InvalidJson,
        Code::IdempotencyKeyRequired,
        Code::Unauthorized,
        Code::Forbidden,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::RequestTimeout,
        Code::InsufficientFunds,
        Code::ReferenceConflict,
        Code::WrongState,
        Code::CursorGone,
        Code::PayloadTooLarge,
        Code::UnsupportedMediaType,
        Code::InvalidField,
        Code::IdempotencyMismatch,
        Code::HeadTooLarge,
        Code::Internal,
        Code::Overloaded,
        Code::Unconfirmed,
        Code::ShuttingDown,
        Code::NotReady,
        Code::StorageFull,
    ];

    /// Status, code, title and what to do next.
    pub const fn facts(self) -> (StatusCode, &'static str, &'static str, Retry) {
        use Retry::{After, Never, NewKey, SameKey};
        match self {
            Code::MalformedRequest => (StatusCode::BAD_REQUEST, "malformed_request", "Not an HTTP request", Never),
            Code::InvalidJson => (StatusCode::BAD_REQUEST, "invalid_json", "Not valid JSON", Never),
            Code::IdempotencyKeyRequired => {
                (StatusCode::BAD_REQUEST, "idempotency_key_required", "Idempotency key required", NewKey)
            }
            Code::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Not authorized", Never),
            Code::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "Not allowed", Never),
            Code::NotFound => (StatusCode::NOT_FOUND, "not_found", "Not found", Never),
            Code::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", Never)
            }
            Code::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "request_timeout", "Request took too long", SameKey),
            Code::InsufficientFunds => (StatusCode::CONFLICT, "insufficient_funds", "Insufficient funds", SameKey),
            Code::ReferenceConflict => (StatusCode::CONFLICT, "reference_conflict", "Reference already used", Never),
            Code::WrongState => (StatusCode::CONFLICT, "wrong_state", "Not possible any more", Never),
            Code::CursorGone => (StatusCode::GONE, "cursor_gone", "Not kept any more", Never),
            Code::PayloadTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "Request body too large", Never)
            }
            Code::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type", Never)
            }
            Code::InvalidField => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", "Invalid field", Never),
            Code::IdempotencyMismatch => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_mismatch",
                "Idempotency key used for another request",
                NewKey,
            ),
            Code::HeadTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "Request head too large", Never)
            }
            Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", SameKey),
            Code::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded", After),
            Code::Unconfirmed => (StatusCode::SERVICE_UNAVAILABLE, "unconfirmed", "Outcome not known", SameKey),
            Code::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "Shutting down", After),
            Code::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not_ready", "Not ready", After),
            Code::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "storage_full", "Storage full", After),
        }
    }

    /// Seconds for `Retry-After`, where asking again helps after a while.
    const fn retry_after_s(self) -> Option<u16> {
        match self {
            Code::Overloaded | Code::Unconfirmed => Some(1),
            Code::ShuttingDown | Code::NotReady => Some(5),
            Code::StorageFull => Some(30),
            _ => None,
        }
    }
}

/// A field of the request and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field as the API names it; `grabs[3].user` for a nested one.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// An error to be told to the caller.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    oldest_cursor: Option<String>,
}

/// The most characters of a message: it may quote what the caller sent.
const MESSAGE_CHARS_MAX: usize = 300;

impl Problem {
    /// A problem of this code; `detail` names the remedy.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { code, detail: detail.into(), errors: Vec::new(), oldest_cursor: None }
    }

    /// 404 for whatever is not there.
    pub fn not_found() -> Problem {
        Problem::new(Code::NotFound, "There is no such thing here; check the id and the path.")
    }

    /// 405 for another method of a path that is there.
    pub fn method_not_allowed() -> Problem {
        Problem::new(Code::MethodNotAllowed, "This path has other methods; see the header Allow.")
    }

    /// 500 for whatever failed here.
    pub fn internal() -> Problem {
        Problem::new(Code::Internal, "Something failed here; ask again with the same key, or tell the operator.")
    }

    /// 410 for a cursor of the feed that is too old; says from where to go on.
    pub fn cursor_gone(oldest_cursor: String) -> Problem {
        let detail = "Events behind this cursor are not kept any more. Bring what you know of them up to date by other \
                      reads, and go on with after=oldest_cursor.";
        Problem { oldest_cursor: Some(oldest_cursor), ..Problem::new(Code::CursorGone, detail) }
    }

    /// 422 for one field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Problem {
        let mut message: String = message.into();
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
            message.truncate(end);
            message.push('…');
        }
        Problem::fields(vec![FieldError { field: field.into(), message }])
    }

    /// 422 for some fields.
    pub fn fields(errors: Vec<FieldError>) -> Problem {
        let detail = match errors.first() {
            Some(first) if !first.field.is_empty() => format!("{}: {}", first.field, first.message),
            Some(first) => first.message.clone(),
            None => "A field cannot be so.".to_owned(),
        };
        Problem { errors, ..Problem::new(Code::InvalidField, detail) }
    }

    /// This problem as that of a part of the body: its fields are named from there.
    pub fn within(self, part: &str) -> Problem {
        let named = |FieldError { field, message }: FieldError| match &*field {
            "body" => FieldError { field: part.to_owned(), message },
            _ => FieldError { field: format!("{part}.{field}"), message },
        };
        match self.code {
            Code::InvalidField => Problem::fields(self.errors.into_iter().map(named).collect()),
            _ => self,
        }
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The problem as JSON, appended to `out`.
    pub fn write_json(&self, out: &mut Vec<u8>, request_id: &str) {
        #[derive(Serialize)]
        struct Wire<'a> {
            r#type: &'static str,
            title: &'static str,
            status: u16,
            code: &'static str,
            detail: &'a str,
            request_id: &'a str,
            retry: Retry,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            errors: &'a [FieldError],
            #[serde(skip_serializing_if = "Option::is_none")]
            oldest_cursor: Option<&'a str>,
        }
        let (status, code, title, retry) = self.code.facts();
        let wire = Wire {
            r#type: "about:blank",
            title,
            status: status.as_u16(),
            code,
            detail: &self.detail,
            request_id,
            retry,
            errors: &self.errors,
            oldest_cursor: self.oldest_cursor.as_deref(),
        };
        serde_json::to_writer(out, &wire).expect("a problem is plain strings and numbers");
    }

    /// The answer that tells it.
    pub fn response(&self, request_id: &str) -> Response {
        let mut body = Vec::with_capacity(384);
        self.write_json(&mut body, request_id);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.code.facts().0;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.code.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self.code {
            Code::Unauthorized => {
                headers.insert("www-authenticate", HeaderValue::from_static("Bearer"));
            }
            // What is left of such a request is not read, so nothing can follow it.
            Code::MalformedRequest | Code::PayloadTooLarge | Code::RequestTimeout => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

impl IntoResponse for Problem {
    /// A response that only carries the problem: the door writes it out, since
    /// it is the door that knows the request's id.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.code.facts().0;
        response.extensions_mut().insert(self);
        response
    }
}
