"""The little world of the rig: which domain lives where."""

from dataclasses import dataclass

KNOT = "10.77.0.2"
UNBOUND = "10.77.0.3"

LEGACY_ADDRESS = "10.77.0.11"
OTHER_ADDRESS = "10.77.0.12"
MODERN_ADDRESS = "10.77.0.21"
EJA_ADDRESS = "10.77.0.22"
ODD_ADDRESS = "10.77.0.23"
BROKEN_ADDRESS = "10.77.0.24"
DOWN_ADDRESS = "10.77.0.29"
FAR_ADDRESS = "10.77.0.99"
STRANGER_ADDRESS = "10.77.0.98"

LEGACY = "legacy.test"  # behind the first fedgate
OTHER = "other.test"  # behind the second fedgate
MODERN = "modern.test"  # Prosody that insists on TLS and certificates
EJA = "eja.test"  # ejabberd that insists on TLS
SELF_SIGNED = "self.test"
EXPIRED = "expired.test"
WRONG_NAME = "wrongname.test"
DENIED = "denied.test"
LATE_DENIED = "latedenied.test"
BROKEN_TLS = "brokentls.test"
DOWN = "down.test"  # an address where nothing listens
ELSEWHERE = "elsewhere.test"  # at a denied address
NO_SUCH = "nosuch.test"  # served at the odd address, but not in the zone
DIRECT = "direct.test"  # direct TLS and nothing else

STARTTLS = ("_xmpp-server._tcp", 5269)
DIRECT_TLS = ("_xmpps-server._tcp", 5270)


@dataclass(frozen=True)
class Host:
    """One address, its host name in the zone, and the domains whose SRV records lead there."""

    address: str
    name: str
    domains: tuple[str, ...]
    services: tuple[tuple[str, int], ...] = (STARTTLS,)


def rooms(domain: str) -> str:
    """The chat room service of a domain."""
    return f"rooms.{domain}"


def _with_rooms(*domains: str) -> tuple[str, ...]:
    return tuple(name for domain in domains for name in (domain, rooms(domain)))


HOSTS = (
    Host(LEGACY_ADDRESS, "gate-a.test", _with_rooms(LEGACY), (STARTTLS, DIRECT_TLS)),
    Host(OTHER_ADDRESS, "gate-b.test", _with_rooms(OTHER), (STARTTLS, DIRECT_TLS)),
    Host(MODERN_ADDRESS, "xmpp.modern.test", _with_rooms(MODERN)),
    Host(EJA_ADDRESS, "xmpp.eja.test", _with_rooms(EJA)),
    Host(ODD_ADDRESS, "odd.test", (SELF_SIGNED, EXPIRED, WRONG_NAME, DENIED, LATE_DENIED)),
    Host(ODD_ADDRESS, "odd-direct.test", (DIRECT,), (DIRECT_TLS,)),
    Host(BROKEN_ADDRESS, "broken.test", (BROKEN_TLS,)),
    Host(DOWN_ADDRESS, "nobody.test", (DOWN,)),
    Host(FAR_ADDRESS, "far.test", (ELSEWHERE,)),
)
