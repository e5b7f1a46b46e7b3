"""What two users can do with each other, checked."""

import itertools
import os
import time
from collections.abc import Callable
from typing import Any

from .client import Client, StanzaError
from .plan import rooms
from .scene import Failed
from .wait import TimedOut, until

_serial = itertools.count(1)

DELIVERY_SECONDS = 60
PRESENCE_SECONDS = 30
BOUNCE_SECONDS = 60


def tag() -> str:
    """A word that no other message carries."""
    return f"t{os.getpid()}x{next(_serial)}"


async def deliver(sender: Client, receiver: Client, count: int = 1) -> float:
    """`count` numbered messages arrive, each once, in order, and nothing bounces. Seconds taken."""
    began = time.monotonic()
    await _arrive([_Batch(sender, receiver, count)])
    return time.monotonic() - began


async def exchange(one: Client, two: Client, count: int) -> float:
    """`deliver` both ways at the same time, on streams that one message each way has opened.

    Prosody 0.12.3 needs this: what it queues while it negotiates SASL EXTERNAL it sends after
    what comes later, also from one Prosody to another.
    """
    await deliver(one, two)
    await deliver(two, one)
    return await collide(one, two, count)


async def collide(one: Client, two: Client, count: int) -> float:
    """`deliver` both ways at the same time, whatever state the streams are in."""
    began = time.monotonic()
    await _arrive([_Batch(one, two, count), _Batch(two, one, count)])
    return time.monotonic() - began


class _Batch:
    """Numbered messages on their way."""

    def __init__(self, sender: Client, receiver: Client, count: int) -> None:
        self.sender, self.receiver, self.count, self.tag = sender, receiver, count, tag()
        sender.send(receiver.full, self.tag, count)

    def problem(self) -> str | None:
        numbers = self.receiver.numbers(self.tag)
        route = f"{self.sender.jid} -> {self.receiver.jid}"
        bounced = self.sender.errors(self.tag)
        if bounced:
            return f"{route}: {len(bounced)} bounced, first {bounced[0]}"
        if len(numbers) != len(set(numbers)):
            return f"{route}: some of {len(numbers)} arrived twice"
        if numbers != sorted(numbers):
            return f"{route}: out of order, {_disorder(numbers)}"
        if len(numbers) < self.count:
            return f"{route}: {len(numbers)} of {self.count} arrived"
        return None


def _disorder(numbers: list[int]) -> str:
    """Around the first place where numbers do not rise."""
    place = next(at for at in range(1, len(numbers)) if numbers[at] < numbers[at - 1])
    return f"… {numbers[max(0, place - 3) : place + 3]} …"


async def _arrive(batches: list[_Batch]) -> None:
    def settled() -> bool:
        return all(
            len(batch.receiver.numbers(batch.tag)) >= batch.count or batch.sender.errors(batch.tag)
            for batch in batches
        )

    try:
        await until(settled, DELIVERY_SECONDS, "all messages")
        # what comes twice would come before this
        last = [(batch, tag()) for batch in batches]
        for batch, word in last:
            batch.sender.send(batch.receiver.full, word)
        for batch, word in last:
            end = _decided(batch.sender, batch.receiver, word)
            await until(end, DELIVERY_SECONDS, "the message after all messages")
    except TimedOut as late:
        problems = [problem for batch in batches if (problem := batch.problem())]
        raise Failed("; ".join([str(late), *problems])) from late
    problems = [problem for batch in batches if (problem := batch.problem())]
    if problems:
        raise Failed("; ".join(problems))


def _decided(sender: Client, receiver: Client, word: str) -> Callable[[], bool]:
    """Whether a message has arrived or bounced."""
    return lambda: bool(receiver.numbers(word) or sender.errors(word))


async def befriend(one: Client, two: Client) -> None:
    """Both subscribe to each other's presence and then see it."""
    for asking, asked in ((one, two), (two, one)):
        asking.presence(asked.jid, "subscribe")
        wanted = {"event": "presence", "type": "subscribe"}
        await _from(asked, asking.jid, wanted, "the request to subscribe")
        asked.presence(asking.jid, "subscribed")
        await _from(asking, asked.jid, {"event": "presence", "type": "subscribed"}, "the consent")
    await see(one, two)


async def see(one: Client, two: Client) -> None:
    """A change of presence of each arrives at the other."""
    for changing, watching in ((one, two), (two, one)):
        status = tag()
        changing.presence(status=status)
        wanted = {"event": "presence", "type": "available", "status": status}
        await _from(watching, changing.full, wanted, "the new presence")


async def _from(client: Client, sender: str, wanted: dict[str, Any], what: str) -> None:
    await client.expect({**wanted, "sender": sender}, PRESENCE_SECONDS, f"{what} of {sender}")


async def ask(asking: Client, asked: Client) -> None:
    """Queries to the other's server and to the other client are answered."""
    domain = asked.jid.partition("@")[2]
    for target, what, expected in (
        (domain, "disco", "identity"),
        (domain, "version", "version"),
        (asked.full, "version", "slixmpp"),
        (asked.full, "ping", "iq"),
    ):
        answer = await asking.query(target, what)
        if answer["type"] != "result" or expected.lower() not in answer["xml"].lower():
            raise Failed(f"{asking.jid} asked {target} for {what}: {answer}")


async def chat(local: Client, remote: Client, count: int = 20) -> None:
    """Both meet in a room of the local one's server and read each other, once and in order."""
    room = f"{tag()}@{rooms(local.jid.partition('@')[2])}"
    for client, nick in ((local, "local"), (remote, "remote")):
        client.join(room, nick)
        here = {"event": "presence", "type": "available", "room": True}
        await _from(client, f"{room}/{nick}", here, "the own entry to the room")
    words = {}
    for client in (local, remote):
        words[client.jid] = tag()
        client.send(room, words[client.jid], count, kind="groupchat")
    expected = list(range(count))
    for reader in (local, remote):
        for writer, word in words.items():

            def complete(reader: Client = reader, word: str = word) -> bool:
                return len(reader.numbers(word, "groupchat")) >= count

            await until(complete, DELIVERY_SECONDS, f"{reader.jid} to read {writer} in the room")
            if reader.numbers(word, "groupchat") != expected:
                raise Failed(f"{reader.jid} read {writer} in the room in another order")


async def refused(
    sender: Client,
    to: str,
    conditions: tuple[str, ...],
    timeout: float = BOUNCE_SECONDS,
    unread_by: Client | None = None,
) -> StanzaError:
    """A message bounces with one of these conditions, and `unread_by` never gets it."""
    word = tag()
    error = await sender.refusal(to, word, timeout)
    if error.condition not in conditions:
        raise Failed(f"{sender.jid} -> {to}: expected {' or '.join(conditions)}, got {error}")
    if unread_by and unread_by.numbers(word):
        raise Failed(f"{sender.jid} -> {to}: bounced and delivered")
    return error


async def recovers(sender: Client, receiver: Client, timeout: float = 60) -> float:
    """Messages get through again, without anyone's help. Seconds until the first one did."""
    began = time.monotonic()
    deadline = began + timeout
    while True:
        word = tag()
        sender.send(receiver.full, word)
        left = max(1.0, deadline - time.monotonic())
        what = f"{sender.jid} -> {receiver.jid} to work again"
        await until(_decided(sender, receiver, word), left, what)
        if receiver.numbers(word):
            return time.monotonic() - began
        if time.monotonic() > deadline:
            raise Failed(f"{sender.jid} -> {receiver.jid} still bounces after {timeout:g} s")
