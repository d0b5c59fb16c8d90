// Client of a Hongbao server: one file, no dependencies, Node 20 or newer and browsers.
//
//     import { Client } from "./hongbao.js";
//
//     const hongbao = new Client("http://127.0.0.1:8080", "hb_...");
//     await hongbao.deposit("alice", { amount: 1000 });
//     const envelope = await hongbao.createEnvelope({ sender: "alice", total: 1000, shares: 3 });
//     const outcome = await hongbao.grab(envelope.id, { user: "bob" });
//     if (outcome.outcome === "won") console.log(outcome.amount);
//
// A call that gets no answer is made again, under the same idempotency key, until
// `limitMs` is over; whatever happened on the way happened once. A business "no" is an
// outcome, not an error; one that this file does not know is `unknown`, to be read as
// "no win so far". Amounts are integers of minor units (fen); an unsafe one is refused.

/** How calls are made, unless a call says otherwise. */
export interface ClientOptions {
  /** Milliseconds for a call with all its repeats; 30,000 unless given. */
  limitMs?: number;
  /** Milliseconds for one request of it; 10,000 unless given. */
  attemptMs?: number;
  /** What makes requests, for tests and proxies. */
  fetch?: typeof fetch;
}

/** How one call is made. */
export interface CallOptions {
  limitMs?: number;
  signal?: AbortSignal;
}

/** How one call is made that has an idempotency key. */
export interface KeyedOptions extends CallOptions {
  /** Made by the client unless given. */
  idempotencyKey?: string;
}

/** Whatever keeps a call from its answer. */
export class HongbaoError extends Error {
  /** The key the call was made under, if it has one: the same call with it, now or in a week, gets the first answer. */
  idempotencyKey?: string;
  attempts = 0;
}

/** No answer came in time: what was asked for may or may not have happened. */
export class NoAnswer extends HongbaoError {}

/** An answer that is not of this API; is the address that of a Hongbao server? */
export class Unexpected extends HongbaoError {}

/** A field of the request, and what is wrong with it. */
export interface FieldError {
  field: string;
  message: string;
}

/** The server refused. */
export class Problem extends HongbaoError {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  /** What would help: `same_key`, `new_key`, `after` or `never`. */
  readonly retry: string;
  readonly requestId: string;
  readonly errors: FieldError[];
  readonly retryAfterS?: number;

  constructor(body: Record<string, unknown>, retryAfterS?: number) {
    super(`${body.status} ${body.code}: ${body.detail} (request ${body.request_id})`);
    this.status = Number(body.status);
    this.code = String(body.code);
    this.title = String(body.title ?? "");
    this.detail = String(body.detail ?? "");
    this.retry = String(body.retry ?? "never");
    this.requestId = String(body.request_id ?? "");
    this.errors = (body.errors as FieldError[] | undefined) ?? [];
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same call may succeed by itself. Of a business "no" that a repeat is
   * safe after, like `insufficient_funds`, the caller decides. */
  get isWorthRepeating(): boolean {
    const passing = this.status >= 500 || this.status === 408 || this.code === "in_progress";
    return this.retry === "after" || (this.retry === "same_key" && passing);
  }
}

/** Words of the API, and those that are newer than this file. */
type Open<T extends string> = T | (string & Record<never, never>);

// A call as the generated methods describe it.
interface Call {
  method: string;
  path: string;
  query?: object;
  body?: object;
  keyed?: boolean;
  repeatable?: boolean;
  text?: boolean;
}

const BACKOFF_MS_FIRST = 50;
const BACKOFF_MS_MAX = 5000;
// How long the server waits for an event, unless it is told.
const POLL_S = 25;
// More than any answer has. What goes on for longer is not one.
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
// A timer takes no longer time than that.
const TIMER_MS_MAX = 2 ** 31 - 1;
// Under which key an answer was given, for whoever cannot read it.
const keyOf = new WeakMap<object, string>();

// Metadata is the caller's own, numbers included.
function checkNumbers(value: unknown, name: string, refuse: (message: string) => Error): void {
  if (typeof value === "bigint") throw refuse(`${name} is a bigint: amounts and counts are plain integers`);
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw refuse(`${name} is ${value}: amounts and counts are integers, at most ${Number.MAX_SAFE_INTEGER}`);
  }
  if (typeof value !== "object" || value === null) return;
  for (const [key, one] of Object.entries(value)) {
    if (key !== "metadata") checkNumbers(one, `${name}.${key}`, refuse);
  }
}

function pathPart(value: string): string {
  if (value === "" || value === "." || value === "..") throw new RangeError(`"${value}" cannot be a user or an id`);
  return encodeURIComponent(value);
}

function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", end);
      resolve();
    }, Math.min(ms, TIMER_MS_MAX));
    signal?.addEventListener("abort", end, { once: true });
  });
}

/** What is wrong with an answer, with the key it was given under. */
function unexpected(answer: unknown, message: string): Unexpected {
  const error = new Unexpected(message);
  error.idempotencyKey = isObject(answer) ? keyOf.get(answer) : undefined;
  return error;
}

/** A body, as long as it is no longer than an answer may be. */
async function textOf(response: Response): Promise<string> {
  if (response.body === null) return "";
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let text = "";
  for (let left = ANSWER_BYTES_MAX; ; ) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    left -= value.byteLength;
    if (left < 0) {
      await reader.cancel();
      throw new RangeError(`the answer does not end after ${ANSWER_BYTES_MAX} bytes`);
    }
    text += decoder.decode(value, { stream: true });
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** One of several kinds, by a word that tells which. */
function union(value: unknown, tag: string, known: readonly string[]): unknown {
  if (!isObject(value) || typeof value[tag] !== "string") throw unexpected(value, `an answer has no ${tag}`);
  return known.includes(value[tag]) ? value : { [tag]: "unknown", name: value[tag], body: value };
}

function problemOf(status: number, headers: Headers, text: string): Problem {
  const after = headers.get("Retry-After") ?? "";
  const retryAfterS = /^\d+$/.test(after) ? Number(after) : undefined;
  try {
    const body: unknown = JSON.parse(text);
    if (isObject(body) && typeof body.code === "string") return new Problem(body, retryAfterS);
  } catch {
    // Of a proxy in between, below.
  }
  const retry = status === 429 || status === 503 ? "after" : status >= 500 ? "same_key" : "never";
  return new Problem({ status, code: `http_${status}`, retry, detail: text.slice(0, 200), request_id: "" }, retryAfterS);
}

/** How calls are made: keys, repeats, time limits. */
class Transport {
  readonly #url: string;
  readonly #key: string;
  readonly #options: ClientOptions;

  /** A client of the server at `url` with this API key. */
  constructor(url: string, key: string, options: ClientOptions = {}) {
    if (!/^https?:$/.test(new URL(url).protocol)) throw new RangeError(`${url}: give an address like http://127.0.0.1:8080`);
    this.#url = url.replace(/\/+$/, "");
    this.#key = key;
    this.#options = options;
  }

  protected async call(call: Call, options: KeyedOptions = {}): Promise<unknown> {
    const headers: Record<string, string> = { Authorization: `Bearer ${this.#key}`, Accept: "application/json" };
    const idempotencyKey = call.keyed ? (options.idempotencyKey ?? newKey()) : undefined;
    if (idempotencyKey !== undefined) headers["Idempotency-Key"] = idempotencyKey;
    let body: string | undefined;
    if (call.body !== undefined) {
      checkNumbers(call.body, "body", (message) => new RangeError(message));
      body = JSON.stringify(call.body);
      headers["Content-Type"] = "application/json";
    }
    const told = Object.entries(call.query ?? {}).filter(([, value]) => value !== undefined && value !== null);
    const query = new URLSearchParams(told.map(([name, value]) => [name, String(value)])).toString();
    const url = this.#url + call.path + (query && `?${query}`);
    // A long poll has that time on top: the server means to be late.
    const polls = call.query !== undefined && "wait_s" in call.query;
    const pollMs = polls ? Number((call.query as { wait_s?: number }).wait_s ?? POLL_S) * 1000 : 0;
    const deadline = performance.now() + pollMs + (options.limitMs ?? this.#options.limitMs ?? 30_000);
    const attemptMs = pollMs + (this.#options.attemptMs ?? 10_000);
    const repeatable = call.repeatable ?? true;
    let backoffMs = BACKOFF_MS_FIRST;
    let wasLost = false;
    for (let attempts = 1; ; attempts++) {
      options.signal?.throwIfAborted();
      let error: HongbaoError;
      let again: boolean;
      let waitMs = 0;
      const answer = await this.#once(url, { method: call.method, headers, body }, Math.min(attemptMs, deadline - performance.now()), options.signal);
      if ("lost" in answer) {
        options.signal?.throwIfAborted();
        error = new NoAnswer(`${call.method} ${call.path}: no answer`, { cause: answer.lost });
        again = wasLost = repeatable;
      } else if (answer.status >= 200 && answer.status < 300) {
        return call.text ? answer.text : readJson(answer.text, idempotencyKey);
      } else {
        // Deleted by the attempt before, whose answer was lost.
        if (call.method === "DELETE" && answer.status === 404 && wasLost) return undefined;
        const problem = problemOf(answer.status, answer.headers, answer.text);
        error = problem;
        again = problem.isWorthRepeating && (repeatable || problem.retry === "after");
        waitMs = (problem.retryAfterS ?? 0) * 1000;
      }
      waitMs += Math.random() * backoffMs;
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS_MAX);
      if (!again || performance.now() + waitMs >= deadline) {
        error.idempotencyKey = idempotencyKey;
        error.attempts = attempts;
        throw error;
      }
      await sleep(waitMs, options.signal);
    }
  }

  async #once(
    url: string,
    request: RequestInit,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<{ status: number; headers: Headers; text: string } | { lost: unknown }> {
    const end = new AbortController();
    const abort = () => end.abort();
    const timer = setTimeout(abort, Math.min(Math.max(1, timeoutMs), TIMER_MS_MAX));
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const response = await (this.#options.fetch ?? fetch)(url, { ...request, signal: end.signal, redirect: "manual" });
      return { status: response.status, headers: response.headers, text: await textOf(response) };
    } catch (lost) {
      return { lost };
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  }

  protected async *pages<T>(page: (cursor?: string) => Promise<{ items: T[]; next: string | null }>): AsyncGenerator<T> {
    let cursor: string | undefined;
    do {
      const shown = await page(cursor);
      yield* shown.items;
      cursor = shown.next ?? undefined;
    } while (cursor !== undefined);
  }
}

function readJson(text: string, key?: string): unknown {
  if (text === "" && key === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Told below.
  }
  if (!isObject(value)) {
    const error = new Unexpected(`an answer is no JSON object: ${text.slice(0, 200)}`);
    error.idempotencyKey = key;
    throw error;
  }
  if (key !== undefined) keyOf.set(value, key);
  return value;
}

function checked<T>(value: unknown, required: readonly string[]): T {
  for (const name of required) {
    if (!isObject(value) || !(name in value)) throw unexpected(value, `an answer has no ${name}`);
  }
  checkNumbers(value, "answer", (message) => unexpected(value, message));
  return value as T;
}

/** A request that the server did not send, or not now. Answer it with 400. */
export class InvalidWebhook extends Error {}

/** How a webhook's request is looked at. */
export interface VerifyOptions {
  /** How far its timestamp may be off; 300 s unless given. */
  toleranceS?: number;
  /** The time, in milliseconds; now unless given. */
  nowMs?: number;
}

/**
 * What a webhook's request says, if it was signed with this secret and sent within the last minutes.
 * `body` has to be what came, not what was parsed. Batches may come twice: keep the `webhook-id` of the last ones.
 */
export async function verifyWebhook(
  secret: string,
  headers: Headers | Record<string, string | string[] | undefined>,
  body: string | Uint8Array,
  options: VerifyOptions = {},
): Promise<unknown> {
  const given = (name: string): string => {
    const value = headers instanceof Headers ? headers.get(name) : headers[name];
    if (typeof value !== "string") throw new InvalidWebhook(`no header ${name}`);
    return value;
  };
  const [id, at, signatures] = [given("webhook-id"), given("webhook-timestamp"), given("webhook-signature")];
  const nowMs = options.nowMs ?? Date.now();
  if (!/^\d+$/.test(at) || Math.abs(nowMs / 1000 - Number(at)) > (options.toleranceS ?? 300)) {
    throw new InvalidWebhook("the timestamp is not of now; check this machine's clock");
  }
  const bytes = (base64: string): Uint8Array<ArrayBuffer> => {
    try {
      return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    } catch {
      throw new InvalidWebhook("a signature or the secret is not base64");
    }
  };
  const raw = bytes(secret.replace(/^whsec_/, ""));
  if (raw.length === 0) throw new InvalidWebhook("the secret is empty");
  const key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  const content = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const head = new TextEncoder().encode(`${id}.${at}.`);
  const signed = new Uint8Array(head.length + content.length);
  signed.set(head);
  signed.set(content, head.length);
  for (const signature of signatures.split(" ").filter((one) => one.startsWith("v1,"))) {
    if (await crypto.subtle.verify("HMAC", key, bytes(signature.slice(3)), signed)) {
      return JSON.parse(new TextDecoder().decode(content));
    }
  }
  throw new InvalidWebhook("no signature is of this secret");
}

// --- generated from here, by server/clients/generate ---

/** Minor units (fen). Never a float, never a string. */
export type Amount = number;

/** Minor units (fen). */
export type Balance = number;

export type Count = number;

/** 1 to 64 of A-Z a-z 0-9 _ . : @ -, not . or .. ; use pseudonymous ids. */
export type User = string;

export type Time = string;

/** The caller's own number: visible characters, unique per owner and kind for ever. Sent again under another Idempotency-Key, the same content gets the first answer, with Idempotency-Replayed: true; other content is 409 reference_conflict. */
export type Reference = string;

export type EnvelopeId = string;

export type ItemId = string;

export type HoldId = string;

export type OrderId = string;

export type PaymentId = string;

export type PayoutId = string;

export type GiftId = string;

export type GiftEnvelopeId = string;

export type GroupId = string;

export type WebhookId = string;

export interface NewWebhook {
  /** https, or http where the operator allows it; no user, no password, no fragment. */
  url: string;
  /** Types as of GET /v1/events, each an element; null for all but share.grabbed and hold.held. */
  types?: Array<string> | null;
  /** Only what happens to this owner's envelopes. */
  owner?: User | null;
  /** now, oldest, or a cursor of the feed; now if it is left out. */
  after?: string | null;
}

export interface WebhookChange {
  /** https, or http where the operator allows it; no user, no password, no fragment. */
  url?: string;
  /** Types as of GET /v1/events, each an element; null for all but share.grabbed and hold.held. */
  types?: Array<string> | null;
  disabled?: boolean;
}

export interface WebhookFailure {
  at: Time;
  detail: string;
}

export interface Webhook {
  id: WebhookId;
  url: string;
  types: Array<string> | null;
  owner: string | null;
  /** failing: the last request failed. */
  state: Open<"active" | "failing" | "disabled">;
  disabled_reason: string | null;
  /** What signatures are made with: whsec_ and base64. Null when this is not the answer that made it. */
  secret: string | null;
  /** Behind what was delivered, or is a dead letter. */
  cursor: string;
  /** Events of the batch that is on its way. */
  pending: number;
  /** How often that was tried. */
  attempts: number;
  /** When it is tried again. */
  next_attempt_at: Time | null;
  /** The age of its first event. */
  lag_s: number;
  /** Dead letters that are kept. */
  dead: number;
  /** When a batch was taken last. */
  last_success_at: Time | null;
  last_error: WebhookFailure | null;
  created_at: Time;
}

/** Where the next page starts; null at the end. */
export type Cursor = string | null;

export interface Webhooks {
  webhooks: Array<Webhook>;
  next_cursor: Cursor;
}

export interface WebhookPinged {
  /** Whether a 2xx came back. */
  delivered: boolean;
  /** What came back instead. */
  error: string | null;
}

export interface DeadLetter {
  /** Its webhook-id. */
  id: string;
  /** How many; 0 if they were gone before they were counted. */
  events: number;
  /** The cursor before them. */
  after: string;
  /** The cursor behind them. */
  until: string;
  attempts: number;
  died_at: Time;
  /** Why the last attempt failed. */
  detail: string;
  /** Whether its events are not kept any more. */
  gone: boolean;
  /** Whether it is about to be sent once more. */
  redelivering: boolean;
}

export interface DeadLetters {
  dead: Array<DeadLetter>;
  next_cursor: Cursor;
}

export interface Redeliver {
  /** Of dead letters; either these or from. */
  ids?: Array<string> | null;
  /** A cursor of the feed, or oldest. */
  from?: string | null;
}

export type KeyId = string;

/** admin: everything. issuer: creates envelopes and items, sees and cancels its owner's envelopes, changes its owner's items. caller: grabs, claims and reads on behalf of users. treasurer: moves money in and out of wallets. merchant:<id>: reads this merchant's items and orders. viewer: reads everything but keys. */
export type Role = string;

export interface NewKey {
  /** What people call it. */
  name: string;
  /** Whose references, idempotency keys and envelopes are meant; several keys may have one owner. The name, unless it is given. What is made with the admin key is the owner admin's. */
  owner?: User;
  roles: Array<Role>;
}

export interface Key {
  id: KeyId;
  name: string;
  owner: User;
  roles: Array<Role>;
  created_at: Time;
}

export interface Event {
  /** The same whenever this event is told. */
  id: string;
  /** More may come: pass over what you do not know. item.put is an item put on sale, changed or restocked; share.lapsed is one event for all shares of an envelope that nobody claimed in time. */
  type: Open<"envelope.created" | "envelope.sold_out" | "envelope.expired" | "envelope.cancelled" | "envelope.settled" | "share.grabbed" | "share.claimed" | "share.lapsed" | "wallet.deposited" | "wallet.withdrawn" | "item.put" | "hold.held" | "hold.claimed" | "hold.released" | "hold.expired" | "order.created" | "payout.due" | "payout.sent" | "payout.paid" | "payout.failed" | "envelope.redacted" | "merchant.changed" | "gift.awaiting_payment" | "gift.offered" | "gift.accepted" | "gift.shipped" | "gift.delivered" | "gift.declined" | "gift.expired" | "gift.cancelled" | "gift.failed" | "merchant.settled" | "gift.redacted" | "order.shipped" | "order.delivered" | "order.return_requested" | "order.returned" | "order.refused" | "payment.created" | "payment.paid" | "payment.failed" | "payment.refunding" | "payment.refunded" | "group.opened" | "group.joined" | "group.left" | "group.full" | "group.expired" | "group.leader_left">;
  at: Time;
  /** The owner of the envelope, gift or group, if it is about one or its payouts, or of the item that was put. */
  owner?: string;
  /** What it is about, as it was then: of envelope.created an Envelope, of hold.* a Hold, of order.* an Order, of payout.* a Payout, of payment.* a Payment, of merchant.changed a Merchant, of merchant.settled SettledSales, of gift.* a Gift, of group.* GroupHappened, of item.put an Item whose stock tells `total` only. */
  data: Record<string, unknown>;
}

export interface Events {
  events: Array<Event>;
  /** Where to go on; also where there are no events. */
  next_cursor: string;
}

export type EnvelopeState = Open<"scheduled" | "open" | "sold_out" | "expired" | "cancelled" | "settled">;

export interface EnvelopeChanged {
  id: EnvelopeId;
  sender: User;
  reference: string | null;
  state: EnvelopeState;
  ended_as: Open<"sold_out" | "expired" | "cancelled">;
  claimed_amount?: Balance;
  refunded_amount?: Balance;
}

export interface RedactedEnvelope {
  id: EnvelopeId;
  sender: User;
  reference: string | null;
  redacted_at: Time;
  /** Whether the metadata was taken back as well. */
  with_metadata: boolean;
}

export interface ShareOf {
  envelope: EnvelopeId;
  sender: User;
  reference: string | null;
  user: User;
  share: number;
  amount: Amount;
  status: Open<"grabbed" | "claimed">;
  grabbed_at: Time;
  claimed_at: string | null;
}

export interface LapsedShares {
  envelope: EnvelopeId;
  sender: User;
  reference: string | null;
  amount: Amount;
}

export type Currency = string;

export interface MovedMoney {
  user: User;
  currency: Currency;
  amount: Amount;
  available: Balance;
  reference: string | null;
}

export interface MadeKey {
  id: KeyId;
  name: string;
  owner: User;
  roles: Array<Role>;
  created_at: Time;
  /** What is sent as Authorization: Bearer. Null when this is not the answer that made it. */
  key: string | null;
}

export interface Keys {
  keys: Array<Key>;
  next_cursor: Cursor;
}

export type ShareStatus = Open<"grabbed" | "claimed" | "lapsed">;

export type PayoutState = "due" | "sent" | "paid" | "failed";

/** win: a share that was claimed. refund: what nobody took, to the sender. */
export type PayoutKind = Open<"win" | "refund">;

export interface Transfer {
  amount: Amount;
  reference?: Reference | null;
}

export interface Wallet {
  user: User;
  currency: Currency;
  available: Balance;
  held: Balance;
}

export interface Entry {
  at: Time;
  kind: Open<"deposit" | "withdrawal" | "envelope" | "claim" | "refund" | "lapse" | "order" | "gift" | "gift_refund" | "order_refund" | "group" | "group_refund">;
  amount: Amount;
  balance_after: Balance;
  envelope?: EnvelopeId;
  order?: OrderId;
  gift?: GiftId;
  group?: GroupId;
  reference?: Reference;
}

export interface Entries {
  entries: Array<Entry>;
  next_cursor: Cursor;
}

export interface NewEnvelopeFunding {
  reference: Reference;
}

export interface NewEnvelope {
  sender: User;
  total: Amount;
  shares: number;
  /** lucky: double mean, then shuffled. uniform: every division that keeps the minimum is equally likely. equal: total must divide by shares. specified: the amounts given, shuffled. */
  split?: "lucky" | "uniform" | "equal" | "specified";
  /** Only with lucky and uniform. */
  min_share?: number | null;
  /** Only with lucky. */
  max_share?: number | null;
  /** Only with specified: one for each share, summing to the total. */
  amounts?: Array<Amount> | null;
  message?: string;
  /** At most a year ahead and not in the past; null is at once. */
  opens_at?: string | null;
  expires_in_s?: number;
  claim_within_s?: number;
  /** A grab credits the winner at once. */
  auto_claim?: boolean;
  unclaimed?: "return" | "credit";
  reference?: Reference | null;
  /** Kept with the envelope; up to 4 KiB of JSON, 32 levels deep. */
  metadata?: Record<string, unknown>;
  /** The creator's share in the draw's seed. */
  client_seed?: string | null;
  /** The money comes from outside for this envelope: it is deposited and put in at once, and the sender's wallet has no part. What goes back becomes a payout with this reference, which is the owner's for ever, as a reference of its own kind. */
  funding?: NewEnvelopeFunding | null;
  /** Where a claim goes: into the winner's wallet, or outside, by a payout of kind win. */
  payout?: "wallet" | "external";
}

/** Under which reference its money came from outside; null if it came from the sender's wallet. */
export interface EnvelopeFunding {
  reference: Reference;
}

export interface Envelope {
  id: EnvelopeId;
  sender: User;
  state: EnvelopeState;
  ended_as: Open<"sold_out" | "expired" | "cancelled"> | null;
  total: Amount;
  currency: Currency;
  shares: Count;
  split: string;
  message: string;
  remaining_shares: Count;
  remaining_amount: Balance;
  claimed_amount: Balance;
  refunded_amount: Balance;
  created_at: Time;
  opens_at: Time;
  expires_at: Time;
  claim_by: Time;
  /** SHA-256 over the bytes of `hongbao/commitment/1`, a zero byte and the 32 bytes of `seed_secret`, in hexadecimal. The seed of the draw is HMAC-SHA256 with `seed_secret` as key over the 16 bytes of the id and the `client_seed`. */
  commitment: string;
  /** The secret, in hexadecimal, once no share is ungrabbed. */
  seed_secret: string | null;
  reference: Reference | null;
  metadata: Record<string, unknown>;
  /** Under which reference its money came from outside; null if it came from the sender's wallet. */
  funding: EnvelopeFunding | null;
  /** Where a claim goes: into the winner's wallet, or outside, by a payout of kind win. */
  payout: Open<"wallet" | "external">;
  /** When its message was taken back; then `message` is empty. */
  redacted_at: string | null;
}

export interface Envelopes {
  envelopes: Array<Envelope>;
  next_cursor: Cursor;
}

export interface ByUser {
  user: User;
}

/** What is taken back besides the message, or a gift's texts; the body may also be empty. */
export interface Redact {
  /** The metadata as well; later is fine. */
  metadata?: boolean;
}

export interface Won {
  outcome: "won";
  amount: Amount;
  share: Count;
  status: ShareStatus;
  grabbed_at: Time;
  claim_by: Time;
  replayed: boolean;
}

export interface SoldOut {
  outcome: "sold_out";
}

export interface Expired {
  outcome: "expired";
}

export interface Cancelled {
  outcome: "cancelled";
}

export interface NotOpen {
  outcome: "not_open";
  opens_at: Time;
}

export interface NotEligible {
  outcome: "not_eligible";
  reason: string;
}

export interface Claimed {
  outcome: "claimed";
  amount: Amount;
  claimed_at: Time;
  replayed: boolean;
}

export interface NotWon {
  outcome: "not_won";
}

export interface Lapsed {
  outcome: "lapsed";
}

export interface Held {
  outcome: "held";
  hold: HoldId;
  quantity: Count;
  amount: Amount;
  expires_at: Time;
  /** Whether the user held this unit already when it was asked for. A repeat under the same Idempotency-Key is answered with the first answer as it was, false included; that it is a repeat says the header Idempotency-Replayed. */
  replayed: boolean;
}

export interface LimitReached {
  outcome: "limit_reached";
}

export interface Ended {
  outcome: "ended";
}

export interface Ordered {
  outcome: "claimed";
  order: OrderId;
  replayed: boolean;
}

export interface Released {
  outcome: "released";
  replayed: boolean;
}

export interface CannotPay {
  outcome: "insufficient_funds";
}

export interface Failed {
  error: Problem;
}
function readFailed(value: unknown): Failed {
  const whole = value as Record<string, unknown>;
  return {
    ...whole,
    error: new Problem(whole.error as Record<string, unknown>),
  } as unknown as Failed;
}

/** Treat an outcome you do not know as no win so far. */
export type GrabOutcome = Won | SoldOut | Expired | Cancelled | NotOpen | NotEligible | { outcome: "unknown"; name: string; body: Record<string, unknown> };
function readGrabOutcome(value: unknown): GrabOutcome {
  return union(value, "outcome", ["won", "sold_out", "expired", "cancelled", "not_open", "not_eligible"]) as GrabOutcome;
}

/** Treat an outcome you do not know as no win so far. */
export type ClaimOutcome = Claimed | NotWon | Lapsed | { outcome: "unknown"; name: string; body: Record<string, unknown> };
function readClaimOutcome(value: unknown): ClaimOutcome {
  return union(value, "outcome", ["claimed", "not_won", "lapsed"]) as ClaimOutcome;
}

/** Treat an outcome you do not know as no win so far. */
export type ItemGrabOutcome = Held | SoldOut | LimitReached | NotOpen | Ended | { outcome: "unknown"; name: string; body: Record<string, unknown> };
function readItemGrabOutcome(value: unknown): ItemGrabOutcome {
  return union(value, "outcome", ["held", "sold_out", "limit_reached", "not_open", "ended"]) as ItemGrabOutcome;
}

export interface AwaitingPayment {
  outcome: "awaiting_payment";
  payment: PaymentId;
  gateway: string;
  amount: Amount;
  currency: Currency;
  /** Where to pay; null until the gateway has said so: ask again, or GET /v1/payments/{id}. */
  pay_url: string | null;
  expires_at: Time;
  /** The order that it has made. */
  order: string | null;
  /** Why it failed. */
  reason: string | null;
}

export interface PaidOutside {
  outcome: "paid";
  payment: PaymentId;
  gateway: string;
  amount: Amount;
  currency: Currency;
  /** Where to pay; null until the gateway has said so: ask again, or GET /v1/payments/{id}. */
  pay_url: string | null;
  expires_at: Time;
  /** The order that it has made. */
  order: string | null;
  /** Why it failed. */
  reason: string | null;
}

export interface PaymentFailed {
  outcome: "payment_failed";
  payment: PaymentId;
  gateway: string;
  amount: Amount;
  currency: Currency;
  /** Where to pay; null until the gateway has said so: ask again, or GET /v1/payments/{id}. */
  pay_url: string | null;
  expires_at: Time;
  /** The order that it has made. */
  order: string | null;
  /** Why it failed. */
  reason: string | null;
}

/** Treat an outcome you do not know as no win so far. */
export type HoldClaimOutcome = Ordered | Expired | Released | CannotPay | AwaitingPayment | PaidOutside | PaymentFailed | { outcome: "unknown"; name: string; body: Record<string, unknown> };
function readHoldClaimOutcome(value: unknown): HoldClaimOutcome {
  return union(value, "outcome", ["claimed", "expired", "released", "insufficient_funds", "awaiting_payment", "paid", "payment_failed"]) as HoldClaimOutcome;
}

/** Treat an outcome you do not know as no win so far. */
export type ReleaseOutcome = Released | Expired | Ordered | { outcome: "unknown"; name: string; body: Record<string, unknown> };
function readReleaseOutcome(value: unknown): ReleaseOutcome {
  return union(value, "outcome", ["released", "expired", "claimed"]) as ReleaseOutcome;
}

export interface GrabPair {
  envelope: string;
  user: User;
}

export interface GrabMany {
  grabs: Array<GrabPair>;
}

export type GrabResult = GrabOutcome | Failed;
function readGrabResult(value: unknown): GrabResult {
  if (isObject(value) && "error" in value) return readFailed(value);
  if (isObject(value) && "outcome" in value) return readGrabOutcome(value);
  throw new Unexpected("an answer is no GrabResult");
}

export interface GrabResults {
  results: Array<GrabResult>;
}
function readGrabResults(value: unknown): GrabResults {
  const whole = value as Record<string, unknown>;
  return {
    ...whole,
    results: (whole.results as unknown[]).map((one) => readGrabResult(one)),
  } as unknown as GrabResults;
}

export interface Grab {
  user: User;
  amount: Amount;
  share: Count;
  status: ShareStatus;
  grabbed_at: Time;
  claimed_at: string | null;
  /** The luckiest, told once every share is taken. */
  best: boolean;
}

export interface Grabs {
  grabs: Array<Grab>;
  next_cursor: Cursor;
}

export interface Received {
  envelope: EnvelopeId;
  sender: User;
  amount: Amount;
  status: ShareStatus;
  grabbed_at: Time;
  claimed_at: string | null;
}

export interface ReceivedGrabs {
  grabs: Array<Received>;
  next_cursor: Cursor;
}

/** Treat an outcome you do not know as not paid so far. */
export type GiftPaymentOutcome = AwaitingPayment | PaidOutside | PaymentFailed | { outcome: "unknown"; name: string; body: Record<string, unknown> };
function readGiftPaymentOutcome(value: unknown): GiftPaymentOutcome {
  return union(value, "outcome", ["awaiting_payment", "paid", "payment_failed"]) as GiftPaymentOutcome;
}

export interface HoldClaim {
  user: User;
  /** A payment gateway of the server's; null pays from the wallet. */
  pay_with?: string | null;
}

export interface GiftPayOutside {
  payer: User;
  /** A payment gateway of the server's. */
  pay_with: string;
}

export interface GatewayMessage {
  about: "payment" | "refund";
  reference: PaymentId;
  /** Of a payment pending, paid, failed or closed; of a refund pending, refunded or failed. */
  state: string;
  /** The gateway's own number. */
  id?: string;
  amount?: Amount;
  reason?: string;
}

export type PaymentState = Open<"created" | "pending" | "paid" | "failed" | "expired" | "refunding" | "refunded">;

export interface PaymentTaken {
  payment: PaymentId;
  state: PaymentState;
}

export interface Payment {
  id: PaymentId;
  gateway: string;
  state: PaymentState;
  /** What it is for, if it is a hold. */
  hold: string | null;
  /** What it is for, if it is a gift. */
  gift: string | null;
  payer: User;
  merchant: User;
  amount: Amount;
  currency: Currency;
  /** What the gateway has taken. */
  taken: Balance;
  created_at: Time;
  expires_at: Time;
  /** Until when what it is for is kept at most while the gateway does not say whether it was paid. */
  kept_until: Time;
  pay_url: string | null;
  /** The gateway's own number. */
  gateway_id: string | null;
  paid_at: string | null;
  /** The order that it has made. */
  order: string | null;
  refunding_at: string | null;
  refunded_at: string | null;
  /** The gateway's own number of the refund. */
  refund_id: string | null;
  /** Why it failed, or why its money goes back. */
  reason: string | null;
  /** What the gateway said that cannot be right: the first of it. */
  discrepancy: Open<"other_amount" | "paid_twice" | "paid_after_refund"> | null;
}

export interface Payments {
  payments: Array<Payment>;
  next_cursor: Cursor;
}

export interface Payout {
  id: PayoutId;
  kind: PayoutKind;
  user: User;
  amount: Amount;
  currency: Currency;
  envelope: EnvelopeId;
  /** That of the envelope's funding, if it was funded from outside. */
  funding_reference: string | null;
  state: PayoutState;
  /** How often it was no longer due. */
  attempts: Count;
  /** The last one told. */
  reference: string | null;
  /** The last one told. */
  reason: string | null;
  created_at: Time;
  changed_at: Time;
}

export interface Payouts {
  payouts: Array<Payout>;
  next_cursor: Cursor;
}

export interface PayoutResultsResultsItem {
  id: string;
  state: PayoutState;
  /** A number by which you or the bank know it: visible characters. */
  reference?: string | null;
  reason?: string | null;
}

export interface PayoutResults {
  results: Array<PayoutResultsResultsItem>;
}

export interface PayoutAnswersResultsItem {
  /** As it was sent, up to 64 characters; null if there was none. */
  id: string | null;
  state?: PayoutState;
  error?: Problem;
}
function readPayoutAnswersResultsItem(value: unknown): PayoutAnswersResultsItem {
  const whole = value as Record<string, unknown>;
  return {
    ...whole,
    error: new Problem(whole.error as Record<string, unknown>),
  } as unknown as PayoutAnswersResultsItem;
}

export interface PayoutAnswers {
  results: Array<PayoutAnswersResultsItem>;
}
function readPayoutAnswers(value: unknown): PayoutAnswers {
  const whole = value as Record<string, unknown>;
  return {
    ...whole,
    results: (whole.results as unknown[]).map((one) => readPayoutAnswersResultsItem(one)),
  } as unknown as PayoutAnswers;
}

export interface Audit {
  balanced: boolean;
  deposited: Balance;
  withdrawn: Balance;
  paid_out: Balance;
  wallets: Balance;
  escrowed: Balance;
  payable: Balance;
  /** On its way back to who paid outside. */
  refunding: Balance;
  merchants: Balance;
  platform: Balance;
  in_flight: Balance;
}

/** Who checked its papers; only beside the status `verified`. */
export interface NewMerchantVerification {
  /** Left out, the name of the calling key. */
  by?: string | null;
  /** The checker's own number of what was checked. */
  reference?: string | null;
}

export interface NewMerchant {
  id: User;
  name: string;
  /** Left out, a merchant keeps the one it has; a new one is pending. */
  status?: "pending" | "verified" | "suspended";
  /** Who checked its papers; only beside the status `verified`. */
  verification?: NewMerchantVerification | null;
  /** How long the money of its sales is pending from now on, seconds; then until the next whole minute, or from a day on the next whole hour. Left out, it stays; a new merchant has 604800, a week. */
  settle_after_s?: number;
  /** What of its sales is the platform's from now on, in hundredths of a percent, each rounded down. Left out, it stays; a new merchant has 0. */
  commission_bps?: number;
}

export type MerchantStatus = Open<"pending" | "verified" | "suspended">;

/** Who checked its papers, if somebody did since it was last pending. */
export interface MerchantVerification {
  /** Who checked them. */
  by: string;
  /** The checker's own number of what was checked. */
  reference: string | null;
  at: Time;
}

export interface Merchant {
  id: User;
  name: string;
  status: MerchantStatus;
  /** Who checked its papers, if somebody did since it was last pending. */
  verification: MerchantVerification | null;
  /** How long the money of its sales is pending, seconds. */
  settle_after_s: number;
  /** What of its sales is the platform's, in hundredths of a percent. */
  commission_bps: number;
}

/** What a merchant has of its sales. */
export interface SalesBalance {
  merchant: User;
  currency: Currency;
  /** Of sales that are not due yet, the platform's commission in it. */
  pending: Balance;
  /** What can be taken out. */
  available: Balance;
}

export interface PendingAndAvailable {
  pending: Balance;
  available: Balance;
}

/** A movement of a merchant's money. A sale comes into what is pending; a commission leaves that for the platform, and what is settled for what is available; a refund leaves either, and a withdrawal what is available. */
export interface SalesEntry {
  at: Time;
  kind: Open<"sale" | "commission" | "settled" | "refund" | "withdrawal">;
  amount: Balance;
  balance_after: PendingAndAvailable;
  order?: OrderId;
  gift?: GiftId;
  commission?: Balance;
  from?: Open<"pending" | "available">;
  due?: Time;
  reference?: Reference;
}

/** The entries of a time, and what the merchant had before and after all of it, on every page. */
export interface SalesStatement {
  merchant: User;
  currency: Currency;
  opening: PendingAndAvailable;
  entries: Array<SalesEntry>;
  closing: PendingAndAvailable;
  next_cursor: Cursor;
}

export interface SettledSales {
  merchant: User;
  currency: Currency;
  due: Time;
  amount: Amount;
  commission: Balance;
  balance_after: PendingAndAvailable;
}

export interface Merchants {
  merchants: Array<Merchant>;
  next_cursor: Cursor;
}

/** What comes of a unit that is paid: it is shipped, or delivered otherwise, or is one of a list of codes. */
export type ItemKind = "physical" | "virtual" | "code";

/** On which terms groups buy an item. */
export interface GroupBuy {
  /** How many members a group has, its leader among them. */
  size: number;
  /** What each pays for one unit, at most the item's price. */
  price: Amount;
  /** How long a group may take to be full. */
  within_s: number;
}

export interface NewItem {
  merchant: User;
  name: string;
  /** What lists are asked for by: `flowers`, `home`, `beauty`, `digital`, `jewelry`, or a word of your own. */
  category: string;
  price: Amount;
  /** Units to sell, at least 1. Of the kind `code` it is 0 or absent: its stock is the number of its codes, which are added to it. */
  stock?: number;
  /** Units a user may hold and have bought together; null is no limit. */
  per_user_limit?: number | null;
  /** Not in the past, and at most a year ahead; null opens the sale at once. */
  starts_at?: string | null;
  /** In the future, after starts_at, and at most two years ahead; null is never. */
  ends_at?: string | null;
  hold_ttl_s?: number;
  image_url?: string | null;
  kind?: ItemKind;
  /** How long after its delivery an order may be sent back; 0 is never. A code never may. It does not change later. */
  return_within_s?: number;
  /** Of which item of the same merchant this is a variant; that one is none itself. Like `kind` it never changes. */
  variant_of?: string | null;
  /** On which terms groups buy it; null is not at all. */
  group_buy?: GroupBuy | null;
}

/** What is left out stays as it is; null takes it away. */
export interface ItemChange {
  name?: string;
  /** What lists are asked for by: `flowers`, `home`, `beauty`, `digital`, `jewelry`, or a word of your own. */
  category?: string;
  price?: Amount;
  per_user_limit?: number | null;
  /** As of a new item. The time that stands may be sent again after it has passed. */
  starts_at?: string | null;
  /** At most two years ahead, after starts_at. Now, or up to a minute ago, ends the sale at once; further in the past is refused. The time that stands may be sent again after it has passed. */
  ends_at?: string | null;
  hold_ttl_s?: number;
  image_url?: string | null;
  /** For groups opened from now on; those that are open keep what they saw. */
  group_buy?: GroupBuy | null;
}

export interface Stock {
  total: Count;
  free: Count;
  held: Count;
  sold: Count;
}

export interface Item {
  id: ItemId;
  merchant: User;
  name: string;
  category: string;
  kind: ItemKind;
  /** The item of which it is a variant. */
  variant_of: string | null;
  /** How long after its delivery an order may be sent back; 0 is never, as it is of a code. */
  return_within_s: number;
  price: Amount;
  currency: Currency;
  stock: Stock;
  per_user_limit: number | null;
  starts_at: string | null;
  ends_at: string | null;
  hold_ttl_s: number;
  image_url: string | null;
  group_buy: GroupBuy | null;
  created_at: Time;
}

export interface Items {
  items: Array<Item>;
  next_cursor: Cursor;
}

export interface Restock {
  quantity: number;
}

export interface ItemGrab {
  user: User;
  quantity?: number;
}

export interface Hold {
  id: HoldId;
  item: ItemId;
  user: User;
  quantity: Count;
  amount: Amount;
  currency: Currency;
  state: Open<"held" | "claimed" | "released" | "expired">;
  order: OrderId | null;
  created_at: Time;
  expires_at: Time;
}

export type OrderState = Open<"paid" | "shipped" | "delivered" | "return_requested" | "returned" | "refused">;

export interface Order {
  id: OrderId;
  hold: HoldId;
  item: ItemId;
  merchant: User;
  user: User;
  quantity: Count;
  amount: Amount;
  currency: Currency;
  created_at: Time;
  state: OrderState;
  shipped_at: string | null;
  carrier: string | null;
  tracking: string | null;
  delivered_at: string | null;
  return_requested_at: string | null;
  return_reason: string | null;
  /** Until when the merchant is to answer a return: who asks again from then on has it. */
  answer_by: string | null;
  ended_at: string | null;
  /** Why the merchant does not take it back. */
  refusal: string | null;
  /** Whether its units are on sale again. */
  restocked: boolean;
  /** What it was handed, if its item is of the kind `code`, where one order is asked for with a key of the role `admin` or `caller`; null for others. No event and no list has it. */
  codes?: Array<string> | null;
}

export interface OrderShip {
  carrier: string;
  tracking: string;
}

export interface OrderReturn {
  user: User;
  reason: string;
}

export interface AcceptReturn {
  /** Whether its units are on sale again. */
  restock: boolean;
}

export interface RefuseReturn {
  reason: string;
}

export interface NewCodes {
  /** Visible characters without spaces, together at most 100 KiB. */
  codes: Array<string>;
}

export interface Codes {
  codes: Array<string>;
}

export interface NewGiftEnvelope {
  giver: User;
  item: ItemId;
  /** With long names and a long message fewer than 100 fit: 422. */
  units: number;
  /** Who pays for all of them; the giver unless said. Anybody else is asked to. */
  payer?: string | null;
  message?: string;
  /** Whether who grabs has to show a token: make a link of it. */
  with_token?: boolean;
  /** How long whoever was asked may take to pay. */
  pay_within_s?: number;
  /** How long it can be grabbed from, once it is paid. */
  expires_in_s?: number;
  /** How long who has grabbed may take to accept. */
  accept_within_s?: number;
  /** How long the merchant may take, from the acceptance on. */
  ship_within_s?: number;
  reference?: Reference | null;
}

export type GiftState = Open<"awaiting_payment" | "offered" | "accepted" | "shipped" | "delivered" | "declined" | "expired" | "cancelled" | "failed">;

export interface GiftUnit {
  gift: GiftId;
  /** Who has grabbed it. */
  recipient: User | null;
  state: GiftState;
}

export interface GiftEnvelope {
  id: GiftEnvelopeId;
  state: Open<"awaiting_payment" | "open" | "sold_out" | "expired" | "cancelled">;
  giver: User;
  payer: User;
  item: ItemId;
  merchant: User;
  units: Count;
  /** Of a unit. */
  amount: Amount;
  currency: Currency;
  message: string;
  remaining: Count;
  grabbed: Count;
  created_at: Time;
  pay_by: Time | null;
  /** null before it is paid, and once every unit is grabbed. */
  expires_at: Time | null;
  accept_within_s: number;
  reference: string | null;
  /** In the order in which they are grabbed. */
  gifts: Array<GiftUnit>;
  /** What has to be shown to grab, as long as that can be; for keys with the role admin or caller. */
  token?: string;
}

export interface GiftEnvelopes {
  gift_envelopes: Array<GiftEnvelope>;
  next_cursor: Cursor;
}

export interface GiftGrab {
  user: User;
  /** The gift envelope's, if it has one. */
  token?: string | null;
  /** The app knows that this user and the giver follow each other. */
  mutual?: boolean;
}

export interface Gift {
  id: GiftId;
  state: GiftState;
  giver: User;
  /** null until somebody accepts it, if it was made for nobody in particular. */
  recipient: string | null;
  /** Who pays or has paid, and gets the money back if it comes to nothing. */
  payer: User;
  item: ItemId;
  merchant: User;
  amount: Amount;
  currency: Currency;
  message: string;
  /** What whoever accepts it has to show, if it was made for nobody in particular: told while it can be accepted, to keys with the role admin or caller. */
  token?: string;
  created_at: Time;
  /** Until when it may be paid, if somebody else was asked. */
  pay_by: string | null;
  /** When it was paid. */
  paid_at: string | null;
  /** Until when it may be accepted, once it is paid. */
  accept_by: string | null;
  /** When it was accepted. */
  accepted_at: string | null;
  /** Until when it is to be shipped, once it is accepted. */
  ship_by: string | null;
  /** When it was shipped. */
  shipped_at: string | null;
  carrier: string | null;
  tracking: string | null;
  /** When it came to its end. */
  ended_at: string | null;
  /** Why it was declined or failed. */
  reason: string | null;
  /** What the recipient has said. */
  note: string | null;
  reference: string | null;
  metadata: Record<string, unknown>;
  /** When its texts were taken back, the first time. */
  redacted_at: string | null;
}

export interface OfferedGift {
  outcome: "offered";
  gift: Gift;
  replayed: boolean;
}

/** Treat an outcome you do not know as no gift so far. */
export type GiftGrabOutcome = OfferedGift | SoldOut | Expired | Cancelled | { outcome: "unknown"; name: string; body: Record<string, unknown> };
function readGiftGrabOutcome(value: unknown): GiftGrabOutcome {
  return union(value, "outcome", ["offered", "sold_out", "expired", "cancelled"]) as GiftGrabOutcome;
}

export interface NewRelation {
  user: User;
  other: User;
  /** What the user is to the other. */
  relation: "none" | "follows" | "blocks";
}

export interface NewRelations {
  relations: Array<NewRelation>;
}

export interface RelationsTold {
  rows: number;
}

export interface Relation {
  user: User;
  other: User;
  relation: Open<"follows" | "blocks">;
}

export interface Relations {
  relations: Array<Relation>;
  next_cursor: Cursor;
}

export interface NewGift {
  giver: User;
  /** null: whoever accepts first with the gift's token. */
  recipient?: string | null;
  item: ItemId;
  /** Who pays; the giver unless said. Anybody else is asked to. */
  payer?: string | null;
  message?: string;
  /** How long whoever was asked may take to pay. */
  pay_within_s?: number;
  /** How long the recipient may take, from the payment on. */
  accept_within_s?: number;
  /** How long the merchant may take, from the acceptance on. */
  ship_within_s?: number;
  /** The app knows that giver and recipient follow each other; needed where that is the rule and it was not told with POST /v1/relations. */
  mutual?: boolean;
  reference?: Reference | null;
  /** Up to 4 KiB and 32 levels deep, kept as it comes. */
  metadata?: Record<string, unknown>;
}

export interface Gifts {
  gifts: Array<Gift>;
  next_cursor: Cursor;
}

/** Of a group that is expired or whose leader has left all have their money back. */
export type GroupState = Open<"open" | "full" | "expired" | "leader_left">;

export interface NewGroup {
  /** Its leader. */
  user: User;
  reference?: Reference;
}

export interface GroupMember {
  user: User;
  joined_at: Time;
  /** Once the group is full. */
  order: string | null;
}

export interface Group {
  id: GroupId;
  state: GroupState;
  item: ItemId;
  merchant: User;
  leader: User;
  /** How many are in it. */
  members: number;
  /** How many it takes. */
  size: number;
  /** What each pays: the item's price for groups when it was opened. */
  price: Amount;
  currency: Currency;
  /** Who is in it, in the order in which they joined; of one that came to nothing, who was. */
  joined: Array<GroupMember>;
  created_at: Time;
  expires_at: Time;
  /** When it was full, or came to nothing. */
  ended_at: string | null;
  reference: string | null;
}

/** A group, and who opened, joined or left it. */
export interface GroupHappened {
  user?: User;
  id: GroupId;
  state: GroupState;
  item: ItemId;
  merchant: User;
  leader: User;
  members: number;
  size: number;
  price: Amount;
  currency: Currency;
  joined: Array<GroupMember>;
  created_at: Time;
  expires_at: Time;
  ended_at: string | null;
  reference: string | null;
}

export interface Groups {
  groups: Array<Group>;
  next_cursor: Cursor;
}

export interface Joined {
  outcome: "joined";
  group: GroupId;
  state: GroupState;
  members: number;
  size: number;
  price: Amount;
  expires_at: Time;
  /** The user's, once the group is full. */
  order: string | null;
  /** Whether the user was in it before. */
  replayed: boolean;
}

export interface GroupFull {
  outcome: "full";
}

export interface LeaderLeft {
  outcome: "leader_left";
}

/** Treat an outcome you do not know as not joined so far. */
export type GroupOutcome = Joined | GroupFull | Expired | LeaderLeft | SoldOut | LimitReached | NotOpen | Ended | CannotPay | { outcome: "unknown"; name: string; body: Record<string, unknown> };
function readGroupOutcome(value: unknown): GroupOutcome {
  return union(value, "outcome", ["joined", "full", "expired", "leader_left", "sold_out", "limit_reached", "not_open", "ended", "insufficient_funds"]) as GroupOutcome;
}

export interface GiftPay {
  payer: User;
}

export interface Address {
  name: string;
  phone: string;
  lines: Array<string>;
  city: string;
  postcode?: string;
}

export interface GiftAccept {
  user: User;
  /** The gift's, if it was made for nobody in particular. */
  token?: string | null;
  /** Where it is to be sent. Sealed as it comes; told to its merchant only. */
  address?: Address | null;
  /** The app knows that this user and the giver follow each other; of a gift that was made for nobody in particular. */
  mutual?: boolean;
}

export interface GiftAddress {
  gift: GiftId;
  /** Which address of the gift it is; shipping names it. */
  version: number;
  name: string;
  phone: string;
  lines: Array<string>;
  city: string;
  postcode: string;
}

export interface GiftDecline {
  user: User;
  reason?: string | null;
}

export interface GiftThank {
  user: User;
  note: string;
}

export interface GiftShip {
  carrier: string;
  tracking: string;
  /** The version of the address it is sent to: refused (409) if it is another one by now. */
  address_version?: number | null;
}

export interface GiftFail {
  reason: string;
}

export interface Advance {
  advance_s: number;
}

export interface Clock {
  now: Time;
}

export interface Faults {
  fault: "overloaded" | "slow" | "lose_reply";
  /** So many of the next requests. */
  count: number;
}

export interface Status {
  status: string;
}

/** Every call of the API, one method each; see `HongbaoError` for what they throw. */
export class Client extends Transport {
  static readonly OPERATIONS: ReadonlyArray<readonly [string, string]> = [
    ["POST", "/v1/wallets/{user}/deposits"],
    ["POST", "/v1/wallets/{user}/withdrawals"],
    ["GET", "/v1/wallets/{user}"],
    ["GET", "/v1/wallets/{user}/entries"],
    ["POST", "/v1/envelopes"],
    ["GET", "/v1/envelopes"],
    ["GET", "/v1/envelopes/{id}"],
    ["POST", "/v1/envelopes/{id}/grab"],
    ["POST", "/v1/envelopes/{id}/claim"],
    ["POST", "/v1/envelopes/{id}/cancel"],
    ["POST", "/v1/envelopes/{id}/redact"],
    ["GET", "/v1/envelopes/{id}/grabs"],
    ["GET", "/v1/envelopes/{id}/grabs/{user}"],
    ["POST", "/v1/grabs"],
    ["GET", "/v1/users/{user}/sent"],
    ["GET", "/v1/users/{user}/received"],
    ["GET", "/v1/audit"],
    ["GET", "/v1/payments"],
    ["GET", "/v1/payments/{id}"],
    ["POST", "/v1/payments/callbacks/{gateway}"],
    ["GET", "/v1/payouts"],
    ["GET", "/v1/payouts/{id}"],
    ["POST", "/v1/payouts/results"],
    ["POST", "/v1/merchants"],
    ["GET", "/v1/merchants"],
    ["GET", "/v1/merchants/{id}"],
    ["GET", "/v1/merchants/{id}/balance"],
    ["GET", "/v1/merchants/{id}/statement"],
    ["POST", "/v1/merchants/{id}/withdrawals"],
    ["POST", "/v1/items"],
    ["GET", "/v1/items"],
    ["GET", "/v1/items/{id}"],
    ["PATCH", "/v1/items/{id}"],
    ["POST", "/v1/items/{id}/restock"],
    ["POST", "/v1/items/{id}/codes"],
    ["POST", "/v1/items/{id}/grab"],
    ["GET", "/v1/holds/{id}"],
    ["POST", "/v1/holds/{id}/claim"],
    ["POST", "/v1/holds/{id}/release"],
    ["GET", "/v1/orders/{id}"],
    ["POST", "/v1/orders/{id}/ship"],
    ["POST", "/v1/orders/{id}/deliver"],
    ["POST", "/v1/orders/{id}/return"],
    ["POST", "/v1/orders/{id}/accept-return"],
    ["POST", "/v1/orders/{id}/refuse-return"],
    ["POST", "/v1/test/clock"],
    ["POST", "/v1/test/faults"],
    ["POST", "/v1/gifts"],
    ["GET", "/v1/gifts/{id}"],
    ["GET", "/v1/gifts/{id}/codes"],
    ["POST", "/v1/gifts/{id}/pay"],
    ["POST", "/v1/gifts/{id}/payment"],
    ["POST", "/v1/gifts/{id}/accept"],
    ["POST", "/v1/gifts/{id}/decline"],
    ["POST", "/v1/gifts/{id}/cancel"],
    ["POST", "/v1/gifts/{id}/thank"],
    ["POST", "/v1/gifts/{id}/ship"],
    ["POST", "/v1/gifts/{id}/deliver"],
    ["POST", "/v1/gifts/{id}/fail"],
    ["POST", "/v1/gifts/{id}/redact"],
    ["GET", "/v1/gifts/{id}/address"],
    ["POST", "/v1/gifts/{id}/address/erase"],
    ["GET", "/v1/users/{user}/gifts"],
    ["POST", "/v1/items/{id}/groups"],
    ["GET", "/v1/items/{id}/groups"],
    ["GET", "/v1/groups/{id}"],
    ["POST", "/v1/groups/{id}/join"],
    ["POST", "/v1/groups/{id}/leave"],
    ["GET", "/v1/users/{user}/groups"],
    ["POST", "/v1/gift-envelopes"],
    ["GET", "/v1/gift-envelopes/{id}"],
    ["POST", "/v1/gift-envelopes/{id}/pay"],
    ["POST", "/v1/gift-envelopes/{id}/grab"],
    ["POST", "/v1/gift-envelopes/{id}/cancel"],
    ["GET", "/v1/users/{user}/gift-envelopes"],
    ["POST", "/v1/relations"],
    ["GET", "/v1/users/{user}/relations"],
    ["DELETE", "/v1/users/{user}/relations"],
    ["GET", "/v1/events"],
    ["POST", "/v1/webhooks"],
    ["GET", "/v1/webhooks"],
    ["GET", "/v1/webhooks/{id}"],
    ["PATCH", "/v1/webhooks/{id}"],
    ["DELETE", "/v1/webhooks/{id}"],
    ["POST", "/v1/webhooks/{id}/rotate"],
    ["POST", "/v1/webhooks/{id}/test"],
    ["GET", "/v1/webhooks/{id}/dead"],
    ["POST", "/v1/webhooks/{id}/redeliver"],
    ["POST", "/v1/keys"],
    ["GET", "/v1/keys"],
    ["DELETE", "/v1/keys/{id}"],
    ["GET", "/livez"],
    ["GET", "/readyz"],
    ["GET", "/metrics"],
    ["GET", "/openapi.json"],
  ];

  /** Put money into a wallet. */
  async deposit(user: string, body: Transfer, options: KeyedOptions = {}): Promise<Wallet> {
    const answer = checked<Wallet>(await this.call({ method: "POST", path: `/v1/wallets/${pathPart(user)}/deposits`, body, keyed: true }, options), ["user", "currency", "available", "held"]);
    return answer;
  }

  /** Take money out of a wallet. */
  async withdraw(user: string, body: Transfer, options: KeyedOptions = {}): Promise<Wallet> {
    const answer = checked<Wallet>(await this.call({ method: "POST", path: `/v1/wallets/${pathPart(user)}/withdrawals`, body, keyed: true }, options), ["user", "currency", "available", "held"]);
    return answer;
  }

  /** A wallet; a user never seen has zeros. */
  async wallet(user: string, options: CallOptions = {}): Promise<Wallet> {
    const answer = checked<Wallet>(await this.call({ method: "GET", path: `/v1/wallets/${pathPart(user)}` }, options), ["user", "currency", "available", "held"]);
    return answer;
  }

  /** A wallet's movements, newest first. All of them, page after page as they are asked for; `limit` is a page's size. */
  entries(user: string, query: { limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Entry> {
    return this.pages(async (cursor) => {
      const shown = await this.entriesPage(user, { ...query, cursor }, options);
      return { items: shown.entries, next: shown.next_cursor };
    });
  }

  /** A wallet's movements, newest first. One page. */
  async entriesPage(user: string, query: { limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Entries> {
    const answer = checked<Entries>(await this.call({ method: "GET", path: `/v1/wallets/${pathPart(user)}/entries`, query }, options), ["entries", "next_cursor"]);
    return answer;
  }

  /** Create an envelope, from its sender's wallet or funded from outside. */
  async createEnvelope(body: NewEnvelope, options: KeyedOptions = {}): Promise<Envelope> {
    const answer = checked<Envelope>(await this.call({ method: "POST", path: "/v1/envelopes", body, keyed: true }, options), ["id", "sender", "state", "ended_as", "total", "currency", "shares", "split", "message", "remaining_shares", "remaining_amount", "claimed_amount", "refunded_amount", "created_at", "opens_at", "expires_at", "claim_by", "commitment", "seed_secret", "reference", "metadata", "funding", "payout", "redacted_at"]);
    return answer;
  }

  /** Envelopes, newest first. All of them, page after page as they are asked for; `limit` is a page's size. */
  envelopes(query: { reference?: string; sender?: User; state?: EnvelopeState; created_from?: Time; created_to?: Time; limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Envelope> {
    return this.pages(async (cursor) => {
      const shown = await this.envelopesPage({ ...query, cursor }, options);
      return { items: shown.envelopes, next: shown.next_cursor };
    });
  }

  /** Envelopes, newest first. One page. */
  async envelopesPage(query: { reference?: string; sender?: User; state?: EnvelopeState; created_from?: Time; created_to?: Time; limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Envelopes> {
    const answer = checked<Envelopes>(await this.call({ method: "GET", path: "/v1/envelopes", query }, options), ["envelopes", "next_cursor"]);
    return answer;
  }

  /** An envelope. */
  async envelope(id: string, options: CallOptions = {}): Promise<Envelope> {
    const answer = checked<Envelope>(await this.call({ method: "GET", path: `/v1/envelopes/${pathPart(id)}` }, options), ["id", "sender", "state", "ended_as", "total", "currency", "shares", "split", "message", "remaining_shares", "remaining_amount", "claimed_amount", "refunded_amount", "created_at", "opens_at", "expires_at", "claim_by", "commitment", "seed_secret", "reference", "metadata", "funding", "payout", "redacted_at"]);
    return answer;
  }

  /** Take a share, at most one a user. */
  async grab(id: string, body: ByUser, options: CallOptions = {}): Promise<GrabOutcome> {
    const answer = checked<GrabOutcome>(await this.call({ method: "POST", path: `/v1/envelopes/${pathPart(id)}/grab`, body }, options), []);
    return readGrabOutcome(answer);
  }

  /** Credit a grabbed share to its winner. */
  async claim(id: string, body: ByUser, options: CallOptions = {}): Promise<ClaimOutcome> {
    const answer = checked<ClaimOutcome>(await this.call({ method: "POST", path: `/v1/envelopes/${pathPart(id)}/claim`, body }, options), []);
    return readClaimOutcome(answer);
  }

  /** End an envelope; unsold shares go back to the sender. */
  async cancel(id: string, options: KeyedOptions = {}): Promise<Envelope> {
    const answer = checked<Envelope>(await this.call({ method: "POST", path: `/v1/envelopes/${pathPart(id)}/cancel`, body: {}, keyed: true }, options), ["id", "sender", "state", "ended_as", "total", "currency", "shares", "split", "message", "remaining_shares", "remaining_amount", "claimed_amount", "refunded_amount", "created_at", "opens_at", "expires_at", "claim_by", "commitment", "seed_secret", "reference", "metadata", "funding", "payout", "redacted_at"]);
    return answer;
  }

  /** Take an envelope's message back. Whatever has become of the envelope. From the answer on nobody is told the message any more, also not who repeats the call that made the envelope; docs/REDACT.md says what lies where on disk, and until when. Asked again it answers the same. It is not undone. */
  async redact(id: string, body: Redact, options: CallOptions = {}): Promise<Envelope> {
    const answer = checked<Envelope>(await this.call({ method: "POST", path: `/v1/envelopes/${pathPart(id)}/redact`, body }, options), ["id", "sender", "state", "ended_as", "total", "currency", "shares", "split", "message", "remaining_shares", "remaining_amount", "claimed_amount", "refunded_amount", "created_at", "opens_at", "expires_at", "claim_by", "commitment", "seed_secret", "reference", "metadata", "funding", "payout", "redacted_at"]);
    return answer;
  }

  /** An envelope's grabs, by share. All of them, page after page as they are asked for; `limit` is a page's size. */
  grabs(id: string, query: { limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Grab> {
    return this.pages(async (cursor) => {
      const shown = await this.grabsPage(id, { ...query, cursor }, options);
      return { items: shown.grabs, next: shown.next_cursor };
    });
  }

  /** An envelope's grabs, by share. One page. */
  async grabsPage(id: string, query: { limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Grabs> {
    const answer = checked<Grabs>(await this.call({ method: "GET", path: `/v1/envelopes/${pathPart(id)}/grabs`, query }, options), ["grabs", "next_cursor"]);
    return answer;
  }

  /** A user's grab; never grabs. */
  async grabOf(id: string, user: string, options: CallOptions = {}): Promise<Grab> {
    const answer = checked<Grab>(await this.call({ method: "GET", path: `/v1/envelopes/${pathPart(id)}/grabs/${pathPart(user)}` }, options), ["user", "amount", "share", "status", "grabbed_at", "claimed_at", "best"]);
    return answer;
  }

  /** Grab from many envelopes, each for itself. */
  async grabMany(body: GrabMany, options: CallOptions = {}): Promise<GrabResults> {
    const answer = checked<GrabResults>(await this.call({ method: "POST", path: "/v1/grabs", body }, options), ["results"]);
    return readGrabResults(answer);
  }

  /** Envelopes a user sent, newest first. All of them, page after page as they are asked for; `limit` is a page's size. */
  sent(user: string, query: { limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Envelope> {
    return this.pages(async (cursor) => {
      const shown = await this.sentPage(user, { ...query, cursor }, options);
      return { items: shown.envelopes, next: shown.next_cursor };
    });
  }

  /** Envelopes a user sent, newest first. One page. */
  async sentPage(user: string, query: { limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Envelopes> {
    const answer = checked<Envelopes>(await this.call({ method: "GET", path: `/v1/users/${pathPart(user)}/sent`, query }, options), ["envelopes", "next_cursor"]);
    return answer;
  }

  /** Shares a user grabbed, newest first. All of them, page after page as they are asked for; `limit` is a page's size. */
  received(user: string, query: { limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Received> {
    return this.pages(async (cursor) => {
      const shown = await this.receivedPage(user, { ...query, cursor }, options);
      return { items: shown.grabs, next: shown.next_cursor };
    });
  }

  /** Shares a user grabbed, newest first. One page. */
  async receivedPage(user: string, query: { limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<ReceivedGrabs> {
    const answer = checked<ReceivedGrabs>(await this.call({ method: "GET", path: `/v1/users/${pathPart(user)}/received`, query }, options), ["grabs", "next_cursor"]);
    return answer;
  }

  /** Where all money is. */
  async audit(options: CallOptions = {}): Promise<Audit> {
    const answer = checked<Audit>(await this.call({ method: "GET", path: "/v1/audit" }, options), ["balanced", "deposited", "withdrawn", "paid_out", "wallets", "escrowed", "payable", "refunding", "merchants", "platform", "in_flight"]);
    return answer;
  }

  /** Payments outside, state by state, the oldest first. A page may be short, even empty, and still have a next one. `discrepant=true`: those of which a gateway said what cannot be right. All of them, page after page as they are asked for; `limit` is a page's size. */
  payments(query: { state?: PaymentState; gateway?: string; discrepant?: boolean; created_from?: Time; created_to?: Time; limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Payment> {
    return this.pages(async (cursor) => {
      const shown = await this.paymentsPage({ ...query, cursor }, options);
      return { items: shown.payments, next: shown.next_cursor };
    });
  }

  /** Payments outside, state by state, the oldest first. A page may be short, even empty, and still have a next one. `discrepant=true`: those of which a gateway said what cannot be right. One page. */
  async paymentsPage(query: { state?: PaymentState; gateway?: string; discrepant?: boolean; created_from?: Time; created_to?: Time; limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Payments> {
    const answer = checked<Payments>(await this.call({ method: "GET", path: "/v1/payments", query }, options), ["payments", "next_cursor"]);
    return answer;
  }

  /** A payment outside. */
  async payment(id: string, options: CallOptions = {}): Promise<Payment> {
    const answer = checked<Payment>(await this.call({ method: "GET", path: `/v1/payments/${pathPart(id)}` }, options), ["id", "gateway", "state", "hold", "gift", "payer", "merchant", "amount", "currency", "taken", "created_at", "expires_at", "kept_until", "pay_url", "gateway_id", "paid_at", "order", "refunding_at", "refunded_at", "refund_id", "reason", "discrepancy"]);
    return answer;
  }

  /** What a payment gateway calls back. Needs no key: the headers webhook-id, webhook-timestamp and webhook-signature sign it as Standard Webhooks says, with the gateway's secret, at most five minutes ago. 401 for what is not so signed, or is about a payment of another gateway. Told twice it has one effect. A body of up to 64 KiB. */
  async paymentCallback(gateway: string, body: GatewayMessage, options: CallOptions = {}): Promise<PaymentTaken> {
    const answer = checked<PaymentTaken>(await this.call({ method: "POST", path: `/v1/payments/callbacks/${pathPart(gateway)}`, body }, options), ["payment", "state"]);
    return answer;
  }

  /** Payouts, the oldest first. A page may be short, even empty, and still have a next one. While states change, no payout is told twice on the way from page to page. An issuer sees those of its owner's envelopes. All of them, page after page as they are asked for; `limit` is a page's size. */
  payouts(query: { state?: PayoutState; kind?: PayoutKind; user?: User; envelope?: EnvelopeId; created_from?: Time; created_to?: Time; limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Payout> {
    return this.pages(async (cursor) => {
      const shown = await this.payoutsPage({ ...query, cursor }, options);
      return { items: shown.payouts, next: shown.next_cursor };
    });
  }

  /** Payouts, the oldest first. A page may be short, even empty, and still have a next one. While states change, no payout is told twice on the way from page to page. An issuer sees those of its owner's envelopes. One page. */
  async payoutsPage(query: { state?: PayoutState; kind?: PayoutKind; user?: User; envelope?: EnvelopeId; created_from?: Time; created_to?: Time; limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Payouts> {
    const answer = checked<Payouts>(await this.call({ method: "GET", path: "/v1/payouts", query }, options), ["payouts", "next_cursor"]);
    return answer;
  }

  /** A payout. */
  async payout(id: string, options: CallOptions = {}): Promise<Payout> {
    const answer = checked<Payout>(await this.call({ method: "GET", path: `/v1/payouts/${pathPart(id)}` }, options), ["id", "kind", "user", "amount", "currency", "envelope", "funding_reference", "state", "attempts", "reference", "reason", "created_at", "changed_at"]);
    return answer;
  }

  /** Tell what came of payouts, each for itself. due leads to sent, paid or failed; sent to paid or failed; failed to due, under the same id. paid is final. The same again is the same answer. The whole call is remembered under its Idempotency-Key, so that a repeat that comes late changes nothing. */
  async tellPayoutResults(body: PayoutResults, options: KeyedOptions = {}): Promise<PayoutAnswers> {
    const answer = checked<PayoutAnswers>(await this.call({ method: "POST", path: "/v1/payouts/results", body, keyed: true }, options), ["results"]);
    return readPayoutAnswers(answer);
  }

  /** Register or change a merchant. The money of a sale is pending for `settle_after_s`, and then available to the merchant, less a commission of `commission_bps` that is the platform's; a change of either is for sales from then on. Only a verified merchant's items can be put on sale and grabbed. Units that are held when it is suspended may still be paid. With the status `verified` its papers count as checked: `verification` says by whom and under which reference; left out, by the calling key. It stays when a merchant is suspended, and goes when it is pending again. */
  async putMerchant(body: NewMerchant, options: KeyedOptions = {}): Promise<Merchant> {
    const answer = checked<Merchant>(await this.call({ method: "POST", path: "/v1/merchants", body, keyed: true }, options), ["id", "name", "status", "verification", "settle_after_s", "commission_bps"]);
    return answer;
  }

  /** Merchants, by their ids. All of them, page after page as they are asked for; `limit` is a page's size. */
  merchants(query: { status?: MerchantStatus; limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Merchant> {
    return this.pages(async (cursor) => {
      const shown = await this.merchantsPage({ ...query, cursor }, options);
      return { items: shown.merchants, next: shown.next_cursor };
    });
  }

  /** Merchants, by their ids. One page. */
  async merchantsPage(query: { status?: MerchantStatus; limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Merchants> {
    const answer = checked<Merchants>(await this.call({ method: "GET", path: "/v1/merchants", query }, options), ["merchants", "next_cursor"]);
    return answer;
  }

  /** A merchant. */
  async merchant(id: string, options: CallOptions = {}): Promise<Merchant> {
    const answer = checked<Merchant>(await this.call({ method: "GET", path: `/v1/merchants/${pathPart(id)}` }, options), ["id", "name", "status", "verification", "settle_after_s", "commission_bps"]);
    return answer;
  }

  /** What a merchant has of its sales. */
  async merchantBalance(id: string, options: CallOptions = {}): Promise<SalesBalance> {
    const answer = checked<SalesBalance>(await this.call({ method: "GET", path: `/v1/merchants/${pathPart(id)}/balance` }, options), ["merchant", "currency", "pending", "available"]);
    return answer;
  }

  /** The movements of a merchant's money in a time, the oldest first. Opening and entries are the closing. A time that is over is told the same whenever it is asked for. All of them, page after page as they are asked for; `limit` is a page's size. */
  merchantStatement(id: string, query: { from?: Time; to?: Time; limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<SalesEntry> {
    return this.pages(async (cursor) => {
      const shown = await this.merchantStatementPage(id, { ...query, cursor }, options);
      return { items: shown.entries, next: shown.next_cursor };
    });
  }

  /** The movements of a merchant's money in a time, the oldest first. Opening and entries are the closing. A time that is over is told the same whenever it is asked for. One page. */
  async merchantStatementPage(id: string, query: { from?: Time; to?: Time; limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<SalesStatement> {
    const answer = checked<SalesStatement>(await this.call({ method: "GET", path: `/v1/merchants/${pathPart(id)}/statement`, query }, options), ["merchant", "currency", "opening", "entries", "closing", "next_cursor"]);
    return answer;
  }

  /** Take available money of a merchant out. 409 `insufficient_funds` if less is available: what is pending cannot be taken out. */
  async withdrawSales(id: string, body: Transfer, options: KeyedOptions = {}): Promise<SalesBalance> {
    const answer = checked<SalesBalance>(await this.call({ method: "POST", path: `/v1/merchants/${pathPart(id)}/withdrawals`, body, keyed: true }, options), ["merchant", "currency", "pending", "available"]);
    return answer;
  }

  /** Put an item on sale. */
  async createItem(body: NewItem, options: KeyedOptions = {}): Promise<Item> {
    const answer = checked<Item>(await this.call({ method: "POST", path: "/v1/items", body, keyed: true }, options), ["id", "merchant", "name", "category", "kind", "variant_of", "return_within_s", "price", "currency", "stock", "per_user_limit", "starts_at", "ends_at", "hold_ttl_s", "image_url", "group_buy", "created_at"]);
    return answer;
  }

  /** Items, newest first. All of them, page after page as they are asked for; `limit` is a page's size. */
  items(query: { category?: string; merchant?: User; kind?: ItemKind; variant_of?: ItemId; on_sale?: boolean; limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Item> {
    return this.pages(async (cursor) => {
      const shown = await this.itemsPage({ ...query, cursor }, options);
      return { items: shown.items, next: shown.next_cursor };
    });
  }

  /** Items, newest first. One page. */
  async itemsPage(query: { category?: string; merchant?: User; kind?: ItemKind; variant_of?: ItemId; on_sale?: boolean; limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Items> {
    const answer = checked<Items>(await this.call({ method: "GET", path: "/v1/items", query }, options), ["items", "next_cursor"]);
    return answer;
  }

  /** An item. */
  async item(id: string, options: CallOptions = {}): Promise<Item> {
    const answer = checked<Item>(await this.call({ method: "GET", path: `/v1/items/${pathPart(id)}` }, options), ["id", "merchant", "name", "category", "kind", "variant_of", "return_within_s", "price", "currency", "stock", "per_user_limit", "starts_at", "ends_at", "hold_ttl_s", "image_url", "group_buy", "created_at"]);
    return answer;
  }

  /** Change an item. An issuer changes its owner's items, and those that were made before items had owners; another owner's is 404. Holds keep the price they saw. */
  async changeItem(id: string, body: ItemChange, options: KeyedOptions = {}): Promise<Item> {
    const answer = checked<Item>(await this.call({ method: "PATCH", path: `/v1/items/${pathPart(id)}`, body, keyed: true }, options), ["id", "merchant", "name", "category", "kind", "variant_of", "return_within_s", "price", "currency", "stock", "per_user_limit", "starts_at", "ends_at", "hold_ttl_s", "image_url", "group_buy", "created_at"]);
    return answer;
  }

  /** Add units to an item's stock. An issuer restocks its owner's items, and those that were made before items had owners; another owner's is 404. The stock of an item of the kind `code` is the number of its codes: 409 `wrong_state`. */
  async restock(id: string, body: Restock, options: KeyedOptions = {}): Promise<Item> {
    const answer = checked<Item>(await this.call({ method: "POST", path: `/v1/items/${pathPart(id)}/restock`, body, keyed: true }, options), ["id", "merchant", "name", "category", "kind", "variant_of", "return_within_s", "price", "currency", "stock", "per_user_limit", "starts_at", "ends_at", "hold_ttl_s", "image_url", "group_buy", "created_at"]);
    return answer;
  }

  /** Add codes to an item of the kind `code`, all of them or none. Each code becomes a unit and is handed out once, in the order in which codes were added: with the order that pays for it, or as a gift of it is accepted. One that the item has had before is 422, named by its place, and nothing is added. For an item of another kind this is 409 `wrong_state`. An issuer adds to its owner's items; another owner's is 404. */
  async addCodes(id: string, body: NewCodes, options: KeyedOptions = {}): Promise<Item> {
    const answer = checked<Item>(await this.call({ method: "POST", path: `/v1/items/${pathPart(id)}/codes`, body, keyed: true }, options), ["id", "merchant", "name", "category", "kind", "variant_of", "return_within_s", "price", "currency", "stock", "per_user_limit", "starts_at", "ends_at", "hold_ttl_s", "image_url", "group_buy", "created_at"]);
    return answer;
  }

  /** Hold units for a user, all or none. Of a merchant that is pending or suspended nothing is held: 409 `wrong_state`. Who already has the one unit there is a user is told of it all the same. */
  async grabItem(id: string, body: ItemGrab, options: KeyedOptions = {}): Promise<ItemGrabOutcome> {
    const answer = checked<ItemGrabOutcome>(await this.call({ method: "POST", path: `/v1/items/${pathPart(id)}/grab`, body, keyed: true }, options), []);
    return readItemGrabOutcome(answer);
  }

  /** A hold. */
  async hold(id: string, options: CallOptions = {}): Promise<Hold> {
    const answer = checked<Hold>(await this.call({ method: "GET", path: `/v1/holds/${pathPart(id)}` }, options), ["id", "item", "user", "quantity", "amount", "currency", "state", "order", "created_at", "expires_at"]);
    return answer;
  }

  /** Pay for a hold from its user's wallet, or with `pay_with` outside, at a payment gateway. */
  async claimHold(id: string, body: HoldClaim, options: CallOptions = {}): Promise<HoldClaimOutcome> {
    const answer = checked<HoldClaimOutcome>(await this.call({ method: "POST", path: `/v1/holds/${pathPart(id)}/claim`, body }, options), []);
    return readHoldClaimOutcome(answer);
  }

  /** Give a hold's units back. */
  async releaseHold(id: string, body: ByUser, options: CallOptions = {}): Promise<ReleaseOutcome> {
    const answer = checked<ReleaseOutcome>(await this.call({ method: "POST", path: `/v1/holds/${pathPart(id)}/release`, body }, options), []);
    return readReleaseOutcome(answer);
  }

  /** An order. */
  async order(id: string, options: CallOptions = {}): Promise<Order> {
    const answer = checked<Order>(await this.call({ method: "GET", path: `/v1/orders/${pathPart(id)}` }, options), ["id", "hold", "item", "merchant", "user", "quantity", "amount", "currency", "created_at", "state", "shipped_at", "carrier", "tracking", "delivered_at", "return_requested_at", "return_reason", "answer_by", "ended_at", "refusal", "restocked"]);
    return answer;
  }

  /** Say that an order was sent. Only its own merchant does; to others it is 404. */
  async shipOrder(id: string, body: OrderShip, options: KeyedOptions = {}): Promise<Order> {
    const answer = checked<Order>(await this.call({ method: "POST", path: `/v1/orders/${pathPart(id)}/ship`, body, keyed: true }, options), ["id", "hold", "item", "merchant", "user", "quantity", "amount", "currency", "created_at", "state", "shipped_at", "carrier", "tracking", "delivered_at", "return_requested_at", "return_reason", "answer_by", "ended_at", "refusal", "restocked"]);
    return answer;
  }

  /** Say that an order has arrived. From then on it may be sent back for as long as its item says. */
  async deliverOrder(id: string, options: KeyedOptions = {}): Promise<Order> {
    const answer = checked<Order>(await this.call({ method: "POST", path: `/v1/orders/${pathPart(id)}/deliver`, body: {}, keyed: true }, options), ["id", "hold", "item", "merchant", "user", "quantity", "amount", "currency", "created_at", "state", "shipped_at", "carrier", "tracking", "delivered_at", "return_requested_at", "return_reason", "answer_by", "ended_at", "refusal", "restocked"]);
    return answer;
  }

  /** Ask to send an order back. By who has paid, until `return_within_s` of its item after its delivery. If the merchant has not answered by `answer_by`, to ask again takes effect: the money goes back. */
  async returnOrder(id: string, body: OrderReturn, options: KeyedOptions = {}): Promise<Order> {
    const answer = checked<Order>(await this.call({ method: "POST", path: `/v1/orders/${pathPart(id)}/return`, body, keyed: true }, options), ["id", "hold", "item", "merchant", "user", "quantity", "amount", "currency", "created_at", "state", "shipped_at", "carrier", "tracking", "delivered_at", "return_requested_at", "return_reason", "answer_by", "ended_at", "refusal", "restocked"]);
    return answer;
  }

  /** Take an order back: its money goes to who had paid. 409 `insufficient_funds` if the merchant has less available than was paid: repeat it once more of its sales are settled. */
  async acceptReturn(id: string, body: AcceptReturn, options: KeyedOptions = {}): Promise<Order> {
    const answer = checked<Order>(await this.call({ method: "POST", path: `/v1/orders/${pathPart(id)}/accept-return`, body, keyed: true }, options), ["id", "hold", "item", "merchant", "user", "quantity", "amount", "currency", "created_at", "state", "shipped_at", "carrier", "tracking", "delivered_at", "return_requested_at", "return_reason", "answer_by", "ended_at", "refusal", "restocked"]);
    return answer;
  }

  /** Do not take an order back. Until `answer_by`. */
  async refuseReturn(id: string, body: RefuseReturn, options: KeyedOptions = {}): Promise<Order> {
    const answer = checked<Order>(await this.call({ method: "POST", path: `/v1/orders/${pathPart(id)}/refuse-return`, body, keyed: true }, options), ["id", "hold", "item", "merchant", "user", "quantity", "amount", "currency", "created_at", "state", "shipped_at", "carrier", "tracking", "delivered_at", "return_requested_at", "return_reason", "answer_by", "ended_at", "refusal", "restocked"]);
    return answer;
  }

  /** Move the clock forward; only with --test, else 404. */
  async advanceClock(body: Advance, options: CallOptions = {}): Promise<Clock> {
    const answer = checked<Clock>(await this.call({ method: "POST", path: "/v1/test/clock", body, repeatable: false }, options), ["now"]);
    return answer;
  }

  /** Make the next requests fail; only with --test, else 404. Befalls requests under /v1, but not those under /v1/test. `overloaded`: 503, and nothing happens. `slow`: carried out two seconds later. `lose_reply`: carried out, and the connection ends without an answer; ask again, with the same key. A count of 0 takes back what is left. */
  async plantFaults(body: Faults, options: CallOptions = {}): Promise<Faults> {
    const answer = checked<Faults>(await this.call({ method: "POST", path: "/v1/test/faults", body }, options), ["fault", "count"]);
    return answer;
  }

  /** Set a unit aside and give it; the giver pays at once, or somebody else is asked to. */
  async createGift(body: NewGift, options: KeyedOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: "/v1/gifts", body, keyed: true }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** A gift. */
  async gift(id: string, options: CallOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "GET", path: `/v1/gifts/${pathPart(id)}` }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** The code of a gift, for who has accepted it. Of an item of another kind there are none. For anybody but the recipient who has accepted, the giver among them, this is 403. */
  async giftCodes(id: string, query: { user: User }, options: CallOptions = {}): Promise<Codes> {
    const answer = checked<Codes>(await this.call({ method: "GET", path: `/v1/gifts/${pathPart(id)}/codes`, query }, options), ["codes"]);
    return answer;
  }

  /** Pay for a gift that one was asked to pay for. */
  async payGift(id: string, body: GiftPay, options: KeyedOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/pay`, body, keyed: true }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** Pay outside, at a payment gateway, for a gift that one was asked to pay for. Asked again while that is open, the same payment. The gift does not expire before the payment does. */
  async payGiftOutside(id: string, body: GiftPayOutside, options: CallOptions = {}): Promise<GiftPaymentOutcome> {
    const answer = checked<GiftPaymentOutcome>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/payment`, body }, options), []);
    return readGiftPaymentOutcome(answer);
  }

  /** Accept a gift, and say where it is to be sent; again with another address until it is shipped. */
  async acceptGift(id: string, body: GiftAccept, options: KeyedOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/accept`, body, keyed: true }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** Decline a gift; the money goes back to whoever paid. */
  async declineGift(id: string, body: GiftDecline, options: KeyedOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/decline`, body, keyed: true }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** Take a gift back before it is accepted. */
  async cancelGift(id: string, body: ByUser, options: KeyedOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/cancel`, body, keyed: true }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** Say thank you; a later note stands for an earlier one. */
  async thankForGift(id: string, body: GiftThank, options: KeyedOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/thank`, body, keyed: true }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** Ship a gift; its money is the merchant's from then on. */
  async shipGift(id: string, body: GiftShip, options: KeyedOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/ship`, body, keyed: true }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** Tell that a gift has arrived. */
  async deliverGift(id: string, options: KeyedOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/deliver`, body: {}, keyed: true }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** Tell that a gift cannot be shipped; the money goes back to whoever paid. */
  async failGift(id: string, body: GiftFail, options: KeyedOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/fail`, body, keyed: true }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** Take a gift's texts back: its message, a reason and a note. Whatever has become of the gift. From the answer on nobody is told its texts any more, also not who repeats a call about it; docs/REDACT.md says what lies where on disk, and until when. Asked again it answers the same, or takes back what was written since. It is not undone. */
  async redactGift(id: string, body: Redact, options: CallOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/redact`, body }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** Where a gift is to be sent, for its merchant only; each reading is in the server's log. */
  async giftAddress(id: string, options: CallOptions = {}): Promise<GiftAddress> {
    const answer = checked<GiftAddress>(await this.call({ method: "GET", path: `/v1/gifts/${pathPart(id)}/address` }, options), ["gift", "version", "name", "phone", "lines", "city", "postcode"]);
    return answer;
  }

  /** Make a gift's address unreadable at once, for ever; again, the same. */
  async eraseGiftAddress(id: string, options: CallOptions = {}): Promise<Gift> {
    const answer = checked<Gift>(await this.call({ method: "POST", path: `/v1/gifts/${pathPart(id)}/address/erase`, body: {} }, options), ["id", "state", "giver", "recipient", "payer", "item", "merchant", "amount", "currency", "message", "created_at", "pay_by", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "carrier", "tracking", "ended_at", "reason", "note", "reference", "metadata", "redacted_at"]);
    return answer;
  }

  /** A user's gifts, newest first. All of them, page after page as they are asked for; `limit` is a page's size. */
  giftsOf(user: string, query: { role?: "given" | "received"; limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Gift> {
    return this.pages(async (cursor) => {
      const shown = await this.giftsOfPage(user, { ...query, cursor }, options);
      return { items: shown.gifts, next: shown.next_cursor };
    });
  }

  /** A user's gifts, newest first. One page. */
  async giftsOfPage(user: string, query: { role?: "given" | "received"; limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Gifts> {
    const answer = checked<Gifts>(await this.call({ method: "GET", path: `/v1/users/${pathPart(user)}/gifts`, query }, options), ["gifts", "next_cursor"]);
    return answer;
  }

  /** Open a group that buys an item together. The leader pays the price for groups at once and has a unit set aside, as every member has. When the last has joined each has an order; otherwise all have their money back. With no unit to be had, before the sale opens or after its end, and at the leader's limit it is 409 `wrong_state`, with too little money 409 `insufficient_funds`. */
  async openGroup(id: string, body: NewGroup, options: KeyedOptions = {}): Promise<Group> {
    const answer = checked<Group>(await this.call({ method: "POST", path: `/v1/items/${pathPart(id)}/groups`, body, keyed: true }, options), ["id", "state", "item", "merchant", "leader", "members", "size", "price", "currency", "joined", "created_at", "expires_at", "ended_at", "reference"]);
    return answer;
  }

  /** An item's groups, newest first. All of them, page after page as they are asked for; `limit` is a page's size. */
  groupsOfItem(id: string, query: { state?: GroupState; limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Group> {
    return this.pages(async (cursor) => {
      const shown = await this.groupsOfItemPage(id, { ...query, cursor }, options);
      return { items: shown.groups, next: shown.next_cursor };
    });
  }

  /** An item's groups, newest first. One page. */
  async groupsOfItemPage(id: string, query: { state?: GroupState; limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Groups> {
    const answer = checked<Groups>(await this.call({ method: "GET", path: `/v1/items/${pathPart(id)}/groups`, query }, options), ["groups", "next_cursor"]);
    return answer;
  }

  /** A group. */
  async group(id: string, options: CallOptions = {}): Promise<Group> {
    const answer = checked<Group>(await this.call({ method: "GET", path: `/v1/groups/${pathPart(id)}` }, options), ["id", "state", "item", "merchant", "leader", "members", "size", "price", "currency", "joined", "created_at", "expires_at", "ended_at", "reference"]);
    return answer;
  }

  /** Join a group. Again, the same with `replayed`. A group whose time is over is `expired`, exactly from `expires_at` on. */
  async joinGroup(id: string, body: ByUser, options: KeyedOptions = {}): Promise<GroupOutcome> {
    const answer = checked<GroupOutcome>(await this.call({ method: "POST", path: `/v1/groups/${pathPart(id)}/join`, body, keyed: true }, options), []);
    return readGroupOutcome(answer);
  }

  /** Leave a group that is not full. The money and the unit come back. If its leader leaves it ends, and all have their money back. Who is not in it has nothing to leave: again, the same. A member of one that is full has an order: 409 `wrong_state`. */
  async leaveGroup(id: string, body: ByUser, options: KeyedOptions = {}): Promise<Group> {
    const answer = checked<Group>(await this.call({ method: "POST", path: `/v1/groups/${pathPart(id)}/leave`, body, keyed: true }, options), ["id", "state", "item", "merchant", "leader", "members", "size", "price", "currency", "joined", "created_at", "expires_at", "ended_at", "reference"]);
    return answer;
  }

  /** Groups that a user is in, newest first. Of those that came to nothing, those that the user was in then. All of them, page after page as they are asked for; `limit` is a page's size. */
  groupsOfUser(user: string, query: { limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Group> {
    return this.pages(async (cursor) => {
      const shown = await this.groupsOfUserPage(user, { ...query, cursor }, options);
      return { items: shown.groups, next: shown.next_cursor };
    });
  }

  /** Groups that a user is in, newest first. Of those that came to nothing, those that the user was in then. One page. */
  async groupsOfUserPage(user: string, query: { limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Groups> {
    const answer = checked<Groups>(await this.call({ method: "GET", path: `/v1/users/${pathPart(user)}/groups`, query }, options), ["groups", "next_cursor"]);
    return answer;
  }

  /** Set units of an item aside for whoever comes first, one for each. Each unit is a gift, paid at once with all others or by whoever is asked, and grabbed by at most one user. Too few units, or more than the giver may have: 409 `wrong_state`, and nothing is made. In front of Redis this is 409 `wrong_state`. */
  async createGiftEnvelope(body: NewGiftEnvelope, options: KeyedOptions = {}): Promise<GiftEnvelope> {
    const answer = checked<GiftEnvelope>(await this.call({ method: "POST", path: "/v1/gift-envelopes", body, keyed: true }, options), ["id", "state", "giver", "payer", "item", "merchant", "units", "amount", "currency", "message", "remaining", "grabbed", "created_at", "pay_by", "expires_at", "accept_within_s", "reference", "gifts"]);
    return answer;
  }

  /** A gift envelope, with its gifts. */
  async giftEnvelope(id: string, options: CallOptions = {}): Promise<GiftEnvelope> {
    const answer = checked<GiftEnvelope>(await this.call({ method: "GET", path: `/v1/gift-envelopes/${pathPart(id)}` }, options), ["id", "state", "giver", "payer", "item", "merchant", "units", "amount", "currency", "message", "remaining", "grabbed", "created_at", "pay_by", "expires_at", "accept_within_s", "reference", "gifts"]);
    return answer;
  }

  /** Pay for all units, as whoever was asked to. */
  async payGiftEnvelope(id: string, body: GiftPay, options: KeyedOptions = {}): Promise<GiftEnvelope> {
    const answer = checked<GiftEnvelope>(await this.call({ method: "POST", path: `/v1/gift-envelopes/${pathPart(id)}/pay`, body, keyed: true }, options), ["id", "state", "giver", "payer", "item", "merchant", "units", "amount", "currency", "message", "remaining", "grabbed", "created_at", "pay_by", "expires_at", "accept_within_s", "reference", "gifts"]);
    return answer;
  }

  /** Grab a gift, at most one a user; again: the same gift. The gift is then this user's to accept or to decline, within `accept_within_s`. Guards in this order: not found, has one already (`replayed`), token, blocked, not paid (409), sold out, expired or cancelled. */
  async grabGift(id: string, body: GiftGrab, options: CallOptions = {}): Promise<GiftGrabOutcome> {
    const answer = checked<GiftGrabOutcome>(await this.call({ method: "POST", path: `/v1/gift-envelopes/${pathPart(id)}/grab`, body }, options), []);
    return readGiftGrabOutcome(answer);
  }

  /** Take back what nobody has grabbed; again: the same answer. */
  async cancelGiftEnvelope(id: string, body: ByUser, options: KeyedOptions = {}): Promise<GiftEnvelope> {
    const answer = checked<GiftEnvelope>(await this.call({ method: "POST", path: `/v1/gift-envelopes/${pathPart(id)}/cancel`, body, keyed: true }, options), ["id", "state", "giver", "payer", "item", "merchant", "units", "amount", "currency", "message", "remaining", "grabbed", "created_at", "pay_by", "expires_at", "accept_within_s", "reference", "gifts"]);
    return answer;
  }

  /** Gift envelopes that a user gives, newest first. All of them, page after page as they are asked for; `limit` is a page's size. */
  giftEnvelopesOf(user: string, query: { limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<GiftEnvelope> {
    return this.pages(async (cursor) => {
      const shown = await this.giftEnvelopesOfPage(user, { ...query, cursor }, options);
      return { items: shown.gift_envelopes, next: shown.next_cursor };
    });
  }

  /** Gift envelopes that a user gives, newest first. One page. */
  async giftEnvelopesOfPage(user: string, query: { limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<GiftEnvelopes> {
    const answer = checked<GiftEnvelopes>(await this.call({ method: "GET", path: `/v1/users/${pathPart(user)}/gift-envelopes`, query }, options), ["gift_envelopes", "next_cursor"]);
    return answer;
  }

  /** Tell who follows and who blocks whom. Each stands for what was told of the same two before, in this direction; of one that is told twice in a call the last counts. All of them or none; the same again changes nothing. Between two of whom one blocks the other nothing is given or paid, by whomever it is tried: 403. With `--gifts-may-give mutual` a recipient and the giver have to follow each other, unless the call says `mutual`. No event tells of relations. In front of Redis this is 409 `wrong_state`. */
  async putRelations(body: NewRelations, options: CallOptions = {}): Promise<RelationsTold> {
    const answer = checked<RelationsTold>(await this.call({ method: "POST", path: "/v1/relations", body }, options), ["rows"]);
    return answer;
  }

  /** What a user is to others, by their names. What others are to the user is not told: who is blocked is not to learn by whom. All of them, page after page as they are asked for; `limit` is a page's size. */
  relationsOf(user: string, query: { limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Relation> {
    return this.pages(async (cursor) => {
      const shown = await this.relationsOfPage(user, { ...query, cursor }, options);
      return { items: shown.relations, next: shown.next_cursor };
    });
  }

  /** What a user is to others, by their names. What others are to the user is not told: who is blocked is not to learn by whom. One page. */
  async relationsOfPage(user: string, query: { limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Relations> {
    const answer = checked<Relations>(await this.call({ method: "GET", path: `/v1/users/${pathPart(user)}/relations`, query }, options), ["relations", "next_cursor"]);
    return answer;
  }

  /** Forget what a user is to others, and what they are to the user; again: the same answer. What is told of that user while it is carried out may stay. In front of Redis there is nothing to forget. */
  async eraseRelations(user: string, options: CallOptions = {}): Promise<void> {
    await this.call({ method: "DELETE", path: `/v1/users/${pathPart(user)}/relations` }, options);
  }

  /** What has happened, in order; waits for it. Everything that was acknowledged before it was asked for is there, or comes behind the cursor; nothing is passed over, and what is told survives a crash. Order is that in which things happened to one envelope, wallet, item, hold or payout. An event has the same id whenever it is told. With no events behind `after` the answer waits for one, up to `wait_s`, and is then empty, with a cursor to go on from. With `Accept: text/event-stream` they come as they happen, until the server stops: an event's `id` is the cursor behind it, and a stream that broke off goes on behind the header Last-Event-ID. A key with the role issuer and neither viewer nor admin is told what happens to its owner's envelopes and their payouts, and of its items what is put. */
  async events(query: { after?: string; types?: string; limit?: number; wait_s?: number } = {}, options: CallOptions = {}): Promise<Events> {
    const answer = checked<Events>(await this.call({ method: "GET", path: "/v1/events", query: { wait_s: undefined, ...query } }, options), ["events", "next_cursor"]);
    return answer;
  }

  /** Make an endpoint for events; its secret is in this answer only. The url has to be one that the operator allows (--webhook-allow). Repeated with the same Idempotency-Key, `secret` is null: if the first answer was lost, rotate it. */
  async createWebhook(body: NewWebhook, options: KeyedOptions = {}): Promise<Webhook> {
    const answer = checked<Webhook>(await this.call({ method: "POST", path: "/v1/webhooks", body, keyed: true }, options), ["id", "url", "types", "owner", "state", "disabled_reason", "secret", "cursor", "pending", "attempts", "next_attempt_at", "lag_s", "dead", "last_success_at", "last_error", "created_at"]);
    return answer;
  }

  /** Endpoints and how they are, the newest first. */
  async webhooks(options: CallOptions = {}): Promise<Webhooks> {
    const answer = checked<Webhooks>(await this.call({ method: "GET", path: "/v1/webhooks" }, options), ["webhooks", "next_cursor"]);
    return answer;
  }

  /** An endpoint and how it is. */
  async webhook(id: string, options: CallOptions = {}): Promise<Webhook> {
    const answer = checked<Webhook>(await this.call({ method: "GET", path: `/v1/webhooks/${pathPart(id)}` }, options), ["id", "url", "types", "owner", "state", "disabled_reason", "secret", "cursor", "pending", "attempts", "next_attempt_at", "lag_s", "dead", "last_success_at", "last_error", "created_at"]);
    return answer;
  }

  /** Change, disable or enable an endpoint. What waits is tried at once. Events that happened while it was disabled are sent when it is enabled. */
  async changeWebhook(id: string, body: WebhookChange, options: CallOptions = {}): Promise<Webhook> {
    const answer = checked<Webhook>(await this.call({ method: "PATCH", path: `/v1/webhooks/${pathPart(id)}`, body }, options), ["id", "url", "types", "owner", "state", "disabled_reason", "secret", "cursor", "pending", "attempts", "next_attempt_at", "lag_s", "dead", "last_success_at", "last_error", "created_at"]);
    return answer;
  }

  /** Delete an endpoint with its dead letters; again: the same answer. A request that is on its way may still arrive. */
  async deleteWebhook(id: string, options: CallOptions = {}): Promise<void> {
    await this.call({ method: "DELETE", path: `/v1/webhooks/${pathPart(id)}` }, options);
  }

  /** Give an endpoint a new secret, shown in this answer only. For 24 hours the old one signs too, so that the header has two signatures. */
  async rotateWebhook(id: string, options: KeyedOptions = {}): Promise<Webhook> {
    const answer = checked<Webhook>(await this.call({ method: "POST", path: `/v1/webhooks/${pathPart(id)}/rotate`, body: {}, keyed: true }, options), ["id", "url", "types", "owner", "state", "disabled_reason", "secret", "cursor", "pending", "attempts", "next_attempt_at", "lag_s", "dead", "last_success_at", "last_error", "created_at"]);
    return answer;
  }

  /** Send a ping now, and tell what came back. The body of the request is {"type":"ping","webhook":"hook_…"}. It takes up to 15 seconds, and is sent also to what is disabled. */
  async testWebhook(id: string, options: CallOptions = {}): Promise<WebhookPinged> {
    const answer = checked<WebhookPinged>(await this.call({ method: "POST", path: `/v1/webhooks/${pathPart(id)}/test`, body: {} }, options), ["delivered", "error"]);
    return answer;
  }

  /** Batches that were given up, the oldest first. The last 100. Their events are in the feed as long as events are kept. */
  async deadLetters(id: string, options: CallOptions = {}): Promise<DeadLetters> {
    const answer = checked<DeadLetters>(await this.call({ method: "GET", path: `/v1/webhooks/${pathPart(id)}/dead` }, options), ["dead", "next_cursor"]);
    return answer;
  }

  /** Send dead letters once more, or everything since a cursor. Dead letters keep their webhook-id. What is sent since a cursor has new ones: its events have the ids they had. */
  async redeliverWebhook(id: string, body: Redeliver, options: CallOptions = {}): Promise<Webhook> {
    const answer = checked<Webhook>(await this.call({ method: "POST", path: `/v1/webhooks/${pathPart(id)}/redeliver`, body }, options), ["id", "url", "types", "owner", "state", "disabled_reason", "secret", "cursor", "pending", "attempts", "next_attempt_at", "lag_s", "dead", "last_success_at", "last_error", "created_at"]);
    return answer;
  }

  /** Make an API key; it is shown in this answer only. Repeated with the same Idempotency-Key, `key` is null: it is not kept, so it cannot be shown again. If the first answer was lost, delete the key by its id and make another. */
  async createKey(body: NewKey, options: KeyedOptions = {}): Promise<MadeKey> {
    const answer = checked<MadeKey>(await this.call({ method: "POST", path: "/v1/keys", body, keyed: true }, options), ["id", "name", "owner", "roles", "created_at", "key"]);
    return answer;
  }

  /** API keys that were not deleted, newest first. All of them, page after page as they are asked for; `limit` is a page's size. */
  keys(query: { limit?: number } = {}, options: CallOptions = {}): AsyncGenerator<Key> {
    return this.pages(async (cursor) => {
      const shown = await this.keysPage({ ...query, cursor }, options);
      return { items: shown.keys, next: shown.next_cursor };
    });
  }

  /** API keys that were not deleted, newest first. One page. */
  async keysPage(query: { limit?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<Keys> {
    const answer = checked<Keys>(await this.call({ method: "GET", path: "/v1/keys", query }, options), ["keys", "next_cursor"]);
    return answer;
  }

  /** Delete an API key; again: the same answer. No request that comes in after the answer is let in with it. With several servers in front of Redis the others follow within a second. What was let in before goes on. */
  async deleteKey(id: string, options: CallOptions = {}): Promise<void> {
    await this.call({ method: "DELETE", path: `/v1/keys/${pathPart(id)}` }, options);
  }

  /** Whether the process lives. */
  async livez(options: CallOptions = {}): Promise<Status> {
    const answer = checked<Status>(await this.call({ method: "GET", path: "/livez" }, options), ["status"]);
    return answer;
  }

  /** Whether it serves. 503 also while the store takes no writes: requests are then answered until too much waits for it. */
  async readyz(options: CallOptions = {}): Promise<Status> {
    const answer = checked<Status>(await this.call({ method: "GET", path: "/readyz" }, options), ["status"]);
    return answer;
  }

  /** Prometheus metrics. */
  async metrics(options: CallOptions = {}): Promise<string> {
    return (await this.call({ method: "GET", path: "/metrics", text: true }, options)) as string;
  }

  /** This document. */
  async openapi(options: CallOptions = {}): Promise<Record<string, unknown>> {
    return (await this.call({ method: "GET", path: "/openapi.json" }, options)) as Record<string, unknown>;
  }
}
// --- generated up to here ---
