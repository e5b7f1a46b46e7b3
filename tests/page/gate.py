"""A real fedgate whose neighbours are not there, and a legacy server's stream into it."""

import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

from .browser import free_port, wait

TOKEN = "the-token-of-the-page-test"


class Gate:
    def __init__(self, binary, token=False):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="fedgate-page-"))
        self.local, self.http = free_port(), free_port()
        admin = f"http: '127.0.0.1:{self.http}'"
        if token:
            path = self.home / "token"
            path.write_text(TOKEN)
            path.chmod(0o600)
            admin += f", token_file: {path}"
        config = self.home / "conf.d"
        config.mkdir()
        (config / "10.yaml").write_text(f"""version: 1
state_dir: {self.home}/state
listen: {{ public: ['127.0.0.1:0'], local: ['127.0.0.1:{self.local}'] }}
legacy:
  old:
    address: '127.0.0.1:{free_port()}'
    domains: [old.example, rooms.old.example]
    trust: source
    refusals: bounce
resolver: {{ servers: ['127.0.0.1:{free_port()}'], timeout: 300ms }}
admin: {{ {admin} }}
""")
        self.log = open(self.home / "log", "wb")
        self.process = subprocess.Popen([binary, "run", "--config", config],
                                        stdout=self.log, stderr=self.log)
        wait(lambda: self.is_up(), "fedgate")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.log.close()
        shutil.rmtree(self.home)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http}/"

    def is_up(self):
        assert self.process.poll() is None, (self.home / "log").read_text()
        try:
            with urllib.request.urlopen(self.url + "livez", timeout=5):
                return True
        except OSError:
            return False

    def page(self):
        with urllib.request.urlopen(self.url, timeout=5) as answer:
            return answer.read(), answer.headers["content-security-policy"]

    def send_to(self, *domains):
        """The legacy server has a message for each of these domains; the stream stays open."""
        stream = socket.create_connection(("127.0.0.1", self.local), timeout=10)
        stream.sendall(
            b"<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' "
            b"xmlns:stream='http://etherx.jabber.org/streams' from='old.example' "
            b"to='%s'>" % domains[0].encode())
        for domain in domains:
            name = domain.encode()
            stream.sendall(b"<db:result from='old.example' to='%s'>key</db:result>" % name)
        said = b""
        end = time.monotonic() + 10
        while said.count(b"type='valid'") < len(domains):
            assert time.monotonic() < end, said
            said += stream.recv(4096)
        for domain in domains:
            name = domain.encode()
            stream.sendall(b"<message from='u@old.example' to='v@%s'><body>x</body></message>" % name)
        return stream
