// hongbao.ts, compiled, against a real server in test mode, and against a scripted one.
//
//     HONGBAO_URL=http://127.0.0.1:8080 HONGBAO_KEY=hb_... node --test test_hongbao.js
//
// The server has to be a fresh one: what is counted here is all that is in it.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Client, InvalidWebhook, NoAnswer, Problem, Unexpected, verifyWebhook } from "./hongbao.js";

const { HONGBAO_URL: url, HONGBAO_KEY: key } = process.env;
assert.ok(url && key, "set HONGBAO_URL to a server started with --test, and HONGBAO_KEY to its admin key");
const client = new Client(url, key);

async function all(list) {
  const read = [];
  for await (const one of list) read.push(one);
  return read;
}

describe("the real server", { concurrency: 1 }, () => {
  test("an evening", async () => {
    await client.deposit("alice", { amount: 1000 });
    const terms = { sender: "alice", total: 1000, shares: 3, message: "恭喜发财", metadata: { a: 0.5 } };
    const envelope = await client.createEnvelope(terms);
    assert.deepEqual([envelope.state, envelope.message, envelope.metadata], ["open", "恭喜发财", { a: 0.5 }]);
    let sum = 0;
    for (const user of ["bob", "carol", "dave"]) {
      const won = await client.grab(envelope.id, { user });
      assert.equal(won.outcome, "won");
      sum += won.amount;
    }
    assert.equal(sum, 1000);
    assert.equal((await client.grab(envelope.id, { user: "eve" })).outcome, "sold_out");
    const grabs = [{ envelope: envelope.id, user: "bob" }, { envelope: "env_nonsense", user: "bob" }];
    const { results } = await client.grabMany({ grabs });
    assert.deepEqual([results[0].outcome, results[0].replayed], ["won", true]);
    assert.ok(results[1].error instanceof Problem);
    assert.equal(results[1].error.code, "not_found");
    const listed = await all(client.grabs(envelope.id, { limit: 1 }));
    assert.equal(listed.reduce((total, one) => total + one.amount, 0), 1000, "of three pages");
    assert.ok((await client.metrics()).includes("hongbao_ready 1"));
  });

  test("a lost reply does nothing twice", async () => {
    for (const count of [1, 3]) {
      const user = `lost-${count}`;
      const lose = () => client.plantFaults({ fault: "lose_reply", count });
      await lose();
      assert.equal((await client.deposit(user, { amount: 500 })).available, 500);
      await lose();
      const envelope = await client.createEnvelope({ sender: user, total: 500, shares: 2 });
      await lose();
      const won = await client.grab(envelope.id, { user });
      await lose();
      const claimed = await client.claim(envelope.id, { user });
      assert.equal(claimed.amount, won.amount);
      await lose();
      await client.cancel(envelope.id);
      await lose();
      assert.equal((await client.withdraw(user, { amount: 500 })).available, 0);
      const kinds = (await all(client.entries(user, { limit: 2 }))).map((one) => one.kind);
      assert.deepEqual(kinds.sort(), ["claim", "deposit", "envelope", "refund", "withdrawal"]);
      await lose();
      const made = await client.createKey({ name: "k", roles: ["viewer"] });
      await lose();
      await client.deleteKey(made.id);
    }
    const audit = await client.audit();
    assert.deepEqual([audit.balanced, audit.deposited, audit.withdrawn], [true, 2000, 1000]);
  });

  test("what was shed is asked again, and a refusal is told", async () => {
    await client.plantFaults({ fault: "overloaded", count: 2 });
    assert.equal((await client.deposit("shed", { amount: 7 })).available, 7);
    await client.plantFaults({ fault: "overloaded", count: 1 });
    const error = await client.deposit("shed", { amount: 7 }, { limitMs: 500 }).catch((error) => error);
    assert.ok(error instanceof Problem);
    assert.deepEqual([error.code, error.retry, error.retryAfterS, error.attempts], ["overloaded", "after", 1, 1]);
    const { idempotencyKey } = error;
    for (let n = 0; n < 2; n++) {
      assert.equal((await client.deposit("shed", { amount: 7 }, { idempotencyKey })).available, 14);
    }
    await assert.rejects(client.withdraw("poor", { amount: 1 }), { code: "insufficient_funds", attempts: 1 });
    const refused = await client.createEnvelope({ sender: "poor", total: 1, shares: 2 }).catch((error) => error);
    assert.equal(refused.code, "invalid_field");
    assert.ok(refused.errors[0].field && refused.requestId);
    for (const amount of [0.5, NaN, 2 ** 53, 5n]) {
      await assert.rejects(client.deposit("poor", { amount }), RangeError);
    }
    for (const user of ["", ".", ".."]) await assert.rejects(client.wallet(user), RangeError);
  });

  test("it has every call of the served document", async () => {
    const served = Object.entries((await client.openapi()).paths).filter(([path]) => path !== "/" && path !== "/docs");
    const calls = served.flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`));
    assert.deepEqual(Client.OPERATIONS.map((one) => one.join(" ")).sort(), calls.sort());
  });
});

describe("a scripted server", () => {
  function scripted(...script) {
    const asked = [];
    const fetch = async (target, request) => {
      asked.push([target, request.headers["Idempotency-Key"], request.body]);
      const next = script.shift();
      if (next === null) throw new TypeError("fetch failed");
      const [status, body] = next;
      return new Response(typeof body === "string" ? body : JSON.stringify(body), { status });
    };
    return { client: new Client("http://scripted", "k", { fetch }), asked };
  }
  const problem = (status, code, retry) => [status, { status, code, retry, request_id: "r" }];
  const wallet = { user: "a", currency: "CNY", available: 5, held: 0, new_field: [1] };

  test("repeats are the same, and only where they may help", async () => {
    const { client, asked } = scripted(
      null, problem(503, "unconfirmed", "same_key"), problem(409, "in_progress", "same_key"), [502, "<html>"],
      problem(503, "overloaded", "after"), [201, wallet], [201, wallet],
    );
    assert.equal((await client.deposit("a", { amount: 5 })).available, 5);
    await client.deposit("a", { amount: 5 });
    for (const one of asked.slice(0, 6)) assert.deepEqual(one, asked[0]);
    assert.ok(asked[0][1]);
    assert.notEqual(asked[5][1], asked[6][1]);
    for (const [status, code, retry] of [[422, "idempotency_mismatch", "new_key"], [403, "forbidden", "never"], [409, "news", "news"]]) {
      const { client, asked } = scripted(problem(status, code, retry));
      await assert.rejects(client.deposit("a", { amount: 5 }), { code, retry, requestId: "r" });
      assert.equal(asked.length, 1);
    }
    const clock = scripted(null, [200, { now: "x" }]);
    await assert.rejects(clock.client.advanceClock({ advance_s: 5 }), NoAnswer);
    assert.equal(clock.asked.length, 1);
  });

  test("news are kept, and nonsense is refused", async () => {
    const body = { outcome: "postponed", until: "tomorrow" };
    const outcome = await scripted([200, body]).client.grab("env_x", { user: "a" });
    assert.deepEqual(outcome, { outcome: "unknown", name: "postponed", body });
    for (const body of ["hello", "[]", { user: "a" }, '{"user":"a","currency":"CNY","available":9007199254740993,"held":0}']) {
      await assert.rejects(scripted([200, body]).client.wallet("a"), Unexpected);
    }
  });

  test("a server that means ill costs no key and no memory", async () => {
    const endless = () => new ReadableStream({ pull: (to) => to.enqueue(new Uint8Array(1 << 20).fill(32)) });
    const overloaded = JSON.stringify({ status: 503, code: "overloaded", retry: "after" });
    for (const [made, kind] of [
      [() => new Response("hello"), Unexpected],
      [() => new Response(""), Unexpected],
      [() => new Response("[]"), Unexpected],
      [() => new Response('{"user":"a"}'), Unexpected],
      [() => new Response('{"user":"a","currency":"CNY","available":1e300,"held":0}'), Unexpected],
      [() => Response.error(), Problem],
      [() => new Response(null, { status: 302, headers: { Location: "http://127.0.0.1:1/" } }), Problem],
      [() => new Response(overloaded, { status: 503, headers: { "Retry-After": "9".repeat(400) } }), Problem],
      [() => new Response("[".repeat(100_000), { status: 400 }), Problem],
      [() => new Response(endless()), NoAnswer],
    ]) {
      let asked = 0;
      const fetch = async () => (asked++, made());
      const hostile = new Client("http://scripted", "k", { fetch, limitMs: kind === NoAnswer ? 300 : 20_000, attemptMs: 20_000 });
      const error = await hostile.deposit("a", { amount: 5 }, { idempotencyKey: "mine" }).then(assert.fail, (error) => error);
      assert.ok(error instanceof kind, `${error}`);
      assert.equal(error.idempotencyKey, "mine", `${error}`);
      if (kind !== NoAnswer) assert.equal(asked, 1, `${error}`);
    }
    const gone = new Client("http://scripted", "k", { fetch: async () => Response.error() });
    await assert.rejects(gone.deleteKey("key_x"), Problem, "what is no answer deletes nothing");
  });
});

describe("webhooks", () => {
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
  const good = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330", "webhook-signature": signature,
  };
  const check = ({ offS = 0, secret: of = secret, body = '{"test": 2432232314}', ...headers }) =>
    verifyWebhook(of, { ...good, ...headers }, body, { nowMs: (1614265330 + offS) * 1000 });

  test("what the server sent is read", async () => {
    assert.deepEqual(await check({}), { test: 2432232314 });
    assert.deepEqual(await check({ offS: -300, "webhook-signature": `v1,AAAA v2,x ${signature}` }), { test: 2432232314 });
    const bytes = new TextEncoder().encode('{"test": 2432232314}');
    const options = { nowMs: 1614265330000 };
    assert.deepEqual(await verifyWebhook(secret, new Headers(good), bytes, options), { test: 2432232314 });
  });

  test("what it did not send is refused", async () => {
    for (const wrong of [
      { offS: 301 }, { offS: -301 }, { secret: "whsec_AAAA" }, { secret: "whsec_" }, { secret: "whsec_*" }, { body: "{}" },
      { "webhook-id": "msg_other" }, { "webhook-timestamp": "soon" }, { "webhook-timestamp": undefined },
      { "webhook-signature": "" }, { "webhook-signature": signature.slice(3) },
    ]) {
      await assert.rejects(check(wrong), InvalidWebhook, JSON.stringify(wrong));
    }
  });
});
