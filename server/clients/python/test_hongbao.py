"""hongbao.py against a real server in test mode, and against a scripted one.

    HONGBAO_URL=http://127.0.0.1:8080 HONGBAO_KEY=hb_... python3 -m unittest test_hongbao

The server has to be a fresh one: what is counted here is all that is in it.
"""

import http.server
import json
import os
import socket
import threading
import time
import unittest

from hongbao import (
    Claimed, Client, Error, Failed, GrabPair, Held, InvalidWebhook, NoAnswer, Ordered, Problem, SoldOut, Unexpected,
    Unknown, Won, verify_webhook,
)

URL, KEY = os.environ.get("HONGBAO_URL", ""), os.environ.get("HONGBAO_KEY", "")


class Real(unittest.TestCase):
    """Each test has users of its own: they share the server."""

    def setUp(self):
        self.assertTrue(URL, "set HONGBAO_URL to a server started with --test, and HONGBAO_KEY to its admin key")
        self.client = Client(URL, KEY)
        self.addCleanup(self.client.close)

    def envelope(self, sender, total, shares, **terms):
        self.client.deposit(sender, amount=total)
        return self.client.create_envelope(sender=sender, total=total, shares=shares, **terms)

    def test_an_evening(self):
        envelope = self.envelope("eve-alice", 1000, 3, message="恭喜发财", metadata={"a": 0.5})
        self.assertEqual((envelope.state, envelope.message, envelope.metadata), ("open", "恭喜发财", {"a": 0.5}))
        amounts = []
        for user in ("eve-bob", "eve-carol", "eve-dave"):
            won = self.client.grab(envelope.id, user=user)
            self.assertIsInstance(won, Won)
            self.assertIs(type(won.amount), int)
            amounts.append(won.amount)
        self.assertEqual(sum(amounts), 1000)
        self.assertIsInstance(self.client.grab(envelope.id, user="eve-late"), SoldOut)
        claimed = self.client.claim(envelope.id, user="eve-bob")
        self.assertIsInstance(claimed, Claimed)
        self.assertEqual(self.client.wallet("eve-bob").available, amounts[0])
        self.assertEqual([one.amount for one in self.client.received("eve-bob")], amounts[:1])
        self.assertEqual(self.client.grab_of(envelope.id, "eve-carol").amount, amounts[1])
        results = self.client.grab_many(grabs=[
            GrabPair(envelope=envelope.id, user="eve-bob"), GrabPair(envelope="env_nonsense", user="eve-bob"),
        ]).results
        self.assertIsInstance(results[0], Won)
        self.assertTrue(results[0].replayed)
        self.assertIsInstance(results[1], Failed)
        self.assertEqual(results[1].error.code, "not_found")
        self.assertTrue(self.client.audit().balanced)

    def test_a_sale(self):
        client = self.client
        client.put_merchant(id="sale-rosy", name="Rosy", status="verified")
        item = client.create_item(merchant="sale-rosy", name="roses", category="flowers", price=300, stock=2, per_user_limit=None)
        self.assertIsNone(item.per_user_limit)
        changed = client.change_item(item.id, price=200, image_url=None)
        self.assertEqual((changed.price, changed.name), (200, "roses"))
        client.deposit("sale-bob", amount=1000)
        held = client.grab_item(item.id, user="sale-bob")
        self.assertIsInstance(held, Held)
        ordered = client.claim_hold(held.hold, user="sale-bob")
        self.assertIsInstance(ordered, Ordered)
        self.assertEqual(client.order(ordered.order).amount, 200)
        self.assertEqual([one.id for one in client.items(merchant="sale-rosy")], [item.id])
        self.assertEqual(client.wallet("sale-bob").available, 800)

    def test_keys_come_and_go(self):
        made = self.client.create_key(name="viewer of the tests", owner="keys", roles=["viewer"])
        viewer = Client(URL, made.key)
        self.addCleanup(viewer.close)
        with self.assertRaises(Problem) as caught:
            viewer.deposit("keys-bob", amount=1)
        self.assertEqual((caught.exception.status, caught.exception.code), (403, "forbidden"))
        self.assertIn(made.id, [one.id for one in self.client.keys(limit=1)])
        self.client.plant_faults(fault="lose_reply", count=1)
        self.assertIsNone(self.client.delete_key(made.id))
        self.assertNotIn(made.id, [one.id for one in self.client.keys()])

    def test_a_lost_reply_does_nothing_twice(self):
        for count in (1, 3):
            user = f"lost-{count}"
            self.client.plant_faults(fault="lose_reply", count=count)
            self.assertEqual(self.client.deposit(user, amount=500).available, 500)
            self.client.plant_faults(fault="lose_reply", count=count)
            envelope = self.client.create_envelope(sender=user, total=500, shares=2)
            self.client.plant_faults(fault="lose_reply", count=count)
            first = self.client.grab(envelope.id, user=user)
            self.client.plant_faults(fault="lose_reply", count=count)
            claimed = self.client.claim(envelope.id, user=user)
            self.assertEqual(first.amount, claimed.amount)
            self.client.plant_faults(fault="lose_reply", count=count)
            self.client.cancel(envelope.id)
            self.client.plant_faults(fault="lose_reply", count=count)
            self.assertEqual(self.client.withdraw(user, amount=500).available, 0)
            kinds = [one.kind for one in self.client.entries(user, limit=2)]
            self.assertEqual(sorted(kinds), ["claim", "deposit", "envelope", "refund", "withdrawal"])
            self.assertEqual(len(list(self.client.sent(user))), 1)
        self.assertTrue(self.client.audit().balanced)

    def test_what_was_shed_is_asked_again(self):
        self.client.plant_faults(fault="overloaded", count=2)
        self.assertEqual(self.client.deposit("shed", amount=7).available, 7)
        self.client.plant_faults(fault="overloaded", count=1)
        with self.assertRaises(Problem) as caught:
            self.client.deposit("shed", amount=7, limit_s=0.5)
        error = caught.exception
        self.assertEqual((error.code, error.retry, error.retry_after_s, error.attempts), ("overloaded", "after", 1, 1))
        self.assertTrue(error.request_id and error.idempotency_key)
        # Later, with the key that the error kept.
        self.assertEqual(self.client.deposit("shed", amount=7, idempotency_key=error.idempotency_key).available, 14)
        self.assertEqual(self.client.deposit("shed", amount=7, idempotency_key=error.idempotency_key).available, 14)

    def test_refusals_are_told(self):
        with self.assertRaises(Problem) as caught:
            self.client.withdraw("poor", amount=1)
        self.assertEqual((caught.exception.code, caught.exception.attempts), ("insufficient_funds", 1))
        with self.assertRaises(Problem) as caught:
            self.client.create_envelope(sender="poor", total=1, shares=2)
        self.assertEqual((caught.exception.code, caught.exception.attempts), ("invalid_field", 1))
        self.assertTrue(caught.exception.errors[0].field)
        for amount in (1.0, 0.5, float("nan")):
            with self.assertRaises(TypeError):
                self.client.deposit("poor", amount=amount)
        with self.assertRaises(ValueError):
            self.client.deposit("poor", amount=2**53)
        for user in ("", ".", ".."):
            with self.assertRaises(ValueError):
                self.client.wallet(user)
        self.assertEqual(self.client.wallet("poor").available, 0)

    def test_pages_are_one_list(self):
        for amount in range(1, 8):
            self.client.deposit("pages", amount=amount)
        for limit in (1, 3, 7, 100):
            self.assertEqual([one.amount for one in self.client.entries("pages", limit=limit)], list(range(7, 0, -1)))
        page = self.client.entries_page("pages", limit=3)
        self.assertEqual(len(page.entries), 3)
        self.assertEqual(self.client.entries_page("pages", limit=100, cursor=page.next_cursor).entries[0].amount, 4)

    def test_threads_share_a_client(self):
        envelope = self.envelope("threads", 1000, 100)
        won, failed = [], []

        def grab(name):
            try:
                for n in range(10):
                    won.append(self.client.grab(envelope.id, user=f"threads-{name}-{n}").amount)
            except Exception as error:  # told below, in the thread that may fail
                failed.append(error)

        threads = [threading.Thread(target=grab, args=(name,)) for name in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        self.assertEqual((len(won), sum(won)), (100, 1000))

    def test_the_service(self):
        self.assertEqual(self.client.livez().status, "live")
        self.assertIn("hongbao_ready 1", self.client.metrics())
        served = {(method.upper(), path) for path, methods in self.client.openapi()["paths"].items()
                  for method in methods if path not in ("/", "/docs")}
        self.assertEqual(set(Client.OPERATIONS), served)
        before = self.client.advance_clock(advance_s=1).now
        self.assertGreater(self.client.advance_clock(advance_s=60).now, before)


class Scripted(unittest.TestCase):
    """What a real server does not do when it is asked to."""

    def serve(self, *script):
        """A server that gives these answers in turn: (status, body, headers), or None for none at all."""
        asked, left = [], list(script)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers.get("Content-Length", 0))
                asked.append((self.path, self.headers.get("Idempotency-Key"), self.rfile.read(length).decode()))
                answer = left.pop(0)
                if answer is None:
                    self.close_connection = True
                    return
                status, body, headers = answer
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        client = Client(f"http://127.0.0.1:{server.server_port}", "k", limit_s=20)
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.addCleanup(client.close)
        return client, asked

    @staticmethod
    def problem(status, code, retry, **headers):
        body = {"type": "about:blank", "title": "", "status": status, "code": code, "detail": "", "request_id": "r", "retry": retry}
        return status, body, headers

    WALLET = (201, {"user": "a", "currency": "CNY", "available": 5, "held": 0, "new_field": [1]}, {})

    def test_repeats_have_one_key_and_calls_have_their_own(self):
        client, asked = self.serve(
            None, self.problem(503, "unconfirmed", "same_key"), self.problem(408, "request_timeout", "same_key"),
            self.problem(409, "in_progress", "same_key"), (502, b"<html>", {}),
            self.problem(503, "overloaded", "after", **{"Retry-After": "0"}), self.WALLET, self.WALLET,
        )
        self.assertEqual(client.deposit("a", amount=5).available, 5)
        client.deposit("a", amount=5)
        self.assertEqual(len(set(asked[:7])), 1, "the same path, key and body each time")
        self.assertNotEqual(asked[6][1], asked[7][1])
        self.assertEqual(asked[0][0], "/v1/wallets/a/deposits")
        self.assertEqual(json.loads(asked[0][2]), {"amount": 5})

    def test_what_a_repeat_does_not_help_is_told_at_once(self):
        for status, code, retry in (
            (422, "idempotency_mismatch", "new_key"), (403, "forbidden", "never"), (409, "insufficient_funds", "same_key"),
            (409, "a_new_code", "a_new_word"),
        ):
            client, asked = self.serve(self.problem(status, code, retry))
            with self.assertRaises(Problem) as caught:
                client.deposit("a", amount=5, idempotency_key="mine")
            self.assertEqual((caught.exception.code, caught.exception.retry, caught.exception.request_id), (code, retry, "r"))
            self.assertEqual((len(asked), caught.exception.idempotency_key), (1, "mine"))

    def test_what_is_not_safe_to_repeat_is_not(self):
        client, asked = self.serve(None, self.WALLET)
        with self.assertRaises(NoAnswer):
            client.advance_clock(advance_s=5)
        self.assertEqual(len(asked), 1)

    def test_it_gives_up_when_time_is_over(self):
        client, asked = self.serve(*[None] * 1000)
        with self.assertRaises(NoAnswer) as caught:
            client.deposit("a", amount=5, limit_s=2)
        self.assertGreater(caught.exception.attempts, 1)
        self.assertEqual(caught.exception.idempotency_key, asked[0][1])

    def test_news_of_the_server_are_kept(self):
        client, _ = self.serve((200, {"outcome": "postponed", "until": "tomorrow"}, {}))
        outcome = client.grab("env_x", user="a")
        self.assertEqual(outcome, Unknown("postponed", {"outcome": "postponed", "until": "tomorrow"}))

    def raw(self, *answers):
        """A server that writes these bytes in turn, one piece after the other, as long as they are taken."""
        listener = socket.create_server(("127.0.0.1", 0))

        def serve():
            for pieces in answers:
                stream, _ = listener.accept()
                with stream:
                    stream.recv(1 << 16)
                    try:
                        for piece in pieces:
                            stream.sendall(piece)
                    except OSError:
                        pass  # it has heard enough

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        self.addCleanup(listener.close)
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}", "k", limit_s=20)
        self.addCleanup(client.close)
        return client

    def test_an_answer_that_drips_has_no_more_time_than_another(self):
        def drip():
            yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
            while True:
                time.sleep(0.05)
                yield b" "

        def drip_head():
            while True:
                time.sleep(0.05)
                yield b"H"

        for pieces in (drip, drip_head):
            client = self.raw(pieces())
            with self.assertRaises(NoAnswer) as caught:
                client.deposit("a", amount=5, limit_s=0.5)
            self.assertEqual(caught.exception.attempts, 1)

    def test_what_never_ends_or_is_cut_off_is_no_answer(self):
        def endless():
            yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            while True:
                yield b"100000\r\n" + b" " * 0x100000 + b"\r\n"

        huge = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n{}"]
        cut = [b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"user":"a","currency":"CNY","available":5,"held":0}']
        for pieces in (endless(), huge, cut):
            with self.assertRaises(NoAnswer) as caught:
                self.raw(pieces).advance_clock(advance_s=5)
            self.assertEqual(caught.exception.attempts, 1)

    def test_every_error_keeps_the_key(self):
        problem = {"status": 503, "code": "overloaded", "retry": "after"}
        hostile = (
            (200, b"hello", {}), (200, b"[" * 100_000, {}), (200, {"user": "a"}, {}), (302, b"", {"Location": "http://127.0.0.1:1/"}),
            (103, b"", {}), (503, problem, {"Retry-After": "9" * 5000}),
            (400, b"[" * 100_000, {}), (400, b'{"status":1e999,"code":"x"}', {}), (400, {"status": 400, "code": "x", "errors": 5}, {}),
            (400, b"[1]", {}), (400, b'"x"', {}),
        )
        for answer in hostile:
            client, asked = self.serve(answer)
            with self.assertRaises(Error) as caught:
                client.deposit("a", amount=5, idempotency_key="mine")
            self.assertEqual((caught.exception.idempotency_key, caught.exception.attempts, len(asked)), ("mine", 1, 1), answer[:2])
        # No number of seconds, though a digit to some.
        client, asked = self.serve((503, problem, {"Retry-After": "\xb2"}), self.WALLET)
        self.assertEqual((client.deposit("a", amount=5).available, len(asked)), (5, 2))
        client, _ = self.serve((200, {"results": [{"error": {"status": 1e999}}]}, {}))
        with self.assertRaises(Unexpected):
            client.grab_many(grabs=[GrabPair(envelope="env_x", user="a")])

    def test_answers_of_something_else_are_refused(self):
        for body in (b"hello", b"[]", {"user": "a"}, {**self.WALLET[1], "available": 5.0}, {**self.WALLET[1], "available": 2**53}):
            client, _ = self.serve((200, body, {}))
            with self.assertRaises(Unexpected):
                client.wallet("a")
        self.assertTrue(issubclass(Unexpected, Error))


class Webhooks(unittest.TestCase):
    SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    GOOD = {
        "Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "Webhook-Timestamp": "1614265330", "Webhook-Signature": SIGNATURE,
    }

    def check(self, off_s=0, secret=SECRET, body=b'{"test": 2432232314}', **headers):
        return verify_webhook(secret, {**self.GOOD, **headers}, body, now_s=1614265330 + off_s)

    def test_what_the_server_sent_is_read(self):
        self.assertEqual(self.check(), {"test": 2432232314})
        self.assertEqual(self.check(-300, **{"Webhook-Signature": "v1,AAAA v2,x " + self.SIGNATURE}), {"test": 2432232314})

    def test_what_it_did_not_send_is_refused(self):
        for wrong in (
            lambda: self.check(301), lambda: self.check(-301), lambda: self.check(secret="whsec_AAAA"),
            lambda: self.check(secret="whsec_"), lambda: self.check(secret="whsec_*"), lambda: self.check(body=b"{}"),
            lambda: self.check(**{"Webhook-Id": "msg_other"}), lambda: self.check(**{"Webhook-Timestamp": "soon"}),
            lambda: self.check(**{"Webhook-Signature": ""}), lambda: self.check(**{"Webhook-Signature": self.SIGNATURE[3:]}),
            lambda: verify_webhook(self.SECRET, {}, b"{}"), lambda: self.check(**{"Webhook-Timestamp": "9" * 400}),
            lambda: self.check(**{"Webhook-Timestamp": "9" * 5000}), lambda: self.check(**{"Webhook-Id": "\udc80"}),
            lambda: self.check(**{"Webhook-Signature": "v1,\udc80"}), lambda: self.check(**{"Webhook-Timestamp": "nan"}),
        ):
            self.assertRaises(InvalidWebhook, wrong)


if __name__ == "__main__":
    unittest.main()
