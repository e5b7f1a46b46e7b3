"""What the rows of the table stand on: authorities, certificates, zones and the scripted peer."""

from cryptography import x509

from .ca import Authority, Certificate
from .gate import PUBLIC_PORT
from .player import Listener, Player
from .posh import Subject
from .rows import Named, Row, dns_id, record
from .scene import Scene
from .web import Web
from .zones import INSECURE, Zones

PEER_ADDRESS = "10.77.0.31"
FIRST_PORT = 20000
WEB_ADDRESS = "10.77.0.32"
FORBIDDEN_ADDRESS = "10.77.0.33"  # the same HTTPS server, where fedgate must not connect to


class Bench:
    """Makes them for a table."""

    def __init__(self, scene: Scene, table: list[Row]) -> None:
        self._scene = scene
        home = scene.directory / "certificates"
        home.mkdir()
        self.trusted = Authority(home, "trusted root")
        self._authorities = {
            "trusted": self.trusted,
            "self": self.trusted,
            "intermediate": Authority(home, "trusted intermediate", self.trusted),
            "stranger": Authority(home, "strange root"),
        }
        stranger = self._authorities["stranger"]
        self._authorities["below-stranger"] = Authority(home, "strange intermediate", stranger)
        self._stranger = stranger.mint("stranger", [x509.DNSName("stranger.example")]).leaf
        self.zones = Zones(scene.world.network, scene.directory / "zones")
        self._web = Web(scene.directory / "web")
        self._certificates: dict[str, Certificate] = {}
        self._clients: dict[str, Certificate] = {}
        # an endpoint for each, for a connection is shared with whom its certificate proves
        self._listeners = [
            Listener(PEER_ADDRESS, FIRST_PORT + number if row.srv else PUBLIC_PORT, row.direct_tls)
            for number, row in enumerate(table)
        ]
        for row, listener in zip(table, self._listeners, strict=True):
            self._add(row, listener.port)

    async def peer(self) -> Player:
        """The scripted peer of all rows."""
        node = self._scene.bare("peer", PEER_ADDRESS)
        certificates = (self._certificates, self._clients)
        return await self._scene.player("peer", node, self._listeners, *certificates)

    async def web(self) -> None:
        """The HTTPS server of all rows."""
        await self._scene.web(self._web, self._scene.bare("web", WEB_ADDRESS, FORBIDDEN_ADDRESS))

    def _add(self, row: Row, port: int) -> None:
        issuer = self._authorities[row.issuer]
        certificate = issuer.mint(
            row.name,
            row.names(row.domain, row.host),
            common=row.domain if row.common else None,
            days=row.days,
            self_signed=row.issuer == "self",
            with_root=row.with_root,
            flaw=row.flaw,
        )
        self._certificates[row.domain] = certificate
        if row.client:
            self._clients[row.domain] = self._authorities[row.client].mint(
                f"client-{row.name}",
                dns_id(row.domain, row.host),
                self_signed=row.client == "self",
            )
        root = self._authorities["stranger" if "stranger" in row.issuer else "trusted"]
        self._publish(
            row,
            port,
            [
                ("leaf", certificate.leaf),
                ("issuer", issuer.certificate),
                ("root", root.certificate),
                ("stranger", self._stranger),
            ],
        )
        if row.web:
            self._add_site(row, Subject(row.domain, certificate.leaf, self._stranger))

    def _add_site(self, row: Row, subject: Subject) -> None:
        assert row.web is not None
        names = {
            subject.domain: FORBIDDEN_ADDRESS if row.https_forbidden else WEB_ADDRESS,
            subject.web: WEB_ADDRESS,
            subject.forbidden: FORBIDDEN_ADDRESS,
        }
        certificate = self._authorities[row.https].mint(
            f"https-{row.name}",
            row.https_names(row.domain, row.host)
            if row.https_names
            else [x509.DNSName(name) for name in names],
            days=row.https_days,
            self_signed=row.https == "self",
        )
        for name, address in names.items():
            self._web.add(name, certificate, row.web(subject))
            self.zones.add(name, "A", address)

    def _publish(
        self, row: Row, port: int, certificates: list[tuple[Named, x509.Certificate]]
    ) -> None:
        zones, host = self.zones, row.host
        service = "_xmpps-server" if row.direct_tls else "_xmpp-server"
        names = {
            "SRV": f"{service}._tcp.{row.domain}",
            "A": host,
            "TLSA": f"_{port}._tcp.{host}",
        }
        data = {
            "SRV": [f"10 10 {port} {host}."] if row.srv else [],
            "A": [PEER_ADDRESS],
            "TLSA": [record(tlsa, certificates) for tlsa in row.tlsa],
        }
        aliased = {"srv": "SRV", "host": "A", "tlsa": "TLSA"}.get(row.alias or "")
        for kind, name in names.items():
            if kind == aliased:
                # out of the signed zone and back into it: all ends well, but for the way
                outside = f"{row.alias}.{row.name}.{INSECURE}"
                zones.add(name, "CNAME", f"{outside}.")
                name = f"{row.alias}.{row.domain}"
                zones.add(outside, "CNAME", f"{name}.")
            elif kind == "TLSA" and row.secure_alias:
                elsewhere = f"tlsa.{row.domain}"
                zones.add(name, "CNAME", f"{elsewhere}.")
                name = elsewhere
            for text in data[kind]:
                zones.add(name, kind, text)
            if kind == row.forged:
                zones.forge(name, kind)
