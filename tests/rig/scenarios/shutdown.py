"""The orderly end of fedgate."""

from ..checks import exchange, recovers
from ..scene import Scene
from ..wait import until
from .base import Scenario

BURST = 200


async def sigterm(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    peer = await scene.peer("prosody")
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    await exchange(alice, bob, BURST)
    gate = legacy.gate
    assert gate is not None
    peer_log = peer.server.home / "prosody.log"
    before = peer_log.stat().st_size

    seconds = await gate.stop()

    def closed() -> bool:
        with peer_log.open("rb") as log:
            log.seek(before)
            text = log.read()
        ours = b"Received </stream:stream>" in text
        theirs = b"closed by remote with error: system-shutdown" in text
        return ours and theirs

    await until(closed, 5, "our stream to end with its end tag, the peer's with system-shutdown")
    await gate.resume()
    back = await recovers(alice, bob)
    await recovers(bob, alice)
    return f"ended in {seconds:.2f} s, streams closed in order, back after {back:.1f} s"


SCENARIOS = [Scenario("sigterm", "SIGTERM closes streams in order and ends in time", sigterm)]
