"""The stage of one scenario: its nodes, servers, fedgates and clients, and their end."""

import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .ca import Authority, Certificate
from .client import Client
from .dns import Dns
from .gate import LEGACY_PORT, PUBLIC_PORT, RESPONDER, Gate, GateSettings, Steering
from .gatelog import GateLog
from .net import Network, Node
from .plan import EJA, EJA_ADDRESS, LEGACY, LEGACY_ADDRESS, MODERN, MODERN_ADDRESS, UNBOUND, rooms
from .player import TRAFFIC, Listener, Player, Traffic
from .process import Process, tail
from .servers import KINDS, Server, Settings
from .web import Web
from .zones import Zones

STUB = Path(__file__).with_name("stub.py")
PEERS = {"prosody": (MODERN, MODERN_ADDRESS), "ejabberd": (EJA, EJA_ADDRESS)}


class Failed(Exception):
    """Something is not as it has to be."""


@dataclass(frozen=True)
class World:
    """What all scenarios share."""

    network: Network
    dns: Dns
    authority: Authority
    directory: Path
    fedgate: Path | None
    messages: int
    rounds: int


@dataclass
class Site:
    """A server, alone or behind its fedgate."""

    node: Node
    server: Server
    gate: Gate | None = None

    @property
    def domain(self) -> str:
        return self.server.settings.domain

    @property
    def log(self) -> GateLog:
        """The log of this site's fedgate."""
        assert self.gate is not None
        return GateLog(self.gate.log)


@dataclass(frozen=True)
class Stub:
    """A program that plays a peer."""

    node: Node
    process: Process


class Scene:
    """Everything that one scenario starts."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.directory = world.directory / name
        self.directory.mkdir()
        self._cleanup = AsyncExitStack()  # what was opened last is closed first
        self._names: set[str] = set()  # records of ours

    async def peer(self, kind: str, **changes: Any) -> Site:
        """A server of today that insists on encryption and valid certificates."""
        domain, address = PEERS[kind]
        return await self.server(kind, self.peer_settings(domain, address, **changes))

    def peer_settings(self, domain: str, address: str, **changes: Any) -> Settings:
        """A modern server's settings, with a certificate for it and its rooms."""
        certificate = self.world.authority.issue(domain, domain, rooms(domain))
        settings = Settings(
            domain,
            address,
            tls=True,
            certificates={domain: certificate, rooms(domain): certificate},
            rooms=rooms(domain),
            root=self.world.authority.root,
            anchor=self.world.dns.anchor,
        )
        return replace(settings, **changes)

    async def server(
        self, kind: str, settings: Settings, resolvers: tuple[str, ...] = (UNBOUND,)
    ) -> Site:
        """A server without a fedgate on its machine."""
        node = self.bare(settings.domain, settings.s2s_address)
        node.resolve_with(*resolvers)
        return await self._open(Site(node, self._server(kind, node, settings)))

    async def legacy(
        self,
        kind: str,
        domain: str = LEGACY,
        address: str = LEGACY_ADDRESS,
        steering: Steering = "dns",
        certified: bool = True,
        level: str = "encrypted",
        rules: Iterable[dict[str, Any]] = (),
        refusals: str = "dialback",
        dnssec: bool = False,
    ) -> Site:
        """A server that speaks plain dialback only, behind a fedgate."""
        if self.world.fedgate is None:
            raise Failed("no fedgate: build it, or name it in FEDGATE_BIN")
        node = self.bare(domain, address)
        node.resolve_with(RESPONDER if steering == "dns" else UNBOUND)
        room_service = rooms(domain) if KINDS[kind].has_rooms else None
        settings = Settings(domain, "127.0.0.1", s2s_port=LEGACY_PORT, rooms=room_service)
        domains = (domain, room_service) if room_service else (domain,)
        gate = Gate(
            node,
            self.directory / f"gate-{domain}",
            self.world.fedgate,
            GateSettings(
                address,
                kind,
                domains,
                self.world.authority.issue(domain, *domains) if certified else None,
                self.world.authority.root,
                steering,
                level,
                tuple(rules),
                refusals,
                self.world.dns.anchor if dnssec else None,
            ),
        )
        return await self._open(Site(node, self._server(kind, node, settings), gate))

    async def gate(self, name: str, node: Node, settings: GateSettings) -> Gate:
        """A fedgate for a server that is scripted."""
        if self.world.fedgate is None:
            raise Failed("no fedgate: build it, or name it in FEDGATE_BIN")
        gate = Gate(node, self.directory / f"gate-{name}", self.world.fedgate, settings)
        self._cleanup.push_async_callback(gate.stop)
        await gate.start()
        return gate

    async def player(
        self,
        name: str,
        node: Node,
        listeners: list[Listener],
        certificates: dict[str, Certificate] | None = None,
        clients: dict[str, Certificate] | None = None,
    ) -> Player:
        """A scripted server; see `scripted.py`."""
        player = await Player.launch(node, self.directory, name, listeners, certificates, clients)
        self._cleanup.push_async_callback(player.end)
        return player

    async def traffic(
        self,
        name: str,
        node: Node,
        listeners: list[Listener],
        where: tuple[str, int],
        certificates: dict[str, Certificate] | None = None,
    ) -> Traffic:
        """A scripted server that makes traffic, to the fedgate at this place; see `traffic.py`."""
        traffic = await Traffic.launch(
            node, self.directory, name, listeners, certificates, program=TRAFFIC, traffic=where
        )
        self._cleanup.push_async_callback(traffic.end)
        return traffic

    async def zones(self, zones: Zones) -> Zones:
        """Zones, served."""
        self._cleanup.push_async_callback(zones.stop)
        await zones.start()
        return zones

    async def login(self, site: Site, user: str, domain: str | None = None) -> Client:
        """A client of a site, online."""
        client = await Client.launch(site.node, user, domain or site.domain, self.directory)
        self._cleanup.push_async_callback(client.end)
        await client.online()
        return client

    async def web(self, web: Web, node: Node) -> None:
        """An HTTPS server."""
        self._cleanup.push_async_callback(web.stop)
        await web.start(node)

    def record(self, name: str, kind: str, data: str) -> None:
        """A record in the zone, for as long as the scene lasts."""
        self.world.dns.set(name, kind, data)
        if name not in self._names:
            self._names.add(name)
            self._cleanup.callback(self.world.dns.unset, name)

    def cleanup(self, end: Callable[[], Awaitable[object]]) -> None:
        """What has to be done when the scene closes."""
        self._cleanup.push_async_callback(end)

    def bare(self, name: str, *addresses: str) -> Node:
        """A node on which nothing runs."""
        node = self.world.network.node(name, *addresses)
        self._cleanup.callback(self.world.network.remove, node)
        return node

    async def stub(
        self, address: str, manner: str, node: Node | None = None, port: int = PUBLIC_PORT
    ) -> Stub:
        """A server that is no XMPP server, in a node of its own if none is given; see `stub.py`."""
        node = node or self.bare(manner, address)
        words = (sys.executable, "-B", str(STUB), address, str(port), manner)
        log = self.directory / f"stub-{manner}.log"
        process = await Process.start(f"stub {manner}", node.inside(*words), log)
        self._cleanup.push_async_callback(process.stop)

        async def ready() -> bool:
            return await node.listens(port)

        await process.ready(ready, 10)
        return Stub(node, process)

    async def replace_stub(self, stub: Stub, kind: str, settings: Settings) -> Site:
        """A server in the place of a stub."""
        await stub.process.stop()
        self.world.network.remove(stub.node)
        return await self.server(kind, settings)

    async def close(self) -> None:
        """Ends everything, in the reverse order of its start; raises what goes wrong with it."""
        await self._cleanup.aclose()

    def tails(self) -> str:
        """The ends of all logs, for a report of failure."""
        logs = sorted(self.directory.rglob("*.log"))
        return "\n".join(f"  {log}:\n{tail(log)}" for log in logs if log.stat().st_size)

    def _server(self, kind: str, node: Node, settings: Settings) -> Server:
        return KINDS[kind](node, self.directory / f"{kind}-{settings.domain}", settings)

    async def _open(self, site: Site) -> Site:
        if site.gate:
            self._cleanup.push_async_callback(site.gate.stop)
            await site.gate.start()
        self._cleanup.push_async_callback(site.server.stop)
        await site.server.start()
        return site
