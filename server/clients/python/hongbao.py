"""Client of a Hongbao server: one file, standard library only, Python 3.9 or newer.

    from hongbao import Client, Won

    with Client("http://127.0.0.1:8080", "hb_...") as hongbao:
        hongbao.deposit("alice", amount=1000)
        envelope = hongbao.create_envelope(sender="alice", total=1000, shares=3)
        outcome = hongbao.grab(envelope.id, user="bob")
        if isinstance(outcome, Won):
            print(outcome.amount)

A call that gets no answer is made again, under the same idempotency key, until
`limit_s` seconds are over; whatever happened on the way happened once. A business
"no" is an outcome, not an error; an outcome this file does not know is an
`Unknown`, to be read as "no win so far". Amounts are integers of minor units (fen).
One client serves any number of threads; each has a connection of its own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import io
import json
import random
import secrets
import ssl
import threading
import time
import typing
import urllib.parse
from dataclasses import MISSING, dataclass, fields
from typing import Any, Callable, ClassVar, Dict, Iterator, List, Literal, Mapping, Optional, Tuple, Type, TypeVar, Union

__all__: List[str] = ["Client", "Error", "FieldError", "NoAnswer", "Problem", "UNSET", "Unexpected", "Unknown", "Unset"]

T = TypeVar("T")
# The largest integer that every reader of JSON keeps exactly.
INTEGER_MAX = 9_007_199_254_740_991
# A server closes a connection after 15 s without a request (--read-timeout-s).
IDLE_S_MAX = 10.0
BACKOFF_S_FIRST, BACKOFF_S_MAX = 0.05, 5.0
# How long the server waits for an event, unless it is told.
POLL_S = 25
# More than any answer has. What goes on for longer is not one.
ANSWER_BYTES_MAX = 64 << 20


class Unset:
    """What an argument is that is not sent at all; `None` is sent as null."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()


class Error(Exception):
    """Whatever keeps a call from its answer.

    `idempotency_key` is the one the call was made under, if it has one: the same
    call with it, now or in a week, gets the answer of the first that succeeded.
    """

    idempotency_key: Optional[str] = None
    attempts: int = 0


class NoAnswer(Error):
    """No answer came in time: what was asked for may or may not have happened."""


class Unexpected(Error):
    """An answer that is not of this API; is the address that of a Hongbao server?"""


@dataclass(frozen=True)
class FieldError:
    """A field of the request, and what is wrong with it."""

    field: str
    message: str


class Problem(Error):
    """The server refused. `retry` tells what would help: `same_key`, `new_key`, `after` or `never`."""

    def __init__(self, body: Mapping[str, Any], retry_after_s: Optional[int] = None):
        self.status = int(body["status"])
        self.code = str(body["code"])
        self.title = str(body.get("title", ""))
        self.detail = str(body.get("detail", ""))
        self.retry = str(body.get("retry", "never"))
        self.request_id = str(body.get("request_id", ""))
        self.errors = [FieldError(str(one["field"]), str(one["message"])) for one in body.get("errors", [])]
        self.retry_after_s = retry_after_s
        super().__init__(f"{self.status} {self.code}: {self.detail} (request {self.request_id})")

    @property
    def is_worth_repeating(self) -> bool:
        """Whether the same call may succeed by itself. Of a business "no" that a repeat
        is safe after, like `insufficient_funds`, the caller decides."""
        passing = self.status >= 500 or self.status == 408 or self.code == "in_progress"
        return self.retry == "after" or (self.retry == "same_key" and passing)


@dataclass(frozen=True)
class Unknown:
    """One of several kinds that is newer than this file; an outcome like this is no win so far."""

    name: str
    body: Mapping[str, Any]


def _union(tag: str, cases: Mapping[str, Type[Any]]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get(tag), str):
            raise Unexpected(f"an answer has no {tag}: {value!r:.200}")
        case = cases.get(value[tag])
        return Unknown(value[tag], value) if case is None else _read(case, value)

    return read


def _either(*cases: Tuple[str, Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        for key, case in cases:
            if isinstance(value, dict) and key in value:
                return _read(case, value)
        raise Unexpected(f"an answer is none of what it may be: {value!r:.200}")

    return read


def _read(kind: Any, value: Any) -> Any:
    """What JSON says as a value of `kind`. Words that are not known are kept, fields that are not are left out."""
    by_hand = _READERS.get(kind)
    if by_hand is not None:
        return by_hand(value)
    origin = typing.get_origin(kind)
    if kind is Any or origin is Literal or kind is str and isinstance(value, str):
        return value
    if origin is Union and type(None) in typing.get_args(kind):
        inner = tuple(one for one in typing.get_args(kind) if one is not type(None))
        return None if value is None else _read(Union[inner], value)
    if origin is list and isinstance(value, list):
        (item,) = typing.get_args(kind)
        return [_read(item, one) for one in value]
    if origin is dict and isinstance(value, dict):
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and type(value) is int and abs(value) <= INTEGER_MAX:
        return value
    if isinstance(kind, type) and isinstance(value, dict) and hasattr(kind, "__dataclass_fields__"):
        hints = _HINTS.get(kind)
        if hints is None:
            hints = _HINTS[kind] = typing.get_type_hints(kind)
        read = {}
        for one in fields(kind):
            name = one.name[:-1] if one.name.endswith("_") else one.name
            if name in value:
                read[one.name] = _read(hints[one.name], value[name])
            elif one.default is MISSING:
                raise Unexpected(f"an answer has no {name}: {value!r:.200}")
        return kind(**read)
    raise Unexpected(f"an answer has {value!r:.200} where {kind} is due")


_HINTS: Dict[Any, Dict[str, Any]] = {}
_READERS: Dict[Any, Callable[[Any], Any]] = {Problem: Problem}


def _sent(value: Any, name: str) -> Any:
    """A value as it is sent: no number that JSON could change on the way."""
    if isinstance(value, float):
        raise TypeError(f"{name} is {value!r}: amounts and counts are integers, of minor units")
    if type(value) is int and abs(value) > INTEGER_MAX:
        raise ValueError(f"{name} is {value}: at most {INTEGER_MAX}")
    if hasattr(value, "__dataclass_fields__"):
        value = {one.name.rstrip("_"): getattr(value, one.name) for one in fields(value)}
    if isinstance(value, dict):
        # Metadata is the caller's own, numbers included.
        return {key: one if key == "metadata" else _sent(one, f"{name}.{key}")
                for key, one in value.items() if one is not UNSET}
    if isinstance(value, (list, tuple)):
        return [_sent(one, f"{name}[{at}]") for at, one in enumerate(value)]
    return value


class _Timed(io.RawIOBase):
    """What comes in on a connection until a deadline, however slowly it comes: a socket's
    own limit is for each of its reads."""

    def __init__(self, sock: Any, deadline_s: float):
        self._sock, self._from, self._deadline_s = sock, sock.makefile("rb", buffering=0), deadline_s

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> Optional[int]:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it took too long")
        self._sock.settimeout(left_s)
        return self._from.readinto(into)

    def close(self) -> None:
        self._from.close()
        super().close()


def _response(deadline_s: float) -> Callable[..., http.client.HTTPResponse]:
    def response(sock: Any, *given: Any, **named: Any) -> http.client.HTTPResponse:
        made = http.client.HTTPResponse(sock, *given, **named)
        made.fp.close()
        made.fp = io.BufferedReader(_Timed(sock, deadline_s))
        return made

    return response


class _Connection:
    """A thread's own, kept alive between calls."""

    def __init__(self) -> None:
        self.http: Optional[http.client.HTTPConnection] = None
        self.used_at_s = 0.0

    def close(self) -> None:
        if self.http is not None:
            self.http.close()
            self.http = None


class _Transport:
    """How calls are made: connections, keys, repeats."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        limit_s: float = 30.0,
        attempt_s: float = 10.0,
        context: Optional[ssl.SSLContext] = None,
    ):
        """A client of the server at `url` with this API key.

        `limit_s` bounds a call with all its repeats, `attempt_s` one request of it.
        `context` is for `https` by way of a proxy of yours.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an address: give one like http://127.0.0.1:8080")
        self._tls = parts.scheme == "https"
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._key, self._limit_s, self._attempt_s, self._context = key, limit_s, attempt_s, context
        self._own = threading.local()
        self._all: List[_Connection] = []
        self._lock = threading.Lock()

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes every thread's connection; the next call makes a new one."""
        with self._lock:
            for connection in self._all:
                connection.close()

    def _connection(self, timeout_s: float) -> Tuple[_Connection, http.client.HTTPConnection]:
        own: Optional[_Connection] = getattr(self._own, "connection", None)
        if own is None:
            own = self._own.connection = _Connection()
            with self._lock:
                self._all.append(own)
        if own.http is not None and time.monotonic() - own.used_at_s > IDLE_S_MAX:
            own.close()
        if own.http is None:
            if self._tls:
                own.http = http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._context)
            else:
                own.http = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        if own.http.sock is not None:
            own.http.sock.settimeout(timeout_s)
        else:
            own.http.timeout = timeout_s
        return own, own.http

    def _once(
        self, method: str, path: str, headers: Dict[str, str], body: Optional[bytes], timeout_s: float
    ) -> Tuple[int, Mapping[str, str], bytes]:
        own, connection = self._connection(timeout_s)
        connection.response_class = _response(time.monotonic() + timeout_s)  # type: ignore[assignment]
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = _all_of(response)
        except BaseException:
            # Half an answer must not be taken for that of the next call.
            own.close()
            raise
        own.used_at_s = time.monotonic()
        if response.will_close:
            own.close()
        return response.status, response.headers, text

    def _call(
        self,
        answer: Any,
        method: str,
        path: str,
        *,
        query: Optional[Dict[str, Any]] = None,
        body: Optional[Dict[str, Any]] = None,
        keyed: bool = False,
        repeatable: bool = True,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Any:
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json"}
        if keyed:
            idempotency_key = idempotency_key or secrets.token_hex(16)
            headers["Idempotency-Key"] = idempotency_key
        content = None
        if body is not None:
            content = json.dumps(_sent(body, "body"), ensure_ascii=False, allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        told = {name: _text(value) for name, value in (query or {}).items() if value is not UNSET and value is not None}
        path = self._prefix + path + ("?" + urllib.parse.urlencode(told) if told else "")
        # A long poll has that time on top: the server means to be late.
        poll_s = (query["wait_s"] if query["wait_s"] is not None else POLL_S) if query and "wait_s" in query else 0
        deadline_s = time.monotonic() + poll_s + (self._limit_s if limit_s is None else limit_s)
        backoff_s, attempts, was_lost = BACKOFF_S_FIRST, 0, False
        while True:
            attempts += 1
            wait_s, error = 0.0, None
            timeout_s = max(0.001, min(poll_s + self._attempt_s, deadline_s - time.monotonic()))
            try:
                status, answered, text = self._once(method, path, headers, content, timeout_s)
                if 200 <= status < 300:
                    try:
                        return _answer(answer, text)
                    except Unexpected as unexpected:
                        unexpected.idempotency_key, unexpected.attempts = idempotency_key, attempts
                        raise
                error = _problem(status, answered, text)
                if method == "DELETE" and status == 404 and was_lost:
                    return None  # by the attempt before, whose answer was lost
                again = error.is_worth_repeating and (repeatable or error.retry == "after")
                wait_s = float(error.retry_after_s or 0)
            except (OSError, http.client.HTTPException) as lost:
                error = NoAnswer(f"{method} {path}: no answer: {lost or type(lost).__name__}")
                error.__cause__ = lost
                again = was_lost = repeatable
            wait_s += random.uniform(0, backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)
            if not again or time.monotonic() + wait_s >= deadline_s:
                error.idempotency_key, error.attempts = idempotency_key, attempts
                raise error
            time.sleep(wait_s)

    def _pages(self, page: Callable[[Optional[str]], Any], items: str) -> Iterator[Any]:
        cursor: Optional[str] = None
        while True:
            shown = page(cursor)
            yield from getattr(shown, items)
            cursor = shown.next_cursor
            if cursor is None:
                return


def _all_of(response: http.client.HTTPResponse) -> bytes:
    """A body, in pieces: how long it says it is may not be so."""
    parts, left = [], ANSWER_BYTES_MAX
    while True:
        part = response.read(1 << 16)
        if not part:
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
            return b"".join(parts)
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise http.client.HTTPException(f"the answer does not end after {ANSWER_BYTES_MAX} bytes")


def _answer(kind: Any, text: bytes) -> Any:
    if kind is None:
        return None
    if kind is bytes:
        return text.decode(errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unexpected(f"an answer is not JSON: {text[:200]!r}") from error
    try:
        return _read(kind, value)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        # A problem in its place that is none.
        raise Unexpected(f"an answer is none of this API: {text[:200]!r}") from error


def _problem(status: int, headers: Mapping[str, str], text: bytes) -> Problem:
    after = headers.get("Retry-After", "")
    # Ten digits of seconds are longer than anybody waits.
    retry_after_s = int(after[:10]) if after.isascii() and after.isdigit() else None
    try:
        return Problem(json.loads(text), retry_after_s)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        # Of a proxy in between: it may have passed the request on, or not.
        retry = "after" if status in (429, 503) else "same_key" if status >= 500 else "never"
        detail = text[:200].decode(errors="replace")
        return Problem({"status": status, "code": f"http_{status}", "retry": retry, "detail": detail}, retry_after_s)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _part(value: str) -> str:
    """A part of a path. What would name another path is refused."""
    if value in ("", ".", ".."):
        raise ValueError(f"{value!r} cannot be a user or an id")
    return urllib.parse.quote(value, safe="")


class InvalidWebhook(Exception):
    """A request that the server did not send, or not now."""


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, *, tolerance_s: float = 300, now_s: Optional[float] = None
) -> Any:
    """What a webhook's request says, if it was signed with this secret and sent within the last minutes.

    `body` has to be the bytes as they came. Batches may come twice: keep the `webhook-id` of the
    last ones. Raises InvalidWebhook; answer that with 400.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, sent_at, signatures = (given["webhook-" + name] for name in ("id", "timestamp", "signature"))
        key = base64.b64decode(secret[len("whsec_"):] if secret.startswith("whsec_") else secret, validate=True)
        distance_s = abs(float(time.time() if now_s is None else now_s) - int(sent_at))
        signed = f"{message_id}.{sent_at}.".encode() + body
        told = [one.encode() for one in signatures.split(" ")]
    except (KeyError, ValueError, OverflowError) as error:
        raise InvalidWebhook(f"no signed request, or no secret: {error}") from None
    if distance_s > tolerance_s:
        raise InvalidWebhook(f"sent {distance_s:.0f} s from now; check this machine's clock")
    expected = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    if not key or not any(hmac.compare_digest(expected, one) for one in told):
        raise InvalidWebhook("no signature is of this secret")
    return json.loads(body)


# --- generated from here, by server/clients/generate ---


# Minor units (fen). Never a float, never a string.
Amount = int
# Minor units (fen).
Balance = int
Count = int
# 1 to 64 of A-Z a-z 0-9 _ . : @ -, not . or .. ; use pseudonymous ids.
User = str
Time = str
# The caller's own number: visible characters, unique per owner and kind for ever. Sent again under another
# Idempotency-Key, the same content gets the first answer, with Idempotency-Replayed: true; other content is
# 409 reference_conflict.
Reference = str
EnvelopeId = str
ItemId = str
HoldId = str
OrderId = str
PaymentId = str
PayoutId = str
GiftId = str
GiftEnvelopeId = str
GroupId = str
WebhookId = str


@dataclass(frozen=True)
class WebhookFailure:
    at: Time
    detail: str


@dataclass(frozen=True)
class Webhook:
    id: WebhookId
    url: str
    types: Optional[List[str]]
    owner: Optional[str]
    state: Literal["active", "failing", "disabled"]
    """failing: the last request failed."""
    disabled_reason: Optional[str]
    secret: Optional[str]
    """
    What signatures are made with: whsec_ and base64. Null when this is not the answer that made it.
    """
    cursor: str
    """Behind what was delivered, or is a dead letter."""
    pending: int
    """Events of the batch that is on its way."""
    attempts: int
    """How often that was tried."""
    next_attempt_at: Optional[Time]
    """When it is tried again."""
    lag_s: int
    """The age of its first event."""
    dead: int
    """Dead letters that are kept."""
    last_success_at: Optional[Time]
    """When a batch was taken last."""
    last_error: Optional[WebhookFailure]
    created_at: Time


# Where the next page starts; null at the end.
Cursor = Optional[str]


@dataclass(frozen=True)
class Webhooks:
    webhooks: List[Webhook]
    next_cursor: Cursor


@dataclass(frozen=True)
class WebhookPinged:
    delivered: bool
    """Whether a 2xx came back."""
    error: Optional[str]
    """What came back instead."""


@dataclass(frozen=True)
class DeadLetter:
    id: str
    """Its webhook-id."""
    events: int
    """How many; 0 if they were gone before they were counted."""
    after: str
    """The cursor before them."""
    until: str
    """The cursor behind them."""
    attempts: int
    died_at: Time
    detail: str
    """Why the last attempt failed."""
    gone: bool
    """Whether its events are not kept any more."""
    redelivering: bool
    """Whether it is about to be sent once more."""


@dataclass(frozen=True)
class DeadLetters:
    dead: List[DeadLetter]
    next_cursor: Cursor


KeyId = str
# admin: everything. issuer: creates envelopes and items, sees and cancels its owner's envelopes, changes its
# owner's items. caller: grabs, claims and reads on behalf of users. treasurer: moves money in and out of
# wallets. merchant:<id>: reads this merchant's items and orders. viewer: reads everything but keys.
Role = str


@dataclass(frozen=True)
class Key:
    id: KeyId
    name: str
    owner: User
    roles: List[Role]
    created_at: Time


@dataclass(frozen=True)
class Event:
    id: str
    """The same whenever this event is told."""
    type: Literal["envelope.created", "envelope.sold_out", "envelope.expired", "envelope.cancelled", "envelope.settled", "share.grabbed", "share.claimed", "share.lapsed", "wallet.deposited", "wallet.withdrawn", "item.put", "hold.held", "hold.claimed", "hold.released", "hold.expired", "order.created", "payout.due", "payout.sent", "payout.paid", "payout.failed", "envelope.redacted", "merchant.changed", "gift.awaiting_payment", "gift.offered", "gift.accepted", "gift.shipped", "gift.delivered", "gift.declined", "gift.expired", "gift.cancelled", "gift.failed", "merchant.settled", "gift.redacted", "order.shipped", "order.delivered", "order.return_requested", "order.returned", "order.refused", "payment.created", "payment.paid", "payment.failed", "payment.refunding", "payment.refunded", "group.opened", "group.joined", "group.left", "group.full", "group.expired", "group.leader_left"]
    """
    More may come: pass over what you do not know. item.put is an item put on sale, changed or restocked;
    share.lapsed is one event for all shares of an envelope that nobody claimed in time.
    """
    at: Time
    data: Dict[str, Any]
    """
    What it is about, as it was then: of envelope.created an Envelope, of hold.* a Hold, of order.* an Order,
    of payout.* a Payout, of payment.* a Payment, of merchant.changed a Merchant, of merchant.settled
    SettledSales, of gift.* a Gift, of group.* GroupHappened, of item.put an Item whose stock tells `total`
    only.
    """
    owner: Optional[str] = None
    """
    The owner of the envelope, gift or group, if it is about one or its payouts, or of the item that was put.
    """


@dataclass(frozen=True)
class Events:
    events: List[Event]
    next_cursor: str
    """Where to go on; also where there are no events."""


EnvelopeState = Literal["scheduled", "open", "sold_out", "expired", "cancelled", "settled"]


@dataclass(frozen=True)
class EnvelopeChanged:
    id: EnvelopeId
    sender: User
    reference: Optional[str]
    state: EnvelopeState
    ended_as: Literal["sold_out", "expired", "cancelled"]
    claimed_amount: Optional[Balance] = None
    refunded_amount: Optional[Balance] = None


@dataclass(frozen=True)
class RedactedEnvelope:
    id: EnvelopeId
    sender: User
    reference: Optional[str]
    redacted_at: Time
    with_metadata: bool
    """Whether the metadata was taken back as well."""


@dataclass(frozen=True)
class ShareOf:
    envelope: EnvelopeId
    sender: User
    reference: Optional[str]
    user: User
    share: int
    amount: Amount
    status: Literal["grabbed", "claimed"]
    grabbed_at: Time
    claimed_at: Optional[str]


@dataclass(frozen=True)
class LapsedShares:
    envelope: EnvelopeId
    sender: User
    reference: Optional[str]
    amount: Amount


Currency = str


@dataclass(frozen=True)
class MovedMoney:
    user: User
    currency: Currency
    amount: Amount
    available: Balance
    reference: Optional[str]


@dataclass(frozen=True)
class MadeKey:
    id: KeyId
    name: str
    owner: User
    roles: List[Role]
    created_at: Time
    key: Optional[str]
    """What is sent as Authorization: Bearer. Null when this is not the answer that made it."""


@dataclass(frozen=True)
class Keys:
    keys: List[Key]
    next_cursor: Cursor


ShareStatus = Literal["grabbed", "claimed", "lapsed"]
PayoutState = Literal["due", "sent", "paid", "failed"]
# win: a share that was claimed. refund: what nobody took, to the sender.
PayoutKind = Literal["win", "refund"]


@dataclass(frozen=True)
class Wallet:
    user: User
    currency: Currency
    available: Balance
    held: Balance


@dataclass(frozen=True)
class Entry:
    at: Time
    kind: Literal["deposit", "withdrawal", "envelope", "claim", "refund", "lapse", "order", "gift", "gift_refund", "order_refund", "group", "group_refund"]
    amount: Amount
    balance_after: Balance
    envelope: Optional[EnvelopeId] = None
    order: Optional[OrderId] = None
    gift: Optional[GiftId] = None
    group: Optional[GroupId] = None
    reference: Optional[Reference] = None


@dataclass(frozen=True)
class Entries:
    entries: List[Entry]
    next_cursor: Cursor


@dataclass(frozen=True)
class NewEnvelopeFunding:
    reference: Reference


@dataclass(frozen=True)
class EnvelopeFunding:
    """
    Under which reference its money came from outside; null if it came from the sender's wallet.
    """

    reference: Reference


@dataclass(frozen=True)
class Envelope:
    id: EnvelopeId
    sender: User
    state: EnvelopeState
    ended_as: Optional[Literal["sold_out", "expired", "cancelled"]]
    total: Amount
    currency: Currency
    shares: Count
    split: str
    message: str
    remaining_shares: Count
    remaining_amount: Balance
    claimed_amount: Balance
    refunded_amount: Balance
    created_at: Time
    opens_at: Time
    expires_at: Time
    claim_by: Time
    commitment: str
    """
    SHA-256 over the bytes of `hongbao/commitment/1`, a zero byte and the 32 bytes of `seed_secret`, in
    hexadecimal. The seed of the draw is HMAC-SHA256 with `seed_secret` as key over the 16 bytes of the id and
    the `client_seed`.
    """
    seed_secret: Optional[str]
    """The secret, in hexadecimal, once no share is ungrabbed."""
    reference: Optional[Reference]
    metadata: Dict[str, Any]
    funding: Optional[EnvelopeFunding]
    """
    Under which reference its money came from outside; null if it came from the sender's wallet.
    """
    payout: Literal["wallet", "external"]
    """Where a claim goes: into the winner's wallet, or outside, by a payout of kind win."""
    redacted_at: Optional[str]
    """When its message was taken back; then `message` is empty."""


@dataclass(frozen=True)
class Envelopes:
    envelopes: List[Envelope]
    next_cursor: Cursor


@dataclass(frozen=True)
class Won:
    outcome: Literal["won"]
    amount: Amount
    share: Count
    status: ShareStatus
    grabbed_at: Time
    claim_by: Time
    replayed: bool


@dataclass(frozen=True)
class SoldOut:
    outcome: Literal["sold_out"]


@dataclass(frozen=True)
class Expired:
    outcome: Literal["expired"]


@dataclass(frozen=True)
class Cancelled:
    outcome: Literal["cancelled"]


@dataclass(frozen=True)
class NotOpen:
    outcome: Literal["not_open"]
    opens_at: Time


@dataclass(frozen=True)
class NotEligible:
    outcome: Literal["not_eligible"]
    reason: str


@dataclass(frozen=True)
class Claimed:
    outcome: Literal["claimed"]
    amount: Amount
    claimed_at: Time
    replayed: bool


@dataclass(frozen=True)
class NotWon:
    outcome: Literal["not_won"]


@dataclass(frozen=True)
class Lapsed:
    outcome: Literal["lapsed"]


@dataclass(frozen=True)
class Held:
    outcome: Literal["held"]
    hold: HoldId
    quantity: Count
    amount: Amount
    expires_at: Time
    replayed: bool
    """
    Whether the user held this unit already when it was asked for. A repeat under the same Idempotency-Key is
    answered with the first answer as it was, false included; that it is a repeat says the header
    Idempotency-Replayed.
    """


@dataclass(frozen=True)
class LimitReached:
    outcome: Literal["limit_reached"]


@dataclass(frozen=True)
class Ended:
    outcome: Literal["ended"]


@dataclass(frozen=True)
class Ordered:
    outcome: Literal["claimed"]
    order: OrderId
    replayed: bool


@dataclass(frozen=True)
class Released:
    outcome: Literal["released"]
    replayed: bool


@dataclass(frozen=True)
class CannotPay:
    outcome: Literal["insufficient_funds"]


@dataclass(frozen=True)
class Failed:
    error: Problem


# Treat an outcome you do not know as no win so far.
GrabOutcome = Union[Won, SoldOut, Expired, Cancelled, NotOpen, NotEligible, Unknown]
_READERS[GrabOutcome] = _union(
    "outcome",
    {
        "won": Won,
        "sold_out": SoldOut,
        "expired": Expired,
        "cancelled": Cancelled,
        "not_open": NotOpen,
        "not_eligible": NotEligible,
    },
)
# Treat an outcome you do not know as no win so far.
ClaimOutcome = Union[Claimed, NotWon, Lapsed, Unknown]
_READERS[ClaimOutcome] = _union(
    "outcome",
    {
        "claimed": Claimed,
        "not_won": NotWon,
        "lapsed": Lapsed,
    },
)
# Treat an outcome you do not know as no win so far.
ItemGrabOutcome = Union[Held, SoldOut, LimitReached, NotOpen, Ended, Unknown]
_READERS[ItemGrabOutcome] = _union(
    "outcome",
    {
        "held": Held,
        "sold_out": SoldOut,
        "limit_reached": LimitReached,
        "not_open": NotOpen,
        "ended": Ended,
    },
)


@dataclass(frozen=True)
class AwaitingPayment:
    outcome: Literal["awaiting_payment"]
    payment: PaymentId
    gateway: str
    amount: Amount
    currency: Currency
    pay_url: Optional[str]
    """Where to pay; null until the gateway has said so: ask again, or GET /v1/payments/{id}."""
    expires_at: Time
    order: Optional[str]
    """The order that it has made."""
    reason: Optional[str]
    """Why it failed."""


@dataclass(frozen=True)
class PaidOutside:
    outcome: Literal["paid"]
    payment: PaymentId
    gateway: str
    amount: Amount
    currency: Currency
    pay_url: Optional[str]
    """Where to pay; null until the gateway has said so: ask again, or GET /v1/payments/{id}."""
    expires_at: Time
    order: Optional[str]
    """The order that it has made."""
    reason: Optional[str]
    """Why it failed."""


@dataclass(frozen=True)
class PaymentFailed:
    outcome: Literal["payment_failed"]
    payment: PaymentId
    gateway: str
    amount: Amount
    currency: Currency
    pay_url: Optional[str]
    """Where to pay; null until the gateway has said so: ask again, or GET /v1/payments/{id}."""
    expires_at: Time
    order: Optional[str]
    """The order that it has made."""
    reason: Optional[str]
    """Why it failed."""


# Treat an outcome you do not know as no win so far.
HoldClaimOutcome = Union[Ordered, Expired, Released, CannotPay, AwaitingPayment, PaidOutside, PaymentFailed, Unknown]
_READERS[HoldClaimOutcome] = _union(
    "outcome",
    {
        "claimed": Ordered,
        "expired": Expired,
        "released": Released,
        "insufficient_funds": CannotPay,
        "awaiting_payment": AwaitingPayment,
        "paid": PaidOutside,
        "payment_failed": PaymentFailed,
    },
)
# Treat an outcome you do not know as no win so far.
ReleaseOutcome = Union[Released, Expired, Ordered, Unknown]
_READERS[ReleaseOutcome] = _union(
    "outcome",
    {
        "released": Released,
        "expired": Expired,
        "claimed": Ordered,
    },
)


@dataclass(frozen=True)
class GrabPair:
    envelope: str
    user: User


GrabResult = Union[GrabOutcome, Failed]
_READERS[GrabResult] = _either(("error", Failed), ("outcome", GrabOutcome))


@dataclass(frozen=True)
class GrabResults:
    results: List[GrabResult]


@dataclass(frozen=True)
class Grab:
    user: User
    amount: Amount
    share: Count
    status: ShareStatus
    grabbed_at: Time
    claimed_at: Optional[str]
    best: bool
    """The luckiest, told once every share is taken."""


@dataclass(frozen=True)
class Grabs:
    grabs: List[Grab]
    next_cursor: Cursor


@dataclass(frozen=True)
class Received:
    envelope: EnvelopeId
    sender: User
    amount: Amount
    status: ShareStatus
    grabbed_at: Time
    claimed_at: Optional[str]


@dataclass(frozen=True)
class ReceivedGrabs:
    grabs: List[Received]
    next_cursor: Cursor


# Treat an outcome you do not know as not paid so far.
GiftPaymentOutcome = Union[AwaitingPayment, PaidOutside, PaymentFailed, Unknown]
_READERS[GiftPaymentOutcome] = _union(
    "outcome",
    {
        "awaiting_payment": AwaitingPayment,
        "paid": PaidOutside,
        "payment_failed": PaymentFailed,
    },
)
PaymentState = Literal["created", "pending", "paid", "failed", "expired", "refunding", "refunded"]


@dataclass(frozen=True)
class PaymentTaken:
    payment: PaymentId
    state: PaymentState


@dataclass(frozen=True)
class Payment:
    id: PaymentId
    gateway: str
    state: PaymentState
    hold: Optional[str]
    """What it is for, if it is a hold."""
    gift: Optional[str]
    """What it is for, if it is a gift."""
    payer: User
    merchant: User
    amount: Amount
    currency: Currency
    taken: Balance
    """What the gateway has taken."""
    created_at: Time
    expires_at: Time
    kept_until: Time
    """
    Until when what it is for is kept at most while the gateway does not say whether it was paid.
    """
    pay_url: Optional[str]
    gateway_id: Optional[str]
    """The gateway's own number."""
    paid_at: Optional[str]
    order: Optional[str]
    """The order that it has made."""
    refunding_at: Optional[str]
    refunded_at: Optional[str]
    refund_id: Optional[str]
    """The gateway's own number of the refund."""
    reason: Optional[str]
    """Why it failed, or why its money goes back."""
    discrepancy: Optional[Literal["other_amount", "paid_twice", "paid_after_refund"]]
    """What the gateway said that cannot be right: the first of it."""


@dataclass(frozen=True)
class Payments:
    payments: List[Payment]
    next_cursor: Cursor


@dataclass(frozen=True)
class Payout:
    id: PayoutId
    kind: PayoutKind
    user: User
    amount: Amount
    currency: Currency
    envelope: EnvelopeId
    funding_reference: Optional[str]
    """That of the envelope's funding, if it was funded from outside."""
    state: PayoutState
    attempts: Count
    """How often it was no longer due."""
    reference: Optional[str]
    """The last one told."""
    reason: Optional[str]
    """The last one told."""
    created_at: Time
    changed_at: Time


@dataclass(frozen=True)
class Payouts:
    payouts: List[Payout]
    next_cursor: Cursor


@dataclass(frozen=True)
class PayoutResultsResultsItem:
    id: str
    state: PayoutState
    reference: Union[Optional[str], Unset] = UNSET
    """A number by which you or the bank know it: visible characters."""
    reason: Union[Optional[str], Unset] = UNSET


@dataclass(frozen=True)
class PayoutAnswersResultsItem:
    id: Optional[str]
    """As it was sent, up to 64 characters; null if there was none."""
    state: Optional[PayoutState] = None
    error: Optional[Problem] = None


@dataclass(frozen=True)
class PayoutAnswers:
    results: List[PayoutAnswersResultsItem]


@dataclass(frozen=True)
class Audit:
    balanced: bool
    deposited: Balance
    withdrawn: Balance
    paid_out: Balance
    wallets: Balance
    escrowed: Balance
    payable: Balance
    refunding: Balance
    """On its way back to who paid outside."""
    merchants: Balance
    platform: Balance
    in_flight: Balance


@dataclass(frozen=True)
class NewMerchantVerification:
    """Who checked its papers; only beside the status `verified`."""

    by: Union[Optional[str], Unset] = UNSET
    """Left out, the name of the calling key."""
    reference: Union[Optional[str], Unset] = UNSET
    """The checker's own number of what was checked."""


MerchantStatus = Literal["pending", "verified", "suspended"]


@dataclass(frozen=True)
class MerchantVerification:
    """Who checked its papers, if somebody did since it was last pending."""

    by: str
    """Who checked them."""
    reference: Optional[str]
    """The checker's own number of what was checked."""
    at: Time


@dataclass(frozen=True)
class Merchant:
    id: User
    name: str
    status: MerchantStatus
    verification: Optional[MerchantVerification]
    """Who checked its papers, if somebody did since it was last pending."""
    settle_after_s: int
    """How long the money of its sales is pending, seconds."""
    commission_bps: int
    """What of its sales is the platform's, in hundredths of a percent."""


@dataclass(frozen=True)
class SalesBalance:
    """What a merchant has of its sales."""

    merchant: User
    currency: Currency
    pending: Balance
    """Of sales that are not due yet, the platform's commission in it."""
    available: Balance
    """What can be taken out."""


@dataclass(frozen=True)
class PendingAndAvailable:
    pending: Balance
    available: Balance


@dataclass(frozen=True)
class SalesEntry:
    """
    A movement of a merchant's money. A sale comes into what is pending; a commission leaves that for the
    platform, and what is settled for what is available; a refund leaves either, and a withdrawal what is
    available.
    """

    at: Time
    kind: Literal["sale", "commission", "settled", "refund", "withdrawal"]
    amount: Balance
    balance_after: PendingAndAvailable
    order: Optional[OrderId] = None
    gift: Optional[GiftId] = None
    commission: Optional[Balance] = None
    from_: Optional[Literal["pending", "available"]] = None
    due: Optional[Time] = None
    reference: Optional[Reference] = None


@dataclass(frozen=True)
class SalesStatement:
    """
    The entries of a time, and what the merchant had before and after all of it, on every page.
    """

    merchant: User
    currency: Currency
    opening: PendingAndAvailable
    entries: List[SalesEntry]
    closing: PendingAndAvailable
    next_cursor: Cursor


@dataclass(frozen=True)
class SettledSales:
    merchant: User
    currency: Currency
    due: Time
    amount: Amount
    commission: Balance
    balance_after: PendingAndAvailable


@dataclass(frozen=True)
class Merchants:
    merchants: List[Merchant]
    next_cursor: Cursor


# What comes of a unit that is paid: it is shipped, or delivered otherwise, or is one of a list of codes.
ItemKind = Literal["physical", "virtual", "code"]


@dataclass(frozen=True)
class GroupBuy:
    """On which terms groups buy an item."""

    size: int
    """How many members a group has, its leader among them."""
    price: Amount
    """What each pays for one unit, at most the item's price."""
    within_s: int
    """How long a group may take to be full."""


@dataclass(frozen=True)
class Stock:
    total: Count
    free: Count
    held: Count
    sold: Count


@dataclass(frozen=True)
class Item:
    id: ItemId
    merchant: User
    name: str
    category: str
    kind: ItemKind
    variant_of: Optional[str]
    """The item of which it is a variant."""
    return_within_s: int
    """How long after its delivery an order may be sent back; 0 is never, as it is of a code."""
    price: Amount
    currency: Currency
    stock: Stock
    per_user_limit: Optional[int]
    starts_at: Optional[str]
    ends_at: Optional[str]
    hold_ttl_s: int
    image_url: Optional[str]
    group_buy: Optional[GroupBuy]
    created_at: Time


@dataclass(frozen=True)
class Items:
    items: List[Item]
    next_cursor: Cursor


@dataclass(frozen=True)
class Hold:
    id: HoldId
    item: ItemId
    user: User
    quantity: Count
    amount: Amount
    currency: Currency
    state: Literal["held", "claimed", "released", "expired"]
    order: Optional[OrderId]
    created_at: Time
    expires_at: Time


OrderState = Literal["paid", "shipped", "delivered", "return_requested", "returned", "refused"]


@dataclass(frozen=True)
class Order:
    id: OrderId
    hold: HoldId
    item: ItemId
    merchant: User
    user: User
    quantity: Count
    amount: Amount
    currency: Currency
    created_at: Time
    state: OrderState
    shipped_at: Optional[str]
    carrier: Optional[str]
    tracking: Optional[str]
    delivered_at: Optional[str]
    return_requested_at: Optional[str]
    return_reason: Optional[str]
    answer_by: Optional[str]
    """Until when the merchant is to answer a return: who asks again from then on has it."""
    ended_at: Optional[str]
    refusal: Optional[str]
    """Why the merchant does not take it back."""
    restocked: bool
    """Whether its units are on sale again."""
    codes: Optional[List[str]] = None
    """
    What it was handed, if its item is of the kind `code`, where one order is asked for with a key of the role
    `admin` or `caller`; null for others. No event and no list has it.
    """


@dataclass(frozen=True)
class Codes:
    codes: List[str]


GiftState = Literal["awaiting_payment", "offered", "accepted", "shipped", "delivered", "declined", "expired", "cancelled", "failed"]


@dataclass(frozen=True)
class GiftUnit:
    gift: GiftId
    recipient: Optional[User]
    """Who has grabbed it."""
    state: GiftState


@dataclass(frozen=True)
class GiftEnvelope:
    id: GiftEnvelopeId
    state: Literal["awaiting_payment", "open", "sold_out", "expired", "cancelled"]
    giver: User
    payer: User
    item: ItemId
    merchant: User
    units: Count
    amount: Amount
    """Of a unit."""
    currency: Currency
    message: str
    remaining: Count
    grabbed: Count
    created_at: Time
    pay_by: Optional[Time]
    expires_at: Optional[Time]
    """null before it is paid, and once every unit is grabbed."""
    accept_within_s: int
    reference: Optional[str]
    gifts: List[GiftUnit]
    """In the order in which they are grabbed."""
    token: Optional[str] = None
    """
    What has to be shown to grab, as long as that can be; for keys with the role admin or caller.
    """


@dataclass(frozen=True)
class GiftEnvelopes:
    gift_envelopes: List[GiftEnvelope]
    next_cursor: Cursor


@dataclass(frozen=True)
class Gift:
    id: GiftId
    state: GiftState
    giver: User
    recipient: Optional[str]
    """null until somebody accepts it, if it was made for nobody in particular."""
    payer: User
    """Who pays or has paid, and gets the money back if it comes to nothing."""
    item: ItemId
    merchant: User
    amount: Amount
    currency: Currency
    message: str
    created_at: Time
    pay_by: Optional[str]
    """Until when it may be paid, if somebody else was asked."""
    paid_at: Optional[str]
    """When it was paid."""
    accept_by: Optional[str]
    """Until when it may be accepted, once it is paid."""
    accepted_at: Optional[str]
    """When it was accepted."""
    ship_by: Optional[str]
    """Until when it is to be shipped, once it is accepted."""
    shipped_at: Optional[str]
    """When it was shipped."""
    carrier: Optional[str]
    tracking: Optional[str]
    ended_at: Optional[str]
    """When it came to its end."""
    reason: Optional[str]
    """Why it was declined or failed."""
    note: Optional[str]
    """What the recipient has said."""
    reference: Optional[str]
    metadata: Dict[str, Any]
    redacted_at: Optional[str]
    """When its texts were taken back, the first time."""
    token: Optional[str] = None
    """
    What whoever accepts it has to show, if it was made for nobody in particular: told while it can be
    accepted, to keys with the role admin or caller.
    """


@dataclass(frozen=True)
class OfferedGift:
    outcome: Literal["offered"]
    gift: Gift
    replayed: bool


# Treat an outcome you do not know as no gift so far.
GiftGrabOutcome = Union[OfferedGift, SoldOut, Expired, Cancelled, Unknown]
_READERS[GiftGrabOutcome] = _union(
    "outcome",
    {
        "offered": OfferedGift,
        "sold_out": SoldOut,
        "expired": Expired,
        "cancelled": Cancelled,
    },
)


@dataclass(frozen=True)
class NewRelation:
    user: User
    other: User
    relation: Literal["none", "follows", "blocks"]
    """What the user is to the other."""


@dataclass(frozen=True)
class RelationsTold:
    rows: int


@dataclass(frozen=True)
class Relation:
    user: User
    other: User
    relation: Literal["follows", "blocks"]


@dataclass(frozen=True)
class Relations:
    relations: List[Relation]
    next_cursor: Cursor


@dataclass(frozen=True)
class Gifts:
    gifts: List[Gift]
    next_cursor: Cursor


# Of a group that is expired or whose leader has left all have their money back.
GroupState = Literal["open", "full", "expired", "leader_left"]


@dataclass(frozen=True)
class GroupMember:
    user: User
    joined_at: Time
    order: Optional[str]
    """Once the group is full."""


@dataclass(frozen=True)
class Group:
    id: GroupId
    state: GroupState
    item: ItemId
    merchant: User
    leader: User
    members: int
    """How many are in it."""
    size: int
    """How many it takes."""
    price: Amount
    """What each pays: the item's price for groups when it was opened."""
    currency: Currency
    joined: List[GroupMember]
    """Who is in it, in the order in which they joined; of one that came to nothing, who was."""
    created_at: Time
    expires_at: Time
    ended_at: Optional[str]
    """When it was full, or came to nothing."""
    reference: Optional[str]


@dataclass(frozen=True)
class GroupHappened:
    """A group, and who opened, joined or left it."""

    id: GroupId
    state: GroupState
    item: ItemId
    merchant: User
    leader: User
    members: int
    size: int
    price: Amount
    currency: Currency
    joined: List[GroupMember]
    created_at: Time
    expires_at: Time
    ended_at: Optional[str]
    reference: Optional[str]
    user: Optional[User] = None


@dataclass(frozen=True)
class Groups:
    groups: List[Group]
    next_cursor: Cursor


@dataclass(frozen=True)
class Joined:
    outcome: Literal["joined"]
    group: GroupId
    state: GroupState
    members: int
    size: int
    price: Amount
    expires_at: Time
    order: Optional[str]
    """The user's, once the group is full."""
    replayed: bool
    """Whether the user was in it before."""


@dataclass(frozen=True)
class GroupFull:
    outcome: Literal["full"]


@dataclass(frozen=True)
class LeaderLeft:
    outcome: Literal["leader_left"]


# Treat an outcome you do not know as not joined so far.
GroupOutcome = Union[Joined, GroupFull, Expired, LeaderLeft, SoldOut, LimitReached, NotOpen, Ended, CannotPay, Unknown]
_READERS[GroupOutcome] = _union(
    "outcome",
    {
        "joined": Joined,
        "full": GroupFull,
        "expired": Expired,
        "leader_left": LeaderLeft,
        "sold_out": SoldOut,
        "limit_reached": LimitReached,
        "not_open": NotOpen,
        "ended": Ended,
        "insufficient_funds": CannotPay,
    },
)


@dataclass(frozen=True)
class Address:
    name: str
    phone: str
    lines: List[str]
    city: str
    postcode: Union[str, Unset] = UNSET


@dataclass(frozen=True)
class GiftAddress:
    gift: GiftId
    version: int
    """Which address of the gift it is; shipping names it."""
    name: str
    phone: str
    lines: List[str]
    city: str
    postcode: str


@dataclass(frozen=True)
class Clock:
    now: Time


@dataclass(frozen=True)
class Faults:
    fault: Literal["overloaded", "slow", "lose_reply"]
    count: int
    """So many of the next requests."""


@dataclass(frozen=True)
class Status:
    status: str

__all__ += [
    "Address",
    "Amount",
    "Audit",
    "AwaitingPayment",
    "Balance",
    "Cancelled",
    "CannotPay",
    "ClaimOutcome",
    "Claimed",
    "Clock",
    "Codes",
    "Count",
    "Currency",
    "Cursor",
    "DeadLetter",
    "DeadLetters",
    "Ended",
    "Entries",
    "Entry",
    "Envelope",
    "EnvelopeChanged",
    "EnvelopeFunding",
    "EnvelopeId",
    "EnvelopeState",
    "Envelopes",
    "Event",
    "Events",
    "Expired",
    "Failed",
    "Faults",
    "Gift",
    "GiftAddress",
    "GiftEnvelope",
    "GiftEnvelopeId",
    "GiftEnvelopes",
    "GiftGrabOutcome",
    "GiftId",
    "GiftPaymentOutcome",
    "GiftState",
    "GiftUnit",
    "Gifts",
    "Grab",
    "GrabOutcome",
    "GrabPair",
    "GrabResult",
    "GrabResults",
    "Grabs",
    "Group",
    "GroupBuy",
    "GroupFull",
    "GroupHappened",
    "GroupId",
    "GroupMember",
    "GroupOutcome",
    "GroupState",
    "Groups",
    "Held",
    "Hold",
    "HoldClaimOutcome",
    "HoldId",
    "Item",
    "ItemGrabOutcome",
    "ItemId",
    "ItemKind",
    "Items",
    "Joined",
    "Key",
    "KeyId",
    "Keys",
    "Lapsed",
    "LapsedShares",
    "LeaderLeft",
    "LimitReached",
    "MadeKey",
    "Merchant",
    "MerchantStatus",
    "MerchantVerification",
    "Merchants",
    "MovedMoney",
    "NewEnvelopeFunding",
    "NewMerchantVerification",
    "NewRelation",
    "NotEligible",
    "NotOpen",
    "NotWon",
    "OfferedGift",
    "Order",
    "OrderId",
    "OrderState",
    "Ordered",
    "PaidOutside",
    "Payment",
    "PaymentFailed",
    "PaymentId",
    "PaymentState",
    "PaymentTaken",
    "Payments",
    "Payout",
    "PayoutAnswers",
    "PayoutAnswersResultsItem",
    "PayoutId",
    "PayoutKind",
    "PayoutResultsResultsItem",
    "PayoutState",
    "Payouts",
    "PendingAndAvailable",
    "Received",
    "ReceivedGrabs",
    "RedactedEnvelope",
    "Reference",
    "Relation",
    "Relations",
    "RelationsTold",
    "ReleaseOutcome",
    "Released",
    "Role",
    "SalesBalance",
    "SalesEntry",
    "SalesStatement",
    "SettledSales",
    "ShareOf",
    "ShareStatus",
    "SoldOut",
    "Status",
    "Stock",
    "Time",
    "User",
    "Wallet",
    "Webhook",
    "WebhookFailure",
    "WebhookId",
    "WebhookPinged",
    "Webhooks",
    "Won",
]


class Client(_Transport):
    """Every call of the API, one method each; see `Error` for what they raise."""

    OPERATIONS: ClassVar[List[Tuple[str, str]]] = [
        ("POST", "/v1/wallets/{user}/deposits"),
        ("POST", "/v1/wallets/{user}/withdrawals"),
        ("GET", "/v1/wallets/{user}"),
        ("GET", "/v1/wallets/{user}/entries"),
        ("POST", "/v1/envelopes"),
        ("GET", "/v1/envelopes"),
        ("GET", "/v1/envelopes/{id}"),
        ("POST", "/v1/envelopes/{id}/grab"),
        ("POST", "/v1/envelopes/{id}/claim"),
        ("POST", "/v1/envelopes/{id}/cancel"),
        ("POST", "/v1/envelopes/{id}/redact"),
        ("GET", "/v1/envelopes/{id}/grabs"),
        ("GET", "/v1/envelopes/{id}/grabs/{user}"),
        ("POST", "/v1/grabs"),
        ("GET", "/v1/users/{user}/sent"),
        ("GET", "/v1/users/{user}/received"),
        ("GET", "/v1/audit"),
        ("GET", "/v1/payments"),
        ("GET", "/v1/payments/{id}"),
        ("POST", "/v1/payments/callbacks/{gateway}"),
        ("GET", "/v1/payouts"),
        ("GET", "/v1/payouts/{id}"),
        ("POST", "/v1/payouts/results"),
        ("POST", "/v1/merchants"),
        ("GET", "/v1/merchants"),
        ("GET", "/v1/merchants/{id}"),
        ("GET", "/v1/merchants/{id}/balance"),
        ("GET", "/v1/merchants/{id}/statement"),
        ("POST", "/v1/merchants/{id}/withdrawals"),
        ("POST", "/v1/items"),
        ("GET", "/v1/items"),
        ("GET", "/v1/items/{id}"),
        ("PATCH", "/v1/items/{id}"),
        ("POST", "/v1/items/{id}/restock"),
        ("POST", "/v1/items/{id}/codes"),
        ("POST", "/v1/items/{id}/grab"),
        ("GET", "/v1/holds/{id}"),
        ("POST", "/v1/holds/{id}/claim"),
        ("POST", "/v1/holds/{id}/release"),
        ("GET", "/v1/orders/{id}"),
        ("POST", "/v1/orders/{id}/ship"),
        ("POST", "/v1/orders/{id}/deliver"),
        ("POST", "/v1/orders/{id}/return"),
        ("POST", "/v1/orders/{id}/accept-return"),
        ("POST", "/v1/orders/{id}/refuse-return"),
        ("POST", "/v1/test/clock"),
        ("POST", "/v1/test/faults"),
        ("POST", "/v1/gifts"),
        ("GET", "/v1/gifts/{id}"),
        ("GET", "/v1/gifts/{id}/codes"),
        ("POST", "/v1/gifts/{id}/pay"),
        ("POST", "/v1/gifts/{id}/payment"),
        ("POST", "/v1/gifts/{id}/accept"),
        ("POST", "/v1/gifts/{id}/decline"),
        ("POST", "/v1/gifts/{id}/cancel"),
        ("POST", "/v1/gifts/{id}/thank"),
        ("POST", "/v1/gifts/{id}/ship"),
        ("POST", "/v1/gifts/{id}/deliver"),
        ("POST", "/v1/gifts/{id}/fail"),
        ("POST", "/v1/gifts/{id}/redact"),
        ("GET", "/v1/gifts/{id}/address"),
        ("POST", "/v1/gifts/{id}/address/erase"),
        ("GET", "/v1/users/{user}/gifts"),
        ("POST", "/v1/items/{id}/groups"),
        ("GET", "/v1/items/{id}/groups"),
        ("GET", "/v1/groups/{id}"),
        ("POST", "/v1/groups/{id}/join"),
        ("POST", "/v1/groups/{id}/leave"),
        ("GET", "/v1/users/{user}/groups"),
        ("POST", "/v1/gift-envelopes"),
        ("GET", "/v1/gift-envelopes/{id}"),
        ("POST", "/v1/gift-envelopes/{id}/pay"),
        ("POST", "/v1/gift-envelopes/{id}/grab"),
        ("POST", "/v1/gift-envelopes/{id}/cancel"),
        ("GET", "/v1/users/{user}/gift-envelopes"),
        ("POST", "/v1/relations"),
        ("GET", "/v1/users/{user}/relations"),
        ("DELETE", "/v1/users/{user}/relations"),
        ("GET", "/v1/events"),
        ("POST", "/v1/webhooks"),
        ("GET", "/v1/webhooks"),
        ("GET", "/v1/webhooks/{id}"),
        ("PATCH", "/v1/webhooks/{id}"),
        ("DELETE", "/v1/webhooks/{id}"),
        ("POST", "/v1/webhooks/{id}/rotate"),
        ("POST", "/v1/webhooks/{id}/test"),
        ("GET", "/v1/webhooks/{id}/dead"),
        ("POST", "/v1/webhooks/{id}/redeliver"),
        ("POST", "/v1/keys"),
        ("GET", "/v1/keys"),
        ("DELETE", "/v1/keys/{id}"),
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
    ]

    def deposit(
        self,
        user: str,
        *,
        amount: Amount,
        reference: Union[Optional[Reference], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Wallet:
        """Put money into a wallet."""
        answer: Wallet = self._call(
            Wallet,
            "POST",
            f"/v1/wallets/{_part(user)}/deposits",
            body={"amount": amount, "reference": reference},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def withdraw(
        self,
        user: str,
        *,
        amount: Amount,
        reference: Union[Optional[Reference], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Wallet:
        """Take money out of a wallet."""
        answer: Wallet = self._call(
            Wallet,
            "POST",
            f"/v1/wallets/{_part(user)}/withdrawals",
            body={"amount": amount, "reference": reference},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def wallet(self, user: str, *, limit_s: Optional[float] = None) -> Wallet:
        """A wallet; a user never seen has zeros."""
        answer: Wallet = self._call(Wallet, "GET", f"/v1/wallets/{_part(user)}", limit_s=limit_s)
        return answer

    def entries(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Entry]:
        """
        A wallet's movements, newest first. All of them, page after page as they are asked for; `limit` is a
        page's size.
        """
        return self._pages(lambda cursor: self.entries_page(user, limit=limit, limit_s=limit_s, cursor=cursor), "entries")

    def entries_page(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Entries:
        """A wallet's movements, newest first. One page."""
        answer: Entries = self._call(
            Entries,
            "GET",
            f"/v1/wallets/{_part(user)}/entries",
            query={"limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def create_envelope(
        self,
        *,
        sender: User,
        total: Amount,
        shares: int,
        split: Union[Literal["lucky", "uniform", "equal", "specified"], Unset] = UNSET,
        min_share: Union[Optional[int], Unset] = UNSET,
        max_share: Union[Optional[int], Unset] = UNSET,
        amounts: Union[Optional[List[Amount]], Unset] = UNSET,
        message: Union[str, Unset] = UNSET,
        opens_at: Union[Optional[str], Unset] = UNSET,
        expires_in_s: Union[int, Unset] = UNSET,
        claim_within_s: Union[int, Unset] = UNSET,
        auto_claim: Union[bool, Unset] = UNSET,
        unclaimed: Union[Literal["return", "credit"], Unset] = UNSET,
        reference: Union[Optional[Reference], Unset] = UNSET,
        metadata: Union[Dict[str, Any], Unset] = UNSET,
        client_seed: Union[Optional[str], Unset] = UNSET,
        funding: Union[Optional[NewEnvelopeFunding], Unset] = UNSET,
        payout: Union[Literal["wallet", "external"], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Envelope:
        """Create an envelope, from its sender's wallet or funded from outside."""
        answer: Envelope = self._call(
            Envelope,
            "POST",
            "/v1/envelopes",
            body={"sender": sender, "total": total, "shares": shares, "split": split, "min_share": min_share, "max_share": max_share, "amounts": amounts, "message": message, "opens_at": opens_at, "expires_in_s": expires_in_s, "claim_within_s": claim_within_s, "auto_claim": auto_claim, "unclaimed": unclaimed, "reference": reference, "metadata": metadata, "client_seed": client_seed, "funding": funding, "payout": payout},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def envelopes(
        self,
        *,
        reference: Optional[str] = None,
        sender: Optional[User] = None,
        state: Optional[EnvelopeState] = None,
        created_from: Optional[Time] = None,
        created_to: Optional[Time] = None,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Envelope]:
        """
        Envelopes, newest first. All of them, page after page as they are asked for; `limit` is a page's size.
        """
        return self._pages(lambda cursor: self.envelopes_page(reference=reference, sender=sender, state=state, created_from=created_from, created_to=created_to, limit=limit, limit_s=limit_s, cursor=cursor), "envelopes")

    def envelopes_page(
        self,
        *,
        reference: Optional[str] = None,
        sender: Optional[User] = None,
        state: Optional[EnvelopeState] = None,
        created_from: Optional[Time] = None,
        created_to: Optional[Time] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Envelopes:
        """Envelopes, newest first. One page."""
        answer: Envelopes = self._call(
            Envelopes,
            "GET",
            "/v1/envelopes",
            query={"reference": reference, "sender": sender, "state": state, "created_from": created_from, "created_to": created_to, "limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def envelope(self, id: str, *, limit_s: Optional[float] = None) -> Envelope:
        """An envelope."""
        answer: Envelope = self._call(Envelope, "GET", f"/v1/envelopes/{_part(id)}", limit_s=limit_s)
        return answer

    def grab(self, id: str, *, user: User, limit_s: Optional[float] = None) -> GrabOutcome:
        """Take a share, at most one a user."""
        answer: GrabOutcome = self._call(GrabOutcome, "POST", f"/v1/envelopes/{_part(id)}/grab", body={"user": user}, limit_s=limit_s)
        return answer

    def claim(self, id: str, *, user: User, limit_s: Optional[float] = None) -> ClaimOutcome:
        """Credit a grabbed share to its winner."""
        answer: ClaimOutcome = self._call(ClaimOutcome, "POST", f"/v1/envelopes/{_part(id)}/claim", body={"user": user}, limit_s=limit_s)
        return answer

    def cancel(
        self,
        id: str,
        *,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Envelope:
        """End an envelope; unsold shares go back to the sender."""
        answer: Envelope = self._call(
            Envelope,
            "POST",
            f"/v1/envelopes/{_part(id)}/cancel",
            body={},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def redact(self, id: str, *, metadata: Union[bool, Unset] = UNSET, limit_s: Optional[float] = None) -> Envelope:
        """
        Take an envelope's message back. Whatever has become of the envelope. From the answer on nobody is told
        the message any more, also not who repeats the call that made the envelope; docs/REDACT.md says what
        lies where on disk, and until when. Asked again it answers the same. It is not undone.
        """
        answer: Envelope = self._call(
            Envelope,
            "POST",
            f"/v1/envelopes/{_part(id)}/redact",
            body={"metadata": metadata},
            limit_s=limit_s,
        )
        return answer

    def grabs(self, id: str, *, limit: Optional[int] = None, limit_s: Optional[float] = None) -> Iterator[Grab]:
        """
        An envelope's grabs, by share. All of them, page after page as they are asked for; `limit` is a page's
        size.
        """
        return self._pages(lambda cursor: self.grabs_page(id, limit=limit, limit_s=limit_s, cursor=cursor), "grabs")

    def grabs_page(
        self,
        id: str,
        *,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Grabs:
        """An envelope's grabs, by share. One page."""
        answer: Grabs = self._call(
            Grabs,
            "GET",
            f"/v1/envelopes/{_part(id)}/grabs",
            query={"limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def grab_of(self, id: str, user: str, *, limit_s: Optional[float] = None) -> Grab:
        """A user's grab; never grabs."""
        answer: Grab = self._call(Grab, "GET", f"/v1/envelopes/{_part(id)}/grabs/{_part(user)}", limit_s=limit_s)
        return answer

    def grab_many(self, *, grabs: List[GrabPair], limit_s: Optional[float] = None) -> GrabResults:
        """Grab from many envelopes, each for itself."""
        answer: GrabResults = self._call(GrabResults, "POST", "/v1/grabs", body={"grabs": grabs}, limit_s=limit_s)
        return answer

    def sent(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Envelope]:
        """
        Envelopes a user sent, newest first. All of them, page after page as they are asked for; `limit` is a
        page's size.
        """
        return self._pages(lambda cursor: self.sent_page(user, limit=limit, limit_s=limit_s, cursor=cursor), "envelopes")

    def sent_page(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Envelopes:
        """Envelopes a user sent, newest first. One page."""
        answer: Envelopes = self._call(
            Envelopes,
            "GET",
            f"/v1/users/{_part(user)}/sent",
            query={"limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def received(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Received]:
        """
        Shares a user grabbed, newest first. All of them, page after page as they are asked for; `limit` is a
        page's size.
        """
        return self._pages(lambda cursor: self.received_page(user, limit=limit, limit_s=limit_s, cursor=cursor), "grabs")

    def received_page(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> ReceivedGrabs:
        """Shares a user grabbed, newest first. One page."""
        answer: ReceivedGrabs = self._call(
            ReceivedGrabs,
            "GET",
            f"/v1/users/{_part(user)}/received",
            query={"limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def audit(self, *, limit_s: Optional[float] = None) -> Audit:
        """Where all money is."""
        answer: Audit = self._call(Audit, "GET", "/v1/audit", limit_s=limit_s)
        return answer

    def payments(
        self,
        *,
        state: Optional[PaymentState] = None,
        gateway: Optional[str] = None,
        discrepant: Optional[bool] = None,
        created_from: Optional[Time] = None,
        created_to: Optional[Time] = None,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Payment]:
        """
        Payments outside, state by state, the oldest first. A page may be short, even empty, and still have a
        next one. `discrepant=true`: those of which a gateway said what cannot be right. All of them, page
        after page as they are asked for; `limit` is a page's size.
        """
        return self._pages(lambda cursor: self.payments_page(state=state, gateway=gateway, discrepant=discrepant, created_from=created_from, created_to=created_to, limit=limit, limit_s=limit_s, cursor=cursor), "payments")

    def payments_page(
        self,
        *,
        state: Optional[PaymentState] = None,
        gateway: Optional[str] = None,
        discrepant: Optional[bool] = None,
        created_from: Optional[Time] = None,
        created_to: Optional[Time] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Payments:
        """
        Payments outside, state by state, the oldest first. A page may be short, even empty, and still have a
        next one. `discrepant=true`: those of which a gateway said what cannot be right. One page.
        """
        answer: Payments = self._call(
            Payments,
            "GET",
            "/v1/payments",
            query={"state": state, "gateway": gateway, "discrepant": discrepant, "created_from": created_from, "created_to": created_to, "limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def payment(self, id: str, *, limit_s: Optional[float] = None) -> Payment:
        """A payment outside."""
        answer: Payment = self._call(Payment, "GET", f"/v1/payments/{_part(id)}", limit_s=limit_s)
        return answer

    def payment_callback(
        self,
        gateway: str,
        *,
        about: Literal["payment", "refund"],
        reference: PaymentId,
        state: str,
        id: Union[str, Unset] = UNSET,
        amount: Union[Amount, Unset] = UNSET,
        reason: Union[str, Unset] = UNSET,
        limit_s: Optional[float] = None,
    ) -> PaymentTaken:
        """
        What a payment gateway calls back. Needs no key: the headers webhook-id, webhook-timestamp and
        webhook-signature sign it as Standard Webhooks says, with the gateway's secret, at most five minutes
        ago. 401 for what is not so signed, or is about a payment of another gateway. Told twice it has one
        effect. A body of up to 64 KiB.
        """
        answer: PaymentTaken = self._call(
            PaymentTaken,
            "POST",
            f"/v1/payments/callbacks/{_part(gateway)}",
            body={"about": about, "reference": reference, "state": state, "id": id, "amount": amount, "reason": reason},
            limit_s=limit_s,
        )
        return answer

    def payouts(
        self,
        *,
        state: Optional[PayoutState] = None,
        kind: Optional[PayoutKind] = None,
        user: Optional[User] = None,
        envelope: Optional[EnvelopeId] = None,
        created_from: Optional[Time] = None,
        created_to: Optional[Time] = None,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Payout]:
        """
        Payouts, the oldest first. A page may be short, even empty, and still have a next one. While states
        change, no payout is told twice on the way from page to page. An issuer sees those of its owner's
        envelopes. All of them, page after page as they are asked for; `limit` is a page's size.
        """
        return self._pages(lambda cursor: self.payouts_page(state=state, kind=kind, user=user, envelope=envelope, created_from=created_from, created_to=created_to, limit=limit, limit_s=limit_s, cursor=cursor), "payouts")

    def payouts_page(
        self,
        *,
        state: Optional[PayoutState] = None,
        kind: Optional[PayoutKind] = None,
        user: Optional[User] = None,
        envelope: Optional[EnvelopeId] = None,
        created_from: Optional[Time] = None,
        created_to: Optional[Time] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Payouts:
        """
        Payouts, the oldest first. A page may be short, even empty, and still have a next one. While states
        change, no payout is told twice on the way from page to page. An issuer sees those of its owner's
        envelopes. One page.
        """
        answer: Payouts = self._call(
            Payouts,
            "GET",
            "/v1/payouts",
            query={"state": state, "kind": kind, "user": user, "envelope": envelope, "created_from": created_from, "created_to": created_to, "limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def payout(self, id: str, *, limit_s: Optional[float] = None) -> Payout:
        """A payout."""
        answer: Payout = self._call(Payout, "GET", f"/v1/payouts/{_part(id)}", limit_s=limit_s)
        return answer

    def tell_payout_results(
        self,
        *,
        results: List[PayoutResultsResultsItem],
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> PayoutAnswers:
        """
        Tell what came of payouts, each for itself. due leads to sent, paid or failed; sent to paid or failed;
        failed to due, under the same id. paid is final. The same again is the same answer. The whole call is
        remembered under its Idempotency-Key, so that a repeat that comes late changes nothing.
        """
        answer: PayoutAnswers = self._call(
            PayoutAnswers,
            "POST",
            "/v1/payouts/results",
            body={"results": results},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def put_merchant(
        self,
        *,
        id: User,
        name: str,
        status: Union[Literal["pending", "verified", "suspended"], Unset] = UNSET,
        verification: Union[Optional[NewMerchantVerification], Unset] = UNSET,
        settle_after_s: Union[int, Unset] = UNSET,
        commission_bps: Union[int, Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Merchant:
        """
        Register or change a merchant. The money of a sale is pending for `settle_after_s`, and then available
        to the merchant, less a commission of `commission_bps` that is the platform's; a change of either is
        for sales from then on. Only a verified merchant's items can be put on sale and grabbed. Units that are
        held when it is suspended may still be paid. With the status `verified` its papers count as checked:
        `verification` says by whom and under which reference; left out, by the calling key. It stays when a
        merchant is suspended, and goes when it is pending again.
        """
        answer: Merchant = self._call(
            Merchant,
            "POST",
            "/v1/merchants",
            body={"id": id, "name": name, "status": status, "verification": verification, "settle_after_s": settle_after_s, "commission_bps": commission_bps},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def merchants(
        self,
        *,
        status: Optional[MerchantStatus] = None,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Merchant]:
        """
        Merchants, by their ids. All of them, page after page as they are asked for; `limit` is a page's size.
        """
        return self._pages(lambda cursor: self.merchants_page(status=status, limit=limit, limit_s=limit_s, cursor=cursor), "merchants")

    def merchants_page(
        self,
        *,
        status: Optional[MerchantStatus] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Merchants:
        """Merchants, by their ids. One page."""
        answer: Merchants = self._call(
            Merchants,
            "GET",
            "/v1/merchants",
            query={"status": status, "limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def merchant(self, id: str, *, limit_s: Optional[float] = None) -> Merchant:
        """A merchant."""
        answer: Merchant = self._call(Merchant, "GET", f"/v1/merchants/{_part(id)}", limit_s=limit_s)
        return answer

    def merchant_balance(self, id: str, *, limit_s: Optional[float] = None) -> SalesBalance:
        """What a merchant has of its sales."""
        answer: SalesBalance = self._call(SalesBalance, "GET", f"/v1/merchants/{_part(id)}/balance", limit_s=limit_s)
        return answer

    def merchant_statement(
        self,
        id: str,
        *,
        from_: Optional[Time] = None,
        to: Optional[Time] = None,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[SalesEntry]:
        """
        The movements of a merchant's money in a time, the oldest first. Opening and entries are the closing. A
        time that is over is told the same whenever it is asked for. All of them, page after page as they are
        asked for; `limit` is a page's size.
        """
        return self._pages(lambda cursor: self.merchant_statement_page(id, from_=from_, to=to, limit=limit, limit_s=limit_s, cursor=cursor), "entries")

    def merchant_statement_page(
        self,
        id: str,
        *,
        from_: Optional[Time] = None,
        to: Optional[Time] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> SalesStatement:
        """
        The movements of a merchant's money in a time, the oldest first. Opening and entries are the closing. A
        time that is over is told the same whenever it is asked for. One page.
        """
        answer: SalesStatement = self._call(
            SalesStatement,
            "GET",
            f"/v1/merchants/{_part(id)}/statement",
            query={"from": from_, "to": to, "limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def withdraw_sales(
        self,
        id: str,
        *,
        amount: Amount,
        reference: Union[Optional[Reference], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> SalesBalance:
        """
        Take available money of a merchant out. 409 `insufficient_funds` if less is available: what is pending
        cannot be taken out.
        """
        answer: SalesBalance = self._call(
            SalesBalance,
            "POST",
            f"/v1/merchants/{_part(id)}/withdrawals",
            body={"amount": amount, "reference": reference},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def create_item(
        self,
        *,
        merchant: User,
        name: str,
        category: str,
        price: Amount,
        stock: Union[int, Unset] = UNSET,
        per_user_limit: Union[Optional[int], Unset] = UNSET,
        starts_at: Union[Optional[str], Unset] = UNSET,
        ends_at: Union[Optional[str], Unset] = UNSET,
        hold_ttl_s: Union[int, Unset] = UNSET,
        image_url: Union[Optional[str], Unset] = UNSET,
        kind: Union[ItemKind, Unset] = UNSET,
        return_within_s: Union[int, Unset] = UNSET,
        variant_of: Union[Optional[str], Unset] = UNSET,
        group_buy: Union[Optional[GroupBuy], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Item:
        """Put an item on sale."""
        answer: Item = self._call(
            Item,
            "POST",
            "/v1/items",
            body={"merchant": merchant, "name": name, "category": category, "price": price, "stock": stock, "per_user_limit": per_user_limit, "starts_at": starts_at, "ends_at": ends_at, "hold_ttl_s": hold_ttl_s, "image_url": image_url, "kind": kind, "return_within_s": return_within_s, "variant_of": variant_of, "group_buy": group_buy},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def items(
        self,
        *,
        category: Optional[str] = None,
        merchant: Optional[User] = None,
        kind: Optional[ItemKind] = None,
        variant_of: Optional[ItemId] = None,
        on_sale: Optional[bool] = None,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Item]:
        """
        Items, newest first. All of them, page after page as they are asked for; `limit` is a page's size.
        """
        return self._pages(lambda cursor: self.items_page(category=category, merchant=merchant, kind=kind, variant_of=variant_of, on_sale=on_sale, limit=limit, limit_s=limit_s, cursor=cursor), "items")

    def items_page(
        self,
        *,
        category: Optional[str] = None,
        merchant: Optional[User] = None,
        kind: Optional[ItemKind] = None,
        variant_of: Optional[ItemId] = None,
        on_sale: Optional[bool] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Items:
        """Items, newest first. One page."""
        answer: Items = self._call(
            Items,
            "GET",
            "/v1/items",
            query={"category": category, "merchant": merchant, "kind": kind, "variant_of": variant_of, "on_sale": on_sale, "limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def item(self, id: str, *, limit_s: Optional[float] = None) -> Item:
        """An item."""
        answer: Item = self._call(Item, "GET", f"/v1/items/{_part(id)}", limit_s=limit_s)
        return answer

    def change_item(
        self,
        id: str,
        *,
        name: Union[str, Unset] = UNSET,
        category: Union[str, Unset] = UNSET,
        price: Union[Amount, Unset] = UNSET,
        per_user_limit: Union[Optional[int], Unset] = UNSET,
        starts_at: Union[Optional[str], Unset] = UNSET,
        ends_at: Union[Optional[str], Unset] = UNSET,
        hold_ttl_s: Union[int, Unset] = UNSET,
        image_url: Union[Optional[str], Unset] = UNSET,
        group_buy: Union[Optional[GroupBuy], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Item:
        """
        Change an item. An issuer changes its owner's items, and those that were made before items had owners;
        another owner's is 404. Holds keep the price they saw.
        """
        answer: Item = self._call(
            Item,
            "PATCH",
            f"/v1/items/{_part(id)}",
            body={"name": name, "category": category, "price": price, "per_user_limit": per_user_limit, "starts_at": starts_at, "ends_at": ends_at, "hold_ttl_s": hold_ttl_s, "image_url": image_url, "group_buy": group_buy},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def restock(
        self,
        id: str,
        *,
        quantity: int,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Item:
        """
        Add units to an item's stock. An issuer restocks its owner's items, and those that were made before
        items had owners; another owner's is 404. The stock of an item of the kind `code` is the number of its
        codes: 409 `wrong_state`.
        """
        answer: Item = self._call(
            Item,
            "POST",
            f"/v1/items/{_part(id)}/restock",
            body={"quantity": quantity},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def add_codes(
        self,
        id: str,
        *,
        codes: List[str],
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Item:
        """
        Add codes to an item of the kind `code`, all of them or none. Each code becomes a unit and is handed
        out once, in the order in which codes were added: with the order that pays for it, or as a gift of it
        is accepted. One that the item has had before is 422, named by its place, and nothing is added. For an
        item of another kind this is 409 `wrong_state`. An issuer adds to its owner's items; another owner's is
        404.
        """
        answer: Item = self._call(
            Item,
            "POST",
            f"/v1/items/{_part(id)}/codes",
            body={"codes": codes},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def grab_item(
        self,
        id: str,
        *,
        user: User,
        quantity: Union[int, Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> ItemGrabOutcome:
        """
        Hold units for a user, all or none. Of a merchant that is pending or suspended nothing is held: 409
        `wrong_state`. Who already has the one unit there is a user is told of it all the same.
        """
        answer: ItemGrabOutcome = self._call(
            ItemGrabOutcome,
            "POST",
            f"/v1/items/{_part(id)}/grab",
            body={"user": user, "quantity": quantity},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def hold(self, id: str, *, limit_s: Optional[float] = None) -> Hold:
        """A hold."""
        answer: Hold = self._call(Hold, "GET", f"/v1/holds/{_part(id)}", limit_s=limit_s)
        return answer

    def claim_hold(
        self,
        id: str,
        *,
        user: User,
        pay_with: Union[Optional[str], Unset] = UNSET,
        limit_s: Optional[float] = None,
    ) -> HoldClaimOutcome:
        """Pay for a hold from its user's wallet, or with `pay_with` outside, at a payment gateway."""
        answer: HoldClaimOutcome = self._call(
            HoldClaimOutcome,
            "POST",
            f"/v1/holds/{_part(id)}/claim",
            body={"user": user, "pay_with": pay_with},
            limit_s=limit_s,
        )
        return answer

    def release_hold(self, id: str, *, user: User, limit_s: Optional[float] = None) -> ReleaseOutcome:
        """Give a hold's units back."""
        answer: ReleaseOutcome = self._call(ReleaseOutcome, "POST", f"/v1/holds/{_part(id)}/release", body={"user": user}, limit_s=limit_s)
        return answer

    def order(self, id: str, *, limit_s: Optional[float] = None) -> Order:
        """An order."""
        answer: Order = self._call(Order, "GET", f"/v1/orders/{_part(id)}", limit_s=limit_s)
        return answer

    def ship_order(
        self,
        id: str,
        *,
        carrier: str,
        tracking: str,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Order:
        """Say that an order was sent. Only its own merchant does; to others it is 404."""
        answer: Order = self._call(
            Order,
            "POST",
            f"/v1/orders/{_part(id)}/ship",
            body={"carrier": carrier, "tracking": tracking},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def deliver_order(
        self,
        id: str,
        *,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Order:
        """
        Say that an order has arrived. From then on it may be sent back for as long as its item says.
        """
        answer: Order = self._call(
            Order,
            "POST",
            f"/v1/orders/{_part(id)}/deliver",
            body={},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def return_order(
        self,
        id: str,
        *,
        user: User,
        reason: str,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Order:
        """
        Ask to send an order back. By who has paid, until `return_within_s` of its item after its delivery. If
        the merchant has not answered by `answer_by`, to ask again takes effect: the money goes back.
        """
        answer: Order = self._call(
            Order,
            "POST",
            f"/v1/orders/{_part(id)}/return",
            body={"user": user, "reason": reason},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def accept_return(
        self,
        id: str,
        *,
        restock: bool,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Order:
        """
        Take an order back: its money goes to who had paid. 409 `insufficient_funds` if the merchant has less
        available than was paid: repeat it once more of its sales are settled.
        """
        answer: Order = self._call(
            Order,
            "POST",
            f"/v1/orders/{_part(id)}/accept-return",
            body={"restock": restock},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def refuse_return(
        self,
        id: str,
        *,
        reason: str,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Order:
        """Do not take an order back. Until `answer_by`."""
        answer: Order = self._call(
            Order,
            "POST",
            f"/v1/orders/{_part(id)}/refuse-return",
            body={"reason": reason},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def advance_clock(self, *, advance_s: int, limit_s: Optional[float] = None) -> Clock:
        """Move the clock forward; only with --test, else 404."""
        answer: Clock = self._call(
            Clock,
            "POST",
            "/v1/test/clock",
            body={"advance_s": advance_s},
            repeatable=False,
            limit_s=limit_s,
        )
        return answer

    def plant_faults(
        self,
        *,
        fault: Literal["overloaded", "slow", "lose_reply"],
        count: int,
        limit_s: Optional[float] = None,
    ) -> Faults:
        """
        Make the next requests fail; only with --test, else 404. Befalls requests under /v1, but not those
        under /v1/test. `overloaded`: 503, and nothing happens. `slow`: carried out two seconds later.
        `lose_reply`: carried out, and the connection ends without an answer; ask again, with the same key. A
        count of 0 takes back what is left.
        """
        answer: Faults = self._call(Faults, "POST", "/v1/test/faults", body={"fault": fault, "count": count}, limit_s=limit_s)
        return answer

    def create_gift(
        self,
        *,
        giver: User,
        item: ItemId,
        recipient: Union[Optional[str], Unset] = UNSET,
        payer: Union[Optional[str], Unset] = UNSET,
        message: Union[str, Unset] = UNSET,
        pay_within_s: Union[int, Unset] = UNSET,
        accept_within_s: Union[int, Unset] = UNSET,
        ship_within_s: Union[int, Unset] = UNSET,
        mutual: Union[bool, Unset] = UNSET,
        reference: Union[Optional[Reference], Unset] = UNSET,
        metadata: Union[Dict[str, Any], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Gift:
        """Set a unit aside and give it; the giver pays at once, or somebody else is asked to."""
        answer: Gift = self._call(
            Gift,
            "POST",
            "/v1/gifts",
            body={"giver": giver, "recipient": recipient, "item": item, "payer": payer, "message": message, "pay_within_s": pay_within_s, "accept_within_s": accept_within_s, "ship_within_s": ship_within_s, "mutual": mutual, "reference": reference, "metadata": metadata},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def gift(self, id: str, *, limit_s: Optional[float] = None) -> Gift:
        """A gift."""
        answer: Gift = self._call(Gift, "GET", f"/v1/gifts/{_part(id)}", limit_s=limit_s)
        return answer

    def gift_codes(self, id: str, *, user: User, limit_s: Optional[float] = None) -> Codes:
        """
        The code of a gift, for who has accepted it. Of an item of another kind there are none. For anybody but
        the recipient who has accepted, the giver among them, this is 403.
        """
        answer: Codes = self._call(Codes, "GET", f"/v1/gifts/{_part(id)}/codes", query={"user": user}, limit_s=limit_s)
        return answer

    def pay_gift(
        self,
        id: str,
        *,
        payer: User,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Gift:
        """Pay for a gift that one was asked to pay for."""
        answer: Gift = self._call(
            Gift,
            "POST",
            f"/v1/gifts/{_part(id)}/pay",
            body={"payer": payer},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def pay_gift_outside(
        self,
        id: str,
        *,
        payer: User,
        pay_with: str,
        limit_s: Optional[float] = None,
    ) -> GiftPaymentOutcome:
        """
        Pay outside, at a payment gateway, for a gift that one was asked to pay for. Asked again while that is
        open, the same payment. The gift does not expire before the payment does.
        """
        answer: GiftPaymentOutcome = self._call(
            GiftPaymentOutcome,
            "POST",
            f"/v1/gifts/{_part(id)}/payment",
            body={"payer": payer, "pay_with": pay_with},
            limit_s=limit_s,
        )
        return answer

    def accept_gift(
        self,
        id: str,
        *,
        user: User,
        token: Union[Optional[str], Unset] = UNSET,
        address: Union[Optional[Address], Unset] = UNSET,
        mutual: Union[bool, Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Gift:
        """
        Accept a gift, and say where it is to be sent; again with another address until it is shipped.
        """
        answer: Gift = self._call(
            Gift,
            "POST",
            f"/v1/gifts/{_part(id)}/accept",
            body={"user": user, "token": token, "address": address, "mutual": mutual},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def decline_gift(
        self,
        id: str,
        *,
        user: User,
        reason: Union[Optional[str], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Gift:
        """Decline a gift; the money goes back to whoever paid."""
        answer: Gift = self._call(
            Gift,
            "POST",
            f"/v1/gifts/{_part(id)}/decline",
            body={"user": user, "reason": reason},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def cancel_gift(
        self,
        id: str,
        *,
        user: User,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Gift:
        """Take a gift back before it is accepted."""
        answer: Gift = self._call(
            Gift,
            "POST",
            f"/v1/gifts/{_part(id)}/cancel",
            body={"user": user},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def thank_for_gift(
        self,
        id: str,
        *,
        user: User,
        note: str,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Gift:
        """Say thank you; a later note stands for an earlier one."""
        answer: Gift = self._call(
            Gift,
            "POST",
            f"/v1/gifts/{_part(id)}/thank",
            body={"user": user, "note": note},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def ship_gift(
        self,
        id: str,
        *,
        carrier: str,
        tracking: str,
        address_version: Union[Optional[int], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Gift:
        """Ship a gift; its money is the merchant's from then on."""
        answer: Gift = self._call(
            Gift,
            "POST",
            f"/v1/gifts/{_part(id)}/ship",
            body={"carrier": carrier, "tracking": tracking, "address_version": address_version},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def deliver_gift(
        self,
        id: str,
        *,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Gift:
        """Tell that a gift has arrived."""
        answer: Gift = self._call(
            Gift,
            "POST",
            f"/v1/gifts/{_part(id)}/deliver",
            body={},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def fail_gift(
        self,
        id: str,
        *,
        reason: str,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Gift:
        """Tell that a gift cannot be shipped; the money goes back to whoever paid."""
        answer: Gift = self._call(
            Gift,
            "POST",
            f"/v1/gifts/{_part(id)}/fail",
            body={"reason": reason},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def redact_gift(
        self,
        id: str,
        *,
        metadata: Union[bool, Unset] = UNSET,
        limit_s: Optional[float] = None,
    ) -> Gift:
        """
        Take a gift's texts back: its message, a reason and a note. Whatever has become of the gift. From the
        answer on nobody is told its texts any more, also not who repeats a call about it; docs/REDACT.md says
        what lies where on disk, and until when. Asked again it answers the same, or takes back what was
        written since. It is not undone.
        """
        answer: Gift = self._call(Gift, "POST", f"/v1/gifts/{_part(id)}/redact", body={"metadata": metadata}, limit_s=limit_s)
        return answer

    def gift_address(self, id: str, *, limit_s: Optional[float] = None) -> GiftAddress:
        """Where a gift is to be sent, for its merchant only; each reading is in the server's log."""
        answer: GiftAddress = self._call(GiftAddress, "GET", f"/v1/gifts/{_part(id)}/address", limit_s=limit_s)
        return answer

    def erase_gift_address(self, id: str, *, limit_s: Optional[float] = None) -> Gift:
        """Make a gift's address unreadable at once, for ever; again, the same."""
        answer: Gift = self._call(Gift, "POST", f"/v1/gifts/{_part(id)}/address/erase", body={}, limit_s=limit_s)
        return answer

    def gifts_of(
        self,
        user: str,
        *,
        role: Optional[Literal["given", "received"]] = None,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Gift]:
        """
        A user's gifts, newest first. All of them, page after page as they are asked for; `limit` is a page's
        size.
        """
        return self._pages(lambda cursor: self.gifts_of_page(user, role=role, limit=limit, limit_s=limit_s, cursor=cursor), "gifts")

    def gifts_of_page(
        self,
        user: str,
        *,
        role: Optional[Literal["given", "received"]] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Gifts:
        """A user's gifts, newest first. One page."""
        answer: Gifts = self._call(
            Gifts,
            "GET",
            f"/v1/users/{_part(user)}/gifts",
            query={"role": role, "limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def open_group(
        self,
        id: str,
        *,
        user: User,
        reference: Union[Reference, Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Group:
        """
        Open a group that buys an item together. The leader pays the price for groups at once and has a unit
        set aside, as every member has. When the last has joined each has an order; otherwise all have their
        money back. With no unit to be had, before the sale opens or after its end, and at the leader's limit
        it is 409 `wrong_state`, with too little money 409 `insufficient_funds`.
        """
        answer: Group = self._call(
            Group,
            "POST",
            f"/v1/items/{_part(id)}/groups",
            body={"user": user, "reference": reference},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def groups_of_item(
        self,
        id: str,
        *,
        state: Optional[GroupState] = None,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Group]:
        """
        An item's groups, newest first. All of them, page after page as they are asked for; `limit` is a page's
        size.
        """
        return self._pages(lambda cursor: self.groups_of_item_page(id, state=state, limit=limit, limit_s=limit_s, cursor=cursor), "groups")

    def groups_of_item_page(
        self,
        id: str,
        *,
        state: Optional[GroupState] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Groups:
        """An item's groups, newest first. One page."""
        answer: Groups = self._call(
            Groups,
            "GET",
            f"/v1/items/{_part(id)}/groups",
            query={"state": state, "limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def group(self, id: str, *, limit_s: Optional[float] = None) -> Group:
        """A group."""
        answer: Group = self._call(Group, "GET", f"/v1/groups/{_part(id)}", limit_s=limit_s)
        return answer

    def join_group(
        self,
        id: str,
        *,
        user: User,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> GroupOutcome:
        """
        Join a group. Again, the same with `replayed`. A group whose time is over is `expired`, exactly from
        `expires_at` on.
        """
        answer: GroupOutcome = self._call(
            GroupOutcome,
            "POST",
            f"/v1/groups/{_part(id)}/join",
            body={"user": user},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def leave_group(
        self,
        id: str,
        *,
        user: User,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Group:
        """
        Leave a group that is not full. The money and the unit come back. If its leader leaves it ends, and all
        have their money back. Who is not in it has nothing to leave: again, the same. A member of one that is
        full has an order: 409 `wrong_state`.
        """
        answer: Group = self._call(
            Group,
            "POST",
            f"/v1/groups/{_part(id)}/leave",
            body={"user": user},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def groups_of_user(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Group]:
        """
        Groups that a user is in, newest first. Of those that came to nothing, those that the user was in then.
        All of them, page after page as they are asked for; `limit` is a page's size.
        """
        return self._pages(lambda cursor: self.groups_of_user_page(user, limit=limit, limit_s=limit_s, cursor=cursor), "groups")

    def groups_of_user_page(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Groups:
        """
        Groups that a user is in, newest first. Of those that came to nothing, those that the user was in then.
        One page.
        """
        answer: Groups = self._call(
            Groups,
            "GET",
            f"/v1/users/{_part(user)}/groups",
            query={"limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def create_gift_envelope(
        self,
        *,
        giver: User,
        item: ItemId,
        units: int,
        payer: Union[Optional[str], Unset] = UNSET,
        message: Union[str, Unset] = UNSET,
        with_token: Union[bool, Unset] = UNSET,
        pay_within_s: Union[int, Unset] = UNSET,
        expires_in_s: Union[int, Unset] = UNSET,
        accept_within_s: Union[int, Unset] = UNSET,
        ship_within_s: Union[int, Unset] = UNSET,
        reference: Union[Optional[Reference], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> GiftEnvelope:
        """
        Set units of an item aside for whoever comes first, one for each. Each unit is a gift, paid at once
        with all others or by whoever is asked, and grabbed by at most one user. Too few units, or more than
        the giver may have: 409 `wrong_state`, and nothing is made. In front of Redis this is 409
        `wrong_state`.
        """
        answer: GiftEnvelope = self._call(
            GiftEnvelope,
            "POST",
            "/v1/gift-envelopes",
            body={"giver": giver, "item": item, "units": units, "payer": payer, "message": message, "with_token": with_token, "pay_within_s": pay_within_s, "expires_in_s": expires_in_s, "accept_within_s": accept_within_s, "ship_within_s": ship_within_s, "reference": reference},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def gift_envelope(self, id: str, *, limit_s: Optional[float] = None) -> GiftEnvelope:
        """A gift envelope, with its gifts."""
        answer: GiftEnvelope = self._call(GiftEnvelope, "GET", f"/v1/gift-envelopes/{_part(id)}", limit_s=limit_s)
        return answer

    def pay_gift_envelope(
        self,
        id: str,
        *,
        payer: User,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> GiftEnvelope:
        """Pay for all units, as whoever was asked to."""
        answer: GiftEnvelope = self._call(
            GiftEnvelope,
            "POST",
            f"/v1/gift-envelopes/{_part(id)}/pay",
            body={"payer": payer},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def grab_gift(
        self,
        id: str,
        *,
        user: User,
        token: Union[Optional[str], Unset] = UNSET,
        mutual: Union[bool, Unset] = UNSET,
        limit_s: Optional[float] = None,
    ) -> GiftGrabOutcome:
        """
        Grab a gift, at most one a user; again: the same gift. The gift is then this user's to accept or to
        decline, within `accept_within_s`. Guards in this order: not found, has one already (`replayed`),
        token, blocked, not paid (409), sold out, expired or cancelled.
        """
        answer: GiftGrabOutcome = self._call(
            GiftGrabOutcome,
            "POST",
            f"/v1/gift-envelopes/{_part(id)}/grab",
            body={"user": user, "token": token, "mutual": mutual},
            limit_s=limit_s,
        )
        return answer

    def cancel_gift_envelope(
        self,
        id: str,
        *,
        user: User,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> GiftEnvelope:
        """Take back what nobody has grabbed; again: the same answer."""
        answer: GiftEnvelope = self._call(
            GiftEnvelope,
            "POST",
            f"/v1/gift-envelopes/{_part(id)}/cancel",
            body={"user": user},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def gift_envelopes_of(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[GiftEnvelope]:
        """
        Gift envelopes that a user gives, newest first. All of them, page after page as they are asked for;
        `limit` is a page's size.
        """
        return self._pages(lambda cursor: self.gift_envelopes_of_page(user, limit=limit, limit_s=limit_s, cursor=cursor), "gift_envelopes")

    def gift_envelopes_of_page(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> GiftEnvelopes:
        """Gift envelopes that a user gives, newest first. One page."""
        answer: GiftEnvelopes = self._call(
            GiftEnvelopes,
            "GET",
            f"/v1/users/{_part(user)}/gift-envelopes",
            query={"limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def put_relations(self, *, relations: List[NewRelation], limit_s: Optional[float] = None) -> RelationsTold:
        """
        Tell who follows and who blocks whom. Each stands for what was told of the same two before, in this
        direction; of one that is told twice in a call the last counts. All of them or none; the same again
        changes nothing. Between two of whom one blocks the other nothing is given or paid, by whomever it is
        tried: 403. With `--gifts-may-give mutual` a recipient and the giver have to follow each other, unless
        the call says `mutual`. No event tells of relations. In front of Redis this is 409 `wrong_state`.
        """
        answer: RelationsTold = self._call(RelationsTold, "POST", "/v1/relations", body={"relations": relations}, limit_s=limit_s)
        return answer

    def relations_of(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Iterator[Relation]:
        """
        What a user is to others, by their names. What others are to the user is not told: who is blocked is
        not to learn by whom. All of them, page after page as they are asked for; `limit` is a page's size.
        """
        return self._pages(lambda cursor: self.relations_of_page(user, limit=limit, limit_s=limit_s, cursor=cursor), "relations")

    def relations_of_page(
        self,
        user: str,
        *,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Relations:
        """
        What a user is to others, by their names. What others are to the user is not told: who is blocked is
        not to learn by whom. One page.
        """
        answer: Relations = self._call(
            Relations,
            "GET",
            f"/v1/users/{_part(user)}/relations",
            query={"limit": limit, "cursor": cursor},
            limit_s=limit_s,
        )
        return answer

    def erase_relations(self, user: str, *, limit_s: Optional[float] = None) -> None:
        """
        Forget what a user is to others, and what they are to the user; again: the same answer. What is told of
        that user while it is carried out may stay. In front of Redis there is nothing to forget.
        """
        self._call(None, "DELETE", f"/v1/users/{_part(user)}/relations", limit_s=limit_s)

    def events(
        self,
        *,
        after: Optional[str] = None,
        types: Optional[str] = None,
        limit: Optional[int] = None,
        wait_s: Optional[int] = None,
        limit_s: Optional[float] = None,
    ) -> Events:
        """
        What has happened, in order; waits for it. Everything that was acknowledged before it was asked for is
        there, or comes behind the cursor; nothing is passed over, and what is told survives a crash. Order is
        that in which things happened to one envelope, wallet, item, hold or payout. An event has the same id
        whenever it is told. With no events behind `after` the answer waits for one, up to `wait_s`, and is
        then empty, with a cursor to go on from. With `Accept: text/event-stream` they come as they happen,
        until the server stops: an event's `id` is the cursor behind it, and a stream that broke off goes on
        behind the header Last-Event-ID. A key with the role issuer and neither viewer nor admin is told what
        happens to its owner's envelopes and their payouts, and of its items what is put.
        """
        answer: Events = self._call(
            Events,
            "GET",
            "/v1/events",
            query={"after": after, "types": types, "limit": limit, "wait_s": wait_s},
            limit_s=limit_s,
        )
        return answer

    def create_webhook(
        self,
        *,
        url: str,
        types: Union[Optional[List[str]], Unset] = UNSET,
        owner: Union[Optional[User], Unset] = UNSET,
        after: Union[Optional[str], Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Webhook:
        """
        Make an endpoint for events; its secret is in this answer only. The url has to be one that the operator
        allows (--webhook-allow). Repeated with the same Idempotency-Key, `secret` is null: if the first answer
        was lost, rotate it.
        """
        answer: Webhook = self._call(
            Webhook,
            "POST",
            "/v1/webhooks",
            body={"url": url, "types": types, "owner": owner, "after": after},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def webhooks(self, *, limit_s: Optional[float] = None) -> Webhooks:
        """Endpoints and how they are, the newest first."""
        answer: Webhooks = self._call(Webhooks, "GET", "/v1/webhooks", limit_s=limit_s)
        return answer

    def webhook(self, id: str, *, limit_s: Optional[float] = None) -> Webhook:
        """An endpoint and how it is."""
        answer: Webhook = self._call(Webhook, "GET", f"/v1/webhooks/{_part(id)}", limit_s=limit_s)
        return answer

    def change_webhook(
        self,
        id: str,
        *,
        url: Union[str, Unset] = UNSET,
        types: Union[Optional[List[str]], Unset] = UNSET,
        disabled: Union[bool, Unset] = UNSET,
        limit_s: Optional[float] = None,
    ) -> Webhook:
        """
        Change, disable or enable an endpoint. What waits is tried at once. Events that happened while it was
        disabled are sent when it is enabled.
        """
        answer: Webhook = self._call(
            Webhook,
            "PATCH",
            f"/v1/webhooks/{_part(id)}",
            body={"url": url, "types": types, "disabled": disabled},
            limit_s=limit_s,
        )
        return answer

    def delete_webhook(self, id: str, *, limit_s: Optional[float] = None) -> None:
        """
        Delete an endpoint with its dead letters; again: the same answer. A request that is on its way may
        still arrive.
        """
        self._call(None, "DELETE", f"/v1/webhooks/{_part(id)}", limit_s=limit_s)

    def rotate_webhook(
        self,
        id: str,
        *,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Webhook:
        """
        Give an endpoint a new secret, shown in this answer only. For 24 hours the old one signs too, so that
        the header has two signatures.
        """
        answer: Webhook = self._call(
            Webhook,
            "POST",
            f"/v1/webhooks/{_part(id)}/rotate",
            body={},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def test_webhook(self, id: str, *, limit_s: Optional[float] = None) -> WebhookPinged:
        """
        Send a ping now, and tell what came back. The body of the request is
        {"type":"ping","webhook":"hook_…"}. It takes up to 15 seconds, and is sent also to what is disabled.
        """
        answer: WebhookPinged = self._call(WebhookPinged, "POST", f"/v1/webhooks/{_part(id)}/test", body={}, limit_s=limit_s)
        return answer

    def dead_letters(self, id: str, *, limit_s: Optional[float] = None) -> DeadLetters:
        """
        Batches that were given up, the oldest first. The last 100. Their events are in the feed as long as
        events are kept.
        """
        answer: DeadLetters = self._call(DeadLetters, "GET", f"/v1/webhooks/{_part(id)}/dead", limit_s=limit_s)
        return answer

    def redeliver_webhook(
        self,
        id: str,
        *,
        ids: Union[Optional[List[str]], Unset] = UNSET,
        from_: Union[Optional[str], Unset] = UNSET,
        limit_s: Optional[float] = None,
    ) -> Webhook:
        """
        Send dead letters once more, or everything since a cursor. Dead letters keep their webhook-id. What is
        sent since a cursor has new ones: its events have the ids they had.
        """
        answer: Webhook = self._call(
            Webhook,
            "POST",
            f"/v1/webhooks/{_part(id)}/redeliver",
            body={"ids": ids, "from": from_},
            limit_s=limit_s,
        )
        return answer

    def create_key(
        self,
        *,
        name: str,
        roles: List[Role],
        owner: Union[User, Unset] = UNSET,
        idempotency_key: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> MadeKey:
        """
        Make an API key; it is shown in this answer only. Repeated with the same Idempotency-Key, `key` is
        null: it is not kept, so it cannot be shown again. If the first answer was lost, delete the key by its
        id and make another.
        """
        answer: MadeKey = self._call(
            MadeKey,
            "POST",
            "/v1/keys",
            body={"name": name, "owner": owner, "roles": roles},
            keyed=True,
            idempotency_key=idempotency_key,
            limit_s=limit_s,
        )
        return answer

    def keys(self, *, limit: Optional[int] = None, limit_s: Optional[float] = None) -> Iterator[Key]:
        """
        API keys that were not deleted, newest first. All of them, page after page as they are asked for;
        `limit` is a page's size.
        """
        return self._pages(lambda cursor: self.keys_page(limit=limit, limit_s=limit_s, cursor=cursor), "keys")

    def keys_page(
        self,
        *,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
        limit_s: Optional[float] = None,
    ) -> Keys:
        """API keys that were not deleted, newest first. One page."""
        answer: Keys = self._call(Keys, "GET", "/v1/keys", query={"limit": limit, "cursor": cursor}, limit_s=limit_s)
        return answer

    def delete_key(self, id: str, *, limit_s: Optional[float] = None) -> None:
        """
        Delete an API key; again: the same answer. No request that comes in after the answer is let in with it.
        With several servers in front of Redis the others follow within a second. What was let in before goes
        on.
        """
        self._call(None, "DELETE", f"/v1/keys/{_part(id)}", limit_s=limit_s)

    def livez(self, *, limit_s: Optional[float] = None) -> Status:
        """Whether the process lives."""
        answer: Status = self._call(Status, "GET", "/livez", limit_s=limit_s)
        return answer

    def readyz(self, *, limit_s: Optional[float] = None) -> Status:
        """
        Whether it serves. 503 also while the store takes no writes: requests are then answered until too much
        waits for it.
        """
        answer: Status = self._call(Status, "GET", "/readyz", limit_s=limit_s)
        return answer

    def metrics(self, *, limit_s: Optional[float] = None) -> str:
        """Prometheus metrics."""
        answer: str = self._call(bytes, "GET", "/metrics", limit_s=limit_s)
        return answer

    def openapi(self, *, limit_s: Optional[float] = None) -> Dict[str, Any]:
        """This document."""
        answer: Dict[str, Any] = self._call(Dict[str, Any], "GET", "/openapi.json", limit_s=limit_s)
        return answer
# --- generated up to here ---
