"""A server that gives the page of the real fedgate and tells it a made-up state of things: many
domains, and names and reasons as hostile strangers would choose them."""

import http.server
import json
import math
import threading
import time

HOSTILE = "<img src=x onerror=document.title='taken'>\u202e</td><script>document.title='taken'</script>"


def domain(name, level, proofs, tls, way="both", stanzas=(0, 0), queued=0, days=60, used=0, failure=None):
    now = int(time.time())
    return {
        "domain": name, "level": level, "proofs": proofs, "tls": tls,
        "inbound": way in ("both", "in"), "outbound": way in ("both", "out"), "streams": [1, 2],
        "stanzas_in": stanzas[0], "stanzas_out": stanzas[1],
        "bytes_in": stanzas[0] * 410, "bytes_out": stanzas[1] * 380, "queued": queued,
        "used": now - used if level != "none" else 0,
        "certificate_expires": now + days * 86400 + 3600 if days is not None else None,
        "failure": failure,
    }


def failed(direction, reason, detail, count, ago):
    return {"direction": direction, "local": "im.old.example", "last": int(time.time()) - ago,
            "count": count, "reason": reason, "detail": detail}


def domains(tick):
    grow = lambda base, speed: int(base + tick * speed + 4 * speed * math.sin(tick / 3))
    return [
        domain("jabber.example.org", "trusted", ["pkix"], ["TLSv1.3"], stanzas=(grow(18240, 9), grow(9120, 5)), days=71, used=0),
        domain("conversations.example", "trusted", ["dane"], ["TLSv1.3"], stanzas=(grow(9310, 6), grow(7743, 4)), days=48, used=1),
        domain("muc.conversations.example", "trusted", ["dane"], ["TLSv1.3"], stanzas=(grow(31022, 14), grow(812, 1)), days=48, used=0),
        domain("chat.university.example", "trusted", ["pkix"], ["TLSv1.2"], stanzas=(2210, 1954), days=9, used=42),
        domain("b\u00fccher.example", "encrypted", ["dialback"], ["TLSv1.3"], stanzas=(grow(410, .4), 388), days=2212, used=9),
        domain("old-friend.example", "encrypted", ["dialback"], ["TLSv1.2"], way="in", stanzas=(96, 0), days=31, used=830),
        domain("hosted.example.net", "trusted", ["posh"], ["TLSv1.3"], stanzas=(77, 120), days=25, used=120),
        domain("busy.example.com", "trusted", ["pkix"], ["TLSv1.3"], way="out", stanzas=(0, grow(5120, 3)), queued=37, days=80, used=2),
        domain("expired.example", "none", [], [], way="", days=None, failure=failed(
            "outbound", "not-proven", "certificate of expired.example: expired on 2026-11-02 11:20:08 UTC", 14, 31)),
        domain("gone.example", "none", [], [], way="", days=None, failure=failed(
            "outbound", "not-found", "gone.example has no XMPP service: its SRV record says so", 3, 2150)),
        domain("plain.example", "none", [], [], way="", days=None, failure=failed(
            "inbound", "rejected", "the level trusted is not reached", 2, 612)),
    ]


def hostile(now):
    found = domain(f"{HOSTILE}.example", "none", [], [], way="", days=None,
                   failure=failed("outbound", "stream", f"stream error {HOSTILE}", 5, 60))
    return found


def failure_of(one):
    last = one["failure"]
    now = int(time.time())
    steps = [
        {"ms": 0, "text": "policy: outbound allowed, level trusted required by 50-rules.yaml:12"},
        {"ms": 38, "text": "SRV _xmpp-server._tcp: xmpp.expired.example:5269, insecure"},
        {"ms": 71, "text": "connected to [2001:db8::5]:5269"},
        {"ms": 109, "text": "STARTTLS, TLSv1.3 TLS13_AES_256_GCM_SHA384"},
        {"ms": 112, "text": last["detail"]},
    ]
    attempts = [{"at": last["last"] - 60 * n, "stage": "proof", "reason": last["reason"],
                 "detail": last["detail"], "steps": steps if n < 2 else []}
                for n in reversed(range(min(6, last["count"])))]
    return {"direction": last["direction"], "local": last["local"], "remote": one["domain"],
            "first": now - 3600 * 5, "last": last["last"], "count": last["count"], "stage": "proof",
            "reason": last["reason"], "detail": last["detail"], "returned": 1, "waiting": 0,
            "retry": now + 29 if last["direction"] == "outbound" else None, "attempts": attempts}


class Scripted:
    """Serves on loopback until it is closed. `strangers` adds the hostile names."""

    def __init__(self, page, policy, strangers=False):
        self.page, self.policy, self.strangers = page, policy, strangers
        self.began = time.time()
        self.more = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)

    def state(self, tick):
        all_of_them = domains(tick) + self.more + ([hostile(tick)] if self.strangers else [])
        failing = [one for one in all_of_them if one["failure"]]
        now = int(time.time())
        wave = lambda n, size, shift: [
            max(0, int(size * (1 + .5 * math.sin((n + k) / 9 + shift) + .35 * math.sin((n + k) / 2.3))))
            for k in range(150)]
        certificate = lambda name, days: {
            "domain": name, "ok": True, "names": name, "issuer": "CN=E7, O=Let's Encrypt, C=US",
            "not_after": now + days * 86400, "days_left": days, "is_due": days < 14,
            "fingerprint": "ab" * 32}
        good = [("listeners", "direct_tls [::]:5270, local 127.0.0.1:5268, public [::]:5269"),
                ("certificates", "good for all 3 local domains"), ("legacy", "1 reached"),
                ("resolver", "answers"), ("draining", "no")]
        return {
            "status": {
                "version": "0.1.0", "started": now - 3 * 86400 - 7230, "now": now, "draining": False,
                "ready": [{"name": name, "ok": True, "detail": detail} for name, detail in good],
                "config": {"generation": 4, "loaded": now - 5400, "error": None},
                "streams": {"peer_accepted": 8, "peer_opened": 7, "legacy_accepted": 2, "legacy_opened": 3},
                "stanzas": {"inbound": 61365 + tick * 29, "outbound": 25257 + tick * 13, "bounced": 41,
                            "dropped": 12, "errors_lost": 0},
                "queued": 37, "domains": len(all_of_them), "failing": len(failing),
                "history": {"seconds": 2, "stanzas_in": wave(tick, 58, 0), "stanzas_out": wave(tick, 26, 2),
                            "bytes_in": wave(tick, 23000, 0), "bytes_out": wave(tick, 9800, 2)},
                "certificates": [certificate("old.example", 61), certificate("im.old.example", 61),
                                 certificate("rooms.old.example", 61)],
            },
            "domains": all_of_them,
            "failures": [{**failure_of(one), "attempts": []} for one in failing],
        }

    def answer(self, handler):
        path = handler.path.partition("?")[0]
        tick = int((time.time() - self.began) * 2)
        if path == "/":
            return self.send(handler, "text/html; charset=utf-8", self.page)
        if path == "/api/failures":
            failing = [one for one in self.state(tick)["domains"] if one["failure"]]
            return self.send_json(handler, [failure_of(one) for one in failing])
        if path == "/api/streams":
            return self.send_json(handler, [])
        if path != "/api/watch":
            handler.send_error(404)
            return None
        self.head(handler, "text/event-stream")
        events = [("authorized", "inbound", "muc.conversations.example", "dane, TLSv1.3, 192.0.2.17"),
                  ("failed", "outbound", "expired.example", "not-proven: certificate expired"),
                  ("opened", "outbound", "jabber.example.org", "pkix, TLSv1.3"),
                  ("closed", "inbound", "old-friend.example", "idle"),
                  ("refused", "inbound", "plain.example", "the level trusted is not reached")]
        try:
            for n in range(10_000):
                tick = int((time.time() - self.began) * 2)
                self.tell(handler, "state", self.state(tick))
                what, direction, remote, detail = events[n % len(events)]
                if n < 12:
                    self.tell(handler, "event", {
                        "at": int(time.time()), "what": what, "stream": n, "direction": direction,
                        "local": "im.old.example", "remote": remote, "detail": detail})
                time.sleep(0.25)
        except OSError:
            return None

    def tell(self, handler, event, data):
        handler.wfile.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())

    def head(self, handler, kind):
        handler.send_response(200)
        handler.send_header("content-type", kind)
        handler.send_header("content-security-policy", self.policy)
        handler.end_headers()

    def send(self, handler, kind, body):
        self.head(handler, kind)
        handler.wfile.write(body)

    def send_json(self, handler, value):
        self.send(handler, "application/json", json.dumps(value).encode())
