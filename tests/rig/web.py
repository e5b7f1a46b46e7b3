"""An nginx that answers over HTTPS for the names of a table, in a node of its own."""

from dataclasses import dataclass
from pathlib import Path

from .ca import Certificate
from .net import Node
from .process import Process

HTTPS = 443

CONFIG = """
daemon off;
user root;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/nginx.log notice;
include /etc/nginx/modules-enabled/*.conf;
events {{ worker_connections 1024; }}
http {{
  access_log {dir}/access.log;
  default_type application/json;
  # names as long as a table likes
  server_names_hash_bucket_size 256;
  server_names_hash_max_size 4096;
  {temporary}
  {sites}
}}
"""

SITE = """
  server {{
    listen {port} ssl;
    server_name {name};
    ssl_certificate {certificate.cert};
    ssl_certificate_key {certificate.key};
    {locations}
  }}
"""


@dataclass(frozen=True)
class Answer:
    """What one path is answered with: a body, or else a directive of nginx."""

    path: str
    body: str | None = None
    directive: str = ""


class Web:
    """The server and its sites."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sites: list[str] = []
        self._bodies = 0
        self._process: Process | None = None
        directory.mkdir()

    def add(self, name: str, certificate: Certificate, answers: tuple[Answer, ...]) -> None:
        """One name and what it has; all else is not found."""
        locations = []
        for answer in answers:
            directive = answer.directive
            if answer.body is not None:
                directive = f"alias {self.publish(answer.body)};"
            locations.append(f"location = {answer.path} {{ {directive} }}")
        self._sites.append(
            SITE.format(
                port=HTTPS, name=name, certificate=certificate, locations="\n    ".join(locations)
            )
        )

    def publish(self, body: str, file: Path | None = None) -> Path:
        """Writes a body, or another one in the place of the one in `file`."""
        if file is None:
            self._bodies += 1
            file = self._directory / f"body-{self._bodies}"
        fresh = file.with_suffix(".new")
        fresh.write_text(body)
        return fresh.rename(file)

    async def start(self, node: Node) -> None:
        """Starts nginx; returns when it listens."""
        config = self._directory / "nginx.conf"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {self._directory}/{kind};" for kind in kinds)
        config.write_text(
            CONFIG.format(dir=self._directory, temporary=temporary, sites="".join(self._sites))
        )
        log = self._directory / "nginx.log"
        words = ["nginx", "-e", str(log), "-c", str(config)]
        self._process = await Process.start("nginx", node.inside(*words), log)

        async def ready() -> bool:
            return await node.listens(HTTPS)

        await self._process.ready(ready, 10)

    async def stop(self) -> None:
        if self._process:
            await self._process.stop()
