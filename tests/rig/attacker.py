"""A crowd of strangers, run as a program of its own inside a node: `attacker.py PLAN`, JSON:

`manner` (a function below), `host`, `port`, `count` (strangers), `network` (the first two parts of
the addresses that they come from), and what the manner wants. Commands come as lines on standard
input: `stop` ends it. Events go to standard output as JSON lines; `crowd.py` is the other end.
"""

import asyncio
import itertools
import json
import resource
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

AT_ONCE = 200  # connections being opened
PATIENCE = 120.0  # seconds for one answer
HEADER = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback'"
    " xmlns:stream='http://etherx.jabber.org/streams' version='1.0' from='{sender}' to='{target}'>"
)
STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
# a TLS record of a ClientHello that says it is longer than what comes
HELLO = b"\x16\x03\x01\x02\x00" + b"\x01\x00\x01\xfc\x03\x03" + bytes(40)
ENDED = (ConnectionError, asyncio.IncompleteReadError, TimeoutError, OSError)

counted: Counter[str] = Counter()
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def report(**event: Any) -> None:
    """One event to the rig."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


class Crowd:
    """All strangers."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.manner: Callable[[Crowd, int], Awaitable[None]] = MANNERS[plan["manner"]]
        self._opening = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """All of them, until they are done or told to stop."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        strangers = [asyncio.create_task(self._stranger(n)) for n in range(self.plan["count"])]
        teller = asyncio.create_task(self._tell())
        stop = asyncio.create_task(reader.readline())
        everybody = asyncio.gather(*strangers, return_exceptions=True)
        await asyncio.wait({everybody, stop}, return_when=asyncio.FIRST_COMPLETED)
        teller.cancel()
        for task in strangers:
            task.cancel()
        await asyncio.gather(*strangers, return_exceptions=True)
        report(event="end", **counted)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            report(event="count", **counted)

    async def _stranger(self, number: int) -> None:
        try:
            await self.manner(self, number)
        except ENDED:
            counted["cut short"] += 1
        counted["done"] += 1

    def address(self, number: int) -> str:
        """Where the stranger of a number comes from."""
        addresses = self.plan.get("addresses") or self.plan["count"]
        number = number % addresses + 256
        return f"{self.plan['network']}.{number >> 8 & 255}.{number & 255}"

    async def connect(self, number: int) -> Streams:
        """A connection, with a small window if the plan says so."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        if "window" in self.plan:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.plan["window"])
        try:
            sock.bind((self.address(number), 0))
            async with self._opening:
                await loop.sock_connect(sock, (self.plan["host"], self.plan["port"]))
        except BaseException:
            sock.close()
            raise
        counted["opened"] += 1
        return await asyncio.open_connection(sock=sock, limit=1 << 20)

    async def secure(self, number: int) -> Streams:
        """A stream with TLS and no certificate, up to its features."""
        reader, writer = await self.connect(number)
        writer.write(self.header(number))
        await reader.readuntil(b"</stream:features>")
        writer.write(STARTTLS.encode())
        await reader.readuntil(b"<proceed")
        await reader.readuntil(b">")
        await writer.start_tls(_context())
        writer.write(self.header(number))
        await reader.readuntil(b"</stream:features>")
        counted["secured"] += 1
        return reader, writer

    def header(self, number: int) -> bytes:
        sender = self.plan.get("sender", "stranger{n}.test").format(n=number)
        return HEADER.format(sender=sender, target=self.plan["target"]).encode()


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _to_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """What comes until the other end closes, or most of it."""
    text = b""
    try:
        async with asyncio.timeout(PATIENCE):
            while part := await reader.read(1 << 16):
                text = (text + part)[-(1 << 16) :]
        counted["sent away"] += 1
    except TimeoutError:
        counted["left alone"] += 1
    except ENDED:
        counted["sent away"] += 1
    finally:
        writer.transport.abort()
    return text


def _condition(text: bytes) -> str:
    """The stream error at the end of what came, or `nothing`."""
    _, error, rest = text.rpartition(b"<stream:error>")
    return rest.partition(b" ")[0].strip(b"<").decode() if error else "nothing"


async def hold(crowd: Crowd, number: int) -> None:
    """Comes a part of the way and stays there."""
    reader, writer = await crowd.connect(number)
    match number % 4:
        case 0:
            counted["silent"] += 1
        case 1:
            writer.write(crowd.header(number))
            counted["with a header"] += 1
        case 2:
            writer.write(crowd.header(number))
            await reader.readuntil(b"</stream:features>")
            writer.write(STARTTLS.encode())
            await reader.readuntil(b"<proceed")
            counted["asked for TLS"] += 1
        case 3:
            writer.write(crowd.header(number))
            await reader.readuntil(b"</stream:features>")
            writer.write(STARTTLS.encode())
            await reader.readuntil(b"<proceed")
            writer.write(HELLO)
            counted["began TLS"] += 1
    counted["holding"] += 1
    await _to_the_end(reader, writer)
    counted["holding"] -= 1


async def direct(crowd: Crowd, number: int) -> None:
    """Half a ClientHello on the port for direct TLS."""
    reader, writer = await crowd.connect(number)
    writer.write(HELLO[: 5 + number % 40])
    counted["holding"] += 1
    await _to_the_end(reader, writer)
    counted["holding"] -= 1


async def drip(crowd: Crowd, number: int) -> None:
    """One byte now and then: of the header, of the TLS handshake, or of an element after it."""
    stage = number % 3
    if stage == 2:
        reader, writer = await crowd.secure(number)
        text = f"<db:result from='s{number}.test' to='{crowd.plan['target']}'>".encode()
    else:
        reader, writer = await crowd.connect(number)
        text = crowd.header(number)
        if stage == 1:
            writer.write(text)
            await reader.readuntil(b"</stream:features>")
            writer.write(STARTTLS.encode())
            await reader.readuntil(b"<proceed")
            text = HELLO
    counted["holding"] += 1
    end = asyncio.create_task(_to_the_end(reader, writer))
    for byte in itertools.chain(text, itertools.repeat(ord("k"))):
        if end.done() or writer.is_closing():
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(crowd.plan["interval"])
    await end
    counted["holding"] -= 1


def _endless(*parts: bytes) -> Iterator[bytes]:
    first, again = parts
    return itertools.chain([first], itertools.repeat(again * (4096 // len(again))))


def _hostile(kind: str, header: bytes) -> tuple[Iterator[bytes], str]:
    """What to send, and the stream error that has to come."""
    too_large = "policy-violation"
    message = b"<message xmlns='jabber:server'>"
    match kind:
        case "endless header":
            return _endless(header[:-1] + b" a='", b"a" * 64), too_large
        case "endless prolog":
            return _endless(b"<?xml version='1.0'?>", b" " * 64), too_large
        case "deep":
            return _endless(header + message, b"<a>"), too_large
        case "huge attribute":
            return _endless(header + b"<message a='", b"a" * 64), too_large
        case "huge name":
            return _endless(header + b"<m", b"m" * 64), too_large
        case "many attributes":
            many = b"".join(b" a%d='1'" % n for n in range(100_000))
            return iter([header + b"<message" + many]), too_large
        case "endless text":
            return _endless(header + message, b"text" * 16), too_large
        case "entities":
            entities = b"".join(
                b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 30)
            )
            laughs = b"<!DOCTYPE a [<!ENTITY a0 'a'>" + entities + b"]>" + header
            return iter([laughs]), "restricted-xml"
        case "external entity":
            return iter([b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>" + header]), "restricted-xml"
        case "comments":
            return _endless(header + b"<!--", b"-a" * 32), "restricted-xml"
        case "instruction":
            return iter([header + b"<?php x?>"]), "restricted-xml"
        case "unknown entity":
            return iter([header + message + b"&a29;</message>"]), "restricted-xml"
    raise ValueError(kind)


HOSTILE = (
    "endless header", "endless prolog", "deep", "huge attribute", "huge name", "many attributes",
    "endless text", "entities", "external entity", "comments", "instruction", "unknown entity",
)  # fmt: skip


async def xml(crowd: Crowd, number: int) -> None:
    """Hostile XML at full speed, of one kind after the other, in the clear and after TLS."""
    for turn in range(crowd.plan["turns"]):
        kind = HOSTILE[(number + turn) % len(HOSTILE)]
        pieces, expected = _hostile(kind, crowd.header(number))
        reader, writer = await crowd.connect(number)
        end = asyncio.create_task(_to_the_end(reader, writer))
        try:
            for piece in pieces:
                if end.done() or writer.is_closing():
                    break
                writer.write(piece)
                counted["bytes"] += len(piece)
                await writer.drain()
                await asyncio.sleep(0)  # the others too, however fast it is taken
        except ENDED:
            pass
        found = _condition(await end)
        # what is still sent when the other end has closed makes the kernel throw its answer away
        good = found == expected or (found == "nothing" and counted["bytes"] > 0)
        counted["answered" if found == expected else "cut off" if good else f"{kind}: {found}"] += 1


async def inject(crowd: Crowd, number: int) -> None:
    """A stream in the clear, in one piece with <starttls/>: nothing of it may count after TLS."""
    for _ in range(crowd.plan["turns"]):
        reader, writer = await crowd.connect(number)
        target = crowd.plan["target"]
        inner = crowd.header(number) + (
            f"<db:result from='s{number}.test' to='{target}'>key</db:result>"
            f"<message from='a@s{number}.test' to='b@{target}' id='injected'/>"
        ).encode()
        writer.write(crowd.header(number))
        await reader.readuntil(b"</stream:features>")
        writer.write(STARTTLS.encode() + inner)
        text = await _to_the_end(reader, writer)
        secured = b"\x16\x03" in text
        counted["taken for TLS" if secured else "cut off"] += 1


async def results(crowd: Crowd, number: int) -> None:
    """One dialback request after the other, each for another domain that does not exist, or of
    which DNS says that it is at the victim's."""
    reader, writer = await crowd.secure(number)

    async def read() -> None:
        while part := await reader.read(1 << 16):
            counted["answers"] += part.count(b"<db:result")

    reading = asyncio.create_task(read())
    try:
        for turn in itertools.count():
            sender = f"r{number}-{turn}.{crowd.plan['domain']}"
            writer.write(
                f"<db:result from='{sender}' to='{crowd.plan['target']}'>key</db:result>".encode()
            )
            counted["asked"] += 1
            await writer.drain()
            if reading.done():
                break
            if turn % 50 == 0:
                await asyncio.sleep(0)
    finally:
        reading.cancel()
        writer.transport.abort()
        counted["cut off"] += 1


async def verifies(crowd: Crowd, number: int) -> None:
    """One question about a key after the other."""
    reader, writer = await crowd.secure(number)

    async def read() -> None:
        while part := await reader.read(1 << 16):
            counted["answers"] += part.count(b"<db:verify")

    reading = asyncio.create_task(read())
    try:
        for turn in itertools.count():
            sender = crowd.plan.get("sender", "stranger{n}.test").format(n=number)
            writer.write(
                f"<db:verify from='{sender}' to='{crowd.plan['target']}' id='{turn}'>"
                f"{turn:064x}</db:verify>".encode()
            )
            counted["asked"] += 1
            await writer.drain()
            if reading.done():
                break
            if turn % 50 == 0:
                await asyncio.sleep(0)
    finally:
        reading.cancel()
        writer.transport.abort()


async def deaf(crowd: Crowd, number: int) -> None:
    """Asks and asks, and never reads an answer."""
    reader, writer = await crowd.secure(number)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    target = crowd.plan["target"]
    question = f"<db:verify from='s.test' to='{target}' id='1'>00</db:verify>".encode()
    counted["holding"] += 1
    try:
        while not writer.is_closing():
            writer.write(question * 50)
            counted["asked"] += 50
            await writer.drain()
            await asyncio.sleep(0)  # or nobody hears of the end
    finally:
        counted["holding"] -= 1
        writer.transport.abort()


async def legacy(crowd: Crowd, number: int) -> None:
    """A legacy server out of its mind: a stream for each pair, most of them never used, some with a
    key that is none."""
    reader, writer = await crowd.connect(number)
    counted["holding"] += 1
    if number % 3:
        writer.write(crowd.header(number))
    if number % 3 == 2:
        own = crowd.plan["own"]
        writer.write(f"<db:result from='{own}' to='d{number}.nowhere.test'>k</db:result>".encode())
    text = await _to_the_end(reader, writer)
    counted["holding"] -= 1
    counted[f"end: {_condition(text)}"] += 1


MANNERS: dict[str, Callable[[Crowd, int], Awaitable[None]]] = {
    each.__name__: each
    for each in (hold, direct, drip, xml, inject, results, verifies, deaf, legacy)
}


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(Crowd(json.loads(sys.argv[1])).run())
