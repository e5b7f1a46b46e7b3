"""A user's client, run as a program of its own inside a node: slixmpp, driven by JSON lines.

Commands come on standard input, events go to standard output; `client.py` is the other end.
"""

import asyncio
import json
import sys
from typing import Any

import slixmpp
from slixmpp.xmlstream import ET

MUC = "http://jabber.org/protocol/muc"
DISCO = "http://jabber.org/protocol/disco#info"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
QUERIES = {
    "version": "{jabber:iq:version}query",
    "disco": f"{{{DISCO}}}query",
    "ping": "{urn:xmpp:ping}ping",
}
BATCH = 20  # messages between two turns of the event loop
IQ_TIMEOUT = 60


def report(**event: Any) -> None:
    """One event to the rig."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


class Agent(slixmpp.ClientXMPP):
    """Does as told and reports everything that arrives."""

    def __init__(self, jid: str, password: str) -> None:
        plain = {"feature_mechanisms": {"unencrypted_plain": True, "use_mech": "PLAIN"}}
        super().__init__(jid, password, plugin_config=plain)
        for plugin in ("xep_0030", "xep_0092", "xep_0199"):
            self.register_plugin(plugin)
        self.roster.auto_authorize = None
        self.roster.auto_subscribe = None
        self.add_event_handler("session_start", self._started)
        self.add_event_handler("message", self._message)
        self.add_event_handler("groupchat_message", self._message)
        self.add_event_handler("message_error", self._message)
        self.add_event_handler("disconnected", lambda _: report(event="disconnected"))
        self.add_event_handler("failed_auth", lambda _: report(event="failed-auth"))
        self.register_handler(
            slixmpp.xmlstream.handler.Callback(
                "all presence",
                slixmpp.xmlstream.matcher.MatchXPath("{jabber:client}presence"),
                self._presence,
            )
        )

    async def _started(self, _: object) -> None:
        await self.get_roster()
        self.send_presence()
        report(event="online", jid=self.boundjid.full)

    def _message(self, message: slixmpp.Message) -> None:
        report(
            event="message",
            type=message["type"],
            sender=str(message["from"]),
            id=message["id"],
            body=message["body"],
            **_error(message),
        )

    def _presence(self, presence: slixmpp.Presence) -> None:
        status = presence.xml.find("{http://jabber.org/protocol/muc#user}x")
        report(
            event="presence",
            type=presence["type"],
            sender=str(presence["from"]),
            status=presence["status"],
            room=status is not None,
            **_error(presence),
        )

    async def obey(self, order: dict[str, Any]) -> None:
        """Runs one command."""
        match order["do"]:
            case "send":
                await self._send(**order["with"])
            case "presence":
                self.send_presence(**order["with"])
            case "join":
                self._join(**order["with"])
            case "query":
                await self._query(**order["with"])

    async def _send(self, to: str, tag: str, first: int, count: int, kind: str) -> None:
        for number in range(first, first + count):
            body = f"{tag} {number}"
            message = self.make_message(mto=to, mbody=body, mtype=kind)
            message["id"] = f"{tag}-{number}"
            message.send()
            if number % BATCH == 0:
                await asyncio.sleep(0)

    def _join(self, room: str, nick: str) -> None:
        presence = self.make_presence(pto=f"{room}/{nick}")
        presence.append(ET.Element(f"{{{MUC}}}x"))
        presence.send()

    async def _query(self, to: str, what: str, reference: str) -> None:
        iq = self.make_iq_get(ito=to)
        iq.append(ET.Element(QUERIES[what]))
        try:
            answer = await iq.send(timeout=IQ_TIMEOUT)
            text = ET.tostring(answer.xml, encoding="unicode")
            report(event="answer", reference=reference, type="result", xml=text)
        except slixmpp.exceptions.IqError as refusal:
            report(event="answer", reference=reference, type="error", **_error(refusal.iq))
        except slixmpp.exceptions.IqTimeout:
            report(event="answer", reference=reference, type="timeout")


def _error(stanza: slixmpp.xmlstream.StanzaBase) -> dict[str, str]:
    """Kind, condition and text of an error; slixmpp itself does not know all conditions."""
    if stanza["type"] != "error":
        return {}
    error = stanza["error"]
    conditions = [child.tag for child in error.xml if child.tag.startswith(f"{{{STANZAS}}}")]
    names = [tag.partition("}")[2] for tag in conditions]
    condition = next((name for name in names if name != "text"), "")
    return {"condition": condition, "kind": error["type"], "text": error["text"]}


async def obey_standard_input(agent: Agent) -> None:
    """Takes commands until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        await agent.obey(json.loads(line))
    await agent.disconnect()


def main() -> None:
    jid, password, host, port = sys.argv[1:]
    agent = Agent(jid, password)
    agent.connect((host, int(port)), force_starttls=False, disable_starttls=True)
    commands = agent.loop.create_task(obey_standard_input(agent))
    agent.loop.run_until_complete(agent.disconnected)
    commands.cancel()


if __name__ == "__main__":
    main()
