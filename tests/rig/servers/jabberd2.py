"""jabberd2: router, sessions, servers and clients as four processes. It has no chat rooms."""

import os
from xml.sax.saxutils import escape

from .base import CLIENT_PORT, Server

ROUTER_PORT = 5347
SECRET = "between components"
# jabberd2's protocol for an external password check; every name and password will do.
AUTHENTICATOR = """#!/bin/sh
echo "OK USER-EXISTS CHECK-PASSWORD FREE"
while read -r command rest; do
    [ "$command" = FREE ] && exit
    echo OK
done
"""
# What Debian's sm.xml loads, without the parts that keep statistics or need files of their own.
CHAINS = {
    "sess-start": "status",
    "sess-end": "status iq-last",
    "in-sess": "validate status privacy roster vacation iq-vcard iq-ping iq-private disco amp"
    " offline announce presence deliver",
    "in-router": "session validate presence privacy",
    "out-router": "privacy",
    "pkt-sm": "iq-last iq-ping iq-time iq-version amp disco announce help echo status presence",
    "pkt-user": "roster presence disco iq-vcard amp deliver vacation offline iq-last",
    "pkt-router": "session disco",
    "user-load": "active roster roster-publish privacy vacation",
    "user-create": "active template-roster",
    "user-delete": "active announce offline privacy roster vacation status iq-last iq-private"
    " iq-vcard",
    "disco-extend": "iq-version help",
}


class Jabberd2(Server):
    """jabberd2 2.7.0 as Debian configures it, without a certificate: plain dialback only."""

    has_rooms = False

    async def start(self) -> None:
        (self.home / "router.log").unlink(missing_ok=True)  # it says when all parts are there
        database = self.home / "db"
        database.mkdir(exist_ok=True)
        libraries = f"/usr/lib/{os.uname().machine}-linux-gnu/jabberd2"
        # the four configurations of jabberd2, in the order in which they have to come up
        parts = {
            "router": self._router(),
            "sm": self._sm(libraries, str(database)),
            "s2s": self._s2s(),
            "c2s": self._c2s(libraries),
        }
        for name, body in parts.items():
            config = self.home / f"{name}.xml"
            config.write_text(f"<{name}><id>{name}</id><log type='stdout'/>{body}</{name}>\n")
            process = await self._launch(name, [f"/usr/sbin/jabberd2-{name}", "-c", str(config)])
            if name == "router":

                async def routing() -> bool:
                    return await self.node.listens(ROUTER_PORT)

                await process.ready(routing, 20)
        await self._ready(process)

        async def routed() -> bool:
            log = (self.home / "router.log").read_text(errors="replace")
            names = (*self.settings.domains, "s2s", "c2s")
            return all(f"[{name}] online" in log for name in names)

        await process.ready(routed, 20)

    def _router(self) -> str:
        users = self.home / "router-users.xml"
        users.write_text(
            f"<users><user><name>jabberd</name><secret>{SECRET}</secret></user></users>\n"
        )
        return (
            f"<local><ip>127.0.0.1</ip><port>{ROUTER_PORT}</port><users>{users}</users>"
            f"<secret>{SECRET}</secret></local>"
            "<io><max_fds>1024</max_fds></io>"
            "<aci><acl type='all'><user>jabberd</user></acl></aci>"
        )

    def _sm(self, libraries: str, database: str) -> str:
        chains = "".join(
            f"<chain id='{chain}'>"
            + "".join(f"<module>{module}</module>" for module in modules.split())
            + "</chain>"
            for chain, modules in CHAINS.items()
        )
        return (
            f"{_link()}<local>{self._ids()}</local>"
            f"<storage><path>{libraries}</path><driver>db</driver>"
            f"<db><path>{escape(database)}</path></db></storage>"
            f"<modules><path>{libraries}</path>{chains}</modules>"
            "<discovery><identity><category>server</category><type>im</type>"
            "<name>jabberd2</name></identity></discovery>"
            "<user><auto-create/></user>"
        )

    def _s2s(self) -> str:
        # without <origins> it would leave from the address that it listens on, be it 127.0.0.1
        return (
            f"{_link()}<local><ip>{self.settings.s2s_address}</ip>"
            f"<port>{self.settings.s2s_port}</port>"
            "<origins><ip>0.0.0.0</ip></origins></local>"
            "<io><max_fds>1024</max_fds><limits><stanzasize>65535</stanzasize></limits></io>"
            "<check><interval>60</interval><queue>60</queue><retry>300</retry>"
            "<idle>86400</idle><dnscache>300</dnscache></check>"
            "<lookup><srv>xmpp-server</srv><srv>jabber</srv>"
            "<min-ttl>1</min-ttl><max-ttl>86400</max-ttl><bad-host-timeout>1</bad-host-timeout>"
            "</lookup><out-conn-reuse/><security/>"
        )

    def _c2s(self, libraries: str) -> str:
        authenticator = self.home / "authenticate"
        authenticator.write_text(AUTHENTICATOR)
        authenticator.chmod(0o755)
        return (
            f"{_link()}<local>{self._ids()}<ip>127.0.0.1</ip><port>{CLIENT_PORT}</port></local>"
            "<io><max_fds>1024</max_fds><limits><bytes>0</bytes><stanzas>0</stanzas>"
            "<connects>0</connects><stanzasize>65535</stanzasize></limits></io>"
            f"<authreg><path>{libraries}</path><module>pipe</module>"
            "<mechanisms><traditional><plain/></traditional><sasl><plain/></sasl></mechanisms>"
            f"<pipe><exec>{authenticator}</exec></pipe>"
            "</authreg>"
        )

    def _ids(self) -> str:
        return "".join(f"<id>{domain}</id>" for domain in self.settings.domains)


def _link() -> str:
    return (
        f"<router><ip>127.0.0.1</ip><port>{ROUTER_PORT}</port><user>jabberd</user>"
        f"<pass>{SECRET}</pass><retry><init>3</init><lost>3</lost><sleep>2</sleep></retry></router>"
    )
