"""TLS as only OpenSSL can spoil it."""

import asyncio

from ..gate import DIRECT_TLS_PORT, LEGACY_PORT, PUBLIC_PORT, GateSettings
from ..plan import LEGACY, LEGACY_ADDRESS, STRANGER_ADDRESS
from ..player import Listener
from ..process import Process, tail
from ..scene import Failed, Scene
from ..wait import until
from .base import Scenario

STREAM = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:server'"
    " xmlns:stream='http://etherx.jabber.org/streams' from='stranger.test'"
    f" to='{LEGACY}' version='1.0'>\n"
)


async def renegotiation(scene: Scene) -> str:
    home = scene.bare("home", LEGACY_ADDRESS)
    await scene.player("legacy", home, [Listener("127.0.0.1", LEGACY_PORT)])
    authority = scene.world.authority
    settings = GateSettings(
        LEGACY_ADDRESS,
        "scripted",
        (LEGACY,),
        authority.issue(LEGACY, LEGACY),
        authority.root,
        # the refusal goes out with what is said next, which is the end
        sections={"limits": {"negotiation": "3s"}},
    )
    await scene.gate("home", home, settings)
    node = scene.bare("stranger", STRANGER_ADDRESS)
    starttls = ("-starttls", "xmpp-server", "-xmpphost", LEGACY)
    for port, how in ((PUBLIC_PORT, starttls), (DIRECT_TLS_PORT, ())):
        log = scene.directory / f"openssl-{port}.log"
        words = ("openssl", "s_client", "-tls1_2", "-connect", f"{LEGACY_ADDRESS}:{port}")
        command = node.inside(*words, "-servername", LEGACY, *how)
        client = await Process.start("openssl", command, log, stdin=asyncio.subprocess.PIPE)
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
        await until(lambda: said("RENEGOTIATING"), 10, "the order")
        # and carries out with what comes next
        stdin.write(b" \n")
        await client.ended(10)
        if not said("no renegotiation"):
            raise Failed(f"port {port}: {tail(log)}")
    return "refused on both ports"


SCENARIOS = [
    Scenario("tls-renegotiation", "a peer that wants to renegotiate TLS does not", renegotiation)
]
