"""Prosody."""

import shutil

from .base import CLIENT_PORT, PASSWORD, USERS, Server, Settings

# With these off it speaks plain dialback only.
LEGACY_OFF = ("tls", "s2s_auth_certs", "s2s_bidi")


class Prosody(Server):
    """Prosody 0.12, in the foreground, all data below `home`."""

    async def start(self) -> None:
        config = self.home / "prosody.cfg.lua"
        config.write_text(_config(self.settings, str(self.home)))
        for domain in self.settings.domains:
            accounts = self.home / "data" / domain.replace(".", "%2e") / "accounts"
            accounts.mkdir(parents=True, exist_ok=True)
            for user in USERS:
                account = f'return {{ ["password"] = "{PASSWORD}" }};\n'
                (accounts / f"{user}.dat").write_text(account)
        program = shutil.which("prosody") or "prosody"
        process = await self._launch("prosody", [program, "-F", "--config", str(config)])
        await self._ready(process)


def _config(settings: Settings, home: str) -> str:
    modules = ["roster", "saslauth", "disco", "version", "ping", "dialback", "tls"]
    if settings.bidi:
        modules.append("s2s_bidi")
    if settings.smacks:
        modules.append("smacks")
    lines = [
        "run_as_root = true",
        f'data_path = "{home}/data"',
        'log = { { levels = { min = "debug" }, to = "console" } }',
        f"modules_enabled = {_strings(modules)}",
        f"c2s_ports = {{ {CLIENT_PORT} }}",
        'c2s_interfaces = { "127.0.0.1" }',
        f"s2s_ports = {{ {settings.s2s_port} }}",
        f's2s_interfaces = {{ "{settings.s2s_address}" }}',
        "c2s_require_encryption = false",
        "allow_unencrypted_plain_auth = true",
        'authentication = "internal_plain"',
        f"s2s_require_encryption = {_bool(settings.tls)}",
        f"s2s_secure_auth = {_bool(settings.tls and settings.strict)}",
    ]
    if settings.patience:
        lines.append(f"s2s_timeout = {settings.patience}")
    if settings.direct_tls_port:
        lines.append(f"s2s_direct_tls_ports = {{ {settings.direct_tls_port} }}")
        lines.append(f's2s_direct_tls_interfaces = {{ "{settings.s2s_address}" }}')
    if not settings.tls:
        lines.append(f"modules_disabled = {_strings(LEGACY_OFF)}")
    # libunbound answers test. by itself (RFC 6761) unless told not to
    options = 'resolvconf = true, options = { ["local-zone:"] = "test. transparent" }'
    if settings.anchor:
        options += f', trusted = "{" ".join(settings.anchor.read_text().split())}"'
    lines.append(f"unbound = {{ {options} }}")
    if settings.root:
        lines.append(f'ssl = {{ cafile = "{settings.root}" }}')
    for domain in settings.domains:
        lines.append(f'VirtualHost "{domain}"')
        lines.extend(_certificate(settings, domain))
    if settings.rooms:
        lines.append(f'Component "{settings.rooms}" "muc"')
        lines.append("  muc_room_locking = false")
        lines.extend(_certificate(settings, settings.rooms))
    return "\n".join(lines) + "\n"


def _certificate(settings: Settings, domain: str) -> list[str]:
    pair = settings.certificates.get(domain)
    # Prosody expects the key beside the certificate
    return [f'  certificate = "{pair.cert}"'] if settings.tls and pair else []


def _strings(words: tuple[str, ...] | list[str]) -> str:
    return "{ " + ", ".join(f'"{word}"' for word in words) + " }"


def _bool(value: bool) -> str:
    return "true" if value else "false"
