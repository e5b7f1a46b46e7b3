"""What fedgate's JSON log says. The only place that knows the names of its fields."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .wait import until

NEGOTIATED = "stream negotiated"
JOINED = "domain pair joined"
MANAGED = "stanzas are acknowledged"
RENEWED = "proof renewed"
NOT_RENEWED = "proof not renewed yet"
WITHDRAWN = "domain pair withdrawn"  # and why
PEER = "peer"
INBOUND = "inbound"
OUTBOUND = "outbound"
EITHER = "either"
EXTERNAL = "external"
DIALBACK = "dialback"
PKIX = "pkix"
DANE = "dane"
POSH = "posh"
TLS_1_3 = "TLSv1.3"
LOUD = ("INFO", "WARN", "ERROR")


@dataclass(frozen=True)
class GateLog:
    """The log of one fedgate, from a place on."""

    path: Path
    offset: int = 0

    def now(self) -> "GateLog":
        """The same log, without what is there already."""
        return GateLog(self.path, self.path.stat().st_size)

    def entries(self) -> list[dict[str, Any]]:
        """All complete lines, the fields of the event on the top level."""
        with self.path.open("rb") as log:
            log.seek(self.offset)
            text = log.read().decode(errors="replace")
        flat = []
        for line in text.splitlines():
            try:
                entry = json.loads(line, object_pairs_hook=_fields)
            except json.JSONDecodeError:
                continue
            flat.append({**entry, **entry.get("fields", {})})
        return flat

    def streams(self, direction: str, *domains: str) -> list[dict[str, Any]]:
        """Streams with peers, negotiated in this direction for a pair of these domains; `EITHER`
        where one bidirectional stream serves both ways."""
        return [
            entry
            for entry in self.entries()
            if entry.get("message") == NEGOTIATED
            and entry.get("side") == PEER
            and direction in (EITHER, entry.get("direction"))
            and all(domain in str(entry.get("pair")) for domain in domains)
        ]

    def joined(self) -> list[str]:
        """The pairs that joined a stream with a peer."""
        return [
            str(entry.get("pair"))
            for entry in self.entries()
            if entry.get("message") == JOINED and entry.get("side") == PEER
        ]

    def legacy_streams(self, direction: str) -> list[dict[str, Any]]:
        """Streams with the legacy server, negotiated in this direction."""
        return [
            entry
            for entry in self.entries()
            if entry.get("message") == NEGOTIATED
            and entry.get("side") == "legacy"
            and entry.get("direction") == direction
        ]

    async def expect_stream(
        self, direction: str, *domains: str, **fields: str | bool
    ) -> dict[str, Any]:
        """A negotiated stream with these properties (`tls`, `auth`, `proof`, `bidi`)."""

        def found() -> dict[str, Any] | None:
            for entry in self.streams(direction, *domains):
                if all(entry.get(key) == value for key, value in fields.items()):
                    return entry
            return None

        what = f"a log line {NEGOTIATED!r}: {direction}, {' '.join(domains)}, {fields}"
        return await until(found, 10, what)

    async def expect_managed(self, direction: str) -> dict[str, Any]:
        """A stream with a peer in this direction on which stanzas are acknowledged."""

        def found() -> dict[str, Any] | None:
            for entry in self.entries():
                if (entry.get("message"), entry.get("direction")) == (MANAGED, direction):
                    return entry
            return None

        return await until(found, 10, f"a log line {MANAGED!r}: {direction}")

    async def expect_reason(self, domain: str) -> str:
        """The loud line that names the domain and says why it did not work."""

        def found() -> str | None:
            for entry in self.entries():
                loud = entry.get("level") in LOUD and entry.get("message") != NEGOTIATED
                if loud and domain in json.dumps(entry):
                    keep = ("message", "pair", "reason", "error")
                    return ", ".join(str(entry[key]) for key in keep if key in entry)
            return None

        return await until(found, 10, f"a log line that says what is wrong with {domain}")


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two members of one name readers would see either."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"a log line names a field twice: {pairs}")
    return fields
