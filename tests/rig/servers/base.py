"""What all servers have in common: settings in, processes out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from ..ca import Certificate
from ..net import Node
from ..process import Process

CLIENT_PORT = 5222
PASSWORD = "sesame"
USERS = ("alice", "bob", "carol", "user")  # the last is whom scripted servers write to


@dataclass(frozen=True)
class Settings:
    """How a server is to run."""

    domain: str
    s2s_address: str
    s2s_port: int = 5269
    tls: bool = False  # False: plain dialback and nothing else
    strict: bool = True  # with TLS: certificates must prove the peer
    certificates: dict[str, Certificate] = field(default_factory=dict)  # by domain
    more_domains: tuple[str, ...] = ()
    rooms: str | None = None  # the chat room service, where the server has one
    root: Path | None = None  # the trusted authority
    anchor: Path | None = None  # DNSSEC trust anchor; None: do not validate
    direct_tls_port: int | None = None
    bidi: bool = False  # streams that carry stanzas both ways, where the server has them
    smacks: bool = False  # stanzas are acknowledged, where the server has that
    patience: int | None = None  # seconds for the negotiation of a stream, where it can be set

    @property
    def domains(self) -> tuple[str, ...]:
        return (self.domain, *self.more_domains)


class Server(ABC):
    """One XMPP server in one node. Clients connect to 127.0.0.1:5222 there, without TLS."""

    has_rooms = True

    def __init__(self, node: Node, home: Path, settings: Settings) -> None:
        self.node = node
        self.home = home
        self.settings = settings
        self.processes: list[Process] = []
        home.mkdir(parents=True, exist_ok=True)

    @property
    def logs(self) -> list[Path]:
        """All log files."""
        return sorted(self.home.glob("*.log"))

    @abstractmethod
    async def start(self) -> None:
        """Configures and starts the server; returns when clients and servers can connect."""

    async def stop(self) -> None:
        """Stops it; its data stay."""
        for process in reversed(self.processes):
            await process.stop()
        self.processes.clear()

    async def kill(self) -> None:
        """Ends it without its help; the kernel closes its connections."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            await process.ended(5)
        self.processes.clear()

    async def _launch(
        self, name: str, words: list[str], environment: dict[str, str] | None = None
    ) -> Process:
        process = await Process.start(
            name, self.node.inside(*words), self.home / f"{name}.log", environment
        )
        self.processes.append(process)
        return process

    async def _ready(self, process: Process, timeout: float = 40) -> None:
        async def listening() -> bool:
            return await self.node.listens(CLIENT_PORT) and await self.node.listens(
                self.settings.s2s_port
            )

        await process.ready(listening, timeout)
