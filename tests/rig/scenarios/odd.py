"""A Prosody with certificates of every kind, one per domain; it takes any certificate itself."""

from dataclasses import replace

from ..plan import (
    DENIED,
    DIRECT,
    DIRECT_TLS,
    EXPIRED,
    LATE_DENIED,
    NO_SUCH,
    ODD_ADDRESS,
    SELF_SIGNED,
    WRONG_NAME,
)
from ..scene import Scene, Site
from ..servers import Settings


async def odd_peer(scene: Scene) -> Site:
    """Starts it."""
    return await scene.server("prosody", odd_settings(scene))


def odd_settings(scene: Scene) -> Settings:
    """Its settings."""
    authority = scene.world.authority
    good = (DENIED, LATE_DENIED, NO_SUCH, DIRECT)
    certificates = {domain: authority.issue(domain, domain) for domain in good}
    certificates[SELF_SIGNED] = authority.self_signed(SELF_SIGNED, SELF_SIGNED)
    certificates[EXPIRED] = authority.issue(EXPIRED, EXPIRED, expired=True)
    certificates[WRONG_NAME] = authority.issue(WRONG_NAME, "somebody-else.test")
    return Settings(
        SELF_SIGNED,
        ODD_ADDRESS,
        tls=True,
        strict=False,
        certificates=certificates,
        more_domains=(EXPIRED, WRONG_NAME, *good),
        root=authority.root,
        anchor=scene.world.dns.anchor,
        direct_tls_port=DIRECT_TLS[1],
    )


def repaired(scene: Scene, settings: Settings) -> Settings:
    """The same with valid certificates throughout."""
    fresh = {domain: scene.world.authority.issue(domain, domain) for domain in settings.domains}
    return replace(settings, certificates=fresh)
