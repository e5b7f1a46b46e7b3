"""A scripted XMPP server, run as a program of its own inside a node: `scripted.py PLAN`.

It serves any number of domains. With certificates it speaks TLS, each domain with its own, as
server and as client; without it speaks plain dialback, as servers of 2004 do. It takes every pair
that it is asked for, answers for its own keys, and says what happens. The plan is a JSON file:
`listen` ([address, port, direct TLS?] each), `certificates` ({domain: [chain, key]}) and `clients`
(the same, for domains that show another certificate where they connect). Commands
come as JSON lines on standard input, events go to standard output; `player.py` is the other end.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import sys
from collections.abc import Coroutine
from typing import Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

STREAMS = "http://etherx.jabber.org/streams"
DIALBACK = "jabber:server:dialback"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"
STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"
SECRET = b"known to one program only"
PATIENCE = 50  # seconds for one answer

OFFER_TLS = f"<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>"
OFFER_DIALBACK = (
    "<stream:features><dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
    "</stream:features>"
)


class Ended(Exception):
    """The stream is over; says why."""


def report(**event: Any) -> None:
    """One event to the rig."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _lenient(context: ssl.SSLContext) -> ssl.SSLContext:
    """Shows certificates with small keys and old digests too."""
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def dialback_key(receiving: str, originating: str, stream: str) -> str:
    text = f"{receiving} {originating} {stream}".encode()
    return hmac.new(SECRET, text, hashlib.sha256).hexdigest()


class Stream(asyncio.Protocol):
    """One connection: elements in, text out."""

    def __init__(self, server: "Server", accepted: bool) -> None:
        self.server = server
        self.accepted = accepted
        self.arrived: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.transport: asyncio.Transport
        self.task: asyncio.Task[None] | None = None
        self._restart()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.accepted:
            self.task = asyncio.create_task(self.server.serve(self))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
            for event, element in list(self._parser.read_events()):
                self._parsed(event, element)
        except ET.ParseError as error:
            self.arrived.put_nowait(("end", f"no XML: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.arrived.put_nowait(("end", f"connection closed{f' ({error})' if error else ''}"))

    def _parsed(self, event: str, element: ET.Element) -> None:
        if event == "start":
            if not self._open:
                self.arrived.put_nowait(("header", element))
            self._open.append(element)
            return
        self._open.pop()
        if not self._open:
            self.arrived.put_nowait(("end", "stream closed"))
        elif len(self._open) == 1:
            self._open[0].remove(element)
            self.arrived.put_nowait(("element", element))

    def _restart(self) -> None:
        self._parser: Any = ET.XMLPullParser(["start", "end"])
        self._open: list[ET.Element] = []

    def say(self, text: str) -> None:
        self.transport.write(text.encode())

    def header(self, sender: str | None, target: str | None, stream: str = "") -> None:
        """Our stream header; a new stream begins with its answer."""
        attributes = {"from": sender, "to": target, "id": stream}
        if self.server.modern:
            attributes["version"] = "1.0"
        written = "".join(f" {name}={quoteattr(text)}" for name, text in attributes.items() if text)
        self.say(
            f"<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='{DIALBACK}'"
            f" xmlns:stream='{STREAMS}'{written}>"
        )

    async def next(self, kind: str) -> ET.Element:
        """What comes next, if it is of this kind; raises `Ended` with a stream error's name."""
        got, what = await self.arrived.get()
        if got == "end":
            raise Ended(what)
        if got == "element" and what.tag == f"{{{STREAMS}}}error":
            raise Ended(f"stream error {_condition(what, STREAM_ERRORS)}")
        if got != kind:
            raise Ended(f"{got} in place of {kind}")
        assert isinstance(what, ET.Element)
        return what

    async def element(self, name: str) -> ET.Element:
        """The next element of this name; others are passed over."""
        while True:
            element = await asyncio.wait_for(self.next("element"), PATIENCE)
            if element.tag == name:
                return element

    async def secure(self, context: ssl.SSLContext, host: str | None = None) -> None:
        """The TLS handshake; a new stream begins."""
        loop = asyncio.get_running_loop()
        self._restart()
        transport = await loop.start_tls(
            self.transport, self, context, server_side=self.accepted, server_hostname=host
        )
        assert transport is not None
        self.transport = transport

    def renew(self) -> None:
        """A new stream begins on the same connection."""
        self._restart()

    def close(self) -> None:
        if not self.transport.is_closing():
            self.say("</stream:stream>")
            self.transport.close()


class Pair:
    """What we send for one pair: a stream that we opened, and what waits for it."""

    def __init__(self, server: "Server", sender: str, target: str) -> None:
        self.server, self.sender, self.target = server, sender, target
        self.waiting: list[str] = []
        self.stream: Stream | None = None
        self.opened = False
        self.offered = False  # whether EXTERNAL was

    def send(self, text: str) -> None:
        if self.opened and self.stream:
            self.stream.say(text)
        else:
            self.waiting.append(text)

    async def run(self, host: str, port: int) -> None:
        """Opens the stream and stays until it ends."""
        names = {"sender": self.sender, "target": self.target}
        try:
            async with asyncio.timeout(PATIENCE):
                how = await self._open(host, port)
            self.opened = True
            report(event="open", how=how, **names)
            for text in self.waiting:
                self.send(text)
            assert self.stream is not None
            while True:
                await self.stream.next("element")
        except (Ended, OSError, TimeoutError) as problem:
            why = str(problem) or type(problem).__name__
            event = "closed" if self.opened else "refused"
            report(event=event, why=why, offered=self.offered, **names)
        finally:
            self.server.pairs.pop((self.sender, self.target), None)
            if not self.opened:
                self.server.unsent(self.waiting)
            if self.stream:
                self.stream.close()

    async def _open(self, host: str, port: int) -> str:
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: Stream(self.server, False), host, port)
        self.stream = stream
        header = await self._header()
        if self.server.modern:
            await stream.element(f"{{{STREAMS}}}features")
            stream.say(f"<starttls xmlns='{TLS}'/>")
            await stream.element(f"{{{TLS}}}proceed")
            await stream.secure(self.server.client_context(self.sender), self.target)
            header = await self._header()
            features = await stream.element(f"{{{STREAMS}}}features")
            mechanisms = [element.text for element in features.iter(f"{{{SASL}}}mechanism")]
            self.offered = "EXTERNAL" in mechanisms
            if self.offered:
                return await self._external()
        return await self._dialback(header.get("id", ""))

    async def _header(self) -> ET.Element:
        assert self.stream is not None
        self.stream.header(self.sender, self.target)
        return await self.stream.next("header")

    async def _external(self) -> str:
        assert self.stream is not None
        name = base64.b64encode(self.sender.encode()).decode()
        self.stream.say(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>{name}</auth>")
        answer = await self.stream.next("element")
        if answer.tag != f"{{{SASL}}}success":
            raise Ended(f"EXTERNAL: {_condition(answer, SASL)}")
        self.stream.renew()
        await self._header()
        await self.stream.element(f"{{{STREAMS}}}features")
        return "external"

    async def _dialback(self, stream_id: str) -> str:
        assert self.stream is not None
        key = dialback_key(self.target, self.sender, stream_id)
        names = f"from='{self.sender}' to='{self.target}'"
        self.stream.say(f"<db:result {names}>{key}</db:result>")
        answer = await self.stream.element(f"{{{DIALBACK}}}result")
        if answer.get("type") != "valid":
            raise Ended(f"dialback {answer.get('type')} {_condition(answer, STANZA_ERRORS)}")
        return "dialback"


class Server:
    """All streams of the program."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.modern = bool(plan["certificates"])
        self.pairs: dict[tuple[str, str], Pair] = {}
        self._certificates: dict[str, list[str]] = plan["certificates"]
        self._clients: dict[str, list[str]] = plan["clients"]
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._streams: set[Stream] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids = 0

    async def listen(self, address: str, port: int, direct: bool) -> None:
        loop = asyncio.get_running_loop()
        tls = self._server_context() if direct else None
        await loop.create_server(lambda: Stream(self, True), address, port, ssl=tls, backlog=1024)

    async def obey(self, order: dict[str, Any]) -> None:
        """Runs one command."""
        match order["do"]:
            case "send":
                self._send(**order["with"])
            case "certify":
                domain, pair = order["with"]["domain"], order["with"]["certificate"]
                self._certificates[domain] = pair
                self._contexts.pop(domain, None)
                report(event="certified", domain=domain)
            case "hang-up":
                for pair in list(self.pairs.values()):
                    if pair.stream:
                        pair.stream.close()

    def pair(self, sender: str, target: str, host: str, port: int) -> Pair:
        """The pair's way out; a new stream to `host` if it has none."""
        pair = self.pairs.get((sender, target))
        if pair is None:
            pair = self.pairs[sender, target] = Pair(self, sender, target)
            self.start(pair.run(host, port))
        return pair

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is kept until it ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _send(self, sender: str, target: str, id: str, host: str, port: int) -> None:
        self.pair(sender, target, host, port).send(
            f"<message from='user@{sender}/rig' to='user@{target}' id='{id}' type='normal'>"
            f"<body>{id}</body></message>"
        )

    def unsent(self, stanzas: list[str]) -> None:
        """These waited for a stream that did not come about."""

    async def serve(self, stream: Stream) -> None:
        """One accepted stream, to its end."""
        self._streams.add(stream)
        try:
            await self._serve(stream)
        except (Ended, OSError) as problem:
            report(event="gone", why=str(problem))
        finally:
            self._streams.discard(stream)
            stream.close()

    async def _serve(self, stream: Stream) -> None:
        direct = stream.transport.get_extra_info("ssl_object") is not None
        await self._answer(stream)
        if self.modern and not direct:
            stream.say(OFFER_TLS)
            await stream.element(f"{{{TLS}}}starttls")
            stream.say(f"<proceed xmlns='{TLS}'/>")
            await stream.secure(self._server_context())
            await self._answer(stream)
        if self.modern:
            stream.say(OFFER_DIALBACK)
        while True:
            element = await stream.next("element")
            names = {"sender": element.get("from", ""), "target": element.get("to", "")}
            match element.tag:
                case "{jabber:server:dialback}result":
                    report(event="result", **names)
                    stream.say(_dialback("result", names))
                case "{jabber:server:dialback}verify":
                    asked = element.get("id", "")
                    key = dialback_key(names["sender"], names["target"], asked)
                    valid = hmac.compare_digest(key, (element.text or "").strip())
                    report(event="verify", valid=valid, **names)
                    stream.say(_dialback("verify", names, asked, "valid" if valid else "invalid"))
                case "{jabber:server}message":
                    self.took(element, **names)

    def took(self, element: ET.Element, sender: str, target: str) -> None:
        """A message came."""
        report(
            event="stanza",
            id=element.get("id"),
            type=element.get("type"),
            condition=_condition(element, STANZA_ERRORS),
            sender=sender,
            target=target,
        )

    async def _answer(self, stream: Stream) -> None:
        header = await stream.next("header")
        self._ids += 1
        stream.header(header.get("to"), header.get("from"), f"scripted-{self._ids}")

    def _server_context(self) -> ssl.SSLContext:
        """A context that becomes another one with the name that the client asks for."""
        context = _lenient(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.load_cert_chain(*next(iter(self._certificates.values())))

        def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            if name not in self._certificates:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            chosen = self._contexts.get(name)
            if chosen is None:
                chosen = self._contexts[name] = _lenient(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
                chosen.load_cert_chain(*self._certificates[name])
            tls.context = chosen
            return None

        context.sni_callback = choose
        return context

    def client_context(self, domain: str) -> ssl.SSLContext:
        """Shows the domain's certificate and takes any."""
        context = _lenient(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(*(self._clients.get(domain) or self._certificates[domain]))
        return context


def _dialback(what: str, names: dict[str, str], stream: str = "", kind: str = "valid") -> str:
    id_attribute = f" id={quoteattr(stream)}" if stream else ""
    back = f"from='{names['target']}' to='{names['sender']}'"
    return f"<db:{what} {back}{id_attribute} type='{kind}'/>"


def _condition(element: ET.Element, namespace: str) -> str:
    """The name of the first error condition inside."""
    prefix = f"{{{namespace}}}"
    inside = (child.tag.removeprefix(prefix) for child in element.iter() if child is not element)
    return next((name for name in inside if "}" not in name and name != "text"), "")


async def main(server: Server, plan: dict[str, Any]) -> None:
    """Listens, and obeys until standard input ends."""
    for address, port, direct in plan["listen"]:
        await server.listen(address, port, direct)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    report(event="ready")
    while line := await reader.readline():
        await server.obey(json.loads(line))


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    asyncio.run(main(Server(plan), plan))
