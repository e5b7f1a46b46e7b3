"""A peer that is no XMPP server, run as a program: `stub.py ADDRESS PORT MANNER`.

`nonsense` agrees to STARTTLS and then speaks no TLS; `silent` accepts and never says a word; `drip`
says a byte now and then and never comes to an end.
"""

import asyncio
import itertools
import sys

HEADER = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:server' version='1.0' id='stub'"
    " xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams'>"
    "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
    "</stream:features>"
)
PROCEED = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
NONSENSE = b"this is no TLS\r\n" * 4


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One stream that leads nowhere."""
    while await reader.read(4096):
        pass
    writer.close()


async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One stream, up to the handshake that fails."""
    try:
        await reader.readuntil(b"stream:stream")
        await reader.readuntil(b">")
        writer.write(HEADER.encode())
        await reader.readuntil(b"<starttls")
        await reader.readuntil(b">")
        writer.write(PROCEED.encode() + NONSENSE)
        await writer.drain()
        await reader.read(1)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One stream whose header goes on and on."""
    try:
        for byte in itertools.chain(HEADER[:-60].encode(), itertools.repeat(ord("a"))):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.1)
    except ConnectionError:
        pass
    finally:
        writer.close()


MANNERS = {"drip": drip, "silent": silent, "nonsense": nonsense}


async def main(address: str, port: int, manner: str) -> None:
    """Serves for ever."""
    server = await asyncio.start_server(MANNERS[manner], address, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
