//! The bytes between a connection and its peer.
//!
//! What is no request never reaches a handler: hyper answers it by itself, with
//! a status and nothing else. Here such an answer gets the problem that callers
//! expect, on its way out.
//!
//! Who is answered before all it sent was read gets to see the answer: to close
//! at once would take it back.
//!
//! **Invariant:** what a handler answered passes unchanged: it has a request id,
//! which the automatic answers have not.

use crate::door::new_request_id;
use crate::problem::{Code, Problem};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// The longest automatic answer: a status, a length, a date.
const AUTOMATIC_BYTES_MAX: usize = 256;
/// What a peer sends beyond what was answered is read so far, or for so long, and forgotten.
const LINGER_BYTES_MAX: usize = 4 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// A connection's stream.
pub(crate) struct Wire<'a> {
    stream: TcpStream,
    is_test: bool,
    /// Whether the peer may still be sending what its last answer did not wait for.
    is_unread: &'a AtomicBool,
    refusal: Option<Box<Refusal>>,
    linger: Option<Box<Linger>>,
}

/// The last answer of a connection that sent what is no request.
struct Refusal {
    /// What is left to be written.
    rest: Vec<u8>,
    written: usize,
}

/// The end of a connection whose peer may still be sending.
struct Linger {
    is_shut: bool,
    forgotten: usize,
    patience: Pin<Box<Sleep>>,
}

impl Linger {
    fn new() -> Box<Linger> {
        Box::new(Linger { is_shut: false, forgotten: 0, patience: Box::pin(tokio::time::sleep(LINGER)) })
    }
}

impl<'a> Wire<'a> {
    /// `is_test`: whether answers say so. `is_unread` is looked at when the connection ends.
    pub(crate) fn new(stream: TcpStream, is_test: bool, is_unread: &'a AtomicBool) -> Wire<'a> {
        Wire { stream, is_test, is_unread, refusal: None, linger: None }
    }

    /// Takes `before` and an automatic answer in place of the stream.
    fn refuse(&mut self, before: &[IoSlice<'_>], refusal: Vec<u8>) {
        let mut rest: Vec<u8> = before.iter().flat_map(|part| part.iter().copied()).collect();
        rest.extend_from_slice(&refusal);
        self.refusal = Some(Box::new(Refusal { rest, written: 0 }));
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(refusal) = &mut self.refusal else { return Poll::Ready(Ok(())) };
        while refusal.written < refusal.rest.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &refusal.rest[refusal.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            refusal.written += written;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire<'_> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(context))?;
        match with_problem(bytes, self.is_test) {
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
            Some(refusal) => {
                self.refuse(&[], refusal);
                Poll::Ready(Ok(bytes.len()))
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(context))?;
        let refusal = parts.split_last().and_then(|(last, before)| Some((before, with_problem(last, self.is_test)?)));
        match refusal {
            None => Pin::new(&mut self.stream).poll_write_vectored(context, parts),
            Some((before, refusal)) => {
                self.refuse(before, refusal);
                Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        let Wire { stream, is_unread, refusal, linger, .. } = &mut *self;
        if refusal.is_none() && !is_unread.load(Ordering::Relaxed) {
            return Pin::new(stream).poll_shutdown(context);
        }
        let linger = linger.get_or_insert_with(Linger::new);
        if !linger.is_shut {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
            linger.is_shut = true;
        }
        let mut scratch = [0; 4096];
        while linger.forgotten < LINGER_BYTES_MAX && linger.patience.as_mut().poll(context).is_pending() {
            let mut into = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut into))?;
            match into.filled().len() {
                0 => break,
                read => linger.forgotten += read,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What has to be written in place of `bytes`, if they end with an automatic answer.
fn with_problem(bytes: &[u8], is_test: bool) -> Option<Vec<u8>> {
    const EMPTY: &[u8] = b"content-length: 0\r\n";
    // Answers of ours end with a body.
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let tail = bytes.len().saturating_sub(AUTOMATIC_BYTES_MAX);
    let find = |what: &[u8]| bytes[tail..].windows(what.len()).rposition(|it| it == what).map(|at| tail + at);
    let (status, problem) = if let Some(at) = find(b"HTTP/1.1 431 ") {
        (at, Problem::new(Code::HeadTooLarge, "The head is over 16 KiB or has over 100 headers; send less in it."))
    } else {
        let detail = "This is not an HTTP/1.1 request: its first line or a header is malformed; see RFC 9112.";
        (find(b"HTTP/1.1 400 ")?, Problem::new(Code::MalformedRequest, detail))
    };
    let length = find(EMPTY).filter(|&at| at > status)?;
    if bytes[status..].windows(13).any(|it| it == b"x-request-id:") {
        return None;
    }
    let id = new_request_id();
    let mut body = Vec::with_capacity(384);
    problem.write_json(&mut body, &id);
    let mut whole = bytes[..length].to_vec();
    let test = if is_test { "hongbao-test: true\r\n" } else { "" };
    let length_now = body.len();
    let more = format!(
        "content-type: application/problem+json\r\nx-request-id: {id}\r\n{test}content-length: {length_now}\r\n"
    );
    whole.extend_from_slice(more.as_bytes());
    whole.extend_from_slice(&bytes[length + EMPTY.len()..]);
    whole.extend_from_slice(&body);
    Some(whole)
}
