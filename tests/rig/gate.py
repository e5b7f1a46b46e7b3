"""fedgate itself: its configuration, its process, its log."""

import asyncio
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .ca import Certificate
from .net import Node
from .plan import UNBOUND
from .process import Died, Process

Steering = Literal["dns", "nftables"]

UID = 64123  # fedgate's own user: the redirect exempts it
PUBLIC_PORT = 5269
DIRECT_TLS_PORT = 5270
LOCAL_PORT = 5268
LEGACY_PORT = 15269  # where the legacy server takes S2S streams
RESPONDER = "127.0.0.53"
START_SECONDS = 15
STOP_SECONDS = 20


@dataclass(frozen=True)
class GateSettings:
    """One fedgate."""

    address: str
    legacy: str  # the legacy server's name in the configuration
    domains: tuple[str, ...]
    certificate: Certificate | None  # None: fedgate makes a self-signed one
    root: Path
    steering: Steering = "dns"
    level: str = "encrypted"
    rules: tuple[dict[str, Any], ...] = ()
    refusals: str = "dialback"
    anchor: Path | None = None  # validate DNSSEC from here
    resolver: str = UNBOUND
    sections: dict[str, Any] = field(default_factory=dict)  # merged into the configuration
    environment: dict[str, str] = field(default_factory=dict)  # added to fedgate's
    descriptors: int | None = None  # how many it may have open


@dataclass
class Gate:
    """A fedgate in a node, run as a user of its own."""

    node: Node
    home: Path
    binary: Path
    settings: GateSettings
    process: Process | None = None

    @property
    def key(self) -> Path:
        """The private key, which fedgate's user can read."""
        return self.home / "domain.key"

    @property
    def log(self) -> Path:
        return self.home / "fedgate.log"

    async def start(self) -> None:
        """Writes the configuration, has it checked, starts fedgate, waits for its ports."""
        self._write()
        self.node.run(*self._command("check-config"))
        await self.resume()
        if self.settings.steering == "nftables":
            self.node.run(
                *self._command("steer", "nftables"), "--fedgate-user", str(UID), "--apply"
            )

    async def resume(self) -> None:
        """Starts the process again with the configuration as it is."""
        around = [f"{name}={value}" for name, value in self.settings.environment.items()]
        if self.settings.descriptors:
            around += ["prlimit", f"--nofile={self.settings.descriptors}"]
        words = self.node.inside("env", *around, *self._command("run"), uid=UID)
        self.process = await Process.start("fedgate", words, self.log)

        async def listening() -> bool:
            ports = (PUBLIC_PORT, LOCAL_PORT)
            return all([await self.node.listens(port) for port in ports])

        try:
            await self.process.ready(listening, START_SECONDS)
        except Died:
            self.process = None
            raise

    async def stop(self) -> float:
        """SIGTERM; returns how long it took. Raises `Died` unless it ran and ended well."""
        if not self.process:
            return 0
        process, self.process = self.process, None
        process.must_run()
        seconds = await process.stop(STOP_SECONDS)
        status = await process.ended(1)
        if status != 0:
            raise Died(f"fedgate ended with {status} {seconds:.1f} s after SIGTERM")
        return seconds

    async def kill(self) -> None:
        """SIGKILL; what it held is lost, and the kernel closes its connections."""
        process, self.process = self.process, None
        assert process is not None
        process.must_run()
        process.kill()
        await process.ended(5)

    async def restart(self) -> None:
        await self.stop()
        await self.resume()

    def ask(self, *words: str) -> tuple[int, str]:
        """Runs a command beside the running fedgate, as its user: exit status and output."""
        inside = self.node.inside(*self._command(*words), uid=UID)
        done = subprocess.run(inside, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout or done.stderr

    def add(self, name: str, content: dict[str, Any]) -> Path:
        """Writes one more file into the configuration directory, as a whole."""
        path = self._directory / name
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(content))
        fresh.rename(path)
        return path

    @property
    def _directory(self) -> Path:
        return self.home / "conf.d"

    def _command(self, *words: str) -> list[str]:
        return [str(self.binary), *words, "--config", str(self._directory)]

    def _write(self) -> None:
        state = self.home / "state"
        for directory in (self._directory, state):
            directory.mkdir(parents=True, exist_ok=True)
        os.chown(state, UID, UID)
        pair = self.settings.certificate
        if pair:
            key = self.key
            shutil.copy(pair.key, key)
            os.chown(key, UID, UID)
            key.chmod(0o600)
        self.add("00-rig.yaml", self._configuration(state))  # JSON is YAML

    def _configuration(self, state: Path) -> dict[str, Any]:
        settings = self.settings
        listen = {
            "public": [f"{settings.address}:{PUBLIC_PORT}"],
            "direct_tls": [f"{settings.address}:{DIRECT_TLS_PORT}"],
            "local": [f"127.0.0.1:{LOCAL_PORT}"],
        }
        legacy: dict[str, Any] = {
            "address": f"127.0.0.1:{LEGACY_PORT}",
            "domains": list(settings.domains),
            "trust": "dialback",
            "refusals": settings.refusals,
        }
        if settings.steering == "dns":
            listen["dns"] = [f"{RESPONDER}:53"]
        configuration: dict[str, Any] = {
            "version": 1,
            "state_dir": str(state),
            "listen": listen,
            "legacy": {settings.legacy: legacy},
            "tls": {"roots": [str(settings.root)]},
            "resolver": self._resolver(),
            "steer": {"address": "127.0.0.1", "port": LOCAL_PORT},
            "networks": {"deny_out": []},
            "defaults": {"allow": "both", "level": settings.level},
            "log": {"format": "json", "level": "debug"},
        }
        if settings.rules:
            configuration["rules"] = list(settings.rules)
        if settings.certificate:
            key = str(self.key)
            configuration["certificates"] = [{"cert": str(settings.certificate.cert), "key": key}]
        for section, content in settings.sections.items():
            configuration[section] = {**configuration.get(section, {}), **content}
        return configuration

    def _resolver(self) -> dict[str, Any]:
        resolver: dict[str, Any] = {"servers": [self.settings.resolver]}
        if self.settings.anchor:
            resolver |= {"dnssec": "validate", "trust_anchor": str(self.settings.anchor)}
        return resolver


async def restart_all(*gates: Gate) -> None:
    """Restarts several at once."""
    await asyncio.gather(*(gate.stop() for gate in gates))
    await asyncio.gather(*(gate.resume() for gate in gates))
