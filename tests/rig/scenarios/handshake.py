"""TLS as only OpenSSL can spoil it."""

import asyncio

from ..checks import deliver
from ..gate import DIRECT_TLS_PORT, PUBLIC_PORT
from ..plan import LEGACY, LEGACY_ADDRESS, STRANGER_ADDRESS
from ..process import Process, tail
from ..scene import Scene
from ..wait import until
from .base import Scenario

STREAM = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:server'"
    " xmlns:stream='http://etherx.jabber.org/streams' from='stranger.test'"
    f" to='{LEGACY}' version='1.0'>\n"
)


async def renegotiation(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    peer = await scene.peer("prosody")
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    node = scene.bare("stranger", STRANGER_ADDRESS)
    starttls = ("-starttls", "xmpp-server", "-xmpphost", LEGACY)
    for port, how in ((PUBLIC_PORT, starttls), (DIRECT_TLS_PORT, ())):
        log = scene.directory / f"openssl-{port}.log"
        words = ("openssl", "s_client", "-tls1_2", "-connect", f"{LEGACY_ADDRESS}:{port}")
        command = node.inside(*words, "-servername", LEGACY, *how)
        client = await Process.start(
            "openssl", command, log, stdin=asyncio.subprocess.PIPE
        )
        scene.cleanup(client.stop)

        def said(what: str) -> bool:
            return what in log.read_text(errors="replace")

        stdin, _ = client.pipes
        assert stdin is not None
        await until(lambda: said("Verify return code"), 10, "the handshake")
        stdin.write(STREAM.encode())
        await until(lambda: said("</stream:features>"), 10, "features")
        # what s_client takes for an order
        stdin.write(b"R\n")
        await until(lambda: said("RENEGOTIATING"), 10, "the attempt")
        await client.ended(10)
        assert said("no renegotiation"), tail(log)
    await deliver(alice, bob)
    await deliver(bob, alice)
    return "refused on both ports"


SCENARIOS = [
    Scenario("tls-renegotiation", "a peer that wants to renegotiate TLS does not", renegotiation)
]
