"""ejabberd."""

import json
import os

from .base import CLIENT_PORT, PASSWORD, USERS, Server, Settings

LIBRARIES = "/usr/lib/x86_64-linux-gnu"


class Ejabberd(Server):
    """ejabberd 23.01 as an Erlang system without a node name: no epmd, no clash with another."""

    async def start(self) -> None:
        config = self.home / "ejabberd.yml"
        config.write_text(json.dumps(_config(self.settings), indent=1))  # JSON is YAML
        registrations = ",".join(
            f'ejabberd_auth:try_register(<<"{user}">>,<<"{domain}">>,<<"{PASSWORD}">>)'
            for domain in self.settings.domains
            for user in USERS
        )
        environment = {
            **os.environ,
            "HOME": str(self.home),
            "ERL_LIBS": _libraries(),
            "ERL_INETRC": "/etc/ejabberd/inetrc",
            "ERL_CRASH_DUMP_BYTES": "0",
            "EJABBERD_CONFIG_PATH": str(config),
            "EJABBERD_LOG_PATH": str(self.home / "ejabberd.log"),
        }
        marker = self.home / "registered"
        marker.unlink(missing_ok=True)
        words = [
            "erl", "-noinput", "-mnesia", "dir", f'"{self.home / "mnesia"}"',
            "-s", "ejabberd",
            "-eval", f'{registrations}, file:write_file("{marker}", <<>>).',
        ]  # fmt: skip
        process = await self._launch("erl", words, environment)

        async def registered() -> bool:
            return marker.exists()

        await process.ready(registered, 60)
        await self._ready(process)


def _libraries() -> str:
    """Where Debian keeps the Erlang libraries of this machine's architecture."""
    return LIBRARIES.replace("x86_64", os.uname().machine)


def _config(settings: Settings) -> dict[str, object]:
    modules: dict[str, object] = {
        "mod_disco": {},
        "mod_ping": {},
        "mod_roster": {},
        "mod_s2s_dialback": {},
        "mod_version": {},
    }
    if settings.rooms:
        modules["mod_muc"] = {"hosts": [settings.rooms], "min_message_interval": 0}
    config: dict[str, object] = {
        "loglevel": "info",
        "hosts": list(settings.domains),
        "auth_password_format": "plain",
        "shaper": {},
        "listen": [
            {"port": CLIENT_PORT, "ip": "127.0.0.1", "module": "ejabberd_c2s"},
            {
                "port": settings.s2s_port,
                "ip": settings.s2s_address,
                "module": "ejabberd_s2s_in",
                "max_stanza_size": 524288,
            },
        ],
        "s2s_use_starttls": "required" if settings.tls else False,
        "modules": modules,
    }
    if settings.tls:
        pairs = set(settings.certificates.values())
        config["certfiles"] = [str(path) for pair in pairs for path in (pair.cert, pair.key)]
        if settings.root:
            config["ca_file"] = str(settings.root)
    return config
