"""Logs two users in, each at their own server, and sends messages both ways.

Usage: talk.py [--login-only] [--messages N] [--timeout SECONDS]

Plain TCP, SASL PLAIN, Python's standard library. Exit code 0 when every message arrived, in
order, 1 when not, 2 when a user could not log in.
"""

import argparse
import base64
import select
import socket
import sys
import time
import uuid
from xml.etree.ElementTree import XMLPullParser, tostring

USERS = [("alice", "legacy.example", "wonderland", "jabberd2"), ("bob", "modern.example", "builder", "prosody")]
SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"
CLIENT = "{jabber:client}"


class Refused(Exception):
    """The server said no."""


class Client:
    """One user's stream; `queue` holds elements that arrived and nobody has looked at."""

    def __init__(self, user, domain, password, host, deadline):
        self.jid, self.domain, self.host = f"{user}@{domain}", domain, host
        self.socket = socket.create_connection((host, 5222), timeout=5)
        self.open_stream()
        self.wait(lambda e: e.tag.endswith("features"), deadline)
        token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        self.send(f"<auth xmlns='{SASL[1:-1]}' mechanism='PLAIN'>{token}</auth>")
        self.wait(lambda e: e.tag == SASL + "success", deadline)
        self.open_stream()
        self.wait(lambda e: e.tag.endswith("features"), deadline)
        self.ask("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>talk</resource></bind>", deadline)
        self.ask("<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>", deadline)
        self.send("<presence/>")

    def open_stream(self):
        self.parser, self.depth, self.queue = XMLPullParser(["start", "end"]), 0, []
        self.send(
            f"<?xml version='1.0'?><stream:stream to='{self.domain}' version='1.0' xmlns='jabber:client'"
            " xmlns:stream='http://etherx.jabber.org/streams'>"
        )

    def send(self, text):
        self.socket.sendall(text.encode())

    def ask(self, payload, deadline):
        iq = uuid.uuid4().hex
        self.send(f"<iq type='set' id='{iq}'>{payload}</iq>")
        if self.wait(lambda e: e.get("id") == iq, deadline).get("type") != "result":
            raise Refused(f"{self.jid}: no to {payload}")

    def read(self):
        """Takes what the socket has and puts its first-level elements in the queue."""
        data = self.socket.recv(65536)
        if not data:
            raise Refused(f"{self.jid}: {self.host} closed the stream")
        self.parser.feed(data)
        for event, element in self.parser.read_events():
            self.depth += 1 if event == "start" else -1
            if event == "end" and self.depth == 1:
                if element.tag == SASL + "failure" or element.tag.endswith("streams}error"):
                    raise Refused(f"{self.jid}: {tostring(element, 'unicode')}")
                self.queue.append(element)

    def wait(self, wanted, deadline):
        while True:
            while self.queue:
                element = self.queue.pop(0)
                if wanted(element):
                    return element
            if not select.select([self.socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Refused(f"{self.jid}: no answer of {self.host} in time")
            self.read()


def login(user, deadline):
    """A server's ports may open a moment before its parts have found each other: tries again."""
    while True:
        try:
            client = Client(*user, min(deadline, time.monotonic() + 10))
            print(f"{client.jid} is logged in at {client.host}")
            return client
        except (OSError, Refused) as why:
            if time.monotonic() + 1 > deadline:
                print(f"{user[0]} cannot log in: {why}")
                sys.exit(2)
            time.sleep(1)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--login-only", action="store_true")
    arguments.add_argument("--messages", type=int, default=5)
    arguments.add_argument("--timeout", type=float, default=60)
    arguments = arguments.parse_args()
    deadline = time.monotonic() + arguments.timeout
    alice, bob = (login(user, deadline) for user in USERS)
    if arguments.login_only:
        return 0

    run = uuid.uuid4().hex[:8]
    wanted, got, errors = [f"{run} {n}" for n in range(arguments.messages)], {alice: [], bob: []}, 0
    start = time.monotonic()
    for body in wanted:
        for sender, receiver in ((alice, bob), (bob, alice)):
            sender.send(f"<message type='chat' to='{receiver.jid}'><body>{body}</body></message>")
    while any(len(bodies) < len(wanted) for bodies in got.values()) and not errors:
        ready = select.select([c.socket for c in got], [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            break
        for client in (c for c in got if c.socket in ready):
            client.read()
            for message in (e for e in client.queue if e.tag == CLIENT + "message"):
                if message.get("type") == "error":
                    errors += 1
                    print(f"{client.jid} got an error: {tostring(message, 'unicode')}")
                elif (message.findtext(CLIENT + "body") or "").startswith(run):
                    got[client].append(message.findtext(CLIENT + "body"))
            client.queue.clear()
    seconds = time.monotonic() - start
    for sender, receiver in ((alice, bob), (bob, alice)):
        print(f"{sender.jid} -> {receiver.jid}: {len(got[receiver])} of {len(wanted)} arrived after {seconds:.1f} s")
    return 0 if all(bodies == wanted for bodies in got.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
