"""A name server that is not as it should be, run as a program of its own inside a node:
`crooked.py ADDRESS UPSTREAM`. Manners come as lines on standard input:

`honest` asks the upstream server and says what that says; `slow SECONDS` the same, but late;
`lie ADDRESS` puts this address in the place of all others, without signatures; `guess` answers with
other ids and to another question before the true answer comes; `noise` never gives
another answer than noise; `servfail` fails.
"""

import asyncio
import os
import random
import socket
import sys
from typing import Any

PATIENCE = 5  # seconds for the upstream server
TYPE_A = 1
SERVFAIL = 2


class Crooked(asyncio.DatagramProtocol):
    """The server."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.manner = ["honest"]
        self.transport: Any
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, query: bytes, client: tuple[str, int]) -> None:
        task = asyncio.create_task(self._answer(query, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, query: bytes, client: tuple[str, int]) -> None:
        manner, *arguments = self.manner
        match manner:
            case "noise":
                self.transport.sendto(query[:2] + os.urandom(60), client)
                return
            case "servfail":
                failed = query[:2] + bytes([query[2] | 0x80, 0x80 | SERVFAIL]) + query[4:]
                self.transport.sendto(failed, client)
                return
            case "slow":
                await asyncio.sleep(float(arguments[0]))
        answer = await self._ask(query)
        if answer is None:
            return
        if manner == "lie":
            answer = _with_address(answer, socket.inet_aton(arguments[0]))
        if manner == "guess":
            forged = _with_address(answer, os.urandom(4))
            for _ in range(20):
                wrong = random.randrange(1 << 16).to_bytes(2, "big")
                if wrong != query[:2]:
                    self.transport.sendto(wrong + forged[2:], client)
            # the right id, another question
            self.transport.sendto(forged.replace(b"\x04test", b"\x04tset"), client)
        self.transport.sendto(answer, client)

    async def _ask(self, query: bytes) -> bytes | None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
            upstream.setblocking(False)
            upstream.connect((self.upstream, 53))
            await loop.sock_sendall(upstream, query)
            try:
                return await asyncio.wait_for(loop.sock_recv(upstream, 1 << 16), PATIENCE)
            except (TimeoutError, OSError):
                return None


def _name_end(message: bytes, at: int) -> int:
    while message[at] and message[at] < 0xC0:
        at += 1 + message[at]
    return at + (2 if message[at] else 1)


def _with_address(message: bytes, address: bytes) -> bytes:
    """The message with this address in all its A records."""
    text = bytearray(message)
    at = 12
    for _ in range(int.from_bytes(message[4:6], "big")):
        at = _name_end(message, at) + 4
    for _ in range(sum(int.from_bytes(message[n : n + 2], "big") for n in (6, 8, 10))):
        at = _name_end(message, at)
        kind = int.from_bytes(message[at : at + 2], "big")
        length = int.from_bytes(message[at + 8 : at + 10], "big")
        at += 10
        if kind == TYPE_A:
            text[at : at + length] = address
        at += length
    return bytes(text)


async def main(address: str, upstream: str) -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    _, server = await loop.create_datagram_endpoint(
        lambda: Crooked(upstream), local_addr=(address, 53)
    )
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while line := await reader.readline():
        server.manner = line.decode().split()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
