"""What Prosody's debug log says of its streams with other servers: which stanza it put on which stream,
in which order, and which of them were acknowledged (XEP-0198). The only place that knows its words."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"\b(s2s(?:in|out)[0-9a-f]+)\s+\w+\s+(.*)")
_SENDING = re.compile(r"Sending\[\w+\]: <(\w+)[^>]*?(?: id=['\"]([^'\"]*)['\"][^>]*)?>")
_RECEIVED = re.compile(r"Received\[s2s\w+\]: <(?:message|presence|iq)\b[^>]*? id=['\"]([^'\"]*)['\"]")
_ACKED = re.compile(r"#queue = -?\d+ \(acked: (\d+)\)")
_ENDED = re.compile(r"Destroying (?:incoming|outgoing) session ")
_STANZAS = ("message", "presence", "iq")


@dataclass
class Stream:
    """One stream of Prosody's, seen from there."""

    before: list[str] = field(default_factory=list)  # written before stanzas were counted
    counted: list[str] = field(default_factory=list)
    acked: int = 0
    counts: bool = False


@dataclass
class PeerLog:
    """All of them; stanzas by their ids."""

    streams: list[Stream] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    _open: dict[str, Stream] = field(default_factory=dict)  # by names, which are used again

    @classmethod
    def of(cls, path: Path, wanted: Callable[[str], bool]) -> "PeerLog":
        """What a log says of the stanzas whose ids are wanted."""
        log = cls()
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                found = _LINE.search(line)
                if found:
                    log._take(*found.groups(), wanted)
        return log

    @property
    def acked(self) -> set[str]:
        """What the other end has acknowledged."""
        return {each for s in self.streams for each in s.counted[: s.acked]}

    @property
    def uncounted(self) -> set[str]:
        """What Prosody wrote before it counted, so that it never knows what became of it."""
        return {each for stream in self.streams for each in stream.before}

    def _take(self, name: str, text: str, wanted: Callable[[str], bool]) -> None:
        if received := _RECEIVED.match(text):
            if wanted(received[1]):
                self.read.add(received[1])
        elif acked := _ACKED.match(text):
            self._open[name].acked += int(acked[1])
        elif _ENDED.match(text):
            self._open.pop(name, None)
        elif sending := _SENDING.match(text):
            what, stanza = sending.groups()
            stream = self._open.get(name)
            if stream is None:
                stream = self._open[name] = Stream()
                self.streams.append(stream)
            if what in ("enable", "enabled"):
                stream.counts = True
            elif what in _STANZAS:
                (stream.counted if stream.counts else stream.before).append(stanza or "")
                if stanza and wanted(stanza):
                    self.written.append(stanza)
